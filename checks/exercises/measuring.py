"""Lesson 03: times that can be trusted."""

import statistics

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant, WrongAnswer
from checks.simulated.scenarios import (
    BENCHMARKS,
    MANY_CALLS,
    STEADY,
    TIMERS,
    explain_benchmark,
    explain_timer,
    true_benchmark,
    try_benchmark,
    try_timer,
)

ROUNDING = 1e-6  # the simulated clocks are sums of doubles; real events resolve about 0.5 us


def scenario(name: str, scale: float = 1.0) -> Case:
    """A case that is a simulated GPU, whose kernels do `scale` times as much."""
    return Case(name, lambda _: {"scenario": name, "scale": scale})


def near(value: float, part: float = ROUNDING) -> Expected:
    return Expected(value, part * abs(value))


def true_times(scenario: str, scale: float) -> tuple[Expected, ...]:
    """Mean time of either side, their quotient, the number of calls, and the first call's time of the first side. Where the
    clock sags by up to 40 %, a time may be longer by 1 / 0.6, but the quotient must be that of a steady clock."""
    made = TIMERS[scenario].scaled(scale)
    times = made.true_times()
    first, second = map(statistics.fmean, times)
    part, ratio = (ROUNDING, ROUNDING) if made.steady else (0.67, STEADY)
    return near(first, part), near(second, part), near(first / second, ratio), near(made.repeats), near(times[0][0], part)


_RECORD = "            start.record()\n            call()\n            stop.record()\n"
_FLUSH = "            gpu.flush_l2()  # keeps the GPU busy, too, while the call is queued: no launch is timed\n"
_TURNS = "    for _ in range(repeats):\n        for name, call in sides.items():\n"
_EVENTS = "            start, stop = gpu.event(), gpu.event()\n"
_KEEP = "            events[name].append((start, stop))\n"
_TIMES = "[start.elapsed_us(stop) for start, stop in pairs]"


def _host_clock(before: str, after: str) -> dict[str, str]:
    """The edits that time each call by the host's clock, with something done before it starts and before it is stopped."""
    return {_EVENTS: "", _FLUSH: f"            gpu.flush_l2()\n{before}",
            _RECORD: f"            start = gpu.host_us()\n            call()\n{after}            stop = gpu.host_us()\n",
            _TIMES: "[stop - start for start, stop in pairs]"}


_WAIT = "            gpu.synchronize()\n"

