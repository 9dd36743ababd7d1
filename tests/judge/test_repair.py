"""The one thing in a student's source with whose change it is right."""

import dataclasses
import itertools
import linecache
import warnings
from types import SimpleNamespace

import pytest

from checks.exercises import EXERCISES
from checks.judge import repair
from checks.judge.attempt import Attempt
from checks.judge.exercise import numbers
from checks.judge.launches import Access, Launch
from checks.judge.repair import _line_of_error, failed_first, repaired
from checks.judge.source import answer_source, define
from checks.judge.trial import CRASHED, FAILED, PASSED, TIMEOUT, Outcome, try_case

OUTCOME = Outcome(EXERCISES["gemv_bytes"].cases[0], {}, ())


def said(name: str, *edit: str, cases: slice = slice(None)) -> str | None:
    exercise = EXERCISES[name]
    function = define(answer_source(name).replace(*edit), name, dict(vars(exercise.module)))
    return repaired(exercise, function, [try_case(exercise, function, case, 1) for case in exercise.cases[cases]])


@pytest.mark.parametrize(("name", "old", "new", "sentence"), [
    ("gemv_bytes", "2 * (N * K", "16 * (N * K", "16 stands where 2 belongs, in `return 16 * (N * K + K + N)`."),
    ("roofline_us", "tflops * 1e6", "tflops * 1e9", "1e+09 stands where 1e+06 belongs"),
    ("fake_quantize_int8", "torch.where(scale > 0, blocks / scale, 0)", "(blocks / scale.clamp(min=3e-9))",
     "3e-09 is not small beside the numbers that come here: ask whether they are 0, in"),
    ("quantize_int8_perrow_bytes", "2 * M * K + M * K + 4 * M", "2 * M * K + M * K + M * K * 4",
     "`* K` should not be there, in `M * K` of `M * K * 4`."),
    ("products_int8_us", "matmul_flops(M, N, K)", "matmul_flops(1, N, K)",
     "`1` stands where `M` belongs, in `matmul_flops(1"),
    ("eager_us", "+ duration", "+ launch_us", "`launch_us` stands where `duration` belongs"),
    ("row_sum_kernel", "tl.sum(x", "tl.min(x", "`min` stands where `sum` belongs, in `tl.min(x, axis=0)`.")])
def test_the_mistake_is_named(name, old, new, sentence):
    assert said(name, old, new).startswith(sentence)


def test_two_changes_that_mend_it_are_both_named(monkeypatch):
    right = answer_source("gemv_bytes")
    monkeypatch.setattr("checks.judge.repair.fixes", lambda *_: [
        (right, "1 should not be there, in `a`.", 3), (right, "1 should not be there, in `a`.", 3),
        (right, "A `b` is missing.", 3),
        (right, "2 should not be there, in `c`.", 3), (right, "4 should not be there, in `d`.", 4)])
    assert said("gemv_bytes", "2 *", "3 *") == "1 should not be there, in `a`. Or: 2 should not be there, in `c`."


def test_a_less_likely_change_is_not_named_beside_another(monkeypatch):
    right, wrong = answer_source("gemv_bytes"), answer_source("gemv_bytes").replace("2 *", "5 *")
    monkeypatch.setattr("checks.judge.repair.fixes", lambda *_: [
        (wrong, "0 should not be there, in `z`.", 1), (right, "1 should not be there, in `a`.", 3),
        (right, "2 should not be there, in `c`.", 4), (right, "4 should not be there, in `d`.", 3)])
    assert said("gemv_bytes", "2 *", "3 *") == "1 should not be there, in `a`."


def test_what_no_single_change_mends():
    assert said("gemv_bytes", "2 * (N * K + K + N)", "7 * N * N * N + 5") is None


def test_a_right_kernel_is_not_mended_for_its_wrapper(monkeypatch):
    exercise = EXERCISES["row_sum_kernel"]
    monkeypatch.setattr("checks.judge.repair.fixes", lambda *_: [(answer_source(exercise.name), "Any harmless change.", 0)])
    outcomes = [try_case(exercise, exercise.answer_function(), exercise.cases[0], 1)]
    outcomes[0].fail("what a wrapper made of it")
    assert repaired(exercise, exercise.answer_function(), outcomes) is None


def test_what_is_printed_meanwhile_is_not_seen(capsys):
    assert "16" in said("gemv_bytes", "return 2", "print(N)\n    return 16")
    assert capsys.readouterr().out == "".join(f"{N}\n" for N in (case.inputs(None)["N"] for case in
                                                                 EXERCISES["gemv_bytes"].cases))


def test_warnings_of_changes_that_are_tried_are_not_seen():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert "16" in said("gemv_bytes", "return 2", "import warnings\n    warnings.warn('odd')\n    return 16")
    assert len(seen) == len(EXERCISES["gemv_bytes"].cases)


def test_a_function_that_does_not_end_is_not_tried_again():
    exercise = EXERCISES["gemv_bytes"]
    wrong = define(answer_source("gemv_bytes").replace("2 *", "16 *"), "gemv_bytes", {})
    outcomes = [try_case(exercise, wrong, case, 1) for case in exercise.cases]
    assert repaired(exercise, wrong, outcomes).startswith("16 stands where 2 belongs")
    for at in range(len(outcomes)):
        late = [dataclasses.replace(one, status=TIMEOUT) if i == at else one for i, one in enumerate(outcomes)]
        assert repaired(exercise, wrong, late) is None


