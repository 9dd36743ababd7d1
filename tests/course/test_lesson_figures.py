"""What the lessons say in numbers is what is recorded in results/, what their cells print, or what is compiled."""

import json
from collections import Counter
from itertools import pairwise, product
from types import SimpleNamespace

import pytest
import torch
import triton.language as tl
from lesson_text import registers, text

from checks.bench.profile import profiled
from checks.bench.results import recorded, select
from checks.capstone.report_card import speedups
from checks.paths import ROOT
from checks.pictures import tuning
from checks.pictures.error import int8_product
from checks.simulated.synthetic import Block, activations, weights
from kernels import configs, cost, error, gemv, quantize
from kernels.block_cost import LLAMA_3_8B_DIMS, kv_cache_bytes, products_fp16_us, products_int8_us
from kernels.quantize_beside import beside_suits
from kernels.runtime import INTERPRETED

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="another Triton there may compile to other registers")


def us(test: str, function: str, mode: str = "eager", **shape) -> float:
    """The recorded time."""
    (row,) = select(recorded(), test=test, function=function, mode=mode, **shape)
    return row["median_us"]


def test_01_times_of_the_roofline_in_both_modes():
    shape, least = {"N": 4096, "K": 4096}, cost.gemv_bytes(4096, 4096) / 4800e3
    names = ("cuBLAS FP16", "gemv_fp16_row", "gemv_fp16")
    assert all(us("gemv", name, **shape) > 2 * least for name in names)
    assert "Eager, every kernel takes more than twice the predicted time, cuBLAS too." in text("01")
    cublas, ours = (us("gemv", name, "graph", **shape) / least for name in ("cuBLAS FP16", "gemv_fp16"))
    assert f"In a graph cuBLAS takes {cublas:.2f} times and our kernel {ours:.2f} times." in text("01")
    halfway = least * 4800 / us("gemv", "gemv_fp16", **shape) / recorded()["roofs"]["copy_gb_per_s"]
    assert "In the figure $N = 4096$ is about halfway to the dashed line." in text("01") and 0.4 < halfway < 0.6


def test_02_speed_of_naive_and_gain_of_grouped():
    shapes = [{"M": 16384, "K": 2048, "N": N} for N in (2048, 4096, 6144, 11008, 22016)]
    naive = [us("gemm", "matmul_fp16_naive", **shape) for shape in shapes]
    tflops = [cost.matmul_flops(**shape) / time / 1e6 for shape, time in zip(shapes, naive, strict=True)]
    gains = [time / us("gemm", "matmul_fp16_grouped", **shape) - 1 for shape, time in zip(shapes, naive, strict=True)]
    assert f"recorded at {min(tflops):.0f} to {max(tflops):.0f} on the H200" in text("02")
    assert f"gained {min(gains):.0%} to {max(gains):.0%}".replace("% to", " to").replace("%", " %") in text("02")
    bound = cost.matmul_flops(16384, 6144, 2048) / cost.tiled_matmul_bytes(16384, 6144, 2048, 128, 128)
    assert f"does {bound:.0f} operations for each byte" in text("02") and 4.8 * round(bound) == pytest.approx(300, abs=3)


def test_01_the_largest_block():
    assert f"({tl.TRITON_MAX_TENSOR_NUMEL:,} lanes in Triton, 65,536 in our wrapper)" in text("01")
    with pytest.raises(ValueError, match="takes a row as one block, so K must be at most 65536"):
        gemv.gemv_fp16_row(torch.zeros(65537).half(), torch.zeros(1, 65537).half())


def test_03_predicted_gains_beside_measured_ones():
    roofs, shape, page = recorded()["roofs"], {"N": 4096, "K": 4096}, text("03")

    def gain(M: int, mode: str) -> tuple[float, float]:
        fp16, int8 = (us("matmul_int8", name, mode, M=M, **shape) for name in ("cuBLAS FP16", "matmul_int8"))
        return cost.int8_gain(M, 4096, 4096, roofs["fp16_tflops"], roofs["int8_tops"], roofs["copy_gb_per_s"]), fp16 / int8

    (few, few_met), (more, more_met), (many, many_met) = gain(128, "graph"), gain(256, "graph"), gain(16384, "eager")
    assert (f"At $M = 128$ it is {few:.2f}, and {few_met:.2f} was measured; at $M = 256$ it is {more:.2f}, and "
            f"{more_met:.2f} was measured.") in page
    assert f"agree to {many_met / many - 1:.0%}, and the measured point lies *above*".replace("%", " %") in page


