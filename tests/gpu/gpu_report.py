"""Is every kernel right on a GPU, in every configuration, and at sizes that CI has no time for?

    python tests/gpu/gpu_report.py [--only fp16 int8 quantize decode fused lessons limits model] [--small] --out DIR

Compares with float64 sums, exact for the whole numbers used, and with the definition's codes. Memory that nothing wrote
holds NaN, or the largest integer. Writes DIR/right.json; exits with 1 if anything is wrong. `--small` takes small shapes
of the same, for tools that watch every access:

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 9 python tests/gpu/gpu_report.py --small --out DIR
"""

import argparse
import json
import sys
import time
import traceback
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = map(str, (HERE.parents[1], HERE, HERE.parent / "kernels"))

from kernels import matmul, perrow_w8a8  # noqa: E402
from kernels.configs import shared_bytes, tiles  # noqa: E402
from kernels.int_mm import MAX_K, int_mm  # noqa: E402
from kernels.matmul_int8 import matmul_int8  # noqa: E402
from kernels.quantize import quantize_int8_perrow, quantize_int8_perrow_long, quantize_int8_perrow_plain  # noqa: E402
from kernels.runtime import INTERPRETED, triton  # noqa: E402
from kernels.tuning import has_hopper_gemm, has_tma  # noqa: E402

SMALL = [(1, 8, 16), (127, 129, 65), (129, 136, 272), (300, 264, 528)]  # (M, N, K)
RAGGED = [*SMALL, (128, 128, 128), (300, 264, 2064), (65, 2048, 2048), (1000, 1000, 1000), (70, 72, 11008)]
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
    """Counts what is right, and keeps what is wrong. `small`: whether to take small shapes."""

    def __init__(self, small=False):
        self.passed, self.failures, self.small, self.found = 0, [], small, {}

    def expect(self, ok, what):
        if bool(ok):
            self.passed += 1
        else:
            self.failures.append(what)
            print("WRONG:", what, flush=True)

    def attempt(self, what, check, *arguments):
        """Run a check that raises where something is wrong; what it gives is kept."""
        try:
            found = check(*arguments)
        except Exception:
            self.expect(False, f"{what}: {traceback.format_exc(limit=-3)}")
        else:
            self.expect(True, what)
            if found is not None:
                self.found[what] = found


def aligned(K, N, itemsize):
    return K * itemsize % 16 == 0 and N * 2 % 16 == 0


def check_fp16(checks):
    for M, N, K in SMALL if checks.small else RAGGED:
        x, w = (torch.randint(-4, 5, (rows, K), device="cuda").half() for rows in (M, N))
        want = (x.double() @ w.double().T).half()
        for name, (run, needs_alignment) in fp16_variants().items():
            if not needs_alignment or aligned(K, N, 2):
                checks.expect(torch.equal(run(x, w), want), f"FP16 {name} at {(M, N, K)}")
    K = 512 if checks.small else 4096
    x, w = torch.randn(300, K, device="cuda").half(), torch.randn(264, K, device="cuda").half()
    want, sums = x.double() @ w.double().T, x.double().abs() @ w.double().abs().T
    bound = K * 2**-24 * sums + 2**-11 * want.abs()  # FP32 sums of K terms, one rounding to FP16
    for name, (run, _) in fp16_variants().items():
        checks.expect(((run(x, w).double() - want).abs() <= bound).all(), f"FP16 {name}, normal numbers")


