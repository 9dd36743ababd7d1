"""From a child's answers to outcomes and rubric items: what is believed, which sizes are drawn, what a GPU adds."""

import random
import types
from collections import Counter

import pytest
import torch
from grading import ADD, NEEDED

from checks.executor import CompileError
from checks.exercises import EXERCISES
from checks.grader import gpu
from checks.grader.course import read_course
from checks.grader.grading import outcomes, runs, said, verdicts
from checks.grader.grading.cases import HIDDEN, HIDDEN_NUMBERS, CaseSet, vary
from checks.grader.grading.notebooks import Ran
from checks.grader.results import new_exercise_result
from checks.grader.sandbox.client import Child, ChildExited, Fault
from checks.grader.sandbox.values import encode
from checks.judge import pipeline
from checks.judge.execution import Raced
from checks.judge.exercise import Case, WrongAnswer, numbers
from checks.judge.launches import OutOfBounds
from checks.judge.pipeline import Verdict
from checks.judge.trial import PASSED

# what a child says

OURS = {one.__name__: one for one in (WrongAnswer, TimeoutError, MemoryError, Raced, CompileError)}


@pytest.mark.parametrize("error, kind, text", [
    ({"type": "ValueError", "text": "no"}, "ValueError", "no"), ({"type": "not a name", "text": "x"}, "Error", "x"),
    ({"type": "WrongAnswer", "text": "x"}, WrongAnswer.__name__, "x"), ({"type": "TimeoutError"}, "TimeoutError", ""),
    ({"type": "OutOfMemoryError", "text": "x"}, "MemoryError", "x"), ({"type": "MemoryError"}, "MemoryError", ""),
    ({"type": "LimitExceeded"}, "TimeoutError", ""), ({"type": "Raced"}, "Raced", ""),
    ({"type": "CompileError", "text": "x"}, "CompileError", "x"),
    ({"type": "RuntimeError", "text": "can't allocate memory"}, "MemoryError", "can't allocate memory"),
    ({"type": "OutOfBounds", "text": "x", "bounds": [1]}, "OutOfBounds", "x"), (None, "Error", ""), ("text", "Error", ""),
    ({"type": "OutOfBounds", "text": "x", "bounds": ["load", "x_ptr", ["a"], [0], 1, [2], 3, False]}, "OutOfBounds", "x")])
def test_an_error_is_made_anew_from_its_text(error, kind, text):
    made = outcomes.rebuilt_error(error)
    assert type(made).__name__ == kind and str(made) == text
    assert type(made) is OURS.get(kind, type(made)), "which a case's outcome tells by its type"


def test_an_access_out_of_bounds_is_made_anew():
    others = [["store", "y_ptr", [0, 0, 0], 9, 1]]
    error = {"type": "OutOfBounds", "text": "", "bounds": ["load", "x_ptr", [1, 2, 3], [4], 5, [6], 7, True, False, others]}
    made = outcomes.rebuilt_error(error)
    same = OutOfBounds("load", "x_ptr", (1, 2, 3), (4,), 5, (6,), 7, True, False, (("store", "y_ptr", (0, 0, 0), 9, 1),))
    assert made.same_as(same) and made.shape == same.shape and made.lane == same.lane
    assert type(made) is OutOfBounds and str(made) == str(same)


def launch(**more) -> dict:
    return {"kernel": "k", "traffic": [["load", "x_ptr", 8], ["store", "out_ptr", 4]], "footprint": [["load", "x_ptr", 4]],
            "accesses": 3, "options": {"num_warps": 4, "name": "x"}, "signature": {"x_ptr": "*fp32"}} | more


def test_a_launch_is_known_by_its_sums():
    found = outcomes.launch_summary(launch(secret="x"))
    assert found.kernel == "k" and len(found.accesses) == 3
    assert found.traffic() == Counter({("load", "x_ptr"): 8, ("store", "out_ptr"): 4})
    assert found.footprint() == Counter({("load", "x_ptr"): 4})
    assert found.options == {"num_warps": 4}, "numbers alone"


def answer(**more) -> tuple[dict, bytes]:
    described, raw = encode([torch.ones(2), torch.tensor([True, False]), torch.tensor([False, True, True])])
    return {"outputs": described[:1], "maps": [["stored", 0, described[1]], ["loaded", "x", described[2]]], "broken": [],
            "changed": [], "error": None, "launches": [launch()]} | more, raw


