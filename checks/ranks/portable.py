"""A student's function as bytes for another process: its source, and what it uses of the notebook, by name or by source."""

import ast
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

from checks.judge.source import define, source_of


def pack(function: Callable[..., Any]) -> bytes:
    """The function, and what it uses of its module's globals; what cannot be sent is left out."""
    sources: dict[str, str] = {}
    values: dict[str, bytes] = {}
    _gather(function.__name__, function, sources, values)
    return pickle.dumps((function.__name__, sources, values))


def unpack(data: bytes) -> types.FunctionType:
    """The function that `pack` made bytes of."""
    name, sources, values = pickle.loads(data)
    namespace: dict[str, Any] = {"__name__": "student"}
    for key, value in values.items():
        kind, found = pickle.loads(value)
        namespace[key] = __import__(found, fromlist=["_"]) if kind == "module" else found
    for key, source in sources.items():
        define(source, key, namespace)
    return namespace[name]


def _gather(name: str, function: Any, sources: dict[str, str], values: dict[str, bytes]) -> None:
    sources[name] = source_of(function)
    for used in _names(sources[name]):
        if used in sources or used in values or used not in function.__globals__:
            continue
        value = function.__globals__[used]
        if isinstance(value, types.ModuleType):
            values[used] = pickle.dumps(("module", value.__name__))
        elif isinstance(value, types.FunctionType) and not _importable(value):
            _gather(used, value, sources, values)
        else:
            try:
                values[used] = pickle.dumps(("value", value))
            except Exception:  # nothing that another process could use
                continue


def _importable(function: types.FunctionType) -> bool:
    module = sys.modules.get(function.__module__ or "")
    return (function.__module__ not in (None, "__main__")
            and getattr(module, function.__qualname__, None) is function)


def _names(source: str) -> set[str]:
    """Every name that it reads, in annotations too."""
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
