"""Private copies of the arguments' memory, and where in them an element lies.

A pointer is an int64 in one space of addresses: argument i has those around (i + 1) << SHIFT, one for each element, so that
no arithmetic that stays within a tensor reaches another one. Arguments that share a storage share its copy.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from checks.executor.arguments import Tensor
from checks.executor.errors import Unsupported

SHIFT = 40
HALF = 1 << SHIFT - 1
DENSE = 1 << 22  # bytes of a storage up to which gaps are copied too
MOST = 1 << 30  # and up to which they are where several views of it differ


class Buffer:
    """The cells of a storage: elements, or bytes where it is looked at in several element sizes.

    `pad` cells more lie in front and behind, which rows may reach over with masked lanes, unseen.
    """

    def __init__(self, cells: int, itemsize: int, pad: int):
        self.pad = pad
        self.cells = np.zeros(cells + 2 * pad, f"u{itemsize}")  # pages nobody touches take no memory
        self.writer: np.ndarray | None = None  # by cell, as races.py says
        self.reader: np.ndarray | None = None
        self.loaded: np.ndarray | None = None  # bool, where asked for
        self.undefined: np.ndarray | None = None  # bool: what holds nothing yet

    def owners(self, which: str) -> np.ndarray:
        """`writer` or `reader`, made when it is first needed."""
        if getattr(self, which) is None:
            setattr(self, which, np.zeros(self.cells.size, np.int32))
        return getattr(self, which)


class View:
    """One argument: which cells of a buffer are its elements."""

    def __init__(self, name: str, tensor: Tensor, buffer: Buffer, start: int, packed: bool, bytewise: bool):
        self.name, self.buffer, self.start, self.packed = name, buffer, start, packed
        self.itemsize = tensor.itemsize
        self.bytewise = bytewise
        scale = tensor.itemsize if self.bytewise else 1
        self.shape = tensor.shape + ((scale,) if self.bytewise else ())
        self.strides = tuple(s * scale for s in tensor.strides) + ((1,) if self.bytewise else ())
        self.axes = _merged(self.shape, self.strides)  # (stride, length), the longest stride first
        self.size = 1 + sum((n - 1) * s for s, n in self.axes) if 0 not in self.shape else 0
        folded = any(stride <= sum((n - 1) * s for s, n in self.axes[i + 1:]) for i, (stride, _) in enumerate(self.axes))
        self.gaps = not folded and self.size != math.prod(n for _, n in self.axes) or self.size == 0
        self.may_be_written = True

    def inside(self, offset: np.ndarray) -> np.ndarray:
        """Whether an element lies at `offset`."""
        if not self.gaps:
            return (offset >= 0) & (offset < self.size)
        inside, rest = offset >= 0, offset
        for stride, n in self.axes:
            row = rest // stride
            inside &= row < n
            rest = rest - row * stride
        return inside & (rest == 0) if self.size else np.zeros(offset.shape, bool)

    def in_rows(self, offset: np.ndarray, length: int) -> bool:
        """Whether `length` neighbours from each offset lie in one row of the last axis, or in the gap behind it."""
        if not self.axes or self.axes[-1][0] != 1 or (offset < 0).any():
            return False
        rest = offset
        for stride, _ in self.axes[:-1]:
            rest = rest % stride
            if (rest + length > stride).any():
                return False
        return True

    def rows_inside(self, offset: np.ndarray, length: int) -> np.ndarray:
        """`inside` of `length` neighbours from each offset, (*offset.shape, length): in a view with gaps `in_rows`."""
        lanes = np.arange(length)
        if not self.gaps:
            return self.inside(offset[..., None] + lanes)
        inside, rest = offset >= 0, offset
        for stride, n in self.axes[:-1]:
            row = rest // stride
            inside &= row < n
            rest = rest - row * stride
        column = rest[..., None] + lanes
        return inside[..., None] & (column < self.axes[-1][1])

    def cell(self, offset: np.ndarray) -> np.ndarray:
        """The cell, counted from the buffer's first without its padding, of elements that are there."""
        if not self.packed:
            return offset + self.start
        cell, rest = np.zeros_like(offset), offset
        for stride, n in self.axes:
            row = rest // stride
            cell = cell * n + row
            rest = rest - row * stride
        return cell

    def offset(self, cell: int) -> int:
        """The reverse of `cell`, in elements."""
        offset = 0 if self.packed else cell - self.start
        for stride, n in reversed(self.axes) if self.packed else ():
            cell, at = divmod(cell, n)
            offset += at * stride
        return offset // (self.itemsize if self.bytewise else 1)

    def of(self, cells: np.ndarray) -> np.ndarray:
        """The view's part of an array by cell, in the argument's shape; bytes of an element together on a last axis."""
        strides = _packed(self.shape, self.strides) if self.packed else self.strides
        start = self.buffer.pad + (0 if self.packed else self.start)
        return as_strided(cells[start:], self.shape, [s * cells.itemsize for s in strides]) if self.size else \
            np.zeros(self.shape, cells.dtype)


