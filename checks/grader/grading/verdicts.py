"""One exercise of one submission: which rubric items are right, why not, and what a person should look at."""

import dataclasses
import hashlib
import json
from collections import OrderedDict

import torch

from checks.grader.course import Course, split_points
from checks.grader.gpu import ALLOWED as FAST
from checks.grader.gpu import on_gpu
from checks.grader.grading.cases import CaseSet
from checks.grader.grading.runs import Run, left_behind, operators_outside, run
from checks.grader.intake import extract
from checks.grader.intake.code import HARNESS, OPEN, PROVEN, Code, Program, kernel_source
from checks.grader.intake.library import answer_text, library_for
from checks.grader.results import ExerciseResult, Flag, new_exercise_result
from checks.grader.sandbox.client import ChildExited, Fault, ForkServer
from checks.judge.compiler import TARGETS, Compiled
from checks.judge.compiler import signature as signature_of
from checks.judge.pipeline import NO_KERNEL, Evidence, steps, wrong_result
from checks.judge.trial import FAILED, PASSED, Outcome

HELD = "held"
"""Right, but only together with Python that the grader does not trust: a person decides, with overrides.csv."""
COMPILE_S = 120
RIGHT, WRONG, NOT_REACHED = "right", "wrong", "not reached"


class Compiler:
    """Compiles kernels in children of a fork server of their own, and remembers what it has compiled."""

    def __init__(self, warm: ForkServer):
        self.warm = warm
        self._known: OrderedDict[str, dict[int, Compiled]] = OrderedDict()

    def reports(self, job: dict, modules: dict) -> dict[int, Compiled]:
        """For each target, what the compiler makes of a kernel. Raises ChildExited when it does not come back, and Fault."""
        key = hashlib.sha256(json.dumps([job, modules], sort_keys=True).encode()).hexdigest()
        if key not in self._known:
            jobs = [job | {"capability": capability} for capability in TARGETS]
            with self.warm.child({"modules": modules, "jobs": jobs}) as child:
                said = child.begin()["reports"]
            self._known[key] = {capability: Compiled(**report) for capability, report in zip(TARGETS, said, strict=True)}
            if len(self._known) > 4096:
                self._known.popitem(last=False)
        return self._known[key]


def grade_exercise(case_set: CaseSet, code: Code, course: Course, warm: ForkServer, compiler: Compiler | None,
                   warm_gpu: ForkServer | None = None) -> ExerciseResult:
    """The result for one exercise. Raises Fault where the grader fails."""
    exercise, result = case_set.exercise, _blank_result(case_set, code, course.points[case_set.exercise.name])
    if code.status:
        result["status"], result["message"] = code.status, f"{exercise.name}: {code.message}"
        return _score(result, course, exercise, {})
    chosen, done = None, None
    for program in code.programs:
        probe = exercise.is_kernel and program.trust == OPEN
        tried = run(case_set, program, warm, exercise.cases + case_set.hidden, probe)
        counts = _right(tried, exercise) and not (exercise.is_kernel and _not_triton(exercise, program, tried))
        if chosen is None or counts:
            chosen, done = program, tried
        if counts:
            break
    assert chosen is not None and done is not None, "code that has no status has a program"
    if chosen.lent:
        names = " and ".join(f"`{name}`" for name in chosen.lent)
        result["notices"] = [*code.notices, f"judged with our {names}, for with yours it is not right"]
    result |= {"trust": HARNESS if library_for(exercise).through else chosen.trust, "own_entry": chosen.own_entry}
    result["flags"] = _flags(exercise, code, chosen, done)
    items = _items(case_set, code, chosen, done, compiler, result)
    if warm_gpu is not None and exercise.is_kernel and chosen.trust == PROVEN and items["public"][0] == RIGHT:
        items |= _on_gpu(case_set, chosen, warm_gpu, result)
    return _score(result, course, exercise, items)


