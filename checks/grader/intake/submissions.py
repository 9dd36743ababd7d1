"""Submissions: the cells of what one student handed in, read as text and never run, and the cell of each exercise."""

import ast
import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from checks.capstone.report_card import BadCard, parse_card, summary
from checks.exercises import EXERCISES
from checks.grader.intake import extract
from checks.grader.intake.lms import owner
from checks.grader.intake.reader import READER, CannotBeRead
from checks.grader.intake.text import printable
from checks.judge.source import by_marks, find_mark, find_placeholder


@dataclass(frozen=True)
class Cell:
    """One code cell."""

    source: str
    file: str
    index: int

    @cached_property
    def mark(self) -> tuple[str, str] | None:
        """("exercise" or "given", the function's name)."""
        return find_mark(self.source)


@dataclass
class Submission:
    """What one student handed in.

    `problems` are sentences about files. `unread` says whether there is work among them that could not be read: what is
    missing may stand there, and is no zero.
    """

    student: str
    cells: list[Cell] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    card: dict | None = None  # lesson 10's report card: the student's own figures, checked to be whole
    digest: str = ""
    modified: float | None = None  # the latest time of the files, seconds since 1970
    unread: bool = False
    times: dict[str, float] = field(default_factory=dict)  # of each file, seconds since 1970
    until: float = math.inf  # by when it is to be graded, time.monotonic()

    def in_file(self, file: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.file == file]


@dataclass(frozen=True)
class Found:
    """The cell of an exercise, and what is to be said about how it was found."""

    cell: Cell | None
    notices: tuple[str, ...] = ()


def read_submission(student: str, paths: list[Path]) -> Submission:
    """Read what a student handed in, in a process with limits. Never raises for what is in the files or for the files."""
    try:
        read = READER.read(paths)
    except CannotBeRead as error:
        return Submission(student, problems=[f"nothing was read: {error}"], unread=True)
    cells = [Cell(part, file, index) for source, file, index in read["cells"] for part in by_marks(source)]
    submission = Submission(student, cells, read["unread"] + read["ignored"] + read["empty"], None, read["digest"],
                            read["modified"], bool(read["unread"]), read["times"])
    for name, text in read["cards"]:
        _read_card(submission, name, text.encode("latin-1"))
    if not cells and submission.card is None:
        submission.unread |= bool(read["ignored"]) and not read["cards"]
        if not submission.problems:
            submission.problems.append("nothing was handed in: there is no file" if paths else "nothing was handed in")
    elif not cells:
        submission.problems.append("a report card was handed in, which earns no points, and no notebook or script")
    elif not any(cell.mark for cell in cells):
        submission.problems.append("no cell has a line `# exercise: …`, by which exercises are found")
    submission.problems += _handed_in_twice(submission)
    return submission


def several_students(files: Iterable[str], alone: bool) -> list[str]:
    """A sentence where a submission looks like the download of a whole class, by the names of its files.

    Platforms' names tell; folders that hold the same names do so where nobody else handed in, `alone`.
    """
    paths = [name.split("/") for name in files]
    while paths and all(len(path) > 1 and path[0] == paths[0][0] for path in paths):
        paths = [path[1:] for path in paths]
    owners = [owner(path[0], folder=len(path) > 1) for path in paths]
    names = list({(who.platform, who.id or who.name): who.name for who in owners if who.platform}.values())
    if len(names) < 2 and alone:
        same = [{path[0] for path in paths if len(path) > 1 and path[-1] == last} for last in {path[-1] for path in paths}]
        names = max((sorted(one) for one in same), key=len, default=[])
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return [f"it looks like the work of several students ({shown}), and was read as one's: if so, "
            "unpack it, and give `grade class` the folder in which they lie"] if len(names) > 1 else []


def _read_card(submission: Submission, name: str, data: bytes) -> None:
    try:
        card = parse_card(data, name)
        summary(card)  # a number may be one that cannot be shown
    except (BadCard, OverflowError, ValueError) as error:
        submission.problems.append(printable(f"no report card: {error}", longest=200))
    else:
        submission.card = card


