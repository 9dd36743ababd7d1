"""Fused quantization against the operation in float64, quantized exactly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.fused import rmsnorm_quantize_int8, silu_mul_quantize_int8
from kernels.runtime import device

DTYPES = [torch.float16, torch.bfloat16]
U = 2**-24  # the most that one FP32 operation is off, of its result


def rows(M, K, dtype=torch.float16, seed=0):
    return torch.randn(M, K, generator=torch.Generator().manual_seed(seed)).to(dtype).to(device())


def assert_quantized(q, scale, y, code_error, scale_error):
    """q and scale are those of y, float64; scale may be off by a factor 1 ± scale_error, y / scale by code_error."""
    assert (q.dtype, q.shape, scale.dtype, scale.shape) == (torch.int8, y.shape, torch.float32, y.shape[:1])
    usable = y.isfinite().all(1)
    assert torch.equal(scale.isfinite(), usable)
    assert (q[~usable] == 0).all()
    q, scale, y = q[usable].double(), scale[usable].double(), y[usable]
    want = y.abs().amax(1) / 127
    assert ((scale - want).abs() <= scale_error * want).all()
    exact = torch.where(want[:, None] > 0, y / want[:, None], 0.0)
    # Rounded to nearest: at most one half from the quotient, and only the quotient's own error more.
    assert ((q - exact).abs() <= 0.5 + code_error).all()
    assert (q.abs().amax(1)[want > 0] == 127).all()


def check_rmsnorm(x, weight, eps=1e-6):
    exact = x.double()
    y = exact / (exact.square().mean(1, keepdim=True) + eps).sqrt() * weight.double()
    q, scale = rmsnorm_quantize_int8(x, weight, eps)
    # Codes: x · weight, amax the same, amax / 127 and the quotient, one U each, of at most 127; the square root is not
    # in them. Scale: half of K + 3 roundings under the root, and six outside.
    assert_quantized(q, scale, y, 127 * 5 * U, ((x.shape[1] + 3) / 2 + 6) * U)
    return q, scale


def check_silu_mul(gate, up):
    y = gate.double() * gate.double().sigmoid() * up.double()
    q, scale = silu_mul_quantize_int8(gate, up)
    # exp(-g) is 2 to a power that was rounded, |g| U off, and then 4 U for the GPU's approximation; the sum 1, the
    # quotient 4 for the same reason, the product 1: |g| + 10 for y, as much for amax, 2 for the divisions.
    off = gate[gate.isfinite()].abs().max().item() + 10
    assert_quantized(q, scale, y, 127 * (2 * off + 3) * U, (off + 2) * U)
    return q, scale


SHAPES = [(1, 1), (3, 127), (2, 128), (5, 129), (2, 4096), (1, 11008), (2, 16385)]  # the last in chunks


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("M, K", SHAPES)
def test_rmsnorm(dtype, M, K):
    check_rmsnorm(rows(M, K, dtype), rows(1, K, dtype, seed=1)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("M, K", SHAPES)
def test_silu_mul(dtype, M, K):
    check_silu_mul(rows(M, K, dtype), rows(M, K, dtype, seed=1))


def with_special_rows(x):
    x[0] = 0
    x[1] = 2e-6  # subnormal in FP16
    x[2, 7] = 6e4
    x[3, -1] = float("nan")
    x[4, 0] = float("inf")
    x[5, 1] = -float("inf")
    return x


NOT_USABLE = [False, False, False, True, True, True, False]


@pytest.mark.parametrize("K", [200, 16400])
def test_rmsnorm_of_special_rows(K):
    x = with_special_rows(rows(7, K))
    q, scale = check_rmsnorm(x, torch.full((K,), 0.5, device=device()))  # a weight in FP32
    assert scale.isnan().tolist() == NOT_USABLE
    assert scale[0] == 0 and (q[0] == 0).all()


@pytest.mark.parametrize("K", [200, 16400])
def test_silu_mul_of_special_rows(K):
    up = with_special_rows(rows(7, K))
    q, scale = check_silu_mul(rows(7, K, seed=1).abs(), up)
    assert scale.isnan().tolist() == NOT_USABLE
    assert scale[0] == 0 and (q[0] == 0).all()
    gate = rows(7, K, seed=1)
    gate[3, 0] = float("nan")
    assert silu_mul_quantize_int8(gate, rows(7, K))[1].isnan().tolist() == [m == 3 for m in range(7)]


def test_silu_of_large_gates_is_zero_or_the_gate():
    gate = torch.tensor([[-6e4, -100.0, 100.0, 200.0]], dtype=torch.float16, device=device())
    q, scale = silu_mul_quantize_int8(gate, torch.ones_like(gate))
    assert q.tolist() == [[0, 0, 64, 127]]  # 63.5 to the even neighbour
    assert abs(scale.item() - 200 / 127) < 4 * U * scale.item()


def test_halves_of_one_matrix():
    both = rows(3, 400)
    gate, up = both[:, :200], both[:, 200:]
    got = check_silu_mul(gate, up)
    assert all(map(torch.equal, got, silu_mul_quantize_int8(gate.contiguous(), up.contiguous())))
    weight = rows(1, 200)[0]
    assert all(map(torch.equal, rmsnorm_quantize_int8(up, weight), rmsnorm_quantize_int8(up.contiguous(), weight)))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5), st.integers(1, 600), st.sampled_from(DTYPES), st.integers(0, 2**31))
def test_any_shape(M, K, dtype, seed):
    x, y = rows(M, K, dtype, seed), rows(M, K, dtype, seed + 1)
    check_rmsnorm(x, y[0])
    check_silu_mul(x, y)


def test_refusals_name_the_argument():
    x = rows(4, 64)
    with pytest.raises(TypeError, match="^x must be .* got .* float32"):
        rmsnorm_quantize_int8(x.float(), x[0])
    with pytest.raises(ValueError, match=r"^weight must be \(64,\)"):
        rmsnorm_quantize_int8(x, x[0, :63])
    with pytest.raises(TypeError, match="^up must be .* float16, got .* bfloat16"):
        silu_mul_quantize_int8(x, x.bfloat16())
    with pytest.raises(ValueError, match="^gate must be contiguous along"):
        silu_mul_quantize_int8(rows(64, 64).T, rows(64, 64))
