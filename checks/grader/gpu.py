"""What was recorded of a proven function, played back on a real GPU: right there too, and how fast beside the answer.

No line of a student's Python runs there, only their kernels, compiled from TTIR, each submission in a process of its own
that makes its own CUDA context, so that a kernel that faults takes nothing with it. What that process says of times is
believed.
"""

import random
import statistics
import subprocess

import torch

from checks.grader.grading.cases import CaseSet, held_values, vary
from checks.grader.grading.compiling import Compiler
from checks.grader.grading.outcomes import assess_answer
from checks.grader.grading.runs import NeedsNumbers, Run, SentRecording, blank, played
from checks.grader.sandbox.client import Child, ChildExited, Fault, ForkServer
from checks.host.recorder import record
from checks.host.transport import pack, unpack
from checks.judge.exercise import Case, Exercise
from checks.judge.trial import PASSED

RUN_S = 240  # the first launch of each kind compiles
LARGE = 4096  # what M, N and K become when speed is measured
ALLOWED = 1.25  # times the answer's time
GPU_DATA_BYTES = 64 << 30  # CUDA maps host memory for itself
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


def on_gpu(case_set: CaseSet, done: Run, compiler: Compiler, server: ForkServer) -> tuple[str | None, dict | None]:
    """Why what was recorded is not right on the GPU (None when it is), and its times in microseconds beside the answer's.

    Raises Fault where the sandbox fails, NeedsNumbers where the recording cannot be played back on a GPU.
    """
    with server.child({}, GPU_DATA_BYTES, serves="play_child") as player:
        outcome = None
        try:
            player.begin()
            for case, recording in done.recordings:
                outcome = blank(case_set, case)
                question, payload = played(recording, outcome.inputs, compiler.texts(recording.launches, for_gpu=True))
                answer, raw = player.ask(question, payload, RUN_S)
                if "unsupported" in answer:
                    raise NeedsNumbers(str(answer["unsupported"])[:300])
                assess_answer(case_set.exercise, outcome, answer, raw)
                if outcome.status != PASSED:
                    return outcome.message, None
        except ChildExited as ended:
            return f"On the case '{outcome.case.name if outcome else ''}' {ended.reason}", None
        return None, times(case_set, done, compiler, player)


def times(case_set: CaseSet, done: Run, compiler: Compiler, player: Child) -> dict | None:
    """{"yours": us, "answer": us, "floor": us}: medians of calls in turns on a large case, and what no memory can go below.

    None where no large case can be made or timed.
    """
    exercise = case_set.exercise
    case, least_bytes = large(exercise.cases[0]), exercise.least_bytes
    if case is None or least_bytes is None:
        return None
    inputs = case.inputs(torch.Generator().manual_seed(case_set.seed))
    try:
        ours = _answers_recording(exercise, inputs)
        assert done.record, "as every recorded run has"
        sides = {"yours": done.record(inputs), "answer": ours}
        asked = {name: played(one, inputs, compiler.texts(one.launches, for_gpu=True)) for name, one in sides.items()}
        question = {"time": {name: question for name, (question, _) in asked.items()}, "maps": False}
        answer, _ = player.ask(question, asked["yours"][1], RUN_S)
        raw = {side: [float(us) for us in list(answer["times"][side])[:1000]] for side in sides}
        medians = {side: statistics.median(values) for side, values in raw.items()}
        return medians | {"floor": least_bytes(**inputs) / FASTEST_MEMORY * 1e6}
    except (ChildExited, NeedsNumbers, KeyError, TypeError, ValueError, statistics.StatisticsError):
        return None


def _answers_recording(exercise: Exercise, inputs: dict) -> SentRecording:
    data = pack(record(exercise.callable_for(exercise.answer_function()), inputs))
    return SentRecording(**vars(unpack(data, [])), data=data)


def large(case: Case) -> Case | None:
    """The same kind of inputs at sizes where a GPU is busy."""
    sizes = [name for name, value in held_values(case).items() if name in ("M", "N", "K") and isinstance(value, int)]
    if not sizes:
        return None
    size = LARGE**2 if len(sizes) == 1 else LARGE if len(sizes) == 2 else LARGE // 2
    return vary(case, "large", random.Random(0), dict.fromkeys(sizes, size))
