"""The training of lesson 10's model, step by step: what it reads, how it learns, and what the command writes."""

import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from checks.capstone import training
from checks.capstone.training import CONTEXT, Recipe
from kernels.runtime import device
from kernels.transformer import Config, Transformer

TINY = Config(vocabulary=256, layers=2, dim=16, heads=2, kv_heads=1, hidden=24)
TEXT = torch.arange(1000) % 256


def quiet(line: str) -> None:
    """Say nothing."""


def train(**recipe):
    return training.train(TEXT, Recipe(**{"steps": 2, "batch": 1, **recipe}), say=quiet, config=TINY)


@pytest.fixture
def optimizers(monkeypatch):
    """The optimizers that training makes, each with the rates of its steps."""
    made = []

    class Watched(torch.optim.AdamW):
        def __init__(self, groups, **options):
            super().__init__(groups, **options)
            self.rates = []
            made.append(self)

        def step(self, closure=None):
            self.rates.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    return made


def test_prose_and_source_are_read_and_no_code_of_lessons(tmp_path, monkeypatch):
    texts = {"README.md": "readme", "kernels/deep/b.py": "b = 1", "checks/a.py": "a = 1", "tests/t.py": "t = 1"}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    cells = [{"cell_type": "markdown", "source": ["# Title\n", "text"]}, {"cell_type": "code", "source": ["code"]},
             {"cell_type": "markdown", "source": ["end"]}]
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "01_a.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(training, "ROOT", tmp_path)
    assert training.documents() == {"README.md": "readme", "lessons/01_a.ipynb": "# Title\ntext\n\nend\n",
                                    "checks/a.py": "a = 1", "kernels/deep/b.py": "b = 1"}
    monkeypatch.setattr(training, "HELD_OUT", ("checks/a.py",))
    training.freeze_text(tmp_path / "out")
    assert (tmp_path / "out" / "held_out.txt").read_text() == "a = 1"
    assert (tmp_path / "out" / "train.txt").read_text() == "readme\n# Title\ntext\n\nend\n\nb = 1"
    assert training.tokens_of("held_out", tmp_path / "out").tolist() == list(b"a = 1")
    monkeypatch.setattr(training, "HELD_OUT", ("checks/none.py",))
    with pytest.raises(FileNotFoundError, match=r"not there: \['checks/none.py'\]"):
        training.freeze_text(tmp_path / "out")


def test_the_rate_rises_first_then_falls_along_a_cosine(optimizers):
    train(steps=40, learning_rate=0.5, weight_decay=0.3)
    (optimizer,) = optimizers
    assert [(group["weight_decay"], {weight.ndim for weight in group["params"]}) for group in optimizer.param_groups] == [
        (0.3, {2}), (0.0, {1})]
    rates = [first for first, second in optimizer.rates if first == second]
    cosine = [0.05 + 0.475 * (1 + math.cos(math.pi * step / 40)) for step in range(40)]
    assert rates == pytest.approx([0.5 * min(factor, (step + 1) / 2) for step, factor in enumerate(cosine)])
    assert optimizer.defaults["betas"] == (0.9, 0.95)


def test_what_a_block_adds_to_x_starts_smaller(monkeypatch):
    found = {}
    monkeypatch.setattr(torch.nn.init, "normal_", lambda weight, mean=0.0, std=1.0: found.update({weight: std}))
    model, _ = train(steps=1)
    names = {name: found[weight] for name, weight in model.named_parameters() if weight in found}
    small = {name for name, std in names.items() if std == pytest.approx(0.02 / math.sqrt(2 * TINY.layers))}
    assert small == {name for name in names if name.endswith(("o.weight", "down.weight"))} and len(small) == 2 * TINY.layers
    assert {std for name, std in names.items() if name not in small} == {0.02}


def test_dropout_and_clipping_work_while_it_trains(monkeypatch):
    parts, norms = [], []
    dropout, clip = training.F.dropout, torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(training.F, "dropout", lambda y, part: parts.append(part) or dropout(y, part))
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda weights, most: norms.append(most) or clip(weights, most))
    model, _ = train(steps=3, dropout=0.25)
    assert parts == [0.25] * 3 * (1 + 2 * TINY.layers) and norms == [1.0] * 3
    model(TEXT[None, :8])
    assert len(parts) == 3 * (1 + 2 * TINY.layers), "and no more afterwards"


