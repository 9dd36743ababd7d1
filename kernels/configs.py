"""What a configuration of a tiled matrix product asks of a multiprocessor, and whether it is right: all without a clock.

A GPU's numbers are those of compute capability 9.0 (H100, H200) unless given: NVIDIA's CUDA C++ Programming Guide,
"Technical specifications per compute capability", and the Hopper Tuning Guide, "Occupancy" and "Unified shared memory".
"""

import math
from collections.abc import Callable

import torch
import triton

from kernels.runtime import Card


def stage_bytes(
    BLOCK_M: int, BLOCK_N: int, BLOCK_K: int, num_stages: int, element_bytes: int,
) -> int:
    """Bytes of shared memory for `num_stages` stages, each a tile (BLOCK_M, BLOCK_K) of x and one
    (BLOCK_N, BLOCK_K) of w, of elements of `element_bytes` bytes."""
    return num_stages * (BLOCK_M + BLOCK_N) * BLOCK_K * element_bytes


def accumulator_registers(BLOCK_M: int, BLOCK_N: int, num_warps: int) -> int:
    """Registers that each thread needs for its part of the tile's sums, 32 bits for each sum.

    A program has num_warps warps of 32 threads, and the sums are shared out evenly.
    """
    return BLOCK_M * BLOCK_N // (32 * num_warps)


def programs_per_multiprocessor(registers: int, shared: int, num_warps: int, capacity: int) -> int:
    """How many programs fit on one multiprocessor at once.

    registers: of each thread. shared: bytes of each program. num_warps: of each program, a multiple
    of 4. capacity: bytes of shared memory on the multiprocessor. It holds 64 warps and 65,536
    registers. A thread gets its registers in steps of 8; a program gets 1,024 bytes of shared
    memory more than it asks for, and the total in steps of 128 (NVIDIA's cuda_occupancy.h).
    """
    by_warps = 64 // num_warps
    by_registers = 65536 // (-(-registers // 8) * 8 * 32 * num_warps)
    by_shared = capacity // (-(-(shared + 1024) // 128) * 128)
    return min(by_warps, by_registers, by_shared)


def wave_efficiency(M: int, N: int, BLOCK_M: int, BLOCK_N: int, at_once: int) -> float:
    """The part of the GPU's places for programs that have work, until the last program is done.

    One program for each (BLOCK_M, BLOCK_N) tile of y (M, N); `at_once` run side by side, all take
    equally long, and the next wave starts when a wave is done.
    """
    programs = -(-M // BLOCK_M) * -(-N // BLOCK_N)
    waves = -(-programs // at_once)
    return programs / (waves * at_once)


def wrong_configs(
    launch: Callable, configs: list, x_q: torch.Tensor, w_q: torch.Tensor,
) -> list[int]:
    """The places in `configs` of those in which `launch` is wrong, in ascending order.

    launch(config, x_q, w_q, y) is to write x_q w_qᵀ into y (M, N) int32, whatever y holds before.
    x_q (M, K), w_q (N, K) int8. A config is wrong if one element of y is, or if it raises.
    """
    exact = (x_q.double() @ w_q.double().T).to(torch.int32)  # whole numbers below 2⁵³ are exact
    wrong = []
    for place, config in enumerate(configs):
        y = exact + 1  # wrong everywhere: an element that is not written shows
        try:
            launch(config, x_q, w_q, y)
            right = torch.equal(y, exact)
        except Exception:
            right = False
        if not right:
            wrong.append(place)
    return wrong


def tiles(
    BLOCK_M: int, BLOCK_N: int, BLOCK_K: int, *, GROUP_M: int, num_warps: int, num_stages: int,
) -> triton.Config:
    """A GEMM's configuration: its tile of y, its step along K, rows of tiles per group, warps, loads in flight."""
    kwargs = {"BLOCK_M": BLOCK_M, "BLOCK_N": BLOCK_N, "BLOCK_K": BLOCK_K, "GROUP_M": GROUP_M}
    return triton.Config(kwargs, num_warps=num_warps, num_stages=num_stages)


def shared_bytes(config: triton.Config, dtype: torch.dtype) -> int:
    """Shared memory that a GEMM with this config asks for: its stages of both input tiles."""
    tile = config.kwargs
    return stage_bytes(tile["BLOCK_M"], tile["BLOCK_N"], tile["BLOCK_K"], config.num_stages, dtype.itemsize)


def rows_in_a_group(N: int, K: int, gpu: Card) -> int:
    """GROUP_M for INT8 tiles of 128 x 128 on Hopper: how many rows of tiles go together along the columns (`grouped_tile`).

    Each group reads all of w. Where w stays in the L2 cache meanwhile, that costs nothing, and tiles that run at the same
    time fetch least when they form a square. Where it does not, fewer rows are better; least of all where the cache is
    narrow: it has as many banks as the memory is wide, and they must serve each row of x to more programs the longer it is.
    Measured on an H100 (25 GB/s a multiprocessor) for 12 shapes and on an H200 (36) for 25: within 5 % of the best number.
    """
    w_bytes, columns = N * K, triton.cdiv(N, 128)
    if columns <= 16:  # all of them run at once, in several groups
        return 2 if w_bytes <= gpu.l2_bytes / 8 else 4
    if w_bytes <= gpu.l2_bytes / 3:  # x and y pass through it too
        return math.ceil(math.sqrt(gpu.multiprocessors))
    return 8 if K <= 2048 or gpu.gb_per_s >= 30 * gpu.multiprocessors else 4
