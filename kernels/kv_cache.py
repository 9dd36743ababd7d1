"""A cache of keys and values in INT8, and the attention of one new token that reads it.

Each token has a scale for each head, as rows have in `kernels.quantize`: what is written once is
never read again to be rescaled, whatever comes after it.

    quantize_heads          the codes of new tokens' keys or values, head by head
    append_int8             the same, written into their place in a cache
    decode_attention        FP16, a program for each query head, softmax while the cache goes by
    decode_attention_int8   INT8, a program for each head of keys and each part of the length:
                            attention_parts_int8, then merge_parts by log-sum-exp

The running softmax is that of M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax",
arXiv:1805.02867; the parts of the length are those of T. Dao et al., "Flash-Decoding for long-context
inference", 2023.

q (B, heads, D), keys and values (B, kv_heads, S, D) of the same strides, lengths (B,) int32: how many
of the S tokens of each sequence are there, one at least. Query head h reads head h // (heads / kv_heads).
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows
from kernels.quantize import FLOATS, codes, finite_or_inf, row_scale
from kernels.runtime import INTERPRETED, card, launching_at

BLOCK_T = 32 if INTERPRETED else 128
"""Tokens that a program of `decode_attention_kernel` takes at a time."""


class AttentionTile(NamedTuple):
    """How `decode_attention_int8_kernel` divides the work: tokens at a time, warps, steps in flight, and programs for each
    multiprocessor, where the cache is long enough."""

    BLOCK_T: int
    num_warps: int
    num_stages: int
    programs: int


# The fastest of twenty on an H200 (tests/gpu/tune_attention.py).
FEW_TOKENS = AttentionTile(BLOCK_T, 4, 3, 16)
MANY_TOKENS = AttentionTile(32, 1, 4, 8)


def attention_tile(S: int, heads: int, multiprocessors: int) -> AttentionTile:
    """The tile for a cache of at most S tokens in each of `heads` heads of keys, those of all sequences together."""
    return MANY_TOKENS if S * heads >= 1024 * multiprocessors else FEW_TOKENS


@triton.jit
def quantize_heads_kernel(
    x_ptr, place_ptr, q_ptr, scale_ptr,
    T, D,
    stride_xb, stride_xt, stride_qb, stride_qh, stride_sb, stride_sh,
    BLOCK_D: tl.constexpr,
):
    """q[b, h, place[b] + t] = round(x[b, t, h] / scale), scale[b, h, place[b] + t] = amax / 127."""
    b = (tl.program_id(0) // T).to(tl.int64)
    t = tl.program_id(0) % T
    h = tl.program_id(1)
    place = t
    if place_ptr is not None:
        place += tl.load(place_ptr + b)
    offs_d = tl.arange(0, BLOCK_D)
    mask_d = offs_d < D
    x_ptrs = x_ptr + b * stride_xb + t * stride_xt + h * D + offs_d
    x = tl.load(x_ptrs, mask=mask_d, other=0.0).to(tl.float32)  # (BLOCK_D,)
    scale = row_scale(tl.max(finite_or_inf(x), axis=0))
    tl.store(scale_ptr + b * stride_sb + h * stride_sh + place, scale)
    q_ptrs = q_ptr + b * stride_qb + h * stride_qh + place * D + offs_d
    tl.store(q_ptrs, codes(x, scale), mask=mask_d)


def quantize_heads(
    x: torch.Tensor, heads: int, first: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales of each token's heads, in the order of a cache.

    x (B, T, heads · D) float16 or bfloat16 -> q (B, heads, T, D) int8, scale (B, heads, T) float32:
    the end of a cache in which `first` tokens are in front.
    """
    B, T, width = expect("x", x, ("B", "T", "heads · D"), FLOATS)
    expect_rows("x", x)
    if heads < 1 or width % heads:
        raise ValueError(f"x has {width} columns, which are not {heads} heads of as many each")
    q = torch.empty((B, heads, first + T, width // heads), device=x.device, dtype=torch.int8)
    scale = torch.empty((B, heads, first + T), device=x.device, dtype=torch.float32)
    place = torch.full((B,), first, device=x.device, dtype=torch.int32) if first > 0 else None
    with launching_at(x):
        quantize_heads_kernel[(B * T, heads)](
            x, place, q, scale, T, q.shape[3], x.stride(0), x.stride(1), q.stride(0), q.stride(1),
            scale.stride(0), scale.stride(1),
            BLOCK_D=triton.next_power_of_2(q.shape[3]), num_warps=1,
        )
    return q[:, :, first:], scale[:, :, first:]


def append_int8(
    x: torch.Tensor, place: torch.Tensor, q: torch.Tensor, scale: torch.Tensor,
) -> None:
    """Writes the codes and scales of new tokens into a cache.

    x (B, T, heads · D) float16 or bfloat16, place (B,) int32 where each sequence's first new token goes;
    into q (B, heads, S, D) int8 and scale (B, heads, S) float32. Where place + T > S, it writes past the
    end: nobody looks at `place` here, for a CUDA graph could not.
    """
    B, heads, S, D = expect("q", q, ("B", "heads", "S", "D"), torch.int8)
    expect("x", x, (B, "T", heads * D), FLOATS, device=q.device)
    expect("place", place, (B,), torch.int32, device=q.device)
    expect("scale", scale, (B, heads, S), torch.float32, device=q.device)
    for name, value in (("x", x), ("place", place), ("scale", scale)):
        expect_rows(name, value)
    if q.stride(2) != D or q.stride(3) != 1:
        raise ValueError(f"the tokens of q must be contiguous, got strides {q.stride()} for D = {D}")
    T = x.shape[1]
    with launching_at(x):
        quantize_heads_kernel[(B * T, heads)](
            x, place, q, scale, T, D, x.stride(0), x.stride(1), q.stride(0), q.stride(1),
            scale.stride(0), scale.stride(1), BLOCK_D=triton.next_power_of_2(D), num_warps=1,
        )


@triton.jit
def decode_attention_kernel(
    q_ptr, k_ptr, v_ptr, length_ptr, y_ptr,
    heads, group, D,
    stride_b, stride_h, stride_t,
    sm_scale,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):
    """y[b, h] = Σ_t p_t · v[b, h // group, t], p = softmax(q[b, h] · k[b, h // group] · sm_scale).

    Program (b, h); t from 0 to length[b], in steps of BLOCK_T.
    """
    b = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1)
    offs_t = tl.arange(0, BLOCK_T)
    offs_d = tl.arange(0, BLOCK_D)
    mask_d = offs_d < D
    length = tl.load(length_ptr + b)
    q_ptrs = q_ptr + (b * heads + h) * D + offs_d
    q = tl.load(q_ptrs, mask=mask_d, other=0.0).to(tl.float32)  # (BLOCK_D,)
    head = b * stride_b + (h // group) * stride_h
    top = float("-inf")  # the largest score so far
    total = 0.0  # of exp(score - top)
    acc = tl.zeros((BLOCK_D,), dtype=tl.float32)
    for t in range(0, length, BLOCK_T):
        mask_t = t + offs_t < length
        rows = head + (t + offs_t)[:, None] * stride_t + offs_d[None, :]  # (BLOCK_T, BLOCK_D)
        mask = mask_t[:, None] & mask_d[None, :]
        k = tl.load(k_ptr + rows, mask=mask, other=0.0).to(tl.float32)
        v = tl.load(v_ptr + rows, mask=mask, other=0.0).to(tl.float32)
        scores = tl.sum(q[None, :] * k, axis=1) * sm_scale  # (BLOCK_T,)
        scores = tl.where(mask_t, scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, axis=0))
        shrink = tl.exp(top - new_top)
        p = tl.exp(scores - new_top)
        total = total * shrink + tl.sum(p, axis=0)
        acc = acc * shrink + tl.sum(p[:, None] * v, axis=0)
        top = new_top
    y = acc / total
    y_ptrs = y_ptr + (b * heads + h) * D + offs_d
    tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=mask_d)


