"""y = x @ w.T + bias with x in FP16 or BF16 and w in INT8: quantize the rows of x, multiply the codes, scale the sums.

The ladder:
  matmul_int8_two_kernels   the quantizer, then the product of codes.
  matmul_int8               the same for many rows (prefill), where arithmetic takes the time; with few (decode) reading w
                            does, and `kernels.decode` is faster. It picks by M, the product of x's leading dimensions.
"""

import torch

from kernels import decode
from kernels.arguments import expect
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import quantize_int8_perrow


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

    x (..., K) float16 or bfloat16, any leading dimensions and strides; w_q (N, K) int8 and w_scale (N,) float32 from
    `quantize_int8_perrow(w)`; bias (N,) float16, bfloat16 or float32 -> y (..., N) in the dtype of x.
    """
    N, K = expect("w_q", w_q, ("N", "K"), torch.int8)
    lead = expect("x", x, (*("..." for _ in x.shape[:-1]), K), (torch.float16, torch.bfloat16), device=w_q.device)[:-1]
    if x.numel() // K > decode.MAX_M:
        return matmul_int8_two_kernels(x, w_q, w_scale, bias)
    rows = x.reshape(-1, K)
    if rows.stride(-1) != 1:
        rows = rows.contiguous()
    return decode.decode_w8a8(rows, w_q, w_scale, bias).reshape(*lead, N)
