"""The times of a block: which calls are compared and timed, and the work that they count."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from checks.bench.measure import Timing
from checks.capstone import block
from checks.capstone.accuracy import linears
from checks.capstone.report_card import RECORDED, read_card
from checks.capstone.training import FOLDER
from kernels.block_cost import block_products
from kernels.runtime import INTERPRETED
from kernels.transformer import LLAMA_3_8B, Config, rotation

TINY = Config(vocabulary=256, layers=1, dim=32, heads=2, kv_heads=1, hidden=48)
NAMES = ["FP16", "INT8", "INT8 fused"]


@pytest.mark.parametrize("phase, batch, length, M", [("prefill", 1, 5, 5), ("decode", 3, 4, 3)])
def test_each_variant_of_a_block_takes_each_workload(phase, batch, length, M):
    blocks = block.make_blocks(TINY)
    assert list(blocks) == NAMES
    x, _, past = arguments = block.workload(TINY, phase, batch, length)
    assert x.shape[0] * x.shape[1] == M and (past is None) == (phase == "prefill")
    want = blocks["FP16"](*arguments) - x
    for made in blocks.values():
        assert ((made(*arguments) - x - want).float().norm() / want.float().norm()).item() < block.WORST
    assert block.scaled_dot_products(TINY, x, past)().shape == (batch, TINY.heads, x.shape[1], TINY.head_dim)
    weights = sum(linear.weight.numel() for linear in linears(blocks["FP16"]).values())
    work = block.block_work(TINY, "INT8", phase, batch, length)
    assert work["bytes"] == weights + (0 if past is None else sum(kept.nbytes for kept in past))
    assert work["flops"] >= 2 * M * weights


def test_modes_are_called_by_their_number_in_a_row():
    assert block.label("eager", 1) == "eager" and block.label("eager", 4) == "eager, 4 in a row"
    assert ("eager", "compile", "reduce-overhead", "graph", *(
        f"{mode}, 4 in a row" for mode in ("eager", "compile", "graph", "reduce-overhead"))) == block.LABELS


def test_times_that_mean_nothing_are_left_out(monkeypatch):
    kept, said = {"good": block.Timing(1.0, 1.0, 1.0)}, []

    def refuse(sides, mode):
        raise block.Refused({"bad": "it took no time"}, kept)

    monkeypatch.setattr(block, "time_us", refuse)
    assert block.timed({"good": None, "bad": None}, "eager", said.append) == kept
    assert said == ["left out: bad, it took no time"]


def test_the_work_of_a_block_in_numbers():
    config = Config(vocabulary=1, layers=1, dim=8, heads=2, kv_heads=1, hidden=12)
    weights = 2 * 8 * 8 + 2 * 8 * 4 + 3 * 8 * 12
    assert block.block_work(config, "FP16", "prefill", 2, 10) == {
        "flops": 2 * 20 * weights + 4 * (2 * 10 * 10 // 2) * 8, "bytes": 2 * weights}
    assert block.block_work(config, "INT8 fused", "decode", 3, 10) == {
        "flops": 2 * 3 * weights + 4 * 3 * 10 * 8, "bytes": weights + 3 * 10 * 2 * 4 * 2}


@pytest.fixture
def timers(monkeypatch):
    """Stands in for the timer and for torch.compile; gives what was asked of the timer."""
    asked = []

    def timed(sides, mode):
        asked.append((list(sides), mode))
        return {name: Timing(10.0 + at, 9.0, 20.0) for at, name in enumerate(sides)}

    monkeypatch.setattr(block, "time_us", timed)
    monkeypatch.setattr(block, "modes", lambda made, arguments: [(mode, lambda: made(*arguments)) for mode in block.MODES])
    return asked


def test_every_variant_is_timed_in_every_mode(timers, monkeypatch):
    """Which computes no block: each takes each workload in the test above."""
    monkeypatch.setattr(block, "make_blocks", lambda config: dict.fromkeys(NAMES, lambda x, turn, past: 2 * x))
    said = []
    rows = block.block_rows(TINY, [("prefill", 1, 5), ("decode", 3, 4)], said.append)
    in_modes = [(NAMES, mode) for mode in ("idle", "idle", "idle", "eager")]
    assert timers == [*in_modes, *in_modes[1:], *in_modes, (NAMES, "idle")]
    assert [(row["phase"], row["mode"], row["function"]) for row in rows] == [
        *(("prefill", mode, name) for mode in (*block.MODES, "eager, 4 in a row", "compile, 4 in a row", "graph, 4 in a row")
          for name in NAMES),
        *(("decode", mode, name) for mode in (*block.MODES, "reduce-overhead, 4 in a row") for name in NAMES)]
    assert rows[13]["median_us"] == 11 / 4
    first, last = rows[0], rows[-1]
    assert (first["M"], first["batch"], first["context"], first["test"]) == (5, 1, 5, "block")
    assert (last["M"], last["batch"], last["context"]) == (3, 3, 4)
    assert (rows[1]["median_us"], rows[1]["low_us"], rows[1]["high_us"]) == (11, 9, 20) and len(said) == len(rows)
    assert {name: last[name] for name in ("flops", "bytes")} == block.block_work(TINY, "INT8 fused", "decode", 3, 4)


@pytest.mark.parametrize("off, refused", [(0.09, False), (0.11, True), (float("nan"), True)])
def test_a_block_that_is_far_from_fp16_is_not_timed(timers, monkeypatch, off, refused):
    def made(factor):
        return lambda x, turn, past: x + factor

    monkeypatch.setattr(block, "make_blocks", lambda config: {"FP16": made(1.0), "INT8": made(1.0 + off)})
    if refused:
        with pytest.raises(AssertionError, match="INT8, eager, M=2: the block's change of x is off by"):
            block.block_rows(TINY, [("decode", 2, 4)], lambda line: None)
        assert timers == []
    else:
        assert len(block.block_rows(TINY, [("decode", 2, 4)], lambda line: None)) == 10


def test_each_side_is_compiled_for_itself():
    """torch.compile gives up after eight variants of one code object, and searches them in turn."""
    one, other = (block.in_a_row(lambda x, y: x + y, number) for number in (1, 3))
    assert one.__code__ is not other.__code__
    assert (one(1, 10), other(1, 10)) == (11, 31)


@pytest.mark.skipif(not INTERPRETED, reason="the kernels' shapes are too small for a GPU's choice of tiles")
def test_each_product_is_timed_with_its_quantization(timers):
    rows = block.product_rows(TINY, [("prefill", 1, 5), ("decode", 3, 4)], lambda line: None)
    layers = list(block_products(1, 1, 1))
    for phase, M in (("prefill", 5), ("decode", 3)):
        mine = [row for row in rows if row["phase"] == phase]
        assert {(row["layer"], row["function"]) for row in mine} == {
            ("attention", "FP16"), *((layer, function) for layer in layers for function in ("FP16", "INT8", "quantize"))}
        assert {(row["M"], row["test"], row["mode"]) for row in mine} == {(M, "block_product", "eager")}
    assert [mode for _, mode in timers] == ["eager", "eager"]


@pytest.mark.parametrize("phase, batch, length, places", [("prefill", 2, 5, range(5)), ("decode", 3, 4, [3])])
def test_a_token_stands_at_its_place_behind_the_cache(monkeypatch, phase, batch, length, places):
    fixed = []
    monkeypatch.setattr(torch._dynamo, "mark_static_address", fixed.append)
    x, turn, past = block.workload(TINY, phase, batch, length)
    assert x.shape == (batch, len(places), TINY.dim) and x.dtype == torch.float16
    assert torch.equal(turn, rotation(TINY, torch.tensor(list(places), device=turn.device)))
    if phase == "prefill":
        assert past is None and not fixed
    else:
        assert [kept.shape for kept in past] == [(batch, TINY.kv_heads, length, TINY.head_dim)] * 2
        assert [id(kept) for kept in fixed] == [id(kept) for kept in past], "or a CUDA graph is not made"


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_all_tensors_are_made_where_the_kernels_run(monkeypatch, phase):
    monkeypatch.setattr(block, "device", lambda: torch.device("meta"))
    x, turn, past = block.workload(TINY, phase, 2, 5)
    made = (x, turn, *(past or ()), *block.scaled_dot_products(TINY, x, past).args)
    assert {each.device.type for each in made} == {"meta"}


@pytest.mark.parametrize("phase, batch, length", [("prefill", 2, 5), ("decode", 3, 4)])
def test_attention_alone_is_of_the_tokens_and_the_cache(monkeypatch, phase, batch, length):
    x, _, past = block.workload(TINY, phase, batch, length)
    call = block.scaled_dot_products(TINY, x, past)
    q, k, v = call.args
    assert q.shape == (batch, TINY.heads, x.shape[1], TINY.head_dim)
    assert call.func is torch.nn.functional.scaled_dot_product_attention
    assert call.keywords == {"is_causal": phase == "prefill", "enable_gqa": True}
    if past:
        assert k is past[0] and v is past[1]
    else:
        assert k.shape == v.shape == (batch, TINY.kv_heads, length, TINY.head_dim)
    assert {each.dtype for each in call.args} == {torch.float16}


def test_a_call_is_compiled_and_recorded_as_its_mode_says(monkeypatch):
    """One compiled call is replayed as a CUDA graph, and warmed up on another stream before."""
    events, compiled = [], []

    class Graph:
        def replay(self):
            events.append("replay")

    @contextlib.contextmanager
    def within(what):
        events.append(f"in {what}")
        yield
        events.append(f"out of {what}")

    def compile_(call, **options):
        compiled.append(options)
        number = len(compiled)
        return lambda x: events.append(f"compiled {number}") or call(x)

    stream = SimpleNamespace(wait_stream=lambda other: events.append("side waits for main" * (other is main)))
    main = SimpleNamespace(wait_stream=lambda other: events.append("main waits for side" * (other is stream)))
    monkeypatch.setattr(torch, "compile", compile_)
    for name, value in {"Stream": lambda: stream, "current_stream": lambda: main, "CUDAGraph": Graph,
                        "stream": lambda given: within("side" if given is stream else "?"),
                        "graph": lambda given: within(type(given).__name__)}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    calls = dict(block.modes(lambda x: x + 1, (41,)))
    assert tuple(calls) == block.MODES
    assert compiled == [{"dynamic": False}, {"mode": "reduce-overhead", "dynamic": False}]
    assert events == ["side waits for main", "in side", *["compiled 1"] * 3, "out of side", "main waits for side",
                      "in Graph", "compiled 1", "out of Graph"]
    assert [call() for call in calls.values()] == [42] * 4 and events[-1] == "replay"


def test_what_is_timed_is_what_the_lesson_says():
    assert block.PLACES == (("prefill", 1, 8192), ("decode", 1, 2048), ("decode", 16, 2048), ("decode", 64, 2048))
    recorded = read_card(FOLDER / RECORDED)["rows"]
    whole = [row for row in recorded if row["test"] == "block"]
    assert {(row["phase"], row["batch"], row["context"]) for row in recorded} == {*block.PLACES}
    assert {row["mode"] for row in whole} == {*block.LABELS} and {row["function"] for row in whole} == {*NAMES}
    for row in whole:
        assert {name: row[name] for name in ("flops", "bytes")} == block.block_work(
            LLAMA_3_8B, row["function"], row["phase"], row["batch"], row["context"])
