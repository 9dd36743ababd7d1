"""Notebooks and scripts as the sources of their code cells. Standard library only; nothing is run."""

import ast
import json
import re

CELL_LIMIT = 50_000  # characters of one cell; the longest of the lessons has 2,000
CODE_LIMIT = 400_000  # characters of all cells of a submission; the whole course has 100,000
CELLS_LIMIT = 2000
SHORT = 2000  # characters of a cell that cannot harm a parser
INSTEAD = {b"<<<<<<<": "it holds the marks of a merge conflict", b"<!doctype html": "it is a web page, no notebook",
           b"<html": "it is a web page, no notebook",
           b"version https://git-lfs": "it is a pointer of Git LFS, without the file itself"}
"""What comes in place of a notebook, by how it begins."""
_SPLIT = re.compile(r"^(?=# (?:%%|In\[|exercise: |given: ))", re.MULTILINE)
_LONE = re.compile("[\ud800-\udfff]")


def sources(name: str, data: bytes) -> list[str]:
    """The code cells of a file. Raises ValueError with the reason where there is none to be read."""
    found = _notebook(data) if ".ipynb" in name.lower() else _SPLIT.split(text(data))
    return [_LONE.sub("\ufffd", source.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")) for source in found]


def text(data: bytes) -> str:
    found = json.detect_encoding(data)  # by a byte order mark, or by the zeros between the first letters
    for encoding in (found,) if found.startswith(("utf-16", "utf-32")) else ("utf-8-sig", "latin-1"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError("its text is in no encoding known here")


def _notebook(data: bytes) -> list[str]:
    try:
        notebook = json.loads(text(data))
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
    found = []
    for cell in (cell for holder in holders for cell in holder["cells"]):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", cell.get("input", ""))
            found.append("".join(map(_source, source)) if isinstance(source, list) else _source(source))
    return found


def _no_json(data: bytes, error: Exception) -> str:
    """What a notebook is that is no JSON."""
    if not data.strip():
        return "it is empty"
    start = data[:400].lstrip().lower()
    for begins, what in INSTEAD.items():
        if start.startswith(begins):
            return what
    return f"it is no JSON ({error})"


def _source(value) -> str:
    return value if isinstance(value, str) else ""


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
