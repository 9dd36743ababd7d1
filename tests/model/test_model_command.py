"""`workshop.py model` on small random models of three architectures, made and saved here: nothing is fetched."""

import importlib.util
import json
import re
import shutil
import types

import pytest
import torch
from safetensors.torch import load_file, save_file

from checks.capstone import training
from checks.capstone.accuracy import linears
from checks.model import card as model_card
from checks.model import command, folder, int8, made, measure, smooth
from checks.model.card import NO_SPEED, RANDOM, accuracy, page
from kernels.linear import Int8LinearOnCpu, int8_linear_torch

pytestmark = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers, which "
                                "requirements.txt names, is not installed")

SIZES = {"vocab_size": 384, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "max_position_embeddings": 48, "bos_token_id": 0, "eos_token_id": None}


@pytest.mark.parametrize(("stored", "loaded"), [("F16", 1000), ("BF16", 1000), ("F32", 500)])
def test_what_a_checkpoint_needs(tmp_path, stored, loaded):
    """Its files' bytes as FP16 or BF16, all shards, and INT8 beside them."""
    shards = [tmp_path / f"{n}.safetensors" for n in (300, 700)]
    for shard in shards:
        shard.write_bytes(bytes(int(shard.stem)))
    found = folder.Found(tmp_path, {}, tuple(shards), stored)
    assert found.bytes_loaded == loaded and found.dtype.itemsize == 2
    needed = int(loaded * folder.NEEDED) + folder.SLACK_BYTES
    folder.expect_room(found, needed)
    with pytest.raises(folder.BadModel, match="take a smaller model"):
        folder.expect_room(found, needed - 1)


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True)).half()


def neox():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, tie_word_embeddings=False)).float()