def assessed(said: dict, raw: bytes) -> outcomes.ChildOutcome:
    expected = ADD.oracle(x=torch.ones(2), y=torch.zeros(2), BLOCK=2)
    outcome = outcomes.ChildOutcome(ADD.cases[0], {"x": torch.ones(3), "y": torch.ones(2), "BLOCK": 2}, expected)
    outcomes.assess_answer(ADD, outcome, said, raw)
    return outcome


def test_an_answer_becomes_an_outcome():
    outcome = assessed(*answer())
    assert outcome.status == PASSED, outcome.message
    assert outcome.stored(0).tolist() == [True, False]
    assert outcome.loaded("x").tolist() == [False, True, True]
    assert outcome.loaded("y") is None
    outcome.maps.clear()
    assert outcome.stored(0).tolist() == [False, False], "what no map shows is not stored"


@pytest.mark.parametrize("more, said", [
    ({"error": {"type": "ValueError", "text": "no", "line": "x = 1"}}, "raised ValueError: no\n  at: x = 1"),
    ({"broken": ["out"]}, "writes outside `out`"), ({"changed": ["x"]}, "changes its input `x`"),
    ({"outputs": []}, "returns 0 value")])
def test_what_an_answer_admits(more, said):
    outcome = assessed(*answer(maps=[], **more))
    assert outcome.status != PASSED and said in outcome.message


def test_a_name_that_is_no_input_is_not_believed():
    assert assessed(*answer(changed=["<b>"])).status == PASSED


@pytest.mark.parametrize("more", [
    {"outputs": None}, {"outputs": [["tensor", "float32", [3], [1], 12]]}, {"launches": [{}]}, {"launches": 7},
    {"maps": [["stored", 0, ["plain", True]]]}, {"maps": [["stored", 5, ["plain", True]]]}, {"maps": [7]},
    {"maps": [["loaded", "z", ["tensor", "bool", [2], [1], 2]]]}, {"maps": [["stored", 0, ["tensor", "bool", [1], [1], 1]]]},
    {"maps": [["stored", 0, ["tensor", "uint8", [2], [1], 2]]]}, {"broken": 7},
    {"launches": [launch(traffic=[["load", "x"]])]}, {"launches": [launch(options=[1])]}])
def test_what_is_no_answer(more):
    with pytest.raises(ChildExited, match="what came back is no result"):
        assessed(*answer(**more))


def test_operators_that_compute_and_operators_that_lay_out():
    done = runs.Run(answers=[{"operators": {"aten::view": 1, "aten::add.Tensor": 2}}, {"operators": {"aten::mm": 1}}, {}])
    assert runs.operators_outside(ADD, done) == ["aten::add.Tensor", "aten::mm"]
    for name in ("aten::sum", "aten::mul.Tensor", "aten::arange"):
        assert runs.operators_outside(ADD, runs.Run(answers=[{"operators": {name: 1}}])) == [name]
    for name in ("aten::empty.memory_format", "aten::zero_", "aten::as_strided", "aten::t", "aten::copy_"):
        assert runs.operators_outside(ADD, runs.Run(answers=[{"operators": {name: 1}}])) == []


def test_what_an_open_program_leaves_behind():
    done = runs.Run(answers=[{"threads": 0, "files": ["b"]}, {"threads": 2, "files": ["a", "b"]}])
    found = runs.left_behind(done)
    assert found == ["threads were still running after the result was returned", "files were written: a, b"]
    done.trust = runs.PROVEN
    assert runs.left_behind(done) == runs.left_behind(runs.Run(answers=[{"threads": 0, "files": []}])) == []


def test_what_a_child_says_is_made_what_it_should_be():
    uses = {"function": "f" * 300, "uses": ["a", 7]}
    assert said.candidates({"candidates": [uses, {"own_wrapper": 1, "uses": 7}]}) == [
        said.Candidate("f" * 200, False, frozenset({"a", "7"})), said.Candidate("None", True, frozenset())]
    for odd in (7, [7], None):
        with pytest.raises(ChildExited, match="what came back is no result"):
            said.candidates({"candidates": odd})
    assert said.cell_errors({"errors": [7, {"cell": 1, "line": 5}]}) == [
        {"cell": 1, "type": "None", "text": "None", "line": "5"}]
    assert said.cell_errors({"errors": 7}) == said.cell_errors({}) == []
    assert runs.operators_outside(ADD, runs.Run(answers=[{"operators": 7}])) == []


