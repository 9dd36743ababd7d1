"""The executor and the interpreter come to the same of every answer, and both see that a mistake is one."""

import pytest
import torch

from checks.executor import CompileError
from checks.exercises import EXERCISES
from checks.judge.attempt import attempt
from checks.judge.execution import attempt_executed
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
