"""What the compiler makes of a kernel on real GPUs, found on a machine that has none."""

import functools
import json
import subprocess
import sys
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
    shared: int = 0  # bytes of shared memory per program
    tensor_cores: str | None = None  # "mma", "wgmma" or None
    error: str | None = None


class Compilation:
    """Launches' kernels being compiled for each of TARGETS, in another process, while this one goes on."""

    def __init__(self, launches: list[Launch]):
        self._errors, self._jobs, self._process = {}, {}, None
        for index, launch in enumerate(launches):
            for capability in TARGETS:
                try:
                    self._jobs[index, capability] = json.dumps(_job(launch, capability))
                except ValueError as error:
                    self._errors[index, capability] = Compiled(error=str(error))
        self._launches = len(launches)
        self._missing = [job for job in dict.fromkeys(self._jobs.values()) if job not in _cache]
        if self._missing:
            worker = Path(__file__).with_name("compile_worker.py")
            self._process = subprocess.Popen([sys.executable, worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE, text=True)
            self._process.stdin.write(f"[{', '.join(self._missing)}]")
            self._process.stdin.flush()
            self._process.stdin.close()
            self._process.stdin = None  # so that communicate() does not close it again

    def reports(self) -> list[dict[int, Compiled]]:
        """For each launch, by compute capability. Raises TimeoutError, or RuntimeError when the process itself fails."""
        if self._process:
            try:
                out, err = self._process.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise TimeoutError(f"the compiler did not finish within {TIMEOUT_S} s") from None
            if self._process.returncode:
                raise RuntimeError(f"the compiling process failed: {err.strip()[-500:]}")
            _cache.update(zip(self._missing, (Compiled(**report) for report in json.loads(out)), strict=True))
            self._process = None
        found = self._errors | {key: _cache[job] for key, job in self._jobs.items()}
        return [{capability: found[index, capability] for capability in TARGETS} for index in range(self._launches)]


_cache: dict[str, Compiled] = {}


def _job(launch: Launch, capability: int) -> dict:
    signature, constexprs, aligned = {}, {}, []
    for name, value in launch.arguments.items():
        if name in launch.constexprs:
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
