"""What a child says beside its outputs, made what it should be: a student's Python may have written any of it."""

from dataclasses import dataclass
from typing import Any

from checks.grader.sandbox.client import ChildExited

MOST_NAMES = 100


@dataclass(frozen=True)
class Candidate:
    """A function that may be meant: its name, whether the student's wrapper is around it, which other exercises it uses."""

    function: str
    own_wrapper: bool
    uses: frozenset[str]


def no_result() -> ChildExited:
    return ChildExited("what came back is no result")


def candidates(answer: dict[str, Any]) -> list[Candidate]:
    """Raises ChildExited for what is no list of them."""
    found = answer.get("candidates")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise no_result()
    return [Candidate(str(one.get("function"))[:200], bool(one.get("own_wrapper")), frozenset(names(one, "uses")))
            for one in found]


def cell_errors(greeting: dict[str, Any]) -> list[dict[str, Any]]:
    """What statements of cells raised: the number of the cell, and texts."""
    found = greeting.get("errors")
    return [{"cell": one.get("cell"), "type": str(one.get("type"))[:80], "text": str(one.get("text"))[:2000],
             "line": str(one["line"])[:300] if one.get("line") else None}
            for one in (found if isinstance(found, list) else [])[:MOST_NAMES] if isinstance(one, dict)]


def names(answer: dict[str, Any], key: str) -> list[str]:
    """The names in a list, or a dict by names."""
    found = answer.get(key)
    return [str(name)[:80] for name in list(found)[:MOST_NAMES]] if isinstance(found, list | dict) else []
