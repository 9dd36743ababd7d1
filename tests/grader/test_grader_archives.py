"""Which files of a submission are read: by their endings and folders, up to each limit and no further."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from checks.grader.intake import archives, formats
from checks.grader.intake.archives import Walk, is_archive, is_work
from checks.grader.intake.code import suspicious

NOTEBOOKS = [".ipynb", ".ipynb.txt", ".ipynb.json"]
SCRIPTS = [".py", ".py.txt"]
OPENED = {".zip": None, ".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tbz2": "w:bz2",
          ".tar.xz": "w:xz", ".txz": "w:xz"}
CLOSED = [".rar", ".7z", ".gz", ".bz2", ".xz", ".zst", ".iso", ".dmg", ".cab", ".lzh", ".z", ".sit"]


def packed(members: dict[str, bytes], mode: str | None = None) -> bytes:
    """A zip, or a tar written in a mode."""
    data = io.BytesIO()
    if mode is None:
        with zipfile.ZipFile(data, "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
    else:
        with tarfile.open(fileobj=data, mode=mode) as archive:
            for name, text in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text))
    return data.getvalue()


def walked(folder: Path, files: dict[str, bytes], *paths: Path) -> tuple[Walk, list[str]]:
    """What is read of a folder with these files, or of paths in it: the names."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    walk = Walk()
    return walk, [name for name, _, _ in walk.files([folder / path for path in paths] or [folder])]


# names


@pytest.mark.parametrize("ending", [*OPENED, *NOTEBOOKS, *SCRIPTS, *CLOSED])
@pytest.mark.parametrize("upper", [False, True])
def test_what_is_done_with_a_file_by_its_ending(tmp_path, ending, upper):
    name = "a" + (ending.upper() if upper else ending)
    data = packed({"b.py": b"x = 1"}, OPENED[ending]) if ending in OPENED else b"x"
    walk, names = walked(tmp_path, {name: data})
    assert names == ([f"{name}/b.py"] if ending in OPENED else [] if ending in CLOSED else [name]) and not walk.ignored
    closed = f"{name} was not read: it is an archive of a kind that is not opened; a zip is"
    assert walk.unread == ([closed] if ending in CLOSED else [])
    assert (is_work(name), is_archive(name)) == (ending in NOTEBOOKS + SCRIPTS, ending not in NOTEBOOKS + SCRIPTS)


@pytest.mark.parametrize("name", ["a.pdf", "report.json", "py", "a.ipynb.bak", "zip", "a.pyc"])
def test_what_is_no_work_is_named(tmp_path, name):
    walk, names = walked(tmp_path, {name: b"x"})
    assert not names and not walk.unread
    assert walk.ignored == [f"{name} was not read: it is no notebook, script or archive"]
    assert not is_work(name) and not is_archive(name)
    assert is_work("deep/report_card.json") and is_work("Report_Card.JSON")


HIDDEN = ["__MACOSX/a.py", "__pycache__/a.py", "node_modules/a.py", "site-packages/a.py", ".git/a.py", ".a.py",
          "b/.c/d/a.py", "b/__MACOSX/a.py", "b/c/node_modules/d/a.py"]


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("zipped", [False, True])
def test_what_is_hidden_or_a_system_s_is_counted(tmp_path, name, zipped):
    files = {"work.zip": packed({name: b"x", "z.py": b"x"})} if zipped else {name: b"x", "z.py": b"x"}
    walk, names = walked(tmp_path, files)
    assert names == ["work.zip/z.py" if zipped else "z.py"] and not walk.unread
    (said,) = walk.ignored
    assert said.startswith("1 hidden file(s) and folder(s) were not read: ")


@pytest.mark.parametrize("ours", ["solutions", "kernels", "checks", "tests", "backups"])
@pytest.mark.parametrize("zipped", [False, True])
def test_the_workshop_s_own_folders_are_named_once(tmp_path, ours, zipped):
    files = {f"deep/{ours}/a.py": b"x", f"deep/{ours}/more/b.ipynb": b"x", f"{ours}.py": b"x", f"my{ours}/a.py": b"x"}
    walk, names = walked(tmp_path, {"w.zip": packed(files)} if zipped else files)
    before = "w.zip/" if zipped else ""
    assert set(names) == {f"{before}{ours}.py", f"{before}my{ours}/a.py"} and not walk.unread
    assert walk.ignored == [f"{before}deep/{ours}/ was not read: a folder of that name is the workshop's own"]
    other, names = walked(tmp_path / "file", {ours: b"x", "a.zip": packed({ours: b"x"})})
    assert not names and other.ignored == [f"{name} was not read: it is no notebook, script or archive"
                                           for name in (f"a.zip/{ours}", ours)]


def test_how_files_are_called(tmp_path):
    """By their place in what was handed in; of several things that were, with the name of each."""
    files = {"b/x.py": b"1", "a/deep/y.py": b"2", "a/w.zip": packed({"q/r.py": b"3", "p.py": b"4"}),
             "c.zip": packed({"s.py": b"5"})}
    assert walked(tmp_path, files)[1] == ["a/deep/y.py", "a/w.zip/p.py", "a/w.zip/q/r.py", "b/x.py", "c.zip/s.py"]
    assert walked(tmp_path, {}, Path("a"))[1] == ["deep/y.py", "w.zip/p.py", "w.zip/q/r.py"]
    assert walked(tmp_path, {}, Path("c.zip"))[1] == ["s.py"]
    assert walked(tmp_path, {}, Path("c.zip"), Path("b"))[1] == ["c.zip/s.py", "b/x.py"]
    assert walked(tmp_path, {}, Path("b/x.py"))[1] == ["x.py"]


