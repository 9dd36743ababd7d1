"""Decode attention over FP16 and INT8 caches, beside torch's scaled_dot_product_attention."""

import pytest
import torch
import torch.nn.functional as F
from triton.runtime.interpreter import InterpretedFunction

from kernels import kv_cache
from kernels.kv_cache import (
    append_int8,
    attention_parts_int8,
    decode_attention,
    decode_attention_int8,
    merge_parts,
    quantize_heads,
    tokens_of_a_part,
)
from kernels.quantize import quantize_int8_perrow_torch
from kernels.runtime import INTERPRETED, card, device


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half().to(device())


def int8_of(x):
    """Codes and scales of x, a scale for each row of the last dimension, by the definition."""
    q, scale = quantize_int8_perrow_torch(x.reshape(-1, x.shape[-1]))
    return q.reshape(x.shape), scale.reshape(x.shape[:-1])


def given_back(x):
    """What INT8 leaves of x, a scale for each row of the last dimension."""
    q, scale = int8_of(x)
    return q * scale[..., None]


def attention(q, k, v, lengths):
    """What torch makes of it in float64, sequence by sequence."""
    return torch.stack([
        F.scaled_dot_product_attention(*(x[b].double() for x in (q[:, :, None], k[:, :, :n], v[:, :, :n])),
                                       enable_gqa=True)[:, 0]
        for b, n in enumerate(lengths.tolist())])


def bound(y, v):
    """Scores below 8 err by 2⁻¹⁸, p is rounded to 11 bits, and so is y."""
    return (2.0**-9 * y.abs().amax() + 2.0**-12 * v.abs().amax()).item()


SHAPES = [(1, 1, 1, 16, 1), (2, 4, 2, 24, 70), (1, 8, 1, 64, 300), (3, 6, 3, 20, 33),
          (1, 40, 2, 8, 9)]  # the last: more queries a head than 16


