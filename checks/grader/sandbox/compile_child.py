"""In a child: compiles described kernels, to TTIR for the executor, and for GPUs that need not be here."""

import os
import sys
import tempfile

from checks.executor.errors import CompileError
from checks.executor.frontend import compile_request
from checks.grader.sandbox import wire
from checks.judge.compile_worker import FIRST, compile_job


def warm_up() -> None:
    """In the fork server, before any child: the first compilation of all imports the compiler."""
    report = compile_job(FIRST)
    if "error" in report:
        raise RuntimeError(f"Triton does not compile here: {report['error']}")


def serve(sock) -> None:
    """Answer one frame: `texts` for checks/executor/frontend.py, `reports` for checks/judge/compile_worker.py."""
    job, _ = wire.receive(sock, 0)
    os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp()
    sys.dont_write_bytecode = True
    wire.send(sock, {"texts": [_text(one) for one in job["texts"]],
                     "reports": [compile_job(one) for one in job["reports"]]})


def _text(request: dict[str, str]) -> dict[str, str]:
    try:
        return {"text": compile_request(request)}
    except CompileError as error:
        return {"error": str(error)[:2000]}
