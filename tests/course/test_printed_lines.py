"""What a solved lesson prints fits a page of a laptop's width: JupyterLab breaks longer lines, also within words."""

import re

import pytest

from checks.course.notebooks import SOLUTIONS, lessons, read
from checks.notebook import _in_lines

WIDEST = 85
SENTENCES = {"broken-run", "hang"}  # an error's own words, of any length
WRITTEN_BY_A_MODEL = {"sample"}


def printed(path):
    """(the cell's id, the line) for each that a cell prints, or shows as the value of its last expression."""
    for cell in read(path).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = "" if "<img" in data.get("text/html", "") else output.get("text", data.get("text/plain", ""))
            yield from ((cell.id, re.sub(r"\x1b\[[\d;]*m", "", line)) for line in text.splitlines())


@pytest.mark.parametrize("lesson", [pytest.param(path, id=path.stem) for path in lessons()])
def test_lines_fit_the_page(lesson):
    lines = [(cell, line) for cell, line in printed(SOLUTIONS / lesson.name) if cell not in SENTENCES | WRITTEN_BY_A_MODEL]
    assert lines and not [(cell, line) for cell, line in lines if len(line) > WIDEST]


@pytest.mark.parametrize(("message", "lines"), [
    ("✓ f: right on 5 cases", ["✓ f: right on 5 cases"]),
    ("✓ f: right · 2.00x the bytes", ["✓ f: right · 2.00x the bytes"]),
    (f"{'a' * 40} · {'b' * 40}", [f"{'a' * 40} · {'b' * 40}"]),
    (f"{'a' * 40} · {'b' * 41} · c", ["a" * 40, f"  {'b' * 41} · c"])])
def test_a_check_s_message_is_broken_between_its_parts(message, lines):
    assert _in_lines(message).splitlines() == lines
