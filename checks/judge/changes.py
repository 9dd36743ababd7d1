"""What may be changed in a function where one thing is wrong: an operator, a number, a name, an axis, a part too many.

Each change comes with a sentence on what stands in the source and what belongs there.
"""

import ast
from collections.abc import Callable, Iterator
from typing import Any

from checks.judge.arithmetic import arithmetic, factors
from checks.judge.scope import SHOWN, SIGNS, Replaced, Scope, shown, text_of

SMALL = 1e-3  # numbers below are there to keep another from being 0
LARGEST_SHIFTED = 256  # a number that may be one too large, or twice as large as meant; beyond it are units
_COMPARISONS: tuple[type[ast.cmpop], ...] = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_FAMILIES = (("sum", "mean", "max", "min", "amax", "amin", "median", "prod"), ("any", "all"),
             ("sorted", "list", "set"), ("values", "items", "keys"),
             ("ceil", "floor", "round", "trunc"), ("log", "log2", "log10"), ("exp", "exp2"), ("maximum", "minimum"),
             ("float", "half", "double", "bfloat16"), ("float32", "float16", "float64", "bfloat16"),
             ("int32", "int8", "int64", "uint8", "float32", "float16"),
             ("zeros", "ones"), ("zeros_like", "ones_like", "empty_like"))
_MODULES = ("tl", "torch", "math", "statistics", "cost", "triton", "gpu")
_WRAPS = ("abs", "sqrt", "float", "double", "exp", "ceil", "floor", "round", "square", "log2", "trunc", "sum", "max")


def changes_in(function: ast.FunctionDef, scope: Scope) -> Iterator[tuple[ast.AST, ast.AST, str]]:
    """Every change that may mend `function`: a node of it, what takes its place, the sentence."""
    nodes = [node for statement in function.body for node in ast.walk(statement)]
    above = {child: node for node in nodes for child in ast.iter_child_nodes(node)}
    text = ast.unparse(function)
    for node in nodes:
        for kind, changes in _KINDS:
            if isinstance(node, kind):
                for new, sentence in changes(node, scope):
                    yield node, new, (f"{sentence[:-1]}{_around(node, above)}." if " in `" not in sentence else
                                      _told_apart(sentence, node, above, text))
        for value, whole in _values(node):
            for change in (_wrapped, _turned, _column, *([factors] if whole else [])):
                for new, sentence in change(value, scope):
                    yield value, new, sentence


def _values(node: ast.AST) -> Iterator[tuple[ast.expr, bool]]:
    """The values right below a node, and whether one is a whole result: returned, stored or given a name."""
    match node:
        case ast.Return(value=ast.Tuple(elts=values)):
            yield from ((value, True) for value in values)
        case ast.Return(value=ast.expr() as value) | ast.Assign(value=value) | ast.AugAssign(value=value):
            yield value, True
        case ast.Call(func=ast.Attribute(attr="store"), args=[_, value, *_]):
            yield value, True
        case ast.BinOp(left=left, right=right):
            yield from ((left, False), (right, False))
        case ast.Compare(left=left, comparators=others):
            yield from ((value, False) for value in (left, *others))
        case ast.Call(func=ast.Attribute(value=value) as function, args=values):
            if text_of(value) not in _MODULES and function.attr != "append":
                yield value, False
            yield from ((given, False) for given in values)
        case ast.Call(args=values):
            yield from ((value, False) for value in values)
        case ast.Subscript(value=value) | ast.If(test=value):
            yield value, False


def _around(node: ast.AST, above: dict[ast.AST, ast.AST]) -> str:
    """A phrase with the largest short piece of source around a node."""
    place = node
    while place in above and len(piece := text_of(above[place])) < SHOWN and "\n" not in piece:
        place = above[place]
    return "" if place is node else f", in `{text_of(place)}`"


def _told_apart(sentence: str, node: ast.AST, above: dict[ast.AST, ast.AST], text: str) -> str:
    """The sentence with a longer piece of source where the one that it shows stands in the function more than once."""
    piece, place = text_of(node), node
    if not sentence.endswith(f", in `{piece}`.") or text.count(piece) < 2:
        return sentence
    while place in above and text.count(text_of(place)) > 1:
        place = above[place]
    longer = text_of(place)
    return f"{sentence[:-1]} of `{longer}`." if text.count(longer) == 1 and len(longer) < SHOWN else sentence


def _belongs(old: ast.AST, new: ast.AST) -> tuple[ast.AST, str]:
    return new, f"`{shown(old)}` stands where `{shown(new)}` belongs."


