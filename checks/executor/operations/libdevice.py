"""Functions of NVIDIA's libdevice that `tl.extra` and `libdevice` call, by their names without `__nv_` and the final f."""

import math
import re
from collections.abc import Callable

import numpy as np

from checks.executor.errors import Unsupported
from checks.executor.formats import rounded, to_integer
from checks.executor.ir import Op
from checks.executor.operations.elementwise import FUNCTIONS, erf, fma, high_half, round_half_away, rsqrt
from checks.executor.operations.table import Array, Function, pure


def one_by_one(function: Callable[..., float], refused: float = math.nan) -> Function:
    """A function of Python's numbers, for lanes; what is too large is infinite."""
    def safe(*x: float) -> float:
        try:
            return function(*x)
        except OverflowError:
            return math.inf
        except ValueError:
            return refused

    vectorized = np.vectorize(safe, otypes=[np.float64])
    return lambda *x: vectorized(*x).astype(x[0].dtype)


def _reached(function: Callable[[float], float], value: float) -> float:
    """Where an increasing function reaches a value, between -40 and 40: bisection to the last bit."""
    low, high = -40.0, 40.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if function(middle) < value else (low, middle)
    return high


def normal_quantile(p: float) -> float:
    """Where the standard normal distribution reaches p."""
    if not 0 < p < 1:
        return {0.0: -math.inf, 1.0: math.inf}.get(p, math.nan)
    if 0.25 < p < 0.75:  # 0 at the half, and beside it as small as it should be
        return math.sqrt(2) * erfinv(2 * p - 1)
    if p > 0.5:
        return -normal_quantile(1 - p)
    return _reached(lambda x: math.erfc(-x / math.sqrt(2)) / 2, p)


def erfinv(y: float) -> float:
    if abs(y) < 0.5:
        return _reached(math.erf, y) if y else y
    return math.copysign(normal_quantile((1 - abs(y)) / 2) / math.sqrt(2), y)


def erfcx(x: float) -> float:
    """exp(x²) · erfc(x); beyond 25, where the one grows too large and the other too small, by its asymptotic series."""
    if x < 25:
        return math.exp(x * x) * math.erfc(x)
    t = 0.5 / (x * x)
    return (1 - t * (1 - 3 * t * (1 - 5 * t * (1 - 7 * t)))) / x / math.sqrt(math.pi)


def gamma(x: float) -> float:
    return math.copysign(math.inf, x) if abs(x) < 2.0**-1024 else math.gamma(x)


def logb(x: Array) -> Array:
    """The exponent of 2; of 0 -inf, of infinities inf."""
    return np.where(np.isfinite(x) & (x != 0), np.frexp(x)[1] - 1, np.log2(np.abs(x))).astype(x.dtype)


def rhypot(a: Array, b: Array) -> Array:
    return (1 / np.hypot(a.astype(np.float64), b)).astype(a.dtype)  # float32's root may be too large for it


def sinpi(x: Array) -> Array:
    """By what is left beside the nearest integer: at each a zero with the sign of x, as CUDA's."""
    whole = np.rint(x)
    left = x - whole
    return np.where(left == 0, np.copysign(0, x), np.sin(np.pi * left) * (1 - 2 * np.abs(np.fmod(whole, 2)))).astype(x.dtype)


def cospi(x: Array) -> Array:
    whole = np.rint(x)
    return (np.sin(np.pi * (0.5 - np.abs(x - whole))) * (1 - 2 * np.abs(np.fmod(whole, 2)))).astype(x.dtype)


LIBDEVICE: dict[str, Function] = {name.partition(".")[2]: function for name, function in FUNCTIONS.items()
                                  if name.startswith("math.")} | {
    "rint": np.rint, "nearbyint": np.rint, "round": round_half_away, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc,
    "fabs": np.abs, "abs": np.abs, "llabs": np.abs, "pow": np.power, "powi": np.power, "fmod": np.fmod,
    "remainder": one_by_one(math.remainder), "fmin": np.fmin, "fmax": np.fmax, "min": np.minimum, "max": np.maximum,
    "copysign": np.copysign, "fma": fma, "fdim": lambda a, b: np.where(np.isnan(a) | np.isnan(b), a + b, np.fmax(a - b, 0)),
    "nextafter": np.nextafter, "hypot": np.hypot, "rhypot": rhypot, "ldexp": np.ldexp, "scalbn": np.ldexp,
    "ilogb": lambda x: np.where(np.isnan(x), -np.inf, logb(x)), "logb": logb,
    "isnan": np.isnan, "isinf": np.isinf, "isfinited": np.isfinite, "finite": np.isfinite, "signbit": np.signbit,
    "exp10": lambda x: np.power(x.dtype.type(10), x), "rcbrt": lambda x: 1 / np.cbrt(x), "acosh": np.arccosh,
    "asinh": np.arcsinh, "atanh": np.arctanh, "sinpi": sinpi, "cospi": cospi, "erfc": one_by_one(math.erfc),
    "erfinv": one_by_one(erfinv), "normcdfinv": one_by_one(normal_quantile),
    "normcdf": one_by_one(lambda x: math.erfc(-x / math.sqrt(2)) / 2),
    "erfcx": one_by_one(erfcx), "tgamma": one_by_one(gamma), "lgamma": one_by_one(math.lgamma, refused=math.inf),
    "fdiv_rn": np.divide, "ddiv_rn": np.divide,
    "fsqrt_rn": np.sqrt, "dsqrt_rn": np.sqrt, "frcp_rn": np.reciprocal, "drcp_rn": np.reciprocal, "frsqrt_rn": rsqrt,
    "fadd_rn": np.add, "dadd_rn": np.add, "fsub_rn": np.subtract, "fmul_rn": np.multiply, "dmul_rn": np.multiply,
    "fmaf_rn": fma, "fma_rn": fma, "saturate": lambda x: np.fmin(np.fmax(np.nan_to_num(x), 0), 1).astype(x.dtype),
    "fast_exp": np.exp, "fast_exp10": lambda x: np.power(x.dtype.type(10), x), "fast_log": np.log, "fast_log2": np.log2,
    "fast_log10": np.log10, "fast_sin": np.sin, "fast_cos": np.cos, "fast_tan": np.tan, "fast_pow": np.power,
    "fast_fdivide": np.divide, "umulhi": high_half,
    "float2int_rn": np.rint, "float2int_rz": np.trunc, "float2int_rd": np.floor, "float2int_ru": np.ceil,
    "llrint": np.rint, "llround": round_half_away, "lrint": np.rint, "lround": round_half_away,
    "int2float_rn": lambda x: x.astype(np.float32), "erf": erf,
}


def find(symbol: str) -> Function:
    """Raises Unsupported for a function that is not in the table."""
    name = symbol.removeprefix("__nv_")
    for candidate in (name, name.removesuffix("f"), re.sub(r"^(float|double)2u?(int|ll)_", "float2int_", name)):
        if candidate in LIBDEVICE:
            return LIBDEVICE[candidate]
    raise Unsupported(f"the libdevice function {symbol}")


@pure("tt.extern_elementwise")
def extern(op: Op) -> Function:
    symbol, kind = op.attribute("symbol"), op.type
    function = find(symbol)
    from_zero = bool(re.search("2u(int|ll)_", symbol))

    def call(*x: Array) -> Array:
        result = np.asarray(function(*x))
        if result.dtype.kind == "f" and kind.dtype.kind == "i":
            return to_integer(result, kind.dtype, from_zero)
        return rounded(result, kind.elem) if kind.dtype.kind == "f" else result.astype(kind.dtype)

    return call
