"""What ranks say to each other and what their parent makes of it, without the processes; notebooks' functions as bytes."""

import io
import math
import pickle
import queue
import re
import statistics
import sys
import types

import pytest
import torch

from checks.judge.source import define
from checks.ranks import kept as kept_ranks
from checks.ranks import processes
from checks.ranks.kept import in_processes, raised, run_on_ranks
from checks.ranks.meeting import NotTogether, mismatch, place
from checks.ranks.portable import pack, unpack
from checks.ranks.processes import Each, RankFailed, RankHung, Ranks, receive, send


@pytest.mark.parametrize(("entered", "size", "said"), [
    ({0: "a", 1: "a"}, 2, None), ({0: "a", 1: "a", 2: "a"}, 3, None),
    ({1: "a"}, 2, "rank 1 waits in a, and rank 0 never comes"), ({0: "a"}, 2, "rank 0 waits in a, and rank 1 never comes"),
    ({2: "b", 1: "a"}, 3, "rank 1 waits in a, and rank 0 never comes"),
    ({0: "a", 2: "a"}, 3, "rank 0 .* rank 1 never comes"),
    ({1: "a", 0: "b"}, 2, "do not meet: rank 0 is in b, rank 1 is in a. All must"),
    ({0: "a", 1: "a", 2: "b"}, 3, "rank 0 is in a, rank 1 is in a, rank 2 is in b")])
def test_whether_ranks_meet(entered, size, said):
    found = mismatch(entered, size)
    assert found is None if said is None else re.search(said, found)


def test_a_place_is_an_operation_on_a_shape_and_a_dtype():
    assert place("sum", torch.zeros(2, 3, dtype=torch.int8)) == "the sum of (2, 3) int8"


class Played(Ranks):
    """Ranks whose words are given beforehand: (rank, message), one after the other."""

    def __init__(self, said, size=2):
        self.size, self.pids, self.stopped, self._ended = size, list(range(size)), False, set()
        self._said, self._jobs = queue.Queue(), [io.BytesIO() for _ in range(size)]
        for one in said:
            self._said.put(one)

    def stop(self):
        self.stopped = True

    def _errors(self):
        return "the last line"

    def heard(self):
        """What each rank was sent."""
        for jobs in self._jobs:
            jobs.seek(0)
        return [list(iter(lambda jobs=jobs: receive(jobs), None)) for jobs in self._jobs]


def function(group):
    raise AssertionError("it runs in the ranks alone")


def error(kind, text="x"):
    return {"error": {"type": kind, "text": text}}


def result(value):
    return {"result": value}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(processes, "AFTER_LOSS_S", 0.05)
    monkeypatch.setattr(processes, "AFTER_ERROR_S", 0.05)


def test_answers_are_in_the_order_of_the_ranks():
    ranks = Played([(2, result("c")), (0, result("a")), (1, result("b"))], size=3)
    assert ranks.run(function, 1, Each("xyz"), "all") == ["a", "b", "c"] and not ranks.stopped
    assert ranks.heard() == [[{"run": function, "arguments": [1, mine, "all"]}] for mine in "xyz"]


GO = {"go": True, "why": None}


@pytest.mark.parametrize(("said", "answers"), [
    ([(0, "a"), (1, "a")], [GO, GO]), ([(1, "a"), (0, "b")], ["rank 0 is in b, rank 1 is in a"] * 2),
    ([(0, "a"), (1, None)], ["rank 0 waits in a, and rank 1 never comes", None]),
    ([(0, None), (1, "a")], [None, "rank 1 waits in a, and rank 0 never comes"])])
def test_ranks_go_into_a_collective_together_or_not_at_all(said, answers):
    """None: the rank has returned by then."""
    words = [(rank, result(rank) if what is None else {"enter": what}) for rank, what in said]
    words += [(rank, result(rank)) for rank, what in said if what is not None]
    ranks = Played(words)
    assert ranks.run(function) == [0, 1]
    for heard, answer in zip(ranks.heard(), answers, strict=True):
        more = heard[1:]
        assert len(more) == (answer is not None)
        assert answer in (None, GO) and more in ([], [GO]) or not more[0]["go"] and answer in more[0]["why"]


