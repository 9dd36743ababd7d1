"""What a definition in checks/exercises/ says of itself holds: a case is what its name says, no result may be further off
than its type's rounding or the table says, and the least traffic is counted a second time.

The numbers come from the oracles alone; no function is tried.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from checks.exercises import EXERCISES
from checks.judge.exercise import Exercise
from checks.judge.source import answer_source
from checks.judge.trial import Outcome, prepare

SEED = 7
Tensors = dict[str, torch.Tensor]


def of(exercises: list[Exercise]) -> pytest.MarkDecorator:
    """One exercise's tests follow each other, so that its cases are made once."""
    return pytest.mark.parametrize("exercise", [pytest.param(e, id=e.name) for e in exercises], scope="module")


ALL = of(list(EXERCISES.values()))
KERNELS = of([exercise for exercise in EXERCISES.values() if exercise.least_bytes])


def tensors(seen: Outcome) -> Tensors:
    """Those of the inputs that are tensors; `w` is `w_q` as well."""
    return {name.removesuffix("_q"): value for name, value in seen.inputs.items() if isinstance(value, torch.Tensor)}


def matrices(seen: Outcome) -> Tensors:
    return {name: value for name, value in tensors(seen).items() if value.ndim > 1 and value.is_floating_point() ^ (
        value.dtype == torch.int8) and not name.endswith("scale")}


def values(seen: Outcome) -> list[torch.Tensor]:
    """What each output must be."""
    return [torch.as_tensor(expected.value) for expected in seen.expected]


def sizes(seen: Outcome) -> Iterator[tuple[tuple[str, int | None], float]]:
    """The number at each place that a case has: along an axis of an input or an output, and an input that is a number."""
    for name, value in [*seen.inputs.items(), *zip(("output 0", "output 1", "output 2"), values(seen), strict=False)]:
        if isinstance(value, torch.Tensor):
            yield from (((name, axis), size) for axis, size in enumerate(value.shape))
            yield from (((name, axis - value.ndim), size) for axis, size in enumerate(value.shape))
        elif isinstance(value, int | float):
            yield (name, None), value


@ALL
def test_a_letter_is_the_same_size_in_each_case(exercise):
    """`K=300` in a case's name is the length of the same axis of the same tensor as in the other cases."""
    places: dict[str, set[tuple[str, int | None]]] = {}
    for case in exercise.cases:
        found = dict(sizes(prepare(exercise, case, SEED)))
        for letter, number in re.findall(r"([^\W\d]\w*) ?= ?(-?\d[\d.e+-]*)", case.name):
            here = {place for place, size in found.items() if size == float(number)}
            places[letter] = places.get(letter, here) & here
            assert places[letter], f"{case.name}: nothing that is {letter} in the cases before it is {number} here"


def beyond(tensor: torch.Tensor, axis: int) -> bool:
    """Whether an axis' last element lies where 32 bits do not reach."""
    return (tensor.shape[axis] - 1) * tensor.stride(axis) >= 2**31


def wider(tensor: torch.Tensor) -> bool:
    """Whether it is a part of a matrix with longer rows."""
    return tensor.stride(-2) > tensor.shape[-1] and tensor.stride(-1) == 1


def any_of(condition: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Outcome], bool]:
    return lambda seen: any(bool(condition(value).any()) for value in tensors(seen).values())


def product(seen: Outcome, of_sizes: bool = False) -> torch.Tensor:
    """x @ w.T, exactly, or of their sizes: what a sum can come to on its way."""
    x, w = (tensors(seen)[name].double() for name in "xw")
    return x.abs() @ w.abs().T if of_sizes else x @ w.T


def whole(seen: Outcome) -> bool:
    """Whether all numbers are, but for scales."""
    return all(bool((value == value.round()).all()) for name, value in tensors(seen).items() if "scale" not in name)


def shape(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in re.findall(r"\d+", text))


