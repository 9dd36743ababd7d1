"""Scales for groups along K: the quantizer against its definition, the product against float64."""

import pytest
import torch

from kernels import group_w8a8
from kernels.group_w8a8 import (
    GROUP_CONFIGS,
    GROUP_K,
    group_w8a8_matmul,
    quantize_int8_groups,
    quantize_int8_groups_torch,
)
from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import INTERPRETED, device


def codes(M, K, seed):
    """Codes of every size, and scales that differ from group to group and row to row by up to a hundred times."""
    g = torch.Generator().manual_seed(seed)
    q = torch.randint(-127, 128, (M, K), generator=g, dtype=torch.int8)
    return q.to(device()), (10 ** (2 * torch.rand(K // GROUP_K, M, generator=g) - 1) / 127).to(device())


def arguments(M, N, K):
    return *codes(M, K, M + N), *codes(N, K, M + N + 1)


def numbers(q, scale):
    """What codes stand for, in float64."""
    return q.double() * scale.double().T.repeat_interleave(GROUP_K, dim=1)


def check_group_product(M, N, K, config=None):
    """An INT32 sum is exact in FP32, below 2²⁴; two products and an addition for each group err by 2⁻²⁴ each of what is
    there, at most the sum of magnitudes, and the rounding to FP16 by 2⁻¹¹."""
    x_q, x_scale, w_q, w_scale = arguments(M, N, K)
    y = group_w8a8_matmul(x_q, x_scale, w_q, w_scale, config)
    x, w = numbers(x_q, x_scale), numbers(w_q, w_scale)
    exact = x @ w.T
    before = (K // GROUP_K + 2) * 2.0**-24 * (x.abs() @ w.abs().T)
    assert y.shape == (M, N) and y.dtype == torch.float16
    assert ((y.double() - exact).abs() <= 2.0**-11 * (exact.abs() + before).clamp(min=2.0**-14) + before).all(), (M, N, K)


@pytest.mark.parametrize("M, N, K", [(1, 1, 128), (127, 129, 256), (128, 128, 384), (5, 136, 640), (130, 65, 128)])
def test_ragged_sizes_and_several_groups(M, N, K):
    check_group_product(M, N, K)


@pytest.mark.parametrize("config", GROUP_CONFIGS, ids=str)
def test_every_configuration_is_right(config):
    check_group_product(70, 130, 256, config)
    assert config.kwargs["BLOCK_K"] == GROUP_K


def test_one_group_gives_the_bits_of_the_product_by_rows():
    x_q, x_scale, w_q, w_scale = arguments(70, 65, 128)
    rows = perrow_w8a8_matmul_plain(x_q, x_scale[0], w_q, w_scale[0])
    assert torch.equal(group_w8a8_matmul(x_q, x_scale, w_q, w_scale), rows)


def check_group_codes(M, K, dtype):
    g = torch.Generator().manual_seed(M)
    x = (torch.randn(M, K, generator=g) * 10 ** torch.randint(-3, 3, (M, 1), generator=g)).to(dtype)
    if M > 3:
        x[0], x[1, :130], x[2, 3], x[3, -1] = 0, 0, torch.nan, -torch.inf
    q, scale = quantize_int8_groups(x.to(device()))
    want_q, want_scale = quantize_int8_groups_torch(x)
    assert torch.equal(q.cpu(), want_q) and torch.equal(scale.cpu().nan_to_num(7), want_scale.nan_to_num(7))
    assert scale.shape == (K // GROUP_K, M) and scale.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("M, K", [(1, 128), (33, 384), (64, 256)])
def test_codes_of_groups_are_those_of_the_definition(M, K, dtype):
    check_group_codes(M, K, dtype)


def test_one_group_is_quantized_as_a_row():
    x = torch.randn(5, 128, device=device()).half()
    (q, scale), (row_q, row_scale) = quantize_int8_groups(x), quantize_int8_perrow(x)
    assert torch.equal(q, row_q) and torch.equal(scale, row_scale[None])


def test_an_outlier_and_a_nan_stay_in_their_group():
    x, w = torch.randn(3, 384, device=device()).half(), torch.randn(66, 384, device=device()).half()
    x[0, 200], x[1, 300], x[2, :128] = 200, torch.nan, 0
    w_q, w_scale = quantize_int8_groups(w)
    x_q, x_scale = quantize_int8_groups(x)
    assert (x_scale[1, 0] > 20 * x_scale[0, 0]) and x_scale[0, 2] == 0 and (x_q[2, :128] == 0).all()
    y, exact = group_w8a8_matmul(x_q, x_scale, w_q, w_scale), x.double() @ w.double().T
    assert y[1].isnan().all() and y[[0, 2]].isfinite().all()
    assert (y[2].double() - exact[2]).norm() < 0.02 * exact[2].norm()


def test_rows_of_wider_matrices_and_no_rows():
    x_q, x_scale, w_q, w_scale = arguments(5, 66, 256)
    wide = [torch.full((len(part), part.shape[1] + 16), 99, dtype=part.dtype, device=device()) for part in (
        x_q, x_scale, w_q, w_scale)]
    parts = [full[:, :part.shape[1]].copy_(part) for full, part in zip(wide, (x_q, x_scale, w_q, w_scale), strict=True)]
    assert torch.equal(group_w8a8_matmul(*parts), group_w8a8_matmul(x_q, x_scale, w_q, w_scale))
    x = torch.randn(5, 272, device=device()).half()[:, :256]
    assert all(torch.equal(a, b) for a, b in zip(quantize_int8_groups(x), quantize_int8_groups(x.contiguous()), strict=True))
    empty = quantize_int8_groups(x[:0])
    assert [tuple(part.shape) for part in empty] == [(0, 256), (2, 0)]
    assert group_w8a8_matmul(*empty, w_q, w_scale).shape == (0, 66)


def test_rows_too_long_for_one_int32_sum():
    K = 133_248  # 127² times that is past 2³¹
    q, scale = torch.full((1, K), 127, dtype=torch.int8, device=device()), torch.ones(K // GROUP_K, 1, device=device())
    assert group_w8a8_matmul(q, scale * 2.0**-8, q, scale * 2.0**-8).item() == torch.tensor(K * 127**2 / 2**16).half().item()


@pytest.mark.parametrize("change, wrong", [
    ({"x_q": torch.zeros(2, 256)}, "x_q must be"), ({"w_q": torch.zeros(3, 128, dtype=torch.int8)}, "w_q must be"),
    ({"x_scale": torch.zeros(2, 2, 1)}, r"x_scale must be \(2, 2\)"),
    ({"w_scale": torch.zeros(3)}, r"w_scale must be \(2, 3\)"),
    ({"w_scale": torch.zeros(3, 2)}, r"w_scale must be \(2, 3\) float32, got \(3, 2\)"),
    ({"w_scale": torch.zeros(3, 2).T}, "w_scale must be contiguous"),
    ({"x_q": torch.zeros(2, 200, dtype=torch.int8), "w_q": torch.zeros(3, 200, dtype=torch.int8)}, "groups of 128 columns")])
def test_what_it_refuses(change, wrong):
    given = {"x_q": torch.zeros(2, 256, dtype=torch.int8), "x_scale": torch.zeros(2, 2),
             "w_q": torch.zeros(3, 256, dtype=torch.int8), "w_scale": torch.zeros(2, 3)} | change
    with pytest.raises((TypeError, ValueError), match=wrong):
        group_w8a8_matmul(**{name: value.to(device()) for name, value in given.items()})


@pytest.mark.parametrize("x, wrong", [
    (torch.zeros(2, 200).half(), "x must have whole groups of 128 columns, got 200"), (torch.zeros(2, 128), "x must be"),
    (torch.zeros(128, 2).half().T, "x must be contiguous")])
def test_what_the_quantizer_refuses(x, wrong):
    with pytest.raises((TypeError, ValueError), match=wrong):
        quantize_int8_groups(x.to(device()))


@pytest.mark.skipif(not INTERPRETED, reason="the GPU here is what it is")
def test_the_configuration_is_the_one_that_suits(monkeypatch):
    asked = []

    def choose(*arguments):
        asked.append(arguments[:4])
        return GROUP_CONFIGS[2]

    monkeypatch.setattr(group_w8a8, "choose", choose)
    check_group_product(3, 66, 128)
    assert asked == [("group_w8a8_matmul", GROUP_CONFIGS, (3, 66, 128), torch.int8)]
