"""The benchmark's figures, read back from their axes, and which rows of a results file each picture draws."""

import pytest
from synthetic_figures import ROOFS, row

from checks.bench import figures, gallery
from checks.bench.figures import COLOURS


def timed(function, us, M=16, K=64, N=64, mode="graph", **more):
    return row("matmul_int8", function, M, N, K, mode) | {"median_us": us} | more


def drawn(axes) -> dict:
    return {line.get_label(): dict(line.get_xydata().tolist()) for line in axes.lines if line.get_label()[0] != "_"}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_lines_run_over_the_dimension_with_the_most_values():
    rows = [timed("cuBLAS FP16", 10.0 * K + N, K=K, N=N) | {"gb_per_s": float(K)} for K in (64, 16, 256) for N in (8,)]
    axes = figures.bandwidth_figure(rows, {}, "a title").axes[0]
    assert drawn(axes) == {"cuBLAS FP16": {16: 16, 64: 64, 256: 256}} and axes.lines[0].get_xdata()[0] == 16
    assert axes.get_xlabel() == "K, length of a row (M = 16, N = 8)" and axes.get_title() == "a title"
    assert list(axes.get_xticks()) == [256, 64, 16] and axes.xaxis.get_major_formatter()(16384, 0) == "16,384"
    assert axes.get_ylim() == (0, pytest.approx(1.12 * 256)) and texts(axes) == []
    one_column = [{**r, "N": 1} for r in rows]
    assert figures.bandwidth_figure(one_column, {}, "").axes[0].get_xlabel() == "K, length of a row (M = 16)"


def test_roofs_are_lines_with_their_numbers_and_in_sight():
    rows = [timed("cuBLAS FP16", 1.0, M=M) | {"gb_per_s": 100.0, "tflops": 50.0} for M in (1, 2)]
    axes = figures.bandwidth_figure(rows, ROOFS, "").axes[0]
    assert [line.get_ydata()[0] for line in axes.lines[1:]] == [4000, 4200]
    assert axes.get_ylim()[1] == pytest.approx(1.12 * 4200)
    axes = figures.tflops_figure([*rows, rows[0] | {"tflops": None, "function": "copy"}], ROOFS, "").axes[0]
    assert texts(axes) == ["FP16, a large square product: 700", "INT8, a large square product: 1,400"]
    assert [line.get_ydata()[0] for line in axes.lines[1:]] == [700, 1400] and set(drawn(axes)) == {"cuBLAS FP16"}
    assert axes.get_ylim()[1] == pytest.approx(1.12 * 1400)


def test_a_speed_up_is_over_the_baseline_timed_together():
    rows = [timed("cuBLAS FP16", 30.0, M=1), timed("cuBLAS FP16", 10.0, M=2), timed("f", 10.0, M=1), timed("f", 20.0, M=2),
            timed("f", 1.0, M=4), timed("f", 1.0, M=1, mode="eager")]
    axes = figures.speedup_figure(rows, "cuBLAS FP16", "").axes[0]
    assert drawn(axes) == {"f": {1: 3, 2: 0.5}} and texts(axes) == ["cuBLAS FP16"]
    assert axes.lines[1].get_ydata()[0] == 1 and axes.get_ylim() == (0, pytest.approx(3.3))
    assert axes.get_ylabel() == "times as fast as cuBLAS FP16"


def test_a_breakdown_shows_gaps_where_the_whole_is_longer():
    us = {"cuBLAS FP16": 20.0, "matmul_int8": 12.0, "quantize_int8_perrow": 2.0, "perrow_w8a8_matmul": 7.0}
    rows = [timed(name, value, mode="idle") for name, value in us.items()]
    rows += [timed(name, {"matmul_int8": 8.0}.get(name, value)) for name, value in us.items()]
    rows += [timed("matmul_int8", 1.0, M=99)]  # alone: there is nothing to break down
    figure = figures.breakdown_figure(rows, "a title")
    idle, graph = figure.axes
    assert [(bar.get_x() + 0.35, bar.get_y(), bar.get_height()) for bar in idle.patches] == [
        (0, 0, 20), (1, 0, 7), (1, 7, 2), (1, 9, 3)]
    assert [bar.get_height() for bar in graph.patches] == [20, 7, 2] and texts(graph) == ["20.0 µs", "whole: 8.0 µs"]
    assert graph.texts[1].xy == (1, 9) and graph.lines[0].get_ydata()[0] == 8
    assert idle.get_title() == "M=16 K=64 N=64\nlaunched one by one, GPU idle"
    assert graph.get_title().endswith("in a CUDA graph") and idle.get_ylim()[1] == pytest.approx(1.15 * 20)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "matmul_int8, timed whole", "FP16 product (torch)", "INT8 product (Triton)", "quantization (Triton)",
        "launches and gaps"] and figure.get_suptitle() == "a title"


