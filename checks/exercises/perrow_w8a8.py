"""Lesson 05, second half: the scales after the sum, and the bytes that are saved."""

import math

import torch

from checks.exercises.int_mm import codes
from checks.exercises.matmul import LOOP_OVER_K, TILES_OF_Y
from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers
from kernels import cost


def count_scalings(M: int, N: int, K: int, GROUP_K: int) -> tuple[Expected]:
    """Group by group: two multiplications, and an addition for all but the first."""
    return (Expected(M * N * sum(2 + (first > 0) for first in range(0, K, GROUP_K))),)


SCALING_FLOPS = Exercise(
    name="scaling_flops",
    lesson="05_int8_gemm",
    points=2,
    cases=(numbers(M=3, N=5, K=8, GROUP_K=2), numbers(M=3, N=5, K=8, GROUP_K=8), numbers(M=2, N=7, K=100, GROUP_K=32),
           numbers(M=1, N=1, K=1, GROUP_K=1), numbers(M=4, N=2, K=5, GROUP_K=16), numbers(M=4, N=2, K=6, GROUP_K=1)),
    oracle=count_scalings,
    mutants=(
        Mutant("the last, partial group is dropped", {"-(-K // GROUP_K)": "K // GROUP_K"},
               "A last group that is only partly filled has a scale too: round up. triton.cdiv(K, GROUP_K) does."),
        Mutant("one addition too many, and the last group dropped",
               {"-(-K // GROUP_K)": "K // GROUP_K", "2 * groups + groups - 1": "3 * groups"},
               "The first group has nothing to be added to, groups - 1 additions, and a part of a group counts: round up."),
        Mutant("one addition too many, and fractions of groups",
               {"-(-K // GROUP_K)": "K / GROUP_K", "2 * groups + groups - 1": "3 * groups"},
               "The first group has nothing to be added to, groups - 1 additions, and a part of a group counts: round up."),
        Mutant("fractions of groups", {"-(-K // GROUP_K)": "K / GROUP_K"},
               "A last group that is only partly filled is scaled like any other: round up with triton.cdiv."),
        Mutant("the additions left out", {"2 * groups + groups - 1": "2 * groups"},
               "The groups of an element are scaled one by one and have to be added up in FP32: groups - 1 additions."),
        Mutant("one addition too many", {"2 * groups + groups - 1": "3 * groups"},
               "The first group has nothing to be added to: groups - 1 additions."),
        Mutant("one scale", {"2 * groups + groups - 1": "groups + groups - 1"},
               "x has a scale and w has one: two multiplications for each group."),
        Mutant("one group only", {"2 * groups + groups - 1": "2"}, "That is right when all of K shares a scale. "
               "With several groups along K, each one's sum is scaled."),
        Mutant("a scaling for each product", {"2 * groups + groups - 1": "2 * K + K - 1"},
               "Within a group the scales are the same, so they wait until the group's sum is there: count groups, not k."),
        Mutant("one element of y", {"M * N * (": "("}, "y has M · N elements, and each has groups of its own."),
        Mutant("group length and number swapped", {"-(-K // GROUP_K)": "GROUP_K"},
               "GROUP_K is the length of a group; there are K / GROUP_K of them, rounded up."),
    ),
)


def quantized(M: int, N: int, K: int, bias: torch.dtype | None = None):
    """Codes of every size, scales as of rows between 0.1 and 10 in magnitude, and a bias as large as y."""
    def inputs(g: torch.Generator) -> dict:
        x_scale, w_scale = (10 ** (2 * torch.rand(rows, generator=g) - 1) / 127 for rows in (M, N))
        made = {"x_q": codes(M, K, g), "x_scale": x_scale, "w_q": codes(N, K, g), "w_scale": w_scale / K**0.5}
        return made if bias is None else made | {"bias": torch.randn(N, generator=g).to(bias)}
    return inputs


def special_rows(M: int, N: int, K: int):
    """Rows of zeros and of NaN among others whose scales no FP16 number comes near to."""
    def inputs(g: torch.Generator) -> dict:
        made = quantized(M, N, K)(g)
        made["x_scale"] *= 2.0**-24
        made["w_scale"] *= 2.0**18
        made["x_q"][1], made["x_scale"][1] = 0, 0.0
        made["x_scale"][2] = made["w_scale"][3] = math.nan
        return made
    return inputs


def large_bf16(M: int, N: int, K: int):
    """Results past 65,504, where FP16 ends, asked for in BF16."""
    def inputs(g: torch.Generator) -> dict:
        made = quantized(M, N, K)(g)
        return made | {"x_scale": made["x_scale"] * 2.0**20, "out_dtype": torch.bfloat16}
    return inputs


