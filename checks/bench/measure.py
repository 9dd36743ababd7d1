"""The one timer's results, and what keeps them honest: medians and spread of `kernels.timing`'s raw times.

    time_us             functions side by side, each call alone, the L2 cache flushed
    time_in_graphs_us   the same inside CUDA graphs, the weights rotated: for work that is shorter than its launches

Both refuse a time that means nothing: calls that differ too much, calls that did their work elsewhere or not at all, and
Triton's interpreter, whose times are never speeds.
"""

import contextlib
import math
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from kernels import timing

WIDEST = {"eager": 0.4, "idle": 1.5, "graph": 0.2, "host": 1.5}
"""The most that the middle 80 % of calls may spread, as a part of the median. From an idle GPU, the CPU's own spread is
in the time."""
CALLS_OF_THE_HOST = 20  # fewer than a stream has room for: no call waits for the GPU
POLL_S = 1.0
SEEN_ELSEWHERE = 0.01
"""The part of a call's time that may be left when its stream is done: after work of 20 ms, waiting for all streams
takes 50 µs longer than when idle, with nothing in another."""
RESOLUTION_US = 2.0  # a spread below it says nothing: events have a resolution of half a microsecond


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call: the median, and the bounds that hold the middle 80 % of calls."""

    median_us: float
    low_us: float
    high_us: float

    @property
    def spread(self) -> float:
        return (self.high_us - self.low_us) / self.median_us


class Refused(RuntimeError):
    """Times that mean nothing. `reasons`: why, by side; `timings`: those of the other sides."""

    def __init__(self, reasons: dict[str, str], timings: dict[str, Timing]):
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        self.reasons, self.timings = reasons, timings


class MeasuringGPU(timing.CudaGPU):
    """A CudaGPU as a mode of `checks.bench.results` wants it: what happens before each timed call differs."""

    def __init__(self, mode: str = "eager"):
        super().__init__()
        self.mode = mode

    def flush_l2(self) -> None:
        """Flush the cache; then the GPU is still busy (eager, graph), or idle (idle), when the call is queued.

        Eager and idle rest as long before it: what is limited by power runs faster after a rest.
        """
        if self.mode == "graph":
            self._flush.zero_()
        else:
            super().flush_l2()
        if self.mode == "idle":
            self.synchronize()

    def wait(self) -> None:
        """Wait for the current stream alone."""
        torch.cuda.current_stream().synchronize()

    def capture(self, calls: Callable[[], object]) -> tuple[Callable[[], None], object]:
        """A function that replays a CUDA graph of `calls()`, and what the captured calls returned."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            calls()  # compiles, and makes the libraries' workspaces
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = calls()
        return graph.replay, result


def time_us(sides: dict[str, Callable[[], object]], repeats: int = 20, warmup: int = 3, mode: str = "eager",
            gpu=None) -> dict[str, Timing]:
    """Time the functions by name, in turns; mode "eager", "idle" or "host", as `checks.bench.results` describes them.

    Spread too wide is tried again with twice and four times the repeats. Raises RuntimeError where there is no GPU, and
    Refused where some times mean nothing.
    """
    gpu = gpu or MeasuringGPU(mode)
    reasons = {name: reason for name, side in sides.items() if (reason := _elsewhere(side, gpu))}
    honest = {name: side for name, side in sides.items() if name not in reasons}
    for attempt in range(3):
        timer = _host_us if mode == "host" else timing.time_us
        timings = _timings(timer(honest, gpu, repeats << attempt, warmup if attempt == 0 else 1), WIDEST[mode])
        if not any(doubt for _, doubt in timings.values()):
            break
    return _without_doubt(timings, reasons)


