"""Lesson 11 says in numbers what is recorded in results/, what its formulas give, and what its cells print."""

import json

import pytest
import torch
from test_lesson_figures import text

from checks.bench.operands import quantize_fp8_perrow
from checks.bench.results import recorded, select
from checks.paths import ROOT
from checks.pictures import stack
from kernels.block_cost import LLAMA_3_8B_DIMS, block_weights, kv_cache_bytes
from kernels.quantize import quantize_int8_perrow_torch
from kernels.runtime import INTERPRETED
from kernels.schemes import clipped_scale, fold_smoothing, quantize_asymmetric
from kernels.serving import decode_step_us, int8_cache_bytes

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="what a GPU computes differs in the last digit")


def test_tokens_per_second_of_the_recorded_model():
    card = json.loads((ROOT / "results" / "model" / "nvidia_h200_llama_3_2_1b.json").read_text())
    rows = {(row["batch"], row["mode"], row["function"]): row for row in card["speed"]}

    def gain(batch, mode, phase="decode"):
        return rows[batch, mode, "INT8"][f"{phase}_tokens_per_s"] / rows[batch, mode, "FP16"][f"{phase}_tokens_per_s"]

    said = text("11")
    fp16, int8 = (rows[1, "reduce-overhead", side]["decode_tokens_per_s"] for side in ("FP16", "INT8"))
    assert f"makes {int8:.0f} tokens per second in place of {fp16:.0f}, {gain(1, 'reduce-overhead'):.2f} times" in said
    assert f"and {gain(16, 'reduce-overhead'):.2f} times with 16 sequences" in said
    assert f"{1e6 / fp16:,.0f} and {1e6 / int8:,.0f} were measured" in said
    one, many = (gain(batch, "eager", "prefill") for batch in (1, 16))
    assert f"INT8 is {one:.2f} times as fast as FP16, with 16 prompts {many:.2f}" in said
    assert gain(1, "eager") < 1.1 and gain(16, "eager") < 0.9
    assert "gains nothing with one sequence and **loses** with 16" in said
    bounds = [decode_step_us(1.24e9 * size, 2e7, 1, 4300, 6) for size in (2, 1)]
    assert "your bound said {:.0f} µs for FP16 and {:.0f} for INT8".format(*bounds) in said


def test_the_small_model_s_card():
    card = json.loads((ROOT / "results" / "model" / "nvidia_h200_own.json").read_text())
    found = card["accuracy"]
    assert (f"+{found['cost_percent']:.3f} % ± {found['standard_error_percent']:.3f} % on {card['windows']} windows of "
            f"{card['window']} bytes") in text("11")


def test_times_of_attention():
    us = {(row["M"], row["K"], row["function"]): row for row in select(recorded(), test="attention")}
    gains = {place: us[(*place, "SDPA FP16")]["median_us"] / us[(*place, "decode_attention_int8")]["median_us"]
             for place in stack.PLACES}
    ours, theirs = us[64, 8192, "decode_attention_int8"], us[64, 8192, "SDPA FP16"]
    said = text("11")
    assert f"takes {ours['median_us']:.0f} µs and not {theirs['median_us']:.0f}" in said
    assert f"{gains[64, 8192]:.2f} times as fast" in said and max(gains, key=gains.get) == (64, 8192)
    assert [place for place, gain in gains.items() if gain > 1] == [(1, 8192), (64, 8192)]
    alike = [us[1, 8192, name]["median_us"] for name in ("decode_attention_int8", "SDPA FP16")]
    assert "the two are alike, {:.0f} and {:.0f} µs".format(*alike) in said
    assert f"down to {min(gains.values()):.2f} times with 16 sequences of 2,048" in said
    assert min(gains, key=gains.get) == (16, 2048)
    assert f"reads {ours['gb_per_s'] / 1e3:.1f} TB/s and PyTorch's {theirs['gb_per_s'] / 1e3:.1f}" in said


def test_bytes_of_weights_and_caches():
    fp16, int8 = (32 * size / 1e9 for size in (kv_cache_bytes(64, 8192, 1024), int8_cache_bytes(64, 8192, 8, 128)))
    weights = 32 * block_weights(**LLAMA_3_8B_DIMS) / 1e9
    said = text("11")
    assert f"reads {fp16:.1f} GB of FP16 cache and only {2 * weights:.0f} GB of FP16 weights" in said
    assert f"INT8 weights save {weights:.0f} GB there; an INT8 cache saves {fp16 - int8:.0f}" in said
    assert f"are {32 * kv_cache_bytes(32, 4000, 1024) / 1e9:.0f} GB, more than the weights" in said
    assert "4 / 132, 3 %" in said and round(100 * 4 / 132) == 3


def test_errors_of_both_formats_zero_points_and_clips():
    torch.manual_seed(0)
    x, w = torch.randn(2, 256, 512)
    exact = x @ w.T

    def error(quantize):
        (x_q, x_scale), (w_q, w_scale) = (quantize(side) for side in (x, w))
        y = (x_q.float() @ w_q.float().T) * x_scale.reshape(-1, 1) * w_scale.reshape(1, -1)
        return 100 * ((y - exact).norm() / exact.norm()).item()
    said = text("11")
    assert "1.3 % error in a product of normal numbers | 3.6 %" in said
    assert error(quantize_int8_perrow_torch) == pytest.approx(1.1, abs=0.25)
    assert error(quantize_fp8_perrow) == pytest.approx(3.6, abs=0.2)
    values = [float(t.get_text()) for t in stack.show_formats(quantize_asymmetric, clipped_scale).axes[0].texts]
    assert f"mostly positive: {values[4]} dB and not {values[1]}" in said
    assert f"Clipping gains {values[9] - values[6]:.1f} dB for normal numbers in INT4" in said and values[11] == values[8]
    plain, smoothed = (float(t.get_text().split()[-4])
                       for t in stack.show_smoothing(fold_smoothing).axes[0].get_legend().get_texts())
    assert smoothed > 2 * plain and "more than doubles in decibels" in said
