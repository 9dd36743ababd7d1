"""Lesson 10: what a block of a transformer must cost, and what INT8 can gain of it."""

import torch

from checks.judge.exercise import Exercise, Expected, Mutant, numbers
from kernels import block_cost
from kernels.block_cost import LLAMA_3_8B_DIMS as DIMS

LESSON = "10_transformer"

AMDAHL = Exercise(
    name="amdahl_speedup",
    lesson=LESSON,
    points=1,
    oracle=lambda fraction, speedup: (Expected(v := 1 / (1 - fraction + fraction / speedup), 1e-9 * v),),
    cases=(numbers(fraction=0.8, speedup=2.0), numbers(fraction=0.8, speedup=1e9), numbers(fraction=0.0, speedup=2.0),
           numbers(fraction=1.0, speedup=1.6), numbers(fraction=0.3, speedup=0.5)),
    mutants=(
        Mutant("the mean of the speed-ups",
               {"1 / (1 - fraction + fraction / speedup)": "1 - fraction + fraction * speedup"},
               "Times add, speed-ups do not: add the times of the two parts and divide the old time by the sum."),
        Mutant("the part's time grows", {"fraction / speedup": "fraction * speedup"},
               "A part that becomes `speedup` times as fast takes its time divided by it: fraction / speedup."),
        Mutant("the part that stays is forgotten",
               {"1 - fraction + fraction / speedup": "max(fraction, 1e-300) / speedup"},
               "The other 1 - fraction takes as long as before."),
        Mutant("the two parts are mixed up", {"1 - fraction + fraction / speedup": "fraction + (1 - fraction) / speedup"},
               "`fraction` is the part that becomes faster, 1 - fraction the part that stays."),
        Mutant("the new time", {"1 / (1 - fraction + fraction / speedup)": "1 - fraction + fraction / speedup"},
               "That is the new time when the old one is 1; how many times as fast is 1 over it."),
        Mutant("the speed-up of the part alone", {"1 / (1 - fraction + fraction / speedup)": "speedup"},
               "Only `fraction` of the time becomes faster."),
        Mutant("the limit", {"1 / (1 - fraction + fraction / speedup)": "1 / max(1 - fraction, 1e-300)"},
               "That is what no speed-up can pass; the part that became faster still takes fraction / speedup."),
        Mutant("the whole becomes faster", {"1 - fraction + fraction / speedup": "1 - fraction + 1 / speedup"},
               "Only `fraction` of the time is divided by the speed-up: fraction / speedup."),
        Mutant("a percentage", {"1 - fraction + fraction / speedup": "1 - fraction / 100 + fraction / 100 / speedup"},
               "`fraction` goes from 0 to 1: it is no percentage."),
        Mutant("the speed-ups multiplied", {"1 / (1 - fraction + fraction / speedup)": "max(fraction * speedup, 1e-300)"},
               "Times add, speed-ups do not: add the times of the two parts."),
        Mutant("what is gained, in percent",
               {"1 / (1 - fraction + fraction / speedup)": "(1 / (1 - fraction + fraction / speedup) - 1) * 100"},
               "How many times as fast: 2 is twice."),
    ),
)

BLOCK_WEIGHTS = Exercise(
    name="block_weights",
    lesson=LESSON,
    points=1,
    oracle=lambda dim, kv_dim, hidden: (Expected(sum(
        torch.empty(shape, device="meta").numel() for shape in block_cost.block_products(dim, kv_dim, hidden).values())),),
    cases=(numbers(**DIMS), numbers(dim=128, kv_dim=64, hidden=384), numbers(dim=8, kv_dim=8, hidden=3)),
    mutants=(
        Mutant("keys and values as wide as queries", {"2 * dim * dim + 2 * dim * kv_dim": "4 * dim * dim"},
               "Several heads of queries share one of keys and values: k and v have kv_dim rows only."),
        Mutant("two products in the MLP", {"3 * dim * hidden": "2 * dim * hidden"},
               "The MLP has three matrices: gate, up and down."),
        Mutant("the product behind attention left out", {"2 * dim * dim": "dim * dim"},
               "q and o are both (dim, dim): o mixes the heads' results."),
        Mutant("keys without values", {"2 * dim * kv_dim": "dim * kv_dim"}, "Keys and values have a matrix each."),
        Mutant("bytes in FP16", {"return 2 * dim * dim + 2 * dim * kv_dim + 3 * dim * hidden":
                                  "return 2 * (2 * dim * dim + 2 * dim * kv_dim + 3 * dim * hidden)"},
               "The number of weights is wanted, whatever each of them takes."),
        Mutant("the attention alone", {"2 * dim * kv_dim + 3 * dim * hidden": "2 * dim * kv_dim"},
               "The MLP's three matrices are most of the block."),
        Mutant("keys and values square", {"2 * dim * kv_dim": "2 * kv_dim * kv_dim"},
               "k and v take x, dim numbers, to kv_dim: (kv_dim, dim) each."),
        Mutant("the MLP square", {"3 * dim * hidden": "3 * hidden * hidden"},
               "gate, up and down go between dim and hidden: dim · hidden each."),
    ),
)

