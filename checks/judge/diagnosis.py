"""Why a result is wrong: the same mistake, made on purpose, gives the same output."""

import ast
import contextlib
import functools
import itertools
import math
import re
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch

from checks.judge import hints, slips
from checks.judge.exercise import Exercise, Expected, Mutant
from checks.judge.launches import OutOfBounds, Traffic
from checks.judge.relations import relation
from checks.judge.repair import failed_first, in_time, repaired
from checks.judge.source import Function, answer_source
from checks.judge.trial import PASSED, TIMEOUT, Outcome, try_again, where
from checks.judge.variations import variations_of, varied


def reason(exercise: Exercise, written: Function | str, outcomes: Sequence[Outcome], seed: int) -> str | None:
    """A sentence on the mistake of a function that does what no mutant does, or None.

    Of an error it is what the error means. Else, in this order: a slip in a kernel's source, the one thing with whose change
    it is right, the exercise's own reading of the numbers, how they relate to the right ones, a name never used, a mutant
    that does nearly the same or the same on some cases, the answer with one thing changed, or with two mistakes.
    """
    failed = next(outcome for outcome in outcomes if outcome.status != PASSED)
    slip = _slip(exercise, written, slips.find_slip)
    if failed.error is not None:
        means = hints.in_message(written, failed.message)
        if exercise.is_kernel and (said := means or slip):
            return said
        if said := _repaired(exercise, written, outcomes) or _variation(exercise, outcomes, seed) or means:
            return said
    return ((exercise.is_kernel and slip) or _repaired(exercise, written, outcomes)
            or explained(exercise, failed) or slip or relation(outcomes)
            or _slip(exercise, written, slips.find_unused) or _nearly_a_mutant(exercise, outcomes, seed)
            or _variation(exercise, outcomes, seed) or _two_mutants(exercise, outcomes, seed)
            or never_read(exercise, failed))


def certain_slip(exercise: Exercise, written: Function | str, error: BaseException | None) -> str | None:
    """A sentence on a slip in the source that is wrong in any function; where a call was refused, on its arguments too."""
    said = None
    if type(error).__name__ == "TypeError":  # in the grader too, which makes it anew from its name
        said = _slip(exercise, written, slips.find_other_arguments)
    return said or _slip(exercise, written, slips.find_certain_slip)


def _slip(exercise: Exercise, written: Function | str, find: Callable[[ast.FunctionDef, ast.FunctionDef], str | None]
          ) -> str | None:
    mine, answer = hints.definition(written), hints.definition(answer_source(exercise.name))
    # A wrapper takes arguments of its own.
    return find(mine, answer) if mine and answer and mine.name == answer.name else None


def _repaired(exercise: Exercise, written: Function | str, outcomes: Sequence[Outcome]) -> str | None:
    return None if isinstance(written, str) else repaired(exercise, written, outcomes)


def _variation(exercise: Exercise, outcomes: Sequence[Outcome], seed: int) -> str | None:
    """As what variation of the answer it comes out, on every case."""
    if exercise.is_kernel or exercise.adapter is not None or any(outcome.status == TIMEOUT for outcome in outcomes):
        return None
    if any(outcome.launches for outcome in outcomes):
        return None  # kernels take too long
    for variation in in_time(variations_of(exercise.name)):
        if _does_the_same(exercise, (variation.source,), functools.partial(varied, exercise, variation), outcomes, seed):
            return f"It comes out as if {variation.sentence}."
    return None


def _does_the_same(exercise: Exercise, what: tuple[str, ...], make: Callable[[], Function], outcomes: Sequence[Outcome],
                   seed: int) -> bool:
    """Whether the function that `make` makes does; it is the exercise's `what`."""
    made = functools.cache(make)
    return all(_alike(outcome, _outcome_on(exercise, what, made, outcome, seed)[0]) for outcome in failed_first(outcomes))


LOOSELY = 0.02  # a part of what a result is off: how far another may be from it that is wrong for the same reason


