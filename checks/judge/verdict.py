"""The judge: one student function against one exercise, in eight steps, stopping at the first that fails.

1 attempted, 2 in bounds, 3 shape, dtype and inputs kept, 4 every element written, 5 right (2 to 5: checks/judge/trial.py),
6 if wrong, why (checks/judge/diagnosis.py), 7 economical in bytes, 8 compiles for real GPUs (checks/judge/compiler.py).
"""

import functools
from dataclasses import dataclass, field

import torch

from checks.judge import diagnosis, hints, interpreter_client
from checks.judge.compiler import TARGETS, Compilation, Compiled, slower_numbers, warm_up
from checks.judge.exercise import Case, Exercise
from checks.judge.source import find_hole, python_function, self_contained, source_of
from checks.judge.trial import FAILED, PASSED, TIMEOUT, Outcome, try_case
from kernels.runtime import INTERPRETED

NOT_ATTEMPTED = "not attempted"
LOADS_LIMIT = 4  # times the answer's own number of loads and stores
SESSION_SEED = torch.seed() % 2**32  # fresh in each session; within one, an edit alone changes what is computed


@dataclass
class Verdict:
    """What the judge found. `message` is for the student; the rest is for pictures, tables and the grader."""

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


def judge(exercise: Exercise, function, seed: int | None = None) -> Verdict:
    """Try `function` (the exercise's function, or its entry) on every case. Draws fresh inputs unless `seed` is given."""
    written = exercise.written_by_student(function)
    hole = _hole(written)
    if hole:
        return Verdict(exercise, NOT_ATTEMPTED, f"{exercise.name}: not attempted yet, for the line `{hole}` is still there. "
                       "Your code goes in its place; if it is written, delete the line.")
    seed = SESSION_SEED if seed is None else seed
    if INTERPRETED or not exercise.is_kernel or not interpreter_client.available():
        return _judge_here(exercise, function, written, seed)
    # On a GPU machine: guarded first, where nothing can break; then on the GPU.
    interpreted = _judge_elsewhere(exercise, function, seed)
    if not interpreted.passed:
        return interpreted
    verdict = _judge_here(exercise, function, written, seed)
    if verdict.passed:
        verdict.traffic, verdict.message = interpreted.traffic, f"{interpreted.message} · right on this GPU too"
    return verdict


def _judge_elsewhere(exercise: Exercise, function, seed: int) -> Verdict:
    try:
        source = self_contained(function, **interpreter_client.CONSTANTS)
        found = interpreter_client.ask("judge", exercise.name, source, python_function(function).__name__, seed)
    except ValueError as error:  # the source cannot stand alone
        return Verdict(exercise, FAILED, f"{exercise.name}: {error}")
    case, wrong = found.pop("case"), found.pop("wrong")
    outcome = None if case is None else Outcome(exercise.cases[case], {}, (), wrong=wrong)
    return Verdict(exercise, outcome=outcome, **found)


def _judge_here(exercise: Exercise, function, written, seed: int) -> Verdict:
    if exercise.is_kernel:
        warm_up()
    outcomes = []
    for case in exercise.cases:
        outcomes.append(try_case(exercise, function, case, seed))
        if outcomes[-1].status == TIMEOUT:
            break
    failing = next((o for o in outcomes if o.status != PASSED), None)
    if failing is not None:
        return failed(exercise, written, failing, failing.message,
                       functools.partial(diagnosis.recognise, exercise, outcomes, seed))
    parts = [f"{exercise.name}: right on {len(outcomes)} cases"]
    verdict = Verdict(exercise, PASSED, "")
    if exercise.is_kernel:
        launched = next((o for o in outcomes if o.launches), None)  # the first case is the largest
        if launched is None:
            return Verdict(exercise, FAILED, f"{exercise.name}: the result is right, but no Triton kernel computed it.")
        answer = _answer_on(exercise, launched.case, seed)
        if INTERPRETED:
            verdict = weigh(exercise, written, launched, answer, seed)
            parts.append("moves {:.2f}x the least bytes (answer {:.2f}x)".format(
                *(count / verdict.traffic[2] for count in verdict.traffic[:2])))
        if verdict.passed:
            parts += _compile(verdict, written, Compilation([launched.launches[-1], answer.launches[-1]]))
    if verdict.passed:
        verdict.message = " · ".join(parts)
    return verdict


