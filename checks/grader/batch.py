"""A class: every submission of a folder graded by a few processes, each result on the disk as soon as it is there."""

import contextlib
import ctypes
import errno
import fcntl
import json
import multiprocessing
import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from checks.files import write_atomically
from checks.grader import results
from checks.grader.gradebook import keep_attempt, keep_points, read_json, roster_of, withdraw
from checks.grader.grader import Grader, faulty
from checks.grader.intake.folder import HandedIn, Listing, find_submissions
from checks.grader.results import SubmissionResult
from checks.grader.sandbox.client import Fault
from checks.grader.selftest import check_canaries
from checks.grader.settings import Settings
from checks.grader.units import grade, handed_in_facts, read_unit

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""A disk that takes no more: to grade on would be to grade twice."""
Found = dict[str, HandedIn]  # by student
_grader: Grader | None = None  # of a worker process
_checked = False  # whether it has judged the known-good and the known-bad submission as it must


def any_seed(seed_file: Path | None) -> int:
    """The seed of a file, or a new one without. Raises ValueError for a file that holds none."""
    if seed_file is None:
        return secrets.randbits(32)
    text = seed_file.read_text().strip()
    if not text:
        raise ValueError(f"{seed_file} is empty: it must hold the seed, any line of text")
    return random.Random(text).getrandbits(32)


def class_seed(grades: Path, resume: bool, seed_file: Path | None, fixed: bool = False) -> int:
    """The seed of hidden sizes and inputs: from a file, from the run that is resumed, or new; kept in batch.json.

    fixed: it may not be new, since other shards of the class need the same. Raises ValueError for a seed file that holds
    none, and where a fixed seed is nowhere.
    """
    path = grades / "batch.json"
    if seed_file is not None:
        seed = any_seed(seed_file)
    else:
        kept = read_json(path).get("seed") if resume or fixed else None
        if kept is None and fixed:
            raise ValueError(f"--shard needs --seed-file, the same for all shards: {path} holds no seed")
        seed = secrets.randbits(32) if kept is None else kept
        if kept is not None:
            return seed
    write_atomically(path, json.dumps({"schema": results.SCHEMA, "seed": seed}) + "\n")
    return seed


@dataclass(frozen=True)
class Shard:
    """One of `count` equal parts of a class, from 1 on: of the students in order, every count-th."""

    number: int
    count: int

    def of(self, found: Found) -> Found:
        return dict(list(found.items())[self.number - 1::self.count])


def shard_named(text: str) -> Shard:
    """`3/20`. Raises ValueError for what is none."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"--shard takes a part such as 3/20, not {text!r}")
    return Shard(int(number), int(count))


@contextlib.contextmanager
def locked(grades: Path, shard: Shard | None = None) -> Iterator[None]:
    """Keep other runs out of the folder `grades` meanwhile, but for those of other shards. Raises ValueError where one is in
    it."""
    grades.mkdir(parents=True, exist_ok=True)
    locks = [(".lock", fcntl.LOCK_SH if shard else fcntl.LOCK_EX)]
    if shard:
        locks.append((f".lock-{shard.number}-of-{shard.count}", fcntl.LOCK_EX))
    with contextlib.ExitStack() as stack:
        for name, kind in locks:
            file = stack.enter_context((grades / name).open("w"))
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"another run is grading into {grades}: wait for it, or give another --out") from None
        yield


@dataclass
class Tally:
    """What a run came to, so far."""

    graded: int = 0
    kept: int = 0
    faults: int = 0
    unread: int = 0  # of which work could not be read, so that there is no zero for it
    seconds: float = 0.0


