"""The user's settings that could lead out of .venv: which are noted, and what is said of them."""

import json

import pytest

from checks.course.settings import NOTES, notes, user_settings


@pytest.mark.parametrize(("value", "on"), [("", False), ("0", False), ("false", False), ("no", False), ("off", False),
                                           ("OFF", False), ("False", False), ("1", True), ("true", True), ("/lib", True)])
@pytest.mark.parametrize("name", [name for name in NOTES if name.startswith("PIP_")])
def test_pip_s_own_words_for_off_are_known(name, value, on):
    assert user_settings({name: value}) == ({name: value} if on else {})


def test_what_was_found_before_the_launcher_is_noted_in_order():
    """What is set now is the launcher's, but for pip's, which it does not change."""
    found = {"PYTHONUTF8": "0", "HOME": "/nowhere", "PYTHONPATH": "/x", "OTHER": "y"}
    environment = {"WORKSHOP_FOUND": json.dumps(found), "PYTHONHOME": "/launcher", "PIP_USER": "1", "PIP_INDEX_URL": "z"}
    assert list(user_settings(environment).items()) == [
        ("PYTHONPATH", "/x"), ("PYTHONUTF8", "0"), ("HOME", "/nowhere"), ("PIP_USER", "1")]
    assert user_settings({"PYTHONPATH": "/launcher"}) == {}


@pytest.mark.parametrize(("name", "said"), [
    ("PIP_TARGET", "run by hand, would install there. `unset PIP_TARGET` first"),
    ("PIP_PREFIX", "run by hand, would install there. `unset PIP_PREFIX` first"),
    ("PIP_ROOT", "run by hand, would install there. `unset PIP_ROOT` first"),
    ("PIP_PYTHON", "run by hand, would install for that Python. `unset PIP_PYTHON` first"),
    ("PIP_USER", "run by hand, would refuse. `unset PIP_USER` first"),
    ("PIP_DRY_RUN", "run by hand, would install nothing. `unset PIP_DRY_RUN` first"),
    ("PIP_NO_DEPS", "run by hand, would leave out what a package needs. `unset PIP_NO_DEPS` first"),
    ("PYTHONPATH", "`unset PYTHONPATH` before you start the editor"), ("PYTHONHOME", "`unset PYTHONHOME` before"),
    ("HOME", "are kept in .venv/home"), ("PYTHONOPTIMIZE", "turns assertions off"),
    ("PYTHONIOENCODING", "could not be printed"),
    ("PYTHONUTF8", "are UTF-8"), ("PYTHONSAFEPATH", "import from the folder"), ("PYTHONWARNINGS", "warning into an error"),
    ("JUPYTER_PATH", "a kernel named python3 that is found there"),
    ("JUPYTER_PREFER_ENV_PATH", "your own kernels would win")])
def test_each_note_is_about_its_setting(name, said):
    (line,) = notes({name: "/x y"})
    assert line.startswith(f"{name}=/x y is set, and the workshop leaves it aside: ") and said in line and line.endswith(".")


def test_a_note_for_each_setting():
    assert [line.partition("=")[0] for line in notes(dict.fromkeys(NOTES, "1"))] == list(NOTES)
