"""What workshop.py says of machines, Pythons, disks and pips, with nothing set up or started; torch's CPU build."""

import ast
import contextlib
import importlib.util
import io
import json
import os
import platform
import shutil
import sys
from collections import namedtuple
from types import SimpleNamespace

import pytest
from launcher_copy import LAUNCHER, load, new_copy


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The launcher as a module, in a folder with nothing set up; it can neither install nor start anything."""
    module = load(new_copy(tmp_path / "module", "torch==2.13.0\n"))
    for step in ("run_in_venv", "start"):
        monkeypatch.setattr(module, step, lambda *_, step=step, **__: pytest.fail(f"{step} was reached"))
    return module


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


@pytest.mark.parametrize(("free", "enough"), [(2.9e9, False), (3e9, True), (3.1e9, True)])
def test_how_much_disk_is_enough(module, monkeypatch, free, enough):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with contextlib.nullcontext() if enough else pytest.raises(module.Stop):
        module.need_space(3)


@pytest.mark.parametrize(("gpu", "size"), [(True, "for a GPU (8 GB of disk"), (False, "for no GPU (2 GB of disk")])
def test_the_set_up_says_how_large_it_is(module, monkeypatch, capsys, gpu, size):
    started = []
    monkeypatch.setattr(module, "has_gpu", lambda: gpu)
    monkeypatch.setattr(module, "need_space", lambda gigabytes: started.append(f"{gigabytes} GB"))
    monkeypatch.setattr(module.subprocess, "run", lambda command, pass_fds, **_: started.append(
        (command[1:], pass_fds)) or SimpleNamespace(returncode=0))
    monkeypatch.setattr(sys, "_base_executable", "/usr/bin/python3")
    module.make_venv(lock=5)
    assert size in capsys.readouterr().out
    assert started == ["3 GB", (["-m", "venv", str(module.VENV)], [5])]


def test_an_unfinished_environment_is_removed_first(module, monkeypatch, capsys):
    (module.VENV / "half-made").mkdir(parents=True)
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    monkeypatch.setattr(module, "need_space", lambda gigabytes: None)
    module.make_venv(lock=5)
    assert not module.VENV.exists()
    assert "making it anew" in capsys.readouterr().out


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "an old environment"])
def test_an_environment_on_another_disk_stays_there(module, monkeypatch, tmp_path, there):
    disk = tmp_path / "disk"
    module.VENV.symlink_to(disk)
    if there != "nothing":
        disk.mkdir()
    if there == "an old environment":
        (disk / "lib").mkdir()
        (disk / "lib64").symlink_to("lib")
        module.LOG.touch()
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    monkeypatch.setattr(module, "need_space", lambda gigabytes: None)
    module.make_venv(lock=5)
    assert module.VENV.is_symlink()
    assert list(disk.iterdir()) == []


def test_what_a_link_leads_to_is_left_to_its_owner(module, monkeypatch, tmp_path):
    (tmp_path / "disk" / "theses").mkdir(parents=True)
    module.VENV.symlink_to(tmp_path / "disk")
    monkeypatch.setattr(module, "need_space", lambda gigabytes: None)
    with pytest.raises(module.Stop, match="what is there was not made by this workshop"):
        module.make_venv(lock=5)
    assert (tmp_path / "disk" / "theses").exists()


def test_a_colon_in_the_path(tmp_path, capsys):
    module = load(new_copy(tmp_path / "x:y", ""))
    assert module.main(["lab"]) == 1
    assert "folder with a colon in its path" in capsys.readouterr().err


def test_ctrl_c_and_a_full_stop_have_their_status(module, monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "prepare", interrupted)
    assert module.main(["lab"]) == 130
    assert capsys.readouterr().err == "\nworkshop: stopped. Run the same command again to go on.\n"


def test_programs_run_in_the_environment_s_python(module, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/usr")
    monkeypatch.setenv("KEPT", "yes")
    monkeypatch.setenv("PATH", "/bin")
    variables = module.environment()
    assert "PYTHONHOME" not in variables
    assert variables["KEPT"] == "yes"
    assert variables["VIRTUAL_ENV"] == str(module.VENV)
    assert variables["PATH"] == f"{module.VENV}/bin{os.pathsep}/bin"


def test_settings_do_not_lead_out_of_the_environment(module, monkeypatch):
    settings = {"PYTHONPATH": "/cluster/lib", "JUPYTER_PATH": "/cluster/jupyter", "JUPYTER_PREFER_ENV_PATH": "0",
                "PYTHONIOENCODING": "ascii", "HOME": "/nonexistent"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WORKSHOP_FOUND", raising=False)
    variables = module.environment()
    assert not {"PYTHONPATH", "PYTHONIOENCODING"} & variables.keys()
    assert variables["PYTHONUTF8"] == variables["JUPYTER_PREFER_ENV_PATH"] == "1"
    assert variables["JUPYTER_PATH"] == f"{module.VENV}/share/jupyter:/cluster/jupyter"
    assert variables["HOME"] == str(module.VENV / "home") and (module.VENV / "home").is_dir()
    assert json.loads(variables["WORKSHOP_FOUND"]) == settings
    monkeypatch.setattr(os, "environ", variables)  # a launch within a launch
    assert json.loads(module.environment()["WORKSHOP_FOUND"]) == settings
    assert module.environment()["JUPYTER_PATH"] == variables["JUPYTER_PATH"]


@pytest.mark.parametrize(("home", "fine"), [("folder", True), ("file", False), ("nothing", False)])
def test_which_home_can_be_written(module, monkeypatch, tmp_path, home, fine):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / home))
    assert module.writable_home() == fine == (module.environment()["HOME"] == str(tmp_path / home))


@pytest.mark.parametrize(("cores", "workers"), [(1, "2"), (2, "3"), (3, "4"), (64, "4")])
def test_tests_have_a_worker_more_than_cores_up_to_four(module, monkeypatch, cores, workers):
    monkeypatch.setattr(os, "sched_getaffinity", {0: range(cores)}.get)  # 0: this process
    assert module.test(["-k", "ragged"]) == ["-m", "pytest", "-n", workers, "-k", "ragged"]


def test_a_long_text_is_cut_to_its_last_lines(module):
    assert module.last_lines("one\ntwo\nthree\nfour\nfive\n\n") == "    two\n    three\n    four\n    five"
    assert module.last_lines("x" * 400) == "    " + "x" * 300


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


def test_here_is_for_the_python_that_runs_it(module, monkeypatch):
    class Became(Exception):
        pass

    def become(program, arguments):
        raise Became(program, arguments)

    monkeypatch.setattr(os, "execv", become)
    with pytest.raises(Became) as became:
        module.main(["here"])
    assert became.value.args == (sys.executable, [sys.executable, str(module.ROOT / "checks" / "course" / "here.py")])
    assert not module.VENV.exists()
    with pytest.raises(SystemExit):  # a question changes nothing
        module.main(["here", "--help"])


def test_a_name_that_the_terminal_cannot_show_is_no_error(module, monkeypatch):
    streams = {name: io.TextIOWrapper(io.BytesIO(), "ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    assert module.main([]) == 2 and [stream.errors for stream in streams.values()] == ["replace"] * 2


@pytest.mark.parametrize("command, arguments, place", [
    ("check", ["-P", "-m", "checks", "check", "a.ipynb"], "where the user is"), ("test", ["-m", "pytest"], "the workshop"),
    ("lab", ["-m", "jupyterlab"], "the workshop")])
def test_where_a_command_runs(tmp_path, monkeypatch, command, arguments, place):
    module, became, entered = load(new_copy(tmp_path / "module", "")), [], []
    module.VENV.mkdir()
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    monkeypatch.setattr(os, "execve", lambda *how: became.append(how))
    monkeypatch.setattr(os, "chdir", entered.append)
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: None)
    module.start(command, ["a.ipynb"])
    ((program, (first, *found), variables),) = became
    assert program == first == str(module.PYTHON) and found[:len(arguments)] == arguments and found[-1] == "a.ipynb"
    assert entered == ([str(module.ROOT)] if place == "the workshop" else [])
    assert variables.get("PYTHONPATH") == (None if entered else str(module.ROOT)), "there, no file there is imported"


@pytest.mark.parametrize("user, allowed", [(0, True), (1000, False)])
def test_only_root_may_be_root_in_jupyterlab(module, monkeypatch, user, allowed):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: None)
    assert ("--allow-root" in module.lab([])) == allowed


def test_packages_are_found_however_their_names_are_written(module):
    (module.ROOT / "requirements.txt").write_text("tiny_two==1\nOther.thing==2.0\n# last==1\nthird-one==1\nfourth==3\n")
    for metadata in ("Name: Tiny-Two", "Name: other.Thing", "Name: third_one", "Version: 1"):
        folder = module.VENV / "lib" / "python3.11" / "site-packages" / f"{metadata[6:]}-1.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\n{metadata}\n")
    (folder.parent / "e-1.dist-info").mkdir()  # of an install that was cut off
    assert module.missing() == ["fourth"]


def test_pip_installs_into_the_environment_alone(tmp_path, monkeypatch):
    module, ran = load(new_copy(tmp_path / "module", "")), []
    names = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_USER", "PIP_DRY_RUN", "PIP_NO_DEPS", "PIP_INDEX_URL")
    for name in names:
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setattr(module.subprocess, "run", lambda command, **how: ran.append((command[1:], how)))
    module.pip("install", "x", lock=7)
    module.pip("index", "versions", "torch", lock=7, quiet=True)
    (install, loud), (index, quiet) = ran
    assert install == ["-m", "pip", "install", "--target=", "--root=/", f"--prefix={module.VENV}", "x"]
    assert index == ["-m", "pip", "index", "versions", "torch"]
    assert {name: loud["env"][name] for name in names if name in loud["env"]} == {
        "PIP_USER": "0", "PIP_DRY_RUN": "0", "PIP_NO_DEPS": "0", "PIP_INDEX_URL": "theirs"}
    assert (loud["pass_fds"], loud["cwd"], loud["stdout"], quiet["stdout"]) == ([7], str(module.ROOT), None, -1)


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
                                    "Available versions: 2.13.0+cu130, 2.13.0+cpu, 2.13.0\n",
                                    "Available versions: 2.13.0.1+cpu, 2.13.0\n", ""])
def test_otherwise_uv_fetches_it(torch_step, capsys, listed):
    commands, spaces = torch_step(listed, 0, 0, 0)
    assert commands[1:] == [FETCH + " --dry-run", FETCH]
    assert spaces == []
    assert "cannot be reached" not in capsys.readouterr().out


def test_without_a_pin_pip_takes_what_it_likes(module):
    (module.ROOT / "requirements.txt").write_text("# torch==1\ntorchvision==2\n")
    module.install_cpu_torch(lock=None)  # and `run_in_venv` is not reached


def test_pip_looks_once_and_uv_does_not_wait(module, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "run_in_venv", lambda command, lock, variables, quiet=False: calls.append(
        (command[0].rpartition("/")[2], variables, quiet, lock)) or SimpleNamespace(stdout="", returncode=0))
    module.install_cpu_torch(lock=5)
    quick = {"UV_HTTP_RETRIES": "1", "UV_HTTP_CONNECT_TIMEOUT": "5"}
    here = {"PIP_USER": "0", "PIP_DRY_RUN": "0", "PIP_NO_DEPS": "0"}
    assert calls == [("python", here, True, 5), ("python", here, True, 5),
                     ("uv", quick, True, 5), ("uv", quick, False, 5)]


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
def test_only_an_x86_machine_without_gpu_asks_for_the_cpu_build(module, monkeypatch, gpu, machine, asked):
    calls = []
    monkeypatch.setattr(module, "has_gpu", lambda: gpu)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(module, "install_cpu_torch", lambda lock: calls.append("cpu"))
    monkeypatch.setattr(module, "pip", lambda *arguments, lock: SimpleNamespace(returncode=0))
    (module.ROOT / "requirements.txt").write_text("")
    module.VENV.mkdir()
    module.install(lock=None)
    assert calls == ["cpu"] * asked
