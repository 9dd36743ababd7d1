"""The doctor's conclusions, on made-up machines and on this one."""

import importlib.metadata
import io
import json
import platform
import subprocess
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from rich.console import Console

import workshop
from checks.course import doctor, settings
from checks.course.doctor import Machine

VERSIONS = {"torch": "2.13.0", "triton": "3.7.1", "numpy": "2.4.6"}
LAPTOP = Machine(python="3.11.7", installed={**VERSIONS, "torch": "2.13.0+cpu"}, pins=VERSIONS)


def with_gpu(name, capability):
    return replace(LAPTOP, installed=VERSIONS, gpu=name, capability=capability, interpreted=False, cuda="13.0",
                   drivers=[f"{name}, 580.65.06"])


V100, T4 = with_gpu("Tesla V100", (7, 0)), with_gpu("Tesla T4", (7, 5))
A100, RTX_4090 = with_gpu("NVIDIA A100", (8, 0)), with_gpu("NVIDIA GeForce RTX 4090", (8, 9))
H100, RTX_5090 = with_gpu("NVIDIA H100", (9, 0)), with_gpu("NVIDIA GeForce RTX 5090", (12, 0))
MI300 = replace(LAPTOP, gpu="AMD Instinct MI300X", capability=(9, 4), interpreted=False, hip="7.0")
BLIND = replace(LAPTOP, drivers=["Tesla T4, 535.104.05"])  # nvidia-smi sees a GPU and torch does not


@pytest.mark.parametrize("machine, expected", [
    #          GEMV  quantize  FP16 dot  INT8 dot  TMA  timings
    (LAPTOP, ["yes", "yes", "yes", "yes", "yes", "no"]),
    (V100, ["no", "no", "no", "no", "no", "no"]),
    (T4, ["yes", "yes", "slow", "no", "no", "yes"]),
    (A100, ["yes", "yes", "yes", "yes", "no", "yes"]),
    (RTX_4090, ["yes", "yes", "yes", "yes", "no", "yes"]),
    (H100, ["yes"] * 6),
    (RTX_5090, ["yes"] * 6),
    (replace(H100, interpreted=True), ["yes"] * 5 + ["no"]),
], ids=lambda value: value.gpu + " interpreted" * value.interpreted if isinstance(value, Machine) else "")
def test_what_runs_follows_the_capability(machine, expected):
    rows = {what: runs for what, runs, _ in doctor.abilities(machine)}
    order = ["FP16 GEMV", "INT8 quantization", "FP16 matrix product (tl.dot)", "INT8 matrix product (tl.dot)",
             "TMA (tensor descriptors)", "live timings"]
    assert [rows.pop(what) for what in order] == expected
    assert not rows


def test_a_no_says_what_it_needs():
    why = {what: why for what, _, why in doctor.abilities(T4)}
    assert why["INT8 matrix product (tl.dot)"] == "needs sm_80; this is sm_75"
    assert why["FP16 matrix product (tl.dot)"] == "fast from sm_80; this is sm_75"


def test_amd_promises_nothing():
    assert {runs for _, runs, _ in doctor.abilities(MI300)} == {"untested", "no"}
    assert doctor.summary(MI300) == "kernels run on the GPU: AMD Instinct MI300X."


@pytest.mark.parametrize("machine", [LAPTOP, T4, A100, RTX_4090, H100, MI300], ids=lambda machine: machine.gpu)
def test_a_sound_machine_has_no_problems(machine):
    assert doctor.problems(machine) == []


