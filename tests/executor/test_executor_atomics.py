"""Each atomic operation in each of its types, where several lanes share a place: what is there, what each lane found."""

import math

import pytest
import torch
import triton
import triton.language as tl
from executor_lanes import TYPES, assert_equal, wrapped
from executor_launches import execute

from checks.executor import Malformed, Module, Unsupported

N, CELLS = 16, 5


def kernel(operation: str, kinds: list[str], element: str) -> Module:
    """`operation` on %p with %v_x0, %v_x1, ..., a number of each lane; what it found is stored."""
    pointers = f"tensor<{N}x!tt.ptr<{element}>>"
    names = ["cells", "places", *(f"x{i}" for i in range(len(kinds))), "out"]
    types = [element, "i32", *kinds, element]
    arguments = ", ".join(f"%{name}: !tt.ptr<{kind}>" for name, kind in zip(names, types, strict=True))
    lines = [f"%lanes = tt.make_range {{end = {N} : i32, start = 0 : i32}} : tensor<{N}xi32>"]
    for name, kind in zip(names, types, strict=True):
        lines.append(f"%s_{name} = tt.splat %{name} : !tt.ptr<{kind}> -> tensor<{N}x!tt.ptr<{kind}>>")
        if name != "cells":
            lines.append(f"%p_{name} = tt.addptr %s_{name}, %lanes : tensor<{N}x!tt.ptr<{kind}>>, tensor<{N}xi32>")
        if name not in ("cells", "out"):
            lines.append(f"%v_{name} = tt.load %p_{name} : tensor<{N}x!tt.ptr<{kind}>>")
    lines += [f"%p = tt.addptr %s_cells, %v_places : {pointers}, tensor<{N}xi32>", f"%found = {operation}",
              f"tt.store %p_out, %found : {pointers}", "tt.return"]
    head = f"tt.func public @k({arguments}) attributes {{noinline = false}} {{"
    return Module("\n".join(["module {", head, *lines, "}", "}"]))


def run(operation, element, cells, *values):
    """The cells afterwards, and what each lane found."""
    kinds = [next(name for name, dtype in TYPES.items() if dtype == value.dtype) for value in values]
    found, places = torch.zeros(N, dtype=cells.dtype), PLACES.clone()
    arguments = {"cells": cells, "places": places} | {f"x{i}": x for i, x in enumerate(values)} | {"out": found}
    assert kernel(operation, kinds, element).run((1,), arguments).fine
    return cells, found


PLACES = torch.tensor([0, 1, 2, 0, 0, 3, 1, 4, 4, 2, 0, 3, 3, 1, 2, 0], dtype=torch.int32)
UPDATES = {
    "add": lambda a, b: a + b, "and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b,
    "exch": lambda a, b: b, "max": max, "min": min,
    "umax": lambda a, b: max(a, b, key=lambda x: x % 2**64), "umin": lambda a, b: min(a, b, key=lambda x: x % 2**64),
}


@pytest.mark.parametrize("element", ["i32", "i64"])
@pytest.mark.parametrize("how", UPDATES)
@pytest.mark.parametrize("masked", [False, True])
def test_whole_numbers(how, element, masked):
    """Lanes in their order, each finds what the one before left."""
    g, dtype = torch.Generator().manual_seed(len(how)), TYPES[element]
    cells, x = (torch.randint(-2**31, 2**31, (n,), generator=g).to(dtype) for n in (CELLS, N))
    mask = torch.arange(N) % 3 != 1
    want, found = cells.tolist(), []
    for place, value, on in zip(PLACES.tolist(), x.tolist(), mask.tolist(), strict=True):
        found.append(want[place] if on or not masked else None)
        if on or not masked:
            want[place] = wrapped(UPDATES[how](want[place], value), 8 * dtype.itemsize)
    more, kind = (", %v_x1", f", tensor<{N}xi1>") if masked else ("", "")
    types = f"(tensor<{N}x!tt.ptr<{element}>>, tensor<{N}x{element}>{kind}) -> tensor<{N}x{element}>"
    got, old = run(f"tt.atomic_rmw {how}, acq_rel, gpu, %p, %v_x0{more} : {types}", element, cells, x, *[mask] * masked)
    assert got.tolist() == want
    assert [value for value, on in zip(old.tolist(), found, strict=True) if on is not None] == [
        value for value in found if value is not None]


