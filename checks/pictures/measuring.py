"""Pictures for the lesson on measuring: what a timer does, what wrong timers say, and the roofline."""

import functools
import statistics
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import triton

import kernels
from checks.bench.figures import COLOURS
from checks.bench.results import pairs, recorded
from checks.judge.source import find_placeholder, python_function, rebind, source_of
from checks.pictures.common import NOTHING, ready_to_draw, show_figure
from checks.simulated.gpu import SimulatedGPU
from checks.simulated.scenarios import BENCHMARKS, STEADY, true_benchmark, try_benchmark
from kernels import cost, timing
from kernels.gemv import gemv_fp16, gemv_fp16_kernel
from kernels.runtime import INTERPRETED

N = K = 4096
ROWS = (1, 4, 16, 64, 128, 256, 512, 1024, 4096, 16384)
FP16, OURS, INT8 = "cuBLAS FP16", "matmul_fp16", "matmul_int8"
SPANS = {"launch": ("launch", COLOURS[0]), "compile": ("compile", COLOURS[5]), "synchronize": ("wait for the GPU", NOTHING),
         "kernel": ("kernel", COLOURS[2]), "flush": ("flush the cache", COLOURS[4]), "event": ("event", "black")}


def show_timeline(gpu: SimulatedGPU, title: str = ""):
    """What the host and each stream of a simulated GPU did, and when; events are dashed lines."""
    lanes = sorted({span.lane for span in gpu.log})  # "host" comes before "stream 0"
    figure, axes = plt.subplots(figsize=(7.6, 1.2 + 0.55 * len(lanes)), layout="constrained")
    end = max((span.end_us for span in gpu.log), default=1.0)
    for span in gpu.log:
        place, label, colour = lanes.index(span.lane), *SPANS[span.kind]
        if span.kind == "event":
            axes.vlines(span.start_us, place - 0.5, place + 0.5, color=colour, linestyle="--", linewidth=1.2, label=label)
            continue
        width = span.end_us - span.start_us
        axes.barh(place, width, left=span.start_us, height=0.62, color=colour, edgecolor="black", linewidth=0.6, label=label)
        if span.kind == "kernel" and width / end > 0.013 * len(span.name):
            axes.text(span.start_us + width / 2, place, span.name, ha="center", va="center", fontsize=8, color="white")
    axes.set(xlim=(-0.01 * end, 1.01 * end), ylim=(len(lanes) - 0.4, -0.6), xlabel="us")
    axes.set_yticks(range(len(lanes)), ["Python (host)" if lane == "host" else f"GPU, {lane}" for lane in lanes])
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    once = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(once.values(), once, loc="outside lower center", ncols=len(once), frameon=False, fontsize=9)
    return show_figure(figure)


def show_timer(time_us: Callable):
    """What the host and a simulated GPU do while your timer times two functions, each twice after one call to warm up."""
    if not ready_to_draw(time_us):
        return None
    gpu = SimulatedGPU()
    sides = {"old": gpu.kernel("old", {"x": 160e6}), "new": gpu.kernel("new", {"w": 80e6})}
    for name, times in time_us(sides, gpu, 2, 1).items():
        print(f"{name}: {', '.join(f'{us:.1f}' for us in times)} us; the truth is {sides[name].cold_us:.1f} us")
    return show_timeline(gpu)


def show_lies(benchmark: Callable) -> None:
    """What a benchmark says on simulated GPUs that each have one thing that can go wrong, beside the truth."""
    if find_placeholder(source_of(benchmark)):
        print(f"○ {benchmark.__name__} is not attempted yet: it has nothing to say.")
        return
    print(f"{'':>47} {'GB/s':>7} {'truth':>6}   {'speed-up':>8} {'truth':>5}")
    for name, made in BENCHMARKS.items():
        cells = []
        for index, (got, true) in enumerate(zip(try_benchmark(benchmark, name), true_benchmark(name), strict=True)):
            if not made.steady and index == 0:  # on a clock that sags nobody knows the true GB/s
                cells.append(f"{'?':>7} {'?':>6}  ")
                continue
            right = abs(got - true) <= (1e-6 if made.steady else STEADY) * true
            places = (0, 2)[index]
            widths = ((7, 6), (8, 5))[index]
            cells.append(f"{got:>{widths[0]},.{places}f} {true:>{widths[1]},.{places}f} {' ' if right else '✗'}")
        print(f"{name:>47} {' '.join(cells)}")


