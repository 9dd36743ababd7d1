"""What the grader makes of a class: results, exports, pages, resuming, exit codes."""

import json
import multiprocessing
import random
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from grading import ADD, CHEAP, IMPORTS, NEEDED, SOLVED, exercise_cell, notebook

from checks.exercises import EXERCISES
from checks.grader import results
from checks.grader.batch import Batch
from checks.grader.command import main
from checks.grader.course import DEFAULT
from checks.grader.grader import Grader
from checks.grader.intake.submissions import (
    Cell,
    Submission,
)
from checks.grader.output.exports import export
from checks.grader.output.feedback import messages_for_student
from checks.grader.output.pages import write_pages
from checks.grader.output.similarity import alike
from checks.grader.settings import Settings
from checks.judge.source import answer_source
from checks.paths import ROOT

# results and what is made of them


def result(student: str, points: float | None = 1.0, status: str = "passed", **more) -> dict:
    one = {"exercise": "programs_needed", "lesson": "00_hello_triton", "status": status, "points": points, "possible": 1.0,
           "message": "programs_needed: <b>said</b>", "mistake": None, "items": {}, "flags": [], "notices": [],
           "picture": None, "seconds": 0.1} | more
    return {"schema": results.SCHEMA, "student": student, "key": "k", "problems": [], "late": {}, "points": points or 0.0,
            "possible": 1.0, "exercises": [one], "isolation": ["limits"],
            "environment": {"python": "3", "torch": "2", "triton": "3"}}


def test_names_make_different_files(tmp_path):
    names = ["ada", "Ada", "../ada", "a/b", "é", "a%2Fb", "=cmd()", ".hidden", "a b"]
    paths = {results.result_path(tmp_path, name) for name in names}
    assert len(paths) == len(names)
    assert all(path.parent == tmp_path / "students" for path in paths)
    for name in names:
        results.write_result(tmp_path, result(name))
    assert sorted(r["student"] for r in results.read_results(tmp_path)) == sorted(names)


def test_a_broken_result_is_none(tmp_path):
    path = tmp_path / "x.json"
    for text in ("", "{", "[]", '{"schema": 0}'):
        path.write_text(text)
        assert results.read_result(path) is None


