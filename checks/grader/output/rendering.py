"""Templates filled in: HTML that needs no network and runs no script."""

import re
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from checks.files import write_atomically
from checks.grader.output.feedback import lateness
from checks.grader.overrides import status_shown
from checks.grader.results import SubmissionResult, file_name

FIELD = 8  # pixels of one field in a picture, at least
_environment = Environment(loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True,
                           undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _points(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 2):g}"


def _lesson(name: str) -> str:
    return name.replace("_", " ")


def _marked(text: str) -> Markup:
    """A sentence in which names between backquotes are code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def page(result: SubmissionResult) -> str:
    """The name of a student's page."""
    return file_name(result["student"]) + ".html"


def _link(result: SubmissionResult) -> str:
    return quote(page(result))


_environment.filters.update(marked=_marked, points=_points, lesson=_lesson, page=_link, lateness=lateness,
                            status=status_shown)


def write_from_template(template: str, path: Path, values: dict) -> Path:
    """Fill in a template of templates/ and write the page. Returns its path."""
    write_atomically(path, _environment.get_template(template).render(**values))
    return path


def picture(drawn: dict | None) -> Markup | None:
    """The error map as SVG: wrong fields in orange, with a diagonal, so that colour alone does not carry it."""
    if not drawn:
        return None
    rows = drawn["rows"]
    height, width = len(rows), len(rows[0])
    size = min(32, max(FIELD, 512 // width))
    fields = "".join(
        f'<rect x="{x * size}" y="{y * size}" width="{size}" height="{size}" fill="#e69f00"/>'
        f'<path d="M{x * size} {(y + 1) * size}l{size} -{size}" stroke="#7a4f00"/>'
        for y, row in enumerate(rows) for x, wrong in enumerate(row) if wrong)
    shape = " × ".join(str(int(n)) for n in drawn["of"])
    return Markup(f'<svg viewBox="0 0 {width * size} {height * size}" width="{width * size}" role="img" '
                  f'aria-label="Map of an output of shape {shape}">{fields}</svg>')


def histogram(shares: list[float], small: bool = False) -> Markup:
    """How many of these shares, from 0 to 1, lie in each tenth; with numbers and an axis, or `small` without."""
    counts = [0] * 10
    for share in shares:
        counts[min(9, max(0, int(10 * share)))] += 1
    most, top, step = max([*counts, 1]), (30 if small else 120), (12 if small else 60)
    bars = []
    for tenth, count in enumerate(counts):
        left, height = (0 if small else 40) + step * tenth, top * count / most
        base, width = top + (2 if small else 20), step - (2 if small else 8)
        bars.append(f'<rect class="bar" x="{left}" y="{base - height:.1f}" width="{width}" height="{height:.1f}"/>')
        if not small:
            bars.append(f'<text x="{left + 26}" y="{135 - height:.1f}" text-anchor="middle">{count or ""}</text>'
                        f'<text x="{left + 26}" y="158" text-anchor="middle">{10 * tenth}–{10 * tenth + 10} %</text>')
    said = ", ".join(f"{count} from {10 * tenth} %" for tenth, count in enumerate(counts) if count)
    box = 'viewBox="0 0 120 34" width="120"' if small else 'viewBox="0 0 660 170" width="660" font-size="12"'
    return Markup(f'<svg {box} role="img" aria-label="Histogram: {said or "nobody"}">{"".join(bars)}</svg>')
