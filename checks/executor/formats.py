"""Number formats: BF16 and FP8 to and from float32, conversions to integers, and poison."""

import numpy as np

from checks.executor.types import HELD, UNSIGNED

Array = np.ndarray


def unsigned(x: Array) -> Array:
    """The same bits as unsigned numbers."""
    return x if x.dtype == bool else x.view(UNSIGNED[x.dtype])


def signed(x: Array) -> Array:
    """i1 as a number: its one bit is its sign."""
    return -x.view(np.int8) if x.dtype == bool else x


def _fp8_values(elem: str) -> Array:
    exponent_bits, mantissa_bits, bias = (5, 2, 15) if elem == "f8E5M2" else (4, 3, 7)
    codes = np.arange(256)
    e, m = codes >> mantissa_bits & 2**exponent_bits - 1, (codes & 2**mantissa_bits - 1) / 2**mantissa_bits
    value = np.where(e == 0, m * 2.0 ** (1 - bias), (1 + m) * 2.0 ** (e - bias)) * np.where(codes > 127, -1, 1)
    if elem == "f8E5M2":
        value[(e == 31) & (m == 0)] *= np.inf
        value[(e == 31) & (m > 0)] = np.nan
    else:
        value[codes & 127 == 127] = np.nan
    return value.astype(np.float32)


FP8 = {elem: _fp8_values(elem) for elem in ("f8E5M2", "f8E4M3FN")}


def encode(x: Array, elem: str) -> Array:
    """Numbers, held as those of `elem` are, as they lie in memory."""
    if elem == "bf16":
        return (np.ascontiguousarray(x).view(np.uint32) >> 16).astype(np.uint16)
    return _fp8_codes(x, elem) if elem in FP8 else x


def _fp8_codes(x: Array, elem: str) -> Array:
    """Rounded to nearest, ties to even; what is too large saturates, as `cvt.satfinite` does."""
    finite = FP8[elem][:128][np.isfinite(FP8[elem][:128])].astype(np.float64)
    middle = (finite[1:] + finite[:-1]) / 2
    size = np.abs(x.astype(np.float64))
    code = np.searchsorted(middle, size, side="left")
    tie = (code < len(middle)) & (size == middle[np.minimum(code, len(middle) - 1)])
    code += tie & (code & 1)
    infinite = np.isinf(x) & (elem == "f8E5M2")
    return np.where(np.isnan(x), 127, np.where(infinite, 124, code) + 128 * np.signbit(x)).astype(np.uint8)


def decode(bits: Array, elem: str) -> Array:
    """The reverse of `encode`."""
    if elem == "bf16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return FP8[elem][bits] if elem in FP8 else bits


def rounded(x: Array, elem: str) -> Array:
    """Numbers held as those of `elem` are, rounded to its precision: to nearest, ties to even; NaN has NVIDIA's bits."""
    if elem == "bf16":
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        near = bits + (np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
        return np.where(np.isnan(x), np.uint32(0x7FFF0000), near).view(np.float32)
    return decode(_fp8_codes(x, elem), elem) if elem in FP8 else x.astype(HELD[elem], copy=False)


def to_tf32(x: Array) -> Array:
    """float32 with the 10 bits of mantissa that the tensor cores read: the others are cut off."""
    return (np.ascontiguousarray(x).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def to_integer(x: Array, dtype: np.dtype) -> Array:
    """Towards zero; what does not fit saturates and NaN is 0, as NVIDIA's `cvt` does (at 32 bits for the narrow ones)."""
    wide = dtype if dtype.itemsize == 8 or dtype == np.uint32 else np.dtype(np.int32)
    width = 8 * wide.itemsize
    low, high = (0, 2**width - 1) if wide.kind == "u" else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    if x.size and not (np.abs(x).max() < high):  # NaN too
        x = np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=2.0**64, neginf=-(2.0**64))
        x = np.where(x >= high, high, np.clip(x, low, high).astype(wide))
    elif wide.kind == "u":
        x = np.maximum(x, 0)
    return x.astype(wide).astype(dtype)


def poison(elem: str) -> float | int | bool:
    """What lanes hold that hold anything at all on a GPU: what is sure to be noticed."""
    dtype = HELD[elem]
    return np.nan if dtype.kind == "f" else False if dtype.kind == "b" else -(2 ** (8 * dtype.itemsize - 1))