def _handed_in_twice(submission: Submission) -> list[str]:
    marked: dict[str, list[Cell]] = {}
    for cell in submission.cells:
        if cell.mark and cell.mark[0] == "exercise":
            marked.setdefault(cell.mark[1], []).append(cell)
    written = {name: _written(cells) for name, cells in marked.items() if len(cells) > 1 and name in EXERCISES}
    return [f"`{name}` was handed in {len(cells)} times, not alike ({_places(cells)}); the last one counts"
            for name, cells in written.items() if len({normal_form(cell.source) for cell in cells}) > 1]


def _places(cells: list[Cell]) -> str:
    return ", ".join(f"cell {cell.index + 1} of {cell.file}" for cell in cells[:5])


def _written(cells: list[Cell]) -> list[Cell]:
    """Those that are no stub, or all where all are."""
    if len(cells) == 1:
        return cells
    return [cell for cell in cells if not is_stub(cell.source)] or cells


def find_exercise_cell(submission: Submission, name: str) -> Found:
    """The cell that holds the student's function `name`."""
    notices = []
    marked = [cell for cell in submission.cells if cell.mark == ("exercise", name)]
    if not marked:
        defining = [cell for cell in submission.cells if defines(cell.source, name)]
        marked = ([cell for cell in defining if cell.mark is None]
                  or [cell for cell in defining if cell.mark and cell.mark[0] == "exercise"])  # with which it was merged
        if not marked:
            return Found(None)
        notices.append(f"the line `# exercise: {name}` is missing; the cell that defines `{name}` was taken")
    written = _written(marked)
    if len(written) > 1 and len({normal_form(cell.source) for cell in written}) > 1:
        notices.append(f"`{name}` was handed in {len(written)} times; the last one counts")
    return Found(written[-1], tuple(notices))


def defines(source: str, name: str) -> bool:
    """Whether a cell defines a function `name` at its top level."""
    return name in source and name in _functions(source)


@functools.lru_cache(1000)
def _functions(source: str) -> frozenset[str]:
    try:
        return frozenset(node.name for node in extract.parse(source)[0].body if isinstance(node, ast.FunctionDef))
    except SyntaxError:
        return frozenset()


@functools.lru_cache(1000)
def is_stub(source: str) -> bool:
    """Whether the hole for the student's code is still there."""
    if "TODO" not in source:
        return False
    try:
        return find_placeholder(extract.parse(source)[1]) is not None
    except (SyntaxError, RecursionError):
        return False


@functools.lru_cache(1000)
def normal_form(source: str) -> str:
    """The source without comments and layout, where Python can print it back: a sum of 2,000 terms is nested too deeply."""
    try:
        return extract.normal_form(source)
    except (RecursionError, MemoryError, ValueError):
        return re.sub(r"\s+", " ", source).strip()


def given_notices(submission: Submission, file: str, lesson_cells: tuple[str, ...]) -> list[str]:
    """Sentences on the given cells of a notebook that are missing, edited or in another order."""
    handed_out = [Cell(source, "", index) for index, source in enumerate(lesson_cells)]
    wanted = {cell.mark: cell.source for cell in handed_out if cell.mark}
    cells = [cell for cell in submission.in_file(file) if cell.mark in wanted]
    notices = []
    for mark, source in wanted.items():
        kind, name = mark
        mine = [cell for cell in cells if cell.mark == mark]
        if kind == "given" and not mine:
            theirs = any(defines(cell.source, name) for cell in submission.in_file(file))
            notices.append(f"the given cell `{name}` is missing; the original was {'tried first' if theirs else 'used'}")
        elif kind == "given" and any(normal_form(c.source) != normal_form(source) for c in mine):
            notices.append(f"the given cell `{name}` was edited; the original was tried first")
    order = list(dict.fromkeys(cell.mark for cell in cells))
    if order != [mark for mark in wanted if mark in order]:
        notices.append("the marked cells are not in the lesson's order")
    return notices
