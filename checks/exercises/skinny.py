"""Lesson 08: the product of few rows, and K in parts."""

import torch

from checks.exercises.gemv_int8 import EARLY, MASK_W, OTHER, codes, exact_scaled, far_apart, largest_row, scales
from checks.judge.exercise import Case, Exercise, Expected, Mutant


def skinny(M: int, N: int, K: int, x_wider: int = 0, w_wider: int = 0, far: bool = False, **given):
    def inputs(g: torch.Generator) -> dict:
        w_q = codes(g, N, K + w_wider)[:, :K]
        return {"x_q": codes(g, M, K + x_wider)[:, :K], "x_scale": scales(g, M, 1e-2),
                "w_q": far_apart(w_q) if far else w_q, "w_scale": scales(g, N)} | given
    return inputs


def largest(M: int, N: int, K: int):
    def inputs(g: torch.Generator) -> dict:
        row = largest_row(1, K)(g)["x_q"]
        return {"x_q": row.repeat(M, 1), "x_scale": scales(g, M), "w_q": row.repeat(N, 1), "w_scale": scales(g, N)}
    return inputs


def exact_skinny(x_q, x_scale, w_q, w_scale) -> tuple[Expected]:
    return (exact_scaled(x_q.double() @ w_q.double().T, x_scale, w_scale),)


_LOAD_W = "w_rows + offs_k[None, :], mask=mask_n[:, None] & mask_k[None, :], other=0)"
_LOAD_X = "x_columns + offs_k[:, None], mask=mask_k[:, None] & mask_m[None, :], other=0)"
_STORE = "mask=mask_n[:, None] & mask_m[None, :])"
_DOT = "acc = tl.dot(w, x, acc, out_dtype=tl.int32)"
_LOOP = "range(0, K, BLOCK_K)"
_STEP = "offs_k, which moves with k, belongs in the addresses of w and of x."
_SWAPPED = ("The tile is (BLOCK_N, BLOCK_M): w's block comes first, tl.dot(w, x, acc), with w (BLOCK_N, BLOCK_K) and x "
            "(BLOCK_K, BLOCK_M).")

