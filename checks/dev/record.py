"""`workshop.py dev record`: what a grade depends on, exercise by exercise, in a file, so that it changes on purpose alone.

A record is made of dicts, lists, texts and numbers, as JSON has them. A tensor is in it as a few numbers, which are close,
not equal, on other CPUs and with other versions of torch; a mutant's edits and advice are there as digests.
"""

import hashlib
import inspect
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from checks.exercises import EXERCISES, kv_cache
from checks.files import write_atomically
from checks.judge.exercise import Case, Exercise, Expected, Mutant
from checks.judge.source import python_function
from checks.judge.trial import drawn
from checks.paths import ROOT

RECORD = ROOT / "tests" / "dev" / "exercises.json"
PICTURES = "tests/pictures/test_pictures_recorded.py"
RENEW = "python3 workshop.py dev record"
SEED = 7
NEAR = 1e-4  # of itself a number may differ: normal numbers have other last bits elsewhere, and a code may be its neighbour


def record_of(exercise: Exercise) -> dict[str, Any]:
    """What is asked, on which inputs, what passes, and which mistakes are known. Raises ValueError for a mere skeleton."""
    if not callable(exercise.oracle):
        raise ValueError(f"{exercise.name} has no oracle yet: write it first, in checks/exercises/")
    return {
        "lesson": exercise.lesson,
        "points": exercise.points,
        "parameters": parameters(python_function(exercise.answer_function())),
        "wrapper": exercise.wrapper,
        "outputs": list(exercise.outputs),
        "traffic_limit": exercise.traffic_limit,
        "moves_only": exercise.moves_only,
        "adapter": where(exercise.adapter),
        "explain": where(exercise.explain),
        "cases": {case.name: record_of_case(exercise, case) for case in exercise.cases},
        "mutants": {mutant.name: record_of_mutant(mutant) for mutant in exercise.mutants},
    }


def parameters(function: Callable) -> str:
    """`M, N, GROUP_M=8`: without annotations, which versions of Python write in different ways."""
    return ", ".join(str(each.replace(annotation=inspect.Parameter.empty)) for each in
                     inspect.signature(function).parameters.values())


def where(function: Callable | None) -> str | None:
    return function and f"{function.__module__}.{function.__qualname__}"


def record_of_case(exercise: Exercise, case: Case) -> dict[str, Any]:
    inputs = drawn(case, SEED)
    with patch.object(kv_cache, "tokens_of_a_part", lambda *sizes: 64):  # as without a GPU; with one it follows the GPU
        wanted = exercise.oracle(**inputs)
    found = {name: shown(value) for name, value in inputs.items()}
    for name, expected in zip(exercise.outputs, wanted, strict=True):
        found |= {f"expected {name}": shown_expected(expected), f"tolerance of {name}": shown_tolerance(expected)}
    return found | ({"least bytes": exercise.least_bytes(**inputs)} if exercise.least_bytes else {})


def record_of_mutant(mutant: Mutant) -> dict[str, str]:
    edits = "".join(f"{old}\0{new}\0" for old, new in mutant.edits.items())
    return {"edits": digest(edits), "advice": digest(mutant.advice)}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def shown(value: Any) -> Any:
    """An input: a tensor's type, shape, strides and numbers; a number, a text or nothing as it is."""
    if isinstance(value, torch.Tensor):
        strides = "" if value.is_contiguous() else f" strides {tuple(value.stride())}"
        return [f"{short(value.dtype)} {tuple(value.shape)}{strides}", *summary(value)]
    return short(value) if isinstance(value, torch.dtype) else value


