"""Two ranks that talk through Gloo: the library's parallel layers, the benchmark's parts, and how ranks end."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import rank_jobs
import row_options
import torch

from checks.bench import rank_parts
from checks.judge.source import define
from checks.ranks.portable import pack
from checks.ranks.processes import Each, RankFailed, RankHung, Ranks
from kernels.linear import Int8Linear
from kernels.parallel import ColumnParallelInt8Linear, RowParallelInt8Linear, parallelize_
from kernels.transformer import Block


@pytest.fixture(scope="module")
def two():
    ranks = Ranks(timeout_s=20)
    yield ranks
    ranks.stop()
    end = time.monotonic() + 5
    while any(there(pid) for pid in ranks.pids) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(there(pid) for pid in ranks.pids)


def there(pid):
    """Whether the process runs: one that has ended may be waiting for its parent to ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_layers_give_one_gpu_s_bits(two):
    two.run(rank_jobs.layers_give_one_gpu_s_bits)


def test_own_scales_are_as_near_to_fp16(two):
    (errors, without_bias), (same_errors, rank_1_without) = two.run(rank_jobs.own_scales)
    assert errors == same_errors and max(errors) < 0.02 and errors[0] != errors[2]
    assert (without_bias, rank_1_without) == (False, True)


def test_models_are_cut_by_heads_and_columns(two):
    for fp16_off, own_off in two.run(rank_jobs.models_on_ranks):
        assert fp16_off < 0.01 and own_off < 0.02


def test_peers_give_the_same(two):
    assert two.run(rank_jobs.blocks_by_peers) == [(1, 1, 32)] * 2


def test_a_layer_compiles_to_one_graph(two):
    assert two.run(rank_jobs.compiled_layer) == [True, True]


@pytest.mark.parametrize("compiled", [False, True])
def test_each_option_of_a_row_parallel_layer(two, compiled):
    assert two.run(row_options.options_of_int8, compiled) == [[], []]
    assert two.run(row_options.gradients_of_int8, compiled) == [[], []]


def test_each_option_of_a_layer_of_floats(two):
    assert two.run(row_options.options_of_floats) == [[], []]


def test_what_cannot_be_cut_is_refused(two):
    first, second = two.run(rank_jobs.refusals)
    wanted = ("linear.out_features must be a multiple of the 2 ranks, got 9",
              "linear.in_features must be a multiple of the 2 ranks, got 25",
              "the ranks hold different weights: weight is not the same on all of them",
              "the ranks hold different weights: not the same names, shapes or dtypes",
              "the model's kv_heads must be a multiple of the 2 ranks, got 1",
              "x must be (..., 12), this rank's part of the columns, got (2, 24)", "model is cut already")
    assert first == second and len(first) == len(wanted)
    assert all(want in got for want, got in zip(wanted, first, strict=True))


@pytest.mark.parametrize(("part", "arguments"), [
    (rank_parts.link, ()), (rank_parts.products, ()), (rank_parts.mlps, ()), (rank_parts.block, ("decode", 2))],
    ids=["link", "products", "mlps", "block"])
def test_a_part_of_the_benchmark_checks_what_it_would_time(two, part, arguments):
    rows, other = two.run(part, *arguments, True)
    assert rows and rows == other and not any("failed" in row or "median_us" in row for row in rows)


def test_a_function_of_a_notebook_goes_by_source(two):
    namespace = {"torch": torch, "factor": 3}
    define("def helper(x):\n    return x * factor\n", "helper", namespace)
    student = define("def student(x, group):\n    return group.all_reduce(helper(x).float())\n", "student", namespace)
    (sums, exchanged), (other, _) = two.run(pack(student), Each([{"x": torch.ones(2)}, {"x": torch.full((2,), 2.0)}]))
    assert sums.tolist() == other.tolist() == [9, 9] and exchanged == 8
    alone = "def student(x, group):\n    if group.rank == 0:\n        group.all_reduce(x)\n"
    with pytest.raises(RankFailed, match=r"rank 0 waits in the sum of \(2,\) float32, and rank 1 never comes: .* returned"):
        two.run(pack(define(alone, "student", namespace)), {"x": torch.ones(2)})
    shapes = "def student(x, group):\n    group.all_reduce(x[group.rank:])\n"
    with pytest.raises(RankFailed, match=r"rank 0 is in the sum of \(2,\) float32, rank 1 is in the sum of \(1,\) float32"):
        two.run(pack(define(shapes, "student", namespace)), {"x": torch.ones(2)})
    for numbers in (3, 1):  # each call by itself, whatever those before it exchanged
        assert [bytes for _, bytes in two.run(pack(student), {"x": torch.ones(numbers)})] == [4 * numbers] * 2
    assert two.alive


