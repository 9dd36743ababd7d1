"""Lesson 07b: SiLU·mul that writes INT8 codes."""

import math

import torch

from checks.exercises import quantize
from checks.exercises.fused import AMAX, FP16, MASK, NEGATIVE, SCALE_M, STORE_MASK, UNSEEN, WIDEN, U, exact_codes
from checks.judge.exercise import Case, Exercise, Expected, Mutant


def exact_silu_mul(gate: torch.Tensor, up: torch.Tensor) -> tuple[Expected, Expected]:
    """In float64. exp(-gate) is 2 to a power that was rounded, |gate| U off, and 4 U for the GPU's approximation; the sum 1,
    the quotient 4, the product 1: |gate| + 10 for y, as much for amax, 2 for the divisions."""
    gate, up = gate.double(), up.double()
    off = float(gate[gate.isfinite()].abs().max()) + 10
    return exact_codes(gate / (1 + (-gate).exp()) * up, (2 * off + 2) * U, (off + 2) * U)


def halves(M: int, K: int, size: float = 2.0):
    """gate and up are the two halves of one matrix (M, 2K)."""
    def inputs(g: torch.Generator) -> dict:
        both = (torch.randn(M, 2 * K, generator=g) * size).half()
        return {"gate": both[:, :K], "up": both[:, K:]}
    return inputs


def apart(M: int, K: int):
    """gate is part of a wider matrix, up is not; both of many sizes."""
    def inputs(g: torch.Generator) -> dict:
        return {"gate": quantize.rows_of_a_wider_matrix(M, K)(g)["x"], "up": quantize.normal(M, K)(g)["x"]}
    return inputs


def large_gates(K: int):
    """Gates from -200 to 200: exp of the one end overflows, of the other underflows."""
    def inputs(g: torch.Generator) -> dict:
        gate = torch.linspace(-200, 200, K)[None].repeat(2, 1)
        gate[1] = gate[1].flip(0) / 2
        return {"gate": gate.half(), "up": torch.randn(2, K, generator=g).half()}
    return inputs


