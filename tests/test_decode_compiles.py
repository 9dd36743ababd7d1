"""Every kernel of decode, the GEMV and the fusions compiles for GPUs that are not here.

Triton compiles only in a process that does not interpret, so this file runs itself: as a script it takes jobs as JSON
on its standard input, and answers with a report on each.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED_LIMIT = {75: 65_536, 80: 166_912, 89: 101_376, 90: 232_448}  # bytes a program, CUDA's programming guide

F16, I8, F32, INT = "*fp16", "*i8", "*fp32", "i32"


def job(module, kernel, pointers, integers, capability, num_warps, num_stages=3, scalars=(), **constexprs):
    """One kernel for one GPU; pointers and integers are multiples of 16, as for weights of any usual model."""
    return {"module": f"kernels.{module}", "kernel": kernel, "types": [*pointers, *[INT] * integers, *scalars],
            "constexprs": constexprs, "capability": capability,
            "options": {"num_warps": num_warps, "num_stages": num_stages}}


def jobs():
    for sm in (75, 80, 90):
        overlap = sm >= 90
        for BLOCK_N, BLOCK_K, warps in ((4, 2048, 4), (4, 4096, 8)):
            yield job("decode", "decode_gemv_w8a8_kernel", [I8, I8, F16, F32, F32, F16], 3, sm, warps,
                      BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, OVERLAP=overlap)
        for BLOCK_K, warps in ((2048, 8), (16384, 16)):
            yield job("decode", "decode_quantize_kernel", [F16, I8, F32], 2, sm, warps,
                      BLOCK_K=BLOCK_K, SLICE=1024, OVERLAP=overlap)
        yield job("decode", "decode_reduce_kernel", ["*i32", F16, F32, F32, F16], 3, sm, 4,
                  BLOCK_N=512, OVERLAP=overlap)
        yield job("gemv_int8", "gemv_w8a16_row_kernel", [F16, I8, F16, F32], 2, sm, 4, BLOCK_K=4096)
        yield job("gemv_int8", "gemv_w8a16_kernel", [F16, I8, F16, F32], 3, sm, 2, BLOCK_N=4, BLOCK_K=512, IN_FLIGHT=4)
        for BLOCK_K, warps, fits in ((2048, 2, True), (16384, 16, True), (2048, 4, False)):
            yield job("fused", "rmsnorm_quantize_int8_kernel", [F16, F16, I8, F32], 2, sm, warps,
                      scalars=["fp32"], BLOCK_K=BLOCK_K, ROW_FITS=fits)
            yield job("fused", "silu_mul_quantize_int8_kernel", [F16, F16, I8, F32], 3, sm, warps * (1 + fits),
                      BLOCK_K=BLOCK_K, ROW_FITS=fits)
    for sm in (80, 89, 90):
        for name, BLOCK_M in (("WIDE", 16), ("WIDE_TALL", 32), ("WIDE_TALL", 128), ("SPLIT", 16), ("SPLIT", 64),
                              ("SPLIT_TALL", 128)):
            yield job("decode", "decode_w8a8_kernel", [I8, I8, F16, F32, F32, F16], 5, sm, name,
                      BLOCK_M=BLOCK_M, PARTIAL=name.startswith("SPLIT"), OVERLAP=sm >= 90)


def compile_all(jobs):
    import importlib

    import torch
    torch.cuda.is_available = lambda: True  # or `kernels` would have Triton interpret; nothing here asks for more
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    for job in jobs:
        module = importlib.import_module(job["module"])
        kernel, constexprs, options = getattr(module, job["kernel"]), job["constexprs"], job["options"]
        if isinstance(options["num_warps"], str):  # a tile by name
            tile = getattr(module, options["num_warps"])
            constexprs |= {"BLOCK_N": tile.BLOCK_N, "BLOCK_K": tile.BLOCK_K}
            num_stages = module.stages(tile, constexprs["BLOCK_M"], SHARED_LIMIT[job["capability"]])
            options |= {"num_warps": tile.num_warps, "num_stages": num_stages}
        names = kernel.arg_names
        signature = dict(zip(names, job["types"], strict=False)) | dict.fromkeys(constexprs, "constexpr")
        aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(job["types"]) if kind != "fp32"}
        source = ASTSource(kernel, signature, {(names.index(n),): v for n, v in constexprs.items()}, aligned)
        compiled = triton.compile(source, target=GPUTarget("cuda", job["capability"], 32), options=options)
        ptx = compiled.asm["ptx"]
        yield {"shared": compiled.metadata.shared, "overlap": "griddepcontrol.wait" in ptx,
               "tensor_cores": "wgmma" if "wgmma.mma" in ptx else "mma" if "mma.sync" in ptx else None}


@pytest.fixture(scope="module")
def reports():
    todo = list(jobs())
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    with tempfile.TemporaryDirectory() as folder:
        environment |= {"PYTHONPATH": str(ROOT), "TRITON_DUMP_PTXAS_LOG": "1", "TRITON_CACHE_DIR": folder}
        done = subprocess.run([sys.executable, __file__], input=json.dumps(todo), env=environment, capture_output=True,
                              text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *log, answer = done.stdout.splitlines()
    spills = [int(n) for line in [*log, *done.stderr.splitlines()] for n in re.findall(r"(\d+) bytes spill", line)]
    return list(zip(todo, json.loads(answer), strict=True)), spills


def test_no_kernel_spills_registers(reports):
    jobs, spills = reports
    assert len(spills) >= 2 * len(jobs)  # stores and loads of each: the compiler did report
    assert max(spills) == 0


def test_shared_memory_fits(reports):
    for job, report in reports[0]:
        assert report["shared"] <= SHARED_LIMIT[job["capability"]], job


def test_the_tensor_cores_are_used(reports):
    for job, report in reports[0]:
        used = "wgmma" if job["capability"] == 90 else "mma"
        assert report["tensor_cores"] == (used if job["kernel"] == "decode_w8a8_kernel" else None)


def test_launches_overlap_on_hopper_only(reports):
    for job, report in reports[0]:
        assert report["overlap"] == (job["module"] == "kernels.decode" and job["capability"] == 90)


if __name__ == "__main__":
    print(json.dumps(list(compile_all(json.load(sys.stdin)))))
