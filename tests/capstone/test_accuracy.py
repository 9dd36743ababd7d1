"""What quantization costs a model: the windows of text, each scheme's codes, and what a record holds."""

import copy
import json
import math

import pytest
import torch

from checks.capstone import accuracy, training
from checks.capstone.accuracy import Scheme
from kernels import error as kernel_error
from kernels.runtime import device
from kernels.transformer import Config, Transformer

CONFIG = Config(vocabulary=256, layers=1, dim=32, heads=2, kv_heads=1, hidden=48)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Transformer(CONFIG).half().to(device()).eval().requires_grad_(False)


@pytest.fixture
def rows():
    return (torch.arange(70 * 9) ** 2 % 256).reshape(70, 9)


def test_windows_share_one_token_and_leave_out_the_rest():
    assert training.windows(torch.arange(8), 4).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert training.windows(torch.arange(10), 4).tolist()[-1] == [6, 7, 8, 9]
    assert training.windows(torch.arange(300)).shape == (2, 128)


def test_perplexity_is_over_all_rows_however_they_are_split(model, rows):
    log_p = torch.cat([model(row[None].to(device()))[:, :-1].float().log_softmax(-1).cpu() for row in rows])
    picked = log_p.gather(-1, rows[:, 1:, None])
    assert accuracy.perplexity_of(model, rows) == pytest.approx(math.exp(-picked.mean()), rel=1e-3)


@torch.no_grad()
def test_logits_are_computed_once_for_a_state_of_the_weights(model, rows):
    given, scheme = rows[:2].to(device()), Scheme(4)
    first = accuracy.logits_of(model, scheme, given)
    assert accuracy.logits_of(model, scheme, given.clone()) is first
    for other, tokens in ((Scheme(5), given), (scheme, given.flip(0)), (scheme, given[:1])):
        assert torch.equal(accuracy.logits_of(model, other, tokens), accuracy.simulated(model, other)(tokens))
    assert torch.equal(accuracy.logits_of(model, None, given), model(given))
    model.lm_head.weight.mul_(2)
    assert torch.equal(accuracy.logits_of(model, scheme, given), accuracy.simulated(model, scheme)(given))
    assert not torch.equal(accuracy.logits_of(model, scheme, given), first)
    before = accuracy.logits_of(model, scheme, given)
    for weight in model.parameters():  # another tensor in its place, which was written to as often
        weight.data = weight.data.flip(0)
    assert torch.equal(accuracy.logits_of(model, scheme, given), accuracy.simulated(model, scheme)(given))
    assert not torch.equal(accuracy.logits_of(model, scheme, given), before)


def test_the_error_of_a_cost_is_that_of_a_mean():
    losses, differences = [1.0, 1.5, 2.0, 3.0], [0.001, 0.003, -0.001, 0.001]  # of standard deviation 0.001633
    fp16 = [math.exp(loss) for loss in losses]
    int8 = [math.exp(loss + more) for loss, more in zip(losses, differences, strict=True)]
    assert accuracy.standard_error_percent(int8, fp16) == pytest.approx(100 * 0.0016330 / 2, rel=1e-3)


def test_a_cost_is_a_percentage_above():
    assert accuracy.cost_percent(4.1, 4.0) == pytest.approx(2.5) and accuracy.cost_percent(3.9, 4.0) == pytest.approx(-2.5)


@pytest.mark.parametrize("scheme, name, codes, scales", [
    (Scheme(), "INT8 per row", [[127, -76], [0, 0], [64, 127]], [1.0, 0.0, 0.25]),
    (Scheme(truncate=True), "INT8 per row, truncated", [[127, -76], [0, 0], [63, 127]], [1.0, 0.0, 0.25]),
    (Scheme(4), "INT4 per row", [[7, -4], [0, 0], [4, 7]], [127 / 7, 0.0, 31.75 / 7]),
    (Scheme(per="tensor"), "INT8 per tensor", [[127, -76], [0, 0], [16, 32]], [1.0] * 3),
])
def test_a_scheme_s_codes_and_scales(scheme, name, codes, scales):
    x = torch.tensor([[127.0, -76.4], [0.0, 0.0], [15.9, 31.75]])
    found, scale = scheme.codes(x)
    assert scheme.name == name and found.tolist() == codes and scale.tolist() == pytest.approx(scales)


