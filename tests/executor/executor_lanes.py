"""One operation on every lane of a tile, the lanes it is tried on, and rounding by fractions."""

import math
from fractions import Fraction

import torch

from checks.executor import Module

N = 256
TYPES = {"i1": torch.bool, "i8": torch.int8, "i16": torch.int16, "i32": torch.int32, "i64": torch.int64,
         "f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64,
         "f8E5M2": torch.float8_e5m2, "f8E4M3FN": torch.float8_e4m3fn}
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


def run_all(op: str, result: str, *inputs: torch.Tensor) -> torch.Tensor:
    """`op` on any number of lanes: a tile has a power of two. LANES in it is the type of the operands."""
    n = 1 << (len(inputs[0]) - 1).bit_length()
    padded = [torch.cat([x, x.new_zeros(n - len(x))]) for x in inputs]
    kind = next(kind for kind, dtype in TYPES.items() if dtype == inputs[0].dtype)
    return run(op.replace("LANES", f"tensor<{n}x{kind}>"), result, *padded, n=n)[:len(inputs[0])]


def special(kind: str) -> torch.Tensor:
    """NaN, infinities, zeros, the largest and the smallest, ties, and where functions turn, with the numbers beside."""
    of, dtype = torch.finfo(TYPES[kind]), TYPES[kind]
    edges = [0, of.smallest_normal * of.eps, of.smallest_normal, 3e-5, of.max / 2, of.max, math.inf]
    turns = torch.tensor([0.125, 0.5, 1, 1.5, 2.5, 6, 9, 25, 28], dtype=dtype)
    beside = [torch.nextafter(turns, torch.tensor(to, dtype=dtype)) for to in (0.0, math.inf)]
    x = torch.cat([torch.tensor(edges, dtype=dtype), turns, *beside])
    return torch.cat([x, -x, torch.tensor([math.nan], dtype=dtype)])


def special_tuples(kind: str, count: int) -> list[torch.Tensor]:
    """Each special number with each, as `count` operands."""
    return [x.flatten() for x in torch.meshgrid(*[special(kind)] * count, indexing="ij")]


def assert_special(got: torch.Tensor, want: torch.Tensor, rtol: float = 0.0, atol: float = 0.0, zeros: bool = True) -> None:
    """`want` is float64. A subnormal number may be off by two steps where there is a tolerance; zeros have their signs."""
    of, want = torch.finfo(got.dtype), want.to(got.dtype)
    steps = 2 * of.smallest_normal * of.eps if rtol else 0.0
    torch.testing.assert_close(got.double(), want.double(), rtol=rtol, atol=atol + steps, equal_nan=True)
    zero = (got == 0) & (want == 0)
    assert not zeros or torch.equal(got[zero].signbit(), want[zero].signbit())


def assert_equal(got, want, rtol=0.0):
    got, want = got.double() if got.dtype != torch.int64 else got, want.double() if want.dtype != torch.int64 else want
    torch.testing.assert_close(got, want, rtol=rtol, atol=0, equal_nan=True)


def rounded_half_away(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.frac().abs() == 0.5, x + x.sign() / 2, x.round())


def as_unsigned(x):
    return x.long() & (1 << 8 * x.element_size()) - 1 if x.dtype != torch.int64 else None



PRECISION = {"f16": (11, -24), "bf16": (8, -133), "f32": (24, -149), "f64": (53, -1074)}
"""Bits of the mantissa, and the exponent of the smallest number."""


def wrapped(x: int, width: int) -> int:
    return (x + (1 << width - 1)) % (1 << width) - (1 << width - 1)


def rounded_fraction(exact, bits: int, smallest: int, to=round) -> float:
    """`to` gives the integer: `round` the nearest one, of two the even one."""
    if exact == 0:
        return 0.0
    exponent = math.floor(math.log2(abs(exact.numerator)) - math.log2(exact.denominator))
    while abs(exact) >= 2 ** (exponent + 1):
        exponent += 1
    while abs(exact) < (2**exponent if exponent >= 0 else 1 / 2**-exponent):
        exponent -= 1
    step = max(exponent - bits + 1, smallest)
    unit = Fraction(2) ** step
    return float(to(exact / unit) * unit)
