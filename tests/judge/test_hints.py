"""Slips typed as students type them, and the sentence each one gets."""

import pytest

from checks.exercises import EXERCISES
from checks.judge.hints import (
    DEEPEST,
    definition,
    in_message,
    in_source,
    slow_to_compile,
    unused_stride,
    without_padding,
)
from checks.judge.verdict import NOT_ATTEMPTED, judge
from kernels.runtime import INTERPRETED

ROW, BLOCK = EXERCISES["gemv_fp16_row_kernel"], EXERCISES["gemv_fp16_kernel"]
QUANTIZE = EXERCISES["quantize_int8_perrow_plain_kernel"]
LONG, SCALED = EXERCISES["quantize_int8_perrow_long_kernel"], EXERCISES["perrow_w8a8_matmul_plain_kernel"]
TILE = EXERCISES["matmul_fp16_naive_kernel"]
LOADS = ("    x = tl.load(x_ptr + offs_k, mask=mask_k, other=0.0)  # (BLOCK_K,)\n"
         "    w = tl.load(w_ptr + n * stride_wn + offs_k, mask=mask_k, other=0.0)  # (BLOCK_K,)\n"
         "    y = tl.sum(w.to(tl.float32) * x.to(tl.float32), axis=0)\n")


def verdict_on(exercise, *edits):
    return judge(exercise, exercise.edited(*edits))


SLIPS = [
    (ROW, [("@triton.jit\n", "")], "`@triton.jit` above the kernel is missing"),
    (ROW, [("w.to(tl.float32)", "w.to(torch.float32)")], "torch and NumPy do not work inside a kernel"),
    (ROW, [("tl.load(x_ptr + offs_k, mask=mask_k, other=0.0)", "x_ptr[offs_k]")], "A pointer cannot be indexed"),
    (ROW, [("w.to(tl.float32)", "w.float()")], "convert with `.to(tl.float32)`"),
    (ROW, [("tl.sum(w.to(tl.float32) * x.to(tl.float32), axis=0)", "sum(w.to(tl.float32) * x.to(tl.float32))")],
     "Python's sum, max and min"),
    (BLOCK, [("tl.sum(acc, axis=1)", "tl.sum(acc, axis=0)")], "Two blocks whose shapes do not fit"),
    (ROW, [("tl.sum(w.to(tl.float32) * x.to(tl.float32), axis=0)", "w.to(tl.float32) * x.to(tl.float32)")],
     "is a `tl.sum` missing"),
    (QUANTIZE, [("(quotient + 12582912.0) - 12582912.0", "quotient.round()")], "add 12582912.0"),
    (ROW, [("tl.arange(0, BLOCK_K)", "tl.arange(0, K)")], "`tl.arange` takes numbers known at compile time"),
    (TILE, [("acc = tl.dot(x, w.T, acc)", "acc += x @ w.T")], "the matrix product of two blocks is `tl.dot(a, b)`"),
    (TILE, [("range(0, K, BLOCK_K)", "range(0, K)")], "give `range` the block's size as its step"),
    (TILE, [("dtype=tl.float32)", "dtype=tl.float16)"), ("acc = tl.dot(x, w.T, acc)", "acc += tl.dot(x, w.T)")],
     "What a loop changes must keep its type"),
    (QUANTIZE, [(".to(tl.float32)\n    magnitude", "\n    magnitude")], "This works in FP32 only"),
    (LONG, [("tl.maximum(magnitude, finite_or_inf(x))", "tl.max(magnitude, finite_or_inf(x))")],
     "the larger of two blocks is `tl.maximum(a, b)`"),
    (ROW, [("tl.sum(w.to(tl.float32) * x.to(tl.float32), axis=0)", "tl.dot(w, x)")], "`tl.dot` takes blocks with two axes"),
    (BLOCK, [("acc += w.to(tl.float32) * x.to(tl.float32)[None, :]", "acc = tl.dot(w, x, acc)")], "multiply lane by lane"),
    (ROW, [("tl.load(w_ptr + n * stride_wn + offs_k, mask=mask_k, other=0.0)",
            "tl.load(tl.make_block_ptr(w_ptr + n * stride_wn, (K,), (1,), (0,), (BLOCK_K,), (0,)), boundary_check=(0,))")],
     '`padding_option="zero"` is missing'),
    (SCALED, [("    if bias_ptr is not None:\n        y += ", "    y += ")], "only under `if bias_ptr is not None:`"),
]


