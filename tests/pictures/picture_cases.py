"""What is drawn for the record from runs of functions: by module and name, with the inputs of its lesson or smaller ones,
where it has branches with several. A name is that of a public function, and after a colon what is special."""

import contextlib
import json
from types import SimpleNamespace

import picture_cases_of_figures
import torch
from invented import live
from pytest import MonkeyPatch

from checks.capstone import accuracy, report_card
from checks.capstone.accuracy import Scheme
from checks.judge.compiler import TARGETS, Compiled
from checks.pictures import (
    common,
    decode,
    error,
    fused,
    gemv,
    hello,
    matmul,
    measuring,
    mlp,
    parallel,
    perrow_w8a8,
    quantize,
    stack,
    transformer,
    tuning,
)
from checks.simulated.gpu import SimulatedGPU
from checks.simulated.ranks import replay
from checks.simulated.synthetic import activations, weights
from kernels import collectives, cost, latency, ranks, schemes, serving, timing
from kernels import error as kernel_error
from kernels import hello as vectors
from kernels import transformer as kernel_transformer
from kernels.configs import accumulator_registers, stage_bytes
from kernels.fused import rmsnorm_quantize_int8_long, rmsnorm_quantize_int8_plain
from kernels.gate_up import gate_up_silu_mul_plain
from kernels.gemv import gemv_fp16, gemv_fp16_kernel, gemv_fp16_row
from kernels.group_w8a8 import group_w8a8_matmul
from kernels.int_mm import int_mm
from kernels.kv_cache import attention_parts_int8
from kernels.linear import int8_linear_torch
from kernels.matmul import grouped_tile, matmul_fp16_naive_kernel
from kernels.mlp import mlp_int8, silu_apart
from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain
from kernels.plans import rmsnorm
from kernels.quantize import quantize_int8_perrow, quantize_int8_perrow_long, quantize_int8_perrow_torch
from kernels.skinny import skinny_w8a8, split_k
from kernels.transformer import Config, Transformer
from kernels.tuning import bucket_m


@contextlib.contextmanager
def instead(module, **names):
    """Inside the block the module's names stand for these."""
    with MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setattr(module, name, value)
        yield


def wrong_elements(shape):
    wrong = torch.zeros(shape, dtype=torch.bool)
    wrong.view(-1)[[1, 3, -1]] = True
    return common.draw_errors(SimpleNamespace(wrong=wrong, case=SimpleNamespace(name="N = 5")))


def truncate_int8_perrow(x):
    scale = x.float().abs().amax(1) / 127
    return (x.float() / scale[:, None]).trunc().to(torch.int8), scale


def compiled(launches):
    """Reports of the compiler for each of the launches, made up."""
    return SimpleNamespace(reports=lambda: [{
        capability: Compiled(registers=64 + place, tensor_cores=("mma", "wgmma")[place % 2], byte_moves=7 * number + place,
                             error="too many registers" if place == 2 else None)
        for place, capability in enumerate(TARGETS)} for number, _ in enumerate(launches, 1)])


def instructions():
    with instead(decode, Compilation=compiled):
        return decode.report_instructions(skinny_w8a8)


def layouts(recorded_too):
    rows = [{"test": "layout", "function": f"int_mm, {layout}", "tflops": speed}
            for layout, speed in (("w N-major", 300.0), ("w K-major", 900.4))]
    with instead(perrow_w8a8, Compilation=compiled, recorded=lambda: {"gpu": "Some GPU", "rows": rows * recorded_too}):
        return perrow_w8a8.show_layouts(int_mm)


def layouts_here():
    with live(), instead(perrow_w8a8, Compilation=compiled):
        return perrow_w8a8.show_layouts(int_mm)


def measured_errors():
    with instead(error, PAIRS=48):
        errors, sides = error.measured_errors(64)
        return errors, sides[:2]


def product_error(times):
    def product_error_std(K, x_rms, w_rms, x_scale, w_scale):
        return times * kernel_error.product_error_std(K, x_rms, w_rms, x_scale, w_scale)

    def errors_of(K):
        scales = 0.01 + 0.02 * torch.arange(3.0)
        return torch.tensor([0.015, -0.02, 0.04]) * K**0.5 * (1 + K / 65536), [
            {"K": K, "x_rms": 1.0, "w_rms": 0.8, "x_scale": scale, "w_scale": scale / 2} for scale in scales.tolist()]

    with instead(error, measured_errors=errors_of):
        return error.show_product_error(product_error_std)


