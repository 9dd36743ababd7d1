"""The row-parallel layers with each option, as a rank runs them, beside what plain torch makes of the whole operands."""

import contextlib
import copy
import itertools
from unittest import mock

import torch
from rank_jobs import GatheredPeers, rows, same

from kernels.linear import Int8Linear
from kernels.parallel import RowParallelInt8Linear, RowParallelLinear, part

M, N, K = 3, 10, 24
OPTIONS = [  # scales, dtype of partial products, dtype, bias, whether what is cut is in INT8 already, pieces
    ("shared", None, torch.float16, True, False, 1), ("shared", None, torch.bfloat16, False, True, 1),
    ("own", None, torch.float16, True, False, 2), ("own", None, torch.bfloat16, True, True, 1),
    ("own", torch.float32, torch.float16, True, True, 1), ("own", torch.float32, torch.bfloat16, False, False, 3)]
METHODS = {  # what is given beside x: silu's second operand, a residual; whether peers may be asked
    "forward": (False, False, False), "forward_mlp": (True, False, False), "add_to": (False, True, True),
    "add_mlp_to": (True, True, True), "add_to_and_norm": (False, True, True)}


def amax(x, up=None, out=None):
    largest = hidden(x, up).abs().amax(1)
    return largest if out is None else out.copy_(largest)


def hidden(x, up):
    return x.float() if up is None else torch.nn.functional.silu(x.float()) * up.float()


def quantized(x, up=None, largest=None):
    h = hidden(x, up)
    scale = torch.stack(largest or [amax(x, up)]).amax(0).clamp(min=1e-9) / 127
    return (h / scale[:, None]).round().to(torch.int8), scale


def norm_codes(rows, weight, eps):
    return quantized(rows.float() * (rows.float().square().mean(1, keepdim=True) + eps).rsqrt() * weight.float())


def sums(x_q, w_q):
    return x_q.int() @ w_q.int().T


def product(x_q, x_scale, w_q, w_scale, bias, dtype):
    return finished([sums(x_q, w_q)], (x_scale, w_scale), bias, None, dtype)


def finished(parts, scales, bias, residual, dtype):
    y = sum(one if one.dtype == torch.int32 else one.float() for one in parts).float()
    y = y if scales is None else y * scales[0][:, None] * scales[1]
    y = (y if bias is None else y + bias.float()).to(dtype)
    return y if residual is None else y + residual


def finished_norm(parts, residual, weight, eps):
    y = finished(parts, None, None, residual, residual.dtype)
    return y, norm_codes(y, weight, eps)


IN_TORCH = {  # what each kernel that the layer calls does; the kernels themselves are tested in tests/kernels
    "part_amax": amax, "part_amax_op": amax, "quantize_rows": quantized, "quantize_int8_perrow_op": quantized,
    "silu_mul_quantize_int8": quantized, "silu_mul_quantize_int8_op": quantized, "quantize_with_amax": quantized,
    "quantize_with_amax_op": lambda x, up, largest: quantized(x, up, [largest]), "finish": finished,
    "rmsnorm_quantize_int8": norm_codes, "rmsnorm_quantize_int8_op": norm_codes, "finish_rmsnorm": finished_norm,
    "sums_into": lambda y, x_q, w_q: y.copy_(sums(x_q, w_q)), "int_sums_op": sums, "perrow_w8a8_matmul_op": product,
    "multiply_into": lambda y, x_q, x_scale, w_q, w_scale, bias: y.copy_(product(x_q, x_scale, w_q, w_scale, bias, y.dtype)),
    "quantize_and_multiply_into": lambda y, x, *weight: y.copy_(product(*quantized(x), *weight, y.dtype))}


@contextlib.contextmanager
def in_torch(compiled):
    """Without kernels, and as a compiler takes its way through the layers or not."""
    with (mock.patch.multiple("kernels.row_parallel", **IN_TORCH),
          mock.patch("kernels.linear.quantize_int8_perrow", quantized),
          mock.patch("torch.compiler.is_compiling", lambda: compiled)):
        yield


class CountedPeers(GatheredPeers):
    """They note the buffers that a rank wrote into, and have room for so many bytes in each."""

    def __init__(self, group, size_bytes):
        super().__init__(group)
        self.size_bytes, self.used = size_bytes, []

    def room(self, buffer, shape, dtype):
        made = super().room(buffer, shape, dtype)
        assert made.nbytes <= self.size_bytes
        self.used.append(buffer)
        return made


def linear(dtype, bias):
    torch.manual_seed(3)
    return torch.nn.Linear(K, N, bias=bias).to(dtype).requires_grad_(False)


