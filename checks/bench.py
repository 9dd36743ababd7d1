"""The figures in `results/`: measured on a GPU by one command, one JSON file for each kind of GPU."""

import argparse
import datetime
import functools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import triton

import kernels
from checks.measure import time_us
from checks.source import ROOT
from kernels import cost
from kernels.runtime import INTERPRETED

RESULTS = ROOT / "results"
GEMV_K = 4096
GEMV_N = (1024, 2048, 4096, 8192, 16384, 32768, 65536)


def gemv_rows(functions: dict[str, Callable], sizes=GEMV_N, K: int = GEMV_K) -> list[dict]:
    """Time y = W x by name of function for W (N, K), N in `sizes`; a row for each function and size.

    Every result is compared with one in float64 before its time counts; raises AssertionError where it is wrong.
    """
    rows = []
    for N in sizes:
        x, w = torch.randn(K, device="cuda").half(), torch.randn(N, K, device="cuda").half()
        exact = w.double() @ x.double()
        # Half a step of FP16, and FP32 accumulation: see checks/exercises/gemv.py.
        tolerance = 2.0**-11 * exact.abs() + K * 2.0**-24 * (w.double().abs() @ x.double().abs())
        for name, function in functions.items():
            if not ((function(x, w).double() - exact).abs() <= tolerance).all():
                raise AssertionError(f"{name} is wrong at N={N}, K={K}")
        timings = time_us({name: functools.partial(function, x, w) for name, function in functions.items()})
        moved = cost.gemv_bytes(N, K)
        rows += [{"function": name, "N": N, "K": K, "bytes": moved, "median_us": t.median_us, "low_us": t.low_us,
                  "high_us": t.high_us, "gb_per_s": moved / t.median_us / 1e3} for name, t in timings.items()]
    return rows


def copy_gb_per_s(num_bytes: int = 1 << 31) -> float:
    """Bytes read plus bytes written in a second by a copy on this GPU, in GB/s: the roof of what memory gives."""
    source = torch.randint(-100, 100, (num_bytes,), dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    return 2 * num_bytes / time_us({"copy": lambda: target.copy_(source)}, repeats=20)["copy"].median_us / 1e3


def record(out: Path) -> Path:
    """Measure everything on this GPU and write it to `out`; returns the file."""
    name = torch.cuda.get_device_name()
    figures = {
        "gpu": name,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "date": datetime.date.today().isoformat(),
        "copy_gb_per_s": copy_gb_per_s(),
        "gemv_fp16": gemv_rows({"torch (cuBLAS)": lambda x, w: w @ x, "gemv_fp16_row": kernels.gemv_fp16_row,
                                "gemv_fp16": kernels.gemv_fp16}),
    }
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name.lower().replace(' ', '_')}.json"
    handle, draft = tempfile.mkstemp(dir=out)
    with os.fdopen(handle, "w") as file:
        json.dump(figures, file, indent=1)
    Path(draft).replace(path)  # whole or not at all
    return path


def recorded() -> dict:
    """The figures of the first GPU in `results/`. Raises FileNotFoundError where there are none."""
    files = sorted(RESULTS.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"there are no recorded figures in {RESULTS}: run `python3 workshop.py bench` on a GPU")
    return json.loads(files[0].read_text())


def draw(figures: dict, out: Path) -> None:
    """Write the pictures of `figures` into `out`."""
    from checks.pictures import bandwidth_figure

    title = f"y = W x in FP16, measured on an {figures['gpu']}"
    figure = bandwidth_figure(figures["gemv_fp16"], figures["copy_gb_per_s"], title)
    figure.savefig(out / "gemv_fp16.png", dpi=120, metadata={"Software": None})


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="workshop.py bench", description="Measure the kernels on this machine's GPU.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the figures (default: results/)")
    parser.add_argument("--redraw", action="store_true", help="only draw the pictures again from the recorded figures")
    args = parser.parse_args(argv)
    if args.redraw:
        draw(recorded(), args.out)
        return 0
    if INTERPRETED:
        print("There is no GPU here: kernels run in Triton's interpreter, whose times are not speeds. Nothing measured.")
        return 1
    path = record(args.out)
    draw(json.loads(path.read_text()), args.out)
    for row in json.loads(path.read_text())["gemv_fp16"]:
        print(f"{row['function']:16} N={row['N']:6} K={row['K']}  {row['median_us']:8.2f} us  {row['gb_per_s']:7.0f} GB/s")
    print(f"written to {path}")
    return 0
