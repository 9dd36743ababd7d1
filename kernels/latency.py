"""Models of latency: what launches cost, from which M on arithmetic dominates, and which of two kernels wins.

Times are in microseconds. 1 GB is 1e9 bytes, 1 TFLOPS is 1e12 operations a second.
"""

import math

import torch


def compute_bound_from(weight_bytes: float, tflops: float, gb_per_s: float) -> int:
    """The least M with which y = x wᵀ spends as long on arithmetic as on reading w, or longer.

    weight_bytes: bytes of one weight. Each weight is read once and serves M products of two
    operations. x and y are left out: w is nearly all of the traffic while M is small beside N, K.
    """
    return math.ceil(weight_bytes * tflops * 1e12 / (2 * gb_per_s * 1e9))


def eager_us(kernel_us: torch.Tensor, launch_us: float) -> float:
    """When the last kernel of a chain is done, counted from the start of the first launch.

    kernel_us (n,): how long each kernel runs. The CPU takes launch_us a launch, one after the
    other, and does not wait for the GPU. A kernel starts when its launch is complete and the kernel
    before it is done.
    """
    done = 0.0
    for i, duration in enumerate(kernel_us.tolist()):
        launched = (i + 1) * launch_us
        done = max(done, launched) + duration
    return done


def graph_us(kernel_us: torch.Tensor, launch_us: float, gap_us: float) -> float:
    """The same chain as one CUDA graph: one launch, then the kernels, gap_us between neighbours."""
    return launch_us + kernel_us.sum().item() + (len(kernel_us) - 1) * gap_us


def break_even_m(M: torch.Tensor, first_us: torch.Tensor, second_us: torch.Tensor) -> int:
    """The least M from which on the second kernel is faster, or 0 where there is none.

    M (n,) ascending, first_us and second_us (n,) the times of the two kernels. "From which on":
    at that M and at every larger one in the list.
    """
    found = 0
    for m, first, second in zip(M.tolist(), first_us.tolist(), second_us.tolist(), strict=True):
        if second >= first:
            found = 0
        elif found == 0:
            found = m
    return found
