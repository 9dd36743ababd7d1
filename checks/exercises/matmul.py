"""Lesson 02: the FP16 matrix product, what it must cost, and the order of its tiles."""

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers
from kernels import cost


def integers(M: int, N: int, K: int, low: int = -8, high: int = 8):
    """x and w of small integers: every sum up to 2²⁴ is exact in FP32 in any order, so only rounding y to FP16 is left."""
    def inputs(g: torch.Generator) -> dict:
        return {"x": torch.randint(low, high + 1, (M, K), generator=g).half(),
                "w": torch.randint(low, high + 1, (N, K), generator=g).half()}
    return inputs


def normal(M: int, N: int, K: int):
    def inputs(g: torch.Generator) -> dict:
        return {"x": torch.randn(M, K, generator=g).half(), "w": torch.randn(N, K, generator=g).half()}
    return inputs


def swelling(M: int, N: int, K: int):
    """Sums climb by about 31² a step for half of K and come down again to a small y. FP32 holds them exactly; past 2,048 an
    FP16 accumulator can no longer hold odd numbers, and past 65,504 none."""
    def inputs(g: torch.Generator) -> dict:
        half = K // 2
        x, w = torch.full((M, K), 31), torch.full((N, K), 31)
        w[:, half:2 * half] = -31
        w += torch.randint(-1, 2, (N, K), generator=g)
        return {"x": x.half(), "w": w.half()}
    return inputs


def parts_of_wider_matrices(M: int, N: int, K: int):
    """x and w are the left parts of matrices with longer rows, so their rows are not K apart."""
    def inputs(g: torch.Generator) -> dict:
        return {"x": integers(M, 1, K + 24)(g)["x"][:, :K], "w": integers(1, N, K + 40)(g)["w"][:, :K]}
    return inputs


def far_rows(name: str, rows: int, N: int, K: int):
    """Rows of `name` 2³⁰ elements apart, parts of a matrix that is never made: the third starts beyond 32 bits."""
    def inputs(g: torch.Generator) -> dict:
        made = integers(*((rows, N) if name == "x" else (N, rows)), K)(g)
        far = torch.empty((rows - 1) * 2**30 + K, dtype=torch.float16).as_strided((rows, K), (2**30, 1))
        return made | {name: far.copy_(made[name])}
    return inputs


def exact_matmul(x: torch.Tensor, w: torch.Tensor) -> tuple[Expected]:
    """y in float64. Rounding y to FP16 errs by at most 2⁻¹¹ · |y|, accumulating in FP32 by K · 2⁻²³ · Σ|x·w| (Higham,
    "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1; 2⁻²³ and not 2⁻²⁴, for tensor cores truncate:
    Fasi, Higham, Mikaitis and Pranesh, PeerJ Computer Science 7:e330, 2021); by 0 for integers whose sums stay below 2²⁴."""
    exact, size = x.double() @ w.double().T, x.double().abs() @ w.double().abs().T
    whole = bool((x == x.round()).all() and (w == w.round()).all() and size.max() < 2**24)
    accumulation = 0.0 if whole else x.shape[1] * 2.0**-23 * size
    return (Expected(exact, accumulation + 2.0**-11 * exact.abs().clamp(min=2.0**-14), torch.float16),)


def least_bytes(x: torch.Tensor, w: torch.Tensor) -> int:
    return cost.matmul_fp16_bytes(*x.shape[:1], *w.shape)


