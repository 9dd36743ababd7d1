"""Jupyter kernels forked from a process that has imported what lessons do: that takes as long as a lesson otherwise."""

import gc
import multiprocessing
import os
import sys
from pathlib import Path

PICTURES = sorted(path.stem for path in Path(__file__).parents[1].glob("checks/pictures/[a-z]*.py"))
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload([
    "kernels",  # first: it decides whether Triton interprets
    "torch._dynamo",  # what tensors without data import, in the first check
    "checks.bench.command", "checks.capstone.report_card", "checks.course.own",
    *(f"checks.pictures.{name}" for name in PICTURES),
    "ipykernel.kernelapp",
])


class Kernel(FORKSERVER.Process):
    """A kernel's process, with what jupyter_client asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, arguments, env, cwd):
        super().__init__(daemon=True)
        self.arguments, self.env, self.cwd = arguments, env, cwd
        self.waiting, self.ready = FORKSERVER.Pipe(duplex=False)

    def run(self):
        gc.freeze()  # what was imported stays
        os.setsid()  # signals go to the kernel's process group
        self.ready.send(None)
        os.environ.clear()
        os.environ.update(self.env)
        os.chdir(self.cwd)
        sys.path[:] = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]  # without the tests
        from ipykernel.kernelapp import launch_new_instance

        launch_new_instance(argv=[*self.arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])  # with which it ends

    def poll(self):
        return self.exitcode

    def wait(self, timeout=None):
        self.join(timeout)
        return self.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)


def launch_kernel(command, env, cwd=None, **_):
    """In place of jupyter_client's function of this name."""
    kernel = Kernel(command[command.index("ipykernel_launcher") + 1:], env, cwd or Path.cwd())
    kernel.start()
    kernel.waiting.recv()
    return kernel
