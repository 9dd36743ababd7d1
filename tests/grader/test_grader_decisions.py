"""What the grader decides without running anything: sizes that are drawn, what is right, what is flagged, what is called."""

import random
import types

import pytest
from grading import ADD, NEEDED

from checks.grader.grading import cases, verdicts
from checks.grader.grading.runs import OPEN, PROVEN, NeedsNumbers, Run
from checks.grader.intake.code import Code
from checks.grader.results import new_exercise_result
from checks.grader.sandbox import child
from checks.host.notebook import Notebook

SEEDS = range(60)


@pytest.mark.parametrize(("value", "low", "high"), [
    (2, 3, 4), (3, 4, 5), (8, 9, 10), (12, 13, 15), (100, 101, 125), (148, 149, 185), (4096, 4097, 4133),
    *((part, part + 0.05 * (1 - part), part + 0.5 * (1 - part)) for part in (1e-6, 0.05, 0.5, 0.9, 0.999)),
    (1.0, 1.05, 1.5), (2.0, 2.1, 3.0), (1e-30, 1e-30, 1.0), (4e6, 4.2e6, 6e6), (-2.0, -3.0, -2.1)])
def test_a_number_is_drawn_within_its_bounds(value, low, high):
    """A whole one grows by 1 to 37, a quarter at most; a part of something stays one; others grow by 5 % to half."""
    drawn = [cases._other("size", value, random.Random(seed)) for seed in SEEDS]
    assert {type(other) for other in drawn} == {type(value)} and all(low <= other <= high for other in drawn)
    assert max(drawn) - min(drawn) > (high - low) * 0.6 or value == 1e-30
    if isinstance(value, int):
        assert {low, high} <= set(drawn) or high - low > 20
    elif 0 < value < 1:
        assert max(drawn) < 1


@pytest.mark.parametrize("value", [True, False, 0, 1, -1, -30, 0.0, "text", None, (3, 4), [8], b"x"], ids=repr)
def test_what_is_no_size_is_kept(value):
    assert all(cases._other("size", value, random.Random(seed)) == value for seed in SEEDS)


@pytest.mark.parametrize(("name", "value"), [("BLOCK", 16), ("BLOCK_K", 64), ("low", 5), ("lowest", 0.5), ("high", 8),
                                             ("high_end", 3.0)])
def test_what_has_a_kept_name_is_kept(name, value):
    assert all(cases._other(name, value, random.Random(seed)) == value for seed in SEEDS)
    assert any(cases._other(f"my_{name}", value, random.Random(seed)) != value for seed in SEEDS)


def outcomes(*statuses, launches=(1,), error=None):
    return [types.SimpleNamespace(status=status, launches=launches, error=error) for status in statuses]


RIGHT = ("passed",) * len(NEEDED.cases)


@pytest.mark.parametrize(("statuses", "right"), [
    (RIGHT, True), ((), False), (RIGHT[1:], False), (RIGHT[:1], False), ((*RIGHT, "passed"), True),
    ((*RIGHT, "failed"), True), ((*RIGHT[1:], "failed"), False), (("failed", *RIGHT[1:]), False),
    (("failed", *RIGHT), False),
    ((*RIGHT[1:], "timeout", "passed"), False), (("crashed",) * len(RIGHT), False)])
def test_right_is_what_passed_each_case_of_the_lesson(statuses, right):
    assert len(RIGHT) > 1
    assert verdicts._right(Run(outcomes=outcomes(*statuses)), NEEDED) is right


WRONG = ("passed", "failed", "passed")


@pytest.mark.parametrize(("runs", "best"), [
    ([(RIGHT, None)], 0), ([(RIGHT, None), (RIGHT, None)], 0), ([(WRONG, None), (RIGHT, None), (RIGHT, None)], 1),
    ([(WRONG, None), (WRONG, None)], 0), ([(WRONG, TypeError()), (WRONG, None)], 1), ([(RIGHT[1:], None), (RIGHT, None)], 1),
    ([(WRONG, TypeError()), (WRONG, KeyError()), (WRONG, None)], 1), ([(WRONG, TypeError()), (WRONG, TypeError())], 0),
    ([((), None), (WRONG, None)], 0), ([(WRONG, TypeError()), (RIGHT, None)], 1)])
def test_which_way_to_mean_a_function_is_graded(monkeypatch, runs, best):
    runs = [Run(outcomes=outcomes(*statuses, error=error)) for statuses, error in runs]
    tried = iter(runs)
    case_set = types.SimpleNamespace(exercise=NEEDED, hidden=("more",))
    monkeypatch.setattr(verdicts, "runs_of", lambda given, code, sandbox, asked:
                        tried if asked == (*NEEDED.cases, "more") else None)
    assert verdicts._best(case_set, Code(), None) is runs[best]
    assert len(list(tried)) == (len(runs) - best - 1 if verdicts._right(runs[best], NEEDED) else 0), "none is tried in vain"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_refuses_a_case_s_arguments_is_chosen_last(monkeypatch, at):
    refusing, wrong = Run(outcomes=outcomes(*WRONG)), Run(outcomes=outcomes(*WRONG))
    refusing.outcomes[at].error = TypeError("takes 2 positional arguments")
    monkeypatch.setattr(verdicts, "runs_of", lambda *_: iter([refusing, wrong]))
    assert verdicts._best(types.SimpleNamespace(exercise=NEEDED, hidden=()), Code(), None) is wrong


