"""From a run to what the rubric asks of it: its kernels' compilation, flags, pictures, points."""

import types
from collections import Counter

import pytest
import torch
from grading import ADD, NEEDED

from checks.grader.course import read_course
from checks.grader.grading import outcomes, runs, verdicts
from checks.grader.intake.code import Code
from checks.grader.sandbox.client import ChildExited, Fault
from checks.judge.compiler import Compiled
from checks.judge.exercise import Case
from checks.judge.launches import Launch
from checks.judge.pipeline import NO_KERNEL, Verdict
from checks.judge.trial import PASSED


@pytest.mark.parametrize("ends", [None, "first", "main"])
def test_every_kernel_of_a_call_is_compiled(monkeypatch, ends):
    """Each once, and the one that moves most bytes last, whose report counts where all compile."""
    def reports(step):
        asked.append(step.kernel)
        if step.kernel == ends:
            raise ChildExited("it took too long")
        return {90: Compiled(error="no" if refused == step.kernel else None, spills=len(step.kernel))}

    asked, kernels = [], ["first", "main", "first", "other"]
    moved = {"first": 10, "main": 100, "other": 1}
    monkeypatch.setattr(verdicts, "answer_reports", lambda *_: "the answer's")
    launches = [outcomes.LaunchSummary(kernel, {}, [], {}, [], moved=Counter({("load", "x"): moved[kernel]}))
                for kernel in kernels]
    done = types.SimpleNamespace(launches=[types.SimpleNamespace(kernel=kernel) for kernel in kernels])
    outcome = types.SimpleNamespace(launches=launches)
    evidence = verdicts.SeenInChild(ADD, "", 0, [outcome], None, done, types.SimpleNamespace(reports=reports))
    for refused in (None, "first", "other"):
        asked.clear()
        if ends:
            with pytest.raises(TimeoutError, match="did not finish: it took too long"):
                evidence.compiled()
        else:
            mine, answer = evidence.compiled()
            assert asked == ["other", "first", "main"] and answer == "the answer's"
            assert mine[90].spills == len(refused or "main")
    evidence.compiler = None
    assert evidence.compiled() is None


# what stands in a result


LAUNCH = outcomes.LaunchSummary("k", {}, [], {}, [])
HIDDEN_CASES = (Case("hidden case 1", lambda _: {}), Case("hidden case 2", lambda _: {}))
KERNEL = f'{{"name": "{ADD.name}"}}'


def kernel_run(*statuses: str, launched: bool = True, **more) -> runs.Run:
    """Of the lesson's cases and the hidden ones; those without a status have passed."""
    cases = (*ADD.cases, *HIDDEN_CASES)
    found = [outcomes.ChildOutcome(case, {}, (), status=status, launches=[LAUNCH] * launched)
             for case, status in zip(cases, [*statuses, *[PASSED] * (len(cases) - len(statuses))], strict=True)]
    recordings = [(cases[0], types.SimpleNamespace(launches=[types.SimpleNamespace(kernel=KERNEL)]))] * launched
    return runs.Run(**{"trust": runs.PROVEN, "outcomes": found, "recordings": recordings, "function": ADD.name} | more)


def judged(monkeypatch, done, steps=(), code=None, gpu=None, compiles=True, exercise=ADD, hidden=HIDDEN_CASES) -> dict:
    """The result of a submission that did this, of which the judge's steps say this."""
    def all_runs(case_set, given, sandbox, cases):
        assert (case_set.exercise, given, cases) == (exercise, code, exercise.cases + hidden)
        yield from done if isinstance(done, list) else [done]

    code = code or Code(source="x = 1")
    monkeypatch.setattr(verdicts, "runs_of", all_runs)
    monkeypatch.setattr(verdicts, "steps", lambda evidence: iter(steps))
    monkeypatch.setattr(verdicts, "wrong_result", lambda evidence, wrong, seen: Verdict(
        exercise, wrong.status, f"{exercise.name}: {[one.case.name for one in seen]} is {wrong.status}"))
    case_set = types.SimpleNamespace(exercise=exercise, seed=0, hidden=hidden, only_numbers=False)
    sandbox = types.SimpleNamespace(compiler="a compiler")
    return verdicts.grade_exercise(case_set, code, read_course(), sandbox, compiles, gpu)


def found(name: str, status: str = PASSED, **more) -> tuple[str, Verdict]:
    return name, Verdict(ADD, status, f"{ADD.name}: {name} is {status}", **more)


RIGHT = {"public": found("public"), "triton": found("triton"), "economical": found("economical", traffic=(3, 2, 1)),
         "compiles": found("compiles", compiled={80: Compiled(registers=7)})}