@pytest.mark.parametrize("machine, wrong, do", [
    (replace(BLIND, cuda="13.0"), "driver 535.104.05, too old for this torch, which was built for CUDA 13.0",
     "580 or newer"),
    (replace(BLIND, cuda="12.8"), "but torch cannot use it", "--gpus all"),
    (BLIND, "build without CUDA", "delete the .venv folder"),
    (replace(BLIND, cuda="13.0", visible_devices=""), "CUDA_VISIBLE_DEVICES='' hides", "unset CUDA_VISIBLE_DEVICES"),
    (replace(H100, interpreted=True), "TRITON_INTERPRET=1 is set, so NVIDIA H100", "unset TRITON_INTERPRET"),
    (V100, "Tesla V100 (sm_70) is older than", "export TRITON_INTERPRET=1"),
    (replace(LAPTOP, installed={**VERSIONS, "torch": "2.12.0+cpu"}), "torch is 2.12.0+cpu", "delete the .venv folder"),
    (replace(LAPTOP, installed={"torch": "2.13.0", "numpy": "2.4.6"}), "triton is missing", "delete the .venv folder"),
    (replace(LAPTOP, kernels="/x/lib/python3.11/site-packages/kernels"), "another library of that name",
     "pip uninstall kernels"),
    (replace(LAPTOP, kernels="/x/other/kernels"), "another copy of the workshop: /x/other", "delete the .venv folder"),
    (replace(LAPTOP, encoding="latin-1"), "printed in latin-1", "python3 workshop.py"),
    (replace(LAPTOP, kernels=""), "cannot import `kernels`", "delete the .venv folder"),
    (replace(LAPTOP, import_error="OSError: libfoo.so"), "OSError: libfoo.so", "delete the .venv folder"),
    (replace(LAPTOP, disk=0.3), "Only 0.3 GB", "free some space"),
])
def test_each_problem_is_found_alone_and_says_what_to_do(machine, wrong, do):
    (found,) = doctor.problems(machine)
    assert wrong in found[0]
    assert do in found[1]


@pytest.mark.parametrize(("cuda", "driver", "too_old"), [
    ("12.8", "524.99", True), ("12.8", "525.60.13", False), ("13.0", "579.99", True), ("13.0", "580.65.06", False),
    ("14.0", "525.60.13", False), ("13.0", "unknown", False),
])
def test_the_oldest_driver_of_each_cuda(cuda, driver, too_old):
    ((wrong, do),) = doctor.problems(replace(BLIND, cuda=cuda, drivers=[f"Tesla T4, {driver}"]))
    assert ("too old for this torch" in wrong) == too_old
    assert ("Update the NVIDIA driver" in do) == too_old
    assert "Tesla T4" in wrong and driver in wrong


@pytest.mark.parametrize(("visible", "hidden"), [("", True), ("-1", True), ("0", False), (None, False)])
def test_devices_can_be_hidden(visible, hidden):
    ((wrong, _),) = doctor.problems(replace(BLIND, cuda="12.8", visible_devices=visible))
    assert ("hides the Tesla T4" in wrong) == hidden


@pytest.mark.parametrize(("disk", "full"), [(0.94, True), (1.0, False), (1.5, False)])
def test_a_gigabyte_of_disk_is_enough(disk, full):
    assert bool(doctor.problems(replace(LAPTOP, disk=disk))) == full


@pytest.mark.parametrize(("encoding", "wrong"), [("utf-8", False), ("UTF-8", False), ("utf8", False), ("UTF8", False),
                                                 ("ascii", True), ("utf-16", True), ("cp1252", True)])
def test_what_is_printed_must_be_utf_8(encoding, wrong):
    found = doctor.problems(replace(LAPTOP, encoding=encoding))
    assert [f"printed in {encoding}," in said for said, _ in found] == [True] * wrong


@pytest.mark.parametrize(("triton", "numpy", "fails"), [
    ("3.6.9", "2.4.0", True), ("3.7.0", "2.4.0", False), ("3.6.0", "2.3.9", False), ("2.9.1", "3.0", True),
    ("3.10.0", "2.4.6", False), ("3.6.0+git1", "2.10.1", True), (None, "2.4.0", False), ("3.6.0", None, False)])
def test_numpy_and_the_interpreter_s_triton(triton, numpy, fails):
    there = {name: version for name, version in (("triton", triton), ("numpy", numpy)) if version}
    found = doctor.problems(replace(LAPTOP, installed=there, pins={}))
    assert [f"The interpreter of Triton {triton} fails on loops with numpy {numpy}." in wrong for wrong, _ in found] == (
        [True] * fails)


