"""Lesson 03 beyond the contract: other right ways pass, wrong ones get a sentence, and its pictures show what they say."""

import statistics
from types import SimpleNamespace

import pytest
import torch

from checks.course.notebooks import LESSONS, exercises_in, function_source, read
from checks.exercises import EXERCISES
from checks.exercises.measuring import BENCHMARK, MEDIAN, TIME_US
from checks.judge.source import define
from checks.judge.verdict import judge
from checks.pictures import measuring
from checks.simulated.gpu import SimulatedGPU
from checks.simulated.scenarios import BENCHMARKS, TIMERS, try_benchmark
from kernels import cost, timing
from kernels.runtime import INTERPRETED


def waits_and_asks_after_each_call(sides, gpu, repeats, warmup):
    """It warms up in turns, flushes before it makes events, and turns the order around."""
    for _ in range(warmup):
        for call in sides.values():
            gpu.flush_l2()
            call()
    times = {name: [] for name in sides}
    for _ in range(repeats):
        for name in reversed(sides):
            gpu.flush_l2()
            start = gpu.event()
            start.record()
            sides[name]()
            stop = gpu.event()
            stop.record()
            gpu.synchronize()
            times[name].append(start.elapsed_us(stop))
    return times


def makes_all_events_beforehand(sides, gpu, repeats, warmup):
    """It waits once after the warm-up, and flushes twice."""
    for call in sides.values():
        for _ in range(warmup):
            call()
    gpu.synchronize()
    pairs = {name: [(gpu.event(), gpu.event()) for _ in range(repeats)] for name in sides}
    for turn in zip(*pairs.values(), strict=True):
        for call, (start, stop) in zip(sides.values(), turn, strict=True):
            gpu.flush_l2()
            gpu.flush_l2()
            start.record()
            call()
            stop.record()
    gpu.synchronize()
    return {name: [start.elapsed_us(stop) for start, stop in pairs[name]] for name in sides}


@pytest.mark.parametrize("timer", [waits_and_asks_after_each_call, makes_all_events_beforehand])
def test_other_right_timers_pass(timer):
    verdict = judge(TIME_US, timer)
    assert verdict.passed, verdict.message


