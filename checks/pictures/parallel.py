"""Pictures for the lesson on two GPUs: who holds what, whose scale, and what exchanges and products take."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.ticker import FuncFormatter

from checks.bench import ranks as recorded_ranks
from checks.bench.figures import COLOURS
from checks.bench.results import select
from checks.pictures.common import ready_to_draw, show_figure
from checks.ranks.kept import in_processes
from kernels.collectives import ring_all_reduce_bytes
from kernels.linear import int8_linear_torch
from kernels.quantize import quantize_int8_perrow_torch

RANKS = 2
SCHEMES = ("INT8, shared scale", "INT8, own scales")
LOOKS = {"FP16": ("#555555", "^"), "INT8": (COLOURS[0], "o"), "INT8, shared scale": (COLOURS[5], "s"),
         "INT8, own scales": (COLOURS[2], "D"), "INT8, own scales, peers": (COLOURS[1], "v")}
STEPS = {"product": COLOURS[0], "quantization": COLOURS[2], "exchange": COLOURS[5], "scaling": COLOURS[1]}
THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")


def figures() -> dict | None:
    """What was recorded on two GPUs; None, and a sentence, where there is nothing."""
    try:
        return recorded_ranks.load()
    except FileNotFoundError:
        print("○ Nothing is recorded yet for this picture: `python3 workshop.py bench --ranks 2`, on two GPUs, measures it.")
        return None


def title_of(found: dict, how: str = "in CUDA graphs") -> str:
    return f"Recorded on {found['ranks']} × {found['gpu']}, {how}"


def show_columns(column_part, N: int = 8, K: int = 12):
    """Which rank holds which element of w (N, K) after your cut by columns of y."""
    if not ready_to_draw(column_part):
        return None
    places = torch.arange(N)[:, None].expand(N, K), torch.arange(K)[None, :].expand(N, K)
    owner = np.full((N, K), -1)
    for rank in range(RANKS):
        rows, columns = (column_part(place.to(torch.int8), torch.ones(N), rank, RANKS)[0] for place in places)
        owner[rows.long().flatten(), columns.long().flatten()] = rank
    figure, axes = plt.subplots(figsize=(5.4, 3.2), layout="constrained")
    axes.imshow(owner, cmap=ListedColormap(["#F2F2F2", COLOURS[4], COLOURS[5]]), vmin=-1, vmax=RANKS - 1, aspect="auto")
    for rank in range(RANKS):
        row, column = np.argwhere(owner == rank).mean(axis=0)
        axes.text(column, row, f"rank {rank}: {int((owner == rank).sum())} codes", ha="center", va="center")
    axes.set(xlabel="k", ylabel="n: row of w, column of y", title=f"w ({N}, {K}) over {RANKS} ranks")
    axes.title.set_fontsize(10)
    return show_figure(figure)


def columns_of_y(x, w_q, w_scale, group):
    """This rank's columns of an INT8 product: what is on it, and nothing else."""
    return int8_linear_torch(x, w_q, w_scale)


def compare_columns(column_part, M: int = 16, N: int = 48, K: int = 512) -> None:
    """Print in how many numbers the columns that two ranks compute of what you cut differ from one GPU's."""
    if not ready_to_draw(column_part):
        return
    x, w, _ = operands(M, N, K)
    w_q, w_scale = quantize_int8_perrow_torch(w)
    cut = [column_part(w_q, w_scale, rank, RANKS) for rank in range(RANKS)]
    found, exchanged = in_processes(columns_of_y, [{"x": x, "w_q": codes, "w_scale": scales} for codes, scales in cut])
    y = torch.cat(found, dim=1)
    differ = int((y != int8_linear_torch(x, w_q, w_scale)).sum())
    print(f"{differ} of {y.numel()} numbers differ, and {exchanged} bytes were exchanged")


