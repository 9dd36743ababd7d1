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


KERNEL = """def k(x_ptr, w_ptr, y_ptr, bias_ptr, M, N, K, stride_xm, stride_xk, stride_wn, stride_wk, stride_ym,
      BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)
    mask_m = offs_m < M
    mask_n = offs_n < N
    x_ptrs = x_ptr + offs_m[:, None] * stride_xm + offs_k[None, :] * stride_xk
    w_ptrs = w_ptr + offs_n[:, None] * stride_wn + offs_k[None, :] * stride_wk
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        mask_k = offs_k < K - k
        x = tl.load(x_ptrs, mask=mask_m[:, None] & mask_k[None, :], other=0.0)
        w = tl.load(w_ptrs, mask=mask_n[:, None] & mask_k[None, :], other=0.0)
        acc = tl.dot(x, w.T, acc)
        x_ptrs += BLOCK_K * stride_xk
        w_ptrs += BLOCK_K * stride_wk
    acc += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0)[None, :]
    tl.store(y_ptr + offs_m[:, None] * stride_ym + offs_n[None, :], acc, mask=mask_m[:, None] & mask_n[None, :])
"""
STEP, XK, WK = "x_ptrs += BLOCK_K * stride_xk", "offs_k[None, :] * stride_xk", "offs_k[None, :] * stride_wk"
STORE = "tl.store(y_ptr + offs_m[:, None] * stride_ym + offs_n[None, :], acc,"
XM = "x_ptr + offs_m[:, None] * stride_xm + "


def said_of(source: str, answer: str = KERNEL) -> str | None:
    both = ast.parse(source).body[0], ast.parse(answer).body[0]
    return find_other_arguments(*both) or find_certain_slip(*both) or find_slip(*both) or find_unused(*both)


