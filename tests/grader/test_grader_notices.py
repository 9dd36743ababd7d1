"""Notices, flags and problems: whatever else there is to say, nothing that was said before is lost."""

import types

import pytest
from grading import ADD, GEMV, NEEDED, exercise, exercise_cell, kept, result, roster, with_course
from test_grader_verdicts import RIGHT, found, judged, kernel_run

from checks.grader import gradebook, units
from checks.grader.grading import runs, verdicts
from checks.grader.grading.cases import CaseSet
from checks.grader.intake.code import Code, code_for
from checks.grader.intake.folder import HandedIn, Listing, find_submissions
from checks.grader.intake.lms import Owner
from checks.grader.intake.submissions import Cell, Submission
from checks.grader.results import new_exercise_result


def in_order(said: list[str], *parts: str) -> bool:
    """Whether these sentences are said, one for each part, and no others."""
    return len(said) == len(parts) and all(part in sentence for part, sentence in zip(parts, said, strict=True))


@pytest.mark.parametrize("own", [[], ["one", "another"]], ids=len)
@pytest.mark.parametrize("lent", ["", "judged with ours"])
@pytest.mark.parametrize("cell_error", [None, "NameError: y"])
@pytest.mark.parametrize("right", [True, False])
def test_a_result_has_the_notices_of_each_step(monkeypatch, own, lent, cell_error, right):
    code = Code(notices=list(own), source="x = 1")
    done = kernel_run(*([] if right else ["failed"]), notice=lent, cell_error=cell_error)
    made = judged(monkeypatch, done, RIGHT.values() if right else [found("public", "failed")], code)
    line = [f"a line of its cell did not run: {cell_error}"] if cell_error and not right else []
    assert made["notices"] == [*own, *([lent] if lent else []), *line] and code.notices == own


@pytest.mark.parametrize("fails", [True, False])
def test_a_gpu_s_flag_stands_after_the_others(monkeypatch, fails):
    def on_gpu(*_):
        if fails:
            raise runs.NeedsNumbers("a tensor descriptor")
        return None, {"yours": 0.5, "answer": 10.0, "floor": 1.0}

    monkeypatch.setattr(verdicts, "on_gpu", on_gpu)
    blank = new_exercise_result(ADD, 3.0)
    blank["flags"] = [{"kind": "reaches out", "text": "x"}]
    verdicts._on_gpu(CaseSet(ADD, 1), types.SimpleNamespace(), None, None, blank)
    assert [flag["kind"] for flag in blank["flags"]] == ["reaches out", "not on the GPU" if fails else "too fast"]


def test_how_a_cell_was_found_is_said_beside_the_given_cells():
    other = "def vector_add_kernel(x):\n    return"
    cells = [exercise_cell(NEEDED), exercise_cell(ADD).partition("\n")[2], other]
    code = code_for(ADD, Submission("ada", [Cell(source, "a.ipynb", index) for index, source in enumerate(cells)]))
    assert in_order(code.notices[:2], "`# exercise: vector_add_kernel` is missing", "was handed in 2 times")
    assert any("the given cell `vector_add` is missing" in notice for notice in code.notices[2:])


def test_each_reason_why_a_file_belongs_to_nobody_is_said(tmp_path):
    for name in (".hidden", "ada.ipynb", "Ada.ipynb", "notes.txt", "00_hello_triton.ipynb", "00_hello_triton_new.ipynb",
                 "kim.ipynb", "kim.zip", "kim (1).zip"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    listing = find_submissions(tmp_path)
    assert in_order(listing.notices, ".hidden was not read", "link was not read: it is a link", "notes.txt was not read",
                    "00_hello_triton has the name of a lesson", "00_hello_triton_new begins with the name", "look alike")
    assert in_order(listing.students["kim"].notices, "3 forms", "copies, by their names")


def test_the_roster_adds_to_what_was_said(tmp_path):
    read = roster(tmp_path, "id,name,Comment\ns1,Ada,\ns2,Li An,\ns3,An Li,\n")
    listing = Listing({name: HandedIn(name, [tmp_path / name], [f"of {name}", "more"], owners=[Owner(name)])
                       for name in ("Ada", "s1", "An Li", "eve")}, ["a file"])
    applied = read.apply(listing)
    assert in_order(applied.notices, "a file", "not read of the roster: comment", "An Li may be several", "eve is in no row")
    assert in_order(applied.students["s1"].notices, "of Ada", "more", "were read together", "of s1", "more")
    assert applied.students["eve"].notices == ["of eve", "more"]
    assert listing.notices == ["a file"] and listing.students["s1"].notices == ["of s1", "more"]


def test_a_submission_s_problems_come_after_its_names(tmp_path):
    for name in ("Ada L", "Bob"):
        (tmp_path / "all" / name).mkdir(parents=True)
        (tmp_path / "all" / name / "a.py").write_text("x = 1")
    read = units.read(HandedIn("ada", [tmp_path / "all"], ["one", "another"], owners=[Owner("ada")], alone=True))
    assert in_order(read.problems, "one", "another", "the work of several students", "no cell has a line")


def test_an_earlier_attempt_keeps_its_notices(tmp_path):
    first = result("ada", exercise(points=2.0, notices=["one", "another"]), exercise("gemv_fp16", GEMV, points=0.0),
                   submission="first")
    second = result("ada", exercise(points=1.0, notices=["late"]), exercise("gemv_fp16", GEMV, notices=["last"]),
                    submission="second")
    kept(tmp_path, first)
    gradebook.keep_attempt(tmp_path, second)
    kept(with_course(tmp_path, '[assignment]\nattempts = "best"'), second)
    (best,) = gradebook.read_gradebook(tmp_path).results
    said = [one["notices"] for one in best["exercises"]]
    assert in_order(said[0], "one", "another", "from an earlier attempt") and said[1] == ["last"]
    assert [one["points"] for one in best["exercises"]] == [2.0, 1.0]
