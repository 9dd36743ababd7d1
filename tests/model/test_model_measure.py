"""What is measured of a model and its INT8 twin, on stand-ins for both: `transformers` is not needed."""

import types

import pytest
import torch

from checks.capstone.accuracy import linears
from checks.model import int8, measure
from checks.model.folder import BadModel
from checks.model.smooth import NOTHING, Smoothed
from kernels.error import sqnr_db
from kernels.runtime import INTERPRETED, device

VOCABULARY = 7


class Tokenizer:
    """A token for each character, and two before every text."""

    def __call__(self, text, add_special_tokens=True, verbose=True):
        return types.SimpleNamespace(input_ids=[900, 901] * add_special_tokens + [ord(letter) for letter in text])

    def decode(self, tokens):
        return "-".join(str(int(token)) for token in tokens)


@pytest.mark.parametrize(("longest", "length"), [(12, 10), (257, 255), (258, 256), (259, 256), (10_000, 256)])
def test_windows_are_as_long_as_the_model_allows(longest, length):
    text = "".join(map(chr, range(2 * length)))
    rows = measure.windows_of(text, Tokenizer(), longest)
    assert rows.shape == (2, 2 + length) and rows.device.type == device().type and rows.dtype == torch.int64
    assert rows[:, :2].tolist() == [[900, 901]] * 2
    assert rows[0, 2:].tolist() == list(range(length)) and rows[1, 2:].tolist() == list(range(length - 1, 2 * length - 1))
    with pytest.raises(BadModel, match=f"has {2 * length - 1:,} tokens, and two windows of {length} at least"):
        measure.windows_of(text[1:], Tokenizer(), longest)


class Guesses(torch.nn.Module):
    """Logits of each token that the tokens so far have nothing to do with; notes what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, tokens, use_cache=True):
        self.asked.append((len(tokens), use_cache, torch.is_grad_enabled()))
        shape = (*tokens.shape, VOCABULARY)
        return types.SimpleNamespace(logits=(torch.arange(tokens.numel() * VOCABULARY).view(shape) % 13).half())


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_losses_leave_out_what_no_text_is(prefix):
    rows, model, advanced = torch.arange(9 * 8).view(9, 8) ** 2 % VOCABULARY, Guesses(), []
    losses = measure.window_losses(model, rows, prefix, advanced.append)
    log_p = torch.cat([Guesses()(part).logits for part in rows.split(4)]).float().log_softmax(-1)
    want = [-sum(log_p[row, at - 1, rows[row, at]] for at in range(prefix + 1, 8)) / (7 - prefix) for row in range(9)]
    assert losses == pytest.approx([float(loss) for loss in want], rel=1e-5)
    assert model.asked == [(4, False, False), (4, False, False), (1, False, False)] and advanced == [4, 4, 1]


class Chain(torch.nn.Module):
    """An embedding and two linear layers after one another, with a list of what each was given."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(VOCABULARY, 16)
        self.up, self.down = torch.nn.Linear(16, 24), torch.nn.Linear(24, 8)
        self.half().to(device()).requires_grad_(False)

    def forward(self, tokens, use_cache=True):
        assert use_cache is False
        return self.down(self.up(self.embedding(tokens)))


@torch.no_grad()
@pytest.mark.skipif(not INTERPRETED, reason="the layers are too small for a GPU's choice of tiles")
@pytest.mark.parametrize("smoothed", [False, True])
def test_a_layer_s_sqnr_is_of_the_inputs_that_it_was_made_for(smoothed):
    model, rows = Chain(), torch.arange(3 * 5, device=device()).view(3, 5) % VOCABULARY
    twin = int8.quantize_(int8.twin_of(model), ())
    s = {"up": 1 + torch.rand(16, device=device()), "down": 1 + torch.rand(24, device=device())}
    out = {"up": 1 + torch.rand(24, device=device())}
    found = measure.layers_sqnr_db(model, twin, rows, Smoothed(s, out, ()) if smoothed else NOTHING)
    assert list(found) == ["up", "down"]
    want = {"up": [], "down": []}
    for row in rows[:2]:
        x = model.embedding(row[None])
        for name, layer in int8.int8_layers(twin).items():
            y = linears(model)[name](x)
            given = (x.float() / s[name]).half() if smoothed else x
            wanted = y.float() / out[name] if smoothed and name in out else y
            want[name].append(sqnr_db(wanted, layer(given)))
            x = y
    assert found == {name: pytest.approx(sum(values) / 2) for name, values in want.items()}
    assert want["up"][0] != want["up"][1]
    assert not any(layer._forward_hooks for layer in linears(model).values()), "nothing is left behind"