def exact_w8a8(x_q, x_scale, w_q, w_scale, bias=None, out_dtype=torch.float16) -> tuple[Expected]:
    """y in float64. One rounding to FP16 errs by 2⁻¹¹ of y, and by 2⁻²⁵ where y is below 2⁻¹⁴. To BF16 the interpreter cuts
    off what does not fit, 2⁻⁷ of y. Before it, the sum turned into FP32, two products and the addition of the bias err by
    2⁻²⁴ of the larger term each, in any order."""
    unit = 2.0**-11 if out_dtype == torch.float16 else 2.0**-7
    product = (x_q.double() @ w_q.double().T) * x_scale.double()[:, None] * w_scale.double()
    added = torch.zeros(len(w_q), dtype=torch.float64) if bias is None else bias.double()
    y, before = product + added, 4 * 2.0**-24 * (product.abs() + added.abs())
    return (Expected(y, unit * (y.abs() + before).clamp(min=2.0**-14) + before, out_dtype),)


_SCALES = "y = acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]"
_BIAS = ("    if bias_ptr is not None:\n"
         "        y += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]\n")
_FP16_SCALE = "Scales are FP32, and FP16 keeps 11 of their 24 bits, of small ones fewer or none: do not convert them."
_ONE_ROUNDING = "Everything is FP32 until the end; the one rounding is the `.to(...)` in the store."
_OFFS = "Element (m, n) takes x_scale[m] and w_scale[n]: offs_m with x_scale_ptr, offs_n with w_scale_ptr."

