"""What a compiler is shown of our operators on a GPU that is not here. Run as a script: here Triton does not interpret.

stdout: JSON, for each case the names of what its graph calls, operators, and kernels with their grids; the numbers of
inputs that it does not use; what it gives, and what the operators say that they give; the fractions among its arguments.
"""

import contextlib
import json
import os
import sys
from types import SimpleNamespace

os.environ.pop("TRITON_INTERPRET", None)

import torch  # noqa: E402

torch.cuda.is_available = lambda: True  # before `kernels` asks
torch.cuda._lazy_init = lambda: None
torch.cuda.current_device = lambda: 0
torch.cuda.get_device_properties = lambda *_: SimpleNamespace(
    major=9, minor=0, multi_processor_count=132, L2_cache_size=60 << 20)

import triton  # noqa: E402
from torch._functorch._aot_autograd.functional_utils import from_fun, to_fun  # noqa: E402
from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table  # noqa: E402
from torch._inductor import config  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch._subclasses.functional_tensor import FunctionalTensorMode  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.fx.experimental.symbolic_shapes import ShapeEnv  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402

DRIVER = {"max_shared_mem": 232_448, "mem_clock_rate": 3_200_000, "mem_bus_width": 6144, "multiprocessor_count": 132,
          "warpSize": 32, "max_num_regs": 65536, "sm_clock_rate": 1_980_000}
triton.runtime.driver.set_active(SimpleNamespace(
    utils=SimpleNamespace(get_device_properties=lambda *_: DRIVER), get_current_device=lambda: 0,
    get_current_target=lambda: GPUTarget("cuda", 90, 32)))

from kernels import operators as ops  # noqa: E402


def traced(function, *shapes):
    """The graph of `function`, traced as AOTAutograd traces it, and what the operators themselves give."""
    fake = FakeTensorMode(shape_env=ShapeEnv())
    with fake:
        inputs = [torch.empty(shape, device="cuda:0" if shape else "cpu", dtype=dtype) for shape, dtype in shapes]

    def functional(*inputs):
        with FunctionalTensorMode():
            given = torch.utils._pytree.tree_map(to_fun, inputs)
            return torch.utils._pytree.tree_map(from_fun, function(*given))

    with fake:
        return make_fx(functional)(*inputs).graph, function(*inputs)


def unused(graph):
    """The inputs, by their numbers, that nothing in the graph takes."""
    given = [node for node in graph.nodes if node.op == "placeholder"]
    return [number for number, node in enumerate(given) if not node.users]


def fractions(graph):
    """The numbers that operators and kernels are given, but whole ones."""
    found = []
    for node in graph.nodes:
        given = [node.args, node.kwargs]
        if "triton_kernel_wrapper" in str(node.target):
            given.append(kernel_side_table.get_constant_args(node.kwargs["constant_args_idx"]))
        found += [value for value in torch.utils._pytree.tree_leaves(given) if isinstance(value, float)]
    return found


def gives(values):
    return [f"{value.dtype} {tuple(value.shape)}" for value in values]


def results(graph):
    return [node.meta["val"] for node in graph.find_nodes(op="output")[0].args[0]]


def describe(node):
    if "triton_kernel_wrapper" in str(node.target):
        kernel = kernel_side_table.get_kernel(node.kwargs["kernel_idx"])
        return f"{getattr(kernel, 'fn', kernel).__name__} {list(node.kwargs['grid'][0])}"
    name = str(node.target)
    return name if name.startswith("int8_matmul_workshop") else None


def linear(x, *layers):
    """x through layers that share it: codes, scales and bias of each."""
    return [ops.matmul_int8_op(x, *layer) for layer in zip(layers[::3], layers[1::3], layers[2::3], strict=True)]


def changed_between(x, *layers):
    first = linear(x, *layers[:3])
    x.mul_(2)
    return [*first, *linear(x, *layers[3:])]


def of_some_rows(number, x, *layers):
    return linear(x.new_empty(number.item(), x.shape[1]), *layers)


def shapes(M, K, *Ns, dtype=torch.float16):
    """Of x, (M, K) or with more dimensions in front where M is some, and of each layer's w_q, w_scale and bias."""
    weights = [[((N, K), torch.int8), ((N,), torch.float32), ((N,), torch.float16)] for N in Ns]
    return ((*(M if isinstance(M, tuple) else (M,)), K), dtype), *sum(weights, [])


def main():
    graphs = config.patch({"triton.cudagraphs": True})
    BF16 = torch.bfloat16
    cases = {
        "one row, short": (linear, shapes(1, 4096, 1024, 4096)),
        "one row, long": (linear, shapes(1, 14_336, 4096)),
        "sixteen rows": (linear, shapes(16, 4096, 4096, 28_672)),
        "many rows": (linear, shapes(300, 4096, 4096, 4096)),
        "rows not known": (of_some_rows, [((), torch.int64), *shapes(300, 4096, 4096)]),
        "changed between": (changed_between, shapes(300, 4096, 4096, 4096)),
        "one row, short, BF16": (linear, shapes((1, 1), 4096, 1024, 4096, dtype=BF16)),
        "one row, long, BF16": (linear, shapes((1, 1), 14_336, 4096, dtype=BF16)),
        "sixteen rows, BF16": (linear, shapes((2, 8), 4096, 4096, 28_672, dtype=BF16)),
        "many rows, BF16": (linear, shapes((3, 100), 4096, 4096, 4096, dtype=BF16)),
        "norm": (lambda x, w: ops.rmsnorm_quantize_int8_op(x, w, 0.75), (((16, 64), torch.float16), ((64,), torch.float16))),
        "silu": (lambda x, w: ops.silu_mul_quantize_int8_op(x, w), [((16, 64), torch.float16)] * 2),
        "no rows": (linear, shapes(0, 64, 64)),
    }
    found = {}
    for name, (function, given) in cases.items():
        for suffix, mode in (("", contextlib.nullcontext()), (", in a graph", graphs)):
            with mode:
                graph, whole = traced(function, *given)
            found[name + suffix] = [said for node in graph.nodes if (said := describe(node))]
            found[f"{name}{suffix}: unused"] = unused(graph)
            found[f"{name}{suffix}: gives"] = gives(results(graph)), gives(whole)
            found[f"{name}{suffix}: fractions"] = fractions(graph)
    torch.compiler.is_exporting = lambda: True
    for name in ("one row, short", "many rows"):
        graph, _ = traced(*cases[name][:1], *cases[name][1])
        found[f"{name}, exported"] = [said for node in graph.nodes if (said := describe(node))]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