def check_int8(checks):
    for M, N, K in SMALL if checks.small else RAGGED:
        x, w = codes(M, K), codes(N, K)
        sx, sw = (torch.rand(rows, device="cuda") / 500 for rows in (M, N))
        sx[M // 2] = float("nan")
        sw[N // 3] = 0
        bias = torch.randn(N, device="cuda").half()
        for layout, stored in (("K-major", w), ("N-major", w.T.contiguous().T)):
            checks.expect(torch.equal(int_mm(x, stored).double(), x.double() @ w.double().T),
                          f"int_mm, {layout} w, at {(M, N, K)}")
        for name, (run, needs_alignment) in int8_variants().items():
            if needs_alignment and not aligned(K, N, 1):
                continue
            where = f"INT8 {name} at {(M, N, K)}"
            y, want = run(x, sx, w, sw), scaled(x, sx, w, sw)
            checks.expect(torch.equal(y.nan_to_num(7), want.nan_to_num(7)), where)
            if (M, N, K) not in SMALL[2:]:
                continue
            # Conversion, two products and the sum err by 2⁻²⁴ of the larger term each, the rounding to FP16 by 2⁻¹¹.
            product = (x.double() @ w.double().T) * sx.double()[:, None] * sw.double()
            want, y = product + bias.double(), run(x, sx, w, sw, bias).double()
            bound = 2**-11 * want.abs() + 4 * 2**-24 * (product.abs() + bias.double().abs()) + 2**-25
            checks.expect((((y - want).abs() <= bound) | (y.isnan() & want.isnan())).all(), where + " with bias")
            y, want = run(x, sx, w, sw, None, torch.bfloat16), scaled(x, sx, w, sw, None, torch.bfloat16)
            checks.expect(torch.equal(y.nan_to_num(7), want.nan_to_num(7)), where + " to BF16")


def check_quantize(checks):
    shapes = [(1, 1), (3, 127), (5, 1024), (4, 2049), (7, 4096), (9, 5000), (3, 11008), (2, 16384)]
    for dtype in (torch.float16, torch.bfloat16):
        for M, K in shapes if checks.small else [*shapes, (2, 131072)]:
            x = torch.randn(M, K, device="cuda").to(dtype)
            x[0] = 0 if M > 2 else x[0]
            x[1 % M] *= 3e-6
            if M > 4:
                x[2, K // 2], x[3, 0], x[4, -1] = 6e4, float("nan"), float("inf")
            check_codes(checks, x, f"quantize {dtype} {(M, K)}")
            check_codes(checks, torch.cat([x, x], 1)[:, 1:K + 1], f"quantize {dtype} {(M, K)}, a misaligned view")
        if not checks.small:
            check_every_number(checks, dtype)


def check_every_number(checks, dtype):
    """Every number x with every amax ≥ |x|: row i holds all numbers up to the i-th."""
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
    for quantize in (quantize_int8_perrow, quantize_int8_perrow_plain, quantize_int8_perrow_long):
        if quantize is quantize_int8_perrow_plain and x.shape[1] > 16384:
            continue  # a row must fit the registers
        q, s = quantize(x)
        checks.expect(torch.equal(s.nan_to_num(-1), scale.nan_to_num(-1)) and torch.equal(q, want),
                      f"{quantize.__name__}, {what}")


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


def parts():
    import gpu_report_decode as decode
    import gpu_report_lessons as lessons
    import gpu_report_model as model

    return {"fp16": check_fp16, "int8": check_int8, "quantize": check_quantize, "decode": decode.check_decode,
            "fused": decode.check_gemv_and_fused, "lessons": lessons.check_lessons, "limits": check_limits,
            "model": model.check_model}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=parts(), default=list(parts()), metavar="PART")
    parser.add_argument("--small", action="store_true", help="small shapes; without limits and model")
    parser.add_argument("--out", type=Path, required=True, help="folder for right.json")
    options = parser.parse_args()
    if INTERPRETED:
        parser.error("this needs a GPU; `python3 workshop.py test` checks the kernels without one")
    torch.manual_seed(0)
    checks, seconds = Checks(options.small), {}
    for name in options.only:
        if options.small and name in ("limits", "model"):
            continue
        torch.use_deterministic_algorithms(name != "model", warn_only=True)  # it fills memory that nothing wrote
        began, before = time.perf_counter(), checks.passed
        checks.attempt(name, parts()[name], checks)
        torch.cuda.synchronize()
        seconds[name] = round(time.perf_counter() - began, 1)
        print(f"{name}: {checks.passed - before} checks right in {seconds[name]} s", flush=True)
    report = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__,
              "small": options.small, "passed": checks.passed, "failures": checks.failures, "found": checks.found,
              "seconds": seconds}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "right.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["found"], indent=1), f"{checks.passed} right, {len(checks.failures)} wrong", sep="\n")
    return 1 if checks.failures else 0


if __name__ == "__main__":
    sys.exit(main())
