"""Pictures for the lesson on the INT8 product, from runs, traces and compilations of the student's own kernels."""

from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LogNorm

from checks.bench import perf
from checks.bench.baselines import BASELINES, LAYOUTS, in_both_layouts
from checks.bench.figures import COLOURS, tflops_figure
from checks.bench.operands import Operands
from checks.bench.results import recorded, select
from checks.judge.compiler import TARGETS, Compilation
from checks.judge.launches import watch
from checks.judge.tracing import trace
from checks.pictures.common import figures_of, ready_to_draw, show_figure
from kernels import matmul_fp16_naive, perrow_w8a8_matmul, perrow_w8a8_matmul_grouped
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import INTERPRETED, device


def show_sums(function=None, K: int = 4096):
    """How far sums of up to K products of large codes are from the exact ones, by the type that they are kept in.

    `function(x_q, w_q)`, which gives INT32 sums, is drawn beside them.
    """
    if function is not None and not ready_to_draw(function):
        return None
    x, w = torch.randint(100, 128, (2, K), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    products = (x.long() * w.long()).numpy()
    exact, lengths = products.cumsum(), np.arange(1, K + 1)
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name, kept, colour in (("INT8", np.int8, 3), ("FP16", np.float16, 5), ("FP32", np.float32, 0)):
        with np.errstate(over="ignore"):
            error = np.abs(products.astype(kept).cumsum(dtype=kept).astype(float) - exact)
        axes.plot(lengths, error, color=COLOURS[colour], linewidth=1, label=name)
        if np.isinf(error).any():
            last = np.argmax(np.isinf(error)) - 1
            axes.plot(lengths[last], error[last], "x", color=COLOURS[colour])
            axes.annotate("then Inf", (lengths[last], error[last]), xytext=(6, -4), textcoords="offset points", fontsize=9)
    if function is not None:
        lengths = 2 ** np.arange(K.bit_length())
        starts = x * (torch.arange(K) < torch.from_numpy(lengths)[:, None])  # of 1, 2, 4 and more codes
        sums = function(starts.to(device()), w[None].to(device())).cpu()[:, 0].numpy()
        axes.plot(lengths, np.abs(sums - exact[lengths - 1]), "o", color=COLOURS[2], clip_on=False, zorder=3,
                  label="INT32, your kernel")
    axes.set_xscale("log", base=2)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="products added up (codes from 100 to 127)", ylabel="|sum - exact sum|")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(0.0, 0.45))
    return show_figure(figure)


def show_layouts(function):
    """What the two layouts of w cost: instructions that move single bytes, from the compiler, and where there are figures
    of a GPU, live or recorded, the speed with M = N = K = 4096."""
    if not ready_to_draw(function):
        return None
    operands = Operands(256, 256, 256)
    with watch() as launches:
        for product in in_both_layouts(function).values():
            product(*operands.arguments(product))
    reports = Compilation(launches).reports()
    if INTERPRETED:
        figures = recorded()
        rows, title = select(figures, test="layout"), f"recorded on an {figures['gpu']}\n(there is no GPU here)"
    else:
        rows = perf.test_perf_gemm(in_both_layouts(function), [(4096, 4096, 4096)])
        title = f"measured now on this\n{torch.cuda.get_device_name()}"
    figure, axes = plt.subplots(1, 2 if rows else 1, figsize=(8 if rows else 5, 3), squeeze=False, layout="constrained")
    for index, (layout, report) in enumerate(zip(LAYOUTS, reports, strict=True)):
        bars = axes[0, 0].bar(np.arange(len(TARGETS)) + 0.38 * (index - 0.5), [r.byte_moves for r in report.values()], 0.36,
                              color=COLOURS[index], label=layout)
        axes[0, 0].bar_label(bars, fontsize=9)
    axes[0, 0].set_xticks(range(len(TARGETS)), TARGETS.values())
    axes[0, 0].set(ylabel="instructions", title="instructions that move single bytes,\nas compiled on this machine")
    axes[0, 0].margins(y=0.15)
    axes[0, 0].legend(frameon=False, loc="upper right")
    if rows:
        speed = [next(row["tflops"] for row in rows if row["function"].endswith(layout)) for layout in LAYOUTS]
        axes[0, 1].bar_label(axes[0, 1].bar(LAYOUTS, speed, color=COLOURS[:2]), fmt="{:,.0f}", fontsize=9)
        axes[0, 1].set(xlabel="M = N = K = 4,096", ylabel="TOPS", title=title)
        axes[0, 1].margins(y=0.15)
    for panel in axes[0]:
        panel.title.set_fontsize(10)
    return show_figure(figure)


