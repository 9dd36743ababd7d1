"""workshop.py in temporary copies, with real environments and pips, but nothing large to install and no network."""

import ast
import contextlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

LAUNCHER = Path(__file__).resolve().parents[1] / "workshop.py"

# Stands for pytest, JupyterLab and `python -m checks`: says how it was started.
PROGRAM = """
import json, os, sys
print(json.dumps({"program": __spec__.name, "arguments": sys.argv[1:], "folder": os.getcwd(), "prefix": sys.prefix,
                  "venv": os.environ["VIRTUAL_ENV"], "path": os.environ["PATH"].split(":")[0]}))
sys.exit(int(os.environ.get("EXIT", 0)))
"""
DOCTOR = "def gather():\n    return 'made-up machine'\ndef summary(machine):\n    return 'this is a ' + machine\n"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A folder with two versions of a package of one line."""
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        info = f"tiny-{version}.dist-info/"
        with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("tiny.py", f"version = '{version}'\n")
            wheel.writestr(info + "METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
            wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
                                           "Tag: py3-none-any\n")
            wheel.writestr(info + "RECORD", "")
    return folder


def new_copy(root, requirements):
    (root / "checks").mkdir(parents=True)
    (root / "lessons").mkdir()
    shutil.copy(LAUNCHER, root / "workshop.py")
    (root / "requirements.txt").write_text(requirements)
    (root / "pyproject.toml").write_text("")
    for program in ("pytest.py", "jupyterlab.py", "checks/__main__.py"):
        (root / program).write_text(PROGRAM)
    (root / "checks/__init__.py").write_text("")
    (root / "checks/doctor.py").write_text(DOCTOR)
    for lesson in ("02_more.ipynb", "01_gemv.ipynb"):
        (root / "lessons" / lesson).write_text("{}")
    return root


def popen(root, *arguments, **variables):
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith(("PIP_", "PYTHON")) and name != "EXIT"}
    clean.update(PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK="1", NO_PROXY="127.0.0.1", **variables)
    return subprocess.Popen([sys.executable, "workshop.py", *arguments], cwd=root, env=clean, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def launch(root, *arguments, **variables):
    process = popen(root, *arguments, **variables)
    out, err = process.communicate(timeout=120)
    return SimpleNamespace(code=process.returncode, out=out, err=err)


def said(done):
    """What the started program said of itself, on the last line."""
    return json.loads(done.out.splitlines()[-1])


def tiny_version(root):
    return subprocess.run([root / ".venv/bin/python", "-c", "import tiny; print(tiny.version)"], capture_output=True,
                          text=True).stdout.strip()


def no_network(wheels, version):
    return f"--no-index\n--find-links {wheels}\ntiny=={version}\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory, wheels):
    """A copy set up for real, once: (its folder, how that launch went)."""
    root = new_copy(tmp_path_factory.mktemp("template") / "workshop", no_network(wheels, "1.0"))
    done = launch(root, "check", "first")
    assert done.code == 0, done.err
    return root, done


@pytest.fixture
def ready(tmp_path, template, wheels):
    """A copy of its own for a test, set up."""
    root = new_copy(tmp_path / "workshop", no_network(wheels, "1.0"))
    shutil.copytree(template[0] / ".venv", root / ".venv", symlinks=True)
    stamp = root / ".venv/workshop.stamp"
    stamp.write_text(stamp.read_text().replace(str(template[0]), str(root)))
    return root


@contextlib.contextmanager
def slow_index(wheels):
    """A package index that answers only once `release` is set; `asked` is set when pip is waiting for it."""
    asked, release = threading.Event(), threading.Event()

    class Index(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.set()
            release.wait(60)
            page = self.path.endswith("/")
            body = (b"<a href='/tiny-2.0-py3-none-any.whl'>tiny-2.0-py3-none-any.whl</a>" if page
                    else (wheels / self.path.strip("/")).read_bytes())
            with contextlib.suppress(ConnectionError):
                self.send_response(200)
                self.send_header("Content-Type", "text/html" if page else "application/zip")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    requirements = f"--index-url http://127.0.0.1:{server.server_port}/simple\ntiny==2.0\n"
    yield SimpleNamespace(asked=asked, release=release, requirements=requirements)
    release.set()
    server.shutdown()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The launcher as a module, in a folder with nothing set up; it can neither install nor start anything."""
    module = load(new_copy(tmp_path / "module", "torch==2.13.0\n"))
    for step in ("run_in_venv", "start"):
        monkeypatch.setattr(module, step, lambda *_, step=step, **__: pytest.fail(f"{step} was reached"))
    return module


