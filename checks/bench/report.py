"""What measured figures come to, in tables: totals, what was wanted and reached, the README's ladder, two runs compared.

Every table is made from a results file alone. A table is (title, headings, rows of text).
"""

import statistics
from dataclasses import dataclass
from pathlib import Path

from checks.bench.results import UNIT, of_roof, pairs, select, unit_of
from kernels.decode import MAX_M

LARGE = 1024
"""From this M on a product is large: arithmetic, not launches and reading w, takes its time."""

HIDDEN = 1.04
"""Quantization and product, each timed alone, over both in one call: more than this and they overlap."""

RUN_TO_RUN = 0.08
"""How far a ratio of functions timed in turns may move from one run to the next on the same kind of GPU: of three runs on
two H200s the furthest, cuBLAS for few rows against anything else, moved by that much."""

Table = tuple[str, list[str], list[list[str]]]


def tables(figures: dict) -> list[Table]:
    """All tables of a results file that have rows."""
    found = [roofs(figures), totals(figures), summary(figures), wanted(figures), steps(figures), others(figures),
             host(figures)]
    return [table for table in found if table[2]]


def roofs(figures: dict) -> Table:
    r = figures["roofs"]
    rows = [[what, f"{r[name]:,.0f} {unit}", r.get(by, "")] for what, name, unit, by in (
        ("a copy, reads plus writes", "copy_gb_per_s", "GB/s", "copy_by"), ("reading alone", "read_gb_per_s", "GB/s",
                                                                           "read_by"),
        ("FP16 tensor cores", "fp16_tflops", "TFLOPS", "fp16_by"), ("INT8 tensor cores", "int8_tops", "TOPS", "int8_by"),
    ) if r.get(name)]
    return f"Roofs of this {figures['gpu']}", ["what", "reached", "by"], rows


def totals(figures: dict, sizes: tuple[int, ...] = ()) -> Table:
    """`matmul_int8`, quantization included, beside torch's FP16 product. With `sizes`, for those M alone, and few rows in
    CUDA graphs alone."""
    rows = []
    for ours, torch_row in _whole(figures):
        if sizes and (ours["M"] not in sizes or ours["M"] < LARGE and ours["mode"] != "graph"):
            continue
        place = {name: ours[name] for name in ("test", "mode", "M", "K", "N")}
        quantize = select(figures, function="quantize_int8_perrow", **place)
        share = f"{quantize[0]['median_us'] / ours['median_us']:.0%}" if quantize and ours["M"] > 128 else ""
        rows.append([f"({ours['M']:,}, {ours['K']:,}, {ours['N']:,})", ours["mode"], _us(torch_row), _us(ours),
                     f"{torch_row['median_us'] / ours['median_us']:.2f}×", share])
    return ("y = x wᵀ: torch in FP16, Triton in INT8 (quantization of x included)",
            ["Shape (M, K, N)", "timed", "torch total", "Triton total", "speedup", "quantization"], rows)


def summary(figures: dict) -> Table:
    """Mean and median speed-up over the large shapes, and over the small ones by themselves."""
    by_kind: dict[str, list[float]] = {"large, M ≥ 1,024": [], "small, one by one": [], "small, in a CUDA graph": []}
    for ours, torch_row in _whole(figures):
        kind = "large, M ≥ 1,024" if ours["M"] >= LARGE else (
            "small, in a CUDA graph" if ours["mode"] == "graph" else "small, one by one")
        by_kind[kind].append(torch_row["median_us"] / ours["median_us"])
    rows = [[kind, str(len(ratios)), f"{statistics.mean(ratios):.2f}×", f"{statistics.median(ratios):.2f}×",
             f"{min(ratios):.2f} to {max(ratios):.2f}×"] for kind, ratios in by_kind.items() if ratios]
    return "matmul_int8 over cuBLAS FP16", ["shapes", "number", "mean", "median", "from, to"], rows


def _whole(figures: dict) -> list[tuple[dict, dict]]:
    found = pairs(select(figures, test="matmul_int8", mode=("eager", "graph")), "matmul_int8", "cuBLAS FP16")
    return sorted(found, key=lambda pair: (pair[0]["mode"], -pair[0]["M"], pair[0]["K"] * pair[0]["N"]))


@dataclass(frozen=True)
class Want:
    """A ratio to reach: the time of `baseline` over that of `ours`."""

    what: str
    ours: str
    baseline: str
    where: dict
    least: float | None = None
    aim: float | None = None


