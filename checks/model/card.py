"""The card of a model in INT8: what was measured, in one JSON object, and the page that is printed of it."""

import math
import statistics
from collections.abc import Iterable
from typing import Any

import torch

from checks.capstone.accuracy import cost_percent
from kernels.serving import paired_difference

SCHEMA = 1
WORST = 5
NO_SPEED = ("Speed: none. There is no GPU here, and a CPU's times, or the interpreter's, say nothing about the kernels. The "
            "accuracy, SQNR, text and memory above hold on a GPU too: INT8 sums are exact, and FP16 rounds almost alike.")
RANDOM = "Its weights are random: speed and memory are real, accuracy and text are not."


def accuracy(losses: dict[str, list[float]]) -> dict[str, Any]:
    """Perplexities, and what INT8 costs with its standard error, from each side's losses of the same windows."""
    (baseline, before), (_, after) = losses.items()
    perplexity = {name: math.exp(statistics.fmean(values)) for name, values in losses.items()}
    return {"losses": losses, "perplexity": perplexity,
            "cost_percent": cost_percent(perplexity["INT8"], perplexity[baseline]),
            "standard_error_percent": 100 * paired_difference(torch.tensor(before), torch.tensor(after))[1]}


def page(card: dict[str, Any]) -> str:
    """The card as text."""
    return "\n".join([*_head(card), *_accuracy(card), *_layers(card), *_sample(card), *_memory(card), *_speed(card)])


def _head(card: dict[str, Any]) -> Iterable[str]:
    yield f"{card['model']}: {card['architecture']}, {card['parameters']:,} parameters, {card['dtype']}"
    yield (f"torch {card['torch']}, Triton {card['triton']}, transformers {card['transformers']}, "
           f"{card['gpu'] or 'no GPU'}, {card['date']}")
    if card["random"]:
        yield RANDOM


def _accuracy(card: dict[str, Any]) -> Iterable[str]:
    base, found = card["dtype"], card["accuracy"]
    cost, error = found["cost_percent"], found["standard_error_percent"]
    yield ""
    yield f"Perplexity on {card['windows']} windows of {card['window']} tokens of {card['text']}"
    yield f"  {base} {found['perplexity'][base]:.4f}, INT8 {found['perplexity']['INT8']:.4f}: {cost:+.3f} % ± {error:.3f} %"
    if error:
        yield (f"  {abs(cost) / error:.1f} standard errors: " + (
            "more than chance explains" if abs(cost) > 2 * error else "no more than chance explains"))


def _layers(card: dict[str, Any]) -> Iterable[str]:
    order = sorted(card["sqnr_db"].items(), key=lambda layer: layer[1])
    yield ""
    yield f"SQNR of {len(order)} INT8 layers: median {statistics.median(card['sqnr_db'].values()):.1f} dB, the worst"
    for name, value in order[:WORST]:
        yield f"  {value:6.1f} dB  {name}"
    if card["left"]:
        yield f"  left in {card['dtype']}: {', '.join(card['left'])}"


def _sample(card: dict[str, Any]) -> Iterable[str]:
    yield ""
    yield f"After {card['sample']['prompt']!r}, the likeliest token each time:"
    for name in (card["dtype"], "INT8"):
        yield f"  {name}: {card['sample'][name]!r}"


def _memory(card: dict[str, Any]) -> Iterable[str]:
    base, memory = card["dtype"], card["memory"]
    yield ""
    yield (f"Weights: {base} {memory[base] / 1e9:.3f} GB, INT8 {memory['INT8'] / 1e9:.3f} GB; cache of keys and values, "
           f"{memory['cache_bytes_per_token']:,} bytes a token")


def _speed(card: dict[str, Any]) -> Iterable[str]:
    yield ""
    if not card["speed"]:
        yield NO_SPEED
        return
    base = card["dtype"]
    rows = {(row["batch"], row["mode"], row["function"]): row for row in card["speed"]}
    yield f"{'tokens per second':34}{base:>12}{'INT8':>12}{'gain':>8}"
    for batch, mode, function in rows:
        if function != base:
            continue
        ours, theirs = rows[batch, mode, "INT8"], rows[batch, mode, base]
        for phase in ("prefill", "decode"):
            a, b = theirs[f"{phase}_tokens_per_s"], ours[f"{phase}_tokens_per_s"]
            if phase == "decode" or mode == "eager":  # a prefill is never compiled
                yield f"  {f'{phase}, batch {batch}, {mode}':32}{a:12,.0f}{b:12,.0f}{b / a:7.2f}×"
