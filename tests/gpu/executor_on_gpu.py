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

import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = map(str, (HERE.parents[1], HERE.parent / "executor"))

import kernels  # noqa: E402, F401, I001  first: it decides whether Triton interprets
from executor_launches import Replayed, beside_the_executor  # noqa: E402
from kernel_calls import HONEST, honest_call, rest_of_the_library  # noqa: E402

from checks.executor import Unsupported  # noqa: E402
from checks.exercises import EXERCISES  # noqa: E402
from checks.host.recorder import NeedsNumbers  # noqa: E402
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
    """How many functions got the same verdict on the GPU as from the executor, by what the executor says."""
    count: dict[str, int] = defaultdict(int)
    for exercise in KERNELS:
        for mutant in (None, *exercise.mutants[:mutants]):
            function = exercise.mutated(mutant) if mutant else exercise.answer_function()
            said, same = "right", True
            for case in exercise.cases:
                try:
                    ours = try_case(exercise, function, case, 0, attempt_executed)
                except (NeedsNumbers, Unsupported) as error:
                    said = f"not executed: {type(error).__name__}"
                    break
                if ours.status != PASSED:
                    said = "wrong"
                if isinstance(ours.error, OutOfBounds):
                    said = "out of bounds"
                    break
                theirs = try_case(exercise, function, case, 0, attempt)
                same &= (ours.status == PASSED) == (theirs.status == PASSED)
                if not same:
                    failures.append(f"{exercise.name}, {mutant.name if mutant else 'the answer'}, '{case.name}': "
                                    f"{ours.status} {ours.message[:150]} / {theirs.status} {theirs.message[:150]}")
                if ours.status != PASSED or not same:
                    break
            count[said] += same
    return dict(count)


if __name__ == "__main__":
    sys.exit(main())
