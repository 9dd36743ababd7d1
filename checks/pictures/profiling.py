"""Pictures for the lesson on tuning: what a profiler counted for the lessons' kernels, as recorded on a GPU."""

import re

import matplotlib.pyplot as plt
import numpy as np
import torch

from checks.bench.profile import profiled, profiles
from checks.pictures.common import ready_to_draw, show_figure

UNITS = {"dram_pct": "DRAM", "l2_pct": "L2\ncache", "tensor_pct": "tensor\ncores", "issue_pct": "instr.\nissue",
         "occupancy_pct": "occu-\npancy"}
SHOWN: list[tuple[str, dict[str, int]]] = [
    ("gemv_fp16", {"N": 65536}), ("gemv_fp16", {"N": 4096}), ("matmul_fp16_naive", {}), ("matmul_fp16", {}),
    ("quantize_int8_perrow_plain", {"K": 2048}), ("quantize_int8_perrow_plain", {"K": 5120}),
    ("quantize_int8_perrow", {"K": 5120}), ("perrow_w8a8_matmul_plain", {}), ("perrow_w8a8_matmul", {}),
    ("skinny_w8a8", {"M": 16, "K": 4096}), ("split_k_w8a8", {"M": 16, "K": 4096}),
    ("split_k_w8a8", {"M": 16, "K": 4096, "launch": 1}),
]
"""The rows of the picture: the function, and the shape and the launch where several were profiled."""

STALLS = {
    "long_scoreboard": "a load from memory or a cache", "gmma": "the tensor cores (wgmma)",
    "barrier": "its program's other warps", "short_scoreboard": "shared memory", "wait": "its last instruction",
    "math_pipe_throttle": "a busy arithmetic unit", "not_selected": "its turn: it is ready",
    "mio_throttle": "the queue to shared memory", "lg_throttle": "the queue to memory", "selected": "nothing: it executes",
    "no_instruction": "its next instruction", "dispatch_stall": "the dispatcher", "drain": "its last stores",
    "imc_miss": "a constant", "branch_resolving": "a branch", "membar": "a fence", "sleeping": "sleep",
    "tex_throttle": "the queue to the texture unit", "misc": "something else",
}
"""What a warp waits for, in words (NVIDIA, Nsight Compute, Kernel Profiling Guide, "Warp Scheduler States")."""


def most_waited_for(row: dict) -> tuple[str, float]:
    """For what the warps of a profile wait longest, in words, and the part of their cycles in per cent."""
    reason, part = next((reason, part) for reason, part in row["stalls"].items() if reason != "selected")
    return STALLS[reason], part


def shown_profiles() -> list[dict]:
    """The recorded rows that the picture draws."""
    return [profiled(name, **shape) for name, shape in SHOWN]


def show_profiles():
    """What of its peak each unit reaches in kernels of the lessons, and what their warps wait for, as recorded."""
    title = f"Nsight Compute on an {profiles()['gpu']}, recorded: % of the peak"
    return show_figure(profile_figure(shown_profiles(), title))


def profile_figure(rows: list[dict], title: str):
    """Kernels by units: per cent of the peak; beside them, what the warps wait for."""
    parts = np.array([[row[unit] for unit in UNITS] for row in rows])
    figure, axes = plt.subplots(figsize=(7.6, 1.1 + 0.4 * len(rows)), layout="constrained")
    axes.imshow(parts, cmap="cividis_r", vmin=0, vmax=100, aspect="auto")
    for (place, unit), part in np.ndenumerate(parts):
        axes.text(unit, place, f"{part:.0f}", ha="center", va="center", fontsize=9, color="white" if part > 60 else "black")
    axes.set_xticks(range(len(UNITS)), UNITS.values(), fontsize=9)
    axes.set_yticks(range(len(rows)), [_name(row) for row in rows], fontsize=8)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(rows)), ["{} {:.0f} %".format(*most_waited_for(row)) for row in rows], fontsize=8)
    axes.text(1.03, 1.01, "warps wait most for", transform=axes.transAxes, fontsize=9)
    axes.set_title(title, fontsize=10, loc="right", pad=20)
    return figure


def _name(row: dict) -> str:
    sizes = (row["M"], row["K"], row["N"]) if row["N"] > 1 else (row["M"], row["K"])
    launch = ", 2nd launch" if row["launch"] else ""
    return f"{row['function']} ({', '.join(f'{size:,}' for size in sizes)}){launch}"


CHANGES: list[tuple[str, tuple[str, ...], dict[str, int]]] = [
    ("matmul_fp16_naive", ("matmul_fp16_grouped", "matmul_fp16"), {}),
    ("quantize_int8_perrow_plain", ("quantize_int8_perrow_long", "quantize_int8_perrow"), {"K": 5120}),
    ("skinny_w8a8", ("split_k_w8a8",), {"M": 16, "K": 4096}),
]
"""Kernels, what they were changed to, and the shape."""
WORKING = ("dram_pct", "l2_pct", "tensor_pct", "issue_pct")


def times_of_work(now: dict, after: dict) -> list[float]:
    """By how much a change multiplied the work of each unit of WORKING: bytes, bytes, products (as many), instructions."""
    dram, before = (row["dram_read_bytes"] + row["dram_written_bytes"] for row in (after, now))
    return [dram / before, after["l2_bytes"] / now["l2_bytes"], 1.0, after["instructions"] / now["instructions"]]


def show_changes(better_change) -> None:
    """Print the time of recorded changes as your function predicts it from the profile before, and as it was measured."""
    if not ready_to_draw(better_change):
        return
    for name, changed, shape in CHANGES:
        now, after = profiled(name, **shape), [profiled(other, **shape) for other in changed]
        pct = torch.tensor([float(now[unit]) for unit in WORKING])
        print(f"{name}: {now['us']:.1f} us")
        for other, row in zip(changed, after, strict=True):
            _, us = better_change(now["us"], pct, torch.tensor([times_of_work(now, row)]))
            print(f"    {other:26} predicted {us:6.1f} us, measured {row['us']:6.1f} us")


def show_tree() -> None:
    """Print the tree that Triton's profiler Proton recorded: microseconds of a call, and each kernel's part of its scope."""
    for scope in profiles()["proton"]["children"]:
        calls = max(kernel["calls"] for kernel in scope["children"])
        speed = scope["flops"] / scope["us"] / 1e6
        print(f"{scope['us'] / calls:6.1f} us        {scope['name']}: {speed:,.0f} TFLOPS or TOPS")
        for kernel in sorted(scope["children"], key=lambda kernel: -kernel["us"]):
            name = re.sub(r"^_ZN\d+[a-z]+?Lt\d+", "", kernel["name"])[:44]  # a name as the C++ compiler writes it
            print(f"{kernel['us'] / calls:6.1f} us  {kernel['us'] / scope['us']:4.0%}    {name}")
