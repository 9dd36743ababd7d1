"""Each decision about one case, on functions of plain numbers and tensors that need no kernel."""

import itertools
import linecache

import numpy as np
import pytest
import torch

from checks.executor import CompileError, LimitExceeded
from checks.judge import trial
from checks.judge.attempt import Attempt, root_cause
from checks.judge.execution import Raced
from checks.judge.exercise import Case, Exercise, Expected, WrongAnswer, numbers
from checks.judge.launches import Access, Launch, OutOfBounds
from checks.judge.memory import poison_
from checks.judge.source import define
from kernels.runtime import device

NAN, INF = float("nan"), float("inf")
CASE = numbers(n=3)


def returning(*values):
    """A function that returns `values`, tensors on the device."""
    values = tuple(value.to(device()) if isinstance(value, torch.Tensor) and not value.is_meta else value
                   for value in values)
    return lambda n: values if len(values) > 1 else values[0]


def outcome_of(function, *expected: Expected, case=CASE, **more):
    """What comes of `function` on `case` where `expected` is right."""
    names = ("a", "b")[:len(expected)]
    exercise = Exercise("any", "lesson", 1, (case,), lambda **_: expected, (), outputs=names, **more)
    return trial.try_case(exercise, function, case, seed=0)


@pytest.mark.parametrize(("got", "want", "tolerance", "status"), [
    (3, 3, 0.0, "passed"), (3.0, 3, 0.0, "passed"), (2.5, 3, 0.5, "passed"), (3.5, 3, 0.5, "passed"),
    (2.4, 3, 0.5, "failed"), (3.6, 3, 0.5, "failed"), (4, 3, 0.0, "failed"), (NAN, 3, 10.0, "failed"),
    (INF, 3, 10.0, "failed"),
    (True, 1, 0.0, "failed"), (None, 1, 0.0, "failed"), ("1", 1, 0.0, "failed"), (torch.tensor(1), 1, 0.0, "failed")])
def test_a_number_is_right_within_its_tolerance_and_type(got, want, tolerance, status):
    assert outcome_of(returning(got), Expected(want, tolerance)).status == status


@pytest.mark.parametrize(("got", "want", "said"), [
    ([4], [3], "With n=3 it returns 4; expected 3."),
    ([3, 4], [3, 3], "With n=3 b is 4; expected 3."),
    ([4, 4], [3, 3], "With n=3 a is 4; expected 3."),
    ([None], [3], "With n=3 it returns None; expected a number. Is a `return` missing?"),
    ([torch.tensor(3)], [3], "expected a number. `.item()` makes a number of it."),
    ([torch.ones(2)], [3], "expected a number."), (["3"], [3],
    "it returns '3'; expected a number. Text is no number: leave the "
     "quotes away."), ([True], [3], "it returns True; expected a number."), ([[3]], [3],
     "it returns [3]; expected a number."),
    ([None], [3, 3], "it returns None; expected a, b. Is a `return` missing?"),
    ([2.5], [3], "With n=3 it returns 2.5; expected 3."), ([1234567], [7654321.5],
    "it returns 1,234,567; expected 7,654,321.5."),
    ([None, 3], [3, 3], "With n=3 a is None; expected a number. Is a `return` missing?"),
    ([(4,)], [3], "it returns (4,); expected a number. A comma behind a value makes a tuple of it."),
    ([()], [3], "it returns 0 value(s); expected 1: a."), ([()], [3, 3], "it returns 0 value(s); expected 2: a, b."),
    ([3, 3], [3], "it returns 2 value(s); expected 1: a."),
    ([3], [3, 3], "it returns 1 value(s); expected 2: a, b.")])
def test_what_is_said_of_a_wrong_number(got, want, said):
    outcome = outcome_of(returning(*got), *map(Expected, want))
    assert outcome.status == "failed" and outcome.message.endswith(said)
    assert outcome.output == (1 if said.startswith("With n=3 b") else 0)


def test_a_case_with_a_tensor_is_called_by_its_name():
    case = Case("small", lambda g: {"x": torch.ones(2), "n": 3})
    assert outcome_of(lambda x, n: 4, Expected(3), case=case).message == "On the case 'small' it returns 4; expected 3."


def half(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float16)


