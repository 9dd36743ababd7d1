"""y = x wᵀ from x in FP16 in one launch: products that make the codes of x themselves.

Both are there to compare with a separate quantizer, whose codes, sums and y they give bit for bit.

  quantizing_matmul        one program per tile of y; each makes the codes of its rows of x in its own loop along K. The
                           scales are given, or each program finds amax in a loop of its own before.
  persistent_rows_matmul   one program per BLOCK_M rows of x: it makes their codes once and goes through all columns of y.

A scale needs amax of a whole row, so a program that is given none reads its rows twice. Triton keeps no tile in shared
memory by name: the persistent program writes its codes to memory and reads them back, from the caches where they lie there.
"""

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows
from kernels.int_mm import expect_int_mm
from kernels.quantize import divide, finite_or_inf, row_scale
from kernels.runtime import launching_at


@triton.jit
def tile_codes(x, scale):
    """round(x / scale) of a tile (BLOCK_M, BLOCK_K) of FP16 numbers, scale (BLOCK_M,), as `kernels.quantize.codes`."""
    usable = (scale > 0.0) & (scale < float("inf"))
    quotient = divide(x.to(tl.float32), tl.where(usable, scale, 1.0)[:, None])
    quotient = tl.where(usable[:, None], quotient, 0.0)
    return (quotient + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8)  # rounds: there FP32 numbers are whole


@triton.jit
def scales_of_rows(x_rows, mask_m, K, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr):
    """amax / 127 of BLOCK_M rows, in one reading of them."""
    magnitude = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        x = tl.load(x_rows + offs_k[None, :], mask=mask_m[:, None] & (offs_k < K)[None, :], other=0.0)
        magnitude = tl.maximum(magnitude, finite_or_inf(x))
    return row_scale(tl.max(magnitude, axis=1))


@triton.jit
def quantizing_matmul_kernel(
    x_ptr, w_ptr, y_ptr, x_scale_ptr, w_scale_ptr,
    M, N, K,
    stride_xm, stride_wn, stride_ym,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """y[m, n] = (Σ_k q[m, k] · w[n, k]) · x_scale[m] · w_scale[n], q = round(x[m, :] / x_scale[m]) in this loop."""
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m = offs_m < M
    mask_n = offs_n < N
    x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * stride_xm
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn
    if x_scale_ptr is not None:
        x_scale = tl.load(x_scale_ptr + offs_m, mask=mask_m, other=0.0)  # (BLOCK_M,)
    else:
        x_scale = scales_of_rows(x_rows, mask_m, K, BLOCK_M, BLOCK_K)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < K
        x = tl.load(x_rows + offs_k[None, :], mask=mask_m[:, None] & mask_k[None, :], other=0.0)  # (BLOCK_M, BLOCK_K)
        w = tl.load(w_rows + offs_k[None, :], mask=mask_n[:, None] & mask_k[None, :], other=0)  # (BLOCK_N, BLOCK_K)
        acc = tl.dot(tile_codes(x, x_scale), w.T, acc, out_dtype=tl.int32)  # (BLOCK_M, BLOCK_N)
    w_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    y = acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]
    y_ptrs = y_ptr + offs_m.to(tl.int64)[:, None] * stride_ym + offs_n[None, :]
    tl.store(y_ptrs, y.to(tl.float16), mask=mask_m[:, None] & mask_n[None, :])


