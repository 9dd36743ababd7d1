"""Products that quantize x themselves give what the quantizer and the product apart give, bit for bit."""

import pytest
import torch

from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain
from kernels.quantize import quantize_int8_perrow
from kernels.quantize_inside import persistent_rows_matmul, quantizing_matmul
from kernels.runtime import device


def inputs(M, N, K):
    g = torch.Generator().manual_seed(M + N + K)
    x = torch.randn(M, K, generator=g).half()
    if M > 5:  # zeros, subnormal numbers, an outlier, NaN and Inf
        x[1], x[2], x[3, 0], x[4, K // 2], x[5, -1] = 0, x[2] * 2e-7, 6e4, torch.nan, -torch.inf
    w_q = torch.randint(-127, 128, (N, K), generator=g, dtype=torch.int8)
    return x.to(device()), w_q.to(device()), torch.rand(N, generator=g).to(device()) / 100


def check_inside(M, N, K):
    x, w_q, w_scale = inputs(M, N, K)
    x_q, x_scale = quantize_int8_perrow(x)
    want = perrow_w8a8_matmul_plain(x_q, x_scale, w_q, w_scale)
    for name, y in (("scales given", quantizing_matmul(x, w_q, w_scale, x_scale)),
                    ("amax too", quantizing_matmul(x, w_q, w_scale)),
                    ("persistent", persistent_rows_matmul(x, w_q, w_scale))):
        assert torch.equal(y.nan_to_num(7), want.nan_to_num(7)), (name, M, N, K)


@pytest.mark.parametrize("M, N, K", [(1, 1, 1), (7, 130, 65), (130, 129, 257)])
def test_the_codes_sums_and_y_are_those_of_two_kernels(M, N, K):
    check_inside(M, N, K)


def test_rows_of_a_wider_matrix():
    x, w_q, w_scale = inputs(3, 20, 70)
    wide = torch.full((3, 90), 6e4, dtype=torch.float16, device=device())
    wide[:, :70] = x
    want = perrow_w8a8_matmul_plain(*quantize_int8_perrow(x), w_q, w_scale)
    for multiply in quantizing_matmul, persistent_rows_matmul:
        assert torch.equal(multiply(wide[:, :70], w_q, w_scale), want)


@pytest.mark.parametrize("change, wrong", [
    ({"x": torch.zeros(2, 8)}, "x must be"), ({"w_q": torch.zeros(3, 9, dtype=torch.int8)}, "w_q must be"),
    ({"w_scale": torch.zeros(4)}, "w_scale must be"), ({"x_scale": torch.zeros(3)}, "x_scale must be"),
    ({"x_scale": torch.zeros(2).half()}, "x_scale must be"), ({"w_scale": torch.zeros(3).half()}, "w_scale must be"),
    ({"x": torch.zeros(2, 16).half()[:, ::2]}, "x must be contiguous"),
    ({"w_q": torch.zeros(8, 3, dtype=torch.int8).T}, "w_q must be contiguous"),
    ({"w_scale": torch.zeros(6)[::2]}, "w_scale must be contiguous"),
    ({"x_scale": torch.zeros(4)[::2]}, "x_scale must be contiguous")])
def test_what_it_refuses(change, wrong):
    given = {"x": torch.zeros(2, 8).half(), "w_q": torch.zeros(3, 8, dtype=torch.int8), "w_scale": torch.zeros(3),
             "x_scale": torch.zeros(2)} | change
    given = {name: value.to(device()) for name, value in given.items()}
    with pytest.raises((TypeError, ValueError), match=wrong):
        quantizing_matmul(**given)
    if "x_scale" not in change:
        del given["x_scale"]
        with pytest.raises((TypeError, ValueError), match=wrong):
            persistent_rows_matmul(**given)
