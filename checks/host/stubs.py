"""While cells run only for what they define, `checks` is a package whose names do nothing."""

import contextlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any


class Nothing(types.ModuleType):
    """A module in which any name is a function that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return nothing


def nothing(*args: Any, **kwargs: Any) -> None:
    """What stands for drawing and measuring."""


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, check: Callable[..., None]):
        self.check = check

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.partition(".")[0] == "checks" else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Nothing(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__ == "checks":
            module.check = self.check  # type: ignore[attr-defined]


@contextlib.contextmanager
def checks_that_do_nothing(check: Callable[..., None]) -> Iterator[None]:
    """Inside the block, `import` finds such a `checks`, with this `check` in it."""
    def ours() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] == "checks"]

    held, finder = {name: sys.modules.pop(name) for name in ours()}, _Finder(check)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in ours():
            del sys.modules[name]
        sys.modules.update(held)