def show_row(shared_scale, K: int = 64):
    """A row of x over two ranks: its magnitudes, and 127 times the scale of each part and of your `shared_scale`."""
    if not ready_to_draw(shared_scale):
        return None
    g = torch.Generator().manual_seed(4)
    x = torch.randn(1, K, generator=g)
    x[0, K // 4] = 7.0
    parts = x.half().chunk(RANKS, dim=1)
    (scale, _), _ = in_processes(shared_scale, [{"x": part.contiguous()} for part in parts])
    figure, axes = plt.subplots(figsize=(7.4, 3.0), layout="constrained")
    for rank, part in enumerate(parts):
        at = np.arange(K // RANKS) + rank * K // RANKS
        axes.bar(at, part[0].float().abs().numpy(), 0.9, color=(COLOURS[4], COLOURS[5])[rank], label=f"rank {rank}'s part")
        own = part.float().abs().max().item()
        axes.plot(at[[0, -1]], [own, own], ":", color="black", label="127 · a scale of each part" if rank == 0 else None)
    shared = 127 * scale.item()
    axes.plot([0, K - 1], [shared, shared], "-", color=COLOURS[0], label="127 · your shared scale")
    axes.set(xlabel="k", ylabel="|x[0, k]|", ylim=(0, max(shared, 7) * 1.25))
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper right")
    return show_figure(figure)


def sqnr_db(y: torch.Tensor, exact: torch.Tensor) -> float:
    return 10 * torch.log10(exact.square().sum() / (y.double() - exact).square().sum()).item()


def operands(M: int, N: int, K: int, outlier: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x (M, K), w (N, K) and bias, random, channel 0 of x larger by `outlier`."""
    g = torch.Generator().manual_seed(0)
    x, w, bias = torch.randn(M, K, generator=g), torch.randn(N, K, generator=g) / K**0.5, torch.randn(N, generator=g)
    x[:, 0] *= outlier
    return x.half(), w.half(), bias.half()


def compare_schemes(shared, own, M: int = 16, N: int = 48, K: int = 512) -> None:
    """Print, for your two row-parallel products on two ranks: bytes, bits of one GPU, SQNR; x plain, and with an outlier."""
    if not (ready_to_draw(shared) and ready_to_draw(own)):
        return
    for what, outlier in (("x as it is", 1.0), ("channel 0 of x 30 times as large", 30.0)):
        x, w, bias = operands(M, N, K, outlier)
        w_q, w_scale = quantize_int8_perrow_torch(w)
        exact = x.double() @ w.double().T + bias.double()
        one = int8_linear_torch(x, w_q, w_scale, bias)
        print(f"{what}: one GPU {sqnr_db(one, exact):.1f} dB")
        parts = [part.contiguous() for part in x.chunk(RANKS, dim=1)]
        whole = [(codes.contiguous(), w_scale) for codes in w_q.chunk(RANKS, dim=1)]
        each = [quantize_int8_perrow_torch(part) for part in w.chunk(RANKS, dim=1)]
        for name, function, weights in (("shared scale", shared, whole), ("own scales", own, each)):
            given = [{"x": part, "w_q": codes, "w_scale": scale, "bias": bias}
                     for part, (codes, scale) in zip(parts, weights, strict=True)]
            (y, other), exchanged = in_processes(function, given)
            same = "the same on both ranks" if torch.equal(y, other) else "NOT the same on both ranks"
            print(f"  {name:13}{exchanged:6,} bytes, {(y == one).double().mean():4.0%} of one GPU's bits, "
                  f"{sqnr_db(y, exact):.1f} dB, {same}")


def compare_exchanges(all_reduce_int8, M: int = 16, N: int = 512, K: int = 512) -> None:
    """Print what the exchange of partial products costs in bytes and in accuracy: FP32, FP16, and INT8 by your function."""
    if not ready_to_draw(all_reduce_int8):
        return
    x, w, _ = operands(M, N, K)
    halves = zip(x.double().chunk(RANKS, dim=1), w.double().chunk(RANKS, dim=1), strict=True)
    parts = [(some_x @ some_w.T).float() for some_x, some_w in halves]
    exact = torch.stack(parts).double().sum(0)
    (y, _), exchanged = in_processes(all_reduce_int8, [{"y": part} for part in parts])
    rows = {"FP32": (torch.stack(parts).sum(0), 4 * y.numel()), "FP16": (torch.stack(parts).half().sum(0), 2 * y.numel()),
            "INT8": (y, exchanged)}
    for name, (result, size) in rows.items():
        print(f"{name}: {size:7,} bytes for each rank, {sqnr_db(result, exact):5.1f} dB")


def link_numbers(found: dict) -> tuple[float, float]:
    """Latency of a step, in µs, and GB/s of the recorded all-reduces: of the shortest and of the fastest."""
    rows = select(found["rows"], part="link", function=("all-reduce FP16", "all-reduce INT32"))
    fastest = max(row["sent_bytes"] / row["median_us"] / 1e3 for row in rows)
    return min(row["median_us"] for row in rows) / 2 / (found["ranks"] - 1), fastest


def show_link(all_reduce_us):
    """Microseconds of an all-reduce against its bytes: recorded, and by your model with the recorded latency and speed."""
    found = figures()
    if found is None or not ready_to_draw(all_reduce_us):
        return None
    latency_us, gb_per_s = link_numbers(found)
    figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
    for name, width, colour, marker in (("all-reduce FP16", 2, COLOURS[0], "o"), ("all-reduce INT32", 4, COLOURS[5], "s"),
                                        ("peers FP16", 2, COLOURS[2], "D")):
        rows = select(found["rows"], part="link", function=name)
        axes.plot([width * row["M"] * row["N"] for row in rows], [row["median_us"] for row in rows], marker, color=colour,
                  label={"peers FP16": "FP16 through peer memory"}.get(name, name))
    sizes = np.geomspace(4096, 3e8, 60)
    axes.plot(sizes, [all_reduce_us(size, found["ranks"], latency_us, gb_per_s) for size in sizes], "-", color="black",
              linewidth=1, label=f"your model: {latency_us:.1f} µs a step, {gb_per_s:.0f} GB/s")
    axes.set(xscale="log", yscale="log", xlabel="bytes of the tensor", ylabel="µs")
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.set_title(title_of(found, "each exchange queued by itself"), fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    return show_figure(figure)


def show_steps(rows_of_x: tuple[int, ...] = (1, 64, 1024, 8192)):
    """What the steps of the row-parallel product `down` take, each timed by itself, for some numbers of rows."""
    found = figures()
    if found is None:
        return None
    rows = select(found["rows"], part="step")
    figure, parts = plt.subplots(1, len(rows_of_x), figsize=(9.2, 3.4), layout="constrained")
    for axes, M in zip(parts, rows_of_x, strict=True):
        left = dict.fromkeys(("FP16", *SCHEMES), 0.0)
        for step, colour in STEPS.items():
            times = {row["function"].partition(": ")[0]: row["median_us"] for row in rows
                     if row["M"] == M and row["function"].endswith(f": {step}")}
            if step == "exchange":  # FP16 partial products, whatever made them; with a shared scale the maxima too
                times["INT8, own scales"] = times["FP16"]
                times["INT8, shared scale"] += sum(row["median_us"] for row in rows if row["M"] == M
                                                   and row["function"].endswith("exchange of maxima"))
            names = [name for name in left if name in times]
            axes.bar(names, [times[name] for name in names], 0.6, bottom=[left[name] for name in names], color=colour,
                     label=step)
            for name in names:
                left[name] += times[name]
        axes.set_title(f"M = {M:,}", fontsize=10)
        axes.set_xticks(range(3), ["FP16", "INT8\nshared", "INT8\nown"], fontsize=9)
    parts[0].set_ylabel("µs, step by step")
    handles, labels = parts[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(STEPS), frameon=False, fontsize=9)
    shape = f"K = {rows[0]['K']:,}, N = {rows[0]['N']:,}"
    figure.suptitle(f"y = x wᵀ on two GPUs, {shape}. {title_of(found, 'NCCL')}", fontsize=10)
    return show_figure(figure)


def show_mlp():
    """Microseconds of an MLP of Llama 3 8B against M: on one GPU and on two, in FP16 and INT8."""
    found = figures()
    if found is None:
        return None
    figure, axes = plt.subplots(figsize=(7, 4.0), layout="constrained")
    cut = *SCHEMES, "INT8, own scales, peers"
    for name, gpus in (("FP16", 1), ("FP16", 2), ("INT8", 1), *((name, 2) for name in cut)):
        rows = select(found["rows"], part="mlp", function=name, gpus=gpus)
        colour, marker = LOOKS[name]
        axes.plot([row["M"] for row in rows], [row["median_us"] for row in rows], marker, color=colour,
                  linestyle="-" if gpus == 1 else "--", markersize=5,
                  label=f"{name.replace('peers', 'peer memory')}, {gpus} GPU{'s' * (gpus > 1)}")
    axes.set(xscale="log", yscale="log", xlabel="M, rows of x", ylabel="µs, x to y")
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.set_title(title_of(found), fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    return show_figure(figure)


def print_mlp(parallel_speedup, all_reduce_us) -> None:
    """Print what your functions predict that two GPUs gain for the MLP in INT8 with own scales, beside what was measured."""
    found = figures()
    if found is None or not (ready_to_draw(parallel_speedup) and ready_to_draw(all_reduce_us)):
        return
    latency_us, gb_per_s = link_numbers(found)
    print("     M   one GPU   exchange, predicted   gain, predicted   gain, measured")
    for row in select(found["rows"], part="mlp", function="INT8", gpus=1):
        (two,) = select(found["rows"], part="mlp", function="INT8, own scales", M=row["M"])
        exchange = all_reduce_us(2 * row["M"] * row["N"], found["ranks"], latency_us, gb_per_s)
        gain = parallel_speedup(row["median_us"], 1.0, found["ranks"], exchange)
        print(f"{row['M']:6,} {row['median_us']:6,.0f} µs {exchange:18,.0f} µs {gain:17.2f} "
              f"{row['median_us'] / two['median_us']:16.2f}")


def best(found: dict, phase: str, M: int, kind: str, gpus: int) -> dict:
    """The fastest recorded way to compute the block in FP16 or INT8: compiled or not, with either scale, and so on."""
    rows = select(found["rows"], part="block", phase=phase, M=M, gpus=gpus)
    return min((row for row in rows if row["function"].startswith(kind)), key=lambda row: row["median_us"])


def show_block():
    """The whole block of Llama 3 8B on one GPU and on two: the fastest recorded way in FP16 and in INT8."""
    found = figures()
    if found is None:
        return None
    figure, parts = plt.subplots(1, 3, figsize=(9.2, 3.2), layout="constrained")
    for axes, (phase, M) in zip(parts, (("prefill", 8192), ("decode", 1), ("decode", 16)), strict=True):
        for gpus, shade in ((1, 0.45), (2, 1.0)):
            rows = [best(found, phase, M, kind, gpus) for kind in ("FP16", "INT8")]
            places = [place + 0.4 * (gpus - 1.5) for place in range(2)]
            bars = axes.bar(places, [row["median_us"] for row in rows], 0.38, alpha=shade,
                            label=f"{gpus} GPU" + "s" * (gpus > 1),
                            color=[LOOKS["FP16"][0], LOOKS["INT8"][0]])
            axes.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=2)
        axes.set_xticks(range(2), ["FP16", "INT8"])
        axes.set_title(f"{phase} of {M:,}", fontsize=10)
        axes.margins(y=0.14)
    parts[0].set_ylabel("µs")
    parts[0].legend(frameon=False, fontsize=9)
    figure.suptitle(title_of(found), fontsize=10)
    return show_figure(figure)


def print_exchanges(shared_scale_bytes) -> None:
    """Print what each rank sends for `down` of Llama 3 8B: by your function, and in FP16; and its bytes of weights."""
    if not ready_to_draw(shared_scale_bytes):
        return
    N, K = 4096, 14_336
    print("     M    shared scale      own scales    weights of a rank")
    for M in (1, 64, 8192):
        own = ring_all_reduce_bytes(2 * M * N, RANKS)
        print(f"{M:6,} {shared_scale_bytes(M, N, RANKS):15,.0f} {own:15,.0f} {N * K // RANKS:20,}")
