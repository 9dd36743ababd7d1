"""The report card of lesson 10: on one page, what INT8 cost a model in accuracy and what it gained a block in time.

A card is JSON with the fields of `FIELDS`. `python3 workshop.py card` makes one on a GPU, with this workshop's own kernels,
and writes it to results/transformer/; the lesson's last cell makes the student's, from what their functions measured.
Whoever reads one (a lesson, a grader) does so through `read_card`, which says what is wrong with a file that is none.
"""

import datetime
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
import triton

from checks.bench import report
from checks.capstone.block import LABELS
from checks.capstone.training import FOLDER
from checks.files import replacing, write_atomically
from kernels.block_cost import block_products
from kernels.runtime import INTERPRETED

SCHEMA = 1
RECORDED = "nvidia_h200.json"
BEGIN, END = "<!-- report card: begin -->", "<!-- report card: end -->"
NUMBER = (int, float)
FIELDS = {"schema": int, "date": str, "torch": str, "triton": str, "accuracy_on": str, "bytes": int, "perplexity": dict,
          "cost_percent": dict, "sqnr_db": dict, "gpu": (str, type(None)), "rows": list}
MADE_BY = ("date", "torch", "triton")
ROW = {"test": str, "function": str, "phase": str, "batch": int, "context": int, "M": int, "mode": str,
       "median_us": NUMBER, "low_us": NUMBER, "high_us": NUMBER}


class BadCard(ValueError):
    """What is given is no report card; the message says why."""


def report_card(perplexity: dict[str, float], sqnr_db: dict[str, float], num_bytes: int, rows: list[dict],
                gpu: str | None, timed: dict[str, str] | None = None) -> dict:
    """A card from measurements.

    perplexity: on the held-out text of `num_bytes` guesses, by variant, "FP16" among them; sqnr_db: of each quantized
    layer's output, by its name; rows: the times of `checks.capstone.block` on a GPU named `gpu`, none without one;
    timed: the date and the versions, by the names of `MADE_BY`, of a run before this one that the times are from.
    Raises BadCard where these do not fit together.
    """
    if "FP16" not in perplexity:
        raise BadCard(f"perplexity must have FP16's, which the others are compared with, got {sorted(perplexity)}")
    card = {
        "schema": SCHEMA, "date": datetime.date.today().isoformat(), "torch": torch.__version__,
        "triton": triton.__version__, "accuracy_on": "CPU" if INTERPRETED else torch.cuda.get_device_name(),
        "bytes": num_bytes, "perplexity": perplexity,
        "cost_percent": {name: 100 * (value / perplexity["FP16"] - 1) for name, value in perplexity.items()},
        "sqnr_db": sqnr_db, "gpu": gpu, "rows": rows}
    if timed is not None:
        card["timed"] = {name: timed[name] for name in MADE_BY}
    check_card(card)
    return card


def check_card(card, where: str = "the card") -> None:
    """Raises BadCard, with what is wrong, unless `card` is a report card."""
    if not isinstance(card, dict):
        raise BadCard(f"{where} must be an object, got {type(card).__name__}")
    if card.get("schema") != SCHEMA:
        raise BadCard(f"{where} must have schema {SCHEMA}, got {card.get('schema')!r}")
    _expect(card, FIELDS, where)
    for name in ("perplexity", "cost_percent", "sqnr_db"):
        for key, value in card[name].items():
            if isinstance(value, bool) or not isinstance(value, NUMBER) or not -math.inf < value < math.inf:
                raise BadCard(f"{where}: {name} of {key} must be a finite number, got {value!r}")
    if not all(value >= 1 for value in card["perplexity"].values()) or "FP16" not in card["perplexity"]:
        raise BadCard(f"{where}: perplexity must have FP16's, and none below 1, got {card['perplexity']}")
    if card["cost_percent"].keys() != card["perplexity"].keys() or any(
            abs(card["cost_percent"][name] - 100 * (value / card["perplexity"]["FP16"] - 1)) > 1e-6
            for name, value in card["perplexity"].items()):
        raise BadCard(f"{where}: cost_percent must be how far each perplexity lies above FP16's, got {card['cost_percent']}")
    for number, row in enumerate(card["rows"]):
        _expect(row, ROW, f"{where}: row {number}")
        if not 0 < row["low_us"] <= row["median_us"] <= row["high_us"]:
            raise BadCard(f"{where}: row {number} needs 0 < low_us <= median_us <= high_us, got {row}")
    if "timed" in card:
        _expect(card["timed"], dict.fromkeys(MADE_BY, str), f"{where}: timed")
    if card["rows"] and card["gpu"] is None:
        raise BadCard(f"{where} has times but no gpu: name the GPU that they were measured on")


def _expect(found, fields: dict, where: str) -> None:
    if not isinstance(found, dict):
        raise BadCard(f"{where} must be an object, got {type(found).__name__}")
    for name, kind in fields.items():
        if name not in found:
            raise BadCard(f"{where} has no {name!r}")
        if isinstance(found[name], bool) or not isinstance(found[name], kind):
            raise BadCard(f"{where}: {name} must be {kind}, got {found[name]!r}")