def test_the_next_collective_is_met_anew():
    words = [(rank, {"enter": where}) for where in "ab" for rank in (0, 1)] + [(0, result(5)), (1, result(6))]
    ranks = Played(words)
    assert ranks.run(function) == [5, 6]
    assert [heard[1:] for heard in ranks.heard()] == [[GO, GO], [GO, GO]]


@pytest.mark.parametrize(("said", "stopped", "errors", "message"), [
    ([(0, result(1)), (1, error("KeyError"))], False, {1: ("KeyError", "x")}, "rank 1: KeyError: x"),
    ([(0, error("KeyError")), (1, error("KeyError", "y"))], False, {0: ("KeyError", "x"), 1: ("KeyError", "y")},
     "rank 0: KeyError: x; rank 1: KeyError: y"),
    ([(0, error("RankLost")), (1, error("KeyError"))], True, {0: ("RankLost", "x"), 1: ("KeyError", "x")}, "RankLost"),
    ([(0, error("KeyError")), (1, error("RankLost"))], True, {0: ("KeyError", "x"), 1: ("RankLost", "x")}, "RankLost"),
    ([(0, error("RankLost")), (1, error("RankLost"))], True, {0: ("RankLost", "x"), 1: ("RankLost", "x")}, "RankLost"),
    ([(0, result(1)), (1, error("RankLost"))], True, {1: ("RankLost", "x")}, "rank 1: RankLost: x")])
def test_ranks_are_kept_unless_their_group_is_lost(said, stopped, errors, message):
    ranks = Played(said)
    with pytest.raises(RankFailed, match=message) as failed:
        ranks.run(function)
    assert type(failed.value) is RankFailed and (failed.value.errors, ranks.stopped) == (errors, stopped)


@pytest.mark.parametrize(("said", "kind", "message"), [
    ([], RankHung, "rank 0 is in function, and no answer came within 0 s; rank 1 is in function, .* The ranks were stopped"),
    ([(0, {"enter": "a"})], RankHung, "rank 0 waits in a, .*; rank 1 is in function"),
    ([(1, error("KeyError"))], RankFailed, "rank 1: KeyError: x; rank 0 is in function"),
    ([(0, {"ended": True})], RankFailed, "^rank 0 has ended, without an answer. The last line of its errors: the last line"),
    ([(0, {"ended": True}), (1, {"enter": "a"})], RankFailed, "rank 0 has ended, without an answer. rank 1 waits in a. The"),
    ([(1, {"enter": "a"}), (0, {"ended": True})], RankFailed, "^rank 0 has ended, without an answer. rank 1 waits in a."),
    ([(0, {"ended": True}), (1, error("KeyError"))], RankFailed, "rank 0 has ended, .* rank 1: x. The last"),
    ([(0, {"enter": "a"}), (0, {"ended": True})], RankFailed, "^rank 0 has ended, without an answer. The last"),
    ([(1, {"ended": True}), (0, {"ended": True})], RankFailed, "^rank 1 has ended, without an answer. The last")])
def test_ranks_are_stopped_where_one_does_not_answer(said, kind, message):
    ranks = Played(said)
    with pytest.raises(RankFailed, match=message) as failed:
        ranks.run(function, timeout_s=60 if any("error" in word for _, word in said) else 0.05)
    assert type(failed.value) is kind and ranks.stopped


@pytest.mark.parametrize(("written", "said"), [
    ({}, ""), ({"errors 0": ""}, ""), ({"errors 0": "a\nb\n\n"}, "b"), ({"errors 0": "a", "errors 1": "c\nd"}, "d"),
    ({"errors 0": "a", "errors 1": ""}, "a"), ({"errors 0": "x" * 500}, "x" * 400), ({"store": "z"}, ""),
    ({"errors 0": "caf\udce9"}, "caf\ufffd")])
def test_the_last_line_that_a_rank_wrote(tmp_path, written, said):
    for name, text in written.items():
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    ranks = Played([])
    ranks._folder = types.SimpleNamespace(name=tmp_path)
    assert Ranks._errors(ranks) == said