@pytest.mark.parametrize("failed, states, message", [
    (None, {}, f"{ADD.name}: {ADD.name}: public is passed"),
    (found("public", "timeout", mistake="a"), {"public": "wrong", "triton": "not reached"}, "public is timeout"),
    (found("triton", "failed", mistake="b"), {"triton": "wrong"}, "triton is failed"),
    (found("economical", "failed", traffic=(9, 2, 1), mistake="c"), {"economical": "wrong"}, "economical is failed"),
    (found("compiles", "failed", compiled={80: Compiled(error="no")}, mistake="d"), {"compiles": "wrong"},
     "compiles is failed"),
], ids=lambda one: one[0] if isinstance(one, tuple) else "")
def test_what_each_step_decides(monkeypatch, failed, states, message):
    steps = RIGHT | ({failed[0]: failed} if failed else {})
    result = judged(monkeypatch, kernel_run(), steps.values())
    after = "not reached" if failed and failed[0] in ("public", "triton") else "right"
    wanted = {"triton": "right", "public": "right", "economical": after, "compiles": after, "hidden": after} | states
    assert {name: item["result"] for name, item in result["items"].items()} == wanted
    assert result["message"].endswith(message) and result["status"] == (failed[1].status if failed else PASSED)
    assert result["mistake"] == (failed[1].mistake if failed else None)
    assert result.get("traffic") == (None if after == "not reached" else list(steps["economical"][1].traffic))
    known = after == "right" and states.get("compiles") != "wrong"
    assert ("compiled" in result) == known and (not known or result["compiled"]["80"]["registers"] == 7)
    possible = {name: item["possible"] for name, item in result["items"].items()}
    gate = "wrong" in states.values() and after == "not reached"
    assert result["points"] == (0.0 if gate else pytest.approx(sum(possible[name] for name in possible
                                                                   if wanted[name] == "right"), abs=2e-4))


def test_the_first_of_several_mistakes_leads(monkeypatch):
    steps = RIGHT | {name: found(name, "failed", mistake=name) for name in ("economical", "compiles")}
    result = judged(monkeypatch, kernel_run(*[PASSED] * len(ADD.cases), "crashed"), steps.values())
    assert result["message"].endswith("economical is failed") and result["mistake"] == "economical"
    assert result["items"]["hidden"]["message"].endswith(
        f"{ADD.name}: right on the lesson's cases, wrong on other sizes. ['hidden case 1'] is crashed")


def test_items_that_do_not_apply_take_no_part(monkeypatch):
    items = [judged(monkeypatch, kernel_run(), list(RIGHT.values())[:3], compiles=False)["items"],
             judged(monkeypatch, kernel_run(), RIGHT.values(), hidden=())["items"],
             judged(monkeypatch, kernel_run(), [found("public")], exercise=NEEDED)["items"]]
    assert [list(one) for one in items] == [["triton", "public", "hidden", "economical"],
                                            ["triton", "public", "economical", "compiles"], ["public", "hidden"]]


def test_what_is_right_and_not_proven_waits_for_a_person(monkeypatch):
    done = kernel_run(trust=runs.OPEN, why_open="it looks at numbers")
    result = judged(monkeypatch, done, RIGHT.values())
    assert (result["status"], result["points"], result["trust"]) == (verdicts.HELD, 0.0, runs.OPEN)
    assert "but it looks at numbers. Your instructor will look at it." in result["message"]
    assert {name for name, item in result["items"].items() if item["result"] == "right"} == {"public"}
    result = judged(monkeypatch, done, (RIGHT | {"triton": found("triton", "failed")}).values())
    assert result["status"] == "failed" and result["message"].endswith("triton is failed")


def test_a_submission_that_is_not_run(monkeypatch):
    code = Code("not attempted", "the line is there.", ["a notice"], "x = 1")
    monkeypatch.setattr(verdicts, "_best", None)
    result = judged(monkeypatch, None, code=code)
    assert (result["status"], result["message"], result["points"], result["items"], result["notices"]) == (
        "not attempted", f"{ADD.name}: the line is there.", 0.0, {}, ["a notice"])


