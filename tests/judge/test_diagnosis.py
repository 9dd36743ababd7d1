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
    (1e-3, 2e-3, 1.0, False), (1, 1.09, 1.0, True), (1, 1.15, 1.0, False), (NAN, NAN, 0.0, True), (NAN, 1, 1.0, False),
    (1, NAN, 1.0, False), (3, "3", 0.0, False), ("3", "3", 0.0, False),
    (torch.tensor(3), 3, 0.0, False), (3, torch.tensor(3), 0.0, False),
    (torch.ones(2), torch.ones(2), 0.0, True), (torch.ones(2), torch.ones(2, 1), 9.0, False),
    (torch.ones(2), torch.ones(2).half(), 9.0, False), (torch.tensor([1.0, NAN]), torch.tensor([1.0, NAN]), 0.0, True),
    (torch.tensor([1.0, NAN]), torch.ones(2), 9.0, False), (torch.tensor([INF]), torch.tensor([INF]), 0.0, True),
    (torch.ones(2), torch.full((2,), 1.5), 0.5, True), (torch.ones(2), torch.full((2,), 1.5), 0.25, False),
    (torch.ones(2), torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]), True),
    (torch.tensor([127], dtype=torch.int8), torch.tensor([-128], dtype=torch.int8), 1.0, False),
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


@pytest.mark.parametrize("wrong", [4.0, 6.0, -3.0])
def test_how_far_another_order_may_be_off_goes_by_the_mistake(wrong):
    want, off = Expected(torch.full((200,), 5.0).double(), 1e-6), abs(wrong - 5.0)
    for part, same in ((0.019, True), (-0.019, True), (0.021, False), (-0.021, False)):
        assert diagnosis._same_value(torch.full((200,), wrong + part * off), torch.full((200,), wrong), want, 0.02) is same
    for other in (want, Expected(5.0, 1e-6)):
        assert diagnosis._same_value(torch.ones(3), torch.ones(3), other, 0.02), "alike, of no shape that is wanted"
        assert not diagnosis._same_value(torch.ones(3), torch.full((3,), 1.01), other, 0.02)


def bounds(offset: int, **more) -> OutOfBounds:
    return OutOfBounds(**{"kind": "load", "tensor": "x_ptr", "program": (0, 0, 0), "lane": (1,), "offset": offset,
                          "shape": (4,), "lanes": 1, "masked": True} | more)


@pytest.mark.parametrize(("other", "alike"), [
    (bounds(6), True), (bounds(5, masked=False, shape=(7,)), True), (bounds(6, kind="store"), False),
    (bounds(6, tensor="y_ptr"), False), (bounds(6, program=(1, 0, 0)), False), (bounds(6, lanes=2), False),
    (ValueError(str(bounds(5))), False), (None, False)], ids=range(8))
def test_accesses_out_of_bounds_are_nearly_alike(other, alike):
    mine, theirs = (Outcome(CASE, {}, (), error=error) for error in (bounds(5), other))
    assert diagnosis._alike(mine, theirs, 0.02) is diagnosis._alike(theirs, mine, 0.02) is alike
    assert diagnosis._alike(mine, theirs) is (alike and other.offset == 5), "exactly alike is more"


TWO = (Expected(1), Expected(2))


@pytest.mark.parametrize(("mine", "theirs", "alike"), [
    ({}, {}, True), ({"status": "failed"}, {}, False), ({"unwritten": True}, {}, False), ({"outputs": (1, 2)}, {}, False),
    ({"outputs": (2,)}, {}, False), ({"error": ValueError("a")}, {"error": ValueError("a")}, True),
    ({"error": ValueError("a")}, {"error": ValueError("b")}, False),
    ({"error": ValueError("a")}, {"error": TypeError("a")}, False),
    ({"outputs": (3, 4), "expected": TWO}, {"outputs": (3, 4)}, True),
    ({"outputs": (3, 4), "expected": TWO}, {"outputs": (3, 5)}, False),
    ({"outputs": (3, 4), "expected": TWO}, {"outputs": (5, 4)}, False), ({"error": ValueError("a")}, {}, False),
    ({}, {"error": ValueError("a")}, False),
    ({"error": Raced("a, /tmp/1.py:3")}, {"error": Raced("a, <cell>:7")}, True),
    ({"error": bounds(5)}, {"error": bounds(5)}, True), ({"error": bounds(5)}, {"error": bounds(6)}, False)])
