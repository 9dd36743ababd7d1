"""Lesson 00: programs, blocks, masks, strides."""

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers

EPS = 2.0**-24  # the relative error of one rounding to FP32


def vectors(*names: str, N: int, BLOCK: int):
    """Normal numbers, the tensors that `names` names, each (N,)."""
    def inputs(g: torch.Generator) -> dict:
        return {name: torch.randn(N, generator=g) for name in names} | {"BLOCK": BLOCK}
    return inputs


def integers(M: int, N: int):
    """Small integers from 1 up: every sum up to 2²⁴ is exact in FP32 in any order, and no element can be left out."""
    return lambda g: {"x": torch.randint(1, 9, (M, N), generator=g).float()}


def far_rows(M: int, N: int):
    """Rows 2³⁰ elements apart, parts of a matrix that is never made: the third starts where 32 bits no longer reach."""
    def inputs(g: torch.Generator) -> dict:
        far = torch.empty((M - 1) * 2**30 + N).as_strided((M, N), (2**30, 1))
        return {"x": far.copy_(integers(M, N)(g)["x"])}
    return inputs


def normal(M: int, N: int):
    return lambda g: {"x": torch.randn(M, N, generator=g)}


def rows_of_a_wider_matrix(M: int, N: int):
    """x is the left part of a matrix with longer rows, so its rows are not N apart."""
    return lambda g: {"x": integers(M, N + 24)(g)["x"][:, :N]}


def transposed(M: int, N: int, column_major: bool):
    return lambda g: {"x": torch.randn(N, M, generator=g).t(), "column_major": column_major}


def every_third_column(M: int, N: int, column_major: bool):
    return lambda g: {"x": torch.randn(M, 3 * N, generator=g)[:, ::3], "column_major": column_major}


def row_by_row(M: int, N: int, column_major: bool):
    return lambda g: {"x": torch.randn(M, N, generator=g), "column_major": column_major}


def exact_sum(x, y, BLOCK) -> tuple[Expected]:
    """One addition, rounded once: |error| ≤ 2⁻²⁴ · |x + y| (IEEE 754)."""
    exact = x.double() + y.double()
    return (Expected(exact, EPS * exact.abs(), torch.float32),)


def exact_smooth(x, BLOCK) -> tuple[Expected]:
    """Two additions of three terms (doubling and dividing by 4 are exact): |error| ≤ γ₂ · Σ|terms|, γ₂ = 2u / (1 - 2u)
    with u = 2⁻²⁴ (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 4.2)."""
    padded = torch.nn.functional.pad(x.double(), (1, 1))
    terms = torch.stack([padded[:-2], 2 * padded[1:-1], padded[2:]]) / 4
    return (Expected(terms.sum(0), 2 * EPS / (1 - 2 * EPS) * terms.abs().sum(0), torch.float32),)


def exact_row_sum(x) -> tuple[Expected]:
    """Sums of N terms in any order: |error| ≤ γ₍N-1₎ · Σ|x| (Higham, as above); none for integers that stay below 2²⁴."""
    size, n = x.double().abs().sum(1), x.shape[1] - 1
    whole = bool((x == x.round()).all() and size.max() < 2**24)
    return (Expected(x.double().sum(1), 0.0 if whole else n * EPS / (1 - n * EPS) * size, torch.float32),)


