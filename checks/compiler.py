"""What the compiler makes of a kernel on real GPUs, found on a machine that has none."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.launches import Launch
from checks.source import python_function, self_contained

TIMEOUT_S = 60
TARGETS = {80: "sm_80 (A100)", 90: "sm_90 (H100, H200)"}
_TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64",
          torch.int8: "i8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64", torch.bool: "i1"}


@dataclass(frozen=True)
class Compiled:
    """One kernel on one GPU architecture; `error` is the compiler's last word where it refused."""

    registers: int | None = None  # per thread
    spills: int = 0  # bytes of registers that went to memory
    stack: int = 0  # bytes of memory per thread, spilled registers among them
    shared: int = 0  # bytes of shared memory per program
    tensor_cores: str | None = None  # "mma", "wgmma" or None
    tma: bool = False  # whether Hopper's copy engine moves tiles
    overlap: bool = False  # whether it waits for the kernel before it (programmatic dependent launch)
    byte_moves: int = 0  # instructions that move single bytes in shared memory
    error: str | None = None


def start(jobs: list[dict], processes: int = 1, timeout_s: float = TIMEOUT_S) -> Callable[[], list[Compiled]]:
    """Start compiling `jobs` (checks/compile_worker.py) in other processes, while this one goes on.

    Returns a function that waits for the report on each. It raises TimeoutError, or RuntimeError when a process fails.
    """
    texts = [json.dumps(job) for job in jobs]
    missing = [text for text in dict.fromkeys(texts) if text not in _cache]
    shares = [share for share in (missing[i::processes] for i in range(processes)) if share]
    workers = [_worker(share) for share in shares]

    def reports() -> list[Compiled]:
        while workers:
            try:
                out, err = workers[-1].communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                for worker in workers:
                    worker.kill()
                raise TimeoutError(f"the compiler did not finish within {timeout_s} s") from None
            if workers.pop().returncode:
                raise RuntimeError(f"the compiling process failed: {err.strip()[-500:]}")
            _cache.update(zip(shares.pop(), (Compiled(**report) for report in json.loads(out)), strict=True))
        return [_cache[text] for text in texts]

    return reports


_cache: dict[str, Compiled] = {}


def _worker(jobs: list[str]) -> subprocess.Popen:
    script = Path(__file__).with_name("compile_worker.py")
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    process.stdin.write(f"[{', '.join(jobs)}]")
    process.stdin.flush()
    process.stdin.close()
    process.stdin = None  # so that communicate() does not close it again
    return process


class Compilation:
    """Launches' kernels being compiled for each of TARGETS."""

    def __init__(self, launches: list[Launch]):
        self._launches, self._errors, jobs = len(launches), {}, {}
        for index, launch in enumerate(launches):
            for capability in TARGETS:
                try:
                    jobs[index, capability] = _job(launch, capability)
                except ValueError as error:
                    self._errors[index, capability] = Compiled(error=str(error))
        self._compiling, self._finish = list(jobs), start(list(jobs.values()))

    def reports(self) -> list[dict[int, Compiled]]:
        """For each launch, by compute capability. Raises as `start` says."""
        found = self._errors | dict(zip(self._compiling, self._finish(), strict=True))
        return [{capability: found[index, capability] for capability in TARGETS} for index in range(self._launches)]


def _job(launch: Launch, capability: int) -> dict:
    signature, constexprs, aligned = {}, {}, []
    for name, value in launch.arguments.items():
        if name in launch.constexprs or type(value) is int and value == 1:  # Triton builds a 1 in, as it does constexprs
            value = value.value if isinstance(value, tl.constexpr) else value
            if not isinstance(value, int | float | str | None):
                raise ValueError(f"the constexpr `{name}` is a {type(value).__name__}, which cannot be compiled here")
            signature[name], constexprs[name] = "constexpr", value
        elif value is None:
            signature[name], constexprs[name] = "constexpr", None
        else:
            signature[name] = _triton_type(name, value)
            # Compiled as for the shapes of real models: aligned pointers, sizes that 16 divides.
            if isinstance(value, torch.Tensor) or (isinstance(value, int) and value != 1):
                aligned.append(name)
    return {"source": _source(launch.kernel), "name": python_function(launch.kernel).__name__, "signature": signature,
            "constexprs": constexprs, "aligned": aligned, "options": launch.options, "capability": capability}


@functools.lru_cache
def _source(kernel) -> str:
    return self_contained(kernel)


def _triton_type(name: str, value) -> str:
    if isinstance(value, torch.Tensor):
        return f"*{_TYPES[value.dtype]}"
    if isinstance(value, TensorDescriptor):
        return f"tensordesc<{_TYPES[value.base.dtype]}{list(value.block_shape)}>"
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, int):
        return "i32" if -2**31 <= value < 2**31 else "i64"
    if isinstance(value, float):
        return "fp32"
    raise ValueError(f"the argument `{name}` is a {type(value).__name__}, which a kernel cannot take")
