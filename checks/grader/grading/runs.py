"""One program on a list of cases, in a child: outcomes as the judge makes them, from returned bytes, and what was seen."""

from collections import Counter
from dataclasses import dataclass, field

import torch

from checks.grader.grading.cases import CaseSet
from checks.grader.intake.code import OPEN, Program
from checks.grader.intake.library import library_for
from checks.grader.sandbox.client import ChildExited, ForkServer
from checks.grader.sandbox.values import decode, encode_inputs
from checks.grader.sandbox.wire import ProtocolError
from checks.judge.attempt import Attempt
from checks.judge.exercise import Case, WrongAnswer
from checks.judge.launches import Launch, OutOfBounds
from checks.judge.trial import CRASHED, OUT_OF_MEMORY, PASSED, TIMEOUT, TIMEOUT_S, Outcome, assess

GPU_DATA_BYTES = 64 << 30  # CUDA maps host memory for itself
MOST_OUTPUTS = 32  # values that are read of one answer, and maps
ALLOCATES = {"aten::" + name for name in (
    "empty.memory_format", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "zeros", "zeros_like",
    "zero_", "fill_.Scalar", "new_zeros", "as_strided", "view", "view.dtype", "_unsafe_view", "reshape", "slice.Tensor",
    "select.int", "t", "transpose.int", "permute", "expand", "unsqueeze", "squeeze", "squeeze.dim", "alias", "detach",
    "clone", "narrow", "_reshape_alias", "new_full", "full", "movedim.int", "new_ones", "lift_fresh")}
"""Operators that a wrapper may run: they make, reshape and lay out tensors, and compute nothing."""


@dataclass
class ChildOutcome(Outcome):
    """An outcome whose trace stayed in the child, which sent what came of it."""

    maps: dict = field(default_factory=dict, repr=False)

    def stored(self, index: int) -> torch.Tensor:
        return self.maps.get(("stored", index), torch.zeros(self.outputs[index].shape, dtype=torch.bool))

    def loaded(self, name: str) -> torch.Tensor | None:
        return self.maps.get(("loaded", name))


@dataclass
class LaunchSummary(Launch):
    """A launch of which only the sums are known."""

    moved: Counter = field(default_factory=Counter)
    touched: Counter = field(default_factory=Counter)

    def traffic(self) -> Counter:
        return Counter(self.moved)

    def footprint(self) -> Counter:
        return Counter(self.touched)


@dataclass
class Run:
    """What a program did on its cases. A case that was not reached has no outcome."""

    outcomes: list[ChildOutcome] = field(default_factory=list)
    answers: list[dict] = field(default_factory=list)  # what the child said beside the bytes, by case
    evidence: dict[str, bool] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return bool(self.outcomes) and all(outcome.status == PASSED for outcome in self.outcomes)


def job_for(case_set: CaseSet, program: Program) -> dict:
    """What a child needs to define and call the student's function."""
    exercise, library = case_set.exercise, library_for(case_set.exercise)
    own = program.own_entry or not exercise.is_kernel
    return {"modules": library.modules, "code": program.code, "name": exercise.name,
            "call": exercise.wrapper if program.own_entry else exercise.name,
            "entry": None if own else exercise.wrapper, "entry_code": library.entry_code, "through": library.through}


def run(case_set: CaseSet, program: Program, server: ForkServer, cases: tuple[Case, ...], probe: bool = False) -> Run:
    """Try `program` on each case in one new child. With `probe`, also look for signs that no kernel did the work.

    Raises Fault where the sandbox itself fails.
    """
    exercise, done = case_set.exercise, Run()
    case_s, data_bytes = (server.timeout_s, GPU_DATA_BYTES) if server.kind == "gpu" else (TIMEOUT_S, case_set.data_bytes)
    with server.child(job_for(case_set, program), data_bytes) as child:
        outcome = None
        try:
            greeting = child.begin()
            if "ready" not in greeting:
                outcome = _blank(case_set, cases[0])
                error = greeting.get("error")
                assess(exercise, outcome, Attempt({}, error=_rebuilt(error), line=_line(error)))
                done.outcomes.append(outcome)
                return done
            for case in cases:
                outcome = _blank(case_set, case)
                described, payload = encode_inputs(outcome.inputs)
                question = {"inputs": described, "mode": "plain", "maps": exercise.is_kernel}
                answer, raw = child.ask(question, payload, case_s)
                _assess_answer(exercise, outcome, answer, raw)
                done.outcomes.append(outcome)
                done.answers.append(answer)
                if outcome.status == TIMEOUT:
                    return done
            if probe and done.passed:
                done.evidence = _probe(case_set, child, cases[0])
        except ChildExited as ended:
            outcome = _blank(case_set, cases[0]) if outcome is None else outcome
            status = {"timeout": TIMEOUT, "out of memory": OUT_OF_MEMORY}.get(ended.kind, CRASHED)
            outcome.fail(f"On the case '{outcome.case.name}' {ended.reason}", status)
            outcome.error = RuntimeError(ended.reason)
            if outcome not in done.outcomes[-1:]:
                done.outcomes.append(outcome)
    return done


