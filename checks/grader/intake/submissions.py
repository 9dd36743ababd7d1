"""Submissions as files: a folder or zip per student, or single notebooks and scripts. Read as text, never run."""

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from checks.capstone.report_card import BadCard, parse_card
from checks.grader.intake import extract
from checks.judge.source import find_mark, find_placeholder

SIZE_LIMIT = 200 << 20  # bytes of one file; a notebook with a hundred large pictures has fewer
COUNT_LIMIT = 500  # files of one submission
KINDS = (".ipynb", ".py")
CARD = "report_card.json"  # what lesson 10 writes
SKIPPED = {"solutions", "kernels", "checks", "tests", "node_modules", "site-packages", "__MACOSX"}  # not the student's work
_LESSON = re.compile(r"^(?P<student>.+?)[ _.-]+(?P<lesson>\d\d_\w+?)( ?\(\d+\))?$")
_CARD = re.compile(rf"^(?P<student>.+?)[ _.-]+{re.escape(CARD)}$", re.IGNORECASE)
_SPLIT = re.compile(r"^(?=# (?:%%|In\[|exercise: |given: ))", re.MULTILINE)


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
    """What one student handed in. `problems` are sentences about files that could not be used."""

    student: str
    cells: list[Cell] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    card: dict | None = None  # lesson 10's report card: the student's own figures, checked to be whole
    digest: str = ""
    modified: float | None = None  # the latest time of the files, seconds since 1970

    def in_file(self, file: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.file == file]


@dataclass(frozen=True)
class Found:
    """The cell of an exercise, and what is to be said about how it was found."""

    cell: Cell | None
    notices: tuple[str, ...] = ()


def find_submissions(folder: Path) -> dict[str, list[Path]]:
    """By student, in order, what to read: a folder, a zip, or single files. Raises ValueError where there is nothing."""
    found: dict[str, list[Path]] = {}
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder of submissions")
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__")) or path.is_symlink():
            continue
        if path.is_dir():
            found.setdefault(path.name, []).append(path)
        elif path.suffix.lower() in (".zip", *KINDS) or path.name.lower().endswith(CARD):
            name = _LESSON.match(path.stem) or _CARD.match(path.name)
            found.setdefault(name["student"] if name else path.stem, []).append(path)
    if not found:
        raise ValueError(f"{folder} holds no submission: a folder or a zip for each student, or notebooks named by student")
    return found


def read_submission(student: str, paths: list[Path]) -> Submission:
    """Read what a student handed in. Raises OSError where the disk fails, never for what is in the files."""
    submission, digest = Submission(student), hashlib.sha256()
    for path in paths:
        for name, data, modified in _files(path, submission.problems):
            digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
            submission.modified = max(submission.modified or 0, modified)
            if name.lower().endswith(CARD):
                try:
                    submission.card = parse_card(data, name)
                except BadCard as error:
                    submission.problems.append(f"no report card: {error}"[:500])
                continue
            try:
                sources = _notebook(data) if name.lower().endswith(".ipynb") else _script(data)
            except ValueError as error:
                submission.problems.append(f"{name} cannot be read: {error}")
                continue
            submission.cells += [Cell(source, name, index) for index, source in enumerate(sources)]
    submission.digest = digest.hexdigest()
    return submission


def find_exercise_cell(submission: Submission, name: str) -> Found:
    """The cell that holds the student's function `name`."""
    notices = []
    marked = [cell for cell in submission.cells if cell.mark == ("exercise", name)]
    if not marked:
        marked = [cell for cell in submission.cells if cell.mark is None and extract.function_in(cell.source, name)]
        if not marked:
            return Found(None)
        notices.append(f"the line `# exercise: {name}` is missing; the cell that defines `{name}` was taken")
    written = [cell for cell in marked if not is_stub(cell.source)] or marked
    if len({extract.normal_form(cell.source) for cell in written}) > 1:
        notices.append(f"`{name}` was handed in {len(written)} times; the last one counts")
    return Found(written[-1], tuple(notices))


def is_stub(source: str) -> bool:
    """Whether the hole for the student's code is still there."""
    try:
        return find_placeholder(extract.parse(source)[1]) is not None
    except SyntaxError:
        return False


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
            notices.append(f"the given cell `{name}` is missing; the original was used")
        elif kind == "given" and any(extract.normal_form(c.source) != extract.normal_form(source) for c in mine):
            notices.append(f"the given cell `{name}` was edited; the original was used")
    order = list(dict.fromkeys(cell.mark for cell in cells))
    if order != [mark for mark in wanted if mark in order]:
        notices.append("the marked cells are not in the lesson's order")
    return notices


def _files(path: Path, problems: list[str]):
    """(name, bytes, time) of the files that count, in order."""
    if path.suffix.lower() == ".zip" and path.is_file():
        yield from _zipped(path, problems)
        return
    inside = sorted(path.rglob("*")) if path.is_dir() else [path]
    kept = [file for file in inside if _counts(PurePosixPath(file.relative_to(path) if file != path else file.name))
            and not file.is_symlink() and file.is_file()]
    if len(kept) > COUNT_LIMIT:
        problems.append(f"there are {len(kept)} notebooks and scripts; only the first {COUNT_LIMIT} were read")
    for file in kept[:COUNT_LIMIT]:
        name, info = file.relative_to(path).as_posix() if file != path else file.name, file.stat()
        if info.st_size > SIZE_LIMIT:
            problems.append(f"{name} has {info.st_size:,} bytes, more than the {SIZE_LIMIT:,} that are read")
            continue
        yield name, file.read_bytes(), info.st_mtime


def _zipped(path: Path, problems: list[str]):
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir() and _counts(PurePosixPath(info.filename))]
            for info in sorted(members, key=lambda info: info.filename)[:COUNT_LIMIT]:
                if info.file_size > SIZE_LIMIT:
                    problems.append(f"{info.filename} has {info.file_size:,} bytes, more than the {SIZE_LIMIT:,} read")
                    continue
                with archive.open(info) as member:  # what the archive says of its size may be a lie
                    data = member.read(SIZE_LIMIT + 1)
                if len(data) > SIZE_LIMIT:
                    problems.append(f"{info.filename} is larger than its archive says")
                    continue
                yield info.filename, data, path.stat().st_mtime
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        problems.append(f"{path.name} is no readable zip: {error}")


def _counts(name: PurePosixPath) -> bool:
    return ((name.suffix.lower() in KINDS or name.name.lower().endswith(CARD))
            and not any(part.startswith(".") for part in name.parts) and not SKIPPED.intersection(name.parts[:-1]))


def _text(data: bytes) -> str:
    encodings = ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "latin-1")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError("its text is in no encoding known here")


def _notebook(data: bytes) -> list[str]:
    """The sources of a notebook's code cells. Raises ValueError."""
    try:
        notebook = json.loads(_text(data))
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error})") from None
    sheets = notebook.get("worksheets") if isinstance(notebook, dict) else None
    holder = sheets[0] if isinstance(sheets, list) and sheets else notebook
    if not isinstance(holder, dict) or not isinstance(holder.get("cells"), list):
        raise ValueError("it has no cells")
    sources = []
    for cell in holder["cells"]:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", cell.get("input", ""))
            source = "".join(map(str, source)) if isinstance(source, list) else str(source)
            sources.append(source.replace("\r\n", "\n"))
    return sources


def _script(data: bytes) -> list[str]:
    """A script in pieces: at its cell marks, and at the lines that mark exercises and given functions."""
    return _SPLIT.split(_text(data).replace("\r\n", "\n"))
