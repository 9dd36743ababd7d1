"""The grader's end of the sandbox: warm processes, and the child that each job gets.

Everything that comes out of a child is bytes or JSON of limited size, read before a deadline, and never unpickled or run.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from checks.grader.sandbox import wire
from checks.paths import ROOT

FULL = ("namespaces", "files", "seccomp", "limits")
"""The levels that `--require-isolation` asks for."""
GIGABYTE = 2**30
START_S = 180  # for the imports of a warm process on a loaded machine
OUTPUT_LIMIT = 64 << 20  # bytes of results and maps in one answer


class Fault(Exception):
    """The grader or the machine failed, not the student."""


class Ended(Exception):
    """A child ended, was ended, or sent what is no answer, before it had answered; `how` says it for the student."""

    def __init__(self, how: str, kind: str = "crashed"):
        super().__init__(how)
        self.how, self.kind = how, kind


class Warm:
    """A warm process of one kind: "run", "compile" or "gpu"."""

    def __init__(self, kind: str, timeout_s: float, environment: dict | None = None):
        """`timeout_s` is how long each child may take."""
        self.kind, self.timeout_s, self.scratch = kind, timeout_s, tempfile.mkdtemp(prefix="grader-")
        ours, theirs = socket.socketpair()
        variables = {name: value for name, value in os.environ.items()
                     if name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_HOME")}
        variables |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0",
                      "TRITON_CACHE_DIR": self.scratch, "TMPDIR": self.scratch} | (environment or {})
        if kind == "run":
            variables |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
        script = Path(__file__).with_name("forkserver.py")
        self.log = Path(self.scratch, "log").open("w+")  # noqa: SIM115  open as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-B", script, kind, str(ROOT), str(theirs.fileno())], pass_fds=[theirs.fileno()],
            env=variables, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=self.scratch)
        theirs.close()
        self.control = ours
        try:
            self.levels = wire.receive(ours, 0, time.monotonic() + START_S)[0]["levels"]
        except (EOFError, TimeoutError, wire.Garbled):
            said = self.said()
            self.close()
            raise Fault(f"the warm process did not start: {said}") from None

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()[-500:].strip()

    def child(self, job: dict, data_bytes: int = 3 * GIGABYTE) -> "Child":
        """A new child at work on `job`. Raises Fault when none can be had."""
        scratch = tempfile.mkdtemp(dir=self.scratch)
        ours, theirs = socket.socketpair()
        status, their_status = socket.socketpair()
        order = {"levels": self.levels, "timeout_s": self.timeout_s, "data_bytes": data_bytes,
                 "memory_bytes": (16 if self.kind == "gpu" else 2) * GIGABYTE,
                 "file_bytes": 64 << 20, "scratch": scratch}
        try:
            socket.send_fds(self.control, [json.dumps(order).encode()], [theirs.fileno(), their_status.fileno()])
        except OSError as error:
            raise Fault(f"the warm process is gone: {error}; it said: {self.said()}") from None
        finally:
            theirs.close()
            their_status.close()
        return Child(self.kind, ours, status, scratch, job, self.timeout_s)

    def close(self) -> None:
        self.control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


class Child:
    """One child; use it in a `with` block, which ends it."""

    def __init__(self, kind, sock, status, scratch, job, timeout_s):
        self.kind, self.sock, self.status, self.scratch = kind, sock, status, scratch
        self.deadline = time.monotonic() + timeout_s
        self.job = job

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_) -> None:
        self.sock.close()
        self.finish()
        self.status.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def finish(self) -> dict:
        """End the child and say how it ended, as its keeper has it; empty when the keeper is gone too."""
        with contextlib.suppress(OSError):
            self.status.send(b"x")
        try:
            return wire.receive(self.status, 0, time.monotonic() + 20)[0]
        except (EOFError, TimeoutError, wire.Garbled, OSError):
            return {}

    def begin(self) -> dict:
        """Hand over the job; the child's first word, or all that it has to say. Raises Ended, Fault."""
        return self._ask(self.job, b"", None, 0, self.deadline)

    def ask(self, question: dict, payload: bytes, timeout_s: float) -> tuple[dict, bytes]:
        """The answer to one case. Raises Ended, Fault."""
        nonce = secrets.token_hex(8)
        answer = self._ask(question | {"nonce": nonce, "timeout_s": timeout_s}, payload, nonce, OUTPUT_LIMIT,
                           min(self.deadline, time.monotonic() + timeout_s + 5))
        return answer, self.payload

    def _ask(self, question, payload, nonce, limit, deadline) -> dict:
        try:
            self.sock.settimeout(max(0.1, deadline - time.monotonic()))
            wire.send(self.sock, question, payload)
            answer, self.payload = wire.receive(self.sock, limit, deadline)
        except wire.Garbled as error:
            raise Ended(f"what came back is no result ({error})") from None
        except TimeoutError:
            raise Ended("it did not finish in time. Does a loop never end?", "timeout") from None
        except (EOFError, OSError):
            raise self._why() from None
        if "fault" in answer and nonce is None:
            raise Fault(f"the child could not be shut in: {answer['fault']}")
        if answer.get("nonce") != nonce:
            raise Ended("what came back answers another question")
        return answer

    def _why(self) -> Exception:
        told = self.finish()
        if not told:
            return Fault("a child and its keeper are both gone")
        if told["reason"] == "memory" or told["signal"] == 9 and told["reason"] == "ended":
            return Ended("it used too much memory.", "out of memory")
        if told["reason"] == "time" or told["signal"] == 24:
            return Ended("it did not finish in time. Does a loop never end?", "timeout")
        if told["signal"]:
            return Ended(f"its process died (signal {told['signal']}): memory outside the tensors was touched, or the "
                         "process ended itself.")
        if told["code"] == 91 and self.kind == "compile":
            return Fault("the compiling child broke down")
        if told["code"] == 91:
            return Ended("its process broke down while the results were read.")
        return Ended(f"its process ended itself with code {told['code']} before the result was there.")


