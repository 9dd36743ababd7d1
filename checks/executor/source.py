"""A kernel as data: the text of its functions and the globals they use, for another process to define them again."""

import ast
import contextlib
import functools
import importlib
import inspect
import json
import linecache
import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Any

import triton
import triton.language as tl
from triton.runtime import KernelInterface
from triton.runtime.jit import JITCallable

from checks.executor.errors import CompileError

Binding = list[Any]
"""["module", name], ["attribute", module, name], ["constant", value], ["constexpr", value], ["dtype", name] or
["function", file, name]."""


def source_lines(text: str) -> list[str]:
    """The lines of a source as Python counts them, with their ends: `str.splitlines` also splits at form feeds."""
    return [line + "\n" for line in text.split("\n")[:-1]] + [line for line in text.split("\n")[-1:] if line]


def plain_function(kernel: Any) -> types.FunctionType:
    """The Python function under `triton.jit`, `autotune` and `heuristics`, or the function itself."""
    while not isinstance(kernel, types.FunctionType):
        kernel = kernel.fn
    return kernel


def describe(kernel: Any, placed: bool = True) -> str:
    """The kernel and all it uses, as JSON, for `define`.

    Each function keeps its place in its file, so that lines are those its author sees; not `placed`, the description of a
    kernel is the same wherever it stands. Raises CompileError for a global that cannot be written down, such as a tensor,
    and where the source is not known.
    """
    files: dict[str, dict[str, Any]] = {}
    function = plain_function(kernel)
    _describe_function(function, files)
    names = {path: path if placed else f"<kernel {number}>" for number, path in enumerate(files)}
    described = files if placed else {names[path]: _without_place(file, names) for path, file in files.items()}
    return json.dumps({"files": described, "file": names[function.__code__.co_filename], "name": function.__name__},
                      sort_keys=True)


