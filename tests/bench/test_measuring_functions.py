"""The measuring functions' own decisions: shapes, operands, what each is held to, copies in graphs, bytes, operations."""

import inspect
from types import SimpleNamespace

import pytest
import torch

from checks.bench import baselines, measure, perf, rank_timing, workloads
from checks.bench.attention import expect_attention
from checks.bench.baselines import BASELINES
from checks.bench.measure import Refused, Timing
from checks.bench.operands import Operands, Wrong, expect_codes, expect_product
from kernels import quantize

MANY, N = 16384, (2048, 4096, 6144, 11008, 22016)
MEASURING = {  # what its results are held to, its mode, how many sizes a shape has, and its shapes on a GPU
    "gemv": (expect_product, "eager", 2, [(1, 4096, n) for n in (1024, 2048, 4096, 8192, 16384, 32768, 65536)]),
    "gemm": (expect_product, "eager", 3, [(MANY, 2048, n) for n in N]),
    "matmul_int8": (perf._expect_either, "eager", 3,
                    [(MANY, 2048, 2048), (MANY, 2048, 6144), (MANY, 2048, 22016), (MANY, 11008, 2048)]),
    "gate_up": (expect_codes, "eager", 3, [(MANY, 2048, 22016)]),
    "attention": (expect_attention, "eager", 2, [(1, 8192, 1), (64, 8192, 1)]),
    "quant_decode": (expect_codes, "graph", 2, [(M, 4096, 1) for M in (1, 4, 16, 64, 128)]),
    "quant_prefill": (expect_codes, "eager", 2, [(MANY, K, 1) for K in (2048, 4096, 5120, 11008)])}


def test_each_kind_of_measurement(monkeypatch):
    assert list(MEASURING) == list(workloads.TESTS)
    asked = []
    monkeypatch.setattr(perf, "_each", lambda *given: asked.append(given) or "rows")
    for name, (expect, mode, sizes, shapes) in MEASURING.items():
        function = workloads.TESTS[name]
        for interpreted in (True, False):
            monkeypatch.setattr(perf, "INTERPRETED", interpreted)
            assert function("functions") == "rows" == function("functions", [[3, 5, 7][:sizes]], "idle", "watcher")
            (test, functions, found, by, watcher), (_, _, given, *others) = asked[-2:]
            assert (test.name, test.expect, functions, by, watcher) == (name, expect, "functions", mode, None)
            assert (test.vector, test.unit) == (name == "gemv", name == "gate_up")
            assert given == [(1, 3, 5) if name == "gemv" else (3, 5, 7) if sizes == 3 else (3, 5, 1)]
            assert others == ["idle", "watcher"]
            if interpreted:
                assert len(found) == 1 and torch.tensor(found[0]).prod() <= 2**27 and found[0] not in shapes
            else:
                assert found == shapes


@pytest.mark.parametrize(("shape", "interpreted", "said"), [
    ((2**13, 2**14), True, None), ((2**13, 2**14 + 1), True, r"\(M, K\) = .* would take Triton's interpreter many minutes"),
    ((2**13, 2**14 + 1), False, None), ((1, 1), True, None), ((0, 1), False, "numbers above 0"), ((1, -1), False, "above"),
    ((1,), False, r"must be \(M, K\)"), ((1, 2, 3), False, r"must be \(M, K\)"), ((1.0, 2), False, "whole numbers")])
def test_which_shapes_are_measured(monkeypatch, shape, interpreted, said):
    monkeypatch.setattr(perf, "INTERPRETED", interpreted)
    if said is None:
        assert perf._shapes([list(shape)], ("M", "K"), []) == [shape]
        return
    with pytest.raises(ValueError, match=said):
        perf._shapes([(1, 1), shape], ("M", "K"), [])


@pytest.mark.parametrize(("vector", "unit"), [(True, False), (False, True), (False, False)])
def test_each_shape_has_operands_of_its_own(monkeypatch, vector, unit):
    made = []

    class Measured:
        def __init__(self, test, functions, operands, mode, watcher):
            made.append((test, functions, mode, watcher, operands))

        def rows(self):
            return [len(made)]

    monkeypatch.setattr(perf, "_Measurement", Measured)
    test = perf._Test("t", None, vector, unit)
    watcher = perf.Watcher()
    assert perf._each(test, "functions", [(1, 2, 3), (4, 5, 6)], "check", watcher) == [1, 2]
    assert [one[:4] for one in made] == [(test, "functions", "check", watcher)] * 2
    assert [(o.M, o.K, o.N, o.vector, o.unit) for *_, o in made] == [(1, 2, 3, vector, unit), (4, 5, 6, vector, unit)]
    perf._each(test, "functions", [(1, 2, 3)], "host", None)
    assert type(made[-1][3]) is perf.Watcher


