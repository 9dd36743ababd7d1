"""Theory, granularity and remedies of lesson 06 against direct computation, and what they say of wrong arguments."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.pictures.error import BOUND, int8_product, measured_errors
from checks.simulated.synthetic import Block, activations, weights
from kernels import error
from kernels.quantize import quantize_int8_perrow_torch
from kernels.runtime import device


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device())


@pytest.mark.parametrize("K", [256, 2048])
def test_measured_errors_are_as_large_as_foretold(K):
    errors, sides = measured_errors(K)
    def ratio(**change):
        std = torch.tensor([error.product_error_std(**{**side, **change}) for side in sides], dtype=torch.float64)
        return (errors / std).square().mean().sqrt()

    assert abs(ratio() - 1) <= BOUND
    # The bound is narrow enough to notice that one of the two roundings is missing, or K is another by a quarter.
    assert abs(ratio(x_scale=0.0) - 1) > 3 * BOUND
    assert abs(ratio(K=K * 5 // 4) - 1) > BOUND


def test_blocks_of_one_row_are_those_of_lesson_04():
    x = randn(5, 300).half()
    q, scale = quantize_int8_perrow_torch(x)
    assert torch.equal(error.fake_quantize_int8(x, 1, 300), q * scale[:, None])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_of_any_precision_are_quantized_in_fp32(dtype):
    x = randn(4, 6).to(dtype)
    found = error.fake_quantize_int8(x, 2, 3)
    assert found.dtype == torch.float32 and torch.equal(found, error.fake_quantize_int8(x.float(), 2, 3))


def test_a_block_with_nan_is_nan_and_no_other():
    x = randn(4, 6)
    x[1, 2] = torch.nan
    wrong = error.fake_quantize_int8(x, 2, 3).isnan()
    assert wrong[:2, :3].all() and wrong.sum() == 6


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**31))
def test_no_number_is_off_by_more_than_half_its_block_s_step(down, across, rows, columns, seed):
    x = randn(down * rows, across * columns, seed=seed)
    steps = x.reshape(down, rows, across, columns).abs().amax((1, 3), keepdim=True) / 127
    off = (error.fake_quantize_int8(x, rows, columns) - x).reshape(down, rows, across, columns).abs()
    assert (off <= steps * (0.5 + 2.0**-16)).all()


@pytest.mark.parametrize("rows, columns", [(3, 1), (1, 4), (0, 1), (1, -2), (8, 6)])
def test_blocks_that_do_not_fit_are_refused(rows, columns):
    with pytest.raises(ValueError, match=rf"blocks of {rows} x {columns} must divide x, got \(4, 6\)"):
        error.fake_quantize_int8(randn(4, 6), rows, columns)
    with pytest.raises(TypeError, match="^x must be"):
        error.fake_quantize_int8(torch.zeros(4, 6, dtype=torch.int8), 1, 6)


def test_outliers_take_bits_and_the_remedies_give_them_back():
    x, ordinary = activations(100)
    w = weights()
    y = x.double() @ w.double().T
    channel = error.sqnr_db_per_channel(x, error.fake_quantize_int8(x, 1, x.shape[1]))
    assert channel[ordinary].median() < 10 < 40 < channel[~ordinary].median()
    plain = error.sqnr_db(y, int8_product(x, w))
    assert error.sqnr_db(y, error.matmul_decomposed(x, w, 6.0)) > plain + 20
    assert error.sqnr_db(y, int8_product(*error.smoothquant(x, w, 0.5))) > plain + 10


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_smoothing_keeps_the_product(alpha):
    x, w = randn(9, 40) * 2.0 ** torch.arange(-20, 20, device=device()), randn(7, 40, seed=1)
    x[:, 3] = 0
    w[:, 5] = 0
    x_s, w_s = error.smoothquant(x, w, alpha)
    size = x.double().abs() @ w.double().abs().T
    assert ((x_s.double() @ w_s.double().T - x.double() @ w.double().T).abs() <= 2.0**-22 * size).all()


def test_at_alpha_one_every_channel_s_largest_magnitude_is_one():
    x_s, _ = error.smoothquant(randn(9, 40) * 100, randn(7, 40, seed=1), 1.0)
    assert ((x_s.abs().amax(0) - 1).abs() < 2.0**-20).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=12), st.integers(0, 100))
def test_layers_kept_fit_the_budget_and_no_worse_one_would(found, budget):
    sqnr, sizes = torch.tensor([float(s) for s, _ in found]), torch.tensor([size for _, size in found])
    keep = error.layers_to_keep(sqnr, sizes, budget)
    assert sizes[keep].sum() <= budget
    for layer in (~keep).nonzero().flatten().tolist():
        assert sizes[layer] > budget - sizes[keep & (sqnr <= sqnr[layer])].sum()


def test_a_block_is_its_formula():
    block, x = Block(width=8, hidden=12), randn(5, 8)
    seen = {}

    def product(name, x, w):
        seen[name] = x @ w.T
        return seen[name]

    y = block(x, product)
    assert {name: w.shape for name, w in block.layers.items()}.keys() == seen.keys()
    attention = torch.nn.functional.scaled_dot_product_attention(
        *(seen[name][None] for name in "qkv"), is_causal=True)[0] @ block.layers["o"].T
    want = x + attention + (torch.nn.functional.silu(seen["gate"]) * seen["up"]) @ block.layers["down"].T
    assert torch.allclose(y, want, rtol=1e-4, atol=1e-4)