KV_CACHE = Exercise(
    name="kv_cache_bytes",
    lesson=LESSON,
    points=1,
    oracle=lambda batch, context, kv_dim: (Expected(2 * torch.empty(
        (batch, context, kv_dim), dtype=torch.float16, device="meta").nbytes),),
    cases=(numbers(batch=1, context=8192, kv_dim=1024), numbers(batch=64, context=2048, kv_dim=1024),
           numbers(batch=3, context=5, kv_dim=7)),
    mutants=(
        Mutant("half of it", {"2 * kv_dim * 2": "2 * kv_dim"},
               "Keys and values are both read, and each FP16 number takes two bytes: four bytes for each of kv_dim."),
        Mutant("one sequence", {"batch * context": "context"}, "Each sequence has a cache of its own."),
        Mutant("the last token alone", {"batch * context": "batch"},
               "The new token attends to every token before it: all of the cache is read."),
        Mutant("a quarter of it", {"2 * kv_dim * 2": "kv_dim"},
               "Keys and values are both read, and each FP16 number takes two bytes: four bytes for each of kv_dim."),
        Mutant("read by each token of the context", {"batch * context": "batch * context * context"},
               "There is one new token for each sequence, and it reads the cache once."),
        Mutant("an INT8 cache, with scales", {"2 * kv_dim * 2": "2 * (kv_dim + 4)"},
               "This cache is FP16: two bytes a number, and no scales."),
        Mutant("FP32", {"2 * kv_dim * 2": "2 * kv_dim * 4"}, "Keys and values are FP16: two bytes a number."),
    ),
)

_CHIP = {"tops": 1979.0, "gb_per_s": 4800.0}


def exact_products_int8_us(M, dim, kv_dim, hidden, tops, gb_per_s) -> tuple[Expected]:
    total = 0.0
    for N, K in [(dim, dim)] * 2 + [(kv_dim, dim)] * 2 + [(hidden, dim)] * 2 + [(dim, hidden)]:
        quantize = 3 * M * K + 4 * M
        multiply = (M + N) * K + 4 * (M + N) + 2 * M * N
        total += quantize / (gb_per_s * 1e3) + max(2 * M * N * K / (tops * 1e6), multiply / (gb_per_s * 1e3))
    return (Expected(total, 1e-9 * total),)


PRODUCTS_INT8_US = Exercise(
    name="products_int8_us",
    lesson=LESSON,
    points=2,
    oracle=exact_products_int8_us,
    cases=(numbers(M=1, **DIMS, **_CHIP), numbers(M=8192, **DIMS, **_CHIP), numbers(M=300, **DIMS, **_CHIP),
           numbers(M=64, dim=128, kv_dim=64, hidden=384, tops=10.0, gb_per_s=100.0)),
    mutants=(
        Mutant("quantization is free",
               {"us += roofline_us(0, quantize_int8_perrow_bytes(M, K), tops, gb_per_s)\n": "pass\n"},
               "x comes in FP16: a pass over it, 3 bytes a number, comes before each product. The two run one after the "
               "other, so their times add."),
        Mutant("FP16 bytes", {"perrow_w8a8_matmul_bytes": "_fp16", "    us = 0.0": "    def _fp16(M, N, K):\n"
               "        return 2 * (M * K + N * K + M * N)\n    us = 0.0"},
               "Codes take one byte: perrow_w8a8_matmul_bytes counts the INT8 product's bytes."),
        Mutant("quantized along N", {"quantize_int8_perrow_bytes(M, K)": "quantize_int8_perrow_bytes(M, N)"},
               "What is quantized is x, which is (M, K)."),
        Mutant("weights quantized each time", {"quantize_int8_perrow_bytes(M, K)": "quantize_int8_perrow_bytes(N, K)"},
               "The weights were quantized once, long ago; each call quantizes x, which is (M, K)."),
        Mutant("quantization hidden behind the product",
               {"us += roofline_us(0, quantize_int8_perrow_bytes(M, K), tops, gb_per_s)\n": "pass\n",
                "us += roofline_us(matmul_flops(M, N, K), perrow_w8a8_matmul_bytes(M, N, K), tops, gb_per_s)":
                 "us += roofline_us(matmul_flops(M, N, K), perrow_w8a8_matmul_bytes(M, N, K) + "
                 "quantize_int8_perrow_bytes(M, K), tops, gb_per_s)"},
               "The product begins when the codes are there: two kernels, one after the other, so their times add."),
        Mutant("x quantized once for q, k and v, and once for gate and up",
               {"    return us":
                 "    return us - roofline_us(0, 3 * quantize_int8_perrow_bytes(M, dim), tops, gb_per_s)"},
               "Each of the seven layers quantizes what it is given, also where two are given the same."),
        Mutant("one product's time", {"us += roofline_us(matmul": "us = roofline_us(matmul"},
               "Add up all seven."),
        Mutant("N and K swapped", {"for N, K in": "for K, N in"},
               "block_products gives (N, K) for each product, the rows of the weight first."),
        Mutant("x quantized once for all seven products",
               {"us += roofline_us(0, quantize_int8_perrow_bytes(M, K), tops, gb_per_s)":
                 "us += roofline_us(0, quantize_int8_perrow_bytes(M, dim) if us == 0 else 0, tops, gb_per_s)"},
               "Each of the seven products quantizes its own input."),
        Mutant("the arithmetic of the product in the quantization too",
               {"us += roofline_us(0, quantize_int8_perrow_bytes(M, K), tops, gb_per_s)":
                 "us += roofline_us(matmul_flops(M, N, K), quantize_int8_perrow_bytes(M, K), tops, gb_per_s)"},
               "The quantization does hardly any arithmetic: its roofline has 0 operations."),
    ),
)

EXERCISES = (BLOCK_WEIGHTS, PRODUCTS_INT8_US, KV_CACHE, AMDAHL)
