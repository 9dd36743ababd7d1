"""Calls that come again: decided once, launched as compiled, and seen by those who watch."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from triton.runtime import JITFunction

from checks.judge.launches import watch
from kernels import launch
from kernels.launch import Launch, Plans
from kernels.matmul_int8 import _matmul_int8, matmul_int8
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import device


class Kernel:
    """A kernel as Triton's: `kernel[grid](...)` launches it, and gives what it compiled."""

    arg_names = ["x_ptr", "w_ptr", "N", "stride", "BLOCK", "EVEN"]

    def __init__(self, compiled=None):
        self.said, self.compiled = [], compiled or Compiled

    def __getitem__(self, grid):
        def compile_and_run(*arguments, **named):
            self.said.append(("compiled", grid, arguments, named))
            return self.compiled(self.said)
        return compile_and_run


class Compiled:
    """A compiled kernel, whose `run` takes what `JITFunction.run` hands it."""

    function, packed_metadata = "function", "metadata"

    def __init__(self, said):
        self.said = said

    def run(self, x, y, z, stream, function, metadata, launch_metadata, enter_hook, exit_hook, *arguments):
        assert (function, metadata, launch_metadata, enter_hook, exit_hook) == ("function", "metadata", None, None, None)
        self.said.append(("run", (x, y, z), stream, arguments))


class OtherCompiled(Compiled):
    """As Triton may make them one day."""

    def run(self, grid, arguments):
        raise AssertionError("not as it was called")

    def __getitem__(self, grid):
        return lambda *arguments: self.said.append(("again", grid, arguments))


@pytest.fixture(autouse=True)
def driver(monkeypatch):
    active = SimpleNamespace(get_current_device=lambda: 3, get_current_stream=lambda device: f"stream of {device}")
    monkeypatch.setattr(launch.triton.runtime, "driver", SimpleNamespace(active=active))


def launched(*calls, compiled=None):
    kernel = Kernel(compiled)
    run = Launch(kernel, (3, 2), (100, 1), {"EVEN": True, "BLOCK": 64}, num_warps=2)
    for pointers in calls:
        run(*pointers)
    return kernel.said


def test_a_kernel_is_looked_up_once_and_run_with_all_arguments():
    x, y = torch.zeros(2), torch.zeros(2)
    first, *others = launched((x, None), (y, None), (x, "descriptor"))
    assert first == ("compiled", (3, 2, 1), (x, None, 100, 1), {"EVEN": True, "BLOCK": 64, "num_warps": 2})
    assert others == [  # constexprs in the kernel's order
        ("run", (3, 2, 1), "stream of 3", (y.data_ptr(), None, 100, 1, 64, True)),
        ("run", (3, 2, 1), "stream of 3", (x.data_ptr(), "descriptor", 100, 1, 64, True))]


@pytest.mark.parametrize("grid, whole", [((5,), (5, 1, 1)), ((5, 2), (5, 2, 1)), ((5, 2, 3), (5, 2, 3))])
def test_a_grid_has_three_sizes(grid, whole):
    kernel = Kernel()
    run = Launch(kernel, grid, (100, 1), {"EVEN": True, "BLOCK": 64})
    for _ in range(2):
        run(torch.zeros(2), None)
    assert [said[1] for said in kernel.said] == [whole] * 2


def test_another_tritons_kernels_are_launched_as_it_documents():
    x = torch.zeros(2)
    _, *others = launched((x, None), (x, None), (x, None), compiled=OtherCompiled)
    assert others == [("again", (3, 2, 1), (x, None, 100, 1, 64, True))] * 2


def test_this_triton_runs_a_compiled_kernel_as_we_do():
    """`JITFunction.run` is what there is to go by."""
    text = " ".join(inspect.getsource(JITFunction.run).split())
    assert ("kernel.run(grid_0, grid_1, grid_2, stream, kernel.function, kernel.packed_metadata, launch_metadata, "
            "knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook, *bound_args.values())") in text


def test_who_watches_launches_sees_every_one(monkeypatch):
    x = torch.zeros(2)
    monkeypatch.setattr(launch, "watchers", [object()])
    assert [said[0] for said in launched((x, None), (x, None))] == ["compiled", "compiled"]
    monkeypatch.setattr(launch, "watchers", [])
    monkeypatch.setattr(launch.triton.knobs.runtime, "launch_enter_hook", SimpleNamespace(calls=[print]))
    assert [said[0] for said in launched((x, None), (x, None))] == ["compiled", "compiled"]


def test_a_call_is_decided_once_for_each_combination():
    decided = []

    @Plans
    def plans(x, w, eps):
        decided.append((tuple(x.shape), eps))
        return lambda x, w, eps: len(decided)

    base, w = torch.zeros(8, 16), torch.zeros(3)
    same = [base[:4], torch.ones(4, 16)]
    others = [base[:5], base[:4].double(), base[::2], base.flatten()[1:65].view(4, 16), base[:4].to("meta")]
    assert [plans(x, w, 0.5) for x in same] == [1, 1]
    for number, x in enumerate(others, 2):  # shape, dtype, strides, alignment, device
        assert plans(x, w, 0.5) == plans(x, w, 0.5) == number
    assert plans(base[:4], None, 0.5) == 7 and plans(base[:4], w, 0.25) == 8 and plans(base[:4], w, 0.5) == 8


def test_wrong_arguments_are_refused_each_time_none_is_kept():
    x = torch.zeros(4, 8).half().to(device())
    w_q, w_scale = quantize_int8_perrow(torch.ones(5, 8).half().to(device()))
    kept = len(_matmul_int8._calls)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"w_scale must be \(5,\)"):
            matmul_int8(x, w_q, w_scale[:4])
        with pytest.raises(TypeError, match="w_scale must be .* got list"):
            matmul_int8(x, w_q, [1.0])
    assert len(_matmul_int8._calls) == kept


def test_no_more_calls_are_kept_than_are_bounded(monkeypatch):
    monkeypatch.setattr(launch, "MOST", 3)
    plans = Plans(lambda x: lambda x: x.shape[0])
    assert [plans(torch.zeros(n)) for n in range(1, 9)] == list(range(1, 9))
    assert len(plans._calls) <= 3


def test_what_is_decided_while_a_graph_is_captured_is_not_kept(monkeypatch):
    monkeypatch.setattr(launch, "INTERPRETED", False)
    monkeypatch.setattr(launch, "capturing", lambda: True)
    plans = Plans(lambda x: lambda x: x.shape[0])
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)
    assert plans(torch.zeros(2)) == 2 and plans._calls == {}


def test_the_checks_watch_is_such_a_watcher():
    assert not launch.watchers
    with watch():
        assert launch.watchers
    assert not launch.watchers


@pytest.mark.parametrize("odd", ["a sparse tensor", "a list", "a dict"])
def test_what_has_no_key_is_planned_each_time(odd):
    """It is for the plan to say what is wrong with it."""
    x = torch.ones(2, 2, device=device())
    given = {"a sparse tensor": x.to_sparse(), "a list": [1], "a dict": {}}[odd]
    made = []
    plans = Plans(lambda *tensors: made.append(tensors) or (lambda *tensors: len(tensors)))
    assert [plans(x, given), plans(x, given)] == [2, 2] and len(made) == 2 and not plans._calls
    assert [plans(x, None), plans(x, None)] == [2, 2] and len(made) == 3
