"""What `bench --ranks` measures, part by part: each a function that all ranks run together, on a GPU each.

A part gives rows: what was timed (`function`), on how many GPUs, at which M, N and K; microseconds where there are GPUs.
What is timed is checked first: results with a shared scale must have the bits of one GPU. What is wrong or cannot be
captured in a CUDA graph has a row with the reason, `failed`, and no time.
"""

import contextlib
import copy
import functools
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from checks.bench.rank_timing import Captured, TogetherGPU, gpu_of, times
from kernels import transformer
from kernels.collectives import ring_all_reduce_bytes
from kernels.exchange import Group, PeerMemory
from kernels.linear import Int8Linear
from kernels.operators import quantize_rows, silu_mul_quantize_int8_op
from kernels.parallel import RowParallelInt8Linear, RowParallelLinear, parallelize_
from kernels.parts import finish, multiply_into, part_amax, quantize_with_amax, sums_into
from kernels.row_parallel import part
from kernels.runtime import device
from kernels.transformer import LLAMA_3_8B, Block, Config, FusedInt8Block, Past, rotation

SMALL = Config(vocabulary=256, layers=1, dim=64, heads=4, kv_heads=2, hidden=96)
"""For ranks without GPUs, where kernels are interpreted."""
ROWS, SMALL_ROWS = (1, 4, 16, 64, 256, 1024, 4096, 8192), (1, 3)
PEER_BYTES = 1 << 28  # 8,192 rows in INT32 have half of it
ALONE = " on 1"
WORST = 0.1  # relative error of INT8 against FP16, above which a time does not count


class WrongOnRanks(AssertionError):
    """A result that is not what it must be; the message says where."""


Calls = dict[str, Callable[[], torch.Tensor]]
"""What is timed, by its name: on one GPU where that ends with "on 1"."""


@dataclass
class Setting:
    """What the parts work with: the ranks, the model's shape, the numbers of rows, and what times."""

    group: Group
    config: Config
    rows: tuple[int, ...]
    gpu: TogetherGPU | None

    def measured(self, calls: Calls, check: Callable[[str, torch.Tensor], None], graphs: bool = True,
                 **place: Any) -> list[dict]:
        """Each call's result checked, and all timed in turns: a row for each, with `place` in it.

        They are captured in CUDA graphs, or, where each is one launch, just queued behind other work: a graph of its own
        begins with some microseconds that a launch within one does not have.
        """
        sides, rows = {}, []
        for name, call in calls.items():
            reason = ""
            try:
                sides[name] = Captured(call, self.gpu if graphs else None)
                check(name, sides[name]().clone())
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"[:1000]
            if self.group.all_reduce(torch.tensor([int(bool(reason))], device=device()), "max").item():
                sides.pop(name, None)
                rows.append(self._row(name, place, {"failed": reason or "it failed on another rank"}))
        found = times(sides, self.group, self.gpu, {name for name in sides if name.endswith(ALONE)})
        return rows + [self._row(name, place, us) for name, us in found.items()]

    def _row(self, name: str, place: dict, found: dict) -> dict:
        gpus = 1 if name.endswith(ALONE) else self.group.size
        return {"function": name.removesuffix(ALONE), "gpus": gpus, **place, **found}


def setting(group: Group, small: bool) -> Setting:
    """That of a part which begins: what the one before has captured, compiled and allocated is dropped."""
    if not small:
        gc.collect()
        torch.compiler.reset()
        torch.cuda.empty_cache()
    config, rows = (SMALL, SMALL_ROWS) if small else (LLAMA_3_8B, ROWS)
    return Setting(group, config, rows, gpu_of(group))


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    """The same random numbers on all ranks."""
    return torch.randn(*shape, generator=torch.Generator(device()).manual_seed(seed), device=device(), dtype=torch.float32
                       ).to(dtype)


def close(name: str, got: torch.Tensor, want: torch.Tensor, worst: float = WORST) -> None:
    error = ((got.float() - want.float()).norm() / want.float().norm()).item()
    if not error < worst:
        raise WrongOnRanks(f"{name} is off by {error:.3f} of what it must be, at most {worst} was expected")


def same_bits(name: str, got: torch.Tensor, want: torch.Tensor) -> None:
    if not torch.equal(got, want):
        raise WrongOnRanks(f"{name} differs from one GPU's bits in {int((got != want).sum())} of {got.numel()} numbers")


def sqnr_db(got: torch.Tensor, exact: torch.Tensor) -> float:
    """Signal over noise of `got`, in decibels."""
    noise = (got.double() - exact.double()).square().sum()
    return (10 * torch.log10(exact.double().square().sum() / noise)).item()


