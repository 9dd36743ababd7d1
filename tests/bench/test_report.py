"""Tables: which rows they take, in which order, by which ratios, and where the verdicts turn."""

import pytest
from synthetic_figures import ROOFS, row

from checks.bench import report
from checks.bench.command import BEGIN, END, ON_PAGE, page_block


def timed(test, function, us, shape, mode="eager", **more):
    M, K, N = shape
    made = row(test, function, M, N, K, mode)
    return made | {"median_us": us, "low_us": 0.98 * us, "high_us": 1.02 * us, "gb_per_s": made["bytes"] / us / 1e3,
                   "tflops": made["flops"] / us / 1e6 if made["flops"] else None} | more


def figures(*rows, **fields):
    made = {"gpu": "Some GPU", "date": "2026-01-01", "torch": "2", "triton": "3", "roofs": ROOFS, "rows": list(rows)}
    return made | fields


def both(test, shape, ours, theirs, mode="eager"):
    return [timed(test, "matmul_int8", ours, shape, mode), timed(test, "cuBLAS FP16", theirs, shape, mode)]


def test_roofs_are_listed_with_who_reached_them():
    roofs = ROOFS | {"copy_by": "copy", "read_by": "gemv_fp16"}
    assert report.roofs(figures(roofs=roofs))[2] == [
        ["a copy, reads plus writes", "4,000 GB/s", "copy"], ["reading alone", "4,200 GB/s", "gemv_fp16"],
        ["FP16 tensor cores", "700 TFLOPS", "cuBLAS FP16"], ["INT8 tensor cores", "1,400 TOPS", "perrow_w8a8_matmul"]]
    assert report.roofs(figures(roofs={"copy_gb_per_s": 1234.4}))[2] == [["a copy, reads plus writes", "1,234 GB/s", ""]]


def test_totals_are_sorted_and_show_quantization():
    rows = [*both("matmul_int8", (128, 64, 64), 10.0, 15.0), *both("matmul_int8", (129, 64, 64), 10.0, 20.0),
            *both("matmul_int8", (2048, 64, 128), 200.0, 100.0), *both("matmul_int8", (2048, 64, 64), 99.96, 300.0),
            *both("matmul_int8", (1, 64, 64), 4.0, 6.0, "graph"), *both("matmul_int8", (1, 64, 64), 44.0, 66.0, "idle"),
            *both("others", (4096, 64, 64), 1.0, 2.0)]
    rows += [timed("matmul_int8", "quantize_int8_perrow", 2.5, shape) for shape in ((128, 64, 64), (129, 64, 64))]
    assert report.totals(figures(*rows))[2] == [
        ["(2,048, 64, 64)", "eager", "300 µs", "100.0 µs", "3.00×", ""],
        ["(2,048, 64, 128)", "eager", "100 µs", "200 µs", "0.50×", ""],
        ["(129, 64, 64)", "eager", "20.0 µs", "10.0 µs", "2.00×", "25%"],
        ["(128, 64, 64)", "eager", "15.0 µs", "10.0 µs", "1.50×", ""],
        ["(1, 64, 64)", "graph", "6.0 µs", "4.0 µs", "1.50×", ""]]


def test_totals_of_some_sizes_take_few_rows_from_graphs_alone():
    sizes = (16, 1023, 1024, 2048)
    rows = [r for M in sizes for mode in ("eager", "graph") for r in both("matmul_int8", (M, 64, 64), 1.0, 2.0, mode)]
    found = report.totals(figures(*rows), (16, 1023, 1024))[2]
    assert [(line[0], line[1]) for line in found] == [
        ("(1,024, 64, 64)", "eager"), ("(1,024, 64, 64)", "graph"), ("(1,023, 64, 64)", "graph"), ("(16, 64, 64)", "graph")]