def test_each_step_follows_the_clipped_gradient_of_its_own_loss(monkeypatch):
    """Of this step's rows and weights alone, at most 1 long; then the rate moves on. Losses so large that all are cut."""
    did, of_loss, models = [], [], []
    entropy, clip, step = training.F.cross_entropy, torch.nn.utils.clip_grad_norm_, torch.optim.AdamW.step
    advance = torch.optim.lr_scheduler.LambdaLR.step

    def length(gradients):
        return torch.cat([gradient.flatten() for gradient in gradients]).norm()

    def large(y, tokens):
        loss = 1000 * entropy(y, tokens)
        of_loss.append(torch.autograd.grad(loss, list(models[0].parameters()), retain_graph=True))
        return loss

    def follow(optimizer, *given):
        gradients = [weight.grad for weight in models[0].parameters()]
        long = length(of_loss[-1])
        assert long > 10 and length(gradients) == pytest.approx(1.0, rel=1e-3)
        for gradient, own in zip(gradients, of_loss[-1], strict=True):
            assert torch.allclose(gradient, own / long, rtol=1e-3, atol=1e-6)
        assert {weight for group in optimizer.param_groups for weight in group["params"]} == set(models[0].parameters())
        did.append(("step", len(of_loss)))
        return step(optimizer, *given)

    monkeypatch.setattr(Transformer, "forward", lambda self, rows, forward=Transformer.forward: (
        models.append(self), forward(self, rows))[1])
    monkeypatch.setattr(training.F, "cross_entropy", large)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *given: did.append("clip") or clip(*given))
    monkeypatch.setattr(torch.optim.AdamW, "step", follow)
    monkeypatch.setattr(torch.optim.lr_scheduler.LambdaLR, "step", lambda self: did.append("rate") or advance(self))
    model, _ = train(steps=3)
    assert did == ["rate", "clip", ("step", 1), "rate", "clip", ("step", 2), "rate", "clip", ("step", 3), "rate"]
    assert all(one is model for one in models) and not model.training


def test_rows_are_pieces_of_the_text_and_what_follows(monkeypatch):
    shown, wanted = [], []
    entropy = training.F.cross_entropy
    monkeypatch.setattr(training.F, "cross_entropy", lambda y, tokens: wanted.append(tokens) or entropy(y, tokens))
    monkeypatch.setattr(Transformer, "forward", lambda self, rows, forward=Transformer.forward: (
        shown.append(rows), forward(self, rows))[1])
    train(steps=1, batch=2)
    for rows, following in zip(shown, wanted, strict=True):
        assert rows.shape == (2, CONTEXT) and torch.equal(rows, (rows[:, :1] + torch.arange(CONTEXT)) % 256)
        assert torch.equal(following, ((rows + 1) % 256).flatten())


def test_a_text_may_be_as_short_as_one_row():
    """And its last token counts: the row begins at the first, and what follows it ends the text."""
    model, ((_, loss),) = training.train(TEXT[:CONTEXT + 1], Recipe(steps=1, batch=3), say=quiet, config=TINY)
    assert math.isfinite(loss)
    with pytest.raises(RuntimeError):
        training.train(TEXT[:CONTEXT], Recipe(steps=1, batch=3), say=quiet, config=TINY)


