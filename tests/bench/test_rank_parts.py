"""What the parts of the benchmark of several GPUs compare, time and count, with stand-ins for what takes GPUs."""

from types import SimpleNamespace

import pytest
import torch

from checks.bench import rank_parts
from checks.bench.rank_parts import PEER_BYTES, SMALL, Setting, WrongOnRanks
from kernels import transformer
from kernels.exchange import Group as RealGroup
from kernels.runtime import device

LARGE = SimpleNamespace(dim=8, hidden=12, heads=4, kv_heads=2, head_dim=2)


class Group:
    """The first of two ranks, alone: it notes what is exchanged."""

    rank, size = 0, 2

    def __init__(self, said=None):
        self.said, self.peers = [] if said is None else said, None

    def all_reduce(self, tensor, op="sum", what=""):
        self.said.append((op, tuple(tensor.shape), tensor.dtype))
        return tensor


class Peers:
    def __init__(self, group, size_bytes):
        self.group, self.size_bytes, self.met = group, size_bytes, []

    def meet(self, buffer, shape, dtype):
        self.met.append((buffer, shape, dtype))
        return [torch.full(shape, each, dtype=dtype, device=device()) for each in (3, 4)]


@pytest.fixture
def on_gpus(monkeypatch):
    """As on GPUs, at small sizes; what was measured, in place of its times: calls by name, and the rest."""
    asked = []

    def measured(self, calls, check, graphs=True, **place):
        asked.append(SimpleNamespace(calls=calls, check=check, graphs=graphs, place=place))
        return [self._row(name, place, {"median_us": 8.0, "low_us": 6.0, "high_us": 10.0}) for name in calls]

    monkeypatch.setattr(Setting, "measured", measured)
    for name, value in (("LLAMA_3_8B", LARGE), ("ROWS", (1, 3)), ("PeerMemory", Peers), ("gpu_of", lambda group: None)):
        monkeypatch.setattr(rank_parts, name, value)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    monkeypatch.setattr(rank_parts.gc, "collect", lambda: 0)  # a second, through all that the tests have imported
    return asked


def test_what_a_part_begins_with(monkeypatch):
    did = []
    monkeypatch.setattr(rank_parts, "gpu_of", lambda group: f"what times {group}")
    for target, name in ((rank_parts.gc, "collect"), (torch.compiler, "reset"), (torch.cuda, "empty_cache")):
        monkeypatch.setattr(target, name, lambda name=name: did.append(name))
    small, large = (rank_parts.setting("ranks", small) for small in (True, False))
    assert (small.config, small.rows) == (SMALL, rank_parts.SMALL_ROWS) and small.gpu == "what times ranks"
    assert (large.config, large.rows) == (transformer.LLAMA_3_8B, rank_parts.ROWS)
    assert did == ["collect", "reset", "empty_cache"]


@pytest.mark.parametrize("small", [True, False])
def test_each_exchange_by_itself(on_gpus, monkeypatch, small):
    monkeypatch.setattr(rank_parts, "SMALL_ROWS", (2,))
    group = Group()
    rows = rank_parts.link(group, small)
    config, sizes = (SMALL, (2,)) if small else (LARGE, (1, 3, 16384))
    assert [one.place for one in on_gpus] == [{"part": "link", "M": M, "N": config.dim} for M in sizes]
    assert not any(one.graphs for one in on_gpus)
    for asked in on_gpus:
        for call in list(asked.calls.values())[:4]:
            call()
    M, whole = sizes[0], (sizes[0], config.dim)
    assert group.said[:4] == [("sum", whole, torch.float16), ("sum", whole, torch.int32), ("sum", whole, torch.float32),
                              ("max", (M,), torch.float32)]
    of_peers = {name: call for name, call in on_gpus[0].calls.items() if name.startswith("peers")}
    assert len({id(call.args[0]) for call in of_peers.values()}) == (0 if small else 1)
    for name, call in of_peers.items():
        call()
        (peers, _), dtype = call.args, torch.int32 if "INT32" in name else torch.float16
        assert (peers.group, peers.size_bytes, peers.met[-1]) == (group, PEER_BYTES, (1, whole, dtype))
    found = {(row["M"], row["function"]): (row["sent_bytes"], row["median_us"], row["low_us"], row["high_us"])
             for row in rows}
    for M in sizes:  # of two ranks each sends a half twice
        numbers = M * config.dim
        wanted = {"all-reduce FP16": 2 * numbers, "all-reduce INT32": 4 * numbers, "all-reduce FP32": 4 * numbers,
                  "maximum of M floats": 4 * M} | ({} if small else {"peers FP16": 2 * numbers, "peers INT32": 4 * numbers})
        assert {name: sent for (at, name), (sent, *_) in found.items() if at == M} == wanted
    assert {(name.startswith("peers"), *us) for (_, name), (_, *us) in found.items()} == (
        {(False, 8, 6, 10)} if small else {(False, 8, 6, 10), (True, 4, 3, 5)}), "what is done twice takes half as long"
    assert all(row["gpus"] == 2 for row in rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.int32])
