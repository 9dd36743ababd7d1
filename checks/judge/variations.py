"""The answer with one thing in it changed, as students change it: an operator, a factor, a name, a term left out.

Where none of an exercise's own mutants does what a student's function did, one of these may, and its sentence says how.
"""

import ast
import copy
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from checks.judge.exercise import Exercise
from checks.judge.source import Function, answer_source, define

_OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub, ast.Mult), ast.Sub: (ast.Add,), ast.Mult: (ast.Div, ast.Add), ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Div, ast.Mod), ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.And: (ast.Or,), ast.Or: (ast.And,), ast.BitAnd: (ast.BitOr,)}
_SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
          ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.And: "and",
          ast.Or: "or", ast.BitAnd: "&", ast.BitOr: "|"}
_CALLS = {"max": ("min", "sum", "mean"), "min": ("max", "sum"), "sum": ("max", "mean", "prod"), "mean": ("sum", "median", "amax"),
          "amax": ("amin", "mean", "sum"), "ceil": ("floor", "round"), "floor": ("ceil", "round"), "round": ("floor", "ceil", "trunc"),
          "log10": ("log", "log2"), "log2": ("log", "log10"), "log": ("log10", "log2"), "sqrt": ("abs",), "any": ("all",),
          "all": ("any",), "median": ("mean",), "double": ("float", "half"), "float": ("half", "bfloat16"), "minimum": ("maximum",), "maximum": ("minimum",),
          "cdiv": (), "exp": ("exp2",), "argsort": (), "square": ("abs",), "cumsum": ("cumprod",), "log_softmax": ("softmax",)}
_DROPPED = ("abs", "float", "double", "round", "clamp", "square", "sqrt", "to", "T", "sum", "mean", "unique")


@dataclass(frozen=True)
class Variation:
    source: str
    sentence: str


def variations(source: str) -> Iterator[Variation]:
    """Every variation of a function's source."""
    tree = ast.parse(source)
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    if ast.get_docstring(function):
        function.body = function.body[1:]
    names = [argument.arg for argument in function.args.args]
    seen = {ast.unparse(tree)}
    nodes = [node for statement in function.body for node in ast.walk(statement)]
    for index, node in enumerate(nodes):
        for replaced, sentence in _changes(node, names):
            copied = copy.deepcopy(tree)
            target = [n for statement in copied.body[0].body for n in ast.walk(statement)][index]
            changed = _Replace(target, replaced).visit(copied)
            text = ast.unparse(ast.fix_missing_locations(changed)) + "\n"
            if text not in seen:
                seen.add(text)
                yield Variation(text, sentence)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return copy.deepcopy(self.new) if node is self.old else self.generic_visit(node)


def _text(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) < 60 else text[:57] + "..."