@pytest.mark.skipif(not INTERPRETED, reason="the sentences answer what the interpreter says")
@pytest.mark.parametrize(("exercise", "edits", "sentence"), SLIPS, ids=[sentence for *_, sentence in SLIPS])
def test_a_slip_gets_its_sentence(exercise, edits, sentence):
    verdict = verdict_on(exercise, *edits)
    assert not verdict.passed
    assert sentence in verdict.message


@pytest.mark.skipif(not INTERPRETED, reason="accesses are counted in the interpreter")
def test_one_element_at_a_time_is_right_but_not_enough():
    loop = ("    y = 0.0\n    for k in range(K):\n        y += (tl.load(x_ptr + k).to(tl.float32)\n"
            "              * tl.load(w_ptr + n * stride_wn + k).to(tl.float32))\n")
    verdict = verdict_on(ROW, (LOADS, loop))
    assert not verdict.passed and "work on whole blocks" in verdict.message


SMALL = [("range(0, K, BLOCK_K)", "range(0, K, 16)"), ("tl.arange(0, BLOCK_K)", "tl.arange(0, 16)"),
         ("(BLOCK_N, BLOCK_K), dtype", "(BLOCK_N, 16), dtype")]
TOO_FAR = [("range(0, K, BLOCK_K)", "range(0, K, 4)"), ("offs_k = k + tl", "offs_k = k // 4 * BLOCK_K + tl")]


@pytest.mark.skipif(not INTERPRETED, reason="accesses are counted in the interpreter")
@pytest.mark.parametrize(("edits", "sentence"), [
    (SMALL, "work on whole blocks instead of single elements or smaller blocks."),
    (TOO_FAR, "are fully masked: does a loop go on past the end?")])
def test_too_many_loads_are_no_other_mistake(edits, sentence):
    verdict = verdict_on(BLOCK, *edits)
    assert not verdict.passed and verdict.message.endswith(sentence), verdict.message


@pytest.mark.skipif(not INTERPRETED, reason="what was read is known in the interpreter")
def test_an_unknown_mistake_is_told_what_was_never_read():
    verdict = verdict_on(ROW, ("offs_k < K", "(offs_k < K) & (offs_k != 2)"))
    assert verdict.mistake is None
    assert "elements of `x` are never read, all in x[2]" in verdict.message


@pytest.mark.skipif(not INTERPRETED, reason="stores are counted in the interpreter")
@pytest.mark.parametrize(("exercise", "edit"), [
    (ROW, ("tl.store(y_ptr + n, y)", "return y")),
    (TILE, ("    tl.store(y_ptrs, acc.to(tl.float16), mask=mask_m[:, None] & mask_n[None, :])\n", ""))])
def test_a_kernel_that_stores_nothing_is_told_so_and_no_more(exercise, edit):
    verdict = verdict_on(exercise, edit)
    assert verdict.message.endswith("nothing is ever written to `y`: no `tl.store` ran, and what a kernel returns is lost.")


@pytest.mark.parametrize(("exercise", "edit", "sentence"), [
    (TILE, ("tl.dot(x, w.T, acc)", "tl.dot(x.to(tl.float32), w.to(tl.float32).T, acc)"),
     "multiply tf32 numbers, the answer's f16"),
    (TILE, ("tl.dot(x, w.T, acc)", 'tl.dot(x.to(tl.float32), w.to(tl.float32).T, acc, input_precision="ieee")'),
     "does not use the tensor cores"),
    (TILE, ("[:, None] * stride_ym", "[:, None] * N"), "never uses `stride_ym`")])
