"""Profiles from the command to the launches: what ncu is asked for, in which ranges cases run, which row a lesson gets."""

import csv
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from checks.bench import ncu, profile, profile_cases
from checks.bench.operands import Operands
from checks.bench.profile_cases import Case, cases
from checks.bench.results import BadResults
from kernels.runtime import INTERPRETED, device

HEADER = next(csv.reader([(Path(__file__).parent / "recorded" / "ncu.csv").read_text().splitlines()[0]]))


def test_ncu_is_asked_for_each_counter_once(tmp_path):
    fake = tmp_path / "ncu"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$CASE" > '
                    f"{tmp_path}/asked\ntouch {tmp_path}/report\necho said\necho more >&2\n")
    fake.chmod(0o755)
    environment = {**os.environ, "CASE": "from the environment"}
    assert ncu.record(str(fake), ["python", "-m", "cases"], tmp_path / "report", environment) == "said\nmore\n"
    asked = (tmp_path / "asked").read_text().splitlines()
    metrics = asked[asked.index("--metrics") + 1].split(",")
    assert len(metrics) == len(set(metrics)) == len(ncu.METRICS) + len(ncu.STALLS) and set(metrics) < set(HEADER)
    asked[asked.index("--metrics") + 1] = "METRICS"
    assert asked == ["--nvtx", "--profile-from-start", "off", "--cache-control", "all", "--clock-control", "none",
                     "--section", "LaunchStats", "--section", "Occupancy", "--metrics", "METRICS", "--export",
                     str(tmp_path / "report"), "--force-overwrite", "python", "-m", "cases", "from the environment"]
    assert all(name in HEADER for name, _ in ncu.METRICS.values())
    assert {name for name in HEADER if "issue_stalled" in name} == {ncu.STALL.format(reason) for reason in ncu.STALLS}


def test_ncu_s_table_is_printed_in_base_units(monkeypatch):
    asked = []
    monkeypatch.setattr(ncu.subprocess, "run", lambda command, **options: asked.append((command, options)) or
                        SimpleNamespace(stdout="a table", stderr="and more"))
    assert ncu.table("ncu", Path("x.ncu-rep")) == "a table"
    assert asked == [(["ncu", "--import", "x.ncu-rep", "--csv", "--page", "raw", "--print-units", "base",
                       "--print-kernel-base", "function", "--print-nvtx-rename", "kernel"],
                      {"capture_output": True, "text": True})]


@pytest.mark.parametrize(("here", "there", "found"), [("/a/ncu", "/b/ncu", "/a/ncu"), (None, "/b/ncu", "/b/ncu")])
def test_ncu_is_found_in_the_path_or_beside_cuda(monkeypatch, here, there, found):
    monkeypatch.setattr(ncu.shutil, "which", lambda name, path=None: {None: here, "/usr/local/cuda/bin": there}[path]
                        if name == "ncu" else None)
    assert ncu.find_ncu() == found


@pytest.mark.parametrize(("text", "factor", "number"), [
    ("1,234,567", 1, 1234567), ("12.34567", 1, 12.35), ("0.000123456", 1, 0.0001235), ("122912", 1e-3, 122.9),
    ("1928123456.7", 1e-9, 1.928), ("0", 1, 0), ("2.0", 1, 2), ("", 1, None), (None, 1, None), ("n/a", 1, None)])
def test_a_counter_has_four_digits_or_is_whole(text, factor, number):
    found = ncu._number(text, factor)
    assert found == number and type(found) is type(number)


def test_stalls_are_parts_of_the_cycles_the_largest_first():
    row = {ncu.STALL.format(reason): "0" for reason in ncu.STALLS}
    assert ncu.profile(row)["stalls"] == {}
    row |= {ncu.STALL.format("wait"): "1.5", ncu.STALL.format("selected"): "1", ncu.STALL.format("drain"): "3.5"}
    assert list(ncu.profile(row)["stalls"].items()) == [("drain", 58.33), ("wait", 25), ("selected", 16.67)]


# the command


@pytest.mark.parametrize(("lesson", "missing", "status"), [
    (None, [], 0), (["07b", "09"], [], 0), (None, ["case 3: f: no"], 1)])
