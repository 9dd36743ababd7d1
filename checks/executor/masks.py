"""Masks over programs and lanes, in which None stands for all."""

import numpy as np

Active = np.ndarray | None
"""Which programs go a way, bool (x, y, z); None for all."""


def both(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    """Masks, None where both are."""
    return b if a is None else a if b is None else a & b


def choose(active: Active, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """The new value for the active programs."""
    if active is None or new is old:
        return new
    return np.where(active.reshape(active.shape + (1,) * (max(new.ndim, old.ndim) - active.ndim)), new, old)


