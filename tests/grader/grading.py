"""Submissions for the grader's tests."""

import json
from datetime import UTC, datetime
from pathlib import Path

from checks.exercises import EXERCISES
from checks.grader import batch, results
from checks.grader.course import DEFAULT
from checks.grader.grader import Grader
from checks.grader.roster import Roster, read_roster
from checks.judge.source import answer_source

HELLO, GEMV = "00_hello_triton", "01_gemv_fp16"
DUE = datetime(2026, 10, 1, 12, tzinfo=UTC)
CHEAP = ("programs_needed", "vector_add_kernel")
ADD, NEEDED = EXERCISES["vector_add_kernel"], EXERCISES["programs_needed"]


def notebook(*cells: str) -> str:
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
        {"cell_type": "code", "metadata": {}, "outputs": [], "source": cell} for cell in cells]})


def exercise_cell(exercise, source: str | None = None) -> str:
    return f"# exercise: {exercise.name}\n{source or answer_source(exercise.name)}"


IMPORTS = "import torch\nimport triton\nimport triton.language as tl"
SOLVED = notebook(IMPORTS, exercise_cell(NEEDED), exercise_cell(ADD))
ROSTER = ("id,name,email,section,canvas,moodle,github,extension,handed_in\n"
          "s1,Ada Lovelace,ada@x.org,A,11,,ada-l,,\ns2,Li An,la@x.org,A,,,,2,\ns3,An Li,al@x.org,B,,55,,,\n"
          "s4,José Núñez,jn@x.org,B,,,,,2026-10-01T12:00:00+00:00\ns5,Alan Turing,at@x.org,B,15,,,,\n")


def roster(tmp_path: Path, text: str = ROSTER) -> Roster:
    (tmp_path / "roster.csv").write_text(text)
    return read_roster(tmp_path / "roster.csv")


def graded_here(monkeypatch, exercise_result) -> None:
    """Grade in the process of the test, where `exercise_result` takes the place of running and judging an exercise."""
    def work(self, waiting, jobs):
        grader = Grader(self.settings)
        for handed_in in list(waiting.values()):
            self._report(batch.write(self.grades, batch.grade(grader, handed_in)))
        waiting.clear()
        return []

    monkeypatch.setattr(Grader, "exercise_result", exercise_result)
    monkeypatch.setattr(batch.Batch, "_work", work)


def exercise(name: str = "programs_needed", lesson: str = HELLO, points: float | None = 1.0, **more) -> dict:
    return {"exercise": name, "lesson": lesson, "status": "passed" if points else "failed", "points": points,
            "possible": 2.0, "message": f"{name}: said", "mistake": None, "items": {}, "flags": [], "notices": [],
            "picture": None, "seconds": 0.1} | more


def result(student: str, *exercises: dict, **more) -> dict:
    ones = list(exercises or [exercise()])
    return {"schema": results.SCHEMA, "student": student, "key": "k", "submission": "d", "problems": [], "late": {},
            "points": sum(one["points"] or 0 for one in ones), "possible": sum(one["possible"] for one in ones),
            "exercises": ones, "isolation": ["limits"], "graded_at": "2026-10-02T00:00:00+00:00",
            "environment": {"python": "3", "torch": "2", "triton": "3"}} | more


def kept(folder: Path, *found: dict) -> Path:
    for one in found:
        results.write_result(folder, one)
    return folder


def with_course(folder: Path, text: str) -> Path:
    """The folder, with a course kept in it: the workshop's own and this."""
    folder.mkdir(exist_ok=True)
    more = f"{text}\n[deadlines]\n{HELLO} = {DUE.isoformat()}"
    (folder / "course.toml").write_text(DEFAULT.read_text().replace("[deadlines]", more))
    return folder
