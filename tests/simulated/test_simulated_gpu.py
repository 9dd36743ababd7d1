"""The simulated GPU: each of its imperfections does what it says, and one timer after another falls for one of them."""

import pytest

from checks.simulated.gpu import SimulatedGPU


def by_host(call, gpu, iterations=1, wait=True):
    """Microseconds per call by the host's clock."""
    begin = gpu.host_us()
    for _ in range(iterations):
        call()
    if wait:
        gpu.synchronize()
    return (gpu.host_us() - begin) / iterations


def by_events(call, gpu, flush=True):
    """Microseconds of one call by events."""
    start, stop = gpu.event(), gpu.event()
    if flush:
        gpu.flush_l2()
    start.record()
    call()
    stop.record()
    gpu.synchronize()
    return start.elapsed_us(stop)


def test_a_kernel_takes_the_slower_of_traffic_and_arithmetic():
    gpu = SimulatedGPU(start_us=2, gb_per_s=4000, tflops=800)
    assert gpu.kernel("read", {"x": 40e6}).cold_us == pytest.approx(2 + 10)
    assert gpu.kernel("write", {"x": 20e6}, {"y": 20e6}).cold_us == pytest.approx(2 + 10)
    assert gpu.kernel("multiply", {"x": 40e6}, flops=16e9).cold_us == pytest.approx(2 + 20)
    for call in (gpu.kernel("read", {"x": 40e6}), gpu.kernel("multiply", {"y": 4e6}, flops=16e9)):
        assert by_events(call, gpu) == pytest.approx(call.cold_us)


def test_a_launch_does_not_wait_unless_the_gpu_is_blocking():
    read = SimulatedGPU(launch_us=5).kernel("read", {"x": 400e6})
    assert by_host(read, read.gpu, iterations=10, wait=False) == pytest.approx(5)
    read = SimulatedGPU(launch_us=5, blocking=True).kernel("read", {"x": 400e6})
    assert by_host(read, read.gpu, iterations=10, wait=False) == pytest.approx(5 + read.cold_us)


def test_events_refuse_before_the_gpu_has_passed_them():
    gpu = SimulatedGPU()
    start, stop, read = gpu.event(), gpu.event(), gpu.kernel("read", {"x": 400e6})
    with pytest.raises(RuntimeError, match="never recorded"):
        start.elapsed_us(stop)
    start.record()
    read()
    stop.record()
    with pytest.raises(RuntimeError, match="synchronize before"):
        start.elapsed_us(stop)
    gpu.synchronize()
    assert start.elapsed_us(stop) == pytest.approx(gpu.launch_us + read.cold_us)  # nothing was queued: the GPU waited


def test_who_waits_for_nothing_waits_no_time():
    gpu = SimulatedGPU(launch_us=5, synchronize_us=2)
    start, stop = gpu.event(), gpu.event()
    start.record()
    stop.record()
    assert start.elapsed_us(stop) == 0, "the GPU has passed both at once"
    gpu.kernel("read", {"x": 400e6})()
    gpu.synchronize()
    done = gpu.host_us()
    gpu.synchronize()
    assert gpu.host_us() == done + 2
    gpu.kernel("aside", {"y": 400e6}, stream=3)()
    gpu.synchronize()
    assert gpu.host_us() == pytest.approx(done + 2 + 5 + gpu.start_us + 100 + 2), "every stream is waited for"


def test_a_gpu_of_which_nothing_is_said():
    """As large a machine as the lessons' H200, whose clock is steady."""
    gpu = SimulatedGPU()
    assert (gpu.launch_us, gpu.blocking, gpu.synchronize_us, gpu.start_us) == (5, False, 2, 2)
    assert (gpu.gb_per_s, gpu.tflops, gpu.l2_bytes, gpu.l2_gb_per_s) == (4000, 800, 50e6, 12000)
    assert (gpu.wake_us, gpu.idle_clock, gpu.sag, gpu.heat_us) == (0, 0.5, 0, 2000)
    assert gpu.flush_us == pytest.approx(2 + 256e6 / 4e6) and gpu.host_us() == 0 and gpu.log == []


def test_compilation_holds_up_the_first_call_alone():
    gpu = SimulatedGPU(launch_us=5)
    read = gpu.kernel("read", {"x": 4e6}, compile_us=1e5)
    assert by_host(read, gpu, wait=False) == pytest.approx(1e5 + 5)
    assert by_host(read, gpu, wait=False) == pytest.approx(5)


