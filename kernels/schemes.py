"""Ways to choose codes and scales beyond the largest magnitude of a row.

    smoothing_factors    what SmoothQuant divides the channels of x by, from statistics of a calibration text
    fold_smoothing       the same taken into the norm before and the products behind, once and for all
    quantize_asymmetric, matmul_asymmetric
                         a zero point beside the scale, and what it adds to a product
    clipped_scale        a scale smaller than amax allows: less rounding for all, clipping for a few
"""

import torch


def smoothing_factors(
    x_amax: torch.Tensor, w_amax: torch.Tensor, alpha: float,
) -> torch.Tensor:
    """s_k = x_amax_k^α / w_amax_k^(1 - α).

    Channel k of x is divided by it, and column k of w multiplied. x_amax (K,): the
    largest magnitude of each channel of x on a calibration text; w_amax (K,): that
    of each column of all weights that read x -> s (K,) float32, 1 where either is 0.
    From G. Xiao et al., "SmoothQuant", ICML 2023.
    """
    x_amax, w_amax = x_amax.float(), w_amax.float()
    s = x_amax**alpha / w_amax ** (1 - alpha)
    return torch.where((x_amax > 0) & (w_amax > 0), s, 1)


def fold_smoothing(
    norm_weight: torch.Tensor, w: torch.Tensor, x_amax: torch.Tensor, alpha: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A norm's weight divided by s, and the columns of layers behind it times s: the same model.

    norm_weight (K,); w (N, K), the weights of all layers that read the norm's output, one above the
    other, which share one s; x_amax (K,) of that output on a calibration text. s is that of
    `smoothing_factors`, with the largest magnitude of each column of w -> (K,), (N, K) float32.
    """
    s = smoothing_factors(x_amax, w.float().abs().amax(dim=0), alpha)
    return norm_weight.float() / s, w.float() * s


def quantize_asymmetric(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes of all 256 values between a row's least and largest number, with a zero point.

    x (M, K) -> q (M, K) int8, scale (M,) float32, zero (M,) int32: x ≈ (q - zero) · scale, with
    low = min(x, 0), high = max(x, 0), scale = (high - low) / 255, zero = round(-128 - low / scale),
    q = clamp(round(x / scale) + zero, -128, 127). A row of zeros gives scale = 0, zero = 0, q = 0.
    """
    x = x.float()
    low, high = x.amin(dim=1).clamp(max=0), x.amax(dim=1).clamp(min=0)
    scale = (high - low) / 255
    step = torch.where(scale > 0, scale, 1)
    zero = torch.where(scale > 0, (-128 - low / step).round(), 0)
    q = ((x / step[:, None]).round() + zero[:, None]).clamp(-128, 127)
    return q.to(torch.int8), scale, zero.to(torch.int32)


def matmul_asymmetric(
    x_q: torch.Tensor, x_scale: torch.Tensor, x_zero: torch.Tensor, w_q: torch.Tensor,
    w_scale: torch.Tensor,
) -> torch.Tensor:
    """y[m, n] = Σ_k (x_q[m, k] - x_zero[m]) · w_q[n, k] · x_scale[m] · w_scale[n], by one product.

    x_q (M, K) int8, x_scale (M,) float32, x_zero (M,) int32 of `quantize_asymmetric`; w_q (N, K)
    int8, w_scale (N,) float32, symmetric -> (M, N) float32. The sums of w's rows are known
    beforehand, so the zero point costs one multiplication and one subtraction for each y.
    """
    acc = (x_q.double() @ w_q.double().T).to(torch.int32)  # (M, N), as the tensor cores give it
    w_sums = w_q.sum(dim=1, dtype=torch.int32)  # (N,), once for each w
    acc = acc - x_zero[:, None] * w_sums[None, :]
    return acc.float() * x_scale[:, None] * w_scale[None, :]


def clipped_scale(x: torch.Tensor, largest: int, parts: int) -> float:
    """The symmetric scale of a tensor with the least mean square error, of `parts` candidates.

    x of any shape; codes go from -largest to largest (127 for INT8, 7 for INT4). Candidate i, from
    1 to parts, clips at amax · i / parts: scale = that / largest, and x becomes
    clamp(round(x / scale), -largest, largest) · scale. The larger scale wins a tie.
    """
    x = x.double()
    scales = [x.abs().amax() * i / parts / largest for i in range(parts, 0, -1)]
    errors = [((x / s).round().clamp(-largest, largest) * s - x).square().mean() for s in scales]
    return float(scales[int(torch.stack(errors).argmin())])