def test_what_nobody_watches_fails_or_is_said(capsys):
    perf.Watcher().trying("f")
    perf.Watcher().left_out("f", Refused({"f": "too wide"}, {}))
    assert capsys.readouterr().out == "left out: f: too wide\n"
    for error in (Wrong("f is wrong"), OSError("no")):
        with pytest.raises(type(error), match=str(error)):
            perf.Watcher().left_out("f", error)


@pytest.mark.parametrize(("rotated", "N", "copies"), [
    (199, 2, 20), (200, 2, 20), (201, 2, 21), (1, 2, 4), (40, 2, 4), (41, 2, 5), (10**9, 1, 1)])
def test_how_many_copies_a_graph_takes_turns_with(monkeypatch, rotated, N, copies):
    """Enough to fill the cache, of the weights alone, four at least; what has none needs no copy."""
    asked = []

    def timed(sides, number, repeats, check):
        asked.append((number, repeats, list(sides)))
        sets = sides["f"].args[1]
        assert len(sets) == copies
        assert len({id(x) for x, *_ in sets}) == 1 and len({id(w) for _, w, _ in sets}) == copies == len({
            id(scale) for *_, scale in sets})
        assert all(torch.equal(w, sets[0][1]) for _, w, _ in sets)
        assert [sides["f"](i) for i in (0, copies - 1)] == [sets[0][1].data_ptr(), sets[-1][1].data_ptr()]
        return "timings"

    monkeypatch.setattr(perf, "ROTATED_BYTES", rotated)
    monkeypatch.setattr(perf, "time_in_graphs_us", timed)
    functions = {"f": lambda x, w_q, w_scale: w_q.data_ptr()}
    made = perf._Measurement(perf._Test("t", None), functions, Operands(3, 5, N), "graph", perf.Watcher())
    assert made._timings() == "timings" and asked == [(copies, perf.REPEATS, ["f"])]


COUNTED = {  # parameters: whether x wᵀ is multiplied, and whether a function with them gives codes
    "x, w": (True, False), "x, w_q, w_scale": (True, False), "x_q, x_scale, w_q, w_scale": (True, False),
    "x8, x8_scale, w8, w8_scale": (True, False), "x, int8_linear": (True, False), "x, torchao_linear": (True, False),
    "x_groups_q, x_groups_scale, w_groups_q, w_groups_scale": (True, False), "x_q, w_q_by_columns": (True, False),
    "x, weight, w_q, w_scale": (True, False), "x": (False, True), "x, x_copy": (False, True),
    "source, target": (False, True), "x, weight": (False, None), "gate, up": (False, True),
    "query, keys, values": (False, None)}


@pytest.mark.parametrize("parameters", COUNTED)
def test_what_a_row_counts(monkeypatch, parameters):
    multiplies, codes = COUNTED[parameters]
    function, operands = eval(f"lambda {parameters}: None"), Operands(3, 5, 7)
    made = perf._Measurement(perf._Test("t", None), {"f": function}, operands, "idle", perf.Watcher())
    made.bytes["f"], made.interpreter_s["f"] = 4000, 1.5
    flops = 2 * 3 * 5 * 7 if multiplies else 0
    row = {"test": "t", "function": "f", "M": 3, "N": 7, "K": 5, "mode": "idle", "bytes": 4000, "flops": flops}
    assert made._row("f", Timing(2.0, 1.0, 4.0)) == row | {
        "median_us": 2.0, "low_us": 1.0, "high_us": 4.0, "gb_per_s": 2.0, "tflops": flops / 2e6 if flops else None}
    assert made._row("f", None) == row | {"mode": "interpreter", "interpreter_s": 1.5, **dict.fromkeys(
        ("median_us", "low_us", "high_us", "gb_per_s", "tflops"))}
    held = []
    for name in ("expect_codes", "expect_product"):
        monkeypatch.setattr(perf, name, lambda *given, name=name: held.append(name))
    perf._expect_either("f", function, None, operands)
    assert codes is None or held == ["expect_codes" if codes else "expect_product"]


