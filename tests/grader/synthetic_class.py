"""Make a class of invented students, grade it, and print how often the grader is right and how fast it is.

    python tests/grader/synthetic_class.py [--students 100] [--right 45] [--jobs 2] [--keep FOLDER]

Each student is honest in some exercises, makes a known mistake (a mutant) in others, leaves stubs, cheats, or hands in
something broken. What each exercise must get is known; the table counts, for each kind, how many got it.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import checks  # noqa: F401  first: it decides whether Triton interprets
from checks.exercises import EXERCISES
from checks.grader import results
from checks.grader.batch import Batch
from checks.grader.intake.library import lesson_cells
from checks.grader.selftest import CHEAT, mutated_source
from checks.grader.settings import Settings
from checks.judge.source import answer_source, find_mark

HERE = Path(__file__).parent
KINDS = {"honest": 45, "mistake": 40, "stub": 5, "cheat": 8, "syntax error": 2}  # of an exercise, in percent


def kinds(right: float) -> dict[str, float]:
    """How often each kind is, in percent, where `right` percent of the exercises are honest."""
    wrong = (100 - right) / (100 - KINDS["honest"])
    return {name: right if name == "honest" else often * wrong for name, often in KINDS.items()}


def notebook(cells: list[str]) -> str:
    """A notebook's JSON."""
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "outputs": [], "execution_count": None, "source": cell}
        for i, cell in enumerate(cells)]})


def write_student(folder: Path, rng: random.Random, mutants: dict,
                  often: dict[str, float] = KINDS) -> dict[str, tuple[str, str | None]]:
    """Write a student's notebooks; returns by exercise what it is, and the mistake."""
    known = {}
    folder.mkdir(parents=True)
    for lesson in sorted({exercise.lesson for exercise in EXERCISES.values()}):
        cells = []
        for cell in lesson_cells(lesson):
            marked, name = find_mark(cell) or ("", "")
            if marked == "exercise" and name in EXERCISES:
                exercise = EXERCISES[name]
                kind = rng.choices(list(often), list(often.values()))[0]
                source, mistake = exercise_source(exercise, kind, cell, mutants)
                known[exercise.name] = kind, mistake
                cell = f"# exercise: {exercise.name}\n{source}"
            cells.append(cell)
        (folder / f"{lesson}.ipynb").write_text(notebook(cells))
    return known


def exercise_source(exercise, kind: str, cell: str, mutants: dict) -> tuple[str, str | None]:
    if kind == "mistake":
        mutant = mutants[exercise.name].pop() if mutants[exercise.name] else exercise.mutants[0]
        return mutated_source(exercise, mutant), mutant.name
    if kind == "cheat" and exercise.is_kernel:
        return CHEAT.format(name=exercise.name), None
    if kind == "cheat":
        return f"def {exercise.name}(*arguments, **named):\n    import os\n    os._exit(0)\n", None
    if kind == "syntax error":
        return answer_source(exercise.name).replace("def ", "def def ", 1), None
    return (cell.partition("\n")[2] if kind == "stub" else answer_source(exercise.name)), None


def right(kind: str, mistake: str | None, got: dict) -> bool:
    """Whether a result is what the exercise must get."""
    if kind == "honest":
        return got["status"] == "passed" and got["points"] > got["possible"] - 1e-3 and not got["flags"]
    if kind == "mistake":
        return got["status"] != "passed" and got["points"] < got["possible"]
    wanted = {"stub": ("not attempted",), "syntax error": ("crashed",), "cheat": ("failed", "crashed", "held")}
    return got["status"] in wanted[kind] and got["points"] == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=100)
    parser.add_argument("--right", type=float, default=KINDS["honest"], help="percent of the exercises that are right")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="write submissions and grades here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        rng = random.Random(args.seed)
        mutants = {name: rng.sample(e.mutants, len(e.mutants)) for name, e in EXERCISES.items()}  # all are made
        names = [f"student{i:03}" for i in range(args.students)]
        known = {name: write_student(folder / "submissions" / name, rng, mutants, kinds(args.right))
                 for name in names}
        (folder / "submissions" / "broken.ipynb").write_text('{"cells": [')
        (folder / "submissions" / "empty.zip").write_bytes(b"")
        started = time.monotonic()
        batch = Batch(folder / "grades", Settings(args.seed), args.jobs,
                      say=lambda line: print(line, file=sys.stderr, flush=True))
        tally = batch.grade(folder / "submissions")
        seconds = time.monotonic() - started
        return report(results.read_results(folder / "grades"), known, tally, seconds, args.jobs)


def report(graded: list[dict], known: dict, tally, seconds: float, jobs: int) -> int:
    count, good, named, mistakes, slowest = Counter(), Counter(), 0, 0, Counter()
    for result in graded:
        for one in result["exercises"]:
            slowest[one["exercise"]] += one.get("seconds", 0)
            if result["student"] not in known or one["exercise"] not in known[result["student"]]:
                continue
            kind, mistake = known[result["student"]][one["exercise"]]
            count[kind] += 1
            fine = one["status"] != results.FAULT and right(kind, mistake, one)
            good[kind] += fine
            mistakes += mistake is not None
            named += mistake is not None and one["mistake"] == mistake
            if not fine:
                print(f"MISJUDGED {result['student']} {one['exercise']} ({kind}, {mistake}): {one['status']}, "
                      f"{one['points']}: {one['message'][:200]}")
    for kind in KINDS:
        print(f"{kind:13} {good[kind]:5} of {count[kind]:5} judged right")
    print(f"mistakes named as made: {named} of {mistakes} (others look the same as another mistake)")
    print(f"{tally.graded} submissions in {seconds:.0f} s on {jobs} processes: {60 * tally.graded / seconds:.1f} a minute, "
          f"{tally.faults} infrastructure errors; peak memory of this process "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    print("seconds by exercise: " + ", ".join(f"{name} {spent:.0f}" for name, spent in slowest.most_common(8)))
    return 0 if good == count and not tally.faults else 1


if __name__ == "__main__":
    sys.exit(main())
