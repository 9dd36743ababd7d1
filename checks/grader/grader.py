"""The unit of grading: one submission in, one JSON out. It can run anywhere: here, in a pool, on a cluster."""

import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from checks.capstone.report_card import summary
from checks.grader import results
from checks.grader.course import read_course
from checks.grader.gpu import gpu_name, warm_gpu
from checks.grader.grading.cases import Paper
from checks.grader.grading.verdicts import COMPILE_S, Compiler, grade_exercise
from checks.grader.intake.code import code_for
from checks.grader.intake.submissions import Submission, read_submission
from checks.grader.sandbox.client import FULL, Fault, Warm
from checks.grader.settings import Settings


class Grader:
    """The warm processes, the course's papers, and the seed they were drawn from. Use it in a `with` block."""

    def __init__(self, settings: Settings):
        self.settings, self.course = settings, read_course(settings.course)
        self.wanted = [name for name in self.course.exercises if not settings.exercises or name in settings.exercises]
        self.papers: dict[str, Paper] = {}
        self.gpu = settings.gpus[os.getpid() % len(settings.gpus)] if settings.gpus else None
        self.gpu_names = {index: gpu_name(index) for index in settings.gpus}
        self._warm: Warm | None = None
        self._compiler: Compiler | None = None
        self._warm_gpu: Warm | None = None

    def __enter__(self) -> "Grader":
        self.warm  # noqa: B018  a machine that cannot grade is found out at the start
        return self

    def __exit__(self, *_) -> None:
        self.cool()

    @property
    def warm(self) -> Warm:
        if self._warm is None:
            self._warm = Warm("run", self.settings.timeout_s)
            if "seccomp" not in self._warm.levels:
                raise Fault("this system allows no seccomp filter, so that a submission could end any process of yours: "
                            "grade on a machine or in a container that allows one")
            missing = [level for level in FULL if level not in self._warm.levels]
            if self.settings.require_isolation and missing:
                raise Fault(f"this system does not allow the isolation asked for: {', '.join(missing)} missing")
        return self._warm

    @property
    def compiler(self) -> Compiler | None:
        if self._compiler is None and self.settings.compiles:
            self._compiler = Compiler(Warm("compile", COMPILE_S))
        return self._compiler

    @property
    def warm_gpu(self) -> Warm | None:
        if self._warm_gpu is None and self.gpu is not None:
            self._warm_gpu = warm_gpu(self.gpu)
        return self._warm_gpu

    def cool(self) -> None:
        """End the warm processes; the next exercise starts new ones."""
        for warm in (self._warm, self._compiler and self._compiler.warm, self._warm_gpu):
            if warm is not None:
                warm.close()
        self._warm = self._compiler = self._warm_gpu = None

    def paper(self, name: str) -> Paper:
        if name not in self.papers:
            self.papers[name] = Paper(self.course.exercises[name], self.settings.seed)
        return self.papers[name]

    def key(self, submission: Submission) -> str:
        """Two runs with the same key give the same result."""
        settings = asdict(self.settings) | {"course": self.course.text, "exercises": sorted(self.settings.exercises),
                                            "gpus": sorted(set(self.gpu_names.values()))}
        return results.result_key(submission.digest, self.late(submission), settings)

    def late(self, submission: Submission) -> dict[str, bool]:
        """By lesson, whether the submission's latest file is younger than the deadline."""
        return {lesson: bool(submission.modified and submission.modified > deadline.timestamp())
                for lesson, deadline in self.course.deadlines.items()}

    def grade(self, student: str, paths: list[Path]) -> dict:
        """The result of one submission. Never raises for what a student wrote."""
        return self.grade_submission(read_submission(student, paths))

    def grade_submission(self, submission: Submission) -> dict:
        started = time.monotonic()
        graded = [self._grade_or_say_why(name, submission) for name in self.wanted]
        return {"schema": results.SCHEMA, "student": submission.student, "key": self.key(submission),
                "submission": submission.digest, "grader": results.grader_digest(), "environment": results.environment(),
                "isolation": self._warm.levels if self._warm else [],
                "gpu": None if self.gpu is None else self.gpu_names[self.gpu], "problems": submission.problems,
                "report_card": submission.card and summary(submission.card), "late": self.late(submission),
                "points": results.total(graded), "possible": sum(self.course.points[name] for name in self.wanted),
                "exercises": graded, "graded_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - started, 2)}

    def _grade_or_say_why(self, name: str, submission: Submission) -> dict:
        """An exercise's result; a failure of the grader's own is tried once more, and then said."""
        for last in (False, True):
            try:
                return self._grade_exercise(name, submission)
            except Exception as error:  # whatever it is, it is not the student's
                self.cool()
                if last:
                    said = f"{type(error).__name__}: {error}"[:1000]
                    return {"exercise": name, "lesson": self.course.exercises[name].lesson, "status": results.FAULT,
                            "points": None, "possible": self.course.points[name], "message": said, "mistake": None,
                            "items": {}, "flags": [], "notices": [], "trust": None, "own_entry": False, "picture": None,
                            "code": None, "seconds": 0.0}
        raise AssertionError

    def _grade_exercise(self, name: str, submission: Submission) -> dict:
        started = time.monotonic()
        paper = self.paper(name)
        result = grade_exercise(paper, code_for(paper.exercise, submission), self.course, self.warm, self.compiler,
                                self.warm_gpu)
        return result | {"seconds": round(time.monotonic() - started, 3)}


def faulty(result: dict) -> bool:
    """Whether the grader itself failed somewhere in a result."""
    return any(one["status"] == results.FAULT for one in result["exercises"])
