"""The library as torch operators, `torch.ops.int8_matmul_workshop`: what torch.compile, torch.export and autograd see of it.

Of an operator a compiler knows the shapes, and calls it: a dispatch, the look-up of a plan, one to three launches. Where the
number of rows is known while it traces it is shown more (`_see_through`). A product comes apart in quantization and product
of codes, and layers with the same input share its codes. Then Inductor gets to see the launches themselves, which its own
code makes, and the quantization of few rows, which it fuses with what stands before. Not for a CUDA graph, where the host's
time does not matter: our launches overlap there (programmatic dependent launch), and Inductor's do not.
"""

import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch._subclasses.functional_tensor import FunctionalTensor, FunctionalTensorMode
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils.weak import WeakIdKeyDictionary

from kernels import decode, fused, quantize
from kernels.arguments import expect
from kernels.decode_row import one_launch
from kernels.launch import traced
from kernels.matmul_int8 import as_rows, matmul_int8
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import FLOATS, Codes
from kernels.runtime import INTERPRETED, card

# Not `torch.library.custom_op`: that costs a call 10 µs of the host's time, this 3.
_library = torch.library.Library("int8_matmul_workshop", "DEF")


def _operator(
    schema: str, run: Callable[..., object], shapes: Callable[..., object], inside: Callable[..., object] | None = None,
) -> torch._ops.OpOverload:
    """The torch operator of this schema: `run` computes it, `shapes` says what comes out, and checks the arguments.

    `inside` computes it from operators and launches that Inductor can be shown.
    """
    name = schema.partition("(")[0]
    _library.define(schema, tags=torch.Tag.needs_fixed_stride_order)
    for key in ("CPU", "CUDA"):
        _library.impl(name, run, key)
    _library.impl(name, shapes, "Meta")
    _library.impl(name, torch.library.fallthrough_kernel, "Autograd")  # `without_derivative` says that there is none
    if inside is not None:
        _see_through(name, inside)
    return getattr(torch.ops.int8_matmul_workshop, name).default


def _see_through(name: str, inside: Callable[..., object]) -> None:
    """While torch.compile traces with shapes that it knows, the operator is what `inside` calls: `torch.library.triton_op`.

    That itself is for all shapes or none, and makes an eager call as slow as a custom_op.
    """
    def rule(mode: Any, operator: Any, types: Any, arguments: tuple[Any, ...] = (), named: Any = None) -> object:
        x = arguments[0]
        if (INTERPRETED or not x.is_cuda or torch.compiler.is_exporting()
                or not all(isinstance(size, int) for size in x.shape)):
            return mode.__torch_dispatch__(operator, types, arguments, named or {})
        with mode, traced():
            found = inside(*arguments, **named or {})
        return mode.__torch_dispatch__(operator, types, arguments, named or {}) if found is None else found

    torch.library.register_torch_dispatch(f"int8_matmul_workshop::{name}", FunctionalTensorMode, rule, lib=_library)


def _in_graph() -> bool:
    """Whether Inductor is to make a CUDA graph of what is being traced."""
    from torch._inductor import config  # seconds, which only who compiles has to wait

    return bool(config.triton.cudagraphs)


_known: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""For a value of the graph that is being traced: that graph's tracer, and the value's codes."""


def _codes_of(x: torch.Tensor) -> Codes:
    """The codes and scales of x's rows; where x was quantized before in the graph that is being traced, those."""
    mode = get_proxy_mode()
    if mode is None or not isinstance(x, FunctionalTensor):
        return quantize_int8_perrow_op(as_rows(x))
    value = x.from_functional()  # another one after each change of x in place
    tracer, codes = _known.get(value, (None, None))
    if tracer is None or tracer() is not mode.tracer:
        codes = quantize_int8_perrow_op(as_rows(x))
        _known[value] = weakref.ref(mode.tracer), codes
    return codes


def _inside_matmul_int8(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None = None,
) -> torch.Tensor | None:
    N, K = w_q.shape
    shape = *x.shape[:-1], N
    if x.numel() == 0:
        return None
    if x.numel() == K and one_launch(N, K, card(x.device).multiprocessors):
        rows = as_rows(x)
        return None if _in_graph() else decode.plan_decode(rows, w_q, w_scale, bias, shape)(rows, w_q, w_scale, bias)
    return perrow_w8a8_matmul_op(*_codes_of(x), w_q, w_scale, bias, x.dtype).reshape(shape)


def _inside_quantize(x: torch.Tensor) -> Codes | None:
    if _in_graph():
        return None
    if len(x) > decode.MAX_M:
        return quantize.plan_codes(x)(x)
    # Of the reduction of a longer row Inductor makes three kernels.
    return _steps_of_quantize(x) if x.shape[1] <= 8192 else decode.plan_decode_quantize(x)(x)


def _steps_of_quantize(x: torch.Tensor) -> Codes:
    """`quantize_int8_perrow` in steps that Inductor makes one kernel of, with what computed x.

    Its divisions of 32 bits are not exact, so they are of 64 bits, which rounded to 32 are: too slow for many rows.
    """
    amax = x.abs().amax(dim=1, keepdim=True).float()
    scale = torch.where(amax.isfinite(), (amax.double() / 127).float(), torch.nan)
    quotient = (x.double() / scale.double()).float()
    q = torch.where(scale > 0, quotient.round().clamp(-127, 127), 0)
    return q.to(torch.int8), scale.squeeze(1)


