"""What `bench` measures: groups of units, each group for a process of its own.

A unit is data that a file can keep: the measuring function, the functions side by side, one shape and the mode.
"""

import json
from pathlib import Path

import kernels
from checks.bench import perf
from checks.bench.attention import ATTENTION
from checks.bench.baselines import (
    BASELINES,
    CONFIGS,
    FASTEST_PRODUCT,
    GROUPS,
    LAYOUTS,
    OPTIONAL,
    PLACES,
    PLANS,
    SILU_PLANS,
    fits,
    missing,
)
from kernels import quantize
from kernels.decode import MAX_M
from kernels.runtime import INTERPRETED

TESTS = {"gemv": perf.test_perf_gemv, "gemm": perf.test_perf_gemm, "matmul_int8": perf.test_perf_matmul_int8,
         "gate_up": perf.test_perf_gate_up, "attention": perf.test_perf_attention,
         "quant_decode": perf.test_perf_quant_decode, "quant_prefill": perf.test_perf_quant_prefill}

GEMV = ["cuBLAS FP16", "gemv_fp16_row", "gemv_fp16", "gemv_w8a16_row", "gemv_w8a16"]
GEMM = ["cuBLAS FP16", "matmul_fp16_naive", "matmul_fp16_grouped", "matmul_fp16", "torch._scaled_mm FP8", "torch._int_mm",
        "perrow_w8a8_matmul_plain", "perrow_w8a8_matmul_grouped", "perrow_w8a8_matmul"]
BY_GROUPS = ["cuBLAS FP16", "perrow_w8a8_matmul_grouped", "perrow_w8a8_matmul", "group_w8a8_matmul"]
LAYOUT = [f"int_mm, {layout}" for layout in LAYOUTS]
WHOLE = ["cuBLAS FP16", "matmul_int8", "quantize_int8_perrow", "perrow_w8a8_matmul"]
BESIDE = ["cuBLAS FP16", "matmul_int8", "torch.compile", "torchao", "gemlite"]
AFTER_A_COPY = ["copy of x", "copy of x, then cuBLAS FP16", "copy of x, then matmul_int8"]
QUANTIZE = ["copy", "quantize_int8_perrow_plain", "quantize_int8_perrow_long", "quantize_int8_perrow"]
FEW_OR_MANY = ["cuBLAS FP16", "quantize_int8_perrow, perrow_w8a8_matmul", "decode_w8a8"]
LAUNCHES = ["cuBLAS FP16", "decode_w8a8", "quantize_int8_perrow"]
HOST = ["F.linear", "Int8Linear"]
RMSNORM = ["torch.compile RMSNorm, quantize_int8_perrow", "rmsnorm_quantize_int8"]
SILU_MUL = ["torch.compile SiLU·mul, quantize_int8_perrow", "silu_mul_quantize_int8"]

MANY = 16384
"""Rows of x in prefill: a batch of eight prompts of 2,048 tokens, say."""
WORKSHOP = [(2048, 2048), (2048, 6144), (2048, 22016), (11008, 2048)]  # (K, N)
DECODE = [(4096, 4096), (2048, 22016), (11008, 2048)]
DECODE_M = [1, 4, 16, 17, 32, 33, 64, 65, 128, 256]
# (K, N) of the four products of a layer: queries, keys and values in one; attention's output; gate and up in one; down.
# Sizes from the models' config.json (Llama Team, "The Llama 3 herd of models", 2024, table 3).
LLAMA = {"llama-3-8b": [(4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096)],
         "llama-3-70b": [(8192, 10240), (8192, 8192), (8192, 57344), (28672, 8192)]}


# Lesson 08: decode's kernel against prefill's, and what launches cost. Lesson 09: configurations from few tiles to many.
BREAK_EVEN_M = [1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512]
GATE_UP_SHAPES = [(MANY, 2048, 22016), (8192, 4096, 28672)]  # N counts the rows of gate and of up; the second: Llama 3 8B
CONFIG_SHAPES = [(65, 4096, 4096), (512, 4096, 4096), (2048, 4096, 4096), (MANY, 2048, 6144), (MANY, 11008, 2048)]


class BadShapes(ValueError):
    """Shapes that cannot be measured; the message says why."""


def unit(test: str, functions: list[str], shape: tuple, mode: str = "eager", name: str | None = None) -> dict:
    """`name` is the rows' test where it is not the measuring function's."""
    return {"test": test, "functions": functions, "shape": list(shape), "mode": mode, "name": name or test}


