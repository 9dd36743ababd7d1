"""Scores for other programs: spreadsheets, Canvas, Moodle, Gradescope, JSON, JUnit, and a text for each student's mail."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from checks.files import write_atomically
from checks.grader.course import Course
from checks.grader.gradebook import Gradebook
from checks.grader.output.feedback import messages_for_student, sentences_on_all
from checks.grader.overrides import status_shown
from checks.grader.results import FAULT, SCHEMA, UNREAD, SubmissionResult, file_name, is_open, to_json, ungraded
from checks.judge.trial import PASSED

FORMATS = ("csv", "json", "junit", "gradescope", "canvas", "moodle", "mail")
DAY_S = 86_400


def export(kind: str, book: Gradebook, folder: Path, to: Path | None = None, assignment: str = "") -> list[Path]:
    """Write the grades as `kind`, one of FORMATS, to `to` (by default into `folder`); returns the files.

    assignment: what Canvas calls it. Raises ValueError where a platform would not know whose grades these are.
    """
    if kind == "gradescope":
        place = to or folder / "gradescope"
        return [_write(place / file_name(one["student"]) / "results.json", gradescope_results(one, book.course))
                for one in book.results]
    if kind == "mail":
        return _mail(book, to or folder / "mail")
    formats: dict[str, tuple[str, Callable[[Gradebook], str | bytes]]] = {
        "csv": ("grades.csv", _csv), "json": ("grades.json", _json), "junit": ("junit.xml", _junit),
        "moodle": ("moodle.csv", _moodle), "canvas": ("canvas.csv", lambda book: _canvas(book, assignment))}
    name, write = formats[kind]
    return [_write(to or folder / name, write(book))]


def unknown_to(platform: str, book: Gradebook) -> list[str]:
    """The students whose number on a platform, or whose e-mail for `mail`, is known neither from the roster nor from the
    names of files."""
    return [one["student"] for one in book.results
            if not (one.get("email") if platform == "mail" else _id(platform, one, book))]


def _write(path: Path, text: str | bytes) -> Path:
    write_atomically(path, text)
    return path


def _table(rows: list[list]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([[_harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows])
    return text.getvalue()


def _harmless(text: str) -> str:
    """A spreadsheet takes a cell that begins so for a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _points(result: SubmissionResult) -> float | None:
    """A student's points; None while something is not graded, which is no zero."""
    return None if is_open(result) else result["points"]


def _csv(book: Gradebook) -> str:
    """A row of the most points, then one per student, a column per exercise. What could not be graded is empty, never 0."""
    possible = {one["exercise"]: one["possible"] for result in book.results for one in result["exercises"]}
    rows: list[list] = [
        ["student", "points", "possible", *possible, "flags", "infrastructure_errors", "overridden", "not_read", "name",
         "section", "late_days", "late_taken", "bonus", "handed_in"],
        ["max points", sum(possible.values()), sum(possible.values()), *possible.values(), *[None] * 10]]
    for result in book.results:
        by_name = {one["exercise"]: one["points"] for one in result["exercises"]}
        late = max(result.get("late_seconds", {}).values(), default=0.0)
        rows.append([
            result["student"], _points(result), result["possible"], *(by_name.get(name) for name in possible),
            sum(len(one["flags"]) for one in result["exercises"]), " ".join(ungraded(result, FAULT)),
            " ".join(one["exercise"] for one in result["exercises"] if "override" in one),
            " ".join(ungraded(result, UNREAD)), result.get("name", ""), result.get("section", ""),
            round(late / DAY_S, 2) or None, sum(result.get("late_taken", {}).values()) or None, result.get("bonus"), "yes"])
    for absent in book.absent:
        rows.append([absent.id, None, sum(possible.values()), *[None] * (len(possible) + 4), absent.name, absent.section,
                     *[None] * 3, "nothing"])
    return _table(rows)


def _id(platform: str, result: SubmissionResult, book: Gradebook) -> str:
    student = book.roster.students.get(result["student"])
    return (student.ids.get(platform) if student else None) or result.get("ids", {}).get(platform, "")


def _canvas(book: Gradebook, assignment: str) -> str:
    """Canvas's import (Instructor Guide, "How do I import grades in the Gradebook?"): its own columns, one assignment."""
    known = [one for one in book.results if _id("canvas", one, book)]
    if not known:
        raise ValueError("no student's Canvas id is known: give a roster with a column `canvas`, or grade the files that "
                         "Canvas lets you download")
    rows: list[list] = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", assignment or book.course.title],
                        ["    Points Possible", "", "", "", "", known[0]["possible"]]]
    for result in known:
        student = book.roster.students.get(result["student"])
        rows.append([result.get("name") or result["student"], _id("canvas", result, book), "",
                     student.login if student else "", result.get("section", ""), _points(result)])
    return _table(rows)


