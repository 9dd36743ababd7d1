"""Wrong solutions as students write them, none of them made from ours: each fails, and its message leads with the mistake.

wrong.jsonl and, of a later round, wrong_afresh.jsonl hold a cell a line, with the words that name its mistake: a mutant's
name, or what the message begins with.
"""

import dataclasses
import json
from pathlib import Path

import pytest

from checks.course.notebooks import lessons, read, run, solve
from checks.exercises import EXERCISES
from checks.judge.pipeline import check_results, check_traffic
from checks.judge.source import define
from checks.judge.trial import try_case
from checks.judge.verdict import _answer_on, _SeenHere

WRONG = [json.loads(line) for name in ("wrong.jsonl", "wrong_afresh.jsonl")
         for line in Path(__file__).with_name(name).read_text().splitlines()]
ACCEPTED = {
    "32-bit offsets for y only": "y is as large as memory allows before an offset in it passes 2³¹, and is allocated by us",
    "multiplies by the reciprocal": "within the bound of two roundings",
    "reciprocal: x * (127 / amax)": "within the bound of two roundings",
    "tl.where without other: x / scale * 127": "within the bound of two roundings",
    "scales applied inside the K loop": "within the bound of FP32 sums, and no traffic more",
    "a fraction of a register": "`/` gives the same number where all sides are powers of two, as the exercise says",
    "fp32 accumulate": "the sums of the lesson's sizes are exact in FP32",
}


@pytest.fixture(scope="module")
def solved():
    """What each lesson's cells define, solved."""
    return {path.stem: run(solve(read(path))).namespace for path in lessons()}


def judged(wrong: dict, solved: dict):
    """The verdict up to the compiler. Only the mutants expected are tried: the contract's test tells mutants apart."""
    whole = EXERCISES[wrong["exercise"]]
    exercise = dataclasses.replace(whole, mutants=tuple(m for m in whole.mutants if m.name in (wrong["names"] or "")))
    define(wrong["cell"], None, lesson := dict(solved[exercise.lesson]))
    function = lesson[exercise.name]
    seen = _SeenHere(exercise, function, 7, [try_case(exercise, function, case, 7) for case in exercise.cases])
    verdict = check_results(seen)
    if verdict.passed and exercise.is_kernel:
        mine = seen._launched[0]
        verdict = check_traffic(seen, mine, _answer_on(whole, mine.case, 7))
    return verdict


@pytest.mark.parametrize("wrong", [pytest.param(w, id=f"{w['exercise']}: {w['mistake']}") for w in WRONG])
def test_a_wrong_solution_fails_and_is_named(wrong, solved):
    if wrong["names"] == "SyntaxError":
        with pytest.raises(SyntaxError):
            judged(wrong, solved)
        return
    verdict = judged(wrong, solved)
    if wrong["names"] is None:
        assert verdict.passed and wrong["mistake"] in ACCEPTED
    else:
        assert not verdict.passed
        assert wrong["names"] in verdict.message.split("\n")[0], verdict.message
