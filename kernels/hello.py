"""First kernels, one new idea each, all in FP32.

The ladder:
  vector_add   programs and blocks: each program adds one block; the last block is masked.
  smooth       a mask belongs to an address: neighbours are read, and each end has one neighbour too few.
  row_sum      a row of a matrix: its stride says where it starts, and masked-off lanes must not count.
  copy_2d      2-D blocks: element (m, n) of any view stands at m * stride_m + n * stride_n.
"""

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows


def programs_needed(N: int, BLOCK: int) -> int:
    """How many blocks of BLOCK elements cover N elements: ⌈N / BLOCK⌉."""
    return (N + BLOCK - 1) // BLOCK


def first_wrong(out: torch.Tensor, exact: torch.Tensor, BLOCK: int) -> tuple[int, int]:
    """(program, lane) of the first element in which out differs from exact; (-1, -1) without one.

    out, exact (N,), where program p wrote elements p * BLOCK to (p + 1) * BLOCK - 1. NaN is always
    wrong.
    """
    wrong = (out != exact).nonzero()
    if len(wrong) == 0:
        return -1, -1
    return divmod(int(wrong[0]), BLOCK)


@triton.jit
def vector_add_kernel(
    x_ptr, y_ptr, out_ptr,
    N,
    BLOCK: tl.constexpr,
):
    """out[i] = x[i] + y[i], program p for the elements p * BLOCK to (p + 1) * BLOCK - 1."""
    p = tl.program_id(0)
    offs = p * BLOCK + tl.arange(0, BLOCK)
    mask = offs < N
    x = tl.load(x_ptr + offs, mask=mask)  # (BLOCK,)
    y = tl.load(y_ptr + offs, mask=mask)  # (BLOCK,)
    tl.store(out_ptr + offs, x + y, mask=mask)


def vector_add(x: torch.Tensor, y: torch.Tensor, BLOCK: int = 1024) -> torch.Tensor:
    """x + y. x and y (N,) float32 -> (N,) float32; BLOCK, a power of two, elements per program."""
    (N,) = expect("x", x, ("N",), torch.float32)
    expect("y", y, (N,), torch.float32, device=x.device)
    expect_rows("x", x)
    expect_rows("y", y)
    out = torch.empty(N, device=x.device)
    grid = (triton.cdiv(N, BLOCK),)
    vector_add_kernel[grid](x, y, out, N, BLOCK=BLOCK)
    return out


@triton.jit
def smooth_kernel(
    x_ptr, out_ptr,
    N,
    BLOCK: tl.constexpr,
):
    """out[i] = (x[i-1] + 2 x[i] + x[i+1]) / 4; in front of x and behind it there are zeros."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < N
    left = tl.load(x_ptr + offs - 1, mask=mask & (offs > 0), other=0.0)  # (BLOCK,)
    here = tl.load(x_ptr + offs, mask=mask, other=0.0)
    right = tl.load(x_ptr + offs + 1, mask=offs + 1 < N, other=0.0)
    tl.store(out_ptr + offs, (left + 2 * here + right) / 4, mask=mask)


def smooth(x: torch.Tensor, BLOCK: int = 1024) -> torch.Tensor:
    """The mean of each element and its neighbours, weights 1, 2, 1. x (N,) float32 -> (N,)."""
    (N,) = expect("x", x, ("N",), torch.float32)
    expect_rows("x", x)
    out = torch.empty(N, device=x.device)
    grid = (triton.cdiv(N, BLOCK),)
    smooth_kernel[grid](x, out, N, BLOCK=BLOCK)
    return out


@triton.jit
def row_sum_kernel(
    x_ptr, out_ptr,
    N,
    stride_xm,
    BLOCK_N: tl.constexpr,
):
    """out[m] = Σ_n x[m, n], program m for row m; BLOCK_N ≥ N."""
    m = tl.program_id(0).to(tl.int64)  # 64 bits: m * stride_xm passes 2³¹ for a large x
    offs_n = tl.arange(0, BLOCK_N)
    mask_n = offs_n < N
    x = tl.load(x_ptr + m * stride_xm + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    tl.store(out_ptr + m, tl.sum(x, axis=0))


def row_sum(x: torch.Tensor) -> torch.Tensor:
    """The sum of each row, one program per row. x (M, N) float32 -> (M,) float32; N ≤ 65,536."""
    M, N = expect("x", x, ("M", "N"), torch.float32)
    expect_rows("x", x)
    if N > 65536:
        raise ValueError(f"row_sum takes a row as one block, so N must be at most 65536, got {N}")
    out = torch.empty(M, device=x.device)
    row_sum_kernel[(M,)](x, out, N, x.stride(0), BLOCK_N=triton.next_power_of_2(N))
    return out


@triton.jit
def copy_2d_kernel(
    x_ptr, out_ptr,
    M, N,
    stride_xm, stride_xn,
    stride_om, stride_on,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):
    """out[m, n] = x[m, n], program (i, j) for block (i, j) of BLOCK_M rows and BLOCK_N columns."""
    # 64 bits: an offset passes 2³¹ for a large x
    offs_m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = (offs_m[:, None] < M) & (offs_n[None, :] < N)  # (BLOCK_M, BLOCK_N)
    x_ptrs = x_ptr + offs_m[:, None] * stride_xm + offs_n[None, :] * stride_xn
    out_ptrs = out_ptr + offs_m[:, None] * stride_om + offs_n[None, :] * stride_on
    x = tl.load(x_ptrs, mask=mask)
    tl.store(out_ptrs, x, mask=mask)


def copy_2d(x: torch.Tensor, column_major: bool = False) -> torch.Tensor:
    """A dense copy of x (M, N) float32 of any strides, row-major or column-major."""
    M, N = expect("x", x, ("M", "N"), torch.float32)
    out = torch.empty((N, M) if column_major else (M, N), device=x.device)
    out = out.t() if column_major else out
    BLOCK_M, BLOCK_N = 16, 64
    grid = (triton.cdiv(M, BLOCK_M), triton.cdiv(N, BLOCK_N))
    copy_2d_kernel[grid](x, out, M, N, *x.stride(), *out.stride(), BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N)
    return out