def write_card(card: dict, path: Path, draw: Callable | None = None):
    """Write a card to `path` (.json) and, with `draw`, its picture beside it (.png), each whole or not at all.

    `draw(card)` gives a matplotlib figure, which is returned; None without `draw`.
    """
    check_card(card)
    write_atomically(path, json.dumps(card, indent=1, allow_nan=False) + "\n")
    if draw is None:
        return None
    figure = draw(card)
    with replacing(path.with_suffix(".png")) as draft:
        figure.savefig(draft, format="png", dpi=120, metadata={"Software": None})
    return figure


def read_card(path: Path) -> dict:
    """The card in a file. Raises BadCard where it is none, FileNotFoundError where there is no file."""
    return parse_card(Path(path).read_bytes(), str(path))


def parse_card(data: bytes, where: str) -> dict:
    """The card in the bytes of a file, whoever wrote it. Raises BadCard, and nothing else, where it is none."""
    try:
        card = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadCard(f"{where} is not whole JSON: {error}") from None
    try:
        check_card(card, where)
    except OverflowError as error:
        raise BadCard(f"{where} has a number that is too large: {error}") from None
    return card


def speedups(rows: list[dict], variant: str, baseline: str = "FP16") -> dict[tuple, float]:
    """How many times as fast whole blocks are as the baseline's in the same place, by (phase, batch, context, mode).

    Rows of modes that `block_rows` does not make (any more) do not count.
    """
    def by_place(function):
        return {(row["phase"], row["batch"], row["context"], row["mode"]): row["median_us"] for row in rows
                if row["test"] == "block" and row["function"] == function and row["mode"] in LABELS}

    ours = by_place(variant)
    return {place: us / ours[place] for place, us in by_place(baseline).items() if place in ours}


def summary(card: dict) -> str:
    """A card in a sentence: what INT8 cost, on how much text, and whether times are in it."""
    costs = ", ".join(f"{name} {cost:+.2f} %" for name, cost in card["cost_percent"].items() if name != "FP16")
    times = f"{len(card['rows'])} times from an {card['gpu']}" if card["rows"] else "no times"
    if "timed" in card:
        times += f", recorded on {card['timed']['date']} with torch {card['timed']['torch']}"
    return f"perplexity {card['perplexity']['FP16']:.3f} in FP16 on {card['bytes']:,} bytes; {costs or 'no INT8'}; {times}"


def time_now(rows: list[dict], function: str, phase: str, batch: int) -> dict[str, float]:
    """Microseconds by part of a whole FP16 or INT8 block in a CUDA graph: products, quantization, attention, the rest.

    The parts were timed alone, so the rest is what is left of the whole. In decode the products' own kernels quantize x, so
    that it is no part of its own: what was timed as one is another kernel. Raises LookupError where rows are missing.
    """
    us = {(row["test"], row.get("layer"), row["function"]): row["median_us"] for row in rows
          if row["phase"] == phase and row["batch"] == batch and (row["test"] == "block_product" or row["mode"] == "graph")}
    layers = block_products(1, 1, 1)
    try:
        products = sum(us["block_product", layer, function] for layer in layers)
        attention, whole = us["block_product", "attention", "FP16"], us["block", None, function]
        apart = function == "INT8" and phase == "prefill"
        quantization = sum(us["block_product", layer, "quantize"] for layer in layers) if apart else 0.0
    except KeyError as missing:
        raise LookupError(f"no row of {missing} in {phase} with batch {batch}") from None
    return {"products": products - quantization, "quantization": quantization, "attention": attention,
            "norms, rotation, SiLU, sums": max(0.0, whole - products - attention)}


def page_block(card: dict) -> str:
    """What stands between the markers of results/README.md: the recorded card in tables, its losses among them, and
    its picture."""
    accuracy = [[name, f"{value:.4f}", f"{card['cost_percent'][name]:+.2f} %"] for name, value in card["perplexity"].items()]
    us = {(row["phase"], row["batch"], row["context"], row["mode"], row["function"]): row["median_us"]
          for row in card["rows"] if row["test"] == "block"}
    gains = {name: speedups(card["rows"], name) for name in ("INT8", "INT8 fused")}
    times = []
    for place in gains["INT8"]:
        phase, batch, context, mode = place
        what = f"prefill, {context:,} tokens" if phase == "prefill" else f"decode of {batch}, at {context:,}"
        times.append([what, mode, f"{us[*place, 'FP16']:,.0f} µs", *(
            f"{us[*place, name]:,.0f} µs, {gain[place]:.2f}×" if place in gain else "" for name, gain in gains.items())])
    tables = ((f"Perplexity on {card['bytes']:,} held-out bytes (the small model, on {card['accuracy_on']})",
               ["", "perplexity", "above FP16"], accuracy),
              ("A block in Llama 3 8B's shapes, random weights", ["", "mode", "FP16", "INT8", "INT8 fused"], times))
    return (f"Measured on an {card['gpu']} with torch {card['torch']} and Triton {card['triton']}, {card['date']}.\n\n"
            + "\n".join(report.markdown(table) for table in tables)
            + f"\n![The report card: accuracy, SQNR by layer, times of a block, and where they go]"
              f"({FOLDER.name}/{Path(RECORDED).stem}.png)\n")