TILES_OF_Y = (
    Mutant("the mask on M is missing when y is stored",
           {"mask=mask_m[:, None] & mask_n[None, :])": "mask=mask_n[None, :])"},
           "The last row of tiles reaches past M: store only where `offs_m < M`."),
    Mutant("the mask on N is missing when y is stored",
           {"mask=mask_m[:, None] & mask_n[None, :])": "mask=mask_m[:, None])"},
           "After a row's N elements comes the next row of y, which another tile owns: store only where `offs_n < N`."),
    Mutant("the tile is stored transposed",
           {"offs_m.to(tl.int64)[:, None] * stride_ym + offs_n[None, :]":
             "offs_n[None, :] * stride_ym + offs_m[:, None]"},
           "Element (m, n) of y stands at m * stride_ym + n."),
    Mutant("the two axes of the grid are swapped",
           {"tl.program_id(0) * BLOCK_M": "tl.program_id(1) * BLOCK_M",
            "tl.program_id(1) * BLOCK_N": "tl.program_id(0) * BLOCK_N"},
           "The wrapper's grid counts rows of tiles along axis 0 and columns along axis 1: keep the given lines."),
    Mutant("every program works on the first columns", {"tl.program_id(1) * BLOCK_N + ": ""},
           "Program (i, j) owns the columns from j * BLOCK_N on."),
    Mutant("every program works on the first rows", {"tl.program_id(0) * BLOCK_M + ": ""},
           "Program (i, j) owns the rows from i * BLOCK_M on."),
)
"""Mistakes in the tile of y that a program of any product owns: which one it is, and how it is stored."""

LOOP_OVER_K = (
    Mutant("the loop stops one block early", {"range(0, K, BLOCK_K)": "range(0, K - BLOCK_K, BLOCK_K)"},
           "The loop goes on while k < K: the last block counts too, whole or partial."),
    Mutant("the first block of K is skipped", {"range(0, K, BLOCK_K)": "range(BLOCK_K, K, BLOCK_K)"},
           "The loop starts at 0."),
    Mutant("only whole steps are counted, and k counts them", {"range(0, K, BLOCK_K)": "range(0, K // BLOCK_K)"},
           "k counts steps here, and a step starts at element k * BLOCK_K; and a last, partial step counts "
           "too, with tl.cdiv."),
)
"""Mistakes in the loop of any product that steps along K by BLOCK_K."""

_PRODUCTS = "Elements are used many times: each of the M · N elements of y is a sum of K products, of two operations each."

MATMUL_FLOPS = Exercise(
    name="matmul_flops",
    lesson="02_gemm_fp16",
    points=1,
    cases=(numbers(M=3, N=5, K=7), numbers(M=1, N=1, K=1), numbers(M=16384, N=6144, K=2048)),
    oracle=lambda M, N, K: (Expected(sum(2 for _ in range(M * N)) * K if M * N < 100 else 2 * M * N * K),),
    mutants=(
        Mutant("a multiply and an add counted as one", {"2 * M * N * K": "M * N * K"},
               "Each product x[m, k] · w[n, k] is one operation, and adding it to the sum is another."),
        Mutant("one token only", {"2 * M * N * K": "2 * N * K"},
               "This is the GEMV of lesson 01: now there are M tokens, each with N elements of y."),
        Mutant("the elements of y alone", {"2 * M * N * K": "2 * M * N"},
               "Each of the M · N elements of y is a sum of K products."),
        Mutant("divided by two", {"2 * M * N * K": "M * N * K / 2"},
               "Each product is a multiplication and an addition: times two, not divided by it."),
        Mutant("K - 1 additions", {"2 * M * N * K": "M * N * (2 * K - 1)"},
               "Count two operations for each product, as the docstring says: the first addition, to zero, counts too."),
        Mutant("the sizes added", {"2 * M * N * K": "2 * (M + N + K)"},
               "Each of the M · N elements of y is a sum of K products: multiply the sizes."),
        Mutant("the elements of x and w", {"2 * M * N * K": "2 * (M * K + N * K)"}, _PRODUCTS),
        Mutant("the elements of x, w and y", {"2 * M * N * K": "2 * (M * K + N * K + M * N)"}, _PRODUCTS),
    ),
)

