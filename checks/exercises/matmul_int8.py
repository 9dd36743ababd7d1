"""Lesson 07: the whole INT8 product, and what each plan for it moves through memory."""

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant, numbers

N = 72


def rows(*lead: int, K: int = 96, dtype: torch.dtype = torch.float16, size: float = 1.0, bias: bool = True, strided=None):
    """x (..., K) whose rows have powers of two as scales and no number near a tie between two codes; codes and scales of w.
    `strided` makes of a contiguous x one with the same numbers and other strides."""
    def inputs(g: torch.Generator) -> dict:
        shape = (*lead, K)
        codes = torch.randint(-126, 127, shape, generator=g).float()
        if dtype == torch.float16:  # BF16 has 8 bits: whole codes only
            codes += torch.randint(-1, 2, shape, generator=g) / 4
        codes[..., K // 2] = 127
        scale = size * 2.0 ** torch.randint(-8, -3, (*lead, 1), generator=g)
        x = (codes * scale).to(dtype)
        return {"x": strided(x) if strided else x,
                "w_q": torch.randint(-127, 128, (N, K), generator=g, dtype=torch.int8),
                "w_scale": torch.rand(N, generator=g) / 64 + 2.0**-12,
                "bias": torch.randn(N, generator=g).half() if bias else None}
    return inputs


def column_by_column(x: torch.Tensor) -> torch.Tensor:
    """The same numbers with the last dimension the slowest in memory."""
    return x.movedim(-1, 0).contiguous().movedim(0, -1)


def sequences_interleaved(x: torch.Tensor) -> torch.Tensor:
    """The same numbers with the first two dimensions the other way round in memory."""
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def part_of_wider_rows(x: torch.Tensor) -> torch.Tensor:
    """The same numbers as the left part of longer rows."""
    wide = torch.full((*x.shape[:-1], x.shape[-1] + 40), 6e4, dtype=x.dtype)
    wide[..., :x.shape[-1]] = x
    return wide[..., :x.shape[-1]]


def exact_product(x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None) -> tuple[Expected]:
    """Codes by the definition, exact sums, scaled in float64. In FP32 the two scales, the bias and the row's scale cost four
    roundings; the last, to y's dtype, half a unit in its last place of FP16, a whole one of BF16, which the interpreter
    truncates to."""
    exact = x.double()
    scale = exact.abs().amax(dim=-1, keepdim=True) / 127
    added = torch.zeros(1, dtype=torch.float64) if bias is None else bias.double()
    product = ((exact / scale).round() @ w_q.double().T) * scale * w_scale.double()
    y = product + added
    unit = 2.0**-11 if x.dtype == torch.float16 else 2.0**-7
    return (Expected(y, unit * y.abs().clamp(min=2.0**-14) + 2.0**-22 * (product.abs() + added.abs()), x.dtype),)


MATMUL_INT8 = Exercise(
    name="matmul_int8_two_kernels",
    lesson="07_fused",
    outputs=("y",),
    points=3,
    oracle=exact_product,
    cases=(
        Case("a matrix, x (2, 96)", rows(2)),
        Case("a batch of sequences, x (2, 3, 96)", rows(2, 3)),
        Case("one token, x (96,)", rows()),
        Case("no bias, x (1, 96)", rows(1, bias=False)),
        Case("BF16 beyond FP16's range, x (1, 96)", rows(1, dtype=torch.bfloat16, size=2.0**20)),
        Case("x (3, 96) stored column by column", rows(3, strided=column_by_column)),
        Case("x (2, 3, 96) stored as (3, 2, 96)", rows(2, 3, strided=sequences_interleaved)),
        Case("rows of a wider matrix, x (2, 96)", rows(2, strided=part_of_wider_rows)),
    ),
    mutants=(
        Mutant("leading dimensions left as they are", {"x.reshape(-1, x.shape[-1])": "x"},
               "The quantizer takes a matrix: make one of x, x.reshape(-1, K), and undo it at the end."),
        Mutant("rows whose numbers do not lie side by side", {"        rows = rows.contiguous()": "        pass"},
               "The kernels want the numbers of a row side by side. A reshape copies only when it must: where "
               "rows.stride(-1) != 1, call rows.contiguous()."),
        Mutant("a view", {"x.reshape(-1, x.shape[-1])": "x.view(-1, x.shape[-1])"},
               "A view cannot be made of every tensor. reshape copies where it has to."),
        Mutant("a view, whose numbers may not lie side by side",
               {"x.reshape(-1, x.shape[-1])": "x.view(-1, x.shape[-1])",
                "        rows = rows.contiguous()": "        pass"},
               "Two things: reshape copies where a view cannot be made; and where rows.stride(-1) != 1, call "
               "rows.contiguous()."),
        Mutant("y stays a matrix", {"y.reshape(*x.shape[:-1], len(w_q))": "y"},
               "y has the leading dimensions of x: reshape it to (*x.shape[:-1], N)."),
        Mutant("the bias forgotten", {"w_q, w_scale, bias, out": "w_q, w_scale, None, out"}, "Hand the bias on."),
        Mutant("y in FP16, whatever x is", {", out_dtype=x.dtype)": ")"},
               "y has the dtype of x: out_dtype=x.dtype."),
        Mutant("y in FP16 first", {", out_dtype=x.dtype)": ").to(x.dtype)"},
               "What passes 65,504 is Inf in FP16, and stays it: let the product write x's dtype, out_dtype=x.dtype."),
        Mutant("x in FP16 first", {"quantize_int8_perrow(rows)": "quantize_int8_perrow(rows.half())"},
               "BF16 numbers may be larger than FP16 can hold. The quantizer takes both."),
        Mutant("quantized before it is a matrix of rows",
               {"x.reshape(-1, x.shape[-1])": "x.reshape(x.shape[-1], -1)"},
               "Each row of the matrix is one token, K numbers: x.reshape(-1, K)."),
        Mutant("y in the shape of x", {"y.reshape(*x.shape[:-1], len(w_q))": "y.reshape(x.shape)"},
               "y has N numbers where x has K: reshape it to (*x.shape[:-1], N)."),
        Mutant("codes and scales in another order",
               {"x_q, x_scale, w_q, w_scale, bias": "x_q, w_q, x_scale, w_scale, bias"},
               "The product takes x's codes and scales first, then w's: (x_q, x_scale, w_q, w_scale, bias)."),
        Mutant("codes and scale of x exchanged", {"x_q, x_scale = quantize": "x_scale, x_q = quantize"},
               "The quantizer returns the codes first, then the scales."),
        Mutant("x is handed on as it is",
               {"x.reshape(-1, x.shape[-1])": "x",
                "        rows = rows.contiguous()": "        pass"},
               "The quantizer takes a matrix whose rows lie side by side: x.reshape(-1, K), made contiguous where "
               "rows.stride(-1) != 1."),
    ),
)


def count_tensors(*tensors: tuple[tuple[int, ...], torch.dtype]) -> tuple[Expected]:
    """The bytes of these tensors, each read or written once."""
    return (Expected(sum(torch.empty(shape, dtype=dtype, device="meta").nbytes for shape, dtype in tensors)),)


F16, F32, I8, I32 = torch.float16, torch.float32, torch.int8, torch.int32
_SHAPES = (numbers(M=16384, N=6144, K=2048), numbers(M=1, N=1, K=1), numbers(M=70, N=90, K=200), numbers(M=3, N=500, K=20))

_WEIGHT = "The norm reads its weight too: K numbers."
_VECTORS = "The vectors count too: the norm reads K weights, and the scales are FP32: of x written and read, of w read."


def _norm(M, K, out):
    return [((M, K), F16), ((K,), F16), ((M, K), out), *([((M,), F32)] if out == I8 else [])]


def _quantizer(M, K):
    return [((M, K), F16), ((M, K), I8), ((M,), F32)]


def _product(M, N, K):
    return [((M, K), I8), ((N, K), I8), ((M,), F32), ((N,), F32), ((M, N), F16)]


UNFUSED_BYTES = Exercise(
    name="unfused_bytes",
    lesson="07_fused",
    points=1,
    cases=_SHAPES,
    oracle=lambda M, N, K: count_tensors(
        *_norm(M, K, F16), *_quantizer(M, K), ((M, K), I8), ((N, K), I8), ((M, N), I32),
        ((M, N), I32), ((M,), F32), ((N,), F32), ((M, N), F16)),
    mutants=(
        Mutant("the sums move once, or as two bytes", {"scaling = 4 * M * N + ": "scaling = "},
               "INT32 sums take four bytes each, and they move twice: the product writes them, the scaling reads them."),
        Mutant("one FP16 matrix (M, K) too few", {"quantizer = 2 * M * K + ": "quantizer = "},
               "Two bytes for each number, three times: the norm reads x and writes its result, which the quantizer reads."),
        Mutant("one byte for each of M · K too few", {"product = M * K + ": "product = "},
               "The codes move twice, the quantizer writes and the product reads them; x and the norm's result are FP16."),
        Mutant("y in four bytes, or the sums moved once more", {"4 * (M + N) + 2 * M * N": "4 * (M + N) + 4 * M * N"},
               "y is written once, in FP16: two bytes."),
        Mutant("the norm's weight left out", {"2 * K + 2 * M * K": "2 * M * K"}, _WEIGHT),
        Mutant("the scales left out", {"quantizer = 2 * M * K + M * K + 4 * M": "quantizer = 2 * M * K + M * K",
                                       "4 * (M + N) + 2 * M * N": "2 * M * N"},
               "The M scales of x are written and read, the N scales of w are read: FP32."),
        Mutant("the weight and the scales left out",
               {"2 * K + 2 * M * K": "2 * M * K", "M * K + M * K + 4 * M": "M * K + M * K",
                "4 * (M + N) + 2 * M * N": "2 * M * N"}, _VECTORS),
        Mutant("the scales of x are not read again", {"4 * (M + N) + 2 * M * N": "4 * N + 2 * M * N"},
               "The scaling reads the scales of both: M of x, N of w."),
        Mutant("w in two bytes", {"N * K + 4 * M * N": "2 * N * K + 4 * M * N"}, "w is there as codes: one byte each."),
        Mutant("the norm's weight in four bytes, or read twice", {"2 * K + 2 * M * K": "4 * K + 2 * M * K"},
               "The norm's weight is FP16, K numbers of two bytes, and it is read once."),
        Mutant("2 · M · K too many: a matrix in FP32, or read twice",
               {"quantizer = 2 * M * K + ": "quantizer = 4 * M * K + "},
               "x and the norm's result are FP16, two bytes for each of M · K, and each is read once."),
    ),
)

EPILOGUE_BYTES = Exercise(
    name="epilogue_fused_bytes",
    lesson="07_fused",
    points=1,
    cases=_SHAPES,
    oracle=lambda M, N, K: count_tensors(*_norm(M, K, F16), *_quantizer(M, K), *_product(M, N, K)),
    mutants=(
        Mutant("INT32 sums written", {"4 * (M + N) + 2 * M * N": "4 * (M + N) + 4 * M * N"},
               "The sums stay in registers; what is written is y, in FP16."),
        Mutant("INT32 sums written and read", {"4 * (M + N) + 2 * M * N": "8 * M * N + 4 * (M + N) + 2 * M * N"},
               "The sums never leave the chip: the product scales them in registers and writes y."),
        Mutant("the scales are not read", {"N * K + 4 * (M + N)": "N * K"},
               "The epilogue reads the scales: M of x and N of w."),
        Mutant("the scales of w are not read", {"N * K + 4 * (M + N)": "N * K + 4 * M"},
               "The epilogue reads the scales of both: M of x and N of w."),
        Mutant("one byte for each of M · K too few", {"2 * K + 2 * M * K": "2 * K + M * K"},
               "In this plan the norm writes FP16 still, two bytes; and the codes move twice, one byte each time."),
        Mutant("the norm's weight left out", {"2 * K + 2 * M * K": "2 * M * K"}, _WEIGHT),
        Mutant("the weight and the scales left out",
               {"2 * K + 2 * M * K": "2 * M * K", "M * K + M * K + 4 * M": "M * K + M * K",
                "N * K + 4 * (M + N)": "N * K"}, _VECTORS),
        Mutant("no quantizer", {"return norm + quantizer + product": "return norm + product"},
               "Here the quantizer still is a pass of its own."),
        Mutant("INT32 sums written as well", {"4 * (M + N) + 2 * M * N": "4 * (M + N) + 4 * M * N + 2 * M * N"},
               "The sums never leave the chip: the product scales them in registers and writes y."),
        Mutant("the norm's weight in four bytes, or read twice", {"2 * K + 2 * M * K": "4 * K + 2 * M * K"},
               "The norm's weight is FP16, K numbers of two bytes, and it is read once."),
    ),
)

PRODUCER_BYTES = Exercise(
    name="producer_fused_bytes",
    lesson="07_fused",
    points=1,
    cases=_SHAPES,
    oracle=lambda M, N, K: count_tensors(*_norm(M, K, I8), *_product(M, N, K)),
    mutants=(
        Mutant("one FP16 matrix (M, K) too many", {"2 * K + M * K + 4 * M": "2 * K + 2 * M * K + M * K + 4 * M"},
               "x is read once, and the normed numbers stay in registers: only codes and scales are written."),
        Mutant("the norm writes FP16", {"2 * K + M * K + 4 * M": "2 * K + 2 * M * K + 4 * M"},
               "The norm writes codes: one byte each."),
        Mutant("4 · M too few: scales of x not written, or not read", {"2 * K + M * K + 4 * M": "2 * K + M * K"},
               "With the codes go M scales in FP32: the norm writes them, and the product reads them."),
        Mutant("the codes move once", {"product = M * K + ": "product = "},
               "The norm writes the codes, and the product, which is another kernel, reads them from memory."),
        Mutant("the scales are not read", {"N * K + 4 * (M + N)": "N * K"},
               "The epilogue reads the scales: M of x and N of w."),
        Mutant("the norm's weight left out", {"2 * K + M * K + 4 * M": "M * K + 4 * M"}, _WEIGHT),
        Mutant("the weight and the scales left out",
               {"2 * K + M * K + 4 * M": "M * K", "N * K + 4 * (M + N)": "N * K"}, _VECTORS),
        Mutant("x is not read", {"norm = 2 * M * K + ": "norm = "}, "The norm reads x: two bytes for each number."),
        Mutant("codes and scales of x never in memory",
               {"2 * K + M * K + 4 * M": "2 * K",
                "product = M * K + N * K + 4 * (M + N)": "product = N * K + 4 * N"},
               "Norm and product are two kernels: the codes and the scales of x are written by the one and read "
               "by the other."),
        Mutant("the norm's weight in four bytes, or read twice", {"2 * K + M * K + 4 * M": "4 * K + M * K + 4 * M"},
               "The norm's weight is FP16, K numbers of two bytes, and it is read once."),
    ),
)

EXERCISES = [MATMUL_INT8, UNFUSED_BYTES, EPILOGUE_BYTES, PRODUCER_BYTES]
