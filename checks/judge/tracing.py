"""The trace of a function's kernels on any machine: in this process where it interprets, else in one that does."""

from typing import Any

from triton.runtime.errors import InterpreterError

from checks.judge import interpreter_client
from checks.judge.attempt import root_cause
from checks.judge.launches import Launch, watch
from checks.judge.source import Function, python_function, self_contained
from kernels.runtime import INTERPRETED


def trace(function: Function, **inputs: Any) -> list[Launch]:
    """The launches that `function(**inputs)` makes, with each load and store, found in Triton's interpreter.

    `inputs` are CPU tensors and numbers. Raises what the function raises, as a RuntimeError where it ran elsewhere; for a
    kernel that fails, an InterpreterError with the message of its cause, where Triton's own has the cause's `repr`.
    """
    if INTERPRETED:
        try:
            with watch() as seen:
                function(**inputs)
        except InterpreterError as error:
            cause = root_cause(error)
            raise InterpreterError(str(cause)) from cause
        return seen
    source = self_contained(function, **interpreter_client.CONSTANTS)
    launches: list[Launch] = interpreter_client.ask("trace", source, python_function(function).__name__, inputs)
    return launches
