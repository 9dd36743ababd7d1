"""Every kernel compiles for GPUs that are not here: no spills, in their shared memory.

Every configuration is compiled for one GPU on which it may be chosen, Hopper before others. An older GPU gets one of each
kernel, and of a product with tensor cores those that are for it, but for tiles that are part of a larger one.
"""

import ast
import inspect
from pathlib import Path

import pytest
from triton.experimental.gluon import language as gl

from checks.judge.compiler import start
from checks.judge.source import python_function
from kernels import (
    decode,
    decode_row,
    fused,
    gate_up,
    gemv,
    gemv_int8,
    group_w8a8,
    hello,
    hopper_gemm,
    int_mm,
    kv_cache,
    matmul,
    mlp,
    parts,
    perrow_w8a8,
    plans,
    quantize,
    quantize_beside,
    quantize_inside,
    rotary,
    skinny,
)
from kernels.decode_tiles import GEMV_BLOCKS, LARGE, NARROW, NARROWER, SPLIT, TALL, WIDE, row_blocks, stages

KERNELS = Path(decode.__file__).parent
SHARED_LIMIT = {75: 65_536, 80: 166_912, 89: 101_376, 90: 232_448}  # bytes a program, CUDA's programming guide
PRODUCTS = {"matmul_fp16_naive_kernel", "matmul_fp16_grouped_kernel", "matmul_fp16_kernel", "hopper_gemm_kernel",
            "beside_kernel", "int_mm_kernel", "perrow_w8a8_matmul_plain_kernel", "perrow_w8a8_matmul_kernel",
            "perrow_w8a8_matmul_tma_kernel", "decode_w8a8_kernel", "skinny_w8a8_kernel", "split_k_kernel",
            "decode_attention_int8_kernel", "gate_up_silu_mul_plain_kernel", "quantizing_matmul_kernel",
            "persistent_rows_kernel", "group_w8a8_matmul_kernel"}
COPIED_BY_TMA = {"matmul_fp16_kernel", "perrow_w8a8_matmul_tma_kernel", "hopper_gemm_kernel", "beside_kernel"}
GLUON = {"i8": gl.int8, "fp16": gl.float16, "bf16": gl.bfloat16}

POINTERS = {"q_ptr": "*i8", "scale_ptr": "*fp32", "x_scale_ptr": "*fp32", "w_scale_ptr": "*fp32", "partial_ptr": "*i32"}
CODES = {"x_ptr": "*i8", "w_ptr": "*i8"}
WEIGHTS = {"w_ptr": "*i8"}


def job(kernel, capability, constexprs, types=None, **options):
    """One kernel for one GPU. Pointers and integers are multiples of 16, as for weights of any usual model."""
    function, signature = python_function(kernel), {}
    for name in inspect.signature(function).parameters:
        default = POINTERS.get(name, "*fp16") if name.endswith("_ptr") else "fp32" if name == "eps" else "i32"
        signature[name] = "constexpr" if name in constexprs else (types or {}).get(name, default)
    aligned = [name for name, kind in signature.items() if kind[0] in "*i"]
    return {"module": function.__module__, "name": function.__name__, "signature": signature, "constexprs": constexprs,
            "aligned": aligned, "options": options, "capability": capability}


