"""A proven program on a real GPU: right there too, and how fast beside the answer.

Only proven programs (checks/grader/intake/language.py) come this far, each in a process of its own that makes its own CUDA
context, so that a kernel that faults takes nothing with it. What the child says of times can then be believed.
"""

import random
import statistics
import subprocess

import torch

from checks.grader.grading import runs
from checks.grader.grading.cases import CaseSet, held_values, vary
from checks.grader.intake.code import Program
from checks.grader.intake.library import answer_text, library_for
from checks.grader.sandbox.client import ChildExited, Fault, ForkServer
from checks.grader.sandbox.values import encode_inputs
from checks.judge.exercise import Case
from checks.judge.trial import PASSED

RUN_S = 240  # the first launch of each kind compiles
LARGE = 4096  # what M, N and K become when speed is measured
ALLOWED = 1.25  # times the answer's time
FASTEST_MEMORY = 10e12  # bytes a second, more than any GPU's memory moves


def start_gpu_server(index: int) -> ForkServer:
    """The fork server whose children run on GPU `index`. It asks for the GPU without CUDA, which no fork survives."""
    server = ForkServer("gpu", RUN_S, {"CUDA_VISIBLE_DEVICES": str(index), "PYTORCH_NVML_BASED_CUDA_CHECK": "1"})
    if "gpu" not in server.levels:
        server.close()
        raise Fault(f"there is no GPU {index} that torch can use")
    return server


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


def on_gpu(case_set: CaseSet, program: Program, server: ForkServer) -> tuple[str | None, dict | None]:
    """Why the program is not right on the GPU (None when it is), and its times in microseconds beside the answer's.

    Raises Fault where the sandbox fails.
    """
    cases = case_set.exercise.cases + case_set.hidden
    done = runs.run(case_set, program, server, cases)
    wrong = next((outcome for outcome in done.outcomes if outcome.status != PASSED), None)
    if wrong is not None or len(done.outcomes) < len(cases):
        return (wrong or done.outcomes[-1]).message or "it stopped before the last case.", None
    return None, times(case_set, program, server)


def times(case_set: CaseSet, program: Program, server: ForkServer) -> dict | None:
    """{"yours": us, "answer": us, "floor": us}: medians of calls in turns on a large case, and what no memory can go below.

    None where no large case can be made or timed.
    """
    exercise, library = case_set.exercise, library_for(case_set.exercise)
    case = large(exercise.cases[0])
    least_bytes = exercise.least_bytes
    if case is None or least_bytes is None:
        return None
    inputs = case.inputs(torch.Generator().manual_seed(case_set.seed))
    described, payload = encode_inputs(inputs)
    question = {"inputs": described, "mode": "time", "maps": False, "name": exercise.name, "entry": exercise.wrapper,
                "entry_code": library.entry_code, "answer_code": answer_text(exercise, exercise.name)}
    with server.child(runs.job_for(case_set, program), runs.GPU_DATA_BYTES) as child:
        try:
            child.begin()
            answer, _ = child.ask(question, payload, RUN_S)
            raw = {side: [float(us) for us in list(answer["times"][side])[:1000]] for side in ("yours", "answer")}
            medians = {side: statistics.median(values) for side, values in raw.items()}
            return medians | {"floor": least_bytes(**inputs) / FASTEST_MEMORY * 1e6}
        except (ChildExited, KeyError, TypeError, ValueError, statistics.StatisticsError):
            return None


def large(case: Case) -> Case | None:
    """The same kind of inputs at sizes where a GPU is busy."""
    sizes = [name for name, value in held_values(case).items() if name in ("M", "N", "K") and isinstance(value, int)]
    if not sizes:
        return None
    size = LARGE**2 if len(sizes) == 1 else LARGE if len(sizes) == 2 else LARGE // 2
    return vary(case, "large", random.Random(0), dict.fromkeys(sizes, size))
