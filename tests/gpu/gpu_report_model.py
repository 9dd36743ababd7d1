"""The part of `gpu_report.py` on whole models: a transformer block, and a Llama of transformers, linears replaced."""

import math

import torch

from checks.bench.measure import MeasuringGPU
from kernels.linear import Int8Linear, quantize_linears_


def check_model(checks):
    checks.attempt("a transformer block, eager, compiled whole and in a CUDA graph", transformer_block)
    checks.attempt("a random Llama of transformers keeps its ranking", llama_of_transformers)


class Block(torch.nn.Module):
    """A transformer block as Llama has it, without positions."""

    def __init__(self, width=2048, heads=16, hidden=5632):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = torch.nn.RMSNorm(width, eps=1e-5), torch.nn.RMSNorm(width, eps=1e-5)
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.gate_up = torch.nn.Linear(width, 2 * hidden, bias=False)
        self.down = torch.nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm_1(x)).chunk(3, -1))
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norm_2(x)).chunk(2, -1)
        return x + self.down(torch.nn.functional.silu(gate) * up)


@torch.no_grad()
def transformer_block():
    """Replaced linears: eager, compiled whole and replayed from a CUDA graph.

    A graph must give eager's bits. The compiler may round between the linears elsewhere, which moves a code here and
    there by one: less than quantization itself moved all of them.
    """
    torch.manual_seed(0)
    block = Block().cuda().half().eval()
    inputs = [torch.randn(2, tokens, 2048, device="cuda").half() for tokens in (1, 8, 17, 100)]
    wants = [block(x) for x in inputs]
    quantize_linears_(block)
    assert sum(isinstance(m, Int8Linear) for m in block.modules()) == 4
    compiled = torch.compile(block, fullgraph=True)
    errors = []
    for x, want in zip(inputs, wants, strict=True):
        y = block(x)
        quantization, compilation = relative(y, want), relative(compiled(x), y)
        assert compilation < quantization < math.sqrt(4) * EXPECTED_PER_LINEAR, (quantization, compilation)
        errors.append(quantization)
        for model in (block, compiled):
            expected = model(x)
            replay, captured = MeasuringGPU().capture(lambda model=model, x=x: model(x))
            captured.zero_()
            replay()
            assert torch.equal(captured, expected)
    return "relative error against FP16 " + ", ".join(f"{e:.4f}" for e in errors)


# Rounding to codes adds uniform noise of a scale / √12. For K normal numbers amax is near 4 standard deviations, so
# that is 4 / (127 √12) = 0.9 % of them, from x and from w independently: √2 · 0.9 % of each linear's output.
EXPECTED_PER_LINEAR = math.sqrt(2) * 4 / (127 * math.sqrt(12))


@torch.no_grad()
def llama_of_transformers():
    """A random Llama keeps its ranking of next tokens, but for pairs closer than six standard deviations of the error.

    Each of its layers adds the noise of at most five linears in a row to the residual, and the head one more; noise of
    independent linears adds up in squares.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    layers = 4
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=4000, hidden_size=512, intermediate_size=1376, num_hidden_layers=layers, num_attention_heads=8,
        num_key_value_heads=8)).cuda().half().eval()
    tokens = torch.randint(0, 4000, (4, 32), device="cuda")
    want = model(tokens).logits[:, -1].double()
    quantize_linears_(model)
    assert not any(type(m) is torch.nn.Linear for m in model.modules())
    got = model(tokens).logits[:, -1].double()
    expected = math.sqrt(5 * layers + 1) * EXPECTED_PER_LINEAR
    error = relative(got, want)
    assert error < expected, (error, expected)
    for a, b in zip(got, want, strict=True):
        apart = b[:, None] - b > 6 * math.sqrt(2) * expected * b.std()
        assert (a[:, None] > a)[apart].all()
    same = (got.argmax(1) == want.argmax(1)).sum().item()
    return f"relative error {error:.4f} (expected below {expected:.4f}); same first token for {same} of {len(got)}"


def relative(y, want):
    return ((y.double() - want.double()).norm() / want.double().norm()).item()
