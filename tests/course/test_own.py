"""A lesson takes a student's own kernel of an earlier one where it is right, and says whose it took."""

import shutil
from types import SimpleNamespace

import nbformat
import pytest

from checks.course import own
from checks.course.notebooks import LESSONS, exercises_in, read, solve
from checks.exercises import find_exercise

WRAPPER, KERNEL, LESSON = "quantize_int8_perrow_plain", "quantize_int8_perrow_plain_kernel", "04_quantize.ipynb"


@pytest.fixture
def taken(tmp_path, monkeypatch, capsys):
    """What `use_your_own` leaves and says, for a notebook after `change`, with kernels `right` or not."""
    monkeypatch.setattr(own, "LESSONS", tmp_path)

    def taken(change=None, right=True):
        shutil.copy(LESSONS / LESSON, tmp_path)
        if change:
            notebook = read(tmp_path / LESSON)
            change(notebook)
            nbformat.write(notebook, tmp_path / LESSON)
        monkeypatch.setattr(own, "judge", lambda exercise, kernel: SimpleNamespace(
            passed=right and (exercise.name, kernel.fn.__name__) == (KERNEL, KERNEL)))
        names = {WRAPPER: "the library's"}
        own.use_your_own(names, WRAPPER)
        return names[WRAPPER], capsys.readouterr().out.strip()
    return taken


def breaks(notebook):
    exercises_in(solve(notebook))[KERNEL].source += "\nraise SystemError"


def test_a_kernel_that_is_right_is_called_by_the_wrapper(taken):
    function, said = taken(solve)
    assert said == f"{WRAPPER}:\n  your own, from lessons/{LESSON}"
    assert vars(find_exercise(WRAPPER).module)[KERNEL] is not function.__globals__[KERNEL], "and the library keeps its own"
    assert function.__name__ == WRAPPER and function.__globals__[KERNEL].fn.__code__.co_filename.startswith("<")


@pytest.mark.parametrize("change, right, why", [
    (None, True, "is not written yet"), (solve, False, "is not right yet: its check says why"),
    (breaks, True, "is not right yet: its check says why"),
    (lambda notebook: notebook.cells.remove(exercises_in(notebook)[KERNEL]), True, "is not written yet")])
def test_the_library_s_stays_where_there_is_no_own(taken, change, right, why):
    assert taken(change, right) == ("the library's", f"{WRAPPER}:\n  the library's, for yours in lessons/{LESSON} {why}")


def test_a_notebook_that_cannot_be_read_is_named(taken, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(own, "LESSONS", tmp_path / "nowhere")
    names = {}
    own.use_your_own(names, WRAPPER)
    assert not names and "cannot be read" in capsys.readouterr().out
    with pytest.raises(LookupError, match="no exercise"):
        own.use_your_own(names, "softmax")
