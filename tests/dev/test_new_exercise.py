"""`workshop.py dev new-exercise`, on a copy of the repository."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import Mock

import pytest

from checks.course.notebooks import read
from checks.dev.command import main
from checks.dev.mutate import MutationFailed
from checks.dev.new_exercise import NewExercise, extended, write_skeleton
from checks.paths import ROOT

COPIED = ("checks", "kernels", "lessons", "tests", "README.md", "conftest.py", "pyproject.toml", "workshop.py")


KERNEL = NewExercise("row_max_kernel", "01", Path("kernels/row_max.py"), "row_max")
FUNCTION = NewExercise("gemv_intensity", "01", Path("kernels/cost.py"), "gemv", after="takeaway-cost")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The repository, without what no test here looks at."""
    root = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "exploits", "honest", "report_card.json", "report_card.png",
                                              ".writing-*")  # lesson 10 may run meanwhile
            shutil.copytree(source, root / name, ignore=left_out)
        else:
            shutil.copy(source, root / name)
    return root


def texts(folder: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def run(copy: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *command], cwd=copy, capture_output=True, text=True)


def names(copy: Path, paths: Iterable[Path]) -> set[str]:
    return {str(path.relative_to(copy)) for path in paths}


@pytest.fixture(scope="module")
def skeletons(copy):
    """By exercise: the files that were said to be written and those that did change, one exercise after the other."""
    made, before = {}, texts(copy)
    for new in (KERNEL, FUNCTION):
        written, after = write_skeleton(new, copy), texts(copy)
        made[new.name] = names(copy, written), names(copy, {path for path in after if before.get(path) != after[path]})
        before = after
    return made


@pytest.fixture(scope="module")
def failed(copy, skeletons):
    """The tests of tests/dev/test_every_place.py that fail for the exercises, as (test, exercise)."""
    done = run(copy, "pytest", "-q", "-rf", "-p", "no:cacheprovider", "tests/dev/test_every_place.py",
               "-k", " or ".join(skeletons))
    assert done.returncode == 1, done.stdout + done.stderr
    return set(re.findall(r"^FAILED .*::test_(\w+)\[(\w+)\]", done.stdout, re.MULTILINE))


@pytest.mark.parametrize(("name", "is_kernel", "wrapper"), [
    ("row_max_kernel", True, "row_max"), ("add_two_kernels", False, "add_two_kernels"), ("max_k", False, "max_k"),
    ("sum_kernel_parts_kernel", True, "sum_kernel_parts"), ("kernel_bytes", False, "kernel_bytes"),
])
def test_a_kernel_s_last_word_is_not_its_wrapper_s(name, is_kernel, wrapper):
    new = NewExercise(name, "01", Path("kernels/parts/row.py"), "row")
    assert (new.is_kernel, new.wrapper, new.constant) == (is_kernel, wrapper, wrapper.upper())
    assert new.module == "kernels.parts.row"


def test_skeleton_of_a_kernel_is_in_each_place(skeletons):
    written, changed = skeletons[KERNEL.name]
    assert written == changed == {
        "kernels/row_max.py", "checks/exercises/row_max.py", "checks/exercises/__init__.py", "README.md",
        "lessons/01_gemv_fp16.ipynb", "tests/kernels/test_row_max.py", "tests/kernels/test_every_kernel_compiles.py",
        "tests/gpu/gpu_report_lessons.py"}


def test_skeleton_of_a_function_joins_what_is_there(skeletons):
    written, changed = skeletons[FUNCTION.name]
    assert written == changed == {"kernels/cost.py", "checks/exercises/gemv.py", "README.md", "lessons/01_gemv_fp16.ipynb"}


def test_cells_follow_the_one_named_or_close_the_last_part(copy, skeletons):
    ids = [cell.id for cell in read(copy / "lessons" / "01_gemv_fp16.ipynb").cells]
    at, end = ids.index("takeaway-cost"), ids.index("end")
    assert ids[at + 1:at + 4] == ["exercise-gemv-intensity-text", "exercise-gemv-intensity", "check-gemv-intensity"]
    assert ids[end - 4:end] == ["exercise-row-max-text", "exercise-row-max", "wrapper-row-max", "check-row-max"]
    with pytest.raises(LookupError, match="01_gemv_fp16.ipynb has no cell 'takeaway'; there are title, way, setup, "):
        write_skeleton(NewExercise("new_one", "01", Path("kernels/x.py"), "x", after="takeaway"), copy)


def test_each_place_has_a_todo_that_its_test_finds(failed):
    of_all = {"oracle_is_written_and_three_mistakes_are_known", "answer_is_written", "lesson_has_its_text_hints_and_stub",
              "readme_has_a_row_for_its_lesson"}
    of_kernels = {"kernel_has_a_test", "kernel_is_compiled_for_gpus", "kernel_is_in_the_gpu_report"}
    assert {test for test, exercise in failed if exercise == KERNEL.name} == of_all | of_kernels
    assert {test for test, exercise in failed if exercise == FUNCTION.name} == of_all


