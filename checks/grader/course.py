"""The course, read from TOML: rubric, assignment, deadlines, exceptions; exercises and points are checks/exercises/'s."""

import json
import math
import tomllib
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from pathlib import Path

from checks.exercises import EXERCISES
from checks.grader.tables import date_of, zone_named
from checks.judge.exercise import Exercise

DEFAULT = Path(__file__).with_name("course.toml")
ITEMS = ("triton", "public", "hidden", "economical", "compiles", "fast")
VISIBILITY = ("message", "result", "nothing")
ATTEMPTS = ("last", "best")
LESSONS = sorted({exercise.lesson for exercise in EXERCISES.values()})


@dataclass(frozen=True)
class Item:
    """One line of the rubric."""

    name: str
    title: str
    weight: float
    gate: bool
    visibility: str  # what a student sees of it: one of VISIBILITY


@dataclass(frozen=True)
class LateRule:
    """What lateness costs, in percent of a lesson's points."""

    grace_minutes: float = 0.0
    percent_per_day: float = 0.0  # of each day begun
    most_percent: float = 100.0

    def percent(self, seconds: float) -> float:
        """What is taken off for being this late."""
        if seconds <= 60 * self.grace_minutes:
            return 0.0
        return min(self.most_percent, self.percent_per_day * math.ceil(seconds / 86_400))


@dataclass(frozen=True)
class Course:
    """What is graded, for how many points."""

    title: str
    items: tuple[Item, ...]
    deadlines: dict[str, datetime]
    exercises: dict[str, Exercise]  # in the order of the lessons
    points: dict[str, float]
    late: LateRule = field(default_factory=LateRule)
    attempts: str = "last"  # which counts: one of ATTEMPTS
    zone: tzinfo | None = None  # of dates without an offset

    def item(self, name: str) -> Item:
        return next(item for item in self.items if item.name == name)

    @property
    def total(self) -> float:
        return sum(self.points.values())

    @property
    def text(self) -> str:
        """All of it that decides a result, for the result's key."""
        return json.dumps([[[item.name, item.weight, item.gate] for item in self.items], sorted(self.points.items())])


class _Table:
    """The entries of a course file, each taken with what it must be."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.table = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path}: {error}") from None
        known = {"title", "assignment", "rubric", "visibility", "deadlines", "late", "exercise"}
        self.expect(not set(self.table) - known, f"unknown entry {', '.join(sorted(set(self.table) - known))}")

    def expect(self, condition: bool, what: str) -> None:
        if not condition:
            raise ValueError(f"{self.path}: {what}")

    def part(self, name: str) -> dict:
        found = self.table.get(name, {})
        self.expect(isinstance(found, dict), f"[{name}] must be a table")
        return found

    def items(self) -> tuple[Item, ...]:
        rubric, visibility = self.part("rubric"), self.part("visibility")
        for name in [*rubric, *visibility]:
            self.expect(name in ITEMS, f"there is no rubric item `{name}`; there are {', '.join(ITEMS)}")
        for name, value in visibility.items():
            self.expect(value in VISIBILITY,
                        f"visibility of `{name}` must be one of {', '.join(VISIBILITY)}, not {value!r}")
        for name, value in rubric.items():
            self.expect(_number(value.get("weight", 0)), f"the weight of `{name}` must be a number from 0 up")
        items = tuple(Item(name, rubric[name].get("title", name), rubric[name].get("weight", 0),
                           rubric[name].get("gate", False), visibility.get(name, "message"))
                      for name in ITEMS if name in rubric)
        self.expect(any(item.weight for item in items), "no rubric item has a weight")
        return items

    def deadlines(self) -> dict[str, datetime]:
        deadlines = self.part("deadlines")
        for name, value in deadlines.items():
            self.expect(name in LESSONS, f"a deadline for `{name}`, which is no lesson")
            self.expect(isinstance(value, date | str), f"the deadline of `{name}` must be a date")
        return {name: date_of(str(value), self.zone(), f"{self.path}: the deadline of `{name}`")
                for name, value in deadlines.items()}

    def zone(self) -> tzinfo | None:
        name = self.part("assignment").get("timezone")
        try:
            return zone_named(str(name)) if name is not None else None
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def late(self) -> LateRule:
        rule = self.part("late")
        known = set(LateRule.__dataclass_fields__)
        self.expect(not set(rule) - known, f"[late] may have {', '.join(sorted(known))} alone")
        for name, value in rule.items():
            self.expect(_number(value), f"late.{name} must be a number from 0 up")
        self.expect(rule.get("most_percent", 0) <= 100, "late.most_percent must be 100 at most, for all points")
        return LateRule(**rule)

    def lessons(self) -> list[str]:
        assignment = self.part("assignment")
        self.expect(not set(assignment) - {"lessons", "attempts", "timezone"},
                    "[assignment] may have `lessons`, `attempts` and `timezone` alone")
        self.expect(self.attempts() in ATTEMPTS, f"attempts must be one of {', '.join(ATTEMPTS)}, not {self.attempts()!r}")
        try:
            return lessons_named(assignment.get("lessons", LESSONS))
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def attempts(self) -> str:
        return self.part("assignment").get("attempts", "last")

    def exercises(self) -> tuple[dict[str, Exercise], dict[str, float]]:
        """The exercises that are graded, in the order of the lessons, and the points of each."""
        exceptions, lessons = self.part("exercise"), self.lessons()
        for name, value in exceptions.items():
            self.expect(name in EXERCISES, f"an exception for `{name}`, which is no exercise")
            self.expect(not set(value) - {"points", "skip"}, f"exercise.{name} may have `points` and `skip` alone")
            self.expect(_number(value.get("points", 0)), f"the points of `{name}` must be a number from 0 up")
        kept = {name: e for name, e in EXERCISES.items()
                if e.lesson in lessons and not exceptions.get(name, {}).get("skip", False)}
        ordered = dict(sorted(kept.items(), key=lambda pair: pair[1].lesson))
        return ordered, {name: float(exceptions.get(name, {}).get("points", e.points)) for name, e in ordered.items()}


def read_course(path: Path = DEFAULT) -> Course:
    """The course of a TOML file. Raises ValueError that names the entry that is wrong."""
    table = _Table(path)
    exercises, points = table.exercises()
    return Course(table.table.get("title", "Course"), table.items(), table.deadlines(), exercises, points, table.late(),
                  table.attempts(), table.zone())


def lessons_named(names) -> list[str]:
    """The lessons called so: `04` or `04_quantize`. Raises ValueError for one that is none."""
    found = [[lesson for lesson in LESSONS if str(name) in (lesson, lesson.partition("_")[0])] for name in names]
    wrong = [str(name) for name, lessons in zip(names, found, strict=True) if not lessons]
    if wrong:
        raise ValueError(f"there is no lesson {', '.join(wrong)}; there are {', '.join(LESSONS)}")
    return [lessons[0] for lessons in found]


def _number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def split_points(course: Course, points: float, results: dict[str, str]) -> dict[str, tuple[float, float]]:
    """(earned, possible) of each item that applies, from its "right", "wrong" or "not reached"."""
    applying = [item for item in course.items if item.name in results]
    weights = sum(item.weight for item in applying)
    locked = any(item.gate and results[item.name] != "right" for item in applying)
    possible = {item.name: points * item.weight / weights if weights else 0.0 for item in applying}
    return {name: (most if results[name] == "right" and not locked else 0.0, most) for name, most in possible.items()}
