"""A student's function on a list of cases: recorded without numbers and played back elsewhere, or called where it stands."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from checks.exercises import EXERCISES
from checks.grader.grading.cases import CaseSet
from checks.grader.grading.compiling import Compiler
from checks.grader.grading.notebooks import Notebooks, Ran
from checks.grader.grading.outcomes import ChildOutcome, assess_answer, rebuilt_error, student_line
from checks.grader.grading.player import Player
from checks.grader.grading.said import Candidate, candidates, names, no_result
from checks.grader.intake.code import Code
from checks.grader.intake.library import library_for
from checks.grader.sandbox.client import Child, ChildExited
from checks.grader.sandbox.values import decode, encode, encode_inputs
from checks.grader.sandbox.wire import ProtocolError
from checks.host.steps import LaunchStep, Recording
from checks.host.transport import BadRecording, unpack
from checks.judge.attempt import Attempt
from checks.judge.exercise import Case, Exercise
from checks.judge.trial import CRASHED, OUT_OF_MEMORY, PASSED, TIMEOUT, TIMEOUT_S, assess

PROVEN, OPEN, HARNESS = "proven", "open", "harness"
"""Trust: of a proven result the numbers were made by executed kernels alone; an open one comes out of the student's Python,
and its outputs alone count; a harness makes those outputs beside the student's Python, which could reach it."""
NO_NUMBERS = ("DataDependentOutputException", "DynamicOutputShapeException")
MOST_CANDIDATES = 6


@dataclass
class Sandbox:
    """Where the parts of a submission run: its notebooks, its kernels' compilation, and what they ask for."""

    notebooks: Notebooks
    compiler: Compiler
    player: Player

    def close(self) -> None:
        """End the submission's children."""
        self.notebooks.close()
        self.player.close()


@dataclass
class Run:
    """What a function did on its cases. A case that was not reached has no outcome."""

    trust: str = OPEN
    outcomes: list[ChildOutcome] = field(default_factory=list)
    answers: list[dict] = field(default_factory=list)  # what the child said beside the bytes, by case
    operators: list[str] = field(default_factory=list)  # of torch that did more than place numbers
    evidence: dict[str, bool] = field(default_factory=dict)
    recordings: list[tuple[Case, "SentRecording"]] = field(default_factory=list)
    record: Callable[[dict[str, Any]], "SentRecording"] | None = None  # of a call with other inputs
    function: str = ""  # the name it was defined by
    own_wrapper: bool = False
    why_open: str | None = None
    notice: str = ""  # whose functions of other exercises it was judged with, where not the student's
    cell_error: str | None = None  # what a statement of the exercise's cell raised
    problem: tuple[str, str] | None = None  # the status and the message where there was nothing to run

    @property
    def launches(self) -> list[LaunchStep]:
        """Of the first case, where it was recorded."""
        return self.recordings[0][1].launches if self.recordings else []

    @property
    def passed(self) -> bool:
        return bool(self.outcomes) and all(outcome.status == PASSED for outcome in self.outcomes)


class NeedsNumbers(Exception):
    """The call cannot be recorded, or the recording not be played back; the message says why."""


def runs_of(case_set: CaseSet, code: Code, sandbox: Sandbox, cases: tuple[Case, ...]) -> Iterator[Run]:
    """The function of the exercise in each way that it may be meant, until whoever asks is content.

    Once more in a notebook and with a library of its own where other exercises may have a part in what it did; ours then
    stand in the place of their functions that it uses. A mistake in one exercise is not to be paid for in the next. Raises
    Fault where the sandbox itself fails.
    """
    exercise, notebooks = case_set.exercise, sandbox.notebooks
    notebooks.restart_clock()
    used, notice = set[str](), ""
    for alone in (False, True):
        lent, influenced = tuple(sorted(used)), False
        if lent and not notice:
            notice = f"judged with our {' and '.join(f'`{name}`' for name in lent)}, for with yours it is not right"
        try:
            ran = _start(exercise, code, notebooks, alone, lent)
            found = _candidates(exercise, ran)
        except ChildExited as ended:
            if alone:
                yield _ended(case_set, cases[0], ended)
                return
            used = lendable(exercise)  # one of these may have ended it, called in a cell of the lesson
            notice = "judged with our answers to the lesson's other exercises, for with yours the notebook's process ended"
            notebooks.restart_clock()
            continue
        if not found:
            yield Run(problem=_nothing_defined(exercise, code, ran.errors))
            return
        for index, said in enumerate(found[:MOST_CANDIDATES]):
            if ran.ended is not None:
                ran = notebooks.run(exercise, code, ran.numbers, alone, lent)
            used |= said.uses & lendable(exercise)
            done = _run(case_set, code, sandbox, ran, _Asked(index, alone, lent), cases)
            done.function, done.own_wrapper, done.notice = said.function, said.own_wrapper, notice
            done.cell_error = _cell_error(code, ran.errors)
            yield done
            influenced = influenced or ran.influenced(exercise)
        if not used and not influenced:
            return


@dataclass(frozen=True)
class _Asked:
    """Which function of which notebook."""

    candidate: int
    alone: bool
    lent: tuple[str, ...]


