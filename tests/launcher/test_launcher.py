"""workshop.py in temporary copies, with real environments and pips, but nothing large to install and no network."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from children import hearing_ctrl_c
from launcher_copy import load, new_copy


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A folder with two versions of a package of one line."""
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        info = f"tiny-{version}.dist-info/"
        with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("tiny.py", f"version = '{version}'\n")
            wheel.writestr("tiny_parts/tests/test_tiny.py", "import tiny\n")
            wheel.writestr(info + "METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
            wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
                                           "Tag: py3-none-any\n")
            wheel.writestr(info + "RECORD", "")
    return folder


def popen(root, *arguments, **variables):
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith(("PIP_", "PYTHON")) and name != "EXIT"}
    clean.update({"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "NO_PROXY": "127.0.0.1", **variables})
    with hearing_ctrl_c():
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


# set-up and pass-through, for real


def test_first_launch_sets_up_and_shows_pip(template):
    root, done = template
    assert "workshop: setting up once" in done.out
    assert "Installing collected packages: tiny" in done.out  # pip's own words
    assert said(done)["program"] == "checks.__main__"
    assert tiny_version(root) == "1.0"


def test_a_second_launch_passes_arguments_and_status_on_at_once(template):
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


@pytest.mark.parametrize("command", ["check", "reset", "doctor", "solutions", "bench"])
def test_commands_of_checks(template, command):
    assert said(launch(template[0], command, "--help"))["arguments"] == [command, "--help"]


def test_no_python_file_of_the_current_folder_is_imported(template, tmp_path):
    root, _ = template
    (tmp_path / "workshop.py").symlink_to(root / "workshop.py")
    for name in ("json.py", "checks.py"):
        (tmp_path / name).write_text("raise SystemExit('a submitted file ran')")
    assert said(launch(tmp_path, "check", "here.ipynb"))["arguments"] == ["check", "here.ipynb"]


def test_test_runs_pytest_from_the_root_whatever_the_folder(template, tmp_path):
    root, _ = template
    (tmp_path / "workshop.py").symlink_to(root / "workshop.py")
    done = said(launch(tmp_path, "test", "tests/kernels/test_gemv.py", "-k", "ragged"))
    workers = str(min(4, len(os.sched_getaffinity(0)) + 1))
    assert (done["program"], done["folder"]) == ("pytest", str(root))
    assert done["arguments"] == ["-n", workers, "tests/kernels/test_gemv.py", "-k", "ragged"]


def test_lab_opens_lesson_one_and_says_what_runs_the_kernels(template):
    root, _ = template
    done = launch(root, "lab", "--no-browser")
    assert "workshop: this is a made-up machine\n" in done.out
    assert said(done)["program"] == "jupyterlab"
    assert said(done)["folder"] == str(root)
    arguments = said(done)["arguments"]
    assert "--LabApp.default_url=/lab/tree/lessons/01_gemv.ipynb" in arguments
    assert "--LabApp.custom_css=True" in arguments and arguments[-1] == "--no-browser"
    assert ("--allow-root" in arguments) == (os.geteuid() == 0)


def test_jupyterlab_does_not_ask_about_news(template):
    settings = json.loads((template[0] / ".venv/share/jupyter/lab/settings/overrides.json").read_text())
    assert settings["@jupyterlab/apputils-extension:notification"] == {"fetchNews": "false"}


def test_jupyter_reads_the_workshop_s_configuration(template):
    line = (template[0] / ".venv/etc/jupyter/jupyter_server_config.py").read_text()
    assert line == f"load_subconfig('server_config.py', path='{template[0]}/checks/course/jupyter')\n"


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


def test_the_user_s_settings_of_pip_do_not_lead_elsewhere(ready, wheels, tmp_path):
    settings = tmp_path / "pip.conf"  # a file and variables, which pip reads in different ways
    settings.write_text(f"[install]\nuser = true\ntarget = {tmp_path}/target\ndry-run = true\n")
    (ready / "requirements.txt").write_text(no_network(wheels, "2.0"))
    done = launch(ready, "check", PIP_CONFIG_FILE=str(settings), PIP_PREFIX=str(tmp_path / "prefix"), PIP_DRY_RUN="1",
                  PIP_ROOT=str(tmp_path / "root"), PIP_TARGET=str(tmp_path / "target2"), PIP_NO_DEPS="1", PIP_USER="1")
    assert done.code == 0, done.err
    assert tiny_version(ready) == "2.0"


def test_a_set_up_that_went_elsewhere_is_not_called_ready(ready, monkeypatch):
    module = load(ready)
    (ready / "requirements.txt").write_text("tiny==1.0\nTiny_two==1.0\n")
    monkeypatch.setattr(module, "has_gpu", lambda: True)
    monkeypatch.setattr(module, "run_in_venv", lambda *_, **__: SimpleNamespace(returncode=0))
    with pytest.raises(module.Stop, match="pip says that it has installed everything, and Tiny_two is not in .venv"):
        module.install(lock=None)


def test_packages_of_the_workshop_s_names_do_not_win(template, tmp_path):
    root, _ = template
    elsewhere = tmp_path / "elsewhere"
    for folder in (elsewhere, next(root.glob(".venv/lib/python3*/site-packages"))):
        (folder / "checks").mkdir(parents=True)
        (folder / "checks" / "__init__.py").write_text("raise SystemExit('another package of that name')\n")
    found = subprocess.run([root / ".venv/bin/python", "-c", "import checks; print(checks.__file__)"], capture_output=True,
                           text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(elsewhere)})
    shutil.rmtree(next(root.glob(".venv/lib/python3*/site-packages/checks")))
    assert found.stdout.strip() == str(root / "checks" / "__init__.py"), found.stderr


def test_starting_waits_for_no_compiler_and_no_parser(template):
    site = next(template[0].glob(".venv/lib/python3*/site-packages"))
    assert [file.name.partition(".")[0] for file in site.rglob("*tiny*.pyc")] == ["tiny"]  # and not its tests
    (site / "rfc3987_syntax.py").write_text("raise SystemExit('takes 1.5 s')\n")
    found = subprocess.run([template[0] / ".venv/bin/python", "-c", "import rfc3987_syntax"], capture_output=True, text=True)
    (site / "rfc3987_syntax.py").unlink()
    assert "ModuleNotFoundError" in found.stderr  # as jsonschema finds it where it is not installed


def test_what_is_printed_onto_a_full_disk(template):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        (template[0] / "new").mkdir()
        root = new_copy(template[0] / "new" / "workshop", "")
        done = subprocess.run([sys.executable, "workshop.py", "check"], cwd=root, stdout=full, stderr=subprocess.PIPE,
                              text=True)
    assert done.returncode == 1
    assert done.stderr == ("workshop: what this command prints cannot be written: [Errno 28] No space left on device\n")


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


def test_a_second_launch_waits_and_installs_nothing(ready, wheels):
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


def test_a_launch_killed_in_mid_install_is_repaired(ready, wheels):
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


def test_an_environment_made_while_waiting_is_not_made_again(made_anew, monkeypatch):
    module, steps = made_anew
    text = module.STAMP.read_text()
    module.STAMP.unlink()

    @contextlib.contextmanager
    def other_launch_finishes():
        module.STAMP.write_text(text)
        yield None

    monkeypatch.setattr(module, "one_at_a_time", other_launch_finishes)
    module.prepare()
    assert steps == []


def test_the_log_is_that_of_the_last_install(ready, monkeypatch):
    module = load(ready)
    module.LOG.write_text("No space left on device\n")
    monkeypatch.setattr(module, "has_gpu", lambda: True)
    monkeypatch.setattr(module, "run_in_venv", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(module.Stop) as stop:
        module.install(lock=None)
    assert "The disk is full" not in str(stop.value)


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
