"""A class in shards: an array of Slurm jobs in one folder, and folders from anywhere that are put together."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
from grading import SOLVED, exercise, graded_here, result

from checks.exercises import EXERCISES
from checks.grader import results
from checks.grader.batch import Batch, locked, shard_named
from checks.grader.cluster import slurm
from checks.grader.cluster.merge import merge
from checks.grader.command import main
from checks.grader.gradebook import read_json
from checks.grader.results import read_results
from checks.grader.settings import Settings
from checks.paths import ROOT

STUDENTS = [f"s{number}" for number in range(7)]
ONE = ["--exercise", "programs_needed", "--no-compile"]


@pytest.fixture(autouse=True)
def nothing_is_run(monkeypatch):
    """Each exercise that was handed in passes, in the process of the test."""
    def exercise_result(self, name, submission):
        return results.new_exercise_result(EXERCISES[name], 1.0, "passed" if submission.cells else "missing", 1.0)

    graded_here(monkeypatch, exercise_result)


@pytest.fixture
def sub(tmp_path):
    for student in STUDENTS:
        (tmp_path / "sub" / student).mkdir(parents=True)
        (tmp_path / "sub" / student / "a.ipynb").write_text(SOLVED)
    (tmp_path / "sub" / "notes.txt").write_text("x")
    (tmp_path / "seed").write_text("a seed")
    return tmp_path / "sub"


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A stand-in for Slurm that notes what is submitted."""
    path = tmp_path / "bin" / "sbatch"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/submitted\n'
                    f'wc -l < {tmp_path}/submitted | tr -d " \\n"; echo ";cluster"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return tmp_path / "submitted"


def graded(grades: Path) -> list[str]:
    return [one["student"] for one in read_results(grades)]


def run_script(path: Path, **variables: str) -> int:
    """Run the last line of a job's script as its shell would, in this process."""
    *_, line = path.read_text().splitlines()
    for name, value in variables.items():
        line = re.sub(rf"\$\{{{name}:-[^}}]*\}}|\${name}", value, line)
    words = shlex.split(line)
    return main(words[words.index("grade") + 1:])


def test_a_slurm_array_grades_each_student_once(sub, tmp_path, sbatch, capsys):
    grades = tmp_path / "grades"
    jobs = ["--slurm", "--shards", "3", "--sbatch", "--partition='a b'"]
    assert main(["class", str(sub), "--out", str(grades), *jobs, *ONE]) == 0
    assert "submitted 3 jobs as 1, and 2 after them" in capsys.readouterr().out
    array, last = sbatch.read_text().splitlines()
    assert "--array=1-3" in array and "--partition=a b" in array and "--dependency=afterany:1" in last
    for number in ("3", "1"):  # in any order; the second is lost
        assert run_script(grades / "slurm" / "shard.sh", SLURM_ARRAY_TASK_ID=number, SLURM_CPUS_PER_TASK="2") == 0
    assert graded(grades) == ["s0", "s2", "s3", "s5", "s6"]
    before = {path.name: path.read_bytes() for path in (grades / "students").iterdir()}
    assert run_script(grades / "slurm" / "end.sh", SLURM_CPUS_PER_TASK="2") == 0
    assert "2 graded, 5 kept" in capsys.readouterr().out and graded(grades) == STUDENTS
    assert all((grades / "students" / name).read_bytes() == data for name, data in before.items())
    about = json.loads((grades / "class.json").read_text())
    assert about["finished"] and about["notices"] == ["notes.txt was not read: it is no notebook, script, archive or folder"]
    seed = (grades / "batch.json").read_bytes()
    assert main(["class", str(sub), "--out", str(grades), *jobs, *ONE]) == 0
    assert (grades / "batch.json").read_bytes() == seed, "else all would be graded again"


@pytest.mark.parametrize("about, kept", [(None, True), ({"finished": True}, True), ({"finished": False}, False)])
def test_the_points_before_are_those_of_a_run_that_finished(sub, tmp_path, about, kept):
    grades = tmp_path / "grades"
    results.write_result(grades, result("s0"))
    if about is not None:
        (grades / "class.json").write_text(json.dumps(about))
    assert Batch(grades, Settings(3), say=lambda _: None).prepare(sub) == len(STUDENTS)
    assert read_json(grades / "before.json") == ({"s0": {"programs_needed": 1.0}} if kept else {})
    assert read_json(grades / "class.json")["finished"] is False


