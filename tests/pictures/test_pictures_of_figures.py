"""Pictures of recorded figures draw those rows and no others, and say of which GPU they are."""

from types import SimpleNamespace

import pytest
import torch
from drawn import bars, lines, texts, ticks
from matplotlib.colors import to_hex
from synthetic_figures import ROOFS, row

from checks.bench import perf
from checks.bench.baselines import PLANS
from checks.judge.source import define
from checks.pictures import common, decode, fused, matmul, measuring, perrow_w8a8, quantize, tuning
from checks.pictures.decode import DECODE, FP16, PREFILL
from kernels import cost, matmul_fp16_naive, timing
from kernels.gemv import gemv_fp16, gemv_fp16_row
from kernels.latency import break_even_m, compute_bound_from
from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain
from kernels.quantize import quantize_int8_perrow_long, quantize_int8_perrow_plain
from kernels.runtime import INTERPRETED

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="on a GPU pictures are measured")
GPU = "Recorded on an Some GPU (there is no GPU here)"


@pytest.fixture
def record(monkeypatch):
    """record(rows): these are the recorded figures, for every picture."""
    def record(rows):
        figures = {"gpu": "Some GPU", "rows": rows, "roofs": ROOFS}
        for module in (common, matmul, measuring, perrow_w8a8, quantize, tuning):
            if hasattr(module, "recorded"):
                monkeypatch.setattr(module, "recorded", lambda: figures)
    return record


def with_strays(rows, **others):
    """The rows, and for each change one copy of them all, with other figures, that no picture may show."""
    def slower(r):
        return {"median_us": 3 * r["median_us"], "gb_per_s": r["gb_per_s"] / 3, "tflops": r["tflops"] and r["tflops"] / 3}

    return rows + [{**r, **slower(r), name: value} for name, value in others.items() for r in rows]


def values(rows, function, x, y):
    return {r[x]: r[y] for r in rows if r["function"] == function}


def test_the_bandwidth_of_gemv(record):
    names = ("cuBLAS FP16", "gemv_fp16_row", "gemv_fp16")
    rows = [row("gemv", name, 1, N, 4096) for name in names for N in (1024, 4096, 8192)]
    record(with_strays(rows, K=2048, mode="graph", test="roof", function="gemv_w8a16"))
    (axes,) = common.show_bandwidth(gemv_fp16_row=gemv_fp16_row, gemv_fp16=gemv_fp16).axes
    drawn = lines(axes)
    assert drawn == {name: values(rows, name, "N", "gb_per_s") for name in names}
    assert axes.get_title() == f"{GPU}\neager: each call launched by itself"
    assert texts(axes) == ["a copy on this GPU: 4,000 GB/s", "reading alone: 4,200 GB/s"]
    assert axes.get_xlabel() == "N, rows of w (K = 4,096)"


def test_the_speed_of_fp16_products(record):
    names = ("cuBLAS FP16", "matmul_fp16_naive", "matmul_fp16_grouped", "matmul_fp16")
    rows = [row("gemm", name, 16384, N, 2048) for name in names for N in (2048, 6144)]
    record(with_strays(rows, K=4096, M=64, mode="graph", test="roof", function="perrow_w8a8_matmul"))
    (axes,) = matmul.show_tflops(matmul_fp16_naive).axes
    assert lines(axes) == {name: values(rows, name, "N", "tflops") for name in names}
    assert texts(axes) == ["FP16, a large square product: 700"] and axes.get_ylabel() == "TFLOPS"
    assert axes.get_title() == GPU


