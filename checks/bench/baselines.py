"""Baselines, which the workshop's kernels are measured against: what torch and others offer for the same work.

A baseline takes operands by name, as `checks.bench.operands` has them. Its `error` is what its number format, or its way of
adding, may cost: the largest relative error (Frobenius norm) with which it still counts as right. For normal
numbers INT8 codes of rows cost 1.3 %, FP8 (e4m3, three bits after the point) 3.6 %.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import triton

from kernels import mlp, plans
from kernels.fused import silu_mul_quantize_int8
from kernels.group_w8a8 import GROUP_CONFIGS, group_w8a8_matmul
from kernels.int_mm import int_mm
from kernels.matmul_int8 import matmul_int8
from kernels.perrow_w8a8 import (
    GROUPED_CONFIGS,
    perrow_w8a8_matmul,
    perrow_w8a8_matmul_grouped,
    perrow_w8a8_matmul_plain,
)
from kernels.quantize import quantize_int8_perrow
from kernels.quantize_inside import persistent_rows_matmul, quantizing_matmul
from kernels.runtime import INTERPRETED, capability

BASELINES: dict[str, Callable] = {}
OPTIONAL = ("torch._int_mm", "torch._scaled_mm FP8", "torch.compile", "torchao", "gemlite")
"""Those that `bench --baselines` chooses from; the others are always measured."""


def baseline(name: str, error: float | None = None, unscaled: bool = False):
    """Registers a baseline; `unscaled`: its product is that of the codes, and the scales are still to come."""
    def register(function: Any) -> Callable:
        function.error, function.unscaled = error, unscaled
        BASELINES[name] = function
        return function
    return register


@baseline("cuBLAS FP16", error=2.0**-9)  # it may add the parts of a split K in FP16
def cublas_fp16(x, w):
    return x @ w.T


@baseline("F.linear", error=2.0**-9)
def f_linear(x, w):
    return torch.nn.functional.linear(x, w)


@baseline("Int8Linear", error=0.02)
def int8_layer(x, int8_linear):
    return int8_linear(x)


@baseline("torch._int_mm", unscaled=True)
def torch_int_mm(x_q, w_q):
    """The INT32 product alone, which is all that torch offers."""
    return torch._int_mm(x_q, w_q.T)


LAYOUTS = ("w K-major", "w N-major")


def in_both_layouts(function: Callable) -> dict[str, Callable]:
    """`function(x_q, w_q)`, the INT32 product of codes, by name for a w stored by rows and for one stored by columns."""
    def k_major(x_q, w_q):
        return function(x_q, w_q)

    def n_major(x_q, w_q_by_columns):
        return function(x_q, w_q_by_columns)

    products: tuple[Any, ...] = k_major, n_major
    for product in products:
        product.unscaled = True
    return {f"int_mm, {layout}": product for layout, product in zip(LAYOUTS, products, strict=True)}


BASELINES.update(in_both_layouts(int_mm))


@baseline("torch._scaled_mm FP8", error=0.05)
def torch_scaled_mm_fp8(x8, x8_scale, w8, w8_scale):
    """Rows of x and of w with a scale each; sums are kept in the tensor cores' own precision, which is fastest."""
    return torch._scaled_mm(x8, w8.T, x8_scale, w8_scale.T, out_dtype=torch.bfloat16, use_fast_accum=True)


@baseline("torch.compile", error=0.02)
def torch_compile(x, w_q, w_scale):
    """The plain formula, quantization included."""
    return _compiled(_formula)(x, w_q, w_scale)


def _formula(x, w_q, w_scale):
    x = x.float()
    scale = x.abs().amax(dim=1, keepdim=True) / 127
    q = (x / scale).round().clamp(-127, 127).to(torch.int8)
    return (torch._int_mm(q, w_q.T).float() * scale * w_scale).half()


PLANS = {"unfused INT8": plans.unfused, "epilogue-fused INT8": plans.epilogue_fused,
         "producer-fused INT8": plans.producer_fused}
"""Lesson 07's ways from x to norm(x) wᵀ; two round the norm to FP16 before it is quantized, the third does not."""
BASELINES.update(PLANS)


def fastest_product(x_q, x_scale, w_q, w_scale):
    """The library's fastest product of gate and up, and SiLU·mul in the quantizer."""
    gate, up = perrow_w8a8_matmul(x_q, x_scale, w_q, w_scale).chunk(2, dim=1)
    return silu_mul_quantize_int8(gate, up)


SILU_PLANS: dict[str, Callable] = {"SiLU·mul apart": mlp.silu_apart, "SiLU·mul in the quantizer": mlp.silu_in_quantizer,
              "SiLU·mul in the epilogue": mlp.silu_in_epilogue}
"""Lesson 07b's ways from the codes of x to those of silu(gate) · up; w holds the rows of gate, then those of up."""
FASTEST_PRODUCT = "fastest product, SiLU·mul in the quantizer"
BASELINES.update({**SILU_PLANS, FASTEST_PRODUCT: fastest_product})


