"""Loops, conditions and calls. Programs that go another way are masked."""

from typing import TYPE_CHECKING

import numpy as np

from checks.executor.errors import Malformed
from checks.executor.formats import unsigned
from checks.executor.ir import Op
from checks.executor.masks import Active, both, choose
from checks.executor.operations.table import Handler, effect

if TYPE_CHECKING:
    from checks.executor.run import Env, Execution


@effect("scf.for")
def for_loop(op: Op) -> Handler:
    variable, bounds, inits, names = op.loop()
    body, count_unsigned = op.regions[0][0], op.words.startswith("unsigned")

    def together(run: "Execution", env: "Env", active: "Active", ends: list[np.ndarray]) -> None:
        low, high, step = ends
        first, last = (int((unsigned(v) if count_unsigned else v).flat[0]) for v in (low, high))
        values = [env[name] for name in inits]
        if step.flat[0] <= 0 and first < last:
            raise Malformed("a loop whose step is not positive")
        for i in range(first, last, max(1, int(step.flat[0]))):
            run.check_time()
            env[variable] = np.asarray(i).astype(low.dtype).reshape(1, 1, 1)  # unsigned bounds wrap around
            env.update(zip(names, values, strict=True))
            values = run.block(body, env, active)
        env.update(zip(op.results, values, strict=True))

    def apart(run: "Execution", env: "Env", active: "Active", ends: list[np.ndarray]) -> None:
        low, high, step = ends
        i, end = (v.astype(np.int64) for v in ((unsigned(low), unsigned(high)) if count_unsigned else (low, high)))
        values = [run.get(env, name) for name in inits]
        while (on := i < end if active is None else (i < end) & active).any():
            run.check_time()
            env[variable] = i.astype(low.dtype)
            env.update(zip(names, values, strict=True))
            inside = None if on.all() else on
            values = [choose(inside, new, old) for new, old in zip(run.block(body, env, inside), values, strict=True)]
            i = i + step
        env.update(zip(op.results, values, strict=True))

    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        ends = [execution.get(env, name) for name in bounds]
        (together if all(value.size == 1 for value in ends) else apart)(execution, env, active, ends)

    return run


@effect("scf.while")
def while_loop(op: Op) -> Handler:
    before, after = op.regions[0][0], op.regions[1][0]
    names, inits = op.operands[0::2], op.operands[1::2]

    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        on, result = active, None
        values = [execution.get(env, name) for name in inits]
        while True:
            execution.check_time()
            env.update(zip(names, values, strict=True))
            condition, *passed = execution.block(before, env, on)
            result = passed if result is None else [choose(on, a, b) for a, b in zip(passed, result, strict=True)]
            on = both(on, condition)
            if on is None or not on.any():
                break
            env.update(zip(after.args, passed, strict=True))
            everywhere = bool(on.all())
            new = execution.block(after, env, None if everywhere else on)
            values = new if everywhere else [choose(on, a, b) for a, b in zip(new, values, strict=True)]
            on = None if everywhere and active is None else on
        env.update(zip(op.results, result, strict=True))

    return run


@effect("scf.if")
def condition(op: Op) -> Handler:
    blocks, results = [region[0] for region in op.regions], op.results

    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        chosen = execution.get(env, op.operands[0])
        values = None
        for mask, block in zip((both(active, chosen), both(active, ~chosen)), blocks, strict=False):
            if mask is None or not mask.any():
                continue
            inside = active if chosen.size == 1 else None if mask.all() else mask
            new = execution.block(block, env, inside)
            values = new if values is None else [choose(mask, a, b) for a, b in zip(new, values, strict=True)]
        env.update(zip(results, values or [], strict=True))

    return run


@effect("tt.call")
def call(op: Op) -> Handler:
    name = op.words.partition("@")[2].partition("(")[0]
    name = op.strings[0] if name.startswith('"') else name

    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        env.update(zip(op.results, execution.call(name, execution.values_of(op, env), active), strict=True))

    return run