def _nearly_a_mutant(exercise: Exercise, outcomes: Sequence[Outcome], seed: int) -> str | None:
    """The mutant that is as wrong in another order of adding, or wrong in the same way on some of the cases that failed and
    right on all others: there is a second mistake then. Of single numbers too many mistakes are alike."""
    failed = failed_first([outcome for outcome in outcomes if outcome.status != PASSED])
    if any(want.dtype is None for want in failed[0].expected):
        return None
    passed = [outcome for outcome in outcomes if outcome.status == PASSED]
    for mutant in exercise.mutants:
        same = [_alike(outcome, _mutant_on(exercise, mutant, outcome, seed)[0], LOOSELY) for outcome in failed[:2]]
        if any(same) and all(_mutant_on(exercise, mutant, outcome, seed)[0].status == PASSED for outcome in passed):
            others = [(outcome, _mutant_on(exercise, mutant, outcome, seed)[0]) for outcome in failed]
            rest = [(outcome, other) for outcome, other in others if not _alike(outcome, other, LOOSELY)]
            if 2 * len(rest) > len(failed):
                continue  # on a small case many mistakes are the same
            alone = [outcome for outcome, other in rest if other.status == PASSED]
            more = f" It is not the only mistake: it does not explain the case '{alone[0].case.name}'." if alone else ""
            return f"{mutant.name}. {mutant.advice}{more}"
    return None


def _two_mutants(exercise: Exercise, outcomes: Sequence[Outcome], seed: int) -> str | None:
    """Two mutants that together do the same. For plain functions alone: kernels take too long."""
    if exercise.is_kernel:
        return None
    for one, other in in_time(itertools.combinations(exercise.mutants, 2)):
        make = functools.partial(_of_two, exercise, one, other)
        with contextlib.suppress(_SameText):
            if _does_the_same(exercise, (one.name, other.name), make, outcomes, seed):
                return f"two mistakes at once, {one.name}, and {other.name}. {one.advice} {other.advice}"
    return None


class _SameText(Exception):
    """Both of two mutants change it."""


def _of_two(exercise: Exercise, one: Mutant, other: Mutant) -> Function:
    try:
        return exercise.edited(*one.edits.items(), *other.edits.items())
    except (ValueError, SyntaxError):
        raise _SameText from None


def recognise(exercise: Exercise, outcomes: Sequence[Outcome], seed: int) -> Mutant | None:
    """The mutant that does what the student's function did on every case, or None."""
    outcomes = failed_first(outcomes)
    for mutant in exercise.mutants:
        if all(_alike(outcome, _mutant_on(exercise, mutant, outcome, seed)[0]) for outcome in outcomes):
            return mutant
    return None


_PLACE = re.compile(r"(<[^>]*>|/\S+\.py):\d+")  # a line of a cell
KEPT = 1 << 16  # outcomes of mutants: all of the course on a class's cases, about 20 MB
_Tried = tuple[Outcome, Traffic]
_tried: dict[tuple[str, tuple[str, ...], str, int], _Tried] = {}


def _mutant_on(exercise: Exercise, mutant: Mutant, seen: Outcome, seed: int) -> _Tried:
    """What a mutant comes to on the student's case and moves."""
    return _outcome_on(exercise, (mutant.name,), lambda: exercise.mutated(mutant), seen, seed)


def _outcome_on(exercise: Exercise, what: tuple[str, ...], make: Callable[[], Function], seen: Outcome, seed: int) -> _Tried:
    """What the exercise's `what` comes to on the student's case and moves, kept for later checks without the trace, which is
    large. `make` gives its function."""
    key = exercise.name, what, seen.case.name, seed
    if key not in _tried:
        outcome = try_again(exercise, make(), seen)
        traffic = outcome.traffic()
        outcome.inputs, outcome.given, outcome.expected, outcome.launches, outcome.wrong = {}, {}, (), [], None
        outcome.made = None
        if outcome.error is not None:  # its traceback would keep every frame, and all their tensors
            outcome.error = outcome.error.with_traceback(None)
            outcome.error.__context__ = None
        if outcome.status == TIMEOUT:  # another time it may not
            return outcome, traffic
        if len(_tried) >= KEPT:
            _tried.clear()
        _tried[key] = outcome, traffic
    return _tried[key]