def test_one_scale_for_all_is_that_of_the_largest_magnitude():
    codes, scale = Scheme(per="tensor").codes(torch.tensor([[-254.0, 3.0], [2.0, 1.0]]))
    assert codes[0, 0] == -127 and scale.tolist() == [2.0, 2.0]


def test_a_layer_s_sqnr_is_of_its_own_output(model, rows):
    found = accuracy.layer_sqnr_db(model, Scheme(4), rows[:2])
    name, linear = next(iter(accuracy.linears(model).items()))
    inputs = []
    with linear.register_forward_hook(lambda _, given, __: inputs.append(given[0])):
        model(rows[:2].to(device()))
    (x,) = inputs
    output, quantized = linear(x), accuracy.SimulatedLinear(linear, Scheme(4))(x)
    assert found[name] == kernel_error.sqnr_db(output, quantized) != kernel_error.sqnr_db(quantized, output)
    assert not any(layer._forward_hooks for layer in accuracy.linears(model).values()), "nothing is left behind"


def test_the_schemes_that_are_measured():
    assert [s.name for s in accuracy.schemes()[:4]] == ["INT8 per row", "INT8 per row, truncated", "INT8 per tensor",
                                                        "INT7 per row"]
    assert {s.bits for s in accuracy.schemes()} == {4, 5, 6, 7, 8} and len(accuracy.schemes()) == 15


def test_a_simulated_layer_multiplies_its_codes():
    linear = torch.nn.Linear(4, 3, bias=False)
    x = torch.randn(2, 5, 4)
    made = accuracy.SimulatedLinear(linear, Scheme(6))
    (x_q, x_scale), (w_q, w_scale) = Scheme(6).codes(x.reshape(10, 4)), Scheme(6).codes(linear.weight)
    want = (x_q * x_scale[:, None]) @ (w_q * w_scale[:, None]).T
    assert torch.allclose(made(x), want.reshape(2, 5, 3), atol=1e-6) and made(x.half()).dtype == torch.float16


def tensors_of(module):
    """All tensors that a module and those in it hold, parameters or not."""
    return [value for part in module.modules() for value in (*vars(part).values(), *part._parameters.values(),
                                                             *part._buffers.values()) if isinstance(value, torch.Tensor)]


TRAINED = {  # what is made of a model whose weights are still being trained
    "a layer": lambda model: accuracy.SimulatedLinear(model.lm_head, Scheme(4)),
    "a layer, one scale": lambda model: accuracy.SimulatedLinear(model.lm_head, Scheme(8, "tensor")),
    "a layer, truncated": lambda model: accuracy.SimulatedLinear(model.lm_head, Scheme(truncate=True)),
    "a model": lambda model: accuracy.simulated(model, Scheme()),
    "a part of a model": lambda model: accuracy.simulated(model, Scheme(5), only=("blocks.0.mlp.up",)),
    "a model of two schemes": lambda model: accuracy.simulated(
        accuracy.simulated(model, Scheme(4), only=("lm_head",)), Scheme(8)),
    "a grown model": lambda model: accuracy.with_outlier_channel(model, 4.0),
}


@pytest.mark.parametrize("what", TRAINED)
def test_what_is_made_of_a_model_has_nothing_of_its_graph(what):
    """It can be copied, remembers no gradient's way back, and shares no memory with the model, which stays as it was."""
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    before = copy.deepcopy(model).state_dict()
    made = TRAINED[what](model)
    codes = [part for part in made.modules() if type(part) is accuracy.SimulatedLinear]
    assert all(value.grad_fn is None and value.is_leaf for value in tensors_of(made))
    assert not any(value.requires_grad for part in codes for value in tensors_of(part))
    assert not any(part(torch.ones(2, part.w_q.shape[1])).requires_grad for part in codes)
    copied = copy.deepcopy(made)
    for given in (model, made):
        theirs = {value.untyped_storage().data_ptr() for value in tensors_of(given)}
        assert theirs.isdisjoint(value.untyped_storage().data_ptr() for value in tensors_of(copied))
        assert given is made or theirs.isdisjoint(value.untyped_storage().data_ptr() for value in tensors_of(made))
    with torch.no_grad():
        for value in tensors_of(made):
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.requires_grad and weight.is_leaf for weight in model.parameters())


