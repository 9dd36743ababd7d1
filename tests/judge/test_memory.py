"""Poison, bands, and one watched call."""

import contextlib
import json
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from checks.judge import memory
from checks.judge.attempt import attempt, deadline, loaded, root_cause, stored, student_line
from checks.judge.execution import attempt_executed
from checks.judge.exercise import numbers
from checks.judge.launches import Access, Launch
from checks.judge.memory import BAND, Arena, bits, is_poison, poison_
from kernels.hello import vector_add
from kernels.runtime import device

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int16, torch.int32, torch.int64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_poison_is_known_again_and_is_no_right_result(dtype):
    tensor = poison_(torch.ones(2, 3, dtype=dtype))
    assert is_poison(tensor).all() and is_poison(tensor.T).all()
    tensor[0, 1] = 1
    assert is_poison(tensor).tolist() == [[True, False, True], [True, True, True]]
    if dtype.is_floating_point:
        assert tensor.isnan().sum() == 5 and not is_poison(torch.full((2,), float("nan"), dtype=dtype)).any()
    else:
        assert tensor.min() < -100 or tensor.max() > 10_000


def test_what_has_no_pattern_is_left_alone():
    for tensor in (torch.ones(2, dtype=dtype) for dtype in (torch.bool, torch.complex64, torch.complex128)):
        assert torch.equal(poison_(tensor.clone()), tensor)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool, torch.complex64, torch.complex128])
def test_bits_are_equal_where_the_numbers_are_and_of_nan_too(dtype):
    x = torch.tensor([0, 1, 3]).to(dtype)
    if dtype.is_floating_point:
        x[1] = float("nan")
    y = x.clone()
    assert torch.equal(bits(x), bits(y)) and bits(x).shape == x.shape
    y[2] = 0
    assert (bits(x) == bits(y)).tolist() == [True, True, False]
    whole = getattr(torch, f"int{8 * dtype.itemsize}", None)
    assert bits(x).dtype == (dtype if dtype == torch.bool or dtype.is_complex else whole)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool])
@pytest.mark.parametrize("strides", [(3, 1), (1, 2), (7, 2)])
def test_a_placed_tensor_is_a_copy_between_two_bands(dtype, strides):
    arena, tensor = Arena(device()), torch.arange(20).to(dtype).as_strided((2, 3), strides)
    placed = arena.place(tensor, "x")
    assert torch.equal(placed.cpu(), tensor) and placed.stride() == strides and placed.storage_offset() == BAND
    assert placed.untyped_storage().nbytes() == (2 * BAND + 1 + strides[0] + 2 * strides[1]) * placed.element_size()
    assert arena.broken_bands() == []
    placed.fill_(1)
    assert arena.broken_bands() == []


@pytest.mark.parametrize("at", [0, BAND - 1, BAND + 6, 2 * BAND + 5])
def test_a_write_in_a_band_is_told_with_the_tensor_s_name(at):
    arena = Arena(device())
    arena.place(torch.ones(6), "w")
    x = arena.place(torch.ones(2, 3), "x")
    x.as_strided((1,), (1,), at).fill_(2)
    assert arena.broken_bands() == ["x"]


@pytest.mark.parametrize("at", [BAND - 1, BAND + 13])
def test_a_write_beside_a_view_is_told_one_between_rows_is_not(at):
    arena = Arena(device())
    x = arena.place(torch.ones(20).as_strided((2, 3), (10, 1)), "x")
    x.as_strided((7,), (1,), BAND + 3).fill_(2)
    assert arena.broken_bands() == []
    x.as_strided((1,), (1,), at).fill_(2)
    assert arena.broken_bands() == ["x"]


def test_rows_far_apart_take_no_memory_between_them(monkeypatch):
    poisoned = []
    monkeypatch.setattr(memory, "poison_", lambda tensor: poisoned.append(tensor.numel()) or tensor)
    Arena(device()).place(torch.ones(20).as_strided((2, 3), (10, 1)), "x")
    Arena(device()).place(torch.ones(2, 3), "x")
    assert poisoned == [BAND, BAND, 2 * BAND + 6]


