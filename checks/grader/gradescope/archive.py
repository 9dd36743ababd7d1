"""The zip that Gradescope runs: two scripts, and the workshop without what grading does not need."""

import json
import zipfile
from dataclasses import asdict
from pathlib import Path

from checks.files import replacing
from checks.grader.settings import Settings
from checks.paths import ROOT

HERE = Path(__file__).parent
SCRIPTS = ("setup.sh", "run_autograder")
SETTINGS = "autograder.json"
TIME = (2026, 1, 1, 0, 0, 0)  # of every member, so that the same workshop gives the same bytes


def write_zip(path: Path, settings: Settings) -> Path:
    """Write the autograder for these settings to `path`; every submission will have the same seed."""
    kept = {name: value for name, value in asdict(settings).items() if name not in ("course", "gpus")}
    with replacing(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in SCRIPTS:
            _add(archive, name, (HERE / name).read_bytes(), 0o755)
        for file in workshop_files():
            _add(archive, f"workshop/{file.relative_to(ROOT)}", file.read_bytes())
        _add(archive, "workshop/course.toml", settings.course.read_bytes())
        _add(archive, f"workshop/{SETTINGS}", json.dumps(kept, indent=1).encode())
    return path


def workshop_files() -> list[Path]:
    """What grading needs of the workshop."""
    names = [ROOT / name for name in ("workshop.py", "requirements.txt", "pyproject.toml", "LICENSE")]
    code = [path for folder in ("kernels", "checks") for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")]
    return [*names, *sorted(code), *sorted((ROOT / "lessons").glob("*.ipynb"))]


def _add(archive: zipfile.ZipFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = zipfile.ZipInfo(name, TIME)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)
