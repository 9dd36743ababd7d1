"""Notebook API: `check(function)`."""

import sys

from triton.runtime.errors import InterpreterError

from checks.exercises import find_exercise
from checks.judge.attempt import root_cause, student_line
from checks.judge.source import python_function
from checks.judge.verdict import NOT_ATTEMPTED, judge


class CheckFailed(AssertionError):
    """The function is not right yet; the message says why. Notebooks show the message alone."""

    def _render_traceback_(self) -> list[str]:
        # Jupyter asks an exception for its traceback: the way from `check` to here would teach nothing.
        return [f"✗ {self}"]


def _say_briefly(error: InterpreterError) -> list[str]:
    """What a notebook shows of a kernel that failed: the reason and the line, not the way through the interpreter."""
    cause, line = root_cause(error), student_line(error)
    return [f"✗ {type(cause).__name__}: {cause}" + (f"\n  at: {line}" if line else "")]


InterpreterError._render_traceback_ = _say_briefly


def check(function) -> None:
    """Judge `function` against its exercise and say what was found: one line when right, `CheckFailed` when wrong."""
    plain = python_function(function)
    if not callable(plain) or not hasattr(plain, "__name__"):
        raise CheckFailed(f"check takes a function, such as check(gemv_fp16); this is a {type(function).__name__}")
    try:
        verdict = judge(find_exercise(plain.__name__), function)
    except (LookupError, NameError) as error:
        failure = CheckFailed(str(error).strip('"'))
    else:
        if verdict.status == NOT_ATTEMPTED:
            print(f"○ {verdict.message}")
            return
        if verdict.passed:
            print(f"✓ {verdict.message}")
            return
        _draw(verdict)
        failure = CheckFailed(verdict.message)
    raise failure from None


def _draw(verdict) -> None:
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        return
    from checks.pictures.common import draw_errors

    if verdict.outcome is not None and verdict.outcome.wrong is not None:
        draw_errors(verdict.outcome)
