"""What workshop.py takes of the user's settings, what it sets itself, and what it makes of pip's log, case by case."""

import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from launcher_copy import load, new_copy


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The launcher as a module, in a folder with nothing set up."""
    return load(new_copy(tmp_path_factory.mktemp("settings") / "module", "torch==2.13.0\n"))


@pytest.fixture
def module(loaded, monkeypatch):
    """The same, with none of its settings in the environment."""
    for name in (*loaded.NOT_OURS, *loaded.CHANGED, "WORKSHOP_FOUND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(loaded.ROOT))
    return loaded


REMOVED = ("PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONIOENCODING", "PYTHONOPTIMIZE", "PYTHONWARNINGS")


@pytest.mark.parametrize("name", REMOVED)
def test_a_setting_of_python_s_is_set_aside_and_noted(module, monkeypatch, name):
    monkeypatch.setenv(name, "theirs")
    variables = module.environment()
    assert name not in variables and json.loads(variables["WORKSHOP_FOUND"]) == {name: "theirs"}


@pytest.mark.parametrize(("name", "value", "becomes", "noted"), [
    ("PYTHONUTF8", "0", "1", True), ("PYTHONUTF8", "1", "1", False), ("JUPYTER_PREFER_ENV_PATH", "0", "1", True),
    ("JUPYTER_PREFER_ENV_PATH", "1", "1", False), ("JUPYTER_PATH", "/a:/b", "{ours}:/a:/b", True),
    ("JUPYTER_PATH", "", "{ours}", True), ("JUPYTER_PATH", "{ours}", "{ours}", False),
    ("JUPYTER_PATH", "/a::{ours}", "{ours}:/a", True), ("HOME", "/nonexistent", "{venv}/home", True),
    ("PYTHONDONTWRITEBYTECODE", "1", "1", False), ("PIP_INDEX_URL", "x", "x", False)])
def test_what_becomes_of_a_setting(module, monkeypatch, name, value, becomes, noted):
    ours = {"ours": f"{module.VENV}/share/jupyter", "venv": module.VENV}
    monkeypatch.setenv(name, value.format(**ours))
    variables = module.environment()
    assert variables[name] == becomes.format(**ours)
    assert json.loads(variables["WORKSHOP_FOUND"]) == ({name: value.format(**ours)} if noted else {})


def test_what_was_found_first_is_kept(module, monkeypatch):
    monkeypatch.setenv("WORKSHOP_FOUND", '{"HOME": "/first"}')
    monkeypatch.setenv("PYTHONPATH", "/later")
    assert module.environment()["WORKSHOP_FOUND"] == '{"HOME": "/first"}'


def test_without_a_path_the_system_s_own_is_taken(module, monkeypatch):
    monkeypatch.delenv("PATH")
    assert module.environment()["PATH"] == f"{module.VENV}/bin:{os.defpath}"


@pytest.mark.parametrize(("home", "writable", "fine"), [("there", True, True), ("there", False, False), ("", True, True),
                                                        (None, True, True)])
def test_a_home_is_where_files_can_be_written(module, monkeypatch, tmp_path, home, writable, fine):
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append((str(path), mode)) or writable)
    monkeypatch.setattr(module.Path, "home", lambda: Path(tmp_path))
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home and str(tmp_path))
    assert module.writable_home() == fine and asked == [(str(tmp_path), os.W_OK)]


FULL, CHANGED, NETWORK, NO_BUILD, UNKNOWN = ("The disk is full", "changes its certificate", "could not be reached",
                                             "There is no build of this package for Python", "To start from nothing")


@pytest.mark.parametrize(("log", "said"), [
    ("OSError: [Errno 28] No space left on device", FULL), ("CERTIFICATE_VERIFY_FAILED", CHANGED), ("SSLError(x)", CHANGED),
    *((text, NETWORK) for text in (
        "NewConnectionError", "NameResolutionError", "Read timed out", "Timed out", "ReadTimeoutError", "ProxyError",
        "ProtocolError", "IncompleteRead(0)", "ConnectionResetError(104)", "ConnectionRefusedError(111)")),
    ("No matching distribution found", NO_BUILD), ("ERROR: something else", UNKNOWN), ("ConnectionAbortedError", UNKNOWN),
    ("No matching distribution found\nProxyError", NETWORK), ("ProxyError\nSSLError", CHANGED),
    ("SSLError\nNo space left on device", FULL)])
def test_each_reason_of_pip_s_has_its_advice(module, log, said):
    message = module.pip_failure(log)
    assert [hint for hint in (FULL, CHANGED, NETWORK, NO_BUILD, UNKNOWN) if hint in message] == [said]
    python = "Python {}.{} on".format(*sys.version_info[:2])
    assert (python in message, str(module.LOG) in message) == (said == NO_BUILD, said == UNKNOWN)


def test_of_pip_s_errors_those_that_say_something_are_shown(module):
    log = "\n".join(f"x ERROR: {text}" for text in ("Exception:", "one", "[present-rich] two", "three"))
    assert module.pip_failure(log).splitlines()[:3] == ["pip could not install requirements.txt:", "    ERROR: one",
                                                        "    ERROR: three"]


@pytest.mark.parametrize(("version", "there", "said"), [
    ((3, 10), ("python3.12", "python3.13", "python3.11"), "run python3.12 workshop.py instead"),
    ((3, 10), ("python3.13", "python3.11"), "run python3.13 workshop.py instead"),
    ((3, 9), ("python3.11", "python3.14"), "run python3.11 workshop.py instead"),
    ((3, 8), ("python3.14",), "Install Python 3.12"), ((3, 11), (), None), ((3, 14), (), None)])
def test_which_python_is_new_enough(module, monkeypatch, version, there, said):
    monkeypatch.setattr(shutil, "which", lambda name: name if name in there else None)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "version_info", (*version, 5))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    if said is None:
        module.check_machine()
    else:
        with pytest.raises(module.Stop, match=f"this is Python {version[0]}.{version[1]}, and .*{said}"):
            module.check_machine()


@pytest.fixture
def installed(module, monkeypatch):
    """What `install` has run in .venv, and what it wrote there; its folder is gone afterwards."""
    ran = []
    site = module.VENV / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    monkeypatch.setattr(module, "has_gpu", lambda: True)
    monkeypatch.setattr(module, "missing", list)
    monkeypatch.setattr(module, "run_in_venv", lambda command, lock, variables, quiet=False: ran.append(
        (command, lock, quiet)) or SimpleNamespace(returncode=0))
    module.install(lock=5)
    yield ran, site
    shutil.rmtree(module.VENV)


def test_what_is_installed_and_compiled(module, installed):
    """Packages' tests, and models that no lesson has, are compiled when they are imported."""
    (pip, compiled), site = installed
    assert pip == ([str(module.PYTHON), "-m", "pip", "install", "--target=", "--root=/", f"--prefix={module.VENV}",
                    "--no-compile", "--log", str(module.LOG), "-r", "requirements.txt"], 5, False)
    command, lock, quiet = compiled
    assert command[:6] == [str(module.PYTHON), "-m", "compileall", "-q", "-j", "0"] and (lock, quiet) == (5, True)
    assert command[6] == "-x" and command[8:] == [str(site)]
    later = {path: bool(re.search(command[7], f"/x/site-packages/{path}")) for path in (
        "numpy/tests/test_a.py", "a/test/b.py", "transformers/models/bert/b.py", "transformers/models/auto_x/b.py",
        "numpy/core.py", "testing/a.py", "numpy/testing/a.py", "transformers/models/auto/b.py",
        "transformers/models/llama/b.py", "transformers/utils.py", "latest/a.py")}
    assert [path for path, left in later.items() if left] == list(later)[:4]


