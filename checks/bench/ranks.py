"""`python3 workshop.py bench --ranks 2`: the products, the MLP and a block of Llama 3 8B on one GPU and on several.

Each part runs under a deadline in processes that are kept for the next; one that fails or hangs costs that part alone, and
the processes are started anew. The figures go into `results/ranks/`.
"""

import datetime
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import triton

from checks.bench import rank_parts
from checks.bench.results import BadResults, file_name
from checks.files import write_atomically
from checks.paths import ROOT
from checks.ranks.processes import RankFailed, Ranks
from kernels.runtime import INTERPRETED

FOLDER = ROOT / "results" / "ranks"
RECORDED = "nvidia_h200_x2.json"
"""The file whose figures lesson 12 shows."""
SCHEMA = 1
PART_S = 100
ALL_S = 300
"""For all parts together: what is not reached by then is left out."""
PARTS: dict[str, tuple[Callable, tuple]] = {
    "block, prefill of 8,192": (rank_parts.block, ("prefill", 8192)),
    "block, decode of 1": (rank_parts.block, ("decode", 1)),
    "block, decode of 16": (rank_parts.block, ("decode", 16)),
    "link": (rank_parts.link, ()),
    "products": (rank_parts.products, ()),
    "MLP": (rank_parts.mlps, ()),
}
SMALL_PARTS: dict[str, tuple[Callable, tuple]] = {
    **{name: part for name, part in PARTS.items() if not name.startswith("block")},
    "block, prefill of 6": (rank_parts.block, ("prefill", 6)), "block, decode of 2": (rank_parts.block, ("decode", 2)),
}


def measure(size: int = 2, out: Path = FOLDER, say: Callable[[str], None] = print, part_s: float = PART_S) -> dict:
    """Check and measure every part on `size` ranks: on GPUs with NCCL, else small on this machine's CPU with Gloo.

    Gives the figures; on GPUs they are written to `out`. Raises BadResults where there are fewer GPUs than ranks.
    """
    if size < 2:
        raise BadResults(f"--ranks takes 2 or more, got {size}")
    if not INTERPRETED and torch.cuda.device_count() < size:
        raise BadResults(f"--ranks {size} needs {size} GPUs, and there are {torch.cuda.device_count()}; with "
                         "TRITON_INTERPRET=1 the ranks run on the CPU")
    figures: dict[str, Any] = {"schema": SCHEMA, "gpu": None if INTERPRETED else torch.cuda.get_device_name(), "ranks": size,
               "torch": torch.__version__, "triton": triton.__version__, "date": datetime.date.today().isoformat(),
               "notes": [], "rows": []}
    path = Path(out) / file_name(f"{figures['gpu']} x{size}")
    for rows, notes in run_parts(size, SMALL_PARTS if INTERPRETED else PARTS, say, part_s):
        figures["rows"] += rows
        figures["notes"] += notes
        if not INTERPRETED:
            figures["link_gb_per_s"] = link_gb_per_s(figures["rows"])
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    if INTERPRETED:
        say("There are no GPUs here: this was checked on CPU processes with Gloo, and nothing is timed or written.")
    else:
        say(f"written to {path}")
    return figures


def run_parts(size: int, parts: dict[str, tuple[Callable, tuple]], say: Callable[[str], None],
              part_s: float) -> Iterator[tuple[list[dict], list[dict]]]:
    """The rows of each part, and notes on what failed."""
    ranks: Ranks | None = None
    end = time.monotonic() + ALL_S
    try:
        for name, (function, arguments) in parts.items():
            began = time.monotonic()
            if ranks is None or not ranks.alive:
                ranks = Ranks(size, "gloo" if INTERPRETED else "nccl", part_s)
            try:
                found = ranks.run(function, *arguments, INTERPRETED, timeout_s=min(part_s, max(1, end - began)))[0]
            except RankFailed as error:
                say(f"{name}: failed: {error}")
                ranks.stop()
                yield [], [{"part": name, "function": "all", "reason": str(error)[:1500]}]
                continue
            say(f"{name}: {len(found)} rows, {time.monotonic() - began:.0f} s")
            for row in found:
                say_row(row, say)
            failed = [row for row in found if "failed" in row]
            yield ([row for row in found if row not in failed],
                   [{"part": name, "function": row["function"], "reason": row["failed"]} for row in failed])
    finally:
        if ranks is not None:
            ranks.stop()


def say_row(row: dict, say: Callable[[str], None]) -> None:
    """What was measured, or what failed, in a line."""
    place = f"  {row['part']:8} M={row['M']:<6} {row['gpus']} GPU  {row['function']:36}"
    if "failed" in row:
        say(f"{place} failed: {row['failed']}")
    elif "median_us" in row:
        accuracy = f"  {row['sqnr_db']:.1f} dB" if row.get("sqnr_db") is not None else ""
        say(f"{place} {row['median_us']:9.1f} us  ({row['low_us']:.1f} to {row['high_us']:.1f}){accuracy}")


def link_gb_per_s(rows: list[dict]) -> float | None:
    """The most that a rank was seen to send while it all-reduced: GB/s, of 1e9 bytes; None where nothing was timed."""
    speeds = [row["sent_bytes"] / row["median_us"] / 1e3 for row in rows if row["part"] == "link" and "median_us" in row]
    return max(speeds, default=None)


def load(path: Path = FOLDER / RECORDED) -> dict:
    """The figures that `measure` wrote. Raises FileNotFoundError where there are none, BadResults for another schema."""
    if not path.exists():
        raise FileNotFoundError(f"there are no recorded figures in {path}: restore that file, or run "
                                "`python3 workshop.py bench --ranks 2` on a machine with two GPUs")
    figures = json.loads(path.read_text())
    if figures.get("schema") != SCHEMA:
        raise BadResults(f"{path} has schema {figures.get('schema')!r}, and this version reads schema {SCHEMA}")
    return figures
