"""Types, and whether a text uses each value with its own: before anything runs."""

import itertools

import numpy as np
import pytest

from checks.executor import Limits, Malformed
from checks.executor.parse import Parser
from checks.executor.types import Type
from checks.executor.verify import verify

KINDS = {  # as printed: shape, element, what it points at, bytes of an element, how it is held
    "i1": ((), "i1", None, 1, np.bool_), "i8": ((), "i8", None, 1, np.int8), "i16": ((), "i16", None, 2, np.int16),
    "i32": ((), "i32", None, 4, np.int32), "i64": ((), "i64", None, 8, np.int64), "index": ((), "index", None, 8, np.int64),
    "f16": ((), "f16", None, 2, np.float16), "f32": ((), "f32", None, 4, np.float32),
    "f64": ((), "f64", None, 8, np.float64), "bf16": ((), "bf16", None, 2, np.float32),
    "f8E5M2": ((), "f8E5M2", None, 1, np.float32),
    "f8E4M3FN": ((), "f8E4M3FN", None, 1, np.float32), "!tt.ptr<f16>": ((), "ptr", "f16", 8, np.int64),
    "!tt.ptr<f32>": ((), "ptr", "f32", 8, np.int64), "!tt.ptr<f16, 1>": ((), "ptr", "f16", 8, np.int64),
    "!tt.ptr<i8, 23>": ((), "ptr", "i8", 8, np.int64), "tensor<4xf32>": ((4,), "f32", None, 4, np.float32),
    "tensor<8xf32>": ((8,), "f32", None, 4, np.float32), "tensor<4x8xf32>": ((4, 8), "f32", None, 4, np.float32),
    "tensor<8x4xbf16>": ((8, 4), "bf16", None, 2, np.float32),
    "tensor<16x!tt.ptr<f16>>": ((16,), "ptr", "f16", 8, np.int64),
    "tensor<16x!tt.ptr<i8, 1>>": ((16,), "ptr", "i8", 8, np.int64),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_type_says(kind):
    made, (shape, elem, pointee, itemsize, held) = Type(kind), KINDS[kind]
    assert (made.shape, made.elem, made.pointee, made.itemsize, made.dtype) == (shape, elem, pointee, itemsize, held)
    assert made.size == int(np.prod(shape)) and repr(made) == kind.replace(", 1>", ">").replace(", 23>", ">")
    of_bits = made.with_elem("i1")
    assert (of_bits.shape, of_bits.elem, of_bits.pointee) == (shape, "i1", None)
    if pointee:
        assert (made.pointed().shape, made.pointed().elem) == (shape, pointee) and made.shape == shape
    else:
        with pytest.raises(Malformed, match="a pointer was expected"):
            made.pointed()


def test_which_types_are_the_same():
    for a, b in itertools.product(KINDS, KINDS):
        assert (Type(a) == Type(b)) == (KINDS[a][:3] == KINDS[b][:3]) and Type(a) != b, (a, b)


HEAD = "tt.func public @k(%x: !tt.ptr<f32>, %n: i32, %m: i64, %c: i1, %t: tensor<8xf32>) attributes {noinline = false} {"
P, T = "!tt.ptr<f32>", "tensor<8xf32>"
RIGHT = [
    [], ["%a = arith.addi %n, %n : i32"], [f"%a = math.fma %t, %t, %t : {T}"],
    ["%a, %b = arith.mulsi_extended %n, %n : i32"],
    [f"%a = arith.select %c, %x, %x : {P}"], [f"%p = tt.addptr %x, %n : {P}, i32", f"%v = tt.load %p : {P}"],
    ["%o = scf.for %i = %n to %n step %n iter_args(%a = %n) -> (i32)  : i32 {", "%b = arith.addi %a, %i : i32",
     "scf.yield %b : i32", "}", "%d = arith.addi %o, %n : i32"],
    ["%o = scf.for %i = %m to %m step %m iter_args(%a = %n) -> (i32)  : i64 {", "%b = arith.addi %m, %i : i64",
     "scf.yield %a : i32", "}"],
    ["%o = scf.while (%w = %n) : (i32) -> i32 {", "%d = arith.cmpi slt, %w, %n : i32", "scf.condition(%d) %w : i32",
     "} do {", "^bb0(%u: i32):", "%e = arith.addi %u, %n : i32", "scf.yield %e : i32", "}"],
    ["cf.cond_br %c, ^a(%n : i32), ^b", "^b:", "tt.return", "^a(%z: i32):", "%y = arith.addi %z, %n : i32"],
]
WRONG = [  # the last line of each is at fault
    (["%a = arith.addi %n, %b : i32"], "arith.addi uses %b, which is not defined"),
    (["%b = arith.addi %a, %n : i32", "%a = arith.addi %n, %n : i32"], "arith.addi uses %a, which is not defined"),
    (["scf.if %c {", "%a = arith.addi %n, %n : i32", "}", "%b = arith.addi %a, %n : i32"], "uses %a, which is not defined"),
    (["%o = scf.for %i = %n to %n step %n iter_args(%a = %n) -> (i32)  : i32 {", "scf.yield %a : i32", "}",
      "%b = arith.addi %i, %n : i32"], "uses %i, which is not defined"),
    (["%o = scf.for %i = %n to %n step %n iter_args(%a = %n) -> (i32)  : i32 {", "scf.yield %a : i32", "}",
      "%b = arith.addi %a, %n : i32"], "uses %a, which is not defined"),
    (["cf.br ^a(%z : i32)", "^a(%y: i32):"], "cf.br uses %z, which is not defined"),
    (["cf.cond_br %c, ^a, ^b(%z : i32)", "^a:", "tt.return", "^b(%y: i32):"], "cf.cond_br uses %z, which is not defined"),
    (["%a = arith.addi %n, %m : i32"], "arith.addi takes %m for i32, but it is i64"),
    (["%a = arith.addi %m, %n : i32"], "arith.addi takes %m for i32, but it is i64"),
    (["%a = arith.cmpi eq, %n, %m : i32"], "arith.cmpi takes %m for i32, but it is i64"),
    ([f"%a = math.fma %t, %t, %n : {T}"], "math.fma takes %n for tensor<8xf32>, but it is i32"),
    ([f"%a = tt.clampf %t, %t, %n, propagateNan = none : {T}"], "tt.clampf takes %n for tensor<8xf32>, but it is i32"),
    ([f"%a = tt.precise_divf %t, %n : {T}"], "tt.precise_divf takes %n for tensor<8xf32>, but it is i32"),
    (["%a = tt.mulhiui %n, %m : i32"], "tt.mulhiui takes %m for i32, but it is i64"),
    (["%a = tt.addptr %x, %n : !tt.ptr<f16>, i32"], "tt.addptr takes %x for !tt.ptr<f16>, but it is !tt.ptr<f32>"),
    (["%a = tt.splat %t : tensor<4xf32> -> tensor<4xf32>"], "takes %t for tensor<4xf32>, but it is tensor<8xf32>"),
    (["%o = scf.for %i = %m to %m step %m iter_args(%a = %n) -> (i32)  : i64 {", "%b = arith.addi %n, %i : i32",
      "scf.yield %a : i32", "}"], "takes %i for i32, but it is i64"),
    (["%o = scf.for %i = %n to %n step %n iter_args(%a = %n) -> (i32)  : i32 {", "%b = arith.addi %m, %a : i64",
      "scf.yield %a : i32", "}"], "takes %a for i64, but it is i32"),
    (["%o = scf.for %i = %n to %n iter_args(%a = %n) -> (i32)  : i32 {", "scf.yield %a : i32", "}"],
     "a loop needs three bounds, and a type for each value it carries"),
    (["scf.for %i = %n to %n  : i32 {", "}"], "a loop needs three bounds, and a type for each value it carries"),
    (["%o = scf.for %i = %n to %n step %n iter_args(%a = %n, %b = %n) -> (i32)  : i32 {", "scf.yield %a : i32", "}"],
     "a loop needs three bounds, and a type for each value it carries"),
    (["%o = scf.for %i = %n to %n step %n iter_args(%a = %n, %b) -> (i32, i32)  : i32 {", "scf.yield %a : i32", "}"],
     "a loop needs three bounds, and a type for each value it carries"),
    (["%o = scf.while (%w = %n) : (i32) -> i32 {", "scf.condition(%c) %w : i32", "}"],
     "a while loop needs a type for each value it carries, and two regions"),
    (["%o = scf.while (%w = %n, %v = %n) : (i32) -> i32 {", "scf.condition(%c) %w : i32", "} do {", "^bb0(%u: i32):",
      "scf.yield %u : i32", "}"], "a while loop needs a type for each value it carries, and two regions"),
    (["%a, %b = arith.addi %n, %n : i32"], "arith.addi has 2 results and 1 types of results"),
    (["%a = tt.call @f(%n) : (i32) -> (i32, i32)"], "tt.call has 1 results and 2 types of results"),
    (["tt.return", "%a = arith.addi %n, %n : i32"], "tt.return is not at the end of its block"),
    (["scf.if %c {", "scf.yield", "%a = arith.addi %n, %n : i32", "}"], "scf.yield is not at the end of its block"),
]


def parsed(lines):
    return Parser("\n".join(["module {", HEAD, *lines, "tt.return", "}", "}"]), Limits()).functions["k"]


@pytest.mark.parametrize("lines", RIGHT)
def test_a_text_that_is_consistent(lines):
    verify(parsed(lines))


@pytest.mark.parametrize(("lines", "said"), WRONG)
def test_a_text_that_contradicts_itself(lines, said):
    with pytest.raises(Malformed) as error:
        verify(parsed(lines))
    assert said in str(error.value)
