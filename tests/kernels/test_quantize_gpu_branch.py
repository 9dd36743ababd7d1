"""The branches of the quantizer that only a GPU takes, interpreted with the two operations as a GPU does them."""

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from kernels import decode, fused, quantize
from kernels.runtime import INTERPRETED, device

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="there is a GPU: the other tests take these branches")


def fma(self, x, y, z):
    """Rounded once: with 64 bits for the product of two FP32 numbers, which is exact, and for the sum."""
    wide = x.data.astype(np.longdouble) * y.data.astype(np.longdouble) + z.data.astype(np.longdouble)
    return TensorHandle(wide.astype(np.float32), z.dtype.scalar)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(quantize, "ON_GPU", tl.constexpr(True))
    monkeypatch.setattr(InterpreterBuilder, "create_fma", fma)
    for name in ("create_minnumf", "create_minimumf"):  # the lesser of NaN and a number is the number
        monkeypatch.setattr(InterpreterBuilder, name, lambda self, a, b: self.binary_op(a, b, np.fmin))


def by_decode(x):
    """By the kernel of `decode_w8a8`, two slices a row from K = 1,025 on."""
    q, scale = torch.empty_like(x, dtype=torch.int8), torch.empty(len(x), device=x.device)
    grid = (len(x), -(-x.shape[1] // 1024))
    decode.decode_quantize_kernel[grid](x, q, scale, x.shape[1], x.stride(0), BLOCK_K=2048, SLICE=1024, OVERLAP=False)
    return q, scale


RUNGS = {"by length": quantize.quantize_int8_perrow, "long": quantize.quantize_int8_perrow_long, "decode": by_decode}


def assert_quantizes(x, rung):
    q, scale = RUNGS[rung](x)
    want_q, want_scale = quantize.quantize_int8_perrow_torch(x)
    assert torch.equal(scale.nan_to_num(-1), want_scale.nan_to_num(-1))
    assert torch.equal(q, want_q)


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("K", [1, 129, 1100, 5000])
def test_codes_and_scales(rung, dtype, K):
    assert_quantizes(torch.randn(3, K, generator=torch.Generator().manual_seed(K)).to(dtype).to(device()), rung)


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_special_rows(rung, dtype):
    x = torch.randn(9, 1500, generator=torch.Generator().manual_seed(0)).to(dtype).to(device())
    x[0] = 0
    x[1] *= 3e-6 / x[1].abs().max()
    x[2, 700] = 6e4
    x[3, 1499], x[4, 0], x[5, 1] = torch.nan, torch.inf, -torch.inf
    x[6] = -0.0
    x[7] *= (2**-14 if dtype is torch.float16 else 2**-110) / x[7].abs().max()
    x[8] = 2.0**-23 if dtype is torch.float16 else 2.0**-122  # in BF16 the inverse of the scale is beyond FP32
    x[8, ::2] /= -2
    assert_quantizes(x, rung)


def near_ties(places: int) -> torch.Tensor:
    """Rows [x, amax] for which x · (1 / scale), rounded, is another code than x / scale, both in FP32."""
    amax = torch.arange(1024, 2048, dtype=torch.float32)[:, None]
    x = torch.arange(1, 2048, dtype=torch.float32)[None, :]
    scale = amax / 127
    other = ((x / scale).round() != (x * (1 / scale)).round()) & (x <= amax)
    m, k = other.nonzero()[:places].T
    return torch.stack((x[0, k], amax[m, 0]), dim=1).half()


@pytest.mark.parametrize("rung", RUNGS)
def test_a_product_with_the_inverse_is_corrected(rung):
    x = near_ties(40)
    assert len(x) == 40
    assert_quantizes(x.to(device()), rung)


@pytest.mark.parametrize("length", [300, 20_000])
def test_the_fused_quantizers_take_nan_for_nan(length):
    x = torch.randn(4, length, generator=torch.Generator().manual_seed(0)).half().to(device())
    clean = fused.rmsnorm_quantize_int8(x, x[0])
    x[1, 7], x[2, length - 1] = torch.nan, torch.inf
    for q, scale in (fused.rmsnorm_quantize_int8(x, torch.ones_like(x[0])), fused.silu_mul_quantize_int8(x, x)):
        assert scale.isnan().tolist() == [False, True, True, False]
        assert (q[1:3] == 0).all() and (q[[0, 3]].abs().amax(1) == 127).all()
    assert clean[1].isfinite().all()
