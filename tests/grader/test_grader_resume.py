"""Which results `--resume` keeps: those that the same command would give again, and no others."""

import contextlib
import dataclasses
import errno
import json
import os
import types

import pytest
from grading import SOLVED, exercise, result

from checks.grader import batch, results
from checks.grader.course import DEFAULT
from checks.grader.grader import Grader
from checks.grader.intake.folder import HandedIn
from checks.grader.intake.submissions import Submission, read_submission
from checks.grader.sandbox.client import Fault
from checks.grader.selftest import Misjudged
from checks.grader.settings import Settings
from checks.grader.units import Unit

DEADLINE = "2026-10-01T12:00:00Z"
OTHER = {"seed": 4, "exercises": ("programs_needed",), "compiles": False, "require_isolation": True, "timeout_s": 61.0,
         "student_timeout_s": 10.0,         "gpus": (1,)}


@pytest.fixture
def course(tmp_path):
    """A course with a deadline, and other points in a second file."""
    path = tmp_path / "course.toml"
    path.write_text(DEFAULT.read_text().replace("[deadlines]", f"[deadlines]\n00_hello_triton = {DEADLINE}"))
    (tmp_path / "other.toml").write_text(path.read_text() + "[exercise.programs_needed]\npoints = 9\n")
    return path


@pytest.fixture(autouse=True)
def gpus(monkeypatch):
    """A machine with two kinds of GPUs, by their numbers."""
    monkeypatch.setattr("checks.grader.grader.gpu_name", lambda index: ("A100", "H100", "A100")[index])


def key(settings: Settings, modified: float = 0.0, digest: str = "d") -> str:
    return Grader(settings).key(Submission("ada", digest=digest, modified=modified))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Settings)])
def test_every_setting_is_part_of_the_key(field, course):
    settings = Settings(3, course)
    other = OTHER | {"course": course.with_name("other.toml")}
    assert key(settings) == key(dataclasses.replace(settings))
    assert key(dataclasses.replace(settings, **{field: other[field]})) != key(settings)


def test_what_else_a_result_depends_on_is_part_of_its_key(course, monkeypatch):
    settings = Settings(3, course)
    assert key(settings, digest="e") != key(settings), "another submission"
    assert key(settings, modified=2e9) == key(settings, modified=1e9), "when it was handed in costs points in the gradebook"
    before = key(settings)
    for name, value in (("grader_digest", "other code"), ("environment", {"torch": "99"}), ("SCHEMA", 99)):
        with monkeypatch.context() as patch:
            patch.setattr(results, name, value if name == "SCHEMA" else lambda value=value: value)
            assert key(settings) != before, name


def test_libraries_that_make_results_are_in_the_environment():
    assert set(results.environment()) == {"python", "torch", "triton", "numpy", "machine"}
    assert all(results.environment().values())


def test_the_key_does_not_depend_on_what_changes_nothing(course):
    copied = course.with_name("copy.toml")
    copied.write_text(course.read_text())
    assert key(Settings(3, course)) == key(Settings(3, copied)), "where the course's file is"
    assert key(Settings(3, course, ("a", "b"))) == key(Settings(3, course, ("b", "a"))), "the order of --exercise"
    assert key(Settings(3, course, gpus=(0,))) == key(Settings(3, course, gpus=(2,))), "which of two equal GPUs"
    assert key(Settings(3, course, gpus=(0, 1))) == key(Settings(3, course, gpus=(1, 0, 2))), "how many, in what order"


def test_the_code_that_judges_is_part_of_the_digest(tmp_path, monkeypatch):
    files = ["checks/grader/grading/runs.py", "kernels/hello.py", "kernels/deep/er.py"]
    beside = ["checks/notes.txt", "checks/grader/output/pages.py", "checks/pictures/hello.py", "checks/grader/command.py"]
    for name in [*files, *beside]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    digests = {results.grader_digest.__wrapped__()}
    for name in files:
        (tmp_path / name).write_text("after")
        digests.add(results.grader_digest.__wrapped__())
    (tmp_path / "kernels" / "hello.py").rename(tmp_path / "kernels" / "other.py")
    digests.add(results.grader_digest.__wrapped__())
    assert len(digests) == 2 + len(files)
    for name in beside:
        (tmp_path / name).write_text("after")
    assert results.grader_digest.__wrapped__() in digests


def test_a_lesson_s_code_is_in_the_digest_and_its_prose_is_not(tmp_path, monkeypatch):
    def digest(code: str, prose: str, picture: str = "show()", marked: str = "pass") -> str:
        cells = [{"cell_type": "code", "source": [code]}, {"cell_type": "markdown", "source": [prose]},
                 {"cell_type": "code", "source": picture}, {"cell_type": "code", "source": f"# given: f\n{marked}"}]
        (tmp_path / "lessons").mkdir(exist_ok=True)
        (tmp_path / "lessons" / "00.ipynb").write_text(json.dumps({"cells": cells}))
        return results.grader_digest.__wrapped__()

    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert digest("x = 1", "why") == digest("x = 1", "how", "show(x)") != digest("x = 2", "how")
    others = [digest("x = 1", ""), digest("x = 1", "", marked="return"), digest("x = 1", "", "from kernels import gemv")]
    assert len(set(others)) == 3