@pytest.mark.parametrize(("edits", "said"), [
    ({}, None),
    ({STEP: "x_ptrs += stride_xk * BLOCK_K"}, None), ({XK: "stride_xk * offs_k[None, :]"}, None),
    ({STEP: "x_ptrs += BLOCK_K"}, "`x_ptrs` moves on by `BLOCK_K` elements, but its neighbours along K are `stride_xk` "
     "apart: add `BLOCK_K * stride_xk`."),
    ({STEP: "x_ptrs += BLOCK_K", XK: "stride_xk * offs_k[None, :]"}, "but its neighbours along K are `stride_xk` apart"),
    ({STEP: "x_ptrs += BLOCK_K", XM + XK: f"{XK} + {XM}0"}, "but its neighbours along K are `stride_xk` apart"),
    ({STEP: "x_ptrs += BLOCK_K", XM + XK: "x_ptr + rows", "    x_ptrs =": f"    rows = {XM[8:]}{XK}\n    x_ptrs ="},
     "but its neighbours along K are `stride_xk` apart"),
    ({STEP: "x_ptrs += BLOCK_K * stride_xm"},
    "`x_ptrs` moves on by `BLOCK_K * stride_xm` elements, but its neighbours along K"),
    ({XK: "offs_k[None, :]"}, "`x_ptrs` moves on by `BLOCK_K * stride_xk` elements, but its neighbours along K lie side by "
                              "side: add `BLOCK_K`."),
    ({XK: "offs_k[None, :]", STEP: "x_ptrs += BLOCK_K"}, "The argument `stride_xk` is never used."),
    ({XK: "(k + offs_k[None, :]) * stride_xk", "        mask_k": f"        x_ptrs = {XM}(k + offs_k[None, :]) * stride_xk\n"
      "        mask_k"}, None),
    ({"tl.load(x_ptrs,": f"tl.load(x_ptrs + k * stride_xk + 0 * {XK},"},
    "`x_ptrs` moves on in each step, `x_ptrs += BLOCK_K * "
     "stride_xk`, and `k` moves with `k` as well: one of the two is enough."),
    ({"tl.load(x_ptrs,": "tl.load(x_ptrs + far,", "        mask_k =": "        far = k * stride_xk\n        mask_k ="},
     "and `far` moves with `k` as well: one of the two is enough."),
    ({f"        {STEP}\n": ""}, "Each step of the loop reads the same part of `x`: nothing in its address moves with `k`."),
    ({"        w_ptrs += BLOCK_K * stride_wk\n": ""}, "Each step of the loop reads the same part of `w`"),
    ({"bias_ptr + offs_n, mask=mask_n": "bias_ptr + offs_m, mask=mask_m"}, "`bias` is addressed by `offs_m`, and it has an "
     "element for each n: its address and its mask go by `offs_n`."),
    ({"bias_ptr + offs_n": "bias_ptr + offs_n * stride_ym"},
    "The address of `bias` is made with `stride_ym`, a stride of `y`: the "
     "elements of `bias` lie side by side and need no stride."),
    ({XM: XM.replace("stride_xm", "stride_wn")}, "The address of `x` is made with `stride_wn`, a stride of `w`: `x` has "
     "`stride_xm` and `stride_xk`."),
    ({STORE: STORE.replace("stride_ym", "stride_xm")},
    "The address of `y` is made with `stride_xm`, a stride of `x`: `y` has "
     "`stride_ym`."),
    ({"offs_m < M": "offs_m <= M"},
    "`offs_m <= M` lets one element too many through: the last is number M - 1, so the mask is "
     "`offs_m < M`."),
    ({"offs_m < M": "offs_m + 1 <= M"}, None), ({"offs_m < M": "offs_m < BLOCK_M"},
    "the mask is about the size, `offs_m < M`"),
    ({"offs_m < M": "offs_m < N"}, "`offs_m` is compared with `N`: it counts along M, so the mask is `offs_m < M`."),
    ({"offs_m < M": "offs_m < N", "offs_n < N": "offs_n < M"}, "is compared with"),
    ({"offs_m < M": "offs_m < stride_xm"}, "The argument `M` is never used."), ({"offs_m < M": "M > offs_m"}, None),
    ({"offs_m < M": "0 <= offs_m"}, "The argument `M` is never used."),
    ({"offs_k < K - k": "offs_k < K"}, None), ({"offs_k < K - k": "offs_k + k < M"}, "`offs_k` is compared with `M`"),
    ({"mask_m[:, None] & mask_n[None, :])": "mask_m[None, :] & mask_n[:, None])"},
    "The mask of `y` is turned the other way"),
    ({"mask_n[:, None] & mask_k[None, :]": "mask_n[:, None] & mask_k[:, None]"},
    "The mask of `w` is turned the other way than its "
     "address: offs_k[None, :], but mask_k[:, None]."),
    ({"tl.program_id(1)": "tl.program_id(axis=1)"}, None), ({"tl.program_id(1)": "tl.program_id(2)"},
    "The kernel never asks for "
     "`tl.program_id(1)`, the program's place along axis 1 of the grid."),
    ({"tl.program_id(0) *": "tl.program_id(0) * tl.program_id(2) *"},
    "The grid has no axis 2: `tl.program_id(2)` is 0 in every"),
    ({STORE: "tl.store(y_ptr, acc,"}, "Each program stores one number to `y`, and a block of them is its part"),
    ({"    tl.store(": "    for m in range(M):\n        tl.store(", "y_ptr + offs_m[:, None] * stride_ym + offs_n[None, :]":
      "y_ptr + m * stride_ym"}, None),
    ({"tl.store(y_ptr": "tl.store(x_ptr"}, "`x` is an input, and it is stored to: the result belongs in `y`."),
    ({"    tl.store(": "    tl.atomic_add(w_ptr, 1)\n    tl.store("},
    "`w` is an input, and it is stored to: the result belongs"),
    ({"tl.store(y_ptr": "tl.atomic_add(y_ptr"}, None),
    ({"M, N, K, ": "N, M, K, "},
    "The arguments stand in another order than (x_ptr, w_ptr, y_ptr, bias_ptr, M, N, K, stride_xm"),
    ({"M, N, K, ": "M, N, K, more, "}, "The function takes other arguments than those given, which are (x_ptr, w_ptr"),
    ({"M, N, K, ": "M, N, "}, "The function takes other arguments than those given"),
    ({"BLOCK_M: tl.constexpr": "BLOCK_M: int"}, "`BLOCK_M` has lost its `: tl.constexpr`"),
    ({"BLOCK_K: tl.constexpr": "BLOCK_K: 'tl.constexpr'"}, None),
    ({"acc, mask=mask_m[:, None] & mask_n[None, :])": "acc)\n    return acc"},
    "A kernel returns nothing, and `return acc` is lost: "
     "write with `tl.store`."),
    ({"acc = tl.dot(x, w.T, acc)": "tl.dot(x, w.T, acc)"}, "The line `tl.dot(x, w.T, acc)` computes a value and drops it"),
    ({"acc += tl.load(bias_ptr": "bias = tl.load(bias_ptr"}, "`bias` is computed and then never used."),
    ({"dtype=tl.float32)": "dtype=tl.float32) + tl.odd(bias_ptr + offs_m) + one.load(bias_ptr + offs_m)"}, None),
    ({"dtype=tl.float32)": "dtype=tl.float32) + tl.load(pointer=bias_ptr)"}, None),
    ({"bias_ptr + offs_n": "bias_ptr + tl.load(w_ptr) + offs_m"}, "`bias` is addressed by `offs_m`, and it has an element"),
    ({XK: "offs_k[None, :] * 2", STEP: "x_ptrs += BLOCK_K * 2"}, "The argument `stride_xk` is never used."),
    ({XK: "offs_k[None, :] * K", STEP: "x_ptrs += BLOCK_K * K"}, "The argument `stride_xk` is never used."),
    ({STEP: "x_ptrs -= BLOCK_K"}, None), ({STEP: "x_ptrs += BLOCK_K * stride_xm * M"}, None),
    ({STEP: "x_ptrs = x_ptrs + BLOCK_K * stride_xk"}, None), ({"tl.load(x_ptrs,": "tl.load(x_ptrs + M,"}, None),
    ({STEP: "x_ptrs -= BLOCK_K * stride_xk", "tl.load(x_ptrs,": "tl.load(x_ptrs + 2 * k * stride_xk,"}, None),
    ({"tl.load(w_ptrs, mask=mask_n[:, None] & mask_k[None, :], other=0.0)":
      "tl.load(w_ptrs, other=0.0, mask=mask_n[None, :] & mask_k[:, None])"}, "The mask of `w` is turned the other way")],
    ids=lambda one: None if isinstance(one, dict) else str(one)[:40])
