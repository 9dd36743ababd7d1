"""The GPU that a grader uses: which one, what it is called, and that it is there."""

import subprocess
import types

import pytest

from checks.grader import gpu
from checks.grader.grader import Grader
from checks.grader.sandbox.client import Fault
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
    for process, index in ((10, 4), (11, 7)):
        monkeypatch.setattr("checks.grader.grader.os.getpid", lambda process=process: process)
        grader = Grader(Settings(1, gpus=(4, 7)))
        assert grader.gpu_server is grader.gpu_server and grader.gpu == index
        grader.stop_servers()
        assert grader.gpu_server is not None and started == closed + [index]
        grader.stop_servers()
        started.clear(), closed.clear()
    assert Grader(Settings(1)).gpu_server is None