def outlier_sweep():
    with instead(error, activations=lambda size: activations(size, M=8, K=256)):
        return error.show_outlier_sweep(kernel_error.fake_quantize_int8, kernel_error.sqnr_db_per_channel)


def alpha_sweep():
    with instead(error, activations=lambda size: activations(size, M=16, K=128), weights=lambda: weights(32, 128)):
        return error.show_alpha_sweep(kernel_error.smoothquant, 50.0)


WEIGHTS = {"q": 100, "k": 200, "v": 1000}
RANKINGS = {"alone": {"q": 30.4, "k": 20.0, "v": 40.0}, "together": {"q": 10.0, "k": 35.0, "v": 25.0}}


def order_of_tiles():
    figures = []
    with instead(matmul, TILES=8, show_figure=lambda figure: figures.append(figure) or figure):
        matmul.show_order(matmul_fp16_naive_kernel, grouped_tile)
    return figures


def two_streams():
    """A long kernel whose stream a short one overtakes: what was logged last does not end last."""
    gpu = SimulatedGPU(launch_us=10.0)
    start, stop = gpu.event(), gpu.event(1)
    start.record()
    gpu.flush_l2()
    gpu.kernel("long", {"x": 600e6}, compile_us=40.0)()
    gpu.kernel("short", {"w": 40e6}, stream=1)()
    stop.record()
    return gpu


def one_kernel():
    gpu = SimulatedGPU(blocking=True)
    gpu.kernel("work", {"x": 100e6})()
    gpu.synchronize()
    return gpu


def a_benchmark(old, new, gpu, bytes_read, bytes_written, repeats, warmup):
    begin = gpu.host_us()
    new()
    gpu.synchronize()
    return bytes_read / (gpu.host_us() - begin) / 1e3, 1.5


def lies(benchmark):
    some = {name: made for at, (name, made) in enumerate(measuring.BENCHMARKS.items()) if at < 3 or not made.steady}
    with instead(measuring, BENCHMARKS=some):
        return measuring.show_lies(benchmark)


def wrong_ways():
    gpu = SimulatedGPU(launch_us=4.0)
    return measuring.wrong_ways(lambda: gpu.kernel("work", {"w": 40e6}, compile_us=2e5), gpu, calls=5)