def row_jobs(sm):
    """Kernels that use no tensor cores."""
    fp32 = dict.fromkeys(("x_ptr", "y_ptr", "out_ptr"), "*fp32")
    for kernel in (hello.vector_add_kernel, hello.smooth_kernel):
        yield job(kernel, sm, {"BLOCK": 1024}, fp32)
    yield job(hello.row_sum_kernel, sm, {"BLOCK_N": 4096}, fp32)
    yield job(hello.copy_2d_kernel, sm, {"BLOCK_M": 16, "BLOCK_N": 64}, fp32)
    yield job(matmul.grouped_order_kernel, sm, {"GROUP_M": 8}, {"order_ptr": "*i32"})
    for kernel, types in ((gemv.gemv_fp16_row_kernel, {}), (gemv_int8.gemv_w8a16_row_kernel, WEIGHTS),
                          (gemv_int8.gemv_w8a8_row_kernel, CODES)):
        yield job(kernel, sm, {"BLOCK_K": 4096}, types)
    yield job(gemv.gemv_fp16_kernel, sm, {"BLOCK_N": 2, "BLOCK_K": 1024})
    yield job(gemv_int8.gemv_w8a16_kernel, sm, {"BLOCK_N": 4, "BLOCK_K": 512, "IN_FLIGHT": 4}, WEIGHTS, num_warps=2)
    for dtype in ("*fp16", "*bf16") if sm >= 80 else ("*fp16",):
        for kernel, blocks, num_warps in [
            (quantize.quantize_int8_perrow_plain_kernel, {"BLOCK_K": 4096}, 4),
            (quantize.quantize_int8_perrow_kernel, {"BLOCK_K": 4096}, 4),
            (quantize.quantize_int8_perrow_two_blocks_kernel, {"HEAD": 8192, "TAIL": 4096}, 8),
            (quantize.quantize_int8_perrow_two_blocks_kernel, {"HEAD": 4096, "TAIL": 1024}, 2),
            (quantize.quantize_int8_perrow_long_kernel, {"BLOCK_K": 4096}, 8),
        ]:
            yield job(kernel, sm, blocks, {"x_ptr": dtype}, num_warps=num_warps)
        yield job(group_w8a8.quantize_int8_groups_kernel, sm, {"BLOCK_M": 32, "GROUP_K": 128}, {"x_ptr": dtype})
        for K in (2048, 11008):
            row, num_warps = quantize.blocks_of_row(K)
            yield job(quantize_beside.first_rows_kernel, sm, row | {"COUNTS": 256, "TRIGGER": sm >= 90},
                      {"x_ptr": dtype, "count_ptr": "*i32"}, num_warps=num_warps)
    for kernel in (fused.rmsnorm_quantize_int8_plain_kernel, fused.rmsnorm_quantize_int8_long_kernel,
                   fused.silu_mul_quantize_int8_plain_kernel):
        yield job(kernel, sm, {"BLOCK_K": 2048})
    yield job(rotary.rotate_qkv_kernel, sm, {"BLOCK": 64}, {"turn_ptr": "*fp32", "q_ptr": "*fp16"}, num_warps=1)
    yield job(mlp.silu_mul_fp16_kernel, sm, {"BLOCK_K": 2048})
    yield job(plans.rmsnorm_kernel, sm, {"BLOCK_K": 4096})
    yield job(plans.scale_sums_kernel, sm, {"BLOCK_N": 2048}, {"acc_ptr": "*i32"})
    for up in ({}, {"up_ptr": None}):
        yield job(parts.part_amax_kernel, sm, {"BLOCK_K": 4096} | up, {"amax_ptr": "*fp32"}, num_warps=8)
        maxima = {"amax_ptr": "*fp32", "other_ptr": "*fp32"}
        yield job(parts.quantize_with_amax_kernel, sm, {"SLICE": 4096} | up, maxima)
    sums = {"part_ptr": "*i32", "other_ptr": "*i32"}
    unscaled = dict.fromkeys(("x_scale_ptr", "w_scale_ptr", "bias_ptr"))
    yield job(parts.finish_kernel, sm, {"BLOCK_N": 1024}, sums)
    yield job(parts.finish_kernel, sm, {"BLOCK_N": 1024} | unscaled)
    yield job(parts.finish_rmsnorm_kernel, sm, {"BLOCK_N": 4096}, num_warps=4)
    for BLOCK_K, num_warps, fits in ((2048, 2, True), (16384, 16, True), (2048, 4, False)):
        blocks = {"BLOCK_K": BLOCK_K, "ROW_FITS": fits}
        yield job(fused.rmsnorm_quantize_int8_kernel, sm, blocks, num_warps=num_warps)
        yield job(fused.silu_mul_quantize_int8_kernel, sm, blocks, num_warps=num_warps * (1 + fits))


