"""Decode, fusions and Int8Linear on a GPU: right with every config, and at sizes CI has no time for? And how fast?

    python tests/gpu_report_decode.py [--only right model speed] --out DIR

prints what was wanted and what was reached, and writes the same to DIR/decode.json. Exits with 1 if anything is wrong.

Speed: CUDA graphs of 64 calls or more, weights rotated through at least 200 MB so that each call finds them in memory
and not in the cache, medians, the two sides of every ratio taken in turn.
"""

import argparse
import json
import math
import statistics
import sys
import traceback
from pathlib import Path

import test_decode
import test_fused
import test_gemv_int8
import torch

import kernels  # noqa: F401  (first of ours: it decides whether Triton interprets)
from kernels.decode import GEMV_BLOCKS, TILES, decode_w8a8, gemv_with, matmul_with
from kernels.fused import rmsnorm_quantize_int8, silu_mul_quantize_int8
from kernels.gemv import gemv_fp16
from kernels.gemv_int8 import gemv_w8a16, gemv_w8a16_row
from kernels.linear import Int8Linear, quantize_linears_
from kernels.matmul_int8 import matmul_int8
from kernels.quantize import quantize_int8_perrow

SHAPES = [(4096, 4096), (22016, 2048), (2048, 11008)]  # (N, K)


# ---- right


def definition(x, w_q, w_scale):
    """Codes, sums and scales of the definition, none of them from our kernels; exact, for float64 holds the sums."""
    wide = x.float()
    amax = wide.abs().amax(1, keepdim=True)
    scale = torch.where(amax.isfinite(), amax / torch.full_like(amax, 127), torch.nan)
    codes = torch.where(scale > 0, wide / scale, 0).round().clamp(-127, 127)
    return ((codes.double() @ w_q.double().T).float() * scale * w_scale).to(x.dtype)


def decode_of_every_config():
    fp16, bf16 = torch.float16, torch.bfloat16
    for M, N, K, dtype in [(2, 129, 127, fp16), (16, 257, 1000, bf16), (17, 4096, 4096, fp16), (33, 1000, 2049, bf16),
                           (64, 4100, 4112, fp16), (128, 300, 2064, bf16)]:
        x, w_q, w_scale = test_decode.inputs(M, N, K, dtype)
        with_special_rows(x)
        want = definition(x, w_q, w_scale)
        for tile in TILES.values():
            for splits in (1, 2, 7):
                test_decode.assert_equal(matmul_with(tile, splits, x, w_q, w_scale), want)
        test_decode.assert_equal(decode_w8a8(x, w_q, w_scale), want)
        for blocks in GEMV_BLOCKS.values():
            for m in range(min(M, 7)):
                test_decode.assert_equal(gemv_with(blocks, x[m:m + 1], w_q, w_scale), want[m:m + 1])


def with_special_rows(x):
    """Zeros, subnormal numbers, an outlier, a NaN, an infinity, as far as x has rows."""
    for m, change in enumerate((lambda row: row.zero_(), lambda row: row.mul_(1e-6), lambda row: row[:1].fill_(6e4),
                                lambda row: row[-1:].fill_(math.nan), lambda row: row[:1].fill_(-math.inf))):
        if m + 1 < x.shape[0]:
            change(x[m + 1])


def decode_of_the_measured_shapes():
    for N, K in SHAPES:
        for M in (1, 2, 16, 17, 32, 33, 64, 65, 128):
            x, w_q, w_scale = test_decode.inputs(M, N, K)
            want = definition(x, w_q, w_scale)
            for _ in range(3):
                test_decode.assert_equal(decode_w8a8(x, w_q, w_scale), want)


def decode_beyond_32_bit_offsets():
    K, N = 131_072, 16_500  # the longest sum, and 2.16e9 weights
    w_q = torch.randint(-127, 128, (N, K), dtype=torch.int8, device="cuda")
    x, w_scale = torch.randn(16, K, device="cuda").half(), torch.rand(N, device="cuda") * 1e-3
    rows = slice(N - 200, N)
    for M in (1, 16):
        test_decode.assert_equal(decode_w8a8(x[:M], w_q, w_scale)[:, rows], definition(x[:M], w_q[rows], w_scale[rows]))
    y = gemv_w8a16(x[0], w_q, w_scale)[rows]
    assert torch.equal(y, gemv_w8a16(x[0], w_q[rows], w_scale[rows]))
    test_gemv_int8.assert_right(gemv_w8a16, x[0], w_q[rows], w_scale[rows])


