"""The guard and the trace, which lean on the insides of Triton's interpreter."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.runtime import Autotuner, JITFunction
from triton.runtime.errors import InterpreterError

from checks.executor import Unsupported
from checks.host.recorder import NeedsNumbers
from checks.judge import launches
from checks.judge.launches import OutOfBounds, watch
from checks.judge.source import define
from checks.judge.tracing import trace
from kernels.runtime import INTERPRETED

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="of the interpreter")


@triton.jit
def copy_kernel(x_ptr, y_ptr, N, MASK_LOAD: tl.constexpr, MASK_STORE: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < N, other=0.0) if MASK_LOAD else tl.load(x_ptr + offs)
    if MASK_STORE:
        tl.store(y_ptr + offs, x, mask=offs < N)
    else:
        tl.store(y_ptr + offs, x)


@triton.jit
def undefined_kernel(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(y_ptr, tl.sum(tl.load(x_ptr + offs, mask=offs < N).to(tl.float32), axis=0))


@triton.jit
def atomic_kernel(y_ptr, BLOCK: tl.constexpr):
    tl.atomic_add(y_ptr + tl.arange(0, BLOCK), 1.0)


@triton.jit
def exchange_kernel(y_ptr, old_ptr, at):
    tl.store(old_ptr, tl.atomic_cas(y_ptr + at, 3, 7))


@triton.jit
def masked_atomic_kernel(y_ptr, old_ptr, N, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(old_ptr + offs, tl.atomic_add(y_ptr + offs, 2, mask=offs < N))


@triton.jit
def from_address_kernel(address, N):
    y_ptr = address.to(tl.pointer_type(tl.float32))
    tl.store(y_ptr + tl.arange(0, 4), 1.0, mask=tl.arange(0, 4) < N)


@triton.jit
def scalar_kernel(x_ptr, y_ptr, at):
    tl.store(y_ptr, tl.load(x_ptr + at))


@triton.jit
def descriptor_kernel(x_ptr, y_ptr, M, N, BLOCK: tl.constexpr):
    x = tl.make_tensor_descriptor(x_ptr, shape=[M, N], strides=[N, 1], block_shape=[BLOCK, BLOCK])
    y = tl.make_tensor_descriptor(y_ptr, shape=[M, N], strides=[N, 1], block_shape=[BLOCK, BLOCK])
    y.store([0, 0], x.load([0, 0]))


@triton.jit
def extremes_kernel(x_ptr, y_ptr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, BLOCK))
    tl.store(y_ptr + tl.arange(0, BLOCK), tl.minimum(tl.maximum(x, -1.0), 1.0))


@triton.jit
def row_kernel(x_ptr, y_ptr, stride, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(y_ptr + offs, tl.load(x_ptr + tl.program_id(0) * stride + offs))


def out_of_bounds(launch) -> OutOfBounds:
    with pytest.raises(InterpreterError) as caught:
        launch()
    error = caught.value
    while error.__cause__ is not None:
        error = error.__cause__
    assert isinstance(error, OutOfBounds)
    return error


def test_a_load_past_the_end_is_named_with_its_place():
    x, y = torch.ones(10), torch.zeros(10)
    error = out_of_bounds(lambda: copy_kernel[(2,)](x, y, 10, MASK_LOAD=False, MASK_STORE=True, BLOCK=8))
    assert (error.kind, error.tensor, error.program, error.lane, error.offset) == ("load", "x_ptr", (1, 0, 0), (2,), 10)
    assert error.lanes == 6
    assert "is a mask missing?" in str(error)


@pytest.mark.parametrize("reason", [NeedsNumbers("aten::item"), Unsupported("tt.odd")], ids=repr)
def test_what_cannot_be_executed_is_traced_in_the_interpreter(monkeypatch, reason):
    def fails(*_):
        raise reason

    monkeypatch.setattr("checks.judge.tracing.execute", fails)
    x, y = torch.ones(10), torch.zeros(10)
    (launch,) = trace(lambda x, y: copy_kernel[(2,)](x, y, 10, MASK_LOAD=True, MASK_STORE=True, BLOCK=8), x=x, y=y)
    assert launch.traffic() == {("load", "x_ptr"): 40, ("store", "y_ptr"): 40} and torch.equal(x, y)


def test_a_trace_that_fails_says_why_in_words():
    def past_the_end(x, y):
        copy_kernel[(2,)](x, y, 10, MASK_LOAD=False, MASK_STORE=True, BLOCK=8)

    with pytest.raises(OutOfBounds, match="^out-of-bounds load on `x_ptr`, which has shape"):
        trace(past_the_end, x=torch.ones(10), y=torch.zeros(10))


def test_a_store_past_the_end_is_named_and_does_not_happen():
    whole = torch.zeros(16)
    error = out_of_bounds(lambda: copy_kernel[(2,)](torch.ones(10), whole[:10], 10, MASK_LOAD=True, MASK_STORE=False,
                                                    BLOCK=8))
    assert (error.kind, error.tensor, error.offset) == ("store", "y_ptr", 10)
    assert (whole[10:] == 0).all()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("kind", "tensor"), [("load", "x_ptr"), ("store", "y_ptr")])
def test_a_mask_too_wide_is_told_from_a_missing_one(kind, tensor, masked):
    x, y = (torch.zeros(10 if one == tensor else 16) for one in ("x_ptr", "y_ptr"))
    masks = {"MASK_LOAD": kind != "load" or masked, "MASK_STORE": kind != "store" or masked}
    error = out_of_bounds(lambda: copy_kernel[(2,)](x, y, 12, **masks, BLOCK=8))
    assert (error.kind, error.tensor, error.masked, error.lanes) == (kind, tensor, masked, 2 if masked else 6)
    assert ("is it the right mask" if masked else "It has no mask: is a mask missing?") in str(error)
    one = torch.zeros(1, dtype=torch.int32)  # twice: no other tensor of the launch may lie there
    masked_error = out_of_bounds(lambda: exchange_kernel[(1,)](one, one, 16))
    assert not masked_error.masked and masked_error.tensor == "y_ptr"


def test_before_the_start_and_far_away_raise_and_kill_nothing():
    x, y = torch.ones(8)[2:6], torch.zeros(1)
    assert out_of_bounds(lambda: scalar_kernel[(1,)](x, y, -1)).offset == -1
    for far in (10**9, -10**9):
        out_of_bounds(lambda far=far: scalar_kernel[(1,)](x, y, far))


def test_atomics_and_descriptors_are_guarded_and_recorded():
    assert "It has no mask" not in str(out_of_bounds(lambda: atomic_kernel[(1,)](torch.zeros(5), BLOCK=8)))  # Triton's has
    x, y = torch.randn(6, 8), torch.zeros(6, 8)
    with watch() as launches:
        descriptor_kernel[(1,)](x, y, 6, 8, BLOCK=8)
    assert torch.equal(x, y)
    assert launches[0].footprint() == {("load", "x_ptr"): 6 * 8 * 4, ("store", "y_ptr"): 6 * 8 * 4}


def test_atomics_do_their_work_and_count_as_a_load_and_a_store():
    y, old = torch.arange(4, dtype=torch.int32), torch.zeros(4, dtype=torch.int32)
    with watch() as launches:
        masked_atomic_kernel[(1,)](y, old, 3, BLOCK=4)
    assert y.tolist() == [2, 3, 4, 3] and old.tolist()[:3] == [0, 1, 2]
    assert launches[0].traffic() == {("load", "y_ptr"): 12, ("store", "y_ptr"): 12, ("store", "old_ptr"): 16}
    assert launches[0].instructions() == 2, "an atomic is one"
    with watch() as launches:
        exchange_kernel[(1,)](y, old, 1)
        exchange_kernel[(1,)](y, old, 0)
    assert y.tolist() == [2, 7, 4, 3] and old[0] == 2
    assert launches[0].traffic() == {("load", "y_ptr"): 4, ("store", "y_ptr"): 4, ("store", "old_ptr"): 4}
    assert out_of_bounds(lambda: exchange_kernel[(1,)](y, old, 4)).kind == "load"


def test_a_kernel_without_tensors_is_not_guarded_or_recorded():
    y = torch.zeros(4)
    with watch() as launches:
        for count in (4, 0):
            from_address_kernel[(1,)](y.data_ptr(), count)
    assert y.tolist() == [1, 1, 1, 1]
    assert [(launch.accesses, launch.idle) for launch in launches] == [([], 0)] * 2


@pytest.mark.parametrize(("x_at", "y_at"), [(0, 1000), (1000, 0)])
def test_an_access_outside_every_tensor_is_laid_to_the_nearest(x_at, y_at):
    memory = torch.zeros(2000)
    error = out_of_bounds(lambda: scalar_kernel[(1,)](memory[x_at:x_at + 4], memory[y_at:y_at + 1], 10))
    assert (error.tensor, error.offset) == ("x_ptr", 10)
    error = out_of_bounds(lambda: scalar_kernel[(1,)](memory[x_at:x_at + 4], memory[y_at:y_at + 1], y_at - x_at + 3))
    assert (error.tensor, error.offset) == ("y_ptr", 3)


def test_the_tensor_meant_is_the_one_that_most_lanes_fall_in():
    memory = torch.zeros(32)
    error = out_of_bounds(lambda: copy_kernel[(1,)](memory[16:21], memory[:16], 5, MASK_LOAD=False, MASK_STORE=True,
                                                    BLOCK=8))
    assert (error.tensor, error.lanes) == ("x_ptr", 3)


def test_accesses_out_alike_differ_in_their_words_alone():
    place = {"kind": "load", "tensor": "x_ptr", "program": (1, 0, 0), "offset": 10, "lanes": 6}
    more = {"lane": (2,), "shape": (10,), "masked": True}
    error = OutOfBounds(**place, **more)
    assert error.same_as(OutOfBounds(**place, lane=(3,), shape=(9,), masked=False))
    for other in ({"kind": "store"}, {"tensor": "y_ptr"}, {"program": (0, 0, 0)}, {"offset": 11}, {"lanes": 5}):
        assert not error.same_as(OutOfBounds(**(place | other), **more))
    assert not error.same_as(None) and not error.same_as(IndexError(str(error)))
    further = OutOfBounds(**place, **more, others=((3, 4),))
    assert further.same_as(further) and not further.same_as(error) and not error.same_as(further)


def test_a_fully_masked_access_is_counted_apart_in_its_launch():
    x, y = torch.ones(10), torch.zeros(10)
    with watch() as outer:
        copy_kernel[(2,)](x, y, 10, MASK_LOAD=True, MASK_STORE=True, BLOCK=8)
        with watch() as inner:
            copy_kernel[(4,)](x, y, 10, MASK_LOAD=True, MASK_STORE=True, BLOCK=8)
    assert [(launch.idle, len(launch.accesses)) for launch in outer] == [(0, 4), (4, 4)]
    assert inner == outer[1:]


def test_the_gap_between_the_rows_of_a_view_is_outside_it():
    wide = torch.ones(3, 12)
    row_kernel[(1,)](wide[:, :8], torch.zeros(8), 12, BLOCK=8)
    error = out_of_bounds(lambda: row_kernel[(1,)](wide[:, :7], torch.zeros(8), 12, BLOCK=8))
    assert (error.tensor, error.offset) == ("x_ptr", 7)
    assert "lane (7) touches offset 7, in a gap between its elements, and 1 lane(s)" in str(error)
    error = out_of_bounds(lambda: row_kernel[(1,)](wide[:1, :7], torch.zeros(8), 12, BLOCK=8))
    assert "lane (7) touches offset 7, and 1 lane(s)" in str(error), "past the last element"


def test_masked_lanes_without_other_are_not_quietly_zero():
    y = torch.zeros(1)
    undefined_kernel[(1,)](torch.ones(5), y, 5, BLOCK=8)
    assert y.isnan().all()
    undefined_kernel[(1,)](torch.ones(5, dtype=torch.bfloat16), y, 5, BLOCK=8)
    assert y.isnan().all()
    undefined_kernel[(1,)](torch.ones(5, dtype=torch.int8), y, 5, BLOCK=8)
    assert y.item() == 5 - 3 * 128


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_larger_of_nan_and_a_number_is_the_number(dtype):
    x = torch.tensor([float("nan"), -3.0, 3.0, 0.5], dtype=dtype)
    y = torch.zeros(4, dtype=dtype)
    extremes_kernel[(1,)](x, y, BLOCK=4)
    assert y.tolist() == [-1.0, -1.0, 1.0, 0.5]


def test_traffic_counts_live_lanes_again_and_footprint_once():
    x, y = torch.ones(10), torch.zeros(10)
    with watch() as launches:
        copy_kernel[(2,)](x, y, 10, MASK_LOAD=True, MASK_STORE=True, BLOCK=8)
        row_kernel[(3,)](x[:8], torch.zeros(8), 0, BLOCK=8)
    first, second = launches
    assert first.traffic() == {("load", "x_ptr"): 40, ("store", "y_ptr"): 40} == first.footprint()
    assert second.traffic()["load", "x_ptr"] == 3 * 32 and second.footprint()["load", "x_ptr"] == 32
    assert [a.program for a in first.accesses if a.kind == "load"] == [(0, 0, 0), (1, 0, 0)]
    assert np.array_equal(first.accesses[0].offsets, np.arange(8))


def test_a_launch_adds_no_names_to_the_module_of_its_kernel():
    namespace = {"triton": triton, "tl": tl}
    source = "@triton.jit\ndef fill_kernel(y_ptr):\n    tl.store(y_ptr, 1.0)\n"
    kernel = define(source, "fill_kernel", namespace)
    before = set(namespace)
    kernel[(1,)](torch.zeros(1))
    assert set(namespace) - before <= {"interpreter_semantic"}


def test_launches_that_an_autotuner_times_are_not_recorded(monkeypatch):
    """Here with launches that do nothing: an autotuner makes thousands, and each would hold on to its tensors."""
    ran = []
    monkeypatch.setattr(JITFunction, "run", lambda self, *args, grid, warmup, **kwargs: ran.append(kwargs["num_warps"]))
    monkeypatch.setattr(Autotuner, "_bench", Autotuner._bench)  # to be put back as well
    launches._record_on_gpu()

    def time_it(call, quantiles):
        for _ in range(5):
            call()
        return [len(set(ran))] * 3  # the first one is the faster

    configs = [triton.Config({}, num_warps=8), triton.Config({}, num_warps=4)]
    kernel = JITFunction(copy_kernel.fn)
    tuned = triton.autotune(configs, key=["N"], do_bench=time_it)(kernel)
    x = torch.zeros(4)
    with watch() as seen:
        tuned[(1,)](x, x, 4, True, True, BLOCK=4)
        kernel.run(x, x, 4, True, True, BLOCK=4, grid=(1,), warmup=True, num_warps=8)  # compiled, not launched
    assert ran == [8] * 5 + [4] * 5 + [8] * 2
    assert [launch.options for launch in seen] == [{"num_warps": 8, "num_stages": 3, "num_ctas": 1}]
    assert seen[0].constexprs == ["MASK_LOAD", "MASK_STORE", "BLOCK"] and seen[0].arguments["N"] == 4
    kernel.run(x, x, 4, True, True, BLOCK=4, grid=(1,), warmup=False, num_warps=8)
    assert len(seen) == 1


VIEWS = {
    "whole": torch.zeros(3, 4), "rows apart": torch.zeros(3, 12)[:, :7], "turned": torch.zeros(5, 8).T[1:6],
    "each second": torch.zeros(20)[::2], "a column": torch.zeros(6, 5)[:, 2], "repeated": torch.zeros(4, 1).expand(4, 3),
    "three axes": torch.zeros(2, 5, 16)[:, 1:3, ::4], "one": torch.zeros(7)[2:3], "none": torch.zeros(0, 3), "half":
    torch.zeros(3, 12, dtype=torch.float16)[:, :5], "a number": torch.zeros(9)[4]}


@pytest.mark.parametrize("view", VIEWS)
def test_which_offsets_a_tensor_holds_and_where_it_ends(view):
    """As numbering its elements one by one has it."""
    tensor, region = VIEWS[view], launches._Region("x_ptr", VIEWS[view])
    own = {sum(i * stride for i, stride in zip(index, tensor.stride(), strict=True)) for index in np.ndindex(*tensor.shape)}
    offsets = np.arange(-5, max(own, default=0) + 9)
    assert region.holds(offsets).tolist() == [offset in own for offset in offsets.tolist()]
    last = max(own, default=-1)
    assert (region.base, region.end) == (tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size())
    assert region.offsets(region.base + offsets * tensor.element_size()).tolist() == offsets.tolist()
    between = [0 < offset < last for offset in offsets.tolist()]
    assert not own or [launches.lies_between(tensor, offset) for offset in offsets.tolist()] == between


def test_the_one_tensor_that_all_addresses_lie_in(monkeypatch):
    memory = torch.zeros(40)
    x, y, wide = (launches._Region(name, part) for name, part in (
        ("x", memory[:8]), ("y", memory[10:18]), ("wide", memory[20:].view(4, 5)[:, :3])))
    monkeypatch.setattr(launches, "_regions", [wide, x, y])
    monkeypatch.setattr(launches, "_apart", True)
    for places, found in (([0, 7], x), ([10], y), ([3, 0, 5], x), ([0, 8], None), ([-1, 3], None), ([7, 10], None),
                          ([9], None), ([18], None), ([20], None)):
        assert launches._region_of_all(memory.data_ptr() + 4 * np.array(places)) is found, places
    monkeypatch.setattr(launches, "_apart", False)
    assert launches._region_of_all(memory.data_ptr() + 4 * np.array([0, 7])) is None, "another may lie across it"


@pytest.mark.parametrize(("numbers", "different"), [
    ([], 0), ([5], 1), ([5, 5, 7], 2), ([0, 10**9], 2), ([10**9, 10**9 + 1, 10**9], 2), ([-3, -3, 4], 2),
    ([-(10**9), 5, 5], 2), ([100, 101, 102], 3)])
def test_how_many_different_elements_were_touched(numbers, different):
    lanes = np.array(numbers, dtype=np.int64)
    live = np.append(np.ones(len(lanes), dtype=bool), False)
    access = launches.Access("load", "x", (0, 0, 0), np.append(lanes, 77), live, 2)
    launch = launches.Launch(None, {}, [], {}, [access, access])
    assert launch.footprint() == {("load", "x"): 2 * different} and launch.traffic() == {("load", "x"): 4 * len(numbers)}
    launch.idle, launch.atomics = 5, 1
    assert launch.instructions() == 6
