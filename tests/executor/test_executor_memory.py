"""Bounds, poison, shared and sparse storages, races, counts and the trace."""

from pathlib import Path

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from executor_launches import execute

from checks.executor import Limits, Module, compile_kernel, specialize


@triton.jit
def copy_kernel(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < N)
    tl.store(y_ptr + offs, x, mask=offs < N)


@triton.jit
def tile_kernel(x_ptr, y_ptr, M, N, stride_xm, stride_ym, BM: tl.constexpr, BN: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    mask = (m < M)[:, None] & (n < N)[None, :]
    x = tl.load(x_ptr + m.to(tl.int64)[:, None] * stride_xm + n[None, :], mask=mask)
    tl.store(y_ptr + m.to(tl.int64)[:, None] * stride_ym + n[None, :], x, mask=mask)


def tile(x, y, M, N, BM=16, BN=16):
    grid = triton.cdiv(M, BM), triton.cdiv(N, BN)
    return execute(tile_kernel, grid, {"x_ptr": x, "y_ptr": y, "M": M, "N": N, "stride_xm": x.stride(0),
                                       "stride_ym": y.stride(0), "BM": BM, "BN": BN})


def copy(x, y, N, BLOCK=16, grid=None, **options):
    grid = grid or (triton.cdiv(N, BLOCK),)
    return execute(copy_kernel, grid, {"x_ptr": x, "y_ptr": y, "N": N, "BLOCK": BLOCK}, **options)


def test_a_load_and_a_store_past_the_end():
    x, y = torch.arange(20.0), torch.zeros(24)
    report = copy(x, y, 22)
    (fault,) = report.faults
    assert (fault.what, fault.tensor, fault.program, fault.lane, fault.offset, fault.count, fault.masked) == (
        "out-of-bounds load", "x_ptr", (1, 0, 0), (4,), 20, 2, True)
    assert fault.place.file == __file__
    assert "tl.load(x_ptr" in Path(__file__).read_text().splitlines()[fault.place.line - 1]
    assert y[20:22].isnan().all(), "a lane at fault holds poison"
    assert torch.equal(y[:20], x)
    y = torch.zeros(18)
    (fault,) = copy(torch.arange(32.0), y, 22).faults
    assert (fault.what, fault.tensor, fault.offset, fault.count) == ("out-of-bounds store", "y_ptr", 18, 4)
    assert torch.equal(y, torch.arange(18.0)), "what lies inside is stored"


def test_short_rows_and_single_elements_are_checked_too():
    for block in (1, 2, 4):
        (fault,) = copy(torch.arange(9.0), torch.zeros(64), 10, BLOCK=block).faults
        assert (fault.offset, fault.count) == (9, 1)


def test_between_the_rows_of_a_wider_matrix_lies_nothing():
    wide = torch.randn(20, 48)
    y = torch.zeros(20, 40)
    assert tile(wide[:, :40], y, 20, 40).fine
    assert torch.equal(y, wide[:, :40])
    (fault,) = tile(wide[:, :38], y, 20, 40).faults
    assert (fault.what, fault.offset, fault.count) == ("out-of-bounds load", 38, 32 + 8)
    (fault,) = tile(wide[:, :40], torch.zeros(20, 48)[:, :39], 20, 40).faults
    assert (fault.what, fault.tensor, fault.count) == ("out-of-bounds store", "y_ptr", 20)


@triton.jit
def aside_kernel(x_ptr, y_ptr, N, stride_xm, ASIDE: tl.constexpr, BLOCK: tl.constexpr):
    m, n = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    there = (n + ASIDE >= 0) & (n + ASIDE < N)
    tl.store(y_ptr + m * BLOCK + n, tl.load(x_ptr + m * stride_xm + n + ASIDE, mask=there, other=-1.0))


@pytest.mark.parametrize("aside", [-9, -1, 0, 1, 9])
@pytest.mark.parametrize("stride", [16, 17, 40, 2**30])
def test_rows_that_begin_before_a_row_of_the_tensor(stride, aside):
    """As those of a kernel that loads each element's neighbour."""
    x = torch.empty(3 * stride, dtype=torch.int8).as_strided((3, 16), (stride, 1))
    x.copy_(torch.arange(48).view(3, 16))
    y = torch.zeros(3, 16, dtype=torch.int8)
    given = {"x_ptr": x, "y_ptr": y, "N": 16, "stride_xm": stride, "ASIDE": aside, "BLOCK": 16}
    assert execute(aside_kernel, (3,), given).fine
    assert y.tolist() == [[16 * m + n + aside if 0 <= n + aside < 16 else -1 for n in range(16)] for m in range(3)]
    (fault,) = execute(aside_kernel, (3,), given | {"N": 17}).faults if aside > 0 and stride > 16 else [None]
    assert fault is None or (fault.offset, fault.count) == (16, 3)


def test_gaps_between_short_rows_are_seen_lane_by_lane():
    wide, y = torch.randn(20, 12), torch.zeros(20, 4)
    for columns, faults in ((4, 0), (3, 20)):
        report = tile(wide[:, :columns], y, 20, 4, BN=4)
        assert sum(fault.count for fault in report.faults) == faults


def test_rows_far_apart_take_no_memory():
    storage = torch.empty(2 * 2**30 + 40, dtype=torch.float16)
    x = storage.as_strided((3, 40), (2**30, 1))
    x.copy_(torch.randn(3, 40))
    y = torch.zeros(3, 40, dtype=torch.float16)
    assert tile(x, y, 3, 40).fine
    assert torch.equal(y, x)
    x.zero_()
    assert tile(y, x, 3, 40).fine
    assert torch.equal(y, x)
    given = {"x_ptr": x, "y_ptr": y, "M": 2, "N": 40, "stride_xm": 2**30, "stride_ym": 40, "BM": 2, "BN": 16}
    assert execute(tile_kernel, (1, 60), given).fine, "whatever rows that are off would reach"
    columns = storage.as_strided((40, 3), (1, 2**30))
    given = {"x_ptr": columns.T, "y_ptr": y, "M": 3, "N": 40, "stride_xm": 2**30, "stride_ym": 40, "BM": 16, "BN": 16}
    assert execute(tile_kernel, (1, 3), given).fine
    (fault,) = tile(x, y, 3, 41).faults[:1]
    assert fault.what == "out-of-bounds load"
    assert fault.offset == 40


def test_32_bit_offsets_wrap_around():
    @triton.jit
    def narrow_kernel(x_ptr, y_ptr, stride):
        i = tl.program_id(0)
        tl.store(y_ptr + i, tl.load(x_ptr + i * stride))

    storage = torch.empty(3 * 2**30 + 1, dtype=torch.int8)
    x = storage.as_strided((4,), (2**30,))
    report = execute(narrow_kernel, (4,), {"x_ptr": x, "y_ptr": torch.zeros(4, dtype=torch.int8), "stride": 2**30})
    assert [fault.offset for fault in report.faults] == [-(2**31)]
    assert report.faults[0].count == 2


def test_masked_lanes_hold_poison_unless_other_is_given():
    @triton.jit
    def sum_kernel(x_ptr, y_ptr, N, OTHER: tl.constexpr, BLOCK: tl.constexpr):
        offs = tl.arange(0, BLOCK)
        x = tl.load(x_ptr + offs, mask=offs < N, other=0) if OTHER else tl.load(x_ptr + offs, mask=offs < N)
        tl.store(y_ptr, tl.sum(x, axis=0))

    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        y = torch.zeros(1, dtype=dtype)
        execute(sum_kernel, (1,), {"x_ptr": torch.ones(5, dtype=dtype), "y_ptr": y, "N": 5, "OTHER": False, "BLOCK": 8})
        assert y.isnan()
        execute(sum_kernel, (1,), {"x_ptr": torch.ones(5, dtype=dtype), "y_ptr": y, "N": 5, "OTHER": True, "BLOCK": 8})
        assert y.item() == 5
    y = torch.zeros(1, dtype=torch.int32)
    execute(sum_kernel, (1,), {"x_ptr": torch.ones(7, dtype=torch.int32), "y_ptr": y, "N": 7, "OTHER": False, "BLOCK": 8})
    assert y.item() == 7 - 2**31


def test_an_address_outside_every_tensor():
    @triton.jit
    def wild_kernel(x_ptr, y_ptr):
        tl.store(y_ptr, tl.load(x_ptr + (tl.program_id(0).to(tl.int64) << 44)))

    report = execute(wild_kernel, (2,), {"x_ptr": torch.ones(1), "y_ptr": torch.ones(2)})
    (fault,) = report.faults
    assert (fault.what, fault.tensor, fault.offset) == ("load outside every tensor", None, None)

    @triton.jit
    def before_kernel(x_ptr, y_ptr):
        tl.store(y_ptr - (tl.program_id(0).to(tl.int64) << 44), tl.load(x_ptr - (tl.program_id(0).to(tl.int64) << 42)))

    report = execute(before_kernel, (2,), {"x_ptr": torch.ones(1), "y_ptr": torch.ones(2)})
    assert [(fault.what, fault.count) for fault in report.faults] == [
        ("load outside every tensor", 1), ("store outside every tensor", 1)]


def test_pointers_into_two_tensors_in_one_access():
    @triton.jit
    def either_kernel(x_ptr, y_ptr, out_ptr, N: tl.constexpr):
        lanes = tl.arange(0, N)
        tl.store(out_ptr + lanes, tl.load(tl.where(lanes % 2 == 0, x_ptr + lanes, y_ptr + lanes)))

    x, y, out = torch.arange(16.0), -torch.arange(16.0), torch.zeros(16)
    assert execute(either_kernel, (1,), {"x_ptr": x, "y_ptr": y, "out_ptr": out, "N": 16}).fine
    assert torch.equal(out, torch.where(torch.arange(16) % 2 == 0, x, y))
    short = execute(either_kernel, (1,), {"x_ptr": x, "y_ptr": y[:12], "out_ptr": out, "N": 16})
    assert [(f.tensor, f.offset, f.count) for f in short.faults] == [("y_ptr", 13, 2)]


def test_what_was_never_written_is_poison_and_told():
    x, y = torch.arange(16.0), torch.zeros(16)
    holes = torch.zeros(16, dtype=torch.bool)
    holes[[3, 7]] = True
    report = copy(x, y, 16, undefined={"x_ptr": holes.numpy()})
    (fault,) = report.faults
    assert (fault.what, fault.tensor, fault.offset, fault.count) == ("load of what was never written", "x_ptr", 3, 2)
    assert y.isnan().tolist() == holes.tolist()
    assert copy(x, y, 3, undefined={"x_ptr": holes.numpy()}).fine, "lanes that are off load nothing"
    (fault,) = copy(x, y, 5, undefined={"x_ptr": holes.numpy()}).faults
    assert (fault.offset, fault.lane, fault.count) == (3, (3,), 1)

    @triton.jit
    def twice_kernel(x_ptr, N: tl.constexpr):
        lanes = tl.arange(0, N)
        tl.store(x_ptr + lanes, lanes)
        tl.store(x_ptr + lanes, tl.load(x_ptr + lanes) + 1)

    x = torch.zeros(16, dtype=torch.int32)
    assert execute(twice_kernel, (1,), {"x_ptr": x, "N": 16}, undefined={"x_ptr": np.ones(16, bool)}).fine
    assert x.tolist() == list(range(1, 17))


def test_one_storage_passed_twice_is_one():
    x = torch.arange(64.0)
    assert execute(copy_kernel, (1,), {"x_ptr": x, "y_ptr": x[:32], "N": 32, "BLOCK": 32}).fine
    report = execute(copy_kernel, (2,), {"x_ptr": x, "y_ptr": x[16:], "N": 32, "BLOCK": 16})
    assert [race.what for race in report.races] == ["stores what another program has read"]
    assert report.races[0].tensor == "y_ptr"

    @triton.jit
    def through_bytes_kernel(x_ptr, b_ptr, N: tl.constexpr):
        lanes = tl.arange(0, N)
        tl.store(b_ptr + lanes, (lanes * 0).to(tl.int8))
        tl.store(x_ptr + lanes, tl.load(x_ptr + lanes) + 1)

    x = torch.full((16,), 0x01020304, dtype=torch.int32)
    assert execute(through_bytes_kernel, (1,), {"x_ptr": x, "b_ptr": x.view(torch.int8), "N": 16}).fine
    assert x.tolist() == [1] * 4 + [0x01020305] * 12


@triton.jit
def everybody_kernel(x_ptr, SAME: tl.constexpr):
    tl.store(x_ptr, 7 if SAME else tl.program_id(0))


@triton.jit
def every_lane_kernel(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, BLOCK) * 0, tl.arange(0, BLOCK))


