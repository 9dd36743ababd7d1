"""What is read of each kind of line: results, operands, words, attributes, types and the place."""

import pytest

from checks.executor import LimitExceeded, Limits, Malformed
from checks.executor.ir import Op, Place
from checks.executor.parse import Parser, split_outside
from checks.executor.types import Type


def parsed(*lines: str, **limits: int) -> list[Op]:
    head = "tt.func public @k(%x: !tt.ptr<f32> {tt.divisibility = 16 : i32}, %n: i32) attributes {noinline = false} {"
    (block,) = Parser("\n".join(["module {", head, *lines, "}", "}"]), Limits(**limits)).functions["k"].blocks
    return block.ops


def types(*names: str) -> list[Type]:
    return [Type(name) for name in names]


TILE, POINTERS = "tensor<8x4xf32>", "tensor<8x!tt.ptr<f16>>"
LINES = {  # line: name, results, operands, types of operands and of results, and what else it has
    "%c = arith.constant 7 : i32": ("arith.constant", ["%c"], [], ["i32"], ["i32"], {"words": "7"}),
    "%c = arith.constant dense<[1, 2]> : tensor<2xi32>": (
        "arith.constant", ["%c"], [], ["tensor<2xi32>"], ["tensor<2xi32>"], {"words": "dense<[1, 2]>"}),
    "%true = arith.constant true": ("arith.constant", ["%true"], [], ["i1"], ["i1"], {"words": "true"}),
    '%c = arith.constant dense<"0x0102"> : tensor<2xi8>': (
        "arith.constant", ["%c"], [], ["tensor<2xi8>"], ["tensor<2xi8>"], {"strings": ["0x0102"]}),
    "%0 = arith.addi %n, %c_1 : i32": ("arith.addi", ["%0"], ["%n", "%c_1"], ["i32"], ["i32"], {}),
    "%0 = arith.addi %3#0, %3#1 : i32": ("arith.addi", ["%0"], ["%3#0", "%3#1"], ["i32"], ["i32"], {}),
    f"%0 = arith.cmpi slt, %a, %b : {TILE}": (
        "arith.cmpi", ["%0"], ["%a", "%b"], [TILE], ["tensor<8x4xi1>"], {"words": "slt, %a, %b"}),
    "%0 = arith.cmpf olt, %a, %b : f32": ("arith.cmpf", ["%0"], ["%a", "%b"], ["f32"], ["i1"], {}),
    f"%0 = arith.select %c, %a, %b : tensor<8x4xi1>, {TILE}": (
        "arith.select", ["%0"], ["%c", "%a", "%b"], ["tensor<8x4xi1>", TILE], [TILE], {}),
    "%0 = arith.extsi %a : i32 to i64": ("arith.extsi", ["%0"], ["%a"], ["i32"], ["i64"], {}),
    "%low, %high = arith.mulsi_extended %a, %b : i32": (
        "arith.mulsi_extended", ["%low", "%high"], ["%a", "%b"], ["i32"], ["i32", "i32"], {}),
    "%low, %high = arith.mului_extended %a, %b : i32": (
        "arith.mului_extended", ["%low", "%high"], ["%a", "%b"], ["i32"], ["i32", "i32"], {}),
    "%0 = tt.get_program_id x : i32": ("tt.get_program_id", ["%0"], [], ["i32"], ["i32"], {"words": "x"}),
    "%0 = tt.make_range {end = 8 : i32, start = -4 : i32} : tensor<12xi32>": (
        "tt.make_range", ["%0"], [], ["tensor<12xi32>"], ["tensor<12xi32>"], {"attributes": {"end": 8, "start": -4}}),
    f"%0 = tt.splat %p : !tt.ptr<f16> -> {POINTERS}": ("tt.splat", ["%0"], ["%p"], ["!tt.ptr<f16>"], [POINTERS], {}),
    f"%0 = tt.addptr %a, %b : {POINTERS}, tensor<8xi32>": (
        "tt.addptr", ["%0"], ["%a", "%b"], [POINTERS, "tensor<8xi32>"], [POINTERS], {}),
    f"%0 = tt.load %a, %m, %o evictionPolicy = evict_first : {POINTERS}": (
        "tt.load", ["%0"], ["%a", "%m", "%o"], [POINTERS], ["tensor<8xf16>"],
        {"words": "%a, %m, %o evictionPolicy = evict_first"}),
    f"tt.store %a, %v, %m : {POINTERS}": ("tt.store", [], ["%a", "%v", "%m"], [POINTERS], [], {}),
    f"%a, %b = tt.split %j : tensor<8x4x2xf32> -> {TILE}": (
        "tt.split", ["%a", "%b"], ["%j"], ["tensor<8x4x2xf32>"], [TILE, TILE], {}),
    f"%0 = tt.trans %a {{order = array<i32: 1, 0>}} : {TILE} -> tensor<4x8xf32>": (
        "tt.trans", ["%0"], ["%a"], [TILE], ["tensor<4x8xf32>"], {"attributes": {"order": [1, 0]}}),
    f"%0 = tt.gather %a[%i] {{axis = 1 : i32}} : ({TILE}, tensor<8x4xi32>) -> {TILE}": (
        "tt.gather", ["%0"], ["%a", "%i"], [TILE, "tensor<8x4xi32>"], [TILE],
        {"attributes": {"axis": 1}, "words": "%a[%i]"}),
    f"%0 = tt.dot %a, %b, %c, inputPrecision = tf32 : {TILE} * tensor<4x8xf32> -> tensor<8x8xf32>": (
        "tt.dot", ["%0"], ["%a", "%b", "%c"], [TILE, "tensor<4x8xf32>"], ["tensor<8x8xf32>"],
        {"words": "%a, %b, %c, inputPrecision = tf32"}),
    '%0 = tt.extern_elementwise %a {libname = "", pure = true, symbol = "__nv_f"} : (f32) -> f32': (
        "tt.extern_elementwise", ["%0"], ["%a"], ["f32"], ["f32"],
        {"attributes": {"libname": "", "pure": True, "symbol": "__nv_f"}, "strings": ["", "__nv_f"]}),
    r'tt.print "a \"b\" {} // : " {hex = false, isSigned = array<i32: 1>} : %a, %b : i32, f32': (
        "tt.print", [], ["%a", "%b"], ["i32", "f32"], [],
        {"strings": [r'a \"b\" {} // : '], "attributes": {"hex": False, "isSigned": [1]}}),
    "%3:12 = tt.call @f() : () -> (i32, i32, i32, i32, i32, i32, i32, i32, i32, i32, i32, i32)": (
        "tt.call", [f"%3#{i}" for i in range(12)], [], [], ["i32"] * 12, {}),
    '%0 = tt.extern_elementwise %a {pure, size = -123456789012 : i64, symbol = "s"} : (f32) -> f32': (
        "tt.extern_elementwise", ["%0"], ["%a"], ["f32"], ["f32"],
        {"attributes": {"pure": True, "size": -123456789012, "symbol": "s"}}),
    "%3:2 = tt.call @f(%a, %b) : (i32, f32) -> (i32, f32)": (
        "tt.call", ["%3#0", "%3#1"], ["%a", "%b"], ["i32", "f32"], ["i32", "f32"], {"words": "@f(%a, %b)"}),
    "%0 = tt.atomic_rmw fadd, acq_rel, gpu, %p, %v, %m : (!tt.ptr<f32>, f32, i1) -> f32": (
        "tt.atomic_rmw", ["%0"], ["%p", "%v", "%m"], ["!tt.ptr<f32>", "f32", "i1"], ["f32"], {}),
    "scf.yield %a, %b : i32, f32": ("scf.yield", [], ["%a", "%b"], ["i32", "f32"], [], {}),
    "tt.return": ("tt.return", [], [], [], [], {"words": ""}),
    "cf.br ^bb2": ("cf.br", [], [], [], [], {"edges": [("bb2", [])]}),
    "cf.cond_br %c, ^bb1, ^bb2(%a, %b : i32, f32)": (
        "cf.cond_br", [], ["%c"], [], [], {"edges": [("bb1", []), ("bb2", ["%a", "%b"])]}),
}


