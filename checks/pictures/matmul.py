"""Pictures for the lessons on matrix products, drawn from traces of the student's own kernels."""

import matplotlib.pyplot as plt
import numpy as np
import torch
import triton
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle

from checks.bench import perf
from checks.bench.baselines import BASELINES
from checks.bench.figures import COLOURS, tflops_figure
from checks.bench.results import recorded
from checks.judge.launches import Launch
from checks.judge.source import python_function, rebind
from checks.judge.tracing import trace
from checks.pictures.common import NOTHING, figures_of, ready_to_draw, show_figure
from checks.simulated.l2_cache import SECTOR, in_launch_order, misses, sectors_in_step
from kernels.matmul import matmul_fp16, matmul_fp16_grouped, matmul_fp16_grouped_kernel, matmul_fp16_naive_kernel
from kernels.runtime import INTERPRETED

TILE, TILES, GROUP = 16, 16, 4  # of the maps of tiles: y is (256, 256), K is 16
TOGETHER = 16  # programs at a time


def _column_by_column(x, w, BLOCK_M, BLOCK_N, BLOCK_K):
    y = torch.empty((x.shape[0], w.shape[0]), dtype=x.dtype)
    matmul_fp16_naive_kernel[(triton.cdiv(y.shape[0], BLOCK_M), triton.cdiv(y.shape[1], BLOCK_N))](
        x, w, y, *y.shape, x.shape[1], x.stride(0), w.stride(0), y.stride(0),
        BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K)


def _in_groups(x, w, BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M):
    y = torch.empty((x.shape[0], w.shape[0]), dtype=x.dtype)
    matmul_fp16_grouped_kernel[(triton.cdiv(y.shape[0], BLOCK_M) * triton.cdiv(y.shape[1], BLOCK_N),)](
        x, w, y, *y.shape, x.shape[1], x.stride(0), w.stride(0), y.stride(0),
        BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, GROUP_M=GROUP_M)


def trace_naive(kernel, M: int, N: int, K: int) -> Launch:
    """One launch of `matmul_fp16_naive_kernel` on an x (M, K) and a w (N, K), in tiles of 128 x 128 and steps of 64."""
    run = rebind(python_function(_column_by_column), matmul_fp16_naive_kernel=kernel)
    return trace(run, x=torch.randn(M, K).half(), w=torch.randn(N, K).half(), BLOCK_M=128, BLOCK_N=128, BLOCK_K=64)[-1]


def show_one_tile(kernel, program: tuple[int, int] = (1, 1), M: int = 200, N: int = 300, K: int = 100):
    """What one program of your naive kernel reads and writes, and how many bytes all of them ask for."""
    if not ready_to_draw(kernel):
        return None
    launch = trace_naive(kernel, M, N, K)
    parts = {"x_ptr": np.full((M, K), -1), "w_ptr": np.full((N, K), -1), "y_ptr": np.full((M, N), -1)}
    steps = dict.fromkeys(parts, 0)
    for access in launch.accesses:
        if access.program[:2] == program:
            colour = 2 if access.tensor == "y_ptr" else steps[access.tensor]
            parts[access.tensor].reshape(-1)[access.offsets[access.live]] = colour
            steps[access.tensor] += 1
    figure, axes = plt.subplots(2, 2, figsize=(7, 5), width_ratios=[K, N], height_ratios=[K, M], layout="constrained")
    axes[0, 0].axis("off")
    panels = [(axes[1, 0], parts["x_ptr"], "x (M, K)", "k", "m"), (axes[0, 1], parts["w_ptr"].T, "w.T (K, N)", "n", "k"),
              (axes[1, 1], parts["y_ptr"], "y (M, N)", "n", "m")]
    colours = ListedColormap([NOTHING, *COLOURS])
    for panel, values, title, across, down in panels:
        panel.imshow(values, cmap=colours, vmin=-1, vmax=len(COLOURS) - 1, aspect="auto", interpolation="nearest")
        panel.set_title(title, fontsize=10)
        panel.set(xlabel=across, ylabel=down)
    axes[0, 0].legend(handles=[Rectangle((0, 0), 1, 1, color=COLOURS[step], label=f"read in step {step}")
                               for step in range(min(2, max(steps["x_ptr"], 1)))]
                      + [Rectangle((0, 0), 1, 1, color=COLOURS[2], label="written")],
                      frameon=False, fontsize=8, loc="center")
    figure.suptitle(f"Program {program} of {len(in_launch_order(launch))}", fontsize=11)
    print(f"All programs together load and store {launch.traffic().total():,} bytes\n"
          f"(M={M}, N={N}, K={K}, tiles of 128 x 128).")
    return show_figure(figure)


