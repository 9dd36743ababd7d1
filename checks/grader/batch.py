"""A class: every submission of a folder graded by a few processes, each result on the disk as soon as it is there."""

import contextlib
import ctypes
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
from typing import cast

from checks.files import write_atomically
from checks.grader import results
from checks.grader.gradebook import keep_attempt, keep_points, read_json, roster_of, withdraw
from checks.grader.grader import Grader, faulty
from checks.grader.intake.folder import HandedIn, Listing, find_submissions
from checks.grader.intake.submissions import Submission, find_exercise_cell, read_submission, several_students
from checks.grader.intake.text import printable
from checks.grader.results import SubmissionResult
from checks.grader.selftest import check_canaries
from checks.grader.settings import Settings

Found = dict[str, HandedIn]  # by student
_grader: Grader | None = None  # of a worker process
_checked = False  # whether it has judged the known-good and the known-bad submission as it must


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


@contextlib.contextmanager
def locked(grades: Path) -> Iterator[None]:
    """Keep other runs out of the folder `grades` meanwhile. Raises ValueError where one is in it."""
    grades.mkdir(parents=True, exist_ok=True)
    with (grades / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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

    def grade(self, folder: Path, only: tuple[str, ...] = (), resume: bool = False) -> Tally:
        """Grade every submission, or `only` those of these students; with `resume`, without those whose result still holds.

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
        if not only:
            self._keep_listing(listing)
        found = {student: one for student, one in found.items() if not only or student in only}
        waiting = self._without_kept(found) if resume else dict(found)
        if waiting and not interrupted:  # else the points before are those from before the interruption
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
        kept = read_json(self.grades / "class.json")
        write_atomically(self.grades / "class.json", results.to_json(kept | {"finished": True}))
        return self.tally

    def _keep_listing(self, listing: Listing) -> None:
        """Say and write down what belongs to no student, and who is not there any more or handed in nothing."""
        roster = roster_of(self.grades)
        absent = roster.absent(listing.students)
        for sentence in [*listing.notices, *withdraw(self.grades, {*listing.students, *roster.students})]:
            self.say(sentence)
        if absent:
            self.say(f"{len(absent)} of the roster handed in nothing: {', '.join(absent)}")
        kept = {"schema": results.SCHEMA, "notices": listing.notices, "absent": absent, "finished": False}
        write_atomically(self.grades / "class.json", results.to_json(kept))

    def _without_kept(self, found: Found) -> Found:
        grader, waiting = Grader(self.settings), {}
        for student, handed_in in found.items():
            old = results.read_result(results.result_path(self.grades, student))
            if old is None or results.is_open(old) or old["key"] != grader.key(read(handed_in)):
                waiting[student] = handed_in
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
        nothing = all(one["points"] is None for one in result["exercises"])
        self.say(f"[{graded}/{count}] {result['student']}: {'–' if nothing else format(result['points'], 'g')} of "
                 f"{result['possible']:g}"
                 + (f", {flags} flag(s)" if flags else "") + (", INFRASTRUCTURE ERROR" if fault else "")
                 + (", WORK THAT COULD NOT BE READ" if unread else "")
                 + (f" · about {_time(left)} left" if graded < count else ""))
        for problem in result["problems"]:
            self.say(f"    {problem}")

    def _died_twice(self, handed_in: HandedIn) -> None:
        """A result that says that this submission took its worker down twice."""
        message = "the grader's process died twice while it worked on this submission"
        write(self.grades, results.finished(Grader(self.settings).fault_result(read(handed_in), message), False))
        self.tally.faults += 1
        self.say(f"{handed_in.student}: INFRASTRUCTURE ERROR, {message}")


def read(handed_in: HandedIn) -> Submission:
    """What a student handed in, with what is to be said of the names of files."""
    submission = read_submission(handed_in.student, handed_in.paths)
    several = several_students(submission.times, handed_in.alone) if len(handed_in.paths) == 1 else []
    submission.problems[:0] = [*handed_in.notices, *several]
    return submission


def grade(grader: Grader, handed_in: HandedIn) -> SubmissionResult:
    """The result of one submission. Whatever goes wrong is an infrastructure error in this result, and in no other."""
    submission = Submission(handed_in.student)
    try:
        submission = read(handed_in)
        submission.until = time.monotonic() + grader.settings.student_timeout_s
        graded = grader.grade_submission(submission)
        details = {"handed_in": handed_in_times(grader, submission), "platform_late": handed_in.late,
                   "ids": {who.platform: who.id for who in handed_in.owners if who.platform}}
        whole = cast(SubmissionResult, _with_sources(graded, submission) | details)
        return results.finished(whole, submission.unread)
    except Exception as error:  # not known beforehand, or it would be a result
        grader.stop_servers()
        said = printable(f"{type(error).__name__}: {error}", longest=1000)
        broken = Submission(submission.student, problems=submission.problems, digest=submission.digest)
        return results.finished(grader.fault_result(broken, said), False)


def handed_in_times(grader: Grader, submission: Submission) -> dict[str, float]:
    """By lesson, when the latest file with one of its exercises was written, seconds since 1970."""
    times: dict[str, float] = {}
    for cell in submission.cells:
        if cell.mark and cell.mark[1] in grader.course.exercises and cell.file in submission.times:
            lesson = grader.course.exercises[cell.mark[1]].lesson
            times[lesson] = max(times.get(lesson, 0.0), submission.times[cell.file])
    return times


def _with_sources(result: SubmissionResult, submission: Submission) -> SubmissionResult:
    """The result with the student's cell in each exercise, to be shown beside what is said of it."""
    exercises = []
    for one in result["exercises"]:
        cell = find_exercise_cell(submission, one["exercise"]).cell
        exercises.append(one | {"source": cell.source} if cell else one)
    return result | {"exercises": exercises}


def write(grades: Path, result: SubmissionResult) -> SubmissionResult:
    """Write a result; returns it, or one in its place that says that it could not be written."""
    try:
        keep_attempt(grades, result)
        results.write_result(grades, result)
    except OSError as error:  # such as a full disk
        return results.not_written(result, f"the result could not be written: {error.strerror or error}")
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
