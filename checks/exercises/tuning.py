"""Lesson 09: what a configuration asks for, how many fit, what tuning costs, and whether the tuned kernel is right."""

import contextlib
import math

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant, WrongAnswer, numbers
from checks.simulated.buggy_matmuls import PLANTED, TILES


def exactly(value) -> tuple[Expected]:
    return (Expected(value, 1e-9 * abs(value)),)


STAGE_BYTES = Exercise(
    name="stage_bytes",
    lesson="09_tuning",
    points=1,
    cases=tuple(numbers(BLOCK_M=m, BLOCK_N=n, BLOCK_K=k, num_stages=stages, element_bytes=size) for m, n, k, stages, size in
                ((128, 128, 128, 3, 1), (64, 256, 32, 4, 1), (128, 64, 64, 2, 2), (16, 128, 256, 5, 2))),
    oracle=lambda BLOCK_M, BLOCK_N, BLOCK_K, num_stages, element_bytes: exactly(
        sum(BLOCK_K * rows * element_bytes for rows in (BLOCK_M, BLOCK_N) for _ in range(num_stages))),
    mutants=(
        Mutant("one stage", {"return num_stages * (": "return ("}, "All num_stages stages lie in shared memory at once."),
        Mutant("one stage less", {"return num_stages * (": "return (num_stages - 1) * ("},
               "All num_stages stages lie in shared memory at once, the one in use too."),
        Mutant("the tile of x alone", {"(BLOCK_M + BLOCK_N)": "BLOCK_M"}, "Each stage holds a tile of w as well."),
        Mutant("bytes counted as elements", {" * element_bytes": ""}, "An element takes element_bytes bytes."),
        Mutant("the tile of y", {"(BLOCK_M + BLOCK_N) * BLOCK_K": "BLOCK_M * BLOCK_N"},
               "The sums of y are in registers. Shared memory holds what is multiplied: tiles with BLOCK_K columns."),
        Mutant("sides multiplied", {"(BLOCK_M + BLOCK_N)": "(BLOCK_M * BLOCK_N)"},
               "Two tiles, BLOCK_M · BLOCK_K and BLOCK_N · BLOCK_K: add them up."),
        Mutant("the tile of y as well", {"return num_stages": "return BLOCK_M * BLOCK_N * element_bytes + num_stages"},
               "The tile of y is not kept in shared memory while the loop runs: its sums are in registers."),
        Mutant("two bytes for each number", {" * element_bytes": " * 2"},
               "How wide a number is is an argument: element_bytes."),
        Mutant("one stage more", {"return num_stages * (": "return (num_stages + 1) * ("},
               "num_stages stages lie in shared memory, no more."),
        Mutant("the tile of w alone", {"(BLOCK_M + BLOCK_N)": "BLOCK_N"}, "Each stage holds a tile of x as well."),
        Mutant("bits", {"return num_stages * (": "return 8 * num_stages * ("}, "Wanted are bytes, not bits."),
    ),
)

ACCUMULATOR_REGISTERS = Exercise(
    name="accumulator_registers",
    lesson="09_tuning",
    points=1,
    cases=(numbers(BLOCK_M=128, BLOCK_N=128, num_warps=8), numbers(BLOCK_M=64, BLOCK_N=64, num_warps=4),
           numbers(BLOCK_M=128, BLOCK_N=256, num_warps=4)),
    oracle=lambda BLOCK_M, BLOCK_N, num_warps: exactly(BLOCK_M * BLOCK_N / 32 / num_warps),
    mutants=(
        Mutant("per warp", {"(32 * num_warps)": "num_warps"}, "A warp is 32 threads, and each has registers of its own."),
        Mutant("divided by 32, then times the warps", {"(32 * num_warps)": "32 * num_warps"},
               "`a // 32 * b` divides first and multiplies then: put 32 * num_warps in parentheses."),
        Mutant("one warp", {"(32 * num_warps)": "32"}, "All num_warps warps of the program share the sums."),
        Mutant("the whole tile", {" // (32 * num_warps)": ""}, "The sums are shared out among 32 · num_warps threads."),
        Mutant("two sums in a register", {"// (32 * num_warps)": "// (64 * num_warps)"},
               "A sum is INT32 (or FP32): it fills a register of 32 bits."),
        Mutant("bytes", {"BLOCK_M * BLOCK_N //": "4 * BLOCK_M * BLOCK_N //"}, "Wanted are registers, not bytes."),
    ),
)