def _wrapped(node: ast.expr, scope: Scope) -> Replaced:
    """In a call that the answer has: `abs`, `sqrt`, a rounding."""
    if isinstance(node, ast.Constant):
        return
    for name in _WRAPS:
        if name not in scope.called or scope.kernel and name in ("sum", "max"):
            continue  # a block that lacks a reduction is refused by the compiler
        said = f"`{name}` is missing, around `{shown(node)}`."
        if scope.kernel:
            function: ast.expr = ast.Attribute(ast.Name("tl", ast.Load()), name, ast.Load())
            yield ast.Call(function, [node], []), said
        elif name in ("ceil", "floor", "sqrt"):
            yield ast.Call(ast.Attribute(ast.Name("math", ast.Load()), name, ast.Load()), [node], []), said
        else:
            yield ast.Call(ast.Attribute(node, name, ast.Load()), [], []), said


def _comparison(node: ast.Compare, scope: Scope) -> Replaced:
    if len(node.ops) != 1 or type(node.ops[0]) not in _COMPARISONS:
        return
    mine = SIGNS[type(node.ops[0])]
    for other in _COMPARISONS:
        if other is not type(node.ops[0]):
            yield (ast.Compare(node.left, [other()], node.comparators),
                   f"`{mine}` stands where `{SIGNS[other]}` belongs, in `{shown(node)}`.")


def _condition(node: ast.BoolOp, scope: Scope) -> Replaced:
    swapped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    mine, theirs = SIGNS[type(node.op)], SIGNS[type(swapped)]
    yield ast.BoolOp(swapped, node.values), f"`{mine}` stands where `{theirs}` belongs, in `{shown(node)}`."
    for value in node.values:
        rest = [other for other in node.values if other is not value]
        new = rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        yield new, f"`{shown(value)}` should not be there, in `{shown(node)}`."


def _sign(node: ast.UnaryOp, scope: Scope) -> Replaced:
    sign = {ast.USub: "-", ast.Invert: "~", ast.Not: "not", ast.UAdd: "+"}[type(node.op)]
    yield node.operand, f"the `{sign}` should not be there, in `{shown(node)}`."


def _turned(node: ast.expr, scope: Scope) -> Replaced:
    """A sign that is missing."""
    if isinstance(node, ast.Constant):
        return
    yield ast.UnaryOp(ast.USub(), node), f"a minus sign is missing, before `{shown(node)}`."
    if scope.tensors and not scope.kernel:
        yield ast.UnaryOp(ast.Invert(), node), f"a `~` is missing, before `{shown(node)}`: the opposite is wanted."


def _number(node: ast.Constant, scope: Scope) -> Replaced:
    value: Any = node.value
    if type(value) not in (int, float):
        return
    near = [value + 1, value - 1, value * 2, value / 2] if abs(value) <= LARGEST_SHIFTED else []
    if not scope.kernel:
        near += [0, 1, 2, 1e3, 1e6, 1e9, 1e12, value * 1e3, value / 1e3, value * 1e6, value / 1e6]
        near += [value / 1e30] if 0 < value <= SMALL else []  # below all that a case may hold
    for other in (*scope.numbers, *(int(n) if n == int(n) else n for n in near)):
        if other != value and not (type(value) is int and other != int(other)):
            kept = type(value)(other)
            said = f"{_shown(value)} stands where {_shown(other)} belongs."
            if 0 < kept < value <= SMALL:
                said = f"{_shown(value)} is not small beside the numbers that come here: ask whether they are 0."
            yield ast.Constant(kept), said
    for name in scope.arguments if value == 1 and not scope.kernel else ():
        yield ast.Name(name, ast.Load()), f"1 stands where `{name}` belongs."


def _shown(value: float) -> str:
    return f"{value:,}" if type(value) is int or abs(value) < 1e6 and value == int(value) and value else f"{value:g}"


def _name(node: ast.Name, scope: Scope) -> Replaced:
    if isinstance(node.ctx, ast.Load):
        for other in _others(node.id, scope):
            yield _belongs(node, ast.Name(other, ast.Load()))


def _others(name: str, scope: Scope) -> Iterator[str]:
    """The names that may be meant in place of one. In a kernel, those of its kind: sizes, strides, `rm` and `rn`."""
    known = scope.arguments + scope.locals
    for other in known if name in known else ():
        if other != name and (not scope.kernel or _kind(other) == _kind(name) or {name, other} <= set(scope.locals)
                              and len(name) == len(other) and sum(a != b for a, b in zip(name, other, strict=True)) == 1
                              or {_kind(name), _kind(other)} == {"size", "stride"}):
            yield other


