"""What a report tells of faults, races, prints and atomics: who, where, how often, and in which words."""

import inspect

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from executor_launches import execute

from checks.executor import Fault, LimitExceeded, Limits, Module, Race, compile_kernel
from checks.executor.ir import Place

PLACE = Place("/k.py", 7)


@pytest.mark.parametrize(("found", "said"), [
    (Fault("out-of-bounds load", "x_ptr", (1, 0, 2), (3, 4), 20, 2, PLACE),
     "out-of-bounds load of `x_ptr` at offset 20: program (1, 0, 2), lane (3, 4), /k.py:7"),
    (Fault("load outside every tensor", None, (0, 0, 0), (), None, 1, None),
     "load outside every tensor: program (0, 0, 0), lane (), unknown line"),
    (Race("stores another value than another program", "y_ptr", (1, 0, 0), (2, 0, 0), 5, PLACE),
     "program (1, 0, 0) stores another value than program (2, 0, 0): `y_ptr` at offset 5, /k.py:7"),
    (Race("stores what another program has read", "y_ptr", (1, 0, 0), None, 5, None),
     "program (1, 0, 0) stores what several programs has read: `y_ptr` at offset 5, unknown line"),
    (Race("stores another value than another lane", "y_ptr", (1, 0, 0), (1, 0, 0), 5, PLACE),
     "program (1, 0, 0) stores another value than one of its other lanes: `y_ptr` at offset 5, /k.py:7")])
def test_what_is_said_of_it(found, said):
    assert str(found) == said


