"""Pictures drawn from a run of a kernel hold what the kernel touched: read back from their axes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawn import bars, colour_of, image, lines, rectangles, texts, ticks

from checks.bench.figures import COLOURS
from checks.exercises import EXERCISES
from checks.judge.tracing import trace
from checks.pictures import common, decode, fused, gemv, hello, matmul, perrow_w8a8, quantize
from checks.simulated.l2_cache import bytes_from_memory
from kernels import cost
from kernels import hello as vectors
from kernels.fused import rmsnorm_quantize_int8_long, rmsnorm_quantize_int8_plain
from kernels.gemv import gemv_fp16, gemv_fp16_kernel, gemv_fp16_row
from kernels.int_mm import int_mm
from kernels.matmul import grouped_tile, matmul_fp16_naive, matmul_fp16_naive_kernel
from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain
from kernels.quantize import quantize_int8_perrow_long, quantize_int8_perrow_plain
from kernels.runtime import INTERPRETED
from kernels.skinny import skinny_w8a8, split_k

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="blocks differ on a GPU")


@pytest.mark.parametrize("shape, title, drawn, labels", [
    ((5,), "2 of 5", (1, 5), ("element", "")),
    ((3, 4), "2 of 12", (3, 4), ("column", "row")),
    ((2, 3, 4), "2 of 24", (6, 4), ("column", "row, part below part")),
])
def test_wrong_elements_are_orange_where_they_are(shape, title, drawn, labels):
    wrong = torch.zeros(shape, dtype=torch.bool)
    wrong.view(-1)[[1, -1]] = True
    (axes,) = common.draw_errors(SimpleNamespace(wrong=wrong, case=SimpleNamespace(name="N = 5"))).axes
    assert image(axes).shape == drawn and np.argwhere(image(axes).ravel()).ravel().tolist() == [1, wrong.numel() - 1]
    assert axes.get_title() == f"{title} elements are wrong (orange): N = 5"
    assert (axes.get_xlabel(), axes.get_ylabel()) == labels
    assert [tuple(axes.images[0].cmap(v)) for v in (0, 1)] == [axes.images[0].cmap(0), axes.images[0].cmap(1)]
    assert axes.images[0].cmap.colors == [COLOURS[4], COLOURS[5]] and axes.images[0].get_clim() == (0, 1)


def test_who_reads_w_and_how_often_x_is_read():
    top, bottom = common.show_accesses(gemv_fp16_row, N=8, K=40).axes
    assert image(top).tolist() == [[2 * n % 7] * 40 for n in range(8)]
    assert texts(top) == [f"program {n}" for n in range(8)]
    assert [text.get_position() for text in top.texts] == [(19.5, n) for n in range(8)]
    assert top.get_title() == "W (8, 40): 8 programs, each loads W in 1 step"
    assert texts(bottom) == ["8 times"] and bottom.get_xlim() == (0, 39)
    assert bottom.get_ylim() == (0, pytest.approx(8 * 1.2))
    assert bottom.collections[0].get_paths()[0].get_extents().y1 == 8

    top, bottom = common.show_accesses(gemv_fp16, N=130, K=320).axes
    owner = image(top)
    assert [[int(owner[row, column]) for column in (0, 127, 128, 256, 319)] for row in (0, 63, 64, 129)] == [
        [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [2, 2, 3, 2, 2], [4, 4, 5, 4, 4]]
    assert texts(top)[:2] == ["program 0\nstep 0", "program 0\nstep 1"] and len(top.texts) == 9
    assert top.texts[4].get_position() == (191.5, 96)  # program 1, step 1
    assert "3 programs, each loads W in 3 steps" in top.get_title()
    assert top.images[0].get_clim() == (-1, 6) and len(top.images[0].cmap.colors) == 8


def test_many_fields_have_no_names():
    top, bottom = common.show_accesses(gemv_fp16_row, N=31, K=8).axes
    assert texts(top) == []
    assert texts(bottom) == ["31 times"]


def test_an_element_that_several_lanes_read_counts_for_each():
    exercise = EXERCISES["gemv_fp16_kernel"]
    kernel = exercise.edited(
        ("x_ptr + offs_k, mask=mask_k", "x_ptr + 0 * offs_n[:, None] + offs_k[None, :], mask=mask_n[:, None]"),
        ("x.to(tl.float32)[None, :]", "x.to(tl.float32)"))
    _, bottom = common.show_accesses(exercise.callable_for(kernel), N=16, K=128).axes
    assert texts(bottom) == ["16 times"], "each row of one program reads all of x"


def test_bytes_of_a_block_of_rows():
    N, K = 16, 256
    (axes,) = gemv.show_bytes(gemv_fp16_kernel, N, K).axes
    found = bars(axes)
    assert list(found) == ["W", "x", "y"]
    assert found["W"] == pytest.approx([2 * N * K / 1e3] * 8)
    assert found["x"] == pytest.approx([-(-N // rows) * 2 * K / 1e3 for rows in gemv.ROWS])
    assert found["y"] == pytest.approx([2 * N / 1e3] * 8)
    totals = [sum(parts) for parts in zip(*found.values(), strict=True)]
    least = cost.gemv_bytes(N, K) / 1e3
    assert texts(axes) == [f"{total / least:.2f}x" for total in totals]
    assert [bar.get_y() for bar in axes.containers[2]] == pytest.approx([
        w + x for w, x in zip(found["W"], found["x"], strict=True)])
    assert axes.lines[0].get_ydata()[0] == least and ticks(axes) == [str(rows) for rows in gemv.ROWS]
    assert axes.get_ylim()[1] == pytest.approx(1.15 * max(totals))


def test_one_tile_of_a_product():
    M, N, K = 140, 150, 70
    figure = matmul.show_one_tile(matmul_fp16_naive_kernel, program=(1, 0), M=M, N=N, K=K)
    legend, w, x, y = figure.axes
    assert [axes.get_title() for axes in (x, w, y)] == ["x (M, K)", "w.T (K, N)", "y (M, N)"]
    rows = np.arange(M) >= 128
    steps = np.where(np.arange(K) < 64, 0, 1)
    assert np.array_equal(image(x), np.where(rows[:, None], steps, -1))
    assert np.array_equal(image(w), np.where(np.arange(N) < 128, steps[:, None], -1))
    assert np.array_equal(image(y), np.where(rows[:, None] & (np.arange(N) < 128), 2, -1))
    assert [text.get_text() for text in legend.get_legend().get_texts()] == ["read in step 0", "read in step 1", "written"]
    assert figure.get_suptitle() == "Program (1, 0) of 4"


def test_one_tile_says_what_all_programs_ask_for(capsys):
    M, N, K = 140, 150, 20
    figure = matmul.show_one_tile(matmul_fp16_naive_kernel, program=(0, 1), M=M, N=N, K=K)
    asked = 2 * (2 * M * K + 2 * N * K + M * N)  # two tiles along either side
    assert f"load and store {asked:,} bytes\n(M=140, N=150, K=20" in capsys.readouterr().out
    assert len(figure.axes[0].get_legend().get_texts()) == 2
    assert (figure.axes[2].get_ylabel(), figure.axes[1].get_xlabel()) == ("m", "n")


def test_the_order_of_tiles_and_the_loads_it_leaves(monkeypatch):
    figures = []
    monkeypatch.setattr(matmul, "TILES", 8)  # along either side of y, of 16 elements each
    monkeypatch.setattr(matmul, "show_figure", lambda figure: figures.append(figure) or figure)
    matmul.show_order(matmul_fp16_naive_kernel, grouped_tile)
    (columns, groups), (loads,) = (figure.axes for figure in figures)
    m, n = np.mgrid[:8, :8]
    for axes, order, needs in ((columns, n * 8 + m, "8 of x + 2 of w = 10"),
                               (groups, m // 4 * 32 + n * 4 + m % 4, "4 of x + 4 of w = 8")):
        assert np.array_equal(np.array(list(map(int, texts(axes)))).reshape(8, 8), order)
        assert np.array_equal(image(axes), (order < 16).astype(int)) and needs in axes.get_title()
    panel, inputs = 16 * 16 * 2, {"x": torch.ones(128, 16).half(), "w": torch.ones(128, 16).half()}
    tile = {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 16}
    naive = trace(matmul._column_by_column, **inputs, **tile)[-1]
    grouped = trace(matmul._in_groups, **inputs, **tile, GROUP_M=4)[-1]
    for line, name, launch in zip(loads.lines, ("column by column", "groups of 4 rows"), (naive, grouped), strict=False):
        assert line.get_label() == name and list(line.get_xdata()) == [4, 6, 8, 10, 12, 16, 20, 24, 32]
        assert list(line.get_ydata()) == [bytes_from_memory(launch, size * panel, 16) / panel for size in line.get_xdata()]
    asked = 128  # two panels for each of 64 tiles
    assert [loads.lines[i].get_ydata()[0] for i in (2, 3)] == [asked, 16]
    assert loads.lines[4].get_xdata()[0] == 8 and loads.get_ylim()[1] == pytest.approx(asked * 1.15)


def test_a_row_in_chunks():
    (axes,) = quantize.show_chunks(quantize_int8_perrow_long, K=6000).axes
    assert texts(axes) == ["loads x", "loads x", "stores scale", "loads x", "stores q", "loads x", "stores q"]
    assert [(x, width) for x, _, width, _ in rectangles(axes)] == [
        (0, 4096), (4096, 1904), (0, 60), (0, 4096), (0, 4096), (4096, 1904), (4096, 1904)]
    assert [y + height / 2 for _, y, _, height in rectangles(axes)] == pytest.approx(range(7))
    assert colour_of(axes)[0] == COLOURS[0] and colour_of(axes)[2] == COLOURS[2] and colour_of(axes)[4] == COLOURS[1]
    assert axes.get_title() == "x is read 2.0 times; 5.0 bytes moved per element"
    (axes,) = quantize.show_chunks(quantize_int8_perrow_plain, K=500).axes
    assert axes.get_title() == "x is read 1.0 times; 3.0 bytes moved per element"


def test_bytes_of_a_product_by_tensor():
    M, N, K = 64, 128, 128
    counts = perrow_w8a8.count_bytes(perrow_w8a8_matmul_plain, x_q=torch.zeros(M, K).to(torch.int8), x_scale=torch.ones(M),
                                     w_q=torch.zeros(N, K).to(torch.int8), w_scale=torch.ones(N))
    assert counts == {"x": M * K, "w": N * K, "scales": 4 * (M + N), "y": 2 * M * N}  # one tile
    (axes,) = perrow_w8a8.show_traffic(perrow_w8a8_matmul_plain, M, N, K).axes
    fp16 = perrow_w8a8.count_bytes(matmul_fp16_naive, x=torch.zeros(M, K).half(), w=torch.zeros(N, K).half())
    assert bars(axes, horizontal=True) == {part: pytest.approx([fp16[part] / 1e3, counts[part] / 1e3])
                                           for part in ("x", "w", "scales", "y")}
    assert texts(axes) == [f" {count.total():,} bytes" for count in (fp16, counts)]
    assert f"FP16 moves {fp16.total() / counts.total():.2f} times" in axes.get_title()
    assert [text.get_position() for text in axes.texts] == [(pytest.approx(count.total() / 1e3), place)
                                                            for place, count in enumerate((fp16, counts))]


def test_bytes_that_two_tiles_read_count_twice():
    M, N, K = 64, 256, 128
    counts = perrow_w8a8.count_bytes(perrow_w8a8_matmul_plain, x_q=torch.zeros(M, K).to(torch.int8), x_scale=torch.ones(M),
                                     w_q=torch.zeros(N, K).to(torch.int8), w_scale=torch.ones(N))
    assert (counts["x"], counts["w"], counts["y"]) == (2 * M * K, N * K, 2 * M * N)


def test_bytes_of_the_fused_norms():
    (axes,) = fused.show_norm_bytes(rmsnorm_quantize_int8_plain, rmsnorm_quantize_int8_long, M=2, K=4000).axes
    assert ticks(axes, "y") == ["norm, then quantizer", "rmsnorm_quantize_int8_plain", "rmsnorm_quantize_int8_long"]
    widths = [width for _, _, width, _ in rectangles(axes)]
    apart, plain, long = widths[:4], widths[4:8], widths[8:]
    assert (apart, plain, long) == ([4, 2, 2, 1], [2, 2, 0, 1], [4, 4, 0, 1])  # x, weight, y, codes
    assert texts(axes) == [f" {sum(part):.1f}" for part in (apart, plain, long)]
    assert [x for x, *_ in rectangles(axes)][4:8] == [0, 2, 4, 4]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "reads x (or y)", "reads weight", "writes y in FP16", "writes codes"]


def test_each_plan_s_passes_are_counted(capsys):
    M, N, K = 4, 16, 64
    fused.count_plans(M, N, K)
    said = {line.split(":")[0].strip(): line.split(":")[1] for line in capsys.readouterr().out.splitlines()}
    assert list(said) == ["unfused", "epilogue fused", "producer fused"]
    for name, model in zip(said, (cost.unfused_bytes, cost.epilogue_fused_bytes, cost.producer_fused_bytes), strict=True):
        passes, total = said[name].removesuffix(" bytes").split(" = ")
        counts = [int(count.replace(",", "")) for count in passes.split(" + ")]
        assert sum(counts) == int(total.replace(",", "")) == model(M, N, K)
    assert len(said["producer fused"].split("+")) < len(said["unfused"].split("+"))


def test_who_reads_which_part_of_w():
    skinny, split = decode.show_programs(skinny_w8a8, split_k, M=2, N=128, K=1024).axes
    assert skinny.get_title() == "skinny_w8a8: 2 programs read w (128, 1024)"
    assert split.get_title() == "split_k: 8 programs read w (128, 1024)"
    assert texts(skinny) == ["program (0, 0)", "program (1, 0)"]
    assert [text.get_position() for text in skinny.texts] == [(511.5, 31.5), (511.5, 95.5)]

    def number(colour):
        return COLOURS.index("#" + "".join(f"{round(255 * v):02X}" for v in colour))

    picture = image(skinny)
    assert [number(picture[n, k]) for n, k in ((0, 0), (63, 1023), (64, 0), (127, 500))] == [0, 0, 1, 1]
    assert split.get_xlabel() == "k" and skinny.get_ylabel() == "row n of w"
    assert len({number(colour) for colour in image(split).reshape(-1, 3)[::64]}) == 7


def test_programs_that_touch_one_element_twice_are_counted():
    (axes,) = hello.show_programs(vectors.vector_add, x=torch.ones(5), y=torch.ones(5), BLOCK=4).axes
    assert ticks(axes, "y") == ["program 0", "program 1"] and texts(axes) == []
    assert image(axes).tolist() == [[0, 0, 0, 0, -1], [-1, -1, -1, -1, 3]]
    loads, store = hello.show_programs(vectors.smooth, x=torch.ones(9), BLOCK=4).axes
    assert (loads.get_title(), store.get_title()) == ("load x", "store out")
    counts = np.zeros((3, 9), dtype=int)
    for text in loads.texts:
        column, row = text.get_position()
        counts[row, column] = int(text.get_text())
    assert counts.tolist() == [[2, 3, 3, 2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 2, 3, 3, 2, 0], [0] * 9]  # once has no number
    assert (image(loads)[:, 3:5] >= 0).tolist() == [[True, True], [True, True], [False, False]]
    assert texts(store) == [] and store.images[0].get_clim() == (-1, 6)
    assert list(store.get_xticks(minor=True)) == [n - 0.5 for n in range(10)]  # white lines between the fields
    (axes,) = hello.show_programs(vectors.vector_add, x=torch.ones(65), y=torch.ones(65), BLOCK=64).axes
    assert not len(axes.get_xticks(minor=True)) and image(axes).shape == (2, 65)
    (loads, _) = hello.show_programs(vectors.smooth, x=torch.ones(65), BLOCK=64).axes
    assert texts(loads) == []  # too many for numbers


def test_lanes_of_one_program_that_read_one_element_are_counted():
    exercise = EXERCISES["vector_add_kernel"]
    kernel = exercise.edited(("tl.load(x_ptr + offs,", "tl.load(x_ptr + offs // 2,"))
    pairs, *_ = hello.show_programs(exercise.callable_for(kernel), x=torch.ones(4), y=torch.ones(4), BLOCK=4).axes
    assert pairs.get_title() == "load x" and texts(pairs) == ["2", "2"]


def test_loads_that_start_elsewhere_have_panels_of_their_own():
    panels = hello.show_lanes(vectors.smooth, x=torch.ones(9), BLOCK=4).axes
    assert [texts(axes)[:4] for axes in panels] == [["-1", "0", "1", "2"], ["0", "1", "2", "3"], ["1", "2", "3", "4"]]


def test_lanes_show_their_elements_and_which_are_off():
    (axes, *_) = hello.show_lanes(vectors.vector_add, x=torch.ones(5), y=torch.ones(5), BLOCK=4).axes
    assert image(axes).tolist() == [[0, 0, 0, 0], [3, -1, -1, -1]]
    assert texts(axes) == [str(n) for n in range(8)]
    assert [text.get_position() for text in axes.texts] == [(n % 4, n // 4) for n in range(8)]
    assert [(x, y) for x, y, *_ in rectangles(axes)] == [(0.5, 0.5), (1.5, 0.5), (2.5, 0.5)]
    assert all(bar.get_hatch() and not bar.get_fill() for bar in axes.patches)
    assert axes.get_title().endswith("(hatched: off)") and ticks(axes, "y") == ["program 0", "program 1"]


def test_the_sectors_of_a_stride_predicted_and_counted():
    left, right = gemv.show_sectors(cost.sectors_per_request).axes
    assert image(left)[1].tolist() == [2, 1] * 32 and image(left)[0].tolist() == [2] * 32 + [0] * 32
    assert image(left)[3].tolist() == ([2] + [1] * 7) * 8 and ticks(left, "y") == [f"stride {s}" for s in (1, 2, 4, 8)]
    drawn = lines(right)
    assert drawn["your function"] == drawn["counted in a run"] == {s: min(32, 4 * s) for s in gemv.STRIDES}


def test_several_loads_of_a_tensor_are_numbered():
    titles = [axes.get_title() for axes in hello.show_lanes(vectors.smooth, x=torch.ones(22), BLOCK=8).axes]
    assert titles == [f"{title} (hatched: off)" for title in ("load 1 of x", "load 2 of x · store out", "load 3 of x")]


def test_memory_is_cut_into_lines_of_the_largest_stride():
    x, out = hello.show_memory(vectors.copy_2d, x=torch.ones(3, 12)[:, ::2]).axes
    assert image(x).tolist() == [[0, -1] * 6] * 3 and image(out).tolist() == [[0] * 6] * 3
    assert x.get_title() == "load x (3, 6),\nstrides (12, 2)" and x.get_ylabel() == "line of 12 elements in memory"
    assert out.get_title() == "store out (3, 6),\nstrides (6, 1)"
    x, out = hello.show_memory(vectors.row_sum, x=torch.ones(3, 12)[:, :10]).axes
    assert image(x).tolist() == [[3 * n % 7] * 10 + [-1] * 2 for n in range(3)]
    assert image(out).tolist() == [[0], [3], [6]] and out.get_ylabel() == "element"
    assert texts(x) == ["program 0", "program 1", "program 2"] and texts(out) == ["0", "1", "2"]
    assert [text.get_position() for text in x.texts] == [(4, 0), (4, 1), (4, 2)]
    _, out = hello.show_memory(vectors.copy_2d, x=torch.ones(70, 24), column_major=True).axes
    assert image(out).shape == (24, 70) and texts(out) == [f"program {n}" for n in range(5)]


@pytest.mark.parametrize("recorded_too", [True, False])
def test_the_layouts_cost_is_the_compiler_s_and_the_clock_s(monkeypatch, recorded_too):
    rows = [{"test": "layout", "function": f"int_mm, {layout}", "tflops": speed}
            for layout, speed in (("w N-major", 300.0), ("w K-major", 900.4))]
    monkeypatch.setattr(perrow_w8a8, "recorded", lambda: {"gpu": "Some GPU", "rows": rows * recorded_too})
    reports = [{capability: SimpleNamespace(byte_moves=number) for capability in perrow_w8a8.TARGETS} for number in (0, 64)]
    monkeypatch.setattr(perrow_w8a8, "Compilation", lambda launches: SimpleNamespace(reports=lambda: reports))
    moves, *speed = perrow_w8a8.show_layouts(int_mm).axes
    assert bars(moves) == {"w K-major": [0] * len(perrow_w8a8.TARGETS), "w N-major": [64] * len(perrow_w8a8.TARGETS)}
    assert ticks(moves) == list(perrow_w8a8.TARGETS.values()) and len(speed) == recorded_too
    if recorded_too:
        assert [bar.get_height() for bar in speed[0].patches] == [900.4, 300] and texts(speed[0]) == ["900", "300"]
        assert ticks(speed[0]) == ["w K-major", "w N-major"] and "recorded on an Some GPU" in speed[0].get_title()