def test_a_sum_by_peers_takes_both_buffers(dtype):
    peers = Peers(None, 0)
    result = rank_parts.by_peers(peers, torch.zeros(2, 3, dtype=dtype, device=device()))
    assert result.dtype == torch.float16 and result.tolist() == [[7.0] * 3] * 2
    assert peers.met == [(0, (2, 3), dtype), (1, (2, 3), dtype)]


class Layer(torch.nn.Module):
    """Of this rank's columns, as `products` cuts them: says which it is."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, x):
        return x.new_full((len(x), LARGE.dim), float(len(self.name)))

    @classmethod
    def from_linear(cls, linear, group=None, scales="shared", partial_dtype=None):
        return cls(f"{scales} {partial_dtype}")


@pytest.fixture
def layers(monkeypatch):
    monkeypatch.setattr(rank_parts, "RowParallelInt8Linear", Layer)
    monkeypatch.setattr(rank_parts, "RowParallelLinear", lambda linear, group: Layer("FP16"))
    monkeypatch.setattr(rank_parts, "Int8Linear", SimpleNamespace(from_linear=lambda linear: linear))


def test_products_are_compared_with_one_gpu_s(on_gpus, layers, monkeypatch):
    monkeypatch.setattr(rank_parts, "steps_of", lambda group, linear, cut, x: {"a step": x, **cut})
    rows = rank_parts.products(Group(), False)
    assert [(one.place["part"], one.place["M"], one.graphs) for one in on_gpus] == [
        ("product", 1, True), ("step", 1, False), ("product", 3, True), ("step", 3, False)]
    product, step = on_gpus[2:]
    assert product.place == {"part": "product", "M": 3, "N": LARGE.dim, "K": LARGE.hidden}
    names = ["INT8, shared scale", "INT8, own scales", "INT8, own scales, FP32 exchange"]
    assert list(product.calls) == ["FP16 on 1", "INT8 on 1", "FP16", *names]
    assert [product.calls[name].func.name for name in ["FP16", *names]] == [
        "FP16", "shared None", "own None", f"own {torch.float32}"]
    assert [step.calls[name].name for name in names] == ["shared None", "own None", f"own {torch.float32}"]
    x, mine = product.calls["FP16 on 1"].args[0], product.calls["FP16"].args[0]
    assert x.shape == (3, 12) and torch.equal(mine, x[:, :6]) and torch.equal(step.calls["a step"], mine)
    assert mine.is_contiguous()
    one = product.calls["INT8 on 1"]()
    exact = x.float() @ product.calls["FP16 on 1"].func.weight.float().T
    product.check("INT8, shared scale", one)
    for name in product.calls:
        if name != "INT8, shared scale":
            product.check(name, exact * 1.05)
        with pytest.raises(WrongOnRanks, match=f"^{name} is off by 0.2"):
            product.check(name, exact * 1.2)
    with pytest.raises(WrongOnRanks, match="INT8, shared scale differs from one GPU's bits in"):
        product.check("INT8, shared scale", one * 1.05)
    assert [row["function"] for row in rows if row["part"] == "product"] == ["FP16", "INT8", "FP16", *names] * 2


def test_accuracies_belong_to_their_rows(on_gpus, layers, monkeypatch):
    """By the name and the number of GPUs; none for what has failed."""
    def measured(self, calls, check, graphs=True, **place):
        for number, name in enumerate(list(calls)[:-1]):
            exact = calls["FP16 on 1"]()
            if place["part"] == "product" and name != "INT8, shared scale":
                check(name, exact * (1 + 10.0 ** -(number + 2) / 2))
        return [self._row(name, place, {}) for name in calls]

    monkeypatch.setattr(Setting, "measured", measured)
    monkeypatch.setattr(rank_parts, "steps_of", lambda *_: {})
    monkeypatch.setattr(rank_parts, "randn", lambda *shape, seed=0: torch.ones(shape))
    monkeypatch.setattr(rank_parts, "ROWS", (3,))
    found = {(row["function"], row["gpus"]): row["sqnr_db"] for row in rank_parts.products(Group(), False)}
    assert {name: db and round(db) for name, db in found.items()} == {
        ("FP16", 1): 46, ("INT8", 1): 66, ("FP16", 2): 86, ("INT8, shared scale", 2): None, ("INT8, own scales", 2): 126,
        ("INT8, own scales, FP32 exchange", 2): None}


def test_each_step_of_a_product_by_itself(monkeypatch):
    x, linear = torch.ones(3, 6).half(), torch.nn.Linear(12, 4, bias=False)
    own, shared = (SimpleNamespace(weight_q=f"{name} codes", weight_scale=f"{name} scales") for name in ("own", "shared"))
    cut, did, group = {"INT8, own scales": own, "INT8, shared scale": shared}, [], Group()
    amax = torch.full((3,), 7.0)
    for name, result in (("quantize_rows", ("q", "s")), ("part_amax", amax), ("multiply_into", "y"), ("sums_into", "y"),
                         ("quantize_with_amax", ("q", "s")), ("finish", "y")):
        monkeypatch.setattr(rank_parts, name, lambda *given, name=name, result=result: did.append((name, *given)) or result)
    monkeypatch.setattr(rank_parts.F, "linear", lambda x, weight: did.append(("linear", tuple(weight.shape))))
    steps = rank_parts.steps_of(group, linear, cut, x)
    sums, halves, done = torch.zeros(3, 4, dtype=torch.int32), torch.zeros(3, 4).half(), {}
    for name, step in steps.items():
        did.clear()
        group.said.clear()
        step()
        done[name] = [*did, *group.said]
    texts = {name: str(found) for name, found in done.items()}
    assert texts == {name: str(found) for name, found in {
        "FP16: product": [("linear", (4, 6))], "FP16: exchange": [("sum", (3, 4), torch.float16)],
        "INT8, own scales: quantization": [("quantize_rows", x)],
        "INT8, own scales: product": [("multiply_into", halves, "q", "s", "own codes", "own scales")],
        "INT8, shared scale: quantization": [("part_amax", x), ("quantize_with_amax", x, None, [amax])],
        "INT8, shared scale: exchange of maxima": [("max", (3,), torch.float32)],
        "INT8, shared scale: product": [("sums_into", sums, "q", "shared codes")],
        "INT8, shared scale: exchange": [("sum", (3, 4), torch.int32)],
        "INT8, shared scale: scaling": [("finish", [sums], ("s", "shared scales"), None, None, torch.float16)]}.items()}


@pytest.mark.parametrize("small", [True, False])
def test_the_layers_of_each_mlp(on_gpus, layers, monkeypatch, small):
    monkeypatch.setattr(rank_parts, "int8_of", lambda weight: f"INT8 {tuple(weight.shape)}")
    monkeypatch.setattr(rank_parts, "layer_by_peers", lambda layer, group: f"{layer.name}, peers")
    for name in ("int8_mlp", "fp16_mlp"):
        monkeypatch.setattr(rank_parts, name, lambda x, first, second, name=name: torch.tensor(
            [1.0, 2.0]) if name == "fp16_mlp" else torch.tensor([1.0, 2.05]))
    rank_parts.mlps(Group(), small)
    config, sizes = (SMALL, rank_parts.SMALL_ROWS) if small else (LARGE, (1, 3))
    assert [one.place for one in on_gpus] == [
        {"part": "mlp", "M": M, "N": config.dim, "K": config.hidden} for M in sizes]
    dim, hidden = config.dim, config.hidden

    def what(layer):
        return tuple(layer.shape) if isinstance(layer, torch.Tensor) else getattr(layer, "name", None) or (
            layer if isinstance(layer, str) else "down")

    whole, mine = (2 * hidden, dim), (hidden, dim)
    wanted = {"INT8 on 1": (f"INT8 {whole}", "down"), "INT8, shared scale": (f"INT8 {mine}", "shared None"),
              "INT8, own scales": (f"INT8 {mine}", "own None"), "FP16 on 1": (whole, "down"), "FP16": (mine, "FP16")}
    wanted |= {} if small else {"FP16, peers": (mine, "FP16, peers"),
                                "INT8, shared scale, peers": (f"INT8 {mine}", "shared None, peers"),
                                "INT8, own scales, peers": (f"INT8 {mine}", "own None, peers")}
    for asked, M in zip(on_gpus, sizes, strict=True):
        assert {name: tuple(map(what, call.args[1:])) for name, call in asked.calls.items()} == wanted
        assert {tuple(call.args[0].shape) for call in asked.calls.values()} == {(M, dim)}
        asked.check("INT8, shared scale", torch.tensor([1.0, 2.05]))
        with pytest.raises(WrongOnRanks, match="one GPU's bits"):
            asked.check("INT8, shared scale, peers", torch.tensor([1.0, 2.06]))
    gate_up, part_of_it = (on_gpus[0].calls[name].args[1] for name in ("FP16 on 1", "FP16"))
    assert torch.equal(part_of_it, torch.cat([gate_up[:hidden // 2], gate_up[hidden:hidden + hidden // 2]]))


def test_a_result_is_held_to_fp16_and_to_one_gpu_s_bits():
    """A block's by how it changes x, which is larger than the change."""
    x, fp16 = torch.tensor([100.0, 200.0]), torch.tensor([103.0, 204.0])
    one = torch.tensor([103.0, 204.25])
    for base, near, far in ((None, 1.05, 1.15), (x, 1.0005, 1.01)):
        check = rank_parts.against(fp16, one, base)
        check("INT8, shared scale", one)
        for name in ("FP16", "INT8 on 1", "INT8, own scales", "INT8, own scales, peers"):
            check(name, fp16 * near)
            with pytest.raises(WrongOnRanks, match=f"^{name} is off by"):
                check(name, fp16 * far)
        for name in ("INT8, shared scale", "INT8, shared scale, peers"):
            with pytest.raises(WrongOnRanks, match=f"^{name} differs from one GPU's bits in 1 of 2"):
                check(name, fp16)


