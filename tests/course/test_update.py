"""`workshop.py update`: a new version of the course, and every cell that a student wrote."""

import shutil
import subprocess

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from checks.course import update as command
from checks.course.merging import merge
from checks.course.update import Refused, main, update


def stub(name, text="raise NotImplementedError('TODO: 1 line')"):
    return new_code_cell(f"# exercise: {name}\ndef {name}():\n    {text}", id=f"exercise-{name}")


def lesson(*changes):
    """A lesson of five cells, after `changes`: (index, source)."""
    cells = [new_markdown_cell("# Title", id="title"), new_code_cell("import torch", id="setup"), stub("first"),
             stub("second"), new_markdown_cell("The end", id="end")]
    for index, source in changes:
        cells[index].source = source
    return new_notebook(cells=cells)


SOLVED = stub("first", "return 1").source


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def test_a_solved_exercise_comes_into_the_new_text():
    merged, conflicts = merge(lesson(), lesson((2, SOLVED)), lesson((0, "# New title")))
    assert sources(merged) == sources(lesson((0, "# New title"), (2, SOLVED)))
    assert conflicts == []


def test_an_exercise_that_both_have_changed_stays_and_is_named():
    merged, conflicts = merge(lesson(), lesson((2, SOLVED)), lesson((2, stub("first", "raise NotImplementedError").source)))
    assert merged.cells[2].source == SOLVED
    assert len(conflicts) == 1 and "exercise first: the course has changed it too, and your cell is kept" in conflicts[0]


def test_the_same_change_by_both_is_no_conflict():
    both = lesson((2, SOLVED), (1, "import math"), (4, "The very end"))
    assert merge(lesson(), both, both) == (both, [])


def test_own_cells_stay_in_their_order():
    mine = lesson()
    mine.cells[3:3] = [new_code_cell(f"print({n})", id=f"mine-{n}") for n in range(3)]
    assert merge(lesson(), mine, lesson((0, "# New")))[0].cells[3:6] == mine.cells[3:6]


def test_a_cell_that_has_become_text_has_no_output():
    new, mine = lesson(), lesson((1, "import math"))
    new.cells[1] = new_markdown_cell("import torch", id="setup")
    merged, _ = merge(lesson(), mine, new)
    assert merged.cells[1].source == "import math" and "outputs" not in merged.cells[1]
    nbformat.validate(merged)


def test_notes_and_own_cells_stay_where_they_were():
    mine = lesson()
    mine.cells.insert(3, new_code_cell("print(1)", id="mine", execution_count=5))
    mine.cells.append(new_markdown_cell("my notes", id="notes"))
    new = lesson()
    new.cells.insert(1, new_markdown_cell("A new part", id="mine"))  # by chance the same id
    merged, conflicts = merge(lesson(), mine, new)
    ids = "title mine setup exercise-first mine-yours exercise-second end notes"
    assert [cell.id for cell in merged.cells] == ids.split()
    assert merged.cells[4].execution_count == 5 and conflicts == []
    nbformat.validate(merged)


def test_a_note_in_a_cell_that_the_course_has_changed():
    merged, conflicts = merge(lesson(), lesson((4, "The end, I think"), (1, "import torch, math")),
                              lesson((4, "The end of all"), (1, "import numpy")))
    assert sources(merged)[-2:] == ["The end of all", "The end, I think"]
    assert merged.cells[1].source == "import numpy"
    assert ["cell setup" in conflicts[0], "in the backup" in conflicts[0], "stands below" in conflicts[1]] == [True] * 3


def test_an_exercise_that_is_gone_or_was_doubled_is_kept():
    new, mine = lesson(), lesson((2, SOLVED))
    mine.cells.insert(4, new_code_cell(stub("second", "return 2").source))
    del new.cells[2]
    merged, conflicts = merge(lesson(), mine, new)
    assert [SOLVED in sources(merged), stub("second", "return 2").source in sources(merged)] == [True, True]
    assert "exercise first: it is no longer in the course" in conflicts[0]


def test_both_cells_of_a_doubled_exercise_stay():
    mine = lesson()
    mine.cells.insert(4, new_code_cell(stub("second", "return 2").source))
    assert merge(lesson(), mine, lesson()) == (mine, [])


@pytest.mark.parametrize("kernel", ["int8", None])
def test_the_kernel_that_a_student_chose_stays(kernel):
    mine, new = lesson(), lesson()
    new.metadata.kernelspec = {"name": "python3"}
    if kernel:
        mine.metadata.kernelspec = {"name": kernel}
    assert merge(lesson(), mine, new)[0].metadata.kernelspec.name == (kernel or "python3")