@triton.jit
def two_axes_kernel(x_ptr, y_ptr, N, ON_X: tl.constexpr, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    """Each program loads at least one block of x; from where on depends on the axis."""
    offs = tl.program_id(0 if ON_X else 1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < N) if MASKED else tl.load(x_ptr + offs)
    place = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tl.store(y_ptr + place * BLOCK + tl.arange(0, BLOCK), x)


@pytest.mark.parametrize("on_x", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("block", [1, 4, 16])
def test_a_fault_counts_the_lanes_of_all_programs(block, masked, on_x):
    """Programs along the other axis load the same, and are counted all the same."""
    x, size = torch.zeros(block + 1), 2 * block
    given = {"x_ptr": x, "y_ptr": torch.zeros(4 * size), "N": size, "ON_X": on_x, "MASKED": masked, "BLOCK": block}
    faults = execute(two_axes_kernel, (2, 4) if on_x else (4, 2), given).faults
    if block == 1:
        assert not faults
        return
    (fault,) = faults
    assert (fault.offset, fault.count, fault.masked) == (block + 1, 4 * (block - 1), masked)
    assert (fault.program, fault.lane) == ((1, 0, 0) if on_x else (0, 1, 0), (1,))


@triton.jit
def unwritten_kernel(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(y_ptr + tl.program_id(0) * BLOCK + offs, tl.load(x_ptr + offs, mask=offs < N, other=0.0))


def test_what_was_never_written_is_counted_for_each_program():
    holes = np.arange(16) % 3 == 0
    given = {"x_ptr": torch.zeros(16), "y_ptr": torch.zeros(48), "N": 8, "BLOCK": 16}
    (fault,) = execute(unwritten_kernel, (3,), given, undefined={"x_ptr": holes}).faults
    assert (fault.count, fault.offset) == (3 * 3, 0)


@triton.jit
def two_halves_kernel(a_ptr, b_ptr, out_ptr, N: tl.constexpr):
    lanes = tl.arange(0, N)
    tl.store(out_ptr + lanes, tl.load(a_ptr + lanes) + tl.load(b_ptr + lanes))


@pytest.mark.parametrize("order", [("a_ptr", "b_ptr"), ("b_ptr", "a_ptr")])
@pytest.mark.parametrize(("a", "b"), [(True, True), (True, False), (False, True), (False, False)])
def test_views_of_one_storage_are_undefined_each_by_itself(a, b, order):
    storage = torch.zeros(32)
    given = dict(zip(order, (storage[:16], storage[16:]), strict=True))
    given = {name: given[name] for name in ("a_ptr", "b_ptr")} | {"out_ptr": torch.zeros(16), "N": 16}
    holes = {name: np.full(16, hole) for name, hole in (("a_ptr", a), ("b_ptr", b))}
    report = execute(two_halves_kernel, (1,), given, undefined=holes)
    assert [(fault.tensor, fault.count) for fault in report.faults] == [
        (name, 16) for name in ("a_ptr", "b_ptr") if holes[name].any()]


@triton.jit
def read_then_stored_kernel(x_ptr, READERS: tl.constexpr, WRITER: tl.constexpr):
    i = tl.program_id(0)
    x = tl.load(x_ptr, mask=i < READERS, other=0)
    tl.store(x_ptr, x + 1, mask=i == WRITER)


@pytest.mark.parametrize(("readers", "writer", "other"), [(1, 2, (0, 0, 0)), (2, 2, None), (3, 2, None), (3, 0, None)])
def test_a_race_names_the_other_program_where_it_is_one(readers, writer, other):
    (race,) = execute(read_then_stored_kernel, (3,), {"x_ptr": torch.zeros(1), "READERS": readers, "WRITER": writer}).races
    assert (race.program, race.other) == ((writer, 0, 0), other)


@triton.jit
def some_print_kernel(x_ptr, FIRST, N: tl.constexpr):
    i = tl.program_id(0)
    if i % 3 == FIRST:
        tl.device_print("x", tl.load(x_ptr + tl.arange(0, N)) + i, i, FIRST)


@pytest.mark.parametrize("first", [0, 2])
def test_only_who_comes_to_a_print_prints(first):
    x = torch.arange(4, dtype=torch.int32)
    (printed,) = execute(some_print_kernel, (7,), {"x_ptr": x, "FIRST": first, "N": 4}).prints
    programs = list(range(first, 7, 3))
    assert printed.programs == [(i, 0, 0) for i in programs]
    assert [values.tolist() for values in printed.values] == [
        [[i + lane for lane in range(4)] for i in programs], programs, [first] * len(programs)]
    assert printed.place.line == inspect.getsourcelines(some_print_kernel.fn)[1] + 4


@triton.jit
def lanes_print_kernel(N: tl.constexpr):
    tl.device_print("lanes", tl.arange(0, N), tl.program_id(0))


@pytest.mark.parametrize(("lanes", "programs"), [(4096, 16), (1, 20), (1 << 15, 2), (1 << 16, 1), (1 << 17, 1)])
def test_a_print_keeps_so_many_numbers(lanes, programs):
    """Of the first programs, each whole."""
    printed = execute(lanes_print_kernel, (20,), {"N": lanes}).prints[0]  # of the programs that run together
    assert printed.programs == [(i, 0, 0) for i in range(programs)]
    assert [value.shape for value in printed.values] == [(programs, lanes), (programs,)]
    assert (printed.values[0] == np.arange(lanes)).all() and printed.values[1].tolist() == list(range(programs))


@triton.jit
def counted_kernel(x_ptr, y_ptr, N, ATOMICS: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + offs, offs)
    for _ in tl.static_range(ATOMICS):
        tl.atomic_add(x_ptr + offs, 1, mask=offs < N)
    tl.store(y_ptr + offs, offs)


@pytest.mark.parametrize(("n", "busy"), [(0, 0), (1, 1), (8, 1), (9, 2), (24, 3)])
@pytest.mark.parametrize("atomics", [0, 1, 2])
def test_atomics_are_counted_among_loads_and_stores(atomics, n, busy):
    given = {name: torch.zeros(24, dtype=torch.int32) for name in ("x_ptr", "y_ptr")}
    report = execute(counted_kernel, (3,), {**given, "N": n, "ATOMICS": atomics, "BLOCK": 8})
    done, lanes = busy * atomics, n * atomics
    assert (report.atomics, report.loads["x_ptr"], report.stores["x_ptr"], report.stores["y_ptr"]) == (done, done, done, 6)
    assert (report.loaded_bytes["x_ptr"], report.stored_bytes["x_ptr"], report.idle) == (
        4 * lanes, 4 * lanes, (3 - busy) * atomics)
    assert given["x_ptr"].tolist() == [atomics] * n + [0] * (24 - n)


@triton.jit
def some_bytes_kernel(x_ptr, FIRST: tl.constexpr, COUNT: tl.constexpr):
    lanes = tl.arange(0, 16)
    tl.store(x_ptr.to(tl.pointer_type(tl.int8)) + FIRST + lanes, lanes.to(tl.int8), mask=lanes < COUNT)


@pytest.mark.parametrize(("first", "count", "elements"), [(4, 1, [1]), (7, 1, [1]), (3, 2, [0, 1]), (4, 4, [1]),
                                                          (5, 8, [1, 2, 3]), (0, 0, [])])
def test_an_element_is_written_where_one_of_its_bytes_is(first, count, elements):
    x = torch.full((8,), -1, dtype=torch.int32)
    report = execute(some_bytes_kernel, (1,), {"x_ptr": x, "FIRST": first, "COUNT": count})
    assert report.fine
    assert report.written.get("x_ptr", np.zeros(8, bool)).tolist() == [i in elements for i in range(8)]
    found = x.view(torch.int8).tolist()
    assert found == [at - first if first <= at < first + count else -1 for at in range(32)]


@triton.jit
def taking_a_lock_kernel(lock_ptr, total_ptr, AHEAD: tl.constexpr):
    if AHEAD:
        while tl.atomic_cas(lock_ptr, 0, 1) == 1:
            pass
    else:
        held = 1
        while held == 1:
            held = tl.atomic_cas(lock_ptr, 0, 1)
    tl.store(total_ptr, tl.load(total_ptr) + 1)
    tl.atomic_xchg(lock_ptr, 0)


@pytest.mark.parametrize("ahead", [True, False])
def test_a_lock_is_taken_by_one_program_after_the_other(ahead):
    lock, total = torch.zeros(2, 1, dtype=torch.int32)
    kernel = compile_kernel(taking_a_lock_kernel, {"lock_ptr": "*i32", "total_ptr": "*i32", "AHEAD": "constexpr"},
                            {"AHEAD": ahead})
    assert Module(kernel, Limits(seconds=5)).run((3,), {"lock_ptr": lock, "total_ptr": total}).fine
    assert (lock.item(), total.item()) == (0, 3)


ASSERTION = """module {{
tt.func public @k(%n: i32) attributes {{noinline = false}} {{
%p = tt.get_program_id x : i32
%lanes = tt.make_range {{end = 8 : i32, start = 0 : i32}} : tensor<8xi32>
%all = tt.splat %n : i32 -> tensor<8xi32>
%small = arith.cmpi slt, %p, %n : i32
%few = arith.cmpi slt, %lanes, %all : tensor<8xi32>
{inside}
tt.return
}}
}}"""
HOLDS = 'tt.assert %few, "too many" : tensor<8xi1> //k.py:9'


@pytest.mark.parametrize(("inside", "counts"), [
    (HOLDS, {8: 0, 6: 3 * 2, 0: 3 * 8}), (f"scf.if %small {{\n{HOLDS}\n}}", {8: 0, 6: 3 * 2, 2: 2 * 6, 0: 0}),
    ('tt.assert %small, "too many" : i1 //k.py:9', {8: 0, 3: 0, 2: 1, 0: 3})])
def test_an_assertion_counts_where_programs_come_to_it(inside, counts):
    module = Module(ASSERTION.format(inside=inside))
    for n, count in counts.items():
        faults = module.run((3,), {"n": n}).faults
        assert [(fault.what, fault.count, fault.place) for fault in faults] == [
            ("assertion failed: too many", count, Place("k.py", 9))] * (count > 0), n


@triton.jit
def store_beyond_kernel(y_ptr, N, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    if MASKED:
        tl.store(y_ptr + lanes, lanes, mask=lanes < N)
    else:
        tl.store(y_ptr + lanes, lanes)


@pytest.mark.parametrize("masked", [True, False])
def test_a_store_at_fault_has_a_mask_or_none(masked):
    given = {"y_ptr": torch.zeros(3, dtype=torch.int32), "N": 5, "MASKED": masked, "BLOCK": 8}
    (fault,) = execute(store_beyond_kernel, (1,), given).faults
    assert (fault.masked, fault.count, fault.lane) == (masked, 2 if masked else 5, (3,))


ATOMIC = "(tensor<8x!tt.ptr<i32>>, tensor<8xi32>, tensor<8xi1>) -> tensor<8xi32>"
ACCESSES = {  # each of lanes 0 to 7 of a tensor of 3 elements, and whether it has a mask
    "tt.load %p : tensor<8x!tt.ptr<i32>>": False, "tt.load %p, %few : tensor<8x!tt.ptr<i32>>": True,
    "tt.load %p, %few, %lanes : tensor<8x!tt.ptr<i32>>": True,
    f"tt.atomic_rmw add, relaxed, gpu, %p, %lanes, %few : {ATOMIC}": True,
    f"tt.atomic_rmw add, relaxed, gpu, %p, %lanes, %every : {ATOMIC}": False,  # which is how no mask is printed
    f"tt.atomic_rmw add, relaxed, gpu, %p, %lanes : {ATOMIC.replace(', tensor<8xi1>', '')}": False,
    f"tt.atomic_cas relaxed, gpu, %p, %lanes, %lanes : {ATOMIC.replace('i1', 'i32')}": False,
}


@pytest.mark.parametrize("access", ACCESSES)
def test_which_accesses_at_fault_have_a_mask(access):
    head = "tt.func public @k(%x: !tt.ptr<i32>, %n: i32) attributes {noinline = false} {"
    (fault,) = Module("\n".join([
        "module {", head, "%lanes = tt.make_range {end = 8 : i32, start = 0 : i32} : tensor<8xi32>",
        "%s = tt.splat %x : !tt.ptr<i32> -> tensor<8x!tt.ptr<i32>>", "%all = tt.splat %n : i32 -> tensor<8xi32>",
        "%p = tt.addptr %s, %lanes : tensor<8x!tt.ptr<i32>>, tensor<8xi32>",
        "%every = arith.constant dense<true> : tensor<8xi1>",
        "%few = arith.cmpi slt, %lanes, %all : tensor<8xi32>", f"%v = {access}", "tt.return", "}", "}"])).run(
            (1,), {"x": np.zeros(3, np.int32), "n": 7}).faults
    masked = ACCESSES[access]
    assert (fault.masked, fault.count, fault.offset) == (masked, 4 if masked else 5, 3)


@triton.jit
def words_kernel(x_ptr, y_ptr, N, STORES: tl.constexpr, BLOCK: tl.constexpr):
    lanes = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    words = x_ptr.to(tl.pointer_type(tl.int32)) + lanes
    if STORES:
        tl.store(words, lanes, mask=lanes < N)
    else:
        tl.store(y_ptr + lanes, tl.load(words, mask=lanes < N, other=-1))


@pytest.mark.parametrize("stores", [False, True])
@pytest.mark.parametrize("n", [0, 1, 7, 12, 16, 20])
def test_words_of_a_tensor_of_bytes_are_counted_as_words(n, stores):
    x, y = torch.arange(80, dtype=torch.int8), torch.zeros(24, dtype=torch.int32)
    given = {"x_ptr": x, "y_ptr": y, "N": n, "STORES": stores, "BLOCK": 8}
    report = execute(words_kernel, (3,), given, loaded=True, trace=True)
    made, moved = (report.stores, report.stored_bytes) if stores else (report.loads, report.loaded_bytes)
    assert (made["x_ptr"], moved["x_ptr"], report.idle) == (-(-n // 8), 4 * n, 3 - -(-n // 8))
    touched = (report.written if stores else report.loaded).get("x_ptr", np.zeros(80, bool))
    assert touched.tolist() == [byte < 4 * n for byte in range(80)]
    traced = [access for access in report.accesses() if access.tensor == "x_ptr"]
    assert [word for access in traced for word in access.offsets[access.live].tolist()] == list(range(n))
    assert {access.itemsize for access in traced} <= {4} and ("x_ptr" in report.loaded) == (n > 0 and not stores)


@triton.jit
def every_other_word_kernel(x_ptr, y_ptr, STORES: tl.constexpr, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    words, mask = x_ptr.to(tl.pointer_type(tl.int32)) + lanes, lanes % 2 == 0
    if STORES:
        tl.store(words, lanes, mask=mask)
    else:
        tl.store(y_ptr + lanes, tl.load(words, mask=mask, other=-1))


@pytest.mark.parametrize("stores", [False, True])
def test_lanes_that_are_off_stay_off_beside_a_fault(stores):
    """Also of words of a tensor of bytes, some of which lie beyond it."""
    x, y = torch.full((40,), 9, dtype=torch.int8), torch.zeros(16, dtype=torch.int32)
    given = {"x_ptr": x, "y_ptr": y, "STORES": stores, "BLOCK": 16}
    (fault,) = execute(every_other_word_kernel, (1,), given).faults
    assert (fault.tensor, fault.offset, fault.count, fault.masked) == ("x_ptr", 10, 3, True)
    there = 0x09090909
    if stores:
        assert x.view(torch.int32).tolist() == [there if word % 2 else word for word in range(10)]
    else:
        assert y.tolist() == [-1 if lane % 2 or lane >= 10 else there for lane in range(16)]


@triton.jit
def some_load_kernel(x_ptr, y_ptr, FIRST: tl.constexpr, N):
    i = tl.program_id(0)
    if i % 3 == FIRST:
        lanes = tl.arange(0, 4)
        tl.store(y_ptr + 4 * i + lanes, tl.load(x_ptr + lanes, mask=lanes + i < N, other=0))


@pytest.mark.parametrize(("first", "n", "idle"), [(0, 100, 0), (0, 0, 3), (0, 4, 1), (1, 4, 2), (2, 3, 1), (2, 0, 2)])
def test_who_does_not_come_to_a_load_is_not_idle(first, n, idle):
    given = {"x_ptr": torch.zeros(4), "y_ptr": torch.zeros(32), "FIRST": first, "N": n}
    report = execute(some_load_kernel, (8,), given)
    programs = len(range(first, 8, 3))
    assert (report.idle, report.loads["x_ptr"], report.stores["y_ptr"]) == (idle, programs - idle, programs)


@pytest.mark.parametrize(("accesses", "fits"), [(48, True), (47, False), (24, False)])
def test_a_trace_keeps_so_many_lanes(accesses, fits):
    """Of all accesses together."""
    kernel = compile_kernel(unwritten_kernel, {"x_ptr": "*fp32", "y_ptr": "*fp32", "N": "i32", "BLOCK": "constexpr"},
                            {"BLOCK": 8})
    given = {"x_ptr": torch.zeros(8), "y_ptr": torch.zeros(24), "N": 8}
    module = Module(kernel, Limits(accesses=accesses))
    if fits:
        assert len(list(module.run((3,), given, trace=True).accesses())) == 6
    else:
        with pytest.raises(LimitExceeded, match=f"the trace has more than {accesses} lanes"):
            module.run((3,), given, trace=True)
    assert module.run((3,), given).trace == []


@triton.jit
def added_kernel(x_ptr, y_ptr, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    tl.atomic_add(x_ptr + lanes, lanes, mask=lanes % 2 == 0)
    tl.store(y_ptr + lanes, tl.load(x_ptr + lanes))


def test_what_an_atomic_has_updated_is_written():
    given = {"x_ptr": torch.zeros(8, dtype=torch.int32), "y_ptr": torch.zeros(8, dtype=torch.int32), "BLOCK": 8}
    (fault,) = execute(added_kernel, (1,), given, undefined={"x_ptr": np.ones(8, bool)}).faults
    assert (fault.what, fault.count, fault.offset) == ("load of what was never written", 4, 1)
