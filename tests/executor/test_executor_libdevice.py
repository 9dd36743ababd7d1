"""Each entry of the table of libdevice's functions against Python's own mathematics, number by number."""

import math

import numpy as np
import pytest

from checks.executor.operations.elementwise import FUNCTIONS
from checks.executor.operations.libdevice import LIBDEVICE

INF, NAN = math.inf, math.nan
BOTH = (-2.5, -1.5, -0.7, -0.5, 0.3, 0.5, 1.5, 2.5, 3.7)
ABOVE = tuple(1 + abs(x) for x in BOTH)
WITHIN = (-0.9, -0.5, -1e-3, 0.0, 0.25, 0.8)
SPECIAL = (*BOTH, NAN, INF, -INF, 0.0, -0.0)
PAIRS = tuple(zip((*BOTH, 7.0, 9.0), (*BOTH[::-1], -2.0, 4.0), strict=True))
BASES = tuple((abs(x), y) for x, y in PAIRS)
SHIFTS = tuple((x, n) for n, x in enumerate(BOTH, -4))


def half_away(x):
    return math.copysign(math.floor(abs(x) + 0.5), x)


def logarithm(x):
    return math.frexp(x)[1] - 1


def fma(a, b, c):
    return a * b + c


ONE = {
    BOTH: {
        **dict.fromkeys(("rint", "nearbyint", "llrint", "lrint", "float2int_rn"), round),
        **dict.fromkeys(("round", "llround", "lround"), half_away),
        "floor": math.floor, "float2int_rd": math.floor, "ceil": math.ceil, "float2int_ru": math.ceil,
        "trunc": math.trunc, "float2int_rz": math.trunc, "fabs": abs, "abs": abs, "llabs": abs, "ilogb": logarithm,
        "logb": logarithm, "exp10": lambda x: 10**x, "fast_exp10": lambda x: 10**x, "fast_exp": math.exp,
        "rcbrt": lambda x: math.copysign(abs(x) ** (-1 / 3), x), "asinh": math.asinh, "fast_sin": math.sin,
        "fast_cos": math.cos, "fast_tan": math.tan, "sinpi": lambda x: math.sin(math.pi * x),
        "cospi": lambda x: math.cos(math.pi * x), "erf": math.erf, "erfc": math.erfc, "tgamma": math.gamma,
        "lgamma": math.lgamma, "normcdf": lambda x: (1 + math.erf(x / math.sqrt(2))) / 2,
        "erfcx": lambda x: math.exp(x * x) * math.erfc(x), "frcp_rn": lambda x: 1 / x, "drcp_rn": lambda x: 1 / x,
        "saturate": lambda x: min(max(x, 0), 1)},
    tuple(range(-4, 5)): {"int2float_rn": float},
    ABOVE: {
        "acosh": math.acosh, "fsqrt_rn": math.sqrt, "dsqrt_rn": math.sqrt, "frsqrt_rn": lambda x: 1 / math.sqrt(x),
        "fast_log": math.log, "fast_log2": math.log2, "fast_log10": math.log10},
    WITHIN: {"atanh": math.atanh},
    SPECIAL: {"isnan": math.isnan, "isinf": math.isinf, "isfinited": math.isfinite, "finite": math.isfinite,
              "signbit": lambda x: math.copysign(1, x) < 0 and not math.isnan(x)},
}
TWO = {
    PAIRS: {
        "fmod": math.fmod, "remainder": math.remainder, "fmin": min, "fmax": max, "min": min, "max": max,
        "copysign": math.copysign, "fdim": lambda a, b: max(a - b, 0), "nextafter": math.nextafter, "hypot": math.hypot,
        "rhypot": lambda a, b: 1 / math.hypot(a, b),
        **dict.fromkeys(("fdiv_rn", "ddiv_rn", "fast_fdivide"), lambda a, b: a / b),
        **dict.fromkeys(("fadd_rn", "dadd_rn"), lambda a, b: a + b), "fsub_rn": lambda a, b: a - b,
        **dict.fromkeys(("fmul_rn", "dmul_rn"), lambda a, b: a * b)},
    BASES: {"pow": math.pow, "fast_pow": math.pow},
    SHIFTS: {"powi": math.pow, "ldexp": math.ldexp, "scalbn": math.ldexp},
}
ELSEWHERE = {"fma", "fmaf_rn", "fma_rn", "erfinv", "normcdfinv", "umulhi"}


def of(name, *columns):
    with np.errstate(all="ignore"):
        return LIBDEVICE[name](*map(np.array, columns)).tolist()


@pytest.mark.parametrize(("x", "name"), [(x, name) for x, functions in ONE.items() for name in functions],
                         ids=lambda value: value if isinstance(value, str) else "")
def test_a_function_of_one_number(x, name):
    assert of(name, x) == pytest.approx([ONE[x][name](one) for one in x], rel=1e-12)


@pytest.mark.parametrize(("pairs", "name"), [(pairs, name) for pairs, functions in TWO.items() for name in functions],
                         ids=lambda value: value if isinstance(value, str) else "")
def test_a_function_of_two_numbers(pairs, name):
    assert of(name, *zip(*pairs, strict=True)) == pytest.approx([TWO[pairs][name](*pair) for pair in pairs], rel=1e-12)


def test_the_others_and_that_none_is_left_out():
    for name in ("fma", "fmaf_rn", "fma_rn"):
        assert of(name, BOTH, BOTH[::-1], ABOVE) == pytest.approx(list(map(fma, BOTH, BOTH[::-1], ABOVE)))
    assert [math.erf(y) for y in of("erfinv", WITHIN)] == pytest.approx(list(WITHIN), rel=1e-12, abs=1e-15)
    chances = (1e-9, 0.2, 0.5, 0.99)
    assert of("normcdf", of("normcdfinv", chances)) == pytest.approx(list(chances), rel=1e-9)
    assert of("umulhi", [1 << 40, 3], [1 << 30, 7]) == [1 << 6, 0]
    tested = {name for table in (*ONE.values(), *TWO.values()) for name in table} | ELSEWHERE
    assert tested == set(LIBDEVICE) - {name.partition(".")[2] for name in FUNCTIONS if name.startswith("math.")} | {"erf"}


@pytest.mark.parametrize(("name", "x", "want"), [  # CUDA's table of the special values of each function
    ("tgamma", (200.0, INF, 0.0, -0.0, -1.0, -3.0, -INF, NAN), (INF, INF, INF, -INF, NAN, NAN, NAN, NAN)),
    ("lgamma", (0.0, -2.0, INF, -INF, NAN), (INF, INF, INF, INF, NAN)),
    ("erfcx", (30.0, 1e4, INF, -30.0, -INF, NAN), (0.018795888861416751, 5.6418958072e-5, 0.0, INF, INF, NAN)),
    ("erfinv", (1.0, -1.0, 1.5, NAN), (INF, -INF, NAN, NAN)), ("normcdfinv", (0.0, 1.0, -1.0), (-INF, INF, NAN)),
    ("erfinv", (1e-20, -1e-12), (8.862269254527581e-21, -8.862269254527581e-13))])
def test_special_values(name, x, want):
    assert of(name, x) == pytest.approx(list(want), rel=1e-9, abs=0, nan_ok=True)


@pytest.mark.parametrize(("x", "y"), [((1.0, INF, 5.0), (0.0, 2.0, INF))])
def test_the_remainder_of_what_has_none(x, y):
    assert of("remainder", x, y) == pytest.approx([NAN, NAN, 5.0], nan_ok=True)
