"""What is read of a submission: every file is read or named, whatever is in it, and reading one has limits of its own."""

import gzip
import io
import json
import os
import tarfile
import zipfile
from unittest.mock import Mock

import pytest
from grading import NEEDED, SOLVED, exercise_cell, notebook

from checks.grader.intake import archives, formats, reading, submissions
from checks.grader.intake.archives import Walk
from checks.grader.intake.reader import CannotBeRead, Reader
from checks.grader.intake.submissions import Cell, Submission, find_exercise_cell, given_notices, is_stub, read_submission
from checks.grader.intake.text import all_printable, printable, printable_name
from checks.paths import ROOT

CARD = (ROOT / "results" / "transformer" / "nvidia_h200.json").read_bytes()


def zipped(**files: str | bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)
    return data.getvalue()


def tarred(mode: str = "w", **files: str | bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            raw = text.encode() if isinstance(text, str) else text
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return data.getvalue()


def read(folder, **files: str | bytes) -> Submission:
    """What is read of a folder with these files; `a_ipynb` is a.ipynb and `deep__a_py` deep/a.py."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_submission("ada", [folder])


# formats


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_any_encoding_is_read(tmp_path, encoding):
    submission = read(tmp_path, a_ipynb=notebook("# é\r\nx = 1").replace("\\u00e9", "é").encode(encoding))
    assert [cell.source for cell in submission.cells] == ["# é\nx = 1"]


@pytest.mark.parametrize("data, said", [
    (b'{"cells": [', "no JSON"), (b"", "is empty"), (b" \n", "is empty"), (b"[1]", "no cells"),
    (b'{"cells": {}}', "no cells"), (b"[" * 200_000, "nested"), (b"\xff\xfe\x00", "encoding"), (b"null", "no cells"),
    (b'{"x":' + b"1" * 5000 + b"}", "no cells"),
    (b'{"worksheets":[5]}', "no cells"), (b"\x00", "no JSON"),
    (b"<<<<<<< HEAD\n{", "a merge conflict"), (b"\n<!DOCTYPE html>", "a web page"),
    (b"version https://git-lfs.github.com/spec/v1", "Git LFS")])
def test_a_broken_notebook_is_named_and_is_work_not_read(tmp_path, data, said):
    submission = read(tmp_path, a_ipynb=data)
    assert not submission.cells and submission.unread
    assert submission.problems[0].startswith("a.ipynb cannot be read: ") and said in submission.problems[0]


def test_odd_cells_are_named(tmp_path):
    cells = [{"cell_type": "code", "source": ["a = 1\n", "b = 2"]}, {"cell_type": "markdown", "source": "x"}, 7, {}, None,
             {"cell_type": "code"}, {"cell_type": "code", "source": {"no": "text"}}, {"cell_type": "code", "source": [1]},
             {"cell_type": "raw", "source": "# exercise: programs_needed\nx"}]
    submission = read(tmp_path, a_ipynb=json.dumps({"cells": cells}))
    assert [cell.source for cell in submission.cells] == ["a = 1\nb = 2", "", "", ""] and submission.unread
    assert submission.problems[:5] == [
        *(f"cell {n} of a.ipynb was not read: its source is no text" for n in (2, 3, 4)),
        "3 cell(s) of a.ipynb were not read: they have no type",
        "a cell of a.ipynb with the line `# exercise: programs_needed` was not read: its type is raw, not code"]


def test_all_sheets_of_an_old_notebook_are_read(tmp_path):
    sheets = [{"cells": [{"cell_type": "code", "input": text}]} for text in ("x = 1", "\ufeffx = 2")]
    submission = read(tmp_path, a_ipynb=json.dumps({"worksheets": sheets}))
    assert [cell.source for cell in submission.cells] == ["x = 1", "x = 2"]


def test_a_notebook_under_a_browser_s_name_is_read(tmp_path):
    submission = read(tmp_path, a_ipynb_txt=SOLVED, b_ipynb_json=SOLVED, c_py_txt="x = 1\n", d_txt="not read")
    assert {cell.file for cell in submission.cells} == {"a.ipynb.txt", "b.ipynb.json", "c.py.txt"}
    assert submission.problems == ["d.txt was not read: it is no notebook, script or archive"] and not submission.unread


def test_a_lone_surrogate_in_source_is_replaced(tmp_path):
    (cell,) = read(tmp_path, a_ipynb=notebook("x = '\ud83d'")).cells
    assert cell.source == "x = '\ufffd'"


def test_a_report_card_is_read_beside_the_notebooks(tmp_path):
    submission = read(tmp_path, report_card_json=b"")
    (tmp_path / "report.card.json").rename(tmp_path / "report_card.json")
    for data, fine in ((CARD, True), (CARD[:1000], False), (b"[" * 200_000, False), (b"\x00", False),
                       (CARD.replace(b'"perplexity": {', b'"perplexity": {"x": 1' + b"0" * 400 + b","), False)):
        (tmp_path / "report_card.json").write_bytes(data)
        submission = read_submission("ada", [tmp_path])
        assert (submission.card is not None) == fine and not submission.unread
        assert fine or submission.problems[0].startswith("no report card: ")


def test_a_report_card_whose_numbers_cannot_be_shown_is_none(tmp_path):
    huge = 10**400
    card = json.loads(CARD) | {"perplexity": {"FP16": huge}, "cost_percent": {"FP16": 0.0}}
    (tmp_path / "report_card.json").write_text(json.dumps(card))
    submission = read_submission("ada", [tmp_path])
    assert submission.card is None and "no report card" in submission.problems[0]


# folders and archives


@pytest.mark.parametrize("name, data", [
    ("work.zip", zipped(a_ipynb=SOLVED)), ("work.tar", tarred(a_ipynb=SOLVED)), ("work.tgz", tarred("w:gz", a_ipynb=SOLVED)),
    ("work.tar.gz", tarred("w:gz", a_ipynb=SOLVED)), ("work.tar.xz", tarred("w:xz", a_ipynb=SOLVED)),
    ("work.tar.bz2", tarred("w:bz2", a_ipynb=SOLVED)), ("W.ZIP", zipped(a_ipynb=SOLVED)),
    ("work.ipynb", zipped(a_ipynb=SOLVED)), ("work.zip", tarred("w:gz", a_ipynb=SOLVED)), ("w.tgz", zipped(a_ipynb=SOLVED)),
    ("out.zip", zipped(in_zip=zipped(a_ipynb=SOLVED))), ("out.tar.gz", tarred("w:gz", in_zip=zipped(b__a_ipynb=SOLVED)))])
def test_archives_are_opened(tmp_path, name, data):
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / name).write_bytes(data)
    for path in (tmp_path / "ada", tmp_path / "ada" / name):
        submission = read_submission("ada", [path])
        assert len(submission.cells) == 3 and not submission.problems


@pytest.mark.parametrize("name, data, said", [
    ("a.zip", b"PK\x03\x04 no zip", "no archive that can be read"), ("a.zip", b"", "no archive that can be read"),
    ("a.tar.gz", b"\x1f\x8b", "no archive"), ("a.tgz", gzip.compress(b"x" * 600, mtime=0), "no archive"),
    ("a.rar", b"Rar!", "kind that is not opened"), ("a.7z", b"7z", "kind that is not opened"),
    ("a.ipynb.gz", gzip.compress(SOLVED.encode(), mtime=0), "kind that is not opened"),
    ("a.zip", zipped(b_rar=b"Rar!"), "b.rar"),
    ("a.zip", zipped(a_ipynb=SOLVED)[:-30], "no archive"), ("a.tar", b"\xff" * 10240, "no archive"),
    ("a.zip", zipped(a_ipynb=SOLVED).replace(b"a.ipynb", b"a\0ipynb"), "no notebook")])
def test_an_archive_that_cannot_be_read_is_work_not_read(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    submission = read_submission("ada", [tmp_path])
    assert submission.unread and said in submission.problems[0] and len(submission.problems) == 1


def test_the_rest_of_an_archive_with_a_damaged_member_is_read(tmp_path):
    data = zipped(a_ipynb=SOLVED, b_ipynb=SOLVED)
    start = data.index(b"a.ipynb") + len("a.ipynb")
    submission = read(tmp_path, a_zip=data[:start] + b"\xff" * 20 + data[start + 20:])
    assert {cell.file for cell in submission.cells} == {"a.zip/b.ipynb"} and submission.unread
    assert "a.zip/a.ipynb was not read" in submission.problems[0]


def test_two_files_of_one_name_are_told_apart(tmp_path):
    names = dict.fromkeys(["a/x.py", "b.py"])
    assert [reading.own_name(name, names) for name in ("c.py", "b.py", "a/x.py", "x.py")] == [
        "c.py", "(2) b.py", "a/(2) x.py", "x.py"]
    assert reading.own_name("b.py", names | {"(2) b.py": None}) == "(3) b.py"


def test_no_name_in_an_archive_is_a_path_or_a_command(tmp_path):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in ("../../../tmp/x.py", "/abs.py", "a\\b.py", "<b>\x1b[2J\n.py", "\u202eyp.py"):
            archive.writestr(name, "x = 1")
    (tmp_path / "ada.zip").write_bytes(data.getvalue())
    submission = read_submission("ada", [tmp_path / "ada.zip"])
    assert {cell.file for cell in submission.cells} == {"tmp/x.py", "abs.py", "a/b.py", "<b>\\x1b[2J\\n.py", "\\u202eyp.py"}


def test_links_and_pipes_are_named_and_not_followed(tmp_path):
    (tmp_path / "b.ipynb").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to("..")
    os.mkfifo(tmp_path / "c.py")
    (tmp_path / "d.ipynb").mkdir()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "l.py"), (tarfile.CHRTYPE, "dev.py"), (tarfile.LNKTYPE, "h.py")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    submission = read(tmp_path, e_tar=data.getvalue())
    said = "\n".join(submission.problems)
    names = ("b.ipynb", "loop", "c.py", "e.tar/l.py", "e.tar/dev.py", "e.tar/h.py")
    assert all(f"{name} was not read" in said for name in names)
    assert submission.unread and not submission.cells and "root:" not in said


def test_the_workshop_s_own_folders_and_hidden_files_are_named(tmp_path):
    files = {"solutions__a_ipynb": SOLVED, "solutions__b_ipynb": SOLVED, "_DS_Store": "x", "_git__a_py": "x",
             "work__a_ipynb": SOLVED, "work__kernels__a_py": "x"}
    submission = read(tmp_path, **files)
    assert {cell.file for cell in submission.cells} == {"work/a.ipynb"} and not submission.unread
    assert [problem.partition(" ")[0] for problem in submission.problems] == ["solutions/", "work/kernels/", "2"]
    assert submission.problems[-1].endswith("were not read: .DS.Store, .git")


@pytest.mark.parametrize("files, unread, said", [
    ({}, False, "nothing was handed in"), ({"a_ipynb": '{"cells": []}'}, False, "a.ipynb has no code cell"),
    ({"a_zip": zipped()}, True, "no file in it"), ({"a_tar": b"\0" * 10240}, True, "no file in it"),
    ({"solutions__a_ipynb": SOLVED}, True, "workshop's own"),
    ({"report_pdf": "%PDF"}, True, "report.pdf was not read"), ({"a_ipynb": notebook("x = 1")}, False, "no cell has a line"),
    ({"a_ipynb": SOLVED, "report_pdf": "%PDF"}, False, "report.pdf was not read")])
def test_what_is_a_zero_and_what_is_not(tmp_path, files, unread, said):
    submission = read(tmp_path, **files)
    assert submission.unread == unread and said in submission.problems[0]


def test_what_the_disk_refuses_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.py").write_text("x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.py").write_text("x")
    for function, name in (("pathlib.Path.open", "a.py"), ("os.listdir", tmp_path.name)):
        with monkeypatch.context() as patch:
            patch.setattr(function, refuse)
            walk = Walk()
            assert not list(walk.files([tmp_path])) and walk.unread[0] == f"{name} was not read: Permission denied"


# limits


@pytest.mark.parametrize("limit, value, said", [
    ("FILE_LIMIT", 10, "more than the 10 that are read"), ("COUNT_LIMIT", 1, "only the first 1"),
    ("SEEN_LIMIT", 1, "more than 1 files"), ("TOTAL_LIMIT", 10, "more than the 10 bytes")])
def test_a_folder_that_is_too_large_is_read_in_part(tmp_path, monkeypatch, limit, value, said):
    monkeypatch.setattr(archives, limit, value)
    read(tmp_path, a_py="x = 1\n", b_py="y = 22222222222\n")
    walk = Walk()
    assert [data for _, data, _ in walk.files([tmp_path])] == [b"x = 1\n"]
    assert said in walk.unread[0]


@pytest.mark.parametrize("archive, name", [(zipped, "a.zip"), (lambda **files: tarred("w:gz", **files), "a.tgz")])
@pytest.mark.parametrize("limit", ["FILE_LIMIT", "TOTAL_LIMIT"])
def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch, archive, name, limit):
    (tmp_path / name).write_bytes(archive(a_ipynb=b"0" * 100_000, b_txt=b"0" * 100_000))
    monkeypatch.setattr(archives, limit, 1000)
    walk = Walk()
    assert not list(walk.files([tmp_path])) and "more than the 1,000 " in walk.unread[0]


@pytest.mark.parametrize("name", ["a{}.png", ".a{}.py", "__MACOSX/a{}.py", "solutions/a{}.ipynb", "a{}.rar"])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_what_a_tar_unpacks_to_get_past_is_limited_too(tmp_path, monkeypatch, mode, name):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for number in range(4):
            info = tarfile.TarInfo(name.format(number))
            info.size = 1000
            archive.addfile(info, io.BytesIO(bytes(1000)))
    (tmp_path / "a.tgz").write_bytes(data.getvalue())
    monkeypatch.setattr(archives, "TOTAL_LIMIT", len(data.getvalue()) + 3000)
    walk = Walk()
    assert not list(walk.files([tmp_path])) and "bytes that are read of one submission" in walk.unread[0]


def test_a_member_that_is_larger_than_its_archive_says(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FILE_LIMIT", 1000)
    data = zipped(a_ipynb=b"0" * 10_000).replace((10_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "a.zip").write_bytes(data)
    walk = Walk()
    assert all(len(data) <= 1000 for _, data, _ in walk.files([tmp_path])) and walk.size < 2500


def test_archives_in_archives_end(tmp_path):
    data = zipped(a_ipynb=SOLVED)
    for _ in range(archives.DEPTH_LIMIT):
        data = zipped(in_zip=data)
    submission = read(tmp_path, a_zip=data)
    assert submission.unread and not submission.cells and "nested more than" in submission.problems[0]


@pytest.mark.parametrize("source, said", [
    ("x\n" * 60_000, "more than the 50,000"), ("-" * 45_000 + "1", "to be parsed"),
    ("lambda:" * 7000 + "1", "to be parsed")])
def test_a_cell_that_harms_a_parser_goes_to_none(tmp_path, source, said):
    submission = read(tmp_path, a_ipynb=notebook("x = 1", source, "y = 1"))
    assert [cell.source for cell in submission.cells] == ["x = 1", "y = 1"] and submission.unread
    assert submission.problems[0].startswith("cell 2 of a.ipynb was not read") and said in submission.problems[0]


@pytest.mark.parametrize("source, said", [
    ("x" * formats.CELL_LIMIT, None), ("x" * (formats.CELL_LIMIT + 1), "50,001 characters, more than the 50,000"),
    ("x = 1\n" * 1000 + "\0", None), ("x" + ".a" * 3000, None), ("x = = 1\n" * 1000, None), ("x\n" * 1001, None),
    ("-" * 45_000 + "1", "nested too deeply"), ("-" * 1999 + "1", None)], ids=lambda source: str(source)[:9])
def test_what_a_parser_is_given(source, said):
    """Whatever it is: what is no Python, the grader's own parser says."""
    found = formats.harms(source)
    assert found is said if said is None else said in found


def test_there_is_a_limit_to_all_cells(tmp_path, monkeypatch):
    for limit, value in (("CODE_LIMIT", 10), ("CELLS_LIMIT", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(formats, limit, value)
            (tmp_path / "a.ipynb").write_text(notebook("x = 1", "y = 1", "z = 1"))
            found = reading.read([tmp_path])
            assert [cell[0] for cell in found["cells"]] == ["x = 1", "y = 1"] and "all that is read" in found["unread"][0]


def test_what_is_said_of_a_submission_is_bounded(tmp_path):
    problems = read(tmp_path, **{f"n{i}_ipynb": "" for i in range(100)}).problems
    assert len(problems) == 51 and problems[-1] == "… and 50 more of this kind"


def test_what_ended_the_reading_is_said_first(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "COUNT_LIMIT", 60)
    for number in range(70):
        (tmp_path / f"n{number}.py").write_text("")
    assert "only the first 60" in reading.read([tmp_path])["unread"][0]


def test_what_takes_the_reader_s_memory_or_time_costs_no_other(tmp_path):
    (tmp_path / "large.ipynb").write_text("[" + "[]," * 2_000_000 + "[]]")
    (tmp_path / "a.py").write_text("x = 1\n")
    small = Reader(memory_bytes=100 << 20)
    assert "too large" in small.read([tmp_path / "large.ipynb"])["unread"][0]
    assert small.read([tmp_path / "a.py"])["cells"]
    hasty = Reader(seconds=0.01)
    with pytest.raises(CannotBeRead, match="more than 0.01 s"):
        hasty.read([tmp_path / "large.ipynb"])
    hasty.seconds = 60  # for its next process: a busy machine may take long over a small file
    assert hasty.read([tmp_path / "a.py"])["cells"]
    hasty._process.kill()
    assert hasty.read([tmp_path / "a.py"])["cells"], "a process that ended for another reason is nobody's fault"
    for one in (small, hasty):
        one.close()


def test_what_the_reader_refuses_is_work_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "READER", Reader(memory_bytes=1))
    with pytest.raises(OSError, match="did not start"):
        read(tmp_path, a_py="x = 1\n")
    monkeypatch.setattr(Reader, "read", Mock(side_effect=CannotBeRead("why")))
    submission = read(tmp_path)
    assert submission.unread and submission.problems == ["nothing was read: why"]


# texts


@pytest.mark.parametrize("text, shown", [
    ("é — 日本 x\u200dy", "é — 日本 x\u200dy"), ("a\x1b[31mb", "a\\x1b[31mb"), ("a\nb\r", "a\\nb\\r"), ("\ud800", "\\ud800"),
    ("\u202eabc\u2066", "\\u202eabc\\u2066"), ("\u2028", "\\u2028"), ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
    ("\ufeffa\xad", "\\ufeffa\\xad")])
def test_printable(text, shown):
    assert printable(text) == shown
    shown.encode()
    assert printable("a\n\tb", lines=True) == "a\n\tb"


def test_a_long_text_is_cut_with_a_word():
    assert printable("x" * 6000, longest=10) == "xxxxxxxxxx … (6,000 characters)"


def test_names_in_two_unicode_forms_are_one():
    assert printable_name("Jose\u0301") == printable_name("Jos\xe9") == "Jos\xe9"
    assert printable_name(" \n") == "\\n" and printable_name("  ") == "(no name)"


def test_every_text_of_a_value_is_made_printable():
    assert all_printable({"a\x1b": ["\ud800", ("\x07", 1, None)], "b": {"c": "\n"}}) == {
        "a\\x1b": ["\\ud800", ["\\x07", 1, None]], "b": {"c": "\n"}}


# what a submission is known by


def test_the_latest_file_decides_when_a_submission_was_made(tmp_path):
    for name, modified in (("a.py", 2e9), ("b.py", 1e9)):
        (tmp_path / name).write_text("x = 1\n")
        os.utime(tmp_path / name, (modified, modified))
    assert read_submission("ada", [tmp_path / "a.py", tmp_path / "b.py"]).modified == 2e9
    assert read_submission("ada", [tmp_path / "b.py", tmp_path / "a.py"]).modified == 2e9
    assert read_submission("ada", []).modified is None


def test_the_digest_is_of_names_and_contents(tmp_path):
    def digest(**files: str) -> str:
        for path in tmp_path.iterdir():
            path.unlink()
        return read(tmp_path, **files).digest

    assert digest(a_py="x = 1") == digest(a_py="x = 1")
    assert len({digest(a_py="x = 1"), digest(a_py="x = 2"), digest(b_py="x = 1"), digest(a_py="x = 1", b_py="")}) == 4


def test_an_exercise_handed_in_twice_is_named(tmp_path):
    other = exercise_cell(NEEDED, "def programs_needed(N, BLOCK):\n    return 1")
    submission = read(tmp_path, a_ipynb=SOLVED, b_ipynb=notebook(other))
    (said,) = submission.problems
    assert "`programs_needed` was handed in 2 times" in said and "cell 2 of a.ipynb, cell 1 of b.ipynb" in said
    assert not read(tmp_path, b_ipynb=SOLVED).problems, "alike"
    others = notebook(exercise_cell(NEEDED), "# exercise: nothing\nx = 1", "# exercise: nothing\nx = 2")
    assert not read(tmp_path, b_ipynb=others).problems, "of no exercise of the course"


def test_a_sum_too_long_to_print_back_is_compared_as_text(tmp_path):
    long = exercise_cell(NEEDED, "def programs_needed(N, BLOCK):\n    return " + "0 + " * 2000 + "-(-N // BLOCK)")
    submission = read(tmp_path, a_py=long, b_py=long + "# again")
    assert "2 times" in find_exercise_cell(submission, NEEDED.name).notices[0] and "2 times" in submission.problems[0]
    assert not is_stub(long + "  # TODO")
    assert given_notices(Submission("ada", [Cell(long, "a.py", 0)]), "a.py", (long.replace("exercise", "given"),))
