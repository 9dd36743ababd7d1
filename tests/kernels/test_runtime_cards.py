"""Where kernels run: what counts as interpreting, and that tensors, not the current device, decide on which GPU."""

import contextlib
import functools
import runpy
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import triton

from checks.paths import ROOT
from kernels import launch, runtime
from kernels.runtime import Card

VALUES = """
import os, sys
import torch  # once for all, since it takes longest; Triton reads the variable when it is imported
assert "triton" not in sys.modules
for value in sys.argv[1:]:
    if os.fork() == 0:
        os.environ["TRITON_INTERPRET"] = value
        import triton
        assert triton.knobs.runtime.interpret, value
        import kernels
        assert kernels.runtime.INTERPRETED, value
        from kernels.runtime import triton as ours
        assert ours.knobs.runtime.interpret, value
        sys.exit()
    if os.wait()[1]:
        sys.exit(1)
"""


def test_triton_interpret_means_what_it_means_to_triton():
    values = ["true", "Yes", "on"]  # all other tests run with 1
    done = subprocess.run([sys.executable, "-c", VALUES, *values], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def imported_anew(monkeypatch, gpu, value):
    """`runtime.py` as it is where there is a GPU or not, and TRITON_INTERPRET has the value; None: it has none."""
    allocators = []
    monkeypatch.delitem(vars(triton.knobs.runtime), "interpret", raising=False)  # set by hand, it hides the variable
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(triton, "set_allocator", allocators.append)
    if value is None:
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    else:
        monkeypatch.setenv("TRITON_INTERPRET", value)
    return SimpleNamespace(**runpy.run_path(runtime.__file__)), allocators


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes", "Yes", "on", "y", "0", "false", "no", "n", "", "2", None])
def test_on_a_gpu_it_interprets_when_triton_does(monkeypatch, value):
    made, allocators = imported_anew(monkeypatch, True, value)
    assert made.INTERPRETED == triton.knobs.runtime.interpret == (str(value).lower() in ("1", "true", "yes", "on", "y"))
    assert made.device() == torch.device("cpu" if made.INTERPRETED else "cuda")
    assert len(allocators) == (not made.INTERPRETED)
    for allocate in allocators:  # for tensor descriptors that a kernel makes
        monkeypatch.setattr(torch, "empty", lambda *given, **options: (given, options))
        assert allocate(640, 128, None) == ((640,), {"dtype": torch.int8, "device": "cuda"})


@pytest.mark.parametrize("value", ["0", None])
def test_without_a_gpu_triton_may_not_be_imported_first(monkeypatch, value):
    with pytest.raises(ImportError, match="write `import kernels` .* above `import triton`, then restart"):
        imported_anew(monkeypatch, False, value)
    assert imported_anew(monkeypatch, False, "1")[0].INTERPRETED


@pytest.mark.parametrize("interpreted, streams, capturing", [(1, True, False), (0, True, True), (0, False, False)])
def test_only_a_gpu_puts_launches_into_a_graph(monkeypatch, interpreted, streams, capturing):
    monkeypatch.setattr(runtime, "INTERPRETED", interpreted)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: streams)
    assert runtime.capturing() == capturing


@pytest.fixture
def two_gpus(monkeypatch):
    """Two pretended GPUs, of which 0 is current. Gives those that were made current, in order."""
    current, entered = [0], []

    @contextlib.contextmanager
    def device(where):
        before, current[0] = current[0], where.index
        entered.append(where.index)
        yield
        current[0] = before

    class Tensor(torch.Tensor):
        is_cuda = property(lambda self: True)
        is_cpu = property(lambda self: False)
        device = property(lambda self: torch.device("cuda", self.index))

    def made(index):
        tensor = torch.zeros(4, 8).as_subclass(Tensor)
        tensor.index = index
        return tensor

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    for module in (launch, runtime):
        monkeypatch.setattr(module, "INTERPRETED", False)
    return made, entered