MATMUL_FP16_BYTES = Exercise(
    name="matmul_fp16_bytes",
    lesson="02_gemm_fp16",
    points=1,
    cases=(numbers(M=16, N=4096, K=4096), numbers(M=1, N=1, K=1), numbers(M=127, N=300, K=65),
           numbers(M=16384, N=6144, K=2048)),
    oracle=lambda M, N, K: (Expected(sum(torch.empty(shape, dtype=torch.float16, device="meta").nbytes
                                         for shape in [(M, K), (N, K), (M, N)])),),
    mutants=(
        Mutant("bytes counted as elements", {"2 * (M * K + N * K + M * N)": "M * K + N * K + M * N"},
               "Each FP16 element takes two bytes."),
        Mutant("y left out", {" + M * N": ""}, "The result y (M, N) has to be written."),
        Mutant("x left out", {"M * K + N": "N"}, "The M rows of x have to be read."),
        Mutant("w left out", {" + N * K": ""}, "The N rows of w have to be read."),
        Mutant("w read once for each token", {"N * K": "M * N * K"},
               "The least is to read w once and use each element for all M tokens."),
        Mutant("2 · M · N too many: y in FP32, or moved twice", {"M * N)": "2 * M * N)"},
               "The sums are kept in FP32 on the chip; y is written once, in FP16."),
        Mutant("the product of all three sizes", {"2 * (M * K + N * K + M * N)": "2 * M * N * K"},
               "That is the number of products, which are arithmetic. Bytes come from the three matrices: M · K, "
               "N · K and M · N numbers."),
        Mutant("x read for each column, and w for each row", {"M * K + N * K": "M * K * N + N * K * M"},
               "The least is to read each matrix once and keep it on the chip."),
    ),
)


def count_tiles(M: int, N: int, K: int, BLOCK_M: int, BLOCK_N: int) -> tuple[Expected]:
    """Program by program: what exists of its rows of x and of w, and of its tile of y."""
    heights = [min(BLOCK_M, M - m) for m in range(0, M, BLOCK_M)]
    widths = [min(BLOCK_N, N - n) for n in range(0, N, BLOCK_N)]
    return (Expected(sum(2 * (height * K + width * K + height * width) for height in heights for width in widths)),)


TILED_MATMUL_BYTES = Exercise(
    name="tiled_matmul_bytes",
    lesson="02_gemm_fp16",
    points=2,
    cases=(numbers(M=256, N=512, K=64, BLOCK_M=128, BLOCK_N=128),
           numbers(M=130, N=200, K=100, BLOCK_M=128, BLOCK_N=64),
           numbers(M=5, N=300, K=7, BLOCK_M=16, BLOCK_N=32), numbers(M=6, N=4, K=3, BLOCK_M=1, BLOCK_N=1)),
    oracle=count_tiles,
    mutants=(
        Mutant("the two tile counts swapped",
               {"M * K * columns_of_tiles + N * K * rows_of_tiles": "M * K * rows_of_tiles + N * K * columns_of_tiles"},
               "A row of x is read by each program in its row of tiles: as many times as there are *columns* of tiles."),
        Mutant("tiles rounded down", {"-(-M // BLOCK_M), -(-N // BLOCK_N)": "M // BLOCK_M, N // BLOCK_N"},
               "A last tile that is only partly filled has a program too: round up. triton.cdiv(N, BLOCK_N) does."),
        Mutant("fractions of tiles", {"-(-M // BLOCK_M), -(-N // BLOCK_N)": "M / BLOCK_M, N / BLOCK_N"},
               "A last tile that is only partly filled has a whole program, which reads for it: round up with triton.cdiv."),
        Mutant("lanes that a mask turns off are counted",
               {"2 * (M * K * columns_of_tiles + N * K * rows_of_tiles + M * N)":
                 "2 * rows_of_tiles * columns_of_tiles * (BLOCK_M * K + BLOCK_N * K + BLOCK_M * BLOCK_N)"},
               "Rows past M or N do not exist, and masked lanes read nothing: each program reads only the rows there are."),
        Mutant("lanes that the loads' masks turn off are counted",
               {"2 * (M * K * columns_of_tiles + N * K * rows_of_tiles + M * N)":
                 "2 * (rows_of_tiles * columns_of_tiles * (BLOCK_M + BLOCK_N) * K + M * N)"},
               "Rows past M or N do not exist, and a mask keeps a program from reading them: count the rows there are."),
        Mutant("bytes counted as elements", {"2 * (M * K * col": "(M * K * col"}, "Each FP16 element takes two bytes."),
        Mutant("y left out", {" + M * N": ""}, "Each program writes its tile: M · N elements in all."),
        Mutant("everything read once", {"K * columns_of_tiles": "K", "K * rows_of_tiles": "K"},
               "What one program reads, the next reads again: x once for each column of tiles, w once for each row."),
        Mutant("every program reads all of x and w",
               {"M * K * columns_of_tiles + N * K * rows_of_tiles": "(M * K + N * K) * rows_of_tiles * columns_of_tiles"},
               "A program reads its tile's rows alone. Each row of x is read once for each column of tiles."),
        Mutant("one program per element", {"-(-M // BLOCK_M), -(-N // BLOCK_N)": "M, N"},
               "Within a tile, a row that was read serves the whole tile: count programs, not elements."),
        Mutant("one tile too many where the block divides the size",
               {"-(-M // BLOCK_M), -(-N // BLOCK_N)": "M // BLOCK_M + 1, N // BLOCK_N + 1"},
               "256 rows in tiles of 128 are 2 tiles, not 3: round up with triton.cdiv."),
    ),
)

