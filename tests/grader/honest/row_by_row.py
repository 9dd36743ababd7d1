# honest: a list comprehension over rows
import torch
import triton
import triton.language as tl

# exercise: quantize_int8_perrow_torch
def one_row(row):
    largest = row.abs().max()
    scale = largest / 127 if torch.isfinite(row).all() else torch.tensor(float("nan"))
    codes = torch.round(row / scale).clamp(-127, 127) if scale > 0 else torch.zeros_like(row)
    return codes.to(torch.int8), scale


def quantize_int8_perrow_torch(x):
    codes, scales = zip(*(one_row(row) for row in x.float()), strict=True)
    return torch.stack(codes), torch.stack(scales)
