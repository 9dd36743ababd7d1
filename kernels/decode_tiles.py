"""How the kernels of `kernels.decode` divide the work: which tile for which shape on which GPU."""

from typing import NamedTuple

import triton


class Tile(NamedTuple):
    """How `decode_w8a8_kernel` divides the work: rows of w, step along K, warps, tiles in flight, and how many programs
    share the memory of a multiprocessor."""

    BLOCK_N: int
    BLOCK_K: int
    num_warps: int
    num_stages: int
    programs: int = 1


# Measured on an H200 with w from memory: where `plan` takes a tile it is the fastest of those tried, or near it.
WIDE = Tile(64, 256, 4, 3)  # w has a tile for each multiprocessor, M ≤ 16: 60 KB a program, so that three share one
TALL = Tile(64, 128, 4, 4)  # the same for more rows, where x takes half of the shared memory
LARGE = Tile(128, 128, 4, 4, 2)  # and for so many that reading x again for every tile of w costs: Hopper has the registers
SPLIT = Tile(64, 256, 4, 6)  # w has fewer: one program on each, K split until all have one, more tiles in flight
NARROW = Tile(32, 256, 2, 5)  # in its place without splitting: a launch less, but 7 % slower on the GPU
NARROWER = Tile(16, 512, 4, 5)  # the same where w has few rows, 13 % slower
TILES = {"wide": WIDE, "tall": TALL, "large": LARGE, "split": SPLIT, "narrow": NARROW, "narrower": NARROWER}

# (BLOCK_N, BLOCK_K, num_warps) of the GEMV. A step is 16 bytes of each of four rows for every thread, and the next step
# is on its way meanwhile. With few rows there are few programs, so each takes more warps.
GEMV_BLOCKS = {"many rows": (4, 2048, 4), "few long rows": (4, 4096, 8)}


def plan(M: int, N: int, K: int, sms: int, capability: tuple[int, int]) -> tuple[Tile, int]:
    """The tile and the number of parts of K for 2 to 128 rows on a GPU of `sms` multiprocessors."""
    tiles = triton.cdiv(N, 64)
    if tiles < sms:
        return SPLIT, max(1, min(sms // tiles, K // 1024))
    more_than_at_once = tiles > 3 * sms  # three wide or tall tiles share a multiprocessor
    if M <= 16:
        return TALL if more_than_at_once else WIDE, 1
    return LARGE if (M > 64 or more_than_at_once) and capability >= (9, 0) else TALL, 1


def plan_unsplit(M: int, N: int, K: int, sms: int, capability: tuple[int, int]) -> tuple[Tile, int]:
    """`plan` for where the host's time counts more than the GPU's: without split-K where that costs the GPU little."""
    tile, splits = plan(M, N, K, sms, capability)
    if splits == 1 or M > 64 or K > 8192:
        return tile, splits
    return NARROWER if M <= 16 and N <= 2048 else NARROW, 1


def gemv_blocks(N: int, K: int, sms: int) -> tuple[int, int, int]:
    """(BLOCK_N, BLOCK_K, num_warps) of the GEMV with w (N, K)."""
    return GEMV_BLOCKS["few long rows" if K > 2048 and N / sms < 24 else "many rows"]


def row_blocks(M: int) -> tuple[int, int]:
    """BLOCK_M and REST: powers of two from 16, of which the tensor cores' tiles are made, that hold M rows together."""
    if M <= 64:
        return max(16, triton.next_power_of_2(M)), 0
    return 64, max(16, triton.next_power_of_2(M - 64))


def stages(tile: Tile, rows: int, shared_bytes: int) -> int:
    """The tile's stages with so many rows of x, or as many of them as that much shared memory holds."""
    return min(tile.num_stages, shared_bytes // tile.programs // ((rows + tile.BLOCK_N) * tile.BLOCK_K))
