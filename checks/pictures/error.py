"""Pictures for the lesson on the error of INT8, from runs of the student's own functions."""

import math

import matplotlib.pyplot as plt
import torch
from matplotlib.ticker import NullLocator

from checks.bench.figures import COLOURS
from checks.pictures.common import ready_to_draw, show_figure
from checks.simulated.synthetic import activations, weights
from kernels import error
from kernels.quantize import quantize_int8_perrow_torch
from kernels.runtime import device

PAIRS = 1024
BOUND = 4 / math.sqrt(2 * PAIRS)
"""Four standard errors of a standard deviation found from so many normal numbers: chance passes it once in 16,000."""


def measured_errors(K: int) -> tuple[torch.Tensor, list[dict]]:
    """The errors of PAIRS products of two rows of K normal numbers, and for each the arguments that predict its size."""
    g = torch.Generator().manual_seed(K)
    rows = [torch.randn(PAIRS, K, generator=g).half().to(device()) for _ in "xw"]
    quantized = [quantize_int8_perrow_torch(row) for row in rows]
    sums = (quantized[0][0].int() * quantized[1][0].int()).sum(dim=1)  # exact, as those of lesson 05
    errors = sums.double() * quantized[0][1].double() * quantized[1][1].double() - (rows[0].double() * rows[1]).sum(dim=1)
    sides = [rows[i].double().square().mean(dim=1).sqrt().tolist() for i in (0, 1)] + [
        quantized[i][1].tolist() for i in (0, 1)]
    names = ("x_rms", "w_rms", "x_scale", "w_scale")
    return errors.cpu(), [{"K": K, **dict(zip(names, values, strict=True))} for values in zip(*sides, strict=True)]


ORDINARY = "ordinary channels' part of y"
SWEEP = (COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[5])
THRESHOLD = 6.0  # of LLM.int8()


def show_product_error(function):
    """The error of products of K terms: as your function predicts it, and measured on 1,024 products for each K."""
    if not ready_to_draw(function):
        return None
    sizes = [64, 256, 1024, 4096]
    predicted, measured, ratios = [], [], []
    for K in sizes:
        errors, sides = measured_errors(K)
        std = torch.tensor([function(**side) for side in sides], dtype=torch.float64)
        predicted.append(float(std.square().mean().sqrt()))
        measured.append(float(errors.square().mean().sqrt()))
        ratios.append(float((errors / std).square().mean().sqrt()))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    left.plot(sizes, predicted, color=COLOURS[0], label="your formula")
    left.plot(sizes, measured, "o", color=COLOURS[1], label="measured")
    left.set(yscale="log", ylabel="standard deviation of the error of y", title="Numbers of size 1, a scale for each row")
    left.set_yticks(ticks := [0.05, 0.1, 0.2, 0.5, 1.0], map(str, ticks))
    left.legend(frameon=False)
    right.axhspan(1 - BOUND, 1 + BOUND, color=COLOURS[4], alpha=0.35, label=f"1 ± {BOUND:.3f}, chance alone")
    right.axhline(1, color=COLOURS[0])
    right.plot(sizes, ratios, "o", color=COLOURS[1], label="measured / your formula")
    right.set(ylim=(1 - 2.2 * BOUND, 1 + 2.2 * BOUND) if max(abs(r - 1) for r in ratios) < 2 * BOUND else None,
              title=f"{sum(abs(r - 1) <= BOUND for r in ratios)} of {len(ratios)} within the bound")
    right.legend(frameon=False, fontsize=9)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{K:,}" for K in sizes], fontsize=8)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("K, terms of a product")
        axes.title.set_fontsize(10)
    return show_figure(figure)


