"""`workshop.py here`: which packages are installed into a Python of the user's own."""

import sys
from types import SimpleNamespace

import pytest

from checks.course import here

REQUIREMENTS = "# all\ntorch==2.13.0\nnumpy==2.4.6\njupyterlab==4.6.6\nipykernel==7.4.0\n# the tests\npytest==9.2.0\n-e .\n"


@pytest.mark.parametrize(("there", "hosted", "wanted"), [
    ({}, False, ["torch==2.13.0", "numpy==2.4.6", "jupyterlab==4.6.6", "ipykernel==7.4.0"]),
    ({"torch": "2.9.0"}, True, ["numpy==2.4.6"]),
    ({"torch": "2.13.0", "numpy": "1", "jupyterlab": "4", "ipykernel": "6"}, False, []),
])
def test_only_what_is_missing_is_installed(there, hosted, wanted):
    assert here.to_install(REQUIREMENTS, there.get, hosted) == wanted


def test_what_is_there_in_another_version_is_named(monkeypatch):
    monkeypatch.setattr(here, "installed", {"torch": "2.9.0+cpu", "numpy": "2.4.6+local", "jupyterlab": "1"}.get)
    assert list(here.other_versions(REQUIREMENTS)) == ["torch is 2.9.0+cpu here; the workshop was tested with 2.13.0."]


@pytest.mark.parametrize(("pip", "uv", "command"), [(True, True, [sys.executable, "-m", "pip", "install"]),
                                                    (False, True, ["uv", "pip", "install", "--python", sys.executable]),
                                                    (False, False, [sys.executable, "-m", "pip", "install"])])
def test_uv_installs_where_there_is_no_pip(monkeypatch, pip, uv, command):
    monkeypatch.setattr(here.importlib.util, "find_spec", lambda name: "pip" if pip else None)
    monkeypatch.setattr(here.shutil, "which", lambda name: "/usr/bin/uv" if uv else None)
    assert here.installer() == command


@pytest.mark.parametrize(("variable", "hosted"), [("COLAB_RELEASE_TAG", True), ("KAGGLE_KERNEL_RUN_TYPE", True),
                                                  ("JUPYTERHUB_USER", False)])
def test_colab_and_kaggle_bring_their_own_notebook(monkeypatch, variable, hosted):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "")
    assert here.is_hosted() == hosted


@pytest.mark.parametrize("hosted", [True, False])
def test_nothing_is_installed_where_nothing_is_missing(monkeypatch, capsys, hosted):
    """And what is there in another version is named, below how to go on."""
    there = {name: "0.1" for name, _ in here.pins((here.ROOT / "requirements.txt").read_text())}
    there |= {"numpy": "0.2+x", "triton": None}
    monkeypatch.setattr(here, "installed", there.get)
    monkeypatch.setattr(here, "is_hosted", lambda: hosted)
    commands = []
    monkeypatch.setattr(here.subprocess, "run", lambda command: commands.append(command) or SimpleNamespace(returncode=0))
    monkeypatch.setattr(here, "installer", lambda: ["installer"])
    assert here.main() == 0
    ((installer, triton),) = commands
    assert installer == "installer" and triton.startswith("triton==")
    first, *others = capsys.readouterr().out.splitlines()
    way = "restart the session if you are asked to." if hosted else f"{sys.executable} -m jupyterlab lessons/"
    assert first == (f"workshop: {sys.executable} is ready. Open a lesson in the folder lessons/ with it as the kernel: "
                     + way)
    assert [line.split(" here; ")[0] for line in others] == ["workshop: torch is 0.1", "workshop: numpy is 0.2+x"]
    monkeypatch.setattr(here, "installed", dict.fromkeys(there, "0.1").get)
    assert here.main() == 0 and len(commands) == 1, "and pip is not asked at all"


def test_what_the_lessons_need_is_pinned_above_the_tests_part():
    names = [name for name, _ in here.pins((here.ROOT / "requirements.txt").read_text())]
    assert {"torch", "triton", "numpy", "matplotlib", "rich", "nbformat", *here.HOSTED} <= {*names}
    assert not {"pytest", "nbval", "ruff", "mypy"} & {*names}
    assert here.pins("a.b-c==1.0+x  # why\n  d==2\ne>=3\n# the tests\nf==4\n") == [("a.b-c", "1.0+x")]


def test_a_package_s_version_is_the_installed_one():
    assert here.installed("pytest") == pytest.__version__ and here.installed("no-such-package") is None


@pytest.mark.parametrize(("status", "said"), [
    (0, "is ready. Open a lesson"), (1, f"workshop: {sys.executable} could not install tiny==1.0, big==2.0: see above.")])
def test_it_says_how_to_go_on(monkeypatch, capsys, status, said):
    monkeypatch.setattr(here, "to_install", lambda *_, hosted: ["tiny==1.0", "big==2.0"][:2 * hosted])
    monkeypatch.setattr(here.subprocess, "run", lambda command: SimpleNamespace(returncode=status))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    assert here.main() == status
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("version", "old"), [
    ((3, 10, 14), True), ((2, 7, 18), True), ((3, 11, 0), False), ((4, 0, 0), False)])
def test_an_old_python_is_told(monkeypatch, capsys, version, old):
    monkeypatch.setattr(here, "to_install", lambda *_, hosted: [])
    monkeypatch.setattr(sys, "version_info", version)
    assert here.main() == old
    said = f"workshop: this is Python {version[0]}.{version[1]}, and the workshop needs 3.11 or newer."
    assert (said in capsys.readouterr().out) == old
