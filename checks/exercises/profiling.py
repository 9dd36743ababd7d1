"""Lesson 09: which limit a profile shows, and which change it recommends."""

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant, WrongAnswer, numbers

LIMITS = ("launch", "memory", "compute", "latency")


def place_of_limit(limit_of, **profile: float) -> int:
    """The answer's place in LIMITS, for the judge compares numbers."""
    said = limit_of(**profile)
    if said not in LIMITS:
        raise WrongAnswer(f"it returns {said!r}; expected one of {', '.join(map(repr, LIMITS))}.")
    return LIMITS.index(said)


def exact_limit(us, launch_us, dram_pct, l2_pct, tensor_pct, issue_pct) -> tuple[Expected]:
    units = sorted([(dram_pct, "memory"), (l2_pct, "memory"), (tensor_pct, "compute"), (issue_pct, "compute")])
    busiest, kind = units[-1]
    return (Expected(LIMITS.index("launch" if us < launch_us else kind if busiest >= 60 else "latency")),)


def name_the_limits(outcome) -> str | None:
    """Both answers in words, for the numbers are places in LIMITS."""
    got, = outcome.outputs
    return f"Your function says {LIMITS[int(got)]!r}; expected {LIMITS[int(outcome.expected[0].value)]!r}."


_FIELDS = ("us", "launch_us", "dram_pct", "l2_pct", "tensor_pct", "issue_pct")
_LAUNCH = "    if launch_us > us:\n        return \"launch\"\n"
_LATENCY = "    if max(memory, compute) < 60:\n        return \"latency\"\n"

LIMIT_OF = Exercise(
    name="limit_of",
    lesson="09_tuning",
    points=2,
    adapter=place_of_limit,
    outputs=("place_of_limit",),
    explain=name_the_limits,
    cases=tuple(numbers(**dict(zip(_FIELDS, values, strict=True))) for values in (
        (120.0, 8.0, 91.0, 45.0, 0.0, 30.0), (300.0, 8.0, 20.0, 85.0, 70.0, 25.0), (540.0, 8.0, 15.0, 40.0, 92.0, 20.0),
        (150.0, 8.0, 40.0, 30.0, 0.0, 88.0), (200.0, 8.0, 35.0, 30.0, 12.0, 25.0), (3.0, 8.0, 35.0, 20.0, 0.0, 10.0),
        (4.0, 8.0, 80.0, 20.0, 0.0, 10.0), (12.0, 8.0, 59.0, 20.0, 5.0, 40.0), (12.0, 8.0, 10.0, 60.0, 5.0, 40.0),
        (8.0, 8.0, 70.0, 20.0, 65.0, 66.0), (9.0, 8.0, 61.0, 20.0, 62.0, 10.0), (700.0, 8.0, 59.0, 58.0, 57.0, 56.0))),
    oracle=exact_limit,
    mutants=(
        Mutant("launches left out", {_LAUNCH: ""},
               "Where a launch takes longer than the kernel, the GPU waits for launches, whatever its units do."),
        Mutant("latency before launch", {_LAUNCH + _LATENCY: _LATENCY + _LAUNCH},
               "Ask about the launch first: a short kernel is limited by its launches, busy units or not."),
        Mutant("launch and kernel the wrong way round", {"launch_us > us": "us > launch_us"},
               "\"launch\" is the answer where launching takes longer than running."),
        Mutant("latency left out", {_LATENCY: ""},
               "A unit that reaches 40 % is no limit, even if it is the busiest: below 60 % everywhere, it is \"latency\"."),
        Mutant("latency where one unit is below", {"max(memory, compute) < 60": "min(memory, compute) < 60"},
               "One busy unit is enough to be the limit: \"latency\" needs all of them below 60 %."),
        Mutant("the L2 cache left out", {"max(dram_pct, l2_pct)": "dram_pct"},
               "The L2 cache has a peak of its own, and a kernel may reach it while DRAM is idle."),
        Mutant("DRAM left out", {"max(dram_pct, l2_pct)": "l2_pct"}, "DRAM is a unit of memory as well."),
        Mutant("the tensor cores left out", {"max(tensor_pct, issue_pct)": "issue_pct"},
               "A product keeps the tensor cores busy with few instructions: look at tensor_pct as well."),
        Mutant("the instructions left out", {"max(tensor_pct, issue_pct)": "tensor_pct"},
               "A kernel without tl.dot computes too: look at issue_pct as well."),
        Mutant("memory and compute swapped", {"memory > compute": "memory < compute"},
               "The busiest unit names the limit: \"memory\" where that is DRAM or the L2 cache."),
        Mutant("per cents added up", {"max(dram_pct, l2_pct), max(tensor_pct, issue_pct)":
                                       "dram_pct + l2_pct, tensor_pct + issue_pct"},
               "Each unit has a peak of its own: take the busiest, do not add them up."),
        Mutant("more than 60", {"< 60": "<= 60"}, "60 % itself counts as busy: \"latency\" is below 60."),
    ),
)


