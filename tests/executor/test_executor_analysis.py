"""What a text tells before it runs: when values die, which addresses are neighbours, which arguments may be stored to."""

import pytest

from checks.executor import Limits, Malformed, Module
from checks.executor.analysis import ROUNDS, mark_dead, mark_steps, peak, roots_of_stores
from checks.executor.ir import Function, all_ops
from checks.executor.parse import Parser

POINTERS = "tensor<8x!tt.ptr<f32>>"
HEAD = "tt.func public @k(%x: !tt.ptr<f32>, %y: !tt.ptr<f32>, %z: !tt.ptr<f32>, %n: i32) attributes {noinline = false} {"


def function(*lines: str) -> Function:
    return Parser("\n".join(["module {", HEAD, *lines, "tt.return", "}", "}"]), Limits()).functions["k"]


LANES = "%lanes = tt.make_range {end = 8 : i32, start = 0 : i32} : tensor<8xi32>"
PLUS = "%{0} = arith.addi %{1}, %{1} : tensor<8xi32>"


def test_a_value_dies_where_it_is_read_last():
    made = function(
        LANES, "%c = arith.cmpi eq, %n, %n : i32", PLUS.format("a", "lanes"), PLUS.format("unread", "a"),
        "scf.if %c {", PLUS.format("inner", "a"), "}", "%after = arith.addi %n, %n : i32")
    mark_dead(made.blocks)
    assert {op.name + "".join(op.results): set(op.dead) for op in all_ops(made.blocks)} == {
        "tt.make_range%lanes": set(), "arith.cmpi%c": set(), "arith.addi%a": {"%lanes"}, "arith.addi%unread": {"%unread"},
        "scf.if": {"%a", "%c"}, "arith.addi%inner": {"%inner"}, "scf.yield": set(), "arith.addi%after": {"%after"},
        "tt.return": set()}


def test_what_a_loop_reads_lives_until_it_ends():
    made = function(LANES, "scf.for %i = %n to %n step %n  : i32 {", PLUS.format("b", "lanes"), "}")
    mark_dead(made.blocks)
    assert {op.name: set(op.dead) for op in all_ops(made.blocks)} == {
        "tt.make_range": set(), "scf.for": {"%lanes"}, "arith.addi": {"%b"}, "scf.yield": set(), "tt.return": set()}


def test_where_blocks_come_after_each_other_nothing_dies():
    """Which of them runs last is not known, and what branches carry is read."""
    made = function(LANES, "cf.br ^a(%lanes : tensor<8xi32>)", "^a(%b: tensor<8xi32>):", PLUS.format("c", "b"))
    assert mark_dead(made.blocks) == {"%lanes", "%b"}
    assert not any(op.dead for op in all_ops(made.blocks))


@pytest.mark.parametrize(("lines", "most"), [
    ([], 0), ([LANES], 8), ([LANES, PLUS.format("a", "lanes")], 16), ([LANES, *[PLUS.format("a", "lanes")] * 3], 16),
    ([LANES, PLUS.format("a", "lanes"), PLUS.format("b", "a"), PLUS.format("c", "b")], 16),
    ([LANES, PLUS.format("a", "lanes"), PLUS.format("b", "lanes"), "%c = arith.addi %a, %b : tensor<8xi32>"], 24),
    ([LANES, "scf.if %n {", PLUS.format("a", "lanes"), PLUS.format("b", "a"), "} else {", PLUS.format("c", "lanes"), "}"],
     24),
    ([LANES, "scf.if %n {", PLUS.format("a", "lanes"), "}", PLUS.format("d", "lanes")], 16),
    (["%a = arith.addi %n, %n : i32", LANES], 8 + 0)])
def test_how_much_is_alive_at_a_time(lines, most):
    made = function(*lines)
    mark_dead(made.blocks)
    assert peak(made.blocks) == most


ROW = [LANES, f"%row = tt.splat %x : !tt.ptr<f32> -> {POINTERS}",
       f"%ones = tt.addptr %row, %lanes : {POINTERS}, tensor<8xi32>"]
