"""The GPUs that a student's timer and benchmark run on: the truth of each, and what is said of wrong numbers."""

import statistics
from types import SimpleNamespace

import pytest

from checks.judge.exercise import WrongAnswer
from checks.simulated import scenarios
from checks.simulated.scenarios import (
    BENCHMARKS,
    MANY_CALLS,
    TIMERS,
    Scenario,
    Side,
    bytes_of,
    explain_benchmark,
    explain_timer,
    true_benchmark,
    try_benchmark,
    try_timer,
)

TWO = Scenario(({"reads": {"a": 80e6}}, {"reads": {"b": 40e6}, "writes": {"c": 40e6, "d": 8e6}}),
               ({"flops": 8e9, "compile_us": 70.0},), {"start_us": 0.0}, repeats=3, warmup=2)


def test_calls_go_through_a_side_s_kernels_in_a_circle():
    gpu, first, second = TWO.make()
    assert [kernel.name for kernel in (*first.kernels, *second.kernels)] == ["first 0", "first 1", "second 0"]
    for _ in range(5):
        first()
    assert first.calls == 5 and [kernel.calls for kernel in first.kernels] == [3, 2]
    assert {kernel.gpu for kernel in (*first.kernels, *second.kernels)} == {gpu} and gpu.start_us == 0


@pytest.mark.parametrize(("warmup", "repeats", "times"), [
    (0, 3, [20, 22, 20]), (1, 3, [22, 20, 22]), (2, 1, [20]), (3, 0, [])])
def test_the_true_times_are_those_after_the_warm_up(warmup, repeats, times):
    _, first, _ = TWO.make()
    assert first.true_times(warmup, repeats) == pytest.approx(times) and first.calls == 0
    assert isinstance(first, Side)


def test_the_true_times_of_a_scenario():
    first, second = TWO.true_times()
    assert first == pytest.approx([20, 22, 20]) and second == pytest.approx([10] * 3), "compilation is no time of a call"


def test_the_calls_that_are_interrupted_have_a_median():
    """And a mean and a smallest time that are not it."""
    (made,) = MANY_CALLS.values()
    for times, us in zip(made.true_times(), (60, 30), strict=True):
        assert statistics.median(times) == pytest.approx(us) and len(times) == 10
        assert statistics.fmean(times) > 4 * us and min(times) < 0.95 * us and max(times) == pytest.approx(40 * us)
    _, first, second = made.make()
    for side, us in ((first, 60), (second, 30)):
        assert side.true_times(0, 8) == pytest.approx([3 * us] * 8), "calls to warm up take longer"


def test_scaled_is_more_of_bytes_and_arithmetic_alone():
    more = TWO.scaled(2.5)
    assert more.first == ({"reads": {"a": 200e6}}, {"reads": {"b": 100e6}, "writes": {"c": 100e6, "d": 20e6}})
    assert more.second == ({"flops": 20e9, "compile_us": 70.0},)
    assert (more.gpu, more.repeats, more.warmup, more.steady) == (TWO.gpu, 3, 2, True)
    assert TWO.first[0] == {"reads": {"a": 80e6}} and TWO.scaled(1.0) == TWO


def test_bytes_are_read_and_written():
    turned = Scenario(TWO.second, TWO.first[1:])
    assert bytes_of(turned) == (40e6, 48e6) and bytes_of(Scenario(TWO.second, TWO.first)) == (80e6, 0)


@pytest.mark.parametrize("scale", [1.0, 1.5])
@pytest.mark.parametrize("name", BENCHMARKS | MANY_CALLS)
def test_the_truth_of_a_benchmark(name, scale):
    """Of medians, the second side's GB/s and how many times as fast it is."""
    made = (BENCHMARKS | MANY_CALLS)[name].scaled(scale)
    old, new = (statistics.median(times) for times in made.true_times())
    assert true_benchmark(name, scale) == pytest.approx((sum(bytes_of(made)) * 1e-9 / (new * 1e-6), old / new))


@pytest.mark.parametrize("name", TIMERS)
def test_a_timer_is_given_what_its_scenario_says(name):
    made, seen = TIMERS[name].scaled(2.0), {}

    def timer(sides, gpu, repeats, warmup):
        seen.update(sides=list(sides), repeats=repeats, warmup=warmup, gpu=gpu)
        for _ in range(3):
            sides["first"]()
        sides["second"]()
        return {"first": [1.0, 2.0, 6.0, 7.0], "second": [2.0, 4.0]}

    assert try_timer(timer, name, 2.0) == (4.0, 3.0, 4 / 3, 1, 1.0), "no more calls count than there were"
    assert (seen["sides"], seen["repeats"], seen["warmup"]) == (["first", "second"], made.repeats, made.warmup)
    assert {key: getattr(seen["gpu"], key) for key in made.gpu} == made.gpu


@pytest.mark.parametrize(("times", "said"), [
    (None, "Is a `return` missing?"), (3, "expected a dict with the times of each side."), ({}, "the result has the names"),
    ({"second": [1.0], "first": [1.0]}, "expected those of the sides, ['first', 'second']"),
    ({"first": [1.0], "second": []}, "for 'second' there is []; expected a list with a number for each call"),
    ({"first": (1.0,), "second": [1.0]}, "for 'first' there is (1.0,)"),
    ({"first": [1.0, "a"], "second": [1.0]}, "for 'first' there is [1.0, 'a']"),
    ({"first": [1.0], "second": [None]}, "for 'second' there is [None]")])