def test_the_speed_of_int8_products_and_their_gain(record, capsys):
    rows = [row("gemm", name, 16384, N, 2048) for name in perrow_w8a8.PRODUCTS for N in (2048, 6144)]
    record(with_strays(rows, K=4096, M=64, mode="graph", function="torch._int_mm"))
    (axes,) = perrow_w8a8.show_speed(perrow_w8a8_matmul_plain).axes
    assert lines(axes) == {name: values(rows, name, "N", "tflops") for name in perrow_w8a8.PRODUCTS}
    assert texts(axes) == ["FP16, a large square product: 700", "INT8, a large square product: 1,400"]
    perrow_w8a8.say_gain(N=2048)
    fp16, int8 = (values(rows, name, "N", "tflops")[2048] for name in ("cuBLAS FP16", "perrow_w8a8_matmul"))
    said = " ".join(capsys.readouterr().out.split())
    assert "Recorded on an Some GPU with M = 16,384, N = 2,048, K = 2,048" in said
    assert f"FP16 {fp16:,.0f} TFLOPS, our fastest INT8 product of codes {int8:,.0f} TOPS, {int8 / fp16:.2f} times" in said
    record([r for r in rows if r["function"] != "perrow_w8a8_matmul"])
    perrow_w8a8.say_gain()
    assert capsys.readouterr().out.strip() == perrow_w8a8.NO_FIGURES


def test_the_bandwidth_of_quantization(record):
    names = ("copy", "quantize_int8_perrow_plain", "quantize_int8_perrow_long", "quantize_int8_perrow")
    rows = [row("quant_prefill", name, 16384, 1, K) for name in names for K in (2048, 4096)]
    record(with_strays(rows, M=64, mode="graph", test="fused", function="rmsnorm_quantize_int8"))
    (axes,) = quantize.show_speed(quantize_int8_perrow_plain, quantize_int8_perrow_long).axes
    assert lines(axes) == {name: values(rows, name, "K", "gb_per_s") for name in names}
    assert texts(axes) == ["a copy on this GPU: 4,000 GB/s"]


def test_where_the_time_of_matmul_int8_goes(record):
    us = {"cuBLAS FP16": 900.0, "matmul_int8": 500.0, "quantize_int8_perrow": 60.0, "perrow_w8a8_matmul": 400.0}
    rows = [row("matmul_int8", name, M, N, K) | {"median_us": us[name] * (1 + at)}
            for at, (M, K, N) in enumerate(fused.SHAPES) for name in fused.PARTS]
    record(with_strays(rows, M=64, mode="graph", test="others") + with_strays(rows[:4], N=2048)[4:])
    first, second = fused.show_breakdown().axes
    assert [bar.get_height() for bar in first.patches] == [900, 400, 60, 40]
    assert [bar.get_height() for bar in second.patches] == [1800, 800, 120, 80]
    assert first.get_title() == "M=16,384 K=2,048 N=22,016" and second.get_title() == "M=16,384 K=11,008 N=2,048"
    assert texts(first) == ["900 µs", "500 µs"]


def test_the_times_of_the_plans(record):
    rows = [row("plans", name, 16384, N, K) for K, N in fused.PLANNED for name in PLANS]
    record(with_strays(rows, M=64, K=4096, mode="graph", test="others"))
    (axes,) = fused.show_plan_times().axes
    assert bars(axes) == {label: [r["median_us"] for r in rows if r["function"] == name]
                          for name, label in zip(PLANS, ("unfused", "epilogue fused", "producer fused"), strict=True)}
    assert [round(bar.get_x() + bar.get_width() / 2, 6) for bar in axes.patches] == [
        -0.27, 0.73, 1.73, 2.73, 0, 1, 2, 3, 0.27, 1.27, 2.27, 3.27]
    assert ticks(axes) == ["K = 2,048\nN = 2,048", "K = 2,048\nN = 6,144", "K = 2,048\nN = 22,016", "K = 11,008\nN = 2,048"]


