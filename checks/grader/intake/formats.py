"""Notebooks and scripts as the sources of their code cells. Standard library only; nothing is run."""

import ast
import json
import re
from dataclasses import dataclass, field

from checks.grader.intake.archives import NOTEBOOKS
from checks.grader.intake.text import printable

CELL_LIMIT = 50_000  # characters of one cell; the longest of the lessons has 2,000
CODE_LIMIT = 400_000  # characters of all cells of a submission; the whole course has 100,000
CELLS_LIMIT = 2000
SHORT = 2000  # characters of a cell that cannot harm a parser
INSTEAD = {b"<<<<<<<": "it holds the marks of a merge conflict", b"<!doctype html": "it is a web page, no notebook",
           b"<html": "it is a web page, no notebook",
           b"version https://git-lfs": "it is a pointer of Git LFS, without the file itself"}
"""What comes in place of a notebook, by how it begins."""
_SPLIT = re.compile(r"^(?=# (?:%%|In\[|exercise: |given: ))", re.MULTILINE)
_MARKED = re.compile(r"^# exercise: ", re.MULTILINE)
_LONE = re.compile("[\ud800-\udfff]")


@dataclass
class Cells:
    """The code cells of a file. `unread` and `ignored` are sentences on its other cells, as in a `Walk`."""

    sources: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def cells_of(name: str, data: bytes) -> Cells:
    """The code cells of a file. Raises ValueError with the reason where it cannot be read."""
    if not data.strip():
        raise ValueError("it is empty")
    notebook = name.lower().endswith(NOTEBOOKS) or data.lstrip().startswith(b"{") and b'"cells"' in data  # named .py
    found = _notebook(name, data) if notebook else Cells(_SPLIT.split(text(data)))
    found.sources = [_LONE.sub("\ufffd", source.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff"))
                     for source in found.sources]
    return found


def text(data: bytes) -> str:
    found = json.detect_encoding(data)  # by a byte order mark, or by the zeros between the first letters
    for encoding in (found,) if found.startswith(("utf-16", "utf-32")) else ("utf-8-sig", "latin-1"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError("its text is in no encoding known here")


def _notebook(name: str, data: bytes) -> Cells:
    try:
        notebook = json.loads(text(data), parse_int=float)  # an integer of 5,000 digits is refused, and none matters here
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except MemoryError:
        raise ValueError("it is too large to be read") from None
    except ValueError as error:
        raise ValueError(_no_json(data, error)) from None
    sheets = notebook.get("worksheets") if isinstance(notebook, dict) else None
    holders = [sheet for sheet in (sheets if isinstance(sheets, list) and sheets else [notebook])
               if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list)]
    if not holders:
        raise ValueError("it has no cells")
    found, untyped = Cells(), 0
    for cell in (cell for holder in holders for cell in holder["cells"]):
        kind = cell.get("cell_type") if isinstance(cell, dict) else None
        if kind == "code":
            source = _source(cell.get("source", cell.get("input")))
            if source is None:
                found.unread.append(f"cell {len(found.sources) + 1} of {name} was not read: its source is no text")
            found.sources.append(source or "")
        elif not isinstance(kind, str):
            untyped += 1
        elif marked := _MARKED.search(_source(cell.get("source")) or ""):
            line = marked.string[marked.start():].partition("\n")[0]
            found.ignored.append(f"a cell of {name} with the line `{printable(line, longest=100)}` was not read: "
                                 f"its type is {printable(kind, longest=40)}, not code")
    if untyped:
        found.unread.append(f"{untyped} cell(s) of {name} were not read: they have no type")
    return found


def _no_json(data: bytes, error: Exception) -> str:
    """What a notebook is that is no JSON."""
    start = data[:400].lstrip().lower()
    for begins, what in INSTEAD.items():
        if start.startswith(begins):
            return what
    return f"it is no JSON ({error})"


def _source(value) -> str | None:
    """The text of a cell, a string or a list of strings; None for anything else."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return value if isinstance(value, str) else None


def harms(source: str) -> str | None:
    """Why a cell is not given to anybody to parse; None for one that may be, though it be no Python."""
    if len(source) > CELL_LIMIT:
        return f"it has {len(source):,} characters, more than the {CELL_LIMIT:,} that are read"
    if len(source) > SHORT:
        try:
            ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            return None  # which the grader's own parser says too, in no more time
        except MemoryError:
            return "it is too large, or nested too deeply, to be parsed"
    return None