def test_only_what_is_pinned_must_be_there():
    assert doctor.problems(replace(LAPTOP, installed={}, pins={"torchvision": "1"})) == []
    found = doctor.problems(replace(LAPTOP, installed={"torch": "1.0", "numpy": "2.4.6+local"}))
    assert [wrong for wrong, _ in found] == ["torch is 1.0, and requirements.txt wants 2.13.0.",
                                             "triton is missing, and requirements.txt wants 3.7.1."]


@pytest.mark.parametrize("capability", [(7, 0), (9, 4)])
def test_an_amd_gpu_is_not_measured_by_nvidia_s_versions(capability):
    amd = replace(MI300, capability=capability)
    assert doctor.problems(amd) == []
    ((wrong, _),) = doctor.problems(replace(amd, interpreted=True))
    assert wrong == "TRITON_INTERPRET=1 is set, so AMD Instinct MI300X is not used."
    assert doctor.abilities(amd) == [*((what, "untested", "not tried on AMD") for what in (
        "FP16 GEMV", "INT8 quantization", "FP16 matrix product (tl.dot)", "INT8 matrix product (tl.dot)", "live timings")),
        ("TMA (tensor descriptors)", "no", "NVIDIA only")]


def test_of_several_gpus_that_are_not_usable_the_first_is_told():
    machine = replace(BLIND, cuda="12.8", drivers=["A, B, 535.1", "Tesla T4, 510.2"])
    assert doctor.problems(machine)[0][0].startswith("nvidia-smi lists a A, B (driver 535.1), but")
    out = io.StringIO()
    doctor.report(machine, Console(file=out, width=120))
    assert "A, B, 535.1, not usable; Tesla T4, 510.2, not usable" in out.getvalue()


def test_an_import_error_explains_an_unused_gpu():
    ((wrong, _),) = doctor.problems(replace(BLIND, import_error="OSError: libfoo.so"))
    assert "cannot be imported" in wrong


def test_an_old_gpu_left_to_the_interpreter_is_no_problem():
    assert doctor.problems(replace(V100, interpreted=True)) == []


def test_numpy_too_new_for_the_interpreter_of_an_older_triton():
    old = {**VERSIONS, "triton": "3.6.0"}
    machine = replace(LAPTOP, installed=old, pins=old)
    assert "Triton 3.6.0 fails on loops with numpy 2.4.6" in doctor.problems(machine)[0][0]
    assert doctor.problems(replace(machine, installed={**old, "numpy": "2.3.5"}, pins={})) == []
    assert doctor.problems(replace(H100, installed=old, pins=old)) == []  # it is the interpreter that fails


@pytest.mark.parametrize("machine, line", [
    (H100, "kernels run on the GPU: NVIDIA H100 (sm_90)."),
    (LAPTOP, "no usable GPU, so kernels run in Triton's interpreter: right results, no speeds."),
    (BLIND, "no usable GPU (nvidia-smi lists one: run python3 workshop.py doctor), so kernels run in Triton's "
            "interpreter: right results, no speeds."),
    (replace(H100, interpreted=True), "TRITON_INTERPRET=1 is set, so kernels run in Triton's interpreter: right "
                                      "results, no speeds."),
    (replace(LAPTOP, import_error="OSError"), "torch or Triton does not start here: run python3 workshop.py doctor."),
])
def test_summary(machine, line):
    assert doctor.summary(machine) == line


@pytest.mark.parametrize("machine", [LAPTOP, T4, BLIND, MI300, replace(LAPTOP, import_error="OSError: [x]")])
def test_the_report_shows_facts_and_problems(machine):
    out = io.StringIO()
    doctor.report(machine, Console(file=out, width=80))
    text = out.getvalue()
    assert "3.11.7" in text
    assert (machine.gpu or "GPU") in text
    for wrong, do in doctor.problems(machine):
        assert wrong in text
        assert do in text
    assert ("No problems found." in text) == (not doctor.problems(machine))