SKINNY_W8A8 = Exercise(
    name="skinny_w8a8_kernel",
    lesson="08_decode",
    wrapper="skinny_w8a8",
    outputs=("y",),
    points=5,
    least_bytes=lambda x_q, x_scale, w_q, w_scale: (
        w_q.numel() + x_q.numel() + 4 * (len(x_q) + len(w_q)) + 2 * len(x_q) * len(w_q)),
    oracle=exact_skinny,
    cases=(
        Case("M=5 N=70 K=300", skinny(5, 70, 300)),
        Case("whole tiles, M=16 N=64 K=256", skinny(16, 64, 256)),
        Case("one row, M=1 N=3 K=40", skinny(1, 3, 40)),
        Case("the largest sums, M=2 N=3 K=600", largest(2, 3, 600)),
        Case("parts of wider matrices, M=3 N=65 K=600", skinny(3, 65, 600, x_wider=24, w_wider=40)),
        Case("rows of w 2^30 elements apart, M=2 N=3 K=5", skinny(2, 3, 5, far=True)),
    ),
    mutants=(
        Mutant("the operands are not swapped", {_DOT: "acc = tl.dot(x.T, w.T, acc, out_dtype=tl.int32)"}, _SWAPPED),
        Mutant("x before w, or a block whose K is on the wrong axis",
               {_DOT: "acc = tl.dot(x, w, acc, out_dtype=tl.int32)"}, _SWAPPED),
        Mutant("the mask on K is missing",
               {_LOAD_W: _LOAD_W.replace(" & mask_k[None, :]", ""), _LOAD_X: _LOAD_X.replace("mask_k[:, None] & ", "")},
               "The last step along K reaches past K unless BLOCK_K divides it: load only where `offs_k < K`."),
        Mutant("the mask on K is missing when w is loaded",
               {_LOAD_W: _LOAD_W.replace(" & mask_k[None, :]", "")}, MASK_W),
        Mutant("the mask on K is missing when x is loaded",
               {_LOAD_X: _LOAD_X.replace("mask_k[:, None] & ", "")},
               MASK_W),
        Mutant("acc has the shape of y's tile", {"tl.zeros((BLOCK_N, BLOCK_M)": "tl.zeros((BLOCK_M, BLOCK_N)"}, _SWAPPED),
        Mutant("the mask on rows is missing when w is loaded", {_LOAD_W: _LOAD_W.replace("mask_n[:, None] & ", "")},
               "The last program has rows past N unless BLOCK_N divides it: load only where `offs_n < N`."),
        Mutant("the mask on M is missing when x is loaded", {_LOAD_X: _LOAD_X.replace(" & mask_m[None, :]", "")},
               "The tile has BLOCK_M = 16 columns and x may have fewer rows: load only where `offs_m < M`."),
        Mutant("the mask on M is missing when y is stored", {_STORE: "mask=mask_n[:, None])"},
               "The tile has BLOCK_M = 16 columns and y may have fewer rows: store only where `offs_m < M`."),
        Mutant("the mask on N is missing when y is stored", {_STORE: "mask=mask_m[None, :])"},
               "After a row's N elements comes the next row of y, which another program owns: store only where "
               "`offs_n < N`."),
        Mutant("`other=` is missing",
               {_LOAD_W: _LOAD_W.replace(", other=0", ""), _LOAD_X: _LOAD_X.replace(", other=0", "")}, OTHER),
        Mutant("only the first block of K", {_LOOP: "range(0, BLOCK_K, BLOCK_K)"},
               "K may be longer than BLOCK_K: loop over all of it in steps of BLOCK_K."),
        Mutant("the last block of K is dropped", {_LOOP: "range(0, K - BLOCK_K + 1, BLOCK_K)"},
               "When BLOCK_K does not divide K, the last, partial step counts too: loop while k < K."),
        Mutant("only the last block of K is kept", {_DOT: "acc = tl.dot(w, x, out_dtype=tl.int32)"},
               "Each step must add to acc, not replace it: tl.dot(w, x, acc, …) is acc + w · x."),
        Mutant("acc is added twice", {_DOT: _DOT.replace("acc =", "acc +=")},
               "tl.dot(w, x, acc, …) has acc in it already: write `acc = tl.dot(…)`."),
        Mutant("neither w nor x is advanced", {"offs_k = k + tl.arange": "offs_k = tl.arange"},
               "Step k works on the columns from k on: offs_k is k + tl.arange(0, BLOCK_K)."),
        Mutant("w is not advanced", {"w_rows + offs_k[None, :]": "w_rows + tl.arange(0, BLOCK_K)[None, :]"}, _STEP),
        Mutant("the sum rounded to FP16 before it is scaled", {"acc.to(tl.float32)": "acc.to(tl.float16)"}, EARLY),
        Mutant("the scales of x are forgotten", {" * x_scale[None, :]": ""},
               "Row m of y has the scale of row m of x: multiply with x_scale[None, :]."),
        Mutant("the scales of w are forgotten", {" * w_scale[:, None]": ""},
               "Column n of y has the scale of row n of w: multiply with w_scale[:, None]."),
        Mutant("every program takes the first scales of w",
               {"w_scale_ptr + offs_n": "w_scale_ptr + tl.arange(0, BLOCK_N)"},
               "Row n of w has the scale w_scale[n]: load from w_scale_ptr + offs_n."),
        Mutant("y is stored as (N, M)",
               {"offs_m[None, :] * N + offs_n[:, None]": "offs_n[:, None] * M + offs_m[None, :]"},
               "The tile is transposed, y is not: element (m, n) stands at m * N + n."),
        Mutant("the loop stops one block early", {"range(0, K, BLOCK_K)": "range(0, K - BLOCK_K, BLOCK_K)"},
               "The loop goes on while k < K: the last block counts too, whole or partial."),
        Mutant("the first block of K is skipped", {"range(0, K, BLOCK_K)": "range(BLOCK_K, K, BLOCK_K)"},
               "The loop starts at 0."),
        Mutant("only whole steps are counted, and k counts them", {"range(0, K, BLOCK_K)": "range(0, K // BLOCK_K)"},
               "k counts steps here, and a step starts at column k * BLOCK_K; and a last, partial step counts "
               "too, with tl.cdiv."),
        Mutant("the steps are counted, not their columns", {"range(0, K, BLOCK_K)": "range(0, tl.cdiv(K, BLOCK_K))"},
               "k counts blocks here, and the block starts at column k * BLOCK_K."),
        Mutant("rows of y taken to be BLOCK_N apart", {"offs_m[None, :] * N": "offs_m[None, :] * BLOCK_N"},
               "Element (m, n) of y stands at m * N + n."),
        Mutant("rows of y taken to be M apart", {"offs_m[None, :] * N": "offs_m[None, :] * M"},
               "Element (m, n) of y stands at m * N + n."),
        Mutant("programs BLOCK_M rows of w apart", {"tl.program_id(0) * BLOCK_N": "tl.program_id(0) * BLOCK_M"},
               "Program i owns rows i * BLOCK_N to (i + 1) * BLOCK_N - 1 of w."),
        Mutant("every program works on the first rows of w", {"tl.program_id(0) * BLOCK_N + ": ""},
               "Program i owns the rows of w from i * BLOCK_N on."),
        Mutant("x's scale twice",
               {"acc.to(tl.float32) * x_scale[None, :] * w_scale[:, None]":
                 "acc.to(tl.float32) * x_scale[None, :] * w_scale[:, None] * x_scale[None, :]"},
               "Each scale multiplies once: x_scale[m] · w_scale[n]."),
        Mutant("w's scale twice",
               {"acc.to(tl.float32) * x_scale[None, :] * w_scale[:, None]":
                 "acc.to(tl.float32) * x_scale[None, :] * w_scale[:, None] * w_scale[:, None]"},
               "Each scale multiplies once: x_scale[m] · w_scale[n]."),
        Mutant("divided by the scales",
               {"acc.to(tl.float32) * x_scale[None, :] * w_scale[:, None]":
                 "acc.to(tl.float32) / x_scale[None, :] / w_scale[:, None]"},
               "A scale is what a code is multiplied with."),
        Mutant("rows of w taken to be K apart", {"[:, None] * stride_wn": "[:, None] * K"},
               "w may be part of a wider matrix: its rows are stride_wn elements apart, not K."),
        Mutant("rows of x taken to be K apart", {"[None, :] * stride_xm": "[None, :] * K"},
               "x may be part of a wider matrix: its rows are stride_xm elements apart, not K."),
        Mutant("32-bit offsets in w", {"offs_n.to(tl.int64)[:, None] * stride_wn": "offs_n[:, None] * stride_wn"},
               "offs_n * stride_wn can pass 2³¹, where 32-bit numbers wrap around: widen first, offs_n.to(tl.int64)."),
    ),
)


