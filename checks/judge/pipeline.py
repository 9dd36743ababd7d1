"""The steps of judging, which stand here once: the notebook and the grader see a function run each in its own way.

1 attempted (source.find_placeholder), 2 in bounds, 3 shape, dtype and inputs kept, 4 every element written, 5 right (2 to 5:
checks/judge/trial.py), 6 if wrong, why (checks/judge/diagnosis.py), 7 economical in bytes, 8 compiles for real GPUs
(checks/judge/compiler.py).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from checks.judge import diagnosis, hints
from checks.judge.compiler import TARGETS, Compiled, slower_numbers
from checks.judge.exercise import Exercise, Mutant
from checks.judge.launches import Launch, Traffic
from checks.judge.source import Function
from checks.judge.trial import FAILED, PASSED, Outcome

LOADS_LIMIT = 4  # times the answer's own number of loads and stores
NO_KERNEL = "the result is right, but no Triton kernel computed it."


@dataclass
class Verdict:
    """What the judge or a step found. `message` is for the student; the rest is for pictures, tables and the grader."""

    exercise: Exercise
    status: str
    message: str
    mistake: str | None = None  # the mutant's name
    outcome: Outcome | None = field(default=None, repr=False)
    traffic: tuple[int, int, int] | None = None  # bytes: moved, by the answer, the least
    compiled: dict[int, Compiled] = field(default_factory=dict)  # by compute capability

    @property
    def passed(self) -> bool:
        return self.status == PASSED


@dataclass
class Evidence(ABC):
    """What was seen of a function that was tried on its exercise's cases, and what can still be asked about it."""

    exercise: Exercise
    written: Function | str  # by the student: the function, or its source
    seed: int
    outcomes: Sequence[Outcome]  # of the cases in their order; none for those after one that timed out

    @abstractmethod
    def not_by_kernel(self) -> str | None:
        """Why the right results are not those of the exercise's kernel."""

    @abstractmethod
    def measured(self) -> tuple[Outcome, Outcome] | None:
        """The function's and the answer's outcome on one case, where loads and stores were counted."""

    @abstractmethod
    def compiled(self) -> tuple[dict[int, Compiled], dict[int, Compiled]] | None:
        """What the compiler makes of the function's and of the answer's kernel, unless it is not to be asked.

        Raises TimeoutError, with a sentence, where it does not finish with the function's.
        """


def not_by_kernel(exercise: Exercise, outcomes: Sequence[Outcome], operators: Sequence[str]) -> str | None:
    """Why right results are not those of kernels that stored every output, without a part done by torch's `operators`."""
    if not all(outcome.launches for outcome in outcomes):
        return NO_KERNEL
    if operators:
        return f"the result is right, but torch did part of the work, not the kernel ({', '.join(operators[:3])})."
    for outcome in (outcome for outcome in outcomes if all(launch.traced for launch in outcome.launches)):
        for index, value in enumerate(outcome.outputs):
            if isinstance(value, torch.Tensor) and not outcome.stored(index).all():
                return f"the result is right, but no kernel stored all of `{exercise.outputs[index]}`."
    return None


def steps(evidence: Evidence) -> Iterator[tuple[str, Verdict]]:
    """The rubric's name of each step from the second on, and what it found. Only the next one asked for is taken.

    Whoever asks decides where to stop; a step means nothing where "public" or "triton" has failed.
    """
    yield "public", check_results(evidence)
    if not evidence.exercise.is_kernel:
        return
    yield "triton", _verdict(evidence, evidence.not_by_kernel())
    measured = evidence.measured()
    if measured is not None:
        yield "economical", check_traffic(evidence, *measured)
    try:
        compiled = evidence.compiled()
    except TimeoutError as error:
        slow = hints.slow_to_compile(evidence.written)
        seen = f"it is right, but {error}"
        yield "compiles", _verdict(evidence, f"{slow}\nI{seen[1:]}" if slow else f"{seen} Are its blocks far too large?")
    else:
        if compiled is not None:
            yield "compiles", check_compilation(evidence, *compiled)


def check_results(evidence: Evidence) -> Verdict:
    """Steps 2 to 6."""
    wrong = next((outcome for outcome in evidence.outcomes if outcome.status != PASSED), None)
    if wrong is None and len(evidence.outcomes) < len(evidence.exercise.cases):
        wrong = evidence.outcomes[-1]
    if wrong is not None:
        return wrong_result(evidence, wrong, evidence.outcomes)
    return Verdict(evidence.exercise, PASSED, f"right on {len(evidence.outcomes)} cases")


def wrong_result(evidence: Evidence, outcome: Outcome, outcomes: Sequence[Outcome]) -> Verdict:
    """Step 6 for `outcome`, with the mutant that does the same on all `outcomes`."""
    return _explain(evidence, outcome, outcomes, outcome.message,
                    lambda: diagnosis.recognise(evidence.exercise, outcomes, evidence.seed))


