"""The measuring functions: right functions give rows, wrong ones a sentence, and nothing interpreted a speed."""

import math
from types import SimpleNamespace

import pytest
import torch

import kernels
from checks.bench import measure, perf
from checks.bench.baselines import BASELINES
from checks.bench.measure import Timing
from checks.bench.operands import Wrong
from checks.bench.workloads import TESTS, _roofs
from kernels import cost
from kernels.quantize import quantize_int8_perrow_torch
from kernels.runtime import INTERPRETED

K, N = 256, 72


def test_rows_count_bytes_and_hold_no_interpreted_speed():
    rows = perf.test_perf_gemv({"torch": lambda x, w: w @ x, "gemv_w8a16": kernels.gemv_w8a16}, [(K, N)])
    rows += perf.test_perf_gemm({"perrow_w8a8_matmul": kernels.perrow_w8a8_matmul}, [(17, K, N)])
    rows += perf.test_perf_quant_prefill({"copy": BASELINES["copy"], "quantize": kernels.quantize_int8_perrow}, [(5, K)])
    assert [row["bytes"] for row in rows] == [
        cost.gemv_bytes(N, K), N * K + 4 * N + 2 * K + 2 * N, cost.perrow_w8a8_matmul_bytes(17, N, K),
        *[cost.quantize_int8_perrow_bytes(5, K)] * 2]
    assert [row["flops"] for row in rows] == [2 * N * K, 2 * N * K, 2 * 17 * N * K, 0, 0]
    if INTERPRETED:
        assert all(row["mode"] == "interpreter" and row["interpreter_s"] > 0 for row in rows)
        assert all(row[speed] is None for row in rows for speed in ("median_us", "low_us", "high_us", "gb_per_s", "tflops"))


def test_a_speed_is_bytes_and_operations_over_the_median(monkeypatch):
    monkeypatch.setattr(perf, "INTERPRETED", False)
    monkeypatch.setattr(perf, "time_us", lambda sides, *_, **__: {name: Timing(10.0, 9.0, 12.0) for name in sides})
    row, = perf.test_perf_gemm({"torch": BASELINES["cuBLAS FP16"]}, [(4, K, N)])
    assert row["gb_per_s"] == pytest.approx(cost.matmul_fp16_bytes(4, N, K) / 10e-6 / 1e9)
    assert row["tflops"] == pytest.approx(2 * 4 * K * N / 10e-6 / 1e12)
    assert (row["median_us"], row["low_us"], row["high_us"]) == (10, 9, 12)


class HostGPU:
    """Takes the GPU's place: what is called is done, every call takes 640 µs, and a graph's replay writes where its
    capture wrote."""

    def __init__(self, mode="graph"):
        pass

    def event(self):
        return self

    def elapsed_us(self, later):
        return 640.0

    record = synchronize = flush_l2 = lambda self: None

    def capture(self, calls):
        kept = calls()
        kept = kept if isinstance(kept, tuple) else (kept,)

        def replay():
            made = calls()
            for place, value in zip(kept, made if isinstance(made, tuple) else (made,), strict=True):
                place.copy_(value)
        return replay, kept if len(kept) > 1 else kept[0]


def test_in_graphs_each_call_has_its_own_weights(monkeypatch):
    monkeypatch.setattr(perf, "INTERPRETED", False)
    monkeypatch.setattr(measure, "MeasuringGPU", HostGPU)
    monkeypatch.setattr(perf, "ROTATED_BYTES", 70 * K * N)
    used = set()

    def product(x, w_q, w_scale):
        used.add((w_q.data_ptr(), w_scale.data_ptr()))
        return (x.double() @ w_q.double().T * w_scale).half()

    product.error = 0.02
    functions = {"cuBLAS FP16": BASELINES["cuBLAS FP16"], "product": product, "copy of x": BASELINES["copy of x"],
                 "copy of x, then cuBLAS FP16": BASELINES["copy of x, then cuBLAS FP16"]}
    rows = perf.test_perf_matmul_int8(functions, [(3, K, N)], mode="graph")
    assert [row["function"] for row in rows] == list(functions) and all(row["mode"] == "graph" for row in rows)
    assert len(used) == math.ceil(perf.ROTATED_BYTES / (K * N)) == len({scale for _, scale in used})
    assert [row["flops"] for row in rows] == [2 * 3 * K * N, 2 * 3 * K * N, 0, 2 * 3 * K * N]
    row, = perf.test_perf_quant_decode({"torch": quantize_int8_perrow_torch}, [(2, K)])
    assert row["mode"] == "graph" and row["median_us"] == 640 / 64


def kept_result():
    results = {}
    return lambda x, w: results.setdefault(x.data_ptr(), x @ w.T)


def last_row_missing(x, w):
    y = x @ w.T
    y[-1] = 0
    return y