PLAIN = Exercise(
    name="perrow_w8a8_matmul_plain_kernel",
    lesson="05_int8_gemm",
    wrapper="perrow_w8a8_matmul_plain",
    outputs=("y",),
    points=5,
    least_bytes=lambda x_q, w_q, **others: cost.perrow_w8a8_matmul_bytes(len(x_q), *w_q.shape),
    oracle=exact_w8a8,
    cases=(
        Case("without bias, M=130 N=140 K=100", quantized(130, 140, 100)),
        Case("with an FP32 bias, M=20 N=33 K=200", quantized(20, 33, 200, torch.float32)),
        Case("with an FP16 bias, M=40 N=7 K=65", quantized(40, 7, 65, torch.float16)),
        Case("with a bias over several tiles, M=5 N=140 K=70", quantized(5, 140, 70, torch.float16)),
        Case("zero, NaN and tiny scales, M=6 N=5 K=128", special_rows(6, 5, 128)),
        Case("y in BF16 and large, M=6 N=5 K=40", large_bf16(6, 5, 40)),
    ),
    mutants=(
        Mutant("no scale at all", {_SCALES: "y = acc.to(tl.float32)"},
               "The sum counts steps: it becomes a number when it is multiplied by x_scale[m] and by w_scale[n]."),
        Mutant("x's scale is missing", {" * x_scale[:, None]": ""},
               "Row m of x has the scale x_scale[m]: multiply by it."),
        Mutant("w's scale is missing", {" * w_scale[None, :]": ""},
               "Row n of w has the scale w_scale[n]: multiply by it."),
        Mutant("the two scales are swapped",
               {"x_scale[:, None] * w_scale[None, :]": "x_scale[None, :] * w_scale[:, None]"},
               "x_scale goes with the rows of y, so it is a column, [:, None]; w_scale goes with the columns, [None, :]."),
        Mutant("x's scale used for the columns", {"x_scale[:, None]": "x_scale[None, :]"},
               "x_scale[m] belongs to row m of y: make it a column, x_scale[:, None]."),
        Mutant("w's scale used for the rows", {"w_scale[None, :]": "w_scale[:, None]"},
               "w_scale[n] belongs to column n of y: make it a row, w_scale[None, :]."),
        Mutant("the scales' offsets are swapped",
               {"x_scale_ptr + offs_m, mask=mask_m": "x_scale_ptr + offs_n, mask=mask_n",
                "w_scale_ptr + offs_n, mask=mask_n": "w_scale_ptr + offs_m, mask=mask_m"}, _OFFS),
        Mutant("one scale for all of w", {"tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)":
                                           "tl.zeros((BLOCK_N,), dtype=tl.float32) + tl.load(w_scale_ptr)"},
               "Each row of w, an output channel, has a scale of its own: load w_scale_ptr + offs_n."),
        Mutant("one scale for all of x", {"tl.load(x_scale_ptr + offs_m, mask=mask_m, other=0.0)":
                                           "tl.zeros((BLOCK_M,), dtype=tl.float32) + tl.load(x_scale_ptr)"},
               "Each row of x, a token, has a scale of its own: load x_scale_ptr + offs_m."),
        Mutant("the scales of the first tile in every tile",
               {"x_scale_ptr + offs_m,": "x_scale_ptr + tl.arange(0, BLOCK_M),",
                "w_scale_ptr + offs_n,": "w_scale_ptr + tl.arange(0, BLOCK_N),"}, _OFFS),
        Mutant("divided by the scales", {_SCALES: "y = acc.to(tl.float32) / x_scale[:, None] / w_scale[None, :]"},
               "A scale is what a code is multiplied with."),
        Mutant("scales in FP16",
               {"x_scale[:, None] *": "x_scale.to(tl.float16).to(tl.float32)[:, None] *",
                "w_scale[None, :]": "w_scale.to(tl.float16).to(tl.float32)[None, :]"}, _FP16_SCALE),
        Mutant("the product of the scales in FP16",
               {_SCALES: "y = acc.to(tl.float32) * (x_scale[:, None] * w_scale[None, :]).to(tl.float16)"},
               "The product of two small scales is tiny: in FP16 it loses bits or becomes 0. Keep it in FP32."),
        Mutant("scales made whole numbers",
               {_SCALES: "y = acc * x_scale.to(tl.int32)[:, None] * w_scale.to(tl.int32)[None, :]"},
               "Scales are fractions: turn the sum into FP32, not the scales into integers."),
        Mutant("the sum rounded to FP16 before scaling", {"acc.to(tl.float32)": "acc.to(tl.float16)"},
               "A sum of a few products is beyond 65,504, where FP16 ends: acc.to(tl.float32)."),
        Mutant("rounded between the scales",
               {_SCALES: "y = (acc.to(tl.float32) * x_scale[:, None]).to(tl.float16) * w_scale[None, :]"}, _ONE_ROUNDING),
        Mutant("the bias is added after the rounding",
               {_BIAS: _BIAS.replace("y += ", "y = y.to(y_ptr.dtype.element_ty).to(tl.float32) + ")},
               "y rounded and then added to is rounded twice: add the bias in FP32, before the one rounding."),
        Mutant("the bias is added in FP16",
               {_BIAS: _BIAS.replace("y += ", "y = y.to(tl.float16) + ").replace("tl.float32)[", "tl.float16)[")},
               "Sum and bias, both rounded to FP16, are rounded again when they are added: turn the bias into FP32."),
        Mutant("y in FP16, whatever is asked for", {"y.to(y_ptr.dtype.element_ty)": "y.to(tl.float16)"},
               "FP16 ends at 65,504 and y may be BF16: round to the type of y's elements, y_ptr.dtype.element_ty."),
        Mutant("the bias is scaled too",
               {_SCALES: "y = acc.to(tl.float32)", _BIAS: _BIAS + "    y = y * x_scale[:, None] * w_scale[None, :]\n"},
               "The bias is a number, not a code: add it after the scales."),
        Mutant("the bias is left out", {_BIAS: ""}, "Where bias_ptr is not None, bias[n] is added to column n."),
        Mutant("the bias goes with the rows", {"tl.float32)[None, :]": "tl.float32)[:, None]"},
               "bias[n] belongs to output channel n, a column of y: [None, :]."),
        Mutant("the bias is taken by rows, bias[m]", {"bias_ptr + offs_n, mask=mask_n": "bias_ptr + offs_m, mask=mask_m",
                                                      "tl.float32)[None, :]": "tl.float32)[:, None]"},
               "bias[n] belongs to output channel n, a column of y: bias_ptr + offs_n, and [None, :]."),
        Mutant("bias[m] is added to column n", {"bias_ptr + offs_n, mask=mask_n": "bias_ptr + offs_m, mask=mask_m"},
               "bias[n] belongs to output channel n: load bias_ptr + offs_n, with mask_n."),
        Mutant("the mask is missing where x's scale is loaded",
               {"x_scale_ptr + offs_m, mask=mask_m, other=0.0": "x_scale_ptr + offs_m"},
               "The last tile reaches past M, and so do its scales: load x_scale with mask_m."),
        Mutant("the mask is missing where scales are loaded",
               {"x_scale_ptr + offs_m, mask=mask_m, other=0.0": "x_scale_ptr + offs_m",
                "w_scale_ptr + offs_n, mask=mask_n, other=0.0": "w_scale_ptr + offs_n"},
               "The last tile reaches past M and N, and so do its scales: load with mask_m and mask_n."),
        *TILES_OF_Y,
        *LOOP_OVER_K,
        Mutant("y rounded to FP16 before the bias",
               {"    if bias_ptr is not None:": "    y = y.to(tl.float16)\n    if bias_ptr is not None:"},
               _ONE_ROUNDING),
        Mutant("the bias is subtracted", {"y += tl.load(bias": "y -= tl.load(bias"}, "The bias is added: y += bias."),
        Mutant("the bias multiplies", {"y += tl.load(bias": "y *= tl.load(bias"}, "The bias is added: y += bias."),
        Mutant("the bias is added twice",
               {"bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]":
                 "bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :] * 2"},
               "The bias is added once."),
        Mutant("the scales of w's first tile in every tile",
               {"w_scale_ptr + offs_n, mask=mask_n":
                 "w_scale_ptr + tl.arange(0, BLOCK_N), mask=tl.arange(0, BLOCK_N) < N"},
               _OFFS),
        Mutant("the scales of x's first tile in every tile",
               {"x_scale_ptr + offs_m, mask=mask_m":
                 "x_scale_ptr + tl.arange(0, BLOCK_M), mask=tl.arange(0, BLOCK_M) < M"},
               _OFFS),
        Mutant("the bias of the first tile in every tile",
               {"bias_ptr + offs_n, mask=mask_n": "bias_ptr + tl.arange(0, BLOCK_N), mask=tl.arange(0, BLOCK_N) < N"},
               "bias[n] belongs to output channel n: load bias_ptr + offs_n."),
        Mutant("the fraction of y is thrown away", {"y.to(y_ptr.dtype.element_ty)": "y.to(tl.int32)"},
               "y is a fraction: `.to(tl.int32)` cuts it down to a whole number. Store y.to(y_ptr.dtype.element_ty)."),
        Mutant("x's scale twice",
               {"acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]":
                 "acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :] * x_scale[:, None]"},
               "Each scale is multiplied with once: x_scale[m] · w_scale[n]."),
        Mutant("w's scale twice",
               {"acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]":
                 "acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :] * w_scale[None, :]"},
               "Each scale is multiplied with once: x_scale[m] · w_scale[n]."),
        Mutant("the scales added",
               {"acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]":
                 "acc.to(tl.float32) * (x_scale[:, None] + w_scale[None, :])"},
               "x = q · x_scale and w = q · w_scale: the scales of a product multiply."),
    ),
)

