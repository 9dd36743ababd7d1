"""Nsight Compute's table read, and what is said where there is none."""

import csv
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from checks.bench import ncu, profile, profile_cases
from checks.bench.profile_cases import cases
from checks.bench.results import BadResults

RECORDED = (Path(__file__).parent / "recorded" / "ncu.csv").read_text()
"""Three launches of two cases on an H200, with the columns that are read."""


def test_launches_by_case_with_their_counters():
    found = ncu.read("==PROF== Connected\n" + RECORDED)
    assert {case: [row["kernel"] for row in rows] for case, rows in found.items()} == {
        9: ["gemv_fp16_kernel"], 55: ["decode_w8a8_kernel", "decode_reduce_kernel"]}
    row = found[9][0]
    assert (row["us"], row["ghz"], row["dram_pct"], row["registers"], row["programs"]) == (122.9, 1.928, 91.24, 39, 32768)
    assert list(row["stalls"])[:2] == ["long_scoreboard", "barrier"] and "gmma" not in row["stalls"]
    assert sum(row["stalls"].values()) == pytest.approx(100, abs=0.1)
    assert all(value is not None for rows in found.values() for row in rows for value in row.values())


def test_a_counter_that_ncu_did_not_give_is_none():
    row = next(csv.DictReader(RECORDED.splitlines())) | {"gpu__time_duration.sum": "n/a", "lts__t_bytes.sum": "1,234"}
    found = ncu.profile({name: value for name, value in row.items() if "registers" not in name})
    assert (found["us"], found["registers"], found["l2_bytes"]) == (None, None, 1234)


def test_each_counter_is_what_its_field_says():
    """In ncu's base units: only nanoseconds and hertz are turned into others."""
    assert {name: factor for name, (_, factor) in ncu.METRICS.items() if factor != 1} == {"us": 1e-3, "ghz": 1e-9}
    counted = {"us": "duration", "ghz": "cycles_elapsed", "instructions": "inst_executed", "l1": "l1tex", "l2": "lts",
               "programs": "grid_size", "threads": "block_size", "fit": "occupancy_limit", "shared": "shared_mem",
               "by": "", "read": "", "bytes": "", "busy": "cycles_active", "multiprocessors": "sm__", "occupancy": "warps",
               "limit": "", "written": "", "load": "_ld.", "store": "_st."}
    for name, (counter, _) in ncu.METRICS.items():
        assert not [word for word in name.split("_") if counted.get(word, word) not in counter], (name, counter)
        assert ("read" in name.split("_")) <= ("_ld" in counter or "read" in counter), name
        assert ("written" in name) <= ("_st" in counter or "write" in counter), name
    assert len({counter for counter, _ in ncu.METRICS.values()}) == len(ncu.METRICS)


@pytest.mark.parametrize("printed, message", [
    ("==ERROR== no kernels", "no table. It said:\n==ERROR== no kernels"),
    (RECORDED.replace("case 9/", ""), "a launch is in no NVTX range of a case: gemv_fp16_kernel"),
])
def test_tables_that_cannot_be_used(printed, message):
    with pytest.raises(ncu.NoProfile, match=message):
        ncu.read(printed)


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


@pytest.mark.parametrize(("text", "message"), [
    ('{"gpu": "A"', "is not whole JSON .*: restore it, or measure again with `python3 workshop.py profile`"),
    ("[]", "no profiles of this workshop: it needs date, gpu, ncu, proton, rows, torch, triton"),
    ('{"gpu": "A", "rows": []}', "no profiles of this workshop")])
