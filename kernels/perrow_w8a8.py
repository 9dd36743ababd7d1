"""INT8 matrix product of quantized rows: W8A8, weights and activations in 8 bits, one scale per row of each.

    y[m, n] = (Σ_k x_q[m, k] · w_q[n, k]) · x_scale[m] · w_scale[n] + bias[n]

The scales do not depend on k, so they leave the sum: the loop multiplies integers and adds them up exactly in INT32,
and the epilogue scales each sum once in FP32 and rounds it once.

The ladder:
  int_mm                       codes in, INT32 sums out, without scales (`kernels.int_mm`).
  perrow_w8a8_matmul_plain     one program per tile of y, tiles column by column.
  perrow_w8a8_matmul_grouped   tiles in groups of GROUP_M rows, for the L2 cache (see `kernels.matmul`).
  perrow_w8a8_matmul           the same order, tiles fetched by the copy engine of Hopper (TMA) where there is one, and
                               a tile size chosen for the GPU and the shape. On Hopper, large shapes go to
                               `kernels.hopper_gemm`.

x_q is (M, K), w_q is (N, K) as in `torch.nn.Linear`, both contiguous along K, which the INT8 tensor cores need of both
operands. An INT32 sum of K products of codes up to 127 is exact while K · 127² < 2³¹, K ≤ 133,144.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.arguments import expect, expect_rows
from kernels.configs import tiles
from kernels.int_mm import expect_int_mm
from kernels.launch import Launch, Plans, like, room
from kernels.matmul import grouped_tile
from kernels.runtime import launching_at
from kernels.tuning import choose, descriptor_ready, has_hopper_gemm, has_tma


class Operands(NamedTuple):
    """The tensors of one product, in the order in which a planned call takes them (`plan_matmul`)."""

    x_q: torch.Tensor
    x_scale: torch.Tensor
    w_q: torch.Tensor
    w_scale: torch.Tensor
    bias: torch.Tensor | None
    y: torch.Tensor


@triton.jit
def perrow_w8a8_matmul_plain_kernel(
    x_ptr, w_ptr, y_ptr, x_scale_ptr, w_scale_ptr, bias_ptr,
    M, N, K,
    stride_xm, stride_wn, stride_ym,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """y[m, n] = (Σ_k x[m, k] · w[n, k]) · x_scale[m] · w_scale[n] + bias[n], one program a tile."""
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m = offs_m < M
    mask_n = offs_n < N
    x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * stride_xm  # 64 bits: M * K can pass 2³¹
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < K
        mask_x = mask_m[:, None] & mask_k[None, :]  # (BLOCK_M, BLOCK_K)
        x = tl.load(x_rows + offs_k[None, :], mask=mask_x, other=0)
        mask_w = mask_n[:, None] & mask_k[None, :]  # (BLOCK_N, BLOCK_K)
        w = tl.load(w_rows + offs_k[None, :], mask=mask_w, other=0)
        acc = tl.dot(x, w.T, acc, out_dtype=tl.int32)  # (BLOCK_M, BLOCK_N)
    x_scale = tl.load(x_scale_ptr + offs_m, mask=mask_m, other=0.0)  # (BLOCK_M,)
    w_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    y = acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]
    if bias_ptr is not None:
        y += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]
    y_ptrs = y_ptr + offs_m.to(tl.int64)[:, None] * stride_ym + offs_n[None, :]
    tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=mask_m[:, None] & mask_n[None, :])


def perrow_w8a8_matmul_plain(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None = None, out_dtype: torch.dtype = torch.float16,
) -> torch.Tensor:
    """`perrow_w8a8_matmul`, tiles column by column."""
    M, N, K = expect_perrow_w8a8(x_q, x_scale, w_q, w_scale, bias, out_dtype)
    BLOCK_M, BLOCK_N, BLOCK_K = 128, 128, 128
    y = torch.empty((M, N), device=x_q.device, dtype=out_dtype)
    grid = (triton.cdiv(M, BLOCK_M), triton.cdiv(N, BLOCK_N))
    perrow_w8a8_matmul_plain_kernel[grid](
        x_q, w_q, y, x_scale, w_scale, bias, M, N, K, x_q.stride(0), w_q.stride(0), y.stride(0),
        BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, num_warps=8,
    )
    return y


@triton.jit
def perrow_w8a8_matmul_kernel(
    x_ptr, w_ptr, y_ptr, x_scale_ptr, w_scale_ptr, bias_ptr,
    M, N, K,
    stride_xm, stride_wn, stride_ym,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):
    """y[m, n] = (Σ_k x[m, k] · w[n, k]) · x_scale[m] · w_scale[n] + bias[n], one program per tile, tiles in groups."""
    pid_m, pid_n = grouped_tile(tl.program_id(0), tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N), GROUP_M)
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m = offs_m < M
    mask_n = offs_n < N
    x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * stride_xm
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < K
        x = tl.load(x_rows + offs_k[None, :], mask=mask_m[:, None] & mask_k[None, :], other=0)  # (BLOCK_M, BLOCK_K)
        w = tl.load(w_rows + offs_k[None, :], mask=mask_n[:, None] & mask_k[None, :], other=0)  # (BLOCK_N, BLOCK_K)
        acc = tl.dot(x, w.T, acc, out_dtype=tl.int32)  # (BLOCK_M, BLOCK_N)
    x_scale = tl.load(x_scale_ptr + offs_m, mask=mask_m, other=0.0)  # (BLOCK_M,)
    w_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    y = acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]
    if bias_ptr is not None:
        y += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]
    y_ptrs = y_ptr + offs_m.to(tl.int64)[:, None] * stride_ym + offs_n[None, :]
    tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=mask_m[:, None] & mask_n[None, :])


# Larger tiles do more arithmetic per byte fetched; smaller ones fill the GPU when there are few tiles, or fit where
# shared memory is small (99 KiB on sm_86 and sm_89).
GROUPED_CONFIGS = [
    tiles(128, 128, 128, GROUP_M=8, num_warps=8, num_stages=3),
    tiles(64, 64, 256, GROUP_M=8, num_warps=4, num_stages=4),
    tiles(64, 64, 128, GROUP_M=8, num_warps=4, num_stages=4),
    tiles(64, 128, 128, GROUP_M=8, num_warps=4, num_stages=3),
    tiles(128, 128, 64, GROUP_M=8, num_warps=4, num_stages=4),
    tiles(128, 256, 64, GROUP_M=8, num_warps=8, num_stages=4),
]


def perrow_w8a8_matmul_grouped(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None = None, out_dtype: torch.dtype = torch.float16, config: triton.Config | None = None,
) -> torch.Tensor:
    """`perrow_w8a8_matmul`, tiles in groups. `config` is one of GROUPED_CONFIGS; left out, the one that suits."""
    M, N, K = expect_perrow_w8a8(x_q, x_scale, w_q, w_scale, bias, out_dtype)
    y = torch.empty((M, N), device=x_q.device, dtype=out_dtype)
    operands = Operands(x_q, x_scale, w_q, w_scale, bias, y)
    if M > 0:
        with launching_at(x_q):
            _plan_grouped(operands, config)(*operands)
    return y


def _plan_grouped(operands: Operands, config: triton.Config | None = None) -> Callable[..., None]:
    x_q, x_scale, w_q, w_scale, bias, y = operands
    (M, N), K = y.shape, x_q.shape[1]

    def launch_with(config: triton.Config) -> Launch:
        grid = triton.cdiv(M, config.kwargs["BLOCK_M"]) * triton.cdiv(N, config.kwargs["BLOCK_N"])
        return Launch(perrow_w8a8_matmul_kernel, (grid,), (M, N, K, x_q.stride(0), w_q.stride(0), y.stride(0)),
                      config.kwargs, num_warps=config.num_warps, num_stages=config.num_stages)

    launch = launch_with(config or choose(
        "perrow_w8a8_matmul_grouped", GROUPED_CONFIGS, (M, N, K), x_q.dtype, x_q.device,
        lambda config: launch_with(config)(x_q, w_q, y, x_scale, w_scale, bias)))
    return lambda x_q, x_scale, w_q, w_scale, bias, y: launch(x_q, w_q, y, x_scale, w_scale, bias)


@triton.jit
def perrow_w8a8_matmul_tma_kernel(
    x_desc, w_desc, y_desc, x_scale_ptr, w_scale_ptr, bias_ptr,
    M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):
    """The same, x (M, K), w (N, K) and y (M, N) moved by tensor descriptors, which need no masks."""
    pid_m, pid_n = grouped_tile(tl.program_id(0), tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N), GROUP_M)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for k in range(0, K, BLOCK_K):
        x = x_desc.load([pid_m * BLOCK_M, k])  # (BLOCK_M, BLOCK_K)
        w = w_desc.load([pid_n * BLOCK_N, k])  # (BLOCK_N, BLOCK_K)
        acc = tl.dot(x, w.T, acc, out_dtype=tl.int32)  # (BLOCK_M, BLOCK_N)
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    x_scale = tl.load(x_scale_ptr + offs_m, mask=offs_m < M, other=0.0)  # (BLOCK_M,)
    w_scale = tl.load(w_scale_ptr + offs_n, mask=offs_n < N, other=0.0)  # (BLOCK_N,)
    y = acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]
    if bias_ptr is not None:
        y += tl.load(bias_ptr + offs_n, mask=offs_n < N, other=0.0).to(tl.float32)[None, :]
    y_desc.store([pid_m * BLOCK_M, pid_n * BLOCK_N], y.to(y_desc.dtype))


# The same tiles as in `kernels.matmul`, in bytes. Two programs of four warps share a multiprocessor of Hopper: 25 to
# 35 % faster than one program with a tile of 128 x 256 and eight warps.
TMA_CONFIGS = [
    tiles(128, 128, 128, GROUP_M=16, num_warps=4, num_stages=3),
    tiles(64, 64, 256, GROUP_M=8, num_warps=4, num_stages=4),
    tiles(64, 64, 128, GROUP_M=8, num_warps=4, num_stages=6),
    tiles(64, 128, 128, GROUP_M=8, num_warps=4, num_stages=4),
    tiles(128, 256, 128, GROUP_M=8, num_warps=8, num_stages=4),
]


def perrow_w8a8_matmul(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None = None, out_dtype: torch.dtype = torch.float16, config: triton.Config | None = None,
) -> torch.Tensor:
    """y = (x_q @ w_q.T) · x_scale[:, None] · w_scale + bias.

    Summed in INT32, scaled in FP32, rounded once.

    x_q (M, K), w_q (N, K) int8 with codes from -127 to 127; x_scale (M,), w_scale
    (N,) float32; bias (N,) float16, bfloat16 or float32 -> y (M, N) in `out_dtype`,
    float16 or bfloat16. Any M and N; K up to 133,144, else ValueError. M may be 0.
    Through tensor descriptors where the GPU has them and the tensors allow (K a
    multiple of 16, N of 8), else through pointers. `config`: one of TMA_CONFIGS.
    """
    if config is None:
        return _matmul(x_q, x_scale, w_q, w_scale, bias, out_dtype)
    M, N, K = expect_perrow_w8a8(x_q, x_scale, w_q, w_scale, bias, out_dtype)
    y = torch.empty((M, N), device=x_q.device, dtype=out_dtype)
    operands = Operands(x_q, x_scale, w_q, w_scale, bias, y)
    with launching_at(x_q):
        plan_matmul(operands, config)(*operands)
    return y


@Plans
def _matmul(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
    out_dtype: torch.dtype,
) -> Callable[..., torch.Tensor]:
    M, N, K = expect_perrow_w8a8(x_q, x_scale, w_q, w_scale, bias, out_dtype)
    y_like = torch.empty((M, N), device=x_q.device, dtype=out_dtype)
    launch, y_room = plan_matmul(Operands(x_q, x_scale, w_q, w_scale, bias, y_like)), room((M, N), out_dtype, x_q.device)

    def call(
        x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
        out_dtype: torch.dtype,
    ) -> torch.Tensor:
        y = y_room()
        launch(x_q, x_scale, w_q, w_scale, bias, y)
        return y

    return call


def plan_matmul(operands: Operands, config: triton.Config | None = None) -> Callable[..., None]:
    """The call with (x_q, x_scale, w_q, w_scale, bias, y) that writes the product into y (M, N), for all tensors like these.

    Its callers have checked them. Where configurations have to be timed it writes into y.
    """
    x_q, _, w_q, _, _, y = operands
    (M, N), K, where = y.shape, x_q.shape[1], x_q.device
    if M == 0:
        return lambda *_: None
    if not ((config or has_tma(where)) and descriptor_ready(x_q, w_q, y)):
        return _plan_grouped(operands)

    def launch_with(config: triton.Config) -> Callable[..., None]:
        BLOCK_M, BLOCK_N, BLOCK_K = (config.kwargs[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
        launch = Launch(perrow_w8a8_matmul_tma_kernel, (triton.cdiv(M, BLOCK_M) * triton.cdiv(N, BLOCK_N),), (M, N, K),
                        config.kwargs, num_warps=config.num_warps, num_stages=config.num_stages)
        x_like, w_like, y_like = (like(TensorDescriptor.from_tensor(tensor, [rows, columns])) for tensor, rows, columns in (
            (x_q, BLOCK_M, BLOCK_K), (w_q, BLOCK_N, BLOCK_K), (y, BLOCK_M, BLOCK_N)))
        return lambda x_q, x_scale, w_q, w_scale, bias, y: launch(
            x_like(x_q), w_like(w_q), y_like(y), x_scale, w_scale, bias)

    if config is None:
        config = choose("perrow_w8a8_matmul", TMA_CONFIGS, (M, N, K), x_q.dtype, where,
                        lambda config: launch_with(config)(*operands))
        if config is TMA_CONFIGS[0] and has_hopper_gemm(where):
            from kernels.hopper_gemm import plan_hopper

            launch = plan_hopper(x_q, w_q, y)
            return lambda x_q, x_scale, w_q, w_scale, bias, y: launch(x_q, w_q, y, x_scale, w_scale, bias)
    return launch_with(config)


def expect_perrow_w8a8(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
    out_dtype: torch.dtype,
) -> tuple[int, int, int]:
    """M, N and K of the arguments of `perrow_w8a8_matmul`. Raises TypeError or ValueError where they are anything else."""
    M, N, K = expect_int_mm(x_q, w_q)
    expect_rows("w_q", w_q)
    for name, value, size in (("x_scale", x_scale, M), ("w_scale", w_scale, N)):
        expect(name, value, (size,), torch.float32, device=x_q.device)
        expect_rows(name, value)
    if bias is not None:
        expect("bias", bias, (N,), (torch.float16, torch.bfloat16, torch.float32), device=x_q.device)
        expect_rows("bias", bias)
    if out_dtype not in (torch.float16, torch.bfloat16):
        raise TypeError(f"out_dtype must be torch.float16 or torch.bfloat16, got {out_dtype}")
    return M, N, K