class Counting:
    """In the place of a Decoder: the token after each is one more. Notes what it was made for and what was asked of it."""

    made: list

    def __init__(self, model, length, compiled=False):
        self.model, self.length, self.compiled, self.events = model, length, compiled, []
        self.cache = types.SimpleNamespace(reset=lambda: self.events.append("reset"))
        Counting.made.append(self)

    def prefill(self, prompt):
        self.events.append(f"prefill {tuple(prompt.shape)}")
        return prompt[:, -1:] + 1

    def step(self, token):
        self.events.append("step")
        return token + 1


@pytest.fixture
def decoders(monkeypatch):
    """The decoders that are made."""
    Counting.made = []
    monkeypatch.setattr(measure, "Decoder", Counting)
    return Counting.made


@pytest.mark.parametrize("new", [1, 2, 5])
def test_a_continuation_is_as_long_as_it_is_asked_for(decoders, new):
    text = measure.continuation("model", Tokenizer(), torch.tensor([3, 1, 7]), new)
    assert text == "-".join(str(8 + at) for at in range(new))
    (decoder,) = decoders
    assert (decoder.model, decoder.length, decoder.compiled) == ("model", 3 + new, False)
    assert decoder.events == ["prefill (1, 3)", *["step"] * (new - 1)]


@pytest.mark.parametrize("new", [1, 4])
def test_a_prefill_and_a_step_are_timed_apart(decoders, monkeypatch, new):
    decoder = Counting("model", 9)
    clock = iter([10.0, 13.0, 13.0 + 8.0])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: decoder.events.append("clock") or next(clock))
    monkeypatch.setattr(measure, "_synchronize", lambda: decoder.events.append("wait"))
    assert measure._run(decoder, torch.zeros(2, 5), new) == (3.0, 8.0 / new)
    assert decoder.events == ["reset", "wait", "clock", "prefill (2, 5)", "wait", "clock", *["step"] * new, "wait", "clock"]


@pytest.mark.parametrize("there", [False, True])
def test_only_a_gpu_is_waited_for(monkeypatch, there):
    waited = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(True))
    measure._synchronize()
    assert waited == [True] * there


def test_a_row_has_milliseconds_and_tokens_per_second():
    row = measure._row("INT8", 3, 100, "eager", [(0.5, 0.004), (0.2, 0.001), (0.25, 0.002)])
    assert row == {"function": "INT8", "batch": 3, "prompt": 100, "new": measure.NEW, "mode": "eager",
                   "prefill_ms": [200.0, 250.0, 500.0], "prefill_tokens_per_s": pytest.approx(3 * 100 / 0.25),
                   "decode_ms": [1.0, 2.0, 4.0], "decode_tokens_per_s": pytest.approx(3 / 0.002)}