def _probe(case_set: CaseSet, child, case: Case) -> dict[str, bool]:
    """Whether the answer stays right when launches do nothing, and when inputs become real only at a launch."""
    found = {}
    for mode in ("no launches", "decoys"):
        outcome = _blank(case_set, case)
        described, payload = encode_inputs(outcome.inputs)
        try:
            answer, raw = child.ask({"inputs": described, "mode": mode, "maps": False}, payload, TIMEOUT_S)
            answer["changed"], answer["broken"] = [], []
            _assess_answer(case_set.exercise, outcome, answer, raw)
        except ChildExited:
            outcome.fail("ended")
        found[mode] = outcome.status == PASSED
    return found


def _blank(case_set: CaseSet, case: Case) -> ChildOutcome:
    asked = case_set.asked(case)
    return ChildOutcome(case, asked.inputs, asked.expected)


def _assess_answer(exercise, outcome: ChildOutcome, answer: dict, raw: bytes) -> None:
    """Everything in `answer` came from a child: each field is checked for what it is before it is used."""
    try:
        error = answer.get("error")
        launches: list[Launch] = [_launch_summary(one) for one in list(answer.get("launches", []))[:1000]]
        described, maps = list(answer["outputs"])[:MOST_OUTPUTS], list(answer.get("maps", []))[:MOST_OUTPUTS]
        values = decode([*described, *(one for _, _, one in maps)], raw)
        tried = Attempt({}, () if error else tuple(values[:len(described)]), launches)
        if error:
            tried.error, tried.line = _rebuilt(error), _line(error)
        tried.broken = [str(name)[:80] for name in list(answer.get("broken", []))[:8]]
        tried.changed = [name for name in list(answer.get("changed", [])) if name in outcome.inputs]
        for (kind, key, _), found in zip(maps, values[len(described):], strict=True):
            known = values[key] if kind == "stored" else outcome.inputs[key]
            if found.dtype != torch.bool or found.shape != known.shape:
                raise ValueError("a map of another tensor")
            outcome.maps[kind, key] = found
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ProtocolError):
        raise ChildExited("what came back is no result") from None
    assess(exercise, outcome, tried)


def _launch_summary(said: dict) -> LaunchSummary:
    def sums(rows) -> Counter:
        return Counter({(str(kind)[:10], str(tensor)[:80]): int(count) for kind, tensor, count in rows[:100]})

    options = {str(k): v for k, v in dict(said["options"]).items() if isinstance(v, int)}
    accesses = range(min(int(said["accesses"]), 10**9))  # of which only the number is asked
    launch = LaunchSummary(str(said["kernel"])[:200], {}, [], options, accesses,  # type: ignore[arg-type]
                           moved=sums(said["traffic"]), touched=sums(said["footprint"]))
    launch.arguments = {key: said[key] for key in ("signature", "constexprs", "aligned", "unfit") if key in said}
    return launch


def _rebuilt(error) -> Exception:
    """An exception of ours that stands for the child's: its type's name and its text."""
    error = error if isinstance(error, dict) else {}
    name, text = str(error.get("type", "Error"))[:80], str(error.get("text", ""))[:2000]
    if name == "OutOfBounds" and isinstance(error.get("bounds"), list) and len(error["bounds"]) == 8:
        kind, tensor, program, lane, offset, shape, lanes, masked = error["bounds"]
        try:
            return OutOfBounds(str(kind)[:10], str(tensor)[:80], tuple(map(int, program)), tuple(map(int, lane)),
                               int(offset), tuple(map(int, shape)), int(lanes), bool(masked))
        except (TypeError, ValueError):
            pass
    if name == "WrongAnswer":
        return WrongAnswer(text)
    if name == "TimeoutError":
        return TimeoutError(text)
    if name in ("MemoryError", "OutOfMemoryError") or "allocate memory" in text:
        return MemoryError(text)
    return type(name if name.isidentifier() else "Error", (Exception,), {})(text)


def _line(error) -> str | None:
    line = error.get("line") if isinstance(error, dict) else None
    return str(line)[:300] if line else None


def operators_outside(run_: Run) -> list[str]:
    """Torch operators that ran beside the launches and that do more than make and lay out tensors."""
    ran = {str(name)[:80] for answer in run_.answers for name in answer.get("operators", {})}
    return sorted(ran - ALLOCATES)


def left_behind(run_: Run, program: Program) -> list[str]:
    """What an open program left running or written."""
    found = []
    if program.trust == OPEN:
        if any(answer.get("threads") for answer in run_.answers):
            found.append("threads were still running after the result was returned")
        files = sorted({str(name)[:80] for answer in run_.answers for name in answer.get("files", [])})
        if files:
            found.append(f"files were written: {', '.join(files[:5])}")
    return found
