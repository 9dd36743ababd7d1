"""Every exercise is as `exercises.json` has it, and `workshop.py dev record` says what has changed and writes it anew.

A case that is not what its name says, a tolerance with another factor, or a mutant that replaces something else would pass
all other tests: here each is a change, which is either meant or not.
"""

import json
import math
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from checks.dev import record as module
from checks.dev.command import main
from checks.dev.record import RECORD, RENEW, as_json, differences, read_record, record_of, renew, updated
from checks.exercises import EXERCISES, kv_cache
from checks.judge.exercise import Case, Exercise, Expected, Mutant
from checks.judge.trial import drawn
from checks.paths import ROOT

RECORDED = read_record()


@pytest.mark.parametrize("name", [*EXERCISES, *(name for name in RECORDED if name not in EXERCISES)])
def test_an_exercise_is_as_recorded(name):
    found = {name: record_of(EXERCISES[name])} if name in EXERCISES else {}
    changed = list(differences({name: RECORDED[name]} if name in RECORDED else {}, found))
    assert not changed, "\n".join(["", *changed, f"If all of this is meant: {RENEW}"])


def test_the_record_is_written_as_the_command_writes_it():
    text = RECORD.read_text(encoding="utf-8")
    assert text == as_json(RECORDED, 0) + "\n"
    assert list(RECORDED) == list(EXERCISES), f"in another order: {RENEW}"
    assert len(text.splitlines()) < 2 * sum(len(e.cases) + len(e.mutants) + 12 for e in EXERCISES.values())


def made(**changes) -> Exercise:
    """An exercise of two cases and two mutants, with something changed."""
    return replace(Exercise("vector_add_kernel", "00_hello", 2, (case(), case("large", 10.0)), doubled, MUTANTS,
                            wrapper="vector_add", outputs=("y", "ratio"), least_bytes=lambda x, **_: 8 * x.numel()),
                   **changes)


def case(name: str = "small", size: float = 1.0, dtype: torch.dtype = torch.float32, last: float = 0.0, turned: bool = False,
         **others) -> Case:
    def inputs(g: torch.Generator) -> dict:
        x = size * torch.randn(4, 5, generator=g)
        x[3, 4] += last
        return {"x": (x.T.contiguous().T if turned else x).to(dtype), "bias": None, "most": 3} | others
    return Case(name, inputs)


def doubled(x: torch.Tensor, bias, most: float, part: float = 1e-3, of=lambda y: y, dtype=torch.float32, ratio: float = 0.5
            ) -> tuple[Expected, ...]:
    y = 2 * x.double()
    return Expected(of(y), part * of(y).abs(), dtype), Expected(ratio, 1e-6 * ratio)


def otherwise(**changes) -> Exercise:
    """With an oracle that says something else."""
    return made(oracle=lambda **inputs: doubled(**inputs, **changes))


MUTANTS = (Mutant("without x", {"x + y": "y"}, "Add x."), Mutant("without y", {"x + y": "x"}, "Add y."))
SMALL, LARGE = case(), case("large", 10.0)
OF_Y, OF_RATIO = ([f"cases: {case}: {what} {name}: " for what in ("expected", "tolerance of") for case in ("small", "large")]
                  for name in ("y", "ratio"))