def test_a_benchmark_with_a_loop_of_its_own_passes():
    def loop(old, new, gpu, bytes_read, bytes_written, repeats, warmup):
        times = waits_and_asks_after_each_call({"o": old, "n": new}, gpu, repeats, warmup)
        old_us, new_us = (sum(sorted(times[name])[(repeats - 1) // 2:repeats // 2 + 1]) / (2 - repeats % 2) for name in "on")
        return (bytes_read + bytes_written) / 1e9 / (new_us / 1e6), old_us / new_us

    verdict = judge(BENCHMARK, loop)
    assert verdict.passed, verdict.message


@pytest.mark.parametrize(("result", "said"), [
    (None, "expected a dict with the times of each side. Is a `return` missing?"),
    ({"first": [1.0]}, "the result has the names ['first']"),
    ({"first": 1.0, "second": 1.0}, "for 'first' there is 1.0"),
    ({"first": [], "second": []}, "for 'first' there is []"),
])
def test_a_timer_s_result_of_the_wrong_form_is_explained(result, said):
    def timer(sides, gpu, repeats, warmup):
        return result

    verdict = judge(TIME_US, timer)
    assert not verdict.passed and said in verdict.message


@pytest.fixture
def no_repair(monkeypatch):
    """As in the grader, which runs no changed source of a student's."""
    monkeypatch.setattr("checks.judge.diagnosis.repaired", lambda *_: None)


def typed(exercise, *edits):
    """The verdict on the answer with these edits: unlike a mutant's, they are a student's own."""
    return judge(exercise, exercise.edited(*edits))


WARM_IN_TURNS = ("for call in sides.values():\n        for _ in range(warmup):",
                 "for _ in range(warmup):\n        for call in sides.values():")
FLUSH = "            gpu.flush_l2()  # keeps the GPU busy, too, while the call is queued: no launch is timed\n"
ROUNDS = "    for _ in range(repeats):\n        for name, call in sides.items():\n"
EVENTS = "            start, stop = gpu.event(), gpu.event()\n"
TIMES = "return {name: [start.elapsed_us(stop)"
WARM = "    for call in sides.values():\n        for _ in range(warmup):\n            call()\n"


@pytest.mark.usefixtures("no_repair")
@pytest.mark.parametrize(("edits", "said"), [
    ([WARM_IN_TURNS, (FLUSH, "")], "came from the cache: flush it before each timed call"),
    ([WARM_IN_TURNS, (FLUSH, ""), ("start.record()\n", "start.record()\n            gpu.flush_l2()\n")],
     "The flush is in the time"),
    ([(TIMES, TIMES + " / 1000")], "1,000 times too small"),
    ([(TIMES, TIMES + " * 1000")], "1,000 times too large"),
    ([(EVENTS, ""), (ROUNDS, EVENTS[8:] + ROUNDS)], "make new events for each call"),
    ([(WARM, ""), (ROUNDS, "    for name, call in sides.items():\n        for _ in range(warmup):\n            call()\n"
                           "        for _ in range(repeats):\n")], "warm up all sides, and only then time them"),
    ([WARM_IN_TURNS, (TIMES, "return {name: sorted(start.elapsed_us(stop)"), ("in pairs]", "in pairs)")],
     "in the order of the calls"),
])
def test_a_timer_like_no_mutant_gets_a_sentence_by_its_numbers(edits, said):
    verdict = typed(TIME_US, *edits)
    assert verdict.mistake is None and said in verdict.message


@pytest.mark.usefixtures("no_repair")
@pytest.mark.parametrize(("edits", "said"), [
    ([("raise RuntimeError(", "raise ValueError(")], "with ValueError: expected a RuntimeError"),
    ([('f"from {low:.2f} to {high:.2f} us around {median:.2f} us: too far apart"', "")], "it refuses without a message"),
    ([("ascending[-1 - tenth]", "ascending[-2 - tenth]")], "high is call 34 of these 40; expected call 35"),
    ([("ascending[tenth]", "ascending[tenth + 1]")], "low is call 5 of these 40; expected call 4"),
    ([("return median, low, high", "return low, median, high")], "expected (median, low, high)"),
])
def test_a_wrong_median_and_spread_gets_a_sentence(edits, said):
    assert said in typed(MEDIAN, *edits).message


@pytest.mark.usefixtures("no_repair")
@pytest.mark.parametrize(("edit", "said"), [
    ("num_bytes / us / 1e9", "10 to the power of -6 times"), ("us * 1e3 / num_bytes", "Upside down."),
])
def test_a_speed_in_another_unit_is_not_called_upside_down(edit, said):
    assert said in typed(EXERCISES["achieved_gb_per_s"], ("num_bytes / us / 1e3", edit)).message


def test_a_benchmark_that_times_the_flush_is_not_undivided():
    def flushed(old, new, gpu, bytes_read, bytes_written, repeats, warmup):
        def time(call):
            start, stop = gpu.event(), gpu.event()
            start.record()
            for _ in range(repeats):
                gpu.flush_l2()
                call()
            stop.record()
            gpu.synchronize()
            return start.elapsed_us(stop) / repeats

        return (bytes_read + bytes_written) / time(new) / 1e3, time(old) / time(new)

    verdict = judge(BENCHMARK, flushed)
    assert "The flush is in the time" in verdict.message and "divide" not in verdict.message


def test_the_median_of_a_torch_user_is_told_apart():
    def with_torch(times_us, most):
        median, low, high = timing.median_and_spread(times_us, most)
        return torch.tensor(times_us).median().item(), low, high

    verdict = judge(MEDIAN, with_torch)
    assert verdict.mistake == "the lower of the two middle calls"


def test_a_benchmark_that_returns_one_number_is_asked_for_two():
    def benchmark(*arguments):
        return 1.0

    verdict = judge(BENCHMARK, benchmark)
    assert "1 value(s); expected 2: GB/s, speed-up" in verdict.message


def test_a_benchmark_that_returns_no_number_is_told_so():
    assert "'fast'; expected a number" in judge(BENCHMARK, lambda *arguments: ("fast", 2.0)).message


def lesson_function(name):
    """The function of that name in a cell of the lesson, with ours around it."""
    for cell in read(LESSONS / "03_measuring.ipynb").cells:
        if cell.cell_type == "code" and f"def {name}(" in cell.source:
            return define(cell.source + "\n", name, dict(vars(timing)))
    raise LookupError(name)


def test_the_lesson_s_broken_benchmark_tells_all_eight_lies():
    broken = lesson_function("broken_benchmark")
    assert len({made.lie for made in BENCHMARKS.values()}) == 8
    mended = {"a perfect GPU, 10 calls": "GB/s", "the same function on both sides": "speed-up"}
    for name in BENCHMARKS:
        said = try_benchmark(broken, name)
        truth = [want.value for want in BENCHMARK.oracle(name)]
        wrong = [abs(a - b) > want.tolerance for a, b, want in zip(said, truth, BENCHMARK.oracle(name), strict=True)]
        assert any(wrong), name
        if name in mended:
            assert wrong == [mended[name] == "GB/s", mended[name] == "speed-up"]


def test_each_line_of_the_table_shows_one_lie():
    """The first lie shows in the GB/s of several calls: the first GPU has them, and one whose GB/s are not shown."""
    first, *others = BENCHMARKS.values()
    assert first.repeats > 1 and all(made.repeats == 1 for made in others if made.steady)


def test_on_each_timer_s_gpu_another_mistake_shows():
    """For each scenario there is a mutant that it is the first to find."""
    found = {judge(TIME_US, TIME_US.mutated(mutant), seed=1).outcome.case.name for mutant in TIME_US.mutants}
    assert found >= set(TIMERS) - {"kernels shorter than their launches"}  # others find those mutants, by less


def test_every_wrong_way_is_wrong_and_the_timer_right(monkeypatch):
    drawn = []
    monkeypatch.setattr(measuring, "_draw_times", lambda axes, times, truth, where: drawn.append((times, truth)))
    monkeypatch.setattr(measuring, "INTERPRETED", True)
    measuring.show_wrong_times(timing.time_us)
    ((times, truth),) = drawn
    assert times.pop("your timer") == pytest.approx(truth)
    assert all(abs(us / truth - 1) > 0.3 for us in times.values())


def test_the_table_of_lies_marks_wrong_numbers_alone(capsys):
    measuring.show_lies(timing.benchmark)
    assert "✗" not in capsys.readouterr().out
    measuring.show_lies(lesson_function("broken_benchmark"))
    assert all("✗" in line for line in capsys.readouterr().out.splitlines()[1:])


def test_nothing_is_drawn_of_a_stub(capsys):
    made = {}
    for name, cell in exercises_in(read(LESSONS / "03_measuring.ipynb")).items():
        made[name] = define(function_source(cell), name, dict(vars(EXERCISES[name].module)))
    assert measuring.show_timer(made["time_us"]) is None
    assert measuring.show_wrong_times(made["time_us"]) is None
    assert measuring.show_roofline(made["attainable_tflops"], made["time_us"]) is None
    assert measuring.show_gain(made["int8_gain"], made["time_us"]) is None
    measuring.show_lies(made["benchmark"])
    assert capsys.readouterr().out.count("not attempted yet") == 5


def row(function, M, mode, us):
    return {"test": "gemm", "function": function, "M": M, "N": 64, "K": 32, "mode": mode, "bytes": 1, "flops": 1,
            "median_us": us, "tflops": 1 / us}


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU, so the figures are live")
def test_the_gain_is_of_recorded_rows_of_one_weight_and_its_gpu(monkeypatch):
    rows = [row("cuBLAS FP16", M, mode, us) for M, mode, us in [(1, "graph", 8.0), (1, "eager", 9.0), (16, "eager", 12.0)]]
    rows += [row("matmul_int8", 1, "graph", 4.0), row("matmul_int8", 16, "eager", 8.0), row("matmul_int8", 16, "idle", 99.0)]
    rows += [row("matmul_int8", 1, "eager", 9.0), row("cuBLAS FP16", 16, "eager", 99.0) | {"test": "another run"}]
    roofs = {"copy_gb_per_s": 100.0, "fp16_tflops": 2.0, "int8_tops": 4.0}
    rows += [row("cuBLAS FP16", 1, "graph", 1.0) | {"N": 128}, row("another", 1, "graph", 1.0)]
    monkeypatch.setattr(measuring, "recorded", lambda: {"gpu": "Invented GPU", "rows": rows,
                                                                 "roofs": roofs})
    figure = measuring.show_gain(cost.int8_gain, timing.time_us)
    (axes,) = figure.axes
    drawn = [(list(points.get_xdata()), list(points.get_ydata())) for points in axes.lines[1:3]]
    assert drawn == [([1], [2.0]), ([16], [1.5])]  # in a graph, eager
    assert "Recorded on an Invented GPU" in axes.get_title()
    assert "N = 64, K = 32" in axes.get_xlabel()
    (axes,) = measuring.show_roofline(cost.attainable_tflops, timing.time_us).axes
    assert "memory: 100 GB/s" in [text.get_text() for text in axes.texts]


def test_the_timeline_has_a_lane_for_the_host_and_each_stream():
    gpu = SimulatedGPU()
    gpu.kernel("a", {"x": 4e6}, stream=1, compile_us=9.0)()
    timing.time_us({"b": gpu.kernel("b", {"x": 4e6})}, gpu, 1, 0)
    (axes,) = measuring.show_timeline(gpu).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Python (host)", "GPU, stream 0", "GPU, stream 1"]


def test_the_prediction_is_two_at_both_ends_and_less_between():
    def gain(M, N):
        return cost.int8_gain(M, N, 4096, 989, 1979, 4800)

    assert gain(1, 4096) == pytest.approx(2, abs=0.01)
    assert gain(16384, 2**20) == pytest.approx(2, abs=0.01)
    assert gain(16384, 4096) < statistics.fmean([gain(1, 4096), 1.6])
    assert gain(16384, 128) < 1


@pytest.mark.parametrize(("steady", "gb_per_s", "speedup", "marks"), [
    (True, 100.0, 2.0, 0), (True, 100.01, 2.0, 1), (True, 100.0, 2.001, 1),
    (False, 50.0, 2.05, 0), (False, 100.0, 2.07, 1)])
def test_a_lie_is_marked_where_the_truth_is_known(monkeypatch, capsys, steady, gb_per_s, speedup, marks):
    """On a clock that sags the true GB/s are unknown, and a speed-up is right within STEADY."""
    monkeypatch.setattr(measuring, "BENCHMARKS", {"one": SimpleNamespace(steady=steady)})
    monkeypatch.setattr(measuring, "try_benchmark", lambda *_: (gb_per_s, speedup))
    monkeypatch.setattr(measuring, "true_benchmark", lambda _: (100.0, 2.0))
    measuring.show_lies(timing.benchmark)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("one")]
    assert line.count("✗") == marks and ("?" in line) == (not steady)
