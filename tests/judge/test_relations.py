"""How wrong numbers relate to the right ones."""

import math

import pytest
import torch

from checks.judge.exercise import Case, Expected
from checks.judge.relations import relation
from checks.judge.trial import FAILED, PASSED, Outcome

PAIRS = ((6.0, {"M": 3, "K": 2}), (20.0, {"M": 5, "K": 4}), (63.0, {"M": 9, "K": 7}))


def of_numbers(*got: float) -> str | None:
    return relation([Outcome(Case("n", dict), inputs, (Expected(want),), outputs=(number,),
                             status=PASSED if number == want else FAILED)
                     for number, (want, inputs) in zip(got, PAIRS, strict=True)])


NUMBERS = (
    (lambda y, M, K: 2 * y, "twice what it should be"), (lambda y, M, K: 8 * y, "8 times"),
    (lambda y, M, K: y * 1000, "10^3 times"), (lambda y, M, K: -y, "but for the sign"),
    (lambda y, M, K: math.log(10) * y, "the natural logarithm"), (lambda y, M, K: 1 / y, "one divided by the right one"),
    (lambda y, M, K: -math.log(10) * y, "of a quotient that is inverted"),
    (lambda y, M, K: y + 0.3, "a fraction: rounded down it would be right"), (lambda y, M, K: y * y, "the square"),
    (lambda y, M, K: math.sqrt(y), "the root"), (lambda y, M, K: y * K, "larger than it should be by a factor: `K`"),
    (lambda y, M, K: y / M, "smaller than it should be by a factor: `M`"), (lambda y, M, K: y + 1, "too large by 1 in"),
    (lambda y, M, K: y - 4 * K, "too small by 4 · K"), (lambda y, M, K: y + M * K, "twice"),
    (lambda y, M, K: y + 2 * M * M, "too large by 2 · M · M"), (lambda y, M, K: y + 0.77 * M, None))


@pytest.mark.parametrize(("wrong", "said"), NUMBERS)
def test_a_number_is_said_in_terms_of_the_right_one(wrong, said):
    found = of_numbers(*(wrong(want, **inputs) for want, inputs in PAIRS))
    assert found is None if said is None else said in found, found


@pytest.mark.parametrize("wrong", [wrong for wrong, said in NUMBERS if "a fraction" not in (said or "")])
def test_what_does_not_hold_for_a_right_number_is_not_said(wrong):
    (first, a), (second, b), (right, _) = PAIRS
    assert of_numbers(wrong(first, **a), wrong(second, **b), right) is None


@pytest.mark.parametrize(("got", "said"), [
    ([2, 0], True), ([0, 2], True), ([0, 1], False), ([True, False, True], False), ([[0, 2]], False)])
def test_places_where_booleans_are_wanted(got, said):
    want = Expected(torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64), 0.0, torch.bool)
    found = relation([Outcome(Case("n", dict), {}, (want,), outputs=(torch.tensor(got),), status=FAILED)])
    assert ("The places of those" in (found or "")) == said


def test_one_wrong_number_tells_nothing():
    assert of_numbers(12.0, 20.0, 63.0) is None


WANT = torch.linspace(-7.7, 9.1, 35).reshape(5, 7)
ROWS, COLUMNS = 1 + torch.arange(5.0), 3 + torch.arange(7.0)


def of_tensors(got: torch.Tensor, want: torch.Tensor = WANT, dtype=torch.float32) -> str | None:
    inputs = {"scale": ROWS, "bias": COLUMNS, "x": torch.zeros(5, 11)}
    return relation([Outcome(Case("t", dict), inputs, (Expected(want.double(), dtype=dtype),), outputs=(got.to(dtype),),
                             status=FAILED)])


@pytest.mark.parametrize(("got", "said"), [
    (WANT * ROWS[:, None], "multiplied with `scale` once too often"), (WANT / ROWS[:, None], "without the factor `scale`"),
    (WANT - COLUMNS, "`bias`: it is not added"), (WANT + COLUMNS, "`bias`: it is added twice"),
    (WANT - 2 * COLUMNS, "it is subtracted"), (WANT / 11, "divided by the length of `x` along axis 1"),
    (WANT.trunc(), "cut down to a whole number"), (-WANT, "right but for its sign"), (WANT / 2, "half of what"),
    (WANT[:1].expand(5, 7), "that of row 0"), (WANT[:, :1].expand(5, 7), "that of column 0"),
    (WANT.abs(), "its sign is lost"),
    (WANT * 1.7, "1.7 times"), (WANT + 0.5, "too large by 0.5, everywhere"),
    (WANT - 3, "too small by 3, everywhere"),
    (WANT + 0.3 * torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), None)])
def test_a_tensor_is_said_in_terms_of_the_right_one(got, said):
    found = of_tensors(got)
    assert found is None if said is None else said in found, found


def test_whole_numbers_that_wrapped_around():
    want = torch.arange(-300, 300, 7).reshape(2, -1)
    assert "wrapped around as in INT8" in of_tensors(want.to(torch.int8), want, torch.int32)
    assert of_tensors(torch.ones(2, 3), WANT) is None  # of another shape
