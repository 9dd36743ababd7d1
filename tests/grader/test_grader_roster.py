"""The roster: whose a submission is, by the numbers and names that platforms and people write."""


import pytest
from grading import roster

from checks.grader.intake.folder import find_submissions
from checks.grader.intake.lms import Owner
from checks.grader.roster import Roster


@pytest.mark.parametrize("who, ids", [
    (Owner("whoever", "canvas", "11"), ["s1"]), (Owner("lovelaceada", "canvas", "99"), ["s1"]),
    (Owner("Ada Lovelace"), ["s1"]),
    (Owner("s3"), ["s3"]), (Owner("X", "moodle", "55"), ["s3"]), (Owner("int8-Ada-L"), ["s1"]), (Owner("jn@x.org"), ["s4"]),
    (Owner("Jose Nunez"), ["s4"]), (Owner("nunezjose"), ["s4"]), (Owner("at"), ["s5"]), (Owner("lian"), ["s2", "s3"]),
    (Owner("nobody"), []), (Owner("-"), []), (Owner("Turing, Alan"), ["s5"])])
def test_who_a_name_means(tmp_path, who, ids):
    assert [one.id for one in roster(tmp_path).matches(who)] == ids


def test_the_roster_decides_who_is_who(tmp_path):
    folder = tmp_path / "sub"
    folder.mkdir()
    for name in ("lovelaceada_11_901_00_hello_triton.ipynb", "lovelaceada_LATE_11_902_01_gemv_fp16.ipynb",
                 "Ada Lovelace.zip", "lian_77_903_a.ipynb", "eve.ipynb", "Li_55_assignsubmission_file_a.ipynb"):
        (folder / name).write_text("x")
    listing = roster(tmp_path).apply(find_submissions(folder))
    assert set(listing.students) == {"s1", "s3", "lian", "eve"}
    assert len(listing.students["s1"].paths) == 3 and listing.students["s1"].late and not listing.students["s3"].late
    assert "read together" in " ".join(listing.students["s1"].notices)
    assert listing.notices == ["eve is in no row of the roster", "lian may be several students of the roster: s2, s3"]
    assert roster(tmp_path).absent(listing.students) == ["s2", "s4", "s5"]
    without = find_submissions(folder)
    assert Roster().apply(without) is without and "lovelaceada" in without.students


@pytest.mark.parametrize("text, said", [
    ("name\nAda", "`id` among them"), ("id\n\"\"\n", "line 2: there is no id"), ("id,extension\na,two", "line 2: extension"),
    ("id,extension\na,-1", "extension"), ("id\na\na", "line 3: the id `a` is there twice"),
    ("id,extension\na,nan", "extension"),
    ("id,handed_in\na,noon", "handed_in must be"), ("id,handed_in\na,2026-10-01T00:00", "needs its offset")])
def test_a_wrong_roster_is_named(tmp_path, text, said):
    with pytest.raises(ValueError, match=r"roster\.csv") as error:
        roster(tmp_path, text)
    assert said in str(error.value)


def test_a_roster_from_a_spreadsheet(tmp_path):
    found = roster(tmp_path, "\ufeffName, ID ,Comment\n\x1b[1mAda,s1,x\n")
    assert found.students["s1"].name == "\\x1b[1mAda"
