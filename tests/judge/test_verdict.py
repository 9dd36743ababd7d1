"""Each step of the judge, with a function that fails just there."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from checks.executor import Unsupported
from checks.exercises import EXERCISES, find_exercise
from checks.host.recorder import NeedsNumbers
from checks.judge import trial, verdict
from checks.judge.compiler import Compiled
from checks.judge.launches import Access, Launch
from checks.judge.pipeline import NO_KERNEL, Verdict
from checks.judge.source import answer_source, define
from checks.judge.verdict import NOT_ATTEMPTED, SESSION_SEED, _SeenHere, judge
from kernels import gemv_fp16
from kernels.gemv import gemv_fp16_kernel
from kernels.runtime import INTERPRETED

GEMV = EXERCISES["gemv_fp16_kernel"]


def edited(*edits: tuple[str, str]):
    """Our kernel with some text replaced."""
    source = answer_source(GEMV.name)
    for old, new in edits:
        assert old in source
        source = source.replace(old, new)
    return define(source, GEMV.name, dict(vars(GEMV.module)))


def wrapper(body):
    """A function named as the wrapper, so that the judge takes it as the student's."""
    body.__name__ = GEMV.wrapper
    return body


def verdict_of(body):
    return judge(GEMV, wrapper(body))


def test_a_wrapper_or_a_kernel_may_be_judged():
    for function in (gemv_fp16, gemv_fp16_kernel):
        assert judge(find_exercise(function.__name__), function).passed


def test_a_scale_computed_in_fp32_passes():
    exercise = EXERCISES["clipped_scale"]
    for scale in ("x.abs().amax() * i / parts / largest", "i / parts * x.abs().amax() / largest"):
        edits = (("x.double()", "x.float()"), ("x.abs().amax() * i / parts / largest", scale))
        verdict = judge(exercise, exercise.edited(*edits))
        assert verdict.passed, verdict.message


def test_a_pass_reports_bytes_and_registers_beside_the_answer_s():
    verdict = judge(GEMV, gemv_fp16)
    assert "sm_80" in verdict.message and "sm_90" in verdict.message and "(answer" in verdict.message
    assert verdict.compiled[90].registers > 0 and verdict.compiled[90].spills == 0
    if INTERPRETED:
        moved, answers, least = verdict.traffic
        assert moved == answers and least < moved < 1.1 * least


def test_wrong_shape_dtype_type_and_count():
    assert "has shape (1, 129); expected (129,)" in verdict_of(lambda x, w: gemv_fp16(x, w)[None]).message
    assert "is float32; expected float16" in verdict_of(lambda x, w: gemv_fp16(x, w).float()).message
    assert "`y`: expected a tensor, got list" in verdict_of(lambda x, w: [1.0]).message
    assert "returns 2 value(s); expected 1: y" in verdict_of(lambda x, w: (gemv_fp16(x, w), 1)).message


def test_changed_inputs_are_noticed():
    def changes(x, w):
        y = gemv_fp16(x, w)
        w[0, 0] += 1
        return y
    assert "changes its input `w`" in verdict_of(changes).message


def test_elements_never_written_are_noticed_and_placed():
    verdict = judge(GEMV, edited(("y, mask=mask_n)", "y, mask=mask_n & (offs_n != 1))")))
    assert "elements of `y` are never written" in verdict.message
    assert "1 of 3 elements of `y` are never written, all in y[1]" in judge(
        GEMV, edited(("y, mask=mask_n)", "y, mask=mask_n & ((offs_n != 1) | (N != 3)))"))).message


def test_nan_never_passes():
    verdict = verdict_of(lambda x, w: gemv_fp16(x, w) * float("nan"))
    assert not verdict.passed and "elements are wrong" in verdict.message


def test_an_unknown_mistake_gets_the_first_wrong_element():
    verdict = judge(GEMV, edited(("tl.sum(acc, axis=1)", "tl.sum(acc, axis=1) + tl.where(offs_n == 2, 7.0, 0.0)")))
    assert verdict.mistake is None
    assert "all in y[2]. First: y[2] is " in verdict.message


