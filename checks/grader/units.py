"""What is graded at a time: what one student handed in, as text, with what is known of how; and its result."""

import json
import time
from dataclasses import asdict, dataclass, field
from typing import cast

from checks.grader import results
from checks.grader.grader import Grader
from checks.grader.intake.folder import HandedIn
from checks.grader.intake.submissions import Cell, Submission, find_exercise_cell, read_submission, several_students
from checks.grader.intake.text import all_printable, printable
from checks.grader.results import SubmissionResult


@dataclass
class Unit:
    """A submission that has been read. It is whole: it can be graded on a machine that has none of its files."""

    submission: Submission
    platform_late: bool = False  # whether the platform's own name of a file says late
    ids: dict[str, str] = field(default_factory=dict)  # by platform, from the names of files

    def to_json(self) -> str:
        submission = {name: value for name, value in asdict(self.submission).items() if name != "until"}
        return json.dumps({"submission": submission, "platform_late": self.platform_late, "ids": self.ids})


def unit_from_json(text: str) -> Unit:
    fields = json.loads(text)
    submission = fields["submission"]
    cells = [Cell(**cell) for cell in submission["cells"]]
    return Unit(Submission(**submission | {"cells": cells}), fields["platform_late"], fields["ids"])


def read(handed_in: HandedIn) -> Submission:
    """What a student handed in, with what is to be said of the names of files."""
    submission = read_submission(handed_in.student, handed_in.paths)
    several = several_students(submission.times, handed_in.alone) if len(handed_in.paths) == 1 else []
    submission.problems[:0] = [*handed_in.notices, *several]
    return submission


def read_unit(handed_in: HandedIn) -> Unit:
    return Unit(read(handed_in), handed_in.late, {who.platform: who.id for who in handed_in.owners if who.platform})


def grade(grader: Grader, handed_in: HandedIn) -> SubmissionResult:
    """The result of one submission. Whatever goes wrong is an infrastructure error in this result, and in no other."""
    try:
        unit = read_unit(handed_in)
    except Exception as error:  # not known beforehand, or it would be a result
        return _broken(grader, Submission(handed_in.student), error)
    return grade_unit(grader, unit)


def grade_unit(grader: Grader, unit: Unit) -> SubmissionResult:
    """The result of a submission that has been read; as `grade`, it never raises."""
    submission = unit.submission
    try:
        submission.until = time.monotonic() + grader.settings.student_timeout_s
        graded = grader.grade_submission(submission)
        return results.finished(_with_sources(graded, submission) | handed_in_facts(grader, unit), submission.unread)
    except Exception as error:
        return _broken(grader, submission, error)


def _broken(grader: Grader, submission: Submission, error: Exception) -> SubmissionResult:
    grader.stop_servers()
    said = printable(f"{type(error).__name__}: {error}", longest=1000)
    broken = Submission(submission.student, problems=submission.problems, digest=submission.digest)
    return results.finished(grader.fault_result(broken, said), False)


def handed_in_facts(grader: Grader, unit: Unit) -> SubmissionResult:
    """What a result says of how and when its files were handed in. None of it decides what they are worth."""
    facts = {"problems": unit.submission.problems, "late": grader.late(unit.submission), "platform_late": unit.platform_late,
             "handed_in": _handed_in_times(grader, unit.submission), "ids": unit.ids}
    return cast(SubmissionResult, all_printable(facts))


def _handed_in_times(grader: Grader, submission: Submission) -> dict[str, float]:
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
