"""The steps that ranks take apart, in one process: parts of rows put together give the bits of the whole."""

import pytest
import torch

from kernels import parts
from kernels.fused import rmsnorm_quantize_int8, silu_mul_quantize_int8
from kernels.matmul_int8 import matmul_int8
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import device


def codes(*shape):
    g = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-127, 128, shape, generator=g, dtype=torch.int8).to(device())


def randn(*shape, dtype=torch.float16):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype).to(device())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_codes_of_parts_are_those_of_the_row(dtype):
    x, up = randn(4, 70, dtype=dtype), randn(4, 71, dtype=dtype)[:, 1:]
    x[1], x[2, 3], x[3, 60] = 0, torch.inf, torch.nan
    for second, whole in ((None, quantize_int8_perrow(x)), (up, silu_mul_quantize_int8(x, up))):
        cut = [(x[:, k], None if second is None else second[:, k]) for k in (slice(0, 40), slice(40, 70))]
        amax = [parts.part_amax(*part) for part in cut]
        found = [parts.quantize_with_amax(*part, amax) for part in cut]
        assert torch.equal(torch.cat([q for q, _ in found], dim=1), whole[0])
        assert all(torch.equal(scale.nan_to_num(7), whole[1].nan_to_num(7)) for _, scale in found)


@pytest.mark.parametrize("M", [1, 130])
def test_sums_and_products_for_few_rows_and_many(M):
    x_q, w_q, bias = codes(M, 48), codes(20, 48), randn(20)
    x_scale, w_scale = randn(M).float().abs(), randn(20).float().abs()
    sums = parts.sums_into(torch.empty(M, 20, dtype=torch.int32, device=x_q.device), x_q, w_q)
    assert torch.equal(sums.cpu(), x_q.cpu().int() @ w_q.cpu().int().T)
    y = parts.multiply_into(randn(M, 20), x_q, x_scale, w_q, w_scale, bias)
    assert torch.equal(y, perrow_w8a8_matmul(x_q, x_scale, w_q, w_scale, bias))
    assert torch.equal(parts.finish([sums], (x_scale, w_scale), bias, None, torch.float16), y)
    one, two, three = sums // 3, sums // 5, sums - sums // 3 - sums // 5
    assert torch.equal(parts.finish([one, two, three], (x_scale, w_scale), bias, None, torch.float16), y)


@pytest.mark.parametrize("M", [1, 3])
def test_quantized_and_multiplied_where_it_is_wanted(M):
    x, w_q, w_scale, bias = randn(M, 48), codes(20, 48), randn(20).float().abs(), randn(20)
    y = parts.quantize_and_multiply_into(randn(M, 20), x, w_q, w_scale, bias)
    assert torch.equal(y, matmul_int8(x, w_q, w_scale, bias))


def test_a_sum_and_the_norm_that_follows():
    one, two, residual, weight = randn(3, 20), randn(3, 21)[:, 1:].contiguous(), randn(3, 22)[:, 2:].contiguous(), randn(20)
    for given in ([one, two], [one, two, two]):
        rows, (q, scale) = parts.finish_rmsnorm(given, residual, weight, 1e-5)
        assert torch.equal(rows, torch.stack(given).float().sum(0).half() + residual)
        want_q, want_scale = rmsnorm_quantize_int8(rows, weight, 1e-5)
        assert torch.equal(q, want_q)
        torch.testing.assert_close(scale, want_scale, rtol=1e-6, atol=0)


def test_what_does_not_fit_is_refused():
    x = randn(3, 20)
    with pytest.raises(ValueError, match=r"up must be \(3, 20\) float16, got \(3, 10\) float16"):
        parts.part_amax(x, x[:, :10])
    with pytest.raises(ValueError, match=r"amax must be \(3,\) float32"):
        parts.quantize_with_amax(x, None, [torch.ones(2, device=x.device)])
    with pytest.raises(ValueError, match="residual must be contiguous"):
        parts.finish([x], None, None, randn(20, 3).T, torch.float16)
    assert parts.part_amax(x[:0]).shape == (0,) and parts.finish([x[:0]], None, None, None, torch.float16).shape == (0, 20)