def _moodle(book: Gradebook) -> str:
    """Moodle's grading worksheet (docs.moodle.org, "Assignment settings": offline grading worksheet).

    Moodle refuses one without Identifier, Grade and Last modified (grade): mod/assign/feedback/offline/importgradeslib.php.
    """
    known = [one for one in book.results if _id("moodle", one, book) or one.get("email")]
    if not known:
        raise ValueError("no student's Moodle id or e-mail is known: give a roster with a column `moodle` or `email`, or "
                         "grade the files that Moodle lets you download")
    rows: list[list] = [["Identifier", "Full name", "Email address", "Grade", "Maximum Grade", "Last modified (grade)",
                        "Feedback comments"]]
    for result in known:
        id = _id("moodle", result, book)
        rows.append([f"Participant {id}" if id else "", result.get("name") or result["student"], result.get("email", ""),
                     _points(result), result["possible"], "", "\n".join(sentences_on_all(result))])
    return _table(rows)


def _mail(book: Gradebook, folder: Path) -> list[Path]:
    """A text for each student, and a table of who gets which, for a program that merges mails."""
    rows: list[list] = [["student", "name", "email", "file", "subject"]]
    paths = []
    for result in book.results:
        name = f"{file_name(result['student'])}.txt"
        points = _points(result)
        said = "not graded yet" if points is None else f"{points:g} of {result['possible']:g} points"
        about = sentences_on_all(result)
        lines = [f"{book.course.title}: {said}", *([""] if about else []), *about]
        for one in result["exercises"]:
            own = "–" if one["points"] is None else f"{one['points']:g}"
            lines += ["", f"{one['exercise']} ({one['lesson']}): {status_shown(one)}, {own} of {one['possible']:g}"]
            lines += ["    " + line for message in messages_for_student(one, book.course) for line in message.splitlines()]
        paths.append(_write(folder / name, "\n".join(lines) + "\n"))
        rows.append([result["student"], result.get("name", ""), result.get("email", ""), name,
                     f"{book.course.title}: your points"])
    return [_write(folder / "mail.csv", _table(rows)), *paths]


def _json(book: Gradebook) -> str:
    absent = [{"student": one.id, "name": one.name, "section": one.section} for one in book.absent]
    return to_json({"schema": SCHEMA, "results": book.results, "notices": book.notices + book.warnings,
                    "withdrawn": book.withdrawn, "absent": absent})


def _junit(book: Gradebook) -> bytes:
    suites = ElementTree.Element("testsuites")
    for result in book.results:
        ones = [(one, status_shown(one)) for one in result["exercises"]]
        suite = ElementTree.SubElement(suites, "testsuite", name=_xml(result["student"]), tests=str(len(ones)),
                                       failures=str(sum(said not in (PASSED, FAULT, UNREAD) for _, said in ones)),
                                       errors=str(sum(said in (FAULT, UNREAD) for _, said in ones)))
        for one, said in ones:
            case = ElementTree.SubElement(suite, "testcase", classname=one["lesson"], name=one["exercise"],
                                          time=str(one.get("seconds", 0)))
            if said != PASSED:
                kind = "error" if said in (FAULT, UNREAD) else "failure"
                text = "\n".join(messages_for_student(one, book.course))
                ElementTree.SubElement(case, kind, message=said).text = _xml(text)
    return ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)


def _xml(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return re.sub(r"[^\n\t -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def gradescope_results(result: SubmissionResult, course: Course) -> str:
    """Gradescope's results.json (gradescope-autograders.readthedocs.io, "Autograder specifications").

    An exercise that could not be graded makes the whole an error, for Gradescope would count it as 0.
    """
    if faults := ungraded(result, FAULT):
        said = f"infrastructure error in {', '.join(faults)}: grade again"
        return json.dumps({"output": said, "visibility": "hidden"}) + "\n"
    about = "\n".join(sentences_on_all(result))
    if is_open(result):
        said = f"Some work could not be read, so there are no points yet.\n{about}"
        return json.dumps({"output": said, "visibility": "visible"}) + "\n"
    tests = [{"name": f"{one['lesson']}: {one['exercise']}", "score": one["points"], "max_score": one["possible"],
              "status": "passed" if status_shown(one) == PASSED else "failed",
              "output": "\n".join(messages_for_student(one, course)), "visibility": "visible"}
             for one in result["exercises"]]
    return to_json({"score": result["points"], "output": about, "tests": tests,
                    "visibility": "visible"})
