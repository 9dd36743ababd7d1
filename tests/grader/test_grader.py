"""The grader, piece by piece: submissions, what is run of them, the course, the sandbox."""

import ast
import random
import socket
import struct
import time
import types

import pytest
import torch
from grading import ADD, CHEAP, NEEDED, exercise_cell

from checks.exercises import EXERCISES
from checks.grader import gpu, results
from checks.grader.grader import Grader
from checks.grader.grading.cases import HIDDEN, HIDDEN_NUMBERS, CaseSet, vary
from checks.grader.grading.runs import PROVEN, runs_of
from checks.grader.intake import extract
from checks.grader.intake.code import code_for
from checks.grader.intake.library import lesson_cells, library_for, shared_modules
from checks.grader.intake.submissions import (
    Cell,
    Submission,
    find_exercise_cell,
    given_notices,
)
from checks.grader.output.feedback import messages_for_student
from checks.grader.sandbox import wire
from checks.grader.sandbox.client import Fault, ForkServer
from checks.grader.sandbox.values import decode, encode_inputs
from checks.grader.selftest import Misjudged, check_canaries, mutated_source, submission_with
from checks.grader.settings import Settings
from checks.judge.source import answer_source, find_mark


@pytest.fixture(scope="module")
def grader():
    with Grader(Settings(7, exercises=CHEAP, compiles=False)) as grader:
        yield grader


# submissions


def test_how_an_exercise_is_found():
    def found(*cells: str):
        return find_exercise_cell(Submission("ada", [Cell(s, "a.ipynb", i) for i, s in enumerate(cells)]), NEEDED.name)

    stub = next(cell for cell in lesson_cells(NEEDED.lesson) if find_mark(cell) == ("exercise", NEEDED.name))
    other = "def programs_needed(N, BLOCK):\n    return 1"
    assert found("x = 1").cell is None
    assert found(exercise_cell(NEEDED), stub).cell.index == 0, "a stub beside the work does not count"
    assert found(stub, stub).cell.index == 1
    twice = found(exercise_cell(NEEDED), exercise_cell(NEEDED, other))
    assert twice.cell.index == 1
    assert "2 times" in twice.notices[0]
    assert not found(exercise_cell(NEEDED), exercise_cell(NEEDED, answer_source(NEEDED.name) + "# again\n")).notices
    assert "is missing" in found(other).notices[0]
    merged = found(exercise_cell(ADD) + other)
    assert merged.cell.index == 0 and "is missing" in merged.notices[0], "its mark went when two cells were merged"
    assert found("# given: something\n" + other).cell is None


def test_given_cells_are_compared():
    lesson = lesson_cells(ADD.lesson)
    given = next(cell for cell in lesson if "# given: vector_add\n" in cell)

    def notices(cells):
        submission = Submission("ada", [Cell(source, "a.ipynb", i) for i, source in enumerate(cells)])
        return given_notices(submission, "a.ipynb", lesson)

    assert not notices(lesson)
    assert not notices([cell + "\n# a comment" for cell in lesson])
    edited = notices([cell.replace("torch.empty", "torch.zeros") for cell in lesson])[0]
    assert "was edited; the original was tried first" in edited, "the student's own may have been used then"
    assert "is missing; the original was used" in notices([cell for cell in lesson if cell != given])[0]
    unmarked = [cell.replace("# given: vector_add\n", "") for cell in lesson]
    assert "is missing; the original was tried first" in notices(unmarked)[0]
    assert "order" in notices([given] + [cell for cell in lesson if cell != given])[-1]


# what is run


def test_only_what_a_function_needs_is_taken():
    source = ("import os\nimport torch\nLIMIT = 3\nx = torch.arange(5)\n\ndef helper(a):\n    x = a\n"
              "    return x + LIMIT\n\n"
              "os.remove('all')\n\n@torch.no_grad()\ndef f(n):\n    return helper(n)\n")
    kept = extract.text(extract.needed_for(["f"], extract.statements(source)))
    assert "LIMIT" in kept and "helper" in kept and "import torch" in kept
    assert "os" not in kept and "arange" not in kept


def test_shell_lines_do_not_hide_a_cell():
    assert extract.function_in("%time\n!ls\ndef f():\n    return 1", "f")
    with pytest.raises(SyntaxError):
        extract.statements("def f(:\n")
    with pytest.raises(SyntaxError):
        extract.statements("(" * 100_000)


