"""When two wrong results are the same mistake, and what is said where none is known."""

from dataclasses import replace

import pytest
import torch

from checks.exercises import EXERCISES
from checks.judge import diagnosis
from checks.judge.execution import Raced
from checks.judge.exercise import Exercise, Expected, Mutant, numbers
from checks.judge.launches import OutOfBounds
from checks.judge.trial import TIMEOUT, Outcome
from checks.judge.variations import Variation

NAN, INF = float("nan"), float("inf")
CASE = numbers(n=3)
GEMV_BYTES = EXERCISES["gemv_bytes"]


@pytest.mark.parametrize(("a", "b", "tolerance", "same"), [
    (3, 3, 0.0, True), (3, 3.0, 0.0, True), (3, 4, 0.0, False), (10, 10.5, 1.0, True), (10, 11.5, 1.0, False),
    (1e-3, 2e-3, 1.0, False), (NAN, NAN, 0.0, True), (NAN, 1, 1.0, False), (3, "3", 0.0, False), ("3", "3", 0.0, False),
    (torch.tensor(3), 3, 0.0, False), (3, torch.tensor(3), 0.0, False),
    (torch.ones(2), torch.ones(2), 0.0, True), (torch.ones(2), torch.ones(2, 1), 9.0, False),
    (torch.ones(2), torch.ones(2).half(), 9.0, False), (torch.tensor([1.0, NAN]), torch.tensor([1.0, NAN]), 0.0, True),
    (torch.tensor([1.0, NAN]), torch.ones(2), 9.0, False), (torch.tensor([INF]), torch.tensor([INF]), 0.0, True),
    (torch.ones(2), torch.full((2,), 1.5), 0.5, True), (torch.ones(2), torch.full((2,), 1.5), 0.25, False),
    (torch.ones(2), torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]), True),
    (torch.ones(3), torch.full((3,), 1.5), torch.tensor([1.0, 1.0]), False),  # of another shape: no bound is theirs
    (torch.ones(3), torch.ones(3), torch.tensor([1.0, 1.0]), True)])
def test_when_two_values_are_the_same_mistake(a, b, tolerance, same):
    assert diagnosis._same_value(a, b, Expected(0.0, tolerance), False) is same


RIGHT = torch.zeros(200)


@pytest.mark.parametrize(("a", "b", "same"), [
    (torch.full((200,), 1.01), torch.ones(200), True), (torch.full((200,), 1.03), torch.ones(200), False),
    (torch.ones(200).index_fill(0, torch.tensor([3, 7]), 5.0), torch.ones(200), True),
    (torch.ones(200).index_fill(0, torch.tensor([3, 7, 9]), 5.0), torch.ones(200), False),
    (RIGHT.index_fill(0, torch.tensor([3]), 5.0), RIGHT, False),
    (torch.ones(200).index_fill(0, torch.arange(100), NAN), torch.ones(200), True),  # lanes of a load without `other`
    (torch.ones(200).index_fill(0, torch.arange(101), NAN), torch.ones(200), False),
    (torch.ones(200), torch.full((200,), INF), False)])
def test_results_added_in_another_order_are_the_same_mistake(a, b, same):
    assert diagnosis._same_value(a, b, Expected(RIGHT.double(), 1e-6), 0.02) is same
    assert diagnosis._same_value(a, b, Expected(RIGHT.double(), 1e-6), False) is False


def bounds(offset: int) -> OutOfBounds:
    return OutOfBounds("load", "x_ptr", (0, 0, 0), (1,), offset, (4,), 1, True)


@pytest.mark.parametrize(("mine", "theirs", "alike"), [
    ({}, {}, True), ({"status": "failed"}, {}, False), ({"unwritten": True}, {}, False), ({"outputs": (1, 2)}, {}, False),
    ({"outputs": (2,)}, {}, False), ({"error": ValueError("a")}, {"error": ValueError("a")}, True),
    ({"error": ValueError("a")}, {"error": ValueError("b")}, False),
    ({"error": ValueError("a")}, {"error": KeyError("a")}, False), ({"error": ValueError("a")}, {}, False),
    ({}, {"error": ValueError("a")}, False),
    ({"error": Raced("a, /tmp/1.py:3")}, {"error": Raced("a, <cell>:7")}, True),
    ({"error": bounds(5)}, {"error": bounds(5)}, True), ({"error": bounds(5)}, {"error": bounds(6)}, False)])
def test_when_two_outcomes_are_the_same_mistake(mine, theirs, alike):
    plain = Outcome(CASE, {}, (Expected(1),), outputs=(1,))
    assert diagnosis._alike(replace(plain, **mine), replace(plain, **theirs)) is alike


