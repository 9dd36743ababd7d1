"""Students' kernels compiled in children: to the text that is executed, and for GPUs that need not be here."""

import hashlib
import json
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from typing import Any

from checks.grader.sandbox.client import ChildExited, ForkServer
from checks.grader.sandbox.wire import HEADER_LIMIT
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

    def texts(self, launches: Iterable[LaunchStep], for_gpu: bool = False,
              until: float = float("inf")) -> list[dict[str, str]]:
        """{"text": TTIR} or {"error": why Triton refuses it} for each launch. Raises ChildExited, Fault.

        Those for a GPU say of which arguments 16 divides the address or the number, as a launch there would. What is not
        there at `until`, as time.monotonic() counts, came too late.
        """
        requests = [text_request(step, for_gpu) for step in launches]
        missing: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
        for request in requests:
            if (key := _key(request)) not in self._texts:
                missing[request["source"]][key] = request
        for of_one_kernel in missing.values():  # each kernel in a child of its own: what is kept here serves a whole class
            self._compile(of_one_kernel, until)
        found = [self._texts[_key(request)] for request in requests]
        _forget(self._texts)
        return found

    def _compile(self, requests: dict[str, dict[str, str]], until: float) -> None:
        if sum(map(len, map(json.dumps, requests.values()))) > HEADER_LIMIT // 2:
            raise ChildExited("its kernels are too large to be compiled.")
        with self.server.child({"texts": list(requests.values()), "reports": []}) as child:
            child.deadline = min(child.deadline, until)
            said = child.begin()["texts"]
        for key, one in zip(requests, said, strict=True):
            self._texts[key] = {"error": str(one["error"])} if "error" in one else {"text": str(one["text"])}

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