def _start(exercise: Exercise, code: Code, notebooks: Notebooks, alone: bool, lent: tuple[str, ...]) -> Ran:
    """The notebook, run: its tensors have data, as plain Python wants it, if that takes no time."""
    if not exercise.is_kernel:
        try:
            return notebooks.run(exercise, code, True, alone, lent)
        except ChildExited:
            pass
    return notebooks.run(exercise, code, False, alone, lent)


def lendable(exercise: Exercise) -> set[str]:
    """The exercises whose answers may stand in for the student's where this one calls them. No kernel is lent to a kernel:
    it might do all of the work."""
    return {one.name for one in EXERCISES.values() if one.lesson == exercise.lesson and one is not exercise
            and not (exercise.is_kernel and one.name.endswith("_kernel"))}


def _candidates(exercise: Exercise, ran: Ran) -> list[Candidate]:
    question = {"mode": "candidates", "name": exercise.name, "wrapper": exercise.wrapper,
                "others": sorted(lendable(exercise))}
    answer, _ = ran.child.ask(question, b"", TIMEOUT_S)
    ran.suspect = bool(answer.get("influenced", True))
    return candidates(answer)


def _nothing_defined(exercise: Exercise, code: Code, errors: list[dict]) -> tuple[str, str]:
    said = _cell_error(code, errors)
    if said is None:
        return "missing", f"its cell does not define `{exercise.name}`."
    return CRASHED, f"its cell did not run: {said}"


def _cell_error(code: Code, errors: list[dict]) -> str | None:
    """What the exercise's cell raised, unless that is only for want of numbers."""
    mine = next((error for error in errors if error["cell"] == code.index and error["type"] not in NO_NUMBERS), None)
    if mine is None:
        return None
    line = f"\n  at: {mine['line']}" if mine["line"] else ""
    return f"{mine['type']}: {mine['text'][:400]}{line}"


def _run(case_set: CaseSet, code: Code, sandbox: Sandbox, ran: Ran, asked: _Asked, cases: tuple[Case, ...]) -> Run:
    if not case_set.exercise.is_kernel:
        return _called(case_set, sandbox, ran, asked, cases)
    try:
        return _recorded(case_set, sandbox, ran, asked, cases)
    except NeedsNumbers as reason:
        why = str(reason)
    try:
        with_numbers = sandbox.notebooks.run(case_set.exercise, code, True, True, asked.lent)
    except ChildExited as ended:
        return _ended(case_set, cases[0], ended)
    done = _called(case_set, sandbox, with_numbers, asked, cases, probe=True)
    done.why_open = why
    return done


def _question(exercise: Exercise, asked: _Asked, inputs: dict[str, list], mode: str) -> dict[str, Any]:
    library = library_for(exercise)
    return {"mode": mode, "name": exercise.name, "wrapper": exercise.wrapper, "candidate": asked.candidate, "inputs": inputs,
            "entry_code": library.entry_code, "through": library.through, "maps": exercise.is_kernel}


def _recorded(case_set: CaseSet, sandbox: Sandbox, ran: Ran, asked: _Asked, cases: tuple[Case, ...]) -> Run:
    """Every case recorded, the kernels compiled, and then every recording played back."""
    done, said = Run(PROVEN), list[tuple[Case, dict | SentRecording | ChildExited]]()
    done.record = functools.partial(_record, case_set.exercise, ran.child, asked)
    for case in cases:
        try:
            said.append((case, done.record(case_set.asked(case).inputs)))
        except _Raised as raised:
            said.append((case, raised.error))
        except ChildExited as ended:
            sandbox.notebooks.drop(ran, ended.kind)
            said.append((case, ended))
            break
    done.recordings = [(case, one) for case, one in said if isinstance(one, SentRecording)]
    done.operators = case_set.exercise.work_of(name for _, one in done.recordings for name in one.operators)
    try:
        launches = [step for _, one in done.recordings for step in one.launches]
        texts = iter(sandbox.compiler.texts(launches, until=sandbox.notebooks.deadline))
        _play(case_set, sandbox, done, said, texts)
    except ChildExited as ended:
        _end(case_set, done, cases[len(done.outcomes)], ended)
    return done


class _Raised(Exception):
    """The call raised what `error` describes."""

    def __init__(self, error: dict):
        super().__init__()
        self.error = error


def _record(exercise: Exercise, child: Child, asked: _Asked, inputs: dict[str, Any]) -> "SentRecording":
    """What the call asks for. Raises _Raised, NeedsNumbers, ChildExited."""
    described, _ = encode_inputs(inputs)
    answer, raw = child.ask(_question(exercise, asked, described, "record"), b"", TIMEOUT_S)
    if isinstance(answer.get("error"), dict):
        raise _Raised(answer["error"])
    if "needs_numbers" in answer:
        raise NeedsNumbers(f"the code around the kernel looks at numbers: {str(answer['needs_numbers'])[:200]}")
    try:
        recording = unpack(answer["recording"], decode(answer["constants"], raw, strided=True))
        return SentRecording(**vars(recording), data=answer["recording"])
    except (KeyError, TypeError, BadRecording, ProtocolError):
        raise no_result() from None


