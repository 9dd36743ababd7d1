"""Lesson 01: the FP16 matrix-vector product, and what it must cost."""

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers
from kernels import cost


def integers(N: int, K: int, low: int = -8, high: int = 8):
    """W and x of small integers: every sum up to 2²⁴ is exact in FP32 in any order, so only rounding y to FP16 is left."""
    def inputs(g: torch.Generator) -> dict:
        return {"x": torch.randint(low, high + 1, (K,), generator=g).half(),
                "w": torch.randint(low, high + 1, (N, K), generator=g).half()}
    return inputs


def normal(N: int, K: int):
    def inputs(g: torch.Generator) -> dict:
        return {"x": torch.randn(K, generator=g).half(), "w": torch.randn(N, K, generator=g).half()}
    return inputs


def swelling(N: int, K: int):
    """Sums climb by 31² a step for half of K and come down again to a small y. FP32 holds them exactly; past 2,048 an FP16
    accumulator can no longer hold odd numbers, and past 65,504 none."""
    def inputs(g: torch.Generator) -> dict:
        half = K // 2
        x, w = torch.full((K,), 31), torch.full((N, K), 31)
        w[:, half:2 * half] = -31
        w += torch.randint(-1, 2, (N, K), generator=g)
        return {"x": x.half(), "w": w.half()}
    return inputs


def odd_products(N: int, K: int):
    """Every product is an odd number above 2,048, which FP16 cannot hold; neighbours nearly cancel, so y is small."""
    def inputs(g: torch.Generator) -> dict:
        x = 2 * torch.randint(24, 31, (K,), generator=g) + 1
        w = (2 * torch.randint(24, 31, (N, K), generator=g) + 1) * (2 * torch.randint(0, 2, (N, K), generator=g) - 1)
        pairs = K // 2
        x[1:2 * pairs:2] = x[0:2 * pairs:2] - 2
        w[:, 1:2 * pairs:2] = -w[:, 0:2 * pairs:2]
        return {"x": x.half(), "w": w.half()}
    return inputs


def rows_of_a_wider_matrix(N: int, K: int):
    """W is the left part of a matrix with longer rows, so its rows are not K apart."""
    def inputs(g: torch.Generator) -> dict:
        made = integers(N, K + 24)(g)
        return {"x": made["x"][:K].clone(), "w": made["w"][:, :K]}
    return inputs


def far_rows(N: int, K: int):
    """Rows 2³⁰ elements apart, parts of a matrix that is never made: the third starts where 32 bits no longer reach."""
    def inputs(g: torch.Generator) -> dict:
        made = integers(N, K)(g)
        w = torch.empty((N - 1) * 2**30 + K, dtype=torch.float16).as_strided((N, K), (2**30, 1))
        return {"x": made["x"], "w": w.copy_(made["w"])}
    return inputs


def exact_gemv(x: torch.Tensor, w: torch.Tensor) -> tuple[Expected]:
    """y in float64. Rounding y to FP16 errs by at most 2⁻¹¹ · |y|, accumulating in FP32 by K · 2⁻²⁴ · Σ|w·x| (Higham,
    "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1); by 0 for integers whose sums stay below 2²⁴."""
    exact, size = w.double() @ x.double(), w.double().abs() @ x.double().abs()
    whole = bool((x == x.round()).all() and (w == w.round()).all() and size.max() < 2**24)
    accumulation = 0.0 if whole else x.numel() * 2.0**-24 * size
    return (Expected(exact, accumulation + 2.0**-11 * exact.abs().clamp(min=2.0**-14), torch.float16),)


def least_bytes(x: torch.Tensor, w: torch.Tensor) -> int:
    return cost.gemv_bytes(*w.shape)


