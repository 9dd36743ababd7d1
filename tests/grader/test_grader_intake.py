"""What is read of a submission, and what of it is run, in which order of trust."""

import os
import re

import pytest
from grading import ADD, NEEDED, exercise_cell

from checks.grader.intake.code import OPEN, PROVEN, code_for, suspicious
from checks.grader.intake.submissions import Cell, Submission, find_submissions, read_submission
from checks.judge.source import answer_source


def test_the_latest_file_decides_when_a_submission_was_made(tmp_path):
    for name, modified in (("a.py", 2e9), ("b.py", 1e9)):
        (tmp_path / name).write_text("x = 1\n")
        os.utime(tmp_path / name, (modified, modified))
    assert read_submission("ada", [tmp_path / "a.py", tmp_path / "b.py"]).modified == 2e9
    assert read_submission("ada", [tmp_path / "b.py", tmp_path / "a.py"]).modified == 2e9
    assert read_submission("ada", []).modified is None


def test_the_digest_is_of_names_and_contents(tmp_path):
    def digest(**files: str) -> str:
        for path in tmp_path.iterdir():
            path.unlink()
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        return read_submission("ada", [tmp_path]).digest

    assert digest(a="x = 1") == digest(a="x = 1")
    assert len({digest(a="x = 1"), digest(a="x = 2"), digest(b="x = 1"), digest(a="x = 1", b="")}) == 4


@pytest.mark.parametrize("limit, said", [("SIZE_LIMIT", "more than the"), ("COUNT_LIMIT", "only the first")])
def test_a_folder_that_is_too_large_is_read_in_part(tmp_path, monkeypatch, limit, said):
    monkeypatch.setattr(f"checks.grader.intake.submissions.{limit}", 1 if limit == "COUNT_LIMIT" else 10)
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("y = 22222222222\n")
    submission = read_submission("ada", [tmp_path])
    assert [cell.source for cell in submission.cells] == ["x = 1\n"]
    assert said in submission.problems[0]


def test_a_folder_without_submissions(tmp_path):
    for folder, said in ((tmp_path / "x", "no folder"), (tmp_path, "holds no submission")):
        with pytest.raises(ValueError, match=said):
            find_submissions(folder)


# what is run of it


@pytest.mark.parametrize("source, named", [
    ("import os\nos._exit(0)", ["_exit"]), ("import ctypes", ["ctypes"]),
    ("from ctypes import CDLL as c", ["CDLL", "ctypes"]),
    ("open('x')", ["open"]), ("getattr(x, '__globals__')", ["__globals__"]), ("x.f_back", ["f_back"]), ("x = 1", []),
    ("def def", []), ("import urllib.request", ["urllib"])])
def test_names_that_reach_out(source, named):
    assert suspicious(source) == named


def test_private_names_reach_into_a_harness():
    assert suspicious("gpu._now_us") == []
    assert suspicious("gpu._now_us", private=True) == ["_now_us"]


@pytest.mark.parametrize("source, status, said", [
    (None, "missing", "no cell with the line"), ("def other():\n    pass", "missing", "does not define `programs_needed`"),
    ("def def", "crashed", r"no Python: .*\(line 2\)")])
def test_what_is_not_run(source, status, said):
    cells = [] if source is None else [Cell(exercise_cell(NEEDED, source), "a.py", 0)]
    code = code_for(NEEDED, Submission("ada", cells))
    assert code.status == status and re.search(said, code.message) and not code.programs


def test_trust_by_kind_of_exercise(monkeypatch):
    def trust(exercise, source=None):
        cells = [Cell("import torch\nimport triton\nimport triton.language as tl", "a.py", 0),
                 Cell(exercise_cell(exercise, source), "a.py", 1)]
        return [(program.trust, program.own_entry) for program in code_for(exercise, Submission("ada", cells)).programs]

    answer = answer_source(ADD.name)
    assert trust(NEEDED) == [(OPEN, False)]
    assert trust(ADD) == [(PROVEN, False)]
    wrapper = "\n\ndef vector_add(x, y, BLOCK=128):\n    out = torch.empty_like(x)\n    return out\n"
    assert trust(ADD, answer + wrapper) == [(PROVEN, False), (PROVEN, True)]
    assert trust(ADD, answer + wrapper.replace("out = ", "out = x + y\n    open('f')\n    out = ")) == [
        (PROVEN, False), (OPEN, True)]
    assert trust(ADD, answer.replace("@triton.jit\n", "")) == [(OPEN, False)]