# a class that is resumed: who is graded again


@pytest.fixture
def regraded(tmp_path, course, monkeypatch):
    """A class of three with results; call it with settings for the names of those that `--resume` grades again."""
    for student in ("ada", "bob", "eva"):
        (tmp_path / "sub" / student).mkdir(parents=True)
        (tmp_path / "sub" / student / "work.ipynb").write_text(SOLVED)
        os.utime(tmp_path / "sub" / student / "work.ipynb", (1e9, 1e9))
    grader = Grader(Settings(3, course))
    for student in ("ada", "bob", "eva"):
        path = tmp_path / "sub" / student
        old = {"schema": results.SCHEMA, "student": student, "key": grader.key(read_submission(student, [path])),
               "exercises": [{"exercise": "programs_needed", "status": "passed"}]}
        results.write_result(tmp_path / "grades", old)

    def resume(settings=None, resume=True) -> list[str]:
        graded = []

        def work(self, waiting, jobs):
            graded.extend(waiting)
            waiting.clear()
            return []

        monkeypatch.setattr(batch.Batch, "_work", work)
        runner = batch.Batch(tmp_path / "grades", settings or Settings(3, course), say=lambda _: None)
        tally = runner.grade(tmp_path / "sub", resume=resume)
        assert tally.kept == 3 - len(graded)
        return graded

    return resume


def test_what_still_holds_is_kept(regraded, tmp_path):
    assert regraded() == [] and not (tmp_path / "grades" / "before.json").exists(), "nothing changes"
    assert regraded(resume=False) == ["ada", "bob", "eva"]


def test_another_date_is_noted_without_grading_again(regraded, tmp_path):
    os.utime(tmp_path / "sub" / "ada" / "work.ipynb", (2e9, 2e9))
    assert regraded() == []
    now = results.read_result(results.result_path(tmp_path / "grades", "ada"))
    assert now["late"] == {"00_hello_triton": True} and now["handed_in"] == {"00_hello_triton": 2e9}


@pytest.mark.parametrize("setting", [{"require_isolation": True}, {"timeout_s": 120.0}, {"seed": 4}], ids=str)
def test_other_settings_grade_again(regraded, course, setting):
    assert regraded(dataclasses.replace(Settings(3, course), **setting)) == ["ada", "bob", "eva"]


def test_a_result_with_a_fault_is_graded_again(regraded, tmp_path):
    path = results.result_path(tmp_path / "grades", "bob")
    old = json.loads(path.read_text())
    old["exercises"].append({"exercise": "vector_add_kernel", "status": results.FAULT})
    path.write_text(json.dumps(old))
    assert regraded() == ["bob"]


def test_what_was_changed_or_broken_is_graded_again(regraded, tmp_path):
    results.result_path(tmp_path / "grades", "ada").write_text('{"schema": ')
    (tmp_path / "sub" / "bob" / "more.py").write_text("x = 1\n")
    os.utime(tmp_path / "sub" / "eva" / "work.ipynb", (2e9, 2e9))
    assert regraded() == ["ada", "bob"], "another date is not other work"


# the seed


def test_the_seed_is_kept_for_resuming_and_else_drawn_anew(tmp_path):
    first = class_seed(tmp_path)
    assert class_seed(tmp_path, resume=True) == first
    assert len({class_seed(tmp_path) for _ in range(4)} - {first}) == 4
    (tmp_path / "batch.json").write_text("{")
    assert 0 <= class_seed(tmp_path, resume=True) < 2**32


def class_seed(grades, resume=False, seed_file=None, fixed=False) -> int:
    seed = batch.class_seed(grades, resume, seed_file, fixed)
    assert json.loads((grades / "batch.json").read_text())["seed"] == seed, "so that the run can be resumed"
    return seed


def test_a_seed_file_comes_before_the_resumed_run_s_seed(tmp_path):
    file, other = tmp_path / "seed", tmp_path / "other"
    file.write_text("a seed\n")
    other.write_text("another")
    first = class_seed(tmp_path, seed_file=file)
    assert class_seed(tmp_path, resume=True, seed_file=file) == first
    assert class_seed(tmp_path, resume=True, seed_file=other) != first
    other.write_text(" \n")
    with pytest.raises(ValueError, match="is empty"):
        batch.class_seed(tmp_path, True, other)


def test_shards_have_the_seed_of_their_class_or_none(tmp_path):
    with pytest.raises(ValueError, match="--shard needs --seed-file, the same for all shards"):
        class_seed(tmp_path, fixed=True)
    first = class_seed(tmp_path)
    assert class_seed(tmp_path, fixed=True) == first == class_seed(tmp_path, resume=True, fixed=True)
    for seed in (0, 1):
        (tmp_path / "batch.json").write_text(text := json.dumps({"seed": seed, "more": "of another version"}))
        assert class_seed(tmp_path, resume=True) == class_seed(tmp_path, fixed=True) == seed
        assert (tmp_path / "batch.json").read_text() == text, "it is not written anew"


