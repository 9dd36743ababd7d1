"""Pictures for the lesson on the FP16 matrix-vector product: what a block costs in bytes, and a stride in sectors."""

import matplotlib.pyplot as plt
import numpy as np
import torch
import triton
from matplotlib.colors import ListedColormap

from checks.bench.figures import COLOURS
from checks.judge.source import python_function, rebind
from checks.judge.tracing import trace
from checks.pictures.common import NOTHING, ready_to_draw, show_figure
from kernels import cost
from kernels.gemv import gemv_fp16_kernel
from kernels.hello import copy_2d

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)  # per program
STRIDES = (1, 2, 3, 4, 6, 8, 12, 16)
DRAWN, SECTOR, WARP = (1, 2, 4, 8), 8, 32  # strides in the map; FP32 elements of a sector; threads


def _in_blocks(x, w, BLOCK_N, BLOCK_K):
    (N, K), y = w.shape, torch.empty(w.shape[0], dtype=x.dtype)
    gemv_fp16_kernel[(triton.cdiv(N, BLOCK_N),)](x, w, y, N, K, w.stride(0), BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K)


def show_bytes(kernel, N: int = 128, K: int = 256):
    """The bytes that all programs of your kernel together ask for, counted in a run for each number of rows per program."""
    if not ready_to_draw(kernel):
        return None
    run = rebind(python_function(_in_blocks), gemv_fp16_kernel=kernel)
    x, w = torch.zeros(K).half(), torch.zeros(N, K).half()
    counts = [trace(run, x=x, w=w, BLOCK_N=rows, BLOCK_K=128)[-1].traffic() for rows in ROWS]
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    places, below = np.arange(len(ROWS)), np.zeros(len(ROWS))
    for name, colour in zip("wxy", COLOURS, strict=False):
        height = np.array([sum(bytes_ for (_, tensor), bytes_ in count.items() if tensor == f"{name}_ptr")
                           for count in counts]) / 1e3
        axes.bar(places, height, 0.75, bottom=below, color=colour, label="W" if name == "w" else name)
        below += height
    least = cost.gemv_bytes(N, K) / 1e3
    for place, total in zip(places, below, strict=True):
        axes.annotate(f"{total / least:.2f}x", (place, total), ha="center", va="bottom", xytext=(0, 2),
                      textcoords="offset points", fontsize=9)
    axes.axhline(least, color="black", linestyle="--", linewidth=1, label="the least")
    axes.set_xticks(places, list(map(str, ROWS)))
    axes.set(xlabel="BLOCK_N, rows per program", ylabel="kB loaded and stored", ylim=(0, 1.15 * max(below)))
    axes.set_title(f"W ({N}, {K}): bytes counted in runs of your kernel, and how many times the least", fontsize=10)
    figure.legend(frameon=False, loc="outside right center", fontsize=9)
    return show_figure(figure)


def count_sectors(stride: int) -> int:
    """Sectors that 32 neighbouring lanes of a load touch in a run: those of every stride-th of many FP32 numbers."""
    load = trace(copy_2d, x=torch.zeros(1, WARP * stride)[:, ::stride])[-1].accesses[0]
    return len(set((load.offsets[load.live][:WARP] // SECTOR).tolist()))


def show_sectors(sectors_per_request):
    """Which elements and sectors of memory a warp's load touches for some strides, and how many sectors: by your function,
    and counted in a run."""
    if not ready_to_draw(sectors_per_request):
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", width_ratios=[3, 2])
    shown = WARP * max(DRAWN) // 4
    touched = np.zeros((len(DRAWN), shown), dtype=int)  # 0: not read, 1: read for nothing, 2: wanted
    for line, stride in enumerate(DRAWN):
        wanted = np.arange(0, WARP * stride, stride)
        for sector in set(wanted // SECTOR):
            touched[line, sector * SECTOR:(sector + 1) * SECTOR] = 1
        touched[line, wanted[wanted < shown]] = 2
    left.imshow(touched, cmap=ListedColormap([NOTHING, COLOURS[1], COLOURS[0]]), vmin=0, vmax=2, aspect="auto",
                interpolation="nearest")
    left.set_xticks(np.arange(0, shown + 1, SECTOR) - 0.5, minor=True)
    left.set_yticks(np.arange(len(DRAWN) + 1) - 0.5, minor=True)
    left.grid(which="minor", color="white", linewidth=2)
    left.tick_params(which="minor", length=0)
    left.set_xticks(range(0, shown + 1, 4 * SECTOR))
    left.set_yticks(range(len(DRAWN)), [f"stride {stride}" for stride in DRAWN])
    left.set(xlabel="FP32 element in memory; a box is a sector of 32 bytes")
    left.set_title("blue: wanted, orange: read with it", fontsize=10)
    right.plot(STRIDES, [sectors_per_request(stride, 4) for stride in STRIDES], color=COLOURS[0], label="your function")
    right.plot(STRIDES, [count_sectors(stride) for stride in STRIDES], "o", color=COLOURS[5], label="counted in a run")
    right.set(xticks=STRIDES, xlabel="stride, elements of 4 bytes", ylabel="sectors of a warp's load", ylim=(0, 35))
    right.legend(frameon=False, fontsize=9, loc="lower right")
    return show_figure(figure)