# K in parts.

def split_case(M: int, N: int, K: int, splits: int, **options):
    def inputs(g: torch.Generator) -> dict:
        made = skinny(M, N, K, **options)(g)
        return {"x_q": made["x_q"], "w_q": made["w_q"], "splits": splits}
    return inputs


def exact_parts(x_q: torch.Tensor, w_q: torch.Tensor, splits: int) -> tuple[Expected]:
    """Exact: INT32 holds every sum."""
    size = -(-x_q.shape[1] // (128 * splits)) * 128
    parts = [a.double() @ b.double().T for a, b in zip(x_q.split(size, 1), w_q.split(size, 1), strict=True)]
    return (Expected(torch.stack(parts), dtype=torch.int32),)


_PART = "range(s * k_per_split, k_end, BLOCK_K)"

SPLIT_K = Exercise(
    name="split_k_kernel",
    lesson="08_decode",
    wrapper="split_k",
    outputs=("partial",),
    points=4,
    least_bytes=lambda x_q, w_q, splits: (w_q.numel() + x_q.numel() + 4 * len(x_q) * len(w_q) * splits),
    oracle=exact_parts,
    cases=(
        Case("M=5 N=70 K=1000, 3 parts", split_case(5, 70, 1000, 3)),
        Case("parts of half a step, M=2 N=5 K=512, 4 parts", split_case(2, 5, 512, 4)),
        Case("whole tiles, M=16 N=64 K=512, 2 parts", split_case(16, 64, 512, 2)),
        Case("one part, M=3 N=20 K=300", split_case(3, 20, 300, 1)),
        Case("parts of wider matrices, M=3 N=65 K=400, 2 parts", split_case(3, 65, 400, 2, x_wider=24, w_wider=40)),
    ),
    mutants=(
        Mutant("every part sums all of K", {_PART: _LOOP, "offs_k < k_end": "offs_k < K"},
               "Part s goes from s * k_per_split to the start of the next part, and no further."),
        Mutant("every part goes on to the end of K",
               {_PART: _PART.replace("k_end", "K"), "offs_k < k_end": "offs_k < K"},
               "Part s ends where part s + 1 starts: at (s + 1) * k_per_split, or at K."),
        Mutant("the mask is that of K", {"offs_k < k_end": "offs_k < K"},
               "The last step of a part may reach into the next part, whose columns would be counted twice: load only where "
               "`offs_k < k_end`."),
        Mutant("the mask counts from the part's start", {"offs_k < k_end": "offs_k < k_per_split"},
               "offs_k are columns of all of w, not of the part: load where `offs_k < k_end`, the end of the part."),
        Mutant("the last part goes past K", {"tl.minimum((s + 1) * k_per_split, K)": "(s + 1) * k_per_split"},
               "The last part may be shorter than the others: it ends at K, tl.minimum((s + 1) * k_per_split, K)."),
        Mutant("every part starts at column 0", {"range(s * k_per_split, k_end": "range(0, k_end"},
               "Part s starts at column s * k_per_split."),
        Mutant("parts a step long",
               {_PART: "range(s * BLOCK_K, s * BLOCK_K + BLOCK_K, BLOCK_K)", "offs_k < k_end": "offs_k < K"},
               "Part s has k_per_split columns, from s * k_per_split on: several steps."),
        Mutant("all parts are written to part 0", {"(s * M + offs_m)[None, :]": "offs_m[None, :]"},
               "Part s of partial (splits, M, N) starts s * M * N elements after partial_ptr."),
        Mutant("added to what is there", {"tl.store(partial_ptrs": "tl.atomic_add(partial_ptrs"},
               "partial holds anything at all before, and each of its elements has one program: tl.store."),
        Mutant("every part has the first columns",
               {_PART: "range(0, k_per_split, BLOCK_K)"}, "Part s starts at column s * k_per_split."),
        Mutant("every part ends where the first one does",
               {"tl.minimum((s + 1) * k_per_split, K)": "tl.minimum(k_per_split, K)"},
               "Part s ends where part s + 1 starts: at (s + 1) * k_per_split, or at K."),
        Mutant("parts taken to be N apart", {"(s * M + offs_m)[None, :]": "(s + offs_m)[None, :]"},
               "Part s of partial (splits, M, N) starts s * M * N elements after partial_ptr: its row m is row s * M + m."),
        Mutant("only the last step of a part is kept", {_DOT: "acc = tl.dot(w, x, out_dtype=tl.int32)"},
               "Each step must add to acc, not replace it: tl.dot(w, x, acc, …) is acc + w · x."),
        Mutant("the tile is stored transposed",
               {"(s * M + offs_m)[None, :] * N + offs_n[:, None]": "s * M * N + offs_n[:, None] * M + offs_m[None, :]"},
               "Element (s, m, n) of partial stands at (s * M + m) * N + n."),
        Mutant("the mask on N is missing when the part is stored", {_STORE: "mask=mask_m[None, :])"},
               "After a row's N elements comes the next row, which another program owns: store only where `offs_n < N`."),
        Mutant("the mask on M is missing when the part is stored", {_STORE: "mask=mask_n[:, None])"},
               "The tile has BLOCK_M = 16 columns and partial may have fewer rows: store only where `offs_m < M`."),
        Mutant("the two axes of the grid are swapped",
               {"s = tl.program_id(1)": "s = tl.program_id(2)",
                "tl.program_id(0) * BLOCK_N": "tl.program_id(1) * BLOCK_N",
                "s = tl.program_id(2)": "s = tl.program_id(0)"},
               "The grid counts columns of tiles along axis 0 and parts along axis 1."),
        Mutant("part s takes every splits-th block",
               {"range(s * k_per_split, k_end, BLOCK_K)": "range(s * BLOCK_K, K, BLOCK_K * tl.num_programs(1))",
                "offs_k < k_end": "offs_k < K"},
               "A part is k_per_split neighbouring columns, from s * k_per_split to k_end."),
        Mutant("part s taken to start s * M elements after partial, its rows N apart",
               {"(s * M + offs_m)[None, :] * N": "s * M + offs_m[None, :] * N"},
               "Part s of partial (splits, M, N) starts s * M * N elements on: put the row s * M + offs_m in "
               "parentheses."),
        Mutant("sums in FP16", {"tl.store(partial_ptrs, acc,": "tl.store(partial_ptrs, acc.to(tl.float16),"},
               "partial is INT32, and FP16 ends at 65,504: store acc as it is."),
        Mutant("sums in INT8", {"tl.store(partial_ptrs, acc,": "tl.store(partial_ptrs, acc.to(tl.int8),"},
               "An INT8 ends at 127 and wraps around: store acc as it is, INT32."),
        Mutant("the last part alone is bounded by K", {"offs_k < k_end": "offs_k < (s + 1) * k_per_split"},
               "The last part ends at K, which may come before (s + 1) * k_per_split: load where `offs_k < k_end`."),
        Mutant("neither w nor x is advanced", {"offs_k = k + tl.arange": "offs_k = tl.arange"},
               "Step k works on the columns from k on: offs_k is k + tl.arange(0, BLOCK_K)."),
        Mutant("acc is added twice", {"acc = tl.dot(w, x, acc": "acc += tl.dot(w, x, acc"},
               "tl.dot(w, x, acc, …) has acc in it already: write `acc = tl.dot(…)`."),
    ),
)


def parts(splits: int, M: int, N: int):
    """Parts of up to 2³⁰ that come down to small sums."""
    def inputs(g: torch.Generator) -> dict:
        partial = torch.randint(-2**30, 2**30, (splits, M, N), generator=g) // splits
        partial[-1] = 2 * torch.randint(-300, 300, (M, N), generator=g) + 1 - partial[:-1].sum(0)
        return {"partial": partial.int(), "x_scale": scales(g, M, 1.0), "w_scale": scales(g, N, 1.0)}
    return inputs


def small_parts(splits: int, M: int, N: int):
    def inputs(g: torch.Generator) -> dict:
        return {"partial": torch.randint(-10**6, 10**6, (splits, M, N), generator=g).int(),
                "x_scale": scales(g, M), "w_scale": scales(g, N)}
    return inputs


def exact_reduce(partial, x_scale, w_scale) -> tuple[Expected]:
    return (exact_scaled(partial.double().sum(0), x_scale, w_scale),)


_ADD = "acc += tl.load(partial_ptr + (s * M + m) * N + offs_n, mask=mask_n, other=0)"
_WHERE = "Element (s, m, n) of partial stands at (s * M + m) * N + n."

SPLIT_K_REDUCE = Exercise(
    name="split_k_reduce_kernel",
    lesson="08_decode",
    wrapper="split_k_reduce",
    outputs=("y",),
    points=3,
    least_bytes=lambda partial, x_scale, w_scale: (
        4 * partial.numel() + 4 * (len(x_scale) + len(w_scale)) + 2 * len(x_scale) * len(w_scale)),
    oracle=exact_reduce,
    cases=(
        Case("splits=3 M=4 N=700", small_parts(3, 4, 700)),
        Case("large parts of small sums, splits=4 M=2 N=100", parts(4, 2, 100)),
        Case("one part, M=3 N=512", small_parts(1, 3, 512)),
        Case("one element, splits=2 M=1 N=1", small_parts(2, 1, 1)),
    ),
    mutants=(
        Mutant("only the first part", {"range(splits)": "range(1)"}, "Every part counts: loop over all of `splits`."),
        Mutant("the last part is left out", {"range(splits)": "range(splits - 1)"},
               "The parts are numbered from 0 to splits - 1: range(splits) goes over all of them."),
        Mutant("only the last part is kept", {_ADD: _ADD.replace("+=", "=", 1)}, "Each part must be added to acc."),
        Mutant("part 0 counted twice", {"acc = tl.zeros((BLOCK_N,), dtype=tl.int32)":
               "acc = tl.load(partial_ptr + m * N + offs_n, mask=mask_n, other=0)"},
               "The sum starts with part 0, and the loop adds it again: start with zeros, or the loop with 1."),
        Mutant("sums in FP32",
               {"dtype=tl.int32)": "dtype=tl.float32)", _ADD: _ADD + ".to(tl.float32)"},
               "FP32 has 24 bits and the parts take up to 31: add them in tl.int32, where every sum is exact in any order."),
        Mutant("each part is scaled before it is added",
               {"dtype=tl.int32)": "dtype=tl.float32)", _ADD: _ADD + " * tl.load(x_scale_ptr + m)",
                "acc.to(tl.float32) * tl.load(x_scale_ptr + m)": "acc"},
               "Scaled parts are FP32, which rounds: add the parts in tl.int32 and scale the sum."),
        Mutant("the scale of x is forgotten", {" * tl.load(x_scale_ptr + m)": ""},
               "Row m of y has the scale of row m of x: multiply with it."),
        Mutant("the scales of w are forgotten", {" * w_scale\n": "\n"},
               "Column n of y has the scale of row n of w: multiply with it."),
        Mutant("every row gets the scale of row 0 of x", {"tl.load(x_scale_ptr + m)": "tl.load(x_scale_ptr)"},
               "Program m works on row m of y, whose scale is x_scale[m]."),
        Mutant("parts taken to be N apart", {"(s * M + m) * N": "(s + m) * N"}, _WHERE),
        Mutant("parts and rows swapped", {"(s * M + m) * N": "(m * splits + s) * N"},
               _WHERE + " Part comes before row."),
        Mutant("every program adds row 0", {"(s * M + m) * N": "s * M * N"}, _WHERE),
        Mutant("every program writes row 0", {"y_ptr + m * N + offs_n": "y_ptr + offs_n"},
               "Row m of y starts m * N elements after y_ptr."),
        Mutant("the sum rounded to FP16 before it is scaled", {"acc.to(tl.float32)": "acc.to(tl.float16)"}, EARLY),
        Mutant("the mask is missing when y is stored", {"y.to(tl.float16), mask=mask_n": "y.to(tl.float16)"},
               "After a row's N elements comes the next row of y: store only where `offs_n < N`."),
        Mutant("the mask is missing when the parts are loaded", {", mask=mask_n, other=0)\n": ")\n"},
               "The last program of a row reaches past N unless BLOCK_N divides it: load only where `offs_n < N`."),
        Mutant("sums in FP16",
               {"dtype=tl.int32)": "dtype=tl.float16)",
                "acc += tl.load(partial_ptr + (s * M + m) * N + offs_n, mask=mask_n, other=0)":
                 "acc += tl.load(partial_ptr + (s * M + m) * N + offs_n, mask=mask_n, other=0).to(tl.float16)"},
               "FP16 ends at 65,504, and INT32 parts pass it: add up in tl.int32."),
        Mutant("x's scale taken by columns",
               {"tl.load(x_scale_ptr + m)": "tl.load(x_scale_ptr + offs_n, mask=mask_n, other=0.0)"},
               "Row m of y has one scale of x, x_scale[m]: tl.load(x_scale_ptr + m)."),
        Mutant("rows and parts without their sizes", {"(s * M + m) * N": "s * M + m * N"}, _WHERE),
        Mutant("scaled again with each part",
               {"dtype=tl.int32)": "dtype=tl.float32)",
                "acc += tl.load(partial_ptr + (s * M + m) * N + offs_n, mask=mask_n, other=0)":
                 "acc = (acc + tl.load(partial_ptr + (s * M + m) * N + offs_n, mask=mask_n, "
                 "other=0).to(tl.float32)) * tl.load(x_scale_ptr + m)",
                "acc.to(tl.float32) * tl.load(x_scale_ptr + m)": "acc"},
               "A scale inside the loop multiplies what is there already once more: add the parts first, and "
               "scale the sum once."),
        Mutant("x's scale twice",
               {"tl.load(x_scale_ptr + m) * w_scale": "tl.load(x_scale_ptr + m) * tl.load(x_scale_ptr + m) * w_scale"},
               "Each scale multiplies once: x_scale[m] · w_scale[n]."),
        Mutant("w's scale twice", {"tl.load(x_scale_ptr + m) * w_scale": "tl.load(x_scale_ptr + m) * w_scale * w_scale"},
               "Each scale multiplies once: x_scale[m] · w_scale[n]."),
        Mutant("the mean of the parts", {"y = acc.to(tl.float32) *": "y = acc.to(tl.float32) / splits *"},
               "The sum over the parts is wanted: do not divide by their number."),
        Mutant("every program works on the first columns", {"tl.program_id(1) * BLOCK_N + ": ""},
               "Program (m, j) owns the columns from j * BLOCK_N on."),
    ),
)

EXERCISES = [SKINNY_W8A8, SPLIT_K, SPLIT_K_REDUCE]