def load(root):
    spec = importlib.util.spec_from_file_location("workshop_copy", root / "workshop.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# set-up and pass-through, for real


def test_first_launch_sets_up_and_shows_pip(template):
    root, done = template
    assert "workshop: setting up once" in done.out
    assert "Installing collected packages: tiny" in done.out  # pip's own words
    assert said(done)["program"] == "checks.__main__"
    assert tiny_version(root) == "1.0"


def test_second_launch_starts_at_once_and_passes_arguments_and_status_on(template):
    root, _ = template
    pip = (root / ".venv/pip.log").stat().st_mtime_ns
    done = launch(root, "check", "a folder/", "--", "-k", "x and y", "--help", "lab", EXIT="7")
    assert done.code == 7
    assert len(done.out.splitlines()) == 1  # nothing but the program
    assert done.err == ""
    assert said(done) == {"program": "checks.__main__", "folder": str(root), "prefix": str(root / ".venv"),
                          "arguments": ["check", "a folder/", "--", "-k", "x and y", "--help", "lab"],
                          "venv": str(root / ".venv"), "path": str(root / ".venv/bin")}
    assert (root / ".venv/pip.log").stat().st_mtime_ns == pip


@pytest.mark.parametrize("command", ["check", "doctor", "solutions", "bench"])
def test_commands_of_checks(template, command):
    assert said(launch(template[0], command, "--help"))["arguments"] == [command, "--help"]


def test_test_runs_pytest_from_the_root_whatever_the_folder(template, tmp_path):
    root, _ = template
    (tmp_path / "workshop.py").symlink_to(root / "workshop.py")
    done = said(launch(tmp_path, "test", "tests/test_gemv.py", "-k", "ragged"))
    workers = str(min(4, len(os.sched_getaffinity(0))))
    assert (done["program"], done["folder"]) == ("pytest", str(root))
    assert done["arguments"] == ["-n", workers, "--dist", "loadscope", "tests/test_gemv.py", "-k", "ragged"]


def test_lab_opens_the_first_lesson_and_says_what_runs_the_kernels(template):
    root, _ = template
    done = launch(root, "lab", "--no-browser")
    assert "workshop: this is a made-up machine\n" in done.out
    assert said(done)["program"] == "jupyterlab"
    assert said(done)["folder"] == str(root)
    arguments = said(done)["arguments"]
    assert "--LabApp.default_url=/lab/tree/lessons/01_gemv.ipynb" in arguments
    assert arguments[-1] == "--no-browser"
    assert ("--allow-root" in arguments) == (os.geteuid() == 0)


@pytest.mark.parametrize("user, allowed", [(0, True), (1000, False)])
def test_only_root_may_be_root_in_jupyterlab(module, monkeypatch, user, allowed):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: None)
    assert ("--allow-root" in module.lab([])) == allowed


def test_jupyterlab_does_not_ask_about_news(template):
    settings = json.loads((template[0] / ".venv/share/jupyter/lab/settings/overrides.json").read_text())
    assert settings["@jupyterlab/apputils-extension:notification"] == {"fetchNews": "false"}


def test_no_lesson(ready):
    shutil.rmtree(ready / "lessons")
    done = launch(ready, "lab")
    assert done.code == 1
    assert "there is no notebook in lessons/" in done.err


@pytest.mark.parametrize("changed", ["requirements.txt", "pyproject.toml"])
def test_a_change_is_installed_into_the_same_environment(ready, wheels, changed):
    kept = ready / ".venv/kept"
    kept.touch()
    if changed == "requirements.txt":
        (ready / changed).write_text(no_network(wheels, "2.0"))
    else:
        (ready / changed).write_text("[project]\n")
    done = launch(ready, "check")
    assert done.code == 0, done.err
    assert "has changed: bringing .venv up to date" in done.out
    assert tiny_version(ready) == ("2.0" if changed == "requirements.txt" else "1.0")
    assert kept.exists()
    assert len(launch(ready, "check").out.splitlines()) == 1


