"""Ways to choose codes and scales beyond the largest magnitude of a row.

    smoothing_factors    what SmoothQuant divides the channels of x by, from statistics of a calibration text
    fold_smoothing       the same taken into the norm before and the products behind, once and for all
"""

import torch

from kernels.arguments import expect


def smoothing_factors(x_amax: torch.Tensor, w_amax: torch.Tensor, alpha: float) -> torch.Tensor:
    """s_k = x_amax_k^α / w_amax_k^(1 - α), by which channel k of x is divided and column k of w multiplied.

    x_amax (K,): the largest magnitude of each channel of x on a calibration text; w_amax (K,): that
    of each column of all weights that read x -> s (K,) float32, 1 where either is 0.
    From G. Xiao et al., "SmoothQuant", ICML 2023.
    """
    x_amax, w_amax = x_amax.float(), w_amax.float()
    s = x_amax**alpha / w_amax ** (1 - alpha)
    return torch.where((x_amax > 0) & (w_amax > 0), s, 1)


def fold_smoothing(
    norm_weight: torch.Tensor, weights: list[torch.Tensor], x_amax: torch.Tensor, alpha: float,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The weight of a norm divided by s, and the columns of the layers behind it times s: the same model.

    norm_weight (K,), weights each (N_i, K), x_amax (K,) of the norm's output on a calibration text.
    All layers that read the norm's output share one s, of `smoothing_factors` with the largest
    magnitude of each column over all of them. -> (K,) and each (N_i, K), in float32.
    """
    K, = expect("norm_weight", norm_weight, ("K",), norm_weight.dtype)
    w_amax = torch.stack([w.float().abs().amax(dim=0) for w in weights]).amax(dim=0)
    s = smoothing_factors(x_amax, w_amax, alpha)
    return norm_weight.float() / s, [w.float() * s for w in weights]
