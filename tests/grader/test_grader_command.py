"""What `grade …` makes of its options, and with which code it ends. Nothing is graded."""

import os
from pathlib import Path

import pytest
from grading import exercise, result, with_course
from grading import kept as kept_results

from checks.exercises import EXERCISES
from checks.grader import command, results
from checks.grader.batch import Tally
from checks.grader.course import DEFAULT
from checks.grader.settings import Settings


@pytest.fixture
def chosen(tmp_path):
    """The settings that options of `grade class` choose."""
    def settings(*options: str) -> Settings:
        args = command._parser().parse_args(["class", "sub", "--out", str(tmp_path), *options])
        return command._settings(args, 3)

    return settings


@pytest.mark.parametrize("options, fields", [
    ((), {}), (("--timeout", "5"), {"timeout_s": 5.0}), (("--student-timeout", "7"), {"student_timeout_s": 7.0}),
    (("--no-compile",), {"compiles": False}), (("--require-isolation",), {"require_isolation": True}),
    (("--gpus", "0,12"), {"gpus": (0, 12)}), (("--exercise", "gemv_bytes"), {"exercises": ("gemv_bytes",)})], ids=str)
def test_each_option_is_one_setting(chosen, options, fields):
    assert chosen(*options) == Settings(3, **fields)


@pytest.mark.parametrize("options, said", [
    (("--timeout", "0"), "more than 0 seconds"), (("--student-timeout", "0"), "more than 0 seconds"),
    (("--gpus", "0,"), "numbers such as 0,1"), (("--gpus", "-1"), "numbers such as 0,1"),
    (("--exercise", "x"), "there is no exercise x"), (("--lesson", "99"), "there is no lesson 99"),
    (("--lesson", "01"), "the course has no exercise of 01_gemv_fp16")])
def test_options_that_mean_nothing_are_named(chosen, tmp_path, options, said):
    with_course(tmp_path, '[assignment]\nlessons = ["00"]')
    with pytest.raises(ValueError, match=said):
        chosen(*options)


def test_exercises_and_lessons_are_chosen_together(chosen):
    lesson = [name for name, one in EXERCISES.items() if one.lesson == "01_gemv_fp16"]
    assert chosen("--exercise", "programs_needed", "--lesson", "01").exercises == ("programs_needed", *lesson)


@pytest.mark.parametrize("argv, joined", [
    (["class", "--sbatch", "-p x", "sub"], ["class", "--sbatch=-p x", "sub"]), ([], []),
    (["class", "--sbatch"], ["class", "--sbatch"]), (["--sbatch", "--time=1"], ["--sbatch=--time=1"]),
    (["class", "sub"], ["class", "sub"])])
def test_what_follows_sbatch_is_its_own(argv, joined):
    assert command._joined(argv) == joined


@pytest.mark.parametrize("points, fail_under, code", [
    ([1.0, 2.0], None, command.GRADED), ([1.0, 2.0], 50.0, command.GRADED), ([1.0, 2.0], 50.1, command.BELOW),
    ([None, 0.0], 50.0, command.FAULTS), ([None], None, command.FAULTS), ([0.0], 0.0, command.GRADED)])
def test_with_which_code_grading_ends(capsys, points, fail_under, code):
    graded = [result(f"s{n}", exercise(points=one, status="failed" if one is not None else results.UNREAD))
              for n, one in enumerate(points)]
    assert command._exit_code(graded, fail_under) == code
    assert ("without a total: s0\n" in capsys.readouterr().err) == (code == command.FAULTS)


@pytest.mark.parametrize("error, code, said", [
    (ValueError("no folder"), command.USAGE, "grade: no folder"),
    (command.Misjudged("it is wrong"), command.MISJUDGED, "it is wrong. No result can be trusted"),
    (command.Fault("no seccomp"), command.FAULTS, "infrastructure error: no seccomp"),
    (OSError(28, "No space left"), command.FAULTS, "infrastructure error: [Errno 28]"),
    (KeyboardInterrupt(), 130, "--resume goes on")], ids=repr)
