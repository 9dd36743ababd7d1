"""How long a function takes on the GPU, and what may be said of it.

  time_us      raw microseconds of each call: device events, a flushed L2 cache, the sides in turns.
  CudaGPU      what a timer needs of an NVIDIA GPU. `checks/simulated_gpu.py` offers the same, of a GPU that is a model.
"""

from collections.abc import Callable

import torch

from kernels.runtime import INTERPRETED

FLUSH_BYTES = 256_000_000  # more than the L2 cache of any GPU: an H100 has 50 MB, a B200 126 MB


def time_us(sides: dict[str, Callable], gpu, repeats: int = 50, warmup: int = 5) -> dict[str, list[float]]:
    """Microseconds of each of `repeats` calls of every side, by name, after `warmup` calls of each that do not count.

    The cache is flushed before each timed call, and the sides take turns. `gpu` is a CudaGPU or a SimulatedGPU.
    """
    for call in sides.values():
        for _ in range(warmup):
            call()
    events = {name: [] for name in sides}
    for _ in range(repeats):
        for name, call in sides.items():
            start, stop = gpu.event(), gpu.event()
            gpu.flush_l2()  # it also keeps the GPU busy while the call is queued, so that the launch is not timed
            start.record()
            call()
            stop.record()
            events[name].append((start, stop))
    gpu.synchronize()
    return {name: [start.elapsed_us(stop) for start, stop in pairs] for name, pairs in events.items()}


class CudaEvent:
    """A mark in the GPU's current stream; the GPU notes the time when it gets there."""

    def __init__(self):
        self._event = torch.cuda.Event(enable_timing=True)

    def record(self) -> None:
        """Queue the mark behind what was launched so far."""
        self._event.record()

    def elapsed_us(self, later: "CudaEvent") -> float:
        """Microseconds on the GPU's clock from this mark to `later`. Raises RuntimeError unless it has passed both."""
        return 1e3 * self._event.elapsed_time(later._event)


class CudaGPU:
    """The GPU of this machine. Raises RuntimeError where kernels are interpreted: interpreted times are no speeds."""

    def __init__(self):
        if INTERPRETED:
            raise RuntimeError("kernels are interpreted here, so there is no speed to measure: this needs a GPU")
        self._flush = torch.empty(FLUSH_BYTES // 4, dtype=torch.int32, device="cuda")

    def event(self) -> CudaEvent:
        """A new event, not yet recorded."""
        return CudaEvent()

    def synchronize(self) -> None:
        """Wait until the GPU has done all that was launched, in every stream."""
        torch.cuda.synchronize()

    def flush_l2(self) -> None:
        """Queue a write of more than the L2 cache holds, so that what it held is gone."""
        self._flush.zero_()