@pytest.mark.parametrize(("got", "want", "tolerance", "wrong"), [
    (half(1, 2), [1, 2], 0.0, None), (half(1, 2.5), [1, 2], 0.5, None), (half(1, 1.5), [1, 2], 0.5, None),
    (half(1, 2.5), [1, 2], 0.25, [False, True]), (half(1.5, 2.5), [1, 2], torch.tensor([0.5, 0.25]), [False, True]),
    (half(NAN, INF), [NAN, INF], 0.0, None), (half(1, INF), [1, INF], 0.0, None), (half(1, NAN), [1, NAN], 0.0, None),
    (half(2, INF), [1, INF], 0.0, [True, False]), (half(1, NAN), [1, 2], INF, [False, True]),
    (half(INF, -INF), [INF, INF], 0.0, [False, True]), (half(1, 2), [NAN, 2], 0.0, [True, False])])
def test_a_tensor_is_right_element_by_element(got, want, tolerance, wrong):
    outcome = outcome_of(returning(got), Expected(torch.tensor(want, dtype=torch.float64), tolerance, torch.float16))
    assert (outcome.status == "passed") == (wrong is None)
    assert outcome.wrong.tolist() == (wrong or [False, False]) and not outcome.unwritten
    if wrong:
        first = wrong.index(True)
        assert f"{sum(wrong)} of 2 elements are wrong, all in a[{first}]. First: a[{first}] is " in outcome.message


def test_whole_numbers_are_shown_as_such_and_compared_exactly():
    want = Expected(torch.tensor([2**40, 7]), 0, torch.int64)
    assert outcome_of(returning(torch.tensor([2**40, 7])), want).status == "passed"
    assert outcome_of(returning(torch.tensor([2**40 + 1, 7])), want).message.endswith(
        "a[0] is 1,099,511,627,777; expected 1,099,511,627,776.")


@pytest.mark.parametrize(("got", "said"), [
    ([1.0], "`a`: expected a tensor, got list."), (None, "`a`: expected a tensor, got NoneType. Is a `return` missing?"),
    ((torch.ones(2),), "`a`: expected a tensor, got tuple. A comma behind a value makes a tuple of it."),
    (torch.ones(2, 1).half(), "`a` has shape (2, 1); expected (2,)."),
    (torch.ones(2), "`a` is float32; expected float16."),
    (torch.ones(2, dtype=torch.float16, device="meta"), "`a` is on meta; expected ")])
def test_what_is_no_such_tensor(got, said):
    outcome = outcome_of(returning(got), Expected(torch.ones(2).double(), 0.0, torch.float16))
    assert said in outcome.message and outcome.status == "failed" and outcome.wrong is None
    assert outcome.message.endswith(said) or said.endswith("expected ")


def test_the_second_output_counts_where_the_first_is_right():
    want = [Expected(torch.ones(2).double(), 0.0, torch.float16)] * 2
    outcome = outcome_of(returning(half(1, 1), half(1, 2)), *want)
    assert outcome.output == 1 and "First: b[1] is 2; expected 1." in outcome.message


def test_a_wrong_shape_counts_before_wrong_numbers():
    want = [Expected(torch.ones(2).double(), 0.0, torch.float16)] * 2
    outcome = outcome_of(returning(half(1, 2), half(1, 2, 3)), *want)
    assert outcome.output == 1 and "`b` has shape (3,); expected (2,)." in outcome.message


def test_torch_alone_may_compute_the_pattern_of_an_empty_tensor():
    codes = torch.full((2,), -128, dtype=torch.int8)
    assert outcome_of(returning(codes), Expected(codes.long(), 0, torch.int8)).status == "passed"
    assert outcome_of(returning(poison_(torch.ones(2).half())), Expected(torch.ones(2).double(), 0.0, torch.float16)
                      ).message.startswith("On the case 'n=3' 2 of 2 elements are wrong. First: a[0] is nan")


