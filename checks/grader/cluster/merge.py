"""Folders of grades put together: shards of a class that were graded anywhere become one."""

from collections.abc import Callable
from pathlib import Path

from checks.files import write_atomically
from checks.grader import results
from checks.grader.batch import locked
from checks.grader.gradebook import keep_attempt, read_json
from checks.grader.results import SubmissionResult, is_open

KEPT = ("course.toml", "roster.csv", "deadlines.csv")
"""Files that stand beside the grades, and must be the same in all parts."""


def merge(parts: list[Path], grades: Path, say: Callable[[str], None] = print) -> int:
    """Bring the results of `parts` into the folder `grades`; returns how many it has then.

    Of two results of one student, a whole one is taken before one with something that could not be graded, then the newer.
    Raises ValueError for parts that were not graded alike.
    """
    with locked(grades):
        _check_alike([*parts, grades])
        for part in parts:
            for result in results.read_results(part):
                _take(grades, part, result, say)
            for path in sorted(part.glob("attempts/*/*.json")):
                write_atomically(grades / path.relative_to(part), path.read_bytes())
        classes = [read_json(part / "class.json") for part in (*parts, grades)]
        notices = list(dict.fromkeys(notice for one in classes for notice in one.get("notices", [])))
        merged = results.read_results(grades)
        there = {result["student"] for result in merged}
        absent = [id for id in dict.fromkeys(id for one in classes for id in one.get("absent", [])) if id not in there]
        students = list(dict.fromkeys(student for one in classes for student in one.get("students", [])))
        if missing := [student for student in students if student not in there]:
            say(f"not graded in any part: {', '.join(missing)}")
        kept = {"schema": results.SCHEMA, "notices": notices, "absent": absent, "students": students,
                "finished": True}
        write_atomically(grades / "class.json", results.to_json(kept))
    return len(merged)


def _check_alike(folders: list[Path]) -> None:
    """Copy what the first folder with it keeps beside the grades to the last. Raises ValueError where two differ."""
    grades = folders[-1]
    seeds = {read_json(folder / "batch.json").get("seed") for folder in folders} - {None}
    if len(seeds) > 1:
        raise ValueError("the parts were graded with different seeds, so with different hidden sizes: grade them with the "
                         "same --seed-file")
    for name in ("batch.json", *KEPT):
        found = {(folder / name).read_bytes(): folder for folder in folders if (folder / name).exists()}
        if len(found) > 1:
            raise ValueError(f"{name} differs between {' and '.join(map(str, found.values()))}")
        for data in found:
            write_atomically(grades / name, data)


def _take(grades: Path, part: Path, new: SubmissionResult, say: Callable[[str], None]) -> None:
    old = results.read_result(results.result_path(grades, new["student"]))
    same = old is not None and old["key"] == new["key"] and not is_open(old)
    if old is not None and (same or _worth(old) >= _worth(new)):
        return
    if old is not None and not is_open(old):
        say(f"{new['student']}: graded in several parts with other files, settings or versions; the newer result was taken, "
            f"from {part}")
    keep_attempt(grades, new)
    results.write_result(grades, new)


def _worth(result: SubmissionResult) -> tuple[bool, str]:
    return not is_open(result), result["graded_at"]
