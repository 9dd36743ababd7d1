"""Rebuilding solutions/ changes nothing, and nothing of a lesson is lost in it."""

import re

import nbformat
import pytest

from checks.course.notebooks import SOLUTIONS, build_solution, lessons, read, solve, unsolve
from kernels.runtime import INTERPRETED


def without_images(path):
    """The notebook's cells and outputs; of a picture, what is said of it (its bytes depend on the machine's fonts)."""
    cells = []
    for cell in read(path).cells:
        outputs = [{**output, "data": {kind: re.sub('src="[^"]*"', "", value)
                                       for kind, value in output.get("data", {}).items()}}
                   for output in cell.get("outputs", [])]
        cells.append((cell.id, cell.source, cell.metadata, outputs))
    return cells


@pytest.mark.parametrize("lesson", [pytest.param(path, id=path.stem) for path in lessons()])
def test_rebuilding_changes_nothing(lesson, tmp_path):
    new, old = without_images(build_solution(lesson, tmp_path)), without_images(SOLUTIONS / lesson.name)
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