@pytest.mark.parametrize(("error", "status", "said"), [
    (OutOfBounds("load", "x_ptr", (0, 0, 0), (1,), 5, (4,), 1, True), "failed", "out-of-bounds load on `x_ptr`"),
    (WrongAnswer("it is no timer."), "failed", "On the case 'n=3' it is no timer."),
    (TimeoutError(), "timeout", "it did not finish within 20 s"),
    (MemoryError(), "out of memory", "it ran out of memory."), (SystemExit(3), "crashed", "it raised SystemExit: 3\n  at:"),
    (torch.OutOfMemoryError(), "out of memory", "it ran out of memory."),
    (NotImplementedError("inline_asm not supported in interpreter mode"), "crashed",
     "it uses inline_asm, which only a GPU runs"),
    (Raced("programs 1 and 2 both store, /tmp/none/1.py:3"), "failed", "On the case 'n=3' programs 1 and 2 both store"),
    (CompileError("no such block"), "crashed", "On the case 'n=3' Triton refuses the kernel: no such block"),
    (LimitExceeded("too many"), "timeout", "it did not finish within 20 s"),
    (NotImplementedError("not yet"), "crashed", "it raised NotImplementedError: not yet\n  at: raise error"),
    (ValueError(" no "), "crashed", "it raised ValueError: no\n  at: raise error"),
    (ValueError("9" * 500), "crashed", "it raised ValueError: " + "9" * 400 + "\n")])
def test_an_exception_says_what_came_of_the_case(error, status, said):
    def fails(n):
        raise error
    outcome = outcome_of(fails, Expected(3))
    assert outcome.status == status and said in outcome.message and outcome.error is error
    without = status == "timeout" or isinstance(error, WrongAnswer | Raced | CompileError)
    assert ("at: raise error" in outcome.message) != without


def test_a_student_s_folder_may_be_called_as_ours_is(tmp_path):
    (file := tmp_path / "my kernels" / "checks" / "mine.py").parent.mkdir(parents=True)
    file.write_text("def fails(n):\n    return 1 // 0\n")
    exec(compile(file.read_text(), str(file), "exec"), namespace := {})
    assert "at: return 1 // 0" in outcome_of(namespace["fails"], Expected(3)).message


def test_an_input_that_was_changed_or_left_is_noticed():
    case = Case("x", lambda g: {"x": torch.tensor([NAN, 1.0]), "y": torch.ones(1)})

    def changes(x, y):
        y += 1
        return 3
    assert outcome_of(lambda x, y: 3, Expected(3), case=case).status == "passed"  # NaN is what it was
    assert "changes its input `y`" in outcome_of(changes, Expected(3), case=case).message
    assert "writes outside `x`" in outcome_of(lambda x, y: x.as_strided((1,), (1,), x.storage_offset() + 2).fill_(1).shape[0]
                                              + 2, Expected(3), case=case).message


def test_an_adapter_makes_the_outputs():
    outcome = outcome_of(lambda: 4, Expected(5), adapter=lambda function, n: function() + 1)
    assert outcome.status == "passed"


@pytest.mark.parametrize(("body", "where"), [
    ("a, b, c = torch.ones(2, 3), torch.ones(4), n\n    return a + b + c", "a (2, 3), b (4,)"),
    ("t = m = ret = torch.ones(5)\n    w, v = torch.ones(2, 3), torch.ones(4)\n    return torch.matmul(w, v)",
    "w (2, 3), v (4,)"),
    ("b, a = torch.ones(2, 3), torch.ones(4)\n    def inner(a):\n        return a + torch.ones(7)\n    return b + inner(a)",
     "a (4,)"),
    ("t = torch.ones(1)\n    a = b = c = d = e = f = g = t\n    return a + b + c + d + e + f + g + torch.ones(3).view(2)",
     "a (1,), b (1,), c (1,), d (1,), e (1,), f (1,)"),
    ("a = torch.ones(3)\n    return torch.nn.functional.softmax(a, dim=5)", "a (3,)"),
    ("a = torch.ones(3)\n    return 1 // 0", None), ("a = torch.ones(3)\n    raise KeyError(a)", "a (3,)")])
def test_an_error_in_a_line_tells_the_shapes_of_its_tensors(body, where):
    source = f"def f(n):\n    {body}\n"
    outcome = outcome_of(define(source, "f", {"torch": torch}), Expected(1))
    assert outcome.status == trial.CRASHED
    lines = outcome.message.split("\n")[-1 - bool(where):]
    said = [line for line in body.split("\n") if f"  at: {line.strip()}" == lines[0]]
    assert said and lines[1:] == [f"  where: {where}"] * bool(where), outcome.message


def test_a_tuple_of_one_is_no_number_and_no_tensor():
    assert "it returns (3,); expected a number" in outcome_of(lambda n: (3,), Expected(3)).message
    got = outcome_of(lambda n: (torch.ones(2),), Expected(torch.ones(2), dtype=torch.float32)).message
    assert "expected a tensor, got tuple. A comma behind a value makes a tuple of it." in got