def test_what_is_right_here_but_not_as_asked_is_told_so(exercise, edit, sentence):
    verdict = verdict_on(exercise, edit)
    assert not verdict.passed and sentence in verdict.message, verdict.message


def test_a_todo_left_beside_the_code_is_pointed_at():
    both = "    tl.store(y_ptr + n, y)\n    tl.static_assert(False, \"TODO\")"
    verdict = verdict_on(ROW, ("    tl.store(y_ptr + n, y)", both))
    assert verdict.status == NOT_ATTEMPTED and "if it is written, delete the line" in verdict.message


def test_a_plain_function_without_return_is_asked_for_it():
    exercise = EXERCISES["gemv_bytes"]
    verdict = verdict_on(exercise, ("return 2 *", "total = 2 *"))
    assert "Is a `return` missing?" in verdict.message


def test_a_number_left_in_a_tensor_is_asked_for():
    verdict = verdict_on(EXERCISES["sqnr_db"], ("10 * math.log10(signal / noise)", "10 * (signal / noise).log10()"))
    assert "On the case" in verdict.message and "`.item()` makes a number of it" in verdict.message


def test_quantizing_in_other_styles_passes():
    by_hand = [("(quotient + 12582912.0) - 12582912.0",
                "tl.floor(quotient + 0.5) - tl.where((quotient - tl.floor(quotient) == 0.5)\n"
                "        & (tl.floor(quotient) == 2 * tl.floor(quotient / 2)), 1.0, 0.0)")]
    by_the_inverse = [("tl.div_rn(x, scale)", "x * (1 / scale)"), ("tl.div_rn(amax, 127.0)", "amax / 127")]
    for edits in (by_hand, by_the_inverse):
        verdict = verdict_on(QUANTIZE, *edits)
        assert verdict.passed, verdict.message


def test_correct_kernels_in_other_styles_pass():
    block_of_sums = [("acc = tl.zeros((BLOCK_N, BLOCK_K)", "acc = tl.zeros((BLOCK_N,)"),
                     ("acc += w.to(tl.float32) * x.to(tl.float32)[None, :]",
                      "acc += tl.sum(w.to(tl.float32) * x.to(tl.float32)[None, :], axis=1)"),
                     ("y = tl.sum(acc, axis=1)", "y = acc")]
    with_where = [("mask=mask_k, other=0.0)  # (BLOCK_K,)", "mask=mask_k)\n        x = tl.where(mask_k, x, 0.0)"),
                  ("mask=mask, other=0.0", "mask=mask"),
                  ("acc += w.to(tl.float32)", "acc += tl.where(mask, w, 0.0).to(tl.float32)")]
    advancing = [("row_ptrs + offs_k[None, :]", "row_ptrs + tl.arange(0, BLOCK_K)[None, :]"),
                 ("        acc += w", "        row_ptrs += BLOCK_K\n        acc += w")]
    for edits in (block_of_sums, with_where, advancing):
        verdict = verdict_on(BLOCK, *edits)
        assert verdict.passed, verdict.message


HEAD = "@triton.jit\ndef f(x_ptr, K, stride_x, BLOCK: tl.constexpr):\n    "


