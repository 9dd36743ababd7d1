"""Reductions, scans and functions of lanes, whose regions say how lanes are combined."""

from typing import TYPE_CHECKING

import numpy as np

from checks.executor.errors import Malformed
from checks.executor.ir import Block, Op
from checks.executor.masks import Active
from checks.executor.operations.elementwise import ARITHMETIC, INTEGERS
from checks.executor.operations.table import Handler, effect, spread

if TYPE_CHECKING:
    from checks.executor.run import Env, Execution


def ufunc_of(body: Block) -> np.ufunc | None:
    """NumPy's function for a region that is one operation on its two arguments in their order, else None.

    Not of FP16, which NumPy adds up in float32, nor of what is rounded after each step.
    """
    if len(body.ops) != 2 or len(body.args) != 2 or body.types[0].elem in ("i1", "f16", "bf16", "f8E5M2", "f8E4M3FN"):
        return None
    op, last = body.ops
    if op.operands != body.args or last.operands != op.results:
        return None
    function = (ARITHMETIC | INTEGERS).get(op.name)
    return function if isinstance(function, np.ufunc) else None


def _inputs(run: "Execution", env: "Env", op: Op, axis: int) -> list[np.ndarray]:
    """The operands with all their lanes."""
    x = [spread(run.get(env, name), kind.shape) for name, kind in zip(op.operands, op.operand_types, strict=True)]
    programs = np.broadcast_shapes(*(value.shape[:3] for value in x))
    return [np.broadcast_to(value, programs + value.shape[3:]) for value in x]


@effect("tt.reduce")
def reduce(op: Op) -> Handler:
    body, axis, ufunc = _body(op), 3 + op.attribute("axis"), ufunc_of(_body(op))

    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        x = _inputs(execution, env, op, axis)
        if ufunc:
            env[op.results[0]] = ufunc.reduce(x[0], axis=axis, dtype=x[0].dtype)
            return
        x = [np.moveaxis(value, axis, 0) for value in x]
        while (n := len(x[0])) > 1:  # halves, so log2(n) steps
            x = execution.combine(body, env, [value[:n // 2] for value in x], [value[n // 2:] for value in x])
        env.update(zip(op.results, (value[0] for value in x), strict=True))

    return run


@effect("tt.scan")
def scan(op: Op) -> Handler:
    body, axis, back, ufunc = _body(op), 3 + op.attribute("axis"), op.attributes.get("reverse") is True, ufunc_of(_body(op))

    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        x = [np.moveaxis(value, axis, 0) for value in _inputs(execution, env, op, axis)]
        x = [np.array(value[::-1] if back else value) for value in x]
        if ufunc:
            x[0] = ufunc.accumulate(x[0], axis=0, dtype=x[0].dtype)
        for i in range(1, 1 if ufunc else len(x[0])):  # one lane after the other, of all programs
            execution.check_time()
            now = execution.combine(body, env, [value[i - 1] for value in x], [value[i] for value in x])
            for value, new in zip(x, now, strict=True):
                value[i] = new
        env.update(zip(op.results, (np.moveaxis(value[::-1] if back else value, 0, axis) for value in x), strict=True))

    return run


@effect("tt.map_elementwise")
def map_elementwise(op: Op) -> Handler:
    """A function of single lanes, which may go different ways: each lane is a program of its own to it.

    `pack` neighbours along the last axis are given together.
    """
    pack, blocks = op.attribute("pack"), op.regions[0]

    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        x = np.broadcast_arrays(*_inputs(execution, env, op, 0))
        shape = x[0].shape
        given = [lane.reshape(-1, 1, 1) for value in x for lane in np.moveaxis(value.reshape(-1, pack), 1, 0)]
        made = execution.region(blocks, dict(env), given)
        for i, name in enumerate(op.results):
            lanes = [np.broadcast_to(lane, given[0].shape).reshape(-1) for lane in made[i * pack:(i + 1) * pack]]
            env[name] = np.stack(lanes, axis=-1).reshape(shape)

    return run


def _body(op: Op) -> Block:
    if len(op.regions) != 1 or len(op.regions[0]) != 1 or not op.operand_types or len(op.operand_types) != len(op.operands):
        raise Malformed(f"{op.name} needs one region of one block, and the types of its operands")
    return op.regions[0][0]