@pytest.mark.parametrize(("changed", "said"), [
    (made(lesson="01_gemv"), ['lesson: "00_hello" is now "01_gemv"']),
    (made(points=3), ["points: 2 is now 3"]),
    (made(name="gemv_bytes"), ['parameters: "x_ptr, y_ptr, out_ptr, N, BLOCK" is now "N, K"']),
    (made(wrapper=None), ['wrapper: "vector_add" is now null']),
    (made(outputs=("ratio", "y")), ["outputs: [\"y\", \"ratio\"] is now [\"ratio\", \"y\"]", *OF_Y, *OF_RATIO,
                                     "cases: small: in another order", "cases: large: in another order"]),
    (made(traffic_limit=1.3), ["traffic_limit: 1.25 is now 1.3"]),
    (made(moves_only=True), ["moves_only: false is now true"]),
    (made(adapter=case), ["adapter: null is now"]),
    (made(explain=case), ["explain: null is now"]),
    (made(least_bytes=None), ["large: least bytes: is no longer there", "small: least bytes: is no longer there"]),
    (made(least_bytes=lambda x, **_: 4 * x.numel()), ["large: least bytes: 160 is now 80", "small: least bytes: 160"]),
    (made(cases=(SMALL,)), ["cases: large: is no longer there"]),
    (made(cases=(SMALL, LARGE, case("other"))), ["cases: other: is new"]),
    (made(cases=(LARGE, SMALL)), ["cases: in another order"]),
    (made(cases=(SMALL, case("huge", 10.0))), ["cases: large: is no longer there", "cases: huge: is new"]),
    (made(cases=(case(size=1.001), LARGE)), ["small: x", "small: expected y", "small: tolerance of y"]),
    (made(cases=(case(size=-1.0), LARGE)), ["small: x", "small: expected y"]),
    (made(cases=(case(last=math.nan), LARGE)), ["small: x", "small: expected y", "small: tolerance of y"]),
    (made(cases=(case(dtype=torch.float16), LARGE)), ['small: x: ["float32 (4, 5)"']),
    (made(cases=(case(turned=True), LARGE)), ["small: x"]),
    (made(cases=(case(bias=torch.ones(5)), LARGE)), ["small: bias: null is now"]),
    (made(cases=(case(most=4), LARGE)), ["small: most: 3 is now 4"]),
    (made(cases=(case(most=3.0), LARGE)), ["small: most: 3 is now 3.0"]),
    (made(cases=(case(most=torch.float16), LARGE)), ['small: most: 3 is now "float16"']),
    (otherwise(part=1.001e-3), OF_Y[2:]),
    (otherwise(of=lambda y: y.flip(0)), OF_Y),
    (otherwise(of=lambda y: y.reshape(2, 10)), OF_Y),
    (otherwise(dtype=torch.float16), OF_Y[:2]),
    (otherwise(ratio=0.501), OF_RATIO),
    (made(mutants=MUTANTS[:1]), ["mutants: without y: is no longer there"]),
    (made(mutants=MUTANTS[::-1]), ["mutants: in another order"]),
    (made(mutants=(replace(MUTANTS[0], edits={"x + y": "x"}), MUTANTS[1])), ["mutants: without x: edits"]),
    (made(mutants=(replace(MUTANTS[0], edits={"x +  y": "y"}), MUTANTS[1])), ["mutants: without x: edits"]),
    (made(mutants=(MUTANTS[0], replace(MUTANTS[1], advice="Add x."))), ["mutants: without y: advice"]),
])
def test_a_change_is_said_where_it_is(changed, said):
    lines = list(differences({"a": record_of(made())}, {"a": record_of(changed)}))
    assert len(lines) == len(said) and all(any(part in line for line in lines) for part in said), lines


def test_what_is_the_same_is_not_said():
    assert not list(differences({"a": record_of(made())}, {"a": record_of(made())}))
    assert list(differences({"a": 1}, {"b": 1})) == ["a: is no longer there", "b: is new"]
    assert list(differences({"a": 1, "b": 1}, {"b": 1, "a": 1})) == ["the exercises: in another order"]


@pytest.mark.parametrize(("recorded", "found", "same"), [
    (1.0, 1.00009, True), (1.0, 1.00011, False), (1.0, 0.99989, False), (1e-9, 1.00009e-9, True), (1e-9, 2e-9, False),
    (1, 1.0, False), (10_000_000, 10_000_001, False), (math.nan, math.nan, True), (math.nan, 1.0, False), (-1.0, 1.0, False),
    (True, 1, False), (["a", 1.0], ["a", 1.00009], True), (["a", 1.0], ["b", 1.0], False), ([1.0], [1.0, 1.0], False),
    (None, 0.0, False),
])
def test_numbers_with_a_fraction_may_be_near(recorded, found, same):
    """Normal numbers have other last bits on another CPU; whole numbers are the same on each."""
    assert (list(differences({"a": recorded}, {"a": found})) == []) is same
    assert updated({"a": recorded}, {"a": found})["a"] is (recorded if same else found)