@functools.lru_cache(maxsize=4)
def _answer_on(exercise: Exercise, case: Case, seed: int) -> Outcome:
    return try_case(exercise, exercise.answer_function(), case, seed)


def _hole(function) -> str | None:
    """The text of the line that holds the place of the student's code, if it is still there."""
    try:
        source = source_of(function)
        hole = find_hole(source)
    except (OSError, SyntaxError):  # no source: the function is judged as it is
        return None
    return hole and source.splitlines()[hole.lineno - 1].strip()


def failed(exercise, written, outcome, message, recognise) -> Verdict:
    """A failed verdict that says what is known of the reason: a slip seen in the source, a mutant, the exercise's
    own reading of the numbers, or what was not read."""
    said = hints.hint(written, message)
    mutant = None if said else recognise()
    if mutant:
        said = f"What it looks like: {mutant.name}. {mutant.advice}"
    reason = said or diagnosis.explained(exercise, outcome) or diagnosis.never_read(outcome)
    status = FAILED if outcome.status == PASSED else outcome.status
    return Verdict(exercise, status, f"{exercise.name}: {message}" + (f"\n{reason}" if reason else ""),
                   mutant and mutant.name, outcome)


def weigh(exercise: Exercise, written, outcome: Outcome, answer: Outcome, seed: int) -> Verdict:
    """Step 7."""
    mine, theirs = outcome.traffic(), answer.traffic()
    idle = sum(launch.idle for launch in outcome.launches)
    accesses, allowed = (sum(len(launch.accesses) + launch.idle for launch in o.launches) for o in (outcome, answer))
    kind, tensor = max(mine, key=lambda key: mine[key] / theirs[key] if key in theirs else mine[key])
    times, wanted = (of[kind, tensor] / max(1, sum(launch.footprint()[kind, tensor] for launch in o.launches))
                     for of, o in ((mine, outcome), (theirs, answer)))
    message = None
    limit = exercise.traffic_limit
    too_many_bytes = mine.total() > limit * theirs.total() or times > limit * wanted > 0 and kind == "store"
    unused = hints.unused_stride(written)
    if too_many_bytes:
        message = (f"the result is right, but it {kind}s each element of `{tensor}` {times:.1f} times (the answer: "
                   f"{wanted:.1f}), and moves {mine.total():,} bytes (the answer: {theirs.total():,}).")
    elif accesses > LOADS_LIMIT * allowed:
        message = (f"the result is right, but it takes {accesses:,} loads and stores where the answer takes {allowed:,}"
                   + (f", and {idle:,} of them have all their lanes turned off: does a loop go on past the end?"
                      if idle > accesses / 2 else ": work on whole blocks instead of single elements or smaller blocks."))
    elif unused:
        message = (f"the result is right here, but the kernel never uses `{unused}`: rows may lie farther apart than "
                   "here, and that argument says how far.")
    verdict = Verdict(exercise, PASSED, "")
    if message:  # with the answer's bytes it would be taken for any mistake that shows on other cases alone
        verdict = failed(exercise, written, outcome, message, functools.partial(
            diagnosis.recognise_traffic, exercise, outcome, seed) if too_many_bytes else lambda: None)
    verdict.traffic = mine.total(), theirs.total(), exercise.least_bytes(**outcome.inputs)
    return verdict


def _compile(verdict: Verdict, written, compilation: Compilation) -> list[str]:
    """Step 8: what to say of registers and spills, or a failed verdict."""
    try:
        reports, answer = compilation.reports()
    except TimeoutError as error:
        verdict.status = FAILED
        verdict.message = f"{verdict.exercise.name}: it is right, but {error}. Are its blocks far too large?"
        return []
    verdict.compiled = reports
    said = []
    for capability, report in reports.items():
        theirs = answer[capability]
        if report.error and not theirs.error:
            verdict.status = FAILED
            said = hints.hint(written, report.error)
            verdict.message = (f"{verdict.exercise.name}: it runs in the interpreter, but the compiler refuses it for "
                               f"{TARGETS[capability]}: {report.error}" + (f"\n{said}" if said else ""))
            return []
        if not report.error:
            said.append(f"sm_{capability}: {report.registers} registers (answer {theirs.registers}), "
                        f"{report.spills} bytes spilled (answer {theirs.spills})")
    slower = slower_numbers(reports, answer)
    if slower:
        verdict.status, verdict.message = FAILED, f"{verdict.exercise.name}: {slower}"
    return said
