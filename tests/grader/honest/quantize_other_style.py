# honest: the definition in other words
import torch
import triton
import triton.language as tl

# exercise: quantize_int8_perrow_torch
def quantize_int8_perrow_torch(x):
    x32 = x.to(torch.float32)
    amax = x32.abs().max(dim=1, keepdim=True).values
    scale = amax / 127
    scale = torch.where(torch.isfinite(amax), scale, torch.full_like(scale, float("nan")))
    q = torch.round(x32 / torch.where(scale > 0, scale, 1.0))
    q = torch.where(scale > 0, q, torch.zeros_like(q)).clamp(-127, 127).to(torch.int8)
    return q, scale.squeeze(1)
