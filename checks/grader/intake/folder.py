"""The folder of a class: who handed in what, and what in it belongs to nobody. Every entry is in one of the two."""

import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path

from checks.exercises import EXERCISES
from checks.grader.intake.archives import is_archive, is_work
from checks.grader.intake.lms import Owner, owner, without_copy_mark
from checks.grader.intake.text import JOINERS, printable_name


@dataclass
class HandedIn:
    """What one student handed in: files and folders to read, and sentences about their names."""

    student: str
    paths: list[Path] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    owners: list[Owner] = field(default_factory=list)
    alone: bool = False  # whether nobody else handed in

    @property
    def late(self) -> bool:
        """Whether the platform called it late."""
        return any(one.late for one in self.owners)


@dataclass
class Listing:
    """A class: by student, in order, what they handed in. `notices` name what belongs to no student, with the reason."""

    students: dict[str, HandedIn] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


def find_submissions(folder: Path) -> Listing:
    """Who handed in what. Raises ValueError where there is nothing, OSError for a folder that cannot be read."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder of submissions")
    listing, others, owners = Listing(), [], []
    for path in sorted(folder.iterdir()):
        name = printable_name(path.name)
        if name.startswith(".") or name in ("__MACOSX", "__pycache__"):
            listing.notices.append(f"{name} was not read: it is hidden, or a system's own")
        elif path.is_dir() or is_work(name) or is_archive(name) or owner(name, folder=False).platform:
            owners.append((path, owner(name, path.is_dir())))
        else:
            others.append(path)
    owners = _with_copied_folders(owners)
    shared = _shared_names([who for _, who in owners])
    for path, who in owners:
        _add(listing, path, who, shared)
    for one in listing.students.values():
        _in_order(one)
    for path in others:
        found = listing.students.get(owner(printable_name(path.name), folder=False).name)
        if found:
            found.paths.append(path)  # which is named there as what it is
        else:
            what = "a link" if path.is_symlink() else "no notebook, script, archive or folder"
            listing.notices.append(f"{printable_name(path.name)} was not read: it is {what}")
    if not listing.students:
        raise ValueError(f"{folder} holds no submission: a folder or a zip for each student, or notebooks named by student")
    names = {exercise.lesson for exercise in EXERCISES.values()}
    lessons = [student for student in listing.students if student in names]
    if len(lessons) == len(listing.students):
        raise ValueError(f"{folder} holds one student's lessons ({', '.join(lessons[:3])}): `grade one {folder}` grades "
                         "them; a class is a folder with a folder, a zip or named notebooks for each student")
    listing.notices += [f"{name} has the name of a lesson, not of a student: whose is it?" for name in lessons]
    listing.notices += [f"{name} begins with the name of a lesson: whose is it?" for name in listing.students
                        if name not in names and name.startswith(tuple(names))]
    listing.notices += _look_alike(list(listing.students))
    for one in listing.students.values():
        one.notices += _two_forms(one)
        one.alone = len(listing.students) == 1
    return listing


def _with_copied_folders(owners: list[tuple[Path, Owner]]) -> list[tuple[Path, Owner]]:
    """Folders such as `ada (1)` are ada's where ada has handed in too; by themselves, they may be `team (1)`."""
    names = {who.name for _, who in owners}
    return [(path, replace(who, name=plain, copied=True))
            if not who.copied and (plain := without_copy_mark(who.name)) != who.name and plain in names else (path, who)
            for path, who in owners]


def _look_alike(students: list[str]) -> list[str]:
    """Sentences on names that differ in capitals, spaces, joiners or forms of a letter alone."""
    by_look: dict[str, list[str]] = {}
    for student in students:
        look = unicodedata.normalize("NFKC", student).casefold()
        by_look.setdefault("".join(c for c in look if not c.isspace() and c not in JOINERS), []).append(student)
    return [f"{' and '.join(names)} look alike, and were taken for several students"
            for names in by_look.values() if len(names) > 1]


def _shared_names(owners: list[Owner]) -> set[str]:
    """The names that several students of one platform have."""
    ids: dict[tuple[str, str], set[str]] = {}
    for who in owners:
        ids.setdefault((who.platform, who.name), set()).add(who.id)
    return {name for (_, name), found in ids.items() if len(found) > 1}


def _add(listing: Listing, path: Path, who: Owner, shared: set[str]) -> None:
    """Give `path` to its student, known by name, and by number too where several have this name."""
    student = f"{who.name}_{who.id}" if who.id and who.name in shared else who.name
    handed_in = listing.students.setdefault(student, HandedIn(student))
    handed_in.paths.append(path)
    handed_in.owners.append(who)


def _in_order(one: HandedIn) -> None:
    """What came last is to be last, where the platform's names say it of all; else the names' order stays."""
    if len(one.paths) > 1 and all(who.when for who in one.owners):
        pairs = sorted(zip(one.paths, one.owners, strict=True), key=lambda pair: pair[1].when)
        one.paths, one.owners = [path for path, _ in pairs], [who for _, who in pairs]


def _two_forms(one: HandedIn) -> list[str]:
    """Sentences on names that were taken for one student's."""
    names = [printable_name(path.name) for path in one.paths]
    said = []
    if len(set(names)) < len(names):
        said.append(f"{names[0]} is there {len(names)} times, in several forms of one name: taken for one student's")
    folders = [name for name, path in zip(names, one.paths, strict=True) if path.is_dir() or is_archive(name)]
    if len(names) > 1 and folders:
        said.append(f"handed in in {len(names)} forms, which were read together: {', '.join(names[:6])}")
    copies = [name for name, who in zip(names, one.owners, strict=False) if who.copied]
    if copies:
        said.append(f"taken for copies, by their names: {', '.join(copies[:6])}")
    return said
