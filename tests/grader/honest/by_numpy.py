# honest: NumPy in the middle
import torch
import triton
import triton.language as tl

# exercise: quantize_int8_perrow_torch
import numpy as np


def quantize_int8_perrow_torch(x):
    a = x.float().numpy()
    amax = np.abs(a).max(axis=1)
    scale = np.where(np.isfinite(amax), amax / np.float32(127), np.float32(np.nan)).astype(np.float32)
    with np.errstate(all="ignore"):
        q = np.rint(a / scale[:, None])
    q = np.where(scale[:, None] > 0, np.clip(q, -127, 127), 0)
    return torch.from_numpy(q.astype(np.int8)), torch.from_numpy(scale)
