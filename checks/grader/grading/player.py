"""The process that plays a submission's recordings back, one after the other: no line of a student's runs in it."""

import hashlib
import json
from collections import OrderedDict

from checks.exercises import EXERCISES
from checks.grader.grading.cases import CaseSet
from checks.grader.sandbox.client import Child, ChildExited, ForkServer
from checks.judge.trial import TIMEOUT_S

KEPT_BYTES = 256 << 20
DEPENDS_ON_LOAD = ("TimeoutError", "LimitExceeded", "MemoryError")
Answer = tuple[dict, bytes]


class Played:
    """What came of recordings, by all that decides it: kernels, arguments and inputs. In a class many are the same."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._bytes = 0

    @staticmethod
    def key(question: dict, payload: bytes) -> str:
        return hashlib.sha256(json.dumps(question, sort_keys=True).encode() + b"\0" + payload).hexdigest()

    def get(self, key: str) -> Answer | None:
        if key in self._answers:
            self._answers.move_to_end(key)
        return self._answers.get(key)

    def keep(self, key: str, answer: Answer) -> None:
        error = answer[0].get("error")
        if error and error["type"] in DEPENDS_ON_LOAD:
            return
        self._answers[key] = answer
        self._bytes += len(answer[1])
        while self._bytes > KEPT_BYTES:
            self._bytes -= len(self._answers.popitem(last=False)[1][1])


class Player:
    """One child for all recordings of a submission; a new one for an exercise that needs more memory, and after a recording
    over which it ended."""

    def __init__(self, server: ForkServer, played: Played):
        self.server, self.played = server, played
        self._child: Child | None = None
        self._data_bytes = 0  # that it may allocate
        self._last: CaseSet | None = None

    def ask(self, case_set: CaseSet, question: dict, payload: bytes, until: float) -> Answer:
        """What came of one recording. Raises ChildExited, Fault."""
        key = self.played.key(question, payload)
        if (known := self.played.get(key)) is not None:
            return known
        child = self._child_for(case_set.data_bytes)
        child.deadline = until
        afresh, self._last = self._last is not case_set, case_set
        try:
            answer = child.ask(question | {"afresh": afresh}, payload, TIMEOUT_S)
        except ChildExited:
            self.close()
            raise
        self.played.keep(key, answer)
        return answer

    def _child_for(self, data_bytes: int) -> Child:
        if self._child is None or data_bytes > self._data_bytes:
            self.close()
            child = self.server.child({}, data_bytes, exercises=len(EXERCISES), serves="play_child")
            try:
                child.begin()
            except BaseException:
                child.__exit__()
                raise
            self._child, self._data_bytes = child, data_bytes
        return self._child

    def close(self) -> None:
        if self._child is not None:
            self._child.__exit__()
            self._child = None
