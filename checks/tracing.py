"""The trace of a function's kernels on any machine: in this process where it interprets, else in one that does."""

from checks import elsewhere
from checks.launches import Launch, watch
from checks.source import python_function, self_contained
from kernels.runtime import INTERPRETED


def trace(function, **inputs) -> list[Launch]:
    """The launches that `function(**inputs)` makes, with each load and store, found in Triton's interpreter.

    `inputs` are CPU tensors and numbers. Raises what the function raises, as a RuntimeError where it ran elsewhere.
    """
    if INTERPRETED:
        with watch() as launches:
            function(**inputs)
        return launches
    source = self_contained(function, **elsewhere.CONSTANTS)
    return elsewhere.ask("trace", source, python_function(function).__name__, inputs)