def expected(given, scales, partial_dtype, x, up, residual):
    """From the whole operands; there is one part where the scales are shared."""
    total, dtype = 0, x.dtype
    size = 1 if scales == "shared" else 2
    for mine in (slice(rank * K // size, (rank + 1) * K // size) for rank in range(size)):
        q, scale = quantized(x[:, mine], None if up is None else up[:, mine])
        if isinstance(given, Int8Linear):
            w_q, w_scale = given.weight_q[:, mine], given.weight_scale
        else:
            w_q, w_scale = quantized(given.weight[:, mine])
        y = sums(q, w_q).float() * scale[:, None] * w_scale
        if given.bias is not None and mine.start == 0:
            y += given.bias.float()
        total += y if partial_dtype or size == 1 else y.to(dtype).float()
    y = total.to(dtype)
    return y if residual is None else y + residual


def options_of_int8(group, compiled):
    """What is wrong of each layer and method: [] where nothing is."""
    with in_torch(compiled):
        return [(method, room, *options, wrong)
                for options, method in itertools.product(OPTIONS, METHODS)
                for room in ((None, True, False) if options[1] is None else (None,))
                if (wrong := wrong_of_int8(group, compiled, options, method, room))]


def wrong_of_int8(group, compiled, options, method, room):
    """`room`: whether the peers have enough of it, None where there are no peers."""
    scales, partial_dtype, dtype, bias, quantized_before, pieces = options
    second, added, by_peers = METHODS[method]
    given = linear(dtype, bias)
    given = Int8Linear.from_linear(given) if quantized_before else given
    layer = RowParallelInt8Linear.from_linear(given, group, scales, partial_dtype)
    layer.turn, layer.pieces = 1, pieces
    least = M * N * (4 if scales == "shared" else 2)
    layer.group.peers = peers = None if room is None else CountedPeers(group, least if room else least - 1)

    x, up, residual = (rows(M, columns, dtype).nan_to_num(1) for columns in (K, K + 1, N))
    operands = {"residual": residual if added else None, "x": x, "up": up[:, 1:] if second else None}
    want = expected(given, scales, partial_dtype, **operands)
    for name in ("x", "up"):
        operands[name] = None if operands[name] is None else operands[name][:, part(K, group)].contiguous()
    before = copy.deepcopy(operands)
    norm = (torch.ones(N, dtype=dtype) * 2, 1e-2) if method == "add_to_and_norm" else ()
    got = getattr(layer, method)(*(one for one in operands.values() if one is not None), *norm)

    wrong = []
    if norm:
        got, codes = got
        wrong += [] if all(map(same, codes, norm_codes(want, *norm))) else ["codes"]
    wrong += [] if same(got, want) else ["result"]
    wrong += [name for name, one in operands.items() if one is not None and not same(one, before[name])]
    if peers is not None and peers.used != (([0, 1] if scales == "shared" else [1]) if by_peers and room and not compiled
                                            else []):
        wrong.append(f"buffers {peers.used} of the peers")
    return wrong


def gradients_of_int8(group, compiled):
    """The methods that do not refuse a gradient that nothing computes, or refuse where none is asked for."""
    failed = []
    for scales, method, peers, wanted in itertools.product(("shared", "own"), METHODS, (True, False), (True, False)):
        second, added, _ = METHODS[method]
        with in_torch(compiled):
            layer = RowParallelInt8Linear.from_linear(linear(torch.float16, True), group, scales)
            layer.group.peers = CountedPeers(group, 1 << 20) if peers else None
            x, up = (rows(M)[:, part(K, group)].contiguous().requires_grad_(wanted) for _ in range(2))
            operands = [*([rows(M, N)] if added else []), x, *([up] if second else []),
                        *([torch.ones(N), 1e-2] if method == "add_to_and_norm" else [])]
            got = getattr(layer, method)(*operands)
            with torch.no_grad():
                unasked = getattr(layer, method)(*operands)
        got, unasked = (y[0] if isinstance(y, tuple) else y for y in (got, unasked))
        try:
            got.sum().backward()
            said = ""
        except RuntimeError as error:
            said = str(error)
        if (got.requires_grad, unasked.requires_grad) != (wanted, False) or not said:
            failed.append((scales, method, peers, wanted, said))
    return failed


def options_of_floats(group):
    """The same of `RowParallelLinear`, of rows and of a batch of them."""
    failed = []
    for dtype, bias, room in itertools.product((torch.float16, torch.float32), (True, False), (None, 0, -1)):
        given, x = linear(dtype, bias), rows(6, dtype=dtype).nan_to_num(1).view(2, 3, K)
        layer = RowParallelLinear(given, group)
        layer.turn, least = 1, 6 * N * x.element_size()
        layer.group.peers = peers = None if room is None else CountedPeers(group, least + room)
        mine, others = (x[..., k] @ given.weight[:, k].T for k in (slice(K // 2), slice(K // 2, K)))
        want = mine.float() + others.float()
        want = want if room == 0 else want.to(dtype).float()  # what peers have is rounded once, with the bias
        want = (want + (given.bias.float() if bias else 0)).to(dtype)
        got = layer(x[..., part(K, group)])
        if not torch.allclose(got, want, rtol=2e-3, atol=1e-3) or got.dtype != dtype or got.shape != want.shape or (
                peers is not None and peers.used != ([1] if room == 0 else [])):
            failed.append((dtype, bias, room))
    return failed
