"""What the sandbox's filter of system calls lets through, tried in a process of its own."""

import subprocess
import sys

import pytest

from checks.paths import ROOT

PROGRAM = """
import runpy, socket, sys
filter_system_calls = runpy.run_path(sys.argv[1])["filter_system_calls"]
try:
    filter_system_calls(may_start_programs=False, local_sockets=sys.argv[2] == "local")
except OSError:
    sys.exit(77)
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_NETLINK):
    try:
        socket.socket(family)
        print(family.name)
    except PermissionError:
        pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
@pytest.mark.parametrize(("sockets", "allowed"), [("none", []), ("local", ["AF_UNIX"])])
def test_sockets_are_refused_but_for_local_ones_where_cuda_needs_them(sockets, allowed):
    path = ROOT / "checks" / "grader" / "sandbox" / "isolation.py"
    done = subprocess.run([sys.executable, "-c", PROGRAM, path, sockets], capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("this system has no seccomp")
    assert (done.returncode, done.stdout.split()) == (0, allowed), done.stderr