def _on_gpu(case_set: CaseSet, program: Program, warm: ForkServer, result: ExerciseResult) -> dict[str, tuple[str, str]]:
    """The items that a GPU decides."""
    name = case_set.exercise.name
    wrong, times = on_gpu(case_set, program, warm)
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
    result["code"] = hashlib.sha256(extract.normal_form(code.source).encode()).hexdigest() if code.source else None
    return result


def _items(case_set: CaseSet, code: Code, program: Program, done: Run, compiler,
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
    evidence = SeenInChild(exercise, code.source, case_set.seed, done.outcomes[:count], case_set, program, done, compiler)
    for name, verdict in steps(evidence):
        if name == "triton" and verdict.passed and program.trust == OPEN:
            result |= {"status": HELD, "message": f"{exercise.name}: the result is right, but only together with Python "
                       f"beside the kernel that is not checked here ({program.why_open}). Your instructor will look at it."}
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


def _not_triton(exercise, program: Program, done: Run) -> str | None:
    """Why the right result is not that of the exercise's kernel; for an open program only what needs no trust."""
    launched = [{launch.kernel for launch in outcome.launches} for outcome in done.outcomes]
    if program.trust == OPEN:
        if not all(launched) and (program.why_open or "").endswith("is no @triton.jit function"):
            return NO_KERNEL
        return None
    around = program.code + (library_for(exercise).entry_code or "")
    callers = [statement.binds for statement in extract.statements(around) if exercise.name in statement.needs]
    kernels = {exercise.name}.union(*callers)
    if not all(names & kernels for names in launched):
        return NO_KERNEL
    operators = operators_outside(done)
    if operators:
        return f"the result is right, but torch did part of the work, not the kernel ({', '.join(operators[:3])})."
    for outcome in done.outcomes:
        for index, value in enumerate(outcome.outputs):
            if isinstance(value, torch.Tensor) and not outcome.stored(index).all():
                return f"the result is right, but no kernel stored all of `{exercise.outputs[index]}`."
    return None


def _flags(exercise, code: Code, program: Program, done: Run) -> list[Flag]:
    flags = []
    if code.suspicious:
        flags.append(("reaches out", f"the cell names {', '.join(code.suspicious[:8])}"))
    flags += [("left behind", text) for text in left_behind(done, program)]
    if exercise.is_kernel and program.trust == OPEN and _right(done, exercise):
        flags.append(("not proven", f"right only with code outside the kernel language ({program.why_open})"))
        if not all(outcome.launches for outcome in done.outcomes):
            flags.append(("no launch", "no Triton kernel was launched on a graded case"))
        operators = operators_outside(done)
        if operators:
            flags.append(("torch operators", f"torch computed beside the kernel: {', '.join(operators[:5])}"))
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
    program: Program
    done: Run
    compiler: Compiler | None

    def not_by_kernel(self) -> str | None:
        return _not_triton(self.exercise, self.program, self.done)

    def measured(self) -> tuple[Outcome, Outcome]:
        return self.outcomes[0], self.case_set.answer

    def compiled(self) -> tuple[dict[int, Compiled], dict[int, Compiled]] | None:
        if self.compiler is None:
            return None
        launch = self.outcomes[0].launches[-1]
        answer = answer_reports(self.case_set, self.compiler)
        if "unfit" in launch.arguments:  # for no kernel can take them
            return dict.fromkeys(TARGETS, Compiled(error=str(launch.arguments["unfit"])[:300])), answer
        job = {"source": kernel_source(self.exercise, self.program, launch.kernel), "name": launch.kernel,
               "options": launch.options} | launch.arguments
        try:
            return self.compiler.reports(job, library_for(self.exercise).modules), answer
        except ChildExited as ended:
            raise TimeoutError(f"the compiler did not finish: {ended.reason}") from None


def answer_reports(case_set: CaseSet, compiler: Compiler) -> dict[int, Compiled]:
    """What the compiler makes of the answer."""
    launch = case_set.answer.launches[-1]
    job = {"source": answer_text(case_set.exercise, launch.kernel.__name__), "name": launch.kernel.__name__,
           "options": launch.options} | signature_of(launch)
    modules = library_for(case_set.exercise).modules
    try:
        return compiler.reports(job, modules)
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
