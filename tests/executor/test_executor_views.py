"""Which cells of a buffer are an argument's elements, one by one: dense, with gaps, folded, far apart, empty, of bytes."""

import itertools
import math

import numpy as np
import pytest

from checks.executor import Tensor, Unsupported, memory
from checks.executor.memory import elements, is_sparse, make_views, span, write_back, written_elements

FAR = memory.DENSE // 2 + 7  # elements of 2 bytes between rows: beyond the bytes up to which gaps are copied
LAYOUTS = {  # shape, strides
    "one element": ((), ()), "a row": ((5,), (1,)), "dense": ((3, 4), (4, 1)), "transposed": ((4, 3), (1, 4)),
    "with gaps": ((3, 4), (6, 1)), "every other one": ((5,), (2,)), "gaps on both axes": ((3, 4), (16, 3)),
    "three axes": ((2, 3, 4), (40, 8, 1)), "the last two as one": ((2, 3, 4), (20, 4, 1)),
    "an axis of one": ((3, 1, 4), (7, 100, 1)), "repeated": ((3, 4), (0, 1)), "one number repeated": ((3, 4), (0, 0)),
    "windows": ((4, 3), (1, 1)), "overlapping rows": ((3, 5), (4, 1)), "a column": ((4, 1), (6, 1)),
    "no row": ((0, 4), (4, 1)), "no column": ((3, 0), (4, 1)), "none": ((0,), (1,)),
    "far": ((3, 4), (FAR, 1)), "far columns": ((4, 3), (1, FAR)), "far and with gaps": ((2, 3, 2), (FAR, 9, 1)),
}


def tensor(shape, strides, start=3, itemsize=2):
    """Numbers in a storage that ends with the last element."""
    cells = start + (1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if 0 not in shape else 0)
    storage = np.arange(cells * itemsize, dtype=np.uint8) if cells < 1 << 20 else np.zeros(cells * itemsize, np.uint8)
    made = Tensor(storage, itemsize, shape, strides, start)
    if cells >= 1 << 20:
        elements(made)[...] = np.arange(math.prod(shape)).reshape(shape)
    return made


def places(shape, strides):
    """The offset of each element, in the tensor's shape."""
    found = np.zeros(shape, np.int64)
    for index in itertools.product(*map(range, shape)):
        found[index] = sum(i * s for i, s in zip(index, strides, strict=True))
    return found


