"""Queries, keys and values turned and put into place in one launch: the bits of torch's many operations."""

import pytest
import torch

from kernels import rotary
from kernels.rotary import rotate_qkv
from kernels.runtime import INTERPRETED, device
from kernels.transformer import Config, rotate, rotation

CONFIG = Config(vocabulary=1, layers=1, dim=96, heads=4, kv_heads=2, hidden=1)
WIDTH = (CONFIG.heads + 2 * CONFIG.kv_heads) * CONFIG.head_dim


def randn(*shape, dtype=torch.float16):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype).to(device())


def same(got, want):
    """Bit for bit; the interpreter cuts BF16 off instead of rounding."""
    if INTERPRETED and got.dtype == torch.bfloat16:
        torch.testing.assert_close(got, want, rtol=2.0**-7, atol=0)
    else:
        assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("B, T", [(1, 1), (3, 1), (2, 5)])
def test_it_gives_the_bits_of_the_steps_in_torch(B, T, dtype):
    wide = randn(B * T, WIDTH + 8, dtype=dtype)
    qkv, turn = wide[:, :WIDTH], rotation(CONFIG, torch.arange(7, 7 + T, device=device()))
    keys, values = randn(2, B, CONFIG.kv_heads, 6 + T, CONFIG.head_dim, dtype=dtype)
    before = keys.clone()
    k, v = (kept.narrow(2, 6, T) for kept in (keys, values))
    q = rotate_qkv(qkv, turn, k, v)
    heads = qkv.reshape(B, T, -1, CONFIG.head_dim).transpose(1, 2)
    want_q, want_k, want_v = heads.split((CONFIG.heads, CONFIG.kv_heads, CONFIG.kv_heads), dim=1)
    same(q, rotate(want_q, turn))
    same(k, rotate(want_k, turn))
    same(v, want_v)
    assert torch.equal(keys[:, :, :6], before[:, :, :6])


def test_products_are_rounded_before_they_are_added(monkeypatch):
    """As in torch: a GPU's compiler would fuse both into one instruction, which rounds once."""
    launched = []
    monkeypatch.setattr(rotary, "Launch", lambda *given, **options: launched.append((given[1], options)) or print)
    monkeypatch.setattr(rotary._rotate, "_calls", {})
    k, v = randn(2, 2, CONFIG.kv_heads, 3, CONFIG.head_dim)
    rotate_qkv(randn(6, WIDTH), rotation(CONFIG, torch.arange(3, device=device())), k, v)
    assert launched == [((6, 8), {"num_warps": 1, "enable_fp_fusion": False})]


def test_what_does_not_fit_is_refused():
    qkv, turn = randn(2, WIDTH), rotation(CONFIG, torch.arange(2, device=device()))
    k, v = randn(2, 1, CONFIG.kv_heads, 2, CONFIG.head_dim)
    with pytest.raises(ValueError, match="qkv must be .2, .heads"):
        rotate_qkv(qkv[:1], turn, k, v)
    with pytest.raises(ValueError, match=r"turn must be \(2, 2, 12\)"):
        rotate_qkv(qkv, turn[:, :1], k, v)
    with pytest.raises(TypeError, match="v must be .* float16, got"):
        rotate_qkv(qkv, turn, k, v.bfloat16())
    with pytest.raises(ValueError, match="k and v must have the same strides"):
        rotate_qkv(qkv, turn, k, v.transpose(1, 2).contiguous().transpose(1, 2))
    for width in (WIDTH - 1, WIDTH + 1, 2 * CONFIG.kv_heads * CONFIG.head_dim):  # columns of no head, no queries
        with pytest.raises(ValueError, match=f"qkv must have whole heads of 24 .* 4 for keys .* got {width} columns"):
            rotate_qkv(randn(2, width), turn, k, v)
    with pytest.raises(ValueError, match=r"v must be \(1, 2, 2, 24\)"):
        rotate_qkv(qkv, turn, k, v[:, :1])
    with pytest.raises(ValueError, match="and turn be contiguous"):
        rotate_qkv(qkv, turn.repeat_interleave(2, dim=2)[:, :, ::2], k, v)
    for name in "kv":
        gaps = randn(*k.shape[:3], 2 * CONFIG.head_dim)[..., ::2]
        with pytest.raises(ValueError, match=f"{name} must be contiguous along its last dimension"):
            rotate_qkv(qkv, turn, **{"k": k, "v": v} | {name: gaps})
    with pytest.raises(ValueError, match="qkv must be contiguous along its last dimension"):
        rotate_qkv(randn(2, 2 * WIDTH)[:, ::2], turn, k, v)
