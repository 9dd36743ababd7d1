"""The executor and the interpreter come to the same of every answer, and both see that a mistake is one."""

import linecache
from dataclasses import replace

import pytest
import torch
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.executor import CompileError, Fault, LimitExceeded, Unsupported
from checks.executor.ir import Place
from checks.exercises import EXERCISES
from checks.host.recorder import NeedsNumbers
from checks.judge.attempt import attempt
from checks.judge.execution import FailedAssertion, Raced, _error, attempt_executed, attempt_kernel
from checks.judge.launches import OutOfBounds
from checks.judge.trial import PASSED, try_case

KERNELS = [pytest.param(exercise, id=exercise.name) for exercise in EXERCISES.values() if exercise.is_kernel]
SEED = 0


def executed(exercise, function, case):
    return try_case(exercise, function, case, SEED, attempt_executed)


def interpreted(exercise, function, case):
    return try_case(exercise, function, case, SEED, attempt)


@pytest.mark.parametrize("exercise", KERNELS)
def test_answers_are_right_with_the_interpreters_traffic(exercise):
    for case in exercise.cases:
        ours, theirs = (run(exercise, exercise.answer_function(), case) for run in (executed, interpreted))
        assert (ours.status, ours.message) == (theirs.status, theirs.message) == (PASSED, "")
        assert ours.traffic() == theirs.traffic()
        assert [one.instructions() for one in ours.launches] == [one.instructions() for one in theirs.launches]
        for name, value in ours.inputs.items():
            assert not isinstance(value, torch.Tensor) or torch.equal(ours.loaded(name), theirs.loaded(name))


@pytest.mark.parametrize("exercise", KERNELS)
def test_mistakes_fail_where_they_fail_in_the_interpreter(exercise):
    for mutant in exercise.mutants[:4]:
        function = exercise.mutated(mutant)
        for case in exercise.cases:
            theirs = interpreted(exercise, function, case)
            try:
                ours = executed(exercise, function, case)
            except CompileError:  # the interpreter runs what no compiler takes, and may even be right
                break
            assert (ours.status == PASSED) == (theirs.status == PASSED), (mutant.name, ours.message, theirs.message)
            if theirs.status != PASSED:
                break


def test_a_store_past_the_end_is_said_to_be_a_store():
    exercise = EXERCISES["vector_add_kernel"]
    case = exercise.cases[0]
    unmasked = exercise.edited(("tl.store(out_ptr + offs, x + y, mask=mask)", "tl.store(out_ptr + offs, x + y)"))
    outcome = executed(exercise, unmasked, case)
    assert outcome.error.kind == "store" and outcome.error.line == "tl.store(out_ptr + offs, x + y)"
    assert interpreted(exercise, unmasked, case).error.same_as(executed(exercise, unmasked, case).error)


@pytest.mark.parametrize("attempt_by", [attempt, attempt_executed])
@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(1), MemoryError(), AssertionError(), CompileError("no"),
                                   OutOfBounds("load", "x_ptr", (0,), (1,), 5, (4,), 1, True), TimeoutError()], ids=repr)
def test_what_a_call_raises_is_its_error(attempt_by, error):
    def fails(x):
        raise error

    tried = attempt_by(fails, {"x": torch.ones(1)}, 20)
    assert tried.error is error and tried.line == "raise error" and tried.outputs == ()


@pytest.mark.parametrize("attempt_by", [attempt, attempt_executed])
def test_an_interrupt_ends_the_check(attempt_by):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt_by(interrupted, {}, 20)


@pytest.mark.parametrize("error", [
    OutOfBounds("load", "x_ptr", (0,), (1,), 5, (4,), 1, True, line="tl.load(x_ptr)"), Raced("both"), FailedAssertion(),
    CompileError("no"), LimitExceeded(), MemoryError(), TimeoutError()], ids=repr)
