"""The figures in `results/`: for each kind of GPU one JSON file with everything that a picture or a table needs.

A file holds the GPU and the software, `roofs` (what this GPU was seen to do at best) and `rows`, one for each function
timed at one shape. Bytes are reads plus writes of a plan that reads each input once and writes each output once; GB is
1e9 bytes, TFLOPS are 1e12 operations a second, floating-point or integer. `mode` says how a call was timed:

    eager   queued behind other work, the L2 cache flushed: the GPU's own time
    idle    the L2 cache flushed, the GPU idle: the launches, which the CPU makes, are in the time
    graph   inside a CUDA graph of many calls, each with another copy of the weights, so that they come from memory
    host    what one of 20 calls after one another takes the CPU, which waits for none of them
"""

import json
from collections.abc import Iterable
from pathlib import Path

from checks.files import write_atomically
from checks.paths import ROOT
from kernels.cost import roofline_us

RESULTS = ROOT / "results"
RECORDED = "nvidia_h200.json"
"""The file whose figures the lessons and the README show."""

SCHEMA = 1
INT8_TESTS = ("config", "places", "gate_up")  # whose functions' names do not say what they multiply
NUMBER = (int, float)
FILE = {"gpu": str, "capability": list, "torch": str, "triton": str, "date": str, "roofs": dict, "rows": list}
ROOFS = ("copy_gb_per_s", "read_gb_per_s", "fp16_tflops", "int8_tops")
ROW = {"test": str, "function": str, "M": int, "N": int, "K": int, "mode": str, "bytes": int, "flops": int,
       "median_us": NUMBER, "low_us": NUMBER, "high_us": NUMBER, "gb_per_s": NUMBER, "tflops": (*NUMBER, type(None))}
UNIT = ("test", "mode", "M", "K", "N")
MODES = ("eager", "idle", "graph", "host")


class BadResults(ValueError):
    """A file that cannot be used as figures; the message says why and what to do."""


def load(path: Path) -> dict:
    """The figures in a file. Raises BadResults where it is not one that `bench` wrote, whole; OSError where there is
    none."""
    path = Path(path)
    figures = read_json(path, "bench")
    if not isinstance(figures, dict) or "schema" not in figures:
        raise BadResults(f'{path} is JSON, but no figures of this workshop: it has no "schema"')
    if figures["schema"] != SCHEMA:
        raise BadResults(f"{path} has schema {figures['schema']!r}, and this version of the workshop reads schema {SCHEMA}")
    _expect_fields(figures, FILE, str(path))
    for roof in ROOFS:
        if not isinstance(figures["roofs"].get(roof, 0), (*NUMBER, type(None))):
            raise BadResults(f"{path}: roof {roof} must be a number, got {figures['roofs'][roof]!r}")
    for number, row in enumerate(figures["rows"]):
        where = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise BadResults(f"{where} must be an object, got {row!r}")
        _expect_fields(row, ROW, where)
        if not (0 < row["low_us"] <= row["median_us"] <= row["high_us"] and row["mode"] in MODES):
            raise BadResults(f"{where} needs 0 < low_us <= median_us <= high_us and a mode of {MODES}, got {row}")
    return figures


def read_json(path: Path, command: str) -> object:
    """What is in a file that a command of the workshop wrote. Raises BadResults where it is not whole JSON, OSError where
    there is none."""
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadResults(f"{path} is not whole JSON ({error}): restore it, or measure again with `python3 workshop.py "
                         f"{command}`") from None


def _expect_fields(found: dict, wanted: dict, where: str) -> None:
    for name, kinds in wanted.items():
        if name not in found:
            raise BadResults(f"{where} has no {name!r}")
        if not isinstance(found[name], kinds) or isinstance(found[name], bool):
            kinds = kinds if isinstance(kinds, tuple) else (kinds,)
            names = " or ".join(kind.__name__ for kind in kinds)
            raise BadResults(f"{where}: {name} must be {names}, got {found[name]!r}")


def save(figures: dict, path: Path) -> None:
    """Write figures to a file, whole or not at all."""
    write_atomically(Path(path), json.dumps(figures, indent=1, allow_nan=False) + "\n")


def file_name(gpu: str, shapes: str = "workshop") -> str:
    """The name of the file for a GPU and a set of shapes, such as `nvidia_h200.json`."""
    name = gpu if shapes == "workshop" else f"{gpu} {shapes}"
    return "".join(c if c.isalnum() else "_" for c in name.lower()) + ".json"


def chosen(known: Iterable[str], wanted: Iterable[str] | None, what: str) -> list[str]:
    """The names wanted, or all that are known if None. Raises BadResults for one that is unknown."""
    known = list(known)
    unknown = [name for name in wanted or () if name not in known]
    if unknown:
        raise BadResults(f"there is no {what} {', '.join(unknown)}; there are {', '.join(known)}")
    return known if wanted is None else list(wanted)


def expect_same(new: dict, old: dict, names: Iterable[str]) -> None:
    """Raises BadResults where figures are to be added to others whose GPU or software, as `names` have it, is another."""
    for name in names:
        if new[name] != old[name]:
            raise BadResults(f"the figures to add to have {name} {old[name]}, and here it is {new[name]}: measure all anew")


def recorded() -> dict:
    """The figures that the lessons and the README show. Raises FileNotFoundError where there are none."""
    path = RESULTS / RECORDED
    if not path.exists():
        raise FileNotFoundError(f"there are no recorded figures in {path}: restore that file, or run "
                                "`python3 workshop.py bench` on a GPU")
    return load(path)


def select(figures: dict | list[dict], **wanted) -> list[dict]:
    """The rows in which every named field has the wanted value, or one of several: `select(f, test="gemv", N=(1, 2))`."""
    rows = figures["rows"] if isinstance(figures, dict) else figures
    several = {name: value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
               for name, value in wanted.items()}
    for name in several:
        if name not in ROW and not any(name in row for row in rows):
            raise KeyError(f"rows have no field {name!r}; they have {', '.join(ROW)}")
    return [row for row in rows if all(row.get(name) in values for name, values in several.items())]


def arithmetic(function: str, test: str = "") -> str:
    """The tensor cores' input type that a function multiplies in: 'fp16', 'int8' or 'fp8'."""
    if "FP8" in function:
        return "fp8"
    named = any(word in function for word in ("int8", "int_mm", "INT8", "w8a8", "w8a16"))
    return "int8" if named or test in INT8_TESTS else "fp16"


def of_roof(row: dict, roofs: dict) -> float | None:
    """Which part of the roofline's speed a row reached: the least time that the roofs allow, over its time.

    None where a roof was not measured.
    """
    peak = roofs.get("fp16_tflops" if arithmetic(row["function"], row["test"]) == "fp16" else "int8_tops")  # FP8's is INT8's
    copy = roofs.get("copy_gb_per_s")
    if not copy or row["flops"] and not peak:
        return None
    return roofline_us(row["flops"], row["bytes"], peak or 1, copy) / row["median_us"]


def pairs(rows: list[dict], ours: str, baseline: str) -> list[tuple[dict, dict]]:
    """The rows of two functions that were timed together: at one shape, in one test and mode."""
    theirs = {unit_of(row): row for row in rows if row["function"] == baseline}
    return [(row, theirs[unit_of(row)]) for row in rows if row["function"] == ours and unit_of(row) in theirs]


def unit_of(row: dict) -> tuple:
    """What rows that were timed together have in common: the values of UNIT."""
    return tuple(row[name] for name in UNIT)
