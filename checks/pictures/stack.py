"""Pictures for the lesson on real models: error bars, buckets, caches, who reads which part of one, and formats."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

import kernels.transformer
from checks.bench.attention import ATTENTION
from checks.bench.figures import COLOURS
from checks.bench.perf import test_perf_attention, test_perf_gemm
from checks.bench.results import RESULTS
from checks.bench.workloads import BY_GROUPS, MANY, WORKSHOP, find
from checks.capstone.accuracy import Scheme, simulated, with_outlier_channel
from checks.capstone.training import load, tokens_of, windows
from checks.judge.tracing import trace
from checks.pictures.common import figures_of, ready_to_draw, show_figure
from kernels.block_cost import LLAMA_3_8B_DIMS, block_weights, kv_cache_bytes
from kernels.cost import group_w8a8_matmul_bytes, perrow_w8a8_matmul_bytes
from kernels.error import sqnr_db
from kernels.group_w8a8 import GROUP_K, quantize_int8_groups, quantize_int8_groups_torch
from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain
from kernels.quantize import quantize_int8_perrow, quantize_int8_perrow_torch
from kernels.runtime import device
from kernels.transformer import Transformer

CARDS = RESULTS / "model"
LAYERS = 32  # of Llama 3 8B
GRAPHS = (1, 2, 4, 8, 16, 32, 64)
PLACES = [(M, K) for M in (1, 16, 64) for K in (2048, 8192)]


def small_model() -> tuple[Transformer, Transformer, torch.Tensor]:
    """Lesson 10's trained model computed in FP32, which a CPU does fast; its INT8 twin; and windows of its held-out text."""
    model = load().float()
    return model, simulated(model, Scheme()), windows(tokens_of("held_out"))[::10].to(device())


@torch.no_grad()
def window_losses(model: Transformer, rows: torch.Tensor) -> torch.Tensor:
    """The mean loss of each row of tokens (n, T), in nats: (n,) float64."""
    logits = model(rows)[:, :-1].float()
    return F.cross_entropy(logits.mT, rows[:, 1:], reduction="none").double().mean(dim=1).cpu()


@contextlib.contextmanager
def int8_cache() -> Iterator[None]:
    """In this block the small model attends to keys and values as an INT8 cache gives them back."""
    ours = kernels.transformer.mixed

    def mixed(q, k, v, is_causal):
        return ours(q, given_back(k), given_back(v), is_causal)

    kernels.transformer.mixed = mixed
    try:
        yield
    finally:
        kernels.transformer.mixed = ours


def given_back(x: torch.Tensor) -> torch.Tensor:
    """What INT8 leaves of x, a scale for each row of its last dimension."""
    codes, scale = quantize_int8_perrow_torch(x.reshape(-1, x.shape[-1]))
    return (codes * scale[:, None]).to(x.dtype).view(x.shape)


def show_paired(paired_difference: Callable, before: torch.Tensor, after: torch.Tensor):
    """Losses of the same windows, FP16 and INT8; their differences with the mean and two error bars, paired and not."""
    if not ready_to_draw(paired_difference):
        return None
    mean, error = paired_difference(before, after)
    unpaired = float(((before.var() + after.var()) / len(before)) ** 0.5)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    number = np.arange(1, len(before) + 1)
    left.plot(number, before, "o", color=COLOURS[0], label="FP16")
    left.plot(number, after, "x", color=COLOURS[1], label="INT8")
    left.set(xlabel="window of the text", ylabel="loss, nats a byte", ylim=(0, None))
    left.legend(frameon=False)
    for place, (name, bar) in enumerate((("paired", error), ("not paired", unpaired))):
        right.errorbar([place], [mean], [bar], fmt="o", capsize=6, color=COLOURS[place], label=f"{name}: ± {bar:.4f}")
    right.axhline(0, color="black", linewidth=0.8)
    right.set(xticks=[0, 1], xticklabels=["paired", "not paired"], xlim=(-0.6, 1.6), ylabel="INT8 - FP16, nats a byte",
              title=f"mean difference {mean:+.4f}")
    right.legend(frameon=False)
    return show_figure(figure)


