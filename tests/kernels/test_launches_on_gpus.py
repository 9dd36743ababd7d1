"""What each public function launches on GPUs that are not here: with which arguments, grids and options."""

import pytest
from recorded_launches import CALLS, EPS, GPUS, launches, on_each_gpu, pitch, sizes

from kernels.configs import stage_bytes

OVERLAPPING = {"H100", "H200", "H20", "B200"}


@pytest.fixture(scope="module")
def found():
    return on_each_gpu()


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
            if name == "x_desc" and launch.kernel == "beside_kernel":  # which has x itself too
                want[name], value = want["q_ptr"], value[0]
            elif name.endswith("_desc"):
                want[name], value = want[name.replace("desc", "ptr")], value[0]
            if (name in ("partial_ptr", "splits", "k_per_split", "count_ptr", "first_blocks")
                    or name[0].isupper() and len(name) > 1):
                continue  # tested with grids, or a constexpr
            if name == "y_ptr" and getattr(launch.arguments, "PARTIAL", False):
                M, N, _ = sizes(given)
                want[name] = f"int32 ({launch.grid[1]}, {M}, {N})"
            assert value == want[name], (call, launch.kernel, name)


def cdiv(a, b):
    return -(-a // b)


def grid(kernel, a, M, N, sms):
    """The grid of one kernel: programs for every row, tile or slice, and none that has nothing to do."""
    if kernel in ("hopper_gemm_kernel", "beside_kernel"):
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
        if launch.kernel == "first_rows_kernel":
            continue  # test_decisions_by_gpu.py
        want = grid(launch.kernel, launch.arguments, M, N, GPUS[gpu]["multiprocessors"])
        assert launch.grid == [*want, 1][:2], (call, launch.kernel)
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
        blocks = {name: value for name, value in vars(a).items() if name.startswith(("BLOCK", "HEAD", "TAIL", "SLICE"))
                  and (name, value) != ("TAIL", 0)}
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
        # A program has 1,024 threads at most, and a warp of an AMD GPU is 64 of them.
        assert launch.options.get("num_warps", 4) in (1, 2, 4, 8, 16, 32)[:5 if gpu == "MI300X" else 6], where
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
        overlap = (launch.kernel.startswith("decode") or launch.kernel == "beside_kernel") and gpu in OVERLAPPING
        assert getattr(launch.arguments, "OVERLAP", False) == launch.options.get("launch_pdl", False) == overlap, call


@pytest.mark.parametrize("gpu", GPUS)
def test_what_comes_back(found, gpu):
    for call, launched in found[gpu].items():
        (_, function, given, *_), (M, N, K) = CALLS[call], sizes(CALLS[call][2])
        if isinstance(launched, str):
            continue
        out = given.get("out_dtype") or (given["x"]["dtype"] if "x" in given else "float16")
        want = {"int_mm": [f"int32 ({M}, {N})"], "rmsnorm": [f"{out} ({M}, {K})"]}.get(function, [f"{out} ({M}, {N})"])
        if "quantize" in function:
            want = [f"int8 ({M}, {K})", f"float32 ({M},)"]
        if "gemv" in function:
            want = [f"{out} ({N},)"]
        assert launched[-1]["returned"] == want, call


def test_before_ampere_a_product_of_several_rows_is_refused(found):
    refused = {call: said for call, said in found["T4"].items() if isinstance(said, str)}
    for call, said in refused.items():
        rows_of_x = sizes(CALLS[call][2])[0]
        assert rows_of_x > 1
        assert ("x must have one row on this GPU, got" if rows_of_x <= 128 and "x" in CALLS[call][2] else
                "INT8 matrix products need a GPU of compute capability 8.0") in said
    assert set(refused) == {call for call, (_, _, given, *_) in CALLS.items()
                            if "w_q" in given and sizes(given)[0] > 1 and call not in ("skinny", "split K")}
    assert not any(isinstance(said, str) for gpu in set(GPUS) - {"T4"} for said in found[gpu].values())
