"""Counts and the trace of a launch's accesses."""

import math
from typing import TYPE_CHECKING

import numpy as np

from checks.executor.access import Piece
from checks.executor.errors import LimitExceeded
from checks.executor.ir import Op
from checks.executor.masks import Active
from checks.executor.report import Accesses

if TYPE_CHECKING:
    from checks.executor.run import Execution


def count(run: "Execution", op: Op, kind: str, piece: Piece, shape: tuple[int, ...]) -> None:
    """Into the report: lanes `shape` of one access."""
    live = piece.live[..., 0] if piece.view.bytewise and piece.live is not None else piece.live
    full = math.prod(shape)
    lanes = full if live is None else int(np.count_nonzero(live)) * (full // live.size)
    load = kind == "load"
    (run.report.loaded_bytes if load else run.report.stored_bytes)[piece.view.name] += lanes * op.size
    (run.report.loads if load else run.report.stores)[piece.view.name] += busy(run, live)
    if load and run.loaded:
        _mark_loaded(piece)
    if run.traced:
        _keep(run, op, kind, piece, shape, live)


def busy(run: "Execution", live: np.ndarray | None) -> int:
    """How many programs have a live lane."""
    if live is None:
        return math.prod(run.box)
    programs = live.any(axis=tuple(range(3, live.ndim)))
    return int(np.count_nonzero(programs)) * (math.prod(run.box) // programs.size)


def count_idle(run: "Execution", live: np.ndarray | None, active: "Active") -> None:
    """Programs that come to an access with all its lanes off."""
    if live is not None:
        run.report.idle += busy(run, active) - busy(run, live)


def _mark_loaded(piece: Piece) -> None:
    buffer = piece.view.buffer
    if buffer.loaded is None:
        buffer.loaded = np.zeros(buffer.cells.size, bool)
    if piece.live is None:
        piece.put(buffer.loaded, True)
    else:
        lanes = piece.lanes()
        shape = np.broadcast_shapes(lanes.shape, piece.live.shape)
        buffer.loaded[np.broadcast_to(lanes, shape)[np.broadcast_to(piece.live, shape)]] = True


def _keep(run: "Execution", op: Op, kind: str, piece: Piece, shape: tuple[int, ...], live: np.ndarray | None) -> None:
    run.traced_lanes += math.prod(shape)
    if run.traced_lanes > run.module.limits.accesses:
        raise LimitExceeded(f"the trace has more than {run.module.limits.accesses} lanes")
    offsets = piece.offset if piece.length is None else piece.offset[..., None] + np.arange(piece.length)
    first = tuple(int(ids.flat[0]) for ids in run.ids)
    on = np.broadcast_to(True if live is None else live, shape)
    run.report.trace.append(Accesses(kind, piece.view.name, (first[0], first[1], first[2]), np.broadcast_to(offsets, shape),
                                     on, op.size, op.place))
