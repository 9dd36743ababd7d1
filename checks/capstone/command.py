"""`python3 workshop.py card`: the report card of this workshop's own kernels, on this GPU."""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import torch

from checks.bench import report
from checks.capstone.accuracy import Scheme, layer_sqnr_db, perplexity_of, simulated
from checks.capstone.block import block_rows, product_rows
from checks.capstone.report_card import (
    BEGIN,
    END,
    RECORDED,
    page_block,
    read_card,
    report_card,
    speedups,
    write_card,
)
from checks.capstone.training import FOLDER, load, tokens_of, windows
from kernels.linear import quantize_linears_
from kernels.runtime import INTERPRETED


def main(argv: list[str], draw: Callable | None) -> int:
    """`draw(card)` gives the card's page as a figure; None where nothing can be drawn."""
    parser = argparse.ArgumentParser(prog="workshop.py card", description="Make the report card of lesson 10 on this GPU.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the card (default: results/transformer/)")
    parser.add_argument("--redraw", type=Path, help="only draw the picture of this card again")
    args = parser.parse_args(argv)
    if args.redraw:
        write_and_show(read_card(args.redraw), args.redraw, draw)
        return 0
    if INTERPRETED:
        print("There is no GPU here: a card needs one for its times. Lesson 10 makes yours without. Nothing measured.")
        return 1
    card = measure_card()
    path = args.out / ("".join(c if c.isalnum() else "_" for c in card["gpu"].lower()) + ".json")
    if write_and_show(card, path, draw) is None:
        print(f"no picture: matplotlib is not installed; `workshop.py card --redraw {path}` draws it later")
    for name, cost in card["cost_percent"].items():
        print(f"{name:28} perplexity {card['perplexity'][name]:.4f}  {cost:+.3f} %")
    for variant in ("INT8", "INT8 fused"):
        for (phase, batch, context, mode), times in speedups(card["rows"], variant).items():
            print(f"{phase:8} batch {batch:3} x {context:5} {mode:8} {variant:12} {times:.2f} x FP16")
    print(f"written to {path}")
    return 0


def measure_card() -> dict:
    """The card of this workshop's own kernels on this GPU."""
    model, rows = load(), windows(tokens_of("held_out"))
    perplexity = {"FP16": perplexity_of(model, rows),
                  "INT8 per row": perplexity_of(quantize_linears_(copy.deepcopy(model)), rows)}
    for scheme in (Scheme(truncate=True), Scheme(per="tensor")):
        perplexity[scheme.name] = perplexity_of(simulated(model, scheme), rows)
    times = block_rows() + product_rows()
    return report_card(perplexity, layer_sqnr_db(model, Scheme(), rows), rows[:, 1:].numel(), times,
                       torch.cuda.get_device_name())


def write_and_show(card: dict, path: Path, draw: Callable | None, page: Path = FOLDER.parent / "README.md"):
    """`write_card`; the recorded card goes into results/README.md too, between its markers."""
    figure = write_card(card, path, draw)
    if path.resolve() == (FOLDER / RECORDED).resolve():
        report.put_between(page, BEGIN, END, page_block(card))
    return figure