def unusable(K: int):
    """Rows with zeros, NaN and Inf in gate or in up; row 0 must not notice."""
    def inputs(g: torch.Generator) -> dict:
        gate, up = (torch.randn(5, K, generator=g).half() for _ in range(2))
        up[1] = 0
        gate[2, K - 1], up[3, 0], up[4, K // 2] = math.nan, math.inf, -math.inf
        return {"gate": gate, "up": up}
    return inputs


def far_halves(name: str, M: int, K: int):
    """Rows of `name` 2³⁰ elements apart: the third starts where 32 bits no longer reach."""
    def inputs(g: torch.Generator) -> dict:
        made = halves(M, K)(g)
        return {**made, name: quantize.far_rows(M, K)(g)["x"]}
    return inputs


SILU = "gate / (1.0 + tl.exp(-gate)) * up"
_GATE_LOAD = "gate_ptr + m * stride_gm + offs_k, mask=mask_k, other=0.0"
_UP_LOAD = "up_ptr + m * stride_um + offs_k, mask=mask_k, other=0.0"

SILU_MUTANTS = (
    Mutant("silu of the product", {SILU: "gate * up / (1.0 + tl.exp(-gate * up))"},
           "Only the gate goes through silu: silu(gate) · up."),
    Mutant("the sigmoid alone", {SILU: "1.0 / (1.0 + tl.exp(-gate)) * up"},
           "silu(g) = g · sigmoid(g): the gate itself is a factor too."),
    Mutant("the wrong sign in exp", {"tl.exp(-gate)": "tl.exp(gate)"},
           "silu(g) = g / (1 + exp(-g)): for a large g it is about g."),
    Mutant("without silu", {SILU: "gate * up"}, "The gate goes through silu first: gate / (1 + exp(-gate))."),
    Mutant("added, not multiplied", {"tl.exp(-gate)) * up": "tl.exp(-gate)) + up"}, "silu(gate) multiplies up."),
    Mutant("exp of large gates", {SILU: "gate * tl.exp(gate) / (1.0 + tl.exp(gate)) * up"},
           "exp(gate) overflows to Inf for gates above 88, and Inf / Inf is NaN: gate / (1 + exp(-gate))."),
)
"""The mistakes of each kernel that computes SILU."""

SILU_PLAIN = Exercise(
    name="silu_mul_quantize_int8_plain_kernel",
    lesson="07b_fused_mlp",
    wrapper="silu_mul_quantize_int8_plain",
    outputs=("q", "scale"),
    points=4,
    least_bytes=lambda gate, up: 5 * gate.numel() + 4 * len(gate),
    oracle=exact_silu_mul,
    cases=(
        Case("halves of one matrix, M=3 K=300", halves(3, 300)),
        Case("a power of two, M=1 K=256", halves(1, 256)),
        Case("of different strides, M=3 K=100", apart(3, 100)),
        Case("gates from -200 to 200, K=129", large_gates(129)),
        Case("zeros, NaN and Inf, K=127", unusable(127)),
        Case("rows of gate 2^30 elements apart, M=3 K=5", far_halves("gate", 3, 5)),
    ),
    mutants=(
        Mutant("silu of up instead of gate", {SILU: "up / (1.0 + tl.exp(-up)) * gate"},
               "The gate goes through silu, and then multiplies up."),
        *SILU_MUTANTS,
        Mutant("ReLU", {SILU: "tl.maximum(gate, 0.0) * up"}, "SiLU is smooth: gate / (1 + exp(-gate))."),
        Mutant("the maximum of y, not of |y|", {AMAX: "tl.max(y, axis=0)"}, NEGATIVE),
        Mutant("quantized before the multiplication", {SILU: "gate / (1.0 + tl.exp(-gate))"},
               "What the next product reads is silu(gate) · up: multiply by up before amax and codes."),
        Mutant("amax before the multiplication", {AMAX: "tl.max(finite_or_inf(gate / (1.0 + tl.exp(-gate))), axis=0)"},
               "amax is that of silu(gate) · up: multiply by up first."),
        Mutant("codes before the multiplication", {"codes(y, scale)": "codes(gate / (1.0 + tl.exp(-gate)), scale)"},
               "The codes are those of silu(gate) · up."),
        Mutant("silu rounded to FP16", {SILU: "(gate / (1.0 + tl.exp(-gate))).to(tl.float16).to(tl.float32) * up"},
               "Nothing is rounded to FP16 on the way: silu stays in FP32."),
        Mutant("y rounded to FP16 before it is quantized",
               {SILU: f"({SILU}).to(tl.float16).to(tl.float32)"}, FP16),
        Mutant("gate taken from the rows of up", {_GATE_LOAD: _GATE_LOAD.replace("stride_gm", "stride_um")},
               "gate and up have a stride each: rows of gate are stride_gm elements apart."),
        Mutant("up read from gate", {_UP_LOAD: _UP_LOAD.replace("up_ptr", "gate_ptr")},
               "The second factor is up: up_ptr."),
        Mutant("rows taken to be K apart", {_GATE_LOAD: _GATE_LOAD.replace("stride_gm", "K"),
                                            _UP_LOAD: _UP_LOAD.replace("stride_um", "K")},
               "gate and up may be halves of one matrix: use their strides."),
        Mutant("the garbage of masked lanes", {_GATE_LOAD: _GATE_LOAD.replace(", other=0.0", "")},
               "Masked lanes hold anything at all, and amax sees them: load gate and up with `other=0.0`."),
        Mutant("the mask is missing when gate is loaded", {_GATE_LOAD: "gate_ptr + m * stride_gm + offs_k"}, MASK),
        Mutant("the mask is missing when up is loaded", {_UP_LOAD: "up_ptr + m * stride_um + offs_k"}, MASK),
        Mutant("the mask is missing when q is stored", {"codes(y, scale), mask=mask_k": "codes(y, scale)"}, STORE_MASK),
        Mutant("NaN and Inf pass unseen", {"finite_or_inf(y)": "tl.abs(y)"}, UNSEEN),
        Mutant("every scale is written to scale[0]", {"scale_ptr + m,": "scale_ptr,"}, SCALE_M),
        Mutant("gate is loaded twice", {"codes(y, scale)": f"codes(tl.load({_GATE_LOAD}).to(tl.float32) "
                                        "/ (1.0 + tl.exp(-gate)) * up, scale)"},
               "The row is in registers already: use the same gate in both places."),
        Mutant("32-bit offsets", {"tl.program_id(0).to(tl.int64)": "tl.program_id(0)"}, WIDEN),
        Mutant("the 1 is missing", {"(1.0 + tl.exp(-gate))": "tl.exp(-gate)"},
               "silu(g) = g / (1 + exp(-g)): 1 is added to the exponential."),
        Mutant("amax of gate", {"tl.max(finite_or_inf(y), axis=0)": "tl.max(finite_or_inf(gate), axis=0)"},
               "It is y that is quantized: amax is the largest magnitude of silu(gate) · up."),
        Mutant("amax of up", {"tl.max(finite_or_inf(y), axis=0)": "tl.max(finite_or_inf(up), axis=0)"},
               "It is y that is quantized: amax is the largest magnitude of silu(gate) · up."),
        Mutant("codes of gate", {"codes(y, scale)": "codes(gate, scale)"}, "It is y that is quantized: codes(y, scale)."),
        Mutant("up twice", {"tl.exp(-gate)) * up": "tl.exp(-gate)) * up * up"}, "up is a factor once: silu(gate) · up."),
        Mutant("the power of 2, not of e", {"tl.exp(-gate)": "tl.exp2(-gate)"}, "silu(g) = g / (1 + e⁻ᵍ): tl.exp."),
        Mutant("every program takes row 0", {"gate_ptr + m * stride_gm": "gate_ptr", "up_ptr + m * stride_um": "up_ptr"},
               "Row m of gate starts m * stride_gm elements after gate_ptr, and of up m * stride_um after up_ptr."),
        Mutant("divided by up", {"tl.exp(-gate)) * up": "tl.exp(-gate)) / up"}, "silu(gate) multiplies up."),
    ),
)

EXERCISES = [SILU_PLAIN]
