"""The trace of a function's kernels on any machine: in this process where it interprets, else in one that does."""

import os
import pickle
import subprocess
import sys

import torch

from checks.launches import Launch, watch
from checks.source import define, python_function, self_contained
from kernels.runtime import INTERPRETED


def trace(function, **inputs) -> list[Launch]:
    """The launches that `function(**inputs)` makes, with each load and store, found in Triton's interpreter.

    `inputs` are CPU tensors and numbers. Raises what the function raises, as a RuntimeError where it ran elsewhere.
    """
    if INTERPRETED:
        with watch() as launches:
            function(**inputs)
        return launches
    job = pickle.dumps((self_contained(function), python_function(function).__name__, inputs))
    done = subprocess.run([sys.executable, "-m", "checks.tracing"], input=job, capture_output=True, timeout=120,
                          env=os.environ | {"TRITON_INTERPRET": "1"}, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode().strip().splitlines()[-1])
    return pickle.loads(done.stdout)


def _serve() -> None:
    source, name, inputs = pickle.load(sys.stdin.buffer)
    answer = os.dup(1)
    os.dup2(2, 1)  # a kernel's prints must not mix with the answer
    launches = trace(define(source, name, {"__name__": name}), **inputs)
    for launch in launches:
        # The kernel does not travel; of its tensors, shape and strides are enough.
        launch.kernel, launch.arguments = None, {name: _outline(value) for name, value in launch.arguments.items()}
    with os.fdopen(answer, "wb") as out:
        pickle.dump(launches, out)


def _outline(value):
    if not isinstance(value, torch.Tensor):
        return None
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


if __name__ == "__main__":
    _serve()