def test_the_seed_decides_the_weights():
    first, again, other = (train(seed=seed)[0].embedding.weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_losses_are_kept_of_every_twentieth_step_and_the_last():
    said = []
    _, losses = training.train(TEXT, Recipe(steps=42, batch=1), say=said.append, config=TINY)
    assert [step for step, _ in losses] == [*range(0, 42, 2), 41]
    assert len(said) == len(losses) and said[-1].startswith("step    41 of 42: loss ")


class Guesser(torch.nn.Module):
    """Takes "a" for twice as likely as "b" in its logits, and notes how much it was shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def __deepcopy__(self, memo):
        return self

    def forward(self, tokens):
        self.shown.append(tokens.shape[1])
        logits = torch.full((1, tokens.shape[1], 256), -100.0)
        logits[:, :-1, ord("z")] = 0.0  # of what is known already
        logits[:, -1, ord("a")], logits[:, -1, ord("b")] = 1.4, 0.7
        return logits


def test_a_continuation_is_drawn_from_the_last_tokens(monkeypatch):
    draws, multinomial = [], torch.multinomial

    def drawn(odds, number, generator):
        draws.append((odds[ord("a")] / odds[ord("b")], generator.initial_seed()))
        return multinomial(odds, number, generator=generator)

    monkeypatch.setattr(torch, "multinomial", drawn)
    model = Guesser()
    text = training.continuation(model, "x" * (CONTEXT - 1), length=3, seed=5)
    assert len(text) == CONTEXT + 2 and set(text[CONTEXT - 1:]) <= {"a", "b"}
    assert model.shown == [CONTEXT - 1, CONTEXT, CONTEXT]
    assert [(float(ratio), seed) for ratio, seed in draws] == [(pytest.approx(math.e), 5)] * 3, "of logits over 0.7"


def test_the_command_trains_on_the_text_of_its_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "train.txt").write_text("some text")
    asked = []
    model = SimpleNamespace(parameters=lambda: [torch.ones(3), torch.ones(2, 2)])
    trained = model, [(0, 5.5)]
    monkeypatch.setattr(training, "train", lambda tokens, recipe: asked.append((bytes(tokens), recipe)) or trained)
    monkeypatch.setattr(training, "save", lambda made, path: asked.append((made, path)))
    assert training.main(["--steps", "7", "--out", str(tmp_path)]) == 0
    assert asked == [(b"some text", Recipe(steps=7)), (model, tmp_path / "model.safetensors")]
    record = json.loads((tmp_path / "training.json").read_text())
    assert (record["parameters"], record["train_bytes"], record["loss"]) == (7, 9, [[0, 5.5]])
    assert record["recipe"]["steps"] == 7 and record["context"] == CONTEXT
    assert record.keys() == json.loads((training.FOLDER / "training.json").read_text()).keys(), "as what is recorded"
    assert record["config"] == dataclasses.asdict(training.CONFIG) and record["torch"] == torch.__version__
    wrong = {("--steps", "0"): "at least 1, got 0", ("--out", str(tmp_path / "none")): "add --freeze-text"}
    for arguments, said in wrong.items():
        with pytest.raises(SystemExit, match="2"):
            training.main(arguments)
        assert said in capsys.readouterr().err
    monkeypatch.setattr(training, "freeze_text", lambda folder: (folder / "train.txt").write_text("frozen"))
    assert training.main(["--out", str(tmp_path), "--freeze-text"]) == 0
    assert asked[2] == (b"frozen", Recipe())


def test_a_model_is_saved_with_its_shape(tmp_path):
    """And comes back in FP16, for inference."""
    made = Transformer(TINY)
    training.save(made, tmp_path / "model.safetensors")
    found = training.load(tmp_path / "model.safetensors")
    assert found.config == TINY and not found.training
    want = made.state_dict()
    assert found.state_dict().keys() == want.keys()
    assert all(torch.equal(value.cpu(), want[name].half()) for name, value in found.state_dict().items())
    kept = load_file(tmp_path / "model.safetensors")
    assert {weight.dtype for weight in [*found.parameters(), *kept.values()]} == {torch.float16}
    assert not any(weight.requires_grad for weight in found.parameters())
    assert {weight.device.type for weight in found.parameters()} == {device().type}
    with pytest.raises(FileNotFoundError, match="there are no trained weights at .*none: run `python3 workshop.py train`"):
        training.load(tmp_path / "none")


def test_the_recorded_model_was_trained_by_this_recipe():
    record = json.loads((training.FOLDER / "training.json").read_text())
    assert record["recipe"] == dataclasses.asdict(Recipe()) and record["config"] == dataclasses.asdict(training.CONFIG)
    assert (record["context"], record["held_out"]) == (CONTEXT, list(training.HELD_OUT))
    assert training.load().config == training.CONFIG


def test_a_continuation_leaves_the_model_as_it_was():
    model = Transformer(TINY).half().to(device()).eval().requires_grad_(False)
    text = training.continuation(model, "ab", length=4)
    assert text.startswith("ab") and {weight.dtype for weight in model.parameters()} == {torch.float16}
    assert training.continuation(model, "ab", length=4) == text != training.continuation(model, "ab", length=4, seed=1)