def test_what_is_lent_to_an_exercise():
    lesson = {name for name, one in EXERCISES.items() if one.lesson == NEEDED.lesson}
    assert runs.lendable(NEEDED) == lesson - {NEEDED.name} >= {"vector_add_kernel"}
    assert runs.lendable(ADD) == {name for name in lesson if not name.endswith("_kernel")}, "which would do its work"


@pytest.mark.parametrize("answer", [
    {"error": "text"}, {"recording": 7, "constants": []}, {}, {"recording": {}, "constants": [["tensor"]]}])
def test_what_is_no_recording(answer):
    child = types.SimpleNamespace(ask=lambda *_: (answer, b""))
    with pytest.raises(ChildExited, match="what came back is no result"):
        runs._record(ADD, child, runs._Asked(0, False, ()), {"x": torch.ones(2)})


@pytest.mark.parametrize("told, kind, text", [
    ({"reason": "memory", "signal": 9, "code": -9}, "out of memory", "too much memory"),
    ({"reason": "ended", "signal": 9, "code": -9}, "out of memory", "too much memory"),
    ({"reason": "time", "signal": 9, "code": -9}, "timeout", "did not finish"),
    ({"reason": "ended", "signal": 24, "code": -24}, "timeout", "did not finish"),
    ({"reason": "ended", "signal": 11, "code": -11}, "crashed", "signal 11"),
    ({"reason": "ended", "signal": None, "code": 91}, "crashed", "broke down while"),
    ({"reason": "ended", "signal": None, "code": 3}, "crashed", "with code 3")])
def test_why_a_child_exited(told, kind, text):
    child = types.SimpleNamespace(finish=lambda: told, kind="run")
    why = Child._why(child)
    assert isinstance(why, ChildExited) and why.kind == kind and text in why.reason == str(why)


@pytest.mark.parametrize("told, kind", [({}, "run"), ({"reason": "ended", "signal": None, "code": 91}, "compile")])
def test_whose_fault_it_is_not(told, kind):
    assert isinstance(Child._why(types.SimpleNamespace(finish=lambda: told, kind=kind)), Fault)


@pytest.mark.parametrize("kind, status", [("timeout", "timeout"), ("out of memory", "out of memory"),
                                          ("crashed", "crashed")])
def test_a_case_at_which_the_child_exits(kind, status):
    """The cases before it keep their outcomes; those after it have none."""
    def ask(question, payload, seconds):
        if len(asked) == 1:
            raise ChildExited("it died.", kind)
        asked.append(question)
        described, raw = encode([4])
        return {"outputs": described, "launches": []}, raw

    asked, cases = [], (numbers(N=1000, BLOCK=256), numbers(N=7, BLOCK=2), numbers(N=8, BLOCK=2))
    dropped = []
    sandbox = types.SimpleNamespace(notebooks=types.SimpleNamespace(drop=lambda *how: dropped.append(how)))
    ran = Ran(types.SimpleNamespace(ask=ask), [], True)
    done = runs._called(CaseSet(NEEDED, 1), sandbox, ran, runs._Asked(0, False, ()), cases)
    assert dropped == [(ran, kind)]
    assert [outcome.status for outcome in done.outcomes] == [PASSED, status]
    assert done.outcomes[1].message == f"On the case '{cases[1].name}' it died."
    assert not done.passed


# hidden sizes


def held(case: Case) -> dict:
    return dict(zip(case.inputs.__code__.co_freevars, (cell.cell_contents for cell in case.inputs.__closure__), strict=True))


def made(**sizes) -> Case:
    M, BLOCK_M, low, scale = (sizes[name] for name in ("M", "BLOCK_M", "low", "scale"))
    flag, one, shape = (sizes[name] for name in ("flag", "one", "shape"))
    return Case("case", lambda generator: {"M": M, "BLOCK_M": BLOCK_M, "low": low, "scale": scale, "flag": flag, "one": one,
                                           "shape": shape})


