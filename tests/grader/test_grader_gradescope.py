"""Gradescope's autograder: what is in the zip, what its scripts run, and what results.json says."""

import json
import os
import subprocess
import zipfile

import pytest
from grading import NEEDED, SOLVED, exercise_cell, notebook

from checks.grader.command import main
from checks.grader.course import DEFAULT, read_course
from checks.grader.grader import Grader
from checks.grader.gradescope import run
from checks.grader.gradescope.archive import HERE, workshop_files
from checks.grader.intake.submissions import Submission
from checks.grader.output.exports import gradescope_results
from checks.grader.sandbox.client import Fault
from checks.grader.selftest import Misjudged
from checks.grader.settings import Settings
from checks.paths import ROOT

WRONG = notebook(exercise_cell(NEEDED, "def programs_needed(N, BLOCK):\n    return N"))
LATE_RULE = DEFAULT.read_text() + "\n[late]\ngrace_minutes = 5\npercent_per_day = 10\n"
METADATA = {
    "id": 1, "created_at": "2026-10-02T08:00:00.123456-07:00",
    "assignment": {"due_date": "2026-10-01T23:00:00.000000-07:00", "total_points": "2.0"},
    "users": [{"name": "Ada", "email": "ada@x.org", "assignment": {"due_date": "2026-10-01T23:00:00.000000-07:00"}}]}


@pytest.fixture
def graded(tmp_path):
    """Call it with a notebook and metadata for results.json of that submission."""
    (tmp_path / "course.toml").write_text(LATE_RULE)
    (tmp_path / "submission").mkdir()
    settings = Settings(3, tmp_path / "course.toml", ("programs_needed",), compiles=False)

    def grade(work: str = SOLVED, metadata: dict | None = None) -> dict:
        (tmp_path / "submission" / "a.ipynb").write_text(work)
        (tmp_path / "submission_metadata.json").write_text(json.dumps(METADATA | (metadata or {})))
        assert run.run(tmp_path, settings) == 0
        return json.loads((tmp_path / "results" / "results.json").read_text())

    return grade


def test_a_submission_s_results(graded):
    right, wrong = graded(metadata={"created_at": "2026-10-01T12:00:00-07:00"}), graded(WRONG)
    assert (right["score"], right["tests"][0]["status"], right["output"]) == (1.0, "passed", "")
    assert (wrong["score"], wrong["tests"][0]["status"]) == (0.0, "failed") and wrong["tests"][0]["output"]


@pytest.mark.parametrize("metadata, score", [
    ({}, 0.9), ({"created_at": "2026-10-01T23:04:00-07:00"}, 1.0), ({"created_at": "2026-10-04T08:00:00-07:00"}, 0.7),
    ({"users": [{"assignment": {"due_date": "2026-10-03T23:00:00-07:00"}}]}, 1.0),
    ({"users": [{"assignment": {"due_date": "2026-09-01T23:00:00-07:00"}}, *METADATA["users"]]}, 0.9),
    ({"users": [*METADATA["users"], {"assignment": {"due_date": "2026-10-03T23:00:00-07:00"}}]}, 1.0),
    ({"users": [{"name": "Ada"}, "x", {"assignment": 7}, {"assignment": {"due_date": "2026-10-09T23:00:00"}}]}, 0.9),
    ({"users": "Ada"}, 0.9), ({"users": None}, 0.9), ({"users": []}, 0.9),
    ({"created_at": None}, 1.0), ({"created_at": "2026-10-02T08:00:00"}, 1.0),
    ({"users": [], "assignment": {"due_date": None}}, 1.0), ({"created_at": "yesterday"}, 1.0)])
def test_due_dates_and_extensions_are_gradescope_s(tmp_path, metadata, score):
    (tmp_path / "course.toml").write_text(LATE_RULE)
    course = read_course(tmp_path / "course.toml")
    grader = Grader(Settings(3, tmp_path / "course.toml", ("programs_needed",)))
    result = grader.fault_result(Submission("Ada"), "") | {"handed_in": {NEEDED.lesson: 2e9}, "points": 1.0}
    result["exercises"][0].update(points=1.0, status="passed")
    dated = run.dated(result, course, METADATA | metadata)
    assert json.loads(gradescope_results(dated, course))["score"] == score


@pytest.mark.parametrize("users, student", [
    ([{"name": "Ada", "email": "ada@x.org"}], "Ada"), ([{"name": "", "email": "ada@x.org"}], "ada@x.org"),
    ([{"name": "Ada"}, {"name": "Li\n"}], "Ada, Li\\n"), ([], "student"), (None, "student"), ([7], "student")])
def test_who_handed_in(users, student):
    assert run._student({"users": users}) == student == run._student({"users": users, "id": 1})