def test_a_function_without_source():
    exercise = EXERCISES["gemv_bytes"]
    function = eval("lambda N, K: 0")
    assert repaired(exercise, function, [try_case(exercise, function, exercise.cases[0], 1)]) is None


@pytest.mark.parametrize(("status", "message", "line"), [
    (CRASHED, "it raised KeyError: 3\n  at: x[3]\n  where: x (2,)", "x[3]"), (CRASHED, "it raised KeyError: 3", None),
    (FAILED, "out-of-bounds load\n  at: x = tl.load(x_ptr)", None)])
def test_an_errors_line_is_looked_at_first_an_accesses_not(status, message, line):
    passed, failed, later = (dataclasses.replace(OUTCOME, status=one, message=said) for one, said in (
        (PASSED, ""), (status, message), (CRASHED, "\n  at: y")))
    assert _line_of_error([passed, failed, later]) == line


SEEN = []


def test_the_statement_around_a_lambda_is_not_run_again():
    exercise = EXERCISES["gemv_bytes"]
    SEEN.clear()
    SEEN.append(function := lambda N, K: 0)
    repaired(exercise, function, [try_case(exercise, function, exercise.cases[0], 1)])
    assert len(SEEN) == 1


PLAIN, KERNEL = EXERCISES["gemv_bytes"], EXERCISES["row_sum_kernel"]


@pytest.mark.parametrize(("exercise", "tried"), [(PLAIN, 7), (KERNEL, 3)], ids=["plain", "kernel"])
def test_so_many_changes_are_tried_of_a_kernel_fewer(monkeypatch, exercise, tried):
    asked, taken = [], []
    monkeypatch.setattr(repair, "TRIED", 7)
    monkeypatch.setattr(repair, "TRIED_KERNELS", 3)
    monkeypatch.setattr(repair, "fixes", lambda *given: taken.append(given) or (
        (f"text {n}", f"{n} stands where `b` belongs.", n) for n in itertools.count()))
    monkeypatch.setattr(repair, "_is_right", lambda *given: asked.append(given))
    function, failed = exercise.answer_function(), [dataclasses.replace(OUTCOME, status=CRASHED, message="no\n  at: x[3]")]
    source = answer_source(exercise.name)
    assert repaired(exercise, function, failed) is None and taken == [(source, source, "x[3]")]
    assert asked[0] == (exercise, function, source, failed, repair.TIMEOUT_S)
    assert asked[1:] == [(exercise, function, f"text {n}", failed) for n in range(tried)]


def test_changes_are_tried_for_so_long(monkeypatch):
    seconds = iter([5.0, 5.5, 5.5 + repair.SECONDS - 0.51, 5.0 + repair.SECONDS, 6.0])
    monkeypatch.setattr(repair, "time", SimpleNamespace(process_time=lambda: next(seconds)))
    assert list(repair.in_time("abcd")) == ["a", "b"]


@pytest.mark.parametrize(("exercise", "way", "usual"), [
    (PLAIN, "attempt", repair.ONE_CALL_S), (KERNEL, "attempt_kernel", repair.ONE_LAUNCH_S)], ids=["plain", "kernel"])
@pytest.mark.parametrize("limit", [None, 20])
def test_a_change_is_right_if_it_is_on_every_case(monkeypatch, exercise, way, usual, limit):
    """It has the names of the student's own, is tried as usual, and its source is forgotten."""
    tried = []
    for name in ("attempt", "attempt_kernel"):
        monkeypatch.setattr(repair, name, lambda *given, name=name: tried.append((name, given)) or Attempt({}))

    def again(exercise, function, outcome, run):
        run("call", "inputs", 3)
        if outcome.message == "raises":
            raise OverflowError
        return dataclasses.replace(outcome, status=PASSED if function.__globals__["own"] == outcome.message else FAILED)

    monkeypatch.setattr(repair, "try_again", again)
    source = f"def {exercise.name}(x):\n    return x\n"
    written = define(source, exercise.name, {"own": "right"})
    cached = set(linecache.cache)
    for messages, right in ((["right", "right"], True), (["right", "wrong"], False), (["wrong", "right"], False),
                            (["raises", "right"], False)):
        outcomes = [dataclasses.replace(OUTCOME, message=message) for message in messages]
        assert repair._is_right(exercise, written, source, outcomes, limit) is right
        assert set(linecache.cache) == cached
    assert set(tried) == {(way, ("call", "inputs", limit or usual))}
    for bad in ("def f(:", "raise KeyError\n", "x = 3\n"):
        assert not repair._is_right(exercise, written, bad, [OUTCOME])


def test_the_quickest_of_the_cases_that_failed_comes_first():
    def outcome(n, status, *accesses):
        access = Access("load", "x", (), None, None, 1)
        launches = [Launch(None, {}, [], {}, [access] * count) for count in accesses]
        return Outcome(numbers(n=n), {}, (), status=status, launches=launches)

    outcomes = [outcome(1, PASSED, 1), outcome(2, FAILED, 3, 4), outcome(3, CRASHED, 6), outcome(4, FAILED, 7),
                outcome(5, PASSED), outcome(6, FAILED, 2, 9)]
    assert [one.case.name for one in failed_first(outcomes)] == ["n=3", "n=2", "n=4", "n=6", "n=5", "n=1"]