TIME_US = Exercise(
    name="time_us",
    lesson="03_measuring",
    points=6,
    adapter=try_timer,
    outputs=("the mean time of `first` in us", "the mean time of `second` in us", "`first` divided by `second`",
             "the number of timed calls", "the first timed call of `first` in us"),
    explain=explain_timer,
    cases=tuple(scenario(name) for name in TIMERS),
    oracle=true_times,
    mutants=(
        Mutant("the host's clock, and no waiting", _host_clock("", ""),
               "A launch returns at once: this is the time to queue the call, not to do it. Use events."),
        Mutant("the host's clock, waiting for the GPU", _host_clock(_WAIT, _WAIT),
               "Now the launch and the waiting are in the time, some microseconds that are not the kernel's. Use events."),
        Mutant("no warm-up", {"range(warmup)": "range(0)"},
               "The first call compiles the kernel, and an idle GPU has a slow clock: call each side `warmup` times first."),
        Mutant("only one warm-up call", {"range(warmup)": "range(1)"},
               "One call compiles the kernel, but the clock takes longer to wake up: make `warmup` calls of each side."),
        Mutant("only the first side is warmed up", {"in sides.values():": "in list(sides.values())[:1]:"},
               "Every side has a kernel of its own to compile: warm up all of them."),
        Mutant("the cache is not flushed", {_FLUSH: ""},
               "A call finds in the cache what the call before has left there: `gpu.flush_l2()` before each timed call."),
        Mutant("the cache is flushed once in a turn", {_FLUSH: "", _TURNS: _TURNS.replace(
            "        for", "        gpu.flush_l2()\n        for")},
               "The second side finds in the cache what the first has read: flush before each call, not once a turn."),
        Mutant("the flush is in the time", {_FLUSH: "", _RECORD: _RECORD.replace("call()", "gpu.flush_l2()\n"
                                                                                  "            call()")},
               "Flush first, then record `start`: what is queued between the two events is timed."),
        Mutant("waiting between the flush and the call", {_FLUSH: _FLUSH + _WAIT},
               "The GPU runs dry, meets `start` at once, and then waits for the launch of your call: that is timed too. Let "
               "it be busy with the flush while the call is queued: no synchronize here."),
        Mutant("stop is recorded before the call", {_RECORD: _RECORD.replace("call()\n            stop.record()",
                                                                              "stop.record()\n            call()")},
               "Between the two events there is nothing. An event marks a place in the queue: start, call, stop."),
        Mutant("the times are read without waiting", {"    gpu.synchronize()\n    return": "    return"},
               "When Python gets here the GPU is still at work: `gpu.synchronize()` once, before you ask for times."),
        Mutant("one side after the other",
               {_TURNS: "    for name, call in sides.items():\n        for _ in range(repeats):\n"},
               "The side that comes later meets a hotter, slower GPU. Take turns: the loop over the sides goes inside."),
        Mutant("one call too few", {"range(repeats)": "range(repeats - 1)"}, "Each side is timed `repeats` times."),
        Mutant("the warm-up calls are timed too", {"range(repeats)": "range(warmup + repeats)"},
               "The warm-up calls do not count: `repeats` calls are timed, after them."),
        Mutant("only the last call is kept", {_KEEP: "            events[name] = [(start, stop)]\n"},
               "Keep a pair of events for every call: append it to the side's list."),
        Mutant("one call, and its time repeated", {_TURNS: _TURNS.replace("range(repeats)", "range(1)"),
                                                   _TIMES: f"{_TIMES} * repeats"},
               "Calls differ. Time each of the `repeats` calls."),
        Mutant("the same two events for all calls", {
            _EVENTS: "", _TURNS: "    pair = {name: (gpu.event(), gpu.event()) for name in sides}\n" + _TURNS
                            + "            start, stop = pair[name]\n"},
               "Recording an event again moves it: only the last call's marks are left. Make new events for each call."),
        Mutant("from stop to start", {"start.elapsed_us(stop)": "stop.elapsed_us(start)"},
               "The time is negative: it goes from the earlier event to the later one, `start.elapsed_us(stop)`."),
        Mutant("torch's elapsed_time", {"start.elapsed_us(stop)": "1000 * start.elapsed_time(stop)"},
               "`elapsed_time` is torch's and gives milliseconds. These events have `elapsed_us`, in microseconds already."),
        Mutant("a mean in place of the times", {_TIMES: f"[sum({_TIMES}) / repeats]"},
               "Return the raw times, one for each call: what to make of them is the next exercise."),
    ),
)