SIZES = {"M": 100, "BLOCK_M": 16, "low": -5, "scale": 2.0, "flag": True, "one": 1, "shape": {"K": 40, "BLOCK": 32}}


def test_sizes_are_drawn_and_the_rest_is_kept():
    drawn = [held(vary(made(**SIZES), "new", random.Random(seed))) for seed in range(50)]
    for other in drawn:
        assert {name: other[name] for name in ("BLOCK_M", "low", "flag", "one")} == {
            "BLOCK_M": 16, "low": -5, "flag": True, "one": 1}
        assert 101 <= other["M"] <= 125 and 2.1 <= other["scale"] <= 3.0
        assert other["shape"]["K"] >= 41
    assert len({other["M"] for other in drawn}) > 10
    assert {other["shape"]["BLOCK"] for other in drawn} == {32, 64}, "where numbers alone are asked for"
    small = [held(vary(made(**SIZES | {"M": 3}), "new", random.Random(seed)))["M"] for seed in range(50)]
    assert set(small) == {4, 5}
    assert held(made(**SIZES)) == SIZES


def test_equal_sizes_and_multiples_stay_so():
    sizes = {"sizes": {"M": 64, "N": 64, "K": 256, "BLOCK": 16, "part": 0.5, "prime": 7}}
    drawn = [held(vary(made_of(sizes), "new", random.Random(seed)))["sizes"] for seed in range(50)]
    assert {other["K"] // other["M"] for other in drawn} == {4, 5, 6}
    for other in drawn:
        assert other["M"] == other["N"] and other["M"] % other["BLOCK"] == 0 and other["K"] % other["M"] == 0
        assert 0 < other["part"] < 1 and other["BLOCK"] in (16, 32) and other["prime"] > 7


def test_numbers_by_place_move_with_the_size():
    """Such as the wrong elements of a vector, whose answer is their place."""
    drawn = [held(vary(made_of({"sizes": {"wrong": {3: 1.0, 5: 2.0}}}), "new", random.Random(seed))) for seed in range(20)]
    assert {tuple(other["sizes"]["wrong"]) for other in drawn} == {(3, 5), (4, 6)}


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.name)
def test_numbers_alone_are_always_asked_for_in_other_sizes(exercise):
    """A table of the lesson's numbers must not pass; and no exercise's sizes break the draw."""
    drawn = [vary(case, "new", random.Random(0)) for case in exercise.cases]
    only_numbers = not any(isinstance(value, torch.Tensor) for case in exercise.cases
                           for value in CaseSet(exercise, 1).asked(case).inputs.values())
    assert any(drawn) or not only_numbers
    if exercise.name in ("uniform_mean_square", "accumulator_registers", "time_us", "benchmark"):
        assert len(CaseSet(exercise, 1).hidden) == HIDDEN_NUMBERS


def made_of(held):
    sizes = held["sizes"]
    return Case("case", lambda generator: dict(sizes))


def test_sizes_may_be_given_and_some_cases_have_none():
    other = vary(made(**SIZES), "large", random.Random(0), {"M": 4096})
    assert other.name == "large" and held(other) == SIZES | {"M": 4096}
    assert vary(made(**SIZES), "same", random.Random(0), {"M": 100}) is None
    assert vary(Case("none", lambda generator: {"x": 1}), "new", random.Random(0)) is None


def test_the_seed_decides_hidden_cases():
    sizes = [[str(CaseSet(NEEDED, seed).asked(case).inputs) for case in CaseSet(NEEDED, seed).hidden] for seed in (1, 1, 2)]
    assert len(sizes[0]) == HIDDEN_NUMBERS and len(CaseSet(ADD, 1).hidden) == HIDDEN
    assert sizes[0] == sizes[1] != sizes[2]


def test_which_exercises_a_table_could_answer():
    assert CaseSet(NEEDED, 1).only_numbers
    assert not CaseSet(ADD, 1).only_numbers


def test_memory_is_for_what_the_inputs_reserve():
    wide = Case("wide", lambda generator: {"x": torch.empty_strided((2, 3), (2**20, 1)), "n": 3})
    exercise = type("Asked", (), {"cases": (wide,), "oracle": lambda self, **_: ()})()  # which can be hashed
    assert CaseSet(exercise, 1).data_bytes == 2 * 2**30 + 3 * 4 * (2**20 + 2)


