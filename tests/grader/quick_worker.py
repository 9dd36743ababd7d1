"""In place of a class's worker processes: they start at once, for no torch is imported, and grade nothing."""

import os
import sys
import types


def start(settings, parent: int) -> None:
    """Nothing to prepare, but that what is handed in can be unpickled without our packages."""
    for module in "checks", "checks.grader.intake.folder", "checks.grader.intake.lms":
        sys.modules[module] = types.ModuleType(module)
    sys.modules["checks.grader.intake.folder"].HandedIn = type("HandedIn", (), {})
    sys.modules["checks.grader.intake.lms"].Owner = type("Owner", (), {})


def grade(*handed_in) -> dict:
    """A result, and which process made it."""
    return {"student": "someone", "points": 1.0, "possible": 1.0, "exercises": [], "problems": [], "process": os.getpid()}
