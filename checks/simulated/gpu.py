"""A GPU that is only a model: its times are exact, known beforehand and the same on every machine.

A timer cannot be judged on a real GPU, for nobody knows the true time there. Here it is known: `SimulatedKernel.cold_us`.
The model has what makes real measurements go wrong, each with one number: launches that do not wait, compilation, an L2
cache, streams, a clock that wakes up slowly and sags under load. Kernels in different streams do not slow each other.

`event()`, `synchronize()` and `flush_l2()` are those of `kernels.timing.CudaGPU`.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Span:
    """Something that took from `start_us` to `end_us` in a lane, "host" or "stream 0"; an event takes no time."""

    lane: str
    kind: str  # "launch", "compile", "synchronize"; on the device "kernel", "flush", "event"
    name: str
    start_us: float
    end_us: float


@dataclass
class SimulatedKernel:
    """A kernel of a SimulatedGPU; calling it launches it. `reads` and `writes` are bytes by the buffer's name."""

    gpu: "SimulatedGPU" = field(repr=False)
    name: str
    reads: dict[str, float]
    writes: dict[str, float]
    flops: float = 0.0
    compile_us: float = 0.0
    stream: int = 0
    kind: str = field(default="kernel", repr=False)
    calls: int = 0

    def __call__(self) -> None:
        self.gpu.launch(self)

    @property
    def cold_us(self) -> float:
        """Its true time: at the full clock, with none of its buffers in the L2 cache."""
        moved = sum(self.reads.values()) + sum(self.writes.values())
        return self.gpu.start_us + max(moved / (1e3 * self.gpu.gb_per_s), self.flops / (1e6 * self.gpu.tflops))


class SimulatedEvent:
    """A mark in a stream of a SimulatedGPU."""

    def __init__(self, gpu: "SimulatedGPU", stream: int = 0):
        self._gpu, self._stream = gpu, stream
        self._at_us: float | None = None

    def record(self) -> None:
        """Queue the mark behind what was launched so far in its stream."""
        self._at_us = self._gpu.mark(self._stream)

    def elapsed_us(self, later: "SimulatedEvent") -> float:
        """Microseconds from this mark to `later`. Raises RuntimeError unless the host knows that both have passed."""
        start_us, stop_us = self._passed_us(), later._passed_us()
        return stop_us - start_us

    def _passed_us(self) -> float:
        if self._at_us is None:
            raise RuntimeError("this event was never recorded")
        if self._at_us > self._gpu.host_us():
            raise RuntimeError("the GPU has not reached this event yet: synchronize before you ask for its time")
        return self._at_us


