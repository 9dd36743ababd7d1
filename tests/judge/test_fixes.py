"""What may be changed in a source where one thing is wrong, and in what order."""

import ast
import itertools
import re

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


SIGNS = ["+", "-", "*", "/", "//", "%", "**"]
ORDERS = ["<", "<=", ">", ">=", "==", "!="]
FAMILIES = ["sum mean max min amax amin median prod", "any all", "values items keys", "ceil floor round trunc",
    "log log2 log10",
            "exp exp2", "maximum minimum", "float half double bfloat16", "zeros ones", "zeros_like ones_like empty_like"]


def said_of(wrong: str) -> dict[str, str]:
    """By what is returned then, the sentence of each change of a value that is returned."""
    return {ast.unparse(ast.parse(source).body[0].body[0].value): said for source, said, _ in fixes(body(wrong), body("a"))
            if source.startswith("def f(a, b, c):\n    return ")}


@pytest.mark.parametrize("mine", SIGNS + ORDERS)
def test_any_sign_may_be_meant_for_another(mine):
    said = said_of(f"a {mine} b")
    for other in {*(SIGNS if mine in SIGNS else ORDERS)} - {mine}:
        assert said[f"a {other} b"] == f"`{mine}` stands where `{other}` belongs, in `a {mine} b`."


@pytest.mark.parametrize(("family", "name"), [(family, name) for family in FAMILIES for name in family.split()])
def test_any_function_may_be_meant_for_another_of_its_kind(family, name):
    said = said_of(f"a.{name}(b)")
    for other in {*family.split()} - {name}:
        assert said[f"a.{other}(b)"] == f"`{name}` stands where `{other}` belongs, in `a.{name}(b)`."
    assert f"a.{name}(b)" not in said_of("a.sort(b)")


@pytest.mark.parametrize(("family", "name"), [(family, name) for family in (
    "float32 float16 float64 bfloat16", "int32 int8 int64 uint8 float32 float16") for name in family.split()])
def test_any_type_may_be_meant_for_another(family, name):
    said = said_of(f"a.to(torch.{name})")
    for other in {*family.split()} - {name}:
        belongs = f"`torch.{name}` stands where `torch.{other}` belongs, in `return a.to(torch.{name})`."
        assert said[f"a.to(torch.{other})"] == belongs


@pytest.mark.parametrize(("name", "other"), [
    *itertools.permutations(("sum", "max", "min"), 2), ("any", "all"), ("all", "any"), ("set", "sorted"), ("set", "list")])
def test_a_builtin_may_be_meant_for_another(name, other):
    assert sentence(body(f"{name}(a)"), body(f"{other}(a)")) == f"`{name}` stands where `{other}` belongs, in `{name}(a)`."
    assert not any("mean(a)" in source for source, *_ in fixes(body("sum(a)"), body("a")))


@pytest.mark.parametrize(("name", "how"), [
    *((name, f"a.{name}()") for name in ("abs", "float", "double", "exp", "round", "square", "log2", "trunc", "sum", "max")),
    *((name, f"math.{name}(a)") for name in ("sqrt", "ceil", "floor"))])
def test_a_call_of_the_answer_s_may_be_missing(name, how):
    right = body(how + " + b")
    assert sentence(body("a + b"), right).startswith(f"`{name}` is missing, around `a`")
    assert not any(how in source for source, *_ in fixes(body("a + b"), body("a + b"))), "the answer has no such call"
    wrong, kernel = (KERNEL.replace("tl.sqrt(x)", value) for value in ("x", f"tl.{name}(x)"))
    found = [said for source, said, _ in fixes(wrong, kernel) if f"tl.{name}(x)" in source and "missing" in said]
    assert bool(found) == (name not in ("sum", "max"))


