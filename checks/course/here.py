"""`workshop.py here`: makes the Python that runs it ready for the lessons, where an environment of its own is not wanted.

For conda, uv, JupyterHub, Colab and Kaggle. It installs what is missing, in the pinned versions, and leaves what is there as
it is. Started by its path, before anything is installed: it imports the standard library alone.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOSTED = ("jupyterlab", "ipykernel")  # a hosted notebook brings its own


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036
        print("workshop: this is Python {}.{}, and the workshop needs 3.11 or newer.".format(*sys.version_info[:2]))
        return 1
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    missing = to_install(requirements, installed, hosted=is_hosted())
    if missing and subprocess.run([*installer(), *missing]).returncode:
        print(f"workshop: {sys.executable} could not install {', '.join(missing)}: see above.")
        return 1
    print(f"workshop: {sys.executable} is ready. Open a lesson in the folder lessons/ with it as the kernel: "
          + ("restart the session if you are asked to." if is_hosted() else f"{sys.executable} -m jupyterlab lessons/"))
    for line in other_versions(requirements):
        print("workshop: " + line)
    return 0


def pins(requirements: str) -> list[tuple[str, str]]:
    """(name, version) of what the lessons need: all above the tests' part."""
    return re.findall(r"^([\w.-]+)==(\S+)", requirements.partition("# the tests")[0], re.MULTILINE)


def to_install(requirements: str, version_of: Callable[[str], str | None], hosted: bool) -> list[str]:
    """The pins of packages that are not there, in any version."""
    return [f"{name}=={version}" for name, version in pins(requirements)
            if version_of(name) is None and not (hosted and name in HOSTED)]


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def other_versions(requirements: str) -> Iterable[str]:
    for name, version in pins(requirements):
        found = installed(name)
        if name in ("torch", "triton", "numpy") and found and found.split("+")[0] != version:
            yield f"{name} is {found} here; the workshop was tested with {version}."


def is_hosted() -> bool:
    """Whether this is Colab or Kaggle."""
    return "COLAB_RELEASE_TAG" in os.environ or "KAGGLE_KERNEL_RUN_TYPE" in os.environ


def installer() -> list[str]:
    """pip of this Python; uv where there is none, as in an environment that uv has made."""
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return ["uv", "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


if __name__ == "__main__":
    sys.exit(main())