def test_the_roofline_s_roofs_meet_at_their_ridge():
    rows = [timed("cuBLAS FP16", 1.0, M=M, flops=flops, bytes=100, tflops=tflops)
            for M, flops, tflops in ((1, 100, 1.0), (64, 100000, 500.0))] + [timed("copy", 1.0, flops=0)]
    axes = figures.roofline_figure(rows, ROOFS, "").axes[0]
    assert drawn(axes) == {"cuBLAS FP16": {1: 1, 1000: 500}}
    fp16, int8 = (line.get_xydata().tolist() for line in axes.lines[:2])
    assert fp16 == [[1 / 1.6, pytest.approx(4 / 1.6)], [175, pytest.approx(700)], [1600, 700]]
    assert int8[1:] == [[350, pytest.approx(1400)], [1600, 1400]] and axes.get_xlim() == (1 / 1.6, 1600)
    assert texts(axes) == ["FP16 peak: 700", "INT8 peak: 1,400", "M=64", "M=1", "memory: 4,000 GB/s"]


def test_where_two_latencies_cross_is_between_measured_sizes():
    rows = [timed("cuBLAS FP16", 10.0, M=M) for M in (1, 4, 16, 64)]
    rows += [timed("f", us, M=M) for M, us in ((64, 14.0), (1, 8.0), (16, 12.0), (4, 8.0))]
    assert figures.break_evens(rows, "f", "cuBLAS FP16") == [(pytest.approx(8), pytest.approx(10))]  # 4 · 4^(1/2)
    axes = figures.latency_figure(rows, "").axes[0]
    assert drawn(axes)["f"] == {1: 8, 4: 8, 16: 12, 64: 14} and texts(axes) == ["break-even\nM ≈ 8"]
    assert axes.get_ylim() == (0, pytest.approx(1.15 * 14)) and axes.get_ylabel() == "µs"
    assert figures.break_evens([*rows[:4], *(timed("g", 10.0, M=M) for M in (1, 4))], "g", "cuBLAS FP16") == []


def test_labels_stand_apart_and_the_largest_is_among_them():
    assert figures._apart([1, 2, 4, 1000], 0.2) == [1000, 4, 1] and figures._apart([5]) == [5]
    assert figures._apart([1, 10, 100], 0.5) == [100, 10, 1]


def test_each_function_has_a_look_of_its_own():
    styles = figures.styles_of([{"function": name} for name in ("cuBLAS FP16", "f", "copy", "matmul_int8", "f")])
    assert [style["linestyle"] for style in styles.values()] == ["--", "--", "--", "-"]
    assert [style["color"] for style in styles.values()] == [figures.BASELINE, COLOURS[0], figures.BASELINE, COLOURS[1]]
    assert styles["f"]["marker"] != styles["matmul_int8"]["marker"]


def test_each_picture_draws_the_rows_it_names(monkeypatch):
    for name in ("bandwidth", "breakdown", "latency", "roofline", "speedup", "tflops"):
        monkeypatch.setattr(gallery, f"{name}_figure", lambda rows, *rest, name=name: (name, rows, rest))
    rows = []

    def add(number, test, function, M, K, N, mode="eager"):
        rows.append(row(test, function, M, N, K, mode) | {"number": number})

    add(0, "gemm", "matmul_fp16", 16384, 2048, 4096)
    add(1, "gemm", "matmul_fp16_naive", 16384, 2048, 4096)  # a rung, but not among the products compared
    add(2, "matmul_int8", "matmul_int8", 16384, 2048, 22016)
    add(3, "matmul_int8", "quantize_int8_perrow", 16384, 2048, 22016)
    add(4, "gemm", "matmul_fp16", 64, 4096, 4096)
    add(5, "matmul_int8", "matmul_int8", 64, 4096, 4096)
    add(6, "gemv", "gemv_fp16", 1, 4096, 4096)
    add(7, "gemv", "gemv_fp16", 1, 4096, 4096, "graph")
    add(8, "matmul_int8", "matmul_int8", 1, 4096, 4096, "graph")
    add(9, "matmul_int8", "matmul_int8", 2, 4096, 4096, "graph")
    add(10, "matmul_int8", "matmul_int8", 32, 2048, 2048, "idle")
    add(11, "matmul_int8", "matmul_int8", 32, 2048, 2048, "graph")
    add(12, "quant_prefill", "copy", 16384, 2048, 1)
    add(13, "quant_prefill", "copy", 34, 2048, 1)
    add(14, "quant_decode", "quantize_int8_perrow", 1, 4096, 1, "graph")
    add(15, "matmul_int8", "cuBLAS FP16", 16384, 2048, 4096)
    add(16, "matmul_int8", "matmul_int8", 16384, 11008, 2048)
    asked = {name: (kind, [r["number"] for r in found]) for name, (kind, found, _) in gallery.pictures(
        {"gpu": "Some GPU", "roofs": ROOFS, "rows": rows}).items()}
    assert asked == {
        "speedup.png": ("speedup", [0, 2, 15]), "tflops.png": ("tflops", [0, 1, 2]),
        "breakdown.png": ("breakdown", [2, 3, 16, 10, 11]), "gemv_bandwidth.png": ("bandwidth", [6]),
        "gemv_time.png": ("latency", [6]), "gemm.png": ("tflops", [4, 5]), "quantize_prefill.png": ("bandwidth", [12]),
        "quantize_decode.png": ("latency", [14]), "roofline.png": ("roofline", [6, 4, 5]),
        "decode_4096x4096.png": ("latency", [8, 9])}
    titles = [rest[-1] for _, _, rest in gallery.pictures({"gpu": "Some GPU", "roofs": ROOFS, "rows": rows}).values()]
    assert all("Some GPU" in title for title in titles)
    assert gallery.pictures({"gpu": "", "roofs": {}, "rows": []}) == {}