@pytest.mark.parametrize(("wrong", "right", "said"), [
    ("a * 3", "a * 2", "3 stands where 2 belongs, in `return a * 3`."), ("a * 3", "a * 6", "3 stands where 6 belongs"),
    ("a * 4", "a * 2", "4 stands where 2 belongs"), ("a * 256", "a * 257", "256 stands where 257 belongs"),
    ("a * 257", "a * 257000", "257 stands where 257,000 belongs"),
    ("a * 257", "a * 77", "257 stands where 77 belongs"), ("a * 7.5", "a * 7", None), ("a * 3", "a * 1.5", None),
    ("a * 3.0", "a * 1.5", "3.0 stands where 1.5 belongs"), ("a * 5", "a * 0", "5 stands where 0 belongs"),
    ("a * 5", "a * 1", "5 stands where 1 belongs"), ("a * 5", "a * 1000", "5 stands where 1,000 belongs"),
    ("a * 5.0", "a * 1e9", "5.0 stands where 1e+09 belongs"), ("a * 5000", "a * 5", "5,000 stands where 5 belongs"),
    ("a * 5.0", "a * 5e6", "5.0 stands where 5e+06 belongs"), ("a * 5e6", "a * 5.0", "5e+06 stands where 5.0 belongs"),
    ("a * 1", "a * b", "1 stands where `b` belongs"), ("a * 2", "a * b", None), ("a * True", "a * 2", None),
    ("a + 1e-3", "a + 1e-33", "0.001 is not small beside the numbers that come here: ask whether they are 0"),
    ("g(a, 1)", "g(a, b)", "`1` stands where `b` belongs, in `g(a, 1)`."), ("g(a, 2)", "g(a, c)",
    "`2` stands where `c` belongs"),
    ("a.g(2)", "a.g(c)", None), ("a.sum(dim=-1)", "a.sum(dim=1)", "`dim=-1` stands where `dim=1` belongs"),
    ("a.sum(axis=0)", "a.sum(axis=1)", "`axis=0` stands where `axis=1` belongs"),
    ("a.sum(dim=1)", "a.sum()", "`dim=1` should not be there, in `a.sum(dim=1)`."), ("a.sum(dim=b)", "a.sum(dim=0)", None),
    ("sorted(a, key=b)", "sorted(a)", None), ("a.T", "a", "`.T` should not be there, in `a.T`."),
    ("a[b]", "a", "`a[b]` stands where `a` belongs, in `return a[b]`."), ("a[1]", "a[0]",
    "`a[1]` stands where `a[0]` belongs"),
    ("a[1]", "a[2]", "`a[1]` stands where `a[2]` belongs"), ("a[1]", "a[-1]", "`a[1]` stands where `a[-1]` belongs"),
    ("a[None, :]", "a[:, None]", "`a[None, :]` stands where `a[:, None]` belongs"),
    ("a[:, None]", "a[None, :]", "`a[:, None]` stands where `a[None, :]` belongs"),
    ("torch.sum(a)", "torch.sum(a[:, None])", "`a` stands where `a[:, None]` belongs"),
    ("torch.sum(a)", "torch.sum(a[None, :])", "`a` stands where `a[None, :]` belongs"),
    ("torch.sum(a)", "torch.sum(a.T)", "`a` stands where `a.T` belongs"), ("sum(a)", "sum(a.T)", None),
    ("torch.sum(a)", "torch.sum(~a)", "A `~` is missing, before `a`: the opposite is wanted."), ("sum(a)", "sum(~a)", None),
    ("sum(a)", "sum(-a)", "A minus sign is missing, before `a`."), ("-a", "a", "The `-` should not be there, in `-a`."),
    ("~a", "a", "The `~` should not be there"), ("not a", "a", "The `not` should not be there"), ("+a", "a",
    "The `+` should not"),
    ("a or b", "a and b", "`or` stands where `and` belongs, in `a or b`."), ("a and b", "a", "`b` should not be there"),
    ("a < b < c", "a <= b < c", None), ("a in b", "a == b", None),
    ("a.abs()", "a", "`.abs` should not be there, in `a.abs()`."), ("torch.abs(a)", "a", "`abs` should not be there"),
    ("math.sqrt(a)", "a", "`sqrt` should not be there"), ("g(a, b, c)", "g(b, a, c)",
    "`a` and `b` are swapped, in `g(a, b, c)`."),
    ("g(a, b, c)", "g(a, c, b)", "`b` and `c` are swapped"), ("range(a, b)", "range(b, a)",
    None),
    ("max(a, b)", "a + b", "The larger part is taken, and the two add up, in `max(a, b)`."),
    ("a + b", "max(a, b)", "The two parts are added, and the larger alone counts, in `a + b`."),
    ("int(a / b)", "a // b", "`int(a / b)` stands where `a // b` belongs, which is rounded down, in"),
    ("a & b", "a | b", "`&` stands where `|` belongs, in `a & b`."), ("a | b", "a & b", "`|` stands where `&` belongs"),
    ("a * 2", "a / 2", "`*` stands where `/` belongs"), ("a * 2", "a // 2", "`*` stands where `//` belongs"),
    ("a / 2", "a * 2", "`/` stands where `*` belongs"), ("a // 2", "a / 2", "`//` stands where `/` belongs"),
    ("a + 2", "a - 2", None), ("a * b * c", "a", "`* b * c` should not be there, in `a * b * c`."),
    ("a + b", "b", "`a +` should not be there, in `a + b`."), ("a - b", "a", "`- b` should not be there"), ("a - b", "b",
    None),
    ("a / b", "b / a", "The two sides of `/` are swapped, in `a / b`."), ("a @ b", "b @ a",
    "The two sides of `@` are swapped"),
    ("a // b", "b // a", "The two sides of `//` are swapped"), ("a ** b", "b ** a", "The two sides of `**` are swapped"),
    ("a % b", "b % a", "The two sides of `%` are swapped"), ("a ^ b", "a ** b",
    "`^` is no power in Python: `**` is, in `a ^ b`."),
    ("a / 2**10", "a / 1000", "`2 ** 10` stands where 1,000 belongs, in `return a / 2 ** 10`."), ("a / 2**10", "a / 10**6",
    None), ("a / 2**20", "a / 1000000",
    "`2 ** 20` stands where 1,000,000"),
    ("a / 2**40", "a / 1000000000000", "`2 ** 40` stands where 1,000,000,000,000 belongs"),
    ("a * b + c", "a * (b + c)", "Parentheses are missing or wrong, in `a * b + c`: `a * (b + c)` is meant."),
    ("(a + b) * c", "a * c + b", "`a * c + b` is meant."), ("a / b**2 - c", "a / b**(2 - c)",
    "`a / b ** (2 - c)` is meant."),
    ("a * b - 1 + c", "a * (b - 1 + c)", "is meant."),
    ("a - (b + c)", "a - b + c", "`a - b + c` is meant."), ("a + 2 * b + c", "2 * (a + b + c)",
    "The factor 2 belongs to every"),
    ("a, b, c", "b, a, c", "Gives back the results in another order"), ("a, b", "a",
    "Only `a` is wanted, in `return (a, b)`."),
    ("a", "a + b", "`+ b` is missing, at `a`."), ("a", "a - c", "`- c` is missing"), ("a", "a / c", "`/ c` is missing"),
    ("a", "a + 1", "`+ 1` is missing, at `a`.")])
