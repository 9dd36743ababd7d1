"""Lesson 07b: gate and up in one INT8 product, with SiLU·mul in its epilogue."""

import torch

from checks.exercises.matmul import LOOP_OVER_K
from checks.exercises.perrow_w8a8 import quantized
from checks.exercises.silu_mul import SILU, SILU_MUTANTS
from checks.judge.exercise import Case, Exercise, Expected, Mutant

U = 2.0**-24  # the most that one FP32 operation is off, of its result


def exact_gate_up(x_q, x_scale, w_q, w_scale, bias=None) -> tuple[Expected]:
    """silu(gate) · up in float64, from exact sums. Before the rounding to FP16, 2⁻¹¹ of y or 2⁻²⁵ where y is below 2⁻¹⁴:
    the sum turned into FP32, two products and the addition of the bias err by U of the larger term each; SiLU's slope is at
    most 1.1; exp(-gate) is |gate| U off and 4 U for the GPU's approximation, the sum 1, the quotient 4, the product 1."""
    product = (x_q.double() @ w_q.double().T) * x_scale.double()[:, None] * w_scale.double()
    added = torch.zeros(len(w_q), dtype=torch.float64) if bias is None else bias.double()
    gate, up = (product + added).chunk(2, dim=1)
    gate_off, up_off = (4 * U * (product.abs() + added.abs())).chunk(2, dim=1)
    silu = gate / (1 + (-gate).exp())
    y = silu * up
    off = 1.1 * gate_off * up.abs() + silu.abs() * up_off + U * (gate.abs() + 10) * y.abs()
    return (Expected(y, 2.0**-11 * (y.abs() + off).clamp(min=2.0**-14) + off, torch.float16),)


def gate_up(M: int, N: int, K: int, bias: torch.dtype | None = None):
    """Codes of every size, gates and ups from hundredths to tens."""
    def inputs(g: torch.Generator) -> dict:
        return quantized(M, 2 * N, K, bias)(g)
    return inputs


def up_past_fp16(M: int, N: int, K: int):
    """Gates of thousandths and ups of hundreds of thousands: FP16 holds their product, but not the ups."""
    def inputs(g: torch.Generator) -> dict:
        made = gate_up(M, N, K)(g)
        made["x_scale"] = 2.0**-7 * (1 + torch.rand(M, generator=g))
        made["w_scale"][:N], made["w_scale"][N:] = 2.0**-18, 2.0**8
        return made
    return inputs


def large_gates(M: int, N: int, K: int):
    """Gates of hundreds, of both signs: exp of the one overflows, of the other is lost beside 1."""
    def inputs(g: torch.Generator) -> dict:
        made = gate_up(M, N, K)(g)
        made["x_scale"] = 2.0**-7 * (1 + torch.rand(M, generator=g))
        made["w_scale"][:N], made["w_scale"][N:] = 4 / K**0.5, 2.0**-9
        return made
    return inputs


def unusable_rows(M: int, N: int, K: int):
    """A row of zeros and one whose scale is NaN, and such a row of gate's w."""
    def inputs(g: torch.Generator) -> dict:
        made = gate_up(M, N, K, torch.float32)(g)
        made["x_q"][1], made["x_scale"][1] = 0, 0.0
        made["x_scale"][2] = made["w_scale"][3] = torch.nan
        return made
    return inputs


def gate_up_bytes(x_q: torch.Tensor, w_q: torch.Tensor, bias: torch.Tensor | None = None, **scales: torch.Tensor) -> int:
    """Codes and scales in, y in FP16 out, and the bias."""
    (M, K), rows = x_q.shape, len(w_q)
    return M * K + rows * K + 4 * (M + rows) + M * rows + (0 if bias is None else bias.nbytes)


_GATE = "gate = gate_acc.to(tl.float32) * x_scale[:, None] * gate_scale[None, :]"
_UP = "up = up_acc.to(tl.float32) * x_scale[:, None] * up_scale[None, :]"
_GATE_BIAS = "        gate += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]\n"
_UP_BIAS = "        up += tl.load(bias_ptr + N + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]\n"
_BIAS = "    if bias_ptr is not None:\n" + _GATE_BIAS + _UP_BIAS
_UP_SCALE = "w_scale_ptr + N + offs_n, mask=mask_n"
_STORE = "mask=mask_m[:, None] & mask_n[None, :])"
_NOT_LINEAR = "silu(a · gate) is not a · silu(gate): the scales come before SiLU, not after."
_HALVES = "w has the N rows of gate and then those of up, and so have the scales and the bias: N + offs_n for up."
_ONE_ROUNDING = "gate and up stay in FP32 until y is there; the one rounding to FP16 is that of y, in the store."
_ONCE = "A step's codes of x serve both products: load x once in each step, and take it for two tl.dot."
_LOAD_X = "tl.load(x_rows + offs_k[None, :], mask=mask_x, other=0)"

