"""Compile kernels for GPUs that need not be here: a server that forks for each request, so that none waits for a start.

A process of its own: Triton cannot compile where it interprets. A request comes as two descriptors through the socket that
is this process's stdin: a socket for the jobs and then the reports, as JSON, and a file for whatever is printed meanwhile.
A job's kernel is a `description` (checks/executor/source.py), or `name` in `module`, one of our library; only the second
kind imports torch, which takes ten times the start.
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
import traceback
import types
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)
os.environ["TRITON_DUMP_PTXAS_LOG"] = "1"
# The register report is printed only when ptxas runs, so a cached kernel must not skip it.
os.environ["TRITON_ALWAYS_COMPILE"] = "1"

if __name__ == "__main__":  # without what the packages themselves import, torch and Triton's interpreter
    for name, folder in ("checks", Path(__file__).parents[1]), ("checks.executor", Path(__file__).parents[1] / "executor"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]

import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from checks.executor import source  # noqa: E402
from checks.executor.calls import tritons_own_alone  # noqa: E402
from checks.executor.frontend import constexpr_value, last_word  # noqa: E402


def compile_job(job: dict[str, Any]) -> dict[str, Any]:
    log, texts = io.StringIO(), None
    try:
        texts = source.texts(job["description"]) if "description" in job else None
        kernel = from_module(job) if "module" in job else source.define(job["description"])
        while not isinstance(kernel, triton.runtime.JITFunction):
            kernel = kernel.fn
        position = {name: i for i, name in enumerate(kernel.arg_names)}
        constexprs = {(position[name],): constexpr_value(value) for name, value in job["constexprs"].items()}
        attributes = {(position[name],): [["tt.divisibility", 16]] for name in job["aligned"]}
        made = language(kernel)(kernel, job["signature"], constexprs, attributes)
        strangers = tritons_own_alone() if texts else contextlib.nullcontext()
        with contextlib.redirect_stdout(log), strangers:
            compiled = triton.compile(made, target=GPUTarget("cuda", job["capability"], 32), options=job["options"])
    except Exception as error:  # whatever the compiler says goes to the student
        refused = re.search(r"^ptxas .*?line \d+; error\s*: (.*)$", str(error), re.MULTILINE)  # and not its command
        return {"error": f"ptxas: {refused[1]}" if refused else last_word(error, texts)}
    used = re.search(r"Used (\d+) registers", log.getvalue())
    spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", log.getvalue())
    stack = re.findall(r"(\d+) bytes stack frame", log.getvalue())
    ptx = compiled.asm["ptx"]
    multiplied = re.search(r"(?:mma\.sync|wgmma\.mma_async)[\w.:]*?\.([a-z]+\d\w*)\.\1\b", ptx)  # ...f32.f16.f16.f32
    waits = re.findall(r"wgmma\.wait_group\.sync\.aligned (\d+)", ptx)
    byte_moves = re.findall(r"(?:ld|st)\.shared(?:::cta)?\.[bsu]8", ptx)
    return {"registers": int(used[1]) if used else None, "spills": sum(map(int, spilled)),
            "stack": sum(map(int, stack)), "shared": compiled.metadata.shared,
            "tensor_cores": "wgmma" if "wgmma.mma" in ptx else "mma" if "mma.sync" in ptx else None,
            "multiplies": multiplied[1] if multiplied else None, "pending": max(map(int, waits), default=0),
            "tma": "cp.async.bulk.tensor" in ptx,
            "overlap": "griddepcontrol.wait" in ptx, "byte_moves": len(byte_moves)}


def from_module(job: dict[str, Any]) -> Any:
    if "kernels" not in sys.modules:
        import torch

        torch.cuda.is_available = lambda: True  # or `kernels` would have Triton interpret; nothing is launched here
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    return getattr(importlib.import_module(job["module"]), job["name"])


def language(kernel: Any) -> Any:
    if not kernel.is_gluon():
        return ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    return GluonASTSource


FIRST = {"description": json.dumps({"file": "first.py", "name": "first", "files": {"first.py": {
    "functions": {"first": [1, "def first(x_ptr):\n    tl.store(x_ptr, 1.0)\n", False]},
    "names": {"tl": ["module", "triton.language"]}}}}),
    "signature": {"x_ptr": "*fp32"}, "constexprs": {}, "aligned": [], "options": {}, "capability": 80}


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


def serve(connection: socket.socket) -> None:
    """Answer a request, within the time that it gives."""
    with connection, connection.makefile("rw") as stream:
        try:
            request = json.load(stream)
            signal.alarm(request["timeout_s"])  # which ends this process
            json.dump([compile_job(job) for job in request["jobs"]], stream)
        except Exception:
            traceback.print_exc()  # while whoever asked is still waiting
            sys.exit(1)


if __name__ == "__main__":
    compile_job(FIRST)  # the first compilation takes 0.3 s more than the next ones
    connection, log = next_request()
    os.dup2(log, 1)
    os.dup2(log, 2)
    serve(connection)
