"""Reductions and scans along each axis by any region, and functions of single lanes that are given several at a time."""

import math
import operator

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from executor_lanes import TYPES, wrapped
from executor_launches import execute

from checks.executor import Malformed, Module

PROGRAMS, SHAPE = 2, (2, 4, 8)


def module(name: str, kind: str, axis: int, *region: str, attributes: str = "") -> Module:
    """`region` of %a and %b, the last line without its name the result, on a tile of each program."""
    tile, lanes = f"tensor<2x4x8x{kind}>", "tensor<2x4x8xi32>"
    left = "x".join(str(n) for i, n in enumerate(SHAPE) if i != axis) if name == "reduce" else "2x4x8"
    n = math.prod(map(int, left.split("x")))
    return Module("\n".join([
        "module {", f"tt.func public @k(%x: !tt.ptr<{kind}>, %y: !tt.ptr<{kind}>) attributes {{noinline = false}} {{",
        "%i = tt.get_program_id x : i32", "%size = arith.constant 64 : i32", f"%left = arith.constant {n} : i32",
        "%flat = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>",
        f"%at = tt.reshape %flat : tensor<64xi32> -> {lanes}", "%mine = arith.muli %i, %size : i32",
        f"%px = tt.addptr %x, %mine : !tt.ptr<{kind}>, i32",
        f"%sx = tt.splat %px : !tt.ptr<{kind}> -> tensor<2x4x8x!tt.ptr<{kind}>>",
        f"%p = tt.addptr %sx, %at : tensor<2x4x8x!tt.ptr<{kind}>>, {lanes}",
        f"%v = tt.load %p : tensor<2x4x8x!tt.ptr<{kind}>>",
        f'%r = "tt.{name}"(%v) <{{axis = {axis} : i32{attributes}}}> ({{', f"^bb0(%a: {kind}, %b: {kind}):", *region[:-1],
        f"tt.{name}.return {region[-1]} : {kind}", f"}}) : ({tile}) -> tensor<{left}x{kind}>",
        f"%few = tt.make_range {{end = {n} : i32, start = 0 : i32}} : tensor<{n}xi32>",
        f"%at2 = tt.reshape %few : tensor<{n}xi32> -> tensor<{left}xi32>", "%mine2 = arith.muli %i, %left : i32",
        f"%py = tt.addptr %y, %mine2 : !tt.ptr<{kind}>, i32",
        f"%sy = tt.splat %py : !tt.ptr<{kind}> -> tensor<{left}x!tt.ptr<{kind}>>",
        f"%q = tt.addptr %sy, %at2 : tensor<{left}x!tt.ptr<{kind}>>, tensor<{left}xi32>",
        f"tt.store %q, %r : tensor<{left}x!tt.ptr<{kind}>>", "tt.return", "}", "}"]))