def test_a_place_is_one_part_of_the_tensor():
    wrong = torch.zeros(3, 5, dtype=torch.bool)
    wrong[0, 1:4] = True
    assert trial.where(wrong, "q") == ", all in q[0, 1:4]"
    assert trial.where(wrong[:, 1:4], "q") == ", all in q[0, :]"
    assert trial.where(~wrong, "q") == trial.where(torch.tensor(True), "q") == ""


def test_a_right_result_without_a_kernel_is_no_pass():
    verdict = verdict_of(lambda x, w: (w.double() @ x.double()).half())
    assert not verdict.passed and "no Triton kernel" in verdict.message


@pytest.mark.skipif(not INTERPRETED, reason="what a kernel touches is known in the interpreter")
def test_a_kernel_that_touches_nothing_computed_nothing():
    idle = edited(("offs_n < N", "offs_n < 0"), ("offs_k < K", "offs_k < 0"))

    def torch_beside_it(x, w):
        idle[(1,)](x, w, torch.empty_like(w[:, 0]), *w.shape, w.stride(0), BLOCK_N=16, BLOCK_K=16)
        return (w.double() @ x.double()).half()
    assert "no Triton kernel computed it" in verdict_of(torch_beside_it).message


def test_an_exception_is_a_crash_with_the_line_that_raised():
    verdict = judge(GEMV, edited(("tl.zeros((BLOCK_N, BLOCK_K)", "tl.zeros((BLOCK_N, BLOK_K)")))
    assert verdict.status == trial.CRASHED
    assert "BLOK_K" in verdict.message
    if INTERPRETED:
        assert "NameError" in verdict.message


@pytest.mark.skipif(not INTERPRETED, reason="a kernel that never ends cannot be stopped on a GPU")
def test_a_loop_that_never_ends_is_a_timeout(monkeypatch):
    monkeypatch.setattr(trial, "TIMEOUT_S", 0.3)
    verdict = judge(GEMV, edited(("for k in range(0, K, BLOCK_K):", "k = 0\n    while k < K + 1:"),
                                 ("offs_k = k +", "k = k * 1\n        offs_k = k +")))
    assert verdict.status == trial.TIMEOUT and "did not finish within 0.3 s" in verdict.message
    assert verdict.outcome.case is GEMV.cases[0]


def test_nothing_is_tried_after_a_case_that_timed_out(monkeypatch):
    tried = []

    def times_out(exercise, function, case, seed, run):
        tried.append((case, seed))
        return trial.Outcome(case, {}, (), status=trial.TIMEOUT if len(tried) == 2 else trial.FAILED)
    monkeypatch.setattr("checks.judge.verdict.try_case", times_out)
    monkeypatch.setattr("checks.judge.diagnosis.recognise", lambda *_: None)
    exercise = EXERCISES["gemv_bytes"]
    assert not judge(exercise, exercise.answer_function(), seed=0).passed
    assert tried == [(case, 0) for case in exercise.cases[:2]]


def test_without_a_seed_a_session_s_checks_see_the_same_inputs(monkeypatch):
    seeds = []
    monkeypatch.setattr("checks.judge.verdict.try_case", lambda exercise, function, case, seed, run:
                        seeds.append(seed) or trial.Outcome(case, {}, ()))
    exercise = EXERCISES["gemv_bytes"]
    for seed in (None, 0, None):
        assert judge(exercise, exercise.answer_function(), seed).passed
    assert set(seeds[:4]) == set(seeds[8:]) == {SESSION_SEED} and set(seeds[4:8]) == {0} and len(exercise.cases) == 4


@pytest.mark.parametrize("interpreted", [None, 0, 1, 3])
def test_it_is_said_if_any_case_was_interpreted(monkeypatch, interpreted):
    exercise = EXERCISES["gemv_bytes"]
    monkeypatch.setattr("checks.judge.verdict.try_case", lambda exercise, function, case, *_: trial.Outcome(
        case, {}, (), interpreted="it is odd" * (exercise.cases.index(case) == interpreted)))
    said = judge(exercise, exercise.answer_function()).message
    assert said == "gemv_bytes: right on 4 cases" + (
        "" if interpreted is None else " · interpreted, not proven: it is odd. Before it earns points, a person looks at it")