def test_a_rank_that_wrote_nothing_is_said_to_have_ended(monkeypatch):
    monkeypatch.setattr(Played, "_errors", lambda self: "")
    with pytest.raises(RankFailed, match="^rank 0 has ended, without an answer$"):
        Played([(0, {"ended": True})]).run(function)


def test_ranks_are_ready_once_all_have_said_so(monkeypatch):
    ranks = Played([(1, {"ready": 71}), (0, {"ready": 70})])
    ranks.pids = []
    ranks.wait()
    ranks.wait()  # once is enough
    assert ranks.pids == [70, 71]
    monkeypatch.setattr(processes, "START_S", 0.01)
    late = Played([(1, {"ready": 71})])
    late.pids = []
    with pytest.raises(RankHung, match="rank 0 is in its imports, and no answer came"):
        late.run(function)


@pytest.mark.parametrize(("there", "ended", "alive"), [([1], set(), True), ([1], {1}, False), ([], set(), False)])
def test_ranks_are_alive_until_one_has_ended(there, ended, alive):
    ranks = Played([])
    ranks._processes, ranks._ended = there, ended
    assert ranks.alive == alive


def test_a_stream_of_messages():
    stream = io.BytesIO()
    for message in (None, {"a": 1}, "x" * 70_000):
        send(stream, message)
    stream.seek(0)
    assert [receive(stream) for _ in range(3)] == [None, {"a": 1}, "x" * 70_000]
    assert receive(stream) is None and receive(io.BytesIO(b"\1" * 7)) is None


@pytest.mark.parametrize(("errors", "kind", "text"), [
    ({0: ("ValueError", "x"), 1: ("ValueError", "x")}, ValueError, "x"),
    ({0: ("NotTogether", "x"), 1: ("NotTogether", "x")}, NotTogether, "x"), ({1: ("KeyError", "x")}, KeyError, "'x'"),
    ({0: ("OutOfMemoryError", "x"), 1: ("OutOfMemoryError", "x")}, RuntimeError, "x"),
    ({0: ("ValueError", "x"), 1: ("ValueError", "y")}, RankFailed, "said"),
    ({0: ("ValueError", "x"), 1: ("KeyError", "x")}, RankFailed, "said"), ({}, RankFailed, "said"),
    ({0: ("print", "x"), 1: ("print", "x")}, RankFailed, "said"),
    ({0: ("SystemExit", "x"), 1: ("SystemExit", "x")}, RankFailed, "said")])
def test_what_all_ranks_raised_is_raised(errors, kind, text):
    found = raised(RankFailed("said", errors))
    assert type(found) is kind and str(found) == text


def student(x, y, group):
    return x + y


def test_ranks_get_their_part_on_the_cpu(monkeypatch):
    calls = []

    class Answering:
        alive = True

        def run(self, packed, mine, timeout_s):
            calls.append((unpack(packed)(**mine[0], group=None), mine, timeout_s))
            return [(torch.ones(2), 8), ("two", 16)]

    monkeypatch.setattr(kept_ranks, "_kept", [Answering()])
    parts = [{"x": torch.zeros(2), "y": 1}, {"x": torch.ones(2), "y": 2}]
    results, exchanged = in_processes(student, parts)
    assert results[0].tolist() == [1, 1] and results[1] == "two" and exchanged == 8
    ((called, mine, timeout_s),) = calls
    assert called.tolist() == [1, 1] and [part["y"] for part in mine] == [1, 2] and timeout_s == kept_ranks.LONGEST_S
    assert isinstance(mine, Each) and run_on_ranks(student, parts)[1] == "two"


@pytest.mark.parametrize(("failure", "kind"), [(RankHung("late"), TimeoutError), (RankFailed("one ended"), RankFailed),
                                               (RankFailed("", dict.fromkeys((0, 1), ("KeyError", "k"))), KeyError)])
def test_how_ranks_fail_is_raised(monkeypatch, failure, kind):
    class Failing:
        alive = True

        def run(self, *_, timeout_s):
            raise failure

    monkeypatch.setattr(kept_ranks, "_kept", [Failing()])
    with pytest.raises(kind) as caught:
        run_on_ranks(student, [{"x": 1, "y": 2}] * 2)
    assert type(caught.value) is kind and caught.value.__cause__ is None and caught.value.__suppress_context__


