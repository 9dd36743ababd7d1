"""Each entry of the table of libdevice's functions against Python's own mathematics, number by number."""

import itertools
import math

import numpy as np
import pytest
import torch
from executor_lanes import TYPES, assert_special, rounded_half_away, run, special_tuples

from checks.executor import Unsupported
from checks.executor.operations.elementwise import ARITHMETIC, FUNCTIONS
from checks.executor.operations.libdevice import LIBDEVICE, find

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


def each(function):
    """Python's function on each number; NaN where there is none, and what is too large infinite."""
    def value(x, *more):
        try:
            return function(x, *more)
        except ValueError:
            return NAN
        except OverflowError:
            return math.copysign(INF, x)

    return lambda *columns: torch.tensor(list(map(value, *(x.tolist() for x in columns))), dtype=torch.float64)


def exponent(x):
    """Of 2, as CUDA has it: of 0, infinities and NaN too."""
    return torch.where(x.abs() < INF, torch.where(x == 0, -INF, torch.frexp(x)[1] - 1.0), x.abs())


def sine_of_half_turns(x):
    """Of what is left of x beside the nearest integer, which is exact."""
    left = math.remainder(x, 1)
    return math.sin(math.pi * left) * (-1 if (x - left) % 2 else 1) if left else math.copysign(0, x)


def cosine_of_half_turns(x):
    left = math.remainder(x, 1)
    return math.sin(math.pi * (0.5 - abs(left))) * (-1 if (x - left) % 2 else 1)


def gamma(x):
    return math.copysign(INF, x) if abs(x) < 2.0**-1024 else math.gamma(x)


def gap(a, b):
    return torch.where(a <= b, 0.0, a - b)


SPECIAL_ONE = {
    **dict.fromkeys(("rint", "nearbyint", "llrint", "lrint", "float2int_rn"), torch.round),
    **dict.fromkeys(("round", "llround", "lround"), rounded_half_away),
    **dict.fromkeys(("floor", "float2int_rd"), torch.floor), **dict.fromkeys(("ceil", "float2int_ru"), torch.ceil),
    **dict.fromkeys(("trunc", "float2int_rz"), torch.trunc), **dict.fromkeys(("fabs", "abs", "llabs"), torch.abs),
    "logb": exponent, "ilogb": lambda x: exponent(x).nan_to_num(-INF, INF, -INF),
    **dict.fromkeys(("exp10", "fast_exp10"), lambda x: torch.pow(10.0, x)), "fast_exp": torch.exp,
    "rcbrt": lambda x: 1 / each(math.cbrt)(x), "asinh": lambda x: torch.copysign(torch.asinh(x.abs()), x),
    "fast_sin": torch.sin, "fast_cos": torch.cos, "fast_tan": torch.tan,
    "sinpi": each(sine_of_half_turns), "cospi": each(cosine_of_half_turns), "erf": torch.erf, "erfc": torch.erfc,
    "tgamma": each(gamma), "lgamma": torch.lgamma, "normcdf": lambda x: torch.erfc(-x / 2**0.5) / 2,
    "erfcx": torch.special.erfcx, **dict.fromkeys(("frcp_rn", "drcp_rn"), torch.reciprocal),
    "saturate": lambda x: x.nan_to_num(0).clamp(0, 1), "acosh": torch.acosh, "atanh": torch.atanh,
    **dict.fromkeys(("fsqrt_rn", "dsqrt_rn"), torch.sqrt), "frsqrt_rn": torch.rsqrt, "fast_log": torch.log,
    "fast_log2": torch.log2, "fast_log10": torch.log10, "isnan": torch.isnan, "isinf": torch.isinf,
    **dict.fromkeys(("isfinited", "finite"), torch.isfinite), "signbit": torch.signbit, "erfinv": torch.erfinv,
    "normcdfinv": torch.special.ndtri,
}
SPECIAL_TWO = {
    "fmod": each(math.fmod), "remainder": each(math.remainder), "fmin": torch.fmin, "fmax": torch.fmax,
    "copysign": torch.copysign, "fdim": gap, "hypot": torch.hypot, "rhypot": lambda a, b: 1 / torch.hypot(a, b),
    **dict.fromkeys(("fdiv_rn", "ddiv_rn", "fast_fdivide"), torch.div), **dict.fromkeys(("fadd_rn", "dadd_rn"), torch.add),
    "fsub_rn": torch.sub, **dict.fromkeys(("fmul_rn", "dmul_rn"), torch.mul),
    **dict.fromkeys(("pow", "fast_pow"), torch.pow),
}
SPECIAL_SHIFT = {"powi": lambda x, n: torch.pow(x, n.double()), **dict.fromkeys(("ldexp", "scalbn"), each(math.ldexp))}
SPECIAL_ALL = SPECIAL_ONE | SPECIAL_TWO | SPECIAL_SHIFT
OF_WHOLE = {"min", "max", "umulhi", "int2float_rn"}
ELSEWHERE_SPECIAL = {"nextafter", "fma", "fmaf_rn", "fma_rn"}
ZEROS_OF_EITHER_SIGN = {"fmin", "fmax", "saturate", "cospi"}
ROUGH = {"f32": 2.0**-21, "f64": 1e-12}


