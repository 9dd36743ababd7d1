"""The INT8 twin of a model: its linear layers replaced, all else shared; and its file."""

import copy
import itertools
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from checks.capstone.accuracy import linears
from checks.files import replacing
from checks.model.folder import BadModel
from checks.model.smooth import Smoothed
from kernels.linear import Int8Linear, Int8LinearOnCpu, quantize_linears_
from kernels.runtime import INTERPRETED, device

FORMAT = "int8 rows, symmetric, FP32 scales"
SMOOTHED = "smoothed."
"""What the names of SmoothQuant's factors begin with in a file: to compare layer by layer they are needed."""


def twin_of(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of the model that shares every parameter with it: what is replaced in the one is not in the other."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def quantize_(model: torch.nn.Module, skip: Collection[str]) -> torch.nn.Module:
    """`quantize_linears_`, in torch where the kernels would be interpreted. Raises BadModel."""
    if not linears(model):
        raise BadModel("the model has no torch.nn.Linear: there is nothing here that would become INT8")
    try:
        quantize_linears_(model, skip)
    except (TypeError, ValueError) as error:
        raise BadModel(str(error)) from None
    return _where_it_runs(model)


def _where_it_runs(model: torch.nn.Module) -> torch.nn.Module:
    for module in model.modules():
        if INTERPRETED and type(module) is Int8Linear:
            module.__class__ = Int8LinearOnCpu
    return model


def int8_layers(model: torch.nn.Module) -> dict[str, Int8Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Int8Linear)}


def weight_bytes(model: torch.nn.Module) -> int:
    """Bytes of all parameters and buffers, each counted once."""
    tensors = {tensor.data_ptr(): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def save(model: torch.nn.Module, path: Path, made: dict[str, Any], smoothed: Smoothed) -> None:
    """Write the INT8 model to a safetensors file, whole or not at all; `made` says how it was made, and goes along."""
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for kind, factors in (("inputs", smoothed.inputs), ("outputs", smoothed.outputs)):
        tensors |= {f"{SMOOTHED}{kind}.{name}": factor.clone() for name, factor in factors.items()}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:  # tied weights once
            tensors[name] = tensor.contiguous()
            seen.add(tensor.data_ptr())
    record = {"format": FORMAT, "layers": list(int8_layers(model)), **made}
    with replacing(path) as draft:
        save_file(tensors, draft, {"int8_matmul_workshop": json.dumps(record)})


def read_record(path: Path) -> dict[str, Any]:
    """How the INT8 model in a file was made. Raises BadModel where the file is none."""
    try:
        with safe_open(path, "pt") as file:
            record = json.loads((file.metadata() or {})["int8_matmul_workshop"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise BadModel(f"{path} is no INT8 model that this command saved ({type(error).__name__}: {error})") from None
    if record.get("format") != FORMAT:
        raise BadModel(f"{path} holds {record.get('format')!r}, and this version of the workshop reads {FORMAT!r}")
    return record


def load(model: torch.nn.Module, path: Path) -> tuple[torch.nn.Module, Smoothed]:
    """The INT8 twin of `model` with the weights of a file that `save` wrote, and how it was smoothed. Raises BadModel where
    they do not fit."""
    record, twin = read_record(path), twin_of(model)
    there = linears(twin)
    with safe_open(path, "pt", device=str(device())) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    inputs, outputs = ({name.removeprefix(begin): tensors.pop(name) for name in list(tensors) if name.startswith(begin)}
                       for begin in (f"{SMOOTHED}inputs.", f"{SMOOTHED}outputs."))
    for name in record["layers"]:
        if name not in there:
            raise BadModel(f"{path} was made from another model: this one has no linear layer {name}")
        parent, _, last = name.rpartition(".")
        linear = there[name]
        layer = Int8Linear(linear.in_features, linear.out_features, linear.bias is not None, device="meta",
                           dtype=linear.weight.dtype)
        setattr(twin.get_submodule(parent), last, layer.eval())
    try:
        found = twin.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise BadModel(f"{path} was made from another model: {str(error).splitlines()[1].strip()}") from None
    empty = [name for name, tensor in twin.state_dict().items() if tensor.is_meta]
    if found.unexpected_keys or empty:
        raise BadModel(f"{path} was made from another model: {(found.unexpected_keys or empty)[0]} does not fit")
    left = tuple(name for name in there if name not in inputs)
    return _where_it_runs(twin.requires_grad_(False)), Smoothed(inputs, outputs, left)