def test_a_slip_in_a_product_s_kernel(edits, said):
    source = KERNEL
    for old, new in edits.items():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    found = said_of(source)
    assert found is None if said is None else said in (found or ""), found


def test_an_output_of_another_name_is_no_input():
    assert "is an input" not in (said_of(KERNEL.replace("y_ptr", "output_ptr")) or "")


@pytest.mark.parametrize("name", ["dot", "load", "sum", "max", "min", "maximum", "minimum", "where", "abs", "zeros", "full",
    "exp", "sqrt"])
def test_a_value_that_a_kernel_drops(name):
    said = said_of(f"def f(x_ptr):\n    tl.{name}(x)\n", "def f(x_ptr): pass")
    assert said == f"The line `tl.{name}(x)` computes a value and drops it: assign it to a name."
    assert find_certain_slip(*[ast.parse(f"def f(x):\n    math.{name}(x)\n").body[0]] * 2) is None


@pytest.mark.parametrize("line", [
    *(f"x.{name}()" for name in (
        "to", "abs", "round", "clamp", "float", "half", "double", "int", "bool", "reshape", "sum", "mean", "sqrt", "square",
        "max", "min", "amax", "t", "transpose", "contiguous", "masked_fill")), "x.abs().sum(dim=0)", "x + 1", "-x", "x[0]",
        "[x]", "x if x else y", "lambda: x",
    "x and y", "(x, y)", "f'{x}'"])
def test_a_value_that_is_dropped(line):
    line = ast.unparse(ast.parse(line))
    assert find_certain_slip(*[ast.parse(f"def f(x):\n    {line}\n").body[0]] * 2) == (
        f"The line `{line}` computes a value and drops it: assign it to a name.")


@pytest.mark.parametrize("line", [
    "'text'", "...", "yield x", "print(x)", "f(x)", "x.append(1)", "x.copy_(y)", "x.add_(1)", "torch.sum(x)", "math.sqrt(x)",
    "torch.abs(x)", "tl.store(x, 1)", "tl.device_print('x')", "tl.static_assert(x > 1)", "tl.atomic_add(x, 1)", "tl.to(x)",
    "x.dot(y)", "x.y.load()"])
def test_a_line_that_does_something_is_no_lost_value(line):
    assert find_certain_slip(*[ast.parse(f"def f(x):\n    {line}\n").body[0]] * 2) is None


ONE, TWO = "def f(a, b):\n    return a\n", "def f(a, b):\n    return a, b\n"