def most_that_fit(registers: int, shared: int, num_warps: int, capacity: int) -> tuple[Expected]:
    """Adding programs one by one while there is room for one more."""
    registers += -registers % 8
    shared += 1024
    shared += -shared % 128
    n = 0
    while (n + 1) * num_warps <= 64 and (n + 1) * registers * 32 * num_warps <= 65536 and (n + 1) * shared <= capacity:
        n += 1
    return exactly(n)


_H200, _A100 = 233_472, 167_936
_STEPS_OF_8 = "(-(-registers // 8) * 8 * 32 * num_warps)"
_LEAST = "min(by_warps, by_registers, by_shared)"

PROGRAMS = Exercise(
    name="programs_per_multiprocessor",
    lesson="09_tuning",
    points=3,
    cases=tuple(numbers(registers=r, shared=s, num_warps=w, capacity=c) for r, s, w, c in (
        (128, 98_304, 8, _H200), (234, 65_536, 4, _H200), (64, 116_000, 4, _H200), (32, 0, 4, _H200),
        (40, 1024, 8, _A100), (33, 2048, 8, _H200), (65, 0, 4, _H200), (129, 16_384, 4, _A100), (16, 0, 16, _A100),
        (77, 76_800, 4, _H200), (96, 76_801, 4, _H200), (255, 147_456, 16, _H200),
        (255, 0, 4, _H200), (32, 45_670, 4, _H200))),
    oracle=most_that_fit,
    mutants=(
        Mutant("registers not in steps of 8", {_STEPS_OF_8: "(registers * 32 * num_warps)"},
               "A thread gets its registers in steps of 8: round up first."),
        Mutant("registers rounded down", {"-(-registers // 8) * 8": "registers // 8 * 8"},
               "Round the registers of a thread up to a multiple of 8, not down."),
        Mutant("the 1,024 bytes are forgotten", {"(shared + 1024)": "shared"},
               "Each program gets 1,024 bytes of shared memory more than it asks for."),
        Mutant("the 1,024 bytes are forgotten, none taken for no limit", {"(shared + 1024)": "max(shared, 1)"},
               "Each program gets 1,024 bytes of shared memory more than it asks for, also where it asks for none."),
        Mutant("shared memory not in steps of 128", {"(-(-(shared + 1024) // 128) * 128)": "(shared + 1024)"},
               "Shared memory is handed out in steps of 128 bytes: round up."),
        Mutant("no limit of warps", {_LEAST: "min(by_registers, by_shared)"},
               "A multiprocessor holds 64 warps at most, and each program has num_warps of them."),
        Mutant("no limit of registers", {_LEAST: "min(by_warps, by_shared)"},
               "All programs on a multiprocessor share its 65,536 registers."),
        Mutant("no limit of shared memory", {_LEAST: "min(by_warps, by_registers)"},
               "All programs on a multiprocessor share its `capacity` bytes of shared memory."),
        Mutant("the largest limit", {_LEAST: f"max{_LEAST[3:]}"}, "The scarcest of the three decides: the least."),
        Mutant("at least one", {_LEAST: f"max(1, {_LEAST})"}, "A program that asks for too much does not run: 0."),
        Mutant("a fraction of a program by shared memory", {"capacity // (": "capacity / ("},
               "Only whole programs fit: divide with `//`."),
        Mutant("a fraction of a program by registers", {"65536 // (": "65536 / ("},
               "Only whole programs fit: divide with `//`."),
        Mutant("registers of a warp, not of a program", {"* 8 * 32 * num_warps)": "* 8 * 32)"},
               "A program has num_warps warps of 32 threads, and each thread has registers of its own."),
        Mutant("32 warps in all", {"64 // num_warps": "32 // num_warps"}, "A multiprocessor holds 64 warps."),
    ),
)