STEPS = {  # what makes a tile %p, where {T} is a tile and {P} one of pointers: the steps of its lanes
    "tt.splat %n : i32 -> {T}": 0,
    "tt.make_range {end = 12 : i32, start = 4 : i32} : {T}": 1,
    "arith.constant dense<3> : {T}": 0,
    "arith.constant dense<[0, 1, 2, 3, 4, 5, 6, 7]> : {T}": None,
    'arith.constant dense<"0x00"> : {T}': None,
    "tt.get_program_id x : i32": 0,
    "tt.get_num_programs x : i32": 0,
    "arith.addi %lanes, %all : {T}": 1,
    "arith.addi %all, %lanes : {T}": 1,
    "arith.addi %all, %all : {T}": 0,
    "arith.addi %lanes, %lanes : {T}": None,
    "arith.subi %lanes, %all : {T}": 1,
    "arith.subi %all, %lanes : {T}": None,
    "arith.subi %lanes, %lanes : {T}": None,
    "arith.muli %lanes, %all : {T}": None,
    "arith.muli %all, %all : {T}": 0,
    "arith.addi %lanes, %loaded : {T}": None,
    "arith.remsi %lanes, %all : {T}": None,
    "arith.extsi %lanes : {T} to tensor<8xi64>": 1,
    "arith.extui %lanes : {T} to tensor<8xi64>": 1,
    "arith.trunci %lanes : {T} to tensor<8xi16>": 1,
    "tt.bitcast %row : {P} -> {P}": 0,
    "tt.addptr %row, %lanes : {P}, {T}": 1,
    "tt.addptr %ones, %all : {P}, {T}": 1,
    "tt.addptr %ones, %lanes : {P}, {T}": None,
    "tt.addptr %row, %all : {P}, {T}": 0,
    "tt.expand_dims %lanes {axis = 0 : i32} : {T} -> tensor<1x8xi32>": 1,
    "tt.expand_dims %lanes {axis = 1 : i32} : {T} -> tensor<8x1xi32>": 0,
    "tt.broadcast %one : tensor<1x8xi32> -> tensor<4x8xi32>": 1,
    "tt.reshape %lanes : {T} -> tensor<2x4xi32>": None,
    "arith.select %c, %lanes, %lanes : i1, {T}": None,
    "math.absi %all : {T}": None,
}


@pytest.mark.parametrize("line", STEPS)
def test_by_how_much_lanes_are_apart(line):
    """Read off a store whose pointer they are, for it is there that it is kept."""
    made = function(*ROW, "%all = tt.splat %n : i32 -> tensor<8xi32>", f"%loaded = tt.load %ones : {POINTERS}",
                    "%one = tt.expand_dims %lanes {axis = 0 : i32} : tensor<8xi32> -> tensor<1x8xi32>",
                    "%c = arith.cmpi eq, %n, %n : i32",
                    f"%p = {line.replace('{T}', 'tensor<8xi32>').replace('{P}', POINTERS)}",
                    f"tt.store %p, %loaded : {POINTERS}")
    mark_steps(made)
    load, store = (op for op in all_ops(made.blocks) if op.name in ("tt.load", "tt.store"))
    assert (load.steps, store.steps) == (1, STEPS[line])


LOOP = f"%out = scf.for %i = %n to %n step %n iter_args(%p = %ones) -> ({POINTERS})  : i32 {{"
MOVES = {  # what the loop makes of its pointers %p, which begin as neighbours
    "%q = tt.addptr %p, %all : {0}, tensor<8xi32>": 1, "%q = tt.addptr %p, %lanes : {0}, tensor<8xi32>": None,
    "%q = tt.addptr %row, %all : {0}, tensor<8xi32>": None, "%q = tt.addptr %row, %lanes : {0}, tensor<8xi32>": 1,
}


@pytest.mark.parametrize("move", MOVES)
def test_by_how_much_lanes_are_apart_that_come_round_in_a_loop(move):
    made = function(*ROW, "%all = tt.splat %n : i32 -> tensor<8xi32>", LOOP, f"%v = tt.load %p : {POINTERS}",
                    move.format(POINTERS), f"scf.yield %q : {POINTERS}", "}", f"%w = tt.load %out : {POINTERS}")
    mark_steps(made)
    assert [op.steps for op in all_ops(made.blocks) if op.name == "tt.load"] == [MOVES[move]] * 2


