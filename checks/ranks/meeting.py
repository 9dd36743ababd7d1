"""Where ranks meet: a collective is entered by all of them, with the same operation, shape and dtype, or by none."""

import torch


class NotTogether(RuntimeError):
    """The ranks cannot meet in a collective; the message says where each of them is."""


def place(op: str, tensor: torch.Tensor) -> str:
    """Where a rank is: in which collective, of what."""
    return f"the {op} of {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def mismatch(entered: dict[int, str], size: int) -> str | None:
    """Why the ranks cannot meet that have entered these collectives, while all others have returned; None if they can."""
    if len(entered) < size:
        waiting, where = min(entered.items())
        done = min(rank for rank in range(size) if rank not in entered)
        return (f"rank {waiting} waits in {where}, and rank {done} never comes: its function has returned. A collective "
                "must be called by all ranks")
    if len(set(entered.values())) > 1:
        said = ", ".join(f"rank {rank} is in {where}" for rank, where in sorted(entered.items()))
        return f"the ranks do not meet: {said}. All must call the same collective with the same shape and dtype"
    return None
