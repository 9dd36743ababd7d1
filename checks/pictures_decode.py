"""Pictures for the lesson on few rows: who reads which part of w, the launches of a chain, and measured latencies."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import torch
import triton
from matplotlib.patches import Patch

from checks.bench import recorded
from checks.compiler import TARGETS, Compilation
from checks.launches import watch
from checks.measure_decode import DECODE, EAGER_ROWS, FP16, FUNCTIONS, PREFILL, QUANTIZE, decode_rows
from checks.pictures import COLOURS, _ready, _show
from checks.tracing import trace
from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain_kernel
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import INTERPRETED, device


def show_programs(*functions, M: int = 4, N: int = 256, K: int = 2048):
    """Which program reads which part of w (N, K), for each function of codes that is written, found by running it once."""
    functions = [function for function in functions if _ready(function)]
    if not functions:
        return None
    figure, panels = plt.subplots(len(functions), figsize=(7, 0.7 + 1.9 * len(functions)), squeeze=False, sharex=True,
                                  layout="constrained")
    inputs = {"x_q": torch.ones(M, K, dtype=torch.int8), "x_scale": torch.ones(M),
              "w_q": torch.ones(N, K, dtype=torch.int8), "w_scale": torch.ones(N), "splits": 4}
    for panel, function in zip(panels[:, 0], functions, strict=True):
        taken = {name: inputs[name] for name in inspect.signature(function).parameters}
        _draw_programs(panel, function.__name__, trace(function, **taken)[0], N, K)
    panels[-1, 0].set_xlabel("k")
    return _show(figure)


def _draw_programs(panel, name: str, launch, N: int, K: int) -> None:
    touched = {}
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
    if not _ready(skinny):
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
    if not (_ready(eager_us) and _ready(graph_us)):
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
    return _show(figure)


def decode_figures(functions: dict | None = None, rows_of_x=None) -> tuple[list[dict], str] | None:
    """Rows of the test "decode" and where they are from: measured now where there is a GPU, else as recorded on one.

    None, and a sentence, where nothing is recorded. `functions` are measured beside those of the library.
    """
    if not INTERPRETED:
        mine = {name: (lambda x, w, w_q, w_scale, f=f: f(*quantize_int8_perrow(x), w_q, w_scale), 16)
                for name, f in (functions or {}).items() if _ready(f)}
        rows = decode_rows(FUNCTIONS | mine, **({} if rows_of_x is None else {"rows_of_x": rows_of_x}))
        return rows, f"Measured now on this {torch.cuda.get_device_name()}"
    figures = recorded()
    rows = [row for row in figures.get("rows", []) if row["test"] == "decode"]
    if not rows:
        print(f"○ No times of decode are recorded yet for the {figures['gpu']}: `python3 workshop.py bench` does that.")
        return None
    return rows, f"Recorded on an {figures['gpu']} (there is no GPU here)"


def show_latency_stack():
    """Where the time of one product goes, M = 1 and M = 16: quantize, multiply, and what launching adds, eager and graph."""
    found = decode_figures(rows_of_x=EAGER_ROWS)
    return found and _show(latency_stack_figure(*found))


def latency_stack_figure(rows: list[dict], title: str):
    """Bars of "decode" rows: INT8 in its two parts and cuBLAS FP16 whole, eager and as a graph."""
    time = {(row["function"], row["M"], row["mode"]): row["median_us"] for row in rows}
    figure, axes = plt.subplots(figsize=(7.4, 3.4), layout="constrained")
    labels, place = [], 0.0
    for M in EAGER_ROWS:
        for function, mode in ((FP16, "eager"), (DECODE, "eager"), (FP16, "graph"), (DECODE, "graph")):
            kernels = time[function, M, "graph"]  # back to back
            quantize = min(time[QUANTIZE, M, "graph"], kernels) if function == DECODE else 0.0
            parts = [quantize, kernels - quantize, max(0.0, time[function, M, mode] - kernels)]
            left = 0.0
            for part, colour in zip(parts, (COLOURS[4], COLOURS[0], COLOURS[1]), strict=True):
                axes.barh(place, part, left=left, height=0.8, color=colour, edgecolor="white")
                left += part
            axes.text(left, place, f" {time[function, M, mode]:.1f} µs", va="center", fontsize=9)
            labels.append((place, f"M = {M}, {mode}, {'INT8' if function == DECODE else 'cuBLAS FP16'}"))
            place += 1.0
        place += 0.5
    row = rows[0]
    axes.set_yticks(*zip(*labels, strict=True))
    axes.invert_yaxis()
    axes.set(xlabel=f"µs for each product of a chain (N = {row['N']:,}, K = {row['K']:,})",
             xlim=(0, 1.15 * max(time[function, M, mode] for function, M, mode in time if M in EAGER_ROWS)))
    axes.set_title(title, fontsize=10)
    axes.legend(handles=[Patch(color=COLOURS[4], label="quantize"), Patch(color=COLOURS[0], label="multiply"),
                         Patch(color=COLOURS[1], label="waiting for launches")],
                frameon=False, fontsize=8, loc="lower right")
    return figure


def show_break_even(break_even_m, compute_bound_from, **functions):
    """Latency against M for every kernel, as a graph, with the break-even points that your two functions find.

    On a GPU `functions` (of codes and scales, for at most 16 rows) are measured as well, after the library's quantization.
    """
    if not (_ready(break_even_m) and _ready(compute_bound_from)):
        return None
    found = decode_figures(functions)
    return found and _show(break_even_figure(*found, break_even_m, compute_bound_from))


def break_even_figure(rows: list[dict], title: str, break_even_m, compute_bound_from):
    """µs against M of the "graph" rows, where prefill's kernel overtakes decode's, and where INT8 becomes compute-bound."""
    rows = [row for row in rows if row["mode"] == "graph" and row["function"] != QUANTIZE]
    figure, axes = plt.subplots(figsize=(7.4, 4.2), layout="constrained")
    names = list(dict.fromkeys(row["function"] for row in rows))
    for index, name in enumerate(names):
        mine = sorted((row["M"], row["median_us"]) for row in rows if row["function"] == name)
        axes.plot(*zip(*mine, strict=True), marker="osD^vPX"[index % 7], color=COLOURS[index % len(COLOURS)], label=name)
    least = compute_bound_from(1, 1979, 4800)
    _mark(axes, least, f"an H200's arithmetic\ntakes as long as\nreading w: M = {least}")
    times = {name: {row["M"]: row["median_us"] for row in rows if row["function"] == name} for name in (DECODE, PREFILL)}
    both = sorted(set(times[DECODE]) & set(times[PREFILL]))
    m = break_even_m(torch.tensor(both), *(torch.tensor([times[name][M] for M in both]) for name in (DECODE, PREFILL)))
    said = f"from M = {m} on, {PREFILL} wins" if m else f"up to M = {both[-1]}, {DECODE} wins or draws"
    if m:
        axes.plot(m, times[PREFILL][m], "o", markersize=14, markerfacecolor="none", markeredgecolor="black")
    largest = max(row["M"] for row in rows)
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_xticks([2**i for i in range(largest.bit_length())], [f"{2**i}" for i in range(largest.bit_length())])
    axes.set(xlabel=f"M, rows of x (N = {rows[0]['N']:,}, K = {rows[0]['K']:,})", ylabel="µs")
    axes.set_title(f"{title}\n{said}", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _mark(axes, M: int, text: str) -> None:
    axes.axvline(M, color="black", linestyle=":", linewidth=1)
    axes.annotate(text, (M, 0.02), xycoords=("data", "axes fraction"), xytext=(-4, 0), textcoords="offset points",
                  fontsize=8, ha="right", va="bottom")
