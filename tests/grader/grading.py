"""Submissions for the grader's tests."""

import json

from checks.exercises import EXERCISES
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
