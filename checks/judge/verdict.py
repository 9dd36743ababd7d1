"""The judge: one student function against one exercise, through the steps of checks/judge/pipeline.py, up to the first that
fails. On a machine with a GPU, executed without it first, where nothing can break, and then on the GPU."""

import functools
from dataclasses import dataclass

import torch

from checks.executor import Unsupported
from checks.host.recorder import NeedsNumbers
from checks.judge.attempt import attempt
from checks.judge.compiler import Compilation, Compiled, one_of_each, warm_up_for, worst
from checks.judge.execution import attempt_executed
from checks.judge.exercise import Case, Exercise
from checks.judge.pipeline import NO_KERNEL, Evidence, Verdict, not_by_kernel, steps
from checks.judge.source import Function, find_placeholder, source_of
from checks.judge.trial import TIMEOUT, Outcome, Runner, try_case
from kernels.runtime import INTERPRETED

NOT_ATTEMPTED = "not attempted"
SESSION_SEED = torch.seed() % 2**32  # fresh in each session; within one, an edit alone changes what is computed


def judge(exercise: Exercise, function: Function, seed: int | None = None, written: Function | None = None) -> Verdict:
    """Try `function` (the exercise's function, or its wrapper) on every case. Draws fresh inputs unless `seed` is given.

    `written` is the function that held the placeholder, where it is not to be looked for among the wrapper's globals.
    """
    written = written or exercise.written_by_student(function)
    placeholder = _placeholder(written)
    if placeholder:
        return Verdict(exercise, NOT_ATTEMPTED, f"{exercise.name}: not attempted: replace the placeholder `{placeholder}` "
                       "with your code; if it is written, delete the line.")
    seed = SESSION_SEED if seed is None else seed
    if INTERPRETED or not exercise.is_kernel:
        return _judge_by(None, exercise, function, written, seed)
    try:
        executed = _judge_by(attempt_executed, exercise, function, written, seed)
    except (NeedsNumbers, Unsupported) as reason:
        verdict = _judge_by(attempt, exercise, function, written, seed)
        if verdict.passed:
            verdict.message += f" on this GPU; its loads and stores were not looked at ({reason})"
        return verdict
    if not executed.passed:
        return executed
    verdict = _judge_by(attempt, exercise, function, written, seed)
    if verdict.passed:
        verdict.traffic, verdict.message = executed.traffic, f"{executed.message} · right on this GPU too"
    return verdict


def _placeholder(function: Function) -> str | None:
    """The line that holds the place of the student's code, if it is still there."""
    try:
        source = source_of(function)
        found = find_placeholder(source)
    except (OSError, SyntaxError):  # no source: the function is judged as it is
        return None
    return source.split("\n")[found.lineno - 1].strip() if found else None


def _judge_by(run: Runner | None, exercise: Exercise, function: Function, written: Function, seed: int) -> Verdict:
    outcomes = []
    for case in exercise.cases:
        outcomes.append(try_case(exercise, function, case, seed, run))
        if exercise.is_kernel and len(outcomes) == 1:  # its start takes half a second, in which the other cases are tried
            warm_up_for(outcomes[0].launches)
        if outcomes[-1].status == TIMEOUT:
            break
    said, traffic = [], None
    for _, verdict in steps(_SeenHere(exercise, written, seed, outcomes)):
        verdict.traffic = traffic = verdict.traffic or traffic
        if not verdict.passed:
            return verdict
        said.append(verdict.message)
    why = next((outcome.interpreted for outcome in outcomes if outcome.interpreted), None)
    if why is not None:
        said.append(f"interpreted, not proven: {why}. Before it earns points, a person looks at it")
    verdict.message = f"{exercise.name}: {' · '.join(filter(None, said))}"
    return verdict


@dataclass
class _SeenHere(Evidence):
    """What this process saw of a function."""

    @functools.cached_property
    def _launched(self) -> list[Outcome]:
        """The cases that a kernel had a part in; the first of all is the largest."""
        return [outcome for outcome in self.outcomes if outcome.launches and (outcome.traffic() or not outcome.traced)]

    def _mine_and_answer(self) -> tuple[Outcome, Outcome]:
        return self._launched[0], _answer_on(self.exercise, self._launched[0].case, self.seed)

    def not_by_kernel(self) -> str | None:
        operators = sorted({name for outcome in self.outcomes for name in outcome.operators})
        return not_by_kernel(self.exercise, self.outcomes, operators) if self._launched else NO_KERNEL

    def measured(self) -> tuple[Outcome, Outcome] | None:
        return self._mine_and_answer() if self._launched[0].traced else None

    def compiled(self) -> tuple[dict[int, Compiled], dict[int, Compiled]]:
        mine, answer = (outcome.launches for outcome in self._mine_and_answer())
        each = [mine[index] for index in one_of_each([launch.kernel for launch in mine], mine)]
        *reports, of_answer = Compilation([*each, answer[-1]]).reports()
        return worst(reports), of_answer


@functools.lru_cache(maxsize=4)
def _answer_on(exercise: Exercise, case: Case, seed: int) -> Outcome:
    return try_case(exercise, exercise.answer_function(), case, seed)
