"""`torch.nn.Linear` with INT8 weights.

    model = quantize_linears_(model, skip=("lm_head",))

puts an `Int8Linear` in the place of each `torch.nn.Linear`. Its forward is the operator `matmul_int8` (`kernels.operators`).
The operator gives the same bits under torch.compile. What lies between the layers does not, unless inductor's
`emulate_precision_casts` is set: other roundings there become other codes here.
"""

from collections.abc import Callable, Collection

import torch

from kernels import runtime
from kernels.arguments import expect
from kernels.operators import matmul_int8_op, without_derivative
from kernels.quantize import FLOATS, quantize_int8_perrow, quantize_int8_perrow_torch


def int8_linear_torch(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """y = (Σ x_q · w_q) · x_scale · w_scale + bias in torch: `Int8Linear`.

    x (..., K) FP16, quantized row by row here; w_q (N, K) int8, w_scale (N,) float32, bias (N,) or
    None -> y (..., N) in x's dtype. Sums are exact; scales and bias come in FP32, rounded once.
    In FP16 on the CPU the bits are those of `Int8Linear`; a GPU divides by 127 otherwise.
    """
    x_q, x_scale = quantize_int8_perrow_torch(x.reshape(-1, x.shape[-1]))
    acc = x_q.double() @ w_q.double().T  # (M, N), exact: float64 holds whole numbers up to 2⁵³
    y = acc.float() * x_scale[:, None] * w_scale
    if bias is not None:
        y = y + bias.float()
    return y.to(x.dtype).reshape(*x.shape[:-1], w_q.shape[0])


class Int8Linear(torch.nn.Module):
    """y = x @ (weight_q · weight_scale[:, None]).T + bias, x quantized row by row as it comes.

    x (..., K) float16 or bfloat16 -> y (..., N) in the dtype of x. Buffers: weight_q (N, K) int8, weight_scale (N,)
    float32, bias (N,) or None. For inference: nothing here has a gradient. There is no attribute `weight`, on purpose:
    code that reaches for a layer's weight would take the codes for the numbers they stand for.
    """

    weight_q: torch.Tensor
    weight_scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True,
        device: torch.device | str | None = None, dtype: torch.dtype = torch.float16,
    ):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        device = runtime.device() if device is None else device
        self.register_buffer("weight_q", torch.zeros(out_features, in_features, dtype=torch.int8, device=device))
        self.register_buffer("weight_scale", torch.zeros(out_features, dtype=torch.float32, device=device))
        self.register_buffer("bias", torch.zeros(out_features, dtype=dtype, device=device) if bias else None)

    @classmethod
    def from_linear(cls, linear: torch.nn.Linear) -> "Int8Linear":
        """The INT8 counterpart of a float16 or bfloat16 layer, on the same device; the layer itself is left alone.

        Raises TypeError or ValueError for a layer that cannot be converted, or whose forward is not that of its weight.
        """
        expect_linear("linear", linear)
        weight = linear.weight.detach()
        layer = cls(linear.in_features, linear.out_features, bias=False, device="meta")
        layer.weight_q, layer.weight_scale = quantize_int8_perrow(weight.contiguous())
        layer.bias = None if linear.bias is None else linear.bias.detach().clone()
        return layer.train(linear.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tensors = self._buffers  # `self.weight_q` costs a microsecond each, for it is sought among the parameters first
        return without_derivative(matmul_int8_op(x, tensors["weight_q"], tensors["weight_scale"], tensors["bias"]), x)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "Int8Linear":
        # model.half() and model.to(torch.bfloat16) go through here, and would take the scales along.
        scale = self.weight_scale
        # Not `super()`: a row-parallel layer has this function as well, and is no Int8Linear.
        torch.nn.Module._apply(self, fn, recurse)
        if self.weight_scale.dtype != torch.float32:
            self.weight_scale = scale.to(self.weight_scale.device)
        return self


class Int8LinearOnCpu(Int8Linear):
    """The bits of `Int8Linear` in torch, for a machine on which the kernels would be interpreted: a whole model of them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x_q, x_scale = quantize_int8_perrow_torch(x.reshape(-1, self.in_features))
        acc = torch._int_mm(x_q, self.weight_q.T)
        y = acc.float() * x_scale[:, None] * self.weight_scale
        if self.bias is not None:
            y = y + self.bias.float()
        return y.to(x.dtype).reshape(*x.shape[:-1], self.out_features)


def expect_linear(name: str, linear: torch.nn.Linear) -> None:
    """Raises TypeError or ValueError, which name it, where a layer cannot become an `Int8Linear`."""
    if not _has_weight(linear):
        raise ValueError(f"{name}.weight is computed before each call, from other parameters, as torch.nn.utils.weight_norm "
                         "does: make it a parameter first, with torch.nn.utils.remove_weight_norm")
    if "forward" in vars(linear):
        raise ValueError(f"{name}.forward was replaced in this one layer, and an INT8 layer would not call it: put the "
                         "layer's own back, or skip the layer")
    where = runtime.device()
    if linear.weight.device.type != where.type:
        raise ValueError(f"{name} must be on {where}, where the kernels run, got {linear.weight.device}: move it first")
    expect(f"{name}.weight", linear.weight, ("N", "K"), FLOATS)


def _has_weight(linear: torch.nn.Linear) -> bool:
    """Whether the weight is a parameter: if not, a hook computes it, and until then it may be an old one."""
    return "weight" in linear._parameters


HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
         "_forward_pre_hooks_with_kwargs")


def quantize_linears_(model: torch.nn.Module, skip: Collection[str] = ()) -> torch.nn.Module:
    """Replaces each `torch.nn.Linear` inside model by an `Int8Linear`, in place, and returns model.

    `skip` holds names to leave alone, whole ("layers.0.mlp.up") or last part ("lm_head"). A layer used in two places
    stays one layer; forward hooks stay. Left alone are subclasses of `torch.nn.Linear`, for whoever wrote one may use its
    weight otherwise, and layers whose weight is computed before each call (`torch.nn.utils.weight_norm`). Raises ValueError
    for a name in `skip` that no linear layer has, TypeError or ValueError where a layer cannot be converted: then none is.
    """
    if type(model) is torch.nn.Linear:
        raise TypeError("model must be a module that holds linear layers, got torch.nn.Linear: use "
                        "Int8Linear.from_linear")
    if isinstance(skip, str):
        raise TypeError(f"skip must be a collection of names, got the text {skip!r}: write skip=({skip!r},)")
    names = {name: linear for name, linear in model.named_modules(remove_duplicate=False)
             if type(linear) is torch.nn.Linear}
    unknown = [part for part in skip if not any(_matches(name, part) for name in names)]
    if unknown:
        raise ValueError(f"skip must hold names of linear layers, got {unknown}; there are {sorted(names)}")
    names = {name: linear for name, linear in names.items()
             if _has_weight(linear) and not any(_matches(name, part) for part in skip)}
    for name, linear in names.items():  # all of them before the first is replaced
        expect_linear(name, linear)
    layers: dict[torch.nn.Linear, Int8Linear] = {}
    for name, linear in names.items():
        if linear not in layers:
            layers[linear] = Int8Linear.from_linear(linear)
            for hooks in HOOKS:  # the dictionaries themselves: their handles still remove what they added
                setattr(layers[linear], hooks, getattr(linear, hooks))
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layers[linear])
    _leave_fast_paths(model)
    return model


def _leave_fast_paths(model: torch.nn.Module) -> None:
    """PyTorch's encoder layers have a second forward, which calls no layer but reads its weight: keep to the first."""
    for module in model.modules():
        if any(isinstance(part, Int8Linear) for part in module.modules()):
            if isinstance(module, torch.nn.TransformerEncoderLayer):
                module.activation_relu_or_gelu = 0
            elif isinstance(module, torch.nn.TransformerEncoder):
                module.use_nested_tensor = False


def _matches(name: str, part: str) -> bool:
    return name == part or name.endswith("." + part)
