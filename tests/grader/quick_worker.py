"""In place of a class's worker processes: they start at once, for no torch is imported, and grade nothing."""

import os


def start(settings, parent: int) -> None:
    """Nothing to prepare."""


def grade(*handed_in) -> dict:
    """A result, and which process made it."""
    return {"student": "someone", "points": 1.0, "possible": 1.0, "exercises": [], "problems": [], "process": os.getpid()}