@torch.no_grad()
def link(group: Group, small: bool = False) -> list[dict]:
    """Each exchange by itself: all-reduce of M rows of the model's width in FP16 and in INT32, of M floats, and by peers."""
    given, rows = setting(group, small), []
    N, peers = given.config.dim, None if small else PeerMemory(group, PEER_BYTES)
    for M in (*given.rows, *(() if small else (16384,))):
        tensors = {"all-reduce FP16": randn(M, N), "all-reduce INT32": randn(M, N).int(),
                   "all-reduce FP32": randn(M, N, dtype=torch.float32), "maximum of M floats": randn(M, dtype=torch.float32)}
        calls: Calls = {name: functools.partial(group.all_reduce, t, "max" if "max" in name else "sum")
                        for name, t in tensors.items()}
        if peers is not None:
            for kind in ("FP16", "INT32"):
                calls[f"peers {kind}"] = functools.partial(by_peers, peers, tensors[f"all-reduce {kind}"])
        for row in given.measured(calls, lambda name, result: None, False, part="link", M=M, N=N):
            name = row["function"]
            row["sent_bytes"] = ring_all_reduce_bytes(tensors[name.replace("peers", "all-reduce")].nbytes, group.size)
            if "peers" in name:  # which did it twice
                row |= {key: us / 2 for key, us in row.items() if key.endswith("_us")}
            rows.append(row)
    return rows


def by_peers(peers: PeerMemory, tensor: torch.Tensor) -> torch.Tensor:
    """The sum through peer memory of what lies there already: twice, so that the buffers take turns."""
    shape, exact = tuple(tensor.shape), tensor.dtype == torch.int32
    scales = (torch.ones(len(tensor), device=tensor.device), torch.ones(shape[1], device=tensor.device)) if exact else None
    for buffer in (0, 1):
        result = finish(peers.meet(buffer, shape, tensor.dtype), scales, None, None, torch.float16)
    return result


@torch.no_grad()
def products(group: Group, small: bool = False) -> list[dict]:
    """The row-parallel product `down` on one GPU and on all, in FP16 and INT8, its accuracy, and what its steps take."""
    given, rows = setting(group, small), []
    N, K = given.config.dim, given.config.hidden
    linear = torch.nn.Linear(K, N, bias=False, device="meta")
    linear.weight = torch.nn.Parameter(randn(N, K) / K**0.5, requires_grad=False)
    whole, fp16 = Int8Linear.from_linear(linear), RowParallelLinear(linear, group)
    cut = {"INT8, shared scale": RowParallelInt8Linear.from_linear(linear, group),
           "INT8, own scales": RowParallelInt8Linear.from_linear(linear, group, scales="own"),
           "INT8, own scales, FP32 exchange": RowParallelInt8Linear.from_linear(linear, group, "own", torch.float32)}
    for M in given.rows:
        x = randn(M, K, seed=1)
        mine = x[:, part(K, group)].contiguous()
        calls: Calls = {"FP16 on 1": functools.partial(linear, x), "INT8 on 1": functools.partial(whole, x),
                        "FP16": functools.partial(fp16, mine),
                        **{name: functools.partial(layer, mine) for name, layer in cut.items()}}
        exact, one = x.float() @ linear.weight.float().T, whole(x)
        place: dict[str, Any] = {"M": M, "N": N, "K": K}
        accuracy: dict[tuple[str, int], float] = {}

        def check(name: str, result: torch.Tensor, exact=exact, one=one, accuracy=accuracy) -> None:
            close(name, result, exact)
            accuracy[name.removesuffix(ALONE), 1 if name.endswith(ALONE) else group.size] = sqnr_db(result, exact)
            if name == "INT8, shared scale":
                same_bits(name, result, one)

        rows += [row | {"sqnr_db": accuracy.get((row["function"], row["gpus"]))}
                 for row in given.measured(calls, check, part="product", **place)]
        rows += given.measured(steps_of(group, linear, cut, mine), lambda name, result: None, False, part="step", **place)
    return rows


