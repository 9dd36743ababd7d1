"""How far an approximation is from what it stands for."""

import math

import torch


def sqnr_db(x: torch.Tensor, approximation: torch.Tensor) -> float:
    """10 · log10(Σ x² / Σ (approximation - x)²): signal to quantization noise in decibels."""
    x, approximation = x.double(), approximation.double()
    signal = x.square().sum()
    noise = (approximation - x).square().sum()
    return 10 * math.log10(signal / noise)


def uniform_mean_square(low: float, high: float) -> float:
    """The mean of e² when every e from low to high is as likely as any other."""
    return (low**2 + low * high + high**2) / 3
