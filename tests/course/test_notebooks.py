"""Lessons and submissions as files: what is read of them, and how one of several names is found."""

from types import SimpleNamespace

import nbclient
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from checks.course import notebooks
from checks.course.notebooks import LESSONS, SOLUTIONS
from checks.paths import ROOT


def test_lessons_are_in_the_order_of_the_course(tmp_path, monkeypatch):
    assert (LESSONS, SOLUTIONS) == (ROOT / "lessons", ROOT / "solutions")
    names = ["10_a.ipynb", "07b_a.ipynb", "07_b.ipynb", "01_z.ipynb", "notes.ipynb", "02_a.py", ".03_a.ipynb"]
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr(notebooks, "LESSONS", tmp_path)
    assert [path.name for path in notebooks.lessons()] == ["01_z.ipynb", "07_b.ipynb", "07b_a.ipynb", "10_a.ipynb"]


def written(path, *cells):
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


def test_merged_cells_are_read_as_the_cells_they_were(tmp_path):
    """The first keeps what the cell printed, and each has an id of its own."""
    text = "# exercise: a\r\ndef a():\r\n    return 1\n\n\n# given: b\nb = 2\n# exercise: c\ndef c():\n    pass\n"
    output = nbformat.v4.new_output("stream", text="printed")
    cell = new_code_cell(text, id="i" * 60, outputs=[output], execution_count=3, metadata={"tags": ["x"]})
    alone = new_code_cell("# exercise: d\nd = 1\n\n", id="alone", outputs=[output])
    prose = new_markdown_cell("# exercise: e\n\n# exercise: f\n", id="prose")
    found = notebooks.read(written(tmp_path / "a.ipynb", cell, alone, prose)).cells
    assert [part.source for part in found] == ["# exercise: a\ndef a():\n    return 1", "# given: b\nb = 2",
                                               "# exercise: c\ndef c():\n    pass", alone.source, prose.source]
    assert [part.id for part in found] == ["i" * 60, "i" * 50 + "-2", "i" * 50 + "-3", "alone", "prose"]
    assert [len(part.outputs) for part in found[:4]] == [1, 0, 0, 1]
    assert all(part.metadata.tags == ["x"] for part in found[:3]) and found[1].metadata is not found[0].metadata
    nbformat.validate(new_notebook(cells=found))


def test_cells_of_an_older_format_have_no_ids(tmp_path):
    path = tmp_path / "old.ipynb"
    path.write_text('{"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [{"cell_type": "code", "metadata": {}, '
                    '"outputs": [], "execution_count": null, "source": "# exercise: a\\na = 1\\n# exercise: b\\nb = 1"}]}')
    assert [cell.source for cell in notebooks.read(path).cells] == ["# exercise: a\na = 1", "# exercise: b\nb = 1"]


@pytest.mark.parametrize("text", ["{", "[]", "", '{"nbformat": 4}', "\xff", None])
def test_what_is_no_notebook_is_named(tmp_path, text):
    path = tmp_path / "a.ipynb"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=f"^{path} is not a notebook: "):
        notebooks.read(path)


def test_marked_cells_are_found_by_their_name():
    cells = [new_markdown_cell("# exercise: prose"), new_code_cell("# exercise: a\na = 1"),
             new_code_cell("# given: b\nb = 1"), new_code_cell("c = 1"), new_code_cell("# exercise: d\nd = 1"),
             new_code_cell("# exercise: a\na = 2")]
    assert [notebooks.mark(cell) for cell in cells] == [None, ("exercise", "a"), ("given", "b"), None, ("exercise", "d"),
                                                        ("exercise", "a")]
    found = notebooks.exercises_in(new_notebook(cells=cells))
    assert list(found) == ["a", "d"] and found["a"] is cells[5], "the last of several attempts"


@pytest.mark.parametrize(("source", "function", "untouched"), [
    ("# exercise: f\ndef f():\n    raise NotImplementedError('TODO: about 1 line')",
     "def f():\n    raise NotImplementedError('TODO: about 1 line')\n", True),
    ("# exercise: f\n\n\ndef f():\n    return 1\n\n\n", "def f():\n    return 1\n", False),
    ("# exercise: f\ndef f(:\n    raise NotImplementedError('TODO: about 1 line')",
     "def f(:\n    raise NotImplementedError('TODO: about 1 line')\n", False),
    ("# exercise: f", "\n", False)])
def test_a_cell_s_function_and_whether_it_is_written(source, function, untouched):
    cell = new_code_cell(source)
    assert notebooks.function_source(cell) == function and notebooks.untouched(cell) == untouched


