"""SmoothQuant's parts on a small Llama in torch alone: what is calibrated, which factors there are, what is divided."""

import types

import pytest
import torch

from checks.capstone.accuracy import linears
from checks.model import smooth
from checks.model.folder import BadModel
from kernels.schemes import smoothing_factors

WIDTH, HEADS, KV_HEADS, HEAD, HIDDEN, VOCABULARY = 8, 4, 2, 3, 10, 11
CONFIG = types.SimpleNamespace(hidden_size=WIDTH, num_attention_heads=HEADS, head_dim=HEAD)


class Attention(torch.nn.Module):
    def __init__(self, kv_heads):
        super().__init__()
        self.kv_heads = kv_heads
        self.q_proj = torch.nn.Linear(WIDTH, HEADS * HEAD, bias=False)
        self.k_proj, self.v_proj = torch.nn.Linear(WIDTH, kv_heads * HEAD), torch.nn.Linear(WIDTH, kv_heads * HEAD)
        self.o_proj = torch.nn.Linear(HEADS * HEAD, WIDTH)

    def forward(self, x):
        q, k, v = (layer(x).unflatten(-1, (-1, HEAD)).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj))
        k, v = (each.repeat_interleave(HEADS // self.kv_heads, dim=1) for each in (k, v))
        return self.o_proj(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj, self.up_proj = torch.nn.Linear(WIDTH, HIDDEN), torch.nn.Linear(WIDTH, HIDDEN)
        self.down_proj = torch.nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):
        return self.down_proj(torch.nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Llama(torch.nn.Module):
    """One block, with norms of two kinds, and one that has no weight."""

    def __init__(self, kv_heads=KV_HEADS):
        super().__init__()
        torch.manual_seed(0)
        self.config = CONFIG
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.before, self.attention = torch.nn.LayerNorm(WIDTH), Attention(kv_heads)
        self.between, self.mlp = torch.nn.RMSNorm(WIDTH), Mlp()
        self.bare, self.lm_head = torch.nn.LayerNorm(WIDTH, elementwise_affine=False), torch.nn.Linear(WIDTH, VOCABULARY)
        for name, value in self.named_parameters():
            if value.ndim == 1:
                value.data += 0.3 * torch.randn(value.shape)
            if name.endswith("e.weight") or name == "between.weight":
                value.data[3] *= -8  # an outlier channel, of negative numbers
        self.requires_grad_(False)

    def forward(self, tokens):
        x = self.embedding(tokens)
        x = x + self.attention(self.before(x))
        x = x + self.mlp(self.between(x))
        return types.SimpleNamespace(logits=self.lm_head(self.bare(x)))


ROWS = (3 * torch.arange(3)[:, None] + torch.arange(6)) % VOCABULARY
FOLLOWERS = {"before": [f"attention.{name}_proj" for name in "qkv"], "between": ["mlp.gate_proj", "mlp.up_proj"]}


def inputs_of(model, rows=ROWS):
    """What goes into each linear layer by name, of all rows."""
    found = {}
    handles = [linear.register_forward_pre_hook(lambda _, given, name=name: found.setdefault(name, []).append(given[0]))
               for name, linear in linears(model).items()]
    for row in rows:
        model(row[None])
    for handle in handles:
        handle.remove()
    return {name: torch.cat([x.flatten(0, -2) for x in parts]) for name, parts in found.items()}


def test_calibration_takes_the_largest_of_all_rows():
    model = Llama()
    want = {name: x.abs().amax(0) for name, x in inputs_of(model).items()}
    amax, followers = smooth.calibrate(model, ROWS)
    assert amax.keys() == want.keys() and all(torch.equal(value, want[name]) for name, value in amax.items())
    first, last = (inputs_of(model, ROWS[at:][:1])["attention.q_proj"].abs().amax(0) for at in (0, 2))
    assert (first > last).any() and (last > first).any(), "or the test would not see which rows counted"
    assert followers == FOLLOWERS
    hooked = [module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert not hooked, "nothing is left behind"


def without(*names):
    model = Llama()
    for name in names:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, torch.nn.Identity())
    return model


@pytest.mark.parametrize(("kv_heads", "group"), [(4, 1), (2, 2), (1, 4)])
def test_rows_of_values_and_of_up_can_be_divided(kv_heads, group):
    model = Llama(kv_heads)
    assert smooth.row_sources(model, linears(model)) == [("attention.v_proj", ["attention.o_proj"], group),
                                                         ("mlp.up_proj", ["mlp.down_proj"], 1)]


@pytest.mark.parametrize("name", ["attention.v_proj", "attention.k_proj", "attention.o_proj", "mlp.gate_proj", "mlp.up_proj",
                                  "mlp.down_proj"])
def test_what_has_no_such_layers_is_left(name):
    """An MLP without a gate, and attention with its three products in one, are other functions."""
    model = without(name)
    assert [source.partition(".")[0] for source, *_ in smooth.row_sources(model, linears(model))] == [
        "mlp" if name.startswith("attention") else "attention"]


def test_heads_that_share_values_share_the_largest():
    model = types.SimpleNamespace(config=CONFIG)
    amax = torch.tensor([1., 9, 2, 5, 4, 3, 7, 0, 8, 6, 10, 11])  # four query heads of three channels
    assert smooth.shared(amax, 1, model) is amax
    assert smooth.shared(amax, 2, model).tolist() == [5, 9, 3] * 2 + [7, 10, 11] * 2
    assert smooth.shared(amax, 4, model).tolist() == [7, 10, 11] * 4


@pytest.mark.parametrize(("config", "wanted"), [
    ({"head_dim": 5}, 5), ({"head_dim": None}, 4), ({}, 4)])
def test_the_size_of_a_head_is_named_or_follows(config, wanted):
    model = types.SimpleNamespace(config=types.SimpleNamespace(hidden_size=12, num_attention_heads=3, **config))
    assert smooth.head_dim(model) == wanted


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["linear", "norm"])
def test_what_a_layer_writes_is_divided(kind, bias):
    layer = (torch.nn.Linear(2, 3, bias=bias) if kind == "linear" else torch.nn.LayerNorm(3, bias=bias)).half()
    given = {name: value.data.copy_(1 + torch.rand(value.shape)).clone() for name, value in layer.named_parameters()}
    s = torch.tensor([2.0, 4.0, 0.5])
    smooth.divide(layer, s)
    now = dict(layer.named_parameters())
    assert now.keys() == given.keys()
    for name, value in now.items():
        assert torch.equal(value, given[name] / (s[:, None] if value.ndim == 2 else s).half())
        assert value.dtype == torch.float16 and not value.requires_grad


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_the_factors_are_smoothquant_s(kv_heads, alpha):
    model, layers = Llama(kv_heads), linears(Llama(kv_heads))
    before = {name: value.clone() for name, value in model.named_parameters()}
    x = {name: given.abs().amax(0) for name, given in inputs_of(model).items()}
    logits = model(ROWS).logits
    found = smooth.smooth_(model, ROWS, alpha)
    assert found.left == ("lm_head",), "no weights come before it"
    up = smoothing_factors(x["mlp.down_proj"], layers["mlp.down_proj"].weight.abs().amax(0), alpha)
    group = HEADS // kv_heads
    x_o, w_o = (smooth.shared(amax, group, model) for amax in (x["attention.o_proj"],
                                                               layers["attention.o_proj"].weight.abs().amax(0)))
    heads = smoothing_factors(x_o, w_o, alpha)
    values = heads.view(kv_heads, group, HEAD)[:, 0].flatten()
    divided = {"mlp.up_proj": up, "attention.v_proj": values}
    want = {"mlp.down_proj": up, "attention.o_proj": heads}
    for norm, names in FOLLOWERS.items():
        w = torch.stack([(layers[name].weight / (divided[name][:, None] if name in divided else 1)).abs().amax(0)
                         for name in names]).amax(0)
        divided[norm] = smoothing_factors(x[names[0]], w, alpha)
        want |= dict.fromkeys(names, divided[norm])
    for got, wanted in ((found.inputs, want), (found.outputs, divided)):
        assert got.keys() == wanted.keys()
        for name, factors in wanted.items():
            torch.testing.assert_close(got[name], factors, msg=name)
    for name in ("attention.o_proj.bias", "lm_head.weight", "embedding.weight", "attention.q_proj.weight"):
        change = want["attention.q_proj"] if "q_proj" in name else 1
        torch.testing.assert_close(model.get_parameter(name), before[name] * change)
    torch.testing.assert_close(model(ROWS).logits, logits, rtol=1e-4, atol=1e-5)


def test_an_alpha_decides_where_the_outlier_is():
    """With 1 all inputs are of one size, with 0 all columns of the weights."""
    model = Llama()
    smooth.smooth_(model, ROWS, 1.0)
    x = inputs_of(model)
    assert all(x[name].abs().amax(0).allclose(torch.ones(len(x[name][0]))) for name in ("attention.q_proj", "mlp.up_proj"))
    model = Llama()
    smooth.smooth_(model, ROWS, 0.0)
    columns = torch.cat([linears(model)[f"attention.{name}_proj"].weight for name in "qkv"]).abs().amax(0)
    assert columns.allclose(torch.ones(WIDTH))


@pytest.mark.parametrize(("after", "refused"), [(1.0, False), (1.019, False), (1.021, True), (0.979, True), (2.0, True),
                                                (float("nan"), True)])
def test_another_function_than_before_is_refused(monkeypatch, after, refused):
    """By a fiftieth of the logits, measured by their norm."""
    model, calls = Llama(), []
    logits = torch.full((1, 6, VOCABULARY), 10.0)
    monkeypatch.setattr(smooth, "calibrate", lambda model, rows: ({name: torch.ones(linear.in_features) for name, linear in
                                                                   linears(model).items()}, {}))

    def forward(rows):
        calls.append(rows.shape)
        return types.SimpleNamespace(logits=logits * (1 if len(calls) == 1 else after))

    model.forward = forward
    if refused:
        said = f"logits changed by {abs(100 * (after - 1)):.1f} %"
        with pytest.raises(BadModel, match=f"cannot be folded into this model: its {said}.*Leave out --smooth"):
            smooth.smooth_(model, ROWS, 0.5)
    else:
        assert smooth.smooth_(model, ROWS, 0.5).left
    assert calls == [(1, 6)] * 2
