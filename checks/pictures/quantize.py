"""Pictures for the lesson on quantization, from runs of the student's own functions."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from checks.bench import perf
from checks.bench.baselines import BASELINES
from checks.bench.figures import COLOURS, bandwidth_figure
from checks.bench.results import recorded
from checks.exercises import EXERCISES
from checks.judge.source import python_function
from checks.judge.tracing import trace
from checks.pictures.common import figures_of, ready_to_draw, show_figure
from kernels.error import sqnr_db
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import INTERPRETED, device

_WRAPPERS = {exercise.wrapper or name for name, exercise in EXERCISES.items()}


def show_rounding_errors(*functions):
    """Histograms of (q · scale - x) / scale of lesson 04's 256 rows, for each function that makes q and scale of x.

    Draws those that are written; the titles give their SQNR.
    """
    written = [f for f in functions if python_function(f).__name__ not in _WRAPPERS or ready_to_draw(f)]
    if not written:
        return None
    x = torch.randn(256, 2048, generator=torch.Generator().manual_seed(0)).half()
    figure, panels = plt.subplots(len(written), figsize=(7, 0.6 + 1.7 * len(written)), sharex=True, squeeze=False,
                                  layout="constrained")
    for panel, function, colour in zip(panels[:, 0], written, COLOURS, strict=False):
        q, scale = (result.cpu() for result in function(x.to(device())))
        error = ((q.double() * scale.double()[:, None] - x) / scale.double()[:, None]).flatten()
        panel.hist(error.numpy(), bins=np.linspace(-1.2, 1.2, 97), density=True, color=colour)
        panel.set_title(f"{python_function(function).__name__}: mean square {float(error.square().mean()):.3f} steps², "
                        f"SQNR {sqnr_db(x, q.float() * scale[:, None]):.1f} dB", fontsize=10)
        panel.set(ylabel="density", yticks=[0, 0.5, 1], ylim=(0, 1.3))
    panels[-1, 0].set_xlabel("error in steps, (q · scale - x) / scale")
    return show_figure(figure)


def show_scales(function):
    """How far the scales of your function are from amax / 127, for rows of every size that FP16 has, in FP32 and
    rounded to FP16."""
    if not ready_to_draw(function):
        return None
    x = torch.rand(160, 32, generator=torch.Generator().manual_seed(0)) * 2.0 ** torch.linspace(-21, 15, 160)[:, None]
    x = x.half()
    scale = function(x.to(device()))[1].cpu()
    amax = x.double().abs().amax(dim=1)
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name, got, colour, marker in (("kept in FP16", scale.half(), COLOURS[5], "x"), ("as your kernel stores it",
                                                                                       scale, COLOURS[0], "o")):
        error = (127 * got.double() / amax - 1).abs().clamp(min=1e-9)
        axes.plot(amax, error, marker, color=colour, markersize=4, label=name)
    axes.axvline(127 * 2.0**-14, color="black", linestyle="--", linewidth=1)
    axes.text(127 * 2.0**-14 * 1.3, 1e-2, "here scale passes 2⁻¹⁴,\nFP16's smallest normal number", fontsize=9, va="center")
    axes.set(xscale="log", yscale="log", xlabel="amax of the row", ylabel="relative error of the scale", ylim=(5e-10, 4),
             title="1 means that the scale has become 0")
    axes.title.set_fontsize(10)
    axes.legend(frameon=False, loc="upper right")
    return show_figure(figure)


def show_chunks(function, K: int = 10000):
    """What the program of one row of K elements loads and stores, in order, found by running `function` once."""
    if not ready_to_draw(function):
        return None
    launch = trace(function, x=torch.randn(1, K).half())[-1]
    looks = {("load", "x_ptr"): ("loads x", COLOURS[0]), ("store", "q_ptr"): ("stores q", COLOURS[1]),
             ("store", "scale_ptr"): ("stores scale", COLOURS[2])}
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for step, access in enumerate(launch.accesses):
        name, colour = looks[access.kind, access.tensor]
        touched = access.offsets[access.live]
        width = max(np.ptp(touched) + 1, K / 100)  # a single element would not be seen
        axes.barh(step, width, left=touched.min(), height=0.8, color=colour)
        axes.text(touched.min() + width + K / 100, step, name, va="center", fontsize=8)
    moved = launch.traffic()
    axes.invert_yaxis()
    axes.set(xlabel="element of the row", ylabel="access number", xlim=(0, K * 1.18),
             title=f"x is read {moved['load', 'x_ptr'] / (2 * K):.1f} times; {sum(moved.values()) / K:.1f} bytes moved "
             "per element")
    axes.title.set_fontsize(10)
    return show_figure(figure)


def show_speed(*functions):
    """GB/s of the quantization of 16,384 rows against their length: of your functions and of the library's
    `quantize_int8_perrow` where there is a GPU, else as recorded on one; beside a copy of as many bytes."""
    written = [function for function in functions if ready_to_draw(function)]
    if not written:
        return None
    quantizers = {"copy": BASELINES["copy"], **{python_function(function).__name__: function for function in written},
                  "quantize_int8_perrow": quantize_int8_perrow}
    found = figures_of(("quant_prefill",), lambda: perf.test_perf_quant_prefill(quantizers), function=tuple(quantizers),
                       M=16384, mode="eager")
    if found is None:
        return None
    rows, title = found
    roofs = {"copy_gb_per_s": recorded()["roofs"].get("copy_gb_per_s")} if INTERPRETED else perf.copy_roof()
    return show_figure(bandwidth_figure(rows, roofs, title))