PREFILL = {(2048, 2048): (1.55, 1.8), (2048, 6144): (1.82, 1.9), (2048, 22016): (1.92, 1.95), (11008, 2048): (1.62, 1.85)}
_PREFILL = [{"M": 16384, "K": K, "N": N} for K, N in PREFILL]
_DECODE = [{"K": K, "N": N} for K, N in ((4096, 4096), (2048, 22016), (11008, 2048))]

WANTS = [
    *(Want("INT8 GEMM over cuBLAS FP16", "perrow_w8a8_matmul", "cuBLAS FP16", {"test": "gemm", **at}, 1.6, 1.9)
      for at in _PREFILL),
    *(Want("INT8 GEMM over torch._scaled_mm FP8", "perrow_w8a8_matmul", "torch._scaled_mm FP8", {"test": "gemm", **at}, 0.95,
           1.05) for at in _PREFILL),
    *(Want("matmul_int8 over cuBLAS FP16", "matmul_int8", "cuBLAS FP16",
           {"test": "matmul_int8", "mode": "eager", **at}, *PREFILL[at["K"], at["N"]]) for at in _PREFILL),
    *(Want("quantization over a copy of as many bytes", "quantize_int8_perrow", "copy",
           {"test": "quant_prefill", "M": 16384, "K": K}, 0.95, 1.0) for K in (2048, 4096, 5120, 11008)),
    *(Want("FP16 GEMM over cuBLAS FP16", "matmul_fp16", "cuBLAS FP16", {"test": "gemm", **at}, 0.93, 1.0)
      for at in _PREFILL),
    *(Want("FP16 GEMV over cuBLAS, cold", "gemv_fp16", "cuBLAS FP16", {"test": "gemv", "mode": "graph", **at}, 1.0, 1.15)
      for at in _DECODE),
    *(Want("INT8-weight GEMV (W8A16) over cuBLAS FP16, cold", "gemv_w8a16", "cuBLAS FP16",
           {"test": "gemv", "mode": "graph", **at}) for at in _DECODE),
    *(Want("INT8 decode over cuBLAS FP16, CUDA graph, cold", "matmul_int8", "cuBLAS FP16",
           {"test": "matmul_int8", "mode": "graph", "M": M, **at}, 1.6, 2.0) for M in (1, 16) for at in _DECODE),
    *(Want("RMSNorm + quantization, fused over apart", "rmsnorm_quantize_int8",
           "torch.compile RMSNorm, quantize_int8_perrow", {"test": "fused", "K": K}, 1.5, 2.0) for K in (2048, 4096)),
    *(Want("CPU time of F.linear over Int8Linear's", "Int8Linear", "F.linear", {"test": "host", "M": M}, 1 / most, 1 / aim)
      for M, most, aim in ((1, 3, 1.5), (16, 5, 2.5), (512, 4, 2))),
    Want("attention to an INT8 cache over SDPA in FP16", "decode_attention_int8", "SDPA FP16", {"test": "attention"}),
    Want("SiLU·mul + quantization, fused over apart", "silu_mul_quantize_int8",
         "torch.compile SiLU·mul, quantize_int8_perrow", {"test": "fused"}),
]


def wanted(figures: dict) -> Table:
    """What was wanted of the kernels on a Hopper GPU, what they reached, and what is missing where they did not."""
    rows = []
    for want in WANTS:
        for ours, base in pairs(select(figures, **want.where), want.ours, want.baseline):
            rows.append(_wanted_row(figures, want.what, ours, want.least, want.aim, base["median_us"] / ours["median_us"]))
    rows += [_wanted_row(figures, "INT8 decode over cuBLAS FP16, after another kernel", row, None, None, ratio)
             for row, ratio in after_a_copy(figures)]
    return "Wanted and reached", ["what", "shape", "wanted", "go for", "reached", "", "still missing, and why"], rows


def _wanted_row(figures: dict, what: str, row: dict, least: float | None, aim: float | None, ratio: float) -> list[str]:
    verdict = ""
    if least is not None and aim is not None:
        verdict = "aim reached" if ratio >= aim else "reached" if ratio >= least else "MISSED"
    shape = f"M={row['M']:,} K={row['K']:,}" + (f" N={row['N']:,}" if row["N"] > 1 else "")
    missing = f"{1 - ratio / aim:.1%} of its time: {_why(figures, row, ratio)}" if aim and ratio < aim else ""
    return [what, shape, f"{least:.2f}" if least else "", f"{aim:.2f}" if aim else "", f"{ratio:.2f}", verdict, missing]