def test_the_stack_of_latencies_is_of_launches_alone(record):
    us = {FP16: 13.0, DECODE: 8.0}
    rows = [row("launches", name, M, 4096, 4096, mode) | {
        "median_us": (time := M * us[name] + 20 * (mode == "idle")), "low_us": time - 1, "high_us": time + 2}
            for name in us for M in (1, 16) for mode in ("idle", "graph")]
    record(with_strays(rows, test="others"))
    figure = decode.show_latency_stack()
    alone, graph = figure.axes
    assert [[bar.get_width() for bar in alone.patches[at:at + 2]] for at in (0, 2, 4, 6)] == [
        [13, 20], [8, 20], [208, 20], [128, 20]]
    assert [bar.get_x() for bar in alone.patches[2:4]] == [0, 8]
    assert texts(alone) == ["  33.0 µs", "  28.0 µs", "  228.0 µs", "  148.0 µs"]
    assert texts(graph) == ["  13.0 µs", "  8.0 µs", "  208.0 µs", "  128.0 µs"]
    assert ticks(alone, "y") == ["M = 1, cuBLAS FP16", "M = 1, INT8", "M = 16, cuBLAS FP16", "M = 16, INT8"]
    assert (alone.get_title(), graph.get_title()) == ("launched alone", "in a graph")
    assert figure.get_suptitle() == f"{GPU}: one product, N = 4,096, K = 4,096"
    assert alone.get_xlim() == (0, pytest.approx(1.35 * 230))


def test_the_break_even_of_recorded_rows(record):
    rows = [row("few or many", name, M, 4096, 4096, "graph") | {"median_us": us}
            for name, times in ((DECODE, (10.0, 10.0, 20.0)), (PREFILL, (30.0, 12.0, 15.0)), (FP16, (11.0, 11.0, 11.0)))
            for M, us in zip((1, 8, 32), times, strict=True)]
    record(with_strays(rows, test="launches"))
    (axes,) = decode.show_break_even(break_even_m, compute_bound_from).axes
    drawn = lines(axes)
    predicted = {name: drawn.pop(f"{name}, predicted for an H200") for name in ("FP16", "INT8")}
    assert drawn == {name: values(rows, name, "M", "median_us") for name in (DECODE, PREFILL, FP16)}
    assert predicted == {name: pytest.approx(dict.fromkeys((1, 2, 4, 8, 16, 32), of_weight * 4096**2 / 4800e3))
                         for name, of_weight in (("FP16", 2), ("INT8", 1))}
    assert axes.get_title() == f"{GPU}: from M = 32 on, prefill's kernels win"
    dotted, ring = (axes.lines[i] for i in (3, 4))
    assert dotted.get_xdata()[0] == 207 and ring.get_xydata().tolist() == [[32, 15]]
    assert ticks(axes) == ["1", "2", "4", "8", "16", "32"] and "(N = 4,096, K = 4,096)" in axes.get_xlabel()


def test_int8_beside_the_baselines_and_the_roof(record):
    rows = [row("gemm", name, M, N, K) for M, K, N in tuning.BIG for name in tuning.BESIDE]
    record(with_strays(rows, M=64, mode="graph", test="layout", function="matmul_fp16"))
    (axes,) = tuning.show_baselines().axes
    assert lines(axes) == {name: values([r for r in rows if r["K"] == 2048], name, "N", "tflops") for name in tuning.BESIDE}
    assert axes.get_title() == GPU and "INT8, a large square product: 1,400" in texts(axes)
    (axes,) = tuning.show_roofs().axes
    assert list(bars(axes)) == tuning.BESIDE and axes.get_title() == GPU
    heights = [bar.get_height() for bar in axes.patches]
    assert texts(axes) == [f"{height:.0f}" for height in heights] and axes.lines[0].get_ydata()[0] == 100
    centres = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    assert centres == pytest.approx([at + 0.16 * (number - 2) for number in range(5) for at in range(4)])
    assert ticks(axes)[3] == "M=16,384\nK=11,008 N=2,048"
    in_bars = {container.get_label(): to_hex(container.patches[0].get_facecolor()) for container in axes.containers}
    assert in_bars == {line.get_label(): to_hex(line.get_color()) for line in tuning.show_baselines().axes[0].lines[:5]}