@pytest.mark.parametrize(("line", "sentence"), [
    ("m = tl.max(a, b[0])", "takes one block and an axis"), ("m = tl.max(a, 0)", None), ("m = tl.max(a, axis)", None),
    ("mask = a & b < K", "`&` binds more tightly"), ("mask = K > a | b", "`&` binds more tightly"),
    ("mask = a & 15 < K", None), ("mask = 15 & a == K", None), ("mask = (a < K) & b", None),
    ("mask = 0 < offs < K", "A chain such as"), ("mask = 0 < offs", None),
    ("if offs < K: pass", "An `if` decides for a whole program"), ("if K < 3: pass", None),
    ("for k in range(0, K): x = k + tl.arange(0, BLOCK)", "The loop moves on by one element"),
    ("for k in range(K): x = k + tl.arange(0, BLOCK)", "The loop moves on by one element"),
    ("for k in range(0, K, BLOCK): x = k + tl.arange(0, BLOCK)", None),
    ("for k in range(0, 4): x = k + tl.arange(0, 4)", None),
    ("for k in range(0, K): x = k * BLOCK + tl.arange(0, BLOCK)", None),
    ("for k in range(0, K): x = k - tl.arange(0, 4)", None),
    ("for k in tl.range(0, K): x = k + tl.arange(0, BLOCK)", None),
    ("x = torch.zeros(3)", "torch and NumPy do not work"), ("x = np.exp(3)", "torch and NumPy"), ("x = tl.exp(3)", None),
    ("x = x_ptr[3]", "A pointer cannot be indexed"), ("x = x[:, None]", None),
    ("x = x.half()", "Blocks have no `.float()`"), ("x = x.int()", "Blocks have no"), ("x = float(K)", None),
    ("x = round(x)", "There is no rounding"), ("x = tl.rint(x)", "There is no rounding"), ("x = tl.floor(x)", None),
    ("x = x @ w", "Blocks have no `@`"), ("x = x * w", None),
    ("m = tl.min(a, b + 1)", "takes one block and an axis"), ("m = tl.max(a, g(b))", "takes one block and an axis"),
    ("m = tl.sum(a, b[0])", None), ("if mask: pass", "An `if` decides for a whole program"), ("x = x.float()",
    "Blocks have no"),
    ("x = numpy.exp(3)", "torch and NumPy"), ("x = rint(x)", "There is no rounding"), ("x = x.round()",
    "There is no rounding"),
    ("x = sum(x)", "Python's sum, max and min"), ("x = abs(x)", None), ("mask = a < b == c", "A chain such as"),
    ("x = max(x)", "Python's sum, max and min"), ("x = min(x, w)", "Python's sum"), ("x = tl.max(x)", None)])
def test_a_slip_in_the_source_is_told_from_what_is_right(line, sentence):
    found = in_source(HEAD + line + "\n")
    assert (found is None) if sentence is None else sentence in found
    plain = HEAD.replace("x_ptr", "x").replace("@triton.jit\n", "") + line + "\n"
    assert in_source(plain) is None  # what is no kernel may do all of it


