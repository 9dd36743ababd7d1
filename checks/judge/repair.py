"""Which one thing in a student's own source makes it right when it is changed: that was the mistake."""

import contextlib
import io
import itertools
import linecache
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from checks.judge import hints
from checks.judge.attempt import Attempt, attempt
from checks.judge.execution import attempt_kernel
from checks.judge.exercise import Exercise
from checks.judge.fixes import fixes
from checks.judge.source import Function, answer_source, define, python_function, source_of
from checks.judge.trial import CRASHED, PASSED, TIMEOUT, TIMEOUT_S, Outcome, try_again

TRIED, TRIED_KERNELS, MOST = 1500, 40, 2  # changes; a kernel must be compiled for each
SECONDS = 1.5  # of this process's time
ONE_CALL_S, ONE_LAUNCH_S = 1.0, 5.0  # of the clock; a first call of a kernel may import much, and must not be cut off in it


Item = TypeVar("Item")


def in_time(items: Iterable[Item]) -> Iterator[Item]:
    """Those that can be looked at within SECONDS."""
    end = time.process_time() + SECONDS
    return itertools.takewhile(lambda _: time.process_time() < end, items)


def repaired(exercise: Exercise, written: Function, outcomes: Sequence[Outcome]) -> str | None:
    """A sentence on the one thing in `written` with whose change it is right on every case, or None.

    Where two changes of a kind, as likely, both make it right, there are two sentences.

    It runs the student's code, so it is for the student's own machine alone.
    """
    if hints.definition(written) is None:  # of a lambda Python knows the statement that it stands in
        return None
    if any(outcome.status == TIMEOUT for outcome in outcomes):
        return None
    try:
        if _is_right(exercise, written, source_of(written), outcomes, TIMEOUT_S):
            return None  # with our wrapper: the mistake is in theirs
        changes = fixes(source_of(written), answer_source(exercise.name), _line_of_error(outcomes))
        found: list[str] = []
        likely: object = None
        for source, sentence, rank in in_time(itertools.islice(changes, TRIED_KERNELS if exercise.is_kernel else TRIED)):
            if found and (rank != likely or len(found) == MOST):
                break
            another = sentence not in found and all(_kind(sentence) == _kind(other) for other in found)
            if another and _is_right(exercise, written, source, outcomes):
                found, likely = [*found, sentence], rank
        return " Or: ".join(found) or None
    except (OSError, SyntaxError, ValueError):  # its source is not known, or no function
        pass
    return None


def _kind(sentence: str) -> str:
    return re.sub(r"`[^`]*`|[\d.,]+", "", sentence)


def _line_of_error(outcomes: Sequence[Outcome]) -> str | None:
    """The line in which a call was given what it cannot take; an access out of bounds may well be wrong elsewhere."""
    failed = next(outcome for outcome in outcomes if outcome.status != PASSED)
    place = re.search(r"^ +at: (.*)$", failed.message, re.MULTILINE)
    return place[1] if place and failed.status == CRASHED else None


def _is_right(exercise: Exercise, written: Function, source: str, outcomes: Sequence[Outcome], limit_s: float | None = None
              ) -> bool:
    name = python_function(written).__name__
    attempt_at, usual_s = (attempt_kernel, ONE_LAUNCH_S) if exercise.is_kernel else (attempt, ONE_CALL_S)

    def run(call: Callable[..., Any], inputs: dict[str, Any], _: float) -> Attempt:
        return attempt_at(call, inputs, limit_s or usual_s)

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, on a change that the student did not write
        try:
            function: Function = define(source, name, dict(python_function(written).__globals__))
        except Exception:
            return False
        try:
            return all(try_again(exercise, function, outcome, run).status == PASSED for outcome in failed_first(outcomes))
        except Exception:  # numbers too large to be compared
            return False
        finally:
            linecache.cache.pop(python_function(function).__code__.co_filename, None)


def failed_first(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Cases that failed before others, for they rule most out; of these the quickest to run."""
    return sorted(outcomes, key=lambda outcome: (
        outcome.status == PASSED, sum(len(launch.accesses) for launch in outcome.launches)))
