"""How far INT8 is from what it stands for, in numbers and in products, and what to do where that is too far.

    sqnr_db, sqnr_db_per_channel   how far, in decibels
    product_error_std              how far a product will be, from the scales alone
    fake_quantize_int8             what is left of x with one scale for each block, of any shape
    matmul_decomposed              outlier channels multiplied apart (LLM.int8())
    smoothquant                    outliers of x moved into w, the product unchanged (SmoothQuant)
    layers_to_keep                 which layers of a model to leave in FP16
"""

import math

import torch

from kernels.arguments import expect

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def sqnr_db(x: torch.Tensor, approximation: torch.Tensor) -> float:
    """10 · log10(Σ x² / Σ (approximation - x)²): signal to quantization noise in decibels."""
    x, approximation = x.double(), approximation.double()
    signal = x.square().sum()
    noise = (approximation - x).square().sum()
    return 10 * math.log10(signal / noise)


def uniform_mean_square(low: float, high: float) -> float:
    """The mean of e² when every e from low to high is as likely as any other."""
    return (low**2 + low * high + high**2) / 3


def product_error_std(K: int, x_rms: float, w_rms: float, x_scale: float, w_scale: float) -> float:
    """The standard deviation of an INT8 product's error, Σ_k x̂_k · ŵ_k - Σ_k x_k · w_k.

    x and w are rows of K numbers of root mean square x_rms and w_rms, x̂ and ŵ what INT8 makes of
    them. Each of the 2K rounding errors is uniform over one step, and independent of all others.
    """
    x_variance = x_scale**2 / 12
    w_variance = w_scale**2 / 12
    return (K * (x_variance * w_rms**2 + x_rms**2 * w_variance + x_variance * w_variance)) ** 0.5


def fake_quantize_int8(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """q · scale: what INT8 leaves of x, with a scale, amax / 127, for each block of rows x columns.

    x (M, K), M a multiple of rows and K of columns -> (M, K) float32. A block of zeros stays zeros.
    """
    M, K = expect_blocks(x, rows, columns)
    blocks = x.float().reshape(M // rows, rows, K // columns, columns)
    scale = blocks.abs().amax(dim=(1, 3), keepdim=True) / 127
    q = torch.where(scale > 0, blocks / scale, 0).round()
    return (q * scale).reshape(M, K)


def expect_blocks(x: torch.Tensor, rows: int, columns: int) -> tuple[int, int]:
    """M and K of x (M, K). Raises TypeError or ValueError unless blocks of rows x columns divide it."""
    M, K = expect("x", x, ("M", "K"), FLOATS)
    if rows < 1 or columns < 1 or M % rows or K % columns:
        raise ValueError(f"blocks of {rows} x {columns} must divide x, got ({M}, {K})")
    return M, K


def sqnr_db_per_channel(x: torch.Tensor, approximation: torch.Tensor) -> torch.Tensor:
    """The SQNR of each channel, a column, in decibels: x, approximation (M, K) -> (K,) float64."""
    x, approximation = x.double(), approximation.double()
    signal = x.square().sum(dim=0)
    noise = (approximation - x).square().sum(dim=0)
    return 10 * torch.log10(signal / noise)


def matmul_decomposed(x: torch.Tensor, w: torch.Tensor, threshold: float) -> torch.Tensor:
    """x wᵀ in two parts: channels of x with a magnitude above threshold exactly, the rest in INT8.

    x (M, K), w (N, K) -> (M, N) float32, the rest with one scale for each row of x and of w. From
    T. Dettmers et al., "LLM.int8()", NeurIPS 2022, which multiplies the first part in FP16.
    """
    x, w = x.float(), w.float()
    outlier = x.abs().amax(dim=0) > threshold  # (K,)
    exact = x[:, outlier] @ w[:, outlier].T
    x, w = torch.where(outlier, 0, x), torch.where(outlier, 0, w)
    return exact + fake_quantize_int8(x, 1, x.shape[1]) @ fake_quantize_int8(w, 1, w.shape[1]).T


def smoothquant(
    x: torch.Tensor, w: torch.Tensor, alpha: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x / s and w · s, of the same product, with s_k = (max_m |x_mk|)^α / (max_n |w_nk|)^(1 - α).

    x (M, K), w (N, K) -> both in float32. Where a channel of x or of w is all zeros, s_k = 1.
    From G. Xiao et al., "SmoothQuant", ICML 2023.
    """
    x, w = x.float(), w.float()
    x_amax, w_amax = x.abs().amax(dim=0), w.abs().amax(dim=0)  # (K,)
    s = x_amax**alpha / w_amax ** (1 - alpha)
    s = torch.where((x_amax > 0) & (w_amax > 0), s, 1)
    return x / s, w * s


def layers_to_keep(sqnr_db: torch.Tensor, weights: torch.Tensor, budget: int) -> torch.Tensor:
    """Which layers to leave in FP16: from the lowest SQNR up, each that still fits into the budget.

    sqnr_db (L,), weights (L,) how many a layer has, budget how many may stay in FP16 -> bool (L,).
    """
    keep = torch.zeros_like(sqnr_db, dtype=torch.bool)
    for layer in sqnr_db.argsort().tolist():
        if weights[layer] <= budget:
            keep[layer] = True
            budget -= int(weights[layer])
    return keep
