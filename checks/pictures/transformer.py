"""Pictures for the lesson on a whole transformer, from what its functions measured and from recorded figures."""

import functools
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from checks.bench.figures import COLOURS
from checks.capstone import accuracy, block, report_card
from checks.capstone.accuracy import Scheme, recorded_accuracy
from checks.capstone.training import FOLDER, tokens_of, windows
from checks.capstone.waiting import Bar
from checks.pictures.common import ready_to_draw, show_figure
from kernels import transformer
from kernels.block_cost import LLAMA_3_8B_DIMS, block_weights, products_fp16_us, products_int8_us
from kernels.quantize import quantize_int8_perrow_torch
from kernels.runtime import INTERPRETED, device
from kernels.transformer import Transformer

VARIANTS = {"FP16": "#555555", "INT8": COLOURS[0], "INT8 fused": COLOURS[2]}
PARTS = ("products", "quantization", "attention", "norms, rotation, SiLU, sums")
PERCENT = FuncFormatter(lambda value, _: f"{value:g} %")


def show_bits():
    """What each scheme costs the trained model against its bits, as recorded on the whole held-out text."""
    record = recorded_accuracy()
    figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
    looks = {("row", False): ("a scale per row, rounded", COLOURS[0], "o-"),
             ("row", True): ("per row, truncated", COLOURS[1], "s--"),
             ("tensor", False): ("a scale per tensor, rounded", COLOURS[5], "D-.")}
    for (per, truncate), (label, colour, style) in looks.items():
        mine = [s for s in record["schemes"] if (s["per"], s["truncate"]) == (per, truncate)]
        axes.plot([s["bits"] for s in mine], [s["cost_percent"] for s in mine], style, color=colour, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set(xlabel="bits of a code", ylabel="perplexity above FP16's", xticks=[4, 5, 6, 7, 8],
             title=f"Held-out text, {record['bytes']:,} bytes, FP16 perplexity {record['fp16_perplexity']:.3f}")
    axes.title.set_fontsize(10)
    axes.legend(frameon=False, loc="upper right")
    return show_figure(figure)


def show_outliers():
    """What INT8 costs the same model when one channel in front of most layers is made larger, as recorded."""
    record = recorded_accuracy()["outliers"]
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    looks = {"FP16": ("#555555", "^:"), "INT8 per row": (COLOURS[0], "o-"), "INT8 per tensor": (COLOURS[5], "D-.")}
    for name, (colour, style) in looks.items():
        mine = [point for point in record if point["name"] == name]
        axes.plot([p["factor"] for p in mine], [p["cost_percent"] for p in mine], style, color=colour, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("symlog", linthresh=0.1)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda factor, _: f"{factor:g}"))
    axes.set(xlabel="how many times as large channel 0 is", ylabel="perplexity above FP16's",
             xticks=sorted({point["factor"] for point in record}), ylim=(-0.03, 100))
    axes.legend(frameon=False)
    return show_figure(figure)


def show_layers(**sqnr_db: dict[str, float]):
    """SQNR of every layer's output in the order of the model, for each named dict of decibels by layer."""
    figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
    names = list(next(iter(sqnr_db.values())))
    for (label, found), marker, colour in zip(sqnr_db.items(), "oDs", (COLOURS[0], COLOURS[5], COLOURS[2]), strict=False):
        axes.plot(range(len(names)), [found[name] for name in names], marker, color=colour, label=label.replace("_", " "))
    kinds = [name.rpartition(".")[2] for name in names]
    axes.set_xticks(range(len(names)), ["head" if kind == "lm_head" else kind for kind in kinds], rotation=90, fontsize=8)
    for place, kind in enumerate(kinds):
        if kind == "q":
            axes.axvline(place - 0.5, color="#CCCCCC", linewidth=1)
            axes.annotate(f"block {kinds[:place].count('q')}", (place, 1), xycoords=("data", "axes fraction"), va="bottom",
                          fontsize=9)
    axes.set(ylabel="SQNR of the output in dB")
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    return show_figure(figure)


def sample_rows() -> torch.Tensor:
    """Every seventh row of the held-out text, of which each of its documents has some: (34, 128), quick to evaluate."""
    return windows(tokens_of("held_out"))[::7]