GEMV_BYTES = Exercise(
    name="gemv_bytes",
    lesson="01_gemv_fp16",
    points=1,
    cases=(numbers(N=4096, K=4096), numbers(N=1, K=1), numbers(N=127, K=300), numbers(N=22016, K=2048)),
    oracle=lambda N, K: (Expected(sum(torch.empty(shape, dtype=torch.float16, device="meta").nbytes
                                      for shape in [(N, K), (K,), (N,)])),),
    mutants=(
        Mutant("bytes counted as elements", {"2 * (N * K + K + N)": "N * K + K + N"},
               "Each FP16 element takes two bytes."),
        Mutant("y left out", {"N * K + K + N": "N * K + K"}, "The result y has to be written: N elements more."),
        Mutant("x left out", {"N * K + K + N": "N * K + N"}, "The vector x has to be read: K elements more."),
        Mutant("only W counted", {"N * K + K + N": "N * K"},
               "W is nearly all of it, but x is read and y is written too."),
        Mutant("x counted once per row", {"N * K + K + N": "N * K + N * K + N"},
               "The least is to read x once and keep it on the chip, not once for each row."),
        Mutant("FP32 sizes", {"2 * (": "4 * ("}, "An FP16 element takes two bytes, not four."),
        Mutant("W is taken for square", {"N * K + K + N": "N * N + K + N"}, "W is (N, K): N · K elements."),
        Mutant("inputs counted as read and written", {"2 * (N * K + K + N)": "2 * (2 * N * K + 2 * K + N)"},
               "W and x are read once and not written; y is written once and not read."),
    ),
)

ROOFLINE_US = Exercise(
    name="roofline_us",
    lesson="01_gemv_fp16",
    points=1,
    cases=(numbers(flops=3_000_000, num_bytes=2_000_000, tflops=1.0, gb_per_s=1000.0),
           numbers(flops=33_554_432, num_bytes=33_570_816, tflops=989.0, gb_per_s=4800.0),
           numbers(flops=2_000_000_000_000, num_bytes=1_000_000, tflops=500.0, gb_per_s=2000.0),
           numbers(flops=1000, num_bytes=1_000_000, tflops=1.0, gb_per_s=1.0),
           numbers(flops=3_000_000, num_bytes=0, tflops=1.0, gb_per_s=1000.0),
           numbers(flops=0, num_bytes=2_000_000, tflops=1.0, gb_per_s=1000.0)),
    oracle=lambda flops, num_bytes, tflops, gb_per_s: (
        Expected(v := 1e6 * max(flops / (tflops * 1e12), num_bytes / (gb_per_s * 1e9)), 1e-9 * v),),
    mutants=(
        Mutant("the two times added", {"max(flops / (tflops * 1e6), num_bytes / (gb_per_s * 1e3))":
                                        "flops / (tflops * 1e6) + num_bytes / (gb_per_s * 1e3)"},
               "Arithmetic and traffic go on at the same time: the slower one alone sets the time."),
        Mutant("the faster of the two", {"max(": "min("},
               "The work is done when both are done: the slower one sets the time, so take the larger."),
        Mutant("seconds", {"tflops * 1e6": "tflops * 1e12", "gb_per_s * 1e3": "gb_per_s * 1e9"},
               "This is in seconds; microseconds are 1,000,000 times that number."),
        Mutant("milliseconds", {"tflops * 1e6": "tflops * 1e9", "gb_per_s * 1e3": "gb_per_s * 1e6"},
               "This is in milliseconds; microseconds are 1,000 times that number."),
        Mutant("the arithmetic in seconds", {"(tflops * 1e6)": "(tflops * 1e12)"},
               "The larger of two times is meant, both in microseconds: a second has 1e6."),
        Mutant("the traffic in seconds", {"(gb_per_s * 1e3)": "(gb_per_s * 1e9)"},
               "The larger of two times is meant, both in microseconds: a second has 1e6."),
        Mutant("arithmetic alone", {"max(flops / (tflops * 1e6), num_bytes / (gb_per_s * 1e3))":
                                     "flops / (tflops * 1e6)"},
               "The bytes take time too: num_bytes / (gb_per_s * 1e9) seconds."),
        Mutant("bytes alone", {"max(flops / (tflops * 1e6), num_bytes / (gb_per_s * 1e3))":
                                "num_bytes / (gb_per_s * 1e3)"},
               "The arithmetic takes time too: flops / (tflops * 1e12) seconds."),
        Mutant("the units left out", {"(tflops * 1e6)": "tflops", "(gb_per_s * 1e3)": "gb_per_s"},
               "`tflops` counts 10¹² operations a second, `gb_per_s` 10⁹ bytes a second; a second has 10⁶ microseconds."),
        Mutant("the quotients are inverted",
               {"flops / (tflops * 1e6)": "tflops * 1e6 / flops",
                "num_bytes / (gb_per_s * 1e3)": "gb_per_s * 1e3 / num_bytes"},
               "A time is work divided by speed: flops / (operations a second)."),
    ),
)