_WAVES = "-(-programs // at_once)"

WAVE_EFFICIENCY = Exercise(
    name="wave_efficiency",
    lesson="09_tuning",
    points=1,
    cases=tuple(numbers(M=m, N=n, BLOCK_M=bm, BLOCK_N=bn, at_once=at_once) for m, n, bm, bn, at_once in (
        (1024, 2048, 128, 128, 132), (1024, 2176, 128, 128, 132), (129, 127, 64, 32, 5), (65, 4096, 128, 128, 264),
        (16384, 6144, 128, 128, 264), (512, 512, 128, 64, 8))),
    oracle=lambda M, N, BLOCK_M, BLOCK_N, at_once: exactly(
        (n := math.ceil(M / BLOCK_M) * math.ceil(N / BLOCK_N)) / at_once / math.ceil(n / at_once)),
    mutants=(
        Mutant("waves not rounded up", {_WAVES: "programs / at_once"},
               "The last wave takes as long as any other, however few programs it has: round up."),
        Mutant("one wave", {_WAVES: "1"}, "With more programs than places there are several waves."),
        Mutant("tiles not rounded up", {"-(-M // BLOCK_M) * -(-N // BLOCK_N)": "M / BLOCK_M * N / BLOCK_N"},
               "A tile that y fills in part is a program too: round up in both directions."),
        Mutant("only whole tiles", {"-(-M // BLOCK_M) * -(-N // BLOCK_N)": "(M // BLOCK_M) * (N // BLOCK_N)"},
               "A tile that y fills in part is a program too: round up in both directions."),
        Mutant("tiles by their area", {"-(-M // BLOCK_M) * -(-N // BLOCK_N)": "-(-M * N // (BLOCK_M * BLOCK_N))"},
               "Tiles do not fill up each other's edges: round up in both directions, then multiply."),
        Mutant("a wave too many", {_WAVES: "(programs // at_once + 1)"},
               "`programs // at_once + 1` is one too many where the division has no remainder: round up, -(-a // b)."),
        Mutant("1 for several waves", {"return programs / (waves * at_once)": "return min(1.0, programs / at_once)"},
               "With more programs than places there are several waves, and places are empty in the last one."),
        Mutant("the number of waves", {"return programs / (waves * at_once)": "return waves"},
               "Wanted is the part of the places that have work: programs, over waves times places."),
        Mutant("upside down", {"return programs / (waves * at_once)": "return waves * at_once / programs"},
               "The places are the whole, the programs the part: 1 at most."),
        Mutant("the last wave alone",
               {"return programs / (waves * at_once)": "return (programs % at_once or at_once) / at_once"},
               "All waves count: programs over the places of all waves together."),
        Mutant("the last wave alone, and 0 where it is full",
               {"return programs / (waves * at_once)": "return (programs % at_once) / at_once"},
               "All waves count: programs over the places of all waves together."),
        Mutant("tiles added, not multiplied",
               {"-(-M // BLOCK_M) * -(-N // BLOCK_N)": "-(-M // BLOCK_M) + -(-N // BLOCK_N)"},
               "y has rows of tiles times columns of tiles."),
        Mutant("a whole number", {"return programs / (waves * at_once)": "return programs // (waves * at_once)"},
               "The part of the places that have work is a fraction: divide with `/`."),
        Mutant("the part of the places that are empty",
               {"return programs / (waves * at_once)": "return 1 - programs / (waves * at_once)"},
               "Wanted is the part that has work."),
        Mutant("waves rounded down", {"-(-programs // at_once)": "max(1, programs // at_once)"},
               "The last wave takes as long as any other, however few programs it has: round up."),
    ),
)

