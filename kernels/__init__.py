"""The workshop's kernels, a library by itself. D = A @ B.T: weights are (N, K), as in `torch.nn.Linear`.

A function runs on the GPU of its tensors. The plain versions that lessons show, such as `vector_add` and `gemv_fp16`, and
what calls them (`kernels.mlp`, `unfused`, `split_k_w8a8`) launch as Triton itself does, on the current GPU: call them in
`with torch.cuda.device(x.device)` for tensors on another one.
"""

from kernels import runtime as runtime  # first: it decides whether Triton interprets
from kernels.decode import decode_w8a8
from kernels.fused import rmsnorm_quantize_int8, silu_mul_quantize_int8
from kernels.gemv import gemv_fp16, gemv_fp16_row
from kernels.gemv_int8 import gemv_w8a16, gemv_w8a16_row
from kernels.group_w8a8 import group_w8a8_matmul, quantize_int8_groups
from kernels.hello import copy_2d, row_sum, smooth, vector_add
from kernels.kv_cache import append_int8, decode_attention, decode_attention_int8, quantize_heads
from kernels.linear import Int8Linear, quantize_linears_
from kernels.matmul import matmul_fp16, matmul_fp16_grouped, matmul_fp16_naive
from kernels.matmul_int8 import matmul_int8
from kernels.perrow_w8a8 import perrow_w8a8_matmul, perrow_w8a8_matmul_grouped, perrow_w8a8_matmul_plain
from kernels.quantize import quantize_int8_perrow

__all__ = [
    "Int8Linear", "append_int8", "copy_2d", "decode_attention", "decode_attention_int8", "decode_w8a8", "gemv_fp16",
    "gemv_fp16_row", "gemv_w8a16", "gemv_w8a16_row", "group_w8a8_matmul", "matmul_fp16", "matmul_fp16_grouped",
    "matmul_fp16_naive", "matmul_int8", "perrow_w8a8_matmul", "perrow_w8a8_matmul_grouped", "perrow_w8a8_matmul_plain",
    "quantize_heads", "quantize_int8_groups", "quantize_int8_perrow", "quantize_linears_", "rmsnorm_quantize_int8",
    "row_sum", "silu_mul_quantize_int8", "smooth", "vector_add",
]
