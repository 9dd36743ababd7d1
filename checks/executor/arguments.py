"""What a kernel is launched with: tensors, which may share storages, descriptors and numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from checks.executor.errors import Unsupported


@dataclass(frozen=True, eq=False)
class Tensor:
    """Elements of `itemsize` bytes in a storage: uint8, one axis. A run writes into it.

    Tensors whose storages start at the same address share their memory. Numbers lie there as they do in a GPU's memory.
    """

    storage: np.ndarray
    itemsize: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    start: int = 0  # the first element, counted in elements

    @classmethod
    def of(cls, array: np.ndarray) -> "Tensor":
        """All of a contiguous NumPy array. Raises ValueError for another one."""
        if not array.flags.c_contiguous:
            raise ValueError("the array must be contiguous; describe another view by its storage, shape and strides")
        strides = tuple(stride // array.itemsize for stride in array.strides)
        return cls(array.reshape(-1).view(np.uint8), array.itemsize, array.shape, strides)

    @property
    def address(self) -> int:
        return int(self.storage.__array_interface__["data"][0])


@dataclass(frozen=True)
class Descriptor:
    """A `TensorDescriptor`; the compiler takes it apart."""

    base: Tensor
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    nan: bool = False  # what lies outside is NaN, not 0

    def parts(self, rounding: bool) -> list[Any]:
        """The kernel's arguments: base, shape and strides, padding, rounding to TF32 (not before Triton 3.7), shape and
        strides again."""
        return [self.base, *self.shape, *self.strides, self.nan, *[False] * rounding, *self.shape, *self.strides]


def flat(arguments: Mapping[str, Any] | Sequence[tuple[str, Any]], rounding: bool = True) -> list[tuple[str, Any]]:
    """The arguments as the compiled kernel takes them, with the names of those they come from; see `Descriptor.parts`."""
    pairs = arguments.items() if isinstance(arguments, Mapping) else arguments
    known = [(name, from_torch(value)) for name, value in pairs]
    return [(name, part) for name, value in known
            for part in (value.parts(rounding) if isinstance(value, Descriptor) else [value])]


def from_torch(value: Any) -> Any:
    """A torch tensor on the CPU or a `TensorDescriptor` as this module's classes; anything else unchanged.

    Raises Unsupported for a tensor elsewhere.
    """
    if isinstance(value, Tensor | Descriptor | bool | int | float | np.generic):
        return value
    if isinstance(value, np.ndarray):
        return Tensor.of(value)
    if hasattr(value, "block_shape"):
        padding = str(getattr(value, "padding", "zero"))
        return Descriptor(from_torch(value.base), tuple(value.shape), tuple(value.strides), padding == "nan")
    if not hasattr(value, "untyped_storage"):
        raise Unsupported(f"an argument of type {type(value).__name__}")
    if value.device.type != "cpu":
        raise Unsupported("a tensor", f"it lies on {value.device}, not on the CPU")
    import torch  # only here: the executing process has none

    storage = torch.empty(0, dtype=torch.uint8).set_(value.untyped_storage()).numpy()
    return Tensor(storage, value.element_size(), tuple(value.shape), tuple(value.stride()), value.storage_offset())