CASES = (numbers(n=2), numbers(n=5))
# On n=2 both mutants below give 4; n=5 tells them apart.
EXERCISE = Exercise("any", "lesson", 1, CASES, lambda n: (Expected(n),),
                    (Mutant("doubles", {}, ""), Mutant("squares", {}, "")),
                    explain=lambda outcome: f"{outcome.outputs[0]} is no {outcome.expected[0].value}")
DOES = {"doubles": lambda n: 2 * n, "squares": lambda n: n * n}


@pytest.mark.parametrize(("said", "mutant"), [((4, 10), "doubles"), ((4, 25), "squares"), ((4, 11), None), ((2, 25), None)])
def test_a_mutant_is_recognised_by_all_cases(monkeypatch, said, mutant):
    monkeypatch.setattr(Exercise, "mutated", lambda self, mutant: DOES[mutant.name])
    outcomes = [Outcome(case, {"n": n}, (Expected(n),), outputs=(got,), status="passed" if got == n else "failed")
                for case, n, got in zip(CASES, (2, 5), said, strict=True)]
    monkeypatch.setattr(diagnosis, "_tried", {})
    found = diagnosis.recognise(EXERCISE, outcomes, seed=0)
    assert (found and found.name) == mutant


def test_what_came_of_a_mutant_is_kept_for_nothing_else(monkeypatch):
    """Another exercise, mutant, case or draw of the inputs is tried anew; the same one is not."""
    tried = []
    monkeypatch.setattr(diagnosis, "_tried", {})
    monkeypatch.setattr(Exercise, "mutated", lambda self, mutant: (self.name, mutant.name))
    monkeypatch.setattr(diagnosis, "try_again", lambda exercise, function, seen: (
        tried.append(function) or Outcome(seen.case, {}, ())))
    base = {"exercise": EXERCISE, "mutant": EXERCISE.mutants[0], "case": CASES[0], "seed": 0}
    others = {"exercise": replace(EXERCISE, name="another"), "mutant": EXERCISE.mutants[1], "case": CASES[1], "seed": 1}
    asked = [base, *(base | {name: other} for name, other in others.items())]
    found = [diagnosis._mutant_on(one["exercise"], one["mutant"], Outcome(one["case"], {}, ()), one["seed"])
             for one in asked + asked]
    assert len(tried) == len(asked)
    assert all(first is again for first, again in zip(found[:len(asked)], found[len(asked):], strict=True))


def test_what_came_of_two_mutants_and_of_a_variation_is_kept(monkeypatch):
    made, tried = [], []
    monkeypatch.setattr(diagnosis, "_tried", {})
    monkeypatch.setattr(diagnosis, "_of_two", lambda *names: made.append(names))
    monkeypatch.setattr(diagnosis, "varied", lambda *names: made.append(names))
    monkeypatch.setattr(diagnosis, "variations_of", lambda name: [Variation(text, "said") for text in ("one", "another")])
    monkeypatch.setattr(diagnosis, "try_again", lambda exercise, function, seen: (
        tried.append(seen.case.name) or Outcome(seen.case, {}, (), outputs=(4,))))
    outcomes = [Outcome(case, {}, (Expected(3),), outputs=(4,)) for case in CASES]
    outcomes[1].outputs = (5,)
    for seed in (0, 0, 1):
        for find in (diagnosis._two_mutants, diagnosis._variation):
            assert find(EXERCISE, outcomes, seed) is None
    assert tried == [case.name for case in CASES] * 6
    assert len(made) == 6, "a function for both cases"


@pytest.mark.parametrize(("status", "times"), [("passed", 1), ("failed", 1), ("crashed", 1), (TIMEOUT, 3)])
def test_a_mutant_that_took_too_long_once_is_tried_again(monkeypatch, status, times):
    tried = []
    monkeypatch.setattr(diagnosis, "_tried", {})
    monkeypatch.setattr(Exercise, "mutated", lambda self, mutant: mutant.name)
    monkeypatch.setattr(diagnosis, "try_again", lambda exercise, function, seen: (
        tried.append(function) or Outcome(seen.case, {}, (), status=status)))
    for _ in range(3):
        outcome, _ = diagnosis._mutant_on(EXERCISE, EXERCISE.mutants[0], Outcome(CASES[0], {}, ()), 0)
        assert outcome.status == status
    assert len(tried) == times


@pytest.mark.parametrize(("outputs", "said"), [
    ((3,), "3 is no 5"), ((2.5,), "2.5 is no 5"), ((torch.tensor(3),), None), ((None,), None), ((3, 4), None), ((), None)])
def test_the_exercise_explains_as_many_numbers_as_wanted(outputs, said):
    outcome = Outcome(CASE, {}, (Expected(5),), outputs=outputs)
    assert diagnosis.explained(EXERCISE, outcome) == said
    assert diagnosis.explained(replace(EXERCISE, explain=None), outcome) is None


