"""Pictures for the lesson on the MLP: who has a row of y, where SiLU·mul and the quantizer may go, and their times."""

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap

from checks.bench.baselines import BASELINES, FASTEST_PRODUCT, PLACES, SILU_PLANS
from checks.bench.figures import COLOURS
from checks.bench.operands import operand_names
from checks.bench.perf import test_perf_gate_up, test_perf_matmul_int8
from checks.judge.tracing import trace
from checks.pictures.common import NOTHING, figures_of, ready_to_draw, show_figure
from kernels import cost
from kernels.mlp import gate_and_up, silu_mul_fp16
from kernels.runtime import device

GATE_UP_SHAPE = 16384, 2048, 22016  # M, K, rows of w
PLACED = [(16384, 2048, 2048), (16384, 2048, 6144), (16384, 2048, 22016), (16384, 11008, 2048)]  # (M, K, N)


def mlp_inputs(M: int, N: int, K: int) -> dict[str, torch.Tensor]:
    """Codes and scales of x (M, K) and of w (2N, K), on the CPU, with gates and ups of a few units."""
    g = torch.Generator().manual_seed(0)
    return {"x_q": torch.randint(-127, 128, (M, K), generator=g, dtype=torch.int8), "x_scale": torch.full((M,), 0.02),
            "w_q": torch.randint(-127, 128, (2 * N, K), generator=g, dtype=torch.int8),
            "w_scale": torch.full((2 * N,), 0.02 / K**0.5)}


def show_row_owners(function, M: int = 256, N: int = 256, K: int = 64, row: int = 150):
    """Which program of your product writes which part of y, and the largest number of one row that each of them sees."""
    if not ready_to_draw(function):
        return None
    given = mlp_inputs(M, N, K)
    owner = np.zeros((M, N), dtype=int)
    programs: list[tuple[int, ...]] = []
    for access in trace(function, **given)[-1].accesses:
        if access.tensor == "y_ptr":
            programs.append(access.program)
            owner.reshape(-1)[access.offsets[access.live]] = len(programs)
    y = function(**{name: value.to(device()) for name, value in given.items()})[row].abs().float().cpu().numpy()
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7.6, 5.2), height_ratios=[3, 2], sharex=True, layout="constrained")
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(programs))]
    top.imshow(owner, cmap=ListedColormap([NOTHING, *colours]), vmin=0, vmax=len(programs), aspect="auto",
               interpolation="nearest")
    for number, program in enumerate(programs, 1):
        m, n = np.argwhere(owner == number).mean(axis=0)
        top.text(n, m - M / 20, f"program {program[:2]}", ha="center", va="center", fontsize=8,
                 bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5})
    top.axhline(row, color="black")
    top.set(ylabel="m, row of y", title=f"the line is row {row} of y: {len(set(owner[row]))} programs have a part of it")
    for number in dict.fromkeys(owner[row].tolist()):
        columns = np.flatnonzero(owner[row] == number)
        seen = y[columns].max()
        bottom.bar(columns.mean(), seen, 0.92 * columns.size, color=colours[number - 1])
        bottom.text(columns.mean(), 0.95 * seen, f"{seen:.1f}", ha="center", va="top", fontsize=9,
                    bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5})
    bottom.axhline(y.max(), color="black", linestyle="--", label=f"amax of the row, {y.max():.1f}")
    bottom.set(xlabel="n, column of y", ylabel=f"largest |y| of row {row}\nthat a program has", ylim=(0, 1.3 * y.max()))
    bottom.legend(frameon=False, loc="upper right")
    for panel in (top, bottom):
        panel.title.set_fontsize(10)
    return show_figure(figure)


def show_silu_bytes(in_quantizer, in_epilogue, M: int = 16384, N: int = 11008, K: int = 2048):
    """MB of each plan for SiLU·mul, the last two as your functions have them."""
    if not (ready_to_draw(in_quantizer) and ready_to_draw(in_epilogue)):
        return None
    figure, axes = plt.subplots(figsize=(7.6, 2.2), layout="constrained")
    sizes = [model(M, N, K) / 1e6 for model in (cost.silu_apart_bytes, in_quantizer, in_epilogue)]
    bars = axes.barh(list(SILU_PLANS), sizes, 0.6, color=COLOURS[:3])
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(f"MB, from the codes of x to those of h (M = {M:,}, N = {N:,}, K = {K:,})")
    return show_figure(figure)


def show_silu_times():
    """Microseconds of the plans for SiLU·mul: measured where there is a GPU, else as recorded."""
    names = [*SILU_PLANS, FASTEST_PRODUCT]
    M, K, N = GATE_UP_SHAPE
    found = figures_of(("gate_up",), lambda: test_perf_gate_up({name: BASELINES[name] for name in names}, [GATE_UP_SHAPE]),
                       mode="eager", M=M, K=K, N=N, function=names)
    if found is None:
        return None
    rows, title = found
    figure, axes = plt.subplots(figsize=(7.6, 2.9), layout="constrained")
    times = {row["function"]: row["median_us"] for row in rows}
    bars = axes.barh([name.replace(", ", ",\n") for name in times], list(times.values()), 0.6, color=COLOURS[:len(times)])
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(f"µs, from the codes of x to those of h\n(M = {M:,}, N = {N // 2:,}, K = {K:,})")
    axes.set_title(title, fontsize=10)
    return show_figure(figure)


