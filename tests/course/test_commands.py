"""`python -m checks COMMAND`: what each command runs, with which arguments, and its exit status."""

import errno
import os
import runpy
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

import checks.__main__ as commands
import checks.course.notebooks as notebooks
import checks.paths as paths
import workshop
from checks.bench.ncu import NoProfile
from checks.bench.results import BadResults
from checks.bench.runner import WorkerFailed
from checks.bench.workloads import BadShapes
from checks.course.update import Refused
from checks.grader.sandbox.client import Fault
from checks.grader.selftest import Misjudged
from checks.model.folder import BadModel


def run(monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["checks", *argv])
    return commands.main()


def test_the_launcher_offers_the_commands_there_are():
    assert {*workshop.COMMANDS} - {"lab", "test", "here"} == {*commands.COMMANDS, *commands.MODULES}


@pytest.mark.parametrize("command", commands.MODULES)
def test_a_command_gets_its_arguments_and_gives_its_status(monkeypatch, command):
    asked = []
    monkeypatch.setattr(import_module(commands.MODULES[command]), "main", lambda argv: asked.append(argv) or 7)
    assert run(monkeypatch, command, "a", "--help") == 7
    assert asked == [["a", "--help"]]


@pytest.mark.parametrize("argv", [(), ("chekc",)])
def test_an_unknown_command_is_answered_with_those_there_are(monkeypatch, capsys, argv):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, *argv)
    said = capsys.readouterr().err
    assert "usage: python -m checks" in said
    assert not argv or argv[0] in said


def test_check_is_given_the_notebooks_named(monkeypatch):
    asked = []
    monkeypatch.setattr("checks.course.progress.check_notebooks", lambda paths: asked.append(paths) or 1)
    assert run(monkeypatch, "check", "a.ipynb", "b.ipynb") == 1
    assert run(monkeypatch, "check") == 1
    assert asked == [[Path("a.ipynb"), Path("b.ipynb")], []]


@pytest.mark.parametrize("command", sorted({*commands.COMMANDS, *commands.MODULES} - {"doctor"}))
def test_help_names_the_command_as_it_is_typed(monkeypatch, capsys, command):
    """So that no command runs another's module."""
    with pytest.raises(SystemExit, match="0"):
        run(monkeypatch, command, "--help")
    assert f"usage: workshop.py {command} " in capsys.readouterr().out


@pytest.mark.parametrize("wanted", [[], ["00", "01"]])
def test_solutions_says_what_it_wrote(monkeypatch, capsys, wanted):
    asked = []
    monkeypatch.setattr(notebooks, "build_solutions", lambda wanted: asked.append(wanted) or [
        Path("solutions/00_a.ipynb"), Path("solutions/01_b.ipynb")])
    assert run(monkeypatch, "solutions", *wanted) == 0
    assert asked == [wanted]
    assert capsys.readouterr().out == "wrote solutions/00_a.ipynb\nwrote solutions/01_b.ipynb\n"