def test_the_command_writes_what_was_found(monkeypatch, tmp_path, capsys, lesson, missing, status):
    asked = []
    found = {**dict.fromkeys(profile.FIELDS, "x"), "rows": [{"function": name} for name in "aab"]}
    monkeypatch.setattr(profile, "gpu_name", lambda: "GPU X")
    monkeypatch.setattr(profile, "run", lambda *given: asked.append(given) or (found, missing))
    if lesson:
        (tmp_path / "gpu_x.json").write_text(json.dumps(old := {**found, "rows": []}))
    options = ["--out", str(tmp_path), "--keep", str(tmp_path / "kept"), *(["--lesson", *lesson] if lesson else [])]
    assert profile.main(options) == status
    said = capsys.readouterr()
    assert asked == [(tmp_path / "kept", lesson, old if lesson else None)]
    assert profile.load(tmp_path / "gpu_x.json") == found
    assert said.out == f"3 launches of 2 functions, written to {tmp_path / 'gpu_x.json'}\n"
    assert said.err == "".join(f"profile: missing: {line}\n" for line in missing)


@pytest.mark.parametrize("error", [ncu.NoProfile("no"), BadResults("no"), FileNotFoundError("no")])
def test_a_profile_that_fails_ends_with_2_and_a_sentence(monkeypatch, tmp_path, capsys, error):
    def run(*_):
        raise error

    monkeypatch.setattr(profile, "gpu_name", lambda: "GPU X")
    monkeypatch.setattr(profile, "run", run)
    assert profile.main(["--out", str(tmp_path)]) == 2 and capsys.readouterr().err == "profile: no\n"
    assert not list(tmp_path.iterdir())


def test_a_lesson_gets_the_one_row_that_fits(monkeypatch):
    rows = [{"function": f, "M": M, "K": 8, "N": N, "launch": launch, "us": us} for f, M, N, launch, us in (
        ("f", 1, 2, 0, 10), ("f", 1, 2, 1, 11), ("f", 1, 3, 0, 12), ("g", 1, 2, 0, 13), ("f", 4, 3, 0, 14))]
    monkeypatch.setattr(profile, "profiles", lambda: {"rows": rows})
    assert [profile.profiled("f", N=2)["us"], profile.profiled("f", 1)["us"], profile.profiled("g")["us"],
            profile.profiled("f", M=1, N=3)["us"], profile.profiled("f", launch=0, M=4)["us"]] == [10, 11, 13, 12, 14]
    for function, launch, shape, count in (("f", 0, {}, 3), ("f", 0, {"N": 3}, 2), ("h", 0, {}, 0), ("g", 1, {"M": 1}, 0)):
        with pytest.raises(LookupError, match=f"^{count} profiles fit {function}, launch {launch}, .* K and N of one"):
            profile.profiled(function, launch, **shape)