def test_a_file_that_holds_no_profiles_is_said_to(tmp_path, monkeypatch, capsys, text, message):
    (tmp_path / "gpu_x.json").write_text(text)
    with pytest.raises(BadResults, match=message):
        profile.load(tmp_path / "gpu_x.json")
    monkeypatch.setattr(profile, "gpu_name", lambda: "GPU X")
    assert profile.main(["--lesson", "01", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"profile: {tmp_path / 'gpu_x.json'} is ")


OLD = {"gpu": "A", "torch": "2", "triton": "3", "ncu": "4", "date": "2026-01-02", "proton": {"name": "old"},
       "rows": [{"lesson": lesson, "us": us} for lesson, us in (("01", 1), ("07b", 2), ("07b", 3), ("09", 4))]}


def test_lessons_profiled_again_take_the_place_of_their_rows():
    rows = [{"lesson": "07b", "us": 5}, {"lesson": "11", "us": 6}]
    new = {**OLD, "date": "2026-02-03", "proton": {"name": "new"}, "rows": rows}
    both = profile.added(new, OLD)
    assert [(row["lesson"], row["us"]) for row in both["rows"]] == [("01", 1), ("07b", 5), ("09", 4), ("11", 6)]
    assert both["again"] == {"07b": "2026-02-03", "11": "2026-02-03"}
    assert (both["date"], both["proton"]) == ("2026-01-02", {"name": "new"})
    later = profile.added({**OLD, "date": "2026-03-04", "rows": [{"lesson": "11", "us": 7}]}, both)
    assert later["again"] == {"07b": "2026-02-03", "11": "2026-03-04"}
    assert [row["us"] for row in later["rows"]] == [1, 5, 4, 7]


@pytest.mark.parametrize(("said", "seen", "missing"), [
    ("case 12: odd", {3: 2}, ["case 12: odd", "case 1: f1: ncu saw no launch"]),
    ("==PROF== case 1:\ncase 3: it is too slow\ncase 1: no", {}, ["case 3: it is too slow", "case 1: no"]),
    ("case 12: a\ncase 01: b", {0: 1, 2: 1}, ["case 12: a", "case 01: b", "case 1: f1: ncu saw no launch",
                                              "case 3: f3: ncu saw no launch"]),
    ("case 0: no", {1: 1}, ["case 0: no", "case 3: f3: ncu saw no launch"]),
    ("", {1: 1, 3: 1}, [])])
def test_a_profile_says_what_it_holds_and_what_it_lacks(monkeypatch, tmp_path, said, seen, missing):
    """A case's number is that among all cases, chosen or not."""
    made = [profile_cases.Case("02" if number % 2 == 0 else "01", f"f{number}", number, number + 10, number + 20, None)
            for number in range(4)]
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU X")
    monkeypatch.setattr(profile_cases, "cases", lambda: made)
    monkeypatch.setattr(ncu, "find_ncu", lambda: fake_ncu(tmp_path, "echo NVIDIA; echo Version 9"))
    monkeypatch.setattr(ncu, "record", lambda program, command, *_: asked.append(command) or said)
    monkeypatch.setattr(ncu, "table", lambda *_: "a table")
    monkeypatch.setattr(ncu, "read", lambda printed: {case: [{"kernel": f"k{launch}"} for launch in range(launches)]
                                                      for case, launches in seen.items()})
    monkeypatch.setattr(profile, "_proton", lambda *_: {"name": "ROOT"})
    found, lacks = profile.run(tmp_path / "kept", ["01"])
    with pytest.raises(BadResults, match="there is no profiled lesson 06, 2; there are 02, 01$"):
        profile.run(None, ["06", "01", "2"])
    for name in ("gpu", "torch", "triton", "ncu"):
        with pytest.raises(BadResults, match=f"to add to have {name} another, and here it is "):
            profile.run(None, ["01"], {**found, name: "another"})
    old = {**found, "date": "2026-01-02", "rows": [{"lesson": "02", "function": "an older run's"}]}
    assert asked == [[*profile.WORKER, "--lessons", "01"]]
    assert lacks == missing and (found["gpu"], found["ncu"], found["proton"]) == ("GPU X", "Version 9", {"name": "ROOT"})
    rows = [("02" if case % 2 == 0 else "01", f"f{case}", case, case + 10, case + 20, launch, f"k{launch}")
            for case, launches in seen.items() for launch in range(launches)]
    fields = ("lesson", "function", "M", "K", "N", "launch", "kernel")
    assert [tuple(row[name] for name in fields) for row in found["rows"]] == [row for row in rows if row[0] == "01"]
    assert [(tmp_path / "kept" / name).read_text() for name in ("ncu.csv", "ncu.log")] == ["a table", said]
    assert profile.run(tmp_path / "kept", ["01"], old) == (profile.added(found, old), missing)
    every, _ = profile.run()
    assert asked[-1] == [*profile.WORKER, "--lessons", "02", "01"]
    assert [tuple(row[name] for name in fields) for row in every["rows"]] == rows


def test_every_case_is_told_from_all_others():
    named = [(case.function, case.M, case.K, case.N) for case in cases()]
    assert len(set(named)) == len(named)
    lessons = list(dict.fromkeys(case.lesson for case in cases()))
    assert lessons == ["01", "02", "05", "03", "04", "07", "07b", "08", "09", "11"]


def test_proton_runs_by_itself_where_it_writes(monkeypatch, tmp_path):
    asked = []

    def run(command, **options):
        asked.append((command, options["env"]))
        (tmp_path / "tree.hatchet").write_text('[{"frame": {"name": "ROOT"}, "metrics": {}, "children": []}]')
        return SimpleNamespace(stdout="out", stderr="err")

    monkeypatch.setattr(profile.subprocess, "run", run)
    assert profile._proton(tmp_path / "tree", {"A": "1"})["name"] == "ROOT"
    assert asked == [([sys.executable, "-P", "-m", "checks.bench.profile_cases", "--proton", str(tmp_path / "tree")],
                      {"A": "1"})]
    with pytest.raises(ncu.NoProfile, match="no tree. It said:\nouterr"):
        profile._proton(tmp_path / "another", {})


def test_what_is_recorded_is_what_is_profiled():
    assert {(case.lesson, case.function, case.M, case.K, case.N) for case in cases()} == {
        tuple(row[name] for name in ("lesson", "function", "M", "K", "N")) for row in profile.profiles()["rows"]}


def test_protons_tree():
    leaf = {"frame": {"name": "a_kernel"}, "metrics": {"count": 2, "time (ns)": 3000, "device_id": "0"}, "children": []}
    scope = {"frame": {"name": "a"}, "metrics": {"flops": 8.0}, "children": [leaf]}
    tree = profile.tree_of(json.loads(json.dumps({"frame": {"name": "ROOT"}, "metrics": {}, "children": [scope, leaf]})))
    assert tree["us"] == 6 and tree["children"][0] == {"name": "a", "calls": 0, "us": 3, "flops": 8, "children": [
        {"name": "a_kernel", "calls": 2, "us": 3, "children": []}]}