def attention_jobs(sm):
    int32 = {"place_ptr": "*i32", "length_ptr": "*i32"}
    fp32 = dict.fromkeys(("part_ptr", "lse_ptr", "k_scale_ptr", "v_scale_ptr"), "*fp32") | {"sm_scale": "fp32"}
    for place in ({}, {"place_ptr": None}):
        yield job(kv_cache.quantize_heads_kernel, sm, {"BLOCK_D": 128} | place, int32, num_warps=1)
    yield job(kv_cache.decode_attention_kernel, sm, {"BLOCK_T": 128, "BLOCK_D": 128}, int32 | fp32)
    yield job(kv_cache.merge_parts_kernel, sm, {"BLOCK_S": 64, "BLOCK_D": 128}, fp32, num_warps=4)
    for BLOCK_D in (128, 64) if sm >= 90 else (128,) if sm >= 80 else ():
        for tile in (kv_cache.FEW_TOKENS._replace(BLOCK_T=128), kv_cache.MANY_TOKENS)[:1 if BLOCK_D == 64 else 2]:
            blocks = {"BLOCK_G": 16, "BLOCK_T": tile.BLOCK_T, "BLOCK_D": BLOCK_D}
            yield job(kv_cache.decode_attention_int8_kernel, sm, blocks, int32 | fp32 | {"k_ptr": "*i8", "v_ptr": "*i8"},
                      num_warps=tile.num_warps, num_stages=tile.num_stages)


def skinny_jobs(sm):
    yield job(skinny.split_k_reduce_kernel, sm, {"BLOCK_N": 512})
    if sm >= 80:
        blocks = {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 256}
        yield job(skinny.skinny_w8a8_kernel, sm, blocks, CODES, num_stages=3)
        yield job(skinny.split_k_kernel, sm, blocks, CODES, num_stages=4)


def decode_jobs(sm):
    overlap = {"OVERLAP": sm >= 90}
    if sm != 89:  # which is here for its shared memory alone
        for BLOCK_N, BLOCK_K, num_warps in GEMV_BLOCKS.values():
            blocks = {"BLOCK_N": BLOCK_N, "BLOCK_K": BLOCK_K} | overlap
            yield job(decode.decode_gemv_w8a8_kernel, sm, blocks, CODES, num_warps=num_warps)
        for BLOCK_K, num_warps in ((2048, 8), (16384, 16)):
            blocks = {"BLOCK_K": BLOCK_K, "SLICE": 1024} | overlap
            yield job(decode.decode_quantize_kernel, sm, blocks, num_warps=num_warps)
        for BLOCK_K in (2048, 4096):
            yield job(decode_row.decode_row_kernel, sm, {"BLOCK_N": 4, "BLOCK_K": BLOCK_K} | overlap, WEIGHTS, num_warps=4)
        yield job(decode.decode_reduce_kernel, sm, {"BLOCK_N": 512} | overlap, num_warps=4)
    if sm >= 80:
        tallest = LARGE if sm >= 90 else TALL
        for tile, M in ((WIDE, 16), (TALL, 32), (TALL, 64), (tallest, 96), (tallest, 128), (NARROWER, 16), (NARROW, 64),
                        (SPLIT, 16), (SPLIT, 64), (SPLIT, 128)):
            if sm == 80 and (tile, M) in ((TALL, 32), (tallest, 96)):
                continue
            if sm == 89 and (tile, M) not in ((WIDE, 16), (tallest, 128), (SPLIT, 128)):
                continue  # compiled as on 80; here it is the stages that differ, by the shared memory
            partial = tile is SPLIT
            BLOCK_M, REST = row_blocks(M)
            blocks = {"BLOCK_M": BLOCK_M, "REST": REST, "BLOCK_N": tile.BLOCK_N, "BLOCK_K": tile.BLOCK_K,
                      "PARTIAL": partial} | overlap
            yield job(decode.decode_w8a8_kernel, sm, blocks, CODES, num_warps=tile.num_warps,
                      num_stages=stages(tile, BLOCK_M + REST, SHARED_LIMIT[sm]))


