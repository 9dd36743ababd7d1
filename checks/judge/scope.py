"""What a function's source may use, and how pieces of it are shown: for what may be changed in it."""

import ast
import functools
from collections.abc import Iterator
from typing import TypeAlias

SHOWN = 70  # characters of the student's source
SIGNS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**", ast.Lt: "<",
    ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.BitAnd: "&", ast.BitOr: "|",
    ast.BitXor: "^", ast.And: "and", ast.Or: "or", ast.LShift: "<<", ast.RShift: ">>", ast.MatMult: "@"}
Replaced: TypeAlias = Iterator[tuple[ast.AST, str]]
"""What may take a node's place, and a sentence on it."""


class Scope:
    """The names that a function may use, and those of the answer's operations."""

    def __init__(self, function: ast.FunctionDef, answer: ast.FunctionDef):
        self.arguments = [argument.arg for argument in function.args.args]
        self.kernel = any(name.endswith("_ptr") for name in self.arguments)
        self.locals = sorted({node.id for node in ast.walk(function) if isinstance(node, ast.Name)
                              and isinstance(node.ctx, ast.Store)} - set(self.arguments))
        read = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        self.unused = [name for name in self.locals if name not in read]
        self.called, self.dots = _called(answer), "dot" in _called(function)
        self.tensors = "torch" in ast.unparse(answer)
        self.numbers: list[float] = sorted({node.value for node in ast.walk(answer) if isinstance(node, ast.Constant)
                                            and isinstance(node.value, int | float)})


def _called(function: ast.AST) -> set[str]:
    return {node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id for node in ast.walk(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)}


@functools.lru_cache(maxsize=4096)
def text_of(node: ast.AST) -> str:
    """Its source. Many changes are of one node, and many nodes of a change are the function's own."""
    return ast.unparse(node)


def shown(node: ast.AST) -> str:
    text = text_of(node)
    return text if len(text) < SHOWN else text[:SHOWN - 3] + "..."
