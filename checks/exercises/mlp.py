"""Lesson 07b: the whole MLP in INT8, what each plan for it moves, and how often its x is quantized."""

import torch

from checks.exercises.matmul_int8 import F16, F32, I8, count_tensors
from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers

_SHAPES = (numbers(M=16384, N=11008, K=2048), numbers(M=1, N=1, K=1), numbers(M=70, N=90, K=200), numbers(M=3, N=500, K=20))
_SCALES = "The vectors count too: the scales of x (M) and of w (2N) are read, those of h (M) are written, in FP32."
_WEIGHTS = "w has the rows of gate and those of up: 2N rows of K codes, and 2N scales."
_CODES_OUT = "Codes leave the last pass: one byte for each of M · N, and M scales."


def _codes_and_scales(rows, columns):
    return [((rows, columns), I8), ((rows,), F32)]


IN_QUANTIZER = Exercise(
    name="silu_in_quantizer_bytes",
    lesson="07b_fused_mlp",
    points=1,
    cases=_SHAPES,
    oracle=lambda M, N, K: count_tensors(*_codes_and_scales(M, K), *_codes_and_scales(2 * N, K), ((M, 2 * N), F16),
                                         ((M, N), F16), ((M, N), F16), *_codes_and_scales(M, N)),
    mutants=(
        Mutant("4 · M · N too few: gate and up not read, or only one of the two",
               {"quantizer = 2 * M * 2 * N + ": "quantizer = "},
               "gate and up go through memory: the product writes them and the quantizer reads them, FP16 both times."),
        Mutant("gate and up in four bytes", {"+ 2 * M * 2 * N\n": "+ 4 * M * 2 * N\n",
                                             "quantizer = 2 * M * 2 * N": "quantizer = 4 * M * 2 * N"},
               "gate and up are FP16: two bytes for each number, written and read."),
        Mutant("gate alone goes through memory", {"quantizer = 2 * M * 2 * N": "quantizer = 2 * M * N"},
               "gate and up are written by the product and read by the quantizer: 2N columns in FP16, both times."),
        Mutant("h written in FP16 too",
               {"2 * M * 2 * N + M * N": "2 * M * 2 * N + 3 * M * N"},
               "In this plan h stays in registers: only its codes are written."),
        Mutant("h in FP16 instead of codes",
               {"2 * M * 2 * N + M * N": "2 * M * 2 * N + 2 * M * N"},
               _CODES_OUT),
        Mutant("half of w", {"2 * N * K + 4 * (M + 2 * N)": "N * K + 4 * (M + N)"}, _WEIGHTS),
        Mutant("half of w's scales", {"4 * (M + 2 * N)": "4 * (M + N)"}, _WEIGHTS),
        Mutant("the scales left out", {" + 4 * (M + 2 * N)": "", " + 4 * M\n": "\n"}, _SCALES),
        Mutant("the scales of h left out", {" + 4 * M\n": "\n"}, _SCALES),
        Mutant("the scales are not read", {" + 4 * (M + 2 * N)": ""}, _SCALES),
        Mutant("INT32 sums written", {"+ 2 * M * 2 * N\n": "+ 4 * M * 2 * N\n"},
               "The sums stay in registers: what is written of gate and up is FP16."),
    ),
)

IN_EPILOGUE = Exercise(
    name="silu_in_epilogue_bytes",
    lesson="07b_fused_mlp",
    points=1,
    cases=_SHAPES,
    oracle=lambda M, N, K: count_tensors(*_codes_and_scales(M, K), *_codes_and_scales(2 * N, K), ((M, N), F16),
                                         ((M, N), F16), *_codes_and_scales(M, N)),
    mutants=(
        Mutant("gate and up written", {"(M + 2 * N) + 2 * M * N": "(M + 2 * N) + 2 * M * 2 * N"},
               "gate and up never leave the chip: the epilogue multiplies them in registers and writes h, M · N numbers."),
        Mutant("h in four bytes", {"(M + 2 * N) + 2 * M * N": "(M + 2 * N) + 4 * M * N",
                                   "quantizer = 2 * M * N": "quantizer = 4 * M * N"},
               "h is FP16: two bytes for each number, written and read."),
        Mutant("h is not read", {"quantizer = 2 * M * N + ": "quantizer = "},
               "The quantizer is a kernel of its own: it reads h in FP16."),
        Mutant("no quantizer", {"return product + quantizer": "return product"},
               "The epilogue has no amax of a row, so the quantizer still is a pass of its own."),
        Mutant("codes out of the epilogue", {"(M + 2 * N) + 2 * M * N": "(M + 2 * N) + M * N + 4 * M",
                                             "return product + quantizer": "return product"},
               "A program has BLOCK_N columns of a row and no amax of the whole: the product writes h in FP16, and the "
               "quantizer is a pass of its own."),
        Mutant("x is read twice", {"product = M * K + ": "product = 2 * M * K + "},
               "One pass over the codes of x serves gate and up."),
        Mutant("half of w", {"2 * N * K + 4 * (M + 2 * N)": "N * K + 4 * (M + N)"}, _WEIGHTS),
        Mutant("half of w's scales", {"4 * (M + 2 * N)": "4 * (M + N)"}, _WEIGHTS),
        Mutant("h in FP16 instead of codes", {"quantizer = 2 * M * N + M * N": "quantizer = 2 * M * N + 2 * M * N"},
               _CODES_OUT),
        Mutant("the scales left out", {" + 4 * (M + 2 * N)": "", " + 4 * M\n": "\n"}, _SCALES),
        Mutant("the scales of h left out", {" + 4 * M\n": "\n"}, _SCALES),
        Mutant("the scales are not read", {" + 4 * (M + 2 * N)": ""}, _SCALES),
    ),
)


