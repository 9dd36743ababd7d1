"""Checkpoints made here, where none can be fetched: the workshop's own small model, and random weights in known shapes."""

import json
from pathlib import Path
from typing import Any

import torch

from checks.capstone import training
from kernels.transformer import Config

LLAMA_3_2_1B = {
    "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131_072, "tie_word_embeddings": True, "rope_parameters": {"rope_type": "default",
                                                                                         "rope_theta": 500_000.0}}
"""The shapes of its model card's config.json (meta-llama/Llama-3.2-1B)."""
RANDOM = "random_weights.json"
"""A folder that holds this file has weights that nothing was trained to: accuracy means nothing there."""


def write_own(folder: Path) -> None:
    """Lesson 10's trained model as a folder that `transformers` loads: a Llama that reads bytes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    ours = training.load().cpu()
    config = ours.config
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=config.vocabulary, hidden_size=config.dim, intermediate_size=config.hidden,
        num_hidden_layers=config.layers, num_attention_heads=config.heads, num_key_value_heads=config.kv_heads,
        rms_norm_eps=1e-5, max_position_embeddings=training.CONTEXT, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_base}, bos_token_id=None, eos_token_id=None))
    model.half().load_state_dict(renamed(ours.state_dict(), config))
    model.save_pretrained(folder)
    tokenizer_of_bytes().save_pretrained(folder)


def renamed(state: dict[str, torch.Tensor], config: Config) -> dict[str, torch.Tensor]:
    """The weights of `kernels.transformer.Transformer` under the names of a Llama of transformers."""
    block = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm",
             **{f"attention.{name}": f"self_attn.{name}_proj" for name in "qkvo"},
             **{f"mlp.{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")}}
    names = {"embedding": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head", **{
        f"blocks.{layer}.{ours}": f"model.layers.{layer}.{theirs}"
        for layer in range(config.layers) for ours, theirs in block.items()}}
    return {f"{names[name.removesuffix('.weight')]}.weight": value for name, value in state.items()}


def tokenizer_of_bytes() -> Any:
    """A tokenizer whose tokens are the 256 bytes, each by its number."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # The printable characters that stand for bytes in GPT-2's vocabulary: the others are moved behind 255, in order.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    letters = {byte: chr(byte if byte in printable else next(moved)) for byte in range(256)}
    tokenizer = Tokenizer(models.BPE({letter: byte for byte, letter in letters.items()}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def trained_tokenizer(vocabulary: int) -> Any:
    """A byte-level BPE tokenizer trained on the workshop's own frozen prose and source."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<|begin|>"], show_progress=False)
    tokenizer.train_from_iterator((training.FOLDER / "train.txt").read_text().splitlines(keepends=True), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin|>", clean_up_tokenization_spaces=False)


def write_random(folder: Path, model: Any, vocabulary: int) -> None:
    """A model as it was initialised, its tokenizer, and a note that nobody trained it."""
    model.save_pretrained(folder)
    trained_tokenizer(vocabulary).save_pretrained(folder)
    (folder / RANDOM).write_text(json.dumps({"weights": "random"}) + "\n")


def write_llama_3_2_1b(folder: Path) -> None:
    """Random weights in Llama 3.2 1B's shapes: 2.5 GB."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)  # or they are made in FP32 first
    try:
        model = LlamaForCausalLM(LlamaConfig(**LLAMA_3_2_1B, bos_token_id=None, eos_token_id=None))
    finally:
        torch.set_default_dtype(torch.float32)
    write_random(folder, model, 8192)


WRITERS = {"own": write_own, "llama-3.2-1b": write_llama_3_2_1b}