def test_a_stub_is_kept_beside_its_answer_and_comes_back():
    stub = "# exercise: gemv_bytes\ndef gemv_bytes(N, K):\n    raise NotImplementedError('TODO: 1 line')"
    given = new_code_cell("# given: b\nb = 1", execution_count=4, outputs=[nbformat.v4.new_output("stream", text="x")])
    prose = new_markdown_cell("text", metadata={"stub": "kept"})
    solved = notebooks.solve(new_notebook(cells=[prose, new_code_cell(stub), given]))
    answer = solved.cells[1]
    assert answer.source.startswith("# exercise: gemv_bytes\ndef gemv_bytes(") and "TODO" not in answer.source
    assert answer.metadata.stub == stub and answer.source == answer.source.rstrip() and "stub" not in given.metadata
    answer.outputs, answer.execution_count = list(given.outputs), 5
    again = notebooks.unsolve(solved)
    assert [cell.source for cell in again.cells] == ["text", stub, given.source] and "stub" not in again.cells[1].metadata
    assert [(cell.outputs, cell.execution_count) for cell in again.cells[1:]] == [([], None)] * 2
    assert again.cells[0].metadata.stub == "kept"


def test_a_lesson_is_executed_beside_the_others(monkeypatch):
    """What tells which Python ran it, when, and in which windows it was shown, is no part of a solution."""
    asked = []

    def client(notebook, **options):
        asked.append(options)
        return SimpleNamespace(execute=lambda: notebook.metadata.update(
            widgets={}, language_info={"name": "python", "version": "3.12"}))

    monkeypatch.setattr(nbclient, "NotebookClient", client)
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = new_notebook(metadata={"kernelspec": kernel})
    assert notebooks.execute(notebook) is notebook
    assert notebook.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}
    assert asked == [{"timeout": 300, "kernel_name": "python3", "record_timing": False, "coalesce_streams": True,
                      "resources": {"metadata": {"path": str(LESSONS)}}}]


def test_a_solution_is_written_where_it_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "execute", lambda notebook: notebook)
    stub = "# exercise: gemv_bytes\ndef gemv_bytes(N, K):\n    raise NotImplementedError('TODO: 1 line')"
    lesson = written(tmp_path / "01_a.ipynb", new_code_cell(stub, id="a"))
    for _ in range(2):  # into a folder that is there, too
        assert notebooks.build_solution(lesson, tmp_path / "new") == tmp_path / "new" / "01_a.ipynb"
    assert notebooks.read(tmp_path / "new" / "01_a.ipynb").cells[0].metadata.stub == stub
    assert notebooks.read(lesson).cells[0].source == stub


NAMES = ["07b_fused_mlp", "07_fused", "10_a", "10_ab", "a", "ab", "ac_d"]


@pytest.mark.parametrize(("wanted", "found"), [
    ("07_fused", "07_fused"), ("07", "07_fused"), ("07b", "07b_fused_mlp"), ("07_", "07_fused"), ("10_a", "10_a"),
    ("a", "a"), ("ac", "ac_d"), ("07b_f", "07b_fused_mlp"), ("ab", "ab")])
def test_the_start_of_a_name_will_do(wanted, found):
    assert notebooks.the_one("lesson", wanted, NAMES) == found


@pytest.mark.parametrize(("wanted", "said"), [
    ("0", "several names start with '0'; they are: 07_fused, 07b_fused_mlp"),
    ("10", "several names start with '10'; they are: 10_a, 10_ab"),
    ("fused", "there is no lesson 'fused'; there are: 07_fused, 07b_fused_mlp, 10_a, 10_ab, a, ab, ac_d"),
    ("", "several names start with ''; they are: 07_fused, 07b_fused_mlp, 10_a, 10_ab, a, ab, ac_d")])
def test_a_name_that_is_not_clear_is_said(wanted, said):
    with pytest.raises(LookupError) as caught:
        notebooks.the_one("lesson", wanted, NAMES)
    assert caught.value.args[0] == said


@pytest.mark.parametrize("numbers", [False, True])
def test_cells_run_on_tensors_with_or_without_numbers(numbers):
    cells = [new_markdown_cell("x = 1"), new_code_cell("import torch\nx = torch.ones(3)\ndef total():\n    return x.sum()"),
             new_code_cell("1 / 0"), new_code_cell("many = int(x.sum()) + 2")]
    found = notebooks.run(new_notebook(cells=cells), numbers)
    assert ("many" in found.namespace) == numbers and "total" in found.namespace
    assert [error.cell for error in found.errors][:1] == [1] and len(found.errors) == (1 if numbers else 2)


def test_a_cell_without_end_is_ended(monkeypatch):
    monkeypatch.setattr(notebooks, "CELL_S", 0.05)
    found = notebooks.run(new_notebook(cells=[new_code_cell("while True:\n    pass"), new_code_cell("after = 1")]))
    assert [error.cell for error in found.errors] == [0] and found.namespace["after"] == 1
