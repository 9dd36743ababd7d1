"""Nsight Compute, NVIDIA's profiler of single kernels: which counters are asked for, its command, its table read.

Counters are named as `ncu --query-metrics --chips gh100` lists them. What each means: NVIDIA, Nsight Compute, "Kernel
Profiling Guide", Metrics Reference. A part of a peak is in per cent of what the unit can sustain, over the kernel's time.
"""

import csv
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

OF_PEAK = "avg.pct_of_peak_sustained_elapsed"
METRICS = {
    "us": ("gpu__time_duration.sum", 1e-3),
    "ghz": ("gpc__cycles_elapsed.avg.per_second", 1e-9),
    "dram_pct": (f"gpu__dram_throughput.{OF_PEAK}", 1),
    "dram_read_bytes": ("dram__bytes_read.sum", 1),
    "dram_written_bytes": ("dram__bytes_write.sum", 1),
    "l2_pct": (f"lts__throughput.{OF_PEAK}", 1),
    "l2_bytes": ("lts__t_bytes.sum", 1),
    "l2_hit_pct": ("lts__t_sector_hit_rate.pct", 1),
    "l1_pct": (f"l1tex__throughput.{OF_PEAK}", 1),
    "l1_hit_pct": ("l1tex__t_sector_hit_rate.pct", 1),
    "tensor_pct": (f"sm__pipe_tensor_cycles_active.{OF_PEAK}", 1),
    "fma_pct": (f"sm__inst_executed_pipe_fma.{OF_PEAK}", 1),
    "alu_pct": (f"sm__inst_executed_pipe_alu.{OF_PEAK}", 1),
    "xu_pct": (f"sm__inst_executed_pipe_xu.{OF_PEAK}", 1),
    "lsu_pct": (f"sm__inst_executed_pipe_lsu.{OF_PEAK}", 1),
    "issue_pct": (f"sm__issue_active.{OF_PEAK}", 1),
    "instructions": ("smsp__inst_executed.sum", 1),
    "busy_multiprocessors_pct": (f"sm__cycles_active.{OF_PEAK}", 1),
    "occupancy_pct": ("sm__warps_active.avg.pct_of_peak_sustained_active", 1),
    "occupancy_limit_pct": ("sm__maximum_warps_per_active_cycle_pct", 1),
    "fit_by_registers": ("launch__occupancy_limit_registers", 1),
    "fit_by_shared": ("launch__occupancy_limit_shared_mem", 1),
    "fit_by_warps": ("launch__occupancy_limit_warps", 1),
    "programs": ("launch__grid_size", 1),
    "threads": ("launch__block_size", 1),
    "waves": ("launch__waves_per_multiprocessor", 1),
    "registers": ("launch__registers_per_thread", 1),
    "shared_bytes": ("launch__shared_mem_per_block", 1),
    "sectors_per_load": ("l1tex__average_t_sectors_per_request_pipe_lsu_mem_global_op_ld.ratio", 1),
    "sectors_per_store": ("l1tex__average_t_sectors_per_request_pipe_lsu_mem_global_op_st.ratio", 1),
    "local_read_bytes": ("l1tex__t_bytes_pipe_lsu_mem_local_op_ld.sum", 1),
    "local_written_bytes": ("l1tex__t_bytes_pipe_lsu_mem_local_op_st.sum", 1),
}
"""A profile's fields, the counter of each, and what its base unit is multiplied by."""

STALLS = ("barrier", "branch_resolving", "dispatch_stall", "drain", "gmma", "imc_miss", "lg_throttle", "long_scoreboard",
          "math_pipe_throttle", "membar", "mio_throttle", "misc", "no_instruction", "not_selected", "selected",
          "short_scoreboard", "sleeping", "tex_throttle", "wait")
"""What a warp may be doing in a cycle: issuing an instruction ("selected"), or waiting for one of these reasons."""
STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"