class Batch:
    """Grades the submissions of a folder into the folder `grades`, by `jobs` processes; `say` is told of each."""

    def __init__(self, grades: Path, settings: Settings, jobs: int = 1, say: Callable[[str], None] = print):
        self.grades, self.settings, self.jobs, self.say = grades, settings, jobs, say
        self.tally, self._count, self._started = Tally(), 0, 0.0

    def prepare(self, folder: Path) -> int:
        """What is done once before the shards of a class are graded; returns how many students there are."""
        listing = roster_of(self.grades).apply(find_submissions(folder))
        if read_json(self.grades / "class.json").get("finished", True):
            keep_points(self.grades)
        self.keep_listing(listing)
        return len(listing.students)

    def grade(self, folder: Path, only: tuple[str, ...] = (), resume: bool = False, shard: Shard | None = None) -> Tally:
        """Grade every submission, or `only` those of these students, or those of one shard; with `resume`, without those
        whose result still holds.

        Raises ValueError for a folder that cannot be used, Fault where grading cannot start, Misjudged where the known-good
        or the known-bad submission is misjudged: then no result can be trusted, and the run stops.
        """
        listing = roster_of(self.grades).apply(find_submissions(folder))
        found = listing.students
        unknown = set(only) - set(found)
        if unknown:
            raise ValueError(f"there is no submission of {', '.join(sorted(unknown))}; "
                             f"there are {', '.join(list(found)[:10])} …")
        interrupted = not read_json(self.grades / "class.json").get("finished", True)
        if not only and not (shard and (self.grades / "class.json").exists()):  # which is kept once for all shards
            self.keep_listing(listing, alone=not shard)
        if shard:
            found = shard.of(found)
        found = {student: one for student, one in found.items() if not only or student in only}
        waiting = self._without_kept(found) if resume else dict(found)
        if waiting and not interrupted and not shard:  # else the points before are those from before the interruption
            keep_points(self.grades)
        self.tally, self._count, self._started = Tally(kept=len(found) - len(waiting)), len(waiting), time.monotonic()
        if self.tally.kept:
            self.say(f"{self.tally.kept} of {len(found)} are graded already")
        while waiting:
            for student in self._work(waiting, self.jobs):  # a worker died: each that it may have been is tried again, alone
                handed_in = waiting.pop(student)
                if self._work({student: handed_in}, 1):
                    self._died_twice(handed_in)
        self.tally.seconds = time.monotonic() - self._started
        if not shard:
            kept = read_json(self.grades / "class.json")
            write_atomically(self.grades / "class.json", results.to_json(kept | {"finished": True}))
        return self.tally

    def keep_listing(self, listing: Listing, alone: bool = True) -> None:
        """Say and write down what belongs to no student, and who is not there any more or handed in nothing.

        Who is not there any more is moved only if no other run is in the folder, `alone`.
        """
        roster = roster_of(self.grades)
        absent = roster.absent(listing.students)
        gone = withdraw(self.grades, {*listing.students, *roster.students}) if alone else []
        for sentence in [*listing.notices, *gone]:
            self.say(sentence)
        if absent:
            self.say(f"{len(absent)} of the roster handed in nothing: {', '.join(absent)}")
        kept = {"schema": results.SCHEMA, "notices": listing.notices, "absent": absent,
                "students": list(listing.students), "finished": False}
        write_atomically(self.grades / "class.json", results.to_json(kept))

    def _without_kept(self, found: Found) -> Found:
        grader, waiting = Grader(self.settings), {}
        for student, handed_in in found.items():
            old = results.read_result(results.result_path(self.grades, student))
            unit = None if old is None or results.is_open(old) else read_unit(handed_in)
            if old is None or unit is None or old["key"] != grader.key(unit.submission):
                waiting[student] = handed_in
            elif old != (now := old | handed_in_facts(grader, unit)):  # the same work, under another name or date
                results.write_result(self.grades, now)
        return waiting

    def _work(self, waiting: Found, jobs: int) -> list[str]:
        """Grade what waits, taking out what is done; returns the students whose worker died."""
        running: dict[Future[SubmissionResult], str] = {}
        jobs, context = min(jobs, len(waiting)), multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, _start_worker, (self.settings, os.getpid())) as pool:
            try:
                queue = list(waiting.items())
                while queue or running:
                    while queue and len(running) < 2 * jobs:  # few at a time: the class may be large
                        student, handed_in = queue.pop(0)
                        running[pool.submit(_grade_and_write, handed_in, self.grades)] = student
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        del waiting[running.pop(future)]
                        self._report(result)
            except BrokenProcessPool:
                return list(running.values())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return []

    def _report(self, result: SubmissionResult) -> None:
        fault, flags = faulty(result), sum(len(one["flags"]) for one in result["exercises"])
        unread = any(one["status"] == results.UNREAD for one in result["exercises"])
        self.tally.graded += 1
        self.tally.faults += fault
        self.tally.unread += unread
        graded, count = self.tally.graded, self._count
        left = (time.monotonic() - self._started) / graded * (count - graded)
        no_points = results.is_nothing(result) or all(one["points"] is None for one in result["exercises"])
        self.say(f"[{graded}/{count}] {result['student']}: {'–' if no_points else format(result['points'], 'g')} of "
                 f"{result['possible']:g}"
                 + (f", {flags} flag(s)" if flags else "") + (", INFRASTRUCTURE ERROR" if fault else "")
                 + (", WORK THAT COULD NOT BE READ" if unread else "")
                 + (f" · about {_time(left)} left" if graded < count else ""))
        for problem in result["problems"]:
            self.say(f"    {problem}")
        if (number := result.get("errno")) in FULL and number:
            raise Fault(f"{os.strerror(number)}: {self.grades}. What was written is kept; make room, and the same "
                        "command with --resume goes on")

    def _died_twice(self, handed_in: HandedIn) -> None:
        """A result that says that this submission took its worker down twice."""
        message = "the grader's process died twice while it worked on this submission"
        submission = read_unit(handed_in).submission
        write(self.grades, results.finished(Grader(self.settings).fault_result(submission, message), False))
        self.tally.faults += 1
        self.say(f"{handed_in.student}: INFRASTRUCTURE ERROR, {message}")


def write(grades: Path, result: SubmissionResult) -> SubmissionResult:
    """Write a result; returns it, or one in its place that says that it could not be written."""
    try:
        keep_attempt(grades, result)
        results.write_result(grades, result)
    except OSError as error:  # such as a full disk
        return results.not_written(result, f"the result could not be written: {error.strerror or error}", error.errno)
    return result


def _start_worker(settings: Settings, parent: int) -> None:
    global _grader
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no worker outlives the run
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _grader = Grader(settings)


def _grade_and_write(handed_in: HandedIn, grades: Path) -> SubmissionResult:
    global _checked
    assert _grader is not None
    if not _checked:
        _grader.start()
        check_canaries(_grader)
        _checked = True
    return write(grades, grade(_grader, handed_in))


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
