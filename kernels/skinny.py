"""y = x @ w.T on INT8 codes for few rows of x: the plain rungs below `kernels.decode`, at most 16 rows.

    y[m, n] = (Σ_k x_q[m, k] · w_q[n, k]) · x_scale[m] · w_scale[n]

The ladder:
  skinny_w8a8    one program for 64 rows of w and all rows of x, operands swapped: it multiplies w's block by x's
                 transposed one, so that w's many rows take the tile's long side and x's few the short one.
  split_k_w8a8   for small N, where 64 rows of w each give too few programs: several programs share the rows, each sums a
                 part of K, and `split_k_reduce` adds the parts. INT32 sums are exact, so their order does not matter:
                 the same bits on every run. FP32 parts added by atomics would come in any order, each order rounded
                 differently.

x_q is (M, K), w_q is (N, K), both contiguous along K; sums are INT32, scales FP32, y is rounded to FP16 once.
"""

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows

MAX_M = 16
"""The most rows of x: the short side of a tile."""


@triton.jit
def skinny_w8a8_kernel(
    x_ptr, w_ptr, y_ptr, x_scale_ptr, w_scale_ptr,
    M, N, K,
    stride_xm, stride_wn,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """y[m, n] = (Σ_k w[n, k] · x[m, k]) · x_scale[m] · w_scale[n], BLOCK_M ≥ M.

    One program for BLOCK_N rows of w and all rows of x.
    """
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_m = tl.arange(0, BLOCK_M)
    mask_n = offs_n < N
    mask_m = offs_m < M
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn  # 64 bits: N * K can pass 2³¹
    x_columns = x_ptr + offs_m.to(tl.int64)[None, :] * stride_xm  # (1, BLOCK_M)
    acc = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.int32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < K
        w = tl.load(w_rows + offs_k[None, :], mask=mask_n[:, None] & mask_k[None, :], other=0)
        x = tl.load(x_columns + offs_k[:, None], mask=mask_k[:, None] & mask_m[None, :], other=0)
        acc = tl.dot(w, x, acc, out_dtype=tl.int32)  # (BLOCK_N, BLOCK_M)
    w_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    x_scale = tl.load(x_scale_ptr + offs_m, mask=mask_m, other=0.0)  # (BLOCK_M,)
    y = acc.to(tl.float32) * x_scale[None, :] * w_scale[:, None]
    y_ptrs = y_ptr + offs_m[None, :] * N + offs_n[:, None]
    tl.store(y_ptrs, y.to(tl.float16), mask=mask_n[:, None] & mask_m[None, :])


def skinny_w8a8(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
) -> torch.Tensor:
    """y = (x_q @ w_q.T) · x_scale[:, None] · w_scale for at most 16 rows of x.

    x_q (M, K), w_q (N, K) int8, x_scale (M,), w_scale (N,) float32 -> y (M, N) float16.
    """
    M, N, K = expect_skinny(x_q, w_q, x_scale, w_scale)
    BLOCK_M, BLOCK_N, BLOCK_K = 16, 64, 256
    y = torch.empty((M, N), device=x_q.device, dtype=torch.float16)
    skinny_w8a8_kernel[(triton.cdiv(N, BLOCK_N),)](
        x_q, w_q, y, x_scale, w_scale, M, N, K, x_q.stride(0), w_q.stride(0),
        BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, num_stages=3,
    )
    return y


@triton.jit
def split_k_kernel(
    x_ptr, w_ptr, partial_ptr,
    M, N, K,
    stride_xm, stride_wn, k_per_split,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """partial[s, m, n] = Σ_k w[n, k] · x[m, k] over part s of K, program (pid_n, s).

    Part s starts at s · k_per_split.
    """
    s = tl.program_id(1)
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_m = tl.arange(0, BLOCK_M)
    mask_n = offs_n < N
    mask_m = offs_m < M
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn  # 64 bits: N * K can pass 2³¹
    x_columns = x_ptr + offs_m.to(tl.int64)[None, :] * stride_xm  # (1, BLOCK_M)
    acc = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.int32)
    k_end = tl.minimum((s + 1) * k_per_split, K)  # the last part may be shorter
    for k in range(s * k_per_split, k_end, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < k_end
        w = tl.load(w_rows + offs_k[None, :], mask=mask_n[:, None] & mask_k[None, :], other=0)
        x = tl.load(x_columns + offs_k[:, None], mask=mask_k[:, None] & mask_m[None, :], other=0)
        acc = tl.dot(w, x, acc, out_dtype=tl.int32)  # (BLOCK_N, BLOCK_M)
    partial_ptrs = partial_ptr + (s * M + offs_m)[None, :] * N + offs_n[:, None]
    tl.store(partial_ptrs, acc, mask=mask_n[:, None] & mask_m[None, :])


def split_k(x_q: torch.Tensor, w_q: torch.Tensor, splits: int) -> torch.Tensor:
    """The sums of x_q @ w_q.T over up to `splits` parts of K, multiples of 128 but for the last.

    x_q (M, K), w_q (N, K) int8, M at most 16 -> partial (parts, M, N) int32, which adds up to
    x_q @ w_q.T.
    """
    M, N, K = expect_skinny(x_q, w_q)
    BLOCK_M, BLOCK_N, BLOCK_K = 16, 64, 256
    # Parts start on a cache line, and none is empty.
    k_per_split = triton.cdiv(triton.cdiv(K, splits), 128) * 128
    splits = triton.cdiv(K, k_per_split)
    partial = torch.empty((splits, M, N), device=x_q.device, dtype=torch.int32)
    split_k_kernel[(triton.cdiv(N, BLOCK_N), splits)](
        x_q, w_q, partial, M, N, K, x_q.stride(0), w_q.stride(0), k_per_split,
        BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, num_stages=4,
    )
    return partial


@triton.jit
def split_k_reduce_kernel(
    partial_ptr, y_ptr, x_scale_ptr, w_scale_ptr,
    M, N, splits,
    BLOCK_N: tl.constexpr,
):
    """y[m, n] = (Σ_s partial[s, m, n]) · x_scale[m] · w_scale[n].

    Program (m, pid_n) for BLOCK_N columns of row m.
    """
    m = tl.program_id(0)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_n = offs_n < N
    acc = tl.zeros((BLOCK_N,), dtype=tl.int32)
    for s in range(splits):
        acc += tl.load(partial_ptr + (s * M + m) * N + offs_n, mask=mask_n, other=0)
    w_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    y = acc.to(tl.float32) * tl.load(x_scale_ptr + m) * w_scale
    tl.store(y_ptr + m * N + offs_n, y.to(tl.float16), mask=mask_n)


def split_k_reduce(
    partial: torch.Tensor, x_scale: torch.Tensor, w_scale: torch.Tensor,
) -> torch.Tensor:
    """The sum of the parts, scaled.

    partial (splits, M, N) int32, x_scale (M,), w_scale (N,) float32 -> y (M, N) float16.
    """
    splits, M, N = expect("partial", partial, ("splits", "M", "N"), torch.int32)
    expect("x_scale", x_scale, (M,), torch.float32, device=partial.device)
    expect("w_scale", w_scale, (N,), torch.float32, device=partial.device)
    for name, value in (("x_scale", x_scale), ("w_scale", w_scale)):
        expect_rows(name, value)
    BLOCK_N = 512
    y = torch.empty((M, N), device=partial.device, dtype=torch.float16)
    split_k_reduce_kernel[(M, triton.cdiv(N, BLOCK_N))](
        partial.contiguous(), y, x_scale, w_scale, M, N, splits, BLOCK_N=BLOCK_N,
    )
    return y


def split_k_w8a8(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, splits: int = 4,
) -> torch.Tensor:
    """`skinny_w8a8` with K in `splits` parts: the same bits."""
    expect_skinny(x_q, w_q, x_scale, w_scale)
    return split_k_reduce(split_k(x_q, w_q, splits), x_scale, w_scale)


def expect_skinny(
    x_q: torch.Tensor, w_q: torch.Tensor, x_scale: torch.Tensor | None = None, w_scale: torch.Tensor | None = None,
) -> tuple[int, int, int]:
    """M, N and K of x_q (M, K) and w_q (N, K) INT8, M at most 16, and of their scales where given, or an error."""
    M, K = expect("x_q", x_q, ("M", "K"), torch.int8)
    N, _ = expect("w_q", w_q, ("N", K), torch.int8, device=x_q.device)
    for name, value, size in (("x_scale", x_scale, M), ("w_scale", w_scale, N)):
        if value is not None:
            expect(name, value, (size,), torch.float32, device=x_q.device)
            expect_rows(name, value)
    expect_rows("x_q", x_q)
    expect_rows("w_q", w_q)
    if M > MAX_M:
        raise ValueError(f"x_q must have at most {MAX_M} rows, got {M}: use perrow_w8a8_matmul")
    return M, N, K
