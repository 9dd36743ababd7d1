"""Recordings as JSON, for another process to play back: what came from a stranger is checked to be what it should be."""

from collections.abc import Callable
from typing import Any

import torch
import triton.language as tl

from checks.executor.compile import plain_values
from checks.executor.source import describe
from checks.host.playback import operator_named
from checks.host.steps import DescriptorRef, LaunchStep, Operator, Recording, Ref

MOST_STEPS = 2000
_KINDS: dict[str, Callable[[Any], Any]] = {
    "dtype": lambda name: _attribute(torch, name, torch.dtype), "layout": lambda name: _attribute(torch, name, torch.layout),
    "memory": lambda name: _attribute(torch, name, torch.memory_format), "device": lambda name: torch.device(str(name)),
    "type": lambda name: tl.dtype(str(name)), "constexpr": lambda value: tl.constexpr(_loaded(value)),
    "tuple": lambda values: tuple(map(_loaded, values)), "ref": lambda number: Ref(int(number)),
    "descriptor": lambda fields: DescriptorRef(Ref(int(fields[0])), _whole(fields[1]), _whole(fields[2]), _whole(fields[3]),
                                               str(fields[4])),
}


class NotAsData(Exception):
    """A step holds a value that does not travel; the message says which kind."""


class BadRecording(Exception):
    """What came is no recording."""


def pack(recording: Recording) -> dict[str, Any]:
    """The recording as JSON, without the contents of its constants; of each kernel its description without places, once.

    Raises NotAsData, and CompileError for a kernel whose source cannot be written down.
    """
    kernels: dict[str, int] = {}
    return {"inputs": {name: _plain(value) for name, value in recording.inputs.items()},
            "constants": list(recording.constants), "outputs": [_plain(value) for value in recording.outputs],
            "steps": [_packed(step, recording, kernels) for step in recording.steps], "kernels": list(kernels)}


def _packed(step: Any, recording: Recording, kernels: dict[str, int]) -> dict[str, Any]:
    if isinstance(step, Operator):
        return {"operator": step.name, "arguments": [_plain(value) for value in step.arguments],
                "keywords": {name: _plain(value) for name, value in step.keywords.items()}, "results": _plain(step.results)}
    number = kernels.setdefault(describe(step.kernel, placed=False), len(kernels))
    return {"kernel": number, "name": step.name, "grid": list(step.grid), "options": step.options,
            "arguments": {name: _plain(value) for name, value in step.arguments.items() if name not in step.constexprs},
            "signature": step.signature, "constexprs": plain_values(step.constexprs)}


def _plain(value: Any) -> Any:
    match value:
        case Ref():
            return {"ref": value.number}
        case DescriptorRef():
            return {"descriptor": [value.base.number, value.shape, value.strides, value.block_shape, value.padding]}
        case torch.dtype() | torch.layout():
            return {type(value).__name__: str(value).removeprefix("torch.")}
        case torch.memory_format():
            return {"memory": str(value).removeprefix("torch.")}
        case torch.device():
            return {"device": str(value)}
        case tl.dtype():
            return {"type": value.name}
        case tl.constexpr():
            return {"constexpr": _plain(value.value)}
        case None | bool() | int() | float() | str():
            return value
        case tuple():
            return {"tuple": [_plain(one) for one in value]}
        case list():
            return [_plain(one) for one in value]
    raise NotAsData(f"a {type(value).__name__}")


def unpack(data: dict[str, Any], constants: list[torch.Tensor]) -> Recording:
    """The recording that was packed, its kernels as descriptions, its constexprs as JSON. Raises BadRecording."""
    try:
        kernels = list(map(str, data["kernels"]))
        steps = [_unpacked(step, kernels) for step in list(data["steps"])]
        if len(steps) > MOST_STEPS or len(constants) != len(data["constants"]):
            raise BadRecording(f"{len(steps)} steps, {len(constants)} constants")
        return Recording(_by_name(data["inputs"], _loaded),
                         dict(zip(map(int, data["constants"]), constants, strict=True)), steps,
                         tuple(map(_loaded, data["outputs"])))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, AssertionError, RuntimeError) as error:
        raise BadRecording(f"{type(error).__name__}: {error}"[:200]) from None


def _unpacked(step: dict[str, Any], kernels: list[str]) -> Operator | LaunchStep:
    if "operator" in step:
        operator_named(str(step["operator"]))
        return Operator(str(step["operator"]), tuple(map(_loaded, step["arguments"])), _by_name(step["keywords"], _loaded),
                        _loaded(step["results"]))
    x, y, z = map(int, step["grid"])
    launch = LaunchStep(kernels[int(step["kernel"])], str(step["name"])[:200], _by_name(step["arguments"], _loaded),
                        (x, y, z), _by_name(step["options"], int), _by_name(step["signature"], str),
                        dict(step["constexprs"]))
    if set(launch.signature) != {*launch.arguments, *launch.constexprs}:
        raise BadRecording("a signature of other arguments")
    return launch


def _by_name(values: Any, made: Callable[[Any], Any]) -> dict[str, Any]:
    return {str(name): made(value) for name, value in dict(values).items()}


def _loaded(value: Any) -> Any:
    if isinstance(value, dict):
        (kind, inner), = value.items()
        return _KINDS[kind](inner)
    if isinstance(value, list):
        return [_loaded(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(type(value).__name__)


def _attribute(module: Any, name: Any, kind: type) -> Any:
    value = getattr(module, str(name))
    if not isinstance(value, kind):
        raise TypeError(f"{name} is no {kind.__name__}")
    return value


def _whole(numbers: list[Any]) -> tuple[int, ...]:
    return tuple(map(int, numbers))

