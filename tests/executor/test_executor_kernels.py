"""The library's kernels, and those that students might write, give the interpreter's bits, without faults or races."""

import re
from pathlib import Path

import pytest
import torch
from executor_launches import beside_the_executor
from kernel_calls import HONEST, honest_call, rest_of_the_library

import kernels
from checks.exercises import EXERCISES

KERNELS = {name: exercise for name, exercise in EXERCISES.items() if exercise.is_kernel}
seen: set[str] = set()


def assert_same(replayed):
    assert replayed
    for launch in replayed:
        assert not launch.report.faults, f"{launch.kernel}: {launch.report.faults[0]}"
        assert not launch.report.races, f"{launch.kernel}: {launch.report.races[0]}"
        assert launch.same_bits(), launch.kernel
        seen.add(launch.kernel)


@pytest.mark.parametrize("name", KERNELS)
def test_every_case_of_an_exercise(name):
    exercise = KERNELS[name]
    for case in exercise.cases:
        inputs = case.inputs(torch.Generator().manual_seed(1))
        with beside_the_executor() as replayed:
            getattr(exercise.module, exercise.wrapper)(**inputs)
        assert_same(replayed)


@pytest.mark.parametrize("name", rest_of_the_library())
def test_the_rest_of_the_library(name):
    with beside_the_executor() as replayed:
        rest_of_the_library()[name]()
    assert_same(replayed)


def test_no_kernel_of_the_library_is_left_out():
    gluon = "hopper_gemm", "quantize_beside"
    written = {name for path in Path(kernels.__file__).parent.glob("*.py") if path.stem not in gluon
               for name in re.findall(r"@triton\.jit\ndef (\w+_kernel)\(", path.read_text())}
    if len(seen) < 20:
        pytest.skip("only a part of this file was run")
    assert written - seen == set()


@pytest.mark.parametrize("path", HONEST, ids=lambda path: path.stem)
def test_honest_kernels(path, tmp_path):
    exercise, call = honest_call(path, tmp_path)
    if not exercise.is_kernel:
        pytest.skip("its function launches no kernel of its own")
    for case in exercise.cases:
        with beside_the_executor() as replayed:
            call(**case.inputs(torch.Generator().manual_seed(2)))
        assert_same(replayed)