def test_only_what_is_allocated_inside_is_poisoned_and_banded():
    makers = [lambda **kw: torch.empty(4, **kw), lambda **kw: torch.empty_like(torch.zeros(4), **kw),
              lambda **kw: torch.empty_strided((2, 2), (2, 1), **kw), lambda **kw: torch.zeros(1).new_empty(4, **kw),
              lambda **kw: torch.zeros(1).new_empty_strided((2, 2), (2, 1), **kw)]
    originals = torch.empty, torch.Tensor.new_empty
    for make in makers:
        arena = Arena(device())
        with arena.poisoning_empty():
            assert is_poison(made := make(dtype=torch.float16)).all() and made.storage_offset() == BAND
            made.as_strided((1,), (1,), 0).fill_(1)
            assert make(dtype=torch.bool).storage_offset() == 0  # it has no pattern
            assert torch.empty(0).numel() == 0 and torch.empty_strided((2, 2), (1, 2)).storage_offset() == 0
        assert arena.broken_bands() == ["an output"]
    assert (torch.empty, torch.Tensor.new_empty) == originals
    with pytest.raises(ValueError), Arena(device()).poisoning_empty():
        raise ValueError
    assert (torch.empty, torch.Tensor.new_empty) == originals


def test_a_call_is_stopped_and_the_handler_before_is_back():
    def never():
        while True:
            pass
    before = signal.signal(signal.SIGALRM, handler := lambda *_: None)
    try:
        assert isinstance(attempt(never, {}, 0.05).error, TimeoutError)
        assert attempt(lambda: 3, {}, 0.05).outputs == (3,)
        assert signal.getsignal(signal.SIGALRM) is handler and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("attempt_by", [attempt, attempt_executed])
def test_a_call_that_catches_every_exception_is_stopped(attempt_by):
    def stubborn():
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with contextlib.suppress(Exception):
                time.sleep(2)

    assert isinstance(attempt_by(stubborn, {}, 0.02).error, TimeoutError)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_outside_the_main_thread_there_is_no_time_limit():
    found = []
    thread = threading.Thread(target=lambda: found.append(attempt(lambda n: n, {"n": 3}, 0.05)))
    thread.start()
    thread.join()
    assert found[0].outputs == (3,) and found[0].error is None


def test_what_a_call_returns_and_changes():
    tried = attempt(lambda x, n: (x, n), {"x": torch.tensor([1.0, float("nan")]), "n": 3}, 1)
    assert len(tried.outputs) == 2 and tried.changed == tried.broken == []
    assert attempt(lambda x: x.fill_(0.5), {"x": torch.ones(2)}, 1).changed == ["x"]
    assert attempt(lambda x: x.fill_(0.5), {"x": torch.full((2,), 0.5)}, 1).changed == []


def test_the_first_error_and_the_last_line_outside_libraries():
    def inner():
        raise KeyError("deep")

    def outer():
        try:
            inner()
        except KeyError as error:
            raise RuntimeError("wrapped") from error
    tried = attempt(outer, {}, 1)
    assert isinstance(tried.error, KeyError) and tried.line == 'raise KeyError("deep")'
    assert student_line(None) is None and root_cause(error := ValueError()) is error
    text_not_kept = attempt(lambda: exec("1 / 0"), {}, 1).line
    assert text_not_kept.startswith("text_not_kept = attempt(")
    for in_a_library in (lambda: torch.nn.functional.linear(torch.ones(2), None),
                         lambda: torch.nn.Linear(2, 2)(torch.ones(3)), lambda: vector_add(torch.ones(2), torch.ones(3)),
                         lambda: numbers(1), lambda: json.loads("x")):  # Python's own are no libraries here
        tried = attempt(in_a_library, {}, 1)
        assert tried.error is not None and ("lambda: " in tried.line or "JSONDecodeError" in tried.line)


