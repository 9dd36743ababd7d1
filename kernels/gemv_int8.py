"""Matrix-vector product y = W x with W in INT8: decode with half the bytes.

    W8A16, x as it is:       y[n] = (Σ_k w_q[n, k] · x[k]) · w_scale[n]
    W8A8, x in INT8 too:     y[n] = (Σ_k w_q[n, k] · x_q[k]) · x_scale · w_scale[n]

The ladder:
  gemv_w8a16_row   one program per row of W, as `gemv_fp16_row`: the codes become FP32 after they are loaded, and the
                   row's scale, which does not depend on k, multiplies the sum once.
  gemv_w8a16       one program per block of rows, in steps along K, the next steps' codes on their way to shared memory
                   while this one is summed: an INT8 row has half the bytes, so more rows must be in flight.
  gemv_w8a8_row    one program per row of W, codes of both: the sum is whole, INT32 and exact. `kernels.decode` has the
                   fast one, which quantizes x as well.

w_q is (N, K), w_scale is (N,), both from `quantize_int8_perrow`; x is (K,), y is (N,). Scales are FP32, W8A16 sums in
FP32, and y is rounded once at the end. Nothing here needs tensor cores, so it runs on any GPU.
"""

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows
from kernels.runtime import INTERPRETED, launching_at


@triton.jit
def gemv_w8a16_row_kernel(
    x_ptr, w_ptr, y_ptr, w_scale_ptr,
    K,
    stride_wn,
    BLOCK_K: tl.constexpr,
):
    """y[n] = (Σ_k w[n, k] · x[k]) · w_scale[n], program n for row n; BLOCK_K ≥ K."""
    n = tl.program_id(0).to(tl.int64)  # 64 bits: n * stride_wn passes 2³¹ for a large W
    offs_k = tl.arange(0, BLOCK_K)
    mask_k = offs_k < K
    x = tl.load(x_ptr + offs_k, mask=mask_k, other=0.0)  # (BLOCK_K,)
    w = tl.load(w_ptr + n * stride_wn + offs_k, mask=mask_k, other=0)  # (BLOCK_K,)
    y = tl.sum(w.to(tl.float32) * x.to(tl.float32), axis=0) * tl.load(w_scale_ptr + n)
    tl.store(y_ptr + n, y.to(y_ptr.dtype.element_ty))


def gemv_w8a16_row(x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor) -> torch.Tensor:
    """`gemv_w8a16`, one program per row; K at most 65,536."""
    N, K = expect_gemv_int8(x, w_q, w_scale)
    if K > 65536:
        raise ValueError("gemv_w8a16_row takes a row as one block, so K must be at most 65536, "
                         f"got {K}: use gemv_w8a16")
    y = torch.empty(N, device=x.device, dtype=x.dtype)
    gemv_w8a16_row_kernel[(N,)](
        x, w_q, y, w_scale, K, w_q.stride(0), BLOCK_K=triton.next_power_of_2(K),
    )
    return y


@triton.jit
def gemv_w8a16_kernel(
    x_ptr, w_ptr, y_ptr, w_scale_ptr,
    N, K,
    stride_wn,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, IN_FLIGHT: tl.constexpr,
):
    """y[n] = (Σ_k w[n, k] · x[k]) · w_scale[n], BLOCK_N rows per program, in steps of BLOCK_K along K."""
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_n = offs_n < N
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn  # 64 bits: N * K passes 2³¹ for a large W
    acc = tl.zeros((BLOCK_N, BLOCK_K), dtype=tl.float32)
    for k in tl.range(0, K, BLOCK_K, num_stages=IN_FLIGHT):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < K
        x = tl.load(x_ptr + offs_k, mask=mask_k, other=0.0)  # (BLOCK_K,)
        w = tl.load(w_rows + offs_k[None, :], mask=mask_n[:, None] & mask_k[None, :], other=0)  # (BLOCK_N, BLOCK_K)
        acc += w.to(tl.float32) * x.to(tl.float32)[None, :]
    y = tl.sum(acc, axis=1) * tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    tl.store(y_ptr + offs_n, y.to(y_ptr.dtype.element_ty), mask=mask_n)


