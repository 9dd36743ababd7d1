"""Compiling for GPUs that are not here."""

import contextlib
import importlib.util
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

import checks.judge.compiler
from checks.executor import CompileError, specialize
from checks.judge import kept_reports
from checks.judge.compiler import TARGETS, Compilation, Compiled, _job, aligned, one_of_each, slower_numbers, start, worst
from checks.judge.launches import Launch
from checks.judge.source import define
from kernels.quantize import finite_or_inf


@triton.jit
def int8_tile_kernel(a_ptr, b_ptr, c_ptr, K, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK, BLOCK), dtype=tl.int32)
    for k in range(0, K, BLOCK):
        a = tl.load(a_ptr + offs[:, None] * K + k + offs[None, :])
        b = tl.load(b_ptr + offs[None, :] * K + k + offs[:, None])
        acc = tl.dot(a, b, acc, out_dtype=tl.int32)
    tl.store(c_ptr + offs[:, None] * BLOCK + offs[None, :], acc)


@triton.jit
def python_if_kernel(x_ptr, y_ptr):
    if tl.load(x_ptr + tl.arange(0, 4)) > 0:  # a block of answers where one is needed
        tl.store(y_ptr, 1)


def launch(kernel, **arguments) -> Launch:
    return Launch(kernel.fn, arguments, [name for name in arguments if name.isupper() and name != "K"], {})


def test_int8_dot_uses_each_architecture_s_tensor_cores():
    a, c = torch.zeros(64, 64, dtype=torch.int8), torch.zeros(64, 64, dtype=torch.int32)
    (reports,) = Compilation([launch(int8_tile_kernel, a_ptr=a, b_ptr=a, c_ptr=c, K=64, BLOCK=64)]).reports()
    assert set(reports) == set(TARGETS)
    assert reports[80].tensor_cores == "mma" and reports[90].tensor_cores == "wgmma"
    for report in reports.values():
        assert report.error is None and 0 < report.registers <= 255 and report.shared > 0 and report.spills == 0


def test_spills_are_seen():
    a, c = torch.zeros(128, 128, dtype=torch.int8), torch.zeros(128, 128, dtype=torch.int32)
    crowded = launch(int8_tile_kernel, a_ptr=a, b_ptr=a, c_ptr=c, K=128, BLOCK=128)
    crowded.options["num_warps"] = 1  # 512 sums in each thread's 255 registers
    (report,) = start([_job(crowded, 80)])()
    assert report.spills > 0


@pytest.fixture
def worker(monkeypatch):
    """The compiling process's module, loaded here; what it changes in the environment is forgotten."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    path = Path(checks.judge.compiler.__file__).with_name("compile_worker.py")
    module = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("loaded_worker", path))
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "from_module", lambda job: triton.runtime.JITFunction(int8_tile_kernel.fn))
    monkeypatch.setattr(module, "language", lambda kernel: lambda *arguments: arguments)
    return module


LOG = """ptxas info    : Compiling entry function 'f' for 'sm_90a'
ptxas info    : Function properties for f
    3824 bytes stack frame, 9756 bytes spill stores, 8468 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 3824 bytes cumulative stack size
