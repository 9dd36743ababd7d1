"""What `run_autograder` runs: one submission in Gradescope's container, from its folders to results.json.

    python -m checks.grader.gradescope.run /autograder        grade what lies in /autograder/submission
    python -m checks.grader.gradescope.run --prove            judge a right and a wrong answer, and say in which isolation

The files are those of gradescope-autograders.readthedocs.io, "Autograder specifications" and "Submission metadata".
"""

import json
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from checks.files import write_atomically
from checks.grader.course import Course
from checks.grader.gradebook import read_json, with_lateness
from checks.grader.grader import Grader
from checks.grader.gradescope.archive import SETTINGS
from checks.grader.intake.folder import HandedIn
from checks.grader.intake.text import printable_name
from checks.grader.output.exports import gradescope_results
from checks.grader.results import SubmissionResult
from checks.grader.roster import Student
from checks.grader.sandbox.client import Fault
from checks.grader.selftest import Misjudged, check_canaries
from checks.grader.settings import Settings
from checks.grader.units import grade
from checks.paths import ROOT


def settings(workshop: Path = ROOT) -> Settings:
    """Those that the zip was made with."""
    kept = json.loads((workshop / SETTINGS).read_text())
    return Settings(**kept | {"course": workshop / "course.toml", "exercises": tuple(kept["exercises"])})


def run(autograder: Path, chosen: Settings) -> int:
    """Grade the submission, and write results.json; where that cannot be done, it says why and gives no score."""
    try:
        metadata = read_json(autograder / "submission_metadata.json")
        with Grader(chosen) as grader:
            check_canaries(grader)
            result = grade(grader, HandedIn(_student(metadata), [autograder / "submission"]))
            result = dated(result, grader.course, metadata)
            text = gradescope_results(result, grader.course)
    except (Fault, Misjudged, OSError) as error:
        text = json.dumps({"output": f"infrastructure error: {error}", "visibility": "hidden"}) + "\n"
        print(f"infrastructure error: {error}", file=sys.stderr)
    write_atomically(autograder / "results" / "results.json", text)
    return 0


def _users(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    users = metadata.get("users")
    return [user for user in users if isinstance(user, dict)] if isinstance(users, list) else []


def _student(metadata: dict[str, Any]) -> str:
    return ", ".join(printable_name(str(user.get("name") or user.get("email"))) for user in _users(metadata)) or "student"


def dated(result: SubmissionResult, course: Course, metadata: dict[str, Any]) -> SubmissionResult:
    """The result with the course's late rule applied to Gradescope's dates; a group has its latest member's due date."""
    assignment = metadata.get("assignment")
    own = [_date(user.get("assignment"), "due_date") for user in _users(metadata)]
    due = max(filter(None, own), default=None) or _date(assignment, "due_date")
    if due:
        course = replace(course, deadlines={one["lesson"]: due for one in result["exercises"]})
    handed_in = _date(metadata, "created_at")
    return with_lateness(result, course, Student(result["student"], handed_in=handed_in)) if handed_in else result


def _date(table: Any, name: str) -> datetime | None:
    """The date under a name, or None where there is none, or none with an offset."""
    try:
        date = datetime.fromisoformat(table[name])
    except (KeyError, TypeError, ValueError):
        return None
    return date if date.tzinfo else None


def prove(chosen: Settings) -> int:
    """Judge a right and a wrong answer. Returns 0 where submissions can be graded here."""
    try:
        with Grader(chosen) as grader:
            check_canaries(grader)
            print(f"ready: {len(grader.wanted)} exercises, isolation {', '.join(grader.server.levels)}")
    except (Fault, Misjudged, OSError) as error:
        print(f"submissions cannot be graded here: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(prove(settings()) if sys.argv[1] == "--prove" else run(Path(sys.argv[1]), settings()))
