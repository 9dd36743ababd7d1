"""Why a result is wrong: the same mistake, made on purpose, gives the same output."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch

from checks.judge import hints
from checks.judge.exercise import Exercise, Mutant
from checks.judge.launches import OutOfBounds, Traffic
from checks.judge.relations import relation
from checks.judge.slips import find_slip
from checks.judge.source import Function, answer_source
from checks.judge.trial import PASSED, TIMEOUT, Outcome, try_again, where
from checks.judge.variations import variations_of, varied


def reason(exercise: Exercise, written: Function | str, outcomes: Sequence[Outcome], seed: int) -> str | None:
    """A sentence on the mistake of a function that does what no mutant does, or None.

    In this order: the exercise's own reading of the numbers, a slip in the source, how they relate to the right ones, and
    the answer with one thing changed that does the same.
    """
    failed = next(outcome for outcome in outcomes if outcome.status != PASSED)
    return (explained(exercise, failed) or _slip(exercise, written) or relation(outcomes) or _variation(exercise, outcomes)
            or never_read(failed))


def _slip(exercise: Exercise, written: Function | str) -> str | None:
    mine, answer = hints.definition(written), hints.definition(answer_source(exercise.name))
    return find_slip(mine, answer) if mine and answer else None


def _variation(exercise: Exercise, outcomes: Sequence[Outcome]) -> str | None:
    """As what variation of the answer it comes out, on every case."""
    if exercise.is_kernel or exercise.adapter is not None or any(outcome.status == TIMEOUT for outcome in outcomes):
        return None
    outcomes = sorted(outcomes, key=lambda outcome: outcome.status == PASSED)  # a failing case rules most out at once
    for variation in variations_of(exercise.name):
        function, same = varied(exercise, variation), True
        for outcome in outcomes:
            tried = try_again(exercise, function, outcome)
            if tried.launches:
                return None  # kernels take too long
            same = same and _alike(outcome, tried)
            if not same:
                break
        if same:
            return f"It comes out as if {variation.sentence}."
    return None


def recognise(exercise: Exercise, outcomes: Sequence[Outcome], seed: int) -> Mutant | None:
    """The mutant that does what the student's function did on every case, or None."""
    # A failing case rules most mutants out at once; the one with the fewest loads and stores is the quickest to run.
    outcomes = sorted(outcomes, key=lambda outcome: (
        outcome.status == PASSED, sum(len(launch.accesses) for launch in outcome.launches)))
    for mutant in exercise.mutants:
        if all(_alike(outcome, _mutant_on(exercise, mutant, outcome, seed)[0]) for outcome in outcomes):
            return mutant
    return None


KEPT = 4096  # outcomes of mutants
_Tried = tuple[Outcome, Traffic]
_tried: dict[tuple[str, str, str, int], _Tried] = {}


def _mutant_on(exercise: Exercise, mutant: Mutant, seen: Outcome, seed: int) -> _Tried:
    """What a mutant comes to on the student's case and moves, kept for later checks without the trace, which is large."""
    key = exercise.name, mutant.name, seen.case.name, seed
    if key not in _tried:
        outcome = try_again(exercise, exercise.mutated(mutant), seen)
        traffic = outcome.traffic()
        outcome.inputs, outcome.given, outcome.expected, outcome.launches, outcome.wrong = {}, {}, (), [], None
        if outcome.error is not None:  # its traceback would keep every frame, and all their tensors
            outcome.error = outcome.error.with_traceback(None)
            outcome.error.__context__ = None
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


def never_read(outcome: Outcome) -> str | None:
    """A sentence on the part of an input that no program has read, where the trace knows."""
    for name, value in outcome.inputs.items():
        if not isinstance(value, torch.Tensor) or outcome.wrong is None:
            continue
        read = outcome.loaded(name)
        if read is not None and not read.all():
            return f"{int((~read).sum())} of the {value.numel()} elements of `{name}` are never read{where(~read, name)}."
    return None


def _alike(mine: Outcome, theirs: Outcome) -> bool:
    if (mine.status, mine.unwritten, len(mine.outputs)) != (theirs.status, theirs.unwritten, len(theirs.outputs)):
        return False
    if mine.error is not None or theirs.error is not None:
        return _same_error(mine.error, theirs.error)
    return all(_same_value(a, b, want.tolerance)
               for a, b, want in zip(mine.outputs, theirs.outputs, mine.expected, strict=True))


def _same_error(a: BaseException | None, b: BaseException | None) -> bool:
    return a.same_as(b) if isinstance(a, OutOfBounds) else type(a).__name__ == type(b).__name__ and str(a) == str(b)


def _same_value(a: Any, b: Any, tolerance: torch.Tensor | float) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return (isinstance(a, Real) and isinstance(b, Real)
                and (math.isclose(a, b, abs_tol=tolerance) and math.isclose(a, b, rel_tol=0.1)  # not all tiny numbers
                     or math.isnan(a) and math.isnan(b)))
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if isinstance(tolerance, torch.Tensor) and tolerance.shape != a.shape:
        tolerance = 0.0  # both have the same wrong shape, to which no bound belongs
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    return bool(((a == b) | (a.isnan() & b.isnan()) | ((a - b).abs() <= tolerance)).all())
