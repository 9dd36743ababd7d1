"""Lesson 06: the error of INT8 in numbers and in products, and what to do about outliers."""

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers


def error_by_each_term(K: int, x_rms: float, w_rms: float, x_scale: float, w_scale: float) -> tuple[Expected]:
    """Step by step: (x + e)(w + f) - x w = e w + x f + e f. The three are uncorrelated, so their mean squares add up, and
    so do those of the K products. A uniform error over one step has the mean square step² / 12."""
    e, f = (scale * scale / 12 for scale in (x_scale, w_scale))
    std = (K * e * w_rms**2 + K * f * x_rms**2 + K * e * f) ** 0.5
    return (Expected(std, 1e-9 * std),)


_SUM = "K * (x_variance * w_rms**2 + x_rms**2 * w_variance + x_variance * w_variance)"

PRODUCT_ERROR = Exercise(
    name="product_error_std",
    lesson="06_error",
    points=2,
    oracle=error_by_each_term,
    cases=(
        numbers(K=2048, x_rms=1.0, w_rms=0.02, x_scale=0.03, w_scale=0.0006),
        numbers(K=100, x_rms=2.0, w_rms=3.0, x_scale=0.5, w_scale=0.25),
        numbers(K=1, x_rms=1.0, w_rms=1.0, x_scale=2.0, w_scale=1.0),
        numbers(K=16, x_rms=0.5, w_rms=4.0, x_scale=0.0, w_scale=0.125),
    ),
    mutants=(
        Mutant("grows with K, not with its root", {f"({_SUM}) ** 0.5": f"K * {_SUM.removeprefix('K * ')} ** 0.5"},
               "The K errors are independent and of both signs, so their squares add up: K belongs under the root."),
        Mutant("the error of one term alone", {"K * (": "("}, "A product is a sum of K terms, each with an error."),
        Mutant("the variance", {f"({_SUM}) ** 0.5": _SUM}, "A standard deviation is the root of the variance."),
        Mutant("the rounding of w left out", {" + x_rms**2 * w_variance + x_variance * w_variance": ""},
               "w is rounded too: each term also errs by x times the error of w."),
        Mutant("the rounding of x left out",
               {"x_variance * w_rms**2 + x_rms**2 * w_variance + x_variance * w_variance": "x_rms**2 * w_variance"},
               "x is rounded too: each term also errs by the error of x times w."),
        Mutant("the product of the two errors left out", {" + x_variance * w_variance": ""},
               "(x + e)(w + f) - x w has three terms: e w, x f and e f. The last is small, but not zero."),
        Mutant("the two deviations added", {f"({_SUM}) ** 0.5": "(K * x_variance) ** 0.5 * w_rms + "
                                             "x_rms * (K * w_variance) ** 0.5"},
               "Independent errors add up by their squares: add variances, then take one root."),
        Mutant("the three deviations added", {f"({_SUM}) ** 0.5": "K**0.5 * (x_variance**0.5 * w_rms + "
                                               "w_variance**0.5 * x_rms + (x_variance * w_variance) ** 0.5)"},
               "Independent errors add up by their squares: add variances, then take one root."),
        Mutant("the error of x times x", {"x_variance * w_rms**2 + x_rms**2 * w_variance":
                                           "x_variance * x_rms**2 + w_rms**2 * w_variance"},
               "The error of x is multiplied with w, and the error of w with x."),
        Mutant("an error of a whole step", {"x_scale**2 / 12": "x_scale**2", "w_scale**2 / 12": "w_scale**2"},
               "A rounding error lies within half a step, every value equally likely: its mean square is step² / 12."),
        Mutant("an error of half a step", {"x_scale**2 / 12": "x_scale**2 / 4", "w_scale**2 / 12": "w_scale**2 / 4"},
               "Half a step is the largest error; the mean square of a uniform one is step² / 12."),
        Mutant("the errors of truncation", {"x_scale**2 / 12": "x_scale**2 / 3", "w_scale**2 / 12": "w_scale**2 / 3"},
               "1/3 belongs to truncation. Rounding is off by half a step to either side: 1/12."),
        Mutant("the root mean squares not squared",
               {"x_variance * w_rms**2 + x_rms**2 * w_variance": "x_variance * w_rms + x_rms * w_variance"},
               "The mean square of e · w is the mean square of e times that of w: w_rms², and x_rms² likewise."),
        Mutant("the scale not squared", {"x_scale**2 / 12": "x_scale / 12", "w_scale**2 / 12": "w_scale / 12"},
               "The mean square of an error is measured in steps squared: scale² / 12."),
    ),
)