def changes(name: str, us: float, pct: list[float], times: list[list[float]]) -> Case:
    return Case(name, lambda _: {"us": us, "pct": torch.tensor(pct), "times": torch.tensor(times)})


def exact_change(us: float, pct: torch.Tensor, times: torch.Tensor) -> tuple[Expected, Expected]:
    """From the time that each unit needs by itself."""
    now = [us * part / 100 for part in pct.tolist()]
    after = [max(factor * unit for factor, unit in zip(change, now, strict=True)) for change in times.tolist()]
    best = min(range(len(after)), key=after.__getitem__)
    took = us * after[best] / max(now)
    return Expected(best), Expected(took, 1e-5 * took)


_AFTER = "us * (times * pct).amax(dim=1) / pct.max()"

BETTER_CHANGE = Exercise(
    name="better_change",
    lesson="09_tuning",
    points=2,
    outputs=("change", "us"),
    cases=(
        changes("half the bytes or half the instructions, DRAM is busiest", 100.0, [80.0, 40.0],
                [[0.5, 1.0], [1.0, 0.5]]),
        changes("half the bytes or half the instructions, instructions are busiest", 100.0, [40.0, 80.0],
                [[0.5, 1.0], [1.0, 0.5]]),
        changes("the second unit becomes the busiest", 200.0, [90.0, 72.0, 10.0], [[0.25, 1.0, 1.0], [0.75, 0.75, 1.0]]),
        changes("a change that adds work", 50.0, [64.0, 32.0], [[0.5, 3.0], [0.9375, 1.0], [1.5, 0.125]]),
        changes("one change, of an idle unit", 12.0, [75.0, 25.0], [[1.0, 0.5]]),
        changes("three units, four changes", 640.0, [25.0, 50.0, 87.5],
                [[0.5, 0.5, 1.0], [1.0, 1.0, 0.75], [2.0, 1.0, 0.5], [4.0, 1.0, 0.25]]),
    ),
    oracle=exact_change,
    mutants=(
        Mutant("the sum of the units", {_AFTER: "us * (times * pct).sum(dim=1) / pct.sum()"},
               "Units work at the same time: the busiest one sets the time, not their sum."),
        Mutant("the mean of the factors", {_AFTER: "us * times.mean(dim=1)"},
               "A change counts only as far as it relieves the busiest unit: multiply the factors with pct."),
        Mutant("the unit that is busiest now", {_AFTER: "us * times[:, pct.argmax()]"},
               "After the change another unit may be the busiest: look at all of them again."),
        Mutant("the least busy unit", {".amax(dim=1)": ".amin(dim=1)"}, "The busiest unit sets the time: the largest."),
        Mutant("the largest factor", {"(times * pct).amax(dim=1) / pct.max()": "times.amax(dim=1)"},
               "A factor counts by the part of its peak that its unit reaches: multiply with pct first."),
        Mutant("to the peak", {"/ pct.max()": "/ 100"},
               "The busiest unit stays as busy as it is now, it does not reach its peak: divide by the largest pct."),
        Mutant("the worst change", {".argmin()": ".argmax()"}, "Wanted is the change with the shortest time."),
        Mutant("the time before", {"float(after[best])": "float(us)"}, "Wanted is the time after the change."),
        Mutant("the gain", {"float(after[best])": "float(us / after[best])"},
               "Wanted is the time in microseconds, not the gain."),
        Mutant("along the changes", {"amax(dim=1)": "amax(dim=0)"},
               "times is (changes, units): the largest over the units, dim=1, for each change."),
    ),
)

EXERCISES = [LIMIT_OF, BETTER_CHANGE]
