"""Where the kernels run: on an NVIDIA or AMD GPU, or in Triton's interpreter on a machine without one.

Triton decides at its own import whether kernels are interpreted, so this module decides first and imports it after.
"""

import contextlib
import os
import sys
import threading
from functools import cache
from typing import NamedTuple

import torch

_gpu = torch.cuda.is_available()
_asked = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")  # as Triton reads it
if not _gpu and not _asked:
    if "triton" in sys.modules:
        raise ImportError("There is no GPU here, so Triton must be imported in its interpreter: write `import kernels` "
                          "(or `import checks`) above `import triton`, then restart.")
    os.environ["TRITON_INTERPRET"] = "1"

import triton  # noqa: E402

INTERPRETED: bool = _asked or not _gpu
"""True where kernels run in Triton's interpreter: right, but never a speed."""

if not INTERPRETED:  # a kernel that makes tensor descriptors needs memory for them there, and asks for none here
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device="cuda"))


def device() -> torch.device:
    """The device that kernels of this process take their tensors on."""
    return torch.device("cpu" if INTERPRETED else "cuda")


class Card(NamedTuple):
    """What the driver says of one GPU. None of it is its name: a decision that rests on these holds for other GPUs too."""

    capability: tuple[int, int] | None  # CUDA's, such as (9, 0) for an H100 or H200; None when interpreted or on AMD
    multiprocessors: int
    shared_memory: int  # bytes that one program may have
    l2_bytes: int
    gb_per_s: float  # between memory and the L2 cache, by its clock and its width; GB are 1e9 bytes


def card(where: torch.device | None = None) -> Card:
    """The GPU that `where` names; left out, the current one."""
    if INTERPRETED:
        return INTERPRETER
    index = None if where is None else where.index
    return _card(torch.cuda.current_device() if index is None else index)


INTERPRETER = Card(None, 4, 1 << 20, 1 << 20, 100.0)
"""Few multiprocessors, for programs run one by one."""


@cache
def _card(index: int) -> Card:
    of = torch.cuda.get_device_properties(index)
    driver = triton.runtime.driver.active.utils.get_device_properties(index)
    gb_per_s = 2e-6 * driver["mem_clock_rate"] * driver["mem_bus_width"] / 8  # kHz, twice a clock; bits
    capability = None if torch.version.hip else (of.major, of.minor)
    return Card(capability, of.multi_processor_count, driver["max_shared_mem"], of.L2_cache_size, gb_per_s)


def capability() -> tuple[int, int] | None:
    """`Card.capability` of the current GPU."""
    return card().capability


def shared_memory_limit() -> int:
    """`Card.shared_memory` of the current GPU."""
    return card().shared_memory


def capturing() -> bool:
    """Whether launches are put down in a CUDA graph now, instead of run."""
    return not INTERPRETED and torch.cuda.is_current_stream_capturing()


_one_at_a_time = threading.RLock()


def launching_at(tensor: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """What a launch stands in: Triton launches on the current GPU, and this makes it the one of `tensor`.

    Where kernels are interpreted it is a lock: the interpreter keeps the place in the grid in globals.
    """
    if INTERPRETED:
        return _one_at_a_time
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