PROGRAMS_NEEDED = Exercise(
    name="programs_needed",
    lesson="00_hello_triton",
    points=1,
    cases=(numbers(N=50, BLOCK=16), numbers(N=64, BLOCK=16), numbers(N=1, BLOCK=1024), numbers(N=1025, BLOCK=1024),
           numbers(N=2**40 + 3, BLOCK=4)),
    oracle=lambda N, BLOCK: (Expected(-(-N // BLOCK)),),
    mutants=(
        Mutant("rounded down", {"(N + BLOCK - 1) // BLOCK": "N // BLOCK"},
               "When BLOCK does not divide N, the remainder needs one more program: round up."),
        Mutant("rounded to the nearest whole number", {"(N + BLOCK - 1) // BLOCK": "round(N / BLOCK)"},
               "Two elements beyond the last whole block need a program too: round up, however small the remainder."),
        Mutant("one program too many when BLOCK divides N", {"(N + BLOCK - 1) // BLOCK": "N // BLOCK + 1"},
               "64 elements in blocks of 16 are 4 blocks, not 5: add one only when there is a remainder."),
        Mutant("each element of the remainder counted as a program",
               {"(N + BLOCK - 1) // BLOCK": "N // BLOCK + N % BLOCK"},
               "The remainder needs one program, however many elements it has."),
        Mutant("a fraction of a program", {"(N + BLOCK - 1) // BLOCK": "N / BLOCK"},
               "The number of programs is whole: round up."),
        Mutant("`//` before `+`", {"(N + BLOCK - 1) // BLOCK": "N + BLOCK - 1 // BLOCK"},
               "`//` binds more tightly than `+`: put the sum in parentheses."),
        Mutant("a program for each element", {"(N + BLOCK - 1) // BLOCK": "N"},
               "One program works on BLOCK elements, so fewer programs are needed."),
    ),
)

_STORE_AT_OFFS = "What a program computes belongs at its block's place in out, not at the start: store at out_ptr + offs."

VECTOR_ADD = Exercise(
    name="vector_add_kernel",
    lesson="00_hello_triton",
    wrapper="vector_add",
    outputs=("out",),
    points=2,
    least_bytes=lambda x, y, BLOCK: 3 * x.nbytes,
    oracle=exact_sum,
    cases=(
        Case("N=300 BLOCK=128", vectors("x", "y", N=300, BLOCK=128)),
        Case("whole blocks, N=64 BLOCK=32", vectors("x", "y", N=64, BLOCK=32)),
        Case("one element more, N=65 BLOCK=32", vectors("x", "y", N=65, BLOCK=32)),
        Case("less than one block, N=3 BLOCK=16", vectors("x", "y", N=3, BLOCK=16)),
        Case("one element, N=1 BLOCK=1", vectors("x", "y", N=1, BLOCK=1)),
    ),
    mutants=(
        Mutant("no mask when x is loaded", {"x_ptr + offs, mask=mask": "x_ptr + offs"},
               "The last block reaches past N unless BLOCK divides N: load and store only where `offs < N`."),
        Mutant("no mask when y is loaded", {"y_ptr + offs, mask=mask": "y_ptr + offs"},
               "y has N elements as x has: it needs the same mask."),
        Mutant("no mask when out is stored", {"x + y, mask=mask": "x + y"},
               "A store without a mask writes all BLOCK lanes, also those past N: they belong to someone else."),
        Mutant("every program works on the first block", {"p * BLOCK + tl.arange": "tl.arange"},
               "Program p starts at element p * BLOCK: add that to tl.arange(0, BLOCK)."),
        Mutant("blocks that start one element apart", {"p * BLOCK + tl.arange": "p + tl.arange"},
               "Program p starts p blocks in, at element p * BLOCK, not at element p."),
        Mutant("lanes taken to be BLOCK elements apart",
               {"p * BLOCK + tl.arange(0, BLOCK)": "p + tl.arange(0, BLOCK) * BLOCK"},
               "Program p owns neighbouring elements, from p * BLOCK on: p * BLOCK + tl.arange(0, BLOCK)."),
        Mutant("the mask lets one element too many through", {"offs < N": "offs <= N"},
               "The last element is number N - 1: the mask is `offs < N`, not `<=`."),
        Mutant("the last element is left out", {"offs < N": "offs < N - 1"},
               "The last element is number N - 1: the mask is `offs < N`."),
        Mutant("a mask that does not move with the program", {"offs < N": "tl.arange(0, BLOCK) < N"},
               "The mask must compare the elements' own numbers, offs, with N."),
        Mutant("the offsets added to the values",
               {"tl.load(x_ptr + offs, mask=mask)": "tl.load(x_ptr) + offs",
                "tl.load(y_ptr + offs, mask=mask)": "tl.load(y_ptr) + offs"},
               "Add the offsets to the address, within `tl.load`: tl.load(x_ptr + offs, mask=mask)."),
        Mutant("x added to itself", {"y_ptr + offs, mask": "x_ptr + offs, mask"},
               "The second load must read from y_ptr."),
        Mutant("every program stores in the first block", {"out_ptr + offs": "out_ptr + tl.arange(0, BLOCK)"},
               _STORE_AT_OFFS),
        Mutant("every program does all blocks",
               {"    x = tl.load(x_ptr":
                 "    for b in range(0, N, BLOCK):\n        at = b + tl.arange(0, BLOCK)\n        tl.store(out_ptr "
                 "+ at, tl.load(x_ptr + at, mask=at < N) + tl.load(y_ptr + at, mask=at < N), mask=at < N)\n    "
                 "mask = offs < 0\n    x = tl.load(x_ptr"},
               "There are as many programs as blocks: program p does block p alone, without a loop."),
        Mutant("subtracted, not added", {"x + y, mask": "x - y, mask"}, "out is the sum, x + y."),
        Mutant("multiplied, not added", {"x + y, mask": "x * y, mask"}, "out is the sum, x + y."),
    ),
)

_INNER = "(offs > 0) & (offs + 1 < N)"

SMOOTH = Exercise(
    name="smooth_kernel",
    lesson="00_hello_triton",
    wrapper="smooth",
    outputs=("out",),
    points=2,
    least_bytes=lambda x, BLOCK: 2 * x.nbytes,
    oracle=exact_smooth,
    cases=(
        Case("N=300 BLOCK=128", vectors("x", N=300, BLOCK=128)),
        Case("whole blocks, N=64 BLOCK=32", vectors("x", N=64, BLOCK=32)),
        Case("one element more, N=65 BLOCK=32", vectors("x", N=65, BLOCK=32)),
        Case("less than one block, N=3 BLOCK=16", vectors("x", N=3, BLOCK=16)),
        Case("one element, N=1 BLOCK=16", vectors("x", N=1, BLOCK=16)),
    ),
    mutants=(
        Mutant("the left neighbour of element 0 is read", {"mask=mask & (offs > 0)": "mask=mask"},
               "This load reads element offs - 1: only where that is at least 0, which is where `offs > 0`."),
        Mutant("the right neighbour of the last element is read", {"mask=offs + 1 < N": "mask=mask"},
               "This load reads element offs + 1: only where that is less than N."),
        Mutant("the mask for the left neighbours has lost `offs < N`", {"mask=mask & (offs > 0)": "mask=offs > 0"},
               "The last block has lanes past N, and their left neighbours lie past N too: join both masks with `&`."),
        Mutant("`offs <= N` for the right neighbours", {"mask=offs + 1 < N": "mask=offs <= N"},
               "The right neighbour is element offs + 1, and it must be less than N: `offs + 1 < N`."),
        Mutant("the right neighbour of the last but one is left out", {"offs + 1 < N": "offs + 1 < N - 1"},
               "The last element is number N - 1, and it is somebody's right neighbour: read where `offs + 1 < N`."),
        Mutant("the left neighbour of element 1 is left out", {"offs > 0": "offs > 1"},
               "Element 0 is the left neighbour of element 1: read where `offs > 0`."),
        Mutant("the end elements are repeated",
               {"x_ptr + offs - 1, mask=mask & (offs > 0)": "x_ptr + tl.maximum(offs - 1, 0), mask=mask",
                "x_ptr + offs + 1, mask=offs + 1 < N": "x_ptr + tl.minimum(offs + 1, N - 1), mask=mask"},
               "In front of x and behind it zeros are wanted: turn those lanes off, and give them `other=0.0`."),
        Mutant("element 0 is its own left neighbour",
               {"x_ptr + offs - 1, mask=mask & (offs > 0)": "x_ptr + tl.maximum(offs - 1, 0), mask=mask"},
               "In front of x zeros are wanted: turn that lane off, and give it `other=0.0`."),
        Mutant("the ends of a block taken for the ends of x", {"(offs > 0)": "(tl.arange(0, BLOCK) > 0)"},
               "Only element 0 of x has no left neighbour. The other blocks' first lanes have one, in the block before."),
        Mutant("one mask for all three loads",
               {"mask=mask & (offs > 0)": f"mask={_INNER}", "mask=offs + 1 < N": f"mask={_INNER}",
                "x_ptr + offs, mask=mask": f"x_ptr + offs, mask={_INNER}"},
               "The two end elements are inside x, only one neighbour of each is not: give each load a mask of its own."),
        Mutant("the end elements are not stored", {"/ 4, mask=mask)": f"/ 4, mask={_INNER})"},
               "They lack a neighbour, but they have a result: store wherever `offs < N`."),
        Mutant("every program stores in the first block", {"out_ptr + offs": "out_ptr + tl.arange(0, BLOCK)"},
               _STORE_AT_OFFS),
        Mutant("`other=` is missing", {"(offs > 0), other=0.0": "(offs > 0)", "offs + 1 < N, other=0.0": "offs + 1 < N"},
               "Lanes that a mask turns off hold anything at all unless the load says `other=0.0`; here they are added."),
        Mutant("no mask when out is stored", {"/ 4, mask=mask)": "/ 4)"},
               "A store without a mask writes all BLOCK lanes, also those past N: store only where `offs < N`."),
        Mutant("neighbours mixed up with the element itself",
               {"x_ptr + offs - 1, mask=mask & (offs > 0)": "x_ptr + offs, mask=mask & (offs > 0)",
                "x_ptr + offs + 1, mask": "x_ptr + offs, mask"},
               "The neighbours stand at x_ptr + offs - 1 and x_ptr + offs + 1."),
        Mutant("not divided by 4", {"(left + 2 * here + right) / 4": "left + 2 * here + right"},
               "The weights 1, 2 and 1 add up to 4: divide the sum by 4."),
        Mutant("the mean of three", {"(left + 2 * here + right) / 4": "(left + here + right) / 3"},
               "The element itself counts twice, and the sum is divided by 4: (left + 2 * here + right) / 4."),
        Mutant("only the right neighbour is divided", {"(left + 2 * here + right) / 4": "left + 2 * here + right / 4"},
               "`/` binds more tightly than `+`: put the sum in parentheses."),
        Mutant("the middle not doubled", {"2 * here": "here"}, "The element itself counts twice: 2 * here."),
        Mutant("neighbours two apart",
               {"offs - 1, mask=mask & (offs > 0)": "offs - 2, mask=mask & (offs > 1)",
                "offs + 1, mask=offs + 1 < N": "offs + 2, mask=offs + 2 < N"},
               "The neighbours stand at x_ptr + offs - 1 and x_ptr + offs + 1."),
        Mutant("one neighbour subtracted", {"2 * here + right": "2 * here - right"},
               "All three are added: left + 2 * here + right."),
    ),
)

ROW_SUM = Exercise(
    name="row_sum_kernel",
    lesson="00_hello_triton",
    wrapper="row_sum",
    outputs=("out",),
    points=3,
    least_bytes=lambda x: 4 * (x.numel() + len(x)),
    oracle=exact_row_sum,
    cases=(
        Case("integers, M=9 N=300", integers(9, 300)),
        Case("integers, M=3 N=256", integers(3, 256)),
        Case("one element, M=1 N=1", integers(1, 1)),
        Case("rows of a wider matrix, M=5 N=127", rows_of_a_wider_matrix(5, 127)),
        Case("normal, M=6 N=129", normal(6, 129)),
        Case("rows 2^30 elements apart, M=3 N=5", far_rows(3, 5)),
    ),
    mutants=(
        Mutant("the mask is missing", {"offs_n, mask=mask_n, other=0.0": "offs_n"},
               "After a row's N elements comes the next row, after the last row nothing: load only where `offs_n < N`."),
        Mutant("`other=` is missing", {"mask=mask_n, other=0.0": "mask=mask_n"},
               "Lanes that a mask turns off hold anything at all unless the load says `other=0.0`; here they are summed."),
        Mutant("every program sums row 0", {"m * stride_xm + offs_n": "offs_n"},
               "Row m starts m * stride_xm elements after x_ptr."),
        Mutant("rows taken to start one element apart", {"m * stride_xm + offs_n": "m + offs_n"},
               "Row m starts m * stride_xm elements after x_ptr, not m."),
        Mutant("rows taken to be N apart", {"m * stride_xm + offs_n": "m * N + offs_n"},
               "x may be part of a wider matrix: its rows are stride_xm elements apart, not N."),
        Mutant("rows taken to be BLOCK_N apart", {"m * stride_xm + offs_n": "m * BLOCK_N + offs_n"},
               "BLOCK_N is how many lanes a program has; the rows are stride_xm elements apart."),
        Mutant("columns summed instead of rows", {"m * stride_xm + offs_n": "offs_n * stride_xm + m"},
               "Element (m, n) stands at m * stride_xm + n: the block must run along n."),
        Mutant("the mask compares places in memory", {"mask_n = offs_n < N": "mask_n = m * stride_xm + offs_n < N"},
               "The mask is about the place in the row: `offs_n < N`, without the start of the row."),
        Mutant("sums stored stride_xm apart", {"out_ptr + m": "out_ptr + m * stride_xm"},
               "out has one element per row, side by side: store at out_ptr + m."),
        Mutant("every program writes out[0]", {"out_ptr + m": "out_ptr"}, "Program m owns out[m]: store at out_ptr + m."),
        Mutant("each sum stored in a whole block", {"out_ptr + m": "out_ptr + offs_n"},
               "A program has a single sum, and owns out[m]: store at out_ptr + m."),
        Mutant("each sum stored in N elements",
               {"out_ptr + m, tl.sum(x, axis=0)": "out_ptr + offs_n, tl.sum(x, axis=0), mask_n"},
               "A program has a single sum, and owns out[m]: store at out_ptr + m."),
        Mutant("the mask lets one element too many through", {"offs_n < N": "offs_n <= N"},
               "The last element of a row is number N - 1: the mask is `offs_n < N`, not `<=`."),
        Mutant("the last element of each row is left out", {"offs_n < N": "offs_n < N - 1"},
               "The last element of a row is number N - 1: the mask is `offs_n < N`."),
        Mutant("added onto out, which holds nothing yet", {"tl.store(out_ptr + m,": "tl.atomic_add(out_ptr + m,"},
               "out comes uninitialized, and each sum has one program: store it, with tl.store."),
        Mutant("the mean, not the sum", {"tl.sum(x, axis=0)": "tl.sum(x, axis=0) / N"},
               "The sum is wanted: do not divide by N."),
        Mutant("the largest, not the sum", {"tl.sum(x, axis=0)": "tl.max(x, axis=0)"},
               "The sum of the row is wanted: tl.sum."),
        Mutant("the squares are summed", {"tl.sum(x, axis=0)": "tl.sum(x * x, axis=0)"},
               "The elements are summed, not their squares."),
        Mutant("32-bit offsets", {"tl.program_id(0).to(tl.int64)": "tl.program_id(0)"},
               "m * stride_xm can pass 2³¹, where 32-bit numbers wrap around: widen m first, .to(tl.int64)."),
    ),
)

COPY_2D = Exercise(
    name="copy_2d_kernel",
    lesson="00_hello_triton",
    wrapper="copy_2d",
    moves_only=True,
    outputs=("out",),
    points=4,
    least_bytes=lambda x, column_major: 2 * 4 * x.numel(),
    oracle=lambda x, column_major: (Expected(x.double(), 0.0, torch.float32),),
    cases=(
        Case("row by row, M=18 N=66", row_by_row(18, 66, False)),
        Case("row by row to column by column, M=17 N=65", row_by_row(17, 65, True)),
        Case("column by column to row by row, M=17 N=63", transposed(17, 63, False)),
        Case("every third column, M=15 N=63", every_third_column(15, 63, False)),
        Case("every third column to column by column, M=18 N=5", every_third_column(18, 5, True)),
        Case("whole blocks, M=16 N=64", row_by_row(16, 64, True)),
        Case("rows 2^30 elements apart, M=3 N=5", lambda g: far_rows(3, 5)(g) | {"column_major": False}),
        Case("one element, M=1 N=1", row_by_row(1, 1, False)),
    ),
    mutants=(
        Mutant("the mask on rows is missing", {"(offs_m[:, None] < M) & (offs_n[None, :] < N)":
                                               "(offs_m[:, None] >= 0) & (offs_n[None, :] < N)"},
               "The last blocks have rows past M: a lane counts only where `offs_m < M` and `offs_n < N`."),
        Mutant("the mask on columns is missing", {"(offs_m[:, None] < M) & (offs_n[None, :] < N)":
                                                  "(offs_m[:, None] < M) & (offs_n[None, :] >= 0)"},
               "The last blocks have columns past N, and past a row's end comes the next row: mask N as well as M."),
        Mutant("M and N are swapped in the mask", {"(offs_m[:, None] < M) & (offs_n[None, :] < N)":
                                                      "(offs_m[:, None] < N) & (offs_n[None, :] < M)"},
               "offs_m counts rows, of which there are M; offs_n counts columns, of which there are N."),
        Mutant("masks joined with `|`", {"< M) & (": "< M) | ("},
               "A lane is inside only where both are true: join the masks with `&`."),
        Mutant("the masks compare places in memory",
               {"tl.load(x_ptrs, mask=mask)":
                 "tl.load(x_ptrs, mask=offs_m[:, None] * stride_xm + offs_n[None, :] * stride_xn < M * N)",
                "tl.store(out_ptrs, x, mask=mask)":
                 "tl.store(out_ptrs, x, mask=offs_m[:, None] * stride_om + offs_n[None, :] * stride_on < M * N)"},
               "A lane past the end of a row may still lie before M * N: the mask is about the row and the column, "
               "`offs_m < M` and `offs_n < N`."),
        Mutant("the load has no mask", {"tl.load(x_ptrs, mask=mask)": "tl.load(x_ptrs)"},
               "The blocks at the edges reach past M and N: load only where the mask is true."),
        Mutant("the store has no mask", {"tl.store(out_ptrs, x, mask=mask)": "tl.store(out_ptrs, x)"},
               "The blocks at the edges reach past M and N: store only where the mask is true."),
        Mutant("neither the load nor the store has a mask", {"tl.load(x_ptrs, mask=mask)": "tl.load(x_ptrs)",
                                                             "tl.store(out_ptrs, x, mask=mask)": "tl.store(out_ptrs, x)"},
               "The blocks at the edges reach past M and N: load and store only where `offs_m < M` and `offs_n < N`."),
        Mutant("x's strides are swapped", {"offs_m[:, None] * stride_xm + offs_n[None, :] * stride_xn":
                                             "offs_m[:, None] * stride_xn + offs_n[None, :] * stride_xm"},
               "One row down is stride_xm elements on, one column to the right stride_xn."),
        Mutant("out's strides are swapped", {"offs_m[:, None] * stride_om + offs_n[None, :] * stride_on":
                                               "offs_m[:, None] * stride_on + offs_n[None, :] * stride_om"},
               "One row down is stride_om elements on, one column to the right stride_on."),
        Mutant("columns of x taken to lie side by side", {"[None, :] * stride_xn": "[None, :]"},
               "x may be transposed or have gaps: element (m, n) stands at m * stride_xm + n * stride_xn."),
        Mutant("columns of out taken to lie side by side", {"[None, :] * stride_on": "[None, :]"},
               "out may lie column by column: element (m, n) stands at m * stride_om + n * stride_on."),
        Mutant("x taken to lie row by row without gaps",
               {"offs_m[:, None] * stride_xm + offs_n[None, :] * stride_xn": "offs_m[:, None] * N + offs_n[None, :]"},
               "x may be transposed or have gaps: use its strides, m * stride_xm + n * stride_xn."),
        Mutant("rows of x taken to be N apart", {"[:, None] * stride_xm": "[:, None] * N"},
               "x may be transposed or have gaps: one row down is stride_xm elements on, not N."),
        Mutant("out taken to lie row by row",
               {"offs_m[:, None] * stride_om + offs_n[None, :] * stride_on": "offs_m[:, None] * N + offs_n[None, :]"},
               "out may lie column by column: use its strides, m * stride_om + n * stride_on."),
        Mutant("rows of out taken to be N apart", {"[:, None] * stride_om": "[:, None] * N"},
               "out may lie column by column: one row down is stride_om elements on, not N."),
        Mutant("out is written with x's strides",
               {"* stride_om + offs_n[None, :] * stride_on": "* stride_xm + offs_n[None, :] * stride_xn"},
               "out has strides of its own, stride_om and stride_on."),
        Mutant("x is read with out's strides",
               {"* stride_xm + offs_n[None, :] * stride_xn": "* stride_om + offs_n[None, :] * stride_on"},
               "x has strides of its own, stride_xm and stride_xn."),
        Mutant("the two axes of the grid are swapped",
               {"tl.program_id(0)": "tl.program_id(2)",
                "tl.program_id(1)": "tl.program_id(0)",
                "tl.program_id(2)": "tl.program_id(1)"},
               "The grid counts blocks of rows along axis 0 and blocks of columns along axis 1."),
        Mutant("every program copies the first columns", {"tl.program_id(1).to(tl.int64) * BLOCK_N + ": ""},
               "Program (i, j) owns the columns from j * BLOCK_N on: add that to tl.arange(0, BLOCK_N)."),
        Mutant("every program copies the first rows", {"tl.program_id(0).to(tl.int64) * BLOCK_M + ": ""},
               "Program (i, j) owns the rows from i * BLOCK_M on: add that to tl.arange(0, BLOCK_M)."),
        Mutant("32-bit offsets",
               {"tl.program_id(0).to(tl.int64)": "tl.program_id(0)",
                "tl.program_id(1).to(tl.int64)": "tl.program_id(1)"},
               "offs_m * stride_xm can pass 2³¹, where 32-bit numbers wrap around: widen first, .to(tl.int64)."),
    ),
)

EXERCISES = [PROGRAMS_NEEDED, VECTOR_ADD, SMOOTH, ROW_SUM, COPY_2D]
