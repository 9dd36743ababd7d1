"""`workshop.py update`: a new version of the course in a folder with solved lessons, and nothing of the student's is lost.

The new version comes by git, or is a folder: a download, unpacked, or another clone. Lessons that the student has changed
are merged cell by cell; each is kept in backups/ before.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat

from checks.course.merging import merge
from checks.course.notebooks import read, unsolve
from checks.course.reset import back_up
from checks.files import write_atomically
from checks.paths import ROOT

LEFT_ALONE = {".git", ".venv", "backups", "__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".ruff_cache", ".mypy_cache",
              ".hypothesis"}


class Refused(Exception):
    """The folder cannot be updated as it is; the message says why and what to do. Nothing was changed."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="workshop.py update", description="Take a new version of the course, and keep what you wrote in the lessons. "
        "The notebooks that were there are kept in backups/.")
    parser.add_argument("folder", nargs="?", type=Path, help="the new version, unpacked (default: what `git pull` would "
                        "bring)")
    wanted = parser.parse_args(argv)
    try:
        for line in update(ROOT, wanted.folder):
            print(line)
    except Refused as refused:
        print(f"workshop.py update: {refused}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"workshop.py update: {error.filename or ROOT} cannot be written: {error.strerror}. Your notebooks as they "
              "were are in lessons/ or backups/; run the same command again when that is repaired.", file=sys.stderr)
        return 1
    return 0


def update(root: Path, folder: Path | None = None) -> list[str]:
    """Bring the course in `root` to the version in `folder`, or to git's upstream; returns what was done, a line each.

    Raises Refused where the student has changed more than lessons, or has commits of their own.
    """
    if folder is not None:
        if not (folder / "workshop.py").exists() or not (folder / "lessons").is_dir():
            raise Refused(f"{folder} is no copy of the workshop: it needs workshop.py and lessons/")
        if folder.resolve() == root.resolve():
            raise Refused(f"{folder} is this folder itself")
        return _take_over(root, folder, lambda: _copy(folder, root))
    if _git(root, "rev-parse", "--is-inside-work-tree").strip() != "true":
        raise Refused("this folder is no git clone. Download the new version, unpack it beside this folder, and name it: "
                      "`python3 workshop.py update ../the-new-folder`")
    _git(root, "fetch", "--quiet", stop="git cannot reach where this clone came from")
    upstream = _git(root, "rev-parse", "@{upstream}", stop="this clone follows no branch to take a new version from").strip()
    if upstream == _git(root, "rev-parse", "HEAD").strip() or _git(root, "merge-base", "HEAD", upstream).strip() == upstream:
        return ["This is the newest version already."]
    if _git(root, "merge-base", "HEAD", upstream).strip() != _git(root, "rev-parse", "HEAD").strip():
        raise Refused("this clone has commits of its own. Clone the new version beside it, and run "
                      "`python3 workshop.py update ../the-new-folder` here, or merge with git")
    dirty = _git(root, "diff", "--name-only", "HEAD").splitlines()
    others = [name for name in dirty if not (name.startswith("lessons/") and name.endswith(".ipynb"))]
    if others:
        raise Refused(f"you have changed {', '.join(others[:5])}. Undo that (`git stash` keeps it aside), then run this "
                      "again")
    with tempfile.TemporaryDirectory() as place:
        archive = Path(place) / "new.tar"
        _git(root, "archive", f"--output={archive}", upstream)
        shutil.unpack_archive(archive, Path(place) / "new")

        def fast_forward() -> None:
            _git(root, "checkout", "--quiet", "HEAD", "--", "lessons")
            _git(root, "merge", "--quiet", "--ff-only", upstream, stop="git refuses")
        return _take_over(root, Path(place) / "new", fast_forward)


def _take_over(root: Path, new: Path, replace: Callable[[], None]) -> list[str]:
    """Back up and merge the lessons that the student has changed, have `replace` put the new version in place, write them.

    Where `replace` fails, these lessons are as they were, and the solutions that tell what the student changed in them: run
    again, it does the same.
    """
    said, merged, before = list[str](), dict[Path, str](), dict[Path, bytes | None]()
    for path in sorted((root / "lessons").glob("*.ipynb")):
        pristine, fresh = root / "solutions" / path.name, new / "lessons" / path.name
        mine = path.read_bytes()
        if not fresh.exists() or mine == fresh.read_bytes():  # the student's own notebook, or a lesson that is no more
            continue
        old = unsolve(read(pristine)) if pristine.exists() else None
        if old and mine == (nbformat.writes(old) + "\n").encode():
            continue
        before |= {path: mine, pristine: pristine.read_bytes() if old else None}
        kept = f"{path.stem}: yours is kept as backups/{back_up(path.stem, mine, root / 'backups').name}"
        if not old:
            said += [f"{kept}.", "  The course has a lesson of this name now, and it takes its place."]
            continue
        try:
            notebook, conflicts = merge(old, read(path), read(fresh))
        except ValueError as error:
            said += [f"{kept}.", f"  {error}; the new lesson takes its place."]
            continue
        merged[path] = nbformat.writes(notebook) + "\n"
        said += [f"{kept}, and your cells are in the new version.", *(f"  {conflict}." for conflict in conflicts)]
    try:
        replace()
    except BaseException:
        for path, data in before.items():
            if data is None:
                path.unlink(missing_ok=True)
            else:
                write_atomically(path, data)
        raise
    for path, text in merged.items():
        write_atomically(path, text)
    return [*said, "The course is up to date. In JupyterLab, choose File > Reload Notebook from Disk."]


def _copy(folder: Path, root: Path) -> None:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or LEFT_ALONE & set(inside.parts) or inside.parts[0].endswith(".egg-info"):
            continue
        target = root / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes()
        if not target.exists() or target.read_bytes() != data:
            write_atomically(target, data)
            target.chmod(path.stat().st_mode & 0o777)


def _git(root: Path, *arguments: str, stop: str = "") -> str:
    """What git prints; empty where it fails. Raises Refused with `stop` and git's own words where that is given."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise Refused(f"git is not installed here ({error.strerror}). Download the new version, and name its "
                      "folder") from None
    if done.returncode and stop:
        raise Refused(f"{stop}:\n{done.stderr.strip()}")
    return "" if done.returncode else done.stdout
