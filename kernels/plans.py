"""y = norm(x) wᵀ in three plans that compute the same and move different amounts of memory.

    unfused          RMSNorm, quantizer, product with INT32 sums, scaling: four passes
    epilogue_fused   the product scales its own sums: three
    producer_fused   and the norm writes INT8 itself: two

The first two are there to compare with: `rmsnorm` and `scale_sums` are what a library without fused kernels would run.
Bytes of each plan: `kernels.cost`.
"""

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows
from kernels.fused import expect_rmsnorm, rmsnorm_quantize_int8
from kernels.int_mm import int_mm
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import launching_at


@triton.jit
def rmsnorm_kernel(
    x_ptr, weight_ptr, y_ptr,
    K,
    stride_xm, stride_ym,
    eps,
    BLOCK_K: tl.constexpr,
):
    """y[m, :] = x[m, :] / sqrt(mean(x[m, :]²) + eps) · weight, program m for row m; BLOCK_K ≥ K."""
    m = tl.program_id(0).to(tl.int64)
    offs_k = tl.arange(0, BLOCK_K)
    mask_k = offs_k < K
    x = tl.load(x_ptr + m * stride_xm + offs_k, mask=mask_k, other=0.0).to(tl.float32)  # (BLOCK_K,)
    weight = tl.load(weight_ptr + offs_k, mask=mask_k, other=0.0).to(tl.float32)
    y = x / tl.sqrt(tl.sum(x * x, axis=0) / K + eps) * weight
    tl.store(y_ptr + m * stride_ym + offs_k, y.to(y_ptr.dtype.element_ty), mask=mask_k)


def rmsnorm(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """x / sqrt(mean(x²) + eps) · weight, row by row, computed in FP32.

    x (M, K) float16 or bfloat16, contiguous along K; weight (K,) float16, bfloat16 or float32 -> (M, K) in the dtype of x.
    """
    M, K = expect_rmsnorm(x, weight)
    y = torch.empty((M, K), device=x.device, dtype=x.dtype)
    BLOCK_K = triton.next_power_of_2(K)
    with launching_at(x):
        rmsnorm_kernel[(M,)](x, weight, y, K, x.stride(0), y.stride(0), eps, BLOCK_K=BLOCK_K,
                             num_warps=min(16, max(1, BLOCK_K // 1024)))
    return y


@triton.jit
def scale_sums_kernel(
    acc_ptr, x_scale_ptr, w_scale_ptr, y_ptr,
    N,
    stride_am, stride_ym,
    BLOCK_N: tl.constexpr,
):
    """y[m, n] = acc[m, n] · x_scale[m] · w_scale[n], program (m, b) for block b of row m."""
    m = tl.program_id(0).to(tl.int64)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_n = offs_n < N
    acc = tl.load(acc_ptr + m * stride_am + offs_n, mask=mask_n, other=0).to(tl.float32)  # (BLOCK_N,)
    w_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)
    y = acc * tl.load(x_scale_ptr + m) * w_scale
    tl.store(y_ptr + m * stride_ym + offs_n, y.to(tl.float16), mask=mask_n)


def scale_sums(acc: torch.Tensor, x_scale: torch.Tensor, w_scale: torch.Tensor) -> torch.Tensor:
    """acc · x_scale[:, None] · w_scale in FP32, rounded once.

    acc (M, N) int32, x_scale (M,), w_scale (N,) float32 -> (M, N) float16.
    """
    M, N = expect("acc", acc, ("M", "N"), torch.int32)
    expect("x_scale", x_scale, (M,), torch.float32, device=acc.device)
    expect("w_scale", w_scale, (N,), torch.float32, device=acc.device)
    for name, value in (("acc", acc), ("x_scale", x_scale), ("w_scale", w_scale)):
        expect_rows(name, value)
    y = torch.empty((M, N), device=acc.device, dtype=torch.float16)
    BLOCK_N = 2048
    with launching_at(acc):
        scale_sums_kernel[(M, triton.cdiv(N, BLOCK_N))](
            acc, x_scale, w_scale, y, N, acc.stride(0), y.stride(0), BLOCK_N=BLOCK_N,
        )
    return y


def unfused(
    x: torch.Tensor, weight: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, eps: float = 1e-6,
) -> torch.Tensor:
    """norm(x) wᵀ in four passes. x (M, K) float16, weight (K,), w_q (N, K) int8, w_scale (N,) -> (M, N) float16."""
    x_q, x_scale = quantize_int8_perrow(rmsnorm(x, weight, eps))
    return scale_sums(int_mm(x_q, w_q), x_scale, w_scale)


def epilogue_fused(
    x: torch.Tensor, weight: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, eps: float = 1e-6,
) -> torch.Tensor:
    """The same in three passes: the scales are applied in the product's epilogue."""
    return perrow_w8a8_matmul(*quantize_int8_perrow(rmsnorm(x, weight, eps)), w_q, w_scale)


def producer_fused(
    x: torch.Tensor, weight: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, eps: float = 1e-6,
) -> torch.Tensor:
    """The same in two passes: the norm quantizes what it writes, so nothing is rounded to FP16 in between."""
    return perrow_w8a8_matmul(*rmsnorm_quantize_int8(x, weight, eps), w_q, w_scale)
