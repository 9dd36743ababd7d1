"""Kernels that start before the kernel ahead has ended: what that one writes is read behind the wait."""

import pytest
import torch

from kernels import decode, decode_row
from kernels.runtime import INTERPRETED, device

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="a GPU waits by itself")
M, N, K, PARTS = 3, 20, 40, 2
TILE = {"BLOCK_M": 16, "REST": 0, "BLOCK_N": 32, "BLOCK_K": 32}
LAUNCHES = {  # the grid, the arguments (text names a tensor), the constexprs, and what the kernel ahead may be writing
    decode.decode_quantize_kernel: ((M, 2), ("x", "q", "scale", K, K), {"BLOCK_K": 64, "SLICE": 32}, ("x",)),
    decode.decode_gemv_w8a8_kernel: (
        (1,), ("x_q", "w_q", "y", "x_scale", "w_scale", "bias", N, K, K), {"BLOCK_N": 32, "BLOCK_K": 16},
        ("x_q", "x_scale")),
    decode.decode_w8a8_kernel: (
        (1, 1), ("x_q", "w_q", "y", "x_scale", "w_scale", "bias", M, N, K, K, K), TILE | {"PARTIAL": False},
        ("x_q", "x_scale")),
    decode.decode_reduce_kernel: (
        (M, 1), ("partial", "y", "x_scale", "w_scale", "bias", M, N, PARTS), {"BLOCK_N": 32}, ("partial", "x_scale")),
    decode_row.decode_row_kernel: (
        (1,), ("x", "w_q", "y", "w_scale", "bias", N, K, K), {"BLOCK_N": 32, "BLOCK_K": 64},
        ("x", "w_q", "w_scale", "bias")),
}


def operands():
    g = torch.Generator(device()).manual_seed(0)

    def codes(*shape):
        return torch.randint(-127, 128, shape, generator=g, device=device(), dtype=torch.int8)

    x, x_scale, w_scale, bias = (torch.rand(shape, generator=g, device=device()) for shape in ((M, K), M, N, N))
    return {"x": x.half(), "x_q": codes(M, K), "w_q": codes(N, K), "x_scale": x_scale, "w_scale": w_scale, "bias": bias,
            "partial": codes(PARTS, M, N).int(), "q": torch.zeros_like(codes(M, K)), "scale": torch.zeros_like(x_scale),
            "y": torch.zeros(M, N, device=device()).half()}


@pytest.mark.parametrize("kernel", LAUNCHES, ids=lambda kernel: kernel.__name__)
def test_what_the_kernel_ahead_writes_is_read_behind_the_wait(kernel, monkeypatch):
    grid, arguments, blocks, late = LAUNCHES[kernel]
    right, early = operands(), operands()
    for name in late:
        early[name].fill_(77)

    def wait():
        for name in late:
            early[name].copy_(right[name])

    for module in (decode, decode_row):
        monkeypatch.setattr(module, "gdc_wait", wait)
        monkeypatch.setattr(module, "gdc_launch_dependents", lambda: None)
    for given, overlap in ((early, True), (right, False)):
        kernel[grid](*(given[one] if isinstance(one, str) else one for one in arguments), **blocks, OVERLAP=overlap)
    for name in ("y", "q", "scale"):
        assert torch.equal(early[name], right[name])
    assert any(right[name].any() for name in ("y", "q"))
