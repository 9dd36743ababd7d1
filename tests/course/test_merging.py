"""Cell by cell, what a lesson in a new version takes from the student's, by who has changed what."""

import copy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from checks.course.merging import merge

OLD, MINE, NEW = "old", "mine", "new"
KEPT = "exercise f: the course has changed it too, and your cell is kept. `reset` with its name gives the new one"
BELOW = "cell c: the course has changed it too, and its text is the new one; yours stands below it"
BACKUP = "cell c: the course has changed it too, and its text is the new one; yours is in the backup"
GONE = "{}: it is no longer in the course, and yours is kept"


def cell(kind, text, **more):
    if kind == "exercise":
        return new_code_cell(f"# exercise: f\n{text}", id="exercise-f", **more)
    if kind == "given":
        return new_code_cell(f"# given: f\n{text}", id="c", **more)
    return (new_code_cell if kind == "code" else new_markdown_cell)(text, id="c", **more)


def notebook(*cells):
    return new_notebook(cells=[new_code_cell("first", id="first"), *cells, new_markdown_cell("last", id="last")])


def texts(merged):
    return [each.source.rpartition("\n")[2] for each in merged.cells[1:-1]]


@pytest.mark.parametrize(("kind", "mine", "new", "merged", "said"), [
    *((kind, mine, new, [found], []) for kind in ("exercise", "code", "markdown") for mine, new, found in (
        (OLD, OLD, OLD), (OLD, NEW, NEW), (MINE, OLD, MINE), (NEW, NEW, NEW))),
    ("exercise", MINE, NEW, [MINE], [KEPT]), ("markdown", MINE, NEW, [NEW, MINE], [BELOW]),
    *((kind, MINE, NEW, [NEW], [BACKUP]) for kind in ("code", "given")),
    *((kind, None, new, [new], []) for kind in ("exercise", "code", "markdown") for new in (OLD, NEW)),
    *((kind, OLD, None, [], []) for kind in ("exercise", "code", "markdown")),
    ("exercise", MINE, None, [MINE], [GONE.format("exercise f")]), ("code", MINE, None, [MINE], [GONE.format("cell c")]),
    ("given", MINE, None, [MINE], [GONE.format("cell c")]), ("given", OLD, NEW, [NEW], []), ("given", OLD, None, [], []),
    ("markdown", MINE, None, [MINE], [GONE.format("cell c")]),
])
def test_who_has_changed_a_cell_decides(kind, mine, new, merged, said):
    """None: the cell is not there any more."""
    made = {name: notebook(*[cell(kind, text)] if text else ()) for name, text in (("old", OLD), ("mine", mine),
                                                                                        ("new", new))}
    before = copy.deepcopy(made)
    found, conflicts = merge(made["old"], made["mine"], made["new"])
    assert (texts(found), conflicts) == (merged, said)
    assert [found.cells[0].source, found.cells[-1].source] == ["first", "last"]
    nbformat.validate(found)
    assert made == before, "none of the three is written to"


@pytest.mark.parametrize(("mine", "new", "printed", "count"), [
    (OLD, OLD, ["mine"], 7), (MINE, OLD, ["mine"], 7), (NEW, NEW, ["mine"], 7), (OLD, NEW, [], None), (MINE, NEW, [], None)])
def test_what_a_cell_printed_goes_with_its_text(mine, new, printed, count):
    output = new_output("stream", text="mine")
    merged, _ = merge(notebook(cell("code", OLD)), notebook(cell("code", mine, outputs=[output], execution_count=7)),
                      notebook(cell("code", new)))
    found = merged.cells[1]
    assert ([each.text for each in found.outputs], found.execution_count) == (printed, count)


def test_cells_of_the_student_stand_behind_what_they_followed():
    """Also where that has moved, and where one of the course's between them is gone."""
    old = notebook(*(new_code_cell(name, id=name) for name in "abc"))
    mine, new = copy.deepcopy(old), copy.deepcopy(old)
    for place, name in ((5, "after last"), (4, "after c"), (2, "after a"), (0, "before all")):
        mine.cells.insert(place, new_code_cell(name, id=name.replace(" ", "-")))
    first, a, b, c, last = new.cells
    new.cells = [first, c, a, last]
    merged, conflicts = merge(old, mine, new)
    assert conflicts == []
    assert [each.source for each in merged.cells] == ["before all", "first", "c", "after c", "a", "after a", "last",
                                                      "after last"]


@pytest.mark.parametrize("name", ["taken", "t" * 64])
def test_an_id_that_is_taken_is_made_another(name):
    old, new = notebook(), notebook(new_code_cell("theirs", id=name))
    mine = notebook(new_code_cell("mine", id=name), new_code_cell("more", id="free"))
    merged, _ = merge(old, mine, new)
    assert [(each.source, each.id) for each in merged.cells if each.source not in ("first", "last")] == [
        ("mine", f"{name[:50]}-yours"), ("more", "free"), ("theirs", name)]
    nbformat.validate(merged)
    assert mine.cells[1].id == name


def test_an_exercise_is_known_by_its_name_not_its_id():
    old, new = notebook(cell("exercise", OLD)), notebook(cell("exercise", NEW))
    mine = notebook(new_code_cell(f"# exercise: f\n{MINE}", id="another"))
    merged, conflicts = merge(old, mine, new)
    assert (texts(merged), conflicts, merged.cells[1].id) == ([MINE], [KEPT], "exercise-f")


def test_a_given_cell_is_not_the_exercise_of_its_name():
    old, mine, new = (notebook(cell("given", "given"), cell("exercise", text)) for text in (OLD, MINE, OLD))
    merged, conflicts = merge(old, mine, new)
    assert (texts(merged), conflicts) == (["given", MINE], [])


def test_a_doubled_cell_is_the_student_s_the_second_time():
    old, new = notebook(cell("exercise", OLD)), notebook(cell("exercise", NEW))
    mine = notebook(cell("exercise", OLD), new_code_cell(f"# exercise: f\n{MINE}", id="second"))
    merged, conflicts = merge(old, mine, new)
    assert (texts(merged), conflicts) == ([NEW, MINE], [])


def test_cells_of_an_older_format_are_the_student_s():
    """They have no ids: none of them is taken for one of the course's."""
    mine = notebook()
    for text in ("one", "two"):
        mine.cells.insert(-1, {name: value for name, value in new_code_cell(text).items() if name != "id"})
    mine = nbformat.from_dict(mine)
    merged, conflicts = merge(notebook(), mine, notebook())
    assert (texts(merged), conflicts) == (["one", "two"], [])