@pytest.mark.parametrize("B, heads, kv_heads, D, S", SHAPES)
def test_attention_over_both_caches_is_that_of_torch(B, heads, kv_heads, D, S):
    q, k, v = randn(B, heads, D), randn(B, kv_heads, S, D, seed=1), randn(B, kv_heads, S, D, seed=2)
    lengths = torch.tensor([S, 1, S // 2 + 1][:B], dtype=torch.int32, device=device())
    want = attention(q, k, v, lengths)
    got = decode_attention(q, k, v, lengths)
    assert got.dtype == torch.float16 and (got - want).abs().max() < bound(want, v)
    (k_q, k_scale), (v_q, v_scale) = int8_of(k), int8_of(v)
    want = attention(given_back(q), k_q * k_scale[..., None], v_q * v_scale[..., None], lengths)
    got = decode_attention_int8(q, k_q, k_scale, v_q, v_scale, lengths)
    assert got.dtype == torch.float16 and (got - want).abs().max() < bound(want, v)


def test_parts_that_a_length_does_not_reach_count_nothing():
    B, heads, S, D = 2, 2, 300, 16
    q, k, v = randn(B, heads, D), randn(B, heads, S, D, seed=1), randn(B, heads, S, D, seed=2)
    lengths = torch.tensor([300, 5], dtype=torch.int32, device=device())
    part, lse = attention_parts_int8(q, *int8_of(k), *int8_of(v), lengths)
    assert part.shape[2] == lse.shape[2] == -(-S // tokens_of_a_part(S, B * heads, card().multiprocessors)) > 1
    assert (lse[1, :, 1:] == -torch.inf).all() and (part[1, :, 1:] == 0).all() and lse[0].isfinite().all()
    torch.testing.assert_close(merge_parts(part, lse)[1], part[1, :, 0].half())


@pytest.mark.parametrize("zero", [slice(0, 128), slice(256, None)], ids=["the first", "the last"])
def test_blocks_of_zeros_count_like_any_others(zero):
    q, k, v = randn(1, 2, 16), randn(1, 1, 300, 16, seed=1), randn(1, 1, 300, 16, seed=2)
    v[:, :, zero] = k[:, :, zero] = 0
    lengths = torch.tensor([300], dtype=torch.int32, device=device())
    want = attention(q, k, v, lengths)
    got = decode_attention_int8(q, *int8_of(k), *int8_of(v), lengths)
    torch.testing.assert_close(got.double(), want, atol=0.03, rtol=0)


def test_large_scores_do_not_overflow():
    q, k, v = 100 * randn(1, 1, 32), 100 * randn(1, 1, 90, 32, seed=1), randn(1, 1, 90, 32, seed=2)
    lengths = torch.tensor([90], dtype=torch.int32, device=device())
    want = v[:, :, (q[0, 0].float() @ k[0, 0].float().T).argmax()]
    torch.testing.assert_close(decode_attention(q, k, v, lengths), want)
    got = decode_attention_int8(q, *int8_of(k), *int8_of(v), lengths)
    torch.testing.assert_close(got, want, atol=0.03, rtol=0)


def test_a_cache_in_a_longer_one_is_read_in_place():
    q, k, v = randn(2, 4, 16), randn(2, 2, 80, 16, seed=1), randn(2, 2, 80, 16, seed=2)
    lengths = torch.tensor([40, 33], dtype=torch.int32, device=device())
    codes = [part[:, :, :40] for part in (*int8_of(k), *int8_of(v))]
    whole = decode_attention_int8(q, *(part.contiguous() for part in codes), lengths)
    assert torch.equal(decode_attention_int8(q, *codes, lengths), whole)
    assert torch.equal(decode_attention(q, k[:, :, :40], v[:, :, :40], lengths), decode_attention(q, k, v, lengths))


@pytest.mark.parametrize("T", [1, 3])
def test_new_tokens_are_quantized_into_their_place(T):
    B, heads, S, D = 2, 3, 9, 20
    wide = randn(B, T, heads * D + 8)
    x, place = wide[:, :, :heads * D], torch.tensor([0, 5], dtype=torch.int32, device=device())
    want_q, want_scale = int8_of(x.reshape(B, T, heads, D).transpose(1, 2))
    q, scale = quantize_heads(x, heads)
    assert torch.equal(q, want_q)
    torch.testing.assert_close(scale, want_scale, rtol=2.0**-22, atol=0)  # torch's division on a GPU is not exact
    for first in (1, 2, 5):
        assert all(map(torch.equal, quantize_heads(x, heads, first=first), (q, scale))), first
    kept_q = torch.full((B, heads, S, D), 77, dtype=torch.int8, device=device())
    kept_scale = torch.full((B, heads, S), 77.0, device=device())
    append_int8(x, place, kept_q, kept_scale)
    for b, first in enumerate(place.tolist()):
        assert torch.equal(kept_q[b, :, first:first + T], want_q[b])
        assert torch.equal(kept_scale[b, :, first:first + T], scale[b])
    assert (kept_q == 77).sum() >= B * heads * (S - T) * D and (kept_scale == 77).sum() == B * heads * (S - T)


@pytest.mark.filterwarnings("ignore:All-NaN", "ignore:invalid value")
def test_a_token_with_nan_is_seen_in_its_own_sequence_alone():
    q, k, v = randn(2, 1, 16), randn(2, 1, 300, 16, seed=1), randn(2, 1, 300, 16, seed=2)
    k[1, 0, 2, 3] = torch.nan  # in the first of several parts
    lengths = torch.tensor([300, 300], dtype=torch.int32, device=device())
    got = decode_attention_int8(q, *int8_of(k), *int8_of(v), lengths)
    assert got[0].isfinite().all() and got[1].isnan().all()


def test_there_are_enough_parts_and_none_is_small():
    assert tokens_of_a_part(8192, 64 * 8, 132) == 4096  # 2 parts for 512 heads, where there are 1,056 programs
    assert tokens_of_a_part(2048, 16 * 8, 132) == 256
    assert tokens_of_a_part(8192, 4096, 132) == 8192
    assert tokens_of_a_part(8192, 8, 132) == tokens_of_a_part(100, 1, 132) == 2 * kv_cache.BLOCK_T


@pytest.mark.parametrize("S, heads, tile", [(2048, 8, kv_cache.FEW_TOKENS), (8192, 8, kv_cache.FEW_TOKENS),
                                            (8192, 16, kv_cache.FEW_TOKENS), (8448, 16, kv_cache.MANY_TOKENS),
                                            (2048, 128, kv_cache.MANY_TOKENS), (8192, 512, kv_cache.MANY_TOKENS)])
def test_a_tile_for_few_tokens_and_one_for_many(S, heads, tile):
    assert kv_cache.attention_tile(S, heads, 132) == tile


@pytest.mark.skipif(not INTERPRETED, reason="it looks at what is launched, in the interpreter's place")
@pytest.mark.parametrize("group, D, BLOCK_G, BLOCK_D", [(1, 8, 16, 32), (16, 33, 16, 64), (17, 128, 32, 128)])
def test_the_tile_is_what_is_launched(monkeypatch, group, D, BLOCK_G, BLOCK_D):
    launched = []
    monkeypatch.setattr(InterpretedFunction, "run", lambda kernel, *given, grid, warmup, **options: launched.append(
        (kernel.fn.__name__, grid, given, options)))
    monkeypatch.setattr(kv_cache, "attention_tile", lambda *_: kv_cache.AttentionTile(64, 2, 7, 3))
    q, lengths = randn(2, 3 * group, D), torch.ones(2, dtype=torch.int32, device=device())
    codes, scale = int8_of(randn(2, 3, 300, D))
    decode_attention_int8(q, codes, scale, codes, scale, lengths)
    (name, grid, given, options), (other, rows, (part, lse, _, parts, width), more) = launched
    tokens = given[11]
    assert (name, grid) == ("decode_attention_int8_kernel", (2, 3, -(-300 // tokens)))
    assert options == {"BLOCK_G": BLOCK_G, "BLOCK_T": 64, "BLOCK_D": BLOCK_D, "num_warps": 2, "num_stages": 7}
    assert given[8:] == (3 * group, group, D, tokens, *codes.stride()[:3], *scale.stride()[:2], D**-0.5)
    assert tokens == max(128, 64 * -(-300 // max(1, 3 * 4 // 6) // 64))  # 4 multiprocessors, 6 heads
    assert (other, rows, parts, width) == ("merge_parts_kernel", (6 * group,), grid[2], D)
    assert (part.shape, lse.shape, more["num_warps"]) == ((2, 3 * group, parts, D), (2, 3 * group, parts), 4)


@pytest.mark.parametrize("heads", [3, 64, 0, -1])
def test_heads_that_do_not_divide_the_columns_are_refused(heads):
    with pytest.raises(ValueError, match=f"x has 32 columns, which are not {heads} heads of as many each"):
        quantize_heads(torch.zeros(2, 3, 32).half(), heads)


def test_what_does_not_fit_is_refused():
    q, k, v = randn(2, 4, 16), randn(2, 2, 8, 16), randn(2, 2, 8, 16)
    (k_q, k_scale), (v_q, v_scale) = int8_of(k), int8_of(v)
    lengths = torch.tensor([8, 8], dtype=torch.int32, device=device())
    with pytest.raises(TypeError, match="keys must be .* float16, got"):
        decode_attention(q, k_q, v_q, lengths)
    with pytest.raises(ValueError, match="q must have a whole number of heads"):
        decode_attention(randn(2, 3, 16), k, v, lengths)
    with pytest.raises(ValueError, match="same strides"):
        decode_attention(q, k, v.transpose(1, 2).contiguous().transpose(1, 2), lengths)
    with pytest.raises(ValueError, match="q must be contiguous"):
        decode_attention(randn(4, 2, 16).transpose(0, 1), k, v, lengths)
    with pytest.raises(TypeError, match="lengths must be"):
        decode_attention_int8(q, k_q, k_scale, v_q, v_scale, lengths.long())
    with pytest.raises(ValueError, match="k_scale and v_scale must have the same strides"):
        decode_attention_int8(q, k_q, k_scale, v_q, torch.zeros(2, 2, 16, device=device())[:, :, :8], lengths)
    with pytest.raises(ValueError, match="the tokens of q must be contiguous"):
        append_int8(randn(2, 1, 32), lengths, k_q.transpose(2, 3).contiguous().transpose(2, 3), k_scale)
    with pytest.raises(ValueError, match=r"x must be \(2, T, 32\)"):
        append_int8(randn(2, 1, 16), lengths, k_q, k_scale)


def with_gaps(x):
    """Between the numbers of a row others, which must not be read."""
    return (x.repeat_interleave(2, dim=-1) * 3)[..., ::2].copy_(x)


(CODES, SCALES), CACHE, LENGTHS = int8_of(randn(2, 2, 8, 16)), randn(2, 2, 8, 16), torch.tensor([8, 3], dtype=torch.int32)
CALLS = {
    quantize_heads: {"x": randn(2, 3, 32), "heads": 2}, decode_attention: {
        "q": randn(2, 4, 16), "k": CACHE, "v": CACHE, "lengths": LENGTHS.to(device())},
    attention_parts_int8: {"q": randn(2, 4, 16), "k_q": CODES, "k_scale": SCALES, "v_q": CODES, "v_scale": SCALES,
                           "lengths": LENGTHS.to(device())},
    merge_parts: {"part": randn(2, 2, 3, 16).float(), "lse": randn(2, 2, 3).float()},
    append_int8: {"x": randn(2, 3, 32), "place": LENGTHS.to(device()) - 3, "q": CODES, "scale": SCALES},
}


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_what_has_gaps_is_refused(function):
    for name in (name for name, value in CALLS[function].items() if isinstance(value, torch.Tensor)):
        with pytest.raises(ValueError, match="must be contiguous|strides"):
            function(**CALLS[function] | {name: with_gaps(CALLS[function][name])})


@pytest.mark.parametrize("name", CALLS[merge_parts])
def test_parts_in_a_longer_tensor_are_refused(name):
    given = CALLS[merge_parts]
    with pytest.raises(ValueError, match=f"{name} must be contiguous"):
        merge_parts(**given | {name: torch.cat([given[name]] * 2, dim=2)[:, :, :3]})