H200 = SimpleNamespace(multiprocessors=132, gb_per_s=4800)


def test_03_why_the_measured_gain_lies_above_the_curve():
    shape, roofs, page = {"M": 16384, "N": 4096, "K": 4096}, recorded()["roofs"], text("03")
    flops, copy = cost.matmul_flops(**shape), roofs["copy_gb_per_s"]
    fp16 = cost.roofline_us(flops, cost.matmul_fp16_bytes(**shape), roofs["fp16_tflops"], copy)
    int8 = (cost.roofline_us(0, cost.quantize_int8_perrow_bytes(16384, 4096), roofs["int8_tops"], copy)
            + cost.roofline_us(flops, cost.perrow_w8a8_matmul_bytes(**shape), roofs["int8_tops"], copy))
    cublas, ours, quantizer, product = (us("matmul_int8", name, **shape) for name in (
        "cuBLAS FP16", "matmul_int8", "quantize_int8_perrow", "perrow_w8a8_matmul"))
    assert f"cuBLAS takes {cublas:.0f} µs, and {fp16:.0f} were predicted (measured roofs)." in page and cublas > fp16
    assert f"it takes {ours:.0f} µs, and {int8:.0f} were predicted." in page and ours < int8
    assert f"A quantizer and a product, timed one by one, take {quantizer + product:.0f} µs." in page
    assert beside_suits(4096, 4096, H200)


def test_07_and_07b_quantizing_beside_the_tensor_cores():
    wide, narrow = ([us("matmul_int8", name, M=16384, K=K, N=N) for name in (
        "matmul_int8", "perrow_w8a8_matmul", "quantize_int8_perrow")] for K, N in ((2048, 22016), (11008, 2048)))
    assert wide[0] == pytest.approx(sum(wide[1:]), rel=0.02)
    whole, product, quantizer = narrow
    assert (f"In the narrow one it takes {whole:.0f} µs, and the two kernels, timed one by one, {product:.0f} + "
            f"{quantizer:.0f} = {product + quantizer:.0f}.") in text("07")
    assert (f"With $K$ = 11,008 and $N$ = 2,048 this takes {whole:.0f} µs, and the two kernels, timed one by one, take "
            f"{product + quantizer:.0f} together.") in text("07b")
    assert "For more than 16,384 columns it gained nothing" in text("07b") and beside_suits(2048, 11008, H200)
    assert beside_suits(16384, 2048, H200) and not beside_suits(16385, 2048, H200)


def test_07_fused_producers_beside_their_bytes():
    def gain(ours: str, apart: str, K: int) -> float:
        return us("fused", f"{apart}, quantize_int8_perrow", M=16384, K=K) / us("fused", ours, M=16384, K=K)

    norm = [gain("rmsnorm_quantize_int8", "torch.compile RMSNorm", K) for K in (2048, 4096)]
    silu = gain("silu_mul_quantize_int8", "torch.compile SiLU·mul", 5632)
    assert f"7 / 3 = {7 / 3:.2f} times as fast, and SiLU·mul" in text("07") and f"9 / 5 = {9 / 5:.2f} times." in text("07")
    assert f"measured gains are {norm[0]:.2f} and {norm[1]:.2f} for the norm, and {silu:.2f} for SiLU·mul." in text("07")


def test_07b_persistent_rows():
    ratios = [us("places", "persistent rows", M=16384, K=K, N=N) / us("places", "quantizer apart", M=16384, K=K, N=N)
              for K, N in ((2048, 2048), (2048, 6144), (2048, 22016), (11008, 2048))]
    plain = profiled("perrow_w8a8_matmul_plain")
    assert (f"Persistent rows take {min(ratios):.2f} to {max(ratios):.2f} times as long as a separate quantizer"
            in text("07b"))
    assert "There are only 16,384 / 128 = 128, and" in text("07b") and 16384 // 128 == 128 < 132
    assert min(plain["fit_by_registers"], plain["fit_by_shared"]) == 2 and "two programs fit" in text("07b")


