"""A submission's notebooks, run in children that are kept for all exercises of a lesson."""

import time

from checks.exercises import EXERCISES
from checks.grader.grading.said import cell_errors
from checks.grader.intake.code import Code
from checks.grader.intake.library import answer_text, library_for, shared_modules
from checks.grader.sandbox.client import Child, ForkServer
from checks.judge.exercise import Exercise

Key = tuple[str, str, bool, tuple[str, ...]]
"""The lesson or, for a child of its own, the exercise; the file; whether there are numbers; whose answers are lent."""


class Notebooks:
    """The children in which the cells of one submission have run. Use it in a `with` block, which ends them."""

    def __init__(self, server: ForkServer):
        self.server, self.deadline = server, float("inf")
        self._open: dict[Key, tuple[Child, list[dict]]] = {}

    def __enter__(self) -> "Notebooks":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        for child, _ in self._open.values():
            child.__exit__()
        self._open.clear()

    def child(self, exercise: Exercise, code: Code, numbers: bool, alone: bool = False,
              lent: tuple[str, ...] = ()) -> tuple[Child, list[dict]]:
        """A child in which the exercise's notebook has run, with data in its tensors or without, and the cells' errors.

        The library there lacks the answers of all the lesson's exercises, so that they can share it; `alone`, that of this
        exercise only. Of the functions `lent` ours stand in place of the student's. Raises ChildExited where the cells end
        the child.
        """
        key = exercise.name if alone else exercise.lesson, code.file, numbers, lent
        if key not in self._open:
            self._open[key] = self._start(exercise, code, numbers, alone, lent)
        child, errors = self._open[key]
        child.deadline = self.deadline
        return child, errors

    def restart_clock(self) -> None:
        """From now on an exercise has its time."""
        self.deadline = time.monotonic() + self.server.timeout_s

    def drop(self, child: Child) -> None:
        """Do without a child that has ended, or that did something odd."""
        for key, (one, _) in list(self._open.items()):
            if one is child:
                child.__exit__()
                del self._open[key]

    def _start(self, exercise: Exercise, code: Code, numbers: bool, alone: bool,
               lent: tuple[str, ...]) -> tuple[Child, list[dict]]:
        together = tuple(one for one in EXERCISES.values() if one.lesson == exercise.lesson)
        modules = library_for(exercise).modules if alone else shared_modules(together)
        job = {"modules": modules, "setup": code.setup, "cells": code.cells, "numbers": numbers,
               "lent": {name: answer_text(EXERCISES[name], name) for name in lent}}
        child = self.server.child(job, exercises=1 if alone else len(together))
        try:
            greeting = child.begin()
        except BaseException:
            child.__exit__()
            raise
        return child, cell_errors(greeting)
