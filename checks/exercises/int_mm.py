"""Lesson 05, first half: exact INT32 sums of INT8 products, and the layout that they want."""

import torch

from checks.exercises.matmul import LOOP_OVER_K, TILES_OF_Y
from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers


def codes(rows: int, K: int, g: torch.Generator) -> torch.Tensor:
    """INT8 codes from -127 to 127, all as likely."""
    return torch.randint(-127, 128, (rows, K), generator=g, dtype=torch.int8)


def k_major(M: int, N: int, K: int):
    return lambda g: {"x_q": codes(M, K, g), "w_q": codes(N, K, g)}


def n_major(M: int, N: int, K: int):
    """w is stored as (K, N): neighbours along n lie side by side, and those along k are N apart."""
    return lambda g: {"x_q": codes(M, K, g), "w_q": codes(K, N, g).T}


def large_sums(M: int, N: int, K: int):
    """Sums beyond 2²⁴, from which on FP32 has only every second whole number."""
    def inputs(g: torch.Generator) -> dict:
        x, w = (torch.randint(124, 128, (rows, K), generator=g, dtype=torch.int8) for rows in (M, N))
        return {"x_q": x, "w_q": -w}
    return inputs


def parts_of_wider_matrices(M: int, N: int, K: int):
    """x and w are the left parts of matrices with longer rows, so their rows are not K apart."""
    return lambda g: {"x_q": codes(M, K + 24, g)[:, :K], "w_q": codes(N, K + 40, g)[:, :K]}


def far_apart(values: torch.Tensor) -> torch.Tensor:
    """The same with rows 2³⁰ elements apart, parts of a matrix that is never made: the third starts beyond 32 bits."""
    rows, columns = values.shape
    far = torch.empty((rows - 1) * 2**30 + columns, dtype=values.dtype).as_strided((rows, columns), (2**30, 1))
    return far.copy_(values)


def far_rows(M: int, N: int, K: int):
    return lambda g: {"x_q": far_apart(codes(M, K, g)), "w_q": far_apart(codes(N, K, g))}


def far_columns(M: int, N: int, K: int):
    """w is stored as (K, N), in rows that are far apart."""
    return lambda g: {"x_q": codes(M, K, g), "w_q": far_apart(codes(K, N, g)).T}


def exact_sums(x_q: torch.Tensor, w_q: torch.Tensor) -> tuple[Expected]:
    """Whole numbers below 2³¹: any order of adding gives them exactly, so nothing else is right."""
    return (Expected(x_q.long() @ w_q.long().T, dtype=torch.int32),)


def int_mm_bytes(x_q: torch.Tensor, w_q: torch.Tensor) -> int:
    return x_q.numel() + w_q.numel() + 4 * len(x_q) * len(w_q)


def add_up(bits: int, code: int) -> tuple[Expected]:
    """Double K while the sum fits, then find the last K between."""
    low, high = 0, 1
    while high * code * code < 2 ** (bits - 1):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle * code * code < 2 ** (bits - 1) else (low, middle)
    return (Expected(low),)


MAX_K = Exercise(
    name="max_k",
    lesson="05_int8_gemm",
    points=1,
    cases=(numbers(bits=32, code=127), numbers(bits=32, code=128), numbers(bits=16, code=7), numbers(bits=16, code=128),
           numbers(bits=8, code=127),
           numbers(bits=25, code=127)),
    oracle=add_up,
    mutants=(
        Mutant("an unsigned integer", {"2 ** (bits - 1) - 1": "2 ** bits - 1"},
               "One of the bits is the sign: the largest number is 2^(bits - 1) - 1."),
        Mutant("one too large", {"(2 ** (bits - 1) - 1)": "2 ** (bits - 1)"},
               "2^(bits - 1) itself does not fit: an INT8 ends at 127, an INT32 at 2,147,483,647."),
        Mutant("codes added, not products", {"code**2": "code"},
               "What is added up are products of two codes, up to code² each."),
        Mutant("the product of two codes taken as 2 · code", {"code**2": "(2 * code)"},
               "The largest product of two codes is code · code."),
        Mutant("the range, not the largest code", {"code**2": "(2 * code + 1) ** 2"},
               "Codes go from -code to code, so a product is at most code² in magnitude."),
        Mutant("a fraction of a product", {"(bits - 1) - 1) // code": "(bits - 1) - 1) / code"},
               "Only whole products are added: divide with //, which rounds down."),
        Mutant("rounded up", {"(2 ** (bits - 1) - 1) // code**2": "-(-(2 ** (bits - 1) - 1) // code**2)"},
               "The last, partial product does not fit any more: round down, with //."),
        Mutant("both signs counted", {"(2 ** (bits - 1) - 1) // code**2": "(2 ** (bits - 1) - 1) // code**2 // 2"},
               "The bound holds for the sum's magnitude: all products may have the same sign."),
        Mutant("code fixed at 128", {"code**2": "128**2"}, "The largest code is an argument: code²."),
        Mutant("code fixed at 127", {"code**2": "127**2"}, "The largest code is an argument: code²."),
    ),
)

