"""A transformer in the shape of Llama 3: what the workshop's products are for.

Every matrix product of it is a plain `torch.nn.Linear` without bias, so that `quantize_linears_` finds them all:
in each block seven, `attention.q`, `.k`, `.v`, `.o` and `mlp.gate`, `.up`, `.down`, and behind the last one `lm_head`.

    x = x + attention(norm(x))        rotary positions, groups of query heads that share a head of keys and values
    x = x + down(silu(gate(norm(x))) * up(norm(x)))

after H. Touvron et al., "LLaMA: open and efficient foundation language models", arXiv:2302.13971, 2023.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from kernels.linear import (
    Int8Linear,
    perrow_w8a8_matmul_op,
    rmsnorm_quantize_int8_op,
    silu_mul_quantize_int8_op,
    without_derivative,
)


@dataclass(frozen=True)
class Config:
    """The sizes of a model. `dim` is the width of a token's row, `hidden` that of the MLP's middle."""

    vocabulary: int
    layers: int
    dim: int
    heads: int
    kv_heads: int
    hidden: int
    rope_base: float = 10_000.0

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


LLAMA_3_8B = Config(vocabulary=128_256, layers=32, dim=4096, heads=32, kv_heads=8, hidden=14_336, rope_base=500_000.0)
"""From its model card's config.json (meta-llama/Meta-Llama-3-8B)."""


def rotation(config: Config, position: torch.Tensor) -> torch.Tensor:
    """The cosines and sines that turn the pairs of a head's numbers by their position: (2, T, head_dim / 2) float32.

    position (T,) integers. Pair i turns by position · base^(-2i / head_dim) (J. Su et al., "RoFormer", arXiv:2104.09864).
    """
    pairs = torch.arange(0, config.head_dim, 2, device=position.device, dtype=torch.float32)
    angles = position[:, None].float() * config.rope_base ** (-pairs / config.head_dim)
    return torch.stack((angles.cos(), angles.sin()))


def rotate(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """x (B, heads, T, head_dim) with the pairs (x[i], x[i + head_dim / 2]) turned; `turn` is of `rotation`."""
    cos, sin = turn
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


class Attention(torch.nn.Module):
    """Causal attention with `kv_heads` heads of keys and values for `heads` heads of queries."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        kv_dim = config.kv_heads * config.head_dim
        self.q = torch.nn.Linear(config.dim, config.dim, bias=False)
        self.k = torch.nn.Linear(config.dim, kv_dim, bias=False)
        self.v = torch.nn.Linear(config.dim, kv_dim, bias=False)
        self.o = torch.nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: torch.Tensor, turn: torch.Tensor, past: "Past | None" = None) -> torch.Tensor:
        return self.o(attend(self.config, self.q(x), self.k(x), self.v(x), turn, past))


Past = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of a block's tokens up to this one, both (B, kv_heads, length, head_dim); this one's place is the last."""


def attend(
    config: Config, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, turn: torch.Tensor, past: Past | None = None,
) -> torch.Tensor:
    """Attention without its four products: q (B, T, dim), k and v (B, T, kv_heads · head_dim) -> (B, T, dim).

    With `past` (decode, T = 1) the token's key and value are put into its last place, and it attends to all of it.
    """
    B, T, dim = q.shape
    q, k, v = (rows.unflatten(-1, (-1, config.head_dim)).transpose(1, 2) for rows in (q, k, v))
    q, k = rotate(q, turn), rotate(k, turn)
    if past is not None:
        if T != 1:
            raise ValueError(f"with past, x must hold one token of each sequence, got {T}")
        for kept, new in zip(past, (k, v), strict=True):
            kept[:, :, -1:] = new
        k, v = past
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=past is None, enable_gqa=True)
    return mixed.transpose(1, 2).reshape(B, T, dim)


