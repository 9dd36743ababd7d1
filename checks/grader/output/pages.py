"""Pages to read: one for each student, one on the class."""

import statistics
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

from checks.grader.course import Course
from checks.grader.gradebook import Gradebook
from checks.grader.output.feedback import (
    items_for_student,
    messages_for_student,
    notices_for_student,
    sentences_on_all,
)
from checks.grader.output.rendering import histogram, page, picture, write_from_template
from checks.grader.overrides import status_shown
from checks.grader.results import FAULT, UNREAD, SubmissionResult, is_open, ungraded
from checks.judge.trial import PASSED


def write_pages(grades: Path, book: Gradebook, anonymous: bool = False) -> list[Path]:
    """Write GRADES/pages/: index.html for the instructor, students/*.html to hand out. Returns the class page's path.

    Pages of students who are no longer in the class go.

    anonymous: into pages/anonymous/ instead, with numbers for names and without what names would show in.
    """
    folder = grades / "pages"
    if anonymous:
        folder, book = folder / "anonymous", _without_names(book)
    for result in book.results:
        write_from_template("student.html", folder / "students" / page(result), _student(result, book.course))
    current = {page(result) for result in book.results}
    for other in (folder / "students").glob("*.html"):
        if other.name not in current:
            other.unlink()
    return [write_from_template("class.html", folder / "index.html", _class(book))]


def _without_names(book: Gradebook) -> Gradebook:
    """The gradebook with numbers for names, in an order that says nothing, and without the sentences on files."""
    ordered = sorted(book.results, key=lambda result: result["key"] + result["submission"])
    numbers = {result["student"]: f"student {number}" for number, result in enumerate(ordered, 1)}
    hidden = [result | {"student": numbers[result["student"]], "name": "", "email": "", "section": "", "problems": []}
              for result in ordered]
    return Gradebook(book.course, hidden)


def _student(result: SubmissionResult, course: Course) -> dict:
    ones = []
    for one in result["exercises"]:
        status = status_shown(one)
        sign = "✓" if status == PASSED else "○" if status in ("not attempted", "missing", FAULT, UNREAD) else "✗"
        ones.append(one | {"status": status, "sign": sign, "messages": messages_for_student(one, course),
                           "rubric": items_for_student(one, course), "notices": notices_for_student(one),
                           "picture": picture(one["picture"]), "picture_of": (one["picture"] or {}).get("output", 0) + 1,
                           "earned": one["points"] or 0.0,
                           "source": "" if status == "not attempted" else one.get("source", "")})
    lessons = [_once(lesson, list(group)) for lesson, group in groupby(ones, key=lambda one: one["lesson"])]
    return {"result": result, "course": course, "sentences": sentences_on_all(result), "lessons": lessons,
            "open": is_open(result), "name": result.get("name") or result["student"]}


def _once(lesson: str, ones: list[dict]) -> tuple[str, list[dict], list[str]]:
    """A lesson's exercises, and the notices that several of them share, which are taken out of each."""
    counts = Counter(notice for one in ones for notice in set(one["notices"]))
    shared = [notice for notice in counts if counts[notice] > 1]
    return lesson, [one | {"notices": [n for n in one["notices"] if n not in shared]} for one in ones], sorted(shared)


def _class(book: Gradebook) -> dict:
    graded = book.results
    exercises, mistakes = _exercises(graded)
    done = [result["points"] for result in graded if not is_open(result)]
    looked_at = [(result["student"], one) for result in graded for one in result["exercises"]
                 if one["flags"] or one["status"] == "held"]
    return {
        "book": book, "course": book.course, "results": graded, "exercises": exercises, "mistakes": mistakes.most_common(15),
        "flagged": looked_at, "names": {result["student"]: result.get("name", "") for result in graded},
        "open": {result["student"] for result in graded if is_open(result)},
        "faults": _together(_with_status(graded, FAULT)), "faulty": {one[0] for one in _with_status(graded, FAULT)},
        "unread": _with_status(graded, UNREAD),
        "problems": [(result["student"], result["problems"]) for result in graded if result["problems"]],
        "levels": sorted({", ".join(result["isolation"]) for result in graded if result["isolation"]}),
        "environment": graded[0]["environment"], "median": statistics.median(done) if done else None,
        "possible": graded[0]["possible"], "lessons": _lessons(graded),
        "histogram": histogram([_share(result["points"], result["possible"]) for result in graded if not is_open(result)])}


def _with_status(graded: list[SubmissionResult], status: str) -> list[tuple[str, str, str]]:
    """(student, exercise, message) of what could not be graded and nobody has decided on."""
    return [(result["student"], one["exercise"], one["message"]) for result in graded
            for one in result["exercises"] if one["exercise"] in ungraded(result, status)]


def _together(faults: list[tuple[str, str, str]]) -> list[tuple[tuple[str, str], list[str]]]:
    """The students of each ((exercise, message)), the most first: a fault of the grader's often meets a whole class."""
    students: dict[tuple[str, str], list[str]] = {}
    for student, exercise, message in faults:
        students.setdefault((exercise, message), []).append(student)
    return sorted(students.items(), key=lambda pair: -len(pair[1]))


def _exercises(graded: list[SubmissionResult]) -> tuple[list[dict[str, Any]], Counter[tuple[str, str]]]:
    """A row for each exercise, hardest first, and how many made each known mistake. What was not graded counts nowhere."""
    rows: list[dict[str, Any]] = []
    mistakes: Counter[tuple[str, str]] = Counter()
    for name in dict.fromkeys(one["exercise"] for result in graded for one in result["exercises"]):
        ones = [one for result in graded for one in result["exercises"] if one["exercise"] == name]
        points = [one["points"] for one in ones if one["points"] is not None]
        possible = ones[0]["possible"]
        known = Counter(one["mistake"] for one in ones if one["mistake"])
        mistakes.update({(name, mistake): count for mistake, count in known.items()})
        rows.append({"name": name, "lesson": ones[0]["lesson"], "passed": sum(status_shown(one) == PASSED for one in ones),
                     "tried": sum(one["status"] not in ("missing", "not attempted", UNREAD) for one in ones),
                     "mean": statistics.mean(points) if points else None,
                     "median": statistics.median(points) if points else None, "possible": possible,
                     "histogram": histogram([_share(one, possible) for one in points], small=True),
                     "mistake": known.most_common(1)[0][0] if known else ""})
    rows.sort(key=lambda row: _share(row["mean"] or 0, row["possible"]))
    return rows, mistakes


def _lessons(graded: list[SubmissionResult]) -> list[tuple[str, float | None, float]]:
    """(lesson, median of points, most points) for each lesson."""
    medians = []
    for lesson in dict.fromkeys(one["lesson"] for result in graded for one in result["exercises"]):
        of_each = [[one for one in result["exercises"] if one["lesson"] == lesson] for result in graded]
        points = [[one["points"] for one in ones if one["points"] is not None] for ones in of_each]
        sums = [sum(found) for found, ones in zip(points, of_each, strict=True) if len(found) == len(ones)]
        medians.append((lesson, statistics.median(sums) if sums else None, sum(one["possible"] for one in of_each[0])))
    return medians


def _share(points: float, possible: float) -> float:
    return points / possible if possible else 0.0