@pytest.mark.parametrize(("message", "sentence"), [
    ("both must have equal ranks", "`tl.dot` takes blocks with two axes"), ("cannot broadcast", "Two blocks whose shapes"),
    ("Incompatible dimensions", "Two blocks whose shapes"), ("could not be broadcast together", "Two blocks whose shapes"),
    ("Value argument cannot be block type", "A whole block is stored"),
    ("Mask argument cannot be block type", "The mask is a"),
    ("axis 1 out of bounds", "one axis only"),
    ("cannot add pointers together", "A pointer is an address"), ("Unsupported ptr type fp32", "The address comes first"),
    ("arange's arguments must be", "`tl.arange` takes numbers known"),
    ("arange's range must be a power of 2", "The length of"),
    ("global variable x", "a name that is not one of its arguments"), ("nonconstexpr", "a name that is not one of"),
    ("'int' object is not iterable", "is a `tl.load` missing?"), ("Loop-carried variable acc", "must keep its type"),
    ("AssertionError: \n  at: acc = tl.dot(a, b, acc)", "tl.int32 for INT8"), ("AssertionError: \n  at: x = y", None),
    ("Expected dtype ['fp32', 'fp64']", "This works in FP32 only"),
    ("unsupported AST node type: Break", "no `break`"), ("unsupported AST node type: JoinedStr", "no f-strings"),
    ("unsupported AST node type: Odd", "only a part of Python"), ("arange() missing 1 required", "a start and an end"),
    ("unexpected type fp32\n  at: x // 4", "fractions are divided with `/`"),
    ("unexpected type fp32\n  at: x & 4", "work on whole numbers and masks"), ("unexpected type fp32\n  at: x + 4", None),
    ("only one element tensors can be converted to Python scalars", "take a single number"),
    ("Boolean value of Tensor with more than one value is ambiguous", "An `if` decides for a whole program"),
    ("'range' object has no attribute 'type'", "`range` counts the steps of a loop"),
    ("input and other must have equal reduction dimensions", "`tl.dot` takes blocks (A, K) and (K, B)"),
    ("Logical operators 'and' and 'or' are deprecated for non-scalar tensors", "do not join blocks lane by lane"),
    ("The size of tensor a (5) must match the size of tensor b (3)", "Two tensors whose shapes do not fit"),
    ("mat1 and mat2 shapes cannot be multiplied (9x6 and 4x9)", "Two tensors whose shapes do not fit"),
    ("shape '[2, 96]' is invalid for input of size 144", "A reshape keeps the number of elements"),
    ("w_q must be (N, 96) int8, got (2,) float32", "the order of the arguments"),
    ("'float' object cannot be interpreted as an integer", "want whole numbers"), ("'int' object is not callable", "a `*`"),
    ("ZeroDivisionError: division by zero", "divided by 0"), ("return inside a while loop", "cannot return from inside"),
    ("'NoneType' object has no attribute 'type'", "An address here is None"), ("NoneType", "is a `return` missing?"),
    ("f-string of a tensor", "cannot be put into an f-string"), ("unsupported AST node type: Continue", "no `continue`"),
    *((f"unsupported AST node type: {kind}", "no f-strings, lists of values, `try`") for kind in (
        "Try", "With", "ListComp", "DictComp", "Lambda", "Raise", "Dict", "Set")),
    ("unsupported AST node type: Setting", "A kernel is compiled, and knows only a part of Python."),
    *((f"Cannot return {where} {kind}", "A kernel cannot return from inside a loop") for where in ("inside", "in")
      for kind in ("a loop", "for", "while", "if")),
    ("accumulator shape is incompatible", "The sums do not have the shape of the product"),
    *((f"unexpected type {kind}\n  at: x {sign} 4", "work on whole numbers and masks") for kind in ("fp16", "fp32")
      for sign in ("&", "|", "^", "<<")), ("unexpected type fp16\n  at: x // 4", "fractions are divided with `/`"),
    ("only 1-element tensors can be converted", "take a single number"), ("only one-element tensor can be converted",
    "take a"),
    ("Only length-1 arrays can be converted", None), ("only length-1 arrays can be converted", "take a single number"),
    ("a can be converted to Python scalars", "take a single number"), ("shape mismatch: value", "Two tensors whose shapes"),
    ("The shape of the mask [3] at index 0", "Two tensors whose shapes"), ("shape cannot be multiplied",
    "Two tensors whose"),
    ("expected a tensor, got int", "look at its shape and dtype"), ("x must be (M,), got (2, 3)",
    "look at its shape and dtype"),
    ("Division by zero", "divided by 0"), ("ZeroDivisionError", "divided by 0"), ("make_shape_compatible",
    "Two blocks whose"),
    ("incompatible shapes", "Two blocks whose shapes"), ("Incompatible shapes", "Two blocks whose shapes"),
    ("incompatible dimensions", "Two blocks whose shapes"), ("invalid axis 1", "one axis only"),
    ("arguments must be of type tl.constexpr", "`tl.arange` takes numbers known"), ("non-constexpr",
    "a name that is not one of"),
    ("something else", None), ("", None)])
def test_triton_s_words_are_put_plainly(message, sentence):
    found = in_message(HEAD + "pass\n", message)
    assert (found is None) if sentence is None else sentence in found


def test_what_is_no_kernel_is_told_of_torch():
    found = in_message("def f(x): pass\n", "Boolean value of Tensor with more than one value is ambiguous")
    assert "join tensors with `&`" in found
    assert in_message("def f(x): pass\n", "'range' object has no attribute 'type'") is None


def test_the_first_slip_in_the_source_is_told():
    assert "Blocks have no `@`" in in_source(HEAD + "x = max(x @ w)\n")
    assert "`@triton.jit` above" in in_source((HEAD + "x = x @ w\n").replace("@triton.jit\n", ""))


