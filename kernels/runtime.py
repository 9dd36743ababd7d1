"""Where the kernels run: on an NVIDIA or AMD GPU, or in Triton's interpreter on a machine without one.

Triton decides at its own import whether kernels are interpreted, so this module decides first and imports it after.
"""

import os
import sys
from functools import cache

import torch

_gpu = torch.cuda.is_available()
if not _gpu and os.environ.get("TRITON_INTERPRET") != "1":
    if "triton" in sys.modules:
        raise ImportError("There is no GPU here, so Triton must be imported in its interpreter: write `import kernels` "
                          "(or `import checks`) above `import triton`, then restart.")
    os.environ["TRITON_INTERPRET"] = "1"

import triton  # noqa: E402

INTERPRETED: bool = os.environ.get("TRITON_INTERPRET") == "1"
"""True where kernels run in Triton's interpreter: right, but never a speed."""

if not INTERPRETED:  # a kernel that makes tensor descriptors needs memory for them there, and asks for none here
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device="cuda"))


def device() -> torch.device:
    """The device that kernels of this process take their tensors on."""
    return torch.device("cpu" if INTERPRETED else "cuda")


def capability() -> tuple[int, int] | None:
    """The CUDA compute capability, such as (9, 0) for an H100 or H200; None when interpreted or on AMD."""
    if INTERPRETED or torch.version.hip:
        return None
    return torch.cuda.get_device_capability()


@cache
def multiprocessors() -> int:
    """How many multiprocessors the GPU has; when interpreted, few, for programs run one by one."""
    return 4 if INTERPRETED else torch.cuda.get_device_properties("cuda").multi_processor_count


@cache
def shared_memory_limit() -> int:
    """Bytes of shared memory that one program may have on this GPU."""
    if INTERPRETED:
        return 1 << 20
    return triton.runtime.driver.active.utils.get_device_properties(torch.cuda.current_device())["max_shared_mem"]


def autotune(configs: list[triton.Config], key: list[str], **options):
    """`triton.autotune`; when interpreted, the first config alone, for there is nothing to time."""
    return triton.autotune(configs[:1] if INTERPRETED else configs, key=key, **options)
