"""Lesson 07: RMSNorm that writes INT8 codes."""

import torch

from checks.exercises import quantize
from checks.judge.exercise import Case, Exercise, Expected, Mutant

U = 2.0**-24  # the most that one FP32 operation is off, of its result


def exact_codes(y: torch.Tensor, code_error: float, scale_error: torch.Tensor | float) -> tuple[Expected, Expected]:
    """Codes and scales of y, float64, when y / amax errs by `code_error` of itself and the scale by `scale_error`.

    A code may be the neighbour where the quotient, at most 127, lies so near to a tie. The codes of a row that holds NaN or
    Inf are free, its scale is NaN.
    """
    amax = y.abs().amax(dim=1)
    scale = torch.where(amax.isfinite(), amax / 127, torch.nan)
    quotient = torch.where(scale[:, None] > 0, y / scale[:, None], 0)
    near = (quotient - quotient.floor() - 0.5).abs() <= 127 * code_error
    tolerance = torch.where(near, 1.0, 0.0)
    tolerance[~amax.isfinite()] = 255.0
    return (Expected(quotient.round(), tolerance, torch.int8),
            Expected(scale, scale_error * scale + 1e-40, torch.float32))


def exact_rmsnorm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[Expected, Expected]:
    """In float64. The root is the same for a whole row, so it is not in the codes' error: two divisions that may be off by
    four U on a GPU (PTX ISA, `div.full.f32`), the product by one, for y and for amax; two U for scale and quotient. In the
    scale there is the sum of squares too, half of its error after the root: a square and a division, a block of 256 lanes or
    more added up lane by lane, then as a tree; and the root itself, two U."""
    x = x.double()
    y = x / (x.square().mean(dim=1, keepdim=True) + eps).sqrt() * weight.double()
    return exact_codes(y, 2 * (4 + 1) * U + 2 * U, (x.shape[1] / 256 / 2 + 32) * U)


