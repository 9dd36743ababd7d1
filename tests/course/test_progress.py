"""`workshop.py check`: the table of a student's progress."""

import shutil
import sys
from types import SimpleNamespace

import nbformat
import pytest

import checks.course.notebooks
import checks.course.progress
from checks.__main__ import check_command
from checks.course.notebooks import LESSONS, exercises_in, read, run, solve
from checks.course.progress import check_notebooks
from checks.exercises import EXERCISES
from checks.host.notebook import Candidate, Notebook
from checks.judge.pipeline import Verdict
from checks.judge.trial import Outcome
from checks.judge.verdict import judge

LESSON = [exercise for exercise in EXERCISES.values() if exercise.lesson == "01_gemv_fp16"]
COUNT, POINTS = len(LESSON), sum(exercise.points for exercise in LESSON)
SECOND = [exercise for exercise in EXERCISES.values() if exercise.lesson == "04_quantize"]


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
    assert f"0 of {COUNT} exercises solved, 0 of {POINTS} points" in said


def test_placeholders_are_found_without_running_anything(lesson, tmp_path, capsys, monkeypatch):
    monkeypatch.delattr(checks.course.progress, "run")
    monkeypatch.delattr(checks.course.progress, "judge")
    assert check_notebooks([written(lesson, tmp_path)]) == 0
    assert "Next: gemv_bytes in 01_gemv_fp16.ipynb." in capsys.readouterr().out


JUDGED = {}


