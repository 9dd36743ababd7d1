"""INT8 with a scale for each row and each group of 128 numbers along K: the quantizer, and the product that takes its codes.

    y[m, n] = Σ_g (Σ_{k in g} x_q[m, k] · w_q[n, k]) · x_scale[g, m] · w_scale[g, n]

An outlier makes the steps of its own group coarse, and no others. The sums of a group are exact in INT32; groups are scaled
and added up in FP32, inside the loop along K. As in DeepSeek-AI, "DeepSeek-V3 technical report", arXiv:2412.19437, section
3.3, which does so in FP8 and shares w's scales among 128 rows too.

  quantize_int8_groups_torch   the definition of codes and scales.
  quantize_int8_groups         one program for BLOCK_M rows of a group.
  group_w8a8_matmul            one program per tile of y, in the order of `kernels.matmul`, a step along K for each group.

Scales are (K / 128, M) and (K / 128, N): a program takes those of its rows in one group at once, so they lie side by side.
"""

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows
from kernels.configs import tiles
from kernels.int_mm import expect_codes
from kernels.matmul import grouped_tile
from kernels.quantize import expect_quantizable, finite_or_inf, quantize_int8_perrow_torch, row_scale
from kernels.quantize_inside import tile_codes
from kernels.runtime import launching_at
from kernels.tuning import choose

GROUP_K = 128
"""Numbers along K that share a scale. The group is also the step along K, which tensor cores want to be long."""