_ADVANCE = "offs_k, which moves with k, belongs in the addresses of x and of w."
_DOT = "tl.dot(x, w.T, acc, out_dtype=tl.int32)"
_STEP = "tl.dot(x, w.T, out_dtype=tl.int32)"
_ZEROS = "dtype=tl.int32)\n"

INT_MM = Exercise(
    name="int_mm_kernel",
    lesson="05_int8_gemm",
    wrapper="int_mm",
    outputs=("y",),
    points=5,
    least_bytes=int_mm_bytes,
    oracle=exact_sums,
    cases=(
        Case("codes, M=130 N=70 K=200", k_major(130, 70, 200)),
        Case("w stored as (K, N), M=5 N=140 K=20", n_major(5, 140, 20)),
        Case("sums beyond 2^24, M=4 N=7 K=1300", large_sums(4, 7, 1300)),
        Case("parts of wider matrices, M=33 N=20 K=65", parts_of_wider_matrices(33, 20, 65)),
        Case("rows 2^30 elements apart, M=3 N=3 K=5", far_rows(3, 3, 5)),
        Case("several steps of w stored as (K, N), M=4 N=70 K=300", n_major(4, 70, 300)),
        Case("several tiles of wider matrices, M=130 N=140 K=128", parts_of_wider_matrices(130, 140, 128)),
        Case("columns of w 2^30 elements apart, M=1 N=5 K=3", far_columns(1, 5, 3)),
    ),
    mutants=(
        Mutant("sums in INT8", {_ZEROS: "dtype=tl.int8)\n", _DOT: f"(acc + {_STEP}).to(tl.int8)"},
               "An INT8 ends at 127 and wraps around; one product is up to 16,129. Keep acc in tl.int32, and store it so, "
               "without `.to(tl.int8)`."),
        Mutant("INT16 accumulation", {_ZEROS: "dtype=tl.int16)\n", _DOT: f"(acc + {_STEP}).to(tl.int16)"},
               "An INT16 ends at 32,767: two products of 16,129 fit, three do not. Keep acc in tl.int32."),
        Mutant("FP16 accumulation", {_ZEROS: "dtype=tl.float16)\n", _DOT: f"acc + {_STEP}.to(tl.float16)"},
               "FP16 holds whole numbers up to 2,048 and ends at 65,504: keep acc in tl.int32."),
        Mutant("FP32 accumulation", {_ZEROS: "dtype=tl.float32)\n", _DOT: f"acc + {_STEP}.to(tl.float32)"},
               "FP32 has 24 bits: past 2²⁴ it loses the odd numbers, and codes turned into FP16 are summed in FP32 too. "
               "Keep acc in tl.int32."),
        Mutant("the mask on K is missing",
               {"mask_m[:, None] & mask_k[None, :]": "mask_m[:, None]",
                "mask_n[:, None] & mask_k[None, :]": "mask_n[:, None]"},
               "The last step along K reaches past K unless BLOCK_K divides it: load only where `offs_k < K`."),
        Mutant("the mask on K is missing when x is loaded", {"mask_m[:, None] & mask_k[None, :]": "mask_m[:, None]"},
               "After a row's K codes comes the next row, after the last row nothing: mask K as well as M."),
        Mutant("the mask on K is missing when w is loaded", {"mask_n[:, None] & mask_k[None, :]": "mask_n[:, None]"},
               "After a row's K codes comes the next row, after the last row nothing: mask K as well as N."),
        Mutant("the mask on M is missing when x is loaded", {"mask_x = mask_m[:, None] & mask_k[None, :]":
                                                              "mask_x = mask_k[None, :]"},
               "The last row of tiles reaches past M: load only where `offs_m < M`."),
        Mutant("`other=` is missing", {"mask=mask_x, other=0": "mask=mask_x", "mask=mask_w, other=0": "mask=mask_w"},
               "Lanes that a mask turns off hold anything at all unless the load says `other=0`; here they are summed."),
        Mutant("w is not transposed", {"w.T": "w"},
               "tl.dot multiplies (A, B) by (B, C). x's block is (BLOCK_M, BLOCK_K), w's (BLOCK_N, BLOCK_K): use w.T."),
        Mutant("w is always read as (N, K), row by row", {"offs_k[None, :] * stride_wk": "offs_k[None, :]"},
               "w may be stored either way: element (n, k) stands at n * stride_wn + k * stride_wk."),
        Mutant("w's strides are swapped", {"[:, None] * stride_wn": "[:, None] * stride_wk",
                                           "offs_k[None, :] * stride_wk": "offs_k[None, :] * stride_wn"},
               "stride_wn is the step from row to row of w, stride_wk the step along K."),
        Mutant("only the first block of K", {"range(0, K, BLOCK_K)": "range(0, BLOCK_K, BLOCK_K)"},
               "K may be longer than BLOCK_K: loop over all of it in steps of BLOCK_K."),
        Mutant("the last block of K is dropped", {"range(0, K, BLOCK_K)": "range(0, K - BLOCK_K + 1, BLOCK_K)"},
               "When BLOCK_K does not divide K, the last, partial step counts too: loop while k < K."),
        Mutant("only the last block of K is kept", {_DOT: _STEP},
               "Each step must add to acc, not replace it: give tl.dot the acc."),
        Mutant("acc is added twice", {f"acc = {_DOT}": f"acc += {_DOT}"},
               "tl.dot with acc has acc in its result already: write `acc = tl.dot(…, acc, …)`."),
        Mutant("neither x nor w is advanced", {"offs_k = k + tl.arange": "offs_k = tl.arange"},
               "Step k works on the codes from k on: offs_k is k + tl.arange(0, BLOCK_K)."),
        Mutant("x is not advanced", {"x_rows + offs_k[None, :]": "x_rows + tl.arange(0, BLOCK_K)[None, :]"}, _ADVANCE),
        Mutant("rows taken to be K apart",
               {"[:, None] * stride_xm": "[:, None] * K", "[:, None] * stride_wn": "[:, None] * K"},
               "x and w may be parts of wider matrices: their rows are stride_xm and stride_wn codes apart, not K."),
        Mutant("32-bit offsets along M and N", {"x_rows = x_ptr + offs_m.to(tl.int64)": "x_rows = x_ptr + offs_m",
                                                "w_rows = w_ptr + offs_n.to(tl.int64)": "w_rows = w_ptr + offs_n"},
               "offs_m * stride_xm can pass 2³¹, where 32-bit numbers wrap around: widen first, offs_m.to(tl.int64)."),
        Mutant("32-bit offsets along N", {"w_rows = w_ptr + offs_n.to(tl.int64)": "w_rows = w_ptr + offs_n"},
               "offs_n * stride_wn can pass 2³¹, where 32-bit numbers wrap around: widen first, offs_n.to(tl.int64)."),
        Mutant("32-bit offsets along K", {"tl.arange(0, BLOCK_K).to(tl.int64)": "tl.arange(0, BLOCK_K)"},
               "Where w is stored as (K, N), offs_k * stride_wk can pass 2³¹: widen first, .to(tl.int64)."),
        Mutant("32-bit offsets", {"x_rows = x_ptr + offs_m.to(tl.int64)": "x_rows = x_ptr + offs_m",
                                  "w_rows = w_ptr + offs_n.to(tl.int64)": "w_rows = w_ptr + offs_n",
                                  "tl.arange(0, BLOCK_K).to(tl.int64)": "tl.arange(0, BLOCK_K)"},
               "An offset times a stride can pass 2³¹, where 32-bit numbers wrap around: widen first, .to(tl.int64)."),
        Mutant("w is loaded twice",
               {"        acc = tl.dot":
                 "        w = tl.maximum(w, tl.load(w_rows + offs_k[None, :] * stride_wk, mask=mask_w, other=1))\n"
                 "        acc = tl.dot"},
               "Load each block of w once in a step, and keep it."),
        *TILES_OF_Y,
        *LOOP_OVER_K,
        Mutant("w's columns are taken to lie side by side after the first step",
               {"offs_k[None, :] * stride_wk": "(k + tl.arange(0, BLOCK_K) * stride_wk)[None, :]"},
               "A step along K is stride_wk codes for each k: add BLOCK_K * stride_wk to the pointers, or use "
               "offs_k * stride_wk."),
        Mutant("w read along the wrong axis for rows",
               {"offs_n.to(tl.int64)[:, None] * stride_wn": "offs_n.to(tl.int64)[:, None]"},
               "Row n of w starts n * stride_wn codes after w_ptr."),
        Mutant("x is advanced by w's stride", {"x_rows + offs_k[None, :]": "x_rows + offs_k[None, :] * stride_wk"},
               "stride_wk is a stride of w: the codes of a row of x lie side by side."),
    ),
)

