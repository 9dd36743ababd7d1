"""Tables and dates as instructors have them: CSV from spreadsheets and platforms, dates with or without an offset."""

import csv
from collections.abc import Iterator
from datetime import datetime, time, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def table(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """("FILE, line N", the row by its columns' names in small letters) for each row that is not empty.

    Separated by commas, semicolons or tabs, in UTF-8 or what a spreadsheet writes. Raises ValueError for what is no table.
    """
    text, separator = _text(path)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True)
    names: list[str] | None = None
    try:
        for row in reader:
            where, cells = f"{path}, line {reader.line_num}", [cell.strip() for cell in row]
            if names is None:
                names = [name.lower() for name in cells]
                if len(set(filter(None, names))) < len([name for name in names if name]):
                    raise ValueError(f"{path}: two columns have one name in {', '.join(names)}")
            elif any(cells[len(names):]):
                raise ValueError(f"{where}: {len(cells)} cells for {len(names)} columns; a text with a {separator!r} in it "
                                 'needs quotes, as in "Lovelace, Ada"')
            elif any(cells):
                cells += [""] * (len(names) - len(cells))
                yield where, {name: cell for name, cell in zip(names, cells, strict=False) if name}
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None


def columns(path: Path) -> list[str]:
    """The names of a table's columns, in small letters. Raises ValueError for a file that cannot be read."""
    text, separator = _text(path)
    first = text.partition("\n")[0]
    (names,) = csv.reader([first], delimiter=separator) if first.strip() else ([],)
    return [name.strip().lower() for name in names]


def _text(path: Path) -> tuple[str, str]:
    """A table's text, with line breaks as `\\n`, and what separates its cells."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    encodings = ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            text = data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError:
            continue
        first, _, rest = text.partition("\n")
        if first.lower() in ("sep=,", "sep=;", "sep=\t"):  # which Excel reads, and leaves out of what it shows
            return rest, first[-1]
        return text, max(",;\t", key=first.count)
    raise ValueError(f"{path}: it is neither UTF-8 nor what a spreadsheet writes; save it as CSV in UTF-8")


def zone_named(name: str) -> tzinfo:
    """`Europe/Berlin`. Raises ValueError for a name that is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no timezone {name!r}; one is Europe/Berlin") from None


def date_of(text: str, zone: tzinfo | None, what: str) -> datetime:
    """A date with its offset: `2026-10-01T23:59:00+02:00`, or in `zone` `2026-10-01 23:59`, or a day, whose end is meant.

    Raises ValueError that says `what` it should have been.
    """
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{what} must be a date such as 2026-10-01 23:59, not {text!r}") from None
    if len(text) <= len("2026-10-01"):
        date = datetime.combine(date.date(), time(23, 59, 59))
    if date.tzinfo is None:
        if zone is None:
            raise ValueError(f"{what} needs its offset, as in 2026-10-01T23:59:00+02:00, or the file of "
                             "--course a line `timezone = \"Europe/Berlin\"` under [assignment]")
        date = date.replace(tzinfo=zone)
    return date
