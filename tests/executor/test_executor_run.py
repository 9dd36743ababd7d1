"""A launch: which arguments fit, how programs are numbered and put together, how deep calls lie, what views hold nothing."""

import math

import numpy as np
import pytest
import torch

from checks.executor import LimitExceeded, Limits, Module, Unsupported
from checks.executor.run import LANES


def module(arguments: str, *lines: str, more: str = "", limits: Limits | None = None) -> Module:
    head = f"tt.func public @k({arguments}) attributes {{noinline = false}} {{"
    return Module("\n".join(["module {", head, *lines, "tt.return", "}", more, "}"]), limits or Limits())


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_which_whole_numbers_fit_an_argument(width):
    """Those with a sign and those without: the kernel is given their bits."""
    kernel = module(f"%x: !tt.ptr<i{width}>, %n: i{width}", f"tt.store %x, %n : !tt.ptr<i{width}>")
    x, half, whole = np.zeros(1, f"i{width // 8}"), 2 ** (width - 1), 2**width
    for value, held in ((-half, -half), (-1, -1), (5, 5), (half - 1, half - 1), (half, -half), (whole - 1, -1)):
        kernel.run((1,), {"x": x, "n": value})
        assert x.tolist() == [held], value
    for value in (-half - 1, whole, -whole):
        with pytest.raises(TypeError, match=f"the argument `n`, {value}, does not fit the kernel's i{width}"):
            kernel.run((1,), {"x": x, "n": value})


@pytest.mark.parametrize(("kind", "dtype", "value"), [
    ("i1", np.bool_, True), ("i1", np.bool_, False), ("f32", np.float32, 0.1), ("f64", np.float64, 0.1),
    ("f32", np.float32, 3), ("f16", np.float16, math.inf), ("i32", np.int32, np.int64(-7)), ("i32", np.int32, True)])
def test_a_number_is_held_as_the_kernel_s_type(kind, dtype, value):
    x = np.zeros(1, dtype)
    module(f"%x: !tt.ptr<{kind}>, %n: {kind}", f"tt.store %x, %n : !tt.ptr<{kind}>").run((1,), {"x": x, "n": value})
    assert x[0] == dtype(value)


@pytest.mark.parametrize("wanted", ["i8", "bf16", "f32", "i64", "!tt.ptr<f32>"])
@pytest.mark.parametrize("given", [np.uint8, np.float16, np.int32, np.float64])
def test_a_tensor_s_elements_are_as_large_as_the_kernel_s(given, wanted):
    size = 8 if "ptr" in wanted else int(wanted[-2:].lstrip("fi")) // 8
    x, kernel = np.zeros(3, given), module(f"%x: !tt.ptr<{wanted}>")
    if x.itemsize == size:
        assert kernel.run((1,), {"x": x}).fine
    else:
        with pytest.raises(TypeError, match=f"`x` has elements of {x.itemsize} bytes; the kernel takes !tt.ptr"):
            kernel.run((1,), {"x": x})


@pytest.mark.parametrize(("kind", "value", "said"), [
    ("!tt.ptr<f32>", 3, "int"), ("f32", np.zeros(1, np.float32), "Tensor"), ("tensor<4xi32>", 3, "int"),
    ("tensor<4x!tt.ptr<f32>>", np.zeros(1, np.float32), "Tensor")])
def test_an_argument_of_another_kind_is_refused(kind, value, said):
    with pytest.raises(TypeError, match=f"the argument `a` cannot be {said}: the kernel takes .*{kind[-5:-1]}"):
        module(f"%a: {kind}").run((1,), {"a": value})


GRID = (3, 4, 5)
COUNT = """%x = tt.get_program_id x : i32
%y = tt.get_program_id y : i32
%z = tt.get_program_id z : i32
%ny = tt.get_num_programs y : i32
%nz = tt.get_num_programs z : i32
%one = arith.constant 1 : i32
%true = arith.constant true
%a = arith.muli %x, %ny : i32
%b = arith.addi %a, %y : i32
%c = arith.muli %b, %nz : i32
%d = arith.addi %c, %z : i32
%p = tt.addptr %count, %d : !tt.ptr<i32>, i32
%old = tt.atomic_rmw add, relaxed, gpu, %p, %one, %true : (!tt.ptr<i32>, i32, i1) -> i32
tt.print "at" {hex = false} : %x, %y, %z : i32, i32, i32"""


@pytest.mark.parametrize("together", [1, 2, 3, 7, 17, 45, 100])
def test_each_program_runs_once_whichever_run_together(monkeypatch, together):
    kernel = module("%count: !tt.ptr<i32>", COUNT)
    monkeypatch.setattr(kernel, "chunk", together)
    count = torch.zeros(GRID, dtype=torch.int32)
    report = kernel.run(GRID, {"count": count})
    assert report.fine and (count == 1).all()
    assert all(len(printed.programs) <= together for printed in report.prints)
    seen = [program for printed in report.prints for program in printed.programs]
    assert sorted(seen) == list(np.ndindex(GRID)), "each by its index in the grid"
    assert seen == [at for printed in report.prints for at in zip(*(v.tolist() for v in printed.values), strict=True)]


