"""Lesson 11: the INT8 product with a scale for each row and each group of 128 along K, which are applied in its loop."""

import math

import torch

from checks.exercises.int_mm import codes
from checks.judge.exercise import Case, Exercise, Expected, Mutant
from kernels import cost

GROUP = 128
U = 2.0**-24  # the most that one FP32 operation is off, of its result


def by_groups(M: int, N: int, K: int):
    """Codes of every size; scales of groups and rows between 0.1 and 10 in magnitude, none like its neighbours."""
    def inputs(g: torch.Generator) -> dict:
        x_scale, w_scale = (10 ** (2 * torch.rand(K // GROUP, rows, generator=g) - 1) / 127 for rows in (M, N))
        return {"x_q": codes(M, K, g), "x_scale": x_scale, "w_q": codes(N, K, g), "w_scale": w_scale / K**0.5}
    return inputs


def scales_near_one(M: int, N: int, K: int):
    """Small codes and scales of about 1: what is scaled twice stays in sight."""
    def inputs(g: torch.Generator) -> dict:
        made: dict = {}
        for name, rows in (("x", M), ("w", N)):
            made |= {f"{name}_q": torch.randint(-3, 4, (rows, K), generator=g, dtype=torch.int8),
                     f"{name}_scale": 0.5 + torch.rand(K // GROUP, rows, generator=g)}
        return made
    return inputs


def outliers(M: int, N: int, K: int):
    """Numbers of a model's kind: one channel of x is fifty times as large as the others."""
    def inputs(g: torch.Generator) -> dict:
        x, w = torch.randn(M, K, generator=g), torch.randn(N, K, generator=g) / K**0.5
        x[:, K - 50] *= 50
        found: dict = {}
        for name, side in (("x", x), ("w", w)):
            parts = side.reshape(len(side), K // GROUP, GROUP)
            scale = parts.abs().amax(dim=2) / 127
            found |= {f"{name}_q": (parts / scale[:, :, None]).round().to(torch.int8).reshape(side.shape),
                      f"{name}_scale": scale.T.contiguous()}
        return found
    return inputs


def special_groups(M: int, N: int, K: int):
    """A group of zeros in one row, one with NaN in another, and scales that no FP16 number comes near to."""
    def inputs(g: torch.Generator) -> dict:
        made = by_groups(M, N, K)(g)
        made["x_scale"] *= 2.0**-24
        made["w_scale"] *= 2.0**18
        made["x_q"][1, :GROUP], made["x_scale"][0, 1] = 0, 0.0
        made["w_q"][2, GROUP:2 * GROUP], made["w_scale"][1, 2] = 0, 0.0
        made["x_scale"][1, 2] = made["w_scale"][0, 3] = math.nan
        return made
    return inputs


def parts_of_wider_matrices(M: int, N: int, K: int):
    """Rows of codes and of scales that are not as far apart as they are long, and differently so in x and in w."""
    def inputs(g: torch.Generator) -> dict:
        made = by_groups(M + 5, N + 3, K + GROUP)(g)
        return {"x_q": made["x_q"][:M, :K], "x_scale": made["x_scale"][:-1, :M],
                "w_q": made["w_q"][:N, :K], "w_scale": made["w_scale"][:-1, :N]}
    return inputs


def exact_groups(x_q, x_scale, w_q, w_scale) -> tuple[Expected]:
    """Group by group in float64. A sum of 128 products of codes is below 2²¹, exact in FP32; two products with scales and
    the addition err by U each, of the term or of what is added up so far; the rounding to FP16 by 2⁻¹¹ of y, or 2⁻²⁵."""
    y, size = torch.zeros(2, len(x_q), len(w_q), dtype=torch.float64)
    for group, (of_x, of_w) in enumerate(zip(x_q.split(GROUP, dim=1), w_q.split(GROUP, dim=1), strict=True)):
        part = (of_x.long() @ of_w.long().T) * x_scale[group].double()[:, None] * w_scale[group].double()
        y, size = y + part, size + part.abs()
    before = (len(x_scale) + 2) * U * size
    return (Expected(y, 2.0**-11 * (y.abs() + before).clamp(min=2.0**-14) + before, torch.float16),)


_DOT = "        acc = tl.dot(x, w.T, out_dtype=tl.int32)  # (BLOCK_M, BLOCK_N)\n"
_KEPT = "        acc = tl.dot(x, w.T, acc, out_dtype=tl.int32)\n"
_ZEROS = "    y = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)\n"
_SUMS = "    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)\n"
_X_SCALE = "        x_scale = tl.load(x_scale_ptr + g * stride_xg + offs_m, mask=mask_m, other=0.0)\n"
_W_SCALE = "        w_scale = tl.load(w_scale_ptr + g * stride_wg + offs_n, mask=mask_n, other=0.0)\n"
_X_OF_0, _W_OF_0 = _X_SCALE[4:].replace("g * stride_xg + ", ""), _W_SCALE[4:].replace("g * stride_wg + ", "")  # after it
_ADD = "y += acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]"
_STORE = "mask=mask_m[:, None] & mask_n[None, :])"
_IN_THE_LOOP = ("Each group has scales of its own, row g of x_scale and w_scale: load them in the loop, and scale its "
                "sum before the next one is added.")
_FRESH = ("acc holds the sum of one group: give tl.dot no third argument, so that it starts from zero. Only y is kept from "
          "group to group.")
_LAYOUT = ("Scales are (K / 128, M) and (K / 128, N): group g starts g * stride_xg after x_scale_ptr, g * stride_wg after "
           "w_scale_ptr, and the rows lie side by side.")
_OF_GROUP = ("The scales of group g are row g of x_scale and of w_scale, g * stride_xg + offs_m and g * stride_wg + offs_n: "
             "load and use them in the loop.")
_FP32 = "y, the scales and their products stay in FP32; the one rounding to FP16 is in the store."

GROUP_W8A8_MATMUL = Exercise(
    name="group_w8a8_matmul_kernel",
    lesson="11_real_stack",
    wrapper="group_w8a8_matmul",
    outputs=("y",),
    points=5,
    least_bytes=lambda x_q, w_q, **scales: cost.group_w8a8_matmul_bytes(len(x_q), len(w_q), x_q.shape[1], GROUP),
    oracle=exact_groups,
    cases=(
        Case("three groups, M=130 N=140 K=384", by_groups(130, 140, 384)),
        Case("one group, M=20 N=33 K=128", by_groups(20, 33, 128)),
        Case("one element of y, K=256", by_groups(1, 1, 256)),
        Case("whole tiles, M=128 N=128 K=256", by_groups(128, 128, 256)),
        Case("scales of about 1, M=6 N=7 K=384", scales_near_one(6, 7, 384)),
        Case("an outlier channel, M=6 N=40 K=512", outliers(6, 40, 512)),
        Case("groups of zeros and of NaN, M=6 N=5 K=256", special_groups(6, 5, 256)),
        Case("parts of wider matrices, M=7 N=150 K=256", parts_of_wider_matrices(7, 150, 256)),
    ),
    mutants=(
        Mutant("every group scaled by the scales of group 0",
               {_ZEROS: _SUMS, _X_SCALE: "", _W_SCALE: "", _DOT: _KEPT,
                f"        {_ADD}": f"{_X_OF_0}{_W_OF_0}    {_ADD.replace('+=', '=')}"}, _IN_THE_LOOP),
        Mutant("what was added before is scaled again",
               {_ADD: "y = (y + acc.to(tl.float32)) * x_scale[:, None] * w_scale[None, :]"},
               "Scale the group's sum alone, and add it to y, which is scaled already: y += acc · scales."),
        Mutant("w is not transposed", {"w.T": "w"}, "w's tile is (BLOCK_N, BLOCK_K): multiply by its transpose, w.T."),
        Mutant("the INT32 sums kept over groups", {_ZEROS: _ZEROS + _SUMS, _DOT: _KEPT}, _FRESH),
        Mutant("the sum of the last group alone", {"y += acc": "y = acc"},
               "y adds up the groups: `y +=` in the loop."),
        Mutant("x's scales of group 0 in every group", {"g * stride_xg + ": ""}, _OF_GROUP),
        Mutant("w's scales of group 0 in every group, or after the loop", {"g * stride_wg + ": ""}, _OF_GROUP),
        Mutant("two steps share a scale", {"g * stride_xg": "g // 2 * stride_xg", "g * stride_wg": "g // 2 * stride_wg"},
               "The step along K is the group, BLOCK_K = 128: each step has scales of its own."),
        Mutant("steps of half a group", {"x_ptrs + g * BLOCK_K": "x_ptrs + g * (BLOCK_K // 2)",
                                         "w_ptrs + g * BLOCK_K": "w_ptrs + g * (BLOCK_K // 2)"},
               "Group g begins at k = g * BLOCK_K: a step is as long as the block that is loaded."),
        Mutant("x's scale is missing", {" * x_scale[:, None]": ""}, "Row m of x has in group g the scale x_scale[g, m]."),
        Mutant("w's scale is missing", {" * w_scale[None, :]": ""}, "Row n of w has in group g the scale w_scale[g, n]."),
        Mutant("no scale at all", {_ADD: "y += acc.to(tl.float32)"},
               "The sums count steps: multiply each group's by x_scale[g, m] and by w_scale[g, n]."),
        Mutant("the scales transposed", {"g * stride_xg + offs_m": "offs_m * (K // BLOCK_K) + g",
                                         "g * stride_wg + offs_n": "offs_n * (K // BLOCK_K) + g"}, _LAYOUT),
        Mutant("x's scales transposed", {"g * stride_xg + offs_m": "offs_m * (K // BLOCK_K) + g"}, _LAYOUT),
        Mutant("w's scales transposed", {"g * stride_wg + offs_n": "offs_n * (K // BLOCK_K) + g"}, _LAYOUT),
        Mutant("the strides of the scales exchanged",
               {"stride_xg + offs_m": "stride_wg + offs_m", "stride_wg + offs_n": "stride_xg + offs_n"}, _LAYOUT),
        Mutant("scales counted by k, not by groups",
               {"range(0, K // BLOCK_K)": "range(0, K, BLOCK_K)", "x_ptrs + g * BLOCK_K": "x_ptrs + g",
                "w_ptrs + g * BLOCK_K": "w_ptrs + g"},
               "Where the loop counts k, the group is k // BLOCK_K: that many rows of scales go before."),
        Mutant("the scales' strides with the rows",
               {"g * stride_xg + offs_m": "offs_m * stride_xg + g",
                "g * stride_wg + offs_n": "offs_n * stride_wg + g"}, _LAYOUT),
        Mutant("one scale of a group for all rows of x", {"stride_xg + offs_m, mask=mask_m, other=0.0)":
                                                           "stride_xg) + tl.zeros((BLOCK_M,), dtype=tl.float32)"},
               "Each row of x has a scale of its own in each group: load BLOCK_M of them, at offs_m."),
        Mutant("the scales of the first tile in every tile",
               {"g * stride_xg + offs_m": "g * stride_xg + tl.arange(0, BLOCK_M)",
                "g * stride_wg + offs_n": "g * stride_wg + tl.arange(0, BLOCK_N)"},
               "A tile takes the scales of its own rows and columns: offs_m and offs_n."),
        Mutant("the two scales are swapped",
               {"x_scale[:, None] * w_scale[None, :]": "x_scale[None, :] * w_scale[:, None]"},
               "x_scale goes with the rows of y, so it is a column, [:, None]; w_scale goes with the columns, [None, :]."),
        Mutant("the scales added", {"x_scale[:, None] * w_scale[None, :]": "(x_scale[:, None] + w_scale[None, :])"},
               "x = q · x_scale and w = q · w_scale: the scales of a product multiply."),
        Mutant("divided by the scales", {_ADD: "y += acc.to(tl.float32) / x_scale[:, None] / w_scale[None, :]"},
               "A scale is what a code is multiplied with."),
        Mutant("scales in FP16", {"x_scale[:, None] *": "x_scale.to(tl.float16).to(tl.float32)[:, None] *",
                                  "w_scale[None, :]": "w_scale.to(tl.float16).to(tl.float32)[None, :]"}, _FP32),
        Mutant("a group's sum rounded to FP16", {"acc.to(tl.float32)": "acc.to(tl.float16)"},
               "A group's sum may be 128 · 127², beyond FP16's 65,504: acc.to(tl.float32)."),
        Mutant("each group's part rounded to FP16", {_ADD: "y += (acc.to(tl.float32) * x_scale[:, None] * "
                                                     "w_scale[None, :]).to(tl.float16).to(tl.float32)"}, _FP32),
        Mutant("the pointers never move", {"x_ptrs + g * BLOCK_K": "x_ptrs", "w_ptrs + g * BLOCK_K": "w_ptrs"},
               "Step g reads the codes from g * BLOCK_K on."),
        Mutant("the first group is skipped", {"range(0, K // BLOCK_K)": "range(1, K // BLOCK_K)"}, "Groups count from 0."),
        Mutant("the last group is skipped", {"range(0, K // BLOCK_K)": "range(0, K // BLOCK_K - 1)"},
               "There are K // BLOCK_K groups, 0 to K // BLOCK_K - 1: `range` leaves its end out by itself."),
        Mutant("the mean of the groups", {"y.to(tl.float16), mask": "(y / (K // BLOCK_K)).to(tl.float16), mask"},
               "y is the sum over the groups, not their mean."),
        Mutant("the mask is missing where x's scales are loaded",
               {"offs_m, mask=mask_m, other=0.0)": "offs_m)"},
               "The last tile reaches past M, and so do its scales: load x_scale with mask_m."),
        Mutant("the mask on M is missing when y is stored", {_STORE: "mask=mask_n[None, :])"},
               "The last row of tiles reaches past M: store only where `offs_m < M`."),
        Mutant("the mask on N is missing when y is stored", {_STORE: "mask=mask_m[:, None])"},
               "After a row's N elements comes the next row of y: store only where `offs_n < N`."),
    ),
)

EXERCISES = [GROUP_W8A8_MATMUL]