@pytest.mark.parametrize(("read", "needed", "wrong", "said"), [
    ([True, True, False], [True] * 3, True, "1 of the 3 elements of `x` are never read, all in x[2]."),
    ([False, False, False], [True] * 3, True, "3 of the 3 elements of `x` are never read."),
    ([True, False, False], [True, True, False], True, "1 of the 3 elements of `x` are never read, all in x[1]."),
    ([True, True, False], [True, True, False], True, None),
    ([True, True, True], [True] * 3, True, None), (None, None, True, None), ([True, True, False], [True] * 3, None, None)])
def test_a_wrong_result_with_a_trace_says_what_was_never_read(monkeypatch, read, needed, wrong, said):
    answer = Outcome(CASE, {}, ())
    monkeypatch.setattr(diagnosis, "try_again", lambda *_: answer)
    monkeypatch.setattr(Exercise, "answer_function", lambda self: None)
    monkeypatch.setattr(Outcome, "loaded", lambda self, name: None if read is None or name == "n" else torch.tensor(
        needed if self is answer else read))
    outcome = Outcome(CASE, {"n": 3, "x": torch.ones(3)}, (), wrong=wrong and torch.ones(3, dtype=torch.bool))
    assert diagnosis.never_read(EXERCISE, outcome) == said


@pytest.mark.parametrize(("doubles", "squares", "found"), [
    (("passed", {"x": 1}), ("passed", {}), "squares"), (("failed", {}), ("passed", {}), "squares"),
    (("passed", {}), ("passed", {}), "doubles"), (("passed", {"x": 1}), ("passed", {"x": 1}), None)])
def test_a_mutant_of_the_same_traffic_must_be_right_too(monkeypatch, doubles, squares, found):
    does = {"doubles": doubles, "squares": squares}
    monkeypatch.setattr(diagnosis, "_mutant_on", lambda _, mutant, seen, seed: (
        Outcome(seen.case, {}, (), status=does[mutant.name][0]), does[mutant.name][1]))
    mutant = diagnosis.recognise_traffic(EXERCISE, Outcome(CASE, {}, ()), seed=0)
    assert (mutant and mutant.name) == found


FINDERS = {"slip": "_slip", "message": "hints.in_message", "repaired": "_repaired", "explained": "explained",
           "relation": "relation", "nearly": "_nearly_a_mutant", "variation": "_variation", "two": "_two_mutants",
           "unread": "never_read"}


@pytest.mark.parametrize(("wrapper", "error", "order"), [
    (None, None, "repaired explained slip relation unused nearly variation two unread"),
    ("any", None, "slip repaired explained relation unused nearly variation two unread"),
    (None, ValueError(), "repaired variation message explained slip relation unused nearly two unread"),
    ("any", ValueError(), "message slip repaired variation explained relation unused nearly two unread")])
def test_in_what_order_reasons_are_looked_for(monkeypatch, wrapper, error, order):
    there = {*FINDERS, "unused"}

    def finds(name):
        return lambda *given: next((one for one in ("unused" if given[-1] is diagnosis.slips.find_unused else name,)
                                    if one in there), None)

    for name, place in FINDERS.items():
        monkeypatch.setattr(f"checks.judge.diagnosis.{place}", finds(name))
    outcomes = [Outcome(CASE, {}, ()), Outcome(CASE, {}, (), status="failed", error=error)]
    found = []
    while (said := diagnosis.reason(replace(EXERCISE, wrapper=wrapper), "", outcomes, 0)) is not None:
        found.append(said)
        there.remove(said)
    assert found == order.split() and there <= {"message"}


def another_type_error() -> Exception:
    return type("TypeError", (Exception,), {})()


@pytest.mark.parametrize(("error", "said"), [
    (TypeError(), "other arguments than those given"), (another_type_error(), "other arguments than those given"),
    (ValueError(), "`return` hands it back"), (None, "`return` hands it back")])
def test_other_arguments_are_told_where_a_call_was_refused(error, said):
    mine = "def gemv_bytes(N):\n    print(N)\n"
    assert said in diagnosis.certain_slip(GEMV_BYTES, mine, error)
    assert diagnosis.certain_slip(GEMV_BYTES, mine.replace("gemv_bytes", "other"), error) is None, "no function of this name"
    assert diagnosis.certain_slip(GEMV_BYTES, "def f(:", error) is None


@pytest.mark.parametrize(("changes", "asked"), [
    ({}, True), ({"wrapper": "any"}, False), ({"adapter": lambda function: 3}, False), ({"status": TIMEOUT}, False),
    ({"launches": ["one"]}, False)])
