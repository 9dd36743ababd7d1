"""`torch.nn.Linear` with INT8 weights, and the operators that let torch.compile and CUDA graphs see through it.

    model = quantize_linears_(model, skip=("lm_head",))

puts an `Int8Linear` in the place of each `torch.nn.Linear`. Its forward is `matmul_int8`, registered as the operator
`int8_matmul_workshop::matmul_int8`: torch.compile records the call without looking inside, from the shapes alone.
"""

from collections.abc import Collection

import torch

from kernels import fused, runtime
from kernels.arguments import expect
from kernels.matmul_int8 import matmul_int8
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import quantize_int8_perrow, quantize_int8_perrow_torch

FLOATS = (torch.float16, torch.bfloat16)


def int8_linear_torch(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """y = (Σ x_q · w_q) · x_scale · w_scale + bias in torch: `Int8Linear`, bit for bit.

    x (..., K) FP16, quantized row by row here; w_q (N, K) int8, w_scale (N,) float32, bias (N,) or
    None -> y (..., N) in x's dtype. Sums are exact; scales and bias come in FP32, rounded once.
    """
    x_q, x_scale = quantize_int8_perrow_torch(x.reshape(-1, x.shape[-1]))
    acc = x_q.double() @ w_q.double().T  # (M, N), exact: float64 holds whole numbers up to 2⁵³
    y = acc.float() * x_scale[:, None] * w_scale
    if bias is not None:
        y = y + bias.float()
    return y.to(x.dtype).reshape(*x.shape[:-1], w_q.shape[0])


@torch.library.custom_op("int8_matmul_workshop::matmul_int8", mutates_args=())
def matmul_int8_op(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`kernels.matmul_int8` as a torch operator. It has no derivative: backward through it raises."""
    return matmul_int8(x if x.stride(-1) == 1 else x.contiguous(), w_q, w_scale, bias)


@matmul_int8_op.register_fake
def _(x, w_q, w_scale, bias=None):
    N, K = expect("w_q", w_q, ("N", "K"), torch.int8)
    expect("x", x, (*("..." for _ in x.shape[:-1]), K), FLOATS, device=w_q.device)
    expect("w_scale", w_scale, (N,), torch.float32, device=w_q.device)
    if bias is not None:
        expect("bias", bias, (N,), (*FLOATS, torch.float32), device=w_q.device)
    return x.new_empty((*x.shape[:-1], N))


@torch.library.custom_op("int8_matmul_workshop::rmsnorm_quantize_int8", mutates_args=())
def rmsnorm_quantize_int8_op(
    x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`kernels.rmsnorm_quantize_int8` as a torch operator."""
    return fused.rmsnorm_quantize_int8(x, weight, eps)


@rmsnorm_quantize_int8_op.register_fake
def _(x, weight, eps=1e-6):
    M, K = expect("x", x, ("M", "K"), FLOATS)
    expect("weight", weight, (K,), (*FLOATS, torch.float32), device=x.device)
    return x.new_empty((M, K), dtype=torch.int8), x.new_empty(M, dtype=torch.float32)


@torch.library.custom_op("int8_matmul_workshop::silu_mul_quantize_int8", mutates_args=())
def silu_mul_quantize_int8_op(gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`kernels.silu_mul_quantize_int8` as a torch operator."""
    return fused.silu_mul_quantize_int8(gate, up)


@silu_mul_quantize_int8_op.register_fake
def _(gate, up):
    M, K = expect("gate", gate, ("M", "K"), FLOATS)
    expect("up", up, (M, K), gate.dtype, device=gate.device)
    return gate.new_empty((M, K), dtype=torch.int8), gate.new_empty(M, dtype=torch.float32)


@torch.library.custom_op("int8_matmul_workshop::perrow_w8a8_matmul", mutates_args=())
def perrow_w8a8_matmul_op(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
) -> torch.Tensor:
    """`kernels.perrow_w8a8_matmul` as a torch operator: float16, without bias."""
    return perrow_w8a8_matmul(x_q, x_scale, w_q, w_scale)


@perrow_w8a8_matmul_op.register_fake
def _(x_q, x_scale, w_q, w_scale):
    M, K = expect("x_q", x_q, ("M", "K"), torch.int8)
    N, _ = expect("w_q", w_q, ("N", K), torch.int8, device=x_q.device)
    return x_q.new_empty((M, N), dtype=torch.float16)


class Int8Linear(torch.nn.Module):
    """y = x @ (weight_q · weight_scale[:, None]).T + bias, x quantized row by row as it comes.

    x (..., K) float16 or bfloat16 -> y (..., N) in the dtype of x. Buffers: weight_q (N, K) int8, weight_scale (N,)
    float32, bias (N,) or None. For inference: nothing here has a gradient. There is no attribute `weight`, on purpose:
    code that reaches for a layer's weight would take the codes for the numbers they stand for.
    """

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
        """The INT8 counterpart of a float16 or bfloat16 layer, on the same device; the layer itself is left alone."""
        weight = linear.weight.detach()
        where = runtime.device()
        if weight.device.type != where.type:
            raise ValueError(f"linear must be on {where}, where the kernels run, got {weight.device}: move it first")
        expect("linear.weight", weight, ("N", "K"), FLOATS)
        layer = cls(linear.in_features, linear.out_features, bias=False, device="meta")
        layer.weight_q, layer.weight_scale = quantize_int8_perrow(weight.contiguous())
        layer.bias = None if linear.bias is None else linear.bias.detach().clone()
        return layer.train(linear.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return matmul_int8_op(x, self.weight_q, self.weight_scale, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def _apply(self, fn, recurse=True):
        # model.half() and model.to(torch.bfloat16) go through here, and would take the scales along.
        scale = self.weight_scale
        super()._apply(fn, recurse)
        if self.weight_scale.dtype != torch.float32:
            self.weight_scale = scale.to(self.weight_scale.device)
        return self


def quantize_linears_(model: torch.nn.Module, skip: Collection[str] = ()) -> torch.nn.Module:
    """Replaces each `torch.nn.Linear` inside model by an `Int8Linear`, in place, and returns model.

    `skip` holds names to leave alone, whole ("layers.0.mlp.up") or last part ("lm_head"). A layer used in two places
    stays one layer. Subclasses of `torch.nn.Linear` are left alone: whoever wrote one may use its weight otherwise.
    Raises ValueError for a name in `skip` that no linear layer has.
    """
    if type(model) is torch.nn.Linear:
        raise TypeError("model must be a module that holds linear layers, got torch.nn.Linear: use "
                        "Int8Linear.from_linear")
    names = {name: linear for name, linear in model.named_modules(remove_duplicate=False)
             if type(linear) is torch.nn.Linear}
    unknown = [part for part in skip if not any(_matches(name, part) for name in names)]
    if unknown:
        raise ValueError(f"skip must hold names of linear layers, got {unknown}; there are {sorted(names)}")
    layers: dict[torch.nn.Linear, Int8Linear] = {}
    for name, linear in names.items():
        if any(_matches(name, part) for part in skip):
            continue
        if linear not in layers:
            layers[linear] = Int8Linear.from_linear(linear)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layers[linear])
    return model


def _matches(name: str, part: str) -> bool:
    return name == part or name.endswith("." + part)