def wrong_ways(make: Callable[[], Callable], gpu, calls: int = 10) -> dict[str, float]:
    """Microseconds of one function by wrong timers. `make()` gives it anew, not yet compiled."""
    def by_host(number: int, wait: bool, compiled: bool = True) -> float:
        call, taken = make(), 0.0
        if compiled:
            call()
        for _ in range(number):
            gpu.flush_l2()
            gpu.synchronize()
            begin = gpu.host_us()
            call()
            if wait:
                gpu.synchronize()
            taken += gpu.host_us() - begin
        gpu.synchronize()
        return taken / number

    def by_events(number: int, flush: bool) -> float:
        call, start, stop = make(), gpu.event(), gpu.event()
        call()
        gpu.flush_l2()
        if not flush:
            call()
        gpu.synchronize()
        start.record()
        for _ in range(number):
            call()
        stop.record()
        gpu.synchronize()
        return start.elapsed_us(stop)

    return {
        "compiled within the time": by_host(1, wait=True, compiled=False),
        f"{calls} calls, not divided": by_events(calls, flush=False),
        "host clock, waiting": by_host(calls, wait=True),
        "GPU idle when the launch came": by_events(1, flush=True),
        "warm cache": by_events(calls, flush=False) / calls,
        "host clock, not waiting": by_host(calls, wait=False),
    }


def show_wrong_times(time_us: Callable):
    """One matrix-vector product (4096, 4096) in FP16 timed in wrong ways, and by your timer: on a simulated GPU, whose truth
    is known, and on the GPU of this machine if there is one."""
    if not ready_to_draw(time_us):
        return None
    gpu = SimulatedGPU(launch_us=4.0)

    def simulated():
        return gpu.kernel("gemv", {"x": 2 * K, "w": 2 * N * K}, {"y": 2 * N}, flops=cost.gemv_flops(N, K), compile_us=2e5)

    machines: list[tuple[str, Any, Callable, float | None]] = [("on the simulated GPU", gpu, simulated, simulated().cold_us)]
    if not INTERPRETED:
        x, w = torch.randn(K, device="cuda").half(), torch.randn(N, K, device="cuda").half()
        machines.append((f"on this {torch.cuda.get_device_name()}", timing.CudaGPU(), lambda: _fresh_gemv(x, w), None))
    figure, panels = plt.subplots(len(machines), figsize=(7.6, 2.9 * len(machines)), squeeze=False, layout="constrained")
    for axes, (where, gpu, make, truth) in zip(panels[:, 0], machines, strict=True):
        times = wrong_ways(make, gpu)
        times["your timer"] = statistics.median(time_us({"gemv": make()}, gpu, 20, 5)["gemv"])
        _draw_times(axes, times, truth or times["your timer"], where)
    if INTERPRETED:
        print("There is no GPU here: your timer has run on the simulated one alone.")
    return show_figure(figure)


def _fresh_gemv(x: torch.Tensor, w: torch.Tensor) -> Callable:
    """gemv_fp16 with a kernel that this process has not compiled yet."""
    kernel = triton.jit(python_function(gemv_fp16_kernel))
    return functools.partial(rebind(python_function(gemv_fp16), gemv_fp16_kernel=kernel), x, w)