def test_where_two_programs_race_the_line_is_shown():
    source = "x = 3\n"
    define(source, None, namespace := {})
    place = next(name for name, kept in linecache.cache.items() if kept[2:3] == (["x = 3\n"],))  # not all are read yet
    assert trial._with_line(f"they race, {place}:1") == "they race\n  at: x = 3" and namespace["x"] == 3
    assert trial._with_line("they race, /tmp/none/1.py:3") == "they race", "a notebook's cell whose text is not known"
    assert trial._with_line("they race") == "they race"
    define("if x:\n    x = 4\n", None, namespace)
    place = next(name for name, kept in linecache.cache.items() if kept[2:3] == (["if x:\n", "    x = 4\n"],))
    assert trial._with_line(f"at {place}:2 both store") == "at both store\n  at: x = 4"
    linecache.cache["/home/me/one.py"] = 1, None, ["first\n", "second\n"], "/home/me/one.py"
    assert trial._with_line("they race, /home/me/one.py:2") == "they race\n  at: second"
    del linecache.cache["/home/me/one.py"]


@pytest.mark.parametrize("error", [
    OutOfBounds("load", "x_ptr", (0, 0, 0), (1,), 5, (4,), 1, True), MemoryError(), ValueError("no"),
    NotImplementedError("inline_asm not supported in interpreter mode")])
def test_an_error_of_no_line_tells_none(error):
    outcome = trial.Outcome(CASE, {}, (Expected(3),))
    trial.assess(KERNEL, outcome, Attempt({}, error=error))
    assert outcome.error is error and "  at:" not in outcome.message and outcome.outputs == ()


KERNEL = Exercise("any_kernel", "lesson", 1, (CASE,), lambda **_: (), (), wrapper="any", outputs=("a", "b"))


def test_what_an_attempt_was_is_kept_with_its_outcome():
    tried = Attempt({"n": 3}, (3,), [launched()], interpreted="it is odd", made=(None,), operators=["aten::add.Tensor"])
    outcome = trial.Outcome(CASE, {"n": 3}, (Expected(3),))
    trial.assess(KERNEL, outcome, tried)
    assert (outcome.status, outcome.given, outcome.outputs, outcome.launches) == ("passed", {"n": 3}, (3,), tried.launches)
    assert (outcome.interpreted, outcome.made, outcome.operators) == ("it is odd", (None,), ["aten::add.Tensor"])
    assert outcome.device == tried.device


@pytest.mark.parametrize(("wrapper", "given", "way"), [
    (None, False, "attempt"), ("any", False, "attempt_kernel"), (None, True, "given"), ("any", True, "given")])
def test_how_a_function_is_tried(monkeypatch, wrapper, given, way):
    """A kernel's from what the front end makes of it, another in Python; as is asked for, where it is."""
    def way_of(name):
        return lambda call, inputs, timeout_s: Attempt(inputs, (call(**inputs),), interpreted=f"{name} {timeout_s}")

    for name in ("attempt", "attempt_kernel"):
        monkeypatch.setattr(trial, name, way_of(name))
    exercise = Exercise("any", "lesson", 1, (CASE,), lambda n: (Expected(n),), (), wrapper=wrapper)
    outcome = trial.try_case(exercise, returning(3), CASE, 0, way_of("given") if given else None)
    assert (outcome.interpreted, outcome.outputs, outcome.status) == (f"{way} 20", (3,), "passed")


def launched(kind="store", tensor=None, offsets=(), traced=True) -> Launch:
    """A launch that loaded or stored these elements of its argument."""
    lanes = np.array(offsets, dtype=np.int64)
    access = Access(kind, "x_ptr", (0, 0, 0), lanes, np.ones(len(lanes), dtype=bool), 4)
    return Launch(None, {"x_ptr": tensor, "n": 3}, [], {}, [access] if len(lanes) else [], traced=traced)


def test_what_was_loaded_is_known_where_there_is_a_trace():
    x = torch.arange(4.0)

    def loaded(*launches, name="x"):
        lanes = trial.Outcome(CASE, {}, (), {"x": x, "n": 3}, launches=list(launches)).loaded(name)
        return lanes if lanes is None else lanes.tolist()

    some, more, untraced = launched("load", x, [0, 2]), launched("load", x, [3]), launched("load", x, [1], traced=False)
    assert loaded(some) == [True, False, True, False] and loaded(some, more) == [True, False, True, True]
    assert loaded(launched("store", x, [1])) == [False] * 4
    assert trial.Outcome(CASE, {}, (), {"x": x}, launches=[some]).loaded("x").dtype is torch.bool
    assert loaded(some, name="n") is loaded() is loaded(untraced) is loaded(some, untraced) is None
    assert loaded(launched("load", x)) is None, "it touched nothing"
    assert [trial.Outcome(CASE, {}, (), launches=launches).traced for launches in (
        [], [some], [untraced], [some, untraced], [untraced, some])] == [False, True, False, False, False]


