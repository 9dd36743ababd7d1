"""Plays a recording back on real numbers: operators by torch, launches by whoever executes kernels."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_map
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.host.steps import ALLOCATIONS, DescriptorRef, LaunchStep, Recording, Ref

_CPU = torch.device("cpu")
Execute = Callable[[LaunchStep, dict[str, Any]], None]
"""Runs the kernel of a launch with these arguments by name, tensors and numbers, and writes into them."""


def play(recording: Recording, inputs: Mapping[str, Any], execute: Execute,
         fresh: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
         where: torch.device = _CPU) -> tuple[Any, ...]:
    """The outputs of the recorded call on `inputs`, which must have the shapes, strides and dtypes of those recorded.

    Everything happens on the device `where`, on which the inputs lie, whatever device was recorded. `fresh` is given each
    tensor that was allocated without contents, and may fill it. Raises what `execute` raises.
    """
    tensors = {number: constant.to(where) for number, constant in recording.constants.items()}
    for name, value in recording.inputs.items():
        if isinstance(value, Ref):
            tensors[value.number] = inputs[name]

    def real(value: Any) -> Any:
        if isinstance(value, Ref):
            return tensors[value.number]
        if isinstance(value, DescriptorRef):
            return TensorDescriptor(tensors[value.base.number], list(value.shape), list(value.strides),
                                    list(value.block_shape), value.padding)
        return where if isinstance(value, torch.device) else value

    for step in recording.steps:
        if isinstance(step, LaunchStep):
            execute(step, {name: tree_map(real, value) for name, value in step.arguments.items()})
            continue
        result = operator_named(step.name)(*tree_map(real, step.arguments), **tree_map(real, step.keywords))
        if "empty" in step.name and step.name in ALLOCATIONS:
            result = fresh(result)
        _bind(step.results, result, tensors)
    return tuple(tree_map(real, value) for value in recording.outputs)


def operator_named(name: str) -> torch._ops.OpOverload:
    """torch's operator of this name, such as "aten::add.Tensor". Raises ValueError where there is none."""
    namespace, _, rest = name.partition("::")
    operator, _, overload = rest.partition(".")
    try:
        found = getattr(getattr(getattr(torch.ops, namespace), operator), overload or "default")
    except AttributeError:
        found = None
    if not isinstance(found, torch._ops.OpOverload):
        raise ValueError(f"{name} is no operator of torch's")
    return found


def _bind(described: Any, result: Any, tensors: dict[int, torch.Tensor]) -> None:
    """Give the results their numbers."""
    if isinstance(described, Ref):
        tensors[described.number] = result
    elif isinstance(described, list | tuple):
        for one, value in zip(described, result, strict=True):
            _bind(one, value, tensors)
