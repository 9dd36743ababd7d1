"""Figures drawn from measured rows alone (as `checks.bench.results` has them), on any machine."""

import math

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullLocator

from checks.bench.results import arithmetic, pairs

# Okabe and Ito's colours, which colour-blind readers can tell apart; the last, black, is kept for text.
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]
BASELINE = "#555555"
GREY = ("cuBLAS FP16", "copy")
MEANING = {"M": "M, rows of x", "N": "N, rows of w", "K": "K, length of a row"}


def bandwidth_figure(rows: list[dict], roofs: dict, title: str):
    """GB/s of each function against the dimension that varies, under what a copy and a pure reading reach."""
    figure, axes, _ = _lines(rows, lambda row: row["gb_per_s"], title)
    _roof(axes, roofs.get("copy_gb_per_s"), "a copy on this GPU: {:,.0f} GB/s", left_below=True)
    _roof(axes, roofs.get("read_gb_per_s"), "reading alone: {:,.0f} GB/s", linestyle=":")
    axes.set(ylabel="GB/s (reads + writes)", ylim=(0, 1.12 * max([*(row["gb_per_s"] for row in rows), *_known(
        roofs, "copy_gb_per_s", "read_gb_per_s")])))
    return _with_legend(figure, axes)


def tflops_figure(rows: list[dict], roofs: dict, title: str):
    """TFLOPS of each function against the dimension that varies, under the tensor cores' measured peaks."""
    rows = [row for row in rows if row["tflops"] is not None]
    figure, axes, _ = _lines(rows, lambda row: row["tflops"], title)
    _roof(axes, roofs.get("fp16_tflops"), "FP16, a large square product: {:,.0f}")
    _roof(axes, roofs.get("int8_tops"), "INT8, a large square product: {:,.0f}")
    axes.set(ylabel="TFLOPS (INT8: TOPS)", ylim=(0, 1.12 * max([*(row["tflops"] for row in rows), *_known(
        roofs, "fp16_tflops", "int8_tops")])))
    return _with_legend(figure, axes)


def speedup_figure(rows: list[dict], baseline: str, title: str):
    """How many times as fast as `baseline` each other function was, against the dimension that varies."""
    compared = [{**row, "speedup": base["median_us"] / row["median_us"]}
                for name in _functions(rows) if name != baseline for row, base in pairs(rows, name, baseline)]
    if not compared:
        raise ValueError(f"no row was timed together with {baseline}: there is nothing to draw")
    figure, axes, _ = _lines(compared, lambda row: row["speedup"], title)
    axes.axhline(1, color="black", linewidth=1)
    axes.annotate(baseline, (0, 1), xycoords=("axes fraction", "data"), xytext=(4, 2), textcoords="offset points",
                  fontsize=9)
    axes.set(ylabel=f"times as fast as {baseline}", ylim=(0, 1.1 * max(1, *(row["speedup"] for row in compared))))
    return _with_legend(figure, axes)


