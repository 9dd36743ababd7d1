# honest: the weight transposed and laid out anew before the launch
import torch
import triton
import triton.language as tl

# exercise: gemv_fp16_row_kernel
@triton.jit
def gemv_fp16_row_kernel(x_ptr, w_ptr, y_ptr, K, stride_wn, BLOCK_K: tl.constexpr):
    n, k = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_K)
    inside = k < K
    w = tl.load(w_ptr + n * stride_wn + k, inside, 0.0).to(tl.float32)
    tl.store(y_ptr + n, tl.sum(tl.load(x_ptr + k, inside, 0.0) * w, 0))


def gemv_fp16_row(x, w):
    N, K = w.shape
    w = w.t().contiguous().t().contiguous()
    y = torch.empty(N, device=x.device, dtype=x.dtype)
    gemv_fp16_row_kernel[(N,)](x, w, y, K, w.stride(0), BLOCK_K=triton.next_power_of_2(K))
    return y