def test_whatever_ends_a_command_is_a_sentence_and_a_code(monkeypatch, capsys, error, code, said):
    def fail(_):
        raise error

    monkeypatch.setattr(command, "_selftest", fail)
    assert command.main(["selftest"]) == code and said in capsys.readouterr().err


def test_what_an_instructor_gives_is_kept_before_any_is_graded(tmp_path, monkeypatch):
    """A machine that goes down leaves all that the next run needs."""
    given = {"course": DEFAULT.read_text(), "roster": "id\ns1\n", "deadlines": "lesson,deadline\n00,2026-10-01T00:00:00Z\n"}
    options = []
    for name, text in given.items():
        (tmp_path / name).write_text(text)
        options += [f"--{name}", str(tmp_path / name)]
    asked = []

    class Graded(command.Batch):
        def grade(self, folder, only=(), resume=False, shard=None):
            asked.append((folder, only, resume, self.jobs, self.settings.course))
            for name, text in given.items():
                kept = tmp_path / "g" / ("course.toml" if name == "course" else f"{name}.csv")
                assert kept.read_text() == text
            kept_results(tmp_path / "g", result("s1"))
            return self.tally

    monkeypatch.setattr(command, "Batch", Graded)
    command_line = ["class", str(tmp_path), "--out", str(tmp_path / "g"), "--jobs", "3", "--only", "s\x1b1", "--resume"]
    assert command.main([*command_line, *options]) == command.GRADED
    assert asked == [(tmp_path, ("s\\x1b1",), True, 3, tmp_path / "course")]
    assert command.main(command_line) == command.GRADED
    assert asked[1][-1] == tmp_path / "g" / "course.toml", "what was given once holds"


@pytest.mark.parametrize("tally, shard, points, code", [
    ({"graded": 1}, "", 1.0, command.BELOW), ({"graded": 1}, "", 1.2, command.GRADED), ({"kept": 1}, "", 1.0, command.BELOW),
    ({"kept": 1}, "1/2", 1.0, command.BELOW), ({"graded": 1}, "2/2", 1.0, command.BELOW), ({"kept": 1}, "1/2", 2.0, 0),
    ({}, "1/2", 1.0, command.GRADED), ({}, "1/2", None, command.GRADED), ({}, "", None, command.USAGE),
    ({"graded": 1, "faults": 1}, "", 2.0, command.FAULTS), ({"graded": 2, "faults": 1}, "1/2", 1.0, command.FAULTS)],
    ids=str)
def test_what_a_class_comes_to(tmp_path, monkeypatch, tally, shard, points, code):
    """What was kept counts as what was graded, but a shard of nobody; a fault before whatever was earned."""
    class Graded(command.Batch):
        def grade(self, folder, only=(), resume=False, shard=None):
            if points is not None:
                kept_results(tmp_path / "g", result("s1", points=points))
            return Tally(**tally, seconds=1.0)

    monkeypatch.setattr(command, "Batch", Graded)
    (tmp_path / "seed").write_text("7")
    options = ["--fail-under", "60", "--seed-file", str(tmp_path / "seed"), *(["--shard", shard] if shard else [])]
    assert command.main(["class", str(tmp_path), "--out", str(tmp_path / "g"), *options]) == code


@pytest.mark.parametrize("options, column", [((), "Another"), (("--assignment", "INT8 (1)"), "INT8 (1)")], ids=str)
def test_an_export_s_options(tmp_path, capsys, options, column):
    kept_results(tmp_path / "g", result("ada", ids={"canvas": "1"}))
    (tmp_path / "c.toml").write_text('title = "Another"\n[rubric.public]\nweight = 1\n')
    export = ["export", "--format", "canvas", "--course", str(tmp_path / "c.toml"), "--to", str(tmp_path / "to.csv")]
    assert command.main([*export, *options, str(tmp_path / "g")]) == command.GRADED
    assert (tmp_path / "to.csv").read_text().splitlines()[0].endswith(f",{column}")
    assert ("Canvas takes `Another` for a new column" in capsys.readouterr().err) == (not options)


