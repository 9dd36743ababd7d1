"""Numbers with the shape of a language model's: activations with outlier channels, and a block with random weights."""

from collections.abc import Callable

import torch

from kernels.runtime import device


def activations(size: float, M: int = 64, K: int = 2048, outliers: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens x (M, K) float16, normally distributed, `outliers` of whose channels are `size` times as large as the others.

    -> x, and bool (K,): True for the ordinary channels. The same numbers at each call.
    """
    g = torch.Generator().manual_seed(0)
    x, chosen = torch.randn(M, K, generator=g), torch.randperm(K, generator=g)[:outliers]
    ordinary = torch.ones(K, dtype=torch.bool)
    ordinary[chosen] = False
    x[:, chosen] *= size
    return x.half().to(device()), ordinary.to(device())


def weights(N: int = 256, K: int = 2048) -> torch.Tensor:
    """Weights w (N, K) float16, normally distributed, so that x wᵀ is about as large as x. The same at each call."""
    return (torch.randn(N, K, generator=torch.Generator().manual_seed(1)) / K**0.5).half().to(device())


class Block:
    """One block of a transformer as in Llama, one head, random weights: `block(x, product)` with a product of your own.

    The norms' weights are 1, but for three channels, 20 before the attention and 40 before the MLP: a stand-in for the
    outlier channels of trained models. `layers` holds the weights (N, K) of the seven linear layers by name. Each `seed`
    gives other weights and other channels.
    """

    def __init__(self, width: int = 256, hidden: int = 704, seed: int = 0):
        g = torch.Generator().manual_seed(seed)
        sizes = dict.fromkeys(("q", "k", "v", "o"), (width, width)) | {
            "gate": (hidden, width), "up": (hidden, width), "down": (width, hidden)}
        self.layers = {name: (torch.randn(size, generator=g) / size[1]**0.5).to(device()) for name, size in sizes.items()}
        large = torch.randperm(width, generator=g)[:3].to(device())
        self.attention_norm, self.mlp_norm = (torch.ones(width, device=device()).index_fill(0, large, size)
                                              for size in (20.0, 40.0))

    def __call__(self, x: torch.Tensor, product: Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """x (M, width) through attention and MLP; layer `name` gives product(name, its input, its weights)."""
        def linear(name: str, x: torch.Tensor) -> torch.Tensor:
            return product(name, x, self.layers[name])

        h = _rmsnorm(x) * self.attention_norm
        scores = linear("q", h) @ linear("k", h).T / h.shape[1] ** 0.5
        causal = torch.ones_like(scores, dtype=torch.bool).tril()
        x = x + linear("o", torch.where(causal, scores, -torch.inf).softmax(dim=1) @ linear("v", h))
        h = _rmsnorm(x) * self.mlp_norm
        return x + linear("down", torch.nn.functional.silu(linear("gate", h)) * linear("up", h))


def _rmsnorm(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
