"""Each rule of the sandbox tried: the filter's, call by call, in processes of their own; the others in real children."""

import errno
import json
import os
import platform
import runpy
import signal
import socket
import subprocess
import sys

import pytest

from checks.grader.sandbox import client
from checks.grader.sandbox.client import ForkServer
from checks.grader.sandbox.values import decode
from checks.paths import ROOT

ISOLATION = ROOT / "checks" / "grader" / "sandbox" / "isolation.py"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces and seccomp are Linux's")

# Linux's numbers on x86-64 and aarch64, from asm/unistd_64.h and asm-generic/unistd.h: a second source beside the sandbox's.
PROGRAMS = {"fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "memfd_create": (319, 279),
            "socketpair": (53, 199), "sched_setaffinity": (203, 122)}
OUTSIDE = {"socket": (41, 198), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
           "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "mount": (165, 40),
           "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
           "bpf": (321, 280), "io_uring_setup": (425, 425), "keyctl": (250, 219), "add_key": (248, 217),
           "perf_event_open": (298, 241), "userfaultfd": (323, 282), "setpriority": (141, 140),
           "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)}
WRITES = {"creat": (85, None), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38),
          "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "truncate": (76, 45),
          "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "chmod": (90, None),
          "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "lchown": (94, None), "fchownat": (260, 54),
          "mknod": (133, None), "mknodat": (259, 33), "setxattr": (188, 5), "utimensat": (280, 88)}
BY_ARGUMENTS = {"clone": (56, 220), "clone3": (435, 435), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
                "open": (2, None), "openat": (257, 56), "openat2": (437, 437)}
SET_UP = {"capset": (126, 91), "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445),
          "landlock_restrict_self": (446, 446)}
NUMBERS = PROGRAMS | OUTSIDE | WRITES | BY_ARGUMENTS | SET_UP
MACHINE = platform.machine() == "aarch64"
CHILDREN = {"run": {"may_start_programs": False, "may_write": False},
            "run in a root of its own": {"may_start_programs": False, "may_write": True},
            "compile": {"may_start_programs": True, "may_write": True},
            "gpu": {"may_start_programs": True, "may_write": True, "local_sockets": True}}

CALLS = """
import ctypes, json, os, runpy, subprocess, sys
filter_system_calls = runpy.run_path(sys.argv[1])["filter_system_calls"]
job = json.loads(sys.argv[2])
syscall = ctypes.CDLL(None, use_errno=True).syscall
syscall.restype = ctypes.c_long
try:
    filter_system_calls(**job["rules"])
except OSError:
    sys.exit(77)
found = {}
for name, number, arguments in job["calls"]:
    arguments = [os.getpid() if a == "me" else ctypes.c_char_p(a.encode()) if isinstance(a, str) else ctypes.c_long(a)
                 for a in arguments]
    ctypes.set_errno(0)
    found[name] = ctypes.get_errno() if syscall(ctypes.c_long(number), *arguments) < 0 else 0
try:
    found["a program"] = subprocess.run(["true"]).returncode
except PermissionError as error:
    found["a program"] = error.errno
print(json.dumps(found))
"""


def tried(rules: dict, calls: list) -> dict[str, int]:
    """By name, the error number of each (name, number, arguments) under these rules, 0 for none."""
    done = subprocess.run([sys.executable, "-c", CALLS, ISOLATION, json.dumps({"rules": rules, "calls": calls})],
                          capture_output=True, text=True, timeout=120)
    if done.returncode == 77:
        pytest.skip("this system has no seccomp")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_numbers_of_the_system_calls():
    assert runpy.run_path(str(ISOLATION))["_CALLS"] == NUMBERS


@pytest.mark.parametrize("kind", CHILDREN)
def test_which_system_calls_are_refused(kind):
    """Every argument is -1, no address and no file: a call that is let through does nothing and says something else."""
    rules = CHILDREN[kind]
    refused = OUTSIDE | ({} if rules["may_start_programs"] else PROGRAMS) | ({} if rules["may_write"] else WRITES)
    forks = ("fork", "vfork") if rules["may_start_programs"] else ()  # which would work
    calls = [(name, numbers[MACHINE], [-1] * 6) for name, numbers in (OUTSIDE | PROGRAMS | WRITES).items()
             if numbers[MACHINE] is not None and name not in forks]
    found = tried(rules, calls)
    assert (found.pop("a program") == 0) == rules["may_start_programs"]
    assert {name for name, error in found.items() if error == errno.EPERM} == refused.keys() & found.keys()


