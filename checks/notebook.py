"""Notebook API: `check(function)`."""

import ast
import html
import re
import sys

from triton.runtime.errors import InterpreterError

from checks.executor import CompileError
from checks.exercises import EXERCISES, find_exercise
from checks.judge.attempt import root_cause, student_line
from checks.judge.execution import Raced
from checks.judge.launches import OutOfBounds
from checks.judge.source import python_function
from checks.judge.verdict import NOT_ATTEMPTED, judge

PAGE = 83  # characters that a line of a lesson's page shows beside the margin of those that follow


class CheckFailed(AssertionError):
    """The function is not right yet; the message says why. Notebooks show the message alone: its first line leads, in the
    colours of the page."""

    shown = False  # whether the page has the message already

    def _render_traceback_(self) -> list[str]:
        # Jupyter asks an exception for its traceback: the way from `check` to here would teach nothing.
        return ["✗ not right yet: see above"] if self.shown else [f"✗ {self}"]

    def page(self) -> dict[str, str]:
        """The message as HTML and as text, by MIME type."""
        headline, *evidence = f"✗ {self}".splitlines()
        return {"text/plain": f"✗ {self}", "text/html": _HTML.format(
            headline=_with_code(headline), evidence="".join(f"<div>{_with_code(line)}</div>" for line in evidence))}


_HTML = ('<div style="border-left: 4px solid #d55e00; padding: 0.2em 0 0.2em 0.8em">'
         '<div style="font-weight: 600">{headline}</div>'
         '<div style="font-size: 90%; opacity: 0.85; white-space: pre-wrap">{evidence}</div></div>')


def _with_code(text: str) -> str:
    """Text as HTML: what stands between backquotes, and the line of a place, in a fixed width."""
    escaped = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"^( +at: )(.*)", r"\1<code>\2</code>", escaped)


def _say_briefly(error: Exception) -> list[str]:
    """What a notebook shows of a kernel that failed: the reason and the line, not the way through the interpreter."""
    cause = root_cause(error)
    line = getattr(error, "line", None) or student_line(error)
    return [f"✗ {type(cause).__name__}: {cause}" + (f"\n  at: {line}" if line else "")]


def _sentence(self: InterpreterError) -> str:
    """For `print(error)`: Triton gives it the repr of what it wrapped."""
    return str(root_cause(self)) if self.__cause__ else Exception.__str__(self)


InterpreterError.__str__ = _sentence
for kind in (InterpreterError, OutOfBounds, Raced, CompileError):
    kind._render_traceback_ = _say_briefly  # type: ignore[union-attr]


def check(function) -> None:
    """Judge `function` against its exercise and say what was found: one line when right, `CheckFailed` when wrong."""
    plain = python_function(function)
    if not callable(plain) or not hasattr(plain, "__name__"):
        raise CheckFailed(f"check takes a function, such as check(gemv_fp16); this is a {type(function).__name__}")
    try:
        exercise = find_exercise(plain.__name__)
        broken = _cell_that_did_not_run(exercise.name, plain.__name__)
        if broken:
            raise NameError(f"{exercise.name}: your cell did not run: {broken}")
        _start_ranks_for(exercise)
        verdict = judge(exercise, function)
    except (LookupError, NameError) as error:
        failure = CheckFailed(str(error).strip('"'))
    else:
        if verdict.status == NOT_ATTEMPTED:
            print(f"○ {verdict.message}")
            return
        if verdict.passed:
            print(_in_lines(f"✓ {verdict.message}"))
            _say_progress(exercise)
            return
        failure = CheckFailed(verdict.message)
        _show(failure)
        _draw(verdict)
    raise failure from None


def _in_lines(message: str) -> str:
    """The message with line breaks between its parts: a page of a laptop's width breaks lines within words."""
    lines: list[str] = []
    for part in message.split(" · "):
        if lines and len(lines[-1]) + len(part) + 3 <= PAGE:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return "\n  ".join(lines)


def _start_ranks_for(exercise) -> None:
    """Where its function runs on ranks: those are processes from here on."""
    if exercise.adapter is not None and exercise.adapter.__module__ == "checks.simulated.ranks":
        from checks.ranks.kept import in_processes
        from checks.simulated.ranks import use

        use(in_processes)


_solved: set[str] = set()  # since this kernel was started


def _say_progress(exercise) -> None:
    """In a notebook, a line on how many of the lesson's exercises are solved in this session."""
    if not hasattr(_shell(), "kernel"):
        return
    _solved.add(exercise.name)
    every = [other.name for other in EXERCISES.values() if other.lesson == exercise.lesson]
    done = len(_solved.intersection(every))
    print(f"  {'█' * done}{'░' * (len(every) - done)} {done} of {len(every)} in this lesson"
          + (": all solved" if done == len(every) else ""))


def _shell():
    """IPython's shell, where there is one."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def _cell_that_did_not_run(*names: str) -> str | None:
    """What is wrong with the syntax of the last cell that was to define one of these functions, if it is that."""
    cells = getattr(_shell(), "user_ns", {}).get("In", [])
    for cell in reversed(cells):
        if re.search(rf"^ *def ({'|'.join(map(re.escape, names))})\(", cell, re.MULTILINE):
            try:
                ast.parse(_shell().transform_cell(cell))
            except SyntaxError as error:
                line = (error.text or "").strip()
                return f"{type(error).__name__}: {error.msg}, line {error.lineno}" + (f"\n  at: {line}" if line else "")
            return None
    return None


def _show(failure: CheckFailed) -> None:
    """Lay the message out on a notebook's page; elsewhere the error says it."""
    if hasattr(_shell(), "kernel"):
        from IPython.display import display

        display(failure.page(), raw=True)
        failure.shown = True


def _draw(verdict) -> None:
    if _shell() is None:
        return
    from checks.pictures.common import draw_errors

    wrong = None if verdict.outcome is None else verdict.outcome.wrong
    if wrong is not None and not wrong.all():  # where everything is wrong there is no place to show
        draw_errors(verdict.outcome)
