"""The timer: how long a function takes on the GPU, fairly beside others.

Each call is timed by device events after the L2 cache was flushed, the functions take turns so that a change of clock or
power meets them all, and the median of many calls counts.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from kernels.runtime import INTERPRETED

FLUSH_BYTES = 256_000_000  # more than any GPU's L2 cache


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call: the median, and the bounds that hold the middle 80 % of calls."""

    median_us: float
    low_us: float
    high_us: float


def time_us(sides: dict[str, Callable[[], object]], repeats: int = 50, warmup: int = 5) -> dict[str, Timing]:
    """Time the functions by name, in turns. Raises RuntimeError where there is no GPU: interpreted times are no speeds."""
    if INTERPRETED:
        raise RuntimeError("kernels are interpreted here, so there is no speed to measure: this needs a GPU")
    flush = torch.empty(FLUSH_BYTES // 4, dtype=torch.int32, device="cuda")
    for side in sides.values():
        for _ in range(warmup):
            side()
    events = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            flush.zero_()  # it also keeps the GPU busy while the launch is queued, so the launch itself is not timed
            start.record()
            side()
            stop.record()
            events[name].append((start, stop))
    torch.cuda.synchronize()
    return {name: _timing([1e3 * start.elapsed_time(stop) for start, stop in pairs]) for name, pairs in events.items()}


def _timing(times: list[float]) -> Timing:
    times = sorted(times)
    tenth = len(times) // 10
    return Timing(statistics.median(times), times[tenth], times[-1 - tenth])
