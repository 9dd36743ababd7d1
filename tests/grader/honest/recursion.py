# honest: half of the blocks, twice
# exercise: programs_needed
import functools


@functools.lru_cache(maxsize=None)
def programs_needed(N, BLOCK):
    if N <= BLOCK:
        return int(N > 0)
    half = (N // BLOCK // 2 or 1) * BLOCK
    return programs_needed(half, BLOCK) + programs_needed(N - half, BLOCK)
