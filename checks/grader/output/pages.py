"""Pages to read: one for each student, one on the class. HTML that needs no network and runs no script."""

import statistics
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from checks.files import write_atomically
from checks.grader.course import Course, read_course
from checks.grader.output.feedback import items_for_student, messages_for_student, notices_for_student
from checks.grader.results import FAULT, SubmissionResult, file_name
from checks.judge.trial import PASSED

FIELD = 8  # pixels of one field in a picture, at least


def write_pages(grades: Path, graded: list[SubmissionResult], course: Course | None = None) -> list[Path]:
    """Write GRADES/pages/: index.html for the instructor, students/*.html to hand out. Returns the class page's path."""
    course, folder = course or read_course(), grades / "pages"
    environment = Environment(loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"points": lambda value: f"{round(value or 0, 2):g}", "page": lambda r: quote(_page(r)),
                            "lesson": lambda name: name.replace("_", " ")}
    student = environment.get_template("student.html")
    for result in graded:
        write_atomically(folder / "students" / _page(result), student.render(**_student(result, course)))
    path = folder / "index.html"
    write_atomically(path, environment.get_template("class.html").render(**_class(graded, course)))
    return [path]


def _page(result: SubmissionResult) -> str:
    return file_name(result["student"]) + ".html"


def _student(result: SubmissionResult, course: Course) -> dict:
    ones = [one | {"sign": "✓" if one["status"] == PASSED else "○" if one["status"] in ("not attempted", "missing") else "✗",
                   "messages": messages_for_student(one, course), "rubric": items_for_student(one, course),
                   "notices": notices_for_student(one), "picture": _picture(one["picture"]),
                   "picture_of": (one["picture"] or {}).get("output", 0) + 1, "earned": one["points"] or 0.0}
            for one in result["exercises"]]
    lessons = [(lesson, list(group)) for lesson, group in groupby(ones, key=lambda one: one["lesson"])]
    return {"result": result, "course": course, "problems": result["problems"], "lessons": lessons}


def _picture(picture: dict | None) -> Markup | None:
    """The error map as SVG: wrong fields in orange, with a diagonal, so that colour alone does not carry it."""
    if not picture:
        return None
    rows = picture["rows"]
    height, width = len(rows), len(rows[0])
    size = min(32, max(FIELD, 512 // width))
    fields = "".join(
        f'<rect x="{x * size}" y="{y * size}" width="{size}" height="{size}" fill="#e69f00"/>'
        f'<path d="M{x * size} {(y + 1) * size}l{size} -{size}" stroke="#7a4f00"/>'
        for y, row in enumerate(rows) for x, wrong in enumerate(row) if wrong)
    shape = " × ".join(str(int(n)) for n in picture["of"])
    return Markup(f'<svg viewBox="0 0 {width * size} {height * size}" width="{width * size}" role="img" '
                  f'aria-label="Map of an output of shape {shape}">{fields}</svg>')


def _class(graded: list[SubmissionResult], course: Course) -> dict:
    rows: list[dict[str, Any]] = []
    mistakes: Counter[tuple[str, str]] = Counter()
    for name in dict.fromkeys(one["exercise"] for result in graded for one in result["exercises"]):
        ones = [one for result in graded for one in result["exercises"] if one["exercise"] == name]
        known = Counter(one["mistake"] for one in ones if one["mistake"])
        mistakes.update({(name, mistake): count for mistake, count in known.items()})
        rows.append({"name": name, "lesson": ones[0]["lesson"], "passed": sum(one["status"] == PASSED for one in ones),
                     "tried": sum(one["status"] not in ("missing", "not attempted") for one in ones),
                     "mean": statistics.mean(one["points"] or 0 for one in ones), "possible": ones[0]["possible"],
                     "mistake": known.most_common(1)[0][0] if known else ""})
    rows.sort(key=lambda row: row["mean"] / (row["possible"] or 1))
    looked_at = [(result["student"], one) for result in graded for one in result["exercises"]
                 if one["flags"] or one["status"] == "held"]
    return {"course": course, "results": graded, "exercises": rows, "mistakes": mistakes.most_common(15),
            "flagged": looked_at,
            "faults": [(r["student"], one) for r in graded for one in r["exercises"] if one["status"] == FAULT],
            "levels": sorted({", ".join(result["isolation"]) for result in graded}), "environment": graded[0]["environment"],
            "median": statistics.median(result["points"] for result in graded), "possible": graded[0]["possible"],
            "histogram": _histogram(graded)}


def _histogram(graded: list[SubmissionResult]) -> Markup:
    tenths = Counter(min(9, int(10 * result["points"] / (result["possible"] or 1))) for result in graded)
    most, bars = max(tenths.values()), []
    for tenth in range(10):
        count, x = tenths[tenth], 40 + 60 * tenth
        height = 120 * count / most
        bars.append(f'<rect x="{x}" y="{140 - height:.1f}" width="52" height="{height:.1f}" fill="#0072b2"/>'
                    f'<text x="{x + 26}" y="{135 - height:.1f}" text-anchor="middle">{count or ""}</text>'
                    f'<text x="{x + 26}" y="158" text-anchor="middle">{10 * tenth}–{10 * tenth + 10} %</text>')
    return Markup(f'<svg viewBox="0 0 660 170" width="660" font-size="12" role="img" aria-label="Histogram of scores">'
                  f'{"".join(bars)}</svg>')
