"""Lesson 08's models: from which M on arithmetic dominates, what launches cost, and which kernel wins from where on."""

import math

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers

_CEIL = "math.ceil(weight_bytes * tflops * 1e12 / (2 * gb_per_s * 1e9))"


def least_m(weight_bytes: float, tflops: float, gb_per_s: float) -> tuple[Expected]:
    """Trying M after M, in thousandths of a picosecond for one weight."""
    M = 1
    while M * 2 / tflops * 1e3 < weight_bytes / gb_per_s * 1e6:
        M += 1
    return (Expected(M),)


COMPUTE_BOUND_FROM = Exercise(
    name="compute_bound_from",
    lesson="08_decode",
    points=1,
    cases=(numbers(weight_bytes=2, tflops=989, gb_per_s=4800), numbers(weight_bytes=1, tflops=1979, gb_per_s=4800),
           numbers(weight_bytes=1, tflops=989, gb_per_s=3350), numbers(weight_bytes=2, tflops=312, gb_per_s=2039),
           numbers(weight_bytes=0.5, tflops=312, gb_per_s=1000), numbers(weight_bytes=1, tflops=0.004, gb_per_s=100),
           numbers(weight_bytes=1, tflops=512, gb_per_s=1000)),
    oracle=least_m,
    mutants=(
        Mutant("one operation for each product", {"(2 * gb_per_s": "(gb_per_s"},
               "Each product takes a multiply and an add: M · 2 operations for a weight."),
        Mutant("bytes counted as weights", {"weight_bytes * tflops": "tflops"},
               "Reading a weight moves weight_bytes bytes."),
        Mutant("rounded down", {"math.ceil": "math.floor"},
               "M is a whole number of rows, and arithmetic must take at least as long: round up."),
        Mutant("rounded to the nearest", {"math.ceil": "round"},
               "At the M below, reading still takes longer, however little: round up, with `math.ceil`."),
        Mutant("not rounded", {_CEIL: "weight_bytes * tflops * 1e12 / (2 * gb_per_s * 1e9)"},
               "M is a number of rows: round it up to a whole one, with math.ceil."),
        Mutant("the ratio inverted", {_CEIL: "math.ceil(2 * gb_per_s * 1e9 / (weight_bytes * tflops * 1e12))"},
               "Set the two times equal, 2 M / (operations a second) = weight_bytes / (bytes a second), and solve for M."),
        Mutant("bytes divided out", {"weight_bytes * tflops * 1e12 / (2": "tflops * 1e12 / (weight_bytes * 2"},
               "More bytes for a weight take longer to read, so that arithmetic dominates later: a larger M."),
        Mutant("the next power of two",
               {"math.ceil(weight_bytes * tflops * 1e12 / (2 * gb_per_s * 1e9))":
                 "2 ** math.ceil(math.log2(math.ceil(weight_bytes * tflops * 1e12 / (2 * gb_per_s * 1e9))))"},
               "Every M counts, not powers of two alone: round up to a whole number."),
        Mutant("TFLOPS beside GB/s",
               {"math.ceil(weight_bytes * tflops * 1e12 / (2 * gb_per_s * 1e9))":
                 "math.ceil(weight_bytes * tflops / (2 * gb_per_s))"},
               "The units differ: 1 TFLOPS is 10¹² operations a second, 1 GB/s is 10⁹ bytes."),
        Mutant("one row more",
               {"math.ceil(weight_bytes * tflops * 1e12 / (2 * gb_per_s * 1e9))":
                 "math.ceil(weight_bytes * tflops * 1e12 / (2 * gb_per_s * 1e9)) + 1"},
               "Where the two times are the same arithmetic takes as long already: round up, and add nothing."),
        Mutant("rounded down, and one added",
               {_CEIL: "math.floor(weight_bytes * tflops * 1e12 / (2 * gb_per_s * 1e9)) + 1"},
               "Where the quotient is whole already, nothing is added: math.ceil leaves it as it is."),
    ),
)


def chain(*kernel_us: float, **given):
    return lambda _: {"kernel_us": torch.tensor(kernel_us, dtype=torch.float64)} | given


def random_chain(n: int, low: float, high: float, **given):
    def inputs(g: torch.Generator) -> dict:
        return {"kernel_us": low + (high - low) * torch.rand(n, generator=g, dtype=torch.float64)} | given
    return inputs


def latest_path(kernel_us: torch.Tensor, launch_us: float) -> tuple[Expected]:
    """The longest of all ways through: i + 1 launches, then the kernels from i on."""
    times = kernel_us.tolist()
    longest = max((i + 1) * launch_us + math.fsum(times[i:]) for i in range(len(times)))
    return (Expected(longest, 1e-9 * longest),)


_ONE_AFTER_THE_OTHER = "done = max(done, launched) + duration"