@dataclass
class SentRecording(Recording):
    """A recording with the data that it was made from, for the process that plays it back."""

    data: dict[str, Any] = field(default_factory=dict)


def _play(case_set: CaseSet, sandbox: Sandbox, done: Run, said: list, texts: Iterator[dict]) -> None:
    exercise = case_set.exercise
    for case, one in said:
        outcome = blank(case_set, case)
        if isinstance(one, ChildExited):
            _end(case_set, done, case, one)
            return
        if isinstance(one, dict):
            assess(exercise, outcome, Attempt({}, error=rebuilt_error(one), line=student_line(one)))
            answer: dict[str, Any] = {}
        else:
            question, payload = played(one, outcome.inputs, [next(texts) for _ in one.launches])
            answer, raw = sandbox.player.ask(case_set, question, payload, sandbox.notebooks.deadline)
            if "unsupported" in answer:
                raise NeedsNumbers(f"its kernel cannot be executed here: {str(answer['unsupported'])[:200]}")
            assess_answer(exercise, outcome, answer, raw)
        done.outcomes.append(outcome)
        done.answers.append(answer)
        if outcome.status == TIMEOUT:
            return


def played(recording: "SentRecording", inputs: dict[str, Any], texts: list[dict]) -> tuple[dict, bytes]:
    """What a process that plays recordings back is asked, and the bytes of inputs and constants."""
    described, payload = encode_inputs(inputs)
    constants, more = encode(recording.constants.values())
    return {"recording": recording.data, "inputs": described, "constants": constants, "input_bytes": len(payload),
            "texts": texts, "maps": True}, payload + more


def _called(case_set: CaseSet, sandbox: Sandbox, ran: Ran, asked: _Asked, cases: tuple[Case, ...],
            probe: bool = False) -> Run:
    """Each case called where the student's Python runs. With `probe`, also look for signs that no kernel did the work."""
    exercise, done = case_set.exercise, Run(HARNESS if library_for(case_set.exercise).through else OPEN)
    case = cases[0]
    try:
        for case in cases:
            outcome = blank(case_set, case)
            described, payload = encode_inputs(outcome.inputs)
            answer, raw = ran.child.ask(_question(exercise, asked, described, "plain"), payload, TIMEOUT_S)
            assess_answer(exercise, outcome, answer, raw)
            done.outcomes.append(outcome)
            done.answers.append(answer)
            if outcome.status in (TIMEOUT, OUT_OF_MEMORY):  # what it was at stays as it was
                sandbox.notebooks.drop(ran, outcome.status)
                break
        if probe and done.passed:
            done.evidence = _probe(case_set, ran.child, asked, cases[0])
    except ChildExited as ended:
        sandbox.notebooks.drop(ran, ended.kind)
        _end(case_set, done, case, ended)
    done.operators = operators_outside(exercise, done)
    return done


def _probe(case_set: CaseSet, child: Child, asked: _Asked, case: Case) -> dict[str, bool]:
    """Whether the answer stays right when launches do nothing, and when inputs become real only at a launch."""
    found = {}
    for mode in ("no launches", "decoys"):
        outcome = blank(case_set, case)
        described, payload = encode_inputs(outcome.inputs)
        try:
            answer, raw = child.ask(_question(case_set.exercise, asked, described, mode), payload, TIMEOUT_S)
            answer["changed"], answer["broken"] = [], []
            assess_answer(case_set.exercise, outcome, answer, raw)
        except ChildExited:
            outcome.fail("ended")
        found[mode] = outcome.status == PASSED
    return found


def _ended(case_set: CaseSet, case: Case, ended: ChildExited) -> Run:
    done = Run()
    _end(case_set, done, case, ended)
    return done


def _end(case_set: CaseSet, done: Run, case: Case, ended: ChildExited) -> None:
    """The outcome of a case over which a child ended."""
    if done.outcomes and done.outcomes[-1].case is case:
        outcome = done.outcomes[-1]
    else:
        done.outcomes.append(outcome := blank(case_set, case))
    status = {"timeout": TIMEOUT, "out of memory": OUT_OF_MEMORY}.get(ended.kind, CRASHED)
    outcome.fail(f"On the case '{case.name}' {ended.reason}", status)
    outcome.error = RuntimeError(ended.reason)


def blank(case_set: CaseSet, case: Case) -> ChildOutcome:
    asked = case_set.asked(case)
    return ChildOutcome(case, asked.inputs, asked.expected)


def operators_outside(exercise: Exercise, done: Run) -> list[str]:
    """Torch operators that ran beside the launches and did a part of the kernel's work."""
    return exercise.work_of(name for answer in done.answers for name in names(answer, "operators"))


def left_behind(done: Run) -> list[str]:
    """What an open function left running or written."""
    found = []
    if done.trust == OPEN:
        if any(answer.get("threads") for answer in done.answers):
            found.append("threads were still running after the result was returned")
        files = sorted({name for answer in done.answers for name in names(answer, "files")})
        if files:
            found.append(f"files were written: {', '.join(files[:5])}")
    return found