def show_places():
    """Microseconds from x to y of the four places to quantize x: measured where there is a GPU, else as recorded."""
    found = figures_of(("places",), lambda: test_perf_matmul_int8(dict(PLACES), PLACED), mode="eager", M=16384,
                       function=tuple(PLACES))
    if found is None:
        return None
    rows, title = found
    figure, axes = plt.subplots(figsize=(8.2, 3.6), layout="constrained")
    for number, (name, colour) in enumerate(zip(PLACES, COLOURS, strict=False)):
        times = {PLACED.index((row["M"], row["K"], row["N"])): row["median_us"] for row in rows if row["function"] == name}
        places = [place + 0.21 * (number - 1.5) for place in times]
        bars = axes.bar(places, list(times.values()), 0.2, color=colour, label=name)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=2)
    axes.set_xticks(range(len(PLACED)), [f"K = {K:,}\nN = {N:,}" for _, K, N in PLACED])
    axes.set_ylabel("µs, x to y (M = 16,384)")
    axes.margins(y=0.12)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    return show_figure(figure)


def compare_bits(function, M: int = 64, N: int = 256, K: int = 256) -> None:
    """Print how your product of gate and up differs from a product and SiLU·mul as two kernels."""
    if not ready_to_draw(function):
        return
    given = {name: value.to(device()) for name, value in mlp_inputs(M, N, K).items()}
    one = function(**given).double()
    two = silu_mul_fp16(*gate_and_up(**given)).double()
    sums = given["x_q"].double() @ given["w_q"].double().T
    gate, up = (sums * given["x_scale"].double()[:, None] * given["w_scale"].double()).chunk(2, dim=1)
    sigmoid = 1 / (1 + (-gate).exp())
    h = gate * sigmoid * up
    bound = ((1 + gate * (1 - sigmoid)).abs() + 3) * 2.0**-11 * h.abs().clamp(min=2.0**-14)
    print(f"the same bits: {(one == two).double().mean():.0%} of h")
    print(f"mean error against float64: {(two - h).abs().mean():.1e} with two kernels, "
          f"{(one - h).abs().mean():.1e} with one")
    print(f"the largest difference is {((one - two).abs() / bound).max():.2f} of its bound")


def compare_launches(apart: Callable[..., Any], fused: Callable[..., Any], **inputs: Any) -> None:
    """Print each launch of an MLP with a kernel for each step and of yours, with the bytes that it touches, each once."""
    if not ready_to_draw(fused):
        return
    totals = []
    for function in (apart, fused):
        totals.append(0)
        for launch in trace(function, **inputs):
            touched = launch.footprint().total()
            totals[-1] += touched
            print(f"  {launch.kernel.__name__:36} {touched:10,} bytes")
        print(f"  {function.__name__:36} {totals[-1]:10,} bytes in all")
    print(f"saved: {totals[0] - totals[1]:,} bytes")


def compare_mlps(apart: Callable[..., torch.Tensor], fused: Callable[..., torch.Tensor], **inputs: torch.Tensor) -> None:
    """Print how far two MLPs are from each other, and from float64 without codes of x and of h."""
    if not ready_to_draw(fused):
        return
    given = {name: value.to(device()) for name, value in inputs.items()}
    wide = {name: value.double() for name, value in given.items()}
    normed = wide["x"] / (wide["x"].square().mean(1, keepdim=True) + 1e-6).sqrt() * wide["weight"]
    gate, up = (normed @ wide["gate_up_q"].T * wide["gate_up_scale"]).chunk(2, dim=1)
    exact = (gate / (1 + (-gate).exp()) * up) @ wide["down_q"].T * wide["down_scale"]
    one, two = fused(**given).double(), apart(**given).double()
    print(f"the same bits: {(one == two).double().mean():.0%} of y")
    for what, y, other in ((f"{fused.__name__} against float64 without codes", one, exact),
                           (f"{apart.__name__} against float64 without codes", two, exact),
                           ("the two against each other", one, two)):
        print(f"{what}: relative error {(y - other).norm() / other.norm():.2%}")


def count_places(M: int = 128, N: int = 512, K: int = 512) -> None:
    """Print the bytes of each place to quantize x: touched, every byte once for each launch, and asked for by programs."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(M, K, generator=g).half()
    given = {"x": x, "x_scale": x.abs().amax(1).float() / 127, "w_scale": torch.rand(N, generator=g),
             "w_q": torch.randint(-127, 128, (N, K), generator=g, dtype=torch.int8)}
    print(f"M = {M}, N = {N}, K = {K}, tiles of 128 x 128")
    for name, place in PLACES.items():
        launches = trace(place, **{key: given[key] for key in operand_names(place)})
        touched = sum(launch.footprint().total() for launch in launches)
        asked = sum(launch.traffic().total() for launch in launches)
        noun = "launches," if len(launches) > 1 else "launch,"
        print(f"  {name:28} {len(launches)} {noun:9} touches {touched:8,} bytes, asks for {asked:9,}")
