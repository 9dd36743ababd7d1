"""What is drawn for the record from figures alone: those in results/, or made up for every row that `bench` measures, as if
recorded, and as if measured by a GPU that is here."""

import torch
from invented import MODULES, card_rows, figures, live, recorded
from pytest import MonkeyPatch
from synthetic_figures import ROOFS

from checks.bench import figures as bench_figures
from checks.bench import gallery, report
from checks.bench.results import select
from checks.pictures import (
    common,
    decode,
    fused,
    matmul,
    measuring,
    mlp,
    parallel,
    perrow_w8a8,
    profiling,
    quantize,
    stack,
    transformer,
    tuning,
)
from checks.simulated.gpu import SimulatedGPU
from kernels import collectives, cost, latency, matmul_fp16_naive, timing
from kernels.block_cost import amdahl_speedup
from kernels.gemv import gemv_fp16, gemv_fp16_row
from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain
from kernels.profiling import better_change
from kernels.quantize import quantize_int8_perrow_long, quantize_int8_perrow_plain
from kernels.skinny import skinny_w8a8
from kernels.transformer import pareto_front


def each(name: str, call) -> dict:
    """A picture of recorded rows, one of rows that a GPU gives now, and what is said where there are none."""
    def there():
        with recorded():
            return call()

    def here():
        with live():
            return call()

    def nowhere():
        with recorded() as patch:
            for module in MODULES:
                if hasattr(module, "recorded"):
                    patch.setattr(module, "recorded", lambda: figures() | {"rows": []})
            return call()

    return {f"{name}: recorded": there, f"{name}: measured": here, f"{name}: nothing recorded": nowhere}


def from_rows(name: str, call) -> dict:
    """As `each`, of a picture that needs rows."""
    return {case: made for case, made in each(name, call).items() if not case.endswith("nothing recorded")}


def without_ranks(call):
    """With no figures of two GPUs."""
    def made():
        with MonkeyPatch.context() as patch:
            patch.setattr(parallel.recorded_ranks, "load", lambda: (_ for _ in ()).throw(FileNotFoundError()))
            return call()
    return made


def no_cards():
    with MonkeyPatch.context() as patch:
        patch.setattr(stack, "recorded_cards", list)
        return stack.show_speed()


def timed_wrongly():
    """On the simulated GPU, and on a second one that stands for a GPU that is here."""
    gpu = SimulatedGPU(launch_us=9.0, gb_per_s=2000.0)
    with live() as patch:
        patch.setattr(measuring.timing, "CudaGPU", lambda: gpu)
        patch.setattr(measuring, "_fresh_gemv", lambda x, w: gpu.kernel(
            "gemv", {"x": x.nbytes, "w": w.nbytes}, compile_us=1e5))
        patch.setattr(measuring.torch, "randn", lambda *size, device: torch.zeros(size))
        return measuring.show_wrong_times(timing.time_us)


def with_recorded(call):
    with recorded():
        return call()


def backwards(**wanted) -> list[dict]:
    """Rows in the order in which no one would expect them."""
    return select(figures(), **wanted)[::-1]


def without(name: str) -> dict:
    return figures() | {"rows": [row for row in figures()["rows"] if row["function"] != name]}


def no_gain():
    with recorded() as patch:
        patch.setattr(perrow_w8a8, "recorded", lambda: without("perrow_w8a8_matmul"))
        return perrow_w8a8.say_gain()


def few_or_many(never: bool) -> list[dict]:
    return [row | ({"median_us": 1000.0} if never and row["function"] == decode.PREFILL else {})
            for row in backwards(test="few or many")]


def partly_measured(**wanted) -> list[dict]:
    """Without what one function took at one shape."""
    rows = backwards(**wanted)
    last = rows[0]
    return [row for row in rows if (row["function"], row["N"], row["M"]) != (last["function"], last["N"], last["M"])]


def rows_of_a_card() -> list[dict]:
    """A report card's, where one variant of the block was not measured."""
    return [row for row in card_rows()
            if (row["function"], row["mode"], row["phase"], row["test"]) != ("INT8", "compile", "decode", "block")]


