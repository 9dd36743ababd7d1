"""What each rank computes of a product that is cut, step by step in torch: the definitions behind `kernels.parallel`.

  column_part           the rows of w, so the columns of y, that one rank has
  shared_scale          one scale for a row whose parts lie on different ranks
  row_parallel_shared   the row-parallel product with that scale: INT32 partial sums, the bits of one GPU
  row_parallel_own      the same with a scale for each part: FP16 partial products
  mlp_parallel          an MLP, its first products cut by columns and its last by rows: one all-reduce
  all_reduce_int8       an exchange in INT8: codes and scales of the partial products

All but the first are called by every rank, with its part of the operands and the `group` of all ranks.
"""

import torch

from kernels.exchange import Group
from kernels.quantize import quantize_int8_perrow_torch


def column_part(
    w_q: torch.Tensor, w_scale: torch.Tensor, rank: int, size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes and scales that rank `rank` of `size` has of a column-parallel layer.

    w_q (N, K) int8, w_scale (N,) float32 -> (N / size, K) and (N / size,): what it needs for
    columns rank · N / size, rank · N / size + 1, ... of y = x wᵀ. N is a multiple of `size`.
    """
    each = len(w_q) // size
    mine = slice(rank * each, (rank + 1) * each)
    return w_q[mine], w_scale[mine]


def quantize_with_scale(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Codes (M, K) int8 of x (M, K), each row by its scale (M,): 0 where it is 0."""
    q = (x.float() / scale[:, None]).round().clamp(-127, 127)
    return torch.where(scale[:, None] > 0, q, 0).to(torch.int8)


def shared_scale(x: torch.Tensor, group: Group) -> torch.Tensor:
    """Each row's scale, max |row| / 127 of all ranks' parts of the row: (M,) float32.

    x (M, K / size) FP16 is this rank's part of the columns. Every rank returns the same.
    """
    amax = x.float().abs().amax(dim=1)
    return group.all_reduce(amax, "max") / 127


def row_parallel_shared(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor, group: Group,
) -> torch.Tensor:
    """y = (Σ x_q · w_q) · scale · w_scale + bias with the bits of one GPU, on every rank.

    x (M, K / size) FP16 and w_q (N, K / size) int8 are this rank's columns; w_scale (N,) float32
    and bias (N,) FP16 are whole -> y (M, N) FP16. The partial sums are added in INT32; scales and
    bias come in FP32, and y is rounded once.
    """
    scale = shared_scale(x, group)
    x_q = quantize_with_scale(x, scale)
    sums = (x_q.double() @ w_q.double().T).int()  # this rank's part of K
    sums = group.all_reduce(sums)
    y = sums.float() * scale[:, None] * w_scale + bias.float()
    return y.half()


def row_parallel_own(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor, group: Group,
) -> torch.Tensor:
    """The same with scales of each part: y = Σ_ranks (Σ x_q · w_q) · scale · w_scale + bias.

    x and w_q as above, quantized part by part: w_scale (N,) float32 belongs to this rank's columns
    of w, and x gets a scale for each row of this part. Partial products are added in FP16.
    """
    x_q, scale = quantize_int8_perrow_torch(x)
    sums = x_q.double() @ w_q.double().T
    part = sums.float() * scale[:, None] * w_scale
    y = group.all_reduce(part.half())
    return y + bias


def mlp_parallel(
    x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor, group: Group,
) -> torch.Tensor:
    """y = h downᵀ with h = silu(x gateᵀ) · (x upᵀ), on every rank, with one all-reduce.

    x (M, D) is whole. gate and up (H / size, D) are this rank's rows, down (D, H / size) its
    columns -> y (M, D), all float32.
    """
    h = torch.nn.functional.silu(x @ gate.T) * (x @ up.T)
    return group.all_reduce(h @ down.T)


def all_reduce_int8(y: torch.Tensor, group: Group) -> torch.Tensor:
    """The sum over ranks of y (M, N) float32, each rank's quantized row by row before it is sent.

    `group.all_gather(tensor)` gives the tensors of all ranks, (size, ...). What comes out is
    Σ over ranks of codes · scale, (M, N) float32, the same on every rank.
    """
    q, scale = quantize_int8_perrow_torch(y)
    codes, scales = group.all_gather(q), group.all_gather(scale)
    return (codes.float() * scales[:, :, None]).sum(dim=0)
