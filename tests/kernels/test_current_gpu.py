"""On which GPU a launch happens: that of the tensors, but for the wrappers that lessons show, which launch as Triton does.

Triton launches on the current GPU. `launching_at` makes that the one of the tensors; where kernels are interpreted it is a
lock, so whoever holds the lock would have made the GPU current.
"""

import ast
import json
import sys

import pytest
import torch
from test_far_rows import MORE, codes, randn
from triton.runtime.interpreter import InterpretedFunction

from checks.paths import ROOT
from kernels import decode, hopper_gemm, kv_cache, parts, rotary, runtime
from kernels.decode_tiles import GEMV_BLOCKS, WIDE
from kernels.linear import Int8Linear
from kernels.matmul import TMA_CONFIGS as FP16_CONFIGS
from kernels.matmul import matmul_fp16
from kernels.perrow_w8a8 import TMA_CONFIGS, perrow_w8a8_matmul
from kernels.runtime import INTERPRETED


def given_in_lessons() -> set[str]:
    """The functions that lessons show as they stand in `kernels/`."""
    cells = [cell for path in ROOT.glob("lessons/*.ipynb") for cell in json.loads(path.read_text())["cells"]]
    marks = [cell["source"][0].split() for cell in cells if cell["source"]]
    return {mark[2] for mark in marks if mark[:2] == ["#", "given:"]}


GIVEN = given_in_lessons()


def launches_unguarded(function: ast.AST) -> list[str]:
    """What `kernel[grid](...)` in this function, and calls of functions in it that launch, stand in no `launching_at`."""
    launching: dict[str, list[str]] = {}  # what the functions in it launch, by name

    def look(node: ast.AST, guarded: bool) -> list[str]:
        if isinstance(node, ast.With):
            guarded |= any(isinstance(item.context_expr, ast.Call) and ast.unparse(item.context_expr.func) == "launching_at"
                           for item in node.items)
        if isinstance(node, ast.FunctionDef) and node is not function:
            launching[node.name] = sum((look(child, guarded) for child in node.body), [])
            return []  # where it is called or handed on is what counts
        found = sum((look(child, guarded) for child in ast.iter_child_nodes(node)), [])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript) and not guarded:
            found.append(ast.unparse(node.func.value))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and launching.get(node.id) and not guarded:
            found.append(node.id)
        return found

    return look(function, False)


def functions():
    """Every function and method of `kernels/`, with its name; a method's has its class's in front."""
    for path in sorted(ROOT.glob("kernels/*.py")):
        tree = ast.parse(path.read_text())
        for parent in (tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))):
            for node in parent.body:
                if isinstance(node, ast.FunctionDef):
                    yield f"{getattr(parent, 'name', '')}.{node.name}".lstrip("."), node


def test_every_launch_is_at_its_tensors_or_in_a_lesson():
    unguarded = {name for name, function in functions() if launches_unguarded(function)}
    assert unguarded - GIVEN == {"Launch.__call__", "Launch._prepare"}, "these are called at their tensors: the last tests"
    assert {"vector_add", "gemv_fp16", "int_mm", "split_k_reduce"} <= unguarded


@pytest.mark.parametrize("source, found", [
    ("kernel[grid](x)", ["kernel"]), ("with launching_at(x):\n        kernel[grid](x)", []),
    ("with other(x):\n        kernel[grid](x)", ["kernel"]),
    ("with launching_at(x):\n        pass\n    kernel[grid](x)", ["kernel"]),
    ("def run(c):\n        kernel[c](x)\n    with launching_at(x):\n        run(1)", []),
    ("def run(c):\n        kernel[c](x)\n    with launching_at(x):\n        choose(run)\n    run(1)", ["run"]),
    ("def run(c):\n        kernel[c](x)\n    choose(run)", ["run"]), ("def run(c):\n        c(x)\n    run(1)", [])],
    ids=["bare", "guarded", "in another block", "behind it", "inside, guarded", "once not", "handed on", "no launch"])
def test_what_counts_as_unguarded(source, found):
    (function,) = ast.parse(f"def function(x):\n    {source}\n").body
    assert launches_unguarded(function) == found


