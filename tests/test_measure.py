import json

import pytest
import torch

from checks import bench
from checks.measure import time_us
from kernels import cost
from kernels.runtime import INTERPRETED


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_without_a_gpu_no_time_is_given_out_as_a_speed(capsys, tmp_path):
    with pytest.raises(RuntimeError, match="no speed to measure"):
        time_us({"nothing": lambda: None})
    assert bench.main(["--out", str(tmp_path)]) == 1
    assert "Nothing measured" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(INTERPRETED, reason="there is no GPU")
def test_times_are_positive_and_a_longer_copy_takes_longer():
    short, long = (torch.empty(n, dtype=torch.int8, device="cuda") for n in (1 << 20, 1 << 28))
    times = time_us({"short": lambda: short.clone(), "long": lambda: long.clone()}, repeats=20)
    assert 0 < times["short"].low_us <= times["short"].median_us <= times["short"].high_us
    assert times["long"].median_us > times["short"].median_us


def test_recorded_figures_are_whole_and_consistent():
    figures = bench.recorded()
    assert figures["gpu"] and figures["copy_gb_per_s"] > 0
    for row in figures["gemv_fp16"]:
        assert row["bytes"] == cost.gemv_bytes(row["N"], row["K"])
        assert row["gb_per_s"] == pytest.approx(row["bytes"] / row["median_us"] / 1e3)
        assert row["low_us"] <= row["median_us"] <= row["high_us"]
        assert row["gb_per_s"] < 1.02 * figures["copy_gb_per_s"], "faster than memory: the cache was not flushed"


def test_a_missing_results_folder_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="workshop.py bench"):
        bench.recorded()
    (tmp_path / "a.json").write_text(json.dumps({"gpu": "x"}))
    assert bench.recorded() == {"gpu": "x"}


@pytest.mark.skipif(INTERPRETED, reason="there is no GPU")
def test_a_wrong_function_is_not_timed():
    with pytest.raises(AssertionError, match="liar is wrong at N=8"):
        bench.gemv_rows({"liar": lambda x, w: x.new_zeros(len(w))}, sizes=[8], K=64)
