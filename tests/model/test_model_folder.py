"""A folder with a checkpoint, without loading it: what is in it, what it needs, and what is said where it cannot be used."""

import importlib
import os
import sys
import types

import pytest
import torch
from safetensors.torch import save_file

from checks.model import folder
from checks.model.folder import BadModel, Found

BIG, SMALL = (5, 7), (3, 2)


def shard(path, **tensors):
    save_file({name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in tensors.items()}, path)
    return path


@pytest.mark.parametrize(("dtype", "stored", "loaded", "label"), [
    (torch.float16, "F16", torch.float16, "FP16"), (torch.bfloat16, "BF16", torch.bfloat16, "BF16"),
    (torch.float32, "F32", torch.float16, "FP16")])
def test_a_checkpoint_is_what_most_of_its_weights_are(tmp_path, dtype, stored, loaded, label):
    """By their number, in all files: not by the number of tensors, nor by the bytes."""
    other = torch.float16 if dtype is torch.bfloat16 else torch.bfloat16
    shards = (shard(tmp_path / "1", a=(SMALL, other), b=(SMALL, other), c=((), other), d=((5, 4), dtype)),
              shard(tmp_path / "2", e=((4, 5), dtype)), shard(tmp_path / "3", f=((39,), torch.float64)))
    assert folder._stored(shards) == stored
    assert Found(tmp_path, {}, shards, stored).dtype is loaded and folder.label(loaded) == label


@pytest.mark.parametrize(("tensors", "said"), [
    ({"a": ((2, 30), torch.bfloat16), "b": ((3, 31), torch.int8)}, "are I8, and FP16, BF16 or FP32 is needed"),
    ({"a": ((8,), torch.float64)}, "are F64, and"), ({"a": ((4,), torch.float8_e4m3fn)}, "are F8_E4M3, and"),
    ({}, "are none, and")])
def test_weights_of_another_format_are_refused(tmp_path, tensors, said):
    with pytest.raises(BadModel, match=f"the weights in {tmp_path} {said}"):
        folder._stored((shard(tmp_path / "1", **tensors),))


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    shard(tmp_path / "model.safetensors", a=(BIG, torch.bfloat16))
    return tmp_path


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "tokenizer.model"])
def test_any_of_a_tokenizer_s_files_will_do(checkpoint, name):
    (checkpoint / "tokenizer.json").rename(checkpoint / name)
    assert folder.look_into(checkpoint) == Found(checkpoint, {"model_type": "llama"}, (checkpoint / "model.safetensors",),
                                                 "BF16")
    (checkpoint / name).unlink()
    with pytest.raises(BadModel, match="has no tokenizer"):
        folder.look_into(checkpoint)


@pytest.mark.parametrize(("config", "said"), [
    ('{"quantization_config": {}}', "is quantized already, by some method"),
    ('{"quantization_config": {"quant_method": "awq"}, "auto_map": {}}', "is quantized already, by awq"),
    ('{"auto_map": {}}', "brings Python code of its own")])
def test_some_checkpoints_are_not_for_this_command(checkpoint, config, said):
    (checkpoint / "config.json").write_text(config)
    with pytest.raises(BadModel, match=said):
        folder.look_into(checkpoint)


def test_a_file_is_no_folder(checkpoint):
    with pytest.raises(BadModel, match="there is no folder"):
        folder.look_into(checkpoint / "config.json")
    (checkpoint / "config.json").unlink()
    with pytest.raises(BadModel, match="has no config.json"):
        folder.look_into(checkpoint)


def test_of_many_missing_files_three_are_named(tmp_path):
    names = ", ".join(f'"{n}": "{n}.safetensors"' for n in "abcde")
    (tmp_path / "model.safetensors.index.json").write_text(f'{{"weight_map": {{{names}}}}}')
    with pytest.raises(BadModel, match="lacks 5 of 5 files with weights: a.safetensors, b.safetensors, c.safetensors$"):
        folder._shards(tmp_path)


@pytest.mark.parametrize(("stored", "interpreted", "said"), [
    ("BF16", True, "needs 1.9 GB, for it is held in BF16 and in INT8 side by side, and this machine has 1.5 GB free"),
    ("F16", False, "needs 1.9 GB, for it is held in FP16 and in INT8 side by side, and this GPU has 1.5 GB free")])
def test_what_does_not_fit_is_told_in_gigabytes(monkeypatch, tmp_path, stored, interpreted, said):
    monkeypatch.setattr(folder, "INTERPRETED", interpreted)
    path = types.SimpleNamespace(stat=lambda: types.SimpleNamespace(st_size=1_000_000_000))
    with pytest.raises(BadModel, match=said):
        folder.expect_room(Found(tmp_path, {}, (path,), stored), 1_500_000_000)


@pytest.fixture
def terminal(monkeypatch):
    """Without `transformers`, at a terminal; gives the commands that are run, and what is forgotten after them."""
    ran = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else 1)
    monkeypatch.setattr(importlib, "invalidate_caches", lambda: ran.append("forgotten"))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(folder.subprocess, "run", lambda command: ran.append(command) or types.SimpleNamespace(returncode=0))
    return ran


@pytest.mark.parametrize(("answer", "installed"), [("y", True), ("Yes ", True), (" Y", True), ("n", False), ("", False),
                                                   ("yesterday", False)])
def test_transformers_is_installed_where_it_is_wanted(terminal, answer, installed):
    asked = []

    def ask(question):
        asked.append(question)
        return answer

    if installed:
        folder.offer_transformers(ask)
        (command, forgotten) = terminal
        assert command[:4] == [sys.executable, "-m", "pip", "install"] and forgotten == "forgotten"
        assert command[4].startswith("transformers==") and len(command) == 5
    else:
        with pytest.raises(BadModel, match="nothing was installed. Later: .* -m pip install transformers=="):
            folder.offer_transformers(ask)
        assert terminal == []
    assert len(asked) == 1 and "[y/N]" in asked[0]


def test_nobody_is_asked_without_need(terminal, monkeypatch):
    def ask(question):
        raise AssertionError("asked")

    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: False))
    with pytest.raises(BadModel, match=r"this command needs transformers \d\S*, which .* install it with\n    \S"):
        folder.offer_transformers(ask)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "transformers" or None)
    folder.offer_transformers(ask)
    assert terminal == []


@pytest.mark.parametrize(("error", "said"), [
    (ValueError("one\ntwo"), "one"), (ValueError(" \n two \n"), "two"), (ValueError(), "ValueError"),
    (KeyError(), "KeyError"), (RuntimeError("x" * 301), "x" * 300)], ids=["lines", "blank", "empty", "key", "long"])
def test_of_an_error_the_first_line_is_told(error, said):
    assert folder.first_line(error) == said


def test_nothing_is_fetched_and_no_bar_is_drawn(monkeypatch):
    transformers = pytest.importorskip("transformers")
    done = []
    monkeypatch.setattr(transformers.utils.logging, "disable_progress_bar", lambda: done.append("bar"))
    monkeypatch.setattr(transformers.utils.logging, "set_verbosity_error", lambda: done.append("errors"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    folder.quiet()
    assert os.environ["HF_HUB_OFFLINE"] == "1" and done == ["bar", "errors"]