GATE_UP = Exercise(
    name="gate_up_silu_mul_plain_kernel",
    lesson="07b_fused_mlp",
    wrapper="gate_up_silu_mul_plain",
    outputs=("y",),
    points=6,
    least_bytes=gate_up_bytes,
    oracle=exact_gate_up,
    cases=(
        Case("without bias, M=130 N=70 K=100", gate_up(130, 70, 100)),
        Case("with an FP32 bias, M=20 N=33 K=200", gate_up(20, 33, 200, torch.float32)),
        Case("with an FP16 bias over several tiles, M=5 N=130 K=70", gate_up(5, 130, 70, torch.float16)),
        Case("one element of y, K=129", gate_up(1, 1, 129)),
        Case("whole tiles, M=128 N=64 K=256", gate_up(128, 64, 256)),
        Case("ups past FP16, M=6 N=40 K=50", up_past_fp16(6, 40, 50)),
        Case("gates of hundreds, M=6 N=40 K=50", large_gates(6, 40, 50)),
        Case("zero and NaN scales, M=6 N=5 K=128", unusable_rows(6, 5, 128)),
    ),
    mutants=(
        Mutant("silu of up instead of gate", {SILU: "up / (1.0 + tl.exp(-up)) * gate"},
               "The gate, from the first N rows of w, goes through silu, and then multiplies up."),
        *SILU_MUTANTS,
        Mutant("silu of the sums, scaled afterwards",
               {_GATE: "gate = gate_acc.to(tl.float32)", _UP: "up = up_acc.to(tl.float32)",
                SILU: f"{SILU} * x_scale[:, None] * gate_scale[None, :] * x_scale[:, None] * up_scale[None, :]"},
               _NOT_LINEAR),
        Mutant("gate's scales for up too", {_UP_SCALE: "w_scale_ptr + offs_n, mask=mask_n"}, _HALVES),
        Mutant("the two halves' scales exchanged", {_GATE: _GATE.replace("gate_scale", "up_scale"),
                                                    _UP: _UP.replace("up_scale", "gate_scale")},
               "gate's sums go with gate's scales, up's with up's."),
        Mutant("x's scale is missing in gate", {_GATE: _GATE.replace(" * x_scale[:, None]", "")},
               "gate and up are both products with x: each is multiplied by x_scale[m]."),
        Mutant("x's scale is missing in up", {_UP: _UP.replace(" * x_scale[:, None]", "")},
               "gate and up are both products with x: each is multiplied by x_scale[m]."),
        Mutant("w's scale is missing in gate", {_GATE: _GATE.replace(" * gate_scale[None, :]", "")},
               "Row n of w has the scale w_scale[n]: multiply gate by it, before SiLU."),
        Mutant("w's scale is missing in up", {_UP: _UP.replace(" * up_scale[None, :]", "")},
               "Row N + n of w has the scale w_scale[N + n]: multiply up by it."),
        Mutant("gate and up rounded to FP16, as two kernels do",
               {"    y = gate /": "    gate, up = gate.to(tl.float16).to(tl.float32), up.to(tl.float16).to(tl.float32)\n"
                 "    y = gate /"}, _ONE_ROUNDING),
        Mutant("silu rounded to FP16",
               {SILU: "(gate / (1.0 + tl.exp(-gate))).to(tl.float16).to(tl.float32) * up"}, _ONE_ROUNDING),
        Mutant("the bias is left out", {_BIAS: ""},
               "Where bias_ptr is not None, bias[n] is added to gate and bias[N + n] to up."),
        Mutant("the bias of gate alone", {_UP_BIAS: ""}, "up has a bias too: bias[N + n]."),
        Mutant("the bias of up alone", {_GATE_BIAS: ""}, "gate has a bias too: bias[n], before SiLU."),
        Mutant("gate's bias for up too", {"bias_ptr + N + offs_n": "bias_ptr + offs_n"}, _HALVES),
        Mutant("the bias after silu",
               {_BIAS: "",
                "    y_ptrs =": "    if bias_ptr is not None:\n" + _GATE_BIAS.replace("gate +=", "y +=") + "    y_ptrs ="},
               "gate and up get their bias before SiLU."),
        Mutant("gate's weights for both products", {"up_w = tl.load(up_rows": "up_w = tl.load(gate_rows"},
               "up is the product with rows N to 2N - 1 of w: load them from up_rows."),
        Mutant("one accumulator for both", {"up_w.T, up_acc,": "up_w.T, gate_acc,"},
               "The sums of gate and of up are two blocks: each tl.dot adds to its own accumulator."),
        Mutant("two loops along K",
               {"        up_w = tl.load(up_rows + offs_k[None, :], mask=mask_w, other=0)\n": "",
                "        up_acc = tl.dot(x, up_w.T, up_acc, out_dtype=tl.int32)\n":
                 "    for k in range(0, K, BLOCK_K):\n        offs_k = k + tl.arange(0, BLOCK_K)\n"
                 "        mask_k = offs_k < K\n        x = tl.load(x_rows + offs_k[None, :], "
                 "mask=mask_m[:, None] & mask_k[None, :], other=0)\n        up_w = tl.load(up_rows + offs_k[None, :], "
                 "mask=mask_n[:, None] & mask_k[None, :], other=0)\n"
                 "        up_acc = tl.dot(x, up_w.T, up_acc, out_dtype=tl.int32)\n"}, _ONCE),
        Mutant("the sums cut down to INT8",
               {"gate = gate_acc.to(tl.float32)": "gate = gate_acc.to(tl.int8).to(tl.float32)"},
               "A sum of products needs 32 bits: gate_acc.to(tl.float32)."),
        *LOOP_OVER_K,
        Mutant("K is not masked",
               {_LOAD_X: "tl.load(x_rows + offs_k[None, :], mask=mask_m[:, None], other=0)"},
               "The last step reaches past K: load with mask_k too."),
        Mutant("the mask on M is missing when y is stored", {_STORE: "mask=mask_n[None, :])"},
               "The last row of tiles reaches past M: store only where `offs_m < M`."),
        Mutant("the mask on N is missing when y is stored", {_STORE: "mask=mask_m[:, None])"},
               "After a row's N elements comes the next row of y: store only where `offs_n < N`."),
    ),
)

EXERCISES = [GATE_UP]