def test_when_two_outcomes_are_the_same_mistake(mine, theirs, alike):
    plain = Outcome(CASE, {}, (Expected(1),), outputs=(1,))
    kept = replace(plain, expected=())  # as of a mutant's outcome that is kept
    assert diagnosis._alike(replace(plain, **mine), replace(kept, **theirs)) is alike


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
    both = [Outcome(CASE, {}, TWO, outputs=numbers) for numbers in ((3, 4), (3, torch.tensor(4)), (None, 4))]
    assert [diagnosis.explained(EXERCISE, one) for one in both] == ["3 is no 1", None, None]


@pytest.mark.parametrize(("read", "needed", "wrong", "said"), [
    ([True, True, False], [True] * 3, True, "1 of the 3 elements of `x` are never read, all in x[2]."),
    ([False, False, False], [True] * 3, True, "3 of the 3 elements of `x` are never read."),
    ([True, False, False], [True, True, False], True, "1 of the 3 elements of `x` are never read, all in x[1]."),
    ([True, True, False], [True, True, False], True, None),
    ([True, True, True], [True] * 3, True, None), ([True, True, False], None, True, None),
    (None, None, True, None), ([True, True, False], [True] * 3, None, None)])
def test_a_wrong_result_with_a_trace_says_what_was_never_read(monkeypatch, read, needed, wrong, said):
    answer, tried = Outcome(CASE, {}, ()), []
    monkeypatch.setattr(diagnosis, "try_again", lambda *given: tried.append(given) or answer)
    monkeypatch.setattr(Exercise, "answer_function", lambda self: "the answer")

    def loaded(self, name):
        lanes = needed if self is answer else read
        return None if lanes is None or name == "n" else torch.tensor(lanes)

    monkeypatch.setattr(Outcome, "loaded", loaded)
    outcome = Outcome(CASE, {"n": 3, "x": torch.ones(3)}, (), wrong=wrong and torch.ones(3, dtype=torch.bool))
    assert diagnosis.never_read(EXERCISE, outcome) == said
    assert tried == [(EXERCISE, "the answer", outcome)] * (read is not None and wrong is not None), "only where it may tell"


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
    there, asked = {*FINDERS, "unused"}, []

    def finds(name):
        def find(*given):
            one = "unused" if given[-1] is diagnosis.slips.find_unused else name
            asked.append((one, given))
            return one if one in there else None
        return find

    for name, place in FINDERS.items():
        monkeypatch.setattr(f"checks.judge.diagnosis.{place}", finds(name))
    outcomes = [Outcome(CASE, {}, ()), Outcome(CASE, {}, (), status="failed", error=error, message="no"),
                Outcome(CASE, {}, (), status="failed", message="later")]
    found, exercise = [], replace(EXERCISE, wrapper=wrapper)
    while (said := diagnosis.reason(exercise, "source", outcomes, 7)) is not None:
        found.append(said)
        there.remove(said)
    assert found == order.split() and there <= {"message"}
    slips = {"slip": diagnosis.slips.find_slip, "unused": diagnosis.slips.find_unused}
    wanted = {name: (exercise, "source", find) for name, find in slips.items()} | {
        "message": ("source", "no"), "repaired": (exercise, "source", outcomes), "relation": (outcomes,)} | dict.fromkeys(
        ("explained", "unread"), (exercise, outcomes[1])) | dict.fromkeys(
        ("nearly", "variation", "two"), (exercise, outcomes, 7))
    assert all(given == wanted[name] for name, given in asked)


def test_only_a_function_is_repaired_and_no_text(monkeypatch):
    asked = []
    monkeypatch.setattr(diagnosis, "repaired", lambda *given: asked.append(given) or "It is repaired.")
    assert diagnosis._repaired(EXERCISE, "def f(): pass", []) is None and not asked, "in the grader, which has its text"
    assert diagnosis._repaired(EXERCISE, finds_nothing, [3]) == "It is repaired."
    assert asked == [(EXERCISE, finds_nothing, [3])]


