"""Slips in a function's source that are looked for once its result is wrong."""

import ast

import pytest

from checks.exercises import EXERCISES
from checks.judge.slips import find_certain_slip, find_other_arguments, find_slip, find_unused
from checks.judge.source import answer_source

TILE, LAYOUT = "matmul_fp16_naive_kernel", "int_mm_kernel"


def slip(name: str, *edits: tuple[str, str]) -> str | None:
    answer = answer_source(name)
    source = answer
    for old, new in edits:
        assert source.count(old) == 1, f"{old!r} must stand there once"
        source = source.replace(old, new)
    both = ast.parse(source).body[0], ast.parse(answer).body[0]
    return find_other_arguments(*both) or find_certain_slip(*both) or find_slip(*both) or find_unused(*both)


@pytest.mark.parametrize("name", EXERCISES)
def test_no_answer_has_a_slip(name):
    assert slip(name) is None


@pytest.mark.parametrize(("name", "edit", "said"), [
    (TILE, ("[:, None] * stride_wn", "[:, None] * stride_xm"), "The address of `w` is made with `stride_xm`"),
    (TILE, ("offs_m < M", "offs_m < N"), "`offs_m` is compared with `N`"),
    ("perrow_w8a8_matmul_plain_kernel", ("bias_ptr + offs_n, mask=mask_n", "bias_ptr + offs_m, mask=offs_m < N"),
     "`bias` is addressed by `offs_m`, and it has an element for each n"),
    (TILE, ("offs_n < N", "offs_n <= N"), "`offs_n <= N` lets one element too many through"),
    (TILE, ("offs_n < N", "offs_n < BLOCK_N"), "asks whether a lane is in the block"),
    (TILE, ("tl.program_id(1)", "tl.program_id(0)"), "never asks for `tl.program_id(1)`"),
    (TILE, ("tl.program_id(1)", "tl.program_id(1) + tl.program_id(2)"), "The grid has no axis 2"),
    (TILE, ("offs_k = k + tl.arange", "offs_k = tl.arange"), "Each step of the loop reads the same part of `x`"),
    (LAYOUT, ("offs_k[None, :] * stride_wk", "offs_k[None, :] * stride_xm"), "The address of `w` is made with `stride_xm`"),
    ("rmsnorm_quantize_int8_plain_kernel", ("weight_ptr + offs_k", "weight_ptr + m * stride_xm + offs_k"),
     "the elements of `weight` lie side by side"),
    ("decode_attention_int8_kernel", ("k_scale_ptr + scale", "k_scale_ptr + head"),
     "is made with `stride_b`: `k_scale` has `stride_sb` and `stride_sh`"),
    ("gemv_w8a8_row_kernel", (" * tl.load(x_scale_ptr)", ""), "The argument `x_scale_ptr` is never used"),
    ("gemv_bytes", ("    return", "    gemv_bytes\n    return"), "The line `gemv_bytes` does nothing"),
    ("gemv_bytes", ("    return", "    N == K\n    return"), "The line `N == K` compares and keeps nothing"),
    ("sqnr_db", ("    return", "    x.double()\n    return"), "The line `x.double()` computes a value and drops it"),
    (TILE, ("x_ptr, w_ptr, y_ptr", "w_ptr, x_ptr, y_ptr"), "The arguments stand in another order than (x_ptr, w_ptr"),
    (TILE, ("BLOCK_K: tl.constexpr", "BLOCK_K"), "`BLOCK_K` has lost its `: tl.constexpr`"),
    ("gemv_bytes", ("N: int, K: int", "N: int"), "other arguments than those given, which are (N, K)"),
    (TILE, ("mask_w = mask_n[:, None] & mask_k[None, :]", "mask_w = mask_n[None, :] & mask_k[:, None]"),
     "The mask of `w` is turned the other way"),
    ("gemv_fp16_row_kernel", ("w.to(tl.float32) * x", "x.to(tl.float32) * x"), "`w` is computed and then never used"),
    ("vector_add_kernel", ("p * BLOCK + tl", "tl"), "`p`, the number of the program, is never used"),
    ("gemv_fp16_kernel", ("tl.store(y_ptr + offs_n, y, mask=mask_n)", "tl.store(y_ptr, y)"),
     "Each program stores one number to `y`"),
    ("eager_us", ("    return done", "        return done"), "A `return` stands inside the loop")])
def test_a_slip_is_named(name, edit, said):
    assert said in slip(name, edit)


def test_single_numbers_may_be_stored_one_by_one():
    store = "tl.store(y_ptr + offs_n, y, mask=mask_n)"
    one_by_one = "for n in range(BLOCK_N):\n        tl.store(y_ptr + tl.program_id(0) * BLOCK_N + n, y, mask=n < N)"
    assert slip("gemv_fp16_kernel", (store, one_by_one)) is None


def test_a_name_that_says_itself_that_it_is_not_used():
    assert slip("gemv_bytes", ("    return", "    spare = N\n    return")) == "`spare` is computed and then never used."
    assert slip("gemv_bytes", ("    return", "    _spare = N\n    return")) is None
    assert slip("vector_add_kernel", ("    p = tl", "    _ = tl.num_programs(0)\n    p = tl")) is None


def test_pointers_that_a_loop_moves_by_the_wrong_step():
    source = answer_source(LAYOUT)
    head = source[:source.index("    for k in")]
    loop = """    offs_k = tl.arange(0, BLOCK_K)
    w_ptrs = w_rows + offs_k[None, :] * stride_wk
    x_ptrs = x_rows + offs_k[None, :]
    for k in range(0, K, BLOCK_K):
        acc = tl.dot(tl.load(x_ptrs), tl.load(w_ptrs).T, acc)
        x_ptrs += BLOCK_K
        w_ptrs += STEP
"""
    said = [find_slip(ast.parse(head + loop.replace("STEP", step)).body[0], ast.parse(source).body[0])
            for step in ("BLOCK_K", "BLOCK_K * stride_wk")]
    assert "`w_ptrs` moves on by `BLOCK_K` elements" in said[0] and "w_ptrs" not in (said[1] or "")


@pytest.mark.parametrize("body", [
    "for k in range(K):\n        if k * N > 9:\n            return k\n    return K",
    "def once(k):\n        for part in range(k):\n            def inner():\n                return part\n"
    "        return inner()\n    return once(K)",
    "seen = []\n    seen.append(N)\n    print(K)\n    return seen[0] * K",
    "torch.manual_seed(0)\n    math.sqrt(N)\n    return N * K"],
    ids=["a return under a condition", "a return of another function", "calls for what they do", "calls of modules"])
def test_what_may_be_meant_is_no_slip_for_certain(body):
    function = ast.parse(f"def gemv_bytes(N, K):\n    {body}\n").body[0]
    assert find_certain_slip(function, ast.parse(answer_source("gemv_bytes")).body[0]) is None