def test_output_of_what_is_unchanged_stays():
    mine = lesson()
    mine.cells[1].outputs = [nbformat.v4.new_output("stream", text="hello")]
    assert merge(lesson(), mine, lesson((0, "# New")))[0].cells[1].outputs[0].text == "hello"


# whole folders


def write_course(root, notebook, readme="old"):
    for folder in ("lessons", "solutions"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "00_a.ipynb").write_text(nbformat.writes(notebook) + "\n")
    (root / "workshop.py").write_text(readme)
    (root / "README.md").write_text(readme)


def git(root, *arguments):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", root, *arguments], check=True,
                   capture_output=True)


@pytest.fixture
def clone(tmp_path):
    """A clone of a course that has gone on since; its lesson is not touched yet."""
    course, clone = tmp_path / "course", tmp_path / "clone"
    write_course(course, lesson())
    git(course.parent, "init", "-q", "-b", "main", course)
    git(course, "add", "-A")
    git(course, "commit", "-qm", "one")
    git(tmp_path, "clone", "-q", course, clone)
    write_course(course, lesson((0, "# New title")), "new")
    git(course, "commit", "-qam", "two")
    return clone


def solve(root, notebook=None):
    path = root / "lessons" / "00_a.ipynb"
    path.write_text(nbformat.writes(notebook or lesson((2, SOLVED))))
    return path, path.read_bytes()


def test_a_clone_with_a_solved_lesson(clone):
    path, mine = solve(clone)
    said = update(clone)
    assert sources(nbformat.read(path, 4)) == sources(lesson((0, "# New title"), (2, SOLVED)))
    assert (clone / "README.md").read_text() == "new"
    (backup,) = (clone / "backups").iterdir()
    assert backup.read_bytes() == mine and backup.name in said[0]
    assert update(clone) == ["This is the newest version already."]
    git(clone, "commit", "-qam", "solved")
    assert update(clone) == ["This is the newest version already."], "and one commit more"


def test_a_clone_with_lessons_as_they_were(clone):
    assert len(update(clone)) == 1
    assert not (clone / "backups").exists()
    assert nbformat.read(clone / "lessons" / "00_a.ipynb", 4).cells[0].source == "# New title"


def test_what_git_could_not_keep_is_refused(clone):
    path, mine = solve(clone)
    (clone / "README.md").write_text("my own")
    with pytest.raises(Refused, match="you have changed README.md"):
        update(clone)
    git(clone, "commit", "-qam", "mine")
    with pytest.raises(Refused, match="commits of its own"):
        update(clone)
    assert path.read_bytes() == mine and not (clone / "backups").exists()


def test_changed_files_that_are_no_lessons_are_refused(clone):
    for name in ("lessons/data.csv", "lessons/helper.py", "notes.ipynb"):
        (clone / name).write_text("mine")
    git(clone, "add", "--intent-to-add", "-A")  # git knows them, as those that came with the course
    with pytest.raises(Refused, match="you have changed lessons/data.csv, lessons/helper.py, notes.ipynb"):
        update(clone)
    assert (clone / "lessons" / "helper.py").read_text() == "mine"


def test_lessons_are_as_they_were_where_git_refuses(clone):
    path, mine = solve(clone)
    write_course(clone.parent / "course", lesson((0, "# New title")), "newer")
    (clone.parent / "course" / "new.txt").touch()
    git(clone.parent / "course", "add", "-A")
    git(clone.parent / "course", "commit", "-qam", "three")
    (clone / "new.txt").write_text("a file of the student's, in the way")
    with pytest.raises(Refused, match="git refuses"):
        update(clone)
    assert path.read_bytes() == mine and (clone / "new.txt").read_text() == "a file of the student's, in the way"


def test_a_folder_without_git_takes_a_download(clone, tmp_path):
    shutil.rmtree(clone / ".git")
    with pytest.raises(Refused, match="no git clone"):
        update(clone)
    path, _ = solve(clone)
    (clone / "lessons" / "own.ipynb").write_text("my own notebook")
    (tmp_path / "course" / ".venv").mkdir()
    (tmp_path / "course" / ".venv" / "x").touch()
    for name, mode in (("README.md", 0o640), ("run.sh", 0o755)):
        (tmp_path / "course" / name).touch()
        (tmp_path / "course" / name).chmod(mode)
    update(clone, tmp_path / "course")
    assert [(clone / name).stat().st_mode & 0o777 for name in ("README.md", "run.sh")] == [0o640, 0o755]
    assert sources(nbformat.read(path, 4)) == sources(lesson((0, "# New title"), (2, SOLVED)))
    assert (clone / "README.md").read_text() == "new" and not (clone / ".venv").exists() and not (clone / ".git").exists()
    assert (clone / "lessons" / "own.ipynb").read_text() == "my own notebook"