def decode_sees_what_kernels_just_before_it_wrote():
    """Launches overlap: x and w come from the kernels before, and what they held earlier must not be read."""
    sources = [test_decode.inputs(3, 4096, 4096, seed=seed) for seed in range(4)]
    for rows in (1, 3):
        wants = [definition(x[:rows], w_q, w_scale) for x, w_q, w_scale in sources]
        x, w_q, w_scale = (torch.zeros_like(t) for t in sources[0])
        x = x[:rows]

        def steps(x=x, w_q=w_q, w_scale=w_scale, rows=rows):
            outputs = []
            for source_x, source_q, source_scale in sources:
                x.copy_(source_x[:rows])
                w_scale.copy_(source_scale)
                w_q.copy_(source_q)
                outputs.append(decode_w8a8(x, w_q, w_scale))
                outputs.append(decode_w8a8(outputs[-1], w_q, w_scale))
            return outputs

        steps()
        graph, captured = capture(steps)
        for _ in range(20):
            for outputs in (steps(), (graph.replay(), captured)[1]):
                for y, want in zip(outputs[::2], wants, strict=True):
                    test_decode.assert_equal(y, want)
                for y, first, (_, q, s) in zip(outputs[1::2], outputs[::2], sources, strict=True):
                    test_decode.assert_equal(y, definition(first, q, s))


def gemv_and_fusions():
    for N, K in [*SHAPES, (1000, 2047)]:
        for kernel in (gemv_w8a16, gemv_w8a16_row):
            test_gemv_int8.assert_right(kernel, *test_gemv_int8.inputs(N, K))
    for M, K in [(1, 4096), (333, 2048), (64, 5120), (1000, 11008), (7, 16384), (7, 53248), (16384, 2048)]:
        for dtype in test_fused.DTYPES:
            x, y = test_fused.rows(M, K, dtype), test_fused.rows(M, K, dtype, seed=1)
            test_fused.check_rmsnorm(x, y[0])
            test_fused.check_silu_mul(x, y)


# ---- model


class Block(torch.nn.Module):
    """A transformer block as Llama has it, without positions."""

    def __init__(self, width=2048, heads=16, hidden=5632):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = torch.nn.RMSNorm(width, eps=1e-5), torch.nn.RMSNorm(width, eps=1e-5)
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.gate_up = torch.nn.Linear(width, 2 * hidden, bias=False)
        self.down = torch.nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm_1(x)).chunk(3, -1))
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norm_2(x)).chunk(2, -1)
        return x + self.down(torch.nn.functional.silu(gate) * up)


@torch.no_grad()
def transformer_block():
    """Replaced linears: eager, compiled whole and replayed from a CUDA graph.

    A graph must give eager's bits. The compiler may round between the linears elsewhere, which moves a code here and
    there by one: less than quantization itself moved all of them.
    """
    torch.manual_seed(0)
    block = Block().cuda().half().eval()
    inputs = [torch.randn(2, tokens, 2048, device="cuda").half() for tokens in (1, 8, 17, 100)]
    wants = [block(x) for x in inputs]
    quantize_linears_(block)
    assert sum(isinstance(m, Int8Linear) for m in block.modules()) == 4
    compiled = torch.compile(block, fullgraph=True)
    errors = []
    for x, want in zip(inputs, wants, strict=True):
        y = block(x)
        quantization, compilation = relative(y, want), relative(compiled(x), y)
        assert compilation < quantization < math.sqrt(4) * EXPECTED_PER_LINEAR, (quantization, compilation)
        errors.append(quantization)
        for model in (block, compiled):
            expected = model(x)
            graph, captured = capture(lambda model=model, x=x: model(x))
            captured.zero_()
            graph.replay()
            assert torch.equal(captured, expected)
    return "relative error against FP16 " + ", ".join(f"{e:.4f}" for e in errors)


# Rounding to codes adds uniform noise of a scale / √12. For K normal numbers amax is near 4 standard deviations, so
# that is 4 / (127 √12) = 0.9 % of them, from x and from w independently: √2 · 0.9 % of each linear's output.
EXPECTED_PER_LINEAR = math.sqrt(2) * 4 / (127 * math.sqrt(12))


