"""From what a child answers to outcomes, as the judge makes them: each field is checked for what it is before it is used."""

from collections import Counter
from dataclasses import dataclass, field

import torch

from checks.executor import CompileError
from checks.grader.sandbox.client import ChildExited
from checks.grader.sandbox.values import decode
from checks.grader.sandbox.wire import ProtocolError
from checks.judge.attempt import Attempt
from checks.judge.execution import Raced
from checks.judge.exercise import Exercise, WrongAnswer
from checks.judge.launches import Launch, OutOfBounds
from checks.judge.trial import Outcome, assess

MOST_OUTPUTS = 32  # values that are read of one answer, and maps


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


def assess_answer(exercise: Exercise, outcome: ChildOutcome, answer: dict, raw: bytes) -> None:
    """Write into `outcome` whether what a child answered is right. Raises ChildExited for what is no answer."""
    try:
        error = answer.get("error")
        launches: list[Launch] = [launch_summary(one) for one in list(answer.get("launches", []))[:1000]]
        described, maps = list(answer["outputs"])[:MOST_OUTPUTS], list(answer.get("maps", []))[:MOST_OUTPUTS]
        values = decode([*described, *(one for _, _, one in maps)], raw)
        tried = Attempt({}, () if error else tuple(values[:len(described)]), launches)
        if error:
            tried.error, tried.line = rebuilt_error(error), student_line(error)
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


def launch_summary(said: dict) -> LaunchSummary:
    def sums(rows) -> Counter:
        return Counter({(str(kind)[:10], str(tensor)[:80]): int(count) for kind, tensor, count in rows[:100]})

    options = {str(k): v for k, v in dict(said["options"]).items() if isinstance(v, int)}
    accesses = range(min(int(said["accesses"]), 10**9))  # of which only the number is asked
    return LaunchSummary(str(said["kernel"])[:200], {}, [], options, accesses,  # type: ignore[arg-type]
                           moved=sums(said["traffic"]), touched=sums(said["footprint"]))


def rebuilt_error(error) -> Exception:
    """An exception of ours that stands for the child's: its type's name and its text."""
    error = error if isinstance(error, dict) else {}
    name, text = str(error.get("type", "Error"))[:80], str(error.get("text", ""))[:2000]
    if name == "OutOfBounds" and isinstance(error.get("bounds"), list) and len(error["bounds"]) == 10:
        kind, tensor, program, lane, offset, shape, lanes, masked, gap, others = error["bounds"]
        try:
            return OutOfBounds(str(kind)[:10], str(tensor)[:80], tuple(map(int, program)), tuple(map(int, lane)),
                               int(offset), tuple(map(int, shape)), int(lanes), bool(masked), bool(gap),
                               tuple(map(_place, others)))
        except (TypeError, ValueError):
            pass
    ours = {"WrongAnswer": WrongAnswer, "TimeoutError": TimeoutError, "LimitExceeded": TimeoutError, "Raced": Raced,
            "CompileError": CompileError}
    if name in ours:
        return ours[name](text)
    if name in ("MemoryError", "OutOfMemoryError") or "allocate memory" in text:
        return MemoryError(text)
    return type(name if name.isidentifier() else "Error", (Exception,), {})(text)


def _place(said: list) -> tuple:
    kind, tensor, program, offset, lanes = said
    return str(kind)[:10], str(tensor)[:80], tuple(map(int, program)), int(offset), int(lanes)


def student_line(error) -> str | None:
    line = error.get("line") if isinstance(error, dict) else None
    return str(line)[:300] if line else None