BUCKET_M = Exercise(
    name="bucket_m",
    lesson="09_tuning",
    points=1,
    cases=tuple(numbers(M=M, largest=largest) for M, largest in (
        (1, 8192), (2, 8192), (3, 8192), (64, 8192), (65, 8192), (127, 64), (1025, 4096), (8192, 8192), (100_000, 8192))),
    oracle=lambda M, largest: exactly(next(size for size in (2**i for i in range(64)) if size >= min(M, largest))),
    mutants=(
        Mutant("rounded down", {"triton.next_power_of_2(M)": "1 << (M.bit_length() - 1)"},
               "The bucket is the least power of two that is at least M: round up."),
        Mutant("powers of two go one up", {"triton.next_power_of_2(M)": "1 << M.bit_length()"},
               "A power of two is its own bucket: 64 stays 64."),
        Mutant("no largest bucket", {"min(triton.next_power_of_2(M), largest)": "triton.next_power_of_2(M)"},
               "All M above `largest` share the bucket `largest`."),
        Mutant("a smallest bucket", {"min(": "max("}, "`largest` is an upper limit: take the smaller of the two."),
        Mutant("M itself", {"min(triton.next_power_of_2(M), largest)": "min(M, largest)"},
               "That makes a bucket for each M: round up to a power of two."),
        Mutant("multiples of 64", {"triton.next_power_of_2(M)": "-(-M // 64) * 64"},
               "Multiples make as many buckets as M grows; powers of two make one more when M doubles."),
        Mutant("the nearest power of two", {"triton.next_power_of_2(M)": "2 ** round(__import__('math').log2(M))"},
               "The bucket is the least power of two that is at least M: round up."),
    ),
)


def keys(*rows: tuple[int, int, int], **given):
    return lambda _: {"keys": torch.tensor(rows)} | given


def traffic(calls: int, **given):
    def inputs(g: torch.Generator) -> dict:
        sizes = torch.tensor([64, 128, 256, 4096])
        return {"keys": sizes[torch.randint(4, (calls, 3), generator=g)]} | given
    return inputs


TUNING_SECONDS = Exercise(
    name="tuning_seconds",
    lesson="09_tuning",
    points=1,
    cases=(
        Case("five calls, two keys", keys((64, 256, 512), (128, 256, 512), (64, 256, 512), (64, 256, 512), (128, 256, 512),
                                          configs=6, seconds=0.5)),
        Case("one call", keys((1, 4096, 4096), configs=8, seconds=1.5)),
        Case("N and K swapped are another key", keys((16, 64, 128), (16, 128, 64), (16, 64, 128), configs=3, seconds=2.0)),
        Case("the same M for three layers", keys((32, 64, 64), (32, 128, 64), (32, 64, 128), configs=2, seconds=0.25)),
        Case("60 calls", traffic(60, configs=5, seconds=0.75)),
    ),
    oracle=lambda keys, configs, seconds: exactly(len({tuple(key) for key in keys.tolist()}) * configs * seconds),
    mutants=(
        Mutant("every call", {"len(keys.unique(dim=0))": "len(keys)"},
               "A key that was seen before is in the cache. (A Python set takes two equal tensors for different ones.)"),
        Mutant("different numbers", {"keys.unique(dim=0)": "keys.unique()"},
               "A key is a row of three numbers: count different rows, `unique(dim=0)`."),
        Mutant("M alone", {"keys.unique(dim=0)": "keys[:, 0].unique()"}, "Another N or K is another key."),
        Mutant("only the key before is remembered", {"keys.unique(dim=0)": "keys.unique_consecutive(dim=0)"},
               "The cache remembers all keys, not only that of the last call."),
        Mutant("one configuration", {" * configs": ""}, "Each key tries all of the configurations."),
        Mutant("the seconds left out", {" * seconds": ""}, "Each try takes `seconds` seconds."),
        Mutant("only configurations and seconds", {"len(keys.unique(dim=0)) * ": ""},
               "Each new key is tuned: count the different rows of `keys`."),
    ),
)


