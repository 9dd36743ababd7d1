"""What is read of a submission, and what of it is run."""

import pytest
from grading import ADD, NEEDED, exercise_cell

from checks.grader.intake.code import code_for, function_source, suspicious
from checks.grader.intake.submissions import Cell, Submission

# what is run of it


@pytest.mark.parametrize("source, named", [
    ("import os\nos._exit(0)", ["_exit"]), ("import ctypes", ["ctypes"]),
    ("from ctypes import CDLL as c", ["CDLL", "ctypes"]),
    ("open('x')", ["open"]), ("getattr(x, '__globals__')", ["__globals__"]), ("x.f_back", ["f_back"]), ("x = 1", []),
    ("def def", []), ("import urllib.request", ["urllib"]),
    ("import gc, traceback\nfor frame, _ in traceback.walk_stack(None):\n    gc.get_referents(frame)", ["gc", "traceback"])])
def test_names_that_reach_out(source, named):
    assert suspicious(source) == named


def test_private_names_reach_into_a_harness():
    assert suspicious("gpu._now_us") == []
    assert suspicious("gpu._now_us", private=True) == ["_now_us"]
    assert suspicious("vars(gpu)['_now_us'] + getattr(gpu, '_now' + '_us')", private=True) == ["getattr", "vars"]


def code_of(exercise, *cells):
    return code_for(exercise, Submission("ada", [Cell(source, "a.py", index) for index, source in enumerate(cells)]))


def test_what_is_not_run():
    assert code_of(NEEDED).status == "missing" and "no cell with the line" in code_of(NEEDED).message
    stub = code_of(NEEDED, exercise_cell(NEEDED, "def programs_needed(N, BLOCK):\n    ...  # TODO: your code\n"))
    assert (stub.status is None) != ("TODO" in stub.source and stub.status == "not attempted")


def test_what_is_run_of_a_notebook():
    """All its cells in their order, after the lesson's imports and what the lesson gives."""
    cells = "import torch", exercise_cell(ADD), "print(1)"
    code = code_of(ADD, *cells)
    assert code.cells == cells and code.index == 1 and code.file == "a.py" and code.status is None
    assert "import" in code.setup[0] and any("# given: vector_add" in cell for cell in code.setup)
    assert not any("# exercise:" in cell for cell in code.setup)


def test_the_source_of_a_function_is_its_own():
    cell = "%time\nx = 1\n@dec\ndef f(a):\n    return a\n\ndef g():\n    pass\n"
    assert function_source(cell, "f") == "@dec\ndef f(a):\n    return a"
    assert function_source("def f():\n    return 1\n\nx = f()\ndef f():\n    return 2\n", "f") == "def f():\n    return 2"
    assert function_source("f = make()", "f") == "f = make()" and function_source("def def", "f") == "def def"
