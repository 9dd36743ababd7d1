"""A synthetic term: a roster of 40, Canvas's and Moodle's downloads, and all that happens in between, up to the uploads."""

import csv
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from grading import SOLVED, exercise_cell, graded_here, notebook

from checks.exercises import EXERCISES
from checks.grader import results
from checks.grader.command import main
from checks.grader.course import DEFAULT
from checks.grader.intake.submissions import find_exercise_cell

LESSON, DAY = "00_hello_triton", 86_400
DUE = 1_790_848_800  # 2026-10-01T10:00:00Z
RIGHT = exercise_cell(EXERCISES["programs_needed"])
WRONG = notebook(exercise_cell(EXERCISES["programs_needed"], "def programs_needed(N, BLOCK):\n    return 0"))
COURSE = f"""
[assignment]
lessons = ["00"]
attempts = "best"
[late]
grace_minutes = 10
percent_per_day = 10
most_percent = 30
[deadlines]
{LESSON} = 2026-10-01T10:00:00Z
"""


@pytest.fixture(autouse=True)
def graded_by_text(monkeypatch):
    """A grader that runs nothing: what is the answer's text passes, in the process of the test."""
    def exercise_result(self, name, submission):
        cell = find_exercise_cell(submission, name).cell
        status = "missing" if cell is None else "passed" if cell.source == RIGHT else "failed"
        possible = self.course.points[name]
        points = possible if status == "passed" else 0.0
        return results.new_exercise_result(EXERCISES[name], possible, status, points, f"{name}: said")

    graded_here(monkeypatch, exercise_result)


def put(path: Path, data: str | bytes, days_late: float = -1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    os.utime(path, (DUE + days_late * DAY,) * 2)


def zipped(name: str, data: str | bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def tarred(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_term(folder: Path) -> None:
    """What 36 of the 40 hand in: the first 20 by Canvas, the rest by Moodle."""
    for n in range(1, 19):
        put(folder / f"last{n}first{n}_{100 + n}_{900 + n}_00_hello_triton.ipynb", SOLVED if n % 2 else WRONG)
    put(folder / "last19first19_LATE_119_919_00_hello_triton-1.ipynb", SOLVED, 0.5)
    put(folder / "last20first20_120_920_work.zip", zipped("deep/work.tar.gz", tarred("a.ipynb", SOLVED.encode())))
    for n in range(21, 34):
        late = {21: 9.0, 22: 2.5}.get(n, -1.0)
        put(folder / f"First{n} Last{n}_{5000 + n}_assignsubmission_file_" / "a.ipynb", SOLVED, late)
    put(folder / "First34 Last34_5034_assignsubmission_file_" / "a.pdf", "%PDF")
    put(folder / "First35 Last35_5035_assignsubmission_file_" / "a.ipynb", '{"cells": [')
    put(folder / "First36 Last36_5036_assignsubmission_file_" / "a.ipynb", SOLVED)
    put(folder / "First36 Last36_5036_assignsubmission_file_" / "b.ipynb", WRONG)
    put(folder / "Eve Nobody_6000_assignsubmission_file_" / "a.ipynb", SOLVED)
    put(folder / "syllabus.docx", "x")


def write_roster(path: Path, numbers) -> None:
    rows = [f"s{n:02},First{n} Last{n},f{n}@x.org,{'AB'[n % 2]},{100 + n if n <= 20 else ''},{5000 + n if n > 20 else ''},"
            f"{7 if n == 21 else ''}" for n in numbers]
    path.write_text("\n".join(["id,name,email,section,canvas,moodle,extension", *rows]) + "\n")


def table(path: Path, key: str = "student") -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row[key]: row for row in csv.DictReader(file)}


def test_a_term_from_the_downloads_to_the_uploads(tmp_path, capsys):
    folder, grades = tmp_path / "sub", tmp_path / "grades"
    write_term(folder)
    write_roster(tmp_path / "roster.csv", range(1, 41))
    (tmp_path / "course.toml").write_text(DEFAULT.read_text().replace("[deadlines]", "").replace("[exercise]", "") + COURSE)
    grade = ["class", str(folder), "--out", str(grades), "--no-compile", "--exercise", "programs_needed"]
    assert main([*grade, "--roster", str(tmp_path / "roster.csv"), "--course", str(tmp_path / "course.toml")]) == 3
    said = capsys.readouterr()
    assert "37 graded" in said.out and "2 with work that could not be read" in said.out
    for sentence in ("syllabus.docx was not read", "Eve Nobody is in no row of the roster",
                     "4 of the roster handed in nothing: s37, s38, s39, s40", "a.pdf was not read", "was handed in 2 times"):
        assert sentence in said.err
    assert main(["export", "--format", "csv", str(grades)]) == 0
    rows = table(grades / "grades.csv")
    assert [rows[f"s{n:02}"]["points"] for n in (1, 2, 20, 36)] == ["1.0", "0.0", "1.0", "0.0"]
    assert [rows[f"s{n}"]["points"] for n in (19, 21, 22, 34, 35, 37)] == ["0.9", "0.8", "0.7", "", "", ""]

    # One hands in anew, and worse; one is decided by a person; one leaves.
    put(folder / "last1first1_101_999_00_hello_triton-2.ipynb", WRONG)
    (folder / "last1first1_101_901_00_hello_triton.ipynb").unlink()
    (folder / "last3first3_103_903_00_hello_triton.ipynb").unlink()
    write_roster(tmp_path / "roster.csv", [n for n in range(1, 41) if n != 3])
    (grades / "overrides.csv").write_text("student,exercise,points,reason\ns02,programs_needed,0.5,half of it\n"
                                          "s04,bonus,2,found a bug\ns35,programs_needed,1,seen in person\n")
    assert main([*grade, "--resume", "--roster", str(tmp_path / "roster.csv")]) == 3
    said = capsys.readouterr()
    assert "33 kept" in said.out and "s03: not there any more" in said.err
    for kind in ("csv", "canvas", "moodle", "json", "gradescope"):
        assert main(["export", "--format", kind, str(grades)]) == 0
    rows = table(grades / "grades.csv")
    assert "s03" not in rows and rows["s01"]["points"] == "1.0", "the best attempt counts"
    assert [rows[id]["points"] for id in ("s02", "s04", "s35", "s34")] == ["0.5", "2.0", "1.0", ""]
    canvas = table(grades / "canvas.csv", "ID")
    assert len(canvas) == 1 + 19 and canvas["119"]["Section"] == "B"
    assert table(grades / "moodle.csv", "Identifier")["Participant 5022"]["Grade"] == "0.7"
    assert main(["report", str(grades)]) == 0
    page = (grades / "pages" / "index.html").read_text()
    for sentence in ("s37 (First37 Last37)", "s03", "syllabus.docx", "late, says the platform", "found a bug", "half of it"):
        assert sentence in page
