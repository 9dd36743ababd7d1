"""INT8 matrix product: each rung against INT64 sums and the scaling as the design states it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import perrow_w8a8
from kernels.int_mm import MAX_K
from kernels.runtime import INTERPRETED, Card, device


def tma(*arguments, **options):
    return perrow_w8a8.perrow_w8a8_matmul(*arguments, **options, config=perrow_w8a8.TMA_CONFIGS[0])


RUNGS = {
    "plain": perrow_w8a8.perrow_w8a8_matmul_plain,
    "grouped": perrow_w8a8.perrow_w8a8_matmul_grouped,
    "tuned": perrow_w8a8.perrow_w8a8_matmul,
    "descriptors": tma,
}


def codes(M, K, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, (M, K), generator=generator, dtype=torch.int8).to(device())


def scales(M, seed=0):
    return (torch.rand(M, generator=torch.Generator().manual_seed(seed)) / 500).to(device())


def arguments(M, N, K, seed=0):
    return codes(M, K, seed), scales(M, seed), codes(N, K, seed + 1), scales(N, seed + 1)


def definition(x_q, x_scale, w_q, w_scale, out_dtype=torch.float16):
    """fp16((fp32(acc) · x_scale) · w_scale), acc exact: float64 holds every sum below 2⁵³."""
    acc = (x_q.double() @ w_q.double().T).float()
    return (acc * x_scale[:, None] * w_scale).to(out_dtype)


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("M, N, K", [(1, 1, 1), (127, 129, 65), (128, 128, 128), (129, 136, 272), (5, 304, 400)])
def test_bits_equal_the_definition(rung, M, N, K):
    given = arguments(M, N, K)
    assert torch.equal(RUNGS[rung](*given), definition(*given))


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("bias_dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("out_dtype", [torch.float16, torch.bfloat16])
def test_bias_comes_before_the_one_rounding(rung, bias_dtype, out_dtype):
    """Conversion, two products and the sum each err by 2⁻²⁴ of the larger term, one rounding to the output by 2⁻¹¹.

    A bias added after that rounding would err by up to half a unit more. To BF16 the error is 2⁻⁸ on a GPU; the
    interpreter cuts the number off, which is 2⁻⁷.
    """
    x_q, x_scale, w_q, w_scale = arguments(40, 48, 64)
    bias = (torch.arange(48) * 40 - 900.0).to(bias_dtype).to(device())
    y = RUNGS[rung](x_q, x_scale, w_q, w_scale, bias, out_dtype)
    product = (x_q.double() @ w_q.double().T) * x_scale.double()[:, None] * w_scale.double()
    want = product + bias.double()
    unit = 2.0**-11 if out_dtype is torch.float16 else 2.0**-7 if INTERPRETED else 2.0**-8
    bound = unit * want.abs() + 4 * 2**-24 * (product.abs() + bias.double().abs()) * (1 + unit) + 2**-25
    assert y.dtype == out_dtype
    assert ((y.double() - want).abs() <= bound).all()


@pytest.mark.parametrize("rung", RUNGS)
def test_longest_rows_do_not_overflow(rung):
    """The last K allowed, every code at its largest: the sum comes within 6,172 of 2³¹."""
    K = MAX_K
    if INTERPRETED and rung in ("plain", "descriptors"):
        pytest.skip("four seconds in the interpreter, and the loop is that of the other rungs")
    x_q = torch.full((2, K), 127, dtype=torch.int8, device=device())
    w_q = torch.stack([x_q[0], -x_q[0]])
    x_scale = w_scale = torch.full((2,), 2.0**-9, device=device())
    y = RUNGS[rung](x_q, x_scale, w_q, w_scale)
    assert torch.equal(y, definition(x_q, x_scale, w_q, w_scale))
    assert y[0, 0] == -y[0, 1] == 8192


def test_longer_rows_are_refused():
    K = MAX_K + 1
    x_q, scale = torch.zeros((1, K), dtype=torch.int8, device=device()), torch.zeros(1, device=device())
    with pytest.raises(ValueError, match="at most 133144 columns, got 133145"):
        perrow_w8a8.perrow_w8a8_matmul(x_q, scale, x_q, scale)


@pytest.mark.parametrize("rung", RUNGS)
def test_nan_scale_stays_in_its_row_or_column(rung):
    x_q, x_scale, w_q, w_scale = arguments(6, 8, 32)
    x_scale[2] = w_scale[3] = float("nan")
    x_scale[4] = 0
    y = RUNGS[rung](x_q, x_scale, w_q, w_scale)
    bad = torch.zeros(6, 8, dtype=torch.bool, device=device())
    bad[2] = bad[:, 3] = True
    assert torch.equal(y.isnan(), bad)
    assert torch.equal(y[~bad], definition(x_q, x_scale, w_q, w_scale)[~bad])
    assert (y[4][~bad[4]] == 0).all()


@pytest.mark.parametrize("rung", RUNGS)
def test_views_with_wider_rows(rung):
    x_q, x_scale, w_q, w_scale = codes(40, 100)[::2, 3:80], scales(20), codes(30, 90)[:, :77], scales(30)
    assert torch.equal(RUNGS[rung](x_q, x_scale, w_q, w_scale), definition(x_q, x_scale, w_q, w_scale))


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 140), st.integers(1, 140), st.integers(1, 300), st.integers(0, 2**16))
def test_any_shape(M, N, K, seed):
    given = arguments(M, N, K, seed)
    for rung in RUNGS.values():
        assert torch.equal(rung(*given), definition(*given))


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("change, words", [
    ({"x_q": torch.zeros(4, 8)}, r"x_q must be \(M, K\) int8, got \(4, 8\) float32"),
    ({"w_q": torch.zeros(5, 9, dtype=torch.int8)}, r"w_q must be \(N, 8\) int8, got \(5, 9\)"),
    ({"x_scale": torch.zeros(4).half()}, r"x_scale must be \(4,\) float32, got \(4,\) float16"),
    ({"w_scale": torch.zeros(4)}, r"w_scale must be \(5,\) float32, got \(4,\)"),
    ({"w_scale": torch.zeros(5, 1)}, r"w_scale must be \(5,\) float32, got \(5, 1\)"),
    ({"x_scale": torch.zeros(8)[::2]}, "x_scale must be contiguous"),
    ({"x_q": torch.zeros(8, 4, dtype=torch.int8).T}, "x_q must be contiguous along its last dimension"),
    ({"w_q": torch.zeros(8, 5, dtype=torch.int8).T}, "w_q must be contiguous along its last dimension"),
    ({"bias": torch.zeros(4)}, r"bias must be \(5,\)"),
    ({"bias": torch.zeros(10)[::2]}, "bias must be contiguous"),
    ({"out_dtype": torch.float32}, "out_dtype must be torch.float16 or torch.bfloat16, got torch.float32"),
])
def test_wrong_arguments_are_named(rung, change, words):
    x_q, x_scale, w_q, w_scale = arguments(4, 5, 8)
    right = {"x_q": x_q, "x_scale": x_scale, "w_q": w_q, "w_scale": w_scale}
    change = {name: value.to(x_q.device) if isinstance(value, torch.Tensor) else value for name, value in change.items()}
    with pytest.raises((TypeError, ValueError), match=words):
        RUNGS[rung](**{**right, **change})


def test_gpus_before_ampere_are_refused(monkeypatch):
    monkeypatch.setattr("kernels.int_mm.card", lambda where: Card((7, 5), 40, 65_536, 4 << 20, 320.0))  # a T4
    with pytest.raises(NotImplementedError, match=r"8.0 \(Ampere\) or later, this one has \(7, 5\)"):
        perrow_w8a8.perrow_w8a8_matmul(*arguments(4, 5, 8))