BLOCK = {"gpu": "Some GPU", "rows": rows_of_a_card()}
CARD = BLOCK | {"cost_percent": {"FP16": 0.0, "INT8": 0.5, "INT4": -0.25}, "perplexity": {"FP16": 4.0, "INT8": 4.02},
                "bytes": 12345, "accuracy_on": "CPU", "sqnr_db": {"blocks.0.attention.q": 44.0, "blocks.1.mlp.up": 48.0},
                "date": "2026-01-01", "torch": "2.11", "timed": {"date": "2025-12-31", "torch": "2.10", "triton": "3.6"}}
POINTS = {"a": (4.0, 0.0), "b": (2.0, 0.3), "c": (3.0, 0.5), "d": (1.0, 9.0)}


def time_now():
    _, axes = transformer.plt.subplots()
    transformer.draw_time_now(axes, BLOCK["rows"])
    return axes


def cards():
    return [[card["model"], card["gpu"], card["random"], len(card["speed"] or [])] for card in stack.recorded_cards()]


def changed() -> dict:
    """Figures of which those of one function are half as fast, all others alike slower."""
    slower = [row | {name: row[name] * (2.2 if row["function"] == "matmul_int8" else 1.1)
                     for name in ("median_us", "low_us", "high_us")} for row in figures()["rows"]]
    return figures() | {"rows": slower, "date": "2026-03-04"}


gemm = {"test": "gemm", "K": 2048, "M": 16384}
whole = {"test": "matmul_int8", "K": 4096, "N": 4096}

