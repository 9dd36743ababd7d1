"""Lesson 04: per-row INT8 quantization, its error and its cost."""

import math

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers
from kernels import cost


def normal(M: int, K: int):
    """Rows of very different size. The largest magnitude stands in the first column of row 0, in the last of row 1, in
    the middle of row 2; it is negative in rows 0 and 2."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.randn(M, K, generator=g)
        for m, column in zip(range(M), (0, K - 1, K // 2), strict=False):
            x[m, column] = (-1.5, 1.5, -1.5)[m] * x[m].abs().amax()
        return {"x": (x * 2.0 ** torch.randperm(M, generator=g)[:, None] / 4).half()}
    return inputs


def ties(M: int, K: int):
    """Scales are powers of two and every number but one stands exactly between two codes."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.randint(-126, 126, (M, K), generator=g) + 0.5
        x[:, K // 3] = -127
        return {"x": (x * 2.0 ** -torch.arange(M)[:, None]).half()}
    return inputs


def special(K: int):
    """A row of zeros, one of zeros of both signs, two of FP16's smallest numbers, and one with an outlier."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.randn(5, K, generator=g).half()
        x[0] = 0.0
        x[1] = (x[1].float() * 3e-6 / x[1].float().abs().amax()).half()
        x[2, K // 2] = 6e4
        x[3] = 2.0**-24
        x[4] = -0.0
        x[4, ::2] = 0.0
        return {"x": x}
    return inputs


def not_finite(K: int):
    """NaN and Inf in rows 1 to 3, at both ends and in the middle; row 0 must not notice."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.randn(4, K, generator=g).half()
        x[1, K - 1], x[2, 0], x[3, K // 2] = math.nan, math.inf, -math.inf
        return {"x": x}
    return inputs


def rows_of_a_wider_matrix(M: int, K: int):
    """x is the left part of a matrix whose other numbers are huge."""
    def inputs(g: torch.Generator) -> dict:
        wide = torch.full((M, K + 24), 6e4).half()
        wide[:, :K] = normal(M, K)(g)["x"]
        return {"x": wide[:, :K]}
    return inputs


def far_rows(M: int, K: int):
    """Rows 2³⁰ elements apart, parts of a matrix that is never made: the third starts where 32 bits no longer reach."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.empty((M - 1) * 2**30 + K, dtype=torch.float16).as_strided((M, K), (2**30, 1))
        return {"x": x.copy_(normal(M, K)(g)["x"])}
    return inputs


def exact_codes(x: torch.Tensor) -> tuple[Expected, Expected]:
    """Codes and scales by the definition, in float64.

    amax is exact. scale = amax / 127 errs by half a unit in the last place of FP32 when rounded to nearest, and by two
    with the GPU's own division (PTX ISA, `div.full.f32`): by 2⁻²² of itself at most. The quotient is below 128 and is
    divided once more, so it errs by less than 2 · 2⁻²² · 127 < 2⁻¹⁴: only that near to a tie may a code be the
    neighbour. Where scale is a power of two nothing is rounded at all, and ties must go to the even code. The codes of
    a row with NaN or Inf are free: with scale NaN they stand for NaN.
    """
    x = x.double()
    amax = x.abs().amax(dim=1)
    scale = torch.where(amax.isfinite(), amax / 127, torch.nan)
    quotient = torch.where(scale[:, None] > 0, 127 * x / amax[:, None], 0)
    near = (quotient - quotient.floor() - 0.5).abs() <= 2.0**-14
    rounded = (scale.frexp().mantissa != 0.5)[:, None]
    tolerance = torch.where(near & rounded, 1.0, 0.0)
    tolerance[~amax.isfinite()] = 255.0
    return Expected(quotient.round(), tolerance, torch.int8), Expected(scale, 2.0**-22 * scale, torch.float32)


def least_bytes(x: torch.Tensor) -> int:
    return cost.quantize_int8_perrow_bytes(*x.shape)


_ROUND = "Truncation throws the fraction away; the definition takes the nearest whole number."
_HALVES = "Numbers half-way between two codes go to the even one: 0.5 to 0, 1.5 to 2, 2.5 to 2."
_127 = "Codes go from -127 to 127, so the largest magnitude must become 127: scale = amax / 127."
_ABS = "The largest magnitude may belong to a negative number: take the maximum of |x|."
_FP16_SCALE = ("A scale in FP16 is off by up to 0.05 %, and the scales of small rows become 0: compute and keep it in FP32 "
               "(turn x into FP32 first).")
_TINY = "A tiny row has a tiny scale, and FP32 can hold it: no lower bound is needed, for only scale = 0 is a special case."
_ZERO = "A row of zeros has amax = 0, so scale = amax / 127 = 0 and every code is 0."
_UNSEEN = ("A maximum on the GPU passes over NaN. Turn NaN into Inf first, `tl.where(magnitude < inf, magnitude, inf)`: "
           "then amax < inf tells the two kinds of rows apart.")
_INF = "A row that holds Inf has no scale: amax / 127 is Inf there, and NaN is wanted."
_DIVIDE = "x = q · scale, so q is x divided by scale."
_INVERTED = "The scale is what a code is multiplied with to give x back: amax / 127, not 127 / amax."

QUANTIZE_TORCH = Exercise(
    name="quantize_int8_perrow_torch",
    lesson="04_quantize",
    outputs=("q", "scale"),
    points=2,
    oracle=exact_codes,
    cases=(
        Case("normal, M=5 K=300", normal(5, 300)),
        Case("exactly between two codes, M=3 K=256", ties(3, 256)),
        Case("one element, M=1 K=1", normal(1, 1)),
        Case("zero and tiny rows, K=129", special(129)),
        Case("NaN and Inf, K=127", not_finite(127)),
    ),
    mutants=(
        Mutant("truncation", ((".round()", ".trunc()"),), _ROUND),
        Mutant("always rounded down", ((".round()", ".floor()"),), "floor goes down, to the nearest one only by chance."),
        Mutant("halves away from zero",
               (("(x / scale[:, None]).round()",
                 "((x / scale[:, None]).abs() + 0.5).floor().mul((x / scale[:, None]).sign())"),), _HALVES),
        Mutant("halves up", (("(x / scale[:, None]).round()", "(x / scale[:, None] + 0.5).floor()"),), _HALVES),
        Mutant("divided by 128", (("amax / 127", "amax / 128"),), _127),
        Mutant("divided by 127.5", (("amax / 127", "amax / 127.5"),), _127),
        Mutant("the maximum of x, not of |x|", (("x.abs().amax(dim=1)", "x.amax(dim=1)"),), _ABS),
        Mutant("multiplied by the scale", (("(x / scale[:, None])", "(x * scale[:, None])"),), _DIVIDE),
        Mutant("one scale for the whole tensor",
               (("x.abs().amax(dim=1)", "x.abs().amax().expand(len(x))"),),
               "Each row has an amax of its own: amax(dim=1)."),
        Mutant("all of it in FP16", (("x = x.float()", "x = x.half()"),), _FP16_SCALE),
        Mutant("scale in FP16", (("amax / 127", "(amax / 127).half().float()"),), _FP16_SCALE),
        Mutant("scale inverted", (("return q.to(torch.int8), scale", "return q.to(torch.int8), 1 / scale"),), _INVERTED),
        Mutant("amax returned, not scale", (("return q.to(torch.int8), scale", "return q.to(torch.int8), amax"),),
               "The second result is scale = amax / 127."),
        Mutant("the scale keeps a second dimension",
               (("return q.to(torch.int8), scale", "return q.to(torch.int8), scale[:, None]"),),
               "scale is (M,), one number for each row: use keepdim only for the division."),
        Mutant("tiny rows are flushed", (("amax(dim=1)", "amax(dim=1).clamp(min=1e-5)"),), _TINY),
        Mutant("a row of zeros gets scale 1",
               (("return q.to(torch.int8), scale", "return q.to(torch.int8), torch.where(scale == 0, 1, scale)"),), _ZERO),
        Mutant("a row with Inf gets scale Inf",
               (("torch.where(amax.isfinite(), amax / 127, torch.nan)", "amax / 127"),), _INF),
        Mutant("a row with NaN or Inf gets scale 0", (("torch.nan)", "0.0)"),),
               "Scale 0 would hide that something went wrong: NaN shows it, in this row and only there."),
    ),
)


def _with_error(M: int, K: int, size: float, error: float):
    """Rows of sizes from 1 to `size`, and an approximation that is off by up to `error` times the row's size."""
    def inputs(g: torch.Generator) -> dict:
        sizes = torch.linspace(1, size, M)[:, None]
        x = torch.randn(M, K, generator=g).clamp(-3, 3) * sizes
        return {"x": x.half(), "approximation": (x + (torch.rand(M, K, generator=g) - 0.4) * error * sizes).half()}
    return inputs


def exact_sqnr(x: torch.Tensor, approximation: torch.Tensor) -> tuple[Expected]:
    """FP32 sums of up to 4,096 squares err by at most 2⁻¹² of themselves, which is 0.0011 dB, signal and noise alike."""
    x, approximation = x.double(), approximation.double()
    return (Expected(10 * math.log10(x.square().sum() / (approximation - x).square().sum()), 0.003),)


SQNR = Exercise(
    name="sqnr_db",
    lesson="04_quantize",
    points=1,
    oracle=exact_sqnr,
    cases=(
        Case("8 rows, small errors", _with_error(8, 100, 4, 0.02)),
        Case("errors as large as x", _with_error(8, 100, 4, 2.0)),
        Case("numbers in the thousands", _with_error(8, 100, 9000, 0.02)),
        Case("one row", _with_error(1, 300, 1, 0.1)),
    ),
    mutants=(
        Mutant("20 instead of 10", (("10 * math", "20 * math"),),
               "20 · log10 is for a ratio of amplitudes; the squares are powers already, so it is 10 · log10."),
        Mutant("10 with norms", (("signal / noise", "(signal / noise) ** 0.5"),),
               "A norm is the root of a power: 10 · log10 takes sums of squares, without a root."),
        Mutant("the natural logarithm", (("math.log10", "math.log"),), "Decibels use the logarithm to base 10."),
        Mutant("noise over signal", (("signal / noise", "noise / signal"),),
               "Signal over noise: a better approximation has the higher SQNR."),
        Mutant("without squares", (("x.square()", "x.abs()"), ("(approximation - x).square()", "(approximation - x).abs()")),
               "Power is the square: sum x² and (approximation - x)²."),
        Mutant("the approximation's power as signal",
               (("x.square()", "approximation.square()"), ("(approximation - x).square()", "(x - approximation).square()")),
               "The signal is x itself, what should have been there."),
        Mutant("the logarithm of each element's ratio",
               (("10 * math.log10(signal / noise)",
                 "(10 * torch.log10(x.square() / (approximation - x).square())).nanmean().item()"),),
               "Sum over all elements first; one ratio, one logarithm."),
        Mutant("squares in FP16",
               (("x.double(), approximation.double()", "x.half(), approximation.half()"),
                ("10 * math.log10(signal / noise)", "10 * math.log10(signal.double() / noise.double())")),
               "FP16 ends at 65,504, and the square of 300 is past it: use .double() or .float() first."),
        Mutant("in natural units, without decibels", (("10 * math.log10", "math.log10"),),
               "Decibels are tenths of the logarithm to base 10: multiply by 10."),
        Mutant("the variance of the error",
               (("signal = x.square().sum()", "signal = x.square().mean()"),
                ("(approximation - x).square().sum()", "(approximation - x).var(correction=0)")),
               "A variance leaves out the mean of the error, and an error that leans to one side is an error too."),
    ),
)

UNIFORM = Exercise(
    name="uniform_mean_square",
    lesson="04_quantize",
    points=1,
    oracle=lambda low, high: (Expected(v := (low * low + low * high + high * high) / 3, 1e-9 * v),),
    cases=(numbers(low=-0.5, high=0.5), numbers(low=0.0, high=1.0), numbers(low=-1.0, high=2.0),
           numbers(low=0.25, high=1.75), numbers(low=-3.0, high=0.0)),
    mutants=(
        Mutant("the variance", (("(low**2 + low * high + high**2) / 3", "(high - low)**2 / 12"),),
               "That is the spread around the mean error. An error that is always positive has a mean too, and it counts."),
        Mutant("the square of the mean", (("(low**2 + low * high + high**2) / 3", "((low + high) / 2)**2"),),
               "Square first, then take the mean: errors to both sides must not cancel."),
        Mutant("the mean of the two ends", (("(low**2 + low * high + high**2) / 3", "(low**2 + high**2) / 2"),),
               "Every error between the ends counts as much as the ends: integrate e² over the interval."),
        Mutant("not divided by the width", (("(low**2 + low * high + high**2) / 3", "(high**3 - low**3) / 3"),),
               "A mean is the integral of e² divided by the interval's width, high - low."),
        Mutant("not divided by 3", (("(low**2 + low * high + high**2) / 3", "low**2 + low * high + high**2"),),
               "The integral of e² is e³ / 3."),
        Mutant("the width squared over 3", (("(low**2 + low * high + high**2) / 3", "(high - low)**2 / 3"),),
               "That holds for an error that starts at 0. Integrate e² from low to high, and divide by high - low."),
        Mutant("the root of it", (("(low**2 + low * high + high**2) / 3", "((low**2 + low * high + high**2) / 3)**0.5"),),
               "The mean square is wanted, without a root."),
    ),
)

QUANTIZE_BYTES = Exercise(
    name="quantize_int8_perrow_bytes",
    lesson="04_quantize",
    points=1,
    cases=(numbers(M=16384, K=4096), numbers(M=1, K=1), numbers(M=127, K=300), numbers(M=5, K=11008)),
    oracle=lambda M, K: (Expected(sum(torch.empty(shape, dtype=dtype, device="meta").nbytes for shape, dtype in [
        ((M, K), torch.float16), ((M, K), torch.int8), ((M,), torch.float32)])),),
    mutants=(
        Mutant("the scales left out", (("2 * M * K + M * K + 4 * M", "2 * M * K + M * K"),),
               "The M scales have to be written too."),
        Mutant("numbers, not bytes", (("2 * M * K + M * K + 4 * M", "2 * M * K + M"),),
               "Count bytes: two for each FP16 number, one for each code, four for each scale."),
        Mutant("scales of two bytes", (("4 * M", "2 * M"),), "The scales are FP32: four bytes each."),
        Mutant("one scale in all", (("4 * M", "4"),), "There is a scale for each of the M rows."),
        Mutant("only x counted", (("2 * M * K + M * K + 4 * M", "2 * M * K"),), "The codes and scales have to be written."),
        Mutant("x left out", (("2 * M * K + M * K", "M * K"),), "x has to be read: two bytes an element."),
        Mutant("codes of two bytes", (("2 * M * K + M * K", "2 * M * K + 2 * M * K"),), "An INT8 code takes one byte."),
        Mutant("x of one byte", (("2 * M * K + M * K", "M * K + M * K"),), "x is FP16: two bytes an element."),
        Mutant("x read twice", (("2 * M * K + M * K", "2 * 2 * M * K + M * K"),),
               "The least is to read x once and keep the row on the chip until its maximum is known."),
    ),
)

_MASK = "BLOCK_K is a power of two and K need not be: load and store only lanes where `offs_k < K`."
_STORE_MASK = "After a row's K codes come those of the next row: store only where `offs_k < K`."
_GARBAGE = "Lanes that a mask turns off hold anything at all, and here amax is taken over them: load with `other=0.0`."
_64_BITS = "m * stride_xm can pass 2³¹, where 32-bit numbers wrap around: keep the given `.to(tl.int64)`."
_FIRST_DIVISION = "tl.where(amax < float(\"inf\"), tl.div_rn(amax, 127.0), float(\"nan\"))"
_NAN_TO_INF = "    magnitude = tl.where(magnitude < float(\"inf\"), magnitude, float(\"inf\"))"
_NEAREST = "(quotient + 12582912.0) - 12582912.0"

QUANTIZE_PLAIN = Exercise(
    name="quantize_int8_perrow_plain_kernel",
    lesson="04_quantize",
    wrapper="quantize_int8_perrow_plain",
    outputs=("q", "scale"),
    points=5,
    least_bytes=least_bytes,
    oracle=exact_codes,
    cases=(
        Case("normal, M=2 K=300", normal(2, 300)),
        Case("a power of two, M=1 K=256", normal(1, 256)),
        Case("exactly between two codes, M=3 K=257", ties(3, 257)),
        Case("zero and tiny rows, K=129", special(129)),
        Case("NaN and Inf, K=127", not_finite(127)),
        Case("rows of a wider matrix, M=3 K=100", rows_of_a_wider_matrix(3, 100)),
        Case("rows 2^30 elements apart, M=3 K=5", far_rows(3, 5)),
        Case("one element, M=1 K=1", normal(1, 1)),
    ),
    mutants=(
        Mutant("truncation", ((_NEAREST, "quotient"),), "`.to(tl.int8)` throws the fraction away: round before it."),
        Mutant("halves away from zero", ((_NEAREST, "quotient + tl.where(quotient < 0.0, -0.5, 0.5)"),), _HALVES),
        Mutant("halves up", ((_NEAREST, "tl.floor(quotient + 0.5)"),), _HALVES),
        Mutant("a half added, then truncated", ((_NEAREST, "quotient + 0.5"),),
               "`.to(tl.int8)` goes towards 0, so that rounds positive numbers alone: -1.7 + 0.5 becomes -1."),
        Mutant("always rounded down", ((_NEAREST, "tl.floor(quotient)"),), "tl.floor alone goes down, not to the nearest."),
        Mutant("rounded with 2²³", ((_NEAREST, "(quotient + 8388608.0) - 8388608.0"),),
               "For a negative number the sum falls below 2²³, where FP32 still has halves: add 1.5 · 2²³ = 12582912.0."),
        Mutant("divided by 128", (("tl.div_rn(amax, 127.0)", "tl.div_rn(amax, 128.0)"),), _127),
        Mutant("divided by 127.5", (("tl.div_rn(amax, 127.0)", "tl.div_rn(amax, 127.5)"),), _127),
        Mutant("the maximum of x, not of |x|", (("magnitude = tl.abs(x)", "magnitude = x"),), _ABS),
        Mutant("amax of the masked garbage", (("mask=mask_k, other=0.0", "mask=mask_k"),), _GARBAGE),
        Mutant("the mask is missing when x is loaded", ((", mask=mask_k, other=0.0", ""),), _MASK),
        Mutant("the mask is missing when q is stored", (("q.to(tl.int8), mask=mask_k", "q.to(tl.int8)"),), _STORE_MASK),
        Mutant("scale in FP16", (("    quotient = tl.where", "    scale = scale.to(tl.float16).to(tl.float32)\n"
                                  "    quotient = tl.where"),), _FP16_SCALE),
        Mutant("scale inverted", (("scale_ptr + m, scale", "scale_ptr + m, tl.div_rn(1.0, scale)"),), _INVERTED),
        Mutant("amax stored, not scale", (("scale_ptr + m, scale", "scale_ptr + m, scale * 127.0"),),
               "Store scale = amax / 127, the factor that turns a code back into a number."),
        Mutant("multiplied by the scale", (("tl.div_rn(x, scale)", "x * scale"),), _DIVIDE),
        Mutant("amax used as the scale", (("tl.div_rn(amax, 127.0)", "amax"),),
               "x / amax lies between -1 and 1: scale = amax / 127."),
        Mutant("0 / 0 in a row of zeros", (("tl.where(scale > 0.0, tl.div_rn(x, scale), 0.0)", "tl.div_rn(x, scale)"),),
               "0 / 0 is NaN, and a GPU's tl.maximum(NaN, -127.0) is -127: keep the quotient 0 unless scale is above 0."),
        Mutant("tiny rows are flushed", (("tl.max(magnitude, axis=0)", "tl.maximum(tl.max(magnitude, axis=0), 1e-5)"),),
               _TINY),
        Mutant("a small number added to amax", (("tl.max(magnitude, axis=0)", "tl.max(magnitude, axis=0) + 1e-8"),), _TINY),
        Mutant("a row of zeros gets scale 1",
               (("scale_ptr + m, scale", "scale_ptr + m, tl.where(scale == 0.0, 1.0, scale)"),), _ZERO),
        Mutant("a row of zeros gets scale NaN", (("tl.where(amax < float", "tl.where((amax > 0.0) & (amax < float"),
                                                 ("\"), tl.div_rn(amax", "\")), tl.div_rn(amax")), _ZERO),
        Mutant("NaN passes unseen",
               ((_NAN_TO_INF, "    magnitude = magnitude"),),
               _UNSEEN),
        Mutant("NaN and Inf pass unseen",
               ((_NAN_TO_INF, "    magnitude = magnitude"),
                (_FIRST_DIVISION, "tl.div_rn(amax, 127.0)")), _UNSEEN),
        Mutant("a row with Inf gets scale Inf", ((_FIRST_DIVISION, "tl.div_rn(amax, 127.0)"),), _INF),
        Mutant("every program quantizes row 0", (("m * stride_xm + offs_k", "offs_k"),),
               "Row m of x starts m * stride_xm elements after x_ptr."),
        Mutant("every program writes row 0", (("m * stride_qm + offs_k", "offs_k"),),
               "Row m of q starts m * stride_qm elements after q_ptr."),
        Mutant("rows of x taken to be K apart", (("m * stride_xm + offs_k", "m * K + offs_k"),),
               "x may be part of a wider matrix: its rows are stride_xm elements apart, not K."),
        Mutant("every scale is written to scale[0]", (("scale_ptr + m,", "scale_ptr,"),),
               "Program m owns scale[m]: store at scale_ptr + m."),
        Mutant("the mask lets one element too many through", (("offs_k < K", "offs_k <= K"),),
               "The last element of a row is number K - 1: the mask is `offs_k < K`, not `<=`."),
        Mutant("32-bit offsets", (("tl.program_id(0).to(tl.int64)", "tl.program_id(0)"),), _64_BITS),
        Mutant("x is loaded twice",
               (("tl.div_rn(x, scale)", "tl.div_rn(tl.load(x_ptr + m * stride_xm + offs_k, mask=mask_k)"
                 ".to(tl.float32), scale)"),),
               "The row is in registers already: compute amax and the codes from the same x."),
    ),
)

_LOAD_1 = "x = tl.load(x_row + offs_k, mask=offs_k < K, other=0.0)  #"
_LOAD_2 = "x = tl.load(x_row + offs_k, mask=offs_k < K, other=0.0, eviction"
_OFFSETS = "offs_k = k + tl.arange(0, BLOCK_K)\n        "
_LOOP = "for k in range(0, K, BLOCK_K):\n        "
_FIRST_LOOP, _SECOND_LOOP = _LOOP + _OFFSETS + _LOAD_1, _LOOP + _OFFSETS + _LOAD_2

QUANTIZE_LONG = Exercise(
    name="quantize_int8_perrow_long_kernel",
    lesson="04_quantize",
    wrapper="quantize_int8_perrow_long",
    outputs=("q", "scale"),
    points=4,
    least_bytes=least_bytes,
    oracle=exact_codes,
    cases=(
        Case("normal, M=2 K=9000", normal(2, 9000)),
        Case("two whole chunks, M=1 K=8192", normal(1, 8192)),
        Case("less than a chunk, M=2 K=100", normal(2, 100)),
        Case("zero and tiny rows, K=4097", special(4097)),
        Case("NaN and Inf, K=5000", not_finite(5000)),
        Case("rows of a wider matrix, M=2 K=4200", rows_of_a_wider_matrix(2, 4200)),
        Case("rows 2^30 elements apart, M=3 K=5", far_rows(3, 5)),
    ),
    mutants=(
        Mutant("the mask is missing when x is loaded", ((_LOAD_1, "x = tl.load(x_row + offs_k)  #"),),
               "The last chunk reaches past the row unless BLOCK_K divides K: in both loops, load only where `offs_k < K`."),
        Mutant("the mask is missing when q is stored", (("codes(x, scale), mask=offs_k < K", "codes(x, scale)"),),
               _STORE_MASK),
        Mutant("amax of the masked garbage", ((_LOAD_1, _LOAD_1.replace(", other=0.0", "")),), _GARBAGE),
        Mutant("amax of the first chunk alone", ((_FIRST_LOOP, _FIRST_LOOP.replace("(0, K,", "(0, BLOCK_K,")),),
               "The largest magnitude may stand in any chunk: the first loop goes over all of K, and offs_k moves with k."),
        Mutant("amax of the last chunk alone", (("tl.maximum(magnitude, finite_or_inf(x))", "finite_or_inf(x)"),),
               "Each chunk must be compared with the maximum so far: tl.maximum(magnitude, ...)."),
        Mutant("the last, partial chunk left out of amax",
               ((_FIRST_LOOP, _FIRST_LOOP.replace("(0, K,", "(0, K - BLOCK_K + 1,")),),
               "When BLOCK_K does not divide K, the last, partial chunk counts too: loop while k < K."),
        Mutant("the last, partial chunk gets no codes",
               ((_SECOND_LOOP, _SECOND_LOOP.replace("(0, K,", "(0, K - BLOCK_K + 1,")),),
               "When BLOCK_K does not divide K, the last, partial chunk counts too: loop while k < K."),
        Mutant("nothing is advanced in the second loop", ((_SECOND_LOOP, _SECOND_LOOP.replace("k + tl", "tl")),),
               "Step k works on the elements from k on: offs_k is k + tl.arange(0, BLOCK_K)."),
        Mutant("nothing is advanced in either loop",
               ((_FIRST_LOOP, _FIRST_LOOP.replace("k + tl", "tl")), (_SECOND_LOOP, _SECOND_LOOP.replace("k + tl", "tl"))),
               "Step k works on the elements from k on: offs_k is k + tl.arange(0, BLOCK_K)."),
        Mutant("codes by the largest magnitude so far",
               (("finite_or_inf(x))\n", "finite_or_inf(x))\n        tl.store(q_row + offs_k, "
                 "codes(x, row_scale(tl.max(magnitude, axis=0))), mask=offs_k < K)\n"),
                (_SECOND_LOOP, _SECOND_LOOP.replace("range(0, K,", "range(0, 0,"))),
               "The scale is known only after the whole row was seen: the codes need a second loop."),
        Mutant("the steps are counted, not their elements",
               ((_FIRST_LOOP, _FIRST_LOOP.replace("range(0, K, BLOCK_K)", "range(0, tl.cdiv(K, BLOCK_K))")),
                (_SECOND_LOOP, _SECOND_LOOP.replace("range(0, K, BLOCK_K)", "range(0, tl.cdiv(K, BLOCK_K))"))),
               "k counts chunks here, and the chunk starts at element k * BLOCK_K."),
        Mutant("a scale for each chunk", (("codes(x, scale)", "codes(x, row_scale(tl.max(finite_or_inf(x), axis=0)))"),),
               "A row has one scale: the codes have to wait until the whole row was seen."),
        Mutant("the maximum of x, not of |x|", (("finite_or_inf(x)", "x.to(tl.float32)"),), _ABS),
        Mutant("magnitudes added up", (("tl.maximum(magnitude, finite_or_inf(x))", "magnitude + finite_or_inf(x)"),),
               "The largest magnitude is wanted, not their sum: tl.maximum."),
        Mutant("NaN passes unseen", (("finite_or_inf(x)", "tl.abs(x.to(tl.float32))"),),
               "A maximum on the GPU passes over NaN: `finite_or_inf(x)` turns it into Inf, which a maximum keeps."),
        Mutant("a row with Inf gets scale Inf",
               (("row_scale(tl.max(magnitude, axis=0))", "tl.max(magnitude, axis=0) / 127.0"),),
               _INF + " `row_scale` sees to it."),
        Mutant("codes of one chunk alone", ((_LOAD_2 + '_policy="evict_first")\n        ', ""),),
               "After the first loop x is its last chunk: the second loop has to load each chunk again."),
        Mutant("truncation", (("codes(x, scale)", "x.to(tl.float32) / scale"),),
               "A store of fractions as int8 throws them away: `codes(x, scale)` divides, rounds and clamps."),
        Mutant("amax used as the scale", (("row_scale(tl.max(magnitude, axis=0))", "tl.max(magnitude, axis=0)"),),
               "scale = amax / 127: call `row_scale`."),
        Mutant("every scale is written to scale[0]", (("scale_ptr + m,", "scale_ptr,"),),
               "Program m owns scale[m]: store at scale_ptr + m."),
        Mutant("x is loaded three times",
               (("codes(x, scale)", "codes(tl.maximum(x, tl.load(x_row + offs_k, mask=offs_k < K, other=0.0)), scale)"),),
               "Two readings are needed: one for amax, one for the codes."),
        Mutant("32-bit offsets", (("tl.program_id(0).to(tl.int64)", "tl.program_id(0)"),), _64_BITS),
    ),
)

EXERCISES = [QUANTIZE_TORCH, SQNR, UNIFORM, QUANTIZE_BYTES, QUANTIZE_PLAIN, QUANTIZE_LONG]
