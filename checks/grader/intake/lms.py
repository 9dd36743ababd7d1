"""Whose a file or folder is, by its name: as learning platforms name what they let download, and as people copy files."""

import re
from dataclasses import dataclass
from pathlib import PurePath

from checks.grader.intake.archives import ARCHIVES, CARD, CLOSED, NOTEBOOKS, SCRIPTS
from checks.grader.intake.text import printable_name

_CANVAS = re.compile(r"^(?P<name>[^_]+)_(?P<late>LATE_)?(?P<id>\d+)_(?P<attempt>\d+)_(?P<file>.+)$")
_MOODLE = re.compile(r"^(?P<name>.+)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)$")
_BLACKBOARD = re.compile(r"^.+?_(?P<name>[^_]+)_attempt_(?P<when>[\d-]+)(?:_.+|\.txt)$")
_BRIGHTSPACE = re.compile(r"^\d+-\d+ - (?P<name>.+?) - (?P<when>.+)$")
_DATE = re.compile(r"^(?P<month>[A-Z][a-z]{2})\w* (?P<day>\d+), (?P<year>\d{4}) (?P<hour>\d{1,2}?):?(?P<minute>\d\d) "
                   r"(?P<half>[AP]M)")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FORMS = re.compile(r"^\d\d_\w+ - (?P<name>.+)$")  # Google Forms puts the name behind the file's
_GRADESCOPE = re.compile(r"^submission_(?P<id>\d+)$")
_COPY = re.compile(r"([ _.-]+copy([ _.-]?\d+)?| ?\(\d+\)|[ _.-]+kopie| - copy)$", re.IGNORECASE)
_COPY_OF = re.compile(r"(^|(?<= - ))(copy of|kopie von|copie de|copia d[ei]) ", re.IGNORECASE)  # Google Drive's
_LESSON = re.compile(r"^(?P<student>.+?)[ _.-]+(?P<lesson>\d\d[a-z]?_\w+?)(-\d+)?$")
_CARD = re.compile(rf"^(?P<student>.+?)[ _.-]+{re.escape(CARD)}$", re.IGNORECASE)


@dataclass(frozen=True)
class Owner:
    """Whose it is. `name` is what the platform calls the student, `id` its number for them, `late` what it says itself."""

    name: str
    platform: str = ""
    id: str = ""
    late: bool = False
    copied: bool = False  # whether its name was taken for that of a copy, which a person has to confirm
    when: tuple[int, ...] = ()  # what orders a student's attempts: the platform's time or number of this one


def owner(name: str, folder: bool) -> Owner:
    """Whose the file or folder `name` is."""
    name = printable_name(name)
    for platform, pattern in (("canvas", _CANVAS), ("moodle", _MOODLE)):
        if match := pattern.match(name):
            said = match.groupdict()
            return Owner(match["name"].strip(), platform, match["id"], bool(said.get("late")),
                         when=_numbers(said.get("attempt")))
    if match := _BLACKBOARD.match(name):
        return Owner(match["name"].strip(), when=_numbers(match["when"]))
    if match := _BRIGHTSPACE.match(name):
        return Owner(match["name"].strip(), when=_date(match["when"]))
    if folder:
        match = _GRADESCOPE.match(name)
        return Owner(name, "gradescope", match["id"]) if match else Owner(name)
    if match := _CARD.match(name):
        return Owner(match["student"])
    stem = _stem(name)
    plain = without_copy_mark(_COPY_OF.sub("", stem))
    if match := _FORMS.match(plain):
        return Owner(match["name"].strip(), copied=plain != stem)
    if match := _LESSON.match(plain):
        return Owner(match["student"], copied=plain != stem or bool(match[3]))
    return Owner(plain, copied=plain != stem)


def _numbers(text: str | None) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text or "")))


def _date(text: str) -> tuple[int, ...]:
    """The year, month, day, hour and minute of `Oct 1, 2026 1000 AM`; nothing for a date in another language."""
    match = _DATE.match(text)
    if match is None or match["month"] not in _MONTHS:
        return ()
    hour = int(match["hour"]) % 12 + 12 * (match["half"] == "PM")
    return int(match["year"]), 1 + _MONTHS.index(match["month"]), int(match["day"]), hour, int(match["minute"])


def without_copy_mark(name: str) -> str:
    """A name without what a browser or a file manager adds for a copy: ` (1)`, `-Copy1`, ` - Copy (2)`."""
    while (shorter := _COPY.sub("", name)) != name and shorter:
        name = shorter
    return name


def _stem(name: str) -> str:
    for ending in sorted((*NOTEBOOKS, *SCRIPTS, *ARCHIVES, *CLOSED), key=len, reverse=True):
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[:-len(ending)]
    return PurePath(name).stem or name
