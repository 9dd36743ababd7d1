"""The files of one submission, in folders and archives however nested, within limits. Standard library only.

Nothing is unpacked onto the disk and no link is followed. What is not read is named, with the reason.
"""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from checks.grader.intake.text import printable_name

FILE_LIMIT = 64 << 20  # bytes of one file; a notebook with many large pictures has fewer
TOTAL_LIMIT = 256 << 20  # bytes read of one submission
COUNT_LIMIT = 500  # notebooks, scripts and archives of one submission
SEEN_LIMIT = 20_000  # files and folders looked at
DEPTH_LIMIT = 4  # archives within each other
FOLDERS_LIMIT = 50  # folders within each other
NAME_LIMIT = 400  # characters of a name in an archive that are shown
HIDDEN_NAMED = 5  # hidden files and folders whose names are given
CARD = "report_card.json"  # what lesson 10 writes
NOTEBOOKS = (".ipynb", ".ipynb.txt", ".ipynb.json")  # the last two are what some browsers save
SCRIPTS = (".py", ".py.txt")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
CLOSED = (".rar", ".7z", ".gz", ".bz2", ".xz", ".zst", ".iso", ".dmg", ".cab", ".lzh", ".z", ".sit")
OURS = {"solutions", "kernels", "checks", "tests", "backups"}  # the workshop's own folders, handed in too
SYSTEM = {"__MACOSX", "__pycache__", "node_modules", "site-packages"}
NO_NAME = "(no name)"  # of a member called `/`
ZIP = b"PK\x03\x04"  # how a zip begins, whatever its name says
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")  # gzip, bzip2, xz: around a tar
Files = Iterator[tuple[str, bytes, float]]
Member = tuple[str, int, "io.BufferedIOBase | None"]


class Spent(Exception):
    """The submission has more than is read of one."""


def is_work(name: str) -> bool:
    """Whether a file of this name is read: a notebook, a script or a report card."""
    return name.lower().endswith((*NOTEBOOKS, *SCRIPTS, CARD))


def is_archive(name: str) -> bool:
    """Whether it is an archive, of a kind that is opened or not."""
    return name.lower().endswith((*ARCHIVES, *CLOSED))


def is_zip(name: str, data: bytes) -> bool:
    """Whether to open it as a zip: by how it begins; one that begins as nothing known, by its name."""
    return data.startswith(ZIP) or name.lower().endswith(".zip") and not data.startswith(COMPRESSED)


def said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


@dataclass
class Folders:
    """The folders that an archive names."""

    named: dict[str, None] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)

    def note(self, name: str, itself: bool) -> None:
        """A member, which may be a folder `itself`."""
        if itself and not name.endswith(NO_NAME):
            self.named[name] = None
        if len(self.named) > SEEN_LIMIT:
            raise Spent(f"there are more than {SEEN_LIMIT:,} folders in an archive")
        while name := name.rpartition("/")[0]:
            self.full.add(name)

    def empty(self) -> list[str]:
        return [name for name in self.named if name not in self.full]


