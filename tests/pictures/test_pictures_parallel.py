"""What lesson 12 says in numbers is what is recorded in results/ranks/, or what the workshop computes; its pictures too."""

import functools
import itertools

import pytest
from drawn import bars, lines

from checks.bench import ranks
from checks.bench.results import select
from checks.course.notebooks import LESSONS, read
from checks.pictures import parallel
from kernels import collectives
from kernels.ranks import column_part
from kernels.ranks import shared_scale as ranks_shared_scale

ROWS = ranks.load()["rows"]


@pytest.fixture(scope="module")
def page():
    (path,) = LESSONS.glob("12_*.ipynb")
    return " ".join(" ".join(cell.source for cell in read(path).cells).split())


def us(part: str, function: str, M: int, gpus: int = 2) -> float:
    (row,) = select(ROWS, part=part, function=function, M=M, gpus=gpus)
    return row["median_us"]


def test_times_of_an_exchange(page):
    few, more, middle, many = (us("link", "all-reduce FP16", M) for M in (1, 64, 1024, 8192))
    assert f"A row takes {few:.1f} µs and 64 rows {more:.1f}: that is latency. 8,192 rows take {many:.0f} µs" in page
    latency_us, gb_per_s = parallel.link_numbers(ranks.load())
    model = collectives.all_reduce_us(2 * 1024 * 4096, 2, latency_us, gb_per_s)
    assert f"{middle:.1f} µs for 1,024 rows, and not {model:.1f}." in page
    assert f"900 GB/s, 450 in each direction (H200 datasheet); the longest tensors reached {gb_per_s:.0f}." in page
    assert f"With 8,192 rows that takes {us('link', 'peers FP16', 8192):.0f} µs." in page


def test_steps_of_the_row_parallel_product(page):
    maxima, more_maxima = (us("step", "INT8, shared scale: exchange of maxima", M) for M in (1, 8192))
    (sums, products), (more_sums, more_products) = (
        [us("step", f"{name}: exchange", M) for name in ("INT8, shared scale", "FP16")] for M in (1, 8192))
    assert f"costs more: {maxima:.1f} µs for the maximum." in page and maxima > sums - products
    assert f"almost nothing, {sums:.1f} µs in place of {products:.1f}." in page
    assert f"For 8,192 rows the maxima take {more_maxima:.0f} µs" in page
    assert f"and the sums {more_sums:.0f} in place of {more_products:.0f}." in page


def test_the_row_parallel_product_and_its_accuracy(page):
    few, many = ([us("product", name, M, gpus) for name, gpus in (
        ("INT8, shared scale", 2), ("INT8, own scales", 2), ("INT8", 1))] for M in (1, 8192))
    assert f"takes {few[0]:.1f} µs with a shared scale, {few[1]:.1f} with own scales and {few[2]:.1f} on one GPU" in page
    assert few[1] > few[2] and f"With 8,192 rows it is {many[0]:,.0f}, {many[1]:.0f} and {many[2]:.0f} µs." in page
    shared, own, one = (select(ROWS, part="product", function=name, M=8192)[0]["sqnr_db"] for name in (
        "INT8, shared scale", "INT8, own scales", "INT8"))
    assert shared == one
    assert f"The SQNR is {shared:.1f} dB with a shared scale, as on one GPU, and {own:.1f} with own scales." in page


def test_what_a_second_gpu_gains_an_mlp(page):
    def gain(function, M, kind="INT8"):
        return f"{us('mlp', kind, M, 1) / us('mlp', function, M):.2f}"

    assert f"{gain('FP16', 1, 'FP16')} times as fast with one row, {gain('FP16', 8192, 'FP16')} with 8,192." in page
    own = [gain("INT8, own scales", M) for M in (1, 256, 1024, 8192)]
    assert "gains {} with one row, {} with 256, {} with 1,024 and {} with 8,192.".format(*own) in page
    shared = [us("mlp", "INT8", M, 1) / us("mlp", "INT8, shared scale", M) for M in (1, 4, 16, 64, 256)]
    assert max(shared) < 1 and f"up to 256 rows ({shared[-1]:.2f}), and gains {gain('INT8, shared scale', 8192)}" in page
    peers = [gain("INT8, own scales, peers", M) for M in (1, 8192)]
    assert "gains {} with one row and {} with 8,192.".format(*peers) in page


def test_the_prediction_for_an_mlp(page, capsys):
    parallel.print_mlp(collectives.parallel_speedup, collectives.all_reduce_us)
    table = {row[0]: row for row in map(str.split, capsys.readouterr().out.splitlines()[1:])}
    assert "From 4,096 rows on the prediction is at most 6 % too high." in page
    off = {rows: float(row[-2]) / float(row[-1]) for rows, row in table.items()}
    assert 0.05 < max(off["4,096"], off["8,192"]) - 1 < 0.06 and max(off, key=off.get) == "256"
    first, worst = table["1"], table["256"]
    assert f"{first[-2]} and not {first[-1]} with one row, {worst[-2]} and not {worst[-1]} with 256." in page