def test_overrides(tmp_path):
    (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\nada,programs_needed,0.5,seen in person\n")
    graded = results.apply_overrides([result("ada", 0.0, "held"), result("bob")], results.read_overrides(tmp_path))
    assert [r["points"] for r in graded] == [0.5, 1.0]
    assert graded[0]["exercises"][0]["graded_points"] == 0.0
    assert "seen in person" in messages_for_student(graded[0]["exercises"][0])[0]
    for text, said in (("ada,programs_needed,much,why", "line 2: points"), ("ada,programs_needed,1,", "needs a reason")):
        (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\n" + text)
        with pytest.raises(ValueError, match=said):
            results.read_overrides(tmp_path)
    with pytest.raises(ValueError, match="no exercise `x` of a student `ada`"):
        results.apply_overrides([result("ada")], {("ada", "x"): (1.0, "why")})


def test_exports(tmp_path):
    graded = [result("ada"), result("=cmd()", 0.0, "failed"), result("eva", None, results.FAULT)]
    (table,) = export("csv", graded, tmp_path, None)
    rows = table.read_text().splitlines()
    assert rows[1] == "ada,1.0,1.0,1.0,0,,"
    assert rows[2].startswith("'=cmd()")
    assert rows[3] == "eva,,1.0,,0,programs_needed,", "a fault of the grader is no zero"
    suites = ElementTree.parse(export("junit", graded, tmp_path, None)[0]).getroot()
    assert [suite.get("failures") + suite.get("errors") for suite in suites] == ["00", "10", "01"]
    files = export("gradescope", graded, tmp_path, None)
    assert json.loads(files[0].read_text())["score"] == 1.0
    assert "score" not in json.loads(files[2].read_text())
    assert len(json.loads(export("json", graded, tmp_path, None)[0].read_text())["results"]) == 3


def test_pages_show_no_hidden_test_and_run_nothing(tmp_path):
    items = {"public": {"result": "right", "message": "", "earned": 0.6, "possible": 0.6},
             "hidden": {"result": "wrong", "message": "N=4711", "earned": 0.0, "possible": 0.4}}
    picture = {"of": [2, 4], "output": 0, "rows": [[0, 1, 0, 0], [0, 0, 0, 1]]}
    graded = [result("<script>alert(1)</script>", 0.6, "failed", items=items, picture=picture,
                     flags=[{"kind": "reaches out", "text": "<i>"}]), result("eva", None, results.FAULT)]
    (page,) = write_pages(tmp_path, graded)
    pages = [page, *(tmp_path / "pages" / "students").glob("*.html")]
    assert len(pages) == 3
    for path in pages:
        text = path.read_text()
        assert "<script" not in text and "<i>" not in text and "4711" not in text
        assert "Content-Security-Policy" in text


def test_similarity_sees_through_renaming():
    exercise = EXERCISES["quantize_int8_perrow_torch"]
    own = ("def quantize_int8_perrow_torch(x):\n    total = []\n    for row in x.float():\n"
           "        most = max(abs(float(v)) for v in row)\n"
           "        if most == 0:\n            total.append((row * 0, 0.0))\n            continue\n"
           "        unit = most / 127\n        numbers = [int(round(float(v) / unit)) for v in row]\n"
           "        total.append((torch.tensor(numbers), unit))\n"
           "    return torch.stack([a for a, _ in total]).to(torch.int8), torch.tensor([b for _, b in total])\n")
    copied = own.replace("total", "acc").replace("most", "m").replace("numbers", "qs") + "# mine\n"
    other = ("def quantize_int8_perrow_torch(x):\n    scale = x.float().abs().amax(1) / 127\n"
             "    while scale.isnan().any():\n"
             "        scale = scale.nan_to_num(0)\n    return torch.zeros_like(x).to(torch.int8).add(3), "
             "scale.sqrt().square()\n")
    submissions = [Submission(name, [Cell(exercise_cell(exercise, source), "a.ipynb", 0)]) for name, source in
                   (("ada", own), ("bob", copied), ("eva", other), ("jon", answer_source(exercise.name)))]
    assert list(alike(submissions, exercise)) == [("ada", "bob")]


# a class


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


def test_killed_at_any_instant_and_resumed(tmp_path):
    folder, seed = write_class(tmp_path / "sub", 6), tmp_path / "seed"
    seed.write_text("a seed")
    grades = tmp_path / "grades"
    command = [sys.executable, "-m", "checks", "grade", "class", str(folder), "--out", str(grades), "--jobs", "1",
               "--no-compile", "--resume", "--seed-file", str(seed), "--exercise", CHEAP[0], "--exercise", CHEAP[1]]
    kept = {}
    for wanted, delay in ((0, 1.0), (1, 0.0), (3, 0.02)):  # killed before the first result, then with more and more there
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while len(list(grades.glob("students/*.json"))) < wanted and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
        process.wait()
        for path in grades.glob("students/*.json"):
            text = path.read_text()
            assert json.loads(text)["schema"] == results.SCHEMA, "a result is whole or not there"
            assert kept.setdefault(path.name, text) == text, "graded twice"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} kept" in done.stdout
    assert all((grades / "students" / name).read_text() == text for name, text in kept.items())
    other = tmp_path / "other"
    settings = Settings(random.Random("a seed").getrandbits(32), DEFAULT, CHEAP, compiles=False)
    Batch(other, settings, say=quiet).grade(folder)
    assert stable(grades) == stable(other)
    assert [r["points"] for r in stable(grades)] == [3.0, 1.0] * 3
    # an edited submission is graded again, and it alone
    (folder / "s1" / "work.ipynb").write_text(SOLVED)
    tally = Batch(other, settings, say=quiet).grade(folder, resume=True)
    assert (tally.graded, tally.kept) == (1, 5)


def test_a_worker_that_dies_costs_nobody_a_result(tmp_path):
    folder, killed = write_class(tmp_path / "sub", 4), []

    def say(line: str) -> None:
        if not killed:  # the first result is there: end the worker in the middle of the next
            killed.extend(multiprocessing.active_children())
            killed[0].kill()

    settings = Settings(3, DEFAULT, CHEAP, compiles=False)
    tally = Batch(tmp_path / "grades", settings, say=say).grade(folder)
    assert killed
    assert (tally.graded, tally.faults) == (4, 0)
    assert [r["points"] for r in stable(tmp_path / "grades")] == [3.0, 1.0] * 2


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


def test_what_is_late_is_recorded(tmp_path):
    course = tmp_path / "course.toml"
    course.write_text(DEFAULT.read_text().replace("[deadlines]", "[deadlines]\n00_hello_triton = 2020-01-01T00:00:00Z"))
    with Grader(Settings(3, course, CHEAP[:1], compiles=False)) as grader:
        graded = grader.grade("s0", [write_class(tmp_path / "sub", 1) / "s0"])
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
    assert main(["class", str(tmp_path / "nothing"), "--out", str(tmp_path / "g")]) == 2
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "infrastructure" not in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main([*one, "--gpus", "0"]) == 3
    assert main([*one, "--gpus", "all"]) == 2
    monkeypatch.setattr("checks.grader.grader.FULL", ("a level that no system has",))
    assert main([*one, "--require-isolation"]) == 3
    assert "isolation" in capsys.readouterr().err


def test_self_test(capsys):
    assert main(["selftest", "--exercise", "vector_add_kernel"]) == 0
    assert "0 misjudged" in capsys.readouterr().out

