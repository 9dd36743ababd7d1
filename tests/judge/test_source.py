"""Functions as text: placeholders, answers, and sources that stand alone."""

import pytest
import triton
from triton.runtime.interpreter import InterpretedFunction

from checks.judge.exercise import Exercise
from checks.judge.source import answer_source, define, find_placeholder, python_function, rebind, source_of
from kernels import gemv_fp16


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


def test_a_rebound_function_keeps_defaults_and_spares_the_first():
    function = made("def f(x, y=2, *, z=3):\n    return x + y + z + step\n", step=10)
    assert rebind(function, step=20)(1) == 26 and function(1) == 16
    assert rebind(gemv_fp16).__name__ == "gemv_fp16"


def test_a_definition_is_found_again_though_two_share_a_name():
    first, second = (made(f"def f():\n    return {value}\n") for value in (1, 2))
    assert (first(), second()) == (1, 2)
    assert ["return 1" in source_of(first), "return 2" in source_of(second)] == [True, True]
    namespace = {}
    assert define("x = 3\n", None, namespace) is None and namespace["x"] == 3


def test_the_function_under_a_kernel_s_decorators():
    plain = made("def f(N, BLOCK):\n    pass\n")
    jitted = triton.JITFunction(plain)
    tuned = triton.autotune([triton.Config({"BLOCK": 8})], key=["N"])(jitted)
    for kernel in (plain, jitted, InterpretedFunction(plain), tuned,
                   triton.heuristics({"BLOCK": lambda given: 8})(jitted), triton.heuristics({"N": lambda given: 8})(tuned),
                   triton.autotune([triton.Config({})], key=["N"])(InterpretedFunction(plain))):
        assert python_function(kernel) is plain and source_of(kernel) == "def f(N, BLOCK):\n    pass\n"


def test_the_source_of_a_reloaded_function_is_the_new_one():
    function, again = (define(f"def f():\n    return {n}\n", "f", {}) for n in (1, 2))
    assert "return 1" in source_of(function)
    function.__code__ = again.__code__  # as IPython's autoreload does
    assert "return 2" in source_of(function)