def check_traffic(evidence: Evidence, outcome: Outcome, answer: Outcome) -> Verdict:
    """Step 7."""
    exercise, mine, theirs = evidence.exercise, outcome.traffic(), answer.traffic()
    assert exercise.least_bytes  # as every kernel's exercise has
    idle = sum(launch.idle for launch in outcome.launches)
    accesses, allowed = (sum(launch.instructions() for launch in o.launches) for o in (outcome, answer))
    kind, tensor = max(mine, key=lambda key: mine[key] / theirs[key] if key in theirs else mine[key])
    renamed = not {name for _, name in mine} & {name for _, name in theirs}  # by a wrapper of the student's own
    same = None if renamed else tensor
    times, wanted = (_times(one, kind, same) for one in (outcome, answer))
    limit = exercise.traffic_limit
    too_many_bytes = mine.total() > limit * theirs.total() or times > limit * wanted > 0 and kind == "store"
    needed = {name for launch in answer.launches for name in launch.arguments}
    unused = hints.unused_stride(evidence.written, needed)
    message = None
    if too_many_bytes:
        what = f"each element of `{tensor}`" if same else "an element"
        message = (f"the result is right, but it {kind}s {what} {times:.1f} times (the answer: "
                   f"{wanted:.1f}), and moves {mine.total():,} bytes (the answer: {theirs.total():,}).")
    elif accesses > LOADS_LIMIT * allowed:
        message = (f"the result is right, but it takes {accesses:,} loads and stores where the answer takes {allowed:,}"
                   + (f", and {idle:,} of them are fully masked: does a loop go on past the end?"
                      if idle > accesses / 2 else ": work on whole blocks instead of single elements or smaller blocks."))
    elif unused:
        message = (f"the result is right here, but the kernel never uses `{unused}`: rows may lie farther apart than "
                   "here, and that argument says how far.")
    traffic = mine.total(), theirs.total(), exercise.least_bytes(**outcome.inputs)
    if message is None:
        verdict = Verdict(exercise, PASSED, "moves {:.2f}x the least bytes (answer {:.2f}x)".format(
            *(moved / traffic[2] for moved in traffic[:2])))
    else:  # with the answer's bytes it would be taken for any mistake that shows on other cases alone
        verdict = _explain(evidence, outcome, [], message, lambda: diagnosis.recognise_traffic(
            exercise, outcome, evidence.seed) if too_many_bytes else None)
    verdict.traffic = traffic
    return verdict


def _times(outcome: Outcome, kind: str, tensor: str | None) -> float:
    """How often the launches load or store an element that they touch, of one tensor or of all."""
    def counted(by: Callable[[Launch], Traffic]) -> int:
        return sum(count for launch in outcome.launches for (what, name), count in by(launch).items()
                   if what == kind and tensor in (None, name))

    moved, touched = counted(lambda launch: launch.traffic()), counted(lambda launch: launch.footprint())
    return moved / max(1, touched)


def check_compilation(evidence: Evidence, mine: dict[int, Compiled], answer: dict[int, Compiled]) -> Verdict:
    """Step 8. A pass says what there is to say of registers and spills."""
    said, problem = [], slower_numbers(mine, answer)
    for capability, report in mine.items():
        theirs = answer[capability]
        if report.error and not theirs.error:
            hint = hints.in_source(evidence.written) or hints.in_message(evidence.written, report.error)
            problem = (f"it runs in the interpreter, but the compiler refuses it for {TARGETS[capability]}: {report.error}"
                       + (f"\n{hint}" if hint else ""))
            break
        if not report.error:
            said.append(f"sm_{capability}: {report.registers} registers (answer {theirs.registers}), "
                        f"{report.spills} bytes spilled (answer {theirs.spills})")
    verdict = _verdict(evidence, problem, " · ".join(said))
    verdict.compiled = mine
    return verdict


def _verdict(evidence: Evidence, problem: str | None, passed: str = "") -> Verdict:
    if problem is None:
        return Verdict(evidence.exercise, PASSED, passed)
    return Verdict(evidence.exercise, FAILED, f"{evidence.exercise.name}: {problem}")


def _explain(evidence: Evidence, outcome: Outcome, outcomes: Sequence[Outcome], message: str,
             recognise: Callable[[], Mutant | None]) -> Verdict:
    """A failed verdict that leads with what is known of the reason; `message`, what was seen, follows.

    The reason is a slip that is wrong in every kernel, a mutant, or what `diagnosis.reason` finds.
    """
    written = evidence.written
    said, mutant = hints.in_source(written), None
    if outcome.status != PASSED:
        said = diagnosis.certain_slip(evidence.exercise, written, outcome.error) or said
    if said is None:
        mutant = recognise()
        padding = hints.without_padding(written) if mutant and "`other=`" in mutant.name else None
        said = padding or (f"{mutant.name}. {mutant.advice}" if mutant else None)
    if said is None and any(seen.status != PASSED for seen in outcomes):
        said = diagnosis.reason(evidence.exercise, written, outcomes, evidence.seed)
    status = FAILED if outcome.status == PASSED else outcome.status
    told = f"{said}\n{message[0].upper()}{message[1:]}" if said else message
    return Verdict(evidence.exercise, status, f"{evidence.exercise.name}: {told}", mutant.name if mutant else None, outcome)
