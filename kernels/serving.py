"""What a model costs and gains once it answers: an error bar, a graph for each batch, the bytes of its cache."""

import torch


def paired_difference(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """The mean of b - a, and its standard error: std(b - a) / √n, n - 1 in the place of n in std.

    a and b (n,) float: losses of two models on the same n pieces of text, n at least 2.
    """
    difference = b.double() - a.double()
    return float(difference.mean()), float(difference.std() / len(difference) ** 0.5)


def graph_bucket(batch: int, buckets: torch.Tensor) -> int:
    """The batch whose CUDA graph a batch of `batch` sequences runs in; 0 where none holds it.

    buckets (n,) int64, in any order: the smallest that is at least `batch`. The rest is padding.
    """
    fits = buckets[buckets >= batch]
    return int(fits.min()) if len(fits) else 0


def int8_cache_bytes(batch: int, context: int, kv_heads: int, head_dim: int) -> int:
    """Bytes that one layer reads of an INT8 cache for one new token of each of `batch` sequences.

    Keys and values of `context` tokens: for each token and head `head_dim` codes and an FP32 scale.
    """
    return batch * context * 2 * kv_heads * (head_dim + 4)


def decode_step_us(
    weight_bytes: float, cache_bytes: float, launches: int, gb_per_s: float, launch_us: float,
) -> float:
    """The least time of one step of decode, in microseconds.

    All weights and the cache are read once, at `gb_per_s` (1e9 bytes a second); meanwhile the CPU
    makes `launches` launches of `launch_us` each. The slower of the two is the step's time.
    """
    return max((weight_bytes + cache_bytes) / (1e3 * gb_per_s), launches * launch_us)
