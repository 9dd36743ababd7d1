"""The roster: a CSV that says who is in the class, under which names platforms know them, and who has more time."""

import csv
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from checks.grader.intake.folder import HandedIn, Listing
from checks.grader.intake.lms import Owner
from checks.grader.intake.text import printable, printable_name

PLATFORMS = ("canvas", "moodle", "gradescope", "github")
COLUMNS = ("id", "name", "email", "section", "extension", "handed_in", "login", *PLATFORMS)


@dataclass(frozen=True)
class Student:
    """A row of the roster. `id` is what grades are kept under."""

    id: str
    name: str = ""
    email: str = ""
    section: str = ""
    login: str = ""  # Canvas's "SIS Login ID"
    extension_days: float = 0.0
    handed_in: datetime | None = None  # where the platform knows it better than the files
    ids: dict[str, str] = field(default_factory=dict, hash=False)  # by platform


@dataclass
class Roster:
    """The class. Empty where there is no roster: then every name of a submission is a student."""

    students: dict[str, Student] = field(default_factory=dict)

    def matches(self, who: Owner) -> list[Student]:
        """The students that a submission's name may mean: by the platform's number first, then by id, e-mail and name."""
        if who.platform and who.id:
            found = [one for one in self.students.values() if one.ids.get(who.platform) == who.id]
            if found:
                return found
        name, plain = who.name, _plain(who.name)
        tests = (lambda one: one.id == name,
                 lambda one: name in filter(None, (one.email, one.login)),
                 lambda one: plain in _written(one.name),
                 lambda one: plain == _plain(_local(one.email)) != "",
                 lambda one: one.ids.get("github") and name.lower().endswith(f"-{one.ids['github'].lower()}"))
        for test in tests:
            if found := [one for one in self.students.values() if test(one)]:
                return found
        return []

    def apply(self, listing: Listing) -> Listing:
        """The listing by the roster's ids. Who is in no row keeps their own name, and that is said."""
        if not self.students:
            return listing
        applied = Listing(notices=list(listing.notices))
        for handed_in in listing.students.values():
            found = {one.id for who in handed_in.owners for one in self.matches(who)}
            student = found.pop() if len(found) == 1 else handed_in.student
            if len(found) > 1:
                applied.notices.append(f"{student} may be several students of the roster: {', '.join(sorted(found))}")
            elif student not in self.students:
                applied.notices.append(f"{student} is in no row of the roster")
            one = applied.students.setdefault(student, HandedIn(student))
            if one.paths:
                one.notices.append("several submissions, which the roster gives to one student, were read together")
            one.paths += handed_in.paths
            one.notices += handed_in.notices
            one.owners += handed_in.owners
        return applied

    def absent(self, present: Iterable[str]) -> list[str]:
        """The ids of those who are not among `present`: they handed in nothing."""
        there = set(present)
        return [id for id in self.students if id not in there]


def _plain(name: str) -> str:
    """A name's letters and digits alone, without case and accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", name).casefold() if c.isalnum())


def _written(name: str) -> set[str]:
    """How platforms write a name: Ada Lovelace is `lovelaceada` on Canvas."""
    words = name.replace(",", " ").split()
    return {_plain("".join(words[start:] + words[:start])) for start in range(len(words))}


def _local(email: str) -> str:
    return email.partition("@")[0]


def read_roster(path: Path) -> Roster:
    """The roster of a CSV file. Raises ValueError that names the line that is wrong."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            if "id" not in names:
                raise ValueError(f"{path}: the first line must name the columns, `id` among them; others are "
                                 f"{', '.join(COLUMNS[1:])}")
            students: dict[str, Student] = {}
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                student = _student({name: (row.get(name) or "").strip() for name in COLUMNS}, where)
                if student.id in students:
                    raise ValueError(f"{where}: the id `{student.id}` is there twice")
                students[student.id] = student
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from None
    return Roster(students)


def _student(row: dict[str, str], where: str) -> Student:
    if not row["id"]:
        raise ValueError(f"{where}: there is no id")
    try:
        days = float(row["extension"] or 0)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1000:
        raise ValueError(f"{where}: extension must be a number of days, not {row['extension']!r}")
    try:
        handed_in = datetime.fromisoformat(row["handed_in"]) if row["handed_in"] else None
    except ValueError:
        raise ValueError(f"{where}: handed_in must be a date and time, not {row['handed_in']!r}") from None
    if handed_in is not None and handed_in.tzinfo is None:
        raise ValueError(f"{where}: handed_in needs its offset, as in 2026-10-01T23:59:00+02:00")
    shown = {name: printable(value) for name, value in row.items()}
    return Student(printable_name(row["id"]), shown["name"], shown["email"], shown["section"], shown["login"], days,
                   handed_in, {name: row[name] for name in PLATFORMS if row[name]})
