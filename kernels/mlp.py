"""A transformer's MLP in INT8, y = h w_downᵀ with h = silu(gate) · up and gate and up = norm(x) wᵀ, and where SiLU·mul goes.

`mlp_int8` is the whole, in four launches. From the codes of x to those of h there are three plans:

    silu_apart          product, SiLU·mul, quantizer: three passes
    silu_in_quantizer   the quantizer computes SiLU·mul: two, and gate and up go through memory in FP16
    silu_in_epilogue    the product computes it: two, and h goes through memory in FP16

Bytes of each plan: `kernels.cost`. Their products are the plain ones, so that only the plan differs.
"""

import torch
import triton
import triton.language as tl

from kernels.fused import expect_silu_mul, rmsnorm_quantize_int8_plain, silu_mul_quantize_int8
from kernels.gate_up import gate_up_silu_mul_plain
from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain
from kernels.quantize import Codes, quantize_int8_perrow, quantize_int8_perrow_plain
from kernels.runtime import launching_at


def mlp_int8(
    x: torch.Tensor, weight: torch.Tensor, gate_up_q: torch.Tensor, gate_up_scale: torch.Tensor,
    down_q: torch.Tensor, down_scale: torch.Tensor,
) -> torch.Tensor:
    """y = h w_downᵀ, h = silu(gate) · up, gate and up the halves of norm(x) w_gate_upᵀ.

    x (M, D) float16, the norm's weight (D,); codes and scales of w_gate_up (2N, D) and w_down
    (D, N) -> y (M, D) float16. norm(x) and h are quantized row by row.
    """
    x_q, x_scale = rmsnorm_quantize_int8_plain(x, weight)
    h = gate_up_silu_mul_plain(x_q, x_scale, gate_up_q, gate_up_scale)
    h_q, h_scale = quantize_int8_perrow_plain(h)
    return perrow_w8a8_matmul_plain(h_q, h_scale, down_q, down_scale)


@triton.jit
def silu_mul_fp16_kernel(
    gate_ptr, up_ptr, y_ptr,
    K,
    stride_gm, stride_um, stride_ym,
    BLOCK_K: tl.constexpr,
):
    """y[m, k] = gate / (1 + exp(-gate)) · up, program (m, b) for block b of row m."""
    m = tl.program_id(0).to(tl.int64)
    offs_k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    mask_k = offs_k < K
    gate = tl.load(gate_ptr + m * stride_gm + offs_k, mask=mask_k, other=0.0).to(tl.float32)  # (BLOCK_K,)
    up = tl.load(up_ptr + m * stride_um + offs_k, mask=mask_k, other=0.0).to(tl.float32)
    y = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(y_ptr + m * stride_ym + offs_k, y.to(y_ptr.dtype.element_ty), mask=mask_k)


def silu_mul_fp16(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up, computed in FP32. gate, up (M, K) float16 or bfloat16, contiguous along K -> the same dtype."""
    M, K = expect_silu_mul(gate, up)
    y = torch.empty((M, K), device=gate.device, dtype=gate.dtype)
    BLOCK_K = 2048
    with launching_at(gate):
        silu_mul_fp16_kernel[(M, triton.cdiv(K, BLOCK_K))](
            gate, up, y, K, gate.stride(0), up.stride(0), y.stride(0), BLOCK_K=BLOCK_K,
        )
    return y


def silu_apart(x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor) -> Codes:
    """The codes of h in three passes. x_q (M, K), x_scale (M,), w_q (2N, K), w_scale (2N,) -> (M, N) int8, (M,) float32."""
    return quantize_int8_perrow(silu_mul_fp16(*gate_and_up(x_q, x_scale, w_q, w_scale)))


def silu_in_quantizer(x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor) -> Codes:
    """The same in two passes: product, SiLU·mul with quantizer. h is not rounded to FP16, but gate and up are."""
    return silu_mul_quantize_int8(*gate_and_up(x_q, x_scale, w_q, w_scale))


def silu_in_epilogue(x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor) -> Codes:
    """The same in two passes: product with SiLU·mul, quantizer. gate and up are not rounded to FP16, but h is."""
    return quantize_int8_perrow(gate_up_silu_mul_plain(x_q, x_scale, w_q, w_scale))


def gate_and_up(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two halves, (M, N) each, of the product (M, 2N) in FP16."""
    gate, up = perrow_w8a8_matmul_plain(x_q, x_scale, w_q, w_scale).chunk(2, dim=1)
    return gate, up
