"""Messages between processes: JSON and arrays, as bytes through pipes. Nothing that is read can run."""

import json
import os
import select
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from checks.executor.ir import Place
from checks.executor.report import Accesses, Fault, Print, Race, Report

CLASSES = {cls.__name__: cls for cls in (Accesses, Fault, Place, Print, Race, Report)}
MOST = 1 << 36  # bytes of a message


def write(descriptor: int, message: Any, arrays: Sequence[np.ndarray] = ()) -> None:
    """Raises OSError when nobody reads any more."""
    header = json.dumps([message, [[array.dtype.str, array.shape] for array in arrays]]).encode()
    views = [memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8)) for array in arrays]  # type: ignore[arg-type]
    for view in (memoryview(len(header).to_bytes(8)), memoryview(header), *views):
        while view:
            view = view[os.write(descriptor, view[:1 << 20]):]


def read(descriptor: int, deadline: float | None = None) -> tuple[Any, list[np.ndarray]]:
    """Raises EOFError at the end, TimeoutError when the message is not there by `deadline` of `time.monotonic`."""
    size = int.from_bytes(_bytes(descriptor, 8, deadline).tobytes())
    message, described = json.loads(_bytes(descriptor, size, deadline).tobytes())
    return message, [_bytes(descriptor, np.dtype(kind).itemsize * int(np.prod(shape, dtype=object)), deadline).view(kind)
                     .reshape(shape) for kind, shape in described]


def _bytes(descriptor: int, size: int, deadline: float | None) -> np.ndarray:
    if size > MOST:
        raise EOFError
    data = np.empty(size, np.uint8)
    view = memoryview(data)  # type: ignore[arg-type]
    while view:
        if deadline and not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        count = os.readv(descriptor, [view])
        if not count:
            raise EOFError
        view = view[count:]
    return data


def pack(value: Any, arrays: list[np.ndarray]) -> Any:
    """A report, or a part of it, as JSON; its arrays go to `arrays`."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if is_dataclass(value):
        packed = {field.name: pack(getattr(value, field.name), arrays) for field in fields(value)}
        return {"class": type(value).__name__, "fields": packed}
    if isinstance(value, Counter | dict):
        return {type(value).__name__: [[key, pack(item, arrays)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [pack(item, arrays) for item in value]}
    return value


def unpack(value: Any, arrays: list[np.ndarray]) -> Any:
    """The reverse of `pack`."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "class" in value:
        return CLASSES[value["class"]](**{name: unpack(item, arrays) for name, item in value["fields"].items()})
    (kind, items), = value.items()
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](unpack(item, arrays) for item in items)
    return {"Counter": Counter, "dict": dict}[kind]({key: unpack(item, arrays) for key, item in items})
