"""Rows 2³⁰ elements apart, parts of a matrix that is never made: the third starts where 32 bits no longer reach."""

import math

import pytest
import torch

from kernels import (
    decode,
    fused,
    gate_up,
    gemv,
    gemv_int8,
    group_w8a8,
    hello,
    int_mm,
    kv_cache,
    matmul,
    mlp,
    parts,
    perrow_w8a8,
    plans,
    quantize,
    quantize_inside,
    rotary,
    skinny,
)
from kernels.matmul_int8 import matmul_int8
from kernels.runtime import INTERPRETED, device

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="a GPU would need memory for the gaps as well")
FAR = 2**30


def far(x):
    rows, columns = x.shape
    return torch.empty((rows - 1) * FAR + columns, dtype=x.dtype).as_strided((rows, columns), (FAR, 1)).copy_(x)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half().to(device())


def codes(rows, K, seed=0):
    return torch.randint(-127, 128, (rows, K), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


SCALE = torch.tensor([0.01, 0.02, 0.03])
CALLS = {  # a function, and its arguments by name: each matrix may have its rows anywhere
    "quantize, one block": (quantize.quantize_int8_perrow, {"x": randn(3, 40)}),
    "quantize, two blocks": (quantize.quantize_int8_perrow, {"x": randn(3, 1100)}),
    "quantize, long": (quantize.quantize_int8_perrow_long, {"x": randn(3, 40)}),
    "norm": (fused.rmsnorm_quantize_int8, {"x": randn(3, 40), "weight": randn(40)}),
    "norm in chunks": (fused.rmsnorm_quantize_int8, {"x": randn(3, 2100), "weight": randn(2100)}),
    "norm to FP16": (plans.rmsnorm, {"x": randn(3, 40), "weight": randn(40)}),
    "gate and up": (fused.silu_mul_quantize_int8, {"gate": randn(3, 40), "up": randn(3, 40, seed=1)}),
    "FP16 GEMV": (gemv.gemv_fp16, {"x": randn(40), "w": randn(3, 40)}),
    "INT8 GEMV": (gemv_int8.gemv_w8a16, {"x": randn(40), "w_q": codes(3, 40), "w_scale": SCALE}),
    "decode, 1 row": (decode.decode_w8a8, {"x": randn(1, 40), "w_q": codes(3, 40), "w_scale": SCALE}),
    "decode, 1 long row": (decode.decode_w8a8, {"x": randn(1, 4100), "w_q": codes(3, 4100), "w_scale": SCALE}),
    "decode": (decode.decode_w8a8, {"x": randn(3, 40), "w_q": codes(3, 40), "w_scale": SCALE}),
    "skinny": (skinny.skinny_w8a8, {"x_q": codes(3, 40), "x_scale": SCALE, "w_q": codes(3, 40, 1), "w_scale": SCALE}),
    "split K": (skinny.split_k_w8a8, {"x_q": codes(3, 40), "x_scale": SCALE, "w_q": codes(3, 40, 1), "w_scale": SCALE}),
    "FP16, grouped": (matmul.matmul_fp16_grouped, {"x": randn(3, 40), "w": randn(3, 40, seed=1)}),
    "quantize, plain": (quantize.quantize_int8_perrow_plain, {"x": randn(3, 40)}),
    "quantize, groups": (group_w8a8.quantize_int8_groups, {"x": randn(3, 128)}),
    "norm, plain": (fused.rmsnorm_quantize_int8_plain, {"x": randn(3, 40), "weight": randn(40)}),
    "norm, long": (fused.rmsnorm_quantize_int8_long, {"x": randn(3, 40), "weight": randn(40)}),
    "gate and up, plain": (fused.silu_mul_quantize_int8_plain, {"gate": randn(3, 40), "up": randn(3, 40, seed=1)}),
    "gate and up to FP16": (mlp.silu_mul_fp16, {"gate": randn(3, 40), "up": randn(3, 40, seed=1)}),
    "FP16 GEMV, a row each": (gemv.gemv_fp16_row, {"x": randn(40), "w": randn(3, 40)}),
    "INT8 GEMV, a row each": (gemv_int8.gemv_w8a16_row, {"x": randn(40), "w_q": codes(3, 40), "w_scale": SCALE}),
    "quantized inside": (quantize_inside.quantizing_matmul, {"x": randn(3, 40), "w_q": codes(3, 40), "w_scale": SCALE}),
    "quantized inside, scales given": (quantize_inside.quantizing_matmul, {
        "x": randn(3, 40), "w_q": codes(3, 40), "w_scale": SCALE, "x_scale": SCALE}),
    "rows quantized inside": (quantize_inside.persistent_rows_matmul, {
        "x": randn(3, 40), "w_q": codes(3, 40), "w_scale": SCALE}),
    "codes with groups of scales": (group_w8a8.group_w8a8_matmul, {
        "x_q": codes(3, 128), "x_scale": SCALE[None], "w_q": codes(3, 128, 1), "w_scale": SCALE[None]}),
    "codes, grouped": (perrow_w8a8.perrow_w8a8_matmul_grouped, {
        "x_q": codes(3, 40), "x_scale": SCALE, "w_q": codes(3, 40, 1), "w_scale": SCALE}),
    "both, plain": (gate_up.gate_up_silu_mul_plain, {
        "x_q": codes(3, 40), "x_scale": SCALE, "w_q": codes(6, 40, 1), "w_scale": SCALE.repeat(2)}),
    "amax of a part": (parts.part_amax, {"x": randn(3, 40), "up": randn(3, 40, seed=1)}),
    "codes of a part": (lambda x, up: parts.quantize_with_amax(x, up, [torch.ones(3)]), {
        "x": randn(3, 40), "up": randn(3, 40, seed=1)}),
}


def same(a, b):
    return all(map(torch.equal, a, b)) if isinstance(a, tuple) else torch.equal(a, b)


@pytest.mark.parametrize("call", CALLS)
def test_inputs_with_far_rows(call):
    function, given = CALLS[call]
    want = function(**given)
    for name in (name for name, value in given.items() if value.ndim == 2 and not name.endswith("_scale")):
        assert same(function(**given | {name: far(given[name])}), want), name


@pytest.mark.parametrize("call", ["quantize, long", "norm to FP16", "gate and up to FP16", "FP16, grouped",
                                  "codes, grouped", "codes with groups of scales", "quantized inside"])
def test_outputs_with_far_rows(call, monkeypatch):
    function, given = CALLS[call]
    want = function(**given)
    empty = torch.empty

    def far_apart(shape, **options):
        if isinstance(shape, int) or len(shape) == 1 or not shape[0]:
            return empty(shape, **options)
        return empty((shape[0] - 1) * FAR + shape[1], **options).as_strided(shape, (FAR, 1))

    monkeypatch.setattr(torch, "empty", far_apart)
    assert same(function(**given), want)


def far_apart(x):
    """Each of x's three parts, along its first dimension, 2³⁰ elements behind the one before."""
    return torch.empty(2 * FAR + x[0].numel(), dtype=x.dtype).as_strided(x.shape, (FAR, *x.stride()[1:])).copy_(x)


def heads(B, *shape, seed=0):
    return codes(B, math.prod(shape), seed).view(B, *shape)


LENGTHS, SIZES = torch.tensor([5, 2, 4], dtype=torch.int32), (3, 2, 5, 16)
SCALES = torch.linspace(0.01, 0.3, 30).view(3, 2, 5)
QUERIES = {"q": randn(3, 4, 16), "lengths": LENGTHS}
BATCHES = {  # a function, its arguments, and those of them that lie far apart at the same time
    "heads' codes": (kv_cache.quantize_heads, {"x": randn(3, 2, 32), "heads": 2}, ["x"]),
    "new tokens": (kv_cache.append_int8, {"x": randn(3, 1, 32), "place": LENGTHS - 1, "q": heads(*SIZES), "scale": SCALES},
                   ["q", "scale"]),
    "attention": (kv_cache.decode_attention, QUERIES | {"k": randn(*SIZES), "v": randn(*SIZES, seed=1)}, ["k", "v"]),
    "attention in INT8": (kv_cache.decode_attention_int8, QUERIES | {
        "k_q": heads(*SIZES), "v_q": heads(*SIZES, seed=1), "k_scale": SCALES, "v_scale": SCALES.flip(0)},
        ["k_q", "v_q", "k_scale", "v_scale"]),
    "queries turned": (rotary.rotate_qkv, {"qkv": randn(3, 64), "turn": randn(2, 1, 4).float(), "k": randn(3, 2, 1, 8),
                                           "v": randn(3, 2, 1, 8)}, ["qkv", "k", "v"]),
}


@pytest.mark.parametrize("call", BATCHES)
def test_sequences_far_from_each_other(call):
    function, given, names = BATCHES[call]
    near, apart = ({name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in given.items()}
                   for _ in range(2))
    apart |= {name: far_apart(apart[name]) for name in names}
    want, got = function(**near), function(**apart)
    assert got is want is None or same(got, want)
    assert all(torch.equal(apart[name], near[name]) for name in names)  # some are written


CODES = {"x_q": codes(3, 40), "x_scale": SCALE, "w_q": codes(3, 40, 1), "w_scale": SCALE, "bias": randn(3)}
ROWS = {"x": randn(3, 40), "w_q": codes(3, 40), "w_scale": SCALE, "bias": randn(3)}
BOTH = {"x_q": codes(3, 40), "x_scale": SCALE, "w_q": codes(6, 40, 1), "w_scale": SCALE.repeat(2)}
MORE = CALLS | {  # whose rows have to be near each other, or are tested elsewhere
    "sum": (hello.vector_add, {"x": randn(40).float(), "y": randn(40).float()}),
    "smooth": (hello.smooth, {"x": randn(40).float()}), "row sum": (hello.row_sum, {"x": randn(3, 40).float()}),
    "copy": (hello.copy_2d, {"x": randn(3, 40).float()}),
    "codes GEMV": (gemv_int8.gemv_w8a8_row, {
        "x_q": codes(1, 40)[0], "x_scale": SCALE[:1], "w_q": codes(3, 40), "w_scale": SCALE}),
    "sums of codes": (int_mm.int_mm, {"x_q": codes(3, 40), "w_q": codes(3, 40, 1)}),
    "scaled sums": (plans.scale_sums, {"acc": codes(3, 3).int(), "x_scale": SCALE, "w_scale": SCALE}),
    "codes, plain": (perrow_w8a8.perrow_w8a8_matmul_plain, CODES), "codes": (perrow_w8a8.perrow_w8a8_matmul, CODES),
    "codes, few": (decode.decode_codes, CODES), "decode, bias": (decode.decode_w8a8, ROWS),
    "decode, 1 row, bias": (decode.decode_w8a8, ROWS | {"x": randn(1, 40)}),
    "decode, quantizer": (decode.decode_quantize, {"x": randn(3, 40)}), "INT8": (matmul_int8, ROWS),
    "FP16, naive": (matmul.matmul_fp16_naive, {"x": randn(3, 40), "w": randn(3, 40, seed=1)}),
    "FP16": (matmul.matmul_fp16, {"x": randn(3, 40), "w": randn(3, 40, seed=1)}),
    "both, apart": (mlp.silu_apart, BOTH),
    "both, in the quantizer": (mlp.silu_in_quantizer, BOTH), "both, in the epilogue": (mlp.silu_in_epilogue, BOTH),
    "parts of K": (skinny.split_k, {"x_q": codes(3, 40), "w_q": codes(3, 40, 1), "splits": 2}),
    "the parts' sum": (skinny.split_k_reduce, {
        "partial": codes(6, 3).int().view(2, 3, 3), "x_scale": SCALE, "w_scale": SCALE}),
}


@pytest.mark.parametrize("call", MORE)
def test_inputs_with_gaps_are_read_right_or_refused(call):
    """Each with two places for every number of a row or a vector, others in between."""
    function, given = MORE[call]
    want = function(**given)
    for name, value in ((name, value) for name, value in given.items() if isinstance(value, torch.Tensor)):
        wide = value.repeat_interleave(2, dim=-1) * 3
        gaps = wide[..., ::2].copy_(value)
        try:
            assert same(function(**given | {name: gaps}), want), name
        except ValueError as error:
            assert str(error).startswith(f"{name} must be contiguous"), name