@pytest.mark.parametrize("name", EXERCISES)
def test_no_child_is_given_the_answer(name):
    exercise = EXERCISES[name]
    library = library_for(exercise)
    shared = shared_modules(tuple(one for one in EXERCISES.values() if one.lesson == exercise.lesson))
    for text in [*library.modules.values(), *shared.values(), library.entry_code or ""]:
        assert all(getattr(node, "name", None) != name for node in ast.parse(text).body)


def test_a_mistake_is_not_paid_for_twice(grader):
    """An exercise that calls the function of another is judged with ours where the student's is wrong."""
    benchmark, timer = EXERCISES["benchmark"], EXERCISES["time_us"]
    broken = "def time_us(sides, gpu, repeats=50, warmup=5):\n    return {name: [1.0] * repeats for name in sides}\n"
    submission = submission_with(benchmark, answer_source(benchmark.name))
    cells = [Cell(exercise_cell(timer, broken), cell.file, cell.index) if cell.mark == ("exercise", timer.name) else cell
             for cell in submission.cells]
    submission = Submission("ada", cells)
    result = grader.grade_exercise(benchmark.name, submission)
    assert result["status"] == "passed", result["message"]
    assert "judged with our" in result["notices"][-1]
    assert grader.grade_exercise(timer.name, submission)["points"] == 0


@pytest.fixture
def started(monkeypatch) -> list[dict]:
    """The jobs of the children that were started."""
    jobs, start = [], ForkServer.child

    def child(self, job, *arguments, **named):
        jobs.append(job)
        return start(self, job, *arguments, **named)

    monkeypatch.setattr(ForkServer, "child", child)
    return jobs


def submitted(*sources: str) -> Submission:
    return Submission("ada", [Cell(source, "a.ipynb", i) for i, source in enumerate(sources)])


@pytest.mark.parametrize("state, wrong, runs", [("called.append(1)", "-1 if called else", 2), ("pass", "1 +", 1)])
def test_what_another_exercise_left_behind(grader, started, state, wrong, runs):
    """The notebook runs anew where, and only where, another exercise may have a part in what is wrong."""
    other = EXERCISES["first_wrong"]
    first = answer_source(other.name).replace("    wrong =", f"    {state}\n    wrong =")
    needed = f"def programs_needed(N, BLOCK):\n    return {wrong} triton.cdiv(N, BLOCK)\n"
    submission = submitted("called = []", exercise_cell(NEEDED, needed), exercise_cell(other, first))
    assert grader.grade_exercise(other.name, submission)["status"] == "passed"
    assert grader.grade_exercise(NEEDED.name, submission)["status"] == ("passed" if runs == 2 else "failed")
    assert len(started) == runs


def test_a_name_that_is_missing_for_another_exercise(grader, started):
    """Our `gemv_bytes` is an answer, and not to be seen where that exercise is judged in the same process."""
    roof = EXERCISES["roofline_us"]
    cell = "try:\n    from kernels.cost import gemv_bytes\n    there = True\nexcept ImportError:\n    there = False"
    source = answer_source(roof.name)
    spoilt = source.replace("    return ", "    return there and ")
    assert grader.grade_exercise(roof.name, submitted(cell, exercise_cell(roof, spoilt)))["status"] == "passed"
    assert len(started) == 2
    assert grader.grade_exercise(roof.name, submitted(exercise_cell(roof, source + "    return 0")))["status"] == "passed"
    assert len(started) == 3


def test_a_function_that_ends_python_where_a_cell_calls_it(grader):
    """Cells of the lesson call what exercises define: only the exercise whose function ends Python loses its points."""
    other = EXERCISES["first_wrong"]
    ends = "def first_wrong(*numbers, **named):\n    import os; os._exit(0)\n"
    cells = [exercise_cell(other, ends), "first_wrong(1, 2)",
             exercise_cell(NEEDED), "first_wrong(3, 4)", exercise_cell(ADD)]
    submission = submitted("import torch\nimport triton\nimport triton.language as tl", *cells)
    for exercise in (NEEDED, ADD):
        result = grader.grade_exercise(exercise.name, submission)
        assert result["status"] == "passed", result["message"]
        assert result["notices"][-1].endswith("the notebook's process ended")
    result = grader.grade_exercise(other.name, submission)
    assert result["status"] == "crashed" and result["points"] == 0 and "process" in result["message"]


