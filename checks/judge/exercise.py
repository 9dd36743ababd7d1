"""What an exercise is: what is asked of a student's function, and the mistakes that are known by name."""

import functools
import importlib
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton.runtime import KernelInterface

from checks.host.steps import ALLOCATIONS, MOVES_ONLY, VIEWS
from checks.judge.recorded import placed
from checks.judge.source import Function, answer_module, answer_source, define, python_function, rebind


@dataclass(frozen=True)
class Case:
    """One call: `inputs(generator)` makes its arguments by name, tensors on the CPU or numbers."""

    name: str
    inputs: Callable[[torch.Generator], dict[str, Any]]


def numbers(**values: float) -> Case:
    """A case whose arguments are these numbers, and whose name shows them."""
    return Case(", ".join(f"{name}={value}" for name, value in values.items()), lambda _: dict(values))


@dataclass(frozen=True)
class Expected:
    """What one output must be: exact `value` in float64 (or int64), within `tolerance` of it, element by element."""

    value: torch.Tensor | float
    tolerance: torch.Tensor | float = 0.0
    dtype: torch.dtype | None = None  # None for a plain number


class WrongAnswer(Exception):
    """Raised by an `adapter` where what came back cannot even be compared; the message says what is wrong with it."""


@dataclass(frozen=True, eq=False)
class Mutant:
    """A known mistake: the answer with edits {old: new}, and what to tell the student who made it."""

    name: str
    edits: Mapping[str, str]
    advice: str


@dataclass(frozen=True)
class Exercise:
    """One function for a student to write, in the notebook `lesson`.

    `name` is that of the answer, a function somewhere in `kernels`; where it is a kernel, `wrapper` is the function beside
    it that launches it. `oracle(**inputs)` says what the outputs must be. `least_bytes(**inputs)` is the traffic no kernel
    can go below; None for an exercise that moves no data. A kernel may move `traffic_limit` times the answer's bytes.
    Where the kernel itself only moves numbers, `moves_only`, torch's copies would do its work.
    `adapter(function, **inputs)` makes the outputs where the function's own arguments and results are no tensors or numbers,
    such as a timer's. Where no mutant does the same, `explain(outcome)` may find a sentence in the numbers of a failed case,
    or None. It is asked only where all are numbers, and as many as wanted.
    """

    name: str
    lesson: str
    points: int
    cases: tuple[Case, ...]
    oracle: Callable[..., tuple[Expected, ...]]
    mutants: tuple[Mutant, ...]
    wrapper: str | None = None
    outputs: tuple[str, ...] = ("result",)
    least_bytes: Callable[..., int] | None = None
    traffic_limit: float = 1.25
    moves_only: bool = False
    adapter: Callable[..., Any] | None = None
    explain: Callable[..., str | None] | None = None

    @functools.cached_property
    def module(self) -> types.ModuleType:
        return importlib.import_module(answer_module(self.name))

    @property
    def is_kernel(self) -> bool:
        return self.wrapper is not None

    def work_of(self, operators: Iterable[str]) -> list[str]:
        """Those of torch's operators that do a part of the kernel's work."""
        return sorted(set(operators) - (ALLOCATIONS | VIEWS if self.moves_only else MOVES_ONLY))

    def answer_function(self) -> Function:
        return getattr(self.module, self.name)

    def callable_for(self, function: Function) -> Callable[..., Any]:
        """What to call to try `function`: itself, or our wrapper with `function` as its kernel, or called by its kernel."""
        if self.adapter is not None:
            return functools.partial(self.adapter, function)
        if self.wrapper is None or python_function(function).__name__ != self.name:
            return function
        wrapper, ours = getattr(self.module, self.wrapper), vars(self.module)
        callers = {name: triton.jit(rebind(python_function(ours[name]), **{self.name: function}))
                   for name in wrapper.__code__.co_names
                   if isinstance(ours.get(name), KernelInterface)
                   and self.name in python_function(ours[name]).__code__.co_names}
        called = rebind(wrapper, **{self.name: function}, **callers)
        if not callers:
            placed(called, wrapper, function)
        return called

    def written_by_student(self, function: Function) -> Function:
        """The function that held the placeholder: the kernel that the wrapper `function` launches, or `function` itself.

        Raises NameError when `function` launches no kernel of the exercise's name.
        """
        if not self.is_kernel or python_function(function).__name__ == self.name:
            return function
        if self.name not in function.__globals__:
            raise NameError(f"`{self.wrapper}` is here, but no kernel `{self.name}`: run the cell of the exercise first, "
                            "and keep the kernel's name")
        return function.__globals__[self.name]

    @functools.cache  # noqa: B019  exercises live as long as the process; Triton takes a while to rewrite a kernel
    def mutated(self, mutant: Mutant) -> Function:
        """The answer with the mutant's mistake in it, the same function each time: the interpreter rewrites it once."""
        return self.edited(*mutant.edits.items())

    def edited(self, *edits: tuple[str, str]) -> Function:
        """The answer with each text in the place of another, new each time. Raises as `edited_source`."""
        return define(self.edited_source(*edits), self.name, dict(vars(self.module)))

    def edited_source(self, *edits: tuple[str, str]) -> str:
        """The answer's source, edited. Raises ValueError unless each (old, new) finds `old` there once."""
        source = answer_source(self.name)
        for old, new in edits:
            if source.count(old) != 1:
                raise ValueError(f"{self.name}: {old!r} stands {source.count(old)} times in the answer, not once, "
                                 f"and was to become {new!r}")
            source = source.replace(old, new)
        return source