def test_a_dry_run_shows_the_jobs_and_leaves_nothing(sub, tmp_path, sbatch, capsys):
    given = ["--slurm", "--dry-run", "--require-isolation", "--gpus", "0,1", "--timeout", "61", "--student-timeout", "62",
             "--lesson", "01", "--shards", "9", *ONE]
    assert main(["class", str(sub), "--out", str(tmp_path / "my grades"), *given]) == 0
    said = capsys.readouterr().out
    for text in ("--array=1-7", "$SLURM_ARRAY_TASK_ID/7", "--timeout 61.0", "--student-timeout 62.0", "--lesson 01",
                 "--require-isolation", "--no-compile", "--gpus 0,1", "--resume",
                 f"'{tmp_path}/my grades'", "--exercise programs_needed"):
        assert text in said
    assert not sbatch.exists() and not (tmp_path / "my grades").exists()


def test_jobs_have_whole_paths_whatever_was_given(sub, sbatch, capsys, monkeypatch):
    monkeypatch.chdir(sub.parent)
    said = []
    for folder in (Path(), sub.parent):
        assert main(["class", str(folder / sub.name), "--out", str(folder / "grades"), "--slurm", "--dry-run", *ONE]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and str(sub) in said[0]


@pytest.mark.parametrize("options", ["--time=02:00:00 --comment='a b'", "--time=02:00:00", "--partition=x", "-p x", "-p"])
def test_any_option_reaches_sbatch(sub, tmp_path, capsys, options):
    assert main(["class", str(sub), "--out", str(tmp_path / "g"), "--slurm", "--dry-run", "--sbatch", options]) == 0
    assert shlex.join(shlex.split(options)) in capsys.readouterr().out


def test_without_slurm_a_sentence_says_so(sub, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["class", str(sub), "--out", str(tmp_path / "g"), "--slurm"]) == 2
    assert "needs `sbatch`, which is not here" in capsys.readouterr().err and not (tmp_path / "g").exists()


def test_what_sbatch_refuses_is_said(sub, tmp_path, sbatch, capsys):
    sbatch.with_name("bin").joinpath("sbatch").write_text("#!/bin/sh\necho no such partition >&2\nexit 1\n")
    assert main(["class", str(sub), "--out", str(tmp_path / "g"), "--slurm"]) == 2
    assert "sbatch refused: no such partition" in capsys.readouterr().err


def test_the_commands_and_scripts_of_an_array(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "python_path", lambda: "/a b:/c")
    monkeypatch.setattr(slurm.sys, "executable", "/py thon")
    monkeypatch.chdir(tmp_path)
    array = slurm.Array(Path("my grades"), ("class", "/sub", "--out", "/my grades"), 7, ("--partition", "x"))
    common = ["sbatch", "--parsable", "--job-name=grade", "--requeue", "--cpus-per-task=2", "--open-mode=append"]
    folder = f"{tmp_path}/my grades/slurm"
    assert array.sbatch() == [*common, "--array=1-7", f"--output={folder}/%A_%a.log", "--partition", "x",
                              f"{folder}/shard.sh"]
    assert array.sbatch("12") == [*common, "--dependency=afterany:12", f"--output={folder}/end.log", "--partition", "x",
                                  f"{folder}/end.sh"]
    start, path, place, shard = array.script(True).splitlines()
    assert (start, path, place) == ("#!/bin/sh", "export PYTHONPATH='/a b:/c'", f"cd {shlex.quote(str(ROOT))} || exit 3")
    graded = "exec '/py thon' -P -m checks grade class /sub --out '/my grades' --resume --jobs \"${SLURM_CPUS_PER_TASK:-1}\""
    assert shard == f'{graded} --shard "$SLURM_ARRAY_TASK_ID/7"' and array.script(False).splitlines()[-1] == graded
    said: list[str] = []
    slurm.show(array, said.append)
    for number, (shard, after) in enumerate(((True, ""), (False, "ARRAY"))):
        assert said[2 * number] == f"# {array.sbatch(after)[-1]}\n{array.script(shard)}"
        assert said[2 * number + 1] == f"$ {shlex.join(array.sbatch(after))}\n"


@pytest.mark.parametrize("students, jobs", [(0, 1), (1, 1), (10, 1), (11, 2), (10**6, 1000)])
def test_there_is_a_job_for_ten_students(students, jobs):
    assert slurm.shards_for(students) == jobs


def test_shards_exclude_whole_runs_and_themselves_alone(tmp_path):
    third, other = shard_named("3/20"), shard_named("4/20")
    with locked(tmp_path, third), locked(tmp_path, other):
        for shard in (third, None):
            with pytest.raises(ValueError, match="another run is grading"), locked(tmp_path, shard):
                pass
    with locked(tmp_path), pytest.raises(ValueError, match="another run is grading"), locked(tmp_path, third):
        pass


@pytest.mark.parametrize("options, said", [
    (["--shard", "0/3"], "a part such as 3/20"), (["--shard", "4/3"], "a part such as 3/20"), (["--shard", "x"], "3/20"),
    (["--shard", "1/2"], "needs --seed-file"), (["--dry-run"], "go with --slurm"),
    (["--slurm", "--shard", "1/2"], "exclude"), (["--slurm", "--only", "s1"], "exclude"),
    (["--shard", "1/2", "--only", "s1"], "exclude"), (["--cluster", "tcp://s:1", "--slurm"], "exclude"),
    (["--jobs", "0"], "1 or more"),
    (["--slurm", "--shards", "0"], "1 or more")])
def test_options_that_do_not_go_together(sub, tmp_path, capsys, options, said):
    assert main(["class", str(sub), "--out", str(tmp_path / "g"), *options]) == 2
    assert said in capsys.readouterr().err


# shards from anywhere


def grade_parts(sub: Path, *parts: Path, seed: str = "seed") -> None:
    for number, part in enumerate(parts, 1):
        shard = ["--shard", f"{number}/{len(parts)}", "--seed-file", str(sub.parent / seed)]
        assert main(["class", str(sub), "--out", str(part), *shard, *ONE]) == 0


def test_merged_shards_are_the_class(sub, tmp_path, capsys):
    parts = [tmp_path / "a", tmp_path / "b"]
    grade_parts(sub, *parts)
    assert graded(parts[0]) == STUDENTS[::2] and graded(parts[1]) == STUDENTS[1::2]
    merging = ["merge", *map(str, parts), "--out", str(tmp_path / "all")]
    assert main(merging) == 0
    files = {path: path.read_bytes() for path in (tmp_path / "all").rglob("*.json")}
    assert graded(tmp_path / "all") == STUDENTS and main(merging) == 0
    assert all(path.read_bytes() == data for path, data in files.items()), "merging again changes nothing"
    assert json.loads((tmp_path / "all" / "class.json").read_text())["notices"] == [
        "notes.txt was not read: it is no notebook, script, archive or folder"]
    capsys.readouterr()
    assert main(["class", str(sub), "--out", str(tmp_path / "all"), "--resume", *ONE]) == 0
    assert "0 graded, 7 kept" in capsys.readouterr().out
    assert main(["merge", str(parts[0]), "--out", str(tmp_path / "half")]) == 0
    assert "not graded in any part: s1, s3, s5" in capsys.readouterr().out


def test_a_part_that_comes_later_is_added_to_what_is_known(sub, tmp_path):
    parts, grades = [tmp_path / "a", tmp_path / "b"], tmp_path / "all"
    grade_parts(sub, *parts)
    for part, about in zip(parts, ({"notices": ["one", "three"], "absent": ["zed"], "students": ["s0", "zed"]},
                                   {"notices": ["two", "one"], "absent": ["zoe", "s0"], "students": ["s1"]}), strict=True):
        (part / "class.json").write_text(json.dumps(json.loads((part / "class.json").read_text()) | about))
        assert main(["merge", str(part), "--out", str(grades)]) == 0
    about = json.loads((grades / "class.json").read_text())
    assert {name: about[name] for name in ("notices", "absent", "students")} == {
        "notices": ["two", "one", "three"], "absent": ["zoe", "zed"], "students": ["s1", "s0", "zed"]}
    assert graded(grades) == STUDENTS


def test_parts_that_were_not_graded_alike(sub, tmp_path, capsys):
    (tmp_path / "other").write_text("another seed")
    grade_parts(sub, tmp_path / "a", tmp_path / "b")
    grade_parts(sub, tmp_path / "c", seed="other")
    assert main(["merge", *(str(tmp_path / name) for name in "abc"), "--out", str(tmp_path / "all")]) == 2
    assert "different seeds" in capsys.readouterr().err and not (tmp_path / "all" / "students").exists()
    (tmp_path / "a" / "roster.csv").write_text("id\ns1\n")
    (tmp_path / "b" / "roster.csv").write_text("id\ns2\n")
    assert main(["merge", *(str(tmp_path / name) for name in "ab"), "--out", str(tmp_path / "all")]) == 2
    assert "roster.csv differs" in capsys.readouterr().err


def test_of_two_results_the_whole_one_then_the_newer_is_taken(sub, tmp_path, capsys):
    grade_parts(sub, tmp_path / "a")
    grade_parts(sub, tmp_path / "b")
    ada, bob, eva, kim = (results.result_path(tmp_path / "b", student) for student in STUDENTS[:4])
    for path, changed in ((ada, {"graded_at": "9"}), (bob, {"graded_at": "9", "key": "other", "submission": "other"}),
                          (eva, {"graded_at": "0"}), (kim, {"graded_at": "9", "exercises": []})):
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    broken = results.result_path(tmp_path / "a", STUDENTS[2])
    unfinished = json.loads(broken.read_text())
    unfinished["exercises"][0].update(status=results.FAULT, points=None)
    broken.write_text(json.dumps(unfinished))
    assert main(["merge", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "all")]) == 0
    taken = [json.loads(results.result_path(tmp_path / "all", student).read_text())["graded_at"] for student in STUDENTS[:4]]
    assert (taken[0] == "9", taken[1], taken[2], taken[3] == "9") == (False, "9", "0", False)
    said = capsys.readouterr().out
    assert "s1: graded in several parts" in said and "s0:" not in said and "s2:" not in said
    (attempt,) = (tmp_path / "all" / "attempts").glob("*/*.json")
    assert attempt.parent.name == "s1", "what was replaced is an attempt"
    assert main(["merge", str(tmp_path / "all"), "--out", str(tmp_path / "again")]) == 0
    assert [path.name for path in (tmp_path / "again" / "attempts").glob("s1/*.json")] == [attempt.name]