@pytest.mark.parametrize(("body", "answer", "said"), [
    ("print(a)", ONE, "The result is printed, and nothing is returned: `return` hands it back."),
    ("y = a", ONE, "Nothing is returned. Is a `return` missing?"), ("print(a)\n    raise ValueError", ONE, None),
    ("g(a)", ONE, "Nothing is returned. Is a `return` missing?"), ("return", ONE, "Nothing is returned."),
    ("raise ValueError", ONE, None), ("if a:\n        raise ValueError", ONE, "Nothing is returned."),
    ("if a:\n        return b", ONE, None), ("return a", TWO,
    "`return a` gives back one value, and 2 are wanted, as in `return "
                                             "..., ...`."),
    ("return a + b", TWO, "gives back one value, and 2"), ("return 3", TWO, "gives back one value, and 2"),
    ("return [a, b]", TWO, None), ("return g(a)", TWO, None), ("return b, a", TWO, None),
    ("return a", "def f(a, b):\n    if a:\n        return a\n    return a, b\n", None),
    ("y = a", "def f(a, b):\n    y = a\n", None), ("while a:\n        return b", ONE, "A `return` stands inside the loop"),
    ("for i in a:\n        return b", ONE, "A `return` stands inside the loop and ends it after the first step"),
    ("return ValueError(a)", ONE,
    "An error is returned, and the caller takes it for a result: `raise ValueError(...)` stops it."),
    ("return torch.MyException(a)", ONE, "`raise torch.MyException(...)` stops it"), ("return Errors(a)", ONE, None),
    ("return a.x()", ONE, None), ("a\n    return a", ONE, "The line `a` does nothing: a call needs parentheses, `a()`."),
    ("a.b\n    return a", ONE, "The line `a.b` does nothing: a call needs parentheses, `a.b()`."),
    ("a == b\n    return a", ONE, "The line `a == b` compares and keeps nothing: `=` assigns.")])
def test_a_slip_that_is_one_in_any_function(body, answer, said):
    found = find_certain_slip(ast.parse(f"def f(a, b):\n    {body}\n").body[0], ast.parse(answer).body[0])
    assert found is None if said is None else said in (found or ""), found


@pytest.mark.parametrize(("arguments", "other"), [
    ("a, b", False), ("c, d", False), ("a, /, b", False), ("a, *, b", False), ("a", True), ("a, b, c", True), ("a, b, *, c",
    True)])
def test_as_many_arguments_as_are_given(arguments, other):
    found = find_other_arguments(ast.parse(f"def f({arguments}): pass").body[0], ast.parse(ONE).body[0])
    assert (found is not None) == other and (not other or "which are (a, b)" in found)
    assert find_certain_slip(ast.parse(f"def f({arguments}):\n    return 3").body[0], ast.parse(ONE).body[0]) is None


@pytest.mark.parametrize(("body", "said"), [
    ("p = tl.program_id(0)\n    return a + b",
    "`p`, the number of the program, is never used: every program does the same work."),
    ("p = 3\n    return a + b", "`p` is computed and then never used."), ("p = 3\n    return a + b + p", None),
    ("p = q = 3\n    return a + b", None), ("p, q = b\n    return a", None), ("_ = 3\n    return a + b", None),
    ("return a", "The argument `b` is never used."), ("return b", "The argument `a` is never used."),
    ("return 3", "The argument `a` is never used."), ("p = 3\n    return a", "The argument `b` is never used.")])
def test_what_is_never_used(body, said):
    answer = ast.parse("def f(a, b):\n    return a + b\n").body[0]
    assert find_unused(ast.parse(f"def f(a, b, c):\n    {body}\n").body[0], answer) == said


@pytest.mark.parametrize("body", [
    "offs_p = tl.arange(0, 4)\n    tl.store(x_ptr + offs_p, 1, mask=offs_p < N)",
    "tl.store(x_ptr, 1)\n    tl.store(x_ptr + tl.arange(0, 4), 1, mask=tl.arange(0, 4) < N)",
    "x_ptrs = x_ptr + tl.arange(0, BLOCK_N)\n    if N > 9:\n        x_ptrs = x_ptr + tl.arange(0, BLOCK_N) * stride_xn\n"
    "    for n in range(0, N, BLOCK_N):\n        tl.store(x_ptrs, n)\n        x_ptrs += BLOCK_N"])
def test_what_an_answer_does_is_no_slip(body):
    assert find_slip(*[ast.parse(f"def k(x_ptr, N, stride_xn, BLOCK_N: tl.constexpr):\n    {body}\n").body[0]] * 2) is None


def renamed(**names: str) -> str:
    source = KERNEL
    for old, new in names.items():
        source = source.replace(old, new)
    return source


BIAS = "_ptr + offs_n, mask=mask_n"