EAGER_US = Exercise(
    name="eager_us",
    lesson="08b_launches",
    points=3,
    cases=(
        Case("launches slower than kernels, 4 kernels", chain(2.0, 3.0, 2.5, 1.0, launch_us=6.0)),
        Case("kernels slower than launches, 4 kernels", chain(9.0, 7.0, 8.0, 20.0, launch_us=5.0)),
        Case("one kernel", chain(7.0, launch_us=4.0)),
        Case("short kernels of different times", chain(0.5, 2.0, 1.0, 3.5, 0.25, launch_us=5.0)),
        Case("a long kernel first, then short ones", chain(50.0, 1.0, 1.0, 1.0, launch_us=5.0)),
        Case("short ones first, then a long one", chain(1.0, 1.0, 1.0, 50.0, launch_us=5.0)),
        Case("a long one, then enough short ones to catch up", chain(12.0, *[1.0] * 9, launch_us=4.0)),
        Case("30 kernels of 1 to 15 us", random_chain(30, 1.0, 15.0, launch_us=6.5)),
    ),
    oracle=latest_path,
    mutants=(
        Mutant("the CPU waits for each kernel", {"launched = (i + 1) * launch_us": "launched = done + launch_us"},
               "The CPU does not wait for the GPU: launch i is complete after (i + 1) * launch_us, whatever else runs."),
        Mutant("launches take no time", {"(i + 1) * launch_us": "0.0"},
               "No kernel starts before its launch is complete."),
        Mutant("only the first launch takes time", {"(i + 1) * launch_us": "launch_us"},
               "Every kernel needs a launch of its own: kernel i (from 0) waits for i + 1 of them."),
        Mutant("the first launch takes no time", {"(i + 1) * launch_us": "i * launch_us"},
               "Kernel 0 needs one launch already: i + 1 launches are complete when kernel i may start."),
        Mutant("kernels run side by side", {_ONE_AFTER_THE_OTHER: "done = max(done, launched + duration)"},
               "A kernel needs the results of the one before it: it starts at the later of `launched` and `done`."),
        Mutant("it starts at the earlier of the two", {_ONE_AFTER_THE_OTHER: "done = min(done, launched) + duration"},
               "Both must have happened before a kernel starts: take the later of the two, max."),
        Mutant("it ends at the later of the two", {_ONE_AFTER_THE_OTHER: "done = max(done + duration, launched)"},
               "The kernel's own time comes after the later of the two: max(done, launched) + duration."),
        Mutant("the larger of the two totals",
               {"    return done": "    return max(len(kernel_us) * launch_us, kernel_us.sum().item())"},
               "That overlaps the first launch and the last kernel with nothing: follow the kernels one by one."),
        Mutant("the larger of all launches and of one launch with all kernels",
               {"    return done": "    return max(len(kernel_us) * launch_us, launch_us + kernel_us.sum().item())"},
               "The last kernel runs after the last launch, and a kernel in the middle may wait too: follow the kernels one "
               "by one."),
        Mutant("the slower of launch and kernel, added up",
               {"    return done": "    return sum(max(duration, launch_us) for duration in kernel_us.tolist())"},
               "A launch that is complete early helps the kernels behind it, and the first launch overlaps with nothing: "
               "follow the kernels one by one."),
        Mutant("the last kernel alone is added to the launches",
               {"    return done": "    return len(kernel_us) * launch_us + kernel_us[-1].item()"},
               "That holds while launches are slower than kernels; a long kernel makes the ones behind it wait."),
        Mutant("the last kernel's start", {"    return done": "    return done - duration"},
               "It is done when the last kernel has finished, not when it starts."),
        Mutant("the mean kernel's time", {"    return done": "    return done / len(kernel_us)"},
               "The time of all kernels is wanted, until the last one has finished."),
        Mutant("the slower of launch and kernel, added up, after a first launch",
               {"    return done":
                 "    return launch_us + sum(max(duration, launch_us) for duration in kernel_us.tolist())"},
               "A launch that is complete early helps the kernels behind it: follow the kernels one by one."),
    ),
)

GRAPH_US = Exercise(
    name="graph_us",
    lesson="08b_launches",
    points=1,
    cases=(
        Case("4 kernels", chain(2.0, 3.0, 2.5, 1.0, launch_us=6.0, gap_us=0.75)),
        Case("one kernel", chain(7.0, launch_us=4.0, gap_us=1.0)),
        Case("no gap", chain(9.0, 7.0, launch_us=5.0, gap_us=0.0)),
        Case("30 kernels of 1 to 15 us", random_chain(30, 1.0, 15.0, launch_us=6.5, gap_us=1.25)),
    ),
    oracle=lambda kernel_us, launch_us, gap_us: (Expected(v := math.fsum(
        [launch_us, *(gap_us + t for t in kernel_us.tolist()), -gap_us]), 1e-9 * v),),
    mutants=(
        Mutant("a launch for each kernel", {"return launch_us +": "return len(kernel_us) * launch_us +"},
               "A graph is launched once, whatever it holds."),
        Mutant("a gap for each kernel", {"(len(kernel_us) - 1) * gap_us": "len(kernel_us) * gap_us"},
               "Gaps lie between neighbours: one fewer than there are kernels."),
        Mutant("no gaps", {" + (len(kernel_us) - 1) * gap_us": ""},
               "From the end of one kernel to the start of the next the GPU takes gap_us."),
        Mutant("one gap", {"(len(kernel_us) - 1) * gap_us": "gap_us"}, "There is a gap between any two neighbours."),
        Mutant("the launch is forgotten", {"launch_us + kernel_us": "kernel_us"},
               "One launch is left: that of the graph."),
        Mutant("the longest kernel alone", {"kernel_us.sum()": "kernel_us.max()"},
               "In a chain each kernel waits for the one before it: their times add up."),
        Mutant("the mean kernel alone", {"kernel_us.sum()": "kernel_us.mean()"},
               "In a chain each kernel waits for the one before it: their times add up."),
        Mutant("a gap too many at both ends", {"(len(kernel_us) - 1) * gap_us": "(len(kernel_us) + 1) * gap_us"},
               "Gaps lie between neighbours: one fewer than there are kernels."),
    ),
)


