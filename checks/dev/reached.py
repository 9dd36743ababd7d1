"""Which test runs which line: a pytest plugin that has coverage.py record it, and the tests of a line by what it recorded.

    WORKSHOP_REACHED=folder pytest -p checks.dev.reached

What a test runs in other processes is not seen, nor what runs at import.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

FOLDER = "WORKSHOP_REACHED"
"""The variable that names the folder to record into, where each of pytest-xdist's processes writes a file of its own."""

_coverage = pytest.StashKey[coverage.Coverage]()


def pytest_configure(config: pytest.Config) -> None:
    folder, root = Path(os.environ[FOLDER]).resolve(), config.rootpath
    config.stash[_coverage] = coverage.Coverage(
        data_file=str(folder / "reached"), data_suffix=True, config_file=False, source=[str(root)],
        omit=[str(root / "tests" / "*"), "*/.venv/*"])
    config.stash[_coverage].start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    item.config.stash[_coverage].switch_context(item.nodeid)
    return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_coverage].stop()
    config.stash[_coverage].save()


class Reached:
    """The tests, as pytest names them, that ran a line of the code below the folder `root`, by what is in `folder`."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.tests: dict[tuple[Path, int], set[str]] = defaultdict(set)
        for path in folder.glob("reached.*"):
            data = coverage.CoverageData(str(path))
            data.read()
            for file in data.measured_files():
                for line, tests in data.contexts_by_lineno(file).items():
                    self.tests[Path(file).relative_to(root.resolve()), line] |= set(tests) - {""}

    def by(self, file: Path, first: int, last: int) -> list[str]:
        """The tests that ran a line from `first` to `last` of `file`, a path from the root."""
        return sorted(set().union(*(self.tests.get((file, line), ()) for line in range(first, last + 1))))
