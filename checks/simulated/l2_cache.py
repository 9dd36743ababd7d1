"""A model of a GPU's cache: what a launch that was traced would fetch from memory."""

from collections import OrderedDict
from itertools import zip_longest

import numpy as np

from checks.judge.launches import Launch

SECTOR = 32  # bytes; NVIDIA GPUs move memory in sectors of this size


def in_launch_order(launch: Launch) -> list[tuple[int, ...]]:
    """The programs that touched memory, in the order in which a GPU starts them: axis 0 of the grid counts fastest."""
    return sorted({access.program for access in launch.accesses}, key=lambda program: program[::-1])


def bytes_from_memory(launch: Launch, cache_bytes: int, together: int) -> int:
    """Bytes of the launch's loads that a cache of `cache_bytes` does not hold.

    `together` programs run at a time, in launch order and in step: the first load of each, then the second of each, and so
    on. The cache keeps the sectors that were used last (LRU). Stores are left out.
    """
    return SECTOR * misses(sectors_in_step(launch, together), cache_bytes)


def sectors_in_step(launch: Launch, together: int) -> list[tuple[str, int]]:
    """The sectors that such a launch loads, one after the other: (tensor, number)."""
    loads: dict[tuple[int, ...], list[list[tuple[str, int]]]] = {program: [] for program in in_launch_order(launch)}
    for access in launch.accesses:
        if access.kind == "load":
            sectors = np.unique(access.offsets[access.live] * access.itemsize // SECTOR)
            loads[access.program].append([(access.tensor, sector) for sector in sectors.tolist()])
    waiting = list(loads.values())
    return [sector for first in range(0, len(waiting), together)
            for step in zip_longest(*waiting[first:first + together], fillvalue=()) for load in step for sector in load]


def misses(sectors: list[tuple[str, int]], cache_bytes: int) -> int:
    """How many of the sectors, asked for in this order, the cache does not hold."""
    cache: OrderedDict[tuple[str, int], None] = OrderedDict()
    missed, room = 0, cache_bytes // SECTOR
    for sector in sectors:
        if sector in cache:
            cache.move_to_end(sector)
            continue
        missed += 1
        cache[sector] = None
        if len(cache) > room:
            cache.popitem(last=False)
    return missed