@pytest.mark.parametrize("error", [Fault("no seccomp"), Misjudged("it is wrong"), OSError(28, "No space left")], ids=repr)
def test_a_container_that_misjudges_gives_no_score(tmp_path, monkeypatch, capsys, error):
    def fail(_):
        raise error

    monkeypatch.setattr(run, "check_canaries", fail)
    monkeypatch.setattr(Grader, "start", lambda _: None)
    chosen = Settings(3, exercises=("programs_needed",))
    assert run.run(tmp_path, chosen) == 0 and run.prove(chosen) == 1 and capsys.readouterr().err.count(str(error)) == 2
    said = json.loads((tmp_path / "results" / "results.json").read_text())
    assert said == {"output": f"infrastructure error: {error}", "visibility": "hidden"}


def test_what_cannot_be_graded_gets_no_score(graded, monkeypatch):
    unread = graded('{"cells": [')
    assert "score" not in unread and unread["visibility"] == "visible", "its student can hand it in again"
    assert unread["output"].startswith("Some work could not be read, so there are no points yet.\na.ipynb cannot be read: ")

    def fail(self):
        raise Fault("no seccomp")

    monkeypatch.setattr(Grader, "start", fail)
    broken = graded()
    assert "no seccomp" in broken["output"] and broken["visibility"] == "hidden" and not {"score", "tests"} & broken.keys()


def test_the_zip_has_what_grading_needs_and_both_scripts(tmp_path, capsys):
    (tmp_path / "course.toml").write_text(LATE_RULE)
    (tmp_path / "seed").write_text("a seed")
    made = []
    for name in ("a.zip", "b.zip"):
        assert main(["autograder", "--out", str(tmp_path / name), "--course", str(tmp_path / "course.toml"), "--exercise",
                     "programs_needed", "--seed-file", str(tmp_path / "seed"), "--timeout", "30", "--no-compile"]) == 0
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1] and "points to 1," in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path)
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert modes["setup.sh"] == modes["run_autograder"] == 0o755
    there = {str(path.relative_to(ROOT)) for path in workshop_files()}
    assert {f"workshop/{name}" for name in there} | {"workshop/course.toml", "workshop/autograder.json"} == {
        name for name in modes if name.startswith("workshop/")}
    assert {"workshop.py", "checks/grader/course.toml", "checks/executor/__init__.py", "lessons/00_hello_triton.ipynb",
            "kernels/hello.py"} <= there and not any(name.startswith(("solutions/", "tests/", "results/")) for name in there)
    kept = run.settings(tmp_path / "workshop")
    assert (kept.exercises, kept.timeout_s, kept.compiles) == (("programs_needed",), 30.0, False)
    assert kept.course.read_text() == LATE_RULE
    assert main(["autograder", "--out", str(tmp_path / "c.zip"), "--gpus", "0"]) == 2


def test_the_scripts_run_what_they_should(tmp_path):
    """In place of apt-get, Python 3.11 and the environment that workshop.py makes are scripts that note their arguments."""
    workshop, tools, log = tmp_path / "source" / "workshop", tmp_path / "bin", tmp_path / "log"
    (workshop / ".venv" / "bin").mkdir(parents=True)
    tools.mkdir()
    said = f'#!/bin/sh\necho "$(basename "$0") $* [$TRITON_INTERPRET] $(pwd)" >> {log}\n'
    for path, more in ((tools / "apt-get", 'case "$*" in *python3.12*) exit 100;; esac\n'),
                       (tools / "python3.11", "exit 1\n"), (workshop / ".venv" / "bin" / "python", "")):
        path.write_text(said + more)
        path.chmod(0o755)
    (workshop / ".venv" / "workshop.stamp").write_text("")  # which says that the environment is whole
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "AUTOGRADER": str(tmp_path)}
    for name in ("setup.sh", "run_autograder"):
        subprocess.run([HERE / name], env=environment, check=True)
    *before, doctor, prove, grade = log.read_text().splitlines()
    assert any("python3.11 python3.11-venv" in line for line in before) and "workshop.py doctor" in doctor
    run_module = f"python -P -m checks.grader.gradescope.run {{}} [1] {workshop}"
    assert [prove, grade] == [run_module.format("--prove"), run_module.format(tmp_path)]
    (workshop / ".venv" / "workshop.stamp").unlink()
    assert subprocess.run([HERE / "setup.sh"], env=environment, capture_output=True).returncode == 1
    (tools / "apt-get").write_text('#!/bin/sh\ncase "$*" in *python*) exit 100;; esac\n')
    done = subprocess.run([HERE / "setup.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "Ubuntu 22.04 or 24.04" in done.stderr


def test_a_container_that_cannot_grade_fails_to_build(monkeypatch, capsys):
    settings = Settings(3, DEFAULT, ("programs_needed",), compiles=False)
    assert run.prove(settings) == 0 and "ready: 1 exercises, isolation" in capsys.readouterr().out
    monkeypatch.setattr("checks.grader.grader.FULL", ("seccomp", "a level that no system has"))
    assert run.prove(Settings(3, DEFAULT, require_isolation=True)) == 1
    assert "cannot be graded here" in capsys.readouterr().err
