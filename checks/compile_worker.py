"""Compile kernels for GPUs that need not be here: jobs as JSON on stdin, reports as JSON on stdout.

A process of its own: Triton cannot compile where it interprets. A job's kernel is `name` in `source`, text that needs
nothing else, or in `module`, one of our library; only the second kind imports torch, which takes ten times the start.
"""

import contextlib
import importlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)
os.environ["TRITON_DUMP_PTXAS_LOG"] = "1"
# The register report is printed only when ptxas runs, so a cached kernel must not skip it.
os.environ["TRITON_ALWAYS_COMPILE"] = "1"

import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402


def compile_job(job: dict, folder: str) -> dict:
    log = io.StringIO()
    try:
        kernel = from_module(job) if "module" in job else from_source(job, folder)
        while not isinstance(kernel, triton.runtime.JITFunction):
            kernel = kernel.fn
        position = {name: i for i, name in enumerate(kernel.arg_names)}
        constexprs = {(position[name],): value for name, value in job["constexprs"].items()}
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
    byte_moves = re.findall(r"(?:ld|st)\.shared(?:::cta)?\.[bsu]8", ptx)
    return {"registers": int(used[1]) if used else None, "spills": sum(map(int, spilled)),
            "stack": sum(map(int, stack)), "shared": compiled.metadata.shared,
            "tensor_cores": "wgmma" if "wgmma.mma" in ptx else "mma" if "mma.sync" in ptx else None,
            "tma": "cp.async.bulk.tensor" in ptx, "overlap": "griddepcontrol.wait" in ptx,
            "byte_moves": len(byte_moves)}


def from_source(job: dict, folder: str):
    path = Path(folder, "kernel.py")
    path.write_text(job["source"])
    namespace = {"__name__": "kernel"}
    exec(compile(job["source"], path, "exec"), namespace)
    return namespace[job["name"]]


def from_module(job: dict):
    if "kernels" not in sys.modules:
        import torch

        torch.cuda.is_available = lambda: True  # or `kernels` would have Triton interpret; nothing is launched here
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    return getattr(importlib.import_module(job["module"]), job["name"])


def language(kernel) -> type[ASTSource]:
    if not kernel.is_gluon():
        return ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    return GluonASTSource


def describe(error: Exception) -> str:
    """The compiler's last word, and the line of the kernel that it is about."""
    line = ""
    while True:
        if getattr(error, "src", None) and getattr(error, "node", None):
            line = error.src.splitlines()[error.node.lineno - 1].strip()
        if error.__cause__ is None:
            break
        error = error.__cause__
    lines = [text for text in str(error).strip().splitlines() if text.strip()]
    said = lines[-1].strip()[:300] if lines else type(error).__name__
    return f"{said}\n  at: {line}" if line else said


if __name__ == "__main__":
    answer = os.dup(1)
    os.dup2(2, 1)  # whatever the compiler prints must not mix with the reports
    with tempfile.TemporaryDirectory() as folder:
        reports = [compile_job(job, folder) for job in json.load(sys.stdin)]
    with os.fdopen(answer, "w") as out:
        json.dump(reports, out)
