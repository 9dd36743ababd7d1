"""In which ways a function is tried: its notebook run again or alone, its calls recorded and played back, or made."""

import itertools
import types

import pytest
import torch
from grading import ADD, NEEDED

from checks.exercises import EXERCISES
from checks.grader import gpu
from checks.grader.grading import runs
from checks.grader.grading.cases import CaseSet
from checks.grader.grading.notebooks import Ran
from checks.grader.intake.code import Code
from checks.grader.intake.library import library_for
from checks.grader.sandbox.client import ChildExited
from checks.grader.sandbox.values import decode, encode
from checks.host.recorder import record
from checks.host.transport import pack
from checks.judge.trial import PASSED, TIMEOUT_S

TIMER = next(one for one in EXERCISES.values() if one.adapter is not None)  # which is tried through a harness


class Child:
    """Answers each mode by a function of what it is asked, and notes what that was."""

    def __init__(self, **modes):
        self.modes, self.asked = modes, []

    def ask(self, question: dict, payload: bytes, seconds: float):
        assert seconds == TIMEOUT_S
        self.asked.append(question)
        answer = self.modes[question["mode"].replace(" ", "_")](question, payload)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, tuple) else (answer, b"")


class Notebooks:
    """Run in the same child each time, except where `ends` holds (numbers, alone); a dropped one is run anew."""

    def __init__(self, child: Child, ends=()):
        self.child, self.ends, self.asked, self.dropped, self.clocks, self.deadline = child, ends, [], [], 0, 7.0
        self.errors: list[dict] = []

    def restart_clock(self) -> None:
        self.clocks += 1

    def run(self, exercise, code, numbers, alone=False, lent=()) -> Ran:
        self.asked.append((numbers, alone, lent))
        if (numbers, alone) in self.ends:
            raise ChildExited("it died.")
        return Ran(self.child, self.errors, numbers, {exercise.name})

    def drop(self, ran: Ran, how: str) -> None:
        ran.ended = how
        self.dropped.append(how)


# once more, alone


def ways(monkeypatch, exercise, *found: dict, influenced=False, ends=(), after=lambda ran: None):
    """The runs of a notebook in which these candidates were found; and the notebooks, and which candidates were tried."""
    def tried_one(case_set, code, sandbox, ran, asked, cases):
        tried.append((asked.candidate, asked.alone, asked.lent))
        after(ran)
        return runs.Run()

    tried, said = list[tuple](), itertools.cycle([influenced] if isinstance(influenced, bool) else influenced)
    child = Child(candidates=lambda *_: {"candidates": list(found), "influenced": False},
                  influenced=lambda *_: {"influenced": next(said)})
    notebooks = Notebooks(child, ends)
    monkeypatch.setattr(runs, "_run", tried_one)
    sandbox = types.SimpleNamespace(notebooks=notebooks)
    return list(runs.runs_of(CaseSet(exercise, 1), Code(), sandbox, exercise.cases)), notebooks, tried


@pytest.mark.parametrize("exercise, ends, asked", [
    (NEEDED, [], [True]), (NEEDED, [(True, False)], [True, False]), (ADD, [], [False]), (ADD, [(True, False)], [False])],
    ids=["plain", "too slow with numbers", "kernel", "kernel anyhow"])
def test_which_tensors_of_a_notebook_have_numbers(monkeypatch, exercise, ends, asked):
    (done,), notebooks, _ = ways(monkeypatch, exercise, {"function": "f", "own_wrapper": True}, ends=ends)
    assert notebooks.asked == [(numbers, False, ()) for numbers in asked] and notebooks.clocks == 1
    assert (done.function, done.own_wrapper, done.notice, done.problem) == ("f", True, "", None)


OTHERS = ["first_wrong", "vector_add_kernel"]


@pytest.mark.parametrize("uses, influenced, lent, notice", [
    ([], False, None, ""), (["x", NEEDED.name], False, None, ""), ([], True, (), ""),
    (OTHERS[:1], False, (OTHERS[0],), "judged with our `first_wrong`, for with yours it is not right"),
    (OTHERS[::-1], True, tuple(OTHERS),
     "judged with our `first_wrong` and `vector_add_kernel`, for with yours it is not right")], ids=str)
def test_what_is_tried_alone_and_with_what_of_ours(monkeypatch, uses, influenced, lent, notice):
    """Where another exercise may have a part in what a function did, and not else."""
    found = {"function": "f", "uses": uses}
    done, notebooks, tried = ways(monkeypatch, NEEDED, found, {"function": "g"}, influenced=influenced)
    rounds = [(False, ())] + ([(True, lent)] if lent is not None else [])
    assert tried == [(index, alone, given) for alone, given in rounds for index in (0, 1)]
    assert notebooks.asked == [(True, alone, given) for alone, given in rounds]
    assert [one.notice for one in done] == ["", "", notice, notice][:len(done)] and len(done) == 2 * len(rounds)
    question = notebooks.child.asked[0]
    assert question == {"mode": "candidates", "name": NEEDED.name, "wrapper": None, "others": sorted(runs.lendable(NEEDED))}