def test_what_python_and_jupyter_are_told(module, installed):
    _, site = installed
    first, second = (site / "workshop.pth").read_text().rstrip("\n").split("; sys.modules")
    assert first == f"import sys; sys.path.insert(0, {str(module.ROOT)!r})" and second == "['rfc3987_syntax'] = None"
    settings = json.loads((module.VENV / "share" / "jupyter" / "lab" / "settings" / "overrides.json").read_text())
    assert settings == {
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
        "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
        "@jupyterlab/notebook-extension:tracker": {"codeCellConfig": {"lineWrap": True}}}


@pytest.mark.parametrize(("raises", "status", "said"), [
    (OSError(28, "No space", None), 1, "workshop: what this command prints cannot be written: [Errno 28] No space\n"),
    (OSError(13, "Denied", "a"), 1, "workshop: cannot set up .venv in {root}: [Errno 13] Denied: 'a'\n"),
    (KeyboardInterrupt(), 130, "\nworkshop: stopped. Run the same command again to go on.\n"),
    ("Stop", 1, "workshop: why\n")],
    ids=["output", "folder", "Ctrl-C", "stop"])
@pytest.mark.parametrize("step", ["prepare", "start"])
def test_each_end_of_a_launch_has_its_sentence(module, monkeypatch, capsys, step, raises, status, said):
    def fail(*_):
        raise module.Stop("why") if raises == "Stop" else raises

    monkeypatch.setattr(module, "prepare", lambda: None)
    monkeypatch.setattr(module, step, fail)
    monkeypatch.setattr(module, "found_stamp", lambda: [])
    assert module.main(["check"]) == status
    assert capsys.readouterr() == ("", said.format(root=module.ROOT))