def test_a_long_name_is_cut_in_its_middle():
    limit = archives.NAME_LIMIT
    assert archives._shown("a" * limit) == "a" * limit
    cut = archives._shown("a" * limit + "b")
    assert len(cut) == limit + 1 and cut == "a" * (limit // 2) + "…" + "a" * (limit // 2 - 1) + "b"
    assert archives._shown("/../") == archives.NO_NAME and archives._shown("./a\\..\\b") == "a/b"


# limits


@pytest.mark.parametrize("limit, allowed, files, said", [
    ("FILE_LIMIT", 9, {"a.py": b"123456789"}, "a.py was not read: it has 9 bytes, more than the 8 that are read"),
    ("COUNT_LIMIT", 2, {"a.py": b"1", "b.txt": b"2", "c.py": b"3"}, "more than 1 notebooks and scripts; only the first 1"),
    ("SEEN_LIMIT", 3, {"a.py": b"1", "b.txt": b"2", "c.py": b"3"}, "more than 2 files and folders; the rest"),
    ("TOTAL_LIMIT", 9, {"a.py": b"12345", "b.py": b"6789"}, "more than the 8 bytes that are read of one submission"),
    ("FOLDERS_LIMIT", 2, {"a/b/c/d.py": b"1"}, "a/b/c/ was not read: it lies in more than 1 folders"),
    ("DEPTH_LIMIT", 2, {"a.zip": packed({"b.zip": packed({"c.py": b"1"})})},
     "b.zip was not read: it lies in archives nested more than 1 deep")],
    ids=lambda one: one if isinstance(one, str) and one.isupper() else "")
def test_up_to_each_limit_all_is_read(tmp_path, monkeypatch, limit, allowed, files, said):
    """At the limit everything, one beyond it not, and that is work that was not read."""
    monkeypatch.setattr(archives, limit, allowed)
    walk, names = walked(tmp_path, files)
    assert not walk.unread and len(names) == sum(name.endswith((".py", ".zip")) for name in files)
    monkeypatch.setattr(archives, limit, allowed - 1)
    walk, fewer = walked(tmp_path, {})
    assert said in walk.unread[0] and len(fewer) == len(names) - 1


def test_a_member_larger_than_is_read_is_work_not_read(tmp_path, monkeypatch):
    data = packed({"a.py": b"1" * 400, "b.py": b"2"}, "w:gz")
    monkeypatch.setattr(archives, "FILE_LIMIT", 399)
    walk, names = walked(tmp_path, {"w.tgz": data})
    assert names == ["w.tgz/b.py"]
    assert walk.unread == ["w.tgz/a.py was not read: it has 400 bytes, more than the 399 that are read"]


def test_what_is_read_of_a_submission_at_most():
    """Far more than the whole course has, and little enough for a machine that grades a class."""
    assert (archives.FILE_LIMIT, archives.TOTAL_LIMIT) == (64 << 20, 256 << 20)
    assert (archives.COUNT_LIMIT, archives.SEEN_LIMIT, archives.DEPTH_LIMIT, archives.FOLDERS_LIMIT) == (500, 20_000, 4, 50)
    assert (formats.CELL_LIMIT, formats.CODE_LIMIT, formats.CELLS_LIMIT) == (50_000, 400_000, 2000)


# what reaches out

ATTRIBUTES = ["_getframe", "settrace", "setprofile", "get_objects", "get_referrers", "modules", "_exit", "fork", "meta_path",
              "environ", "kill", "popen", "system", "__reduce__", "__globals__", "__closure__", "__code__", "__subclasses__",
              "f_back", "f_locals", "tb_frame", "__builtins__", "_current_frames", "set_trace", "_patch_lang",
              "interpreter_builder", "dlopen", "CDLL"]
MODULES = ["ctypes", "mmap", "subprocess", "socket", "urllib", "requests", "pickle", "atexit", "signal", "ptrace",
           "importlib", "linecache", "inspect", "builtins", "gc", "traceback", "multiprocessing", "cffi"]


@pytest.mark.parametrize("name", ATTRIBUTES + MODULES)
def test_each_name_that_reaches_out_is_noticed(name):
    forms = [f"x.{name}", f"f({name!r})", f"import {name}", f"from {name} import a", f"import a.{name}.b",
             f"from a import {name}"]
    assert [suspicious(form) for form in forms] == [[name]] * len(forms)
    assert suspicious(f"{name} = 1") == ([name] if name.startswith("_") else []), "a name of one's own is none"


@pytest.mark.parametrize("name", ["vars", "dir", "getattr", "setattr", "delattr"])
def test_what_looks_into_a_harness_is_noticed_where_one_is(name):
    assert suspicious(f"{name}(x)", private=True) == [name] and suspicious(f"{name}(x)") == []
    assert suspicious("open(x)") == suspicious("open(x)", private=True) == ["open"]