def test_what_goes_wrong_in_a_kernel_is_the_error_of_its_call(monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr("checks.judge.execution.play", fails)
    tried = attempt_executed(lambda: 3, {}, 20)
    assert tried.error is error and tried.line == ("tl.load(x_ptr)" if isinstance(error, OutOfBounds) else None)
    assert (tried.outputs, tried.made, tried.operators) == ((), None, [])


@pytest.mark.parametrize(("error", "why"), [
    (NeedsNumbers("aten::item"), "the code around the kernel looks at numbers, aten::item"),
    (Unsupported("tt.odd"), "tt.odd is not executed here")], ids=repr)
def test_what_cannot_be_executed_is_interpreted(monkeypatch, error, why):
    def fails(*_):
        raise error

    part = "recorded" if isinstance(error, NeedsNumbers) else "play"
    monkeypatch.setattr(f"checks.judge.execution.{part}", fails)
    tried = attempt_kernel(lambda n: n + 1, {"n": 3}, 20)
    assert (tried.outputs, tried.interpreted, tried.error) == ((4,), why, None)


@pytest.mark.parametrize("attempt_by", [attempt, attempt_executed])
def test_what_a_call_comes_to(attempt_by):
    x = torch.arange(12.0).reshape(3, 4)[:, ::2]
    tried = attempt_by(lambda x, y, n: [x.add_(1), x.stride(), n], {"x": x, "y": x.clone(), "n": 3}, 20)
    assert torch.equal(tried.outputs[0], x + 1) and tried.outputs[1:] == (x.stride(), 3)
    assert (tried.changed, tried.broken, tried.error, tried.interpreted, tried.launches) == (["x"], [], None, "", [])
    assert attempt_by(lambda x: [x], {"x": x}, 20).outputs[0][0].equal(x), "a list of one stays a list"
    assert (tried.operators == ["aten::add_.Tensor"]) == (attempt_by is attempt_executed)


X, ROWS = torch.zeros(4), torch.zeros(3, 8)[:, :5]
FAULT = Fault("out-of-bounds load", "x_ptr", (2, 0, 0), (1,), 9, 3, Place("nowhere.py", 3), True)


@pytest.mark.parametrize(("fault", "tensor", "said"), [
    ({}, X, ("load", (4,), False, True)), ({"masked": False}, X, ("load", (4,), False, False)),
    ({"what": "store outside every tensor"}, X, ("store", (4,), False, True)), ({"offset": 1}, ROWS, ("load", (3, 5), True,
    True)),
    ({"offset": 19}, ROWS, ("load", (3, 5), True, True)), ({"offset": 20}, ROWS, ("load", (3, 5), False, True)),
    ({"offset": 0}, ROWS, ("load", (3, 5), False, True)), ({}, TensorDescriptor(X, [4], [1], [4]),
     ("load", (4,), False, True)),
    ({"offset": 6}, TensorDescriptor(ROWS, [3, 5], [8, 1], [1, 4]), ("load", (3, 5), True, True)),
    ({}, 3, ("load", (), False, True))])
def test_the_first_fault_is_told_with_the_places_of_others(fault, tensor, said):
    first, other = replace(FAULT, **fault), replace(FAULT, program=(5, 0, 0), offset=11)
    error = _error([first, other, replace(FAULT, tensor=None, offset=None)], {"x_ptr": tensor})
    assert (error.kind, error.shape, error.gap, error.masked) == said
    assert (error.tensor, error.program, error.lane, error.offset, error.lanes) == (
        "x_ptr", (2, 0, 0), (1,), first.offset, 3)
    assert error.others == (("load", "x_ptr", (5, 0, 0), 11, 3),) and error.line is None
    linecache.cache["nowhere.py"] = (0, None, ["", "", "  a line\n"], "nowhere.py")
    assert _error([first], {"x_ptr": tensor}).line == "a line" and _error([first], {"x_ptr": tensor}).others == ()
    del linecache.cache["nowhere.py"]


def test_an_assertion_that_fails_is_told():
    said = _error([replace(FAULT, what="assertion failed: too large", tensor=None, offset=None), FAULT], {"x_ptr": X})
    assert isinstance(said, FailedAssertion) and "too large" in str(said)


def test_a_launch_s_options_are_those_that_were_asked_for():
    """With which the kernel is then compiled."""
    exercise = EXERCISES["vector_add_kernel"]
    x = exercise.cases[0].inputs(torch.Generator())["x"]

    def launches(x):
        exercise.module.vector_add_kernel[(1,)](x, x, x.clone(), 1, BLOCK=1, num_warps=2, num_stages=5)
        exercise.module.vector_add_kernel[(1,)](x, x, x.clone(), 1, BLOCK=1)

    ours = [launch.options for launch in attempt_executed(launches, {"x": x}, 20).launches]
    assert ours == [{"num_warps": 2, "num_stages": 5}, {}] == [
        launch.options for launch in attempt(launches, {"x": x}, 20).launches]