def test_the_block_on_one_gpu_and_on_two(page):
    places = (("prefill", 8192), ("decode", 1), ("decode", 16))
    (one, two), (one16, two16) = (
        [[parallel.best(ranks.load(), phase, M, kind, gpus) for phase, M in places] for gpus in (1, 2)]
        for kind in ("INT8", "FP16"))
    assert {row["function"] for row in two} == {"INT8, own scales, peers"}
    a, b = [row["median_us"] for row in one], [row["median_us"] for row in two]
    gains = [x / y for x, y in zip(a, b, strict=True)]
    assert f"takes {b[0]:,.0f} µs in place of {a[0]:,.0f} on one GPU ({gains[0]:.2f} times as fast)" in page
    assert f"decode of one token {b[1]:.1f} in place of {a[1]:.1f} ({gains[1]:.2f})" in page
    assert f"of 16 tokens {b[2]:.1f} in place of {a[2]:.1f} ({gains[2]:.2f})." in page
    gains16 = [x["median_us"] / y["median_us"] for x, y in zip(one16, two16, strict=True)]
    assert "FP16 gains {:.2f}, {:.2f} and {:.2f}.".format(*gains16) in page
    over = [x["median_us"] / y for x, y in zip(two16, b, strict=True)]
    assert "On two GPUs INT8 is {:.2f}, {:.2f} and {:.2f} times as fast as FP16.".format(*over) in page
    shared = [min(row["median_us"] for row in select(ROWS, part="block", phase=phase, M=M)
                  if row["function"].startswith("INT8, shared scale")) for phase, M in places]
    assert "the three take {:,.0f}, {:.1f} and {:.1f} µs.".format(*shared) in page
    alike = {(row["phase"], row["M"]): row["same_bits_as"] for row in select(ROWS, part="block")}
    assert [alike[place] == "one GPU" for place in places] == [True, True, False]


# pictures, read back from their axes


def test_the_cut_is_drawn_as_it_was_cut():
    def turned(w_q, w_scale, rank, size):
        return column_part(w_q, w_scale, 1 - rank, size)

    turned.__name__ = "column_part"
    (axes,) = parallel.show_columns(turned, N=4, K=2).axes
    assert axes.images[0].get_array().tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]


def test_times_are_drawn_as_recorded():
    (axes,) = parallel.show_link(collectives.all_reduce_us).axes
    for label, name, width in (("all-reduce FP16", "all-reduce FP16", 2), ("all-reduce INT32", "all-reduce INT32", 4),
                               ("FP16 through peer memory", "peers FP16", 2)):
        assert lines(axes)[label] == {width * row["M"] * 4096: row["median_us"] for row in select(
            ROWS, part="link", function=name)}
    (axes,) = parallel.show_mlp().axes
    drawn = lines(axes)
    for name, gpus in (("FP16", 1), ("FP16", 2), ("INT8", 1), *((name, 2) for name in parallel.SCHEMES)):
        assert drawn[f"{name}, {gpus} GPU" + "s" * (gpus > 1)] == {
            row["M"]: row["median_us"] for row in select(ROWS, part="mlp", function=name, gpus=gpus)}
    assert len(drawn) == 6
    for axes, M in zip(parallel.show_steps((1, 8192)).axes, (1, 8192), strict=True):
        drawn = bars(axes)
        assert drawn["product"] == [us("step", f"{name}: product", M) for name in ("FP16", *parallel.SCHEMES)]
        assert drawn["exchange"][2] == drawn["exchange"][0] == us("step", "FP16: exchange", M)
        shared = "INT8, shared scale: exchange"
        assert drawn["exchange"][1] == us("step", shared, M) + us("step", f"{shared} of maxima", M)
    assert bars(parallel.show_block().axes[1])["2 GPUs"][1] == us("block", "INT8, own scales, peers", 1)


def test_the_best_way_is_the_fastest_of_its_place_and_kind():
    rows = [{"part": part, "phase": phase, "M": M, "gpus": gpus, "function": function, "median_us": us}
            for us, (function, gpus, M, phase, part) in enumerate(itertools.product(
                ("INT8, own scales", "INT8, compiled", "FP16, compiled", "FP16"), (2, 1), (16, 1), ("prefill", "decode"),
                ("mlp", "block")))]
    best = parallel.best({"rows": rows[::-1]}, "decode", 1, "FP16", 1)
    assert [best[name] for name in ("function", "gpus", "M", "phase", "part")] == ["FP16, compiled", 1, 1, "decode", "block"]


def test_columns_that_two_ranks_compute_are_compared(monkeypatch, capsys):
    monkeypatch.setattr(parallel, "in_processes", lambda function, given: (
        [function(**each, group=None) for each in given], 5))
    parallel.compare_columns(column_part, M=3, N=8, K=16)

    def turned(w_q, w_scale, rank, size):
        return column_part(w_q, w_scale, 1 - rank, size)

    turned.__name__ = "column_part"
    parallel.compare_columns(turned, M=3, N=8, K=16)
    assert capsys.readouterr().out.splitlines() == [
        f"{differ} of 24 numbers differ, and 5 bytes were exchanged" for differ in (0, 24)]


def test_a_row_and_its_scales(monkeypatch):
    def played(function, given):
        parts = [each["x"] for each in given]
        assert [part.shape for part in parts] == [(1, 4), (1, 4)] and all(part.is_contiguous() for part in parts)
        scale = max(part.abs().max() for part in parts).float() / 127
        return (scale, scale), 4

    monkeypatch.setattr(parallel, "in_processes", played)
    (axes,) = parallel.show_row(ranks_shared_scale, K=8).axes
    heights = [bar.get_height() for bar in axes.patches]
    own, other, shared = ([float(y) for y in line.get_ydata()] for line in axes.lines)
    assert heights[2] == 7 == max(heights) and own == [7, 7] and other == [max(heights[4:])] * 2
    assert shared == pytest.approx([7, 7]) and [list(line.get_xdata()) for line in axes.lines] == [[0, 3], [4, 7], [0, 7]]


def test_nothing_recorded_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(ranks, "load", functools.partial(ranks.load, ranks.FOLDER / "none.json"))
    assert parallel.show_mlp() is None
    assert "bench --ranks 2" in capsys.readouterr().out
