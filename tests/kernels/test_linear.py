"""Int8Linear and its operators: right values, and nothing lost between state_dict, torch.compile and a whole model."""

import copy
import importlib.metadata
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kernels.linear import HOOKS, Int8Linear, quantize_linears_
from kernels.operators import (
    matmul_int8_op,
    perrow_w8a8_matmul_op,
    rmsnorm_quantize_int8_op,
    silu_mul_quantize_int8_op,
)
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import device


def linear(K, N, bias=True, dtype=torch.float16, seed=0):
    torch.manual_seed(seed)
    return torch.nn.Linear(K, N, bias=bias).to(device(), dtype)


def inputs(*shape, dtype=torch.float16):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype).to(device())


@torch.no_grad()
def assert_close_to(layer, reference, x):
    """The layer is the reference but for what rounding weights and activations to codes may do.

    A code is at most half a scale off (and 2⁻²⁰ for the FP32 division): with e_x and e_w so bounded,
    |Δy| ≤ Σ (|x| e_w + |w| e_x + e_x e_w); then scaling and bias in FP32, and one rounding on our side.
    """
    y = layer(x)
    rows, w = x.reshape(-1, x.shape[-1]).double(), reference.weight.double()
    want = rows @ w.T + (0 if reference.bias is None else reference.bias.double())
    e_x = (0.5 + 2**-20) * rows.abs().amax(1, keepdim=True) / 127
    e_w = (0.5 + 2**-20) * w.abs().amax(1, keepdim=True) / 127
    bound = rows.abs().sum(1, keepdim=True) * e_w.T + e_x * w.abs().sum(1) + w.shape[1] * e_x * e_w.T
    half_unit = 2**-11 if y.dtype is torch.float16 else 2**-7  # BF16: a whole one, for the interpreter cuts off
    bound = bound + (half_unit + 4 * 2**-24) * (want.abs() + bound)
    assert y.shape == (*x.shape[:-1], w.shape[0]) and y.dtype == x.dtype
    assert ((y.reshape(want.shape).double() - want).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape, bias", [((64,), True), ((1, 64), False), ((2, 3, 64), True), ((5, 1, 2, 64), False),
                                         ((70, 64), True)])
def test_any_leading_dimensions(shape, bias, dtype):
    reference = linear(64, 40, bias, dtype)
    assert_close_to(Int8Linear.from_linear(reference), reference, inputs(*shape, dtype=dtype))


def test_rows_that_are_not_contiguous():
    reference = linear(64, 40)
    layer = Int8Linear.from_linear(reference)
    for x in (inputs(64, 6).T, inputs(3, 64, 4).transpose(1, 2), inputs(6, 80)[:, 3:67], inputs(1, 64).expand(5, 64)):
        assert_close_to(layer, reference, x)
        assert torch.equal(layer(x), layer(x.contiguous()))