def test_a_compiler_that_does_not_finish_is_no_pass(monkeypatch):
    def does_not_finish(self):
        raise TimeoutError("the compiler did not finish within 60 s.")
    monkeypatch.setattr("checks.judge.verdict.Compilation.reports", does_not_finish)
    verdict = judge(GEMV, gemv_fp16)
    assert verdict.status == "failed" and verdict.message.endswith(
        "it is right, but the compiler did not finish within 60 s. Are its blocks far too large?")
    assert verdict.traffic or not INTERPRETED


def test_running_out_of_memory_is_said():
    def hog(x, w):
        raise MemoryError
    assert verdict_of(hog).status == trial.OUT_OF_MEMORY


@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_torch_did_beside_a_kernel_in_any_case_counts(at):
    outcomes = [trial.Outcome(case, {}, (), launches=[Launch(None, {}, [], {}, traced=False)]) for case in GEMV.cases[:3]]
    outcomes[at].operators = ["aten::mul.Tensor", "aten::add.Tensor"]
    outcomes[0].operators = [*outcomes[0].operators, "aten::mul.Tensor"] if at else outcomes[0].operators
    assert "(aten::add.Tensor, aten::mul.Tensor)" in _SeenHere(GEMV, gemv_fp16_kernel, 0, outcomes).not_by_kernel()


def test_what_only_the_interpreter_takes_is_refused():
    verdict = judge(GEMV, edited(("acc += w", "if k >= K:\n            break\n        acc += w")))
    assert not verdict.passed
    assert "Triton refuses the kernel: unsupported AST node type: Break" in verdict.message


