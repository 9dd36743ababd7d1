"""`workshop.py dev seeds` finds the answer that is right on most seeds alone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from checks.dev.command import main
from checks.dev.seeds import refused
from checks.exercises import EXERCISES
from checks.exercises.outliers import with_outliers
from checks.judge.exercise import Case

NAME = "matmul_decomposed"


def sometimes_near_a_tie(g: torch.Generator) -> dict:
    """A channel that is scaled decides of what its row's codes are fractions: with one seed of 20 one lies near a half."""
    made = with_outliers(4, 5, 32, (3,))(g)
    made["w"][:, 8] *= 8
    return made


def test_seeds_on_which_an_answer_is_refused():
    sound = EXERCISES[NAME]
    once = Case("large weights in an ordinary channel, M=4 N=5 K=32", sometimes_near_a_tie)  # seeds go by a case's name
    name, failures = refused(NAME, range(6, 11), {NAME: replace(sound, cases=(once,))})
    assert name == NAME and [seed for seed, _ in failures] == [8]
    assert once.name in failures[0][1]


def test_no_code_of_large_weights_lies_near_a_tie():
    assert refused(NAME, range(100)) == (NAME, [])


def test_the_command_tries_what_it_is_told(monkeypatch, capsys):
    monkeypatch.setattr("checks.dev.seeds.ProcessPoolExecutor", lambda count, mp_context: ThreadPoolExecutor(1))
    assert main(["seeds", "programs_needed", "--number", "2"]) == 0
    assert capsys.readouterr().out == "programs_needed: refused on 0 of 2 seeds\n"


def test_an_unknown_exercise_is_named(capsys):
    assert main(["seeds", "no_such"]) == 1 and "no_such" in capsys.readouterr().err


def test_each_refused_answer_is_told_with_its_seed(monkeypatch, capsys):
    asked = []

    def made(names, seeds):
        asked.append((names, seeds))
        yield "one", []
        yield "two", [(9, "two: wrong"), (11, "two: wrong again")]

    monkeypatch.setattr("checks.dev.command.refused_answers", made)
    assert main(["seeds", "one", "two", "--number", "7", "--first", "5"]) == 1
    assert asked == [(["one", "two"], range(5, 12))]
    assert capsys.readouterr().out.splitlines() == [
        "one: refused on 0 of 7 seeds", "two: refused on 2 of 7 seeds", "  seed 9: two: wrong"]
    assert main(["seeds"]) == 1 and asked[1] == ([], range(100))