@pytest.mark.parametrize(("longest", "prompt"), [(100, 36), (576, 512), (100_000, 512)])
def test_both_sides_are_timed_in_turns(decoders, monkeypatch, longest, prompt):
    ran, said = [], []

    def run(decoder, tokens, new):
        assert tokens.shape == (2, prompt) and tokens.min() >= 0 and tokens.max() < VOCABULARY
        ran.append((decoder.model, decoder.compiled, new))
        return 1.0, float(len(ran))

    monkeypatch.setattr(measure, "_run", run)
    torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] = 9  # of something before
    rows = measure.speed_rows({"FP16": "a", "INT8": "b"}, VOCABULARY, longest, said.append, (2,))
    assert ran == [run for compiled in (False, True) for run in [
        ("a", compiled, 4), ("b", compiled, 4), *[("a", compiled, 64), ("b", compiled, 64)] * measure.REPEATS]]
    assert [decoder.length for decoder in decoders] == [prompt + 64] * 4
    assert [(row["function"], row["mode"], row["prompt"], row["batch"]) for row in rows] == [
        (side, mode, prompt, 2) for mode in ("eager", "reduce-overhead") for side in ("FP16", "INT8")]
    assert [row["decode_ms"] for row in rows[:2]] == [[3e3, 7e3, 11e3], [4e3, 8e3, 12e3]]
    assert said == ["batch 2, eager", "batch 2, reduce-overhead: compiling and warming up"]


def test_each_batch_and_its_lost_graphs_are_told(decoders, monkeypatch):
    said, tokens = [], {}

    def run(decoder, given, new):
        tokens.setdefault(len(given), given)
        assert torch.equal(given, tokens[len(given)])
        torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] += decoder.compiled
        return 1.0, 1.0

    monkeypatch.setattr(measure, "_run", run)
    rows = measure.speed_rows({"FP16": "a"}, VOCABULARY, 100, said.append)
    assert [row["batch"] for row in rows] == [1, 1, 16, 16] and list(tokens) == [1, 16]
    lost = "batch {}: torch.compile made no CUDA graph of 1 steps"
    assert said == ["batch 1, eager", "batch 1, reduce-overhead: compiling and warming up", lost.format(1),
                    "batch 16, eager", "batch 16, reduce-overhead: compiling and warming up", lost.format(16)]


@pytest.mark.parametrize(("error", "said"), [
    (ValueError("one\ntwo"), "ValueError: one"), (NotImplementedError(), "NotImplementedError: NotImplementedError"),
    (RuntimeError("\n x" * 400), "RuntimeError: x"), (RuntimeError("y" * 400), "RuntimeError: " + "y" * 300)],
    ids=["lines", "empty", "blank", "long"])
def test_a_mode_that_fails_is_left_out_in_a_sentence(decoders, monkeypatch, error, said):
    def run(decoder, tokens, new):
        if not decoder.compiled:
            raise error
        return 1.0, 1.0

    monkeypatch.setattr(measure, "_run", run)
    lines = []
    rows = measure.speed_rows({"FP16": "a", "INT8": "b"}, VOCABULARY, 100, lines.append, (2,))
    assert [(row["function"], row["mode"]) for row in rows] == [(side, "reduce-overhead") for side in ("FP16", "INT8")]
    assert lines[1] == f"left out: batch 2, eager: {said}"


def test_only_a_compiled_decoder_is_compiled(monkeypatch):
    transformers = pytest.importorskip("transformers")
    caches, compiled = [], []
    monkeypatch.setattr(transformers, "StaticCache", lambda config, max_cache_len: caches.append((config, max_cache_len)))
    monkeypatch.setattr(torch, "compile", lambda step, **options: compiled.append(options) or (lambda token: token + 1))
    model = types.SimpleNamespace(config="config")
    assert measure.Decoder(model, 9)._step is not None and not compiled
    token = torch.tensor([[4]])
    assert measure.Decoder(model, 7, True).step(token).tolist() == [[5]]
    assert compiled == [{"mode": "reduce-overhead", "fullgraph": True, "dynamic": False}]
    assert caches == [("config", 9), ("config", 7)]


def test_a_step_is_a_copy_of_what_a_graph_wrote(monkeypatch):
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(transformers, "StaticCache", lambda config, max_cache_len: None)
    place = torch.zeros(1, 1)
    monkeypatch.setattr(torch, "compile", lambda step, **options: lambda token: place.add_(1))
    decoder = measure.Decoder(types.SimpleNamespace(config=None), 7, True)
    first, second = decoder.step(place), decoder.step(place)
    assert (first.item(), second.item()) == (1, 2)
