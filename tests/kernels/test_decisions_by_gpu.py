"""What is decided by the GPU: which kernel, which tile, how many parts, and what is timed."""

import pytest
from recorded_launches import chosen, launches, on_each_gpu, timed

from kernels.configs import stage_bytes


@pytest.fixture(scope="module")
def found():
    return on_each_gpu()


TMA_CALLS = ["product, few tiles", "product, some tiles", "product, many tiles", "129 rows", "many rows"]
FP16_TMA_CALLS = ["FP16, few tiles", "FP16, many tiles", "FP16, a tile for nearly each"]


@pytest.mark.parametrize("gpu, kinds", [("A100", "ggggg"), ("A40", "ggggg"), ("MI300X", "ggggg"), ("B200", "ttttt"),
                                        ("H100", "tthth"), ("H20", "thhhh"), ("H200", "tthtb")])
def test_which_kernel_multiplies_codes(found, gpu, kinds):
    names = {"g": "perrow_w8a8_matmul_kernel", "t": "perrow_w8a8_matmul_tma_kernel", "h": "hopper_gemm_kernel",
             "b": "beside_kernel"}
    assert [chosen(found[gpu], call).kernel for call in TMA_CALLS] == [names[kind] for kind in kinds]
    for call in ("many rows, odd K", "product, odd N", "product, grouped"):  # what no descriptor can address
        assert chosen(found[gpu], call).kernel == names["g"]


@pytest.mark.parametrize("call, GROUP_M, blocks, ROWS, PARTS", [
    ("many rows", 12, 12, 4, 8), ("many rows, long", 4, 12, 1, 11), ("1,024 rows", 12, 8, 2, 8),
    ("1,000 rows", 12, 8, 2, 8)])
def test_rows_quantized_beside_the_product(found, call, GROUP_M, blocks, ROWS, PARTS):
    first, second = [launch for name, _, launch in launches(found["H200"]) if name == call]
    a = second.arguments
    assert [first.kernel, second.kernel] == ["first_rows_kernel", "beside_kernel"]
    assert first.grid == [min(a.M, 128 * blocks), 1]  # a row a program, of all tiles that run at first
    assert first.arguments.TRIGGER
    assert [a.GROUP_M, a.first_blocks, a.ROWS, a.PARTS] == [GROUP_M, blocks, ROWS, PARTS]
    assert blocks % GROUP_M == 0 and blocks * -(-a.N // 128) >= 132 or 128 * blocks >= a.M
    assert ROWS * a.K <= 1024 * PARTS < ROWS * a.K + 1024  # 4 warps of 32 lanes hold 8 numbers a part
    assert a.CHUNK % ROWS == 0 and a.BLOCK_M % a.CHUNK == 0
    room = int(a.count_ptr.removeprefix("int32 (").removesuffix(",)"))
    assert first.arguments.count_ptr == a.count_ptr and first.arguments.COUNTS == room >= 1 + -(-a.M // 128)
    assert [a.x_desc, a.w_desc[1:], a.y_desc[1:]] == [[f"int8 ({a.M}, {a.K})", 128, 128], [128, 128], [128, 128]]


@pytest.mark.parametrize("gpu, call", [
    ("H100", "many rows"), ("H20", "many rows"), ("B200", "many rows"), ("H200", "129 rows"),
    ("H200", "many rows, wide w"), ("H200", "many rows, longer"), ("H200", "many rows, short"),
    ("H200", "many rows, odd K")])
def test_rows_quantized_before_the_product(found, gpu, call):
    quantizer, product = [launch for name, _, launch in launches(found[gpu]) if name == call and not launch.timed]
    assert quantizer.kernel.startswith("quantize_int8_perrow") and "beside" not in product.kernel


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


@pytest.mark.parametrize("gpu, call, BLOCK_K", [
    ("H100", "product, a tile for each of 132", 256), ("H100", "product, two tiles for each of 132", 128),
    ("H100", "product, few tiles", 256), ("H100", "product, some tiles", 128), ("H20", "product, few tiles", 256)])
def test_small_tiles_take_long_steps_while_all_have_one(found, gpu, call, BLOCK_K):
    a = chosen(found[gpu], call).arguments
    assert [a.BLOCK_M, a.BLOCK_N, a.BLOCK_K] == [64, 64, BLOCK_K]


def decoded(launch):
    """Rows of w a program, step along K, warps, stages, parts of K."""
    a = launch.arguments
    return a.BLOCK_N, a.BLOCK_K, launch.options["num_warps"], launch.options["num_stages"], launch.grid[1]


def of_decode(of_gpu, call):
    return next(launch for name, _, launch in launches(of_gpu) if name == call and launch.kernel == "decode_w8a8_kernel")


@pytest.mark.parametrize("gpu, table", [
    ("H100", {"2 rows": (32, 256, 2, 5, 1), "2 rows, in a graph": (64, 256, 4, 6, 2), "32 rows": (32, 256, 2, 5, 1),
              "32 rows, in a graph": (64, 256, 4, 6, 2), "33 rows": (64, 256, 4, 6, 2),
              "16 rows, wide w": (64, 256, 4, 3, 1),
              "16 rows, very wide w": (64, 128, 4, 4, 1), "17 rows, wide w": (64, 128, 4, 4, 1),
              "64 rows, very wide w": (128, 128, 4, 4, 1), "65 rows, wide w": (128, 128, 4, 4, 1),
              "128 rows": (64, 256, 4, 4, 8), "128 rows, wide w": (128, 128, 4, 3, 1)}),
    ("A100", {"2 rows": (64, 256, 4, 6, 1), "16 rows, wide w": (64, 128, 4, 4, 1),
              "16 rows, very wide w": (64, 128, 4, 4, 1), "17 rows, wide w": (64, 128, 4, 4, 1),
              "64 rows, very wide w": (64, 128, 4, 4, 1), "65 rows, wide w": (64, 128, 4, 4, 1),
              "128 rows": (64, 256, 4, 3, 6), "128 rows, wide w": (64, 128, 4, 4, 1)}),
    ("A40", {"2 rows": (64, 256, 4, 4, 1), "16 rows, wide w": (64, 128, 4, 4, 1),
             "128 rows": (64, 256, 4, 2, 5), "128 rows, wide w": (64, 128, 4, 4, 1)}),
    ("MI300X", {"2 rows": (32, 256, 2, 5, 1), "2 rows, in a graph": (64, 256, 4, 3, 4),
                "16 rows, wide w": (64, 256, 4, 3, 1)}),
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


@pytest.mark.parametrize("gpu, place", [("A40", -1), ("A40, the first is fastest", 0), ("A100", -1), ("B200", -1)])
def test_with_nothing_remembered_the_fastest_that_fits_runs(found, gpu, place):
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
