"""The text is a stranger's: broken, huge, endless or deep texts end in a clear error."""

import ast
import inspect
import math
import time

import pytest
import torch
import triton
import triton.language as tl
from executor_launches import execute

from checks.executor import (
    ExecutorError,
    LimitExceeded,
    Limits,
    Malformed,
    Module,
    Unsupported,
    compile_kernel,
    parse,
    run,
)
from checks.executor.types import RANK, Type

HEAD = "tt.func public @k(%x: !tt.ptr<f32>, %n: i32) attributes {noinline = false} {"


def text(*lines: str, head: str = HEAD) -> str:
    return "\n".join(["module {", head, *lines, "tt.return", "}", "}"])


def launch(*lines: str, limits: Limits | None = None, n: int = 5):
    return Module(text(*lines), limits or Limits(seconds=0.5)).run((1,), {"x": torch.zeros(4), "n": n})


LOOP = ("%a = arith.constant 0 : i32", "%b = arith.constant 1 : i32")


@pytest.mark.parametrize("lines, message", [
    (["%a = arith.addi %n, %m : i32"], "uses %m, which is not defined"),
    (["%a = arith.addi %n, %x : i32"], "takes %x for i32"),
    (["%a = arith.addi %n, %n : i33"], "type 'i33' is not known"),
    (["%a = arith.addi %n, %n : tensor<99999999999999999999xi32>"], "not known|cannot be read"),
    (["%a = arith.constant dense<[1, 2, 3]> : tensor<2xi32>"], "3 numbers for tensor<2xi32>"),
    (["%a = arith.constant dense<[1, 2]> : tensor<4xi32>"], "2 numbers for tensor<4xi32>"),
    (["%a = arith.bitcast %n : i32 to f16"], "arith.bitcast from i32 to f16"),
    (["%a = tt.bitcast %n : i32 -> f64"], "tt.bitcast from i32 to f64"),
    (["%a = arith.constant dense<x> : tensor<2xi32>"], "invalid literal|could not convert"),
    (["%a = arith.constant dense<99999999999> : tensor<8xi32>"], "OverflowError"),
    (["%a = tt.make_range {end = 9 : i32, start = 0 : i32} : tensor<8xi32>"], "a range from 0 to 9"),
    (["%a = tt.make_range {start = 0 : i32} : tensor<8xi32>"], "lacks the attribute end"),
    (["%a = tt.make_range {start = 0 : i32 : tensor<8xi32>"], "a brace is not closed"),
    (["= = ="], "no operation"),
    (["%a = "], "no operation"),
    (["scf.if %n {", "scf.if %n {"], "has no end"),
    (["%q = scf.for %i = %n to %n : i32 {", "}"], "."),
    (["tt.store %n, %n : i32"], "a pointer was expected"),
    (["%a = tt.load %x"], "."),
    (["tt.call @nobody(%n) : (i32) -> ()"], "nobody"),
    (["cf.br ^bb7", "^bb1:"], "a jump back"),
    (["cf.br ^bb7"], "not at the end of its block"),
    (['%a = "tt.reduce"(%n) <{axis = 0 : i32}> ({', "}) : (i32) -> i32"], "."),
    (['"'], "."),
    (["}" * 3], "unknown line|."),
    (["%a = tt.trans %n {order = array<i32: 5, 1>} : i32 -> i32"], "."),
])
def test_broken_texts(lines, message):
    with pytest.raises((Malformed, Unsupported), match=message):
        launch(*lines)


ASSEMBLY = '%a = tt.elementwise_inline_asm "{}; // dummy $0" {{constraints = "=r", packed_element = 1 : i32}} -> i32'


def test_assembly_that_orders_launches_is_passed_over():
    assert launch(ASSEMBLY.format("griddepcontrol.wait")).fine
    with pytest.raises(Unsupported, match="inline assembly"):
        launch(ASSEMBLY.format("mov.u32 $0, %tid.x"))