def breakdown_figure(rows: list[dict], title: str):
    """Where the time of `matmul_int8` goes, beside cuBLAS FP16: a pair of bars for each shape and mode in `rows`.

    Needs, for each, rows of cuBLAS FP16, matmul_int8, quantize_int8_perrow and perrow_w8a8_matmul. What the whole takes
    beyond its two parts, if it does, is shown as launches and gaps.
    """
    groups: dict[tuple, dict[str, float]] = {}
    for row in rows:
        groups.setdefault((row["M"], row["K"], row["N"], row["mode"]), {})[row["function"]] = row["median_us"]
    whole, parts = "matmul_int8", ("perrow_w8a8_matmul", "quantize_int8_perrow")
    groups = {place: us for place, us in groups.items() if {"cuBLAS FP16", whole, *parts} <= us.keys()}
    if not groups:
        raise ValueError("a breakdown needs rows of cuBLAS FP16, matmul_int8, quantize_int8_perrow and perrow_w8a8_matmul")
    figure, panels = plt.subplots(1, len(groups), figsize=(max(7, 2.6 * len(groups)), 3.9), layout="constrained",
                                  squeeze=False)
    for axes, ((M, K, N, mode), us) in zip(panels[0], groups.items(), strict=True):
        stack = [("FP16 product (torch)", BASELINE, 0, us["cuBLAS FP16"])]
        multiply, quantize = (us[name] for name in parts)
        stack += [("INT8 product (Triton)", COLOURS[0], 1, multiply), ("quantization (Triton)", COLOURS[1], 1, quantize)]
        if us[whole] > multiply + quantize:
            stack.append(("launches and gaps", "#DDDDDD", 1, us[whole] - multiply - quantize))
        heights = [0.0, 0.0]
        for label, colour, place, height in stack:
            axes.bar(place, height, 0.7, bottom=heights[place], color=colour, edgecolor="white", label=label)
            heights[place] += height
        axes.plot([0.6, 1.4], [us[whole]] * 2, color="black", linewidth=1.5, label="matmul_int8, timed whole")
        for place, total in enumerate((us["cuBLAS FP16"], us[whole])):
            said = f"{total:,.0f} µs" if total >= 100 else f"{total:.1f} µs"
            axes.annotate(f"whole: {said}" if heights[place] > total else said, (place, max(heights[place], total)),
                          ha="center", va="bottom", xytext=(0, 3), textcoords="offset points", fontsize=9)
        axes.set_xticks([0, 1], ["torch", "Triton"])
        axes.set(ylim=(0, 1.15 * max(*heights, us[whole])), ylabel="µs" if axes is panels[0, 0] else None)
        how = {"eager": "", "idle": "\nlaunched one by one, GPU idle", "graph": "\nin a CUDA graph"}[mode]
        axes.set_title(f"M={M:,} K={K:,} N={N:,}{how}", fontsize=9)
    labels = {}
    for axes in panels[0]:
        labels.update({label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)})
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=len(labels) if len(groups) > 2 else 2,
                  frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def roofline_figure(rows: list[dict], roofs: dict, title: str):
    """TFLOPS against operations per byte, each row a point, under the measured roofs; rows of quantizers are left out."""
    rows = [row for row in rows if row["flops"]]
    figure, axes = plt.subplots(figsize=(8.6, 4.8), layout="constrained")
    intensity = [row["flops"] / row["bytes"] for row in _some(rows)]
    left, right = min(intensity) / 1.6, max(intensity) * 1.6
    copy = roofs["copy_gb_per_s"]
    for name, label, line in (("fp16_tflops", "FP16", "--"), ("int8_tops", "INT8", "-.")):
        if roofs.get(name):
            ridge = roofs[name] * 1e3 / copy  # where the two roofs meet
            axes.plot([left, min(ridge, right), max(ridge, right)], [left * copy / 1e3, min(ridge, right) * copy / 1e3,
                      roofs[name]], color="black", linestyle=line, linewidth=1, zorder=1)
            axes.annotate(f"{label} peak: {roofs[name]:,.0f}", (right, roofs[name]), ha="right", va="bottom", fontsize=9,
                          xytext=(-3, 1), textcoords="offset points")
    for name, style in styles_of(rows).items():
        mine = sorted((row for row in rows if row["function"] == name), key=lambda row: row["flops"] / row["bytes"])
        axes.plot([row["flops"] / row["bytes"] for row in mine], [row["tflops"] for row in mine],
                  **{**style, "linewidth": 0.8}, label=name)
    longest = max(styles_of(rows), key=lambda name: len({row["M"] for row in rows if row["function"] == name}))
    places = {row["flops"] / row["bytes"]: row for row in rows if row["function"] == longest}
    for place in _apart(sorted(places), 0.08):
        axes.annotate(f"M={places[place]['M']:,}", (place, places[place]["tflops"]), fontsize=7, ha="left", va="top",
                      xytext=(4, -4), textcoords="offset points")
    axes.set(xscale="log", yscale="log", xlim=(left, right), xlabel="operations per byte that must move", title=title,
             ylabel="TFLOPS (INT8: TOPS)")
    axes.annotate(f"memory: {copy:,.0f} GB/s", (left, left * copy / 1e3), xytext=(8, 14), textcoords="offset points",
                  fontsize=9, va="bottom")
    return _with_legend(figure, axes)


