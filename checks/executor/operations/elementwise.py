"""Lane by lane: arith and math. Integers wrap around; floats are rounded to their type after each operation."""

import math
from collections.abc import Callable

import numpy as np

from checks.executor.errors import Malformed
from checks.executor.formats import rounded, signed, unsigned
from checks.executor.ir import Op
from checks.executor.operations.table import Array, Function, pure
from checks.executor.types import NARROW

ERF_STEPS = 256
ERF_TABLE = np.array([math.erf(i / ERF_STEPS) for i in range(6 * ERF_STEPS + 1)])


def divide(a: Array, b: Array) -> Array:
    """Towards zero, as C does."""
    return (a - np.fmod(a, b)) // b


def high_half(a: Array, b: Array) -> Array:
    """The upper half of the product of unsigned numbers."""
    if a.dtype.itemsize < 8:
        wide = np.dtype(f"u{2 * a.itemsize}")
        return (unsigned(a).astype(wide) * unsigned(b) >> wide.type(8 * a.itemsize)).astype(a.dtype)
    a, b = unsigned(a), unsigned(b)
    low, half = np.uint64(2**32 - 1), np.uint64(32)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    middle = a1 * b0 + (a0 * b0 >> half)
    return (a1 * b1 + (middle >> half) + ((a0 * b1 + (middle & low)) >> half)).view(np.int64)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded sum and its error (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded product of float64 and its error (Dekker)."""
    high_a, high_b = (x * 134217729.0 - (x * 134217729.0 - x) for x in (a, b))
    low_a, low_b = a - high_a, b - high_b
    product = a * b
    return product, low_a * low_b - (((product - high_a * high_b) - low_a * high_b) - high_a * low_b)


def _odd_sum(a: Array, b: Array) -> Array:
    """The float64 sum rounded to odd: rounded again to fewer bits it is as if rounded once (Boldo and Melquiond 2008)."""
    total, error = _two_sum(a, b)
    code = np.asarray(total).view(np.int64)
    even = (error != 0) & np.isfinite(total) & (code & 1 == 0)
    return np.where(even, code + np.where((error > 0) == (total > 0), 1, -1), code).view(np.float64)


def fma(a: Array, b: Array, c: Array) -> Array:
    """a * b + c rounded once; of FP64, products below 2**-960 may be a step of the subnormal numbers off."""
    if a.dtype == np.float64:
        product, error = _two_product(a, b)
        plus, less = _two_sum(c, error)
        high, low = _two_sum(product, plus)
        result = high + _odd_sum(less, low)
        return np.where(np.isfinite(result) & (result != 0), result, a * b + c)  # which has the sign of a zero right
    product = a.astype(np.float64) * b  # exact
    total = np.asarray(product + c)
    # Rounded again to float32 the sum is wrong only where it lies just between two numbers, or is tiny.
    between = (total.view(np.int64) & 0x1FFFFFFF == 0x10000000) | (np.abs(total) < 2.0**-125)
    if a.dtype == np.float16:
        return _odd_sum(product, c.astype(np.float64)).astype(np.float16)
    if between.any():
        product, c = (np.broadcast_to(v, total.shape)[between].astype(np.float64) for v in (product, c))
        total[between] = _odd_sum(product, c)
    return total.astype(a.dtype)


def bf16_fma(a: Array, b: Array, c: Array) -> Array:
    """The same for BF16, held as float32: rounded to odd there, so that rounding to BF16 is the only rounding."""
    exact = _odd_sum(a.astype(np.float64) * b, c.astype(np.float64))
    total = exact.astype(np.float32)
    code = total.view(np.int32)
    even = (total != exact) & np.isfinite(total) & (code & 1 == 0)
    away = (np.abs(total.astype(np.float64)) < np.abs(exact))
    return rounded(np.where(even, code + np.where(away, 1, -1).astype(np.int32), code).view(np.float32), "bf16")


def erf(x: Array) -> Array:
    """By Taylor's formula from the nearest point of a table; good to 1e-16."""
    size = np.minimum(np.abs(x.astype(np.float64)), 6.0)
    nearest = np.rint(np.nan_to_num(size) * ERF_STEPS)
    c, d = nearest / ERF_STEPS, size - nearest / ERF_STEPS
    series = 1 + d * (-c + d * ((2 * c * c - 1) / 3 + d * ((3 - 2 * c * c) * c / 6 + d * (4 * c**4 - 12 * c * c + 3) / 30)))
    value = ERF_TABLE[nearest.astype(np.int64)] + 2 / math.sqrt(math.pi) * np.exp(-c * c) * d * series
    return np.copysign(value, x).astype(x.dtype)


def round_half_away(x: Array) -> Array:
    """To the nearest integer, ties away from zero."""
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(x.dtype.type(1), x), whole)


def rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


def _on_unsigned(function: Callable[[Array, Array], Array]) -> Function:
    return lambda a, b: function(unsigned(a), unsigned(b)).view(a.dtype)


INTEGERS: dict[str, Function] = {
    "arith.addi": np.add, "arith.subi": np.subtract, "arith.muli": np.multiply, "arith.divsi": divide,
    "arith.remsi": np.fmod, "arith.divui": _on_unsigned(np.floor_divide), "arith.remui": _on_unsigned(np.remainder),
    "arith.floordivsi": np.floor_divide, "arith.ceildivsi": lambda a, b: -(-a // b),
    "arith.ceildivui": _on_unsigned(lambda a, b: a // b + (a % b != 0)),
    "arith.andi": np.bitwise_and, "arith.ori": np.bitwise_or, "arith.xori": np.bitwise_xor, "arith.shli": np.left_shift,
    "arith.shrsi": np.right_shift, "arith.shrui": _on_unsigned(np.right_shift), "arith.maxsi": np.maximum,
    "arith.minsi": np.minimum, "arith.maxui": _on_unsigned(np.maximum), "arith.minui": _on_unsigned(np.minimum),
    "math.absi": np.abs, "tt.mulhiui": high_half,
}
BITS: dict[str, Function] = {  # of i1, whose numbers are 0 and -1
    "arith.addi": np.bitwise_xor, "arith.subi": np.bitwise_xor, "arith.muli": np.bitwise_and, "arith.maxsi": np.bitwise_and,
    "arith.minsi": np.bitwise_or, "arith.maxui": np.bitwise_or, "arith.minui": np.bitwise_and,
    "arith.andi": np.bitwise_and, "arith.ori": np.bitwise_or, "arith.xori": np.bitwise_xor,
}
ARITHMETIC: dict[str, Function] = {  # floats, each in its own precision
    "arith.addf": np.add, "arith.subf": np.subtract, "arith.mulf": np.multiply, "arith.divf": np.divide,
    "arith.remf": np.fmod, "arith.negf": np.negative, "arith.maxnumf": np.fmax,
    "arith.minnumf": np.fmin, "arith.maximumf": np.maximum,
    "arith.minimumf": np.minimum, "tt.precise_divf": np.divide, "math.absf": np.abs, "math.fma": fma,
    "math.copysign": np.copysign, "math.floor": np.floor, "math.ceil": np.ceil, "math.trunc": np.trunc,
    "math.roundeven": np.rint, "math.round": round_half_away,
}
FUNCTIONS: dict[str, Function] = {  # of FP16 in float32, as libraries do
    "math.exp": np.exp, "math.exp2": np.exp2, "math.expm1": np.expm1, "math.log": np.log, "math.log2": np.log2,
    "math.log10": np.log10, "math.log1p": np.log1p, "math.sin": np.sin, "math.cos": np.cos, "math.tan": np.tan,
    "math.asin": np.arcsin, "math.acos": np.arccos, "math.atan": np.arctan, "math.atan2": np.arctan2, "math.sinh": np.sinh,
    "math.cosh": np.cosh, "math.tanh": np.tanh, "math.sqrt": np.sqrt, "math.rsqrt": rsqrt, "math.cbrt": np.cbrt,
    "math.erf": erf, "math.powf": np.power, "tt.precise_sqrt": np.sqrt,
}


@pure(*INTEGERS)
def integers(op: Op) -> Function:
    if op.type.elem != "i1":
        return INTEGERS[op.name]
    if op.name not in BITS:
        raise Malformed(f"{op.name} of i1")
    return BITS[op.name]


@pure(*ARITHMETIC)
def arithmetic(op: Op) -> Function:
    function, elem = ARITHMETIC[op.name], op.type.elem
    if elem in NARROW:
        return bf16_fma if function is fma else lambda *x: rounded(function(*x), elem)
    return function


@pure(*FUNCTIONS)
def functions(op: Op) -> Function:
    function, elem = FUNCTIONS[op.name], op.type.elem
    if elem in NARROW:
        return lambda *x: rounded(function(*x), elem)
    if elem == "f16":
        return lambda *x: function(*(a.astype(np.float32) for a in x)).astype(np.float16)
    return function


@pure("math.fpowi")
def integer_power(op: Op) -> Function:
    return lambda x, n: rounded(np.power(x.astype(np.float64), n), op.type.elem)


@pure("math.ctpop", "math.ctlz", "math.cttz")
def bits(op: Op) -> Function:
    width = 8 * op.type.dtype.itemsize
    weights = [np.uint64(i) for i in range(width)]

    def count(x: Array) -> Array:
        each = np.stack([unsigned(x).astype(np.uint64) >> weight & np.uint64(1) for weight in weights], axis=-1) != 0
        if op.name == "math.ctpop":
            return each.sum(axis=-1).astype(x.dtype)
        first = np.argmax(each[..., ::-1] if op.name == "math.ctlz" else each, axis=-1)
        return np.where(each.any(axis=-1), first, width).astype(x.dtype)

    return count


COMPARISONS = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
               "ge": np.greater_equal}


@pure("arith.cmpi")
def compare_integers(op: Op) -> Function:
    how = op.words.partition(",")[0]
    if how in ("eq", "ne"):
        return COMPARISONS[how]
    compare, turned = COMPARISONS[how[1:]], unsigned if how[0] == "u" else signed
    return lambda a, b: compare(turned(a), turned(b))


@pure("arith.cmpf")
def compare_floats(op: Op) -> Function:
    how = op.words.partition(",")[0]
    if how in ("true", "false"):
        return lambda a, b: np.full(np.broadcast_shapes(a.shape, b.shape), how == "true")
    if how in ("ord", "uno"):
        return lambda a, b: (np.isnan(a) | np.isnan(b)) == (how == "uno")
    compare = COMPARISONS[how[1:]]
    if how == "one":
        return lambda a, b: (a != b) & ~(np.isnan(a) | np.isnan(b))
    if how[0] == "u" and how != "une":
        return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)
    return compare


@pure("arith.select")
def select(op: Op) -> Function:
    def choose(condition: Array, a: Array, b: Array) -> Array:
        if condition.size == 1:
            return a if condition.flat[0] else b
        return np.where(condition.reshape(condition.shape + (1,) * (max(a.ndim, b.ndim) - condition.ndim)), a, b)

    return choose


@pure("tt.clampf")
def clamp(op: Op) -> Function:
    def clamped(x: Array, low: Array, high: Array) -> Array:
        within = np.fmin(np.fmax(x, low), high)
        return np.where(np.isnan(x), x, within) if "propagateNan = all" in op.words else within

    return clamped


@pure("arith.mulsi_extended", "arith.mului_extended")
def extended_product(op: Op) -> Function:
    def product(a: Array, b: Array) -> tuple[Array, Array]:
        high = high_half(a, b)
        if op.name == "arith.mulsi_extended":
            high = high - np.where(a < 0, b, 0) - np.where(b < 0, a, 0)
        return a * b, high

    return product