@pytest.mark.parametrize("line", ["gpu.barrier", "tt.debug_barrier", "ttg.barrier local", "ttg.local_barrier",
                                  "llvm.intr.assume %t : i1"])
def test_what_only_orders_threads_is_passed_over(line):
    assert launch("%t = arith.cmpi eq, %n, %n : i32", line).fine


NONE = ["", "module {", "\x00\xff", "module {\n}\n", "}{", "tt.func", HEAD, "a" * 100_000, "(" * 100_000,
        "module {\n" + "%a = " * 20_000, "module {\n" + '"' * 50_001, "tensor<" * 50_000 + ">" * 50_000,
        "module {\n" + '\\"' * 50_001, HEAD + "\n%a = arith.constant dense<" + "[" * 30_000,
        HEAD + "\n%a" + ", %b" * 50_000 + " = x", HEAD + "\ntt.return //" + "a:1" * 30_000, HEAD + "\n^bb" + "(" * 40_000,
        HEAD + "\ncf.br " + "^a(" * 30_000, HEAD + "\nx " + "{" * 50_000, HEAD + "\nx " + "{}" * 50_000]


@pytest.mark.parametrize("whole", NONE)
def test_texts_that_are_none(whole):
    began = time.process_time()
    with pytest.raises(ExecutorError):
        Module(whole)
    assert time.process_time() - began < 2


def test_a_cut_or_damaged_text_is_refused_or_runs():
    real = compile_kernel(sum_kernel, {"x_ptr": "*fp32", "y_ptr": "*fp32", "N": "i32", "BLOCK": "constexpr"}, {"BLOCK": 8})
    lines = real.splitlines()
    damaged = ["\n".join(lines[:i]) for i in range(len(lines))]
    damaged += ["\n".join([*lines[:i], *lines[i + 1:]]) for i in range(len(lines))]
    for i, line in enumerate(lines):
        damaged += ["\n".join([*lines[:i], line[:cut], *lines[i + 1:]]) for cut in range(0, len(line.split(" //")[0]), 7)]
        damaged += ["\n".join([*lines[:i], line.replace(old, new), *lines[i + 1:]])
                    for old, new in (("8", "16"), ("i32", "i64"), ("%1", "%0"), ("f32", "f16"), (":", ""), ("<", ">"))]
    limits = Limits(seconds=1)
    for one in damaged:
        try:
            module = Module(one, limits)
            module.run((2,), {"x": torch.ones(16), "y": torch.ones(16), "n": 16})
        except (ExecutorError, TypeError) as error:
            assert not isinstance(error, TypeError) or "the kernel takes" in str(error) or "`" in str(error)