def decode_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: torch.Tensor,
) -> torch.Tensor:
    """Attention of one new token to a cache, in FP16.

    q (B, heads, D), k and v (B, kv_heads, S, D) float16 of the same strides, lengths (B,) int32
    -> y (B, heads, D) float16.
    """
    B, heads, D, kv_heads, _ = expect_attention(q, k, v, lengths, torch.float16)
    y = torch.empty_like(q)
    with launching_at(q):
        decode_attention_kernel[(B, heads)](
            q, k, v, lengths, y, heads, heads // kv_heads, D, *k.stride()[:3], D**-0.5,
            BLOCK_T=BLOCK_T, BLOCK_D=triton.next_power_of_2(D),
        )
    return y


@triton.jit
def decode_attention_int8_kernel(
    q_ptr, k_ptr, v_ptr, k_scale_ptr, v_scale_ptr, length_ptr, part_ptr, lse_ptr,
    heads, group, D, tokens,
    stride_b, stride_h, stride_t, stride_sb, stride_sh,
    sm_scale,
    BLOCK_G: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):
    """Attention to a part of the length, for the query heads of one head of keys.

    Program (b, kv_head, part): `tokens` tokens from part · tokens on. q is quantized too, so scores
    are INT8 products. Written are the part's own y (BLOCK_G, BLOCK_D) and log Σ exp(scores)
    (BLOCK_G,), 0 and -inf where length[b] ends before.
    """
    b = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    offs_g = tl.arange(0, BLOCK_G)
    offs_t = tl.arange(0, BLOCK_T)
    offs_d = tl.arange(0, BLOCK_D)
    mask_d = offs_d < D
    row = b * heads + kv_head * group + offs_g  # of q, part and lse: (BLOCK_G,)
    mask_q = (offs_g < group)[:, None] & mask_d[None, :]
    q = tl.load(q_ptr + row[:, None] * D + offs_d[None, :], mask=mask_q, other=0.0).to(tl.float32)
    q_scale = row_scale(tl.max(finite_or_inf(q), axis=1))  # (BLOCK_G,)
    q = tl.div_rn(q, tl.where(q_scale > 0.0, q_scale, 1.0)[:, None])
    q = ((q + 12582912.0) - 12582912.0).to(tl.int8)  # rounded, as in lesson 04: (BLOCK_G, BLOCK_D)
    first = tl.program_id(2) * tokens
    last = tl.minimum(first + tokens, tl.load(length_ptr + b))
    head = b * stride_b + kv_head * stride_h
    scale = b * stride_sb + kv_head * stride_sh
    top = tl.full((BLOCK_G,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_G,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_G, BLOCK_D), dtype=tl.float32)
    for t in range(first, last, BLOCK_T):
        mask_t = t + offs_t < last
        rows = head + (t + offs_t)[:, None] * stride_t + offs_d[None, :]  # (BLOCK_T, BLOCK_D)
        mask = mask_t[:, None] & mask_d[None, :]
        k = tl.load(k_ptr + rows, mask=mask, other=0)
        v = tl.load(v_ptr + rows, mask=mask, other=0)
        k_scale = tl.load(k_scale_ptr + scale + t + offs_t, mask=mask_t, other=0.0)
        v_scale = tl.load(v_scale_ptr + scale + t + offs_t, mask=mask_t, other=0.0)
        sums = tl.dot(q, k.T, out_dtype=tl.int32)  # (BLOCK_G, BLOCK_T)
        scores = sums.to(tl.float32) * q_scale[:, None] * (k_scale * sm_scale)[None, :]
        scores = tl.where(mask_t[None, :], scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, axis=1))
        shrink = tl.exp(top - new_top)
        p = tl.exp(scores - new_top[:, None])
        total = total * shrink + tl.sum(p, axis=1)
        most = tl.maximum(tl.max(v_scale, axis=0), 1e-30)  # p · v_scale / most ≤ 1: it fits FP16
        p = p * (v_scale / most)[None, :]
        acc = acc * shrink[:, None] + tl.dot(p.to(tl.float16), v.to(tl.float16)) * most
        top = new_top
    there = total != 0.0  # NaN is there too
    y = tl.where(there[:, None], acc / tl.where(there, total, 1.0)[:, None], 0.0)
    lse = tl.where(there, top + tl.log(tl.where(there, total, 1.0)), float("-inf"))
    place = row * tl.num_programs(2) + tl.program_id(2)
    tl.store(lse_ptr + place, lse, mask=offs_g < group)
    tl.store(part_ptr + place[:, None] * D + offs_d[None, :], y, mask=mask_q)