def some_poison(*values) -> torch.Tensor:
    """Of these numbers, never written where None."""
    tensor = poison_(torch.ones(len(values), device=device()))
    for at, value in enumerate(values):
        if value is not None:
            tensor[at] = value
    return tensor


ALL_OF, NOTHING = "{} of 3 elements of `b` are never written", "nothing is ever written to `b`: no `tl.store` ran"


@pytest.mark.parametrize(("values", "launch", "said", "unwritten"), [
    ((1, 1, 1), None, None, None), ((1, None, 1), None, ALL_OF.format(1) + ", all in b[1].", [False, True, False]),
    ((None, None, 1), None, ALL_OF.format(2) + ", all in b[0:2].", [True, True, False]),
    ((None, None, None), None, ALL_OF.format(3) + ".", [True] * 3),
    ((None, None, None), ("load", [0]), NOTHING, [True] * 3), ((None, 1, 1), ("load", [0]), NOTHING, [True, False, False]),
    ((None, 1, 1), ("store", [1, 2]), ALL_OF.format(1) + ", all in b[0].", [True, False, False]),
    ((None, None, 1), ("store", [0, 2]), ALL_OF.format(1) + ", all in b[1].", [False, True, False]),
    ((1, None, 1), ("store", [1]), "1 of 3 elements are wrong, all in b[1]. First: b[1] is nan; expected 1.", None),
    ((1, 1, 1), ("load", [0]), None, None)])
@pytest.mark.parametrize("made", [False, True])
def test_what_no_program_has_written(values, launch, said, unwritten, made):
    """The trace tells a number that only looks as if it had never been written."""
    got, first = some_poison(*values), torch.ones(3, device=device())
    launches = [launched("store", first, [0, 1, 2], traced=False), launched("load", first, [0], traced=False)]
    if launch is not None:
        launches = [launched("load", first, [0]), launched(launch[0], got, launch[1])]
    by_kernels = torch.tensor([launch is not None and launch[0] == "store" and at in launch[1] for at in range(3)])
    outcome = trial.Outcome(CASE, {}, (Expected(torch.ones(3).double(), 0.0, torch.float32),) * 2)
    trial.assess(KERNEL, outcome, Attempt({}, (first, got), launches,
                                          made=(torch.ones(3, dtype=torch.bool), by_kernels) if made else None))
    assert outcome.message == (f"On the case 'n=3' {said}" if said and said[-1] == "." else outcome.message)
    assert (said or "") in outcome.message and outcome.status == ("failed" if said else "passed")
    assert outcome.unwritten == (unwritten is not None) and (not unwritten or outcome.wrong.tolist() == unwritten)


@pytest.mark.parametrize(("at", "said"), [
    ([(0, 1, 2)], "[0, 1, 2]"), ([(1, 0, 0), (1, 2, 3)], "[1, :, :]"), ([(0, 1, 1), (1, 1, 2)], "[:, 1, 1:3]"),
    ([(0, 0, 3), (1, 2, 3)], "[:, :, 3]"), ([(0, 0, 0), (0, 1, 3), (1, 0, 0)], "[:, 0:2, :]"),
    ([(0, 0, 0), (1, 2, 3)], None), ([(0, 1, 0), (1, 2, 3)], "[:, 1:3, :]"), ([(0, 0, 0), (1, 2, 2)], "[:, :, 0:3]")])
def test_in_what_part_of_a_tensor_wrong_elements_lie(at, said):
    wrong = torch.zeros(2, 3, 4, dtype=torch.bool)
    for place in at:
        wrong[place] = True
    assert trial.where(wrong, "q") == (f", all in q{said}" if said else "")


def test_an_error_s_cause_is_the_first_of_all():
    errors = [ValueError(), KeyError(), OSError(), RuntimeError()]
    for cause, error in itertools.pairwise(errors):
        error.__cause__ = cause
    assert all(root_cause(error) is errors[0] for error in errors)