def test_the_summary_keeps_large_and_small_apart():
    rows = [*both("matmul_int8", (1024, 64, 64), 1.0, 1.0), *both("matmul_int8", (2048, 64, 64), 1.0, 2.0),
            *both("matmul_int8", (4096, 64, 64), 1.0, 6.0, "graph"), *both("matmul_int8", (1023, 64, 64), 1.0, 1.5),
            *both("matmul_int8", (1, 64, 64), 1.0, 3.0, "graph")]
    assert report.summary(figures(*rows))[2] == [
        ["large, M ≥ 1,024", "3", "3.00×", "2.00×", "1.00 to 6.00×"],
        ["small, one by one", "1", "1.50×", "1.50×", "1.50 to 1.50×"],
        ["small, in a CUDA graph", "1", "3.00×", "3.00×", "3.00 to 3.00×"]]


@pytest.mark.parametrize("theirs, verdict, missing", [
    (19.0, "aim reached", False), (18.9, "reached", True), (16.0, "reached", True), (15.9, "MISSED", True)])
def test_a_verdict_turns_at_what_was_wanted(theirs, verdict, missing):
    shape = (16384, 2048, 2048)
    rows = [timed("gemm", "perrow_w8a8_matmul", 10.0, shape), timed("gemm", "cuBLAS FP16", theirs, shape)]
    (line,) = report.wanted(figures(*rows))[2]
    assert line[:4] == ["INT8 GEMM over cuBLAS FP16", "M=16,384 K=2,048 N=2,048", "1.60", "1.90"]
    assert line[4:6] == [f"{theirs / 10:.2f}", verdict] and bool(line[6]) == missing
    if missing:
        assert line[6].startswith(f"{1 - theirs / 19:.1%} of its time: it runs at ")


def test_why_names_what_the_time_goes_into():
    shape = (16, 4096, 4096)
    rows = both("matmul_int8", shape, 10.0, 15.0, "graph")
    (line,) = report.wanted(figures(*rows))[2]
    part = rows[0]["bytes"] / 4000e9 * 1e6 / 10  # of the time at a copy's speed
    assert line[-1] == (f"25.0% of its time: reading w at a copy's speed takes {10 * part:.1f} of 10.0 µs "
                        f"({1.5 / part:.2f}), quantizing x and the latency of two kernels the rest")
    copy = (16384, 4096, 1)
    rows = [timed("quant_prefill", "quantize_int8_perrow", 100.0, copy), timed("quant_prefill", "copy", 90.0, copy)]
    (line,) = report.wanted(figures(*rows))[2]
    assert line[1] == "M=16,384 K=4,096" and line[5] == "MISSED"
    assert line[-1] == f"10.0% of its time: it runs at {rows[0]['bytes'] / 4000e9 * 1e6 / 100:.0%} of this GPU's best copy"


def test_after_a_copy_the_copy_s_own_time_is_taken_off():
    shape, other = (16, 4096, 4096), (1, 4096, 4096)
    rows = [timed("after a copy", name, us, at, "graph") for name, us, at in (
        ("copy of x", 2.0, shape), ("copy of x", 9.0, other), ("copy of x, then cuBLAS FP16", 14.0, shape),
        ("copy of x, then matmul_int8", 8.0, shape), ("copy of x, then cuBLAS FP16", 14.0, (4, 4096, 4096)),
        ("copy of x, then matmul_int8", 8.0, (4, 4096, 4096)))]
    rows += [{**r, "test": "roof"} for r in rows]
    (found, ratio), = report.after_a_copy(figures(*rows))
    assert (found["M"], ratio) == (16, 2.0)
    line = report.wanted(figures(*rows))[2][-1]
    assert line[0] == "INT8 decode over cuBLAS FP16, after another kernel" and line[2:6] == ["", "", "2.00", ""]


@pytest.mark.parametrize("few", [16, 32, 64])
def test_steps_are_from_one_bucket_to_the_next(few):
    rows = [*both("matmul_int8", (few, 64, 64), 10.0, 20.0, "graph"),
            *both("matmul_int8", (few + 1, 64, 64), 13.0, 22.0, "graph"),
            *both("matmul_int8", (few, 128, 64), 10.0, 20.0, "graph"), *both("matmul_int8", (few + 1, 64, 64), 99.0, 1.0)]
    assert report.steps(figures(*rows))[2] == [[f"M={few} to {few + 1} K=64 N=64", "10.0 to 13.0 µs", "1.30×", "1.10×"]]


