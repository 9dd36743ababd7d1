"""The trace of a function's kernels on any machine: in this process where it interprets, else in one that does."""

from typing import Any

from checks.judge import interpreter_client
from checks.judge.launches import Launch, watch
from checks.judge.source import Function, python_function, self_contained
from kernels.runtime import INTERPRETED


def trace(function: Function, **inputs: Any) -> list[Launch]:
    """The launches that `function(**inputs)` makes, with each load and store, found in Triton's interpreter.

    `inputs` are CPU tensors and numbers. Raises what the function raises, as a RuntimeError where it ran elsewhere.
    """
    if INTERPRETED:
        with watch() as seen:
            function(**inputs)
        return seen
    source = self_contained(function, **interpreter_client.CONSTANTS)
    launches: list[Launch] = interpreter_client.ask("trace", source, python_function(function).__name__, inputs)
    return launches