_OTHER_MISSING = "Lanes that a mask turns off hold anything at all unless the load says `other=0.0`; here they are summed."
_ADVANCE = "offs_k, which moves with k, belongs in the addresses of x and of w."

MATMUL_FP16_NAIVE = Exercise(
    name="matmul_fp16_naive_kernel",
    lesson="02_gemm_fp16",
    wrapper="matmul_fp16_naive",
    outputs=("y",),
    points=6,
    least_bytes=least_bytes,
    oracle=exact_matmul,
    cases=(
        Case("integers, M=130 N=70 K=100", integers(130, 70, 100)),
        Case("four tiles, M=129 N=140 K=20", integers(129, 140, 20)),
        Case("parts of wider matrices, M=33 N=20 K=65", parts_of_wider_matrices(33, 20, 65)),
        Case("sums beyond FP16, M=3 N=5 K=200", swelling(3, 5, 200)),
        Case("rows of x 2^30 elements apart, M=3 N=4 K=5", far_rows("x", 3, 4, 5)),
        Case("rows of w 2^30 elements apart, M=4 N=3 K=5", far_rows("w", 3, 4, 5)),
        Case("normal, M=40 N=24 K=70", normal(40, 24, 70)),
        Case("four tiles of wider matrices, M=129 N=70 K=128", parts_of_wider_matrices(129, 70, 128)),
    ),
    mutants=(
        Mutant("the mask on K is missing",
               {"mask_m[:, None] & mask_k[None, :]": "mask_m[:, None]",
                "mask_n[:, None] & mask_k[None, :]": "mask_n[:, None]"},
               "The last step along K reaches past K unless BLOCK_K divides it: load only where `offs_k < K`."),
        Mutant("the mask on K is missing when x is loaded", {"mask_m[:, None] & mask_k[None, :]": "mask_m[:, None]"},
               "After a row's K elements comes the next row, after the last row nothing: mask K as well as M."),
        Mutant("the mask on K is missing when w is loaded", {"mask_n[:, None] & mask_k[None, :]": "mask_n[:, None]"},
               "After a row's K elements comes the next row, after the last row nothing: mask K as well as N."),
        Mutant("the mask on rows is missing when x is loaded",
               {"mask_x = mask_m[:, None] & mask_k[None, :]": "mask_x = mask_k[None, :]"},
               "The last row of tiles reaches past M unless BLOCK_M divides it: load only where `offs_m < M`."),
        Mutant("the mask on rows is missing when w is loaded",
               {"mask_w = mask_n[:, None] & mask_k[None, :]": "mask_w = mask_k[None, :]"},
               "The last column of tiles reaches past N unless BLOCK_N divides it: load only where `offs_n < N`."),
        Mutant("the mask is missing when y is stored", {", mask=mask_m[:, None] & mask_n[None, :])": ")"},
               "The last tiles reach past M and past N: store only where `offs_m < M` and `offs_n < N`."),
        Mutant("`other=` is missing", {"mask=mask_x, other=0.0": "mask=mask_x", "mask=mask_w, other=0.0": "mask=mask_w"},
               _OTHER_MISSING),
        Mutant("w is not transposed, or x is", {"tl.dot(x, w.T, acc)": "tl.dot(x, w, acc)"},
               "tl.dot multiplies (A, B) by (B, C). x's block is (BLOCK_M, BLOCK_K), w's (BLOCK_N, BLOCK_K): use w.T."),
        Mutant("x is transposed in place of w", {"tl.dot(x, w.T, acc)": "tl.dot(x.T, w, acc)"},
               "tl.dot multiplies (A, B) by (B, C) and gives (A, C). x's block is (BLOCK_M, BLOCK_K) already: turn w's."),
        Mutant("w comes first", {"tl.dot(x, w.T, acc)": "tl.dot(w, x.T, acc)"},
               "This is the tile with rows and columns swapped: the rows of y are those of x, so x comes first."),
        Mutant("w read as if it were (K, N)",
               {"offs_n.to(tl.int64)[:, None] * stride_wn": "offs_n.to(tl.int64)[:, None]",
                "w_rows + offs_k[None, :]": "w_rows + offs_k[None, :] * stride_wn"},
               "w is (N, K), row by row: element (n, k) stands at n * stride_wn + k."),
        Mutant("FP16 accumulation",
               {"dtype=tl.float32)": "dtype=tl.float16)", "w.T, acc)": "w.T, acc, out_dtype=tl.float16)"},
               "FP16 has 11 bits and ends at 65,504: keep acc in tl.float32, as tl.dot does unless it is told otherwise."),
        Mutant("each step's sums rounded to FP16", {"tl.dot(x, w.T, acc)": "acc + tl.dot(x, w.T).to(tl.float16)"},
               "tl.dot gives FP32: add that to acc, and round to FP16 once, at the end."),
        Mutant("only the first block of K", {"range(0, K, BLOCK_K)": "range(0, BLOCK_K, BLOCK_K)"},
               "K may be longer than BLOCK_K: loop over all of it in steps of BLOCK_K."),
        Mutant("the last block of K is dropped", {"range(0, K, BLOCK_K)": "range(0, K - BLOCK_K + 1, BLOCK_K)"},
               "When BLOCK_K does not divide K, the last, partial step counts too: loop while k < K."),
        Mutant("only the last block of K is kept", {"tl.dot(x, w.T, acc)": "tl.dot(x, w.T)"},
               "Each step must add to acc, not replace it: tl.dot(x, w.T, acc) is acc + x · wᵀ."),
        Mutant("acc is added twice", {"acc = tl.dot(x, w.T, acc)": "acc += tl.dot(x, w.T, acc)"},
               "tl.dot(x, w.T, acc) has acc in it already: write `acc = tl.dot(x, w.T, acc)` or `acc += tl.dot(x, w.T)`."),
        Mutant("x is not advanced", {"x_rows + offs_k[None, :]": "x_rows + tl.arange(0, BLOCK_K)[None, :]"}, _ADVANCE),
        Mutant("neither x nor w is advanced", {"offs_k = k + tl.arange": "offs_k = tl.arange"},
               "Step k works on the elements from k on: offs_k is k + tl.arange(0, BLOCK_K)."),
        Mutant("the steps are counted, not their elements", {"range(0, K, BLOCK_K)": "range(0, tl.cdiv(K, BLOCK_K))"},
               "k counts blocks here, and the block starts at element k * BLOCK_K."),
        Mutant("rows taken to be K apart",
               {"[:, None] * stride_xm": "[:, None] * K", "[:, None] * stride_wn": "[:, None] * K"},
               "x and w may be parts of wider matrices: their rows are stride_xm and stride_wn elements apart, not K."),
        Mutant("rows of x taken to be K apart", {"[:, None] * stride_xm": "[:, None] * K"},
               "x may be part of a wider matrix: its rows are stride_xm elements apart, not K."),
        Mutant("rows of w taken to be K apart", {"[:, None] * stride_wn": "[:, None] * K"},
               "w may be part of a wider matrix: its rows are stride_wn elements apart, not K."),
        Mutant("rows of y taken to be K apart", {"[:, None] * stride_ym": "[:, None] * K"},
               "y is (M, N): its rows are stride_ym elements apart."),
        Mutant("32-bit offsets", {"x_rows = x_ptr + offs_m.to(tl.int64)": "x_rows = x_ptr + offs_m",
                                  "w_rows = w_ptr + offs_n.to(tl.int64)": "w_rows = w_ptr + offs_n"},
               "offs_m * stride_xm can pass 2³¹, where 32-bit numbers wrap around: widen first, offs_m.to(tl.int64)."),
        Mutant("32-bit offsets in x", {"x_rows = x_ptr + offs_m.to(tl.int64)": "x_rows = x_ptr + offs_m"},
               "offs_m * stride_xm can pass 2³¹, where 32-bit numbers wrap around: widen first, offs_m.to(tl.int64)."),
        Mutant("32-bit offsets in w", {"w_rows = w_ptr + offs_n.to(tl.int64)": "w_rows = w_ptr + offs_n"},
               "offs_n * stride_wn can pass 2³¹, where 32-bit numbers wrap around: widen first, offs_n.to(tl.int64)."),
        Mutant("y is stored in every step",
               {"\n    y_ptrs =": "\n        y_ptrs =", "\n    tl.store(": "\n        tl.store("},
               "Only the sum over all steps is wanted: store it once, after the loop."),
        Mutant("w is loaded twice",
               {"        acc = tl.dot":
                 "        w = tl.maximum(w, tl.load(w_rows + offs_k[None, :], mask=mask_w, other=1.0))\n"
                 "        acc = tl.dot"},
               "Load each block of w once in a step, and keep it."),
        *TILES_OF_Y,
        *LOOP_OVER_K,
    ),
)


