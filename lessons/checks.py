"""A lesson's first line finds this file, whatever Python the notebook runs in, and through it the workshop's `checks`.

In a Python that lacks what the workshop needs, it says which kernel to choose.
"""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("torch", "triton", "numpy", "matplotlib", "rich", "nbformat")


class WrongKernel(ImportError):
    """The notebook runs in a Python without the workshop's packages. Notebooks show the message alone."""

    def _render_traceback_(self):
        return [f"✗ {self}"]


def _check_kernel():
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        made = (ROOT / ".venv" / "bin" / "python").exists()
        raise WrongKernel(
            f"This notebook runs in {sys.executable}, which lacks {', '.join(missing)}.\n"
            + ("" if made else "Run `python3 workshop.py doctor` once, in a terminal: it makes the environment .venv.\n")
            + f"Choose the kernel of {ROOT / '.venv'}. In VS Code: Select Kernel > Python Environments > .venv. In PyCharm: "
            "Add Interpreter > Existing > .venv/bin/python. JupyterLab has it when it is started with "
            "`python3 workshop.py lab`.")


def _become_the_package():
    package = ROOT / "checks"
    spec = importlib.util.spec_from_file_location("checks", package / "__init__.py",
                                                  submodule_search_locations=[str(package)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["checks"] = module
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # for `kernels`
    spec.loader.exec_module(module)


_check_kernel()
_become_the_package()