def count_in_programs(M: int, N: int, K: int, BLOCK_M: int, BLOCK_N: int) -> tuple[Expected]:
    """Program by program: the rows of x that its tile has, K numbers each."""
    return (Expected(sum(min(BLOCK_M, M - m) * K for m in range(0, M, BLOCK_M) for _ in range(0, N, BLOCK_N))),)


MAIN_LOOP = Exercise(
    name="main_loop_quantizations",
    lesson="07b_fused_mlp",
    points=1,
    cases=(numbers(M=16384, N=22016, K=2048, BLOCK_M=128, BLOCK_N=256),
           numbers(M=130, N=200, K=100, BLOCK_M=128, BLOCK_N=64), numbers(M=5, N=300, K=7, BLOCK_M=16, BLOCK_N=32),
           numbers(M=6, N=4, K=3, BLOCK_M=2, BLOCK_N=1)),
    oracle=count_in_programs,
    mutants=(
        Mutant("once for each row of tiles", {"-(-N // BLOCK_N)": "-(-M // BLOCK_M)"},
               "A row of x is needed by every program in its row of tiles: as many as there are columns of tiles."),
        Mutant("tiles rounded down", {"-(-N // BLOCK_N)": "N // BLOCK_N"},
               "A last, partly filled column of tiles has programs too: round up. triton.cdiv(N, BLOCK_N) does."),
        Mutant("whole tiles alone", {"M * K * columns_of_tiles": "M // BLOCK_M * BLOCK_M * K * (N // BLOCK_N)"},
               "Partly filled tiles have programs too: count all M rows, and round the columns of tiles up."),
        Mutant("fractions of tiles", {"-(-N // BLOCK_N)": "N / BLOCK_N"},
               "A partly filled column of tiles has whole programs: round up with triton.cdiv(N, BLOCK_N)."),
        Mutant("each number once", {"return M * K * columns_of_tiles": "return M * K"},
               "No program knows what another has quantized: each column of tiles does all of x again."),
        Mutant("lanes that a mask turns off are counted",
               {"M * K * columns_of_tiles": "-(-M // BLOCK_M) * BLOCK_M * K * columns_of_tiles"},
               "Rows past M are not there: count the M rows that are."),
        Mutant("w as well", {"M * K * columns_of_tiles": "M * K * columns_of_tiles + N * K * -(-M // BLOCK_M)"},
               "w is there as codes already; only x is quantized."),
        Mutant("once for each column of y", {"-(-N // BLOCK_N)": "N"},
               "Within a tile the codes serve all of its columns: count programs, not columns."),
        Mutant("once for each tile of y",
               {"return M * K * columns_of_tiles": "return M * K * columns_of_tiles * -(-M // BLOCK_M)"},
               "A program quantizes its own rows of x alone, not all M: only the programs of one row of tiles "
               "share them."),
        Mutant("bytes, not numbers", {"return M * K * columns_of_tiles": "return 2 * M * K * columns_of_tiles"},
               "Wanted is how many numbers are quantized, whatever each of them takes."),
    ),
)


