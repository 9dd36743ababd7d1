"""Lesson 03: the speeds that times mean, and the roofline they are held against."""

import math

import torch

from checks.exercises.measuring import near
from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers


def explain_units(outcome) -> str | None:
    """Whether a number is off by a power of ten, or upside down."""
    got, want = outcome.outputs[0], outcome.expected[0].value
    if not 0 < got < math.inf:
        return None
    for ratio, said in ((got / want, "That is 10 to the power of {} times the right number."), (got * want, "Upside down.")):
        power = round(math.log10(ratio))
        if math.isclose(ratio, 10.0 ** power, rel_tol=1e-6):
            return said.format(power) + " 1 us is 10⁻⁶ s, 1 GB/s is 10⁹ bytes a second, 1 TFLOPS 10¹² operations a second."
    return None


ACHIEVED_GB_PER_S = Exercise(
    name="achieved_gb_per_s",
    lesson="03_measuring",
    points=1,
    cases=(numbers(num_bytes=33_570_816, us=10.5), numbers(num_bytes=1000, us=1.0), numbers(num_bytes=3 * 10**12, us=1e6)),
    explain=explain_units,
    oracle=lambda num_bytes, us: (near(num_bytes / 1e9 / (us / 1e6)),),
    mutants=(
        Mutant("GiB", {"/ 1e3": "/ 2**30 * 1e6"}, "1 GB is 10⁹ bytes here, not 2³⁰: roofs are given so."),
        Mutant("bytes per microsecond", {" / 1e3": ""}, "Bytes per microsecond are MB/s: one more factor of 1,000."),
        Mutant("microseconds taken for milliseconds", {"/ 1e3": "/ 1e6"}, "A microsecond is 10⁻⁶ seconds."),
        Mutant("upside down", {"num_bytes / us / 1e3": "us / num_bytes / 1e3"}, "Bytes divided by time."),
        Mutant("twice as many", {"num_bytes / us / 1e3": "2 * num_bytes / us / 1e3"},
               "Bytes are those moved, reads and writes together, as they are given: no factor 2."),
        Mutant("half as many", {"num_bytes / us / 1e3": "num_bytes / us / 1e3 / 2"},
               "Bytes are those moved, reads and writes together, as they are given: no factor 2."),
    ),
)

ACHIEVED_TFLOPS = Exercise(
    name="achieved_tflops",
    lesson="03_measuring",
    points=1,
    cases=(numbers(flops=137_438_953_472, us=200.0), numbers(flops=10**6, us=1.0), numbers(flops=10**15, us=1e6)),
    explain=explain_units,
    oracle=lambda flops, us: (near(flops / 1e12 / (us / 1e6)),),
    mutants=(
        Mutant("GFLOPS", {"/ 1e6": "/ 1e3"},
               "Operations per microsecond divided by 10³ are GFLOPS; 1 TFLOPS is 1,000 of them."),
        Mutant("microseconds taken for milliseconds", {"/ 1e6": "/ 1e9"}, "A microsecond is 10⁻⁶ seconds."),
        Mutant("upside down", {"flops / us / 1e6": "us / flops / 1e6"}, "Operations divided by time."),
        Mutant("twice as many", {"flops / us / 1e6": "2 * flops / us / 1e6"},
               "A multiplication and an addition are two operations already, as they are given: no factor 2."),
        Mutant("half as many", {"flops / us / 1e6": "flops / us / 1e6 / 2"},
               "A multiplication and an addition are two operations already, as they are given: no factor 2."),
    ),
)

ATTAINABLE = Exercise(
    name="attainable_tflops",
    lesson="03_measuring",
    points=1,
    cases=(numbers(intensity=1.0, tflops=989.0, gb_per_s=4800.0), numbers(intensity=100.0, tflops=989.0, gb_per_s=4800.0),
           numbers(intensity=4000.0, tflops=989.0, gb_per_s=4800.0), numbers(intensity=0.125, tflops=989.0, gb_per_s=4800.0),
           numbers(intensity=2**-14, tflops=65.0, gb_per_s=320.0)),
    explain=explain_units,
    oracle=lambda intensity, tflops, gb_per_s: (near(1 / max(1 / tflops, 1e3 / (intensity * gb_per_s))),),
    mutants=(
        Mutant("the higher of the two roofs", {"min(": "max("}, "The lower roof is the one that stops you."),
        Mutant("the peak alone", {"min(tflops, intensity * gb_per_s / 1e3)": "tflops"},
               "At a low intensity memory cannot feed the arithmetic."),
        Mutant("the memory roof alone", {"min(tflops, intensity * gb_per_s / 1e3)": "intensity * gb_per_s / 1e3"},
               "However high the intensity, there are no more than `tflops`."),
        Mutant("GFLOPS beside TFLOPS", {" / 1e3": ""},
               "Operations per byte times GB/s are GFLOPS: divide by 1,000 before you compare with TFLOPS."),
        Mutant("multiplied by 1,000", {"/ 1e3": "* 1e3"},
               "Operations per byte times GB/s are GFLOPS, and 1,000 of them are one TFLOPS: divide."),
        Mutant("intensity upside down", {"intensity * gb_per_s / 1e3": "gb_per_s / intensity / 1e3"},
               "More operations for each byte mean more TFLOPS at the same GB/s: multiply."),
        Mutant("traffic and arithmetic one after the other",
               {"min(tflops, intensity * gb_per_s / 1e3)": "1 / (1 / tflops + 1e3 / (intensity * gb_per_s))"},
               "A GPU moves bytes and does arithmetic at the same time: the slower one alone sets the pace."),
        Mutant("the mean of the two roofs",
               {"min(tflops, intensity * gb_per_s / 1e3)": "(tflops + intensity * gb_per_s / 1e3) / 2"},
               "The lower roof alone is the one that stops you."),
        Mutant("the two roofs added", {"min(tflops, intensity * gb_per_s / 1e3)": "tflops + intensity * gb_per_s / 1e3"},
               "The lower roof alone is the one that stops you."),
    ),
)


