"""The library's kernels, and those that students might write, give the interpreter's bits, without faults or races."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest
import torch
import triton
from executor_launches import beside_the_interpreter

import kernels
from checks.exercises import EXERCISES, find_exercise
from kernels import decode, decode_tiles, fused, gemv_int8, matmul, perrow_w8a8, plans, quantize, rotary, skinny, transformer

KERNELS = {name: exercise for name, exercise in EXERCISES.items() if exercise.is_kernel}
HONEST = [path for path in sorted((Path(__file__).parents[1] / "grader" / "honest").glob("*.py"))
          if "@triton.jit" in path.read_text()]
assert HONEST
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
        with beside_the_interpreter() as replayed:
            getattr(exercise.module, exercise.wrapper)(**inputs)
        assert_same(replayed)


def operands(M, N, K, dtype=torch.float16):
    g = torch.Generator().manual_seed(M)
    x_q, w_q = (torch.randint(-127, 128, shape, generator=g, dtype=torch.int8) for shape in ((M, K), (N, K)))
    x_scale, w_scale = (torch.rand(size, generator=g) * 1e-2 + 1e-4 for size in (M, N))
    return torch.randn(M, K, generator=g).to(dtype), x_q, x_scale, w_q, w_scale, torch.randn(N, generator=g).to(dtype)


def rotation_of_heads():
    config = transformer.Config(vocabulary=1, layers=1, dim=96, heads=4, kv_heads=2, hidden=1)
    g = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, (config.heads + 2 * config.kv_heads) * config.head_dim, generator=g).half()
    k, v = torch.zeros(2, 2, config.kv_heads, 1, config.head_dim).half()
    return rotary.rotate_qkv(qkv, transformer.rotation(config, torch.arange(7, 8)), k, v)


def rest_of_the_library():
    """Calls that reach the kernels no exercise asks for; sums of floats among them are exact, of small integers."""
    x, x_q, x_scale, w_q, w_scale, bias = operands(5, 70, 300)
    one = operands(1, 130, 600, torch.bfloat16)
    few = operands(17, 64, 1100)
    tile = [config for config in perrow_w8a8.TMA_CONFIGS if config.kwargs["BLOCK_M"] == 64][0]
    whole = torch.randint(-4, 5, (70, 96)).half(), torch.randint(-4, 5, (72, 96)).half()
    q, scale = operands(66, 72, 256)[1:3]
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
        "plans": lambda: [plans.rmsnorm(x, torch.ones(300)), plans.scale_sums(torch.ones(5, 70, dtype=torch.int32), x_scale,
                                                                               w_scale)],
        "gemv": lambda: gemv_int8.gemv_w8a16(torch.randint(-4, 5, (300,)).half(), w_q, w_scale.sign()),
        "rotation": rotation_of_heads,
        "quantize in two blocks": lambda: quantize.quantize_int8_perrow(operands(3, 1, 1100)[0]),
        "quantize": lambda: [f(x) for f in (quantize.quantize_int8_perrow, quantize.quantize_int8_perrow_long,
                                            quantize.quantize_int8_perrow_plain)],
        "fused": lambda: [fused.rmsnorm_quantize_int8(x, bias.new_ones(300)), fused.silu_mul_quantize_int8(x, x + 1),
                          fused.rmsnorm_quantize_int8_long(x, bias.new_ones(300))],
    }


@pytest.mark.parametrize("name", rest_of_the_library())
def test_the_rest_of_the_library(name):
    with beside_the_interpreter() as replayed:
        rest_of_the_library()[name]()
    assert_same(replayed)


def test_no_kernel_of_the_library_is_left_out():
    written = {name for path in Path(kernels.__file__).parent.glob("*.py") if path.stem != "hopper_gemm"
               for name in re.findall(r"@triton\.jit\ndef (\w+_kernel)\(", path.read_text())}
    if len(seen) < 20:
        pytest.skip("only a part of this file was run")
    assert written - seen == set()


def defines(node):
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef) or \
        isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper()


@pytest.mark.parametrize("path", HONEST, ids=lambda path: path.stem)
def test_honest_kernels(path, tmp_path, monkeypatch):
    text = re.sub(r"^[%!].*$", "", path.read_text(), flags=re.MULTILINE)
    definitions = ast.unparse(ast.Module([node for node in ast.parse(text).body if defines(node)], []))
    (tmp_path / "submitted.py").write_text(definitions)
    spec = importlib.util.spec_from_file_location("submitted", tmp_path / "submitted.py")
    submitted = importlib.util.module_from_spec(spec)
    tune = triton.autotune  # which looks for a GPU where there are several configs
    monkeypatch.setattr(triton, "autotune", lambda configs, **options: tune(configs[:1], **options))
    spec.loader.exec_module(submitted)
    name = (re.findall(r"# exercise: (?:\S+::)?(\w+)", text) or ["vector_add_kernel"])[0]
    exercise = find_exercise(name)
    if not exercise.is_kernel:
        pytest.skip("its function launches no kernel of its own")
    call = getattr(submitted, exercise.wrapper, None) or exercise.callable_for(getattr(submitted, name))
    for case in exercise.cases:
        with beside_the_interpreter() as replayed:
            call(**case.inputs(torch.Generator().manual_seed(2)))
        assert_same(replayed)
