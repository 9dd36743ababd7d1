"""Pictures for the lesson on few rows: who reads which part of w, the launches of a chain, and measured latencies."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import torch
import triton
from matplotlib.patches import Patch

from checks.bench.figures import COLOURS
from checks.bench.perf import test_perf_matmul_int8
from checks.bench.workloads import BREAK_EVEN_M, FEW_OR_MANY, LAUNCHES, find
from checks.judge.compiler import TARGETS, Compilation
from checks.judge.launches import watch
from checks.judge.tracing import trace
from checks.pictures.common import figures_of, ready_to_draw, show_figure
from kernels import cost
from kernels.decode import MAX_M
from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain_kernel
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import INTERPRETED, device

FP16, DECODE, PREFILL = "cuBLAS FP16", "decode_w8a8", "quantize_int8_perrow, perrow_w8a8_matmul"


def show_programs(*functions, M: int = 4, N: int = 256, K: int = 2048):
    """Which program reads which part of w (N, K), for each function of codes that is written, found by running it once."""
    written = [function for function in functions if ready_to_draw(function)]
    if not written:
        return None
    figure, panels = plt.subplots(len(written), figsize=(7, 0.7 + 1.9 * len(written)), squeeze=False, sharex=True,
                                  layout="constrained")
    inputs = {"x_q": torch.ones(M, K, dtype=torch.int8), "x_scale": torch.ones(M),
              "w_q": torch.ones(N, K, dtype=torch.int8), "w_scale": torch.ones(N), "splits": 4}
    for panel, function in zip(panels[:, 0], written, strict=True):
        taken = {name: inputs[name] for name in inspect.signature(function).parameters}
        _draw_programs(panel, function.__name__, trace(function, **taken)[0], N, K)
    panels[-1, 0].set_xlabel("k")
    return show_figure(figure)


def _draw_programs(panel, name: str, launch, N: int, K: int) -> None:
    touched: dict[tuple, list[np.ndarray]] = {}
    for access in launch.accesses:
        if access.tensor == "w_ptr" and access.kind == "load":
            offsets = access.offsets[access.live]
            touched.setdefault(access.program, []).append(offsets)
    image = np.ones((N, K, 3))
    for number, (program, offsets) in enumerate(sorted(touched.items())):
        offsets = np.unique(np.concatenate(offsets))
        colour = COLOURS[number % len(COLOURS)].lstrip("#")
        image[offsets // K, offsets % K] = [int(colour[i:i + 2], 16) / 255 for i in (0, 2, 4)]
        if len(touched) <= 32:
            panel.text((offsets % K).mean(), (offsets // K).mean(), f"program {program[:2]}", ha="center", va="center",
                       fontsize=7, bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5})
    panel.imshow(image, aspect="auto", interpolation="nearest")
    panel.set_title(f"{name}: {len(touched)} programs read w ({N}, {K})", fontsize=10)
    panel.set_ylabel("row n of w")


def _not_swapped(x_q, x_scale, w_q, w_scale):
    y = torch.empty((len(x_q), len(w_q)), device=x_q.device, dtype=torch.float16)
    perrow_w8a8_matmul_plain_kernel[(1, triton.cdiv(len(w_q), 64))](
        x_q, w_q, y, x_scale, w_scale, None, len(x_q), len(w_q), x_q.shape[1], x_q.stride(0), w_q.stride(0), y.stride(0),
        BLOCK_M=16, BLOCK_N=64, BLOCK_K=256, num_stages=3)


def report_instructions(skinny) -> None:
    """Print what the compiler makes of a product of 16 rows, operands as in the formula and swapped as in your kernel."""
    if not ready_to_draw(skinny):
        return
    x_q, w_q = (torch.ones(rows, 256, dtype=torch.int8, device=device()) for rows in (16, 64))
    scales = [torch.ones(rows, device=device()) for rows in (16, 64)]
    for name, function in (("x · wᵀ, tile (16, 64)", _not_swapped), ("swapped, tile (64, 16)", skinny)):
        with watch() as launches:
            function(x_q, scales[0], w_q, scales[1])
        (reports,) = Compilation(launches[-1:]).reports()
        for capability, report in reports.items():
            print(f"{name} on {TARGETS[capability]}: {report.error or report.tensor_cores}, "
                  f"{report.registers} registers a thread")


def show_timeline(eager_us, graph_us, kernel_us=(1.5, 6.0, 1.5, 6.0, 1.5, 6.0), launch_us: float = 6.0,
                  gap_us: float = 1.0):
    """What the CPU and the GPU do meanwhile, by your two functions: when is each kernel of the chain done?"""
    if not (ready_to_draw(eager_us) and ready_to_draw(graph_us)):
        return None
    lengths, n = torch.tensor(kernel_us, dtype=torch.float64), len(kernel_us)
    ends = {"eager": [eager_us(lengths[:i + 1], launch_us) for i in range(n)],
            "graph": [graph_us(lengths[:i + 1], launch_us, gap_us) for i in range(n)]}
    launches = {"eager": [i * launch_us for i in range(n)], "graph": [0.0]}
    figure, axes = plt.subplots(figsize=(7.4, 2.6), layout="constrained")
    places = {("eager", "CPU"): 3.4, ("eager", "GPU"): 2.6, ("graph", "CPU"): 1.2, ("graph", "GPU"): 0.4}
    for mode in ends:
        for start in launches[mode]:
            axes.barh(places[mode, "CPU"], launch_us, left=start, height=0.7, color=COLOURS[1], edgecolor="white")
        for number, (end, length) in enumerate(zip(ends[mode], kernel_us, strict=True)):
            axes.barh(places[mode, "GPU"], length, left=end - length, height=0.7, color=COLOURS[(4, 0)[number % 2]],
                      edgecolor="white")
        axes.text(ends[mode][-1], places[mode, "GPU"], f" done at {ends[mode][-1]:.1f} µs", va="center", fontsize=9)
    axes.set_yticks(list(places.values()), [f"{mode}, {who}" for mode, who in places])
    axes.set(xlabel="µs", xlim=(0, 1.25 * max(end[-1] for end in ends.values())))
    axes.legend(handles=[Patch(color=COLOURS[1], label="launch"), Patch(color=COLOURS[4], label="quantize"),
                         Patch(color=COLOURS[0], label="multiply")],
                frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return show_figure(figure)


def show_latency_stack():
    """Where the time of one product goes, M = 1 and M = 16: its kernels, and the wait for their launches, by itself and in
    a graph."""
    found = figures_of(("launches",), _measure_launches)
    return found and show_figure(latency_stack_figure(*found))


def _measure_launches() -> list[dict]:
    functions = {name: find(name) for name in LAUNCHES}
    return [row for mode in ("idle", "graph")
            for row in test_perf_matmul_int8(functions, [(M, 4096, 4096) for M in (1, 16)], mode)]


def latency_stack_figure(rows: list[dict], title: str):
    """Bars of FP16 and INT8: left launched on an idle GPU ("idle"), right inside a graph ("graph"), each panel with an axis
    of its own. A whisker holds the middle 80 % of calls."""
    found = {(row["function"], row["M"], row["mode"]): row for row in rows}
    time = {key: row["median_us"] for key, row in found.items()}
    bars = [(M, function) for M in sorted({row["M"] for row in rows}) for function in (FP16, DECODE)]
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(8.2, 2.6), layout="constrained")
    for axes, mode, words in zip(panels, ("idle", "graph"), ("launched alone", "in a graph"), strict=True):
        for place, (M, function) in enumerate(bars):
            kernels, whole = time[function, M, "graph"], time[function, M, mode]  # back to back, and as this mode has it
            axes.barh([place] * 2, [kernels, max(0.0, whole - kernels)], left=[0.0, kernels], height=0.7, edgecolor="white",
                      color=[COLOURS[0], COLOURS[1]])
            low, high = (found[function, M, mode][edge] for edge in ("low_us", "high_us"))
            axes.errorbar(whole, place, xerr=[[whole - low], [high - whole]], color="black", capsize=3, linewidth=1)
            axes.text(high, place, f"  {whole:.1f} µs", va="center", fontsize=9)
        axes.set(xlabel="µs", xlim=(0, 1.35 * max(found[function, M, mode]["high_us"] for M, function in bars)))
        axes.set_title(words, fontsize=10)
    panels[0].set_yticks(range(len(bars)),
                         [f"M = {M}, {'INT8' if function == DECODE else 'cuBLAS FP16'}" for M, function in bars])
    panels[0].invert_yaxis()
    figure.suptitle(f"{title}: one product, N = {rows[0]['N']:,}, K = {rows[0]['K']:,}", fontsize=10)
    figure.legend(handles=[Patch(color=COLOURS[0], label="kernels, back to back"),
                           Patch(color=COLOURS[1], label="waiting for launches")],
                  frameon=False, fontsize=8, ncols=2, loc="outside lower center")
    return figure


def show_break_even(break_even_m, compute_bound_from, **functions):
    """Latency against M inside graphs, with the break-even points that your two functions find.

    On a GPU `functions` (of codes and scales, for at most 16 rows) are measured as well, after the library's quantization.
    """
    if not (ready_to_draw(break_even_m) and ready_to_draw(compute_bound_from)):
        return None
    written = {name: function for name, function in functions.items() if INTERPRETED or ready_to_draw(function)}
    found = figures_of(("few or many",), lambda: _measure_break_even(written))
    return found and show_figure(break_even_figure(*found, break_even_m, compute_bound_from))


def _measure_break_even(functions: dict) -> list[dict]:
    def after_quantization(function):
        return lambda x, w_q, w_scale: function(*quantize_int8_perrow(x), w_q, w_scale)

    rows = []
    for M in BREAK_EVEN_M:
        sides = {name: find(name) for name in FEW_OR_MANY if name != DECODE or M <= MAX_M}
        if M <= 16:
            sides |= {name: after_quantization(function) for name, function in functions.items()}
        rows += test_perf_matmul_int8(sides, [(M, 4096, 4096)], "graph")
    return rows


def _least_us(weight_bytes: int, tops: float, M: int, N: int, K: int) -> float:
    """The slower of reading w and multiplying, at the speeds of an H200's datasheet, as lesson 08's part 1 has it."""
    return max(weight_bytes * N * K / 4800e3, cost.matmul_flops(M, N, K) / (tops * 1e6))


def break_even_figure(rows: list[dict], title: str, break_even_m, compute_bound_from):
    """µs against M, measured and predicted; where prefill's kernel overtakes decode's, where INT8 becomes compute-bound."""
    figure, axes = plt.subplots(figsize=(7.4, 4.2), layout="constrained")
    for index, name in enumerate(dict.fromkeys(row["function"] for row in rows)):
        mine = sorted((row["M"], row["median_us"]) for row in rows if row["function"] == name)
        axes.plot(*zip(*mine, strict=True), marker="osD^vPX"[index % 7], color=COLOURS[index % len(COLOURS)], label=name)
    least = compute_bound_from(1, 1979, 4800)
    axes.axvline(least, color="black", linestyle=":", linewidth=1)
    axes.annotate(f"an H200's arithmetic takes\nas long as reading w: M = {least}", (least, 0.02), fontsize=8, ha="right",
                  xycoords=("data", "axes fraction"), xytext=(-4, 0), textcoords="offset points", va="bottom")
    times = {name: {row["M"]: row["median_us"] for row in rows if row["function"] == name} for name in (DECODE, PREFILL)}
    both = sorted(set(times[DECODE]) & set(times[PREFILL]))
    m = break_even_m(torch.tensor(both), *(torch.tensor([times[name][M] for M in both]) for name in (DECODE, PREFILL)))
    if m:
        axes.plot(m, times[PREFILL][m], "o", markersize=14, markerfacecolor="none", markeredgecolor="black")
    said = f"from M = {m} on, prefill's kernels win" if m else f"up to M = {both[-1]}, decode's kernel wins or draws"
    largest = max(row["M"] for row in rows)
    sizes = [size for size in BREAK_EVEN_M if size <= largest]
    for name, of_weight, tops, colour in (("FP16", 2, 989, COLOURS[0]), ("INT8", 1, 1979, COLOURS[2])):
        predicted = [_least_us(of_weight, tops, M, rows[0]["N"], rows[0]["K"]) for M in sizes]
        axes.plot(sizes, predicted, ":", color=colour, label=f"{name}, predicted for an H200")
    axes.set_xscale("log", base=2)
    axes.set_xticks([2**i for i in range(largest.bit_length())], [f"{2**i}" for i in range(largest.bit_length())])
    axes.set(xlabel=f"M, rows of x (N = {rows[0]['N']:,}, K = {rows[0]['K']:,})", ylabel="µs")
    axes.set_ylim(bottom=0)
    axes.set_title(f"{title}: {said}", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure
