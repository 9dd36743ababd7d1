"""The gradebook: results with what a person decided, what lateness costs, who handed in nothing, and what has changed."""

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from checks.files import write_atomically
from checks.grader import results
from checks.grader.course import DEFAULT, Course, read_course
from checks.grader.deadlines import read_deadlines
from checks.grader.overrides import apply_overrides, read_overrides
from checks.grader.results import ExerciseResult, SubmissionResult, file_name, total
from checks.grader.roster import Roster, Student, read_roster

AT_ONCE_S = 600
UNPACKED = ("the files' times lie within minutes of each other: they are those of unpacking, and say nothing of lateness; "
            "`handed_in` in the roster does")


@dataclass
class Change:
    """Other points than before the last run of `grade class`."""

    student: str
    exercise: str
    before: float | None
    after: float | None


@dataclass
class Gradebook:
    """A class's grades as they stand."""

    course: Course
    results: list[SubmissionResult]
    roster: Roster = field(default_factory=Roster)
    absent: list[Student] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # on lateness, each time the grades are read


def course_of(grades: Path) -> Path:
    """The course file that was given when these were graded."""
    kept = grades / "course.toml"
    return kept if kept.exists() else DEFAULT


def roster_of(grades: Path) -> Roster:
    """The roster that was given when these were graded; an empty one without."""
    path = grades / "roster.csv"
    return read_roster(path, read_course(course_of(grades)).zone) if path.exists() else Roster()


def keep_copy(given: Path | None, kept: Path) -> None:
    """Copy a file that was given on the command line to where later commands find it."""
    if given is not None and given.resolve() != kept.resolve():
        write_atomically(kept, given.read_bytes())


def read_gradebook(grades: Path, course: Path | None = None, lessons: list[str] | None = None) -> Gradebook:
    """The grades in a folder, of these lessons alone if they are named. Raises ValueError, with the reason."""
    chosen, roster = read_course(course or course_of(grades)), roster_of(grades)
    dates = read_deadlines(grades / "deadlines.csv", chosen.zone, roster.students)
    chosen = replace(chosen, deadlines=chosen.deadlines | dates.of_lessons)
    students = dates.given_to(roster.students)
    found, warnings = results.read_results(grades), []
    if chosen.deadlines and _times_of_unpacking(found):
        found = [result | {"handed_in": {}} for result in found]
        warnings.append(UNPACKED)
    if chosen.attempts == "best":
        found = [_best(grades, result, chosen, students.get(result["student"])) for result in found]
    found = apply_overrides(found, read_overrides(grades))
    if lessons:
        found = [_of_lessons(result, lessons) for result in found]
        if not any(result["exercises"] for result in found):
            raise ValueError(f"{grades} holds no result of {', '.join(lessons)}")
    found = [_with_student(with_lateness(result, chosen, students.get(result["student"])),
                           roster.students.get(result["student"])) for result in found]
    warnings += _late_by_unknown(found, chosen, roster)
    nothing = [result["student"] for result in found if results.is_nothing(result) and "bonus" not in result]
    absent = roster.absent([result["student"] for result in found]) + nothing
    found = [result for result in found if result["student"] not in nothing]
    if not found:
        raise ValueError(f"{grades} holds no work: nobody handed in a file")
    notices = read_json(grades / "class.json").get("notices", [])
    return Gradebook(chosen, found, roster, [roster.students.get(id, Student(id)) for id in sorted(absent)],
                     _withdrawn(grades), notices, _changes(grades, found), warnings)


def _times_of_unpacking(found: list[SubmissionResult]) -> bool:
    """Whether the files of a class were all written at once, which no class does."""
    times = [time for result in found for time in result.get("handed_in", {}).values()]
    return len(found) >= 3 and len(times) >= 3 and max(times) - min(times) < AT_ONCE_S


def _late_by_unknown(found: list[SubmissionResult], course: Course, roster: Roster) -> list[str]:
    """A sentence on those whom the platform calls late while nothing says when they handed in."""
    late = [result["student"] for result in found if result.get("platform_late") and not result.get("handed_in")
            and not (result["student"] in roster.students and roster.students[result["student"]].handed_in)]
    if not late or not (course.deadlines or course.late.percent_per_day):
        return []
    return [f"late, says the platform, but not by how much: {', '.join(late)}. Nothing was taken off; `handed_in` in the "
            "roster gives their times"]


def _of_lessons(result: SubmissionResult, lessons: list[str]) -> SubmissionResult:
    exercises = [one for one in result["exercises"] if one["lesson"] in lessons]
    return result | {"exercises": exercises, "points": round(total(exercises) + result.get("bonus", 0.0), 4),
                     "possible": sum(one["possible"] for one in exercises)}


def _lateness(result: SubmissionResult, lesson: str, course: Course, student: Student | None) -> float:
    """Seconds by which a lesson was handed in late; more time shifts a deadline by days, or to a date."""
    if student and student.handed_in:
        handed_in: float | None = student.handed_in.timestamp()
    elif result.get("ids", {}).get("canvas") and not result.get("platform_late"):
        return 0.0  # Canvas marks the files of those who are late, and knows when better than the files
    else:
        handed_in = result.get("handed_in", {}).get(lesson)
    deadline = course.deadlines.get(lesson)
    if handed_in is None or deadline is None:
        return 0.0
    if student:
        deadline = student.deadlines.get(lesson, deadline) + timedelta(days=student.extension_days)
        deadline = max(deadline, student.extended_to or deadline)
    return max(0.0, handed_in - deadline.timestamp())