def lanes(kind: str, tensor: str, *offsets: int, off: tuple[int, ...] = ()) -> Access:
    """An access to these offsets; those in `off` are masked."""
    return Access(kind, tensor, (0, 0, 0), np.array(offsets), np.array([offset not in off for offset in offsets]), 4)


@pytest.mark.parametrize("view", [
    lambda x: x, lambda x: x.T, lambda x: x[:, ::2], lambda x: x[::2], lambda x: x[:, :1], lambda x: x.view(-1),
    lambda x: x.view(2, 2, 6).permute(2, 0, 1)])
@pytest.mark.parametrize("described", [False, True])
def test_which_elements_of_an_argument_were_touched(view, described):
    x, other = view(torch.zeros(4, 6)), torch.zeros(9)
    places = torch.arange(24).as_strided(x.shape, x.stride())  # the offset of each element
    touched, later = (places.flatten()[[0, -1]].tolist(), places.flatten()[[1]].tolist())
    argument = SimpleNamespace(base=x) if described else x
    launches = [Launch(None, {"x_ptr": argument, "y_ptr": other, "N": 3}, [], {}, [
        lanes("load", "x_ptr", *touched, 10**6, off=(10**6,)), lanes("store", "y_ptr", *later), lanes("store", "x_ptr",
            *later)]),
        Launch(None, {"a_ptr": argument}, [], {}, [lanes("load", "a_ptr", *later), lanes("store", "a_ptr", *touched[:1])])]
    assert torch.equal(loaded(launches[:1], x), torch.isin(places, torch.tensor(touched)))
    assert torch.equal(loaded(launches, x), torch.isin(places, torch.tensor(touched + later)))
    assert torch.equal(stored(launches, x), torch.isin(places, torch.tensor(touched[:1] + later)))
    assert not loaded(launches, other).any() and stored(launches, other).sum() == 1 and not loaded([], x).any()


def test_a_time_limit_comes_again_at_last_each_second(monkeypatch):
    """For code that catches the first one."""
    timers = []
    monkeypatch.setattr(signal, "setitimer", lambda *given: timers.append(given))
    for seconds, again in ((0.02, 0.2), (0.1, 1.0), (20, 1.0)):
        with deadline(seconds):
            pass
        assert timers == [(signal.ITIMER_REAL, seconds, again), (signal.ITIMER_REAL, 0)]
        timers.clear()


def test_on_a_gpu_a_call_lasts_until_its_kernels_have_ended(monkeypatch):
    order = []

    def synchronize():
        order.append("waited")
        if len(order) == 4:
            raise RuntimeError("an illegal access")

    monkeypatch.setattr("checks.judge.attempt.INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    for error in (None, "an illegal access"):
        tried = attempt(lambda n: order.append("called"), {"n": 3}, 5)
        assert (tried.error and str(tried.error)) == error
    assert order == ["called", "waited"] * 2


@pytest.mark.parametrize("shape", [(3, 5), (4,), (2, 3, 4), (0, 5)])
def test_what_is_allocated_inside_has_the_shape_asked_for(shape):
    arena = Arena(device())
    with arena.poisoning_empty():
        made = torch.empty(shape, device=device(), dtype=torch.int16)
        like = torch.empty_like(made)
    for tensor in (made, like):
        assert tensor.shape == shape and tensor.is_contiguous() and tensor.dtype == torch.int16 and is_poison(tensor).all()


def test_a_copy_with_the_strides_of_a_view():
    view = torch.arange(40, dtype=torch.int16).view(5, 8).T[1:4, ::2]
    copy = memory.strided_copy(view)
    assert torch.equal(copy, view) and (copy.stride(), copy.dtype) == (view.stride(), torch.int16)
    assert copy.data_ptr() != view.data_ptr()
    assert not poison_(torch.zeros(3, dtype=torch.bool)).any(), "of Booleans no pattern is none"