@pytest.mark.parametrize("line", LINES)
def test_what_is_read_of_a_line(line):
    name, results, operands, operand_types, result_types, more = LINES[line]
    op = parsed(line)[0]
    assert (op.name, op.results, op.operands) == (name, results, operands)
    assert (op.operand_types, op.types) == (types(*operand_types), types(*result_types))
    assert more == {what: getattr(op, what) for what in more}


def test_what_is_read_of_operations_with_regions():
    loop, condition, reduction, again = parsed(
        "%0:2 = scf.for %i = %a to %b step %c iter_args(%s = %d, %t = %e) -> (i32, f32)  : i32 {",
        "scf.yield %s, %t : i32, f32", "} loc",
        "%1 = scf.if %c -> (i32) {", "scf.yield %a : i32", "} else {", "scf.yield %b : i32", "}",
        '%2 = "tt.reduce"(%v) <{axis = 1 : i32, name = "r"}> ({', "^bb0(%p: f32, %q: f32):", "tt.reduce.return %p : f32",
        '}) {end = "e"} : (tensor<8x4xf32>) -> tensor<8xf32>',
        "%3 = scf.while (%w = %n) : (i32) -> i32 {", "scf.condition(%c) %w : i32", "} do {", "^bb0(%u: i32):", "}",
        "tt.return")[:4]
    assert (loop.results, loop.types, len(loop.regions)) == (["%0#0", "%0#1"], types("i32", "f32"), 1)
    assert loop.loop() == ("%i", ["%a", "%b", "%c"], ["%d", "%e"], ["%s", "%t"])
    assert (condition.operands, condition.types) == (["%c"], types("i32"))
    assert [region[0].ops[0].operands for region in condition.regions] == [["%a"], ["%b"]]
    assert (reduction.name, reduction.operands) == ("tt.reduce", ["%v"])
    assert reduction.attributes == {"axis": 1, "name": "r", "end": "e"}
    assert (reduction.operand_types, reduction.types) == (types(TILE), types("tensor<8xf32>"))
    (body,) = reduction.regions[0]
    assert (body.label, body.args, body.types) == ("bb0", ["%p", "%q"], types("f32", "f32"))
    assert (again.operands, again.operand_types, again.types) == (["%w", "%n"], types("i32"), types("i32"))
    assert [region[0].args for region in again.regions] == [[], ["%u"]]
    assert again.regions[1][0].ops[-1].name == "scf.yield", "which is not printed where it yields nothing"


