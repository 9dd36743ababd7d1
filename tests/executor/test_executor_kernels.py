"""The library's kernels, and those that students might write, give the interpreter's bits, without faults or races."""

import pytest
import torch
from executor_launches import beside_the_interpreter

from checks.exercises import EXERCISES

KERNELS = {name: exercise for name, exercise in EXERCISES.items() if exercise.is_kernel}


def assert_same(replayed):
    assert replayed
    for launch in replayed:
        assert not launch.report.faults, f"{launch.kernel}: {launch.report.faults[0]}"
        assert not launch.report.races, f"{launch.kernel}: {launch.report.races[0]}"
        assert launch.same_bits(), launch.kernel


@pytest.mark.parametrize("name", KERNELS)
def test_every_case_of_an_exercise(name):
    exercise = KERNELS[name]
    for case in exercise.cases:
        inputs = case.inputs(torch.Generator().manual_seed(1))
        with beside_the_interpreter() as replayed:
            getattr(exercise.module, exercise.entry)(**inputs)
        assert_same(replayed)
