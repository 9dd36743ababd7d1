"""How a configuration is chosen on GPUs that are not here: what fits is timed, once per bucket of rows."""

import sys

import pytest
import torch
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia import hopper

import kernels
from kernels import group_w8a8, hopper_gemm, matmul, perrow_w8a8, tuning
from kernels.configs import rows_in_a_group, shared_bytes
from kernels.runtime import Card

CONFIGS = perrow_w8a8.GROUPED_CONFIGS
SMALL, LARGE = 101376, 232448  # bytes of shared memory a program may have on sm_86 and sm_89, and on sm_90
RTX_3090 = Card((8, 6), 82, SMALL, 6 << 20, 936.0)
H100 = Card((9, 0), 132, LARGE, 50 << 20, 3352.0)
H200 = Card((9, 0), 132, LARGE, 60 << 20, 4814.0)
H100_PCIE = Card((9, 0), 114, LARGE, 50 << 20, 2039.0)
GPU = torch.device("cuda", 0)
MICROSECONDS = dict(zip(map(id, CONFIGS), [5, 4, 3, 2, 1, 0.5], strict=True))


@pytest.fixture
def gpu(monkeypatch):
    """A pretended GPU that is not Hopper. Gives the configs launched and timed on it."""
    launched, timed = [], []

    def bench(run, **options):
        run()
        timed.append(launched[-1])
        return MICROSECONDS[id(launched[-1])]

    monkeypatch.setattr(tuning, "_chosen", {})
    monkeypatch.setattr(tuning, "INTERPRETED", False)
    monkeypatch.setattr(tuning, "card", lambda where: RTX_3090)
    monkeypatch.setattr(tuning.triton.testing, "do_bench", bench)
    return launched, timed


def choose(launched, M, N=256, K=512, where=GPU):
    return tuning.choose("kernel", CONFIGS, (M, N, K), torch.int8, where, launched.append)


def test_the_fastest_that_fits_is_timed_once_per_bucket(gpu):
    launched, timed = gpu
    fitting = [config for config in CONFIGS if shared_bytes(config, torch.int8) <= SMALL]
    best = min(fitting, key=lambda config: MICROSECONDS[id(config)])
    assert choose(launched, 100) is choose(launched, 128) is best
    assert timed == fitting
    choose(launched, 129)
    choose(launched, 10_000)
    choose(launched, 90_000)  # the same bucket as the line above
    assert len(timed) == 3 * len(fitting)


def test_what_was_timed_on_one_gpu_is_not_taken_for_another(gpu, monkeypatch):
    launched, timed = gpu
    other = torch.device("cuda", 1)
    monkeypatch.setattr(tuning, "card", {GPU: RTX_3090, other: RTX_3090._replace(shared_memory=98_303)}.__getitem__)
    first, second = choose(launched, 100), choose(launched, 100, where=other)
    assert (first, second) == (CONFIGS[-1], CONFIGS[-2])  # the fastest, and what fits the second's shared memory
    before = len(timed)
    assert choose(launched, 100) is first and choose(launched, 100, where=other) is second
    assert len(timed) == before


def test_inside_a_cuda_graph_nothing_is_timed(gpu, monkeypatch):
    monkeypatch.setattr(tuning, "capturing", lambda: True)
    for shared_memory in (1 << 16, 98_303, SMALL, LARGE):  # some hold none of the first configurations
        monkeypatch.setattr(tuning, "card", lambda where, size=shared_memory: RTX_3090._replace(shared_memory=size))
        assert shared_bytes(choose(gpu[0], 100), torch.int8) <= shared_memory
    assert gpu[1] == [] and tuning._chosen == {}


def test_a_gpu_too_small_is_named(gpu, monkeypatch):
    monkeypatch.setattr(tuning, "card", lambda where: RTX_3090._replace(shared_memory=16384))
    with pytest.raises(RuntimeError, match="no configuration of kernel fits the shared memory of this GPU"):
        choose(gpu[0], 100)


def test_hopper_needs_no_timing(gpu, monkeypatch):
    monkeypatch.setattr(tuning, "card", lambda where: H100)
    assert choose(gpu[0], 16384, N=2048) is CONFIGS[0]
    assert choose(gpu[0], 65, N=2048) is CONFIGS[1]
    assert gpu[1] == []


@pytest.mark.parametrize("configs, dtype", [
    (matmul.GROUPED_CONFIGS, torch.float16), (matmul.TMA_CONFIGS, torch.float16),
    (perrow_w8a8.GROUPED_CONFIGS, torch.int8), (perrow_w8a8.TMA_CONFIGS, torch.int8),
    (group_w8a8.GROUP_CONFIGS, torch.int8),
])
def test_lists_of_configs(configs, dtype):
    assert len(configs) <= 8
    assert all(shared_bytes(config, dtype) <= LARGE for config in configs)
    assert sum(shared_bytes(config, dtype) <= SMALL for config in configs) >= 2
    sides = [(config.kwargs["BLOCK_M"], config.kwargs["BLOCK_N"]) for config in configs[:3]]
    assert sides == [(128, 128), (64, 64), (64, 64)]  # the places that `place_on_hopper` means


