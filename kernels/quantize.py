"""Per-row symmetric INT8 quantization: each row of x becomes codes from -127 to 127 and one FP32 scale.

    scale = amax / 127        amax, the row's largest magnitude
    q = round(x / scale)      halves to the even neighbour

The ladder:
  quantize_int8_perrow_kernel        one program per row, the whole row in registers: read once, written once.
  quantize_int8_perrow_long_kernel   the row in chunks, twice: once for amax, once for the codes. The second reading
                                     finds a row that other programs have not pushed out of the cache.

`quantize_int8_perrow` takes the first for rows whose length fills a block, the second for all others. A row of zeros
gives q = 0 and scale = 0. A row that holds NaN or Inf gives q = 0 and scale = NaN, so whatever is computed from it is
NaN, and only that.
"""

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows


@triton.jit
def quantize_int8_perrow_kernel(
    x_ptr, q_ptr, scale_ptr,
    K,
    stride_xm, stride_qm,
    BLOCK_K: tl.constexpr,
):
    """q[m, :] = round(x[m, :] / scale[m]), scale[m] = max |x[m, :]| / 127, program m for row m; BLOCK_K ≥ K."""
    m = tl.program_id(0).to(tl.int64)  # 64 bits: m * stride_xm passes 2³¹ for a long batch
    offs_k = tl.arange(0, BLOCK_K)
    mask_k = offs_k < K
    x = tl.load(x_ptr + m * stride_xm + offs_k, mask=mask_k, other=0.0).to(tl.float32)  # (BLOCK_K,)
    amax = tl.max(finite_or_inf(x), axis=0)
    scale = row_scale(amax)
    tl.store(scale_ptr + m, scale)
    tl.store(q_ptr + m * stride_qm + offs_k, codes(x, scale), mask=mask_k)


@triton.jit
def quantize_int8_perrow_long_kernel(
    x_ptr, q_ptr, scale_ptr,
    K,
    stride_xm, stride_qm,
    BLOCK_K: tl.constexpr,
):
    """The same for rows of any length, in chunks of BLOCK_K; each lane keeps the maximum of its own elements."""
    m = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + m * stride_xm
    q_row = q_ptr + m * stride_qm
    magnitude = tl.zeros((BLOCK_K,), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        x = tl.load(x_row + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)  # (BLOCK_K,)
        magnitude = tl.maximum(magnitude, finite_or_inf(x))
    scale = row_scale(tl.max(magnitude, axis=0))
    tl.store(scale_ptr + m, scale)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        x = tl.load(x_row + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)  # (BLOCK_K,)
        tl.store(q_row + offs_k, codes(x, scale), mask=offs_k < K)


@triton.jit
def finite_or_inf(x):
    """|x|, and Inf where x is NaN: a maximum would pass over a NaN, but keeps an Inf."""
    magnitude = tl.abs(x)
    return tl.where(magnitude < float("inf"), magnitude, float("inf"))


@triton.jit
def row_scale(amax):
    """amax / 127, rounded to nearest (`/` alone may be off by two units in the last place); NaN if amax is Inf."""
    return tl.where(amax < float("inf"), tl.div_rn(amax, 127.0), float("nan"))


@triton.jit
def codes(x, scale):
    """round(x / scale) as int8, halves to even, from -127 to 127; 0 where scale is 0 or NaN."""
    usable = scale > 0.0
    quotient = tl.where(usable, tl.div_rn(x, tl.where(usable, scale, 1.0)), 0.0)
    quotient = tl.minimum(tl.maximum(quotient, -127.0), 127.0)
    # At 1.5 · 2²³ FP32 numbers are whole, so adding that rounds to nearest, halves to even, and taking it off is exact.
    return ((quotient + 12582912.0) - 12582912.0).to(tl.int8)


def quantize_int8_perrow(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """INT8 codes and FP32 scales of the rows of x.

    x (M, K) float16 or bfloat16, contiguous along K -> q (M, K) int8, scale (M,) float32.
    """
    M, K = expect("x", x, ("M", "K"), (torch.float16, torch.bfloat16))
    expect_rows("x", x)
    q = torch.empty((M, K), device=x.device, dtype=torch.int8)
    scale = torch.empty(M, device=x.device, dtype=torch.float32)
    whole = triton.next_power_of_2(K)
    if whole <= 4096 and whole * 3 // 4 < K:
        kernel, BLOCK_K = quantize_int8_perrow_kernel, whole
    else:
        kernel, BLOCK_K = quantize_int8_perrow_long_kernel, min(whole, 4096)
    kernel[(M,)](x, q, scale, K, x.stride(0), q.stride(0), BLOCK_K=BLOCK_K, num_warps=max(1, min(8, BLOCK_K // 256)))
    return q, scale
