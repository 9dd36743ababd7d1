"""Tensors whose neighbourhood is watched: poisoned outputs, and a band around each tensor that must stay as it was."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

BAND = 2**15  # elements on each side: what 128 rows of a case reach past a tensor must not fall into the next
_BITS = {1: (torch.int8, -128), 2: (torch.int16, 0x7E5A), 4: (torch.int32, 0x7FC05A5A), 8: (torch.int64, 0x7FF8000000005A5A)}
_BFLOAT16_BITS = 0x7FDA
# As a floating-point number, a NaN that arithmetic does not produce, so that "never written" differs from "computed NaN";
# for int8 -128, a code that a symmetric quantizer never emits.


def poison_(tensor: torch.Tensor) -> torch.Tensor:
    """Fill `tensor` with a pattern that no right result holds."""
    if tensor.dtype != torch.bool and not tensor.is_complex():
        integer, pattern = _pattern(tensor.dtype)
        tensor.view(integer).fill_(pattern)
    return tensor


def is_poison(tensor: torch.Tensor) -> torch.Tensor:
    """Bool, where `tensor` still holds the pattern of `poison_`."""
    integer, pattern = _pattern(tensor.dtype)
    return tensor.contiguous().view(integer) == pattern


def _pattern(dtype: torch.dtype) -> tuple[torch.dtype, int]:
    integer, pattern = _BITS[dtype.itemsize]
    return integer, _BFLOAT16_BITS if dtype == torch.bfloat16 else pattern


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` seen as integers, in which a NaN equals itself."""
    return tensor if tensor.dtype == torch.bool or tensor.is_complex() else tensor.view(_BITS[tensor.dtype.itemsize][0])


def strided_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU with the same strides. What lies in a wide gap between rows takes no memory."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)


@functools.cache
def _band(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    integer, pattern = _pattern(dtype)
    return torch.full((BAND,), pattern, dtype=integer, device=device)


class Arena:
    """Makes tensors with a poisoned band on both sides, and tells afterwards whether a band was written."""

    def __init__(self, device: torch.device):
        self.device, self._empty = device, torch.empty
        self._buffers: list[tuple[str, torch.Tensor, int]] = []

    def place(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        """A copy of `tensor` on the device, with the same strides, between two bands."""
        extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        view = self._banded(extent, tensor.dtype, name, fill=tensor.numel() == extent)
        view = view.as_strided(tensor.shape, tensor.stride(), BAND)
        return view.copy_(tensor)

    def _banded(self, extent: int, dtype: torch.dtype, name: str, fill: bool = True) -> torch.Tensor:
        buffer = self._empty(extent + 2 * BAND, dtype=dtype, device=self.device)
        # A view may reach over gigabytes and use little of them: what is not touched takes no memory.
        for part in (buffer,) if fill else (buffer[:BAND], buffer[BAND + extent:]):
            poison_(part)
        self._buffers.append((name, buffer, extent))
        return buffer

    def broken_bands(self) -> list[str]:
        """The names of tensors beside which something was written."""
        return [name for name, buffer, extent in self._buffers if buffer.dtype != torch.bool and not all(
            torch.equal(bits(band), _band(buffer.dtype, self.device)) for band in (buffer[:BAND], buffer[BAND + extent:]))]

    @contextlib.contextmanager
    def poisoning_empty(self) -> Iterator[None]:
        """Inside the block, what `torch.empty` and its kin allocate is poisoned and banded."""
        originals = {(owner, name): getattr(owner, name) for owner, name in itertools.chain(
            ((torch, name) for name in ("empty", "empty_like", "empty_strided")),
            ((torch.Tensor, name) for name in ("new_empty", "new_empty_strided")))}

        def poisoned(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
            def allocate(*args: Any, **kwargs: Any) -> torch.Tensor:
                tensor = original(*args, **kwargs)
                if tensor.dtype not in _DTYPES or not tensor.numel() or not tensor.is_contiguous():
                    return tensor
                return self._banded(tensor.numel(), tensor.dtype, "an output").as_strided(
                    tensor.shape, tensor.stride(), BAND)
            return allocate

        for (owner, name), original in originals.items():
            setattr(owner, name, poisoned(original))
        try:
            yield
        finally:
            for (owner, name), original in originals.items():
                setattr(owner, name, original)


_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int16, torch.int32, torch.int64}
