"""Matrix products that are right in some configurations and wrong in others, for a check that has to find them.

`PLANTED` are quick ones in torch, which the exercise is judged by; `planted_int_mm` is a real kernel for the lesson.
A configuration is a tile (BLOCK_M, BLOCK_N, BLOCK_K).
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from kernels.int_mm import expect_int_mm

Tile = tuple[int, int, int]
TILES: list[Tile] = [(32, 32, 32), (32, 64, 64), (64, 32, 64), (64, 64, 32)]


def right(tile: Tile, x_q, w_q, y) -> None:
    y.copy_((x_q.double() @ w_q.double().T).to(torch.int32))


def last_step_dropped(tile: Tile, x_q, w_q, y) -> None:
    """Only whole steps of BLOCK_K: right where BLOCK_K divides K."""
    K = x_q.shape[1] // tile[2] * tile[2]
    right(tile, x_q[:, :K], w_q[:, :K], y)


def last_rows_unwritten(tile: Tile, x_q, w_q, y) -> None:
    """Only whole tiles of rows: right where BLOCK_M divides M."""
    M = x_q.shape[0] // tile[0] * tile[0]
    right(tile, x_q[:M], w_q, y[:M])


def added_to_y(tile: Tile, x_q, w_q, y) -> None:
    """With tall tiles, it splits K and adds to what stands in y already."""
    before = y.clone() if tile[0] == 64 else 0
    right(tile, x_q, w_q, y)
    y += before


def one_off_by_one(tile: Tile, x_q, w_q, y) -> None:
    """With steps of 64, the last element is one too small."""
    right(tile, x_q, w_q, y)
    y[-1, -1] -= int(tile[2] == 64)


def swapped_columns(tile: Tile, x_q, w_q, y) -> None:
    """With wide tiles, the first and the last column change places: all sums over y stay as they were."""
    right(tile, x_q, w_q, y)
    if tile[1] == 64:
        y[:, [0, -1]] = y[:, [-1, 0]]


def out_of_resources(tile: Tile, x_q, w_q, y) -> None:
    """The first tile does not launch."""
    if tile == TILES[0]:
        raise RuntimeError("out of resource: shared memory")
    right(tile, x_q, w_q, y)


def first_writes_nothing(tile: Tile, x_q, w_q, y) -> None:
    """With the first tile the grid is empty."""
    if tile != TILES[0]:
        right(tile, x_q, w_q, y)


def first_wrong(tile: Tile, x_q, w_q, y) -> None:
    """The first tile forgets the sign of the codes of x."""
    right(tile, x_q.abs() if tile == TILES[0] else x_q, w_q, y)


PLANTED: dict[str, tuple[Callable, list[int]]] = {
    "right in every config": (right, []),
    "one element off by one": (one_off_by_one, [1, 2]),
    "the first config writes nothing": (first_writes_nothing, [0]),
    "drops the last step along K": (last_step_dropped, [1, 2]),
    "leaves the last rows unwritten": (last_rows_unwritten, [2, 3]),
    "adds to y": (added_to_y, [2, 3]),
    "two columns swapped": (swapped_columns, [1, 3]),
    "one config does not launch": (out_of_resources, [0]),
    "the first config is wrong": (first_wrong, [0]),
}
"""Each with the places in TILES where it is wrong: for M and K that 32 divides and 64 does not."""


@triton.jit
def planted_int_mm_kernel(
    x_ptr, w_ptr, y_ptr,
    M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """y[m, n] = Σ_k x[m, k] · w[n, k] in INT32, or nearly so."""
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for step in range(0, K // BLOCK_K):
        offs_k = step * BLOCK_K + tl.arange(0, BLOCK_K)
        x = tl.load(x_ptr + offs_m[:, None] * K + offs_k[None, :], mask=offs_m[:, None] < M, other=0)
        w = tl.load(w_ptr + offs_n[:, None] * K + offs_k[None, :], mask=offs_n[:, None] < N, other=0)
        acc = tl.dot(x, w.T, acc, out_dtype=tl.int32)
    y_ptrs = y_ptr + offs_m[:, None] * N + offs_n[None, :]
    tl.store(y_ptrs, acc, mask=(offs_m[:, None] < M) & (offs_n[None, :] < N))


def planted_int_mm(tile: Tile, x_q: torch.Tensor, w_q: torch.Tensor, y: torch.Tensor) -> None:
    """y = x_q @ w_q.T for contiguous x_q (M, K) and w_q (N, K) int8 and y (M, N) int32: a kernel with a planted mistake."""
    M, N, K = expect_int_mm(x_q, w_q)
    BLOCK_M, BLOCK_N, BLOCK_K = tile
    planted_int_mm_kernel[triton.cdiv(M, BLOCK_M), triton.cdiv(N, BLOCK_N)](
        x_q, w_q, y, M, N, K, BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, num_warps=4)