PHRASES: dict[str, Callable[..., Any]] = {
    r"a wider (?:matrix|product)": lambda seen: any(map(wider, matrices(seen).values())),
    r"of wider matrices": lambda seen: all(map(wider, matrices(seen).values())),
    r"^rows 2\^30": lambda seen: all(beyond(value, 0) for value in matrices(seen).values()),
    r"rows of (\w+) 2\^30": lambda seen, name: beyond(tensors(seen)[name], 0),
    r"columns of (\w+) 2\^30": lambda seen, name: beyond(tensors(seen)[name], 1),
    r"w stored as \(K, N\)": lambda seen: tensors(seen)["w"].stride() == (1, len(tensors(seen)["w"])),
    r"stored column by column|^column by column": lambda seen: tensors(seen)["x"].stride() == (1, len(tensors(seen)["x"])),
    r"(?:^row by row|column) to (row|column) by": lambda seen, to: seen.inputs["column_major"] == (to == "column"),
    r"^every third column": lambda seen: tensors(seen)["x"].stride(1) == 3,
    r"\bx (\([\d, ]+\)) stored as (\([\d, ]+\))": lambda seen, now, stored: (
        tuple(seen.inputs["x"].shape) == shape(now) and tuple(seen.inputs["x"].transpose(0, 1).shape) == shape(stored)
        and seen.inputs["x"].transpose(0, 1).is_contiguous()),
    r"\b([xwy]) (\([\d, ]+\))": lambda seen, name, as_said: (
        tuple(tensors(seen)[name].shape)[-len(shape(as_said)):] == shape(as_said) and (
            tensors(seen)[name].ndim - len(shape(as_said)) == ("on 2 ranks" in seen.case.name))),
    r"h \(5, (\d+)\)": lambda seen, width: seen.inputs["down_q"].shape[1] == int(width),
    r"(\d+) hidden": lambda seen, width: seen.inputs["gate"].shape[0] == seen.inputs["down"].shape[1] == int(width),
    r"rank (\d) of (\d)": lambda seen, rank, size: (seen.inputs["rank"], seen.inputs["size"]) == (int(rank), int(size)),
    r"^one element, |^one element of y": lambda seen: all(value.numel() == 1 for value in values(seen)),
    r"^one row, ": lambda seen: values(seen)[0].shape[0] == 1,
    r"^one token, ": lambda seen: 1 in (math.prod(seen.inputs["x"].shape[:-1]) if "x" in seen.inputs else 0,
                                        seen.inputs.get("lengths")),
    r"^no leading dimension": lambda seen: seen.inputs["x"].ndim == 1,
    r"batch of (\d) x (\d)": lambda seen, *lead: tuple(seen.inputs["x"].shape[:-1]) == tuple(map(int, lead)),
    r", (\d+) tokens": lambda seen, number: seen.inputs["x"].shape[0] == int(number),
    r"without bias|^no bias": lambda seen: seen.inputs.get("bias") is None,
    r"an FP(16|32) bias": lambda seen, bits: seen.inputs["bias"].dtype == {"16": torch.half, "32": torch.float}[bits],
    r"BF16": lambda seen: seen.expected[0].dtype == torch.bfloat16,
    r"BF16.*(?:large|beyond)": lambda seen: values(seen)[0].abs().max() > torch.finfo(torch.half).max,
    r"(?:^|, |of )NaN|, NaN": any_of(torch.isnan),
    r"Inf\b": any_of(torch.isinf),
    r"\b[zZ]eros?\b": any_of(lambda value: value == 0),
    r"^a row of zeros|^zero and tiny": lambda seen: (seen.inputs["x"] == 0).all(dim=-1).any(),
    r"channels (?:of zeros|that are always 0)": lambda seen: (
        (seen.inputs["x"] == 0).all(dim=0) if "x" in seen.inputs else seen.inputs["x_amax"] == 0).any(),
    r"^integers|^whole numbers|^codes": whole,
    r"^normal(?!.*parts)": lambda seen: not whole(seen),
    r"sums beyond FP16": lambda seen: product(seen, of_sizes=True).max() > torch.finfo(torch.half).max,
    r"products beyond FP16": lambda seen: (
        (each := seen.inputs["x"].double() * seen.inputs["w"].double()) != each.half()).all(),
    r"sums (?:beyond|above) 2\^24|beyond FP32's": lambda seen: (
        product(seen) != product(seen).float()).any() if "x_scale" not in seen.inputs else (
        product(seen, of_sizes=True).max() > 2**24),
    r"the largest sums": lambda seen: (product(seen, of_sizes=True) == seen.inputs["w_q"].shape[1] * 127 * 127).any(),
    r"(?<!to )less than one block, N=(\d+)": lambda seen, N: int(N) < seen.inputs.get("BLOCK", 64),
    r"lengths? (\d+)(?: and (\d+))?": lambda seen, *each: seen.inputs["lengths"].tolist() == [int(n) for n in each if n],
    r"room for more": lambda seen: all(value.shape[2] > max(seen.inputs["lengths"]) for name, value in matrices(seen).items()
                                       if name in ("k", "v")),
    r"(\d+) heads for (\d+)": lambda seen, *heads: [tensors(seen)[name].shape[1] for name in "qk"] == [*map(int, heads)],
    r"(\d+) parts(?:$|, D)": lambda seen, parts: int(parts) in (
        seen.inputs.get("parts"), seen.inputs.get("splits"), *tensors(seen).get("lse", torch.empty(0)).shape[2:]),
    r"\b(\d+) x (\d+)$": lambda seen, *block: (seen.inputs["rows"], seen.inputs["columns"]) == tuple(map(int, block)),
    r"^INT(4|8)": lambda seen, bits: seen.inputs["largest"] == 2 ** (int(bits) - 1) - 1,
    r"an outlier of (\d+)": lambda seen, size: seen.inputs["x"].abs().max() >= int(size),
    r"^(\d+) (?:calls|kernels|points|windows|layers)\b|, (\d+) (?:kernels|windows)$": lambda seen, *number: (
        next(iter(tensors(seen).values())).shape[0] == int(number[0] or number[1])),
    r"`most` ([\d.]+\d)": lambda seen, most: seen.inputs["most"] == float(most),
    r"budget ([\d.]+)": lambda seen, budget: seen.inputs["budget"] == float(budget),
    r"^no budget": lambda seen: seen.inputs["budget"] == 0,
    r"^no gap": lambda seen: seen.inputs["gap_us"] == 0,
    r"^one (?:call|kernel|point)$": lambda seen: len(next(iter(tensors(seen).values()))) == 1,
    r"^one part, ": lambda seen: 1 in (seen.inputs.get("splits"), *tensors(seen).get("partial", torch.empty(0)).shape[:1]),
    r"^batch (\d+) among (\[.*\])": lambda seen, batch, among: (
        seen.inputs["batch"], seen.inputs["buckets"].tolist()) == (int(batch), list(shape(among))),
    r"behind (\d+) of a cache": lambda seen, first: seen.inputs["first"] == int(first),
    r"all (positive|negative)": lambda seen, sign: (seen.inputs["x"] * (1 if sign == "positive" else -1) > 0).all(),
}
"""What a phrase in a case's name says of its inputs and of what is expected."""