def test_every_seed_draws_other_inputs_and_one_seed_the_same():
    first, again, other = (trial.try_case(GEMV, gemv_fp16, GEMV.cases[0], seed).inputs["w"] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_kernel_may_call_helpers_and_use_constants():
    namespace = dict(vars(GEMV.module)) | {"ZERO": tl.constexpr(0.0)}
    define("@triton.jit\ndef multiply(a, b):\n    return a.to(tl.float32) * b.to(tl.float32)\n", "multiply", namespace)
    source = answer_source(GEMV.name).replace("w.to(tl.float32) * x.to(tl.float32)[None, :]", "multiply(w, x[None, :])")
    verdict = judge(GEMV, define(source.replace("other=0.0", "other=ZERO"), GEMV.name, namespace))
    assert verdict.passed, verdict.message


def test_an_autotuned_kernel_is_judged_like_any_other():
    namespace = dict(vars(GEMV.module)) | {"configs": [triton.Config({}, num_warps=8)]}
    source = "@triton.autotune(configs, key=['N'])\n" + answer_source(GEMV.name)
    verdict = judge(GEMV, define(source, GEMV.name, namespace))
    assert verdict.passed, verdict.message


def test_a_helper_is_tried_inside_our_kernel_that_calls_it():
    exercise = EXERCISES["grouped_tile"]
    row_by_row = define("@triton.jit\ndef grouped_tile(pid, num_pid_m, num_pid_n, GROUP_M: tl.constexpr):\n"
                        "    return pid // num_pid_n, pid % num_pid_n\n", "grouped_tile", dict(vars(exercise.module)))
    assert exercise.callable_for(row_by_row)(2, 3, GROUP_M=2).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert exercise.callable_for(exercise.answer_function())(2, 3, GROUP_M=2)[1].tolist() == [1, 0]  # ours is as it was


def test_host_code_that_looks_at_numbers_is_interpreted():
    def looks(x, w):
        assert float(x.float().abs().max()) >= 0
        return gemv_fp16(x, w)

    if INTERPRETED:
        verdict = verdict_of(looks)
        assert verdict.passed and "interpreted, not proven: the code around the kernel looks at numbers" in verdict.message


def launched(kernel="k", bytes_moved=8, traced=True) -> Launch:
    lanes = np.arange(bytes_moved // 4)
    accesses = [Access("load", "x_ptr", (0, 0, 0), lanes, lanes >= 0, 4)] if bytes_moved else []
    return Launch(kernel, {}, [], {}, accesses, traced=traced)


def outcomes_of(*launches) -> list[trial.Outcome]:
    """An outcome of each case of the exercise, with these launches."""
    return [trial.Outcome(case, {}, (), launches=mine) for case, mine in zip(GEMV.cases, launches, strict=False)]


TOUCHES, IDLE, UNSEEN = launched(), launched(bytes_moved=0), launched(bytes_moved=0, traced=False)


@pytest.mark.parametrize(("launches", "first", "measured"), [
    (([TOUCHES], [UNSEEN]), 0, True), (([], [TOUCHES]), 1, True), (([IDLE], [TOUCHES]), 1, True),
    (([UNSEEN], [TOUCHES]), 0, False), (([], [IDLE]), None, None), (([IDLE, TOUCHES], []), 0, True),
    (([TOUCHES, UNSEEN], []), 0, False)], ids=range(7))
def test_what_is_measured_is_the_first_case_with_a_kernel(monkeypatch, launches, first, measured):
    asked, answer = [], trial.Outcome(GEMV.cases[0], {}, (), launches=[TOUCHES])
    monkeypatch.setattr(verdict, "_answer_on", lambda *given: asked.append(given) or answer)
    monkeypatch.setattr(verdict, "not_by_kernel", lambda *given: given)
    seen = _SeenHere(GEMV, gemv_fp16_kernel, 7, outcomes_of(*launches))
    assert seen.not_by_kernel() == (NO_KERNEL if first is None else (GEMV, seen.outcomes, []))
    if first is not None:
        assert seen.measured() == ((seen.outcomes[first], answer) if measured else None)
        assert asked == [(GEMV, GEMV.cases[first], 7)] * measured


def test_what_is_compiled_is_one_launch_of_each_kernel(monkeypatch):
    mine = [launched("main", 80), launched("small", 8), launched("main", 40)]
    answer = [launched("first", 800), launched("last", 4)]
    compiled = []

    class Compilation:
        def __init__(self, launches):
            compiled.extend(launches)

        def reports(self):
            return [{80: Compiled(registers=at)} for at, _ in enumerate(compiled)]

    monkeypatch.setattr(verdict, "Compilation", Compilation)
    monkeypatch.setattr(verdict, "_answer_on", lambda *_: trial.Outcome(GEMV.cases[0], {}, (), launches=answer))
    reports = _SeenHere(GEMV, gemv_fp16_kernel, 0, outcomes_of(mine)).compiled()
    assert list(map(id, compiled)) == [id(mine[1]), id(mine[0]), id(answer[1])]
    assert reports == ({80: Compiled(registers=1)}, {80: Compiled(registers=2)}), "of the kernel that moves most"


def test_the_answer_is_tried_once_on_a_case_and_a_seed(monkeypatch):
    tried = []
    monkeypatch.setattr(verdict, "try_case", lambda *given: tried.append(given) or len(tried))
    verdict._answer_on.cache_clear()
    asked = [(GEMV, GEMV.cases[0], 0), (GEMV, GEMV.cases[1], 0), (GEMV, GEMV.cases[0], 1)]
    assert [verdict._answer_on(*one) for one in asked * 2] == [1, 2, 3] * 2
    assert tried == [(exercise, exercise.answer_function(), case, seed) for exercise, case, seed in asked]
    verdict._answer_on.cache_clear()


@pytest.mark.parametrize(("exercise", "kernel"), [(GEMV, True), (EXERCISES["gemv_bytes"], False)], ids=["kernel", "plain"])
def test_the_compiler_is_warmed_up_with_a_kernel_s_first_case(monkeypatch, exercise, kernel):
    order, count = [], len(exercise.cases)
    monkeypatch.setattr(verdict, "try_case", lambda exercise, function, case, *_: order.append(case) or trial.Outcome(
        case, {}, (), launches=[case]))
    monkeypatch.setattr(verdict, "warm_up_for", lambda launches: order.append(tuple(launches)))
    monkeypatch.setattr(verdict, "steps", lambda seen: [("public", Verdict(exercise, trial.PASSED, "right"))])
    assert judge(exercise, exercise.answer_function(), seed=0).message == f"{exercise.name}: right"
    warmed = [(exercise.cases[0],)] if kernel else []
    assert order == [exercise.cases[0], *warmed, *exercise.cases[1:]] and len(exercise.cases) == count > 1


@pytest.mark.parametrize(("found", "status", "message", "traffic", "asked"), [
    ("passed passed passed", "passed", "gemv_fp16_kernel: one · two · three", (3, 2, 1), 3),
    ("failed passed passed", "failed", "one", None, 1), ("passed passed failed", "failed", "three", (3, 2, 1), 3)])
def test_steps_are_taken_up_to_the_first_that_fails(monkeypatch, found, status, message, traffic, asked):
    taken = []

    def steps(seen):
        for at, one in enumerate(found.split()):
            taken.append((seen.exercise, seen.written, seen.seed, len(seen.outcomes)))
            yield "step", Verdict(GEMV, one, ("one", "two", "three")[at], traffic=(3, 2, 1) if at == 1 else None)

    monkeypatch.setattr(verdict, "try_case", lambda exercise, function, case, *_: trial.Outcome(case, {}, ()))
    monkeypatch.setattr(verdict, "warm_up_for", lambda launches: None)
    monkeypatch.setattr(verdict, "steps", steps)
    said = judge(GEMV, gemv_fp16_kernel, seed=5)
    assert (said.status, said.message, said.traffic) == (status, message, traffic)
    assert taken == [(GEMV, gemv_fp16_kernel, 5, len(GEMV.cases))] * asked


@pytest.mark.parametrize(("executed", "on_gpu", "ways", "message", "traffic"), [
    ("passed", "passed", "executed gpu", "executed · right on this GPU too", (1, 1, 1)),
    ("failed", "passed", "executed", "executed", (1, 1, 1)), ("passed", "failed", "executed gpu", "gpu", (2, 2, 2)),
    (NeedsNumbers("it looks"), "passed", "executed gpu",
     "gpu on this GPU; its loads and stores were not looked at (it looks)", (2, 2, 2)),
    (NeedsNumbers("it looks"), "failed", "executed gpu", "gpu", (2, 2, 2)), (Unsupported("tt.odd"), "passed", "executed gpu",
     "gpu on this GPU; its loads and stores were not looked at (tt.odd is not executed here)", (2, 2, 2))], ids=range(6))
def test_the_two_ways_on_a_gpu_s_machine(monkeypatch, executed, on_gpu, ways, message, traffic):
    names, tried = {verdict.attempt_executed: "executed", verdict.attempt: "gpu", None: "here"}, []

    def judge_by(run, exercise, function, written, seed):
        tried.append(names[run])
        assert (function, written, seed) == (gemv_fp16, gemv_fp16_kernel, 3) or not exercise.is_kernel
        found = executed if run is verdict.attempt_executed else on_gpu
        if isinstance(found, Exception):
            raise found
        number = 1 + (names[run] == "gpu")
        return Verdict(exercise, found, names[run], traffic=(number, number, number))

    monkeypatch.setattr(verdict, "_judge_by", judge_by)
    monkeypatch.setattr(verdict, "INTERPRETED", False)
    said = judge(GEMV, gemv_fp16, 3)
    assert (tried, said.message, said.traffic) == (ways.split(), message, traffic)
    assert said.status == (on_gpu if "gpu" in tried else executed)
    tried.clear()
    judge(EXERCISES["gemv_bytes"], EXERCISES["gemv_bytes"].answer_function())
    assert tried == ["here"], "a plain function needs no GPU"


@pytest.mark.parametrize(("line", "said"), [
    ("raise NotImplementedError('TODO')", "gemv_bytes: not attempted: replace the placeholder `raise "
     "NotImplementedError('TODO')` with your code;"), ("x = 1", None)])
def test_a_placeholder_ends_it_before_anything_is_tried(monkeypatch, line, said):
    judged = []
    monkeypatch.setattr(verdict, "_judge_by", lambda *given: judged.append(given) or SimpleNamespace(passed=True))
    exercise = EXERCISES["gemv_bytes"]
    mine = define(f"def gemv_bytes(N, K):\n    {line}\n    return 2 * N\n", "gemv_bytes", {})
    for function, written in ((mine, None), (exercise.answer_function(), mine)):
        found = judge(exercise, function, 3, written)
        if said:
            assert found.status == NOT_ATTEMPTED and not judged and said in found.message
        else:
            assert judged.pop() == (None, exercise, function, mine, 3)


@pytest.mark.parametrize("error", [OSError, SyntaxError])
def test_a_function_without_a_source_is_judged_as_it_is(monkeypatch, error):
    def source_of(function):
        raise error

    monkeypatch.setattr(verdict, "source_of", source_of)
    exercise = EXERCISES["gemv_bytes"]
    assert judge(exercise, exercise.answer_function()).passed
