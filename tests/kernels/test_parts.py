"""The steps that ranks take apart, in one process: parts of rows put together give the bits of the whole."""

import pytest
import torch

from kernels import decode_row, parts
from kernels.fused import rmsnorm_quantize_int8, silu_mul_quantize_int8
from kernels.matmul_int8 import matmul_int8
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import Card, device


def codes(*shape):
    g = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-127, 128, shape, generator=g, dtype=torch.int8).to(device())


def randn(*shape, dtype=torch.float16):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype).to(device())


@pytest.mark.parametrize("dtype, ends", [(torch.float16, (0, 10, 30, 50, 70)), (torch.bfloat16, (0, 40, 70))])
def test_codes_of_parts_are_those_of_the_row(dtype, ends):
    x, up = randn(8, 70, dtype=dtype), randn(8, 71, dtype=dtype)[:, 1:]
    x[1], x[2, 3], x[3, 60] = 0, torch.inf, torch.nan
    x[range(4, 8), [5, 20, 40, 65]] = 30  # each part has a row's largest
    for second, whole in ((None, quantize_int8_perrow(x)), (up, silu_mul_quantize_int8(x, up))):
        cut = [(x[:, k], None if second is None else second[:, k]) for k in map(slice, ends, ends[1:])]
        amax = [parts.part_amax(*part) for part in cut]
        found = [parts.quantize_with_amax(*part, amax) for part in cut]
        assert torch.equal(torch.cat([q for q, _ in found], dim=1), whole[0])
        assert all(torch.equal(scale.nan_to_num(7), whole[1].nan_to_num(7)) for _, scale in found)


@pytest.mark.parametrize("K", [1025, 4097])
def test_rows_longer_than_a_block(K):
    x, up = randn(2, K) / 8, randn(2, K + 1)[:, 1:]
    x[0, -1], x[1, 5], up[0, -1] = 40, -50, 3
    for second, whole in ((None, quantize_int8_perrow(x)), (up, silu_mul_quantize_int8(x, up))):
        q, scale = parts.quantize_with_amax(x, second, [parts.part_amax(x, second)])
        assert torch.equal(q, whole[0]) and torch.equal(scale, whole[1])


def test_sums_longer_than_a_block():
    N = 1025
    sums, x_scale, w_scale, bias, residual = codes(2, N).int(), randn(2).float(), randn(N).float(), randn(N), randn(2, N)
    y = parts.finish([sums, sums * 2], (x_scale, w_scale), bias, residual, torch.float16)
    want = (sums.float() * 3 * x_scale[:, None] * w_scale + bias.float()).half() + residual
    torch.testing.assert_close(y, want, rtol=2.0**-10, atol=2.0**-10)


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