def near(there):
    """Offsets in and around a tensor."""
    return np.unique(np.concatenate([np.arange(-4, 5) + place for place in [0, *there.flat]]))


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_an_argument_s_elements_lie(layout, bytewise):
    given, there = tensor(*LAYOUTS[layout]), places(*LAYOUTS[layout])
    (view,) = make_views([("x", given)], pad=8, bytewise=bytewise)
    assert view.packed == layout.startswith("far") == is_sparse([given])
    assert span(given) == (1 + there.max() if there.size else 0)
    wide = given.itemsize if bytewise else 1  # cells of an element
    offsets, there_too = near(there), {wide * int(o) + i for o in there.flat for i in range(wide)}
    assert [int(o) for o in offsets if view.inside(np.array(o))] == [int(o) for o in offsets if int(o) in there_too]
    for length in (1, 2, 4, 8):
        for offset in offsets:
            if not view.gaps or view.in_rows(offset[None], length):
                assert view.rows_inside(offset[None], length).tolist() == [[offset + i in there_too for i in range(length)]]
    held = elements(given)
    if bytewise:
        held = np.ascontiguousarray(held).view(np.uint8).reshape(*held.shape, wide)
    assert np.array_equal(view.of(view.buffer.cells), held)
    for offset in sorted(there_too):
        cell = int(view.cell(np.array(offset)))
        assert view.offset(cell) == offset // wide
        assert view.buffer.cells[view.buffer.pad + cell] == held.reshape(-1)[
            np.flatnonzero(there.reshape(-1) == offset // wide)[0] * wide + offset % wide]


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("layout", ["dense", "transposed", "with gaps", "far", "far columns", "no column"])
def test_what_was_written_comes_back(layout, bytewise):
    given = tensor(*LAYOUTS[layout])
    (view,) = make_views([("x", given)], pad=8, bytewise=bytewise)
    before = given.storage.copy() if given.storage.size < 1 << 20 else None
    assert written_elements(view, view.buffer.writer) is None
    write_back(view, given)
    chosen = np.arange(math.prod(given.shape)).reshape(given.shape) % 3 == 0
    want = np.where(chosen, 0xABCD, elements(given))
    mine = chosen[..., None] if bytewise else chosen
    np.copyto(view.of(view.buffer.owners("writer")), 5, where=mine)
    np.copyto(view.of(view.buffer.cells), np.array([0xCD, 0xAB], np.uint8) if bytewise else np.uint16(0xABCD), where=mine)
    write_back(view, given)
    assert np.array_equal(elements(given), want)
    assert np.array_equal(written_elements(view, view.buffer.writer), chosen)
    if before is not None:
        rest = np.ones(given.storage.size // 2, bool)
        rest[given.start + places(*LAYOUTS[layout]).reshape(-1)] = False
        assert np.array_equal(given.storage.view(np.uint16)[rest], before.view(np.uint16)[rest])


def part(storage, shape, strides, start, itemsize=2):
    return Tensor(storage, itemsize, shape, strides, start)


def test_views_of_one_storage_share_its_cells():
    storage = np.arange(64, dtype=np.uint8)
    a, b, c = part(storage, (4,), (1,), 2), part(storage, (3, 2), (5, 1), 4), part(np.zeros(8, np.uint8), (4,), (1,), 0)
    views = make_views([("a", a), ("b", b), ("c", c)], pad=4, bytewise=False)
    assert [view.name for view in views] == ["a", "b", "c"]
    assert views[0].buffer is views[1].buffer is not views[2].buffer and views[0].itemsize == 2
    assert all(np.array_equal(view.of(view.buffer.cells), elements(t)) for view, t in zip(views, (a, b, c), strict=True))
    assert int(views[1].cell(np.array(0))) - int(views[0].cell(np.array(0))) == 2
    two, one = part(storage, (4,), (1,), 3, 4), part(storage, (5,), (1,), 10, 1)
    views = make_views([("two", two), ("one", one)], pad=4, bytewise=False)
    assert [view.bytewise for view in views] == [True, True] and views[0].buffer.pad == 4 * 4
    assert all(np.array_equal(view.of(view.buffer.cells).reshape(-1), np.arange(first, first + size))
               for view, first, size in zip(views, (12, 10), (16, 5), strict=True))


def test_views_without_elements_share_nothing():
    views = make_views([(name, part(np.zeros(0, np.uint8), (0,), (1,), 0, size)) for name, size in (("a", 2), ("b", 4))], 4,
                       bytewise=False)
    assert views[0].buffer is not views[1].buffer and [view.bytewise for view in views] == [False, False]


def test_which_views_of_one_storage_are_held_together():
    """The same far rows twice are; two columns of them, or rows and their transpose, would need all that lies between."""
    storage = np.zeros(2 * (2 * FAR + 8), np.uint8)
    rows = [part(storage, (3, 4), (FAR, 1), 0) for _ in range(2)]
    assert is_sparse(rows) and make_views([("a", rows[0]), ("b", rows[1])], 4, bytewise=False)[0].packed
    for other in (part(storage, (3, 4), (FAR, 1), 1), part(storage, (2, 4), (FAR, 1), 0), part(storage, (3, 4), (FAR, 2), 0),
                  part(storage, (3, 2), (FAR // 2, 1), 0, 4)):
        assert not is_sparse([rows[0], other])
    most = memory.MOST // 2
    far = np.lib.stride_tricks.as_strided(storage, (2 * (most + 8),), (0,))  # so large a storage, of one byte
    with pytest.raises(Unsupported, match="views of one storage.*they differ and lie far apart"):
        make_views([("a", part(far, (4,), (1,), 0)), ("b", part(far, (4,), (1,), most))], 4, bytewise=False)


def test_one_view_may_be_as_large_as_its_storage():
    """Memory that nobody touches is none."""
    given = part(np.zeros(memory.MOST + 64, np.uint8), (2, 3), (memory.MOST // 2, 0), 0)
    (view,) = make_views([("x", given)], 4, bytewise=False)
    assert not view.packed and view.size == memory.MOST // 2 + 1


@pytest.mark.parametrize(("shape", "strides", "start", "fits"), [
    ((4,), (1,), 0, True), ((4,), (1,), 1, False), ((4,), (1,), -1, False), ((2,), (3,), 0, True), ((2,), (4,), 0, False),
    ((2,), (-2,), 3, False), ((0,), (1,), 9, True), ((), (), 3, True), ((), (), 4, False)])
def test_what_does_not_lie_within_its_storage(shape, strides, start, fits):
    given = part(np.arange(8, dtype=np.uint8), shape, strides, start)
    if fits:
        assert elements(given).shape == shape
        return
    with pytest.raises(ValueError, match="does not lie within its storage"):
        elements(given)


@pytest.mark.parametrize(("rows", "stride", "sparse"), [
    (2, memory.DENSE // 2 - 1, False), (2, memory.DENSE // 2, True), (2**20, 4, False), (2**20, 5, True), (2**20, 0, False)])
def test_which_tensors_are_held_without_their_gaps(rows, stride, sparse):
    """Those that would take more than 4 MiB, and more than 4 times their elements."""
    assert is_sparse([part(np.zeros(0, np.uint8), (rows,), (stride,), 0)]) == sparse