@ALL
def test_a_case_is_what_its_name_says(exercise):
    for case in exercise.cases:
        for phrase, holds in PHRASES.items():
            if found := re.search(phrase, case.name):
                assert holds(prepare(exercise, case, SEED), *found.groups()), f"{case.name}: {found[0]}"


def test_each_phrase_is_in_a_case_s_name():
    names = [case.name for exercise in EXERCISES.values() for case in exercise.cases]
    assert not [phrase for phrase in PHRASES if not any(re.search(phrase, name) for name in names)]


POSITIVE = {"times_us", "kernel_us", "first_us", "second_us", "us", "loss", "pct", "times", "x_amax"}
"""Inputs that cannot be negative, beside scales."""


@ALL
def test_inputs_are_of_both_signs_and_codes_of_all_sizes(exercise):
    """An input that is nowhere negative, or scales that are all one number, would let a wrong function pass."""
    seen: dict[str, list[torch.Tensor]] = {}
    for case in exercise.cases:
        for name, value in prepare(exercise, case, SEED).inputs.items():
            if isinstance(value, torch.Tensor) and value.isfinite().any():
                seen.setdefault(name, []).append(value[value.isfinite()])
    for name, each in seen.items():
        least, most = min(value.min().item() for value in each), max(value.max().item() for value in each)
        if each[0].dtype == torch.int8:
            assert least <= -127 and most >= 120, name
        elif each[0].is_floating_point() and "scale" not in name and name not in POSITIVE:
            assert least < 0 < most, name
        assert len(torch.cat(each).unique()) > 1, name
        if "scale" in name and max(map(len, each)) > 1:
            assert any(len(value.unique()) > len(value) // 2 for value in each), name


@ALL
def test_outputs_bear_their_names_in_the_answer(exercise):
    source = answer_source(exercise.wrapper or exercise.name)
    if exercise.adapter is None and exercise.name not in ("pareto_front", "column_part"):
        named = [name for name in exercise.outputs if name.isidentifier() and name != "result"]
        assert not [name for name in named if not re.search(rf"\b{name}\b", source)]
        returned = [re.search(rf"\b{name}\b", source.rpartition("return ")[2]) for name in named]
        places = [found.start() for found in returned if found]
        assert places == sorted(places), "they are returned in another order"
    assert not exercise.is_kernel or "result" not in exercise.outputs
    for case in exercise.cases:
        assert len(prepare(exercise, case, SEED).expected) == len(exercise.outputs), case.name


@ALL
def test_each_edit_of_a_mutant_changes_something(exercise):
    answer = answer_source(exercise.name)
    for mutant in exercise.mutants:
        assert all(old != new for old, new in mutant.edits.items()), mutant.name
        assert mutant.name and mutant.advice.strip() not in ("", mutant.name), mutant.name
    sources = [answer, *(exercise.edited_source(*mutant.edits.items()) for mutant in exercise.mutants)]
    assert len(set(sources)) == len(sources)
    assert len({mutant.name for mutant in exercise.mutants}) == len(exercise.mutants)


HALF_UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24}
"""What rounding a number to a type errs by, of the number itself."""

