"""Marks of exercises: names of functions anywhere in kernels/; a mark of a student's older notebook names the file too."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest

import checks.course.reset
from checks.course.notebooks import LESSONS, exercises_in, lessons, mark, read, solve
from checks.course.progress import check_notebooks
from checks.course.reset import reset
from checks.exercises import EXERCISES
from checks.grader.intake.submissions import Cell, Submission, find_exercise_cell, given_notices
from checks.judge.source import answer_module, answer_source, by_marks, find_mark

LESSON = "01_gemv_fp16"


def with_old_marks(notebook):
    """The notebook as a student got it when marks named the file, which may have moved since."""
    for cell in notebook.cells:
        cell.source = re.sub(r"^# (exercise|given): (\w+)$", r"# \1: kernels/before.py::\2", cell.source, flags=re.MULTILINE)
    return notebook


@pytest.mark.parametrize(("cell", "found"), [
    ("# exercise: gemv_bytes\ndef gemv_bytes(N, K):", ("exercise", "gemv_bytes")),
    ("# given: gemv_fp16", ("given", "gemv_fp16")),
    ("# my notes\n# exercise: gemv_bytes\n", ("exercise", "gemv_bytes")),
    ("# exercise: kernels/cost.py::gemv_bytes\n", ("exercise", "gemv_bytes")),
    ("# given: kernels/ops/gemv.py::gemv_fp16\n", ("given", "gemv_fp16")),
    ("# exercise: write gemv_bytes", None),
    ("# exercise: kernels/cost.py", None),
    ("    # exercise: gemv_bytes", None),
    ("# answer: gemv_bytes", None),
    ("", None),
])
def test_what_a_mark_says(cell, found):
    assert find_mark(cell) == found


@pytest.mark.parametrize("parts", [
    ["# exercise: a\ndef a():\n    return 1\n\n\n", "# exercise: b\ndef b():\n    return 2\n\n", "# given: c\nc = 3"],
    ["%%time\nx = 1\n# exercise: a\ndef a():\n    return 1\n", "# exercise: b\ndef b(:\n"], ["x = 1"], [""],
    ["# exercise: a\ndef a():\n    \"\"\"\n# exercise: b\n    \"\"\"\n"],
    ["# exercise: a\ndef a():\n    x = 1\n# given: b\n    return x"],
])
def test_cells_that_were_merged_are_taken_apart(parts):
    assert by_marks("".join(parts)) == parts


def test_lessons_hold_names_alone():
    texts = [cell.source for path in lessons() for cell in read(path).cells if mark(cell)]
    assert not [text for text in texts if "::" in text.partition("\n")[0]]


@pytest.fixture
def package(tmp_path):
    """A folder like kernels/, one of its modules in a subfolder."""
    folder = tmp_path / "kernels"
    (folder / "ops").mkdir(parents=True)
    (folder / "cost.py").write_text("SIZE = 2\n\n\ndef bytes_of(N):\n    return SIZE * N\n\n\n"
                                    "def twice(x):\n    return 2 * x\n")
    (folder / "ops/add.py").write_text("import triton\n\n\n@triton.jit\ndef add_kernel(x_ptr):\n    pass\n\n\n"
                                       "class Adder:\n    def twice(self):\n        pass\n")
    return folder


def test_an_answer_is_found_wherever_it_stands(package):
    assert answer_source("bytes_of", package) == "def bytes_of(N):\n    return SIZE * N\n"
    assert answer_source("add_kernel", package) == "@triton.jit\ndef add_kernel(x_ptr):\n    pass\n"
    assert answer_source("Adder", package).startswith("class Adder:")
    assert answer_module("bytes_of", package) == "kernels.cost"
    assert answer_module("add_kernel", package) == "kernels.ops.add"


@pytest.mark.parametrize("name", ["subtract", "SIZE", ""])
def test_an_unknown_answer_is_said_to_be_so(package, name):
    with pytest.raises(LookupError, match=rf"^there is no function {name} in kernels/$"):
        answer_source(name, package)


def test_two_answers_of_one_name_are_an_error(package):
    (package / "ops/more.py").write_text("def bytes_of(N):\n    return 4 * N\n")
    for find in (answer_source, answer_module):
        with pytest.raises(LookupError, match=r"^bytes_of is defined more than once in kernels/: in kernels/cost.py, "
                                              r"kernels/ops/more.py. Rename all but one$"):
            find("bytes_of", package)
    assert answer_source("twice", package) == "def twice(x):\n    return 2 * x\n"  # a method is no answer


def test_every_exercise_has_one_answer():
    for exercise in EXERCISES.values():
        assert exercise.module.__name__ == answer_module(exercise.name)
        assert f"def {exercise.name}(" in answer_source(exercise.name)


def test_old_marks_are_checked_like_new_ones(tmp_path, capsys):
    notebook = with_old_marks(solve(read(LESSONS / f"{LESSON}.ipynb")))
    exercises_in(notebook)["roofline_us"].source = "# exercise: kernels/before.py::roofline_us\ndef roofline_us():\n    pass"
    nbformat.write(notebook, tmp_path / f"{LESSON}.ipynb")
    assert check_notebooks([tmp_path / f"{LESSON}.ipynb"]) == 1
    said = capsys.readouterr().out
    assert "4 of 5 exercises solved" in said
    assert "before.py" not in said


def test_old_marks_are_found_by_reset(tmp_path, monkeypatch):
    monkeypatch.setattr(checks.course.reset, "LESSONS", tmp_path)
    monkeypatch.setattr(checks.course.reset, "BACKUPS", tmp_path / "backups")
    path = Path(shutil.copy(LESSONS / f"{LESSON}.ipynb", tmp_path))
    handed_out = exercises_in(read(path))
    old = with_old_marks(solve(read(path)))
    nbformat.write(old, path)
    reset("01", "roofline_us")
    now = read(path)
    assert len(now.cells) == len(old.cells)
    assert exercises_in(now)["roofline_us"].source == handed_out["roofline_us"].source
    assert exercises_in(now)["gemv_bytes"].source == exercises_in(old)["gemv_bytes"].source


def test_old_marks_are_graded_like_new_ones():
    new = read(LESSONS / f"{LESSON}.ipynb")
    handed_out = tuple(cell.source for cell in new.cells if cell.cell_type == "code")
    old = [cell.source for cell in with_old_marks(new).cells if cell.cell_type == "code"]
    submission = Submission("ada", [Cell(source, "a.ipynb", index) for index, source in enumerate(old)])
    found = find_exercise_cell(submission, "gemv_bytes")
    assert found.cell.source.startswith("# exercise: kernels/before.py::gemv_bytes\n")
    assert not found.notices
    assert given_notices(submission, "a.ipynb", handed_out) == []