@dataclass
class Walk:
    """Reads one submission. `unread` says of work that it could not be read, `ignored` of the rest that it was not."""

    unread: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # files and folders such as .DS_Store
    size: int = 0  # bytes read
    count: int = 0
    seen: int = 0

    def files(self, paths: list[Path]) -> Files:
        """(name, bytes, seconds since 1970) of each notebook, script and report card, in order."""
        try:
            for path in paths:
                name = printable_name(path.name)
                yield from self._path(path, name, "" if len(paths) == 1 else name + "/")
        except Spent as spent:
            self.unread.insert(0, str(spent))  # there may be many more sentences than are kept
        if self.hidden:
            names = ", ".join(self.hidden[:HIDDEN_NAMED]) + (", …" if len(self.hidden) > HIDDEN_NAMED else "")
            self.ignored.append(f"{len(self.hidden)} hidden file(s) and folder(s) were not read: {names}")

    def _path(self, path: Path, name: str, inside: str) -> Files:
        """A file, known as `name`, or a folder, whose files are known as `inside` and their own names."""
        try:
            info = path.lstat()
            if stat.S_ISDIR(info.st_mode):
                entries = os.listdir(path)  # noqa: PTH208  a name may be no text
                if not entries and inside:
                    self.ignored.append(f"{name}/ is an empty folder")
                if name.count("/") > FOLDERS_LIMIT:
                    self._not_read(f"{name}/", f"it lies in more than {FOLDERS_LIMIT} folders", work=True)
                    return
                for entry in sorted(entries):
                    inner = inside + printable_name(entry)
                    if self._is_looked_at(inner, (path / entry).is_dir()):
                        yield from self._path(path / entry, inner, inner + "/")
            elif not stat.S_ISREG(info.st_mode):
                kind = "a link" if stat.S_ISLNK(info.st_mode) else "no regular file"
                self._not_read(name, f"it is {kind}", is_work(name))
            elif self._is_wanted(name, info.st_size):
                with path.open("rb") as file:
                    data = self._bytes(name, file)
                yield from self._content(name, inside if is_archive(name) else "", data, info.st_mtime, 0)
        except OSError as error:
            self._not_read(name, said(error), work=True)

    def _content(self, name: str, inside: str, data: bytes | None, modified: float, depth: int) -> Files:
        """What a file is: itself, or the files in it where it is an archive."""
        if data is None:
            return
        if is_work(name) and not data.startswith(ZIP):
            yield name, data, modified
        elif depth == DEPTH_LIMIT:
            self._not_read(name, f"it lies in archives nested more than {DEPTH_LIMIT} deep", work=True)
        else:
            before = self.seen
            for inner, inner_data in self._members(name, inside, data):
                yield from self._content(inner, inner + "/", inner_data, modified, depth + 1)
            if self.seen == before:
                self._not_read(name, "there is no file in it", work=True)

    def _members(self, name: str, inside: str, data: bytes) -> Iterator[tuple[str, bytes | None]]:
        before, folders = self.seen, Folders()
        try:
            tar = not is_zip(name, data)
            for member, size, file in _tar(data) if tar else _zip(data):
                inner = inside + _shown(member)
                folders.note(inner, itself=member.endswith("/"))
                if member.endswith("/"):
                    continue
                looked_at = self._is_looked_at(inner, False)
                if looked_at and file is None:
                    self._not_read(inner, "it is no regular file, or the archive is locked or broken", is_work(inner))
                elif looked_at and self._is_wanted(inner, size):
                    yield inner, self._bytes(inner, file)
                elif looked_at or tar:
                    self._spend(size)  # which a tar unpacks to get past it
            for folder in folders.empty() if self.seen > before else ():
                if self._is_looked_at(folder, True):
                    self.ignored.append(f"{folder}/ is an empty folder")
        except Spent:
            raise
        except Exception as error:  # a stranger's bytes: what their formats' libraries raise is in no list
            self.seen += 1  # which is to be said once
            self._not_read(name, f"it is no archive that can be read ({said(error)})", work=True)

    def _is_looked_at(self, name: str, folder: bool) -> bool:
        """Whether a file or folder may be work; the workshop's own folders are named, hidden ones counted."""
        self.seen += 1
        if self.seen > SEEN_LIMIT:
            raise Spent(f"there are more than {SEEN_LIMIT:,} files and folders; the rest was not looked at")
        *above, last = name.split("/")
        if last.startswith(".") or SYSTEM.intersection([*above, last]) or any(part.startswith(".") for part in above):
            self.hidden.append(name)
            return False
        for index, part in enumerate([*above, last] if folder else above):
            if part in OURS:
                ours = "/".join([*above, last][:index + 1])
                sentence = f"{ours}/ was not read: a folder of that name is the workshop's own"
                if sentence not in self.ignored:
                    self.ignored.append(sentence)
                return False
        return True

    def _is_wanted(self, name: str, size: int) -> bool:
        """Whether to read a file; if not, it is named."""
        if not is_work(name) and not name.lower().endswith(ARCHIVES):
            closed = is_archive(name)
            self._not_read(name, "it is an archive of a kind that is not opened; a zip is" if closed else
                           "it is no notebook, script or archive", closed)
            return False
        self.count += 1
        if self.count > COUNT_LIMIT:
            raise Spent(f"there are more than {COUNT_LIMIT} notebooks and scripts; only the first {COUNT_LIMIT} were read")
        if size > FILE_LIMIT:
            self._not_read(name, f"it has {size:,} bytes, more than the {FILE_LIMIT:,} that are read", work=True)
        return size <= FILE_LIMIT

    def _bytes(self, name: str, file) -> bytes | None:
        try:
            data = file.read(FILE_LIMIT + 1)  # what an archive says of a size may be a lie
        except Exception as error:
            self._not_read(name, said(error), work=True)
            return None
        self._spend(len(data))
        if len(data) > FILE_LIMIT:
            self._not_read(name, f"it has more than the {FILE_LIMIT:,} bytes that are read", work=True)
            return None
        return data

    def _spend(self, size: int) -> None:
        self.size += size
        if self.size > TOTAL_LIMIT:
            raise Spent(f"there are more than the {TOTAL_LIMIT:,} bytes that are read of one submission")

    def _not_read(self, name: str, why: str, work: bool) -> None:
        (self.unread if work else self.ignored).append(f"{name} was not read: {why}")


def _zip(data: bytes) -> Iterator[Member]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if info.is_dir():
                yield info.filename, 0, None
                continue
            try:
                member = archive.open(info)
            except Exception:  # locked, or of a compression that Python lacks
                yield info.filename, info.file_size, None
                continue
            with member:
                yield info.filename, info.file_size, member  # type: ignore[misc]


def _tar(data: bytes) -> Iterator[Member]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|*") as archive:  # a stream, read once
        for info in archive:
            if info.isdir():
                yield info.name + "/", 0, None
            else:
                yield info.name, info.size, archive.extractfile(info) if info.isfile() else None  # type: ignore[misc]


def _shown(name: str) -> str:
    """The name of an archive's member, which is shown and never used as a path."""
    parts = [printable_name(part) for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    name = "/".join(parts) or NO_NAME
    return name if len(name) <= NAME_LIMIT else f"{name[:NAME_LIMIT // 2]}…{name[-NAME_LIMIT // 2:]}"