def test_the_map_of_configurations(record):
    shape = {"M": 64, "N": 512, "K": 256}
    rows = [row("config", name, 64, 512, 256) | {"median_us": us} for name, us in zip(tuning.CONFIGS, (20.0, 10.0, 25.0),
                                                                                      strict=False)]
    rows += [{**r, "M": 128, "median_us": 2 * r["median_us"]} for r in rows[1:]]
    record(with_strays(rows, test="gemm"))
    figure = tuning.show_config_map()
    axes = figure.axes[0]
    assert texts(axes) == ["2.00×\n20 µs", "", "1.00×\n10 µs", "1.00×\n20 µs", "2.50×\n25 µs", "2.50×\n50 µs"]
    assert [text.get_position() for text in axes.texts] == [(x, y) for y in range(3) for x in range(2)]
    assert axes.images[0].get_clim() == (1, 2) and axes.images[0].get_array()[2, 0] == 2.5
    assert ticks(axes) == [f"M={M}\nK={shape['K']}\nN={shape['N']}" for M in (64, 128)]
    assert ticks(axes, "y") == tuning.CONFIGS[:3] and axes.get_title() == GPU


def test_the_roofline_holds_the_measured_products(record):
    names = ("cuBLAS FP16", "matmul_fp16", "matmul_int8")
    rows = [row("gemm", name, M, 4096, 4096) for name in names for M in (1, 64, 1024)]
    record(rows)
    (axes,) = measuring.show_roofline(cost.attainable_tflops, timing.time_us).axes
    drawn = lines(axes)
    for name in names:
        assert drawn[name] == {r["flops"] / r["bytes"]: r["tflops"] for r in rows if r["function"] == name}
    for line, peak in zip(axes.lines, (700, 1400), strict=False):
        x, y = line.get_data()
        assert (x[0], x[-1], len(x)) == (pytest.approx(0.5), pytest.approx(8000), 200)
        assert list(y) == [cost.attainable_tflops(value, peak, 4000) for value in x]
    allowed = drawn["FP16, M = 1 to 16,384: allowed"]
    want = {M: cost.matmul_flops(M, 4096, 4096) / cost.matmul_fp16_bytes(M, 4096, 4096) for M in measuring.ROWS}
    assert allowed == {value: cost.attainable_tflops(value, 700, 4000) for value in want.values()}
    assert texts(axes) == ["FP16: 700", "INT8: 1,400", "memory: 4,000 GB/s", "M = 1", "M = 16", "M = 128", "M = 16,384"]
    assert axes.texts[5].xy == (want[128], allowed[want[128]]) and axes.get_title() == GPU


def test_the_gain_is_predicted_beside_the_measured_one(record, capsys):
    rows = [row("gemm", name, M, 4096, 4096, mode=mode) for name in ("cuBLAS FP16", "matmul_int8")
            for M, mode in ((1, "graph"), (64, "graph"), (1024, "eager"))]
    record(rows)
    (axes,) = measuring.show_gain(cost.int8_gain, timing.time_us).axes
    drawn = lines(axes)
    gains = {M: values(rows, "cuBLAS FP16", "M", "median_us")[M] / values(rows, "matmul_int8", "M", "median_us")[M]
             for M in (1, 64, 1024)}
    assert drawn["matmul_int8 beside cuBLAS FP16, measured in a CUDA graph"] == {M: gains[M] for M in (1, 64)}
    assert drawn["matmul_int8 beside cuBLAS FP16, measured eager"] == {1024: gains[1024]}
    predicted = cost.int8_gain(64, 4096, 4096, 700, 1400, 4000)
    assert f"M =     64: predicted {predicted:.2f}, measured {gains[64]:.2f} (graph)" in capsys.readouterr().out
    prediction = drawn["your prediction"]
    assert prediction[16384] == cost.int8_gain(16384, 4096, 4096, 700, 1400, 4000) and min(prediction) == 1
    assert prediction[1] == cost.int8_gain(1, 4096, 4096, 700, 1400, 4000)
    record([row for row in rows if row["mode"] == "graph"])
    (axes,) = measuring.show_gain(cost.int8_gain, timing.time_us).axes
    assert not [label for label in lines(axes) if "eager" in label], "the legend names what has points"