def test_no_process_group_is_an_error():
    layer = torch.nn.Linear(4, 4).half()
    for call in (lambda: ColumnParallelInt8Linear.from_linear(layer), lambda: RowParallelInt8Linear.from_linear(layer),
                 lambda: parallelize_(layer)):
        with pytest.raises(RuntimeError, match="there is no process group: call torch.distributed.init_process_group"):
            call()
    with pytest.raises(TypeError, match="group must be a torch.distributed process group .* got 3"):
        parallelize_(layer, 3)


def test_a_group_of_one_changes_nothing(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model = torch.nn.Sequential(Block(rank_jobs.TINY).half())
        names = [name for name, _ in model.named_parameters()]
        assert parallelize_(model) is model and [name for name, _ in model.named_parameters()] == names
        whole, x = Int8Linear.from_linear(rank_jobs.linear()), rank_jobs.rows(1)
        for scales in ("shared", "own"):
            assert torch.equal(RowParallelInt8Linear.from_linear(whole, scales=scales)(x), whole(x))
        assert torch.equal(ColumnParallelInt8Linear.from_linear(rank_jobs.linear())(x), whole(x))
        with pytest.raises(ValueError, match=r"scales must be one of \('shared', 'own'\), got 'both'"):
            parallelize_(model, scales="both")
        with pytest.raises(ValueError, match="model must hold blocks of kernels.transformer"):
            parallelize_(torch.nn.Sequential(torch.nn.ReLU()))
    finally:
        torch.distributed.destroy_process_group()


def test_a_rank_that_never_comes_is_named(two):
    with pytest.raises(RankFailed, match="rank 1: KeyError: 'this one alone'"):
        two.run(rank_jobs.raises)
    assert two.alive


@pytest.mark.parametrize("answers, entered, kind, said", [
    ({}, {0: "the sum"}, RankHung, ["rank 0 waits in the sum", "rank 1 is in f, and no answer came within 5 s"]),
    ({0: {"result": 1}}, {}, RankHung, ["rank 1 is in f"]),
    ({1: {"error": {"type": "KeyError", "text": "x"}}}, {0: "the sum"}, RankFailed,
     ["rank 1: KeyError: x", "rank 0 waits in the sum"])], ids=["neither answers", "one answers", "one has failed"])
def test_who_did_not_answer_hung_unless_another_failed(monkeypatch, answers, entered, kind, said):
    ranks = Ranks.__new__(Ranks)
    ranks.size, stopped = 2, []
    monkeypatch.setattr(ranks, "stop", lambda: stopped.append(True), raising=False)
    with pytest.raises(RankFailed) as failed:
        ranks._late(answers, entered, "f", 5.0)
    assert type(failed.value) is kind and stopped == [True]
    assert [part in str(failed.value) for part in said] == [True] * len(said)


def test_a_killed_rank_ends_the_other_within_seconds(two):
    assert two.run(rank_jobs.sums_once) == [("gloo", 3.0)] * 2
    began = time.monotonic()
    threading.Timer(0.2, lambda: os.kill(two.pids[1], signal.SIGKILL)).start()
    with pytest.raises(RankFailed) as failed:
        two.run(rank_jobs.sums_without_end)
    assert "rank 1 has ended" in str(failed.value)
    assert "rank 0 waits for rank 1 in the sum of ones (3,) float32" in str(failed.value)
    assert not two.alive and time.monotonic() - began < 10
