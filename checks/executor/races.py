"""Races: two programs that touch one place in no order, at least one of them writing.

For each cell it is known who wrote it and who read it: 0 nobody, a program's number + 1, or -1 for several programs or an
atomic. Programs that write the same value are let be. A program that has made an atomic operation may thereby have waited
for another one: what it touches from then on is not called a race.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from checks.executor.access import Piece
from checks.executor.ir import Op
from checks.executor.report import Race

if TYPE_CHECKING:
    from checks.executor.run import Execution

SEVERAL = -1


def note_load(run: "Execution", op: Op, piece: Piece, shape: tuple[int, ...]) -> None:
    """A load of a tensor that the launch may write."""
    index, program, ordered = live_lanes(run, piece, shape)
    buffer = piece.view.buffer
    if buffer.writer is not None:
        writer = buffer.writer[index]
        bad = _other(writer, program) & ~ordered
        _report(run, op, piece, "reads what another program stored", _Clash(bad, program, writer, index))
    reader = buffer.owners("reader")
    before = reader[index]
    reader[index] = np.where((before == 0) | (before == program), program, SEVERAL)
    reader[index[reader[index] != program]] = SEVERAL


def store(run: "Execution", op: Op, piece: Piece, shape: tuple[int, ...], value: np.ndarray) -> None:
    """Store `value`, of the cells' dtype, and say who did it."""
    buffer = piece.view.buffer
    if piece.live is None and piece.length:  # whole rows
        where = replace(piece, index=np.broadcast_to(piece.index, shape[:-1]))
        value, program = np.broadcast_to(value, shape), _programs(run, shape)
        ordered = _ordered(run, shape)
    else:
        index, program, ordered = live_lanes(run, piece, shape)
        where = replace(piece, index=index, length=None)
        value = np.broadcast_to(value, shape)[np.broadcast_to(True if piece.live is None else piece.live, shape)]
    if not value.size:
        return
    if buffer.writer is not None:
        before = where.at(buffer.writer)
        again = _other(before, program) & (where.at(buffer.cells) != value) & ~ordered
        _report(run, op, piece, "stores another value than another program", _Clash(again, program, before, where))
    if buffer.reader is not None:
        before = where.at(buffer.reader)
        again = (before != 0) & (before != program) & ~ordered
        _report(run, op, piece, "stores what another program has read", _Clash(again, program, before, where))
    writer = buffer.owners("writer")
    where.put(buffer.cells, value)
    where.put(writer, program)
    if buffer.undefined is not None:
        where.put(buffer.undefined, False)
    clash = where.at(buffer.cells) != value
    owner = where.at(writer)
    for bad, other in ((clash & (owner != program), "program"), (clash & (owner == program), "lane")):
        _report(run, op, piece, f"stores another value than another {other}", _Clash(bad, program, owner, where))


def note_atomic(run: "Execution", op: Op, piece: Piece, index: np.ndarray, program: np.ndarray, ordered: np.ndarray) -> None:
    """An atomic on the cells `index`, one for each live lane."""
    writer = piece.view.buffer.owners("writer")
    before = writer[index]
    clash = _Clash(_other(before, program) & ~ordered, program, before, index)
    _report(run, op, piece, "updates what another program stored without one", clash)
    writer[index] = SEVERAL
    if piece.view.buffer.undefined is not None:
        piece.view.buffer.undefined[index] = False


def live_lanes(run: "Execution", piece: Piece, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the live lanes: index, program and whether it may have waited for others."""
    lanes = np.broadcast_to(piece.lanes(), shape)
    program, ordered = _programs(run, shape), _ordered(run, shape)
    if piece.live is None:
        return lanes.reshape(-1), program.reshape(-1), ordered if ordered.ndim == 0 else ordered.reshape(-1)
    on = np.broadcast_to(piece.live, shape)
    return lanes[on], program[on], ordered if ordered.ndim == 0 else ordered[on]


def _programs(run: "Execution", shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(run.program.reshape(run.box + (1,) * (len(shape) - 3)), shape)


def _ordered(run: "Execution", shape: tuple[int, ...]) -> np.ndarray:
    if run.waited is None:
        return np.asarray(False)
    return np.broadcast_to(run.waited.reshape(run.waited.shape + (1,) * (len(shape) - 3)), shape)


def _other(owner: np.ndarray, program: np.ndarray) -> np.ndarray:
    return (owner > 0) & (owner != program)


class _Clash(NamedTuple):
    """For each cell of an access: whether it is a race, the program, the other one, and where the cells are."""

    bad: np.ndarray
    program: np.ndarray
    other: np.ndarray
    where: "Piece | np.ndarray"


def _report(run: "Execution", op: Op, piece: Piece, what: str, clash: _Clash) -> None:
    if not clash.bad.any():
        return
    first = int(np.argmax(clash.bad))
    lanes = clash.where.lanes() if isinstance(clash.where, Piece) else clash.where
    offset = piece.view.offset(int(lanes.flat[first]) - piece.view.buffer.pad)
    number = int(clash.other.flat[first])
    run.note("races", Race(what, piece.view.name, run.place(int(clash.program.flat[first])),
                           run.place(number) if number > 0 else None, offset, op.place))