def _host_us(sides: dict[str, Callable[[], object]], gpu, repeats: int, warmup: int) -> dict[str, list[float]]:
    """Microseconds of the CPU for a call of each side, in turns, each time the mean of several that it waits for none of."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-warmup, repeats):
        for name, side in sides.items():
            gpu.synchronize()
            before = gpu.host_us()
            for _ in range(CALLS_OF_THE_HOST):
                side()
            if turn >= 0:
                found[name].append((gpu.host_us() - before) / CALLS_OF_THE_HOST)
    gpu.synchronize()
    return found


def time_in_graphs_us(sides: dict[str, Callable[[int], object]], copies: int, repeats: int = 20, gpu=None,
                      check: Callable[[str, object], None] = lambda name, result: None) -> dict[str, Timing]:
    """Time the functions by name inside CUDA graphs of 64 calls or more, replayed in turns.

    A function is called with 0, 1 … copies - 1, 0, …: the number of the operands to use, together more than the cache
    holds. `check` gets what the last call of each graph wrote, over what was made unusable before. Raises as `time_us`.
    """
    gpu = gpu or MeasuringGPU("graph")
    calls = copies * math.ceil(64 / copies)
    replays, reasons = {}, {}
    for name, side in sides.items():
        def all_calls(side=side):
            for i in range(calls):
                result = side(i % copies)  # freed by the next, and its memory used again, as in a model
            return result
        try:
            replays[name], result = gpu.capture(all_calls)
        except Exception as error:
            reasons[name] = f"it cannot be captured in a CUDA graph: {error}"
            continue
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, torch.Tensor):
                tensor.fill_(-128 if tensor.dtype is torch.int8 else float("nan"))
        replays[name]()
        gpu.synchronize()
        check(name, result)
    for attempt in range(3):
        raw = timing.time_us(replays, gpu, repeats << attempt, warmup=2)
        timings = _timings({name: [us / calls for us in times] for name, times in raw.items()}, WIDEST["graph"])
        if not any(doubt for _, doubt in timings.values()):
            break
    return _without_doubt(timings, reasons)


def _timings(raw: dict[str, list[float]], widest: float) -> dict[str, tuple[Timing, str]]:
    """Each side's timing, and why it is not to be believed, or an empty string."""
    timings = {}
    for name, times in raw.items():
        t = Timing(*timing.median_and_spread(times, most=math.inf))
        timings[name] = t, _doubt(t, min(times), widest)
    return timings


def _doubt(t: Timing, fastest: float, widest: float) -> str:
    if t.median_us <= 0:
        return "it took no time, so it did nothing"
    if fastest < t.median_us / 2:
        return f"one call took {fastest:.1f} µs and the median is {t.median_us:.1f}: did each call do its work?"
    if t.spread > widest and t.high_us - t.low_us > RESOLUTION_US:
        return (f"the middle 80 % of calls took {t.low_us:.1f} to {t.high_us:.1f} µs, a spread of {t.spread:.0%} of the "
                f"median (at most {widest:.0%} is accepted): is something else running on this GPU?")
    return ""


def _without_doubt(timings: dict[str, tuple[Timing, str]], reasons: dict[str, str]) -> dict[str, Timing]:
    reasons = reasons | {name: doubt for name, (_, doubt) in timings.items() if doubt}
    good = {name: found for name, (found, doubt) in timings.items() if not doubt}
    if reasons:
        raise Refused(reasons, good)
    return good


def _elsewhere(side: Callable[[], object], gpu) -> str:
    """Why events around the call would miss its work: it goes on when the call's own stream is done."""
    left = []
    for _ in range(3):
        gpu.synchronize()
        before = gpu.host_us()
        gpu.synchronize()
        idle = gpu.host_us() - before
        start = gpu.host_us()
        side()
        gpu.wait()
        before = gpu.host_us()
        gpu.synchronize()
        left.append(gpu.host_us() - before - 5 * idle)
        seen = before - start
    if min(left) > max(20, SEEN_ELSEWHERE * seen):
        return f"{min(left):.0f} µs of its work go on in another stream when its own is done, and no event there sees them"
    return ""


class Monitor:
    """Clock, power and temperature of the GPU, asked of nvidia-smi once a second until the `with` block ends.

    `since(t)` gives what was read after the moment t of `time.monotonic()`: least, median and largest; None where
    nvidia-smi is not to be had.
    """

    FIELDS = {"sm_mhz": "clocks.sm", "memory_mhz": "clocks.mem", "power_w": "power.draw", "temperature_c": "temperature.gpu"}

    def __enter__(self):
        self.readings: list[tuple[float, list[float]]] = []
        self._end = threading.Event()
        if shutil.which("nvidia-smi"):
            threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self) -> None:
        query = ["nvidia-smi", f"--query-gpu={','.join(self.FIELDS.values())}", "--format=csv,noheader,nounits", "--id=0"]
        while not self._end.wait(POLL_S):
            with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):  # ValueError: "[N/A]"
                said = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
                self.readings.append((time.monotonic(), [float(value) for value in said.split(",")]))

    def since(self, moment: float) -> dict[str, list[float]] | None:
        found = [values for at, values in self.readings if at >= moment]
        if not found:
            return None
        return {name: [min(values), statistics.median(values), max(values)]
                for name, values in zip(self.FIELDS, zip(*found, strict=True), strict=True)}

    def __exit__(self, *_):
        self._end.set()