def _kind(name: str) -> str:
    return ("pointer" if name.endswith("_ptr") else "stride" if name.startswith("stride_") else
            "block" if name.startswith("BLOCK") else "size" if len(name) == 1 and name.isupper() else name)


def _call(node: ast.Call, scope: Scope) -> Replaced:
    function, given = node.func, node.args
    name = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    for family in _FAMILIES:
        for other in family if name in family else ():
            if other != name:
                new = ast.Attribute(function.value, other, ast.Load()) if isinstance(function, ast.Attribute) else \
                    ast.Name(other, ast.Load())
                if isinstance(new, ast.Attribute) or other in ("sum", "max", "min", "any", "all", "round", "sorted", "list"):
                    said = f"`{name}` stands where `{other}` belongs, in `{shown(node)}`."
                    yield ast.Call(new, given, node.keywords), said
    if given and isinstance(given[0], ast.BinOp) and isinstance(given[0].op, ast.Div):
        floor = ast.BinOp(given[0].left, ast.FloorDiv(), given[0].right)
        yield floor, f"`{shown(node)}` stands where `{shown(floor)}` belongs, which is rounded down."
    if name == "max" and len(given) == 2 and isinstance(function, ast.Name):
        both = ast.BinOp(given[0], ast.Add(), given[1])
        yield both, f"the larger part is taken, and the two add up, in `{shown(node)}`."
    module = isinstance(function, ast.Attribute) and text_of(function.value) in _MODULES
    if isinstance(function, ast.Attribute) and not module:
        yield function.value, f"`.{name}` should not be there, in `{shown(node)}`."
    elif given and name not in ("load", "store", "range", "arange", "program_id"):
        yield given[0], f"`{name}` should not be there, in `{shown(node)}`."
    for i in range(len(given) - 1 if name not in ("load", "store", "arange", "range", "zeros") else 0):
        if not any(isinstance(part, ast.Starred) for part in given):
            swapped = [*given[:i], given[i + 1], given[i], *given[i + 2:]]
            yield (ast.Call(function, swapped, node.keywords),
                   f"`{shown(given[i])}` and `{shown(given[i + 1])}` are swapped, in `{shown(node)}`.")
    for i, part in enumerate(given if isinstance(function, ast.Name) and not scope.kernel else ()):
        for other in scope.arguments if isinstance(part, ast.Constant) else ():
            new_call = ast.Call(function, [*given[:i], ast.Name(other, ast.Load()), *given[i + 1:]], node.keywords)
            yield new_call, f"`{shown(part)}` stands where `{other}` belongs, in `{shown(node)}`."
    for keyword in node.keywords:
        if keyword.arg not in ("mask", "key"):
            rest = [other for other in node.keywords if other is not keyword]
            yield ast.Call(function, given, rest), f"`{text_of(keyword)}` should not be there, in `{shown(node)}`."


def _axis(node: ast.keyword, scope: Scope) -> Replaced:
    if node.arg in ("dim", "axis") and isinstance(node.value, ast.Constant | ast.UnaryOp):
        for other in (0, 1):
            if text_of(node.value) != str(other):
                said = f"`{text_of(node)}` stands where `{node.arg}={other}` belongs."
                yield ast.keyword(node.arg, ast.Constant(other)), said


def _attribute(node: ast.Attribute, scope: Scope) -> Replaced:
    if not isinstance(node.ctx, ast.Load):
        return
    if node.attr == "T":
        yield node.value, f"`.T` should not be there, in `{shown(node)}`."
    for family in _FAMILIES:
        for other in family if node.attr in family and isinstance(node.value, ast.Name) else ():
            if other != node.attr:
                yield _belongs(node, ast.Attribute(node.value, other, ast.Load()))


def _part(node: ast.Subscript, scope: Scope) -> Replaced:
    if not isinstance(node.ctx, ast.Load):
        return
    turned = {"(None, :)": "[:, None]", "(:, None)": "[None, :]", "None, :": "[:, None]", ":, None": "[None, :]"}
    slot = text_of(node.slice)
    if slot in turned:
        new = ast.parse(f"x{turned[slot]}", mode="eval").body
        assert isinstance(new, ast.Subscript)
        yield _belongs(node, ast.Subscript(node.value, new.slice, ast.Load()))
    if not scope.kernel:
        yield node.value, f"`{shown(node)}` stands where `{shown(node.value)}` belongs."
    if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int):
        for other in (0, 1, 2, -1):
            if other != node.slice.value:
                yield _belongs(node, ast.Subscript(node.value, ast.Constant(other), ast.Load()))


