"""A submission's notebooks, run in children that are kept for all exercises of a lesson."""

import time
from dataclasses import dataclass, field

from checks.exercises import EXERCISES
from checks.grader.grading.said import cell_errors
from checks.grader.intake.code import Code
from checks.grader.intake.library import answer_text, lesson_cells, library_for, shared_modules
from checks.grader.sandbox.client import Child, ChildExited, ForkServer
from checks.judge.exercise import Exercise
from checks.judge.trial import TIMEOUT_S

Key = tuple[str, str, bool, tuple[str, ...]]
"""The lesson or, for a child of its own, the exercise; the file; whether there are numbers; whose answers are lent."""


@dataclass(eq=False)
class Ran:
    """A notebook whose cells have run in a child."""

    child: Child
    errors: list[dict]  # of its cells
    numbers: bool  # whether its tensors have data
    asked: set[str] = field(default_factory=set)  # exercises of which functions were called in it
    suspect: bool = False  # whether other exercises may have a part in what happens next
    ended: str | None = None  # how, as ChildExited has it

    def influenced(self, exercise: Exercise) -> bool:
        """Whether what came of the exercise's function may have to do with other exercises: it is then to be tried alone."""
        if self.ended is not None:
            return bool(self.asked - {exercise.name}) and (self.suspect or self.ended != "crashed")
        try:
            answer, _ = self.child.ask({"mode": "influenced", "name": exercise.name}, b"", TIMEOUT_S)
        except ChildExited:
            return True
        return bool(answer.get("influenced", True))


class Notebooks:
    """The children in which the cells of one submission have run. Use it in a `with` block, which ends them."""

    def __init__(self, server: ForkServer):
        self.server, self.deadline = server, float("inf")
        self._open: dict[Key, Ran] = {}

    def __enter__(self) -> "Notebooks":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        for ran in self._open.values():
            ran.child.__exit__()
        self._open.clear()

    def run(self, exercise: Exercise, code: Code, numbers: bool, alone: bool = False, lent: tuple[str, ...] = ()) -> Ran:
        """The exercise's notebook, run in a child, with data in its tensors or without.

        The library there lacks the answers of all the lesson's exercises, so that they can share it; `alone`, that of this
        exercise only. Of the functions `lent` ours stand in place of the student's. Raises ChildExited where the cells end
        the child.
        """
        key = exercise.name if alone else exercise.lesson, code.file, numbers, lent
        if key not in self._open:
            self._open[key] = self._start(exercise, code, numbers, alone, lent)
        ran = self._open[key]
        ran.child.deadline = self.deadline
        ran.asked.add(exercise.name)
        return ran

    def restart_clock(self) -> None:
        """From now on an exercise has its time."""
        self.deadline = time.monotonic() + self.server.timeout_s

    def drop(self, ran: Ran, how: str) -> None:
        """Do without a child that has ended, or that did something odd."""
        ran.ended = how
        for key, one in list(self._open.items()):
            if one is ran:
                ran.child.__exit__()
                del self._open[key]

    def _start(self, exercise: Exercise, code: Code, numbers: bool, alone: bool, lent: tuple[str, ...]) -> Ran:
        together = tuple(one for one in EXERCISES.values() if one.lesson == exercise.lesson)
        modules = library_for(exercise).modules if alone else shared_modules(together)
        handed_out = {cell.strip() for cell in lesson_cells(exercise.lesson)}
        job = {"modules": modules, "setup": code.setup, "cells": code.cells, "numbers": numbers,
               "handed_out": [cell.strip() in handed_out for cell in code.cells],
               "lent": {name: answer_text(EXERCISES[name], name) for name in lent}}
        child = self.server.child(job, exercises=1 if alone else len(together))
        try:
            greeting = child.begin()
        except BaseException:
            child.__exit__()
            raise
        return Ran(child, cell_errors(greeting), numbers)
