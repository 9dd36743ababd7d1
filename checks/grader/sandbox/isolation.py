"""What a process that runs a student's code is kept from, as far as this system allows. Linux, standard library only.

Namespaces (user, pid, net, ipc, mount) hide other processes, networks and files; the seccomp filter refuses new processes,
sockets and reaching into other processes, also where namespaces are refused; Landlock hides files where mounts cannot.
"""

import ctypes
import os
import platform
import resource
import socket
import struct
import sys
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_USER, _PID, _NET, _IPC, _MOUNT = 0x10000000, 0x20000000, 0x40000000, 0x08000000, 0x00020000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 38, 22, 4, 36
_ARM = platform.machine() == "aarch64"

# Linux's numbers of the system calls used or refused here: x86-64, aarch64 (None where it does not exist).
_CALLS = {
    "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "clone3": (435, 435), "execve": (59, 221),
    "execveat": (322, 281), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "socket": (41, 198),
    "socketpair": (53, 199), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "io_uring_setup": (425, 425), "keyctl": (250, 219), "add_key": (248, 217),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "setpriority": (141, 140),
    "sched_setaffinity": (203, 122), "memfd_create": (319, 279), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "capset": (126, 91),
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "creat": (85, None), "unlink": (87, None),
    "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "mkdir": (83, None),
    "mkdirat": (258, 34), "rmdir": (84, None), "truncate": (76, 45), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "chmod": (90, None), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "lchown": (94, None), "fchownat": (260, 54), "mknod": (133, None), "mknodat": (259, 33),
    "setxattr": (188, 5), "utimensat": (280, 88),
    "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446),
}
_REFUSED = ("fork", "vfork", "execve", "execveat", "socket", "socketpair", "ptrace", "process_vm_readv",
            "process_vm_writev", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "mount", "umount2", "pivot_root",
            "chroot", "unshare", "setns", "bpf", "io_uring_setup", "keyctl", "add_key", "perf_event_open", "userfaultfd",
            "setpriority", "sched_setaffinity", "memfd_create", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
_WRITES = ("creat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "truncate", "link",
           "linkat", "symlink", "symlinkat", "chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "mknod",
           "mknodat", "setxattr", "utimensat")
_EXEC_TOO = ("fork", "vfork", "execve", "execveat", "memfd_create", "socketpair", "sched_setaffinity")  # a compiler's needs


_NUMBERS = {call: number for call, numbers in _CALLS.items() if (number := numbers[_ARM]) is not None}


def _check(result: int, what: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _mount(source, target, kind=None, flags=0, data=None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _check(_libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def _kept_flags(path: Path) -> int:
    """The flags of a mount that one without privileges must not take away when it mounts anew."""
    has = os.statvfs(path).f_flag
    kept = {os.ST_NOEXEC: 8, os.ST_NOATIME: 1024, os.ST_NODIRATIME: 2048, os.ST_RELATIME: 1 << 21}
    return sum(flag for seen, flag in kept.items() if has & seen)


def enter_namespaces() -> None:
    """New user, pid (for children), net and ipc namespaces. Raises OSError where the system refuses them."""
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(_USER | _PID | _NET | _IPC), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def visible_paths() -> list[str]:
    """What a child needs to see to import what it has not yet: Python, its packages and the system's libraries."""
    wanted = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
              "/etc/alternatives", sys.prefix, sys.base_prefix]
    return [path for path in dict.fromkeys(wanted) if os.path.lexists(path)]  # noqa: PTH110  Path.exists follows links


def enter_private_root(hidden: str, scratch_bytes: int) -> None:
    """A root of its own: read-only libraries, an empty /tmp in memory, and no sight of the folder `hidden`.

    In the mount namespace this makes. Raises OSError where the system refuses one.
    """
    _check(_libc.unshare(_MOUNT), "unshare")
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    root = "/tmp"
    visible = visible_paths()
    # Opened first, for the new root may cover them.
    sources = {path: os.open(path, os.O_PATH) for path in visible if not os.path.islink(path)}  # noqa: PTH114
    links = {path: os.readlink(path) for path in visible if os.path.islink(path)}  # noqa: PTH114, PTH115
    devices = {f"/dev/{name}": os.open(f"/dev/{name}", os.O_PATH) for name in ("null", "zero", "urandom")}
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    Path(root, "tmp").mkdir()  # before what is to be seen, which may lie in it
    _mount("tmpfs", root + "/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={scratch_bytes},mode=777")
    for path, source in (sources | devices).items():
        target = Path(root + path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(f"/proc/self/fd/{source}"):  # noqa: PTH112
            target.mkdir(exist_ok=True)
        elif not target.exists():
            target.touch()
        _mount(f"/proc/self/fd/{source}", target, None, _MS_BIND | _MS_REC)
        os.close(source)
        if path not in devices:
            _mount(None, target, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _kept_flags(target))
    for path, to in links.items():
        Path(root + path).symlink_to(to)
    if Path(root + hidden).exists() and not sys.prefix.startswith(hidden + "/"):
        _mount("tmpfs", root + hidden, "tmpfs", _MS_RDONLY, "size=4k,mode=755")
    _mount(None, root, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    os.chdir(root)
    _check(_libc.syscall(_NUMBERS["pivot_root"], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", 2), "umount")
    os.chdir("/tmp")


def set_limits(data_bytes: int, file_bytes: int, cpu_s: int, processes: int) -> None:
    """Limits of the system on this process. Not on its address space, of which CUDA reserves more than there is."""
    for what, wanted in ((resource.RLIMIT_DATA, data_bytes), (resource.RLIMIT_FSIZE, file_bytes),
                         (resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_NPROC, processes), (resource.RLIMIT_CORE, 0),
                         (resource.RLIMIT_NOFILE, 256)):
        hard = resource.getrlimit(what)[1]
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(what, (wanted, wanted))


def drop_capabilities() -> None:
    """No capabilities in any namespace, and none to be gained."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    header, nothing = struct.pack("II", 0x20080522, 0), bytes(24)
    _check(_libc.syscall(_NUMBERS["capset"], header, nothing), "capset")


def become_subreaper() -> None:
    """Processes below this one whose parent ends become its own children."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def filter_system_calls(may_start_programs: bool, may_write: bool = True, local_sockets: bool = False) -> None:
    """Refuse (EPERM) the calls that reach outside this process, for good, and those that change files unless it `may_write`.

    With `local_sockets` it may make Unix sockets, and no others. Raises OSError without seccomp.
    """
    load, equal, bits, give = 0x20, 0x15, 0x45, 0x06  # BPF: ld [k], jeq, jset, ret
    refuse, allow, missing = 0x00050001, 0x7FFF0000, 0x00050026  # EPERM, go ahead, ENOSYS
    machine = 0xC00000B7 if _ARM else 0xC000003E  # calls in another ABI have other numbers
    code = [(load, 0, 0, 4), (equal, 1, 0, machine), (give, 0, 0, refuse)]
    code += [(load, 0, 0, 0)]
    if not _ARM:
        code += [(0x35, 0, 1, 0x40000000), (give, 0, 0, refuse)]  # jge: the x32 ABI has numbers of its own
    for call in _REFUSED if may_write else _REFUSED + _WRITES:
        if call == "socket" and local_sockets:
            code += [(equal, 0, 4, _NUMBERS[call]), (load, 0, 0, 16), (equal, 1, 0, socket.AF_UNIX), (give, 0, 0, refuse),
                     (give, 0, 0, allow)]
        elif call in _NUMBERS and not (may_start_programs and call in _EXEC_TOO):
            code += [(equal, 0, 1, _NUMBERS[call]), (give, 0, 0, refuse)]
    if not may_write:
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        code += [(equal, 0, 1, _NUMBERS["openat2"]), (give, 0, 0, missing)]
        for call, offset in (("open", 24), ("openat", 32)):  # where their flags are among the arguments
            if call in _NUMBERS:
                code += [(equal, 0, 4, _NUMBERS[call]), (load, 0, 0, offset), (bits, 0, 1, writing), (give, 0, 0, refuse),
                         (give, 0, 0, allow)]
    for call in ("kill", "tkill", "tgkill"):  # to itself, as abort() does
        code += [(equal, 0, 4, _NUMBERS[call]), (load, 0, 0, 16), (equal, 1, 0, os.getpid()), (give, 0, 0, refuse),
                 (give, 0, 0, allow)]
    if not may_start_programs:
        # clone3 hides its flags behind a pointer; told that there is none, glibc uses clone, where threads alone pass.
        code += [(equal, 0, 1, _NUMBERS["clone3"]), (give, 0, 0, missing)]
        code += [(equal, 0, 4, _NUMBERS["clone"]), (load, 0, 0, 16), (bits, 1, 0, 0x10000), (give, 0, 0, refuse),
                 (give, 0, 0, allow)]
    code += [(give, 0, 0, allow)]
    program = b"".join(struct.pack("HBBI", *step) for step in code)
    buffer = ctypes.create_string_buffer(program)
    filters = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, filters, 0, 0), "seccomp")


def restrict_paths(readable: list[str], writable: list[str]) -> None:
    """Landlock: from now on only these paths can be read, and only `writable` written. Raises OSError without it."""
    reading, everything = 0b1101, (1 << 13) - 1  # execute, read files, list folders
    ruleset = _libc.syscall(_NUMBERS["landlock_create_ruleset"], struct.pack("Q", everything), 8, 0)
    _check(ruleset, "landlock")
    for path, rights in [(path, reading) for path in readable] + [(path, everything) for path in writable]:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if not os.path.isdir(path):  # noqa: PTH112
            rights &= 0b110 | 1
        rule = struct.pack("=Qi", rights, folder)
        _check(_libc.syscall(_NUMBERS["landlock_add_rule"], ruleset, 1, rule, 0), "landlock")
        os.close(folder)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    _check(_libc.syscall(_NUMBERS["landlock_restrict_self"], ruleset, 0), "landlock")
    os.close(ruleset)