def show_error_map(function, M: int = 128, N: int = 128, K: int = 512):
    """|y in INT8 - y in FP16| by your kernel, where one row of x and one of w are 20 times as large as the others: with a
    scale for each row, and with one scale for all rows."""
    if not ready_to_draw(function):
        return None
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(M, K, generator=g), torch.randn(N, K, generator=g) / K**0.5
    x[M // 3] *= 20
    w[2 * N // 3] *= 20
    x, w = x.half().to(device()), w.half().to(device())
    y_fp16 = (x.double() @ w.double().T).half().cpu().float()
    maps = {}
    for name, quantize in (("a scale for each row", quantize_int8_perrow), ("one scale for all rows", _one_scale)):
        maps[name] = (function(*quantize(x), *quantize(w)).cpu().float() - y_fp16).abs()
    norm = LogNorm(1e-3, max(float(values.max()) for values in maps.values()), clip=True)
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.9), sharey=True, layout="constrained")
    for panel, (name, values) in zip(panels, maps.items(), strict=True):
        image = panel.imshow(values.numpy(), cmap="cividis", norm=norm, interpolation="nearest")
        panel.set_title(f"{name}: median error {float(values.median()):.3f}", fontsize=10)
        panel.set_xlabel("n, row of w")
    panels[0].set_ylabel("m, row of x")
    figure.colorbar(image, ax=panels, label="|y INT8 - y FP16|", shrink=0.85)
    return show_figure(figure)


def _one_scale(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of x (M, K) by a single scale, which is repeated (M,) times."""
    scale = (x.float().abs().amax() / 127).expand(len(x)).contiguous()
    return (x.float() / scale[:, None]).round().to(torch.int8), scale


def count_bytes(function, **inputs) -> Counter[str]:
    """Bytes that the programs of the last launch of `function(**inputs)` asked for, by tensor."""
    moved: Counter[str] = Counter()
    for (_, pointer), count in trace(function, **inputs)[-1].traffic().items():
        name = pointer.removesuffix("_ptr")
        moved["scales" if name.endswith("_scale") else name] += count
    return moved


def show_traffic(function, M: int = 128, N: int = 128, K: int = 1024):
    """Bytes that lesson 02's kernel and your INT8 kernel ask for, counted in a run of each."""
    if not ready_to_draw(function):
        return None
    x, w = torch.zeros(M, K), torch.zeros(N, K)
    counts = {"FP16, lesson 02's": count_bytes(matmul_fp16_naive, x=x.half(), w=w.half()),
              "INT8, your kernel": count_bytes(function, x_q=x.to(torch.int8), x_scale=torch.ones(M),
                                               w_q=w.to(torch.int8), w_scale=torch.ones(N))}
    figure, axes = plt.subplots(figsize=(7, 2.4), layout="constrained")
    left = np.zeros(len(counts))
    for part, colour in zip(("x", "w", "scales", "y"), COLOURS, strict=False):
        width = np.array([count[part] for count in counts.values()]) / 1e3
        axes.barh(list(counts), width, left=left, color=colour, label=part)
        left += width
    totals = [count.total() for count in counts.values()]
    for index, total in enumerate(totals):
        axes.text(left[index], index, f" {total:,} bytes", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="kB loaded and stored", xlim=(0, max(left) * 1.3),
             title=f"FP16 moves {totals[0] / totals[1]:.2f} times the bytes of INT8 (M={M}, N={N}, K={K})")
    axes.title.set_fontsize(10)
    figure.legend(frameon=False, loc="outside right center", fontsize=9)
    return show_figure(figure)


NO_FIGURES = "results/ holds no figures of INT8 products: `python3 workshop.py bench` records them on a machine with a GPU."
PREFILL = {"M": 16384, "K": 2048, "mode": "eager"}
PRODUCTS = ("cuBLAS FP16", "matmul_fp16_naive", "perrow_w8a8_matmul_plain", "perrow_w8a8_matmul_grouped",
            "perrow_w8a8_matmul")


def say_gain(N: int = 6144) -> None:
    """What the fastest INT8 product of codes was recorded to gain over cuBLAS in FP16."""
    figures = recorded()
    speed = {row["function"]: row["tflops"] for row in select(figures, test="gemm", N=N, **PREFILL)}
    if not {"cuBLAS FP16", "perrow_w8a8_matmul"} <= speed.keys():
        print(NO_FIGURES)
        return
    fp16, int8 = speed["cuBLAS FP16"], speed["perrow_w8a8_matmul"]
    print(f"Recorded on an {figures['gpu']} with M = {PREFILL['M']:,}, N = {N:,}, K = {PREFILL['K']:,}:\n"
          f"cuBLAS in FP16 {fp16:,.0f} TFLOPS, our fastest INT8 product of codes {int8:,.0f} TOPS,\n"
          f"{int8 / fp16:.2f} times as fast.")


def show_speed(function):
    """TFLOPS of FP16 products and TOPS of INT8 products against N: of your kernel and ours where there is a GPU, else as
    recorded on one. Quantizing x is not part of it."""
    if not ready_to_draw(function):
        return None
    products = (BASELINES["cuBLAS FP16"], matmul_fp16_naive, function, perrow_w8a8_matmul_grouped, perrow_w8a8_matmul)
    found = figures_of(("gemm",), lambda: perf.test_perf_gemm(dict(zip(PRODUCTS, products, strict=True))),
                       function=PRODUCTS, **PREFILL)
    if found is None:
        return None
    rows, title = found
    return show_figure(tflops_figure(rows, recorded()["roofs"] if INTERPRETED else {}, title))
