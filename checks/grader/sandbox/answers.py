"""What a child says of one call: described outputs and maps, sums of each launch, and the error, as JSON and bytes."""

from typing import Any

import torch

from checks.grader.sandbox.values import decode, encode, unsent
from checks.judge.attempt import Attempt, loaded, stored
from checks.judge.launches import Launch, OutOfBounds


def answer_for(tried: Attempt, maps: bool) -> tuple[dict, bytes]:
    """The attempt for the grader; with `maps` also which elements were stored and loaded."""
    outputs = tried.outputs if tried.error is None else ()
    found = _maps(tried, outputs) if maps and tried.launches else {}
    described, payload = encode([*outputs, *found.values()])
    return {"outputs": described[:len(outputs)],
            "maps": [[*key, one] for key, one in zip(found, described[len(outputs):], strict=True)],
            "broken": tried.broken, "changed": tried.changed,
            "error": None if tried.error is None else describe_error(tried.error, tried.line),
            "launches": [_summary(launch) for launch in tried.launches], "aliases": _aliases(tried)}, payload


def decode_inputs(described: dict, data: bytes) -> dict[str, Any]:
    return dict(zip(described, decode(list(described.values()), data, strided=True), strict=True))


def _maps(tried: Attempt, outputs: tuple) -> dict[tuple, torch.Tensor]:
    """Which elements of each output were stored, and of each input loaded."""
    maps: dict[tuple, torch.Tensor] = {("stored", index): stored(tried.launches, value) if tried.made is None else
                                       tried.made[index] for index, value in enumerate(outputs)
                                       if _is_sent(value)}
    return maps | {("loaded", name): loaded(tried.launches, value)
                   for name, value in tried.given.items() if isinstance(value, torch.Tensor)}


def _summary(launch: Launch) -> dict:
    moved, touched = launch.traffic(), launch.footprint()
    return {"kernel": getattr(launch.kernel, "__name__", launch.kernel), "options": launch.options,
            "traffic": [[*key, count] for key, count in moved.items()],
            "footprint": [[*key, count] for key, count in touched.items()], "accesses": launch.instructions()}


def _aliases(tried: Attempt) -> list[str]:
    inputs = {value.untyped_storage().data_ptr(): name for name, value in tried.given.items()
              if isinstance(value, torch.Tensor)}
    return [inputs[value.untyped_storage().data_ptr()] for value in tried.outputs
            if _is_sent(value) and value.untyped_storage().data_ptr() in inputs]


def _is_sent(value: Any) -> bool:
    """Whether it is a tensor whose elements lie in memory as others' do."""
    return isinstance(value, torch.Tensor) and not unsent(value)


def describe_error(error: BaseException, line: str | None) -> dict:
    while error.__cause__ is not None:
        error = error.__cause__
    said: dict[str, Any] = {"type": type(error).__name__[:80], "text": str(error)[:2000], "line": line and line[:300]}
    if isinstance(error, OutOfBounds):
        said["bounds"] = [error.kind, error.tensor, list(error.program), list(error.lane), error.offset,
                          list(error.shape), error.lanes, error.masked, error.gap, [list(place) for place in error.others]]
    return said