def test_lessons_that_need_no_merging_are_left_alone(clone, tmp_path):
    """One that is no more in the new version, and one that is the new one already."""
    path, mine = solve(clone)
    shutil.copy(clone / "solutions" / "00_a.ipynb", clone / "solutions" / "01_b.ipynb")
    shutil.copy(tmp_path / "course" / "lessons" / "00_a.ipynb", clone / "lessons" / "01_b.ipynb")
    shutil.copy(clone / "lessons" / "01_b.ipynb", tmp_path / "course" / "lessons" / "01_b.ipynb")
    (tmp_path / "course" / "lessons" / "00_a.ipynb").unlink()
    (tmp_path / "course" / "int8.egg-info").mkdir()
    (tmp_path / "course" / "int8.egg-info" / "PKG-INFO").touch()
    assert len(update(clone, tmp_path / "course")) == 1 and not (clone / "backups").exists()
    assert path.read_bytes() == mine and not (clone / "int8.egg-info").exists()


def test_a_lesson_that_cannot_be_read_is_kept_and_replaced(clone):
    (clone / "lessons" / "00_a.ipynb").write_text("<<<<<<< HEAD")
    said = " ".join(update(clone))
    assert "is not a notebook" in said and "the new lesson takes its place" in said
    assert next((clone / "backups").iterdir()).read_text() == "<<<<<<< HEAD"


def test_the_command_says_what_was_done_or_why_not(clone, monkeypatch, capsys):
    monkeypatch.setattr(command, "ROOT", clone)
    assert main([str(clone)]) == 1
    assert "this folder itself" in capsys.readouterr().err and main([str(clone / "lessons" / "..")]) == 1
    assert "this folder itself" in capsys.readouterr().err
    (clone.parent / "half").mkdir()
    (clone.parent / "half" / "workshop.py").touch()
    for folder in (clone / "lessons", clone.parent / "half"):
        assert main([str(folder)]) == 1 and "is no copy of the workshop" in capsys.readouterr().err
    assert main([]) == 0
    assert "The course is up to date." in capsys.readouterr().out


def test_what_is_the_folder_s_own_is_not_taken_over(tmp_path):
    """Neither a download's environment, caches and backups, nor what pip has noted of it; all else is, at any depth."""
    new, root = tmp_path / "new", tmp_path / "root"
    own = (".git", ".venv", "backups", "__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".ruff_cache", ".mypy_cache",
           ".hypothesis", "x.egg-info")
    taken = ("a.txt", "deep/er/b.txt", "tests/data.egg-info/c.txt", ".github/d.yml", "backups.txt")
    left = [f"{name}/x" for name in own] + [f"deep/{name}/x" for name in own if "egg" not in name]
    for name in (*taken, *left):
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).write_text(name)
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "b.txt").write_text("before")
    (root / "mine.txt").write_text("mine")
    command._copy(new, root)
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == {*taken, "mine.txt"}
    assert all((root / name).read_text() == name for name in taken)


def test_a_file_that_is_the_same_is_not_written(tmp_path, monkeypatch):
    new, root, wrote = tmp_path / "new", tmp_path / "root", []
    for folder, text in ((new, "b"), (root, "a")):
        folder.mkdir()
        (folder / "same").write_bytes(b"same")
        (folder / "other").write_text(text)
    monkeypatch.setattr(command, "write_atomically", lambda path, data: wrote.append((path, data)))
    command._copy(new, root)
    assert wrote == [(root / "other", b"b")]


@pytest.mark.parametrize(("status", "stop", "said"), [
    (0, "", "out\n"), (0, "stopped", "out\n"), (1, "", ""), (1, "stopped", None)])
def test_what_git_says_and_whether_it_stops(tmp_path, monkeypatch, status, stop, said):
    asked = []

    def run(arguments, **_):
        asked.append(arguments)
        return subprocess.CompletedProcess(arguments, status, "out\n", " its own words\n")

    monkeypatch.setattr(command.subprocess, "run", run)
    if said is None:
        with pytest.raises(Refused, match="^stopped:\nits own words$"):
            command._git(tmp_path, "fetch", stop=stop)
    else:
        assert command._git(tmp_path, "fetch", "--all", stop=stop) == said
    assert asked[0][:4] == ["git", "-C", str(tmp_path), "fetch"]