# which of a function's ways is graded

RIGHT, TORCH = {"right": True}, {"right": True, "kernel": False}
WRONG, REFUSED = {}, {"error": TypeError("takes 2 positional arguments")}


@pytest.mark.parametrize("ways, chosen", [
    ([RIGHT, RIGHT], 0), ([WRONG, RIGHT], 1), ([REFUSED, RIGHT], 1), ([TORCH, RIGHT], 1), ([TORCH, WRONG], 0),
    ([WRONG, TORCH], 0), ([REFUSED, WRONG], 1), ([REFUSED, TORCH], 1), ([REFUSED, REFUSED], 0), ([WRONG, REFUSED], 0)])
@pytest.mark.parametrize("exercise", [ADD, NEEDED], ids=["a kernel", "a plain function"])
def test_which_way_to_mean_a_function_is_graded(monkeypatch, exercise, ways, chosen):
    made = [types.SimpleNamespace(**{"right": False, "kernel": True} | way,
                                  outcomes=[types.SimpleNamespace(error=way.get("error"))]) for way in ways]
    monkeypatch.setattr(verdicts, "runs_of", lambda *_: iter(made))
    monkeypatch.setattr(verdicts, "_right", lambda done, _: done.right)
    monkeypatch.setattr(verdicts, "_not_triton", lambda _, done: None if done.kernel else "torch computed it")
    if exercise is NEEDED:
        chosen = next((place for place, way in enumerate(ways) if way.get("right")), chosen)
    assert verdicts._best(types.SimpleNamespace(exercise=exercise, hidden=()), None, None) is made[chosen]


# a GPU


@pytest.mark.parametrize("yours, state, flagged", [(10.0, "right", False), (12.5, "right", False), (12.6, "wrong", False),
                                                   (0.9, "right", True)])
def test_speed_on_a_gpu(monkeypatch, yours, state, flagged):
    monkeypatch.setattr(verdicts, "on_gpu", lambda *_: (None, {"yours": yours, "answer": 10.0, "floor": 1.0}))
    result = new_exercise_result(ADD, 3.0)
    items = verdicts._on_gpu(CaseSet(ADD, 1), runs.Run(), None, None, result)
    assert items["fast"][0] == state and f"{yours:.1f} us" in items["fast"][1]
    assert [flag["kind"] for flag in result["flags"]] == (["too fast"] if flagged else [])
    assert result["times_us"]["yours"] == yours


def test_what_cannot_be_played_on_a_gpu_is_flagged(monkeypatch):
    def refuse(*_):
        raise runs.NeedsNumbers("a tensor descriptor")
    monkeypatch.setattr(verdicts, "on_gpu", refuse)
    result = new_exercise_result(ADD, 3.0)
    assert verdicts._on_gpu(CaseSet(ADD, 1), runs.Run(), None, None, result) == {}
    assert result["flags"] == [{"kind": "not on the GPU", "text": "it was not tried on the GPU: a tensor descriptor"}]


def test_what_is_wrong_on_a_gpu_alone(monkeypatch):
    for found, items in ((("it hangs.", None), {"public": "wrong"}), ((None, None), {})):
        monkeypatch.setattr(verdicts, "on_gpu", lambda *_, found=found: found)
        result = new_exercise_result(ADD, 3.0)
        given = verdicts._on_gpu(CaseSet(ADD, 1), runs.Run(), None, None, result)
        assert {name: state for name, (state, _) in given.items()} == items
    monkeypatch.setattr(verdicts, "on_gpu", lambda *_: ("it hangs.", None))
    verdicts._on_gpu(CaseSet(ADD, 1), runs.Run(), None, None, result)
    assert result["status"] == "failed" and "not on the GPU. it hangs." in result["message"]


def timed(answer) -> dict | None:
    """The times of a child that answers so."""
    def ask(question, payload, seconds):
        if isinstance(answer, Exception):
            raise answer
        assert set(question["time"]) == {"yours", "answer"} and len(question["time"]["answer"]["texts"]) == 1
        return answer, b""

    compiler = types.SimpleNamespace(texts=lambda launches, for_gpu: [{"text": ""} for _ in launches])
    return gpu.times(CaseSet(ADD, 1), runs.Run(record=lambda inputs: gpu._answers_recording(ADD, inputs)), compiler,
                     types.SimpleNamespace(ask=ask))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(gpu, "LARGE", 40)


