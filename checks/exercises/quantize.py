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
HALVES = "Numbers half-way between two codes go to the even one: 0.5 to 0, 1.5 to 2, 2.5 to 2."
BY_127 = "Codes go from -127 to 127, so the largest magnitude must become 127: scale = amax / 127."
ABS = "The largest magnitude may belong to a negative number: take the maximum of |x|."
FP16_SCALE = ("A scale in FP16 is off by up to 0.05 %, and the scales of small rows become 0: compute and keep it in FP32 "
               "(turn x into FP32 first).")
TINY = "A tiny row has a tiny scale, and FP32 can hold it: no lower bound is needed, for only scale = 0 is a special case."
ZERO = "A row of zeros has amax = 0, so scale = amax / 127 = 0 and every code is 0."
UNSEEN = ("A maximum on the GPU passes over NaN. Turn NaN into Inf first, `tl.where(magnitude < inf, magnitude, inf)`: "
           "then amax < inf tells the two kinds of rows apart.")
INF = "A row that holds Inf has no scale: amax / 127 is Inf there, and NaN is wanted."
DIVIDE = "x = q · scale, so q is x divided by scale."
INVERTED = "The scale is what a code is multiplied with to give x back: amax / 127, not 127 / amax."

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
        Mutant("truncation", {".round()": ".trunc()"}, _ROUND),
        Mutant("always rounded down", {".round()": ".floor()"}, "floor goes down, to the nearest one only by chance."),
        Mutant("halves away from zero",
               {"(x / scale[:, None]).round()":
                 "((x / scale[:, None]).abs() + 0.5).floor().mul((x / scale[:, None]).sign())"}, HALVES),
        Mutant("halves up", {"(x / scale[:, None]).round()": "(x / scale[:, None] + 0.5).floor()"}, HALVES),
        Mutant("divided by 128", {"amax / 127": "amax / 128"}, BY_127),
        Mutant("divided by 127.5", {"amax / 127": "amax / 127.5"}, BY_127),
        Mutant("the maximum of x, not of |x|", {"x.abs().amax(dim=1)": "x.amax(dim=1)"}, ABS),
        Mutant("multiplied by the scale", {"(x / scale[:, None])": "(x * scale[:, None])"}, DIVIDE),
        Mutant("one scale for the whole tensor",
               {"x.abs().amax(dim=1)": "x.abs().amax().expand(len(x))"},
               "Each row has an amax of its own: amax(dim=1)."),
        Mutant("a scale for each column", {"x.abs().amax(dim=1)": "x.abs().amax(dim=0)", "x / scale[:, None]":
               "x / scale[None, :]", "scale[:, None] > 0": "scale[None, :] > 0"},
               "A scale belongs to a row: amax(dim=1) goes along each row, and scale[:, None] divides row by row."),
        Mutant("all of it in FP16", {"x = x.float()": "x = x.half()"}, FP16_SCALE),
        Mutant("scale in FP16", {"amax / 127": "(amax / 127).half().float()"}, FP16_SCALE),
        Mutant("scale inverted", {"return q.to(torch.int8), scale": "return q.to(torch.int8), 1 / scale"}, INVERTED),
        Mutant("amax returned, not scale", {"return q.to(torch.int8), scale": "return q.to(torch.int8), amax"},
               "The second result is scale = amax / 127."),
        Mutant("the scale keeps a second dimension",
               {"return q.to(torch.int8), scale": "return q.to(torch.int8), scale[:, None]"},
               "scale is (M,), one number for each row: use keepdim only for the division."),
        Mutant("tiny rows are flushed", {"amax(dim=1)": "amax(dim=1).clamp(min=1e-5)"}, TINY),
        Mutant("a row of zeros gets scale 1",
               {"return q.to(torch.int8), scale": "return q.to(torch.int8), torch.where(scale == 0, 1, scale)"}, ZERO),
        Mutant("a row with Inf gets scale Inf",
               {"torch.where(amax.isfinite(), amax / 127, torch.nan)": "amax / 127"}, INF),
        Mutant("a row with NaN or Inf gets scale 0", {"torch.nan)": "0.0)"},
               "Scale 0 would hide that something went wrong: NaN shows it, in this row and only there."),
        Mutant("divided by 256", {"amax / 127": "amax / 256"}, BY_127),
        Mutant("divided by 255", {"amax / 127": "amax / 255"}, BY_127),
        Mutant("a small number added to the scale", {"amax / 127, torch.nan)": "amax / 127 + 1e-8, torch.nan)"}, TINY),
        Mutant("a small number added to amax", {"amax / 127, torch.nan)": "(amax + 1e-8) / 127, torch.nan)"}, TINY),
        Mutant("a maximum for each column", {"amax(dim=1)": "amax(dim=0)"},
               "Each row has a scale of its own: amax(dim=1) looks along the row."),
        Mutant("the mean of |x|, not its maximum", {"x.abs().amax(dim=1)": "x.abs().mean(dim=1)"},
               "The scale must fit the largest magnitude of the row: amax, or large numbers are cut off."),
        Mutant("rounded before the division", {"(x / scale[:, None]).round()": "(x.round() / scale[:, None])"},
               "Divide by the scale first, then round: a code is a whole number of steps."),
        Mutant("codes of 8 bits without sign", {"torch.int8), scale": "torch.uint8), scale"},
               "Codes are signed, from -127 to 127: torch.int8."),
        Mutant("the codes not cast", {"q.to(torch.int8), scale": "q, scale"}, "The codes are INT8: `.to(torch.int8)`."),
        Mutant("always rounded up", {".round()": ".ceil()"}, "The nearest whole number is wanted: .round()."),
        Mutant("codes and scales swapped", {"return q.to(torch.int8), scale": "return scale, q.to(torch.int8)"},
               "The codes come first, then the scales."),
        Mutant("the distance from the smallest to the largest", {"x.abs().amax(dim=1)": "x.amax(dim=1) - x.amin(dim=1)"},
               "Codes lie on both sides of 0, so the scale comes from the largest magnitude: x.abs().amax(dim=1)."),
        Mutant("the codes multiplied by the scale again", {"q.to(torch.int8), scale": "q * scale[:, None], scale"},
               "Return the codes themselves, in INT8: the caller multiplies by the scale."),
    ),
)


