"""Pictures for the lesson on fusion: where the time goes, and the bytes of each plan."""

from collections.abc import Callable
from itertools import pairwise

import matplotlib.pyplot as plt
import torch

from checks.bench.baselines import BASELINES, PLANS
from checks.bench.figures import COLOURS, breakdown_figure
from checks.bench.perf import test_perf_matmul_int8
from checks.judge.tracing import trace
from checks.pictures.common import figures_of, ready_to_draw, show_figure
from kernels import plans
from kernels.matmul_int8 import matmul_int8
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import quantize_int8_perrow

SHAPES = [(16384, 2048, 22016), (16384, 11008, 2048)]  # (M, K, N)
PARTS = ("cuBLAS FP16", "matmul_int8", "quantize_int8_perrow", "perrow_w8a8_matmul")
PLANNED = [(2048, 2048), (2048, 6144), (2048, 22016), (11008, 2048)]  # (K, N)


def show_breakdown():
    """Where the time of `matmul_int8` goes at two shapes, beside cuBLAS: measured where there is a GPU, else as recorded."""
    found = figures_of(("matmul_int8",), _measure, mode="eager", M=16384, N=[N for _, _, N in SHAPES],
                       K=[K for _, K, _ in SHAPES], function=PARTS)
    if found is None:
        return None
    rows, title = found
    return show_figure(breakdown_figure([row for row in rows if (row["M"], row["K"], row["N"]) in SHAPES], title))


def _measure() -> list[dict]:
    ours = {f.__name__: f for f in (matmul_int8, quantize_int8_perrow, perrow_w8a8_matmul)}
    return test_perf_matmul_int8({"cuBLAS FP16": BASELINES["cuBLAS FP16"], **ours}, SHAPES)


def count_plans(M: int = 64, N: int = 128, K: int = 256) -> None:
    """Print the bytes that each plan touched in a run, pass by pass, every byte once for each pass."""
    x, weight = torch.randn(M, K).half(), torch.randn(K).half()
    w_q, w_scale = torch.randint(-127, 128, (N, K), dtype=torch.int8), torch.rand(N)
    for name, plan in PLANS.items():
        passes = [launch.footprint().total() for launch in trace(plan, x=x, weight=weight, w_q=w_q, w_scale=w_scale)]
        print(f"{_plan_name(name):>15}: {' + '.join(f'{count:,}' for count in passes)} = {sum(passes):,} bytes")


def show_plans(**models: Callable[[int, int, int], int]):
    """The bytes that each plan saves over the one before it, against N and against K, as your functions have them."""
    if not all(ready_to_draw(model) for model in models.values()):
        return None
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained", sharey=True)
    sizes = [2**n for n in range(8, 16)]
    for panel, across, place in [(panels[0], "N, rows of w (M = 16,384, K = 4,096)", lambda n: (16384, n, 4096)),
                                 (panels[1], "K, length of a row (M = 16,384, N = 4,096)", lambda n: (16384, 4096, n))]:
        for (before, after), colour, marker in zip(pairwise(models), COLOURS, "os", strict=False):
            saved = [(models[before](*place(n)) - models[after](*place(n))) / 1e6 for n in sizes]
            label = f"{after.removesuffix('_bytes').replace('_', ' ')} saves"
            panel.plot(sizes, saved, color=colour, marker=marker, markersize=4, label=label)
        panel.set(yscale="log", xlabel=across)
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes[::2], [f"{n:,}" for n in sizes[::2]])
    panels[0].set_ylabel("MB saved")
    panels[0].legend(frameon=False)
    return show_figure(figure)


def show_plan_times():
    """Microseconds of the library's three plans at four shapes: measured where there is a GPU, else as recorded."""
    found = figures_of(("plans",), _measure_plans, mode="eager", M=16384, function=tuple(PLANS))
    if found is None:
        return None
    rows, title = found
    figure, axes = plt.subplots(figsize=(7.6, 3.4), layout="constrained")
    for number, (name, colour) in enumerate(zip(PLANS, COLOURS, strict=False)):
        times = {PLANNED.index((row["K"], row["N"])): row["median_us"] for row in rows
                 if row["function"] == name and (row["K"], row["N"]) in PLANNED}
        places = [place + 0.27 * (number - 1) for place in times]
        bars = axes.bar(places, list(times.values()), 0.25, color=colour, label=_plan_name(name))
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=9, padding=2)
    axes.set_xticks(range(len(PLANNED)), [f"K = {K:,}\nN = {N:,}" for K, N in PLANNED])
    axes.set_ylabel("µs, x to y (M = 16,384)")
    axes.margins(y=0.1)
    axes.set_title(title, fontsize=11)
    axes.legend(frameon=False)
    return show_figure(figure)


def _plan_name(baseline: str) -> str:
    return baseline.removesuffix(" INT8").replace("-", " ")


def _measure_plans() -> list[dict]:
    return test_perf_matmul_int8({name: BASELINES[name] for name in PLANS}, [(16384, K, N) for K, N in PLANNED])


def show_norm_bytes(*functions, M: int = 4, K: int = 4000):
    """Bytes asked for by each of your fused norms, by tensor, beside a norm and a quantizer apart; from their traces."""
    written = [function for function in functions if ready_to_draw(function)]
    if not written:
        return None
    x, weight = torch.randn(M, K).half(), torch.randn(K).half()
    apart = [*trace(plans.rmsnorm, x=x, weight=weight), *trace(quantize_int8_perrow, x=x)]
    bars = {"norm, then quantizer": apart} | {f.__name__: trace(f, x=x, weight=weight) for f in written}
    figure, axes = plt.subplots(figsize=(7.6, 0.9 + 0.5 * len(bars)), layout="constrained")
    kinds = {("load", "x_ptr"): "reads x (or y)", ("load", "weight_ptr"): "reads weight",
             ("store", "y_ptr"): "writes y in FP16",
             ("store", "q_ptr"): "writes codes"}
    for place, launches in enumerate(bars.values()):
        left = 0.0
        for (kind, label), colour in zip(kinds.items(), COLOURS, strict=False):
            width = sum(launch.traffic()[kind] for launch in launches) / (M * K)
            axes.barh(place, width, left=left, color=colour, edgecolor="white", label=label if place == 0 else None)
            left += width
        axes.text(left, place, f" {left:.1f}", va="center", fontsize=9)
    axes.set_yticks(range(len(bars)), bars)
    axes.invert_yaxis()
    axes.set(xlabel="bytes loaded and stored, for each element of x", xlim=(0, 13))
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    return show_figure(figure)
