"""Which elements of what a call returned were stored by kernels, also where torch then viewed, copied or converted them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from checks.host.playback import play
from checks.host.steps import MOVES_ONLY, WRITTEN, LaunchStep, Recording
from checks.judge.launches import Launch

MARK = 3  # a number that every format holds


class Made(Sequence[Any]):
    """For each output a bool tensor of its shape, None for what is no tensor. Found when it is first asked for."""

    def __init__(self, find: Callable[[], tuple[Any, ...]]):
        self._find = find

    @functools.cached_property
    def _outputs(self) -> tuple[Any, ...]:
        return self._find()

    def __getitem__(self, index: Any) -> Any:
        return self._outputs[index]

    def __len__(self) -> int:
        return len(self._outputs)


def made_by_kernels(recording: Recording, inputs: Mapping[str, Any], launches: Sequence[Launch]) -> Made | None:
    """Which elements of the outputs kernels have stored; None where torch computed beside them.

    `launches` are the traces of the recorded launches. The recording is played once more on zeros, and where a kernel has
    stored, a mark is stored.
    """
    if not MOVES_ONLY.issuperset(name for name in recording.operators if name != WRITTEN):
        return None
    return Made(lambda: _marked(recording, inputs, launches))


def _marked(recording: Recording, inputs: Mapping[str, Any], launches: Sequence[Launch]) -> tuple[Any, ...]:
    traces = iter(launches)

    def mark(_: LaunchStep, arguments: dict[str, Any]) -> None:
        for access in next(traces).accesses:
            if access.kind == "store":
                tensor = getattr(arguments[access.tensor], "base", arguments[access.tensor])
                _all_of(tensor)[torch.from_numpy(access.offsets[access.live])] = MARK

    constants = {number: torch.zeros_like(tensor) for number, tensor in recording.constants.items()}
    zeros = {name: _zeros(value) for name, value in inputs.items()}
    outputs = play(dataclasses.replace(recording, constants=constants), zeros, mark, torch.Tensor.zero_)
    return tuple(value == torch.tensor(MARK).to(value.dtype) if isinstance(value, torch.Tensor) else None
                 for value in outputs)


def _zeros(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype).zero_()


def _all_of(tensor: torch.Tensor) -> torch.Tensor:
    """The elements from the tensor's first to its last, by their offset."""
    last = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((last + 1,), (1,)) if tensor.numel() else tensor.reshape(-1)