def test_tensors_decide_where_a_kernel_runs(two_gpus):
    made, entered = two_gpus
    plans = launch.Plans(lambda x: lambda x: torch.cuda.current_device())
    assert [plans(made(index)) for index in (1, 0, 1, 0, 1)] == [1, 0, 1, 0, 1]
    assert entered == [1, 0, 1, 1]  # where the GPU is current already, and the plan known, nothing is switched
    with runtime.launching_at(made(1)):
        assert torch.cuda.current_device() == 1
    assert torch.cuda.current_device() == 0
    before = len(entered)
    with runtime.launching_at(torch.zeros(4)), runtime.launching_at(torch.zeros(4, device="meta")):
        assert len(entered) == before, "these are on no GPU"


def test_each_gpu_has_its_own_plan(two_gpus, monkeypatch):
    cards = [Card((8, 0), 108, 166_912, 40 << 20, 1555.0), Card((9, 0), 132, 232_448, 50 << 20, 3352.0)]
    monkeypatch.setattr(runtime, "_card", cards.__getitem__)
    made, _ = two_gpus
    plans = launch.Plans(lambda x: functools.partial(lambda gpu, x: gpu.multiprocessors, runtime.card(x.device)))
    assert [plans(made(index)) for index in (0, 1, 0, 1)] == [108, 132, 108, 132]
    assert launch.overlapping(runtime.card(torch.device("cuda", 0))) == ({"OVERLAP": False}, {})
    assert launch.overlapping(runtime.card(torch.device("cuda"))) == ({"OVERLAP": False}, {})  # the current one
    assert launch.overlapping(runtime.card(torch.device("cuda", 1))) == ({"OVERLAP": True}, {"launch_pdl": True})


def test_a_card_is_what_the_driver_says(monkeypatch):
    properties = type("Properties", (), {"major": 9, "minor": 0, "multi_processor_count": 132, "L2_cache_size": 52_428_800})
    driver = {"max_shared_mem": 232_448, "mem_clock_rate": 2_619_000, "mem_bus_width": 5120}  # an H100's
    active = type("Driver", (), {"utils": type("Utils", (), {"get_device_properties": staticmethod(lambda index: driver)})})
    monkeypatch.setattr(runtime, "INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(runtime.triton.runtime, "driver", type("Drivers", (), {"active": active}))
    card = runtime._card.__wrapped__(0)
    assert card == Card((9, 0), 132, 232_448, 52_428_800, pytest.approx(3352, rel=1e-3))
    monkeypatch.setattr(runtime, "card", lambda: card)
    assert (runtime.capability(), runtime.shared_memory_limit()) == ((9, 0), 232_448)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert runtime._card.__wrapped__(0).capability is None  # an AMD GPU's number is none of CUDA's


def test_a_tensor_is_allocated_as_inductor_does_it(monkeypatch):
    asked, gpu = [], torch.device("cuda", 0)
    monkeypatch.setattr(torch._C._dynamo.guards, "_empty_strided_cuda", lambda *given: asked.append(given), raising=False)
    launch.room((2, 3, 4), torch.int8, gpu)()
    assert asked == [((2, 3, 4), (12, 4, 1), torch.int8)]
    monkeypatch.setattr(torch, "empty", lambda *given, **options: (given, options))
    plain = ((2, 3),), {"dtype": torch.int8, "device": gpu}
    with launch.traced():
        assert launch.room((2, 3), torch.int8, gpu)() == plain
    assert launch.room((2, 3), torch.int8, torch.device("cpu"))()[1]["device"].type == "cpu"
    monkeypatch.delattr(torch._C._dynamo.guards, "_empty_strided_cuda")
    assert launch.room((2, 3), torch.int8, gpu)() == plain and len(asked) == 1


def test_traced_ends_with_its_block_whatever_happens():
    hopper = Card((9, 0), 132, 232_448, 50 << 20, 3352.0)
    with launch.traced():
        assert launch.is_traced() and launch.overlapping(hopper) == ({"OVERLAP": False}, {})
    for _ in range(2):
        with contextlib.suppress(KeyError), launch.traced():
            raise KeyError
        assert not launch.is_traced() and launch.overlapping(hopper) == ({"OVERLAP": True}, {"launch_pdl": True})
