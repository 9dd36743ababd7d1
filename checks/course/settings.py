"""The user's settings that could lead Python, pip or Jupyter out of `.venv`: which are set, and what becomes of them.

`workshop.py` sets them aside; an editor that starts notebooks by itself, or pip run by hand, does not.
"""

import json
import os
from collections.abc import Mapping

PIP = "so `.venv/bin/python -m pip install`, run by hand, would {does}. `unset {name}` first"
EDITOR = "An editor that starts Jupyter by itself may take it: choose the Python of .venv as the kernel"
NOTES = {
    "PYTHONPATH": "an editor that starts notebooks by itself finds packages there first, but not in place of `checks` or "
                  "`kernels`. If one of them is torch, numpy or Jupyter, `unset PYTHONPATH` before you start the editor",
    "PYTHONHOME": "it names the library of another Python. `unset PYTHONHOME` before you start an editor",
    "PYTHONIOENCODING": "signs such as ✓ could not be printed in it",
    "PYTHONUTF8": "files and messages of the workshop are UTF-8",
    "PYTHONSAFEPATH": "the tests import from the folder that they are in",
    "PYTHONOPTIMIZE": "it turns assertions off, with which lessons and tests check",
    "PYTHONWARNINGS": "it may turn a library's warning into an error",
    "HOME": "it cannot be written: settings of Jupyter and compiled kernels are kept in .venv/home",
    "JUPYTER_PATH": "a kernel named python3 that is found there would run the lessons in another Python. " + EDITOR,
    "JUPYTER_PREFER_ENV_PATH": "your own kernels would win over the one in .venv. " + EDITOR,
    "PIP_TARGET": PIP.format(name="PIP_TARGET", does="install there"),
    "PIP_PREFIX": PIP.format(name="PIP_PREFIX", does="install there"),
    "PIP_ROOT": PIP.format(name="PIP_ROOT", does="install there"),
    "PIP_PYTHON": PIP.format(name="PIP_PYTHON", does="install for that Python"),
    "PIP_USER": PIP.format(name="PIP_USER", does="refuse"),
    "PIP_DRY_RUN": PIP.format(name="PIP_DRY_RUN", does="install nothing"),
    "PIP_NO_DEPS": PIP.format(name="PIP_NO_DEPS", does="leave out what a package needs"),
}
OFF = ("", "0", "false", "no", "off")


def user_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of `NOTES` as the user has set them, before the launcher changed any."""
    found = json.loads(environment.get("WORKSHOP_FOUND", "{}"))
    found.update({name: value for name, value in environment.items() if name.startswith("PIP_") and name in NOTES
                  and value.lower() not in OFF})
    return {name: found[name] for name in NOTES if name in found}


def notes(settings: Mapping[str, str]) -> list[str]:
    """A line for each setting: its value, what the workshop does about it, and when it matters nevertheless."""
    return [f"{name}={value} is set, and the workshop leaves it aside: {NOTES[name]}." for name, value in settings.items()]