def test_one_change_mends_it_and_is_said(wrong, right, said):
    meant = ast.unparse(ast.parse(body(right)))
    found = [sentence for source, sentence, _ in fixes(body(wrong), body(right)) if ast.unparse(ast.parse(source)) == meant]
    assert not found if said is None else found and said.lower() in found[0].lower(), found


@pytest.mark.parametrize(("number", "others"), [
    ("3", {4, 2, 6, 0, 1, 10**3, 10**6, 10**9, 10**12, 3000, 3_000_000}),
    ("4", {5, 3, 8, 2, 0, 1, 10**3, 10**6, 10**9, 10**12, 4000, 4_000_000}),
    ("256", {257, 255, 512, 128, 0, 1, 2, 10**3, 10**6, 10**9, 10**12, 256_000, 256_000_000}),
    ("257", {0, 1, 2, 10**3, 10**6, 10**9, 10**12, 257_000, 257_000_000}),
    ("3.0", {4, 2, 6, 1.5, 0, 1, 10**3, 10**6, 10**9, 10**12, 3000, 3e6, 3e-3, 3e-6}),
    ("0.002", {1.002, -0.998, 0.004, 0.001, 0, 1, 2, 1e3, 1e6, 1e9, 1e12, 2000, 2e-6, 2e-9}),
    ("0.001", {1.001, -0.999, 0.002, 0.0005, 0, 1, 2, 1e3, 1e6, 1e9, 1e12, 1e-6, 1e-9, 1e-33})])
