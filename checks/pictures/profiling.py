"""Pictures for the lesson on tuning: what a profiler counted for the lessons' kernels, as recorded on a GPU."""

import matplotlib.pyplot as plt
import numpy as np

from checks.bench.profile import profiled, profiles
from checks.pictures.common import show_figure

UNITS = {"dram_pct": "DRAM", "l2_pct": "L2 cache", "tensor_pct": "tensor\ncores", "issue_pct": "instruction\nissue",
         "occupancy_pct": "occupancy"}
SHOWN: list[tuple[str, dict[str, int]]] = [
    ("gemv_fp16", {"N": 65536}), ("gemv_fp16", {"N": 4096}), ("matmul_fp16_naive", {}), ("matmul_fp16", {}),
    ("quantize_int8_perrow_plain", {"K": 2048}), ("quantize_int8_perrow_plain", {"K": 5120}),
    ("quantize_int8_perrow", {"K": 5120}), ("perrow_w8a8_matmul_plain", {}), ("perrow_w8a8_matmul", {}),
    ("skinny_w8a8", {"M": 16}),
]
"""The rows of the picture: the function, and the shape where several were profiled."""

STALLS = {
    "long_scoreboard": "a load from memory or a cache", "gmma": "the tensor cores (wgmma)", "barrier": "the other warps",
    "short_scoreboard": "shared memory", "wait": "a fixed latency", "math_pipe_throttle": "a busy arithmetic unit",
    "not_selected": "its turn: it is ready", "mio_throttle": "the queue to shared memory", "lg_throttle":
    "the queue to memory", "selected": "nothing: it executes", "no_instruction": "its next instruction",
    "dispatch_stall": "the dispatcher", "drain": "its last stores", "imc_miss": "a constant", "branch_resolving": "a branch",
    "membar": "a fence", "sleeping": "sleep", "tex_throttle": "the queue to the texture unit", "misc": "something else",
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
    return show_figure(profile_figure(shown_profiles(), f"Nsight Compute on an {profiles()['gpu']}, recorded"))


def profile_figure(rows: list[dict], title: str):
    """Kernels by units: per cent of the peak; beside them, what the warps wait for."""
    parts = np.array([[row[unit] for unit in UNITS] for row in rows])
    figure, axes = plt.subplots(figsize=(9.4, 1.1 + 0.42 * len(rows)), layout="constrained")
    image = axes.imshow(parts, cmap="cividis_r", vmin=0, vmax=100, aspect="auto")
    for (place, unit), part in np.ndenumerate(parts):
        axes.text(unit, place, f"{part:.0f}", ha="center", va="center", fontsize=9, color="white" if part > 60 else "black")
    axes.set_xticks(range(len(UNITS)), UNITS.values(), fontsize=9)
    axes.set_yticks(range(len(rows)), [f"{row['function']} ({_shape(row)})" for row in rows], fontsize=8)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(rows)), ["{} {:.0f} %".format(*most_waited_for(row)) for row in rows], fontsize=8)
    beside.set_ylabel("warps wait most for", fontsize=8)
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axes, label="% of the peak", pad=0.02)
    return figure


def _shape(row: dict) -> str:
    sizes = (row["M"], row["K"], row["N"]) if row["N"] > 1 else (row["M"], row["K"])
    return ", ".join(f"{size:,}" for size in sizes)


def show_tree() -> None:
    """Print the tree that Triton's profiler Proton recorded: microseconds of a call, and each kernel's part of its scope."""
    for scope in profiles()["proton"]["children"]:
        calls = max(kernel["calls"] for kernel in scope["children"])
        print(f"{scope['us'] / calls:7.1f} us  {scope['name']}, {scope['flops'] / scope['us'] / 1e6:,.0f} T operations/s")
        for kernel in sorted(scope["children"], key=lambda kernel: -kernel["us"]):
            print(f"{kernel['us'] / calls:7.1f} us    {kernel['us'] / scope['us']:4.0%}  {kernel['name']}")
