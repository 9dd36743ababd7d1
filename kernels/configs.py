"""What a configuration of a tiled matrix product asks of a multiprocessor, and whether it is right: all without a clock.

A GPU's numbers are those of compute capability 9.0 (H100, H200) unless given: NVIDIA's CUDA C++ Programming Guide,
"Technical specifications per compute capability", and the Hopper Tuning Guide, "Occupancy" and "Unified shared memory".
"""

from collections.abc import Callable

import torch


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
