"""Functions as text: placeholders, answers, and sources that stand alone."""

import math

import pytest
import torch
import triton
import triton.language as tl

from checks.judge.exercise import Exercise
from checks.judge.source import answer_source, define, find_placeholder, python_function, rebind, self_contained
from kernels import gemv_fp16
from kernels.hello import programs_needed


@pytest.mark.parametrize(("line", "found"), [
    ('tl.static_assert(False, "TODO: load")', True), ('tl.static_assert(False, "Todo")', False),
    ("tl.static_assert(K > 0)", False), ('tl.static_assert(K > 0, "K must be positive")', False),
    ('tl.device_print("x", "TODO")', False), ('raise NotImplementedError("TODO: 2 lines")', True),
    ("raise NotImplementedError", False), ("raise NotImplementedError()", False),
    ('raise NotImplementedError("later")', False), ('raise ValueError("TODO")', False), ("raise", False),
    ('NotImplementedError("TODO")', False), ('"TODO"', False)])
def test_which_lines_hold_the_place_of_a_student_s_code(line, found):
    statement = find_placeholder(f"    def f(K):\n        if K:\n            {line}\n")
    assert (statement is not None) == found
    assert not found or statement.lineno == 3


def test_an_answer_that_is_not_there():
    with pytest.raises(LookupError, match="there is no function none in kernels/"):
        answer_source("none")


def test_an_answer_comes_with_its_decorators_and_alone():
    source = answer_source("gemv_fp16_kernel")
    assert source.startswith("@triton.jit\ndef gemv_fp16_kernel(") and source.endswith("\n")
    assert source.count("def ") == 1 and "tl.store(" in source.splitlines()[-1]


def test_an_edit_must_find_its_place_once():
    exercise = Exercise("gemv_fp16_kernel", "lesson", 1, (), None, ())
    assert "acc = w" in exercise.edited_source(("acc += w", "acc = w"))
    for text, count in (("no such text", 0), ("tl.load", 2)):
        with pytest.raises(ValueError, match=f"'{text}' stands {count} times in the answer, not once"):
            exercise.edited_source((text, "other"))


def made(source: str, **names):
    return define(source, "f", {"__name__": "lesson"} | names)


@pytest.mark.parametrize(("value", "line"), [
    (3, "value = 3"), (0.5, "value = 0.5"), (True, "value = True"), ("fp16", "value = 'fp16'"),
    (tl.constexpr(4), "value = tl.constexpr(4)"), (tl.constexpr(0.25), "value = tl.constexpr(0.25)"),
    (tl.constexpr("a"), "value = tl.constexpr('a')"), (math, "import math as value"),
    (tl.float16, "value = triton.language.float16"), (triton.cdiv, None)])
def test_a_global_is_written_down(value, line):
    source = self_contained(made("def f():\n    return value\n", value=value))
    assert line is None or line in source.splitlines()
    again = define(source, "f", {})()
    assert again == value or getattr(again, "value", None) == value.value


@pytest.mark.parametrize(("value", "kind"), [(torch.zeros(1), "Tensor"), ([1], "list"), (None, "NoneType"), (1j, "complex")])
def test_a_global_that_cannot_be_written_down_is_named(value, kind):
    with pytest.raises(ValueError, match=f"`f` uses the global `value`, a {kind}: a kernel may only use"):
        self_contained(made("def f():\n    return value\n", value=value))


def test_a_helper_comes_along_once_a_constant_replaces_a_global():
    helper = define("def helper(x):\n    return x + STEP\n", "helper", {"__name__": "lesson", "STEP": 2})
    source = self_contained(made("def f(x):\n    return helper(helper(x)) + STEP\n", helper=helper, STEP=7), STEP=5)
    assert source.count("def helper") == 1
    assert "STEP = tl.constexpr(5)" in source and "= 7" not in source and "= 2" not in source


def test_a_library_function_is_imported_and_autotune_left_out():
    calling = self_contained(made("def f(N):\n    return programs_needed(N, 4)\n", programs_needed=programs_needed))
    assert "from kernels.hello import programs_needed\n" in calling and "def programs_needed" not in calling
    constants = {"WHOLE": 1, "PART": 0.5, "BUILT_IN": tl.constexpr(2)}
    kernel = made("@triton.jit\ndef f(y_ptr, HALF: tl.constexpr):\n    tl.store(y_ptr, WHOLE + PART + BUILT_IN + HALF)\n",
                  triton=triton, tl=tl, **constants)
    tuned = triton.autotune([triton.Config({"HALF": 1})], key=[])(kernel)
    assert python_function(tuned) is kernel.fn and python_function(programs_needed) is programs_needed
    source = self_contained(tuned)
    assert "@triton.jit\ndef f(" in source and "autotune" not in source
    assert {"WHOLE = 1", "PART = 0.5", "BUILT_IN = tl.constexpr(2)"} <= set(source.splitlines())


def test_a_rebound_function_keeps_defaults_and_spares_the_first():
    function = made("def f(x, y=2, *, z=3):\n    return x + y + z + step\n", step=10)
    assert rebind(function, step=20)(1) == 26 and function(1) == 16
    assert rebind(gemv_fp16).__name__ == "gemv_fp16"


def test_a_definition_is_found_again_though_two_share_a_name():
    first, second = (made(f"def f():\n    return {value}\n") for value in (1, 2))
    assert (first(), second()) == (1, 2)
    assert ["return 1" in self_contained(first), "return 2" in self_contained(second)] == [True, True]
    namespace = {}
    assert define("x = 3\n", None, namespace) is None and namespace["x"] == 3