def test_variations_are_for_plain_functions_alone(monkeypatch, changes, asked):
    variation = Variation("source", "`a` were left out")
    monkeypatch.setattr(diagnosis, "variations_of", lambda name: [variation])
    monkeypatch.setattr(diagnosis, "_does_the_same", lambda *given: given[1] == ("source",))
    exercise = replace(EXERCISE, **{name: value for name, value in changes.items() if name in ("wrapper", "adapter")})
    seen = [Outcome(CASE, {}, ()), Outcome(CASE, {}, (), **{name: value for name, value in changes.items()
                                                            if name in ("status", "launches")})]
    assert diagnosis._variation(exercise, seen, 0) == ("It comes out as if `a` were left out." if asked else None)


def test_two_mistakes_at_once_are_told_with_the_advice_on_both(monkeypatch):
    mutants = tuple(Mutant(name, {name: ""}, f"{name.upper()}.") for name in "abc")
    monkeypatch.setattr(diagnosis, "_tried", {})
    monkeypatch.setattr(Exercise, "edited", lambda self, *edits: [old for old, _ in edits])
    monkeypatch.setattr(diagnosis, "try_again", lambda exercise, function, seen: Outcome(
        CASE, {}, (), status="failed", outputs=(7 if function == ["b", "c"] else 8,)))
    failed = [Outcome(CASE, {}, (Expected(1),), status="failed", outputs=(7,))]
    exercise = replace(EXERCISE, mutants=mutants)
    assert diagnosis._two_mutants(exercise, failed, 0) == "two mistakes at once, b, and c. B. C."
    assert diagnosis._two_mutants(replace(exercise, wrapper="any"), failed, 0) is None, "kernels take too long"


@pytest.mark.parametrize("error", [ValueError, SyntaxError])
def test_two_mutants_of_one_text_are_passed_over(monkeypatch, error):
    def edited(self, *edits):
        raise error

    monkeypatch.setattr(Exercise, "edited", edited)
    monkeypatch.setattr(diagnosis, "_tried", {})
    assert diagnosis._two_mutants(EXERCISE, [Outcome(CASE, {}, (), status="failed")], 0) is None


@pytest.mark.parametrize(("mutant_does", "said"), [
    ("same same right", "doubles. Twice."), ("same right right", "doubles. Twice. It is not the only mistake: it does not "
     "explain the case 'n=2'."), ("same other right", "doubles. Twice."), ("right same right",
     "doubles. Twice. It is not the only "
     "mistake: it does not explain the case 'n=1'."), ("other other right", None), ("same same other", None),
    ("right right right", None)])
def test_a_mutant_that_explains_some_of_the_cases(monkeypatch, mutant_does, said):
    cases = [numbers(n=n) for n in (1, 2, 3)]
    does = dict(zip((case.name for case in cases), mutant_does.split(), strict=True))
    want = (Expected(torch.zeros(2), 0.0, torch.float32),)
    outcomes = [Outcome(case, {}, want, status="passed" if case.name == "n=3" else "failed", outputs=(torch.ones(2),))
                for case in cases]
    monkeypatch.setattr(diagnosis, "_mutant_on", lambda exercise, mutant, seen, seed: (replace(
        seen, status="passed" if does[seen.case.name] == "right" else "failed",
        outputs=(torch.ones(2) * (3 if does[seen.case.name] != "same" or mutant.name != "doubles" else 1),)), None))
    exercise = replace(EXERCISE, mutants=(Mutant("squares", {}, ""), Mutant("doubles", {}, "Twice.")))
    assert diagnosis._nearly_a_mutant(exercise, outcomes, 0) == said
    for outcome in outcomes:
        outcome.expected = (Expected(1.0),)
    assert diagnosis._nearly_a_mutant(exercise, outcomes, 0) is None, "of single numbers"


def test_outcomes_of_mutants_are_kept_without_what_is_large(monkeypatch):
    monkeypatch.setattr(diagnosis, "_tried", tried := {})
    monkeypatch.setattr(diagnosis, "KEPT", 2)
    monkeypatch.setattr(Exercise, "mutated", lambda self, mutant: None)

    def fails(*_):
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("then")  # noqa: B904
        except ValueError as error:
            return Outcome(CASE, {"x": 1}, (Expected(1),), {"x": 1}, error=error, wrong=torch.ones(1), made=[1], outputs=(3,
                ))

    monkeypatch.setattr(diagnosis, "try_again", fails)
    for seed in (0, 1, 2):
        kept, traffic = diagnosis._mutant_on(EXERCISE, EXERCISE.mutants[0], Outcome(CASE, {}, ()), seed)
        assert len(tried) == (1, 2, 1)[seed] and not traffic
    assert (kept.inputs, kept.given, kept.expected, kept.launches, kept.wrong, kept.made) == ({}, {}, (), [], None, None)
    assert (kept.error.__traceback__, kept.error.__context__, kept.outputs) == (None, None, (3,))