def test_ranks_are_started_anew_where_they_have_ended(monkeypatch):
    started = []
    monkeypatch.setattr(kept_ranks, "Ranks", lambda timeout_s: started.append(timeout_s) or types.SimpleNamespace(
        alive=True, wait=lambda: started.append("waited")))
    monkeypatch.setattr(kept_ranks, "_kept", [])
    first = kept_ranks.kept()
    assert kept_ranks.kept() is first and started == [kept_ranks.LONGEST_S]
    first.alive = False
    assert kept_ranks.kept() is not first and len(kept_ranks._kept) == 1
    kept_ranks.start_ranks()
    assert started == [kept_ranks.LONGEST_S] * 2 + ["waited"]


NOTEBOOK = {
    "def inner(x):\n    return x * factor\n": "inner", "def outer(x):\n    return inner(x) + offset\n": "outer",
    "def main(x, y: Kind = None):\n    return outer(x) + math.floor(y) + mean([y, y]) + len(unknown_or([1]))\n": "main",
}


def test_a_function_goes_with_what_it_uses():
    names = {"factor": 3, "offset": 10, "math": math, "mean": statistics.mean, "unused": "large", "Kind": int,
             "unknown_or": list, "cannot": (n for n in ()), "__name__": "__main__"}
    for text, name in NOTEBOOK.items():
        define(text, name, names)
    data = pack(names["main"])
    name, sources, values = pickle.loads(data)
    assert (name, set(sources)) == ("main", {"main", "outer", "inner"})
    assert set(values) == {"factor", "offset", "math", "mean", "Kind", "unknown_or"}
    assert unpack(data)(2, 1.5) == 2 * 3 + 10 + 1 + 1.5 + 1


def test_what_cannot_be_sent_is_left_out():
    names = {"rows": (n for n in (1, 2)), "__name__": "__main__"}
    function = define("def main(x):\n    return x if x else next(rows)\n", "main", names)
    sent = unpack(pack(function))
    assert sent(3) == 3
    with pytest.raises(NameError, match="rows"):
        sent(0)


class OnGpu(torch.Tensor):
    def cpu(self):
        return "on the CPU"


def test_parts_go_to_the_cpu_and_results_come_back(monkeypatch):
    assert kept_ranks._on_cpu(torch.ones(2).as_subclass(OnGpu)) == "on the CPU" and kept_ranks._on_cpu(3) == 3
    monkeypatch.setattr(kept_ranks, "_on_cpu", lambda value: value)
    answering = types.SimpleNamespace(alive=True, run=lambda *_, timeout_s: [(torch.ones(2), 8), (4, 8)])
    monkeypatch.setattr(kept_ranks, "_kept", [answering])
    parts = [{"n": 1, "x": torch.ones(2, device="meta")}, {"n": 2, "x": torch.ones(2)}]
    result, number = run_on_ranks(student, parts)
    assert result.device.type == "meta" and number == 4, "where the first tensor of rank 0 lies"
    assert run_on_ranks(student, parts[::-1])[0].device.type == "cpu"


HELPER = "def helper(n):\n    return 7 if n < 1 else helper(n - 1)\n"


@pytest.mark.parametrize("module", ["__main__", "math", "of.no.module"])
def test_a_function_that_no_import_finds_goes_as_its_source(monkeypatch, module):
    names = {"__name__": module}
    define(HELPER, "helper", names)
    define("def main():\n    return helper(2)\n", "main", names)
    if module == "__main__":
        monkeypatch.setattr(sys.modules["__main__"], "helper", names["helper"], raising=False)
    data = pack(names["main"])
    assert set(pickle.loads(data)[1]) == {"main", "helper"} and unpack(data)() == 7
    assert unpack(data).__module__ == "student"


def test_a_module_within_another_goes_by_its_whole_name():
    names = {"F": torch.nn.functional, "__name__": "__main__"}
    define("def main(x):\n    return F.relu(x).tolist()\n", "main", names)
    assert unpack(pack(names["main"]))(torch.tensor([-1.0, 2.0])) == [0, 2]