def test_what_numbers_may_be_meant(number, others):
    found = [ast.parse(text).body[0].body[0].value for text, *_ in fixes(body(f"g(a, {number})"), body("g(a, b)"))]
    numbers = {ast.literal_eval(call.args[1]) for call in found if isinstance(call, ast.Call) and len(call.args) == 2
               and isinstance(call.args[1], ast.Constant | ast.UnaryOp)} - {-ast.literal_eval(number),
                   ast.literal_eval(number)}
    assert sorted(numbers) == pytest.approx(sorted(others), rel=1e-12)


@pytest.mark.parametrize(("wrong", "right", "said"), [
    ("t = a", "t += a", "`t =` replaces what was added up so far: `+=` belongs there, in `t = a`."),
    ("t += a", "t -= a", "`+=` stands where `-=` belongs, in `t += a`."), ("t -= a", "t += a",
    "`-=` stands where `+=` belongs"),
    ("t += a", "t *= a", "`+=` stands where `*=` belongs"), ("t += a", "pass", "The line `t += a` should not be there."),
    ("t = a", "pass", "The line `t = a` should not be there."), ("continue", "pass",
    "The `continue` should not be there: the loop"),
    ("break", "pass", "The `break` should not be there: the loop must go on."), ("if a: t = 2", "if -a: t = 2",
    "A minus sign is")])
def test_one_statement_of_a_loop_mends_it(wrong, right, said):
    source = "def f(a, b):\n    t = 0\n    for i in b:\n        t = t\n        {}\n    return t\n"
    assert sentence(source.format(wrong), source.format(right)).startswith(said)


@pytest.mark.parametrize(("wrong", "right", "said"), [
    ("range(tl.cdiv(K, BLOCK))", "range(0, K, BLOCK)", "`i` counts blocks, and the loop's body takes it for the place of an "
     "element: `range(0, K, BLOCK)` counts so."),
    ("range(0, tl.cdiv(K, BLOCK))", "range(0, K, BLOCK)", "`i` counts blocks"),
    ("range(0, K, BLOCK)", "range(tl.cdiv(K, BLOCK))",
    "`i` is the place of an element, and the body takes it for the number"),
    ("range(0, K, stride_x)", "range(0, K, BLOCK)", None), ("range(0, M, BLOCK)", "range(0, K, BLOCK)",
    "`M` stands where `K`")])
def test_the_steps_of_a_kernel_s_loop(wrong, right, said):
    source = "def f(x_ptr, M, K, stride_x, BLOCK: tl.constexpr):\n    for i in {}:\n        tl.store(x_ptr + i, 0)\n"
    meant = source.format(right)
    found = [said for text, said, _ in fixes(source.format(wrong), meant) if text == meant]
    assert not found if said is None else found[0].startswith(said)


@pytest.mark.parametrize(("name", "others"), [
    ("M", {"K", "stride_x", "stride_y"}), ("stride_x", {"stride_y", "M", "K"}), ("BLOCK_M", {"BLOCK_K"}), ("x_ptr",
    {"y_ptr"}),
    ("rm", {"rk"}), ("offs", set()), ("far", {"fur"})])
def test_what_name_may_be_meant_in_a_kernel(name, others):
    head = "def f(x_ptr, y_ptr, M, K, stride_x, stride_y, BLOCK_M, BLOCK_K):\n    rm, rk, offs, far, fur = 1, 2, 3, 4, 5\n"
    names = "x_ptr", "y_ptr", "M", "K", "stride_x", "stride_y", "BLOCK_M", "BLOCK_K", "rm", "rk", "offs", "far", "fur"
    source, answer = head + f"    tl.store(x_ptr, {name})\n", head + f"    f({', '.join(names)}, tl.store)\n"
    found = {text: said for text, said, _ in fixes(source, answer)}
    meant = {other: found.get(ast.unparse(ast.parse(head + f"    tl.store(x_ptr, {other})\n")) + "\n",
        "") for other in names}
    assert {other for other, said in meant.items() if f"`{name}` stands where `{other}` belongs" in said} == others