def _with_error(M: int, K: int, size: float, error: float, mean: float = 0.0):
    """Rows of sizes from 1 to `size`, and an approximation that is off by 0.15 to 0.6 times `error` and the row's size,
    mostly upwards. None is off by 0 when rounded to FP16: a ratio for each element would be infinite, whatever its mean.
    """
    def inputs(g: torch.Generator) -> dict:
        sizes = torch.linspace(1, size, M)[:, None]
        x = (torch.randn(M, K, generator=g).clamp(-3, 3) + mean) * sizes
        off = (0.15 + 0.45 * torch.rand(M, K, generator=g)) * torch.where(torch.rand(M, K, generator=g) < 0.3, -1, 1)
        return {"x": x.half(), "approximation": (x + off * error * sizes).half()}
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
        Case("one row", _with_error(1, 300, 1, 0.1, mean=0.5)),
    ),
    mutants=(
        Mutant("20 instead of 10", {"10 * math": "20 * math"},
               "20 · log10 is for a ratio of amplitudes; the squares are powers already, so it is 10 · log10."),
        Mutant("10 with norms", {"signal / noise": "(signal / noise) ** 0.5"},
               "A norm is the root of a power: 10 · log10 takes sums of squares, without a root."),
        Mutant("the natural logarithm", {"math.log10": "math.log"}, "Decibels use the logarithm to base 10."),
        Mutant("noise over signal", {"signal / noise": "noise / signal"},
               "Signal over noise: a better approximation has the higher SQNR."),
        Mutant("without squares", {"x.square()": "x.abs()", "(approximation - x).square()": "(approximation - x).abs()"},
               "Power is the square: sum x² and (approximation - x)²."),
        Mutant("the approximation's power as signal",
               {"x.square()": "approximation.square()", "(approximation - x).square()": "(x - approximation).square()"},
               "The signal is x itself, what should have been there."),
        Mutant("a ratio for each element",
               {"10 * math.log10(signal / noise)":
                 "(10 * torch.log10(x.square() / (approximation - x).square())).nanmean().item()"},
               "Sum over all elements first; one ratio, one logarithm."),
        Mutant("a ratio for each element, then their mean",
               {"10 * math.log10(signal / noise)": "10 * math.log10((x.square() / (approximation - x).square()).mean())"},
               "Sum over all elements first: one ratio, one logarithm. Where an element has no error, its ratio is Inf."),
        Mutant("a ratio for each row, then their mean",
               {"x.square().sum()": "x.square().sum(1)", "(approximation - x).square().sum()":
                "(approximation - x).square().sum(1)", "signal / noise": "(signal / noise).mean()"},
               "Sum over all rows first: one ratio, one logarithm."),
        Mutant("decibels for each row, then their mean",
               {"x.square().sum()": "x.square().sum(1)", "(approximation - x).square().sum()":
                "(approximation - x).square().sum(1)",
                "10 * math.log10(signal / noise)": "(10 * torch.log10(signal / noise)).mean().item()"},
               "Sum over all rows first: one ratio, one logarithm."),
        Mutant("squares in FP16",
               {"x.double(), approximation.double()": "x.half(), approximation.half()",
                "10 * math.log10(signal / noise)": "10 * math.log10(signal.double() / noise.double())"},
               "FP16 ends at 65,504, and the square of 300 is past it: use .double() or .float() first."),
        Mutant("in natural units, without decibels", {"10 * math.log10": "math.log10"},
               "Decibels are tenths of the logarithm to base 10: multiply by 10."),
        Mutant("the variance of the error",
               {"signal = x.square().sum()": "signal = x.square().mean()",
                "(approximation - x).square().sum()": "(approximation - x).var(correction=0)"},
               "A variance leaves out the mean of the error, and an error that leans to one side is an error too."),
        Mutant("the square of the sums",
               {"x.square().sum()": "x.sum() ** 2",
                "(approximation - x).square().sum()": "(approximation - x).sum() ** 2"},
               "Square each element, then sum: numbers of both signs must not cancel."),
        Mutant("the peak in place of the power, as in PSNR",
               {"x.square().sum()": "x.abs().max() ** 2",
                "(approximation - x).square().sum()": "(approximation - x).square().mean()"},
               "The signal is the sum of x², not the square of its largest magnitude."),
        Mutant("the largest error in place of the noise's power",
               {"(approximation - x).square().sum()": "(approximation - x).abs().max() ** 2"},
               "The noise is the sum of all squared errors, not the largest alone."),
        Mutant("a mean beside a sum", {"(approximation - x).square().sum()": "(approximation - x).square().mean()"},
               "Take the sum of both, or the mean of both: signal and noise."),
        Mutant("a mean beside a sum, the other way round", {"x.square().sum()\n": "x.square().mean()\n"},
               "Take the sum of both, or the mean of both: signal and noise."),
        Mutant("without the logarithm", {"10 * math.log10(signal / noise)": "(signal / noise).item()"},
               "That is the ratio itself; in decibels it is 10 · log10 of it."),
        Mutant("standard deviations",
               {"x.square().sum()": "x.var()",
                "(approximation - x).square().sum()": "(approximation - x).var()"},
               "A variance leaves out the mean, and an error that leans to one side is an error too: sum the squares."),
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
        Mutant("the variance", {"(low**2 + low * high + high**2) / 3": "(high - low)**2 / 12"},
               "That is the spread around the mean error. An error that is always positive has a mean too, and it counts."),
        Mutant("the square of the mean", {"(low**2 + low * high + high**2) / 3": "((low + high) / 2)**2"},
               "Square first, then take the mean: errors to both sides must not cancel."),
        Mutant("the mean of the two ends", {"(low**2 + low * high + high**2) / 3": "(low**2 + high**2) / 2"},
               "Every error between the ends counts as much as the ends: integrate e² over the interval."),
        Mutant("not divided by the width", {"(low**2 + low * high + high**2) / 3": "(high**3 - low**3) / 3"},
               "A mean is the integral of e² divided by the interval's width, high - low."),
        Mutant("not divided by 3", {"(low**2 + low * high + high**2) / 3": "low**2 + low * high + high**2"},
               "The integral of e² is e³ / 3."),
        Mutant("the width squared over 3", {"(low**2 + low * high + high**2) / 3": "(high - low)**2 / 3"},
               "That holds for an error that starts at 0. Integrate e² from low to high, and divide by high - low."),
        Mutant("the root of it", {"(low**2 + low * high + high**2) / 3": "((low**2 + low * high + high**2) / 3)**0.5"},
               "The mean square is wanted, without a root."),
        Mutant("the sign turned", {"(low**2 + low * high + high**2) / 3": "-(low**2 + low * high + high**2) / 3"},
               "A mean square is positive: divide (high³ - low³) / 3 by high - low, not by low - high."),
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
        Mutant("the scales left out", {"2 * M * K + M * K + 4 * M": "2 * M * K + M * K"},
               "The M scales have to be written too."),
        Mutant("numbers, not bytes", {"2 * M * K + M * K + 4 * M": "2 * M * K + M"},
               "Count bytes: two for each FP16 number, one for each code, four for each scale."),
        Mutant("scales of two bytes", {"4 * M": "2 * M"}, "The scales are FP32: four bytes each."),
        Mutant("one scale in all", {"4 * M": "4"}, "There is a scale for each of the M rows."),
        Mutant("a scale for each number", {"4 * M": "4 * M * K"}, "The K numbers of a row share one scale."),
        Mutant("only x counted", {"2 * M * K + M * K + 4 * M": "2 * M * K"}, "The codes and scales have to be written."),
        Mutant("x left out", {"2 * M * K + M * K": "M * K"}, "x has to be read: two bytes an element."),
        Mutant("codes of two bytes", {"2 * M * K + M * K": "2 * M * K + 2 * M * K"}, "An INT8 code takes one byte."),
        Mutant("x of one byte", {"2 * M * K + M * K": "M * K + M * K"}, "x is FP16: two bytes an element."),
        Mutant("2 · M · K too many: x read twice, or four bytes for each number of x",
               {"2 * M * K + M * K": "2 * 2 * M * K + M * K"},
               "x is FP16, two bytes a number; and the least is to read it once and keep the row on the chip until its "
               "maximum is known."),
    ),
)

EXERCISES = [QUANTIZE_TORCH, SQNR, UNIFORM, QUANTIZE_BYTES]
