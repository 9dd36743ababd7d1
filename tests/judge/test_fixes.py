"""What may be changed in a source where one thing is wrong, and in what order."""

import ast

import pytest

from checks.judge.fixes import fixes
from checks.judge.scope import SHOWN, shown

BYTES = "def bytes_of(N, K):\n    return 2 * (N * K + K + N)\n"
KERNEL = """def k(x_ptr, y_ptr, K, stride_x, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + stride_x + offs, mask=offs < K, other=0.0)
    tl.store(y_ptr, tl.sum(tl.sqrt(x), axis=0))
"""


def sentence(wrong: str, right: str, line: str | None = None) -> str:
    """That of the change that makes `right` of `wrong`."""
    meant = ast.unparse(ast.parse(right))
    return next(said for source, said, _ in fixes(wrong, right, line) if ast.unparse(ast.parse(source)) == meant)


def body(expression: str) -> str:
    return f"def f(a, b, c):\n    return {expression}\n"


@pytest.mark.parametrize(("wrong", "right", "said"), [
    ("a - b", "a + b", "`-` stands where `+` belongs, in `a - b`."),
    ("a + 1", "a", "`+ 1` should not be there, in `a + 1`."),
    ("a", "a / 1000", "A division by 1,000 is missing (for a unit), at `a`."),
    ("a", "a * b", "`* b` is missing, at `a`."),
    ("a", "a - 1", "`- 1` is missing, at `a`."),
    ("a + b * c", "(a + b) * c", "Parentheses are missing or wrong, in `a + b * c`: `(a + b) * c` is meant."),
    ("2 * a * b + b + c", "2 * (a * b + b + c)", "The factor 2 belongs to every term: parentheses are missing"),
    ("a // b", "-(-a // b)", "The quotient is rounded down, and must be rounded up"),
    ("a % b", "a % b > 0", "A remainder counts as one, however large it is"),
    ("2 ^ a - 1", "2 ** a - 1", "`^` is no power in Python: `**` is"),
    ("a / 2**30", "a / 1000000000", "`2 ** 30` stands where 1,000,000,000 belongs"),
    ("a * 3", "a * 4", "3 stands where 4 belongs, in `return a * 3`."),
    ("a < b", "a <= b", "`<` stands where `<=` belongs, in `a < b`."),
    ("a and b", "a or b", "`and` stands where `or` belongs"),
    ("a and b and c", "a and c", "`b` should not be there"),
    ("max(a, b)", "min(a, b)", "`max` stands where `min` belongs, in `max(a, b)`."),
    ("a - b", "b - a", "The two sides of `-` are swapped"),
    ("min(a, b)", "a", "`min` should not be there"),
    ("f(a, b)", "f(b, a)", "`a` and `b` are swapped, in `f(a, b)`."),
    ("round(a / b)", "a // b", "`round(a / b)` stands where `a // b` belongs, which is rounded down"),
    ("-a", "a", "The `-` should not be there"),
    ("a[0]", "a[1]", "`a[0]` stands where `a[1]` belongs"),
    ("a.sum(dim=1)", "a.sum(dim=0)", "`dim=1` stands where `dim=0` belongs"),
    ("a, b", "b, a", "`return (a, b)` gives back the results in another order: (b, a) is wanted."),
    ("(a,)", "a", "A comma behind the value makes a tuple of it"),
    ("a * c + b * c", "a * b + b * b", "`c` stands where `b` belongs, in 2 places."),
    ("max(a, b) * c + max(a, b)", "min(a, b) * c + max(a, b)",
     "`max` stands where `min` belongs, in `max(a, b)` of `max(a, b) * c`."),
    ("max(a, b) + c", "min(a, b) + c", "`max` stands where `min` belongs, in `max(a, b)`."),
    ("torch.sum(a)", "torch.sum(a.abs())", "`abs` is missing, around `a`.")])
def test_the_change_that_mends_is_found(wrong, right, said):
    assert sentence(body(wrong), body(right)).startswith(said)


@pytest.mark.parametrize(("factor", "said"), [
    ("2", "2"), ("4", "4"), ("8", "8 is missing (a byte has 8 bits)"), ("10", "10"),
    ("1000", "1,000 is missing (for a unit)"), ("100", "100 is missing (a percentage is no fraction)"),
    ("1000000.0", "1,000,000 is missing (for a unit)")])
def test_a_factor_that_is_missing_is_said_with_its_meaning(factor, said):
    said = said if " is " in said else f"{said} is missing"
    assert sentence(body("a"), body(f"a * {factor}")) == f"A factor of {said}, at `a`."
    assert sentence(body("a"), body(f"a / {factor}")) == f"A division by {said}, at `a`."


@pytest.mark.parametrize(("old", "new", "said"), [
    ("tl.sum(tl", "tl.max(tl", "`max` stands where `sum` belongs"), ("tl.sqrt(x)", "x", "`sqrt` is missing, around `x`."),
    ("offs < K", "offs < stride_x", "`stride_x` stands where `K` belongs"), ("0.0", "1.0", "1.0 stands where 0 belongs")])
def test_a_kernel_is_mended(old, new, said):
    assert sentence(KERNEL.replace(old, new), KERNEL).startswith(said)


def test_statements_of_a_loop():
    loop = "def f(a, b):\n    t = 0\n    for x, y in a:\n        t += x\n    return t\n"
    assert sentence(loop.replace("t += x", "t = x"), loop).startswith("`t =` replaces what was added up so far")
    assert sentence(loop.replace("x, y in", "y, x in"), loop) == "`(y, x)` stands where `(x, y)` belongs, in the loop."
    broken = loop.replace("t += x", "t += x\n        break")
    assert any(said.startswith("The `break` should not be there") for _, said, _ in fixes(broken, loop))


def test_the_likeliest_come_first_and_none_twice():
    said = list(fixes(BYTES.replace("2 *", "16 *"), BYTES))
    assert said[0][1] == "16 stands where 2 belongs, in `return 16 * (N * K + K + N)`."
    assert len({source for source, *_ in said}) == len(said)
    two = "def f(a):\n    b = a + 1\n    return b + 1\n"
    assert next(fixes(two, two, "return b + 1"))[0] != two and "b + 1" in next(fixes(two, two, "return b + 1"))[1]


@pytest.mark.parametrize(("length", "said"), [(SHOWN - 1, "a" * (SHOWN - 1)), (SHOWN, "a" * (SHOWN - 3) + "...")])
def test_a_long_piece_of_source_is_cut_and_says_so(length, said):
    assert shown(ast.Name("a" * length)) == said


def test_a_change_in_several_places_counts_with_all_of_them():
    nearer = {said: rank[1] for _, said, rank in fixes(body("a * c + b * c"), body("a * b + b * b"))}
    assert nearer.pop("`c` stands where `b` belongs, in 2 places.") < min(nearer.values())


def test_what_is_no_function_has_no_fixes():
    with pytest.raises(ValueError, match="no function"):
        next(fixes("x = 1\n", BYTES))
    with pytest.raises(SyntaxError):
        next(fixes("def f(:\n", BYTES))