def test_04_speeds_lanes_and_threads():
    page = text("04")
    for K, block, chunks in ((2048, 2048, 4096), (4096, 4096, 4096), (5120, 8192, 8192), (11008, 16384, 12288)):
        copy, *ours = (us("quant_prefill", name, M=16384, K=K)
                       for name in ("copy", "quantize_int8_perrow_plain", "quantize_int8_perrow_long"))
        cells = [f"{K:,}"]
        for lanes, time in zip((block, chunks), ours, strict=True):
            cells += [f"{lanes:,}", f"{1 - K / lanes:.0%}" if lanes > K else "none", f"{copy / time:.0%}"]
        assert f"| {' | '.join(cells)} |".replace("%", " %") in page
    types, blocks = {"x_ptr": "*fp16", "q_ptr": "*i8", "scale_ptr": "*fp32"}, (2048, 4096, 8192, 16384)
    counts = registers(quantize.quantize_int8_perrow_plain_kernel, types, *({"BLOCK_K": lanes} for lanes in blocks))
    for lanes, count in zip(blocks, counts, strict=True):
        programs = configs.programs_per_multiprocessor(count, 16, 4, 228 * 1024)
        assert f"| {lanes:,} | {count} | {programs} | {128 * programs:,} |" in page
    assert "took about 2 µs for 1 row of 4,096 numbers, and for 128 rows" in page
    assert [round(us("quant_decode", "quantize_int8_perrow", "graph", M=M)) for M in (1, 128)] == [2, 2]


def test_05_scaling_by_groups_beside_the_product():
    product = cost.matmul_flops(4096, 4096, 4096) / 1979e6

    def share(groups: float) -> float:
        return 4096 * 4096 * (3 * groups - 1) / 33.5e6 / product

    assert cost.scaling_flops(4096, 4096, 4096, 128) / 33.5e6 / product == pytest.approx(share(32))
    assert f"With groups of 128 it takes {share(32):.2f} times as long as the product." in text("05")
    assert "equally long with about 47 groups, that is `GROUP_K` = 88." in text("05")
    assert share(4096 / 88) == pytest.approx(1, abs=0.01) and round(4096 / 88) == 47


def test_05_speeds_of_the_ladder():
    names = ("perrow_w8a8_matmul_plain", "perrow_w8a8_matmul_grouped", "perrow_w8a8_matmul")
    flops = cost.matmul_flops(16384, 6144, 2048)
    plain, grouped, fastest = (flops / us("gemm", name, M=16384, N=6144, K=2048) / 1e6 for name in names)
    page = text("05")
    assert f"the H200 recorded {plain:,.0f} TOPS for it" in page and 0.45 < plain / 1979 < 0.55
    assert f"It reaches {grouped:,.0f} TOPS." in page and f"avoids all three and reaches {fastest:,.0f} TOPS." in page


def test_06_the_ordinary_channels_part_of_y():
    (x, ordinary), w = activations(size=100), weights()
    exact = x[:, ordinary].double() @ w[:, ordinary].double().T

    def decibels(x, w):
        rounded = (error.fake_quantize_int8(side, 1, side.shape[1])[:, ordinary] for side in (x, w))
        return error.sqnr_db(exact, next(rounded) @ next(rounded).T)

    least, *smoothed = (decibels(*error.smoothquant(x, w, alpha / 20)) for alpha in range(21))
    best = max(smoothed)
    apart = decibels(torch.where(ordinary, x, 0), torch.where(ordinary, w, 0))
    assert (f"**Look at the ordinary channels' part of $y$:** {least:.1f} dB at $\\alpha$ = 0, {best:.1f} dB at "
            f"best, and {apart:.1f} dB with LLM.int8() or without outliers.") in text("06")
    assert f"The part of $y$ that comes from ordinary channels has {apart:.1f} dB" in text("06")
    plain = activations(size=1)[0]
    assert error.sqnr_db(plain.double() @ w.double().T, int8_product(plain, w)) == pytest.approx(apart, abs=0.1)