def times(M, first, second):
    def inputs(_) -> dict:
        return {"M": torch.tensor(M), "first_us": torch.tensor(first, dtype=torch.float64),
                "second_us": torch.tensor(second, dtype=torch.float64)}
    return inputs


def noisy_times(n: int):
    """Two lines that cross, with noise that makes them cross more than once."""
    def inputs(g: torch.Generator) -> dict:
        M = 2 ** torch.arange(n)
        first = 10.0 + M.double() / 2**(n - 5)
        second = 13.0 + 3 * torch.rand(n, generator=g, dtype=torch.float64) + M.double() / 2**(n - 3)
        second[-1] = 0.5 * first[-1]
        second[1] = 0.5 * first[1]
        return {"M": M, "first_us": first, "second_us": second}
    return inputs


def least_from_which_on(M: torch.Tensor, first_us: torch.Tensor, second_us: torch.Tensor) -> tuple[Expected]:
    faster = (second_us < first_us).tolist()
    return (Expected(next((m for i, m in enumerate(M.tolist()) if all(faster[i:])), 0)),)


BREAK_EVEN_M = Exercise(
    name="break_even_m",
    lesson="08b_launches",
    points=2,
    cases=(
        Case("one crossing", times([1, 2, 4, 8, 16], [5.0, 5.0, 6.0, 9.0, 15.0], [7.0, 7.0, 7.0, 7.0, 8.0])),
        Case("ahead once, behind again, then ahead for good",
             times([1, 4, 16, 64, 256], [5.0, 7.0, 6.0, 9.0, 15.0], [7.0, 6.5, 7.0, 7.0, 8.0])),
        Case("never", times([1, 2, 3], [1.0, 2.0, 3.0], [2.0, 3.0, 4.0])),
        Case("ahead, but not at the end", times([1, 2, 3], [3.0, 3.0, 3.0], [2.0, 2.0, 4.0])),
        Case("always", times([3, 5, 7], [2.0, 3.0, 4.0], [1.0, 2.0, 3.0])),
        Case("a tie before it is ahead", times([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0])),
        Case("only at the last", times([1, 2, 9], [1.0, 1.0, 5.0], [2.0, 2.0, 2.0])),
        Case("10 noisy times", noisy_times(10)),
    ),
    oracle=least_from_which_on,
    mutants=(
        Mutant("the first M at which it is faster", {"            found = 0\n": "            pass\n"},
               "Ahead at one M by chance is not enough: it must be ahead there and at every larger M."),
        Mutant("a tie counts as faster", {"second >= first": "second > first"},
               "With equal times the second one is not faster yet."),
        Mutant("the two kernels swapped", {"second >= first": "first >= second"},
               "Wanted is where the second kernel is faster: second < first."),
        Mutant("the place in the list", {"found = m": "found = M.tolist().index(m)"},
               "The M itself is wanted, not its place in the list."),
        Mutant("the place in the list at the end",
               {"    return found": "    return M.tolist().index(found) if found else 0"},
               "The M itself is wanted, not its place in the list."),
        Mutant("the last M at which it is slower",
               {"            found = 0\n        elif found == 0:\n            found = m": "            found = m"},
               "At that M the first kernel still wins: the break-even is the next M in the list."),
        Mutant("the largest M", {"elif found == 0": "else"},
               "Of the M at which it is ahead for good, the least is wanted."),
        Mutant("the first M where it never is", {"    return found": "    return found or M[0].item()"},
               "Where the second kernel is not ahead at the end of the list, there is no break-even: return 0."),
        Mutant("the last M at which it is faster",
               {"        if second >= first:\n            found = 0\n        elif found == 0:\n            found = m":
                 "        if second < first:\n            found = m"},
               "Of the M at which it is ahead for good, the least is wanted: keep the first, and forget it where "
               "it falls behind."),
    ),
)

EXERCISES = [COMPUTE_BOUND_FROM, EAGER_US, GRAPH_US, BREAK_EVEN_M]