@pytest.mark.parametrize("element", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("how", ["fadd", "exch"])
def test_floats_are_rounded_after_each_addition(how, element):
    cells, x = torch.linspace(-3, 3000, CELLS).to(TYPES[element]), torch.logspace(-3, 3, N).to(TYPES[element])
    want, found = cells.clone(), []
    for place, value in zip(PLACES.tolist(), x, strict=True):
        found.append(want[place].clone())
        want[place] = want[place] + value if how == "fadd" else value
    types = f"(tensor<{N}x!tt.ptr<{element}>>, tensor<{N}x{element}>) -> tensor<{N}x{element}>"
    got, old = run(f"tt.atomic_rmw {how}, relaxed, gpu, %p, %v_x0 : {types}", element, cells, x)
    assert_equal(got, want)
    assert_equal(old, torch.stack(found))


@pytest.mark.parametrize("element", ["i32", "i64"])
def test_compare_and_swap(element):
    """A lane that finds what it expects leaves its own number, and any other what was there."""
    cells = torch.arange(CELLS).to(TYPES[element])
    expected, new = (torch.arange(N) % 3).to(TYPES[element]), (torch.arange(N) % 4).to(TYPES[element])
    want, found = cells.tolist(), []
    for place, compared, value in zip(PLACES.tolist(), expected.tolist(), new.tolist(), strict=True):
        found.append(want[place])
        want[place] = value if want[place] == compared else want[place]
    types = f"(tensor<{N}x!tt.ptr<{element}>>, tensor<{N}x{element}>, tensor<{N}x{element}>) -> tensor<{N}x{element}>"
    got, old = run(f"tt.atomic_cas acq_rel, gpu, %p, %v_x0, %v_x1 : {types}", element, cells, expected, new)
    assert (got.tolist(), old.tolist()) == (want, found)
    assert found != PLACES.tolist() and want != list(range(CELLS))


def test_nan_is_added_and_what_is_not_known_is_said():
    cells = torch.zeros(CELLS)
    x = torch.where(PLACES == 3, math.nan, 1.0)
    types = f"(tensor<{N}x!tt.ptr<f32>>, tensor<{N}xf32>) -> tensor<{N}xf32>"
    got, _ = run(f"tt.atomic_rmw fadd, acq_rel, gpu, %p, %v_x0 : {types}", "f32", cells, x)
    assert got.isnan().tolist() == [False, False, False, True, False]
    with pytest.raises(Unsupported, match="tt.atomic_rmw fmul"):
        kernel(f"tt.atomic_rmw fmul, acq_rel, gpu, %p, %v_x0 : {types}", ["f32"], "f32")
    with pytest.raises(Malformed, match="tt.atomic_cas lacks operands"):
        kernel(f"tt.atomic_cas acq_rel, gpu, %p, %v_x0 : {types}", ["f32"], "f32")


@triton.jit
def words_of_bytes_kernel(x_ptr, old_ptr, COUNT, LANES: tl.constexpr):
    lanes = tl.arange(0, LANES)
    words = x_ptr.to(tl.pointer_type(tl.int32)) + lanes // 2
    tl.store(old_ptr + lanes, tl.atomic_add(words, lanes, mask=lanes < COUNT), mask=lanes < COUNT)


@pytest.mark.parametrize("behind", range(5))
@pytest.mark.parametrize("ahead", [0, 4, 8])
def test_words_of_a_tensor_of_bytes(ahead, behind):
    """Two lanes for each word; what lies around them stays as it is."""
    storage = torch.full((ahead + 24 + behind,), 1, dtype=torch.int8)
    old = torch.zeros(16, dtype=torch.int32)
    report = execute(words_of_bytes_kernel, (1,), {"x_ptr": storage[ahead:], "old_ptr": old, "COUNT": 12, "LANES": 16})
    assert report.fine and report.atomics == 1
    one = 0x01010101
    assert storage[ahead:ahead + 24].view(torch.int32).tolist() == [one + 4 * word + 1 for word in range(6)]
    assert old.tolist() == [one + (lane - 1) * (lane % 2) for lane in range(12)] + [0] * 4
    assert storage[:ahead].tolist() + storage[ahead + 24:].tolist() == [1] * (ahead + behind)