def prefill_jobs(sm):
    for element, module, plain, grouped, tma in [
        ("fp16", matmul, matmul.matmul_fp16_naive_kernel, matmul.matmul_fp16_grouped_kernel, matmul.matmul_fp16_kernel),
        ("i8", perrow_w8a8, perrow_w8a8.perrow_w8a8_matmul_plain_kernel, perrow_w8a8.perrow_w8a8_matmul_kernel,
         perrow_w8a8.perrow_w8a8_matmul_tma_kernel),
    ]:
        yield gemm(plain, sm, module.GROUPED_CONFIGS[0], element)
        for config in module.GROUPED_CONFIGS if sm < 90 else module.GROUPED_CONFIGS[:1]:  # TMA's kernel is Hopper's
            yield gemm(grouped, sm, config, element)
        for config in module.TMA_CONFIGS if sm >= 90 else ():
            yield gemm(tma, sm, config, element)
    tile = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 128}
    for neighbours in ("stride_wk", "stride_wn"):  # K-major, N-major
        yield job(int_mm.int_mm_kernel, sm, tile | {neighbours: 1}, CODES | {"y_ptr": "*i32"}, num_warps=8)
    yield job(gate_up.gate_up_silu_mul_plain_kernel, sm, tile | {"BLOCK_N": 64}, CODES, num_warps=8)
    for config in group_w8a8.GROUP_CONFIGS if sm >= 90 else group_w8a8.GROUP_CONFIGS[:1]:
        yield gemm(group_w8a8.group_w8a8_matmul_kernel, sm, config, "i8")
    for scales in ({}, {"x_scale_ptr": None}):
        yield job(quantize_inside.quantizing_matmul_kernel, sm, tile | scales, WEIGHTS, num_warps=8)
    yield job(quantize_inside.persistent_rows_kernel, sm, tile, WEIGHTS, num_warps=8)
    if sm >= 90:
        yield gluon_gemm(sm, hopper_gemm.INT8_CONFIG, "i8", "fp16")
        yield gluon_gemm(sm, hopper_gemm.INT8_CONFIG, "i8", "bf16", bias_ptr=None)
        for K, out in ((2048, "fp16"), (4096, "bf16"), (5120, "fp16"), (11008, "bf16"), (11008, "fp16")):
            yield beside(sm, K, out)
        for config in (hopper_gemm.FP16_CONFIG, hopper_gemm.FP16_FEW_TILES_CONFIG):
            yield gluon_gemm(sm, config, "fp16", "fp16", x_scale_ptr=None, w_scale_ptr=None, bias_ptr=None)


def gemm(kernel, sm, config, element):
    tile = dict(config.kwargs)
    if "GROUP_M" not in inspect.signature(python_function(kernel)).parameters:
        del tile["GROUP_M"]
    types = {"x_ptr": f"*{element}", "w_ptr": f"*{element}"} | descriptors(tile, tile["BLOCK_M"], element, "fp16")
    return job(kernel, sm, tile, types, num_warps=config.num_warps, num_stages=config.num_stages)


