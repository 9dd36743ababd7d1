"""What each public function launches on GPUs that are not here: which kernels, with which arguments, grids and options."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernels.configs import stage_bytes

SCRIPT = Path(__file__).with_name("pretended_gpu.py")
GPUS = {  # CUDA's programming guide, technical specifications by compute capability
    "T4": {"capability": (7, 5), "multiprocessors": 40, "shared_memory": 65_536},
    "A100": {"capability": (8, 0), "multiprocessors": 108, "shared_memory": 166_912},
    "A40": {"capability": (8, 6), "multiprocessors": 84, "shared_memory": 101_376},
    "A40, the first is fastest": {"capability": (8, 6), "multiprocessors": 84, "shared_memory": 101_376, "fastest": 0},
    "H100": {"capability": (9, 0), "multiprocessors": 132, "shared_memory": 232_448},
    "H20": {"capability": (9, 0), "multiprocessors": 78, "shared_memory": 232_448},
    "B200": {"capability": (10, 0), "multiprocessors": 148, "shared_memory": 232_448},
    "MI300X": {"capability": (9, 4), "multiprocessors": 304, "shared_memory": 65_536, "hip": "6.4"},
}
OVERLAPPING = {"H100", "H20", "B200"}
EPS = 3e-4


def tensor(dtype, *shape, pitch=None):
    """`pitch`: elements from the start of a row to that of the next, where that is more than a row."""
    return {"dtype": dtype, "shape": shape} | ({"strides": (pitch, 1)} if pitch else {})


def matmul(M, N, K, **pitches):
    return {"x": tensor("float16", M, K, pitch=pitches.get("x")), "w": tensor("float16", N, K, pitch=pitches.get("w"))}


def weights(N, K, bias=None, pitch=None):
    given = {"w_q": tensor("int8", N, K, pitch=pitch), "w_scale": tensor("float32", N)}
    return given | ({"bias": tensor(bias, N)} if bias else {})


def linear(M, N, K, dtype="float16", bias="float16", pitch=None):
    return {"x": tensor(dtype, M, K, pitch=pitch), **weights(N, K, bias)}


def product(M, N, K, bias="float32", out="bfloat16", **pitches):
    given = {"x_q": tensor("int8", M, K, pitch=pitches.get("x")), "x_scale": tensor("float32", M)}
    return given | weights(N, K, bias, pitches.get("w")) | {"out_dtype": out}


def rows(dtype, M, K, pitch=None):
    return {"x": tensor(dtype, M, K, pitch=pitch)}


def norm(dtype, M, K, pitch=None):
    return {"x": tensor(dtype, M, K, pitch=pitch), "weight": tensor("float32", K), "eps": EPS}


CALLS = {
    "one row": ["decode", "decode_w8a8", linear(1, 22016, 2048, "bfloat16")],
    "one row, few long": ["decode", "decode_w8a8", linear(1, 512, 8192, bias=None)],
    "2 rows": ["decode", "decode_w8a8", linear(2, 4096, 4096, pitch=4112)],
    "16 rows, wide w": ["decode", "decode_w8a8", linear(16, 22016, 2048, bias=None)],
    "16 rows, very wide w": ["decode", "decode_w8a8", linear(16, 65536, 2048)],
    "17 rows, wide w": ["decode", "decode_w8a8", linear(17, 22016, 2048, "bfloat16", "bfloat16")],
    "64 rows, very wide w": ["decode", "decode_w8a8", linear(64, 65536, 2048)],
    "65 rows, wide w": ["decode", "decode_w8a8", linear(65, 22016, 2048, bias="float32")],
    "128 rows": ["decode", "decode_w8a8", linear(128, 1024, 8192)],
    "128 rows, wide w": ["matmul_int8", "matmul_int8", linear(128, 22016, 2048)],
    "129 rows": ["matmul_int8", "matmul_int8", linear(129, 4096, 4096, "bfloat16", "float32")],
    "many rows": ["matmul_int8", "matmul_int8", linear(16384, 6144, 2048, "bfloat16", "float16", pitch=2064)],
    "many rows, odd K": ["matmul_int8", "matmul_int8", linear(1000, 520, 2049)],
    "product, few tiles": ["perrow_w8a8", "perrow_w8a8_matmul", product(80, 2048, 4096, x=4112, w=4128)],
    "product, some tiles": ["perrow_w8a8", "perrow_w8a8_matmul", product(512, 2048, 4096, bias=None)],
    "product, many tiles": ["perrow_w8a8", "perrow_w8a8_matmul", product(4096, 4096, 4096, out="float16", x=4112, w=4128)],
    "product, odd N": ["perrow_w8a8", "perrow_w8a8_matmul", product(300, 1001, 256)],
    "product, grouped": ["perrow_w8a8", "perrow_w8a8_matmul_grouped", product(300, 1000, 256, w=272)],
    "product, plain": ["perrow_w8a8", "perrow_w8a8_matmul_plain", product(300, 1000, 256, x=300, w=280)],
    "int_mm": ["int_mm", "int_mm", {"x_q": tensor("int8", 300, 256, pitch=272), "w_q": tensor("int8", 520, 256, pitch=288)}],
    "FP16, few tiles": ["matmul", "matmul_fp16", matmul(80, 2048, 4096, x=4104)],
    "FP16, many tiles": ["matmul", "matmul_fp16", matmul(4096, 4096, 4096, w=4112)],
    "FP16, a tile for nearly each": ["matmul", "matmul_fp16", matmul(1024, 2048, 4096)],
    "FP16, odd K": ["matmul", "matmul_fp16", matmul(300, 1000, 257)],
    "FP16, grouped": ["matmul", "matmul_fp16_grouped", matmul(300, 1000, 256, x=264, w=272)],
    **{f"FP16, grouped, {what}": ["matmul", "matmul_fp16_grouped", matmul(*shape)] for what, shape in {
        "as many rows": (500, 1000, 256), "more rows": (600, 1000, 256), "other N": (300, 1008, 256),
        "other K": (300, 1000, 264)}.items()},
    "FP16, naive": ["matmul", "matmul_fp16_naive", matmul(300, 1000, 256, x=264, w=272)],
    **{f"quantize, K = {K}": ["quantize", "quantize_int8_perrow", rows("bfloat16", 5, K, K + 8)]
       for K in (1, 1024, 1025, 1600, 2048, 3000, 4096, 5120, 8192, 11008, 16383, 16384)},
    "quantize, plain": ["quantize", "quantize_int8_perrow_plain", rows("float16", 5, 700, 704)],
    **{f"norm, K = {K}": ["fused", "rmsnorm_quantize_int8", norm("bfloat16", 5, K, K + 8)]
       for K in (100, 4096, 5632, 16384, 20000)},
    "norm, plain": ["fused", "rmsnorm_quantize_int8_plain", norm("float16", 5, 700, 704)],
    "norm, long": ["fused", "rmsnorm_quantize_int8_long", norm("float16", 5, 7000, 7008)],
    "norm, FP16": ["plans", "rmsnorm", norm("float16", 5, 5000, 5008)],
    **{f"gate and up, K = {K}": ["fused", "silu_mul_quantize_int8", {"gate": tensor("float16", 5, K, pitch=2 * K),
                                                            "up": tensor("float16", 5, K, pitch=3 * K)}]
       for K in (100, 11008, 20000)},
    "gate and up, plain": ["fused", "silu_mul_quantize_int8_plain", {"gate": tensor("float16", 5, 700, pitch=704),
                                                            "up": tensor("float16", 5, 700, pitch=720)}],
    "scaled sums": ["plans", "scale_sums", {"acc": tensor("int32", 5, 3000, pitch=3008), "x_scale": tensor("float32", 5),
                                   "w_scale": tensor("float32", 3000)}],
    **{f"FP16 GEMV, {rung}": ["gemv", rung, {"x": tensor("float16", 300), "w": tensor("float16", 1001, 300, pitch=304)}]
       for rung in ("gemv_fp16_row", "gemv_fp16")},
    **{f"INT8 GEMV, {rung}": ["gemv_int8", rung, {"x": tensor("bfloat16", 300), **weights(1001, 300, pitch=304)}]
       for rung in ("gemv_w8a16_row", "gemv_w8a16")},
    **{f"the longest row, {rung}": [module, rung, given] for module, rung, given in [
        ("gemv", "gemv_fp16_row", {"x": tensor("float16", 65536), "w": tensor("float16", 9, 65536)}),
        ("gemv_int8", "gemv_w8a16_row", {"x": tensor("bfloat16", 65536), **weights(9, 65536)})]},
    "codes GEMV": ["gemv_int8", "gemv_w8a8_row", {"x_q": tensor("int8", 300), "x_scale": tensor("float32", 1),
                                     **weights(1001, 300, pitch=304)}],
    "skinny": ["skinny", "skinny_w8a8", {"x_q": tensor("int8", 5, 700, pitch=704), "x_scale": tensor("float32", 5),
                               **weights(1001, 700, pitch=720)}],
    "split K": ["skinny", "split_k_w8a8", {"x_q": tensor("int8", 5, 700, pitch=704), "x_scale": tensor("float32", 5),
                                 **weights(1001, 700, pitch=720)}],
}


@pytest.fixture(scope="module")
def found():
    asked = json.dumps({"gpus": GPUS, "calls": CALLS})
    done = subprocess.run([sys.executable, SCRIPT], input=asked, capture_output=True, text=True, timeout=120,
                          cwd=SCRIPT.parents[2], env={"PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def launches(of_gpu):
    """(call, its arguments, launch as a namespace with its arguments as one more) of every launch."""
    for call, launched in of_gpu.items():
        for launch in launched if isinstance(launched, list) else ():
            if "kernel" in launch:
                yield call, CALLS[call][2], SimpleNamespace(**launch | {"arguments": SimpleNamespace(**launch["arguments"])})


def sizes(given):
    """M, N and K of a call."""
    x = next(given[name]["shape"] for name in ("x", "x_q", "gate", "acc") if name in given)
    N = next((given[name]["shape"][0] for name in ("w", "w_q", "w_scale") if name in given), None)
    return (x[0] if len(x) == 2 else 1), N, x[-1]


def pitch(given, name):
    return given[name].get("strides", given[name]["shape"][-1:])[0]


def expected(given, kernel):
    """What each argument of a kernel must be, by its name."""
    M, N, K = sizes(given)
    whole = next(name for name in ("x", "x_q", "gate", "acc") if name in given)
    # A product of codes takes those that were given, or those of x.
    of_codes = any(word in kernel for word in ("w8a8", "hopper", "int_mm")) and "w_q" in given
    made = of_codes and "x" in given
    out = given.get("out_dtype") or (given["x"]["dtype"] if "x" in given else "float16")
    want = {
        "M": M, "N": N, "K": K, "eps": EPS, "x_ptr": f"int8 ({M}, {K})" if made else whole,
        "w_ptr": "w_q" if "w_q" in given else "w", "y_ptr": f"{out} ({M}, {N})", "q_ptr": f"int8 ({M}, {K})",
        "scale_ptr": f"float32 ({M},)",
        "x_scale_ptr": "x_scale" if "x_scale" in given else f"float32 ({M},)" if "w_q" in given else None,
        "w_scale_ptr": "w_scale" if "w_scale" in given else None, "bias_ptr": "bias" if "bias" in given else None,
        "weight_ptr": "weight", "gate_ptr": "gate", "up_ptr": "up", "acc_ptr": "acc", "stride_qm": K, "stride_ym": N,
        "stride_xm": K if made else pitch(given, whole), "stride_am": pitch(given, whole), "stride_wk": 1,
    }
    for name, matrix in (("stride_gm", "gate"), ("stride_um", "up"), ("stride_wn", "w"), ("stride_wn", "w_q")):
        if matrix in given:
            want[name] = pitch(given, matrix)
    if "gemv" in kernel:
        want["y_ptr"] = f"{out} (1, {N})" if kernel.startswith("decode") else f"{out} ({N},)"
    if kernel == "rmsnorm_kernel":
        want |= {"y_ptr": f"{out} ({M}, {K})", "stride_ym": K}
    if kernel == "int_mm_kernel":
        want["y_ptr"] = f"int32 ({M}, {N})"
    return want


@pytest.mark.parametrize("gpu", GPUS)
def test_every_argument_is_what_its_name_says(found, gpu):
    for call, given, launch in launches(found[gpu]):
        want = expected(given, launch.kernel)
        for name, value in vars(launch.arguments).items():
            if name.endswith("_desc"):
                want[name], value = want[name.replace("desc", "ptr")], value[0]
            if name in ("partial_ptr", "splits", "k_per_split") or name[0].isupper() and len(name) > 1:
                continue  # tested with grids, or a constexpr
            if name == "y_ptr" and getattr(launch.arguments, "PARTIAL", False):
                M, N, _ = sizes(given)
                want[name] = f"int32 ({launch.grid[1]}, {M}, {N})"
            assert value == want[name], (call, launch.kernel, name)


def cdiv(a, b):
    return -(-a // b)


def grid(kernel, a, M, N, sms):
    """The grid of one kernel: programs for every row, tile or slice, and none that has nothing to do."""
    if kernel == "hopper_gemm_kernel":
        return [min(sms, cdiv(M, a.BLOCK_M) * cdiv(N, a.BLOCK_N))]
    if kernel == "decode_quantize_kernel":
        return [M, cdiv(a.K, a.SLICE)]
    if kernel in ("decode_w8a8_kernel", "split_k_kernel"):
        assert a.k_per_split % 128 == 0
        return [cdiv(N, a.BLOCK_N), cdiv(a.K, a.k_per_split)]
    if kernel in ("decode_reduce_kernel", "split_k_reduce_kernel", "scale_sums_kernel"):
        return [M, cdiv(N, a.BLOCK_N)]
    if kernel in ("decode_gemv_w8a8_kernel", "gemv_fp16_kernel", "gemv_w8a16_kernel", "skinny_w8a8_kernel"):
        return [cdiv(N, a.BLOCK_N)]
    if kernel in ("matmul_fp16_naive_kernel", "perrow_w8a8_matmul_plain_kernel", "int_mm_kernel"):
        return [cdiv(M, a.BLOCK_M), cdiv(N, a.BLOCK_N)]
    if hasattr(a, "GROUP_M"):
        return [cdiv(M, a.BLOCK_M) * cdiv(N, a.BLOCK_N)]
    return [N if "gemv" in kernel else M]


@pytest.mark.parametrize("gpu", GPUS)
def test_grids_cover_the_work_and_no_more(found, gpu):
    for call, given, launch in launches(found[gpu]):
        M, N, _ = sizes(given)
        want = grid(launch.kernel, launch.arguments, M, N, GPUS[gpu]["multiprocessors"])
        assert launch.grid == want, (call, launch.kernel)
        if hasattr(launch.arguments, "splits"):
            parts = next(other.grid[1] for name, _, other in launches(found[gpu])
                         if name == call and other.kernel in ("decode_w8a8_kernel", "split_k_kernel"))
            assert launch.arguments.splits == parts
            assert launch.arguments.partial_ptr == f"int32 ({parts}, {M}, {N})"


@pytest.mark.parametrize("gpu", GPUS)
def test_blocks_hold_what_they_must(found, gpu):
    for call, given, launch in launches(found[gpu]):
        M, _, K = sizes(given)
        a, kernel = launch.arguments, launch.kernel
        blocks = {name: value for name, value in vars(a).items() if name.startswith(("BLOCK", "HEAD", "TAIL", "SLICE"))}
        assert all(value > 0 and value & (value - 1) == 0 for value in blocks.values()), (call, kernel, blocks)
        if kernel == "decode_w8a8_kernel":
            assert a.BLOCK_M >= 16 and (a.REST == 0 or a.REST >= 16) and a.BLOCK_M + a.REST >= M
            assert max(17, 2 * M) > a.BLOCK_M + a.REST and (a.BLOCK_M == 64 if M > 64 else a.REST == 0)
            assert (launch.grid[1] > 1) == a.PARTIAL
        if hasattr(a, "TAIL"):
            assert a.HEAD <= K <= a.HEAD + a.TAIL
        elif getattr(a, "ROW_FITS", False) or "plain" in kernel and "matmul" not in kernel or kernel in (
                "quantize_int8_perrow_kernel", "rmsnorm_kernel", "gemv_fp16_row_kernel", "gemv_w8a16_row_kernel"):
            assert K <= a.BLOCK_K < 2 * K


@pytest.mark.parametrize("gpu", GPUS)
def test_warps_stages_and_shared_memory_are_possible(found, gpu):
    for call, _, launch in launches(found[gpu]):
        a, where = launch.arguments, (call, launch.kernel)
        assert launch.options.get("num_warps", 4) in (1, 2, 4, 8, 16, 32), where
        stages = getattr(a, "NUM_STAGES", launch.options.get("num_stages"))
        assert stages is None or 1 <= stages <= 8, where
        if {"num_stages", "BLOCK_M"} <= launch.options.keys() | vars(a).keys() and stages and launch.kernel not in (
                "matmul_fp16_naive_kernel", "perrow_w8a8_matmul_plain_kernel", "skinny_w8a8_kernel", "split_k_kernel"):
            element = 2 if "fp16" in launch.kernel else 1
            rows_of_x = a.BLOCK_M + getattr(a, "REST", 0)
            assert stage_bytes(rows_of_x, a.BLOCK_N, a.BLOCK_K, stages, element) <= GPUS[gpu]["shared_memory"], where


@pytest.mark.parametrize("gpu", GPUS)
def test_launches_overlap_where_the_gpu_can(found, gpu):
    for call, _, launch in launches(found[gpu]):
        overlap = launch.kernel.startswith("decode") and gpu in OVERLAPPING
        assert getattr(launch.arguments, "OVERLAP", False) == launch.options.get("launch_pdl", False) == overlap, call


@pytest.mark.parametrize("gpu", GPUS)
def test_what_comes_back(found, gpu):
    for call, launched in found[gpu].items():
        (_, function, given), (M, N, K) = CALLS[call], sizes(CALLS[call][2])
        if isinstance(launched, str):
            continue
        out = given.get("out_dtype") or (given["x"]["dtype"] if "x" in given else "float16")
        want = {"int_mm": [f"int32 ({M}, {N})"], "rmsnorm": [f"{out} ({M}, {K})"]}.get(function, [f"{out} ({M}, {N})"])
        if "quantize" in function:
            want = [f"int8 ({M}, {K})", f"float32 ({M},)"]
        if "gemv" in function:
            want = [f"{out} ({N},)"]
        assert launched[-1]["returned"] == want, call


def test_before_ampere_a_product_of_more_than_one_row_is_refused(found):
    refused = {call: said for call, said in found["T4"].items() if isinstance(said, str)}
    for call, said in refused.items():
        rows_of_x = sizes(CALLS[call][2])[0]
        assert rows_of_x > 1
        assert ("x must have one row on this GPU, got" if rows_of_x <= 128 and "x" in CALLS[call][2] else
                "INT8 matrix products need a GPU of compute capability 8.0") in said
    assert set(refused) == {call for call, (_, _, given) in CALLS.items()
                            if "w_q" in given and sizes(given)[0] > 1 and call not in ("skinny", "split K")}
    assert not any(isinstance(said, str) for gpu in set(GPUS) - {"T4"} for said in found[gpu].values())


def chosen(of_gpu, call):
    """The last launch of a call: the product, whatever was timed before it."""
    return [launch for name, _, launch in launches(of_gpu) if name == call][-1]


TMA_CALLS = ["product, few tiles", "product, some tiles", "product, many tiles", "129 rows", "many rows"]
FP16_TMA_CALLS = ["FP16, few tiles", "FP16, many tiles", "FP16, a tile for nearly each"]


@pytest.mark.parametrize("gpu, kinds", [("A100", "ggggg"), ("A40", "ggggg"), ("MI300X", "ggggg"), ("B200", "ttttt"),
                                        ("H100", "tthth"), ("H20", "thhhh")])
def test_which_kernel_multiplies_codes(found, gpu, kinds):
    names = {"g": "perrow_w8a8_matmul_kernel", "t": "perrow_w8a8_matmul_tma_kernel", "h": "hopper_gemm_kernel"}
    assert [chosen(found[gpu], call).kernel for call in TMA_CALLS] == [names[kind] for kind in kinds]
    for call in ("many rows, odd K", "product, odd N", "product, grouped"):  # what no descriptor can address
        assert chosen(found[gpu], call).kernel == names["g"]


@pytest.mark.parametrize("gpu, kinds", [("A100", "ggg"), ("B200", "ttt"), ("H100", "thh"), ("H20", "thh")])
def test_which_kernel_multiplies_fp16(found, gpu, kinds):
    names = {"g": "matmul_fp16_grouped_kernel", "t": "matmul_fp16_kernel", "h": "hopper_gemm_kernel"}
    assert [chosen(found[gpu], call).kernel for call in FP16_TMA_CALLS] == [names[kind] for kind in kinds]
    assert chosen(found[gpu], "FP16, odd K").kernel == names["g"]


@pytest.mark.parametrize("gpu, call, tile, pingpong", [
    ("H100", "product, many tiles", (128, 128, 128), True), ("H100", "FP16, many tiles", (128, 256, 64), False),
    ("H100", "FP16, a tile for nearly each", (128, 128, 64), True),
    ("H20", "FP16, a tile for nearly each", (128, 256, 64), False)])
def test_tiles_of_the_hopper_kernel(found, gpu, call, tile, pingpong):
    launch = chosen(found[gpu], call)
    a = launch.arguments
    assert [*tile, pingpong] == [a.BLOCK_M, a.BLOCK_N, a.BLOCK_K, a.PINGPONG]
    assert a.x_desc[1:] == [a.BLOCK_M, a.BLOCK_K] and a.w_desc[1:] == [a.BLOCK_N, a.BLOCK_K]
    assert a.y_desc[1:] == [a.BLOCK_M if pingpong else a.BLOCK_M // 2, a.BLOCK_N]
    element, rows_stored = (1 if "product" in call else 2), 2 * a.y_desc[1]
    used = stage_bytes(a.BLOCK_M, a.BLOCK_N, a.BLOCK_K, a.NUM_STAGES, element) + 2 * rows_stored * a.BLOCK_N
    assert 190 << 10 < used < 227 << 10  # stages and both tiles of y, and little of the 227 KiB is left


@pytest.mark.parametrize("gpu", ["B200", "H100"])
def test_descriptors_are_of_the_tiles(found, gpu):
    for _, _, launch in launches(found[gpu]):
        a = launch.arguments
        if launch.kernel in ("matmul_fp16_kernel", "perrow_w8a8_matmul_tma_kernel"):
            assert [a.x_desc[1:], a.w_desc[1:], a.y_desc[1:]] == [
                [a.BLOCK_M, a.BLOCK_K], [a.BLOCK_N, a.BLOCK_K], [a.BLOCK_M, a.BLOCK_N]]


def decoded(launch):
    """Rows of w a program, step along K, warps, stages, parts of K."""
    a = launch.arguments
    return a.BLOCK_N, a.BLOCK_K, launch.options["num_warps"], launch.options["num_stages"], launch.grid[1]


def of_decode(of_gpu, call):
    return next(launch for name, _, launch in launches(of_gpu) if name == call and launch.kernel == "decode_w8a8_kernel")


@pytest.mark.parametrize("gpu, table", [
    ("H100", {"2 rows": (64, 256, 4, 6, 2), "16 rows, wide w": (64, 256, 4, 3, 1),
              "16 rows, very wide w": (64, 128, 4, 4, 1), "17 rows, wide w": (64, 128, 4, 4, 1),
              "64 rows, very wide w": (128, 128, 4, 4, 1), "65 rows, wide w": (128, 128, 4, 4, 1),
              "128 rows": (64, 256, 4, 4, 8), "128 rows, wide w": (128, 128, 4, 3, 1)}),
    ("A100", {"2 rows": (64, 256, 4, 6, 1), "16 rows, wide w": (64, 128, 4, 4, 1),
              "16 rows, very wide w": (64, 128, 4, 4, 1), "17 rows, wide w": (64, 128, 4, 4, 1),
              "64 rows, very wide w": (64, 128, 4, 4, 1), "65 rows, wide w": (64, 128, 4, 4, 1),
              "128 rows": (64, 256, 4, 3, 6), "128 rows, wide w": (64, 128, 4, 4, 1)}),
    ("A40", {"2 rows": (64, 256, 4, 4, 1), "16 rows, wide w": (64, 128, 4, 4, 1),
             "128 rows": (64, 256, 4, 2, 5), "128 rows, wide w": (64, 128, 4, 4, 1)}),
    ("MI300X", {"2 rows": (64, 256, 4, 3, 4), "16 rows, wide w": (64, 256, 4, 3, 1)}),
])
def test_how_decode_divides_the_work(found, gpu, table):
    assert {call: decoded(of_decode(found[gpu], call)) for call in table} == table


@pytest.mark.parametrize("gpu, M, want", [("H100", "one row, few long", (4, 4096, 8)), ("H100", "one row", (4, 2048, 4)),
                                          ("A40", "one row, few long", (4, 4096, 8)), ("T4", "one row", (4, 2048, 4))])
def test_how_the_gemv_of_codes_divides_the_work(found, gpu, M, want):
    launch = chosen(found[gpu], M)
    assert (launch.arguments.BLOCK_N, launch.arguments.BLOCK_K, launch.options["num_warps"]) == want


@pytest.mark.parametrize("K, blocks, num_warps", [
    (1, (1,), 1), (1024, (1024,), 1), (1025, (1024, 128), 1), (1600, (2048,), 2), (2048, (2048,), 2),
    (3000, (2048, 1024), 2), (4096, (4096,), 4), (5120, (4096, 1024), 2), (8192, (4096, 4096), 4),
    (11008, (8192, 4096), 8), (16383, (8192, 8192), 8), (16384, (4096,), 8)])
def test_how_the_quantizer_divides_a_row(found, K, blocks, num_warps):
    launch = chosen(found["H100"], f"quantize, K = {K}")
    a = launch.arguments
    got = (a.HEAD, a.TAIL) if hasattr(a, "HEAD") else (a.BLOCK_K,)
    assert (got, launch.options["num_warps"]) == (blocks, num_warps)
    assert ("long" in launch.kernel) == (K >= 16384)


@pytest.mark.parametrize("call, block, fits, num_warps", [
    ("norm, K = 100", 128, True, 1), ("norm, K = 4096", 4096, True, 4), ("norm, K = 5632", 2048, False, 4),
    ("norm, K = 16384", 16384, True, 16), ("norm, K = 20000", 2048, False, 4), ("gate and up, K = 100", 128, True, 1),
    ("gate and up, K = 11008", 16384, True, 32), ("gate and up, K = 20000", 2048, False, 4)])
def test_how_the_fused_quantizers_divide_a_row(found, call, block, fits, num_warps):
    launch = chosen(found["H100"], call)
    assert (launch.arguments.BLOCK_K, launch.arguments.ROW_FITS, launch.options["num_warps"]) == (block, fits, num_warps)


def timed(of_gpu, call):
    return [launch for name, _, launch in launches(of_gpu) if name == call and launch.timed]


@pytest.mark.parametrize("gpu, place", [("A40", -1), ("A40, the first is fastest", 0), ("A100", -1), ("B200", -1)])
def test_where_nothing_is_remembered_the_fastest_that_fits_is_launched(found, gpu, place):
    for call in ("129 rows", "product, few tiles", "product, many tiles", "FP16, many tiles"):
        tried = timed(found[gpu], call)
        assert len(tried) >= 2, call
        assert len({str((launch.arguments, launch.options)) for launch in tried}) == len(tried)
        last = chosen(found[gpu], call)
        assert not last.timed
        assert (vars(last.arguments), last.options) == (vars(tried[place].arguments), tried[place].options)


@pytest.mark.parametrize("gpu", ["A40", "A100", "T4", "MI300X"])
def test_each_kernel_shape_and_bucket_of_rows_is_timed_once(found, gpu):
    for what, new in {"": True, ", as many rows": False, ", more rows": True, ", other N": True, ", other K": True}.items():
        assert bool(timed(found[gpu], f"FP16, grouped{what}")) == new, what
    if gpu != "T4":
        assert timed(found[gpu], "product, grouped")  # of the same shape


@pytest.mark.parametrize("gpu", ["H100", "H20"])
def test_on_hopper_nothing_is_timed(found, gpu):
    assert not any(launch.timed for _, _, launch in launches(found[gpu]))
