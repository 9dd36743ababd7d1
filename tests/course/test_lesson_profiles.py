"""What the lessons say of the hardware is what a profiler counted, as recorded in results/profiles/."""

from functools import cache

import pytest
import torch

from checks.bench.profile import profiled, profiles
from checks.bench.results import recorded, select
from checks.course.notebooks import LESSONS, read
from checks.pictures.profiling import WORKING, times_of_work
from kernels.profiling import better_change, limit_of


@cache
def text(lesson: str) -> str:
    """The words of a lesson, with single spaces."""
    return " ".join(" ".join(cell.source for cell in read(next(LESSONS.glob(f"{lesson}_*.ipynb"))).cells).split())


def read_mb(row: dict) -> float:
    return row["dram_read_bytes"] / 1e6


def listed(values: list[str]) -> str:
    return f"{', '.join(values[:-1])} and {values[-1]}"


def test_01_bytes_of_strided_copies():
    rows = [profiled(f"copy_2d, stride {stride}") for stride in (1, 2, 4, 8)]
    assert (f"The kernel read {listed([f'{read_mb(row):,.0f}' for row in rows])} MB from memory, and took "
            f"{listed([format(row['us'], '.0f') for row in rows])} µs.") in text("01")
    assert [round(read_mb(row) / 134.2) for row in rows] == [1, 2, 4, 8] and 4 * 8192 * 4096 == 134_217_728
    sectors = listed([f"{row['sectors_per_load']:.0f}" for row in rows])
    assert f"A single load instruction touched {sectors} sectors there" in text("01")


def test_01_where_the_time_of_a_small_product_goes():
    row, small, big = (profiled(name, N=N) for name, N in (("gemv_fp16_row", 65536), ("gemv_fp16", 4096),
                                                           ("gemv_fp16", 65536)))
    eager, = select(recorded(), test="gemv", mode="eager", function="gemv_fp16", N=4096, K=4096)
    split, add = (profiled("cuBLAS FP16", M=1, N=4096, launch=launch) for launch in (0, 1))
    page = text("01")
    assert f"{small['us']:.1f} of the {eager['median_us']:.1f} µs of an eager call" in page
    assert (f"memory ran at {small['dram_pct']:.0f} % of its peak, while at $N$ = 65,536 the same kernel reached "
            f"{big['dram_pct']:.0f} %.") in page
    busy = "busy_multiprocessors_pct"
    assert f"a multiprocessor had work {small[busy]:.0f} % of the time, not {big[busy]:.0f} %" in page
    assert f"divides $K$ among its programs ({split['us']:.1f} µs)" in page
    assert f"one that adds up the parts ({add['us']:.1f} µs)" in page
    assert f"the profiler counted {read_mb(row):,.0f} and {read_mb(big):,.0f} MB read from memory" in page


def test_02_units_of_three_kernels():
    names, page = ("matmul_fp16_naive", "matmul_fp16_grouped", "matmul_fp16"), text("02")
    rows = [profiled(name) for name in names]
    for name, row in zip(names, rows, strict=True):
        parts = " | ".join(f"{row[unit]:.0f} %" for unit in ("dram_pct", "l2_pct", "tensor_pct", "l2_hit_pct"))
        assert f"| `{name}` | {row['us']:.0f} µs | {parts} |" in page
    naive, grouped, _ = rows
    assert f"the L2 cache serves {grouped['l2_hit_pct']:.0f} % of the reads, not {naive['l2_hit_pct']:.0f} %" in page
    assert f"from {naive['dram_pct']:.0f} to {grouped['dram_pct']:.0f} % of its peak" in page
    assert f"only from {naive['us']:.0f} to {grouped['us']:.0f} µs" in page
    assert all(max(row[unit] for unit in ("dram_pct", "tensor_pct", "issue_pct")) < row["l2_pct"] for row in rows[:2])
    assert f"The tensor cores work {naive['tensor_pct']:.0f} % of the time." in page


def test_02_stages_of_the_loop():
    rows, page = [profiled(f"matmul_fp16_naive, {stages} stages") for stages in (1, 2, 3, 4)], text("02")
    for stages, row in enumerate(rows, 1):
        fit = min(row["fit_by_shared"], row["fit_by_registers"], row["fit_by_warps"])
        waits = row["stalls"]["long_scoreboard"]
        assert f"| {stages} | {row['us']:,.0f} µs | {row['tensor_pct']:.0f} % | {waits:.0f} % | {fit} |" in page
    one, _, three, four = (row["stalls"]["long_scoreboard"] for row in rows)
    assert f"With one stage a warp waits for its loads {one:.0f} % of its time; with three it is {three:.0f} %" in page
    assert rows[2]["tensor_pct"] / rows[0]["tensor_pct"] == pytest.approx(2, abs=0.1)
    assert (f"the L2 cache serves {rows[3]['l2_hit_pct']:.0f} % of the reads instead of {rows[2]['l2_hit_pct']:.0f} %"
            in page) and four > three


def test_profiles_were_read_on_the_gpu_that_the_lessons_name():
    assert profiles()["gpu"] == recorded()["gpu"] == "NVIDIA H200"


def instructions(row: dict) -> float:
    """Of a thread, for each number of x."""
    return row["instructions"] * 32 / (row["M"] * row["K"])


PLAIN = "quantize_int8_perrow_plain"