def test_what_a_result_says_beside_its_points(monkeypatch):
    """A line that did not run matters to nobody whose function is right."""
    code = Code(notices=["a notice"], source="x = 1  # a comment")
    done = kernel_run(notice="judged with ours", own_wrapper=True, cell_error="NameError: y")
    result = judged(monkeypatch, done, RIGHT.values(), code)
    assert result["notices"] == ["a notice", "judged with ours"] and code.notices == ["a notice"]
    assert (result["trust"], result["own_entry"]) == (runs.PROVEN, True)
    same, other, none = (judged(monkeypatch, kernel_run(), RIGHT.values(), Code(source=source))["code"]
                         for source in ("x=1", "x = 2", ""))
    assert result["code"] == same != other and none is None and len(other) == 64
    wrong = judged(monkeypatch, kernel_run("failed", cell_error="NameError: y"), [found("public", "failed")], code)
    assert wrong["notices"] == ["a notice", "a line of its cell did not run: NameError: y"] and not wrong["own_entry"]
    both = judged(monkeypatch, kernel_run("failed", notice="judged with ours", cell_error="NameError: y"),
                  [found("public", "failed")], code)
    assert both["notices"] == ["a notice", "judged with ours", "a line of its cell did not run: NameError: y"]
    assert code.notices == ["a notice"]
    problem = judged(monkeypatch, runs.Run(problem=("crashed", "its cell did not run: x")), code=code)
    assert (problem["status"], problem["message"], problem["points"], problem["items"], problem["trust"]) == (
        "crashed", f"{ADD.name}: its cell did not run: x", 0.0, {}, None)


@pytest.mark.parametrize("done, steps, asked", [
    (kernel_run(), RIGHT.values(), True), (kernel_run(), [found("public", "failed")], False),
    (kernel_run(trust=runs.OPEN), [found("public"), found("triton", "failed")], False)], ids=["right", "wrong", "open"])
def test_what_runs_on_a_gpu(monkeypatch, done, steps, asked):
    seen = []
    monkeypatch.setattr(verdicts, "on_gpu", lambda *given: seen.append(given) or ("it hangs.", None))
    assert judged(monkeypatch, done, steps, gpu="a server")["items"]["public"]["result"] == ("wrong" if asked else {
        "failed": "wrong"}.get(next(iter(steps))[1].status, "right"))
    assert [given[1:] for given in seen] == [(done, "a compiler", "a server")] * asked
    seen.clear()
    judged(monkeypatch, done, steps)
    judged(monkeypatch, kernel_run(), [found("public")], gpu="a server", exercise=NEEDED)
    assert not seen, "without a GPU, and of what is no kernel"


SIGNS = {"launched": {"launched": False}, "operators": {"operators": list("abcdefg")},
         "survives": {"evidence": {"no launches": True}}, "decoys": {"evidence": {"decoys": False}},
         "aliases": {"answers": [{}, {"aliases": ["x"]}]}, "nothing": {"evidence": {"no launches": False, "decoys": True}},
         "files": {"answers": [{"files": ["f"]}]}}
FLAGS = {"launched": ("no launch", "no Triton kernel was launched"), "aliases": ("aliases", "shares the memory"),
         "operators": ("torch operators", "kernel: a, b, c, d, e"), "survives": ("survives", "stays right"),
         "decoys": ("decoys", "is wrong when")}


@pytest.mark.parametrize("sign", SIGNS)
def test_which_signs_are_flagged(sign):
    """Of a right result that the student's own Python made; those of a wrong one, or of a proven one, say nothing."""
    code = Code(source="", suspicious=list("hgfedcbai"))
    reaches = ("reaches out", "the cell names h, g, f, e, d, c, b, a")
    left = [("left behind", "files were written: f")] if sign == "files" else []
    for trust, exercise, status, kinds in (
            (runs.OPEN, ADD, PASSED, [*left, ("not proven", "beside Python (a reason)"), FLAGS.get(sign)]),
            (runs.OPEN, ADD, "failed", left), (runs.PROVEN, ADD, PASSED, []), (runs.OPEN, NEEDED, PASSED, left)):
        done = kernel_run(status, trust=trust, why_open="a reason", **SIGNS[sign])
        flags = verdicts._flags(exercise, code, done)
        wanted = [reaches, *filter(None, kinds)]
        assert [flag["kind"] for flag in flags] == [kind for kind, _ in wanted]
        assert all(text in flag["text"] for flag, (_, text) in zip(flags, wanted, strict=True))
        assert not any("kernel: a, b, c, d, e, f" in flag["text"] for flag in flags)
        assert flags[0]["text"] == reaches[1]
    assert not verdicts._flags(ADD, Code(), kernel_run())


@pytest.mark.parametrize("more, said", [
    ({}, None), ({"launched": False}, NO_KERNEL), ({"launched": False, "trust": runs.OPEN}, NO_KERNEL),
    ({"operators": ["aten::mm"]}, "torch did part of the work"), ({"operators": ["aten::mm"], "trust": runs.OPEN}, None),
    ({"recordings": [], "trust": runs.OPEN}, None), ({"recordings": []}, NO_KERNEL)], ids=str)