@pytest.mark.parametrize(("behind", "place"), [
    ("", None), (" ///data/k.py:7", Place("/data/k.py", 7)), (" ///data/a:b/k.py:7", Place("/data/a:b/k.py", 7)),
    (" ///data/a //b/k.py:12", Place("/data/a //b/k.py", 12)),
    (" //k.py:999999999", Place("k.py", 999999999))])
@pytest.mark.parametrize("lines", [
    ["%0 = arith.addi %n, %n : i32{}"], ["scf.if %c {{", "}}{}"], ["scf.if %c {{", "}} else {{", "}}{}"],
    ['%0 = "tt.reduce"(%v) <{{axis = 0 : i32}}> ({{', "^bb0(%p: f32, %q: f32):", "}}) : (tensor<8xf32>) -> f32{}"]])
def test_where_a_line_is_from(lines, behind, place):
    op = parsed(*(line.format(behind) for line in lines))[0]
    assert op.place == place
    assert op.types == ([] if not op.results else types("i32" if op.name == "arith.addi" else "f32"))


@pytest.mark.parametrize("behind", [" //k.py:1000000000", " //k.py:-1", " //k.py:x", " //k.py"])
def test_a_place_without_a_number_of_a_line_is_none(behind):
    with pytest.raises(Malformed):
        parsed(f"%0 = arith.addi %n, %n : i32{behind}")


