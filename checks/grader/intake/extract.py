"""From source text, without running it: which statements define a function and all that it needs by name."""

import ast
import re
import symtable
from collections.abc import Iterable
from dataclasses import dataclass, field

_SHELL = re.compile(r"^\s*[%!?].*$", re.MULTILINE)
_COMPOUND = ast.If | ast.Try | ast.With | ast.For | ast.While
_DEFINES = ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Statement:
    """One top-level statement that binds names."""

    source: str  # its lines, decorators included
    binds: frozenset[str]
    needs: frozenset[str]
    place: tuple[int, int] = (0, 0)  # its cell, its first line there
    function: bool = field(default=False, compare=False)


def parse(source: str) -> tuple[ast.Module, str]:
    """The tree of a cell and the text it was made from: a notebook's shell lines and magics are blanked out.

    Raises SyntaxError.
    """
    try:
        return ast.parse(source), source
    except SyntaxError:
        plain = _SHELL.sub("", source)
        if plain == source:
            raise
        return ast.parse(plain), plain
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; nesting beyond the parser's stack
        raise SyntaxError(f"it cannot be parsed: {str(error) or type(error).__name__}") from None


def statements(source: str, cell: int = 0) -> list[Statement]:
    """The top-level statements of a cell that bind names. Raises SyntaxError."""
    tree, text = parse(source)
    lines = text.split("\n")
    found = []
    for node in tree.body:
        if isinstance(node, ast.Expr | ast.Delete | ast.Assert | ast.Global | ast.Pass):
            continue
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        found.append(Statement("\n".join(lines[first - 1:node.end_lineno]), frozenset(_bound(node)),
                               frozenset(_needed(node)), (cell, first), isinstance(node, ast.FunctionDef)))
    return found


def imports(source: str) -> list[str]:
    """The lines of each `from … import …` at the top level. Raises SyntaxError."""
    tree, text = parse(source)
    lines = text.split("\n")
    return ["\n".join(lines[node.lineno - 1:node.end_lineno]) for node in tree.body if isinstance(node, ast.ImportFrom)]


def _bound(node: ast.stmt) -> Iterable[str]:
    if isinstance(node, _DEFINES):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(node, _COMPOUND):
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.stmt | ast.ExceptHandler):
                yield from _bound(part) if isinstance(part, ast.stmt) else (n for s in part.body for n in _bound(s))
        yield from (part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
    else:
        yield from (part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))


def _needed(node: ast.stmt) -> Iterable[str]:
    """The global names that a statement reads, locals of functions left out."""
    tables = [symtable.symtable(ast.unparse(node), "cell", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
                yield symbol.get_name()


def needed_for(names: Iterable[str], available: list[Statement]) -> list[Statement]:
    """The statements that define `names` and, transitively, what those need; in their order."""
    wanted, chosen = list(names), set()
    seen = set(wanted)
    while wanted:
        name = wanted.pop()
        for index, statement in enumerate(available):
            if name in statement.binds and index not in chosen:
                chosen.add(index)
                new = (statement.needs | statement.binds if not statement.function else statement.needs) - seen
                seen |= new
                wanted += new
    return [available[index] for index in sorted(chosen)]


def text(chosen: list[Statement]) -> str:
    return "\n".join(dict.fromkeys(statement.source for statement in chosen)) + "\n"


def function_in(source: str, name: str) -> bool:
    """Whether `source` defines a function called `name` at its top level."""
    try:
        return any(isinstance(node, ast.FunctionDef) and node.name == name for node in parse(source)[0].body)
    except SyntaxError:
        return False


def normal_form(source: str) -> str:
    """The source without comments, docstrings and layout, for telling whether two texts are the same code."""
    try:
        tree = parse(source)[0]
    except SyntaxError:
        return re.sub(r"\s+", " ", source).strip()
    for node in ast.walk(tree):
        if not isinstance(node, _DEFINES):
            continue
        if isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