def _packed(shape: Sequence[int], strides: Sequence[int]) -> list[int]:
    """The strides without gaps, the axes in the same order in memory."""
    packed, cells = [0] * len(shape), 1
    for i in sorted(range(len(shape)), key=lambda i: (strides[i], shape[i])):
        packed[i], cells = cells, cells * shape[i]
    return packed


def _merged(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """(stride, length) of the axes that matter, the longest stride first; axes that lie as one are one."""
    axes: list[tuple[int, int]] = []
    for stride, n in sorted(((s, n) for s, n in zip(strides, shape, strict=True) if s and n != 1), reverse=True):
        if axes and axes[-1][0] == stride * n:
            axes[-1] = stride, n * axes[-1][1]
        else:
            axes.append((stride, n))
    return axes


def make_views(named: list[tuple[str, Tensor]], pad: int, bytewise: bool) -> list[View]:
    """A view for each tensor, filled with its numbers. `bytewise`: pointers are cast to elements of other sizes."""
    storages: dict[int, list[int]] = {}
    for i, (_, tensor) in enumerate(named):
        storages.setdefault(tensor.address if tensor.storage.size else -i - 1, []).append(i)
    views: dict[int, View] = {}
    for members in storages.values():
        tensors = [named[i][1] for i in members]
        apart = bytewise or len({t.itemsize for t in tensors}) > 1
        for i, view in zip(members, _share([named[i] for i in members], apart, pad), strict=True):
            views[i] = view
    return [views[i] for i in range(len(named))]


def _share(named: list[tuple[str, Tensor]], bytewise: bool, pad: int) -> list[View]:
    """The views of one storage."""
    tensors = [tensor for _, tensor in named]
    itemsize = 1 if bytewise else tensors[0].itemsize
    scales = [t.itemsize // itemsize for t in tensors]
    pad *= max(scales)
    starts = [t.start * scale for t, scale in zip(tensors, scales, strict=True)]
    ends = [start + scale * span(t) for t, scale, start in zip(tensors, scales, starts, strict=True)]
    low, cells = min(starts), max(ends) - min(starts)
    sparse = is_sparse(tensors)
    if sparse:
        cells = math.prod(tensors[0].shape) * scales[0]
    elif cells * itemsize > MOST and len(tensors) > 1:
        raise Unsupported("views of one storage", "they differ and lie far apart")
    buffer = Buffer(cells, itemsize, pad)
    views = [View(name, tensor, buffer, start - low, sparse, bytewise)
             for (name, tensor), start in zip(named, starts, strict=True)]
    for view, tensor in zip(views, tensors, strict=True):
        view.of(buffer.cells)[...] = _bytewise(elements(tensor), view)
    return views


def is_sparse(tensors: list[Tensor]) -> bool:
    """Whether of a storage that these tensors share their elements alone are kept, since they lie far apart."""
    first = tensors[0]
    if any((t.start, t.shape, t.strides, t.itemsize) != (first.start, first.shape, first.strides, first.itemsize)
           for t in tensors):
        return False
    far = span(first) * first.itemsize > DENSE and span(first) > 4 * math.prod(first.shape)
    return far and 0 not in first.strides


def span(tensor: Tensor) -> int:
    """Elements from the first to the last one."""
    return 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True)) if 0 not in tensor.shape else 0


def elements(tensor: Tensor) -> np.ndarray:
    """The caller's own memory, unsigned numbers in the tensor's shape. Raises ValueError where the storage lacks it."""
    kind = np.dtype(f"u{tensor.itemsize}")
    length, begin = span(tensor), tensor.start * tensor.itemsize
    if not length:
        return np.zeros(tensor.shape, kind)
    if begin < 0 or begin + length * tensor.itemsize > tensor.storage.size or min(tensor.strides, default=0) < 0:
        raise ValueError("a tensor does not lie within its storage")
    return np.ndarray(tensor.shape, kind, tensor.storage[begin:], 0, [s * tensor.itemsize for s in tensor.strides])


def _bytewise(array: np.ndarray, view: View) -> np.ndarray:
    """The same memory, elements of a bytewise view as bytes on one more axis."""
    if not view.bytewise:
        return array
    return as_strided(array, (*array.shape, 1), (*array.strides, array.itemsize)).view(np.uint8)


def write_back(view: View, tensor: Tensor) -> None:
    """What the run wrote, to the caller's memory."""
    if view.buffer.writer is not None and view.size:
        written = view.of(view.buffer.writer) != 0
        target = _bytewise(elements(tensor), view)
        np.copyto(target, view.of(view.buffer.cells), where=written)


def written_elements(view: View, cells: np.ndarray | None) -> np.ndarray | None:
    """Which of the argument's elements any cell of `cells` is not 0 for, in its shape."""
    if cells is None:
        return None
    found = view.of(cells) != 0
    return found.any(axis=-1) if view.bytewise else found
