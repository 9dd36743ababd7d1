"""W8A8 for few rows against exact integer sums."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.judge.launches import watch
from kernels.decode import MAX_M, decode_codes, decode_w8a8, gemv_with, matmul_with
from kernels.decode_row import one_launch
from kernels.decode_tiles import GEMV_BLOCKS, TILES, plan
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import INTERPRETED, device


def inputs(M, N, K, dtype=torch.float16, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(M, K, generator=rng).to(dtype)
    w_q = torch.randint(-127, 128, (N, K), generator=rng, dtype=torch.int8)
    w_scale = torch.rand(N, generator=rng) * 1e-2 + 1e-4
    return x.to(device()), w_q.to(device()), w_scale.to(device())


def definition(x, w_q, w_scale):
    """The design's numbers: codes, exact sums (float64 holds them), both scales in FP32, one rounding."""
    x_q, x_scale = quantize_int8_perrow(x)
    acc = x_q.double() @ w_q.double().T
    y = acc.float() * x_scale[:, None] * w_scale
    if INTERPRETED and x.dtype is torch.bfloat16:  # the interpreter cuts off where a GPU rounds to BF16
        y = (y.view(torch.int32) & -65536).view(torch.float32)
    return y.to(x.dtype)


def assert_equal(got, want):
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.nan_to_num(), want.nan_to_num())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("M, N, K", [
    (1, 1, 1), (1, 127, 129), (1, 65, 2049), (2, 64, 128), (15, 127, 300), (16, 129, 127), (17, 65, 1000),
    (33, 40, 4097), (64, 128, 256), (65, 65, 129), (81, 140, 257), (128, 65, 129),
])
def test_equals_the_definition(dtype, M, N, K):
    x, w_q, w_scale = inputs(M, N, K, dtype)
    assert_equal(decode_w8a8(x, w_q, w_scale), definition(x, w_q, w_scale))


@functools.cache
def two_products(M, N, K):
    """Arguments, a bias, the product by its definition and decode's with the bias: the same for every tile."""
    given, bias = inputs(M, N, K), torch.randn(N, generator=torch.Generator().manual_seed(1)).to(device())
    return given, bias, definition(*given), decode_w8a8(*given, bias)


@pytest.mark.parametrize("M, splits", [(5, 1), (5, 2), (5, 5), (70, 1), (70, 2)])
@pytest.mark.parametrize("tile", TILES.values(), ids=TILES)
def test_every_tile_and_split_gives_the_same_bits(tile, M, splits):
    given, bias, product, with_bias = two_products(M, 70, 700)
    assert_equal(matmul_with(tile, splits, *given), product)
    assert_equal(matmul_with(tile, splits, *given, bias), with_bias)


def test_parts_of_more_columns_than_are_added_at_once():
    given, bias, product, with_bias = two_products(2, 520, 300)
    assert_equal(matmul_with(TILES["split"], 2, *given), product)
    assert_equal(matmul_with(TILES["split"], 2, *given, bias), with_bias)


@pytest.mark.parametrize("blocks", GEMV_BLOCKS.values(), ids=GEMV_BLOCKS)
def test_every_block_of_the_gemv(blocks):
    x, w_q, w_scale = inputs(1, 70, 700)
    assert_equal(gemv_with(blocks, x, w_q, w_scale), definition(x, w_q, w_scale))