def recognise_traffic(exercise: Exercise, outcome: Outcome, seed: int) -> Mutant | None:
    """The mutant whose result is right too and which moves the same bytes, tensor by tensor."""
    for mutant in exercise.mutants:
        other, traffic = _mutant_on(exercise, mutant, outcome, seed)
        if other.status == PASSED and traffic == outcome.traffic():
            return mutant
    return None


def explained(exercise: Exercise, outcome: Outcome) -> str | None:
    """The exercise's own sentence on the numbers that came out, where they are as many as wanted."""
    said = outcome.outputs
    if exercise.explain is None or len(said) != len(outcome.expected) or not all(isinstance(value, Real) for value in said):
        return None
    return exercise.explain(outcome)


def never_read(exercise: Exercise, outcome: Outcome) -> str | None:
    """A sentence on a part of an input that the answer reads and no program has read, where the trace knows."""
    if outcome.wrong is None or not any(outcome.loaded(name) is not None for name in outcome.inputs):
        return None
    answer = try_again(exercise, exercise.answer_function(), outcome)
    for name in outcome.inputs:
        read, needed = outcome.loaded(name), answer.loaded(name)
        if read is not None and needed is not None and (missed := needed & ~read).any():
            return f"{int(missed.sum())} of the {read.numel()} elements of `{name}` are never read{where(missed, name)}."
    return None


def _alike(mine: Outcome, theirs: Outcome, loosely: float = 0.0) -> bool:
    if (mine.status, mine.unwritten, len(mine.outputs)) != (theirs.status, theirs.unwritten, len(theirs.outputs)):
        return False
    if mine.error is not None or theirs.error is not None:
        return _same_error(mine.error, theirs.error, loosely)
    return all(_same_value(a, b, want, loosely)
               for a, b, want in zip(mine.outputs, theirs.outputs, mine.expected, strict=True))


def _same_error(a: BaseException | None, b: BaseException | None, loosely: float) -> bool:
    if loosely and isinstance(a, OutOfBounds) and isinstance(b, OutOfBounds):  # its lanes may lie in another order
        return (a.kind, a.tensor, a.program, a.lanes) == (b.kind, b.tensor, b.program, b.lanes)
    if isinstance(a, OutOfBounds):
        return a.same_as(b)
    return type(a).__name__ == type(b).__name__ and _PLACE.sub("", str(a)) == _PLACE.sub("", str(b))


def _same_value(a: Any, b: Any, want: Expected, loosely: float) -> bool:
    """Within the tolerance of each other. `loosely`: within that part of what `b` is off, but for 1 %."""
    tolerance = want.tolerance
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return (isinstance(a, Real) and isinstance(b, Real)
                and (math.isclose(a, b, abs_tol=tolerance) and math.isclose(a, b, rel_tol=0.1)  # not all tiny numbers
                     or math.isnan(a) and math.isnan(b)))
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if isinstance(tolerance, torch.Tensor) and tolerance.shape != a.shape:
        tolerance = 0.0  # both have the same wrong shape, to which no bound belongs
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    same = (a - b).abs() <= tolerance
    if not same.all():
        same |= (a == b) | (a.isnan() & b.isnan())
    if loosely and isinstance(want.value, torch.Tensor) and want.value.shape == a.shape:
        off = (b - want.value.double()).abs()
        wrong = off > tolerance
        same |= off.isfinite() & ((a - b).abs() <= loosely * off)
        empty = a.isnan() & wrong & ~same  # lanes of a load without `other` hold NaN here, in a mutant its `other`
        return int((~same & ~empty).sum()) <= 0.01 * int(wrong.sum()) and 2 * int(empty.sum()) <= int(wrong.sum())
    return bool(same.all())
