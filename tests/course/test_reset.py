"""`workshop.py reset`: the stub or the lesson is back to the byte, and nothing of the student's is lost."""

import contextlib
import resource
import shutil
from pathlib import Path

import nbformat
import pytest

import checks.course.reset
from checks.course.notebooks import LESSONS, exercises_in, read, solve
from checks.course.reset import main as reset_command
from checks.course.reset import reset

SQNR = "sqnr_db"


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """A copy of lesson 04, whose backups go beside it."""
    monkeypatch.setattr(checks.course.reset, "LESSONS", tmp_path)
    monkeypatch.setattr(checks.course.reset, "BACKUPS", tmp_path / "backups")
    return Path(shutil.copy(LESSONS / "04_quantize.ipynb", tmp_path))


def backups(lesson):
    return sorted((lesson.parent / "backups").glob("*"))


def rewritten(lesson, change):
    """The lesson's file after `change(notebook)`: its bytes."""
    notebook = read(lesson)
    change(notebook)
    nbformat.write(notebook, lesson)
    return lesson.read_bytes()


def sources(lesson):
    return [cell.source for cell in read(lesson).cells]


def add_notes(notebook):
    notebook.cells.insert(3, nbformat.v4.new_markdown_cell("my notes"))


def test_one_exercise_is_put_back_and_the_rest_stays(lesson):
    old = rewritten(lesson, lambda notebook: (solve(notebook), add_notes(notebook)))
    before, stub = sources(lesson), exercises_in(read(LESSONS / lesson.name))[SQNR]
    said = reset("04", "sqnr_db")
    (changed,) = [pair for pair in zip(before, sources(lesson), strict=True) if pair[0] != pair[1]]
    assert changed[1] == stub.source
    (backup,) = backups(lesson)
    assert backup.read_bytes() == old
    assert "sqnr_db in 04_quantize: restored" in said and f"backups/{backup.name}" in said and "Reload" in said


def test_a_number_is_that_of_one_lesson(lesson):
    for number, name in (("07", "07_fused"), ("07b", "07b_fused_mlp")):
        assert f"lesson {name}: " in reset(number)


def test_a_whole_lesson_is_put_back_to_the_byte(lesson):
    old = rewritten(lesson, lambda notebook: (solve(notebook), add_notes(notebook)))
    assert "lesson 04_quantize: restored" in reset("04_quantize.ipynb")
    assert lesson.read_bytes() == (LESSONS / lesson.name).read_bytes()
    assert [backup.read_bytes() for backup in backups(lesson)] == [old]


def test_every_reset_has_a_backup_of_its_own(lesson):
    old = []
    for _ in range(3):
        old.append(rewritten(lesson, add_notes))
        reset("lessons/04_quantize.ipynb")
    assert [backup.read_bytes() for backup in backups(lesson)] == old


@pytest.mark.parametrize("exercise", [None, "sqnr_db"])
def test_what_is_as_it_was_is_left_alone(lesson, exercise):
    assert "nothing was done" in reset("04", exercise)
    assert not backups(lesson)


def test_a_lost_cell_comes_back_and_a_doubled_one_is_one_again(lesson):
    pristine = sources(lesson)
    rewritten(lesson, lambda notebook: notebook.cells.remove(exercises_in(notebook)[SQNR]))
    reset("04", "sqnr")
    assert sources(lesson) == pristine
    rewritten(lesson, lambda notebook: notebook.cells.append(nbformat.v4.new_code_cell(f"# exercise: {SQNR}\n1 +")))
    reset("04", "sqnr_db")
    assert sources(lesson) == pristine
    assert len(backups(lesson)) == 2


@pytest.mark.parametrize("times", [1, 2])
def test_a_cell_that_was_moved_stays_where_it_is(lesson, times):
    """Of several, where the first of them is."""
    def move(notebook):
        cell = exercises_in(notebook)[SQNR]
        notebook.cells.remove(cell)
        cell.source += "\n    return 1"
        notebook.cells[1:1] = [cell]
        notebook.cells += [nbformat.v4.new_code_cell(cell.source)] * (times - 1)

    stub, rest = exercises_in(read(lesson))[SQNR].source, sources(lesson)
    rest.remove(stub)
    rewritten(lesson, move)
    reset("04", SQNR)
    assert sources(lesson) == [rest[0], stub, *rest[1:]]


