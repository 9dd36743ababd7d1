"""Results as files: one JSON per student, written whole or not at all, and the instructor's overrides."""

import hashlib
import json
import platform
from functools import cache
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast
from urllib.parse import quote

from checks.files import write_atomically
from checks.grader.intake.text import all_printable
from checks.judge.exercise import Exercise
from checks.judge.source import find_mark
from checks.judge.trial import FAILED, TIMEOUT
from checks.paths import ROOT

SCHEMA = 1
FAULT = "infrastructure error"
"""The grader or the machine failed: no points are given or taken until it has been graded again."""
UNREAD = "not read"
"""There is work that could not be read, and the exercise may be in it: no points are given or taken."""
NO_FILES = hashlib.sha256().hexdigest()
"""The digest of a submission of which no file was read."""
BESIDE_VERDICTS = ("checks/pictures/", "checks/course/", "checks/dev/",
                   *(f"checks/grader/{name}" for name in (
                       "batch.py", "cluster/", "command.py", "deadlines.py", "gradebook.py", "gradescope/", "output/",
                       "overrides.py", "roster.py")))
"""Code that changes no verdict: editing it grades nobody again."""
VOLATILE = ("graded_at", "seconds")  # what may differ between two runs that agree


class ItemResult(TypedDict):
    """One line of the rubric, for one exercise."""

    result: str  # "right", "wrong" or "not reached"
    message: str
    earned: float
    possible: float


class Flag(TypedDict):
    """Something that a person should look at."""

    kind: str
    text: str


class ExerciseResult(TypedDict):
    """One exercise of one submission, as it stands in the student's file."""

    exercise: str
    lesson: str
    status: str
    points: float | None  # None where it could not be graded: an infrastructure error, or work that could not be read
    possible: float
    message: str
    mistake: str | None  # the known mistake that it looks like
    items: dict[str, ItemResult]
    flags: list[Flag]
    notices: list[str]
    trust: str | None  # "proven", "open" or "harness"; None where nothing was run
    own_entry: bool  # whether the student's own wrapper launched the kernel
    picture: dict[str, Any] | None  # where an output is wrong, coarsened
    code: str | None  # a digest of the student's function
    seconds: float
    traffic: NotRequired[list[int]]  # bytes: the student's, the answer's, the least
    compiled: NotRequired[dict[str, Any]]  # by target, what the compiler reported
    times_us: NotRequired[dict[str, float]]
    source: NotRequired[str]  # the student's cell
    graded_points: NotRequired[float | None]  # before an override
    override: NotRequired[str]  # its reason
    comment: NotRequired[str]  # an instructor's, which changes no points


class SubmissionResult(TypedDict):
    """All that is known of one submission: the student's file."""

    schema: int
    student: str
    key: str
    submission: str  # a digest of its files
    grader: str  # a digest of the code that judged
    environment: dict[str, str]
    isolation: list[str]
    gpu: str | None
    problems: list[str]
    report_card: str | None
    late: dict[str, bool]
    points: float
    possible: float
    exercises: list[ExerciseResult]
    graded_at: str
    seconds: float
    handed_in: NotRequired[dict[str, float]]  # by lesson, when its latest file was written, seconds since 1970
    platform_late: NotRequired[bool]  # whether the platform's own name of a file says late
    ids: NotRequired[dict[str, str]]  # by platform, from the names of files
    errno: NotRequired[int | None]  # why it could not be written; in no file
    # what the gradebook adds: see gradebook.py
    name: NotRequired[str]
    email: NotRequired[str]
    section: NotRequired[str]
    bonus: NotRequired[float]
    bonus_reason: NotRequired[str]
    late_seconds: NotRequired[dict[str, float]]
    late_taken: NotRequired[dict[str, float]]  # points


def new_exercise_result(exercise: Exercise, possible: float, status: str = FAILED, points: float | None = 0.0,
                        message: str = "") -> ExerciseResult:
    """A result in which nothing is right yet."""
    return {"exercise": exercise.name, "lesson": exercise.lesson, "status": status, "points": points, "possible": possible,
            "message": message, "mistake": None, "items": {}, "flags": [], "notices": [], "trust": None, "own_entry": False,
            "picture": None, "code": None, "seconds": 0.0}


