"""The grader's GPU path on a machine that has a GPU: honest kernels, mistakes, attacks, kernels that fault and hang.

    python tests/gpu/grader_on_gpu.py [--gpu 0] [--part faults answers honest exploits] [--exercise NAME …] [--file NAME …]

Needs torch, Triton, NumPy and IPython. Prints a line for each, and
exits 1 if any is not what it must be.
"""

import argparse
import os
import re
import sys
import time
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"  # this process computes on the CPU; the children have the GPU
sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import checks  # noqa: E402, F401  before triton
from checks.grader import gpu  # noqa: E402
from checks.grader.grader import Grader  # noqa: E402
from checks.grader.grading import runs  # noqa: E402
from checks.grader.intake.code import code_for  # noqa: E402
from checks.grader.intake.submissions import find_exercise_cell, read_submission  # noqa: E402
from checks.grader.sandbox.client import FULL  # noqa: E402
from checks.grader.selftest import mutated_source, submission_with  # noqa: E402
from checks.grader.settings import Settings  # noqa: E402
from checks.judge.source import answer_source  # noqa: E402

HERE = Path(__file__).resolve().parents[1] / "grader"
KERNEL = ("@triton.jit\ndef vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):\n"
          "    offs = tl.arange(0, BLOCK)\n    {}\n")
FAULT = KERNEL.format("tl.store(out_ptr + offs.to(tl.int64) * 1000000007 + 123456789012, 1.0)")
HANG = KERNEL.format("while tl.load(x_ptr) == tl.load(x_ptr):\n        tl.store(out_ptr + offs, 1.0, mask=offs < N)")
PARTS = ("faults", "answers", "honest", "exploits")
failures = 0


def say(fine: bool, what: str, result: dict, started: float) -> None:
    global failures
    failures += not fine
    times = result.get("times_us")
    speed = " · {yours:.1f} us, answer {answer:.1f} us".format(**times) if times else ""
    points = f"{result['points'] or 0:g} of {result['possible']:g}"
    print(f"{'ok ' if fine else 'BAD'} {what}: {result['status']}, {points}{speed} "
          f"({time.monotonic() - started:.1f} s)", flush=True)
    if not fine:
        print("    " + result["message"].replace("\n", "\n    "), [flag["text"] for flag in result["flags"]])


def grade_exercises(grader: Grader, names: list[str]) -> None:
    """Each answer gets its points (speed apart, which is measured against itself); its first mistake does not pass."""
    for name in names:
        exercise, started = grader.course.exercises[name], time.monotonic()
        good = grader.exercise_result(name, submission_with(exercise, answer_source(exercise.name)))
        say(good["status"] == "passed" and not good["flags"], f"answer of {name}", good, started)
        started = time.monotonic()
        bad = grader.exercise_result(name, submission_with(exercise, mutated_source(exercise, exercise.mutants[0])))
        say(bad["status"] != "passed", f"{name}, '{exercise.mutants[0].name}'", bad, started)


def grade_files(grader: Grader, folder: str, only: list[str]) -> None:
    """The attacks and the honest submissions that write kernels."""
    for path in sorted((HERE / folder).glob("*.py")):
        if only and path.stem not in only:
            continue
        head = dict(re.findall(r"^# (verdict|says): (.*)$", path.read_text(), re.MULTILINE))
        submission, started = read_submission(path.stem, [path]), time.monotonic()
        found = [name for name in grader.wanted
                 if find_exercise_cell(submission, name).cell is not None]
        if not found:
            continue
        name = next((n for n in found if f"# exercise: {n}\n" in path.read_text()), found[0])
        result = grader.exercise_result(name, submission)
        fine = result["status"] in head.get("verdict", "passed").split("|")
        say(fine and (folder == "exploits" or not result["flags"]), f"{folder}/{path.stem}", result, started)


def break_the_gpu(grader: Grader) -> None:
    """Straight to the GPU, past the executor that catches them; then an honest kernel, as if nothing was."""
    global failures
    case_set = grader.case_set("vector_add_kernel")

    def on_gpu(source: str, cases: int) -> tuple[str | None, dict | None]:
        submission = submission_with(case_set.exercise, source)
        sandbox = grader.sandbox(submission)
        code = code_for(case_set.exercise, submission)
        done = next(runs.runs_of(case_set, code, sandbox, case_set.exercise.cases[:cases]))
        return gpu.on_gpu(case_set, done, sandbox.compiler, grader.gpu_server)

    good = answer_source(case_set.exercise.name)
    for what, source, limit in (("a kernel that faults", FAULT, 60), ("a kernel that hangs", HANG, 20)):
        started = time.monotonic()
        grader.gpu_server.timeout_s = limit
        wrong, _ = on_gpu(source, 1)
        grader.gpu_server.timeout_s = gpu.RUN_S
        after, times = on_gpu(good, len(case_set.exercise.cases))
        fine = wrong is not None and after is None and times is not None
        failures += not fine
        print(f"{'ok ' if fine else 'BAD'} {what}: {(wrong or 'right')[:160]!r}; an honest one after it: "
              f"{after or 'right'}, {times} ({time.monotonic() - started:.1f} s)", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--exercise", action="append", default=[])
    parser.add_argument("--file", action="append", default=[], help="an attack or an honest submission")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    started = time.monotonic()
    with Grader(Settings(20261125, gpus=(args.gpu,))) as grader:
        levels = grader.server.levels
        print(f"{gpu.gpu_name(args.gpu)} · isolation {levels}, on the GPU {grader.gpu_server.levels}", flush=True)
        kernels = [name for name in grader.wanted if grader.course.exercises[name].is_kernel]
        if "faults" in args.part:
            break_the_gpu(grader)
        if "answers" in args.part:
            grade_exercises(grader, args.exercise or kernels)
        grader.wanted = kernels
        if "honest" in args.part:
            grade_files(grader, "honest", args.file)
        if "exploits" in args.part:
            if set(FULL) - set(levels):
                parser.error(f"attacks run at full isolation only, {', '.join(FULL)}; this machine has {levels}")
            grade_files(grader, "exploits", args.file)
    print(f"{failures} not as they must be, {time.monotonic() - started:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
