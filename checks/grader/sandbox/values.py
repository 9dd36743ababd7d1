"""Inputs and outputs as JSON and raw bytes, the same in both directions. Nothing is pickled, unpickled or run."""

from collections.abc import Iterable, Sequence
from math import log10, prod
from numbers import Integral, Real
from typing import Any

import torch

from checks.grader.sandbox.wire import ProtocolError

DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
LONGEST = 1000  # characters of a text, and bits of a number: a header is of limited size
AXES = 8


class OtherValue:
    """What a child returned where a tensor or a number was expected: its type's name, and its repr."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def encode(values: Iterable[Any]) -> tuple[list[list], bytes]:
    """A description of each value, and the bytes of all tensors: their elements, not the gaps between them."""
    descriptions, parts = [], []
    for value in values:
        if isinstance(value, torch.Tensor) and not (lacking := unsent(value)):
            plain = value.as_subclass(torch.Tensor).detach()
            # A clone: of one element, torch calls any strides contiguous, but views as bytes those of 1 alone.
            dense = plain.cpu().clone(memory_format=torch.contiguous_format).flatten()
            raw = dense.view(torch.uint8).numpy().tobytes() if dense.numel() else b""
            descriptions.append(["tensor", str(plain.dtype).removeprefix("torch."), list(plain.shape), list(plain.stride()),
                                 len(raw)])
            parts.append(raw)
        elif isinstance(value, torch.Tensor):
            descriptions.append(["other", "Tensor", lacking])
        else:
            descriptions.append(_describe(value))
    return descriptions, b"".join(parts)


def unsent(value: torch.Tensor) -> str:
    """What a tensor is whose elements cannot be sent as bytes in order; nothing for one that can be."""
    dtype, layout = (str(one).removeprefix("torch.") for one in (value.dtype, value.layout))
    if value.is_nested or value.layout != torch.strided or dtype not in DTYPES:
        return f"<a {'nested' if value.is_nested else layout} tensor of {dtype}>"
    return f"<a tensor of {value.ndim} axes>" if value.ndim > AXES else ""


def _describe(value: Any) -> list:
    if value is None or isinstance(value, bool | str) and _is_plain(value):
        return ["plain", value]
    if isinstance(value, Integral) and _is_plain(int(value)):
        return ["plain", int(value)]
    if isinstance(value, Real) and not isinstance(value, Integral):
        return ["plain", float(value)]
    if isinstance(value, torch.dtype):
        return ["dtype", str(value).removeprefix("torch.")]
    return ["other", type(value).__name__[:80], _shown(value)[:200]]


def _shown(value: Any) -> str:
    """Its repr, which may fail: in a student's class, and in Python for a number of many digits."""
    if isinstance(value, int):
        return f"<a number of about {round(value.bit_length() * log10(2)):,} digits, too many>"
    try:
        return repr(value)
    except Exception:
        return f"<a {type(value).__name__[:80]} that cannot be printed>"


def _is_plain(value: Any) -> bool:
    """Whether it is a text, a number or None, and no longer than may be."""
    if isinstance(value, str):
        return len(value) <= LONGEST
    return value is None or isinstance(value, float) or isinstance(value, int) and value.bit_length() <= LONGEST


def encode_inputs(inputs: dict[str, Any]) -> tuple[dict[str, list], bytes]:
    """As `encode`, by name. Raises TypeError for an input that is no tensor, number, text or dtype."""
    descriptions, payload = encode(inputs.values())
    for name, description in zip(inputs, descriptions, strict=True):
        if description[0] == "other":
            raise TypeError(f"the input `{name}` is a {description[1]}, which cannot be sent as bytes")
    return dict(zip(inputs, descriptions, strict=True)), payload


def decode(descriptions: Sequence[list], payload: bytes, strided: bool = False) -> list[Any]:
    """The values described; tensors with the strides they had only if `strided`, for those reserve memory.

    Raises ProtocolError for what is no description, or does not fit the bytes.
    """
    values: list[Any] = []
    at = 0
    try:
        for kind, *rest in descriptions:
            if kind == "tensor":
                dtype, shape, strides, size = rest
                raw = payload[at:at + size]
                if len(raw) != size:
                    raise ValueError
                values.append(_tensor(dtype, shape, strides if strided else None, raw))
                at += size
            elif kind == "plain" and _is_plain(rest[0]):
                values.append(rest[0])
            elif kind == "dtype" and rest[0] in DTYPES:
                values.append(getattr(torch, rest[0]))
            elif kind == "other":
                name, text = str(rest[0])[:80], str(rest[1])[:200]
                values.append(type(name if name.isidentifier() else "object", (OtherValue,), {})(text))
            else:
                raise ValueError
    except (ValueError, TypeError, IndexError, OverflowError, RuntimeError):
        raise ProtocolError("a description that does not fit its bytes") from None
    return values


def _tensor(name: str, shape: list[int], strides: list[int] | None, raw: bytes) -> torch.Tensor:
    if name not in DTYPES or len(shape) > AXES or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError
    dtype = getattr(torch, name)
    if len(raw) != prod(shape) * dtype.itemsize:
        raise ValueError
    flat = torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8)
    dense = (flat != 0 if dtype == torch.bool else flat.view(dtype)).reshape(shape)
    return dense if strides is None else torch.empty_strided(shape, strides, dtype=dtype).copy_(dense)
