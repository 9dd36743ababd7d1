"""What a call costs outside a CUDA graph, and the product by its order of tiles: both sides of each ratio in turns.

    python tests/gpu/gpu_calls.py [--only host decode prefill order whole devices]

  host     microseconds of the host for one call of Int8Linear and of F.linear, the GPU's time left out
  decode   four Llama-3-8B blocks after one another, one token for each of 1, 16 and 64 sequences: eager, torch.compile,
           reduce-overhead
  prefill  the same for 2,048 tokens
  order    the INT8 product over cuBLAS FP16 at M = 16,384, for each number of rows of tiles in a group
  whole    matmul_int8, quantization included, over cuBLAS FP16 at the same shapes
  devices  no time: two GPUs give the bits of one, whatever device is current (first in a process, for what comes first)
"""

import argparse
import copy
import functools
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kernels.linear import Int8Linear, quantize_linears_  # noqa: E402
from kernels.matmul_int8 import matmul_int8  # noqa: E402
from kernels.perrow_w8a8 import perrow_w8a8_matmul  # noqa: E402
from kernels.quantize import quantize_int8_perrow  # noqa: E402
from kernels.timing import CudaGPU, time_us  # noqa: E402
from kernels.transformer import LLAMA_3_8B, Block, FusedInt8Block, rotation  # noqa: E402

M = 16_384
SHAPES = [(2048, 2048), (2048, 6144), (2048, 22_016), (11_008, 2048)]  # (K, N), in the README's order
MODES = {"eager": None, "compile": "default", "reduce-overhead": "reduce-overhead"}


def randn(*shape):
    return torch.randn(shape, device="cuda", dtype=torch.float16)


def in_turns(sides, calls, rounds=15):
    """Median microseconds of the wall clock for one of `calls` calls of each side, and the host's own part of it."""
    host, wall = ({name: [] for name in sides} for _ in range(2))
    for _ in range(rounds):
        for name, call in sides.items():
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(calls):
                call()
            host[name].append(time.perf_counter() - began)
            torch.cuda.synchronize()
            wall[name].append(time.perf_counter() - began)
    return [{name: 1e6 / calls * statistics.median(times) for name, times in found.items()} for found in (wall, host)]


@torch.no_grad()
def host():
    linear = torch.nn.Linear(4096, 4096, bias=False, device="cuda", dtype=torch.float16)
    layer = Int8Linear.from_linear(linear)
    for rows in (1, 16, 64, 512):
        x = randn(rows, 4096)
        assert relative(layer(x), linear(x)) < 0.03
        sides = {"F.linear": lambda x=x: F.linear(x, linear.weight), "Int8Linear": lambda x=x: layer(x)}
        in_turns(sides, 20, 3)
        us = in_turns(sides, 20, 50)[1]
        print(f"host {rows:4} rows: F.linear {us['F.linear']:6.1f} us, Int8Linear {us['Int8Linear']:6.1f} us, "
              f"{us['Int8Linear'] / us['F.linear']:5.2f} times", flush=True)


def make_blocks():
    torch.manual_seed(0)
    block = Block(LLAMA_3_8B).cuda().half().eval().requires_grad_(False)
    return {"FP16": block, "INT8": quantize_linears_(copy.deepcopy(block)), "INT8 fused": FusedInt8Block(block)}


def relative(y, want):
    return ((y - want).float().norm() / want.float().norm()).item()


def compare_blocks(what, blocks, arguments, repeats=4):
    """Prints the time of one of `repeats` blocks after one another, as a model has them: compiled whole, one graph."""
    x, *rest = arguments
    change = blocks["FP16"](*arguments) - x
    for mode, option in MODES.items():
        torch.compiler.reset()
        sides = {}
        for name, block in blocks.items():
            assert relative(block(*arguments) - x, change) < 0.1, (what, name)

            def several(y, *rest, block=block):
                for _ in range(repeats):
                    y = block(y, *rest)
                return y

            call = several if option is None else torch.compile(several, mode=option, fullgraph=True)
            for _ in range(3):
                found = call(*arguments).clone()
            assert relative(found, several(*arguments)) < 0.1, (what, mode, name)
            sides[name] = functools.partial(call, *arguments)
        us = in_turns(sides, 4)[0]
        print(f"{what:12} {mode:16}", *(f"{name} {t / repeats:7.0f} us ({us['FP16'] / t:4.2f})" for name, t in us.items()),
              flush=True)