"""
PTX = """mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32 {%r1}
ld.shared.b8 %rs1, [%r1];
st.shared.u8 [%r1], %rs1;
ld.shared.b32 %r2, [%r1];
"""
HOPPER = """griddepcontrol.wait;
cp.async.bulk.tensor.2d.shared::cluster.global [%r1];
wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {%f1};
wgmma.wait_group.sync.aligned 1;
wgmma.wait_group.sync.aligned 0;
ld.shared::cta.s8 %rs1, [%r1];
"""
NOTHING = {"registers": None, "spills": 0, "stack": 0, "shared": 48, "tensor_cores": None, "multiplies": None, "pending": 0,
           "tma": False, "overlap": False, "byte_moves": 0}


@pytest.mark.parametrize(("log", "ptx", "told"), [
    ("", "ret;", {}), (LOG, "ret;", {"registers": 255, "spills": 9756 + 8468, "stack": 3824}),
    ("", PTX, {"tensor_cores": "mma", "multiplies": "s8", "byte_moves": 2}),
    ("", HOPPER, {"tensor_cores": "wgmma", "multiplies": "f16", "pending": 1, "tma": True, "overlap": True,
                  "byte_moves": 1})], ids=["nothing", "log", "mma", "wgmma"])
def test_what_is_read_from_the_compiler(worker, monkeypatch, log, ptx, told):
    asked = []

    def compiles(source, target, options):
        asked.append((*source, target.arch, options))
        print(log)
        return SimpleNamespace(asm={"ptx": ptx}, metadata=SimpleNamespace(shared=48))

    monkeypatch.setattr(triton, "compile", compiles)
    job = {"module": "", "signature": {"K": "i32"}, "constexprs": {"BLOCK": 64}, "aligned": ["K"], "capability": 89,
           "options": {"num_warps": 2}}
    assert worker.compile_job(job) == NOTHING | told
    (_, signature, constexprs, attributes, capability, options), = asked
    assert (signature, capability, options) == ({"K": "i32"}, 89, {"num_warps": 2})
    assert (constexprs, attributes) == ({(4,): 64}, {(3,): [["tt.divisibility", 16]]})


def test_a_request_is_answered_within_the_time_that_it_gives(worker, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(worker.signal, "alarm", lambda seconds: done.append(seconds))
    monkeypatch.setattr(worker, "compile_job", lambda job: done.append(job) or {"of": job})

    def answer_to(request):
        ours, theirs = socket.socketpair()
        with ours:
            ours.sendall(request.encode())
            ours.shutdown(socket.SHUT_WR)
            try:
                worker.serve(theirs)
            finally:
                with ours.makefile() as answer:
                    done.append(answer.read())

    answer_to('{"timeout_s": 61, "jobs": ["a", "b"]}')
    assert done == [61, "a", "b", '[{"of": "a"}, {"of": "b"}]']
    for request in ("no JSON", '{"timeout_s": 61}', "{}"):
        with pytest.raises(SystemExit) as ended:
            answer_to(request)
        assert ended.value.code == 1 and done[-1] == "" and "Error" in capsys.readouterr().err


def test_a_refusal_is_told_per_target_in_the_compiler_s_words():
    x = torch.zeros(8, dtype=torch.int32)
    (reports,) = Compilation([launch(python_if_kernel, x_ptr=x, y_ptr=x)]).reports()
    assert all(report.error and "Traceback" not in report.error for report in reports.values())


def test_a_student_s_kernel_does_not_wait_for_torch():
    script = Path(checks.judge.compiler.__file__).with_name("compile_worker.py")
    told = subprocess.run([sys.executable, "-P", "-X", "importtime", script], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True).stderr
    imported = set(re.findall(r"\|\s+([\w.]+)$", told, re.MULTILINE))
    assert "triton.compiler.compiler" in imported and not {"torch", "kernels", "checks.judge"} & imported
    ours = {f"{name.removeprefix('checks.').replace('.', '/')}.py" for name in imported if name.startswith("checks.")}
    apart = {"executor/errors.py", "executor/frames.py"}  # refusals are not kept, and nothing is sent by messages
    assert ours - apart | {"judge/compiler.py", "judge/compile_worker.py"} == set(kept_reports.COMPILE_WITH)


def test_after_a_compiler_died_the_next_job_is_compiled(monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(checks.judge.compiler.json, "dumps", lambda job: "no JSON")
        with pytest.raises(RuntimeError, match="(?s)the compiling process failed: .*JSONDecodeError"):
            start([{}])()
    checks.judge.compiler._server.process.kill()
    checks.judge.compiler._server.process.wait()
    (report,) = start([{"description": "{}"}])()
    assert report.error == "'files'"


def test_a_compiler_that_hangs_or_cannot_start_is_an_error(monkeypatch):
    server = checks.judge.compiler.warm_up().process.pid
    os.kill(server, signal.SIGSTOP)  # or it may have answered before it is asked whether it has
    try:
        with pytest.raises(TimeoutError, match="did not finish within 0 s"):
            start([{"name": "slow"}], timeout_s=0)()
    finally:
        os.kill(server, signal.SIGCONT)
    monkeypatch.setattr(checks.judge.compiler, "_server", None)
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")
    with pytest.raises(RuntimeError, match="(?s)the compiling process failed: .*encodings"):
        start([{"name": "nowhere"}])()


X = torch.zeros(2)


@pytest.mark.parametrize(("value", "kind", "multiple"), [
    *((torch.zeros(1, dtype=dtype), kind, True) for dtype, kind in {
        torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.float64: "*fp64", torch.int8: "*i8",
        torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64", torch.bool: "*i1"}.items()),
    (TensorDescriptor(X.half().view(1, 2), [1, 2], [8, 1], [16, 8]), "tensordesc<fp16[16, 8]>", False),
    (2, "i32", True), (0, "i32", True), (2**31 - 1, "i32", True), (2**31, "i64", True), (-2**31, "i32", True),
    (-2**31 - 1, "i64", True), (0.5, "fp32", False), (1.0, "fp32", False), (True, "i1", False), (False, "i1", False)])
def test_how_an_argument_is_compiled(value, kind, multiple):
    signature, constexprs = specialize(taking("value"), {"value": value})
    assert (signature, constexprs) == ({"value": kind}, {}) and aligned(signature) == ["value"] * multiple


def taking(argument):
    return define(f"def f({argument}):\n    pass\n", "f", {"tl": tl})


@pytest.mark.parametrize(("value", "constexpr", "built_in"), [
    (1, False, 1), (None, False, None), (3, True, 3), (0.5, True, 0.5), ("fp16", True, "fp16"), (None, True, None),
    (True, True, True), (tl.constexpr(0.25), True, 0.25), (tl.constexpr(8), True, 8)])
def test_what_is_built_into_a_kernel(value, constexpr, built_in):
    found = specialize(taking("value: tl.constexpr" if constexpr else "value"), {"value": value})
    assert found == ({"value": "constexpr"}, {"value": built_in})


@pytest.mark.parametrize(("value", "constexpr", "said"), [
    (X, True, "the constexpr `value` is a Tensor, which cannot be compiled here"),
    ("text", False, "the argument `value` is a str, which a kernel cannot take"),
    ([1], False, "the argument `value` is a list")])
def test_what_a_kernel_cannot_take(value, constexpr, said):
    with pytest.raises(CompileError, match=said):
        _job(Launch(taking("value: tl.constexpr" if constexpr else "value"), {"value": value}, [], {}), 80)


@pytest.mark.parametrize(("mine", "answer", "said"), [
    ("f16", "f16", None), ("tf32", "f16", "its tensor cores multiply tf32 numbers, the answer's f16"),
    (None, "f16", "it does not use the tensor cores, which multiply f16 numbers for the answer"),
    ("f16", None, None), (None, None, None)])
def test_tensor_cores_must_take_the_answer_s_numbers(mine, answer, said):
    found = slower_numbers({80: Compiled(multiplies=mine)}, {80: Compiled(multiplies=answer)})
    assert found == (said and f"it is right, but compiled for sm_80 (A100) {said}: give `tl.dot` the blocks in the type "
                     "that they are loaded in.")
    assert slower_numbers({80: Compiled(error="refused", multiplies=mine)}, {80: Compiled(multiplies=answer)}) is None


def test_of_several_kernels_each_is_compiled():
    """A kernel that no compiler takes cannot hide behind another one."""
    moves = {"main": 100, "decoy": 10}
    launches = [SimpleNamespace(traffic=lambda name=name: Counter({("load", "x"): moves[name]}))
                for name in ("main", "decoy", "decoy")]
    assert one_of_each(["main", "decoy", "decoy"], launches) == [1, 0], "the one that moves the most is the last"


GOOD, OTHER, BAD, WORSE = ({80: Compiled(registers=1)}, {80: Compiled(registers=2)}, {80: Compiled(error="no")},
                           {80: Compiled(registers=3), 90: Compiled(error="never")})


@pytest.mark.parametrize(("reports", "told"), [
    ([GOOD], GOOD), ([GOOD, OTHER], OTHER), ([OTHER, GOOD], GOOD), ([GOOD, OTHER, GOOD], GOOD), ([BAD, GOOD], BAD),
    ([GOOD, BAD], BAD), ([GOOD, BAD, OTHER], BAD), ([BAD, WORSE], BAD), ([OTHER, WORSE, BAD], WORSE)])
def test_what_is_told_of_several_kernels(reports, told):
    """The first with an error, else the last."""
    assert worst(reports) is told


@triton.jit
def conflicting_kernel(x_ptr):
    tl.store(x_ptr, 1.0, cache_modifier=".wb", eviction_policy="evict_first")


def test_an_assembler_s_reason_is_told_and_not_its_command():
    launch = Launch(conflicting_kernel.fn, {"x_ptr": torch.ones(1)}, [], {})
    (reports,) = Compilation([launch]).reports()
    assert reports[90].error == "ptxas: Modifier '.evict_first' cannot be combined with modifier '.wb'"


def test_a_job_is_compiled_once_and_the_next_time_remembered(monkeypatch):
    job = {"description": "{}", "name": "once"}
    (first,), (again,) = start([job])(), start([job])()
    assert first is again and first.error == "'files'"
    monkeypatch.setattr(checks.judge.compiler, "_Request", lambda *_: pytest.fail("it was asked again"))
    assert start([job, job], processes=2)() == [first, first]


class Asked(Exception):
    """The compiler was."""


@pytest.fixture
def new_session(monkeypatch, tmp_path):
    """A function that forgets all reports but those in files, and has the compiler asked only if `asked`."""
    def begin(asked=False):
        monkeypatch.setattr(checks.judge.compiler, "_cache", {})
        monkeypatch.setattr(checks.judge.compiler, "_Request", request if asked else ask)
        monkeypatch.setattr(checks.judge.compiler, "warm_up", ask)

    def ask(*_):
        raise Asked

    request = checks.judge.compiler._Request
    monkeypatch.setattr(request, "__init__", lambda self, jobs, timeout_s: setattr(self, "jobs", jobs))
    monkeypatch.setattr(request, "answer", lambda self: [{**vars(Compiled()), **ANSWERS[json.loads(job)["capability"]]}
                                                         for job in self.jobs])
    monkeypatch.setattr(kept_reports.knobs.cache, "dir", str(tmp_path))
    return begin


ANSWERS = {80: {"registers": 8}, 90: {"error": "refused"}}


@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_reports_come_in_the_order_of_their_jobs(new_session, monkeypatch, processes):
    new_session(asked=True)
    asked = []
    monkeypatch.setattr(checks.judge.compiler._Request, "answer", lambda self: asked.append(len(self.jobs)) or [
        {**vars(Compiled()), "registers": json.loads(job)["n"]} for job in self.jobs])
    jobs = [{"n": n} for n in (3, 1, 4, 1, 5, 9)]
    for wanted in (jobs, jobs[::-1]):
        assert [one.registers for one in start(wanted, processes)()] == [job["n"] for job in wanted]
    assert sum(asked) == 5 and len(asked) == min(processes, 5), "each once, in as many processes"


def test_a_report_is_kept_for_the_next_session_a_refusal_is_not(new_session, monkeypatch, tmp_path):
    given = launch(helped_kernel, x_ptr=torch.zeros(64), y_ptr=torch.zeros(64), BLOCK=64)
    good, refused = _job(given, 80), _job(given, 90)
    new_session(asked=True)
    first = start([good, refused])()
    new_session()
    assert start([good])() == first[:1] and first[0].registers == 8
    for other in (refused, good | {"aligned": []}):
        with pytest.raises(Asked):
            start([other])
    new_session()
    with monkeypatch.context() as changed, pytest.raises(Asked):
        changed.setattr(kept_reports, "_compiler", lambda: ("another version of Triton",))
        start([good])
    for file in tmp_path.rglob("*.json"):
        file.write_text(file.read_text()[:-9])
    with pytest.raises(Asked):
        start([good])


def test_where_no_file_can_be_kept_it_is_compiled_again(new_session, monkeypatch, tmp_path):
    (tmp_path / "reports").touch()  # no folder can be made there
    new_session(asked=True)
    (report,) = start([_job(launch(helped_kernel, x_ptr=torch.zeros(64), y_ptr=torch.zeros(64), BLOCK=64), 80)])()
    assert report.registers == 8


def test_the_compiler_is_started_unless_all_reports_are_known(new_session, monkeypatch):
    known = launch(helped_kernel, x_ptr=torch.zeros(64), y_ptr=torch.zeros(64), BLOCK=64)
    monkeypatch.setitem(ANSWERS, 90, {"registers": 9})
    new_session(asked=True)
    Compilation([known]).reports()
    new_session()
    checks.judge.compiler.warm_up_for([known])
    with pytest.raises(Asked):
        checks.judge.compiler.warm_up_for([known, launch(helped_kernel, x_ptr=torch.zeros(64), y_ptr=torch.zeros(64),
                                                         BLOCK=32)])


def test_where_a_kernel_stands_does_not_matter():
    texts = [f"import triton.language as tl{lines}\ndef moved_kernel(x_ptr):\n    tl.store(x_ptr, 1.0)\n" for lines in
             ("", "\n" * 9)]
    first, moved = (_job(Launch(define(text, "moved_kernel", {}), {"x_ptr": torch.zeros(1)}, [], {}), 80) for text in texts)
    assert first == moved


def test_it_ends_with_its_parent_and_is_closed_to_forks():
    start([{"description": "{}"}])()
    process = subprocess.run([sys.executable, "-c", "from checks.judge import compiler; import os; compiler.warm_up();"
                              "print(compiler._server.process.pid, flush=True);"
                              "os.fork() or print(compiler._server)"], capture_output=True, text=True, check=True)
    pid, forked = process.stdout.split()
    assert forked == "None"
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        ended = os.pidfd_open(int(pid))
        assert select.select([ended], [], [], 60)[0], f"process {pid} is still there"
        os.close(ended)


@triton.jit
def helped_kernel(x_ptr, y_ptr, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(y_ptr + offs, finite_or_inf(tl.load(x_ptr + offs)))


def test_a_kernel_that_calls_a_helper_of_the_library_compiles():
    (reports,) = Compilation([launch(helped_kernel, x_ptr=torch.zeros(64), y_ptr=torch.zeros(64), BLOCK=64)]).reports()
    assert all(report.error is None and report.registers for report in reports.values())


def test_a_kernel_that_uses_a_tensor_outside_is_refused():
    namespace = {"triton": triton, "tl": tl, "table": torch.zeros(3)}
    kernel = define("@triton.jit\ndef leaning_kernel(y_ptr):\n    tl.store(y_ptr, table)\n", "leaning_kernel", namespace)
    (reports,) = Compilation([launch(kernel, y_ptr=torch.zeros(1))]).reports()
    assert "`leaning_kernel` uses the global `table`, a Tensor" in reports[80].error


def test_a_local_name_that_a_notebook_also_uses_is_no_global():
    namespace = {"triton": triton, "tl": tl, "w": torch.zeros(3), "load": torch.zeros(1)}
    kernel = define("@triton.jit\ndef local_kernel(y_ptr):\n    w = tl.load(y_ptr)\n    tl.store(y_ptr, w)\n",
                    "local_kernel", namespace)
    (reports,) = Compilation([launch(kernel, y_ptr=torch.zeros(1))]).reports()
    assert reports[80].error is None


def test_each_launch_has_its_reports_beside_one_refused(new_session, monkeypatch):
    new_session(asked=True)
    monkeypatch.setattr(checks.judge.compiler._Request, "answer", lambda self: [
        {**vars(Compiled()), "registers": job["constexprs"]["BLOCK"], "spills": job["capability"]}
        for job in map(json.loads, self.jobs)])
    fine = [launch(helped_kernel, x_ptr=X, y_ptr=X, BLOCK=block) for block in (16, 32, 64)]
    given = [fine[0], Launch(taking("value"), {"value": "text"}, [], {}), *fine[1:]]
    found = Compilation(given).reports()
    assert [[(one.registers, one.spills) for one in report.values()] for report in found] == [
        [(block, capability) if block else (None, 0) for capability in TARGETS] for block in (16, None, 32, 64)]
    refused = [at for at, report in enumerate(found) if "a str, which a kernel cannot take" in (report[90].error or "")]
    assert refused == [1]
