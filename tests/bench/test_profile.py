"""Nsight Compute's table read, and what is said where there is none."""

import json
import os

import pytest

from checks.bench import ncu, profile
from checks.bench.profile_cases import cases

COUNTERS = {
    "gpu__time_duration.sum": "6,432", "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": "61.2345678",
    "launch__registers_per_thread": "40", "sm__warps_active.avg.pct_of_peak_sustained_active": "n/a",
    ncu.STALL.format("long_scoreboard"): "6", ncu.STALL.format("wait"): "1.5", ncu.STALL.format("selected"): "0.5",
}


def table(*names):
    header = ["ID", "Kernel Name", *COUNTERS]
    units = ["", "", "nsecond", "%", "register/thread", "%", "inst", "inst", "inst"]
    rows = [header, units, *([str(place), name, *COUNTERS.values()] for place, name in enumerate(names))]
    return "==PROF== Connected\n" + "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows)


def test_launches_by_case_with_their_counters():
    names = ("gemv_fp16_kernel", "split_k_kernel", "split_k_reduce_kernel")
    found = ncu.read(table(*names), table("case 0", "case 7", "case 7"))
    assert {case: [row["kernel"] for row in rows] for case, rows in found.items()} == {
        0: ["gemv_fp16_kernel"], 7: ["split_k_kernel", "split_k_reduce_kernel"]}
    row = found[0][0]
    assert (row["us"], row["dram_pct"], row["registers"], row["occupancy_pct"]) == (6.432, 61.23, 40, None)
    assert row["stalls"] == {"long_scoreboard": 75, "wait": 18.75, "selected": 6.25}


@pytest.mark.parametrize("said, by_range, message", [
    ("==ERROR== no kernels", table("case 0"), "no table. It said:\n==ERROR== no kernels"),
    (table("gemv_fp16_kernel"), table("gemv_fp16_kernel"), "the launch of gemv_fp16_kernel is in no NVTX range"),
])
def test_tables_that_cannot_be_used(said, by_range, message):
    with pytest.raises(ncu.NoProfile, match=message):
        ncu.read(said, by_range)


def fake_ncu(folder, script):
    path = folder / "ncu"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return str(path)


def test_no_ncu_no_permission_and_no_kernels(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ncu.shutil, "which", lambda name, path=None: None)
    with pytest.raises(ncu.NoProfile, match="there is no ncu here"):
        ncu.find_ncu()
    environment = {**os.environ, "PATH": "/bin:/usr/bin"}
    for script, message in (("echo '==ERROR== ERR_NVGPUCTRPERM - The user'", "Run as root"),
                            ("echo nothing; exit 3", "ended with 3. It said:\nnothing")):
        with pytest.raises(ncu.NoProfile, match=message):
            ncu.record(fake_ncu(tmp_path, script), ["true"], tmp_path / "none.ncu-rep", environment)


def test_the_command_says_that_there_is_no_gpu(capsys):
    assert profile.main([]) == 2
    assert "profile: there is no GPU here" in capsys.readouterr().err


def test_every_case_is_told_from_all_others():
    named = [(case.function, case.M, case.K, case.N) for case in cases()]
    assert len(set(named)) == len(named)


def test_protons_tree():
    leaf = {"frame": {"name": "a_kernel"}, "metrics": {"count": 2, "time (ns)": 3000, "device_id": "0"}, "children": []}
    scope = {"frame": {"name": "a"}, "metrics": {"flops": 8.0}, "children": [leaf]}
    tree = profile.tree_of(json.loads(json.dumps({"frame": {"name": "ROOT"}, "metrics": {}, "children": [scope, leaf]})))
    assert tree["us"] == 6 and tree["children"][0] == {"name": "a", "calls": 0, "us": 3, "flops": 8, "children": [
        {"name": "a_kernel", "calls": 2, "us": 3, "children": []}]}
