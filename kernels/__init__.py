"""The workshop's kernels, a library by itself. D = A @ B.T: weights are (N, K), as in `torch.nn.Linear`."""

from kernels import runtime as runtime  # first: it decides whether Triton interprets
from kernels.gemv import gemv_fp16, gemv_fp16_row

__all__ = ["gemv_fp16", "gemv_fp16_row"]