WRONG = {
    "a result kept from earlier": ("gemm", kept_result()),
    "the last row missing": ("gemm", last_row_missing),
    "a NaN": ("gemm", lambda x, w: torch.where(torch.arange(N, device=x.device) == 3, torch.nan, x @ w.T)),
    "accumulated in FP16": ("gemm", lambda x, w: (x[:, None] * w).cumsum(-1, dtype=torch.float16)[..., -1]),
    "no tensor": ("gemm", lambda x, w: 1),
    "transposed": ("gemm", lambda x, w: (x @ w.T).T),
    "no scale of the weights": ("gemm", lambda x_q, x_scale, w_q, w_scale: (x_q.double() @ w_q.double().T
                                                                           * x_scale[:, None]).half()),
    "scales in FP16": ("gemm", lambda x_q, x_scale, w_q, w_scale: (
        x_q.double() @ w_q.double().T * x_scale.half()[:, None] * w_scale.half()).half()),
    "x not quantized": ("matmul_int8", lambda x, w_q, w_scale: (x.double() @ w_q.double().T * w_scale).half()),
    "truncated codes": ("quant_prefill", lambda x: (
        (x.float() / (x.float().abs().amax(1, keepdim=True) / 127)).trunc().to(torch.int8), x.float().abs().amax(1) / 127)),
    "scale of 128 codes": ("quant_prefill", lambda x: (
        (x.float() / (x.float().abs().amax(1, keepdim=True) / 128)).round().clamp(-127, 127).to(torch.int8),
        x.float().abs().amax(1) / 128)),
    "codes alone": ("quant_decode", lambda x: kernels.quantize_int8_perrow(x)[0]),
    "no copy": ("quant_prefill", lambda source, target: target),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_function_is_not_timed(name):
    test, function = WRONG[name]
    shape = (17, K) if test.startswith("quant") else (17, K, N)
    with pytest.raises(Wrong, match=f"^{name}"):
        TESTS[test]({name: function}, [shape])


def test_a_baseline_may_be_off_by_its_format_alone():
    def off(part):
        def function(x, w):
            y = x @ w.T
            return y + part * y.float().norm() / math.sqrt(y.numel())
        function.error = 0.02
        return function

    assert perf.test_perf_gemm({"near": off(0.015)}, [(17, K, N)])
    with pytest.raises(Wrong, match="relative error is 0.03"):
        perf.test_perf_gemm({"far": off(0.03)}, [(17, K, N)])


def test_one_that_fails_is_left_out_and_the_others_are_measured():
    left_out = {}

    class Watcher(perf.Watcher):
        def left_out(self, name, error):
            left_out[name] = error

    def crashes(x, w):
        raise OSError("no such luck")

    rows = perf.test_perf_gemm({"crashes": crashes, "torch": BASELINES["cuBLAS FP16"]}, [(4, K, N)], watcher=Watcher())
    assert [row["function"] for row in rows] == ["torch"] and isinstance(left_out["crashes"], OSError)


@pytest.mark.parametrize("call, said", [
    (lambda: perf.test_perf_gemm({}, [(4, 5)]), r"a shape must be \(M, K, N\)"),
    (lambda: perf.test_perf_gemv({}, [(0, 5)]), "above 0"),
    (lambda: perf.test_perf_gemm({}, mode="fast"), 'mode must be one of eager, idle, graph, host, or "check"'),
])
def test_bad_arguments_are_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_what_the_interpreter_cannot_do_in_time_is_refused():
    with pytest.raises(ValueError, match="many minutes"):
        perf.test_perf_gemm({"torch": BASELINES["cuBLAS FP16"]}, [(16384, 2048, 2048)])


def test_an_unknown_operand_is_named():
    with pytest.raises(LookupError, match="no operand is called v"):
        perf.test_perf_gemm({"f": lambda x, v: x}, [(4, K, N)])


def test_pytest_takes_none_of_them_for_a_test():
    assert not any(function.__test__ for function in TESTS.values())


def test_first_right_then_timed_then_right_again_on_new_numbers(monkeypatch):
    monkeypatch.setattr(perf, "INTERPRETED", False)
    did = []
    monkeypatch.setattr(perf, "time_us", lambda sides, repeats, mode: did.append(("time", list(sides), repeats, mode)) or {
        name: Timing(1.0, 1.0, 1.0) for name in sides})

    class Watcher(perf.Watcher):
        def trying(self, name):
            did.append(name)

    def stale(x, w):
        return did.append("call") or (x @ w.T if did.count("call") == 1 else torch.zeros(4, N, device=x.device).half())

    with pytest.raises(Wrong, match="stale is wrong"):
        perf.test_perf_gemm({"stale": stale}, [(4, K, N)], mode="idle", watcher=Watcher())
    assert did == ["stale", "call", "", ("time", ["stale"], 20, "idle"), "call"]


def test_a_time_that_is_refused_costs_its_own_row_alone(monkeypatch):
    monkeypatch.setattr(perf, "INTERPRETED", False)

    def refuse(sides, *_, **__):
        raise measure.Refused({"b": "too wide"}, {"a": Timing(2.0, 1.0, 3.0)})

    monkeypatch.setattr(perf, "time_us", refuse)
    left_out = []

    class Watcher(perf.Watcher):
        def left_out(self, name, error):
            left_out.append((name, str(error)))

    rows = perf.test_perf_gemm(dict.fromkeys("ab", BASELINES["cuBLAS FP16"]), [(4, K, N)], watcher=Watcher())
    assert [(row["function"], row["median_us"]) for row in rows] == [("a", 2.0)] and left_out == [("b", "b: too wide")]


def test_one_that_is_found_wrong_may_be_refused_as_well(monkeypatch):
    """A function may be left out in its graph, before its time is refused: the others keep their rows."""
    monkeypatch.setattr(perf, "INTERPRETED", False)

    def find_wrong_and_refuse(sides, copies, repeats, check):
        check("b", torch.zeros(4, N))
        raise measure.Refused({"b": "too wide", "c": "too wide"}, {"a": Timing(2.0, 1.0, 3.0)})

    monkeypatch.setattr(perf, "time_in_graphs_us", find_wrong_and_refuse)
    monkeypatch.setattr(perf, "ROTATED_BYTES", 1)
    left_out = []

    class Watcher(perf.Watcher):
        def left_out(self, name, error):
            left_out.append((name, type(error)))

    rows = perf.test_perf_gemm(dict.fromkeys("abc", BASELINES["cuBLAS FP16"]), [(4, K, N)], mode="graph", watcher=Watcher())
    assert [(row["function"], row["median_us"]) for row in rows] == [("a", 2.0)]
    assert left_out == [("b", Wrong), ("b", measure.Refused), ("c", measure.Refused)]


def test_what_was_kept_while_it_was_timed_is_found_out(monkeypatch):
    """New numbers lie there once all are timed; each that gives old ones is left out, and costs no other its row."""
    monkeypatch.setattr(perf, "INTERPRETED", False)
    left_out, kept = [], {}

    def time_us(sides, *_, **__):
        for name, side in sides.items():
            kept[name] = side()
        return {name: Timing(2.0, 1.0, 3.0) for name in sides}

    class Watcher(perf.Watcher):
        def left_out(self, name, error):
            left_out.append((name, type(error)))

    functions = {name: lambda x, w, name=name: kept.get(name, x @ w.T) for name in ("first", "second")}
    monkeypatch.setattr(perf, "time_us", time_us)
    rows = perf.test_perf_gemm({**functions, "honest": BASELINES["cuBLAS FP16"]}, [(4, K, N)], watcher=Watcher())
    assert [row["function"] for row in rows] == ["honest"] and left_out == [("first", Wrong), ("second", Wrong)]


@pytest.mark.parametrize(("test", "sizes"), [
    ("gemv", "(K, N)"), ("gemm", "(M, K, N)"), ("matmul_int8", "(M, K, N)"), ("gate_up", "(M, K, N)"),
    ("quant_decode", "(M, K)"), ("quant_prefill", "(M, K)"), ("attention", "(M, K)")])
def test_a_shape_of_another_length_is_told_its_sizes(test, sizes):
    with pytest.raises(ValueError) as refused:
        TESTS[test]({}, [(3,)])
    assert str(refused.value) == f"a shape must be {sizes}, whole numbers above 0, got (3,)"


def test_the_copy_of_a_lesson_is_that_of_the_roofs(monkeypatch):
    asked = []
    monkeypatch.setattr(perf, "test_perf_quant_prefill", lambda *given: asked.append(given) or [{"gb_per_s": 7.0}])
    roof = next(unit for unit in _roofs() if unit["functions"] == ["copy"])
    assert perf.copy_roof() == {"copy_gb_per_s": 7.0} and asked == [({"copy": BASELINES["copy"]}, [tuple(roof["shape"])])]
    M, K = roof["shape"]
    assert 0 <= 3 * M * K + 4 * M - 2 * 2**30 < 2**21, "what a copy of 1 GiB reads and writes"


def test_the_bytes_of_an_operand_are_those_of_its_numbers():
    """Another library's layer counts as what it holds: codes of w, and a scale for each row."""
    operands = SimpleNamespace(N=3, K=5)
    assert perf._bytes(torch.zeros(4, 6).half()[:, ::2], operands) == 4 * 3 * 2
    assert perf._bytes(torch.nn.Linear(5, 3), operands) == 3 * 5 + 3 * 4


def test_a_check_gives_no_rows():
    assert perf.test_perf_gemm({"torch": BASELINES["cuBLAS FP16"]}, [(4, K, N)], mode="check") == []


def test_a_plan_is_held_to_the_product_of_the_normed_rows():
    functions = {"producer-fused INT8": BASELINES["producer-fused INT8"]}
    assert len(perf.test_perf_matmul_int8(functions, [(17, K, N)])) == 1