_OTHER_MISSING = "Lanes that a mask turns off hold anything at all unless the load says `other=0.0`; here they are summed."

GEMV_FP16_ROW = Exercise(
    name="gemv_fp16_row_kernel",
    lesson="01_gemv_fp16",
    wrapper="gemv_fp16_row",
    outputs=("y",),
    points=3,
    least_bytes=least_bytes,
    oracle=exact_gemv,
    cases=(
        Case("integers, N=17 K=300", integers(17, 300)),
        Case("integers, N=3 K=256", integers(3, 256)),
        Case("one element, N=1 K=1", integers(1, 1, 1, 8)),
        Case("rows of a wider matrix, N=5 K=127", rows_of_a_wider_matrix(5, 127)),
        Case("sums beyond FP16, N=3 K=2050", swelling(3, 2050)),
        Case("products beyond FP16, N=4 K=128", odd_products(4, 128)),
        Case("rows 2^30 elements apart, N=3 K=5", far_rows(3, 5)),
        Case("normal, N=9 K=129", normal(9, 129)),
    ),
    mutants=(
        Mutant("the mask on K is missing",
               {"x_ptr + offs_k, mask=mask_k, other=0.0": "x_ptr + offs_k",
                "n * stride_wn + offs_k, mask=mask_k, other=0.0": "n * stride_wn + offs_k"},
               "BLOCK_K is a power of two and K need not be: load only where `offs_k < K`, and let the rest be 0."),
        Mutant("the mask on K is missing when W is loaded",
               {"n * stride_wn + offs_k, mask=mask_k, other=0.0": "n * stride_wn + offs_k"},
               "After a row's K elements comes the next row, after the last row nothing: load only where `offs_k < K`."),
        Mutant("`other=` is missing", {"x_ptr + offs_k, mask=mask_k, other=0.0": "x_ptr + offs_k, mask=mask_k",
                                       "stride_wn + offs_k, mask=mask_k, other=0.0": "stride_wn + offs_k, mask=mask_k"},
               _OTHER_MISSING),
        Mutant("products in FP16", {"w.to(tl.float32) * x.to(tl.float32)": "w * x"},
               "FP16 has 11 bits and the product of two needs 22: turn both into tl.float32 before you multiply and add."),
        Mutant("products in FP16, sums in FP32", {"w.to(tl.float32) * x.to(tl.float32)": "(w * x).to(tl.float32)"},
               "The product of two FP16 numbers needs 22 bits: turn w and x into tl.float32 before you multiply."),
        Mutant("the products stored, not their sum",
               {"y = tl.sum(w.to(tl.float32) * x.to(tl.float32), axis=0)": "y = w.to(tl.float32) * x.to(tl.float32)",
                "y_ptr + n, y": "y_ptr + offs_k, y, mask_k"},
               "y[n] is a single number, the sum of the products: tl.sum, and store at y_ptr + n."),
        Mutant("every program reads row 0", {"n * stride_wn + offs_k": "offs_k"},
               "Row n of W starts n * stride_wn elements after w_ptr."),
        Mutant("rows taken to be K apart", {"w_ptr + n * stride_wn": "w_ptr + n * K"},
               "W may be part of a wider matrix: its rows are stride_wn elements apart, not K."),
        Mutant("W read as if it were transposed", {"n * stride_wn + offs_k": "offs_k * stride_wn + n"},
               "W is (N, K), row by row: element (n, k) stands at n * stride_wn + k."),
        Mutant("every program writes y[0]", {"y_ptr + n": "y_ptr"}, "Program n owns y[n]: store at y_ptr + n."),
        Mutant("every program takes itself for program 0", {"tl.program_id(0)": "tl.program_id(1)"},
               "The grid (N,) has one axis, axis 0: tl.program_id(0) counts along it."),
        Mutant("the mask on K lets one element too many through", {"offs_k < K": "offs_k <= K"},
               "The last element of a row is number K - 1: the mask is `offs_k < K`, not `<=`."),
        Mutant("the last element of each row is left out", {"offs_k < K": "offs_k < K - 1"},
               "The last element of a row is number K - 1: the mask is `offs_k < K`."),
        Mutant("32-bit offsets", {"tl.program_id(0).to(tl.int64)": "tl.program_id(0)"},
               "n * stride_wn can pass 2³¹, where 32-bit numbers wrap around: keep n in 64 bits."),
        Mutant("x is read from a place that moves with n", {"x_ptr + offs_k": "x_ptr + n + offs_k"},
               "Every row needs the same x: its address does not depend on n."),
        Mutant("x times x", {"w.to(tl.float32) * x.to(tl.float32)": "x.to(tl.float32) * x.to(tl.float32)"},
               "The products are w[n, k] · x[k]: multiply w with x."),
        Mutant("w times w", {"w.to(tl.float32) * x.to(tl.float32)": "w.to(tl.float32) * w.to(tl.float32)"},
               "The products are w[n, k] · x[k]: multiply w with x."),
        Mutant("added, not multiplied", {"w.to(tl.float32) * x.to(tl.float32)": "w.to(tl.float32) + x.to(tl.float32)"},
               "The products are w[n, k] · x[k]: multiply w with x."),
        Mutant("the sums multiplied, not the products summed",
               {"tl.sum(w.to(tl.float32) * x.to(tl.float32), axis=0)":
                 "tl.sum(w.to(tl.float32), axis=0) * tl.sum(x.to(tl.float32), axis=0)"},
               "Multiply w with x element by element, and then sum the products."),
    ),
)