def test_of_a_chain_longer_than_is_followed_nothing_is_known():
    """Each round refutes one more of values that hand each other on."""
    names = [f"%p{i}" for i in range(ROUNDS + 5)]
    carried = ", ".join(f"{name} = %row" for name in names)
    kinds = ", ".join([POINTERS] * len(names))
    made = function(*ROW, f"%out:{len(names)} = scf.for %i = %n to %n step %n iter_args({carried}) -> ({kinds})  : i32 {{",
                    f"%v = tt.load %p0 : {POINTERS}",
                    f"scf.yield {', '.join(names[1:])}, %ones : {kinds}", "}", f"%w = tt.load %ones : {POINTERS}")
    mark_steps(made)
    assert [op.steps for op in all_ops(made.blocks) if op.name == "tt.load"] == [None, None]


ADDED = "%{0} = tt.addptr %{1}, %n : !tt.ptr<f32>, i32"
THREE = "!tt.ptr<f32>, !tt.ptr<f32>, !tt.ptr<f32>"
ROUND = f"%o:3 = scf.for %i = %n to %n step %n iter_args(%a = %x, %b = %y, %c = %z) -> ({THREE})  : i32 {{"
STORES = [
    (["tt.store %x, %n : !tt.ptr<f32>"], "x"), ([], ""), ([ADDED.format("p", "y"), "tt.store %p, %n : !tt.ptr<f32>"], "y"),
    (["%v = tt.load %x : !tt.ptr<f32>"], ""),
    (["%v = tt.atomic_rmw fadd, acq_rel, gpu, %z, %f, %m : (!tt.ptr<f32>, f32, i1) -> f32"], "z"),
    (["%v = tt.atomic_cas acq_rel, gpu, %y, %f, %m : (!tt.ptr<f32>, f32, f32) -> f32"], "y"),
    (["%p = arith.select %c, %x, %y : i1, !tt.ptr<f32>", "tt.store %p, %n : !tt.ptr<f32>"], "xy"),
    (["%p = scf.if %c -> (!tt.ptr<f32>) {", "scf.yield %x : !tt.ptr<f32>", "} else {", "scf.yield %z : !tt.ptr<f32>", "}",
      "tt.store %p, %n : !tt.ptr<f32>"], "xz"),
    (["%p:2 = scf.if %c -> (i32, !tt.ptr<f32>) {", "scf.yield %n, %x : i32, !tt.ptr<f32>", "} else {",
      "scf.yield %n, %y : i32, !tt.ptr<f32>", "}", "tt.store %p#1, %n : !tt.ptr<f32>"], "xy"),
    (["%p:2 = scf.for %i = %n to %n step %n iter_args(%a = %n, %b = %y) -> (i32, !tt.ptr<f32>)  : i32 {",
      "scf.yield %a, %z : i32, !tt.ptr<f32>", "}", "tt.store %p#1, %n : !tt.ptr<f32>"], "yz"),
    (["scf.if %c {", "tt.store %z, %n : !tt.ptr<f32>", "}"], "z"),
    (["%p = tt.int_to_ptr %n : i64 -> !tt.ptr<f32>", "tt.store %p, %n : !tt.ptr<f32>"], "xyz"),  # it may be any
    ([ROUND, "tt.store %b, %n : !tt.ptr<f32>", f"scf.yield %a, %b, %c : {THREE}", "}"], "y"),
    ([ROUND, "tt.store %b, %n : !tt.ptr<f32>", f"scf.yield %b, %a, %c : {THREE}", "}"], "xy"),
    ([ROUND, f"scf.yield %b, %c, %a : {THREE}", "}", "tt.store %o#0, %n : !tt.ptr<f32>"], "xyz"),
    ([ROUND, f"scf.yield %a, %b, %c : {THREE}", "}", "tt.store %a, %n : !tt.ptr<f32>"], "x"),
]


@pytest.mark.parametrize(("lines", "stored"), STORES)
def test_which_arguments_may_be_stored_to(lines, stored):
    assert roots_of_stores(function(*lines), {"%x", "%y", "%z"}) == {f"%{name}" for name in stored}


@pytest.mark.parametrize("lines", [
    ["%o = scf.for %i = %n to %n step %n iter_args(%a = %n) -> (i32)  : i32 {", "}"],
    ["%o = scf.for %i = %n to %n step %n iter_args(%a = %n) -> (i32)  : i32 {", "scf.yield %a, %a : i32, i32", "}"]])
def test_a_loop_yields_what_it_carries(lines):
    with pytest.raises(Malformed, match="a loop that does not yield what it carries"):
        Module("\n".join(["module {", HEAD, *lines, "tt.return", "}", "}"]))