class Mlp(torch.nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.gate = torch.nn.Linear(config.dim, config.hidden, bias=False)
        self.up = torch.nn.Linear(config.dim, config.hidden, bias=False)
        self.down = torch.nn.Linear(config.hidden, config.dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(torch.nn.Module):
    """One layer of the model: x (B, T, dim) -> (B, T, dim)."""

    def __init__(self, config: Config):
        super().__init__()
        self.attention_norm = torch.nn.RMSNorm(config.dim, eps=1e-5)
        self.attention = Attention(config)
        self.mlp_norm = torch.nn.RMSNorm(config.dim, eps=1e-5)
        self.mlp = Mlp(config)

    def forward(self, x: torch.Tensor, turn: torch.Tensor, past: Past | None = None) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x), turn, past)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(torch.nn.Module):
    """tokens (B, T) int64 -> logits (B, T, vocabulary): logits[:, t] is about token t + 1."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embedding = torch.nn.Embedding(config.vocabulary, config.dim)
        self.blocks = torch.nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = torch.nn.RMSNorm(config.dim, eps=1e-5)
        self.lm_head = torch.nn.Linear(config.dim, config.vocabulary, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        turn = rotation(self.config, torch.arange(tokens.shape[1], device=tokens.device))
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, turn)
        return self.lm_head(self.norm(x))


class FusedInt8Block(torch.nn.Module):
    """A `Block` in INT8 with fewer passes over memory, for inference.

    The products that share an input are one: their rows are stacked, and each row keeps its scale, so no code changes. The
    norms and silu · mul write codes, and nothing is rounded to FP16 before.
    """

    def __init__(self, block: Block):
        super().__init__()
        attention, mlp = block.attention, block.mlp
        self.config = attention.config
        self.attention_norm, self.mlp_norm = block.attention_norm, block.mlp_norm
        self.qkv = stack(attention.q, attention.k, attention.v)
        self.o = Int8Linear.from_linear(attention.o)
        self.gate_up = stack(mlp.gate, mlp.up)
        self.down = Int8Linear.from_linear(mlp.down)

    def forward(self, x: torch.Tensor, turn: torch.Tensor, past: Past | None = None) -> torch.Tensor:
        config, dim = self.config, x.shape[-1]
        kv_dim = config.kv_heads * config.head_dim
        q, k, v = self._behind_norm(x, self.attention_norm, self.qkv).split((dim, kv_dim, kv_dim), dim=-1)
        x = x + self.o(attend(config, q, k, v, turn, past))
        gate, up = self._behind_norm(x, self.mlp_norm, self.gate_up).chunk(2, dim=-1)
        codes = silu_mul_quantize_int8_op(gate.flatten(0, 1), up.flatten(0, 1))
        down = perrow_w8a8_matmul_op(*codes, self.down.weight_q, self.down.weight_scale).reshape(x.shape)
        return x + without_derivative(down, gate)

    def _behind_norm(self, x: torch.Tensor, norm: torch.nn.RMSNorm, layer: Int8Linear) -> torch.Tensor:
        codes = rmsnorm_quantize_int8_op(x.flatten(0, 1), norm.weight, norm.eps)
        y = perrow_w8a8_matmul_op(*codes, layer.weight_q, layer.weight_scale).reshape(*x.shape[:-1], layer.out_features)
        return without_derivative(y, x)


def stack(*linears: torch.nn.Linear) -> Int8Linear:
    """One INT8 layer that gives the outputs of several, side by side. They have the same in_features, and no bias."""
    layers = [Int8Linear.from_linear(linear) for linear in linears]
    one = Int8Linear(layers[0].in_features, sum(layer.out_features for layer in layers), bias=False, device="meta")
    one.weight_q = torch.cat([layer.weight_q for layer in layers])
    one.weight_scale = torch.cat([layer.weight_scale for layer in layers])
    return one


def perplexity(logits: torch.Tensor, tokens: torch.Tensor) -> float:
    """exp of the mean of -log p(tokens[b, t + 1]) over all b and t, with p = softmax(logits[b, t]).

    logits (B, T, V) of any floating-point dtype, tokens (B, T) int64; computed in FP32.
    logits[b, t] are about tokens[b, t + 1]: a row's last ones have nothing to be compared with.
    """
    log_p = torch.log_softmax(logits[:, :-1].float(), dim=-1)  # (B, T - 1, V)
    log_p = log_p.gather(-1, tokens[:, 1:, None])  # (B, T - 1, 1)
    return math.exp(-log_p.mean())


def layers_to_skip(cost: torch.Tensor, weights: torch.Tensor, budget: float) -> torch.Tensor:
    """Which layers to leave out of a quantization: (L,) bool, chosen greedily.

    cost (L,) float64: what quantizing this layer alone costs; weights (L,) int64: how many it has.
    Layers with the largest cost per weight come first. A layer is taken if it costs anything and
    the weights taken so far, its own included, are at most `budget` (0 to 1) of all weights;
    otherwise the next one is tried.
    """
    skip = torch.zeros_like(weights, dtype=torch.bool)
    for layer in (cost / weights).argsort(descending=True):
        fits = weights[skip].sum() + weights[layer] <= budget * weights.sum()
        skip[layer] = fits & (cost[layer] > 0)
    return skip


def pareto_front(us: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
    """Which points are worth a look: (n,) bool, False for each that another point dominates.

    us (n,) and loss (n,) float64, the less the better. A point dominates another if it is at most
    as large in both and smaller in at least one.
    """
    no_worse = (us[None, :] <= us[:, None]) & (loss[None, :] <= loss[:, None])  # (n, n): column by row
    better = (us[None, :] < us[:, None]) | (loss[None, :] < loss[:, None])
    return ~(no_worse & better).any(dim=1)