@pytest.mark.parametrize("kind", [ValueError, LookupError])
def test_solutions_that_cannot_be_built_say_why(monkeypatch, capsys, kind):
    def fail(wanted):
        raise kind("00_a.ipynb is no longer as it was")

    monkeypatch.setattr(notebooks, "build_solutions", fail)
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "solutions")
    assert "error: 00_a.ipynb is no longer as it was" in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "fails", "error", "status", "said"), [
    *((["bench"], "checks.bench.command.run_checks_and_report", kind("why"), 2, "bench: why\n")
      for kind in (BadResults, BadShapes, WorkerFailed, OSError)),
    *((["profile"], "checks.bench.profile.gpu_name", kind("why"), 2, "profile: why\n")
      for kind in (NoProfile, BadResults, FileNotFoundError)),
    (["model", "folder"], "checks.model.command.run", BadModel("why"), 2, "model: why\n"),
    (["model", "folder"], "checks.model.command.run", torch.OutOfMemoryError("why\nmore"), 2,
     "model: the GPU's memory is full: why\n"),
    (["grade", "one", "a.py"], "checks.grader.command._one", ValueError("why"), 2, "grade: why\n"),
    (["grade", "one", "a.py"], "checks.grader.command._one", Misjudged("why"), 4,
     "grade: why. No result can be trusted until that is right; see `grade selftest`.\n"),
    *((["grade", "one", "a.py"], "checks.grader.command._one", kind("why"), 3, "grade: infrastructure error: why\n")
      for kind in (Fault, OSError)),
    (["grade", "one", "a.py"], "checks.grader.command._one", KeyboardInterrupt(), 130,
     "\ngrade: stopped. What was graded is kept: the same command with --resume goes on.\n"),
    (["reset", "04"], "checks.course.reset.reset", OSError(errno.ENOSPC, "full", "a.ipynb"), 1,
     "workshop.py reset: nothing was changed, because a.ipynb cannot be written: full.\n"),
    (["reset", "04"], "checks.course.reset.reset", OSError(errno.ENOSPC, "full"), 1,
     f"workshop.py reset: nothing was changed, because {paths.ROOT / 'backups'} cannot be written: full.\n"),
    (["update"], "checks.course.update.update", OSError(errno.ENOSPC, "full"), 1,
     f"workshop.py update: {paths.ROOT} cannot be written: full. Your notebooks as they were are in lessons/ or backups/; "
     "run the same command again when that is repaired.\n"),
    (["update"], "checks.course.update.update", Refused("why"), 1, "workshop.py update: why\n"),
    (["update"], "checks.course.update.update", OSError(errno.ENOSPC, "full", "a.ipynb"), 1,
     "workshop.py update: a.ipynb cannot be written: full. Your notebooks as they were are in lessons/ or backups/; run the "
     "same command again when that is repaired.\n"),
])
def test_what_a_command_cannot_do_is_a_sentence(monkeypatch, capsys, argv, fails, error, status, said):
    """Each with its status; an error that none of them expects is not hidden."""
    monkeypatch.setattr(fails, Mock(side_effect=error))
    assert run(monkeypatch, *argv) == status
    assert capsys.readouterr() == ("", said)
    monkeypatch.setattr(fails, Mock(side_effect=ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, *argv)


def test_every_solution_is_built_and_stale_ones_go(monkeypatch, tmp_path):
    solutions = tmp_path / "solutions"
    solutions.mkdir()
    for name in ("00_a.ipynb", "07_gone.ipynb", "notes.txt"):
        (solutions / name).touch()
    monkeypatch.setattr(notebooks, "SOLUTIONS", solutions)
    monkeypatch.setattr(notebooks, "lessons", lambda: [tmp_path / "00_a.ipynb", tmp_path / "01_b.ipynb"])
    monkeypatch.setattr(notebooks, "build_solution", lambda lesson: solutions / lesson.name)
    with pytest.raises(LookupError, match="there is no lesson '07'; there are: 00_a, 01_b"):
        notebooks.build_solutions(["00", "07"])
    assert (solutions / "07_gone.ipynb").exists()
    assert notebooks.build_solutions(["01"]) == [solutions / "01_b.ipynb"]
    assert sorted(path.name for path in solutions.iterdir()) == ["00_a.ipynb", "notes.txt"]
    (solutions / "07_gone.ipynb").touch()
    assert notebooks.build_solutions() == [solutions / "00_a.ipynb", solutions / "01_b.ipynb"]
    assert sorted(path.name for path in solutions.iterdir()) == ["00_a.ipynb", "notes.txt"]


def test_the_grader_alone_is_put_on_the_interpreter(monkeypatch):
    for command, expected in (("grade", "1"), ("check", None)):
        monkeypatch.setattr(sys, "argv", ["checks", command])
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
        runpy.run_path(commands.__file__, run_name="imported")
        assert os.environ.get("TRITON_INTERPRET") == expected
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_doctor_takes_no_arguments(monkeypatch, capsys):
    assert run(monkeypatch, "doctor", "--what") == 2
    assert capsys.readouterr() == ("", "usage: python3 workshop.py doctor    (takes no arguments)\n")


def checking(line, status=0):
    """A program that is `workshop.py check` with one line and a status in place of the notebooks and the checks."""
    return ("import runpy, sys, types\n"
            "sys.modules['checks'] = sys.modules['checks.course'] = types.ModuleType('checks')\n"
            "progress = sys.modules['checks.course.progress'] = types.ModuleType('progress')\n"
            f"progress.check_notebooks = lambda paths: exec({line!r}) or {status}\n"
            "sys.argv[:] = ['workshop.py', 'check', 'a.ipynb']\n"
            f"runpy.run_path({str(commands.__file__)!r}, run_name='__main__')\n")


def test_the_status_is_that_of_the_process():
    done = subprocess.run([sys.executable, "-c", checking("print('wrong')", 2)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "wrong\n", "")


@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, "cannot be written: the disk is full"), (errno.EPIPE, "")])
def test_output_that_cannot_be_written_ends_the_command(monkeypatch, capsys, code, said):
    def check(argv):
        raise OSError(code, "")

    monkeypatch.setitem(commands.COMMANDS, "check", check)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    assert run(monkeypatch, "check") == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("signs", [1, 100_000], ids=["at the end", "meanwhile"])
