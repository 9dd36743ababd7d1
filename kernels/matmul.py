"""Matrix product D = A @ B.T in FP16, the operation of prefill: many tokens (x) against each weight matrix (w).

The ladder:
  matmul_fp16_naive     one program per tile of y, tiles down one column after the other (axis 0 of the grid is
                        the one that counts fastest), steps of BLOCK_K along K.
  matmul_fp16_grouped   the same tiles in groups of GROUP_M rows, so that programs that run together read the same rows
                        of x and w, and the L2 cache serves them.
  matmul_fp16           the same order, tiles fetched by the copy engine of Hopper (TMA) where there is one, and a tile
                        size chosen for the GPU and the shape. On Hopper, large shapes go to `kernels.hopper_gemm`.

x is (M, K), w is (N, K) as in `torch.nn.Linear`, y is (M, N). Products are summed in FP32 and rounded once. Each
element of x serves N products and each of w serves M, so large shapes are compute-bound.
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.arguments import expect, expect_rows
from kernels.configs import tiles
from kernels.runtime import device, launching_at
from kernels.tuning import choose, descriptor_ready, has_hopper_gemm, has_tma


@triton.jit
def matmul_fp16_naive_kernel(
    x_ptr, w_ptr, y_ptr,
    M, N, K,
    stride_xm, stride_wn, stride_ym,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """y[m, n] = Σ_k x[m, k] · w[n, k], one program per (BLOCK_M, BLOCK_N) tile of y."""
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m = offs_m < M
    mask_n = offs_n < N
    x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * stride_xm  # 64 bits: M * K can pass 2³¹
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < K
        mask_x = mask_m[:, None] & mask_k[None, :]  # (BLOCK_M, BLOCK_K)
        x = tl.load(x_rows + offs_k[None, :], mask=mask_x, other=0.0)
        mask_w = mask_n[:, None] & mask_k[None, :]  # (BLOCK_N, BLOCK_K)
        w = tl.load(w_rows + offs_k[None, :], mask=mask_w, other=0.0)
        acc = tl.dot(x, w.T, acc)  # (BLOCK_M, BLOCK_N)
    y_ptrs = y_ptr + offs_m.to(tl.int64)[:, None] * stride_ym + offs_n[None, :]
    tl.store(y_ptrs, acc.to(tl.float16), mask=mask_m[:, None] & mask_n[None, :])


def matmul_fp16_naive(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """y = x @ w.T, one column of tiles after the other.

    x (M, K), w (N, K) float16 -> y (M, N) float16; any M, N and K.
    """
    M, N, K = expect_matmul(x, w)
    BLOCK_M, BLOCK_N, BLOCK_K = 128, 128, 64
    y = torch.empty((M, N), device=x.device, dtype=x.dtype)
    grid = (triton.cdiv(M, BLOCK_M), triton.cdiv(N, BLOCK_N))
    matmul_fp16_naive_kernel[grid](
        x, w, y, M, N, K, x.stride(0), w.stride(0), y.stride(0),
        BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, num_warps=8,
    )
    return y


@triton.jit
def grouped_tile(pid, num_pid_m, num_pid_n, GROUP_M: tl.constexpr):
    """The tile (pid_m, pid_n) of program `pid`: groups of GROUP_M rows, each down its columns.

    Programs that run together then cover a block about as tall as wide, and share rows of x and w.
    """
    group_size = GROUP_M * num_pid_n
    first_m = (pid // group_size) * GROUP_M
    rows = tl.minimum(num_pid_m - first_m, GROUP_M)  # the last group may be lower
    pid_m = first_m + (pid % group_size) % rows
    pid_n = (pid % group_size) // rows
    return pid_m, pid_n


@triton.jit
def grouped_order_kernel(order_ptr, num_pid_m, num_pid_n, GROUP_M: tl.constexpr):
    """order[pid] = (pid_m, pid_n), the tile that program `pid` takes."""
    pid = tl.program_id(0)
    pid_m, pid_n = grouped_tile(pid, num_pid_m, num_pid_n, GROUP_M)
    tl.store(order_ptr + 2 * pid, pid_m)
    tl.store(order_ptr + 2 * pid + 1, pid_n)


def grouped_order(num_pid_m: int, num_pid_n: int, GROUP_M: int) -> torch.Tensor:
    """The tiles (pid_m, pid_n) in the order of `grouped_tile`: (num_pid_m * num_pid_n, 2) int32."""
    order = torch.empty((num_pid_m * num_pid_n, 2), device=device(), dtype=torch.int32)
    grouped_order_kernel[(len(order),)](order, num_pid_m, num_pid_n, GROUP_M=GROUP_M)
    return order


@triton.jit
def matmul_fp16_grouped_kernel(
    x_ptr, w_ptr, y_ptr,
    M, N, K,
    stride_xm, stride_wn, stride_ym,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):
    """y[m, n] = Σ_k x[m, k] · w[n, k], tiles of y in groups of GROUP_M rows."""
    pid_m, pid_n = grouped_tile(tl.program_id(0), tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N), GROUP_M)
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m = offs_m < M
    mask_n = offs_n < N
    x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * stride_xm
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < K
        mask_x = mask_m[:, None] & mask_k[None, :]  # (BLOCK_M, BLOCK_K)
        x = tl.load(x_rows + offs_k[None, :], mask=mask_x, other=0.0)
        mask_w = mask_n[:, None] & mask_k[None, :]  # (BLOCK_N, BLOCK_K)
        w = tl.load(w_rows + offs_k[None, :], mask=mask_w, other=0.0)
        acc = tl.dot(x, w.T, acc)  # (BLOCK_M, BLOCK_N)
    y_ptrs = y_ptr + offs_m.to(tl.int64)[:, None] * stride_ym + offs_n[None, :]
    tl.store(y_ptrs, acc.to(tl.float16), mask=mask_m[:, None] & mask_n[None, :])


# Large tiles do more arithmetic per byte fetched; small ones fill the GPU when there are few tiles, or fit where shared
# memory is small (99 KiB on sm_86 and sm_89). Stages are loads in flight. `tuning.choose` says why the first three.
GROUPED_CONFIGS = [
    tiles(128, 128, 64, GROUP_M=8, num_warps=8, num_stages=3),
    tiles(64, 64, 128, GROUP_M=8, num_warps=4, num_stages=4),
    tiles(64, 64, 64, GROUP_M=8, num_warps=4, num_stages=4),
    tiles(64, 128, 64, GROUP_M=8, num_warps=4, num_stages=3),
    tiles(128, 128, 32, GROUP_M=8, num_warps=4, num_stages=4),
    tiles(128, 256, 32, GROUP_M=8, num_warps=8, num_stages=4),
]


def matmul_fp16_grouped(x: torch.Tensor, w: torch.Tensor, config: triton.Config | None = None) -> torch.Tensor:
    """y = x @ w.T, tiles in groups. x (M, K), w (N, K) float16 -> y (M, N) float16; any M, N and K.

    `config` is one of GROUPED_CONFIGS; left out, it is the one that suits the GPU and the shape.
    """
    M, N, K = expect_matmul(x, w)
    y = torch.empty((M, N), device=x.device, dtype=x.dtype)

    def launch(config: triton.Config) -> None:
        grid = (triton.cdiv(M, config.kwargs["BLOCK_M"]) * triton.cdiv(N, config.kwargs["BLOCK_N"]),)
        matmul_fp16_grouped_kernel[grid](
            x, w, y, M, N, K, x.stride(0), w.stride(0), y.stride(0), **config.all_kwargs(),
        )

    with launching_at(x):
        launch(config or choose("matmul_fp16_grouped", GROUPED_CONFIGS, (M, N, K), x.dtype, x.device, launch))
    return y


@triton.jit
def matmul_fp16_kernel(
    x_desc, w_desc, y_desc,
    M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):
    """y[m, n] = Σ_k x[m, k] · w[n, k], tiles in groups, moved by tensor descriptors of x (M, K), w (N, K), y (M, N).

    A descriptor knows its tensor's shape: what lies outside reads as zero and is not written, so no masks.
    """
    pid_m, pid_n = grouped_tile(tl.program_id(0), tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N), GROUP_M)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        x = x_desc.load([pid_m * BLOCK_M, k])  # (BLOCK_M, BLOCK_K)
        w = w_desc.load([pid_n * BLOCK_N, k])  # (BLOCK_N, BLOCK_K)
        acc = tl.dot(x, w.T, acc)  # (BLOCK_M, BLOCK_N)
    y_desc.store([pid_m * BLOCK_M, pid_n * BLOCK_N], acc.to(tl.float16))


# On Hopper two programs of four warps share a multiprocessor, so that one multiplies while the other stores its tile:
# 25 % faster than one program with a tile of 128 x 256 and eight warps.
TMA_CONFIGS = [
    tiles(128, 128, 64, GROUP_M=16, num_warps=4, num_stages=3),
    tiles(64, 64, 128, GROUP_M=8, num_warps=4, num_stages=4),
    tiles(64, 64, 64, GROUP_M=8, num_warps=4, num_stages=6),
    tiles(64, 128, 64, GROUP_M=8, num_warps=4, num_stages=4),
    tiles(128, 256, 64, GROUP_M=8, num_warps=8, num_stages=4),
]


def matmul_fp16(x: torch.Tensor, w: torch.Tensor, config: triton.Config | None = None) -> torch.Tensor:
    """y = x @ w.T, the fastest rung. x (M, K), w (N, K) float16 -> y (M, N) float16; any M, N and K.

    Through tensor descriptors where the GPU has them and the tensors allow (rows on multiples of 16 bytes: K and N
    multiples of 8), through pointers elsewhere. `config` is one of TMA_CONFIGS.
    """
    M, N, K = expect_matmul(x, w)
    y = torch.empty((M, N), device=x.device, dtype=x.dtype)
    if not ((config or has_tma(x.device)) and descriptor_ready(x, w, y)):
        return matmul_fp16_grouped(x, w)

    def launch(config: triton.Config) -> None:
        BLOCK_M, BLOCK_N, BLOCK_K = (config.kwargs[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
        matmul_fp16_kernel[(triton.cdiv(M, BLOCK_M) * triton.cdiv(N, BLOCK_N),)](
            TensorDescriptor.from_tensor(x, [BLOCK_M, BLOCK_K]),
            TensorDescriptor.from_tensor(w, [BLOCK_N, BLOCK_K]),
            TensorDescriptor.from_tensor(y, [BLOCK_M, BLOCK_N]),
            M, N, K, **config.all_kwargs(),
        )

    with launching_at(x):
        if config is None:
            config = choose("matmul_fp16", TMA_CONFIGS, (M, N, K), x.dtype, x.device, launch)
            if config is TMA_CONFIGS[0] and has_hopper_gemm(x.device):
                from kernels.hopper_gemm import hopper_gemm

                return hopper_gemm(x, w, y)
        launch(config)
    return y


def expect_matmul(x: torch.Tensor, w: torch.Tensor) -> tuple[int, int, int]:
    """M, N and K of x (M, K) and w (N, K) FP16. Raises TypeError or ValueError where they are anything else."""
    M, K = expect("x", x, ("M", "K"), torch.float16)
    N, _ = expect("w", w, ("N", K), torch.float16, device=x.device)
    expect_rows("x", x)
    expect_rows("w", w)
    return M, N, K