HEAD = "def k(x_ptr, y_ptr, M, N):\n"
ALL_SIGNS = HEAD + "    tl.store(y_ptr, max(tl.dot(x_ptr, M), M + M - M * M / M // M % M ** N & M | N) + 1 + 2 + 8)\n"


@pytest.mark.parametrize(("wrong", "right", "may"), [
    ("M + N", "M - N", True), ("M * N", "M / N", True), ("M + N", "max(M, N)", False), ("M * N", "M", True),
    ("M * N", "N", True), ("M & N", "M", False), ("M & N", "N", False), ("M & N", "M | N", True), ("M | N", "M", True),
    ("x_ptr + M", "x_ptr - M", False), ("x_ptr + M", "x_ptr", False), ("x_ptr + 8", "x_ptr", True),
    ("x_ptr + M * N", "x_ptr + M / N", True), ("x_ptr + M * 2", "x_ptr + M / 2", True),
    ("tl.arange(0, 8) * M", "tl.arange(0, 8) / M", False), ("tl.arange(0, 8) * M", "tl.arange(0, 8)", False),
    ("tl.arange(0, 8) + 1", "tl.arange(0, 8)", True), ("M.to(tl.int64) * N", "M.to(tl.int64) / N", False),
    ("M.to(tl.int64) * N", "M.to(tl.int64)", True), ("M * N", "tl.dot(M, N)", True), ("M + N", "tl.dot(M, N)", False),
    ("M * tl.dot(M, N)", "tl.dot(M, tl.dot(M, N))", False), ("M * N + M", "M * (N + M)", True),
    ("M // N", "-(-M // N)", False), ("M // N", "N // M", True)])
def test_what_may_be_changed_in_a_kernel_s_arithmetic(wrong, right, may):
    """Where an address is made, parts are not dropped and signs not changed; no sign comes that the answer has not."""
    source, meant = (f"{HEAD}    at = {one}\n    tl.store(y_ptr, at)\n" for one in (wrong, right))
    assert (ast.unparse(ast.parse(meant)) + "\n" in {text for text, *_ in fixes(source, ALL_SIGNS)}) == may


@pytest.mark.parametrize(("wrong", "right"), [
    ("a ** 2", "1000"), ("2 ** a", "1000"), ("2 * 8", "1000000"), ("a + 2", "a / 2"), ("a * b + c", "a"),
    ("a * b - c", "a * c"), ("(a + b) * c", "a"), ("a / b", "b"), ("a ** b", "b"), ("a * b", "tl.dot(a, b)"),
    ("a * b", "b * a"), ("a - b", "max(a, b)"),
    ("a % b", "b % a > 0"), ("a * b", "-(-a * b)"), ("a + 2 * b", "a + 2 + b + 1")])
def test_what_is_no_change_of_one_thing(wrong, right):
    meant = ast.unparse(ast.parse(body(right)))
    assert meant not in {ast.unparse(ast.parse(source)) for source, *_ in fixes(body(wrong), body("a"))}


WHOLE = ["return a, b", "return b, a", "return a", "t = a\n    return t", "t += a\n    return t", "tl.store(b, a)"]
PARTS = ["return a + b", "return b + a", "return a < b", "return b < a < c", "return a.t(b)", "return g(b, a)",
         "return b.g(a)", "return a[b]", "if a:\n        return b", "return tl.g(a)", "return b[a + c]"]


@pytest.mark.parametrize("lines", WHOLE + PARTS)
def test_where_a_call_or_a_factor_may_be_missing(lines):
    def changed(text):
        """It with the change, as Python writes it."""
        return ast.unparse(ast.parse(head + re.sub(r"\ba\b", text, lines) + "\n"))

    head = "def f(a, b, c):\n    "
    found = {ast.unparse(ast.parse(source)): said for source, said, _ in fixes(head + lines + "\n", body("a.abs()"))}
    assert found[changed("a.abs()")] == "`abs` is missing, around `a`."
    assert found[changed("(-a)")] == "A minus sign is missing, before `a`."
    assert (changed("(a * 1000)") in found) == (changed("(a + 1)") in found) == (lines in WHOLE)


