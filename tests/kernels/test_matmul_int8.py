"""matmul_int8 against its two steps, and against the product that it approximates."""

import pytest
import torch

from kernels.decode import decode_w8a8
from kernels.fused import rmsnorm_quantize_int8, silu_mul_quantize_int8
from kernels.matmul_int8 import matmul_int8, matmul_int8_two_kernels
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import device


def randn(*shape, seed=0, dtype=torch.float16):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(device())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("M", [1, 16, 17, 32, 33, 64, 65, 128])
def test_every_bucket_of_rows_gives_the_bits_of_the_two_steps(M, dtype):
    x, (w_q, w_scale) = randn(M, 96, dtype=dtype), quantize_int8_perrow(randn(72, 96, seed=1))
    want = perrow_w8a8_matmul(*quantize_int8_perrow(x), w_q, w_scale, out_dtype=dtype)
    assert torch.equal(matmul_int8(x, w_q, w_scale), want)


@pytest.mark.parametrize("lead", [(), (3,), (2, 5), (2, 1, 35)])
def test_leading_dimensions(lead):
    x, (w_q, w_scale), bias = randn(*lead, 64), quantize_int8_perrow(randn(40, 64, seed=1)), randn(40, seed=2)
    y = matmul_int8(x, w_q, w_scale, bias)
    assert y.shape == (*lead, 40)
    assert torch.equal(y.reshape(-1, 40), matmul_int8(x.reshape(-1, 64), w_q, w_scale, bias))


def test_strided_input_is_handled():
    x, (w_q, w_scale) = randn(64, 4, 3).permute(2, 1, 0), quantize_int8_perrow(randn(40, 64, seed=1))
    assert torch.equal(matmul_int8(x, w_q, w_scale), matmul_int8(x.contiguous(), w_q, w_scale))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_plain_rung_takes_the_same_inputs(dtype):
    (w_q, w_scale), bias = quantize_int8_perrow(randn(40, 64, seed=1)), randn(40, seed=2)
    wide = randn(3, 4, 80, dtype=dtype)
    for x in (wide[..., :64], wide[..., 3:67], randn(64, 4, 3, dtype=dtype).permute(2, 1, 0), wide[0, 0, :64],
              randn(1, 64, dtype=dtype).expand(5, 64), randn(64, 6, dtype=dtype).T):
        for given in (None, bias):
            y = matmul_int8_two_kernels(x, w_q, w_scale, given)
            assert y.dtype == dtype and torch.equal(y, matmul_int8(x, w_q, w_scale, given))


@pytest.mark.parametrize("M", [3, 70])
def test_error_is_that_of_two_roundings(M):
    """Codes are off by half a scale, y by Σ (s_x/2 |w| + s_w/2 |x| + s_x s_w/4), and FP16 rounds by 2⁻¹¹.

    The other terms: scaling in FP32 (three roundings of 2⁻²⁴) and the scales' own rounding, below 2⁻²¹ of the sum.
    """
    x, w, bias = randn(M, 200), randn(50, 200, seed=1), randn(50, seed=2)
    w_q, w_scale = quantize_int8_perrow(w)
    s_x = quantize_int8_perrow(x)[1].double()[:, None]
    s_w = w_scale.double()
    X, W = x.double(), w.double()
    want = X @ W.T + bias.double()
    sums = X.abs() @ W.abs().T + bias.double().abs()
    quantization = s_x / 2 * W.abs().sum(1) + s_w / 2 * X.abs().sum(1)[:, None] + 200 * s_x * s_w / 4
    y = matmul_int8(x, w_q, w_scale, bias).double()
    assert ((y - want).abs() <= quantization * (1 + 2**-10) + 2**-11 * want.abs() + 2**-21 * sums + 2**-25).all()


@pytest.mark.parametrize("M", [5, 70])
def test_rows_of_zeros_and_of_nan(M):
    x, (w_q, w_scale) = randn(M, 64), quantize_int8_perrow(randn(40, 64, seed=1))
    clean = matmul_int8(x, w_q, w_scale)
    x[1] = 0
    x[2, 3] = float("nan")
    x[4, 5] = float("inf")
    y = matmul_int8(x, w_q, w_scale)
    assert (y[1] == 0).all()
    assert y[[2, 4]].isnan().all()
    others = [m for m in range(M) if m not in (1, 2, 4)]
    assert torch.equal(y[others], clean[others])


@pytest.mark.parametrize("lead", [(0,), (3, 0), (0, 3)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_empty_batch_gives_an_empty_result(lead, dtype):
    w_q, w_scale = quantize_int8_perrow(randn(40, 64, seed=1))
    y = matmul_int8(randn(*lead, 64, dtype=dtype), w_q, w_scale)
    assert (y.shape, y.dtype) == ((*lead, 40), dtype)


def test_the_steps_take_an_empty_batch_too():
    w_q, w_scale = quantize_int8_perrow(randn(40, 64, seed=1))
    for q, scale in (quantize_int8_perrow(randn(0, 64)), rmsnorm_quantize_int8(randn(0, 64), randn(64)),
                     silu_mul_quantize_int8(randn(0, 64), randn(0, 64))):
        assert (q.shape, q.dtype, scale.shape, scale.dtype) == ((0, 64), torch.int8, (0,), torch.float32)
        assert perrow_w8a8_matmul(q, scale, w_q, w_scale).shape == (0, 40)
    assert decode_w8a8(randn(0, 64), w_q, w_scale).shape == (0, 40)


@pytest.mark.parametrize("change, words", [
    ({"x": torch.zeros(4, 8)}, r"x must be \(..., 8\) float16 or bfloat16, got \(4, 8\) float32"),
    ({"x": torch.zeros(4, 9).half()}, r"x must be \(..., 8\) float16 or bfloat16, got \(4, 9\) float16"),
    ({"w_q": torch.zeros(0, 8, dtype=torch.int8)}, "w_q must not be empty"),
    ({"x": torch.zeros(()).half()}, "x must be "),
    ({"w_q": torch.zeros(5, 8)}, "w_q must be .* int8"),
    ({"w_scale": torch.zeros(8)}, r"w_scale must be \(5,\) float32"),
    ({"bias": torch.zeros(8)}, r"bias must be \(5,\)"),
])
def test_wrong_arguments_are_named(change, words):
    right = {"x": torch.zeros(4, 8).half(), "w_q": torch.zeros(5, 8, dtype=torch.int8), "w_scale": torch.zeros(5)}
    with pytest.raises((TypeError, ValueError), match=words):
        matmul_int8(**{k: v.to(device()) for k, v in {**right, **change}.items()})
