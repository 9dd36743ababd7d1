"""The timer against a GPU whose true times are known, and liars that it must expose."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from checks.bench import measure
from checks.bench.measure import Refused, time_in_graphs_us, time_us
from checks.simulated.gpu import SimulatedGPU
from kernels.runtime import INTERPRETED


class GPU(SimulatedGPU):
    """A simulated GPU with what the timer needs beyond events: waiting for one stream, and CUDA graphs.

    A replay leaves out the last `lost` launches. `effects`, by a kernel's name: what a replayed launch writes.
    """

    def __init__(self, lost: int = 0, **numbers):
        super().__init__(**numbers)
        self.lost, self._captured, self.effects = lost, None, {}

    def wait(self):
        self._now_us = max(self._now_us, self._free_us.get(0, 0.0)) + self.synchronize_us

    def launch(self, kernel):
        if self._captured is None or kernel.kind == "flush":
            super().launch(kernel)
        else:
            self._captured.append(kernel)

    def capture(self, calls):
        self._captured = []
        result = calls()
        kernels, self._captured = self._captured[:len(self._captured) - self.lost], None

        def replay():
            launch_us, self.launch_us = self.launch_us, 0.0
            for kernel in kernels:
                super(GPU, self).launch(kernel)
                self.effects.get(kernel.name, lambda: None)()
            self.launch_us = launch_us
        return replay, result


def test_every_median_is_the_true_time_whatever_the_gpu_does():
    """Launches that nobody waits for, compilation, a cache that would keep the operands, a clock that wakes up."""
    gpu = GPU(launch_us=8, wake_us=300)
    sides = {"short": gpu.kernel("short", {"x": 4e6}, compile_us=3e5),
             "would be cached": gpu.kernel("cached", {"x": 4e6, "w": 30e6}, {"y": 4e6}),
             "long": gpu.kernel("long", {"z": 400e6}), "arithmetic": gpu.kernel("arithmetic", {"x": 4e6}, flops=80e9)}
    timings = time_us(sides, gpu=gpu)
    assert {name: t.median_us for name, t in timings.items()} == pytest.approx(
        {name: side.cold_us for name, side in sides.items()})
    assert all(t.low_us <= t.median_us <= t.high_us for t in timings.values())


def reasons(sides, gpu, **options):
    with pytest.raises(Refused) as refused:
        time_us(sides, gpu=gpu, **options)
    honest = refused.value.timings["honest"]
    assert honest.median_us == pytest.approx(sides["honest"].cold_us)
    return refused.value.reasons


def test_work_in_another_stream_is_exposed():
    gpu = GPU()
    sides = {"honest": gpu.kernel("honest", {"x": 400e6}), "elsewhere": gpu.kernel("elsewhere", {"x": 400e6}, stream=1)}
    assert "go on in another stream" in reasons(sides, gpu)["elsewhere"]


def test_a_result_kept_from_an_earlier_call_is_exposed():
    gpu = GPU()
    once = gpu.kernel("once", {"x": 40e6})
    sides = {"honest": gpu.kernel("honest", {"x": 40e6}), "kept": lambda: once.calls or once()}
    assert reasons(sides, gpu) == {"kept": "it took no time, so it did nothing"}


def test_a_call_that_sometimes_leaves_out_its_work_is_exposed():
    gpu = GPU()
    work = gpu.kernel("work", {"x": 40e6})
    calls = []

    def lazy():
        calls.append(1)
        if len(calls) % 15:
            work()

    sides = {"honest": gpu.kernel("honest", {"x": 40e6}), "lazy": lazy}
    assert "did each call do its work?" in reasons(sides, gpu)["lazy"]


def test_times_that_spread_too_wide_are_refused():
    gpu = GPU()
    sizes = {"calls": 0}

    def noisy():
        sizes["calls"] += 1
        gpu.kernel("noisy", {"x": 40e6 * (1 + sizes["calls"] % 4 / 3)})()

    sides = {"honest": gpu.kernel("honest", {"y": 40e6}), "noisy": noisy}
    assert "a spread of" in reasons(sides, gpu, repeats=20)["noisy"]
    assert sizes["calls"] > 20 + 40 + 80


def test_a_clock_that_sags_slows_all_sides_alike():
    gpu = GPU(sag=0.3, heat_us=5000)
    one, other = (gpu.kernel(name, flops=160e9) for name in ("one", "other"))
    timings = time_us({"one": one, "other": other}, repeats=40, gpu=gpu)
    assert timings["one"].median_us == pytest.approx(timings["other"].median_us, rel=0.01)
    assert timings["one"].median_us > 1.1 * one.cold_us


def test_in_a_graph_rotated_weights_come_from_memory():
    gpu = GPU(launch_us=50)
    weights = [gpu.kernel("product", {f"w{i}": 8e6}) for i in range(10)]
    warm = gpu.kernel("warm", {"w": 8e6})
    timings = time_in_graphs_us({"rotated": lambda i: weights[i](), "warm": lambda i: warm()}, copies=10, gpu=gpu)
    assert timings["rotated"].median_us == pytest.approx(weights[0].cold_us)
    assert timings["warm"].median_us < 0.8 * warm.cold_us  # why the weights must rotate


@pytest.mark.parametrize("lost", [0, 1])
def test_a_graph_of_one_call_too_few_is_exposed(lost):
    gpu, found = GPU(lost), {}
    results = [torch.zeros(3) for _ in range(64)]
    kernels = [gpu.kernel(f"product {i}", {f"w{i}": 8e6}) for i in range(64)]
    gpu.effects = {f"product {i}": lambda y=y: y.fill_(7) for i, y in enumerate(results)}

    def product(i):
        kernels[i]()
        return results[i]

    time_in_graphs_us({"product": product}, copies=64, gpu=gpu, check=lambda name, y: found.update({name: y.clone()}))
    assert found["product"].isnan().all() if lost else (found["product"] == 7).all()


def test_what_cannot_be_captured_is_refused_and_costs_no_other():
    gpu = GPU()
    kernel = gpu.kernel("product", {"w": 8e6})

    def fails(i):
        raise ValueError("operation not permitted when stream is capturing")

    with pytest.raises(Refused) as refused:
        time_in_graphs_us({"honest": lambda i: kernel(), "fails": fails}, copies=4, gpu=gpu)
    assert "cannot be captured" in refused.value.reasons["fails"] and list(refused.value.timings) == ["honest"]


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_without_a_gpu_no_time_is_given_out_as_a_speed():
    with pytest.raises(RuntimeError, match="no speed to measure"):
        time_us({"nothing": lambda: None})


@pytest.mark.skipif(INTERPRETED, reason="there is no GPU")
@pytest.mark.parametrize("mode", ["eager", "idle"])
def test_on_the_gpu_a_longer_copy_takes_longer(mode):
    short, long = (torch.empty(n, dtype=torch.int8, device="cuda") for n in (1 << 20, 1 << 28))
    times = time_us({"short": short.clone, "long": long.clone}, mode=mode)
    assert 0 < times["short"].low_us <= times["short"].median_us < times["long"].median_us


@pytest.mark.skipif(INTERPRETED, reason="there is no GPU")
def test_work_in_another_stream_is_exposed_on_the_gpu():
    stream, x = torch.cuda.Stream(), torch.empty(1 << 30, dtype=torch.int8, device="cuda")

    def elsewhere():
        with torch.cuda.stream(stream):
            x.zero_()

    with pytest.raises(Refused, match="another stream"):
        time_us({"elsewhere": elsewhere})


def test_the_monitor_gives_least_median_and_largest(tmp_path, monkeypatch):
    fake = tmp_path / "nvidia-smi"
    fake.write_text('#!/bin/sh\n[ "$*" = "--query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu '
                    '--format=csv,noheader,nounits --id=0" ] && echo 1980, 3201, 650.5, 48\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(measure, "POLL_S", 0.02)
    with measure.Monitor() as monitor:
        for _ in range(500):
            if len(monitor.readings) >= 2:
                break
            monitor._end.wait(0.01)
        assert monitor.since(0) == {"sm_mhz": [1980] * 3, "memory_mhz": [3201] * 3, "power_w": [650.5] * 3,
                                    "temperature_c": [48] * 3}
        assert monitor.since(float("inf")) is None


@pytest.mark.parametrize("mode, queued", [
    ("eager", ["wait", "write"]), ("graph", ["write"]), ("idle", ["wait", "write", "synchronize"])])
def test_what_comes_before_a_timed_call_on_a_gpu(monkeypatch, mode, queued):
    done = []
    gpu = object.__new__(measure.MeasuringGPU)
    gpu.mode, gpu._flush = mode, SimpleNamespace(zero_=lambda: done.append("write"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: done.append("wait"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("synchronize"))
    gpu.flush_l2()
    assert done == queued


@pytest.mark.parametrize("times, widest, doubt", [
    ([10.0] * 10, 0.4, ""), ([0.5] * 10, 0.4, ""), ([0.0] * 10, 0.4, "it took no time"),
    ([100.0] * 19 + [49.0], 0.4, "one call took 49.0 µs and the median is 100.0"), ([100.0] * 19 + [51.0], 0.4, ""),
    ([100.0] * 11 + [139.0] * 9, 0.4, ""), ([100.0] * 11 + [141.0] * 9, 0.4, "took 100.0 to 141.0 µs, a spread of 41%"),
    ([4.0] * 11 + [5.9] * 9, 0.4, ""), ([4.0] * 11 + [6.2] * 9, 0.4, "a spread of 55%"),  # below what events can tell
])
def test_where_a_time_is_doubted(times, widest, doubt):
    (timing, said), = measure._timings({"side": times}, widest).values()
    assert (doubt in said) if doubt else said == ""
    assert timing.low_us <= timing.median_us <= timing.high_us and timing.median_us == sorted(times)[len(times) // 2]


def test_the_spread_is_that_of_the_middle_80_percent():
    assert measure.Timing(10.0, 8.0, 14.0).spread == 0.6
    (timing, _), = measure._timings({"side": [float(n) for n in range(101)]}, 9).values()
    assert (timing.low_us, timing.median_us, timing.high_us) == (10, 50, 90)
    assert measure.WIDEST == {"eager": 0.4, "idle": 1.5, "graph": 0.2, "host": 1.5}


def test_a_wide_spread_is_tried_again_with_more_calls(monkeypatch):
    asked = []

    def raw(sides, gpu, repeats, warmup):
        asked.append((list(sides), repeats, warmup))
        return {name: [10.0] * 11 + [15.0] * 9 for name in sides}

    monkeypatch.setattr(measure.timing, "time_us", raw)
    with pytest.raises(Refused, match="at most 40%"):
        time_us({"a": lambda: None}, repeats=5, warmup=2, gpu=GPU())
    assert asked == [(["a"], 5, 2), (["a"], 10, 1), (["a"], 20, 1)]
    asked.clear()
    assert time_us({"a": lambda: None}, mode="idle", gpu=GPU())["a"].median_us == 10 and asked == [(["a"], 20, 3)]


@pytest.mark.parametrize("copies, calls", [(1, 64), (5, 65), (64, 64), (70, 70)])
def test_a_graph_holds_whole_rounds_of_the_copies(copies, calls):
    used = []

    class Capturing(GPU):
        def capture(self, all_calls):
            all_calls()
            return self.kernel("graph", {"w": 4e6 * calls}), None

    found = time_in_graphs_us({"side": used.append}, copies, gpu=Capturing())
    assert used == [i % copies for i in range(calls)]
    assert found["side"].median_us == pytest.approx(GPU().kernel("k", {"w": 4e6 * calls}).cold_us / calls)


@pytest.mark.parametrize(("spread", "attempts", "refused"), [(1.19, 1, False), (1.3, 3, True)])
def test_a_graph_is_replayed_again_while_it_spreads(monkeypatch, spread, attempts, refused):
    asked, raw = [], [10.0] * 11 + [10.0 * spread] * 9
    monkeypatch.setattr(measure.timing, "time_us", lambda replays, gpu, repeats, warmup: (
        asked.append((list(replays), repeats, warmup)) or {name: [64 * us for us in raw] for name in replays}))
    gpu = SimpleNamespace(capture=lambda calls: (lambda: None, None), synchronize=lambda: None)
    with pytest.raises(Refused, match=r"^side: .*\(at most 20% is accepted") if refused else contextlib.nullcontext():
        time_in_graphs_us({"side": lambda i: None}, 1, 5, gpu=gpu)
    assert asked == [(["side"], 5 << attempt, 2) for attempt in range(attempts)]


def test_a_replay_is_waited_for_before_it_is_checked(monkeypatch):
    did = []
    monkeypatch.setattr(measure.timing, "time_us", lambda replays, *_, **__: did.append("timed") or {"side": [6.4]})
    gpu = SimpleNamespace(synchronize=lambda: did.append("waited for"), capture=lambda calls: (
        lambda: did.append("replayed"), did.append("captured")))
    time_in_graphs_us({"side": lambda i: None}, 1, gpu=gpu, check=lambda name, result: did.append(f"{name} checked"))
    assert did == ["captured", "replayed", "waited for", "side checked", "timed"]


def test_codes_are_made_unusable_before_a_graph_is_checked():
    gpu, found = GPU(lost=64), {}
    codes, kernel = torch.zeros(3, dtype=torch.int8), gpu.kernel("k", {"w": 8e6})

    def quantize(i):
        kernel()
        return codes, torch.ones(3)

    with pytest.raises(Refused, match="it took no time"):
        time_in_graphs_us({"quantize": quantize}, 1, gpu=gpu, check=lambda name, result: found.update({name: result}))
    assert found["quantize"][0].tolist() == [-128] * 3 and found["quantize"][1].isnan().all()


@pytest.mark.parametrize("own, behind, exposed", [
    (50.0, 15.0, False), (50.0, 60.0, True), (5_000.0, 60.0, True), (20_000.0, 60.0, False), (20_000.0, 400.0, True)])
def test_work_in_another_stream_is_exposed_from_a_bound_on(own, behind, exposed):
    now = [0.0]
    left = [0.0]

    def synchronize():
        now[0] += left[0]
        left[0] = 0.0

    def wait():
        now[0] += own

    gpu = SimpleNamespace(synchronize=synchronize, host_us=lambda: now[0], wait=wait)
    assert bool(measure._elsewhere(lambda: left.__setitem__(0, behind), gpu)) == exposed


def test_the_monitor_looks_at_what_it_read_since():
    monitor = measure.Monitor()
    monitor.readings = [(0.5, [9.0] * 4), (1.0, [1.0, 10.0, 100.0, 40.0]), (2.0, [5.0, 30.0, 300.0, 60.0]),
                        (3.0, [2.0, 20.0, 200.0, 50.0])]
    assert monitor.since(1.0) == {"sm_mhz": [1, 2, 5], "memory_mhz": [10, 20, 30], "power_w": [100, 200, 300],
                                  "temperature_c": [40, 50, 60]}
    assert monitor.since(3.5) is None


def test_the_hosts_time_is_that_of_calls_it_does_not_wait_for():
    class Host:
        now, waited = 0.0, []

        def host_us(self):
            return self.now

        def synchronize(self):
            self.waited.append(self.now)
            self.now += 1000

        def wait(self):
            pass

    gpu = Host()

    def call(us):
        gpu.now += us

    timings = time_us({"a": lambda: call(3), "b": lambda: call(5)}, 7, mode="host", gpu=gpu)
    assert {name: (t.low_us, t.median_us) for name, t in timings.items()} == {"a": (3, 3), "b": (5, 5)}