STRICT = {torch.float64: 1e-3, torch.float32: 1, torch.float16: 1.02, torch.bfloat16: 2.02, None: 1e-6}
LOOSER = {
    "smooth_kernel out": 2, "quantize_int8_perrow_torch scale": 4, "quantize_int8_perrow_plain_kernel scale": 4,
    "quantize_int8_perrow_long_kernel scale": 4, "fake_quantize_int8 result": 40, "matmul_decomposed result": 120,
    "smoothquant x / s": 168, "smoothquant w · s": 168, "rmsnorm_quantize_int8_plain_kernel scale": 33,
    "rmsnorm_quantize_int8_long_kernel scale": 33, "silu_mul_quantize_int8_plain_kernel scale": 15, "mlp_int8 y": 40,
    "fold_smoothing norm_weight": 40, "fold_smoothing w": 40, "quantize_asymmetric scale": 4, "matmul_asymmetric y": 4,
    "quantize_heads_kernel scale": 4, "decode_attention_int8_kernel part": 10_000, "decode_attention_int8_kernel lse": 40,
    "shared_scale scale": 2, "row_parallel_own y": 5, "mlp_parallel y": 500, "all_reduce_int8 y": 5,
    "sqnr_db result": 1e-4, "perplexity result": 1e-4, "better_change us": 1e-5,
}
"""What half of an exercise's elements may be off at most in its strictest case; of the others by the type of what comes out.
In half units, of plain numbers in parts of themselves. 0 of whole numbers."""


@ALL
def test_no_result_may_be_further_off_than_rounding(exercise):
    strictest: dict[tuple[str, Any], float] = {}
    for case in exercise.cases:
        for name, expected in zip(exercise.outputs, prepare(exercise, case, SEED).expected, strict=True):
            value, off = torch.as_tensor(expected.value).double(), torch.as_tensor(expected.tolerance).double()
            if expected.dtype in HALF_UNIT:
                off = off / (HALF_UNIT[expected.dtype] * value.abs().clamp(min=torch.finfo(expected.dtype).smallest_normal))
            elif expected.dtype is None and value != 0:
                off = off / value.abs()
            key = f"{exercise.name} {name.partition(' on rank')[0]}", expected.dtype
            strictest[key] = min(strictest.get(key, math.inf), off[off.isfinite()].median().item())
    for (name, dtype), off in strictest.items():
        assert off <= 1.01 * LOOSER.get(name, STRICT.get(dtype, 0)), name


@ALL
def test_no_case_lets_any_result_through(exercise):
    """Where a finite number is wanted, the tolerance is one; and zeros in its place are further off somewhere."""
    for case in exercise.cases:
        for name, expected in zip(exercise.outputs, prepare(exercise, case, SEED).expected, strict=True):
            value, off = torch.as_tensor(expected.value).double(), torch.as_tensor(expected.tolerance).double()
            value, off = torch.broadcast_tensors(value, off)
            value, off = value[value.isfinite()], off[value.isfinite()]
            assert (off.isfinite() & (off >= 0)).all(), f"{case.name}: {name}"
            assert not value.any() or off[value != 0].max() < value.abs().max(), f"{case.name}: {name}"


NEARLY = {
    "perrow_w8a8_matmul_plain_kernel": "the few numbers of a bias are not counted",
    "decode_attention_kernel": "the lengths are not",
    "decode_attention_int8_kernel": "nor are they here, and one part is the least that can be written",
}


def bytes_of(name: str, tensor: torch.Tensor, seen: Outcome) -> int:
    """What reading a tensor takes: of a cache only the tokens that are there."""
    if "lengths" in seen.inputs and name[0] in "kv":
        tensor = torch.cat([one[:, :length].flatten() for one, length in zip(tensor, seen.inputs["lengths"], strict=True)])
    return tensor.numel() * tensor.element_size()


@KERNELS
def test_the_least_bytes_are_what_is_there_once(exercise):
    for case in exercise.cases:
        seen = prepare(exercise, case, SEED)
        inputs = sum(bytes_of(name, value, seen) for name, value in seen.inputs.items() if isinstance(value, torch.Tensor))
        there = inputs + sum(expected.value.to(expected.dtype).nbytes for expected in seen.expected)
        assert (0.9 if exercise.name in NEARLY else 1) * there <= exercise.least_bytes(**seen.inputs) <= there, case.name
