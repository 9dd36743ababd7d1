"""The answer with one thing in it changed, as students change it: an operator, a factor, a name, a term left out.

Where none of an exercise's own mutants does what a student's function did, one of these may, and its sentence says how.
"""

import ast
import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from checks.judge.exercise import Exercise
from checks.judge.source import Function, answer_source, define

_OPERATORS: dict[type, tuple[Any, ...]] = {
    ast.Add: (ast.Sub, ast.Mult), ast.Sub: (ast.Add,), ast.Mult: (ast.Div, ast.Add), ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Div, ast.Mod), ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.BitAnd: (ast.BitOr,)}
_SIGNS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**", ast.Lt: "<",
    ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.BitAnd: "&", ast.BitOr: "|"}
_CALLS = {
    "max": ("min", "sum", "mean"), "min": ("max", "sum"), "sum": ("max", "mean", "prod"), "mean": ("sum", "median", "amax"),
    "amax": ("amin", "mean", "sum"), "median": ("mean",), "any": ("all",), "all": ("any",), "ceil": ("floor", "round"),
    "floor": ("ceil", "round"), "round": ("floor", "ceil", "trunc"), "log10": ("log", "log2"), "log2": ("log", "log10"),
    "log": ("log10", "log2"), "double": ("float", "half"), "float": ("half", "bfloat16"), "square": ("abs",),
    "exp": ("exp2",), "log_softmax": ("softmax",)}
_DROPPED = ("abs", "float", "double", "round", "clamp", "square", "sqrt", "sum", "mean", "unique")
_FACTORS = ((2, "twice"), (0.5, "half"), (4, "4 times"), (8, "8 times"), (1000, "1,000 times"))
Changes = Iterator[tuple[ast.AST, str]]


@dataclass(frozen=True)
class Variation:
    source: str
    sentence: str  # goes on "It comes out as if ..."


@functools.cache
def variations_of(name: str) -> list[Variation]:
    """Those of the answer to the exercise `name`."""
    return list(variations(answer_source(name)))


def varied(exercise: Exercise, variation: Variation) -> Function:
    function: Function = define(variation.source, exercise.name, dict(vars(exercise.module)))
    return function


def variations(source: str) -> Iterator[Variation]:
    """Every variation of a function's source."""
    tree = ast.parse(source)
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    if ast.get_docstring(function):
        function.body = function.body[1:]
    arguments = [argument.arg for argument in function.args.args]
    seen = {ast.unparse(tree)}
    for node in [node for statement in function.body for node in ast.walk(statement)]:
        for kind, changes in _CHANGES.items():
            for new, sentence in changes(node, arguments) if isinstance(node, kind) else ():
                changed = ast.fix_missing_locations(_Replace(node, new).visit(copy.deepcopy(tree, {id(node): node})))
                text = ast.unparse(changed) + "\n"
                if text not in seen:
                    seen.add(text)
                    yield Variation(text, sentence)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return copy.deepcopy(self.new) if node is self.old else self.generic_visit(node)


def _text(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) < 60 else text[:57] + "..."


def _of_arithmetic(node: ast.BinOp, arguments: list[str]) -> Changes:
    left, op, right = node.left, node.op, node.right
    if isinstance(op, ast.Mult | ast.Div):
        for factor, word in _FACTORS:
            yield ast.BinOp(ast.Constant(factor), ast.Mult(), node), f"`{_text(node)}` were {word} what it should be"
    if isinstance(op, ast.Add | ast.Sub):
        yield left, f"`{_text(right)}` were left out"
    if isinstance(op, ast.Add):
        yield right, f"`{_text(left)}` were left out"
        for part in (left, right):
            yield ast.BinOp(node, ast.Add(), part), f"`{_text(part)}` were counted twice"
    if isinstance(op, ast.Mult):
        for part, other in ((left, right), (right, left)):
            yield other, f"the factor `{_text(part)}` were left out"
            yield ast.BinOp(node, op, part), f"the factor `{_text(part)}` were there twice"
    if isinstance(op, ast.Div | ast.FloorDiv):
        yield left, f"`{_text(left)}` were not divided by `{_text(right)}`"
        yield ast.BinOp(node, op, right), f"`{_text(left)}` were divided by `{_text(right)}` twice"
        yield ast.BinOp(right, op, left), f"`{_text(node)}` were inverted"
    if isinstance(op, ast.FloorDiv):
        up = ast.UnaryOp(ast.USub(), ast.BinOp(ast.UnaryOp(ast.USub(), left), op, right))
        yield up, f"`{_text(node)}` were rounded up"
    if isinstance(op, ast.Sub | ast.Mod):
        yield ast.BinOp(right, op, left), f"the two sides of `{_text(node)}` were swapped"
    for other_op in _OPERATORS.get(type(op), ()):
        yield (ast.BinOp(left, other_op(), right),
               f"`{_SIGNS[other_op]}` stood where `{_SIGNS[type(op)]}` belongs, in `{_text(node)}`")


