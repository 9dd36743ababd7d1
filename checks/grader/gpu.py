"""A proven program on a real GPU: right there too, and how fast beside the answer.

Only proven programs (checks/grader/intake/language.py) come this far, each in a process of its own that makes its own CUDA
context, so that a kernel that faults takes nothing with it. What the child says of times can then be believed.
"""

import random
import statistics
import subprocess

import torch

from checks.grader.grading import runs
from checks.grader.grading.cases import Paper, vary
from checks.grader.intake.code import Program
from checks.grader.intake.library import answer_text, library_for
from checks.grader.sandbox.client import Ended, Fault, Warm, encode
from checks.judge.exercise import Case
from checks.judge.trial import PASSED

RUN_S = 240  # the first launch of each kind compiles
LARGE = 4096  # what M, N and K become when speed is measured
ALLOWED = 1.25  # times the answer's time
FASTEST_MEMORY = 10e12  # bytes a second, more than any GPU's memory moves


def warm_gpu(index: int) -> Warm:
    """The warm process whose children run on GPU `index`. It asks for the GPU without CUDA, which no fork survives."""
    warm = Warm("gpu", RUN_S, {"CUDA_VISIBLE_DEVICES": str(index), "PYTORCH_NVML_BASED_CUDA_CHECK": "1"})
    if "gpu" not in warm.levels:
        warm.close()
        raise Fault(f"there is no GPU {index} that torch can use")
    return warm


def gpu_name(index: int) -> str:
    """The name of GPU `index`, asked of its driver's own tool: this process must not start CUDA. Raises Fault."""
    try:
        asked = subprocess.run(["nvidia-smi", f"--id={index}", "--query-gpu=name", "--format=csv,noheader"],
                               capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Fault(f"nvidia-smi does not answer: {error}") from None
    if asked.returncode:
        raise Fault(f"there is no GPU {index}: {asked.stdout.strip() or asked.stderr.strip()}")
    return asked.stdout.strip()


def on_gpu(paper: Paper, program: Program, warm: Warm) -> tuple[str | None, dict | None]:
    """Why the program is not right on the GPU (None when it is), and its times in microseconds beside the answer's.

    Raises Fault where the sandbox fails.
    """
    cases = paper.exercise.cases + paper.hidden
    done = runs.run(paper, program, warm, cases)
    wrong = next((outcome for outcome in done.outcomes if outcome.status != PASSED), None)
    if wrong is not None or len(done.outcomes) < len(cases):
        return (wrong or done.outcomes[-1]).message or "it stopped before the last case.", None
    return None, times(paper, program, warm)


def times(paper: Paper, program: Program, warm: Warm) -> dict | None:
    """{"yours": us, "answer": us, "floor": us}: medians of calls in turns on a large case, and what no memory can go below.

    None where no large case can be made or timed.
    """
    exercise, library = paper.exercise, library_for(paper.exercise)
    case = large(exercise.cases[0])
    if case is None:
        return None
    inputs = case.inputs(torch.Generator().manual_seed(paper.seed))
    described, payload = encode(inputs)
    question = {"inputs": described, "mode": "time", "maps": False, "name": exercise.name, "entry": exercise.wrapper,
                "entry_code": library.entry_code, "answer_code": answer_text(exercise, exercise.name)}
    with warm.child(runs.job_for(paper, program), runs.GPU_DATA_BYTES) as child:
        try:
            child.begin()
            answer, _ = child.ask(question, payload, RUN_S)
            raw = {side: [float(us) for us in list(answer["times"][side])[:1000]] for side in ("yours", "answer")}
            medians = {side: statistics.median(values) for side, values in raw.items()}
            return medians | {"floor": exercise.least_bytes(**inputs) / FASTEST_MEMORY * 1e6}
        except (Ended, KeyError, TypeError, ValueError, statistics.StatisticsError):
            return None


def large(case: Case) -> Case | None:
    """The same kind of inputs at sizes where a GPU is busy."""
    held = case.inputs.__closure__ and dict(zip(case.inputs.__code__.co_freevars, case.inputs.__closure__, strict=True))
    sizes = [name for name in held or () if name in ("M", "N", "K") and isinstance(held[name].cell_contents, int)]
    if not sizes:
        return None
    size = LARGE**2 if len(sizes) == 1 else LARGE if len(sizes) == 2 else LARGE // 2
    return vary(case, "large", random.Random(0), dict.fromkeys(sizes, size))
