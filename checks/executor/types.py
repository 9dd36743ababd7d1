"""Types of TTIR, and how the numbers of each are held here and lie in memory."""

import math
import re

import numpy as np

from checks.executor.errors import Malformed

HELD = {"i1": np.dtype(np.bool_), "i8": np.dtype(np.int8), "i16": np.dtype(np.int16), "i32": np.dtype(np.int32),
        "i64": np.dtype(np.int64), "index": np.dtype(np.int64), "ptr": np.dtype(np.int64), "f16": np.dtype(np.float16),
        "f32": np.dtype(np.float32), "f64": np.dtype(np.float64), "bf16": np.dtype(np.float32),
        "f8E5M2": np.dtype(np.float32), "f8E4M3FN": np.dtype(np.float32)}
"""The dtype of a value's array. The last three are held as float32 that holds only numbers of that type."""
STORED = HELD | {"bf16": np.dtype(np.uint16), "f8E5M2": np.dtype(np.uint8), "f8E4M3FN": np.dtype(np.uint8)}
"""The dtype of an element in memory."""
UNSIGNED = {np.dtype(f"i{n}"): np.dtype(f"u{n}") for n in (1, 2, 4, 8)}
NARROW = ("bf16", "f8E5M2", "f8E4M3FN")  # rounded after each operation
RANK = 8  # axes of a tile at most


class Type:
    """f32, i1, !tt.ptr<f16>, tensor<64x64x!tt.ptr<i8>>: `shape` is () for a scalar; `elem` "ptr" has a `pointee`.

    Raises Malformed for what is no type known here.
    """

    def __init__(self, text: str):
        tensor = re.fullmatch(r"tensor<((?:\d{1,10}x)+)(.+)>", text)
        self.shape: tuple[int, ...] = tuple(map(int, tensor[1].split("x")[:-1])) if tensor else ()
        elem = tensor[2] if tensor else text
        pointer = re.fullmatch(r"!tt\.ptr<(.+?)(?:, \d+)?>", elem)
        self.elem: str = "ptr" if pointer else elem
        self.pointee: str | None = pointer[1] if pointer else None
        if self.elem not in HELD or len(self.shape) > RANK:
            raise Malformed(f"the type {text[:80]!r} is not known here")

    @property
    def size(self) -> int:
        """How many elements."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        return HELD[self.elem]

    @property
    def itemsize(self) -> int:
        """Bytes of an element in memory."""
        return STORED[self.elem].itemsize

    def with_elem(self, elem: str) -> "Type":
        changed = object.__new__(Type)
        changed.shape, changed.elem, changed.pointee = self.shape, elem, None
        return changed

    def pointed(self) -> "Type":
        """Of a pointer or a tile of them: what they point at."""
        if self.pointee is None:
            raise Malformed("a pointer was expected")
        inner = Type(self.pointee)
        inner.shape = self.shape
        return inner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and (self.shape, self.elem, self.pointee) == (other.shape, other.elem, other.pointee)

    def __repr__(self) -> str:
        elem = f"!tt.ptr<{self.pointee}>" if self.elem == "ptr" else self.elem
        return f"tensor<{'x'.join(map(str, self.shape))}x{elem}>" if self.shape else elem
