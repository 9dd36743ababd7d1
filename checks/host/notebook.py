"""A lesson's notebook, run from top to bottom for what it defines, and what an exercise's function may be in it."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from checks.executor.source import plain_function
from checks.host.cells import run_cells


@dataclass(frozen=True)
class Candidate:
    """What may be meant by an exercise's function: a kernel and, where the student wrote one, the wrapper around it."""

    function: Any
    own_wrapper: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        """The name that it was defined by."""
        return str(getattr(_plain(self.function), "__name__", ""))

    def bound_wrapper(self, name: str) -> Callable[..., Any]:
        """The student's wrapper, called while its global `name` is this candidate's kernel, as when it was checked."""
        wrapper = self.own_wrapper
        assert wrapper is not None

        def call(*args: Any, **kwargs: Any) -> Any:
            names = getattr(wrapper, "__globals__", {})
            before = names.get(name, self.function)
            names[name] = self.function
            try:
                return wrapper(*args, **kwargs)
            finally:
                names[name] = before
        return call

    def used(self, others: Collection[str]) -> set[str]:
        """Those of the names `others` that it uses, itself or through functions that it calls."""
        return _used(self.function, set(others), set()) | _used(self.own_wrapper, set(others), set())


class Notebook:
    """Cells that have run. `setup` are the lesson's own, run before the student's."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.given: dict[str, Any] = {}
        self.checked: dict[str, tuple[Any, dict[str, Any]]] = {}

    def run(self, setup: Sequence[str], cells: Sequence[str], numbers: bool,
            limit: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Run the cells; `numbers` and `limit` as in `run_cells`. `errors` are then those of the student's."""
        run_cells(setup, self.namespace, numbers, limit)
        self.given = dict(self.namespace)
        self.errors = run_cells(cells, self.namespace, numbers, limit)

    def check(self, function: Any = None, *_: Any, **__: Any) -> None:
        """What `check` does meanwhile: remember what it was given, and what names meant then."""
        self.checked[Candidate(function).name] = function, dict(self.namespace)

    def candidates(self, name: str, wrapper: str | None) -> list[Candidate]:
        """What was checked, and what the name means at the end, each with the student's own wrapper too."""
        seen = [self.checked[key][1] | {key: self.checked[key][0]} for key in (name, wrapper) if key in self.checked]
        found: list[Candidate] = []
        for names in [*seen, self.namespace]:
            if name not in names or names[name] is self.given.get(name):
                continue
            found.append(Candidate(names[name]))
            own = names.get(wrapper) if wrapper else None
            if callable(own) and not _same_code(own, self.given.get(str(wrapper))):
                found.append(Candidate(names[name], own))
        return list({(id(one.function), id(one.own_wrapper)): one for one in found}.values())


def _plain(function: Any) -> Any:
    try:
        return plain_function(function)
    except AttributeError:
        return function


def _same_code(mine: Any, given: Any) -> bool:
    a, b = (getattr(function, "__code__", None) for function in (mine, given))
    return a is not None and b is not None and (a.co_code, a.co_consts, a.co_names) == (b.co_code, b.co_consts, b.co_names)


def _used(function: Any, wanted: set[str], seen: set[int]) -> set[str]:
    plain = _plain(function)
    code, names = getattr(plain, "__code__", None), getattr(plain, "__globals__", {})
    if code is None or id(plain) in seen or len(seen) > 100:
        return set()
    seen.add(id(plain))
    called = [names[name] for name in code.co_names if callable(names.get(name)) and name not in wanted]
    return (wanted & set(code.co_names)).union(*(_used(one, wanted, seen) for one in called))