BYTES = Exercise(
    name="perrow_w8a8_matmul_bytes",
    lesson="05_int8_gemm",
    points=1,
    cases=(numbers(M=16, N=4096, K=4096), numbers(M=1, N=1, K=1), numbers(M=127, N=300, K=65),
           numbers(M=16384, N=6144, K=2048)),
    oracle=lambda M, N, K: (Expected(sum(torch.empty(shape, dtype=dtype, device="meta").nbytes for shape, dtype in [
        ((M, K), torch.int8), ((N, K), torch.int8), ((M,), torch.float32), ((N,), torch.float32),
        ((M, N), torch.float16)])),),
    mutants=(
        Mutant("half of the FP16 product's", {"M * K + N * K + 4 * (M + N) + 2 * M * N": "M * K + N * K + M * N"},
               "Only the codes are halved: y is still FP16, two bytes, and the scales are new."),
        Mutant("the scales left out", {" + 4 * (M + N)": ""}, "x has M scales and w has N, each an FP32 number."),
        Mutant("w's scales left out", {"4 * (M + N)": "4 * M"}, "Each of the N rows of w has a scale too."),
        Mutant("x's scales left out", {"4 * (M + N)": "4 * N"}, "Each of the M rows of x has a scale too."),
        Mutant("scales of two bytes", {"4 * (M + N)": "2 * (M + N)"}, "The scales are FP32: four bytes each."),
        Mutant("a scale for each element of y", {"4 * (M + N)": "4 * M * N"},
               "There is a scale for each row of x and one for each row of w, not for each pair of them."),
        Mutant("one scale for each matrix", {"4 * (M + N)": "4 * 2"}, "Each row has a scale of its own."),
        Mutant("y of one byte", {"2 * M * N": "M * N"}, "y is FP16 again: two bytes an element."),
        Mutant("the INT32 sums written", {"2 * M * N": "4 * M * N"},
               "The INT32 sums never leave the chip; y is written in FP16, two bytes an element."),
        Mutant("y left out", {" + 2 * M * N": ""}, "The result y (M, N) has to be written."),
        Mutant("codes of two bytes", {"M * K + N * K": "2 * (M * K + N * K)"}, "An INT8 code takes one byte."),
        Mutant("w left out", {" + N * K": ""}, "The N rows of w have to be read."),
        Mutant("x left out", {"M * K + N * K": "N * K"}, "The M rows of x have to be read."),
        Mutant("scales along K", {"4 * (M + N)": "4 * (K + K)"},
               "x and w have a scale for each of their rows: M and N, not K."),
        Mutant("the scales counted twice", {"4 * (M + N)": "8 * (M + N)"},
               "A scale is FP32, four bytes, and it is read once."),
        Mutant("the product of all three sizes", {"M * K + N * K + 4 * (M + N) + 2 * M * N": "M * N * K"},
               "That is the number of products, which are arithmetic. Bytes come from the matrices and the scales."),
    ),
)

EXERCISES = [SCALING_FLOPS, PLAIN, BYTES]