@torch.no_grad()
def llama_of_transformers():
    """A random Llama keeps its ranking of next tokens, but for pairs closer than six standard deviations of the error.

    Each of its layers adds the noise of at most five linears in a row to the residual, and the head one more; noise of
    independent linears adds up in squares.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    layers = 4
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=4000, hidden_size=512, intermediate_size=1376, num_hidden_layers=layers, num_attention_heads=8,
        num_key_value_heads=8)).cuda().half().eval()
    tokens = torch.randint(0, 4000, (4, 32), device="cuda")
    want = model(tokens).logits[:, -1].double()
    quantize_linears_(model)
    assert not any(type(m) is torch.nn.Linear for m in model.modules())
    got = model(tokens).logits[:, -1].double()
    expected = math.sqrt(5 * layers + 1) * EXPECTED_PER_LINEAR
    error = relative(got, want)
    assert error < expected, (error, expected)
    for a, b in zip(got, want, strict=True):
        apart = b[:, None] - b > 6 * math.sqrt(2) * expected * b.std()
        assert (a[:, None] > a)[apart].all()
    same = (got.argmax(1) == want.argmax(1)).sum().item()
    return f"relative error {error:.4f} (expected below {expected:.4f}); same first token for {same} of {len(got)}"


def relative(y, want):
    return ((y.double() - want.double()).norm() / want.double().norm()).item()


# ---- speed


def capture(call):
    """A CUDA graph of call, warmed up, and what the captured call returned."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    return graph, result