def show_order(naive, tile):
    """Which tiles run together, by your naive kernel and in the order of your `grouped_tile`, and what a small cache leaves
    to memory of their loads."""
    if not ready_to_draw(naive) or not ready_to_draw(tile):
        return None
    grouped = triton.jit(rebind(python_function(matmul_fp16_grouped_kernel), grouped_tile=tile))
    size = TILE * TILES
    x, w = torch.randn(size, TILE).half(), torch.randn(size, TILE).half()
    block = {"BLOCK_M": TILE, "BLOCK_N": TILE, "BLOCK_K": TILE}
    by_column = rebind(python_function(_column_by_column), matmul_fp16_naive_kernel=naive)
    in_groups = rebind(python_function(_in_groups), matmul_fp16_grouped_kernel=grouped)
    launches = {"column by column": trace(by_column, x=x, w=w, **block)[-1],
                f"groups of {GROUP} rows": trace(in_groups, x=x, w=w, GROUP_M=GROUP, **block)[-1]}
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 4.6), layout="constrained")
    for panel, (name, launch) in zip(panels, launches.items(), strict=True):
        _draw_map(panel, name, launch)
    show_figure(figure)
    return show_figure(_draw_loads(launches, size * TILE * 2))


def show_tflops(function):
    """TFLOPS of y = x wᵀ against N, x (16384, 2048): of your naive kernel, of ours and of cuBLAS where there is a GPU, else
    as recorded on one."""
    if not ready_to_draw(function):
        return None
    products = {"cuBLAS FP16": BASELINES["cuBLAS FP16"], "matmul_fp16_naive": function,
                "matmul_fp16_grouped": matmul_fp16_grouped, "matmul_fp16": matmul_fp16}
    found = figures_of(("gemm",), lambda: perf.test_perf_gemm(products), function=tuple(products), M=16384, K=2048,
                       mode="eager")
    if found is None:
        return None
    rows, title = found
    peak = recorded()["roofs"].get("fp16_tflops") if INTERPRETED else None
    figure = tflops_figure(rows, {"fp16_tflops": peak}, title)
    figure.axes[0].set_ylabel("TFLOPS")
    return show_figure(figure)


def _draw_map(panel, name: str, launch: Launch) -> None:
    order: dict[tuple, int] = {program: number for number, program in enumerate(in_launch_order(launch))}
    number = np.full((TILES, TILES), -1)
    for access in launch.accesses:
        if access.kind == "store":
            first = access.offsets[access.live].min()
            number[first // (TILE * TILES) // TILE, first % (TILE * TILES) // TILE] = order[access.program]
    now = (number >= 0) & (number < TOGETHER)
    panel.imshow(np.where(now, 1, 0), cmap=ListedColormap([NOTHING, COLOURS[1]]), vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(number):
        panel.text(column, row, str(value) if value >= 0 else "", ha="center", va="center", fontsize=6)
    rows, columns = now.any(axis=1).sum(), now.any(axis=0).sum()
    panel.set_title(f"{name}: the first {TOGETHER}\nneed {rows} of x + {columns} of w = {rows + columns} panels", fontsize=9)
    panel.set(xlabel="column of tiles (pid_n)", ylabel="row of tiles (pid_m)")


def _draw_loads(launches: dict[str, Launch], all_of_x: int):
    panel_bytes = all_of_x // TILES
    sizes = [4, 6, 8, 10, 12, 16, 20, 24, 32]
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for (name, launch), colour, marker in zip(launches.items(), COLOURS, "os", strict=False):
        sectors = sectors_in_step(launch, TOGETHER)
        loads = [SECTOR * misses(sectors, size * panel_bytes) / panel_bytes for size in sizes]
        axes.plot(sizes, loads, color=colour, marker=marker, label=name)
    asked = sum(count for (kind, _), count in launch.traffic().items() if kind == "load")
    for value, label in [(asked / panel_bytes, "all loads of the programs"), (2 * TILES, "x and w once")]:
        axes.axhline(value, color="black", linestyle="--", linewidth=1)
        axes.annotate(label, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", xytext=(-4, 2),
                      textcoords="offset points", fontsize=9)
    axes.axvline(TILES, color="black", linestyle=":", linewidth=1)
    axes.annotate("all of x fits", (TILES, 0.62), xycoords=("data", "axes fraction"), xytext=(4, 0),
                  textcoords="offset points", fontsize=9)
    axes.set(xlabel="cache, in panels (one panel: the rows of x, or of w, that one tile needs)",
             ylabel="panels read from memory", ylim=(0, asked / panel_bytes * 1.15))
    axes.legend(frameon=False, loc="center right")
    return figure