def test_a_failed_change_says_why_and_keeps_what_worked(ready, wheels):
    (ready / "requirements.txt").write_text("--no-index\nnosuch==1\n")
    done = launch(ready, "check")
    assert done.code == 1
    assert "pip could not install requirements.txt:\n    ERROR: Could not find a version that satisfies" in done.err
    assert "There is no build of this package for Python" in done.err
    (ready / "requirements.txt").write_text(no_network(wheels, "1.0"))
    assert len(launch(ready, "check").out.splitlines()) == 1  # as ready as it was before


def test_no_network(ready):
    (ready / "requirements.txt").write_text("--index-url http://127.0.0.1:9/simple\nnosuch==1\n")
    done = launch(ready, "check", PIP_RETRIES="0")
    assert done.code == 1
    assert "could not be reached. Check the network" in done.err


def test_ctrl_c_is_one_sentence_and_the_next_launch_knows(ready, wheels):
    with slow_index(wheels) as index:
        (ready / "requirements.txt").write_text(index.requirements)
        process = popen(ready, "check")
        assert index.asked.wait(60)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "workshop: stopped. Run the same command again" in err
    assert "Traceback" not in err.split("workshop: stopped")[1]
    assert not (ready / ".venv/workshop.stamp").exists()


def test_a_second_launch_waits_for_the_first_and_installs_nothing(ready, wheels):
    with slow_index(wheels) as index:
        (ready / "requirements.txt").write_text(index.requirements)
        first = popen(ready, "check", "first")
        assert index.asked.wait(60)
        second = popen(ready, "check", "second")
        assert second.stdout.readline() == "workshop: another launch is setting up .venv; waiting for it to finish.\n"
        index.release.set()
        first.communicate(timeout=60)
        out, err = second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), err
    assert json.loads(out)["arguments"] == ["check", "second"]  # that one line, and no pip
    assert tiny_version(ready) == "2.0"


def test_a_launch_killed_in_mid_install_is_repaired_after_its_pip_has_ended(ready, wheels):
    with slow_index(wheels) as index:
        (ready / "requirements.txt").write_text(index.requirements)
        killed = popen(ready, "check")
        assert index.asked.wait(60)
        killed.kill()  # the launcher alone: its pip lives on
        half_made = ready / ".venv/half-made"
        half_made.touch()
        (ready / "requirements.txt").write_text(no_network(wheels, "1.0"))
        repair = popen(ready, "check")
        assert "waiting for it to finish" in repair.stdout.readline()
        index.release.set()
        out, err = repair.communicate(timeout=120)
        killed.communicate(timeout=60)
    assert repair.returncode == 0, err
    assert ".venv is unfinished, damaged, or made for another Python or folder: making it anew" in out
    assert not half_made.exists()
    assert tiny_version(ready) == "1.0"


# what counts as ready


@pytest.fixture
def made_anew(ready, monkeypatch):
    """(launcher, steps): the steps that prepare() takes, recorded and not taken."""
    module, steps = load(ready), []
    monkeypatch.setattr(module, "make_venv", lambda lock: steps.append("venv"))
    monkeypatch.setattr(module, "install", lambda lock: steps.append("pip"))
    return module, steps


def test_a_finished_environment_is_left_alone(made_anew):
    module, steps = made_anew
    module.prepare()
    assert steps == []


@pytest.mark.parametrize("damage", ["no stamp", "half a stamp", "no python", "dangling python"])
def test_a_damaged_environment_is_made_anew(made_anew, damage):
    module, steps = made_anew
    text = module.STAMP.read_text()
    if damage == "no stamp":
        module.STAMP.unlink()
    elif damage == "half a stamp":
        module.STAMP.write_text(text[:10])
    else:
        module.PYTHON.unlink()
        if damage == "dangling python":
            module.PYTHON.symlink_to("/nonexistent/python3")
    module.prepare()
    assert steps == ["venv", "pip"]
    assert module.STAMP.read_text() == text


def test_another_python_needs_another_environment(made_anew, monkeypatch):
    module, steps = made_anew
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    module.prepare()
    assert steps == ["venv", "pip"]