def short(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")


def shown_expected(expected: Expected) -> Any:
    value = expected.value
    if isinstance(value, torch.Tensor):
        return [f"{short(expected.dtype)} {tuple(value.shape)} as {short(value.dtype)}", *summary(value)]
    return rounded(value) if isinstance(value, float) else value


def shown_tolerance(expected: Expected) -> Any:
    """Beside a tensor's other numbers the geometric mean of those above 0: small ones count in it as large ones do."""
    off = expected.tolerance
    if not isinstance(off, torch.Tensor):
        return rounded(off)
    positive = off.double()[off.isfinite() & (off > 0)]
    mean = math.exp(positive.log().mean()) if len(positive) else 0.0
    return [f"{short(off.dtype)} {tuple(off.shape)}, {len(positive)} above 0", *summary(off), rounded(mean)]


def summary(tensor: torch.Tensor) -> list[Any]:
    """The mean magnitude of what is finite; how large, in means, the numbers are with a pattern added, so that each sign and
    each place counts; and how many are not finite, where any is."""
    flat = tensor.detach().double().flatten()
    finite = flat.isfinite()
    size = flat[finite].abs().mean().item() if finite.any() else 0.0
    pattern = 2 * (torch.arange(1, len(flat) + 1, dtype=torch.float64) * 0.6180339887498949).frac() - 1
    scaled = flat.nan_to_num(3 * size, 5 * size, -5 * size) / (size or 1.0)
    others = [] if finite.all() else [f"{int((~finite).sum())} not finite"]
    return [rounded(size), rounded((scaled + pattern).abs().mean().item()), *others]


def rounded(number: float) -> float:
    return float(f"{number:.6g}")


def alike(recorded: Any, found: Any) -> bool:
    """Whether two values that are no dicts are the same, numbers with a fraction nearly so."""
    if isinstance(recorded, list) and isinstance(found, list):
        return len(recorded) == len(found) and all(map(alike, recorded, found))
    if isinstance(recorded, float) and isinstance(found, float):
        return math.isclose(recorded, found, rel_tol=NEAR) or math.isnan(recorded) and math.isnan(found)
    return type(recorded) is type(found) and recorded == found


def differences(recorded: Any, found: Any, place: tuple[str, ...] = ()) -> Iterator[str]:
    """A line for each thing that is not as recorded, the order of cases and mutants among them."""
    if not (isinstance(recorded, dict) and isinstance(found, dict)):
        if not alike(recorded, found):
            yield f"{': '.join(place)}: {as_json(recorded)} is now {as_json(found)}"
        return
    for name in [*recorded, *(name for name in found if name not in recorded)]:
        if name in recorded and name in found:
            yield from differences(recorded[name], found[name], (*place, name))
        else:
            yield f"{': '.join((*place, name))}: {'is no longer there' if name in recorded else 'is new'}"
    if recorded.keys() == found.keys() and list(recorded) != list(found):
        yield f"{': '.join(place) or 'the exercises'}: in another order"


def updated(recorded: Any, found: Any) -> Any:
    """What was found, with the recorded numbers where they are near: a renewal shows what changed and nothing else."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        return {name: updated(recorded.get(name), value) for name, value in found.items()}
    return recorded if alike(recorded, found) else found


def read_record(path: Path = RECORD) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def as_json(value: Any, depth: int = 3) -> str:
    """On one line; of a whole record, whose depth is 0, a line for each case and each mutant."""
    if not isinstance(value, dict) or depth == 3 or not value:
        return json.dumps(value, ensure_ascii=False)
    indent = " " * depth
    inside = ",\n".join(f"{indent}{as_json(name)}: {as_json(each, depth + 1)}" for name, each in value.items())
    return f"{{\n{inside}\n{indent[1:]}}}"


def renew(path: Path = RECORD) -> list[str]:
    """Write the record anew. What has changed, a line each."""
    recorded = read_record(path)
    found = {name: record_of(exercise) for name, exercise in EXERCISES.items()}
    changed = list(differences(recorded, found))
    if changed:
        write_atomically(path, as_json(updated(recorded, found), 0) + "\n")
    return changed


def renew_pictures() -> int:
    """Have the tests of the pictures write their record anew and say what has changed, as without a GPU. Their status."""
    there = os.environ | {"RECORD": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "0", PICTURES], cwd=ROOT, env=there).returncode