def latency_figure(rows: list[dict], title: str, baseline: str = "cuBLAS FP16"):
    """Microseconds of each function against the dimension that varies, and where a function's time crosses `baseline`'s."""
    figure, axes, dimension = _lines(rows, lambda row: row["median_us"], title)
    for name, style in styles_of(rows).items():
        for size, us in break_evens(rows, name, baseline, dimension):
            axes.plot(size, us, marker="o", markersize=13, markerfacecolor="none", color=style["color"], linestyle="none")
            axes.annotate(f"break-even\n{dimension} ≈ {size:,.0f}", (size, us), xytext=(0, 12), textcoords="offset points",
                          ha="center", fontsize=8)
    axes.set(ylabel="µs", ylim=(0, 1.15 * max(row["median_us"] for row in rows)))
    return _with_legend(figure, axes)


def break_evens(rows: list[dict], function: str, baseline: str, dimension: str = "M") -> list[tuple[float, float]]:
    """Where the times of two functions cross: (size, microseconds), read off straight lines between measured sizes on a
    logarithmic axis."""
    if function == baseline:
        return []
    found = []
    compared = sorted(pairs(rows, function, baseline), key=lambda pair: pair[0][dimension])
    for (a, base_a), (b, base_b) in zip(compared, compared[1:], strict=False):
        before, after = a["median_us"] - base_a["median_us"], b["median_us"] - base_b["median_us"]
        if before * after < 0:
            part = before / (before - after)
            size = a[dimension] * (b[dimension] / a[dimension]) ** part
            found.append((size, a["median_us"] + part * (b["median_us"] - a["median_us"])))
    return found


def _lines(rows, value, title: str):
    """A line for each function against the dimension that takes the most values: the figure, its axes, that dimension."""
    dimension = max("NMK", key=lambda name: len({row[name] for row in _some(rows)}))
    figure, axes = plt.subplots(figsize=(8.2, 3.9), layout="constrained")
    for name, style in styles_of(rows).items():
        mine = sorted((row for row in rows if row["function"] == name), key=lambda row: row[dimension])
        axes.plot([row[dimension] for row in mine], [value(row) for row in mine], **style, label=name)
    sizes = sorted({row[dimension] for row in rows})
    fixed = [f"{name} = {rows[0][name]:,}" for name in "MKN" if len({row[name] for row in rows}) == 1 and rows[0][name] > 1]
    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(_apart(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.set(title=title, xlabel=MEANING[dimension] + (f" ({', '.join(fixed)})" if fixed else ""))
    axes.title.set_fontsize(11)
    return figure, axes, dimension


def _apart(sizes: list[float], part: float = 0.05) -> list[float]:
    """Those of the ascending sizes that have room for a label, a part of a logarithmic axis; the largest among them."""
    kept: list[float] = []
    gap = max(part * math.log(sizes[-1] / sizes[0]), 1e-9)
    for size in reversed(sizes):
        if not kept or math.log(kept[-1] / size) >= gap:
            kept.append(size)
    return kept


def _functions(rows) -> list[str]:
    return list(dict.fromkeys(row["function"] for row in rows))


def _some(rows):
    if not rows:
        raise ValueError("there are no rows to draw: was this measured on this GPU?")
    return rows


def styles_of(rows) -> dict[str, dict]:
    """A colour and a marker for each function, the same in all figures of the same rows; INT8 in full lines."""
    styles, used = {}, 0
    for name in _functions(rows):
        line = "-" if arithmetic(name) == "int8" else "--"
        if name in GREY:
            styles[name] = {"color": BASELINE, "marker": "o", "linestyle": "--", "markersize": 5}
        else:
            styles[name] = {"color": COLOURS[used % len(COLOURS)], "marker": "sD^vPX*<>"[used % 9], "linestyle": line,
                            "markersize": 5}
            used += 1
    return styles


def _known(roofs: dict, *names: str) -> list[float]:
    return [roofs[name] for name in names if roofs.get(name)]


def _roof(axes, value: float | None, text: str, linestyle: str = "--", left_below: bool = False) -> None:
    """A line at `value`; its text above it at the right, or below it at the left, where curves are low."""
    if value:
        place = {"xy": (0, value), "xytext": (4, -2), "ha": "left", "va": "top"} if left_below else {
            "xy": (1, value), "xytext": (-4, 2), "ha": "right", "va": "bottom"}
        axes.axhline(value, color="black", linestyle=linestyle, linewidth=1)
        axes.annotate(text.format(value), **place, xycoords=("axes fraction", "data"), textcoords="offset points",
                      fontsize=9)


def _with_legend(figure, axes):
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    return figure