PASSED = ("passed",) * len(ADD.cases)
OPEN_FLAGS = {  # what is flagged, and the run that it is flagged of
    "no launch": {"outcomes": outcomes(*PASSED, launches=())}, "torch operators": {"operators": ["aten::mm"]},
    "survives": {"evidence": {"no launches": True}}, "decoys": {"evidence": {"decoys": False}},
    "aliases": {"answers": [{}, {"aliases": [0]}]}}
NONE_OF_THEM = {"evidence": {"no launches": False, "decoys": True}, "answers": [{"aliases": []}, {}]}


@pytest.mark.parametrize("kind", OPEN_FLAGS)
def test_what_is_flagged_where_nothing_is_proven(monkeypatch, kind):
    monkeypatch.setattr(verdicts, "left_behind", lambda done: [])

    def flags(exercise=ADD, code=Code(), **more):  # noqa: B008
        return [flag["kind"] for flag in verdicts._flags(exercise, code, Run(**{"outcomes": outcomes(*PASSED)} | more))]

    assert flags(**OPEN_FLAGS[kind]) == ["not proven", kind]
    assert flags(**NONE_OF_THEM) == ["not proven"]
    for also in ({"trust": PROVEN}, {"outcomes": outcomes(*PASSED[1:], launches=())}, {"exercise": NEEDED},
                 {"outcomes": outcomes("failed", *PASSED[1:], launches=())}):
        assert flags(**OPEN_FLAGS[kind] | {"trust": OPEN} | also) == []
    assert flags(code=Code(suspicious=list("abcdefghij")), trust=PROVEN) == ["reaches out"]


def test_what_is_left_behind_and_what_reaches_out_is_named(monkeypatch):
    monkeypatch.setattr(verdicts, "left_behind", lambda done: ["a thread", "a file"])
    done = Run(outcomes=outcomes(*PASSED), why_open="it asks for numbers", operators=list("abcdefg"))
    assert [flag["text"] for flag in verdicts._flags(ADD, Code(suspicious=list("abcdefghij")), done)] == [
        "the cell names a, b, c, d, e, f, g, h", "a thread", "a file",
        "right only in Triton's interpreter, beside Python (it asks for numbers)",
        "torch computed beside the kernel: a, b, c, d, e"]


TIMES = {"yours": 1.0, "answer": 1.0, "floor": 1.0}


@pytest.mark.parametrize(("found", "kinds"), [
    (NeedsNumbers("a descriptor"), ["seen", "not on the GPU"]), ((None, TIMES | {"yours": 0.5}), ["seen", "too fast"]),
    ((None, TIMES), ["seen"]), (("it hangs.", None), ["seen"]), ((None, None), ["seen"])],
    ids=["refused", "too fast", "as fast as memory", "wrong", "not timed"])
def test_what_was_flagged_stays_so_on_a_gpu(monkeypatch, found, kinds):
    def on_gpu(*_):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(verdicts, "on_gpu", on_gpu)
    result = new_exercise_result(ADD, 3.0) | {"flags": [{"kind": "seen", "text": "before"}]}
    verdicts._on_gpu(types.SimpleNamespace(exercise=ADD), Run(), None, None, result)
    assert [flag["kind"] for flag in result["flags"]] == kinds


GIVEN = "def launch(x):\n    return kernel(x) * 7\n"
OWN = "def launch(x):\n    return kernel(x) * 1000\n"
CELLS = ("def kernel(x):\n    return x + 1\n", OWN, "check(kernel)", "def kernel(x):\n    return x + 20\n", "check(launch)",
         "def kernel(x):\n    return x + 300\n")


@pytest.mark.parametrize(("asked", "found"), [
    ({"wrapper": "launch"}, [7, 1000, 140, 20_000, 2100, 300_000]),
    ({"wrapper": None}, [1, 300]),
    ({"wrapper": "launch", "through": "harness", "entry_code": "def harness(function, x):\n    return -function(x)\n"},
     [-1, -1, -20, -20, -300, -300])])
def test_each_candidate_is_called_by_itself(monkeypatch, asked, found):
    """In any order: the kernel as it was then, within the lesson's wrapper, the student's own or the adapter."""
    monkeypatch.setattr(child._Others, "keep_state", {})
    notebook = Notebook()
    notebook.namespace["check"] = notebook.check
    notebook.run([GIVEN], CELLS, numbers=True)
    asked = {"name": "kernel", "through": "", "entry_code": GIVEN} | asked
    assert not notebook.errors
    assert len(notebook.candidates("kernel", asked["wrapper"])) == len(found)
    functions = [child._function(notebook, asked | {"candidate": index}) for index in range(len(found))]
    assert [function(x=0) for function in functions] == found
    assert [function(x=0) for function in functions[::-1]] == found[::-1]
    assert set(child._Others.keep_state) == {("kernel", index) for index in range(len(found))}
