"""Lessons and submissions as files: their exercise cells, what they define, and the solutions built from them."""

import copy
import functools
from collections.abc import Sequence
from pathlib import Path

import nbformat

from checks.host.notebook import Notebook
from checks.host.stubs import checks_that_do_nothing
from checks.judge.attempt import deadline
from checks.judge.source import answer_source, by_marks, find_mark, find_placeholder
from checks.paths import ROOT

CELL_S = 10  # for one cell; what it does beside defining things counts for nothing
LESSONS, SOLUTIONS = ROOT / "lessons", ROOT / "solutions"


def lessons() -> list[Path]:
    """The lessons' notebooks, in the order of the course."""
    return sorted(LESSONS.glob("[0-9]*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook. Raises ValueError with the file's name where it is not one."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises many kinds
        raise ValueError(f"{path} is not a notebook: {error}") from None
    for cell in notebook.cells:
        cell.source = cell.source.replace("\r\n", "\n")
    notebook.cells = [part for cell in notebook.cells for part in _taken_apart(cell)]
    return notebook


def _taken_apart(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cell, or the cells that a student has merged into it: each exercise then has its own."""
    texts = by_marks(cell.source) if cell.cell_type == "code" else []
    if len(texts) < 2:
        return [cell]
    parts = [copy.deepcopy(cell) for _ in texts]
    for number, (part, text) in enumerate(zip(parts, texts, strict=True)):
        part.source = text.rstrip("\n")
        if number:
            part.outputs = []
            if "id" in part:
                part.id = f"{cell.id[:50]}-{number + 1}"
    return parts


def mark(cell: nbformat.NotebookNode) -> tuple[str, str] | None:
    """("exercise" or "given", the function's name) for a code cell with such a mark."""
    return find_mark(cell.source) if cell.cell_type == "code" else None


def exercises_in(notebook: nbformat.NotebookNode) -> dict[str, nbformat.NotebookNode]:
    """The exercise cells by the name of their function, in order."""
    marks = ((mark(cell), cell) for cell in notebook.cells)
    return {found[1]: cell for found, cell in marks if found and found[0] == "exercise"}


def function_source(cell: nbformat.NotebookNode) -> str:
    """The function in a marked cell, without its mark."""
    return cell.source.partition("\n")[2].strip("\n") + "\n"


def untouched(cell: nbformat.NotebookNode) -> bool:
    """Whether an exercise's cell still has its placeholder."""
    try:
        return find_placeholder(function_source(cell)) is not None
    except SyntaxError:
        return False


def run(notebook: nbformat.NotebookNode, numbers: bool = False) -> Notebook:
    """The notebook's cells run from top to bottom for what they define: nothing is judged, drawn, measured or launched.

    With `numbers` the tensors that cells make have data, which takes longer. Errors count the code cells.
    """
    found, cells = Notebook(), [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    with checks_that_do_nothing(found.check):
        found.run((), cells, numbers, functools.partial(deadline, CELL_S))
    return found


def solve(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with each stub replaced by its answer, and kept in the cell's metadata."""
    for name, cell in exercises_in(notebook).items():
        cell.metadata.stub = cell.source
        cell.source = f"# exercise: {name}\n{answer_source(name).rstrip()}"
    return notebook


def unsolve(solution: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The lesson that the solution was made from."""
    for cell in solution.cells:
        if cell.cell_type == "code":
            cell.source = cell.metadata.pop("stub", cell.source)
            cell.outputs, cell.execution_count = [], None
    return solution


def execute(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run every cell, in lessons/, and keep the outputs. Raises nbclient's CellExecutionError where a cell fails."""
    from nbclient import NotebookClient

    NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False, coalesce_streams=True,
                   resources={"metadata": {"path": str(LESSONS)}}).execute()
    notebook.metadata.pop("widgets", None)
    language = notebook.metadata.language_info
    notebook.metadata.language_info = {"name": language["name"]}  # the rest tells only which Python ran it
    return notebook


def build_solution(lesson: Path, folder: Path = SOLUTIONS) -> Path:
    """Write the lesson, solved and executed, into `folder`; returns the path. Raises ValueError where an exercise
    has no placeholder."""
    notebook, path = read(lesson), folder / lesson.name
    filled = [name for name, cell in exercises_in(notebook).items() if not untouched(cell)]
    if filled:
        raise ValueError(f"{lesson.name} is not the original: {filled[0]} has no placeholder")
    folder.mkdir(exist_ok=True)
    nbformat.write(execute(solve(notebook)), path)
    return path


def build_solutions(wanted: Sequence[str] = ()) -> list[Path]:
    """Write the solutions of the lessons named, such as `04`, or of all, and remove those of lessons that are no more;
    returns the paths. Raises LookupError for a name that is no lesson's, or several lessons'."""
    known = {lesson.stem: lesson for lesson in lessons()}
    chosen = [known[the_one("lesson", name, list(known))] for name in wanted] if wanted else list(known.values())
    written = [build_solution(lesson) for lesson in chosen]
    for stale in SOLUTIONS.glob("*.ipynb"):
        if stale.stem not in known:
            stale.unlink()
    return written


def the_one(kind: str, wanted: str, names: list[str]) -> str:
    """The one of `names` that is `wanted`, or that alone starts with it: `07` is 07_fused, not 07b_fused_mlp.

    Raises LookupError, which says which names there are, where it is none, or may be several.
    """
    found = ([name for name in names if name == wanted] or [name for name in sorted(names) if name.startswith(f"{wanted}_")]
             or [name for name in sorted(names) if name.startswith(wanted)])
    if len(found) == 1:
        return found[0]
    said = f"several names start with {wanted!r}" if found else f"there is no {kind} {wanted!r}"
    raise LookupError(f"{said}; {'they are' if found else 'there are'}: {', '.join(found or sorted(names))}")