def uneven(M: int, K: int, rows: int, columns: int, dtype: torch.dtype = torch.float16):
    """Numbers whose size changes from row to row and from column to column, so every block wants a scale of its own."""
    def inputs(g: torch.Generator) -> dict:
        sizes = 2.0 ** (torch.randint(-4, 5, (M, 1), generator=g) + torch.randint(-3, 4, (1, K), generator=g))
        return {"x": (torch.randn(M, K, generator=g) * sizes).to(dtype), "rows": rows, "columns": columns}
    return inputs


def with_zeros(M: int, K: int, rows: int, columns: int):
    """The first block is zero, and so is one row of the last."""
    def inputs(g: torch.Generator) -> dict:
        made = uneven(M, K, rows, columns)(g)
        made["x"][:rows, :columns] = 0
        made["x"][-1] = 0
        return made
    return inputs


def tiny(M: int, K: int, rows: int, columns: int):
    """As `uneven`, in numbers of 2⁻¹⁰⁰, below any bound that somebody may put under a scale."""
    def inputs(g: torch.Generator) -> dict:
        made = uneven(M, K, rows, columns, torch.float32)(g)
        return made | {"x": made["x"] * 2.0**-100}
    return inputs


def exact_blocks(x: torch.Tensor, rows: int, columns: int) -> tuple[Expected]:
    """Block after block in float64. FP32 errs by a few 2⁻²⁴ of the quotient, at most 127: only nearer than 2⁻¹⁴ to a tie
    may the code be the neighbour, one scale away; elsewhere the result errs by 2⁻²² of itself."""
    x = x.double()
    want, tolerance = torch.zeros_like(x), torch.zeros_like(x)
    for m in range(0, x.shape[0], rows):
        for k in range(0, x.shape[1], columns):
            block = x[m:m + rows, k:k + columns]
            amax = block.abs().max()
            quotient = 127 * block / amax if amax else block
            near = (quotient - quotient.floor() - 0.5).abs() <= 2.0**-14
            want[m:m + rows, k:k + columns] = quotient.round() * amax / 127
            tolerance[m:m + rows, k:k + columns] = torch.where(near, 1.001, 127 * 2.0**-22) * amax / 127
    return (Expected(want, tolerance, torch.float32),)


_BLOCKS = "x.float().reshape(M // rows, rows, K // columns, columns)"
_AMAX = "amax(dim=(1, 3), keepdim=True)"
_AS_IT_IS = ("Add nothing to the scale, and put no bound below it: where it is 0 the codes are 0, and elsewhere it must "
             "stay as it is.")

