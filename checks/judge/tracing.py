"""The trace of a function's kernels on any machine: each load and store, for pictures."""

from typing import Any

from checks.executor import Unsupported
from checks.host.playback import play
from checks.host.recorder import NeedsNumbers, record
from checks.host.steps import LaunchStep
from checks.judge.execution import execute
from checks.judge.launches import Launch, watch
from checks.judge.source import Function
from kernels.runtime import INTERPRETED


def trace(function: Function, **inputs: Any) -> list[Launch]:
    """The launches that `function(**inputs)` makes, with each load and store, program by program.

    `inputs` are CPU tensors and numbers. Raises what the function raises, and RuntimeError on a machine with a GPU for a
    function that can only be interpreted, because it looks at numbers, say.
    """
    launches: list[Launch] = []

    def run(step: LaunchStep, arguments: dict[str, Any]) -> None:
        launches.append(execute(step, arguments))

    try:
        play(record(function, inputs), inputs, run)
    except (NeedsNumbers, Unsupported) as reason:
        if not INTERPRETED:
            raise RuntimeError(f"without a GPU it can only be interpreted: {reason}") from None
        with watch() as launches:
            function(**inputs)
    return launches
