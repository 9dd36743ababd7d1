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
    monkeypatch.setattr(here, "installed", {"torch": "2.9.0+cpu", "numpy": "2.4.6"}.get)
    assert list(here.other_versions(REQUIREMENTS)) == ["torch is 2.9.0+cpu here; the workshop was tested with 2.13.0."]


@pytest.mark.parametrize(("pip", "uv", "command"), [(True, True, [sys.executable, "-m", "pip", "install"]),
                                                    (False, True, ["uv", "pip", "install", "--python", sys.executable]),
                                                    (False, False, [sys.executable, "-m", "pip", "install"])])
def test_uv_installs_where_there_is_no_pip(monkeypatch, pip, uv, command):
    monkeypatch.setattr(here.importlib.util, "find_spec", lambda name: "pip" if pip else None)
    monkeypatch.setattr(here.shutil, "which", lambda name: "/usr/bin/uv" if uv else None)
    assert here.installer() == command


@pytest.mark.parametrize(("status", "said"), [(0, "is ready. Open a lesson"), (1, "could not install")])
def test_it_says_how_to_go_on(monkeypatch, capsys, status, said):
    monkeypatch.setattr(here, "to_install", lambda *_, hosted: ["tiny==1.0"])
    monkeypatch.setattr(here.subprocess, "run", lambda command: SimpleNamespace(returncode=status))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    assert here.main() == status
    assert said in capsys.readouterr().out


def test_an_old_python_is_told(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    assert here.main() == 1
    assert "needs 3.11 or newer" in capsys.readouterr().out
