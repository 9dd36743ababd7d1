"""The Hopper kernel, run on an emulated multiprocessor: exact products, whichever role comes first."""

import pytest
import torch
from hopper_emulator import Kernel

from kernels import hopper_gemm as module
from kernels.configs import tiles

ORDERS = {"producer first": (2, 0, 1), "consumers first": (0, 1, 2), "second consumer first": (1, 2, 0)}
CONFIGS = {  # the schedules, with tiles that NumPy multiplies in no time
    "ping-pong": tiles(32, 16, 32, GROUP_M=2, num_warps=4, num_stages=3),
    "ping-pong, two stages": tiles(16, 32, 32, GROUP_M=1, num_warps=4, num_stages=2),
    "shared tiles": tiles(128, 256, 32, GROUP_M=2, num_warps=4, num_stages=3),
}
SHAPES = [(1, 16, 32), (100, 80, 160), (33, 48, 112), (300, 520, 96)]


@pytest.fixture(autouse=True, params=ORDERS)
def order(request, monkeypatch):
    monkeypatch.setattr(module, "hopper_gemm_kernel", Kernel(module, ORDERS[request.param]))


def codes(rows, K, seed):
    return torch.randint(-127, 128, (rows, K), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("M, N, K", SHAPES)
def test_codes_scales_and_bias(config, M, N, K):
    x, w = codes(M, K, 0), codes(N, K, 1)
    rng = torch.Generator().manual_seed(2)
    x_scale, w_scale = (torch.rand(size, generator=rng) / 100 for size in (M, N))
    bias = torch.randn(N, generator=rng)
    sums = (x.double() @ w.double().T).float() * x_scale[:, None] * w_scale
    for given, want in ((bias, sums + bias), (bias.half(), sums + bias.half().float()), (None, sums)):
        y = torch.full((M, N), torch.nan, dtype=torch.float16)
        assert module.hopper_gemm(x, w, y, x_scale, w_scale, given, CONFIGS[config]) is y
        assert torch.equal(y, want.half())


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("M, N, K", SHAPES)
def test_fp16(config, M, N, K):
    x, w = (codes(rows, K, seed).half() / 64 for rows, seed in ((M, 3), (N, 4)))  # sums that FP32 holds
    y = torch.full((M, N), torch.nan, dtype=torch.float16)
    assert torch.equal(module.hopper_gemm(x, w, y, config=CONFIGS[config]), (x.double() @ w.double().T).half())


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16])
def test_the_configurations_of_the_library(dtype):
    x, w, unit = codes(260, 144, 0), codes(272, 144, 1), 2.0**-6
    want = ((x.double() * unit) @ (w.double() * unit).T).half()
    y, scale = torch.full((260, 272), torch.nan, dtype=torch.float16), torch.full((272,), unit)
    given = (x, w, y, scale[:260], scale) if dtype == torch.int8 else (x.half() * unit, w.half() * unit, y)
    assert torch.equal(module.hopper_gemm(*given), want)
