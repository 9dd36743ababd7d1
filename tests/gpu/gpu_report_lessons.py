"""The part of `gpu_report.py` on the rungs that only a lesson uses."""

import test_gate_up
import test_group_w8a8
import test_hello
import test_kv_cache
import test_plans
import test_quantize_inside
import test_skinny
import torch

from kernels.gemv_int8 import gemv_w8a8_row
from kernels.matmul import grouped_order
from kernels.skinny import skinny_w8a8, split_k_w8a8


def check_lessons(checks):
    for N in test_hello.SIZES:
        for BLOCK in (16, 128, 1024):
            checks.attempt(f"vectors, N = {N}, blocks of {BLOCK}", test_hello.test_vectors_of_ragged_sizes, N, BLOCK)
    for M, N in test_hello.SHAPES:
        checks.attempt(f"row sums of {(M, N)}",
                       test_hello.test_row_sums_of_ragged_sizes_and_of_parts_of_a_matrix, M, N)
        for column_major in (False, True):
            checks.attempt(f"copy of {(M, N)}, column-major: {column_major}",
                           test_hello.test_copies_of_any_view, M, N, column_major)
    for shape in test_kv_cache.SHAPES if checks.small else [*test_kv_cache.SHAPES, (2, 32, 8, 128, 5000)]:
        checks.attempt(f"attention over both caches, {shape}",
                       test_kv_cache.test_attention_over_both_caches_is_that_of_torch, *shape)
    checks.attempt("parts of a cache", test_kv_cache.test_parts_that_a_length_does_not_reach_count_nothing)
    for T in (1, 3):
        checks.attempt(f"{T} new tokens in a cache", test_kv_cache.test_new_tokens_are_quantized_into_their_place, T)
    checks.attempt("grouped order", every_tile_once)
    checks.attempt("few rows", few_rows, checks.small)
    checks.attempt("the three plans", test_plans.test_the_plans_agree)
    for K in (100, 2048, 5000):
        checks.attempt(f"fused rungs, K = {K}", test_plans.test_the_students_rungs_give_what_the_librarys_kernels_give, K)
    shapes = [(1, 1, 1), (130, 65, 257), (257, 200, 1000)]
    for M, N, K in shapes if checks.small else [*shapes, (300, 11008, 2048), (4096, 5000, 4096)]:
        for bias in (None, torch.float16, torch.float32):
            checks.attempt(f"gate and up of {(M, N, K)}, bias {bias}", test_gate_up.check_gate_up, M, N, K, bias)
        checks.attempt(f"plans of SiLU·mul of {(M, N, K)}", test_gate_up.check_plans_of_silu_mul, M, N, K)
        checks.attempt(f"quantizing inside of {(M, N, K)}", test_quantize_inside.check_inside, M, N, K)
    shapes = [(1, 1, 128), (130, 65, 256), (257, 200, 1024)]
    for M, N, K in shapes if checks.small else [*shapes, (300, 11008, 2048), (4096, 5000, 4096)]:
        for config in (None, *test_group_w8a8.GROUP_CONFIGS):
            checks.attempt(f"groups along K of {(M, N, K)}, {config}", test_group_w8a8.check_group_product, M, N, K, config)
        for dtype in (torch.float16, torch.bfloat16):
            checks.attempt(f"codes of groups of {(M, K)}, {dtype}", test_group_w8a8.check_group_codes, M, K, dtype)
    checks.attempt("one group", test_group_w8a8.test_one_group_gives_the_bits_of_the_product_by_rows)
    checks.attempt("the whole MLP", test_gate_up.check_mlp, 300, 1024, 2816)


def every_tile_once():
    for rows, columns, GROUP_M in ((5, 4, 2), (128, 48, 8), (7, 3, 16)):
        order = grouped_order(rows, columns, GROUP_M)
        assert sorted(map(tuple, order.tolist())) == [(m, n) for m in range(rows) for n in range(columns)]


def few_rows(small):
    shapes = [(1, 65, 129), (3, 127, 300), (16, 130, 1500)]
    for M, N, K in shapes if small else [*shapes, (1, 4096, 4096), (16, 22016, 2048), (15, 2048, 11008)]:
        x_q, x_scale, w_q, w_scale = test_skinny.inputs(M, N, K)
        want = test_skinny.definition(x_q, x_scale, w_q, w_scale)
        assert torch.equal(skinny_w8a8(x_q, x_scale, w_q, w_scale), want), (M, N, K)
        assert torch.equal(gemv_w8a8_row(x_q[0], x_scale[:1], w_q, w_scale), want[0]), (M, N, K)
        for splits in (1, 2, 4, 7):
            assert torch.equal(split_k_w8a8(x_q, x_scale, w_q, w_scale, splits), want), (M, N, K, splits)
