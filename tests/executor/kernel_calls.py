"""Calls whose launches the executor is held against: of the library's kernels that no exercise asks for, and of honest
submissions. They run in Triton's interpreter or on the GPU."""

import ast
import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton

import kernels
from checks.exercises import find_exercise
from checks.judge.exercise import Exercise
from kernels import (
    decode,
    decode_tiles,
    fused,
    gate_up,
    gemv_int8,
    group_w8a8,
    matmul,
    mlp,
    parts,
    perrow_w8a8,
    plans,
    quantize,
    quantize_inside,
    rotary,
    skinny,
    transformer,
)
from kernels.runtime import device

HONEST = [path for path in sorted((Path(__file__).parents[1] / "grader" / "honest").glob("*.py"))
          if "@triton.jit" in path.read_text()]
assert HONEST


def operands(M: int, N: int, K: int, dtype: torch.dtype = torch.float16) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(M)
    x_q, w_q = (torch.randint(-127, 128, shape, generator=g, dtype=torch.int8) for shape in ((M, K), (N, K)))
    x_scale, w_scale = (torch.rand(size, generator=g) * 1e-2 + 1e-4 for size in (M, N))
    x, bias = (torch.randn(shape, generator=g).to(dtype) for shape in ((M, K), (N,)))
    return here(x, x_q, x_scale, w_q, w_scale, bias)


def here(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.to(device()) for tensor in tensors)


def whole_numbers(*shape: int) -> torch.Tensor:
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(sum(shape))).half().to(device())


def rotation_of_heads() -> torch.Tensor:
    config = transformer.Config(vocabulary=1, layers=1, dim=96, heads=4, kv_heads=2, hidden=1)
    g = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, (config.heads + 2 * config.kv_heads) * config.head_dim, generator=g).half()
    k, v = torch.zeros(2, 2, config.kv_heads, 1, config.head_dim).half()
    return rotary.rotate_qkv(*here(qkv, transformer.rotation(config, torch.arange(7, 8)), k, v))


def rest_of_the_library() -> dict[str, Callable[[], Any]]:
    """Calls that reach the kernels no exercise asks for; sums of floats among them are exact, of small integers."""
    x, x_q, x_scale, w_q, w_scale, bias = operands(5, 70, 300)
    one = operands(1, 130, 600, torch.bfloat16)
    few = operands(17, 64, 1100)
    tile = [config for config in perrow_w8a8.TMA_CONFIGS if config.kwargs["BLOCK_M"] == 64][0]
    whole = whole_numbers(70, 96), whole_numbers(72, 96)
    q, scale = operands(66, 72, 256)[1:3]
    ones = x.new_ones(300)
    return {
        "skinny": lambda: skinny.skinny_w8a8(x_q, x_scale, w_q, w_scale),
        "split_k": lambda: skinny.split_k_w8a8(x_q, x_scale, w_q, w_scale, 3),
        "decode one row": lambda: decode.decode_w8a8(one[0], one[3], one[4], one[5]),
        "decode one row in one launch": lambda: decode.decode_w8a8(x[:1], w_q, w_scale, bias),
        "decode few rows": lambda: decode.decode_w8a8(x, w_q, w_scale, bias),
        "decode in parts": lambda: decode.matmul_with(decode_tiles.SPLIT, 3, few[0], few[3], few[4]),
        "matmul": lambda: [f(*whole) for f in (kernels.matmul_fp16, matmul.matmul_fp16_grouped, matmul.matmul_fp16_naive)],
        "through descriptors": lambda: [perrow_w8a8.perrow_w8a8_matmul(q, scale, *operands(66, 72, 256)[3:5], config=tile),
                                        matmul.matmul_fp16(*whole, config=matmul.TMA_CONFIGS[2])],
        "grouped": lambda: perrow_w8a8.perrow_w8a8_matmul_grouped(x_q, x_scale, w_q, w_scale, bias),
        "plans": lambda: [plans.rmsnorm(x, ones.float()),
                          plans.scale_sums(torch.ones_like(x_q[:, :70], dtype=torch.int32), x_scale, w_scale)],
        "gemv": lambda: gemv_int8.gemv_w8a16(whole_numbers(300), w_q, w_scale.sign()),
        "quantize inside": lambda: [f(x, w_q, w_scale) for f in (quantize_inside.quantizing_matmul,
                                                                 quantize_inside.persistent_rows_matmul)],
        "gate and up": lambda: gate_up.gate_up_silu_mul_plain(x_q, x_scale, w_q, w_scale, bias),
        "groups along K": lambda: group_w8a8.group_w8a8_matmul(
            *(part for rows in (5, 70) for part in group_w8a8.quantize_int8_groups(operands(rows, 1, 256)[0]))),
        "silu": lambda: mlp.silu_mul_fp16(x, x + 1),
        "rotation": rotation_of_heads,
        "parts of a row": lambda: [parts.quantize_with_amax(x, up, [parts.part_amax(x, up)] * 2) for up in (None, x + 1)],
        "a norm of sums": lambda: parts.finish_rmsnorm([x, x], x, ones, 1e-5),
        "sums of ranks": lambda: parts.finish([x_q[:, :70].int()] * 2, (x_scale, w_scale), bias, None, x.dtype),
        "quantize in two blocks": lambda: quantize.quantize_int8_perrow(operands(3, 1, 1100)[0]),
        "quantize": lambda: [f(x) for f in (quantize.quantize_int8_perrow, quantize.quantize_int8_perrow_long,
                                            quantize.quantize_int8_perrow_plain)],
        "fused": lambda: [fused.rmsnorm_quantize_int8(x, ones), fused.silu_mul_quantize_int8(x, x + 1),
                          fused.rmsnorm_quantize_int8_long(x, ones)],
    }


def honest_call(path: Path, folder: Path) -> tuple[Exercise, Callable[..., Any]]:
    """The exercise of an honest submission, and its wrapper. Its definitions are imported from a file in `folder`."""
    text = re.sub(r"^[%!].*$", "", path.read_text(), flags=re.MULTILINE)
    (folder / "submitted.py").write_text(ast.unparse(ast.Module([n for n in ast.parse(text).body if _defines(n)], [])))
    spec = importlib.util.spec_from_file_location("submitted", folder / "submitted.py")
    assert spec and spec.loader
    submitted = importlib.util.module_from_spec(spec)
    tune = triton.autotune  # which times where there are several configurations
    try:
        triton.autotune = lambda configs, **options: tune(configs[:1], **options)
        spec.loader.exec_module(submitted)
    finally:
        triton.autotune = tune
    name = (re.findall(r"# exercise: (?:\S+::)?(\w+)", text) or ["vector_add_kernel"])[0]
    exercise = find_exercise(name)
    own, given = getattr(submitted, exercise.wrapper or "", None), exercise.cases[0].inputs(torch.Generator())
    if own is not None and set(given) <= set(inspect.signature(own).parameters):
        return exercise, own
    return exercise, exercise.callable_for(getattr(submitted, name))


def _defines(node: ast.AST) -> bool:
    return (isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef)
            or isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper()
            or isinstance(node, ast.AnnAssign) and ast.unparse(node.target).isupper())
