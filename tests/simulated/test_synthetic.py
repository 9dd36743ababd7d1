"""Numbers with the shape of a language model's: which channels are large, and a block against its formula."""

import math

import pytest
import torch

from checks.simulated.synthetic import Block, activations, weights


@pytest.mark.parametrize(("M", "K", "outliers", "size"), [(64, 2048, 6, 20.0), (500, 32, 3, 7.0), (8, 16, 0, 5.0)])
def test_some_channels_are_so_many_times_as_large(M, K, outliers, size):
    x, ordinary = activations(size, M, K, outliers)
    plain, same = activations(1.0, M, K, outliers)
    assert x.shape == (M, K) and (x.dtype, ordinary.dtype) == (torch.float16, torch.bool)
    assert int((~ordinary).sum()) == outliers and torch.equal(ordinary, same)
    assert torch.equal(x[:, ordinary], plain[:, ordinary])
    torch.testing.assert_close(x[:, ~ordinary].float(), size * plain[:, ~ordinary].float(), rtol=1e-3, atol=1e-2)
    assert abs(plain.float().std() - 1) < 0.2 and torch.equal(activations(size, M, K, outliers)[0], x)


def test_a_product_with_the_weights_is_as_large_as_x():
    x, w = activations(1.0)[0], weights()
    assert (w.shape, w.dtype, weights(3, 5).shape) == ((256, 2048), torch.float16, (3, 5)) and torch.equal(w, weights())
    assert abs((x.float() @ w.float().T).std() - 1) < 0.05


WIDTH, HIDDEN = 16, 24


def by_hand(block, x):
    """The block in float64, token by token."""
    w = {name: value.double() for name, value in block.layers.items()}

    def norm(row, weight):
        return row / math.sqrt(float((row**2).mean()) + 1e-6) * weight.double()

    h = torch.stack([norm(row, block.attention_norm) for row in x.double()])
    q, k, v = (h @ w[name].T for name in "qkv")
    rows = []
    for i in range(len(x)):
        scores = torch.stack([q[i] @ k[j] for j in range(i + 1)]) / math.sqrt(WIDTH)
        e = (scores - scores.max()).exp()
        rows.append((e / e.sum()) @ v[:i + 1])
    x = x.double() + torch.stack(rows) @ w["o"].T
    h = torch.stack([norm(row, block.mlp_norm) for row in x])
    gate = h @ w["gate"].T
    return x + (gate / (1 + (-gate).exp()) * (h @ w["up"].T)) @ w["down"].T


@pytest.mark.parametrize("size", [1.0, 1e-3])  # the smaller, the more counts what the norms add to their squares
def test_a_block_is_attention_and_mlp_with_three_large_channels(size):
    block, x = Block(WIDTH, HIDDEN, seed=3), size * torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    asked = []

    def product(name, given, weight):
        asked.append(name)
        assert weight is block.layers[name] and given.shape == (5, weight.shape[1])
        return given @ weight.T

    torch.testing.assert_close(block(x, product).double(), by_hand(block, x), rtol=1e-4, atol=1e-4)
    assert sorted(asked) == sorted(["q", "k", "v", "o", "gate", "up", "down"])
    assert {name: tuple(w.shape) for name, w in block.layers.items()} == {
        **dict.fromkeys("qkvo", (WIDTH, WIDTH)), **dict.fromkeys(("gate", "up"), (HIDDEN, WIDTH)), "down": (WIDTH, HIDDEN)}
    for weight, size in ((block.attention_norm, 20), (block.mlp_norm, 40)):
        assert sorted(weight.tolist()) == [1] * (WIDTH - 3) + [size] * 3
    assert torch.equal(block.attention_norm == 20, block.mlp_norm == 40)


def test_a_seed_gives_a_block_its_numbers():
    one, same, other = Block(seed=1), Block(seed=1), Block(seed=2)
    assert all(torch.equal(one.layers[name], same.layers[name]) for name in one.layers)
    assert torch.equal(one.attention_norm, same.attention_norm)
    assert not any(torch.equal(one.layers[name], other.layers[name]) for name in one.layers)
    assert not torch.equal(one.attention_norm, other.attention_norm)
    assert all(abs(float(w.std()) * w.shape[1] ** 0.5 - 1) < 0.05 for w in one.layers.values())