def test_06_how_often_each_layer_is_kept_over_20_seeds():
    tokens, kept, shown = torch.randn(128, 256, generator=torch.Generator().manual_seed(5)), Counter(), set()
    for seed in range(20):
        block, own = Block(seed=seed), {}
        block(tokens, lambda name, x, w, own=own: own.setdefault(name, (x, w)) and x @ w.T)
        decibels = torch.tensor([error.sqnr_db(x @ w.T, int8_product(x, w)) for x, w in own.values()])
        sizes = torch.tensor([w.numel() for _, w in own.values()])
        keep = error.layers_to_keep(decibels, sizes, 200_000).tolist()
        names = " ".join(sorted(name for name, stays in zip(own, keep, strict=True) if stays))
        kept[names] += 1
        if seed in range(7, 12):
            shown.add(names)
    assert set(kept) == shown == {"gate", "up", "k q v"} and "for seed in range(7, 12):" in text("06")
    assert f"kept gate {kept['gate']} times, up {kept['up']} times, and q, k and v {kept['k q v']} times." in text("06")


def test_07_the_epilogue_s_step_beside_its_prediction():
    ratios = []
    for N in (2048, 6144, 22016):
        shape = {"M": 16384, "N": N, "K": 2048}
        predicted = (cost.unfused_bytes(**shape) - cost.epilogue_fused_bytes(**shape)) / recorded()["roofs"]["copy_gb_per_s"]
        ratios.append(1e3 * (us("plans", "unfused INT8", **shape) - us("plans", "epilogue-fused INT8", **shape)) / predicted)
    assert f"The first is {min(ratios):.2f} to {max(ratios):.2f} times as long as predicted where $K$ = 2,048" in text("07")


def test_07b_quantizing_in_the_loop():
    shape = {"M": 16384, "N": 22016, "K": 2048}
    bound = 5 * cost.main_loop_quantizations(**shape, BLOCK_M=128, BLOCK_N=128) / 33.5e6
    assert (f"the larger of the two times, {bound:.0f} µs, and our two separate kernels were measured at "
            f"{us('matmul_int8', 'matmul_int8', **shape):,.0f} µs.") in text("07b")
    ratio = 5 * 1979 / 33.5 / 2
    assert f"ratio is ${ratio:.0f} / \\text{{BLOCK\\_N}}$ at every $N$: {ratio / 128:.2f} with tiles" in text("07b")
    assert f"of 128 columns, and {ratio / 256:.2f} with 256." in text("07b") and 64 * 2048 == 131_072


def test_07b_what_silu_mul_in_the_epilogue_saves():
    shape = {"M": 16384, "N": 11008, "K": 2048}
    saved = cost.silu_in_quantizer_bytes(**shape) - cost.silu_in_epilogue_bytes(**shape)
    assert f"The epilogue plan saves {saved / 1e6:.0f} MB here." in text("07b")
    assert f"here 4, and {-(-11008 // 64)} for $N = 11008$." in text("07b")
    second, third = (model(**shape) / 1e6 for model in (cost.silu_in_quantizer_bytes, cost.silu_in_epilogue_bytes))
    assert f"{second:,.0f} / {third:,.0f} = {second / third:.1f} times fewer" in text("07b")


def test_07b_the_loop_loses_least_where_n_is_small():
    def times_slower(K: int, N: int) -> float:
        inside, apart = (us("places", name, M=16384, K=K, N=N) for name in ("in the loop, scales given", "quantizer apart"))
        return inside / apart

    times = {shape: times_slower(*shape) for shape in ((2048, 2048), (2048, 6144), (2048, 22016), (11008, 2048))}
    assert sorted(times, key=times.get)[:2] == [(2048, 2048), (11008, 2048)] and min(times.values()) > 1
    assert "is slower at every shape, and loses least where $N$ is 2,048" in text("07b")


