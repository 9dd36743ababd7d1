"""A Llama of transformers, randomly initialised and converted, generates the same tokens in every mode.

    python tests/gpu/gpu_generate.py
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kernels.linear import Int8Linear, quantize_linears_  # noqa: E402

TOKENS = 64


def make_model():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=4096, hidden_size=2048, intermediate_size=5632, num_hidden_layers=8,
                         num_attention_heads=16, num_key_value_heads=4, max_position_embeddings=256,
                         eos_token_id=None, bos_token_id=None)
    return LlamaForCausalLM(config).half().cuda().eval()


def generate(model, prompt, mode):
    """The tokens that follow, and the seconds of a second generation. `mode` None is eager."""
    from transformers.generation.configuration_utils import CompileConfig

    torch.compiler.reset()
    options = {"disable_compile": True} if mode is None else {"compile_config": CompileConfig(mode=mode, fullgraph=True)}
    for _ in range(2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        found = model.generate(prompt, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False,
                               cache_implementation="static", pad_token_id=0, **options)
        torch.cuda.synchronize()
    return found[:, prompt.shape[1]:], time.perf_counter() - began


@torch.no_grad()
def main():
    model = make_model()
    for name in ("FP16", "INT8"):
        if name == "INT8":
            quantize_linears_(model)
            assert sum(isinstance(module, Int8Linear) for module in model.modules()) == 8 * 7 + 1
        for batch in (1, 4):
            prompt = torch.randint(1, 4096, (batch, 16), device="cuda", generator=torch.Generator("cuda").manual_seed(batch))
            want, eager = generate(model, prompt, None)
            for mode in ("default", "reduce-overhead"):
                found, seconds = generate(model, prompt, mode)
                same = (found == want).int().cumprod(dim=1).sum().item()
                print(f"{name} batch {batch} {mode:16} first {same} of {want.numel()} tokens are eager's; "
                      f"{1e3 * seconds / TOKENS:.2f} ms a token, eager {1e3 * eager / TOKENS:.2f}", flush=True)


if __name__ == "__main__":
    main()