class YourLinear(torch.nn.Module):
    """A linear layer that computes with a student's function."""

    def __init__(self, linear: torch.nn.Linear, function):
        super().__init__()
        self.function, self.bias = function, linear.bias
        self.w_q, self.w_scale = quantize_int8_perrow_torch(linear.weight.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, self.w_q, self.w_scale, self.bias)


@torch.no_grad()
def show_cost(model: Transformer, int8_linear, perplexity):
    """The perplexity of each piece of text in FP16 and with your linear layer in place of every other, by your function."""
    if not (ready_to_draw(int8_linear) and ready_to_draw(perplexity)):
        return None
    rows = sample_rows().to(device())
    yours = accuracy.with_linears(model, lambda linear: YourLinear(linear, int8_linear))
    logits = {}
    names = list(accuracy.linears(model))
    bar = Bar("layers", 2 * len(names))
    for name, each in (("FP16", model), ("INT8", yours)):
        handles = [each.get_submodule(layer).register_forward_hook(lambda *_: bar.advance()) for layer in names]
        logits[name] = each(rows)
        for handle in handles:
            handle.remove()
    found = {name: perplexity(values, rows) for name, values in logits.items()}
    pieces = {name: [perplexity(values[i:i + 1], rows[i:i + 1]) for i in range(len(rows))]
              for name, values in logits.items()}
    error = accuracy.standard_error_percent(pieces["INT8"], pieces["FP16"])
    figure, axes = plt.subplots(figsize=(5, 4.4), layout="constrained")
    ends = [min(pieces["FP16"]) * 0.9, max(pieces["FP16"]) * 1.1]
    axes.plot(ends, ends, color="black", linewidth=1)
    axes.plot(pieces["FP16"], pieces["INT8"], "o", color=COLOURS[0], alpha=0.7)
    axes.set(xscale="log", yscale="log", xlabel="perplexity in FP16", ylabel="perplexity in INT8",
             title=f"{len(rows)} pieces of {rows.shape[1] - 1} bytes, perplexity {found['FP16']:.4f} in FP16,\n"
             f"{found['INT8']:.4f} in INT8 ({accuracy.cost_percent(found['INT8'], found['FP16']):+.3f} ± {error:.3f} %)")
    axes.title.set_fontsize(9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        axis.set_ticks([2, 3, 4, 6, 8, 12])
    return show_figure(figure)


BYTES_A_SECOND = 4.8e12  # an H200's datasheet


def frontier_points(model: Transformer, layers_to_skip) -> dict[str, tuple[float, float]]:
    """(µs, percent) by name: the predicted time to read an 8B block's weights, and the small model's cost in perplexity.

    INT4 but for some layers: those that `layers_to_skip` picks, by the costs recorded for each alone, are in INT8.
    """
    rows, names = sample_rows(), accuracy.linears(model)
    weights = torch.tensor([linear.weight.numel() for linear in names.values()])
    costs = {layer["name"]: layer["cost_percent"] for layer in recorded_accuracy()["layers"]}
    cost = torch.tensor([costs[name] for name in names], dtype=torch.float64)
    on_device = rows.to(device())
    baseline = transformer.perplexity(accuracy.logits_of(model, None, on_device), on_device)
    us = block_weights(**LLAMA_3_8B_DIMS) / BYTES_A_SECOND * 1e6  # for one byte a weight

    bar = Bar("points", 10)

    def point(scheme: Scheme, bytes_a_weight: float, only=None) -> tuple[float, float]:
        bar.advance()
        if only is None:
            quantized = transformer.perplexity(accuracy.logits_of(model, scheme, on_device), on_device)
        else:
            mixed = accuracy.simulated(accuracy.simulated(model, scheme, only), Scheme())  # INT8 where `scheme` is not
            quantized = accuracy.perplexity_of(mixed, rows)
        return us * bytes_a_weight, accuracy.cost_percent(quantized, baseline)

    points = {"FP16": (2 * us, 0.0)}
    for scheme in (Scheme(), Scheme(truncate=True), Scheme(per="tensor"), Scheme(6), Scheme(4), Scheme(4, per="tensor")):
        points[scheme.name] = point(scheme, scheme.bits / 8)
    for budget in (0.1, 0.25, 0.5):
        skip = layers_to_skip(cost, weights, budget)
        share = float(weights[skip].sum() / weights.sum())
        kept = [name for name, skipped in zip(names, skip.tolist(), strict=True) if not skipped]
        points[f"INT4, {share:.0%} in INT8"] = point(Scheme(4), 1 * share + 0.5 * (1 - share), kept)
    bar.advance()
    return points


def show_frontier(model: Transformer, layers_to_skip, pareto_front):
    """Predicted time against measured cost for ten ways to store the weights, and the front that your function finds."""
    if not (ready_to_draw(layers_to_skip) and ready_to_draw(pareto_front)):
        return None
    points = frontier_points(model, layers_to_skip)
    front = pareto_front(*torch.tensor(list(points.values()), dtype=torch.float64).T)
    return show_figure(frontier_figure(points, front.tolist()))


def frontier_figure(points: dict[str, tuple[float, float]], front: list[bool]):
    """Points by name: (µs, percent of perplexity above FP16's); `front` says which nothing dominates."""
    figure, axes = plt.subplots(figsize=(7.6, 4.4), layout="constrained")
    frontier = sorted(point for point, on in zip(points.values(), front, strict=True) if on)
    axes.plot(*zip(*frontier, strict=True), color=COLOURS[0], linewidth=1, zorder=1)
    for (name, (us, cost)), on in zip(points.items(), front, strict=True):
        axes.plot(us, cost, "o" if on else "x", color=COLOURS[0] if on else COLOURS[5], zorder=2)
        axes.annotate(name, (us, cost), xytext=(-6, -3) if on else (6, 2), textcoords="offset points", fontsize=8,
                      ha="right" if on else "left", va="top" if on else "bottom", color="black" if on else "#666666")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.margins(x=0.25, y=0.08)
    axes.set_ylim(bottom=min(-0.04, 1.3 * min(cost for _, cost in points.values())))
    axes.set(xlabel="predicted µs to read the weights of a Llama-3-8B block", title="●  nothing is better in both     ×  "
             "something is", ylabel="small model's perplexity above FP16's")
    axes.title.set_fontsize(10)
    return figure


def block_card() -> dict | None:
    """The times of a block in Llama 3 8B's shapes: measured now where there is a GPU, else those recorded on one.

    None, and a sentence, where there is neither.
    """
    if INTERPRETED:
        path = FOLDER / report_card.RECORDED
        if path.exists():
            return report_card.read_card(path)
        print("○ No GPU here, and no times recorded from one: `python3 workshop.py card` on a GPU records them.")
        return None
    places = [block.PLACES[0], block.PLACES[2]]  # each takes torch.compile a while
    rows = [row for measure in (block.block_rows, block.product_rows) for row in measure(places=places, say=lambda _: None)]
    return {"gpu": torch.cuda.get_device_name(), "rows": rows}


def show_block(card: dict | None):
    """How long a whole block took in each place and mode, in FP16 and INT8."""
    if card is None:
        return None
    rows = [row for row in card["rows"] if row["test"] == "block"]
    places = _places(rows)
    height = -(-len(places) // 2)
    figure, panels = plt.subplots(height, 2, figsize=(7.6, 0.6 + 2.8 * height), squeeze=False, layout="constrained")
    for axes, place in zip(panels.flat, places, strict=True):
        here = [row for row in rows if (row["phase"], row["batch"], row["context"]) == place]
        _bars(axes, here, [mode for mode in block.MODES if any(row["mode"] == mode for row in here)])
        axes.set_title(_place(*place).replace("\n", ", "), fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("µs")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"One block of Llama 3 8B, random weights, {_where(card)}", fontsize=11)
    return show_figure(figure)


def _bars(axes, rows: list[dict], modes) -> None:
    for index, (name, colour) in enumerate(VARIANTS.items()):
        us = [next((row["median_us"] for row in rows if (row["function"], row["mode"]) == (name, mode)), 0)
              for mode in modes]
        places = [place + 0.27 * (index - 1) for place in range(len(modes))]
        axes.bar(places, us, 0.25, color=colour, label=name)
        for place, height in zip(places, us, strict=True):
            if height:  # nothing stands where nothing was measured
                axes.annotate(f"{height:,.0f}", (place, height), ha="center", va="bottom", fontsize=8, rotation=90,
                              xytext=(0, 2), textcoords="offset points")
    axes.margins(y=0.3)
    long = any(len(mode) > 10 and "\n" not in mode for mode in modes)
    axes.set_xticks(range(len(modes)), modes, fontsize=8, rotation=30 if long else 0, ha="right" if long else "center",
                    rotation_mode="anchor")


def _places(rows: list[dict]) -> list[tuple[str, int, int]]:
    """Where whole blocks were timed: (phase, batch, context), in the order of the rows."""
    return list(dict.fromkeys((row["phase"], row["batch"], row["context"]) for row in rows if row["test"] == "block"))


def _place(phase: str, batch: int, context: int) -> str:
    return f"prefill\n{context:,} tokens" if phase == "prefill" else f"decode of {batch}\nat {context:,}"


def _where(card: dict) -> str:
    return f"recorded on an {card['gpu']}" if INTERPRETED else f"measured now on this {card['gpu']}"


def show_time_now(card: dict | None):
    """Where the time of a block goes in FP16 and in INT8: parts timed alone, and what they leave of a CUDA graph's time."""
    if card is None:
        return None
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    draw_time_now(axes, card["rows"])
    axes.set_title(f"Where a block's time goes, each part timed alone, {_where(card)}", fontsize=10)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return show_figure(figure)


def draw_time_now(axes, rows: list[dict]) -> None:
    places = _places(rows)
    bars = [(place, function) for place in places for function in ("FP16", "INT8")]
    for height, (place, function) in enumerate(bars):
        found, left = report_card.time_now(rows, function, *place[:2]), 0.0
        total = sum(found.values())
        for part, colour in zip(PARTS, COLOURS, strict=False):
            share = found[part] / total
            axes.barh(height, share, left=left, color=colour, label=part if height == 0 else None)
            if share > 0.06:
                axes.text(left + share / 2, height, f"{share:.0%}", ha="center", va="center", fontsize=8,
                          color="white" if colour == COLOURS[0] else "black")
            left += share
        axes.annotate(f"{total:,.0f} µs", (1, height), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    labels = [f"{_place(*place)}".replace("\n", ", ") + f": {function}" for place, function in bars]
    axes.set_yticks(range(len(bars)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.16), xticks=[])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def print_products(card: dict | None) -> None:
    """The least time of a block's seven products by the roofline of an H200's datasheet, beside the sum of their times."""
    if card is None:
        return
    print(f"{'':28} {'FP16: least':>12} {'measured':>9}    {'INT8: least':>12} {'measured':>9}")
    for place in _places(card["rows"]):
        M = place[2] if place[0] == "prefill" else place[1]
        fp16 = products_fp16_us(M, **LLAMA_3_8B_DIMS, tflops=989, gb_per_s=4800)
        int8 = products_int8_us(M, **LLAMA_3_8B_DIMS, tops=1979, gb_per_s=4800)
        found = [report_card.time_now(card["rows"], name, *place[:2]) for name in ("FP16", "INT8")]
        met = [parts["products"] + parts["quantization"] for parts in found]
        print(f"{_place(*place).replace(chr(10), ', '):28} {fp16:9,.0f} us {met[0]:6,.0f} us    "
              f"{int8:9,.0f} us {met[1]:6,.0f} us")


def print_amdahl(amdahl_speedup, card: dict | None) -> None:
    """What Amdahl's law, by your function, says of the whole block from its products' speed-up, beside what was measured."""
    if card is None or not ready_to_draw(amdahl_speedup):
        return
    print(f"{'':36} {'part of the':>12} {'its':>9} {'predicted':>10} {'measured':>9}")
    print(f"{'':36} {'FP16 time':>12} {'speed-up':>9} {'':>10} {'':>9}")
    for place in _places(card["rows"]):
        before, after = (report_card.time_now(card["rows"], name, *place[:2]) for name in ("FP16", "INT8"))
        fraction = before["products"] / sum(before.values())
        speedup = before["products"] / (after["products"] + after["quantization"])
        measured = report_card.speedups(card["rows"], "INT8")[*place, "graph"]
        print(f"{_place(*place).replace(chr(10), ', '):36} {fraction:12.0%} {speedup:9.2f} "
              f"{amdahl_speedup(fraction, speedup):10.2f} {measured:9.2f}")


@torch.no_grad()
def show_card(model: Transformer, int8_linear, perplexity, card: dict | None, path="report_card.json"):
    """Your report card, written to `path` with its picture beside it: your functions' accuracy, and the times of `card`."""
    if not (ready_to_draw(int8_linear) and ready_to_draw(perplexity)):
        return None
    rows = sample_rows().to(device())
    yours = accuracy.with_linears(model, lambda linear: YourLinear(linear, int8_linear))
    logits: dict[str, Callable[[], torch.Tensor]] = {
        "FP16": lambda: accuracy.logits_of(model, None, rows), "INT8 per row": lambda: yours(rows),
        **{scheme.name: functools.partial(accuracy.logits_of, model, scheme, rows)
           for scheme in (Scheme(truncate=True), Scheme(per="tensor"))}}
    bar, found = Bar("models", len(logits)), {}
    for name, compute in logits.items():
        found[name] = perplexity(compute(), rows)
        bar.advance()
    made = report_card.report_card(found, accuracy.layer_sqnr_db(model, Scheme(), rows), rows[:, 1:].numel(),
                                   card["rows"] if card else [], card["gpu"] if card else None,
                                   card if card and "date" in card else None)
    figure = report_card.write_card(made, Path(path), card_figure)
    print(f"written to {path}")
    return show_figure(figure)


def card_figure(card: dict):
    """A report card's page: accuracy above, time below where the card has times."""
    graphs = [row for row in card["rows"] if row["test"] == "block" and row["mode"] == "graph"]
    height = 2 if graphs else 1
    figure, panels = plt.subplots(height, 2, figsize=(11, 3.8 * height), layout="constrained", width_ratios=[1, 1.1],
                                  squeeze=False)
    costs = {name: cost for name, cost in card["cost_percent"].items() if name != "FP16"}
    axes = panels[0, 0]
    axes.barh(list(costs), list(costs.values()), color=COLOURS[0])
    for place, cost in enumerate(costs.values()):
        axes.annotate(f"{cost:+.2f} %", (max(cost, 0), place), xytext=(4, 0), textcoords="offset points", va="center",
                      fontsize=9)
    axes.margins(x=0.3)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_title(f"Perplexity above FP16's {card['perplexity']['FP16']:.3f}\n({card['bytes']:,} bytes held out, "
                   f"on {card['accuracy_on']})", fontsize=10)
    axes = panels[0, 1]
    names = list(card["sqnr_db"])
    axes.plot(range(len(names)), list(card["sqnr_db"].values()), "o", color=COLOURS[0])
    axes.set_xticks(range(len(names)), [name.removeprefix("blocks.").replace("attention.", "").replace("mlp.", "")
                                        for name in names], rotation=90, fontsize=6.5)
    axes.set_title("SQNR of each quantized layer's output, dB", fontsize=10)
    if graphs:
        places = _places(graphs)
        _bars(panels[1, 0], [{**row, "mode": _place(row["phase"], row["batch"], row["context"])} for row in graphs],
              [_place(*place) for place in places])
        panels[1, 0].tick_params(axis="x", labelsize=7)
        panels[1, 0].set_yscale("log")
        panels[1, 0].set_title(f"A Llama-3-8B block in a CUDA graph, µs, on an {card['gpu']}", fontsize=10)
        panels[1, 0].legend(frameon=False, fontsize=8)
        draw_time_now(panels[1, 1], card["rows"])
        panels[1, 1].legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False, fontsize=8)
        panels[1, 1].set_title("Where its time goes, each part timed alone", fontsize=10)
    timed, times = card.get("timed"), "" if graphs else " · no times: there was no GPU"
    if timed:
        times = f"\ntimes recorded on an {card['gpu']} on {timed['date']}, torch {timed['torch']}, Triton {timed['triton']}"
    figure.suptitle(f"Report card: a transformer in INT8 · {card['date']} · torch {card['torch']}{times}", fontsize=12)
    return figure