@pytest.mark.parametrize(("machine", "rows"), [
    (LAPTOP, ["Python 3.11.7", "torch 2.13.0+cpu", "triton 3.7.1", "GPU none", "kernels run in Triton's interpreter",
              "free disk 100 GB", "FP16 GEMV yes interpreted: right, no speed",
              "INT8 matrix product (tl.dot) yes interpreted: right, no speed",
              "live timings no no GPU in use: recorded figures"]),
    (H100, ["torch 2.13.0", "GPU NVIDIA H100 (sm_90)", "kernels run on the GPU", "live timings yes sm_90"]),
    (MI300, ["GPU AMD Instinct MI300X", "kernels run on the GPU", "TMA (tensor descriptors) no NVIDIA only"]),
    (BLIND, ["GPU Tesla T4, 535.104.05, not usable"]),
    (replace(LAPTOP, installed={}, import_error="OSError"), ["torch missing", "kernels run not at all"]),
], ids=["laptop", "H100", "MI300", "blind", "broken"])
def test_the_report_s_rows(machine, rows):
    out = io.StringIO()
    doctor.report(machine, Console(file=out, width=120))
    lines = [" ".join(line.replace("│", " ").split()) for line in out.getvalue().splitlines()]
    assert [row for row in rows if row not in lines] == []
    assert ("What runs on this machine" in lines) == (not machine.import_error)


def test_pins_are_read_from_requirements():
    assert doctor.read_pins("# triton==1\ntorch==2.13.0\nnumpy==2.4.6\ntorchvision==1\n-e .\n") == {
        "torch": "2.13.0", "numpy": "2.4.6"}
    assert set(doctor.read_pins()) == {"torch", "triton", "numpy"}


def test_this_machine():
    machine = doctor.gather()
    assert machine.import_error == ""
    assert set(machine.installed) == {"torch", "triton", "numpy"}
    assert machine.disk > 0
    assert machine.kernels == str(doctor.ROOT / "kernels")
    assert machine.interpreted or machine.gpu
    assert machine.python == platform.python_version()
    assert machine.pins == doctor.read_pins()