WORDS = Exercise(
    name="words_of_four_codes",
    lesson="05_int8_gemm",
    points=2,
    cases=(
        numbers(n=3, k=8, stride_n=4096, stride_k=1), numbers(n=3, k=8, stride_n=1, stride_k=4096),
        numbers(n=1, k=4, stride_n=130, stride_k=1), numbers(n=2, k=0, stride_n=130, stride_k=1),
        numbers(n=1, k=0, stride_n=1, stride_k=2), numbers(n=0, k=4, stride_n=1, stride_k=1),
        numbers(n=0, k=2, stride_n=64, stride_k=1), numbers(n=5, k=12, stride_n=33, stride_k=1),
        numbers(n=0, k=1, stride_n=8, stride_k=2),
    ),
    oracle=lambda n, k, stride_n, stride_k: (Expected(
        int((torch.tensor([n * stride_n + i * stride_k for i in range(k, k + 4)]) >> 2).unique().numel())),),
    mutants=(
        Mutant("always four", {" // 4 for": " / 4 for"},
               "Codes in the same word count once: count the different values of b // 4. With b, or with b / 4, "
               "each code has a value of its own."),
        Mutant("the word of the first code",
               {"len({(n * stride_n + (k + i) * stride_k) // 4 for i in range(4)})": "(n * stride_n + k * stride_k) // 4"},
               "Wanted is how many words, not which: find the word of each code, and count the different ones."),
        Mutant("a word for K-major, four for all else",
               {"len({(n * stride_n + (k + i) * stride_k) // 4 for i in range(4)})": "1 if stride_k == 1 else 4"},
               "Four neighbours that start inside a word reach into the next, and strides of 2 or 3 share words: "
               "count the different values of b // 4."),
        Mutant("the span of the codes over 4", {
            "len({(n * stride_n + (k + i) * stride_k) // 4 for i in range(4)})": "3 * stride_k / 4 + 1"},
               "The words are counted, not measured: count the different values of b // 4 for the four codes."),
        Mutant("words of two bytes", {"// 4 for": "// 2 for"},
               "A word here is four bytes: byte number b lies in word b // 4."),
        Mutant("the strides swapped", {"n * stride_n + (k + i) * stride_k": "n * stride_k + (k + i) * stride_n"},
               "One step along n is stride_n bytes, one along k is stride_k."),
        Mutant("n and k swapped", {"n * stride_n + (k + i) * stride_k": "k * stride_n + (n + i) * stride_k"},
               "The codes are w[n, k] to w[n, k + 3]: n goes with stride_n, and k + i with stride_k."),
        Mutant("the four codes taken to lie side by side",
               {"n * stride_n + (k + i) * stride_k": "n * stride_n + k * stride_k + i"},
               "Neighbours along k are stride_k bytes apart, which need not be 1: code k + i stands at (k + i) * stride_k."),
        Mutant("only the steps from k on are scaled",
               {"n * stride_n + (k + i) * stride_k": "n * stride_n + k + i * stride_k"},
               "The first code stands at n * stride_n + k * stride_k: neighbours along k are stride_k bytes apart."),
        Mutant("four codes along n", {"n * stride_n + (k + i) * stride_k": "(n + i) * stride_n + k * stride_k"},
               "The four codes stand side by side along k: w[n, k], w[n, k + 1], w[n, k + 2], w[n, k + 3]."),
        Mutant("the start left out", {"n * stride_n + (k + i) * stride_k": "i * stride_k"},
               "Where the first code lies matters: four bytes that start inside a word reach into the next one."),
        Mutant("the row left out", {"n * stride_n + (k + i) * stride_k": "(k + i) * stride_k"},
               "Row n starts n * stride_n bytes after w, which need not be a whole number of words."),
        Mutant("every word from the first to the last",
               {"len({(n * stride_n + (k + i) * stride_k) // 4 for i in range(4)})":
                 "(n * stride_n + (k + 3) * stride_k) // 4 - (n * stride_n + k * stride_k) // 4 + 1"},
               "The words in between hold none of the four codes: count the different words b // 4."),
        Mutant("three codes", {"range(4)": "range(3)"}, "There are four codes: i goes from 0 to 3."),
        Mutant("the first code left out", {"range(4)": "range(1, 4)"}, "There are four codes: i goes from 0 to 3."),
        Mutant("five codes", {"range(4)": "range(5)"}, "There are four codes: i goes from 0 to 3."),
    ),
)

EXERCISES = [MAX_K, INT_MM, WORDS]
