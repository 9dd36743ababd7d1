"""One exercise of one submission: which rubric items are right, why not, and what a person should look at."""

import dataclasses
import hashlib

import torch

from checks.executor import specialize
from checks.executor.compile import plain_values
from checks.executor.source import describe
from checks.grader.course import Course, split_points
from checks.grader.gpu import ALLOWED as FAST
from checks.grader.gpu import on_gpu
from checks.grader.grading.cases import CaseSet
from checks.grader.grading.compiling import Compiler
from checks.grader.grading.runs import OPEN, PROVEN, NeedsNumbers, Run, Sandbox, left_behind, runs_of
from checks.grader.intake.code import Code
from checks.grader.intake.submissions import normal_form
from checks.grader.results import ExerciseResult, Flag, new_exercise_result
from checks.grader.sandbox.client import ChildExited, Fault, ForkServer
from checks.host.steps import LaunchStep
from checks.judge.compiler import Compiled, one_of_each, worst
from checks.judge.pipeline import NO_KERNEL, Evidence, not_by_kernel, steps, wrong_result
from checks.judge.trial import FAILED, PASSED, Outcome

HELD = "held"
"""Right, but only together with Python that the grader does not trust: a person decides, with overrides.csv."""
RIGHT, WRONG, NOT_REACHED = "right", "wrong", "not reached"


def grade_exercise(case_set: CaseSet, code: Code, course: Course, sandbox: Sandbox, compiles: bool = True,
                   warm_gpu: ForkServer | None = None) -> ExerciseResult:
    """The result for one exercise. Raises Fault where the grader fails."""
    exercise, result = case_set.exercise, _blank_result(case_set, code, course.points[case_set.exercise.name])
    if code.status:
        result["status"], result["message"] = code.status, f"{exercise.name}: {code.message}"
        return _score(result, course, exercise, {})
    done = _best(case_set, code, sandbox)
    if done.problem is not None:
        result["status"], result["message"] = done.problem[0], f"{exercise.name}: {done.problem[1]}"
        return _score(result, course, exercise, {})
    if done.notice:
        result["notices"] = [*code.notices, done.notice]
    result |= {"trust": done.trust, "own_entry": done.own_wrapper}
    if done.cell_error and not done.passed:
        result["notices"] = [*result["notices"], f"a line of its cell did not run: {done.cell_error}"]
    result["flags"] = _flags(exercise, code, done)
    items = _items(case_set, code, done, sandbox.compiler if compiles else None, result)
    if warm_gpu is not None and exercise.is_kernel and done.trust == PROVEN and items["public"][0] == RIGHT:
        items |= _on_gpu(case_set, done, sandbox.compiler, warm_gpu, result)
    return _score(result, course, exercise, items)


def _best(case_set: CaseSet, code: Code, sandbox: Sandbox) -> Run:
    """The first way to mean the function that is right; where none is, the first that does not just refuse its arguments."""
    exercise, tried = case_set.exercise, []
    for done in runs_of(case_set, code, sandbox, exercise.cases + case_set.hidden):
        if _right(done, exercise) and not (exercise.is_kernel and _not_triton(exercise, done)):
            return done
        tried.append(done)
    return next((done for done in tried if not any(type(outcome.error).__name__ == "TypeError"
                                                   for outcome in done.outcomes)), tried[0])


def _on_gpu(case_set: CaseSet, done: Run, compiler: Compiler, warm: ForkServer,
            result: ExerciseResult) -> dict[str, tuple[str, str]]:
    """The items that a GPU decides."""
    name = case_set.exercise.name
    try:
        wrong, times = on_gpu(case_set, done, compiler, warm)
    except NeedsNumbers as reason:
        result["flags"].append({"kind": "not on the GPU", "text": f"it was not tried on the GPU: {reason}"})
        return {}
    if wrong is not None:
        result |= {"status": FAILED, "message": f"{name}: right in the interpreter, but not on the GPU. {wrong}"}
        return {"public": (WRONG, result["message"])}
    if times is None:
        return {}
    result["times_us"] = times
    if times["yours"] < times["floor"]:
        said = f"a call takes {times['yours']:.2f} us, and the bytes it must move take {times['floor']:.2f} us at least"
        result["flags"].append({"kind": "too fast", "text": said})
    said = f"{times['yours']:.1f} us a call; the answer takes {times['answer']:.1f} us"
    return {"fast": (RIGHT if times["yours"] <= FAST * times["answer"] else WRONG, said)}