def test_one_player_for_exercises_that_reserve_gigabytes(grader):
    """Rows that lie far apart: of one exercise's tensors, which an error's frames hold, nothing is left at the next one."""
    large, smaller = EXERCISES["row_sum_kernel"], EXERCISES["gemv_fp16_kernel"]
    assert grader.case_set(large.name).data_bytes > grader.case_set(smaller.name).data_bytes > 8 * 2**30
    written = [(large, mutated_source(large, large.mutants[0])), (smaller, answer_source(smaller.name))]
    cells = [Cell(cell.source, f"{one.lesson}.ipynb", i) for one, source in written
             for i, cell in enumerate(submission_with(one, source).cells)]
    submission = Submission("ada", cells)
    assert "out-of-bounds" in grader.grade_exercise(large.name, submission)["message"]
    result = grader.grade_exercise(smaller.name, submission)
    assert result["status"] == "passed", result["message"]


def test_an_error_keeps_no_gigabytes_from_the_next_case(grader):
    """Rows of x lie far apart in one case, rows of w in the next one, and the kernel reads past both."""
    product = EXERCISES["matmul_fp16_naive_kernel"]
    mutant = next(one for one in product.mutants if one.name == "the mask on K is missing")
    result = grader.grade_exercise(product.name, submission_with(product, mutated_source(product, mutant)))
    assert result["mistake"] == mutant.name


# hidden sizes


def test_every_case_can_be_varied():
    for exercise in EXERCISES.values():
        for case in exercise.cases:
            vary(case, "another", random.Random(1))


def test_hidden_sizes_differ_from_public_ones():
    for name in ("vector_add_kernel", "gemv_bytes", "quantize_int8_perrow_torch", "row_sum_kernel"):
        case_set = CaseSet(EXERCISES[name], 5)
        assert len(case_set.hidden) == (HIDDEN_NUMBERS if name == "gemv_bytes" else HIDDEN)
        assert [case.name for case in case_set.hidden[:2]] == ["hidden case 1", "hidden case 2"]
        shapes = [str({k: getattr(v, "shape", v) for k, v in case_set.asked(case).inputs.items()})
                  for case in (*EXERCISES[name].cases, *case_set.hidden)]
        assert len(set(shapes)) >= 0.8 * len(shapes)


# the sandbox


@pytest.mark.parametrize("data, error", [
    (struct.pack(">IQ", 2**31, 0), wire.ProtocolError), (struct.pack(">IQ", 2, 2**60), wire.ProtocolError),
    (struct.pack(">IQ", 2, 0) + b"[]", wire.ProtocolError), (struct.pack(">IQ", 3, 0) + b"{,}", wire.ProtocolError),
    (b"\0", EOFError), (struct.pack(">IQ", 2, 5) + b"{}abc", EOFError)])
def test_what_is_no_frame(data, error):
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    theirs.close()
    with pytest.raises(error):
        wire.receive(ours, 100, time.monotonic() + 5)


def test_frames_keep_their_deadline():
    ours, theirs = socket.socketpair()
    theirs.sendall(b"\0")
    with pytest.raises(TimeoutError):
        wire.receive(ours, 100, time.monotonic() + 0.1)


@pytest.mark.parametrize("described", [
    [["tensor", "float32", [2], [1], 4]], [["tensor", "object", [1], [1], 8]], [["tensor", "float32", [-1], [1], -4]],
    [["tensor", "float32", [2**40], [1], 2**42]], [["plain", [1]]], [["plain"]], [["dtype", "x"]], [[]], [7], [None]])
def test_a_description_that_does_not_fit_is_no_result(described):
    with pytest.raises(wire.ProtocolError):
        decode(described, b"\0" * 4)


@pytest.mark.parametrize("x", [torch.arange(24.0).view(4, 6)[:, :5], torch.arange(24.0).double().view(4, 6)[:1, 3]],
                         ids=["part of a matrix", "one element of it"])
def test_inputs_and_results_travel_with_any_strides(grader, x):
    code = ("import torch\n\n\ndef f(x, dtype):\n"
            "    return x.to(dtype), x.stride(0), torch.stack([x, 2 * x], -1)[..., 1]\n")
    job = {"modules": {}, "setup": [], "cells": [code], "numbers": True, "lent": {}, "handed_out": []}
    with grader.server.child(job) as child:
        child.begin()
        described, payload = encode_inputs({"x": x, "dtype": torch.float16})
        answer, raw = child.ask({"inputs": described, "mode": "plain", "maps": False, "name": "f", "wrapper": None,
                                 "candidate": 0, "through": None}, payload, 10)
    copy, stride, double = decode(answer["outputs"], raw)
    assert torch.equal(copy, x.half()) and torch.equal(double, 2 * x)
    assert stride == 6