@torch.no_grad()
def show_smoothing(fold_smoothing: Callable, alpha: float = 0.5):
    """The largest magnitude of each channel in front of block 0's gate, before and after folding, and what INT8 makes of
    gate's output. The model has an outlier channel."""
    if not ready_to_draw(fold_smoothing):
        return None
    model = with_outlier_channel(load().float(), 64)
    seen: list[torch.Tensor] = []
    block: Any = model.blocks[0]
    handle = block.mlp.gate.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(0, -2)))
    rows = windows(tokens_of("train"))[:400:200].to(device())
    model(rows)
    handle.remove()
    x, = seen
    w = torch.cat([block.mlp.gate.weight, block.mlp.up.weight])
    norm, w_after = fold_smoothing(block.mlp_norm.weight, w, x.abs().amax(dim=0), alpha)
    x_after = x * (norm / block.mlp_norm.weight.float())
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    for index, (name, x_, w_) in enumerate((("as it is", x, w), ("smoothed", x_after, w_after))):
        sqnr = sqnr_db(x @ w.T, int8_product(x_, w_))
        axes.semilogy(x_.abs().amax(dim=0).cpu(), color=COLOURS[index], label=f"{name}: gate and up {sqnr:.1f} dB in INT8")
    axes.set(xlabel="channel", ylabel="largest magnitude of x", title="In front of block 0's gate and up")
    axes.legend(frameon=False)
    return show_figure(figure)


