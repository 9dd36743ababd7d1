"""What is made of a student's results where they are no tensors or numbers, and what is said of numbers that are wrong."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from checks.exercises import EXERCISES, find_exercise
from checks.exercises.measuring import exact_median, explain_median, try_median
from checks.exercises.profiling import LIMITS, name_the_limits, place_of_limit
from checks.exercises.speed import explain_units
from checks.exercises.tuning import TILES, memory_that_held, try_check
from checks.judge.exercise import Expected, WrongAnswer
from checks.judge.trial import FAILED, PASSED, drawn, try_case


def outcome(outputs: list[float], expected: list[float], output: int = 0, **inputs: Any) -> SimpleNamespace:
    """A failed case: what came back, what was wanted, and which of them is wrong."""
    return SimpleNamespace(outputs=outputs, expected=[Expected(value) for value in expected], output=output, inputs=inputs)


@pytest.mark.parametrize(("place", "limit"), list(enumerate(("launch", "memory", "compute", "latency"))))
def test_a_limit_is_compared_by_its_place_and_named(place, limit):
    assert LIMITS[place] == limit
    assert place_of_limit(lambda us, launch_us: limit if us < launch_us else None, us=3.0, launch_us=8.0) == place
    other = (place + 1) % 4
    said = name_the_limits(outcome([float(other)], [place]))
    assert said == f"Your function says {LIMITS[other]!r}; expected {limit!r}."


@pytest.mark.parametrize("said", [None, "Memory", "", 1, ["memory"], ("memory", "compute")])
def test_what_is_no_limit_is_refused_with_the_four(said):
    with pytest.raises(WrongAnswer) as refused:
        place_of_limit(lambda **profile: said, us=3.0)
    assert str(refused.value) == f"it returns {said!r}; expected one of 'launch', 'memory', 'compute', 'latency'."


X_Q, W_Q = torch.eye(4, dtype=torch.int8), torch.ones(3, 4, dtype=torch.int8)


def checked(said: Any) -> torch.Tensor:
    return try_check(lambda launch, configs, x_q, w_q: said, "right in every config", X_Q, W_Q)


@pytest.mark.parametrize("said", [[], [0], [len(TILES) - 1], [0, 2], list(range(len(TILES)))])
def test_places_of_wrong_configs_become_marks(said):
    marks = checked(said)
    assert marks.dtype == torch.int32 and marks.nonzero().flatten().tolist() == said and marks.sum() == len(said)
    assert len(marks) == len(TILES)


@pytest.mark.parametrize(("said", "why"), [
    *((said, "a list of places, whole numbers from 0 to 3.") for said in (
        None, (0,), 0, [-1], [len(TILES)], [0.0], [True], [0, "1"], torch.tensor([0]))),
    *((said, "places in ascending order, each once") for said in ([1, 0], [1, 1], [0, 2, 2])),
], ids=str)
def test_what_is_no_list_of_places_is_refused(said, why):
    with pytest.raises(WrongAnswer) as refused:
        checked(said)
    assert str(refused.value).startswith(f"it returns {said!r}; expected {why}")


def test_wrong_configs_gets_the_kernel_and_its_configs():
    def wrong_configs(*given):
        launch, configs, x_q, w_q = given
        assert callable(launch) and configs == list(TILES) and configs is not TILES and x_q is X_Q and w_q is W_Q
        assert torch.equal(torch.empty(4, 3, dtype=torch.int32), (X_Q.int() @ W_Q.int().T))
        return [1]

    assert try_check(wrong_configs, "right in every config", X_Q, W_Q)[1] == 1
    assert (torch.empty.__name__, torch.empty_like.__name__) == ("empty", "empty_like")


def test_empty_memory_holds_the_answer_for_a_while():
    """As on a GPU, where the allocator hands out what a config before has freed; other memory is left as it is."""
    answer, before = torch.arange(6).reshape(2, 3), (torch.empty, torch.empty_like)
    with pytest.raises(KeyError), memory_that_held(answer):
        for made in (torch.empty(2, 3), torch.empty((2, 3), dtype=torch.int32), torch.empty_like(answer.float())):
            assert torch.equal(made.long(), answer)
        assert torch.empty((2, 3), dtype=torch.float16).dtype == torch.float16
        assert torch.empty_like(answer, dtype=torch.int8).dtype == torch.int8
        assert torch.empty(3, 2).shape == (3, 2) and torch.empty_like(torch.ones(5)).shape == (5,)
        raise KeyError
    assert (torch.empty, torch.empty_like) == before


STEADY, APART = torch.tensor([5.0, 4.0, 6.0], dtype=torch.float64), torch.tensor([5.0, 4.0, 8.0], dtype=torch.float64)


def raising(error: Exception) -> Callable:
    def median_and_spread(times_us, most):
        raise error
    return median_and_spread


def sorting(times_us, most):
    times_us.sort()
    return 5.0, 4.0, 6.0


@pytest.mark.parametrize(("function", "times", "said"), [
    (raising(RuntimeError("apart")), STEADY, "it refuses, but high - low is 2 and may be up to 0.4 x 5."),
    (raising(RuntimeError()), STEADY, "it refuses, but high - low is 2"),
    (raising(RuntimeError()), APART, "it refuses without a message"),
    (raising(ValueError("apart")), APART, "it refuses, rightly, but with ValueError: expected a RuntimeError."),
    (raising(NotImplementedError("apart")), APART, "with NotImplementedError: expected a RuntimeError."),
    (sorting, STEADY, "it changes the list of times it was given"),
    (sorting, APART, "it changes the list of times it was given"),
    (lambda times, most: (5.0, 4.0, 8.0), APART,
     "it returns (5.0, 4.0, 8.0). high - low is 4, more than 0.4 x 5: expected a RuntimeError."),
], ids=range(8))
def test_a_refusal_that_is_wrong_is_explained(function, times, said):
    with pytest.raises(WrongAnswer) as refused:
        try_median(function, times, 0.4)
    assert said in str(refused.value)


@pytest.mark.parametrize(("error", "times"), [
    (ValueError("apart"), STEADY), (IndexError(), APART), (NameError(), APART), (AttributeError(), APART),
    (TypeError(), APART)])
def test_a_crash_of_median_and_spread_stays_one(error, times):
    with pytest.raises(type(error)) as raised:
        try_median(raising(error), times, 0.4)
    assert raised.value is error


def test_results_of_median_and_spread_are_handed_on():
    assert try_median(raising(RuntimeError("apart")), APART, 0.4) == (5.0, 4.0, 8.0)
    assert try_median(lambda times, most: (times, most), STEADY, 0.4) == ([5.0, 4.0, 6.0], 0.4)
    assert [want.value for want in exact_median(torch.arange(20.0), 0.3)] == [9.5, 2.0, 17.0]


TIMES = torch.tensor([9.0, 1.0, 5.0, 4.0, 2.0, 8.0, 3.0, 7.0, 6.0, 10.0])  # the median 5.5, from 2 to 9


@pytest.mark.parametrize(("said", "output", "sentence"), [
    ((2.0, 5.5, 9.0), 0, "The three are right, but in another order: expected (median, low, high)."),
    ((5.5, 9.0, 2.0), 1, "The three are right, but in another order"),
    ((5.0, 2.0, 9.0), 0, None),
    ((5.5, 1.0, 9.0), 1,
     "Sorted and counted from 0, low is call 0 of these 10; expected call 1, for 1 are cut off at either end."),
    ((5.5, 2.0, 10.0), 2, "Sorted and counted from 0, high is call 9 of these 10; expected call 8, for 1 are cut off"),
    ((5.5, 2.5, 9.0), 1, None),
])
def test_the_calls_taken_for_low_and_high_are_named(said, output, sentence):
    found = explain_median(outcome(list(said), [5.5, 2.0, 9.0], output, times_us=TIMES, most=2.0))
    assert found == sentence or sentence and found.startswith(sentence)


@pytest.mark.parametrize(("got", "want", "said"), [
    (3000.0, 3.0, "That is 10 to the power of 3 times the right number. 1 us is 10⁻⁶ s"),
    (3e-6, 3.0, "That is 10 to the power of -6 times the right number."),
    (0.25, 4.0, "Upside down. 1 us is 10⁻⁶ s, 1 GB/s is 10⁹ bytes a second, 1 TFLOPS 10¹² operations a second."),
    (2.5e-7, 4.0, "Upside down."),
    (6.0, 3.0, None), (3.1, 3.0, None), (3000.1, 3.0, None), (0.0, 3.0, None), (-3000.0, 3.0, None),
    (math.inf, 3.0, None), (math.nan, 3.0, None),
])
def test_a_number_off_by_a_power_of_ten_is_told(got, want, said):
    found = explain_units(outcome([got], [want]))
    assert found == said or said and found.startswith(said)


@pytest.mark.parametrize("name", [e.name for e in EXERCISES.values() if e.adapter and not e.is_kernel])
def test_an_adapter_makes_the_expected_of_the_answer(name):
    """As many outputs as are named, in their order: the first case's, with the answer handed to the adapter."""
    exercise = EXERCISES[name]
    inputs = drawn(exercise.cases[0], 5)
    made, wanted = exercise.callable_for(exercise.answer_function())(**inputs), exercise.oracle(**inputs)
    made = made if isinstance(made, tuple) else (made,)
    assert len(made) == len(wanted) == len(exercise.outputs)
    for got, want in zip(made, wanted, strict=True):
        off = (torch.as_tensor(got).double() - torch.as_tensor(want.value).double()).abs()
        assert (off <= torch.as_tensor(want.tolerance)).all()


EMPTY = (None, "", (), [], {}, False, 0, 0.0)


@pytest.mark.parametrize("name", [e.name for e in EXERCISES.values() if not e.is_kernel])
def test_nothing_for_an_answer_is_refused_with_a_sentence(name):
    """Whatever stands for nothing is wrong in some case, as a `return` that was forgotten is, and crashes in none."""
    exercise = EXERCISES[name]
    for said in EMPTY:
        outcomes = (try_case(exercise, lambda *_, said=said, **__: said, case, 5) for case in exercise.cases)
        refused = next((outcome for outcome in outcomes if outcome.status != PASSED), None)
        assert refused is not None and refused.status == FAILED, (said, refused and refused.message)
        assert "expected" in refused.message, (said, refused.message)


def test_an_exercise_is_found_by_its_function_and_its_wrapper():
    for exercise in EXERCISES.values():
        for name in filter(None, (exercise.name, exercise.wrapper)):
            assert find_exercise(name) is exercise
    with pytest.raises(LookupError, match="no exercise for a function called `gemv`; there is one for each of: programs_ne"):
        find_exercise("gemv")
