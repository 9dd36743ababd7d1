"""Figures of every row that `bench` measures on a GPU, by a formula: what a picture that reads results/ may draw from."""

import contextlib
import functools
import zlib
from collections.abc import Iterator

import torch
from pytest import MonkeyPatch
from synthetic_figures import ROOFS, row

from checks.bench import perf, workloads
from checks.pictures import common, decode, matmul, measuring, perrow_w8a8, quantize, tuning

MODULES = (common, decode, matmul, measuring, perrow_w8a8, quantize, tuning)
GPU = "Some GPU"


def timed(test: str, function: str, M: int, N: int, K: int, mode: str, times: float = 1.0) -> dict:
    """A row whose time, and its spread, no other function at no other shape has."""
    of_its_own = zlib.crc32(f"{function} {M} {N} {K} {mode}".encode()) % 1000
    made = row("quant" if function == "quantize_int8_perrow" else test, function, M, N, K, mode) | {"test": test}
    us = made["median_us"] * times * (1 + of_its_own / 4000) * (40 if test == "attention" else 1) + 12 * (mode == "idle")
    low_us, high_us = us * (0.99 - of_its_own / 50_000), us * (1.01 + of_its_own / 30_000)
    return made | {"median_us": us, "low_us": low_us, "high_us": high_us, "gb_per_s": made["bytes"] / us / 1e3,
                   "tflops": made["flops"] / us / 1e6 if made["flops"] else None}


@functools.cache
def figures() -> dict:
    with MonkeyPatch.context() as patch:
        patch.setattr(workloads, "INTERPRETED", False)
        patch.setattr(workloads, "missing", lambda name: "")
        units = [unit for name, units in workloads.plan().items() if name != "right" for unit in units]
    rows = [timed(unit["name"], function, M, N, K, unit["mode"]) for unit in units
            for M, K, N in [workloads._mkn(unit)] for function in unit["functions"]]
    return {"gpu": GPU, "date": "2026-01-02", "torch": "2", "triton": "3", "roofs": ROOFS, "rows": rows}


@contextlib.contextmanager
def recorded() -> Iterator[MonkeyPatch]:
    """Inside the block these are the recorded figures, for every picture."""
    with MonkeyPatch.context() as patch:
        for module in MODULES:
            if hasattr(module, "recorded"):
                patch.setattr(module, "recorded", figures)
        yield patch


@contextlib.contextmanager
def live() -> Iterator[MonkeyPatch]:
    """Inside the block there seems to be a GPU, which takes three times as long as what is recorded."""
    def each(test, functions, shapes, mode, watcher):
        return [timed(test.name, name, M, N, K, mode, times=3) for M, K, N in shapes for name in functions]

    with recorded() as patch:
        for module in (*MODULES, perf):
            if hasattr(module, "INTERPRETED"):
                patch.setattr(module, "INTERPRETED", False)
        patch.setattr(perf, "_each", each)
        patch.setattr(torch.cuda, "get_device_name", lambda *_: "Live GPU")
        patch.setattr(tuning, "shared_memory_limit", lambda: 232_448)
        patch.setattr(tuning, "_measured", {})
        patch.setattr(measuring, "_measure_here", lambda time_us: (
            [timed("here", name, M, 4096, 4096, "graph", times=3) for M in measuring.ROWS
             for name in (measuring.FP16, measuring.OURS, measuring.INT8)], {name: value / 3 for name, value in ROOFS.items()
                                                                            if isinstance(value, float)}))
        yield patch


CARD_PLACES = (("prefill", 1, 100), ("decode", 4, 50))


def card_rows() -> list[dict]:
    """A block's times: whole and by its parts, in decode twice as long as in prefill."""
    rows = []
    for times, (phase, batch, context) in enumerate(CARD_PLACES, 1):
        place = {"phase": phase, "batch": batch, "context": context}
        for layer in ("q", "k", "v", "o", "gate", "up", "down"):
            rows += [{"test": "block_product", "layer": layer, "function": function, "mode": "eager",
                      "median_us": times * us, **place}
                     for function, us in (("FP16", 10.0), ("INT8", 6.0), ("quantize", 2.0))]
        rows.append({"test": "block_product", "layer": "attention", "function": "FP16", "mode": "eager",
                     "median_us": times * 20.0, **place})
        rows += [{"test": "block", "function": function, "mode": mode, "median_us": times * us * slower, **place}
                 for function, us in (("FP16", 100.0), ("INT8", 72.0), ("INT8 fused", 60.0))
                 for mode, slower in (("eager", 3), ("compile", 2), ("graph", 1))]
    return rows
