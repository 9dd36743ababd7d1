"""How long a function takes on the GPU, and what may be said of it.

  time_us            raw microseconds of each call: device events, a flushed L2 cache, the sides in turns.
  median_and_spread  one number for many calls, or a refusal.
  benchmark          GB/s and speed-up of one function over another.
  CudaGPU            what a timer needs of this machine's GPU. `checks/simulated/gpu.py` offers the same of a model.
"""

import statistics
import time
from collections.abc import Callable

import torch

from kernels import cost
from kernels.runtime import INTERPRETED

FLUSH_BYTES = 256_000_000  # several times an L2 cache: an H100's has 50 MB (NVIDIA, "Hopper Tuning Guide")
SLEEP_CYCLES = 1_000_000  # about half a millisecond: the host queues any call meanwhile, so the GPU never waits for a launch


def time_us(sides: dict[str, Callable], gpu,
            repeats: int = 50, warmup: int = 5) -> dict[str, list[float]]:
    """Microseconds of each of `repeats` calls of every side, by name, in the order of the calls.

    Before them, `warmup` calls of each side do not count. The L2 cache is flushed before each
    timed call, and the sides take turns. `gpu` is a CudaGPU or a SimulatedGPU.
    """
    for call in sides.values():
        for _ in range(warmup):
            call()
    events = {name: [] for name in sides}
    for _ in range(repeats):
        for name, call in sides.items():
            start, stop = gpu.event(), gpu.event()
            gpu.flush_l2()  # keeps the GPU busy, too, while the call is queued: no launch is timed
            start.record()
            call()
            stop.record()
            events[name].append((start, stop))
    gpu.synchronize()
    return {name: [start.elapsed_us(stop) for start, stop in pairs] for name, pairs in events.items()}


def median_and_spread(times_us: list[float], most: float = 0.3) -> tuple[float, float, float]:
    """(median, low, high) of the times of many calls, in any order and left as they are.

    `low` and `high` are the first and the last time when the calls are sorted and a tenth of
    them, rounded down, is cut off at either end. Raises RuntimeError where high - low is more
    than `most` times the median: the GPU was not steady, so the times mean nothing.
    """
    ascending, tenth = sorted(times_us), len(times_us) // 10
    median, low, high = statistics.median(ascending), ascending[tenth], ascending[-1 - tenth]
    if high - low > most * median:
        raise RuntimeError(f"from {low:.2f} to {high:.2f} us around {median:.2f} us: too far apart")
    return median, low, high


def benchmark(old: Callable, new: Callable, gpu, bytes_read: int, bytes_written: int,
              repeats: int, warmup: int) -> tuple[float, float]:
    """(GB/s of `new`, how many times as fast it is as `old`): medians of `repeats` calls each.

    The cache is cold before each timed call, `warmup` calls of each do not count, old and new
    take turns. `new` reads `bytes_read` and writes `bytes_written` in one call.
    """
    times = time_us({"old": old, "new": new}, gpu, repeats, warmup)
    old_us, new_us = statistics.median(times["old"]), statistics.median(times["new"])
    return cost.achieved_gb_per_s(bytes_read + bytes_written, new_us), old_us / new_us


class CudaEvent:
    """A mark in the GPU's current stream; the GPU notes the time when it gets there."""

    def __init__(self) -> None:
        self._event = torch.cuda.Event(enable_timing=True)

    def record(self) -> None:
        """Queue the mark behind what was launched so far."""
        self._event.record()

    def elapsed_us(self, later: "CudaEvent") -> float:
        """Microseconds on the GPU's clock from this mark to `later`. Raises RuntimeError unless it has passed both."""
        return 1e3 * self._event.elapsed_time(later._event)


class CudaGPU:
    """The GPU of this machine. Raises RuntimeError where kernels are interpreted: interpreted times are no speeds."""

    def __init__(self) -> None:
        if INTERPRETED:
            raise RuntimeError("kernels are interpreted here, so there is no speed to measure: this needs a GPU")
        self._flush = torch.empty(FLUSH_BYTES // 4, dtype=torch.int32, device="cuda")

    def host_us(self) -> float:
        """Microseconds on the host's clock, from an arbitrary start."""
        return 1e6 * time.perf_counter()

    def event(self) -> CudaEvent:
        """A new event, not yet recorded."""
        return CudaEvent()

    def synchronize(self) -> None:
        """Wait until the GPU has done all that was launched, in every stream."""
        torch.cuda.synchronize()

    def flush_l2(self) -> None:
        """Queue a wait, in which a slow host too can queue what is timed, and a write of more than the L2 cache holds."""
        torch.cuda._sleep(SLEEP_CYCLES)
        self._flush.zero_()