def test_07b_a_faster_product_saves_more_than_a_fusion():
    assert "a faster product can save more than a fusion" in text("07b")
    for M, K, N in ((16384, 2048, 22016), (8192, 4096, 28672)):
        apart, fused, fastest = (us("gate_up", name, M=M, K=K, N=N) for name in (
            "SiLU·mul apart", "SiLU·mul in the epilogue", "fastest product, SiLU·mul in the quantizer"))
        assert fastest < fused < apart


def test_08b_waiting_for_launches_and_its_spread():
    rows = {(row["function"], row["M"]): row for row in select(recorded(), test="launches", mode="idle")}
    cublas = rows["cuBLAS FP16", 1]
    assert (f"the median of cuBLAS at $M = 1$ is {cublas['median_us']:.0f} µs, and the middle 80 % of its calls go from "
            f"{cublas['low_us']:.0f} to {cublas['high_us']:.0f} µs") in text("08b")
    fp16, int8 = (rows[name, 16]["median_us"] - us("launches", name, "graph", M=16)
                  for name in ("cuBLAS FP16", "decode_w8a8"))
    assert "with two launches INT8 waits longer" in text("08b") and int8 > fp16
    x, parts = 2 * 16 * 4096 / 1e6, 2 * 2 * 16 * 4096 * 4 / 1e6  # written and read
    assert f"$x$ and $y$ are {x:.2f} MB each, and the partial sums move {parts:.2f} MB." in text("08b")


def test_09_full_waves_and_the_fastest_configuration():
    def met(M: int) -> list[tuple[float, float]]:
        times = {row["function"]: row["median_us"] for row in select(recorded(), test="config", M=M, K=4096, N=4096)}
        pairs = []
        for name, sizes, report in tuning.report_configs()[:6]:
            fit = configs.programs_per_multiprocessor(report.registers, report.shared, sizes["num_warps"], 233472)
            full = configs.wave_efficiency(M, 4096, sizes["BLOCK_M"], sizes["BLOCK_N"], 132 * fit)
            pairs.append((full, times[name] / min(times.values())))
        return pairs

    assert max(met(65))[1] == 1
    (full, times), best = max(met(512)), next(full for full, times in met(512) if times == 1)
    assert (f"configuration that fills {full:.0%} of the places takes {times:.2f} times as long as the best, which fills "
            f"{best:.0%}.").replace("%", " %") in text("09")


def test_09_int8_waits_for_each_product():
    assert {report.pending for _, _, report in tuning.report_configs()[:6]} == {0}
    assert "it waits for each product (`wgmma.wait_group 0`)" in text("09")


def test_09_what_the_two_formulas_rule_out():
    space = list(product((64, 128, 256), (64, 128, 256), (64, 128, 256), (4, 8, 16), (2, 3, 4, 5)))
    fits = [c for c in space if configs.stage_bytes(*c[:3], c[4], 1) <= 227 * 1024
            and configs.accumulator_registers(*c[:2], c[3]) <= 128]
    left = [c for c in fits if configs.accumulator_registers(*c[:2], c[3]) >= 32]
    assert f"rule out {len(space) - len(fits)} of {len(space)} configurations." in text("09")
    assert f"rules out another {len(fits) - len(left)}. So {len(left)} are left." in text("09")


def test_04_the_predicted_time_beside_the_measured_ones():
    copy, ours, chunks, block = (us("quant_prefill", name, M=16384, K=4096) for name in (
        "copy", "quantize_int8_perrow", "quantize_int8_perrow_long", "quantize_int8_perrow_plain"))
    least = cost.quantize_int8_perrow_bytes(16384, 4096) / 4800e3
    assert (f"Part 3 predicted {least:.1f} µs for 16,384 rows of 4,096 numbers at the datasheet's speed. The H200 took "
            f"{copy:.1f} µs for a copy of as many bytes, {ours:.1f} for the library's function, {chunks:.1f} for the kernel "
            f"in chunks and {block:.1f} for the one with one block.") in text("04")


