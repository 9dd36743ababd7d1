"""A known mistake in counting bytes is the one that its name says: each is counted a second time, tensor by tensor."""

from collections.abc import Callable

import pytest

from checks.exercises import EXERCISES

Tensors = dict[str, tuple[float, int]]
"""For each tensor its numbers, and the bytes of each of them."""


def product_of_codes(M: int, N: int, K: int) -> Tensors:
    return {"x": (M * K, 1), "w": (N * K, 1), "x scales": (M, 4), "w scales": (N, 4), "y": (M * N, 2)}


def quantizer(M: int, K: int) -> Tensors:
    return {"x": (M * K, 2), "codes": (M * K, 1), "scales": (M, 4)}


def norm(M: int, K: int) -> Tensors:
    return {"norm's x": (M * K, 2), "weight": (K, 2), "normed": (M * K, 2)}


def cache(batch: int, context: int, kv_heads: int, head_dim: int) -> Tensors:
    tokens = batch * context * kv_heads
    return {"k": (tokens * head_dim, 1), "v": (tokens * head_dim, 1), "k scales": (tokens, 4), "v scales": (tokens, 4)}


def sent(M: int, N: int, size: int) -> Tensors:
    return {name: (2 * numbers * (size - 1) / size, 4) for name, numbers in (("maxima", M), ("sums", M * N))}


def mlp(M: int, N: int, K: int) -> Tensors:
    """Without what goes between the product of gate and up and the quantizer."""
    return {"x": (M * K, 1), "x scales": (M, 4), "w": (2 * N * K, 1), "w scales": (2 * N, 4), "codes": (M * N, 1),
            "h scales": (M, 4)}


NO_SCALES = {"x scales": 0, "w scales": 0}
NO_SCALES_OF_MLP = NO_SCALES | {"h scales": 0}

