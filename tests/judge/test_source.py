"""Functions as text: placeholders, answers, and sources that stand alone."""

from dataclasses import replace

import pytest
import triton
from triton.runtime.interpreter import InterpretedFunction

from checks.exercises import EXERCISES
from checks.judge.exercise import Exercise
from checks.judge.source import (
    answer_module,
    answer_source,
    define,
    find_mark,
    find_placeholder,
    python_function,
    rebind,
    source_of,
)
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


GEMV = EXERCISES["gemv_fp16_kernel"]


def test_whose_placeholder_it_is():
    """A student may check the kernel, its wrapper, or a plain function."""
    kernel, plain = GEMV.answer_function(), EXERCISES["gemv_bytes"]
    assert GEMV.written_by_student(kernel) is kernel and GEMV.written_by_student(gemv_fp16) is kernel
    mine = rebind(gemv_fp16, gemv_fp16_kernel=3)
    assert GEMV.written_by_student(mine) == 3 and plain.written_by_student(mine) is mine
    without = define("def gemv_fp16(x, w):\n    pass\n", "gemv_fp16", {})
    with pytest.raises(NameError,
        match="^`gemv_fp16` is here, but no kernel `gemv_fp16_kernel`: run the cell of the exercise"):
        GEMV.written_by_student(without)


def test_what_is_called_to_try_a_function():
    kernel, mine = GEMV.answer_function(), rebind(gemv_fp16)
    assert GEMV.callable_for(mine) is mine, "a wrapper of the student's own"
    called = GEMV.callable_for(kernel)
    assert called.__code__ is gemv_fp16.__code__ and called.__globals__["gemv_fp16_kernel"] is kernel
    tuned = triton.autotune([triton.Config({})], key=["N"])(kernel)
    assert GEMV.callable_for(tuned).__globals__["gemv_fp16_kernel"] is tuned
    assert gemv_fp16.__globals__["gemv_fp16_kernel"] is kernel
    plain = EXERCISES["gemv_bytes"]
    assert plain.callable_for(made) is made
    assert replace(plain, adapter=lambda function, n: (function, n)).callable_for(made)(n=3) == (made, 3)


def test_a_mutant_is_made_once_an_edit_each_time():
    mutant = GEMV.mutants[0]
    assert GEMV.mutated(mutant) is GEMV.mutated(mutant) and GEMV.mutated(GEMV.mutants[1]) is not GEMV.mutated(mutant)
    assert GEMV.edited(*mutant.edits.items()) is not GEMV.edited(*mutant.edits.items())


@pytest.mark.parametrize(("cell", "mark"), [
    ("# exercise: f\nx", ("exercise", "f")), ("x\n# given: f_2", ("given", "f_2")), ("#exercise:f", ("exercise", "f")),
    ("# exercise: kernels/gemv.py::f", ("exercise", "f")), ("#\texercise:\tf  \n", ("exercise", "f")), ("# exercise: f g",
    None),
    (" # exercise: f", None), ("# exercises: f", None), ("# exercise:", None), ("exercise: f", None)])
def test_the_mark_of_a_cell(cell, mark):
    assert find_mark(cell) == mark


def test_where_answers_are_defined(tmp_path):
    (folder := tmp_path / "kernels" / "deep").mkdir(parents=True)
    (folder / "a.py").write_text("@one\n@two(3)\ndef f(x):\n    return x\n\n\nclass C:\n    def g(self): pass\nx = 3\n")
    (folder.parent / "b.py").write_text("def twice(): pass\n")
    (folder / "b.py").write_text("def twice(): pass\n")
    place = folder.parent
    assert answer_source("f", place) == "@one\n@two(3)\ndef f(x):\n    return x\n"
    assert answer_source("C", place) == "class C:\n    def g(self): pass\n" and answer_module("C", place) == "kernels.deep.a"
    assert answer_module("f", place) == "kernels.deep.a"
    with pytest.raises(LookupError,
        match=r"twice is defined more than once in kernels/: in kernels/b.py, kernels/deep/b.py"):
        answer_source("twice", place)
    for name in ("g", "x"):
        with pytest.raises(LookupError, match=f"there is no function {name} in kernels/"):
            answer_module(name, place)


def test_our_wrapper_is_known_again_with_a_kernel_alone(monkeypatch):
    """Where a kernel of ours that calls the student's function is made anew, nothing that was recorded is its own."""
    placed = []
    monkeypatch.setattr("checks.judge.exercise.placed", lambda *given: placed.append(given))
    kernel = GEMV.answer_function()
    called = GEMV.callable_for(kernel)
    assert placed == [(called, getattr(GEMV.module, GEMV.wrapper), kernel)]
    helper = EXERCISES["grouped_tile"]
    assert helper.callable_for(helper.answer_function()) is not helper.answer_function() and len(placed) == 1


def test_a_function_with_other_globals_is_else_as_it_was():
    names = {"step": 3, "offset": 10}
    function = define("def f(x: int, y=2, *, z=5) -> int:\n    return x * step + offset + y + z\n", "f", names)
    other = rebind(function, step=20, more=1)
    assert (other(1), other(1, 3, z=0), function(1)) == (20 + 10 + 2 + 5, 20 + 10 + 3, 3 + 10 + 2 + 5)
    assert (other.__name__, other.__annotations__) == ("f", {"x": int, "return": int})
    assert "more" not in names and names["step"] == 3


@pytest.mark.parametrize("said", ["message", "f'TODO {x}'", "errors.TODO", "", "3", "'to do: TODO'"])
def test_an_error_of_ones_own_is_no_placeholder(said):
    assert find_placeholder(f"def f(x):\n    raise NotImplementedError({said})\n") is None
    assert find_placeholder(f"def k(x_ptr):\n    tl.static_assert(False, {said})\n") is None
