"""The picture and the tree of lesson 09's profiles."""

import drawn
import numpy as np

from checks.bench.ncu import STALLS
from checks.bench.profile import profiles
from checks.pictures import profiling
from kernels.profiling import better_change


def test_each_profile_with_its_units_and_what_warps_wait_for():
    figure, rows = profiling.show_profiles(), profiling.shown_profiles()
    axes = figure.axes[0]
    assert np.allclose(drawn.image(axes), [[row[unit] for unit in profiling.UNITS] for row in rows])
    assert drawn.ticks(axes, "y")[0] == "gemv_fp16 (1, 4,096, 65,536)" and drawn.ticks(axes)[0] == "DRAM"
    assert profiles()["gpu"] in axes.get_title("right")
    reasons = [text.get_text() for text in axes.child_axes[0].get_yticklabels()]
    assert len(reasons) == len(rows) and reasons[0].startswith("a load from memory or a cache ")


def test_each_stall_in_words_and_executing_is_none():
    assert set(profiling.STALLS) == set(STALLS)
    stalls = {"selected": 60.0, "wait": 30.0, "drain": 10.0}
    assert profiling.most_waited_for({"stalls": stalls}) == ("its last instruction", 30)


def test_changes_as_predicted_and_as_measured(capsys):
    profiling.show_changes(better_change)
    lines = capsys.readouterr().out.splitlines()
    naive, grouped = (profiling.profiled(name) for name in ("matmul_fp16_naive", "matmul_fp16_grouped"))
    least = naive["us"] * grouped["l2_bytes"] / naive["l2_bytes"]  # the L2 cache stays the busiest unit
    assert lines[0] == f"matmul_fp16_naive: {naive['us']:.1f} us" and len(lines) == 8
    assert lines[1].split()[2::2] == [f"{least:.1f}", "measured", "us"]
    assert lines[1].endswith(f"measured {grouped['us']:6.1f} us")


def test_the_tree_with_each_kernels_part_of_its_scope(monkeypatch, capsys):
    kernels = [{"name": "_ZN8cublasLt19splitKreduce", "calls": 100, "us": 250.0, "children": []},
               {"name": "a_kernel", "calls": 100, "us": 750.0, "children": []}]
    scope = {"name": "a scope", "calls": 0, "us": 1000.0, "flops": 3e9, "children": kernels}
    monkeypatch.setattr(profiling, "profiles", lambda: {"proton": {"children": [scope]}})
    profiling.show_tree()
    assert capsys.readouterr().out.splitlines() == [
        "  10.0 us        a scope: 3 TFLOPS or TOPS", "   7.5 us   75%    a_kernel", "   2.5 us   25%    splitKreduce"]