def test_names_of_any_bytes_are_read(tmp_path, monkeypatch):
    (tmp_path / "git").write_text("#!/bin/sh\nprintf 'caf\\351\\n'\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command._git(tmp_path, "diff") == "caf\ufffd\n"


def test_a_machine_without_git_takes_a_folder(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError(2, "No such file or directory", "git")

    monkeypatch.setattr(command.subprocess, "run", missing)
    with pytest.raises(Refused, match=r"git is not installed here \(No such file or directory\). Download the new version"):
        update(tmp_path)


def test_a_clone_that_cannot_be_updated_is_told_why(clone, tmp_path):
    git(clone, "branch", "--unset-upstream")
    with pytest.raises(Refused, match="this clone follows no branch to take a new version from:\n"):
        update(clone)
    shutil.move(tmp_path / "course", tmp_path / "elsewhere")
    with pytest.raises(Refused, match="git cannot reach where this clone came from:\n"):
        update(clone)
    (tmp_path / "plain").mkdir()
    with pytest.raises(Refused, match="no git clone. Download the new version"):
        update(tmp_path / "plain")


def test_of_many_changed_files_five_are_named(clone):
    for number in range(7):
        (clone / f"{number}.txt").write_text("mine")
    git(clone, "add", "--intent-to-add", "-A")
    with pytest.raises(Refused, match="you have changed 0.txt, 1.txt, 2.txt, 3.txt, 4.txt. Undo that"):
        update(clone)


def test_each_lesson_is_told_of_in_order(clone, tmp_path):
    """And with it what both have changed in it."""
    course = tmp_path / "course"
    both = lesson((0, "# New title"), (4, "The end of all"))
    for folder in (clone, course):
        for name in ("01_b", "02_c"):
            for part in ("lessons", "solutions"):
                (folder / part / f"{name}.ipynb").write_text(nbformat.writes(lesson() if folder is clone else both) + "\n")
    (clone / "lessons" / "01_b.ipynb").write_text(nbformat.writes(lesson((4, "My end"))) + "\n")
    solve(clone)
    first, second, conflict, last = update(clone, course)
    for name, said in (("00_a", first), ("01_b", second)):
        (backup,) = (clone / "backups").glob(f"{name}_*")
        assert said == f"{name}: yours is kept as backups/{backup.name}, and your cells are in the new version."
    assert conflict == ("  cell end: the course has changed it too, and its text is the new one; yours stands below it.")
    assert last == "The course is up to date. In JupyterLab, choose File > Reload Notebook from Disk."
    assert sources(nbformat.read(clone / "lessons" / "02_c.ipynb", 4)) == sources(both)


def test_a_lesson_that_cannot_be_read_costs_no_other(clone, tmp_path):
    course, new = tmp_path / "course", lesson((0, "# New title"))
    for name in ("01_b", "02_c"):
        for folder, made in ((clone, lesson()), (course, new)):
            for part in ("lessons", "solutions"):
                (folder / part / f"{name}.ipynb").write_text(nbformat.writes(made) + "\n")
        (clone / "lessons" / f"{name}.ipynb").write_text(nbformat.writes(lesson((2, SOLVED))))
    solve(clone)
    (clone / "lessons" / "01_b.ipynb").write_text("<<<<<<< HEAD")
    *said, last = update(clone, course)
    assert [line.partition(":")[0] for line in said if ": yours is kept as" in line] == ["00_a", "01_b", "02_c"]
    assert len(said) == 4 and "is not a notebook" in said[2] and last.startswith("The course is up to date")
    found = {path.stem: sources(nbformat.read(path, 4)) for path in (clone / "lessons").iterdir()}
    merged = sources(lesson((0, "# New title"), (2, SOLVED)))
    assert found == {"00_a": merged, "01_b": sources(new), "02_c": merged}


@pytest.mark.parametrize("same", [True, False])
def test_a_notebook_of_the_student_s_with_a_new_lesson_s_name(clone, tmp_path, same):
    new, path = tmp_path / "course" / "lessons" / "05_new.ipynb", clone / "lessons" / "05_new.ipynb"
    new.write_text(nbformat.writes(lesson()) + "\n")
    path.write_text(new.read_text() if same else "my own notebook")
    said = update(clone, tmp_path / "course")
    assert path.read_text() == new.read_text()
    kept = [backup for backup in (clone / "backups").glob("*") if backup.read_text() == "my own notebook"]
    assert said[:-1] == ([] if same else [f"05_new: yours is kept as backups/{kept[0].name}.",
                                          "  The course has a lesson of this name now, and it takes its place."])
