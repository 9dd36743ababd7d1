"""The weight-only INT8 GEMV against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.gemv_int8 import gemv_w8a16, gemv_w8a16_row
from kernels.runtime import INTERPRETED, device

KERNELS = [gemv_w8a16_row, gemv_w8a16]


def inputs(N, K, dtype=torch.float16, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(K, generator=rng).to(dtype)
    w_q = torch.randint(-127, 128, (N, K), generator=rng, dtype=torch.int8)
    w_scale = torch.rand(N, generator=rng) * 1e-2 + 1e-4
    return x.to(device()), w_q.to(device()), w_scale.to(device())


def assert_right(kernel, x, w_q, w_scale):
    y = kernel(x, w_q, w_scale)
    assert (y.dtype, y.shape) == (x.dtype, w_scale.shape)
    terms = w_q.double() * x.double() * w_scale.double()[:, None]
    want = terms.sum(1)
    # K products and sums in any order and one scaling, each within 2⁻²⁴ of its terms, then one rounding of y: half a
    # unit in its last place (2⁻¹¹ of it in FP16, 2⁻⁸ in BF16), or half of the least subnormal FP16 number. The
    # interpreter cuts off where a GPU rounds to BF16: a whole unit.
    half_unit = 2**-11 if x.dtype is torch.float16 else 2**-7 if INTERPRETED else 2**-8
    bound = (x.numel() + 2) * 2**-24 * terms.abs().sum(1)
    bound = bound + half_unit * (want.abs() + bound) + 2**-25
    assert ((y.double() - want).abs() <= bound).all()
    return y


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("N, K", [(1, 1), (3, 127), (64, 128), (65, 129), (130, 1000), (5, 2049)])
def test_right(kernel, dtype, N, K):
    assert_right(kernel, *inputs(N, K, dtype))


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_of_a_larger_matrix(kernel):
    x, w_q, w_scale = inputs(70, 300)
    y = assert_right(kernel, x[:200], w_q[::2, :200], w_scale[:35])
    assert torch.equal(y, kernel(x[:200], w_q[::2, :200].contiguous(), w_scale[:35]))


@pytest.mark.parametrize("kernel", KERNELS)
def test_special_rows(kernel):
    x, w_q, w_scale = inputs(8, 200)
    w_q[1] = 0
    w_scale[2] = 0
    w_scale[3] = float("nan")
    w_scale[4] = 1e-12  # y is far below the least FP16 number
    y = kernel(x, w_q, w_scale)
    assert y[1] == y[2] == y[4] == 0
    assert y.isnan().tolist() == [n == 3 for n in range(8)]
    x[7] = float("nan")
    assert kernel(x, w_q, w_scale).isnan().all()


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 80), st.integers(1, 700), st.integers(0, 2**31))
def test_any_shape(N, K, seed):
    assert_right(gemv_w8a16, *inputs(N, K, seed=seed))


@pytest.mark.parametrize("kernel", KERNELS)
def test_refusals_name_the_argument(kernel):
    x, w_q, w_scale = inputs(4, 64)
    with pytest.raises(ValueError, match=r"^x must be \(64,\)"):
        kernel(x[:63], w_q, w_scale)
    with pytest.raises(TypeError, match="^w_q must be .* int8, got .* float16"):
        kernel(x, w_q.half(), w_scale)
    with pytest.raises(TypeError, match="^w_scale must be .* float32"):
        kernel(x, w_q, w_scale.half())
    with pytest.raises(ValueError, match="^w_q must be contiguous along"):
        kernel(x[:4], w_q[:, :4].T, w_scale)


def test_the_row_kernel_refuses_a_row_that_does_not_fit():
    with pytest.raises(ValueError, match="K must be at most 65536, got 65537: use gemv_w8a16"):
        gemv_w8a16_row(*inputs(1, 65537))
