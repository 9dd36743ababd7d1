"""A kernel as data: the text of its functions and the globals they use, for another process to define them again."""

import ast
import importlib
import inspect
import json
import linecache
import textwrap
import types
from typing import Any

import triton
import triton.language as tl
from triton.runtime import KernelInterface
from triton.runtime.jit import JITCallable

from checks.executor.errors import CompileError

Binding = list[Any]
"""["module", name], ["attribute", module, name], ["constant", value], ["constexpr", value] or ["function", file, name]."""


def plain_function(kernel: Any) -> types.FunctionType:
    """The Python function under `triton.jit`, `autotune` and `heuristics`, or the function itself."""
    while not isinstance(kernel, types.FunctionType):
        kernel = kernel.fn
    return kernel


def describe(kernel: Any) -> str:
    """The kernel and all it uses, as JSON, for `define`.

    Each function keeps its place in its file, so that lines are those its author sees. Raises CompileError for a global
    that cannot be written down, such as a tensor, and where the source is not known.
    """
    files: dict[str, dict[str, Any]] = {}
    function = plain_function(kernel)
    _describe_function(function, files)
    return json.dumps({"files": files, "file": function.__code__.co_filename, "name": function.__name__}, sort_keys=True)


def _describe_function(function: types.FunctionType, files: dict[str, dict[str, Any]]) -> None:
    path, name = function.__code__.co_filename, function.__name__
    file = files.setdefault(path, {"functions": {}, "names": {}})
    try:
        lines, first = inspect.getsourcelines(function)
    except OSError:
        raise CompileError(f"Python does not know the source of `{name}`") from None
    text = textwrap.dedent("".join(lines))
    definition = ast.parse(text).body[0]
    assert isinstance(definition, ast.FunctionDef)
    skipped = definition.lineno - 1  # decorators: the function is defined again as a kernel and nothing else
    file["functions"][name] = [first + skipped, "".join(text.splitlines(keepends=True)[skipped:]), _noinline(function)]
    reachable = function.__globals__ | dict(inspect.getclosurevars(function).nonlocals)
    used = {node.id for node in ast.walk(definition) if isinstance(node, ast.Name)}
    for used_name in sorted(used & set(reachable) - {name}):
        binding = _bind(used_name, reachable[used_name], name, files)
        if file["names"].setdefault(used_name, binding) != binding:
            raise CompileError(f"two functions of {path} mean different things by `{used_name}`")


def _noinline(function: types.FunctionType) -> bool:
    decorated = function.__globals__.get(function.__name__)
    return bool(getattr(decorated, "noinline", False) or getattr(decorated, "kwargs", {}).get("noinline", False))


def _bind(name: str, value: Any, user: str, files: dict[str, dict[str, Any]]) -> Binding:
    if isinstance(value, types.ModuleType):
        return ["module", value.__name__]
    if isinstance(value, tl.constexpr):
        value, kind = value.value, "constexpr"
    else:
        kind = "constant"
    if value is None or isinstance(value, bool | int | float | str):
        return [kind, value]
    module = getattr(value, "__module__", None) or ""
    if isinstance(value, tl.dtype) or module.split(".")[0] in ("triton", "builtins"):
        return ["attribute", "triton.language" if isinstance(value, tl.dtype) else module, getattr(value, "__name__", name)]
    if isinstance(value, KernelInterface | JITCallable | types.FunctionType) or hasattr(value, "fn"):
        function = plain_function(value)
        path = function.__code__.co_filename
        if function.__name__ not in files.get(path, {"functions": {}})["functions"]:
            _describe_function(function, files)
        return ["function", path, function.__name__]
    raise CompileError(f"`{user}` uses the global `{name}`, a {type(value).__name__}: a kernel may only use its arguments, "
                       "constants and other kernels")


def define(description: str) -> Any:
    """The `triton.jit` function of a description. Its file need not exist: Triton reads sources through `linecache`."""
    described = json.loads(description)
    namespaces: dict[str, dict[str, Any]] = {path: {"__name__": "kernel"} for path in described["files"]}
    for path, file in described["files"].items():
        lines: list[str] = []
        for first, text, _ in sorted(file["functions"].values()):
            lines += ["\n"] * (first - 1 - len(lines)) + text.splitlines(keepends=True)
        linecache.cache[path] = (sum(map(len, lines)), None, lines, path)
        for name, (kind, *value) in file["names"].items():
            if kind == "module":
                namespaces[path][name] = importlib.import_module(value[0])
            elif kind == "attribute":
                namespaces[path][name] = getattr(importlib.import_module(value[0]), value[1])
            elif kind != "function":
                namespaces[path][name] = tl.constexpr(value[0]) if kind == "constexpr" else value[0]
    for path, file in described["files"].items():
        for name, (first, text, noinline) in file["functions"].items():
            exec(compile("\n" * (first - 1) + text, path, "exec"), namespaces[path])
            namespaces[path][name] = triton.jit(namespaces[path][name], noinline=noinline)
    for path, file in described["files"].items():
        for name, (kind, *value) in file["names"].items():
            if kind == "function":
                namespaces[path][name] = namespaces[value[0]][value[1]]
    return namespaces[described["file"]][described["name"]]
