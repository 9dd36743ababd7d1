"""Simulated GPUs that tell right measurements from wrong ones: each has one thing that goes wrong on real GPUs.

A scenario is a GPU, two sides to compare on it, and how often they are to be called. The truth is known for each.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from checks.exercise import WrongAnswer
from checks.simulated_gpu import SimulatedGPU, SimulatedKernel

PERFECT = {"launch_us": 0.0, "blocking": True, "synchronize_us": 0.0, "start_us": 0.0, "l2_bytes": 0.0}
STEADY = 0.03  # how well turns even out a clock that sags; sides timed one after the other are off by more than 0.1


class Side:
    """A function to time: call number i launches kernel i of its kernels, in a circle."""

    def __init__(self, kernels: list[SimulatedKernel]):
        self.kernels, self.calls = kernels, 0

    def __call__(self) -> None:
        self.kernels[self.calls % len(self.kernels)]()
        self.calls += 1

    @property
    def true_us(self) -> float:
        return statistics.fmean(kernel.cold_us for kernel in self.kernels)


@dataclass(frozen=True)
class Scenario:
    """`first` and `second` are the arguments of `SimulatedGPU.kernel` for each kernel of the two sides."""

    first: tuple[dict, ...]
    second: tuple[dict, ...]
    gpu: dict = field(default_factory=dict)
    repeats: int = 6
    warmup: int = 3
    steady: bool = True  # whether the clock is, so that every time is known exactly
    lie: str = ""

    def make(self) -> tuple[SimulatedGPU, Side, Side]:
        gpu = SimulatedGPU(**self.gpu)
        return gpu, *(Side([gpu.kernel(f"{name} {number}", **kernel) for number, kernel in enumerate(kernels)])
                      for name, kernels in (("first", self.first), ("second", self.second)))

    def true_times(self) -> tuple[float, float]:
        """Microseconds of the two sides, from cold caches and at the full clock."""
        _, first, second = self.make()
        return first.true_us, second.true_us


def _read(num_bytes: float, name: str = "x", **numbers) -> dict:
    return {"reads": {name: num_bytes}, **numbers}


TIMERS = {
    "launches that do not wait": Scenario((_read(160e6),), (_read(320e6),)),
    "inputs that fit in the cache": Scenario((_read(24e6, "x"),), (_read(16e6, "w"),)),
    "kernels shorter than their launches": Scenario((_read(4e6),), (_read(8e6),), {"launch_us": 9.0}),
    "kernels compiled at their first call": Scenario((_read(160e6, compile_us=3e5),), (_read(80e6, compile_us=2e5),)),
    "a clock that wakes up with work": Scenario(({"flops": 32e9},), ({"flops": 32e9},), {"wake_us": 300.0}),
    "two sides that read the same input": Scenario((_read(40e6),), (_read(40e6),)),
    "calls of different lengths": Scenario((_read(80e6, "a"), _read(240e6, "b")), (_read(160e6, "c"),)),
    "a clock that sags under load": Scenario(({"flops": 160e9},), ({"flops": 160e9},), {"sag": 0.4, "heat_us": 6000.0},
                                             repeats=12, steady=False),
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
    "inputs that fit in the cache": Scenario(
        (_read(32e6),), (_read(16e6, "codes"),), PERFECT | {"l2_bytes": 50e6}, lie="a warm cache"),
    "the same function, a clock that sags under load": Scenario(
        ({"flops": 160e9, **_read(4e6)},), ({"flops": 160e9, **_read(4e6)},), PERFECT | {"sag": 0.4, "heat_us": 6000.0},
        repeats=12, steady=False, lie="one side after the other"),
}


def try_timer(time_us: Callable, scenario: str) -> tuple[float, float, float, int]:
    """What a timer says: mean times of the two sides, their quotient, and how many calls of each it timed."""
    made = TIMERS[scenario]
    gpu, first, second = made.make()
    sides = {"first": first, "second": second}
    times = time_us(sides, gpu, made.repeats, made.warmup)
    if not isinstance(times, dict):
        raise WrongAnswer(f"it returns {times!r}; wanted is a dict with the times of each side."
                          + (" Is a `return` missing?" if times is None else ""))
    if list(times) != list(sides):
        raise WrongAnswer(f"the result has the names {list(times)}; wanted are those of the sides, {list(sides)}.")
    for name, raw in times.items():
        if not isinstance(raw, list) or not raw or not all(isinstance(us, int | float) for us in raw):
            raise WrongAnswer(f"for '{name}' there is {raw!r}; wanted is a list with a number for each call.")
    means = [statistics.fmean(times[name]) for name in sides]
    counts = [min(len(times[name]), side.calls) for name, side in sides.items()]
    return *means, means[0] / means[1] if means[1] else float("nan"), min(counts)


def try_benchmark(benchmark: Callable, scenario: str):
    """What a benchmark says of the second side against the first: GB/s and speed-up."""
    made = BENCHMARKS[scenario]
    gpu, old, new = made.make()
    return benchmark(old, new, gpu, *bytes_of(made), made.repeats, made.warmup)


def bytes_of(scenario: Scenario) -> tuple[float, float]:
    """Bytes that the second side reads and writes in a call."""
    (kernel,) = scenario.second
    return sum(kernel["reads"].values()), sum(kernel.get("writes", {}).values())


def true_benchmark(scenario: str) -> tuple[float, float]:
    """The true GB/s of the second side, at the full clock, and its true speed-up over the first."""
    old_us, new_us = BENCHMARKS[scenario].true_times()
    return sum(bytes_of(BENCHMARKS[scenario])) / new_us / 1e3, old_us / new_us
