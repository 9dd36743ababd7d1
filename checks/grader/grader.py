"""Grades one submission after another: notebooks in, a result out. It can run anywhere: here, in a pool, on a cluster."""

import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from checks.capstone.report_card import summary
from checks.grader import results
from checks.grader.course import read_course
from checks.grader.gpu import gpu_name, start_gpu_server
from checks.grader.grading.cases import CaseSet
from checks.grader.grading.compiling import Compiler
from checks.grader.grading.notebooks import Notebooks
from checks.grader.grading.player import Played, Player
from checks.grader.grading.runs import Sandbox
from checks.grader.grading.verdicts import grade_exercise
from checks.grader.intake.code import code_for
from checks.grader.intake.submissions import Submission, read_submission
from checks.grader.results import ExerciseResult, SubmissionResult
from checks.grader.sandbox.client import FULL, Fault, ForkServer
from checks.grader.settings import Settings

COMPILE_S = 120


class Grader:
    """Keeps the fork servers and the cases of each exercise between submissions. Use it in a `with` block."""

    def __init__(self, settings: Settings):
        self.settings, self.course = settings, read_course(settings.course)
        self.wanted = [name for name in self.course.exercises if not settings.exercises or name in settings.exercises]
        self.gpu = settings.gpus[os.getpid() % len(settings.gpus)] if settings.gpus else None
        self.gpu_names = {index: gpu_name(index) for index in settings.gpus}
        self._case_sets: dict[str, CaseSet] = {}
        self._server: ForkServer | None = None
        self._compiler: Compiler | None = None
        self._played = Played()
        self._sandbox: tuple[Submission, Sandbox] | None = None
        self._gpu_server: ForkServer | None = None

    def __enter__(self) -> "Grader":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop_servers()

    def start(self) -> None:
        """Start the fork server in which exercises run. Raises Fault on a machine that cannot grade."""
        if self._server is not None:
            return
        server = ForkServer("run", self.settings.timeout_s)
        missing = [level for level in FULL if level not in server.levels]
        if "seccomp" in missing or self.settings.require_isolation and missing:
            server.close()
            raise Fault(f"this system does not allow the isolation asked for: {', '.join(missing)} missing"
                        if self.settings.require_isolation else
                        "this system allows no seccomp filter, so that a submission could end any process of yours: "
                        "grade on a machine or in a container that allows one")
        self._server = server

    @property
    def server(self) -> ForkServer:
        self.start()
        assert self._server is not None
        return self._server

    def sandbox(self, submission: Submission) -> Sandbox:
        """Where the parts of this submission run; its notebooks run once for all exercises of a lesson."""
        if self._compiler is None:
            self._compiler = Compiler(COMPILE_S)
        if self._sandbox is None or self._sandbox[0] is not submission:
            self.close_sandbox()
            self._sandbox = submission, Sandbox(Notebooks(self.server), self._compiler, Player(self.server, self._played))
        return self._sandbox[1]

    def close_sandbox(self) -> None:
        """End the children in which a submission's notebooks have run and its recordings were played."""
        if self._sandbox is not None:
            self._sandbox[1].close()
            self._sandbox = None

    @property
    def gpu_server(self) -> ForkServer | None:
        if self._gpu_server is None and self.gpu is not None:
            self._gpu_server = start_gpu_server(self.gpu)
        return self._gpu_server

    def stop_servers(self) -> None:
        """End the fork servers; the next exercise starts new ones."""
        self.close_sandbox()
        for server in (self._server, self._compiler, self._gpu_server):
            if server is not None:
                server.close()
        self._server = self._compiler = self._gpu_server = None

    def case_set(self, name: str) -> CaseSet:
        if name not in self._case_sets:
            self._case_sets[name] = CaseSet(self.course.exercises[name], self.settings.seed)
        return self._case_sets[name]

    def key(self, submission: Submission) -> str:
        """Two runs with the same key give the same result."""
        settings = asdict(self.settings) | {"course": self.course.text, "exercises": sorted(self.settings.exercises),
                                            "gpus": sorted(set(self.gpu_names.values()))}
        return results.result_key(submission.digest, settings)

    def late(self, submission: Submission) -> dict[str, bool]:
        """By lesson, whether the submission's latest file is younger than the deadline."""
        return {lesson: bool(submission.modified and submission.modified > deadline.timestamp())
                for lesson, deadline in self.course.deadlines.items()}

    def grade(self, student: str, paths: list[Path]) -> SubmissionResult:
        """The result of one submission. Never raises for what a student wrote."""
        return self.grade_submission(read_submission(student, paths))

    def grade_submission(self, submission: Submission) -> SubmissionResult:
        started = time.monotonic()
        graded = [self.exercise_result(name, submission) for name in self.wanted]
        self.close_sandbox()
        return self._submission_result(submission, graded, time.monotonic() - started)

    def fault_result(self, submission: Submission, message: str) -> SubmissionResult:
        """The result of a submission that could not be graded at all."""
        return self._submission_result(submission, [self._fault(name, message) for name in self.wanted], 0.0)

    def _submission_result(self, submission: Submission, graded: list[ExerciseResult], seconds: float) -> SubmissionResult:
        return {"schema": results.SCHEMA, "student": submission.student, "key": self.key(submission),
                "submission": submission.digest, "grader": results.grader_digest(), "environment": results.environment(),
                "isolation": self._server.levels if self._server else [],
                "gpu": None if self.gpu is None else self.gpu_names[self.gpu], "problems": submission.problems,
                "report_card": summary(submission.card) if submission.card else None, "late": self.late(submission),
                "points": results.total(graded), "possible": sum(self.course.points[name] for name in self.wanted),
                "exercises": graded, "graded_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(seconds, 2)}

    def exercise_result(self, name: str, submission: Submission) -> ExerciseResult:
        """An exercise's result; a failure of the grader's own is tried once more, and then is the result."""
        if time.monotonic() > submission.until:
            exercise, possible = self.course.exercises[name], self.course.points[name]
            return results.out_of_time(exercise, possible, self.settings.student_timeout_s)
        try:
            return self.grade_exercise(name, submission)
        except Exception:  # whatever it is, it is not the student's
            self.stop_servers()
        try:
            return self.grade_exercise(name, submission)
        except Exception as error:
            self.stop_servers()
            return self._fault(name, f"{type(error).__name__}: {error}"[:1000])

    def _fault(self, name: str, message: str) -> ExerciseResult:
        exercise, possible = self.course.exercises[name], self.course.points[name]
        return results.new_exercise_result(exercise, possible, results.FAULT, None, message)

    def grade_exercise(self, name: str, submission: Submission) -> ExerciseResult:
        """An exercise's result. Raises Fault where the sandbox fails."""
        started = time.monotonic()
        case_set = self.case_set(name)
        result = grade_exercise(case_set, code_for(case_set.exercise, submission), self.course, self.sandbox(submission),
                                self.settings.compiles, self.gpu_server)
        result["seconds"] = round(time.monotonic() - started, 3)
        return result


def faulty(result: SubmissionResult) -> bool:
    """Whether the grader itself failed somewhere in a result."""
    return any(one["status"] == results.FAULT for one in result["exercises"])