def _of_comparison(node: ast.Compare, arguments: list[str]) -> Changes:
    if len(node.ops) == 1:
        for other in _OPERATORS.get(type(node.ops[0]), ()):
            yield (ast.Compare(node.left, [other()], node.comparators),
                   f"`{_SIGNS[other]}` stood where `{_SIGNS[type(node.ops[0])]}` belongs, in `{_text(node)}`")


def _of_condition(node: ast.BoolOp, arguments: list[str]) -> Changes:
    for value in node.values:
        yield value, f"only `{_text(value)}` were asked"


def _of_sign(node: ast.UnaryOp, arguments: list[str]) -> Changes:
    yield node.operand, f"`{_text(node)}` had lost its sign"


def _of_number(node: ast.Constant, arguments: list[str]) -> Changes:
    value: Any = node.value
    if type(value) in (int, float):
        for other in (1, 2, 4, 8, 0, 10, 20, 127, 128, 255, 256, value + 1, value - 1, value * 1000, value / 1000):
            if f"{other:g}" != f"{value:g}" and (other == int(other) or type(value) is float):
                yield ast.Constant(type(value)(other)), f"{other:g} stood where {value:g} belongs"


def _of_name(node: ast.Name, arguments: list[str]) -> Changes:
    for other in arguments if node.id in arguments else ():
        if other != node.id:
            yield ast.Name(other, ast.Load()), f"`{other}` stood where `{node.id}` belongs"


def _of_call(node: ast.Call, arguments: list[str]) -> Changes:
    function, given = node.func, node.args
    if isinstance(function, ast.Attribute):
        module = isinstance(function.value, ast.Name) and function.value.id in ("math", "torch", "tl", "statistics")
        for other in _CALLS.get(function.attr, ()):
            yield (ast.Call(ast.Attribute(function.value, other, ast.Load()), given, node.keywords),
                   f"`{other}` stood where `{function.attr}` belongs")
        if function.attr in _DROPPED and not module:
            yield function.value, f"`.{function.attr}` were left out, in `{_text(node)}`"
        if module and len(given) == 1:
            yield given[0], f"`{function.attr}` were left out"
    elif isinstance(function, ast.Name) and function.id in ("max", "min", "sum", "round", "abs", "len"):
        for other in (name for name in _CALLS.get(function.id, ()) if name in ("max", "min", "sum")):
            yield ast.Call(ast.Name(other, ast.Load()), given, []), f"`{other}` stood where `{function.id}` belongs"
        if function.id in ("max", "min") and len(given) > 1:
            yield (functools.reduce(lambda a, b: ast.BinOp(a, ast.Add(), b), given),
                   f"the parts of `{_text(node)}` were added up")
            for part in given:
                yield part, f"`{_text(part)}` were taken alone, without the `{function.id}`"


def _of_attribute(node: ast.Attribute, arguments: list[str]) -> Changes:
    if node.attr == "T":
        yield node.value, f"`{_text(node.value)}` were not transposed"


def _of_part(node: ast.Subscript, arguments: list[str]) -> Changes:
    yield node.value, f"`{_text(node.value)}` stood where `{_text(node)}` belongs"


def _of_axis(node: ast.keyword, arguments: list[str]) -> Changes:
    if node.arg in ("dim", "axis") and isinstance(node.value, ast.Constant) and node.value.value in (0, 1):
        other = 1 - node.value.value
        yield ast.keyword(node.arg, ast.Constant(other)), f"`{node.arg}={other}` stood where `{ast.unparse(node)}` belongs"


_CHANGES: dict[type, Callable[[Any, list[str]], Changes]] = {
    ast.BinOp: _of_arithmetic, ast.Compare: _of_comparison, ast.BoolOp: _of_condition, ast.UnaryOp: _of_sign,
    ast.Constant: _of_number, ast.Name: _of_name, ast.Call: _of_call, ast.Attribute: _of_attribute,
    ast.Subscript: _of_part, ast.keyword: _of_axis}
