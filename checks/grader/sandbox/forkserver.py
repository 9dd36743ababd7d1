"""A fork server: it has torch and Triton imported, and forks a sandboxed child for each job: started as a script.

    forkserver.py run|compile|gpu ROOT CONTROL

ROOT is the workshop's folder and CONTROL a connected socket. It never imports `kernels` or `checks`: of the two it loads,
by path, the few files that hold neither an answer nor a case. Each job brings two sockets: one for the child's frames, and
one on which a supervisor, which never runs a student's code, says how the child ended. A supervisor kills its child when
time or memory is over, when it is told to, and when the grader is gone.
"""

import contextlib
import gc
import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import types
from pathlib import Path

KIND, ROOT, CONTROL = sys.argv[1], sys.argv[2], int(sys.argv[3])
CHILDREN = {"run": ["child", "play_child"], "compile": ["compile_child"], "gpu": ["play_child"]}[KIND]
POLL_S = 0.05


def load(name: str, path: str):
    """The module at ROOT/`path`, known as `name`."""
    folder = [str(Path(ROOT, path).parent)] if path.endswith("__init__.py") else None
    spec = importlib.util.spec_from_file_location(name, Path(ROOT, path), submodule_search_locations=folder)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare() -> None:
    """Import what every child needs."""
    packages: dict[str, list[str]] = {name: [] for name in (
        "checks", "checks.judge", "checks.grader", "checks.grader.sandbox", "kernels")}
    if KIND == "compile":  # from text to text: without torch, which takes longer to import than all else
        packages["checks.executor"] = [str(Path(ROOT, "checks/executor"))]
    for package, path in packages.items():
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = path
    sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
    load("checks.grader.sandbox.wire", "checks/grader/sandbox/wire.py")
    load("checks.grader.sandbox.isolation", "checks/grader/sandbox/isolation.py")
    if KIND == "compile":
        load("checks.judge.compile_worker", "checks/judge/compile_worker.py")
    else:
        load("checks.executor", "checks/executor/__init__.py")
        load("checks.grader.sandbox.values", "checks/grader/sandbox/values.py")
        load("kernels.runtime", "kernels/runtime.py")
        load("kernels.launch", "kernels/launch.py")  # which sees every launch
        load("checks.paths", "checks/paths.py")
        load("checks.host", "checks/host/__init__.py")
        load("checks.grader.sandbox.virtual", "checks/grader/sandbox/virtual.py")
        for name in ("faster", "launches", "memory", "attempt", "made", "recorded", "execution"):
            load(f"checks.judge.{name}", f"checks/judge/{name}.py")
        if KIND == "gpu":
            load("kernels.cost", "kernels/cost.py")  # which the timer's module imports
            load("kernels.timing", "kernels/timing.py")
        load("checks.grader.sandbox.answers", "checks/grader/sandbox/answers.py")
    for name in CHILDREN:
        load(f"checks.grader.sandbox.{name}", f"checks/grader/sandbox/{name}.py").warm_up()
    gc.collect()
    gc.freeze()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the grader, which closes the control socket
    prepare()
    from checks.grader.sandbox import wire

    control = socket.socket(fileno=CONTROL)
    wire.send(control, {"levels": allowed_levels()})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        text, fds, _, _ = socket.recv_fds(control, 1 << 16, 2)
        if not text:  # the grader is gone or done
            shutil.rmtree(os.getcwd(), ignore_errors=True)  # noqa: PTH109  the scratch folder made for this process
            return
        answers, status = (socket.socket(fileno=fd) for fd in fds)
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            supervise(json.loads(text), answers, status)
        answers.close()
        status.close()