def _right(done: Run, exercise) -> bool:
    count = len(exercise.cases)
    return len(done.outcomes) >= count and all(outcome.status == PASSED for outcome in done.outcomes[:count])


def _blank_result(case_set: CaseSet, code: Code, points: float) -> ExerciseResult:
    result = new_exercise_result(case_set.exercise, points)
    result["notices"] = code.notices
    result["code"] = hashlib.sha256(normal_form(code.source).encode()).hexdigest() if code.source else None
    return result


def _items(case_set: CaseSet, code: Code, done: Run, compiler: Compiler | None,
           result: ExerciseResult) -> dict[str, tuple[str, str]]:
    """("right", "wrong" or "not reached", message) of each item that applies; writes the verdict into `result`."""
    exercise = case_set.exercise
    items = {"public": (NOT_REACHED, "")}
    if exercise.is_kernel:
        items = {"triton": (NOT_REACHED, "")} | items | {"economical": (NOT_REACHED, "")}
        if compiler is not None:
            items["compiles"] = (NOT_REACHED, "")
    if case_set.hidden:
        items["hidden"] = (NOT_REACHED, "")
    count = len(exercise.cases)
    evidence = SeenInChild(exercise, code.source, case_set.seed, done.outcomes[:count], case_set, done, compiler)
    for name, verdict in steps(evidence):
        if name == "triton" and verdict.passed and done.trust == OPEN:
            result |= {"status": HELD, "message": f"{exercise.name}: the result is right, but {done.why_open}. "
                       "Your instructor will look at it."}
            return items
        items[name] = (RIGHT if verdict.passed else WRONG, verdict.message)
        if verdict.traffic:
            result["traffic"] = list(verdict.traffic)
        if verdict.passed and verdict.compiled:
            result["compiled"] = {str(sm): dataclasses.asdict(report) for sm, report in verdict.compiled.items()}
        result["mistake"] = result["mistake"] or verdict.mistake
        if not verdict.passed and name in ("public", "triton"):
            picture = _picture(verdict.outcome) if verdict.outcome else None
            result |= {"status": verdict.status, "message": verdict.message, "picture": picture}
            return items
    if case_set.hidden:
        hidden = done.outcomes[count:]
        wrong = next((outcome for outcome in hidden if outcome.status != PASSED), None)
        reached = len(hidden) == len(case_set.hidden)
        items["hidden"] = (RIGHT, "") if reached and wrong is None else (WRONG, _hidden_message(evidence, wrong))
        if items["hidden"][0] == WRONG and case_set.only_numbers:  # those that the lesson shows prove nothing by themselves
            items["public"] = (WRONG, f"{exercise.name}: right only for the numbers that the lesson shows.")
    bad = [message for state, message in items.values() if state == WRONG]
    result["status"] = PASSED if not bad else FAILED
    result["message"] = bad[0] if bad else f"{exercise.name}: {items['public'][1]}"
    return items


def _hidden_message(evidence: Evidence, wrong: Outcome | None) -> str:
    name = evidence.exercise.name
    if wrong is None:
        return f"{name}: it stopped before the sizes that the lesson does not show."
    verdict = wrong_result(evidence, wrong, [wrong])
    return f"{name}: right on the lesson's cases, wrong on other sizes. {verdict.message.removeprefix(name + ': ')}"


def _not_triton(exercise, done: Run) -> str | None:
    """Why the right result is not that of the exercise's kernel; for an open run only what needs no trust."""
    if not all(outcome.launches for outcome in done.outcomes):
        return NO_KERNEL
    if done.trust == OPEN:
        return None
    if not any(f'"{name}"' in str(step.kernel) for step in done.launches for name in (exercise.name, done.function)):
        return NO_KERNEL
    return not_by_kernel(exercise, done.outcomes, done.operators)


