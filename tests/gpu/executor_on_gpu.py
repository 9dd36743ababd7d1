"""Does the executor, which judges on machines without a GPU, come to what a GPU comes to?

    python tests/gpu/executor_on_gpu.py [--mutants 3] --out DIR

Every kernel of the library, all answers and the honest submissions run on the GPU, launch by launch, beside the executor
on copies of the same tensors; then every exercise's answer and first mistakes are judged in both ways. Writes
DIR/executor.json: launches, how many left the same bits, the largest difference as a part of the largest value; exits with
1 where a whole number differs, a kernel's result is another, or a verdict is. Accesses out of bounds run on no GPU.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = map(str, (HERE.parents[1], HERE.parent / "executor"))

import kernels  # noqa: E402, F401, I001  first: it decides whether Triton interprets
from executor_launches import Replayed, beside_the_executor  # noqa: E402
from kernel_calls import HONEST, honest_call, rest_of_the_library  # noqa: E402

from checks.executor import Unsupported  # noqa: E402
from checks.executor.operations import loads  # noqa: E402
from checks.exercises import EXERCISES  # noqa: E402
from checks.host.recorder import NeedsNumbers  # noqa: E402
from checks.judge import execution  # noqa: E402
from checks.judge.attempt import attempt  # noqa: E402
from checks.judge.execution import attempt_executed  # noqa: E402
from checks.judge.exercise import Exercise  # noqa: E402
from checks.judge.launches import OutOfBounds  # noqa: E402
from checks.judge.trial import PASSED, try_case  # noqa: E402
from kernels.runtime import INTERPRETED, device, triton  # noqa: E402

APART = 2.0**-9  # of the largest value: two roundings to FP16, or to BF16 one
KERNELS = [exercise for exercise in EXERCISES.values() if exercise.is_kernel]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=3, help="mistakes of each exercise that are judged in both ways")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if INTERPRETED:
        sys.exit("there is no GPU here: nothing compared")
    began, failures = time.monotonic(), []
    launched = launches(failures)
    verdicts = judged(args.mutants, failures)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "executor.json").write_text(json.dumps({
        "gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__,
        "kernels": launched, "verdicts": verdicts, "failures": failures,
        "seconds": round(time.monotonic() - began, 1)}, indent=1) + "\n")
    total, same = (sum(row[key] for row in launched.values()) for key in ("launches", "same_bits"))
    print(f"{total} launches of {len(launched)} kernels, {same} with the same bits; verdicts: {verdicts}; "
          f"{len(failures)} failures")
    for failure in failures:
        print("  " + failure)
    return bool(failures)


def launches(failures: list[str]) -> dict[str, dict[str, Any]]:
    """By kernel: launches, those that left the same bits, and the largest difference over the largest value."""
    found: dict[str, dict[str, Any]] = defaultdict(lambda: {"launches": 0, "same_bits": 0, "apart": 0.0})
    with tempfile.TemporaryDirectory() as folder:
        for what, call in calls(Path(folder)):
            try:
                with beside_the_executor() as replayed:
                    call()
            except Exception as error:
                failures.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
                continue
            for launch in replayed:
                row, apart = found[launch.kernel], difference(launch)
                row["launches"] += 1
                row["same_bits"] += apart == 0
                row["apart"] = max(row["apart"], apart)
                if apart > APART or launch.report.faults or launch.report.races:
                    failures.append(f"{what}: {launch.kernel} differs by {apart:.1e} {launch.report.faults[:1]}")
    return dict(sorted(found.items()))


def calls(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    for exercise in KERNELS:
        yield exercise.name, lambda exercise=exercise: every_case(exercise, getattr(exercise.module, exercise.wrapper))
    yield from rest_of_the_library().items()
    for path in HONEST:
        exercise, call = honest_call(path, folder)
        if exercise.is_kernel:
            yield f"honest/{path.stem}", lambda exercise=exercise, call=call: every_case(exercise, call)


def every_case(exercise: Exercise, call: Callable[..., Any]) -> None:
    for case in exercise.cases:
        inputs = case.inputs(torch.Generator().manual_seed(1))
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        if all(tensor.untyped_storage().nbytes() < 1 << 30 for tensor in tensors.values()):  # far rows would fill the GPU
            call(**inputs | {name: tensor.to(device()) for name, tensor in tensors.items()})


def difference(launch: Replayed) -> float:
    """0 for the same bits; infinity where whole numbers differ, or one side alone is no number."""
    worst = 0.0
    for name, ours in launch.executed.items():
        theirs = launch.launched[name]
        if not ours.is_floating_point():
            worst = worst if torch.equal(ours, theirs) else float("inf")
            continue
        ours, theirs = ours.double(), theirs.double()
        finite = ours.isfinite()
        if not torch.equal(ours[~finite].nan_to_num(0.5), theirs[~finite].nan_to_num(0.5)):
            return float("inf")
        if finite.any():
            apart = (ours[finite] - theirs[finite]).abs().max() / ours[finite].abs().max().clamp(min=1e-30)
            worst = max(worst, float(apart.nan_to_num(float("inf"))))
    return worst


def judged(mutants: int, failures: list[str]) -> dict[str, int]:
    """How many functions got the same verdict on the GPU as from the executor, by what the executor says.

    Sums in another order may make one case of a mistake right; the verdict is that of all cases. What a masked load without
    `other=` leaves is undefined: the executor takes NaN for it, a GPU mostly 0. Such a mistake is "undefined".
    """
    count: dict[str, int] = defaultdict(int)
    for exercise in KERNELS:
        for mutant in (None, *exercise.mutants[:mutants]):
            function = exercise.mutated(mutant) if mutant else exercise.answer_function()
            said, message = executed(exercise, function)
            theirs = "not run"
            if said in ("right", "wrong"):
                on_gpu = (try_case(exercise, function, case, 0, attempt) for case in exercise.cases)
                theirs = "right" if all(trial.status == PASSED for trial in on_gpu) else "wrong"
                if (said, theirs) == ("wrong", "right"):
                    said = "undefined" if right_with_zeros(exercise, function) else said
            same = theirs in (said, "not run") or said == "undefined"
            count[said] += same
            if not same:
                name = mutant.name if mutant else "the answer"
                failures.append(f"{exercise.name}, {name}: {said} {message[:150]}; on the GPU {theirs}")
    return dict(count)


def executed(exercise: Exercise, function: Callable[..., Any]) -> tuple[str, str]:
    """The executor's verdict over all cases, and the first message."""
    for case in exercise.cases:
        try:
            trial = try_case(exercise, function, case, 0, attempt_executed)
        except (NeedsNumbers, Unsupported) as error:
            return f"not executed: {type(error).__name__}", ""
        if trial.status != PASSED:
            return "out of bounds" if isinstance(trial.error, OutOfBounds) else "wrong", trial.message
    return "right", ""


def right_with_zeros(exercise: Exercise, function: Callable[..., Any]) -> bool:
    """Is the executor's verdict "right" where lanes that a mask switches off load 0?"""
    execution._module.cache_clear()  # a module knows what its loads leave
    try:
        with patch.object(loads, "poison", lambda elem: 0):
            return executed(exercise, function)[0] == "right"
    finally:
        execution._module.cache_clear()


if __name__ == "__main__":
    sys.exit(main())