def norm_inputs(make, eps: float = 1e-6):
    """x as `make` of lesson 04 gives it, and a weight that is large in a column of its own and negative in some."""
    def inputs(g: torch.Generator) -> dict:
        x = make(g)["x"]
        weight = 1 + 0.3 * torch.randn(x.shape[1], generator=g)
        weight[::5] *= -1
        weight[x.shape[1] // 3] = 6.0
        return {"x": x, "weight": weight.half(), "eps": eps}
    return inputs


def sized(M: int, K: int, size: float):
    """Rows of normal numbers of one size."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.randn(M, K, generator=g) * size
        return {"x": (x + size / 4).half()}  # with a mean, which RMSNorm keeps
    return inputs


def largest_last(M: int, K: int):
    """Rows whose last number is by far the largest: what was seen before it does not tell the scale."""
    def inputs(g: torch.Generator) -> dict:
        x = sized(M, K, 1.0)(g)["x"]
        x[:, -1] = 200
        return {"x": x}
    return inputs


def with_zeros(K: int):
    """A row of zeros between two others."""
    def inputs(g: torch.Generator) -> dict:
        x = sized(3, K, 1.0)(g)["x"]
        x[1] = 0
        return {"x": x}
    return inputs


def norm_bytes(x: torch.Tensor, weight: torch.Tensor, eps: float) -> int:
    M, K = x.shape
    return 2 * M * K + 2 * K + M * K + 4 * M


MASK = "BLOCK_K is a power of two and K need not be: load and store only lanes where `offs_k < K`."
STORE_MASK = "After a row's K codes come those of the next row: store only where `offs_k < K`."
_GARBAGE = "Lanes that a mask turns off hold anything at all, and here they are summed: load with `other=0.0`."
WIDEN = "m times a stride can pass 2³¹, where 32-bit numbers wrap around: keep the given `.to(tl.int64)`."
SCALE_M = "Program m owns scale[m]: store at scale_ptr + m."
_EPS = "eps is added to the mean square, under the root: it keeps a row of zeros from a division by 0."
_EPS_OUTSIDE = "eps belongs under the root: sqrt(mean square + eps). Outside, it changes rows of small numbers."
_MEAN = "The mean is over the row's K numbers; the other lanes of the block only hold zeros."
_WEIGHT_LATE = "y has the weight in it, so amax must see it: multiply before the maximum."
FP16 = ("y stays in FP32 until it becomes a code. Rounding it to FP16 first is what separate kernels have to do; it moves "
         "the scale by up to 0.05 %.")
NEGATIVE = "The largest magnitude may belong to a negative number: finite_or_inf(y) is |y| too."
_LAYERNORM = "RMSNorm does not subtract the mean: only the mean of the squares counts."
UNSEEN = "A maximum on the GPU passes over NaN: `finite_or_inf` turns it into Inf, which a maximum keeps."
_FP16_SQUARES = "FP16 ends at 65,504, and the square of 300 is past it: turn x into FP32 right after the load."

_X_LOAD = "x_ptr + m * stride_xm + offs_k, mask=mask_k, other=0.0"
_W_LOAD = "weight_ptr + offs_k, mask=mask_k, other=0.0"
AMAX = "tl.max(finite_or_inf(y), axis=0)"

RMSNORM_PLAIN = Exercise(
    name="rmsnorm_quantize_int8_plain_kernel",
    lesson="07_fused",
    wrapper="rmsnorm_quantize_int8_plain",
    outputs=("q", "scale"),
    points=5,
    least_bytes=norm_bytes,
    oracle=exact_rmsnorm,
    cases=(
        Case("normal, M=3 K=300", norm_inputs(quantize.normal(3, 300))),
        Case("a power of two, M=1 K=256", norm_inputs(sized(1, 256, 1.0))),
        Case("squares past FP16, M=2 K=130", norm_inputs(sized(2, 130, 400.0))),
        Case("small numbers, where eps counts, M=2 K=129", norm_inputs(sized(2, 129, 2.0**-9), eps=1e-5)),
        Case("a row of zeros, K=127", norm_inputs(with_zeros(127))),
        Case("NaN and Inf, K=127", norm_inputs(quantize.not_finite(127))),
        Case("rows of a wider matrix, M=2 K=100", norm_inputs(quantize.rows_of_a_wider_matrix(2, 100))),
        Case("rows 2^30 elements apart, M=3 K=5", norm_inputs(quantize.far_rows(3, 5))),
    ),
    mutants=(
        Mutant("the scale of x, not of the normed row", {AMAX: "tl.max(finite_or_inf(x), axis=0)"},
               "It is y that is quantized: amax is the largest magnitude of y."),
        Mutant("the codes of x, not of the normed row", {"codes(y, scale)": "codes(x, scale)"},
               "It is y that is quantized: codes(y, scale)."),
        Mutant("x is not divided by the root", {"x / tl.sqrt(mean_square + eps) * weight": "x * weight"},
               "y = x / sqrt(mean square + eps) · weight. (Without the root the codes come out right, but not the scale.)"),
        Mutant("the maximum of y, not of |y|", {AMAX: "tl.max(y, axis=0)"}, NEGATIVE),
        Mutant("the weight left out", {"(mean_square + eps) * weight": "(mean_square + eps)"},
               "After the division each number is multiplied by its channel's weight."),
        Mutant("amax before the weight", {AMAX: "tl.max(finite_or_inf(x / tl.sqrt(mean_square + eps)), axis=0)"},
               _WEIGHT_LATE),
        Mutant("codes before the weight", {"codes(y, scale)": "codes(x / tl.sqrt(mean_square + eps), scale)"},
               "The codes are those of y, with the weight in it."),
        Mutant("eps left out", {"mean_square + eps": "mean_square"}, _EPS),
        Mutant("eps outside the root", {"tl.sqrt(mean_square + eps)": "(tl.sqrt(mean_square) + eps)"}, _EPS_OUTSIDE),
        Mutant("the mean over the whole block", {"axis=0) / K": "axis=0) / BLOCK_K"}, _MEAN),
        Mutant("the sum of squares, not their mean", {"axis=0) / K": "axis=0)"}, "The mean square: divide the sum by K."),
        Mutant("no root", {"tl.sqrt(mean_square + eps)": "(mean_square + eps)"},
               "The root mean square is the root of the mean of the squares: tl.sqrt."),
        Mutant("multiplied by the root", {"x / tl.sqrt": "x * tl.sqrt"}, "A norm divides: large rows become smaller."),
        Mutant("the mean of the magnitudes", {"tl.sum(x * x, axis=0) / K": "tl.sum(tl.abs(x), axis=0) / K",
                                              "tl.sqrt(mean_square + eps)": "(mean_square + eps)"},
               "The mean of the squares is wanted, and then its root."),
        Mutant("the variance, as in LayerNorm",
               {"tl.sum(x * x, axis=0) / K":
                 "tl.sum(x * x, axis=0) / K - (tl.sum(x, axis=0) / K) * (tl.sum(x, axis=0) / K)"},
               _LAYERNORM),
        Mutant("LayerNorm", {"tl.sum(x * x, axis=0) / K":
                              "tl.sum(x * x, axis=0) / K - (tl.sum(x, axis=0) / K) * (tl.sum(x, axis=0) / K)",
                             "y = x / ": "y = (x - tl.sum(x, axis=0) / K) / "}, _LAYERNORM),
        Mutant("y rounded to FP16 before it is quantized",
               {"(mean_square + eps) * weight": "(mean_square + eps) * weight\n    y = y.to(tl.float16).to(tl.float32)"},
               FP16),
        Mutant("squares in FP16", {f"{_X_LOAD}).to(tl.float32)": f"{_X_LOAD})"}, _FP16_SQUARES),
        Mutant("NaN and Inf pass unseen", {"finite_or_inf(y)": "tl.abs(y)"}, UNSEEN),
        Mutant("the garbage of masked lanes", {_X_LOAD: _X_LOAD.replace(", other=0.0", "")}, _GARBAGE),
        Mutant("the mask is missing when x is loaded", {_X_LOAD: "x_ptr + m * stride_xm + offs_k"}, MASK),
        Mutant("the mask is missing when the weight is loaded", {_W_LOAD: "weight_ptr + offs_k"}, MASK),
        Mutant("the mask is missing when q is stored", {"codes(y, scale), mask=mask_k": "codes(y, scale)"}, STORE_MASK),
        Mutant("a weight for each row", {_W_LOAD: _W_LOAD.replace("weight_ptr", "weight_ptr + m * K")},
               "The weight is one row of K numbers, the same for all rows of x."),
        Mutant("every program takes row 0 of x", {_X_LOAD: _X_LOAD.replace("m * stride_xm + ", "")},
               "Row m of x starts m * stride_xm elements after x_ptr."),
        Mutant("rows of x taken to be K apart", {_X_LOAD: _X_LOAD.replace("stride_xm", "K")},
               "x may be part of a wider matrix: its rows are stride_xm elements apart."),
        Mutant("every program writes row 0 of q", {"m * stride_qm + offs_k": "offs_k"},
               "Row m of q starts m * stride_qm elements after q_ptr."),
        Mutant("every scale is written to scale[0]", {"scale_ptr + m,": "scale_ptr,"}, SCALE_M),
        Mutant("x is loaded twice", {"codes(y, scale)": f"codes(tl.load({_X_LOAD}).to(tl.float32) "
                                     "/ tl.sqrt(mean_square + eps) * weight, scale)"},
               "The row is in registers already: use the same x for the squares and for the codes."),
        Mutant("32-bit offsets", {"tl.program_id(0).to(tl.int64)": "tl.program_id(0)"}, WIDEN),
        Mutant("the square of the mean",
               {"tl.sum(x * x, axis=0) / K": "(tl.sum(x, axis=0) / K) * (tl.sum(x, axis=0) / K)"},
               "The mean of the squares, not the square of the mean: numbers of both signs must not cancel."),
        Mutant("LayerNorm, with the masked lanes in its variance",
               {"tl.sum(x * x, axis=0) / K":
                 "tl.sum((x - tl.sum(x, axis=0) / K) * (x - tl.sum(x, axis=0) / K), axis=0) / K",
                "y = x / ": "y = (x - tl.sum(x, axis=0) / K) / "},
               _LAYERNORM),
        Mutant("the variance, with the masked lanes in it",
               {"tl.sum(x * x, axis=0) / K":
                 "tl.sum((x - tl.sum(x, axis=0) / K) * (x - tl.sum(x, axis=0) / K), axis=0) / K"},
               _LAYERNORM),
        Mutant("divided by the weight",
               {"x / tl.sqrt(mean_square + eps) * weight": "x / tl.sqrt(mean_square + eps) / weight"},
               "The weight multiplies: x / sqrt(mean square + eps) · weight."),
        Mutant("the weight twice",
               {"x / tl.sqrt(mean_square + eps) * weight": "x / tl.sqrt(mean_square + eps) * weight * weight"},
               "The weight multiplies once."),
        Mutant("1 + weight",
               {"x / tl.sqrt(mean_square + eps) * weight": "x / tl.sqrt(mean_square + eps) * (1.0 + weight)"},
               "The weight is the factor itself: x / sqrt(mean square + eps) · weight."),
        Mutant("the mean over K - 1", {"tl.sum(x * x, axis=0) / K": "tl.sum(x * x, axis=0) / (K - 1 + 1e-9)"}, _MEAN),
        Mutant("scale in FP16", {"scale_ptr + m, scale": "scale_ptr + m, scale.to(tl.float16)"},
               "The scales are FP32: in FP16 they are off by up to 0.05 %."),
        Mutant("a row of weights for each program",
               {"weight_ptr + offs_k, mask": "weight_ptr + m * stride_xm + offs_k, mask"},
               "The weight is one row of K numbers, the same for all rows of x: weight_ptr + offs_k."),
        Mutant("the root of the mean of the magnitudes", {"tl.sum(x * x, axis=0)": "tl.sum(tl.abs(x), axis=0)"},
               "The root mean square: square, mean, root."),
        Mutant("one weight for the whole row",
               {"tl.load(weight_ptr + offs_k, mask=mask_k, other=0.0)": "tl.load(weight_ptr + m)"},
               "Each channel k has a weight of its own, the same for all rows: weight_ptr + offs_k."),
    ),
)

_LOADS = ("        x = tl.load(x_row + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)\n"
          "        weight = tl.load(weight_ptr + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)\n")
_LOOP = "    for k in range(0, K, BLOCK_K):\n        offs_k = k + tl.arange(0, BLOCK_K)\n" + _LOADS
_FIRST, _SECOND = _LOOP + "        squares", _LOOP + "        tl.store(q"
_CHUNKS = "When BLOCK_K does not divide K, the last, partial chunk counts too: loop while k < K."
_ADVANCE = "Step k works on the elements from k on: offs_k is k + tl.arange(0, BLOCK_K)."


def _in(part: str, old: str, new: str) -> dict[str, str]:
    """An edit of something that stands in both loops, in one of them."""
    return {part: part.replace(old, new)}


RMSNORM_LONG = Exercise(
    name="rmsnorm_quantize_int8_long_kernel",
    lesson="07_fused",
    wrapper="rmsnorm_quantize_int8_long",
    outputs=("q", "scale"),
    points=5,
    least_bytes=norm_bytes,
    traffic_limit=1.1,  # a third reading of x moves 1.22 times as much
    oracle=exact_rmsnorm,
    cases=(
        Case("normal, M=2 K=5000", norm_inputs(quantize.normal(2, 5000))),
        Case("two whole chunks, M=1 K=4096", norm_inputs(largest_last(1, 4096))),
        Case("less than a chunk, M=2 K=100", norm_inputs(quantize.normal(2, 100))),
        Case("small numbers, where eps counts, M=1 K=2049", norm_inputs(sized(1, 2049, 2.0**-9), eps=1e-5)),
        Case("a row of zeros, K=100", norm_inputs(with_zeros(100))),
        Case("NaN and Inf, K=2100", norm_inputs(quantize.not_finite(2100))),
        Case("rows of a wider matrix, M=2 K=2100", norm_inputs(quantize.rows_of_a_wider_matrix(2, 2100))),
        Case("rows 2^30 elements apart, M=3 K=5", norm_inputs(quantize.far_rows(3, 5))),
    ),
    mutants=(
        Mutant("the root left out", {"scale / rms": "scale"},
               "The codes may come from x · weight, but y is smaller by the root: the scale is divided by it."),
        Mutant("the scale multiplied by the root", {"scale / rms": "scale * rms"},
               "y is x · weight divided by the root, and its scale likewise."),
        Mutant("codes of x · weight by the scale of y", {"codes(x * weight, scale)": "codes(x * weight, scale / rms)"},
               "x · weight goes with its own scale, and y with that scale divided by the root: do not mix the two."),
        Mutant("the second reading is missing",
               {_SECOND: _SECOND.replace(_LOADS, "")},
               "After the first loop x holds its last chunk only: load each chunk again before its codes are made."),
        Mutant("three readings",
               {"    rms = tl.sqrt": "    magnitude = tl.zeros((BLOCK_K,), dtype=tl.float32)\n" + _LOOP +
                 "        magnitude = tl.maximum(magnitude, finite_or_inf(x * weight))\n    rms = tl.sqrt",
                **_in(_FIRST, _LOADS, _LOADS.splitlines()[0] + "\n"),
                "        squares += x * x\n        magnitude = tl.maximum(magnitude, finite_or_inf(x * weight))\n":
                 "        squares += x * x\n"},
               "The root divides all numbers of a row alike, so the largest |x · weight| belongs to the largest |y|: one "
               "loop finds the squares and the maximum."),
        Mutant("eps left out", {" / K + eps": " / K"}, _EPS),
        Mutant("eps outside the root", {"tl.sqrt(tl.sum(squares, axis=0) / K + eps)":
                                         "(tl.sqrt(tl.sum(squares, axis=0) / K) + eps)"}, _EPS_OUTSIDE),
        Mutant("the mean over the block", {"axis=0) / K + eps": "axis=0) / BLOCK_K + eps"},
               "The mean is over the row's K numbers, however they are cut."),
        Mutant("no root", {"tl.sqrt(tl.sum": "(tl.sum"}, "The root of the mean of the squares: tl.sqrt."),
        Mutant("amax before the weight", {"finite_or_inf(x * weight)": "finite_or_inf(x)"}, _WEIGHT_LATE),
        Mutant("the maximum, not that of the magnitudes",
               {"tl.maximum(magnitude, finite_or_inf(x * weight))": "tl.maximum(magnitude, x * weight)"}, NEGATIVE),
        Mutant("codes without the weight", {"codes(x * weight, scale)": "codes(x, scale)"},
               "The codes are those of x · weight."),
        Mutant("squares with the weight in them", {"squares += x * x": "squares += x * weight * x * weight"},
               "The norm's mean is that of x², without the weight."),
        Mutant("squares of the last chunk alone", {"squares += x * x": "squares = x * x"},
               "Each chunk's squares are added: squares += x * x."),
        Mutant("amax of the last chunk alone",
               {"tl.maximum(magnitude, finite_or_inf(x * weight))": "finite_or_inf(x * weight)"},
               "Each chunk must be compared with the maximum so far: tl.maximum(magnitude, ...)."),
        Mutant("codes by the scale so far",
               {"        magnitude = tl.maximum(magnitude, finite_or_inf(x * weight))\n":
                 "        magnitude = tl.maximum(magnitude, finite_or_inf(x * weight))\n        tl.store(q_row + offs_k, "
                 "codes(x * weight, row_scale(tl.max(magnitude, axis=0))), mask=offs_k < K)\n",
                **_in(_SECOND, "range(0, K,", "range(0, 0,")},
               "The scale is known only after the whole row was seen: the codes need a second loop."),
        Mutant("the last, partial chunk left out of the first loop",
               _in(_FIRST, "(0, K,", "(0, K - BLOCK_K + 1,"), _CHUNKS),
        Mutant("the last, partial chunk gets no codes", _in(_SECOND, "(0, K,", "(0, K - BLOCK_K + 1,"), _CHUNKS),
        Mutant("nothing is advanced in the first loop", _in(_FIRST, "k + tl", "tl"), _ADVANCE),
        Mutant("nothing is advanced in the second loop", _in(_SECOND, "k + tl", "tl"), _ADVANCE),
        Mutant("the weight is not advanced",
               {**_in(_FIRST, "weight_ptr + offs_k", "weight_ptr + tl.arange(0, BLOCK_K)"),
                **_in(_SECOND, "weight_ptr + offs_k", "weight_ptr + tl.arange(0, BLOCK_K)")},
               "Chunk k of x goes with chunk k of the weight: weight_ptr + offs_k."),
        Mutant("the garbage of masked lanes", _in(_FIRST, "x_row + offs_k, mask=offs_k < K, other=0.0",
                                                   "x_row + offs_k, mask=offs_k < K"), _GARBAGE),
        Mutant("the mask is missing when x is loaded", _in(_FIRST, "x_row + offs_k, mask=offs_k < K, other=0.0",
                                                            "x_row + offs_k"), MASK),
        Mutant("the mask is missing when q is stored", {"codes(x * weight, scale), mask=offs_k < K":
                                                         "codes(x * weight, scale)"}, STORE_MASK),
        Mutant("squares in FP16",
               _in(_FIRST, "x_row + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)",
                    "x_row + offs_k, mask=offs_k < K, other=0.0)"), _FP16_SQUARES),
        Mutant("every scale is written to scale[0]", {"scale_ptr + m,": "scale_ptr,"}, SCALE_M),
        Mutant("32-bit offsets", {"tl.program_id(0).to(tl.int64)": "tl.program_id(0)"}, WIDEN),
        Mutant("codes of y by the scale of x · weight", {"codes(x * weight, scale)": "codes(x * weight / rms, scale)"},
               "x · weight goes with its own scale, and y with that scale divided by the root: do not mix the two."),
        Mutant("the weight's last chunk in the second loop",
               {"        weight = tl.load(weight_ptr + offs_k, mask=offs_k < K, other=0.0).to(tl.float32)\n        "
                 "tl.store(q_row":
                 "        tl.store(q_row"},
               "After the first loop `weight` is its last chunk: the second loop has to load each chunk of the "
               "weight again."),
        Mutant("the mean of the magnitudes",
               {"squares += x * x": "squares += tl.abs(x)",
                "tl.sqrt(tl.sum(squares, axis=0) / K + eps)": "(tl.sum(squares, axis=0) / K + eps)"},
               "The mean of the squares is wanted, and then its root."),
        Mutant("the weight left out",
               {"finite_or_inf(x * weight)": "finite_or_inf(x)",
                "codes(x * weight, scale)": "codes(x, scale)"},
               "y = x / sqrt(mean square + eps) · weight: multiply by the weight before amax and codes."),
        Mutant("divided by the weight",
               {"finite_or_inf(x * weight)": "finite_or_inf(x / weight)",
                "codes(x * weight, scale)": "codes(x / weight, scale)"},
               "The weight multiplies: x · weight."),
        Mutant("the sum of squares, not their mean",
               {"tl.sum(squares, axis=0) / K + eps": "tl.sum(squares, axis=0) + eps"},
               "The mean square: divide the sum by K."),
    ),
)

EXERCISES = [RMSNORM_PLAIN, RMSNORM_LONG]