def test_the_copy_s_roof_is_that_of_a_gigabyte(monkeypatch):
    asked = []
    monkeypatch.setattr(perf, "test_perf_quant_prefill", lambda functions, shapes: asked.append((functions, shapes)) or [
        {"gb_per_s": 7.0}])
    assert perf.copy_roof() == {"copy_gb_per_s": 7.0}
    ((functions, ((M, K),)),) = asked
    assert functions == {"copy": BASELINES["copy"]} and 2**31 * 0.999 < 3 * M * K + 4 * M < 2**31 * 1.001


# baselines

ERRORS = {2.0**-9: ["cuBLAS FP16", "F.linear", "copy of x, then cuBLAS FP16"],
          0.02: ["Int8Linear", "torch.compile", "torchao", "gemlite"], 0.05: ["torch._scaled_mm FP8"]}


def test_what_a_baseline_s_format_may_cost():
    stated = {name: error for error, names in ERRORS.items() for name in names}
    assert {name: error for name, function in BASELINES.items() if (error := getattr(function, "error", None))} == stated
    assert {name for name, function in BASELINES.items() if getattr(function, "unscaled", False)} == {
        "torch._int_mm", *workloads.LAYOUT}
    assert {name for name in baselines.OPTIONAL if name not in BASELINES} == set()


SHAPE = (17, 128, 16)
IN_TORCH = ["cuBLAS FP16", "F.linear", "torch._int_mm", "torch.compile", "copy", "copy of x", "copy of x, then cuBLAS FP16"]


@pytest.mark.parametrize("name", IN_TORCH)
def test_a_baseline_in_torch_is_right(name):
    M, K, N = SHAPE
    test, shape = ("quant_prefill", (M, K)) if name == "copy" else ("matmul_int8", SHAPE)
    assert len(workloads.TESTS[test]({name: BASELINES[name]}, [shape], mode="eager")) == 1


CALLS = {  # a baseline of our own kernels: what it calls, and with which operands in which places
    "copy of x, then matmul_int8": [("matmul_int8", ("x", "w_q", "w_scale"), {})],
    "Int8Linear": [], "quantize_int8_perrow, perrow_w8a8_matmul": [
        ("quantize_int8_perrow", ("x",), {}), ("perrow_w8a8_matmul", ("q", "s", "w_q", "w_scale"), {})],
    "quantizer apart": [("quantize_int8_perrow", ("x",), {}),
                        ("perrow_w8a8_matmul_plain", ("q", "s", "w_q", "w_scale"), {})],
    "in the loop, scales given": [("quantizing_matmul", ("x", "w_q", "w_scale", "x_scale"), {})],
    "in the loop, amax too": [("quantizing_matmul", ("x", "w_q", "w_scale"), {})],
    "fastest product, SiLU·mul in the quantizer": [
        ("perrow_w8a8_matmul", ("x_q", "x_scale", "w_q", "w_scale"), {}), ("silu_mul_quantize_int8", ("left", "right"), {})],
    "group_w8a8_matmul": [("group_w8a8_matmul", ("x_groups_q", "x_groups_scale", "w_groups_q", "w_groups_scale", None), {})],
    **{baselines.config_name(config): [
        ("perrow_w8a8_matmul_grouped", ("x_q", "x_scale", "w_q", "w_scale"), {"config": config})]
       for config in baselines.GROUPED_CONFIGS},
    **{f"group_w8a8_matmul, {baselines.config_name(config)}": [
        ("group_w8a8_matmul", ("x_groups_q", "x_groups_scale", "w_groups_q", "w_groups_scale", config), {})]
       for config in baselines.GROUP_CONFIGS}}


class Named(str):
    """An operand that is known by its name."""

    copy_ = lambda self, other: other  # noqa: E731

    def __call__(self, x):
        return f"{self} of {x}"

    def chunk(self, parts, dim):
        return ("left", "right") if (parts, dim) == (2, 1) else ()


@pytest.mark.parametrize("name", CALLS)
def test_a_baseline_gives_its_operands_to_its_kernel(monkeypatch, name):
    did = []
    for kernel in ("matmul_int8", "quantize_int8_perrow", "perrow_w8a8_matmul", "perrow_w8a8_matmul_plain",
                   "perrow_w8a8_matmul_grouped", "quantizing_matmul", "silu_mul_quantize_int8", "group_w8a8_matmul"):
        monkeypatch.setattr(baselines, kernel, lambda *given, kernel=kernel, **more: did.append((kernel, given, more)) or (
            ("q", "s") if kernel == "quantize_int8_perrow" else Named("y")))
    operands = perf.operand_names(BASELINES[name])
    result = BASELINES[name](*map(Named, operands))
    assert did == CALLS[name]
    assert result == ("int8_linear of x" if name == "Int8Linear" else "y")