@pytest.mark.parametrize(("lanes", "memory", "together"), [
    (64, Limits().memory, LANES // 64), (1 << 19, 1 << 31, 1), (1 << 20, 1 << 31, 1), (1, 1 << 40, LANES),
    (64, 64 * 8 * 10, 10), (64, 64 * 8 * 10 - 1, 9), (64, 64 * 8, 1), (64, 64 * 8 - 1, None)])
def test_how_many_programs_run_together(lanes, memory, together):
    """As many as have their values in so many bytes, 8 for each, and the largest tile in the processor's cache."""
    line = f"%lanes = tt.make_range {{end = {lanes} : i32, start = 0 : i32}} : tensor<{lanes}xi32>"
    if together is None:
        with pytest.raises(LimitExceeded, match="one program holds more values at a time than there is memory for"):
            module("", line, limits=Limits(memory=memory))
    else:
        assert module("", line, limits=Limits(memory=memory)).chunk == together


@pytest.mark.parametrize(("calls", "fits"), [(0, True), (3, True), (4, False)])
def test_so_many_calls_lie_in_each_other(calls, fits):
    """The kernel itself counts."""
    more = "\n".join(f"tt.func private @f{i}(%n: i32) attributes {{noinline = true}} {{\n"
                     + (f"tt.call @f{i + 1}(%n) : (i32) -> ()\n" if i + 1 < calls else "") + "tt.return\n}"
                     for i in range(calls))
    kernel = module("%n: i32", *["tt.call @f0(%n) : (i32) -> ()"] * (calls > 0), more=more, limits=Limits(depth=4))
    if fits:
        assert kernel.run((2,), {"n": 1}).fine
    else:
        with pytest.raises(LimitExceeded, match="calls lie more than 4 deep in each other"):
            kernel.run((2,), {"n": 1})


def test_what_a_function_stores_races_with_its_caller_s_loads():
    """Which arguments are stored to is looked for in the kernel alone where it has no functions."""
    store = """tt.func private @f(%x: !tt.ptr<i32>, %n: i32) attributes {noinline = true} {
        tt.store %x, %n : !tt.ptr<i32>
        tt.return
        }"""
    kernel = module("%x: !tt.ptr<i32>", "%v = tt.load %x : !tt.ptr<i32>", "%i = tt.get_program_id x : i32",
                    "tt.call @f(%x, %i) : (!tt.ptr<i32>, i32) -> ()", more=store)
    races = kernel.run((3,), {"x": torch.zeros(1, dtype=torch.int32)}).races
    assert "stores what another program has read" in [race.what for race in races]


LANES_OF_8 = "%lanes = tt.make_range {end = 8 : i32, start = 0 : i32} : tensor<8xi32>"


@pytest.mark.parametrize(("kind", "holes", "lanes"), [
    ("i32", [5, 20], [1, 5]), ("i32", [31], [7]), ("i32", [], []), ("i32", range(8), [0, 1]), ("i64", [0], [0])])
def test_elements_that_hold_nothing_seen_as_larger_ones(kind, holes, lanes):
    """An element of the pointer's type holds nothing where one of its bytes does not."""
    kernel = module(
        f"%x: !tt.ptr<i8>, %y: !tt.ptr<{kind}>", LANES_OF_8, f"%b = tt.bitcast %x : !tt.ptr<i8> -> !tt.ptr<{kind}>",
        *(f"%{name}s = tt.splat %{name} : !tt.ptr<{kind}> -> tensor<8x!tt.ptr<{kind}>>\n"
          f"%{name}p = tt.addptr %{name}s, %lanes : tensor<8x!tt.ptr<{kind}>>, tensor<8xi32>" for name in "by"),
        f"%v = tt.load %bp : tensor<8x!tt.ptr<{kind}>>", f"tt.store %yp, %v : tensor<8x!tt.ptr<{kind}>>")
    size = int(kind[1:]) // 8
    undefined, y = np.isin(np.arange(8 * size), list(holes)), np.zeros(8, f"i{size}")
    faults = kernel.run((1,), {"x": np.arange(8 * size, dtype=np.int8), "y": y}, undefined={"x": undefined}).faults
    assert [(fault.what, fault.count, *fault.lane) for fault in faults] == [
        ("load of what was never written", len(lanes), first) for first in lanes[:1]]
    assert np.flatnonzero(y == np.iinfo(y.dtype).min).tolist() == lanes, "poison"


@pytest.mark.parametrize(("before", "after", "ahead"), [
    ("i32", "i32", 8), ("i32", "i8", 5), ("i8", "i32", 4), ("i64", "i16", 6), ("i16", "i64", 8), ("i8", "i8", 63),
    ("i32", "i32", 0)])
@pytest.mark.parametrize(("behind", "moved"), [(0, 0), (1, 0), (0, -3), (1, -3)])
def test_an_address_as_an_integer_counts_bytes(before, after, ahead, behind, moved):
    """Of the first and of the second argument, back and forth, and on the way before them."""
    kernel = module(
        f"%a: !tt.ptr<{before}>, %b: !tt.ptr<{before}>, %y: !tt.ptr<{after}>, %n: i64",
        f"%moved = arith.constant {moved} : i32",
        f"%q = tt.addptr %{'ab'[behind]}, %moved : !tt.ptr<{before}>, i32",
        f"%i = tt.ptr_to_int %q : !tt.ptr<{before}> -> i64", "%j = arith.addi %i, %n : i64",
        f"%p = tt.int_to_ptr %j : i64 -> !tt.ptr<{after}>", f"%v = tt.load %p : !tt.ptr<{after}>",
        f"tt.store %y, %v : !tt.ptr<{after}>")
    held = [np.arange(first, first + 64, dtype=np.uint8) for first in (0, 100)]
    y = np.zeros(1, f"i{int(after[1:]) // 8}")
    given = [x.view(f"i{int(before[1:]) // 8}") for x in held]
    back = -moved * given[0].itemsize
    report = kernel.run((1,), {"a": given[0], "b": given[1], "y": y, "n": ahead + back})
    assert report.fine and y.tobytes() == held[behind][ahead:ahead + y.itemsize].tobytes()
    for beyond in (64, -y.itemsize):
        (fault,) = kernel.run((1,), {"a": given[0], "b": given[1], "y": y, "n": beyond + back}).faults
        assert (fault.what, fault.tensor) == ("out-of-bounds load", "ab"[behind]), beyond


@pytest.mark.parametrize(("before", "after", "at", "fits"), [
    ("i8", "i32", 4, True), ("i8", "i32", 5, False), ("i8", "i16", 3, False), ("i16", "i64", 2, False),
    ("i16", "i64", 4, True), ("i32", "i8", 3, True), ("i32", "f32", 3, True), ("i64", "i32", 1, True)])
def test_a_pointer_is_cast_where_larger_elements_lie(before, after, at, fits):
    kernel = module(
        f"%x: !tt.ptr<{before}>, %y: !tt.ptr<{after}>, %n: i32", f"%p = tt.addptr %x, %n : !tt.ptr<{before}>, i32",
        f"%q = tt.bitcast %p : !tt.ptr<{before}> -> !tt.ptr<{after}>", f"%v = tt.load %q : !tt.ptr<{after}>",
        f"tt.store %y, %v : !tt.ptr<{after}>")
    x, y = np.arange(64, dtype=np.uint8), np.zeros(int(after[1:]) // 8, np.uint8)
    given = {"x": x.view(f"i{int(before[1:]) // 8}"), "y": y.view(f"i{len(y)}"), "n": at}
    if fits:
        assert kernel.run((1,), given).fine
        assert y.tolist() == list(range(at * int(before[1:]) // 8, at * int(before[1:]) // 8 + len(y)))
    else:
        with pytest.raises(Unsupported, match="a pointer cast.*does not lie on a multiple of the new element's size"):
            kernel.run((1,), given)


SELECT = """%all = tt.splat %n : i32 -> tensor<8xi32>
%p = tt.get_program_id x : i32
%each = tt.splat %p : i32 -> tensor<8xi32>
%always = arith.constant true
%never = arith.constant false
%same = arith.cmpi sgt, %n, %p1 : i32
%mine = arith.cmpi slt, %p, %n : i32
%lane = arith.cmpi slt, %lanes, %all : tensor<8xi32>
%few = arith.cmpi slt, %lanes, %each : tensor<8xi32>"""
CONDITIONS = {  # of program p and lane i, where n is 3 and %p1 is 1
    "%always": ("i1", lambda p, i: True), "%never": ("i1", lambda p, i: False), "%same": ("i1", lambda p, i: True),
    "%mine": ("i1", lambda p, i: p < 3), "%lane": ("tensor<8xi1>", lambda p, i: i < 3),
    "%few": ("tensor<8xi1>", lambda p, i: i < p)}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_one_of_two_tiles_for_each_program_and_lane(condition, turned):
    kind, holds = CONDITIONS[condition]
    a, b = ("%each", "%lanes") if turned else ("%lanes", "%each")
    kernel = module(
        "%x: !tt.ptr<i32>, %n: i32, %p1: i32", LANES_OF_8, SELECT,
        f"%v = arith.select {condition}, {a}, {b} : {kind}, tensor<8xi32>", "%eight = arith.constant 8 : i32",
        "%o = arith.muli %p, %eight : i32", "%xo = tt.addptr %x, %o : !tt.ptr<i32>, i32",
        "%s = tt.splat %xo : !tt.ptr<i32> -> tensor<8x!tt.ptr<i32>>",
        "%q = tt.addptr %s, %lanes : tensor<8x!tt.ptr<i32>>, tensor<8xi32>", "tt.store %q, %v : tensor<8x!tt.ptr<i32>>")
    x = np.zeros((5, 8), np.int32)
    assert kernel.run((5,), {"x": x, "n": 3, "p1": 1}).fine
    assert x.tolist() == [[i if holds(p, i) != turned else p for i in range(8)] for p in range(5)]