@pytest.mark.parametrize(("wrong", "right"), [
    ("a.append(b)", "a.abs().append(b)"), ("torch.g(b)", "torch.abs().g(b)"), ("a * 3", "a * (3).abs()"),
    ("a * 3", "a * -3"), ("range(a)", "a"), ("tl.load(a)", "a"), ("tl.program_id(a)", "a"),
    ("torch.zeros(a, b)", "torch.zeros(b, a)"),
    ("tl.store(a, b)", "tl.store(b, a)"), ("g(*a, b)", "g(b, *a)"), ("max(a, b, c)", "a + b"), ("torch.max(a, b)", "a + b"),
    ("g(a * b)", "a // b"), ("a.g(mask=b)", "a.g()"), ("a.b.float32", "a.b.float16"), ("any(a)", "items(a)"),
    ("a.sum(axis=b)", "a.sum(axis=0)"), ("'a'", "b"), ("a is b", "a < b"),
    ("a == b == c", "a != b == c"), ("a, b, c", "a, c, b"), ("a.Q", "a"), ("a[b]", "a[0]"), ("a['x']", "a[1]"),
    ("ceil(a)", "floor(a)"), ("a * b", "a * t")])
def test_what_is_no_change_that_is_tried(wrong, right):
    meant = ast.unparse(ast.parse(body(right))) + "\n"
    assert meant not in {source for source, *_ in fixes(body(wrong), body("a.abs()"))}


@pytest.mark.parametrize(("wrong", "right", "may"), [
    ("x[0] = a", "pass", False), ("x = a", "pass", True), ("x = a[0]", "x = a[1]", True),
    ("x.y = a", "x.y += a", False), ("x, y = a", "x, y += a", False), ("x *= a", "x += a", True), ("x *= a", "x -= a", True),
    ("for x, y, z in a: pass", "for y, x, z in a: pass", False), ("for x, y in a: pass", "for y, x in a: pass", True),
    ("x = a.T", "x = a", True), ("a.T = x", "a = x", False), ("print(a)", "pass", False)])
def test_which_statements_may_be_changed(wrong, right, may):
    sources = {source for source, *_ in fixes(f"def f(a, x):\n    {wrong}\n    return x\n", body("a.abs()"))}
    try:
        meant = ast.unparse(ast.parse(f"def f(a, x):\n    {right}\n    return x\n")) + "\n"
    except SyntaxError:
        meant = right
    assert (meant in sources) == may


@pytest.mark.parametrize(("wrong", "right", "may"), [
    ("M = tl.load(x_ptr)", "pass", False), ("M = N", "pass", True), ("M = N[0]", "M = N", False), ("M = -N", "M = N", True),
    ("M = N", "M = ~N", False), ("M = N", "M = N.T", False), ("M = N[0]", "M = N[1]", True), ("M = 3", "M = 1000", False),
    ("M = 3", "M = 4", True), ("M = 1", "M = N", False), ("M = g(1)", "M = g(N)", False), ("M = N", "M = N * 8", True)])
def test_which_changes_are_tried_in_a_kernel(wrong, right, may):
    head, answer = "def k(x_ptr, M, N):\n    ", "    torch, tl.load(x_ptr, ~M, -N * 8 * M + N)\n"
    sources = {source for source, *_ in fixes(f"{head}{wrong}\n    tl.store(x_ptr, M)\n", head[:-4] + answer)}
    assert (ast.unparse(ast.parse(f"{head}{right}\n    tl.store(x_ptr, M)\n")) + "\n" in sources) == may


def test_a_line_that_stands_there_twice_tells_no_place_apart():
    twice = "def f(a, b):\n    t = max(a, b)\n    t = max(a, b)\n    return t\n"
    said = [said for _, said, _ in fixes(twice, body("a"))]
    assert "`max` stands where `min` belongs, in `max(a, b)`." in said
    assert not any(" of `t = max(a, b)`" in one for one in said)