def test_a_gpu_changes_nothing(monkeypatch):
    """Into how many parts a cache is cut follows the GPU, and what each part must be follows that."""
    exercise = EXERCISES["decode_attention_int8_kernel"]
    with monkeypatch.context() as patched:
        patched.setattr(kv_cache, "tokens_of_a_part", lambda S, heads, multiprocessors: 256)
        (part, _) = exercise.oracle(**drawn(exercise.cases[0], 1))
        assert part.value.shape[2] == 1
        there = record_of(exercise)
    assert not list(differences(RECORDED[exercise.name], there))


@pytest.fixture
def exercises(monkeypatch):
    """What there is to record, for the test to change."""
    there = {"a": made(), "b": made(points=1)}
    monkeypatch.setattr(module, "EXERCISES", there)
    return there


def test_the_record_is_renewed_where_something_changed(exercises, tmp_path):
    path = tmp_path / "exercises.json"
    assert renew(path) == ["a: is new", "b: is new"]
    first = path.read_text()
    assert json.loads(first) == read_record(path) == {name: record_of(exercise) for name, exercise in exercises.items()}
    near = made(cases=(case(size=1.00001), LARGE))
    exercises["a"] = near
    assert record_of(near) != read_record(path)["a"]
    assert renew(path) == []
    assert path.read_text() == first, "numbers that are near stay as they were"
    exercises |= {"a": replace(near, points=7), "c": exercises.pop("b")}
    assert renew(path) == ["a: points: 2 is now 7", "b: is no longer there", "c: is new"]
    assert path.read_text() == first.replace('"points": 2', '"points": 7').replace('"b"', '"c"')
    assert [file.name for file in tmp_path.iterdir()] == ["exercises.json"]


def test_a_mere_skeleton_is_not_recorded(exercises, tmp_path, monkeypatch, capsys):
    exercises["new"] = made(name="row_sum_kernel", oracle=None)
    monkeypatch.setattr("checks.dev.command.renew", lambda: renew(tmp_path / "exercises.json"))
    assert main(["record"]) == 1
    assert capsys.readouterr().err.startswith("workshop.py dev: row_sum_kernel has no oracle yet: write it first, in")
    assert not list(tmp_path.iterdir())


def test_the_record_has_a_line_for_each_case_and_mutant(exercises, tmp_path):
    renew(path := tmp_path / "exercises.json")
    lines = path.read_text().splitlines()
    for name in ("small", "large", "without x", "without y"):
        assert len([line for line in lines if line.startswith(f'  "{name}": {{') and line.rstrip(",").endswith("}")]) == 2


@pytest.mark.parametrize(("changed", "said"), [
    (["a: is new", "b: points: 2 is now 7"], "a: is new\nb: points: 2 is now 7\nwrote tests/dev/exercises.json\n"),
    ([], "nothing has changed: tests/dev/exercises.json stays as it is\n")])
def test_the_command_says_what_has_changed(changed, said, monkeypatch, capsys):
    monkeypatch.setattr("checks.dev.command.renew", lambda: changed)
    monkeypatch.setattr("checks.dev.command.renew_pictures", lambda: 3)
    assert main(["record"]) == 3, "the status of the pictures"
    assert capsys.readouterr().out == said


def test_the_pictures_tests_write_their_record(monkeypatch):
    asked = []
    monkeypatch.setattr(module.subprocess, "run", lambda command, cwd, env: asked.append((command, cwd, env)) or (
        SimpleNamespace(returncode=4)))
    assert module.renew_pictures() == 4
    ((command, cwd, env),) = asked
    assert command == [sys.executable, "-m", "pytest", "-q", "-n", "0", module.PICTURES] and (cwd / module.PICTURES).exists()
    assert env == os.environ | {"RECORD": "1", "CUDA_VISIBLE_DEVICES": ""}


def test_contributors_are_told_of_the_command():
    assert f"`{RENEW}`" in (ROOT / "CONTRIBUTING.md").read_text()
