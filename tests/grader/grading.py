"""Submissions for the grader's tests."""

import json
from pathlib import Path

from checks.exercises import EXERCISES
from checks.grader import batch
from checks.grader.grader import Grader
from checks.grader.roster import Roster, read_roster
from checks.judge.source import answer_source

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
