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
    assert found.startswith(f"The result is {said}") and found[-1] in "?." and found[-2] not in "?."
    assert of_each.startswith(f"Every element is {said}") and of_each[-1] in "?." and of_each[-2] not in "?."


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


def seen(got, want, inputs=None, status=FAILED, dtype=None, **more) -> Outcome:
    """A case on which `got` came, one value or several, where `want` is right."""
    got, want = (value if isinstance(value, tuple) else (value,) for value in (got, want))
    return Outcome(Case("n", dict), inputs or {}, tuple(Expected(value, dtype=dtype) for value in want), outputs=got,
                   status=status, **more)


@pytest.mark.parametrize("other", [
    seen((), 63.0, error=ValueError()), seen(math.inf, 63.0), seen(math.nan, 63.0), seen("126", 63.0), seen(None, 63.0),
    seen(torch.tensor(126.0), 63.0), seen(126.0, math.inf), seen(0.0, 0.0, status=PASSED)],
    ids=range(8))
def test_a_case_without_two_numbers_says_nothing_of_the_others(other):
    for outcomes in ([seen(12.0, 6.0), seen(40.0, 20.0), other], [other, seen(12.0, 6.0), seen(40.0, 20.0)]):
        assert relation(outcomes) == ("The result is twice what it should be: is something counted twice, or a factor 2 too "
                                      "much?")


@pytest.mark.parametrize("outcomes", [
    [], [seen(3.0, 3.0, status=PASSED)] * 2, [seen((), 3.0, error=ValueError())] * 2, [seen((), 3.0)] * 2,
    [seen((), 3.0), seen(12.0, 6.0), seen(40.0, 20.0)], [seen((12.0, 1.0), 6.0), seen(40.0, 20.0), seen(2.0, 1.0)],
    [seen(12.0, 6.0)], [seen(1.0, 0.0), seen(10.0, 5.0)], [seen(0.0, 3.0), seen(0.0, 5.0)],
    [seen(2.0, -4.0), seen(3.0, 9.0)], [seen(7.0, 6.0), seen(21.0, 20.0)],
    [seen(12.0 * (1 + 3e-6), 6.0), seen(40.0, 20.0)]], ids=range(12))
def test_numbers_in_which_nothing_is_read(outcomes):
    assert relation(outcomes) is None


@pytest.mark.parametrize(("got", "want", "said"), [
    ([2, 3, 0], [4, 9, 0], "the root of the right one"), ([0.5, 0.3], [0.25, 0.09], "the root of the right one"),
    ([4, 9, 0], [2, 3, 0], "the square of the right one"),
    ([2.31, 7.7], [3, 10], "0.77 times what it should be, in every case."),
    ([12 * (1 + 5e-7), 40], [6, 20], "twice what it should be"), ([12, 40, 1e-13], [6, 20, 0], "twice what it should be")])
def test_numbers_in_which_something_is_read(got, want, said):
    assert instead_of(map(float, got), map(float, want)).startswith(f"The result is {said}")


def of_sizes(difference, *more: Outcome, sizes=((3, 4, 2), (5, 11, 4), (9, 2, 7))) -> str | None:
    """What is said where `difference` is too much, on cases of these sizes M, N and K."""
    return relation([seen(want + difference(*size), want, dict(zip("MNK", size, strict=True)))
                     for want, size in zip((6, 20, 63), sizes, strict=False)] + list(more))


@pytest.mark.parametrize("factor", [0.5, 1, 2, 3, 4, 6, 8, 12, 16, 5, 7, 9, 13, 17, 0.25])
def test_a_term_comes_a_whole_number_of_times(factor):
    times = "" if factor == 1 else f"{factor:g} · "
    known = factor in (0.5, 1, 2, 3, 4, 6, 8, 12, 16)
    for term, name in ((lambda M, N, K: K, "K"), (lambda M, N, K: M * M, "M · M"), (lambda M, N, K: M * N, "M · N"),
                       (lambda M, N, K: M * N * K, "M · N · K")):
        for sign, size in ((1, "large"), (-1, "small")):
            found = of_sizes(lambda *sizes, term=term, sign=sign: sign * factor * term(*sizes))
            assert found == (f"The result is too {size} by {times}{name} in every case: is a part left out, counted twice, "
                             "or of the wrong width?" if known else None)
    assert factor < 1 or (f"by {factor:g} in every case" in (of_sizes(lambda *_: factor) or "")) == known


def test_a_term_is_of_all_cases_and_no_third_power():
    assert of_sizes(lambda M, N, K: M * M * K) is None
    assert of_sizes(lambda M, N, K: K, seen(7.0, 7.0, {"M": 1, "N": 1, "K": 1}, PASSED)) is None
    for status, got in ((PASSED, 5e9), (PASSED, 5e9 * (1 + 1e-10)), (FAILED, 5e9 * (1 + 1e-10))):
        for inputs in ({"M": 1, "N": 1, "K": 0}, {"M": 1, "N": 1}):
            assert "too large by K in" in of_sizes(lambda M, N, K: K, seen(got, 5e9, inputs, status)), "a part that is empty"
    assert "too large by N in" in of_sizes(lambda M, N, K: N, sizes=((0, 99, 2), (5, 11, 4), (9, 2, 7)))
    assert of_sizes(lambda M, N, K: K, sizes=((3, 4, 2), (5, 11, 4))) is None, "two cases are too few"


def test_a_factor_is_no_input_that_a_case_lacks():
    assert relation([seen(12.2, 6.1, {"K": 2}), seen(81.2, 20.3, {"K": 4}), seen(7.0, 7.0, {}, PASSED)]) is None


def tensors(got, want=WANT, **more) -> Outcome:
    return seen(got, want.double(), dtype=torch.float32, **more)


