"""Each operation on lanes against torch: the same bits unless a tolerance is said."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from executor_lanes import (
    FLOATS,
    PRECISION,
    TYPES,
    WHOLE,
    N,
    as_unsigned,
    assert_equal,
    assert_special,
    lanes,
    rounded_fraction,
    rounded_half_away,
    run,
    run_all,
    special,
    special_tuples,
    wrapped,
)

from checks.executor import Unsupported
from checks.executor.ir import Op
from checks.executor.operations.dot import dot
from checks.executor.operations.elementwise import ARITHMETIC, FUNCTIONS, INTEGERS, extended_product, integer_power
from checks.executor.types import Type

WHOLE_BINARY = {
    "arith.addi": torch.add, "arith.subi": torch.sub, "arith.muli": torch.mul, "arith.andi": torch.bitwise_and,
    "arith.ori": torch.bitwise_or, "arith.xori": torch.bitwise_xor, "arith.maxsi": torch.maximum,
    "arith.minsi": torch.minimum, "arith.divsi": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "arith.remsi": torch.fmod,
    "arith.floordivsi": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "arith.ceildivsi": lambda a, b: -torch.div(-a.long(), b.long(), rounding_mode="floor"),
}
OF_UNSIGNED = {
    "arith.divui": lambda a, b: a // b, "arith.remui": lambda a, b: a % b, "arith.maxui": torch.maximum,
    "arith.minui": torch.minimum, "arith.ceildivui": lambda a, b: (a + b - 1) // b,
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("op", WHOLE_BINARY)
def test_integers_wrap_and_divide_as_in_c(op, kind):
    a, b = lanes(kind), lanes(kind, 1)
    if "div" in op or "rem" in op:
        b = torch.where((b == 0) | (b == -1) | (a == torch.iinfo(a.dtype).min), 7, b)
        a = torch.where(a == torch.iinfo(a.dtype).min, 5, a)
    assert torch.equal(run(f"{op} %0, %1 : tensor<{N}x{kind}>", kind, a, b), WHOLE_BINARY[op](a, b).to(a.dtype))


@pytest.mark.parametrize("kind", ("i8", "i16", "i32"))
@pytest.mark.parametrize("op", OF_UNSIGNED)
def test_unsigned_operations_read_the_same_bits(op, kind):
    a, b = lanes(kind), lanes(kind, 1)
    b = torch.where(b == 0, 3, b)
    want = OF_UNSIGNED[op](as_unsigned(a), as_unsigned(b)).to(a.dtype)
    assert torch.equal(run(f"{op} %0, %1 : tensor<{N}x{kind}>", kind, a, b), want)


@pytest.mark.parametrize("kind", WHOLE)
def test_shifts_past_the_width_leave_nothing(kind):
    a, width = lanes(kind), 8 * TYPES[kind].itemsize
    by = torch.arange(N).remainder(width + 3).to(a.dtype)
    bits = [int(x) & (1 << width) - 1 for x in a]
    assert run(f"arith.shli %0, %1 : tensor<{N}x{kind}>", kind, a, by).tolist() == [
        wrapped(x << int(s), width) if s < width else 0 for x, s in zip(bits, by, strict=True)]
    assert run(f"arith.shrui %0, %1 : tensor<{N}x{kind}>", kind, a, by).tolist() == [
        wrapped(x >> int(s), width) if s < width else 0 for x, s in zip(bits, by, strict=True)]
    assert run(f"arith.shrsi %0, %1 : tensor<{N}x{kind}>", kind, a, by).tolist() == [
        int(x) >> int(s) for x, s in zip(a, by, strict=True)]


@pytest.mark.parametrize("kind", ("i8", "i16", "i32", "i64"))
def test_high_halves_and_bits(kind):
    a, b, width = lanes(kind), lanes(kind, 1), 8 * TYPES[kind].itemsize
    mask = (1 << width) - 1
    assert run(f"tt.mulhiui %0, %1 : tensor<{N}x{kind}>", kind, a, b).tolist() == [
        wrapped((int(x) & mask) * (int(y) & mask) >> width, width) for x, y in zip(a, b, strict=True)]
    assert run(f"math.absi %0 : tensor<{N}x{kind}>", kind, a).tolist() == a.abs().tolist()
    assert run(f"math.ctpop %0 : tensor<{N}x{kind}>", kind, a).tolist() == [(int(x) & mask).bit_count() for x in a]
    assert run(f"math.ctlz %0 : tensor<{N}x{kind}>", kind, a).tolist() == [
        width - (int(x) & mask).bit_length() for x in a]
    assert run(f"math.cttz %0 : tensor<{N}x{kind}>", kind, a).tolist() == [
        (int(x) & -int(x)).bit_length() - 1 if x else width for x in a]


def made(make, name, *kinds, words="", of=()):
    """The function of an operation with results of these types."""
    return make(Op(name, [], [], words, [], {}, [Type(kind) for kind in of], [Type(kind) for kind in kinds]))


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("sign", "su")
def test_both_halves_of_a_product(sign, kind):
    edges = torch.cartesian_prod(*[lanes(kind)[:12]] * 2).T.contiguous()
    width = 8 * TYPES[kind].itemsize
    low, high = made(extended_product, f"arith.mul{sign}i_extended", kind, kind)(*edges.numpy())
    for a, b, x, y in zip(*edges.tolist(), low.tolist(), high.tolist(), strict=True):
        exact = a * b if sign == "s" else a % (1 << width) * (b % (1 << width))
        assert (x, y) == (wrapped(exact, width), wrapped(exact >> width, width)), (a, b)


@pytest.mark.parametrize("kind", FLOATS)
def test_powers_of_whole_numbers(kind):
    few, powers = special(kind), torch.tensor([0, 1, 2, 3, -1, -2, 40, -40], dtype=torch.int32)
    x, n = few.repeat_interleave(len(powers)), powers.repeat(len(few))
    held = x.float() if kind == "bf16" else x
    with np.errstate(all="ignore"):
        got = torch.from_numpy(made(integer_power, "math.fpowi", kind)(held.numpy(), n.numpy()))
    assert_equal(got, got.to(x.dtype))
    assert_special(got.to(x.dtype), torch.pow(x.double(), n.double()), 2 * EPSILON[kind])


@pytest.mark.parametrize("K", (16, 1024, 2048))
def test_sums_of_bytes_are_exact_and_wrap_around(K):
    a, b = np.full((1, 1, 1, 2, K), -128, np.int8), np.full((1, 1, 1, K, 2), -128, np.int8)
    a[..., 0, 0], b[..., 0, 1] = -127, 127
    c = np.array([[2**31 - 1, -5], [7, 0]], np.int32)
    product = made(dot, "tt.dot", "tensor<2x2xi32>", of=(f"tensor<2x{K}xi8>", f"tensor<{K}x2xi8>"))
    exact = a[0, 0, 0].astype(int) @ b[0, 0, 0].astype(int) + c
    assert product(a, b, c).tolist() == [[[[[wrapped(x, 32) for x in row] for row in exact.tolist()]]]]


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("precision", ("ieee", "tf32"))
def test_products_of_tiles_in_their_precision(precision, kind):
    """Of one product each, so that the last bit is known; TF32 is FP32 with its last 13 bits cut off."""
    a = 1 + EPSILON[kind] * torch.arange(1.0, 5, dtype=torch.float64)[:, None]
    b, c = torch.full_like(a.T, 1 - 2.0**-7 + EPSILON[kind]), torch.full((4, 4), 2.0**-6).to(a)
    of = (f"tensor<4x1x{kind}>", f"tensor<1x4x{kind}>")
    out = "f32" if kind in ("f16", "bf16") else kind
    product = made(dot, "tt.dot", f"tensor<4x4x{out}>", of=of, words=f"%a, %b, %c, inputPrecision = {precision}")
    held = [x.to(TYPES[out]).numpy()[None, None, None] for x in (a, b, c)]
    if precision == "tf32" and kind == "f32":
        a, b = torch.ones_like(a), torch.full_like(b, 1 - 2.0**-7)  # what is left out is beyond the tenth bit
    want = (a @ b).to(TYPES[out]) + c.to(TYPES[out])
    assert torch.equal(torch.from_numpy(product(*held))[0, 0, 0], want)


@pytest.mark.parametrize("out", ("f16", "bf16", "f32"))
@pytest.mark.parametrize("kind", ("f16", "bf16", "f8E5M2", "f8E4M3FN"))
def test_a_product_of_tiles_has_the_type_of_its_sum(kind, out):
    """Sums are made in FP32, and rounded once."""
    a, b = torch.full((4, 2), 1.5), torch.tensor([[1.0, -2, 3, 0.5], [0.25, 3, 2, 1]])
    c = torch.tensor([[2048.0, 1024, 512, 256]]).T.expand(4, 4)
    product = made(dot, "tt.dot", f"tensor<4x4x{out}>", of=(f"tensor<4x2x{kind}>", f"tensor<2x4x{kind}>"))
    held = [x.numpy()[None, None, None] for x in (a, b, c.half() if out == "f16" else c)]
    got = torch.from_numpy(product(*held))[0, 0, 0]
    assert got.dtype == (torch.float16 if out == "f16" else torch.float32)
    assert torch.equal(got.float(), (a @ b + c).to(TYPES[out]).float())


@pytest.mark.parametrize("op, want", [("addi", "xor"), ("subi", "xor"), ("muli", "and"), ("andi", "and"), ("ori", "or"),
                                      ("xori", "xor"), ("maxsi", "and"), ("minsi", "or"), ("maxui", "or"), ("minui", "and")])
def test_one_bit(op, want):
    a, b = lanes("i1"), lanes("i1", 1)
    assert torch.equal(run(f"arith.{op} %0, %1 : tensor<{N}xi1>", "i1", a, b), getattr(torch, f"bitwise_{want}")(a, b))


FLOAT_BINARY = {
    "arith.addf": torch.add, "arith.subf": torch.sub, "arith.mulf": torch.mul, "arith.divf": torch.div,
    "arith.maximumf": torch.maximum, "arith.minimumf": torch.minimum, "arith.maxnumf": torch.fmax,
    "arith.minnumf": torch.fmin,
    "arith.remf": torch.fmod, "math.copysign": torch.copysign, "tt.precise_divf": torch.div,
}
EXACT_UNARY = {"arith.negf": torch.neg, "math.absf": torch.abs, "math.floor": torch.floor, "math.ceil": torch.ceil,
               "math.trunc": torch.trunc, "math.roundeven": torch.round}


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("op", FLOAT_BINARY)
def test_floats_are_rounded_once(op, kind):
    a, b = lanes(kind), lanes(kind, 3)
    assert_equal(run(f"{op} %0, %1 : tensor<{N}x{kind}>", kind, a, b), FLOAT_BINARY[op](a, b))


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("op", EXACT_UNARY)
def test_exact_functions_of_floats(op, kind):
    a = lanes(kind)
    assert_equal(run(f"{op} %0 : tensor<{N}x{kind}>", kind, a), EXACT_UNARY[op](a))


def test_half_away():
    a = torch.tensor([0.5, 1.5, -0.5, -2.5, 0.49999997, 8388609.0, -0.0, math.inf] * (N // 8))
    want = torch.tensor([1.0, 2.0, -1.0, -3.0, 0.0, 8388609.0, -0.0, math.inf] * (N // 8))
    assert_equal(run(f"math.round %0 : tensor<{N}xf32>", "f32", a), want)


@pytest.mark.parametrize("kind", FLOATS)
def test_fused_multiply_add_rounds_once(kind):
    a, b, c = (lanes(kind, seed) for seed in (11, 12, 13))
    c[20:140] = -(a[20:140] * b[20:140])  # what is left is the rounding error of the product
    c[140:] *= 2.0 ** -20
    got = run(f"math.fma %0, %1, %2 : tensor<{N}x{kind}>", kind, a, b, c)
    for x, y, z, result in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        if all(map(math.isfinite, (x, y, z))) and math.isfinite(result):
            exact = Fraction(x) * Fraction(y) + Fraction(z)
            assert result == rounded_fraction(exact, *PRECISION[kind])


REFERENCES = {
    "math.exp": torch.exp, "math.exp2": torch.exp2, "math.expm1": torch.expm1, "math.log": torch.log,
    "math.log2": torch.log2, "math.log10": torch.log10, "math.log1p": torch.log1p, "math.sin": torch.sin,
    "math.cos": torch.cos,
    "math.tan": torch.tan, "math.asin": torch.asin, "math.acos": torch.acos, "math.atan": torch.atan,
    "math.sinh": torch.sinh,
    "math.cosh": torch.cosh, "math.tanh": torch.tanh, "math.sqrt": torch.sqrt, "math.rsqrt": torch.rsqrt,
    "math.erf": torch.erf, "tt.precise_sqrt": torch.sqrt, "math.atan2": torch.atan2, "math.powf": torch.pow,
    "math.cbrt": lambda x: torch.sign(x) * x.abs() ** (1 / 3),
}
EPSILON = {"f16": 2.0**-10, "bf16": 2.0**-7, "f32": 2.0**-22, "f64": 2.0**-48}


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions(op, kind):
    a, b = lanes(kind).clamp(-30, 30), lanes(kind, 3).clamp(-3, 3)
    if op in ("math.sin", "math.cos", "math.tan"):
        a = a.clamp(-6, 6)
    given = (a, b) if op in ("math.atan2", "math.powf") else (a,)
    got = run(f"{op} {'%0, %1' if len(given) == 2 else '%0'} : tensor<{N}x{kind}>", kind, *given)
    exact = REFERENCES[op](*(x.double() for x in given)).to(got.dtype)
    torch.testing.assert_close(got, exact, rtol=2 * EPSILON[kind], atol=2 * EPSILON[kind], equal_nan=True)


SPECIAL = FLOAT_BINARY | EXACT_UNARY | REFERENCES | {
    "math.round": rounded_half_away,
    "arith.remf": lambda a, b: torch.from_numpy(np.fmod(a.numpy(), b.numpy())),  # torch's overflows
    "math.cbrt": lambda x: torch.tensor(list(map(math.cbrt, x.tolist())), dtype=torch.float64)}
OF_TWO = {*FLOAT_BINARY, "math.atan2", "math.powf"}
SIGN_LEFT_OPEN = {"arith.maximumf", "arith.minimumf", "arith.maxnumf", "arith.minnumf"}  # of zeros: one of the two


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("op", SPECIAL)
def test_special_numbers(op, kind):
    given = special_tuples(kind, 2 if op in OF_TWO else 1)
    got = run_all(f"{op} {', '.join(f'%{i}' for i in range(len(given)))} : LANES", kind, *given)
    assert_special(got, SPECIAL[op](*(x.double() for x in given)), 2 * EPSILON[kind] if op in REFERENCES else 0.0,
                   zeros=op not in SIGN_LEFT_OPEN)


def halves_of_steps(kind):
    """Operands whose product is half a step of the sum, or a little more or less than FP64 keeps of it; and products in the
    middle of two numbers, which a little is added to or taken from."""
    bits, smallest = PRECISION[kind]
    lowest, little = (-800 if kind == "f64" else smallest), 2.0 ** -(bits - 2)
    middles = [(3.0, 2.0 ** (bits - 1) + odd, side * 2.0**-24) for odd in (1, 3) for side in (-1, 1)]
    return middles + [
        (math.ldexp(1 + sign * little, half), math.ldexp(1 - little, step - 1 - half), side * math.ldexp(n, step))
        for step in (lowest, lowest + 40) for half in [step // 2] for sign in (-1, 0, 1) for side in (-1, 1)
        for n in (1, 4, 5, 2 ** (bits - 2) + 1, 2 ** (bits - 1) + 1, 2**bits - 1) if step + bits < 15 or kind != "f16"]


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("kind", FLOATS)
def test_fused_multiply_add_of_special_numbers(kind):
    of = torch.finfo(TYPES[kind])
    tiny = (of.smallest_normal * of.eps, of.smallest_normal) if kind != "f64" else (2.0**-400,)
    some = (0.0, *tiny, 2.5 + 4 * of.eps, of.max, math.inf)
    few = torch.tensor([*some, *(-x for x in some), math.nan], dtype=TYPES[kind])
    beside = torch.tensor(halves_of_steps(kind), dtype=TYPES[kind])
    a, b, c = torch.cat([torch.cartesian_prod(few, few, few), beside]).T.contiguous()
    got = run_all("math.fma %0, %1, %2 : LANES", kind, a, b, c)
    want = a.double() * b.double() + c.double()
    for i, (x, y, z) in enumerate(zip(a.tolist(), b.tolist(), c.tolist(), strict=True)):
        if all(map(math.isfinite, (x, y, z))) and (exact := Fraction(x) * Fraction(y) + Fraction(z)):
            near = math.inf if abs(exact) > Fraction(of.max) * 5 / 4 else rounded_fraction(abs(exact), *PRECISION[kind])
            want[i] = near if exact > 0 else -near
    assert_special(got, want)


@pytest.mark.parametrize("how, want", [
    ("oeq", lambda a, b: a == b), ("one", lambda a, b: (a < b) | (a > b)), ("olt", lambda a, b: a < b),
    ("ole", lambda a, b: a <= b), ("ogt", lambda a, b: a > b), ("oge", lambda a, b: a >= b), ("une", lambda a, b: a != b),
    ("ueq", lambda a, b: ~((a < b) | (a > b))), ("ult", lambda a, b: ~(a >= b)), ("ule", lambda a, b: ~(a > b)),
    ("ugt", lambda a, b: ~(a <= b)), ("uge", lambda a, b: ~(a < b)), ("ord", lambda a, b: ~(a.isnan() | b.isnan())),
    ("uno", lambda a, b: a.isnan() | b.isnan()), ("true", lambda a, b: a.isnan() | True),
    ("false", lambda a, b: a.isnan() & False)])
@pytest.mark.parametrize("kind", FLOATS)
def test_comparing_floats(kind, how, want):
    a, b = special_tuples(kind, 2)
    assert torch.equal(run_all(f"arith.cmpf {how}, %0, %1 : LANES", "i1", a, b), want(a, b))


@pytest.mark.parametrize("how, want", [("eq", torch.eq), ("ne", torch.ne), ("lt", torch.lt), ("le", torch.le),
                                       ("gt", torch.gt), ("ge", torch.ge)])
@pytest.mark.parametrize("kind", ("i1", "i8", "i16", "i32"))
def test_comparing_integers(kind, how, want):
    a, b = lanes(kind), lanes(kind, 1)
    b[100:150] = a[100:150]
    signed = [-x.long() if kind == "i1" else x.long() for x in (a, b)]
    unsigned = [x.long() if kind == "i1" else as_unsigned(x) for x in (a, b)]
    for prefix, given in (("s", signed), ("u", unsigned)) if how not in ("eq", "ne") else (("", signed),):
        assert torch.equal(run(f"arith.cmpi {prefix}{how}, %0, %1 : tensor<{N}x{kind}>", "i1", a, b), want(*given)), prefix


def test_select_and_clamp():
    a, b, c = lanes("f32"), lanes("f32", 1), lanes("i1")
    assert_equal(run(f"arith.select %2, %0, %1 : tensor<{N}xi1>, tensor<{N}xf32>", "f32", a, b, c), torch.where(c, a, b))
    low, high = torch.full((N,), -1.0), torch.full((N,), 1.0)
    none = run(f"tt.clampf %0, %1, %2, propagateNan = none : tensor<{N}xf32>", "f32", a, low, high)
    assert_equal(none, torch.where(a.isnan(), -1.0, a.clamp(-1, 1)))
    every = run(f"tt.clampf %0, %1, %2, propagateNan = all : tensor<{N}xf32>", "f32", a, low, high)
    assert_equal(every, a.clamp(-1, 1))


LIBDEVICE = {
    "rintf": torch.round, "truncf": torch.trunc, "floorf": torch.floor, "fabsf": torch.abs, "expm1f": torch.expm1,
    "log1pf": torch.log1p, "erfcf": torch.erfc, "erfinvf": torch.erfinv, "acoshf": torch.acosh, "asinhf": torch.asinh,
    "atanhf": torch.atanh, "fast_expf": torch.exp, "frcp_rn": torch.reciprocal, "fsqrt_rn": torch.sqrt, "saturatef": None,
    "lgammaf": torch.lgamma, "tgammaf": None, "normcdff": torch.special.ndtr, "normcdfinvf": torch.special.ndtri,
    "exp10f": lambda x: 10**x, "rcbrtf": None, "cbrtf": None,
    "sinpif": lambda x: torch.sin(math.pi * x), "logbf": lambda x: torch.floor(torch.log2(x.abs())),
}


@pytest.mark.parametrize("symbol", LIBDEVICE)
def test_libdevice(symbol):
    x = torch.linspace(-2.9, 3.1, N)
    want = {"saturatef": lambda x: x.clamp(0, 1), "tgammaf": lambda x: torch.tensor([math.gamma(v) for v in x.tolist()]),
            "rcbrtf": lambda x: torch.sign(x) / x.abs() ** (1 / 3), "cbrtf": lambda x: torch.sign(x) * x.abs() ** (1 / 3)}
    exact = (LIBDEVICE[symbol] or want[symbol])(x.double())
    got = run('tt.extern_elementwise %0 {libname = "libdevice", libpath = "", pure = true, symbol = "__nv_' + symbol
              + f'"}} : (tensor<{N}xf32>) -> tensor<{N}xf32>', "f32", x)
    torch.testing.assert_close(got.double(), exact.double(), rtol=1e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("symbol, want", [("powf", torch.pow), ("fmodf", torch.fmod), ("hypotf", torch.hypot),
                                          ("atan2f", torch.atan2), ("fdim", lambda a, b: (a - b).clamp(min=0)),
                                          ("nextafterf", torch.nextafter), ("fdiv_rn", torch.div), ("fminf", torch.fmin)])
def test_libdevice_of_two(symbol, want):
    a, b = torch.linspace(0.1, 4, N), torch.linspace(3, -2, N)
    got = run('tt.extern_elementwise %0, %1 {libname = "", libpath = "", pure = true, symbol = "__nv_' + symbol
              + f'"}} : (tensor<{N}xf32>, tensor<{N}xf32>) -> tensor<{N}xf32>', "f32", a, b)
    torch.testing.assert_close(got, want(a, b), rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("symbol, result, want", [
    ("float2int_rn", "i32", lambda x: x.round().int()), ("float2int_rd", "i32", lambda x: x.floor().int()),
    ("llrintf", "i64", lambda x: x.round().long()), ("isnanf", "i32", lambda x: x.isnan().int()),
    ("isinff", "i32", lambda x: x.isinf().int()), ("float2uint_rz", "i32", lambda x: x.clamp(min=0).int())])
def test_libdevice_to_integers(symbol, result, want):
    x = torch.linspace(-5, 5, N)
    got = run('tt.extern_elementwise %0 {libname = "", libpath = "", pure = true, symbol = "__nv_' + symbol
              + f'"}} : (tensor<{N}xf32>) -> tensor<{N}x{result}>', result, x)
    assert torch.equal(got, want(x))


def test_every_entry_of_the_tables_is_tested():
    tested = set(WHOLE_BINARY) | set(OF_UNSIGNED) | {"arith.shli", "arith.shrsi", "arith.shrui", "math.absi", "tt.mulhiui"}
    assert set(INTEGERS) == tested
    assert set(ARITHMETIC) == set(FLOAT_BINARY) | set(EXACT_UNARY) | {"math.fma", "math.round"}
    assert set(FUNCTIONS) == set(REFERENCES)
    assert set(ARITHMETIC | FUNCTIONS) == set(SPECIAL) | {"math.fma"}


@pytest.mark.parametrize("op", [
    f"tt.extern_elementwise %0 {{symbol = \"__nv_j0f\"}} : (tensor<{N}xf32>) -> tensor<{N}xf32>",
    f"tt.dot_scaled %0 : tensor<{N}xf32> -> tensor<{N}xf32>",
    f"tt.elementwise_inline_asm \"rcp $0, $1;\" {{pure = true}} %0 : tensor<{N}xf32> -> tensor<{N}xf32>",
])
def test_what_is_not_executed_says_so(op):
    with pytest.raises(Unsupported, match="j0f|dot_scaled|inline assembly"):
        run(op, "f32", lanes("f32"))