def test_of_merged_cells_one_exercise_is_put_back(lesson):
    def merge(notebook):
        cells = exercises_in(solve(notebook))
        first = cells["quantize_int8_perrow_torch"]
        first.source += "\n\n" + cells[SQNR].source
        notebook.cells.remove(cells[SQNR])

    stub = exercises_in(read(lesson))[SQNR].source
    rewritten(lesson, merge)
    reset("04", SQNR)
    found = exercises_in(read(lesson))
    assert [source for source in sources(lesson) if f"def {SQNR}" in source] == [stub]
    assert "TODO" not in found["quantize_int8_perrow_torch"].source
    nbformat.validate(nbformat.read(lesson, as_version=4))


def test_a_stub_comes_first_where_nothing_before_it_is_left(lesson):
    stub = exercises_in(read(lesson))[SQNR]

    def cut_off(notebook):
        del notebook.cells[:notebook.cells.index(exercises_in(notebook)[SQNR]) + 1]

    rewritten(lesson, cut_off)
    after = sources(lesson)
    reset("04", SQNR)
    assert sources(lesson) == [stub.source, *after]


def test_a_file_that_is_no_notebook_is_kept_and_can_be_replaced(lesson, capsys):
    lesson.write_text("{ my notebook, cut off")
    with pytest.raises(ValueError, match=r"(?s)04_quantize.ipynb is not a notebook.*reset 04_quantize` restores the whole"):
        reset("04", "sqnr_db")
    with pytest.raises(SystemExit):
        reset_command(["04", "sqnr_db"])
    assert "04_quantize.ipynb is not a notebook" in capsys.readouterr().err
    assert lesson.read_text() == "{ my notebook, cut off"
    reset("04")
    assert lesson.read_bytes() == (LESSONS / lesson.name).read_bytes()
    assert [backup.read_text() for backup in backups(lesson)] == ["{ my notebook, cut off"]


def test_a_deleted_notebook_is_put_back(lesson):
    lesson.unlink()
    with pytest.raises(ValueError, match="is not there"):
        reset("04", "sqnr_db")
    assert reset("04") == "lesson 04_quantize: restored to the original."
    assert lesson.read_bytes() == (LESSONS / lesson.name).read_bytes()


def test_a_full_disk_leaves_the_notebook_as_it_is(lesson, monkeypatch):
    old = rewritten(lesson, add_notes)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        reset("04")
    assert lesson.read_bytes() == old


@pytest.mark.parametrize(("arguments", "said"), [
    (["99"], "there is no lesson '99'; there are: 00_hello_triton, 01_gemv_fp16, "),
    (["0"], "several names start with '0'; they are: 00_hello_triton, 01_gemv_fp16, "),
    (["04", "softmax"], "there is no exercise of 04_quantize 'softmax'; there are: quantize_int8_perrow_bytes, "),
    (["04", "quantize_int8_perrow_"], "several names start with 'quantize_int8_perrow_'; they are: "),
    ([], "the following arguments are required: lesson"),
])
def test_what_is_not_clear_is_said_with_the_names_there_are(lesson, capsys, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        reset_command(arguments)
    assert said in capsys.readouterr().err
    assert not backups(lesson)


def test_the_command_says_what_it_did(lesson, capsys):
    rewritten(lesson, add_notes)
    assert reset_command(["04"]) == 0
    assert "restored to the original.\nYour notebook is kept as backups/04_quantize_" in capsys.readouterr().out


@contextlib.contextmanager
def full_disk():
    """No file can grow; a real full disk says "No space left on device" in the same place."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_nothing_is_changed(lesson, capsys):
    old = rewritten(lesson, add_notes)
    with full_disk():
        status = reset_command(["04"])
    assert status == 1
    assert lesson.read_bytes() == old
    assert backups(lesson) == []
    assert "nothing was changed, because" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(lesson, monkeypatch, capsys):
    rewritten(lesson, add_notes)
    monkeypatch.setattr(checks.course.reset, "BACKUPS", Path("/proc/backups"))
    assert reset_command(["04"]) == 1
    assert "nothing was changed, because /proc/backups" in capsys.readouterr().err
