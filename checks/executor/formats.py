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
    if elem in FP8:
        return np.where(np.isinf(x), np.where(x > 0, 124, 252).astype(np.uint8), _fp8_codes(x, elem))
    return x


def _fp8_codes(x: Array, elem: str) -> Array:
    """Rounded to nearest, ties to even; what is too large saturates, infinity too, as `cvt.satfinite` does."""
    finite = FP8[elem][:128][np.isfinite(FP8[elem][:128])].astype(np.float64)
    middle = (finite[1:] + finite[:-1]) / 2
    size = np.abs(x.astype(np.float64))
    code = np.searchsorted(middle, size, side="left")
    tie = (code < len(middle)) & (size == middle[np.minimum(code, len(middle) - 1)])
    code += tie & (code & 1)
    return np.where(np.isnan(x), 127, code + 128 * np.signbit(x)).astype(np.uint8)


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


def to_integer(x: Array, dtype: np.dtype, from_zero: bool = False) -> Array:
    """Towards zero, as NVIDIA's `cvt` does; dtype is the signed one, whose bits hold an unsigned number if `from_zero`.

    What does not fit saturates, at 16 bits for a byte, of which the lower half is kept. NaN is 0, or 1 in the highest bit
    alone where the numbers are float64 or the integers have 64 bits.
    """
    width = max(16, 8 * dtype.itemsize)
    wide = np.dtype(f"{'u' if from_zero else 'i'}{width // 8}")
    low, high = (0, 2**width - 1) if from_zero else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    x = x.astype(np.float32) if x.dtype == np.float16 else x
    if x.size and not (x.min() > low - 1 and x.max() < high):  # NaN too
        odd = 2 ** (width - 1) if from_zero else low
        whole = np.where(x > low, np.where(x < high, x, 0), 0).astype(wide)
        whole = np.where(x >= high, wide.type(high), np.where(x <= low, wide.type(low), whole))
        whole = np.where(np.isnan(x), wide.type(odd if width == 64 or x.dtype == np.float64 else 0), whole)
    else:
        whole = x.astype(wide)
    return whole.astype(UNSIGNED[dtype]).view(dtype)


def poison(elem: str) -> float | int | bool:
    """What lanes hold that hold anything at all on a GPU: what is sure to be noticed."""
    dtype = HELD[elem]
    return np.nan if dtype.kind == "f" else False if dtype.kind == "b" else -(2 ** (8 * dtype.itemsize - 1))
