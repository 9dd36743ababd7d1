"""INT8 layers whose weights lie on several GPUs: tensor parallelism over a `torch.distributed` process group.

    ColumnParallelInt8Linear   each rank has rows of w (N, K), so columns of y. Nothing is exchanged, no code changes.
    RowParallelInt8Linear      each rank has columns of w, so a part of K: of every row of x, and of every sum.
    parallelize_               cuts the library's transformer: attention by heads, the MLP column then row.

A row's scale spans all of K, and so does its sum. There are two ways to cut it, by `scales`:

    "shared"   the ranks agree on each row's largest magnitude, M floats. Then the codes are those of one GPU, and the INT32
               partial sums add up exactly: the same bits as one GPU.
    "own"      each part has scales of its own, of x and of w: one exchange less, other codes. Partial products are added in
               FP16, or in FP32.

After M. Shoeybi et al., "Megatron-LM: training multi-billion parameter language models using model parallelism",
arXiv:1909.08053, 2019.
"""

import dataclasses

import torch
import torch.distributed as dist

from kernels.exchange import Group, PeerMemory
from kernels.fused import silu_mul_quantize_int8
from kernels.linear import Int8Linear, expect_linear
from kernels.operators import (
    perrow_w8a8_matmul_op,
    quantize_int8_perrow_op,
    quantize_rows,
    silu_mul_quantize_int8_op,
    without_derivative,
)
from kernels.parts import (
    finish,
    int_sums_op,
    multiply_into,
    part_amax,
    part_amax_op,
    quantize_with_amax,
    quantize_with_amax_op,
    sums_into,
)
from kernels.quantize import Codes
from kernels.transformer import Attention, Block, FusedInt8Block, Mlp

SCALES = ("shared", "own")
AnyLinear = torch.nn.Linear | Int8Linear
Ranks = dist.ProcessGroup | Group | None
"""A process group, `Group` around one, or None for torch.distributed's default one."""


class ColumnParallelInt8Linear(Int8Linear):
    """This rank's rows of an `Int8Linear`: x (..., K), the same on all ranks -> its N / size columns of y.

    For one rank it is the whole layer.
    """

    @classmethod
    def from_linear(cls, linear: AnyLinear, group: Ranks = None) -> "ColumnParallelInt8Linear":
        """This rank's part of a layer that all ranks hold: a `torch.nn.Linear` or an `Int8Linear`. Collective.

        Raises RuntimeError without a process group, ValueError where N is no multiple of its size or the ranks hold
        different weights, and what `Int8Linear.from_linear` raises.
        """
        group = Group(group)
        expect_parts("linear", linear, group, rows=True)
        group.expect_same(_weights(linear))
        return cls._cut(linear, group)

    @classmethod
    def _cut(cls, linear: AnyLinear, group: Group) -> "ColumnParallelInt8Linear":
        whole = linear if isinstance(linear, Int8Linear) else Int8Linear.from_linear(linear)
        mine = part(whole.out_features, group)
        layer = cls(whole.in_features, mine.stop - mine.start, bias=False, device="meta")
        layer.weight_q, layer.weight_scale = whole.weight_q[mine].clone(), whole.weight_scale[mine].clone()
        layer.bias = None if whole.bias is None else whole.bias[mine].clone()
        return layer.train(whole.training)


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
        group.expect_same(_weights(linear))
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
            amax = self.group.all_reduce(part_amax(x, up), "max", "largest magnitudes")
        else:
            part_amax(x, up, peers.room(0, shape, torch.float32))
            first, *others = peers.meet(0, shape, torch.float32)
            for other in others:
                first = torch.maximum(first, other)
            amax = first
        return quantize_with_amax(x, up, amax)

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
    if isinstance(linear, ColumnParallelInt8Linear):
        raise ValueError(f"{name} is cut already")
    features = linear.out_features if rows else linear.in_features
    if features % group.size:
        raise ValueError(f"{name}.{'out' if rows else 'in'}_features must be a multiple of the {group.size} ranks, "
                         f"got {features}")


