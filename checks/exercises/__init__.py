"""What is asked in each lesson: one file per noun, as in `kernels/`."""

from checks.exercises import (
    block_cost,
    collectives,
    error,
    fused,
    gate_up,
    gemv,
    gemv_int8,
    group_w8a8,
    hello,
    int_mm,
    kv_cache,
    latency,
    look,
    matmul,
    matmul_int8,
    measuring,
    mlp,
    outliers,
    parallel,
    perrow_w8a8,
    profiling,
    quantize,
    quantize_kernels,
    schemes,
    sectors,
    serving,
    silu_mul,
    skinny,
    speed,
    transformer,
    tuning,
)
from checks.judge.exercise import Exercise

NOUNS = (hello, look, gemv, sectors, matmul, measuring, speed, quantize, quantize_kernels, int_mm, perrow_w8a8,
         error, outliers, matmul_int8, fused, silu_mul, gate_up, mlp,
         gemv_int8, skinny, latency, tuning, profiling, transformer, block_cost,
         serving, schemes, group_w8a8, kv_cache, parallel, collectives)
EXERCISES: dict[str, Exercise] = {exercise.name: exercise for noun in NOUNS for exercise in noun.EXERCISES}


def find_exercise(name: str) -> Exercise:
    """The exercise whose function, or whose wrapper, is called `name`. Raises LookupError with the names there are."""
    for exercise in EXERCISES.values():
        if name in (exercise.name, exercise.wrapper):
            return exercise
    raise LookupError(f"there is no exercise for a function called `{name}`; there is one for each of: "
                      f"{', '.join(EXERCISES)}")