def test_on_a_gpu_rows_are_measured_and_the_title_says_so(monkeypatch, record):
    record([])
    monkeypatch.setattr(common, "INTERPRETED", False)
    monkeypatch.setattr(common.torch.cuda, "get_device_name", lambda: "Live GPU")
    assert common.figures_of(("gemv",), lambda: [1]) == ([1], "Measured now on this Live GPU")
    asked = []
    monkeypatch.setattr(perf, "copy_roof", lambda: {"copy_gb_per_s": 3000.0})
    monkeypatch.setattr(perf, "test_perf_gemv", lambda functions: asked.append(functions) or [
        row("gemv", name, 1, N, 4096) for name in functions for N in (1024, 2048)])
    (axes,) = common.show_bandwidth(gemv_fp16=gemv_fp16).axes
    assert asked == [{"cuBLAS FP16": common.BASELINES["cuBLAS FP16"], "gemv_fp16": gemv_fp16}]
    assert texts(axes) == ["a copy on this GPU: 3,000 GB/s"]
    assert axes.get_title().startswith("Measured now on this Live GPU\neager")


@pytest.mark.parametrize("module, measure, test, functions, shapes, mode", [
    (fused, fused._measure, "test_perf_matmul_int8", fused.PARTS, fused.SHAPES, None),
    (fused, fused._measure_plans, "test_perf_matmul_int8", tuple(PLANS), [(16384, K, N) for K, N in fused.PLANNED], None),
    (tuning, tuning._measure_big_products, "test_perf_gemm", tuple(tuning.BESIDE), tuning.BIG, None),
    (decode, decode._measure_launches, "test_perf_matmul_int8", tuple(decode.LAUNCHES), [(1, 4096, 4096), (16, 4096, 4096)],
     "idle"),
])
def test_what_a_gpu_is_asked_to_measure(monkeypatch, module, measure, test, functions, shapes, mode):
    asked = []
    monkeypatch.setattr(module, test, lambda *arguments: asked.append(arguments) or [])
    monkeypatch.setattr(tuning, "_measured", {})
    measure()
    assert set(asked[0][0]) == set(functions) and list(asked[0][1]) == list(shapes)
    assert list(asked[0][2:]) == ([mode] if mode else [])
    assert [arguments[2] for arguments in asked] == ["idle", "graph"] if mode else len(asked) == 1


def test_a_student_s_kernel_is_measured_after_quantization(monkeypatch):
    asked = {}
    monkeypatch.setattr(decode, "test_perf_matmul_int8",
                        lambda sides, shapes, mode: asked.update({shapes[0]: (sides, mode)}) or [])
    decode._measure_break_even({"mine": lambda x_q, x_scale, w_q, w_scale: (x_q, x_scale, w_q, w_scale)})
    assert {M for M, _, _ in asked} == set(decode.BREAK_EVEN_M) and {mode for _, mode in asked.values()} == {"graph"}
    assert all(("mine" in sides) == (M <= 16) and (DECODE in sides) == (M <= decode.MAX_M)
               for (M, _, _), (sides, _) in asked.items())
    monkeypatch.setattr(decode, "quantize_int8_perrow", lambda x: (x + 1, x + 2))
    assert asked[1, 4096, 4096][0]["mine"](0, 5, 6) == (1, 2, 5, 6)