def _weights(layer: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(layer.named_parameters()) | dict(layer.named_buffers())


def parallelize_(
    model: torch.nn.Module, group: Ranks = None, scales: str = "shared", peer_bytes: int = 0, pieces: int = 1,
) -> torch.nn.Module:
    """Cuts each `Block` and `FusedInt8Block` in model over the ranks, in place, and returns model. Collective.

    Attention is cut by heads, the MLP by the columns of its hidden layer, with one all-reduce of the output each. Linear
    layers stay in FP16 or BF16, `Int8Linear` layers in INT8: quantize before you cut. All else stays whole on every rank.
    `scales` is for INT8 layers.

    `peer_bytes` above 0 lets fused blocks, and blocks in FP16, exchange tensors of at most so many bytes through
    `PeerMemory`. `pieces` above 1 cuts the rows of a fused block's "own" partial products, so that each piece is exchanged
    while the next is multiplied.

    A group of one changes nothing.

    Raises RuntimeError without a process group, ValueError where heads or sizes are no multiples of the group's size, where
    ranks hold different weights, or where model has no block that is whole: then nothing is cut.
    """
    group = Group(group)
    expect_scales(scales)
    blocks = [module for module in model.modules() if isinstance(module, Block | FusedInt8Block)]
    if not blocks:
        raise ValueError("model must hold blocks of kernels.transformer, Block or FusedInt8Block, and it has none")
    for block in blocks:
        _expect_whole(block, group)
    if group.size == 1:
        return model
    group.expect_same(_weights(model))
    if peer_bytes:
        group.peers = PeerMemory(group, peer_bytes)
    for block in blocks:
        if isinstance(block, FusedInt8Block):
            _cut_fused(block, group, scales, pieces)
        else:
            _cut_block(block, group, scales)
    return model


def _expect_whole(block: Block | FusedInt8Block, group: Group) -> None:
    o = block.o if isinstance(block, FusedInt8Block) else block.attention.o
    if isinstance(o, RowParallelInt8Linear | RowParallelLinear):
        raise ValueError("model is cut already")
    config = block.config if isinstance(block, FusedInt8Block) else block.attention.config
    for name in ("heads", "kv_heads", "hidden"):
        if getattr(config, name) % group.size:
            raise ValueError(f"the model's {name} must be a multiple of the {group.size} ranks, got {getattr(config, name)}")


def _local(block: Attention | FusedInt8Block, size: int) -> None:
    """Its configuration is that of this rank's heads; so wide are its queries, and the block's rows stay as they are."""
    config = block.config
    block.config = dataclasses.replace(config, dim=config.dim // size, heads=config.heads // size,
                                       kv_heads=config.kv_heads // size, hidden=config.hidden // size)


def _cut_block(block: Block, group: Group, scales: str) -> None:
    attention, mlp = block.attention, block.mlp
    _local(attention, group.size)
    parents: tuple[Attention | Mlp, ...] = attention, attention, attention, mlp, mlp
    for parent, name in zip(parents, ("q", "k", "v", "gate", "up"), strict=True):
        setattr(parent, name, _columns(getattr(parent, name), group))
    ends: tuple[tuple[Attention | Mlp, str], ...] = (attention, "o"), (mlp, "down")
    for turn, (parent, name) in enumerate(ends):
        rows = _rows(getattr(parent, name), group, scales)
        rows.turn = turn
        setattr(parent, name, rows)


def _columns(linear: AnyLinear, group: Group) -> AnyLinear:
    if isinstance(linear, Int8Linear):
        return ColumnParallelInt8Linear._cut(linear, group)
    mine = part(linear.out_features, group)
    cut = torch.nn.Linear(linear.in_features, mine.stop - mine.start, bias=linear.bias is not None, device="meta")
    cut.weight = torch.nn.Parameter(linear.weight.detach()[mine].clone(), requires_grad=False)
    if linear.bias is not None:
        cut.bias = torch.nn.Parameter(linear.bias.detach()[mine].clone(), requires_grad=False)
    return cut


def _rows(linear: AnyLinear, group: Group, scales: str) -> RowParallelInt8Linear | RowParallelLinear:
    if isinstance(linear, Int8Linear):
        return RowParallelInt8Linear._cut(linear, group, scales)
    return RowParallelLinear(linear, group)


def _cut_fused(block: FusedInt8Block, group: Group, scales: str, pieces: int) -> None:
    config, size = block.config, group.size
    kv_dim = config.kv_heads * config.head_dim
    block.qkv = _cut_stack(block.qkv, (config.dim, kv_dim, kv_dim), group)
    block.gate_up = _cut_stack(block.gate_up, (config.hidden, config.hidden), group)
    for turn, name in enumerate(("o", "down")):
        cut = RowParallelInt8Linear._cut(getattr(block, name), group, scales)
        cut.turn, cut.pieces = turn, pieces
        setattr(block, name, cut)
    _local(block, size)
    block.parts = size


def _cut_stack(layer: Int8Linear, sizes: tuple[int, ...], group: Group) -> Int8Linear:
    """This rank's part of each of the layers, of so many rows, that are one."""
    cut = Int8Linear(layer.in_features, sum(sizes) // group.size, bias=False, device="meta")
    for name in ("weight_q", "weight_scale"):
        setattr(cut, name, torch.cat([rows[part(len(rows), group)] for rows in getattr(layer, name).split(sizes)]))
    return cut
