"""Functions as source text: finding answers by name, placeholders in stubs, and building functions from text."""

import ast
import functools
import inspect
import itertools
import linecache
import re
import textwrap
import types
import weakref
from pathlib import Path
from typing import Any, TypeAlias

from triton.runtime import KernelInterface

from checks.executor.source import source_lines
from checks.paths import ROOT

_MARK = re.compile(r"^#[ \t]*(exercise|given):[ \t]*(?:\S+::)?(\w+)[ \t]*$", re.MULTILINE)
Function: TypeAlias = types.FunctionType | KernelInterface
"""What a student writes: a plain function, or a kernel, autotuned or not."""
_serial = itertools.count()


def find_mark(cell: str) -> tuple[str, str] | None:
    """What the mark in a lesson's cell says: ("exercise" or "given", the function's name in `kernels`); None without one.

    Marks once named the function's file too, and students' notebooks may still hold such marks:
    `# exercise: kernels/gemv.py::gemv_fp16_kernel` is read as `# exercise: gemv_fp16_kernel`.
    """
    match = _MARK.search(cell)
    return match and (match[1], match[2])


def by_marks(cell: str) -> list[str]:
    """The cells that were merged into one: it is cut in front of each mark but the first, unless that cuts a statement."""
    starts = [match.start() for match in _MARK.finditer(cell)][1:]
    parts = [cell[start:end] for start, end in itertools.pairwise([0, *starts, len(cell)])]
    return parts if len(parts) == 1 or not _parses(cell) or all(map(_parses, parts)) else [cell]


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


@functools.cache
def _definitions(folder: Path) -> dict[str, list[tuple[Path, str]]]:
    """By name, the file and the source of each function and class at the top level of a module in `folder` or below."""
    found: dict[str, list[tuple[Path, str]]] = {}
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                source = "\n".join(text.split("\n")[first - 1:node.end_lineno]) + "\n"
                found.setdefault(node.name, []).append((path.relative_to(folder.parent), source))
    return found


def _answer(name: str, folder: Path) -> tuple[Path, str]:
    found = _definitions(folder).get(name, [])
    if len(found) > 1:
        raise LookupError(f"{name} is defined more than once in {folder.name}/: in "
                          f"{', '.join(str(path) for path, _ in found)}. Rename all but one")
    if not found:
        raise LookupError(f"there is no function {name} in {folder.name}/")
    return found[0]


def answer_source(name: str, folder: Path = ROOT / "kernels") -> str:
    """The source of the function (or class) `name` of `kernels`, decorators included, read without importing it.

    Raises LookupError when no module of `kernels` defines it, or more than one.
    """
    return _answer(name, folder)[1]


def answer_module(name: str, folder: Path = ROOT / "kernels") -> str:
    """The dotted name of the module that defines `name`, such as "kernels.gemv". Raises as `answer_source`."""
    return ".".join(_answer(name, folder)[0].with_suffix("").parts)


def find_placeholder(source: str) -> ast.stmt | None:
    """The statement that marks what a student has yet to write, or None.

    In a kernel it is `tl.static_assert(False, "TODO ...")`, elsewhere `raise NotImplementedError("TODO ...")`.
    """
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            if ast.unparse(call.func) == "tl.static_assert" and _is_todo(call.args[1:]):
                return node
        elif (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
              and ast.unparse(node.exc.func) == "NotImplementedError" and _is_todo(node.exc.args)):
            return node
    return None


def _is_todo(args: list[ast.expr]) -> bool:
    return bool(args) and isinstance(args[0], ast.Constant) and str(args[0].value).startswith("TODO")


def python_function(function: Function) -> types.FunctionType:
    """The plain Python function under a `@triton.jit` kernel, autotuned or not, or the function itself."""
    plain: Any = function
    while isinstance(plain, KernelInterface):
        plain = plain.fn
    return plain


_sources: weakref.WeakKeyDictionary[types.FunctionType, tuple[types.CodeType, str]] = weakref.WeakKeyDictionary()


def source_of(function: Function) -> str:
    """The dedented source of a function or kernel. Raises OSError where Python does not know it."""
    plain = python_function(function)
    code, source = _sources.get(plain, (None, ""))
    if code is not plain.__code__:  # unless it has got another one, from IPython's autoreload
        source = textwrap.dedent(inspect.getsource(plain))
        _sources[plain] = plain.__code__, source
    return source


def define(source: str, name: str | None, namespace: dict[str, Any]) -> Any:
    """Run `source` in `namespace` and return what it defines as `name`, if a name is given.

    Triton reads a kernel's source back through `inspect`, so the text is kept where `inspect` looks for it.
    """
    filename = f"<{name or 'cell'} {next(_serial)}>"
    linecache.cache[filename] = (len(source), None, source_lines(source), filename)
    exec(compile(source, filename, "exec"), namespace)
    return namespace[name] if name else None


def rebind(function: types.FunctionType, **replacements: Any) -> types.FunctionType:
    """A copy of `function` that finds `replacements` among its globals, such as a student's kernel for ours."""
    copy = types.FunctionType(function.__code__, {**function.__globals__, **replacements}, function.__name__,
                              function.__defaults__, function.__closure__)
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, function.__annotations__
    return copy
