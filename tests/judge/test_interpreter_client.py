"""A machine with a GPU asks a second process, where Triton interprets; here that machine is simulated."""

import io
import os
import re
import signal
import types
from pathlib import Path

import pytest
import torch
import triton.language as tl

from checks.exercises import EXERCISES
from checks.judge import interpreter_client
from checks.judge.source import answer_source, define, rebind, self_contained
from checks.judge.tracing import trace
from checks.judge.verdict import judge
from checks.paths import ROOT
from kernels import (
    cost,
    fused,
    gemv,
    gemv_fp16,
    gemv_int8,
    hello,
    int_mm,
    matmul,
    perrow_w8a8,
    plans,
    quantize,
    runtime,
    skinny,
)

interprets = pytest.mark.skipif(not interpreter_client.available(), reason="this Triton's loops need an older NumPy")
GEMV = EXERCISES["gemv_fp16_kernel"]


@pytest.fixture
def gpu_machine(monkeypatch):
    for module in ("checks.judge.tracing", "checks.judge.verdict"):
        monkeypatch.setattr(f"{module}.INTERPRETED", False)


@pytest.mark.parametrize(("triton", "numpy", "available"), [
    ("3.7.0", "2.4.0", True), ("3.6.0", "2.4.0", False), ("3.6.0", "2.3.5", True), ("3.7.1", "2.5.0rc1", True),
    ("3.6.0+git1a2b", "2.4.6", False), ("3.6.0", "2.5.0", False), ("4.0.0", "3.0.0", True), ("3.6.9", "1.26.4", True)])
def test_which_versions_interpret_reliably(monkeypatch, triton, numpy, available):
    monkeypatch.setattr("triton.__version__", triton)
    monkeypatch.setattr("numpy.__version__", numpy)
    assert interpreter_client.available() is available
    if not available:
        with pytest.raises(RuntimeError, match=f"Triton {re.escape(triton)} .* NumPy before 2.4, and this is {numpy}:"):
            interpreter_client.ask("trace", "", "f", {})