@contextlib.contextmanager
def memory_that_held(answer: torch.Tensor):
    """What is allocated without being filled holds the answer of a config before, as it may on a GPU."""
    empty, empty_like = torch.empty, torch.empty_like

    def held(made: torch.Tensor) -> torch.Tensor:
        return answer.to(made.dtype) if made.shape == answer.shape else made

    torch.empty = lambda *size, **options: held(empty(*size, **options))
    torch.empty_like = lambda like, **options: held(empty_like(like, **options))
    try:
        yield
    finally:
        torch.empty, torch.empty_like = empty, empty_like


def try_check(wrong_configs, planted: str, x_q: torch.Tensor, w_q: torch.Tensor):
    """A 1 for each place of TILES that is said to be wrong."""
    launch, _ = PLANTED[planted]
    with memory_that_held((x_q.double() @ w_q.double().T).to(torch.int32)):
        said = wrong_configs(launch, list(TILES), x_q, w_q)
    if not isinstance(said, list) or not all(type(place) is int and 0 <= place < len(TILES) for place in said):
        raise WrongAnswer(f"it returns {said!r}; expected a list of places, whole numbers from 0 to {len(TILES) - 1}.")
    if said != sorted(set(said)):
        raise WrongAnswer(f"it returns {said!r}; expected places in ascending order, each once.")
    return torch.tensor([int(place in said) for place in range(len(TILES))], dtype=torch.int32, device=x_q.device)


def codes(planted: str, M: int = 96, N: int = 48, K: int = 96):
    """Random codes; the last rows of x are zeros, so that zeros are right there."""
    def inputs(g: torch.Generator) -> dict:
        x_q, w_q = (torch.randint(-127, 128, (rows, K), generator=g, dtype=torch.int8) for rows in (M, N))
        x_q[64:] = 0
        return {"planted": planted, "x_q": x_q, "w_q": w_q}
    return inputs


def large_sums(planted: str):
    """Sums of 1,101 · 127² = 17,758,029, an odd number above 2²⁴: FP32 does not hold it."""
    def inputs(_) -> dict:
        return {"planted": planted, "x_q": torch.full((4, 1101), 127, dtype=torch.int8),
                "w_q": torch.full((8, 1101), 127, dtype=torch.int8)}
    return inputs


_NO_JUDGE = "A config cannot be its own judge: compute the product in torch, `x_q.double() @ w_q.double().T`."
_EXACT = "exact = (x_q.double() @ w_q.double().T).to(torch.int32)"
_Y = "        y = exact + 1  # wrong everywhere: an element that is not written shows\n"
_EQUAL = "torch.equal(y, exact)"

