"""A transformer in the shape of Llama 3: what the workshop's products are for.

Every matrix product of it is a plain `torch.nn.Linear` without bias, so that `quantize_linears_` finds them all:
in each block seven, `attention.q`, `.k`, `.v`, `.o` and `mlp.gate`, `.up`, `.down`, and behind the last one `lm_head`.

    x = x + attention(norm(x))        rotary positions, groups of query heads that share a head of keys and values
    x = x + down(silu(gate(norm(x))) * up(norm(x)))

after H. Touvron et al., "LLaMA: open and efficient foundation language models", arXiv:2302.13971, 2023.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from kernels.fused import rmsnorm_quantize_int8, silu_mul_quantize_int8
from kernels.linear import Int8Linear
from kernels.operators import (
    multiply_codes,
    perrow_w8a8_matmul_op,
    rmsnorm_quantize_int8_op,
    silu_mul_quantize_int8_op,
    without_derivative,
)
from kernels.rotary import rotate_qkv


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
        for kept, new in zip(last_place(past, T), (k, v), strict=True):
            kept.copy_(new)
        k, v = past
    return mixed(q, k, v, is_causal=past is None)


def last_place(past: Past, T: int) -> Past:
    """The place of the last token in `past`. Raises ValueError unless T is 1."""
    if T != 1:
        raise ValueError(f"with past, x must hold one token of each sequence, got {T}")
    keys, values = past
    last = keys.shape[2] - 1
    return keys.narrow(2, last, 1), values.narrow(2, last, 1)


def mixed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_causal: bool) -> torch.Tensor:
    """Values mixed as queries and keys say: (B, heads, T, d), twice (B, kv_heads, length, d) -> (B, T, heads · d)."""
    y = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal, enable_gqa=True)
    return y.transpose(1, 2).flatten(2)


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


OPERATORS: tuple[Callable[..., Any], ...] = rmsnorm_quantize_int8_op, silu_mul_quantize_int8_op, perrow_w8a8_matmul_op
"""What `FusedInt8Block` calls where it is compiled."""

FUNCTIONS: tuple[Callable[..., Any], ...] = rmsnorm_quantize_int8, silu_mul_quantize_int8, multiply_codes
"""The same without torch's dispatch, which costs the host 3 to 4 µs a call."""


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
        self.o: Any = Int8Linear.from_linear(attention.o)
        self.gate_up = stack(mlp.gate, mlp.up)
        self.down: Any = Int8Linear.from_linear(mlp.down)
        self.parts = 1  # ranks that it is cut over: then `o` and `down` are row-parallel layers of `kernels.parallel`

    def forward(self, x: torch.Tensor, turn: torch.Tensor, past: Past | None = None) -> torch.Tensor:
        rmsnorm, silu_mul, multiply = OPERATORS if torch.compiler.is_compiling() else FUNCTIONS
        B, T, dim = x.shape
        rows = x.flatten(0, 1)  # (B · T, dim)
        codes = rmsnorm(rows, self.attention_norm.weight, self.attention_norm.eps)
        qkv = without_derivative(multiply(*codes, self.qkv.weight_q, self.qkv.weight_scale), x)
        heads = self._attend(qkv, B, T, turn, past).flatten(0, 1)
        if self.parts > 1:
            rows, codes = self.o.add_to_and_norm(rows, heads, self.mlp_norm.weight, self.mlp_norm.eps)
        else:
            rows = rows + self.o(heads)
            codes = rmsnorm(rows, self.mlp_norm.weight, self.mlp_norm.eps)
        gate, up = multiply(*codes, self.gate_up.weight_q, self.gate_up.weight_scale).chunk(2, dim=-1)
        if self.parts > 1:
            return self.down.add_mlp_to(rows, gate, up).view(B, T, dim)
        down = multiply(*silu_mul(gate, up), self.down.weight_q, self.down.weight_scale)
        return (rows + without_derivative(down, rows)).view(B, T, dim)

    def _attend(self, qkv: torch.Tensor, B: int, T: int, turn: torch.Tensor, past: Past | None) -> torch.Tensor:
        """`attend` with its three inputs in one, qkv (B · T, dim + 2 · kv_heads · head_dim)."""
        config = self.config
        if torch.compiler.is_compiling():  # a compiler fuses these steps itself
            kv_dim = config.kv_heads * config.head_dim
            q, k, v = qkv.view(B, T, -1).split((config.dim, kv_dim, kv_dim), dim=-1)
            return attend(config, q, k, v, turn, past)
        if past is not None:
            q = rotate_qkv(qkv, turn, *last_place(past, T))
            return mixed(q, *past, is_causal=False)
        k, v = qkv.new_empty((2, B, config.kv_heads, T, config.head_dim))
        return mixed(rotate_qkv(qkv, turn, k, v), k, v, is_causal=True)


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