COUNTED: dict[str, tuple[Callable[..., Tensors], dict[str, dict[str, int]]]] = {
    "gemv_bytes": (lambda N, K: {"w": (N * K, 2), "x": (K, 2), "y": (N, 2)}, {
        "bytes counted as elements": {"w": 1, "x": 1, "y": 1}, "FP32 sizes": {"w": 4, "x": 4, "y": 4},
        "y left out": {"y": 0}, "x left out": {"x": 0}, "only W counted": {"x": 0, "y": 0},
        "inputs counted as read and written": {"w": 4, "x": 4}}),
    "matmul_fp16_bytes": (lambda M, N, K: {"x": (M * K, 2), "w": (N * K, 2), "y": (M * N, 2)}, {
        "bytes counted as elements": {"x": 1, "w": 1, "y": 1}, "y left out": {"y": 0}, "x left out": {"x": 0},
        "w left out": {"w": 0}, "2 · M · N too many: y in FP32, or moved twice": {"y": 4}}),
    "quantize_int8_perrow_bytes": (quantizer, {
        "the scales left out": {"scales": 0}, "numbers, not bytes": {"codes": 0, "scales": 1},
        "scales of two bytes": {"scales": 2}, "only x counted": {"codes": 0, "scales": 0}, "x left out": {"x": 0},
        "codes of two bytes": {"codes": 2}, "x of one byte": {"x": 1},
        "2 · M · K too many: x read twice, or four bytes for each number of x": {"x": 4}}),
    "perrow_w8a8_matmul_bytes": (product_of_codes, {
        "half of the FP16 product's": NO_SCALES | {"y": 1}, "the scales left out": NO_SCALES,
        "w's scales left out": {"w scales": 0}, "x's scales left out": {"x scales": 0},
        "scales of two bytes": {"x scales": 2, "w scales": 2}, "the scales counted twice": {"x scales": 8, "w scales": 8},
        "y of one byte": {"y": 1}, "the INT32 sums written": {"y": 4}, "y left out": {"y": 0},
        "codes of two bytes": {"x": 2, "w": 2}, "w left out": {"w": 0}, "x left out": {"x": 0}}),
    "kv_cache_bytes": (lambda batch, context, kv_dim: dict.fromkeys("kv", (batch * context * kv_dim, 2)), {
        "half of it": {"k": 0}, "a quarter of it": {"k": 0, "v": 1}, "FP32": {"k": 4, "v": 4}}),
    "int8_cache_bytes": (cache, {
        "without scales": {"k scales": 0, "v scales": 0}, "scales in FP16": {"k scales": 2, "v scales": 2},
        "keys alone": {"v": 0, "v scales": 0}}),
    "shared_scale_bytes": (sent, {
        "the maxima left out": {"maxima": 0}, "FP16 maxima": {"maxima": 2}, "FP16 sums": {"sums": 2},
        "one byte for each sum": {"sums": 1}, "the sums left out": {"sums": 0}}),
    "epilogue_fused_bytes": (lambda M, N, K: norm(M, K) | {f"quantizer's {name}": tensor for name, tensor in quantizer(
        M, K).items()} | product_of_codes(M, N, K), {
        "INT32 sums written": {"y": 4}, "INT32 sums written and read": {"y": 2 + 4 + 4}, "INT32 sums written as well": {
            "y": 2 + 4}, "the scales are not read": NO_SCALES, "the scales of w are not read": {"w scales": 0},
        "one byte for each of M · K too few": {"x": 0}, "the norm's weight left out": {"weight": 0},
        "the weight and the scales left out": NO_SCALES | {"weight": 0, "quantizer's scales": 0},
        "no quantizer": {"quantizer's x": 0, "quantizer's codes": 0, "quantizer's scales": 0},
        "the norm's weight in four bytes, or read twice": {"weight": 4}}),
    "producer_fused_bytes": (lambda M, N, K: norm(M, K) | {"normed": (M * K, 1), "scales": (M, 4)} | product_of_codes(
        M, N, K), {
        "one FP16 matrix (M, K) too many": {"normed": 1 + 2}, "the norm writes FP16": {"normed": 2},
        "4 · M too few: scales of x not written, or not read": {"scales": 0}, "the codes move once": {"x": 0},
        "the scales are not read": NO_SCALES, "the norm's weight left out": {"weight": 0},
        "the weight and the scales left out": NO_SCALES | {"weight": 0, "scales": 0}, "x is not read": {"norm's x": 0},
        "codes and scales of x never in memory": {"normed": 0, "scales": 0, "x": 0, "x scales": 0},
        "the norm's weight in four bytes, or read twice": {"weight": 4}}),
    "silu_in_quantizer_bytes": (lambda M, N, K: mlp(M, N, K) | dict.fromkeys(
        ("gate", "up", "gate again", "up again"), (M * N, 2)), {
        "4 · M · N too few: gate and up not read, or only one of the two": {"gate again": 0, "up again": 0},
        "gate and up in four bytes": {"gate": 4, "up": 4, "gate again": 4, "up again": 4},
        "h written in FP16 too": {"codes": 1 + 2}, "h in FP16 instead of codes": {"codes": 2},
        "the scales left out": NO_SCALES_OF_MLP, "the scales of h left out": {"h scales": 0},
        "the scales are not read": NO_SCALES, "INT32 sums written": {"gate": 4, "up": 4}}),
    "silu_in_epilogue_bytes": (lambda M, N, K: mlp(M, N, K) | {"h": (M * N, 2), "h again": (M * N, 2)}, {
        "gate and up written": {"h": 4}, "h in four bytes": {"h": 4, "h again": 4}, "h is not read": {"h again": 0},
        "no quantizer": {"h again": 0, "codes": 0, "h scales": 0}, "x is read twice": {"x": 2},
        "codes out of the epilogue": {"h": 0, "h again": 0}, "h in FP16 instead of codes": {"codes": 2},
        "the scales left out": NO_SCALES_OF_MLP, "the scales of h left out": {"h scales": 0},
        "the scales are not read": NO_SCALES}),
}
"""Of a function: what there is for it to count, and by a mistake's name the bytes that it takes a tensor's numbers for."""


@pytest.mark.parametrize("name", COUNTED)
def test_a_mistake_in_counting_is_what_its_name_says(name):
    (there, mistakes), exercise = COUNTED[name], EXERCISES[name]
    mutants = {mutant.name: exercise.mutated(mutant) for mutant in exercise.mutants}
    for case in exercise.cases:
        sizes = case.inputs(None)
        for mistake, changed in ({"": {}} | mistakes).items():
            tensors = there(**sizes)
            assert changed.keys() <= tensors.keys(), mistake
            count = mutants[mistake] if mistake else exercise.answer_function()
            want = sum(numbers * changed.get(tensor, each) for tensor, (numbers, each) in tensors.items())
            assert count(**sizes) == pytest.approx(want, rel=1e-12), f"{mistake or 'the answer'}, {case.name}"
