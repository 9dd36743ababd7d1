"""A class's folder: whose each file is, by its name, and that none is left out without a word."""

import dataclasses
import os
import zipfile
from pathlib import Path

import pytest
from grading import CHEAP, IMPORTS, NEEDED, SOLVED, exercise_cell, notebook

from checks.grader import batch, results, units
from checks.grader.course import DEFAULT
from checks.grader.grader import Grader
from checks.grader.intake.folder import HandedIn, find_submissions
from checks.grader.intake.lms import Owner, owner
from checks.grader.intake.submissions import Cell, Submission
from checks.grader.sandbox.client import Fault
from checks.grader.settings import Settings


@pytest.fixture(scope="module")
def grader():
    with Grader(Settings(7, exercises=CHEAP[:1], compiles=False)) as grader:
        yield grader


def students(folder: Path) -> dict[str, list[str]]:
    found = find_submissions(folder).students
    return {student: sorted(path.name for path in one.paths) for student, one in found.items()}


def test_a_folder_without_submissions(tmp_path):
    for folder, said in ((tmp_path / "x", "no folder"), (tmp_path, "holds no submission")):
        with pytest.raises(ValueError, match=said):
            find_submissions(folder)


@pytest.mark.parametrize("name, student", [
    ("eva b_00_hello_triton.ipynb", "eva b"), ("eva_07b_fused_mlp.ipynb", "eva"), ("eva b_01_gemv_fp16 (1).ipynb", "eva b"),
    ("eva_00_hello_triton-Copy1.ipynb", "eva"), ("eva_00_hello_triton copy.ipynb", "eva"),
    ("eva_00_hello_triton - Copy (2).ipynb", "eva"), ("eva_00_hello_triton copy 2.ipynb", "eva"),
    ("bob_00_hello_triton-1.ipynb", "bob"), ("bob.tar.gz", "bob"), ("bob (1).zip", "bob"), ("bob.ipynb.txt", "bob"),
    ("team-1.py", "team-1"), ("eva_report_card.json", "eva"), (".py", ".py"), ("copy.py", "copy"), ("a.b.ipynb", "a.b"),
    ("Ada L - Copy of 00_hello_triton.ipynb", "Ada L"), ("Kopie von 00_hello_triton (1).ipynb", "00_hello_triton"),
    ("Jose\u0301.py", "Jos\xe9"), ("00_hello_triton - Ada L.ipynb", "Ada L"),
    ("INT8_ada_attempt_2026-10-01-10-00-00_work.ipynb", "ada"), ("INT8_ada_attempt_2026-10-01-10-00-00.txt", "ada")])
def test_the_student_of_a_file(name, student):
    assert owner(name, folder=False).name == student


@pytest.mark.parametrize("name, platform, id, student, late", [
    ("lovelaceada_123_4567_00_hello_triton.ipynb", "canvas", "123", "lovelaceada", False),
    ("lovelaceada_LATE_123_4567_00_hello_triton-1.ipynb", "canvas", "123", "lovelaceada", True),
    ("lovelaceada_123_4567_work.pdf", "canvas", "123", "lovelaceada", False),
    ("Ada Lovelace_98765_assignsubmission_file_00.ipynb", "moodle", "98765", "Ada Lovelace", False),
    ("Ada_Maria Lovelace_98765_assignsubmission_file_a_b.zip", "moodle", "98765", "Ada_Maria Lovelace", False)])
def test_platforms_names_of_files(name, platform, id, student, late):
    found = owner(name, folder=False)
    assert (found.platform, found.id, found.name, found.late) == (platform, id, student, late)


@pytest.mark.parametrize("name, platform, student", [
    ("Ada Lovelace_98765_assignsubmission_file_", "moodle", "Ada Lovelace"),
    ("Ada L_9_assignsubmission_file", "moodle", "Ada L"),
    ("Ada L_9_assignsubmission_onlinetext", "moodle", "Ada L"), ("submission_4711", "gradescope", "submission_4711"),
    ("int8-ada-l", "", "int8-ada-l"), ("12-34 - Ada L - Oct 1, 2026 1000 AM", "", "Ada L"),
    ("eva_00_hello_triton", "", "eva_00_hello_triton")])