def attention_parts_int8(
    q: torch.Tensor, k_q: torch.Tensor, k_scale: torch.Tensor, v_q: torch.Tensor,
    v_scale: torch.Tensor, lengths: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention to each part of an INT8 cache by itself.

    q (B, heads, D) float16, k_q and v_q (B, kv_heads, S, D) int8, k_scale and v_scale
    (B, kv_heads, S) float32, lengths (B,) int32 -> y (B, heads, parts, D) and the log of the sum of
    exp(score), (B, heads, parts), both float32.
    """
    B, heads, D, kv_heads, S = expect_attention(q, k_q, v_q, lengths, torch.int8)
    for name, value in (("k_scale", k_scale), ("v_scale", v_scale)):
        expect(name, value, (B, kv_heads, S), torch.float32, device=q.device)
        expect_rows(name, value)
    if k_scale.stride() != v_scale.stride():
        raise ValueError("k_scale and v_scale must have the same strides, got "
                         f"{k_scale.stride()} and {v_scale.stride()}")
    group = heads // kv_heads
    where = S, B * kv_heads, card(q.device).multiprocessors
    tile, tokens = attention_tile(*where), tokens_of_a_part(*where)
    parts = triton.cdiv(S, tokens)
    part = torch.empty((B, heads, parts, D), device=q.device, dtype=torch.float32)
    lse = torch.empty((B, heads, parts), device=q.device, dtype=torch.float32)
    with launching_at(q):
        decode_attention_int8_kernel[(B, kv_heads, parts)](
            q, k_q, v_q, k_scale, v_scale, lengths, part, lse, heads, group, D, tokens,
            *k_q.stride()[:3], *k_scale.stride()[:2], D**-0.5,
            BLOCK_G=max(16, triton.next_power_of_2(group)), BLOCK_T=tile.BLOCK_T,
            BLOCK_D=max(32, triton.next_power_of_2(D)),
            num_warps=tile.num_warps, num_stages=tile.num_stages,
        )
    return part, lse


def tokens_of_a_part(S: int, heads: int, multiprocessors: int) -> int:
    """How many tokens a program takes: so many that each multiprocessor has its tile's number of programs.

    Arguments as in `attention_tile`. A multiple of BLOCK_T, and at least two of them: a part costs a
    merge.
    """
    tile = attention_tile(S, heads, multiprocessors)
    parts = max(1, tile.programs * multiprocessors // heads)
    return max(2 * tile.BLOCK_T, triton.cdiv(triton.cdiv(S, parts), tile.BLOCK_T) * tile.BLOCK_T)


@triton.jit
def merge_parts_kernel(
    part_ptr, lse_ptr, y_ptr,
    parts, D,
    BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):
    """y[row] = Σ_s w_s · part[row, s], w = exp(lse[row]) / Σ exp(lse[row]); BLOCK_S ≥ parts."""
    row = tl.program_id(0).to(tl.int64)
    offs_s = tl.arange(0, BLOCK_S)
    offs_d = tl.arange(0, BLOCK_D)
    mask_s = offs_s < parts
    lse = tl.load(lse_ptr + row * parts + offs_s, mask=mask_s, other=float("-inf"))
    w = tl.exp(lse - tl.max(lse, axis=0))  # (BLOCK_S,)
    part_ptrs = part_ptr + (row * parts + offs_s)[:, None] * D + offs_d[None, :]
    part = tl.load(part_ptrs, mask=mask_s[:, None] & (offs_d < D)[None, :], other=0.0)
    y = tl.sum(part * w[:, None], axis=0) / tl.sum(w, axis=0)
    tl.store(y_ptr + row * D + offs_d, y.to(y_ptr.dtype.element_ty), mask=offs_d < D)


def merge_parts(part: torch.Tensor, lse: torch.Tensor) -> torch.Tensor:
    """Attention to the whole from attention to its parts.

    part (B, heads, parts, D), lse (B, heads, parts) float32, as `attention_parts_int8` gives them
    -> y (B, heads, D) float16.
    """
    B, heads, parts, D = expect("part", part, ("B", "heads", "parts", "D"), torch.float32)
    expect("lse", lse, (B, heads, parts), torch.float32, device=part.device)
    for name, value in (("part", part), ("lse", lse)):
        if not value.is_contiguous():
            raise ValueError(f"{name} must be contiguous, got strides {value.stride()}")
    y = torch.empty((B, heads, D), device=part.device, dtype=torch.float16)
    with launching_at(part):
        merge_parts_kernel[(B * heads,)](
            part, lse, y, parts, D, BLOCK_S=triton.next_power_of_2(parts),
            BLOCK_D=triton.next_power_of_2(D), num_warps=4,
        )
    return y


def decode_attention_int8(
    q: torch.Tensor, k_q: torch.Tensor, k_scale: torch.Tensor, v_q: torch.Tensor,
    v_scale: torch.Tensor, lengths: torch.Tensor,
) -> torch.Tensor:
    """Attention of one new token to an INT8 cache: arguments as `attention_parts_int8`'s -> y (B, heads, D)."""
    return merge_parts(*attention_parts_int8(q, k_q, k_scale, v_q, v_scale, lengths))


def expect_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: torch.Tensor, dtype: torch.dtype,
) -> tuple[int, int, int, int, int]:
    """B, heads, D, kv_heads and S, or an error. Lengths are not looked at: they are on the GPU."""
    B, heads, D = expect("q", q, ("B", "heads", "D"), torch.float16)
    _, kv_heads, S, _ = expect("keys", k, (B, "kv_heads", "S", D), dtype, device=q.device)
    expect("values", v, (B, kv_heads, S, D), dtype, device=q.device)
    expect("lengths", lengths, (B,), torch.int32, device=q.device)
    expect_rows("lengths", lengths)
    if not q.is_contiguous():
        raise ValueError(f"q must be contiguous, got strides {q.stride()} for shape {tuple(q.shape)}")
    if k.stride() != v.stride() or k.stride(3) != 1:
        raise ValueError(f"keys and values must have the same strides, the last 1, got {k.stride()} and {v.stride()}")
    if heads % kv_heads:
        raise ValueError(f"q must have a whole number of heads for each of {kv_heads} heads of keys, got {heads}")
    return B, heads, D, kv_heads, S