FAKE_QUANTIZE = Exercise(
    name="fake_quantize_int8",
    lesson="06_error",
    points=2,
    oracle=exact_blocks,
    cases=(
        Case("a scale for each row, 1 x 96", uneven(6, 96, 1, 96)),
        Case("one scale, 6 x 96", uneven(6, 96, 6, 96)),
        Case("a scale for each channel, 6 x 1", uneven(6, 96, 6, 1)),
        Case("groups of 32 in each row, 1 x 32", uneven(6, 96, 1, 32)),
        Case("blocks of 3 x 24", uneven(6, 96, 3, 24, torch.float32)),
        Case("a block of zeros, 2 x 8", with_zeros(6, 48, 2, 8)),
        Case("tiny numbers, 2 x 16", tiny(4, 32, 2, 16)),
    ),
    mutants=(
        Mutant("one scale for the whole tensor", {_AMAX: "amax().reshape(1, 1, 1, 1)"},
               "Each block has an amax of its own: take the maximum over the two axes inside a block, and keep the others."),
        Mutant("a scale for each row of a block", {_AMAX: "amax(dim=3, keepdim=True)"},
               "A block shares one scale: the maximum goes over its rows too, dim=(1, 3)."),
        Mutant("a scale for each column of a block", {_AMAX: "amax(dim=1, keepdim=True)"},
               "A block shares one scale: the maximum goes over its columns too, dim=(1, 3)."),
        Mutant("a scale for each row of x", {_AMAX: "amax(dim=(2, 3), keepdim=True)"},
               "After the reshape, axes 1 and 3 run inside a block: the maximum goes over those."),
        Mutant("the blocks are cut from the flat row of elements",
               {_BLOCKS: "x.float().reshape(M // rows, K // columns, rows, columns)",
                _AMAX: "amax(dim=(2, 3), keepdim=True)"},
               "A reshape keeps the order of the elements, so each axis must be split where it stands: "
               "(M // rows, rows, K // columns, columns)."),
        Mutant("the maximum of x, not of |x|", {"blocks.abs().amax": "blocks.amax"},
               "The largest magnitude may belong to a negative number: take the maximum of |x|."),
        Mutant("the codes, not what they stand for", {"(q * scale)": "q"}, "Multiply the codes by the scale again."),
        Mutant("truncation", {".round()": ".trunc()"}, "The nearest code is wanted: .round()."),
        Mutant("not rounded", {".round()": ""}, "Without rounding nothing is lost: q has to be a whole number."),
        Mutant("divided by 128", {"=True) / 127": "=True) / 128"},
               "The largest magnitude becomes the code 127: scale = amax / 127."),
        Mutant("a block of zeros becomes NaN", {"torch.where(scale > 0, blocks / scale, 0)": "(blocks / scale)"},
               "0 / 0 is NaN. Where the scale is 0, the codes are 0: torch.where(scale > 0, ..., 0)."),
        Mutant("a block of zeros gets the scale 1 for all", {"torch.where(scale > 0, blocks / scale, 0)":
                                                            "(blocks / (scale + 1))"}, _AS_IT_IS),
        Mutant("a small number added to the scale, or a bound below it",
               {"torch.where(scale > 0, blocks / scale, 0)": "(blocks / (scale + 1e-8))"}, _AS_IT_IS),
        Mutant("a larger number added to the scale",
               {"torch.where(scale > 0, blocks / scale, 0)": "(blocks / (scale + 1e-5))"}, _AS_IT_IS),
        Mutant("all of it in FP16", {_BLOCKS: _BLOCKS.replace("x.float()", "x"),
                                     "(q * scale).reshape(M, K)": "(q * scale).reshape(M, K).float()"},
               "FP16 has 11 bits: rounding here adds an error of its own. Start from x.float()."),
        Mutant("the blocks' axes swapped",
               {"reshape(M // rows, rows, K // columns, columns)": "reshape(rows, M // rows, columns, K // columns)"},
               "The reshape splits M into M // rows blocks of `rows` neighbours: (M // rows, rows, K // columns, "
               "columns)."),
        Mutant("the result keeps four dimensions", {"(q * scale).reshape(M, K)": "q * scale"},
               "The result is (M, K) as x is: reshape it back."),
        Mutant("divided by 255", {"=True) / 127": "=True) / 255"},
               "The largest magnitude becomes the code 127: scale = amax / 127."),
        Mutant("divided by 256", {"=True) / 127": "=True) / 256"},
               "The largest magnitude becomes the code 127: scale = amax / 127."),
        Mutant("the mean of |x|, not its maximum", {"blocks.abs().amax(dim": "blocks.abs().mean(dim"},
               "The scale must fit the largest magnitude of the block: amax."),
        Mutant("always rounded down", {".round()": ".floor()"}, "The nearest code is wanted: .round()."),
        Mutant("the blocks are put together in another order",
               {"(q * scale).reshape(M, K)": "(q * scale).permute(0, 2, 1, 3).reshape(M, K)"},
               "Turn the axes back before the last reshape: (M // rows, rows, K // columns, columns)."),
    ),
)


