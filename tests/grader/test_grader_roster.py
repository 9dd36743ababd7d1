"""The roster: whose a submission is, by the numbers and names that platforms and people write."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from grading import result, roster

from checks.grader.course import DEFAULT
from checks.grader.deadlines import Deadlines, read_deadlines
from checks.grader.gradebook import read_gradebook
from checks.grader.grader import Grader
from checks.grader.intake.folder import HandedIn, Listing, find_submissions
from checks.grader.intake.lms import Owner
from checks.grader.intake.submissions import Submission
from checks.grader.results import write_result
from checks.grader.roster import Roster, Student, read_roster
from checks.grader.settings import Settings


@pytest.mark.parametrize("who, ids", [
    (Owner("whoever", "canvas", "11"), ["s1"]), (Owner("lovelaceada", "canvas", "99"), ["s1"]),
    (Owner("Ada Lovelace"), ["s1"]),
    (Owner("s3"), ["s3"]), (Owner("X", "moodle", "55"), ["s3"]), (Owner("int8-Ada-L"), ["s1"]), (Owner("jn@x.org"), ["s4"]),
    (Owner("Jose Nunez"), ["s4"]), (Owner("nunezjose"), ["s4"]), (Owner("at"), ["s5"]), (Owner("lian"), ["s2", "s3"]),
    (Owner("nobody"), []), (Owner("-"), []), (Owner(""), []), (Owner("Turing, Alan"), ["s5"])])
def test_who_a_name_means(tmp_path, who, ids):
    assert [one.id for one in roster(tmp_path).matches(who)] == ids


def test_a_name_without_letters_is_nobody(tmp_path):
    unnamed = roster(tmp_path, "id,name,email,login,github\ns1,,,,\ns2,!,?@x.org,,\n")
    found = {name: [one.id for one in unnamed.matches(Owner(name))] for name in ("-", "?", "s2", "?@x.org")}
    assert found == {"-": [], "?": [], "s2": ["s2"], "?@x.org": ["s2"]}


@pytest.mark.parametrize("who, id", [
    (Owner("ada"), "ada"), (Owner("Ada"), "bob"), (Owner("ada@x.org"), "kim"), (Owner("eve"), "zoe"), (Owner("Eve"), "zoe"),
    (Owner("x-ada"), "tom"), (Owner("ada", "canvas", "5"), "jon"), (Owner("ada", "moodle", "5"), "ada"),
    (Owner("lea"), "lea"), (Owner("gracehopper"), "amy")])
def test_an_id_comes_before_an_address_and_that_before_a_name(tmp_path, who, id):
    read = roster(tmp_path, "id,name,email,login,github,canvas\nada,Bob,,,,\nbob,Ada,,,,\nkim,,ada@x.org,,,\nzoe,Eve,,,,\n"
                            "tim,,eve@x.org,,,\ntom,,,,ada,\njon,,,,,5\nlea,,,,,\nlou,Lea,,lea,,\namy,\"Hopper,Grace\",,,,\n")
    assert [one.id for one in read.matches(who)] == [id]


def test_the_roster_decides_who_is_who(tmp_path):
    folder = tmp_path / "sub"
    folder.mkdir()
    for name in ("lovelaceada_11_901_00_hello_triton.ipynb", "lovelaceada_LATE_11_902_01_gemv_fp16.ipynb",
                 "Ada Lovelace.zip", "lian_77_903_a.ipynb", "eve.ipynb", "eve.zip", "Li_55_assignsubmission_file_a.ipynb"):
        (folder / name).write_text("x")
    listing = roster(tmp_path).apply(find_submissions(folder))
    assert set(listing.students) == {"s1", "s3", "lian", "eve"}
    assert len(listing.students["s1"].paths) == 3 and listing.students["s1"].late and not listing.students["s3"].late
    assert "read together" in " ".join(listing.students["s1"].notices) and "2 forms" in listing.students["eve"].notices[0]
    assert listing.notices == ["eve is in no row of the roster", "lian may be several students of the roster: s2, s3"]
    assert roster(tmp_path).absent(listing.students) == ["s2", "s4", "s5"]
    without = find_submissions(folder)
    assert Roster().apply(without) is without and "lovelaceada" in without.students


def test_all_that_is_known_of_a_student_s_submissions_is_kept(tmp_path):
    ada, late = Owner("Ada Lovelace"), Owner("x", "canvas", "11", late=True)
    both = HandedIn("a", ["a"], ["first"], [ada]), HandedIn("b", ["b"], ["second"], [late])
    given = Listing({one.student: one for one in both}, ["a.txt was not read"])
    applied = roster(tmp_path).apply(given)
    (found,) = applied.students.values()
    assert (found.student, found.paths, found.owners, found.late) == ("s1", ["a", "b"], [ada, late], True)
    said = "several submissions, which the roster gives to one student, were read together"
    assert found.notices == ["first", said, "second"]
    assert applied.notices == given.notices == ["a.txt was not read"]


def test_two_names_of_one_submission_may_be_two_students(tmp_path):
    read = roster(tmp_path)
    for owners in ([Owner("s1"), Owner("s3")], [Owner("nobody"), Owner("s3")], [Owner("s3"), Owner("nobody")]):
        applied = read.apply(Listing({"both": HandedIn("both", owners=owners)}))
        several = ["both may be several students of the roster: s1, s3"] if owners[0].name == "s1" else []
        assert (list(applied.students), applied.notices) == (["both"] if several else ["s3"], several)


@pytest.mark.parametrize("text, said", [
    ("name\nAda", "`id` among them"), ("id,name\n,Ada\n", "line 2: there is no id"),
    ("id,extension\na,two", "line 2: extension"), ("id,extension\na,-1", "extension"),
    ("id\na\na", "line 3: the id `a` is there twice"),
    ("id,extension\na,nan", "extension"), ("id,extension\na,1000", "from 0 to 999"),
    ("id,extension\na,2026-10-08", "needs its offset"),
    ("id,id\na,b", "two columns have one name"), ("id,,id\na,,b", "two columns have one name"),
    ("id,name\n", "no student"), ("sep=;\n", "`id` among them"),
    ("id,name\ns1,Lovelace, Ada\n", "line 2: 3 cells for 2 columns"), ('id,name\ns1,"Ada\ns2,Bob\n', "line 3: "),
    ("id,canvas\ns1,11\ns2,11\n", "line 3: s2 has the canvas number 11 of s1"),
    ("id,handed_in\na,noon", "handed_in must be"), ("id,handed_in\na,2026-10-01T00:00", "needs its offset")])
def test_a_wrong_roster_is_named(tmp_path, text, said):
    with pytest.raises(ValueError, match=r"roster\.csv") as error:
        roster(tmp_path, text)
    assert said in str(error.value)


def test_a_roster_from_a_spreadsheet(tmp_path):
    found = roster(tmp_path, "\ufeffName, ID ,Comment\n\x1b[1mAda,s1,x\n")
    assert found.students["s1"].name == "\\x1b[1mAda"
    applied = found.apply(Listing({"s1": HandedIn("s1")}))
    assert applied.notices == ["not read of the roster: comment; the columns are named id, name, email, section, extension, "
                               "handed_in, login, canvas, moodle, gradescope, github"]


@pytest.mark.parametrize("text, encoding", [
    ("id;name;extension\ns1;Núñez, José;1,5\n\n;;\n", "cp1252"),
    ("sep=;\r\nid;name;canvas;extension\r\ns1;Núñez, José;11.0;1,5\r\n", "utf-8"),
    ("id,name,extension\rs1,\"Núñez, José\",1.5\r", "utf-8"),
    ("id\tname\textension\ns1\tNúñez, José\t1.5\n", "utf-16"),
    ("\ufeffid\tname\textension\ns1\tNúñez, José\t1.5\n", "utf-16-be"),
    ("SEP=;\nid;name;extension\ns1;Núñez, José;1,5\n", "utf-8"), ("id;name;x;extension\ns1;Núñez, José;;1,5\n", "cp1252"),
    ('ID,Name,Extension\r\ns1,"Núñez, José",1.5,,\r\n', "utf-8-sig"),
    ("id;name;;extension;\ns1;Núñez, José;x;1,5;\n", "utf-8")])
def test_whatever_a_spreadsheet_saves_is_read(tmp_path, text, encoding):
    (tmp_path / "roster.csv").write_bytes(text.encode(encoding))
    (one,) = read_roster(tmp_path / "roster.csv").students.values()
    assert (one.id, one.name, one.extension_days) == ("s1", "Núñez, José", 1.5)
    assert one.ids.get("canvas", "11") == "11"


@pytest.mark.parametrize("written, number", [
    ("11", "11"), ("11.0", "11"), ("120", "120"), ("120.0", "120"), ("4100", "4100"), ("a.0b", "a.0b"), ("", None)])
def test_a_platform_s_number_is_read_whole(tmp_path, written, number):
    columns = ("canvas", "moodle", "gradescope", "github")
    (one,) = roster(tmp_path, f"id,{','.join(columns)}\ns1{4 * f',{written}'}\n").students.values()
    assert one.ids == (dict.fromkeys(columns, number) if number else {})


CANVAS = ("Student,ID,SIS User ID,SIS Login ID,Section,INT8 (4711)\n    Points Possible,,,,,36\n"
          "\"Lovelace, Ada\",123,u1,ada,Section A,\n\"Student, Test\",124,,,Section A,\n"
          "\"Turing, Alan\",125,u2,,Section B,\nEve,126,u3,eve@x.org,,\nKim,127,,,,\n")
MOODLE = ("Identifier,ID number,Full name,Email address,Status,Grade\nParticipant 98765,,Ada Lovelace,ada@x.org,Submitted,\n"
          "Participant 7,m7,Li An,,,\n")
GRADESCOPE = ("First Name,Last Name,SID,Email,Role,Sections\nAda,Lovelace,s1,ada@x.org,Student,A\n"
              "Alan,Turing,,at@x.org,Student,\n")
NAMED = "Name,SID,Email\nAda Lovelace,s1,ada@x.org\n"


@pytest.mark.parametrize("text, found", [
    (CANVAS, [Student("ada", "Lovelace, Ada", "", "Section A", "ada", ids={"canvas": "123"}),
              Student("u2", "Turing, Alan", "", "Section B", "", ids={"canvas": "125"}),
              Student("eve@x.org", "Eve", "eve@x.org", "", "eve@x.org", ids={"canvas": "126"}),
              Student("127", "Kim", ids={"canvas": "127"})]),
    (MOODLE, [Student("98765", "Ada Lovelace", "ada@x.org", ids={"moodle": "98765"}),
              Student("m7", "Li An", ids={"moodle": "7"})]),
    (GRADESCOPE, [Student("s1", "Ada Lovelace", "ada@x.org", "A"), Student("at@x.org", "Alan Turing", "at@x.org")]),
    (NAMED, [Student("s1", "Ada Lovelace", "ada@x.org")])], ids=["Canvas", "Moodle", "Gradescope", "Gradescope's names"])
def test_a_platform_s_export_is_a_roster(tmp_path, text, found):
    read = roster(tmp_path, text)
    assert list(read.students.values()) == found and not read.not_read


# deadlines and extensions


def test_deadlines_for_all_and_for_some(tmp_path):
    (tmp_path / "d.csv").write_text("Lesson;Deadline;Student\n4;2026-10-01 23:59;\n00_hello_triton;2026-09-01;\n"
                                    "04;2026-10-08T12:00:00Z;s1\n")
    found = read_deadlines(tmp_path / "d.csv", ZoneInfo("Europe/Berlin"), roster(tmp_path).students)
    assert {lesson: date.isoformat() for lesson, date in found.of_lessons.items()} == {
        "04_quantize": "2026-10-01T23:59:00+02:00", "00_hello_triton": "2026-09-01T23:59:59+02:00"}
    students = found.given_to(roster(tmp_path).students)
    assert list(students["s1"].deadlines) == ["04_quantize"] and not students["s2"].deadlines
    (tmp_path / "e.csv").write_text("lesson,deadline,student\n04,2026-10-01,Jose\u0301\n", encoding="utf-8")
    assert [*read_deadlines(tmp_path / "e.csv", UTC).of_students] == ["Jos\xe9"], "without a roster any name will do"
    assert read_deadlines(tmp_path / "none.csv") == Deadlines()


@pytest.mark.parametrize("text, said", [
    ("lesson\n04", "the columns lesson and deadline"), ("lesson,deadline\n77,2026-10-01", "no lesson 77"),
    ("lesson,deadline\n04,10/1/2026", "such as 2026-10-01 23:59, not '10/1/2026'"),
    ("lesson,deadline\n04,", "line 2: the deadline"),
    ("lesson,deadline,student\n04,2026-10-01,nobody", "nobody is in no row"),
    ("lesson,deadline,student\n04,2026-10-01,s1\n04,2026-10-01,s1", "line 3: the deadline of 04_quantize for s1")])
def test_a_wrong_deadline_is_named(tmp_path, text, said):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(ValueError, match=r"d\.csv") as error:
        read_deadlines(tmp_path / "d.csv", UTC, roster(tmp_path).students)
    assert said in str(error.value)


@pytest.mark.parametrize("handed_in, extension, own, late", [
    ("2026-10-02", "", "", True), ("2026-10-02", "1", "", False), ("2026-10-05", "2026-10-05", "", False),
    ("2026-10-06", "2026-10-05", "", True), ("2026-09-30", "2026-09-01", "", False),
    ("2026-10-07", "", "2026-10-07", False), ("2026-10-08", "", "2026-10-07", True),
    ("2026-10-08", "1", "2026-10-07", False)])
def test_who_has_more_time(tmp_path, handed_in, extension, own, late):
    write_result(tmp_path, Grader(Settings(3, exercises=("programs_needed",))).fault_result(Submission("s1"), ""))
    (tmp_path / "course.toml").write_text(DEFAULT.read_text() + '[assignment]\ntimezone = "Europe/Berlin"\n')
    (tmp_path / "roster.csv").write_text(f"id,extension,handed_in\ns1,{extension},{handed_in}\n")
    (tmp_path / "deadlines.csv").write_text("lesson,deadline,student\n00,2026-10-01,\n" + (f"00,{own},s1\n" if own else ""))
    (result,) = read_gradebook(tmp_path).results
    assert result["late"] == ({"00_hello_triton": True} if late else {})


def test_a_deadline_of_one_s_own_changes_nothing_else(tmp_path):
    own = {"00_hello_triton": datetime(2026, 10, 7, tzinfo=UTC)}
    students = roster(tmp_path, "id,name,email,section,extension\ns1,Ada,ada@x.org,A,2\ns2,Li,,,\n").students
    given = Deadlines(of_students={"s1": own, "zed": own}).given_to(students)
    assert given == {"s1": replace(students["s1"], deadlines=own), "s2": students["s2"],
                     "zed": Student("zed", deadlines=own)}
    assert given["s1"].deadlines == own and given["s1"].extension_days == 2.0 and not students["s1"].deadlines


@pytest.mark.parametrize("name, found", [("hw-ada-l", True), ("HW1-ADA-L", True), ("ada-l", False), ("hwada-l", False),
                                         ("hw-ada-l2", False)])
def test_a_github_name_ends_a_repository_s_in_any_case(tmp_path, name, found):
    assert bool(roster(tmp_path, "id,github\ns1,Ada-L\n").matches(Owner(name))) is found


def test_columns_of_other_names_are_not_read(tmp_path):
    read = roster(tmp_path, "id,name,,shoe size\x07,login\ns1,Ada,,42,a\n")
    assert read.not_read == ["shoe size\\x07"] and read.students["s1"].login == "a"


def test_a_result_has_its_student_s_name_and_address(tmp_path):
    (tmp_path / "roster.csv").write_text("id,name,email,section\ns1,Ada,ada@x.org,A\n")
    for student in ("s1", "zed"):
        write_result(tmp_path, result(student, points=1.0))
    known, unknown = read_gradebook(tmp_path).results
    assert (known["name"], known["email"], known["section"]) == ("Ada", "ada@x.org", "A")
    assert "name" not in unknown and "email" not in unknown