def test_other_libraries_stand_beside_ours():
    shape = (16384, 2048, 2048)
    rows = [timed("others", name, us, shape) for name, us in (
        ("cuBLAS FP16", 300.0), ("matmul_int8", 150.0), ("torchao", 600.0))] + both("matmul_int8", shape, 1.0, 1.0)
    assert report.others(figures(*rows))[2] == [
        ["matmul_int8", "(16,384, 2,048, 2,048)", "150 µs", "2.00×"],
        ["torchao", "(16,384, 2,048, 2,048)", "600 µs", "0.50×"]]


def test_the_ladder_gives_each_rung_its_unit_ratio_and_part():
    prefill, gemv = (16384, 2048, 6144), (1, 2048, 22016)
    rows = [timed("gemm", "cuBLAS FP16", 800.0, prefill), timed("gemm", "perrow_w8a8_matmul", 400.0, prefill),
            timed("gemm", "matmul_fp16", 1000.0, (16384, 2048, 2048)), timed("matmul_int8", "matmul_int8", 500.0, prefill),
            timed("matmul_int8", "matmul_int8", 1.0, prefill, "graph"), timed("matmul_int8", "cuBLAS FP16", 1.0, prefill),
            timed("gemv", "cuBLAS FP16", 40.0, gemv, "graph"), timed("gemv", "gemv_w8a16", 20.0, gemv, "graph"),
            timed("gemv", "gemv_fp16", 1.0, gemv), timed("matmul_int8", "matmul_int8", 1.0, gemv),
            timed("matmul_int8", "matmul_int8", 1.0, (4, 2048, 22016), "graph"),
            timed("quant_prefill", "copy", 50.0, (16384, 4096, 1)),
            timed("quant_prefill", "quantize_int8_perrow", 100.0, (16384, 4096, 1))]
    flops = 2 * 16384 * 2048 * 6144

    def part(us):
        return f"{flops / 1400e12 / us * 1e6:.0%}"

    decode, prefill_table, quantization = report.ladder(figures(*rows))
    assert prefill_table[2] == [
        ["cuBLAS FP16", "800 µs", f"{flops / 800e6:,.0f} TFLOPS", "1.00×", f"{flops / 700e12 / 800 * 1e6:.0%}"],
        ["`perrow_w8a8_matmul`", "400 µs", f"{flops / 400e6:,.0f} TOPS", "2.00×", part(400)],
        ["`matmul_int8`", "500 µs", f"{flops / 500e6:,.0f} TOPS", "1.60×", part(500)]]
    assert [line[:2] + line[3:4] for line in decode[2]] == [["cuBLAS FP16", "40.0 µs", "1.00×"],
                                                           ["`gemv_w8a16`", "20.0 µs", "2.00×"]]
    assert decode[2][1][2] == f"{rows[7]['bytes'] / 20e3:,.0f} GB/s"
    assert [line[3] for line in quantization[2]] == ["1.00×", "0.50×"] and quantization[1][3] == "against copy"


def test_tables_without_rows_are_left_out():
    assert [title for title, *_ in report.tables(figures(*both("matmul_int8", (1024, 64, 64), 1.0, 2.0)))] == [
        "Roofs of this Some GPU", "y = x wᵀ: torch in FP16, Triton in INT8 (quantization of x included)",
        "matmul_int8 over cuBLAS FP16"]
    assert report.tables(figures(roofs={})) == []


@pytest.mark.parametrize("common", [0.5, 1.0, 2.0])  # the clock: it changes the time of both
@pytest.mark.parametrize("factor, apart, listed", [
    (1.09, 0.01, True), (1.07, 0.01, False), (1.2, 0.11, False), (0.9, 0.01, True), (0.95, 0.01, False), (0.8, 0.15, False)])