def halves(combine, x):
    while len(x) > 1:
        x = [combine(a, b) for a, b in zip(x[:len(x) // 2], x[len(x) // 2:], strict=True)]
    return x[:1]


def one_after_the_other(combine, x):
    made = [x[0]]
    for b in x[1:]:
        made.append(combine(made[-1], b))
    return made


def expect(name, x, axis, combine, back=False):
    """Along the axis of (program, *tile), number by number."""
    rows = x.movedim(axis + 1, -1)
    done = halves if name == "reduce" else one_after_the_other
    made = [done(combine, row[::-1] if back else row) for row in rows.reshape(-1, rows.shape[-1]).tolist()]
    made = torch.tensor([row[::-1] if back else row for row in made], dtype=torch.float64)
    made = made.view(*rows.shape[:-1], -1).movedim(-1, axis + 1)
    return made.squeeze(axis + 1) if name == "reduce" else made


def numbers(kind):
    g = torch.Generator().manual_seed(0)
    if kind == "i1":
        return torch.randint(0, 2, (PROGRAMS, *SHAPE), generator=g).bool()
    if kind[0] == "i":
        return torch.randint(-128, 128, (PROGRAMS, *SHAPE), generator=g, dtype=TYPES[kind])
    x = torch.randint(-7, 8, (PROGRAMS, *SHAPE), generator=g).float()
    x[torch.rand(x.shape, generator=g) < 0.2] *= 2 ** {"f16": 9, "bf16": 6, "f8E5M2": 1, "f8E4M3FN": 2}.get(kind, 3)
    return x.to(TYPES[kind])


def run(kernel, x, y):
    assert kernel.run((PROGRAMS,), {"x": x, "y": y}).fine
    return y.double()


WHOLE = {"addi": operator.add, "muli": operator.mul, "andi": operator.and_, "ori": operator.or_, "xori": operator.xor,
         "maxsi": max, "minsi": min, "subi": operator.sub}
FLOATS = {"addf": operator.add, "subf": operator.sub, "maxnumf": max, "minimumf": min, "mulf": operator.mul}
ONE_BIT = {"addi": operator.xor, "xori": operator.xor, "andi": operator.and_, "ori": operator.or_, "muli": operator.and_}
CASES = [*((kind, op) for kind in ("i8", "i32", "i64") for op in WHOLE if kind != "i64" or op != "muli"),
         *(("i1", op) for op in ONE_BIT),
         *((kind, op) for kind in ("f16", "bf16", "f32", "f64", "f8E5M2", "f8E4M3FN") for op in FLOATS
           if op != "mulf" and ("f8" not in kind or op != "subf"))]


def combining(kind, op):
    """In the type, rounded or wrapped after each step."""
    if kind == "i1":
        return ONE_BIT[op]
    if kind[0] == "i":
        return lambda a, b: wrapped(WHOLE[op](a, b), int(kind[1:]))
    return lambda a, b: torch.tensor(FLOATS[op](a, b), dtype=torch.float64).to(TYPES[kind]).item()


@pytest.mark.parametrize("name", ["reduce", "scan"])
@pytest.mark.parametrize(("kind", "op"), CASES)
def test_one_operation_in_each_type(kind, op, name):
    """Sums of narrow types are rounded, and those of whole numbers wrap around, at each step."""
    x, axis = numbers(kind), 2
    if name == "reduce" and op in ("subi", "subf"):
        x[..., 1:] = 0  # in which order is left open
    want = expect(name, x, axis, combining(kind, op))
    kernel = module(name, kind, axis, f"%c = arith.{op} %a, %b : {kind}", "%c")
    assert torch.equal(run(kernel, x, torch.zeros(want.shape).to(TYPES[kind])), want)


@pytest.mark.parametrize("back", [None, False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("op", ["addi", "subi"])
def test_each_axis_and_both_ways(op, axis, back):
    x = numbers("i32")
    attributes = "" if back is None else f", reverse = {str(back).lower()}"
    want = expect("scan", x, axis, combining("i32", op), bool(back))
    kernel = module("scan", "i32", axis, f"%c = arith.{op} %a, %b : i32", "%c", attributes=attributes)
    assert torch.equal(run(kernel, x, torch.zeros(want.shape, dtype=torch.int32)), want)
    if op == "addi" and back is None:
        want = expect("reduce", x, axis, combining("i32", op))
        kernel = module("reduce", "i32", axis, f"%c = arith.{op} %a, %b : i32", "%c")
        assert torch.equal(run(kernel, x, torch.zeros(want.shape, dtype=torch.int32)), want)


REGIONS = {  # that are more, or less, than one operation on their arguments in their order
    "turned around": (["%c = arith.subi %b, %a : i32", "%c"], lambda a, b: b - a),
    "the first twice": (["%c = arith.addi %a, %a : i32", "%c"], lambda a, b: wrapped(a + a, 32)),
    "the second twice": (["%c = arith.addi %b, %b : i32", "%c"], lambda a, b: wrapped(b + b, 32)),
    "the first": (["%c = arith.addi %a, %b : i32", "%a"], lambda a, b: a),
    "the second alone": (["%b"], lambda a, b: b),
    "two steps": (["%d = arith.addi %a, %a : i32", "%c = arith.subi %d, %b : i32", "%c"],
                  lambda a, b: wrapped(2 * a - b, 32)),
    "a constant": (["%d = arith.constant 3 : i32", "%c = arith.addi %a, %d : i32", "%c"], lambda a, b: a + 3),
    "no function of NumPy's": (["%c = arith.maxui %a, %b : i32", "%c"], lambda a, b: max(a, b, key=lambda x: x % 2**32)),
}


@pytest.mark.parametrize("name", ["reduce", "scan"])
@pytest.mark.parametrize("region", REGIONS)
def test_any_region(region, name):
    lines, combine = REGIONS[region]
    x = numbers("i32") | 1
    want = expect(name, x, 1, combine)
    assert torch.equal(run(module(name, "i32", 1, *lines), x, torch.zeros(want.shape, dtype=torch.int32)), want)


@triton.jit
def larger(a, i, b, j):
    keep = a >= b
    return tl.where(keep, a, b), tl.where(keep, i, j)


@triton.jit
def with_places_kernel(x_ptr, y_ptr, M: tl.constexpr, N: tl.constexpr, PLACES_FIRST: tl.constexpr):
    """One operand is the same in all programs."""
    m, n = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    program = tl.program_id(0)
    x = tl.load(x_ptr + program * M * N + m * N + n)
    places = tl.broadcast_to(n, (M, N))
    if PLACES_FIRST:
        place, value = tl.reduce((places, x), 1, larger)
    else:
        value, place = tl.reduce((x, places), 1, larger)
    y_ptr += program * 2 * M + tl.arange(0, M)
    tl.store(y_ptr, value)
    tl.store(y_ptr + M, place)


@pytest.mark.parametrize("first", [False, True])
def test_two_values_at_a_time(first):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 9, (3, 4, 8), generator=g, dtype=torch.int32), torch.zeros(3, 2, 4, dtype=torch.int32)
    assert execute(with_places_kernel, (3,), {"x_ptr": x, "y_ptr": y, "M": 4, "N": 8, "PLACES_FIRST": first}).fine
    want = (x[..., 7], torch.full((3, 4), 7)) if first else (x.amax(2), (x == x.amax(2, True)).int().argmax(2))
    assert y.tolist() == torch.stack(want, 1).tolist()


@triton.jit
def of_two_lanes(x0, x1, y0, y1):
    if x0 > x1:
        x0 = x0 * 10
    return x0 - y1, x1 + y0, x0, y1


@triton.jit
def of_one_lane(x, y):
    return x - y, x


@triton.jit
def map_kernel(x_ptr, y_ptr, out_ptr, M: tl.constexpr, N: tl.constexpr, PACK: tl.constexpr):
    lanes = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    x, y = tl.load(x_ptr + lanes), tl.load(y_ptr + lanes) + tl.program_id(0)
    if PACK == 2:
        a, b = tl.map_elementwise(of_two_lanes, x, y, pack=2)
    else:
        a, b = tl.map_elementwise(of_one_lane, x, y)
    out_ptr += tl.program_id(0) * 2 * M * N
    tl.store(out_ptr + lanes, a)
    tl.store(out_ptr + M * N + lanes, b)


@pytest.mark.parametrize("pack", [1, 2])
def test_functions_of_neighbours(pack):
    x, y = np.random.default_rng(0).integers(-9, 9, (2, 4, 8), dtype=np.int32)
    out = np.zeros((3, 2, 4, 8), np.int32)
    given = {"x_ptr": torch.from_numpy(x), "y_ptr": torch.from_numpy(y), "out_ptr": torch.from_numpy(out), "M": 4, "N": 8}
    assert execute(map_kernel, (3,), given | {"PACK": pack}).fine
    for program in range(3):
        more = y + program
        if pack == 1:
            want = x - more, x
        else:
            x0, x1, y0, y1 = x[:, ::2], x[:, 1::2], more[:, ::2], more[:, 1::2]
            x0 = np.where(x0 > x1, 10 * x0, x0)
            want = [np.stack(pair, -1).reshape(4, 8) for pair in ((x0 - y1, x1 + y0), (x0, y1))]
        assert np.array_equal(out[program], np.stack(want)), program


@pytest.mark.parametrize("lines", [
    ['%r = "tt.reduce"(%v) <{axis = 0 : i32}> : (tensor<8xf32>) -> f32'],
    ['%r = "tt.reduce"(%v) <{axis = 0 : i32}> ({', "^bb0(%a: f32, %b: f32):", "tt.reduce.return %a : f32", "}, {",
     "^bb0(%a: f32, %b: f32):", "tt.reduce.return %a : f32", "}) : (tensor<8xf32>) -> f32"],
    ['%r = "tt.reduce"(%v) <{axis = 0 : i32}> ({', "^bb0(%a: f32, %b: f32):", "cf.br ^bb1", "^bb1:",
     "tt.reduce.return %a : f32", "}) : (tensor<8xf32>) -> f32"],
    ['%r = "tt.scan"(%v, %v) <{axis = 0 : i32}> ({', "^bb0(%a: f32, %b: f32):", "tt.scan.return %a : f32",
     "}) : (tensor<8xf32>) -> f32"],
    ['%r = "tt.scan"(%v) <{axis = 0 : i32}> ({', "^bb0(%a: f32, %b: f32):", "tt.scan.return %a : f32", "}) : () -> f32"]])
def test_what_lacks_a_region_or_types(lines):
    head = "tt.func public @k(%v: tensor<8xf32>) attributes {noinline = false} {"
    with pytest.raises(Malformed, match=r"tt\.\w+ needs one region of one block, and the types of its operands"):
        Module("\n".join(["module {", head, *lines, "tt.return", "}", "}"]))