@pytest.mark.parametrize("M, K", [(1, 200), (3, 200), (3, 5000)])  # GEMV, tile, split
@pytest.mark.parametrize("bias_dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_bias_is_added_before_the_one_rounding(M, K, bias_dtype):
    x, w_q, w_scale = inputs(M, 33, K)
    bias = torch.randn(33, generator=torch.Generator().manual_seed(1)).to(bias_dtype).to(device())
    y = decode_w8a8(x, w_q, w_scale, bias)
    x_q, x_scale = quantize_int8_perrow(x)
    product = (x_q.double() @ w_q.double().T) * x_scale.double()[:, None] * w_scale.double()
    want = product + bias.double()
    # FP32: the sum to float, two scalings and one addition, each within 2⁻²⁴; FP16: half a unit in the last place.
    bound = 4 * 2**-24 * (product.abs() + bias.double().abs())
    bound = bound + 2**-11 * (want.abs() + bound) + 2**-25
    assert ((y.double() - want).abs() <= bound).all()


@pytest.mark.parametrize("M", [1, 6])
def test_special_rows_stay_in_their_rows(M):
    x, w_q, w_scale = inputs(6, 40, 300)
    x[1] = 0
    x[2] *= 3e-6 / x[2].abs().max()  # subnormal in FP16
    x[3, 7] = 6e4
    x[4, 299] = float("nan")
    x[5, 0] = float("inf")
    want = definition(x, w_q, w_scale)
    assert want.isnan().any(1).tolist() == [False, False, False, False, True, True]
    for first in range(0, 6, M):
        assert_equal(decode_w8a8(x[first:first + M], w_q, w_scale), want[first:first + M])


@pytest.mark.parametrize("M", [1, 4])
def test_rows_of_larger_matrices(M):
    x, w_q, w_scale = inputs(2 * M, 80, 400)
    x, w_q, w_scale = x[::2, 3:258], w_q[::2, 1:256], w_scale[:40]  # rows apart, and off every 16-byte boundary
    assert_equal(decode_w8a8(x, w_q, w_scale), definition(x, w_q, w_scale))


def test_the_largest_sum_does_not_overflow():
    K = 133_144  # K · 127² is the last below 2³¹
    x = torch.ones(2, K, dtype=torch.float16, device=device())
    w_q = torch.full((3, K), 127, dtype=torch.int8, device=device())
    w_scale = torch.full((3,), 1e-4, device=device())
    for rows in (x, x[:1]):
        assert_equal(decode_w8a8(rows, w_q, w_scale), definition(rows, w_q, w_scale))


@settings(max_examples=12, deadline=None)
@given(st.integers(1, MAX_M), st.integers(1, 140), st.integers(1, 1500), st.integers(0, 2**31))
def test_any_shape(M, N, K, seed):
    x, w_q, w_scale = inputs(M, N, K, seed=seed)
    assert_equal(decode_w8a8(x, w_q, w_scale), definition(x, w_q, w_scale))


@pytest.mark.parametrize("N, K, one", [(4096, 4096, True), (1024, 4096, True), (4096, 2048, True), (14336, 4096, False),
                                       (4096, 14336, False), (4224, 4096, True), (4225, 4096, False), (64, 4097, False)])
def test_one_row_goes_in_one_launch_where_that_is_no_slower(N, K, one):
    assert one_launch(N, K, multiprocessors=132) is one


@pytest.mark.parametrize("K, kernels", [(4096, ["decode_row_kernel"]),
                                        (4097, ["decode_quantize_kernel", "decode_gemv_w8a8_kernel"])])
def test_one_row_gives_the_same_bits_in_one_launch_and_in_two(K, kernels):
    x, w_q, w_scale = inputs(1, 3, K)
    with watch() as launches:
        y = decode_w8a8(x, w_q, w_scale)
    assert [launch.kernel.__name__ for launch in launches] == kernels
    assert_equal(y, definition(x, w_q, w_scale))


@pytest.mark.parametrize("M", [1, 5, 65])
@pytest.mark.parametrize("out_dtype", [torch.float16, torch.bfloat16])
def test_given_codes_give_the_bits_of_the_product_of_codes(M, out_dtype):
    x, w_q, w_scale = inputs(M, 70, 3000)
    codes, bias = quantize_int8_perrow(x), torch.randn(70, device=device())
    for b in (None, bias):
        want = perrow_w8a8_matmul(*codes, w_q, w_scale, b, out_dtype)
        assert_equal(decode_codes(*codes, w_q, w_scale, b, out_dtype), want)


def test_codes_are_refused_by_name():
    x, w_q, w_scale = inputs(4, 32, 64)
    x_q, x_scale = quantize_int8_perrow(x)
    with pytest.raises(ValueError, match="^x_q must be contiguous, got"):
        decode_codes(x_q.repeat(1, 2)[:, :64], x_scale, w_q, w_scale)
    with pytest.raises(ValueError, match=r"^x_scale must be \(4,\)"):
        decode_codes(x_q, x_scale[:3], w_q, w_scale)
    with pytest.raises(TypeError, match="^x_q must be .* int8, got"):
        decode_codes(x, x_scale, w_q, w_scale)
    with pytest.raises(TypeError, match="^out_dtype must be"):
        decode_codes(x_q, x_scale, w_q, w_scale, None, torch.float32)


def test_the_plan_fills_the_gpu():
    for M in (2, 16, 17, 128):
        for N, K in ((4096, 4096), (22016, 2048), (2048, 11008), (1024, 8192), (128, 512)):
            tile, splits = plan(M, N, K, sms=132, capability=(9, 0))
            assert tile in TILES.values()
            assert splits == 1 or (-(-N // tile.BLOCK_N) * splits <= 132 and K // splits >= 1024)


def test_refusals_name_the_argument():
    x, w_q, w_scale = inputs(4, 32, 64)
    with pytest.raises(ValueError, match="^x must have at most 128 rows, got 129: use matmul_int8"):
        decode_w8a8(x[:1].expand(129, 64), w_q, w_scale)
    with pytest.raises(ValueError, match=r"^x must be \(M, 64\) .* got \(4, 63\)"):
        decode_w8a8(x[:, :63], w_q, w_scale)
    with pytest.raises(TypeError, match="^x must be .* got .* float32"):
        decode_w8a8(x.float(), w_q, w_scale)
    with pytest.raises(ValueError, match=r"^bias must be \(32,\)"):
        decode_w8a8(x, w_q, w_scale, w_scale[:31])
    with pytest.raises(ValueError, match="^x must be contiguous along"):
        decode_w8a8(x.T, w_q[:, :4], w_scale)
    with pytest.raises(ValueError, match="^x and w_q must have at most 133144 columns"):
        decode_w8a8(*inputs(1, 1, 133_145))
