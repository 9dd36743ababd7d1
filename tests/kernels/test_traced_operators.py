"""What torch.compile sees of our operators: launches where it knows the rows, operators inside CUDA graphs and elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from checks.paths import ROOT
from kernels.operators import _steps_of_quantize
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import device

WHOLE, QUANTIZE, PRODUCT = (f"int8_matmul_workshop.{name}.default" for name in (
    "matmul_int8", "quantize_int8_perrow", "perrow_w8a8_matmul"))


@pytest.fixture(scope="module")
def seen():
    script = Path(__file__).with_name("traced_operators.py")
    done = subprocess.run([sys.executable, script], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("case, calls", {
    "one row, short": ["decode_row_kernel [256, 1, 1]", "decode_row_kernel [1024, 1, 1]"],
    "one row, long": ["decode_quantize_kernel [1, 14, 1]", "decode_gemv_w8a8_kernel [1024, 1, 1]"],
    # Without split-K, and the quantization in torch's operators.
    "sixteen rows": ["decode_w8a8_kernel [128, 1, 1]", "decode_w8a8_kernel [448, 1, 1]"],
    "many rows": ["quantize_int8_perrow_kernel [300, 1, 1]", PRODUCT, PRODUCT],
    "norm": ["rmsnorm_quantize_int8_kernel [16, 1, 1]"],
    "silu": ["silu_mul_quantize_int8_kernel [16, 1, 1]"],
}.items())
def test_a_compiler_that_knows_the_rows_sees_launches(seen, case, calls):
    assert seen[case] == calls


@pytest.mark.parametrize("case, calls", {
    "one row, short": [WHOLE, WHOLE], "one row, long": [QUANTIZE, PRODUCT], "sixteen rows": [QUANTIZE, PRODUCT, PRODUCT],
    "many rows": [QUANTIZE, PRODUCT, PRODUCT], "norm": ["int8_matmul_workshop.rmsnorm_quantize_int8.default"],
    "silu": ["int8_matmul_workshop.silu_mul_quantize_int8.default"],
}.items())
def test_inside_a_cuda_graph_operators_stay(seen, case, calls):
    assert seen[f"{case}, in a graph"] == calls


@pytest.mark.parametrize("case", ["one row, short", "many rows"])
def test_what_is_exported_keeps_operators(seen, case):
    assert seen[f"{case}, exported"] == [WHOLE, WHOLE]


def test_every_operand_is_used(seen):
    found = {case: inputs for case, inputs in seen.items() if case.endswith(": unused")}
    assert len(found) == 26 and found == dict.fromkeys(found, [])


def test_what_is_shown_gives_what_the_operator_gives(seen):
    for case, (shown, whole) in ((case, found) for case, found in seen.items() if case.endswith(": gives")):
        assert shown == whole, case
        if "row" in case:
            assert {y.split()[0] for y in shown} == {"torch.bfloat16" if "BF16" in case else "torch.float16"}, case


@pytest.mark.parametrize("suffix", ["", ", in a graph"])
def test_a_norm_s_eps_is_handed_on(seen, suffix):
    assert seen[f"norm{suffix}: fractions"] == [0.75]


@pytest.mark.parametrize("case", ["rows not known", "no rows"])
def test_what_is_not_known_or_empty_stays_whole(seen, case):
    assert seen[case] == seen[f"{case}, in a graph"] == [WHOLE]


def test_an_input_that_is_changed_in_between_is_quantized_again(seen):
    assert seen["changed between, in a graph"] == [QUANTIZE, PRODUCT] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_steps_give_the_quantizers_bits(dtype):
    x = torch.randn(64, 999, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[:, ::7] *= 30
    x[1], x[2, 5], x[3, 6], x[4] = 0, torch.inf, torch.nan, torch.finfo(dtype).smallest_normal
    for got, want in zip(_steps_of_quantize(x), quantize_int8_perrow(x.to(device())), strict=True):
        assert torch.equal(got.nan_to_num(-1), want.cpu().nan_to_num(-1))
