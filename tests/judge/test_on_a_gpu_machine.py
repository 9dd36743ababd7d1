"""What the judge does on a machine with a GPU: kernels are executed without it first, where nothing can break."""

import pytest
import torch
import triton.language as tl

from checks.exercises import EXERCISES
from checks.judge.execution import attempt_executed
from checks.judge.source import answer_source, define, rebind
from checks.judge.tracing import trace
from checks.judge.trial import PASSED, try_case
from checks.judge.verdict import judge
from kernels.gemv import gemv_fp16

GEMV = EXERCISES["gemv_fp16_kernel"]


@pytest.fixture(autouse=True)
def gpu_machine(monkeypatch):
    """This machine as if it had a GPU, which is really the interpreter."""
    for module in ("tracing", "verdict"):
        monkeypatch.setattr(f"checks.judge.{module}.INTERPRETED", False)


def edited(old, new):
    return define(answer_source(GEMV.name).replace(old, new), GEMV.name, dict(vars(GEMV.module)))


def test_a_kernel_out_of_bounds_never_reaches_the_gpu(monkeypatch):
    monkeypatch.setattr("checks.judge.verdict.attempt", lambda *_: pytest.fail("it ran on the GPU"))
    verdict = judge(GEMV, edited("& mask_k[None, :]", ""))
    assert "out-of-bounds load on `w_ptr`" in verdict.message
    assert verdict.mistake == "the mask on K is missing when W is loaded"


@pytest.mark.parametrize("exercise", [GEMV, EXERCISES["grouped_tile"]], ids=lambda exercise: exercise.name)
def test_what_is_executed_lies_on_the_cpu_and_is_right_there(monkeypatch, exercise):
    for name in ("attempt", "trial"):
        monkeypatch.setattr(f"checks.judge.{name}.device", lambda: torch.device("cuda"))
    tried = try_case(exercise, exercise.answer_function(), exercise.cases[0], 0, attempt_executed)
    assert tried.status == PASSED, tried.message


def test_a_wrong_kernel_is_named_and_its_picture_can_be_drawn():
    verdict = judge(GEMV, edited("acc += w", "acc = w"))
    assert verdict.mistake == "only the last block of K is kept"
    assert verdict.outcome.wrong.any() and verdict.outcome.case in GEMV.cases


def test_a_right_kernel_is_then_tried_on_the_gpu():
    verdict = judge(GEMV, gemv_fp16)
    assert verdict.passed and verdict.message.endswith("right on this GPU too")
    assert verdict.traffic and "registers" in verdict.message


def test_what_is_wrong_on_the_gpu_alone_is_wrong(monkeypatch):
    def raises(*_):
        raise RuntimeError("the GPU is unwell")
    monkeypatch.setattr("checks.judge.verdict.attempt", raises)
    with pytest.raises(RuntimeError):
        judge(GEMV, gemv_fp16)


def test_a_wrapper_that_looks_at_numbers_runs_on_the_gpu_alone():
    def gemv_fp16_looking(x, w):
        assert float(x.float().abs().max()) >= 0
        return gemv_fp16(x, w)
    wrapper = rebind(gemv_fp16_looking, gemv_fp16_kernel=GEMV.answer_function())
    verdict = judge(GEMV, wrapper)
    assert verdict.passed and "its loads and stores were not looked at" in verdict.message


def test_kernels_take_the_gpus_way_and_are_right(monkeypatch):
    """Where INT8 codes are made by instructions that the interpreter does not round as a GPU does."""
    monkeypatch.setattr("kernels.quantize.ON_GPU", tl.constexpr(True))
    for name in ("quantize_int8_perrow_long_kernel", "rmsnorm_quantize_int8_long_kernel"):
        exercise = EXERCISES[name]
        assert judge(exercise, exercise.answer_function()).status == "passed"


def test_a_trace_needs_no_gpu():
    exercise = EXERCISES["vector_add_kernel"]
    inputs = {"x": exercise.cases[0].inputs(__import__("torch").Generator())["x"]}
    (launch,) = trace(exercise.module.vector_add, x=inputs["x"], y=inputs["x"], BLOCK=128)
    assert [access.program for access in launch.accesses] == sorted(access.program for access in launch.accesses)
    with pytest.raises(RuntimeError, match="can only be interpreted"):
        trace(lambda x: float(x.sum()), x=inputs["x"])
