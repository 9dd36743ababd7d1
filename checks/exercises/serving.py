"""Lesson 11: error bars, graphs for batches, and what a step of decode costs."""

import statistics

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers

LESSON = "11_real_stack"


def losses(n: int, shift: float, apart: float, common: float):
    """Losses of n windows: `common` is how much they differ from window to window, `apart` how much the difference does."""
    def inputs(g: torch.Generator) -> dict:
        a = 1.3 + common * torch.randn(n, generator=g, dtype=torch.float64)
        return {"a": a, "b": a + shift + apart * torch.randn(n, generator=g, dtype=torch.float64)}
    return inputs


def exact_difference(a: torch.Tensor, b: torch.Tensor) -> tuple[Expected, Expected]:
    """By Python's statistics, in rational numbers: float64 errs by far less than 1e-9 of a loss."""
    difference = [float(y) - float(x) for x, y in zip(a, b, strict=True)]
    error = statistics.stdev(difference) / len(difference) ** 0.5
    return Expected(statistics.fmean(difference), 1e-9), Expected(error, 1e-9 + 1e-9 * error)


_ROOT = "The standard error of a mean is the standard deviation of one value over √n: more windows, a smaller error."

PAIRED = Exercise(
    name="paired_difference",
    lesson=LESSON,
    points=2,
    outputs=("mean", "error"),
    oracle=exact_difference,
    cases=(
        Case("64 windows that differ far more than the models", losses(64, 0.001, 0.002, 0.4)),
        Case("two windows", losses(2, 0.1, 0.05, 0.3)),
        Case("b is better, 9 windows", losses(9, -0.02, 0.01, 0.2)),
    ),
    mutants=(
        Mutant("not paired", {"float(difference.std() / len(difference) ** 0.5)":
               "float(((a.double().var() + b.double().var()) / len(a)) ** 0.5)"},
               "Each window is easy or hard for both models alike: take the standard deviation of the n differences, not of "
               "the losses."),
        Mutant("without the root of n", {"difference.std() / len(difference) ** 0.5": "difference.std()"}, _ROOT),
        Mutant("n in the place of n - 1", {"difference.std()": "difference.std(correction=0)"},
               "The mean was taken from the same n differences, so their squares are divided by n - 1: torch's std does."),
        Mutant("the variance", {"difference.std()": "difference.var()"},
               "The standard deviation: the root of the variance."),
        Mutant("a - b", {"b.double() - a.double()": "a.double() - b.double()"},
               "b - a: positive where b's loss is the larger."),
        Mutant("the median", {"difference.mean()": "difference.median()"}, "The mean: perplexity is exp of a mean."),
    ),
)


def buckets(batch: int, *sizes: int):
    return Case(f"batch {batch} among {list(sizes)}", lambda _: {"batch": batch, "buckets": torch.tensor(sizes)})


def first_that_holds(batch: int, buckets: torch.Tensor) -> tuple[Expected]:
    for size in sorted(buckets.tolist()):
        if size >= batch:
            return (Expected(size),)
    return (Expected(0),)


BUCKET = Exercise(
    name="graph_bucket",
    lesson=LESSON,
    points=1,
    oracle=first_that_holds,
    cases=(buckets(5, 1, 2, 4, 8, 16), buckets(8, 1, 2, 4, 8, 16), buckets(17, 1, 2, 4, 8, 16), buckets(1, 16, 4, 1, 8),
           buckets(3, 8, 4, 2, 1), buckets(2, 3)),
    mutants=(
        Mutant("one that is full does not count", {"buckets >= batch": "buckets > batch"},
               "A batch of 8 runs in the graph of 8: at least `batch`."),
        Mutant("the largest", {"fits.min()": "fits.max()"},
               "Padding costs time: take the smallest that holds the batch."),
        Mutant("the first in the list", {"fits.min()": "fits[0]"}, "The buckets come in any order: take the smallest."),
        Mutant("the nearest below", {"buckets[buckets >= batch]": "buckets[buckets <= batch]", "fits.min()":
               "fits.max()"}, "A smaller graph does not hold all sequences."),
        Mutant("the largest where none holds it", {"else 0": "else int(buckets.max())"},
               "A graph has the shapes it was captured with: 0 says that the batch runs without one."),
        Mutant("none that holds it is forgotten", {"int(fits.min()) if len(fits) else 0": "int(fits.min())"},
               "Where no bucket holds the batch, `buckets[buckets >= batch]` is empty and has no smallest: give 0."),
        Mutant("the padding", {"int(fits.min())": "int(fits.min()) - batch"}, "Wanted is the bucket itself."),
    ),
)