def exact_gain(M: int, N: int, K: int, fp16_tflops: float, int8_tops: float, gb_per_s: float) -> tuple[Expected]:
    """From the tensors: each kernel takes the longer of its traffic and its arithmetic."""
    def made(*tensors) -> float:
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in tensors) / (gb_per_s * 1e9)

    flops, half, code, scale = 2 * M * N * K, torch.float16, torch.int8, torch.float32
    fp16 = max(flops / (fp16_tflops * 1e12), made(((M, K), half), ((N, K), half), ((M, N), half)))
    quantize = made(((M, K), half), ((M, K), code), ((M,), scale))
    int8 = max(flops / (int8_tops * 1e12),
               made(((M, K), code), ((N, K), code), ((M,), scale), ((N,), scale), ((M, N), half)))
    return (near(fp16 / (quantize + int8)),)


def on_an_h200(**sizes: int) -> Case:
    return numbers(**sizes, fp16_tflops=989, int8_tops=1979, gb_per_s=4800)  # NVIDIA's H200 datasheet, dense


_SUM = "(quantize_us + int8_us)"
_INT8_BYTES = "perrow_w8a8_matmul_bytes(M, N, K)"
_QUANTIZE_BYTES = "quantize_int8_perrow_bytes(M, K)"

INT8_GAIN = Exercise(
    name="int8_gain",
    lesson="03_measuring",
    points=3,
    cases=(on_an_h200(M=1, N=4096, K=4096), on_an_h200(M=16384, N=6144, K=2048), on_an_h200(M=256, N=4096, K=4096),
           on_an_h200(M=16384, N=16, K=8192), numbers(M=3, N=5, K=7, fp16_tflops=100, int8_tops=150, gb_per_s=50)),
    oracle=exact_gain,
    mutants=(
        Mutant("the quantization is left out", {_SUM: "int8_us"},
               "x comes in FP16 and must become INT8 first: the time of that kernel counts too."),
        Mutant("the arithmetic alone", {"fp16_us / (quantize_us + int8_us)": "int8_tops / fp16_tflops"},
               "Twice the rate helps only where arithmetic sets the time. Take each kernel's roofline."),
        Mutant("the product at FP16's rate", {f"{_INT8_BYTES}, int8_tops": f"{_INT8_BYTES}, fp16_tflops"},
               "The INT8 product runs at `int8_tops`."),
        Mutant("INT8 moves as many bytes as FP16", {_INT8_BYTES: "matmul_fp16_bytes(M, N, K)"},
               "Codes take one byte each: `perrow_w8a8_matmul_bytes`."),
        Mutant("the weights are quantized each time",
               {_QUANTIZE_BYTES: f"{_QUANTIZE_BYTES} + quantize_int8_perrow_bytes(N, K)"},
               "w is quantized once, before the model runs: only x (M, K) is quantized in each call."),
        Mutant("M x N numbers are quantized", {_QUANTIZE_BYTES: "quantize_int8_perrow_bytes(M, N)"},
               "It is x (M, K) that is quantized: M rows of K numbers."),
        Mutant("quantization and product at the same time", {_SUM: "max(quantize_us, int8_us)"},
               "The product needs the codes, so the quantization must be done first: the two times add up."),
        Mutant("one roofline for both kernels",
               {_SUM: f"roofline_us(flops, {_QUANTIZE_BYTES} + {_INT8_BYTES}, int8_tops, gb_per_s)"},
               "While x is quantized the tensor cores have nothing to do: traffic and arithmetic overlap within one kernel "
               "only. Take a roofline for each, and add."),
        Mutant("FP16 at INT8's rate", {"fp16_tflops, gb_per_s": "int8_tops, gb_per_s"},
               "The FP16 product runs at `fp16_tflops`."),
        Mutant("what is gained beyond 1", {"(quantize_us + int8_us)": "(quantize_us + int8_us) - 1"},
               "How many times as fast: 1 is as fast as before, 2 is twice."),
        Mutant("the microseconds saved", {"fp16_us / (quantize_us + int8_us)": "fp16_us - (quantize_us + int8_us)"},
               "How many times as fast is a quotient of times, not a difference."),
        Mutant("nanoseconds beside microseconds", {"(quantize_us + int8_us)": "(1e3 * quantize_us + int8_us)"},
               "Bytes divided by GB/s are nanoseconds: `roofline_us` gives microseconds."),
        Mutant("bytes beside microseconds", {"(quantize_us + int8_us)": f"({_QUANTIZE_BYTES} + int8_us)"},
               "The bytes of the quantization are no time yet: `roofline_us(0, bytes, int8_tops, gb_per_s)`."),
        Mutant("upside down", {"fp16_us / (quantize_us + int8_us)": "(quantize_us + int8_us) / fp16_us"},
               "A gain of 2 means half the time: FP16's time divided by INT8's."),
    ),
)

EXERCISES = [ACHIEVED_GB_PER_S, ACHIEVED_TFLOPS, ATTAINABLE, INT8_GAIN]