def test_a_question_is_the_command_s_own_once_all_is_set_up(module, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(module, "prepare", lambda: None)
    monkeypatch.setattr(module, "start", lambda command, arguments: started.append((command, arguments)))
    monkeypatch.setattr(module, "found_stamp", lambda: ["made"])
    module.main(["grade", "one", "-h"])
    module.main(["bench", "--only", "x"])
    assert started == [("grade", ["one", "-h"]), ("bench", ["--only", "x"])]
    monkeypatch.setattr(module, "found_stamp", lambda: [])
    for command, what in module.COMMANDS.items():
        with pytest.raises(SystemExit, match="0"):
            module.main([command, "a", "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert said.startswith(f"usage: python3 workshop.py {command} [arguments] {what[0].upper()}{what[1:4].rstrip()}")
    assert len(started) == 2


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_an_environment_is_known_by_what_it_was_made_from(tmp_path, name):
    module = load(new_copy(tmp_path / "module", "torch==2.13.0\n"))
    first = module.stamp()
    assert first[0] == "Python {}.{} in {}".format(*sys.version_info[:2], module.ROOT) and first == module.stamp()
    (module.ROOT / name).write_text("other")
    assert module.stamp()[0] == first[0] and module.stamp()[1] != first[1]
    assert module.found_stamp() == []
    module.PYTHON.parent.mkdir(parents=True)
    module.STAMP.write_text("a\nb\n")
    assert module.found_stamp() == []
    module.PYTHON.touch()
    assert module.found_stamp() == ["a", "b"]


def test_the_first_lesson_is_opened(module, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(module.subprocess, "run", lambda command, env: done.append((command, env["VIRTUAL_ENV"])))
    monkeypatch.setattr(module, "configure_jupyter", lambda: done.append("configured"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert module.lab(["--port", "1"]) == ["-m", "jupyterlab", "--LabApp.default_url=/lab/tree/lessons/01_gemv.ipynb",
                                           "--LabApp.custom_css=True", "--port", "1"]
    (command, venv), configured = done
    assert command[:2] == [str(module.PYTHON), "-c"] and venv == str(module.VENV) and configured == "configured"
    assert "Ctrl-C twice ends it" in capsys.readouterr().out
