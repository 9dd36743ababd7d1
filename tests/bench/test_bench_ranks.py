"""The benchmark of several GPUs: which parts there are, what becomes of each one's rows, and whose time counts."""

import inspect
import json
import math
from types import SimpleNamespace

import pytest
import torch
import triton

from checks.bench import rank_parts, rank_timing, ranks
from checks.bench.results import BadResults
from checks.ranks.processes import RankFailed


def test_each_part_is_called_as_it_is_written():
    for parts, small in ((ranks.PARTS, False), (ranks.SMALL_PARTS, True)):
        assert {part for part, _ in parts.values()} == {
            rank_parts.link, rank_parts.products, rank_parts.mlps, rank_parts.block}
        for name, (part, arguments) in parts.items():
            given = inspect.signature(part).bind(None, *arguments, small).arguments
            assert given["small"] is small
            assert (part is rank_parts.block) == (name == "block, {phase} of {M:,}".format(**{"phase": "", "M": 0, **given}))
    phases = [arguments[0] for _, arguments in ranks.PARTS.values() if arguments]
    assert phases == ["prefill", "decode", "decode"]


class FakeRanks:
    """Ranks of which each part gives what it is told to, or fails, with what was asked of them."""

    def __init__(self, size, backend, timeout_s):
        asked.append((size, backend, timeout_s))
        self.alive = True

    def run(self, part, *arguments, timeout_s):
        asked.append((part, arguments, timeout_s))
        if isinstance(part, Exception):
            raise part
        return [part, "the other rank's"]

    def stop(self):
        asked.append("stop")
        self.alive = False


asked: list = []


@pytest.fixture
def ranks_asked(monkeypatch):
    asked.clear()
    monkeypatch.setattr(ranks, "Ranks", FakeRanks)
    return asked


GOOD = {"part": "link", "M": 4, "gpus": 2, "function": "f", "sent_bytes": 6000, "median_us": 2.0, "low_us": 1.0,
        "high_us": 3.0, "sqnr_db": 40.04}
SLOWER = {**GOOD, "function": "slower", "median_us": 4.0, "sqnr_db": None}
BAD = {"part": "link", "M": 16, "gpus": 1, "function": "g", "failed": "wrong bits"}


@pytest.mark.parametrize("here", [True, False])
def test_a_part_that_fails_costs_its_own_rows_alone(ranks_asked, monkeypatch, here):
    monkeypatch.setattr(ranks, "INTERPRETED", here)
    said = []
    failed = RankFailed("rank 1 is gone")
    found = list(ranks.run_parts(3, {"first": ([GOOD, BAD], (1, 2)), "second": (failed, ()), "third": ([], ())},
                                 said.append, 50))
    assert found == [([GOOD], [{"part": "first", "function": "g", "reason": "wrong bits"}]),
                     ([], [{"part": "second", "function": "all", "reason": "rank 1 is gone"}]), ([], [])]
    new = 3, "gloo" if here else "nccl", 50
    assert ranks_asked == [
        new, ([GOOD, BAD], (1, 2, here), 50), (failed, (here,), 50), "stop", new, ([], (here,), 50), "stop"]
    assert [line.split(",")[0] for line in said if "row" in line] == ["first: 2 rows", "third: 0 rows"]
    assert [" ".join(line.split()) for line in said if line.startswith("  ")] == [
        "link M=4 2 GPU f 2.0 us (1.0 to 3.0) 40.0 dB", "link M=16 1 GPU g failed: wrong bits"]
    assert said[3] == "second: failed: rank 1 is gone"


def test_a_row_without_a_time_is_not_said(ranks_asked):
    """Nor an accuracy that there is none of."""
    said, untimed = [], {"part": "link", "M": 4, "gpus": 2, "function": "f", "sent_bytes": 6000}
    assert list(ranks.run_parts(2, {"first": ([untimed, SLOWER], ())}, said.append, 50)) == [([untimed, SLOWER], [])]
    assert said[0].startswith("first: 2 rows, ")
    assert [line.split() for line in said[1:]] == [["link", "M=4", "2", "GPU", "slower", "4.0", "us", "(1.0", "to", "3.0)"]]


