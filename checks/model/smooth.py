"""SmoothQuant on a model: which layers read what a norm or a linear layer wrote, and the factors folded into that.

    norm -> its linear layers        the norm's weight (and bias) is divided by s
    v_proj -> o_proj                 attention mixes tokens and never channels, so v's rows are divided by s
    up_proj -> down_proj             the gate multiplies element by element, so up's rows are divided by s

What follows neither (the second product of an MLP with a GELU before it) keeps its outliers, and is named.
"""

import dataclasses
from typing import Any

import torch

from checks.capstone.accuracy import linears
from checks.model.folder import BadModel
from kernels.schemes import smoothing_factors

LARGEST_CHANGE = 0.02
"""Relative change of the logits above which the folding was none: rounding the folded weights costs a tenth of it."""


@dataclasses.dataclass(frozen=True)
class Smoothed:
    """What was folded, by layer: what its input is divided by, and its output; and the layers whose input is as it was."""

    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    left: tuple[str, ...]


NOTHING = Smoothed({}, {}, ())


@torch.no_grad()
def smooth_(model: torch.nn.Module, rows: torch.Tensor, alpha: float) -> Smoothed:
    """Folds the factors of `smoothing_factors` into a model, in place: parameters are replaced, not written to.

    rows (B, T) are the calibration text's tokens. Raises BadModel where the model is not the same function afterwards.
    """
    amax, followers = calibrate(model, rows)
    before = model(rows[:1]).logits.float()
    layers, inputs, outputs = linears(model), {}, {}
    for source, consumers, group in [*row_sources(model, layers), *((name, names, 1) for name, names in followers.items())]:
        x_amax = amax[consumers[0]]
        w_amax = torch.stack([layers[name].weight.float().abs().amax(dim=0) for name in consumers]).amax(dim=0)
        x_amax, w_amax = shared(x_amax, group, model), shared(w_amax, group, model)
        s = smoothing_factors(x_amax, w_amax, alpha)
        s_of_source = s.view(-1, group, head_dim(model))[:, 0].flatten() if group > 1 else s
        divide(model.get_submodule(source), s_of_source)
        outputs[source] = s_of_source
        for name in consumers:
            layers[name].weight = like(layers[name].weight, layers[name].weight.float() * s)
            inputs[name] = s
    after = model(rows[:1]).logits.float()
    change = ((after - before).norm() / before.norm()).item()
    if not change <= LARGEST_CHANGE:
        raise BadModel(f"SmoothQuant's factors cannot be folded into this model: its logits changed by {100 * change:.1f} "
                       "%, so its norms or its attention are not those of Llama, Qwen or GPT-NeoX. Leave out --smooth")
    return Smoothed(inputs, outputs, tuple(name for name in layers if name not in inputs))


def calibrate(model: torch.nn.Module, rows: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
    """The largest magnitude of each channel that goes into each linear layer, and the layers that read a norm's output.

    ({layer: (K,) float32}, {norm: [layers]}); a layer follows a norm if it is handed the very tensor that the norm gave.
    """
    amax: dict[str, torch.Tensor] = {}
    written: dict[int, tuple[str, Any]] = {}
    followers: dict[str, list[str]] = {}

    def of_norm(name):
        def hook(module, inputs, output):
            written[id(output)] = name, output  # the tensor too: or another would get its id
        return hook

    def of_linear(name):
        def hook(module, inputs):
            x, = inputs
            largest = x.reshape(-1, x.shape[-1]).abs().amax(dim=0).float()
            amax[name] = torch.maximum(amax[name], largest) if name in amax else largest
            if id(x) in written and name not in followers.setdefault(written[id(x)][0], []):
                followers[written[id(x)][0]].append(name)
        return hook

    handles = [linear.register_forward_pre_hook(of_linear(name)) for name, linear in linears(model).items()]
    handles += [module.register_forward_hook(of_norm(name)) for name, module in model.named_modules()
                if type(module).__name__.endswith("Norm") and getattr(module, "weight", None) is not None]
    for row in rows:
        model(row[None])
        written.clear()
    for handle in handles:
        handle.remove()
    return amax, followers


def row_sources(model: torch.nn.Module, layers: dict[str, torch.nn.Linear]) -> list[tuple[str, list[str], int]]:
    """(source, [consumer], query heads that share a head of values) of the linear layers whose rows can be divided."""
    found = []
    for name, _ in model.named_modules():
        for source, consumer, beside in (("v_proj", "o_proj", "k_proj"), ("up_proj", "down_proj", "gate_proj")):
            ours = [f"{name}.{last}" for last in (source, consumer, beside)]
            if all(each in layers for each in ours):
                group = layers[ours[1]].in_features // layers[ours[0]].out_features
                found.append((ours[0], [ours[1]], group))
    return found


def shared(amax: torch.Tensor, group: int, model: Any) -> torch.Tensor:
    """amax (K,) with the largest of the `group` query heads that share a head of values in the place of each."""
    if group == 1:
        return amax
    heads = amax.view(-1, group, head_dim(model))
    return heads.amax(dim=1, keepdim=True).expand_as(heads).flatten()


def divide(source: Any, s: torch.Tensor) -> None:
    """Divide each channel of what a norm or a linear layer writes by s."""
    is_linear = isinstance(source, torch.nn.Linear)
    source.weight = like(source.weight, source.weight.float() / (s[:, None] if is_linear else s))
    if getattr(source, "bias", None) is not None:
        source.bias = like(source.bias, source.bias.float() / s)


def head_dim(model: Any) -> int:
    config = model.config
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def like(parameter: torch.Tensor, value: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(value.to(parameter.dtype), requires_grad=False)
