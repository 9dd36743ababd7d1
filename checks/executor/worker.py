"""The executor in a process of its own, with limits of memory and time: the text of a kernel is a stranger's.

The process is started with the first run, again after it has died, and knows nothing of the caller but what it is sent.
"""

import functools
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from checks.executor import frames, memory
from checks.executor.arguments import Tensor, flat
from checks.executor.errors import DEFAULT_LIMITS, ExecutorError, LimitExceeded, Limits, Malformed, Unsupported
from checks.executor.processes import Server
from checks.executor.report import Report
from checks.executor.run import Module

GRACE_S = 5.0  # beyond the limit of a run, which is looked at between operations only
ERRORS = {cls.__name__: cls for cls in (ExecutorError, LimitExceeded, Malformed, TypeError, ValueError)}


class Worker:
    """Runs modules of TTIR as `Module(text, limits).run` does, elsewhere. `memory` bounds the process, in bytes."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS, memory: int = 4 << 30):
        self._limits, self._memory = limits, memory
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._server = Server("worker", environment)

    def run(self, text: str, grid: Sequence[int], arguments: Mapping[str, Any], *,
            undefined: Mapping[str, np.ndarray] | None = None, loaded: bool = False, trace: bool = False) -> Report:
        """As `Module.run`. LimitExceeded too when the process gives no answer, ExecutorError when it dies."""
        given = flat(arguments)
        groups = _storages([value for _, value in given if isinstance(value, Tensor)])
        arrays = [group.content() for group in groups]
        places = {id(tensor): [g, *group.describe(tensor)] for g, group in enumerate(groups) for tensor in group.tensors}
        sent = [[name, places[id(value)] if isinstance(value, Tensor) else getattr(value, "item", lambda v=value: v)()]
                for name, value in given]
        question = {"text": text, "grid": list(map(int, grid)), "arguments": sent, "limits": asdict(self._limits),
                    "memory": self._memory, "undefined": list(undefined or {}), "loaded": loaded, "trace": trace}
        answer, results = self._server.ask(question, self._limits.seconds + GRACE_S,
                                           arrays + [np.asarray(mask) for mask in (undefined or {}).values()])
        if "error" in answer:
            kind, message = answer["error"]
            raise Unsupported(*message) if kind == "Unsupported" else ERRORS[kind](message)
        for which, result in zip(answer["written"], results, strict=False):
            groups[which].write_back(result)
        report = frames.unpack(answer["report"], results)
        assert isinstance(report, Report)
        return report

    def stop(self) -> None:
        """End the process, if there is one."""
        self._server.stop()


class _Storage:
    """What is sent of a storage: the range that its tensors span, or the elements alone where they lie far apart."""

    def __init__(self, tensors: list[Tensor]):
        self.tensors, self.packed = tensors, memory.is_sparse(tensors)
        self.low = min(t.start * t.itemsize for t in tensors)
        self.high = max(t.start * t.itemsize + memory.span(t) * t.itemsize for t in tensors)

    def _inside(self) -> np.ndarray:
        return memory.elements(self.tensors[0]) if self.packed else self.tensors[0].storage[self.low:self.high]

    def content(self) -> np.ndarray:
        if not self.packed:
            return self._inside()
        packed = memory.packed(self.tensors[0])
        memory.elements(packed)[...] = self._inside()
        return packed.storage

    def describe(self, tensor: Tensor) -> list[Any]:
        start = 0 if self.packed else tensor.start - self.low // tensor.itemsize
        return [tensor.itemsize, tensor.shape, tensor.strides, start, self.packed]

    def write_back(self, content: np.ndarray) -> None:
        if self.packed:
            packed = memory.packed(self.tensors[0])
            packed.storage[...] = content
            self._inside()[...] = memory.elements(packed)
        else:
            self._inside()[...] = content


def _storages(tensors: list[Tensor]) -> list[_Storage]:
    groups: dict[int, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.address, []).append(tensor)
    return [_Storage(group) for group in groups.values()]


@functools.lru_cache(maxsize=64)
def _module(text: str, limits: Limits) -> Module:
    return Module(text, limits)


def _answer(question: dict[str, Any], arrays: list[np.ndarray]) -> tuple[Any, list[np.ndarray]]:
    storages = len(arrays) - len(question["undefined"])
    arguments: list[tuple[str, Any]] = []
    for name, value in question["arguments"]:
        if isinstance(value, list):
            which, itemsize, shape, strides, start, packed = value
            value = Tensor(arrays[which], itemsize, tuple(shape), tuple(strides), start, packed)
        arguments.append((name, value))
    module = _module(question["text"], Limits(**question["limits"]))
    report = module.run(question["grid"], arguments, loaded=question["loaded"], trace=question["trace"],
                        undefined=dict(zip(question["undefined"], arrays[storages:], strict=True)))
    tensors = [(name, value[0]) for name, value in question["arguments"] if isinstance(value, list)]
    written = sorted({which for name, which in tensors if name in report.written})
    results = [arrays[which] for which in written]
    return {"written": written, "report": frames.pack(report, results)}, results


def serve() -> None:
    """What the process does: questions from standard input, answers to what was standard output."""
    answers = os.dup(1)
    os.dup2(2, 1)
    while True:
        try:
            question, arrays = frames.read(0)
        except EOFError:
            sys.exit()
        resource.setrlimit(resource.RLIMIT_AS, (question["memory"], resource.getrlimit(resource.RLIMIT_AS)[1]))
        results: list[np.ndarray] = []
        answer: dict[str, Any]
        try:
            answer, results = _answer(question, arrays)
        except Unsupported as error:
            answer = {"error": ["Unsupported", [error.operation, error.reason]]}
        except MemoryError:
            answer = {"error": ["LimitExceeded", "the kernel needs more memory than there is"]}
        except Exception as error:
            kind = type(error).__name__
            answer = {"error": [kind if kind in ERRORS else "ExecutorError", str(error)]}
        del arrays
        frames.write(answers, answer, results)
