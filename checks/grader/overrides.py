"""What a person decided: overrides.csv beside the grades, which the grader reads and never writes."""

from dataclasses import dataclass
from pathlib import Path

from checks.grader.results import ExerciseResult, SubmissionResult, total
from checks.grader.tables import columns, table
from checks.judge.trial import FAILED, PASSED

BONUS = "bonus"  # in place of an exercise: points beyond all of them


@dataclass(frozen=True)
class Override:
    """One line. Without points it is a comment, which the student reads."""

    points: float | None
    reason: str
    line: int


Overrides = dict[tuple[str, str], Override]  # by (student, exercise)


def read_overrides(grades: Path) -> Overrides:
    """The lines of overrides.csv; none where there is no such file. Raises ValueError that names the line that is wrong."""
    path = grades / "overrides.csv"
    if not path.exists():
        return {}
    if {"student", "exercise", "points", "reason"} - set(columns(path)):
        raise ValueError(f"{path}: the first line must name the columns student, exercise, points, reason")
    overrides: Overrides = {}
    for where, row in table(path):
        reason, text = row["reason"], row["points"]
        try:
            points = float(text.replace(",", ".")) if text else None
        except ValueError:
            raise ValueError(f"{where}: points must be a number, not {text!r}") from None
        if points is not None and not 0 <= points < 1e6:
            raise ValueError(f"{where}: points must be a number from 0 up, not {text!r}")
        if not reason:
            raise ValueError(f"{where}: an override needs a reason")
        if points is None and row["exercise"] == BONUS:
            raise ValueError(f"{where}: a bonus needs points")
        if (row["student"], row["exercise"]) in overrides:
            raise ValueError(f"{where}: `{row['exercise']}` of `{row['student']}` is there twice")
        overrides[row["student"], row["exercise"]] = Override(points, reason, int(where.rpartition(" ")[2]))
    return overrides


def apply_overrides(results: list[SubmissionResult], overrides: Overrides) -> list[SubmissionResult]:
    """Copies of the results with the overrides in them. Raises ValueError for one that fits nothing."""
    students = {result["student"] for result in results}
    known = {(result["student"], one["exercise"]) for result in results for one in result["exercises"]}
    for (student, exercise), override in overrides.items():
        if student not in students:
            raise ValueError(f"overrides.csv, line {override.line}: there is no result of a student `{student}`; there are "
                             f"those of {', '.join(sorted(students)[:5])} …")
        if (student, exercise) not in known and exercise != BONUS:
            raise ValueError(f"overrides.csv, line {override.line}: there is no exercise `{exercise}` of `{student}`; more "
                             f"points go into a line with `{BONUS}`")
    return [_applied(result, {exercise: override for (student, exercise), override in overrides.items()
                              if student == result["student"]}) for result in results]


def _applied(result: SubmissionResult, overrides: dict[str, Override]) -> SubmissionResult:
    exercises = [_decided(one, overrides[one["exercise"]]) if one["exercise"] in overrides else one
                 for one in result["exercises"]]
    applied = result | {"exercises": exercises, "points": total(exercises)}
    bonus = overrides.get(BONUS)
    if bonus is not None and bonus.points is not None:
        points = round(applied["points"] + bonus.points, 4)
        applied |= {"bonus": bonus.points, "bonus_reason": bonus.reason, "points": points}
    return applied


def _decided(one: ExerciseResult, override: Override) -> ExerciseResult:
    if override.points is None:
        return one | {"comment": override.reason}
    if override.points > one["possible"]:
        raise ValueError(f"overrides.csv, line {override.line}: `{one['exercise']}` has {one['possible']:g} points; "
                         f"more go into a line with the exercise `{BONUS}`")
    return one | {"graded_points": one["points"], "points": override.points, "override": override.reason}


def status_shown(one: ExerciseResult) -> str:
    """An exercise's status, as its points have it where a person decided."""
    if "override" not in one:
        return one["status"]
    return PASSED if (one["points"] or 0.0) >= one["possible"] else FAILED
