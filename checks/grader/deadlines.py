"""deadlines.csv: a deadline for each lesson, and for students who have more time a later one of their own."""

from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from pathlib import Path

from checks.grader.course import lessons_named
from checks.grader.intake.text import printable_name
from checks.grader.roster import Student
from checks.grader.tables import columns, date_of, table


@dataclass
class Deadlines:
    """By lesson for everybody, and by student and lesson for some."""

    of_lessons: dict[str, datetime] = field(default_factory=dict)
    of_students: dict[str, dict[str, datetime]] = field(default_factory=dict)

    def given_to(self, students: dict[str, Student]) -> dict[str, Student]:
        """The students, and those who are in no roster, with their own deadlines."""
        own = {id: replace(students.get(id, Student(id)), deadlines=dates) for id, dates in self.of_students.items()}
        return students | own


def read_deadlines(path: Path, zone: tzinfo | None = None, students: dict[str, Student] | None = None) -> Deadlines:
    """The deadlines of a CSV file; none where there is no such file. `students` are those of the roster, if there is one.

    Raises ValueError that names the line that is wrong.
    """
    found = Deadlines()
    if not path.exists():
        return found
    if not {"lesson", "deadline"} <= set(columns(path)):
        raise ValueError(f"{path}: the first line must name the columns lesson and deadline, and may name student")
    for where, row in table(path):
        try:
            (lesson,) = lessons_named([row["lesson"].zfill(2)])  # a spreadsheet makes 4 of 04
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        date = date_of(row["deadline"], zone, f"{where}: the deadline")
        student = printable_name(row["student"]) if row.get("student") else ""
        if student and students and student not in students:
            raise ValueError(f"{where}: {student} is in no row of the roster")
        dates = found.of_students.setdefault(student, {}) if student else found.of_lessons
        if lesson in dates:
            raise ValueError(f"{where}: the deadline of {lesson} {f'for {student} ' if student else ''}is there twice")
        dates[lesson] = date
    return found