def quantize_int8_groups_torch(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each 128 numbers of a row quantized as `quantize_int8_perrow_torch` does a row.

    x (M, K), K a multiple of 128 -> q (M, K) int8 from -127 to 127, scale (K / 128, M) float32.
    """
    q, scale = quantize_int8_perrow_torch(x.reshape(-1, GROUP_K))
    return q.reshape(x.shape), scale.reshape(len(x), -1).T.contiguous()


@triton.jit
def quantize_int8_groups_kernel(
    x_ptr, q_ptr, scale_ptr,
    M,
    stride_xm, stride_qm, stride_sg,
    BLOCK_M: tl.constexpr, GROUP_K: tl.constexpr,
):
    """q[m, k] = round(x[m, k] / scale[g, m]), scale[g, m] = max |x[m, k]| / 127 over group g, BLOCK_M rows a program."""
    g = tl.program_id(1)
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_k = g * GROUP_K + tl.arange(0, GROUP_K)
    mask_m = offs_m < M
    rows = offs_m.to(tl.int64)[:, None]  # 64 bits: M * K can pass 2³¹
    x = tl.load(x_ptr + rows * stride_xm + offs_k[None, :], mask=mask_m[:, None], other=0.0)  # (BLOCK_M, GROUP_K)
    scale = row_scale(tl.max(finite_or_inf(x), axis=1))  # (BLOCK_M,)
    tl.store(scale_ptr + g * stride_sg + offs_m, scale, mask=mask_m)
    tl.store(q_ptr + rows * stride_qm + offs_k[None, :], tile_codes(x, scale), mask=mask_m[:, None])


def quantize_int8_groups(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """INT8 codes and FP32 scales of each group of 128 numbers along the rows of x.

    x (M, K) float16 or bfloat16, contiguous along K, K a multiple of 128, M may be 0 -> q (M, K) int8, scale (K / 128, M)
    float32. A group of zeros gives q = 0 and scale = 0, one that holds NaN or Inf q = 0 and scale = NaN. Raises TypeError or
    ValueError for anything else.
    """
    expect_quantizable(x)
    M, K = x.shape
    expect_groups("x", K)
    q = torch.empty((M, K), device=x.device, dtype=torch.int8)
    scale = torch.empty((K // GROUP_K, M), device=x.device, dtype=torch.float32)
    BLOCK_M = 32
    if M > 0:
        with launching_at(x):
            quantize_int8_groups_kernel[(triton.cdiv(M, BLOCK_M), K // GROUP_K)](
                x, q, scale, M, x.stride(0), q.stride(0), scale.stride(0),
                BLOCK_M=BLOCK_M, GROUP_K=GROUP_K, num_warps=4,
            )
    return q, scale


@triton.jit
def group_w8a8_matmul_kernel(
    x_ptr, w_ptr, y_ptr, x_scale_ptr, w_scale_ptr,
    M, N, K,
    stride_xm, stride_wn, stride_ym, stride_xg, stride_wg,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):
    """y[m, n] = Σ_g (Σ_k x[m, k] · w[n, k]) · x_scale[g, m] · w_scale[g, n], k in group g.

    Group g is k = g · BLOCK_K to (g + 1) · BLOCK_K - 1, and K a multiple of BLOCK_K. The inner sum
    is exact in INT32, the outer one FP32, rounded once. One program per tile of y.
    """
    num_pid_m, num_pid_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    pid_m, pid_n = grouped_tile(tl.program_id(0), num_pid_m, num_pid_n, GROUP_M)
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)
    mask_m = offs_m < M
    mask_n = offs_n < N
    x_ptrs = x_ptr + offs_m.to(tl.int64)[:, None] * stride_xm + offs_k[None, :]  # of group 0
    w_ptrs = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn + offs_k[None, :]
    y = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for g in range(0, K // BLOCK_K):
        x = tl.load(x_ptrs + g * BLOCK_K, mask=mask_m[:, None], other=0)  # (BLOCK_M, BLOCK_K)
        w = tl.load(w_ptrs + g * BLOCK_K, mask=mask_n[:, None], other=0)  # (BLOCK_N, BLOCK_K)
        # Before the product: on a GPU it starts while the scales are on their way.
        x_scale = tl.load(x_scale_ptr + g * stride_xg + offs_m, mask=mask_m, other=0.0)
        w_scale = tl.load(w_scale_ptr + g * stride_wg + offs_n, mask=mask_n, other=0.0)
        acc = tl.dot(x, w.T, out_dtype=tl.int32)  # (BLOCK_M, BLOCK_N)
        y += acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]
    y_ptrs = y_ptr + offs_m.to(tl.int64)[:, None] * stride_ym + offs_n[None, :]
    tl.store(y_ptrs, y.to(tl.float16), mask=mask_m[:, None] & mask_n[None, :])


# A tile takes twice the registers of the per-row product's, for the sums of the group and those of y: 128 x 128 needs eight
# warps. Smaller tiles leave room for a second program, which may multiply while the first one scales: on an H200 128 x 64 is
# 1 to 5 % faster than 128 x 128 at the shapes of `bench --only groups`.
GROUP_CONFIGS = [
    tiles(128, 128, GROUP_K, GROUP_M=8, num_warps=8, num_stages=3),
    tiles(64, 64, GROUP_K, GROUP_M=8, num_warps=4, num_stages=6),
    tiles(64, 64, GROUP_K, GROUP_M=8, num_warps=4, num_stages=4),
    tiles(64, 128, GROUP_K, GROUP_M=8, num_warps=4, num_stages=3),
    tiles(128, 64, GROUP_K, GROUP_M=8, num_warps=4, num_stages=3),
]


def group_w8a8_matmul(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
    config: triton.Config | None = None,
) -> torch.Tensor:
    """y = x wᵀ of codes with a scale for each row and each group of 128 codes along K.

    x_q (M, K), w_q (N, K) int8, contiguous along K; x_scale (K / 128, M), w_scale (K / 128, N)
    float32, as from `quantize_int8_groups` -> y (M, N) float16. Any M and N, M may be 0; K a
    multiple of 128. `config` is one of GROUP_CONFIGS. Raises TypeError or ValueError where they are
    anything else.
    """
    M, N, K = expect_group_w8a8(x_q, x_scale, w_q, w_scale)
    y = torch.empty((M, N), device=x_q.device, dtype=torch.float16)

    def launch(config: triton.Config) -> None:
        BLOCK_M, BLOCK_N = config.kwargs["BLOCK_M"], config.kwargs["BLOCK_N"]
        group_w8a8_matmul_kernel[(triton.cdiv(M, BLOCK_M) * triton.cdiv(N, BLOCK_N),)](
            x_q, w_q, y, x_scale, w_scale, M, N, K, x_q.stride(0), w_q.stride(0), y.stride(0),
            x_scale.stride(0), w_scale.stride(0), **config.all_kwargs(),
        )

    if M > 0:
        with launching_at(x_q):
            launch(config or choose(
                "group_w8a8_matmul", GROUP_CONFIGS, (M, N, K), x_q.dtype, x_q.device, launch))
    return y


def expect_group_w8a8(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
) -> tuple[int, int, int]:
    """M, N and K of the arguments of `group_w8a8_matmul`. Raises TypeError or ValueError where they are anything else."""
    M, N, K = expect_codes(x_q, w_q)
    expect_rows("w_q", w_q)
    expect_groups("x_q and w_q", K)
    for name, value, rows in (("x_scale", x_scale, M), ("w_scale", w_scale, N)):
        expect(name, value, (K // GROUP_K, rows), torch.float32, device=x_q.device)
        expect_rows(name, value)
    return M, N, K


def expect_groups(name: str, K: int) -> None:
    """Raises ValueError unless K is a whole number of groups."""
    if K % GROUP_K:
        raise ValueError(f"{name} must have whole groups of {GROUP_K} columns, got {K} columns")