@pytest.mark.parametrize(("line", "slow"), [
    ("acc = tl.sum(x[:, None, :] * w[None, :, :], axis=2)", True), ("acc += x[:, None] * w[None, :]", False),
    ("x = tl.load(x_ptr)[None]", False), ("x, w, y = tl.load(x_ptr), 1, 2", False)])
def test_what_makes_the_compiler_slow(line, slow):
    assert (slow_to_compile(HEAD + line) is not None) == slow
    assert slow_to_compile(f"def f(x, w):\n    {line}\n") is None, "no kernel"


def test_an_unknown_name_is_compared_with_the_known_ones():
    assert in_message(HEAD + "offs = 3\n", "NameError('off is not defined')") == (
        "The name `off` is not defined: is `offs` meant?")
    for typed, meant in (("x_prt", "x_ptr"), ("strid_x", "stride_x"), ("BLOK", "BLOCK")):
        assert in_message(HEAD + "pass\n", f"name '{typed}' is not defined").endswith(f": is `{meant}` meant?")
    assert in_message(HEAD + "pass\n", "name 'qqq' is not defined") == "The name `qqq` is not defined."
    assert "is assigned in a loop or under an `if`" in in_message(HEAD + "acc = 3\n", "NameError('acc is not defined')")
    loops = HEAD + "for k in range(3):\n        x = k\n    for k in range(3):\n        y = x\n"
    assert "a loop before this one gives it a value" in in_message(loops, "NameError('x is not defined')")
    assert "in a loop or under" in in_message(loops.replace("y = x", "x = x"), "NameError('x is not defined')")


def test_what_is_no_source_gets_no_hint():
    assert in_message("def f(:", "cannot broadcast") is None and in_message(eval("lambda: 0"), "cannot broadcast") is None
    assert in_source("def f(:") is None and in_source(eval("lambda: 0")) is None
    assert "Two blocks" in in_message("x = 3\n", "cannot broadcast") and unused_stride("def f(:", "x") is None
    assert unused_stride("stride_x = 3\n", "x") is None and unused_stride(eval("lambda: 0"), "x") is None


@pytest.mark.parametrize(("arguments", "unused"), [
    ("x_ptr, stride_x", None), ("x_ptr, stride_x, stride_y", "stride_y"), ("stride_a, stride_b, stride_x", "stride_a"),
    ("x_ptr, other", None), ("stride_z, stride_x", None)])
def test_a_stride_that_is_never_used(arguments, unused):
    needed = "stride_a", "stride_b", "stride_x", "stride_y"
    assert unused_stride(f"def f({arguments}):\n    x_ptr + stride_x\n", needed) == unused


@pytest.mark.parametrize("source", [
    "", "# nothing\n", "\0", "def def", "(" * 300, "def f():\n    return " + "~" * 1900 + "1",
    "def f():\n    return " + "0 + " * 2000 + "1", "x" + ".a" * 20_000])
def test_source_that_nobody_reads_has_no_definition(source):
    assert definition(source) is None and in_source(source) is None and in_message(source, "wrong") is None


def test_source_is_read_to_a_depth():
    assert definition("def f():\n    return " + "~" * (DEEPEST - 10) + "1") is not None


@pytest.mark.parametrize(("line", "missing"), [
    ("x = tl.load(p, boundary_check=(0,))", True), ('x = tl.load(p, boundary_check=(0,), padding_option="zero")', False),
    ("x = tl.load(x_ptr, mask=offs < K)", False), ("tl.store(p, x, boundary_check=(0,))", False),
    ("x = load(p, boundary_check=(0,))", False), ("x = tl.load(x_ptr) + tl.load(p, boundary_check=(0, 1))", True),
    ("x = tl.load(p, padding_option=\"zero\", boundary_check=(0,)) + p.load(boundary_check=(1,))", True), ("", False)])
def test_a_load_by_a_block_pointer_says_what_lies_outside(line, missing):
    found = without_padding(HEAD + line + "\n    pass\n")
    assert found is None if not missing else found.startswith('`padding_option="zero"` is missing.')
    assert without_padding("def f(:") is None