def test_a_change_must_pass_the_noise_and_the_bounds(factor, apart, listed, common):
    def run(us, clock=1.0):
        us *= clock
        return figures(timed("gemm", "first", 50.0 * clock, (64, 64, 64)), timed("gemm", "second", us, (64, 64, 64)) | {
            "low_us": us * (1 - apart), "high_us": us * (1 + apart)})

    found = report.compare(run(100.0), run(100.0 * factor, common))[2]
    assert [line[0] for line in found] == ["second"] * listed
    if listed:
        us = 100 * factor * common
        assert found[0][1:] == ["gemm, eager", "(64, 64, 64)", "100 µs", f"{us:.0f} µs" if us >= 100 else f"{us:.1f} µs",
                                f"{common:.2f}×", f"{1 / factor:.2f}× {'slower' if factor > 1 else 'faster'}"]


def test_each_column_has_its_heading_and_shapes_are_m_k_n():
    large, few = (16384, 2048, 6144), [(M, 2048, 6144) for M in (16, 17)]
    rows = [*both("matmul_int8", large, 10.0, 20.0), *(r for at in few for r in both("matmul_int8", at, 5.0, 9.0, "graph")),
            *both("others", large, 8.0, 20.0), timed("host", "F.linear", 4.0, few[0], "host"),
            timed("host", "Int8Linear", 9.0, few[0], "host")]
    old, bounds = figures(*rows), ("median_us", "low_us", "high_us")
    new = figures(*(r | {name: r[name] / (4 if "int8" in r["function"] else 1) for name in bounds} for r in rows))
    found = [*report.tables(old), *report.ladder(old), report.compare(old, new)]
    assert len(found) == 9 and all(len(line) == len(headings) for _, headings, lines in found for line in lines)
    shapes = {"(16,384, 2,048, 6,144)", "(16, 2,048, 6,144)", "(17, 2,048, 6,144)"}
    told = [{line[headings.index("Shape (M, K, N)")] for line in lines} for _, headings, lines in found
            if "Shape (M, K, N)" in headings]
    assert told == [shapes, {"(16,384, 2,048, 6,144)"}, shapes], "of totals, of others and of what changed"


def test_a_change_common_to_all_is_taken_out():
    def run(*us):
        first, second, idle = us
        return figures(*(timed("gemm", name, t, (M, 64, 64)) for M in (1, 2, 3)
                         for name, t in (("first", first), ("second", second))),
                       timed("gemm", "first", idle, (4, 64, 64), "idle"))

    title, _, found = report.compare(run(10.0, 20.0, 5.0), run(15.0, 60.0, 50.0))
    assert title.startswith("3 of 6 figures changed beyond the noise (Some GPU, 2026-01-01 to Some GPU") and "1.50×" in title
    assert [line[0] for line in found] == ["second"] * 3
    assert found[0][3:] == ["20.0 µs", "60.0 µs", "1.50×", "0.50× slower"]
    assert report.compare(figures(), run(1.0, 1.0, 1.0))[0].startswith("0 of 0 figures")


def test_markdown_and_the_markers(tmp_path):
    assert report.markdown(("T", ["a", "b", "c"], [["1", "2", "3"], ["4", "5", "6"]])) == (
        "**T**\n\n| a | b | c |\n| --- | ---: | ---: |\n| 1 | 2 | 3 |\n| 4 | 5 | 6 |\n")
    path = tmp_path / "f.md"
    for text in ("<b>\n<e>\n<b>\n", "<e>\n<b>\n", "<b>\n", "<b><e><e>"):
        path.write_text(text)
        with pytest.raises(ValueError, match="once each and in this order"):
            report.put_between(path, "<b>", "<e>", "x\n")
        assert path.read_text() == text


def test_the_readme_s_block_has_all_its_tables():
    rows = [r for M in (1, 2, 16, 64, 16384) for mode in ("eager", "graph")
            for r in both("matmul_int8", (M, 2048, 6144), 10.0, 20.0, mode)]
    block = page_block(figures(*rows))
    assert block.startswith("Measured on an Some GPU with torch 2 and Triton 3, 2026-01-01: medians")
    assert block.count("**") == 2 * 3 and "(2, 2,048, 6,144)" not in block and "| (16, 2,048, 6,144) | graph |" in block
    assert "Prefill, y = x wᵀ with M = 16,384" in block and "| large, M ≥ 1,024 | 2 |" in block
    assert set(ON_PAGE) == {1, 16, 64, 16384} and BEGIN != END
