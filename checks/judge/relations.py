"""How wrong numbers relate to the right ones: twice as large, inverted, rounded, off by an input, its scale left out.

A relation counts only where it holds on every case that failed, and for plain numbers on those that passed as well.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import Any

import torch

from checks.judge.trial import PASSED, Outcome

_FACTORS = {
    2.0: "twice what it should be: is something counted twice, or a factor 2 too much?",
    0.5: "half of what it should be: is a factor 2 missing, or does something count once in place of twice?",
    4.0: "4 times what it should be", 0.25: "a quarter of what it should be",
    8.0: "8 times what it should be: bits are counted where bytes are wanted",
    0.125: "an eighth of what it should be: bytes are taken for bits",
    math.log(10): "2.3026 times what it should be: that is the natural logarithm in place of log10",
    1 / math.log(10): "0.4343 times what it should be: that is log10 in place of the natural logarithm",
    math.log2(10): "3.3219 times what it should be: that is log2 in place of log10",
    -math.log(10): "-2.3026 times what it should be: that is the natural logarithm in place of log10, of a quotient that is "
                   "inverted",
    100.0: "100 times what it should be: a percentage in place of a fraction", 0.01: "a hundredth of what it should be",
    -1.0: "right but for the sign",
    1.024: "1.024 times what it should be: units of 1,000 and of 1,024 are mixed",
    127 / 128: "127/128 of what it should be", 128 / 127: "128/127 of what it should be",
}
_POWERS = {10.0**n: f"10^{n} times what it should be: a unit is missing or there twice"
           for n in (-15, -12, -9, -6, -3, 3, 6, 9, 12, 15)}
Pairs = list[tuple[float, float, Outcome]]  # got, wanted


def relation(outcomes: Sequence[Outcome]) -> str | None:
    """A sentence on what the wrong outputs are in terms of the right ones, or None."""
    failed = [outcome for outcome in outcomes if outcome.status != PASSED and outcome.error is None]
    if not failed or any(not outcome.outputs or len(outcome.outputs) != len(outcome.expected) for outcome in failed):
        return None
    index = failed[0].output
    if all(outcome.output == index and _are_places(outcome, index) for outcome in failed):
        return "The places of those that are chosen come back, and a Boolean for each is wanted: True at these places."
    if all(_is_one_number(outcome) for outcome in failed):
        return ("One number comes back, and one for each row or column is wanted: give the reduction a `dim=`, and it "
                "keeps the other.")
    if failed[0].expected[index].dtype is None:
        return _of_numbers(outcomes, index)
    return _of_tensors([outcome for outcome in failed if outcome.output == index], index)


def _are_places(outcome: Outcome, index: int) -> bool:
    """Whether a vector of Booleans is wanted, and comes as the places at which they are True."""
    got, want = outcome.outputs[index], outcome.expected[index]
    return (want.dtype is torch.bool and isinstance(got, torch.Tensor) and isinstance(want.value, torch.Tensor)
            and got.ndim == 1 and got.detach().cpu().sort()[0].tolist() == want.value.nonzero().flatten().tolist())


def _is_one_number(outcome: Outcome) -> bool:
    """Whether a tensor without axes comes where one with axes is wanted."""
    got, want = outcome.outputs[outcome.output], outcome.expected[outcome.output].value
    return isinstance(got, torch.Tensor) and isinstance(want, torch.Tensor) and got.ndim == 0 and want.ndim > 0


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _of_numbers(outcomes: Sequence[Outcome], index: int) -> str | None:
    pairs: Pairs = []
    for outcome in outcomes:
        got = _number(outcome.outputs[index]) if len(outcome.outputs) == len(outcome.expected) else None
        want = _number(outcome.expected[index].value)
        if got is not None and want is not None:
            pairs.append((got, want, outcome))
    wrong = [pair for pair in pairs if pair[2].status != PASSED]
    if len(wrong) < 2:
        return None
    tests: tuple[Callable[[Pairs, Pairs], str | None], ...] = (_rounded, _constant_factor, _power, _input_factor, _term)
    return next((f"The result is {said}" for test in tests if (said := test(pairs, wrong))), None)


def _near(a: float, b: float, rel: float = 1e-6) -> bool:
    return math.isclose(a, b, rel_tol=rel, abs_tol=1e-12)


def _rounded(pairs: Pairs, wrong: Pairs) -> str | None:
    for name, rounding in (("down", math.floor), ("up", math.ceil), ("to the nearest whole number", round)):
        if all(_near(got, rounding(want)) for got, want, _ in pairs) and any(want for _, want, _ in wrong):
            return f"rounded {name}, and a fraction is wanted: is `//` or `round` there where `/` belongs?"
        if all(_near(want, rounding(got)) and got != round(got) for got, want, _ in wrong):
            return f"a fraction: rounded {name} it would be right."
    return None


def _constant_factor(pairs: Pairs, wrong: Pairs) -> str | None:
    if all(_near(got * want, 1) for got, want, _ in pairs):
        return "one divided by the right one: a quotient is inverted."
    got, want, _ = wrong[0]
    factor = got / want if want else 0.0
    if not factor or not all(_near(got, factor * want) for got, want, _ in pairs):
        return None
    said = next((text for known, text in (_FACTORS | _POWERS).items() if math.isclose(factor, known, rel_tol=1e-6)), None)
    said = said or f"{factor:.5g} times what it should be, in every case"
    return said if said[-1] in "?." else said + "."


def _power(pairs: Pairs, wrong: Pairs) -> str | None:
    if all(_near(got, want * want) for got, want, _ in pairs):
        return "the square of the right one: is a root missing?"
    if all(want >= 0 and _near(got, math.sqrt(want)) for got, want, _ in pairs):
        return "the root of the right one: no root belongs there."
    return None


def _sizes(outcome: Outcome) -> dict[str, float]:
    """The numbers among the inputs, and how long its tensors are."""
    found: dict[str, float] = {}
    for name, value in outcome.inputs.items():
        if isinstance(value, torch.Tensor):
            for axis, size in enumerate(value.shape):
                found[f"the length of `{name}`" + (f" along axis {axis}" if value.ndim > 1 else "")] = float(size)
        elif (number := _number(value)) is not None:
            found[f"`{name}`"] = number
    return found


def _input_factor(pairs: Pairs, wrong: Pairs) -> str | None:
    for name in _sizes(wrong[0][2]):
        of = [(got, want, _sizes(outcome).get(name, 0.0)) for got, want, outcome in pairs]
        for constant in (1.0, 2.0, 0.5, 4.0, 8.0):
            text = name if constant == 1 else f"{constant:g} times {name}"
            if all(_near(got, want * size * constant) for got, want, size in of):
                return f"larger than it should be by a factor: {text}."
            if all(_near(got * size * constant, want) for got, want, size in of):
                return f"smaller than it should be by a factor: {text}."
    return None


def _term(pairs: Pairs, wrong: Pairs) -> str | None:
    """The difference as a whole number times a product of inputs."""
    if len(pairs) < 3:
        return None
    names = list(_sizes(wrong[0][2]))
    sizes = [_sizes(outcome) for _, _, outcome in pairs]
    differences = [got - want for got, want, _ in pairs]
    at = max(range(len(pairs)), key=lambda i: abs(differences[i]))
    for chosen in (*itertools.chain(*(itertools.combinations_with_replacement(names, n) for n in range(3))),
                   *itertools.combinations(names, 3)):
        products = [math.prod(size.get(name, 0.0) for name in chosen) for size in sizes]
        factor = differences[at] / products[at] if products[at] else 0.0
        if abs(factor) in (0.5, 1, 2, 3, 4, 6, 8, 12, 16) and all(
                math.isclose(difference, factor * product, rel_tol=1e-6, abs_tol=1e-9 * abs(want))
                for difference, product, (_, want, _) in zip(differences, products, pairs, strict=True)):
            factors = [] if abs(factor) == 1 and chosen else [f"{abs(factor):g}"]
            term = " · ".join([*factors, *(name.strip("`") for name in chosen)])
            size = "large" if factor > 0 else "small"
            return f"too {size} by {term} in every case: is a part left out, counted twice, or of the wrong width?"
    return None


def _of_tensors(failed: list[Outcome], index: int) -> str | None:
    common: list[str] | None = None
    for outcome in failed:
        got, want = outcome.outputs[index], outcome.expected[index].value
        if not isinstance(got, torch.Tensor) or not isinstance(want, torch.Tensor) or got.shape != want.shape:
            return None
        if outcome.unwritten or want.numel() < 2:
            continue
        said = list(_fitting(outcome, got.detach().cpu(), want.double()))
        common = said if common is None else [text for text in common if text in said]
    return f"Every element is {common[0]}" if common else None


def _fitting(outcome: Outcome, got: torch.Tensor, want: torch.Tensor) -> Iterator[str]:
    """What candidates come to `got` wherever both are finite, and differ from `want` where it is wrong."""
    whole = not got.is_floating_point()
    part = 0.0 if whole else 2.0**-9 if got.dtype is torch.float16 else 2.0**-6 if got.dtype is torch.bfloat16 else 1e-4
    got = got.double()
    finite = got.isfinite() & want.isfinite()
    got, limit = torch.where(finite, got, 0), 1e-9
    for candidate, text in _candidates(outcome, got, want, finite, whole):
        candidate = candidate.expand(want.shape)
        at = finite & candidate.isfinite()
        bound = part * candidate.abs() + limit
        fits = at & ((got - candidate).abs() <= bound)
        predicted = at & ((candidate - want).abs() > bound)
        if int(fits.sum()) >= 0.98 * int(at.sum()) and int(predicted.sum()) >= max(2, 0.02 * want.numel()):
            yield text


def _candidates(outcome: Outcome, got: torch.Tensor, want: torch.Tensor, finite: torch.Tensor, whole: bool
                ) -> Iterator[tuple[torch.Tensor, str]]:
    yield -want, "right but for its sign."
    vectors = [(name, shaped) for name, value in outcome.inputs.items()
               if isinstance(value, torch.Tensor) and value.ndim == 1 and value.is_floating_point()
               for shaped in _along_axes(value.double(), want.shape)]
    for name, vector in vectors:
        yield want * vector, f"multiplied with `{name}` once too often."
        yield want / vector, f"what it should be without the factor `{name}`, or divided by it."
        yield want / vector / vector, f"divided by `{name}`, where it should be multiplied with it."
        yield want - vector, f"too small by `{name}`: it is not added."
        yield want + vector, f"too large by `{name}`: it is added twice."
        yield want - 2 * vector, f"too small by twice `{name}`: it is subtracted, not added."
    for name, size in _sizes(outcome).items():
        if size not in (0.0, 1.0):
            yield want / size, f"divided by {name}."
            yield want * size, f"multiplied with {name}."
    if not whole:
        yield want.trunc(), "cut down to a whole number: the fraction is thrown away."
        yield want.round(), "rounded to a whole number: the fraction is thrown away."
    else:
        yield (want + 128) % 256 - 128, "wrapped around as in INT8, which ends at 127."
        yield (want + 2**15) % 2**16 - 2**15, "wrapped around as in INT16, which ends at 32,767."
    yield want.square(), "the square of the right one."
    yield want.abs().sqrt(), "the root of the right one."
    yield want.abs(), "the magnitude of the right one: its sign is lost."
    if want.ndim == 2:
        yield want[:1], "that of row 0: every row is the same."
        yield want[:, :1], "that of column 0: every column is the same."
        yield want.flip(0), "that of the rows in reverse order."
    large = finite & (want.abs() >= want[finite].abs().median()) & (want != 0) if finite.any() else finite
    if large.any():
        factor = float((got[large] / want[large]).median())
        known = next((text for value, text in _FACTORS.items() if math.isclose(factor, value, rel_tol=2e-3)),
                     f"{factor:.4g} times what it should be")
        if abs(factor) > 1e-6:
            yield factor * want, known if known[-1] in "?." else known + "."
        offset = float((got - want)[finite].median())
        yield want + offset, f"too {'large' if offset > 0 else 'small'} by {abs(offset):.4g}, everywhere."


def _along_axes(vector: torch.Tensor, shape: torch.Size) -> Iterator[torch.Tensor]:
    for axis, size in enumerate(shape):
        if len(vector) == size:
            yield vector.reshape([-1 if d == axis else 1 for d in range(len(shape))])
