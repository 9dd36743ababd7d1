"""How far a student has come: every exercise of the lessons, judged, in one table."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from checks.exercises import EXERCISES
from checks.judge import NOT_ATTEMPTED, PASSED, judge
from checks.notebooks import definitions, exercises_in, lessons, mark, read
from checks.trial import CRASHED, FAILED

SIGNS = {PASSED: "[green]✓ solved[/]", NOT_ATTEMPTED: "[dim]○ not attempted[/]"}


def check_notebooks(paths: list[Path]) -> int:
    """Judge the exercises of the notebooks (all lessons when none are given) and print a table; 1 if any is wrong."""
    console = Console()
    rows = []
    for path in paths or lessons():
        try:
            notebook = read(path)
        except ValueError as error:
            console.print(f"[red]{error}[/]", highlight=False, soft_wrap=True)
            return 2
        namespace, errors = definitions(notebook)
        wanted = [e.answer for e in EXERCISES.values() if e.lesson == path.stem] or list(exercises_in(notebook))
        marked = [found[1] for found in map(mark, notebook.cells) if found and found[0] == "exercise"]
        for reference in track(wanted, description=path.stem, console=console, transient=True):
            rows.append((path.stem, *_judge(reference, marked.count(reference), namespace, errors)))
    table = Table("Lesson", "Exercise", "State", "Points")
    wrong = 0
    for lesson, exercise, status, _ in rows:
        wrong += status not in SIGNS
        points = f"{exercise.points if status == PASSED else 0} / {exercise.points}"
        table.add_row(lesson, exercise.name, SIGNS.get(status, f"[red]✗ {status}[/]"), points)
    console.print(table)
    for _, exercise, status, message in rows:
        if status not in SIGNS:
            console.print(f"[red]✗ {exercise.name}[/]: {escape(message)}\n", highlight=False)
    earned = sum(exercise.points for _, exercise, status, _ in rows if status == PASSED)
    console.print(f"{sum(r[2] == PASSED for r in rows)} of {len(rows)} exercises solved, "
                  f"{earned} of {sum(r[1].points for r in rows)} points.", highlight=False)
    return 1 if wrong else 0


def _judge(reference: str, cells: int, namespace: dict, errors: dict[str, str]) -> tuple:
    name = reference.partition("::")[2]
    if name not in EXERCISES:
        raise LookupError(f"{reference} is marked as an exercise, but nothing in checks/exercises/ asks for it")
    exercise = EXERCISES[name]
    if cells != 1:
        said = f"there are {cells} cells with" if cells else "there is no cell with"
        return exercise, FAILED, f"{said} the line `# exercise: {reference}`: it must stand above your function, once"
    if reference in errors:
        return exercise, CRASHED, f"its cell does not run: {errors[reference]}"
    if name not in namespace:
        return exercise, CRASHED, f"its cell does not define {name}"
    verdict = judge(exercise, namespace[name])
    return exercise, verdict.status, verdict.message.removeprefix(f"{name}: ")
