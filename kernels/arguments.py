"""What a public function says when it is called wrongly: the argument, what was wanted, what came."""

from collections.abc import Sequence

import torch


def expect(
    name: str, value: object, shape: Sequence[int | str], dtypes: torch.dtype | tuple[torch.dtype, ...],
    device: torch.device | None = None, batch: bool = False,
) -> tuple[int, ...]:
    """The shape of tensor `value`, or an error that names it.

    `shape` has a number where the size is known and a letter where it is free (but at least 1): `("N", 4096)`. With `batch`
    the sizes before the last may be 0, and torch.compile need not know them.
    `dtypes` is one dtype or a tuple of them. Raises TypeError for no tensor or a wrong dtype, ValueError otherwise.
    """
    dtypes = dtypes if isinstance(dtypes, tuple) else (dtypes,)
    wanted = f"{_tuple(shape)} {' or '.join(map(_short, dtypes))}"
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a {wanted} tensor, got {type(value).__name__}")
    got = f"{_tuple(value.shape)} {_short(value.dtype)}"
    if value.dtype not in dtypes:
        raise TypeError(f"{name} must be {wanted}, got {got}")
    if value.ndim != len(shape) or any(isinstance(w, int) and w != g for w, g in zip(shape, value.shape, strict=True)):
        raise ValueError(f"{name} must be {wanted}, got {got}")
    sizes = list(zip(shape, value.shape, strict=True))
    if any(isinstance(w, str) and g == 0 for w, g in (sizes[-1:] if batch else sizes)):
        raise ValueError(f"{name} must not be empty, got {got}")
    if device is not None and value.device != device:
        raise ValueError(f"{name} must be on {device}, as the other arguments are, got {value.device}")
    return tuple(value.shape)


def expect_rows(name: str, value: torch.Tensor) -> None:
    """Raises ValueError unless the elements of each row (the last dimension) lie side by side in memory."""
    if value.stride(-1) != 1 and value.shape[-1] > 1:
        raise ValueError(f"{name} must be contiguous along its last dimension, got strides {tuple(value.stride())} "
                         f"for shape {tuple(value.shape)}: call {name}.contiguous() first")


def _tuple(shape: Sequence[object]) -> str:
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
