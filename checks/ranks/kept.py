"""The two processes that a notebook's functions run on: started when they are first needed, and kept until it ends."""

import builtins
from collections.abc import Callable
from typing import Any

import torch

from checks.ranks.meeting import NotTogether
from checks.ranks.portable import pack
from checks.ranks.processes import Each, RankFailed, RankHung, Ranks

_kept: list[Ranks] = []
LONGEST_S = 10  # a student's function takes milliseconds


def kept() -> Ranks:
    """Two ranks, started anew where those before have ended."""
    if not _kept or not _kept[0].alive:
        _kept[:] = [Ranks(timeout_s=LONGEST_S)]
    return _kept[0]


def start_ranks() -> None:
    """Start the two ranks, which takes some seconds, and say that they are there."""
    kept().wait()
    print("rank 0 and rank 1 are ready: two processes on this machine, which talk through Gloo")


def run_on_ranks(function: Callable[..., Any], parts: list[dict[str, Any]]) -> list[Any]:
    """What `function(**part, group=group)` gives in each of two ranks, which get a part each.

    Raises what every rank raised; RankFailed where one alone raises, or ends; TimeoutError where one hangs.
    """
    return in_processes(function, parts)[0]


def in_processes(function: Callable[..., Any], parts: list[dict[str, Any]]) -> tuple[list[Any], int]:
    """The same, and the bytes of the tensors that rank 0 handed to collectives."""
    mine = Each([{name: _on_cpu(value) for name, value in part.items()} for part in parts])
    try:
        answers = kept().run(pack(function), mine, timeout_s=LONGEST_S)
    except RankHung as error:
        raise TimeoutError(str(error)) from None
    except RankFailed as error:
        raise raised(error) from None
    where = next((value.device for value in parts[0].values() if isinstance(value, torch.Tensor)), torch.device("cpu"))
    results = [result.to(where) if isinstance(result, torch.Tensor) else result for result, _ in answers]
    return results, answers[0][1]


def raised(failed: RankFailed) -> Exception:
    """What a function raised that raised the same in every rank, or that the ranks did not meet; else what has failed."""
    kinds = set(failed.errors.values())
    if len(kinds) != 1:
        return failed
    ((kind, text),) = kinds
    found = NotTogether if kind == "NotTogether" else getattr(builtins, kind, RuntimeError)
    return found(text) if isinstance(found, type) and issubclass(found, Exception) else failed


def _on_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, torch.Tensor) else value