WRONG_CONFIGS = Exercise(
    name="wrong_configs",
    lesson="09_tuning",
    points=4,
    adapter=try_check,
    outputs=("found_wrong",),
    cases=(*(Case(f"a kernel that {name}" if name.split()[0] in ("drops", "leaves", "adds") else name, codes(name))
             for name in PLANTED), Case("sums above 2^24, right in every config", large_sums("right in every config")),
           Case("sums above 2^24, one element off by one", large_sums("one element off by one"))),
    oracle=lambda planted, x_q, w_q: (Expected(torch.tensor(
        [int(place in PLANTED[planted][1]) for place in range(len(TILES))]), dtype=torch.int32),),
    mutants=(
        Mutant("the first config is taken for the truth", {_EXACT: "exact = torch.zeros(len(x_q), len(w_q), dtype="
               "torch.int32, device=x_q.device)\n    launch(configs[0], x_q, w_q, exact)"},
               _NO_JUDGE),
        Mutant("the first config is taken for the truth, and so it is always right",
               {_EXACT: "exact = torch.full((len(x_q), len(w_q)), -1, dtype=torch.int32, device=x_q.device)\n"
                "    launch(configs[0], x_q, w_q, exact)", _Y: "        y = torch.full_like(exact, -1)\n"}, _NO_JUDGE),
        Mutant("the product in FP32", {_EXACT: _EXACT.replace("double", "float")},
               "FP32 holds whole numbers up to 2²⁴; these sums are larger. Use `.double()`."),
        Mutant("every config counts as wrong", {_EXACT: "exact = (x_q @ w_q.T).to(torch.int32)"},
               "Either `exact` is not exact: torch multiplies INT8 in INT8 and FP16 in FP16, so turn both into `.double()` "
               "first. Or y is lost: `launch` writes into the y it is given, and returns nothing."),
        Mutant("y may hold the right answer before", {_Y: "        y = exact.clone()\n"},
               "What the kernel does not write must be found, and torch.empty may hold anything, the answer of the config "
               "before too: fill y with numbers that are wrong, such as exact + 1."),
        Mutant("y holds zeros before", {_Y: "        y = torch.zeros_like(exact)\n"},
               "Zero may be the right number, and a kernel that adds to y looks right. Fill y with numbers that are wrong "
               "everywhere, such as exact + 1."),
        Mutant("one y for all configs", {"    wrong = []\n": "    wrong, y = [], exact + 1\n", _Y: ""},
               "After the first right config, y holds the right answer, and the next one need not write it: a new y for "
               "each."),
        Mutant("stops at the first", {"wrong.append(place)": "return [place]"}, "Go through all configs."),
        Mutant("a tolerance", {_EQUAL: "torch.allclose(y.double(), exact.double(), rtol=1e-3, atol=2)"},
               "Sums of integers are exact: one off by one is a mistake."),
        Mutant("a relative tolerance", {_EQUAL: "torch.allclose(y.double(), exact.double())"},
               "allclose lets a large sum be off by more than one, and sums of integers are exact: use torch.equal."),
        Mutant("sums are compared", {_EQUAL: "bool(y.sum() == exact.sum())"},
               "Numbers in the wrong place have the same sum: compare element by element."),
        Mutant("one right element is enough", {_EQUAL: "bool((y == exact).any())"}, "All elements must be right."),
        Mutant("an error ends the search", {"except Exception:": "except ZeroDivisionError:"},
               "A config may fail to launch: catch the error, count the config as wrong, and go on."),
        Mutant("an error counts as right", {"            right = False\n": "            right = True\n"},
               "A config that raises has computed nothing: it is wrong."),
        Mutant("the right ones", {"if not right:": "if right:"}, "Wanted are the places of the wrong ones."),
        Mutant("configs in place of their places", {"wrong.append(place)": "wrong.append(config)"},
               "`enumerate(configs)` gives each config's place: return these."),
        Mutant("the mean of the errors", {"torch.equal(y, exact)": "bool((y - exact).double().abs().mean() < 1)"},
               "One wrong element disappears in a mean: every element must be right, torch.equal."),
        Mutant("the mean error, of both signs", {"torch.equal(y, exact)": "bool((y - exact).double().mean().abs() < 1)"},
               "Errors of both signs cancel, and one alone disappears in a mean: every element must be right, "
               "torch.equal."),
        Mutant("w is not transposed", {"w_q.double().T": "w_q.double()"}, "w is (N, K): the product is x_q @ w_q.T."),
    ),
)

EXERCISES = [STAGE_BYTES, ACCUMULATOR_REGISTERS, PROGRAMS, WAVE_EFFICIENCY, BUCKET_M, TUNING_SECONDS, WRONG_CONFIGS]