def steps_of(group: Group, linear: torch.nn.Linear, cut: dict[str, RowParallelInt8Linear], x: torch.Tensor) -> Calls:
    """The steps of the row-parallel product, each by itself: quantization, product, exchange."""
    own, shared = cut["INT8, own scales"], cut["INT8, shared scale"]
    M, N = len(x), linear.out_features
    x_q, x_scale = quantize_rows(x)
    weight = linear.weight[:, part(linear.in_features, group)].contiguous()
    amax = part_amax(x)
    y, sums = x.new_zeros((M, N)), x.new_zeros((M, N), dtype=torch.int32)
    return {
        "FP16: product": lambda: F.linear(x, weight),
        "FP16: exchange": lambda: group.all_reduce(y),
        "INT8, own scales: quantization": lambda: quantize_rows(x)[0],
        "INT8, own scales: product": lambda: multiply_into(y, x_q, x_scale, own.weight_q, own.weight_scale),
        "INT8, shared scale: quantization": lambda: quantize_with_amax(x, None, [part_amax(x)])[0],
        "INT8, shared scale: exchange of maxima": lambda: group.all_reduce(amax, "max"),
        "INT8, shared scale: product": lambda: sums_into(sums, x_q, shared.weight_q),
        "INT8, shared scale: exchange": lambda: group.all_reduce(sums),
        "INT8, shared scale: scaling": lambda: finish([sums], (x_scale, shared.weight_scale), None, None, x.dtype),
    }


@torch.no_grad()
def mlps(group: Group, small: bool = False) -> list[dict]:
    """The pair of an MLP, column then row, from x to y: on one GPU and on all, in FP16 and INT8."""
    given, rows = setting(group, small), []
    dim, hidden = given.config.dim, given.config.hidden
    gate_up = randn(2 * hidden, dim) / dim**0.5
    down = torch.nn.Linear(hidden, dim, bias=False, device="meta")
    down.weight = torch.nn.Parameter(randn(dim, hidden, seed=1) / hidden**0.5, requires_grad=False)
    mine = part(hidden, group)
    gate_up_mine = torch.cat([half[mine] for half in gate_up.chunk(2)])
    parts: dict[str, tuple[torch.Tensor, Any, torch.nn.Module]] = {"on 1": (gate_up, Int8Linear.from_linear(down), down),
             **{scales: (gate_up_mine, RowParallelInt8Linear.from_linear(down, group, scales=scales),
                         RowParallelLinear(down, group)) for scales in ("shared", "own")}}
    layers = {name: (int8_of(first), first, second, fp16) for name, (first, second, fp16) in parts.items()}
    far = parts["shared"][1], parts["own"][1], parts["own"][2]
    near = None if small else [layer_by_peers(layer, group) for layer in far]
    names = {"on 1": "INT8 on 1", "shared": "INT8, shared scale", "own": "INT8, own scales"}
    for M in given.rows:
        x = randn(M, dim, seed=2)
        calls: Calls = {names[name]: functools.partial(int8_mlp, x, first, second)
                        for name, (first, _, second, _) in layers.items()}
        for name, how in (("FP16 on 1", "on 1"), ("FP16", "own")):
            calls[name] = functools.partial(fp16_mlp, x, layers[how][1], layers[how][3])
        if near is not None:  # the ranks meet between two timed calls, so one buffer is enough
            calls["FP16, peers"] = functools.partial(fp16_mlp, x, gate_up_mine, near[2])
            for place, name in enumerate(("INT8, shared scale, peers", "INT8, own scales, peers")):
                calls[name] = functools.partial(int8_mlp, x, layers["own"][0], near[place])
        rows += given.measured(calls, against(calls["FP16 on 1"](), calls["INT8 on 1"]()), part="mlp", M=M, N=dim, K=hidden)
    return rows


def against(fp16: torch.Tensor, int8: torch.Tensor, base: torch.Tensor | None = None) -> Callable[[str, torch.Tensor], None]:
    """The check that a result, or its difference from `base`, is near FP16's, and with a shared scale has one GPU's bits."""
    base = torch.zeros_like(fp16) if base is None else base

    def check(name: str, result: torch.Tensor) -> None:
        close(name, result.float() - base, fp16.float() - base)
        if name.startswith("INT8, shared scale"):
            same_bits(name, result, int8)

    return check


def layer_by_peers(layer: Any, group: Group) -> Any:
    """The same layer, which exchanges through peer memory."""
    other = copy.copy(layer)
    other.group = Group(group)
    other.group.peers = PeerMemory(other.group, PEER_BYTES)
    return other


def int8_of(weight: torch.Tensor) -> Int8Linear:
    N, K = weight.shape
    linear = torch.nn.Linear(K, N, bias=False, device="meta")
    linear.weight = torch.nn.Parameter(weight, requires_grad=False)
    return Int8Linear.from_linear(linear)


