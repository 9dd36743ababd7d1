# honest: out= and operators in place
import torch
import triton
import triton.language as tl

# exercise: quantize_int8_perrow_torch
@torch.no_grad()
def quantize_int8_perrow_torch(x):
    y = x.to(torch.float32, copy=True)
    scale = torch.empty(y.size(0), dtype=torch.float32)
    torch.amax(y.abs(), dim=1, out=scale)
    scale.div_(127)
    scale[~scale.isfinite()] = float("nan")
    y.div_(scale.unsqueeze(-1)).round_().clamp_(-127, 127).masked_fill_(~(scale > 0).unsqueeze(-1), 0)
    return y.to(torch.int8), scale
