"""How a fork server watches a child, ends what it leaves, and finds out what a system allows."""

import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from checks.grader.sandbox import isolation
from checks.paths import ROOT
from kernels import runtime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces and seccomp are Linux's")


def script(monkeypatch, kind: str = "run") -> dict:
    """The functions of the fork server's script."""
    monkeypatch.setattr(sys, "argv", ["forkserver.py", kind, str(ROOT), "7"])
    return runpy.run_path(str(ROOT / "checks" / "grader" / "sandbox" / "forkserver.py"))


LIMITS = {"timeout_s": 60, "memory_bytes": 1 << 40}


@pytest.mark.parametrize("with_pidfd", [True, False])
@pytest.mark.parametrize("limits, reason", [
    ({"memory_bytes": 1000}, "memory"), ({"timeout_s": 0}, "time"), ({}, "told"), ({}, "ended")])
def test_why_a_child_is_ended(monkeypatch, with_pidfd, limits, reason):
    def refuse(pid):
        raise OSError

    if not with_pidfd:
        monkeypatch.setattr(os, "pidfd_open", refuse)
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(["sleep", "60"] if reason != "ended" else ["true"])
    if reason == "told":
        ours.send(b"x")
    try:
        assert script(monkeypatch)["watch"](child.pid, LIMITS | limits, theirs) == reason
        assert (child.poll() is not None) == (reason == "ended"), "to end it is not its task"
    finally:
        child.kill()
        child.wait()


def test_what_a_child_leaves_is_ended(monkeypatch):
    """In a process of its own: all children are."""
    end = script(monkeypatch)["kill_orphans"]
    theirs, ours = os.pipe()
    if os.fork() == 0:
        left = [subprocess.Popen(["sleep", "60"]).pid for _ in range(3)]
        end()
        gone = [not Path(f"/proc/{pid}").exists() for pid in left]
        os.write(ours, str(gone).encode())
        os._exit(0)
    os.close(ours)
    assert os.read(theirs, 100) == b"[True, True, True]"
    os.wait()


STEPS = "enter_namespaces", "enter_private_root", "restrict_paths", "filter_system_calls"


@pytest.mark.parametrize("kind, refused, interpreted, levels", [
    ("run", [], True, ["namespaces", "files", "seccomp", "limits"]),
    ("compile", ["enter_private_root"], True, ["namespaces", "landlock", "seccomp", "limits"]),
    ("run", ["enter_namespaces"], True, ["landlock", "seccomp", "limits"]),
    ("run", ["enter_namespaces", "restrict_paths", "filter_system_calls"], True, ["limits"]),
    ("gpu", [], True, ["seccomp", "limits"]), ("gpu", ["filter_system_calls"], False, ["gpu", "limits"])], ids=str)
def test_which_levels_a_system_allows(monkeypatch, kind, refused, interpreted, levels):
    def refuse(*_, **__):
        raise OSError

    for name in STEPS:
        monkeypatch.setattr(isolation, name, refuse if name in refused else lambda *_, **__: None)
    monkeypatch.setattr(runtime, "INTERPRETED", interpreted)
    assert script(monkeypatch, kind)["allowed_levels"]() == levels