GEMV_FP16 = Exercise(
    name="gemv_fp16_kernel",
    lesson="01_gemv_fp16",
    wrapper="gemv_fp16",
    outputs=("y",),
    points=5,
    least_bytes=least_bytes,
    oracle=exact_gemv,
    cases=(
        Case("integers, N=129 K=300", integers(129, 300)),
        Case("integers, N=64 K=256", integers(64, 256)),
        Case("less than one block, N=3 K=5", integers(3, 5)),
        Case("rows of a wider matrix, N=65 K=127", rows_of_a_wider_matrix(65, 127)),
        Case("sums beyond FP16, N=5 K=2050", swelling(5, 2050)),
        Case("products beyond FP16, N=4 K=128", odd_products(4, 128)),
        Case("rows 2^30 elements apart, N=3 K=5", far_rows(3, 5)),
        Case("normal, N=70 K=129", normal(70, 129)),
    ),
    mutants=(
        Mutant("the mask on K is missing",
               {"x_ptr + offs_k, mask=mask_k, other=0.0": "x_ptr + offs_k",
                "mask_n[:, None] & mask_k[None, :]": "mask_n[:, None]"},
               "The last step along K reaches past K unless BLOCK_K divides it: load only where `offs_k < K`."),
        Mutant("the mask on K is missing when W is loaded",
               {"mask_n[:, None] & mask_k[None, :]": "mask_n[:, None]"},
               "After a row's K elements comes the next row, and after the last row nothing: mask K as well as N."),
        Mutant("the mask on rows is missing when W is loaded",
               {"mask_n[:, None] & mask_k[None, :]": "mask_k[None, :]"},
               "The last program has rows past N unless BLOCK_N divides it: load only where `offs_n < N`."),
        Mutant("the mask on rows is missing when y is stored", {"y, mask=mask_n)": "y)"},
               "The last program has rows past N: store only where `offs_n < N`, or you write into other memory."),
        Mutant("`other=` is missing",
               {"x_ptr + offs_k, mask=mask_k, other=0.0": "x_ptr + offs_k, mask=mask_k",
                "mask=mask, other=0.0": "mask=mask"}, _OTHER_MISSING),
        Mutant("FP16 accumulation",
               {"dtype=tl.float32)": "dtype=tl.float16)",
                "w.to(tl.float32) * x.to(tl.float32)[None, :]": "w * x[None, :]"},
               "FP16 has 11 bits and ends at 65,504: keep acc in tl.float32, and multiply in tl.float32."),
        Mutant("FP16 accumulation, step by step",
               {"tl.zeros((BLOCK_N, BLOCK_K), dtype=tl.float32)": "tl.zeros((BLOCK_N,), dtype=tl.float16)",
                "acc += w.to(tl.float32) * x.to(tl.float32)[None, :]": "acc += tl.sum(w * x[None, :], axis=1)",
                "tl.sum(acc, axis=1)": "acc"},
               "FP16 has 11 bits and ends at 65,504: multiply in tl.float32, and keep the sums in tl.float32."),
        Mutant("products in FP16", {"w.to(tl.float32) * x.to(tl.float32)[None, :]": "w * x[None, :]"},
               "The product of two FP16 numbers needs 22 bits: turn w and x into tl.float32 before you multiply."),
        Mutant("the last block of K is dropped", {"range(0, K, BLOCK_K)": "range(0, K - BLOCK_K + 1, BLOCK_K)"},
               "When BLOCK_K does not divide K, the last, partial step counts too: loop while k < K."),
        Mutant("only the first block of K", {"range(0, K, BLOCK_K)": "range(0, BLOCK_K, BLOCK_K)"},
               "A row may be longer than BLOCK_K: loop over all of K in steps of BLOCK_K."),
        Mutant("only the last block of K is kept", {"acc += w": "acc = w"},
               "Each step must add to acc, not replace it."),
        Mutant("x is not advanced", {"x_ptr + offs_k, mask": "x_ptr + tl.arange(0, BLOCK_K), mask"},
               "Step k needs x[k : k + BLOCK_K]: use offs_k, which moves with k, for x as well."),
        Mutant("W is not advanced", {"row_ptrs + offs_k[None, :]": "row_ptrs + tl.arange(0, BLOCK_K)[None, :]"},
               "Step k needs W[:, k : k + BLOCK_K]: use offs_k, which moves with k, for W as well."),
        Mutant("W read as if it were transposed",
               {"offs_n.to(tl.int64)[:, None] * stride_wn": "offs_n.to(tl.int64)[:, None]",
                "row_ptrs + offs_k[None, :]": "row_ptrs + offs_k[None, :] * stride_wn"},
               "W is (N, K), row by row: element (n, k) stands at n * stride_wn + k."),
        Mutant("rows taken to be K apart", {"[:, None] * stride_wn": "[:, None] * K"},
               "W may be part of a wider matrix: its rows are stride_wn elements apart, not K."),
        Mutant("every program works on the first rows", {"tl.program_id(0) * BLOCK_N + ": ""},
               "Program i owns rows i * BLOCK_N to (i + 1) * BLOCK_N - 1."),
        Mutant("no load has a mask",
               {"x_ptr + offs_k, mask=mask_k, other=0.0": "x_ptr + offs_k",
                "offs_k[None, :], mask=mask, other=0.0": "offs_k[None, :]"},
               "The last step reaches past K and the last program past N: load x only where `offs_k < K`, W only where "
               "also `offs_n < N`."),
        Mutant("the mask on K does not move with the step", {"mask_k = offs_k < K": "mask_k = tl.arange(0, BLOCK_K) < K"},
               "In step k the block starts at k: the mask must compare k + 0, k + 1, ... with K, as offs_k does."),
        Mutant("the mask on K lets one element too many through", {"mask_k = offs_k < K": "mask_k = offs_k <= K"},
               "The last element of a row is number K - 1: the mask is `offs_k < K`, not `<=`."),
        Mutant("the mask on rows lets one row too many through", {"mask_n = offs_n < N": "mask_n = offs_n <= N"},
               "The last row is number N - 1: the mask is `offs_n < N`, not `<=`."),
        Mutant("neither x nor W is advanced", {"offs_k = k + tl.arange": "offs_k = tl.arange"},
               "Step k works on the elements from k on: offs_k is k + tl.arange(0, BLOCK_K)."),
        Mutant("the first block of K is skipped", {"range(0, K, BLOCK_K)": "range(BLOCK_K, K, BLOCK_K)"},
               "The loop starts at 0."),
        Mutant("the loop stops one block early", {"range(0, K, BLOCK_K)": "range(0, K - BLOCK_K, BLOCK_K)"},
               "The loop goes on while k < K: the last block counts too, whole or partial."),
        Mutant("the steps are counted, not their elements", {"range(0, K, BLOCK_K)": "range(0, tl.cdiv(K, BLOCK_K))"},
               "k counts blocks here, and the block starts at element k * BLOCK_K."),
        Mutant("32-bit offsets", {"offs_n.to(tl.int64)[:, None]": "offs_n[:, None]"},
               "offs_n * stride_wn can pass 2³¹, where 32-bit numbers wrap around: keep the given `.to(tl.int64)`."),
        Mutant("y is stored in every step",
               {"\n    y = tl.sum(acc, axis=1)": "\n        y = tl.sum(acc, axis=1)",
                "\n    tl.store(y_ptr": "\n        tl.store(y_ptr"},
               "Only the sum over all steps is wanted: store it once, after the loop."),
        Mutant("W is loaded twice",
               {"        acc += w": "        again = tl.load(row_ptrs + offs_k[None, :], mask=mask, other=1.0)\n"
                 "        w = 0.5 * (w + again)\n        acc += w"},
               "W is nearly all the traffic, and traffic is the time: load each element of W once and keep it."),
        Mutant("x times x",
               {"w.to(tl.float32) * x.to(tl.float32)[None, :]":
                 "w * 0.0 + x.to(tl.float32)[None, :] * x.to(tl.float32)[None, :]"},
               "The products are w[n, k] · x[k]: multiply w with x."),
        Mutant("w times w", {"w.to(tl.float32) * x.to(tl.float32)[None, :]": "w.to(tl.float32) * w.to(tl.float32)"},
               "The products are w[n, k] · x[k]: multiply w with x."),
        Mutant("added, not multiplied",
               {"w.to(tl.float32) * x.to(tl.float32)[None, :]": "w.to(tl.float32) + x.to(tl.float32)[None, :]"},
               "The products are w[n, k] · x[k]: multiply w with x."),
        Mutant("each step is added onto y, which holds nothing yet",
               {"        acc += w.to(tl.float32) * x.to(tl.float32)[None, :]":
                 "        part = tl.sum(w.to(tl.float32) * x.to(tl.float32)[None, :], axis=1)\n        "
                 "tl.atomic_add(y_ptr + offs_n, part.to(tl.float16), mask=mask_n)",
                "    tl.store(y_ptr + offs_n, y, mask=mask_n)": "    tl.store(y_ptr + offs_n, y, mask=offs_n < 0)"},
               "y comes uninitialized, and FP16 rounds at each step: add up in acc, in FP32, and store y once, "
               "after the loop."),
        Mutant("the largest product in place of their sum", {"tl.sum(acc, axis=1)": "tl.max(acc, axis=1)"},
               "y[n] is the sum over all k: tl.sum."),
    ),
)

EXERCISES = [GEMV_BYTES, ROOFLINE_US, GEMV_FP16_ROW, GEMV_FP16]