def _flags(exercise, code: Code, done: Run) -> list[Flag]:
    flags = []
    if code.suspicious:
        flags.append(("reaches out", f"the cell names {', '.join(code.suspicious[:8])}"))
    flags += [("left behind", text) for text in left_behind(done)]
    if exercise.is_kernel and done.trust == OPEN and _right(done, exercise):
        flags.append(("not proven", f"right only in Triton's interpreter, beside Python ({done.why_open})"))
        if not all(outcome.launches for outcome in done.outcomes):
            flags.append(("no launch", "no Triton kernel was launched on a graded case"))
        if done.operators:
            flags.append(("torch operators", f"torch computed beside the kernel: {', '.join(done.operators[:5])}"))
        if done.evidence.get("no launches"):
            flags.append(("survives", "the answer stays right when launches do nothing"))
        if done.evidence.get("decoys") is False:
            flags.append(("decoys", "the answer is wrong when the inputs become real only at the launch"))
        if any(answer.get("aliases") for answer in done.answers):
            flags.append(("aliases", "an output shares the memory of an input"))
    return [{"kind": kind, "text": text} for kind, text in flags]


@dataclasses.dataclass
class SeenInChild(Evidence):
    """What came back from a child in which the function ran."""

    case_set: CaseSet
    done: Run
    compiler: Compiler | None

    def not_by_kernel(self) -> str | None:
        return _not_triton(self.exercise, self.done)

    def measured(self) -> tuple[Outcome, Outcome]:
        return self.outcomes[0], self.case_set.answer

    def compiled(self) -> tuple[dict[int, Compiled], dict[int, Compiled]] | None:
        if self.compiler is None:
            return None
        answer = answer_reports(self.case_set, self.compiler)
        try:
            steps = self.done.launches
            each = one_of_each([step.kernel for step in steps], self.outcomes[0].launches)
            return worst([self.compiler.reports(steps[index]) for index in each]), answer
        except ChildExited as ended:
            raise TimeoutError(f"the compiler did not finish: {ended.reason}") from None


def answer_reports(case_set: CaseSet, compiler: Compiler) -> dict[int, Compiled]:
    """What the compiler makes of the answer."""
    launch = case_set.answer.launches[-1]
    signature, constexprs = specialize(launch.kernel, launch.arguments)
    description = describe(launch.kernel, placed=False)
    step = LaunchStep(description, launch.kernel.__name__, {}, (1, 1, 1), launch.options, signature,
                      plain_values(constexprs))
    try:
        return compiler.reports(step)
    except ChildExited as ended:
        raise Fault(f"the answer of {case_set.exercise.name} did not compile: {ended.reason}") from None


def _picture(outcome) -> dict | None:
    """Where a 2-D or 1-D output is wrong, coarsened to at most 32 × 64 fields, for the feedback page."""
    if outcome.wrong is None or not outcome.wrong.any() or outcome.wrong.ndim not in (1, 2):
        return None
    wrong = outcome.wrong.float()
    wrong = wrong[None] if wrong.ndim == 1 else wrong
    shape = [min(32, wrong.shape[0]), min(64, wrong.shape[1])]
    coarse = torch.nn.functional.adaptive_max_pool2d(wrong[None, None], shape)[0, 0]
    return {"of": list(outcome.wrong.shape), "output": outcome.output, "rows": [[int(v) for v in row] for row in coarse]}


def _score(result: ExerciseResult, course: Course, exercise, items: dict) -> ExerciseResult:
    points = course.points[exercise.name]
    shares = split_points(course, points, {name: state for name, (state, _) in items.items()})
    result["items"] = {name: {"result": items[name][0], "message": items[name][1], "earned": round(earned, 4),
                              "possible": round(possible, 4)} for name, (earned, possible) in shares.items()}
    result["points"] = 0.0 if result["status"] == HELD else round(sum(earned for earned, _ in shares.values()), 4)
    return result
