"""Bugs planted one at a time in a copy of the repository, to see which of them no test notices.

The bugs are Cosmic Ray's: another operator, another number, a decorator less. Each place in the code that can be changed
gets one of them, drawn at random. On each the tests run that ran the place when nothing was planted, and those of its room.
"""

import ast
import contextlib
import importlib.util
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks.dev.reached import FOLDER, Reached
from checks.paths import ROOT

REQUIREMENT = "cosmic-ray==8.7.0"
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "backups")

SHARED = ["-n", str(min(4, len(os.sched_getaffinity(0))))]  # the processor, among pytest-xdist's processes


class MutationFailed(Exception):
    """No bug can be planted; the message says why."""


@dataclass(frozen=True)
class Sampling:
    """Which bugs to plant: `number` of them, or one in every place (None), drawn with `seed`."""

    number: int | None = None
    seed: int = 0


def mutate(path: Path, tests: list[str], sampling: Sampling = Sampling(), timeout_s: float = 300, root: Path = ROOT) -> int:
    """Plant bugs in `path`, a file or folder below `root`, run tests on each, and print which survive; returns how many did.

    `tests`: pytest's arguments. Left empty, the whole suite runs once, to see which tests run which lines; on a bug, those
    that ran its lines, or all where none did, and those of the folder of `tests/` named as the bug's.

    A bug that keeps the tests busy for more than `timeout_s` counts as noticed. Raises MutationFailed where there is
    nothing to plant, or the tests fail before anything is.
    """
    inside = path.resolve()
    if not inside.exists() or root.resolve() not in inside.parents:
        raise MutationFailed(f"{path} is no file or folder of {root}")
    need_cosmic_ray()
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder, contextlib.ExitStack() as stack:
        copy = Path(folder) / "copy"
        shutil.copytree(root, copy, ignore=LEFT_OUT)
        stack.enter_context(contextlib.chdir(copy))
        bugs = draw(places(inside.relative_to(root.resolve()), Path(folder) / "session.sqlite"), sampling)
        seen = Path(folder) / "seen"
        seen.mkdir()
        expect_pass(pytest_command(tests or [*SHARED, "-p", "checks.dev.reached"], copy), seen)
        reached = Reached(seen, copy)
        commands = [pytest_command(tests or chosen(bug, reached, Path(folder) / f"{number}.txt"), copy)
                    for number, bug in enumerate(bugs)]
        return report(plant(bugs, commands, timeout_s), len(bugs))


def need_cosmic_ray() -> None:
    """Install Cosmic Ray into this environment where it is missing; students have no use for it."""
    if importlib.util.find_spec("cosmic_ray") is None:
        print(f"installing {REQUIREMENT}", flush=True)
        if subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", REQUIREMENT]).returncode:
            raise MutationFailed(f"pip could not install {REQUIREMENT}")
        importlib.invalidate_caches()


def places(path: Path, session: Path) -> list[list[Any]]:
    """For each place that can be changed in the file or folder `path`, the changes: Cosmic Ray's MutationSpecs."""
    from cosmic_ray.commands.init import init
    from cosmic_ray.work_db import use_db

    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    with use_db(session) as work:
        init(files, work, {})
        specs = [spec for item in work.work_items for spec in item.mutations]
    in_annotation = {file: annotated(file.read_text()) for file in files}
    found: dict[tuple, list] = {}
    for spec in specs:
        if not any(first <= spec.start_pos and spec.end_pos <= last for first, last in in_annotation[spec.module_path]):
            found.setdefault((spec.module_path, spec.start_pos, spec.end_pos), []).append(spec)
    if not found:
        raise MutationFailed(f"{path} has nothing to change")
    return [found[place] for place in sorted(found)]


def annotated(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where the annotations of a module begin and end, as (line, column): a wrong one is no bug that a test could find."""
    nodes = ast.walk(ast.parse(source))
    found = [getattr(node, name, None) for node in nodes for name in ("annotation", "returns")]
    return [((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
            for node in found if isinstance(node, ast.expr) and node.end_lineno and node.end_col_offset]


def draw(changes: list[list[Any]], sampling: Sampling) -> list[Any]:
    """One change for each of the places drawn, in their order in the code."""
    rng = random.Random(sampling.seed)
    number = len(changes) if sampling.number is None else min(sampling.number, len(changes))
    return [rng.choice(changes[place]) for place in sorted(rng.sample(range(len(changes)), number))]


def chosen(bug: Any, reached: Reached, listing: Path) -> list[str]:
    """pytest's arguments for the tests that may notice a bug, which it reads from the file `listing`."""
    path = Path(bug.module_path)
    tests = reached.by(path, bug.start_pos[0], bug.end_pos[0])
    rooms = [Path("tests", part) for part in path.parts[:2] if Path("tests", part).is_dir()]
    listing.write_text("\n".join([*map(str, rooms), *tests]))
    return [*SHARED, f"@{listing}"] if tests else SHARED


def pytest_command(tests: list[str], copy: Path) -> str:
    return shlex.join(["env", f"PYTHONPATH={copy}", sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider",
                       *tests])


def expect_pass(command: str, seen: Path) -> None:
    """Run `command`, whose plugin `checks.dev.reached` writes to the folder `seen`, if it is asked for."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", FOLDER: str(seen)}
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise MutationFailed(f"the tests fail before anything is planted:\n{(done.stdout + done.stderr)[-2000:]}")


def plant(bugs: list[Any], commands: list[str], timeout_s: float) -> Iterator[tuple[str, str | None]]:
    """Of each bug where it stands, and its diff if it survives. Raises MutationFailed where Cosmic Ray does."""
    from cosmic_ray.mutating import mutate_and_test
    from cosmic_ray.work_item import TestOutcome

    for bug, command in zip(bugs, commands, strict=True):
        where = f"{bug.module_path}:{bug.start_pos[0]} {bug.definition_name or ''}".rstrip()
        result = mutate_and_test([bug], command, timeout_s)
        if result.test_outcome not in (TestOutcome.KILLED, TestOutcome.SURVIVED):
            raise MutationFailed(f"{where}: {result.output}")
        yield where, result.diff if result.test_outcome == TestOutcome.SURVIVED else None


def report(planted: Iterator[tuple[str, str | None]], count: int) -> int:
    survivors = []
    for number, (where, diff) in enumerate(planted, 1):
        print(f"{number} of {count}: {where}: {'noticed' if diff is None else 'SURVIVED'}", flush=True)
        if diff is not None:
            survivors.append(diff)
    print(*survivors, f"{len(survivors)} of {count} bugs survived", sep="\n\n")
    return len(survivors)
