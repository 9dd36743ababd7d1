"""What holds for every exercise's cases and oracle, whatever is asked: inputs follow from the seed, results that the last
rounding alone parts from the exact ones pass, and what is special about a case is in its name.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from checks.exercises import EXERCISES
from checks.judge.exercise import Case, Exercise, Expected
from checks.judge.trial import drawn, prepare

SEED = 7
ALL = pytest.mark.parametrize("exercise", [pytest.param(e, id=e.name) for e in EXERCISES.values()], scope="module")


def same(one: Any, other: Any) -> bool:
    """Also in type, in how a tensor lies in memory, and where it is NaN."""
    if not isinstance(one, torch.Tensor):
        return type(one) is type(other) and one == other
    return (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride()) and bool(
        ((one == other) | (one.isnan() & other.isnan())).all())


def all_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)


@ALL
def test_inputs_follow_from_the_seed_alone(exercise):
    """All of a case's chance is the generator's: the same seed draws the same, another one something else."""
    for case in exercise.cases:
        inputs = drawn(case, SEED)
        assert all_same(inputs, drawn(case, SEED)), case.name
        generator = torch.Generator().manual_seed(SEED)
        before = generator.get_state()
        case.inputs(generator)
        chance = not torch.equal(before, generator.get_state())
        assert chance is not all_same(inputs, drawn(case, SEED + 1)), case.name


@ALL
def test_an_oracle_leaves_its_inputs_and_says_the_same_again(exercise):
    for case in exercise.cases:
        inputs = drawn(case, SEED)
        first, again = exercise.oracle(**inputs), exercise.oracle(**inputs)
        assert all_same(inputs, drawn(case, SEED)), case.name
        for one, other in zip(first, again, strict=True):
            assert all_same(vars(one), vars(other)), case.name


def outputs(exercise: Exercise) -> Iterator[tuple[str, Expected, torch.Tensor, torch.Tensor]]:
    """Of each case each output: what it is called, what is expected, and value and tolerance in float64, of one shape."""
    for case in exercise.cases:
        for name, expected in zip(exercise.outputs, prepare(exercise, case, SEED).expected, strict=True):
            value, off = torch.as_tensor(expected.value).double(), torch.as_tensor(expected.tolerance).double()
            yield f"{case.name}: {name}", expected, value, off.broadcast_to(value.shape)


HALF_UNIT = {torch.float16: (2.0**-11, 2.0**-14), torch.bfloat16: (2.0**-8, 2.0**-126), torch.float32: (2.0**-24, 2.0**-126)}
"""What rounding to a type errs by, of the number itself, and the number below which it errs by as much as there."""


@ALL
def test_the_exact_result_passes_once_it_is_rounded(exercise):
    """To its type, if that cannot hold it; what the type can hold may be asked for exactly."""
    for name, expected, value, off in outputs(exercise):
        finite = value.isfinite()
        assert (off[finite] >= 0).all(), name
        if expected.dtype in HALF_UNIT:
            unit, least = HALF_UNIT[expected.dtype]
            assert (value[finite].abs() <= torch.finfo(expected.dtype).max).all(), f"{name}: beyond its type"
            exact = value.to(expected.dtype).double() == value
            enough = off >= unit * value.abs().clamp(min=0 if expected.dtype == torch.float32 else least) * (1 - 1e-12)
            assert (enough | exact)[finite].all(), f"{name}: less than the rounding to {expected.dtype}"
        elif expected.dtype is None:
            assert off >= 2.0**-50 * abs(value) or value == value.round(), f"{name}: less than a float's rounding"


@ALL
def test_an_expected_output_is_of_its_output_s_kind(exercise):
    """Tensors exact in float64 or int64, whole numbers for whole types; plain numbers are Python's own."""
    for name, expected, value, off in outputs(exercise):
        if expected.dtype is None:
            assert type(expected.value) in (int, float) and math.isfinite(expected.value), name
            continue
        assert expected.value.dtype in (torch.float64, torch.int64), name
        if not expected.dtype.is_floating_point:
            assert (value == value.round()).all() and (off == off.round()).all(), name
            assert torch.equal(value.to(expected.dtype).double(), value), f"{name}: beyond its type"


@ALL
def test_a_turned_sign_leaves_the_tolerance(exercise):
    """Where turning all signs of one input turns or leaves every result, each may be as far off as before: terms that
    cancel were rounded all the same."""
    for case in exercise.cases:
        inputs, before = drawn(case, SEED), prepare(exercise, case, SEED).expected
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor) and (value < 0).any() and "scale" not in name:
                after = exercise.oracle(**inputs | {name: -value})
                for one, other in zip(before, after, strict=True):
                    size, turned = (torch.as_tensor(each.value).double().abs() for each in (one, other))
                    if torch.equal(size.nan_to_num(7), turned.nan_to_num(7)):
                        assert same(*(torch.as_tensor(each.tolerance) for each in (one, other))), f"{case.name}: {name}"


def tensors(case: Case) -> dict[str, torch.Tensor]:
    return {name: value for name, value in drawn(case, SEED).items() if isinstance(value, torch.Tensor)}


SPECIAL: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "gaps or another order in memory": (lambda value: not value.is_contiguous(), (
        "wider|apart|stored|column|halves|strides|rows of|cut")),
    "NaN": (lambda value: value.isnan().any(), "NaN|nan"),
    "infinity": (lambda value: value.isinf().any(), "Inf|inf|not reached"),
}
"""What a case is only where its name says so, and the words for it."""


@pytest.mark.parametrize("what", SPECIAL)
def test_what_is_special_is_in_a_case_s_name(what):
    """So that a message says on what a function fails."""
    there, words = SPECIAL[what]
    cases = [(exercise.name, case) for exercise in EXERCISES.values() for case in exercise.cases]
    special = {(name, case.name) for name, case in cases if any(map(there, tensors(case).values()))}
    assert special
    assert not [case for case in special if not re.search(words, case[1])]


SAID: dict[str, Callable[[float, list[float]], bool]] = {
    "number of": lambda value, all_of_them: value == round(value) > 0,
    r"`first` divided by `second`": lambda value, each: value == pytest.approx(each[0] / each[1]),
    r" in us$|^us$|median|GB/s": lambda value, each: value > 0,
    "^low$": lambda value, each: value <= each[0],
    "^high$": lambda value, each: value >= each[0],
    "^(?:program|lane)$": lambda value, each: value == round(value) >= -1,
}
"""What the name of a plain number says of it, beside all that come out."""


def test_a_number_is_what_its_name_says():
    """An output that is called the number of calls is one: messages name outputs by their place."""
    met = set()
    for exercise in EXERCISES.values():
        for case in exercise.cases:
            each = [expected.value for expected in prepare(exercise, case, SEED).expected]
            for name, value in zip(exercise.outputs, each, strict=True):
                for phrase in (phrase for phrase in SAID if not isinstance(value, torch.Tensor) and re.search(phrase, name)):
                    met.add(phrase)
                    assert SAID[phrase](value, each), f"{exercise.name}: {case.name}: {name}"
    assert met == SAID.keys()
