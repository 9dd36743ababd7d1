"""Blocks that programs come to by different ways: what each carries there, and who goes on to where."""

import pytest
import torch

from checks.executor import Malformed, Module

HEAD = """module {
tt.func public @k(%x: !tt.ptr<i32>, %n: i32) attributes {noinline = false} {
%one = arith.constant 1 : i32
%ten = arith.constant 10 : i32
%p = tt.get_program_id x : i32
%r = arith.addi %p, %ten : i32
%small = arith.cmpi slt, %p, %n : i32
%first = arith.cmpi slt, %p, %one : i32
"""
STORED = """%q = tt.addptr %x, %p : !tt.ptr<i32>, i32
tt.store %q, %v : !tt.ptr<i32>
"""
END = "tt.return\n}\n"
LAST = "^end(%v: i32):\n" + STORED + END
WAYS = {  # blocks, and what program p stores where n programs are small; 99 is what was there
    "one way past a block": ("cf.cond_br %small, ^end(%p : i32), ^other\n^other:\ncf.br ^end(%r : i32)\n" + LAST,
                             lambda p, n: p if p < n else p + 10),
    "the other way past it": ("cf.cond_br %small, ^other, ^end(%p : i32)\n^other:\ncf.br ^end(%r : i32)\n" + LAST,
                              lambda p, n: p + 10 if p < n else p),
    "both ways at once": ("cf.cond_br %small, ^end(%p : i32), ^end(%r : i32)\n" + LAST, lambda p, n: p if p < n else p + 10),
    "through a block each": (
        "cf.cond_br %small, ^a, ^b\n^a:\ncf.br ^end(%p : i32)\n^b:\ncf.br ^end(%r : i32)\n" + LAST,
        lambda p, n: p if p < n else p + 10),
    "three ways": (
        "cf.cond_br %small, ^a, ^end(%ten : i32)\n^a:\ncf.cond_br %first, ^end(%r : i32), ^b(%p : i32)\n"
        "^b(%w: i32):\ncf.br ^end(%w : i32)\n" + LAST, lambda p, n: (p + 10 if p < 1 else p) if p < n else 10),
    "one ends before": ("cf.cond_br %small, ^end(%r : i32), ^out\n^out:\ntt.return\n" + LAST,
                        lambda p, n: p + 10 if p < n else 99),
    "all one way": ("cf.br ^end(%r : i32)\n" + LAST, lambda p, n: p + 10),
}


@pytest.mark.parametrize("n", [0, 2, 4])
@pytest.mark.parametrize("ways", WAYS)
def test_each_program_brings_what_its_way_gave(ways, n):
    blocks, want = WAYS[ways]
    x = torch.full((4,), 99, dtype=torch.int32)
    assert Module(HEAD + blocks + "}").run((4,), {"x": x, "n": n}).fine
    assert x.tolist() == [want(p, n) for p in range(4)]


RETURNS = """tt.func private @f(%p: i32, %n: i32) -> (i32, i32) attributes {noinline = true} {
%ten = arith.constant 10 : i32
%one = arith.constant 1 : i32
%r = arith.addi %p, %ten : i32
%small = arith.cmpi slt, %p, %n : i32
%first = arith.cmpi slt, %p, %one : i32
cf.cond_br %small, ^a, ^b
^a:
cf.cond_br %first, ^c, ^d
^b:
tt.return %r, %p : i32, i32
^c:
tt.return %p, %ten : i32, i32
^d:
tt.return %ten, %r : i32, i32
}
"""
CALL = "%v, %w = tt.call @f(%p, %n) : (i32, i32) -> (i32, i32)\n"


@pytest.mark.parametrize("condition", ["", "%odd"])
@pytest.mark.parametrize("n", [0, 2, 4])
def test_what_a_call_returns_to_each_program(n, condition):
    """In a branch too, which only odd programs take."""
    called = CALL + "%d = arith.subi %v, %w : i32\n" + STORED.replace("%v", "%d")
    if condition:
        called = f"%bit = arith.andi %p, %one : i32\n%odd = arith.cmpi eq, %bit, %one : i32\nscf.if %odd {{\n{called}}}\n"
    x = torch.full((4,), 99, dtype=torch.int32)
    assert Module(HEAD + called + END + RETURNS + "}").run((4,), {"x": x, "n": n}).fine
    found = [(10 - (p + 10) if p >= 1 else p - 10) if p < n else p + 10 - p for p in range(4)]
    assert x.tolist() == [v if p % 2 or not condition else 99 for p, v in enumerate(found)]


@pytest.mark.parametrize("calls", [3, 70])
def test_calls_count_where_they_lie_in_each_other(calls):
    x = torch.zeros(4, dtype=torch.int32)
    text = HEAD + "".join(CALL.replace("%v, %w", f"%v{i}, %w{i}") for i in range(calls)) + STORED.replace("%v", "%v1")
    assert Module(text + END + RETURNS + "}").run((4,), {"x": x, "n": 0}).fine
    assert x.tolist() == [10, 11, 12, 13]


@pytest.mark.parametrize("n", [0, 2])
def test_a_jump_back_is_refused(n):
    back = "cf.br ^a\n^b:\ntt.return\n^a:\ncf.cond_br %small, ^b, ^b\n}\n"
    with pytest.raises(Malformed, match="a jump back"):
        Module(HEAD + back + "}").run((4,), {"x": torch.zeros(4, dtype=torch.int32), "n": n})


@pytest.mark.parametrize("n", [-1, 0, 1, 2, 4])
@pytest.mark.parametrize("inner", ["%same", "%first", "%small"])
@pytest.mark.parametrize("other", [True, False])
def test_a_branch_in_a_branch_is_for_those_who_came_to_it(inner, other, n):
    """Also where its condition is the same for all, or holds for all of them."""
    odd = "%bit = arith.andi %p, %one : i32\n%odd = arith.cmpi eq, %bit, %one : i32\n"
    odd += "%same = arith.cmpi sgt, %n, %one : i32\n"
    more = f"}} else {{\n{STORED.replace('%v', '%r')}" if other else ""
    text = HEAD + odd + f"scf.if %odd {{\nscf.if {inner} {{\n{STORED.replace('%v', '%ten')}{more}}}\n}}\n" + END + "}"
    x = torch.full((4,), 99, dtype=torch.int32)
    assert Module(text).run((4,), {"x": x, "n": n}).fine
    holds = {"%same": lambda p: n > 1, "%first": lambda p: p < 1, "%small": lambda p: p < n}[inner]
    assert x.tolist() == [99 if p % 2 == 0 else 10 if holds(p) else p + 10 if other else 99 for p in range(4)]


def test_a_function_of_any_name_is_called():
    name = '"a function(x), {1}"'
    called = (CALL + STORED).replace("@f", f"@{name}")
    x = torch.full((4,), 99, dtype=torch.int32)
    assert Module(HEAD + called + END + RETURNS.replace("@f", f"@{name}") + "}").run((4,), {"x": x, "n": 0}).fine
    assert x.tolist() == [10, 11, 12, 13]