def allowed_levels() -> list[str]:
    """What of the isolation this system allows, each tried in a process of its own."""
    from checks.grader.sandbox import isolation

    def works(*steps) -> bool:
        pid = os.fork()
        if pid == 0:
            try:
                for step in steps:
                    step()
            except BaseException:
                os._exit(1)
            os._exit(0)
        return os.waitpid(pid, 0)[1] == 0

    def in_a_child():  # mounts need a process inside the new pid namespace
        if not works(lambda: isolation.enter_private_root(ROOT, 1 << 20)):
            raise OSError

    levels = {"namespaces": works(isolation.enter_namespaces) and KIND != "gpu"}
    levels["files"] = levels["namespaces"] and works(isolation.enter_namespaces, in_a_child)
    if KIND == "gpu":  # CUDA needs files and devices all over the system; only proven programs get there
        from kernels.runtime import INTERPRETED

        levels["gpu"] = not INTERPRETED
    elif not levels["files"]:
        levels["landlock"] = works(lambda: isolation.restrict_paths(isolation.visible_paths(), ["/tmp"]))
    levels["seccomp"] = works(lambda: isolation.filter_system_calls(may_start_programs=False))
    return [level for level, allowed in levels.items() if allowed] + ["limits"]


def supervise(job: dict, answers: socket.socket, status: socket.socket) -> None:
    """Fork the child that does the job, and see that it ends."""
    from checks.grader.sandbox import isolation, wire

    if "namespaces" in job["levels"]:
        isolation.enter_namespaces()
    else:
        with contextlib.suppress(OSError):
            isolation.become_subreaper()
    child = os.fork()
    if child == 0:
        status.close()
        run_job(job, answers)
    answers.close()
    reason = watch(child, job, status)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, how = os.waitpid(child, 0)
    kill_orphans()
    with contextlib.suppress(OSError):
        wire.send(status, {"reason": reason, "signal": os.WTERMSIG(how) if os.WIFSIGNALED(how) else None,
                           "code": os.waitstatus_to_exitcode(how)})
    os._exit(0)


def watch(child: int, job: dict, status: socket.socket) -> str:
    """Wait until the child must or did end; says why."""
    deadline = time.monotonic() + job["timeout_s"]
    watched: list[int | socket.socket] = [status]
    try:
        watched.append(os.pidfd_open(child))
        poll_s = POLL_S
    except OSError:  # some sandboxes have none: ask instead
        poll_s = POLL_S / 10
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        ready, _, _ = select.select(watched, [], [], poll_s)
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return "ended"
        if status in ready:
            return "told"
        if time.monotonic() > deadline:
            return "time"
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{child}/statm").read_text().split()
            if int(fields[1]) * page > job["memory_bytes"]:
                return "memory"


def kill_orphans() -> None:
    """Where no pid namespace takes the child's own children with it, the subreaper finds and ends them."""
    while True:
        try:
            pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        except OSError:
            return
        if not pids:
            return
        for pid in map(int, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def run_job(job: dict, answers: socket.socket) -> None:
    """In the child: give up all rights, then do the job. Never returns."""
    from checks.grader.sandbox import isolation

    try:
        os.setsid()
        nothing = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        keep_open = answers.detach()
        os.dup2(keep_open, 3)
        os.closerange(4, 1024)
        answers = socket.socket(fileno=3)
        if "files" in job["levels"]:
            isolation.enter_private_root(ROOT, job["file_bytes"])
        else:
            os.chdir(job["scratch"])
            if "landlock" in job["levels"]:
                isolation.restrict_paths(isolation.visible_paths(), [job["scratch"], "/dev/null"])
        os.environ["TMPDIR"] = tempfile.tempdir = os.getcwd()  # noqa: PTH109
        # Outside a user namespace the count is that of all of the user's processes.
        processes = 512 if "namespaces" in job["levels"] else 16384
        isolation.set_limits(job["data_bytes"], job["file_bytes"], int(job["timeout_s"]) + 1, processes)
        if "namespaces" in job["levels"]:
            isolation.drop_capabilities()
        if "seccomp" in job["levels"]:
            isolation.filter_system_calls(may_start_programs=KIND != "run", may_write=KIND != "run" or bool(
                {"files", "landlock"}.intersection(job["levels"])), local_sockets=KIND == "gpu")  # CUDA's start asks for one
    except BaseException as error:
        with contextlib.suppress(OSError):
            from checks.grader.sandbox import wire

            wire.send(answers, {"fault": f"{type(error).__name__}: {error}"[:500]})
        os._exit(90)
    sys.argv[:] = ["python"]
    try:
        sys.modules[f"checks.grader.sandbox.{job['serves'] or CHILDREN[0]}"].serve(answers)
    except BaseException:
        os._exit(91)
    os._exit(0)


if __name__ == "__main__":
    main()
