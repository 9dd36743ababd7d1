"""The steps of judging on evidence made for them: what passes, what fails, and where the limits lie."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from checks.judge.compiler import Compiled
from checks.judge.exercise import Exercise, Expected, Mutant, numbers
from checks.judge.launches import Access, Launch
from checks.judge.pipeline import (
    NO_KERNEL,
    Evidence,
    check_compilation,
    check_results,
    check_traffic,
    not_by_kernel,
    steps,
    wrong_result,
)
from checks.judge.trial import Outcome

CASES = (numbers(n=1), numbers(n=2), numbers(n=3))
KERNEL = Exercise("any_kernel", "lesson", 1, CASES, lambda n: (Expected(n),), (), wrapper="any",
                  least_bytes=lambda n: 100 * n, traffic_limit=1.5)
PLAIN = Exercise("any", "lesson", 1, CASES, lambda n: (Expected(n),), ())
SOURCE = "@triton.jit\ndef any_kernel(x_ptr, stride_x):\n    tl.store(x_ptr + stride_x, 0)\n"


@pytest.fixture(autouse=True)
def answers(monkeypatch):
    """These exercises have no answer among the kernels."""
    monkeypatch.setattr("checks.judge.diagnosis.answer_source", lambda name: SOURCE)
    monkeypatch.setattr(Exercise, "answer_function", lambda self: lambda x_ptr, stride_x, stride_y: None)


@dataclass
class Seen(Evidence):
    kernel: str | None = None
    traced: tuple | None = None
    compiling: object = None
    asked: list = field(default_factory=list)

    def not_by_kernel(self):
        self.asked.append("kernel")
        return self.kernel

    def measured(self):
        self.asked.append("traffic")
        return self.traced

    def compiled(self):
        self.asked.append("compiler")
        if isinstance(self.compiling, Exception):
            raise self.compiling
        return self.compiling


def outcomes(*statuses):
    return [Outcome(case, {"n": 1}, (), status=status, message=f"it {status} on {case.name}")
            for case, status in zip(CASES, statuses, strict=False)]


def seen(exercise=KERNEL, statuses=("passed",) * 3, source=SOURCE, **more) -> Seen:
    return Seen(exercise, source, 0, outcomes(*statuses), **more)


def traced(loaded=100, stored=10, distinct=None, read=100, accesses=2, idle=0) -> Outcome:
    """An outcome whose one launch loads and stores so many bytes, at `read` and `distinct` places, in so many accesses."""
    distinct = stored if distinct is None else distinct
    lanes = [("load", "x_ptr", np.arange(loaded) % read), ("store", "y_ptr", np.arange(stored) % distinct)]
    made = [Access(kind, tensor, (0, 0, 0), offsets, np.ones(len(offsets), dtype=bool), 1)
            for kind, tensor, offsets in lanes]
    made += [Access("load", "x_ptr", (0, 0, 0), np.arange(0), np.ones(0, dtype=bool), 1)] * (accesses - 2)
    return Outcome(CASES[0], {"n": 1}, (), launches=[Launch(None, {}, [], {}, made, idle)])


@pytest.mark.parametrize(("statuses", "status", "message"), [
    (("passed", "passed", "passed"), "passed", "right on 3 cases"),
    (("failed", "passed", "passed"), "failed", "any_kernel: it failed on n=1"),
    (("failed", "timeout"), "failed", "any_kernel: it failed on n=1"),
    (("passed", "timeout"), "timeout", "any_kernel: it timeout on n=2"),
    (("crashed", "failed"), "crashed", "any_kernel: it crashed on n=1"),
    (("passed",), "failed", "any_kernel: it passed on n=1")])  # the next case was never reached
def test_the_first_case_that_failed_is_reported(statuses, status, message):
    verdict = check_results(seen(statuses=statuses))
    assert (verdict.status, verdict.message) == (status, message)
    assert verdict.passed == (status == "passed") == (verdict.outcome is None)


def test_steps_come_in_order_and_only_when_asked_for():
    compiled = {80: Compiled(registers=8)}, {80: Compiled(registers=9)}
    evidence = seen(traced=(traced(), traced()), compiling=compiled)
    asked = iter(steps(evidence))
    for name, before in (("public", []), ("triton", ["kernel"]), ("economical", ["kernel", "traffic"]),
                         ("compiles", ["kernel", "traffic", "compiler"])):
        found, verdict = next(asked)
        assert (found, verdict.passed, evidence.asked) == (name, True, before)
    assert next(asked, None) is None
    assert [name for name, _ in steps(seen(PLAIN))] == ["public"]
    assert [name for name, _ in steps(seen(compiling=compiled))] == ["public", "triton", "compiles"]
    assert [name for name, _ in steps(seen(traced=(traced(), traced())))] == ["public", "triton", "economical"]


ALL, PART, NONE = torch.tensor([True, True]), torch.tensor([True, False]), torch.tensor([False, False])
SEEN, UNSEEN = Launch(None, {}, [], {}), Launch(None, {}, [], {}, traced=False)
NOT_ALL = "the result is right, but no kernel stored all of `{}`."


@pytest.mark.parametrize(("launches", "made", "operators", "said"), [
    ([SEEN], (ALL, None, ALL), [], None), ([], (ALL, None, ALL), [], NO_KERNEL), ([], (ALL, None, ALL), ["mm"], NO_KERNEL),
    ([SEEN], (PART, None, ALL), [], NOT_ALL.format("y")), ([SEEN, SEEN], (ALL, None, PART), [], NOT_ALL.format("z")),
    ([SEEN], (NONE, None, NONE), [], NOT_ALL.format("y")), ([UNSEEN], (NONE, None, NONE), [], None),
    ([SEEN, UNSEEN], (NONE, None, NONE), [], None),
    ([SEEN], (ALL, None, ALL), ["a", "b", "c", "d"],
     "the result is right, but torch did part of the work, not the kernel (a, b, c)."),
    ([SEEN], (PART, None, ALL), ["a"], "the result is right, but torch did part of the work, not the kernel (a).")])
def test_right_results_must_be_those_of_kernels(launches, made, operators, said):
    exercise = replace(KERNEL, outputs=("y", "n", "z"))
    values = torch.ones(2), 3, torch.ones(2)
    right = Outcome(CASES[0], {}, (), outputs=values, launches=[SEEN], made=(ALL, None, ALL))
    other = Outcome(CASES[1], {}, (), outputs=values, launches=launches, made=made)
    for outcomes in ([other], [right, other], [other, right]):
        assert not_by_kernel(exercise, outcomes, operators) == said


def test_a_result_of_no_kernel_fails_as_a_hung_compiler_does():
    found = dict(steps(seen(kernel="torch did it.", compiling=TimeoutError("it did not finish."))))
    assert found["triton"].status == found["compiles"].status == "failed"
    assert found["triton"].message == "any_kernel: torch did it."
    assert found["compiles"].message == ("any_kernel: it is right, but it did not finish. Are its blocks far too large?")
    cubes = "def any_kernel(x_ptr):\n    acc = tl.sum(x[:, None, :] * w[None, :, :], axis=2)\n"
    (*_, found) = steps(seen(source=cubes, compiling=TimeoutError("it did not finish.")))
    lines = found[1].message.split("\n")
    assert lines[0].startswith("any_kernel: A block with three axes holds every product") and "`tl.dot" in lines[0]
    assert lines[1] == "It is right, but it did not finish."


@pytest.mark.parametrize(("mine", "said"), [
    ({}, None), ({"loaded": 155}, None), ({"read": 10}, None),
    ({"loaded": 156}, "it loads each element of `x_ptr` 1.6 times (the answer: 1.0), and moves 166 bytes (the answer: "
                      "110)."),
    ({"stored": 15}, None), ({"stored": 15, "distinct": 10}, None),
    ({"stored": 16, "distinct": 10}, "it stores each element of `y_ptr` 1.6 times (the answer: 1.0)"),
    ({"accesses": 8}, None), ({"accesses": 7, "idle": 1}, None),
    ({"accesses": 9}, "it takes 9 loads and stores where the answer takes 2: work on whole blocks"),
    ({"accesses": 4, "idle": 5}, "it takes 9 loads and stores where the answer takes 2, and 5 of them are fully masked"),
    ({"accesses": 5, "idle": 5}, "where the answer takes 2: work on whole blocks")])
def test_what_a_kernel_may_move(mine, said):
    verdict = check_traffic(seen(), traced(**mine), traced())
    assert verdict.traffic == (mine.get("loaded", 100) + mine.get("stored", 10), 110, 100)
    assert verdict.passed == (said is None)
    if said:
        assert said in verdict.message
    else:
        assert verdict.message == f"moves {verdict.traffic[0] / 100:.2f}x the least bytes (answer 1.10x)"


def test_how_often_is_told_of_one_tensor():
    twice = traced(stored=20, distinct=10)
    assert check_traffic(seen(), traced(stored=29, distinct=10), twice).passed, "1.5 times 2 are allowed"
    assert "it stores each element of `y_ptr` 3.1 times (the answer: 2.0)" in check_traffic(
        seen(), traced(stored=31, distinct=10), twice).message
    answer, mine = (traced(loaded=loaded, read=200, stored=100) for loaded in (200, 600))
    for outcome in (answer, mine):
        outcome.launches[0].accesses[1].tensor, outcome.launches[0].accesses[1].kind = "w_ptr", "load"
    assert "it loads each element of `x_ptr` 3.0 times (the answer: 1.0)" in check_traffic(seen(), mine, answer).message
    answer = traced()
    del answer.launches[0].accesses[1]
    assert check_traffic(seen(), traced(stored=5), answer).passed, "little that the answer does not store"


def test_a_quarter_more_than_the_answer_may_be_moved():
    evidence = seen(replace(KERNEL, traffic_limit=Exercise.traffic_limit))
    answer = traced(loaded=90, read=90)
    assert check_traffic(evidence, traced(loaded=115, read=90), answer).passed
    assert "moves 126 bytes" in check_traffic(evidence, traced(loaded=116, read=90), answer).message
    bare = Exercise("any", "lesson", 1, CASES, KERNEL.oracle, ())
    assert bare.outputs == ("result",) and not bare.is_kernel and not bare.moves_only


def test_a_wrapper_of_ones_own_may_use_other_names():
    mine = traced(loaded=200)
    for access in mine.launches[0].accesses:
        access.tensor = f"other_{access.tensor}"
    message = check_traffic(seen(), mine, traced(loaded=100)).message
    assert "it loads an element 2.0 times (the answer: 1.0)" in message, message


def test_what_never_moves_is_blamed_first_an_unused_stride_last():
    mine, answer = traced(loaded=120, stored=60), traced(loaded=100)
    answer.launches[0].accesses.pop()
    assert "it stores each element of `y_ptr` 1.0 times (the answer: 0.0)" in check_traffic(seen(), mine, answer).message
    unused = seen(source="@triton.jit\ndef any_kernel(x_ptr, stride_x, stride_y):\n    tl.store(x_ptr + stride_x, 0)\n")
    needed = traced()
    needed.launches[0].arguments["stride_y"] = 1
    assert "the kernel never uses `stride_y`" in check_traffic(unused, traced(), needed).message
    assert check_traffic(unused, traced(), traced()).passed, "the answer has no such argument"
    assert "work on whole blocks" in check_traffic(unused, traced(accesses=9), needed).message


def test_only_too_many_bytes_are_compared_with_the_mutants(monkeypatch):
    mutant = Mutant("loads twice", {}, "Load once.")
    asked = []
    monkeypatch.setattr("checks.judge.diagnosis.recognise_traffic", lambda *given: asked.append(given) or mutant)
    mine = traced(loaded=500)
    verdict = check_traffic(seen(), mine, traced())
    assert asked == [(KERNEL, mine, 0)]
    assert verdict.mistake == "loads twice" and verdict.message.startswith("any_kernel: loads twice. Load once.\n")
    assert check_traffic(seen(), traced(accesses=9), traced()).mistake is None


GOOD, REFUSED = Compiled(registers=30, spills=4, multiplies="f16"), Compiled(error="no such block")


@pytest.mark.parametrize(("mine", "answer", "said"), [
    ((GOOD, GOOD), (GOOD, GOOD), None), ((REFUSED, GOOD), (REFUSED, GOOD), None),
    ((REFUSED, GOOD), (GOOD, GOOD), "the compiler refuses it for sm_80 (A100): no such block"),
    ((GOOD, REFUSED), (GOOD, GOOD), "the compiler refuses it for sm_90 (H100, H200): no such block"),
    ((REFUSED, Compiled(error="no such type")), (GOOD, GOOD), "refuses it for sm_80 (A100): no such block"),
    ((GOOD, Compiled(registers=1)), (GOOD, GOOD), "sm_90 (H100, H200) it does not use the tensor cores"),
    ((GOOD, Compiled(multiplies="tf32")), (GOOD, GOOD), "sm_90 (H100, H200) its tensor cores multiply tf32 numbers"),
    ((Compiled(), Compiled(multiplies="f16")), (Compiled(), Compiled()), None)])
def test_what_the_compiler_may_say(mine, answer, said):
    mine, answer = (dict(zip((80, 90), reports, strict=True)) for reports in (mine, answer))
    verdict = check_compilation(seen(), mine, answer)
    assert verdict.passed == (said is None) and verdict.compiled == mine
    assert said is None or said in verdict.message
    assert "refuses" not in verdict.message or verdict.message.endswith(said), "nothing is known of the reason"
    if mine == answer and not mine[80].error:
        assert verdict.message == " · ".join(
            f"sm_{capability}: 30 registers (answer 30), 4 bytes spilled (answer 4)" for capability in (80, 90))
    elif said is None and mine[80].error:
        assert verdict.message == "sm_90: 30 registers (answer 30), 4 bytes spilled (answer 4)"


def test_the_order_of_reasons_for_a_wrong_result(monkeypatch):
    exercise = replace(PLAIN, explain=lambda outcome: "It is one too many.")
    outcome = replace(outcomes("failed")[0], outputs=(2,), expected=(Expected(1),))
    monkeypatch.setattr("checks.judge.diagnosis.recognise", lambda *_: None)
    monkeypatch.setattr("checks.judge.diagnosis.variations_of", lambda name: [])
    monkeypatch.setattr("checks.judge.diagnosis.never_read", lambda *_: "x[2] is never read.")
    for judged, source, reason in ((exercise, SOURCE + "    x = x_ptr @ x_ptr\n", "Blocks have no `@`"),
                                   (exercise, SOURCE, "It is one too many."), (PLAIN, SOURCE, "x[2] is never read.")):
        said = wrong_result(seen(judged, source=source), outcome, [outcome]).message.split("\n")
        assert said[0].startswith(f"any: {reason}") and said[1] == "It failed on n=1" and len(said) == 2


def test_a_refusal_of_the_compiler_comes_with_its_hint():
    refused = {80: Compiled(error="cannot broadcast")}
    said = check_compilation(seen(), refused, {80: GOOD}).message.split("\n")
    assert said[0].endswith("cannot broadcast") and said[1].startswith("Two blocks whose shapes") and len(said) == 2
    slip = seen(source=SOURCE + "    x = x_ptr @ x_ptr\n")
    assert check_compilation(slip, refused, {80: GOOD}).message.split("\n")[1].startswith("Blocks have no `@`")


def test_each_number_said_belongs_to_whom_it_is_said_of():
    mine, answer = ({capability: Compiled(registers=n + capability, spills=n + 2 * capability, multiplies="f16")
                     for capability in (80, 90)} for n in (1, 500))
    assert check_compilation(seen(), mine, answer).message == (
        "sm_80: 81 registers (answer 580), 161 bytes spilled (answer 660) · "
        "sm_90: 91 registers (answer 590), 181 bytes spilled (answer 680)")
    for mine, answer, said in (
            (traced(350, 20, read=50), traced(160, 24, distinct=12, read=80),
             "it loads each element of `x_ptr` 7.0 times (the answer: 2.0), and moves 370 bytes (the answer: 184)."),
            (traced(170, 100, distinct=20, read=85), traced(160, 24, distinct=12, read=80),
             "it stores each element of `y_ptr` 5.0 times (the answer: 2.0), and moves 270 bytes (the answer: 184)."),
            (traced(accesses=13), traced(accesses=3), "it takes 13 loads and stores where the answer takes 3: "),
            (traced(accesses=13, idle=14), traced(accesses=3, idle=1),
             "it takes 27 loads and stores where the answer takes 4, and 14 of them are fully masked")):
        verdict = check_traffic(seen(), mine, answer)
        assert f"any_kernel: the result is right, but {said}" in verdict.message, verdict.message
        assert verdict.traffic == (mine.traffic().total(), answer.traffic().total(), 100)
    assert check_traffic(seen(), traced(120, 13), traced(140, 14)).message == (
        "moves 1.33x the least bytes (answer 1.54x)")


def test_a_certain_slip_is_told_first_and_of_a_failure_alone(monkeypatch):
    asked, error = [], ValueError()
    monkeypatch.setattr("checks.judge.diagnosis.certain_slip", lambda *given: asked.append(given) or "It is lost.")
    monkeypatch.setattr("checks.judge.diagnosis.recognise", lambda *_: Mutant("doubles", {}, "Once."))
    evidence = seen(source=SOURCE + "    x = x_ptr @ x_ptr\n")
    failed = replace(outcomes("crashed")[0], error=error)
    verdict = wrong_result(evidence, failed, [failed])
    assert verdict.message == "any_kernel: It is lost.\nIt crashed on n=1" and verdict.mistake is None
    assert asked == [(KERNEL, evidence.written, error)]
    assert "Blocks have no `@`" in check_traffic(evidence, traced(loaded=500), traced()).message and len(asked) == 1


@pytest.mark.parametrize(("name", "padding", "said"), [
    ("loads without `other=`", "The lanes hold anything.", "The lanes hold anything."),
    ("loads without `other=`", None, "loads without `other=`. Give one."),
    ("loads twice", "The lanes hold anything.", "loads twice. Give one.")])
def test_what_is_said_of_lanes_that_hold_anything(monkeypatch, name, padding, said):
    monkeypatch.setattr("checks.judge.diagnosis.certain_slip", lambda *_: None)
    monkeypatch.setattr("checks.judge.diagnosis.recognise", lambda *_: Mutant(name, {}, "Give one."))
    monkeypatch.setattr("checks.judge.hints.without_padding", lambda written: padding)
    failed = outcomes("failed")[0]
    verdict = wrong_result(seen(), failed, [failed])
    assert verdict.message == f"any_kernel: {said}\nIt failed on n=1" and verdict.mistake == name
