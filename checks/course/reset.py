"""`workshop.py reset`: restores an exercise or a whole lesson to the original, and keeps a backup of what was there.

It is found in solutions/, whose cells keep the stubs they were filled from: git may hold the student's own commits, or not
be there at all.
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path

import nbformat

from checks.course.notebooks import LESSONS, SOLUTIONS, exercises_in, mark, read, the_one, unsolve
from checks.files import write_atomically
from checks.paths import ROOT

BACKUPS = ROOT / "backups"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="workshop.py reset", description="Restore an exercise, or a whole lesson, to the original. "
        "The notebook that was there is kept in backups/.")
    parser.add_argument("lesson", help="its number, such as 04, its name or its file")
    parser.add_argument("exercise", nargs="?", help="its name or the start of it (default: the whole lesson)")
    wanted = parser.parse_args(argv)
    try:
        print(reset(wanted.lesson, wanted.exercise))
    except (LookupError, ValueError) as error:
        parser.error(error.args[0])
    except OSError as error:
        print(f"workshop.py reset: nothing was changed, because {error.filename or BACKUPS} cannot be written: "
              f"{error.strerror}.", file=sys.stderr)
        return 1
    return 0


def reset(lesson: str, exercise: str | None = None) -> str:
    """Reset the lesson, or one of its exercises; returns what was done, for the student.

    Raises LookupError when no lesson or exercise is meant, or several; ValueError for a notebook that cannot be read.
    """
    name = the_one("lesson", lesson.removesuffix(".ipynb").rpartition("/")[2], [p.stem for p in SOLUTIONS.glob("*.ipynb")])
    pristine, path = unsolve(read(SOLUTIONS / f"{name}.ipynb")), LESSONS / f"{name}.ipynb"
    what = f"lesson {name}"
    notebook = pristine
    if exercise is not None:
        exercise = the_one(f"exercise of {name}", exercise, list(exercises_in(pristine)))
        if not path.exists():
            raise ValueError(f"{path} is not there: `python3 workshop.py reset {name}` restores it")
        try:
            notebook = read(path)
        except ValueError as error:
            raise ValueError(f"{error}\n`python3 workshop.py reset {name}` restores the whole lesson and keeps this file "
                             f"in {BACKUPS.name}/") from None
        _put_back(notebook, pristine, exercise)
        what = f"{exercise} in {name}"
    return _write(path, nbformat.writes(notebook) + "\n", what)


def _put_back(notebook: nbformat.NotebookNode, pristine: nbformat.NotebookNode, exercise: str) -> None:
    """The stub of `exercise` in place of the cell, or the cells, that bear its mark; where there is none, after the cell
    that it followed."""
    stub = exercises_in(pristine)[exercise]
    marked = [index for index, cell in enumerate(notebook.cells) if mark(cell) == ("exercise", exercise)]
    if marked:
        at = marked[0]
    else:
        before = [cell.id for cell in pristine.cells[:pristine.cells.index(stub)]]
        at = 1 + max((i for i, cell in enumerate(notebook.cells) if cell.get("id") in before), default=-1)
    notebook.cells = [cell for cell in notebook.cells if mark(cell) != ("exercise", exercise)]
    notebook.cells.insert(at, stub)


def back_up(name: str, notebook: bytes, folder: Path) -> Path:
    """Keep `notebook` in `folder`, whole or not at all; returns its path. Raises OSError, as on a full disk."""
    backup = folder / f"{name}_{datetime.now():%Y-%m-%d_%H-%M-%S-%f}.ipynb"
    write_atomically(backup, notebook)
    return backup


def _write(path: Path, text: str, what: str) -> str:
    try:
        old = path.read_bytes()
    except FileNotFoundError:
        old = None
    if old == text.encode():
        return f"{what}: it is the original already, so nothing was done."
    said = f"{what}: restored to the original."
    if old is not None:
        backup = back_up(path.stem, old, BACKUPS)
        said += (f"\nYour notebook is kept as {BACKUPS.name}/{backup.name}."
                 "\nIn JupyterLab, choose File > Reload Notebook from Disk; changes you had not saved are only there.")
    write_atomically(path, text)  # a full disk leaves the notebook as it is
    return said
