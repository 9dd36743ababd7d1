"""Which sizes a class is asked for beside those of the lesson, and what a case needs of memory."""

import functools
import random
import types

import pytest
import torch
from grading import ADD, NEEDED

from checks.grader.grading import cases
from checks.grader.grading.cases import HIDDEN, HIDDEN_NUMBERS, TRIES, CaseSet, held_values, vary
from checks.judge.exercise import Case
from checks.judge.trial import Outcome


def vector(N: int) -> Case:
    return Case(f"N={N}", lambda _: {"x": torch.zeros(N)})


def number(N: int) -> Case:
    return Case(f"N={N}", lambda _: {"N": N})


def case_set(monkeypatch, *asked: Case, tried=None) -> CaseSet:
    """Of an exercise with these cases. `tried`: an outcome's status by the case's inputs, or what it raises."""
    def prepare(exercise, case, seed):
        assert seed == 5
        return Outcome(case, case.inputs(None), ())

    def try_case(exercise, function, case, seed):
        assert (function, seed) == ("the answer", 5)
        outcome = prepare(exercise, case, seed)
        outcome.status = tried(outcome.inputs) if tried else "passed"
        return outcome

    monkeypatch.setattr(cases, "prepare", prepare)
    monkeypatch.setattr(cases, "try_case", try_case)
    return CaseSet(types.SimpleNamespace(name="e", cases=asked, answer_function=lambda: "the answer"), 5)


@pytest.mark.parametrize("make, wanted", [(vector, HIDDEN), (number, HIDDEN_NUMBERS)], ids=["tensors", "numbers"])
def test_hidden_sizes_are_those_that_the_answer_passes(monkeypatch, make, wanted):
    def tried(inputs):
        seen.append(len(inputs["x"]) if "x" in inputs else inputs["N"])
        if seen[-1] % 2:
            raise ValueError("the inputs do not allow it")
        return "failed" if seen[-1] % 4 else "passed"

    seen: list[int] = []
    found = case_set(monkeypatch, make(400), make(100_000), tried=tried)
    sizes = [len(one["x"]) if "x" in one else one["N"] for one in (found.asked(case).inputs for case in found.hidden)]
    assert len(sizes) == min(wanted, len([size for size in seen if size % 4 == 0])) > 1
    assert all(size % 4 == 0 for size in sizes) and {size > 1000 for size in sizes} == {True, False}
    assert [case.name for case in found.hidden] == [f"hidden case {n}" for n in range(1, len(sizes) + 1)]
    assert found.hidden is found.hidden and found.only_numbers == (make is number)
    seen.clear()
    assert case_set(monkeypatch, make(400), tried=lambda inputs: seen.append(1) or "crashed").hidden == ()
    assert len(seen) == TRIES * wanted


@pytest.mark.parametrize("other, hidden", [
    ({"x": torch.ones(4), "n": 1}, 0), ({"x": torch.ones(5), "n": 1}, HIDDEN), ({"x": torch.ones(4), "n": 2}, HIDDEN),
    ({"x": torch.ones(2, 2), "n": 1}, HIDDEN), (None, 0)], ids=["same", "longer", "number", "axes", "none"])
def test_a_case_of_the_same_sizes_is_not_hidden(monkeypatch, other, hidden):
    monkeypatch.setattr(cases, "vary", lambda base, name, rng: other and Case(name, lambda _: other))
    found = case_set(monkeypatch, Case("base", lambda _: {"x": torch.zeros(4), "n": 1}))
    assert len(found.hidden) == hidden


def test_inputs_are_made_once():
    found = CaseSet(NEEDED, 5)
    assert found.asked(NEEDED.cases[0]) is found.asked(NEEDED.cases[0]) is not found.asked(NEEDED.cases[1])
    assert (found.answer.case, found.answer.outputs) == (NEEDED.cases[0], ()) and found.answer is found.answer
    x, other = (CaseSet(ADD, seed).asked(ADD.cases[0]).inputs["x"] for seed in (5, 6))
    assert not torch.equal(x, other)


def test_how_much_memory_a_child_may_have(monkeypatch):
    """Of the case that spans most, three times what its inputs span with the gaps between their rows."""
    far = torch.empty(0, dtype=torch.int16).as_strided((0, 1), (1, 1))
    wide = torch.zeros(5000, dtype=torch.int16).as_strided((3, 4), (2000, 1))
    asked = [Case("a", lambda _: {"x": torch.zeros(7), "n": 10**9}), Case("b", lambda _: {"x": wide, "y": torch.zeros(2)}),
             Case("c", lambda _: {"x": far})]
    assert case_set(monkeypatch, *asked).data_bytes == 2 * 2**30 + 3 * (2 * (2 * 2000 + 3) + 4)


def test_what_a_case_s_function_holds():
    assert held_values(number(7)) == {"N": 7}
    for make in (functools.partial(dict, N=7), lambda _: {"N": 7}, dict):
        assert held_values(Case("c", make)) == {} and vary(Case("c", make), "new", random.Random(0)) is None


def drawn(name: str, value) -> set:
    """What a number of this name becomes."""
    held = {name: value}
    case = Case("c", lambda _: held)
    return {held_values(vary(case, "new", random.Random(seed)) or case)["held"][name] for seed in range(300)}


@pytest.mark.parametrize("name, value, least, most", [
    ("N", 2, 3, 4), ("N", 7, 8, 9), ("N", 16, 17, 20), ("N", 100, 101, 125), ("N", 148, 149, 185),
    ("N", 10**6, 10**6 + 1, 10**6 + 37),
    ("N", 1, 1, 1), ("N", 0, 0, 0), ("N", -3, -3, -3), ("BLOCK_M", 16, 16, 32), ("num_warps", 4, 4, 8), ("low", 5, 5, 5),
    ("high", 5, 5, 5), ("name", "text", "text", "text"), ("flag", True, True, True), ("flag", False, False, False)])
def test_which_numbers_are_drawn(name, value, least, most):
    found = drawn(name, value)
    assert (min(found), max(found)) == (least, most)
    if name in ("BLOCK_M", "num_warps"):
        assert found == {least, most}


@pytest.mark.parametrize("name, value, least, most", [
    ("scale", 2.0, 2.1, 3.0), ("scale", -2.0, -3.0, -2.1), ("part", 0.5, 0.525, 0.75), ("part", 0.9, 0.905, 0.95),
    ("scale", 1.0, 1.05, 1.5), ("scale", 0.0, 0.0, 0.0), ("low", 2.0, 2.1, 3.0), ("high", 0.5, 0.525, 0.75)])
def test_between_which_fractions_is_drawn(name, value, least, most):
    """A part of something stays one."""
    found = drawn(name, value)
    room = 0.1 * (most - least)
    assert least <= min(found) <= least + room and most - room <= max(found) <= most
