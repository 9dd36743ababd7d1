"""Scores for other programs: a spreadsheet, JSON, JUnit and Gradescope."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from checks.files import write_atomically
from checks.grader.output.feedback import messages_for_student
from checks.grader.results import FAULT, SCHEMA, UNREAD, SubmissionResult, file_name, to_json, ungraded
from checks.judge.trial import PASSED


def export(kind: str, graded: list[SubmissionResult], grades: Path, to: Path | None) -> list[Path]:
    """Write the results as `kind` into `to` (by default into `grades`); returns the files. Raises ValueError."""
    if kind == "gradescope":
        folder = to or grades / "gradescope"
        return [_write(folder / file_name(r["student"]) / "results.json", _gradescope(r)) for r in graded]
    formats: dict[str, tuple[str, Callable[[list[SubmissionResult]], str | bytes]]] = {
        "csv": ("grades.csv", _csv), "json": ("grades.json", _json), "junit": ("junit.xml", _junit)}
    name, write = formats[kind]
    return [_write(to or grades / name, write(graded))]


def _write(path: Path, text: str | bytes) -> Path:
    write_atomically(path, text)
    return path


def _csv(graded: list[SubmissionResult]) -> str:
    """A row per student, a column per exercise. An exercise that could not be graded is empty, never 0."""
    exercises = list(dict.fromkeys(one["exercise"] for result in graded for one in result["exercises"]))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["student", "points", "possible", *exercises, "flags", "infrastructure_errors", "overridden",
                     "not_read"])
    for result in graded:
        by_name = {one["exercise"]: one for one in result["exercises"]}
        cells = [by_name[name]["points"] if name in by_name else None for name in exercises]
        faults, unread = ungraded(result, FAULT), ungraded(result, UNREAD)
        writer.writerow([_harmless(result["student"]), "" if faults or unread else result["points"], result["possible"],
                         *("" if cell is None else cell for cell in cells),
                         sum(len(one["flags"]) for one in result["exercises"]), " ".join(faults),
                         " ".join(one["exercise"] for one in result["exercises"] if "override" in one), " ".join(unread)])
    return text.getvalue()


def _harmless(text: str) -> str:
    """A spreadsheet takes a cell that begins so for a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t")) else text


def _json(graded: list[SubmissionResult]) -> str:
    return to_json({"schema": SCHEMA, "results": graded})


def _junit(graded: list[SubmissionResult]) -> bytes:
    suites = ElementTree.Element("testsuites")
    for result in graded:
        ones = result["exercises"]
        suite = ElementTree.SubElement(suites, "testsuite", name=_xml(result["student"]), tests=str(len(ones)),
                                       failures=str(sum(o["status"] not in (PASSED, FAULT, UNREAD) for o in ones)),
                                       errors=str(sum(o["status"] in (FAULT, UNREAD) for o in ones)))
        for one in ones:
            case = ElementTree.SubElement(suite, "testcase", classname=one["lesson"], name=one["exercise"],
                                          time=str(one.get("seconds", 0)))
            if one["status"] != PASSED:
                kind = "error" if one["status"] in (FAULT, UNREAD) else "failure"
                ElementTree.SubElement(case, kind, message=one["status"]).text = _xml("\n".join(messages_for_student(one)))
    return ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)


def _xml(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return re.sub(r"[^\n\t -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _gradescope(result: SubmissionResult) -> str:
    """Gradescope's results.json (gradescope-autograders.readthedocs.io, "Autograder specifications").

    An exercise that the grader could not judge makes the whole an error, for Gradescope would count it as 0.
    """
    faults, unread = ungraded(result, FAULT), ungraded(result, UNREAD)
    if faults or unread:
        said = f"infrastructure error in {', '.join(faults)}: grade again" if faults else "work that could not be read"
        return json.dumps({"output": said, "visibility": "hidden"}) + "\n"
    tests = [{"name": f"{one['lesson']}: {one['exercise']}", "score": one["points"], "max_score": one["possible"],
              "status": "passed" if one["status"] == PASSED else "failed", "output": "\n".join(messages_for_student(one)),
              "visibility": "visible"} for one in result["exercises"]]
    whole = {"score": result["points"], "tests": tests, "visibility": "visible"}
    return to_json(whole)