def show_outlier_sweep(fake_quantize_int8, sqnr_db_per_channel):
    """What is left of the ordinary channels when six of 2,048 are larger: their median SQNR by the shape of the blocks."""
    if not (ready_to_draw(fake_quantize_int8) and ready_to_draw(sqnr_db_per_channel)):
        return None
    sizes = [1, 2, 5, 10, 20, 50, 100, 200, 500]
    made = [activations(size) for size in sizes]
    M, K = made[0][0].shape
    blocks = {"one scale for x": (M, K), "for each row": (1, K), "for each 128 of a row": (1, 128),
              "for each channel": (M, 1)}
    figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
    for (name, block), colour, marker in zip(blocks.items(), COLOURS, "osD^", strict=False):
        medians, whole = [], []
        for x, ordinary in made:
            approximation = fake_quantize_int8(x, *block)
            medians.append(float(sqnr_db_per_channel(x, approximation)[ordinary].median()))
            whole.append(error.sqnr_db(x, approximation))
        axes.plot(sizes, medians, marker=marker, color=colour, label=name)
        if name == "for each row":
            axes.plot(sizes, whole, color=colour, linestyle="--", label="the same, SQNR of all of x")
    axes.set_xscale("log")
    axes.set_xticks(sizes, map(str, sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="size of the six outlier channels, ordinary channels: 1", ylabel="median SQNR of ordinary channels, dB",
             ylim=(-2, 50))
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return show_figure(figure)


def int8_product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x wᵀ with a scale for each row of x and of w."""
    return error.fake_quantize_int8(x, 1, x.shape[1]) @ error.fake_quantize_int8(w, 1, w.shape[1]).T


def show_alpha_sweep(smoothquant, size: float = 100.0):
    """The SQNR of x, of w, of y = x wᵀ and of what the ordinary channels add to y, after your `smoothquant`, for alpha from
    0 to 1, outlier channels of this size."""
    if not ready_to_draw(smoothquant):
        return None
    x, ordinary = activations(size)
    w = weights()
    exact, exact_part = x.double() @ w.double().T, x[:, ordinary].double() @ w[:, ordinary].double().T
    alphas = torch.linspace(0, 1, 21).tolist()
    lines: dict[str, list[float]] = {"x / s": [], "w · s": [], "y": [], ORDINARY: []}
    for alpha in alphas:
        pair = smoothquant(x, w, alpha)
        x_hat, w_hat = (error.fake_quantize_int8(factor, 1, factor.shape[1]) for factor in pair)
        for name, factor, rounded in zip(("x / s", "w · s"), pair, (x_hat, w_hat), strict=True):
            lines[name].append(error.sqnr_db(factor, rounded))
        lines["y"].append(error.sqnr_db(exact, x_hat @ w_hat.T))
        lines[ORDINARY].append(error.sqnr_db(exact_part, x_hat[:, ordinary] @ w_hat[:, ordinary].T))
    figure, axes = plt.subplots(figsize=(8.4, 4.2), layout="constrained")
    for (name, values), colour, style in zip(lines.items(), SWEEP, ("--", "-.", "-", "-"), strict=True):
        axes.plot(alphas, values, style, color=colour, label=f"SQNR of {name}", linewidth=1.5 if name.endswith("s") else 2.5)
    apart = error.sqnr_db(exact_part, error.matmul_decomposed(torch.where(ordinary, x, 0), w, THRESHOLD))
    axes.axhline(apart, color=SWEEP[3], linestyle=":", linewidth=1.5, label=f"{ORDINARY},\noutliers apart: {apart:.1f} dB")
    part = max(lines[ORDINARY])
    axes.annotate(f"{part:.1f} dB", (alphas[lines[ORDINARY].index(part)], part), ha="center", va="bottom", xytext=(0, 6),
                  textcoords="offset points", fontsize=9)
    best = max(range(len(alphas)), key=lambda i: lines["y"][i])
    axes.plot(alphas[best], lines["y"][best], "o", color=COLOURS[2], markersize=9)
    axes.annotate(f"alpha = {alphas[best]:.2f}: {lines['y'][best]:.1f} dB", (alphas[best], lines["y"][best]), ha="center",
                  va="bottom", xytext=(0, 8), textcoords="offset points", fontsize=9)
    before = error.sqnr_db(exact, int8_product(x.float(), w.float()))
    axes.axhline(before, color="black", linestyle=":", linewidth=1, label=f"y without smoothing: {before:.1f} dB")
    axes.set(xlabel="alpha: 0 leaves the outliers in x, 1 moves them all into w", ylabel="SQNR, dB",
             title=f"Six outlier channels of size {size:.0f}")
    axes.title.set_fontsize(10)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return show_figure(figure)


def show_layers(layers_to_keep, rankings: dict[str, dict[str, float]], weights_of: dict[str, int], budget: int):
    """SQNR of each layer in each ranking, and which layers your function leaves in FP16."""
    if not ready_to_draw(layers_to_keep):
        return None
    figure, panels = plt.subplots(1, len(rankings), figsize=(8.4, 3), sharey=True, layout="constrained")
    for panel, (title, ranking) in zip(panels, rankings.items(), strict=True):
        sizes = torch.tensor([weights_of[name] for name in ranking])
        keep = layers_to_keep(torch.tensor(list(ranking.values()), dtype=torch.float64), sizes, budget).tolist()
        for place, (value, kept) in enumerate(zip(ranking.values(), keep, strict=True)):
            look = {"color": COLOURS[1], "hatch": "//"} if kept else {"color": COLOURS[0]}
            panel.bar(place, value, edgecolor="white", **look)
            panel.annotate(f"{value:.1f}", (place, value), ha="center", va="bottom", fontsize=8)
        panel.set_xticks(range(len(ranking)), ranking, fontsize=9)
        kept = sum(size for size, kept in zip(sizes.tolist(), keep, strict=True) if kept)
        panel.set_title(f"{title}\nkept in FP16 (hatched): {kept:,} of {int(sizes.sum()):,} weights", fontsize=9)
    panels[0].set(ylabel="SQNR, dB", ylim=(0, 50))
    return show_figure(figure)