def encode(inputs: dict) -> tuple[list, bytes]:
    """Inputs as JSON and raw bytes; of a tensor its elements and its strides, not the gaps between them."""
    described, parts = [], []
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor):
            # A clone: of one element, torch calls any strides contiguous, but views as bytes those of 1 alone.
            raw = value.clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8).numpy().tobytes()
            described.append([name, "tensor", str(value.dtype).removeprefix("torch."), list(value.shape),
                              list(value.stride()), len(raw)])
            parts.append(raw)
        elif isinstance(value, torch.dtype):
            described.append([name, "dtype", str(value).removeprefix("torch.")])
        elif isinstance(value, bool | int | float | str | None):
            kind = "none" if value is None else type(value).__name__
            described.append([name, kind, value.hex() if isinstance(value, float) else str(value)])
        else:
            raise TypeError(f"the input `{name}` is a {type(value).__name__}, which cannot be sent as bytes")
    return described, b"".join(parts)


class NotRead:
    """What came back where a tensor or a number was wanted: its type's name and its repr, as text."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def decode(described: list, payload: bytes) -> list:
    """The outputs that an answer describes: tensors of raw bytes, numbers, or NotRead. Raises Ended for what is none."""
    outputs, at = [], 0
    try:
        for kind, *rest in described:
            if kind == "tensor":
                name, shape, device, size = rest
                dtype = getattr(torch, name) if name in _DTYPES else None
                if (dtype is None or not all(isinstance(n, int) and n >= 0 for n in shape) or len(shape) > 8
                        or size != _product(shape) * dtype.itemsize or at + size > len(payload)):
                    raise ValueError
                raw = bytearray(payload[at:at + size])
                flat = torch.frombuffer(raw, dtype=dtype) if size else torch.empty(0, dtype=dtype)
                outputs.append(flat.reshape(shape))
                at += size
            elif kind == "int":
                outputs.append(int(str(rest[0])[:400]))
            elif kind == "float":
                outputs.append(float.fromhex(str(rest[0])[:80]))
            else:
                stand_in = type(str(rest[0])[:80] if str(rest[0]).isidentifier() else "object", (NotRead,), {})
                outputs.append(None if rest[0] == "NoneType" else stand_in(str(rest[1])[:200]))
    except (ValueError, TypeError, IndexError, OverflowError, RuntimeError):
        raise Ended("what came back is no result (its description does not fit its bytes)") from None
    return outputs


_DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")


def _product(shape: list[int]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count
