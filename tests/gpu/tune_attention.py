"""Which tile of `kernels.kv_cache` is fastest on this GPU, for which INT8 cache with Llama 3 8B's heads.

    python tests/gpu/tune_attention.py [--seconds 60]
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from checks.bench.attention import int8, sdpa  # noqa: E402
from checks.bench.measure import Refused, time_us  # noqa: E402
from checks.bench.operands import Operands  # noqa: E402
from kernels import kv_cache  # noqa: E402

SHAPES = [(1, 2048), (1, 8192), (4, 2048), (16, 2048), (64, 2048)]
CHOICES = [(128, 4, 3, 16), *itertools.product((64,), (2, 4), (3, 4), (8, 16)), (64, 2, 3, 6), (64, 2, 3, 12), (64, 2, 5, 8),
           *itertools.product((32,), (1, 2), (4, 6), (8,)), *itertools.product((128,), (2, 4), (2, 3), (8,))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    args, began = parser.parse_args(), time.monotonic()
    operands = {shape: Operands(*shape, 1) for shape in SHAPES}
    found = {}
    for choice in CHOICES:
        if time.monotonic() - began > args.seconds:
            break
        tile = kv_cache.AttentionTile(*choice)
        kv_cache.attention_tile = lambda *_, tile=tile: tile
        try:
            found[choice] = [measured(o) for o in operands.values()]
        except Exception as error:  # it spills, or needs more shared memory than there is
            print(choice, f"{type(error).__name__}: {error}"[:200])
            continue
        print(choice, ", ".join(f"{us:.1f} us, {gain:.2f} x" for us, gain in found[choice]), flush=True)
    for i, shape in enumerate(SHAPES):
        print(shape, "best:", kv_cache.AttentionTile(*min(found, key=lambda choice: found[choice][i][0])))


def measured(operands):
    """(µs, times as fast as SDPA) of one shape."""
    sides = {"ours": lambda: int8(*operands.arguments(int8)), "SDPA": lambda: sdpa(*operands.arguments(sdpa))}
    try:
        us = {name: t.median_us for name, t in time_us(sides, repeats=10).items()}
    except Refused as refused:
        us = {name: t.median_us for name, t in refused.timings.items()}
    return us["ours"], us["SDPA"] / us["ours"]


if __name__ == "__main__":
    main()
