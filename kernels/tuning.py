"""Which configuration a kernel runs with: remembered for GPUs it was measured on, timed once per shape elsewhere."""

from collections.abc import Callable
from functools import cache

import torch
import triton

from kernels.runtime import INTERPRETED, capability

_chosen: dict[tuple, triton.Config] = {}


def choose(
    kernel: str, configs: list[triton.Config], shape: tuple[int, int, int], dtype: torch.dtype,
    launch: Callable[[triton.Config], None], remembered: Callable[..., int] | None = None,
) -> triton.Config:
    """The fastest of `configs` for `kernel` at `shape` (M, N, K) with inputs of `dtype`.

    `remembered(M, N, K)` answers with a place in `configs` where it was measured before. Otherwise each config that
    fits the GPU's shared memory is timed through `launch`, once per process for all M between two powers of two.
    """
    M, N, K = shape
    if INTERPRETED:
        return configs[0]
    if remembered is not None:
        return configs[remembered(M, N, K)]
    key = (kernel, min(triton.next_power_of_2(M), 8192), N, K, torch.cuda.current_device())
    if key not in _chosen:
        fitting = [config for config in configs if shared_bytes(config, dtype) <= _shared_limit(key[-1])]
        if not fitting:
            raise RuntimeError(f"no configuration of {kernel} fits the shared memory of this GPU "
                               f"({_shared_limit(key[-1])} bytes)")
        if torch.cuda.is_current_stream_capturing():
            return fitting[0]  # nothing can be timed inside a CUDA graph: run the shape once before capturing
        _chosen[key] = min(fitting, key=lambda config: triton.testing.do_bench(
            lambda: launch(config), warmup=5, rep=20, return_mode="median"))
    return _chosen[key]


def tiles(
    BLOCK_M: int, BLOCK_N: int, BLOCK_K: int, *, GROUP_M: int, num_warps: int, num_stages: int,
) -> triton.Config:
    """A GEMM's configuration: its tile of y, its step along K, rows of tiles per group, warps, loads in flight."""
    kwargs = {"BLOCK_M": BLOCK_M, "BLOCK_N": BLOCK_N, "BLOCK_K": BLOCK_K, "GROUP_M": GROUP_M}
    return triton.Config(kwargs, num_warps=num_warps, num_stages=num_stages)


def shared_bytes(config: triton.Config, dtype: torch.dtype) -> int:
    """Shared memory that a GEMM with this config asks for: its stages of both input tiles."""
    tile = config.kwargs
    return config.num_stages * (tile["BLOCK_M"] + tile["BLOCK_N"]) * tile["BLOCK_K"] * dtype.itemsize


@cache
def _shared_limit(device: int) -> int:
    return triton.runtime.driver.active.utils.get_device_properties(device)["max_shared_mem"]


@cache
def has_tma() -> bool:
    """Whether the GPU has a tensor copy engine (TMA): Hopper (9.0) and later."""
    return (capability() or (0, 0)) >= (9, 0)


def descriptor_ready(*tensors: torch.Tensor) -> bool:
    """Whether TMA can address each 2-D tensor: start and rows on multiples of 16 bytes, rows that do not overlap."""
    return all(
        t.data_ptr() % 16 == 0 and t.stride(0) * t.element_size() % 16 == 0
        and t.stride(0) >= t.shape[1] and t.stride(1) == 1
        for t in tensors
    )