@pytest.mark.parametrize("kind", CHILDREN)
def test_which_arguments_are_refused(kind):
    rules = CHILDREN[kind]

    def number(name: str) -> int:
        return NUMBERS[name][MACHINE]

    here, thread = -100, 0x10000  # AT_FDCWD, CLONE_THREAD
    flags = {"write": os.O_WRONLY, "read and write": os.O_RDWR, "create": os.O_CREAT, "truncate": os.O_TRUNC}
    calls = [(f"openat to {what}", number("openat"), [here, "/dev/null", flag, 0o600]) for what, flag in flags.items()]
    calls += [("openat to read", number("openat"), [here, "/dev/null", os.O_RDONLY]),
              ("openat2", number("openat2"), [-1] * 4), ("clone3", number("clone3"), [-1, -1]),
              ("a thread", number("clone"), [thread, 0, 0, 0, 0]),
              ("kill itself", number("kill"), ["me", 0]), ("tgkill itself", number("tgkill"), ["me", "me", 0]),
              ("kill", number("kill"), [-1, -1]), ("tkill", number("tkill"), [-1, -1]),
              ("tgkill", number("tgkill"), [-1, -1, -1])]
    calls += [(family.name, number("socket"), [family, socket.SOCK_STREAM, 0])
              for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)]
    if not rules["may_start_programs"]:
        calls.append(("a process", number("clone"), [signal.SIGCHLD, 0, 0, 0, 0]))
    if not MACHINE:
        calls += [(f"open to {what}", number("open"), ["/dev/null", flag, 0o600]) for what, flag in flags.items()]
        calls += [("open to read", number("open"), ["/dev/null", os.O_RDONLY]), ("x32", 0x40000000 + 39, [])]
    found = tried(rules, calls)
    refused = {"kill", "tkill", "tgkill", "a process", "x32", "AF_INET", "AF_INET6", "AF_NETLINK"}
    if not rules["may_write"]:
        refused |= {name for name in found if name.endswith(("to write", "to read and write", "to create", "to truncate"))}
    if not rules.get("local_sockets"):
        refused.add("AF_UNIX")
    if not rules["may_start_programs"]:
        refused.add("a program")
    assert {name for name, error in found.items() if error == errno.EPERM} == refused & found.keys()
    assert (found["openat2"] == errno.ENOSYS) == (not rules["may_write"]), "glibc then asks openat, whose flags are seen"
    assert (found["clone3"] == errno.ENOSYS) == (not rules["may_start_programs"]), "glibc then asks clone"
    assert found["openat to read"] == found["kill itself"] == found["tgkill itself"] == 0