@triton.jit
def sum_kernel(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, N, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        total += tl.load(x_ptr + offs, mask=offs < N, other=0.0)
    tl.store(y_ptr + tl.program_id(0), tl.sum(total, axis=0))


def deep(levels: int) -> list[str]:
    opened = [f"%c{i} = arith.cmpi eq, %n, %n : i32\nscf.if %c{i} {{" for i in range(levels)]
    return [*opened, *["}"] * levels]


def test_limits():
    with pytest.raises(LimitExceeded, match="tile of .2097152,. has more than 1048576"):
        launch("%a = arith.constant dense<0> : tensor<2097152xi32>")
    launch(*deep(60))
    with pytest.raises(LimitExceeded, match="deep"):
        launch(*deep(70))
    with pytest.raises(LimitExceeded, match="deep"):
        Module("\n".join(["module {", HEAD] + ["scf.if %n {"] * 200_000))
    began = time.perf_counter()
    with pytest.raises(LimitExceeded, match="did not finish within 0.5 s"):
        launch("scf.while : () -> () {", "%t = arith.cmpi eq, %n, %n : i32", "scf.condition(%t)", "} do {", "scf.yield", "}")
    with pytest.raises(LimitExceeded, match="did not finish within 0.5 s"):
        launch(*LOOP, "scf.for %i = %a to %n step %b  : i32 {", "}", n=2**31 - 1)
    with pytest.raises(LimitExceeded, match="did not finish within 0.5 s"):
        Module(text(), Limits(seconds=0.5)).run((2**30,), {"x": torch.zeros(4), "n": 1})
    assert time.perf_counter() - began < 5
    with pytest.raises(LimitExceeded, match="characters"):
        Module("x" * 1001, Limits(text=1000))
    values = [f"%v{i} = tt.splat %n : i32 -> tensor<1048576xi32>" for i in range(400)]
    with pytest.raises(LimitExceeded, match="one program holds more values"):
        launch(*values, *[f"%w{i} = arith.addi %v{i}, %v{i} : tensor<1048576xi32>" for i in range(400)])
    with pytest.raises(Malformed, match="step is not positive"):
        launch(*LOOP, "scf.for %i = %a to %n step %a  : i32 {", "}")


def test_how_far_a_run_may_go_unless_it_is_said():
    made = Limits()
    assert (made.seconds, made.depth, made.notes) == (60, 64, 100), "a minute"
    assert (made.tile, made.text, made.memory, made.accesses) == (2**20, 2**22, 2**31, 2**24)


ENDED = "tt.func public @k() attributes {noinline = false} {"


@pytest.mark.parametrize(("grid", "launched"), [
    ((), True), ((0,), True), ((7,), True), ((2**31 - 1, 0), True), ((2**31, 0), False), ((-1,), False),
    ((0, 2**16 - 1), True), ((0, 2**16), False), ((1, -1), False),
    ((0, 1, 2**16 - 1), True), ((0, 1, 2**16), False), ((1, 1, -1), False), ((1, 1, 1, 1), False)])
def test_grids_that_a_gpu_launches(grid, launched):
    module = Module(text(head=ENDED))
    if launched:
        assert module.run(grid, {}).fine
    else:
        with pytest.raises(ValueError, match=r"up to three axes, \(2\*\*31 - 1, 65535, 65535\) programs at most"):
            module.run(grid, {})


@pytest.mark.parametrize("grid", [(2**31 - 1,), (2**15, 2**15, 2), (2**11, 2**10, 2**10), (1, 2**16 - 1, 2**16 - 1)])
def test_a_grid_of_more_programs_than_are_told_apart(grid):
    with pytest.raises(LimitExceeded, match="has more programs than can be told apart here"):
        Module(text(head=ENDED), Limits(seconds=0.05)).run(grid, {})


def test_a_function_that_calls_itself():
    again = "\n".join(["module {", HEAD, "tt.call @f(%n) : (i32) -> ()", "tt.return", "}",
                       "tt.func private @f(%n: i32) attributes {noinline = true} {", "tt.call @f(%n) : (i32) -> ()",
                       "tt.return", "}", "}"])
    with pytest.raises(LimitExceeded, match="calls lie more than 64 deep"):
        Module(again).run((1,), {"x": torch.zeros(4), "n": 1})


@triton.jit
def loud_kernel(x_ptr, N):
    for i in range(N):
        tl.device_print("i", i)
        tl.store(x_ptr + i, 0)


@pytest.mark.parametrize(("limits", "kept", "made"), [
    *((Limits(notes=notes), notes, 5) for notes in (0, 1, 4, 5, 6)), (Limits(), 100, 150)])
def test_faults_and_prints_beyond_a_number_are_counted_only(limits, kept, made):
    module = Module(compile_kernel(loud_kernel, {"x_ptr": "*fp32", "N": "i32"}, {}), limits)
    report = module.run((1,), {"x_ptr": torch.zeros(1), "N": made})
    for kind, number in (("prints", made), ("faults", made - 1), ("races", 0)):
        assert (len(getattr(report, kind)), report.left_out[kind]) == (min(kept, number), max(0, number - kept)), kind


CONTRADICTS = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError)
TOO_MUCH = {MemoryError: "the kernel needs more memory than there is", RecursionError: "calls lie too deep in each other"}


def raising(error):
    def run(*_):
        raise error("the reason")
    return run