def test_the_roofs_here_are_those_of_a_copy_and_of_two_products(monkeypatch):
    """Every byte of a copy counts twice, read and written. Here the tensors are one number each."""
    def one(*size, dtype=torch.half, device):
        return torch.ones((), dtype=dtype).expand(size)

    monkeypatch.setattr(measuring, "torch", SimpleNamespace(ones=one, randn=one, empty_like=lambda x: x, int8=torch.int8))
    monkeypatch.setattr(measuring.kernels, "quantize_int8_perrow", lambda x: (x, x[:, 0]))
    multiplied = []
    monkeypatch.setattr(measuring.kernels, "perrow_w8a8_matmul", lambda *operands: multiplied.append(operands))

    def time_us(sides, gpu, repeats, warmup):
        sides["int8"]()
        return {"copy": [700.0, 500.0, 600.0], "fp16": [2000.0], "int8": [1000.0]}

    assert measuring._roofs_here(time_us, None) == pytest.approx({
        "copy_gb_per_s": 2 * 2**30 / 600e3, "fp16_tflops": 2 * 8192**3 / 2000e6, "int8_tops": 2 * 8192**3 / 1000e6})
    ((x_q, x_scale, w_q, w_scale),) = multiplied
    assert x_q.shape == w_q.shape == (8192, 8192) and x_scale.shape == w_scale.shape == (8192,)


def test_here_each_product_is_timed_in_a_graph(monkeypatch):
    asked = []

    def time_us(sides, gpu, repeats, warmup):
        asked.append((list(sides), repeats, warmup))
        return {name: [9.0, 1.0 + number, 3.0 + number] for number, name in enumerate(sides)}

    monkeypatch.setattr(measuring, "N", 48)
    monkeypatch.setattr(measuring, "K", 32)
    monkeypatch.setattr(measuring, "torch", SimpleNamespace(randn=lambda *size, device: torch.randn(*size)))
    monkeypatch.setattr(measuring.timing, "CudaGPU", lambda: "gpu")
    monkeypatch.setattr(measuring, "_graph", lambda call: call)
    monkeypatch.setattr(measuring, "_roofs_here", lambda *given: given)
    rows, roofs = measuring._measure_here.__wrapped__(time_us)
    names = [measuring.FP16, measuring.OURS, measuring.INT8]
    assert roofs == (time_us, "gpu") and asked == [(names, 30, 5)] * len(measuring.ROWS)
    assert [(r["M"], r["function"], r["median_us"]) for r in rows] == [
        (M, name, us) for M in measuring.ROWS for name, us in zip(names, (3.0, 4.0, 5.0), strict=True)]
    for r in rows:
        M, fp16 = r["M"], 2 * (r["M"] * 32 + 48 * 32 + r["M"] * 48)
        int8 = 3 * M * 32 + 4 * M + (M + 48) * (32 + 4) + 2 * M * 48
        assert r["bytes"] == (int8 if r["function"] == measuring.INT8 else fp16) and r["mode"] == "graph"
        assert (r["N"], r["K"], r["flops"]) == (48, 32, 2 * M * 48 * 32)
        assert r["tflops"] == pytest.approx(r["flops"] / r["median_us"] / 1e6)


def test_one_by_one_launches_are_no_part_of_the_roofline():
    rows = [row("matmul_int8", measuring.INT8, M, 4096, 4096, mode) for M in (1, 16) for mode in ("graph", "idle", "eager")]
    assert [(r["M"], r["mode"]) for r in measuring._one_weight(rows)] == [
        (M, mode) for M in (1, 16) for mode in ("eager", "graph")]


def test_what_is_not_written_is_not_drawn(capsys):
    stub = define('def gemv_bytes(N, K):\n    raise NotImplementedError("TODO: about 1 line")\n', "gemv_bytes", {})
    assert not common.ready_to_draw(stub) and common.ready_to_draw(cost.gemv_bytes)
    assert capsys.readouterr().out == "○ gemv_bytes is not attempted yet: there is nothing to draw.\n"
