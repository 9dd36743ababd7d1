"""Compile kernels for GPUs that need not be here: a server that forks for each request, so that none waits for a start.

A process of its own: Triton cannot compile where it interprets. A request comes as two descriptors through the socket that
is this process's stdin: a socket for the jobs and then the reports, as JSON, and a file for whatever is printed meanwhile.
A job's kernel is `name` in `source`, text that needs nothing else, or in `module`, one of our library, or a `description`
(checks/executor/source.py); only the second kind imports torch, which takes ten times the start.
"""

import contextlib
import importlib
import io
import json
import os
import re
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)
os.environ["TRITON_DUMP_PTXAS_LOG"] = "1"
# The register report is printed only when ptxas runs, so a cached kernel must not skip it.
os.environ["TRITON_ALWAYS_COMPILE"] = "1"

import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402


def compile_job(job: dict[str, Any], folder: str) -> dict[str, Any]:
    log = io.StringIO()
    try:
        kernel = (from_module(job) if "module" in job else from_description(job) if "description" in job
                  else from_source(job, folder))
        while not isinstance(kernel, triton.runtime.JITFunction):
            kernel = kernel.fn
        position = {name: i for i, name in enumerate(kernel.arg_names)}
        constexprs = {(position[name],): constexpr(value) for name, value in job["constexprs"].items()}
        attributes = {(position[name],): [["tt.divisibility", 16]] for name in job["aligned"]}
        source = language(kernel)(kernel, job["signature"], constexprs, attributes)
        with contextlib.redirect_stdout(log):
            compiled = triton.compile(source, target=GPUTarget("cuda", job["capability"], 32), options=job["options"])
    except Exception as error:  # whatever the compiler says goes to the student
        return {"error": describe(error)}
    used = re.search(r"Used (\d+) registers", log.getvalue())
    spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", log.getvalue())
    stack = re.findall(r"(\d+) bytes stack frame", log.getvalue())
    ptx = compiled.asm["ptx"]
    multiplied = re.search(r"(?:mma\.sync|wgmma\.mma_async)[\w.:]*?\.([a-z]+\d\w*)\.\1\b", ptx)  # ...f32.f16.f16.f32
    byte_moves = re.findall(r"(?:ld|st)\.shared(?:::cta)?\.[bsu]8", ptx)
    return {"registers": int(used[1]) if used else None, "spills": sum(map(int, spilled)),
            "stack": sum(map(int, stack)), "shared": compiled.metadata.shared,
            "tensor_cores": "wgmma" if "wgmma.mma" in ptx else "mma" if "mma.sync" in ptx else None,
            "multiplies": multiplied[1] if multiplied else None, "tma": "cp.async.bulk.tensor" in ptx,
            "overlap": "griddepcontrol.wait" in ptx, "byte_moves": len(byte_moves)}


def constexpr(value: Any) -> Any:
    """The value of a constexpr that came as JSON."""
    if isinstance(value, dict):
        return triton.language.dtype(value["dtype"]) if "dtype" in value else tuple(map(constexpr, value["tuple"]))
    return value


def from_source(job: dict[str, Any], folder: str) -> Any:
    if re.search(r"^(from|import) kernels\b", job["source"], re.MULTILINE):  # a helper of our library
        find_library()
    path = Path(folder, "kernel.py")
    path.write_text(job["source"])
    namespace = {"__name__": "kernel"}
    exec(compile(job["source"], path, "exec"), namespace)
    return namespace[job["name"]]


def from_description(job: dict[str, Any]) -> Any:
    from checks.executor.source import define

    return define(job["description"])


def find_library() -> None:
    """From here on `kernels` can be imported."""
    if "kernels" not in sys.modules:
        import torch

        torch.cuda.is_available = lambda: True  # or `kernels` would have Triton interpret; nothing is launched here
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def from_module(job: dict[str, Any]) -> Any:
    find_library()
    return getattr(importlib.import_module(job["module"]), job["name"])


def language(kernel: Any) -> Any:
    if not kernel.is_gluon():
        return ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    return GluonASTSource


def describe(error: BaseException) -> str:
    """The compiler's last word, and the line of the kernel that it is about."""
    line = ""
    while True:
        source, node = getattr(error, "src", None), getattr(error, "node", None)
        if source and node:
            line = source.splitlines()[node.lineno - 1].strip()
        if error.__cause__ is None:
            break
        error = error.__cause__
    lines = [text for text in str(error).strip().splitlines() if text.strip()]
    said = lines[-1].strip()[:300] if lines else type(error).__name__
    return f"{said}\n  at: {line}" if line else said


FIRST = """
import triton
import triton.language as tl
@triton.jit
def first(x_ptr):
    tl.store(x_ptr, 1.0)
"""


def next_request() -> tuple[socket.socket, int]:
    """A request's socket and file. Returns in a fork of this process, where what a request does ends with it."""
    control = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    while True:
        _, descriptors, *_ = socket.recv_fds(control, 1, 2)
        if not descriptors:  # nobody is left to ask
            sys.exit()
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # Triton waits for the assembler
            return socket.socket(fileno=descriptors[0]), descriptors[1]
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:  # the first compilation takes 0.3 s more than the next ones
        compile_job({"source": FIRST, "name": "first", "signature": {"x_ptr": "*fp32"}, "constexprs": {}, "aligned": [],
                     "options": {}, "capability": 80}, folder)
    connection, log = next_request()
    os.dup2(log, 1)
    os.dup2(log, 2)
    with connection, connection.makefile("rw") as stream, tempfile.TemporaryDirectory() as folder:
        request = json.load(stream)
        signal.alarm(request["timeout_s"])  # which ends this process
        json.dump([compile_job(job, folder) for job in request["jobs"]], stream)
