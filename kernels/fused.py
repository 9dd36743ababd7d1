"""Quantization for nothing: the operations that stand before a linear layer write INT8 codes instead of FP16.

    rmsnorm_quantize_int8    y = x / sqrt(mean(x²) + eps) · weight    before the attention's and the MLP's projections
    silu_mul_quantize_int8   y = gate / (1 + exp(-gate)) · up         before the MLP's last projection

and both return the per-row codes and scales of y, as `kernels.quantize` defines them. Apart, the operation writes y and
the quantizer reads it again: 7 bytes an element for RMSNorm, 9 for SiLU·mul. Together, 3 and 5.

y itself exists in FP32 only: it is not rounded to FP16 before it is quantized. RMSNorm goes one step further. Its
1 / sqrt(mean(x²) + eps) is one number per row, so it scales amax and every element alike and leaves the codes as they
are: the codes are those of x · weight, and it only multiplies the row's scale. So a single reading finds the sum of
squares and the amax.

The ladder of each:
  rmsnorm_quantize_int8_plain_kernel    a row in registers, each step written out, y divided by the root before amax.
  rmsnorm_quantize_int8_long_kernel     a row in chunks, read twice, the root taken out of the codes.
  silu_mul_quantize_int8_plain_kernel   a row in registers, each step written out.
  rmsnorm_quantize_int8_kernel, silu_mul_quantize_int8_kernel
                                        both ways in one, told apart by a constexpr. ROW_FITS: a row in one block, read
                                        once. Else a row in chunks, read twice, the second time from the cache.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows
from kernels.launch import Launch, Plans
from kernels.quantize import FLOATS, Codes, codes, finite_or_inf, room_for_codes, rooms_for_codes, row_scale
from kernels.runtime import card


@triton.jit
def rmsnorm_quantize_int8_plain_kernel(
    x_ptr, weight_ptr, q_ptr, scale_ptr,
    K,
    stride_xm, stride_qm,
    eps,
    BLOCK_K: tl.constexpr,
):
    """q[m, :] = round(y / scale[m]), scale[m] = max |y| / 127; BLOCK_K ≥ K.

    y = x[m, :] / sqrt(mean(x[m, :]²) + eps) · weight
    """
    m = tl.program_id(0).to(tl.int64)  # 64 bits: m * stride_xm can pass 2³¹
    offs_k = tl.arange(0, BLOCK_K)
    mask_k = offs_k < K
    x = tl.load(x_ptr + m * stride_xm + offs_k, mask=mask_k, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + offs_k, mask=mask_k, other=0.0).to(tl.float32)
    mean_square = tl.sum(x * x, axis=0) / K  # the masked lanes add 0
    y = x / tl.sqrt(mean_square + eps) * weight
    scale = row_scale(tl.max(finite_or_inf(y), axis=0))
    tl.store(scale_ptr + m, scale)
    tl.store(q_ptr + m * stride_qm + offs_k, codes(y, scale), mask=mask_k)


def rmsnorm_quantize_int8_plain(
    x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`rmsnorm_quantize_int8` by the plain kernel."""
    q, scale = empty_rmsnorm_codes(x, weight)
    M, K = x.shape
    rmsnorm_quantize_int8_plain_kernel[(M,)](
        x, weight, q, scale, K, x.stride(0), q.stride(0), eps, BLOCK_K=triton.next_power_of_2(K),
    )
    return q, scale