def gemv_w8a16(x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor) -> torch.Tensor:
    """y = (w_q x) · w_scale, a block of rows per program.

    x (K,) float16 or bfloat16, w_q (N, K) int8 contiguous along K, w_scale (N,) float32 -> y (N,) in the dtype of x.
    """
    N, K = expect_gemv_int8(x, w_q, w_scale)
    # Two warps, each with whole lines of 512 bytes of two rows, are a program small enough for many to share a
    # multiprocessor: within 1 % of the best of 15 such blocks on an H200, four warps 3 to 7 % behind.
    BLOCK_N, BLOCK_K = (64, 512) if INTERPRETED else (4, 512)
    y = torch.empty(N, device=x.device, dtype=x.dtype)
    with launching_at(x):
        gemv_w8a16_kernel[(triton.cdiv(N, BLOCK_N),)](
            x, w_q, y, w_scale, N, K, w_q.stride(0), BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, IN_FLIGHT=4, num_warps=2,
        )
    return y


@triton.jit
def gemv_w8a8_row_kernel(
    x_ptr, w_ptr, y_ptr, x_scale_ptr, w_scale_ptr,
    K,
    stride_wn,
    BLOCK_K: tl.constexpr,
):
    """y[n] = (Σ_k w[n, k] · x[k]) · x_scale[0] · w_scale[n], program n for row n; BLOCK_K ≥ K."""
    n = tl.program_id(0).to(tl.int64)  # 64 bits: n * stride_wn passes 2³¹ for a large W
    offs_k = tl.arange(0, BLOCK_K)
    mask_k = offs_k < K
    x = tl.load(x_ptr + offs_k, mask=mask_k, other=0)  # (BLOCK_K,)
    w = tl.load(w_ptr + n * stride_wn + offs_k, mask=mask_k, other=0)  # (BLOCK_K,)
    acc = tl.sum(w.to(tl.int32) * x.to(tl.int32), axis=0)
    y = acc.to(tl.float32) * tl.load(x_scale_ptr) * tl.load(w_scale_ptr + n)
    tl.store(y_ptr + n, y.to(tl.float16))


def gemv_w8a8_row(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
) -> torch.Tensor:
    """y = (w_q x_q) · x_scale · w_scale, one program per row.

    x_q (K,), w_q (N, K) int8, x_scale (1,), w_scale (N,) float32 -> y (N,) float16; K up to 65,536.
    """
    N, K = expect_gemv_int8(x_q, w_q, w_scale, torch.int8, "x_q")
    expect("x_scale", x_scale, (1,), torch.float32, device=w_q.device)
    if K > 65536:
        raise ValueError("gemv_w8a8_row takes a row as one block, so K must be at most 65536, "
                         f"got {K}: use decode_w8a8")
    y = torch.empty(N, device=x_q.device, dtype=torch.float16)
    gemv_w8a8_row_kernel[(N,)](
        x_q, w_q, y, x_scale, w_scale, K, w_q.stride(0), BLOCK_K=triton.next_power_of_2(K),
    )
    return y


def expect_gemv_int8(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
    dtypes: torch.dtype | tuple[torch.dtype, ...] = (torch.float16, torch.bfloat16), name: str = "x",
) -> tuple[int, int]:
    """(N, K) of a product with INT8 weights, or an error that names the argument that cannot be used."""
    N, K = expect("w_q", w_q, ("N", "K"), torch.int8)
    expect(name, x, (K,), dtypes, device=w_q.device)
    expect("w_scale", w_scale, (N,), torch.float32, device=w_q.device)
    for argument, value in ((name, x), ("w_q", w_q), ("w_scale", w_scale)):
        expect_rows(argument, value)
    return N, K
