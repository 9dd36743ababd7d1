"""The process that measures one group of units, so that a kernel that crashes or hangs takes no other's figures along.

Reads {"units": […], "without": {unit's key: [functions]}} from standard input, and writes events, a JSON object a line.
"""

import json
import os
import sys

import torch

import kernels  # noqa: F401  first of ours: it decides whether Triton interprets
from checks.bench import workloads
from checks.bench.measure import Refused
from checks.bench.operands import Wrong
from checks.bench.perf import Watcher
from kernels.runtime import INTERPRETED


class Reporter(Watcher):
    """Sends what happens as events."""

    def __init__(self, stream):
        self.stream = stream

    def send(self, **event) -> None:
        self.stream.write(json.dumps(event) + "\n")
        self.stream.flush()

    def trying(self, name: str) -> None:
        self.send(trying=name)

    def left_out(self, name: str, error: Exception) -> None:
        kind = "refused" if isinstance(error, Refused) else "wrong"
        reason = str(error) if isinstance(error, Refused | Wrong) else f"{name}: {type(error).__name__}: {error}"
        self.send(left_out=name, kind=kind, reason=reason.strip().splitlines()[0][:500])
        if not INTERPRETED:
            torch.cuda.synchronize()  # after an illegal access nothing works in this process: let it end here


def main() -> None:
    # What kernels and libraries print must not get among the events.
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    reporter = Reporter(stream)
    job = json.load(sys.stdin)
    for unit in job["units"]:
        reporter.send(unit=workloads.key(unit))
        rows = workloads.measure(unit, reporter, tuple(job["without"].get(workloads.key(unit), ())))
        reporter.send(rows=rows)
        if not INTERPRETED:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
