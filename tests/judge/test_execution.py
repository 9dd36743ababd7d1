"""The executor and the interpreter come to the same of every answer, and both see that a mistake is one."""

import pytest
import torch

from checks.executor import CompileError
from checks.exercises import EXERCISES
from checks.judge.execution import attempt_executed
from checks.judge.trial import PASSED, TIMEOUT_S, assess, prepare, try_case

KERNELS = [pytest.param(exercise, id=exercise.name) for exercise in EXERCISES.values() if exercise.is_kernel]
SEED = 0


def executed(exercise, function, case):
    outcome = prepare(exercise, case, SEED)
    assess(exercise, outcome, attempt_executed(exercise.callable_for(function), outcome.inputs, TIMEOUT_S))
    return outcome


@pytest.mark.parametrize("exercise", KERNELS)
def test_answers_are_right_with_the_interpreters_traffic(exercise):
    for case in exercise.cases:
        ours, theirs = (run(exercise, exercise.answer_function(), case)
                        for run in (executed, lambda *asked: try_case(*asked, SEED)))
        assert (ours.status, ours.message) == (theirs.status, theirs.message) == (PASSED, "")
        assert ours.traffic() == theirs.traffic()
        for name, value in ours.inputs.items():
            assert not isinstance(value, torch.Tensor) or torch.equal(ours.loaded(name), theirs.loaded(name))


@pytest.mark.parametrize("exercise", KERNELS)
def test_mistakes_fail_where_they_fail_in_the_interpreter(exercise):
    for mutant in exercise.mutants[:4]:
        function = exercise.mutated(mutant)
        for case in exercise.cases:
            theirs = try_case(exercise, function, case, SEED)
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
    assert executed(exercise, unmasked, case).error.kind == "store"
    assert try_case(exercise, unmasked, case, SEED).error.same_as(executed(exercise, unmasked, case).error)