def test_missing_profiles_say_what_to_run(monkeypatch, tmp_path):
    monkeypatch.setattr(profile, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no recorded profiles in .*profiles/nvidia_h200.json: .* profile"):
        profile.profiles()


@pytest.mark.parametrize("readable", [True, False])
def test_a_run_hands_on_what_it_was_given(monkeypatch, tmp_path, readable):
    """What ncu printed is kept before it is read: there it shows why it could not be."""
    asked, keep = [], tmp_path / "deep" / "kept"

    def read(printed):
        if not readable:
            raise ncu.NoProfile("no table")
        return {}

    def record(program, command, report, environment):
        assert report.parent.is_dir()
        return asked.append((program, report, environment)) or "said"

    monkeypatch.setenv("OF_THE_USER", "x")
    monkeypatch.setattr(profile, "gpu_name", lambda: "GPU X")
    monkeypatch.setattr(profile_cases, "cases", lambda: [])
    monkeypatch.setattr(profile.subprocess, "run", lambda command, **_: SimpleNamespace(
        stdout="ncu\nCopyright\nVersion 9\n" if command == ["an ncu", "--version"] else ""))
    for name, function in (("find_ncu", lambda: "an ncu"), ("record", record), ("read", read),
                           ("table", lambda program, report: asked.append((program, report)) or "printed")):
        monkeypatch.setattr(ncu, name, function)
    monkeypatch.setattr(profile, "_proton", lambda path, environment: asked.append((path, environment)) or {})
    if readable:
        assert profile.run(keep)[0]["ncu"] == "Version 9"
    else:
        with pytest.raises(ncu.NoProfile, match="no table"):
            profile.run(keep)
    (program, report, environment), *others = asked
    assert (program, environment["OF_THE_USER"], environment["PYTHONPATH"]) == ("an ncu", "x", profile.python_path())
    assert others == [("an ncu", report), *([(report.parent / "tree", environment)] if readable else [])]
    assert {path.name: path.read_text() for path in keep.iterdir()} == {"ncu.csv": "printed", "ncu.log": "said"}


# the cases


def gpu(monkeypatch):
    """What is asked of the GPU, in order."""
    did = []
    for target, name, value in (
            (torch.cuda, "synchronize", lambda: did.append("wait")),
            (torch.cuda, "empty_cache", lambda: did.append("empty")),
            (torch.cuda, "cudart", lambda: SimpleNamespace(cudaProfilerStart=lambda: did.append("start"),
                                                           cudaProfilerStop=lambda: did.append("stop"))),
            (torch.cuda.nvtx, "range_push", lambda name: did.append(name)),
            (torch.cuda.nvtx, "range_pop", lambda: did.append("pop"))):
        monkeypatch.setattr(target, name, value)
    return did


def test_each_case_runs_in_a_range_after_two_calls(monkeypatch, capsys):
    did = gpu(monkeypatch)

    def fails(case):
        raise ValueError("it cannot")

    made = [Case(lesson, name, 1, 2, 3, prepare or (lambda case: lambda: did.append(case.function)))
            for lesson, name, prepare in (("01", "f", None), ("02", "no", None), ("03", "g", fails), ("03", "h", None))]
    monkeypatch.setattr(profile_cases, "cases", lambda: made)
    profile_cases.profile_all(["01", "03"])
    assert did == ["f", "f", "wait", "start", "case 0", "f", "wait", "pop", "stop", "empty", "empty",
                   "h", "h", "wait", "start", "case 3", "h", "wait", "pop", "stop", "empty"]
    assert capsys.readouterr().err == "case 2: g: ValueError: it cannot\n"


def test_a_case_that_fails_while_it_is_profiled_ends_its_range(monkeypatch, capsys):
    did = gpu(monkeypatch)

    def call():
        did.append("call")
        if did.count("call") == 3:
            raise ValueError("out of memory")

    monkeypatch.setattr(profile_cases, "cases", lambda: [Case("01", "f", 1, 2, 3, lambda case: call)] * 2)
    profile_cases.profile_all(["01"])
    assert did[5:9] == ["call", "pop", "stop", "empty"] and did[-4:] == ["wait", "pop", "stop", "empty"]
    assert capsys.readouterr().err == "case 0: f: ValueError: out of memory\n"


def test_proton_watches_100_calls_of_each_product(monkeypatch):
    did, scopes = gpu(monkeypatch), []

    @contextmanager
    def scope(name, metrics):
        scopes.append((name, metrics))
        did.append("in")
        yield
        did.append("out")

    monkeypatch.setitem(sys.modules, "triton.profiler", SimpleNamespace(
        start=lambda path: did.append(path), scope=scope, finalize=lambda: did.append("end")))
    monkeypatch.setattr("triton.profiler", sys.modules["triton.profiler"], raising=False)
    monkeypatch.setattr(profile_cases, "Operands", lambda M, K, N: {"x": M})
    monkeypatch.setattr(profile_cases, "find", lambda name: lambda x: did.append((name, x)))
    profile_cases.proton(Path("a tree"))
    order = [("cuBLAS FP16", 16), ("matmul_int8", 16), ("cuBLAS FP16", 16384), ("matmul_int8", 16384)]
    assert did == [*order, "wait", "a tree", *(one for call in order for _ in range(100) for one in ("in", call, "out")),
                   "wait", "end"]
    shapes = {16: ("(16, 4,096, 4,096)", 16 * 4096 * 4096), 16384: ("(16,384, 2,048, 6,144)", 16384 * 2048 * 6144)}
    assert scopes == [(f"{name} {shapes[M][0]}", {"flops": 2.0 * shapes[M][1]}) for name, M in order for _ in range(100)]


class Asked:
    """In the place of `Operands`: each operand is its own name, of a shape that can be told."""

    def __init__(self, M, K, N, vector=False):
        self.given = M, K, N, vector

    def __getitem__(self, name):
        return name

    def arguments(self, function):
        return [(name, self.given) for name in profile_cases.operand_names(function)]


def test_a_vector_is_given_where_a_gemv_takes_one(monkeypatch):
    """And no matrix of one row, nor the other way round; each case has the sizes that it is known by."""
    monkeypatch.setattr(profile_cases, "Operands", Asked)
    for case in cases():
        gemv = case.M == 1 and case.N > 1 and (case.lesson == "01" or case.function.startswith("gemv_w8a16"))
        assert case.vector == gemv, case
        if case.prepare is profile_cases.by_name:
            call = case.prepare(case)
            assert call.func is profile_cases.find(case.function)
            assert {given for _, given in call.args} == {(case.M, case.K, case.N, case.vector)}


def test_functions_of_lessons_are_those_of_their_names(monkeypatch):
    monkeypatch.setattr(profile_cases, "Operands", Asked)
    for case in cases():
        if case.prepare.__qualname__.startswith("of_lesson"):
            call = case.prepare(case)
            assert call.func.__name__ == case.function
            assert {given for _, given in call.args} == {(case.M, case.K, case.N, False)}
        if case.lesson in ("07", "08") and case.prepare is not profile_cases.by_name:
            function = [cell.cell_contents for cell in case.prepare.__closure__ or ()] or [case.prepare]
            assert function[0].__name__.strip("_") == case.function


@pytest.mark.parametrize("stride", [1, 3])
def test_a_strided_copy_is_of_every_so_many_th_number(monkeypatch, stride):
    monkeypatch.setattr(profile_cases, "copy_2d", lambda x: x)
    monkeypatch.setattr(profile_cases, "device", lambda: torch.device("meta"))
    x = profile_cases._strided_copy(stride)(Case("01", "copy", 2, 5, 1, None))()
    assert x.device.type == "meta"
    assert x.shape == (2, 5) and x.stride() == (5 * stride, stride) and x.dtype == torch.float32


class Launched:
    """A kernel that notes its launch."""

    def __getitem__(self, grid):
        return lambda *given, **options: self.seen.append((grid, given, options))

    def __init__(self):
        self.seen = []


def test_kernels_are_launched_as_their_wrappers_launch_them(monkeypatch):
    kernel, naive = Launched(), Launched()
    monkeypatch.setattr(profile_cases, "gemv_fp16_kernel", kernel)
    monkeypatch.setattr(profile_cases, "matmul_fp16_naive_kernel", naive)
    profile_cases._gemv(2, 16)(Case("01", "gemv", 1, 24, 5, None, vector=True))()
    ((grid, (x, w, y, N, K, stride), blocks),) = kernel.seen
    assert grid == (3,) and (N, K, stride) == (5, 24, 24) and blocks == {"BLOCK_N": 2, "BLOCK_K": 16}
    assert (x.shape, w.shape, y.shape, y.dtype) == ((24,), (5, 24), (5,), torch.float16)
    profile_cases._naive(3)(Case("02", "naive", 130, 24, 300, None))()
    ((grid, (x, w, y, *sizes), options),) = naive.seen
    assert grid == (2, 3) and sizes == [130, 300, 24, 24, 24, 300]
    assert (x.shape, w.shape, y.shape, y.dtype) == ((130, 24), (300, 24), (130, 300), torch.float16)
    assert options == {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3}


def test_what_is_profiled_beside_the_benchmark(monkeypatch):
    did = []
    monkeypatch.setattr(profile_cases.gemv_int8, "gemv_w8a8_row", lambda *given: did.append(given))
    monkeypatch.setattr(profile_cases.perrow_w8a8, "perrow_w8a8_matmul", lambda *given, config: did.append((*given, config)))
    case, o = Case("08", "f", 2, 24, 5, None), Operands(2, 24, 5)
    profile_cases._gemv_w8a8_row(case)()
    profile_cases._by_tma(case)()
    row, tma = did
    assert all(torch.equal(a, b) for a, b in zip(row, (o["x_q"][0], o["x_scale"], o["w_q"], o["w_scale"]), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(tma, (o["x_q"], o["x_scale"], o["w_q"], o["w_scale"]), strict=False))
    assert tma[4] is profile_cases.perrow_w8a8.TMA_CONFIGS[0] and tma[0].device.type == device().type


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_without_a_gpu_there_is_nothing_to_profile():
    with pytest.raises(ncu.NoProfile, match="there is no GPU here, .*results/profiles"):
        profile.gpu_name()
