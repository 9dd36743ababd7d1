"""Where a load or store goes: from pointers to cells of a buffer, with every live lane checked.

Where the lanes of the last axis lie side by side, only the start of each row is looked at, and rows are copied.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from checks.executor.ir import Op
from checks.executor.memory import HALF, SHIFT, View

if TYPE_CHECKING:
    from checks.executor.run import Execution

SHORT = 8  # lanes of a row below which copying rows takes longer than lanes


class Sum:
    """A pointer plus offsets, not yet added up: where rows lie in one piece only their starts are needed."""

    def __init__(self, a: "Sum | np.ndarray", b: np.ndarray):
        self.a, self.b = a, b

    def parts(self) -> list[np.ndarray]:
        return [*(self.a.parts() if isinstance(self.a, Sum) else [self.a]), self.b]

    def lane(self, i: int) -> np.ndarray:
        """The addresses of lane `i` of the last axis, which has size 1."""
        parts = [x if x.shape[-1] == 1 else x[..., i][..., None] for x in self.parts()]
        return sum(parts[1:], start=parts[0])

    def full(self) -> np.ndarray:
        return (self.a.full() if isinstance(self.a, Sum) else self.a) + self.b


@dataclass(eq=False)
class Piece:
    """The part of an access that is one tensor's. `index` counts cells with the padding, of lanes or of starts of rows."""

    view: View
    index: np.ndarray
    length: int | None  # of rows; None for lanes
    live: np.ndarray | None  # None for all
    offset: np.ndarray  # of the same lanes or starts, from the tensor's first element

    def lanes(self) -> np.ndarray:
        """The index of each lane."""
        return self.index if self.length is None else self.index[..., None] + np.arange(self.length)

    def at(self, cells: np.ndarray) -> np.ndarray:
        """The lanes of an array by cell."""
        return cells[self.index] if self.length is None else _rows(cells, self.length)[self.index]

    def put(self, cells: np.ndarray, values: np.ndarray | bool) -> None:
        if self.length is None:
            cells[self.index] = values
        else:
            _rows(cells, self.length)[self.index] = values


def _rows(cells: np.ndarray, length: int) -> np.ndarray:
    """Row i begins at cell i; they overlap."""
    return np.ndarray((cells.size - length + 1, length), cells.dtype, cells, 0, (cells.itemsize, cells.itemsize))


def locate(run: "Execution", op: Op, kind: str, pointer: "Sum | np.ndarray", live: np.ndarray | None,
           shape: tuple[int, ...]) -> list[Piece]:
    """The pieces of an access of lanes `shape`, more than one only where its pointers lie in several tensors.

    Faults are reported and masked. Of a bytewise view the last axis of a piece holds the bytes of each element.
    """
    address, length = _address(run, op, pointer, shape)
    low, high = int(address.min()), int(address.max())
    base = low + HALF >> SHIFT
    if base != high + HALF >> SHIFT or not 1 <= base <= len(run.views) or run.views[base - 1].bytewise:
        return _several(run, op, kind, address if length is None else address + np.arange(length), live)
    view = run.views[base - 1]
    offset = address - (base << SHIFT)
    low, high = low - (base << SHIFT), high - (base << SHIFT) + (length or 1)
    if length and view.gaps and not view.in_rows(offset[..., 0], length):
        offset, length = offset + np.arange(length), None  # such as rows that begin before the tensor's, their lanes masked
    beyond = low < 0 or high > view.size
    named = offset  # as the kernel has it, also of lanes that are off
    if beyond or view.gaps:
        inside = view.rows_inside(offset[..., 0], length) if length else view.inside(offset)
        bad = ~inside if live is None else ~inside & live
        if bad.any():
            run.fault(f"out-of-bounds {kind}", op, bad, view, offset + np.arange(length) if length else offset)
            live = ~bad if live is None else live & ~bad
        if not length:
            offset = np.where(inside, offset, 0)
        elif view.packed or low < -view.buffer.pad or high > view.size + view.buffer.pad:
            offset = np.where(inside.any(axis=-1, keepdims=True), offset, 0)  # no lane of such a row is live
    if length:
        offset, named = offset[..., 0], named[..., 0]
    cell = view.cell(offset)
    return [Piece(view, cell + view.buffer.pad, length, live, named)]


def _address(run: "Execution", op: Op, pointer: "Sum | np.ndarray", shape: tuple[int, ...]) -> tuple[np.ndarray, int | None]:
    """Addresses of lanes, or with a length those of rows that lie in one piece, (..., 1)."""
    length = shape[-1] if len(shape) > 3 and SHORT <= shape[-1] <= run.module.longest else None
    if length and op.steps != 1 and not _neighbours(pointer, shape):
        length = None
    if length:
        lane = pointer.lane if isinstance(pointer, Sum) else lambda i: pointer[..., i][..., None]
        ends = lane(0), lane(-1)
        if (ends[1] - ends[0] == length - 1).all():
            return ends[0], length
    return (pointer.full() if isinstance(pointer, Sum) else pointer), None


def _neighbours(pointer: "Sum | np.ndarray", shape: tuple[int, ...]) -> bool:
    """Whether lanes are neighbours, where the text did not tell: looked at if there is little to look at."""
    some = [p for p in pointer.parts() if p.shape[-1] > 1] if isinstance(pointer, Sum) else []
    return len(some) == 1 and some[0].size * 8 <= math.prod(shape) and bool((np.diff(some[0], axis=-1) == 1).all())


def _several(run: "Execution", op: Op, kind: str, address: np.ndarray, live: np.ndarray | None) -> list[Piece]:
    """The same where addresses lie in several tensors, in none, or in bytes."""
    base = address + HALF >> SHIFT
    live = np.ones((1,) * address.ndim, bool) if live is None else live
    none = live & ((base < 1) | (base > len(run.views)))
    if none.any():
        run.fault(f"{kind} outside every tensor", op, none, None, address)
    pieces = []
    for which in np.unique(base):
        if not 1 <= which <= len(run.views):
            continue
        mine = live & (base == which)
        if not mine.any():
            continue
        view = run.views[which - 1]
        offset = address - (which << SHIFT)
        mine, cells = _checked(run, op, kind, view, np.where(mine, offset, 0), mine)
        pieces.append(Piece(view, cells + view.buffer.pad, None, mine, offset))
    return pieces


def _checked(run: "Execution", op: Op, kind: str, view: View, offset: np.ndarray,
             live: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lanes that lie in the tensor, and their cells; those of a bytewise view with the bytes on one more axis."""
    cells_at = offset
    if view.bytewise:
        cells_at = (offset * op.size)[..., None] + np.arange(op.size)
        inside = np.asarray(view.inside(cells_at).all(axis=-1))
    else:
        inside = view.inside(offset)
    bad = live & ~inside
    if bad.any():
        run.fault(f"out-of-bounds {kind}", op, bad, view, offset)
        live = live & ~bad
    keep = inside[..., None] if view.bytewise else inside
    cells = view.cell(np.where(keep, cells_at, 0))
    return (live[..., None] if view.bytewise else live), cells
