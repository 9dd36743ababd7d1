"""Per-row quantization against its definition, on rows chosen to break it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.bench.results import recorded, select
from checks.judge.compiler import Compilation
from checks.judge.launches import watch
from checks.judge.source import define
from checks.pictures.quantize import show_speed
from kernels.quantize import (
    quantize_int8_perrow,
    quantize_int8_perrow_long,
    quantize_int8_perrow_plain,
    quantize_int8_perrow_torch,
)
from kernels.runtime import INTERPRETED, device

DTYPES = [torch.float16, torch.bfloat16]


def definition(x):
    """The design's numbers, in FP32 as IEEE 754 rounds: what every code and scale must equal.

    On the CPU, for on a GPU torch divides by a number by multiplying with its inverse.
    """
    return quantize_int8_perrow_torch(x.cpu())


def assert_quantizes(x):
    q, scale = quantize_int8_perrow(x)
    want_q, want_scale = definition(x)
    assert (q.dtype, q.shape, scale.dtype, scale.shape) == (torch.int8, x.shape, torch.float32, x.shape[:1])
    assert torch.equal(scale.cpu().nan_to_num(-1), want_scale.nan_to_num(-1))
    assert torch.equal(q.cpu(), want_q)
    return q.cpu(), scale.cpu()


def assert_all_quantize(x):
    want_q, want_scale = definition(x)
    for quantize in (quantize_int8_perrow_plain, quantize_int8_perrow_long):
        q, scale = quantize(x)
        assert torch.equal(scale.cpu().nan_to_num(-1), want_scale.nan_to_num(-1)) and torch.equal(q.cpu(), want_q)


def rows(M, K, dtype, seed=0):
    return torch.randn(M, K, generator=torch.Generator().manual_seed(seed)).to(dtype).to(device())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("M, K", [(1, 1), (3, 127), (2, 128), (3, 129), (2, 2048), (2, 3072), (2, 4096), (2, 4097),
                                  (2, 11008), (1, 16500)])
def test_codes_and_scales_equal_the_definition(dtype, M, K):
    assert_quantizes(rows(M, K, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("K", [100, 5000])  # the row in registers, the row in chunks
def test_special_rows(dtype, K):
    x = rows(9, K, dtype)
    x[0] = 0
    x[1] *= 3e-6 / x[1].abs().max()  # tiny: in FP16 all of them subnormal
    x[2, K // 2] = 6e4  # an outlier leaves the rest of its row few codes
    x[3, K - 1] = float("nan")
    x[4, 0] = float("inf")
    x[5, 1] = -float("inf")
    x[6] = -0.0
    # The least FP16 number; in BF16 the interpreter takes numbers below the normal ones for zero.
    x[7] = 2**-24 if dtype is torch.float16 else 2**-118
    assert_all_quantize(x)
    q, scale = assert_quantizes(x)
    assert (q[[0, 3, 4, 5, 6]] == 0).all()
    assert scale.isnan().tolist() == [False, False, False, True, True, True, False, False, False]
    assert scale[0] == scale[6] == 0


@pytest.mark.parametrize("K", [256, 5000])
def test_halves_go_to_the_even_neighbour(K):
    """With amax = 127 the scale is 1, so x = 0.5, 1.5, 2.5 … stand exactly between two codes."""
    x = torch.zeros(1, K, dtype=torch.float16)
    x[0, :253] = torch.arange(-126, 127) / 2
    x[0, -1] = 127
    q, scale = assert_quantizes(x.to(device()))
    assert scale.item() == 1
    assert [q[0, list(x[0]).index(value)].item() for value in (0.5, 1.5, 2.5, -0.5, -1.5, 62.5)] == [0, 2, 2, 0, -2, 62]


def test_codes_are_the_nearest_to_the_real_quotient():
    """Against float64: FP32 quotients below 128 err by at most 2⁻¹⁸, so only a tie that near may go the other way."""
    x = rows(64, 512, torch.float16)
    q, scale = quantize_int8_perrow(x)
    quotient = x.double() / scale.double()[:, None]
    assert ((q.double() - quotient).abs() <= 0.5 + 2**-18).all()
    assert (q.abs().amax(dim=1) == 127).all()


def test_rows_of_a_wider_tensor():
    assert_quantizes(rows(12, 700, torch.float16)[::3, 5:600])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.sampled_from(DTYPES), st.integers(-30, 12), st.integers(0, 2**16))
def test_any_row(K, dtype, exponent, seed):
    assert_quantizes((rows(2, K, torch.float32, seed) * 2.0**exponent).to(dtype))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(width=16), min_size=1, max_size=40))
def test_any_values(values):
    assert_quantizes(torch.tensor([values, values[::-1]], dtype=torch.float16, device=device()))


@pytest.mark.parametrize("rung", [quantize_int8_perrow, quantize_int8_perrow_plain, quantize_int8_perrow_long])
@pytest.mark.parametrize("x, words", [
    (torch.zeros(4, 8), r"x must be \(M, K\) float16 or bfloat16, got \(4, 8\) float32"),
    (torch.zeros(8).half(), r"x must be \(M, K\)"),
    (torch.zeros(4, 0).half(), "x must not be empty"),
    (torch.zeros(8, 4).half().T, "x must be contiguous along its last dimension"),
    ([1.0], "x must be .* tensor, got list"),
])
def test_wrong_arguments_are_named(rung, x, words):
    with pytest.raises((TypeError, ValueError), match=words):
        rung(x.to(device()) if isinstance(x, torch.Tensor) else x)


@pytest.mark.skipif(not INTERPRETED, reason="on a GPU it measures")
def test_the_speeds_are_drawn_as_recorded_and_of_a_stub_nothing(capsys):
    axes = show_speed(quantize_int8_perrow_plain, quantize_int8_perrow_long).axes[0]
    lines = {line.get_label(): dict(line.get_xydata()) for line in axes.lines if len(line.get_xdata()) > 2}
    assert set(lines) == {"copy", "quantize_int8_perrow_plain", "quantize_int8_perrow_long", "quantize_int8_perrow"}
    assert any("a copy on this GPU" in text.get_text() for text in axes.texts)
    plain, long, ours = ({K: speed / lines["copy"][K] for K, speed in lines[name].items()} for name in list(lines)[1:])
    assert min(ours.values()) > 0.95, "what the lesson says of the library's function"
    assert min(long[4096], long[11008]) > 0.75, "what it says of the cache: well above 3/5"
    assert long[2048] < long[5120] < long[4096] < long[11008] and plain[11008] < plain[5120] < 0.62 * plain[4096]
    few = select(recorded(), test="quant_decode", function="quantize_int8_perrow", M=(1, 128), K=4096)
    assert len(few) == 2 and all(1.75 < row["median_us"] < 2.25 for row in few), "what it says of few rows"
    stub = define('def quantize_int8_perrow_plain_kernel(x_ptr):\n    tl.static_assert(False, "TODO: 10 lines")\n',
                  "quantize_int8_perrow_plain_kernel", {})
    assert show_speed(stub) is None
    assert "not attempted yet" in capsys.readouterr().out


@pytest.mark.skipif(not INTERPRETED, reason="what the lesson says of a GPU is compiled for without one")
def test_two_programs_with_16384_lanes_fill_the_registers():
    """What lesson 04 says of K = 11,008: programs of 128 threads, 65,536 registers, none of them spilled."""
    with watch() as launches:
        quantize_int8_perrow_plain(torch.ones(1, 11008).half())
    hopper = Compilation(launches).reports()[0][90]
    assert hopper.spills == 0 and hopper.registers > 170 and 65536 // (128 * hopper.registers) == 2