def qwen():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2, tie_word_embeddings=False)).bfloat16()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder for each architecture by name, with random weights and biases."""
    folders, tokenizer = {}, made.trained_tokenizer(SIZES["vocab_size"])
    folder.quiet()
    for seed, make in enumerate((llama, neox, qwen)):
        torch.manual_seed(seed)
        model, at = make(), tmp_path_factory.mktemp("models") / make.__name__
        for name, value in model.named_parameters():
            if value.ndim == 1:  # ones and zeros would hide what is done to norms and biases
                value.data += 0.3 * torch.randn(value.shape)
            if "norm" in name and name.endswith("weight"):
                value.data[3] *= 8  # an outlier channel
        model.save_pretrained(at, max_shard_size="20KB")
        tokenizer.save_pretrained(at)
        (at / made.RANDOM).write_text("{}")
        folders[make.__name__] = at
    return folders


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "held_out.txt"
    path.write_text((training.FOLDER / "held_out.txt").read_text()[:1500])
    return path


def run(capsys, *argv):
    status = command.main([str(arg) for arg in argv])
    said = capsys.readouterr()
    return status, said.out, said.err


def copied(models, tmp_path):
    return shutil.copytree(models["llama"], tmp_path / "copy")


@pytest.mark.parametrize("name, dtype, layers, left", [
    ("llama", "FP16", 15, ["lm_head"]),
    ("neox", "FP16", 9, [f"gpt_neox.layers.{i}.{last}" for i in (0, 1)
                         for last in ("attention.dense", "mlp.dense_4h_to_h")] + ["lm_head"]),
    ("qwen", "BF16", 15, ["lm_head"])])
def test_the_whole_command_on_a_model(models, text, tmp_path, capsys, name, dtype, layers, left):
    status, said, _ = run(capsys, models[name], "--text", text, "--smooth", 0.5, "--out", tmp_path, "--save", tmp_path / "q")
    assert status == 0
    card = json.loads((tmp_path / f"cpu_{name}.json").read_text())
    assert said.endswith(f"{page(card)}\n\nwritten to {tmp_path / f'cpu_{name}.json'}\n") and RANDOM in said
    assert NO_SPEED in said and f"loaded in {dtype}" in said and not card["speed"] and card["gpu"] is None
    assert len(card["sqnr_db"]) == layers and min(card["sqnr_db"].values()) > 25
    kept = said.partition("as they were: ")[2].partition("\n")[0].split(", ")
    assert sorted(kept) == sorted(left)
    losses = card["accuracy"]["losses"]
    assert len(losses["INT8"]) == card["windows"] and losses["INT8"] != losses[dtype]
    assert losses["INT8"] == pytest.approx(losses[dtype], rel=0.01)
    assert card["memory"]["INT8"] < card["memory"][dtype] or name == "llama"  # whose lm_head was the embedding's
    assert card["sample"]["INT8"]

    status, said, _ = run(capsys, models[name], "--text", text, "--load", tmp_path / "q", "--out", tmp_path / "again")
    again = json.loads((tmp_path / "again" / f"cpu_{name}.json").read_text())
    after = again["accuracy"]["losses"]["INT8"][measure.CALIBRATION_WINDOWS:]
    assert after == pytest.approx(losses["INT8"], rel=1e-6)
    assert min(again["sqnr_db"].values()) > 25


def test_layers_named_in_skip_stay_and_the_card_names_them(models, text, tmp_path, capsys):
    _, said, _ = run(capsys, models["llama"], "--text", text, "--skip", "lm_head", "down_proj", "--out", tmp_path)
    card = json.loads((tmp_path / "cpu_llama.json").read_text())
    assert card["left"] == ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj", "lm_head"]
    assert "to INT8: 12 linear layers" in said and "left in FP16: model.layers.0.mlp.down_proj" in said


def loaded(models, name):
    return folder.load(folder.look_into(models[name]))


@pytest.mark.parametrize("name", ["llama", "neox", "qwen"])
def test_smoothing_is_the_same_function_with_smaller_outliers(models, text, name):
    model, tokenizer = loaded(models, name)
    model = model.float()
    rows = measure.windows_of(text.read_text(), tokenizer, 48)
    twin = int8.twin_of(model)
    before, _ = smooth.calibrate(twin, rows)
    smoothed = smooth.smooth_(twin, rows, 0.5)
    torch.testing.assert_close(twin(rows).logits, model(rows).logits, rtol=1e-3, atol=1e-4)
    after, _ = smooth.calibrate(twin, rows)
    first = next(layer for layer in smoothed.inputs if layer.endswith(("q_proj", "query_key_value")))
    assert after[first].max() / after[first].median() < 0.5 * before[first].max() / before[first].median()
    torch.testing.assert_close(after[first], before[first] / smoothed.inputs[first])


def test_a_model_whose_norms_are_others_is_not_smoothed(models, text):
    model, tokenizer = loaded(models, "llama")
    rows = measure.windows_of(text.read_text(), tokenizer, 48)
    for module in model.modules():
        if type(module).__name__.endswith("Norm"):  # Gemma's: 1 + weight
            module.forward = types.MethodType(lambda self, x: x * torch.rsqrt(x.square().mean(-1, True)) * (1 + self.weight),
                                              module)
    with pytest.raises(folder.BadModel, match="cannot be folded"):
        smooth.smooth_(int8.twin_of(model), rows, 0.5)


def test_a_layer_on_the_cpu_has_the_bits_of_the_definition(models):
    model, _ = loaded(models, "qwen")
    name, linear = next(iter(linears(model).items()))
    layer = int8.int8_layers(int8.quantize_(int8.twin_of(model), ()))[name]
    assert type(layer) is Int8LinearOnCpu and layer.bias is not None and type(linears(model)[name]) is torch.nn.Linear
    x = torch.randn(2, 5, linear.in_features, dtype=torch.bfloat16)
    assert torch.equal(layer(x), int8_linear_torch(x, layer.weight_q, layer.weight_scale, layer.bias))


def test_losses_are_those_of_the_windows_behind_a_prefix(models, text):
    model, tokenizer = loaded(models, "llama")
    rows = measure.windows_of(text.read_text(), tokenizer, 48)
    with_prefix = torch.cat([torch.full((len(rows), 1), 7), rows], dim=1)
    assert rows.shape[1] == 48 and torch.equal(rows[0, -1], rows[1, 0])
    got = measure.window_losses(model, with_prefix[:5], 1)
    log_p = torch.log_softmax(model(with_prefix[:5]).logits.float(), dim=-1)
    want = [-log_p[i, 1:-1].gather(1, with_prefix[i, 2:, None]).mean().item() for i in range(5)]
    assert got == pytest.approx(want, rel=1e-3)


def test_steps_of_the_static_cache_follow_the_whole_text(models):
    model, _ = loaded(models, "llama")
    prompt = torch.randint(384, (2, 9))
    decoder = measure.Decoder(model, 16)
    token = decoder.prefill(prompt)
    tokens = [prompt, token]
    for _ in range(3):
        tokens.append(decoder.step(tokens[-1]))
    for end in range(9, 12):
        want = model(torch.cat(tokens, dim=1)[:, :end]).logits[:, -1].argmax(-1, keepdim=True)
        assert torch.equal(torch.cat(tokens, dim=1)[:, end:end + 1], want)


def test_speeds_are_measured_and_a_broken_mode_left_out(models, monkeypatch):
    model, _ = loaded(models, "llama")
    said = []
    monkeypatch.setattr(measure, "NEW", 4)
    monkeypatch.setattr(measure, "REPEATS", 2)
    monkeypatch.setattr(torch, "compile", lambda step, **options: step)
    rows = measure.speed_rows({"FP16": model, "INT8": model}, 384, 48, said.append, (1, 2))
    assert [(row["function"], row["batch"], row["mode"]) for row in rows] == [
        (side, batch, mode) for batch in (1, 2) for mode in measure.MODES for side in ("FP16", "INT8")]
    for row in rows:
        low, median, high = row["decode_ms"]
        assert row["prompt"] == 44 and 0 < low <= median <= high
        assert row["decode_tokens_per_s"] == pytest.approx(1e3 * row["batch"] / median)
        assert row["prefill_tokens_per_s"] == pytest.approx(1e3 * row["batch"] * 44 / row["prefill_ms"][1])

    def broken(step, **options):
        raise RuntimeError("it keeps no static cache\nand more")
    monkeypatch.setattr(torch, "compile", broken)
    rows = measure.speed_rows({"FP16": model}, 384, 48, said.append, (1,))
    assert [row["mode"] for row in rows] == ["eager"] and said[-1].endswith("RuntimeError: it keeps no static cache")


def test_a_card_with_speeds_prints_the_gain():
    card = {**dict.fromkeys(("model", "architecture", "torch", "triton", "transformers", "gpu", "date", "text"), "-"),
            "parameters": 1, "dtype": "FP16", "random": False, "windows": 2, "window": 3, "sqnr_db": {"a": 40.0}, "left": [],
            "accuracy": accuracy({"FP16": [1.0, 2.0], "INT8": [1.01, 2.02]}),
            "sample": {"prompt": "p", "FP16": "a", "INT8": "b"},
            "memory": {"FP16": 2e9, "INT8": 1e9, "cache_bytes_per_token": 8}}
    card["speed"] = [{"function": side, "batch": 1, "mode": mode, "prefill_tokens_per_s": 100.0 * gain,
                      "decode_tokens_per_s": 10.0 * gain}
                     for mode in measure.MODES for side, gain in (("FP16", 1), ("INT8", 2))]
    said = page(card)
    assert "decode, batch 1, reduce-overhead          10          20   2.00×" in said and NO_SPEED not in said
    assert said.count("prefill") == 1
    assert "+1.511 % ± 0.500 %" in said and "3.0 standard errors: more than chance explains" in said


@pytest.mark.parametrize("after, chance", [((1.01, 2.02), False), ((0.99, 1.98), False), ((1.01, 1.995), True),
                                           ((0.99, 2.005), True), ((1.0, 2.0), None)])
def test_a_gain_may_be_chance_as_a_loss_may(after, chance):
    card = {"dtype": "FP16", "windows": 2, "window": 3, "text": "-",
            "accuracy": accuracy({"FP16": [1.0, 2.0], "INT8": list(after)})}
    said = "\n".join(model_card._accuracy(card))
    assert ("no more than chance explains" in said) == (chance is True)
    assert (": more than chance explains" in said) == (chance is False)


def test_our_own_model_is_the_same_as_a_checkpoint(tmp_path):
    made.write_own(tmp_path)
    model, tokenizer = folder.load(folder.look_into(tmp_path))
    text = "x @ w.T · café\n"
    tokens = torch.tensor([tokenizer(text).input_ids])
    assert tokens[0].tolist() == list(text.encode()) and tokenizer.decode(tokens[0]) == text
    torch.testing.assert_close(model.float()(tokens).logits, training.load().float()(tokens), rtol=1e-3, atol=1e-3)


def without(name):
    return lambda at: (at / name).unlink()


def config(**changes):
    def change(at):
        (at / "config.json").write_text(json.dumps(json.loads((at / "config.json").read_text()) | changes))
    return change


def cut_off(at):
    shard = sorted(at.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:100])


def as_integers(at):
    for shard in at.glob("*.safetensors"):
        save_file({name: value.to(torch.int32) for name, value in load_file(shard).items()}, shard)


def pickled(at):
    for path in at.glob("*.safetensors*"):
        path.unlink()
    (at / "pytorch_model.bin").write_bytes(b"")


def no_tokenizer(at):
    for path in at.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize("break_it, message", [
    (shutil.rmtree, "there is no folder"),
    (without("config.json"), "has no config.json"),
    (lambda at: (at / "config.json").write_text("{"), "is not whole JSON"),
    (config(quantization_config={"quant_method": "gptq"}), "quantized already, by gptq"),
    (config(auto_map={"AutoModel": "x.Y"}), "brings Python code of its own"),
    (config(model_type="neverheard"), "cannot load"),
    (config(intermediate_size=64), "do not fit its config.json"),
    (config(num_hidden_layers=3), "do not fit its config.json"),
    (no_tokenizer, "has no tokenizer"),
    (lambda at: (at / "tokenizer.json").write_text("{}"), "the tokenizer in"),
    (lambda at: sorted(at.glob("*.safetensors"))[1].unlink(), "lacks 1 of"),
    (cut_off, "is no whole safetensors file"),
    (as_integers, "the weights in .* are I32"),
    (pickled, r"pickles \(\*.bin\)"),
])
def test_a_folder_that_cannot_be_used_is_a_sentence(models, tmp_path, capsys, break_it, message):
    at = copied(models, tmp_path)
    break_it(at)
    status, _, error = run(capsys, at)
    assert status == 2 and error.startswith("model: ")
    assert re.search(message, error), error


def test_a_text_or_a_skip_that_cannot_be_used_is_a_sentence(models, text, tmp_path, capsys):
    short = tmp_path / "short.txt"
    short.write_text("a few words")
    for argv, message in ((["--text", short], "two windows of 48"), (["--text", tmp_path], "cannot be read"),
                          (["--text", text, "--skip", "head"], "skip must hold names of linear layers"),
                          (["--load", short], "is no INT8 model"), (["--write", "own"], "is not empty")):
        status, _, error = run(capsys, models["llama"], *argv)
        assert (status, message in error) == (2, True), error
    for argv in (["--smooth", "2"], ["--load", short, "--smooth", "0.5"]):
        with pytest.raises(SystemExit):
            run(capsys, models["llama"], *argv)


def test_int8_weights_of_another_model_are_refused(models, text, tmp_path, capsys):
    run(capsys, models["neox"], "--text", text, "--save", tmp_path / "q")
    status, _, error = run(capsys, models["llama"], "--text", text, "--load", tmp_path / "q")
    assert status == 2 and "was made from another model" in error


def test_a_model_too_large_for_memory_is_not_loaded(models, monkeypatch, capsys):
    monkeypatch.setattr(command, "free_bytes", lambda: 1000)
    status, _, error = run(capsys, models["llama"])
    assert status == 2 and "GB free: take a smaller model" in error
    assert folder.free_bytes() > 1 << 20


def test_transformers_is_offered_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(folder.sys, "stdin", None)
    with pytest.raises(folder.BadModel, match=r"(?s)this command needs transformers \d.*-m pip install transformers=="):
        folder.offer_transformers()
    ran = []
    monkeypatch.setattr(folder.sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(folder.subprocess, "run", lambda command: ran.append(command) or types.SimpleNamespace(returncode=1))
    with pytest.raises(folder.BadModel, match="nothing was installed"):
        folder.offer_transformers(lambda question: "")
    with pytest.raises(folder.BadModel, match="pip could not install it"):
        folder.offer_transformers(lambda question: "y")
    assert len(ran) == 1 and ran[0][1:4] == ["-m", "pip", "install"]


@pytest.mark.parametrize(("text", "free"), [
    ("MemTotal:  9 kB\nMemAvailable:     5 kB\n", 5120), ("MemTotal: 9 kB\n", 1 << 62)])
def test_free_memory_is_the_machine_s_or_the_gpu_s(monkeypatch, text, free):
    monkeypatch.setattr(folder, "INTERPRETED", True)
    monkeypatch.setattr(folder, "Path", lambda path: types.SimpleNamespace(read_text=lambda: text))
    assert folder.free_bytes() == free
    monkeypatch.setattr(folder, "INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (7, 9))
    assert folder.free_bytes() == 7
