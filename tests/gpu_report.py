"""Checks the prefill kernels on a GPU, every configuration of them, then times them.

    python tests/gpu_report.py [--only fp16 int8 quantize limits speed] --out DIR

Checks compare with float64 sums, exact for the whole numbers used. Times are medians of device events, the two sides of
each ratio interleaved in one run, the L2 cache flushed before each launch.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kernels import matmul, perrow_w8a8  # noqa: E402
from kernels.int_mm import MAX_K  # noqa: E402
from kernels.matmul_int8 import matmul_int8  # noqa: E402
from kernels.quantize import quantize_int8_perrow  # noqa: E402
from kernels.runtime import capability  # noqa: E402
from kernels.tuning import descriptor_ready, has_hopper_gemm, has_tma, shared_bytes, tiles  # noqa: E402

RAGGED = [(1, 8, 16), (127, 129, 65), (128, 128, 128), (129, 136, 272), (300, 264, 2064), (65, 2048, 2048),
          (1000, 1000, 1000), (70, 72, 11008)]
PREFILL = [(2048, 2048), (2048, 6144), (2048, 22016), (11008, 2048)]  # (K, N), all with M = 16384
HOPPER = {torch.int8: [tiles(128, 128, 128, GROUP_M=g, num_warps=4, num_stages=s) for g, s in ((12, 5), (3, 4))],
          torch.float16: [tiles(128, n, 64, GROUP_M=g, num_warps=4, num_stages=s)
                          for n, g, s in ((256, 8, 3), (256, 3, 2), (128, 8, 5))]}


def fitting(configs, dtype):
    limit = torch.cuda.get_device_properties(0).shared_memory_per_block_optin
    return [config for config in configs if shared_bytes(config, dtype) <= limit]


def named(configs):
    return {" ".join(map(str, (*c.kwargs.values(), c.num_warps, c.num_stages))): c for c in configs}


def fp16_variants():
    """name -> (function of x and w, whether it needs rows on multiples of 16 bytes)."""
    found = {"naive": (matmul.matmul_fp16_naive, False), "grouped": (matmul.matmul_fp16_grouped, False),
             "matmul_fp16": (matmul.matmul_fp16, False)}
    for name, c in named(fitting(matmul.GROUPED_CONFIGS, torch.float16)).items():
        found["grouped " + name] = (lambda x, w, c=c: matmul.matmul_fp16_grouped(x, w, config=c), False)
    for name, c in named(fitting(matmul.TMA_CONFIGS, torch.float16)).items() if has_tma() else ():
        found["TMA " + name] = (lambda x, w, c=c: matmul.matmul_fp16(x, w, config=c), True)
    for name, c in named(HOPPER[torch.float16]).items() if has_hopper_gemm() else ():
        found["Hopper " + name] = (lambda x, w, c=c: hopper(x, w, torch.float16, config=c), True)
    return found


def int8_variants():
    found = {"plain": (perrow_w8a8.perrow_w8a8_matmul_plain, False),
             "grouped": (perrow_w8a8.perrow_w8a8_matmul_grouped, False),
             "perrow_w8a8_matmul": (perrow_w8a8.perrow_w8a8_matmul, False)}
    for name, c in named(fitting(perrow_w8a8.GROUPED_CONFIGS, torch.int8)).items():
        found["grouped " + name] = (lambda *a, c=c: perrow_w8a8.perrow_w8a8_matmul_grouped(*a, config=c), False)
    for name, c in named(fitting(perrow_w8a8.TMA_CONFIGS, torch.int8)).items() if has_tma() else ():
        found["TMA " + name] = (lambda *a, c=c: perrow_w8a8.perrow_w8a8_matmul(*a, config=c), True)
    for name, c in named(HOPPER[torch.int8]).items() if has_hopper_gemm() else ():
        found["Hopper " + name] = (lambda x, x_scale, w, w_scale, bias=None, out_dtype=torch.float16, c=c: hopper(
            x, w, out_dtype, x_scale, w_scale, bias, c), True)
    return found


def hopper(x, w, out_dtype, x_scale=None, w_scale=None, bias=None, config=None):
    from kernels.hopper_gemm import hopper_gemm

    y = torch.full((x.shape[0], w.shape[0]), float("nan"), dtype=out_dtype, device="cuda")
    return hopper_gemm(x, w, y, x_scale, w_scale, bias, config)


def codes(M, K):
    return torch.randint(-127, 128, (M, K), dtype=torch.int8, device="cuda")


def scaled(x_q, x_scale, w_q, w_scale, bias=None, out_dtype=torch.float16):
    """The definition: exact sums, both scales and the bias in FP32, one rounding."""
    y = (x_q.double() @ w_q.double().T).float() * x_scale[:, None] * w_scale
    return (y if bias is None else y + bias.float()).to(out_dtype)


class Checks:
    def __init__(self):
        self.passed, self.failures = 0, []

    def expect(self, ok, what):
        if bool(ok):
            self.passed += 1
        else:
            self.failures.append(what)
            print("WRONG:", what, flush=True)


def aligned(K, N, itemsize):
    return K * itemsize % 16 == 0 and N * 2 % 16 == 0


def check_fp16(checks):
    for M, N, K in RAGGED:
        x, w = (torch.randint(-4, 5, (rows, K), device="cuda").half() for rows in (M, N))
        want = (x.double() @ w.double().T).half()
        for name, (run, needs_alignment) in fp16_variants().items():
            if not needs_alignment or aligned(K, N, 2):
                checks.expect(torch.equal(run(x, w), want), f"FP16 {name} at {(M, N, K)}")
    x, w = torch.randn(300, 4096, device="cuda").half(), torch.randn(264, 4096, device="cuda").half()
    want, sums = x.double() @ w.double().T, x.double().abs() @ w.double().abs().T
    bound = 4096 * 2**-24 * sums + 2**-11 * want.abs()  # FP32 sums of K terms, one rounding to FP16
    for name, (run, _) in fp16_variants().items():
        checks.expect(((run(x, w).double() - want).abs() <= bound).all(), f"FP16 {name}, normal numbers")


def check_int8(checks):
    for M, N, K in RAGGED:
        x, w = codes(M, K), codes(N, K)
        sx, sw = (torch.rand(rows, device="cuda") / 500 for rows in (M, N))
        sx[M // 2] = float("nan")
        sw[N // 3] = 0
        bias = torch.randn(N, device="cuda").half()
        for name, (run, needs_alignment) in int8_variants().items():
            if needs_alignment and not aligned(K, N, 1):
                continue
            where = f"INT8 {name} at {(M, N, K)}"
            y, want = run(x, sx, w, sw), scaled(x, sx, w, sw)
            checks.expect(torch.equal(y.nan_to_num(7), want.nan_to_num(7)), where)
            if (M, N, K) not in RAGGED[3:5]:
                continue
            # Conversion, two products and the sum err by 2⁻²⁴ of the larger term each, the rounding to FP16 by 2⁻¹¹.
            product = (x.double() @ w.double().T) * sx.double()[:, None] * sw.double()
            want, y = product + bias.double(), run(x, sx, w, sw, bias).double()
            bound = 2**-11 * want.abs() + 4 * 2**-24 * (product.abs() + bias.double().abs()) + 2**-25
            checks.expect((((y - want).abs() <= bound) | (y.isnan() & want.isnan())).all(), where + " with bias")
            y, want = run(x, sx, w, sw, None, torch.bfloat16), scaled(x, sx, w, sw, None, torch.bfloat16)
            checks.expect(torch.equal(y.nan_to_num(7), want.nan_to_num(7)), where + " to BF16")


def check_quantize(checks):
    for dtype in (torch.float16, torch.bfloat16):
        for M, K in [(1, 1), (3, 127), (5, 1024), (4, 2049), (7, 4096), (9, 5000), (3, 11008), (2, 16384), (2, 131072)]:
            x = torch.randn(M, K, device="cuda").to(dtype)
            x[0] = 0 if M > 2 else x[0]
            x[1 % M] *= 3e-6
            if M > 4:
                x[2, K // 2], x[3, 0], x[4, -1] = 6e4, float("nan"), float("inf")
            check_codes(checks, x, f"quantize {dtype} {(M, K)}")
            check_codes(checks, torch.cat([x, x], 1)[:, 1:K + 1], f"quantize {dtype} {(M, K)}, a misaligned view")
        # Every number x with every amax ≥ |x|: row i holds all numbers up to the i-th.
        top = 0x7C00 if dtype is torch.float16 else 0x7F80
        numbers = torch.arange(top, dtype=torch.int16, device="cuda").view(dtype)
        for first in range(0, top, 1024):
            amax = numbers[first:first + 1024, None].float()
            check_codes(checks, torch.minimum(numbers.float()[None], amax).to(dtype), f"every {dtype} from {first}")


def check_codes(checks, x, what):
    wide = x.float()
    amax = wide.abs().amax(1)
    scale = torch.where(amax.isfinite(), torch.div(amax, torch.full_like(amax, 127)), torch.nan)
    quotient = torch.div(wide, scale[:, None].expand(wide.shape))  # a tensor: torch multiplies by 1 / a number
    want = torch.where(scale[:, None] > 0, quotient.round().clamp(-127, 127), 0).to(torch.int8)
    q, s = quantize_int8_perrow(x)
    checks.expect(torch.equal(s.nan_to_num(-1), scale.nan_to_num(-1)) and torch.equal(q, want), what)


def check_limits(checks):
    """Longest rows; inputs and outputs beyond 2³¹ elements."""
    for K in (131072, MAX_K):
        x, w = torch.full((65, K), 127, dtype=torch.int8, device="cuda"), codes(72, K)
        w[0], w[1] = 127, -127
        sx, sw = torch.full((65,), 2.0**-9, device="cuda"), torch.full((72,), 2.0**-9, device="cuda")
        for name, (run, needs_alignment) in int8_variants().items():
            if not needs_alignment or aligned(K, 72, 1):
                checks.expect(torch.equal(run(x, sx, w, sw), scaled(x, sx, w, sw)), f"INT8 {name}, K = {K}")
    for M, N, K in [(6 * 16384, 22016, 64), (140032, 64, 16384)]:
        x, w = codes(M, K), codes(N, K)
        sx, sw = torch.rand(M, device="cuda") / 500, torch.rand(N, device="cuda") / 500
        xh, wh = x.half(), w.half() / 64
        for name, (run, _) in int8_variants().items():
            y = run(x, sx, w, sw)
            parts = range(0, M, 8192)
            same = [torch.equal(y[m:m + 8192], scaled(x[m:m + 8192], sx[m:m + 8192], w, sw)) for m in parts]
            checks.expect(all(same), f"INT8 {name} at {(M, N, K)}")
            del y
        for name, (run, _) in fp16_variants().items():
            y = run(xh, wh)
            for m in (0, M - 8192):  # where the offsets are smallest and largest
                part = xh[m:m + 8192].double()
                want, sums = part @ wh.double().T, part.abs() @ wh.double().abs().T
                bound = K * 2**-24 * sums + 2**-11 * want.abs() + 2**-25
                close = ((y[m:m + 8192].double() - want).abs() <= bound).all()
                checks.expect(close, f"FP16 {name} at {(M, N, K)}, rows from {m}")
            del y
        del x, xh
        torch.cuda.empty_cache()
    x = torch.randn(140032, 16384, device="cuda", dtype=torch.float16)
    q, s = quantize_int8_perrow(x)
    tail_q, tail_s = quantize_int8_perrow(x[-9:].clone())
    checks.expect(torch.equal(q[-9:], tail_q) and torch.equal(s[-9:], tail_s), "quantize past 2³¹ elements")
    x = torch.randn(2, 5, 33, 2048, device="cuda").half()
    w_q, w_scale = quantize_int8_perrow(torch.randn(512, 2048, device="cuda").half())
    for M in (1, 16, 17, 32, 33, 64, 65, 128, 330):
        rows = x.reshape(-1, 2048)[:M]
        want = scaled(*quantize_int8_perrow(rows), w_q, w_scale)
        checks.expect(torch.equal(matmul_int8(rows, w_q, w_scale), want), f"matmul_int8, M = {M}")
    checks.expect(torch.equal(matmul_int8(x, w_q, w_scale).reshape(-1, 512), want), "matmul_int8, leading dimensions")


def interleaved(functions, rounds=25):
    """name -> median microseconds of each function, all launched in turn in every round, L2 flushed before each."""
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    events = {name: [] for name in functions}
    for run in functions.values():
        run()
    torch.cuda.synchronize()
    for _ in range(rounds):
        torch.cuda._sleep(400_000 * len(functions))  # the host gets ahead, so that no launch waits for it
        for name, run in functions.items():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            flush.zero_()
            start.record()
            run()
            end.record()
            events[name].append((start, end))
        torch.cuda.synchronize()
    return {name: sorted(a.elapsed_time(b) * 1e3 for a, b in pairs)[rounds // 2] for name, pairs in events.items()}


def speed(rows):
    wanted, aim = (1.3, 1.6, 1.6, 1.5), (1.5, 1.85, 1.85, 1.6)
    for place, (K, N) in enumerate(PREFILL):
        speed_prefill(rows, 16384, N, K, wanted[place], aim[place])
    for dtype in (torch.float16, torch.bfloat16):
        for K in (2048, 4096, 5120, 11008):
            speed_quantize(rows, 16384, K, dtype)
    for K, N in [*PREFILL, (4096, 4096)]:
        for M in (65, 128, 512, 2048):
            speed_few_rows(rows, M, N, K)


def speed_prefill(rows, M, N, K, full_wanted, full_aim):
    x, w = torch.randn(M, K, device="cuda").half(), torch.randn(N, K, device="cuda").half()
    (x_q, x_scale), (w_q, w_scale) = quantize_int8_perrow(x), quantize_int8_perrow(w)
    quantized = (x_q, x_scale, w_q, w_scale)
    y = torch.empty(M, N, device="cuda", dtype=torch.float16)
    functions = {
        "cuBLAS FP16": lambda: torch.mm(x, w.t(), out=y),
        "matmul_fp16_naive": lambda: matmul.matmul_fp16_naive(x, w),
        "matmul_fp16_grouped": lambda: matmul.matmul_fp16_grouped(x, w),
        "matmul_fp16": lambda: matmul.matmul_fp16(x, w),
        "perrow_w8a8_matmul_plain": lambda: perrow_w8a8.perrow_w8a8_matmul_plain(*quantized),
        "perrow_w8a8_matmul_grouped": lambda: perrow_w8a8.perrow_w8a8_matmul_grouped(*quantized),
        "perrow_w8a8_matmul": lambda: perrow_w8a8.perrow_w8a8_matmul(*quantized),
        "matmul_int8": lambda: matmul_int8(x, w_q, w_scale),
    }
    if descriptor_ready(x, w) and has_tma():
        fp16, int8 = matmul.TMA_CONFIGS[0], perrow_w8a8.TMA_CONFIGS[0]
        functions["matmul_fp16, TMA"] = lambda: matmul.matmul_fp16(x, w, config=fp16)
        functions["perrow_w8a8_matmul, TMA"] = lambda: perrow_w8a8.perrow_w8a8_matmul(*quantized, config=int8)
    if (capability() or (0, 0)) >= (8, 9):
        x8, w8 = x.to(torch.float8_e4m3fn), w.to(torch.float8_e4m3fn).t()
        ones = torch.ones(M, 1, device="cuda"), torch.ones(1, N, device="cuda")
        functions["torch._scaled_mm FP8"] = lambda: torch._scaled_mm(x8, w8, *ones, out_dtype=torch.bfloat16)
    us = interleaved(functions)
    where = f"M={M} K={K} N={N}"
    for name in us:
        add(rows, f"{name}, {where}", us[name], tflops=2 * M * N * K / us[name] / 1e6)
    for what, ours, theirs, wanted, aim in [
        ("INT8 GEMM over cuBLAS FP16", "perrow_w8a8_matmul", "cuBLAS FP16", 1.6, 1.9),
        ("INT8 GEMM over torch._scaled_mm FP8", "perrow_w8a8_matmul", "torch._scaled_mm FP8", 0.85, 1.0),
        ("matmul_int8 over cuBLAS FP16", "matmul_int8", "cuBLAS FP16", full_wanted, full_aim),
        ("FP16 GEMM over cuBLAS FP16", "matmul_fp16", "cuBLAS FP16", 0.93, 1.0),
    ]:
        if theirs in us:
            add(rows, f"{what}, {where}", reached=us[theirs] / us[ours], wanted=wanted, aim=aim)


def speed_quantize(rows, M, K, dtype):
    x = torch.randn(M, K, device="cuda").to(dtype)
    moved = 3 * M * K + 4 * M  # x in, codes and scales out
    source = torch.randint(-9, 9, (moved // 2,), dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    us = interleaved({"copy": lambda: target.copy_(source), "quantize": lambda: quantize_int8_perrow(x)})
    add(rows, f"quantization over a copy, {str(dtype)[6:]} M={M} K={K}", us["quantize"],
        gb_per_s=moved / us["quantize"] / 1e3, reached=us["copy"] / us["quantize"], wanted=0.95, aim=1.0)


def speed_few_rows(rows, M, N, K):
    x, w = torch.randn(M, K, device="cuda").half(), torch.randn(N, K, device="cuda").half()
    w_q, w_scale = quantize_int8_perrow(w)
    us = interleaved({"cuBLAS": lambda: x @ w.T, "matmul_int8": lambda: matmul_int8(x, w_q, w_scale),
                      "matmul_fp16": lambda: matmul.matmul_fp16(x, w)}, rounds=15)
    for name in ("matmul_int8", "matmul_fp16"):
        add(rows, f"{name} over cuBLAS FP16, M={M} K={K} N={N}", us[name], reached=us["cuBLAS"] / us[name])


def add(rows, what, us=None, **values):
    rows.append({"what": what, "us": us, **values})


def table(rows):
    for row in rows:
        wanted = f"{row['wanted']:.2f}, go for {row['aim']:.2f}" if "wanted" in row else ""
        reached = f"{row['reached']:.2f}" if "reached" in row else ""
        verdict = ("" if "wanted" not in row else "aim" if row["reached"] >= row["aim"]
                   else "reached" if row["reached"] >= row["wanted"] else "MISSED")
        us = f"{row['us']:.1f} µs" if row["us"] else ""
        rate = (f"{row['tflops']:.0f} TFLOPS" if "tflops" in row
                else f"{row['gb_per_s']:.0f} GB/s" if "gb_per_s" in row else "")
        print(f"{row['what']:62s} {us:>11s} {rate:>12s} {reached:>6s} {verdict:8s} {wanted}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"fp16": check_fp16, "int8": check_int8, "quantize": check_quantize, "limits": check_limits}
    parser.add_argument("--only", nargs="+", choices=[*parts, "speed"], default=[*parts, "speed"])
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu_report.json")
    options = parser.parse_args()
    torch.manual_seed(0)
    checks, rows = Checks(), []
    for name in options.only:
        if name != "speed":
            began, before = time.perf_counter(), checks.passed
            parts[name](checks)
            torch.cuda.synchronize()
            print(f"{name}: {checks.passed - before} checks right in {time.perf_counter() - began:.1f} s", flush=True)
    if "speed" in options.only:
        speed(rows)
        table(rows)
    report = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "passed": checks.passed,
              "failures": checks.failures, "rows": rows}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu_report.json").write_text(json.dumps(report, indent=1) + "\n")
    return 1 if checks.failures else 0


if __name__ == "__main__":
    sys.exit(main())
