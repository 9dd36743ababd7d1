"""What no compiler prints: names that nothing defines, operations that nobody knows, strings on both sides of a region."""

import pytest
from test_executor_text import parsed

from checks.executor import Malformed, Module, Unsupported

HEAD = """module {
tt.func public @k(%n: i32, %c: i1) attributes {noinline = false} {
"""
TAIL = """tt.return
}
tt.func private @f(%a: i32) -> i32 attributes {noinline = true} {
tt.return %a : i32
}
}
"""
FOR = "%s = scf.for %i = {} to {} step {} iter_args(%t = {}) -> (i32)  : i32 {{\nscf.yield {} : i32\n}}"
WHILE = ("%s = scf.while (%t = {}) : (i32) -> i32 {{\nscf.condition({}) {} : i32\n}} do {{\n^bb0(%u: i32):\n"
         "scf.yield {} : i32\n}}")
PLACES = {  # each {} is the place of a name, all of i32 but the conditions
    "%s = arith.addi {}, {} : i32": "nn", "%s = arith.extsi {} : i32 to i64": "n", "%s = arith.cmpi slt, {}, {} : i32": "nn",
    "%s = arith.select {}, {}, {} : i1, i32": "cnn", "%s = tt.call @f({}) : (i32) -> i32": "n",
    'tt.print "s" {{hex = false, isSigned = array<i32: 1, 1>}} : {}, {} : i32, i32': "nn",
    "scf.if {} {{\n}}": "c", "%s = scf.if {} -> (i32) {{\nscf.yield {} : i32\n}} else {{\nscf.yield {} : i32\n}}": "cnn",
    FOR: "nnnnn", WHILE: "ncnn", "cf.br ^a({} : i32)\n^a(%s: i32):": "n",
    "cf.br ^a({}, {} : i32, i32)\n^a(%s: i32, %t: i32):": "nn",
    "cf.cond_br {}, ^a({} : i32), ^b({} : i32)\n^a(%s: i32):\ntt.return\n^b(%t: i32):": "cnn",
}


@pytest.mark.parametrize("text", PLACES)
def test_names_in_each_place(text):
    given = [f"%{kind}" for kind in PLACES[text]]
    Module(HEAD + text.format(*given) + "\n" + TAIL)
    for place in range(len(given)):
        unknown = [*given[:place], "%nowhere", *given[place + 1:]]
        with pytest.raises(Malformed, match="uses %nowhere, which is not defined"):
            Module(HEAD + text.format(*unknown) + "\n" + TAIL)


USES = "%z = arith.addi %v, %n : i32\n"
DEFINES = "%v = arith.addi %n, %n : i32\n"


@pytest.mark.parametrize(("lines", "known"), [
    (DEFINES + USES, True), (USES + DEFINES, False), (DEFINES + "scf.if %c {\n" + USES + "}\n", True),
    ("scf.if %c {\n" + DEFINES + "}\n" + USES, False), ("scf.if %c {\n" + DEFINES + "} else {\n" + USES + "}\n", False),
    (f"scf.if %c {{\n{DEFINES}scf.if %c {{\n{USES}}}\n}}\n", True),
    *((FOR.format("%n", "%n", "%n", "%n", "%t").replace(name, "%v") + "\n" + USES, name == "%s")
      for name in ("%s", "%t", "%i"))])
def test_where_a_name_is_known(lines, known):
    if known:
        Module(HEAD + lines + TAIL)
        return
    with pytest.raises(Malformed, match="uses %v, which is not defined"):
        Module(HEAD + lines + TAIL)


@pytest.mark.parametrize("line", [
    "tt.unheard_of %n : i32", "tt.unheard_of %n, %n {kind = 3 : i32} : i32, i32", "tt.unheard_of", "gpu.unheard_of",
    "tt.descriptor_store %n, %n : i32, i32", "%r = tt.unheard_of %n : i32", "%r:2 = tt.unheard_of %n : (i32) -> (i32, i32)",
    "%r = tt.unheard_of : i32", "tt.unheard_of %n {\n} : i32", '"tt.unheard_of"(%n) ({\n}) : (i32) -> ()'])
@pytest.mark.parametrize("around", ["{}", "scf.if %c {{\n{}\n}}", "scf.if %c {{\n}} else {{\n{}\n}}"])
def test_no_unknown_operation_is_passed_over(around, line):
    name = "descriptor_store" if "descriptor" in line else "unheard_of"
    with pytest.raises(Unsupported, match=name):
        Module(HEAD + around.format(line) + "\n" + TAIL)


@pytest.mark.parametrize(("before", "behind"), [(a, b) for a in range(3) for b in range(3)])
def test_strings_before_and_behind_a_region(before, behind):
    """Each attribute has its own, wherever it stands."""
    named = [{f"{where}{i}": f"{where} string {i}" for i in range(count)}
             for where, count in (("a", before), ("b", before), ("c", behind))]
    first, second, third = (", ".join(["n = 0 : i32", *(f'{name} = "{text}"' for name, text in part.items())])
                            for part in named)
    op = parsed(f'%2 = "tt.reduce"(%v) <{{{first}}}> ({{', "^bb0(%p: f32):", f"}}, {{{second}}}, {{",
                "^bb0(%q: f32):", f"}}) {{{third}}} : (tensor<8xf32>) -> f32", "tt.return")[0]
    assert op.attributes == {"n": 0} | named[0] | named[1] | named[2]
    assert (op.name, len(op.regions), op.operands) == ("tt.reduce", 2, ["%v"])
    assert op.strings == ["tt.reduce", *(text for part in named for text in part.values())]


@pytest.mark.parametrize("end", ["tt.return", "scf.yield", "cf.br ^a", "cf.cond_br %c, ^a, ^a", "scf.condition(%c)",
                                 "tt.reduce.return %n : i32", "tt.scan.return %n : i32", "ub.unreachable"])
@pytest.mark.parametrize("around", ["{}", "scf.if %c {{\n{}\n}}"])
def test_nothing_stands_behind_the_end_of_a_block(around, end):
    first, last = "%z = arith.addi %n, %n : i32", "%y = arith.addi %n, %n : i32"
    for lines in ([first, end, last], [end, last], [first, end, end]):
        with pytest.raises(Malformed, match=f"{end.split('(')[0].split()[0]} is not at the end of its block"):
            Module(HEAD + around.format("\n".join([*lines, "tt.return" if around == "{}" else "scf.yield"])) + "\n" + TAIL)


TYPED = {"%s = arith.addi {}, {} : i32": "nn", "%s = arith.extsi {} : i32 to i64": "n",
         "tt.print \"s\" : {}, {} : i32, i1": "nc",
         "%s = tt.call @f({}) : (i32) -> i32": "n", "%s = arith.cmpi slt, {}, {} : i1": "cc",
         "scf.if %c {{\nscf.yield {}, {} : i32, i1\n}}": "nc",
         "%s:2 = tt.unheard_of {}, {} : (i1, i32) -> (i32, i32)": "cn", "%s = math.fma {}, {}, {} : i1": "ccc"}


@pytest.mark.parametrize("text", TYPED)
def test_each_operand_has_its_type(text):
    kinds = {"n": "i32", "c": "i1"}
    for place, kind in enumerate(TYPED[text]):
        other = "c" if kind == "n" else "n"
        given = [f"%{other if i == place else each}" for i, each in enumerate(TYPED[text])]
        with pytest.raises(Malformed, match=f"takes %{other} for {kinds[kind]}, but it is {kinds[other]}"):
            Module(HEAD + text.format(*given) + "\n" + TAIL)