def out_of_time(exercise: Exercise, possible: float, seconds: float) -> ExerciseResult:
    """For an exercise that was not begun, since those before it took all the time of the submission. A person is to look."""
    said = f"{exercise.name}: not run, since the exercises before it took the {seconds:g} s that one submission has."
    result = new_exercise_result(exercise, possible, TIMEOUT, 0.0, said)
    result["flags"].append({"kind": "no time left", "text": "it was not run; --student-timeout gives more time"})
    return result


def finished(result: SubmissionResult, unread: bool) -> SubmissionResult:
    """A result as it is kept: all its texts printable, and no zero for what may stand in work that was not read."""
    exercises = result["exercises"]
    if unread:
        said = "not found in what could be read; the list of files says what could not"
        exercises = [one | {"status": UNREAD, "points": None, "message": f"{one['exercise']}: {said}."}
                     if one["status"] in ("missing", "not attempted") else one for one in exercises]
    return all_printable(result | {"exercises": exercises, "points": total(exercises)})


def not_written(result: SubmissionResult, message: str, errno: int | None = None) -> SubmissionResult:
    """In place of a result that is lost: each exercise an infrastructure error. `errno` is the system's reason."""
    exercises = [one | {"status": FAULT, "points": None, "message": message} for one in result["exercises"]]
    return result | {"exercises": exercises, "points": 0.0, "errno": errno}


def ungraded(result: SubmissionResult, status: str) -> list[str]:
    """The exercises without points, FAULT or UNREAD, that nobody has decided on since."""
    return [one["exercise"] for one in result["exercises"] if one["status"] == status and "override" not in one]


def is_nothing(result: SubmissionResult) -> bool:
    """Whether there was no file at all, and nobody has decided on it since."""
    return result.get("submission") == NO_FILES and all(one["status"] == "missing" and "override" not in one
                                                        for one in result["exercises"])


def is_open(result: SubmissionResult) -> bool:
    """Whether something in it could not be graded, so that it has to be graded again."""
    return bool(ungraded(result, FAULT) or ungraded(result, UNREAD))


def to_json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def file_name(student: str) -> str:
    """A file's name, without its ending, for any student; two students never have the same."""
    name = quote(student, safe=" @+,=()")
    return name if len(name) <= 200 else f"{name[:180]}-{hashlib.sha256(student.encode()).hexdigest()[:16]}"


def result_path(grades: Path, student: str) -> Path:
    """Where a student's result is."""
    return grades / "students" / f"{file_name(student)}.json"


def write_result(grades: Path, result: SubmissionResult) -> None:
    write_atomically(result_path(grades, result["student"]), to_json(result))


def read_result(path: Path) -> SubmissionResult | None:
    """A result, or None for a file that is missing, broken or of another schema."""
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    whole = isinstance(result, dict) and result.get("schema") == SCHEMA and {"student", "key", "exercises"} <= result.keys()
    return cast(SubmissionResult, result) if whole else None


def read_results(grades: Path) -> list[SubmissionResult]:
    """All students' results, by name. Raises ValueError where there are none."""
    found = [read_result(path) for path in sorted((grades / "students").glob("*.json"))]
    results = sorted((result for result in found if result is not None), key=lambda result: result["student"])
    if not results:
        raise ValueError(f"{grades} holds no results: run `grade class FOLDER --out {grades}` first")
    return results


@cache
def grader_digest() -> str:
    """Of all that a verdict depends on: code, and of the lessons the cells that are run or looked at."""
    digest = hashlib.sha256()
    for folder in ("checks", "kernels"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(BESIDE_VERDICTS):
                digest.update(name.encode() + path.read_bytes())
    for path in sorted((ROOT / "lessons").glob("*.ipynb")):
        cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        judged = [cell for index, cell in enumerate(cells) if index == 0 or find_mark(cell) or "kernels" in cell]
        digest.update(json.dumps([path.name, judged]).encode())
    return digest.hexdigest()


@cache
def environment() -> dict[str, str]:
    import numpy
    import torch
    import triton

    return {"python": platform.python_version(), "torch": torch.__version__, "triton": triton.__version__,
            "numpy": numpy.__version__, "machine": platform.machine()}


def result_key(digest: str, settings: dict) -> str:
    """Of all that decides a result: the submission, the settings, this code and the libraries. Not when it was handed in."""
    parts = json.dumps([SCHEMA, digest, settings, grader_digest(), environment()], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()


def total(exercises: list[ExerciseResult]) -> float:
    return round(sum(one["points"] or 0.0 for one in exercises), 4)
