"""The folder of a class: who handed in what, and what in it belongs to nobody. Every entry is in one of the two."""

from dataclasses import dataclass, field
from pathlib import Path

from checks.grader.intake.archives import is_archive, is_work
from checks.grader.intake.lms import Owner, owner
from checks.grader.intake.text import printable_name


@dataclass
class HandedIn:
    """What one student handed in: files and folders to read, and sentences about their names."""

    student: str
    paths: list[Path] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    owners: list[Owner] = field(default_factory=list)

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
    shared = _shared_names([who for _, who in owners])
    for path, who in owners:
        _add(listing, path, who, shared)
    for path in others:
        found = listing.students.get(owner(printable_name(path.name), folder=False).name)
        if found:
            found.paths.append(path)  # which is named there as what it is
        else:
            listing.notices.append(f"{printable_name(path.name)} was not read: it is no notebook, script, archive or folder")
    if not listing.students:
        raise ValueError(f"{folder} holds no submission: a folder or a zip for each student, or notebooks named by student")
    for one in listing.students.values():
        one.notices += _two_forms(one)
    return listing


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


def _two_forms(one: HandedIn) -> list[str]:
    """Sentences on names that were taken for one student's."""
    names = [printable_name(path.name) for path in one.paths]
    said = []
    if len(set(names)) < len(names):
        said.append(f"{names[0]} is there {len(names)} times, in several Unicode forms: taken for one student's")
    folders = [name for name, path in zip(names, one.paths, strict=True) if path.is_dir() or is_archive(name)]
    if len(names) > 1 and folders:
        said.append(f"handed in in {len(names)} forms, which were read together: {', '.join(names[:6])}")
    copies = [name for name, who in zip(names, one.owners, strict=False) if who.copied]
    if copies:
        said.append(f"taken for copies, by their names: {', '.join(copies[:6])}")
    return said
