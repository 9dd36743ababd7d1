"""What the lessons say of the hardware is what a profiler counted, as recorded in results/profiles/."""

import pytest
import torch
from lesson_text import text

from checks.bench.profile import profiled, profiles
from checks.bench.results import recorded, select
from checks.pictures.profiling import WORKING, times_of_work
from kernels.profiling import better_change, limit_of


def read_mb(row: dict) -> float:
    return row["dram_read_bytes"] / 1e6


def listed(values: list[str]) -> str:
    return f"{', '.join(values[:-1])} and {values[-1]}"


def test_01_bytes_of_strided_copies():
    rows = [profiled(f"copy_2d, stride {stride}") for stride in (1, 2, 4, 8)]
    assert (f"The kernel read {listed([f'{read_mb(row):,.0f}' for row in rows])} MB from memory, and took "
            f"{listed([format(row['us'], '.0f') for row in rows])} µs.") in text("01")
    assert [round(read_mb(row) / 134.2) for row in rows] == [1, 2, 4, 8] and 4 * 8192 * 4096 == 134_217_728
    sectors = listed([f"{row['sectors_per_load']:.0f}" for row in rows])
    assert f"A single load instruction touched {sectors} sectors there" in text("01")
    of_two = [16 * len({0, 4 * stride // 32}) for stride in (2, 4, 8)]  # the layout that Triton 3.6 gives this load
    assert [round(row["sectors_per_load"]) for row in rows[1:]] == of_two
    assert "two neighbouring numbers of each of 16 rows" in text("01") and profiles()["triton"].startswith("3.6")


def test_01_occupancy_of_both_block_sizes_as_counted():
    few, many, cublas = profiled("gemv_fp16, 2 x 1024"), profiled("gemv_fp16, 64 x 128"), profiled("cuBLAS FP16", N=65536)
    assert (f"blocks of 2 by 1,024 had an occupancy of {few['occupancy_pct']:.0f} %, used {few['dram_pct']:.0f} % of the "
            f"memory's peak and took {few['us']:.0f} µs. Blocks of 64 by 128 had {many['occupancy_pct']:.0f} %, "
            f"{many['dram_pct']:.0f} % and {many['us']:.0f} µs.") in text("01")
    assert f"costs {100 * (many['us'] / few['us'] - 1):.0f} % of the time." in text("01")
    assert many["occupancy_pct"] < few["occupancy_pct"] / 4, "less than a quarter"
    assert (f"its kernel for $N$ = 65,536 has an occupancy of {cublas['occupancy_pct']:.0f} % and uses "
            f"{cublas['dram_pct']:.0f} % of the memory's peak.") in text("01")


def test_01_where_the_time_of_a_small_product_goes():
    row, small, big = (profiled(name, N=N) for name, N in (("gemv_fp16_row", 65536), ("gemv_fp16", 4096),
                                                           ("gemv_fp16, 2 x 1024", 65536)))
    eager, = select(recorded(), test="gemv", mode="eager", function="gemv_fp16", N=4096, K=4096)
    split, add = (profiled("cuBLAS FP16", M=1, N=4096, launch=launch) for launch in (0, 1))
    page = text("01")
    assert f"{small['us']:.1f} of the {eager['median_us']:.1f} µs of an eager call" in page
    assert (f"memory ran at {small['dram_pct']:.0f} % of its peak, while at $N$ = 65,536 the same kernel reached "
            f"{big['dram_pct']:.0f} %.") in page
    busy = "busy_multiprocessors_pct"
    assert f"a multiprocessor had work {small[busy]:.0f} % of the time, not {big[busy]:.0f} %" in page
    assert f"divides $K$ among its programs ({split['us']:.1f} µs)" in page
    assert f"one that adds up the parts ({add['us']:.1f} µs)" in page
    assert f"the profiler counted {read_mb(row):,.0f} and {read_mb(big):,.0f} MB read from memory" in page


def test_02_units_of_three_kernels():
    names, page = ("matmul_fp16_naive", "matmul_fp16_grouped", "matmul_fp16"), text("02")
    rows = [profiled(name) for name in names]
    for name, row in zip(names, rows, strict=True):
        parts = " | ".join(f"{row[unit]:.0f} %" for unit in ("dram_pct", "l2_pct", "tensor_pct", "l2_hit_pct"))
        assert f"| `{name}` | {row['us']:.0f} µs | {parts} |" in page
    naive, grouped, _ = rows
    assert f"the L2 cache serves {grouped['l2_hit_pct']:.0f} % of the reads, not {naive['l2_hit_pct']:.0f} %" in page
    assert f"from {naive['dram_pct']:.0f} to {grouped['dram_pct']:.0f} % of its peak" in page
    assert f"only from {naive['us']:.0f} to {grouped['us']:.0f} µs" in page
    assert all(max(row[unit] for unit in ("dram_pct", "tensor_pct", "issue_pct")) < row["l2_pct"] for row in rows[:2])
    assert f"The tensor cores work {naive['tensor_pct']:.0f} % of the time." in page


def test_02_stages_of_the_loop():
    rows, page = [profiled(f"matmul_fp16_naive, {stages} stages") for stages in (1, 2, 3, 4)], text("02")
    for stages, row in enumerate(rows, 1):
        fit = min(row["fit_by_shared"], row["fit_by_registers"], row["fit_by_warps"])
        waits = row["stalls"]["long_scoreboard"]
        assert f"| {stages} | {row['us']:,.0f} µs | {row['tensor_pct']:.0f} % | {waits:.0f} % | {fit} |" in page
    one, _, three, four = (row["stalls"]["long_scoreboard"] for row in rows)
    assert f"With one stage a warp waits for its loads {one:.0f} % of its time; with three it is {three:.0f} %" in page
    assert rows[2]["tensor_pct"] / rows[0]["tensor_pct"] == pytest.approx(2, abs=0.1)
    assert (f"the L2 cache serves {rows[3]['l2_hit_pct']:.0f} % of the reads instead of {rows[2]['l2_hit_pct']:.0f} %"
            in page) and four > three


def test_profiles_were_read_on_the_gpu_that_the_lessons_name():
    assert profiles()["gpu"] == recorded()["gpu"] == "NVIDIA H200"


def instructions(row: dict) -> float:
    """Of a thread, for each number of x."""
    return row["instructions"] * 32 / (row["M"] * row["K"])


PLAIN = "quantize_int8_perrow_plain"


def counted(row: dict, *counters: str) -> list[str]:
    return [f"{row[counter]:,.0f}" for counter in counters]


def test_03_what_the_model_of_bytes_and_operations_leaves_out():
    few, more = ([profiled("matmul_int8", launch, M=M) for launch in range(kernels)] for M, kernels in ((128, 3), (256, 2)))
    page = text("03")
    outside = 100 * (1 - few[1]["us"] / sum(row["us"] for row in few))
    us = listed([f"{row['us']:.1f}" for row in few])
    assert f"Profiled alone they take {us} µs: {outside:.0f} % of the sum is outside the product." in page
    dram, tensor, busy = counted(few[1], "dram_pct", "tensor_pct", "busy_multiprocessors_pct")
    assert (f"memory runs at {dram} % of its peak, the tensor cores work {tensor} % of the time, and on "
            f"average a multiprocessor has work {busy} % of it.") in page
    shape = {"test": "matmul_int8", "function": "matmul_int8", "mode": "graph", "K": 4096, "N": 4096}
    graph = [select(recorded(), M=M, **shape)[0]["median_us"] for M in (128, 256)]
    assert f"In a graph all three take {graph[0]:.0f} µs" in page and graph[0] < sum(row["us"] for row in few)
    us, (dram, tensor) = listed([f"{row['us']:.1f}" for row in more]), counted(more[1], "dram_pct", "tensor_pct")
    assert (f"two kernels take {us} µs ({graph[1]:.0f} µs in a graph), with memory at {dram} % and the tensor cores at "
            f"{tensor} % in the product.") in page
    cublas = [f"{profiled('cuBLAS FP16', M=M)['us']:.1f}" for M in (128, 256)]
    assert "cuBLAS needs one kernel: {} µs at $M = 128$ and {} at 256.".format(*cublas) in page


def test_04_one_block_at_every_length():
    page, rows = text("04"), {K: profiled(PLAIN, K=K) for K in (2048, 4096, 5120, 8192, 11008, 16384)}
    for K, row in rows.items():
        assert (f"| {K:,} | {row['us']:.0f} µs | {row['occupancy_pct']:.0f} % | {row['issue_pct']:.0f} % | "
                f"{instructions(row):.0f} |") in page
    assert (f"The schedulers are busy {rows[2048]['issue_pct']:.0f} and {rows[4096]['issue_pct']:.0f} % of the time, memory "
            f"{rows[2048]['dram_pct']:.0f} and {rows[4096]['dram_pct']:.0f} %.") in page
    assert f"rows of 8,192 numbers take {rows[8192]['us']:.0f} µs, and rows of 5,120 take {rows[5120]['us']:.0f}." in page
    assert rows[8192]["us"] < rows[5120]["us"] and rows[8192]["registers"] == rows[5120]["registers"], "the same block"
    assert f"{instructions(rows[5120]):.0f} instructions for each number, not {instructions(rows[8192]):.0f}." in page
    full = rows[16384]
    assert (f"Without idle lanes a number takes {instructions(full):.0f} instructions, as few as with 8,192 lanes." in page
            and f"take {full['us'] / rows[8192]['us']:.1f} times as long as rows of 8,192, not twice" in page
            and round(instructions(full)) <= round(instructions(rows[8192])))
    assert (f"a warp waits {full['stalls']['wait']:.0f} % of its time for the result of its last instruction and "
            f"{full['stalls']['long_scoreboard']:.0f} % for loads") in page
    assert f"a scheduler starts an instruction in {full['issue_pct']:.0f} % of the cycles." in page


def test_04_chunks_and_the_library():
    chunks, library = profiled("quantize_int8_perrow_long", K=4096), profiled("quantize_int8_perrow", K=5120)
    page, x_mb = text("04"), 2 * 16384 * 4096 / 1e6
    assert f"counted {read_mb(chunks):.0f} MB read from memory at $K$ = 4,096, and $x$ has {x_mb:.0f} MB" in page
    assert (f"{instructions(library):.0f} for each number at 5,120, so that memory is its limit: "
            f"{library['dram_pct']:.0f} % of the peak, with an occupancy of {library['occupancy_pct']:.0f} %.") in page


def test_05_weights_in_the_other_layout():
    fast, slow = (profiled(f"int_mm, w {layout}") for layout in ("K-major", "N-major"))
    queue = slow["stalls"]["mio_throttle"]
    assert (f"Its {slow['us']:.0f} µs, instead of {fast['us']:.0f}, go into shared memory: the unit that serves it is busy "
            f"{slow['l1_pct']:.0f} % of the time, and {queue:.0f} % of the time a warp waits for a place in the queue to "
            f"it. The tensor cores work {slow['tensor_pct']:.0f} % of the time, with K-major weights "
            f"{fast['tensor_pct']:.0f} %.") in text("05")


def test_05_why_half_of_the_peak():
    names, page = ("_plain", "_grouped", ", TMA", ""), text("05")
    rows = [profiled(f"perrow_w8a8_matmul{name}") for name in names]
    for row in rows:
        parts = " | ".join(f"{row[unit]:.0f} %" for unit in ("tensor_pct", "l2_pct", "dram_pct"))
        assert f"| {row['us']:.0f} µs | {parts} | {row['stalls']['barrier']:.0f} % |" in page
    plain, grouped, _, fastest = rows
    assert f"the tensor cores work {plain['tensor_pct']:.0f} % of the time. Three things" in page
    assert max(plain[unit] for unit in ("dram_pct", "l2_pct", "tensor_pct", "issue_pct")) < 80, "no unit near its peak"
    assert f"memory's load falls from {plain['dram_pct']:.0f} to {grouped['dram_pct']:.0f} %." in page
    assert f"a warp of yours waits for the others {plain['stalls']['barrier']:.0f} % of its time" in page
    assert f"Its tensor cores work {fastest['tensor_pct']:.0f} % of the time." in page
    at_this_clock = 2 * 16384 * 6144 * 2048 / plain["us"] / plain["tensor_pct"] / 1e4
    assert f"here to {plain['ghz']:.2f} GHz." in page and f"never pause would do {at_this_clock:,.0f} TOPS" in page
    eager, = select(recorded(), test="gemm", mode="eager", function="perrow_w8a8_matmul_plain", M=16384, N=6144, K=2048)
    assert at_this_clock * plain["tensor_pct"] / 100 == pytest.approx(eager["tflops"], rel=0.01)
    assert f"{plain['tensor_pct']:.0f} % of 1,750 is about the {eager['tflops']:,.0f} that were recorded." in page
    short, long = (select(recorded(), test="gemm", mode="eager", function=f"perrow_w8a8_matmul{names[0]}", M=16384, N=2048,
                          K=K)[0]["tflops"] for K in (2048, 11008))
    assert f"recorded at {short:,.0f} TOPS for $K$ = 2,048, and at {long:,.0f} for 11,008" in page


def test_07_the_second_reading_of_a_row():
    row, x_mb = profiled("rmsnorm_quantize_int8_long", K=4096), 2 * 16384 * 4096 / 1e6
    assert f"it counted {read_mb(row):.0f} MB read from memory, and $x$ alone has {x_mb:.0f} MB." in text("07")


def test_08_kernels_alone():
    page, w8a8, w8a16 = text("08"), profiled("decode_w8a8", M=1), profiled("gemv_w8a16")
    assert f"then W8A8 takes {w8a8['us']:.1f} µs and W8A16 {w8a16['us']:.1f}: about the same." in page
    assert w8a8["us"] == pytest.approx(w8a16["us"], rel=0.05)
    at_work = profiled("skinny_w8a8", M=16, K=4096)["tensor_pct"]
    assert f"has the tensor cores at work {at_work:.1f} % of the time" in page


def test_08b_the_three_kernels_of_a_few_rows():
    page = text("08b")
    few, many = ([profiled("decode_w8a8", M=M, launch=launch) for launch in range(3)] for M in (16, 64))
    for name, before, after in zip(("its quantization", "its product", "the sum of its parts"), few, many, strict=True):
        assert f"{name} takes {before['us']:.1f} and {after['us']:.1f} µs" in page
    graph, = select(recorded(), test="launches", mode="graph", function="decode_w8a8", M=16)
    assert (f"The three together take {sum(row['us'] for row in few):.1f} µs at $M$ = 16, and in the graph "
            f"{graph['median_us']:.1f}:") in page
    units = ("dram_pct", "l2_pct", "issue_pct", "tensor_pct")
    busiest = max(row[unit] for row in (*few[::2], *many[::2]) for unit in units)
    assert f"no unit is busier than {busiest:.0f} % of its peak" in page


def test_08_one_program_for_64_rows_and_its_parts():
    shape, page, work = {"M": 16, "K": 11008}, text("08"), "busy_multiprocessors_pct"
    whole, parts, total = profiled("skinny_w8a8", **shape), profiled("split_k_w8a8", **shape), profiled(
        "split_k_w8a8", launch=1, **shape)
    assert (f"`skinny_w8a8` takes {whole['us']:.1f} µs. A multiprocessor has work {whole[work]:.0f} % of the time, and "
            f"memory reaches {whole['dram_pct']:.0f} % of its peak.") in page
    assert (f"`split_k_kernel` with 4 parts takes {parts['us']:.1f} µs, with {parts[work]:.0f} and "
            f"{parts['dram_pct']:.0f} %.") in page
    assert f"The sum of the parts takes another {total['us']:.1f} µs" in page


def millions(*rows: dict, counter: str = "instructions") -> list[str]:
    return [f"{row[counter] / 1e6:.0f}" for row in rows]


def gigabytes(*rows: dict) -> str:
    return f"{sum(row['dram_read_bytes'] + row['dram_written_bytes'] for row in rows) / 1e9:.1f}"


def test_07b_what_silu_mul_with_quantizer_saves_and_costs():
    both, apart = profiled("SiLU·mul in the quantizer", 1), [profiled("SiLU·mul apart", launch) for launch in (1, 2)]
    page = text("07b")
    assert (f"SiLU·mul with quantizer takes {both['us']:.0f} µs, and apart they take {apart[0]['us']:.0f} + "
            f"{apart[1]['us']:.0f}. It moves {gigabytes(both)} GB instead of {gigabytes(*apart)}, but executes "
            "{} million instructions instead of {} + {}.".format(*millions(both, *apart))) in page
    dram, issue = counted(both, "dram_pct", "issue_pct")
    assert f"Memory is at {dram} % of its peak, and a scheduler starts an instruction in {issue} % of the cycles." in page


def test_07b_what_moves_with_silu_mul():
    (product, quantizer), (fused, plain) = ([profiled(f"SiLU·mul in the {place}", launch) for launch in (0, 1)]
                                            for place in ("quantizer", "epilogue"))
    page = text("07b")
    now, before = millions(plain, quantizer)
    assert (f"without SiLU·mul it executes {now} million instructions instead of {before}, and takes {plain['us']:.0f} µs "
            f"instead of {quantizer['us']:.0f}.") in page
    now, before = millions(fused, product)
    assert (f"executes more, {now} million instead of {before}, yet takes {fused['us']:,.0f} µs instead of "
            f"{product['us']:,.0f}.") in page
    assert f"even now a scheduler starts an instruction in only {fused['issue_pct']:.0f} % of the cycles." in page
    written, read = ([f"{row[counter] / 1e6:,.0f}" for row in (fused, product)]
                     for counter in ("dram_written_bytes", "dram_read_bytes"))
    assert "writes {} MB to memory instead of {}, and reads {} instead of {}.".format(*written, *read) in page
    assert quantizer["us"] - plain["us"] > product["us"] - fused["us"], "most is the quantizer"


def test_07b_places_as_counted():
    rows, plain, loop = (profiled(name, launch) for name, launch in (
        ("persistent rows", 0), ("quantizer apart", 1), ("in the loop, scales given", 0)))
    page = text("07b")
    tensor, dram, l2, issue = counted(rows, "tensor_pct", "dram_pct", "l2_pct", "issue_pct")
    assert (f"With persistent rows the tensor cores work {tensor} % of the time, in the plain product "
            f"{plain['tensor_pct']:.0f} %. No other unit is busy: memory is at {dram} % of its peak, the L2 cache at {l2} "
            f"%, and a scheduler starts an instruction in {issue} % of the cycles.") in page
    assert max(rows[unit] for unit in ("dram_pct", "l2_pct", "l1_pct", "tensor_pct", "issue_pct")) < 40
    assert min(plain[limit] for limit in ("fit_by_registers", "fit_by_shared")) == 2 and rows["programs"] == 128
    assert f"with {rows['registers']} registers a thread no second one would fit" in page and rows["fit_by_registers"] == 1
    (dram, l2), (dram_plain, l2_plain) = (counted(row, "dram_pct", "l2_pct") for row in (loop, plain))
    assert (f"it is at {dram} % of its peak, in the plain product at {dram_plain} % (the L2 cache at {l2} and {l2_plain} %)."
            ) in page
    read = [f"{row['dram_read_bytes'] / 1e9:.1f}" for row in (loop, plain)]
    assert f"It reads {read[0]} GB from memory, the plain product {read[1]}:" in page
    assert loop["dram_read_bytes"] > 0.9 * 2 * 16384 * 2048 * 6144 / 128, "nearly every column of tiles"
    now, before = millions(loop, plain)
    tensor, fma = counted(loop, "tensor_pct", "fma_pct")
    assert (f"It executes {now} million instructions, the plain product {before} million; its tensor cores work {tensor} % "
            "of the time, and here too only one program fits.") in page and loop["fit_by_registers"] == 1
    assert f"the pipe of their multiply-adds works {fma} % of the time." in page


def test_07b_how_full_the_library_keeps_the_tensor_cores():
    short, beside = ([profiled("matmul_int8", launch, K=K, N=N) for K, N in ((2048, 6144), (11008, 2048))]
                     for launch in (0, 1))
    tensor = [f"{row['tensor_pct']:.0f} %" for row in (beside[0], profiled("perrow_w8a8_matmul"), beside[1])]
    page = text("07b")
    assert ("its tensor cores work {} of the time (the library's product without this role: {}), and for $K$ = 11,008 {}."
            .format(*tensor)) in page
    assert "The short kernel takes {:.1f} and {:.1f} µs.".format(*(row["us"] for row in short)) in page


def test_11_why_half_the_bytes_are_not_half_the_time():
    ours, theirs = (profiled(name, M=64, K=8192) for name in ("decode_attention_int8", "SDPA FP16"))
    page = text("11")
    assert "executes {} million instructions, PyTorch's {} million.".format(*millions(ours, theirs)) in page
    (issue, xu, dram), (issue_theirs, xu_theirs, dram_theirs) = (counted(row, "issue_pct", "xu_pct", "dram_pct")
                                                                 for row in (ours, theirs))
    assert f"A scheduler starts one in {issue} % of the cycles, in PyTorch's kernel in {issue_theirs} %." in page
    waits = [f"{row['stalls']['long_scoreboard']:.0f} %" for row in (ours, theirs)]
    assert "Our warps wait for loads {} of their time, PyTorch's {}:".format(*waits) in page
    conversions = 64 * 8 * 8192 * 128 / 32 / 1e6
    assert f"About {conversions:.0f} of the {millions(ours)[0]} million convert codes of values" in page
    assert f"works {xu} % of the time, in PyTorch's kernel {xu_theirs} %." in page
    assert f"Memory runs at {dram} % of its peak, with PyTorch's at {dram_theirs} %." in page
    assert 1.9 < theirs["dram_read_bytes"] / ours["dram_read_bytes"] < 2.1, "half the bytes"


def test_11_one_short_sequence_keeps_nothing_busy():
    ours, theirs = ([profiled(name, launch, M=1, K=2048) for launch in (0, 1)]
                    for name in ("decode_attention_int8", "SDPA FP16"))
    us = [f"{row['us']:.1f}" for row in (*ours, *theirs)]
    assert "Ours takes {} µs and the merge {}; PyTorch's two kernels take {} and {}.".format(*us) in text("11")
    programs = [row["programs"] for row in (ours[0], theirs[0])]
    assert "ours has {} programs for 132 multiprocessors, PyTorch's {}.".format(*programs) in text("11")
    units = ("dram_pct", "l2_pct", "tensor_pct", "issue_pct", "fma_pct", "alu_pct", "xu_pct", "lsu_pct")
    for row, most in ((ours[0], 10), (theirs[0], 29)):
        assert max(row[unit] for unit in units) <= most
        assert f"{most} %" in text("11")


def test_11_what_groups_cost_as_counted():
    groups, rows = profiled("group_w8a8_matmul"), profiled("perrow_w8a8_matmul_grouped")
    page = text("11")
    assert "executes {} million instructions, the one by rows {} million.".format(*millions(groups, rows)) in page
    more, three = (groups["instructions"] - rows["instructions"]) / 1e6, 3 * 16384 * 6144 * (2048 // 128) / 32 / 1e6
    assert f"Of the {more:.0f} million more, these three make {three:.0f}." in page
    tensor = counted(groups, "tensor_pct") + counted(rows, "tensor_pct")
    assert "The tensor cores work {} % of the time, in the kernel by rows {} %.".format(*tensor) in page
    assert f"{groups['registers']} in each thread, and by rows {rows['registers']}." in page


def test_09_what_the_picture_shows():
    page, big, small = text("09"), profiled("gemv_fp16", N=65536), profiled("gemv_fp16", N=4096)
    fast, skinny = profiled("matmul_fp16"), profiled("skinny_w8a8", M=16, K=4096)
    assert f"on the large $W$ uses {big['dram_pct']:.0f} % of DRAM's peak" in page
    assert f"On the small $W$ it is {small['dram_pct']:.0f} %" in page
    assert f"its tensor cores work {fast['tensor_pct']:.0f} % of the time." in page
    assert f"It has {skinny['programs']} programs for 132 multiprocessors" in page
    assert f"has an occupancy of {fast['occupancy_pct']:.0f} %: one program on each multiprocessor" in page
    assert min(fast["fit_by_shared"], fast["fit_by_registers"]) == 1


def limit(row: dict) -> str:
    return limit_of(row["us"], 6.0, *(row[unit] for unit in WORKING))


def test_09_the_limits_that_the_text_names():
    assert limit(profiled("matmul_fp16_naive")) == "memory" and limit(profiled("matmul_fp16")) == "compute"
    assert {limit(profiled(PLAIN, K=K)) for K in (2048, 4096, 5120)} == {"compute"}
    assert {limit(profiled("quantize_int8_perrow", K=K)) for K in (2048, 4096, 5120, 11008)} == {"memory"}
    skinny = {"M": 16, "K": 4096}
    assert limit(profiled("skinny_w8a8", **skinny)) == "latency"
    assert limit(profiled("split_k_w8a8", launch=1, **skinny)) == "launch"
    assert "are just above the threshold" in text("09")
    for row in (profiled("gemv_fp16", N=4096), profiled(PLAIN, K=5120)):
        assert 60 < max(row[unit] for unit in WORKING) < 70


def predicted(before: str, after: str, **shape: int) -> tuple[float, float]:
    now, then = profiled(before, **shape), profiled(after, **shape)
    pct = torch.tensor([float(now[unit]) for unit in WORKING])
    return better_change(now["us"], pct, torch.tensor([times_of_work(now, then)]))[1], then["us"]


def test_09_changes_as_predicted():
    page = text("09")
    products = [predicted("matmul_fp16_naive", name) for name in ("matmul_fp16_grouped", "matmul_fp16")]
    off = max(abs(model / measured - 1) for model, measured in products)
    assert f"the better change and its time within {100 * off:.0f} %" in page
    assert all((products[0][place] > products[1][place]) for place in (0, 1)), "it names the better one"
    chunks, library = (predicted(PLAIN, name, K=5120) for name in ("quantize_int8_perrow_long", "quantize_int8_perrow"))
    assert f"{library[0]:.0f} µs predicted, {library[1]:.0f} measured" in page and library < chunks
    now, then = profiled(PLAIN, K=5120), profiled("quantize_int8_perrow", K=5120)
    assert (f"that unit issued instructions, at {now['issue_pct']:.0f} % of its peak; after it, it is the L2 cache, at "
            f"{then['l2_pct']:.0f} %.") in page
    model, measured = predicted("skinny_w8a8", "split_k_w8a8", M=16, K=4096)
    now = profiled("skinny_w8a8", M=16, K=4096)["us"]
    assert model >= now and f"the split makes it {now / measured:.1f} times as fast" in page


def test_09_full_waves_and_busy_units():
    names = ("64 x 64 x 256, 4 warps, 4 stages", "64 x 128 x 128, 4 warps, 3 stages")
    full, best = (profiled(name, M=512) for name in names)
    mb = [f"{row['l2_bytes'] / 1e6:,.0f} MB" for row in (full, best)]
    page = text("09")
    assert (f"the full configuration keeps {full['fit_by_shared']} program of 4 warps on a multiprocessor, its L2 cache "
            f"moves {mb[0]}, and its tensor cores work {full['tensor_pct']:.0f} % of the time.") in page
    fit = min(best["fit_by_shared"], best["fit_by_registers"])
    assert f"With the best one it is up to {fit} programs, {mb[1]} and {best['tensor_pct']:.0f} %." in page


def test_09_tensor_cores_of_the_three_products():
    plain, tma, gluon = (profiled(f"perrow_w8a8_matmul{name}") for name in ("_grouped", ", TMA", ""))
    assert (f"its tensor cores at work {plain['tensor_pct']:.0f} % of the time, and its warps waiting for the other warps "
            f"of their program {plain['stalls']['barrier']:.0f} % of theirs.") in text("09")
    assert (f"Its tensor cores work {gluon['tensor_pct']:.0f} % of the time; with TMA, but without the roles, it is "
            f"{tma['tensor_pct']:.0f} %.") in text("09")


def test_09_protons_shares():
    scope, = (scope for scope in profiles()["proton"]["children"] if scope["name"] == "matmul_int8 (16, 4,096, 4,096)")
    product, = (kernel for kernel in scope["children"] if kernel["name"] == "decode_w8a8_kernel")
    share = 100 * product["us"] / scope["us"]
    assert f"the product, `decode_w8a8_kernel`, is {share:.0f} % of the kernels' time" in text("09")
    scope, = (scope for scope in profiles()["proton"]["children"] if scope["name"] == "matmul_int8 (16,384, 2,048, 6,144)")
    beside, = (kernel for kernel in scope["children"] if kernel["name"] == "beside_kernel")
    assert f"At 16,384 rows `beside_kernel` is {100 * beside['us'] / scope['us']:.0f} %: it is the product" in text("09")