def channels(M: int, K: int, sizes: tuple[float, ...], error: float):
    """Channels of several sizes, and an approximation that is off by up to `error`, mostly upwards, in all alike."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.randn(M, K, generator=g) * torch.tensor(sizes).repeat(K)[:K]
        return {"x": x.half(), "approximation": x + (torch.rand(M, K, generator=g) - 0.2) * error}
    return inputs


def exact_channel_sqnr(x: torch.Tensor, approximation: torch.Tensor) -> tuple[Expected]:
    """FP32 sums of a few hundred squares err by less than 2⁻¹⁴ of themselves: 0.0003 dB, signal and noise alike."""
    columns = zip(x.double().T, approximation.double().T, strict=True)
    value = torch.tensor([10 * ((a @ a) / ((b - a) @ (b - a))).log10() for a, b in columns], dtype=torch.float64)
    return (Expected(value, 0.001, torch.float64),)


CHANNEL_SQNR = Exercise(
    name="sqnr_db_per_channel",
    lesson="06_error",
    points=1,
    oracle=exact_channel_sqnr,
    cases=(
        Case("all of one size, M=100 K=7", channels(100, 7, (1.0,), 0.1)),
        Case("one channel 100 times larger, M=50 K=50", channels(50, 50, (1.0,) * 9 + (100.0,), 0.5)),
        Case("large numbers, M=20 K=30", channels(20, 30, (500.0, 3000.0), 40.0)),
    ),
    mutants=(
        Mutant("a ratio for each row",
               {"signal = x.square().sum(dim=0)": "signal = x.square().sum(dim=1)",
                "(approximation - x).square().sum(dim=0)": "(approximation - x).square().sum(dim=1)"},
               "A channel is a column of x: sum over the rows, dim=0."),
        Mutant("the noise of the whole tensor", {"(approximation - x).square().sum(dim=0)":
                                                  "(approximation - x).square().sum()"},
               "Each channel is compared with its own noise: sum(dim=0)."),
        Mutant("the mean of the elements' ratios",
               {"10 * torch.log10(signal / noise)":
                 "(10 * torch.log10(x.square() / (approximation - x).square())).nanmean(dim=0)"},
               "Sum the squares of the channel first; one ratio and one logarithm for each channel."),
        Mutant("noise over signal", {"signal / noise": "noise / signal"}, "More is better: signal over noise."),
        Mutant("the approximation's power as signal",
               {"signal = x.square()": "signal = approximation.square()"},
               "The signal is x itself, what should have been there."),
        Mutant("20 instead of 10", {"10 * torch": "20 * torch"}, "The squares are powers already: 10 · log10."),
        Mutant("the variance of the error", {"signal = x.square().sum(dim=0)": "signal = x.square().mean(dim=0)",
                                             "(approximation - x).square().sum(dim=0)":
                                              "(approximation - x).var(dim=0, correction=0)"},
               "A variance leaves out the mean of the error, and an error that leans to one side is an error too."),
        Mutant("one number for all channels",
               {"signal = x.square().sum(dim=0)": "signal = x.square().sum()",
                "(approximation - x).square().sum(dim=0)": "(approximation - x).square().sum()"},
               "Each channel, a column of x, has a ratio of its own: sum(dim=0)."),
        Mutant("the natural logarithm", {"torch.log10": "torch.log"},
               "Decibels use the logarithm to base 10: torch.log10."),
        Mutant("in natural units, without decibels", {"10 * torch.log10": "torch.log10"},
               "Decibels are tenths of the logarithm to base 10: multiply by 10."),
        Mutant("without squares", {"x.square()": "x.abs()", "(approximation - x).square()": "(approximation - x).abs()"},
               "Power is the square: sum x² and (approximation - x)²."),
        Mutant("the square of the sums",
               {"x.square().sum(dim=0)": "x.sum(dim=0) ** 2",
                "(approximation - x).square().sum(dim=0)": "(approximation - x).sum(dim=0) ** 2"},
               "Square each element, then sum: numbers of both signs must not cancel."),
        Mutant("a mean beside a sum",
               {"(approximation - x).square().sum(dim=0)": "(approximation - x).square().mean(dim=0)"},
               "Take the sum of both, or the mean of both: signal and noise."),
    ),
)

EXERCISES = [PRODUCT_ERROR, FAKE_QUANTIZE, CHANNEL_SQNR]
