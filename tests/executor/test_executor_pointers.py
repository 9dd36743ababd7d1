"""Loads and stores through every kind of tile of pointers: rows in one piece, short ones, steps, turned around, shared."""

import pytest
import torch
import triton
import triton.language as tl
from executor_launches import execute


@triton.jit
def pointers_of(x_ptr, index_ptr, KIND: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    if KIND == "rows":
        return x_ptr + (m * N + n)
    if KIND == "row after row":
        return (x_ptr + m * N) + n
    if KIND == "tile after tile":
        return (x_ptr + tl.broadcast_to(m * N, (M, N))) + tl.broadcast_to(n, (M, N))
    if KIND == "columns":
        return x_ptr + n * M + m
    if KIND == "every other":
        return x_ptr + m * (2 * N) + 2 * n
    if KIND == "turned around":
        return x_ptr + m * N + (N - 1 - n)
    if KIND == "neighbours that are loaded":
        return x_ptr + m * N + tl.load(index_ptr + tl.arange(0, N))[None, :]
    if KIND == "there and back":
        return x_ptr + m * (N * N) + n + tl.load(index_ptr + n * (N - 1 - n) % N)
    if KIND == "some order":
        return x_ptr + m * N + (n * 5) % N
    if KIND == "with a jump":
        return x_ptr + m * (2 * N) + n + (n >= N // 2) * 3
    if KIND == "one row for all":
        return tl.broadcast_to(x_ptr + n, (M, N))
    if KIND == "one column for all":
        return tl.broadcast_to(x_ptr + m, (M, N))
    if KIND == "moved by a loop":
        pointers = x_ptr + m * N + n - 3
        for _ in range(3):
            pointers += 1
        return pointers
    return x_ptr + (m + n) * 0


@triton.jit
def load_kernel(x_ptr, index_ptr, y_ptr, KIND: tl.constexpr, MASKED: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    pointers = pointers_of(x_ptr, index_ptr, KIND, M, N)
    x = tl.load(pointers, mask=(m + n) % 3 != 1, other=-1) if MASKED else tl.load(pointers)
    tl.store(y_ptr + m * N + n, x)


@triton.jit
def store_kernel(x_ptr, index_ptr, y_ptr, KIND: tl.constexpr, MASKED: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    pointers = pointers_of(x_ptr, index_ptr, KIND, M, N)
    y = tl.load(y_ptr + m * N + n)
    if MASKED:
        tl.store(pointers, y, mask=(m + n) % 3 != 1)
    else:
        tl.store(pointers, y)


OFFSETS = {
    "rows": lambda m, n, M, N: m * N + n, "row after row": lambda m, n, M, N: m * N + n,
    "tile after tile": lambda m, n, M, N: m * N + n, "columns": lambda m, n, M, N: n * M + m,
    "every other": lambda m, n, M, N: m * 2 * N + 2 * n,
    "turned around": lambda m, n, M, N: m * N + N - 1 - n, "neighbours that are loaded": lambda m, n, M, N: m * N + n,
    "there and back": lambda m, n, M, N: m * N * N + n + n * (N - 1 - n) % N,
    "some order": lambda m, n, M, N: m * N + (n * 5) % N,
    "with a jump": lambda m, n, M, N: m * 2 * N + n + (n >= N // 2) * 3,
    "one row for all": lambda m, n, M, N: n + 0 * m, "one column for all": lambda m, n, M, N: m + 0 * n,
    "moved by a loop": lambda m, n, M, N: m * N + n, "one": lambda m, n, M, N: 0 * m + 0 * n,
}
SHARED = {"there and back", "one row for all", "one column for all", "one"}
SIZES = [(2, 16), (8, 16), (4, 4), (1, 8), (8, 1)]


def given(kind, masked, M, N):
    """Arguments, the offset of each lane, and which lanes are on."""
    m, n = torch.arange(M)[:, None], torch.arange(N)[None]
    offsets = OFFSETS[kind](m, n, M, N)
    arguments = {"x_ptr": torch.arange(100, 100 + int(offsets.max()) + 1, dtype=torch.int32),
                 "index_ptr": torch.arange(N, dtype=torch.int32), "y_ptr": torch.arange(M * N, dtype=torch.int32),
                 "KIND": kind, "MASKED": masked, "M": M, "N": N}
    return arguments, offsets, (m + n) % 3 != 1 if masked else torch.ones(M, N, dtype=torch.bool)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", OFFSETS)
def test_what_is_loaded(kind, masked):
    for M, N in SIZES:
        arguments, offsets, on = given(kind, masked, M, N)
        report = execute(load_kernel, (1,), arguments, loaded=True, trace=True)
        want = torch.where(on, arguments["x_ptr"][offsets], -1)
        assert report.fine and torch.equal(arguments["y_ptr"].view(M, N), want), (M, N)
        assert report.loaded_bytes["x_ptr"] == 4 * int(on.sum())
        touched = torch.zeros(len(arguments["x_ptr"]), dtype=torch.bool)
        touched[offsets[on]] = True
        assert report.loaded["x_ptr"].tolist() == touched.tolist()
        (access,) = [access for access in report.accesses() if access.tensor == "x_ptr"]
        assert access.offsets[access.live].tolist() == offsets[on].tolist()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in OFFSETS if kind not in SHARED])
def test_what_is_stored(kind, masked):
    for M, N in SIZES:
        arguments, offsets, on = given(kind, masked, M, N)
        want = arguments["x_ptr"].clone()
        want[offsets[on]] = arguments["y_ptr"].view(M, N)[on]
        report = execute(store_kernel, (1,), arguments)
        assert report.fine and torch.equal(arguments["x_ptr"], want), (M, N)
        assert report.stored_bytes["x_ptr"] == 4 * int(on.sum())
        touched = torch.zeros(len(want), dtype=torch.bool)
        touched[offsets[on]] = True
        assert report.written["x_ptr"].tolist() == touched.tolist()


@pytest.mark.parametrize("stores", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", OFFSETS)
def test_the_last_element_that_is_missing_is_a_fault(kind, masked, stores):
    """Where a lane that is on goes there; all other lanes do as ever."""
    for M, N in SIZES:
        arguments, offsets, on = given(kind, masked, M, N)
        last = int(offsets.max())
        x = arguments["x_ptr"] = arguments["x_ptr"][:last].clone()
        there, inside = on & (offsets == last), on & (offsets < last)
        wanted = torch.where(inside, x[offsets.clamp(max=last - 1)], -1) if last else torch.full((M, N), -1)
        stored = x.clone()
        stored[offsets[inside]] = arguments["y_ptr"].view(M, N)[inside]
        report = execute(store_kernel if stores else load_kernel, (1,), arguments)
        assert [(fault.tensor, fault.offset, fault.count, fault.lane) for fault in report.faults] == [
            ("x_ptr", last, int(there.sum()), tuple(lane)) for lane in there.nonzero().tolist()[:1]], (M, N)
        if stores and kind not in SHARED:
            assert torch.equal(x, stored), (M, N)
        elif not stores:
            wanted[there] = -1 if masked else -2**31  # what is given for lanes that are off, or poison
            assert arguments["y_ptr"].tolist() == wanted.flatten().tolist(), (M, N)


@triton.jit
def shifted_kernel(x_ptr, y_ptr, BEFORE: tl.constexpr, STORES: tl.constexpr, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    pointers, mask = x_ptr + lanes - BEFORE, lanes >= BEFORE if MASKED else lanes >= 0
    if STORES:
        tl.store(pointers, lanes, mask=mask)
    else:
        tl.store(y_ptr + lanes, tl.load(pointers, mask=mask, other=-1))


@pytest.mark.parametrize("stores", [False, True])
@pytest.mark.parametrize(("block", "before"), [(1, 1), (2, 1), (4, 3), (8, 1), (16, 3), (16, 16), (16, 40)])
def test_the_elements_before_the_first_are_none(block, before, stores):
    """Though there is memory before it, which the tensor's storage has."""
    for masked in (False, True):
        storage, y = torch.full((100,), 9, dtype=torch.int32), torch.zeros(block, dtype=torch.int32)
        given = {"x_ptr": storage[60:], "y_ptr": y, "BEFORE": before, "STORES": stores, "MASKED": masked, "BLOCK": block}
        faults = execute(shifted_kernel, (1,), given).faults
        assert [(fault.tensor, fault.offset, fault.count) for fault in faults] == [
            ("x_ptr", -before, min(before, block))] * (not masked)
        inside = list(range(before, block))
        assert storage.tolist() == [9] * 60 + inside * stores + [9] * (40 - len(inside) * stores)
        assert stores or y.tolist()[before:] == [9] * len(inside)