def exact_order(num_pid_m: int, num_pid_n: int, GROUP_M: int) -> tuple[Expected]:
    """Tile after tile: groups of rows, in each group the columns, in each column the group's rows."""
    tiles = [(m, n) for first in range(0, num_pid_m, GROUP_M) for n in range(num_pid_n)
             for m in range(first, min(first + GROUP_M, num_pid_m))]
    return (Expected(torch.tensor(tiles), dtype=torch.int32),)


_IN_GROUP = "Within its group, program `pid` has the number pid % group_size"

GROUPED_TILE = Exercise(
    name="grouped_tile",
    lesson="02_gemm_fp16",
    wrapper="grouped_order",
    outputs=("order",),
    points=4,
    least_bytes=lambda num_pid_m, num_pid_n, GROUP_M: 8 * num_pid_m * num_pid_n,
    oracle=exact_order,
    cases=(
        numbers(num_pid_m=5, num_pid_n=4, GROUP_M=2),
        numbers(num_pid_m=5, num_pid_n=3, GROUP_M=3),
        numbers(num_pid_m=3, num_pid_n=4, GROUP_M=8),
        numbers(num_pid_m=4, num_pid_n=3, GROUP_M=1),
        numbers(num_pid_m=1, num_pid_n=1, GROUP_M=4),
    ),
    mutants=(
        Mutant("row by row, without groups", {"first_m + (pid % group_size) % rows": "pid // num_pid_n",
                                              "pid_n = (pid % group_size) // rows": "pid_n = pid % num_pid_n"},
               "This takes a whole row of tiles at a time. The order wanted goes down GROUP_M tiles before it moves right."),
        Mutant("column by column, without groups", {"first_m + (pid % group_size) % rows": "pid % num_pid_m",
                                                    "pid_n = (pid % group_size) // rows": "pid_n = pid // num_pid_m"},
               "This goes down a whole column of tiles. The order wanted goes down GROUP_M tiles and then moves right."),
        Mutant("the last group is taken to be full", {"tl.minimum(num_pid_m - first_m, GROUP_M)": "GROUP_M"},
               "When GROUP_M does not divide num_pid_m, the last group has fewer rows: num_pid_m - first_m."),
        Mutant("every group goes down to the last row",
               {"tl.minimum(num_pid_m - first_m, GROUP_M)": "num_pid_m - first_m"},
               "A group has GROUP_M rows at most: tl.minimum(num_pid_m - first_m, GROUP_M)."),
        Mutant("maximum in place of minimum", {"tl.minimum": "tl.maximum"},
               "A group has GROUP_M rows, or fewer where fewer are left: the smaller of the two."),
        Mutant("// and % swapped", {"first_m + (pid % group_size) % rows": "first_m + (pid % group_size) // rows",
                                    "pid_n = (pid % group_size) // rows": "pid_n = (pid % group_size) % rows"},
               f"{_IN_GROUP}. Counting down columns of `rows` tiles, % rows gives the row and // rows the column."),
        Mutant("width and height of a group swapped", {"GROUP_M * num_pid_n": "GROUP_M * num_pid_m"},
               "A group is GROUP_M rows of tiles, each num_pid_n tiles wide: GROUP_M * num_pid_n programs."),
        Mutant("square groups", {"GROUP_M * num_pid_n": "GROUP_M * GROUP_M"},
               "A group is GROUP_M rows of tiles over the whole width: GROUP_M * num_pid_n programs."),
        Mutant("groups of columns", {
            "GROUP_M * num_pid_n": "GROUP_M * num_pid_m",
            "tl.minimum(num_pid_m - first_m, GROUP_M)": "tl.minimum(num_pid_n - first_m, GROUP_M)",
            "pid_m = first_m + (pid % group_size) % rows": "pid_n = first_m + (pid % group_size) % rows",
            "pid_n = (pid % group_size) // rows": "pid_m = (pid % group_size) // rows"},
               "These groups are GROUP_M columns wide. GROUP_M counts rows of tiles."),
        Mutant("the group's first row forgotten", {"first_m + (pid % group_size) % rows": "(pid % group_size) % rows"},
               "Group g starts at row g * GROUP_M of tiles: add it to pid_m."),
        Mutant("the place in the group taken for the group",
               {"(pid // group_size) * GROUP_M": "(pid % group_size) * GROUP_M"},
               "Program `pid` is in group pid // group_size; pid % group_size is its place in that group."),
        Mutant("the group's number taken for its first row", {"(pid // group_size) * GROUP_M": "(pid // group_size)"},
               "Group g starts at row g * GROUP_M of tiles, not at row g."),
        Mutant("the column counted from the first program", {"pid_n = (pid % group_size) // rows": "pid_n = pid // rows"},
               f"{_IN_GROUP}: count the columns from the group's first program."),
        Mutant("the row counted from the first program", {"first_m + (pid % group_size) % rows": "first_m + pid % rows"},
               f"{_IN_GROUP}: pid % rows is the same only while every group is full."),
        Mutant("pid_m and pid_n swapped", {"return pid_m, pid_n": "return pid_n, pid_m"},
               "It returns the row of tiles first, then the column."),
        Mutant("the last group's columns taken to be GROUP_M tiles high",
               {"pid_n = (pid % group_size) // rows": "pid_n = (pid % group_size) // GROUP_M"},
               "In the last group a column has only `rows` tiles: `// rows` for the column, as `% rows` for the row."),
        Mutant("divided with `/`",
               {"(pid // group_size)": "(pid / group_size)",
                "(pid % group_size) // rows": "(pid % group_size) / rows"},
               "`/` gives fractions: divide with `//`, which rounds down, for the group's number and for the column."),
    ),
)

EXERCISES = [MATMUL_FLOPS, MATMUL_FP16_BYTES, TILED_MATMUL_BYTES, MATMUL_FP16_NAIVE, GROUPED_TILE]
