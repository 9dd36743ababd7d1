"""Which configuration a kernel runs with: by what the driver says of a Hopper GPU, timed once per shape elsewhere."""

from collections.abc import Callable
from functools import cache

import torch
import triton

from kernels.configs import shared_bytes
from kernels.runtime import INTERPRETED, capturing, card

_chosen: dict[tuple[str, int, int, int, torch.device], triton.Config] = {}


def choose(
    kernel: str, configs: list[triton.Config], shape: tuple[int, int, int], dtype: torch.dtype,
    where: torch.device, launch: Callable[[triton.Config], None],
) -> triton.Config:
    """The fastest of `configs` for `kernel` at `shape` (M, N, K) with inputs of `dtype` on the GPU `where`, the current one.

    Every list begins with the same three kinds, of which `place_on_hopper` knows the best there. On other GPUs each
    that fits the shared memory is timed through `launch`, once per process and GPU for all M between two powers of two.
    """
    M, N, K = shape
    if INTERPRETED:
        return configs[0]
    gpu = card(where)
    if gpu.capability == (9, 0):
        return configs[place_on_hopper(M, N, gpu.multiprocessors)]
    key = (kernel, bucket_m(M, 8192), N, K, where)
    if key not in _chosen:
        fitting = [config for config in configs if shared_bytes(config, dtype) <= gpu.shared_memory]
        if not fitting:
            raise RuntimeError(f"no configuration of {kernel} fits the shared memory of this GPU "
                               f"({gpu.shared_memory} bytes)")
        if capturing():
            return fitting[0]  # nothing can be timed inside a CUDA graph: run the shape once before capturing
        _chosen[key] = min(fitting, key=lambda config: triton.testing.do_bench(
            lambda: launch(config), warmup=5, rep=20, return_mode="median"))
    return _chosen[key]


def bucket_m(M: int, largest: int) -> int:
    """The least power of two that is at least M, but `largest`, a power of two, at most."""
    return min(triton.next_power_of_2(M), largest)


def tuning_seconds(keys: torch.Tensor, configs: int, seconds: float) -> float:
    """How long tuning takes in all, where each different key is tuned once.

    keys (calls, 3): the key of each call, (M or its bucket, N, K). Tuning a key tries `configs`
    configurations, each for `seconds`, compiling included.
    """
    return len(keys.unique(dim=0)) * configs * seconds


def place_on_hopper(M: int, N: int, sms: int) -> int:
    """Where in a list of configs the best one stands, as measured on an H200 for M from 65 to 16,384.

    Tiles of 64 x 64 keep more multiprocessors busy, while all of them run at once. 1: with long steps along K, up to one
    tile for each multiprocessor; 2: with short steps, so that two programs share one; 0: tiles of 128 x 128 beyond that,
    even where they leave a few multiprocessors idle.
    """
    small = triton.cdiv(M, 64) * triton.cdiv(N, 64)
    if small > 2 * sms:
        return 0
    return 1 if small <= sms else 2


def has_tma(where: torch.device | None = None) -> bool:
    """Whether the GPU `where`, or the current one, has a tensor copy engine (TMA): Hopper (9.0) and later."""
    return (card(where).capability or (0, 0)) >= (9, 0)


def has_hopper_gemm(where: torch.device | None = None) -> bool:
    """Whether `kernels.hopper_gemm` runs on the GPU `where`, or the current one: its instructions are those of 9.0 alone."""
    return card(where).capability == (9, 0) and _has_gluon()


@cache
def _has_gluon() -> bool:
    """Whether this Triton's Gluon is as `kernels.hopper_gemm` needs it: it is still changing."""
    try:
        from kernels import hopper_gemm  # noqa: F401
    except (ImportError, AttributeError):
        return False
    return True


def descriptor_ready(*tensors: torch.Tensor) -> bool:
    """Whether TMA can address each 2-D tensor: start and rows on multiples of 16 bytes, rows that do not overlap."""
    return all(
        t.data_ptr() % 16 == 0 and t.stride(0) * t.element_size() % 16 == 0
        and t.stride(0) >= t.shape[1] and t.stride(1) == 1
        for t in tensors
    )