def test_ranks_are_stopped_whatever_ends_the_parts(ranks_asked):
    with pytest.raises(KeyError):
        list(ranks.run_parts(2, {"a": (KeyError("b"), ())}, print, 5))
    assert ranks_asked[-1] == "stop"


def test_no_part_gets_more_time_than_is_left(ranks_asked, monkeypatch):
    monkeypatch.setattr(ranks, "ALL_S", 100)
    clock = iter([0, 10, 11, 70, 71, 130, 131])
    monkeypatch.setattr(ranks, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    list(ranks.run_parts(2, dict.fromkeys("abc", ([], ())), lambda line: None, 60))
    assert [one[2] for one in ranks_asked[1:-1]] == [60, 30, 1]


def test_rows_are_written_after_each_part(monkeypatch, tmp_path, capsys):
    """And nothing without GPUs, where nothing was timed."""
    path = tmp_path / "deep" / "gpu_x_x2.json"
    seen, given = [], []

    def run_parts(size, parts, say, part_s):
        given.append((size, parts, say, part_s))
        for rows in ([GOOD], [SLOWER, {**GOOD, "part": "mlp", "sent_bytes": 10**9}]):
            yield rows, [{"part": "a"}]
            seen.append(json.loads(path.read_text()) if path.exists() else None)

    monkeypatch.setattr(ranks, "run_parts", run_parts)
    monkeypatch.setattr(ranks, "INTERPRETED", True)
    said = []
    small = ranks.measure(2, tmp_path / "none", said.append)
    assert not list(tmp_path.iterdir())
    assert seen == [None, None] and small["gpu"] is None and len(small["rows"]) == 3 and "nothing is timed" in said[0]
    monkeypatch.setattr(ranks, "INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU X")
    figures = ranks.measure(2, tmp_path / "deep", print, 7.0)
    assert [(size, parts, part_s) for size, parts, _, part_s in given] == [
        (2, ranks.SMALL_PARTS, ranks.PART_S), (2, ranks.PARTS, 7.0)] and given[1][2] is print
    assert [len(each["rows"]) for each in seen[2:]] == [1, 3] and capsys.readouterr().out == f"written to {path}\n"
    assert figures == seen[-1] == ranks.load(path)
    assert (figures["gpu"], figures["ranks"], figures["link_gb_per_s"], len(figures["notes"])) == ("GPU X", 2, 3.0, 2)
    assert figures.keys() == ranks.load().keys(), "as those that are recorded"
    assert (figures["torch"], figures["triton"]) == (torch.__version__, triton.__version__)
    assert ranks.link_gb_per_s([BAD]) is None


@pytest.mark.parametrize(("size", "interpreted", "said"), [
    (1, True, "takes 2 or more, got 1"), (3, False, "needs 3 GPUs, and there are 2")])
def test_too_few_ranks_or_gpus_are_named(monkeypatch, size, interpreted, said):
    monkeypatch.setattr(ranks, "INTERPRETED", interpreted)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(BadResults, match=said):
        ranks.measure(size)


def test_figures_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recorded figures in"):
        ranks.load(tmp_path / "none.json")
    (tmp_path / "old.json").write_text('{"schema": 0}')
    with pytest.raises(BadResults, match="has schema 0, and this version reads schema 1"):
        ranks.load(tmp_path / "old.json")


def test_the_slower_rank_counts_and_alone_the_faster(monkeypatch):
    mine, waiting = {"all": [1.0, 5.0, 3.0], "one on 1": [4.0, 4.0, 6.0]}, [[2.0, 4.0, 3.0], [5.0, 3.0, 7.0]]

    def all_reduce(tensor, operation):
        assert operation == "max"
        theirs = torch.tensor(waiting.pop(0), dtype=torch.float64)
        return torch.maximum(tensor, theirs if tensor[0] > 0 else -theirs)

    monkeypatch.setattr(rank_timing, "torch", SimpleNamespace(
        float64=torch.float64, tensor=lambda values, device, dtype: torch.tensor(values, dtype=dtype)))
    monkeypatch.setattr(rank_timing.timing, "time_us", lambda sides, gpu, repeats, warmup: (
        mine if (list(sides), gpu, repeats, warmup) == (list(mine), "gpu", 20, 3) else {}))
    group = SimpleNamespace(all_reduce=all_reduce)
    found = rank_timing.times(mine, group, "gpu", {"one on 1"})
    assert found == {"all": {"median_us": 3.0, "low_us": 2.0, "high_us": 5.0},
                     "one on 1": {"median_us": 4.0, "low_us": 3.0, "high_us": 6.0}}
    assert rank_timing.times(mine, group, None, set()) == {"all": {}, "one on 1": {}}


def test_a_call_is_captured_where_there_is_a_gpu():
    did = []
    gpu = SimpleNamespace(capture=lambda call: (lambda: did.append("replay"), "what the graph wrote"))
    assert rank_timing.Captured(lambda: "called", None)() == "called"
    captured = rank_timing.Captured(lambda: "called", gpu)
    assert [captured(), captured()] == ["what the graph wrote"] * 2 and did == ["replay", "replay"]


def test_what_fails_on_any_rank_is_timed_on_none(monkeypatch):
    """A row says so, in place of its times; GPUs are counted by the name."""
    monkeypatch.setattr(rank_parts, "times", lambda sides, group, gpu, alone: {
        name: {"median_us": 1.0 if name in alone else 2.0} for name in sides})
    elsewhere = iter([0, 0, 1, 0])
    group = SimpleNamespace(size=2, all_reduce=lambda here, _: torch.maximum(here.cpu(), torch.tensor([next(elsewhere)])))
    one = torch.ones(2)
    given = rank_parts.Setting(group, rank_parts.SMALL, (1,), None)

    def check(name, result):
        assert torch.equal(result, one) and result is not one
        if name == "wrong":
            raise rank_parts.WrongOnRanks("it is")

    rows = given.measured(dict.fromkeys(("a", "a on 1", "there", "wrong"), lambda: one), check, part="p", M=3)
    assert rows == [{"function": "there", "gpus": 2, "part": "p", "M": 3, "failed": "it failed on another rank"},
                    {"function": "wrong", "gpus": 2, "part": "p", "M": 3, "failed": "WrongOnRanks: it is"},
                    {"function": "a", "gpus": 2, "part": "p", "M": 3, "median_us": 2.0},
                    {"function": "a", "gpus": 1, "part": "p", "M": 3, "median_us": 1.0}]


def test_results_are_held_to_one_gpu_s():
    want = torch.tensor([3.0, 4.0])
    rank_parts.close("y", want * 1.09, want)
    rank_parts.same_bits("y", want.clone(), want)
    assert rank_parts.sqnr_db(want * 1.1, want) == pytest.approx(20, abs=1e-3)
    for got in (want * 1.11, want * math.nan):
        with pytest.raises(rank_parts.WrongOnRanks, match="y is off by"):
            rank_parts.close("y", got, want)
    with pytest.raises(rank_parts.WrongOnRanks, match="bits in 1 of 2 numbers"):
        rank_parts.same_bits("y", torch.tensor([3.0, 5.0]), want)


def test_ranks_meet_after_the_flush(monkeypatch):
    did = []
    monkeypatch.setattr(rank_timing.MeasuringGPU, "flush_l2", lambda self: did.append("flush"))
    gpu = object.__new__(rank_timing.TogetherGPU)
    gpu._group, gpu._tick = SimpleNamespace(all_reduce=did.append), "meet"
    gpu.flush_l2()
    assert did == ["flush", "meet"]
