"""What may be changed in arithmetic where one thing is wrong: an operator, parentheses, a factor or a term."""

import ast

from checks.judge.scope import SIGNS, Replaced, Scope, shown, text_of

_OPERATORS: tuple[type[ast.operator], ...] = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_TIMES: dict[float, str] = {2: "", 1000: " (for a unit)", 1e6: " (for a unit)", 8: " (a byte has 8 bits)", 4: "", 10: "",
                            100: " (a percentage is no fraction)"}


def arithmetic(node: ast.BinOp, scope: Scope) -> Replaced:
    left, op, right = node.left, node.op, node.right
    inside, mine = f", in `{shown(node)}`.", SIGNS[type(op)]
    yield from _dropped(node, scope)
    if scope.kernel and any(part in text_of(node) for part in ("_ptr", "arange", "int64")):
        return  # an address: what is often wrong there are names and numbers
    for other in _OPERATORS if isinstance(op, _OPERATORS) and not isinstance(right, ast.Constant) else ():
        if other is not type(op):
            yield ast.BinOp(left, other(), right), f"`{mine}` stands where `{SIGNS[other]}` belongs{inside}"
    if isinstance(op, ast.Mult | ast.Div | ast.FloorDiv) and isinstance(right, ast.Constant):
        for kind in {ast.Mult, ast.Div, ast.FloorDiv} - {type(op)}:
            yield ast.BinOp(left, kind(), right), f"`{mine}` stands where `{SIGNS[kind]}` belongs{inside}"
    if isinstance(op, ast.Add) and not scope.kernel:
        larger = ast.Call(ast.Name("max", ast.Load()), [left, right], [])
        yield larger, f"the two parts are added, and the larger alone counts{inside}"
    if isinstance(op, ast.BitAnd | ast.BitOr):
        swapped = ast.BitOr() if isinstance(op, ast.BitAnd) else ast.BitAnd()
        yield ast.BinOp(left, swapped, right), f"`{mine}` stands where `{SIGNS[type(swapped)]}` belongs{inside}"
    if isinstance(op, ast.BitXor):
        yield ast.BinOp(left, ast.Pow(), right), f"`^` is no power in Python: `**` is{inside}"
        if isinstance(right, ast.BinOp):  # `^` binds less tightly than `-`
            power = ast.BinOp(left, ast.Pow(), right.left)
            yield ast.BinOp(power, right.op, right.right), f"`^` is no power in Python: `**` is{inside}"
    if isinstance(op, ast.Mod):
        yield ast.Compare(node, [ast.Gt()], [ast.Constant(0)]), f"a remainder counts as one, however large it is{inside}"
    if isinstance(op, ast.Pow) and isinstance(left, ast.Constant) and isinstance(right, ast.Constant):
        for number in (10**3, 10**6, 10**9, 10**12):
            yield ast.Constant(number), f"`{shown(node)}` stands where {number:,} belongs."
    if isinstance(op, ast.FloorDiv):
        up = ast.UnaryOp(ast.USub(), ast.BinOp(ast.UnaryOp(ast.USub(), left), op, right))
        yield up, f"the quotient is rounded down, and must be rounded up{inside}"
    if isinstance(op, ast.Div | ast.Sub | ast.FloorDiv | ast.Mod | ast.Pow | ast.MatMult):
        yield ast.BinOp(right, op, left), f"the two sides of `{mine}` are swapped{inside}"
    if isinstance(op, ast.Mult) and "dot" in scope.called and not scope.dots:
        dot = ast.Attribute(ast.Name("tl", ast.Load()), "dot", ast.Load())
        said = f"`*` multiplies lane by lane, and the product of two blocks is `tl.dot`{inside}"
        yield ast.Call(dot, [left, right], []), said
    yield from _parentheses(node)
    yield from _sums(node)