def count_cache(batch: int, context: int, kv_heads: int, head_dim: int) -> tuple[Expected]:
    """Tensor by tensor: keys and values, their codes and their scales."""
    sizes = [batch * kv_heads * context * head_dim * 1, batch * kv_heads * context * 4]
    return (Expected(sum(sizes) + sum(sizes)),)


CACHE = Exercise(
    name="int8_cache_bytes",
    lesson=LESSON,
    points=1,
    oracle=count_cache,
    cases=(numbers(batch=64, context=8192, kv_heads=8, head_dim=128), numbers(batch=1, context=1, kv_heads=1, head_dim=1),
           numbers(batch=3, context=100, kv_heads=2, head_dim=64)),
    mutants=(
        Mutant("without scales", {"(head_dim + 4)": "head_dim"}, "Each token has an FP32 scale for each head, too."),
        Mutant("scales in FP16", {"(head_dim + 4)": "(head_dim + 2)"}, "Scales are FP32: four bytes."),
        Mutant("keys alone", {"context * 2 * kv": "context * kv"}, "Keys and values: twice."),
        Mutant("FP16", {"(head_dim + 4)": "2 * (head_dim + 4)"}, "A code is one byte."),
        Mutant("one scale for a token", {"2 * kv_heads * (head_dim + 4)": "2 * (kv_heads * head_dim + 4)"},
               "A scale for each token and each head."),
        Mutant("one sequence", {"return batch * ": "return "}, "Each sequence of the batch has a cache of its own."),
    ),
)


def slower_of_two(weight_bytes, cache_bytes, launches, gb_per_s, launch_us) -> tuple[Expected]:
    memory_s = (weight_bytes + cache_bytes) / (gb_per_s * 1e9)
    us = sorted((memory_s * 1e6, launches * launch_us))[1]
    return (Expected(us, 1e-9 * us),)


STEP = Exercise(
    name="decode_step_us",
    lesson=LESSON,
    points=1,
    oracle=slower_of_two,
    cases=(numbers(weight_bytes=2.5e9, cache_bytes=2e7, launches=400, gb_per_s=4000, launch_us=6.0),
           numbers(weight_bytes=2.5e9, cache_bytes=2e7, launches=1, gb_per_s=4000, launch_us=10.0),
           numbers(weight_bytes=1e6, cache_bytes=1e6, launches=3, gb_per_s=1000, launch_us=8.0),
           numbers(weight_bytes=1e9, cache_bytes=8e9, launches=500, gb_per_s=2000, launch_us=5.0)),
    mutants=(
        Mutant("one after the other", {"return max(": "return sum((", "launches * launch_us)": "launches * launch_us))"},
               "The CPU launches while the GPU works: the step takes as long as the slower of the two, not both."),
        Mutant("the faster of the two", {"max(": "min("}, "Each waits for the other: the slower one decides."),
        Mutant("without the cache", {"(weight_bytes + cache_bytes)": "weight_bytes"}, "The cache is read too."),
        Mutant("milliseconds", {"1e3 * gb_per_s": "1e6 * gb_per_s"},
               "GB are 1e9 bytes: a GB/s is 1e3 bytes a microsecond."),
        Mutant("one launch", {"launches * launch_us": "launch_us"}, "Each of the launches takes launch_us."),
        Mutant("in a graph always", {"return max((weight_bytes + cache_bytes) / (1e3 * gb_per_s), launches * launch_us)":
               "return (weight_bytes + cache_bytes) / (1e3 * gb_per_s)"},
               "Without a graph the CPU may be the slower one: launches · launch_us."),
    ),
)

EXERCISES = [PAIRED, BUCKET, CACHE, STEP]
