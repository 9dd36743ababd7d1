"""Each operation on lanes, and each conversion, against torch: the same bits unless a tolerance is said."""

import math

import pytest
import torch

from checks.executor import Module, Unsupported
from checks.executor.operations.elementwise import ARITHMETIC, FUNCTIONS, INTEGERS

N = 256
TYPES = {"i1": torch.bool, "i8": torch.int8, "i16": torch.int16, "i32": torch.int32, "i64": torch.int64, "f16": torch.float16,
         "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64, "f8E5M2": torch.float8_e5m2,
         "f8E4M3FN": torch.float8_e4m3fn}
FLOATS, WHOLE = ("f16", "bf16", "f32", "f64"), ("i8", "i16", "i32", "i64")


def run(op: str, result: str, *inputs: torch.Tensor, n: int = N) -> torch.Tensor:
    """`op`, whose text names its operands %0, %1, ..., on every lane."""
    names = {dtype: name for name, dtype in TYPES.items()}
    kinds = [names[x.dtype] for x in inputs] + [result]
    lines = [f"%lanes = tt.make_range {{end = {n} : i32, start = 0 : i32}} : tensor<{n}xi32>"]
    for i, kind in enumerate(kinds):
        pointers = f"tensor<{n}x!tt.ptr<{kind}>>"
        lines += [f"%s{i} = tt.splat %arg{i} : !tt.ptr<{kind}> -> {pointers}",
                  f"%p{i} = tt.addptr %s{i}, %lanes : {pointers}, tensor<{n}xi32>"]
        if i < len(inputs):
            lines.append(f"%{i} = tt.load %p{i} : {pointers}")
    lines += [f"%out = {op}", f"tt.store %p{len(inputs)}, %out : tensor<{n}x!tt.ptr<{result}>>", "tt.return"]
    arguments = ", ".join(f"%arg{i}: !tt.ptr<{kind}>" for i, kind in enumerate(kinds))
    text = "\n".join(["module {", f"tt.func public @k({arguments}) attributes {{noinline = false}} {{", *lines, "}", "}"])
    out = torch.zeros(n, dtype=TYPES[result])
    report = Module(text).run((1,), {f"x{i}": x for i, x in enumerate([*inputs, out])})
    assert report.fine
    return out


def lanes(kind: str, seed: int = 0) -> torch.Tensor:
    """Random numbers with all the edges among them."""
    g, dtype = torch.Generator().manual_seed(seed), TYPES[kind]
    if kind == "i1":
        return torch.randint(0, 2, (N,), generator=g).bool()
    if kind[0] == "i":
        edges = torch.iinfo(dtype)
        x = torch.randint(edges.min, edges.max, (N,), generator=g, dtype=dtype)
        x[:6] = torch.tensor([0, 1, -1, edges.max, edges.min, 2]).roll(seed)
        return x
    x = (torch.randn(N, generator=g) * torch.exp(2 * torch.randn(N, generator=g))).to(dtype)
    x[:8] = torch.tensor([0.0, -0.0, 1.0, -1.5, math.inf, -math.inf, math.nan, 2.5]).roll(seed).to(dtype)
    return x


def assert_equal(got, want, rtol=0.0):
    got, want = got.double() if got.dtype != torch.int64 else got, want.double() if want.dtype != torch.int64 else want
    torch.testing.assert_close(got, want, rtol=rtol, atol=0, equal_nan=True)


def as_unsigned(x):
    return x.long() & (1 << 8 * x.element_size()) - 1 if x.dtype != torch.int64 else None


def c_divide(a, b):
    return torch.div(a, b, rounding_mode="trunc")