@pytest.mark.parametrize("uses, influenced, lent", [
    ([[], []], [True, False], ()), ([[], []], [False, True], ()), ([OTHERS[:1], []], False, tuple(OTHERS[:1])),
    ([[], OTHERS[:1]], False, tuple(OTHERS[:1])), ([OTHERS[:1], OTHERS[1:]], False, tuple(OTHERS)),
    ([OTHERS[1:], OTHERS[:1]], True, tuple(OTHERS))], ids=str)
def test_each_function_that_may_be_meant_has_a_say(monkeypatch, uses, influenced, lent):
    found = [{"function": str(n), "uses": names} for n, names in enumerate(uses)]
    done, _, tried = ways(monkeypatch, NEEDED, *found, influenced=influenced)
    assert tried == [(index, alone, given) for alone, given in ((False, ()), (True, lent)) for index in (0, 1)]
    assert [one.function for one in done] == ["0", "1"] * 2


def test_no_more_than_a_few_functions_are_tried(monkeypatch):
    assert len(ways(monkeypatch, NEEDED, *({"function": str(n)} for n in range(9)))[0]) == runs.MOST_CANDIDATES


def test_after_a_child_has_ended_the_next_function_has_another(monkeypatch):
    def end(ran):
        if len(ended) < 2:
            ran.ended = "timeout"
            ended.append(ran)

    ended: list[Ran] = []
    notebooks = ways(monkeypatch, ADD, {"function": "f"}, {"function": "g"}, {"function": "h"}, after=end)[1]
    assert notebooks.asked == [(False, False, ())] * 3


@pytest.mark.parametrize("ends_alone", [False, True])
def test_a_notebook_that_ends_is_run_with_ours(monkeypatch, ends_alone):
    ends = [(True, False), (False, False)] + ([(True, True), (False, True)] if ends_alone else [])
    (done,), notebooks, tried = ways(monkeypatch, NEEDED, {"function": "f", "uses": OTHERS}, ends=ends)
    lent = tuple(sorted(runs.lendable(NEEDED)))
    assert notebooks.asked[2] == (True, True, lent) and notebooks.clocks == 2, "with time of its own"
    if ends_alone:
        assert [(one.case, one.status) for one in done.outcomes] == [(NEEDED.cases[0], "crashed")] and not tried
    else:
        assert tried == [(0, True, lent)] and done.notice.startswith("judged with our answers to the lesson's other")


@pytest.mark.parametrize("answer, suspect", [({"influenced": False}, False), ({"influenced": True}, True), ({}, True)])
def test_a_child_that_does_not_say_so_is_suspect(answer, suspect):
    ran = Ran(Child(candidates=lambda *_: answer | {"candidates": []}), [], True)
    assert runs._candidates(NEEDED, ran) == [] and ran.suspect is suspect


ERRORS = [{"cell": 0, "type": "NameError", "text": "a", "line": None}, *(
    {"cell": 1, "type": kind, "text": "t" * 500, "line": "x[0]"} for kind in (*runs.NO_NUMBERS, "ValueError", "KeyError"))]


@pytest.mark.parametrize("errors, said", [
    (ERRORS, f"ValueError: {'t' * 400}\n  at: x[0]"), (ERRORS[:1], None), (ERRORS[:3], None), ([], None),
    ([{"cell": 1, "type": "E", "text": "a", "line": None}], "E: a")], ids=["mine", "other's", "numbers", "none", "no line"])
def test_what_the_cell_of_an_exercise_raised(monkeypatch, errors, said):
    """What is only for want of numbers says nothing, nor does another cell."""
    code = Code(index=1)
    monkeypatch.setattr(runs, "_run", lambda *_: runs.Run())
    notebooks = Notebooks(Child(candidates=lambda *_: {"candidates": found, "influenced": False},
                                influenced=lambda *_: {"influenced": False}))
    notebooks.errors = errors
    for found in ([{"function": "f"}], []):
        (done,) = runs.runs_of(CaseSet(NEEDED, 1), code, types.SimpleNamespace(notebooks=notebooks), NEEDED.cases)
        if found:
            assert done.cell_error == said and done.problem is None
        else:
            assert done.problem == (("crashed", f"its cell did not run: {said}") if said else
                                    ("missing", f"its cell does not define `{NEEDED.name}`."))


# recorded and played back


CASES = CaseSet(ADD, 1)