def test_a_moved_folder_needs_another_environment(ready):
    # its scripts and its link to the workshop's packages hold the old path
    moved = load(ready.rename(ready.with_name("moved")))
    assert moved.found_stamp()[0] != moved.stamp()[0]


def test_a_failed_first_install_leaves_no_stamp(made_anew, monkeypatch):
    module, _ = made_anew
    module.STAMP.unlink()

    def fail(lock):
        raise module.Stop("no")

    monkeypatch.setattr(module, "install", fail)
    with pytest.raises(module.Stop):
        module.prepare()
    assert not module.STAMP.exists()


def test_a_change_that_fails_while_unpacking_leaves_no_stamp(made_anew, monkeypatch):
    module, _ = made_anew
    (module.ROOT / "requirements.txt").write_text("tiny==3.0\n")

    def fail(lock):
        module.LOG.write_text("Installing collected packages: tiny\nERROR: [Errno 28] No space left on device\n")
        raise module.Stop("no")

    monkeypatch.setattr(module, "install", fail)
    with pytest.raises(module.Stop):
        module.prepare()
    assert not module.STAMP.exists()


# messages


def stop_message(module, capsys, *arguments):
    """What main() says when it gives up, before it starts anything."""
    assert module.main(list(arguments) or ["lab"]) == 1
    assert not module.VENV.exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("system, machine, expected", [
    ("Darwin", "arm64", "Triton has no macOS build. With Docker, run"),
    ("Windows", "AMD64", "wsl --install"),
    ("Linux", "riscv64", "this is Linux on riscv64"),
    ("FreeBSD", "x86_64", "this is FreeBSD on x86_64"),
])
def test_machines_without_a_build(module, monkeypatch, capsys, system, machine, expected):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert expected in stop_message(module, capsys)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_machines_with_a_build(module, monkeypatch, machine):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    module.check_machine()


@pytest.mark.parametrize("others, advice", [
    (("python3.11",), "run python3.11 workshop.py"), ((), "Install Python 3.12"),
])
def test_old_python(module, monkeypatch, capsys, others, advice):
    monkeypatch.setattr(module.shutil, "which", lambda name: name if name in others else None)
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    message = stop_message(module, capsys)
    assert "this is Python 3.10, and the workshop needs 3.11 or newer" in message
    assert advice in message


def test_an_old_python_can_parse_the_launcher():
    tree = ast.parse(LAUNCHER.read_text(), feature_version=(3, 6))
    imports = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    imports += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert "__future__" not in imports
    assert {name.split(".")[0] for name in imports} <= sys.stdlib_module_names


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_no_venv_module(module, monkeypatch, capsys, missing):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name))
    assert "sudo apt install python3." in stop_message(module, capsys)


def test_full_disk(module, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")(10e9, 9e9, 1e9)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    assert f"needs about 3 GB of disk and {module.ROOT} has 1.0 GB left" in stop_message(module, capsys)


def test_venv_that_fails_shows_its_last_lines(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "_base_executable", shutil.which("false"))
    monkeypatch.setattr(module, "need_space", lambda gigabytes: None)
    assert "false -m venv failed:" in stop_message(module, capsys)


def test_folder_that_cannot_be_written(module, monkeypatch, capsys):
    def refuse():
        raise PermissionError(13, "Permission denied", "workshop.py")

    monkeypatch.setattr(module, "one_at_a_time", refuse)
    assert f"cannot set up .venv in {module.ROOT}: [Errno 13] Permission denied" in stop_message(module, capsys)


@pytest.mark.parametrize("log, reason, advice", [
    ("2026-01-01T00:00:00,000 ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
     "    ERROR: Could not install packages", "The disk is full"),
    ("x WARNING: Retrying: NameResolutionError('no')\nx ERROR: No matching distribution found for torch==2.13.0",
     "    ERROR: No matching distribution found for torch==2.13.0", "Check the network"),
    ("x SSLError(SSLCertVerificationError('CERTIFICATE_VERIFY_FAILED'))\nx ERROR: No matching distribution found",
     "    ERROR: No matching", "PIP_CERT"),
    ("x ERROR: No matching distribution found for setuptools\nx ERROR: [present-rich] pip subprocess exited with 1",
     "    ERROR: No matching distribution found for setuptools\nThere", "no build of this package"),
    ("x ERROR: No matching distribution found for torch==2.13.0", "    ERROR: No matching",
     "no build of this package for Python 3."),
    ("x ERROR: Exception:\nTraceback (most recent call last):\nKeyError: 'odd'", "    KeyError: 'odd'", "pip.log"),
    ("", "", "pip.log"),
])
def test_pip_failures_are_explained(module, log, reason, advice):
    message = module.pip_failure(log)
    assert reason in message
    assert advice in message


def test_help_needs_no_environment(module, capsys):
    assert module.main([]) == 2
    assert "Start with: python3 workshop.py lab" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit) as stop:
        module.main(["test", "--help"])
    assert stop.value.code == 0
    assert "more arguments go to pytest" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit) as stop:
        module.main(["tset"])
    assert stop.value.code == 2
    assert "invalid choice: 'tset'" in capsys.readouterr().err
    assert not module.VENV.exists()


