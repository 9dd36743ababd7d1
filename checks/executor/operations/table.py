"""The table of operations, by name. Each entry makes, once per operation of the text, the function that executes it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from checks.executor.ir import Op

if TYPE_CHECKING:
    from checks.executor.masks import Active
    from checks.executor.run import Env, Execution

Array = np.ndarray
Function = Callable[..., Any]
"""Values of the operands, (x, y, z, *tile) or of size 1 along an axis, to that of the result, or to those of the results."""
Handler = Callable[["Execution", "Env", "Active"], None]
TABLE: dict[str, Callable[[Op], Handler]] = {}


def pure(*names: str) -> Callable[[Callable[[Op], Function]], Callable[[Op], Function]]:
    """For operations that only compute: `make(op)` returns a function of values."""
    def add(make: Callable[[Op], Function]) -> Callable[[Op], Function]:
        TABLE.update(dict.fromkeys(names, lambda op: _handler(op, make(op))))
        return make
    return add


def effect(*names: str) -> Callable[[Callable[[Op], Handler]], Callable[[Op], Handler]]:
    """For operations that touch memory, or choose what runs: `make(op)` returns a function of (execution, env, active)."""
    def add(make: Callable[[Op], Handler]) -> Callable[[Op], Handler]:
        TABLE.update(dict.fromkeys(names, make))
        return make
    return add


def _handler(op: Op, function: Function) -> Handler:
    names, results = op.operands, op.results
    if len(results) == 1:
        name = results[0]

        def run(execution: "Execution", env: "Env", active: "Active") -> None:
            env[name] = function(*[execution.get(env, operand) for operand in names])
    else:
        def run(execution: "Execution", env: "Env", active: "Active") -> None:
            env.update(zip(results, function(*[execution.get(env, operand) for operand in names]), strict=True))
    return run


def spread(x: Array, shape: tuple[int, ...]) -> Array:
    """A tile with all its lanes, the grid's axes as they are."""
    return np.broadcast_to(x, x.shape[:3] + shape)


def ones(rank: int) -> tuple[int, ...]:
    """The shape of a value that is the same in all programs and lanes."""
    return (1,) * (3 + rank)