@pytest.mark.parametrize(("answer", "edit", "said"), [
    (renamed(bias="x_scale"), (f"x_scale{BIAS}", "x_scale_ptr + offs_n * stride_xm, mask=mask_n"), "The address of "
     "`x_scale` is made with `stride_xm`, a stride of `x`: the elements of `x_scale` lie side by side and need no stride."),
    (renamed(bias="x_scale"), (f"x_scale{BIAS}", "x_scale_ptr + offs_m, mask=mask_m"), "`x_scale` is addressed by `offs_m`"),
    (renamed(bias="partial"), (f"partial{BIAS}", "partial_ptr + offs_n * stride_ym, mask=mask_n"), None),
    (renamed(bias="sum_partial"), (f"sum_partial{BIAS}", "sum_partial_ptr + offs_n * stride_ym, mask=mask_n"),
     "The address of `sum_partial` is made with `stride_ym`"),
    (renamed(y_ptr="partial_ptr", stride_ym="stride_pm"), ("offs_m[:, None] * stride_pm", "offs_m[:, None] * stride_xm"),
     "The address of `partial` is made with `stride_xm`, a stride of `x`: `partial` has `stride_pm`."),
    (KERNEL.replace("(x_ptr, w_ptr", "(weights, x_ptr, w_ptr"), (XM, XM.replace("stride_xm", "stride_wn")),
     "`stride_wn`, a stride of `w`: `x` has"),
    (renamed(stride_ym="stride_odd_m"), (XM, XM.replace("stride_xm", "stride_odd_m")), "`stride_odd_m`, a stride of `odd_`"),
    (renamed(stride_ym="stride_o"), (XM, XM.replace("stride_xm", "stride_o")), "made with `stride_o`: `x` has"),
    (KERNEL.replace(f"w_ptr + offs_n[:, None] * stride_wn + {WK}", "w_ptr + offs_n[:, None] * stride_wn"),
     ("w_ptr + offs_n[:, None] * stride_wn", f"w_ptr + offs_n[:, None] * stride_wn + {WK}"), None)], ids=range(9))
def test_whose_stride_it_is(answer, edit, said):
    assert answer.count(edit[0]) == 1
    found = said_of(answer.replace(*edit), answer)
    assert found is None if said is None else said in (found or ""), found


@pytest.mark.parametrize(("body", "answer", "said"), [
    ("tl.store(y_ptr, N)", "tl.store(y_ptr + n, N)", "Each step of the loop writes the same part of `y`: nothing in its "
     "address moves with `n`."),
    ("tl.load(y_ptr)", "tl.load(y_ptr + n)", "Each step of the loop reads the same part of `y`"),
    ("tl.store(y_ptr, N)", "tl.load(y_ptr + n)", None), ("tl.store(y_ptr, n)", "tl.store(y_ptr, n)", None),
    ("tl.store(y_ptr + at + n, n)\n        at += 3", "tl.store(y_ptr + n, n)", None),
    ("x = tl.load(x_ptr + offs_m * stride_xm)", "x = tl.load(x_ptr + offs_n)", None),
    ("x = tl.load(x_ptr + offs_m)", "x = tl.load(x_ptr + offs_n)", "`x` is addressed by `offs_m`"),
    ("mask = offs < M", "mask = offs < N", "`offs` is compared with `M`: it counts along N, so the mask is `offs < N`."),
    ("tl.store(x_ptr + tl.arange(0, 8), N)", "tl.store(x_ptr + offs, N)", None),
    ("tl.store(x_ptr + 8, tl.arange(0, 8))", "tl.store(x_ptr + offs, N)", None)], ids=range(10))
def test_a_slip_in_a_loop(body, answer, said):
    mine, theirs = (ast.parse("def k(x_ptr, y_ptr, M, N, stride_xm):\n    offs = tl.arange(0, 8)\n    for n in range(N):\n"
                              f"        {one}\n").body[0] for one in (body, answer))
    found = find_slip(mine, theirs)
    assert found is None if said is None else said in (found or ""), found


@pytest.mark.parametrize(("body", "said"), [
    ("tl.store(x_ptr + tl.arange(0, 8), N)", False), ("tl.store(x_ptr + 8, tl.arange(0, 8))", True),
    ("for n in range(8):\n        tl.store(x_ptr + n, N)", False)])
def test_a_block_is_one_by_its_address(body, said):
    answer = "def k(x_ptr, N):\n    offs = tl.arange(0, 8)\n    tl.store(x_ptr + offs, N)\n"
    found = find_slip(*(ast.parse(source).body[0] for source in (f"def k(x_ptr, N):\n    {body}\n", answer)))
    assert ("Each program stores one number to `x`" in (found or "")) == said


def test_a_function_of_numbers_has_no_masks():
    compares = ast.parse("def f(offs_m, M, N):\n    return offs_m < N\n").body[0]
    assert find_slip(compares, compares) is None
    fewer = ast.parse(KERNEL.replace(", BLOCK_K: tl.constexpr", "")).body[0]
    assert find_certain_slip(fewer, ast.parse(KERNEL).body[0]) is None
