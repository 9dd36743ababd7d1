"""What a whole class is asked: each exercise's public cases, and hidden ones of other sizes, from one seed."""

import random
import types
from functools import cached_property
from typing import Any

import torch

from checks.judge.exercise import Case, Exercise
from checks.judge.trial import PASSED, Outcome, prepare, try_case

HIDDEN = 2  # cases of sizes that no notebook shows
HIDDEN_NUMBERS = 24  # of them where the inputs are numbers alone: a table or a rule with exceptions could guess a few
TRIES = 6  # for each
KEPT = "BLOCK", "low", "high"  # beginnings of names whose values are not varied, unless numbers alone are asked for
POWERS = "BLOCK", "num_warps"  # beginnings of names whose values are then other powers of two


class CaseSet:
    """One exercise for one class. Inputs and expected outputs are made once, and stay in this process."""

    def __init__(self, exercise: Exercise, seed: int):
        self.exercise, self.seed = exercise, seed
        self._asked: dict[str, Outcome] = {}

    def asked(self, case: Case) -> Outcome:
        """The case's inputs and what its outputs must be."""
        if case.name not in self._asked:
            self._asked[case.name] = prepare(self.exercise, case, self.seed)
        return self._asked[case.name]

    @cached_property
    def hidden(self) -> tuple[Case, ...]:
        """Cases of sizes drawn from the seed, which the answer passes. Empty where sizes cannot be varied."""
        rng = random.Random(f"{self.seed} {self.exercise.name}")
        found: list[Case] = []
        wanted = HIDDEN_NUMBERS if self.only_numbers else HIDDEN
        for index in range(TRIES * wanted):
            base = self.exercise.cases[index % len(self.exercise.cases)]
            case = vary(base, f"hidden case {len(found) + 1}", rng)
            if case is not None and self._admissible(case, base):
                found.append(case)
            if len(found) == wanted:
                break
        return tuple(found)

    def _admissible(self, case: Case, base: Case) -> bool:
        try:
            outcome = try_case(self.exercise, self.exercise.answer_function(), case, self.seed)
        except Exception:  # the oracle or the inputs do not allow this size
            return False
        return outcome.status == PASSED and _sizes(outcome.inputs) != _sizes(self.asked(base).inputs)

    @cached_property
    def answer(self) -> Outcome:
        """What the answer does on the first case, which is the largest."""
        outcome = try_case(self.exercise, self.exercise.answer_function(), self.exercise.cases[0], self.seed)
        outcome.outputs = ()
        return outcome

    @cached_property
    def only_numbers(self) -> bool:
        """Whether the public cases hold no fresh values, so that a table could answer them."""
        return not any(isinstance(value, torch.Tensor)
                       for case in self.exercise.cases for value in self.asked(case).inputs.values())

    @cached_property
    def data_bytes(self) -> int:
        """What a child may allocate: a view whose rows lie far apart reserves gigabytes that it never touches."""
        def extent(t) -> int:
            if not isinstance(t, torch.Tensor):
                return 0
            return t.element_size() * sum((n - 1) * stride for n, stride in zip(t.shape, t.stride(), strict=True))

        reserved = [sum(map(extent, self.asked(case).inputs.values())) for case in self.exercise.cases]
        return 2 * 2**30 + 3 * max(reserved)  # as they come, between bands, and outputs


def held_values(case: Case) -> dict[str, Any]:
    """What the function that makes a case's inputs holds by name: the sizes of `normal(M, K)`. Empty where it holds none."""
    make = case.inputs
    if not isinstance(make, types.FunctionType) or not make.__closure__:
        return {}
    return dict(zip(make.__code__.co_freevars, (cell.cell_contents for cell in make.__closure__), strict=True))


def vary(case: Case, name: str, rng: random.Random, sizes: dict[str, int] | None = None) -> Case | None:
    """The same kind of inputs in other sizes, drawn or given by name; None for a case that holds no sizes."""
    make, held = case.inputs, held_values(case)
    if not isinstance(make, types.FunctionType) or not held:
        return None
    other = {key: _other(key, value, rng) for key, value in held.items()} if sizes is None else held | sizes
    if other == held:
        return None
    closure = tuple(types.CellType(other[key]) for key in make.__code__.co_freevars)
    copy = types.FunctionType(make.__code__, make.__globals__, make.__name__, make.__defaults__, closure)
    return Case(name, copy)


def _other(name: str, value, rng: random.Random):
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return _same_structure(value, {key: _other(key, inner, rng) for key, inner in value.items()}, rng)
    if isinstance(value, dict):  # numbers by their place in a tensor, whose size grows by at least 1
        moved = rng.randint(0, 1)
        return {key + moved: _other("", inner, rng) for key, inner in value.items()}
    if isinstance(value, bool) or name.startswith(KEPT):
        return value
    if isinstance(value, int) and value > 1:
        return value + rng.randint(1, max(2, min(value // 4, 37)))
    if isinstance(value, float) and 0 < value < 1:  # a part of something stays one
        return value + (1 - value) * rng.uniform(0.05, 0.5)
    if isinstance(value, float):
        return value * rng.uniform(1.05, 1.5)
    return value


def _same_structure(value: dict, drawn: dict, rng: random.Random) -> dict:
    """`drawn` with numbers that are equal, or multiples of another, where those of `value` are, and other powers of two."""
    for key, number in value.items():
        if type(number) is int and key.startswith(POWERS):
            drawn[key] = number * 2 ** rng.randint(0, 1)
        elif isinstance(number, float) and key.startswith(KEPT):
            drawn[key] = _other("", number, rng)
    whole = [key for key, number in value.items() if type(number) is int and number > 1]
    for key in (key for key in whole if not key.startswith(KEPT)):
        divisor = max((other for other in whole if value[other] < value[key] and value[key] % value[other] == 0),
                      key=lambda other: value[other], default=None)
        same = next((other for other in whole[:whole.index(key)] if value[other] == value[key]), None)
        if same is not None:
            drawn[key] = drawn[same]
        elif divisor is not None:
            drawn[key] = drawn[divisor] * (value[key] // value[divisor] + rng.randint(0, 2))
    return drawn


def _sizes(inputs: dict) -> list:
    return [(name, tuple(value.shape) if isinstance(value, torch.Tensor) else value) for name, value in inputs.items()]

