"""Matrix-vector product y = W x in FP16, the operation of decode: one token (x) against each weight matrix (W).

The ladder:
  gemv_fp16_row   one program per row of W, the whole row in one block. Simple; every program reads all of x again.
  gemv_fp16       one program per block of rows, in steps along K. x is read once per block, and rows of any length fit.

W is (N, K) as in `torch.nn.Linear`, contiguous along K; x is (K,), y is (N,). Products are summed in FP32 and rounded
once. Both move two bytes for each multiply-add, so memory bandwidth sets their speed, not arithmetic.
"""

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows
from kernels.runtime import INTERPRETED


@triton.jit
def gemv_fp16_row_kernel(
    x_ptr, w_ptr, y_ptr,
    K,
    stride_wn,
    BLOCK_K: tl.constexpr,
):
    """y[n] = Σ_k w[n, k] · x[k], program n for row n; BLOCK_K ≥ K."""
    n = tl.program_id(0).to(tl.int64)  # 64 bits: n * stride_wn passes 2³¹ for a large W
    offs_k = tl.arange(0, BLOCK_K)
    mask_k = offs_k < K
    x = tl.load(x_ptr + offs_k, mask=mask_k, other=0.0)  # (BLOCK_K,)
    w = tl.load(w_ptr + n * stride_wn + offs_k, mask=mask_k, other=0.0)  # (BLOCK_K,)
    y = tl.sum(w.to(tl.float32) * x.to(tl.float32), axis=0)
    tl.store(y_ptr + n, y)


def gemv_fp16_row(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """y = W x, one program per row. x (K,), w (N, K) float16 -> y (N,) float16; K ≤ 65,536."""
    N, K = expect_gemv(x, w)
    if K > 65536:
        raise ValueError("gemv_fp16_row takes a row as one block, so K must be at most 65536, "
                         f"got {K}: use gemv_fp16")
    y = torch.empty(N, device=x.device, dtype=x.dtype)
    gemv_fp16_row_kernel[(N,)](x, w, y, K, w.stride(0), BLOCK_K=triton.next_power_of_2(K))
    return y


@triton.jit
def gemv_fp16_kernel(
    x_ptr, w_ptr, y_ptr,
    N, K,
    stride_wn,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """y[n] = Σ_k w[n, k] · x[k], BLOCK_N rows per program, in steps of BLOCK_K along K."""
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_n = offs_n < N
    # 64 bits: N * K passes 2³¹ for a large W
    row_ptrs = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn  # (BLOCK_N, 1)
    acc = tl.zeros((BLOCK_N, BLOCK_K), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < K
        x = tl.load(x_ptr + offs_k, mask=mask_k, other=0.0)  # (BLOCK_K,)
        mask = mask_n[:, None] & mask_k[None, :]
        w = tl.load(row_ptrs + offs_k[None, :], mask=mask, other=0.0)  # (BLOCK_N, BLOCK_K)
        acc += w.to(tl.float32) * x.to(tl.float32)[None, :]
    y = tl.sum(acc, axis=1)  # (BLOCK_N,), summed across lanes once, after the loop
    tl.store(y_ptr + offs_n, y, mask=mask_n)


def gemv_fp16(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """y = W x, a block of rows per program. x (K,), w (N, K) float16 -> y (N,) float16."""
    N, K = expect_gemv(x, w)
    # Many small programs keep a GPU busy; the interpreter, which pays per program, wants few.
    BLOCK_N, BLOCK_K = (64, 128) if INTERPRETED else (2, 1024)
    y = torch.empty(N, device=x.device, dtype=x.dtype)
    grid = (triton.cdiv(N, BLOCK_N),)
    gemv_fp16_kernel[grid](x, w, y, N, K, w.stride(0), BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K)
    return y


def expect_gemv(x: torch.Tensor, w: torch.Tensor) -> tuple[int, int]:
    """(N, K) of y = W x, or an error that names the argument that cannot be used."""
    N, K = expect("w", w, ("N", "K"), torch.float16)
    expect("x", x, (K,), torch.float16, device=w.device)
    expect_rows("w", w)
    expect_rows("x", x)
    return N, K
