"""INT8 matrix product without scales: codes in, exact INT32 sums out, as `torch._int_mm`. The rung below `perrow_w8a8`.

    y[m, n] = Σ_k x_q[m, k] · w_q[n, k]

  int_mm   one program per tile of y, tiles column by column.
"""

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows
from kernels.runtime import card


def max_k(bits: int, code: int) -> int:
    """The largest K for which K products of codes, -code to code, add up within `bits` bits."""
    return (2 ** (bits - 1) - 1) // code**2


MAX_K = max_k(bits=32, code=127)
"""The longest row whose INT32 sum of products cannot overflow: 133,144."""


@triton.jit
def int_mm_kernel(
    x_ptr, w_ptr, y_ptr,
    M, N, K,
    stride_xm, stride_wn, stride_wk, stride_ym,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """y[m, n] = Σ_k x[m, k] · w[n, k] in INT32, one program per (BLOCK_M, BLOCK_N) tile of y."""
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m = offs_m < M
    mask_n = offs_n < N
    x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * stride_xm  # 64 bits: M * K can pass 2³¹
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K).to(tl.int64)
        mask_k = offs_k < K
        mask_x = mask_m[:, None] & mask_k[None, :]  # (BLOCK_M, BLOCK_K)
        x = tl.load(x_rows + offs_k[None, :], mask=mask_x, other=0)
        mask_w = mask_n[:, None] & mask_k[None, :]  # (BLOCK_N, BLOCK_K)
        w = tl.load(w_rows + offs_k[None, :] * stride_wk, mask=mask_w, other=0)
        acc = tl.dot(x, w.T, acc, out_dtype=tl.int32)  # (BLOCK_M, BLOCK_N)
    y_ptrs = y_ptr + offs_m.to(tl.int64)[:, None] * stride_ym + offs_n[None, :]
    tl.store(y_ptrs, acc, mask=mask_m[:, None] & mask_n[None, :])


def int_mm(x_q: torch.Tensor, w_q: torch.Tensor) -> torch.Tensor:
    """y = x_q @ w_q.T in INT32, exact.

    x_q (M, K) int8 contiguous along K, w_q (N, K) int8 with any strides, codes from -127 to 127
    -> y (M, N) int32. Any M and N; K up to 133,144, else ValueError.
    """
    M, N, K = expect_int_mm(x_q, w_q)
    BLOCK_M, BLOCK_N, BLOCK_K = 128, 128, 128
    y = torch.empty((M, N), device=x_q.device, dtype=torch.int32)
    grid = (triton.cdiv(M, BLOCK_M), triton.cdiv(N, BLOCK_N))
    int_mm_kernel[grid](
        x_q, w_q, y, M, N, K, x_q.stride(0), w_q.stride(0), w_q.stride(1), y.stride(0),
        BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, num_warps=8,
    )
    return y


def expect_int_mm(x_q: torch.Tensor, w_q: torch.Tensor) -> tuple[int, int, int]:
    """M, N and K of codes x_q (M, K) and w_q (N, K). Raises TypeError or ValueError where they are anything else,
    NotImplementedError where the GPU has no INT8 tensor cores that Triton reaches."""
    M, N, K = expect_codes(x_q, w_q)
    if K > MAX_K:
        raise ValueError(f"x_q and w_q must have at most {MAX_K} columns, got {K}: an INT32 sum of more products of "
                         "codes up to 127 can overflow")
    return M, N, K


def expect_codes(x_q: torch.Tensor, w_q: torch.Tensor) -> tuple[int, int, int]:
    """The same for a product that does not sum all of K in INT32: K may be any."""
    M, K = expect("x_q", x_q, ("M", "K"), torch.int8, batch=True)
    N, _ = expect("w_q", w_q, ("N", K), torch.int8, device=x_q.device)
    expect_rows("x_q", x_q)
    capability = card(x_q.device).capability or (8, 0)
    if capability < (8, 0):
        raise NotImplementedError("INT8 matrix products need a GPU of compute capability 8.0 (Ampere) or later, this "
                                  f"one has {capability}: Triton does not reach its INT8 tensor cores")
    return M, N, K