def _inside_perrow_w8a8_matmul(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None = None, out_dtype: torch.dtype = torch.float16,
) -> torch.Tensor | None:
    if _in_graph() or not _few(x_q):
        return None
    arguments = x_q, x_scale, w_q, w_scale, bias, out_dtype
    return decode.plan_decode_codes(*arguments)(*arguments)


def _inside_rmsnorm(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> Codes | None:
    return None if _in_graph() else fused.plan_rmsnorm(x, weight, eps)(x, weight, eps)


def _inside_silu_mul(gate: torch.Tensor, up: torch.Tensor) -> Codes | None:
    return None if _in_graph() else fused.plan_silu_mul(gate, up)(gate, up)


def _shapes_matmul_int8(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None = None,
) -> torch.Tensor:
    N, K = expect("w_q", w_q, ("N", "K"), torch.int8)
    expect("x", x, (*("..." for _ in x.shape[:-1]), K), FLOATS, device=w_q.device, batch=True)
    expect("w_scale", w_scale, (N,), torch.float32, device=w_q.device)
    if bias is not None:
        expect("bias", bias, (N,), (*FLOATS, torch.float32), device=w_q.device)
    return x.new_empty((*x.shape[:-1], N))


def _shapes_quantize(x: torch.Tensor) -> Codes:
    M, K = expect("x", x, ("M", "K"), FLOATS, batch=True)
    return x.new_empty((M, K), dtype=torch.int8), x.new_empty(M, dtype=torch.float32)


def _shapes_rmsnorm(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> Codes:
    codes = _shapes_quantize(x)
    expect("weight", weight, (x.shape[1],), (*FLOATS, torch.float32), device=x.device)
    return codes


def _shapes_silu_mul(gate: torch.Tensor, up: torch.Tensor) -> Codes:
    M, K = expect("gate", gate, ("M", "K"), FLOATS, batch=True)
    expect("up", up, (M, K), gate.dtype, device=gate.device)
    return gate.new_empty((M, K), dtype=torch.int8), gate.new_empty(M, dtype=torch.float32)


def _shapes_perrow_w8a8_matmul(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None = None, out_dtype: torch.dtype = torch.float16,
) -> torch.Tensor:
    M, K = expect("x_q", x_q, ("M", "K"), torch.int8, batch=True)
    N, _ = expect("w_q", w_q, ("N", K), torch.int8, device=x_q.device)
    expect("x_scale", x_scale, (M,), torch.float32, device=x_q.device)
    expect("w_scale", w_scale, (N,), torch.float32, device=x_q.device)
    if bias is not None:
        expect("bias", bias, (N,), (*FLOATS, torch.float32), device=x_q.device)
    return x_q.new_empty((M, N), dtype=out_dtype)


def _few(rows: torch.Tensor) -> bool:
    return rows.shape[0] <= decode.MAX_M and rows.is_contiguous()


def quantize_rows(x: torch.Tensor) -> Codes:
    """`quantize_int8_perrow` by the kernel that is fastest for so many rows."""
    return (decode.decode_quantize if x.shape[0] <= decode.MAX_M else quantize.quantize_int8_perrow)(x)


def multiply_codes(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None = None, out_dtype: torch.dtype = torch.float16,
) -> torch.Tensor:
    """`perrow_w8a8_matmul`, for few rows by the kernels of `kernels.decode`: the same bits."""
    return (decode.decode_codes if _few(x_q) else perrow_w8a8_matmul)(x_q, x_scale, w_q, w_scale, bias, out_dtype)


def _no_derivative(y: torch.Tensor, x: torch.Tensor) -> NoReturn:
    raise RuntimeError("INT8 layers are for inference: a product with INT8 weights has no derivative. Call the model under "
                       "torch.no_grad(), or detach what goes into the layer")


matmul_int8_op = _operator(
    "matmul_int8(Tensor x, Tensor w_q, Tensor w_scale, Tensor? bias=None) -> Tensor",
    matmul_int8, _shapes_matmul_int8, _inside_matmul_int8)
quantize_int8_perrow_op = _operator(
    "quantize_int8_perrow(Tensor x) -> (Tensor, Tensor)", quantize_rows, _shapes_quantize, _inside_quantize)
rmsnorm_quantize_int8_op = _operator(
    "rmsnorm_quantize_int8(Tensor x, Tensor weight, float eps=1e-6) -> (Tensor, Tensor)",
    fused.rmsnorm_quantize_int8, _shapes_rmsnorm, _inside_rmsnorm)
silu_mul_quantize_int8_op = _operator(
    "silu_mul_quantize_int8(Tensor gate, Tensor up) -> (Tensor, Tensor)",
    fused.silu_mul_quantize_int8, _shapes_silu_mul, _inside_silu_mul)
perrow_w8a8_matmul_op = _operator(
    "perrow_w8a8_matmul(Tensor x_q, Tensor x_scale, Tensor w_q, Tensor w_scale, Tensor? bias=None, "
    "ScalarType out_dtype=half) -> Tensor",
    multiply_codes, _shapes_perrow_w8a8_matmul, _inside_perrow_w8a8_matmul)
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


