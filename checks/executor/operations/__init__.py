"""What each operation of TTIR does."""

from checks.executor.errors import Unsupported
from checks.executor.ir import TERMINATORS, Op
from checks.executor.operations import atomics, casts, control, debug, dot, elementwise, libdevice, loads, reductions, shapes
from checks.executor.operations.table import TABLE

__all__ = ["atomics", "casts", "control", "debug", "dot", "elementwise", "libdevice", "loads",
           "prepare", "reductions", "shapes"]


def prepare(op: Op) -> None:
    """Fill `op.run`. Raises Unsupported."""
    if op.name in TABLE:
        op.run = TABLE[op.name](op)
    elif op.name not in TERMINATORS:
        raise Unsupported(op.name)