SCALE, ONES = torch.tensor([0.01, 0.02, 0.03]), torch.ones(3)
HEADS = {"q": randn(2, 4, 16), "lengths": torch.tensor([8, 3], dtype=torch.int32)}
CACHE = {"k_q": codes(4, 128).view(2, 2, 8, 16), "k_scale": torch.ones(2, 2, 8)}
SUMS = codes(3, 4).int()
CALLS = MORE | {
    "quantized heads": (kv_cache.quantize_heads, {"x": randn(2, 3, 32), "heads": 2}),
    "appended": (kv_cache.append_int8, {"x": randn(2, 3, 32), "place": HEADS["lengths"], "q": CACHE["k_q"],
                                        "scale": CACHE["k_scale"]}),
    "attention": (kv_cache.decode_attention, HEADS | dict.fromkeys("kv", randn(2, 2, 8, 16))),
    "attention, INT8": (kv_cache.decode_attention_int8, HEADS | CACHE | {
        "v_q": CACHE["k_q"], "v_scale": CACHE["k_scale"]}),
    "merged parts": (kv_cache.merge_parts, {"part": randn(2, 2, 3, 16).float(), "lse": randn(2, 2, 3).float()}),
    "rotated": (rotary.rotate_qkv, {"qkv": randn(2, 64), "turn": randn(2, 2, 4).float(), "k": randn(1, 2, 2, 8),
                                    "v": randn(1, 2, 2, 8)}),
    "amax of a part": (parts.part_amax, {"x": randn(3, 40)}),
    "codes of a part": (parts.quantize_with_amax, {"x": randn(3, 40), "up": None, "amax": [ONES]}),
    "product of a part": (parts.multiply_into, {"y": randn(3, 3), "x_q": codes(3, 40), "x_scale": SCALE,
                                                "w_q": codes(3, 40), "w_scale": SCALE}),
    "one row of a part": (parts.quantize_and_multiply_into, {"y": randn(1, 3), "x": randn(1, 40), "w_q": codes(3, 40),
                                                             "w_scale": SCALE}),
    "sums of a part": (parts.sums_into, {"y": SUMS[:, :3].contiguous(), "x_q": codes(3, 40), "w_q": codes(3, 40)}),
    "end of a sum": (parts.finish, {"parts": [SUMS], "scales": (SCALE, torch.ones(4)), "bias": None, "residual": None,
                                    "dtype": torch.float16}),
    "end and norm": (parts.finish_rmsnorm, {"parts": [randn(3, 4)] * 2, "residual": randn(3, 4), "weight": randn(4),
                                            "eps": 1e-5}),
    "GEMV of a choice": (decode.gemv_with, {"blocks": GEMV_BLOCKS["many rows"], "x": randn(1, 40), "w_q": codes(3, 40),
                                            "w_scale": SCALE}),
    "tile of a choice": (decode.matmul_with, {"tile": WIDE, "splits": 1, "x": randn(3, 40), "w_q": codes(3, 40),
                                              "w_scale": SCALE}),
    "FP16, configured": (matmul_fp16, {"x": randn(16, 64), "w": randn(16, 64), "config": FP16_CONFIGS[0]}),
    "codes, configured": (perrow_w8a8_matmul, {
        "x_q": codes(16, 64), "x_scale": torch.ones(16), "w_q": codes(16, 64), "w_scale": torch.ones(16),
        "config": TMA_CONFIGS[0]}),
    "a layer": (Int8Linear(40, 3, bias=False), {"x": randn(3, 40)}),
}


@pytest.mark.skipif(not INTERPRETED, reason="it asks for the interpreter's lock")
@pytest.mark.parametrize("call", CALLS)
def test_a_call_launches_at_its_tensors(call, monkeypatch):
    launched = []

    def run(kernel, *arguments, **options):
        frame, callers = sys._getframe(), set()
        while frame := frame.f_back:
            callers.add(frame.f_code.co_name)
        launched.append((kernel.fn.__name__, runtime._one_at_a_time._is_owned() or callers & GIVEN))

    monkeypatch.setattr(InterpretedFunction, "run", run)
    function, given = CALLS[call]
    function(**given)
    assert launched and all(right for _, right in launched), launched


@pytest.mark.skipif(not INTERPRETED, reason="it asks for the interpreter's lock")
def test_hoppers_product_is_at_its_tensors(monkeypatch):
    held = []
    monkeypatch.setattr(hopper_gemm, "plan_hopper", lambda *_: lambda *_: held.append(runtime._one_at_a_time._is_owned()))
    x = randn(3, 4)
    assert hopper_gemm.hopper_gemm(x, x, x) is x and held == [True]