def an_mlp(M, D, N):
    first, last = mlp.mlp_inputs(M, N, D), mlp.mlp_inputs(M, D // 2, N)
    g = torch.Generator().manual_seed(0)
    return {"x": torch.randn(M, D, generator=g).half(), "weight": torch.rand(D, generator=g).half(),
            "gate_up_q": first["w_q"], "gate_up_scale": first["w_scale"],
            "down_q": last["w_q"], "down_scale": last["w_scale"]}


def mlp_apart(x, weight, gate_up_q, gate_up_scale, down_q, down_scale):
    codes = quantize_int8_perrow(rmsnorm(x, weight))
    return perrow_w8a8_matmul_plain(*silu_apart(*codes, gate_up_q, gate_up_scale), down_q, down_scale)


def on_ranks(call):
    with instead(parallel, in_processes=replay):
        return call()


def a_model(layers=1):
    torch.manual_seed(0)
    return Transformer(Config(vocabulary=64, layers=layers, dim=32, heads=2, kv_heads=1, hidden=48)).eval().requires_grad_(
        False)


ROWS = torch.arange(48).reshape(4, 12) * 7 % 64
LOSSES = torch.tensor([1.0, 2.0, 4.0, 3.5], dtype=torch.float64)


def small_model():
    model, twin, rows = stack.small_model()
    with torch.no_grad():
        return vars(model.config), rows, [each(rows[:1, :8])[0, -1] for each in (model, twin)]


def cached_losses():
    with stack.int8_cache():
        return stack.window_losses(a_model(), ROWS)


def smoothing(alpha):
    def load():
        model = a_model()
        model.blocks[0].mlp_norm.weight[:] = torch.linspace(0.5, 2, 32)
        return model

    with instead(stack, load=load, tokens_of=lambda which: torch.arange(9000) * 5 % 64):
        return stack.show_smoothing(schemes.fold_smoothing, alpha)


def on_sample(call):
    """With four short rows for the held-out text, and a small model's layers for those that were recorded. Codes that are
    truncated jump where a last bit is another: five bits stand for them."""
    logits_of = accuracy.logits_of
    layers = [{"name": name, "cost_percent": float(1 + at)} for at, name in enumerate(accuracy.linears(a_model()))]
    with instead(transformer, sample_rows=lambda: ROWS, recorded_accuracy=lambda: {"layers": layers}), instead(
            accuracy, logits_of=lambda model, scheme, rows: logits_of(
                model, Scheme(5) if scheme and scheme.truncate else scheme, rows)):
        return call()


def your_card(card):
    made = []

    def write(found, path, draw):
        made.append({name: value for name, value in found.items() if name not in ("torch", "triton", "date", "rows")})
        return draw(found | {"date": "2026-01-02", "torch": "2", "triton": "3"})

    with instead(report_card, write_card=write):
        figure = on_sample(lambda: transformer.show_card(a_model(), int8_linear_torch, kernel_transformer.perplexity, card))
    return [figure, *made]


def compile_jobs():
    """What the compiler is asked for."""
    asked = []
    with instead(tuning, start=lambda jobs, processes: asked.extend(jobs) or (lambda: [Compiled()] * len(jobs))):
        tuning.compile_configs(tuning.TOO_LARGE[:2], 80)
        tuning.report_configs()
    whole = [{name: value for name, value in job.items() if name != "description"} for job in asked[:2]]
    return whole + [[job["capability"], *job["constexprs"].values(), *job["options"].values()] for job in asked[2:]]


def configs_reported():
    with instead(tuning, compile_configs=lambda configs, capability: [Compiled(registers=capability)] * len(configs)):
        return tuning.report_configs(80)


SIZES = {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 3}
REPORTS = [("one", SIZES, Compiled(registers=127, shared=98304, spills=1008)),
           ("two", SIZES | {"BLOCK_M": 256, "num_warps": 8}, Compiled(registers=90, shared=2048)),
           ("none", SIZES | {"num_stages": 5}, Compiled(error="too large"))]
PLANS = (cost.unfused_bytes, cost.epilogue_fused_bytes, cost.producer_fused_bytes)
TILES = {"program": (1, 0), "M": 140, "N": 150, "K": 70}
GIVEN = {"x_q": torch.ones(64, 128, dtype=torch.int8), "x_scale": torch.ones(64),
         "w_q": torch.ones(256, 128, dtype=torch.int8), "w_scale": torch.ones(256)}
CARD = json.loads((transformer.FOLDER / report_card.RECORDED).read_text())

CASES = {
    "common": {
        "draw_errors: vector": lambda: wrong_elements((5,)),
        "draw_errors: matrix": lambda: wrong_elements((3, 4)),
        "draw_errors: parts": lambda: wrong_elements((2, 3, 40)),
        "show_accesses: rows": lambda: common.show_accesses(gemv_fp16_row, N=8, K=320),
        "show_accesses: blocks": lambda: common.show_accesses(gemv_fp16, N=130, K=320),
    },
    "decode": {
        "show_programs": lambda: decode.show_programs(skinny_w8a8, split_k, M=2, N=192, K=1024),
        "report_instructions": instructions,
        "show_timeline": lambda: decode.show_timeline(latency.eager_us, latency.graph_us),
        "show_timeline: other times": lambda: decode.show_timeline(latency.eager_us, latency.graph_us, (2.0, 8.0, 1.0), 5.0,
                                                                   1.5),
    },
    "error": {
        "measured_errors": measured_errors,
        "show_product_error: as predicted": lambda: product_error(1.0),
        "show_product_error: far off": lambda: product_error(3.0),
        "show_outlier_sweep": outlier_sweep,
        "int8_product": lambda: error.int8_product(*(torch.linspace(-1, 2, n * 8).view(n, 8) ** 3 for n in (3, 5))),
        "show_alpha_sweep": alpha_sweep,
        "show_layers": lambda: error.show_layers(kernel_error.layers_to_keep, RANKINGS, WEIGHTS, 250),
    },
    "fused": {
        "count_plans": lambda: fused.count_plans(4, 16, 64),
        "show_plans": lambda: fused.show_plans(**{model.__name__: model for model in PLANS}),
        "show_norm_bytes": lambda: fused.show_norm_bytes(rmsnorm_quantize_int8_plain, rmsnorm_quantize_int8_long, M=2,
                                                         K=4000),
    },
    "gemv": {
        "show_bytes": lambda: gemv.show_bytes(gemv_fp16_kernel, 16, 256),
        "count_sectors": lambda: [gemv.count_sectors(stride) for stride in (1, 3, 16)],
        "show_sectors": lambda: gemv.show_sectors(cost.sectors_per_request),
    },
    "hello": {
        "show_programs: two inputs": lambda: hello.show_programs(vectors.vector_add, x=torch.ones(50), y=torch.ones(50),
                                                                 BLOCK=16),
        "show_programs: counts": lambda: hello.show_programs(vectors.smooth, x=torch.ones(22), BLOCK=8),
        "show_lanes: two inputs": lambda: hello.show_lanes(vectors.vector_add, x=torch.ones(5), y=torch.ones(5), BLOCK=4),
        "show_lanes: loads that start elsewhere": lambda: hello.show_lanes(vectors.smooth, x=torch.ones(9), BLOCK=4),
        "show_memory: rows": lambda: hello.show_memory(vectors.row_sum, x=torch.ones(8, 48)[:, :40]),
        "show_memory: every second": lambda: hello.show_memory(vectors.copy_2d, x=torch.ones(24, 32)[:, ::2]),
        "show_memory: columns": lambda: hello.show_memory(vectors.copy_2d, x=torch.ones(70, 24), column_major=True),
    },
    "matmul": {
        "trace_naive": lambda: matmul.trace_naive(matmul_fp16_naive_kernel, 140, 150, 70).traffic(),
        "show_one_tile": lambda: matmul.show_one_tile(matmul_fp16_naive_kernel, **TILES),
        "show_order": order_of_tiles,
    },
    "measuring": {
        "show_timeline: two streams": lambda: measuring.show_timeline(two_streams(), "two streams"),
        "show_timeline: one kernel": lambda: measuring.show_timeline(one_kernel()),
        "show_timer": lambda: measuring.show_timer(timing.time_us),
        "show_lies: a right benchmark": lambda: lies(timing.benchmark),
        "show_lies: a wrong benchmark": lambda: lies(a_benchmark),
        "wrong_ways": wrong_ways,
        "show_wrong_times": lambda: measuring.show_wrong_times(timing.time_us),
    },
    "mlp": {
        "mlp_inputs": lambda: mlp.mlp_inputs(3, 5, 16),
        "show_row_owners": lambda: mlp.show_row_owners(gate_up_silu_mul_plain, M=140, N=100, K=32, row=130),
        "show_silu_bytes": lambda: mlp.show_silu_bytes(cost.silu_in_quantizer_bytes, cost.silu_in_epilogue_bytes, 1000, 2000,
                                                       3000),
        "compare_bits": lambda: mlp.compare_bits(gate_up_silu_mul_plain, 16, 64, 96),
        "compare_launches": lambda: mlp.compare_launches(mlp_apart, mlp_int8, **an_mlp(48, 128, 64)),
        "compare_mlps": lambda: mlp.compare_mlps(mlp_apart, mlp_int8, **an_mlp(16, 64, 32)),
        "count_places": lambda: mlp.count_places(128, 256, 64),
    },
    "parallel": {
        "show_columns": lambda: parallel.show_columns(ranks.column_part, N=10, K=6),
        "compare_columns": lambda: on_ranks(lambda: parallel.compare_columns(ranks.column_part, 3, 8, 16)),
        "show_row": lambda: on_ranks(lambda: parallel.show_row(ranks.shared_scale, K=24)),
        "sqnr_db": lambda: parallel.sqnr_db(torch.tensor([1.0, 2.1]), torch.tensor([1.0, 2.0], dtype=torch.float64)),
        "operands": lambda: parallel.operands(3, 5, 16, outlier=30.0),
        "compare_schemes": lambda: on_ranks(lambda: parallel.compare_schemes(
            ranks.row_parallel_shared, ranks.row_parallel_own, 3, 12, 64)),
        "compare_exchanges": lambda: on_ranks(lambda: parallel.compare_exchanges(ranks.all_reduce_int8, 3, 16, 64)),
        "print_exchanges": lambda: parallel.print_exchanges(collectives.shared_scale_bytes),
    },
    "perrow_w8a8": {
        "show_sums: without a kernel": lambda: perrow_w8a8.show_sums(K=40),
        "show_sums: of a kernel": lambda: perrow_w8a8.show_sums(int_mm, 64),
        "show_layouts: recorded": lambda: layouts(True),
        "show_layouts: nothing recorded": lambda: layouts(False),
        "show_layouts: measured": layouts_here,
        "show_error_map": lambda: perrow_w8a8.show_error_map(perrow_w8a8_matmul_plain, M=6, N=9, K=64),
        "count_bytes": lambda: perrow_w8a8.count_bytes(perrow_w8a8_matmul_plain, **GIVEN),
        "show_traffic": lambda: perrow_w8a8.show_traffic(perrow_w8a8_matmul_plain, 64, 256, 128),
    },
    "quantize": {
        "show_rounding_errors": lambda: quantize.show_rounding_errors(truncate_int8_perrow, quantize_int8_perrow_torch),
        "show_scales": lambda: quantize.show_scales(quantize_int8_perrow_torch),
        "show_chunks": lambda: quantize.show_chunks(quantize_int8_perrow_long, K=6000),
    },
    "stack": {
        "small_model": small_model,
        "window_losses": lambda: stack.window_losses(a_model(), ROWS),
        "window_losses: with an INT8 cache": cached_losses,
        "given_back": lambda: stack.given_back(torch.linspace(-1, 2, 12).view(2, 3, 2) ** 3),
        "show_paired": lambda: stack.show_paired(serving.paired_difference, LOSSES,
                                                 LOSSES + torch.tensor([0.1, 0.2, 0.3, 0.5])),
        "show_smoothing": lambda: smoothing(0.5),
        "show_smoothing: little": lambda: smoothing(0.1),
        "int8_product": lambda: stack.int8_product(*(torch.linspace(-1, 2, n * 8).view(n, 8) ** 3 for n in (3, 5))),
        "show_buckets": lambda: stack.show_buckets(serving.graph_bucket),
        "show_buckets: few": lambda: stack.show_buckets(serving.graph_bucket, (2, 6)),
        "show_cache": lambda: stack.show_cache(serving.int8_cache_bytes, 1000),
        "cache_inputs": lambda: stack.cache_inputs((7, 3), heads=4, kv_heads=2, D=8),
        "show_parts": lambda: stack.show_parts(attention_parts_int8, **stack.cache_inputs((70, 10), heads=4, kv_heads=2)),
        "show_formats": lambda: stack.show_formats(schemes.quantize_asymmetric, schemes.clipped_scale),
        "dequantized": lambda: stack.dequantized(torch.tensor([[1, -2], [3, 4]]), torch.tensor([0.5, 2.0])),
        "with_zero": lambda: stack.with_zero(torch.tensor([[1, -2], [3, 4]], dtype=torch.int8), torch.tensor([0.5, 2.0]),
                                             torch.tensor([-100, 100])),
        "clipped": lambda: stack.clipped(torch.linspace(-3, 5, 9), 0.5, 7),
        "show_groups": lambda: stack.show_groups(),
        "show_groups: elsewhere": lambda: stack.show_groups(K=256, outlier=3),
        "compare_groups": lambda: stack.compare_groups(group_w8a8_matmul, 4, 16, 256),
    },
    "transformer": {
        "show_layers": lambda: transformer.show_layers(
            per_row={"blocks.0.q": 40.0, "blocks.0.down": 41.5, "blocks.1.q": 42.0, "lm_head": 43.0},
            per_tensor={"lm_head": 23.0, "blocks.1.q": 22.0, "blocks.0.down": 21.0, "blocks.0.q": 20.0}),
        "sample_rows": lambda: transformer.sample_rows(),
        "show_cost": lambda: on_sample(lambda: transformer.show_cost(a_model(), int8_linear_torch,
                                                                     kernel_transformer.perplexity)),
        "frontier_points": lambda: on_sample(lambda: transformer.frontier_points(a_model(),
                                                                                 kernel_transformer.layers_to_skip)),
        "show_frontier": lambda: on_sample(lambda: transformer.show_frontier(
            a_model(), kernel_transformer.layers_to_skip, kernel_transformer.pareto_front)),
        "show_card: without times": lambda: your_card(None),
        "show_card: with recorded times": lambda: your_card(CARD),
    },
    "tuning": {
        "compile_configs": compile_jobs,
        "report_configs": configs_reported,
        "show_resources": lambda: tuning.show_resources(stage_bytes, accumulator_registers, REPORTS),
        "show_buckets": lambda: tuning.show_buckets(bucket_m, torch.tensor([3, 4, 5, 7, 8, 8, 8, 100, 8200, 9000])),
    },
}
for _module, _cases in picture_cases_of_figures.CASES.items():
    CASES.setdefault(_module, {}).update(_cases)