def test_the_baselines_are_known_by_what_they_are():
    for names, functions in ((baselines.PLANS, "unfused epilogue_fused producer_fused"),
                             (baselines.SILU_PLANS, "silu_apart silu_in_quantizer silu_in_epilogue"),
                             (baselines.PLACES, "separate_quantizer in_the_loop in_the_loop_with_amax "
                                                "persistent_rows_matmul")):
        assert [function.__name__ for function in names.values()] == functions.split()
        assert all(BASELINES[name] is function for name, function in names.items())
    config = baselines.GROUPED_CONFIGS[0]
    blocks = [config.kwargs[f"BLOCK_{side}"] for side in "MNK"]
    assert baselines.config_name(config) == (f"{blocks[0]} x {blocks[1]} x {blocks[2]}, {config.num_warps} warps, "
                                             f"{config.num_stages} stages")
    given = [list(inspect.signature(BASELINES[name]).parameters) for name in workloads.LAYOUT]
    assert given == [["x_q", "w_q"], ["x_q", "w_q_by_columns"]]
    made = baselines.in_both_layouts(lambda x_q, w: (x_q, w))
    assert [product(1, 2) for product in made.values()] == [(1, 2)] * 2


def test_a_function_is_found_by_its_name():
    import kernels

    assert workloads.find("copy") is BASELINES["copy"] and workloads.find("matmul_int8") is kernels.matmul_int8
    assert workloads.find("quantize_int8_perrow_torch") is quantize.quantize_int8_perrow_torch
    with pytest.raises(AttributeError):
        workloads.find("no such function")


@pytest.mark.parametrize("interpreted", [True, False])
def test_torch_compiles_on_a_gpu_alone(monkeypatch, interpreted):
    baselines._compiled.cache_clear()
    monkeypatch.setattr(baselines, "INTERPRETED", interpreted)
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: ("compiled", function, dynamic))
    try:
        assert baselines._compiled(len) == (len if interpreted else ("compiled", len, False))
    finally:
        baselines._compiled.cache_clear()


# the timer


def test_a_graph_is_captured_after_a_first_call_beside(monkeypatch):
    did = []

    class Stream:
        def __init__(self, name="side"):
            self.name = name

        def wait_stream(self, other):
            did.append(f"{self.name} waits for {other.name}")

        def synchronize(self):
            did.append(f"{self.name} is done")

        def __enter__(self):
            did.append(f"on {self.name}")

        def __exit__(self, *_):
            did.append("back")

    graph = SimpleNamespace(replay=lambda: did.append("replay"))
    for name, value in (("Stream", Stream), ("current_stream", lambda: Stream("current")), ("stream", lambda stream: stream),
                        ("synchronize", lambda: did.append("synchronize")), ("CUDAGraph", lambda: graph),
                        ("graph", lambda given: Stream("capture") if given is graph else None)):
        monkeypatch.setattr(torch.cuda, name, value)
    gpu = object.__new__(measure.MeasuringGPU)
    replay, result = gpu.capture(lambda: did.append("call") or did.count("call"))
    assert did == ["side waits for current", "on side", "call", "back", "current waits for side", "synchronize",
                   "on capture", "call", "back"]
    assert result == 2, "what the captured call gave"
    did.clear()
    replay()
    gpu.wait()
    assert did == ["replay", "current is done"]


def test_the_host_s_first_calls_do_not_count():
    now, calls, waits = [0.0], [], []

    def synchronize():
        waits.append(len(calls))
        now[0] += 50

    gpu = SimpleNamespace(host_us=lambda: now[0], synchronize=synchronize)

    def side():
        calls.append(1)
        now[0] += 1000 if len(calls) <= 3 * measure.CALLS_OF_THE_HOST else 2

    found = measure._host_us({"a": side}, gpu, 5, 3)
    assert found == {"a": [2.0] * 5} and len(calls) == 8 * measure.CALLS_OF_THE_HOST
    assert waits == [turn * measure.CALLS_OF_THE_HOST for turn in range(9)], "before each turn, and at the end"