def test_times_are_medians_beside_what_memory_allows(small):
    found = timed({"times": {"yours": [3, 1, 2], "answer": [5.0, 4.0, 9.0]}})
    assert found == {"yours": 2.0, "answer": 5.0, "floor": pytest.approx(3 * 4 * 1600 / 10e12 * 1e6)}


@pytest.mark.parametrize("answer", [{}, {"times": 7}, {"times": {"yours": [], "answer": []}}, {"times": {"yours": ["x"]}},
                                    ChildExited("died")], ids=str)
def test_times_that_are_none(small, answer):
    assert timed(answer) is None


@pytest.mark.parametrize("names, size", [(("N",), 4096**2), (("N", "K"), 4096), (("M", "N", "K"), 2048), ((), None)])
def test_how_large_a_timed_case_is(names, size):
    M, N, K = 2, 3, 4
    cases = {0: Case("c", lambda g: {"x": 1}), 1: Case("c", lambda g: {"N": N}), 2: Case("c", lambda g: {"N": N, "K": K}),
             3: Case("c", lambda g: {"M": M, "N": N, "K": K})}
    large = gpu.large(cases[len(names)])
    assert (large and large.inputs(None)) == (dict.fromkeys(names, size) if names else None)


# what the rubric makes of a run


def items_of(monkeypatch, statuses: list[str], only_numbers: bool) -> tuple[dict, dict]:
    """The items and the result of a run whose cases had these statuses, those beyond the lesson's being hidden."""
    def wrong_result(evidence, wrong, outcomes):
        return Verdict(NEEDED, wrong.status, f"{NEEDED.name}: {wrong.case.name} is wrong", outcome=wrong)

    for module in (verdicts, pipeline):
        monkeypatch.setattr(module, "wrong_result", wrong_result)
    shown = len(NEEDED.cases)
    cases = [*NEEDED.cases, *(numbers(N=number, BLOCK=1) for number in range(2))]
    done = runs.Run(outcomes=[outcomes.ChildOutcome(case, {}, (), status=status)
                              for case, status in zip(cases, [PASSED] * shown + statuses, strict=False)])
    found = new_exercise_result(NEEDED, 1.0)
    case_set = types.SimpleNamespace(exercise=NEEDED, seed=0, hidden=tuple(cases[shown:]), only_numbers=only_numbers)
    items = verdicts._items(case_set, types.SimpleNamespace(source=""), done, None, found)
    return {name: state for name, (state, _) in items.items()}, found


@pytest.mark.parametrize(("statuses", "only_numbers", "states", "said"), [
    (["passed", "passed"], False, {"public": "right", "hidden": "right"}, "right on 5 cases"),
    (["passed", "passed"], True, {"public": "right", "hidden": "right"}, "right on 5 cases"),
    (["passed", "failed"], False, {"public": "right", "hidden": "wrong"}, "wrong on other sizes. N=1, BLOCK=1 is wrong"),
    (["passed", "failed"], True, {"public": "wrong", "hidden": "wrong"}, "right only for the numbers that the lesson shows"),
    (["passed"], False, {"public": "right", "hidden": "wrong"}, "it stopped before the sizes that the lesson does not")])
def test_sizes_that_the_lesson_does_not_show(monkeypatch, statuses, only_numbers, states, said):
    found, result = items_of(monkeypatch, statuses, only_numbers)
    assert found == states and said in result["message"] and result["status"] == (
        PASSED if set(states.values()) == {"right"} else "failed")


@pytest.mark.parametrize(("status", "points"), [(verdicts.HELD, 0.0), (PASSED, 4.0), ("failed", 4.0)])
def test_what_is_held_has_no_points_yet(status, points):
    course = read_course()
    course.points[NEEDED.name] = 4.0
    found = new_exercise_result(NEEDED, 4.0) | {"status": status}
    scored = verdicts._score(found, course, NEEDED, {"public": ("right", "said"), "hidden": ("right", "")})
    assert scored["points"] == points and sum(item["earned"] for item in scored["items"].values()) == 4.0
