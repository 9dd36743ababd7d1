"""Every prefill kernel compiles for GPUs that are not here, on tensor cores, without spills, in their shared memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels import hopper_gemm, matmul, perrow_w8a8
from kernels.tuning import place_on_hopper, shared_bytes

ROOT = Path(__file__).resolve().parents[1]
SHARED = {75: 65536, 80: 166912, 90: 232448}  # bytes a program may have
SMALL = 101376  # on sm_86 and sm_89


@pytest.fixture(scope="module")
def binaries():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TRITON_INTERPRET", None)
    found = []
    processes = [subprocess.Popen([sys.executable, ROOT / "tests" / "compile_prefill.py", *capabilities],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
                 for capabilities in (["75", "80"], ["90"])]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err[-2000:]
        found += json.loads(out)
    return found


def test_every_kernel_fits_and_spills_nothing(binaries):
    for binary in binaries:
        assert binary["spilled"] == 0, binary
        assert binary["shared"] <= SHARED[binary["capability"]], binary


def test_tensor_cores_do_the_products(binaries):
    products = [binary for binary in binaries if "quantize" not in binary["kernel"]]
    assert {binary["capability"] for binary in products} == {80, 90}
    for binary in products:
        assert binary["mma"] == {80: "mma", 90: "wgmma"}[binary["capability"]], binary


def test_descriptors_become_tma(binaries):
    kernels = {"matmul_fp16_kernel", "perrow_w8a8_matmul_tma_kernel", "hopper_gemm_kernel"}
    copied = [binary for binary in binaries if binary["kernel"] in kernels]
    assert {binary["kernel"] for binary in copied} == kernels
    assert all(binary["tma"] for binary in copied)


def test_quantization_compiles_for_turing(binaries):
    assert sum(binary["capability"] == 75 for binary in binaries) == 3


@pytest.mark.parametrize("configs, dtype", [
    (matmul.GROUPED_CONFIGS, torch.float16), (matmul.TMA_CONFIGS, torch.float16),
    (perrow_w8a8.GROUPED_CONFIGS, torch.int8), (perrow_w8a8.TMA_CONFIGS, torch.int8),
])
def test_lists_of_configs(configs, dtype):
    assert len(configs) <= 8
    assert all(shared_bytes(config, dtype) <= SHARED[90] for config in configs)
    assert sum(shared_bytes(config, dtype) <= SMALL for config in configs) >= 2
    sides = [(config.kwargs["BLOCK_M"], config.kwargs["BLOCK_N"]) for config in configs[:3]]
    assert sides == [(128, 128), (64, 64), (64, 64)]  # the places that `place_on_hopper` means


@pytest.mark.parametrize("M, N, place", [(65, 2048, 1), (512, 2048, 2), (1024, 2048, 0), (65, 22016, 0)])
def test_place_on_hopper(M, N, place):
    assert place_on_hopper(M, N, sms=132) == place


def test_choose_hopper():
    choices = [hopper_gemm.choose_hopper(M, 4096, dtype, sms=132) for M, dtype in [
        (512, torch.float16), (2048, torch.float16), (512, torch.int8), (2048, torch.int8)]]
    assert choices == [hopper_gemm.FP16_FEW_TILES_CONFIG, hopper_gemm.FP16_CONFIG, *[hopper_gemm.INT8_CONFIG] * 2]
