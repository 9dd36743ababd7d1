"""The GPU that a grader uses: which one, what it is called, and that it is there."""

import contextlib
import subprocess
import types

import pytest
import torch
from grading import ADD

from checks.grader import gpu
from checks.grader.grader import Grader
from checks.grader.grading.cases import CaseSet
from checks.grader.grading.runs import NeedsNumbers, Run
from checks.grader.intake.submissions import Submission
from checks.grader.sandbox.client import ChildExited, Fault
from checks.grader.sandbox.values import decode, encode
from checks.grader.settings import Settings


@pytest.mark.parametrize("done, said", [
    (OSError("no such file"), "nvidia-smi does not answer: no such file"),
    (subprocess.TimeoutExpired("nvidia-smi", 60), "nvidia-smi does not answer"),
    ((6, "No devices were found\n", ""), "there is no GPU 2: No devices were found"),
    ((255, "", "Invalid --id\n"), "there is no GPU 2: Invalid --id"), ((0, "NVIDIA H200\n", ""), None)], ids=str)
def test_the_name_of_a_gpu(monkeypatch, done, said):
    def run(command, **_):
        assert command[:2] == ["nvidia-smi", "--id=2"]
        if isinstance(done, Exception):
            raise done
        return subprocess.CompletedProcess(command, *done)

    monkeypatch.setattr(subprocess, "run", run)
    if said is None:
        assert gpu.gpu_name(2) == "NVIDIA H200"
    else:
        with pytest.raises(Fault, match=said):
            gpu.gpu_name(2)


def test_a_gpu_that_torch_cannot_use(monkeypatch):
    def start(kind, seconds, variables):
        assert kind == "gpu" and variables["CUDA_VISIBLE_DEVICES"] == "3"
        return server

    server = types.SimpleNamespace(levels=["seccomp", "limits"], closed=0)
    server.close = lambda: setattr(server, "closed", server.closed + 1)
    monkeypatch.setattr(gpu, "ForkServer", start)
    with pytest.raises(Fault, match="there is no GPU 3 that torch can use"):
        gpu.start_gpu_server(3)
    assert server.closed == 1
    server.levels.append("gpu")
    assert gpu.start_gpu_server(3) is server and server.closed == 1


def test_each_worker_has_a_gpu_and_closes_what_it_has_started(monkeypatch):
    monkeypatch.setattr("checks.grader.grader.gpu_name", "GPU {}".format)
    started, closed = [], []

    def start(index):
        started.append(index)
        return types.SimpleNamespace(close=lambda: closed.append(index))

    monkeypatch.setattr("checks.grader.grader.start_gpu_server", start)
    for process, index in ((10, 0), (11, 7)):
        monkeypatch.setattr("checks.grader.grader.os.getpid", lambda process=process: process)
        grader = Grader(Settings(1, gpus=(0, 7)))
        assert grader.fault_result(Submission("ada"), "it died")["gpu"] == f"GPU {index}"
        assert grader.gpu_server is grader.gpu_server and grader.gpu == index
        grader.stop_servers()
        assert grader.gpu_server is not None and started == closed + [index]
        grader.stop_servers()
        started.clear(), closed.clear()
    alone = Grader(Settings(1))
    assert alone.gpu_server is None and alone.fault_result(Submission("ada"), "it died")["gpu"] is None


@pytest.mark.parametrize("levels, required, said", [
    (["namespaces", "files", "seccomp", "limits"], True, None), (["seccomp", "limits"], False, None),
    (["namespaces", "files", "limits"], False, "allows no seccomp filter"), (["limits"], True, "namespaces, files"),
    (["namespaces", "seccomp", "limits"], True, "files missing"), ([], False, "no seccomp filter")], ids=str)
def test_a_machine_that_cannot_isolate_is_left_as_it_was(monkeypatch, levels, required, said):
    closed = []
    server = types.SimpleNamespace(levels=levels, close=lambda: closed.append(True))
    monkeypatch.setattr("checks.grader.grader.ForkServer", lambda kind, seconds: server)
    grader = Grader(Settings(1, require_isolation=required))
    with pytest.raises(Fault, match=said) if said else contextlib.nullcontext():
        grader.start()
    assert len(closed) == bool(said) and (grader._server is None) == bool(said)
    grader.stop_servers()
    assert len(closed) == 1, "once"


def played_on_a_gpu(monkeypatch, *answers, begins=None):
    """What is said of a recorded run of three cases, of which a GPU's child gives these answers, or the right ones."""
    class Player:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            closed.append(True)

        def begin(self):
            if begins:
                raise begins

        def ask(self, question, payload, seconds):
            assert (question["texts"], seconds) == ([{"text": "for a GPU"}], gpu.RUN_S)
            asked.append(question)
            answer = answers[len(asked) - 1] if len(asked) <= len(answers) else None
            if isinstance(answer, Exception):
                raise answer
            x, y, *_ = decode(list(question["inputs"].values()), payload)
            described, raw = encode([torch.zeros_like(x) if answer == "wrong" else x + y])
            return (answer, b"") if isinstance(answer, dict) else ({"outputs": described}, raw)

    def child(job, data_bytes, serves):
        assert (job, data_bytes, serves) == ({}, gpu.GPU_DATA_BYTES, "play_child")
        return Player()

    asked, closed, case_set = [], [], CaseSet(ADD, 1)
    recordings = [(case, gpu._answers_recording(ADD, case_set.asked(case).inputs)) for case in ADD.cases[:3]]
    compiler = types.SimpleNamespace(texts=lambda launches, for_gpu: [{"text": "for a GPU"} for _ in launches if for_gpu])
    monkeypatch.setattr(gpu, "times", lambda *given: {"yours": float(len(asked)), "given": given[0] is case_set})
    try:
        found = gpu.on_gpu(case_set, Run(recordings=recordings), compiler, types.SimpleNamespace(child=child))
    finally:
        assert closed == [True]
    return found, len(asked)


def test_every_recorded_case_is_played_on_a_gpu(monkeypatch):
    assert played_on_a_gpu(monkeypatch) == ((None, {"yours": 3.0, "given": True}), 3)
    (said, times), asked = played_on_a_gpu(monkeypatch, None, "wrong")
    assert said.startswith(f"On the case '{ADD.cases[1].name}'") and "elements are wrong" in said
    assert (times, asked) == (None, 2)


@pytest.mark.parametrize("answers, begins, said", [
    ([None, ChildExited("it died.")], None, f"On the case '{ADD.cases[1].name}' it died."),
    ([{"launches": 7}], None, f"On the case '{ADD.cases[0].name}' what came back is no result"),
    ([], ChildExited("it died."), "On the case '' it died.")], ids=["in a case", "no result", "at once"])
def test_a_gpu_s_child_that_ends(monkeypatch, answers, begins, said):
    assert played_on_a_gpu(monkeypatch, *answers, begins=begins)[0] == (said, None)


def test_what_a_gpu_s_child_cannot_play(monkeypatch):
    with pytest.raises(NeedsNumbers, match="^a tensor descriptor$"):
        played_on_a_gpu(monkeypatch, {"unsupported": "a tensor descriptor"})
