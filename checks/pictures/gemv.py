"""A picture for the lesson on the FP16 matrix-vector product: what the size of a block costs in bytes."""

import matplotlib.pyplot as plt
import numpy as np
import torch
import triton

from checks.bench.figures import COLOURS
from checks.judge.source import python_function, rebind
from checks.judge.tracing import trace
from checks.pictures.common import ready_to_draw, show_figure
from kernels import cost
from kernels.gemv import gemv_fp16_kernel

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)  # per program


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
    axes.set(xlabel="BLOCK_N, rows per program", ylabel="kB asked for", ylim=(0, 1.15 * max(below)))
    axes.set_title(f"W ({N}, {K}): bytes counted in runs of your kernel, and how many times the least", fontsize=10)
    figure.legend(frameon=False, loc="outside right center", fontsize=9)
    return show_figure(figure)
