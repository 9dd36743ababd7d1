"""The children of a submission: which notebooks run again, and what plays recordings back."""

import json
import types
from dataclasses import replace
from pathlib import Path

import pytest
from grading import NEEDED

from checks.grader.grading.compiling import text_request
from checks.grader.grading.notebooks import Ran
from checks.grader.grading.player import Played, Player
from checks.grader.sandbox import client
from checks.grader.sandbox.client import ChildExited
from checks.host.steps import LaunchStep

# what other exercises have to do with it


@pytest.mark.parametrize("ended, suspect, asked, influenced", [
    ("crashed", False, {"a"}, False), ("crashed", True, {"a"}, True), ("out of memory", False, {"a"}, True),
    ("timeout", False, {"a"}, True), ("out of memory", True, set(), False)])
def test_a_child_that_ended_for_another_exercise_too(ended, suspect, asked, influenced):
    ran = Ran(None, [], True, {NEEDED.name, *asked}, suspect, ended)
    assert ran.influenced(NEEDED) is influenced


@pytest.mark.parametrize("answer, influenced", [({"influenced": False}, False), ({"influenced": True}, True), ({}, True),
                                                (ChildExited("died"), True)], ids=str)
def test_a_child_is_asked_of_other_exercises(answer, influenced):
    def ask(question, *_):
        assert question == {"mode": "influenced", "name": NEEDED.name}
        if isinstance(answer, Exception):
            raise answer
        return answer, b""
    assert Ran(types.SimpleNamespace(ask=ask), [], True).influenced(NEEDED) is influenced


@pytest.mark.parametrize(("asked_at", "seconds", "until"), [
    (0, 10, 15), (0, 94, 99), (0, 95, 100), (0, 500, 100), (80, 10, 95), (90, 10, 100), (300, 10, 100)])
def test_no_case_goes_on_after_its_exercise_s_time(monkeypatch, asked_at, seconds, until):
    """A case may take its own time and 5 s for sending, and all of a child together what the child has."""
    now = types.SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(client, "time", now)
    child = client.Child(types.SimpleNamespace(kind="run", levels=(), timeout_s=100.0), None, None, "", {})
    monkeypatch.setattr(child, "_exchange", lambda *asked: asked)
    now.monotonic = lambda: float(asked_at)
    question, payload, limit, deadline = child.ask({"case": 1}, b"x", seconds)
    assert (question["case"], question["timeout_s"], payload, limit) == (1, seconds, b"x", client.OUTPUT_LIMIT)
    assert deadline == until


# what is compiled

STEP = LaunchStep("source", "kernel", {}, (1, 1, 1), {}, {}, {})


@pytest.mark.parametrize(("kind", "number", "divided"), [
    ("i32", 16, True), ("i32", 0, True), ("i32", -32, True), ("i64", 2**40, True), ("i32", 8, False), ("i32", 24, False),
    ("i64", 2**40 + 8, False), ("i32", 1, False), ("fp32", 16.0, False), ("i1", True, False), ("*fp16", None, True)])
def test_a_gpu_is_told_which_numbers_16_divides(kind, number, divided):
    step = replace(STEP, signature={"x": kind, "BLOCK": "constexpr"}, arguments={"x": number, "BLOCK": 16},
                   constexprs={"BLOCK": 16})
    assert json.loads(text_request(step, for_gpu=True)["aligned"]) == ["x"] * divided
    assert json.loads(text_request(step)["aligned"]) == [], "what the executor runs is right for any number"


def test_compiling_starts_without_torch(fork_server):
    """Which takes longer than the compiler itself."""
    assert "libtorch" not in Path(f"/proc/{fork_server('compile', 60).process.pid}/maps").read_text()


# recordings


class Server:
    """Its children answer with what they were asked, or end."""

    def __init__(self):
        self.children: list[types.SimpleNamespace] = []

    def child(self, job, data_bytes, **_):
        def ask(question, payload, seconds):
            child.asked.append(question["afresh"])
            if question.get("ends"):
                raise ChildExited("it died.")
            return {"error": question.get("error")}, payload

        child = types.SimpleNamespace(asked=[], begin=dict, ask=ask, closed=0, allowed=data_bytes)
        child.__exit__ = lambda *_: setattr(child, "closed", child.closed + 1)
        self.children.append(child)
        return child


def test_a_player_plays_until_it_ends_or_is_too_small():
    server = Server()
    player = Player(server, Played())
    small, large = types.SimpleNamespace(data_bytes=1), types.SimpleNamespace(data_bytes=2)
    player.ask(small, {"recording": 1}, b"", 1.0)
    player.ask(large, {"recording": 1}, b"x", 1.0)
    player.ask(small, {"recording": 2}, b"", 1.0)
    with pytest.raises(ChildExited):
        player.ask(small, {"ends": True}, b"", 1.0)
    player.ask(small, {"recording": 3}, b"", 1.0)
    assert [child.allowed for child in server.children] == [1, 2, 1]
    assert [child.asked for child in server.children] == [[True], [True, True, False], [False]], "what is left goes first"
    player.close()
    assert [child.closed for child in server.children] == [1, 1, 1]


def test_a_recording_is_played_once_for_a_class(monkeypatch):
    server, kept = Server(), Played()
    monkeypatch.setattr("checks.grader.grading.player.KEPT_BYTES", 3)

    def ask(payload: bytes, **question) -> int:
        """How often a child was asked so far."""
        Player(server, kept).ask(types.SimpleNamespace(data_bytes=1), question, payload, 1.0)
        return sum(len(child.asked) for child in server.children)

    assert (ask(b"ab", text="x"), ask(b"ab", text="x")) == (1, 1)
    assert (ask(b"c", text="x"), ask(b"ab", text="y")) == (2, 3), "other inputs, another kernel; the oldest is forgotten"
    assert (ask(b"c", text="x"), ask(b"ab", text="x")) == (3, 4)
    for count in (5, 6):  # what depends on how busy the machine is
        assert ask(b"", text="x", error={"type": "TimeoutError"}) == count
    assert ask(b"", text="x", error={"type": "Raced"}) == ask(b"", text="x", error={"type": "Raced"}) == 7