@pytest.mark.parametrize("a_open, b_open, a_at, b_at, taken", [
    (False, False, 1, 2, "b"), (False, False, 2, 1, "a"), (False, False, 1, 1, "a"), (True, False, 2, 1, "b"),
    (False, True, 1, 2, "a"), (True, True, 1, 2, "b"), (True, True, 2, 1, "a")])
@pytest.mark.parametrize("same", [True, False])
def test_which_of_two_results_is_worth_more(tmp_path, a_open, b_open, a_at, b_at, taken, same):
    for name, is_open, at in (("a", a_open, a_at), ("b", b_open, b_at)):
        one = exercise(name, points=None if is_open else 1.0, status=results.FAULT if is_open else "passed")
        results.write_result(tmp_path / name, result("ada", one, graded_at=str(at), key="k" if same else name))
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all", lambda _: None)
    (found,) = read_results(tmp_path / "all")
    kept_first = same and not a_open  # graded alike: nothing can be newer in it
    assert found["exercises"][0]["exercise"] == ("a" if kept_first else taken)


@pytest.mark.parametrize("name", ["course.toml", "roster.csv", "deadlines.csv"])
def test_what_stands_beside_the_grades_is_the_same_in_all_parts(tmp_path, name):
    parts = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for part, student in zip(parts, "abc", strict=True):
        results.write_result(part, result(student))
    (parts[1] / name).write_text("x")
    assert merge(parts, tmp_path / "all") == 3 and (tmp_path / "all" / name).read_text() == "x", "some may have none"
    (parts[2] / name).write_text("y")
    for folder in (tmp_path / "all", tmp_path / "new"):
        with pytest.raises(ValueError, match=f"{name} differs between .*/(all|b) and .*/c"):
            merge(parts, folder)