def sums(question: dict, payload: bytes) -> tuple[dict, bytes]:
    """The right answer."""
    x, y, *_ = decode(list(question["inputs"].values()), payload)
    described, raw = encode([x + y])
    return {"outputs": described, "launches": [], "operators": {"aten::add.Tensor": 1}}, raw


def zeros(question: dict, payload: bytes) -> tuple[dict, bytes]:
    described, raw = encode([torch.zeros_like(decode(list(question["inputs"].values()), payload)[0])])
    return {"outputs": described, "launches": [], "changed": ["x"], "broken": ["out"]}, raw


def inputs_of(question: dict) -> dict:
    shape = question["inputs"]["x"][2]
    return next(inputs for case in ADD.cases if [*(inputs := CASES.asked(case).inputs)["x"].shape] == shape)


def recorded(question: dict, payload: bytes) -> dict:
    return {"recording": gpu._answers_recording(ADD, inputs_of(question)).data, "constants": []}


class Played:
    """Plays recordings back by adding, and notes what it was asked; `answers` by the number of the question."""

    def __init__(self, answers: dict):
        self.answers, self.asked = answers, []

    def ask(self, case_set, question, payload, until):
        assert until == 7.0 and question["input_bytes"] == len(payload) and question["maps"] is True
        self.asked.append(question["texts"])
        answer = self.answers.get(len(self.asked), sums)
        if isinstance(answer, Exception):
            raise answer
        return answer(question, payload) if callable(answer) else (answer, b"")


def tried(child: Child, answers=(), cases=ADD.cases, ends=(), texts=None) -> tuple[runs.Run, Notebooks, Played]:
    """What came of the first candidate of a kernel's exercise."""
    def compiled(launches, until):
        assert until == 7.0
        return texts or [{"text": str(number)} for number, _ in enumerate(launches)]

    notebooks, player = Notebooks(child, ends), Played(dict(answers))
    sandbox = types.SimpleNamespace(notebooks=notebooks, player=player, compiler=types.SimpleNamespace(texts=compiled))
    done = runs._run(CASES, Code(), sandbox, Ran(child, [], False), runs._Asked(2, False, ("a",)), cases)
    return done, notebooks, player


def test_every_case_is_recorded_and_then_played():
    done, notebooks, player = tried(child := Child(record=recorded))
    assert done.passed and done.trust == runs.PROVEN and len(done.outcomes) == len(done.answers) == len(ADD.cases)
    assert player.asked == [[{"text": str(number)}] for number in range(len(ADD.cases))], "each launch has its own text"
    assert [case for case, _ in done.recordings] == list(ADD.cases) and len(done.launches) == 1
    assert not notebooks.asked and not notebooks.dropped and done.operators == [] and not done.own_wrapper
    question = child.asked[0]
    assert {name: question[name] for name in ("mode", "name", "wrapper", "candidate", "through", "maps")} == {
        "mode": "record", "name": ADD.name, "wrapper": ADD.wrapper, "candidate": 2, "through": None, "maps": True}
    assert question["entry_code"] == library_for(ADD).entry_code and question["inputs"]["BLOCK"] == ["plain", 128]
    again = done.record(CASES.asked(ADD.cases[1]).inputs)
    assert again.data == done.recordings[1][1].data and child.asked[-1]["inputs"]["x"][2] == [64]


ERROR = {"type": "KeyError", "text": "'n'", "line": "x = y"}


@pytest.mark.parametrize("second, statuses, played, dropped", [
    ({"error": ERROR}, [PASSED, "crashed", *[PASSED] * 3], 4, []),
    ({"error": ERROR | {"type": "TimeoutError"}}, [PASSED, "timeout"], 1, []),
    (ChildExited("it hangs.", "timeout"), [PASSED, "timeout"], 1, ["timeout"]),
    (ChildExited("it died."), [PASSED, "crashed"], 1, ["crashed"])], ids=str)
def test_a_call_that_cannot_be_recorded(second, statuses, played, dropped):
    child = Child(record=lambda *asked: second if len(child.asked) == 2 else recorded(*asked))
    done, notebooks, player = tried(child)
    assert [one.status for one in done.outcomes] == statuses and len(player.asked) == played
    assert notebooks.dropped == dropped and len(child.asked) == (2 if dropped else len(ADD.cases))
    assert f"On the case '{ADD.cases[1].name}' it " in done.outcomes[1].message
    if statuses[2:]:
        assert "raised KeyError: 'n'\n  at: x = y" in done.outcomes[1].message and done.answers[1] == {}


@pytest.mark.parametrize("second, statuses", [
    (ChildExited("it died."), [PASSED, "crashed"]),
    ({"error": {"type": "TimeoutError"}, "outputs": []}, [PASSED, "timeout"]),
    ({"error": {"type": "Raced", "text": "it races."}, "outputs": []}, [PASSED, "failed", *[PASSED] * 3])], ids=str)