class SimulatedGPU:
    """A GPU and the host that launches its kernels. A kernel takes `start_us` and then the slower of traffic and arithmetic.

    launch_us        what a launch costs the host; `blocking` makes the host wait for the kernel too
    synchronize_us   what waiting costs the host beyond the wait itself
    gb_per_s, tflops the roofs of memory and arithmetic; l2_gb_per_s holds for buffers that lie in the L2 cache
    l2_bytes         the cache throws out the buffer not used for the longest time; a larger buffer flushes it
    wake_us          work after which an idle GPU reaches its full clock; until then it has `idle_clock` of it
    sag, heat_us     share of the clock that is lost under steady arithmetic, and how long that takes to build up
    """

    def __init__(self, *, launch_us=5.0, blocking=False, synchronize_us=2.0, start_us=2.0, gb_per_s=4000.0, tflops=800.0,
                 l2_bytes=50e6, l2_gb_per_s=12000.0, wake_us=0.0, idle_clock=0.5, sag=0.0, heat_us=2000.0):
        self.launch_us, self.blocking, self.synchronize_us, self.start_us = launch_us, blocking, synchronize_us, start_us
        self.gb_per_s, self.tflops, self.l2_bytes, self.l2_gb_per_s = gb_per_s, tflops, l2_bytes, l2_gb_per_s
        self.wake_us, self.idle_clock, self.sag, self.heat_us = wake_us, idle_clock, sag, heat_us
        self.log: list[Span] = []
        self._now_us = 0.0
        self._free_us: dict[int, float] = {}  # by stream: when it will have done what was launched
        self._cached: OrderedDict[str, float] = OrderedDict()  # buffers in the L2 cache, the oldest first
        self._busy_us = self._heat = self._heat_at_us = 0.0
        self._flush = SimulatedKernel(self, "flush", {}, {"the flush buffer": 256e6}, kind="flush")

    def host_us(self) -> float:
        """The host's clock, as `time.perf_counter` gives it on a real host."""
        return self._now_us

    def event(self, stream: int = 0) -> SimulatedEvent:
        """A new event, not yet recorded."""
        return SimulatedEvent(self, stream)

    def synchronize(self) -> None:
        """Let the host wait until every stream has done what was launched."""
        done = max(self._free_us.values(), default=0.0)
        self._host("synchronize", "", max(done - self._now_us, 0.0) + self.synchronize_us)

    def flush_l2(self) -> None:
        """Queue a write of more than the L2 cache holds, so that what it held is gone."""
        self._flush()

    @property
    def flush_us(self) -> float:
        """How long the GPU takes to flush its cache."""
        return self._flush.cold_us

    def kernel(self, name: str, reads: dict[str, float] | None = None, writes: dict[str, float] | None = None,
               **numbers) -> SimulatedKernel:
        """A kernel: bytes read and written by buffer, and `flops`, `compile_us`, `stream`."""
        return SimulatedKernel(self, name, reads or {}, writes or {}, **numbers)

    def launch(self, kernel: SimulatedKernel) -> None:
        """Queue `kernel` in its stream; the host goes on when the launch is made."""
        if kernel.calls == 0 and kernel.compile_us:
            self._host("compile", kernel.name, kernel.compile_us)
        kernel.calls += 1
        self._host("launch", kernel.name, self.launch_us)
        start = max(self._now_us, self._free_us.get(kernel.stream, 0.0))
        end = start + self._duration_us(kernel, start)
        self._free_us[kernel.stream] = end
        self.log.append(Span(f"stream {kernel.stream}", kernel.kind, kernel.name, start, end))
        if self.blocking:
            self._now_us = end

    def mark(self, stream: int) -> float:
        """When the GPU passes a mark that is queued now."""
        at = max(self._now_us, self._free_us.get(stream, 0.0))
        self.log.append(Span(f"stream {stream}", "event", "", at, at))
        return at

    def _host(self, kind: str, name: str, us: float) -> None:
        self.log.append(Span("host", kind, name, self._now_us, self._now_us + us))
        self._now_us += us

    def _duration_us(self, kernel: SimulatedKernel, start: float) -> float:
        self._heat *= math.exp(-max(start - self._heat_at_us, 0.0) / self.heat_us)  # it cools while it waits
        clock = (1 - self.sag * self._heat) * (self.idle_clock if self._busy_us < self.wake_us else 1)
        memory = sum(self._traffic_us(name, size) for part in (kernel.reads, kernel.writes) for name, size in part.items())
        arithmetic = kernel.flops / (1e6 * self.tflops * clock)
        duration = self.start_us + max(memory, arithmetic)
        if duration:
            power = arithmetic / duration
            self._heat = power + (self._heat - power) * math.exp(-duration / self.heat_us)
        self._heat_at_us, self._busy_us = start + duration, self._busy_us + duration
        return duration

    def _traffic_us(self, buffer: str, size: float) -> float:
        """The time to read or write a buffer, which then lies in the cache if it fits."""
        rate = self.l2_gb_per_s if self._cached.get(buffer, 0.0) >= size else self.gb_per_s
        self._cached[buffer] = size
        self._cached.move_to_end(buffer)
        while sum(self._cached.values()) > self.l2_bytes:
            self._cached.popitem(last=False)
        return size / (1e3 * rate)