def test_skeletons_have_no_lint(copy, skeletons):
    changed = set().union(*(files for _, files in skeletons.values()))
    ruff = run(copy, "ruff", "check", "--no-cache", *changed)
    assert ruff.returncode == 0, ruff.stdout


@pytest.mark.parametrize(("name", "lesson", "file", "noun", "said"), [
    ("gemv_bytes", "01", "kernels/x.py", "x", "kernels/cost.py has gemv_bytes already"),
    ("gemv_fp16_row_kernel", "01", "kernels/x.py", "x", "kernels/gemv.py has gemv_fp16_row, gemv_fp16_row_kernel already"),
    ("new_one", "0", "kernels/x.py", "x", "several names start with '0'; they are: 00_hello_triton, "),
    ("new_one", "77", "kernels/x.py", "x", "there is no lesson '77'; there are: 00_hello_triton, "),
    ("new_one", "01", "checks/x.py", "x", "--file must be a Python file in kernels/"),
    ("new_one", "01", "kernels/x.txt", "x", "--file must be a Python file in kernels/"),
    ("NewOne", "01", "kernels/x.py", "x", "'NewOne' must be a Python name in lower case"),
    ("new_one", "01", "kernels/x.py", "ge-mv", "'ge-mv' must be a Python name in lower case"),
    ("channel_sqnr", "06", "kernels/x.py", "error", "checks/exercises/error.py has CHANNEL_SQNR already"),
])
def test_what_cannot_be_made_is_named_and_nothing_is_written(name, lesson, file, noun, said, copy):
    before = texts(copy)
    with pytest.raises((LookupError, ValueError)) as caught:
        write_skeleton(NewExercise(name, lesson, Path(file), noun), copy)
    assert said in caught.value.args[0]
    assert texts(copy) == before


@pytest.mark.parametrize("argv", [["new-exercise", "x", "--lesson", "01", "--file", "kernels/x.py"], ["mutate", "checks"]])
@pytest.mark.parametrize("error", [LookupError, KeyError, ValueError, MutationFailed])
def test_command_says_what_is_wrong(argv, error, monkeypatch, capsys):
    """A sentence, and a status that is no success; what is no user's mistake is left as it is."""
    for name in ("write_skeleton", "mutate"):
        monkeypatch.setattr(f"checks.dev.command.{name}", Mock(side_effect=error("there is no such lesson")))
    assert main(argv) == 1
    assert capsys.readouterr() == ("", "workshop.py dev: there is no such lesson\n")
    for name in ("write_skeleton", "mutate"):
        monkeypatch.setattr(f"checks.dev.command.{name}", Mock(side_effect=RuntimeError))
    with pytest.raises(RuntimeError):
        main(argv)


@pytest.mark.parametrize(("lesson", "file", "said"), [
    ("01", "kernels/cost.py", "kernels/cost.py has gemv_bytes already"), ("99", "kernels/x.py", "there is no lesson '99'; "),
    ("01", "x.py", "--file must be a Python file in kernels/")])
def test_mistakes_in_what_was_asked_are_said(lesson, file, said, capsys):
    assert main(["new-exercise", "gemv_bytes", "--lesson", lesson, "--file", file]) == 1
    assert capsys.readouterr().err.startswith(f"workshop.py dev: {said}")


@pytest.mark.parametrize(("options", "noun", "after"), [
    ([], "cost", None), (["--noun", "gemv", "--after", "end"], "gemv", "end")])
def test_command_passes_its_options_on_and_names_what_it_wrote(options, noun, after, monkeypatch, capsys):
    write = Mock(return_value=[ROOT / "kernels" / "cost.py", ROOT / "lessons" / "01_gemv_fp16.ipynb"])
    monkeypatch.setattr("checks.dev.command.write_skeleton", write)
    assert main(["new-exercise", "new_one", "--lesson", "01", "--file", "kernels/cost.py", *options]) == 0
    write.assert_called_once_with(NewExercise("new_one", "01", Path("kernels/cost.py"), noun, after))
    said = capsys.readouterr().out
    assert said.startswith("wrote kernels/cost.py\nwrote lessons/01_gemv_fp16.ipynb\nEach place has a TODO")
    assert said.endswith(' -k "new_one or 01_gemv_fp16"\n')


@pytest.mark.parametrize(("text", "want"), [
    ("A = [b]\n", "A = [b, x]\n"),
    ("A = ()\n", "A = (x,)\n"), ("A = (b,)\n", "A = (b, x)\n"), ("A = (b, c)\nB = 1\n", "A = (b, c, x)\nB = 1\n"),
    ("A = (\n    b,\n    c,\n)\n", "A = (\n    b,\n    c, x)\n"),
])
def test_sequence_gets_one_element_more(text, want):
    assert extended(text, "A", "x") == want