@pytest.mark.parametrize(("text", "parts"), [
    ("a, b", ["a", " b"]), ("(a, b), c", ["(a, b)", " c"]), ("<a, b>,c", ["<a, b>", "c"]),
    ("[a,b],{c,d}", ["[a,b]", "{c,d}"]), ("(a) -> b, c", ["(a) -> b", " c"]), ("", [""]), ("a,", ["a", ""])])
def test_what_lies_in_brackets_stays_together(text, parts):
    assert split_outside(text, ",") == parts


@pytest.mark.parametrize(("size", "fits"), [(8, True), (9, False)])
@pytest.mark.parametrize("line", ["%a = tt.splat %n : i32 -> tensor<{0}xi32>", "tt.func private @f(%a: tensor<{0}xi32>) {{"])
def test_tiles_of_values_and_of_arguments_have_a_limit(line, size, fits):
    line = line.format(size)
    lines = [line, "}"] if "func" not in line else ["}", line, "tt.return", "}"]
    text = "\n".join(["module {", "tt.func public @k(%n: i32) {", *lines, "}"])
    if fits:
        assert Parser(text, Limits(tile=8)).kernel == "k"
    else:
        with pytest.raises(LimitExceeded, match=r"a tile of \(9,\) has more than 8 elements"):
            Parser(text, Limits(tile=8))


IF, LOOP = ["scf.if %c {", "}"], ["scf.for %i = %n to %n step %n  : i32 {", "}"]


@pytest.mark.parametrize("lines", [IF, LOOP, ["scf.if %c {", "} else {", "}"], [IF[0], *IF, "}"]])
def test_regions_count_where_they_lie_in_each_other(lines):
    depth = 2 + (len(lines) == 4)  # the function's own too
    assert len(parsed(*lines * 9, depth=depth)) == 9 + 1
    with pytest.raises(LimitExceeded, match=f"regions lie more than {depth - 1} deep in each other"):
        parsed(*lines, depth=depth - 1)


@pytest.mark.parametrize(("heads", "kernel"), [
    (["public @k"], "k"), (["@k"], "k"), (["private @f", "public @k"], "k"), (["public @k", "private @f"], "k"),
    (["@k", "private @f"], "k"), (['public @"a kernel <0>"'], "a kernel <0>"), (['public @"f() {"'], "f() {"),
    (["public @_k.1$2"], "_k.1$2"), (["private @f"], None), ([], None)])
def test_which_function_is_the_kernel(heads, kernel):
    functions = [f"tt.func {head}() attributes {{noinline = false}} {{\ntt.return\n}}" for head in heads]
    text = "\n".join(["#loc = loc(unknown)", "module {", *functions, "}", "#loc1 = loc(#loc)"])
    if kernel is None:
        with pytest.raises(Malformed, match="there is no public function"):
            Parser(text, Limits())
    else:
        made = Parser(text, Limits())
        assert made.kernel == kernel and set(made.functions) == {kernel, *["f"] * (len(heads) - 1)}


@pytest.mark.parametrize("more", [0, 1])
def test_a_text_has_so_many_characters_at_most(more):
    text = "module {\ntt.func public @k() {\ntt.return\n}\n}"
    if more:
        with pytest.raises(LimitExceeded, match=f"the text has {len(text)} characters, more than {len(text) - 1}"):
            Parser(text, Limits(text=len(text) - 1))
    else:
        assert Parser(text, Limits(text=len(text))).kernel == "k"