def int8_product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x wᵀ of what INT8 leaves of both, a scale for each row."""
    (x_q, x_scale), (w_q, w_scale) = (quantize_int8_perrow_torch(side) for side in (x, w))
    return (x_q.double() @ w_q.double().T).float() * x_scale[:, None] * w_scale


def recorded_cards() -> list[dict]:
    """The cards of `workshop.py model` in results/model/."""
    return [json.loads(path.read_text()) for path in sorted(CARDS.glob("*.json"))]


def show_speed():
    """Tokens per second of the recorded models, FP16 and INT8, decode in both modes."""
    cards = [card for card in recorded_cards() if card["speed"] and card["random"]]
    if not cards:
        print("○ No model is recorded yet: `python3 workshop.py model FOLDER --out results/model`, on a GPU, records one.")
        return None
    card = cards[0]
    rows = {(row["batch"], row["mode"], row["function"]): row["decode_tokens_per_s"] for row in card["speed"]}
    places = list(dict.fromkeys(key[:2] for key in rows))
    figure, axes = plt.subplots(1, len(places), figsize=(8, 3), layout="constrained", squeeze=False)
    for panel, (batch, mode) in zip(axes[0], places, strict=True):
        sides = [card["dtype"], "INT8"]
        speeds = [rows[batch, mode, side] for side in sides]
        panel.bar(sides, speeds, color=COLOURS[:2])
        for place, speed in enumerate(speeds):
            panel.text(place, speed, f"{speed:,.0f}", ha="center", va="bottom", fontsize=8)
        panel.margins(y=0.15)
        panel.set_title(f"batch {batch}, {mode}\n{speeds[1] / speeds[0]:.2f} times", fontsize=9)
    axes[0, 0].set_ylabel("decode, tokens per second")
    figure.suptitle(f"{card['model']}, random weights, recorded on an {card['gpu']}", fontsize=10)
    return show_figure(figure)


def show_buckets(graph_bucket: Callable, buckets: tuple[int, ...] = GRAPHS):
    """Which graph each batch runs in, and which part of its work is padding."""
    if not ready_to_draw(graph_bucket):
        return None
    batches = range(1, buckets[-1] + 5)
    found = [graph_bucket(batch, torch.tensor(buckets)) for batch in batches]
    figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
    drawn = [(batch, bucket) for batch, bucket in zip(batches, found, strict=True) if bucket]
    axes.step(*zip(*drawn, strict=True), where="mid", color=COLOURS[0], label="batch of the graph")
    axes.plot(batches, batches, ":", color="black", label="sequences that are there")
    none = [batch for batch, bucket in zip(batches, found, strict=True) if not bucket]
    axes.plot(none, none, "x", color=COLOURS[1], label="no graph: eager")
    waste = 1 - sum(batch for batch, b in zip(batches, found, strict=True) if b) / max(1, sum(found))
    axes.set(xlabel="batch", ylabel="batch of the graph",
             title=f"graphs for {list(buckets)}: {waste:.0%} padding on average")
    axes.legend(frameon=False)
    return show_figure(figure)


def show_cache(int8_cache_bytes: Callable, context: int = 8192):
    """GB that one step of Llama 3 8B reads: its blocks' weights, and the cache in FP16 and in INT8, against the batch."""
    if not ready_to_draw(int8_cache_bytes):
        return None
    batches = 2 ** np.arange(8)
    kv_dim = LLAMA_3_8B_DIMS["kv_dim"]
    weights = LAYERS * block_weights(**LLAMA_3_8B_DIMS) / 1e9
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    axes.plot(batches, [LAYERS * kv_cache_bytes(int(b), context, kv_dim) / 1e9 for b in batches], "o-", color=COLOURS[0],
              label="cache, FP16")
    axes.plot(batches, [LAYERS * int8_cache_bytes(int(b), context, kv_dim // 128, 128) / 1e9 for b in batches], "s-",
              color=COLOURS[1], label="cache, INT8")
    for name, gb, style in (("weights, FP16", 2 * weights, "--"), ("weights, INT8", weights, ":")):
        axes.axhline(gb, color="black", linestyle=style, label=f"{name}, {gb:.1f} GB")
    axes.set(xscale="log", yscale="log", xlabel="batch", ylabel="GB read for one token each",
             title=f"Llama 3 8B, {context:,} tokens in each cache")
    axes.set_xticks(batches, [str(b) for b in batches])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    return show_figure(figure)


def cache_inputs(lengths: tuple[int, ...] = (150, 60), heads: int = 4, kv_heads: int = 2, D: int = 16) -> dict:
    """A query, codes and scales of keys and values, on the CPU."""
    g = torch.Generator().manual_seed(0)
    B, S = len(lengths), max(lengths)
    found: dict[str, Any] = {"q": torch.randn(B, heads, D, generator=g).half()}
    for name in ("k", "v"):
        codes, scale = quantize_int8_perrow_torch(torch.randn(B * kv_heads * S, D, generator=g))
        found |= {f"{name}_q": codes.view(B, kv_heads, S, D), f"{name}_scale": scale.view(B, kv_heads, S)}
    return found | {"lengths": torch.tensor(lengths, dtype=torch.int32)}


def show_parts(attention_parts_int8: Callable, **given):
    """Which tokens of which sequence each program of your kernel read, for the first head of keys."""
    if not ready_to_draw(attention_parts_int8):
        return None
    given = given or cache_inputs()
    B, kv_heads, S, D = given["k_q"].shape
    figure, axes = plt.subplots(figsize=(8, 2.6), layout="constrained")
    spans: dict[tuple[int, ...], set[tuple[int, int]]] = {}
    for access in trace(attention_parts_int8, **given)[-1].accesses:
        if access.tensor == "k_ptr" and access.live.any():
            places = np.unique(access.offsets[access.live] // D)
            spans.setdefault(access.program, set()).update((place // (S * kv_heads), place % S) for place in places.tolist()
                                                           if place // S % kv_heads == 0)
    drawn = {program: tokens for program, tokens in spans.items() if tokens}
    for number, (program, tokens) in enumerate(sorted(drawn.items())):
        sequence, first = min(tokens)
        last = max(tokens)[1] + 1
        axes.barh(sequence, last - first, left=first, color=COLOURS[number % len(COLOURS)], edgecolor="white")
        axes.text((first + last) / 2, sequence, f"program\n{program}\n{last - first} tokens", ha="center", va="center",
                  fontsize=8)
    axes.set(yticks=range(B), yticklabels=[f"sequence {b}" for b in range(B)], xlabel="token in the cache",
             title=f"Lengths {given['lengths'].tolist()}: who reads the first head's keys")
    axes.invert_yaxis()
    return show_figure(figure)


def show_attention_times():
    """µs of attention for one new token: torch's FP16, ours in FP16 and in INT8."""
    def measure():
        return test_perf_attention({name: find(name) for name in ATTENTION}, PLACES)

    found = figures_of(("attention",), measure, mode="eager")
    if found is None:
        return None
    rows, title = found
    us = {(row["M"], row["K"], row["function"]): row["median_us"] for row in rows}
    figure, panels = plt.subplots(2, len(PLACES) // 2, figsize=(7.6, 4.6), layout="constrained")
    for axes, (M, K) in zip(panels.T.flat, PLACES, strict=True):
        times = [us.get((M, K, name), 0) for name in ATTENTION]
        axes.bar(range(len(times)), times, color=COLOURS[:len(times)], label=ATTENTION)
        for place, time in enumerate(times):
            axes.text(place, time, f"{time:,.0f}" if time else "", ha="center", va="bottom", fontsize=8)
        axes.set_xticks([])
        axes.margins(y=0.15)
        axes.set_title(f"batch {M}, {K:,} tokens", fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("µs")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"Attention of one new token, heads of Llama 3 8B\n{title}", fontsize=10)
    return show_figure(figure)


def show_formats(quantize_asymmetric: Callable, clipped_scale: Callable):
    """SQNR of three kinds of rows: symmetric INT8, with a zero point; and symmetric INT4, not clipped and clipped."""
    if not (ready_to_draw(quantize_asymmetric) and ready_to_draw(clipped_scale)):
        return None
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 512, generator=g)
    spiked = x.clone()
    spiked[:, 0] = 40
    kinds = {"normal numbers": x, "after SiLU": F.silu(3 * x), "with one outlier": spiked}
    ways: dict[str, Callable] = {
        "INT8, symmetric": lambda x: dequantized(*quantize_int8_perrow_torch(x)),
        "INT8, zero point": lambda x: with_zero(*quantize_asymmetric(x)),
        "INT4, amax / 7": lambda x: torch.cat([clipped(row, float(row.abs().amax()) / 7, 7) for row in x.split(1)]),
        "INT4, clipped": lambda x: torch.cat([clipped(row, clipped_scale(row, 7, 40), 7) for row in x.split(1)])}
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for index, (name, way) in enumerate(ways.items()):
        values = [sqnr_db(x, way(x)) for x in kinds.values()]
        places = [place + 0.21 * (index - 1.5) for place in range(len(kinds))]
        axes.bar(places, values, 0.2, color=COLOURS[index], label=name)
        for place, value in zip(places, values, strict=True):
            axes.text(place, value, f"{value:.1f}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set(ylabel="SQNR, dB", title="What is left of a row of 512 numbers")
    axes.margins(y=0.15)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return show_figure(figure)


def dequantized(q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return q * scale[:, None]


def with_zero(q: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    return (q.int() - zero[:, None]) * scale[:, None]


def clipped(x: torch.Tensor, scale: float, largest: int) -> torch.Tensor:
    return (x / scale).round().clamp(-largest, largest) * scale


def show_groups(K: int = 512, outlier: int = 200):
    """One row with an outlier: its magnitudes, and the steps of its codes with one scale and with one for each group."""
    x = torch.randn(1, K, generator=torch.Generator().manual_seed(0))
    x[0, outlier] = 40
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    axes.semilogy(x[0].abs(), ".", markersize=3, color="#777777", label="|x|")
    ways = {"for the row": quantize_int8_perrow_torch, f"for each {GROUP_K} numbers": quantize_int8_groups_torch}
    for index, (name, quantize) in enumerate(ways.items()):
        q, scale = quantize(x)
        steps = scale.flatten().repeat_interleave(K // scale.numel())
        ordinary = torch.arange(K) != outlier
        left = sqnr_db(x[0, ordinary], (q[0] * steps)[ordinary])
        axes.step(range(K), steps, where="post", linestyle="-" if index else "--", color=COLOURS[index], linewidth=2,
                  label=f"step, a scale {name}: ordinary numbers at {left:.0f} dB")
    axes.set(xlabel="k", ylabel="magnitude", ylim=(2e-4, 1e2), title="A row with one outlier, and the steps of its codes")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return show_figure(figure)


def compare_groups(group_w8a8_matmul: Callable, M: int = 16, N: int = 64, K: int = 1024) -> None:
    """Print your product by groups beside the one by rows: bits, bytes, and errors with and without an outlier channel."""
    if not ready_to_draw(group_w8a8_matmul):
        return
    g = torch.Generator().manual_seed(0)
    x, w = (torch.randn(rows, K, generator=g).half().to(device()) for rows in (M, N))

    def products(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (perrow_w8a8_matmul_plain(*quantize_int8_perrow(x), *quantize_int8_perrow(w)),
                group_w8a8_matmul(*quantize_int8_groups(x), *quantize_int8_groups(w)))

    rows, groups = products(x[:, :GROUP_K], w[:, :GROUP_K])
    print(f"one group, K = {GROUP_K}: {(rows == groups).double().mean():.0%} of y has the bits of the product by rows")
    shape = MANY, 6144, 2048
    few, many = perrow_w8a8_matmul_bytes(*shape) / 1e6, group_w8a8_matmul_bytes(*shape, GROUP_K) / 1e6
    print(f"M, N, K = {shape}: {few:.1f} MB by rows, {many:.1f} MB by groups, {many / few - 1:.1%} more")
    ordinary = x[:, 1:].double() @ w[:, 1:].double().T
    print("error, of the ordinary channels' part of y:")
    for name, times in (("no outlier", 1), ("channel 0 times 50", 50)):
        larger = torch.cat([x[:, :1] * times, x[:, 1:]], dim=1)
        exact = larger.double() @ w.double().T
        errors = [(y.double() - exact).norm() / ordinary.norm() for y in products(larger, w)]
        print(f"  {name:18}  {errors[0]:5.1%} by rows, {errors[1]:5.1%} by groups")


def show_group_times():
    """µs of the product by groups beside products by rows: the same kernel otherwise, the fastest, and cuBLAS in FP16."""
    shapes = [(MANY, K, N) for K, N in WORKSHOP]
    found = figures_of(("groups",), lambda: test_perf_gemm({name: find(name) for name in BY_GROUPS}, shapes), mode="eager",
                       function=BY_GROUPS)
    if found is None:
        return None
    rows, title = found
    figure, axes = plt.subplots(figsize=(8.2, 3.4), layout="constrained")
    for index, name in enumerate(BY_GROUPS):
        us = {shapes.index((row["M"], row["K"], row["N"])): row["median_us"] for row in rows if row["function"] == name}
        places = [place + 0.21 * (index - 1.5) for place in us]
        bars = axes.bar(places, list(us.values()), 0.2, color=COLOURS[index], label=name)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=2)
    axes.set_xticks(range(len(shapes)), [f"K = {K:,}\nN = {N:,}" for _, K, N in shapes])
    axes.set(ylabel=f"µs, M = {MANY:,}", title=title)
    axes.margins(y=0.12)
    axes.legend(frameon=False, fontsize=9)
    return show_figure(figure)