CASES = {
    "common": each("show_bandwidth", lambda: common.show_bandwidth(gemv_fp16_row=gemv_fp16_row, gemv_fp16=gemv_fp16)),
    "decode": {
        **each("show_latency_stack", decode.show_latency_stack),
        "latency_stack_figure: backwards": lambda: decode.latency_stack_figure(backwards(test="launches"), "a title"),
        **each("show_break_even", lambda: decode.show_break_even(latency.break_even_m, latency.compute_bound_from,
                                                                 skinny_w8a8=skinny_w8a8)),
        "break_even_figure: backwards": lambda: decode.break_even_figure(
            few_or_many(False), "a title", latency.break_even_m, latency.compute_bound_from),
        "break_even_figure: never": lambda: decode.break_even_figure(
            few_or_many(True), "a title", latency.break_even_m, latency.compute_bound_from),
    },
    "fused": each("show_breakdown", fused.show_breakdown) | each("show_plan_times", fused.show_plan_times),
    "matmul": each("show_tflops", lambda: matmul.show_tflops(matmul_fp16_naive)),
    "measuring": {
        **from_rows("show_roofline", lambda: measuring.show_roofline(cost.attainable_tflops, timing.time_us)),
        **from_rows("show_gain", lambda: measuring.show_gain(cost.int8_gain, timing.time_us)),
        "show_wrong_times: measured": timed_wrongly,
    },
    "mlp": each("show_silu_times", mlp.show_silu_times) | each("show_places", mlp.show_places),
    "parallel": {
        "figures": lambda: list(parallel.figures()),
        "title_of": lambda: [parallel.title_of({"ranks": 2, "gpu": "A"}), parallel.title_of(parallel.figures(), "now")],
        "link_numbers": lambda: parallel.link_numbers(parallel.figures()),
        "best": lambda: parallel.best(parallel.figures(), "decode", 16, "INT8", 2),
        "show_link": lambda: parallel.show_link(collectives.all_reduce_us),
        "show_steps": parallel.show_steps,
        "show_steps: others": lambda: parallel.show_steps((8192, 1)),
        "show_mlp": parallel.show_mlp,
        "print_mlp": lambda: parallel.print_mlp(collectives.parallel_speedup, collectives.all_reduce_us),
        "show_block": parallel.show_block,
        **{f"{name}: nothing recorded": without_ranks(call) for name, call in {
            "show_link": lambda: parallel.show_link(collectives.all_reduce_us), "show_steps": parallel.show_steps,
            "show_mlp": parallel.show_mlp, "show_block": parallel.show_block,
            "print_mlp": lambda: parallel.print_mlp(collectives.parallel_speedup, collectives.all_reduce_us)}.items()},
    },
    "perrow_w8a8": {
        "say_gain": lambda: with_recorded(perrow_w8a8.say_gain),
        "say_gain: nothing recorded": no_gain,
        **each("show_speed", lambda: perrow_w8a8.show_speed(perrow_w8a8_matmul_plain)),
    },
    "profiling": {
        "most_waited_for": lambda: profiling.most_waited_for({"stalls": {"selected": 60.0, "wait": 30.0, "drain": 10.0}}),
        "shown_profiles": lambda: [[row[name] for name in ("function", "M", "K", "N", "launch", "us")]
                                   for row in profiling.shown_profiles()],
        "show_profiles": profiling.show_profiles,
        "profile_figure: backwards": lambda: profiling.profile_figure(profiling.shown_profiles()[:7:-1], "a title"),
        "times_of_work": lambda: profiling.times_of_work(*profiling.shown_profiles()[2:4]),
        "show_changes": lambda: profiling.show_changes(better_change),
        "show_tree": profiling.show_tree,
    },
    "quantize": each("show_speed", lambda: quantize.show_speed(quantize_int8_perrow_plain, quantize_int8_perrow_long)),
    "stack": {
        "recorded_cards": cards,
        "show_speed": stack.show_speed,
        "show_speed: nothing recorded": no_cards,
        **each("show_attention_times", stack.show_attention_times),
        **each("show_group_times", stack.show_group_times),
    },
    "transformer": {
        "show_bits": transformer.show_bits,
        "show_outliers": transformer.show_outliers,
        "frontier_figure": lambda: transformer.frontier_figure(
            POINTS, pareto_front(*torch.tensor(list(POINTS.values())).T).tolist()),
        "block_card": lambda: {name: value for name, value in transformer.block_card().items() if name != "rows"},
        "show_block": lambda: transformer.show_block(BLOCK),
        "show_block: recorded": lambda: transformer.show_block(transformer.block_card()),
        "show_time_now": lambda: transformer.show_time_now(BLOCK),
        "show_block: nothing recorded": lambda: [
            transformer.show_block(None), transformer.show_time_now(None), transformer.print_products(None),
            transformer.print_amdahl(amdahl_speedup, None)],
        "draw_time_now": time_now,
        "print_products": lambda: transformer.print_products(BLOCK),
        "print_products: recorded": lambda: transformer.print_products(transformer.block_card()),
        "print_amdahl": lambda: transformer.print_amdahl(amdahl_speedup, BLOCK),
        "card_figure": lambda: transformer.card_figure(CARD),
        "card_figure: without times": lambda: transformer.card_figure(CARD | {"rows": [], "timed": None}),
    },
    "tuning": {
        **each("show_config_map", tuning.show_config_map),
        "config_map_figure: partly measured": lambda: tuning.config_map_figure(partly_measured(test="config"), "a title"),
        **each("show_roofs", tuning.show_roofs),
        "roof_figure: partly measured": lambda: tuning.roof_figure(
            partly_measured(test="gemm", M=16384, function=tuning.BESIDE), ROOFS, "a title"),
        **each("show_baselines", tuning.show_baselines),
    },
    "figures": {
        "bandwidth_figure: backwards": lambda: bench_figures.bandwidth_figure(backwards(test="gemv", mode="eager"), ROOFS,
                                                                               "a"),
        "tflops_figure: backwards": lambda: bench_figures.tflops_figure(backwards(**gemm), {"fp16_tflops": 700.0}, "a"),
        "speedup_figure: backwards": lambda: bench_figures.speedup_figure(backwards(**gemm), "matmul_fp16", "a"),
        "breakdown_figure: in three modes": lambda: bench_figures.breakdown_figure(
            backwards(test="matmul_int8", M=32, K=2048, N=2048), "a"),
        "roofline_figure: backwards": lambda: bench_figures.roofline_figure(backwards(**whole), ROOFS, "a"),
        "latency_figure: backwards": lambda: bench_figures.latency_figure(backwards(**whole, mode="graph"), "a"),
        "break_evens": lambda: [bench_figures.break_evens(backwards(test="few or many"), decode.PREFILL, baseline)
                                for baseline in (decode.FP16, decode.DECODE, decode.PREFILL)],
        "styles_of": lambda: bench_figures.styles_of(figures()["rows"]),
    },
    "gallery": {"pictures": lambda: gallery.pictures(figures())},
    "report": {
        "tables": lambda: report.tables(figures()),
        "totals: of some sizes": lambda: report.totals(figures(), (1, 16384)),
        "after_a_copy": lambda: [[row["M"], row["K"], ratio] for row, ratio in report.after_a_copy(figures())],
        "ladder": lambda: [report.markdown(table) for table in report.ladder(figures())],
        "compare": lambda: report.compare(figures(), changed()),
    },
}