def _why(figures: dict, row: dict, ratio: float) -> str:
    """What a function's time goes into that the aim leaves no room for."""
    us, part = row["median_us"], of_roof(row, figures["roofs"]) or 0
    if row["mode"] == "host":
        return "looking up the call, allocations, launches"
    alone = {r["function"]: r["median_us"] for r in select(figures, **{name: row[name] for name in UNIT})}
    if row["function"] == "matmul_int8" and {"quantize_int8_perrow", "perrow_w8a8_matmul"} <= set(alone):
        quantizing, product = alone["quantize_int8_perrow"] / us, alone["perrow_w8a8_matmul"] / us
        left = f" by itself, {1 - product:.0%} beside the product" if quantizing + product > HIDDEN else ""
        return f"quantizing x takes {quantizing:.0%}{left}; the product alone reaches {ratio / product:.2f}"
    if row["M"] <= MAX_M and row["flops"] and part:
        rest = "quantizing x and the latency of two kernels" if row["function"] == "matmul_int8" else "the kernel's latency"
        return f"reading w at a copy's speed takes {part * us:.1f} of {us:.1f} µs ({ratio / part:.2f}), {rest} the rest"
    return f"it runs at {part:.0%} of this GPU's best {'speed of arithmetic' if row['flops'] else 'copy'}"


def after_a_copy(figures: dict) -> list[tuple[dict, float]]:
    """Decode's speed-up where a copy of x stands before each product, its own time taken off."""
    rows = select(figures, test="after a copy")
    found = []
    for ours, base in pairs(rows, "copy of x, then matmul_int8", "copy of x, then cuBLAS FP16"):
        copies = pairs([ours, *select(rows, function="copy of x", M=ours["M"], K=ours["K"], N=ours["N"])],
                       "copy of x, then matmul_int8", "copy of x")
        if copies:
            copy_us = copies[0][1]["median_us"]
            found.append((ours, (base["median_us"] - copy_us) / (ours["median_us"] - copy_us)))
    return found


def steps(figures: dict) -> Table:
    """What one row of x more costs where `matmul_int8` goes from one kernel or tile to the next."""
    rows = []
    both = {name: {(row["K"], row["N"], row["M"]): row["median_us"] for row in select(
        figures, test="matmul_int8", mode="graph", function=name)} for name in ("matmul_int8", "cuBLAS FP16")}
    for K, N in dict.fromkeys((K, N) for K, N, _ in both["matmul_int8"]):
        for few in (16, 32, 64):
            if all((K, N, M) in times for times in both.values() for M in (few, few + 1)):
                ours, torch_us = ([times[K, N, few], times[K, N, few + 1]] for times in both.values())
                rows.append([f"M={few} to {few + 1} K={K:,} N={N:,}", f"{ours[0]:.1f} to {ours[1]:.1f} µs",
                             f"{ours[1] / ours[0]:.2f}×", f"{torch_us[1] / torch_us[0]:.2f}×"])
    return "One row more, in a CUDA graph", ["shape", "matmul_int8", "takes", "cuBLAS FP16"], rows


def others(figures: dict) -> Table:
    """What other libraries take for INT8 with quantization included."""
    rows = []
    for name in ("matmul_int8", "torch.compile", "torchao", "gemlite"):
        for row, base in pairs(select(figures, test="others"), name, "cuBLAS FP16"):
            rows.append([name, f"({row['M']:,}, {row['K']:,}, {row['N']:,})", _us(row),
                         f"{base['median_us'] / row['median_us']:.2f}×"])
    return "INT8 with quantization, by library, over cuBLAS FP16", ["library", "Shape (M, K, N)", "total", "speedup"], rows


def host(figures: dict) -> Table:
    """What a call of an INT8 layer costs the CPU beside one of torch's."""
    rows = [[f"{ours['M']:,}", _us(base), _us(ours), f"{ours['median_us'] / base['median_us']:.2f}×"]
            for ours, base in pairs(select(figures, test="host"), "Int8Linear", "F.linear")]
    return "Time of the CPU for one call, K = N = 4,096", ["rows", "F.linear", "Int8Linear", ""], rows