def _dropped(node: ast.BinOp, scope: Scope) -> Replaced:
    """One side alone."""
    left, op, right = node.left, node.op, node.right
    inside, mine = f", in `{shown(node)}`.", SIGNS[type(op)]
    address = any(part in text_of(node) for part in ("_ptr", "arange")) and not isinstance(right, ast.Constant)
    if scope.kernel and (isinstance(op, ast.BitAnd) or address):
        return
    yield left, f"`{mine} {shown(right)}` should not be there{inside}"
    if not isinstance(op, ast.Div | ast.FloorDiv | ast.Mod | ast.Pow | ast.Sub):
        yield right, f"`{shown(left)} {mine}` should not be there{inside}"
    if isinstance(left, ast.BinOp) and isinstance(op, ast.Mult) and isinstance(left.op, ast.Mult):
        yield left.left, f"`* {shown(left.right)} * {shown(right)}` should not be there{inside}"


def _sums(node: ast.BinOp) -> Replaced:
    """`2 * a + b + c` as 2 * (a + b + c)."""
    if not isinstance(node.op, ast.Add):
        return
    terms: list[ast.expr] = [node]
    while isinstance(terms[0], ast.BinOp) and isinstance(terms[0].op, ast.Add):
        terms[:1] = [terms[0].left, terms[0].right]
    for i, term in enumerate(terms):
        first = term
        while isinstance(first, ast.BinOp) and isinstance(first.op, ast.Mult):
            first = first.left
        if first is not term and isinstance(first, ast.Constant):
            rest = text_of(term).removeprefix(f"{text_of(first)} * ")
            whole = " + ".join([*(text_of(other) for other in terms[:i]), rest,
                                *(text_of(other) for other in terms[i + 1:])])
            new = ast.parse(f"{text_of(first)} * ({whole})", mode="eval").body
            yield new, f"the factor {text_of(first)} belongs to every term: parentheses are missing, in `{shown(node)}`."


def _parentheses(node: ast.BinOp) -> Replaced:
    """`a * b + c` as a * (b + c), `a + b * c` as (a + b) * c, `(a + b) / c` as a / c + b, and so on; and back."""
    left, op, right = node.left, node.op, node.right
    said = f"parentheses are missing or wrong, in `{shown(node)}`: "
    if isinstance(left, ast.BinOp):
        new = ast.BinOp(left.left, left.op, ast.BinOp(left.right, op, right))
        yield new, f"{said}`{shown(new)}` is meant."
        new = ast.BinOp(ast.BinOp(left.left, op, right), left.op, left.right)
        yield new, f"{said}`{shown(new)}` is meant."
        if isinstance(left.right, ast.BinOp):  # `a / b**1 - c`
            last = left.right
            new = ast.BinOp(left.left, left.op, ast.BinOp(last.left, last.op, ast.BinOp(last.right, op, right)))
            yield new, f"{said}`{shown(new)}` is meant."
        if isinstance(left.left, ast.BinOp):
            first = left.left
            new = ast.BinOp(first.left, first.op, ast.BinOp(ast.BinOp(first.right, left.op, left.right), op, right))
            yield new, f"{said}`{shown(new)}` is meant."
    if isinstance(right, ast.BinOp):
        new = ast.BinOp(ast.BinOp(left, op, right.left), right.op, right.right)
        yield new, f"{said}`{shown(new)}` is meant."


def factors(node: ast.expr, scope: Scope) -> Replaced:
    """What may be missing behind a value that is returned or named: a factor, a term."""
    for number, why in _TIMES.items():
        text = f"{number:,}" if number < 1e6 else "1,000,000"
        yield ast.BinOp(node, ast.Mult(), ast.Constant(number)), f"a factor of {text} is missing{why}, at `{shown(node)}`."
        yield ast.BinOp(node, ast.Div(), ast.Constant(number)), f"a division by {text} is missing{why}, at `{shown(node)}`."
    for change, word in ((ast.Add(), "+ 1"), (ast.Sub(), "- 1")):
        yield ast.BinOp(node, change, ast.Constant(1)), f"`{word}` is missing, at `{shown(node)}`."
    for name in [name for name in scope.arguments if not name.endswith("_ptr")] + scope.unused:
        for op in (ast.Mult(), ast.Div(), ast.Add(), ast.Sub()):
            new = ast.BinOp(node, op, ast.Name(name, ast.Load()))
            yield new, f"`{SIGNS[type(op)]} {name}` is missing, at `{shown(node)}`."