@pytest.mark.parametrize(("got", "want", "said"), [
    ([torch.tensor(3.0)] * 2, [WANT, WANT], True), ([torch.tensor(3.0), WANT], [WANT, WANT], False),
    ([torch.tensor(3.0)], [torch.tensor(4.0)], False), ([torch.ones(1)], [WANT], False), ([3.0], [WANT], False)],
    ids=range(5))
def test_one_number_where_one_of_each_row_is_wanted(got, want, said):
    found = relation([tensors(*pair) for pair in zip(got, want, strict=True)])
    assert found == ("One number comes back, and one for each row or column is wanted: give the reduction a `dim=`, and it "
                     "keeps the other." if said else None)


def test_places_must_come_in_every_case_and_instead_of_booleans():
    yes = torch.tensor([True, False, True])
    places, other = (seen(torch.tensor(got), yes.double(), dtype=torch.bool) for got in ([2, 0], [1, 0]))
    assert "The places" in relation([places, places])
    assert relation([places, other]) is relation([other, places]) is None
    assert relation([seen([0, 2], yes.double(), dtype=torch.bool)]) is None, "a list"
    assert relation([seen(torch.tensor([0, 2]), yes.double(), dtype=torch.int64)]) is None


SAME, FEW = torch.full((5,), 2.0), torch.where(WANT > 4, WANT, 0.0)


@pytest.mark.parametrize("outcomes", [
    [tensors(WANT, status=PASSED), tensors(WANT * 2)], [tensors(WANT * 2), tensors(WANT, status=PASSED)],
    [tensors((), error=ValueError()), tensors(WANT * 2)], [tensors(WANT * 2), tensors(WANT, unwritten=True)],
    [tensors(WANT[0, :1] * 2, WANT[0, :1]), tensors(WANT * 2)], [tensors(WANT[0, :2] * 2, WANT[0, :2])],
    [tensors(WANT * 2, inputs={"scale": SAME}), tensors(WANT * 2, inputs={"scale": ROWS})],
    [tensors(WANT * 2, inputs={"scale": ROWS}), tensors(WANT * 2, inputs={"scale": SAME})],
    [seen((WANT * 2, WANT), (WANT, WANT), dtype=torch.float32),
     seen((WANT, WANT * 3), (WANT, WANT), dtype=torch.float32, output=1)],
    [tensors(torch.where(WANT > -2, WANT * 2, 0.0), torch.where(WANT > -2, WANT, 0.0))], [tensors(FEW * 2, FEW)],
    [tensors((FEW * 2).index_fill(1, torch.tensor(6), math.nan), FEW)],
    [tensors(WANT.clone().requires_grad_() * 2, WANT)], [tensors(WANT * 2, inputs={"n": 7, "x": None})]],
    ids=range(14))
def test_which_cases_and_elements_a_relation_is_read_from(outcomes):
    assert (relation(outcomes) or "").startswith("Every element is twice what it should be")


@pytest.mark.parametrize("outcomes", [
    [tensors(WANT * 2, unwritten=True)], [tensors(WANT * 2), tensors([1.0])], [tensors(torch.zeros(5, 7))],
    [tensors(WANT * 2), tensors(WANT * 3)], [tensors(torch.full((5, 7), math.nan))], [tensors(WANT[0, :1] * 2, WANT[0, :1])],
    [tensors(WANT * ROWS[:, None], inputs={"rows": ROWS.long()})]], ids=range(7))
def test_tensors_in_which_nothing_is_read(outcomes):
    assert relation(outcomes) is None


@pytest.mark.parametrize(("dtype", "within", "beyond"), [
    (torch.float16, 2.0**-9, 2.0**-8), (torch.bfloat16, 2.0**-6, 2.0**-5), (torch.float32, 0.9e-4, 1.2e-4)])
def test_a_relation_holds_as_exactly_as_the_type_allows(dtype, within, beyond):
    want = torch.tensor([1.0, 2.0, -4.0, 8.0, 16.0])
    for off, said in ((within, True), (beyond, False)):
        found = relation([seen((-want * (1 + off)).to(dtype), want.double(), dtype=dtype)])
        assert (found == "Every element is right but for its sign.") == said
    found = relation([seen(1 - 100_000 * want.long(), 100_000 * want.double(), dtype=torch.int64)])
    assert "its sign" not in (found or ""), "whole numbers are exact"


@pytest.mark.parametrize(("size", "others", "negative", "said"), [
    (100, 2, 50, True), (100, 3, 50, False), (100, 0, 2, True), (100, 0, 1, False), (200, 0, 4, True), (200, 0, 3, False),
    (10, 0, 1, False), (10, 0, 2, True)])
def test_a_relation_holds_nearly_everywhere_and_explains_enough(size, others, negative, said):
    want = 3 + torch.arange(float(size)) ** 1.5
    want[:negative] *= -1
    got = want.abs()
    got[size - others:] += 7 * got[size - others:]
    assert ("its sign is lost" in (relation([tensors(got, want)]) or "")) == said


@pytest.mark.parametrize(("got", "inputs", "said"), [
    (WANT * 3, {"n": 3}, "multiplied with `n`."), (WANT / 3, {"n": 3}, "divided by `n`."),
    (WANT * 2, {"n": 2}, "multiplied with `n`."), (WANT * 2.006, {"n": 0}, "2.006 times what it should be."),
    (WANT * 1.7, {"n": 1}, "1.7 times what it should be.")], ids=range(5))
def test_a_tensor_is_said_in_terms_of_a_number(got, inputs, said):
    assert relation([tensors(got, WANT, inputs=inputs)]) == f"Every element is {said}"
