"""A lesson in a new version, with what a student wrote into the old one."""

import copy

import nbformat

from checks.course.notebooks import mark


def merge(old: nbformat.NotebookNode, mine: nbformat.NotebookNode,
          new: nbformat.NotebookNode) -> tuple[nbformat.NotebookNode, list[str]]:
    """`new` with the cells that differ between `old`, the lesson as it was handed out, and `mine`.

    Returns the notebook, and a sentence for each cell that both the student and the course have changed. An exercise stays
    as the student wrote it; of the course's other cells the new text wins, and the student's notes stand below it.
    """
    before, after = {_key(cell): cell for cell in old.cells}, {_key(cell): cell for cell in new.cells}
    merged = copy.deepcopy(new)
    if "kernelspec" in mine.metadata:
        merged.metadata.kernelspec = mine.metadata.kernelspec
    places = {_key(cell): cell for cell in merged.cells}
    conflicts, seen, at = [], set[str](), 0
    for cell in mine.cells:
        key = _key(cell)
        known = key in before and key not in seen
        seen.add(key)
        if known and key in after:
            place = places[key]
            at = merged.cells.index(place) + 1
            theirs_changed = after[key].source != before[key].source
            if cell.source == before[key].source != after[key].source:
                continue  # the course alone has changed it
            if not theirs_changed or _is_exercise(cell) or cell.source == after[key].source:
                _take(place, cell)
                if theirs_changed and cell.source != after[key].source:
                    conflicts.append(f"exercise {key}: the course has changed it too, and your cell is kept. "
                                     f"`reset` with its name gives the new one")
                continue
            conflicts.append(f"cell {key}: the course has changed it too, and its text is the new one; "
                             + ("yours stands below it" if cell.cell_type == "markdown" else "yours is in the backup"))
            if cell.cell_type != "markdown":
                continue
        elif known:
            if cell.source == before[key].source:
                continue  # the course has dropped it
            conflicts.append(f"{'exercise' if _is_exercise(cell) else 'cell'} {key}: it is no longer in the course, and "
                             "yours is kept")
        merged.cells.insert(at, _own(cell, places))
        at += 1
    return merged, conflicts


def _key(cell: nbformat.NotebookNode) -> str:
    """What a cell is known by in all versions: its exercise, otherwise its id."""
    found = mark(cell)
    return found[1] if found and found[0] == "exercise" else str(cell.get("id", ""))


def _is_exercise(cell: nbformat.NotebookNode) -> bool:
    found = mark(cell)
    return found is not None and found[0] == "exercise"


def _take(place: nbformat.NotebookNode, cell: nbformat.NotebookNode) -> None:
    place.source = cell.source
    if cell.cell_type == place.cell_type == "code":
        place.outputs, place.execution_count = cell.outputs, cell.execution_count


def _own(cell: nbformat.NotebookNode, places: dict[str, nbformat.NotebookNode]) -> nbformat.NotebookNode:
    """A student's own cell; its id is a new one where the new version has that id already."""
    cell = copy.deepcopy(cell)
    if cell.get("id") in {place.get("id") for place in places.values()}:
        cell.id = f"{cell.id[:50]}-yours"
    return cell