@pytest.mark.parametrize("name", EXERCISES)
def test_the_inputs_of_every_case_can_be_sent(name):
    for case in EXERCISES[name].cases:
        described, payload = encode_inputs(case.inputs(torch.Generator().manual_seed(0)))
        assert sum(size for kind, *_, size in described.values() if kind == "tensor") == len(payload)


@pytest.mark.parametrize("levels", [["seccomp", "landlock", "limits"], ["seccomp", "limits"]])
def test_honest_work_passes_at_lower_levels(grader, levels, monkeypatch):
    """Where namespaces are refused."""
    monkeypatch.setattr(grader.server, "levels", levels)
    socket_too = "import socket\n\n\ndef programs_needed(N, BLOCK):\n    socket.socket()\n    return -(-N // BLOCK)\n"
    refused = grader.grade_exercise("programs_needed", submission_with(NEEDED, socket_too))
    assert "PermissionError" in refused["message"]
    honest = grader.grade_exercise("vector_add_kernel", submission_with(ADD, answer_source(ADD.name)))
    assert honest["status"] == "passed", honest["message"]


def test_what_a_gpu_would_be_asked(grader, monkeypatch):
    """The way of a recording to a GPU and back, as far as it goes without one: right, and not timed."""
    case_set = grader.case_set("vector_add_kernel")

    def asked(source):
        submission = submission_with(ADD, source)
        sandbox = grader.sandbox(submission)
        done = next(runs_of(case_set, code_for(ADD, submission), sandbox, ADD.cases))
        assert done.trust == PROVEN
        monkeypatch.setattr(gpu, "LARGE", 64)
        found = gpu.on_gpu(case_set, done, sandbox.compiler, sandbox.player.server)
        monkeypatch.undo()
        return found

    assert asked(answer_source(ADD.name)) == (None, None)
    assert "elements are wrong" in asked(answer_source(ADD.name).replace("x + y", "x - y"))[0]
    sizes = gpu.large(ADD.cases[0]).inputs(torch.Generator())
    assert sizes["x"].numel() == gpu.LARGE**2
    assert sizes["BLOCK"] == 128


def test_no_grading_without_a_filter(monkeypatch):
    closed = []
    server = types.SimpleNamespace(levels=["namespaces", "files", "limits"], close=lambda: closed.append(True))
    monkeypatch.setattr("checks.grader.grader.ForkServer", lambda *_: server)
    grader = Grader(Settings(1))
    for attempt in (1, 2):  # nor when it is asked again
        with pytest.raises(Fault, match="seccomp"):
            grader.start()
        assert len(closed) == attempt


def test_a_sandbox_that_breaks_is_tried_again_and_is_no_zero(grader, monkeypatch):
    submission = submission_with(NEEDED, answer_source(NEEDED.name))
    gone, theirs = socket.socketpair()
    theirs.close()
    with monkeypatch.context() as patch:  # as that of a process that was killed, until the grader gives it up for another
        patch.setattr(grader.server, "control", gone)
        patch.setattr(grader.server, "close", patch.undo)
        assert grader.exercise_result("programs_needed", submission)["status"] == "passed"
        assert grader.server.control is not gone

    def broken(*_, **__):
        raise Fault("no more processes")

    monkeypatch.setattr(ForkServer, "child", broken)
    result = grader.exercise_result("programs_needed", submission_with(NEEDED, answer_source(NEEDED.name)))
    assert result["status"] == results.FAULT
    assert result["points"] is None
    assert "no more processes" in result["message"]
    assert "no points are lost" in messages_for_student(result)[0]


def test_a_grader_that_misjudges_stops(grader, monkeypatch):
    check_canaries(grader)
    monkeypatch.setattr("checks.grader.grading.verdicts._right", lambda *_: False)
    monkeypatch.setattr("checks.grader.selftest.mutated_source", lambda exercise, mutant: answer_source(exercise.name))
    with pytest.raises(Misjudged):
        check_canaries(grader)