def _changes(node: ast.AST, names: list[str]) -> Iterator[tuple[ast.AST, str]]:
    match node:
        case ast.BinOp(left, op, right):
            if isinstance(op, ast.Mult | ast.Div):
                for factor, word in ((2, "twice"), (0.5, "half"), (4, "4 times"), (8, "8 times"), (1000, "1,000 times")):
                    yield ast.BinOp(ast.Constant(factor), ast.Mult(), node), f"`{_text(node)}` is {word} what it should be"
            if isinstance(op, ast.Add | ast.Sub):
                yield left, f"the part `{_text(right)}` is left out"
                if isinstance(op, ast.Add):
                    yield right, f"the part `{_text(left)}` is left out"
                    for part in (left, right):
                        yield ast.BinOp(node, ast.Add(), part), f"`{_text(part)}` is counted twice"
            elif isinstance(op, ast.Mult | ast.Div | ast.FloorDiv):
                word = "multiplied with" if isinstance(op, ast.Mult) else "divided by"
                yield left, f"`{_text(left)}` is not {word} `{_text(right)}`"
                yield ast.BinOp(node, op, right), f"`{_text(left)}` is {word} `{_text(right)}` twice"
                if isinstance(op, ast.Mult):
                    yield right, f"the factor `{_text(left)}` is left out"
                    yield ast.BinOp(node, op, left), f"the factor `{_text(left)}` is there twice"
                else:
                    yield ast.BinOp(right, op, left), f"`{_text(node)}` is turned over"
            if isinstance(op, ast.FloorDiv):
                yield (ast.UnaryOp(ast.USub(), ast.BinOp(ast.UnaryOp(ast.USub(), left), op, right)),
                       f"`{_text(node)}` is rounded up")
            if isinstance(op, ast.Sub | ast.Mod):
                yield ast.BinOp(right, op, left), f"the two sides of `{_text(node)}` are exchanged"
            for other in _OPERATORS.get(type(op), ()):
                yield (ast.BinOp(left, other(), right),
                       f"`{_SIGNS[other]}` stands where `{_SIGNS[type(op)]}` belongs, in `{_text(node)}`")
        case ast.Compare(left, [op], [right]):
            for other in _OPERATORS.get(type(op), ()):
                yield (ast.Compare(left, [other()], [right]),
                       f"`{_SIGNS[other]}` stands where `{_SIGNS[type(op)]}` belongs, in `{_text(node)}`")
        case ast.BoolOp(op, values):
            for value in values:
                yield value, f"only `{_text(value)}` is asked, of `{_text(node)}`"
        case ast.UnaryOp(ast.USub() | ast.Not() | ast.Invert(), operand):
            yield operand, f"`{_text(node)}` has lost its sign"
        case ast.Constant(value) if type(value) in (int, float):
            for other in (1, 2, 4, 8, 0, 10, 20, 127, 128, 255, 256, value + 1, value - 1, value * 1000, value / 1000):
                if other != value and (other == int(other) or type(value) is float):
                    yield ast.Constant(type(value)(other)), (
                        f"{other:g} stands where {value:g} belongs")
        case ast.Name(name) if name in names:
            for other in names:
                if other != name:
                    yield ast.Name(other, ast.Load()), f"`{other}` stands where `{name}` belongs"
        case ast.Call(ast.Attribute(value, name), arguments):
            module = isinstance(value, ast.Name) and value.id in ("math", "torch", "tl", "statistics")
            for other in _CALLS.get(name, ()):
                yield (ast.Call(ast.Attribute(value, other, ast.Load()), arguments, node.keywords),
                       f"`{other}` stands where `{name}` belongs")
            if name in _DROPPED and not module:
                yield value, f"`.{name}` is left out, in `{_text(node)}`"
            if module and len(arguments) == 1:
                yield arguments[0], f"`{name}` is left out"
        case ast.Call(ast.Name("max" | "min" | "sum" | "round" | "abs" | "len" as name), arguments):
            for other in _CALLS.get(name, ()):
                if other != "mean":
                    yield ast.Call(ast.Name(other, ast.Load()), arguments, []), f"`{other}` stands where `{name}` belongs"
            if name == "max" or name == "min":
                for part in arguments if len(arguments) > 1 else ():
                    yield part, f"`{_text(part)}` is taken alone, without the `{name}`"
        case ast.Attribute(value, "T"):
            yield value, f"`{_text(value)}` is not transposed"
        case ast.Subscript(value, _):
            yield value, f"`{_text(value)}` is taken whole in place of `{_text(node)}`"
        case ast.keyword("dim" | "axis", ast.Constant(0 | 1 as axis)):
            yield ast.keyword(node.arg, ast.Constant(1 - axis)), f"along `{node.arg}={1 - axis}` in place of {axis}"


def varied(exercise: Exercise, variation: Variation) -> Function:
    return define(variation.source, exercise.name, dict(vars(exercise.module)))


@functools.cache
def variations_of(exercise_name: str) -> list[Variation]:
    return list(variations(answer_source(exercise_name)))