def _of(lesson: str, result: SubmissionResult) -> list[ExerciseResult]:
    return [one for one in result["exercises"] if one["lesson"] == lesson]


def with_lateness(result: SubmissionResult, course: Course, student: Student | None) -> SubmissionResult:
    """The result with what is taken off for lateness, lesson by lesson."""
    seconds = {lesson: _lateness(result, lesson, course, student) for lesson in course.deadlines if _of(lesson, result)}
    seconds = {lesson: late for lesson, late in seconds.items() if late}
    taken = {lesson: round(total(_of(lesson, result)) * percent / 100, 4) for lesson, late in seconds.items()
             if (percent := course.late.percent(late))}
    late = dict.fromkeys(result["late"], False) | dict.fromkeys(seconds, True)
    return result | {"late_seconds": seconds, "late_taken": taken, "late": late,
                     "points": max(0.0, round(result["points"] - sum(taken.values()), 4))}


def _with_student(result: SubmissionResult, student: Student | None) -> SubmissionResult:
    if student is None:
        return result
    return result | {"name": student.name, "email": student.email, "section": student.section}


def _best(grades: Path, result: SubmissionResult, course: Course, student: Student | None) -> SubmissionResult:
    """The result with each lesson from the attempt that got most points for it, lateness taken off."""
    attempts = [attempt for path in sorted((grades / "attempts" / file_name(result["student"])).glob("*.json"))
                if (attempt := results.read_result(path))]

    def worth(attempt: SubmissionResult, lesson: str) -> float:
        ones = _of(lesson, attempt)
        if any(one["points"] is None for one in ones):
            return -1.0
        return total(ones) * (1 - course.late.percent(_lateness(attempt, lesson, course, student)) / 100)

    exercises, handed_in = [], dict(result.get("handed_in", {}))
    for lesson in dict.fromkeys(one["lesson"] for one in result["exercises"]):
        asked = {one["exercise"]: one["possible"] for one in _of(lesson, result)}
        same = [old for old in attempts if {one["exercise"]: one["possible"] for one in _of(lesson, old)} == asked]
        best = max([result, *same], key=lambda attempt: worth(attempt, lesson))  # noqa: B023  called at once
        said = [] if best is result else ["from an earlier attempt, which got more points"]
        exercises += [one | {"notices": [*one["notices"], *said]} for one in _of(lesson, best)]
        if lesson in best.get("handed_in", {}):
            handed_in[lesson] = best["handed_in"][lesson]
    return result | {"exercises": exercises, "points": total(exercises), "handed_in": handed_in}


def keep_attempt(grades: Path, new: SubmissionResult) -> None:
    """Before a result of other files takes its place, keep the old one among the attempts."""
    old = results.read_result(results.result_path(grades, new["student"]))
    if old is not None and old.get("submission") != new["submission"]:
        name = f"{old.get('graded_at', '').replace(':', '')}-{old.get('submission', '')[:12]}.json"
        write_atomically(grades / "attempts" / file_name(new["student"]) / name, results.to_json(old))


def keep_points(grades: Path) -> None:
    """Before a class is graded again, note its points, so that changes can be shown."""
    found = [result for path in (grades / "students").glob("*.json") if (result := results.read_result(path))]
    if found:
        points = {r["student"]: {one["exercise"]: one.get("points") for one in r["exercises"]} for r in found}
        write_atomically(grades / "before.json", results.to_json(points))


def _changes(grades: Path, now: list[SubmissionResult]) -> list[Change]:
    before = read_json(grades / "before.json")
    return [Change(result["student"], one["exercise"], before[result["student"]][one["exercise"]], points)
            for result in now if result["student"] in before for one in result["exercises"]
            if one["exercise"] in before[result["student"]]
            and (points := one.get("graded_points", one["points"])) != before[result["student"]][one["exercise"]]]


def withdraw(grades: Path, present: set[str]) -> list[str]:
    """Move the results of all others to withdrawn/, and those of who is back from there. Returns sentences on each."""
    said = []
    for old, new, there in (("students", "withdrawn", False), ("withdrawn", "students", True)):
        for path in sorted((grades / old).glob("*.json")):
            result = results.read_result(path)
            if result is not None and (result["student"] in present) == there:
                target = grades / new / path.name
                target.parent.mkdir(exist_ok=True)
                if not (there and target.exists()):
                    path.replace(target)
                    said.append(f"{result['student']}: {'is back' if there else 'not there any more'}; "
                                f"the result is in {new}/ now")
    return said


def _withdrawn(grades: Path) -> list[str]:
    found = [results.read_result(path) for path in (grades / "withdrawn").glob("*.json")]
    return sorted(result["student"] for result in found if result is not None)


def read_json(path: Path) -> dict:
    """A JSON object; an empty one for a file that is missing or broken."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