def key(unit: dict) -> str:
    """What tells a unit from all others."""
    return f"{unit['name']} {'x'.join(map(str, unit['shape']))} {unit['mode']} | {', '.join(unit['functions'])}"


def find(name: str):
    """The function of that name: a baseline or one of `kernels`."""
    return BASELINES.get(name) or getattr(kernels, name, None) or getattr(quantize, name)


def plan(shapes: str = "workshop", baselines: list[str] | None = None) -> dict[str, list[dict]]:
    """Groups of units by name. `shapes`: workshop, llama-3-8b, llama-3-70b, or a JSON file with a list of [M, K, N].

    Raises BadShapes where such a file cannot be used.
    """
    if INTERPRETED:
        groups = _small()
    elif shapes == "workshop":
        groups = _checks() | _workshop()
    else:
        groups = _checks() | _given(_triples(shapes))
    left_out = {name for name in OPTIONAL if missing(name) or baselines is not None and name not in baselines}
    for units in groups.values():
        for u in units:
            u["functions"] = [name for name in u["functions"] if name not in left_out and fits(name, *_mkn(u))]
    groups = {name: [u for u in units if u["functions"]] for name, units in groups.items()}
    return {name: units for name, units in groups.items() if units}


def _mkn(unit: dict) -> tuple[int, int, int]:
    shape = unit["shape"]
    return tuple(shape) if len(shape) == 3 else (1, *shape) if unit["test"] == "gemv" else (*shape, 1)


def _triples(shapes: str) -> list[tuple[int, int, int]]:
    if shapes in LLAMA:
        return [(M, K, N) for K, N in LLAMA[shapes] for M in (1, 16, 64, MANY)]
    path = Path(shapes)
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadShapes(f"--shapes takes workshop, {', '.join(LLAMA)} or a JSON file; {path}: {error}") from None
    if not isinstance(found, list) or not found or not all(
            isinstance(shape, list) and len(shape) == 3 and all(type(size) is int and size > 0 for size in shape)
            for shape in found):
        raise BadShapes(f"{path} must hold a JSON list of shapes [M, K, N], whole numbers above 0, such as "
                         "[[1, 4096, 4096], [16384, 4096, 4096]]")
    return [tuple(shape) for shape in found]


def _small() -> dict[str, list[dict]]:
    """Every function at small ragged shapes, for a machine without a GPU: in few processes, for each costs seconds."""
    return {"right": _ragged("eager")}


def _checks() -> dict[str, list[dict]]:
    return {"right": _ragged("check")}


def _ragged(mode: str) -> list[dict]:
    rows, columns, tile_ends = (17, 65, (1, 65)) if INTERPRETED else (33, 257, (1, 64, 65))  # interpreted, each costs time
    return [
        unit("gemv", GEMV, (129, 100), mode), unit("gemv", GEMV, (512, columns), mode),
        unit("gemm", GEMM, (130, 144, 136), mode), unit("gemm", GEMM + LAYOUT, (127, 129, 65), mode),
        unit("matmul_int8", WHOLE + BESIDE[2:], (17, 144, 136), mode),
        unit("matmul_int8", WHOLE[:2] if INTERPRETED else WHOLE + BESIDE[2:], (130, 144, 136), mode),
        *(unit("matmul_int8", WHOLE[:2], (M, 514, 72), mode) for M in tile_ends),
        unit("matmul_int8", list(PLANS), (rows, 144, 136), mode, "plans"),
        unit("matmul_int8", list(PLACES), (rows, 144, 136), mode, "places"),
        unit("gate_up", [*SILU_PLANS, FASTEST_PRODUCT], (rows, 144, 136), mode),
        unit("gemm", [*BY_GROUPS, *GROUPS], (rows, 256, 136), mode, "groups"),
        unit("matmul_int8", HOST, (17, 144, 136), mode, "host"),
        *(unit("quant_decode", ["quantize_int8_perrow"], shape, mode) for shape in ((1, 4096), (5, 2049))),
        unit("quant_prefill", QUANTIZE, (rows + 1, 1026), mode),
        unit("attention", ATTENTION, (2, 70), mode),
        unit("quant_prefill", RMSNORM, (17, 1026), mode), unit("quant_prefill", SILU_MUL, (17, 1026), mode),
    ]