@pytest.mark.parametrize("error", [*CONTRADICTS, *TOO_MUCH, ZeroDivisionError])
def test_what_an_operation_raises_is_said_of_its_line(error):
    module = Module(text("%a = arith.addi %n, %n : i32 //k.py:3", "%b = arith.addi %n, %n : i32 //k.py:4"))
    module.ops[1].run = raising(error)
    kind = Malformed if error in CONTRADICTS else LimitExceeded if error in TOO_MUCH else error
    said = TOO_MUCH.get(error, "the reason" if kind is error else rf"arith.addi \(k.py:4\): {error.__name__}: '?the reason")
    with pytest.raises(kind, match=said):
        module.run((1,), {"x": torch.zeros(4), "n": 1})


@pytest.mark.parametrize("error", CONTRADICTS)
@pytest.mark.parametrize("step", ["prepare", "mark_steps", "verify"])
def test_what_making_ready_raises_is_said_of_the_text(monkeypatch, step, error):
    monkeypatch.setattr(run, step, raising(error))
    where = r"arith.addi \(k.py:3\)" if step == "prepare" else "the text"
    with pytest.raises(Malformed, match=f"{where}: {error.__name__}: '?the reason"):
        Module(text("%a = arith.addi %n, %n : i32 //k.py:3"))


@pytest.mark.parametrize("error", [IndexError, KeyError, ValueError, TypeError, AttributeError, Malformed])
def test_what_reading_raises_is_said_of_the_line(monkeypatch, error):
    monkeypatch.setattr(parse, "_op_name", raising(error))
    with pytest.raises(Malformed, match="line 3: the reason" if error is Malformed else
                       f"line 3 cannot be read: {error.__name__}: '?the reason"):
        Module(text("%a = arith.addi %n, %n : i32"))


def test_views_share_their_storage_and_far_rows_are_sparse():
    storage = torch.empty(2 * 2**30 + 8)
    far = storage.as_strided((3, 8), (2**30, 1))
    far.copy_(torch.arange(24.0).view(3, 8))

    @triton.jit
    def shift_kernel(x_ptr, y_ptr, stride, K: tl.constexpr):
        i, k = tl.program_id(0).to(tl.int64), tl.arange(0, K)
        tl.store(y_ptr + i * stride + k, tl.load(x_ptr + i * stride + k) + 1)

    assert execute(shift_kernel, (3,), {"x_ptr": far, "y_ptr": far, "stride": 2**30, "K": 8}).fine
    assert torch.equal(far, torch.arange(24.0).view(3, 8) + 1)
    base = torch.arange(32.0)
    assert execute(shift_kernel, (2,), {"x_ptr": base[2:], "y_ptr": base[2:], "stride": 8, "K": 8}).fine
    assert base.tolist() == [i + (2 <= i < 18) for i in range(32)]


def test_the_package_stands_alone():
    """It imports NumPy, torch, Triton and the standard library, and none of the other rooms."""
    import sys
    from pathlib import Path

    import checks.executor

    room = Path(inspect.getfile(checks.executor)).parent
    for path in room.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names} \
            | {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        own = {name for name in names if name.startswith("checks.executor")}
        first = {name.partition(".")[0] for name in names - own}
        assert first - {"numpy", "torch", "triton"} <= set(sys.stdlib_module_names), path
        assert len(path.read_text().splitlines()) < 400, path


@pytest.mark.parametrize(("kind", "known"), [
    (f"tensor<{'2x' * RANK}f32>", True), (f"tensor<{'2x' * (RANK + 1)}f32>", False), ("tensor<2x!tt.ptr<f16, 1>>", True),
    ("!tt.ptr<f32>", True), ("tensor<x f32>", False), ("f31", False), ("tensor<2xtensor<2xf32>>", False)])
def test_which_types_are_known(kind, known):
    if not known:
        with pytest.raises(Malformed, match="is not known here"):
            Type(kind)
        return
    made = Type(kind)
    assert Type(repr(made)) == made and made.size == math.prod(made.shape) and len(made.shape) == kind.count("2x")