def test_a_reading_that_fails_costs_no_other(monkeypatch):
    said = iter([OSError(), measure.subprocess.CalledProcessError(1, "x"), measure.subprocess.TimeoutExpired("x", 10),
                 "1980, [N/A], 650.5, 48\n", "1980, 3201, 650.5, 48\n", "100, 200, 300, 400\n"])

    def run(command, **options):
        assert (options["timeout"], options["check"]) == (10, True)
        found = next(said)
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(stdout=found)

    waits = iter([False] * 6 + [True])
    monitor = measure.Monitor()
    monitor.readings, monitor._end = [], SimpleNamespace(wait=lambda s: s == measure.POLL_S and next(waits))
    monkeypatch.setattr(measure.subprocess, "run", run)
    monitor._read()
    assert [values for _, values in monitor.readings] == [[1980, 3201, 650.5, 48], [100, 200, 300, 400]]


def test_the_monitor_ends_with_its_block(monkeypatch):
    monkeypatch.setattr(measure.shutil, "which", lambda name: None)
    with measure.Monitor() as monitor:
        assert not monitor._end.is_set() and monitor.since(0) is None
    assert monitor._end.is_set()


@pytest.mark.parametrize("mode", ["eager", "idle", "host", "graph"])
def test_the_gpu_is_asked_for_in_the_mode_of_the_times(monkeypatch, mode):
    asked = []

    def made(mode):
        asked.append(mode)
        raise RuntimeError("that is enough")

    monkeypatch.setattr(measure, "MeasuringGPU", made)
    with pytest.raises(RuntimeError, match="enough"):
        measure.time_in_graphs_us({}, 4) if mode == "graph" else measure.time_us({}, mode=mode)
    assert asked == [mode]


def test_a_gpu_that_measures_knows_its_mode(monkeypatch):
    monkeypatch.setattr(measure.timing.CudaGPU, "__init__", lambda self: setattr(self, "made", True))
    assert [(gpu.mode, gpu.made) for gpu in (measure.MeasuringGPU(), measure.MeasuringGPU("idle"))] == [
        ("eager", True), ("idle", True)]
    monkeypatch.setattr(rank_timing.torch, "zeros", lambda *given, device: (given, device))
    together = rank_timing.TogetherGPU("the ranks")
    assert (together.mode, together._group, together._tick) == ("eager", "the ranks", ((1,), "cuda"))
    monkeypatch.setattr(rank_timing, "TogetherGPU", lambda group: f"a GPU of {group}")
    for interpreted, found in ((True, None), (False, "a GPU of the ranks")):
        monkeypatch.setattr(rank_timing, "INTERPRETED", interpreted)
        assert rank_timing.gpu_of("the ranks") == found


def test_what_is_refused_names_each_side():
    refused = Refused({"a": "too wide", "b": "too fast"}, {"c": Timing(1.0, 1.0, 1.0)})
    assert str(refused) == "a: too wide; b: too fast" and list(refused.timings) == ["c"]
    timings = {"a": (Timing(1.0, 1.0, 1.0), ""), "b": (Timing(2.0, 1.0, 3.0), "why")}
    assert measure._without_doubt({"a": timings["a"]}, {}) == {"a": Timing(1.0, 1.0, 1.0)}
    for reasons, said in (({}, "b: why"), ({"c": "elsewhere"}, "c: elsewhere; b: why")):
        with pytest.raises(Refused, match=f"^{said}$") as raised:
            measure._without_doubt(timings, reasons)
        assert raised.value.timings == {"a": Timing(1.0, 1.0, 1.0)}


@pytest.mark.parametrize(("mode", "rows"), [("check", 0), ("eager", 1)])
def test_what_is_only_checked_is_not_timed(monkeypatch, mode, rows):
    asked = []
    monkeypatch.setattr(perf, "INTERPRETED", False)
    monkeypatch.setattr(perf, "time_us", lambda sides, *_, **__: asked.append(list(sides)) or {"f": Timing(1.0, 1.0, 1.0)})
    assert len(perf.test_perf_gemm({"f": BASELINES["cuBLAS FP16"]}, [(3, 8, 5)], mode)) == rows == len(asked)


@pytest.mark.parametrize(("behind", "exposed"), [
    ((900.0, 0.0, 0.0), False), ((900.0, 900.0, 0.0), False), ((0.0, 0.0, 900.0), False), ((900.0, 90.0, 30.0), True)])
def test_work_elsewhere_is_seen_in_each_call(behind, exposed):
    """In one of three anything may have held up the host."""
    now, left, calls = [0.0], [0.0], iter(behind)

    def synchronize():
        now[0] += left[0]
        left[0] = 0.0

    gpu = SimpleNamespace(synchronize=synchronize, host_us=lambda: now[0], wait=lambda: None)
    said = measure._elsewhere(lambda: left.__setitem__(0, next(calls)), gpu)
    assert said.startswith("30 µs of its work go on in another stream") == exposed == bool(said)
