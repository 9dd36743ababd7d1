"""Lesson 11 says in numbers what is recorded in results/, what its formulas give, and what its cells print."""

import json
import os
import subprocess
import sys

import pytest
import torch
from test_lesson_figures import registers, text, us

from checks.bench.operands import quantize_fp8_perrow
from checks.bench.results import recorded, select
from checks.judge.source import answer_source
from checks.paths import ROOT
from checks.pictures import stack
from kernels import configs, cost
from kernels.block_cost import LLAMA_3_8B_DIMS, block_weights, kv_cache_bytes
from kernels.group_w8a8 import GROUP_CONFIGS, group_w8a8_matmul_kernel
from kernels.perrow_w8a8 import GROUPED_CONFIGS, perrow_w8a8_matmul_kernel
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
    alone, step = (rows[1, "eager", "INT8"][f"{phase}_ms"][1] for phase in ("prefill", "decode"))
    assert f"512 tokens take {alone:.0f} ms in INT8, and one step of decode, a single token, {step:.0f}" in said
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
    assert f"attention {gains[64, 8192]:.2f} times as fast" in said and max(gains, key=gains.get) == (64, 8192)
    assert f"2,048 it is {gains[64, 2048]:.2f} times as fast, and with 16 of 8,192 {gains[16, 8192]:.2f} times" in said
    assert all(abs(gains[place] - 1) < 0.03 for place in ((1, 8192), (16, 2048))) and "within 3 % of each other" in said
    assert f"with one of 2,048 ours is **slower**, {gains[1, 2048]:.2f} times as fast" in said
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


GROUPS = {"x_ptr": "*i8", "w_ptr": "*i8", "y_ptr": "*fp16", "x_scale_ptr": "*fp32", "w_scale_ptr": "*fp32"}
OPTIONS = {"num_warps": GROUP_CONFIGS[0].num_warps, "num_stages": GROUP_CONFIGS[0].num_stages}
PTX = """
import re
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
kinds, blocks = {kinds}, {blocks}
names = group_w8a8_matmul_kernel.arg_names
signature = {{name: "constexpr" if name in blocks else kinds.get(name, "i32") for name in names}}
aligned = {{(place,): [["tt.divisibility", 16]] for place, name in enumerate(names) if name not in blocks}}
values = {{(names.index(name),): value for name, value in blocks.items()}}
compiled = triton.compile(ASTSource(group_w8a8_matmul_kernel, signature, values, aligned), target=GPUTarget("cuda", 90, 32),
                          options={options})
print(*re.findall(r"\\b(?:cvt\\.rn\\.f32\\.s32|(?:add|sub|mul|fma)(?:\\.rn)?\\.f32)\\b", compiled.asm["ptx"]))
"""


def test_what_groups_cost_as_counted_and_as_compiled(tmp_path):
    said, large = text("11"), GROUP_CONFIGS[0]
    share = cost.scaling_flops(4096, 4096, 4096, 128) / 33.5e6 / (cost.matmul_flops(4096, 4096, 4096) / 1979e6)
    assert f"with groups of 128, {share:.2f} of the product's time" in said and f"less than {share:.2f}, or more" in said
    script = tmp_path / "compile_groups.py"
    sources = "\n\n".join(answer_source(name) for name in ("grouped_tile", "group_w8a8_matmul_kernel"))
    script.write_text(f"import triton\nimport triton.language as tl\n\n{sources}\n"
                      f"{PTX.format(kinds=GROUPS, blocks=large.kwargs, options=OPTIONS)}")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    sums = large.kwargs["BLOCK_M"] * large.kwargs["BLOCK_N"] // (32 * large.num_warps)
    assert sorted(done.stdout.split()) == sorted(sums * ["cvt.rn.f32.s32", "mul.f32", "fma.rn.f32"])
    assert "of a group there are three FP32 instructions: a conversion, a multiplication and a multiply-add." in said


def test_times_of_products_by_groups():
    said, names = text("11"), ("perrow_w8a8_matmul_grouped", "cuBLAS FP16")
    places = [{"M": 16384, "K": K, "N": N} for K, N in stack.WORKSHOP]
    rows, fp16 = ([us("groups", "group_w8a8_matmul", **place) / us("groups", name, **place) for place in places]
                  for name in names)
    assert (f"takes {min(rows):.2f} to {max(rows):.2f} times as long as `{names[0]}`, which fetches the same tiles in the "
            f"same way, and {min(fp16):.2f} to {max(fp16):.2f} times as long as cuBLAS in FP16.") in said
    share = cost.scaling_flops(4096, 4096, 4096, 128) / 33.5e6 / (cost.matmul_flops(4096, 4096, 4096) / 1979e6)
    assert f"would make the product at most {1 + share:.2f} times as long." in said and min(rows) > 1 + share
    large, small = ([us("groups", f"group_w8a8_matmul, {tile} x 128, {warps} warps, 3 stages", **place) for place in places]
                    for tile, warps in (("128 x 128", 8), ("128 x 64", 4)))
    faster = [a / b - 1 for a, b in zip(large, small, strict=True)]
    assert f"these are {100 * min(faster):.0f} to {100 * max(faster):.0f} % faster" in said


def test_registers_and_sectors_of_a_product_by_groups():
    said, large = text("11"), GROUP_CONFIGS[0]
    small = next(config for config in GROUP_CONFIGS if config.kwargs["BLOCK_N"] == 64 != config.kwargs["BLOCK_M"])
    counts, by_groups = [], (group_w8a8_matmul_kernel, {})
    for (kernel, absent), config, programs in ((by_groups, large, 1), (by_groups, small, 2), (
            (perrow_w8a8_matmul_kernel, {"bias_ptr": None}), GROUPED_CONFIGS[0], 2)):
        warps, shared = config.num_warps, configs.shared_bytes(config, torch.int8)
        (count,) = registers(kernel, GROUPS, config.kwargs | absent, num_warps=warps, num_stages=config.num_stages)
        assert configs.programs_per_multiprocessor(count, shared, warps, 233472) == programs
        counts.append(count)
    assert f"{counts[0]} in each thread, and by rows {counts[2]}." in said and GROUPED_CONFIGS[0].kwargs == large.kwargs
    assert (large.num_warps, GROUPED_CONFIGS[0].num_warps, small.num_warps) == (8, 8, 4)
    assert "here 512 bytes side by side, 16 sectors" in said and (128 * 4, 128 * 4 // 32) == (512, 16)
    assert "128 sectors when $K$ is 1,024 or more" in said and 1024 // 128 * 4 == 32
