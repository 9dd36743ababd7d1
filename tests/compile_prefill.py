"""Compiles every prefill kernel, in every configuration, for GPUs that need not be here; prints one JSON list.

Run by test_prefill_compiles.py in a process of its own, where Triton compiles instead of interpreting.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

torch.cuda.is_available = lambda: True  # so that `kernels` leaves Triton's compiler on; nothing is launched here

import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402
from triton.experimental.gluon import language as gl  # noqa: E402
from triton.experimental.gluon._runtime import GluonASTSource  # noqa: E402

from kernels import hopper_gemm, matmul, perrow_w8a8, quantize  # noqa: E402

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
GLUON = {"i8": gl.int8, "fp16": gl.float16, "bf16": gl.bfloat16}
SCALES = {"x_scale_ptr": "*fp32", "w_scale_ptr": "*fp32", "bias_ptr": "*fp16"}


def compiled(kernel, types, constants, capability, num_warps=4, num_stages=3, gluon=False):
    """What ptxas made of `kernel`; arguments are divisible by 16, as at the shapes that matter."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name][0] in "*i"}
    source = (GluonASTSource if gluon else ASTSource)(
        kernel, signature, {(names.index(name),): value for name, value in constants.items()}, aligned)
    options = {"num_warps": num_warps} if gluon else {"num_warps": num_warps, "num_stages": num_stages}
    binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, local = map(int, re.search(r"REG:(\d+) STACK:(\d+).*?LOCAL:(\d+)", usage).groups())
    ptx = binary.asm["ptx"]
    return {
        "kernel": kernel.fn.__name__, "capability": capability,
        "config": [str(value) for value in constants.values()] + [num_warps, num_stages],
        "shared": binary.metadata.shared, "registers": registers, "spilled": stack + local,
        "mma": "wgmma" if "wgmma.mma_async" in ptx else "mma" if "mma.sync" in ptx else None,
        "tma": "cp.async.bulk.tensor" in ptx,
    }


def gemm(kernel, config, element, capability, gluon=False, out="fp16", bias=True):
    tile = dict(config.kwargs)
    shapes = {"x_desc": (element, "BLOCK_M", "BLOCK_K"), "w_desc": (element, "BLOCK_N", "BLOCK_K"),
              "y_desc": (out, "BLOCK_M", "BLOCK_N")}
    types = {"x_ptr": f"*{element}", "w_ptr": f"*{element}", "y_ptr": f"*{out}", **SCALES}
    for name, (dtype, *sides) in shapes.items():
        block = [tile[side] for side in sides]
        if gluon and name == "y_desc" and block[0] * block[1] > 128 * 128:
            block[0] //= 2  # each consumer has half of the rows
        layout = f",{gl.NVMMASharedLayout.get_default_for(block, GLUON[dtype])!r}" if gluon else ""
        types[name] = f"tensordesc<{dtype}[{block[0]},{block[1]}]{layout}>"
    if "GROUP_M" not in kernel.arg_names:
        del tile["GROUP_M"]
    if "bias_ptr" in kernel.arg_names and not bias:
        tile["bias_ptr"] = None
    if gluon:
        pingpong = tile["BLOCK_M"] * tile["BLOCK_N"] <= 128 * 128
        tile |= {"NUM_STAGES": config.num_stages, "PINGPONG": pingpong}
        if element != "i8":
            tile |= {"x_scale_ptr": None, "w_scale_ptr": None}
    return compiled(kernel, types, tile, capability, config.num_warps, config.num_stages, gluon)


def main(capability):
    found = []
    for module, element, plain, grouped, tma in [
        (matmul, "fp16", matmul.matmul_fp16_naive_kernel, matmul.matmul_fp16_grouped_kernel, matmul.matmul_fp16_kernel),
        (perrow_w8a8, "i8", perrow_w8a8.perrow_w8a8_matmul_plain_kernel, perrow_w8a8.perrow_w8a8_matmul_kernel,
         perrow_w8a8.perrow_w8a8_matmul_tma_kernel),
    ]:
        if capability >= 80:
            found.append(gemm(plain, module.GROUPED_CONFIGS[0], element, capability))
            found += [gemm(grouped, config, element, capability) for config in module.GROUPED_CONFIGS]
        if capability == 90:
            found += [gemm(tma, config, element, capability) for config in module.TMA_CONFIGS]
    if capability == 90:
        kernel = hopper_gemm.hopper_gemm_kernel
        found.append(gemm(kernel, hopper_gemm.INT8_CONFIG, "i8", 90, gluon=True))
        found.append(gemm(kernel, hopper_gemm.INT8_CONFIG, "i8", 90, gluon=True, out="bf16", bias=False))
        for config in (hopper_gemm.FP16_CONFIG, hopper_gemm.FP16_FEW_TILES_CONFIG):
            found.append(gemm(kernel, config, "fp16", 90, gluon=True, bias=False))
    for dtype in ("fp16", "bf16") if capability >= 80 else ("fp16",):
        types = {"x_ptr": f"*{dtype}", "q_ptr": "*i8", "scale_ptr": "*fp32"}
        for kernel, blocks, num_warps in [
            (quantize.quantize_int8_perrow_kernel, {"BLOCK_K": 4096}, 4),
            (quantize.quantize_int8_perrow_two_blocks_kernel, {"HEAD": 8192, "TAIL": 4096}, 8),
            (quantize.quantize_int8_perrow_long_kernel, {"BLOCK_K": 4096}, 8),
        ]:
            found.append(compiled(kernel, types, blocks, capability, num_warps))
    return found


if __name__ == "__main__":
    print(json.dumps([line for capability in sys.argv[1:] for line in main(int(capability))]))