def test_times_of_the_wrong_form(times, said):
    with pytest.raises(WrongAnswer) as error:
        try_timer(lambda *_: times, "launches that do not wait")
    assert said in str(error.value) and ("`return`" in str(error.value)) == (times is None)


def test_times_may_be_whole_numbers():
    assert try_timer(lambda *_: {"first": [6, 2], "second": [1.0, 3]}, "launches that do not wait")[:3] == (4, 2, 2)


def test_a_side_without_time_has_no_ratio():
    ratio = try_timer(lambda *_: {"first": [1.0], "second": [0.0]}, "launches that do not wait")[2]
    assert ratio != ratio


def test_a_benchmark_is_given_what_its_scenario_says():
    for name, made in (BENCHMARKS | MANY_CALLS).items():
        seen = []

        def benchmark(old, new, gpu, *numbers, seen=seen):
            old()
            new()
            seen += [gpu.launch_us, *numbers, [span.name for span in gpu.log if span.kind == "kernel"]]
            return "what it says"

        more = made.scaled(3.0)
        assert try_benchmark(benchmark, name, 3.0) == "what it says"
        assert seen == [made.gpu["launch_us"], *bytes_of(more), made.repeats, made.warmup, ["first 0", "second 0"]], name


def timed(name="launches that do not wait", output=0, **said):
    """The outcome of a timer that says these means."""
    first, second = (statistics.fmean(times) for times in TIMERS[name].true_times())
    means = said["means"](first, second, TIMERS[name].make()[0].flush_us)
    return SimpleNamespace(inputs={"scenario": name, "scale": 1.0}, outputs=(*means, 1.0, 6, 1.0), output=output,
                           expected=[SimpleNamespace(value=value) for value in (first, second, first / second, 6, 1.0)])


ANY = {name: made.lie for name, made in TIMERS.items()}
TIMED = [
    (lambda a, b, flush: (a / 1000, b), 0, "1,000 times too small"), (lambda a, b, flush: (a * 1000, b), 0, "too large"),
    (lambda a, b, flush: (a / 1050, b), 0, "1,000 times too small"), (lambda a, b, flush: (a, b), 3, "do not count"),
    (lambda a, b, flush: (a, b), 4, "in the order of the calls"),
    (lambda a, b, flush: (a + flush, b + flush), 0, "The flush is"),
    (lambda a, b, flush: (a + flush + 0.4, b + flush), 0, "The flush is"),
    (lambda a, b, flush: (a + flush + 0.6, b + flush), 0, None), (lambda a, b, flush: (a + flush, b), 0, None),
    (lambda a, b, flush: (a, a), 0, "new events for each call"), (lambda a, b, flush: (a / 2, b / 2), 0, None)]


@pytest.mark.parametrize("row", range(len(TIMED)))
def test_what_is_likely_wrong_with_a_timer(row):
    means, output, said = TIMED[row]
    name = "launches that do not wait"
    assert (said or ANY[name]) in explain_timer(timed(name, output, means=means))


def test_two_sides_may_have_the_same_time():
    name = "two sides that read the same input"
    assert explain_timer(timed(name, means=lambda a, b, flush: (a / 2, b / 2))) == TIMERS[name].lie


TEN, ONE = "a perfect GPU, 10 calls", "a perfect GPU, 1 call, and it writes"
LIES = {name: f"This GPU is there for one lie: {made.lie}." for name, made in BENCHMARKS.items()}
BENCHED = [  # scenario, the GB/s said as a part of the true ones or from them and the flush, and what is said
    (TEN, 1 / 10, "divide it by `repeats`"), (TEN, 10, "too many by a factor of `repeats`"), (ONE, 10, None),
    (ONE, 1 / 10, None), (ONE, 1, None), (TEN, 1, None),
    (TEN, 1e-3, "off by a factor of 1,000"), (TEN, 1e3, "off by a factor of 1,000"), (ONE, 1e3, "MB/s"), (TEN, 1 / 2, None),
    (ONE, "flush", "The flush is in the time"), (TEN, "flush", "The flush is in the time")]


@pytest.mark.parametrize(("name", "part", "said"), BENCHED)
def test_what_is_likely_wrong_with_a_benchmark(name, part, said):
    truth, speedup = true_benchmark(name)
    made = BENCHMARKS[name]
    bytes_in_gb_us = sum(bytes_of(made)) / 1e3
    told = truth * part if part != "flush" else bytes_in_gb_us / (bytes_in_gb_us / truth + made.make()[0].flush_us)
    outcome = SimpleNamespace(inputs={"scenario": name, "scale": 1.0}, outputs=(told, speedup),
                              expected=[SimpleNamespace(value=truth), SimpleNamespace(value=speedup)])
    assert (said or LIES[name]) in explain_benchmark(outcome)


@pytest.mark.parametrize("told", [0.0, -1.0, float("nan")])
def test_nothing_is_said_of_a_benchmark_without_speed(told):
    outcome = SimpleNamespace(inputs={"scenario": TEN, "scale": 1.0}, outputs=(told, 1.0), expected=[])
    assert explain_benchmark(outcome) is None


def test_each_scenario_says_what_goes_wrong_on_it():
    assert scenarios.STEADY < 0.1 and all(made.lie for made in (TIMERS | BENCHMARKS | MANY_CALLS).values())
    assert len({made.lie for made in TIMERS.values()}) == len(TIMERS)
    assert [name for name, made in (TIMERS | BENCHMARKS | MANY_CALLS).items() if not made.steady] == [
        "a clock that sags under load", "the same function, a clock that sags under load"]
