"""The part of `gpu_report.py` on decode, GEMV and fusions."""

import math

import test_decode
import test_fused
import test_gemv_int8
import torch

from checks.bench.measure import MeasuringGPU
from kernels.decode import decode_w8a8, gemv_with, matmul_with
from kernels.decode_tiles import GEMV_BLOCKS, TILES
from kernels.gemv import gemv_fp16, gemv_fp16_row
from kernels.gemv_int8 import gemv_w8a16, gemv_w8a16_row

SHAPES = [(4096, 4096), (22016, 2048), (2048, 11008)]  # (N, K)


def check_decode(checks):
    checks.attempt("decode, every configuration", decode_of_every_config, checks.small)
    if not checks.small:
        for check in (decode_of_the_measured_shapes, decode_beyond_32_bit_offsets,
                      decode_sees_what_kernels_just_before_it_wrote):
            checks.attempt(check.__name__.replace("_", " "), check)


def check_gemv_and_fused(checks):
    checks.attempt("GEMV", gemv, checks.small)
    checks.attempt("fusions", fusions, checks.small)


def definition(x, w_q, w_scale):
    """Codes, sums and scales of the definition, none of them from our kernels; exact, for float64 holds the sums."""
    wide = x.float()
    amax = wide.abs().amax(1, keepdim=True)
    scale = torch.where(amax.isfinite(), amax / torch.full_like(amax, 127), torch.nan)
    codes = torch.where(scale > 0, wide / scale, 0).round().clamp(-127, 127)
    return ((codes.double() @ w_q.double().T).float() * scale * w_scale).to(x.dtype)


def decode_of_every_config(small):
    fp16, bf16 = torch.float16, torch.bfloat16
    shapes = [(2, 129, 127, fp16), (16, 257, 1000, bf16), (33, 100, 1049, bf16), (70, 130, 700, bf16), (128, 100, 528, fp16)]
    large = [(17, 4096, 4096, fp16), (33, 1000, 2049, bf16), (64, 4100, 4112, fp16), (81, 4100, 4112, fp16),
             (128, 300, 2064, bf16)]
    for M, N, K, dtype in shapes if small else shapes + large:
        x, w_q, w_scale = test_decode.inputs(M, N, K, dtype)
        with_special_rows(x)
        want = definition(x, w_q, w_scale)
        for tile in TILES.values():
            for splits in (1, 2, 7):
                test_decode.assert_equal(matmul_with(tile, splits, x, w_q, w_scale), want)
        test_decode.assert_equal(decode_w8a8(x, w_q, w_scale), want)
        for blocks in GEMV_BLOCKS.values():
            for m in range(min(M, 7)):
                test_decode.assert_equal(gemv_with(blocks, x[m:m + 1], w_q, w_scale), want[m:m + 1])


def with_special_rows(x):
    """Zeros, subnormal numbers, an outlier, a NaN, an infinity, as far as x has rows."""
    for m, change in enumerate((lambda row: row.zero_(), lambda row: row.mul_(1e-6), lambda row: row[:1].fill_(6e4),
                                lambda row: row[-1:].fill_(math.nan), lambda row: row[:1].fill_(-math.inf))):
        if m + 1 < x.shape[0]:
            change(x[m + 1])


def decode_of_the_measured_shapes():
    for N, K in SHAPES:
        for M in (1, 2, 16, 17, 32, 33, 64, 65, 80, 96, 97, 128):
            x, w_q, w_scale = test_decode.inputs(M, N, K)
            want = definition(x, w_q, w_scale)
            for _ in range(3):
                test_decode.assert_equal(decode_w8a8(x, w_q, w_scale), want)


def decode_beyond_32_bit_offsets():
    K, N = 131_072, 16_500  # the longest sum, and 2.16e9 weights
    w_q = torch.randint(-127, 128, (N, K), dtype=torch.int8, device="cuda")
    x, w_scale = torch.randn(16, K, device="cuda").half(), torch.rand(N, device="cuda") * 1e-3
    rows = slice(N - 200, N)
    for M in (1, 16):
        test_decode.assert_equal(decode_w8a8(x[:M], w_q, w_scale)[:, rows], definition(x[:M], w_q[rows], w_scale[rows]))
    y = gemv_w8a16(x[0], w_q, w_scale)[rows]
    assert torch.equal(y, gemv_w8a16(x[0], w_q[rows], w_scale[rows]))
    test_gemv_int8.assert_right(gemv_w8a16, x[0], w_q[rows], w_scale[rows])


def decode_sees_what_kernels_just_before_it_wrote():
    """Launches overlap: x and w come from the kernels before, and what they held earlier must not be read."""
    sources = [test_decode.inputs(3, 4096, 4096, seed=seed) for seed in range(4)]
    for rows in (1, 3):
        wants = [definition(x[:rows], w_q, w_scale) for x, w_q, w_scale in sources]
        x, w_q, w_scale = (torch.zeros_like(t) for t in sources[0])
        x = x[:rows]

        def steps(x=x, w_q=w_q, w_scale=w_scale, rows=rows):
            outputs = []
            for source_x, source_q, source_scale in sources:
                x.copy_(source_x[:rows])
                w_scale.copy_(source_scale)
                w_q.copy_(source_q)
                outputs.append(decode_w8a8(x, w_q, w_scale))
                outputs.append(decode_w8a8(outputs[-1], w_q, w_scale))
            return outputs

        steps()
        replay, captured = MeasuringGPU().capture(steps)
        for _ in range(20):
            for outputs in (steps(), (replay(), captured)[1]):
                for y, want in zip(outputs[::2], wants, strict=True):
                    test_decode.assert_equal(y, want)
                for y, first, (_, q, s) in zip(outputs[1::2], outputs[::2], sources, strict=True):
                    test_decode.assert_equal(y, definition(first, q, s))


def gemv(small):
    for N, K in [(130, 515)] if small else [*SHAPES, (1000, 2047)]:
        x, w = torch.randn(K, device="cuda").half(), torch.randn(N, K, device="cuda").half()
        want, sums = w.double() @ x.double(), w.double().abs() @ x.double().abs()
        for kernel in (gemv_fp16, gemv_fp16_row):
            error = (kernel(x, w).double() - want).abs()
            assert (error <= 2**-11 * want.abs() + K * 2**-24 * sums + 2**-25).all(), kernel.__name__
        for kernel in (gemv_w8a16, gemv_w8a16_row):
            test_gemv_int8.assert_right(kernel, *test_gemv_int8.inputs(N, K))


def fusions(small):
    shapes = [(1, 4096), (3, 5120), (7, 16384), (2, 20000)]
    for M, K in shapes if small else [*shapes, (333, 2048), (1000, 11008), (7, 53248), (16384, 2048)]:
        for dtype in test_fused.DTYPES:
            x, y = test_fused.rows(M, K, dtype), test_fused.rows(M, K, dtype, seed=1)
            test_fused.check_rmsnorm(x, y[0])
            test_fused.check_silu_mul(x, y)
