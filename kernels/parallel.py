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

from kernels.exchange import Group, PeerMemory
from kernels.linear import Int8Linear
from kernels.row_parallel import (
    AnyLinear,
    Ranks,
    RowParallelInt8Linear,
    RowParallelLinear,
    expect_parts,
    expect_scales,
    part,
    weights_of,
)
from kernels.transformer import Attention, Block, FusedInt8Block, Mlp

__all__ = ["ColumnParallelInt8Linear", "RowParallelInt8Linear", "RowParallelLinear", "parallelize_"]


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
        group.expect_same(weights_of(linear))
        return cls._cut(linear, group)

    @classmethod
    def _cut(cls, linear: AnyLinear, group: Group) -> "ColumnParallelInt8Linear":
        whole = linear if isinstance(linear, Int8Linear) else Int8Linear.from_linear(linear)
        mine = part(whole.out_features, group)
        layer = cls(whole.in_features, mine.stop - mine.start, bias=False, device="meta")
        layer.weight_q, layer.weight_scale = whole.weight_q[mine].clone(), whole.weight_scale[mine].clone()
        layer.bias = None if whole.bias is None else whole.bias[mine].clone()
        return layer.train(whole.training)


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
    group.expect_same(weights_of(model))
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
