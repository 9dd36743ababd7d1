"""What plays recordings back in a child, tried in the process of the test."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from frames import served
from grading import ADD

from checks.executor import Unsupported
from checks.grader.sandbox import play_child
from checks.grader.sandbox.values import decode, encode, encode_inputs
from checks.host.recorder import record
from checks.host.steps import LaunchStep
from checks.host.transport import pack
from checks.judge.launches import Launch
from kernels.runtime import INTERPRETED

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="a child has Triton's interpreter")

RIGHT = {"x": torch.tensor([1.0, 2.0, 3.0]), "y": torch.tensor([5.0, 6.0, 7.0]), "BLOCK": 4}


def played(nonce: str = "n", function=None, **more) -> tuple[dict, bytes]:
    recording = record(function or ADD.callable_for(ADD.answer_function()), RIGHT)
    described, payload = encode_inputs(RIGHT)
    constants, raw = encode(recording.constants.values())
    return {"recording": pack(recording), "inputs": described, "constants": constants, "input_bytes": len(payload),
            "texts": [{"text": "ttir"}], "maps": False, "timeout_s": 60, "nonce": nonce} | more, payload + raw


def add(text, step, arguments) -> Launch:
    """In place of the executor."""
    arguments["out_ptr"].copy_(arguments["x_ptr"] + arguments["y_ptr"])
    assert text == "ttir" and step.name == ADD.name
    return Launch(step.name, arguments, ["BLOCK"], {})


def test_a_recording_is_played(monkeypatch):
    collected = []
    monkeypatch.setattr(play_child.gc, "collect", lambda: collected.append(1))
    monkeypatch.setattr(play_child, "run_compiled", add)
    monkeypatch.setattr(play_child, "made_by_kernels", lambda *_: [torch.tensor([True, False, True])])
    (ready, _), *found = served(
        play_child.serve, ({}, b""), played("1", afresh=True), played("2", afresh=False, maps=True), played("3"),
        played("4", texts=[{"error": "no such operator"}]), played("5", texts=[]))
    assert ready == {"nonce": None, "ready": True} and [one["nonce"] for one, _ in found] == list("12345")
    for answer, raw in found[:3]:
        assert decode(answer["outputs"], raw)[0].tolist() == [6.0, 8.0, 10.0] and answer["error"] is None
        assert answer["launches"][0]["kernel"] == ADD.name and answer["changed"] == answer["broken"] == []
    assert collected == [1] and found[0][0]["maps"] == []
    answer, raw = found[1]
    _, made, *_ = decode([*answer["outputs"], *(one for *_, one in answer["maps"])], raw)
    assert made.tolist() == [True, False, True], "what kernels made is known"
    refused, lacking = found[3][0], found[4][0]
    assert refused["error"]["type"] == "CompileError" and refused["error"]["text"] == "no such operator"
    assert lacking["error"]["type"] in ("StopIteration", "RuntimeError") and lacking["outputs"] == []


def test_what_host_code_made_of_numbers_is_sent_too(monkeypatch):
    def with_a_constant(x, y, BLOCK):
        return ADD.callable_for(ADD.answer_function())(x, y + torch.tensor([10.0, 20.0, 30.0]), BLOCK)

    monkeypatch.setattr(play_child, "run_compiled", add)
    monkeypatch.setattr(play_child, "made_by_kernels", lambda *_: None)
    question, payload = played(function=with_a_constant)
    assert len(payload) - question["input_bytes"] == 12
    _, (answer, raw) = served(play_child.serve, ({}, b""), (question, payload))
    assert decode(answer["outputs"], raw)[0].tolist() == [16.0, 28.0, 40.0]


@pytest.mark.parametrize("error", [
    TimeoutError("x"), MemoryError("x"), ValueError("x"), play_child.LimitExceeded("x"), play_child.Raced("x"),
    play_child.FailedAssertion("x")], ids=lambda one: type(one).__name__)
def test_what_a_kernel_does_wrong_is_said(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(play_child, "run_compiled", fail)
    monkeypatch.setattr(play_child, "made_by_kernels", lambda *_: pytest.fail("nothing was made"))
    _, (answer, _) = served(play_child.serve, ({}, b""), played())
    assert (answer["error"]["type"], answer["outputs"]) == (type(error).__name__, [])


def test_what_changes_its_input_or_is_not_supported(monkeypatch):
    def spoil(text, step, arguments):
        arguments["x_ptr"].zero_()
        return add(text, step, arguments)

    def refuse(*_):
        raise Unsupported("a histogram", "in a kernel")

    monkeypatch.setattr(play_child, "made_by_kernels", lambda *_: None)
    unsupported = str(Unsupported("a histogram", "in a kernel"))
    for run, said in ((spoil, {"changed": ["x"]}), (refuse, {"unsupported": unsupported})):
        monkeypatch.setattr(play_child, "run_compiled", run)
        _, (answer, _) = served(play_child.serve, ({}, b""), played())
        assert said.items() <= answer.items() and answer["nonce"] == "n"


def test_recordings_are_timed_in_turns(monkeypatch):
    """Each side by its own texts, the inputs as they came."""
    from kernels import timing

    def time_us(sides, gpu, repeats, warmup):
        assert list(sides) == ["yours", "answer"] and (repeats, warmup) == (30, 3)
        assert len(copied) == 4  # two inputs of each, before anything is timed
        return {name: [float(side()[0].sum()) for _ in range(2)] for name, side in sides.items()}

    def run(text, step, arguments):
        launched.append(text)
        arguments["out_ptr"].copy_(arguments["x_ptr"] + arguments["y_ptr"])

    launched: list[str] = []
    copied: list[torch.Tensor] = []
    monkeypatch.setattr(timing, "time_us", time_us)
    monkeypatch.setattr(timing, "CudaGPU", lambda: None)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: copied.append(self) or self)
    monkeypatch.setattr(play_child, "run_compiled", run)
    (one, payload), (other, _) = played(), played(texts=[{"text": "answer's"}])
    question = {"time": {"yours": one, "answer": other}, "maps": False, "nonce": "n"}
    _, (answer, raw) = served(play_child.serve, ({}, b""), (question, payload))
    assert answer == {"times": {"yours": [24.0, 24.0], "answer": [24.0, 24.0]}, "nonce": "n"} and raw == b""
    assert launched == ["ttir", "ttir", "answer's", "answer's"] and len(copied) == 4


# on a GPU, as far as it goes without one

STEP = LaunchStep("source", "kernel", {}, (3, 2, 1), {"num_warps": 8, "num_stages": 2}, {}, {"BLOCK": 4})


def test_a_kernel_s_launch_on_a_gpu(monkeypatch, tmp_path):
    """Compiled once for its text and options, and given all but what the text holds already."""
    def compile(path, options):
        compiled.append((Path(path).read_text(), options))
        return {STEP.grid: lambda *given: launched.append(given)}

    compiled, launched = [], []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(play_child, "INTERPRETED", False)
    monkeypatch.setattr(play_child.triton, "compile", compile)
    play_child._compiled.cache_clear()
    arguments = {"x": 1, "BLOCK": 4, "y": 2.5}
    for text, step in (("a", STEP), ("a", STEP), ("b", STEP), ("a", replace(STEP, options={"num_warps": 4}))):
        launch = play_child._launch({"text": text}, step, arguments)
        assert (launch.kernel, launch.arguments, launch.constexprs, launch.options) == (
            "kernel", arguments, ["BLOCK"], step.options)
    assert compiled == [("a", STEP.options), ("b", STEP.options), ("a", {"num_warps": 4})] and launched == [(1, 2.5)] * 4
    descriptor = play_child.TensorDescriptor(torch.zeros(4, 4), [4, 4], [4, 1], [2, 4])
    with pytest.raises(Unsupported, match="a tensor descriptor"):
        play_child._launch({"text": "a"}, STEP, {"x": descriptor})
    with pytest.raises(play_child.CompileError, match="no"):
        play_child._launch({"error": "no"}, STEP, arguments)
    play_child._compiled.cache_clear()


def test_what_cuda_is_told_in_a_child(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    monkeypatch.setattr(torch.cuda, "device_count", None)
    fractions = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", fractions.append)
    play_child._prepare_cuda()
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "triton") and torch.cuda.device_count() == 1
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ and fractions == [0.4]