@torch.no_grad()
def decode():
    blocks, config = make_blocks(), LLAMA_3_8B
    for batch in (1, 16, 64):
        past = [randn(batch, config.kv_heads, 2048, config.head_dim) for _ in range(2)]
        for kept in past:
            torch._dynamo.mark_static_address(kept)  # or reduce-overhead keeps out of a graph what writes to it
        turn = rotation(config, torch.tensor([2047], device="cuda"))
        compare_blocks(f"decode {batch}", blocks, (randn(batch, 1, config.dim), turn, tuple(past)))


@torch.no_grad()
def prefill():
    turn = rotation(LLAMA_3_8B, torch.arange(2048, device="cuda"))
    compare_blocks("prefill 2048", make_blocks(), (randn(1, 2048, LLAMA_3_8B.dim), turn))


def operands(K, N):
    x, w = randn(M, K), randn(N, K)
    return x, w, *quantize_int8_perrow(x), *quantize_int8_perrow(w)


def over_cublas(x, w, sides, repeats):
    times = time_us({"cuBLAS": lambda: F.linear(x, w), **sides}, CudaGPU(), repeats)
    us = {name: statistics.median(found) for name, found in times.items()}
    return {name: us["cuBLAS"] / t for name, t in us.items() if name != "cuBLAS"}


@torch.no_grad()
def order(shapes=SHAPES, groups=(2, 3, 4, 5, 6, 8, 10, 12, 16, 24)):
    from kernels.configs import tiles
    from kernels.hopper_gemm import INT8_CONFIG, hopper_gemm

    for K, N in shapes:
        x, w, x_q, x_scale, w_q, w_scale = operands(K, N)
        y, tile = torch.empty(M, N, device="cuda", dtype=torch.float16), INT8_CONFIG.kwargs
        want = perrow_w8a8_matmul(x_q, x_scale, w_q, w_scale)
        sides = {"as chosen": lambda a=(x_q, x_scale, w_q, w_scale): perrow_w8a8_matmul(*a)}
        for rows in groups:
            config = tiles(tile["BLOCK_M"], tile["BLOCK_N"], tile["BLOCK_K"], GROUP_M=rows,
                           num_warps=INT8_CONFIG.num_warps, num_stages=INT8_CONFIG.num_stages)
            sides[str(rows)] = lambda a=(x_q, w_q, y, x_scale, w_scale, None), c=config: hopper_gemm(*a, config=c)
            assert torch.equal(sides[str(rows)](), want)
        gain = over_cublas(x, w, sides, 25)
        print(f"order K {K:6} N {N:6}:", *(f"{name} {value:4.2f}" for name, value in gain.items()), flush=True)


@torch.no_grad()
def whole():
    for K, N in SHAPES:
        x, w, _, _, w_q, w_scale = operands(K, N)
        assert relative(matmul_int8(x, w_q, w_scale), F.linear(x, w)) < 0.03
        gain = over_cublas(x, w, {"matmul_int8": lambda a=(x, w_q, w_scale): matmul_int8(*a)}, 40)
        print(f"whole K {K:6} N {N:6}: matmul_int8 {gain['matmul_int8']:4.2f} of cuBLAS FP16", flush=True)


@torch.no_grad()
def devices():
    if torch.cuda.device_count() < 2:
        print("devices: there is one GPU here, so nothing was tried")
        return
    torch.manual_seed(0)
    linears = [torch.nn.Linear(1024, 1024, dtype=torch.float16) for _ in range(2)]
    for rows in (1, 16, 100, 300, 2048):
        x, found = torch.randn(rows, 1024, dtype=torch.float16), []
        for current, first, second in ((0, 1, 1), (0, 0, 1), (1, 0, 0), (0, 0, 0)):
            with torch.cuda.device(current):
                a, b = (Int8Linear.from_linear(copy.deepcopy(linear).to(f"cuda:{index}"))
                        for linear, index in zip(linears, (first, second), strict=True))
                found += [b(a(x.to(f"cuda:{first}")).to(f"cuda:{second}")).cpu() for _ in range(2)]
        assert all(torch.equal(y, found[0]) for y in found), rows
    print("devices: cuda:0 and cuda:1 give the same bits, together and alone")


PARTS = {"devices": devices, "host": host, "decode": decode, "prefill": prefill, "order": order, "whole": whole}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    card = torch.cuda.get_device_properties()
    print(f"{card.name}, {card.multi_processor_count} multiprocessors, L2 {card.L2_cache_size / 2**20:.0f} MiB")
    for name in parser.parse_args().only:
        PARTS[name]()


if __name__ == "__main__":
    main()
