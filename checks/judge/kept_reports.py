"""The compiler's reports in files, by what was compiled, beside Triton's own cache: a kernel that has not changed since an
earlier session, or in another notebook, is not compiled again."""

import contextlib
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import triton
from triton import knobs
from triton._C.libtriton import get_cache_invalidating_env_vars

from checks.paths import ROOT

COMPILE_WITH = ("judge/compiler.py", "judge/compile_worker.py", "executor/source.py", "executor/frontend.py",
                "executor/calls.py")
"""What makes a report of a job and finds the job it is of, Triton and its assembler apart."""


def find(job: str) -> dict[str, Any] | None:
    """The report on a job that was kept, if there is one."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(_path(job).read_text())
        return kept["report"] if kept["job"] == job else None
    return None


def keep(job: str, report: dict[str, Any]) -> None:
    """Keep the report on a job that is described whole. A refusal is asked for anew: it may be the machine's fault."""
    if report["error"] is None and "description" in json.loads(job):
        with contextlib.suppress(OSError):  # a full disk, a home that cannot be written: the next session compiles again
            path = _path(job)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"job": job, "report": report}))  # half of it is none, see find()


def _path(job: str) -> Path:
    name = hashlib.sha256(f"{_compiler()}{job}".encode()).hexdigest()
    return Path(knobs.cache.dir) / "reports" / f"{name}.json"


@functools.cache
def _compiler() -> str:
    """What a report depends on beside its job, in short: to read it for each takes longer than all else."""
    assembler = Path(knobs.nvidia.ptxas.path)
    found = assembler.stat()
    whole = (triton.__version__, str(assembler), found.st_size, found.st_mtime_ns, get_cache_invalidating_env_vars(),
             *((ROOT / "checks" / name).read_text() for name in COMPILE_WITH))
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()