def test_nothing_below_is_skipped_with_the_pinned_versions(monkeypatch):
    pinned = dict(re.findall(r"^(triton|numpy)==(.+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    for name, version in pinned.items():
        monkeypatch.setattr(f"{name}.__version__", version)
    assert len(pinned) == 2 and interpreter_client.available() is True


def test_without_a_reliable_interpreter_the_gpu_decides(gpu_machine, monkeypatch):
    monkeypatch.setattr(interpreter_client, "available", lambda: False)
    monkeypatch.setattr(interpreter_client, "ask", lambda *_: pytest.fail("it was asked"))
    verdict = judge(GEMV, gemv_fp16)
    assert verdict.passed and verdict.traffic is None and "registers" in verdict.message


def test_what_is_no_kernel_is_judged_in_this_process(gpu_machine, monkeypatch):
    monkeypatch.setattr(interpreter_client, "ask", lambda *_: pytest.fail("it was asked"))
    assert judge(EXERCISES["gemv_bytes"], cost.gemv_bytes).passed


def test_a_kernel_that_cannot_be_sent_fails_with_the_reason(gpu_machine, monkeypatch):
    monkeypatch.setattr(interpreter_client, "available", lambda: True)
    verdict = judge(GEMV, define(answer_source(GEMV.name).replace("acc += w", "acc += w * table"), GEMV.name,
                                 dict(vars(GEMV.module)) | {"table": torch.ones(1)}))
    assert verdict.status == "failed" and "uses the global `table`, a Tensor" in verdict.message


@interprets
def test_a_trace_from_another_process_is_the_same(monkeypatch):
    inputs = {"x": torch.ones(40).half(), "w": torch.ones(70, 40).half()}
    (here,) = trace(gemv_fp16, **inputs)
    monkeypatch.setattr("checks.judge.tracing.INTERPRETED", False)
    (there,) = trace(gemv_fp16, **inputs)
    assert here.traffic() == there.traffic() and here.footprint() == there.footprint()
    with pytest.raises(RuntimeError, match="x must be"):
        trace(gemv_fp16, x=inputs["x"][:3], w=inputs["w"])
    (again,) = trace(gemv_fp16, **inputs)
    assert again.traffic() == here.traffic()


def edited(old, new):
    source = answer_source(GEMV.name).replace(old, new)
    return define(source, GEMV.name, dict(vars(GEMV.module)))


@interprets
def test_a_kernel_out_of_bounds_never_reaches_the_gpu(gpu_machine, monkeypatch):
    monkeypatch.setattr("checks.judge.verdict._judge_here", lambda *_: pytest.fail("it ran on the GPU"))
    verdict = judge(GEMV, edited("& mask_k[None, :]", ""))
    assert "out-of-bounds load on `w_ptr`" in verdict.message
    assert verdict.mistake == "the mask on K is missing when W is loaded"


@interprets
def test_a_wrong_kernel_is_named_and_its_picture_can_be_drawn(gpu_machine):
    verdict = judge(GEMV, edited("acc += w", "acc = w"))
    assert verdict.mistake == "only the last block of K is kept"
    assert verdict.outcome.wrong.any() and verdict.outcome.case in GEMV.cases


@interprets
def test_a_right_kernel_is_then_tried_on_the_gpu(gpu_machine):
    verdict = judge(GEMV, gemv_fp16)
    assert verdict.passed and verdict.message.endswith("right on this GPU too")
    assert verdict.traffic and "registers" in verdict.message


@interprets
def test_a_process_that_died_is_started_again():
    inputs = {"x": torch.ones(8).half(), "w": torch.ones(3, 8).half()}
    source = "import torch\ndef f(x, w):\n    return w @ x\n"
    assert interpreter_client.ask("trace", source, "f", inputs) == []
    assert os.getsid(interpreter_client._child.pid) == interpreter_client._child.pid  # Ctrl-C is not meant for it
    os.kill(interpreter_client._child.pid, signal.SIGKILL)
    interpreter_client._child.wait()
    assert interpreter_client.ask("trace", source, "f", inputs) == []
    with pytest.raises(RuntimeError, match="ended without an answer"):
        interpreter_client.ask("trace", "import os\ndef f(x, w):\n    os._exit(3)\n", "f", inputs)


@interprets
def test_a_process_that_does_not_answer_is_ended(monkeypatch):
    assert interpreter_client.ask("trace", "def f():\n    pass\n", "f", {}) == []
    child = interpreter_client._child
    monkeypatch.setattr(interpreter_client, "TIMEOUT_S", 0.1)
    with pytest.raises(TimeoutError, match="did not answer within 0.1 s"):
        interpreter_client.ask("trace", "import time\ndef f():\n    time.sleep(600)\n", "f", {})
    assert child.wait(60) == -signal.SIGKILL


@interprets
def test_what_a_kernel_prints_does_not_mix_with_the_answers():
    source = "def f():\n    import os\n    print('printed', flush=True)\n    os.write(1, b'written')\n"
    assert interpreter_client.ask("trace", source, "f", {}) == []


class Closed:
    """A process whose pipes are closed, and that is not gone until it is waited for."""

    def __init__(self, stdout):
        self.stdin, self.stdout, self.code, self.killed = io.BytesIO(), stdout, None, False

    def poll(self):
        return self.code

    def kill(self):
        self.killed = True

    def wait(self):
        self.code = 3


@interprets
def test_a_process_about_to_end_gets_no_second_question(monkeypatch):
    with Path(os.devnull).open("rb") as nothing:
        monkeypatch.setattr(interpreter_client, "_child", child := Closed(nothing))
        with pytest.raises(RuntimeError, match="ended without an answer"):
            interpreter_client.ask("trace", "", "f", {})
    assert child.killed and child.poll() is not None  # so that the next question starts another


@interprets
def test_a_function_that_asks_where_it_runs_hears_the_other(monkeypatch):
    """A GPU machine's wrapper takes blocks for a GPU, and its kernels a GPU's minimum, which passes over NaN."""
    if runtime.INTERPRETED:
        assert {"INTERPRETED": True, "ON_GPU": quantize.ON_GPU.value} == interpreter_client.CONSTANTS
    inputs = {"x": torch.ones(40).half(), "w": torch.ones(70, 40).half()}
    (here,) = trace(gemv_fp16, **inputs)
    monkeypatch.setattr("checks.judge.tracing.INTERPRETED", False)
    (there,) = trace(rebind(gemv_fp16, INTERPRETED=False), **inputs)
    assert here.traffic() == there.traffic()
    long_rows = EXERCISES["quantize_int8_perrow_long_kernel"]
    monkeypatch.setattr("kernels.quantize.ON_GPU", tl.constexpr(True))
    source = self_contained(long_rows.answer_function(), **interpreter_client.CONSTANTS)
    assert interpreter_client.ask("judge", long_rows.name, source, long_rows.name, 0)["status"] == "passed"


FUNCTIONS = [value for module in (hello, gemv, gemv_int8, matmul, quantize, int_mm, perrow_w8a8, fused, plans, skinny)
             for name, value in vars(module).items()
             if isinstance(value, types.FunctionType) and value.__module__ == module.__name__ and not name.startswith("_")]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_function_of_the_library_can_be_written_down(function):
    assert define(self_contained(function, **interpreter_client.CONSTANTS), function.__name__, {})


def test_a_function_known_by_another_name():
    function = define("def f(x):\n    return count(x, 16)\n", "f", {"count": hello.programs_needed})
    assert define(self_contained(function), "f", {})(33) == 3


def test_a_library_function_takes_a_students_kernel_along():
    wrong = edited("acc += w", "acc = w")
    source = self_contained(rebind(gemv_fp16, gemv_fp16_kernel=wrong), **interpreter_client.CONSTANTS)
    assert "acc = w" in source and "from kernels.gemv import gemv_fp16_kernel" not in source
