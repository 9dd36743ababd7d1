"""`workshop.py check`: the table of a student's progress."""

import subprocess
import sys

import nbformat
import pytest

import checks.course.progress
from checks.course.notebooks import LESSONS, exercises_in, read, solve
from checks.course.progress import check_notebooks


@pytest.fixture
def lesson():
    return read(LESSONS / "01_gemv_fp16.ipynb")


def written(notebook, folder):
    path = folder / "01_gemv_fp16.ipynb"
    nbformat.write(notebook, path)
    return path


def test_untouched_lessons_are_not_attempted_and_no_failure(lesson, tmp_path, capsys):
    assert check_notebooks([written(lesson, tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("not attempted") == len(exercises_in(lesson))
    assert f"0 of {len(exercises_in(lesson))} exercises solved, 0 of 10 points" in said


def test_holes_are_found_without_running_anything(lesson, tmp_path, capsys, monkeypatch):
    monkeypatch.delattr(checks.course.progress, "definitions")
    monkeypatch.delattr(checks.course.progress, "judge")
    assert check_notebooks([written(lesson, tmp_path)]) == 0
    assert "Next: gemv_bytes in 01_gemv_fp16.ipynb." in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["80", "120"])
def test_each_lesson_has_its_subtotal_and_names_fit(tmp_path, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    second = read(LESSONS / "04_quantize.ipynb")
    solve(second)
    exercises_in(second)["sqnr_db"].source = ""
    nbformat.write(second, tmp_path / "04_quantize.ipynb")
    assert check_notebooks([LESSONS / "01_gemv_fp16.ipynb", tmp_path / "04_quantize.ipynb"]) == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "01_gemv_fp16 0 of 4 solved 0 of 10" in lines
    assert "04_quantize 5 of 6 solved 13 of 14" in lines
    assert "quantize_int8_perrow_plain_kernel ✓ solved 5 of 5" in lines
    assert "5 of 10 exercises solved, 13 of 24 points." in lines
    assert not any(line.startswith("Next") for line in lines)  # first what is wrong


def test_solved_wrong_and_broken_cells_each_get_their_line(lesson, tmp_path, capsys):
    solve(lesson)
    cells = exercises_in(lesson)
    cells["gemv_bytes"].source = cells["gemv_bytes"].source.replace("2 * (", "4 * (")
    cells["roofline_us"].source += "\n)"
    assert check_notebooks([written(lesson, tmp_path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "8 of 10 points" in said and "2 of 4 exercises solved" in said
    assert "FP32 sizes" in said and "SyntaxError" in said


def test_plots_prints_and_magics_are_not_run(lesson, tmp_path, capsys):
    lesson.cells += [nbformat.v4.new_code_cell("%matplotlib inline\nraise SystemExit(3)"),
                     nbformat.v4.new_code_cell("import sys; sys_exit = sys.exit\nsys_exit(5)")]
    assert check_notebooks([written(lesson, tmp_path)]) == 0


def test_a_lost_or_doubled_exercise_is_not_passed_over(lesson, tmp_path, capsys):
    solve(lesson)
    cells = exercises_in(lesson)
    lesson.cells.remove(cells["gemv_bytes"])
    double = cells["roofline_us"]
    lesson.cells.append(nbformat.v4.new_code_cell(double.source))
    double.source = "# my notes\n" + double.source
    assert check_notebooks([written(lesson, tmp_path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "8 of 10 points" in said
    assert "there is no cell with the line `# exercise: gemv_bytes`" in said
    assert "there are 2 cells with the line `# exercise: roofline_us`" in said


def test_a_file_that_is_no_notebook_is_named(tmp_path, capsys):
    path = tmp_path / "broken.ipynb"
    path.write_text("{")
    assert check_notebooks([path]) == 2
    assert "broken.ipynb is not a notebook" in " ".join(capsys.readouterr().out.split())


def test_the_command_line_passes_through():
    done = subprocess.run([sys.executable, "-m", "checks", "check", "no_such.ipynb"], capture_output=True, text=True)
    assert done.returncode == 2 and "no_such.ipynb" in done.stdout
    unknown = subprocess.run([sys.executable, "-m", "checks", "chekc"], capture_output=True, text=True)
    assert unknown.returncode == 2 and "doctor" in unknown.stderr