def ladder(figures: dict) -> list[Table]:
    """The README's tables: each rung with its time, speed and part of the roof."""
    def rung(row: dict, base: dict | None) -> list[str]:
        part = of_roof(row, figures["roofs"])
        speed = f"{row['tflops']:,.0f} TFLOPS" if row["tflops"] and row["M"] > 1 else f"{row['gb_per_s']:,.0f} GB/s"
        name = f"`{row['function']}`" if row["function"].isidentifier() else row["function"]
        return [name, _us(row), speed.replace("TFLOPS", "TOPS") if "int8" in name or "w8a8" in name else speed,
                f"{base['median_us'] / row['median_us']:.2f}×" if base else "", f"{part:.0%}" if part else ""]

    def table(title, baseline, rows):
        base = {row["function"]: row for row in rows}.get(baseline)
        return title, ["", "time", "speed", f"against {baseline}", "of the roof"], [rung(row, base) for row in rows]

    at = {"M": 16384, "K": 2048, "N": 6144}
    prefill = select(figures, test="gemm", **at)
    prefill += select(figures, test="matmul_int8", function="matmul_int8", mode="eager", **at)
    decode = select(figures, test="gemv", mode="graph", K=2048, N=22016)
    decode += select(figures, test="matmul_int8", function="matmul_int8", mode="graph", M=1, K=2048, N=22016)
    quantization = select(figures, test="quant_prefill", M=16384, K=4096)
    return [table for table in (
        table("Decode, y = W x with W (22,016, 2,048), in a CUDA graph", "cuBLAS FP16", decode),
        table("Prefill, y = x wᵀ with M = 16,384, K = 2,048, N = 6,144", "cuBLAS FP16", prefill),
        table("Quantization of x (16,384, 4,096) by rows", "copy", quantization)) if table[2]]


def compare(old: dict, new: dict) -> Table:
    """The figures of two files that got faster or slower beyond the noise.

    A GPU's clock, and with it every time, moves by several percent from run to run with power and temperature; functions
    timed in turns move together. So a time is compared after the change of the function that it was timed in turns with
    (the first of its unit) is taken out, and that function's own after the median change of all such. It has changed where
    the bounds of the middle 80 % of calls do not overlap, and the medians differ by more than RUN_TO_RUN. Calls from an
    idle GPU and the host's times are left out: what the CPU takes differs by a factor of two from process to process.
    """
    before = {unit_of(row) + (row["function"],): row for row in old["rows"]}
    both = [(before[key], row) for row in new["rows"]
            if row["mode"] not in ("idle", "host") and (key := unit_of(row) + (row["function"],)) in before]
    firsts: dict[tuple, tuple[str, float]] = {}  # by unit: its first function, and how its time changed
    for was, row in both:
        firsts.setdefault(unit_of(row), (row["function"], row["median_us"] / was["median_us"]))
    overall = statistics.median(drift for _, drift in firsts.values()) if both else 1.0
    rows = []
    for was, row in both:
        first, drift = firsts[unit_of(row)]
        drift = overall if row["function"] == first else drift
        ratio = was["median_us"] * drift / row["median_us"]
        apart = row["low_us"] > was["high_us"] * drift or row["high_us"] < was["low_us"] * drift
        if apart and abs(ratio - 1) > RUN_TO_RUN:
            rows.append([row["function"], f"{row['test']}, {row['mode']}", f"({row['M']:,}, {row['K']:,}, {row['N']:,})",
                         _us(was), _us(row), f"{drift:.2f}×", f"{ratio:.2f}× {'faster' if ratio > 1 else 'slower'}"])
    title = (f"{len(rows)} of {len(both)} figures changed beyond the noise ({old['gpu']}, {old['date']} to {new['gpu']}, "
             f"{new['date']}; on the whole, times are {overall:.2f}× those before)")
    return title, ["function", "test", "Shape (M, K, N)", "before", "after", "of it common", "change"], rows


def markdown(table: Table) -> str:
    title, headings, rows = table
    line = "| " + " | ".join(headings) + " |\n| --- |" + " ---: |" * (len(headings) - 1)
    return f"**{title}**\n\n{line}\n" + "".join("| " + " | ".join(row) + " |\n" for row in rows)


def put_between(path: Path, begin: str, end: str, block: str) -> None:
    """Put `block` between two marker lines of a file. Raises ValueError where it does not have them once each, in order."""
    text = path.read_text()
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{path} must have the lines {begin} and {end}, once each and in this order")
    before, _, rest = text.partition(begin)
    path.write_text(f"{before}{begin}\n{block}{end}{rest.partition(end)[2]}")


def _us(row: dict) -> str:
    us = row["median_us"]
    return f"{us:,.0f} µs" if us >= 100 else f"{us:.1f} µs"
