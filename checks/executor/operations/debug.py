"""Prints, assertions, and what has no effect here."""

from typing import TYPE_CHECKING

import numpy as np

from checks.executor.errors import Unsupported
from checks.executor.ir import Op
from checks.executor.masks import Active
from checks.executor.operations.table import Handler, effect
from checks.executor.report import Print

if TYPE_CHECKING:
    from checks.executor.run import Env, Execution

PRINTED = 1 << 16  # numbers of one print that are kept


@effect("tt.print")
def device_print(op: Op) -> Handler:
    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        on = np.broadcast_to(True if active is None else active, execution.box)
        lanes = max([kind.size for kind in op.operand_types], default=1)
        which = np.argwhere(on)[:max(1, PRINTED // lanes)]
        programs = [execution.place(int(execution.program[tuple(index)])) for index in which]
        values = [np.broadcast_to(value, execution.box + (kind.shape if kind.shape else ()))[tuple(which.T)].copy()
                  for value, kind in zip(execution.values_of(op, env), op.operand_types, strict=True)]
        execution.note("prints", Print(op.strings[0], programs, values, op.place))

    return run


@effect("tt.assert")
def device_assert(op: Op) -> Handler:
    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        holds = execution.get(env, op.operands[0])
        bad = execution.live(~holds, active, holds.ndim - 3)
        if bad is not None and bad.any():
            execution.fault(f"assertion failed: {op.strings[-1] if op.strings else ''}", op, bad, None, None)

    return run


@effect("tt.elementwise_inline_asm")
def inline_assembly(op: Op) -> Handler:
    """Only the instructions that order launches, which have no numbers."""
    if not op.strings or "griddepcontrol" not in op.strings[0]:
        raise Unsupported("inline assembly")
    return lambda run, env, active: env.update(dict.fromkeys(op.results, np.zeros((1, 1, 1), np.int32)))


@effect("llvm.intr.assume", "gpu.barrier", "tt.debug_barrier", "ttg.barrier", "ttg.local_barrier")
def nothing(op: Op) -> Handler:
    return lambda run, env, active: None
