"""Times of what ranks do together: all start at once, in CUDA graphs, and the slowest rank counts."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from checks.bench.measure import MeasuringGPU
from kernels import timing
from kernels.exchange import Group
from kernels.runtime import INTERPRETED

REPEATS = 20


class TogetherGPU(MeasuringGPU):
    """A rank's GPU: between the flush and the timed call all ranks meet, so that none waits in it for one that is late."""

    def __init__(self, group: Group):
        super().__init__("eager")
        self._group, self._tick = group, torch.zeros(1, device="cuda")

    def flush_l2(self) -> None:
        super().flush_l2()
        self._group.all_reduce(self._tick)


class Captured:
    """A call as a CUDA graph, and what it gives; without a GPU the call itself. The graphs are dropped with the object."""

    def __init__(self, call: Callable[[], torch.Tensor], gpu: MeasuringGPU | None):
        self._call = call
        self._replay: Callable[[], None] | None = None
        self._result: Any = None
        if gpu is not None:
            self._replay, self._result = gpu.capture(call)

    def __call__(self) -> torch.Tensor:
        if self._replay is None:
            return self._call()
        self._replay()
        return self._result


def gpu_of(group: Group) -> TogetherGPU | None:
    """What times a rank's work; None where there is no GPU."""
    return None if INTERPRETED else TogetherGPU(group)


def times(sides: Mapping[str, Callable[[], Any]], group: Group, gpu: TogetherGPU | None, alone: set[str],
          repeats: int = REPEATS) -> dict[str, dict[str, float]]:
    """median_us, low_us and high_us of each side, in turns: of the slower rank, and of the faster one for sides that a GPU
    does `alone`, which both do at once. Without a GPU nothing is timed."""
    if gpu is None:
        return {name: {} for name in sides}
    raw = timing.time_us(dict(sides), gpu, repeats, warmup=3)
    found = {}
    for name, mine in raw.items():
        sign = -1 if name in alone else 1
        both = sign * group.all_reduce(sign * torch.tensor(mine, device="cuda", dtype=torch.float64), "max")
        median, low, high = timing.median_and_spread(both.tolist(), most=math.inf)
        found[name] = {"median_us": median, "low_us": low, "high_us": high}
    return found
