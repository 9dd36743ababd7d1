"""The timer: how long a function takes on the GPU, fairly beside others.

Each call is timed by device events after the L2 cache was flushed, the functions take turns so that a change of clock or
power meets them all, and the median of many calls counts.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from kernels import timing


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call: the median, and the bounds that hold the middle 80 % of calls."""

    median_us: float
    low_us: float
    high_us: float


def time_us(sides: dict[str, Callable[[], object]], repeats: int = 50, warmup: int = 5) -> dict[str, Timing]:
    """Time the functions by name, in turns. Raises RuntimeError where there is no GPU: interpreted times are no speeds."""
    return {name: _timing(times) for name, times in timing.time_us(sides, timing.CudaGPU(), repeats, warmup).items()}


def _timing(times: list[float]) -> Timing:
    times = sorted(times)
    tenth = len(times) // 10
    return Timing(statistics.median(times), times[tenth], times[-1 - tenth])
