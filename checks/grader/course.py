"""The course: rubric, visibility, deadlines and exceptions, read from TOML; exercises and points are checks/exercises/'s."""

import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from checks.exercises import EXERCISES
from checks.judge.exercise import Exercise

DEFAULT = Path(__file__).with_name("course.toml")
ITEMS = ("triton", "public", "hidden", "economical", "compiles", "fast")
VISIBILITY = ("message", "result", "nothing")


@dataclass(frozen=True)
class Item:
    """One line of the rubric."""

    name: str
    title: str
    weight: float
    gate: bool
    visibility: str  # what a student sees of it: one of VISIBILITY


@dataclass(frozen=True)
class Course:
    """What is graded, for how many points."""

    title: str
    items: tuple[Item, ...]
    deadlines: dict[str, datetime]
    exercises: dict[str, Exercise]  # in the order of the lessons
    points: dict[str, float]
    text: str  # the file, for the key of a result

    def item(self, name: str) -> Item:
        return next(item for item in self.items if item.name == name)

    @property
    def total(self) -> float:
        return sum(self.points.values())


def read_course(path: Path = DEFAULT) -> Course:
    """The course of a TOML file. Raises ValueError that names the entry that is wrong."""
    try:
        text = path.read_text()
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None

    def expect(condition: bool, what: str) -> None:
        if not condition:
            raise ValueError(f"{path}: {what}")

    known = {"title", "rubric", "visibility", "deadlines", "exercise"}
    expect(not set(table) - known, f"unknown entry {', '.join(sorted(set(table) - known))}")
    rubric, visibility, exceptions = (table.get(name, {}) for name in ("rubric", "visibility", "exercise"))
    deadlines = table.get("deadlines", {})
    lessons = {exercise.lesson for exercise in EXERCISES.values()}
    for name in [*rubric, *visibility]:
        expect(name in ITEMS, f"there is no rubric item `{name}`; there are {', '.join(ITEMS)}")
    for name, value in visibility.items():
        expect(value in VISIBILITY, f"visibility of `{name}` must be one of {', '.join(VISIBILITY)}, not {value!r}")
    for name, value in rubric.items():
        weight = value.get("weight", 0)
        expect(isinstance(weight, int | float) and weight >= 0, f"the weight of `{name}` must be a number from 0 up")
    for name, value in deadlines.items():
        expect(name in lessons, f"a deadline for `{name}`, which is no lesson")
        expect(isinstance(value, datetime) and value.tzinfo is not None,
               f"the deadline of `{name}` must be a date and time with its offset, such as 2026-10-01T23:59:00+02:00")
    for name, value in exceptions.items():
        expect(name in EXERCISES, f"an exception for `{name}`, which is no exercise")
        expect(not set(value) - {"points", "skip"}, f"exercise.{name} may have `points` and `skip` alone")
        expect(isinstance(value.get("points", 0), int | float), f"the points of `{name}` must be a number")
    items = tuple(Item(name, rubric[name].get("title", name), rubric[name].get("weight", 0), rubric[name].get("gate", False),
                       visibility.get(name, "message")) for name in ITEMS if name in rubric)
    expect(any(item.weight for item in items), "no rubric item has a weight")
    exercises = {name: e for name, e in EXERCISES.items() if not exceptions.get(name, {}).get("skip", False)}
    ordered = dict(sorted(exercises.items(), key=lambda pair: pair[1].lesson))
    points = {name: float(exceptions.get(name, {}).get("points", e.points)) for name, e in ordered.items()}
    return Course(table.get("title", "Course"), items, deadlines, ordered, points, text)


def split_points(course: Course, points: float, results: dict[str, str]) -> dict[str, tuple[float, float]]:
    """(earned, possible) of each item that applies, from its "right", "wrong" or "not reached"."""
    applying = [item for item in course.items if item.name in results]
    weights = sum(item.weight for item in applying)
    locked = any(item.gate and results[item.name] != "right" for item in applying)
    possible = {item.name: points * item.weight / weights if weights else 0.0 for item in applying}
    return {name: (most if results[name] == "right" and not locked else 0.0, most) for name, most in possible.items()}