def separate_quantizer(x, w_q, w_scale):
    return perrow_w8a8_matmul_plain(*quantize_int8_perrow(x), w_q, w_scale)


def in_the_loop(x, x_scale, w_q, w_scale):
    return quantizing_matmul(x, w_q, w_scale, x_scale)


def in_the_loop_with_amax(x, w_q, w_scale):
    return quantizing_matmul(x, w_q, w_scale)


PLACES: dict[str, Callable] = {"quantizer apart": separate_quantizer, "in the loop, scales given": in_the_loop,
          "in the loop, amax too": in_the_loop_with_amax, "persistent rows": persistent_rows_matmul}
"""Lesson 07b's places to quantize x, all with the plain product's tiles."""
BASELINES.update(PLACES)


@baseline("torchao", error=0.02)
def torchao_int8(x, torchao_linear):
    return torchao_linear(x)


@baseline("gemlite", error=0.02)
def gemlite_int8(x, gemlite_linear):
    return gemlite_linear(x)


@baseline("copy")
def copy(source, target):
    """A device copy that reads and writes as many bytes in all as quantization does."""
    return target.copy_(source)


# A decode kernel may start while a kernel of its own kind ends. In a model another kernel stands before it: a copy of x.
@baseline("copy of x")
def copy_x(x, x_copy):
    return x_copy.copy_(x)


@baseline("copy of x, then cuBLAS FP16", error=2.0**-9)
def copy_then_cublas(x, x_copy, w):
    return x_copy.copy_(x) @ w.T


@baseline("copy of x, then matmul_int8")
def copy_then_matmul_int8(x, x_copy, w_q, w_scale):
    return matmul_int8(x_copy.copy_(x), w_q, w_scale)


@baseline("torch.compile RMSNorm, quantize_int8_perrow")
def rmsnorm_then_quantize(x, weight):
    return quantize_int8_perrow(_compiled(_rmsnorm)(x, weight))


def _rmsnorm(x, weight):
    return torch.nn.functional.rms_norm(x, x.shape[-1:], weight, 1e-6)


@baseline("torch.compile SiLU·mul, quantize_int8_perrow")
def silu_mul_then_quantize(gate, up):
    return quantize_int8_perrow(_compiled(_silu_mul)(gate, up))


def _silu_mul(gate, up):
    return torch.nn.functional.silu(gate) * up


# Two ways through the library's own kernels, so that a lesson can say from which M on the second wins.
@baseline("quantize_int8_perrow, perrow_w8a8_matmul")
def quantize_then_multiply(x, w_q, w_scale):
    return perrow_w8a8_matmul(*quantize_int8_perrow(x), w_q, w_scale)


def config_name(config: triton.Config) -> str:
    """A configuration as the figures name it, such as `128 x 128 x 64, 4 warps, 3 stages`."""
    tile = " x ".join(str(config.kwargs[f"BLOCK_{side}"]) for side in "MNK")
    return f"{tile}, {config.num_warps} warps, {config.num_stages} stages"


CONFIGS = [config_name(config) for config in GROUPED_CONFIGS]
"""Each configuration of `perrow_w8a8_matmul_grouped`, a baseline under its own name."""

for _config in GROUPED_CONFIGS:
    @baseline(config_name(_config))
    def in_config(x_q, x_scale, w_q, w_scale, *, config=_config):
        return perrow_w8a8_matmul_grouped(x_q, x_scale, w_q, w_scale, config=config)


@baseline("group_w8a8_matmul")
def group_product(x_groups_q, x_groups_scale, w_groups_q, w_groups_scale, *, config=None):
    """The library's product, of operands that have scales for groups along K."""
    return group_w8a8_matmul(x_groups_q, x_groups_scale, w_groups_q, w_groups_scale, config)


GROUPS = {f"group_w8a8_matmul, {config_name(config)}": config for config in GROUP_CONFIGS}
"""Each configuration of `group_w8a8_matmul`."""
for _name, _config in GROUPS.items():
    baseline(_name)(functools.partial(group_product, config=_config))


@functools.cache
def _compiled(function: Callable) -> Callable:
    """`function` by torch.compile, for each shape anew; on a CPU as it stands, for there it shows nothing."""
    return function if INTERPRETED else torch.compile(function, dynamic=False)


def missing(name: str) -> str:
    """Why a baseline cannot run here, or an empty string."""
    if name in ("torchao", "gemlite"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed (pip install {name})"
        return "needs a GPU" if INTERPRETED else ""
    if name == "torch._scaled_mm FP8" and not INTERPRETED and (capability() or (0, 0)) < (8, 9):
        return "needs a GPU with FP8 tensor cores (compute capability 8.9 or later)"
    return ""


def fits(name: str, M: int, K: int, N: int) -> bool:
    """Whether a baseline takes this shape: torch's INT8 and FP8 products want multiples of 8 and 16, and _int_mm M > 16."""
    if name in ("torch._int_mm", "torch.compile"):
        return M > 16 and K % 8 == 0 and N % 8 == 0
    return name != "torch._scaled_mm FP8" or K % 16 == 0 and N % 16 == 0