def quantizing_matmul(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, x_scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """y = x @ (w_q · w_scale[:, None]).T, the codes of x made in the product's loop along K.

    x (M, K) float16, w_q (N, K) int8, both contiguous along K, w_scale (N,) float32; x_scale (M,) float32, amax / 127 of
    the rows of x, or None: each program finds it -> (M, N) float16. Raises TypeError or ValueError for anything else.
    """
    M, N, K = expect_product(x, w_q, w_scale)
    if x_scale is not None:
        expect("x_scale", x_scale, (M,), torch.float32, device=x.device)
        expect_rows("x_scale", x_scale)
    BLOCK_M, BLOCK_N, BLOCK_K = 128, 128, 128
    y = torch.empty((M, N), device=x.device, dtype=torch.float16)
    with launching_at(x):
        quantizing_matmul_kernel[(triton.cdiv(M, BLOCK_M), triton.cdiv(N, BLOCK_N))](
            x, w_q, y, x_scale, w_scale, M, N, K, x.stride(0), w_q.stride(0), y.stride(0),
            BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, num_warps=8,
        )
    return y


@triton.jit
def persistent_rows_kernel(
    x_ptr, q_ptr, w_ptr, y_ptr, w_scale_ptr,
    M, N, K,
    stride_xm, stride_wn, stride_ym,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """The same for BLOCK_M rows of x and all of w: their codes, once, into q (M, K), then tile after tile of y."""
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_m < M
    x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * stride_xm
    q_rows = q_ptr + offs_m.to(tl.int64)[:, None] * K
    x_scale = scales_of_rows(x_rows, mask_m, K, BLOCK_M, BLOCK_K)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask = mask_m[:, None] & (offs_k < K)[None, :]
        x = tl.load(x_rows + offs_k[None, :], mask=mask, other=0.0)
        tl.store(q_rows + offs_k[None, :], tile_codes(x, x_scale), mask=mask)
    tl.debug_barrier()  # other threads of this program read these codes
    for n in range(0, N, BLOCK_N):
        offs_n = n + tl.arange(0, BLOCK_N)
        mask_n = offs_n < N
        w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
        for k in range(0, K, BLOCK_K):
            offs_k = k + tl.arange(0, BLOCK_K)
            mask_k = offs_k < K
            q = tl.load(q_rows + offs_k[None, :], mask=mask_m[:, None] & mask_k[None, :], other=0)
            w = tl.load(w_rows + offs_k[None, :], mask=mask_n[:, None] & mask_k[None, :], other=0)
            acc = tl.dot(q, w.T, acc, out_dtype=tl.int32)  # (BLOCK_M, BLOCK_N)
        w_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
        y = acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]
        y_ptrs = y_ptr + offs_m.to(tl.int64)[:, None] * stride_ym + offs_n[None, :]
        tl.store(y_ptrs, y.to(tl.float16), mask=mask_m[:, None] & mask_n[None, :])


def persistent_rows_matmul(x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor) -> torch.Tensor:
    """y = x @ (w_q · w_scale[:, None]).T, the codes of each block of rows of x made once, by the program that needs them.

    x (M, K) float16, w_q (N, K) int8, both contiguous along K, w_scale (N,) float32 -> (M, N) float16. Raises TypeError or
    ValueError for anything else.
    """
    M, N, K = expect_product(x, w_q, w_scale)
    BLOCK_M, BLOCK_N, BLOCK_K = 128, 128, 128
    q = torch.empty((M, K), device=x.device, dtype=torch.int8)
    y = torch.empty((M, N), device=x.device, dtype=torch.float16)
    with launching_at(x):
        persistent_rows_kernel[(triton.cdiv(M, BLOCK_M),)](
            x, q, w_q, y, w_scale, M, N, K, x.stride(0), w_q.stride(0), y.stride(0),
            BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, num_warps=8,
        )
    return y


def expect_product(x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor) -> tuple[int, int, int]:
    """M, N and K of x (M, K) float16, codes w_q (N, K) and scales (N,) of w, or an error."""
    M, K = expect("x", x, ("M", "K"), torch.float16)
    expect_rows("x", x)
    _, N, _ = expect_int_mm(torch.empty((0, K), device=x.device, dtype=torch.int8), w_q)  # the codes to come
    expect_rows("w_q", w_q)
    expect("w_scale", w_scale, (N,), torch.float32, device=x.device)
    expect_rows("w_scale", w_scale)
    return M, N, K
