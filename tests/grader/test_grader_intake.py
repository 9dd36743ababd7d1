"""What is read of a submission, and what of it is run, in which order of trust."""

import re

import pytest
from grading import ADD, NEEDED, exercise_cell

from checks.grader.intake.code import OPEN, PROVEN, code_for, suspicious
from checks.grader.intake.submissions import Cell, Submission
from checks.judge.source import answer_source

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
