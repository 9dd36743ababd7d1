"""Rebuilding solutions/ changes nothing, and nothing of a lesson is lost in it."""

import decimal
import json
import re

import nbformat
import pytest

from checks.course.notebooks import SOLUTIONS, build_solution, lessons, read, solve, unsolve
from kernels.runtime import INTERPRETED

NUMBER = re.compile(r"[-+−]?(?<![\w.])\d+(?:\.\d+)?(?:e[-+]\d+)?")
TODAY = re.compile(r"\d{4}-\d\d-\d\d · torch \S+")  # above the student's own report card


class Printed:
    """A number in an output. Another CPU adds up in another order, which may move a fraction's last digit by one."""

    def __init__(self, text: str):
        self.text, self.value = text, decimal.Decimal(text.replace("−", "-"))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Printed):
            return NotImplemented
        digits = self.value.as_tuple().exponent
        return digits == other.value.as_tuple().exponent and abs(self.value - other.value) <= (
            decimal.Decimal((0, (1,), digits)) if digits < 0 else 0)

    def __repr__(self) -> str:
        return self.text


def cells(path):
    """The notebook's cells: what is written in each, its outputs' text, and the numbers in that text.

    Of a picture, what is said of it: its bytes depend on the machine's fonts.
    """
    found = []
    for cell in read(path).cells:
        outputs = [{**output, "data": {kind: re.sub('src="[^"]*"', "", value)
                                       for kind, value in output.get("data", {}).items()}}
                   for output in cell.get("outputs", [])]
        text = TODAY.sub("today · torch", json.dumps(outputs, ensure_ascii=False))
        found.append((cell.id, cell.source, cell.metadata, NUMBER.sub("#", text), [*map(Printed, NUMBER.findall(text))]))
    return found


def test_numbers_may_differ_by_a_rounding_and_no_more():
    assert Printed("-0.00005") == Printed("-0.00006") and Printed("+0.062") == Printed("+0.063")
    for number, other in (("0.062", "0.064"), ("0.06", "0.062"), ("34", "35"), ("-0.1", "0.1"), ("1.5e-05", "1.5e-06")):
        assert Printed(number) != Printed(other)


@pytest.mark.parametrize("lesson", [pytest.param(path, id=path.stem) for path in lessons()])
def test_rebuilding_changes_nothing(lesson, tmp_path):
    new, old = cells(build_solution(lesson, tmp_path)), cells(SOLUTIONS / lesson.name)
    if not INTERPRETED:  # on a GPU the figures are live, so only the cells can be the same
        new, old = [cell[:3] for cell in new], [cell[:3] for cell in old]
    assert new == old, "run `python3 workshop.py solutions`"


@pytest.mark.parametrize("lesson", [pytest.param(path, id=path.stem) for path in lessons()])
def test_a_solution_gives_its_lesson_back(lesson):
    assert nbformat.writes(unsolve(read(SOLUTIONS / lesson.name))) + "\n" == lesson.read_text()


def test_a_lesson_filled_in_by_a_student_gives_no_solution(tmp_path):
    notebook = solve(read(lessons()[0]))
    nbformat.write(notebook, tmp_path / "00_mine.ipynb")
    with pytest.raises(ValueError, match="^00_mine.ipynb is not the original: programs_needed has no placeholder$"):
        build_solution(tmp_path / "00_mine.ipynb", tmp_path / "solutions")
    assert not (tmp_path / "solutions").exists()
