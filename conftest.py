"""How the suite is run: with how many threads, what the garbage collector goes through, which tests share a worker."""

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import workshop

if not workshop.has_gpu():
    # Before NumPy and torch are there: the interpreter's blocks are so small that threads cost five times what they save.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import kernels  # noqa: E402, F401  first: it decides whether Triton interprets
from kernels.runtime import INTERPRETED  # noqa: E402

IN_PARTS = ("tests/course/test_contract.py",)  # by exercise
NOTEBOOKS = ("lessons/", "tests/course/test_solutions.py")
UNSTEADY = re.compile(r" at 0x|\{('[^':]*', )+'[^':]*'\}")  # an address, a set of texts
FIRST = (*NOTEBOOKS, "tests/test_style.py", "tests/kernels/test_every_kernel_compiles.py")  # the longest
CHECKS = str(Path(__file__).parent / "checks")
ENDED_S = 60  # even on a machine with much else to do


def limit_waiting():
    """The workshop waits without a limit for processes alone that it has ended: one that goes on fails a test, and does not
    hang the suite."""
    wait = subprocess.Popen.wait

    def soon(process, timeout=None):
        if timeout is not None or not sys._getframe(1).f_code.co_filename.startswith(CHECKS):
            return wait(process, timeout)
        try:
            return wait(process, ENDED_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    subprocess.Popen.wait = soon


def pytest_sessionstart():
    limit_waiting()
    gc.disable()  # 8,600 tests are collected, and none is garbage
    if INTERPRETED:  # a process that has asked for a GPU cannot be forked
        from jupyter_client.provisioning import local_provisioner
        from notebook_kernels import launch_kernel

        local_provisioner.launch_kernel = launch_kernel


def pytest_collection_modifyitems(items):
    unsteady = [item.nodeid for item in items if UNSTEADY.search(item.nodeid)]
    if unsteady:
        raise pytest.UsageError(f"another name in each worker, so that none runs; give it ids: {unsteady[0][:200]}")
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


def pytest_collection_finish():
    gc.freeze()  # tests and libraries stay: a full collection, a second long, would go through them again and again
    gc.set_threshold(20_000)
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        """A worker takes whole files, for their fixtures, all notebooks, for the process that their kernels are forked
        from, and of the longest file a part."""

        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(NOTEBOOKS):
                return "notebooks"
            file, _, test = nodeid.partition("::")
            part = re.search(r"\[(\w+)", test) if file in IN_PARTS else None
            return f"{file} {part[1]}" if part else file

    config.option.loadscopereorder = False  # in their order, the longest first: short parts at the end keep all workers busy
    return ByFile(config, log)