def test_the_state_survives_saving_and_loading(tmp_path):
    layer = Int8Linear.from_linear(linear(64, 40))
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    state = torch.load(tmp_path / "layer.pt", weights_only=True)
    assert {name: value.dtype for name, value in state.items()} == {
        "weight_q": torch.int8, "weight_scale": torch.float32, "bias": torch.float16}
    empty = Int8Linear(64, 40)
    empty.load_state_dict(state)
    x = inputs(3, 64)
    assert torch.equal(empty(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert "bias" not in Int8Linear(64, 40, bias=False).state_dict()


@pytest.mark.parametrize("change", [torch.nn.Module.half, torch.nn.Module.bfloat16, lambda m: m.to(torch.float16)])
def test_casting_the_model_keeps_the_scales_in_fp32(change):
    layer = Int8Linear.from_linear(linear(64, 40, dtype=torch.bfloat16))
    scale = layer.weight_scale.clone()
    change(layer)
    assert layer.weight_scale.dtype == torch.float32 and torch.equal(layer.weight_scale, scale)
    assert layer.weight_q.dtype == torch.int8


class Block(torch.nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.norm = torch.nn.RMSNorm(width)
        self.up = torch.nn.Linear(width, 2 * width)
        self.down = torch.nn.Linear(2 * width, width, bias=False)
        self.again = self.down
        self.head = torch.nn.Linear(width, width)

    def forward(self, x):
        return self.head(x + self.down(torch.nn.functional.silu(self.up(self.norm(x)))))


def block():
    torch.manual_seed(0)
    return Block().to(device(), torch.float16).eval()


def test_the_linears_of_a_model_are_replaced_in_place():
    model = block()
    assert quantize_linears_(model, skip=("head",)) is model
    assert type(model.up) is type(model.down) is Int8Linear
    assert model.again is model.down
    assert type(model.head) is torch.nn.Linear
    assert not model.up.training
    nested = torch.nn.Sequential(block(), block())
    quantize_linears_(nested, skip=["0.up"])
    assert [type(nested[i].up) is Int8Linear for i in (0, 1)] == [False, True]


def test_hooks_stay_and_can_still_be_removed():
    model = block()
    seen = []
    model.up.register_forward_pre_hook(lambda module, args: seen.append(type(module)))
    added = model.up.register_forward_hook(lambda module, args, kwargs, y: y + 1, with_kwargs=True)
    quantize_linears_(model)
    x = inputs(3, 64)
    plain = Int8Linear.forward(model.up, x)
    assert torch.equal(model.up(x), plain + 1) and seen == [Int8Linear]
    added.remove()
    assert torch.equal(model.up(x), plain)


@pytest.mark.parametrize("register, options", [
    ("register_forward_pre_hook", {}), ("register_forward_pre_hook", {"with_kwargs": True}), ("register_forward_hook", {}),
    ("register_forward_hook", {"with_kwargs": True}), ("register_forward_hook", {"always_call": True})])
def test_every_kind_of_hook_stays(register, options):
    model, seen = torch.nn.Sequential(linear(8, 8)), []
    getattr(model[0], register)(lambda module, *given: seen.append((type(module), len(given))), **options)
    model(x := inputs(3, 8))
    quantize_linears_(model)(x)
    assert [given for _, given in seen] == [seen[0][1]] * 2 and seen[1][0] is Int8Linear
    assert set(HOOKS) == {name for name in vars(torch.nn.Linear(1, 1)) if name.startswith("_forward") and "hooks" in name}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_weight_of_a_hook_is_not_taken_before_it_is_computed():
    model, trained = (torch.nn.Sequential(torch.nn.utils.weight_norm(linear(64, 32, seed=seed))) for seed in (0, 1))
    model.load_state_dict(trained.state_dict())  # model[0].weight is still the old one
    x = inputs(4, 64)
    want = trained(x)
    assert torch.equal(quantize_linears_(model)(x), want)
    with pytest.raises(ValueError, match="linear.weight is computed before each call.*remove_weight_norm"):
        Int8Linear.from_linear(model[0])
    torch.nn.utils.remove_weight_norm(model[0])
    assert type(quantize_linears_(model)[0]) is Int8Linear


def test_a_model_is_converted_whole_or_not_at_all():
    model = torch.nn.Sequential(linear(8, 8), linear(8, 8, dtype=torch.float32))
    with pytest.raises(TypeError, match="^1.weight must be .* got .* float32"):
        quantize_linears_(model)
    assert type(model[0]) is torch.nn.Linear
    model = torch.nn.Sequential(linear(8, 8), linear(8, 8))
    model[1].forward = lambda x: x
    with pytest.raises(ValueError, match="^1.forward was replaced in this one layer"):
        quantize_linears_(model)
    assert type(model[0]) is torch.nn.Linear


def test_a_name_to_skip_is_not_read_letter_by_letter():
    model = torch.nn.Sequential(linear(8, 8), linear(8, 8))
    with pytest.raises(TypeError, match=r"skip must be a collection of names, got the text '10': write skip=\('10',\)"):
        quantize_linears_(model, skip="10")
    assert type(model[0]) is torch.nn.Linear


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
def test_pytorchs_encoder_works_after_conversion(padded):
    """Its fast path in inference reads the weights of layers that it does not call."""
    layer = torch.nn.TransformerEncoderLayer(64, 4, 96, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 2).to(device(), torch.float16).eval()
    x, padding = inputs(2, 5, 64), torch.zeros(2, 5, dtype=torch.bool, device=device())
    padding[1, 3:] = padded
    arguments = {"src_key_padding_mask": padding} if padded else {}
    kept = ~padding
    want = model(x, **arguments)[kept].float()
    got = quantize_linears_(model)(x, **arguments)[kept].float()
    assert type(model.layers[0].linear1) is Int8Linear
    assert (got - want).norm() < 0.03 * want.norm()


def test_threads_may_call_one_layer():
    layer, x = Int8Linear.from_linear(linear(64, 64)), inputs(4, 64)
    want = layer(x)
    with ThreadPoolExecutor(4) as threads:
        assert all(torch.equal(y, want) for y in threads.map(lambda _: layer(x), range(60)))


def test_replacing_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"skip must hold names of linear layers, got \['haed'\]"):
        quantize_linears_(block(), skip=("haed",))
    with pytest.raises(TypeError, match="use Int8Linear.from_linear"):
        quantize_linears_(linear(8, 8))
    with pytest.raises(TypeError, match="linear.weight must be .* got .* float32"):
        Int8Linear.from_linear(linear(8, 8, dtype=torch.float32))
    with pytest.raises(ValueError, match="linear must be on .* got meta"):
        Int8Linear.from_linear(torch.nn.Linear(8, 8, device="meta"))
    with pytest.raises(ValueError, match=r"x must be \(..., 64\)"):
        Int8Linear.from_linear(linear(64, 8))(inputs(3, 63))


@torch.no_grad()
@pytest.mark.parametrize("dynamic, lengths", [(False, (3,)), (True, (2, 70))])
def test_compiled_whole_it_gives_the_same_bits(dynamic, lengths):
    model = quantize_linears_(block())
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for tokens in lengths:
        x = inputs(2, tokens, 64)
        assert torch.equal(compiled(x), model(x))


def test_a_compiled_model_gets_gradients_elsewhere_but_not_ours():
    model = torch.nn.Sequential(torch.nn.Embedding(10, 64), torch.nn.Linear(64, 40)).to(device(), torch.float16)
    quantize_linears_(model)
    ids = torch.tensor([1, 2, 3], device=device())
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for run in (model, compiled):
        y = run(ids)
        assert y.requires_grad and torch.equal(y, model(ids))
        with pytest.raises(RuntimeError, match="has no derivative. Call the model under torch.no_grad"):
            y.sum().backward()
    with torch.no_grad():
        assert not model(ids).requires_grad


@torch.no_grad()
def test_a_number_of_rows_known_only_when_they_come():
    layer = Int8Linear.from_linear(linear(64, 40))
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        run = torch.compile(lambda x, mask: layer(x[mask]), backend="aot_eager", fullgraph=True)
        x = inputs(4, 64)
        for mask in ([True, False, True, True], [False] * 4):
            mask = torch.tensor(mask, device=device())
            assert torch.equal(run(x, mask), layer(x[mask]))


@torch.no_grad()
def test_a_model_of_ours_is_exported():
    model = quantize_linears_(block())
    rows = torch.export.Dim("rows", min=1, max=300)
    exported = torch.export.export(model, (inputs(3, 64),), dynamic_shapes=({0: rows},))
    for M in (1, 3, 140):
        assert torch.equal(exported.module()(inputs(M, 64)), model(inputs(M, 64)))


@torch.no_grad()
def test_the_operators_keep_torchs_contract():
    x, w = inputs(3, 64), inputs(40, 64)
    for bias in (None, inputs(40)):
        torch.library.opcheck(matmul_int8_op, (x, *quantize_int8_perrow(w), bias))
        torch.library.opcheck(perrow_w8a8_matmul_op, (*quantize_int8_perrow(x), *quantize_int8_perrow(w)))
    torch.library.opcheck(rmsnorm_quantize_int8_op, (x, w[0]))
    torch.library.opcheck(silu_mul_quantize_int8_op, (x, x))


def test_a_wrong_shape_is_refused_while_tracing():
    with torch.device("meta"):
        x, w_q, w_scale = torch.empty(3, 63).half(), torch.empty(40, 64).to(torch.int8), torch.empty(40)
    with pytest.raises(ValueError, match=r"x must be \(..., 64\) .* got \(3, 63\)"):
        matmul_int8_op(x, w_q, w_scale)
    with pytest.raises(ValueError, match=r"w_scale must be \(40,\)"):
        matmul_int8_op(w_q.half(), w_q, w_scale[:39])


def test_no_installed_distribution_is_called_kernels():
    """`transformers` asks for the distribution `kernels`, another library, and would take ours for it."""
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("kernels")
    assert importlib.metadata.version("int8-matmul-workshop")


def test_transformers_imports_beside_our_kernels():
    """`transformers` looks for a library named `kernels`, which ours is not: it must not fall over it."""
    transformers = pytest.importorskip("transformers")
    assert hasattr(sys.modules["kernels"], "runtime")
    assert transformers.LlamaConfig and transformers.LlamaForCausalLM  # which it imports where they are asked for


def test_scales_go_with_the_weight_and_stay_fp32():
    layer = Int8Linear.from_linear(torch.nn.Linear(32, 16).half().to(device())).to("meta", torch.bfloat16)
    assert {value.device.type for value in layer.buffers()} == {"meta"}
    assert layer.weight_scale.dtype == torch.float32


def test_the_operator_takes_part_of_a_wider_matrix():
    wide, w_q = (torch.randint(-127, 128, shape, dtype=torch.int8, device=device()) for shape in ((4, 64), (16, 32)))
    x_scale, w_scale = (torch.rand(size, device=device()) for size in (4, 16))
    part = wide[:, 32:]
    assert torch.equal(perrow_w8a8_matmul_op(part, x_scale, w_q, w_scale),
                       perrow_w8a8_matmul_op(part.contiguous(), x_scale, w_q, w_scale))
