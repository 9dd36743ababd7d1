"""Loads and stores."""

from typing import TYPE_CHECKING

import numpy as np

from checks.executor import races, traffic
from checks.executor.access import Piece, locate
from checks.executor.formats import decode, encode, poison
from checks.executor.ir import Op
from checks.executor.masks import Active
from checks.executor.operations.table import Handler, effect
from checks.executor.types import STORED, Type

if TYPE_CHECKING:
    from checks.executor.run import Env, Execution


@effect("tt.load")
def load(op: Op) -> Handler:
    pointer, kind = op.operands[0], op.type
    op.size = kind.itemsize
    rank, nothing = len(kind.shape), np.asarray(poison(kind.elem), kind.dtype)

    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        mask, other = ([execution.get(env, name) for name in op.operands[1:]] + [None, None])[:2]
        live = execution.live(mask, active, rank)
        shape = execution.box + kind.shape
        traffic.count_idle(execution, live, active)
        result: np.ndarray = np.full((1,) * len(shape), nothing)
        if live is None or live.any():
            pieces = locate(execution, op, "load", env[pointer], live, shape)
            result, live = _read(execution, op, kind, pieces, shape, result)
        if live is not None and not live.all():
            result = np.where(live, result, nothing if other is None else other)
        env[op.results[0]] = result

    return run


def _read(execution: "Execution", op: Op, kind: Type, pieces: list[Piece], shape: tuple[int, ...],
          nothing: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """What lies at the pieces, and which lanes are live: without those at fault."""
    result, live = nothing, np.zeros((1,) * len(shape), bool) if len(pieces) != 1 else None
    for piece in pieces:
        view = piece.view
        traffic.count(execution, op, "load", piece, shape)
        found = piece.at(view.buffer.cells)
        mine = piece.live
        if view.bytewise:
            found, mine = found.view(f"u{op.size}")[..., 0], None if mine is None else mine[..., 0]
        found = decode(found.view(STORED[kind.elem]), kind.elem)
        if view.buffer.undefined is not None:
            found = _without_undefined(execution, op, piece, mine, found, nothing)
        if view.may_be_written:
            races.note_load(execution, op, piece, shape + ((op.size,) if view.bytewise else ()))
        result = found if mine is None or len(pieces) == 1 else np.where(mine, found, result)
        live = mine if live is None or mine is None else live | mine
    return result, live


def _without_undefined(execution: "Execution", op: Op, piece: Piece, live: np.ndarray | None, found: np.ndarray,
                       nothing: np.ndarray) -> np.ndarray:
    assert piece.view.buffer.undefined is not None
    bad = piece.at(piece.view.buffer.undefined)
    bad = np.asarray(bad.any(axis=-1)) if piece.view.bytewise else bad
    seen = bad if live is None else bad & live
    if not seen.any():
        return found
    offset = piece.offset if piece.length is None else piece.offset[..., None] + np.arange(piece.length)
    execution.fault("load of what was never written", op, seen, piece.view, offset)
    return np.where(bad, nothing, found)


@effect("tt.store")
def store(op: Op) -> Handler:
    pointer, value_name = op.operands[:2]
    target = op.operand_types[0].pointed()
    op.size = target.itemsize

    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        mask = execution.get(env, op.operands[2]) if len(op.operands) > 2 else None
        live = execution.live(mask, active, len(target.shape))
        shape = execution.box + target.shape
        traffic.count_idle(execution, live, active)
        if live is not None and live.all():
            live = None
        if live is not None and not live.any():
            return
        value = np.ascontiguousarray(encode(execution.get(env, value_name), target.elem)).view(f"u{op.size}")
        for piece in locate(execution, op, "store", env[pointer], live, shape):
            traffic.count(execution, op, "store", piece, shape)
            if piece.view.bytewise:
                pieces = np.ascontiguousarray(value[..., None]).view(np.uint8)
                races.store(execution, op, piece, (*shape, op.size), pieces)
            else:
                races.store(execution, op, piece, shape, value)

    return run
