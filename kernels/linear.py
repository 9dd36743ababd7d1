"""`torch.nn.Linear` with INT8 weights, and the operators that let torch.compile and CUDA graphs see through it.

    model = quantize_linears_(model, skip=("lm_head",))

puts an `Int8Linear` in the place of each `torch.nn.Linear`. Its forward is `matmul_int8`, registered as the operator
`int8_matmul_workshop::matmul_int8`: torch.compile records the call without looking inside, from the shapes alone.
"""

from collections.abc import Callable, Collection
from typing import Any, NoReturn

import torch

from kernels import fused, runtime
from kernels.arguments import expect
from kernels.decode import MAX_M, decode_codes
from kernels.matmul_int8 import matmul_int8
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import FLOATS, Codes, quantize_int8_perrow, quantize_int8_perrow_torch


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


# Not `torch.library.custom_op`: that costs a call 10 µs of the host's time, this 3.
_library = torch.library.Library("int8_matmul_workshop", "DEF")


def _operator(schema: str, run: Callable[..., object], shapes: Callable[..., object]) -> torch._ops.OpOverload:
    """The torch operator of this schema: `run` computes it, `shapes` says what comes out, and checks the arguments."""
    name = schema.partition("(")[0]
    _library.define(schema, tags=torch.Tag.needs_fixed_stride_order)
    for key in ("CPU", "CUDA"):
        _library.impl(name, run, key)
    _library.impl(name, shapes, "Meta")
    _library.impl(name, torch.library.fallthrough_kernel, "Autograd")  # `without_derivative` says that there is none
    return getattr(torch.ops.int8_matmul_workshop, name).default


def _shapes_matmul_int8(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None = None,
) -> torch.Tensor:
    N, K = expect("w_q", w_q, ("N", "K"), torch.int8)
    expect("x", x, (*("..." for _ in x.shape[:-1]), K), FLOATS, device=w_q.device, batch=True)
    expect("w_scale", w_scale, (N,), torch.float32, device=w_q.device)
    if bias is not None:
        expect("bias", bias, (N,), (*FLOATS, torch.float32), device=w_q.device)
    return x.new_empty((*x.shape[:-1], N))


def _shapes_rmsnorm_quantize_int8(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> Codes:
    M, K = expect("x", x, ("M", "K"), FLOATS, batch=True)
    expect("weight", weight, (K,), (*FLOATS, torch.float32), device=x.device)
    return x.new_empty((M, K), dtype=torch.int8), x.new_empty(M, dtype=torch.float32)


def _shapes_silu_mul_quantize_int8(gate: torch.Tensor, up: torch.Tensor) -> Codes:
    M, K = expect("gate", gate, ("M", "K"), FLOATS, batch=True)
    expect("up", up, (M, K), gate.dtype, device=gate.device)
    return gate.new_empty((M, K), dtype=torch.int8), gate.new_empty(M, dtype=torch.float32)


def _perrow_w8a8_matmul(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
) -> torch.Tensor:
    few = x_q.shape[0] <= MAX_M and x_q.is_contiguous()
    return (decode_codes if few else perrow_w8a8_matmul)(x_q, x_scale, w_q, w_scale)


def _shapes_perrow_w8a8_matmul(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
) -> torch.Tensor:
    M, K = expect("x_q", x_q, ("M", "K"), torch.int8, batch=True)
    N, _ = expect("w_q", w_q, ("N", K), torch.int8, device=x_q.device)
    return x_q.new_empty((M, N), dtype=torch.float16)


def _no_derivative(y: torch.Tensor, x: torch.Tensor) -> NoReturn:
    raise RuntimeError("INT8 layers are for inference: a product with INT8 weights has no derivative. Call the model under "
                       "torch.no_grad(), or detach what goes into the layer")


matmul_int8_op = _operator(
    "matmul_int8(Tensor x, Tensor w_q, Tensor w_scale, Tensor? bias=None) -> Tensor", matmul_int8, _shapes_matmul_int8)
rmsnorm_quantize_int8_op = _operator(
    "rmsnorm_quantize_int8(Tensor x, Tensor weight, float eps=1e-6) -> (Tensor, Tensor)",
    fused.rmsnorm_quantize_int8, _shapes_rmsnorm_quantize_int8)
silu_mul_quantize_int8_op = _operator(
    "silu_mul_quantize_int8(Tensor gate, Tensor up) -> (Tensor, Tensor)",
    fused.silu_mul_quantize_int8, _shapes_silu_mul_quantize_int8)
# For few rows by the kernels of decode: the same bits.
perrow_w8a8_matmul_op = _operator(
    "perrow_w8a8_matmul(Tensor x_q, Tensor x_scale, Tensor w_q, Tensor w_scale) -> Tensor",
    _perrow_w8a8_matmul, _shapes_perrow_w8a8_matmul)
_no_derivative_op = _operator(
    "no_derivative(Tensor grad, Tensor x) -> Tensor", _no_derivative, lambda grad, x: torch.empty_like(x))


class _WithoutDerivative(torch.autograd.Function):
    """The error is an operator's, for a compiler traces `backward` with the model."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, _no_derivative_op(grad, *ctx.saved_tensors)


def without_derivative(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """y, which an operator made of x: where x wants a gradient, asking y for it raises RuntimeError, and not before."""
    if x.requires_grad and torch.is_grad_enabled():
        return _WithoutDerivative.apply(y, x)  # type: ignore[no-untyped-call]  # torch has no types here
    return y


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
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no types here
        if self.weight_scale.dtype != torch.float32:
            self.weight_scale = scale.to(self.weight_scale.device)
        return self


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