@pytest.mark.parametrize("K, bits", [(1040, 8), (1041, 8), (4096, 8), (4096, 4)])
def test_a_simulated_layer_s_sums_are_exact_however_long(K, bits):
    largest = 2 ** (bits - 1) - 1
    linear = torch.nn.Linear(K, 1, bias=False)
    linear.weight.data.fill_(largest)
    linear.weight.data[0, 0] = x_last = largest - 1  # the sum is odd times odd: no power of two divides it
    made = accuracy.SimulatedLinear(linear, Scheme(bits))
    x = torch.full((1, K), float(largest))
    assert made.exact == (torch.float32 if K * largest**2 <= 2**24 else torch.float64)
    assert made(x.double()).item() == torch.tensor(float(largest * (largest * (K - 1) + x_last))).item()


def test_a_record_holds_every_scheme_layer_and_outlier(model, rows, monkeypatch):
    asked = []
    monkeypatch.setattr(accuracy, "perplexity_of", lambda made, given: asked.append(made) or 4.0 + 0.01 * (len(asked) - 1))
    said = []
    record = accuracy.measure(model, rows[:2], said.append)
    names = list(accuracy.linears(model))
    assert asked[0] is model and record["fp16_perplexity"] == 4.0 and record["bytes"] == 16 and record["schema"] == 1
    assert [s["name"] for s in record["schemes"]] == [s.name for s in accuracy.schemes()]
    assert record["schemes"][2] == {"name": "INT8 per tensor", "bits": 8, "per": "tensor", "truncate": False,
                                    "perplexity": pytest.approx(4.03), "cost_percent": pytest.approx(0.75)}
    assert [layer["name"] for layer in record["layers"]] == names
    assert [layer["weights"] for layer in record["layers"]] == [
        linear.weight.numel() for linear in accuracy.linears(model).values()]
    assert [(p["factor"], p["name"]) for p in record["outliers"]] == [
        (factor, name) for factor in (1, 4, 16, 64) for name in ("FP16", "INT8 per row", "INT8 per tensor")]
    quantized = asked[16]  # the first layer alone, in INT4
    kinds = {name: type(quantized.get_submodule(name)) for name in names}
    assert [name for name, kind in kinds.items() if kind is accuracy.SimulatedLinear] == names[:1]
    assert quantized.get_submodule(names[0]).scheme == Scheme(bits=4)
    for per in ("row", "tensor"):
        assert record[f"sqnr_per_{per}_db"] == accuracy.layer_sqnr_db(model, Scheme(per=per), rows[:2])
    worst = min(record["sqnr_per_row_db"], key=record["sqnr_per_row_db"].get)
    assert any(f"INT8 per row: the layer with the least SQNR is {worst}, " in line for line in said)


def test_each_outlier_channel_is_as_many_times_as_large(model):
    grown = accuracy.with_outlier_channel(model, 4.0)
    before, after = model.blocks[0], grown.blocks[0]
    for norm, behind in (("attention_norm", ("q", "k", "v")), ("mlp_norm", ("gate", "up"))):
        part = norm.removesuffix("_norm")
        ratio = getattr(after, norm).weight / getattr(before, norm).weight
        assert ratio[0] == 4 and (ratio[1:] == 1).all()
        for name in behind:
            w, w_before = (getattr(getattr(b, part), name).weight for b in (after, before))
            assert torch.equal(w[:, 0] * 4, w_before[:, 0]) and torch.equal(w[:, 1:], w_before[:, 1:])


def test_the_command_writes_the_record_of_the_held_out_text(tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "load", lambda: "model")
    monkeypatch.setattr(accuracy, "tokens_of", lambda name: torch.arange(300) if name == "held_out" else None)
    monkeypatch.setattr(accuracy, "measure", lambda model, rows: {"model": model, "shape": list(rows.shape)})
    assert accuracy.main(["--out", str(tmp_path / "a.json")]) == 0
    assert json.loads((tmp_path / "a.json").read_text()) == {"model": "model", "shape": [2, 128]}


def test_without_a_record_it_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "RECORD", tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match="workshop.py accuracy"):
        accuracy.recorded_accuracy()