CASE = re.compile(r"case (\d+)/(.+)")
"""A launch as ncu names it: the NVTX range around the launches of a case, and the kernel."""

NO_PERMISSION = ("ncu may not read this GPU's counters (ERR_NVGPUCTRPERM). Run as root, or let the machine's administrator "
                 "allow it: https://developer.nvidia.com/ERR_NVGPUCTRPERM")


class NoProfile(RuntimeError):
    """Nsight Compute gave nothing that can be used; the message says why and what to do."""


def find_ncu() -> str:
    """The path of `ncu`. Raises NoProfile where it is not installed."""
    found = shutil.which("ncu") or shutil.which("ncu", path="/usr/local/cuda/bin")
    if found is None:
        raise NoProfile("there is no ncu here. It is NVIDIA Nsight Compute's command and comes with the CUDA toolkit: "
                        "install that, add its folder to PATH and run this again.")
    return found


def record(ncu: str, command: Sequence[str], report: Path, environment: dict[str, str]) -> str:
    """Run `command` under ncu, which profiles what the program itself marks, into `report`; gives what both said.

    Caches are flushed before each kernel, as the benchmark does; the clocks are left as they are. Raises NoProfile.
    """
    metrics = [counter for counter, _ in METRICS.values()] + [STALL.format(reason) for reason in STALLS]
    done = subprocess.run(
        [ncu, "--nvtx", "--profile-from-start", "off", "--cache-control", "all", "--clock-control", "none",
         "--section", "LaunchStats", "--section", "Occupancy", "--metrics", ",".join(metrics),
         "--export", str(report), "--force-overwrite", *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    if "ERR_NVGPUCTRPERM" in done.stdout:
        raise NoProfile(NO_PERMISSION)
    if not report.exists():
        raise NoProfile(f"ncu profiled nothing and ended with {done.returncode}. It said:\n" + done.stdout[-2000:])
    return done.stdout


def table(ncu: str, report: Path) -> str:
    """The report as CSV, a row for each launch."""
    return subprocess.run(
        [ncu, "--import", str(report), "--csv", "--page", "raw", "--print-units", "base", "--print-kernel-base", "function",
         "--print-nvtx-rename", "kernel"], capture_output=True, text=True).stdout


def read(printed: str) -> dict[int, list[dict]]:
    """The profiles of each case's launches, in their order, from ncu's table. Raises NoProfile."""
    found: dict[int, list[dict]] = {}
    for row in _rows(printed):
        launch = CASE.fullmatch(row["Kernel Name"])
        if launch is None:
            raise NoProfile(f"a launch is in no NVTX range of a case: {row['Kernel Name']}")
        found.setdefault(int(launch[1]), []).append({"kernel": launch[2], **profile(row)})
    return found


def profile(row: dict[str, str]) -> dict:
    """One launch's counters under the names of METRICS, and `stalls`: each reason's part of the warps' cycles, in per cent.

    A counter that ncu did not give is None.
    """
    fields = {name: _number(row.get(counter), factor) for name, (counter, factor) in METRICS.items()}
    cycles = {reason: _number(row.get(STALL.format(reason)), 1) or 0.0 for reason in STALLS}
    whole = sum(cycles.values())
    ordered = sorted(cycles.items(), key=lambda item: -item[1])
    return {**fields, "stalls": {reason: _rounded(100 * part / whole) for reason, part in ordered if whole and part}}


def _rows(printed: str) -> list[dict[str, str]]:
    lines = printed.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise NoProfile("ncu printed no table. It said:\n" + printed[-2000:])
    return list(csv.DictReader(lines[start:]))[1:]  # the first row holds the units


def _number(text: str | None, factor: float) -> float | int | None:
    try:
        return _rounded(float((text or "").replace(",", "")) * factor)
    except ValueError:
        return None


def _rounded(value: float) -> float | int:
    """Four digits, or all of a whole number: more is not known from one run."""
    return int(value) if value == int(value) else float(f"{value:.4g}")