def _without_place(file: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The part of a description for one file, from its first function on, with these names for files."""
    before = min(first for first, _, _ in file["functions"].values()) - 1
    return {"functions": {name: [first - before, text, noinline]
                          for name, (first, text, noinline) in file["functions"].items()},
            "names": {name: [kind, names[value[0]], value[1]] if kind == "function" else [kind, *value]
                      for name, (kind, *value) in file["names"].items()}}


def _describe_function(function: types.FunctionType, files: dict[str, dict[str, Any]]) -> None:
    path, name = function.__code__.co_filename, function.__name__
    file = files.setdefault(path, {"functions": {}, "names": {}})
    first, text, used = _definition(function)
    file["functions"][name] = [first, text, _noinline(function)]
    reachable = function.__globals__ | dict(inspect.getclosurevars(function).nonlocals)
    for used_name in sorted(used & set(reachable) - {name}):
        binding = _bind(used_name, reachable[used_name], name, files)
        if file["names"].setdefault(used_name, binding) != binding:
            raise CompileError(f"two functions of {path} mean different things by `{used_name}`")


@functools.lru_cache(maxsize=1024)
def _definition(function: types.FunctionType) -> tuple[int, str, frozenset[str]]:
    """Its first line, its text from there on and the names in it that are not its own, without decorators: it is defined
    again as a kernel."""
    try:
        lines, first = inspect.getsourcelines(function)
    except OSError:
        raise CompileError(f"Python does not know the source of `{function.__name__}`") from None
    text = textwrap.dedent("".join(lines))
    definition = ast.parse(text).body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise CompileError(f"`{function.__name__}` is not defined by `def`")
    definition.decorator_list = []
    skipped = definition.lineno - 1
    names = [node for node in ast.walk(definition) if isinstance(node, ast.Name)]
    stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}  # those of comprehensions too
    own = {*function.__code__.co_varnames, *stored}
    used = frozenset(node.id for node in names) - own
    return first + skipped, "".join(source_lines(text)[skipped:]), used


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
    if isinstance(value, tl.dtype):
        return ["dtype", value.name]
    if isinstance(value, KernelInterface | JITCallable | types.FunctionType):
        function = plain_function(value)
        if not _is_known(function.__module__):
            path = function.__code__.co_filename
            if function.__name__ not in files.get(path, {"functions": {}})["functions"]:
                _describe_function(function, files)
            return ["function", path, function.__name__]
        value = function
    if _is_known(getattr(value, "__module__", None)):
        return ["attribute", value.__module__, getattr(value, "__name__", name)]
    raise CompileError(f"`{user}` uses the global `{name}`, a {type(value).__name__}: a kernel may only use its arguments, "
                       "constants and other kernels")


def _is_known(module: str | None) -> bool:
    """Whether what is in this module is found there by the other process too."""
    return (module or "").partition(".")[0] in ("triton", "builtins", "math")


def texts(description: str) -> list[str]:
    """The functions of a description, each from its `def` on."""
    return [text for file in json.loads(description)["files"].values() for _, text, _ in file["functions"].values()]


def define(description: str) -> Any:
    """The `triton.jit` function of a description. Its files need not exist: Triton reads sources through `linecache`."""
    described = json.loads(description)
    namespaces = {path: _names(file) for path, file in described["files"].items()}
    with _lines_known(described["files"]):
        for path, file in described["files"].items():
            for name, (first, text, noinline) in file["functions"].items():
                _expect_plain_definition(ast.parse(text).body)
                exec(compile("\n" * (first - 1) + text, path, "exec"), namespaces[path])
                namespaces[path][name] = triton.jit(namespaces[path][name], noinline=noinline)
    for path, file in described["files"].items():
        for name, (kind, *value) in file["names"].items():
            if kind == "function":
                namespaces[path][name] = namespaces[value[0]][value[1]]
    return namespaces[described["file"]][described["name"]]


def _names(file: dict[str, Any]) -> dict[str, Any]:
    """What the names in a file stand for, functions apart."""
    found: dict[str, Any] = {"__name__": "kernel"}
    for name, (kind, *value) in file["names"].items():
        if kind == "module":
            found[name] = importlib.import_module(value[0])
        elif kind == "attribute":
            found[name] = getattr(importlib.import_module(value[0]), value[1])
        elif kind == "dtype":
            found[name] = tl.dtype(value[0])
        elif kind != "function":
            found[name] = tl.constexpr(value[0]) if kind == "constexpr" else value[0]
    return found


@contextlib.contextmanager
def _lines_known(files: Mapping[str, Any]) -> Iterator[None]:
    """Inside the block `linecache` knows the functions' lines; afterwards what it knew of such files, which may exist."""
    before = {path: linecache.cache.pop(path, None) for path in files}
    for path, file in files.items():
        lines: list[str] = []
        for first, text, _ in sorted(file["functions"].values()):
            lines += ["\n"] * (first - 1 - len(lines)) + source_lines(text)
        linecache.cache[path] = (sum(map(len, lines)), None, lines, path)
    try:
        yield
    finally:
        for path, entry in before.items():
            linecache.cache.pop(path)
            if entry is not None:
                linecache.cache[path] = entry


def _expect_plain_definition(statements: list[ast.stmt]) -> None:
    """Raises CompileError for what is more than a `def`, or one that runs more than names and constants when executed."""
    definition = statements[0]
    if len(statements) > 1 or not isinstance(definition, ast.FunctionDef):
        raise CompileError("a kernel is one function, defined by `def`")
    of, plain = definition.args, (ast.Name, ast.Attribute, ast.Constant, ast.UnaryOp, ast.Load, ast.USub)
    arguments = [*of.posonlyargs, *of.args, *of.kwonlyargs, *filter(None, [of.vararg, of.kwarg])]
    parts = [argument.annotation for argument in arguments] + [definition.returns, *of.defaults, *of.kw_defaults]
    if definition.decorator_list or not all(isinstance(node, plain) for part in parts if part for node in ast.walk(part)):
        raise CompileError(f"the annotations and defaults of `{definition.name}` must be names or constants")