# torch's CPU build


@pytest.fixture
def torch_step(module, monkeypatch):
    """run(listed, *codes) -> (commands, need_space calls): install_cpu_torch with made-up answers to its commands."""
    def run(listed, *codes):
        commands, spaces, codes = [], [], list(codes)

        def answer(command, lock, variables, quiet=False):
            commands.append(" ".join(command).replace(str(module.PYTHON), "python"))
            if "index" in command:
                return SimpleNamespace(stdout=listed, returncode=0)
            return SimpleNamespace(stdout="", returncode=codes.pop(0))

        monkeypatch.setattr(module, "run_in_venv", answer)
        monkeypatch.setattr(module, "need_space", spaces.append)
        module.install_cpu_torch(lock=None)
        assert not codes
        return commands[1:], spaces
    return run


FETCH = "uv pip install --python python --no-deps --torch-backend cpu torch==2.13.0"


def test_pip_that_takes_the_cpu_build_anyway_is_left_to_it(torch_step):
    assert torch_step("torch (2.15.0)\nAvailable versions: 2.15.0, 2.13.0+cpu, 2.13.0, 2.12.1+cpu\n") == ([], [])


@pytest.mark.parametrize("listed", ["Available versions: 2.14.0+cpu, 2.13.0, 2.12.0\n",
                                    "Available versions: 2.13.0+cu130, 2.13.0+cpu, 2.13.0\n", ""])
def test_otherwise_uv_fetches_it(torch_step, capsys, listed):
    commands, spaces = torch_step(listed, 0, 0, 0)
    assert commands[1:] == [FETCH + " --dry-run", FETCH]
    assert spaces == []
    assert "cannot be reached" not in capsys.readouterr().out


@pytest.mark.parametrize("codes", [(1,), (0, 1), (0, 0, 1)])
def test_without_uv_or_its_index_pip_goes_on(torch_step, capsys, codes):
    commands, spaces = torch_step("Available versions: 2.13.0\n", *codes)
    assert len(commands) == len(codes)
    assert "the CPU build cannot be reached from here, so pip takes the default one" in capsys.readouterr().out
    assert spaces == [8]


@pytest.mark.parametrize("sign", ["", "dev/nvidia0", "dev/kfd", "bin/nvidia-smi"])
def test_signs_of_a_gpu(module, monkeypatch, tmp_path, sign):
    (tmp_path / "dev").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    if sign:
        (tmp_path / sign).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(module, "Path", lambda path: tmp_path / path.lstrip("/"))
    assert module.has_gpu() == bool(sign)


@pytest.mark.parametrize("gpu, machine, asked", [(False, "x86_64", True), (True, "x86_64", False),
                                                 (False, "aarch64", False)])
def test_only_an_x86_machine_without_a_gpu_asks_for_the_cpu_build(module, monkeypatch, gpu, machine, asked):
    calls = []
    monkeypatch.setattr(module, "has_gpu", lambda: gpu)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(module, "install_cpu_torch", lambda lock: calls.append("cpu"))
    monkeypatch.setattr(module, "pip", lambda *arguments, lock: SimpleNamespace(returncode=0))
    module.install(lock=None)
    assert calls == ["cpu"] * asked
