"""Gate and up of a transformer's MLP in one INT8 product, with SiLU·mul in its epilogue.

    gate = x wᵀ, rows 0 to N - 1 of w        y = gate / (1 + exp(-gate)) · up
    up   = x wᵀ, rows N to 2N - 1 of w

As two kernels, the product writes gate and up in FP16, (M, 2N), and SiLU·mul reads them again: 8 bytes for each element of
y. Here a program keeps the sums of both in registers, so that only y is written, and the codes of x are read once for the
two products.

  gate_up_silu_mul_plain   one program per tile of y, two accumulators, tiles column by column.

The codes of y cannot be made here: their scale needs amax of a whole row of y, and a program has BLOCK_N of its columns.
"""

import torch
import triton
import triton.language as tl

from kernels.perrow_w8a8 import expect_perrow_w8a8


@triton.jit
def gate_up_silu_mul_plain_kernel(
    x_ptr, w_ptr, y_ptr, x_scale_ptr, w_scale_ptr, bias_ptr,
    M, N, K,
    stride_xm, stride_wn, stride_ym,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """y[m, n] = gate / (1 + exp(-gate)) · up in FP32, rounded once, one program a tile of y.

    gate = (Σ_k x[m, k] · w[n, k]) · x_scale[m] · w_scale[n] + bias[n]
    up = the same with N + n in the place of n
    """
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m = offs_m < M
    mask_n = offs_n < N
    x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * stride_xm  # 64 bits: M * K can pass 2³¹
    gate_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn
    up_rows = w_ptr + (N + offs_n).to(tl.int64)[:, None] * stride_wn
    gate_acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    up_acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < K
        mask_x = mask_m[:, None] & mask_k[None, :]  # (BLOCK_M, BLOCK_K)
        x = tl.load(x_rows + offs_k[None, :], mask=mask_x, other=0)
        mask_w = mask_n[:, None] & mask_k[None, :]  # (BLOCK_N, BLOCK_K)
        gate_w = tl.load(gate_rows + offs_k[None, :], mask=mask_w, other=0)
        up_w = tl.load(up_rows + offs_k[None, :], mask=mask_w, other=0)
        gate_acc = tl.dot(x, gate_w.T, gate_acc, out_dtype=tl.int32)  # (BLOCK_M, BLOCK_N)
        up_acc = tl.dot(x, up_w.T, up_acc, out_dtype=tl.int32)
    x_scale = tl.load(x_scale_ptr + offs_m, mask=mask_m, other=0.0)  # (BLOCK_M,)
    gate_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    up_scale = tl.load(w_scale_ptr + N + offs_n, mask=mask_n, other=0.0)
    gate = gate_acc.to(tl.float32) * x_scale[:, None] * gate_scale[None, :]
    up = up_acc.to(tl.float32) * x_scale[:, None] * up_scale[None, :]
    if bias_ptr is not None:
        gate += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]
        up += tl.load(bias_ptr + N + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]
    y = gate / (1.0 + tl.exp(-gate)) * up
    y_ptrs = y_ptr + offs_m.to(tl.int64)[:, None] * stride_ym + offs_n[None, :]
    tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=mask_m[:, None] & mask_n[None, :])


def gate_up_silu_mul_plain(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """silu(gate) · up: gate is the product with the first half of w's rows, up with the second.

    x_q (M, K), w_q (2N, K) int8; x_scale (M,), w_scale (2N,) float32; bias (2N,) or None -> (M, N)
    float16. Raises TypeError or ValueError where they are anything else.
    """
    M, N, K = expect_gate_up(x_q, x_scale, w_q, w_scale, bias)
    BLOCK_M, BLOCK_N, BLOCK_K = 128, 64, 128
    y = torch.empty((M, N), device=x_q.device, dtype=torch.float16)
    grid = (triton.cdiv(M, BLOCK_M), triton.cdiv(N, BLOCK_N))
    gate_up_silu_mul_plain_kernel[grid](
        x_q, w_q, y, x_scale, w_scale, bias, M, N, K, x_q.stride(0), w_q.stride(0), y.stride(0),
        BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, num_warps=8,
    )
    return y


def expect_gate_up(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
) -> tuple[int, int, int]:
    """M, N and K of the arguments of `gate_up_silu_mul_plain`, or an error."""
    M, rows, K = expect_perrow_w8a8(x_q, x_scale, w_q, w_scale, bias, torch.float16)
    if rows % 2:
        raise ValueError(f"w_q must have an even number of rows, those of gate and then those of up, got {rows}")
    return M, rows // 2, K