@pytest.mark.parametrize("M, N, place", [
    (65, 2048, 1), (64, 132 * 64, 1), (64, 132 * 64 + 1, 2), (128, 132 * 64, 2), (128, 132 * 64 + 1, 0),
    (256, 2048, 1), (512, 2048, 2), (256, 4096, 2), (384, 4096, 0), (640, 2048, 0), (65, 22016, 0)])
def test_place_on_hopper(M, N, place):
    assert tuning.place_on_hopper(M, N, sms=132) == place


def test_choose_hopper():
    choices = [hopper_gemm.choose_hopper(M, 4096, 4096, dtype, H200) for M, dtype in [
        (512, torch.float16), (2048, torch.float16), (512, torch.int8), (2048, torch.int8)]]
    assert choices[:2] == [hopper_gemm.FP16_FEW_TILES_CONFIG, hopper_gemm.FP16_CONFIG]
    for choice in choices[2:]:
        assert choice.all_kwargs() == hopper_gemm.INT8_CONFIG.all_kwargs() | {"GROUP_M": 12}


@pytest.mark.parametrize("M, N, few", [(99 * 128, 256, False), (98 * 128, 256, True), (98 * 128, 257, False),
                                       (98 * 128 + 1, 256, False), (33 * 128, 768, False), (128, 64, True)])
def test_large_fp16_tiles_for_three_quarters_of_the_gpu(M, N, few):
    config = hopper_gemm.choose_hopper(M, N, 4096, torch.float16, H200)
    assert config is (hopper_gemm.FP16_FEW_TILES_CONFIG if few else hopper_gemm.FP16_CONFIG)


@pytest.mark.parametrize("K, N, on_an_h100, on_an_h200", [  # the best measured, or within 5 % of it
    (2048, 2048, 2, 2), (2048, 6144, 12, 12), (2048, 22016, 8, 8), (11008, 2048, 4, 4), (4096, 4096, 12, 12),
    (4096, 6144, 4, 8), (4096, 14336, 4, 8), (4096, 28672, 4, 8), (14336, 4096, 4, 8),
    (8192, 8192, 4, 8), (8192, 28672, 4, 8)])
def test_rows_in_a_group(K, N, on_an_h100, on_an_h200):
    assert [rows_in_a_group(N, K, gpu) for gpu in (H100, H200)] == [on_an_h100, on_an_h200]


@pytest.mark.parametrize("N, K, changed, rows", [  # H100: 50 MiB of cache, 25 GB/s for each of 132
    (2048, 3200, {}, 2), (2048, 3201, {}, 4), (2049, 3200, {}, 12), (2176, 8031, {}, 12), (2176, 8032, {}, 4),
    (2176, 8031, {"multiprocessors": 121}, 11), (2176, 8031, {"multiprocessors": 122}, 12), (20_000, 2048, {}, 8),
    (20_000, 2049, {}, 4), (20_000, 2049, {"gb_per_s": 3960.0}, 8), (20_000, 2049, {"gb_per_s": 3959.0}, 4)])
def test_rows_in_a_group_on_both_sides_of_each_bound(N, K, changed, rows):
    assert rows_in_a_group(N, K, H100._replace(**changed)) == rows


@pytest.mark.parametrize("gpu, expected", [
    (H100_PCIE, [2, 11, 8, 4, 11, 4]),  # 114 multiprocessors: a square of 11 x 11 tiles
    (H100._replace(l2_bytes=10 << 20), [4, 8, 8, 4, 4, 4]),  # a cache that holds none of these
    (H100._replace(l2_bytes=1 << 30), [2, 12, 12, 2, 12, 12]),  # and one that holds all
    (H100._replace(multiprocessors=78, gb_per_s=4000.0), [2, 9, 8, 4, 9, 8])])
def test_rows_in_a_group_on_gpus_that_are_not_here(gpu, expected):
    shapes = [(2048, 2048), (2048, 6144), (2048, 22016), (11008, 2048), (4096, 4096), (8192, 8192)]
    assert [rows_in_a_group(N, K, gpu) for K, N in shapes] == expected


@pytest.mark.parametrize("module, missing", [
    (hopper, ["fence_async_shared"]), (gl, ["thread_barrier", "barrier"]), (gl, [])],
    ids=["not to import", "not there", "all there"])
def test_another_gluon_than_hoppers_kernel_needs_leaves_it_out(monkeypatch, module, missing):
    for name in missing:
        monkeypatch.delattr(module, name, raising=False)
    monkeypatch.delitem(sys.modules, "kernels.hopper_gemm")
    monkeypatch.delattr(kernels, "hopper_gemm")
    monkeypatch.setattr(tuning, "card", lambda where: H100)
    tuning._has_gluon.cache_clear()
    try:
        assert tuning.has_hopper_gemm(GPU) == (not missing)
    finally:
        tuning._has_gluon.cache_clear()


def test_descriptors_need_aligned_rows_that_do_not_overlap():
    base = torch.zeros(8, 64, dtype=torch.int8)
    assert tuning.descriptor_ready(base, base[::2], base[:, 16:])
    assert not tuning.descriptor_ready(base, base[:, 1:])
    assert not tuning.descriptor_ready(base.T)
    assert not tuning.descriptor_ready(base[:1].expand(8, 64))
