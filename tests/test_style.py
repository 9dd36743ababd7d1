"""The style that tools can judge: ruff and mypy with the settings of pyproject.toml, and annotations."""

import subprocess
import sys

from test_architecture import Function, functions_of_code, is_kernel

from checks.paths import ROOT

ANNOTATED = ("kernels.", "checks.judge.")
EXERCISES = {"kernels.timing.time_us", "kernels.timing.benchmark"}
"""Functions whose `gpu` is left open, for a student to read: a GPU or the model of one."""


def run(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff():
    run("ruff", "check", "--no-cache", ".")


def test_mypy():
    run("mypy", "--no-error-summary")


def unannotated(function: Function) -> list[str]:
    """The parameters without a type, and "return"; that of an __init__ is known."""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    names = [argument.arg for argument in every if argument and not argument.annotation]
    returns = ["return"] if function.returns is None and function.name != "__init__" else []
    return [name for name in names if name not in ("self", "cls")] + returns


def test_functions_of_kernels_and_judge_are_annotated():
    missing = {name: unannotated(function) for name, function in functions_of_code()
               if name.startswith(ANNOTATED) and name not in EXERCISES and not is_kernel(function)}
    assert not {name: parameters for name, parameters in missing.items() if parameters}
