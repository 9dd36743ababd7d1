"""A class: every submission of a folder graded by a few processes, each result on the disk as soon as it is there."""

import ctypes
import json
import multiprocessing
import os
import random
import secrets
import signal
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from checks.files import write_atomically
from checks.grader import results
from checks.grader.grader import Grader, faulty
from checks.grader.intake.submissions import find_submissions, read_submission
from checks.grader.results import SubmissionResult
from checks.grader.selftest import check_canaries
from checks.grader.settings import Settings

_grader: Grader | None = None  # of a worker process
_checked = False  # whether it has judged the known-good and the known-bad submission as it must


@dataclass
class Tally:
    """What a run came to."""

    graded: int = 0
    kept: int = 0
    faults: int = 0
    seconds: float = 0.0


def class_seed(grades: Path, resume: bool, seed_file: Path | None) -> int:
    """The seed of hidden sizes and inputs: from a file, from the run that is resumed, or new; kept in batch.json.

    Raises ValueError for a seed file that holds none.
    """
    path = grades / "batch.json"
    if seed_file is not None:
        text = seed_file.read_text().strip()
        if not text:
            raise ValueError(f"{seed_file} is empty: it must hold the seed, any line of text")
        seed = random.Random(text).getrandbits(32)
    else:
        try:
            seed = json.loads(path.read_text())["seed"] if resume else secrets.randbits(32)
        except (OSError, ValueError, KeyError):
            seed = secrets.randbits(32)
    write_atomically(path, json.dumps({"schema": results.SCHEMA, "seed": seed}) + "\n")
    return seed


def grade_class(folder: Path, grades: Path, settings: Settings, jobs: int, only: tuple[str, ...] = (), resume: bool = False,
                say=print) -> Tally:
    """Grade every submission of `folder` into `grades`.

    Raises ValueError for a folder that cannot be used, Fault where grading cannot start, Misjudged where the known-good or
    the known-bad submission is misjudged: then no result can be trusted, and the run stops.
    """
    found = find_submissions(folder)
    unknown = set(only) - set(found)
    if unknown:
        raise ValueError(f"there is no submission of {', '.join(sorted(unknown))}; "
                         f"there are {', '.join(list(found)[:10])} …")
    found = {student: paths for student, paths in found.items() if not only or student in only}
    tally, started = Tally(), time.monotonic()
    waiting = dict(found)
    if resume:
        keys = Grader(settings)
        for student, paths in found.items():
            old = results.read_result(results.result_path(grades, student))
            if old and not faulty(old) and old["key"] == keys.key(read_submission(student, paths)):
                del waiting[student]
                tally.kept += 1
    if tally.kept:
        say(f"{tally.kept} of {len(found)} are graded already")
    count = len(waiting)
    while waiting:
        in_flight = _work(waiting, grades, settings, min(jobs, len(waiting)), tally, count, started, say)
        for student in in_flight:  # a worker died: each of those it may have been is tried once more, by itself
            alone = {student: waiting.pop(student)}
            if _work(dict(alone), grades, settings, 1, tally, count, started, say):
                _write_fault(student, alone[student], grades, settings)
                say(f"{student}: INFRASTRUCTURE ERROR, the grader's process died twice")
                tally.faults += 1
    tally.seconds = time.monotonic() - started
    return tally


def _work(waiting: dict, grades: Path, settings: Settings, jobs: int, tally: Tally, count: int, started: float,
          say) -> list[str]:
    """Grade what waits, taking out what is done; returns the students whose worker died."""
    context = multiprocessing.get_context("spawn")
    running = {}
    with ProcessPoolExecutor(jobs, context, _start_worker, (settings, os.getpid())) as pool:
        try:
            queue = list(waiting.items())
            while queue or running:
                while queue and len(running) < 2 * jobs:  # few at a time: the class may be large
                    student, paths = queue.pop(0)
                    running[pool.submit(_grade_and_write, student, paths, grades)] = student
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    fault, flags = faulty(result), sum(len(one["flags"]) for one in result["exercises"])
                    student = running.pop(future)
                    del waiting[student]
                    tally.graded += 1
                    tally.faults += fault
                    left = (time.monotonic() - started) / tally.graded * (count - tally.graded)
                    say(f"[{tally.graded}/{count}] {student}: {result['points']:g} of {result['possible']:g}"
                        + (f", {flags} flag(s)" if flags else "") + (", INFRASTRUCTURE ERROR" if fault else "")
                        + (f" · about {_time(left)} left" if tally.graded < count else ""))
        except BrokenProcessPool:
            return list(running.values())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return []


def _start_worker(settings: Settings, parent: int) -> None:
    global _grader
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no worker outlives the run
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _grader = Grader(settings)


def _grade_and_write(student: str, paths: list[Path], grades: Path) -> SubmissionResult:
    global _checked
    assert _grader is not None
    if not _checked:
        _grader.start()
        check_canaries(_grader)
        _checked = True
    result = _grader.grade(student, paths)
    results.write_result(grades, result)
    return result


def _write_fault(student: str, paths: list[Path], grades: Path, settings: Settings) -> None:
    """A result that says that this submission took its worker down twice."""
    submission = read_submission(student, paths)
    said = "the grader's process died twice while it worked on this submission"
    results.write_result(grades, Grader(settings).fault_result(submission, said))


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
