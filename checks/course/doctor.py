"""`python3 workshop.py doctor`: what this machine can and cannot run, and what to do about each problem."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from checks.course.settings import notes, user_settings
from checks.paths import ROOT

VENV = ROOT / ".venv"
PINNED = ("torch", "triton", "numpy")
OLDEST_DRIVER = {12: 525, 13: 580}  # the oldest driver for a CUDA major version, from its release notes


@dataclass
class Machine:
    """Facts about a machine, with nothing concluded from them."""

    python: str
    installed: dict[str, str]  # package -> version; what is missing is absent
    pins: dict[str, str]
    gpu: str = ""  # as torch names it; empty when torch can use none
    capability: tuple[int, int] | None = None  # (9, 0) on an H100
    interpreted: bool = True
    cuda: str = ""  # the CUDA version torch was built for; empty for a CPU build
    hip: str = ""  # the same for ROCm
    drivers: list[str] = field(default_factory=list)  # "name, driver version" of each GPU that nvidia-smi lists
    visible_devices: str | None = None  # CUDA_VISIBLE_DEVICES
    kernels: str = str(ROOT / "kernels")  # the folder that `import kernels` finds in a notebook; empty for none
    import_error: str = ""
    disk: float = 100.0  # free, GB
    settings: dict[str, str] = field(default_factory=dict)  # the user's, that could lead out of .venv
    encoding: str = "utf-8"  # of what is printed
    venv: str = ""  # the folder that .venv is a link to


def main(argv: list[str]) -> int:
    """Print the report; 0 when no problem was found, otherwise 1."""
    if argv:
        print("usage: python3 workshop.py doctor    (takes no arguments)", file=sys.stderr)
        return 2
    machine = gather()
    report(machine, Console())
    return 1 if problems(machine) else 0


def gather() -> Machine:
    """The facts of this machine."""
    machine = Machine(python=platform.python_version(), installed={}, pins=read_pins(),
                      drivers=list_drivers(), visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
                      kernels=find_kernels(), disk=shutil.disk_usage(ROOT).free / 1e9, settings=user_settings(),
                      encoding=sys.stdout.encoding, venv=os.path.realpath(VENV) if VENV.is_symlink() else "")
    for package in PINNED:
        try:
            machine.installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        import torch

        from kernels import runtime
        machine.cuda, machine.hip = torch.version.cuda or "", torch.version.hip or ""
        machine.interpreted = runtime.INTERPRETED
        if torch.cuda.is_available():
            machine.gpu, machine.capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    except (ImportError, OSError, RuntimeError) as error:
        machine.import_error = f"{type(error).__name__}: {error}"
    return machine


def read_pins(requirements: str | None = None) -> dict[str, str]:
    """The versions that requirements.txt wants."""
    text = (ROOT / "requirements.txt").read_text() if requirements is None else requirements
    return dict(re.findall(rf"^({'|'.join(PINNED)})==(\S+)", text, re.MULTILINE))


def list_drivers() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def find_kernels() -> str:
    """Where `import kernels` leads in a notebook, whose folder is lessons/ and not the folder of the packages."""
    find = "from importlib.util import find_spec; print(find_spec('kernels').submodule_search_locations[0])"
    # -E: without the PYTHONPATH that this command was started with
    done = subprocess.run([sys.executable, "-E", "-c", find], cwd=ROOT.anchor, capture_output=True, text=True)
    return done.stdout.strip()


def summary(machine: Machine) -> str:
    """One line: the GPU, or the interpreter and why."""
    if machine.import_error:
        return "torch or Triton does not start here: run python3 workshop.py doctor."
    if machine.interpreted:
        why = "TRITON_INTERPRET=1 is set" if machine.gpu else "no usable GPU"
        seen = " (nvidia-smi lists one: run python3 workshop.py doctor)" if machine.drivers and not machine.gpu else ""
        return f"{why}{seen}, so kernels run in Triton's interpreter: right results, no speeds."
    return f"kernels run on the GPU: {gpu_name(machine)}."


def gpu_name(machine: Machine) -> str:
    return machine.gpu + (" (sm_{}{})".format(*machine.capability) if machine.capability and not machine.hip else "")


def abilities(machine: Machine) -> list[tuple[str, str, str]]:
    """Rows (what; "yes", "no", "slow" or "untested"; why) of what runs here."""
    gemv, quantization, timings = "FP16 GEMV", "INT8 quantization", "live timings"
    fp16, int8, tma = "FP16 matrix product (tl.dot)", "INT8 matrix product (tl.dot)", "TMA (tensor descriptors)"
    if machine.import_error:
        return []
    if machine.interpreted:
        return [(what, "yes", "interpreted: right, no speed") for what in (gemv, quantization, fp16, int8, tma)] + [
            (timings, "no", "no GPU in use: recorded figures")]
    if machine.hip or not machine.capability:
        return [(what, "untested", "not tried on AMD") for what in (gemv, quantization, fp16, int8, timings)] + [
            (tma, "no", "NVIDIA only")]
    capability = machine.capability
    name = "sm_{}{}".format(*capability)

    def row(what: str, least: tuple[int, int], otherwise: str = "no") -> tuple[str, str, str]:
        if capability >= least:
            return what, "yes", name
        verb = "fast from" if otherwise == "slow" else "needs"
        return what, otherwise, "{} sm_{}{}; this is {}".format(verb, *least, name)

    # Before sm_80, Triton compiles an FP16 tl.dot without tensor cores and an INT8 one not at all.
    return [row(gemv, (7, 5)), row(quantization, (7, 5)),
            row(fp16, (8, 0), "slow" if capability >= (7, 5) else "no"),
            row(int8, (8, 0)), row(tma, (9, 0)), row(timings, (7, 5))]


def problems(machine: Machine) -> list[tuple[str, str]]:
    """Pairs (what is wrong, what to do)."""
    found = []
    renew = "delete the .venv folder and run `python3 workshop.py lab`"
    if machine.import_error:
        found.append((f"torch or Triton cannot be imported: {machine.import_error}", f"To repair it, {renew}."))
    for package in PINNED:
        here, wanted = machine.installed.get(package, "missing"), machine.pins.get(package)
        if wanted and here.split("+")[0] != wanted:
            found.append((f"{package} is {here}, and requirements.txt wants {wanted}.", f"To get it, {renew}."))
    if machine.drivers and not machine.gpu and not machine.import_error:
        found.append(unusable_gpu(machine, renew))
    too_old = machine.capability is not None and not machine.hip and machine.capability < (7, 5)
    if machine.gpu and machine.interpreted and not too_old:
        found.append((f"TRITON_INTERPRET=1 is set, so {machine.gpu} is not used.",
                      "Run `unset TRITON_INTERPRET` and start again, unless the interpreter is what you want."))
    if machine.gpu and not machine.interpreted and too_old:
        found.append((f"{gpu_name(machine)} is older than what torch and Triton support (sm_75).",
                      "Run `export TRITON_INTERPRET=1` to use the interpreter."))
    if not machine.kernels:
        found.append(("Notebooks cannot import `kernels`.", f"To install it, {renew}."))
    elif "site-packages" in machine.kernels:
        found.append((f"Notebooks import another library of that name as `kernels`: {machine.kernels}.",
                      "Run `.venv/bin/python -m pip uninstall kernels`, then start again."))
    elif Path(machine.kernels) != ROOT / "kernels":
        found.append((f"Notebooks import `kernels` from another copy of the workshop: {machine.kernels}.",
                      f"To use this one, {renew}."))
    triton, numpy = machine.installed.get("triton"), machine.installed.get("numpy")
    if machine.interpreted and triton and numpy and release(triton) < (3, 7) and release(numpy) >= (2, 4):
        found.append((f"The interpreter of Triton {triton} fails on loops with numpy {numpy}.",
                      f"It needs Triton 3.7 or numpy < 2.4. To get the former, {renew}."))
    if machine.encoding.lower().replace("-", "") != "utf8":
        found.append((f"Messages are printed in {machine.encoding}, which has no ✓.",
                      "Start commands with `python3 workshop.py`, or run `export PYTHONUTF8=1`."))
    if machine.disk < 1:
        found.append((f"Only {machine.disk:.1f} GB of disk are free.",
                      "Compiled kernels and notebooks need about 1 GB: free some space."))
    return found


def unusable_gpu(machine: Machine, renew: str) -> tuple[str, str]:
    """Why torch cannot use a GPU that nvidia-smi lists."""
    name, _, driver = machine.drivers[0].rpartition(", ")
    major = int(machine.cuda.split(".")[0]) if machine.cuda else 0
    if machine.visible_devices in ("", "-1"):
        return (f"CUDA_VISIBLE_DEVICES={machine.visible_devices!r} hides the {name} from torch.",
                "Run `unset CUDA_VISIBLE_DEVICES` and start again.")
    if not machine.cuda:
        return (f"There is a {name}, but torch here is a build without CUDA.",
                f"The .venv was made where no GPU was seen. On this machine, {renew}.")
    if driver.split(".")[0].isdigit() and int(driver.split(".")[0]) < OLDEST_DRIVER.get(major, 0):
        return (f"The {name} has driver {driver}, too old for this torch, which was built for CUDA {machine.cuda}.",
                f"Update the NVIDIA driver to {OLDEST_DRIVER[major]} or newer. Until then the interpreter is used.")
    return (f"nvidia-smi lists a {name} (driver {driver}), but torch cannot use it.",
            "Restart the machine, or the container with its GPUs passed in (docker run --gpus all).")


def release(version: str) -> tuple[int, ...]:
    """Major and minor: (3, 7) of "3.7.1"."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def report(machine: Machine, console: Console) -> None:
    """Print the facts, the table of what runs, and the problems."""
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_row("Python", machine.python)
    for package in PINNED:
        facts.add_row(package, machine.installed.get(package, "missing"))
    unused = "; ".join(f"{driver}, not usable" for driver in machine.drivers)
    facts.add_row("GPU", gpu_name(machine) or unused or "none")
    facts.add_row("kernels run", "not at all" if machine.import_error else
                  "in Triton's interpreter" if machine.interpreted else "on the GPU")
    if machine.venv:
        facts.add_row(".venv", f"a link to {machine.venv}")
    facts.add_row("free disk", f"{machine.disk:.0f} GB")
    console.print(facts)
    rows = abilities(machine)
    if rows:
        table = Table("what", "runs here", "why", title="What runs on this machine", title_justify="left")
        for what, runs, why in rows:
            table.add_row(what, runs, why)
        console.print(table)
    found = problems(machine)
    for wrong, do in found:
        console.print(f"Problem: {wrong}\n  {do}", markup=False, highlight=False, soft_wrap=True)
    for note in notes(machine.settings):
        console.print(f"Note: {note}", markup=False, highlight=False, soft_wrap=True)
    if not found:
        console.print("No problems found.")
