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


def instead_of(got, want) -> str | None:
    return relation([Outcome(Case("n", dict), {}, (Expected(b),), outputs=(a,), status=PASSED if a == b else FAILED)
                     for a, b in zip(got, want, strict=True)])


FACTORS = {
    2: "twice what it should be", 0.5: "half of what", 4: "4 times what it should be", 0.25:
        "a quarter of what it should be",
    8: "8 times what it should be: bits are counted where bytes", 0.125:
        "an eighth of what it should be: bytes are taken for bits",
    math.log(10): "2.3026 times what it should be: that is the natural logarithm in place of log10",
    1 / math.log(10): "0.4343 times what it should be: that is log10 in place of the natural logarithm",
    math.log2(10): "3.3219 times what it should be: that is log2 in place of log10",
    -math.log(10): "-2.3026 times what it should be", 100: "100 times what it should be: a percentage", 0.01:
        "a hundredth of",
    -1: "right but for the sign", 1.024: "1.024 times what it should be: units of 1,000 and of 1,024", 127 / 128:
        "127/128 of",
    128 / 127: "128/127 of what it should be"}


@pytest.mark.parametrize(("factor", "said"), FACTORS.items())
def test_a_factor_is_said_with_its_meaning(factor, said):
    found, of_each = instead_of([0.3 * factor, 7.4 * factor], [0.3, 7.4]), of_tensors(WANT * factor * 1.001)
    assert found.startswith(f"The result is {said}") and found[-1] in "?."
    assert of_each.startswith(f"Every element is {said}") and of_each[-1] in "?."


@pytest.mark.parametrize("n", [-15, -12, -9, -6, -3, 3, 6, 9, 12, 15])
def test_a_unit_that_is_wrong(n):
    assert of_numbers(*(want * 10.0**n for want, _ in PAIRS)) == (
        f"The result is 10^{n} times what it should be: a unit is missing or there twice.")


@pytest.mark.parametrize(("name", "rounding"), [
    ("down", math.floor), ("up", math.ceil), ("to the nearest whole number", round)])
def test_a_number_that_is_rounded_or_should_be(name, rounding):
    exact = (2.25, 5.75, 7.4, 9.0)
    whole = tuple(rounding(number) for number in exact)
    said = f"rounded {name}, and a fraction is wanted: is `//` or `round` there where `/` belongs?"
    assert instead_of(whole, exact) == f"The result is {said}"
    assert instead_of(exact, whole) == f"The result is a fraction: rounded {name} it would be right."


@pytest.mark.parametrize("factor", [1, 2, 0.5, 4, 8])
def test_a_factor_that_is_an_input_or_a_length(factor):
    inputs = [{"x": torch.ones(a), "w": torch.ones(b, c), "M": m} for a, b, c, m in ((3, 7, 19, 11), (5, 13, 2, 23))]
    sizes = {"the length of `x`": (3, 5), "the length of `w` along axis 0": (7, 13), "the length of `w` along axis 1": (19,
        2),
             "`M`": (11, 23)}
    for name, lengths in sizes.items():
        text = name if factor == 1 else f"{factor:g} times {name}"
        for got, said in (([6.5 * n * factor for n in lengths], "larger"), ([6.5 / n / factor for n in lengths], "smaller")):
            outcomes = [Outcome(Case("n", dict), given, (Expected(6.5),), outputs=(number,), status=FAILED)
                        for given, number in zip(inputs, got, strict=True)]
            assert relation(outcomes) == f"The result is {said} than it should be by a factor: {text}."


@pytest.mark.parametrize(("got", "said"), [
    (WANT.round(), "rounded to a whole number"), (WANT.square(), "the square of the right one"), (WANT.flip(0),
    "in reverse order"),
    (WANT.abs().sqrt(), "the root of the right one"), (WANT / ROWS[:, None] / ROWS[:, None],
    "divided by `scale`, where it should"),
    (WANT / COLUMNS, "without the factor `bias`"), (WANT * COLUMNS, "multiplied with `bias` once too often"),
    (WANT * 11, "multiplied with the length of `x` along axis 1"), (WANT - ROWS[:, None], "too small by `scale`"),
    (WANT.masked_fill(WANT > 0, math.nan) * 2, "twice"),
    (torch.where(WANT > 0, WANT, WANT * 2), None)])
def test_a_tensor_is_said_in_terms_of_its_inputs(got, said):
    found = of_tensors(got)
    assert found is None if said is None else said in (found or ""), found


def test_whole_numbers_that_wrapped_around_in_int16():
    want = torch.arange(-70_000, 70_000, 7001).reshape(2, -1)
    assert "wrapped around as in INT16" in of_tensors(want.to(torch.int16), want, torch.int32)