def gluon_gemm(sm, config, element, out, **absent):
    tile = dict(config.kwargs)
    pingpong = tile["BLOCK_M"] * tile["BLOCK_N"] <= 128 * 128
    # Without ping-pong each consumer stores half of the rows.
    types = descriptors(tile, tile["BLOCK_M"] if pingpong else tile["BLOCK_M"] // 2, element, out, layouts=True)
    constexprs = tile | absent | {"NUM_STAGES": config.num_stages, "PINGPONG": pingpong}
    return job(hopper_gemm.hopper_gemm_kernel, sm, constexprs, types, num_warps=config.num_warps)


def beside(sm, K, out):
    config = hopper_gemm.INT8_CONFIG
    types = descriptors(config.kwargs, config.kwargs["BLOCK_M"], "i8", out, layouts=True)
    constexprs = config.kwargs | quantize_beside.rows_at_a_time(K) | {
        "NUM_STAGES": config.num_stages, "CHUNK": quantize_beside.CHUNK, "OVERLAP": True}
    return job(quantize_beside.beside_kernel, sm, constexprs, types | {"x_ptr": f"*{out}", "count_ptr": "*i32"},
               num_warps=config.num_warps)


def descriptors(tile, rows, element, out, layouts=False):
    """Types of the descriptors of x, w, and y, of which `rows` are stored at once."""
    blocks = {"x_desc": (element, tile["BLOCK_M"], tile["BLOCK_K"]), "w_desc": (element, tile["BLOCK_N"], tile["BLOCK_K"]),
              "y_desc": (out, rows, tile["BLOCK_N"])}
    types = {}
    for name, (dtype, *block) in blocks.items():
        layout = f",{gl.NVMMASharedLayout.get_default_for(block, GLUON[dtype])!r}" if layouts else ""
        types[name] = f"tensordesc<{dtype}[{block[0]},{block[1]}]{layout}>"
    return types


def one_of_each(jobs):
    return list({job["name"]: job for job in reversed([*jobs])}.values())


JOBS = [
    *one_of_each(attention_jobs(75)), *attention_jobs(80), *attention_jobs(90),
    *one_of_each(row_jobs(75)), *one_of_each(row_jobs(80)), *row_jobs(90),
    *skinny_jobs(75), *skinny_jobs(80), *skinny_jobs(90),
    *one_of_each(decode_jobs(75)), *decode_jobs(80), *decode_jobs(89), *decode_jobs(90),
    *prefill_jobs(80), *prefill_jobs(90),
]


@pytest.fixture(scope="module")
def compiled():
    return list(zip(JOBS, start(JOBS, processes=2, timeout_s=900)(), strict=True))


def test_every_kernel_is_compiled_for_each_architecture():
    every = set()
    for path in KERNELS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.endswith("_kernel"):
                every |= {node.name for decorator in node.decorator_list if "jit" in ast.unparse(decorator)}
    here = {sm: {job["name"] for job in JOBS if job["capability"] == sm} for sm in SHARED_LIMIT}
    assert here[90] == every
    assert here[89] == {"decode_w8a8_kernel"}  # fewer stages there than on the others
    assert here[80] == every - COPIED_BY_TMA
    assert here[75] == every - PRODUCTS


def test_every_kernel_compiles_and_spills_nothing(compiled):
    for job, report in compiled:
        assert report.error is None, job
        assert report.registers, job  # the assembler did report
        assert (report.spills, report.stack) == (0, 0), job


def test_shared_memory_fits(compiled):
    for job, report in compiled:
        assert report.shared <= SHARED_LIMIT[job["capability"]], job


def test_tensor_cores_do_the_products(compiled):
    for job, report in compiled:
        narrow = (job["constexprs"].get("BLOCK_N") in (NARROW.BLOCK_N, NARROWER.BLOCK_N)  # wgmma wants 64 rows of w
                  or "BLOCK_G" in job["constexprs"])  # and of queries
        used = "wgmma" if job["capability"] == 90 and not narrow else "mma"
        assert report.tensor_cores == (used if job["name"] in PRODUCTS else None), job


def test_descriptors_become_tma(compiled):
    for job, report in compiled:
        assert report.tma == (job["name"] in COPIED_BY_TMA), job


def test_only_products_with_fp32_sums_stay_in_flight(compiled):
    """Lesson 05 says so of Triton's compiler on Hopper; what is written in Gluon decides for itself."""
    by_triton = [(job, report) for job, report in compiled if job["name"] not in ("hopper_gemm_kernel", "beside_kernel")]
    products = [(job, report) for job, report in by_triton if report.tensor_cores == "wgmma"]
    assert {report.multiplies for _, report in products} == {"f16", "s8"}
    for job, report in products:
        assert report.pending == (1 if report.multiplies == "f16" else 0), job


def test_launches_overlap_on_hopper_only(compiled):
    for job, report in compiled:
        waits = job["module"].startswith("kernels.decode") or job["name"] == "beside_kernel"
        assert report.overlap == (waits and job["capability"] == 90), job