def test_who_is_alike_is_named_as_in_the_roster(tmp_path, capsys):
    body = "".join(f"    total = total * {n} + N // (BLOCK + {n})\n" for n in range(20))
    source = f"# exercise: programs_needed\ndef programs_needed(N, BLOCK):\n    total = 0\n{body}    return total\n"
    for folder, text in (("sub", source), ("g", "")):
        (tmp_path / folder).mkdir()
        for name in ("ada", "bob") if text else ():
            (tmp_path / folder / f"{name}.py").write_text(text)
    (tmp_path / "g" / "roster.csv").write_text("id,name\ns1,Ada\ns2,Bob\n")
    similar = ["similar", str(tmp_path / "sub"), "--out", str(tmp_path / "g")]
    assert command.main([*similar, "--lesson", "00"]) == 0 and "s1 and s2: programs_needed 100 %" in capsys.readouterr().out
    assert command.main([*similar, "--lesson", "01"]) == 0 and "no two submissions are alike" in capsys.readouterr().out


@pytest.mark.parametrize("words", [
    [], ["one"], ["class", "sub"], ["class", "--out", "g"], ["merge", "a"], ["merge", "--out", "g"], ["autograder"],
    ["report"], ["export", "g"], ["export", "--format", "xls", "g"], ["export", "--format", "csv"], ["similar"], ["odd"],
    ["selftest", "--fail-under", "5"], ["merge", "a", "--out", "g", "--seed-file", "x"],
    ["class", "a", "--out", "g", "--jobs", "x"], ["one", "a", "--fail-under", "x"],
    ["autograder", "--out", "z", "--fail-under", "5"]], ids=" ".join)
def test_what_a_command_needs_is_asked_for(capsys, words):
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == command.USAGE and "usage: workshop.py grade" in capsys.readouterr().err


ALWAYS = {"exercise": [], "lesson": [], "course": None, "timeout": 60.0, "student_timeout": 900.0, "gpus": "",
          "require_isolation": False, "no_compile": False}
DEFAULTS = {
    "one a b": ALWAYS | {"submission": [Path("a"), Path("b")], "json": False, "fail_under": None, "seed_file": None},
    "class a --out g": ALWAYS | {
        "folder": Path("a"), "out": Path("g"), "jobs": len(os.sched_getaffinity(0)), "only": [], "resume": False,
        "roster": None, "deadlines": None, "cluster": None, "slurm": False, "dry_run": False, "shards": None, "sbatch": "",
        "shard": None, "fail_under": None, "seed_file": None},
    "merge a b --out g": {"parts": [Path("a"), Path("b")], "out": Path("g")},
    "autograder --out z": ALWAYS | {"out": Path("z"), "seed_file": None}, "selftest": ALWAYS,
    "report g": {"grades": Path("g"), "anonymous": False, "course": None, "lesson": []},
    "export --format csv g": {"grades": Path("g"), "format": "csv", "to": None, "assignment": "", "course": None,
                              "lesson": []},
    "similar a": {"folder": Path("a"), "out": None, "course": None, "lesson": []},
}


@pytest.mark.parametrize("line", DEFAULTS)
def test_what_holds_where_nothing_is_said(line):
    found = vars(command._parser().parse_args(line.split()))
    assert found.pop("run").__name__ == f"_{line.split()[0]}" and found == DEFAULTS[line]


def test_options_that_may_be_given_several_times():
    line = "class a --out g --only x --only y --exercise e --lesson 01 --lesson 02"
    args = command._parser().parse_args(line.split())
    assert (args.only, args.exercise, args.lesson) == (["x", "y"], ["e"], ["01", "02"])