def int8_mlp(x: torch.Tensor, gate_up: Int8Linear, down: Int8Linear | RowParallelInt8Linear) -> torch.Tensor:
    gate, up = gate_up(x).chunk(2, dim=-1)
    if isinstance(down, RowParallelInt8Linear):
        return down._run(gate, up, None, down.group.peers)
    h_q, h_scale = silu_mul_quantize_int8_op(gate, up)
    return multiply_into(x.new_empty((len(x), down.out_features)), h_q, h_scale, down.weight_q, down.weight_scale)


def fp16_mlp(x: torch.Tensor, gate_up: torch.Tensor, down: torch.nn.Module) -> torch.Tensor:
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return down(F.silu(gate) * up)


def workload(config: Config, M: int, prefill: bool, length: int) -> tuple[torch.Tensor, torch.Tensor, Past | None]:
    """(x, turn, past of all heads): one sequence of M tokens, or one token of each of M sequences."""
    x = randn(1 if prefill else M, M if prefill else 1, config.dim, seed=3)
    turn = rotation(config, torch.arange(0 if prefill else length - 1, M if prefill else length, device=device()))
    if prefill:
        return x, turn, None
    shape = M, config.kv_heads, length, config.head_dim
    return x, turn, (randn(*shape, seed=4), randn(*shape, seed=5))


@torch.no_grad()
def block(group: Group, phase: str, M: int, small: bool = False) -> list[dict]:
    """The whole block on one GPU and on all: FP16, INT8 with fewer passes; with shared and own scales, exchanged by the
    process group, through peer memory, and overlapped with the product (prefill).

    In how many parts torch's attention reads a long cache depends on how many heads there are, and its bits on that. Where
    those of a rank's heads differ from one GPU's, one GPU attends to each rank's heads by themselves, to compare with.
    """
    given = setting(group, small)
    config, length = given.config, 8 if small else 2048
    torch.manual_seed(0)
    fp16 = Block(config).to(device(), torch.float16).eval().requires_grad_(False)
    int8 = FusedInt8Block(fp16)
    x, turn, past = workload(config, M, phase == "prefill", length)
    heads = part(config.kv_heads, group)
    past_mine = None if past is None else (past[0][:, heads].contiguous(), past[1][:, heads].contiguous())
    blocks: dict[str, torch.nn.Module] = {"FP16 on 1": fp16, "INT8 on 1": int8}
    by_phase = {"decode": {", peers": {"peer_bytes": PEER_BYTES}},
                "prefill": {", peers": {"peer_bytes": PEER_BYTES}, ", overlapped": {"pieces": 4}}}
    variants: dict[str, dict[str, Any]] = {"": {}, **({} if small else by_phase[phase])}
    for more, options in variants.items():
        if "overlapped" not in more:
            blocks["FP16" + more] = parallelize_(copy.deepcopy(fp16), group, **options)
    for scales, name in (("shared", "INT8, shared scale"), ("own", "INT8, own scales")):
        for more, options in variants.items():
            if "overlapped" not in more or scales == "own":
                blocks[name + more] = parallelize_(copy.deepcopy(int8), group, scales=scales, **options)
    calls: Calls = {}
    for name, module in blocks.items():
        arguments = x, turn, past if name.endswith(ALONE) else past_mine
        calls[name] = functools.partial(module, *arguments)
        if not small and (name.startswith("FP16") or name == "INT8 on 1"):
            what = name[:4]
            compiled = torch.compile(module, dynamic=False)
            calls[f"{what}, compiled{name.removeprefix(what)}"] = functools.partial(compiled, *arguments)
    one = calls["INT8 on 1"]()
    with attention_by_parts(group.size):
        one_by_parts = calls["INT8 on 1"]()
    bits = "one GPU" if torch.equal(one, one_by_parts) else "one GPU, attention to each rank's heads by themselves"
    check = against(calls["FP16 on 1"](), one_by_parts, x)
    return given.measured(calls, check, part="block", phase=phase, M=M, N=config.dim, K=config.hidden, same_bits_as=bits)


@contextlib.contextmanager
def attention_by_parts(size: int) -> Iterator[None]:
    """In this block the transformer attends to as many parts of its heads, one after the other."""
    mixed = transformer.mixed

    def by_parts(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_causal: bool) -> torch.Tensor:
        parts = zip(q.chunk(size, dim=1), k.chunk(size, dim=1), v.chunk(size, dim=1), strict=True)
        return torch.cat([mixed(some_q, some_k, some_v, is_causal) for some_q, some_k, some_v in parts], dim=-1)

    transformer.mixed = by_parts
    try:
        yield
    finally:
        transformer.mixed = mixed