def finds_nothing():
    """A student's function."""


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
    asked_for = []
    monkeypatch.setattr(diagnosis, "_does_the_same", lambda *given: asked_for.append(given) or given[1] == ("source",))
    exercise = replace(EXERCISE, **{name: value for name, value in changes.items() if name in ("wrapper", "adapter")})
    seen = [Outcome(CASE, {}, ()), Outcome(CASE, {}, (), **{name: value for name, value in changes.items()
                                                            if name in ("status", "launches")})]
    assert diagnosis._variation(exercise, seen, 0) == ("It comes out as if `a` were left out." if asked else None)
    assert [(given[0], given[2].func, given[2].args, *given[3:]) for given in asked_for] == [
        (exercise, diagnosis.varied, (exercise, variation), seen, 0)] * asked


@pytest.mark.parametrize("both", ["bc", "ac", "ab"])
def test_two_mistakes_at_once_are_told_with_the_advice_on_both(monkeypatch, both):
    mutants = tuple(Mutant(name, {name: ""}, f"{name.upper()}.") for name in "abc")
    monkeypatch.setattr(diagnosis, "_tried", {})
    monkeypatch.setattr(Exercise, "edited", lambda self, *edits: [old for old, _ in edits])
    monkeypatch.setattr(diagnosis, "try_again", lambda exercise, function, seen: Outcome(
        CASE, {}, (), status="failed", outputs=(7 if function == list(both) else 8,)))
    failed = [Outcome(CASE, {}, (Expected(1),), status="failed", outputs=(7,))]
    exercise = replace(EXERCISE, mutants=mutants)
    assert diagnosis._two_mutants(exercise, failed, 0) == (
        "two mistakes at once, {}, and {}. {}. {}.".format(*both, *both.upper()))
    assert diagnosis._two_mutants(replace(exercise, wrapper="any"), failed, 0) is None, "kernels take too long"


@pytest.mark.parametrize("error", [ValueError, SyntaxError])
def test_two_mutants_of_one_text_are_passed_over(monkeypatch, error):
    def edited(self, *edits):
        raise error

    monkeypatch.setattr(Exercise, "edited", edited)
    monkeypatch.setattr(diagnosis, "_tried", {})
    assert diagnosis._two_mutants(EXERCISE, [Outcome(CASE, {}, (), status="failed")], 0) is None


COMES_TO = {"squares": {}, "doubles": {"same": 1.0, "near": 1.015, "far": 1.03}}  # where the student's comes to 1.0
ALONE = "doubles. Twice. It is not the only mistake: it does not explain the case 'n={}'."


@pytest.mark.parametrize(("mutant_does", "said"), [
    ("same same | right", "doubles. Twice."), ("same right | right", ALONE.format(2)),
    ("near near | right", "doubles. Twice."), ("far far | right", None), ("same other | right", "doubles. Twice."),
    ("right same | right", ALONE.format(1)), ("other other | right", None),
    ("same same | other", None), ("same same | right other", None), ("same same | other right", None), ("same same |",
    "doubles. Twice."), ("right right | right", None), ("same other other | right", None), ("other same same | right",
    "doubles. Twice."), ("same other right same | right", ALONE.format(3)), ("other other same same same | right", None)])
def test_a_mutant_that_explains_some_of_the_cases(monkeypatch, mutant_does, said):
    """What the mutant does on the cases that failed | and on those that passed."""
    failed, passed = (part.split() for part in mutant_does.split("|"))
    cases = [numbers(n=1 + n) for n in range(len(failed + passed))]
    does = dict(zip((case.name for case in cases), failed + passed, strict=True))
    want = (Expected(torch.zeros(2), 0.0, torch.float32),)
    outcomes = [Outcome(case, {}, want, status="failed" if at < len(failed) else "passed", outputs=(torch.ones(2),))
                for at, case in enumerate(cases)]
    monkeypatch.setattr(diagnosis, "_mutant_on", lambda exercise, mutant, seen, seed: (replace(
        seen, status="passed" if does[seen.case.name] == "right" else "failed", expected=(),
        outputs=(torch.ones(2) * COMES_TO[mutant.name].get(does[seen.case.name], 3.0),)), None))
    exercise = replace(EXERCISE, mutants=(Mutant("squares", {}, ""), Mutant("doubles", {}, "Twice.")))
    assert diagnosis._nearly_a_mutant(exercise, outcomes, 0) == said
    for numbers_wanted in ((Expected(1.0),), (*want, Expected(1.0))):
        for outcome in outcomes:
            outcome.expected = numbers_wanted
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
