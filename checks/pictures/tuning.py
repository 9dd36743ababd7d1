"""Pictures for the lesson on tuning: configurations as the compiler sees them, and as the clock does."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Rectangle

from checks.bench.baselines import BASELINES, CONFIGS, config_name
from checks.bench.figures import COLOURS, styles_of, tflops_figure
from checks.bench.perf import copy_roof, test_perf_gemm
from checks.bench.results import of_roof, recorded
from checks.bench.workloads import CONFIG_SHAPES, find
from checks.executor.source import describe
from checks.judge.compiler import Compiled, start
from checks.pictures.common import figures_of, ready_to_draw, show_figure
from kernels.configs import shared_bytes, tiles
from kernels.perrow_w8a8 import GROUPED_CONFIGS, perrow_w8a8_matmul_kernel
from kernels.runtime import INTERPRETED, shared_memory_limit

TOO_LARGE = [
    tiles(128, 256, 128, GROUP_M=8, num_warps=8, num_stages=5),
    tiles(128, 256, 64, GROUP_M=8, num_warps=4, num_stages=3),
    tiles(256, 256, 64, GROUP_M=8, num_warps=8, num_stages=3),
]
"""What the library does not offer: the first asks for too much shared memory, the others for too many registers."""

BIG = [(16384, 2048, 2048), (16384, 2048, 6144), (16384, 2048, 22016), (16384, 11008, 2048)]  # (M, K, N)
BESIDE = ["cuBLAS FP16", "torch._int_mm", "torch._scaled_mm FP8", "perrow_w8a8_matmul_grouped", "perrow_w8a8_matmul"]


def compile_configs(configs: list, capability: int = 90) -> list[Compiled]:
    """What the compiler makes of `perrow_w8a8_matmul_kernel` in each config, for a GPU that need not be here."""
    types = {"x_ptr": "*i8", "w_ptr": "*i8", "y_ptr": "*fp16", "x_scale_ptr": "*fp32", "w_scale_ptr": "*fp32",
             "bias_ptr": "constexpr"} | dict.fromkeys(("M", "N", "K", "stride_xm", "stride_wn", "stride_ym"), "i32")
    aligned = [name for name, kind in types.items() if kind != "constexpr"]
    return start([{
        "description": describe(perrow_w8a8_matmul_kernel, placed=False), "capability": capability,
        "signature": types | dict.fromkeys(config.kwargs, "constexpr"), "constexprs": config.kwargs | {"bias_ptr": None},
        "aligned": aligned, "options": {"num_warps": config.num_warps, "num_stages": config.num_stages},
    } for config in configs], processes=2)()


def report_configs(capability: int = 90) -> list[tuple[str, dict, Compiled]]:
    """Each config's name, its sizes by name, and the compiler's report: those of the library and some that are too large."""
    configs = [*GROUPED_CONFIGS, *TOO_LARGE]
    sizes = [{name: config.kwargs[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K")}
             | {"num_warps": config.num_warps, "num_stages": config.num_stages} for config in configs]
    return list(zip(map(config_name, configs), sizes, compile_configs(configs, capability), strict=True))


def show_resources(stage_bytes, accumulator_registers, reports: list[tuple[str, dict, Compiled]]):
    """Shared memory and registers of each config, by your formulas and by the compiler's report."""
    if not (ready_to_draw(stage_bytes) and ready_to_draw(accumulator_registers)):
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 0.6 + 0.42 * len(reports)), sharey=True, layout="constrained")
    for place, (_, sizes, report) in enumerate(reports):
        tile = sizes["BLOCK_M"], sizes["BLOCK_N"]
        _pair(left, place, stage_bytes(*tile, sizes["BLOCK_K"], sizes["num_stages"], 1) / 1024, report.shared / 1024, " KiB")
        spilled = f", {report.spills:,} bytes spilled" if report.spills else ""
        _pair(right, place, accumulator_registers(*tile, sizes["num_warps"]), report.registers or 0, spilled)
    left.set_yticks(range(len(reports)), [name for name, *_ in reports], fontsize=8)
    left.invert_yaxis()
    left.set(xlabel="shared memory of a program, KiB", xlim=(0, 300))
    right.set(xlabel="registers of a thread", xlim=(0, 600))
    for axes, limit in ((left, 227), (right, 255)):
        axes.axvline(limit, color="black", linestyle=":", linewidth=1)
        axes.annotate(f"most: {limit}", (limit, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return show_figure(figure)


def _pair(axes, place: int, formula: float, reported: float, unit: str) -> None:
    first = {"label": "your formula"} if place == 0 else {}
    second = {"label": "the compiler's report for sm_90"} if place == 0 else {}
    axes.barh(place - 0.2, formula, 0.36, color=COLOURS[0], **first)
    axes.barh(place + 0.2, reported, 0.36, color=COLOURS[1], **second)
    axes.annotate(f"{reported:,.0f}{unit}", (max(formula, reported), place), xytext=(4, 0), textcoords="offset points",
                  va="center", fontsize=8)


def show_buckets(bucket_m, M: torch.Tensor):
    """How many calls each M has, and each bucket of your function: what a cache has to know."""
    if not ready_to_draw(bucket_m):
        return None
    buckets = torch.tensor([bucket_m(m, 8192) for m in M.tolist()])
    figure, panels = plt.subplots(2, figsize=(7.4, 3.8), sharex=True, layout="constrained")
    for axes, values, colour, name in zip(panels, (M, buckets), COLOURS[1::-1], ("different M", "buckets"), strict=True):
        sizes, calls = values.unique(return_counts=True)
        axes.vlines(sizes, 0, calls, color=colour, linewidth=1 if len(sizes) > 50 else 5)
        axes.set_title(f"{len(sizes)} {name}", fontsize=10)
        axes.set(ylabel="calls", ylim=(0, None))
    panels[1].set_xscale("log", base=2)
    panels[1].set_xlabel("M, rows of x")
    return show_figure(figure)


def show_config_map():
    """Time of each configuration, over the best at its shape: measured where there is a GPU, else as recorded on one."""
    found = figures_of(("config",), _measure_configs)
    return found and show_figure(config_map_figure(*found))


def _measure_configs() -> list[dict]:
    functions = {config_name(config): find(config_name(config)) for config in GROUPED_CONFIGS
                 if shared_bytes(config, torch.int8) <= shared_memory_limit()}
    return test_perf_gemm(functions, CONFIG_SHAPES)


def config_map_figure(rows: list[dict], title: str):
    """Configurations by shapes: times over the best one's of the shape, which is framed."""
    shapes = sorted({(row["M"], row["K"], row["N"]) for row in rows})
    names = [name for name in CONFIGS if any(row["function"] == name for row in rows)]
    us = np.full((len(names), len(shapes)), np.nan)
    for row in rows:
        us[names.index(row["function"]), shapes.index((row["M"], row["K"], row["N"]))] = row["median_us"]
    times = us / np.nanmin(us, axis=0)
    figure, axes = plt.subplots(figsize=(8.6, 0.9 + 0.5 * len(names)), layout="constrained")
    image = axes.imshow(times, cmap="cividis_r", vmin=1, vmax=2, aspect="auto")
    for (name, shape), value in np.ndenumerate(times):
        text = "" if np.isnan(value) else f"{value:.2f}×\n{us[name, shape]:,.0f} µs"
        axes.text(shape, name, text, ha="center", va="center", fontsize=8, color="white" if value > 1.5 else "black")
        if value == 1:
            axes.add_patch(Rectangle((shape - 0.48, name - 0.46), 0.96, 0.92, fill=False, edgecolor=COLOURS[5], lw=2))
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xticks(range(len(shapes)), [f"M={M:,}\nK={K:,}\nN={N:,}" for M, K, N in shapes], fontsize=8)
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axes, extend="max", label="times the best one's time")
    return figure


def show_roofs():
    """The part of its roof that each product reaches, shape by shape: measured where there is a GPU, else as recorded."""
    found = _big_products()
    if found is None:
        return None
    rows, roofs, title = found
    return show_figure(roof_figure([row for row in rows if (row["M"], row["K"], row["N"]) in BIG], roofs, title))


def show_baselines():
    """INT8 beside cuBLAS FP16, torch._int_mm and FP8, TFLOPS against N: measured where there is a GPU, else as recorded."""
    found = _big_products()
    if found is None:
        return None
    rows, roofs, title = found
    return show_figure(tflops_figure([row for row in rows if row["K"] == 2048], roofs, title))


_measured: dict[str, list[dict]] = {}


def _big_products() -> tuple[list[dict], dict, str] | None:
    found = figures_of(("gemm",), _measure_big_products, M=16384, function=BESIDE, mode="eager")
    if found is None:
        return None
    return found[0], recorded()["roofs"] if INTERPRETED else _roofs(), found[1]


def _measure_big_products() -> list[dict]:
    if "big" not in _measured:
        _measured["big"] = test_perf_gemm({name: BASELINES.get(name) or find(name) for name in BESIDE}, BIG)
    return _measured["big"]


def _roofs() -> dict:
    if "roof" not in _measured:
        _measured["roof"] = test_perf_gemm({name: find(name) for name in ("cuBLAS FP16", "perrow_w8a8_matmul")},
                                           [(8192, 8192, 8192)])
    fp16, int8 = (row["tflops"] for row in _measured["roof"])
    return copy_roof() | {"fp16_tflops": fp16, "int8_tops": int8}


def roof_figure(rows: list[dict], roofs: dict, title: str):
    """Bars of the part of its roof that each function reaches, a group for each shape."""
    shapes = list(dict.fromkeys((row["M"], row["K"], row["N"]) for row in rows))
    names = [name for name in BESIDE if any(row["function"] == name for row in rows)]
    figure, axes = plt.subplots(figsize=(8.6, 3.8), layout="constrained")
    width, colours = 0.8 / len(names), styles_of(rows)
    for number, name in enumerate(names):
        mine = {(row["M"], row["K"], row["N"]): of_roof(row, roofs) for row in rows if row["function"] == name}
        parts = [100 * (mine.get(shape) or np.nan) for shape in shapes]
        places = np.arange(len(shapes)) + (number - (len(names) - 1) / 2) * width
        axes.bar(places, parts, 0.94 * width, color=colours[name]["color"], label=name)
        for place, part in zip(places, parts, strict=True):
            if not np.isnan(part):
                above = max(part, 101) if part > 94 else part  # not across the dashed line
                axes.text(place, above, f"{part:.0f}", ha="center", va="bottom", fontsize=8)
    axes.axhline(100, color="black", linestyle="--", linewidth=1, zorder=0)
    axes.set_xticks(range(len(shapes)), [f"M={M:,}\nK={K:,} N={N:,}" for M, K, N in shapes], fontsize=8)
    axes.set(ylabel="% of the measured roof", ylim=(0, 125))
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
    return figure