def test_whose_kernel_a_right_result_is(more, said):
    reason = verdicts._not_triton(ADD, kernel_run(**more))
    assert reason is None if said is None else said in reason
    own = types.SimpleNamespace(launches=[types.SimpleNamespace(kernel=name) for name in ('{"helper"}', '{"mine"}')])
    for function, wanted in (("mine", None), ("min", NO_KERNEL), ("", NO_KERNEL)):
        if not more:
            assert verdicts._not_triton(ADD, kernel_run(recordings=[(None, own)], function=function)) == wanted


def test_which_way_to_mean_a_function_counts(monkeypatch):
    monkeypatch.setattr(verdicts, "not_by_kernel", lambda exercise, seen, operators: operators or None)
    refuses, wrong = kernel_run("crashed"), kernel_run(PASSED, "failed")
    refuses.outcomes[0].error = TypeError("an argument is missing")
    by_torch, right, short = kernel_run(operators=["mm"]), kernel_run(*[PASSED] * len(ADD.cases), "failed"), kernel_run()
    short.outcomes = short.outcomes[:len(ADD.cases) - 1]
    for tried, counts in (([wrong, right], right), ([by_torch, right], right), ([by_torch, wrong], by_torch),
                          ([refuses, wrong], wrong), ([refuses], refuses), ([wrong, refuses], wrong),
                          ([short, right], right), ([right, kernel_run()], right)):
        case_set = types.SimpleNamespace(exercise=ADD, hidden=())
        monkeypatch.setattr(verdicts, "runs_of", lambda *_, tried=tried: iter(tried))
        assert verdicts._best(case_set, Code(), None) is counts


@pytest.mark.parametrize("shape, wrong, rows, columns", [
    ((70, 130), [(69, 129)], 32, 64), ((3, 5), [(2, 1)], 3, 5), ((200,), [(199,)], 1, 64), ((4,), [(1,)], 1, 4),
    ((2, 2, 2), [(0, 0, 0)], None, None), ((3, 5), [], None, None), ((), [()], None, None)], ids=str)
def test_a_picture_of_what_is_wrong(shape, wrong, rows, columns):
    outcome = types.SimpleNamespace(wrong=torch.zeros(shape, dtype=torch.bool), output=1)
    for place in wrong:
        outcome.wrong[place] = True
    drawn = verdicts._picture(outcome)
    if rows is None:
        assert drawn is None
        return
    assert (drawn["of"], drawn["output"], len(drawn["rows"]), len(drawn["rows"][0])) == (list(shape), 1, rows, columns)
    assert sum(map(sum, drawn["rows"])) == 1
    assert drawn["rows"][wrong[0][0] * rows // shape[0] if len(shape) == 2 else 0][wrong[0][-1] * columns // shape[-1]] == 1


def test_a_wrong_result_is_pictured(monkeypatch):
    done = kernel_run("failed")
    done.outcomes[0].wrong, done.outcomes[0].output = torch.tensor([False, True]), 0
    steps = [found("public", "failed", outcome=done.outcomes[0])]
    assert judged(monkeypatch, done, steps)["picture"] == {"of": [2], "output": 0, "rows": [[0, 1]]}
    assert judged(monkeypatch, done, [found("public", "failed")])["picture"] is None


def test_what_the_compiler_is_asked_of_the_answer():
    def reports(step):
        asked.append(step)
        if len(asked) > 1:
            raise ChildExited("it took too long")
        return "reports"

    x = torch.ones(3)
    launches = [LAUNCH, Launch(ADD.answer_function(), {"x_ptr": x, "y_ptr": x, "out_ptr": x, "N": 3, "BLOCK": 4}, ["BLOCK"],
                               {"num_warps": 2})]
    asked, case_set = [], types.SimpleNamespace(exercise=ADD, answer=types.SimpleNamespace(launches=launches))
    assert verdicts.answer_reports(case_set, types.SimpleNamespace(reports=reports)) == "reports"
    (step,) = asked
    assert step.name == ADD.name and f"def {ADD.name}" in step.kernel and step.constexprs == {"BLOCK": 4}
    assert (step.signature["x_ptr"], step.options) == ("*fp32", {"num_warps": 2})
    with pytest.raises(Fault, match=f"the answer of {ADD.name} did not compile: it took too long"):
        verdicts.answer_reports(case_set, types.SimpleNamespace(reports=reports))