def test_which_namespaces_are_new():
    program = ("import os, runpy, sys\nnames = ('user', 'net', 'ipc')\n"
               "def now():\n    return [os.readlink('/proc/self/ns/' + name) for name in names]\n"
               "before, uid = now(), os.getuid()\n"
               "try:\n    runpy.run_path(sys.argv[1])['enter_namespaces']()\nexcept OSError:\n    sys.exit(77)\n"
               "print([a != b for a, b in zip(before, now())], uid == os.getuid(), flush=True)\n"
               "if os.fork() == 0:\n    print(os.getpid(), flush=True)\n    os._exit(0)\n"
               "os.wait()\n")
    done = subprocess.run([sys.executable, "-c", program, ISOLATION], capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("this system allows no namespaces")
    assert done.stdout.split("\n") == ["[True, True, True] True", "1", ""], done.stderr


# children


@pytest.fixture
def server(fork_server):
    """Started by someone whose environment holds a secret, SECRET_TOKEN."""
    return fork_server("run", 60)


def returned(server: ForkServer, body: str):
    """What a student's function with this body returns."""
    code = "import ctypes\nimport json\nimport os\nimport resource\nimport sys\nimport threading\n\n\ndef f():\n"
    code += "".join(f"    {line}\n" for line in body.splitlines())
    job = {"modules": {}, "setup": [], "cells": [code], "numbers": True, "lent": {}, "handed_out": []}
    with server.child(job) as child:
        assert child.begin().get("ready")
        answer, raw = child.ask({"inputs": {}, "mode": "plain", "maps": False, "name": "f", "wrapper": None, "candidate": 0,
                                 "through": None}, b"", 20)
    assert answer["error"] is None, answer["error"]
    (value,) = decode(answer["outputs"], raw)
    return json.loads(value) if isinstance(value, str) else value


def needs(server: ForkServer, *levels: str) -> None:
    if set(levels) - set(server.levels):
        pytest.skip(f"this system does not allow {', '.join(levels)}")


def test_the_environment_is_not_the_instructors(server, monkeypatch):
    names = returned(server, "return json.dumps(sorted(os.environ))")
    assert "SECRET_TOKEN" not in names
    ours = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "TRITON_CACHE_DIR", "TMPDIR",
            "TRITON_INTERPRET", "CUDA_VISIBLE_DEVICES", "PYTHONMALLOC", "GLIBC_TUNABLES"}
    known = {"PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_HOME"}
    made_by_python_or_torch = {"LC_CTYPE", "TORCHINDUCTOR_CACHE_DIR", "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK"}
    assert set(names) <= ours | known | made_by_python_or_torch
    assert ours <= set(names)
    for name in known | {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH"}:
        monkeypatch.setenv(name, "x")
    assert set(client.environment("run", "/scratch")) == ours | known
    assert set(client.environment("gpu", "/scratch")) == (ours | known) - {"TRITON_INTERPRET", "CUDA_VISIBLE_DEVICES"}


def test_files_at_full_isolation(server):
    needs(server, "namespaces", "files")
    seen = returned(server, f"""
def trial(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        return type(error).__name__, error.errno
    return "done"
paths = {[str(ROOT / "LICENSE"), str(ROOT / "checks"), "/etc/passwd", "/proc", "/sys", "/var", "/dev/null", "/tmp",
          sys.prefix, "/usr"]!r}
return json.dumps({{"there": [path for path in paths if os.path.exists(path)], "cwd": os.getcwd(),
    "tmp": os.environ["TMPDIR"], "in tmp": os.listdir("."), "prefix": trial(open, sys.prefix + "/x", "w"),
    "usr": trial(open, "/usr/x", "w"), "root": trial(os.mkdir, "/x"), "own": trial(open, "x", "w"),
    "large": trial(lambda: open("y", "wb").write(bytes(65 << 20))),
    "another": trial(lambda: open("z", "wb").write(bytes(60 << 20)))}})
""")
    assert set(seen["there"]) == {"/dev/null", "/tmp", sys.prefix, "/usr"}
    assert (seen["cwd"], seen["tmp"], seen["in tmp"]) == ("/tmp", "/tmp", [])
    read_only = ["OSError", errno.EROFS]
    assert (seen["prefix"], seen["usr"], seen["root"], seen["own"]) == (read_only, read_only, read_only, "done")
    assert seen["large"][1] in (errno.EFBIG, errno.ENOSPC)
    assert seen["another"] == ["OSError", errno.ENOSPC], "the folder in memory is as small as one file may be"


def test_processes_and_rights_at_full_isolation(server):
    needs(server, "namespaces", "files")
    seen = returned(server, """
libc = ctypes.CDLL(None)
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[7] * 6)
libc.capget(header, data)
return json.dumps({"pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0), "capabilities": list(data),
    "no new privileges": libc.prctl(39, 0, 0, 0, 0), "seccomp": libc.prctl(21, 0, 0, 0, 0),
    "open": [fd for fd in range(256) if is_open(fd)], "arguments": sys.argv,
    "limits": [resource.getrlimit(getattr(resource, "RLIMIT_" + name))
               for name in ("DATA", "FSIZE", "CPU", "NPROC", "CORE", "NOFILE")]})
""")
    assert (seen["pid"], seen["parent"], seen["session"]) == (1, 0, 1), "it sees no process but itself"
    assert seen["capabilities"] == [0] * 6
    assert (seen["no new privileges"], seen["seccomp"]) == (1, 2)
    assert seen["open"] == [0, 1, 2, 3], "its socket, and no file of the grader's"
    assert seen["arguments"] == ["python"]
    assert seen["limits"] == [[3 << 30] * 2, [64 << 20] * 2, [61] * 2, [512] * 2, [0] * 2, [256] * 2]


@pytest.mark.parametrize("levels", [["seccomp", "landlock", "limits"], ["seccomp", "limits"]], ids=lambda levels: levels[1])
def test_what_lower_levels_still_keep_from_a_child(server, levels, monkeypatch, tmp_path):
    """Where namespaces are refused. Signal 0 only asks whether a signal could be sent."""
    needs(server, "seccomp")
    if "landlock" in levels and platform.release() < "5.13":
        pytest.skip("this system has no Landlock")
    monkeypatch.setattr(server, "levels", levels)
    theirs = tmp_path / "theirs"
    theirs.write_text("of another")
    seen = returned(server, f"""
def trial(action, *arguments):
    try:
        action(*arguments)
    except PermissionError:
        return "refused"
    return "done"
return json.dumps({{"kill": trial(os.kill, os.getppid(), 0), "fork": trial(os.fork),
    "read": trial(open, {str(ROOT / "LICENSE")!r}), "list": trial(os.listdir, {str(ROOT)!r}),
    "library": trial(os.listdir, os.path.dirname(json.__file__)), "etc": trial(open, "/etc/passwd"),
    "remove": trial(os.remove, {str(theirs)!r}), "write": trial(open, {str(theirs)!r}, "w"),
    "own": trial(open, "x", "w"), "limit": resource.getrlimit(resource.RLIMIT_NPROC)[0]}})
""")
    landlock = "landlock" in levels
    assert seen == {"kill": "refused", "fork": "refused", "read": "refused" if landlock else "done",
                    "list": "refused" if landlock else "done", "library": "done", "etc": "refused" if landlock else "done",
                    "remove": "refused", "write": "refused", "own": "done" if landlock else "refused", "limit": 16384}
    assert theirs.read_text() == "of another"