def exact_median(times_us: torch.Tensor, most: float) -> tuple[Expected, ...]:
    ascending = sorted(times_us.tolist())
    cut = ascending[len(ascending) // 10:len(ascending) - len(ascending) // 10]
    return near(torch.quantile(times_us, 0.5).item()), near(cut[0]), near(cut[-1])


def try_median(median_and_spread, times_us: torch.Tensor, most: float):
    """Call it with a list; where the spread is too wide, a refusal is wanted, and the numbers are given for it."""
    expected = [want.value for want in exact_median(times_us, most)]
    steady = expected[2] - expected[1] <= most * expected[0]
    times, before = times_us.tolist(), times_us.tolist()
    try:
        result = median_and_spread(times, most)
    except Exception as error:
        if type(error) is not RuntimeError:
            if steady or isinstance(error, IndexError | NameError | AttributeError | TypeError):
                raise
            raise WrongAnswer(f"it refuses, rightly, but with {type(error).__name__}: expected a RuntimeError.") from None
        if steady:
            raise WrongAnswer(f"it refuses, but high - low is {(expected[2] - expected[1]):.4g} and may be up to {most} x "
                              f"{expected[0]:.4g}.") from None
        if not str(error):
            raise WrongAnswer("it refuses without a message: let the RuntimeError say what is wrong.") from None
        return tuple(expected)
    if times != before:
        raise WrongAnswer("it changes the list of times it was given: `sorted` makes a new one.")
    if not steady:
        raise WrongAnswer(f"it returns {result!r}. high - low is {(expected[2] - expected[1]):.4g}, more than {most} x "
                          f"{expected[0]:.4g}: expected a RuntimeError.")
    return result


def explain_median(outcome) -> str | None:
    """Which calls were taken for `low` and `high`, where they are two of the calls."""
    ascending, said = sorted(outcome.inputs["times_us"].tolist()), outcome.outputs
    wanted = [want.value for want in outcome.expected]
    if sorted(said) == sorted(wanted):
        return "The three are right, but in another order: expected (median, low, high)."
    name = ("the median", "low", "high")[outcome.output]
    if outcome.output == 0 or said[outcome.output] not in ascending:
        return None
    got, want = (ascending.index(values[outcome.output]) for values in (said, wanted))
    return (f"Sorted and counted from 0, {name} is call {got} of these {len(ascending)}; expected call {want}, for "
            f"{len(ascending) // 10} are cut off at either end.")


def calls(*groups: tuple[int, float, float], most: float = 0.3):
    """Times in no order: of each group, so many from one number to another."""
    def inputs(g: torch.Generator) -> dict:
        times = torch.cat([torch.linspace(low, high, count, dtype=torch.float64) for count, low, high in groups])
        return {"times_us": times[torch.randperm(len(times), generator=g)], "most": most}
    return inputs


MEDIAN = Exercise(
    name="median_and_spread",
    lesson="03_measuring",
    points=2,
    adapter=try_median,
    outputs=("the median", "low", "high"),
    cases=(
        Case("40 calls, two of them interrupted", calls((38, 100.0, 110.0), (2, 900.0, 3000.0))),
        Case("21 calls", calls((21, 50.0, 60.0))),
        Case("5 calls", calls((5, 7.0, 8.0))),
        Case("one call", calls((1, 7.0, 7.0))),
        Case("20 calls, a third of them on a slower clock", calls((13, 100.0, 101.0), (7, 131.0, 131.0))),
        Case("9 calls, too few to cut any off, one interrupted", calls((8, 100.0, 101.0), (1, 300.0, 300.0))),
        Case("10 calls, most of them slow, two fast", calls((2, 20.0, 21.0), (8, 30.0, 31.0))),
        Case("short calls, the spread just narrow enough", calls((30, 2.5, 3.6))),
        Case("20 calls, a quarter of them slower", calls((15, 100.0, 101.0), (5, 119.0, 120.0))),
        Case("5 calls, `most` 0.15", calls((5, 9.0, 11.0), most=0.15)),
        Case("5 calls, `most` 0.5, and a spread of just that", calls((5, 7.5, 12.5), most=0.5)),
    ),
    explain=explain_median,
    oracle=exact_median,
    mutants=(
        Mutant("the mean", {"statistics.median(ascending)": "statistics.fmean(ascending)"},
               "A few interrupted calls pull the mean far up. The median is the middle call."),
        Mutant("the smallest time", {"statistics.median(ascending)": "ascending[0]"},
               "The best call is the luckiest one. The median is what half of the calls do not exceed."),
        Mutant("not sorted", {"sorted(times_us)": "list(times_us)"},
               "`low` and `high` come from the calls in ascending order: sort them."),
        Mutant("the list is sorted in place", {"ascending, tenth = sorted(times_us), len(times_us) // 10":
                                                "times_us.sort()\n    ascending, tenth = times_us, len(times_us) // 10"},
               "The caller's list is changed, though somebody may want the order of the calls."),
        Mutant("the upper of the two middle calls", {"statistics.median(ascending)": "ascending[len(ascending) // 2]"},
               "With an even number of calls the median is half-way between the two in the middle: `statistics.median`."),
        Mutant("the lower of the two middle calls",
               {"statistics.median(ascending)": "ascending[(len(ascending) - 1) // 2]"},
               "With an even number of calls the median is half-way between the two in the middle. (torch.median gives the "
               "lower one.)"),
        Mutant("low and high are the first and the last call", {"len(times_us) // 10": "0"},
               "One interrupted call decides this spread. Cut off a tenth of the calls at either end first."),
        Mutant("high is one call too high", {"ascending[-1 - tenth]": "ascending[-max(tenth, 1)]"},
               "After a tenth is cut off at the end, the last call left is number -1 - tenth."),
        Mutant("low is one call too low", {"ascending[tenth]": "ascending[max(tenth - 1, 0)]"},
               "After a tenth is cut off at the start, the first call left is number `tenth`."),
        Mutant("it never refuses", {"if high - low > most * median:": "if False:"},
               "Where the spread is too wide no number should get out: raise RuntimeError."),
        Mutant("the spread is not compared with the median", {"> most * median:": "> most:"},
               "0.3 us is much for a call of 1 us and little for one of 1,000 us: compare with `most * median`."),
        Mutant("the spread is compared with low", {"> most * median:": "> most * low:"},
               "`most` is a part of the median."),
        Mutant("the spread is compared with the mean", {"> most * median:": "> most * statistics.fmean(times_us):"},
               "Slow calls pull the mean up, and with it what is allowed: `most` is a part of the median."),
        Mutant("cut off by [tenth:-tenth]", {"ascending[tenth], ascending[-1 - tenth]":
                                              "ascending[tenth:-tenth][0], ascending[tenth:-tenth][-1]"},
               "With fewer than 10 calls a tenth is 0, and [0:-0] is empty: cut off by [tenth:len(times_us) - tenth]."),
        Mutant("only one side of the spread", {"high - low > most": "high - median > most"},
               "The spread is the whole way from low to high."),
        Mutant("the two sides of the spread apart", {"high - low > most": "max(high - median, median - low) > most"},
               "The spread is the whole way from low to high."),
        Mutant("the mean of the calls that are left", {"statistics.median(ascending)":
                                                        "statistics.fmean(sorted(times_us)[tenth:len(times_us) - tenth])"},
               "Where some of these are slower the mean moves, and the median does not."),
        Mutant("0.3 in place of `most`", {"> most * median:": "> 0.3 * median:"},
               "How wide is too wide is for the caller to say: `most`."),
        Mutant("it refuses a spread that is just allowed", {"high - low > most": "high - low >= most"},
               "It refuses where the spread is more than `most` times the median: `>`, not `>=`."),
    ),
)

def _replaced(*lines: str) -> dict[str, str]:
    """The edit that takes the times of a benchmark in another way."""
    return {f"    times = {_RIGHT}\n": "".join(f"    {line}\n" for line in lines)}


_RIGHT = "time_us({\"old\": old, \"new\": new}, gpu, repeats, warmup)"
_EMPTY = "gpu.flush_l2()", "gpu.synchronize()"
_BY_HOST_CLOCK = ("def by_host(call, wait):", "    begin = gpu.host_us()", "    call()", "    if wait:",
                  "        gpu.synchronize()", "    return [gpu.host_us() - begin]", _RIGHT, *_EMPTY)

BENCHMARK = Exercise(
    name="benchmark",
    lesson="03_measuring",
    points=5,
    adapter=try_benchmark,
    outputs=("GB/s", "speed-up"),
    explain=explain_benchmark,
    cases=tuple(scenario(name) for name in BENCHMARKS | MANY_CALLS),
    oracle=lambda scenario, scale=1.0: tuple(
        near(value, ROUNDING if (BENCHMARKS | MANY_CALLS)[scenario].steady else part)
        for value, part in zip(true_benchmark(scenario, scale), (0.67, STEADY), strict=True)),
    mutants=(
        Mutant("not divided by the number of calls", {"statistics.median(times[\"new\"])": "sum(times[\"new\"])",
                                                      "statistics.median(times[\"old\"])": "sum(times[\"old\"])"},
               "That is the time of all calls together, so the GB/s are too few by a factor of `repeats`."),
        Mutant("the bytes written are left out", {"bytes_read + bytes_written": "bytes_read"},
               "What a kernel writes crosses the memory bus too: bytes are reads plus writes."),
        Mutant("the bytes read are left out", {"bytes_read + bytes_written": "bytes_written"},
               "Bytes are reads plus writes."),
        Mutant("an unfair baseline: only `old` is waited for", _replaced(
            *_BY_HOST_CLOCK, "old_us = by_host(old, True)", *_EMPTY, f"times = {_RIGHT}", "times[\"old\"] = old_us"),
               "`old` pays for its launch and for the waiting, `new` does not. Time both sides in the same way."),
        Mutant("a launch taken for the work", _replaced(
            *_BY_HOST_CLOCK, "times = {\"old\": by_host(old, False)}", *_EMPTY, "times[\"new\"] = by_host(new, False)"),
               "The host's clock stops when the launch is made, not when the work is done. Let events tell the time."),
        Mutant("the host's clock, waiting for the GPU", _replaced(
            *_BY_HOST_CLOCK, "times = {\"old\": by_host(old, True)}", *_EMPTY, "times[\"new\"] = by_host(new, True)"),
               "The launch and the waiting are in the time, and weigh most for the faster side. Let events tell the time."),
        Mutant("no warm-up", {"repeats, warmup)": "repeats, 0)"},
               "The first call compiles the kernel and finds a sleepy clock: `warmup` calls of each side come first."),
        Mutant("only one warm-up call", {"repeats, warmup)": "repeats, 1)"},
               "Compiled it is then, but the clock is not awake yet: make `warmup` calls of each side."),
        Mutant("only `new` is warmed up", _replaced(
            "for _ in range(warmup):", "    new()", "times = time_us({\"old\": old, \"new\": new}, gpu, repeats, 0)"),
               "An unfair baseline: `old` compiles within its time. Warm up both."),
        Mutant("a warm cache", _replaced("gpu.flush_l2 = lambda: None", f"times = {_RIGHT}"),
               "From the second call on the input comes from the L2 cache: flush it before each call."),
        Mutant("one side after the other", _replaced(
            "times = time_us({\"old\": old}, gpu, repeats, warmup) | time_us({\"new\": new}, gpu, repeats, warmup)"),
               "`new` comes when the GPU has got hot. Let the two take turns: one call of `time_us` with both."),
        Mutant("the mean in place of the median", {
            "statistics.median(times[\"new\"])": "statistics.fmean(times[\"new\"])",
            "statistics.median(times[\"old\"])": "statistics.fmean(times[\"old\"])"},
               "One interrupted call pulls the mean up: take the median."),
        Mutant("the smallest time", {"statistics.median(times[\"new\"])": "min(times[\"new\"])",
                                     "statistics.median(times[\"old\"])": "min(times[\"old\"])"},
               "That is the luckiest call. Take the median."),
        Mutant("`repeats` and `warmup` are not passed on", {"gpu, repeats, warmup)": "gpu)"},
               "The timer has numbers of calls of its own then: pass on those that are asked for."),
        Mutant("the speed-up upside down", {"old_us / new_us": "new_us / old_us"},
               "A speed-up of 2 means that `new` takes half the time: old_us / new_us."),
        Mutant("GB/s of `old`", {"bytes_written, new_us)": "bytes_written, old_us)"}, "The bytes are those of `new`."),
        Mutant("`warmup` and `repeats` swapped", {"gpu, repeats, warmup)": "gpu, warmup, repeats)"},
               "`time_us` takes `repeats` first, then `warmup`."),
        Mutant("the bytes subtracted", {"bytes_read + bytes_written": "bytes_read - bytes_written"},
               "What is read and what is written crosses the bus, one after the other: add them."),
    ),
)

EXERCISES = [TIME_US, MEDIAN, BENCHMARK]
