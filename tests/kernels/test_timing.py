"""The timer against known times, and what becomes of functions that cheat it."""

import statistics

import pytest
import torch

from checks.simulated.gpu import SimulatedGPU
from kernels import timing
from kernels.runtime import INTERPRETED
from kernels.timing import CudaGPU, time_us


def test_every_time_is_the_true_one_whatever_the_gpu_does():
    gpu = SimulatedGPU(launch_us=8, wake_us=200)
    sides = {"short": gpu.kernel("short", {"x": 4e6}, compile_us=3e5),
             "cached": gpu.kernel("cached", {"x": 4e6, "w": 30e6}, {"y": 4e6}, compile_us=2e5),
             "large": gpu.kernel("large", {"z": 400e6}),
             "arithmetic": gpu.kernel("arithmetic", {"x": 4e6}, flops=80e9)}
    times = time_us(sides, gpu, repeats=7, warmup=2)
    assert list(times) == list(sides)
    for name, side in sides.items():
        assert times[name] == pytest.approx([side.cold_us] * 7)
        assert side.calls == 9


def test_left_to_itself_it_takes_fifty_calls_after_five():
    gpu = SimulatedGPU()
    side = gpu.kernel("side", {"x": 4e6})
    (times,) = time_us({"side": side}, gpu).values()
    assert (len(times), side.calls) == (50, 55)


def test_the_sides_take_turns_so_that_a_hot_gpu_slows_both():
    gpu = SimulatedGPU(sag=0.3, heat_us=5000)
    one, other = (gpu.kernel(name, flops=160e9) for name in ("one", "other"))
    times = {name: statistics.median(raw) for name, raw in time_us({"one": one, "other": other}, gpu, repeats=30).items()}
    assert times["one"] == pytest.approx(times["other"], rel=0.01)
    assert times["one"] > 1.1 * one.cold_us


def test_what_does_nothing_or_hides_its_work_takes_no_time():
    gpu = SimulatedGPU()
    honest = gpu.kernel("honest", {"x": 40e6})
    elsewhere = gpu.kernel("elsewhere", {"x": 40e6}, stream=1)
    first_only = gpu.kernel("first only", {"x": 40e6})
    times = time_us({"honest": honest, "elsewhere": elsewhere, "kept": lambda: first_only.calls or first_only()}, gpu)
    assert min(times["honest"]) == pytest.approx(honest.cold_us)
    assert max(times["elsewhere"]) == max(times["kept"]) == 0  # below what the bytes allow: `checks` refuses such a time


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_without_a_gpu_there_is_no_timer():
    with pytest.raises(RuntimeError, match="no speed to measure"):
        CudaGPU()


def test_what_is_asked_of_a_gpu_and_in_which_units(monkeypatch):
    asked = []

    class Event:
        def __init__(self, enable_timing):
            asked.append(("event", enable_timing))

        def record(self):
            asked.append(("record", self))

        def elapsed_time(self, later):
            return 0.25 if later is not self else 0  # milliseconds

    class Flushed:
        def zero_(self):
            asked.append("flushed")

    def empty(numbers, dtype, device):
        asked.append((numbers * dtype.itemsize, device))
        return Flushed()

    monkeypatch.setattr(timing, "INTERPRETED", False)
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: asked.append("synchronized"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: asked.append(("sleeps", cycles)))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 3.5)
    gpu = CudaGPU()
    assert asked == [(timing.FLUSH_BYTES, "cuda")] and timing.FLUSH_BYTES > 2 * 60e6  # caches are of up to 60 MB
    assert gpu.host_us() == 3.5e6
    asked.clear()
    start, stop = gpu.event(), gpu.event()
    stop.record()
    assert asked == [("event", True), ("event", True), ("record", stop._event)]
    assert start.elapsed_us(stop) == 250
    asked.clear()
    gpu.flush_l2()
    gpu.synchronize()
    assert asked == [("sleeps", timing.SLEEP_CYCLES), "flushed", "synchronized"]


@pytest.mark.skipif(INTERPRETED, reason="there is no GPU")
def test_on_a_gpu_a_longer_copy_takes_longer_and_early_raises():
    gpu = CudaGPU()
    short, long = (torch.empty(n, dtype=torch.int8, device="cuda") for n in (1 << 20, 1 << 28))
    times = time_us({"short": short.clone, "long": long.clone}, gpu, repeats=20)
    assert 0 < statistics.median(times["short"]) < statistics.median(times["long"])
    start, stop = gpu.event(), gpu.event()
    start.record()
    for _ in range(200):
        gpu.flush_l2()
    stop.record()
    with pytest.raises(RuntimeError):
        start.elapsed_us(stop)
    gpu.synchronize()
    assert start.elapsed_us(stop) > 0
