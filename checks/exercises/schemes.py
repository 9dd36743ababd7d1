"""Lesson 11: SmoothQuant folded into a norm, zero points, and scales that clip."""

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant

LESSON = "11_real_stack"
U = 2.0**-24


def norm_and_layers(N: int, K: int, alpha: float, outlier: float = 30.0, dead: bool = False):
    """A norm's weight, of both signs, and the rows of several layers; channel K // 3 is large. `dead`: two that are 0."""
    def inputs(g: torch.Generator) -> dict:
        x_amax = 0.5 + torch.rand(K, generator=g) * 4
        x_amax[K // 3] *= outlier
        w = torch.randn(N, K, generator=g) * (0.5 + torch.rand(K, generator=g))
        if dead:
            x_amax[0], w[:, 1] = 0, 0
        norm = (0.5 + torch.rand(K, generator=g)) * (1 - 2 * torch.randint(0, 2, (K,), generator=g))
        return {"norm_weight": norm.half(), "w": w.half(), "x_amax": x_amax, "alpha": alpha}
    return inputs


def exact_folding(norm_weight, w, x_amax, alpha) -> tuple[Expected, Expected]:
    """In float64. FP32's pow errs by 16 units at most on a GPU (CUDA's table of functions), the rest by one each."""
    x_amax, w_amax = x_amax.double(), w.double().abs().amax(dim=0)
    s = torch.ones_like(x_amax)
    used = (x_amax > 0) & (w_amax > 0)
    s[used] = torch.exp(alpha * x_amax[used].log() - (1 - alpha) * w_amax[used].log())
    norm, columns = norm_weight.double() / s, w.double() * s
    return (Expected(norm, 40 * U * norm.abs(), torch.float32), Expected(columns, 40 * U * columns.abs(), torch.float32))


FOLD = Exercise(
    name="fold_smoothing",
    lesson=LESSON,
    points=2,
    outputs=("norm_weight", "w"),
    oracle=exact_folding,
    cases=(
        Case("α = 0.5, w (12, 10)", norm_and_layers(12, 10, 0.5)),
        Case("α = 0.8, w (5, 7)", norm_and_layers(5, 7, 0.8)),
        Case("channels that are always 0", norm_and_layers(6, 8, 0.5, dead=True)),
        Case("α = 0: w alone decides", norm_and_layers(4, 6, 0.0)),
    ),
    mutants=(
        Mutant("the norm is multiplied", {"norm_weight.float() / s": "norm_weight.float() * s"},
               "x is to become smaller where it is large: the norm's weight is divided by s, and w multiplied."),
        Mutant("w is divided", {"w.float() * s": "w.float() / s"}, "(x / s) · (w · s) is the same product: w times s."),
        Mutant("the largest of each row", {"amax(dim=0)": "amax(dim=1).amax().expand(w.shape[1])"},
               "s has a factor for each channel, a column of w: amax over the rows, dim=0."),
        Mutant("without the magnitude", {".abs().amax(dim=0)": ".amax(dim=0)"}, "The largest magnitude: `.abs()` first."),
        Mutant("α for w", {", alpha)\n": ", 1 - alpha)\n"}, "α is x's exponent: hand it on as it is."),
        Mutant("w left as it was", {"w.float() * s": "w.float()"}, "The factor must come back in w: w · s."),
    ),
)


def rows_above(M: int, K: int, low: float, high: float):
    """Rows of numbers spread from `low` to `high`, each row times a power of two; the ends are there."""
    def inputs(g: torch.Generator) -> dict:
        x = low + (high - low) * torch.rand(M, K, generator=g)
        x[:, 0], x[:, -1] = high, low
        return {"x": x * 2.0 ** torch.randint(-3, 3, (M, 1), generator=g)}
    return inputs


def zeros(M: int, K: int):
    def inputs(g: torch.Generator) -> dict:
        x = torch.randn(M, K, generator=g)
        x[0] = 0
        return {"x": x}
    return inputs


def exact_asymmetric(x: torch.Tensor) -> tuple[Expected, Expected, Expected]:
    """In float64. A quotient below 256 errs by 2⁻¹⁴: so near to a tie the zero point, or a code, may be the neighbour.
    A code moves with its zero point."""
    x = x.double()
    low, high = x.amin(dim=1).clamp(max=0), x.amax(dim=1).clamp(min=0)
    scale = (high - low) / 255
    step = torch.where(scale > 0, scale, 1)
    middle, quotient = -128 - low / step, x / step[:, None]
    middle = torch.where(scale > 0, middle, 0)

    def near(value):
        return ((value - value.floor() - 0.5).abs() < 2.0**-14).double()

    zero = middle.round()
    q = (quotient.round() + zero[:, None]).clamp(-128, 127)
    return (Expected(q, near(quotient) + near(middle)[:, None], torch.int8),
            Expected(scale, 4 * U * scale + 1e-40, torch.float32), Expected(zero, near(middle), torch.int32))


ASYMMETRIC = Exercise(
    name="quantize_asymmetric",
    lesson=LESSON,
    points=2,
    outputs=("q", "scale", "zero"),
    oracle=exact_asymmetric,
    cases=(
        Case("mostly positive, M=3 K=40", rows_above(3, 40, -0.28, 9.0)),
        Case("all positive, M=2 K=30", rows_above(2, 30, 2.0, 5.0)),
        Case("all negative, M=2 K=30", rows_above(2, 30, -6.0, -1.0)),
        Case("a row of zeros among others", zeros(9, 25)),
    ),
    mutants=(
        Mutant("0 may lie outside", {"x.amin(dim=1).clamp(max=0), x.amax(dim=1).clamp(min=0)":
               "x.amin(dim=1), x.amax(dim=1)"},
               "0 must have a code of its own, for padding and masks: the range always holds it, `.clamp(max=0)` and "
               "`.clamp(min=0)`."),
        Mutant("symmetric", {"x.amin(dim=1).clamp(max=0), x.amax(dim=1).clamp(min=0)":
               "-x.abs().amax(dim=1), x.abs().amax(dim=1)"},
               "The range is from the row's least to its largest number, not from -amax to amax."),
        Mutant("256 steps", {"(high - low) / 255\n    step": "(high - low) / 256\n    step"},
               "256 codes have 255 steps between them."),
        Mutant("zero with the wrong sign", {"(-128 - low / step)": "(-128 + low / step)"},
               "low must become code -128: zero = -128 - low / scale."),
        Mutant("low is subtracted before rounding",
               {"((x / step[:, None]).round() + zero[:, None])":
                "((x - low[:, None]) / step[:, None] - 128).round()"},
               "Round x / scale by itself and add the rounded zero: q = round(x / scale) + zero. So 0 comes back as 0."),
        Mutant("zero is not rounded", {"(-128 - low / step).round()": "(-128 - low / step).trunc()"},
               "Round to the nearest: `.round()`."),
        Mutant("codes from 0 on", {"(-128 - low / step)": "(-low / step)"},
               "INT8 codes go from -128 to 127: low is -128."),
        Mutant("codes from 0 to 255", {"(-128 - low / step)": "(-low / step)", "clamp(-128, 127)": "clamp(0, 255)"},
               "INT8 codes go from -128 to 127, and .to(torch.int8) makes -1 of 255: low is -128."),
        Mutant("a row of zeros has a zero point",
               {"torch.where(scale > 0, (-128 - low / step).round(), 0)": "(-128 - low / step).round()"},
               "Where the scale is 0, zero and all codes are 0."),
        Mutant("codes are cut off", {"(x / step[:, None]).round()": "(x / step[:, None]).trunc()"},
               "Round to the nearest code: `.round()`."),
        Mutant("zero is subtracted", {".round() + zero": ".round() - zero"},
               "x / scale + zero: dequantizing subtracts it."),
        Mutant("one range for all rows",
               {"x.amin(dim=1).clamp(max=0), x.amax(dim=1).clamp(min=0)":
               "(x.amin().clamp(max=0).expand(len(x)), x.amax().clamp(min=0).expand(len(x)))"},
               "Each row has a range of its own: dim=1."),
    ),
)


def zero_points(M: int, N: int, K: int):
    def inputs(g: torch.Generator) -> dict:
        return {"x_q": torch.randint(-128, 128, (M, K), generator=g, dtype=torch.int8),
                "x_scale": (0.5 + torch.rand(M, generator=g)) / 50,
                "x_zero": torch.randint(-128, 128, (M,), generator=g, dtype=torch.int32),
                "w_q": torch.randint(-127, 128, (N, K), generator=g, dtype=torch.int8),
                "w_scale": (0.5 + torch.rand(N, generator=g)) / 50}
    return inputs


def exact_corrected(x_q, x_scale, x_zero, w_q, w_scale) -> tuple[Expected]:
    """Zero points taken off first; sums are whole and below 2²⁴, two FP32 products follow."""
    acc = (x_q.double() - x_zero.double()[:, None]) @ w_q.double().T
    y = acc * x_scale.double()[:, None] * w_scale.double()
    return (Expected(y, 4 * U * y.abs() + 1e-30, torch.float32),)


_SUMS = "Σ_k zero · w_q[n, k] = zero · Σ_k w_q[n, k]: the sum of row n of w, times the zero point of row m."

CORRECTED = Exercise(
    name="matmul_asymmetric",
    lesson=LESSON,
    points=2,
    outputs=("y",),
    oracle=exact_corrected,
    cases=(Case("M=3 N=5 K=40", zero_points(3, 5, 40)), Case("M=1 N=2 K=7", zero_points(1, 2, 7)),
           Case("M=4 N=4 K=300", zero_points(4, 4, 300))),
    mutants=(
        Mutant("no correction", {"acc = acc - x_zero[:, None] * w_sums[None, :]\n": "\n"},
               "The codes are shifted by x_zero, and so is each product: subtract x_zero[m] · Σ_k w_q[n, k]."),
        Mutant("added", {"acc - x_zero": "acc + x_zero"}, "(x_q - zero) · w: the zero point's part is subtracted."),
        Mutant("the zero point alone", {"x_zero[:, None] * w_sums[None, :]": "x_zero[:, None]"}, _SUMS),
        Mutant("the sums of x", {"w_q.sum(dim=1, dtype=torch.int32)": "x_q.sum(dim=1, dtype=torch.int32)",
                                  "w_sums[None, :]": "w_sums[:, None]"}, _SUMS),
        Mutant("sums in INT8", {"w_q.sum(dim=1, dtype=torch.int32)": "w_q.sum(dim=1, dtype=torch.int8)"},
               "The sum of a row does not fit into eight bits: dtype=torch.int32."),
        Mutant("after the scales", {"    acc = acc - x_zero[:, None] * w_sums[None, :]\n": "", "w_scale[None, :]\n":
               "w_scale[None, :] - x_zero[:, None] * w_sums[None, :]\n"},
               "zero and the sums of w are in codes, as acc is: subtract before the scales, or scale both."),
    ),
)


def tailed(n: int, outlier: float, largest: int, parts: int):
    def inputs(g: torch.Generator) -> dict:
        x = torch.randn(n, generator=g)
        x[n // 3] = -outlier
        return {"x": x.reshape(n // 10, 10), "largest": largest, "parts": parts}
    return inputs


def tied(g: torch.Generator) -> dict:
    """Codes -1 to 1: the larger scale turns the smaller number into 0, the smaller scale clips the larger to its half."""
    return {"x": torch.tensor([[4.0, -2.0]]), "largest": 1, "parts": 2}


def best_of_all(x: torch.Tensor, largest: int, parts: int) -> tuple[Expected]:
    """Each candidate's error, the largest scale first. In FP32 a scale is rounded three times."""
    best = None
    for i in range(parts, 0, -1):
        scale = float(x.double().abs().max()) * i / parts / largest
        error = float(((x.double() / scale).round().clamp(-largest, largest).mul(scale) - x.double()).pow(2).sum())
        if best is None or error < best[0]:
            best = error, scale
    assert best is not None
    return (Expected(best[1], 3 * 2.0**-24 * best[1]),)


CLIPPED = Exercise(
    name="clipped_scale",
    lesson=LESSON,
    points=2,
    oracle=best_of_all,
    cases=(Case("INT4, an outlier of 12, 20 parts", tailed(600, 12.0, 7, 20)),
           Case("INT4, normal numbers, 16 parts", tailed(200, 3.0, 7, 16)),
           Case("INT8, an outlier of 40, 64 parts", tailed(2000, 40.0, 127, 64)),
           Case("one candidate", tailed(100, 5.0, 127, 1)), Case("two scales with the same error", tied)),
    mutants=(
        Mutant("no clipping", {"scales[int(torch.stack(errors).argmin())]": "scales[0]"},
               "amax / largest is one candidate: take the one with the least mean square error of x, not of codes, whose "
               "errors are smallest where a step is largest."),
        Mutant("codes are not clamped", {".clamp(-largest, largest)": ""},
               "Numbers beyond the clip get the last code: without the clamp a smaller scale always looks better."),
        Mutant("amax is no candidate", {"range(parts, 0, -1)": "range(parts - 1, 0, -1)", "return float(":
               "return 0.0 if not scales else float("},
               "i goes from 1 to parts, parts included: without clipping is a candidate too."),
        Mutant("the smaller scale wins a tie", {"range(parts, 0, -1)": "range(1, parts + 1)"},
               "Of two scales with the same error take the larger one: it clips less."),
        Mutant("magnitudes instead of squares", {".square()": ".abs()"}, "The mean *square* error."),
        Mutant("the clip itself", {"return float(scales[int(torch.stack(errors).argmin())])":
               "return float(scales[int(torch.stack(errors).argmin())]) * largest"},
               "Wanted is the scale, the clip over the largest code."),
        Mutant("without the magnitude", {"x.abs().amax()": "x.amax()"}, "amax is the largest magnitude: `.abs()`."),
        Mutant("8 bits always", {"/ parts / largest": "/ parts / 127"}, "The largest code is `largest`: 7 for INT4."),
    ),
)

EXERCISES = [FOLD, ASYMMETRIC, CORRECTED, CLIPPED]
