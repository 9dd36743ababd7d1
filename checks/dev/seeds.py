"""`workshop.py dev seeds`: right answers on many seeds. Students draw their own, and one in a hundred must not fail either.

What fails rarely is mostly a number near a tie: float32 rounds it to another code than the oracle's float64.
"""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from checks.exercises import EXERCISES
from checks.judge.exercise import Exercise
from checks.judge.trial import PASSED
from checks.judge.verdict import judge

Refused = list[tuple[int, str]]


def refused(name: str, seeds: Sequence[int], exercises: dict[str, Exercise] = EXERCISES) -> tuple[str, Refused]:
    """Of the exercise `name` the seeds on which its own answer does not pass, each with what is said of it."""
    exercise = exercises[name]
    function = exercise.answer_function()
    verdicts = ((seed, judge(exercise, function, seed=seed)) for seed in seeds)
    return name, [(seed, verdict.message) for seed, verdict in verdicts if verdict.status != PASSED]


def refused_answers(names: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, Refused]]:
    """As `refused` says, exercise by exercise, on all of this machine's processors. Raises LookupError for a wrong name."""
    unknown = [name for name in names if name not in EXERCISES]
    if unknown:
        raise LookupError(f"there is no exercise {unknown[0]}")
    context: Any = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        jobs = [pool.submit(refused, name, seeds) for name in names or EXERCISES]
        for job in jobs:
            yield job.result()
