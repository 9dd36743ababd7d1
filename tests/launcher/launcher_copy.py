"""Copies of workshop.py in temporary folders, for test_launcher.py and test_launcher_messages.py."""

import importlib.util
import shutil
from pathlib import Path

LAUNCHER = Path(__file__).resolve().parents[2] / "workshop.py"

# Stands for pytest, JupyterLab and `python -m checks`: says how it was started.
PROGRAM = """
import json, os, sys
print(json.dumps({"program": __spec__.name, "arguments": sys.argv[1:], "folder": os.getcwd(), "prefix": sys.prefix,
                  "venv": os.environ["VIRTUAL_ENV"], "path": os.environ["PATH"].split(":")[0]}))
sys.exit(int(os.environ.get("EXIT", 0)))
"""
DOCTOR = "def gather():\n    return 'made-up machine'\ndef summary(machine):\n    return 'this is a ' + machine\n"


def new_copy(root, requirements):
    (root / "checks" / "course").mkdir(parents=True)
    (root / "lessons").mkdir()
    shutil.copy(LAUNCHER, root / "workshop.py")
    (root / "requirements.txt").write_text(requirements)
    (root / "pyproject.toml").write_text("")
    for program in ("pytest.py", "jupyterlab.py", "checks/__main__.py"):
        (root / program).write_text(PROGRAM)
    for package in ("checks", "checks/course"):
        (root / package / "__init__.py").write_text("")
    (root / "checks/course/doctor.py").write_text(DOCTOR)
    for lesson in ("02_more.ipynb", "01_gemv.ipynb"):
        (root / "lessons" / lesson).write_text("{}")
    return root


def load(root):
    spec = importlib.util.spec_from_file_location("workshop_copy", root / "workshop.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