@pytest.mark.parametrize("M", [3, 130])
def test_codes_that_are_part_of_wider_rows(M):
    wide, w_q, scales = codes(M, 64), codes(20, 48), (randn(M).float().abs() / 99, randn(20).float().abs() / 99)
    part = wide[:, 8:56]
    sums = parts.sums_into(torch.empty(M, 20, dtype=torch.int32, device=part.device), part, w_q)
    assert torch.equal(sums.cpu(), part.cpu().int() @ w_q.cpu().int().T)
    y = parts.multiply_into(randn(M, 20), part, scales[0], w_q, scales[1])
    assert torch.equal(y, perrow_w8a8_matmul(part.contiguous(), scales[0], w_q, scales[1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_sum_of_partial_products_is_rounded_once(dtype):
    """In FP32, in the order of the ranks: a small part that FP16 would lose beside a large one counts."""
    large, small = torch.full((2, 20), 2048.0, dtype=dtype), torch.full((2, 20), 0.75, dtype=dtype)
    for given in ([large, small], [small, large], [large, *[small] * 3], [large]):
        y = parts.finish([one.to(device()) for one in given], None, None, None, torch.float32)
        assert (y == 2048 + 0.75 * (len(given) - 1)).all() and y.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_bias_is_added_before_and_the_residual_after_rounding(dtype):
    sums, scales = codes(3, 20).int(), (randn(3).float().abs() / 9, randn(20).float().abs() / 9)
    bias, residual = randn(20), randn(3, 20, dtype=dtype) * 100
    y = parts.finish([sums], scales, bias, None, torch.float32)
    torch.testing.assert_close(y, sums.float() * scales[0][:, None] * scales[1] + bias.float())
    got, alone = (parts.finish([sums], scales, bias, added, dtype) for added in (residual, None))
    assert got.dtype == dtype and alone.dtype == dtype
    torch.testing.assert_close(got, alone + residual, rtol=2.0**-7 if dtype == torch.bfloat16 else 0, atol=0)


X_Q, X_SCALE, W_Q, W_SCALE = codes(3, 48), torch.ones(3, device=device()), codes(20, 48), torch.ones(20, device=device())
INT32, Y = torch.zeros(3, 20, dtype=torch.int32, device=device()), randn(3, 20)
REFUSED = {
    "sums of another shape": (parts.sums_into, [INT32[:, :19], X_Q, W_Q], r"y must be \(3, 20\) int32, got \(3, 19\)"),
    "sums in FP32": (parts.sums_into, [INT32.float(), X_Q, W_Q], r"y must be \(3, 20\) int32, got \(3, 20\) float32"),
    "w by columns": (parts.sums_into, [INT32, X_Q, codes(48, 20).T], "w_q must be contiguous"),
    "a product of another shape": (parts.multiply_into, [Y[:2], X_Q, X_SCALE, W_Q, W_SCALE],
                                   r"y must be \(3, 20\) .*, got \(2, 20\) float16"),
    "a product in FP32": (parts.multiply_into, [Y.float(), X_Q, X_SCALE, W_Q, W_SCALE], "must be torch.float16 or"),
    "scales of other rows": (parts.multiply_into, [Y, X_Q, X_SCALE[:2], W_Q, W_SCALE], r"x_scale must be \(3,\)"),
    "one row, w of another K": (parts.quantize_and_multiply_into, [Y[:1], randn(1, 47), W_Q, W_SCALE],
                                r"x must be \(1, 48\) .*, got \(1, 47\)"),
    "one row, y of another N": (parts.quantize_and_multiply_into, [Y[:1, :19], randn(1, 48), W_Q, W_SCALE],
                                r"y must be \(1, 20\) float16, got \(1, 19\)"),
    "one row, y in BF16": (parts.quantize_and_multiply_into, [Y[:1].bfloat16(), randn(1, 48), W_Q, W_SCALE],
                           r"y must be \(1, 20\) float16, got \(1, 20\) bfloat16"),
    "one row, scales of another N": (parts.quantize_and_multiply_into, [Y[:1], randn(1, 48), W_Q, W_SCALE[:19]],
                                     r"w_scale must be \(20,\) float32"),
    "a residual in BF16": (parts.finish, [[Y], None, None, Y.bfloat16(), torch.float16],
                           r"residual must be \(3, 20\) float16, got \(3, 20\) bfloat16"),
    "a residual of other rows": (parts.finish, [[Y], None, None, Y[:2], torch.float16], r"residual must be \(3, 20\)"),
    "sums by columns": (parts.finish, [[randn(20, 3).T], None, None, None, torch.float16], "part must be contiguous"),
    "a norm of a part in BF16": (parts.finish_rmsnorm, [[Y.bfloat16(), Y], Y, W_SCALE, 1e-5], r"part must be .* float16"),
    "a norm's other weight": (parts.finish_rmsnorm, [[Y, Y], Y, W_SCALE[:19], 1e-5], r"weight must be \(20,\) float16 or"),
    "a norm in FP32": (parts.finish_rmsnorm, [[Y, Y], Y.float(), W_SCALE, 1e-5], r"residual must be \(M, N\) float16 or"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_operands_that_do_not_fit_are_named(case):
    function, given, words = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=words):
        function(*given)


@pytest.mark.parametrize("capability, sms, shared_memory, stages", [
    ((8, 0), 108, 166_912, {2: 5, 64: 5, 128: 4}), ((8, 6), 84, 101_376, {2: 5, 64: 4, 128: 4}),
    ((9, 0), 132, 232_448, {2: 5, 64: 5, 128: 4}), ((10, 0), 148, 232_448, {2: 5, 64: 5, 128: 4}),
    (None, 304, 65_536, {2: 5, 64: 2, 128: 2})], ids=["A100", "A40", "H100", "B200", "MI300X"])
def test_what_the_gpu_decides(monkeypatch, capability, sms, shared_memory, stages):
    """Each launch as it is planned on a GPU that is not here."""
    planned = []

    def launch(kernel, grid, scalars, constants, **options):
        planned.append((kernel.fn.__name__, grid, constants, options))
        return lambda *_: None

    for module in (parts, decode_row):
        monkeypatch.setattr(module, "Launch", launch)
    for plans in (parts._sums, parts._row, parts._quantize):
        monkeypatch.setattr(plans, "_calls", {})
    monkeypatch.setattr(parts, "card", lambda where: Card(capability, sms, shared_memory, 50 << 20, 3000.0))
    w_q, w_scale = codes(512, 4096), randn(512).float()
    for M in (2, 64, 128):
        parts.sums_into(torch.empty(M, 512, dtype=torch.int32, device=w_q.device), codes(M, 4096), w_q)
        _, (columns, parts_of_k), constants, options = planned[-1]
        assert (columns, parts_of_k, options["num_stages"]) == (512 // constants["BLOCK_N"], 1, stages[M])
        assert constants["PARTIAL"] and constants["BLOCK_N"] == (32 if M <= 64 else 64)
    parts.quantize_and_multiply_into(randn(1, 512), randn(1, 4096), w_q, w_scale)
    overlap = capability is not None and capability >= (9, 0)
    assert [name for name, *_ in planned] == ["decode_w8a8_kernel"] * 3 + ["decode_row_kernel"]
    for _, _, constants, options in planned:
        assert constants["OVERLAP"] == options.get("launch_pdl", False) == overlap
    for M, SLICE in ((1, 1024), (sms - 1, 1024), (sms, 4096)):  # few rows leave multiprocessors to cut them for
        parts.quantize_with_amax(x := randn(M, 4096), None, [torch.ones(M, device=x.device)])
        assert planned[-1][1:3] == ((M, 4096 // SLICE), {"SLICE": SLICE})
