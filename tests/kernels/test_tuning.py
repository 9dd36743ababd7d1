"""How a configuration is chosen on GPUs that are not here: what fits is timed, once per bucket of rows."""

import pytest
import torch

from kernels import hopper_gemm, matmul, perrow_w8a8, tuning

CONFIGS = perrow_w8a8.GROUPED_CONFIGS
SMALL, LARGE = 101376, 232448  # bytes of shared memory a program may have on sm_86 and sm_89, and on sm_90
MICROSECONDS = dict(zip(map(id, CONFIGS), [5, 4, 3, 2, 1, 0.5], strict=True))


@pytest.fixture
def gpu(monkeypatch):
    """A pretended GPU: `limit` bytes of shared memory, not Hopper. Gives the configs timed on it."""
    launched, timed = [], []

    def bench(run, **options):
        run()
        timed.append(launched[-1])
        return MICROSECONDS[id(launched[-1])]

    monkeypatch.setattr(tuning, "_chosen", {})
    monkeypatch.setattr(tuning, "INTERPRETED", False)
    monkeypatch.setattr(tuning, "capability", lambda: (8, 6))
    monkeypatch.setattr(tuning, "shared_memory_limit", lambda: SMALL)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(tuning.triton.testing, "do_bench", bench)
    return launched, timed


def choose(launched, M, N=256, K=512):
    return tuning.choose("kernel", CONFIGS, (M, N, K), torch.int8, launched.append)


def test_the_fastest_that_fits_is_timed_once_per_bucket(gpu):
    launched, timed = gpu
    fitting = [config for config in CONFIGS if tuning.shared_bytes(config, torch.int8) <= SMALL]
    best = min(fitting, key=lambda config: MICROSECONDS[id(config)])
    assert choose(launched, 100) is choose(launched, 128) is best
    assert timed == fitting
    choose(launched, 129)
    choose(launched, 10_000)
    choose(launched, 90_000)  # the same bucket as the line above
    assert len(timed) == 3 * len(fitting)


def test_inside_a_cuda_graph_nothing_is_timed(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert tuning.shared_bytes(choose(gpu[0], 100), torch.int8) <= SMALL
    assert gpu[1] == [] and tuning._chosen == {}


def test_a_gpu_too_small_is_named(gpu, monkeypatch):
    monkeypatch.setattr(tuning, "shared_memory_limit", lambda: 16384)
    with pytest.raises(RuntimeError, match="no configuration of kernel fits the shared memory of this GPU"):
        choose(gpu[0], 100)


def test_hopper_needs_no_timing(gpu, monkeypatch):
    monkeypatch.setattr(tuning, "capability", lambda: (9, 0))
    monkeypatch.setattr(tuning, "multiprocessors", lambda: 132)
    assert choose(gpu[0], 16384, N=2048) is CONFIGS[0]
    assert choose(gpu[0], 65, N=2048) is CONFIGS[1]
    assert gpu[1] == []


@pytest.mark.parametrize("configs, dtype", [
    (matmul.GROUPED_CONFIGS, torch.float16), (matmul.TMA_CONFIGS, torch.float16),
    (perrow_w8a8.GROUPED_CONFIGS, torch.int8), (perrow_w8a8.TMA_CONFIGS, torch.int8),
])
def test_lists_of_configs(configs, dtype):
    assert len(configs) <= 8
    assert all(tuning.shared_bytes(config, dtype) <= LARGE for config in configs)
    assert sum(tuning.shared_bytes(config, dtype) <= SMALL for config in configs) >= 2
    sides = [(config.kwargs["BLOCK_M"], config.kwargs["BLOCK_N"]) for config in configs[:3]]
    assert sides == [(128, 128), (64, 64), (64, 64)]  # the places that `place_on_hopper` means


@pytest.mark.parametrize("M, N, place", [
    (65, 2048, 1), (256, 2048, 1), (512, 2048, 2), (256, 4096, 2), (384, 4096, 0), (640, 2048, 0), (65, 22016, 0)])
def test_place_on_hopper(M, N, place):
    assert tuning.place_on_hopper(M, N, sms=132) == place


def test_choose_hopper():
    choices = [hopper_gemm.choose_hopper(M, 4096, dtype, sms=132) for M, dtype in [
        (512, torch.float16), (2048, torch.float16), (512, torch.int8), (2048, torch.int8)]]
    assert choices == [hopper_gemm.FP16_FEW_TILES_CONFIG, hopper_gemm.FP16_CONFIG, *[hopper_gemm.INT8_CONFIG] * 2]


def test_descriptors_need_aligned_rows_that_do_not_overlap():
    base = torch.zeros(8, 64, dtype=torch.int8)
    assert tuning.descriptor_ready(base, base[::2], base[:, 16:])
    assert not tuning.descriptor_ready(base, base[:, 1:])
    assert not tuning.descriptor_ready(base.T)
    assert not tuning.descriptor_ready(base[:1].expand(8, 64))
