"""Simulated GPUs that tell right measurements from wrong ones: each has one thing that goes wrong on real GPUs.

A scenario is a GPU, two sides to compare on it, and how often they are to be called. The truth is known for each.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from checks.judge.exercise import WrongAnswer
from checks.simulated.gpu import SimulatedGPU, SimulatedKernel

PERFECT = {"launch_us": 0.0, "blocking": True, "synchronize_us": 0.0, "start_us": 0.0, "l2_bytes": 0.0}
STEADY = 0.03  # how well turns even out a clock that sags; sides timed one after the other are off by more than 0.1


class Side:
    """A function to time: call number i launches kernel i of its kernels, in a circle."""

    def __init__(self, kernels: list[SimulatedKernel]):
        self.kernels, self.calls = kernels, 0

    def __call__(self) -> None:
        self.kernels[self.calls % len(self.kernels)]()
        self.calls += 1

    def true_times(self, warmup: int, repeats: int) -> list[float]:
        """Microseconds of each of `repeats` calls after `warmup`, from a cold cache and at the full clock."""
        return [self.kernels[number % len(self.kernels)].cold_us for number in range(warmup, warmup + repeats)]


@dataclass(frozen=True)
class Scenario:
    """`first` and `second` are the arguments of `SimulatedGPU.kernel` for each kernel of the two sides."""

    first: tuple[dict, ...]
    second: tuple[dict, ...]
    gpu: dict = field(default_factory=dict)
    repeats: int = 6
    warmup: int = 3
    steady: bool = True  # whether the clock is, so that every time is known exactly
    lie: str = ""  # what a benchmark does that is wrong here; for a timer, what to tell the student

    def scaled(self, by: float) -> "Scenario":
        """The same with `by` times the bytes and the arithmetic."""
        def more(kernel: dict) -> dict:
            moved = {way: {name: by * size for name, size in kernel[way].items()}
                     for way in ("reads", "writes") if way in kernel}
            return kernel | moved | ({"flops": by * kernel["flops"]} if "flops" in kernel else {})

        return replace(self, first=tuple(map(more, self.first)), second=tuple(map(more, self.second)))

    def make(self) -> tuple[SimulatedGPU, Side, Side]:
        gpu = SimulatedGPU(**self.gpu)
        first, second = (Side([gpu.kernel(f"{name} {number}", **kernel) for number, kernel in enumerate(kernels)])
                         for name, kernels in (("first", self.first), ("second", self.second)))
        return gpu, first, second

    def true_times(self) -> tuple[list[float], list[float]]:
        """Microseconds of the timed calls of the two sides, from cold caches and at the full clock."""
        _, first, second = self.make()
        return first.true_times(self.warmup, self.repeats), second.true_times(self.warmup, self.repeats)


def _read(num_bytes: float, name: str = "x", **numbers) -> dict:
    return {"reads": {name: num_bytes}, **numbers}


TIMERS = {
    "launches that do not wait": Scenario(
        (_read(160e6),), (_read(320e6),),
        lie="Nothing but the call may lie between its two marks: a new event right before it, another right after it."),
    "inputs that fit in the cache": Scenario(
        (_read(24e6, "x"),), (_read(16e6, "w"),),
        lie="Some of the input came from the cache: flush it before each timed call, then record `start`."),
    "kernels shorter than their launches": Scenario(
        (_read(4e6),), (_read(8e6),), {"launch_us": 9.0},
        lie="A launch is in the time: the flush must keep the GPU busy while the call is queued."),
    "kernels compiled at their first call": Scenario(
        (_read(160e6, compile_us=3e5),), (_read(80e6, compile_us=2e5),),
        lie="The first call of a kernel compiles it: every side has its `warmup` calls before one is timed."),
    "a clock that wakes up with work": Scenario(
        ({"flops": 32e9},), ({"flops": 32e9},), {"wake_us": 300.0},
        lie="The clock was still low: every side has all its `warmup` calls before one is timed."),
    "two sides that read the same input": Scenario(
        (_read(40e6),), (_read(40e6),),
        lie="One side finds in the cache what the other has read: flush before each timed call."),
    "calls of different lengths": Scenario(
        (_read(80e6, "a"), _read(240e6, "b")), (_read(160e6, "c"),),
        lie="Here every other call of `first` is longer, so each must count once and in its place: `warmup` calls of each "
            "side, then `repeats` calls with a pair of new events each."),
    "a clock that sags under load": Scenario(
        ({"flops": 160e9},), ({"flops": 160e9},), {"sag": 0.4, "heat_us": 6000.0}, repeats=12, steady=False,
        lie="The two did not meet the same clock: warm up all sides, and only then time them, each once in every round."),
}

BENCHMARKS = {
    "a perfect GPU, 10 calls": Scenario(
        (_read(320e6),), (_read(160e6),), PERFECT, repeats=10, lie="not divided by the number of calls"),
    "a perfect GPU, 1 call, and it writes": Scenario(
        (_read(160e6),), (_read(80e6) | {"writes": {"y": 80e6}},), PERFECT, repeats=1, lie="the bytes written are left out"),
    "the same function on both sides": Scenario(
        (_read(160e6),), (_read(160e6),), PERFECT | {"synchronize_us": 20.0}, repeats=1,
        lie="an unfair baseline, or the waiting timed too"),
    "launches that do not wait": Scenario(
        (_read(320e6),), (_read(160e6),), PERFECT | {"blocking": False, "launch_us": 5.0}, repeats=1,
        lie="a launch taken for the work"),
    "kernels compiled at their first call": Scenario(
        (_read(320e6, compile_us=900.0),), (_read(160e6, compile_us=90_000.0),), PERFECT, repeats=1,
        lie="compilation in the time"),
    "a clock that wakes up with work": Scenario(
        ({"flops": 64e9, **_read(4e6)},), ({"flops": 32e9, **_read(4e6)},), PERFECT | {"wake_us": 500.0}, repeats=1,
        warmup=5, lie="no warm-up"),
    "both sides read an input that fits in the cache": Scenario(
        ({"reads": {"x": 16e6, "w": 16e6}},), (_read(16e6),), PERFECT | {"l2_bytes": 50e6}, repeats=1, lie="a warm cache"),
    "the same function, a clock that sags under load": Scenario(
        ({"flops": 160e9, **_read(4e6)},), ({"flops": 160e9, **_read(4e6)},), PERFECT | {"sag": 0.4, "heat_us": 6000.0},
        repeats=12, steady=False, lie="one side after the other"),
}


def _interrupted(us: float) -> tuple[dict, ...]:
    """Eight calls to warm up, and ten whose median is `us`, one of them much longer."""
    parts = [90.0] * 8 + [29, 30, 31, 30, 32, 1200, 28, 30, 29.5, 30.5]
    return tuple({"flops": 8e8 * us * part / 30, **_read(4e6)} for part in parts)


MANY_CALLS = {
    "a perfect GPU, interrupted once in `repeats` calls": Scenario(
        _interrupted(60.0), _interrupted(30.0), PERFECT, repeats=10, warmup=8,
        lie="a mean or the smallest time in place of the median, or other numbers of calls than `repeats` and `warmup`"),
}
_BENCHMARKS = BENCHMARKS | MANY_CALLS


def _plain(side: Side) -> Callable[[], None]:
    """The side as a function: what it knows of its true times is nothing to read."""
    def call() -> None:
        side()
    return call


def try_timer(time_us: Callable, scenario: str, scale: float = 1.0) -> tuple[float, float, float, int, float]:
    """What a timer says: mean times of the two sides, their quotient, how many calls of each it timed, and the first."""
    made = TIMERS[scenario].scaled(scale)
    gpu, first, second = made.make()
    sides = {"first": first, "second": second}
    times = time_us({name: _plain(side) for name, side in sides.items()}, gpu, made.repeats, made.warmup)
    if not isinstance(times, dict):
        raise WrongAnswer(f"it returns {times!r}; expected a dict with the times of each side."
                          + (" Is a `return` missing?" if times is None else ""))
    if list(times) != list(sides):
        raise WrongAnswer(f"the result has the names {list(times)}; expected those of the sides, {list(sides)}.")
    for name, raw in times.items():
        if not isinstance(raw, list) or not raw or not all(isinstance(us, int | float) for us in raw):
            raise WrongAnswer(f"for '{name}' there is {raw!r}; expected a list with a number for each call.")
    means = [statistics.fmean(times[name]) for name in sides]
    counts = [min(len(times[name]), side.calls) for name, side in sides.items()]
    return *means, means[0] / means[1] if means[1] else float("nan"), min(counts), times["first"][0]


def explain_timer(outcome) -> str | None:
    """What is likely wrong with a timer that says these numbers."""
    made, said = TIMERS[outcome.inputs["scenario"]].scaled(outcome.inputs["scale"]), outcome.outputs[:2]
    truth = [want.value for want in outcome.expected[:2]]
    flush_us = made.make()[0].flush_us
    for factor, size in ((1e-3, "small"), (1e3, "large")):
        if math.isclose(said[0] / truth[0], factor, rel_tol=0.1):
            return f"That is 1,000 times too {size}: `elapsed_us` gives microseconds, and microseconds are wanted."
    if outcome.output == 3:
        return "Timed are `repeats` calls of each side, and the `warmup` calls before them do not count."
    if outcome.output == 4:
        return "The times stand in the order of the calls."
    if all(math.isclose(us - true, flush_us, abs_tol=0.5) for us, true in zip(said, truth, strict=True)):
        return "The flush is in the time. Flush first, then record `start`: what is queued between the two events is timed."
    if math.isclose(*said) and not math.isclose(*truth):
        return ("The two sides have the same time, that of one call. Recording an event again moves it: make new events for "
                "each call.")
    return made.lie


def try_benchmark(benchmark: Callable, scenario: str, scale: float = 1.0):
    """What a benchmark says of the second side against the first: GB/s and speed-up."""
    made = _BENCHMARKS[scenario].scaled(scale)
    gpu, old, new = made.make()
    return benchmark(_plain(old), _plain(new), gpu, *bytes_of(made), made.repeats, made.warmup)


def bytes_of(scenario: Scenario) -> tuple[float, float]:
    """Bytes that the second side reads and writes in a call."""
    kernel = scenario.second[0]
    return sum(kernel["reads"].values()), sum(kernel.get("writes", {}).values())


def true_benchmark(scenario: str, scale: float = 1.0) -> tuple[float, float]:
    """The true GB/s of the second side, at the full clock, and its true speed-up over the first."""
    made = _BENCHMARKS[scenario].scaled(scale)
    old_us, new_us = map(statistics.median, made.true_times())
    return sum(bytes_of(made)) / new_us / 1e3, old_us / new_us


def explain_benchmark(outcome) -> str | None:
    """What is likely wrong with a benchmark that says these numbers."""
    if not outcome.outputs[0] > 0:
        return None
    made = _BENCHMARKS[outcome.inputs["scenario"]].scaled(outcome.inputs["scale"])
    said, truth = outcome.outputs[0], outcome.expected[0].value

    def off_by(factor: float) -> bool:
        return math.isclose(said / truth, factor, rel_tol=0.01)

    if made.repeats > 1 and off_by(1 / made.repeats):
        return "That is the time of all calls together: divide it by `repeats`, or take the median of the calls."
    if made.repeats > 1 and off_by(made.repeats):
        return "The GB/s are too many by a factor of `repeats`: bytes and time are those of one call."
    if off_by(1e-3) or off_by(1e3):
        return "The GB/s are off by a factor of 1,000: bytes per microsecond are MB/s."
    if math.isclose(sum(bytes_of(made)) / 1e3 * (1 / said - 1 / truth), made.make()[0].flush_us, rel_tol=0.01):
        return "The flush is in the time. Flush first, then record `start`: what is queued between the two events is timed."
    return f"This GPU is there for one lie: {made.lie}."