def medians_us(calls, copies, repeats=21):
    """Median microseconds of each call(i), i running over the copies of its operands, in graphs replayed in turn."""
    count = copies * math.ceil(64 / copies)

    def all_of(call):
        for i in range(count):
            call(i % copies)  # what it returns is freed, and its memory used again, as in a model

    graphs = [capture(lambda call=call: all_of(call))[0] for call in calls]
    times = [[] for _ in calls]
    for repeat in range(repeats + 2):
        for graph, spent in zip(graphs, times, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            if repeat >= 2:
                spent.append(start.elapsed_time(end) * 1e3 / count)
    return [statistics.median(spent) for spent in times]


class Weights:
    """As many (N, K) weights as 200 MB hold in INT8, and FP16 weights of the same shape."""

    def __init__(self, N, K):
        self.copies = max(4, math.ceil(2e8 / (N * K)))
        self.int8 = [torch.randint(-127, 128, (N, K), device="cuda", dtype=torch.int8) for _ in range(self.copies)]
        self.fp16 = [torch.randn(N, K, device="cuda").half() for _ in range(self.copies)]
        self.scale = torch.rand(N, device="cuda") * 1e-3


def speed_of_gemv_and_decode(table):
    for N, K in SHAPES:
        w = Weights(N, K)
        speed_of_gemv(table, w, N, K)
        for M in (1, 16):
            speed_of_decode(table, w, M, N, K)
        times = [speed_of_bucket(table, w, M, N, K) for M in (1, 16, 17, 32, 33, 64, 65, 128)]
        steps = [after / before for before, after in zip(times, times[1:], strict=False)]
        table.say(f"matmul_int8 ({N}, {K}), time over that of the one before: " + ", ".join(f"{s:.2f}" for s in steps))


def speed_of_gemv(table, w, N, K):
    x = torch.randn(1, K, device="cuda").half()
    cublas, fp16, w8a16 = medians_us([
        lambda i: x @ w.fp16[i].T, lambda i: gemv_fp16(x[0], w.fp16[i]), lambda i: gemv_w8a16(x[0], w.int8[i], w.scale),
    ], w.copies)
    table.add(f"FP16 GEMV over cuBLAS, ({N}, {K})", "1.00, then 1.15", cublas, fp16)
    table.add(f"W8A16 GEMV over cuBLAS FP16, ({N}, {K})", "", cublas, w8a16)


def speed_of_decode(table, w, M, N, K):
    x = torch.randn(M, K, device="cuda").half()
    copy = torch.empty_like(x)
    cublas, int8, cublas_apart, int8_apart, apart = medians_us([
        lambda i: x @ w.fp16[i].T, lambda i: decode_w8a8(x, w.int8[i], w.scale),
        lambda i: (copy.copy_(x), copy @ w.fp16[i].T), lambda i: (copy.copy_(x), decode_w8a8(copy, w.int8[i], w.scale)),
        lambda i: copy.copy_(x),
    ], w.copies)
    table.add(f"INT8 decode over cuBLAS FP16, M = {M}, ({N}, {K})", "1.60, then 2.00", cublas, int8)
    # Launches that overlap need a decode kernel before them to overlap with; here there is none.
    table.add("    the same, each after a copy of x", "", cublas_apart - apart, int8_apart - apart)


def speed_of_bucket(table, w, M, N, K):
    x = torch.randn(M, K, device="cuda").half()
    cublas, decode, int8 = medians_us([lambda i: x @ w.fp16[i].T, lambda i: decode_w8a8(x, w.int8[i], w.scale),
                                       lambda i: matmul_int8(x, w.int8[i], w.scale)], w.copies)
    table.add(f"bucket: decode_w8a8 over cuBLAS FP16, M = {M}, ({N}, {K})", "", cublas, decode)
    table.add(f"bucket: matmul_int8 over cuBLAS FP16, M = {M}, ({N}, {K})", "", cublas, int8)
    return int8


def speed_of_fusions(table):
    for K in (2048, 4096):
        speed_of_rmsnorm(table, 16384, K)
    speed_of_silu_mul(table, 16384, 5632)


def speed_of_rmsnorm(table, M, K):
    norm = torch.compile(lambda x, weight: torch.nn.functional.rms_norm(x, x.shape[-1:], weight, 1e-6))
    x, weight = torch.randn(M, K, device="cuda").half(), torch.randn(K, device="cuda").half()
    apart, fused = medians_us([
        lambda i: quantize_int8_perrow(norm(x, weight)), lambda i: rmsnorm_quantize_int8(x, weight)], 1, repeats=9)
    table.add(f"RMSNorm + quantization, fused over apart, ({M}, {K})", "1.50, then 2.00", apart, fused)


def speed_of_silu_mul(table, M, K):
    silu_mul = torch.compile(lambda gate, up: torch.nn.functional.silu(gate) * up)
    gate, up = (torch.randn(M, K, device="cuda").half() for _ in range(2))
    apart, fused = medians_us([
        lambda i: quantize_int8_perrow(silu_mul(gate, up)), lambda i: silu_mul_quantize_int8(gate, up)], 1, repeats=9)
    table.add(f"SiLU·mul + quantization, fused over apart, ({M}, {K})", "", apart, fused)


class Table:
    """What was wanted and what was reached, said and kept."""

    def __init__(self):
        self.rows = []

    def add(self, what, wanted, reference_us, ours_us):
        ratio = reference_us / ours_us
        self.rows.append({"what": what, "wanted": wanted, "ratio": ratio, "reference_us": reference_us,
                          "ours_us": ours_us})
        self.say(f"{what:58} {ratio:5.2f}x  {reference_us:8.2f} / {ours_us:8.2f} µs   {wanted}")

    @staticmethod
    def say(line):
        print(line, flush=True)


RIGHT = [decode_of_every_config, decode_of_the_measured_shapes, decode_beyond_32_bit_offsets,
         decode_sees_what_kernels_just_before_it_wrote, gemv_and_fusions]
MODEL = [transformer_block, llama_of_transformers]
SPEED = [speed_of_gemv_and_decode, speed_of_fusions]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["right", "model", "speed"], default=["right", "model", "speed"])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    report = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "right": {}}
    for group, checks in (("right", RIGHT), ("model", MODEL)):
        for check in checks if group in arguments.only else []:
            # Memory that nothing wrote holds NaN, or the largest integer, while results are checked.
            torch.use_deterministic_algorithms(group == "right", warn_only=True)
            try:
                report["right"][check.__name__] = check() or "right"
            except Exception:
                report["right"][check.__name__] = "WRONG: " + traceback.format_exc(limit=-3)
            print(f"{check.__name__}: {report['right'][check.__name__]}", flush=True)
    torch.use_deterministic_algorithms(False)
    table = Table()
    for measure in SPEED if "speed" in arguments.only else []:
        measure(table)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "decode.json").write_text(json.dumps(report | {"speed": table.rows}, indent=1) + "\n")
    return any(result.startswith("WRONG") for result in report["right"].values())


if __name__ == "__main__":
    sys.exit(main())
