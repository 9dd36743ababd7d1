"""What our wrappers ask for is recorded once for all kernels that take the same arguments."""

import pytest
import torch
import triton
import triton.language as tl

from checks.exercises import EXERCISES
from checks.host.recorder import record
from checks.judge import recorded as kept
from checks.judge.recorded import placed, recorded
from checks.judge.source import rebind
from checks.judge.trial import prepare
from kernels.hello import vector_add_kernel

KERNELS = [pytest.param(exercise, id=exercise.name) for exercise in EXERCISES.values() if exercise.is_kernel]
X = {"x": torch.arange(12.0), "n": 12}


@triton.jit
def copies_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    tl.store(out_ptr, tl.load(x_ptr))


@triton.jit
def two_arguments_kernel(x_ptr, y_ptr):
    tl.store(y_ptr, tl.load(x_ptr))


def wrapper(x, n):
    out = torch.empty_like(x)
    vector_add_kernel[(3,)](x, x, out, n, BLOCK=4)
    return out


@pytest.fixture(autouse=True)
def recordings(monkeypatch):
    """How often host code was run on shapes; nothing is kept from before."""
    monkeypatch.setattr(kept, "_kept", {})
    asked = []
    monkeypatch.setattr(kept, "record", lambda call, inputs: (asked.append(call), record(call, inputs))[1])
    return asked


def with_kernel(kernel, wrapper=wrapper):
    call = rebind(wrapper, vector_add_kernel=kernel)
    placed(call, wrapper, kernel)
    return call


@pytest.mark.parametrize("exercise", KERNELS)
def test_another_kernel_s_recording_is_what_it_would_be(exercise, recordings):
    inputs = prepare(exercise, exercise.cases[-1], 1).inputs
    recorded(exercise.callable_for(exercise.answer_function()), inputs)
    call = exercise.callable_for(exercise.mutated(exercise.mutants[0]))
    before, found, own = len(recordings), recorded(call, inputs), record(call, inputs)
    assert found.steps == own.steps
    assert (found.inputs, found.outputs, found.operators) == (own.inputs, own.outputs, own.operators)
    assert len(recordings) - before == (exercise.name == "grouped_tile")  # a function that our kernels call


def test_host_code_runs_once_for_all_kernels(recordings):
    first, second = (recorded(with_kernel(kernel), X) for kernel in (vector_add_kernel, copies_kernel))
    assert len(recordings) == 1
    assert [recording.launches[0].kernel for recording in (first, second)] == [vector_add_kernel.fn, copies_kernel.fn]
    assert second.launches[0].name == "copies_kernel"


@pytest.mark.parametrize("inputs", [
    {"x": torch.arange(13.0), "n": 12}, {"x": torch.arange(12.0), "n": 11}, {"x": torch.arange(12.0), "n": True},
    {"x": torch.arange(12), "n": 12}, {"x": torch.arange(24.0)[::2], "n": 12}],
    ids=("shape", "number", "kind", "dtype", "strides"))
def test_other_inputs_are_recorded_anew(recordings, inputs):
    recorded(with_kernel(vector_add_kernel), {"x": torch.arange(12.0), "n": 1 if inputs["n"] is True else 12})
    recorded(with_kernel(vector_add_kernel), inputs)
    assert len(recordings) == 2


def test_a_kernel_with_other_arguments_is_refused_as_ever(recordings):
    recorded(with_kernel(vector_add_kernel), X)
    with pytest.raises(TypeError):
        recorded(with_kernel(two_arguments_kernel), X)


@triton.jit
def swapped_kernel(y_ptr, x_ptr, out_ptr, N, BLOCK: tl.constexpr):
    tl.store(out_ptr, tl.load(x_ptr))


@triton.jit
def undeclared_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK):
    tl.store(out_ptr, tl.load(x_ptr))


def another(x, n):
    out = torch.empty_like(x)
    vector_add_kernel[(2,)](x, x, out, n, BLOCK=8)
    return out


def test_another_wrapper_or_signature_is_recorded_anew(recordings):
    for _ in range(2):
        found = [recorded(with_kernel(kernel, call), X).launches[0] for kernel, call in (
            (vector_add_kernel, wrapper), (swapped_kernel, wrapper), (undeclared_kernel, wrapper), (vector_add_kernel,
            another),
            (triton.JITFunction(copies_kernel.fn), wrapper))]
    assert len(recordings) == 5
    assert [(list(launch.arguments)[0], launch.grid, launch.signature["BLOCK"]) for launch in found] == [
        ("x_ptr", (3, 1, 1), "constexpr"), ("y_ptr", (3, 1, 1), "constexpr"), ("x_ptr", (3, 1, 1), "i32"),
        ("x_ptr", (2, 1, 1), "constexpr"), ("x_ptr", (3, 1, 1), "constexpr")]


def test_what_is_a_student_s_own_is_recorded_each_time(recordings):
    autotuned = triton.autotune([triton.Config({})], key=["N"])(vector_add_kernel)
    for call in (wrapper, rebind(wrapper), with_kernel(autotuned)):
        for _ in range(2):
            recorded(call, X)
    assert len(recordings) == 6


def test_tensors_made_of_numbers_are_made_anew(recordings):
    def made(x, n):
        return vector_add_kernel[(3,)](x, x, torch.tensor([0.0] * 12), n, BLOCK=4)

    first, second = (recorded(with_kernel(vector_add_kernel, made), X) for _ in range(2))
    assert first.constants and len(recordings) == 2


def test_no_more_are_kept_than_there_is_room_for(recordings, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 2)
    for n in (4, 8, 12, 12):
        recorded(with_kernel(vector_add_kernel), X | {"n": n})
    assert len(recordings) == 3 and len(kept._kept) == 1


def test_a_list_among_the_inputs_is_recorded_each_time(recordings):
    def of_list(x, n):
        return wrapper_of(x, n[0])

    def wrapper_of(x, n):
        out = torch.empty_like(x)
        vector_add_kernel[(3,)](x, x, out, n, BLOCK=4)
        return out

    call = rebind(of_list)
    placed(call, of_list, vector_add_kernel)
    found = [recorded(call, X | {"n": [12]}) for _ in range(2)]
    assert recordings == [call, call] and not kept._kept and all(len(one.launches) == 1 for one in found)
