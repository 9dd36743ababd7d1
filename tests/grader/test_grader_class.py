"""A class from end to end: interrupted, resumed, workers that die, exit codes."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import quick_worker
import torch
from forked_class import Command
from grading import ADD, CHEAP, IMPORTS, NEEDED, exercise_cell, notebook

from checks.grader import batch, results, selftest
from checks.grader.batch import Batch, grade
from checks.grader.command import main
from checks.grader.course import DEFAULT
from checks.grader.grader import Grader
from checks.grader.intake.folder import HandedIn
from checks.grader.settings import Settings
from checks.judge.source import answer_source
from checks.paths import ROOT

WRONG = exercise_cell(ADD, answer_source(ADD.name).replace("x + y", "x - y"))


def write_class(folder: Path, students: int) -> Path:
    for index in range(students):
        (folder / f"s{index}").mkdir(parents=True)
        cells = (IMPORTS, exercise_cell(NEEDED), WRONG if index % 2 else exercise_cell(ADD))
        (folder / f"s{index}" / "work.ipynb").write_text(notebook(*cells))
    return folder


def quiet(line: str) -> None:
    """Say nothing of how far a class is."""


def stable(grades: Path) -> list[dict]:
    def strip(value):
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in results.VOLATILE}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return [strip(result) for result in results.read_results(grades)]


def test_killed_at_any_instant_and_resumed(tmp_path, fork_server):
    folder, seed = write_class(tmp_path / "sub", 6), tmp_path / "seed"
    seed.write_text("a seed")
    grades = tmp_path / "grades"
    argv = ["class", str(folder), "--out", str(grades), "--jobs", "1", "--no-compile", "--resume", "--seed-file", str(seed),
            "--exercise", CHEAP[0]]
    kept = {}
    for wanted, delay, by in ((1, 0.0, signal.SIGKILL), (3, 0.02, signal.SIGINT)):
        process = Command(argv, fork_server("run", 60), tmp_path / by.name)
        process.start()
        until = time.monotonic() + 120
        while len(list(grades.glob("students/*.json"))) < wanted and process.is_alive() and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(delay)
        os.kill(process.pid, by)
        process.join()
        if by == signal.SIGINT:
            said = (tmp_path / by.name).read_text()
            assert process.exitcode == 130 and "--resume goes on" in said, said
        for path in grades.glob("students/*.json"):
            text = path.read_text()
            assert json.loads(text)["schema"] == results.SCHEMA, "a result is whole or not there"
            assert kept.setdefault(path.name, text) == text, "graded twice"
    command = [sys.executable, "-m", "checks", "grade", *argv]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} kept" in done.stdout
    assert all((grades / "students" / name).read_text() == text for name, text in kept.items())
    grader = Grader(Settings(random.Random("a seed").getrandbits(32), DEFAULT, CHEAP[:1], compiles=False))
    for path in folder.iterdir():
        results.write_result(tmp_path / "other", grade(grader, HandedIn(path.name, [path])))
    assert stable(grades) == stable(tmp_path / "other")
    assert [r["points"] for r in stable(grades)] == [1.0] * 6


def test_a_worker_that_dies_costs_nobody_a_result(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "_start_worker", quick_worker.start)
    monkeypatch.setattr(batch, "_grade_and_write", quick_worker.grade)
    folder, killed, by = write_class(tmp_path / "sub", 5), [], []

    def say(line: str) -> None:
        if not killed:  # the first result is there: end the worker, whatever it is about
            killed.extend(multiprocessing.active_children())
            killed[0].kill()

    class Watched(Batch):
        def _report(self, result):
            by.append(result["process"])
            super()._report(result)

    tally = Watched(tmp_path / "grades", types.SimpleNamespace(), say=say).grade(folder)
    assert (tally.graded, tally.faults, len(by)) == (5, 0, 5)
    assert len(set(by)) > 1 and by[0] == killed[0].pid != by[-1], "others go on"


def test_a_submission_that_ends_its_worker_twice_is_no_zero(tmp_path, monkeypatch):
    folder = write_class(tmp_path / "sub", 1)
    monkeypatch.setattr(Batch, "_work", lambda _, waiting, jobs: list(waiting))
    tally = Batch(tmp_path / "grades", Settings(3, DEFAULT, CHEAP, compiles=False), say=quiet).grade(folder)
    (result,) = results.read_results(tmp_path / "grades")
    assert tally.faults == 1
    assert {one["status"] for one in result["exercises"]} == {results.FAULT}
    assert {one["points"] for one in result["exercises"]} == {None}
    assert main(["report", str(tmp_path / "grades")]) == 0
    assert "Could not be graded" in (tmp_path / "grades" / "pages" / "index.html").read_text()


def test_what_is_late_is_recorded(tmp_path, monkeypatch):
    course = tmp_path / "course.toml"
    course.write_text(DEFAULT.read_text().replace("[deadlines]", "[deadlines]\n00_hello_triton = 2020-01-01T00:00:00Z"))
    passed = results.new_exercise_result(NEEDED, 1.0, "passed", 1.0)
    monkeypatch.setattr(Grader, "grade_exercise", lambda *_: passed)
    graded = Grader(Settings(3, course, CHEAP[:1])).grade("s0", [write_class(tmp_path / "sub", 1) / "s0"])
    assert graded["late"] == {"00_hello_triton": True}
    assert graded["points"] == 1.0, "no points are taken off"


def test_exit_codes(tmp_path, capsys, monkeypatch):
    folder = write_class(tmp_path / "sub", 2)
    one = ["one", str(folder / "s1"), "--no-compile", "--exercise", CHEAP[1]]
    assert main(one) == 0
    assert "right on" not in capsys.readouterr().err
    assert main([*one, "--fail-under", "50"]) == 1
    assert main(["one", str(tmp_path / "nothing")]) == 2
    assert main([*one, "--exercise", "nothing"]) == 2
    assert main([*one, "--lesson", "00"]) == 2, "the lesson's other exercises would be graded too"
    assert main(["class", str(tmp_path / "nothing"), "--out", str(tmp_path / "g")]) == 2
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "infrastructure" not in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main([*one, "--gpus", "0"]) == 3
    assert main([*one, "--gpus", "all"]) == 2
    monkeypatch.setattr("checks.grader.grader.FULL", ("a level that no system has",))
    assert main([*one, "--require-isolation"]) == 3
    assert "isolation" in capsys.readouterr().err


@pytest.mark.parametrize(("changed", "said"), [
    ({}, "✓ vector_add_kernel: answer 2 of 2; "),
    ({0: {"status": "failed"}}, "✗ the answer of vector_add_kernel got 2 of 2 points, failed: it is so []"),
    ({0: {"flags": [{"text": "odd"}]}}, "✗ the answer of vector_add_kernel got 2 of 2 points, passed: it is so ['odd']"),
    ({0: {"points": 1.5}}, "✗ the answer of vector_add_kernel got 1.5 of 2 points"),
    ({1: {"status": "passed"}}, "✗ a known mistake in vector_add_kernel passed"),
    ({2: {"status": "failed"}}, "✗ the stub of vector_add_kernel is failed"),
    ({2: {"points": 0.5}}, "✗ the stub of vector_add_kernel is not attempted"),
    ({3: {"points": 0.5}}, "✗ no kernel at all got points in vector_add_kernel")])
def test_what_the_self_test_expects(changed, said):
    right = [{"status": "passed", "points": 2.0}, {"status": "failed", "points": 1.0},
             {"status": "not attempted", "points": 0.0}, {"status": "failed", "points": 0.0}]
    given = iter({"flags": [], "possible": 2.0, "message": "it is so"} | one | changed.get(number, {})
                 for number, one in enumerate(right))
    grader = types.SimpleNamespace(
        wanted=[ADD.name], course=types.SimpleNamespace(exercises={ADD.name: ADD}),
        grade_exercise=lambda *_: next(given), server=types.SimpleNamespace(levels=["a", "b"]))
    lines = []
    assert selftest.run(grader, lines.append) == (1 if changed else 0)
    assert lines[0].startswith(said) and lines[1:] == ["isolation: a, b"]


def test_self_test(capsys):
    assert main(["selftest", "--exercise", "vector_add_kernel"]) == 0
    assert "0 misjudged" in capsys.readouterr().out

