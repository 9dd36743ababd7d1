"""y = x @ w.T + bias with x in FP16 or BF16 and w in INT8: quantize the rows of x, multiply the codes, scale the sums.

The ladder:
  matmul_int8_two_kernels   the quantizer, then the product of codes.
  matmul_int8               the same for many rows (prefill), where arithmetic takes the time, on an H200 with most of x
                            quantized inside the product (`kernels.quantize_beside`); with few rows (decode) reading w
                            takes it, and `kernels.decode` is faster. It picks by M, x's leading dimensions multiplied.
"""

import math
from collections.abc import Callable

import torch

from kernels import decode
from kernels.arguments import expect
from kernels.launch import Plans, is_traced, room
from kernels.perrow_w8a8 import Operands, expect_perrow_w8a8, perrow_w8a8_matmul, plan_matmul
from kernels.quantize import FLOATS, plan_quantize, quantize_int8_perrow, rooms_for_codes
from kernels.runtime import card
from kernels.tuning import descriptor_ready, has_hopper_gemm, place_on_hopper


def matmul_int8_two_kernels(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """y = x @ (w_q · w_scale[:, None]).T + bias, with x quantized row by row.

    x (..., K) float16 or bfloat16, any leading dimensions and strides; w_q (N, K) int8,
    w_scale (N,) float32; bias (N,) or None -> y (..., N) in the dtype of x.
    """
    rows = x.reshape(-1, x.shape[-1])
    if rows.stride(-1) != 1:
        rows = rows.contiguous()
    x_q, x_scale = quantize_int8_perrow(rows)
    y = perrow_w8a8_matmul(x_q, x_scale, w_q, w_scale, bias, out_dtype=x.dtype)
    return y.reshape(*x.shape[:-1], len(w_q))


def matmul_int8(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """y = x @ (w_q · w_scale[:, None]).T + bias, with x quantized row by row.

    x (..., K) float16 or bfloat16, any leading dimensions, 0 too, and strides; w_q (N, K) int8 and w_scale (N,) float32
    from `quantize_int8_perrow(w)`; bias (N,) float16, bfloat16 or float32 -> y (..., N) in the dtype of x.
    """
    return _matmul_int8(x, w_q, w_scale, bias)


@Plans
def _matmul_int8(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
) -> Callable[..., torch.Tensor]:
    N, K = expect("w_q", w_q, ("N", "K"), torch.int8)
    leading = x.ndim - 1 if isinstance(x, torch.Tensor) else 1
    lead = expect("x", x, (*["..."] * leading, K), FLOATS, device=w_q.device, batch=True)[:-1]
    rows = as_rows(x)
    plan = decode.plan_decode if len(rows) <= decode.MAX_M else _plan_two_kernels
    call = plan(rows, w_q, w_scale, bias, (*lead, N))
    if rows.data_ptr() == x.data_ptr():  # no copy: the kernels know the rows by their stride
        return call
    return lambda x, w_q, w_scale, bias: call(as_rows(x), w_q, w_scale, bias)


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """x (..., K) as (M, K), contiguous along K; a copy where it must be."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def _plan_two_kernels(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None, shape: tuple[int, ...],
) -> Callable[..., torch.Tensor]:
    (M, K), N, device, dtype = x.shape, len(w_q), x.device, x.dtype
    codes, y_room = rooms_for_codes(M, K, device), room((M, N), dtype, device)
    like, y_like = codes(), y_room()
    expect_perrow_w8a8(*like, w_q, w_scale, bias, dtype)
    if _beside(x, like[0], w_q, y_like):
        from kernels.quantize_beside import plan_beside

        return plan_beside(x, w_q, y_room, shape)
    quantize = plan_quantize(x)
    multiply = plan_matmul(Operands(*like, w_q, w_scale, bias, y_like))

    def call(
        x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
    ) -> torch.Tensor:
        y, (x_q, x_scale) = y_room(), codes()
        quantize(x, x_q, x_scale)
        multiply(x_q, x_scale, w_q, w_scale, bias, y)
        return y.view(shape)

    return call


def _beside(x: torch.Tensor, x_q: torch.Tensor, w_q: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether the rows of x are quantized beside the tensor cores: see `kernels.quantize_beside`."""
    (M, K), N = x.shape, len(w_q)
    if is_traced() or not has_hopper_gemm(x.device) or place_on_hopper(M, N, card(x.device).multiprocessors) != 0:
        return False
    from kernels.quantize_beside import beside_suits

    return beside_suits(N, K, card(x.device)) and descriptor_ready(x, x_q, w_q, y)
