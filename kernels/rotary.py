"""Rotary positions in one launch: queries and keys turned, keys and values put where attention reads them.

In torch that takes twenty operations, and in decode the host has no time for them. The numbers are those of
`kernels.transformer.rotate`.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows
from kernels.launch import Launch, Plans, room
from kernels.quantize import FLOATS


@triton.jit
def rotate_qkv_kernel(
    qkv_ptr, turn_ptr, q_ptr, k_ptr, v_ptr,
    T, heads, kv_heads, pairs,
    stride_row, stride_kb, stride_kh, stride_kt,
    BLOCK: tl.constexpr,
):
    """One head of one token, program (row, head): a pair (a, b) becomes (a cos - b sin, b cos + a sin), but in values."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    offs = tl.arange(0, BLOCK)
    mask = offs < pairs
    x_ptrs = qkv_ptr + row * stride_row + head * 2 * pairs + offs
    a = tl.load(x_ptrs, mask=mask, other=0.0).to(tl.float32)  # (BLOCK,)
    b = tl.load(x_ptrs + pairs, mask=mask, other=0.0).to(tl.float32)
    turn_ptrs = turn_ptr + (row % T) * pairs + offs
    cos = tl.load(turn_ptrs, mask=mask, other=0.0)
    sin = tl.load(turn_ptrs + T * pairs, mask=mask, other=0.0)
    value = head >= heads + kv_heads
    first = tl.where(value, a, a * cos - b * sin)
    second = tl.where(value, b, b * cos + a * sin)
    y_ptr = q_ptr + (row * heads + head) * 2 * pairs
    if head >= heads:
        place = (row // T) * stride_kb + (row % T) * stride_kt
        y_ptr = k_ptr + place + (head - heads) * stride_kh
        if value:
            y_ptr = v_ptr + place + (head - heads - kv_heads) * stride_kh
    tl.store(y_ptr + offs, first.to(q_ptr.dtype.element_ty), mask=mask)
    tl.store(y_ptr + pairs + offs, second.to(q_ptr.dtype.element_ty), mask=mask)


def rotate_qkv(qkv: torch.Tensor, turn: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Writes a product's keys and values into k and v, keys turned by their token's position, and returns turned queries.

    qkv (B · T, (heads + 2 kv_heads) · d) float16 or bfloat16; turn (2, T, d / 2) float32, cosines and sines; k and v
    (B, kv_heads, T, d), of the same strides, the last 1 -> q (B, heads, T, d).
    """
    return _rotate(qkv, turn, k, v)


@Plans
def _rotate(qkv: torch.Tensor, turn: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Callable[..., torch.Tensor]:
    B, kv_heads, T, d = expect("k", k, ("B", "kv_heads", "T", "d"), FLOATS)
    _, width = expect("qkv", qkv, (B * T, "(heads + 2 kv_heads) · d"), k.dtype, device=k.device)
    expect("v", v, (B, kv_heads, T, d), k.dtype, device=k.device)
    expect("turn", turn, (2, T, d // 2), torch.float32, device=k.device)
    for name, value in (("qkv", qkv), ("k", k), ("v", v)):
        expect_rows(name, value)
    if k.stride() != v.stride() or not turn.is_contiguous():
        raise ValueError(f"k and v must have the same strides, got {k.stride()} and {v.stride()}, and turn be contiguous")
    heads = width // d - 2 * kv_heads
    if width % d or heads < 1:
        raise ValueError(f"qkv must have whole heads of {d} columns for queries, behind them {2 * kv_heads} for keys and "
                         f"values, got {width} columns")
    q_room = room((B, T, heads, d), qkv.dtype, qkv.device)
    stride_b, stride_h, stride_t, _ = k.stride()
    # Without fusion each product is rounded before the next is added, as in torch.
    launch = Launch(rotate_qkv_kernel, (B * T, heads + 2 * kv_heads),
                    (T, heads, kv_heads, d // 2, qkv.stride(0), stride_b, stride_h, stride_t),
                    {"BLOCK": triton.next_power_of_2(d // 2)}, num_warps=1, enable_fp_fusion=False)

    def call(qkv: torch.Tensor, turn: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q = q_room()
        launch(qkv, turn, q, k, v)
        return q.transpose(1, 2)

    return call