def test_platforms_names_of_folders(name, platform, student):
    found = owner(name, folder=True)
    assert (found.platform, found.name) == (platform, student)


def test_every_entry_is_a_student_s_or_named(tmp_path):
    for name in ("ada", "__kim", "__MACOSX", ".git"):
        (tmp_path / name).mkdir()
    for name in ("ada.zip", "bob.rar", "tom.tar.gz", "jon_00_hello_triton.ipynb", "grades.xlsx", "ada.pdf", ".DS_Store",
                 "lea.py"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sue").symlink_to("ada")
    assert students(tmp_path) == {"__kim": ["__kim"], "ada": ["ada", "ada.pdf", "ada.zip"], "bob": ["bob.rar"],
                                  "jon": ["jon_00_hello_triton.ipynb"], "lea": ["lea.py"], "sue": ["sue"],
                                  "tom": ["tom.tar.gz"]}
    named = {notice.partition(" was not read")[0] for notice in find_submissions(tmp_path).notices}
    assert named == {"__MACOSX", ".git", ".DS_Store", "grades.xlsx"}


def test_names_in_two_unicode_forms_are_one_student(tmp_path):
    for name in ("Jose\u0301", "Jos\xe9"):
        (tmp_path / name).mkdir()
    (one,) = find_submissions(tmp_path).students.values()
    assert one.student == "Jos\xe9" and len(one.paths) == 2 and "forms of one name" in one.notices[0]


@pytest.mark.parametrize("names, found", [
    (("anna_11_900_a.ipynb", "anna_7_assignsubmission_file_a.ipynb"), {"anna": 2}),
    (("anna_11_900_a.ipynb", "anna_12_900_a.ipynb", "anna.zip"), {"anna_11": 1, "anna_12": 1, "anna": 1}),
    (("anna_11_900_a.ipynb", "anna_LATE_11_901_b.ipynb"), {"anna": 2})])
def test_a_number_is_of_one_platform(tmp_path, names, found):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert {student: len(paths) for student, paths in students(tmp_path).items()} == found


def test_two_students_of_one_name_are_told_apart_by_number(tmp_path):
    for name in ("anna_11_900_a.ipynb", "anna_11_901_b.ipynb", "anna_12_902_a.ipynb", "bob_13_903_a.ipynb",
                 "Ann Lee_7_assignsubmission_file_a.ipynb", "Ann Lee_8_assignsubmission_file_a.ipynb"):
        (tmp_path / name).write_bytes(b"x")
    found = students(tmp_path)
    assert {student: len(paths) for student, paths in found.items()} == {
        "anna_11": 2, "anna_12": 1, "bob": 1, "Ann Lee_7": 1, "Ann Lee_8": 1}


def test_of_many_forms_and_copies_the_first_are_named(tmp_path):
    names = ["ada.zip", *(f"ada ({n}).zip" for n in range(1, 9))]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    forms, copies = find_submissions(tmp_path).students["ada"].notices
    assert forms == f"handed in in 9 forms, which were read together: {', '.join(sorted(names)[:6])}"
    assert copies == f"taken for copies, by their names: {', '.join(sorted(names)[:6])}"


@pytest.mark.parametrize("names, said", [
    (("ada/", "ada.zip"), ["2 forms"]), (("ada/", "ada.ipynb"), ["2 forms"]), (("ada.zip", "ada.ipynb"), ["2 forms"]),
    (("ada.rar", "ada.ipynb", "ada.py"), ["3 forms"]), (("ada/",), []), (("ada.zip",), []), (("ada.ipynb", "ada.py"), []),
    (("ada_00_hello_triton.ipynb", "ada_00_hello_triton-Copy1.ipynb"), ["copies, by their names: ada_00_hello_triton-C"]),
    (("ada.zip", "ada (1).zip"), ["2 forms", "copies, by their names: ada (1).zip"])])
def test_two_forms_and_copies_are_named(tmp_path, names, said):
    for name in names:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_bytes(b"x")
    notices = find_submissions(tmp_path).students["ada"].notices
    assert len(notices) == len(said) and all(part in notice for part, notice in zip(said, notices, strict=True))


@pytest.mark.parametrize("names", [
    ("1-2 - Ada L - Oct 2, 2026 0900 AM", "1-2 - Ada L - Oct 10, 2026 0900 AM", "1-2 - Ada L - Nov 1, 2026 900 AM"),
    ("1-2 - Ada L - Oct 1, 2026 1230 AM", "1-2 - Ada L - Oct 1, 2026 1100 AM", "1-2 - Ada L - Oct 1, 2026 1215 PM",
     "1-2 - Ada L - Oct 1, 2026 0100 PM"),
    ("1-2 - Ada L - 1 oct. 2026 09 00", "1-2 - Ada L - 2 oct. 2026 09 00"),
    ("ada_1_9999_a.ipynb", "ada_1_10000_a-1.ipynb", "ada_LATE_1_10001_a-2.ipynb"),
    ("INT8_ada_attempt_2026-9-30-10-00-00_a.ipynb", "INT8_ada_attempt_2026-10-01-09-00-00_a.ipynb"),
    ("ada", "ada_1_10000_a.ipynb", "ada_1_9999_a.ipynb")])
def test_what_the_platform_calls_last_is_last(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
    (one,) = find_submissions(tmp_path).students.values()
    assert [path.name for path in one.paths] == list(names)
    assert [owner(name, folder=True) for name in names] == one.owners


def test_copied_folders_are_their_student_s(tmp_path):
    for name in ("ada", "ada (1)", "ada - Copy", "team (1)", "team (2)", "ADA"):
        (tmp_path / name).mkdir()
    listing = find_submissions(tmp_path)
    assert list(listing.students) == ["ADA", "ada", "team (1)", "team (2)"] and len(listing.students["ada"].paths) == 3
    assert "ada (1)" in listing.students["ada"].notices[1] and "ADA and ada look alike" in listing.notices[0]


def test_one_student_s_lessons_are_no_class(tmp_path):
    for name in ("00_hello_triton.ipynb", "01_gemv_fp16 (1).ipynb"):
        (tmp_path / name).write_text(SOLVED)
    with pytest.raises(ValueError, match="`grade one"):
        find_submissions(tmp_path)
    (tmp_path / "ada.ipynb").write_text(SOLVED)
    assert [notice.partition(" ")[0] for notice in find_submissions(tmp_path).notices] == ["00_hello_triton", "01_gemv_fp16"]
    (tmp_path / "04_quantize_ada.ipynb").write_text(SOLVED)
    assert "04_quantize_ada begins with the name of a lesson: whose is it?" in find_submissions(tmp_path).notices


@pytest.mark.parametrize("names, found", [
    (("ada_1_2_a.ipynb", "bob_3_4_a.ipynb"), "ada, bob"), (("x/Ada L/a.ipynb", "x/Bob/a.ipynb"), "Ada L, Bob"),
    (("lessons/a.ipynb", "old/b.ipynb"), None), (("ada_1_2_a.ipynb", "ada_1_3_b.ipynb"), None),
    (("ada_1_2_a.ipynb", "ada_2_3_a.ipynb"), "ada, ada"), (("x/y/ada_1_2_a.ipynb", "x/y/bob_2_3_a.ipynb"), "ada, bob"),
    (("Ada/a.ipynb", "Bob/a.ipynb", "Eve/a.ipynb", "Kim/a.ipynb"), "Ada, Bob, Eve, …")])
def test_a_class_that_is_read_as_one_student_is_named(tmp_path, names, found):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in names:
            archive.writestr(name, SOLVED)
    (one,) = find_submissions(tmp_path).students.values()
    said = [problem for problem in units.read(one).problems if "several students" in problem]
    assert (found is None) == (not said) and all(found in sentence for sentence in said)


def test_what_is_known_of_how_files_were_handed_in(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    owners = [Owner("ada"), Owner("ada", "canvas", "7", late=True), Owner("ada", "moodle", "8")]
    unit = units.read_unit(HandedIn("ada", [tmp_path / "a.py"], owners=owners))
    assert (unit.ids, unit.platform_late) == ({"canvas": "7", "moodle": "8"}, True)
    unit = units.read_unit(HandedIn("ada", [tmp_path / "a.py"], owners=owners[:1]))
    assert (unit.ids, unit.platform_late) == ({}, False)


def test_a_lesson_s_latest_file_is_when_it_was_handed_in():
    cells = [Cell(f"# exercise: {name}\nx", file, 0) for name, file in (
        ("programs_needed", "a.py"), ("vector_add_kernel", "b.py"), ("programs_needed", "c.py"),
        ("gemv_fp16_kernel", "d.py"), ("nothing", "e.py"))] + [Cell("x = 1", "e.py", 1)]
    times = {"a.py": 2e9, "b.py": 3e9, "c.py": 1e9, "d.py": 5e8, "e.py": 9e9}
    found = units._handed_in_times(Grader(Settings(7)), Submission("ada", cells, times=times))
    assert found == {"00_hello_triton": 3e9, "01_gemv_fp16": 5e8}


# graded: each alone, whatever is in it

HOSTILE = {
    "surrogate in an error": "raise ValueError(chr(0xD800) + ' no')",
    "escapes in an error": "raise ValueError('\\x1b[2J\\x1b[1;1Hpassed\\r\\u202e')",
    "a surrogate returned": "return chr(0xD800)",
    "a long error": "raise ValueError('x' * 10**6)",
    "a long number": "return 10**6000",
    "a tensor that is no number": "return torch.eye(2).to_sparse()",
    "an error whose text fails": "raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})()",
    "an error with an odd name": "raise type('E\\x1b[2J', (Exception,), {})()",
    "an odd key": "raise KeyError('\\ud800')",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_what_a_student_writes_becomes_printable(grader, tmp_path, body):
    cell = exercise_cell(NEEDED, f"def programs_needed(N, BLOCK):\n    {body}\n")
    (tmp_path / "eve.ipynb").write_text(notebook(IMPORTS, cell))
    result = batch.grade(grader, HandedIn("eve", [tmp_path / "eve.ipynb"]))
    assert batch.write(tmp_path, result) == result == results.read_result(results.result_path(tmp_path, "eve"))
    (one,) = result["exercises"]
    assert one["points"] == 0.0 and one["status"] == ("crashed" if "raise" in body else "failed"), one["message"]
    assert one["message"].replace("\n", "").isprintable() and len(one["message"]) < 10_000


def test_work_that_could_not_be_read_is_no_zero(grader, tmp_path):
    for data, status, points in (("{", results.UNREAD, None), (notebook("x = 1"), "missing", 0.0), (SOLVED, "passed", 1.0)):
        (tmp_path / "ada.ipynb").write_text(data)
        result = batch.grade(grader, HandedIn("ada", [tmp_path / "ada.ipynb"], ["a notice"]))
        (one,) = result["exercises"]
        assert (one["status"], one["points"]) == (status, points) and result["problems"][0] == "a notice"
        assert results.is_open(result) == (points is None)
    stub = notebook(exercise_cell(NEEDED, "def programs_needed(N, BLOCK):\n    raise NotImplementedError('TODO')"))
    (tmp_path / "ada.ipynb").write_text(stub)
    (tmp_path / "mine.ipynb").write_text("{")
    paths = [tmp_path / "ada.ipynb", tmp_path / "mine.ipynb"]
    assert batch.grade(grader, HandedIn("ada", paths))["exercises"][0]["status"] == results.UNREAD, "the work may be there"


@pytest.mark.parametrize("where", ["read_submission", "Grader.grade_submission"])
def test_whatever_goes_wrong_is_that_student_s_result(tmp_path, monkeypatch, where):
    def fail(*_):
        raise KeyError("\ud800")

    (tmp_path / "ada.ipynb").write_text(SOLVED)
    stopped = []
    monkeypatch.setattr(Grader, "stop_servers", lambda _: stopped.append(True))
    monkeypatch.setattr(f"checks.grader.units.{where}", fail)
    result = batch.grade(Grader(Settings(7, exercises=CHEAP[:1])), HandedIn("ada", [tmp_path / "ada.ipynb"]))
    assert [(one["status"], one["points"]) for one in result["exercises"]] == [(results.FAULT, None)]
    assert "KeyError" in result["exercises"][0]["message"] and len(stopped) == 1, "the next one has new ones"


def test_a_submission_has_a_budget_of_time(grader, tmp_path, monkeypatch):
    (tmp_path / "ada.ipynb").write_text(SOLVED)
    monkeypatch.setattr(grader, "settings", dataclasses.replace(grader.settings, student_timeout_s=0.0))
    (one,) = batch.grade(grader, HandedIn("ada", [tmp_path / "ada.ipynb"]))["exercises"]
    assert (one["status"], one["points"]) == ("timeout", 0.0) and one["flags"], "a person looks at it"


def test_a_full_disk_is_an_infrastructure_error(grader, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_atomically", full)
    (tmp_path / "ada.ipynb").write_text(SOLVED)
    result = batch.write(tmp_path, batch.grade(grader, HandedIn("ada", [tmp_path / "ada.ipynb"])))
    assert result["exercises"][0]["status"] == results.FAULT and result["points"] == 0.0
    assert "No space left" in result["exercises"][0]["message"]


def test_a_disk_that_takes_no_more_stops_the_run(grader, tmp_path, monkeypatch):
    for student in ("ada", "bob", "eva"):
        (tmp_path / "sub" / student).mkdir(parents=True)
        (tmp_path / "sub" / student / "a.ipynb").write_text(SOLVED)

    def work(self, waiting, jobs):
        for handed_in in list(waiting.values()):
            with monkeypatch.context() as patch:
                if handed_in.student == "bob":
                    patch.setattr(results, "write_result", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
                self._report(batch.write(self.grades, batch.grade(grader, handed_in)))

    monkeypatch.setattr(batch.Batch, "_work", work)
    run = batch.Batch(tmp_path / "grades", grader.settings, say=lambda _: None)
    with pytest.raises(Fault, match="--resume goes on"):
        run.grade(tmp_path / "sub")
    assert [path.stem for path in (tmp_path / "grades" / "students").iterdir()] == ["ada"] and run.tally.graded == 2


def test_names_that_differ_late_have_files_of_their_own():
    long = "Иванов Иван Иванович_лабораторная_работа_"
    names = [long + "первая", long + "вторая", "x" * 250, "x" * 251, "a%2Fb", "a/b", "a"]
    files = [results.file_name(name) for name in names]
    assert len(set(files)) == len(names) and max(map(len, files)) <= 200


def test_a_class_of_odd_names_is_graded_to_the_end(grader, tmp_path, monkeypatch, capsys):
    folder, said = tmp_path / "sub", []
    for name in ("<img src=x onerror=alert(1)>", '=HYPERLINK("x")', "\r=1+1", "eve\n[9 of 9] ada: 0 of 1",
                 "\x1b[31mred\x1b[0m", "Ada", "con", "a.b", "a%2Fb", "-rf", "ünï",
                 "x" * 250, os.fsdecode(b"Jos\xe9"), "\u202eevil"):
        (folder / name).mkdir(parents=True)
        (folder / name / os.fsdecode(b"caf\xe9.ipynb")).write_text(SOLVED)
    (folder / "bob").mkdir()
    with zipfile.ZipFile(folder / "bob" / "work.zip", "w") as archive:
        archive.writestr("a.ipynb", SOLVED)

    def work(self, waiting, jobs):
        for handed_in in list(waiting.values()):
            self._report(batch.write(self.grades, batch.grade(grader, handed_in)))
        waiting.clear()
        return []

    monkeypatch.setattr(batch.Batch, "_work", work)
    tally = batch.Batch(tmp_path / "grades", Settings(7, DEFAULT, CHEAP[:1], compiles=False), say=said.append).grade(folder)
    graded = results.read_results(tmp_path / "grades")
    assert (tally.graded, tally.faults, tally.unread) == (15, 0, 0)
    assert [result["points"] for result in graded] == [1.0] * 15
    assert all(line.isprintable() for line in said)
    assert {result["student"] for result in graded} >= {"Jos\\udce9", "\\x1b[31mred\\x1b[0m", "\\r=1+1"}