# what a run says and counts


@pytest.mark.parametrize("exercises, more, said, counted", [
    ([exercise()], {}, "1 of 2", (0, 0)), ([exercise(points=0.0)], {}, "0 of 2", (0, 0)),
    ([exercise(flags=[{}]), exercise(flags=[{}, {}])], {}, "2 of 4, 3 flag(s)", (0, 0)),
    ([exercise(points=None, status=results.FAULT), exercise()], {}, "1 of 4, INFRASTRUCTURE ERROR", (1, 0)),
    ([exercise(points=None, status=results.FAULT)], {}, "– of 2, INFRASTRUCTURE ERROR", (1, 0)),
    ([exercise(points=None, status=results.UNREAD)], {}, "– of 2, WORK THAT COULD NOT BE READ", (0, 1)),
    ([exercise(points=0.0, status="missing")], {"submission": results.NO_FILES}, "– of 2", (0, 0)),
    ([exercise(points=0.0, status="missing")], {}, "0 of 2", (0, 0))])
@pytest.mark.parametrize("count, left", [(1, ""), (3, " · about 20 s left"), (100, " · about 16 min left")])
def test_what_is_said_of_each_result(tmp_path, monkeypatch, exercises, more, said, counted, count, left):
    lines = []
    run = batch.Batch(tmp_path, Settings(3), say=lines.append)
    run._count, run._started = count, 5.0
    monkeypatch.setattr(batch.time, "monotonic", lambda: 15.0)
    run._report(result("ada", *exercises, problems=["a.png was not read"], **more))
    assert lines == [f"[1/{count}] ada: {said}{left}", "    a.png was not read"]
    assert (run.tally.graded, run.tally.faults, run.tally.unread) == (1, *counted)


def test_what_a_run_has_graded_adds_up(tmp_path, monkeypatch):
    run = batch.Batch(tmp_path, Settings(3), say=lambda _: None)
    monkeypatch.setattr(batch, "read_unit", lambda handed_in: Unit(Submission(handed_in.student)))
    fault, unread = ({"points": None, "status": status} for status in (results.FAULT, results.UNREAD))
    for one, counted in (({}, (1, 0, 0)), (fault, (2, 1, 0)), (unread, (3, 1, 1)), (fault, (4, 2, 1)), (unread, (5, 2, 2)),
                         ({}, (6, 2, 2))):
        run._report(result("ada", exercise(**one)))
        assert (run.tally.graded, run.tally.faults, run.tally.unread) == counted
    for faults in (3, 4):
        run._died_twice(HandedIn("bob"))
        assert run.tally.faults == faults


@pytest.mark.parametrize("number, stops", [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, True),
                                           (errno.EACCES, False), (None, False)])
def test_a_disk_that_takes_nothing_stops_the_run(tmp_path, number, stops):
    run = batch.Batch(tmp_path, Settings(3), say=lambda _: None)
    with pytest.raises(Fault, match="--resume goes on") if stops else contextlib.nullcontext():
        run._report(results.not_written(result("ada"), "it could not be written", number))
    assert (run.tally.graded, run.tally.faults) == (1, 1)


def test_a_worker_judges_known_work_before_any_other(tmp_path, monkeypatch):
    """And once: but one that has misjudged it is asked again."""
    calls = []

    def check(grader):
        calls.append("canaries")
        if len(calls) < 4:
            raise Misjudged("wrong")

    grader = types.SimpleNamespace(start=lambda: calls.append("start"))
    monkeypatch.setattr(batch, "_grader", grader)
    monkeypatch.setattr(batch, "_checked", False)
    monkeypatch.setattr(batch, "check_canaries", check)
    monkeypatch.setattr(batch, "grade", lambda _, handed_in: calls.append("grade") or result("ada"))
    with pytest.raises(Misjudged):
        batch._grade_and_write(None, tmp_path)
    for _ in range(2):
        batch._grade_and_write(None, tmp_path)
    assert calls == ["start", "canaries", "start", "canaries", "grade", "grade"]


@pytest.mark.parametrize("error, said", [(OSError(errno.ENOSPC, "No space left"), "No space left"), (OSError("odd"), "odd")],
                         ids=["of the system", "of another kind"])
def test_a_result_that_could_not_be_written_says_why(tmp_path, monkeypatch, error, said):
    def refuse(*_):
        raise error

    monkeypatch.setattr(batch, "keep_attempt", refuse)
    found = batch.write(tmp_path, result("ada"))
    assert found["errno"] == error.errno and found["points"] == 0.0
    assert {one["message"] for one in found["exercises"]} == {f"the result could not be written: {said}"}
    assert not list(tmp_path.glob("students/*"))