def mlp(M: int, D: int, N: int, size: float = 1.0):
    """x whose normed rows have no number near a tie between two codes; gates, ups and h of a few units."""
    def inputs(g: torch.Generator) -> dict:
        codes = torch.randint(-126, 127, (M, D), generator=g) + torch.randint(-1, 2, (M, D), generator=g) / 4
        codes[:, D // 2] = 127
        weight = 2.0 ** torch.randint(-2, 3, (D,), generator=g) * (1 - 2 * torch.randint(0, 2, (D,), generator=g))
        rows = size * 2.0 ** torch.randint(-7, -3, (M, 1), generator=g)
        made = {"x": (codes * rows / weight).half(), "weight": weight.half()}
        for name, (out, columns) in {"gate_up": (2 * N, D), "down": (D, N)}.items():
            made[f"{name}_q"] = torch.randint(-127, 128, (out, columns), generator=g, dtype=torch.int8)
            made[f"{name}_scale"] = (1 + torch.rand(out, generator=g)) / 60 / columns**0.5
        return made
    return inputs


def exact_mlp(x, weight, gate_up_q, gate_up_scale, down_q, down_scale) -> tuple[Expected]:
    """In float64, with codes of norm(x) and of h. Those of norm(x) are no ties, so gate and up err by FP32 alone, far below
    FP16. Where gate, up and h are rounded to FP16, silu errs by its slope · gate / silu times 2⁻¹¹, up and h by 2⁻¹¹ each,
    and amax, whose gate is positive or small, by 3.3 · 2⁻¹¹. A code of h within that of a tie may be its neighbour, which
    moves y by |w_q|, and the scale of h is as far off as amax."""
    x, weight = x.double(), weight.double()
    normed = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt() * weight
    x_scale = normed.abs().amax(1, keepdim=True) / 127
    both = ((normed / x_scale).round() @ gate_up_q.double().T) * x_scale * gate_up_scale.double()
    gate, up = both.chunk(2, dim=1)
    sigmoid = 1 / (1 + (-gate).exp())
    h = gate * sigmoid * up
    h_scale, amax_off = h.abs().amax(1, keepdim=True) / 127, 3.3 * 2.0**-11
    off = ((1 + gate * (1 - sigmoid)).abs() + 2) * 2.0**-11
    quotient = h / h_scale
    near = ((quotient - quotient.floor() - 0.5).abs() <= (off + amax_off) * quotient.abs()).double()
    steps = h_scale * down_scale.double()
    y = (quotient.round() @ down_q.double().T) * steps
    moved = (near @ down_q.double().abs().T) * steps
    return (Expected(y, moved + (amax_off + 2.0**-11) * (y.abs() + moved) + 2.0**-24, torch.float16),)


_FUSED = "h = gate_up_silu_mul_plain(x_q, x_scale, gate_up_q, gate_up_scale)"
_QUANTIZE_H = "h_q, h_scale = quantize_int8_perrow_plain(h)"
_PRODUCT = "gate, up = perrow_w8a8_matmul_plain(x_q, x_scale, gate_up_q, gate_up_scale).chunk(2, dim=1)"
_SCALE_OF_H = "The codes of h have scales of their own: those that the quantizer of h gives."

MLP = Exercise(
    name="mlp_int8",
    lesson="07b_fused_mlp",
    outputs=("y",),
    points=3,
    oracle=exact_mlp,
    cases=(
        Case("x (5, 64), h (5, 96)", mlp(5, 64, 96)),
        Case("one token, x (1, 48)", mlp(1, 48, 100)),
        Case("h narrower than x, x (3, 100)", mlp(3, 100, 40)),
        Case("small numbers, x (4, 64)", mlp(4, 64, 64, 2.0**-6)),
    ),
    mutants=(
        Mutant("without the norm", {"rmsnorm_quantize_int8_plain(x, weight)": "quantize_int8_perrow_plain(x)"},
               "The MLP multiplies norm(x): quantize with rmsnorm_quantize_int8_plain(x, weight)."),
        Mutant("the norm without its weight", {"(x, weight)\n": "(x, torch.ones_like(weight))\n"},
               "The norm multiplies each channel by its weight: hand it on."),
        Mutant("x's scales for h", {"h_q, h_scale, down_q": "h_q, x_scale, down_q"}, _SCALE_OF_H),
        Mutant("h without scales", {"h_q, h_scale, down_q": "h_q, torch.ones_like(h_scale), down_q"}, _SCALE_OF_H),
        Mutant("gate and up exchanged",
               {_FUSED: _PRODUCT, _QUANTIZE_H: "h_q, h_scale = silu_mul_quantize_int8(up, gate)"},
               "The first N rows of w are gate, and gate goes through silu."),
        Mutant("the residual is added", {"return perrow": "return x + perrow"},
               "y is what the MLP gives; a transformer's block adds it to x afterwards."),
        Mutant("codes and scales exchanged", {"x_q, x_scale = rms": "x_scale, x_q = rms"},
               "A quantizer returns the codes first, then the scales."),
    ),
)

EXERCISES = [IN_QUANTIZER, IN_EPILOGUE, MAIN_LOOP, MLP]
