"""Between types, and constants."""

import re

import numpy as np

from checks.executor.errors import Malformed, Unsupported
from checks.executor.formats import decode, encode, poison, rounded, signed, to_integer, unsigned
from checks.executor.ir import Op
from checks.executor.memory import HALF, SHIFT
from checks.executor.operations.table import Array, Function, ones, pure
from checks.executor.types import STORED, Type


@pure("arith.constant")
def constant(op: Op) -> Function:
    kind = op.type
    text = dense[1] if (dense := re.fullmatch(r"dense<(.*)>", op.words)) else op.words
    if re.fullmatch(r'"\d+"', text):  # bits in hexadecimal
        raw = np.frombuffer(bytes.fromhex(op.strings[0].removeprefix("0x")), STORED[kind.elem])
        array = decode(raw, kind.elem)
    else:
        array = np.array([_number(each.strip(), kind.elem) for each in re.sub(r"[\[\]]", "", text).split(",")], kind.dtype)
    if array.size not in (1, kind.size):
        raise Malformed(f"a constant of {array.size} numbers for {kind}")
    value = array.reshape(ones(len(kind.shape)) if array.size == 1 else (1, 1, 1, *kind.shape))
    return lambda: value


def _number(text: str, elem: str) -> float | int | bool:
    if text in ("true", "false"):
        return text == "true"
    if text.startswith("0x"):
        stored = STORED[elem]
        return decode(np.array(int(text, 16), f"u{stored.itemsize}").view(stored), elem).item()
    return int(text) if elem[0] == "i" else float(text)


@pure("ub.poison")
def undefined(op: Op) -> Function:
    value = np.full(ones(len(op.type.shape)), poison(op.type.elem), op.type.dtype)
    return lambda: value


@pure("arith.extsi")
def extend_signed(op: Op) -> Function:
    return lambda x: signed(x).astype(op.type.dtype)


@pure("arith.extui")
def extend_unsigned(op: Op) -> Function:
    return lambda x: unsigned(x).astype(op.type.dtype)


@pure("arith.trunci")
def truncate(op: Op) -> Function:
    return (lambda x: x & 1 != 0) if op.type.elem == "i1" else lambda x: x.astype(op.type.dtype)


@pure("arith.index_cast", "arith.index_castui")
def cast_index(op: Op) -> Function:
    return lambda x: x.astype(op.type.dtype)


@pure("arith.sitofp", "arith.uitofp")
def integer_to_float(op: Op) -> Function:
    elem = op.type.elem
    read = signed if op.name == "arith.sitofp" else unsigned

    def convert(x: Array) -> Array:
        if elem in ("f32", "f64") or x.itemsize <= 2 and elem != "f16":
            return rounded(read(x).astype(op.type.dtype), elem)  # by way of float32 nothing is lost
        if elem == "f16":
            return read(x).astype(np.float64).astype(np.float16)
        return rounded(_odd_float32(read(x)), elem)

    return convert


def _odd_float32(x: Array) -> Array:
    """Integers as float32 rounded to odd, so that the next rounding is the only one."""
    total = x.astype(np.float32)
    wide = total.astype(np.float64)
    x = x.astype(np.uint64 if x.dtype.kind == "u" else np.int64)
    high = x >> 32 << 32  # of 64 bits float64 holds 53: what lies between x and `wide` is exact in two parts
    behind = (x - high).astype(np.float64) - (wide - high.astype(np.float64))
    code = total.view(np.int32)
    even = (behind != 0) & (code & 1 == 0)
    return np.where(even, code + np.where((behind > 0) == (wide > 0), 1, -1).astype(np.int32), code).view(np.float32)


@pure("arith.fptosi", "arith.fptoui")
def float_to_integer(op: Op) -> Function:
    if op.type.elem == "i1":
        return lambda x: to_integer(x, np.dtype(np.int32)) & 1 != 0
    return lambda x: to_integer(x, op.type.dtype, from_zero=op.name == "arith.fptoui")


@pure("arith.extf", "arith.truncf")
def float_to_float(op: Op) -> Function:
    return lambda x: rounded(x, op.type.elem)


@pure("tt.fp_to_fp")
def float_to_narrow_float(op: Op) -> Function:
    elem = op.type.elem
    if "rounding = rtz" not in op.words or elem not in ("f16", "bf16"):
        return lambda x: rounded(x, elem)
    bits_left_out = np.uint32(0xFFFF if elem == "bf16" else 0x1FFF)

    def towards_zero(x: Array) -> Array:
        cut = (np.ascontiguousarray(x, np.float32).view(np.uint32) & ~bits_left_out).view(np.float32)
        made = rounded(np.where(np.isnan(x), x, cut), elem)
        past = np.abs(made.astype(np.float32)) > np.abs(x)  # beyond the largest number, or below the smallest normal one
        return np.where(past, np.nextafter(made, made.dtype.type(0)), made)

    return towards_zero


@pure("tt.bitcast", "arith.bitcast")
def same_bits(op: Op) -> Function:
    before, after = op.operand_types[0], op.type
    if before.elem == "ptr" or after.elem == "ptr":
        return lambda x: _rescaled(x, before.pointed().itemsize, after.pointed().itemsize)
    if before.itemsize != after.itemsize:
        raise Malformed(f"{op.name} from {before} to {after}")

    def cast(x: Array) -> Array:
        raw = np.ascontiguousarray(encode(x, before.elem)).view(STORED[after.elem])
        return decode(raw, after.elem)

    return cast


def _rescaled(x: Array, before: int, after: int) -> Array:
    """Addresses count elements of the type they point at."""
    if before == after:
        return x
    base = (x + HALF >> SHIFT) << SHIFT
    if after > before and ((x - base) * before % after).any():
        raise Unsupported("a pointer cast", "it does not lie on a multiple of the new element's size")
    return base + (x - base) * before // after


@pure("tt.ptr_to_int", "tt.int_to_ptr")
def address(op: Op) -> Function:
    """As an integer an address counts bytes, from a base 16 times as far."""
    kind: Type = op.operand_types[0] if op.name == "tt.ptr_to_int" else op.type
    size = kind.pointed().itemsize

    def to_bytes(x: Array) -> Array:
        base = x + HALF >> SHIFT
        return (base << SHIFT + 4) + (x - (base << SHIFT)) * size

    def from_bytes(x: Array) -> Array:
        base = x + (HALF << 4) >> SHIFT + 4
        return (base << SHIFT) + (x - (base << SHIFT + 4)) // size

    return to_bytes if op.name == "tt.ptr_to_int" else from_bytes
