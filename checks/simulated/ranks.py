"""Ranks for functions that a student writes: the same function on each part of the operands, in processes or by replay.

In a notebook `check` has them run in two processes that talk through Gloo (`use`). Where no process may be started, as in
the grader's sandbox, which has no network either, `replay` plays all ranks in one: it calls each rank's function again and
again, each time up to the first collective whose result is not known yet, and then knows one more.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from checks.judge.exercise import WrongAnswer
from checks.ranks.meeting import NotTogether, mismatch, place

SIZE = 2
Parts = list[dict[str, Any]]
"""The arguments of each rank."""
Played = tuple[list[Any], int]
"""What each rank returned, and the bytes of the tensors that rank 0 handed to collectives."""


class AtCollective(BaseException):
    """A rank has come to a collective whose result is not known yet."""

    def __init__(self, op: str, tensor: torch.Tensor):
        super().__init__(op)
        self.op, self.tensor = op, tensor.detach().clone()


class ReplayedGroup:
    """The group as one rank sees it, with what the first collectives gave."""

    def __init__(self, rank: int, size: int, known: list[torch.Tensor]):
        self.rank, self.size, self._known = rank, size, list(known)

    def all_reduce(self, tensor: torch.Tensor, op: str = "sum", what: str = "") -> torch.Tensor:
        if op not in ("sum", "max"):
            raise ValueError(f'op must be "sum" or "max", got {op!r}')
        return tensor.copy_(self._result(op, tensor))

    def all_gather(self, tensor: torch.Tensor, what: str = "") -> torch.Tensor:
        return self._result("gathering", tensor).clone()

    def _result(self, op: str, tensor: torch.Tensor) -> torch.Tensor:
        if not self._known:
            raise AtCollective(op, tensor)
        return self._known.pop(0)


def replay(function: Callable[..., Any], parts: Parts) -> Played:
    """`function(**part, group=group)` of each part, in this process. Raises NotTogether; WrongAnswer for a function that
    knows of other ranks what did not come by the group: they share this process here, which ranks do not."""
    decoys = [{name: _other_numbers(value) for name, value in part.items()} for part in parts]
    with contextlib.suppress(Exception):
        _replayed(function, decoys)  # what the function keeps from call to call is then of no use
    results, known, exchanged = _replayed(function, parts)
    for rank, part in enumerate(parts):
        for other in set(range(len(parts))) - {rank}:
            with contextlib.suppress(Exception, AtCollective):
                _called(function, decoys[other], ReplayedGroup(other, len(parts), known))
        if not _alike(_called(function, part, ReplayedGroup(rank, len(parts), known)), results[rank]):
            raise WrongAnswer(f"what rank {rank} returns changes with numbers that only another rank has: what ranks need "
                              "of each other goes through `group`.")
    return results, exchanged


def _called(function: Callable[..., Any], part: dict[str, Any], group: ReplayedGroup) -> Any:
    copied = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in part.items()}
    return function(**copied, group=group)


def _other_numbers(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    turned = value.flip(tuple(range(value.ndim)))
    return turned / 2 if value.is_floating_point() else turned


def _alike(one: Any, other: Any) -> bool:
    """Whether two results are the same; what is no tensor is judged elsewhere."""
    if not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return True
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())


def _replayed(function: Callable[..., Any], parts: Parts) -> tuple[list[Any], list[torch.Tensor], int]:
    """What each rank returned, what the collectives gave, and the bytes that rank 0 handed to them."""
    known: list[torch.Tensor] = []
    exchanged = 0
    while True:
        results: list[Any] = []
        came: dict[int, AtCollective] = {}
        for rank, part in enumerate(parts):
            try:
                results.append(_called(function, part, ReplayedGroup(rank, len(parts), known)))
            except AtCollective as at:
                came[rank] = at
        if not came:
            return results, known, exchanged
        wrong = mismatch({rank: place(at.op, at.tensor) for rank, at in came.items()}, len(parts))
        if wrong:
            raise NotTogether(wrong)
        tensors = torch.stack([at.tensor for at in came.values()])
        exchanged += came[0].tensor.nbytes
        known.append(combined(came[0].op, tensors))


def combined(op: str, tensors: torch.Tensor) -> torch.Tensor:
    """What a collective gives of the ranks' tensors, (size, ...), in their own dtype."""
    if op == "gathering":
        return tensors
    return tensors.amax(dim=0) if op == "max" else tensors.sum(dim=0, dtype=tensors.dtype)


_play: list[Callable[[Callable[..., Any], Parts], Played]] = [replay]


def use(play: Callable[[Callable[..., Any], Parts], Played]) -> None:
    """From here on functions run on ranks by `play` instead of `replay`."""
    _play[:] = [play]


def on_ranks(function: Callable[..., Any], parts: Parts, most_bytes: int) -> tuple[Any, ...]:
    """What each rank's call returned. Raises WrongAnswer where they do not meet, or exchange more than so many bytes."""
    try:
        results, exchanged = _play[0](function, parts)
    except NotTogether as error:
        raise WrongAnswer(f"{error}.") from None
    if exchanged > most_bytes:
        raise WrongAnswer(f"each rank hands {exchanged:,} bytes to collectives, and {most_bytes:,} are enough: what is "
                          "exchanged that need not be?")
    return tuple(results)


def columns(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Each rank's part of the columns of x."""
    return tuple(part.contiguous() for part in x.chunk(SIZE, dim=1))


def try_shared_scale(function: Callable[..., Any], x: torch.Tensor) -> tuple[Any, ...]:
    return on_ranks(function, [{"x": part} for part in columns(x)], 4 * len(x))


def try_row_parallel(
    function: Callable[..., Any], x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor,
) -> tuple[Any, ...]:
    """With a scale of w for all columns, or, w_scale (SIZE, N), for each part of them."""
    scales = w_scale if w_scale.ndim == 2 else w_scale.expand(SIZE, -1)
    parts = [{"x": mine, "w_q": w, "w_scale": scale.contiguous(), "bias": bias}
             for mine, w, scale in zip(columns(x), columns(w_q), scales, strict=True)]
    results = len(x) * len(w_q)
    return on_ranks(function, parts, (2 if w_scale.ndim == 2 else 4) * results + 4 * len(x))


def try_mlp(
    function: Callable[..., Any], x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor,
) -> tuple[Any, ...]:
    parts = [{"x": x, "gate": g, "up": u, "down": d}
             for g, u, d in zip(gate.chunk(SIZE), up.chunk(SIZE), columns(down), strict=True)]
    return on_ranks(function, parts, 4 * x.numel())


def try_all_reduce(function: Callable[..., Any], y: torch.Tensor) -> tuple[Any, ...]:
    """y (SIZE, M, N): the partial product of each rank."""
    return on_ranks(function, [{"y": part} for part in y], y[0].numel() + 4 * y.shape[1])
