"""Submissions in forms that nobody asked for: each file and folder is read, or named with a reason."""

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from grading import SOLVED, notebook

from checks.grader.intake import archives
from checks.grader.intake.folder import find_submissions
from checks.grader.intake.submissions import read_submission
from checks.grader.units import read
from checks.paths import ROOT

CELLS = json.loads(SOLVED)["cells"]


def zipped(*members: tuple[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in members:
            archive.writestr(name, text)
    return data.getvalue()


def tarred(*members: tuple[str, str | None]) -> bytes:
    """A tar; a member without text is a folder."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in members:
            info = tarfile.TarInfo(name)
            info.type = tarfile.REGTYPE if text is not None else tarfile.DIRTYPE
            info.size = len(text or "")
            archive.addfile(info, io.BytesIO((text or "").encode()))
    return data.getvalue()


def file(name: str, data: str | bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    return make


def with_cells(*cells, **more) -> str:
    return json.dumps({"cells": [*CELLS, *cells]} | more)


READ = {
    "a notebook without metadata": (file("a.ipynb", with_cells()), ()),
    "a notebook with a number of 5,000 digits": (file("a.ipynb", SOLVED[:-1] + ', "x": ' + "1" * 5000 + "}"), ()),
    "a notebook named as a script": (file("a.py", SOLVED), ()),
    "the same after an empty line": (file("a.py", "\n" + SOLVED), ()),
    "a script in a folder x.ipynb": (file("x.ipynb/a.py", "x = 1\n" + "\n".join(c["source"] for c in CELLS)), ()),
    "exercises in one cell": (file("a.ipynb", notebook("\n\n".join(c["source"] for c in CELLS))), ()),
    "a byte order mark": (file("a.ipynb", "\ufeff" + SOLVED), ()),
    "UTF-16 with CRLF": (file("a.ipynb", SOLVED.replace(', "', ',\r\n "').encode("utf-16")), ()),
    "sources with CR alone": (file("a.ipynb", notebook(*(c["source"].replace("\n", "\r") for c in CELLS))), ()),
    "ending in capitals": (file("A.IPYNB", SOLVED), ()),
    "an empty folder": (lambda folder: (file("a.ipynb", SOLVED)(folder), (folder / "b.ipynb").mkdir()),
                        ("b.ipynb/ is an empty folder",)),
    "empty folders in a zip": (file("a.zip", zipped(("a.ipynb", SOLVED), ("b/", ""), ("c/", ""), ("c/d/", ""))),
                               ("a.zip/b/ is an empty folder", "a.zip/c/d/ is an empty folder")),
    "empty folders in a tar": (file("a.tgz", tarred(("./", None), ("./a.ipynb", SOLVED), ("./b", None))),
                               ("a.tgz/b/ is an empty folder",)),
    "system's files": (file("a.zip", zipped(("a.ipynb", SOLVED), ("__MACOSX/._a.ipynb", "x"), (".DS_Store", "x"))),
                       ("2 hidden file(s) and folder(s) were not read: a.zip/.DS_Store, a.zip/__MACOSX/._a.ipynb",)),
    "checkpoints": (lambda folder: (file("a.ipynb", SOLVED)(folder), file(".ipynb_checkpoints/a.ipynb", SOLVED)(folder)),
                    ("1 hidden file(s) and folder(s) were not read: .ipynb_checkpoints",)),
    **{f"{count} hidden files": (file("a.zip", zipped(("a.ipynb", SOLVED), *((f".{n}", "") for n in range(count)))),
                                 (f"{count} hidden file(s) and folder(s) were not read: "
                                  f"{', '.join(f'a.zip/.{n}' for n in range(5))}{more}",))
       for count, more in ((5, ""), (6, ", …"))},
    "an empty script": (lambda folder: (file("a.ipynb", SOLVED)(folder), file("b.py", "")(folder)),
                        ("b.py cannot be read: it is empty",)),
    "blank cells alone": (lambda folder: (file("a.ipynb", SOLVED)(folder), file("b.ipynb", notebook("", " \n"))(folder)),
                          ("b.ipynb has nothing in its code cells",)),
    "one name twice in a zip": (file("a.zip", zipped(("a.ipynb", notebook("x = 1")), ("./a.ipynb", SOLVED))), ()),
    "a member whose name is long": (file("a.zip", zipped(("d/" * 2000 + "a.ipynb", SOLVED))), ()),
    "a cell of another type": (file("a.ipynb", with_cells({"cell_type": "Markdown", "source": "# exercise: x"})),
                               ("a cell of a.ipynb with the line `# exercise: x` was not read: its type is Markdown, not "
                                "code",)),
}
"""What has all of the work, by form; and all that is said."""


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make, said", READ.values(), ids=READ)
def test_a_form_in_which_work_is_read(tmp_path, make, said):
    (tmp_path / "ada").mkdir()
    make(tmp_path / "ada")
    (handed_in,) = find_submissions(tmp_path).students.values()
    submission = read(handed_in)
    assert {cell.mark[1] for cell in submission.cells if cell.mark} == {"programs_needed", "vector_add_kernel"}
    assert tuple(submission.problems) == said and all(len(cell.file) < 500 for cell in submission.cells)


UNREAD = {
    "cells as an object": (file("a.ipynb", '{"cells": {"0": {"cell_type": "code", "source": "x"}}}'), "it has no cells"),
    "a source that is a number": (file("a.ipynb", '{"cells": [{"cell_type": "code", "source": 5}]}'), "source is no text"),
    "two notebooks in one file": (file("a.ipynb", SOLVED + SOLVED), "it is no JSON"),
    "a notebook that was cut off": (file("a.ipynb", SOLVED[:-100]), "it is no JSON"),
    "a picture of it": (file("a.png", b"\x89PNG"), "a.png was not read"),
    "checkpoints alone": (file(".ipynb_checkpoints/a.ipynb", SOLVED), "1 hidden file(s)"),
    "many folders within each other": (file("a/" * 60 + "a.ipynb", SOLVED), "it lies in more than 50 folders"),
    "a link to another student's": (lambda folder: (folder / "a.ipynb").symlink_to("../bob/a.ipynb"), "it is a link"),
    "a pipe": (lambda folder: os.mkfifo(folder / "a.ipynb"), "it is no regular file"),
}
"""Work that nobody can read, by form; and what is said first."""


@pytest.mark.parametrize("make, said", UNREAD.values(), ids=UNREAD)
def test_a_form_in_which_work_is_named(tmp_path, make, said):
    (tmp_path / "ada").mkdir()
    make(tmp_path / "ada")
    (handed_in,) = find_submissions(tmp_path).students.values()
    submission = read(handed_in)
    assert submission.unread and said in submission.problems[0]


@pytest.mark.parametrize("offset, value", [(6, 1), (8, 99)], ids=["locked", "of a compression that is unknown"])
def test_the_rest_of_an_archive_with_a_closed_member_is_read(tmp_path, offset, value):
    data = bytearray(zipped(("a.ipynb", SOLVED), ("b.ipynb", SOLVED)))
    data[data.index(b"PK\1\2") + offset + 2] = data[offset] = value  # in the central directory, and before the member
    file("ada.zip", bytes(data))(tmp_path)
    submission = read(find_submissions(tmp_path).students["ada"])
    assert {cell.file for cell in submission.cells} == {"b.ipynb"} and submission.unread
    assert submission.problems == ["a.ipynb was not read: it is no regular file, or the archive is locked or broken"]


@pytest.mark.parametrize("folders, said", [(2, []), (4, ["there are more than 3 folders in an archive"])])
def test_the_folders_that_an_archive_names_are_counted(tmp_path, monkeypatch, folders, said):
    monkeypatch.setattr(archives, "SEEN_LIMIT", 3)
    file("a.zip", zipped(*((f"f{n}/", "") for n in range(folders)), ("z.py", "x = 1")))(tmp_path)
    walk = archives.Walk()
    assert len(list(walk.files([tmp_path / "a.zip"]))) == (not said) and walk.unread == said


def test_a_report_card_alone_is_named(tmp_path):
    card = ROOT / "results" / "transformer" / "nvidia_h200.json"
    file("ada/report_card.json", card.read_bytes())(tmp_path)
    submission = read(find_submissions(tmp_path).students["ada"])
    assert submission.problems == ["a report card was handed in, which earns no points, and no notebook or script"]
    file("ada/report_card.json", "{")(tmp_path)
    file("ada/a.pdf", "%PDF")(tmp_path)
    assert not read(find_submissions(tmp_path).students["ada"]).unread, "a card was meant, so no notebook is missing"


@pytest.mark.parametrize("names", [("Ada", "ada"), ("ﬁona", "fiona"), ("ada l", "ada  l"), ("ada", "a\u200dda")])
def test_names_that_look_alike_are_named(tmp_path, names):
    for name in names:
        file(f"{name}/a.ipynb", SOLVED)(tmp_path)
    listing = find_submissions(tmp_path)
    assert len(listing.students) == 2 and "look alike" in listing.notices[0]


def test_names_that_are_one_to_the_eye(tmp_path):
    for name in ("ada", "ada ", "Jose\u0301", "Jos\xe9"):
        file(f"{name}/a.ipynb", SOLVED)(tmp_path)
    found = find_submissions(tmp_path).students
    assert list(found) == ["Jos\xe9", "ada"] and all("taken for one student's" in one.notices[0] for one in found.values())


@pytest.mark.parametrize("path", [".", "ada", "ada/a.ipynb", "ada/../ada", "\udcff.py"])
def test_relative_paths_and_names_in_no_encoding_are_read(tmp_path, monkeypatch, path):
    """By a process that is in another folder."""
    (tmp_path / "ada").mkdir()
    for name in ("ada/a.ipynb", "\udcff.py"):
        (tmp_path / name).write_text(SOLVED)
    monkeypatch.chdir(tmp_path)
    found = read_submission("ada", [Path(path)])
    assert found.cells and found == read_submission("ada", [tmp_path / path])
