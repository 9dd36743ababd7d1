"""Rebuilding solutions/ changes nothing."""

import pytest

from checks.notebooks import SOLUTIONS, build_solution, lessons, read
from kernels.runtime import INTERPRETED


def without_images(path):
    """The notebook's cells and outputs; of a picture, that it is there (its bytes depend on the machine's fonts)."""
    cells = []
    for cell in read(path).cells:
        outputs = [{**output, "data": {kind: value for kind, value in output.get("data", {}).items()
                                       if kind != "image/png"}, "image": "image/png" in output.get("data", {})}
                   for output in cell.get("outputs", [])]
        cells.append((cell.id, cell.source, outputs))
    return cells


@pytest.mark.parametrize("lesson", [pytest.param(path, id=path.stem) for path in lessons()])
def test_rebuilding_changes_nothing(lesson, tmp_path):
    new, old = without_images(build_solution(lesson, tmp_path)), without_images(SOLUTIONS / lesson.name)
    if not INTERPRETED:  # on a GPU the figures are live, so only the cells can be the same
        new, old = [cell[:2] for cell in new], [cell[:2] for cell in old]
    assert new == old, "run `python3 workshop.py solutions`"