def test_08b_predicted_latencies_beside_measured_ones():
    page, shape = text("08b"), {"N": 4096, "K": 4096}
    fp16, int8 = ([us("few or many", name, "graph", M=M, **shape) for M in (1, 128)]
                  for name in ("cuBLAS FP16", "decode_w8a8"))
    least = [weight * 4096**2 / 4800e3 for weight in (2, 1)]
    assert (f"lesson 08 predicted {least[0]:.1f} µs in FP16 and {least[1]:.1f} µs in INT8. The H200 took {fp16[0]:.1f} and "
            f"{int8[0]:.1f} µs") in page
    assert f"so the gain of {fp16[0] / int8[0]:.2f} is close to the predicted 2." in page
    assert f"the H200 took {fp16[1]:.1f} and {int8[1]:.1f}: a gain of {fp16[1] / int8[1]:.2f}." in page


def test_10_accuracy_as_recorded():
    page, record = text("10"), json.loads((ROOT / "results" / "transformer" / "accuracy.json").read_text())
    card = json.loads((ROOT / "results" / "transformer" / "nvidia_h200.json").read_text())["cost_percent"]
    cost_of = {scheme["name"]: scheme["cost_percent"] for scheme in record["schemes"]}
    row, cut, tensor = (cost_of[f"INT8 per {way}"] for way in ("row", "row, truncated", "tensor"))
    assert (f"It says +{card['INT8 per row']:.2f} % per row and +{card['INT8 per tensor']:.2f} % per tensor, where part 2's "
            f"picture, made on a CPU, says {row:.2f} % and {tensor:.2f} %.") in page
    assert f"With 8 bits per row, perplexity rises by {row:.2f} %." in page
    assert [round(cut / row), round(tensor / row)] == [2, 4] and "doubles that, one scale per tensor makes" in page
    steps = [cost_of[f"INT{bits} per row"] for bits in (8, 7, 6, 5, 4)]
    assert {round(more / less) for less, more in pairwise(steps)} == {3, 4} and cost_of["INT7 per tensor"] > steps[2]
    assert f"At 4 bits the right way costs {steps[-1]:.0f} %" in page
    channel = {(found["factor"], found["name"]): found["cost_percent"] for found in record["outliers"]}
    assert 45 < channel[64, "INT8 per tensor"] < 50 and "Per tensor, perplexity rises by almost half." in page
    assert round(channel[64, "INT8 per tensor"] / channel[64, "INT8 per row"]) == 30 and "thirty times smaller" in page
    worst = sorted((layer["cost_percent"] for layer in record["layers"]), reverse=True)
    assert sum(worst[:5]) > 0.7 * sum(worst) and "five of 29 layers cause most of the cost" in page


def test_10_what_a_block_alone_waits_for():
    rows = json.loads((ROOT / "results" / "transformer" / "nvidia_h200.json").read_text())["rows"]
    us = {(row["phase"], row["mode"], row["batch"]): row["median_us"] for row in rows
          if (row["test"], row["function"]) == ("block", "INT8")}
    longest, batch = max((time, batch) for (phase, mode, batch), time in us.items() if (phase, mode) == ("decode", "eager"))
    assert (f"in INT8 the launches of a whole block take at most {longest:,.0f} µs (eager, {batch} tokens), and its kernels "
            f"in prefill {us['prefill', 'graph', 1]:,.0f}.") in text("10")


def test_10_gains_of_a_decode_step_beside_their_prediction():
    met = speedups(json.loads((ROOT / "results" / "transformer" / "nvidia_h200.json").read_text())["rows"], "INT8")
    said = [[], []]
    for batch in (1, 16, 64):
        fp16, int8 = (products(batch, **LLAMA_3_8B_DIMS, gb_per_s=4800, **peak) for products, peak in (
            (products_fp16_us, {"tflops": 989}), (products_int8_us, {"tops": 1979})))
        cache = kv_cache_bytes(batch, 2048, 1024) / 4800e3
        said[0].append(f"{met['decode', batch, 2048, 'graph']:.2f}")
        said[1].append(f"{(fp16 + cache) / (int8 + cache):.2f}")
    assert "predicted: {}, {} and {} in place of {}, {} and {}.".format(*said[0], *said[1]) in text("10")
