"""libdevice's conversions to integers at the ends of each range: rounded as their name says, then saturated."""

import math
from fractions import Fraction

import pytest
import torch
from executor_lanes import TYPES, run, wrapped

KINDS = {"int": ("i32", -(2**31), 2**31 - 1), "uint": ("i32", 0, 2**32 - 1),
         "ll": ("i64", -(2**63), 2**63 - 1), "ull": ("i64", 0, 2**64 - 1)}
ROUNDED = {"rn": round, "rz": math.trunc, "rd": math.floor, "ru": math.ceil}
CONVERSIONS = {f"__nv_{source}2{kind}_{mode}": (name, *KINDS[kind], ROUNDED[mode])
               for source, name in (("float", "f32"), ("double", "f64")) for kind in KINDS for mode in ROUNDED}
NEAREST = {f"__nv_{name}{end}": (kind, *KINDS["ll"], to) for end, kind in (("f", "f32"), ("", "f64"))
           for name, to in (("llrint", round), ("llround", lambda x: math.floor(abs(x) + Fraction(1, 2)) * (-1) ** (x < 0)))}


def numbers(kind: str) -> torch.Tensor:
    """Halves, the ends of the ranges with the numbers beside, what no integer is."""
    dtype = TYPES[kind]
    ends = torch.tensor([0.5, 1.5, 2.5, 255, 2.0**24, 2.0**31, 2.0**32, 2.0**52, 2.0**63, 2.0**64, 1e19, 3e38], dtype=dtype)
    beside = [torch.nextafter(ends, torch.tensor(to, dtype=dtype)) for to in (0.0, math.inf)]
    whole = torch.tensor([2.0**31 - 1, 2.0**32 - 1, 2.0**31 - 0.5, 2.0**32 - 0.5, 3e9, 1e10, 0.3, 0.7, 77.0], dtype=dtype)
    x = torch.cat([ends, *beside, whole, torch.tensor([0.0, math.inf], dtype=dtype)])
    return torch.cat([x, -x, torch.tensor([math.nan], dtype=dtype)])


@pytest.mark.parametrize("symbol", CONVERSIONS | NEAREST)
def test_a_conversion_at_the_ends_of_its_range(symbol):
    source, kind, low, high, to = (CONVERSIONS | NEAREST)[symbol]
    x = numbers(source)
    width = 8 * TYPES[kind].itemsize
    of_nan = 2 ** (width - 1) if width == 64 or source == "f64" else 0  # as `cvt` gives it
    want = [wrapped(of_nan if math.isnan(v) else max(low, min(high, to(Fraction(v)))) if math.isfinite(v)
                    else low if v < 0 else high, width) for v in x.tolist()]
    lanes = torch.cat([x, x.new_zeros(256 - len(x))])
    got = run(f'tt.extern_elementwise %0 {{libname = "", libpath = "", pure = true, symbol = "{symbol}"}} : '
              f"(tensor<256x{source}>) -> tensor<256x{kind}>", kind, lanes)
    assert got[:len(x)].tolist() == want