def test_05_weights_in_the_other_layout():
    fast, slow = (profiled(f"int_mm, w {layout}") for layout in ("K-major", "N-major"))
    queue = slow["stalls"]["mio_throttle"]
    assert (f"Its {slow['us']:.0f} µs, instead of {fast['us']:.0f}, go into shared memory: the unit that serves it is busy "
            f"{slow['l1_pct']:.0f} % of the time, and {queue:.0f} % of the time a warp waits for a place in the queue to "
            f"it. The tensor cores work {slow['tensor_pct']:.0f} % of the time, with K-major weights "
            f"{fast['tensor_pct']:.0f} %.") in text("05")


def test_08_kernels_alone():
    page, w8a8, w8a16 = text("08"), profiled("decode_w8a8", M=1), profiled("gemv_w8a16")
    assert f"then W8A8 takes {w8a8['us']:.1f} µs and W8A16 {w8a16['us']:.1f}." in page and w8a8["us"] > w8a16["us"]
    at_work = profiled("skinny_w8a8", M=16, K=4096)["tensor_pct"]
    assert f"has the tensor cores at work {at_work:.1f} % of the time" in page
    few, many = ([profiled("decode_w8a8", M=M, launch=launch) for launch in range(3)] for M in (16, 64))
    for name, before, after in zip(("its quantization", "its product", "the sum of its parts"), few, many, strict=True):
        assert f"{name} takes {before['us']:.1f} and {after['us']:.1f} µs" in page
    units = ("dram_pct", "l2_pct", "issue_pct", "tensor_pct")
    busiest = max(row[unit] for row in (*few[::2], *many[::2]) for unit in units)
    assert f"no unit is busier than {busiest:.0f} % of its peak" in page


def test_09_what_the_picture_shows():
    page, big, small = text("09"), profiled("gemv_fp16", N=65536), profiled("gemv_fp16", N=4096)
    fast, skinny = profiled("matmul_fp16"), profiled("skinny_w8a8", M=16, K=4096)
    assert f"on the large $W$ uses {big['dram_pct']:.0f} % of DRAM's peak" in page
    assert f"On the small $W$ it is {small['dram_pct']:.0f} %" in page
    assert f"its tensor cores work {fast['tensor_pct']:.0f} % of the time." in page
    assert f"It has {skinny['programs']} programs for 132 multiprocessors" in page
    assert f"has an occupancy of {fast['occupancy_pct']:.0f} %: one program on each multiprocessor" in page
    assert min(fast["fit_by_shared"], fast["fit_by_registers"]) == 1


def limit(row: dict) -> str:
    return limit_of(row["us"], 6.0, *(row[unit] for unit in WORKING))


def test_09_the_limits_that_the_text_names():
    assert limit(profiled("matmul_fp16_naive")) == "memory" and limit(profiled("matmul_fp16")) == "compute"
    assert {limit(profiled(PLAIN, K=K)) for K in (2048, 4096, 5120)} == {"compute"}
    assert {limit(profiled("quantize_int8_perrow", K=K)) for K in (2048, 4096, 5120, 11008)} == {"memory"}
    skinny = {"M": 16, "K": 4096}
    assert limit(profiled("skinny_w8a8", **skinny)) == "latency"
    assert limit(profiled("split_k_w8a8", launch=1, **skinny)) == "launch"
    assert "are just above the threshold" in text("09")
    for row in (profiled("gemv_fp16", N=4096), profiled(PLAIN, K=5120)):
        assert 60 < max(row[unit] for unit in WORKING) < 70


def predicted(before: str, after: str, **shape: int) -> tuple[float, float]:
    now, then = profiled(before, **shape), profiled(after, **shape)
    pct = torch.tensor([float(now[unit]) for unit in WORKING])
    return better_change(now["us"], pct, torch.tensor([times_of_work(now, then)]))[1], then["us"]


def test_09_changes_as_predicted():
    page = text("09")
    products = [predicted("matmul_fp16_naive", name) for name in ("matmul_fp16_grouped", "matmul_fp16")]
    off = max(abs(model / measured - 1) for model, measured in products)
    assert f"the better change and its time within {100 * off:.0f} %" in page
    assert all((products[0][place] > products[1][place]) for place in (0, 1)), "it names the better one"
    chunks, library = (predicted(PLAIN, name, K=5120) for name in ("quantize_int8_perrow_long", "quantize_int8_perrow"))
    assert f"{library[0]:.0f} µs predicted, {library[1]:.0f} measured" in page and library < chunks
    model, measured = predicted("skinny_w8a8", "split_k_w8a8", M=16, K=4096)
    now = profiled("skinny_w8a8", M=16, K=4096)["us"]
    assert model >= now and f"the split makes it {now / measured:.1f} times as fast" in page


def test_09_full_waves_and_busy_units():
    names = ("64 x 64 x 256, 4 warps, 4 stages", "64 x 128 x 128, 4 warps, 3 stages")
    full, best = (profiled(name, M=512) for name in names)
    mb = [f"{row['l2_bytes'] / 1e6:,.0f} MB" for row in (full, best)]
    page = text("09")
    assert (f"the full configuration keeps {full['fit_by_shared']} program of 4 warps on a multiprocessor, its L2 cache "
            f"moves {mb[0]}, and its tensor cores work {full['tensor_pct']:.0f} % of the time.") in page
    fit = min(best["fit_by_shared"], best["fit_by_registers"])
    assert f"With the best one it is up to {fit} programs, {mb[1]} and {best['tensor_pct']:.0f} %." in page


def test_09_protons_shares():
    scope, = (scope for scope in profiles()["proton"]["children"] if scope["name"] == "matmul_int8 (16, 4,096, 4,096)")
    product, = (kernel for kernel in scope["children"] if kernel["name"] == "decode_w8a8_kernel")
    assert f"the product itself is {100 * product['us'] / scope['us']:.0f} % of the kernels' time" in text("09")
