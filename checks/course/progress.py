"""How far a student has come: every exercise of the lessons, judged, in one table."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from checks.course.notebooks import exercises_in, lessons, mark, read, run, untouched
from checks.exercises import EXERCISES
from checks.host.notebook import Notebook
from checks.judge.exercise import Exercise
from checks.judge.trial import CRASHED, FAILED, PASSED
from checks.judge.verdict import NOT_ATTEMPTED, judge

SIGNS = {PASSED: "[green]✓ solved[/]", NOT_ATTEMPTED: "[dim]○ not attempted[/]"}


@dataclass
class Row:
    """One exercise of a lesson, and what was found."""

    exercise: Exercise
    status: str
    message: str = ""

    @property
    def sign(self) -> str:
        return SIGNS.get(self.status, f"[red]✗ {self.status}[/]")

    @property
    def earned(self) -> int:
        return self.exercise.points if self.status == PASSED else 0


def check_notebooks(paths: list[Path]) -> int:
    """Judge the exercises of the notebooks (all lessons when none are given) and print a table.

    Returns 0, or 1 if any is wrong, or 2 for a file that cannot be checked.
    """
    console = Console()
    rows = {}
    for path in paths or lessons():
        try:
            notebook = read(path)
            wanted = _exercises_of(path, notebook)
        except ValueError as error:
            console.print(f"[red]{escape(str(error))}[/]", highlight=False, soft_wrap=True)
            return 2
        rows[path] = _rows(path.stem, wanted, notebook, console)
    console.print(_table(rows))
    every = [row for lesson in rows.values() for row in lesson]
    wrong = [row for row in every if row.status not in SIGNS]
    for row in wrong:
        console.print(f"[red]✗ {row.exercise.name}[/]: {escape(row.message)}\n", highlight=False)
    console.print(_sum(every, "exercises solved"), highlight=False)
    left = [(path, row) for path, lesson in rows.items() for row in lesson if row.status == NOT_ATTEMPTED]
    if left and not wrong:
        console.print(f"Next: {left[0][1].exercise.name} in {left[0][0].name}.", highlight=False)
    return 1 if wrong else 0


def _table(rows: dict[Path, list[Row]]) -> Table:
    table = Table("Exercise", "", "Points", box=box.SIMPLE_HEAD)
    table.columns[0].overflow, table.columns[0].min_width = "fold", 28
    table.columns[2].justify = "right"
    for path, lesson in rows.items():
        solved, points = _sum(lesson, "solved").rstrip(".").split(", ")
        table.add_row(f"[bold]{escape(path.stem)}[/]", solved, points.removesuffix(" points"))
        for row in lesson:
            table.add_row(f"  {row.exercise.name}", row.sign, f"{row.earned} of {row.exercise.points}")
        table.add_section()
    return table


def _sum(rows: list[Row], what: str) -> str:
    return (f"{sum(row.status == PASSED for row in rows)} of {len(rows)} {what}, "
            f"{sum(row.earned for row in rows)} of {sum(row.exercise.points for row in rows)} points.")


def _exercises_of(path: Path, notebook: nbformat.NotebookNode) -> list[str]:
    """The names of the lesson's exercises; for a file of another name, of those that are marked in it.

    Raises ValueError for a mark that names no exercise.
    """
    asked = [exercise.name for exercise in EXERCISES.values() if exercise.lesson == path.stem]
    if asked:
        return asked
    marked = list(exercises_in(notebook))
    unknown = [name for name in marked if name not in EXERCISES]
    if unknown:
        raise ValueError(f"{path}: a cell is marked `# exercise: {unknown[0]}`, and there is no exercise of that name")
    return marked


def _rows(lesson: str, wanted: list[str], notebook: nbformat.NotebookNode, console: Console) -> list[Row]:
    marked = [found[1] for found in map(mark, notebook.cells) if found and found[0] == "exercise"]
    stubs = [name for name, cell in exercises_in(notebook).items() if untouched(cell)]
    ran = functools.cache(lambda numbers: run(notebook, numbers))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    rows = []
    for name in track(wanted, description=lesson, console=console, transient=True, disable=not console.is_terminal):
        if marked.count(name) != 1:
            said = f"there are {marked.count(name)} cells with" if name in marked else "there is no cell with"
            found = FAILED, f"{said} the line `# exercise: {name}`: it must stand above your function, once"
        elif name in stubs:  # most of a course lies ahead of a student: a lesson of placeholders need not be run
            found = NOT_ATTEMPTED, ""
        else:
            found = _judge(EXERCISES[name], ran, code.index(exercises_in(notebook)[name]))
        rows.append(Row(EXERCISES[name], *found))
    return rows


def _judge(exercise: Exercise, ran: Callable[..., Notebook], cell: int) -> tuple[str, str]:
    """The verdict on the function, in the first way to mean it that is right; without numbers first, which is quicker."""
    tried = []
    for numbers in (False,) if exercise.is_kernel else (False, True):
        found = ran(numbers).candidates(exercise.name, exercise.wrapper)
        for candidate in found:
            function = candidate.function if candidate.own_wrapper is None else candidate.bound_wrapper(exercise.name)
            verdict = judge(exercise, function, written=candidate.function)
            if verdict.passed:
                return PASSED, verdict.message
            tried.append(verdict)
    if not tried:
        mine = next((error for error in ran(False).errors if error.cell == cell), None)
        return CRASHED, (f"its cell does not define {exercise.name}" if mine is None else
                         f"its cell does not run: {mine.type}: {mine.text}" + (f"\n  at: {mine.line}" if mine.line else ""))
    refused = [verdict for verdict in tried if verdict.outcome and isinstance(verdict.outcome.error, TypeError)]
    said = next((verdict for verdict in tried if verdict not in refused), tried[0])  # as a rule, of a wrapper that fits
    return said.status, said.message.removeprefix(f"{exercise.name}: ")
