"""Checkpoints that are made here: their shapes, their tokenizers, and what says that nobody trained them."""

import importlib.util
import json

import pytest
import torch

from checks.capstone import training
from checks.capstone.accuracy import linears
from checks.model import command, folder, made, measure
from checks.paths import ROOT

pytestmark = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers, which "
                                "requirements.txt names, is not installed")

SMALL = {"vocab_size": 300, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2,
         "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32, "tie_word_embeddings": True}


def recorded(name):
    return json.loads((ROOT / "results" / "model" / f"nvidia_h200_{name}.json").read_text())


def test_random_weights_have_llama_s_shapes():
    """As its model card and the recorded card say; nothing is filled."""
    from transformers import LlamaConfig, LlamaForCausalLM

    card, config = recorded("llama_3_2_1b"), LlamaConfig(**made.LLAMA_3_2_1B)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    assert sum(value.numel() for value in model.parameters()) == card["parameters"] == 1_235_814_400
    assert command.cache_bytes_per_token(config) == card["memory"]["cache_bytes_per_token"]
    assert set(linears(model)) == set(card["sqnr_db"])
    assert config.num_attention_heads * config.head_dim == config.hidden_size == 2048
    assert (config.max_position_embeddings, config.rms_norm_eps) == (2**17, 1e-5)
    assert (config.rope_parameters["rope_type"], config.rope_parameters["rope_theta"]) == ("default", 5e5)


@pytest.mark.parametrize("fails", [False, True])
def test_random_weights_are_made_in_fp16_and_the_same_twice(monkeypatch, tmp_path, fails):
    import transformers

    written = []
    monkeypatch.setattr(made, "LLAMA_3_2_1B", SMALL)
    monkeypatch.setattr(made, "write_random", lambda *given: written.append(given))
    if fails:
        monkeypatch.setattr(transformers, "LlamaForCausalLM", lambda config: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            made.write_llama_3_2_1b(tmp_path)
    else:
        for _ in range(2):
            made.write_llama_3_2_1b(tmp_path)
        (at, first, vocabulary), (_, again, _) = written
        assert (at, vocabulary) == (tmp_path, 8192) and vocabulary <= 128_256
        assert {value.dtype for value in first.parameters()} == {torch.float16}
        assert first.config.bos_token_id is first.config.eos_token_id is None
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert torch.get_default_dtype() == torch.float32


def test_a_random_checkpoint_says_so_and_loads(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    made.write_random(tmp_path, LlamaForCausalLM(LlamaConfig(**SMALL, bos_token_id=None)).half(), 290)
    assert json.loads((tmp_path / made.RANDOM).read_text()) == {"weights": "random"}
    model, tokenizer = folder.load(folder.look_into(tmp_path))
    assert not model.training and not any(value.requires_grad for value in model.parameters())
    assert len(tokenizer) == 290 and tokenizer.bos_token_id == 0 and tokenizer.bos_token == "<|begin|>"
    for text in ("x @ w.T · café\n", " two  spaces "):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("x").input_ids != tokenizer(" x").input_ids, "no space is put before a text"
    common = tokenizer(" the").input_ids
    assert len(common) < 4, "it has learnt what stands in the text"


@torch.no_grad()
def test_our_own_checkpoint_is_the_recorded_one(tmp_path):
    """Its shapes, its first tokens, and the losses of its first windows."""
    card = recorded("own")
    made.write_own(tmp_path)
    model, tokenizer = folder.load(folder.look_into(tmp_path))
    assert model.config.rms_norm_eps == training.load().norm.eps
    assert command.longest(model) == training.CONTEXT and not (tmp_path / made.RANDOM).exists()
    assert sum(value.numel() for value in model.parameters()) == card["parameters"]
    assert command.cache_bytes_per_token(model.config) == card["memory"]["cache_bytes_per_token"]
    assert tokenizer("").input_ids == [] and tokenizer.decode(range(32, 127)) == "".join(map(chr, range(32, 127)))
    assert sorted(tokenizer(bytes(range(128)).decode()).input_ids) == list(range(128))
    rows = measure.windows_of(command.read_text(None)[0][:1000], tokenizer, command.longest(model))[:2]
    assert rows.shape[1] == card["window"]
    assert measure.window_losses(model, rows, 0) == pytest.approx(card["accuracy"]["losses"]["FP16"][:2], rel=2e-3)


def test_each_kind_of_checkpoint_is_made_by_its_own():
    assert {"own": made.write_own, "llama-3.2-1b": made.write_llama_3_2_1b} == made.WRITERS