def test_what_lies_in_the_cache_costs_less_until_evicted():
    gpu = SimulatedGPU(l2_bytes=50e6, gb_per_s=4000, l2_gb_per_s=12000, start_us=0)
    first, second, large = (gpu.kernel(name, {name: size}) for name, size in (("a", 24e6), ("b", 24e6), ("c", 60e6)))
    times = [by_events(call, gpu, flush=False) - gpu.launch_us for call in (first, first, second, first, large, first)]
    cold, warm = 6, 2
    assert times == pytest.approx([cold, warm, cold, warm, 15, cold])
    assert by_events(first, gpu) == pytest.approx(cold)


@pytest.mark.parametrize(("order", "cached"), [
    ("abacab", "  + + "), ("abcabc", ""), ("ababcb", "  ++ +"), ("aabbcc", " + + +"), ("abbaca", "  ++ +"),
    ("abcbab", "   + +")])
def test_the_buffer_not_used_for_the_longest_time_goes(order, cached):
    """Room for two of three buffers: + is a read from the cache."""
    gpu = SimulatedGPU(l2_bytes=50e6, gb_per_s=4000, l2_gb_per_s=12000, start_us=0)
    kernels = {name: gpu.kernel(name, {name: 24e6}) for name in "abc"}
    times = [by_events(kernels[name], gpu, flush=False) - gpu.launch_us for name in order]
    assert times == pytest.approx([2 if mark == "+" else 6 for mark in cached.ljust(6)])


def test_what_was_written_lies_in_the_cache_too():
    gpu = SimulatedGPU(start_us=0, gb_per_s=4000, l2_gb_per_s=12000)
    gpu.kernel("write", writes={"y": 12e6})()
    gpu.synchronize()
    assert by_events(gpu.kernel("read", {"y": 12e6}), gpu, flush=False) - gpu.launch_us == pytest.approx(1)


def test_another_stream_is_not_seen_by_the_events_of_this_one():
    gpu = SimulatedGPU()
    read = gpu.kernel("read", {"x": 400e6}, stream=1)
    assert by_events(read, gpu) == 0
    begin = gpu.host_us()
    read()
    gpu.synchronize()
    assert gpu.host_us() - begin > read.cold_us


def test_an_idle_gpu_wakes_up_with_work():
    gpu = SimulatedGPU(wake_us=150, idle_clock=0.5, tflops=800, start_us=0, launch_us=0)
    multiply = gpu.kernel("multiply", flops=32e9)
    assert [by_events(multiply, gpu, flush=False) for _ in range(4)] == pytest.approx([80, 80, 40, 40])


def test_the_clock_sags_under_steady_arithmetic_and_recovers():
    gpu = SimulatedGPU(sag=0.3, heat_us=1000, start_us=0, launch_us=0, tflops=800)
    multiply = gpu.kernel("multiply", flops=80e9)
    times = [by_events(multiply, gpu, flush=False) for _ in range(100)]
    assert times == sorted(times)
    assert times[0] == pytest.approx(100)
    assert times[-1] == pytest.approx(100 / 0.7, rel=0.01)
    gpu.kernel("rest", {"x": 40e9})()  # memory, not arithmetic: the clock comes back
    assert by_events(multiply, gpu, flush=False) == pytest.approx(100, rel=1e-2)


def test_an_idle_gpu_cools_down():
    gpu = SimulatedGPU(sag=0.3, heat_us=1000, start_us=0, launch_us=0, tflops=800)
    multiply = gpu.kernel("multiply", flops=80e9)
    hot = [by_events(multiply, gpu, flush=False) for _ in range(30)][-1]
    gpu.kernel("another", compile_us=1000 * 0.7)()  # the GPU waits for the host so long
    warm = by_events(multiply, gpu, flush=False)
    gpu.kernel("a third", compile_us=1e5)()
    assert 100 * 1.1 < warm < hot - 10 and by_events(multiply, gpu, flush=False) == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize(("size", "warm"), [(50e6, True), (50.1e6, False)])
def test_a_buffer_as_large_as_the_cache_fits(size, warm):
    gpu = SimulatedGPU(start_us=0, l2_bytes=50e6, gb_per_s=4000, l2_gb_per_s=12000)
    read = gpu.kernel("read", {"x": size})
    first, again = (by_events(read, gpu, flush=False) - gpu.launch_us for _ in range(2))
    assert first == pytest.approx(size / 4e6) and again == pytest.approx(size / (12e6 if warm else 4e6))


def test_the_log_tells_what_ran_where():
    gpu = SimulatedGPU(launch_us=5, synchronize_us=1, start_us=0)
    by_events(gpu.kernel("read", {"x": 40e6}, compile_us=7), gpu, flush=False)
    assert [(span.lane, span.kind, span.start_us, span.end_us) for span in gpu.log] == [
        ("stream 0", "event", 0, 0), ("host", "compile", 0, 7), ("host", "launch", 7, 12),
        ("stream 0", "kernel", 12, 22), ("stream 0", "event", 22, 22), ("host", "synchronize", 12, 23)]
