"""The roster: who is in the class, under which names platforms know them, and who has more time."""

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path

from checks.grader.intake.folder import HandedIn, Listing
from checks.grader.intake.lms import Owner
from checks.grader.intake.text import printable, printable_name
from checks.grader.tables import columns, date_of, table

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
    extension_days: float = 0.0  # after each deadline
    extended_to: datetime | None = None
    handed_in: datetime | None = None  # where the platform knows it better than the files
    ids: dict[str, str] = field(default_factory=dict, hash=False)  # by platform
    deadlines: dict[str, datetime] = field(default_factory=dict, hash=False)  # their own, by lesson


@dataclass(frozen=True)
class Export:
    """A platform's own table of its students."""

    needs: tuple[str, ...]  # columns by which it is known
    columns: Callable[[dict[str, str]], dict[str, str]]  # from its row to ours


def _canvas(row: dict[str, str]) -> dict[str, str]:
    """Canvas: Grades, Export (docs.instructure.com, "How do I export grades in the Gradebook?")."""
    login, number = row.get("sis login id", ""), row["id"] if row["id"].isdecimal() else ""
    id = (login or row.get("sis user id", "") or number) if number else ""
    return {"id": "" if row["student"] == "Student, Test" else id, "name": row["student"], "login": login, "canvas": number,
            "section": row.get("section", ""), "email": login if "@" in login else ""}


def _moodle(row: dict[str, str]) -> dict[str, str]:
    """Moodle: an assignment's grading worksheet (docs.moodle.org, "Assignment settings")."""
    number = row["identifier"].rpartition(" ")[2]
    return {"id": row.get("id number", "") or number, "name": row["full name"], "email": row.get("email address", ""),
            "moodle": number}


def _gradescope(row: dict[str, str]) -> dict[str, str]:
    """Gradescope: Roster, Download Roster."""
    name = row.get("name", "") or f"{row.get('first name', '')} {row.get('last name', '')}".strip()
    return {"id": row["sid"] or row["email"], "name": name, "email": row["email"], "section": row.get("sections", "")}


EXPORTS = (Export(("student", "id", "section"), _canvas), Export(("identifier", "full name"), _moodle),
           Export(("sid", "email"), _gradescope))


@dataclass
class Roster:
    """The class. Empty where there is no roster: then every name of a submission is a student."""

    students: dict[str, Student] = field(default_factory=dict)
    not_read: list[str] = field(default_factory=list)  # columns of names unknown here

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
        if self.not_read:
            applied.notices.append(f"not read of the roster: {', '.join(self.not_read)}; the columns are named "
                                   f"{', '.join(COLUMNS)}")
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
    return {_plain("".join(words[start:] + words[:start])) for start in range(len(words))} - {""}


def _local(email: str) -> str:
    return email.partition("@")[0]


def read_roster(path: Path, zone: tzinfo | None = None) -> Roster:
    """The roster of a CSV file: our own columns, or a platform's export. `zone` is that of dates without an offset.

    Raises ValueError that names the line that is wrong.
    """
    names = columns(path)
    export = next((one for one in EXPORTS if set(one.needs) <= set(names)), None)
    if "id" not in names and export is None:
        raise ValueError(f"{path}: the first line must name the columns, `id` among them; others are "
                         f"{', '.join(COLUMNS[1:])}. An export of the gradebook of Canvas, the grading worksheet of Moodle "
                         "and the roster of Gradescope do as well")
    students: dict[str, Student] = {}
    numbers: dict[tuple[str, str], str] = {}  # whose a platform's number is
    for where, row in table(path):
        if export is not None:
            row = export.columns(row)
            if not row["id"]:  # Canvas's line of the most points, and its test student
                continue
        student = _student({name: row.get(name, "") for name in COLUMNS}, where, zone)
        if student.id in students:
            raise ValueError(f"{where}: the id `{student.id}` is there twice")
        students[student.id] = student
        for key in student.ids.items():
            if (other := numbers.setdefault(key, student.id)) != student.id:
                raise ValueError(f"{where}: {student.id} has the {key[0]} number {key[1]} of {other}")
    if not students:
        raise ValueError(f"{path} holds no student")
    return Roster(students, [] if export else [printable(name) for name in names if name and name not in COLUMNS])


def _student(row: dict[str, str], where: str, zone: tzinfo | None) -> Student:
    if not row["id"]:
        raise ValueError(f"{where}: there is no id")
    days, until = _extension(row["extension"], f"{where}: extension", zone)
    handed_in = date_of(row["handed_in"], zone, f"{where}: handed_in") if row["handed_in"] else None
    shown = {name: printable(value) for name, value in row.items()}
    ids = {name: row[name].removesuffix(".0") for name in PLATFORMS if row[name]}  # a spreadsheet makes 11.0 of 11
    return Student(printable_name(row["id"]), shown["name"], shown["email"], shown["section"], shown["login"], days, until,
                   handed_in, ids)


def _extension(text: str, what: str, zone: tzinfo | None) -> tuple[float, datetime | None]:
    """Days after each deadline, or the date until which all may be handed in."""
    try:
        days = float(text.replace(",", ".") or 0)
    except ValueError:
        if not text[:4].isdecimal():
            raise ValueError(f"{what} must be a number of days or a date such as 2026-10-08 23:59, not {text!r}") from None
        return 0.0, date_of(text, zone, what)
    if not 0 <= days < 1000:
        raise ValueError(f"{what} must be a number of days from 0 to 999, not {text!r}")
    return days, None
