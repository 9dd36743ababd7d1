"""Attention of one new token of each of M sequences to K tokens in a cache, with Llama 3 8B's heads.

Without a GPU it has a quarter of them: each is a program or more, which the interpreter runs one after the other.
"""

from typing import Any

import torch

from checks.bench.baselines import baseline
from checks.bench.operands import MAKERS, Operands, Wrong, operand_names
from kernels import kv_cache
from kernels.quantize import quantize_int8_perrow_torch
from kernels.runtime import INTERPRETED, device

HEADS, KV_HEADS, D = (8, 2, 128) if INTERPRETED else (32, 8, 128)
ERROR = 2.0**-8
"""Relative error (Frobenius norm) of attention in FP16: probabilities and y are rounded to 11 bits or cut off there."""


def _codes(name: str) -> Any:
    def make(o: Operands) -> dict:
        """Sequence by sequence: the quotients in FP32 take four times the cache."""
        each = [quantize_int8_perrow_torch(sequence.reshape(-1, D)) for sequence in o[name]]
        q, scale = (torch.stack(parts) for parts in zip(*each, strict=True))
        return {f"{name}_q": q.view(o.M, KV_HEADS, o.K, D), f"{name}_scale": scale.view(o.M, KV_HEADS, o.K)}
    return make


MAKERS.update({
    "query": lambda o: {"query": o.normal(o.M, HEADS, D)},
    "keys": lambda o: {"keys": o.normal(o.M, KV_HEADS, o.K, D)},
    "values": lambda o: {"values": o.normal(o.M, KV_HEADS, o.K, D)},
    "keys_q": _codes("keys"), "keys_scale": _codes("keys"), "values_q": _codes("values"), "values_scale": _codes("values"),
    "lengths": lambda o: {"lengths": torch.full((o.M,), o.K, dtype=torch.int32, device=device())},
})


@baseline("SDPA FP16")
def sdpa(query, keys, values):
    y = torch.nn.functional.scaled_dot_product_attention(query[:, :, None], keys, values, enable_gqa=True)
    return y[:, :, 0]


@baseline("decode_attention FP16")
def fp16(query, keys, values, lengths):
    return kv_cache.decode_attention(query, keys, values, lengths)


@baseline("decode_attention_int8")
def int8(query, keys_q, keys_scale, values_q, values_scale, lengths):
    return kv_cache.decode_attention_int8(query, keys_q, keys_scale, values_q, values_scale, lengths)


ATTENTION = ["SDPA FP16", "decode_attention FP16", "decode_attention_int8"]


def expect_attention(name: str, function: Any, y: Any, o: Operands) -> None:
    """Raises Wrong unless y is attention to the cache that `function` was given, FP16 or codes, in the last sequence."""
    if not isinstance(y, torch.Tensor) or tuple(y.shape) != (o.M, HEADS, D):
        raise Wrong(f"{name} must give a tensor of shape {(o.M, HEADS, D)}")
    codes = "keys_q" in operand_names(function)
    kind = f"exact attention to {'codes' if codes else 'FP16'}"
    if kind not in o.made:
        k, v = (o[f"{side}_q"][-1].double() * o[f"{side}_scale"][-1].double()[..., None] if codes else o[side][-1].double()
                for side in ("keys", "values"))
        query = o["query"][-1]
        if codes:  # which the kernel makes of it, too
            q, scale = quantize_int8_perrow_torch(query)
            query = q * scale[:, None]
        query = query.double().view(KV_HEADS, -1, D)
        o.made[kind] = ((query @ k.mT * D**-0.5).softmax(dim=-1) @ v).view(HEADS, D)
    exact = o.made[kind]
    error = ((y[-1].double() - exact).norm() / exact.norm()).item()
    if not error <= ERROR:
        raise Wrong(f"{name} is wrong for {o.M} sequences of {o.K}: its relative error is {error:.2g}, expected below "
                    f"{ERROR:.2g}")
