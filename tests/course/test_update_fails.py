"""An update that fails: nothing of the student's is lost, and it can be run again."""

import shutil

import nbformat
import pytest
from test_update import SOLVED, lesson

from checks.course import update as command
from checks.course.update import Refused, update

NEW = lesson((0, "# New title"))
STATES = {  # what the student has of a lesson, and what the new version has
    "00_solved": (lesson((2, SOLVED)), NEW),
    "01_broken": ("<<<<<<< HEAD", NEW),
    "02_noted": (lesson((2, SOLVED), (4, "My end")), lesson((0, "# New title"), (4, "The end of all"))),
    "03_gone": (lesson((2, SOLVED)), None),
    "04_untouched": (lesson(), NEW),
    "05_newest": (NEW, NEW),
    "06_my_own": (lesson((0, "# My own")), NEW),  # which the course has no lesson of yet
    "own": ("my own", None),
}


def versions(folder):
    """A course with a lesson in each state, and its new version."""
    for name, (mine, new) in STATES.items():
        for place, notebook in (("root/lessons", mine), ("root/solutions", None if "own" in name else lesson()),
                                ("new/lessons", new), ("new/solutions", new)):
            (folder / place).mkdir(parents=True, exist_ok=True)
            if notebook is not None:
                text = notebook if isinstance(notebook, str) else nbformat.writes(notebook) + "\n"
                (folder / place / f"{name}.ipynb").write_text(text)
    for place in ("root", "new"):
        (folder / place / "workshop.py").write_text(place)
    return folder / "root", folder / "new"


def texts(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("error", [OSError(28, "full"), Refused("no"), KeyboardInterrupt()], ids=["full", "no", "Ctrl-C"])
@pytest.mark.parametrize("at", ["lessons/00_solved.ipynb", "lessons/04_untouched.ipynb", "solutions/02_noted.ipynb",
                                "workshop.py"])
def test_an_update_that_fails_can_be_run_again(tmp_path, monkeypatch, at, error):
    """Wherever it fails, each lesson that the student has changed is as it was; once more gives what one gives at once."""
    (root, new), (calm, _) = versions(tmp_path / "a"), versions(tmp_path / "b")
    failed = []

    def write(path, data):
        if path == root / at and not failed:
            failed.append(path)
            raise error
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    monkeypatch.setattr(command, "write_atomically", write)
    before = texts(root / "lessons")
    with pytest.raises(type(error)):
        update(root, new)
    after = texts(root / "lessons")
    assert [name for name in before if after[name] != before[name]] in ([], ["04_untouched.ipynb"])
    again, once = ([line.replace(str(course), "") for line in update(course, new) if "backups" not in line]
                   for course in (root, calm))
    assert again == once and all(texts(root / part) == texts(calm / part) for part in ("lessons", "solutions"))
    assert failed and (root / "workshop.py").read_text() == "new"


def test_all_backups_are_there_before_anything_is_replaced(tmp_path, monkeypatch):
    """Where one cannot be made, nothing is replaced."""
    root, new = versions(tmp_path)
    before, copied, back_up = texts(root / "lessons"), [], command.back_up
    changed = ["00_solved", "01_broken", "02_noted", "06_my_own"]
    monkeypatch.setattr(command, "_copy", lambda *given: copied.append((given, texts(root / "backups"))))

    def full(name, *given):
        if name == "02_noted":
            raise OSError(28, "full")
        return back_up(name, *given)

    monkeypatch.setattr(command, "back_up", full)
    with pytest.raises(OSError, match="full"):
        update(root, new)
    assert copied == [] and texts(root / "lessons") == before
    shutil.rmtree(root / "backups")
    monkeypatch.setattr(command, "back_up", back_up)
    update(root, new)
    ((given, kept),) = copied
    assert given == (new, root) and sorted(kept.values()) == sorted(before[f"{name}.ipynb"] for name in changed)