def _draw_times(axes, times: dict[str, float], truth: float, where: str) -> None:
    names = list(times)
    colours = [COLOURS[5]] * (len(names) - 1) + [COLOURS[2]]
    axes.hlines(names, truth, list(times.values()), colors=colours, linewidth=3)
    axes.scatter(list(times.values()), names, color=colours, zorder=3)
    axes.axvline(truth, color="black", linestyle="--", linewidth=1)
    for name, us in times.items():
        axes.annotate(" us, ".join(f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in (us, us / truth)) + " x",
                      (us, name), xytext=(-7 if us < 0.99 * truth else 7, 0), ha="right" if us < 0.99 * truth else "left",
                      textcoords="offset points", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set(xscale="log", xlim=(min(times.values()) / 100, 600 * max(times.values())), xlabel="us")
    axes.set_title(f"One call of y = W x, W (4096, 4096) FP16, {where}", fontsize=10)


def show_roofline(attainable_tflops: Callable, time_us: Callable):
    """The roofline as your function has it, and on it products with 4096 x 4096 weights for 1 to 16,384 rows of x: measured
    by your timer where there is a GPU, else as recorded."""
    if not ready_to_draw(attainable_tflops):
        return None
    rows, roofs, title = _measured(time_us)
    figure, axes = plt.subplots(figsize=(7.6, 4.4), layout="constrained")
    intensity = np.geomspace(0.5, 8000, 200)
    for peak, label, colour in (("fp16_tflops", "FP16", COLOURS[0]), ("int8_tops", "INT8", COLOURS[5])):
        roof = [attainable_tflops(value, roofs[peak], roofs["copy_gb_per_s"]) for value in intensity]
        axes.plot(intensity, roof, color=colour, linewidth=1.2)
        axes.annotate(f"{label}: {roofs[peak]:,.0f}", (intensity[-1], roof[-1]), va="center", fontsize=9, xytext=(4, 0),
                      textcoords="offset points")
    axes.annotate(f"memory: {roofs['copy_gb_per_s']:,.0f} GB/s", (7, roofs["copy_gb_per_s"] * 7e-3), ha="right",
                  fontsize=9, xytext=(-8, 6), textcoords="offset points")
    for name, colour, marker in ((FP16, COLOURS[0], "o"), (OURS, COLOURS[2], "s"), (INT8, COLOURS[5], "D")):
        mine = list({row["M"]: row for row in rows if row["function"] == name}.values())
        axes.plot([row["flops"] / row["bytes"] for row in mine], [row["tflops"] for row in mine], marker, color=colour,
                  markersize=5, label=name)
    n, k = rows[0]["N"], rows[0]["K"]
    allowed = {M: cost.matmul_flops(M, n, k) / cost.matmul_fp16_bytes(M, n, k) for M in ROWS}
    heights = {M: attainable_tflops(value, roofs["fp16_tflops"], roofs["copy_gb_per_s"]) for M, value in allowed.items()}
    axes.plot(list(allowed.values()), list(heights.values()), "o", color=COLOURS[0], markersize=7, markerfacecolor="none",
              label=f"FP16, M = {ROWS[0]} to {ROWS[-1]:,}: allowed")
    for M, place in ((1, (-6, 5)), (16, (-6, 5)), (128, (-6, 5)), (16384, (16, -15))):
        axes.annotate(f"M = {M:,}", (allowed[M], heights[M]), xytext=place, textcoords="offset points",
                      ha="right" if place[0] < 0 else "center", fontsize=8, color=COLOURS[0])
    axes.set(xscale="log", yscale="log", xlim=(0.4, 40000), xlabel="operations per byte that must move",
             ylabel="TFLOPS (INT8: TOPS)")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return show_figure(figure)


def show_gain(int8_gain: Callable, time_us: Callable):
    """The gain of INT8 over FP16 against M, as your function predicts it and as measured: a table and a picture."""
    if not ready_to_draw(int8_gain):
        return None
    rows, roofs, title = _measured(time_us)
    n, k = rows[0]["N"], rows[0]["K"]

    def predicted(M: int) -> float:
        return int8_gain(M, n, k, roofs["fp16_tflops"], roofs["int8_tops"], roofs["copy_gb_per_s"])

    met = {row["M"]: (base["median_us"] / row["median_us"], row["mode"]) for row, base in pairs(rows, INT8, FP16)}
    for M, (gain, mode) in met.items():  # of two modes at one M the graph counts: `_one_weight` has it last
        print(f"M = {M:6,}: predicted {predicted(M):.2f}, measured {gain:.2f} ({mode})")
    figure, axes = plt.subplots(figsize=(7.6, 3.6), layout="constrained")
    sizes = np.unique(np.geomspace(1, 16384, 120).round().astype(int)).tolist()
    axes.plot(sizes, [predicted(M) for M in sizes], color=COLOURS[0], label="your prediction")
    for mode, how, fill in (("graph", "in a CUDA graph", COLOURS[5]), ("eager", "eager", "none")):
        gains = {M: gain for M, (gain, timed) in met.items() if timed == mode}
        if gains:
            axes.plot(list(gains), list(gains.values()), "D", color=COLOURS[5], markerfacecolor=fill,
                      label=f"{INT8} beside {FP16}, measured {how}")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ROWS, [f"{M:,}" for M in ROWS], fontsize=8)
    axes.set(xlabel=f"M, rows of x (N = {n:,}, K = {k:,})", ylabel="times as fast as FP16", ylim=(0, 2.4))
    axes.set_title(title, fontsize=10)
    axes.legend(loc="lower left", frameon=False, fontsize=9)
    return show_figure(figure)