def _column(node: ast.expr, scope: Scope) -> Replaced:
    """A vector as a column or a row, a matrix turned over."""
    if scope.tensors and not scope.kernel and isinstance(node, ast.Name | ast.Attribute | ast.Call):
        for turn in ("[:, None]", "[None, :]", ".T"):
            new = ast.parse(f"x{turn}", mode="eval").body
            assert isinstance(new, ast.Subscript | ast.Attribute)
            new.value = node
            yield new, f"`{shown(node)}` stands where `{shown(new)}` belongs."


def _assigned(node: ast.Assign, scope: Scope) -> Replaced:
    target = node.targets[0]
    if isinstance(target, ast.Name):
        new = ast.AugAssign(ast.Name(target.id, ast.Store()), ast.Add(), node.value)
        yield new, f"`{target.id} =` replaces what was added up so far: `+=` belongs there, in `{shown(node)}`."


def _added(node: ast.AugAssign, scope: Scope) -> Replaced:
    for other in (ast.Add, ast.Sub, ast.Mult):
        if not isinstance(node.op, other):
            yield (ast.AugAssign(node.target, other(), node.value),
                   f"`{SIGNS[type(node.op)]}=` stands where `{SIGNS[other]}=` belongs, in `{shown(node)}`.")


def _statement(node: ast.stmt, scope: Scope) -> Replaced:
    if scope.kernel and "load" in text_of(node):
        return
    if isinstance(node, ast.Break | ast.Continue):
        yield ast.Pass(), f"the `{text_of(node)}` should not be there: the loop must go on."
    elif isinstance(node, ast.AugAssign) or isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        yield ast.Pass(), f"the line `{shown(node)}` should not be there."


def _returned(node: ast.Return, scope: Scope) -> Replaced:
    if isinstance(node.value, ast.Tuple) and len(node.value.elts) == 1:
        yield ast.Return(node.value.elts[0]), f"a comma behind the value makes a tuple of it, in `{shown(node)}`."
    elif isinstance(node.value, ast.Tuple):
        first, *rest = node.value.elts
        swapped = [*rest, first] if len(rest) < 2 else [rest[0], first, *rest[1:]]
        new = ast.Tuple(swapped, ast.Load())
        yield ast.Return(new), f"`{shown(node)}` gives back the results in another order: {shown(new)} is wanted."
        yield ast.Return(first), f"only `{shown(first)}` is wanted, in `{shown(node)}`."


def _looped(node: ast.For, scope: Scope) -> Replaced:
    if isinstance(node.target, ast.Tuple) and len(node.target.elts) == 2:
        swapped = ast.Tuple(node.target.elts[::-1], ast.Store())
        yield (ast.For(swapped, node.iter, node.body, node.orelse, lineno=node.lineno),
               f"`{shown(node.target)}` stands where `{shown(swapped)}` belongs, in the loop.")
    match node.iter:
        case ast.Call(func=ast.Name(id="range"), args=[*_, ast.Call(func=ast.Attribute(attr="cdiv"), args=[size, block])]):
            steps = ast.Call(ast.Name("range", ast.Load()), [ast.Constant(0), size, block], [])
            yield (ast.For(node.target, steps, node.body, node.orelse, lineno=node.lineno),
                   f"`{shown(node.target)}` counts blocks, and the loop's body takes it for the place of an element: "
                   f"`{shown(steps)}` counts so.")
        case ast.Call(func=ast.Name(id="range"), args=[_, size, block]):
            cdiv = ast.Call(ast.Attribute(ast.Name("tl", ast.Load()), "cdiv", ast.Load()), [size, block], [])
            blocks = ast.Call(ast.Name("range", ast.Load()), [cdiv], [])
            yield (ast.For(node.target, blocks, node.body, node.orelse, lineno=node.lineno),
                   f"`{shown(node.target)}` is the place of an element, and the body takes it for the number of a block.")


_KINDS: list[tuple[type[ast.AST] | tuple[type[ast.AST], ...], Callable[[Any, Scope], Replaced]]] = [
    (ast.BinOp, arithmetic), (ast.Compare, _comparison), (ast.BoolOp, _condition), (ast.UnaryOp, _sign),
    (ast.Constant, _number), (ast.Name, _name), (ast.Call, _call), (ast.keyword, _axis), (ast.Attribute, _attribute),
    (ast.Subscript, _part), (ast.Assign, _assigned), (ast.AugAssign, _added), (ast.stmt, _statement),
    (ast.Return, _returned), (ast.For, _looped)]