@pytest.mark.parametrize("kind", ROUGH)
@pytest.mark.parametrize("name", SPECIAL_ALL)
def test_special_numbers(name, kind):
    """Against FP64."""
    given = special_tuples(kind, 2 if name in SPECIAL_TWO else 1)
    if name in SPECIAL_SHIFT:
        n = torch.tensor([0, 1, -1, 2, 3, -24, 149, -1074, 2000, -3000], dtype=torch.int32)
        given = [given[0].repeat_interleave(len(n)), n.repeat(len(given[0]))]
    if (name, kind) == ("normcdfinv", "f64"):  # where chances have but one bit
        given = [given[0][(given[0].abs() > 1e-323) | (given[0] == 0)]]
    with np.errstate(all="ignore"):
        got = torch.from_numpy(np.asarray(LIBDEVICE[name](*(x.numpy() for x in given)))).to(given[0].dtype)
    want = SPECIAL_ALL[name](given[0].double(), *(x if name in SPECIAL_SHIFT else x.double() for x in given[1:]))
    assert_special(got, want, rtol=ROUGH[kind], atol=1e-15 * (name == "lgamma"), zeros=name not in ZEROS_OF_EITHER_SIGN)


def test_special_numbers_of_the_others():
    for kind in ROUGH:
        a, b, c = special_tuples(kind, 2) + [special_tuples(kind, 2)[1].flip(0)]
        with np.errstate(all="ignore"):
            assert_special(torch.from_numpy(LIBDEVICE["nextafter"](a.numpy(), b.numpy())), torch.nextafter(a, b))
            for name in ("fma", "fmaf_rn", "fma_rn"):  # itself in test_executor_operations.py
                of_table = ARITHMETIC["math.fma"](a.numpy(), b.numpy(), c.numpy())
                assert np.array_equal(LIBDEVICE[name](a.numpy(), b.numpy(), c.numpy()), of_table, equal_nan=True)
    assert {*SPECIAL_ALL, *OF_WHOLE, *ELSEWHERE_SPECIAL} >= set(LIBDEVICE) - {
        name.removeprefix("math.") for name in FUNCTIONS if LIBDEVICE.get(name.removeprefix("math.")) is FUNCTIONS[name]}


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


ROUNDINGS = {"rn": np.rint, "rz": np.trunc, "rd": np.floor, "ru": np.ceil}


def test_which_function_a_symbol_names():
    for source, sign, width, mode in itertools.product(("float", "double"), ("", "u"), ("int", "ll"), ROUNDINGS):
        assert find(f"__nv_{source}2{sign}{width}_{mode}") is ROUNDINGS[mode]
    for symbol, name in (("expf", "exp"), ("exp", "exp"), ("fabsf", "fabs"), ("erfcxf", "erfcx"), ("fast_expf", "fast_exp"),
                         ("fmaf_rn", "fmaf_rn"), ("umulhi", "umulhi"), ("isinff", "isinf")):
        assert find(f"__nv_{symbol}") is LIBDEVICE[name] and find(symbol) is LIBDEVICE[name]
    for symbol in ("j0f", "", "f", "expff", "float2half_rn", "int2float_rz", "float2uint_rx", "ufloat2int_rn"):
        with pytest.raises(Unsupported, match=f"the libdevice function __nv_{symbol} is not executed here"):
            find(f"__nv_{symbol}")


EXTERN = '{{libname = "", libpath = "", pure = true, symbol = "__nv_{}"}}'
BEYOND = [-1.5, 2.5, 3e9, -3e9, 1e19, NAN, 7.75, -0.5]
MADE = {  # of numbers beyond the result's: as an H200's conversions do, see test_executor_conversions.py
    ("float2int_rz", "i32"): [-1, 2, 2**31 - 1, -(2**31), 2**31 - 1, 0, 7, 0],
    ("float2int_rd", "i32"): [-2, 2, 2**31 - 1, -(2**31), 2**31 - 1, 0, 7, -1],
    ("float2uint_ru", "i32"): [0, 3, 3 * 10**9 - 2**32, 0, -1, 0, 8, 0],
    ("float2ll_rn", "i64"): [-2, 2, 3 * 10**9, -3 * 10**9, 2**63 - 1, -(2**63), 8, 0],
    ("float2ull_rz", "i64"): [0, 2, 3 * 10**9, 0, 9999999980506447872 - 2**64, -(2**63), 7, 0],
    ("isnanf", "i32"): [0, 0, 0, 0, 0, 1, 0, 0], ("signbitf", "i32"): [1, 0, 0, 1, 0, 0, 0, 1],
    ("truncf", "f32"): [-1, 2, 3e9, -3e9, 1e19, NAN, 7, 0],
}


@pytest.mark.parametrize(("symbol", "kind"), MADE)
def test_results_have_the_type_that_is_asked_for(symbol, kind):
    x = torch.tensor(BEYOND)
    got = run(f"tt.extern_elementwise %0 {EXTERN.format(symbol)} : (tensor<8xf32>) -> tensor<8x{kind}>", kind, x, n=8)
    torch.testing.assert_close(got, torch.tensor(MADE[symbol, kind], dtype=TYPES[kind]), rtol=0, atol=0, equal_nan=True)