def test_facts_are_gathered_from_torch_and_the_environment(monkeypatch):
    import torch

    from kernels import runtime

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(doctor, "list_drivers", lambda: ["NVIDIA H100, 580.65.06"])
    monkeypatch.setattr(runtime, "INTERPRETED", False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=42.5e9))
    machine = doctor.gather()
    assert (machine.gpu, machine.capability, machine.cuda, machine.hip) == ("NVIDIA H100", (9, 0), "13.0", "")
    assert (machine.drivers, machine.visible_devices) == (["NVIDIA H100, 580.65.06"], "0,1")
    assert (machine.interpreted, machine.disk) == (False, 42.5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    machine = doctor.gather()
    assert (machine.gpu, machine.capability) == ("", None)


@pytest.mark.parametrize("kind", [ImportError, OSError, RuntimeError])
def test_what_is_not_installed_or_does_not_start_is_a_fact_too(monkeypatch, kind):
    version = importlib.metadata.version

    def found(package):
        if package == "triton":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    def broken():
        raise kind("no driver")

    monkeypatch.setattr(doctor.importlib.metadata, "version", found)
    monkeypatch.setattr("torch.cuda.is_available", broken)
    machine = doctor.gather()
    assert set(machine.installed) == {"torch", "numpy"}
    assert machine.import_error == f"{kind.__name__}: no driver"


@pytest.mark.parametrize("error", [PermissionError(), FileNotFoundError(), subprocess.TimeoutExpired("nvidia-smi", 20)],
                         ids=["refused", "not there", "no answer"])
def test_an_nvidia_smi_that_does_not_answer_lists_none(monkeypatch, error):
    monkeypatch.setattr(doctor.subprocess, "run", Mock(side_effect=error))
    assert doctor.list_drivers() == []
    assert doctor.subprocess.run.call_args.kwargs["timeout"] == 20, "for it may hang"


def test_where_notebooks_find_kernels(monkeypatch, tmp_path):
    assert doctor.find_kernels() == str(doctor.ROOT / "kernels")
    python = tmp_path / "python"
    monkeypatch.setattr(doctor.sys, "executable", str(python))
    python.write_text("#!/bin/sh\npwd\n")
    python.chmod(0o755)
    assert doctor.find_kernels() == "/"  # not the workshop's folder, where `import kernels` always works
    python.write_text("#!/bin/sh\necho Traceback >&2\nexit 1\n")
    assert doctor.find_kernels() == ""


def test_the_status_says_whether_there_is_a_problem(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "gather", lambda: LAPTOP)
    assert doctor.main([]) == 0
    assert "No problems found." in capsys.readouterr().out
    monkeypatch.setattr(doctor, "gather", lambda: BLIND)
    assert doctor.main([]) == 1
    assert "build without CUDA" in capsys.readouterr().out
    assert doctor.main(["--what"]) == 2


def test_nvidia_smi_lists_the_drivers(monkeypatch, tmp_path):
    smi = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.list_drivers() == []  # none on the PATH
    smi.write_text("#!/bin/sh\necho 'Tesla T4, 535.104.05'\n")
    smi.chmod(0o755)
    assert doctor.list_drivers() == ["Tesla T4, 535.104.05"]
    smi.write_text("#!/bin/sh\necho 'Failed to initialize NVML: driver mismatch'\nexit 18\n")
    assert doctor.list_drivers() == []


@pytest.mark.parametrize("name", settings.NOTES)
def test_a_setting_that_was_left_aside_is_explained(name):
    found = {"WORKSHOP_FOUND": json.dumps({name: "/elsewhere"}), "HOME": "/root"}
    machine = replace(LAPTOP, settings=settings.user_settings(found))
    assert doctor.problems(machine) == []
    console = Console(file=io.StringIO(), width=100)
    doctor.report(machine, console)
    assert f"Note: {name}=/elsewhere is set, and the workshop leaves it aside: " in console.file.getvalue()


def test_every_setting_left_aside_is_explained():
    assert {*workshop.NOT_OURS, *workshop.CHANGED} <= {*settings.NOTES}


def test_settings_of_pip_are_noted_where_they_are_on():
    found = settings.user_settings({"PIP_TARGET": "/lib", "PIP_DRY_RUN": "0", "PIP_USER": "no", "PIP_INDEX_URL": "x"})
    assert found == {"PIP_TARGET": "/lib"}


def test_facts_of_the_process_are_gathered(monkeypatch, tmp_path):
    """How it prints, what its user has set, where .venv lies, what is free where the workshop is."""
    asked = []
    monkeypatch.setattr(doctor, "list_drivers", list)
    monkeypatch.setattr(doctor, "find_kernels", lambda: "/k")
    monkeypatch.setattr(doctor.sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    monkeypatch.setattr(doctor, "user_settings", lambda: {"HOME": "/x"})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=2e9))
    monkeypatch.setattr("torch.version.hip", "7.0")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    for venv, leads_to in (("there", ""), ("link", str(tmp_path / "there")), ("none", "")):
        monkeypatch.setattr(doctor, "VENV", tmp_path / venv)
        machine = doctor.gather()
        assert machine.venv == leads_to
    assert (machine.encoding, machine.settings, machine.kernels, machine.disk) == ("cp1252", {"HOME": "/x"}, "/k", 2.0)
    assert machine.hip == "7.0" and asked[0] == doctor.ROOT


def test_an_environment_on_another_disk_is_named():
    console = Console(file=io.StringIO(), width=100)
    doctor.report(replace(LAPTOP, venv="/scratch/me/venv"), console)
    assert "a link to /scratch/me/venv" in console.file.getvalue()