def judge_once(exercise, function, written):
    """As `judge`, for a test that is run again with the same functions."""
    if exercise.name not in JUDGED:
        JUDGED[exercise.name] = judge(exercise, function, written=written)
    return JUDGED[exercise.name]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_each_lesson_has_its_subtotal_and_names_fit(tmp_path, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(checks.course.progress, "judge", judge_once)
    second = read(LESSONS / "04_quantize.ipynb")
    solve(second)
    exercises_in(second)["sqnr_db"].source = ""
    nbformat.write(second, tmp_path / "04_quantize.ipynb")
    assert check_notebooks([LESSONS / "01_gemv_fp16.ipynb", tmp_path / "04_quantize.ipynb"]) == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"01_gemv_fp16 0 of {COUNT} solved 0 of {POINTS}" in lines
    solved, reached = len(SECOND) - 1, sum(exercise.points for exercise in SECOND if exercise.name != "sqnr_db")
    lost = EXERCISES["sqnr_db"].points
    assert f"04_quantize {solved} of {solved + 1} solved {reached} of {reached + lost}" in lines
    assert "quantize_int8_perrow_plain_kernel ✓ solved 5 of 5" in lines
    assert f"{solved} of {COUNT + solved + 1} exercises solved, {reached} of {POINTS + reached + lost} points." in lines
    assert not any(line.startswith("Next") for line in lines)  # first what is wrong


def test_solved_wrong_and_broken_cells_each_get_their_line(lesson, tmp_path, capsys):
    solve(lesson)
    cells = exercises_in(lesson)
    cells["gemv_bytes"].source = cells["gemv_bytes"].source.replace("2 * (", "4 * (")
    cells["roofline_us"].source += "\n)"
    assert check_notebooks([written(lesson, tmp_path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"{POINTS - 2} of {POINTS} points" in said and f"{COUNT - 2} of {COUNT} exercises solved" in said
    assert "FP32 sizes" in said and "SyntaxError" in said


def test_the_table_names_each_state_and_what_is_next(lesson, tmp_path, capsys):
    solve(lesson)
    stubs = exercises_in(read(LESSONS / "01_gemv_fp16.ipynb"))
    for name in ("roofline_us", "gemv_fp16_kernel"):
        exercises_in(lesson)[name].source = stubs[name].source
    assert check_notebooks([written(lesson, tmp_path), LESSONS / "04_quantize.ipynb"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    points = {name: EXERCISES[name].points for name in stubs}
    assert [line for line in lines if line.startswith(("gemv", "roofline"))] == [
        f"gemv_bytes ✓ solved {points['gemv_bytes']} of {points['gemv_bytes']}",
        f"roofline_us ○ not attempted 0 of {points['roofline_us']}",
        f"gemv_fp16_row_kernel ✓ solved {points['gemv_fp16_row_kernel']} of {points['gemv_fp16_row_kernel']}",
        f"gemv_fp16_kernel ○ not attempted 0 of {points['gemv_fp16_kernel']}"]
    assert lines[-1] == "Next: roofline_us in 01_gemv_fp16.ipynb."


def test_a_finished_course_has_no_next(lesson, tmp_path, capsys):
    solve(lesson)
    assert check_notebooks([written(lesson, tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.endswith(f"{COUNT} of {COUNT} exercises solved, {POINTS} of {POINTS} points.\n")


def test_without_names_every_lesson_is_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checks.course.notebooks, "LESSONS", tmp_path)
    for name in ("04_quantize.ipynb", "01_gemv_fp16.ipynb"):
        shutil.copy(LESSONS / name, tmp_path)
    (tmp_path / "notes.ipynb").write_text("{")
    assert check_notebooks([]) == 0
    said = capsys.readouterr().out
    assert 0 < said.index("01_gemv_fp16") < said.index("04_quantize")
    assert f"0 of {COUNT + len(SECOND)} exercises solved" in said


def test_a_copy_of_another_name_is_checked_by_its_marks(lesson, tmp_path, capsys):
    lesson.cells.append(nbformat.v4.new_code_cell("# exercise: no_such\ndef no_such():\n    pass"))
    nbformat.write(lesson, tmp_path / "my copy.ipynb")
    assert check_notebooks([tmp_path / "my copy.ipynb"]) == 2
    assert "my copy.ipynb: a cell is marked `# exercise: no_such`, and there is no exercise" in capsys.readouterr().out
    lesson.cells.pop()
    nbformat.write(lesson, tmp_path / "my copy.ipynb")
    assert check_notebooks([tmp_path / "my copy.ipynb"]) == 0
    assert f"0 of {COUNT} exercises solved" in capsys.readouterr().out
    lesson.cells.append(nbformat.v4.new_code_cell("# exercise: no_such\ndef no_such():\n    pass"))
    assert check_notebooks([written(lesson, tmp_path)]) == 0  # a lesson's own exercises are known without it


def test_what_is_wrong_is_said_below_the_table(lesson, tmp_path, capsys):
    solve(lesson)
    cells = exercises_in(lesson)
    cells["gemv_bytes"].source = "# exercise: gemv_bytes\ndef bytes_of(N, K):\n    return 0"
    cells["roofline_us"].source = "# exercise: roofline_us\n\ndef roofline_us(:\n    pass"
    cells["gemv_fp16_row_kernel"].source = "# exercise: gemv_fp16_row_kernel\nfrom nowhere import gemv_fp16_row_kernel"
    cells["gemv_fp16_kernel"].source = cells["gemv_fp16_kernel"].source.replace("& mask_k[None, :]", "")
    assert check_notebooks([written(lesson, tmp_path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "✗ gemv_bytes: its cell does not define gemv_bytes" in said
    assert "✗ roofline_us: its cell does not run: SyntaxError: invalid syntax at: def roofline_us(:" in said
    assert "✗ gemv_fp16_row_kernel: its cell does not run: ModuleNotFoundError: No module named 'nowhere' at: from" in said
    assert "✗ gemv_fp16_kernel: " in said and "mask K as well as N." in said
    assert "gemv_fp16_kernel: gemv_fp16_kernel" not in said
    assert f"{COUNT - 4} of {COUNT} exercises solved" in said


WRAPPER_REFUSED = TypeError("launch() takes 2 arguments")


@pytest.mark.parametrize(("errors", "said"), [
    ([None], "0 is wrong"), ([None, None], "0 is wrong"), ([WRAPPER_REFUSED, None], "1 is wrong"),
    ([WRAPPER_REFUSED, ValueError("x"), None], "1 is wrong"), ([WRAPPER_REFUSED, WRAPPER_REFUSED], "0 is wrong")])
def test_of_several_ways_to_mean_it_one_that_fits_is_told(monkeypatch, errors, said):
    """As a rule a wrapper that takes other arguments than those that come is not meant."""
    exercise = EXERCISES["gemv_fp16_kernel"]
    outcomes = [Outcome(exercise.cases[0], {}, (), error=error) for error in errors]
    verdicts = iter([Verdict(exercise, "failed", f"{exercise.name}: {number} is wrong", outcome=outcome)
                     for number, outcome in enumerate(outcomes)])
    monkeypatch.setattr(checks.course.progress, "judge", lambda *_, **__: next(verdicts))
    ran = Notebook()
    monkeypatch.setattr(ran, "candidates", lambda *_: [Candidate(len)] * len(errors))
    assert checks.course.progress._judge(exercise, lambda numbers: ran, 0) == ("failed", said)


def own():
    return "the wrapper's"


@pytest.mark.parametrize(("name", "found", "right", "tried"), [
    ("gemv_fp16_kernel", {False: [len]}, None, [(False, len)]), ("gemv_bytes", {False: [len], True: [abs]}, None,
                                                                 [(False, len), (True, abs)]),
    ("gemv_bytes", {False: [len, abs], True: [max]}, abs, [(False, len), (False, abs)]),
    ("gemv_bytes", {False: [], True: [max, min]}, min, [(True, max), (True, min)]),
    ("gemv_fp16_kernel", {False: [], True: [len]}, None, [])],
    ids=["kernel", "function", "at once", "with numbers", "no kernel"])
def test_a_plain_function_is_looked_for_with_numbers_too(monkeypatch, name, found, right, tried):
    """Each way to mean it, until one is right. A kernel's wrapper is called as it was checked."""
    exercise, seen, asked = EXERCISES[name], [], []

    def judged(exercise, function, written):
        assert function() == "the wrapper's"
        seen.append((asked[-1], written))
        return Verdict(exercise, "passed" if written is right else "failed", f"{name}: {written.__name__}")

    def ran(numbers):
        asked.append(numbers)
        return SimpleNamespace(errors=[], candidates=lambda *names: [Candidate(function, own) for function in found[numbers]]
                               if names == (exercise.name, exercise.wrapper) else None)

    monkeypatch.setattr(checks.course.progress, "judge", judged)
    said = checks.course.progress._judge(exercise, ran, 0)
    assert seen == tried
    assert said == (("passed", f"{name}: {right.__name__}") if right else ("failed", tried[0][1].__name__) if tried else
                    ("crashed", f"its cell does not define {name}"))


BROKEN = "its cell does not run: ValueError: why"


@pytest.mark.parametrize(("errors", "said"), [
    ([(2, "return )")], f"{BROKEN}\n  at: return )"), ([(2, "")], BROKEN), ([(1, "x"), (2, "y")], f"{BROKEN}\n  at: y"),
    ([(1, "x"), (3, "y")], "its cell does not define gemv_bytes"), ([], "its cell does not define gemv_bytes")])
def test_of_all_errors_that_of_its_own_cell_is_told(errors, said):
    errors = [SimpleNamespace(cell=cell, line=line, type="ValueError", text="why") for cell, line in errors]
    ran = SimpleNamespace(errors=errors, candidates=lambda *_: [])
    assert checks.course.progress._judge(EXERCISES["gemv_bytes"], lambda numbers: ran, 2) == ("crashed", said)


def test_a_notebook_is_run_for_what_it_defines(capsys):
    cell = nbformat.v4.new_code_cell
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("SIZE = 5"),
        cell("import functools\nfrom checks import check, draw\nSIZE = 2; WIDE: int = 3\nprint('no')\nNOTHING: int"),
        cell("TABLE = open('no such file')"),
        cell("%matplotlib inline\n@functools.cache\ndef twice(x):\n    return SIZE * x\n\n\nclass Adder:\n    pass"),
        cell("draw(check(twice))\nraise SystemExit(3)"), cell("def broken(:"), cell("from nowhere import lost")])
    checks = sys.modules["checks"]
    found = run(notebook)
    namespace = found.namespace
    assert (namespace["twice"](4), namespace["twice"].cache_info().misses, namespace["WIDE"]) == (8, 1, 3)
    assert {"functools", "Adder"} <= set(namespace) and not {"TABLE", "NOTHING", "lost", "broken"} & set(namespace)
    assert [error.cell for error in found.errors] == [1, 3, 4, 5] and list(found.checked) == ["twice"]
    assert sys.modules["checks"] is checks and "checks.course" in sys.modules
    assert capsys.readouterr().out == ""


def test_what_was_checked_counts_not_what_comes_later(lesson, tmp_path, capsys):
    """As in the notebook, where `check` got the function as it was then."""
    solve(lesson)
    lesson.cells.append(nbformat.v4.new_code_cell("def gemv_bytes(N, K):\n    return 0"))
    lesson.cells.insert(1, nbformat.v4.new_code_cell("def gemv_bytes(N, K):\n    return 1"))
    assert check_notebooks([written(lesson, tmp_path)]) == 0


@pytest.mark.parametrize("change", [
    lambda source: "%%time\n" + source, lambda source: source.replace("\n", "\r\n"),
    lambda source: source.replace("# exercise: ", "#  exercise:  "),
    lambda source: source + "\n\x0c\n# a\u2028b\n# a\x85b\n",
    lambda source: "ONE = int(1)\nif ONE:\n    import math\n" + source,
    lambda source: "# given: something\nONE = 1\n" + source])
def test_forms_of_a_cell_that_change_nothing(lesson, tmp_path, capsys, change):
    solve(lesson)
    for name, cell in exercises_in(lesson).items():
        if "kernel" not in name:
            cell.source = change(cell.source)
    assert check_notebooks([written(lesson, tmp_path)]) == 0


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
    assert f"{POINTS - 2} of {POINTS} points" in said
    assert "there is no cell with the line `# exercise: gemv_bytes`" in said
    assert "there are 2 cells with the line `# exercise: roofline_us`" in said


def test_a_file_that_is_no_notebook_is_named(tmp_path, capsys):
    path = tmp_path / "broken.ipynb"
    path.write_text("{")
    assert check_notebooks([path]) == 2
    assert "broken.ipynb is not a notebook" in " ".join(capsys.readouterr().out.split())


def test_a_notebook_that_is_not_there_is_named(capsys):
    assert check_command(["no_such.ipynb"]) == 2
    assert "no_such.ipynb" in capsys.readouterr().out




def test_a_function_that_ends_the_program_is_wrong(tmp_path, capsys):
    notebook = solve(read(LESSONS / "00_hello_triton.ipynb"))
    cell = exercises_in(notebook)["programs_needed"]
    cell.source = cell.source.replace("return ", "import sys; sys.exit(0); return ")
    path = tmp_path / "00_hello_triton.ipynb"
    notebook.cells = [c for c in notebook.cells if c.cell_type != "code" or c is cell or c.id == "setup"]
    nbformat.write(notebook, path)
    assert check_notebooks([path]) == 1
    assert "it raised SystemExit: 0" in " ".join(capsys.readouterr().out.split())


def test_a_notebook_is_run_at_most_once_in_each_way(monkeypatch, lesson):
    asked, console = [], SimpleNamespace(is_terminal=False)
    monkeypatch.setattr(checks.course.progress, "run", lambda *given: asked.append(given) or len(asked))
    monkeypatch.setattr(checks.course.progress, "track", lambda names, **_: names)
    monkeypatch.setattr(checks.course.progress, "_judge", lambda _, ran, cell: ("failed", [ran(n) for n in (0, 1, 0)]))
    names = [exercise.name for exercise in LESSON]
    rows = checks.course.progress._rows("01", names, solve(lesson), console)
    assert asked == [(lesson, False), (lesson, True)] and [row.message for row in rows] == [[1, 2, 1]] * len(names)
