"""Atomics: one lane after the other, in the order of programs."""

from typing import TYPE_CHECKING

import numpy as np

from checks.executor import races, traffic
from checks.executor.access import Piece, locate
from checks.executor.errors import Malformed, Unsupported
from checks.executor.formats import decode, encode, rounded
from checks.executor.ir import Op
from checks.executor.masks import Active
from checks.executor.operations.elementwise import INTEGERS
from checks.executor.operations.table import Array, Function, Handler, effect
from checks.executor.types import STORED

if TYPE_CHECKING:
    from checks.executor.run import Env, Execution

UPDATES: dict[str, Function] = {
    "add": np.add, "fadd": np.add, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "exch": lambda old, new: new, "max": np.maximum, "min": np.minimum, "umax": INTEGERS["arith.maxui"],
    "umin": INTEGERS["arith.minui"],
}


@effect("tt.atomic_rmw")
def read_modify_write(op: Op) -> Handler:
    how = op.words.partition(",")[0]
    if how not in UPDATES:
        raise Unsupported(f"{op.name} {how}")
    kind, update = op.type, UPDATES[how]
    return _atomic(op, 1, lambda old, value: rounded(update(old, value), kind.elem))


@effect("tt.atomic_cas")
def compare_and_swap(op: Op) -> Handler:
    return _atomic(op, 2, lambda old, expected, new: np.where(old == expected, new, old))


def _atomic(op: Op, given: int, update: Function) -> Handler:
    kind = op.type
    op.size = kind.itemsize
    if len(op.operands) < 1 + given:
        raise Malformed(f"{op.name} lacks operands")
    relaxed = " relaxed" in f" {op.words}".replace(",", " ")

    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        values = [execution.get(env, name) for name in op.operands[1:]]
        mask = values[given] if len(values) > given else None
        shape = execution.box + kind.shape
        live = execution.live(mask, active, len(kind.shape))
        traffic.count_idle(execution, live, active)
        old = np.zeros(shape, kind.dtype)
        if live is None or live.any():
            for piece in locate(execution, op, "atomic", env[op.operands[0]], live, shape):
                before = sum(execution.report.stores.values())
                for direction in ("load", "store"):
                    traffic.count(execution, op, direction, piece, shape)
                execution.report.atomics += sum(execution.report.stores.values()) - before
                _update(execution, op, piece, [np.broadcast_to(v, shape) for v in values[:given]], update, old)
        if not relaxed:
            here = np.broadcast_to(True if active is None else active, execution.box)
            execution.waited = here if execution.waited is None else execution.waited | here
        env[op.results[0]] = old

    return run


def _update(execution: "Execution", op: Op, piece: Piece, values: list[Array], update: Function, old: Array) -> None:
    """Round r has the r-th lane of each address. What the lanes found goes into `old`."""
    shape, kind = old.shape, op.type
    size = op.size if piece.view.bytewise else 0
    index, program, ordered = races.live_lanes(execution, piece, (*shape, size) if size else shape)
    races.note_atomic(execution, op, piece, index, program, ordered)
    on = np.broadcast_to(True if piece.live is None else piece.live[..., 0] if size else piece.live, shape)
    cells = piece.view.buffer.cells
    if size:  # whole elements: their first bytes, which are aligned, say where
        ahead = piece.view.buffer.pad % size
        cells = cells[ahead:ahead + (cells.size - ahead) // size * size].view(f"u{size}")
        index = (index[::size] - ahead) // size
    lanes_given = [value[on] for value in values]
    before = np.zeros(index.shape, kind.dtype)
    for lanes in _rounds(index):
        execution.check_time()
        now = decode(cells[index[lanes]].view(STORED[kind.elem]), kind.elem)
        before[lanes] = now
        new = update(now, *(value[lanes] for value in lanes_given))
        cells[index[lanes]] = np.ascontiguousarray(encode(new, kind.elem)).view(cells.dtype)
    old[on] = before


def _rounds(index: Array) -> list[Array]:
    """Lanes in rounds in which no address comes twice, in their order."""
    if not index.size:
        return []
    order = np.argsort(index, kind="stable")
    run = index[order]
    start = np.flatnonzero(np.concatenate([[True], run[1:] != run[:-1]]))
    rank = np.empty(run.size, np.int64)
    rank[order] = np.arange(run.size) - np.repeat(start, np.diff(np.append(start, run.size)))
    return np.split(np.argsort(rank, kind="stable"), np.cumsum(np.bincount(rank))[:-1])