@triton.jit
def rmsnorm_quantize_int8_long_kernel(
    x_ptr, weight_ptr, q_ptr, scale_ptr,
    K,
    stride_xm, stride_qm,
    eps,
    BLOCK_K: tl.constexpr,
):
    """The same for rows of any length, in chunks of BLOCK_K, read twice."""
    m = tl.program_id(0).to(tl.int64)  # 64 bits: m * stride_xm can pass 2³¹
    x_row = x_ptr + m * stride_xm
    q_row = q_ptr + m * stride_qm
    squares = tl.zeros((BLOCK_K,), dtype=tl.float32)
    magnitude = tl.zeros((BLOCK_K,), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        x = tl.load(x_row + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)
        squares += x * x
        magnitude = tl.maximum(magnitude, finite_or_inf(x * weight))
    rms = tl.sqrt(tl.sum(squares, axis=0) / K + eps)
    scale = row_scale(tl.max(magnitude, axis=0))  # of x · weight: the codes are the same
    tl.store(scale_ptr + m, scale / rms)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        x = tl.load(x_row + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)
        tl.store(q_row + offs_k, codes(x * weight, scale), mask=offs_k < K)


def rmsnorm_quantize_int8_long(
    x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`rmsnorm_quantize_int8` by the kernel for long rows."""
    q, scale = empty_rmsnorm_codes(x, weight)
    M, K = x.shape
    rmsnorm_quantize_int8_long_kernel[(M,)](
        x, weight, q, scale, K, x.stride(0), q.stride(0), eps, BLOCK_K=2048,
    )
    return q, scale


@triton.jit
def rmsnorm_quantize_int8_kernel(
    x_ptr, weight_ptr, q_ptr, scale_ptr,
    K,
    stride_xm,
    eps,
    BLOCK_K: tl.constexpr, ROW_FITS: tl.constexpr,
):
    """q[m, :] = round(h / s), scale[m] = s / sqrt(mean(x[m, :]²) + eps), h = x[m, :] · weight, s = max |h| / 127."""
    m = tl.program_id(0).to(tl.int64)  # 64 bits: m * stride_xm passes 2³¹ for a long batch
    x_row = x_ptr + m * stride_xm
    q_row = q_ptr + m * K
    offs_k = tl.arange(0, BLOCK_K)
    if ROW_FITS:
        x = tl.load(x_row + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)  # (BLOCK_K,)
        h = x * tl.load(weight_ptr + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)  # (BLOCK_K,)
        squares = x * x
        magnitude = finite_or_inf(h)
    else:
        squares = tl.zeros((BLOCK_K,), dtype=tl.float32)
        magnitude = tl.zeros((BLOCK_K,), dtype=tl.float32)
        for k in range(0, K, BLOCK_K):
            mask_k = k + offs_k < K
            x = tl.load(x_row + k + offs_k, mask=mask_k, other=0.0).to(tl.float32)
            h = x * tl.load(weight_ptr + k + offs_k, mask=mask_k, other=0.0).to(tl.float32)
            squares += x * x
            magnitude = tl.maximum(magnitude, finite_or_inf(h))
    eps = tl.cast(eps, tl.float32)  # Inductor hands on a Python number in 64 bits
    rms = tl.sqrt_rn(tl.div_rn(tl.sum(squares, axis=0), K * 1.0) + eps)
    scale = row_scale(tl.max(magnitude, axis=0))
    tl.store(scale_ptr + m, tl.div_rn(scale, rms))
    if ROW_FITS:
        tl.store(q_row + offs_k, codes(h, scale), mask=offs_k < K)
    else:
        for k in range(0, K, BLOCK_K):
            mask_k = k + offs_k < K
            x = tl.load(x_row + k + offs_k, mask=mask_k, other=0.0).to(tl.float32)
            h = x * tl.load(weight_ptr + k + offs_k, mask=mask_k, other=0.0).to(tl.float32)
            tl.store(q_row + k + offs_k, codes(h, scale), mask=mask_k)


def rmsnorm_quantize_int8(
    x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6,
) -> tuple[torch.Tensor, torch.Tensor]:
    """INT8 codes and FP32 scales of the rows of x / sqrt(mean(x²) + eps) · weight.

    x (M, K) float16 or bfloat16, contiguous along K; weight (K,) float16, bfloat16 or float32 -> q (M, K) int8,
    scale (M,) float32. RMSNorm: Zhang and Sennrich, "Root mean square layer normalization", 2019.
    """
    return _rmsnorm(x, weight, eps)


def plan_rmsnorm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> Callable[..., Codes]:
    """`rmsnorm_quantize_int8` with this eps, of all tensors like these."""
    M, K = expect_rmsnorm(x, weight)
    rooms = rooms_for_codes(M, K, x.device)
    # 32 elements a thread: several passes over registers, with little to do in each. A row that fills less than three
    # quarters of a block is faster in chunks, 90 µs against 105 for K = 5632 on an H200.
    whole = triton.next_power_of_2(K)
    blocks, num_warps = _blocks(whole, whole * 3 // 4 < K and whole <= 16384, elements_per_warp=1024)
    launch = Launch(rmsnorm_quantize_int8_kernel, (M,), (K, x.stride(0), eps), blocks, num_warps=num_warps)

    def call(x: torch.Tensor, weight: torch.Tensor, eps: float) -> Codes:
        q, scale = rooms()
        launch(x, weight, q, scale)
        return q, scale

    return call


_rmsnorm = Plans(plan_rmsnorm)


def empty_rmsnorm_codes(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for the codes and scales of x (M, K), normed with weight (K,). Raises TypeError or ValueError where they are
    anything else."""
    M, K = expect_rmsnorm(x, weight)
    return room_for_codes(M, K, x.device)


def expect_rmsnorm(x: torch.Tensor, weight: torch.Tensor) -> tuple[int, int]:
    """M and K of x (M, K) and weight (K,), or an error."""
    M, K = expect("x", x, ("M", "K"), FLOATS, batch=True)
    expect("weight", weight, (K,), (*FLOATS, torch.float32), device=x.device)
    expect_rows("x", x)
    expect_rows("weight", weight)
    return M, K


@triton.jit
def silu_mul_quantize_int8_plain_kernel(
    gate_ptr, up_ptr, q_ptr, scale_ptr,
    K,
    stride_gm, stride_um, stride_qm,
    BLOCK_K: tl.constexpr,
):
    """q[m, :] = round(y / scale[m]), scale[m] = max |y| / 127; BLOCK_K ≥ K.

    y = gate[m, :] / (1 + exp(-gate[m, :])) · up[m, :]
    """
    m = tl.program_id(0).to(tl.int64)  # 64 bits: m * stride_gm can pass 2³¹
    offs_k = tl.arange(0, BLOCK_K)
    mask_k = offs_k < K
    gate = tl.load(gate_ptr + m * stride_gm + offs_k, mask=mask_k, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + m * stride_um + offs_k, mask=mask_k, other=0.0).to(tl.float32)
    y = gate / (1.0 + tl.exp(-gate)) * up
    scale = row_scale(tl.max(finite_or_inf(y), axis=0))
    tl.store(scale_ptr + m, scale)
    tl.store(q_ptr + m * stride_qm + offs_k, codes(y, scale), mask=mask_k)


def silu_mul_quantize_int8_plain(
    gate: torch.Tensor, up: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`silu_mul_quantize_int8` by the plain kernel."""
    q, scale = empty_silu_mul_codes(gate, up)
    M, K = gate.shape
    silu_mul_quantize_int8_plain_kernel[(M,)](
        gate, up, q, scale, K, gate.stride(0), up.stride(0), q.stride(0),
        BLOCK_K=triton.next_power_of_2(K),
    )
    return q, scale


@triton.jit
def silu_mul_quantize_int8_kernel(
    gate_ptr, up_ptr, q_ptr, scale_ptr,
    K,
    stride_gm, stride_um,
    BLOCK_K: tl.constexpr, ROW_FITS: tl.constexpr,
):
    """q[m, :] = round(h / scale[m]), scale[m] = max |h| / 127, h = gate[m, :] / (1 + exp(-gate[m, :])) · up[m, :]."""
    m = tl.program_id(0).to(tl.int64)
    gate_row = gate_ptr + m * stride_gm
    up_row = up_ptr + m * stride_um
    q_row = q_ptr + m * K
    offs_k = tl.arange(0, BLOCK_K)
    if ROW_FITS:
        h = silu_mul(gate_row + offs_k, up_row + offs_k, offs_k < K)  # (BLOCK_K,)
        magnitude = finite_or_inf(h)
    else:
        magnitude = tl.zeros((BLOCK_K,), dtype=tl.float32)
        for k in range(0, K, BLOCK_K):
            h = silu_mul(gate_row + k + offs_k, up_row + k + offs_k, k + offs_k < K)
            magnitude = tl.maximum(magnitude, finite_or_inf(h))
    scale = row_scale(tl.max(magnitude, axis=0))
    tl.store(scale_ptr + m, scale)
    if ROW_FITS:
        tl.store(q_row + offs_k, codes(h, scale), mask=offs_k < K)
    else:
        for k in range(0, K, BLOCK_K):
            h = silu_mul(gate_row + k + offs_k, up_row + k + offs_k, k + offs_k < K)
            tl.store(q_row + k + offs_k, codes(h, scale), mask=k + offs_k < K)


@triton.jit
def silu_mul(gate_ptrs, up_ptrs, mask):
    """gate / (1 + exp(-gate)) · up in FP32, 0 where masked."""
    gate = tl.load(gate_ptrs, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(up_ptrs, mask=mask, other=0.0).to(tl.float32)
    return gate / (1.0 + tl.exp(-gate)) * up


def silu_mul_quantize_int8(gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """INT8 codes and FP32 scales of the rows of silu(gate) · up.

    gate, up (M, K) float16 or bfloat16, of one dtype and contiguous along K: the two halves of one (M, 2K) product will
    do -> q (M, K) int8, scale (M,) float32.
    """
    return _silu_mul(gate, up)


def plan_silu_mul(gate: torch.Tensor, up: torch.Tensor) -> Callable[..., Codes]:
    """`silu_mul_quantize_int8` of all tensors like these."""
    M, K = expect_silu_mul(gate, up)
    rooms = rooms_for_codes(M, K, gate.device)
    # 16 elements a thread, and in chunks only where it must be: that takes every exponential twice.
    whole = triton.next_power_of_2(K)
    blocks, num_warps = _blocks(whole, whole <= 16384, elements_per_warp=512)
    if card(gate.device).capability is None:
        num_warps = min(num_warps, 16)  # an AMD GPU's have 64 lanes, and a program at most 1,024
    launch = Launch(silu_mul_quantize_int8_kernel, (M,), (K, gate.stride(0), up.stride(0)), blocks, num_warps=num_warps)

    def call(gate: torch.Tensor, up: torch.Tensor) -> Codes:
        q, scale = rooms()
        launch(gate, up, q, scale)
        return q, scale

    return call


_silu_mul = Plans(plan_silu_mul)


def empty_silu_mul_codes(gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for the codes and scales of silu(gate) · up, both (M, K). Raises TypeError or ValueError where they are
    anything else."""
    M, K = expect_silu_mul(gate, up)
    return room_for_codes(M, K, gate.device)


def expect_silu_mul(gate: torch.Tensor, up: torch.Tensor) -> tuple[int, int]:
    """M and K of gate and up, both (M, K), or an error."""
    M, K = expect("gate", gate, ("M", "K"), FLOATS, batch=True)
    expect("up", up, (M, K), gate.dtype, device=gate.device)
    expect_rows("gate", gate)
    expect_rows("up", up)
    return M, K


def _blocks(whole: int, row_fits: bool, elements_per_warp: int) -> tuple[dict[str, int], int]:
    """The constexprs and the number of warps."""
    if not row_fits:
        return {"BLOCK_K": 2048, "ROW_FITS": False}, 4
    return {"BLOCK_K": whole, "ROW_FITS": True}, max(1, whole // elements_per_warp)
