"""Students' kernels compiled in children: to the text that is executed, and for GPUs that need not be here."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from checks.grader.sandbox.client import ForkServer
from checks.host.steps import LaunchStep
from checks.judge.compiler import TARGETS, Compiled, aligned

KEPT = 4096  # results that are remembered, of each kind


class Compiler:
    """Compiles described kernels in children of a fork server of their own, and remembers what it has compiled."""

    def __init__(self, timeout_s: float):
        self._timeout_s = timeout_s
        self._server: ForkServer | None = None
        self._texts: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._reports: OrderedDict[str, dict[int, Compiled]] = OrderedDict()

    @property
    def server(self) -> ForkServer:
        """Started with the first kernel."""
        if self._server is None:
            self._server = ForkServer("compile", self._timeout_s)
        return self._server

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def texts(self, launches: Iterable[LaunchStep], for_gpu: bool = False) -> list[dict[str, str]]:
        """{"text": TTIR} or {"error": why Triton refuses it} for each launch. Raises ChildExited, Fault.

        Those for a GPU say of which arguments 16 divides the address or the number, as a launch there would.
        """
        requests = [text_request(step, for_gpu) for step in launches]
        missing = {_key(request): request for request in requests if _key(request) not in self._texts}
        if missing:
            with self.server.child({"texts": list(missing.values()), "reports": []}) as child:
                said = child.begin()["texts"]
            for key, one in zip(missing, said, strict=True):
                self._texts[key] = {"error": str(one["error"])} if "error" in one else {"text": str(one["text"])}
        found = [self._texts[_key(request)] for request in requests]
        _forget(self._texts)
        return found

    def reports(self, step: LaunchStep) -> dict[int, Compiled]:
        """For each target, what the compiler makes of the launched kernel. Raises ChildExited, Fault."""
        job = {"description": step.kernel, "signature": step.signature, "constexprs": step.constexprs,
               "aligned": aligned(step.signature), "options": step.options}
        key = _key(job)
        if key not in self._reports:
            jobs = [job | {"capability": capability} for capability in TARGETS]
            with self.server.child({"texts": [], "reports": jobs}) as child:
                said = child.begin()["reports"]
            self._reports[key] = {capability: Compiled(**report) for capability, report in zip(TARGETS, said, strict=True)}
            _forget(self._reports)
        return self._reports[key]


def text_request(step: LaunchStep, for_gpu: bool = False) -> dict[str, str]:
    """What checks/executor/frontend.py is asked for a launch whose kernel is a description."""
    divided = [name for name, type_ in step.signature.items() if type_.startswith("*")
               or type_ in ("i32", "i64") and isinstance(step.arguments[name], int) and step.arguments[name] % 16 == 0]
    return {"source": str(step.kernel), "signature": json.dumps(step.signature), "constexprs": json.dumps(step.constexprs),
            "aligned": json.dumps(divided if for_gpu else [])}


def _key(job: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()


def _forget(kept: OrderedDict) -> None:
    while len(kept) > KEPT:
        kept.popitem(last=False)