def test_signs_and_a_full_disk_without_a_traceback(signs):
    command = [sys.executable, "-c", checking(f"print({signs} * '\u2713')")]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.stderr == "workshop: what this command prints cannot be written: the disk is full.\n"
    assert done.returncode == 1


@pytest.mark.parametrize("cell, status, said", [
    ("import os; os._exit(0)", 1, "a cell ended Python itself, as `os._exit` does"),
    ("import os; os._exit(3)", 1, "a cell ended Python itself, as `os._exit` does"),
    ("import os; os.kill(os.getpid(), 11)", 1, "Python died of signal 11 (Segmentation fault)"),
    ("raise SystemExit(2)", 2, ""), ("1 / 0", 1, "ZeroDivisionError"), ("print('checked')", 0, "")])
def test_a_check_that_ends_before_it_is_done(cell, status, said):
    """A cell that ends the process must not look like a check without a mistake. One line stands for the workshop."""
    done = subprocess.run([sys.executable, "-c", checking(cell)], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert said in done.stderr and ("before it was done" in done.stderr) == ("Python " in said)


@pytest.mark.parametrize(("error", "lost"), [
    (OSError(errno.ENOSPC, ""), True), (OSError(errno.EPIPE, ""), True), (OSError(errno.EACCES, ""), False),
    (OSError(errno.ENOSPC, "", "a.txt"), False), (OSError(errno.EPIPE, "", "a.txt"), False)],
    ids=["disk", "pipe", "access", "disk for a file", "a file that is a pipe"])
def test_only_what_is_printed_can_be_lost(monkeypatch, error, lost):
    """What a file cannot be written for is the command's to say."""
    monkeypatch.setitem(commands.COMMANDS, "check", Mock(side_effect=error))
    monkeypatch.setattr(commands, "_output_lost", lambda error: 9)
    if lost:
        assert run(monkeypatch, "check") == 9
    else:
        with pytest.raises(OSError) as caught:
            run(monkeypatch, "check")
        assert caught.value is error


@pytest.mark.parametrize("there", [True, False])
def test_a_card_is_drawn_where_matplotlib_is(monkeypatch, there):
    from checks.pictures.transformer import card_figure

    asked = []
    monkeypatch.setattr("checks.capstone.command.main", lambda argv, draw: asked.append((argv, draw)) or 4)
    monkeypatch.setattr(commands.importlib.util, "find_spec", lambda name: {"matplotlib": there}[name] or None)
    assert run(monkeypatch, "card", "--out", "x") == 4
    assert asked == [(["--out", "x"], card_figure if there else None)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_check_that_is_told_to_end_ends_its_process(number):
    """Both of them, with a signal's status, and nobody is told that a cell ended it."""
    cell = f"""if True:
        import os, re, time
        status = f"/proc/{{os.getppid()}}/status"
        for _ in range(5000):  # until the one that waits is ready for the signal
            if int(re.search(r"SigCgt:\\s*(\\w+)", open(status).read())[1], 16) >> {number - 1} & 1:
                break
            time.sleep(0.001)
        print(os.getpid(), flush=True)
        time.sleep(5)"""
    process = subprocess.Popen([sys.executable, "-c", checking(cell)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    assert child != process.pid
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, "")
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize(("before", "path"), [(None, "{root}"), ("", "{root}"), ("/a:/b", "{root}:/a:/b")])
def test_another_process_imports_this_copy_first(monkeypatch, before, path):
    if before is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", before)
    assert paths.python_path() == path.format(root=paths.ROOT)
    assert (paths.ROOT / "workshop.py").exists()
