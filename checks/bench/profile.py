"""`python3 workshop.py profile`: Nsight Compute's counters for the lessons' kernels, into `results/profiles/<gpu>.json`.

A file holds the GPU, the software and `rows`, one for each launch of each case of `checks.bench.profile_cases`: lesson,
function, M, K, N, `launch` (0 for the first kernel that the function launches), `kernel`, and the fields of
`checks.bench.ncu.METRICS`; also `proton`, the tree that Triton's own profiler wrote. In a lesson: `profiles()` gives the
recorded file, `profiled("gemv_fp16", N=4096)` one row of it.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from checks.bench import ncu
from checks.bench.results import RECORDED, RESULTS, BadResults, chosen, expect_same, file_name, read_json, save
from checks.paths import python_path

FOLDER = "profiles"
FIELDS = {"gpu", "torch", "triton", "ncu", "date", "rows", "proton"}
WORKER = [sys.executable, "-P", "-m", "checks.bench.profile_cases"]


def profiles() -> dict:
    """The recorded profiles. Raises FileNotFoundError where there are none, BadResults where the file is none of them."""
    path = RESULTS / FOLDER / RECORDED
    if not path.exists():
        raise FileNotFoundError(f"there are no recorded profiles in {path}: restore that file, or run "
                                "`python3 workshop.py profile` on an H100 or H200")
    return load(path)


def load(path: Path) -> dict:
    """The profiles in a file. Raises BadResults where it is not one that `profile` wrote, whole; OSError where there is
    none."""
    found = read_json(path, "profile")
    if not isinstance(found, dict) or not FIELDS.issubset(found):
        raise BadResults(f"{path} is JSON, but no profiles of this workshop: it needs {', '.join(sorted(FIELDS))}")
    return found


def profiled(function: str, launch: int = 0, **shape: int) -> dict:
    """The recorded row of a function at the shape that `shape` gives (M, K, N, as far as needed).

    Raises LookupError where not exactly one row fits.
    """
    rows = [row for row in profiles()["rows"] if row["function"] == function and row["launch"] == launch
            and all(row[name] == size for name, size in shape.items())]
    if len(rows) != 1:
        raise LookupError(f"{len(rows)} profiles fit {function}, launch {launch}, {shape}: give M, K and N of one")
    return rows[0]


def gpu_name() -> str:
    """This machine's GPU. Raises ncu.NoProfile where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise ncu.NoProfile("there is no GPU here, and a profile is read from a GPU's counters. The recorded ones are in "
                            f"{RESULTS / FOLDER}.")
    return torch.cuda.get_device_name()


def run(keep: Path | None = None, lessons: Sequence[str] | None = None, old: dict | None = None) -> tuple[dict, list[str]]:
    """Profile the cases of `lessons`, or all, on this machine's GPU: what the file holds, and what is missing and why.

    `keep`: a folder for ncu's table and messages, as it printed them. `old`: the profiles to add to. Raises ncu.NoProfile
    where nothing can be profiled, BadResults for a lesson without a case, and for `old` of another GPU or other software.
    """
    import torch
    import triton

    from checks.bench.profile_cases import cases

    program, environment = ncu.find_ncu(), {**os.environ, "PYTHONPATH": python_path()}
    lessons = chosen(dict.fromkeys(case.lesson for case in cases()), lessons, "profiled lesson")
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip().splitlines()[-1:]
    header = {"gpu": gpu_name(), "torch": torch.__version__, "triton": triton.__version__,
              "ncu": "".join(version), "date": datetime.date.today().isoformat()}
    if old:
        expect_same(header, old, ("gpu", "torch", "triton", "ncu"))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "cases.ncu-rep")
        said = ncu.record(program, [*WORKER, "--lessons", *lessons], report, environment)
        printed = ncu.table(program, report)
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            for name, text in (("ncu.csv", printed), ("ncu.log", said)):
                (keep / name).write_text(text)
        found = ncu.read(printed)
        missing = [line for line in said.splitlines() if line.startswith("case ")]
        rows = []
        for number, case in enumerate(cases()):
            if case.lesson not in lessons:
                continue
            if number not in found and not any(line.startswith(f"case {number}:") for line in missing):
                missing.append(f"case {number}: {case.function}: ncu saw no launch")
            for launch, profile in enumerate(found.get(number, [])):
                rows.append({"lesson": case.lesson, "function": case.function, "M": case.M, "K": case.K, "N": case.N,
                             "launch": launch, **profile})
        new = {**header, "rows": rows, "proton": _proton(Path(folder, "tree"), environment)}
        return added(new, old) if old else new, missing


def added(new: dict, old: dict) -> dict:
    """The profiles `old` with those of the lessons in `new` in their place, `new`'s tree, and in `again` the day of each."""
    again = old.get("again", {}) | {row["lesson"]: new["date"] for row in new["rows"]}
    rows = [row for row in old["rows"] if row["lesson"] not in {row["lesson"] for row in new["rows"]}] + new["rows"]
    return {**old, "again": again, "rows": sorted(rows, key=lambda row: row["lesson"]), "proton": new["proton"]}


def _proton(path: Path, environment: dict[str, str]) -> dict:
    done = subprocess.run([*WORKER, "--proton", str(path)], capture_output=True, text=True, env=environment)
    tree = path.with_suffix(".hatchet")
    if not tree.exists():
        raise ncu.NoProfile("Proton wrote no tree. It said:\n" + (done.stdout + done.stderr)[-2000:])
    return tree_of(json.loads(tree.read_text())[0])


def tree_of(node: dict) -> dict:
    """Proton's tree (Hatchet's JSON) as name, calls and microseconds of kernels, each scope's being those below it."""
    children = [tree_of(child) for child in node["children"]]
    metrics = node["metrics"]
    us = metrics.get("time (ns)", 0) / 1e3 + sum(child["us"] for child in children)
    scope = {"flops": metrics["flops"]} if "flops" in metrics else {}
    return {"name": node["frame"]["name"], "calls": metrics.get("count", 0), "us": us, **scope, "children": children}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="workshop.py profile", description="Profile the lessons' kernels with Nsight "
                                     "Compute on this machine's GPU, an H100 or H200.")
    parser.add_argument("--out", type=Path, default=RESULTS / FOLDER, help="folder for the file (default: results/profiles)")
    parser.add_argument("--keep", type=Path, help="folder for ncu's own table and messages")
    parser.add_argument("--lesson", nargs="+", metavar="LESSON", help="profile the kernels of these lessons alone, such "
                        "as 07b, and put them into the file that is there")
    args = parser.parse_args(argv)
    try:
        path = args.out / file_name(gpu_name())
        found, missing = run(args.keep, args.lesson, load(path) if args.lesson else None)
    except (ncu.NoProfile, BadResults, FileNotFoundError) as error:
        print(f"profile: {error}", file=sys.stderr)
        return 2
    save(found, path)
    for line in missing:
        print(f"profile: missing: {line}", file=sys.stderr)
    print(f"{len(found['rows'])} launches of {len({row['function'] for row in found['rows']})} functions, written to {path}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