def _measured(time_us: Callable) -> tuple[list[dict], dict, str]:
    """Rows of products, roofs, and a title that says where they come from. While `time_us` is unwritten ours measures."""
    if not INTERPRETED:
        timer = timing.time_us if find_placeholder(source_of(time_us)) else time_us
        return *_measure_here(timer), f"Measured now on this {torch.cuda.get_device_name()}"
    figures = recorded()
    return _one_weight(figures["rows"]), figures["roofs"], f"Recorded on an {figures['gpu']} (there is no GPU here)"


def _one_weight(rows: list[dict]) -> list[dict]:
    """Of products by FP16 and INT8, those with the weight that was timed for the most M, in the order of M. Of two at one M,
    what was timed in a CUDA graph comes last and counts: launches are not what the roofline is about."""
    rows = [row for row in rows if row["function"] in (FP16, OURS, INT8) and row["mode"] != "idle"]
    weights = {(row["N"], row["K"]) for row in rows}
    n, k = max(weights, key=lambda weight: len({row["M"] for row in rows if (row["N"], row["K"]) == weight}))
    return sorted((row for row in rows if (row["N"], row["K"]) == (n, k)), key=lambda row: (row["M"], row["mode"]))


@functools.cache
def _measure_here(time_us: Callable) -> tuple[list[dict], dict]:
    gpu, rows = timing.CudaGPU(), []
    w = torch.randn(N, K, device="cuda").half()
    w_q, w_scale = kernels.quantize_int8_perrow(w)
    for M in ROWS:
        x = torch.randn(M, K, device="cuda").half()
        sides = {FP16: _graph(lambda x=x: x @ w.T), OURS: _graph(lambda x=x: kernels.matmul_fp16(x, w)),
                 INT8: _graph(lambda x=x: kernels.matmul_int8(x, w_q, w_scale))}
        flops = cost.matmul_flops(M, N, K)
        for name, times in time_us(sides, gpu, 30, 5).items():
            moved, us = _bytes(name, M), statistics.median(times)
            rows.append({"test": "here", "function": name, "M": M, "N": N, "K": K, "mode": "graph", "bytes": moved,
                         "flops": flops, "median_us": us, "tflops": cost.achieved_tflops(flops, us)})
    return rows, _roofs_here(time_us, gpu)


def _graph(call: Callable) -> Callable:
    """The call recorded in a CUDA graph: one launch, which Python makes fast enough to hide behind the flush."""
    for _ in range(3):  # compiled and tuned before it is recorded
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def _bytes(name: str, M: int) -> int:
    if name == INT8:
        return cost.quantize_int8_perrow_bytes(M, K) + cost.perrow_w8a8_matmul_bytes(M, N, K)
    return cost.matmul_fp16_bytes(M, N, K)


def _roofs_here(time_us: Callable, gpu: timing.CudaGPU) -> dict:
    """A copy of 1 GiB, and large square products: what this GPU is seen to do at best."""
    size = 8192
    source = torch.ones(1 << 30, dtype=torch.int8, device="cuda")
    target, x = torch.empty_like(source), torch.randn(size, size, device="cuda").half()
    x_q, scale = kernels.quantize_int8_perrow(x)
    times = time_us({"copy": lambda: target.copy_(source), "fp16": lambda: x @ x.T,
                     "int8": lambda: kernels.perrow_w8a8_matmul(x_q, scale, x_q, scale)}, gpu, 10, 3)
    us = {name: statistics.median(raw) for name, raw in times.items()}
    return {"copy_gb_per_s": cost.achieved_gb_per_s(2 * source.numel(), us["copy"]),
            "fp16_tflops": cost.achieved_tflops(2 * size**3, us["fp16"]),
            "int8_tops": cost.achieved_tflops(2 * size**3, us["int8"])}