WHOLE_BINARY = {
    "arith.addi": torch.add, "arith.subi": torch.sub, "arith.muli": torch.mul, "arith.andi": torch.bitwise_and,
    "arith.ori": torch.bitwise_or, "arith.xori": torch.bitwise_xor, "arith.maxsi": torch.maximum,
    "arith.minsi": torch.minimum, "arith.divsi": c_divide, "arith.remsi": torch.fmod,
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


def wrapped(x: int, width: int) -> int:
    return (x + (1 << width - 1)) % (1 << width) - (1 << width - 1)


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


@pytest.mark.parametrize("op, want", [("addi", "xor"), ("subi", "xor"), ("muli", "and"), ("andi", "and"), ("ori", "or"),
                                      ("xori", "xor"), ("maxsi", "and"), ("minsi", "or"), ("maxui", "or"), ("minui", "and")])
def test_one_bit(op, want):
    a, b = lanes("i1"), lanes("i1", 1)
    assert torch.equal(run(f"arith.{op} %0, %1 : tensor<{N}xi1>", "i1", a, b), getattr(torch, f"bitwise_{want}")(a, b))


FLOAT_BINARY = {
    "arith.addf": torch.add, "arith.subf": torch.sub, "arith.mulf": torch.mul, "arith.divf": torch.div,
    "arith.maximumf": torch.maximum, "arith.minimumf": torch.minimum, "arith.maxnumf": torch.fmax, "arith.minnumf": torch.fmin,
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
    from fractions import Fraction

    a, b, c = (lanes(kind, seed) for seed in (11, 12, 13))
    c[20:140] = -(a[20:140] * b[20:140])  # what is left is the rounding error of the product
    c[140:] *= 2.0 ** -20
    got = run(f"math.fma %0, %1, %2 : tensor<{N}x{kind}>", kind, a, b, c)
    bits = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}[kind]
    smallest = {"f16": -24, "bf16": -133, "f32": -149, "f64": -1074}[kind]
    for x, y, z, result in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        if all(map(math.isfinite, (x, y, z))) and math.isfinite(result):
            exact = Fraction(x) * Fraction(y) + Fraction(z)
            assert result == rounded_fraction(exact, bits, smallest)


def rounded_fraction(exact, bits: int, smallest: int) -> float:
    if exact == 0:
        return 0.0
    exponent = math.floor(math.log2(abs(exact.numerator)) - math.log2(exact.denominator))
    while abs(exact) >= 2 ** (exponent + 1):
        exponent += 1
    while abs(exact) < (2**exponent if exponent >= 0 else 1 / 2**-exponent):
        exponent -= 1
    step = max(exponent - bits + 1, smallest)
    from fractions import Fraction
    unit = Fraction(2) ** step
    return float(round(exact / unit) * unit)  # Python rounds ties to even


REFERENCES = {  # by NumPy here: of FP16 and BF16, torch computes in float32 too
    "math.exp": torch.exp, "math.exp2": torch.exp2, "math.expm1": torch.expm1, "math.log": torch.log, "math.log2": torch.log2,
    "math.log10": torch.log10, "math.log1p": torch.log1p, "math.sin": torch.sin, "math.cos": torch.cos, "math.tan": torch.tan,
    "math.asin": torch.asin, "math.acos": torch.acos, "math.atan": torch.atan, "math.sinh": torch.sinh,
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


@pytest.mark.parametrize("how, want", [
    ("oeq", lambda a, b: a == b), ("one", lambda a, b: (a < b) | (a > b)), ("olt", lambda a, b: a < b),
    ("ole", lambda a, b: a <= b), ("ogt", lambda a, b: a > b), ("oge", lambda a, b: a >= b), ("une", lambda a, b: a != b),
    ("ueq", lambda a, b: ~((a < b) | (a > b))), ("ult", lambda a, b: ~(a >= b)), ("ule", lambda a, b: ~(a > b)),
    ("ugt", lambda a, b: ~(a <= b)), ("uge", lambda a, b: ~(a < b)), ("ord", lambda a, b: ~(a.isnan() | b.isnan())),
    ("uno", lambda a, b: a.isnan() | b.isnan()), ("true", lambda a, b: a.isnan() | True),
    ("false", lambda a, b: a.isnan() & False)])
def test_comparing_floats(how, want):
    a, b = lanes("f32"), lanes("f32", 6)
    b[100:] = a[100:]
    assert torch.equal(run(f"arith.cmpf {how}, %0, %1 : tensor<{N}xf32>", "i1", a, b), want(a, b))


@pytest.mark.parametrize("how, want", [("eq", torch.eq), ("ne", torch.ne), ("lt", torch.lt), ("le", torch.le),
                                       ("gt", torch.gt), ("ge", torch.ge)])
@pytest.mark.parametrize("kind", ("i1", "i8", "i32"))
def test_comparing_integers(kind, how, want):
    a, b = lanes(kind), lanes(kind, 1)
    b[100:150] = a[100:150]
    signed = [-x.long() if kind == "i1" else x.long() for x in (a, b)]
    unsigned = [x.long() if kind == "i1" else as_unsigned(x) for x in (a, b)]
    for prefix, given in (("s", signed), ("u", unsigned)) if how not in ("eq", "ne") else (("", signed),):
        assert torch.equal(run(f"arith.cmpi {prefix}{how}, %0, %1 : tensor<{N}x{kind}>", "i1", a, b), want(*given)), prefix


@pytest.mark.parametrize("source", ("i1", "i8", "i16", "i32", "i64"))
@pytest.mark.parametrize("target", ("i1", "i8", "i16", "i32", "i64"))
def test_widths_of_integers(source, target):
    x = lanes(source)
    if TYPES[source].itemsize == TYPES[target].itemsize and "i1" not in (source, target) or source == target:
        return
    wider = target != "i1" and (source == "i1" or TYPES[target].itemsize > TYPES[source].itemsize)
    if wider:
        want = -x.to(TYPES[target]) if source == "i1" else x.to(TYPES[target])
        assert torch.equal(run(f"arith.extsi %0 : tensor<{N}x{source}> to tensor<{N}x{target}>", target, x), want)
        low = x.long() if source == "i1" else as_unsigned(x)
        assert torch.equal(run(f"arith.extui %0 : tensor<{N}x{source}> to tensor<{N}x{target}>", target, x),
                           low.to(TYPES[target]))
    else:
        want = (x & 1).bool() if target == "i1" else x.to(TYPES[target])
        assert torch.equal(run(f"arith.trunci %0 : tensor<{N}x{source}> to tensor<{N}x{target}>", target, x), want)


@pytest.mark.parametrize("source", ("i1", "i8", "i16", "i32", "i64"))
@pytest.mark.parametrize("target", FLOATS)
def test_integers_to_floats_round_once(source, target):
    x = lanes(source)
    exact = [int(v) for v in x]
    bits, smallest = {"f16": (11, -24), "bf16": (8, -133), "f32": (24, -149), "f64": (53, -1074)}[target]
    for op, given in (("sitofp", [-v for v in exact] if source == "i1" else exact),
                      ("uitofp", exact if source == "i1" else [v % 2 ** (8 * x.element_size()) for v in exact])):
        from fractions import Fraction
        want = torch.tensor([rounded_fraction(Fraction(v), bits, smallest) for v in given], dtype=torch.float64)
        if target == "f16":
            want = torch.where(want.abs() > 65504, want.sign() * math.inf, want)
        got = run(f"arith.{op} %0 : tensor<{N}x{source}> to tensor<{N}x{target}>", target, x)
        assert_equal(got, want)


@pytest.mark.parametrize("kind", ("i8", "i16", "i32", "i64"))
@pytest.mark.parametrize("source", FLOATS)
def test_floats_to_integers_within_range(source, kind):
    info = torch.iinfo(TYPES[kind])
    x = lanes(source).nan_to_num(0, 3, -3).clamp(max(info.min, -30000), min(info.max, 30000))
    assert torch.equal(run(f"arith.fptosi %0 : tensor<{N}x{source}> to tensor<{N}x{kind}>", kind, x), x.trunc().to(TYPES[kind]))
    x = x.abs()
    assert torch.equal(run(f"arith.fptoui %0 : tensor<{N}x{source}> to tensor<{N}x{kind}>", kind, x), x.trunc().to(TYPES[kind]))


def test_floats_to_integers_saturate_and_nan_is_zero():
    x = torch.tensor([math.nan, math.inf, -math.inf, 3e9, -3e9, 2.0**31, -(2.0**31), 1e30] * (N // 8))
    high, low = 2**31 - 1, -(2**31)
    assert run(f"arith.fptosi %0 : tensor<{N}xf32> to tensor<{N}xi32>", "i32", x)[:8].tolist() == [
        0, high, low, high, low, high, low, high]
    assert run(f"arith.fptoui %0 : tensor<{N}xf32> to tensor<{N}xi32>", "i32", x)[:8].tolist() == [
        0, -1, 0, 3_000_000_000 - 2**32, 0, low, 0, -1]
    high, low = 2**63 - 1, -(2**63)
    assert run(f"arith.fptosi %0 : tensor<{N}xf32> to tensor<{N}xi64>", "i64", x)[:8].tolist() == [
        0, high, low, 3_000_000_000, -3_000_000_000, 2**31, -(2**31), high]


@pytest.mark.parametrize("source, target", [(a, b) for a in TYPES for b in TYPES if a[0] != "i" and b[0] != "i" and a != b])
def test_floats_to_floats(source, target):
    x = lanes(source)
    op = "tt.fp_to_fp" if "8" in source + target else "arith.extf" if x.element_size() < TYPES[target].itemsize else "arith.truncf"
    if target.startswith("f8"):  # `cvt.satfinite`; torch gives inf and NaN
        x = x.double().clamp(-400, 400).to(x.dtype)
    rounding = ", rounding = rtne" if op == "tt.fp_to_fp" and target.startswith("f8") else ""
    arrow = "->" if op == "tt.fp_to_fp" else "to"
    got = run(f"{op} %0{rounding} : tensor<{N}x{source}> {arrow} tensor<{N}x{target}>", target, x)
    assert_equal(got.float(), x.to(TYPES[target]).float())


def test_floats_rounded_towards_zero():
    x = lanes("f32")
    got = run(f"tt.fp_to_fp %0, rounding = rtz : tensor<{N}xf32> -> tensor<{N}xbf16>", "bf16", x)
    finite = x.isfinite()
    assert torch.equal(got[finite].view(torch.int16), (x.view(torch.int32) >> 16).to(torch.int16)[finite])
    got = run(f"tt.fp_to_fp %0, rounding = rtz : tensor<{N}xf32> -> tensor<{N}xf16>", "f16", x)
    nearest = x.half()
    past = nearest.float().abs() > x.abs()
    assert torch.equal(got[finite], torch.where(past, torch.nextafter(nearest, torch.zeros(())), nearest)[finite])


@pytest.mark.parametrize("a, b", [("f32", "i32"), ("i16", "f16"), ("bf16", "i16"), ("i8", "f8E5M2"), ("f64", "i64"),
                                  ("f8E4M3FN", "i8"), ("i16", "bf16")])
def test_bitcast(a, b):
    x = lanes(a)
    got = run(f"tt.bitcast %0 : tensor<{N}x{a}> -> tensor<{N}x{b}>", b, x)
    assert_equal(got.float(), x.view(TYPES[b]).float())


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


@pytest.mark.parametrize("op", [
    f"tt.extern_elementwise %0 {{symbol = \"__nv_j0f\"}} : (tensor<{N}xf32>) -> tensor<{N}xf32>",
    f"tt.dot_scaled %0 : tensor<{N}xf32> -> tensor<{N}xf32>",
    f"tt.elementwise_inline_asm \"rcp $0, $1;\" {{pure = true}} %0 : tensor<{N}xf32> -> tensor<{N}xf32>",
])
def test_what_is_not_executed_says_so(op):
    with pytest.raises(Unsupported, match="j0f|dot_scaled|inline assembly"):
        run(op, "f32", lanes("f32"))
