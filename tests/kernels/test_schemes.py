"""Smoothing, zero points and clipping on real layers, and the costs of serving: what their exercises' oracles do not try."""

import torch

from kernels.schemes import clipped_scale, fold_smoothing, matmul_asymmetric, quantize_asymmetric
from kernels.serving import decode_step_us, graph_bucket, int8_cache_bytes, paired_difference


def test_folding_leaves_the_product_of_norm_and_layers():
    g = torch.Generator().manual_seed(0)
    x, norm, w = (torch.randn(shape, generator=g) for shape in ((5, 12), (12,), (7, 12)))
    x[:, 3] *= 50
    folded, columns = fold_smoothing(norm, w, (x * norm).abs().amax(dim=0), 0.5)
    torch.testing.assert_close((x * folded) @ columns.T, (x * norm) @ w.T)
    before, after = ((x * weight).abs().amax(dim=0) for weight in (norm, folded))
    assert after.max() / after.median() < 0.5 * before.max() / before.median()


def test_a_product_with_zero_points_is_what_they_stand_for():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(4, 40, generator=g) * 3 - 0.2
    q, scale, zero = quantize_asymmetric(x)
    given_back = (q - zero[:, None]) * scale[:, None]
    assert ((given_back - x).abs() <= 0.5001 * scale[:, None]).all() and q.min() == -128 and q.max() == 127
    w_q = torch.randint(-127, 128, (6, 40), generator=g, dtype=torch.int8)
    w_scale = torch.rand(6, generator=g)
    torch.testing.assert_close(matmul_asymmetric(q, scale, zero, w_q, w_scale), given_back @ (w_q * w_scale[:, None]).T)


def test_clipping_pays_with_few_bits_only():
    x = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    amax = float(x.abs().max())
    assert clipped_scale(x, 127, 20) * 127 > 0.9 * amax and clipped_scale(x, 7, 20) * 7 < 0.8 * amax


def test_costs_of_serving():
    assert paired_difference(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.5, 2.5, 3.5])) == (0.5, 0.0)
    assert [graph_bucket(batch, torch.tensor([8, 1, 4])) for batch in (1, 2, 4, 9)] == [1, 4, 4, 0]
    assert int8_cache_bytes(2, 10, 3, 64) == 2 * 10 * 2 * 3 * 68
    assert decode_step_us(1e9, 1e9, 10, 1000, 5) == 2000 and decode_step_us(1e6, 0, 10, 1000, 5) == 50
