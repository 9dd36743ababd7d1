"""Reading a profile: which limit holds for a kernel, and which change of it helps.

A profiler gives for each unit of the GPU the part of its peak that a kernel reached, in per cent.
"""

import torch


def limit_of(
    us: float, launch_us: float,
    dram_pct: float, l2_pct: float, tensor_pct: float, issue_pct: float,
) -> str:
    """What limits a kernel: "launch", "memory", "compute" or "latency".

    us: how long it runs; launch_us: how long the CPU takes for one launch. The others are in per
    cent of a peak: traffic of DRAM and of the L2 cache, cycles in which the tensor cores work, and
    cycles in which a scheduler issues an instruction. "launch" where launching takes longer than
    running; else "latency" where no unit reaches 60 per cent (the threshold of Nsight Compute's own
    rule); else the kind of the busiest unit.
    """
    memory, compute = max(dram_pct, l2_pct), max(tensor_pct, issue_pct)
    if launch_us > us:
        return "launch"
    if max(memory, compute) < 60:
        return "latency"
    return "memory" if memory > compute else "compute"


def better_change(us: float, pct: torch.Tensor, times: torch.Tensor) -> tuple[int, float]:
    """Which change makes a kernel fastest, and how long it then takes in microseconds.

    us: how long it takes now. pct (units,): the part of its peak that each unit reaches. times
    (changes, units): by how much each change multiplies the work of each unit. The busiest unit
    sets the time, before the change and after it.
    """
    after = us * (times * pct).amax(dim=1) / pct.max()
    best = int(after.argmin())
    return best, float(after[best])