def _workshop() -> dict[str, list[dict]]:
    over_n = [(MANY, 2048, N) for N in (2048, 4096, 6144, 11008, 22016)]
    over_m = [(2**n, 4096, 4096) for n in range(0, 15, 2)]
    prefill = [(MANY, K, N) for K, N in WORKSHOP]
    return {
        "roofs": _roofs(),
        "gemv": [*(unit("gemv", GEMV, (4096, 2**n)) for n in range(10, 17)),
                 *(unit("gemv", ["cuBLAS FP16", "gemv_fp16", "gemv_w8a16"], shape, "graph") for shape in DECODE)],
        "gemm": [*(unit("gemm", GEMM, shape) for shape in [*over_n, prefill[-1]]),
                 *(unit("gemm", [GEMM[0], *GEMM[3:6], GEMM[-1]], shape) for shape in over_m)],
        "layouts of w": [unit("gemm", LAYOUT, (4096, 4096, 4096), name="layout")],
        "matmul_int8": [unit("matmul_int8", WHOLE, shape) for shape in [*over_n, prefill[-1], *over_m, (32, 2048, 2048)]],
        "other libraries": [unit("matmul_int8", BESIDE, shape, name="others") for shape in prefill],
        "plans": [unit("matmul_int8", list(PLANS), shape, name="plans") for shape in prefill],
        "gate and up": [unit("gate_up", [*SILU_PLANS, FASTEST_PRODUCT], shape) for shape in GATE_UP_SHAPES],
        "places": [unit("matmul_int8", list(PLACES), shape, name="places") for shape in prefill],
        "groups": [unit("gemm", [*BY_GROUPS, *GROUPS], shape, name="groups") for shape in prefill],
        "decode": [
            *(unit("matmul_int8", WHOLE[:2], (M, K, N), "graph") for K, N in DECODE for M in DECODE_M),
            *(unit("matmul_int8", AFTER_A_COPY, (M, K, N), "graph", "after a copy") for K, N in DECODE for M in (1, 16)),
            *(unit("matmul_int8", WHOLE, (32, 2048, 2048), mode) for mode in ("idle", "graph")),
            *(unit("matmul_int8", FEW_OR_MANY[:3 if M <= MAX_M else 2], (M, 4096, 4096), "graph", "few or many")
              for M in BREAK_EVEN_M)],
        "launches": [unit("matmul_int8", LAUNCHES, (M, 4096, 4096), mode, "launches") for M in (1, 16)
                     for mode in ("idle", "graph")],
        "host": [unit("matmul_int8", HOST, (M, 4096, 4096), "host", "host") for M in (1, 16, 64, 512)],
        "configurations": [unit("gemm", CONFIGS, shape, name="config") for shape in CONFIG_SHAPES],
        "attention": [unit("attention", ATTENTION, (M, K)) for M in (1, 16, 64) for K in (2048, 8192)],
        "quantization": [
            *(unit("quant_prefill", QUANTIZE, (MANY, K)) for K in (2048, 4096, 5120, 11008)),
            *(unit("quant_decode", ["quantize_int8_perrow"], (M, 4096), "graph") for M in (1, 4, 16, 64, 128)),
            *(unit("quant_prefill", RMSNORM, (MANY, K), name="fused") for K in (2048, 4096)),
            unit("quant_prefill", SILU_MUL, (MANY, 5632), name="fused")],
    }


def _roofs() -> list[dict]:
    """A copy and a reading of 1 GiB, and a large square product."""
    return [unit("quant_prefill", ["copy"], (32768, 21845), name="roof"),
            unit("gemv", ["cuBLAS FP16", "gemv_fp16"], (8192, 65536), name="roof"),
            unit("gemm", ["cuBLAS FP16", "matmul_fp16", "torch._int_mm", "perrow_w8a8_matmul"], (8192, 8192, 8192),
                 name="roof")]


def _given(triples: list[tuple[int, int, int]]) -> dict[str, list[dict]]:
    few = [shape for shape in triples if shape[0] <= 128]
    many = [shape for shape in triples if shape[0] > 128]
    return {
        "roofs": _roofs(),
        "gemm": [unit("gemm", GEMM, shape) for shape in many],
        "matmul_int8": [unit("matmul_int8", WHOLE, shape) for shape in many],
        "other libraries": [unit("matmul_int8", BESIDE, shape, name="others") for shape in many],
        "decode": [unit("matmul_int8", WHOLE[:2], shape, "graph") for shape in few],
    }


def measure(unit: dict, watcher: perf.Watcher, without: tuple[str, ...] = ()) -> list[dict]:
    """The rows of a unit, those of the functions named in `without` left out."""
    functions = {name: find(name) for name in unit["functions"] if name not in without}
    rows = TESTS[unit["test"]](functions, [unit["shape"]], mode=unit["mode"], watcher=watcher)
    return [row | {"test": unit["name"]} for row in rows]