@triton.jit
def neighbour_kernel(x_ptr, N, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    left = tl.load(x_ptr + offs - 1, mask=offs > 0, other=0)
    tl.store(x_ptr + offs, tl.load(x_ptr + offs) + left)


@triton.jit
def init_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    tl.store(out_ptr, 0)
    tl.atomic_add(out_ptr, tl.sum(tl.load(x_ptr + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)), 0))


@triton.jit
def after_waiting_kernel(count_ptr, out_ptr):
    tl.atomic_add(count_ptr, 1)
    tl.store(out_ptr, tl.program_id(0) * 0)
    tl.atomic_add(out_ptr, 1)


@triton.jit
def last_one_kernel(x_ptr, part_ptr, count_ptr, out_ptr, PROGRAMS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0)
    tl.store(part_ptr + i, tl.sum(tl.load(x_ptr + i * BLOCK + tl.arange(0, BLOCK)), 0))
    if tl.atomic_add(count_ptr, 1) == PROGRAMS - 1:
        tl.store(out_ptr, tl.sum(tl.load(part_ptr + tl.arange(0, PROGRAMS)), 0))
        tl.store(count_ptr, 0)


def test_races():
    whole = lambda n: torch.arange(n, dtype=torch.int32)  # noqa: E731
    assert execute(everybody_kernel, (8,), {"x_ptr": whole(1), "SAME": True}).fine
    (race,) = execute(everybody_kernel, (8,), {"x_ptr": whole(1), "SAME": False}).races
    assert race.what == "stores another value than another program" and race.program != race.other
    assert str(race).startswith(f"program {race.program} stores another value than program {race.other}: `x_ptr`")
    (race,) = execute(every_lane_kernel, (1,), {"x_ptr": whole(1), "BLOCK": 8}).races
    assert race.what == "stores another value than another lane" and race.program == race.other
    assert str(race).startswith("program (0, 0, 0) stores another value than one of its other lanes: `x_ptr` at offset 0")
    (race,) = execute(neighbour_kernel, (4,), {"x_ptr": whole(32), "N": 32, "BLOCK": 8}).races
    assert (race.what, race.tensor, race.offset) == ("stores what another program has read", "x_ptr", 7)
    assert execute(neighbour_kernel, (1,), {"x_ptr": whole(32), "N": 32, "BLOCK": 32}).fine
    x, out = whole(64), torch.full((1,), 5, dtype=torch.int32)
    races = execute(init_kernel, (8,), {"x_ptr": x, "out_ptr": out, "BLOCK": 8}).races
    assert [race.what for race in races] == ["updates what another program stored without one"]
    assert execute(after_waiting_kernel, (8,), {"count_ptr": out, "out_ptr": whole(1)}).fine
    part, count = torch.zeros(8, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    assert execute(last_one_kernel, (8,), {"x_ptr": x, "part_ptr": part, "count_ptr": count, "out_ptr": out,
                                           "PROGRAMS": 8, "BLOCK": 8}).fine
    assert (out.item(), count.item()) == (x.sum().item(), 0)


def test_races_do_not_depend_on_which_programs_run_together(monkeypatch):
    signature, constexprs = specialize(neighbour_kernel, x := {"x_ptr": torch.arange(32), "N": 32, "BLOCK": 8})
    module = Module(compile_kernel(neighbour_kernel, signature, constexprs))
    for chunk in (1, 2, 4):
        monkeypatch.setattr(module, "chunk", chunk)
        races = module.run((4,), {"x_ptr": x["x_ptr"].clone(), "N": 32}).races
        assert {race.what for race in races} <= {"stores what another program has read", "reads what another program stored"}
        assert {(race.tensor, race.offset) for race in races} == {("x_ptr", o) for o in (7, 15, 23)[:len(races)]}, chunk
        assert races


def test_other_elements_of_a_tensor_that_is_read_are_no_race():
    @triton.jit
    def upper_half_kernel(x_ptr, HALF: tl.constexpr, BLOCK: tl.constexpr):
        offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(x_ptr + HALF + offs, tl.load(x_ptr + offs))

    x = torch.arange(64.0)
    assert execute(upper_half_kernel, (4,), {"x_ptr": x, "HALF": 32, "BLOCK": 8}).fine
    assert torch.equal(x[32:], x[:32])


def test_the_same_value_is_no_race_in_programs_that_run_apart(monkeypatch):
    module = Module(compile_kernel(everybody_kernel, {"x_ptr": "*i32", "SAME": "constexpr"}, {"SAME": True}))
    monkeypatch.setattr(module, "chunk", 1)
    assert module.run((8,), {"x_ptr": torch.zeros(1, dtype=torch.int32)}).fine
    module = Module(compile_kernel(everybody_kernel, {"x_ptr": "*i32", "SAME": "constexpr"}, {"SAME": False}))
    monkeypatch.setattr(module, "chunk", 1)
    races = module.run((3,), {"x_ptr": torch.zeros(1, dtype=torch.int32)}).races
    assert [(race.program, race.other) for race in races] == [((1, 0, 0), (0, 0, 0)), ((2, 0, 0), (1, 0, 0))]


def test_counts_and_elements():
    x, y = torch.arange(100, dtype=torch.float16), torch.zeros(100, dtype=torch.float16)
    report = copy(x, y, 90, grid=(8,), loaded=True)
    assert (report.loaded_bytes, report.stored_bytes) == ({"x_ptr": 180}, {"y_ptr": 180})
    assert (report.loads, report.stores) == ({"x_ptr": 6}, {"y_ptr": 6})
    assert report.idle == 4  # two programs whose loads and stores have all lanes off
    assert report.written["y_ptr"].tolist() == [i < 90 for i in range(100)]
    assert report.loaded["x_ptr"].tolist() == [i < 90 for i in range(100)]
    assert "x_ptr" not in report.written
    assert report.seconds > 0


def test_the_trace_has_each_access_of_each_program():
    report = copy(torch.arange(40.0), torch.zeros(40), 40, trace=True)
    accesses = list(report.accesses())
    assert [(a.kind, a.tensor, a.program) for a in accesses] == [
        (kind, tensor, (i, 0, 0)) for kind, tensor in (("load", "x_ptr"), ("store", "y_ptr")) for i in range(3)]
    assert accesses[2].offsets.tolist() == list(range(32, 48))
    assert accesses[2].live.tolist() == [i < 8 for i in range(16)]
    assert {a.itemsize for a in accesses} == {4}


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_the_trace_is_the_same_whichever_programs_run_together(monkeypatch, chunk):
    x, y = torch.arange(40.0), torch.zeros(40)
    signature, constexprs = specialize(copy_kernel, {"x_ptr": x, "y_ptr": y, "N": 40, "BLOCK": 8})
    module = Module(compile_kernel(copy_kernel, signature, constexprs))
    monkeypatch.setattr(module, "chunk", chunk)
    found = {(a.kind, a.program[0]): a.offsets[0] for a in module.run((5,), {"x_ptr": x, "y_ptr": y, "N": 40},
                                                                      trace=True).accesses()}
    assert found == {(kind, i): 8 * i for kind in ("load", "store") for i in range(5)}


@triton.jit
def axes_kernel(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    """The place along axis 1 alone decides which lanes are on."""
    offs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < N)
    tl.store(y_ptr + tl.program_id(2) * N + offs, x, mask=offs < N)


def test_programs_of_every_axis_are_counted_and_told_apart():
    x, y = torch.arange(20.0), torch.zeros(80)
    arguments = {"x_ptr": x, "y_ptr": y, "N": 20, "BLOCK": 16}
    report = execute(axes_kernel, (5, 3, 4), arguments, trace=True)
    assert (report.loaded_bytes, report.stored_bytes) == ({"x_ptr": 5 * 4 * 80}, {"y_ptr": 5 * 4 * 80})
    assert (report.loads, report.stores, report.idle) == ({"x_ptr": 5 * 2 * 4}, {"y_ptr": 5 * 2 * 4}, 2 * 5 * 4)
    for access in report.accesses():
        _, place, row = access.program
        first = 16 * place + (20 * row if access.kind == "store" else 0)
        assert access.offsets.tolist() == list(range(first, first + 16))
        assert access.live.tolist() == [16 * place + i < 20 for i in range(16)]
    assert {a.program for a in report.accesses()} == {(i, j, k) for i in range(5) for j in range(2) for k in range(4)}


def test_numpy_arrays_and_wrong_arguments():
    signature, constexprs = specialize(copy_kernel, {"x_ptr": torch.zeros(1), "y_ptr": torch.zeros(1), "N": 20, "BLOCK": 16})
    module = Module(compile_kernel(copy_kernel, signature, constexprs), Limits())
    x, y = np.arange(20, dtype=np.float32), np.zeros(20, np.float32)
    assert module.run((2,), {"x_ptr": x, "y_ptr": y, "N": 20}).fine
    assert (x == y).all()
    with pytest.raises(TypeError, match="takes 3 arguments without its constexprs, not 2"):
        module.run((2,), {"x_ptr": x, "y_ptr": y})
    with pytest.raises(TypeError, match="`x_ptr` has elements of 8 bytes"):
        module.run((2,), {"x_ptr": x.astype(np.float64), "y_ptr": y, "N": 20})
    with pytest.raises(TypeError, match="`x_ptr` cannot be int"):
        module.run((2,), {"x_ptr": 1, "y_ptr": y, "N": 20})
    with pytest.raises(TypeError, match="does not fit the kernel's i32"):
        module.run((2,), {"x_ptr": x, "y_ptr": y, "N": 2**40})
    with pytest.raises(ValueError, match="three axes"):
        module.run((1, 1, 1, 1), {"x_ptr": x, "y_ptr": y, "N": 20})
    assert module.run((0,), {"x_ptr": x, "y_ptr": y, "N": 20}).loads == {}


def test_nothing_at_all():
    empty = torch.zeros(0)
    assert copy(empty, empty, 0, grid=(1,)).fine
    (fault,) = copy(empty, torch.zeros(4), 1).faults
    assert (fault.what, fault.offset) == ("out-of-bounds load", 0)
