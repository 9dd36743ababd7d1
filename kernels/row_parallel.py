"""A layer that is cut by columns of its weight, each rank with a part of K: `kernels.parallel` says how and why."""

from collections.abc import Callable

import torch
import torch.distributed as dist

from kernels.exchange import Group, PeerMemory
from kernels.fused import rmsnorm_quantize_int8, silu_mul_quantize_int8
from kernels.linear import Int8Linear, expect_linear
from kernels.operators import (
    perrow_w8a8_matmul_op,
    quantize_int8_perrow_op,
    quantize_rows,
    rmsnorm_quantize_int8_op,
    silu_mul_quantize_int8_op,
    without_derivative,
)
from kernels.parts import (
    finish,
    finish_rmsnorm,
    int_sums_op,
    multiply_into,
    part_amax,
    part_amax_op,
    quantize_and_multiply_into,
    quantize_with_amax,
    quantize_with_amax_op,
    sums_into,
)
from kernels.quantize import Codes

SCALES = ("shared", "own")
FEW = 128  # rows, up to which launches take more time than bytes
AnyLinear = torch.nn.Linear | Int8Linear
Ranks = dist.ProcessGroup | Group | None
"""A process group, `Group` around one, or None for torch.distributed's default one."""


class RowParallelInt8Linear(torch.nn.Module):
    """This rank's columns of an `Int8Linear`: its part of x (..., K / size) -> y (..., N), the same on all ranks.

    Buffers: weight_q (N, K / size) int8, weight_scale (N,) float32, bias (N,) or None. With scales="own" the bias is that of
    rank 0 alone. The result of scales="shared" has the bits of the layer on one GPU. Each call is collective.
    """

    weight_q: torch.Tensor
    weight_scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, layer: Int8Linear, group: Group, scales: str, partial_dtype: torch.dtype | None = None):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.group, self.scales, self.partial_dtype = group, scales, partial_dtype
        self.turn, self.pieces = 0, 1
        self.register_buffer("weight_q", layer.weight_q)
        self.register_buffer("weight_scale", layer.weight_scale)
        self.register_buffer("bias", layer.bias)

    @classmethod
    def from_linear(
        cls, linear: AnyLinear, group: Ranks = None, scales: str = "shared", partial_dtype: torch.dtype | None = None,
    ) -> "RowParallelInt8Linear":
        """This rank's part of a layer that all ranks hold: a `torch.nn.Linear` or an `Int8Linear`. Collective.

        With scales="own" the partial products are added in `partial_dtype`, that of x or float32. Raises RuntimeError
        without a process group, ValueError where K is no multiple of its size, the ranks hold different weights, or
        `scales` is neither, and what `Int8Linear.from_linear` raises.
        """
        group = Group(group)
        expect_scales(scales, partial_dtype)
        expect_parts("linear", linear, group, rows=False)
        group.expect_same(weights_of(linear))
        return cls._cut(linear, group, scales, partial_dtype)

    @classmethod
    def _cut(
        cls, linear: AnyLinear, group: Group, scales: str, partial_dtype: torch.dtype | None = None,
    ) -> "RowParallelInt8Linear":
        mine = part(linear.in_features, group)
        if isinstance(linear, Int8Linear) or scales == "shared":
            whole = linear if isinstance(linear, Int8Linear) else Int8Linear.from_linear(linear)
            codes, scale, bias = whole.weight_q[:, mine].contiguous(), whole.weight_scale, whole.bias
        else:  # of the part alone
            with torch.no_grad():
                some = torch.nn.Linear(mine.stop - mine.start, linear.out_features, bias=False, device="meta")
                some.weight = torch.nn.Parameter(linear.weight[:, mine].contiguous(), requires_grad=False)
            made = Int8Linear.from_linear(some)
            codes, scale, bias = made.weight_q, made.weight_scale, linear.bias
        layer = Int8Linear(mine.stop - mine.start, linear.out_features, bias=False, device="meta")
        layer.weight_q, layer.weight_scale = codes, scale
        layer.bias = None if bias is None or scales == "own" and group.rank > 0 else bias.detach().clone()
        return cls(layer, group, scales, partial_dtype).train(linear.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] != self.in_features:
            raise ValueError(f"x must be (..., {self.in_features}), this rank's part of the columns, got {tuple(x.shape)}")
        rows = x.detach().reshape(-1, self.in_features)
        return without_derivative(self._run(rows, None, None).reshape(*x.shape[:-1], self.out_features), x)

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """residual + forward(x): x (M, K / size), residual (M, N), which comes out (M, N) anew."""
        return without_derivative(self._run(x.detach(), None, residual.detach(), self.group.peers), x)

    def add_mlp_to(self, residual: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """residual + forward(silu(gate) · up), which is not rounded before it is quantized."""
        return without_derivative(self._run(gate.detach(), up.detach(), residual.detach(), self.group.peers), gate)

    def add_to_and_norm(
        self, residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float,
    ) -> tuple[torch.Tensor, Codes]:
        """`add_to`, and the codes and scales of its rows' RMSNorm (`kernels.fused`), for few rows in one launch."""
        M, N = residual.shape
        peers = self.group.peers
        if (peers is None or self.scales == "shared" or M > FEW or torch.compiler.is_compiling()
                or M * N * x.element_size() > peers.size_bytes):
            rows = self.add_to(residual, x)
            return rows, _rmsnorm()(rows, weight, eps)
        mine = peers.room(self.turn, (M, N), x.dtype)
        quantize_and_multiply_into(mine, x.detach(), self.weight_q, self.weight_scale, self.bias)
        rows, codes = finish_rmsnorm(peers.meet(self.turn, (M, N), x.dtype), residual.detach(), weight, eps)
        return without_derivative(rows, x), codes

    def forward_mlp(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """forward(silu(gate) · up) of rows (M, K / size): silu(gate) · up is not rounded before it is quantized."""
        return without_derivative(self._run(gate.detach(), up.detach(), None), gate)

    def extra_repr(self) -> str:
        return (f"in_features={self.in_features} of each of {self.group.size} ranks, out_features={self.out_features}, "
                f"scales={self.scales!r}, bias={self.bias is not None}")

    _apply = Int8Linear._apply

    def _run(
        self, x: torch.Tensor, up: torch.Tensor | None, residual: torch.Tensor | None, peers: PeerMemory | None = None,
    ) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return self._compiled(x, up, residual)
        M, N, dtype = x.shape[0], self.out_features, x.dtype
        exact = self.scales == "shared"
        if peers is not None and M * N * (4 if exact else x.element_size()) > peers.size_bytes:
            peers = None
        if peers is not None and not exact and up is None:
            mine = peers.room(self.turn, (M, N), dtype)
            quantize_and_multiply_into(mine, x, self.weight_q, self.weight_scale, self.bias)
            return finish(peers.meet(self.turn, (M, N), dtype), None, None, residual, dtype)
        x_q, x_scale = self._codes(x, up, peers)
        if exact:
            sums = self._sums(x_q, peers)
            return finish(sums, (x_scale, self.weight_scale), self.bias, residual, dtype)
        if self.partial_dtype == torch.float32:
            sums = [sums_into(x.new_empty((M, N), dtype=torch.int32), x_q, self.weight_q)]
            wide = finish(sums, (x_scale, self.weight_scale), self.bias, None, torch.float32)
            return finish([self.group.all_reduce(wide, what="partial products")], None, None, residual, dtype)
        if peers is not None:
            mine = peers.room(self.turn, (M, N), dtype)
            multiply_into(mine, x_q, x_scale, self.weight_q, self.weight_scale, self.bias)
            return finish(peers.meet(self.turn, (M, N), dtype), None, None, residual, dtype)
        return self._add_partial_products(x_q, x_scale, residual, x.new_empty((M, N)))

    def _codes(self, x: torch.Tensor, up: torch.Tensor | None, peers: PeerMemory | None) -> Codes:
        if self.scales == "own":
            return quantize_rows(x) if up is None else silu_mul_quantize_int8(x, up)
        shape = x.shape[:1]
        if peers is None:
            return quantize_with_amax(x, up, [self.group.all_reduce(part_amax(x, up), "max", "largest magnitudes")])
        part_amax(x, up, peers.room(0, shape, torch.float32))
        return quantize_with_amax(x, up, peers.meet(0, shape, torch.float32))

    def _sums(self, x_q: torch.Tensor, peers: PeerMemory | None) -> list[torch.Tensor]:
        shape = x_q.shape[0], self.out_features
        if peers is not None:
            sums_into(peers.room(1, shape, torch.int32), x_q, self.weight_q)
            return peers.meet(1, shape, torch.int32)
        sums = sums_into(x_q.new_empty(shape, dtype=torch.int32), x_q, self.weight_q)
        return [self.group.all_reduce(sums, what="partial sums")]

    def _add_partial_products(
        self, x_q: torch.Tensor, x_scale: torch.Tensor, residual: torch.Tensor | None, y: torch.Tensor,
    ) -> torch.Tensor:
        """In FP16 or BF16, in `pieces`: while one is exchanged the next is multiplied."""
        tensors = self.weight_q, self.weight_scale, self.bias
        waits = []
        if self.pieces == 1:
            multiply_into(y, x_q, x_scale, *tensors)
            self.group.all_reduce(y, what="partial products")
        else:
            for part_y, part_q, part_scale in zip(*(t.chunk(self.pieces) for t in (y, x_q, x_scale)), strict=True):
                waits.append(self.group.start_sum(multiply_into(part_y, part_q, part_scale, *tensors)))
        for wait in waits:
            wait()
        return y if residual is None else finish([y], None, None, residual, y.dtype)

    def _compiled(self, x: torch.Tensor, up: torch.Tensor | None, residual: torch.Tensor | None) -> torch.Tensor:
        """The same in operators that torch.compile knows."""
        if self.scales == "own":
            codes = quantize_int8_perrow_op(x) if up is None else silu_mul_quantize_int8_op(x, up)
            y = perrow_w8a8_matmul_op(*codes, self.weight_q, self.weight_scale, self.bias, x.dtype)
            if self.partial_dtype == torch.float32:
                y = self._scaled(int_sums_op(codes[0], self.weight_q), codes[1])
            y = self.group.all_reduce(y).to(x.dtype)
        else:
            amax = self.group.all_reduce(part_amax_op(x, up), "max")
            x_q, x_scale = quantize_with_amax_op(x, up, amax)
            y = self._scaled(self.group.all_reduce(int_sums_op(x_q, self.weight_q)), x_scale).to(x.dtype)
        return y if residual is None else residual + y

    def _scaled(self, sums: torch.Tensor, x_scale: torch.Tensor) -> torch.Tensor:
        y = sums.float() * x_scale[:, None] * self.weight_scale
        return y if self.bias is None else y + self.bias.float()


class RowParallelLinear(torch.nn.Module):
    """The row-parallel layer of floating-point weights, to compare with: x (..., K / size) -> y (..., N)."""

    def __init__(self, linear: torch.nn.Linear, group: Group):
        super().__init__()
        self.group, self.turn = group, 0
        self.in_features, self.out_features = linear.in_features // group.size, linear.out_features
        mine = linear.weight.detach()[:, part(linear.in_features, group)].clone()
        self.weight = torch.nn.Parameter(mine, requires_grad=False)
        bias = None if linear.bias is None else linear.bias.detach().clone()
        self.bias = bias if bias is None else torch.nn.Parameter(bias, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        peers = self.group.peers
        if peers is not None and x.numel() // self.in_features * self.out_features * x.element_size() <= peers.size_bytes:
            return self._by_peers(x, peers)
        y = self.group.all_reduce(torch.nn.functional.linear(x, self.weight), what="partial products")
        return y if self.bias is None else y + self.bias

    @torch.compiler.disable  # what other ranks write is nothing that a compiler may move
    def _by_peers(self, x: torch.Tensor, peers: PeerMemory) -> torch.Tensor:
        rows = x.flatten(0, -2)
        shape = len(rows), self.out_features
        torch.mm(rows, self.weight.T, out=peers.room(self.turn, shape, x.dtype))
        parts = peers.meet(self.turn, shape, x.dtype)
        return finish(parts, None, self.bias, None, x.dtype).view(*x.shape[:-1], self.out_features)


def _rmsnorm() -> Callable[..., Codes]:
    return rmsnorm_quantize_int8_op if torch.compiler.is_compiling() else rmsnorm_quantize_int8


def part(size: int, group: Group) -> slice:
    """This rank's part of so many rows or columns, a multiple of the group's size."""
    each = size // group.size
    return slice(group.rank * each, (group.rank + 1) * each)


def expect_scales(scales: str, partial_dtype: torch.dtype | None = None) -> None:
    """Raises ValueError unless they are as `RowParallelInt8Linear` takes them."""
    if scales not in SCALES:
        raise ValueError(f"scales must be one of {SCALES}, got {scales!r}")
    if partial_dtype not in (None, torch.float32):
        raise ValueError(f"partial_dtype must be None, for that of x, or torch.float32, got {partial_dtype}")
    if scales == "shared" and partial_dtype is not None:
        raise ValueError('partial_dtype is for scales="own": with "shared" the partial sums are INT32')


def expect_parts(name: str, linear: AnyLinear, group: Group, rows: bool) -> None:
    """Raises TypeError or ValueError, which name it, where a layer cannot be cut by rows of its weight, or by columns."""
    if not isinstance(linear, Int8Linear):
        if type(linear) is not torch.nn.Linear:
            raise TypeError(f"{name} must be a torch.nn.Linear or an Int8Linear, got {type(linear).__name__}")
        expect_linear(name, linear)
    if type(linear) not in (torch.nn.Linear, Int8Linear):
        raise ValueError(f"{name} is cut already")
    features = linear.out_features if rows else linear.in_features
    if features % group.size:
        raise ValueError(f"{name}.{'out' if rows else 'in'}_features must be a multiple of the {group.size} ranks, "
                         f"got {features}")


def weights_of(layer: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(layer.named_parameters()) | dict(layer.named_buffers())