def test_a_layer_by_peers_is_another_one(monkeypatch):
    class Copied(RealGroup):
        def __init__(self, group):
            self.of, self.peers = group, None

    monkeypatch.setattr(rank_parts, "Group", Copied)
    monkeypatch.setattr(rank_parts, "PeerMemory", Peers)
    layer = SimpleNamespace(group="before", weight="w")
    other = rank_parts.layer_by_peers(layer, "the ranks")
    assert (layer.group, other.weight, other.group.of) == ("before", "w", "the ranks")
    assert (other.group.peers.group, other.group.peers.size_bytes) == (other.group, PEER_BYTES)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("size", [2, 4])
def test_attention_by_parts_of_the_heads(monkeypatch, size, fails):
    def mixed(q, k, v, is_causal):
        seen.append((tuple(q.shape), tuple(k.shape), tuple(v.shape), is_causal))
        return (q + k + v).sum(dim=1)

    seen = []
    monkeypatch.setattr(transformer, "mixed", mixed)
    q, k, v = (torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    try:
        with rank_parts.attention_by_parts(size):
            got = transformer.mixed(q, k, v, True)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert transformer.mixed is mixed and seen == [((1, 4 // size, 2, 3),) * 3 + (True,)] * size
    assert torch.equal(got, torch.cat([mixed(*(t[:, i:i + 4 // size] for t in (q, k, v)), True)
                                       for i in range(0, 4, 4 // size)], dim=-1))


class Whole(torch.nn.Module):
    """A block whose result says by how many parts of the heads it attends."""

    def __init__(self, name="FP16", options=None):
        super().__init__()
        self.name, self.options = name, options

    def forward(self, x, turn, past):
        return x + 1 if self.name == "FP16" else x + 1 + transformer.mixed(0, 0, 0, False)


def cut(block, group, **options):
    """In place, as `parallelize_` does it: whoever is cut is whole no more."""
    assert block.options is None
    block.options = options
    return block


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("phase", "small"), [("prefill", False), ("decode", False), ("decode", True)])
def test_a_block_on_one_gpu_and_on_all(on_gpus, monkeypatch, phase, small, same):
    """Ranks are compared with one GPU that attends to their heads by themselves."""
    monkeypatch.setattr(transformer, "mixed", lambda *_: 0.0)
    parts = 0.0 if same else 0.03125

    class Parts:
        def __init__(self, size):
            assert size == 2

        def __enter__(self):
            transformer.mixed = lambda *_: parts

        def __exit__(self, *_):
            transformer.mixed = lambda *_: 0.0

    monkeypatch.setattr(rank_parts, "attention_by_parts", Parts)
    monkeypatch.setattr(rank_parts, "Block", lambda config: Whole())
    monkeypatch.setattr(rank_parts, "FusedInt8Block", lambda block: Whole("INT8"))
    monkeypatch.setattr(rank_parts, "parallelize_", cut)
    monkeypatch.setattr(rank_parts, "rotation", lambda config, positions: positions)
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: Whole(f"compiled {module.name}", module.options))
    rows = rank_parts.block(Group(), phase, 3, small)
    asked, = on_gpus
    config = SMALL if small else LARGE
    assert asked.place == {"part": "block", "phase": phase, "M": 3, "N": config.dim, "K": config.hidden, "same_bits_as":
                           "one GPU" if same else "one GPU, attention to each rank's heads by themselves"}
    made = {name: (call.func.name, call.func.options) for name, call in asked.calls.items()}
    peers, shared, own = {"peer_bytes": PEER_BYTES}, {"scales": "shared"}, {"scales": "own"}
    wanted = {"FP16 on 1": ("FP16", None), "INT8 on 1": ("INT8", None), "FP16": ("FP16", {}),
              "INT8, shared scale": ("INT8", shared), "INT8, own scales": ("INT8", own)}
    if not small:
        wanted |= {"FP16, peers": ("FP16", peers), "INT8, shared scale, peers": ("INT8", shared | peers),
                   "INT8, own scales, peers": ("INT8", own | peers), "FP16, compiled on 1": ("compiled FP16", None),
                   "INT8, compiled on 1": ("compiled INT8", None), "FP16, compiled": ("compiled FP16", {}),
                   "FP16, compiled, peers": ("compiled FP16", peers)}
    if phase == "prefill":
        wanted["INT8, own scales, overlapped"] = ("INT8", own | {"pieces": 4})
    assert made == wanted and [row["function"] for row in rows] == [name.removesuffix(" on 1") for name in made]

    length, heads = 8 if small else 2048, config.kv_heads
    for name, call in asked.calls.items():
        x, turn, past = call.args
        assert tuple(x.shape) == ((1, 3, config.dim) if phase == "prefill" else (3, 1, config.dim))
        assert turn.tolist() == (list(range(3)) if phase == "prefill" else [length - 1])
        if phase == "prefill":
            assert past is None
        else:
            mine = heads if name.endswith("on 1") else heads // 2
            assert [tuple(kept.shape) for kept in past] == [(3, mine, length, config.head_dim)] * 2
            assert all(kept.is_contiguous() for kept in past) and not torch.equal(*past)
    x = asked.calls["FP16"].args[0]
    asked.check("INT8, shared scale", x + 1 + parts)
    with pytest.raises(WrongOnRanks, match="one GPU's bits"):
        asked.check("INT8, shared scale", x + 1 + (0.03125 if same else 0.0))
    with pytest.raises(WrongOnRanks, match="is off by"):
        asked.check("FP16", x + 1.2)
