"""Pictures of what a function computes: their points are read back and computed anew."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawn import colour_of, image, lines, rectangles, texts, ticks

from checks.bench.figures import COLOURS
from checks.judge.source import define
from checks.pictures import decode, error, fused, measuring, perrow_w8a8, quantize
from checks.simulated.gpu import SimulatedGPU
from checks.simulated.synthetic import activations, weights
from kernels import cost, timing
from kernels import error as kernel_error
from kernels.int_mm import int_mm
from kernels.latency import eager_us, graph_us
from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain
from kernels.quantize import quantize_int8_perrow, quantize_int8_perrow_torch
from kernels.runtime import INTERPRETED, device


def truncate_int8_perrow(x):
    scale = x.float().abs().amax(1) / 127
    return (x.float() / scale[:, None]).trunc().to(torch.int8), scale


def test_rounding_errors_are_histograms_in_steps():
    truncated, rounded = quantize.show_rounding_errors(truncate_int8_perrow, quantize_int8_perrow_torch).axes
    x = torch.randn(256, 2048, generator=torch.Generator().manual_seed(0)).half()
    for axes, function in ((truncated, truncate_int8_perrow), (rounded, quantize_int8_perrow_torch)):
        q, scale = function(x)
        steps = scale.double()[:, None]
        errors = ((q.double() * steps - x) / steps).flatten().numpy()
        heights, edges = np.histogram(errors, bins=np.linspace(-1.2, 1.2, 97), density=True)
        assert [bar.get_height() for bar in axes.patches] == pytest.approx(heights)
        assert [bar.get_x() for bar in axes.patches] == pytest.approx(edges[:-1])
        sqnr = 10 * math.log10((x.double().square().sum() / (q * scale[:, None] - x).double().square().sum()).item())
        assert axes.get_title() == (f"{function.__name__}: mean square {(errors**2).mean():.3f} steps², SQNR {sqnr:.1f} dB")
    assert rounded.get_xlabel().startswith("error in steps")


def test_scales_are_compared_with_the_rows_amax():
    (axes,) = quantize.show_scales(quantize_int8_perrow_torch).axes
    drawn = lines(axes)
    assert list(drawn) == ["kept in FP16", "as your kernel stores it"]
    fp16, stored = drawn.values()
    assert len(fp16) == len(stored) == len(set(stored)) and fp16.keys() == stored.keys()
    assert max(stored.values()) < 1e-6 and min(stored.values()) >= 1e-9
    smallest, largest = min(fp16), max(fp16)
    assert smallest < 2**-19 and largest > 2**14
    assert fp16[smallest] == 1 and fp16[largest] < 2**-11
    assert axes.lines[2].get_xdata()[0] == 127 * 2.0**-14


def test_sums_are_compared_with_the_exact_ones():
    K = 64
    (axes,) = perrow_w8a8.show_sums(int_mm, K).axes
    drawn = lines(axes)
    x, w = torch.randint(100, 128, (2, K), generator=torch.Generator().manual_seed(0), dtype=torch.int8).long()
    exact = (x * w).cumsum(0)
    wrapped = torch.tensor([(int(v) + 128) % 256 - 128 for v in exact])
    assert list(drawn["INT8"].items()) == [(n + 1, abs(int(wrapped[n] - exact[n]))) for n in range(K)]
    assert list(drawn["FP32"].values()) == [0] * K  # exact below 2²⁴
    assert drawn["INT32, your kernel"] == {2**n: 0 for n in range(7)}
    fp16 = list(drawn["FP16"].values())
    assert np.isinf(fp16).any() and texts(axes) == ["then Inf"]
    cross = next(line for line in axes.lines if line.get_marker() == "x")
    assert np.isinf(fp16[int(cross.get_xdata()[0])]) and not np.isinf(fp16[int(cross.get_xdata()[0]) - 1])
    assert set(lines(perrow_w8a8.show_sums(K=4).axes[0])) == {"INT8", "FP16", "FP32"}


def test_sums_that_are_off_are_drawn_off(monkeypatch):
    monkeypatch.setattr(perrow_w8a8, "ready_to_draw", lambda function: True)
    (axes,) = perrow_w8a8.show_sums(lambda x_q, w_q: x_q.int() @ w_q.int().T + 5, 16).axes
    assert set(lines(axes)["INT32, your kernel"].values()) == {5}


def test_the_error_map_is_the_difference_from_fp16():
    figure = perrow_w8a8.show_error_map(perrow_w8a8_matmul_plain, M=6, N=9, K=64)
    rows, whole = figure.axes[:2]
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(6, 64, generator=g), torch.randn(9, 64, generator=g) / 8
    x[2] *= 20
    w[6] *= 20
    x, w = x.half(), w.half()
    want = (quantize_then_multiply(x, w) - (x.double() @ w.double().T).half().float()).abs()
    assert image(rows) == pytest.approx(want.numpy(), abs=1e-3)
    assert rows.get_title() == f"a scale for each row: median error {float(torch.tensor(image(rows)).median()):.3f}"
    assert image(whole).mean() > 2 * np.delete(image(rows), 2, axis=0).mean()
    assert whole.get_title().startswith("one scale for all")
    assert rows.images[0].norm.vmax == pytest.approx(max(image(rows).max(), image(whole).max()))
    assert (rows.get_ylabel(), rows.get_xlabel()) == ("m, row of x", "n, row of w")


def quantize_then_multiply(x, w):
    (x_q, x_scale), (w_q, w_scale) = (quantize_int8_perrow(t.to(device())) for t in (x, w))
    return ((x_q.double() @ w_q.double().T) * x_scale[:, None] * w_scale).half().cpu().float()


def test_measured_errors_are_those_of_the_products():
    errors, sides = error.measured_errors(64)
    g = torch.Generator().manual_seed(64)
    x, w = (torch.randn(error.PAIRS, 64, generator=g).half() for _ in "xw")
    (x_q, x_scale), (w_q, w_scale) = map(quantize_int8_perrow_torch, (x, w))
    approximate = (x_q.double() * x_scale[:, None].double() * w_q.double() * w_scale[:, None].double()).sum(1)
    assert torch.allclose(errors, approximate - (x.double() * w.double()).sum(1), atol=1e-9)
    assert sides[7] == {"K": 64, "x_rms": pytest.approx(x[7].double().square().mean().sqrt().item()),
                        "w_rms": pytest.approx(w[7].double().square().mean().sqrt().item()),
                        "x_scale": x_scale[7].item(), "w_scale": w_scale[7].item()}
    assert pytest.approx(4 / math.sqrt(2 * 1024)) == error.BOUND


def test_the_predicted_error_stands_beside_the_measured_one(monkeypatch):
    def product_error_std(K, x_rms, w_rms, x_scale, w_scale):
        return K / 64 * x_scale

    noise = torch.tensor([3.0, -1.0, 2.0])
    sides = {"x_rms": 1.0, "w_rms": 1.0, "w_scale": 1.0}
    monkeypatch.setattr(error, "measured_errors", lambda K: (noise * K / 64, [
        {"K": K, "x_scale": scale, **sides} for scale in (2.0, 2.0, 1.0)]))
    left, right = error.show_product_error(product_error_std).axes
    sizes = (64, 256, 1024, 4096)
    assert lines(left) == {
        "your formula": {K: pytest.approx(K / 64 * math.sqrt(9 / 3)) for K in sizes},
        "measured": {K: pytest.approx(K / 64 * math.sqrt(14 / 3)) for K in sizes}}
    ratio = math.sqrt((9 / 4 + 1 / 4 + 4) / 3)
    assert lines(right)["measured / your formula"] == {K: pytest.approx(ratio) for K in sizes}
    assert right.get_title() == "0 of 4 within the bound" and ticks(left) == ["64", "256", "1,024", "4,096"]
    band = right.patches[0].get_extents().transformed(right.transData.inverted())
    assert (band.y0, band.y1) == (pytest.approx(1 - error.BOUND), pytest.approx(1 + error.BOUND))
    _, right = error.show_product_error(kernel_error_std(ratio)).axes
    assert right.get_title() == "4 of 4 within the bound" and right.get_ylim()[1] == pytest.approx(1 + 2.2 * error.BOUND)
    _, right = error.show_product_error(kernel_error_std(ratio / (1 + 1.5 * error.BOUND))).axes
    assert right.get_title() == "0 of 4 within the bound"


def kernel_error_std(factor):
    def product_error_std(K, x_rms, w_rms, x_scale, w_scale):
        return K / 64 * x_scale * factor
    return product_error_std


def test_the_outlier_sweep_shows_the_ordinary_channels(monkeypatch):
    monkeypatch.setattr(error, "activations", lambda size: activations(size, M=8, K=256))
    (axes,) = error.show_outlier_sweep(kernel_error.fake_quantize_int8, kernel_error.sqnr_db_per_channel).axes
    blocks = {"one scale for x": (8, 256), "for each row": (1, 256), "for each 128 of a row": (1, 128),
              "for each channel": (8, 1)}
    drawn = lines(axes)
    assert set(drawn) == {*blocks, "the same, SQNR of all of x"}
    for size in (1, 20, 500):
        x, ordinary = activations(size, M=8, K=256)
        for name, block in blocks.items():
            approximation = kernel_error.fake_quantize_int8(x, *block)
            want = kernel_error.sqnr_db_per_channel(x, approximation)[ordinary].median().item()
            assert drawn[name][size] == pytest.approx(want)
        approximation = kernel_error.fake_quantize_int8(x, 1, 256)
        assert drawn["the same, SQNR of all of x"][size] == pytest.approx(kernel_error.sqnr_db(x, approximation))


def test_the_alpha_sweep_marks_the_best(monkeypatch):
    monkeypatch.setattr(error, "activations", lambda size: activations(size, M=16, K=128))
    monkeypatch.setattr(error, "weights", lambda: weights(32, 128))
    (axes,) = error.show_alpha_sweep(kernel_error.smoothquant, 50.0).axes
    x, w = activations(50.0, M=16, K=128)[0], weights(32, 128)
    exact = x.double() @ w.double().T

    def sqnr_of_y(a, b):
        quantized = [kernel_error.fake_quantize_int8(t, 1, 128) for t in (a, b)]
        return kernel_error.sqnr_db(exact, quantized[0] @ quantized[1].T)

    drawn = lines(axes)
    ys = drawn["SQNR of y"]
    assert list(ys) == pytest.approx([i / 20 for i in range(21)])
    for alpha in (list(ys)[0], list(ys)[12]):
        a, b = kernel_error.smoothquant(x, w, alpha)
        assert ys[alpha] == pytest.approx(sqnr_of_y(a, b))
        for name, t in (("SQNR of x / s", a), ("SQNR of w · s", b)):
            assert drawn[name][alpha] == pytest.approx(kernel_error.sqnr_db(t, kernel_error.fake_quantize_int8(t, 1, 128)))
    best = max(ys, key=ys.get)
    before = sqnr_of_y(x.float(), w.float())
    parts = drawn[f"SQNR of {error.ORDINARY}"]
    ordinary = activations(50.0, M=16, K=128)[1]
    exact_part = x[:, ordinary].double() @ w[:, ordinary].double().T

    def sqnr_of_part(a, b):
        quantized = [kernel_error.fake_quantize_int8(t, 1, 128)[:, ordinary] for t in (a, b)]
        return kernel_error.sqnr_db(exact_part, quantized[0] @ quantized[1].T)

    assert parts[list(ys)[12]] == pytest.approx(sqnr_of_part(a, b))
    assert texts(axes) == [f"{max(parts.values()):.1f} dB", f"alpha = {best:.2f}: {ys[best]:.1f} dB"]
    assert [best, ys[best]] in [line.get_xydata().tolist()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    whole = torch.where(ordinary, x, 0).float()
    apart = kernel_error.sqnr_db(exact_part, kernel_error.matmul_decomposed(whole, w.float(), 6.0))
    assert {f"y without smoothing: {before:.1f} dB", f"{error.ORDINARY},\noutliers apart: {apart:.1f} dB"} < set(drawn)
    assert axes.get_title() == "Six outlier channels of size 50"


def test_layers_left_in_fp16_are_hatched():
    rankings = {"alone": {"q": 30.4, "k": 20.0, "v": 40.0}, "together": {"q": 10.0, "k": 35.0, "v": 25.0}}
    alone, together = error.show_layers(kernel_error.layers_to_keep, rankings, {"q": 100, "k": 200, "v": 1000}, 250).axes
    assert [bar.get_height() for bar in alone.patches] == [30.4, 20.0, 40.0] and texts(alone) == ["30.4", "20.0", "40.0"]
    assert [bool(bar.get_hatch()) for bar in alone.patches] == [False, True, False]
    assert [bool(bar.get_hatch()) for bar in together.patches] == [True, False, False]
    assert [colour == COLOURS[1] for colour in colour_of(together)] == [True, False, False]
    assert "200 of 1,300 weights" in alone.get_title() and "100 of 1,300 weights" in together.get_title()
    assert ticks(alone) == ["q", "k", "v"]


def test_the_bytes_that_plans_save_against_both_sizes():
    models = {f.__name__: f for f in (cost.unfused_bytes, cost.epilogue_fused_bytes, cost.producer_fused_bytes)}
    over_n, over_k = fused.show_plans(**models).axes
    for axes, shape in ((over_n, lambda n: (16384, n, 4096)), (over_k, lambda n: (16384, 4096, n))):
        assert lines(axes) == {
            name: {2**n: pytest.approx((before(*shape(2**n)) - after(*shape(2**n))) / 1e6) for n in range(8, 16)}
            for name, before, after in (("epilogue fused saves", cost.unfused_bytes, cost.epilogue_fused_bytes),
                                        ("producer fused saves", cost.epilogue_fused_bytes, cost.producer_fused_bytes))}
    assert "N, rows of w" in over_n.get_xlabel() and "K, length of a row" in over_k.get_xlabel()


def test_the_timeline_of_a_chain_eager_and_in_a_graph():
    (axes,) = decode.show_timeline(eager_us, graph_us, kernel_us=(2.0, 8.0), launch_us=5.0, gap_us=1.0).axes
    made = [(round(x, 6), round(y + height / 2, 6), round(width, 6)) for x, y, width, height in rectangles(axes)]
    assert made == [
        (0, 3.4, 5), (5, 3.4, 5),  # eager: two launches, each kernel after its own
        (5, 2.6, 2), (10, 2.6, 8),
        (0, 1.2, 5), (5, 0.4, 2), (8, 0.4, 8)]  # graph: one launch, a gap between the kernels
    assert texts(axes) == [" done at 18.0 µs", " done at 16.0 µs"]
    assert [text.get_position() for text in axes.texts] == [(18, 2.6), (16, 0.4)]
    assert colour_of(axes) == [COLOURS[i] for i in (1, 1, 4, 0, 1, 4, 0)] and axes.get_xlim() == (0, 22.5)
    assert ticks(axes, "y") == ["eager, CPU", "eager, GPU", "graph, CPU", "graph, GPU"]


def test_the_timeline_of_a_simulated_gpu_is_its_log():
    gpu = SimulatedGPU()
    start, work = gpu.event(), gpu.kernel("work", {"x": 400e6}, compile_us=50.0)
    start.record()
    gpu.flush_l2()
    work()
    gpu.synchronize()
    (axes,) = measuring.show_timeline(gpu, "a title").axes
    spans = [span for span in gpu.log if span.kind != "event"]
    lane = {"host": 0, "stream 0": 1}
    assert [(x, y + height / 2, width) for x, y, width, height in rectangles(axes)] == [
        (pytest.approx(s.start_us), pytest.approx(lane[s.lane]), pytest.approx(s.end_us - s.start_us)) for s in spans]
    assert {measuring.SPANS[s.kind][1] for s in spans} == set(colour_of(axes))
    kernels = [s for s in spans if s.kind == "kernel"]
    assert texts(axes) == ["work"] and axes.texts[0].get_position()[0] == pytest.approx(
        (kernels[0].start_us + kernels[0].end_us) / 2)
    end = max(s.end_us for s in gpu.log)
    assert axes.get_xlim() == pytest.approx((-0.01 * end, 1.01 * end)) and axes.get_title() == "a title"
    events = [segment[0][0] for group in axes.collections for segment in group.get_segments()]
    assert sorted(events) == pytest.approx(sorted(s.start_us for s in gpu.log if s.kind == "event"))


def test_wrong_times_are_drawn_beside_the_truth():
    times = {"wrong": 50.0, "right": 100.0, "slow": 300.0}
    _, axes = measuring.plt.subplots()
    measuring._draw_times(axes, times, 100.0, "here")
    assert texts(axes) == ["50.00 us, 0.50 x", "100 us, 1.00 x", "300 us, 3.00 x"]
    assert [text.get_horizontalalignment() for text in axes.texts] == ["right", "left", "left"]
    assert axes.lines[0].get_xdata()[0] == 100 and axes.get_xlim() == (0.5, 180000)
    assert [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()] == [[100, 50], [100, 100], [100, 300]]
    assert axes.collections[1].get_offsets()[:, 0].tolist() == [50, 100, 300]


def test_wrong_ways_are_wrong_by_what_they_are_called():
    gpu = SimulatedGPU(launch_us=4.0)
    true = gpu.kernel("work", {"w": 40e6}).cold_us
    found = measuring.wrong_ways(lambda: gpu.kernel("work", {"w": 40e6}, compile_us=2e5), gpu)
    assert found["compiled within the time"] > 2e5 > 1.5e5
    assert found["10 calls, not divided"] == pytest.approx(10 * found["warm cache"])
    assert found["warm cache"] < 0.8 * true  # from the second call on the operands are in the cache
    assert found["host clock, waiting"] > true + 4 > found["host clock, not waiting"] == pytest.approx(4)
    assert found["GPU idle when the launch came"] > true


def test_a_timer_s_answers_are_printed_beside_the_truth(capsys):
    figure = measuring.show_timer(timing.time_us)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["old", "new"]
    for line, size in zip(said, (160e6, 80e6), strict=True):
        true = f"{SimulatedGPU().kernel('k', {'x': size}).cold_us:.1f}"
        assert line.endswith(f": {true}, {true} us; the truth is {true} us")
    assert texts(figure.axes[0]).count("old") >= 2


def test_a_benchmark_s_answers_are_printed_beside_the_truth(monkeypatch, capsys):
    """A cross marks what is too far off: at a steady clock anything, at one that sags more than turns even out."""
    monkeypatch.setattr(measuring, "BENCHMARKS", {
        name: SimpleNamespace(steady=name == "steady") for name in ("steady", "sags")})
    monkeypatch.setattr(measuring, "true_benchmark", lambda name: (2000.0, 2.0))
    off = iter([(2000.0, 2.01), (1000.0, 2.05), (1999.0, 2.0), (2000.0, 2.07)])
    monkeypatch.setattr(measuring, "try_benchmark", lambda benchmark, name: next(off))
    measuring.show_lies(timing.benchmark)
    measuring.show_lies(timing.benchmark)
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert said == ["GB/s truth speed-up truth", "steady 2,000 2,000 2.01 2.00 ✗", "sags ? ? 2.05 2.00",
                    "GB/s truth speed-up truth", "steady 1,999 2,000 ✗ 2.00 2.00", "sags ? ? 2.07 2.00 ✗"]
    stub = define('def benchmark(old, new):\n    raise NotImplementedError("TODO: about 1 line")\n', "benchmark", {})
    measuring.show_lies(stub)
    assert capsys.readouterr().out == "○ benchmark is not attempted yet: it has nothing to say.\n"


@pytest.mark.skipif(not INTERPRETED, reason="on a GPU there is a second panel")
def test_the_lesson_s_gemv_is_timed_wrongly_and_rightly(capsys):
    (axes,) = measuring.show_wrong_times(timing.time_us).axes
    gpu = SimulatedGPU()
    true = gpu.kernel("gemv", {"x": 8192, "w": 2 * 4096**2}, {"y": 8192}, flops=2 * 4096**2).cold_us
    assert axes.lines[0].get_xdata()[0] == pytest.approx(true)
    assert texts(axes)[-1].endswith(" 1.00 x") and ticks(axes, "y")[-1] == "your timer"
    assert "your timer has run on the simulated one alone" in capsys.readouterr().out