def test_a_recording_that_cannot_be_played_to_its_end(second, statuses):
    assert [one.status for one in tried(Child(record=recorded), {2: second})[0].outcomes] == statuses


def test_kernels_that_cannot_be_compiled_in_time():
    class Late:
        def __iter__(self):
            raise ChildExited("it hangs.", "timeout")

    (outcome,) = tried(Child(record=recorded), texts=Late())[0].outcomes
    assert (outcome.case, outcome.status) == (ADD.cases[0], "timeout")


WHY = {"looks": ("the code around the kernel looks at numbers: x.item()", {}),
       "unsupported": ("its kernel cannot be executed here: a histogram", {1: {"unsupported": "a histogram"}})}


@pytest.mark.parametrize("why", WHY)
@pytest.mark.parametrize("without, decoyed, evidence", [
    (zeros, sums, {"no launches": False, "decoys": True}), (sums, zeros, {"no launches": True, "decoys": False}),
    (lambda *_: ChildExited("it died."), sums, {"no launches": False, "decoys": True})], ids=["honest", "torch", "ends"])
def test_what_needs_numbers_is_called_and_looked_at(why, without, decoyed, evidence):
    """Signs of a kernel that did nothing: of what was written in place of a result, only the result is looked at."""
    def answers_with(*asked):
        return {"needs_numbers": "x.item()"} if why == "looks" else recorded(*asked)

    text, answers = WHY[why]
    child = Child(record=answers_with, plain=sums, no_launches=without, decoys=decoyed)
    done, notebooks, _ = tried(child, answers)
    assert notebooks.asked == [(True, True, ("a",))] and done.why_open == text and done.trust == runs.OPEN
    assert done.passed and done.evidence == evidence and done.operators == ["aten::add.Tensor"]
    assert [one["mode"] for one in child.asked][-7:] == ["plain"] * 5 + ["no launches", "decoys"]
    assert child.asked[-1]["candidate"] == 2 and child.asked[-1]["inputs"]["x"][2] == [300]


def test_what_is_wrong_is_not_looked_at_any_more():
    child = Child(record=lambda *_: {"needs_numbers": "x.item()"}, plain=zeros)
    done, _, _ = tried(child)
    assert not done.passed and done.evidence == {} and len(done.outcomes) == len(ADD.cases)
    (ended,) = tried(child, ends=[(True, True)])[0].outcomes
    assert (ended.case, ended.status) == (ADD.cases[0], "crashed")
    assert ended.message == f"On the case '{ADD.cases[0].name}' it died."


def test_torch_that_computes_beside_the_kernel_is_named():
    def with_torch(question, payload):
        ours = ADD.callable_for(ADD.answer_function())
        return {"recording": pack(record(lambda **given: ours(**given).mul(1), inputs_of(question))), "constants": []}

    assert tried(Child(record=with_torch))[0].operators == ["aten::mul.Tensor"]


@pytest.mark.parametrize("exercise, trust", [(NEEDED, runs.OPEN), (TIMER, runs.HARNESS)], ids=["by bytes", "harness"])
@pytest.mark.parametrize("kind, status, count", [
    ("TimeoutError", "timeout", 1), ("MemoryError", "out of memory", 1), ("KeyError", "crashed", 3)])
def test_what_ends_the_calls_of_a_plain_function(exercise, trust, kind, status, count):
    """What was at work when time or memory was over is not asked again."""
    child = Child(plain=lambda *_: {"outputs": [], "error": {"type": kind, "text": "x"}})
    notebooks = Notebooks(child)
    cases = exercise.cases[:1] * 3
    done = runs._run(CaseSet(exercise, 1), Code(), types.SimpleNamespace(notebooks=notebooks), Ran(child, [], True),
                     runs._Asked(0, False, ()), cases)
    assert done.trust == trust and [one.status for one in done.outcomes] == [status] * count
    assert notebooks.dropped == ([status] if count == 1 else []) and not notebooks.asked
    assert child.asked[0]["through"] == library_for(exercise).through and child.asked[0]["maps"] is False


def test_a_case_that_ends_is_the_last_one():
    """The one under way if it has an outcome, else a new one."""
    assert not runs.Run().passed
    case_set, (first, second, third) = CaseSet(ADD, 1), ADD.cases[:3]
    for case, count in ((second, 2), (third, 3)):
        done = runs.Run(outcomes=[runs.blank(case_set, one) for one in (first, second)])
        assert done.passed
        runs._end(case_set, done, case, ChildExited("it died.", "out of memory"))
        assert [one.status for one in done.outcomes] == [PASSED] * (count - 1) + ["out of memory"]
        assert done.outcomes[-1].case is case and str(done.outcomes[-1].error) == "it died." and not done.passed
