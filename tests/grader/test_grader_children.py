"""The children of a submission: which notebooks run again, and what plays recordings back."""

import json
import socket
import threading
import types
from dataclasses import replace
from pathlib import Path

import pytest
from grading import NEEDED

from checks.exercises import EXERCISES
from checks.grader.grading import compiling
from checks.grader.grading.compiling import Compiler, text_request
from checks.grader.grading.notebooks import Notebooks, Ran
from checks.grader.grading.player import Played, Player
from checks.grader.intake.code import Code
from checks.grader.intake.library import answer_text, lesson_cells
from checks.grader.sandbox import client, wire
from checks.grader.sandbox.client import ChildExited, Fault, ForkServer
from checks.host.steps import LaunchStep
from checks.judge.compiler import TARGETS

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


@pytest.mark.parametrize("sent, kind, said", [
    (("frame", {"nonce": "other"}), "crashed", "what came back answers another question"),
    (("frame", {}), "crashed", "what came back answers another question"),
    (("bytes", b"\xff" * 40), "crashed", "what came back is no result (a frame of"),
    (("bytes", b"\0"), "timeout", "it did not finish in time"), (("nothing", None), "timeout", "it did not finish in time"),
    (("closes", None), "crashed", "its process ended itself with code 3")], ids=str)
def test_what_comes_of_a_question(sent, kind, said):
    child = client.Child(types.SimpleNamespace(kind="run", levels=["files"], timeout_s=0.05), None, None, "", {})
    child.sock, theirs = socket.socketpair()
    child.status, supervisor = socket.socketpair()
    how, what = sent
    if how == "frame":
        wire.send(theirs, what)
    elif how == "bytes":
        theirs.sendall(what)
    elif how == "closes":
        theirs.shutdown(socket.SHUT_WR)
        wire.send(supervisor, {"reason": "ended", "signal": None, "code": 3})
    with pytest.raises(ChildExited) as caught:
        child.ask({"case": 1}, b"abc", 5)
    assert caught.value.kind == kind and caught.value.reason.startswith(said)
    question, payload = wire.receive(theirs, 10)
    assert (question["case"], question["timeout_s"], payload) == (1, 5, b"abc") and len(question["nonce"]) == 16


def test_an_answer_is_that_of_its_question():
    child = client.Child(types.SimpleNamespace(kind="run", levels=["files"], timeout_s=60), None, None, "", {})
    child.sock, theirs = socket.socketpair()
    nonces = set()
    for _ in range(2):
        asked = threading.Thread(target=lambda: nonces.add(echo(theirs)))
        asked.start()
        assert child.ask({"case": 1}, b"abc", 5)[1] == b"cba"
        asked.join()
    assert len(nonces) == 2, "nobody can know the next one"


def echo(sock) -> str:
    question, payload = wire.receive(sock, 10)
    wire.send(sock, {"nonce": question["nonce"]}, payload[::-1])
    return question["nonce"]


@pytest.mark.parametrize("levels, told", [(["files"], False), (["seccomp"], True)], ids=["apart", "shared"])
def test_an_ended_child_leaves_no_folder(tmp_path, levels, told):
    """One that may write into its folder is waited for first."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    sock, status = socket.socketpair(), socket.socketpair()
    server = types.SimpleNamespace(kind="run", levels=levels, timeout_s=1)
    with client.Child(server, sock[0], status[0], str(scratch), {}) as child:
        assert child.apart is not told
        if told:
            wire.send(status[1], {"reason": "told"})
    assert not scratch.exists() and sock[1].recv(1) == b""
    assert status[1].recv(1) == (b"x" if told else b"")
    assert child.finish() == {}, "its supervisor is gone too"


class Notebook:
    """A child that runs a notebook's cells: `fails` in place of its greeting."""

    def __init__(self, fails: BaseException | None = None):
        self.fails, self.closed, self.deadline = fails, 0, 0.0

    def begin(self) -> dict:
        if self.fails:
            raise self.fails
        return {"errors": []}

    def __exit__(self, *_) -> None:
        self.closed += 1


OTHER = EXERCISES["first_wrong"]  # of the same lesson
RUN = {"exercise": NEEDED, "code": Code(file="a.ipynb"), "numbers": False, "alone": False, "lent": ()}


@pytest.fixture
def notebooks(monkeypatch):
    """Of which no cell runs, with the arguments by which each child was asked for."""
    server = types.SimpleNamespace(timeout_s=60.0, asked=[])
    server.child = lambda job, exercises: server.asked.append((job, exercises)) or Notebook()
    return Notebooks(server)


@pytest.mark.parametrize("more, another", [
    ({}, False), ({"exercise": OTHER}, False), ({"code": Code(file="b.ipynb")}, True), ({"numbers": True}, True),
    ({"alone": True}, True), ({"lent": (OTHER.name,)}, True)])
def test_what_needs_a_run_of_its_own(notebooks, more, another):
    first = notebooks.run(**RUN)
    notebooks.deadline = 7.0
    ran = notebooks.run(**RUN | more)
    assert (ran is not first) == another == (len(notebooks.server.asked) == 2)
    assert ran.child.deadline == 7.0 and ran.asked >= {(RUN | more)["exercise"].name}
    assert first.asked == ({NEEDED.name, OTHER.name} if more == {"exercise": OTHER} else {NEEDED.name})
    notebooks.drop(ran, "timeout")
    assert (ran.ended, ran.child.closed) == ("timeout", 1) and notebooks.run(**RUN | more) is not ran
    notebooks.close()
    assert first.child.closed == ran.child.closed == 1


def test_alone_it_has_a_library_of_its_own_for_each_exercise(notebooks):
    both = [notebooks.run(**RUN | {"alone": True, "exercise": one}) for one in (NEEDED, OTHER)]
    assert both[0] is not both[1]
    notebooks.run(**RUN)
    lesson = sum(one.lesson == NEEDED.lesson for one in EXERCISES.values())
    assert [exercises for _, exercises in notebooks.server.asked] == [1, 1, lesson], "each has its time"
    lent = {OTHER.name: answer_text(OTHER, OTHER.name)}
    notebooks.run(**RUN | {"lent": (OTHER.name,), "code": Code(cells=(lesson_cells(NEEDED.lesson)[0] + "\n", "x = 1"))})
    job, _ = notebooks.server.asked[-1]
    assert job["lent"] == lent and job["handed_out"] == [True, False]


@pytest.mark.parametrize("fails", [ChildExited("died"), Fault("no sandbox"), KeyboardInterrupt()], ids=repr)
def test_a_child_that_does_not_begin_is_ended(notebooks, fails):
    children = [Notebook(fails), Notebook(fails)]
    server = types.SimpleNamespace(timeout_s=1.0, child=lambda *_, **__: children[0])
    with pytest.raises(type(fails)):
        Notebooks(server).run(**RUN)
    server.child = lambda *_, **__: children[1]
    with pytest.raises(type(fails)):
        Player(server, Played()).ask(types.SimpleNamespace(data_bytes=1), {}, b"", 1.0)
    assert [child.closed for child in children] == [1, 1]


@pytest.mark.parametrize("kind, memory", [("run", 2), ("compile", 2), ("gpu", 16)])
def test_what_a_fork_server_is_told_of_a_child(tmp_path, kind, memory):
    server = object.__new__(ForkServer)
    server.kind, server.timeout_s, server.scratch, server.levels = kind, 3.0, str(tmp_path), ["limits"]
    server.control, theirs = socket.socketpair()
    server.said = lambda: "out of processes"
    child = server.child({"cells": []}, 5 << 30, exercises=4, serves="play_child")
    text, fds, _, _ = socket.recv_fds(theirs, 1 << 16, 2)
    order = json.loads(text)
    assert order == {"levels": ["limits"], "timeout_s": 12.0, "data_bytes": 5 << 30, "memory_bytes": memory << 30,
                     "file_bytes": 64 << 20, "scratch": child.scratch, "serves": "play_child"}
    answers, status = (socket.socket(fileno=fd) for fd in fds)
    wire.send(answers, {"fault": "OSError: no mounts"})
    with pytest.raises(Fault, match="could not be sandboxed: OSError: no mounts"):
        child.begin()
    wire.send(status, {"reason": "told"})
    child.__exit__()
    assert wire.receive(answers, 0)[0] == {"cells": []} and status.recv(1) == b"x" and not list(tmp_path.iterdir())
    theirs.close()
    with pytest.raises(Fault, match="the fork server is gone: .*; it said: out of processes"):
        server.child({})


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


class Compiling:
    """A compiler's child: it answers with what it was asked, or that it is refused."""

    def __init__(self, job: dict):
        self.job, self.deadline = job, 100.0

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        pass

    def begin(self) -> dict:
        return {"texts": [{"error": "no"} if one["constexprs"] == '{"B": 0}' else {"text": json.dumps(one)}
                          for one in self.job["texts"]],
                "reports": [{"registers": job["capability"]} for job in self.job["reports"]]}


@pytest.fixture
def compiler(monkeypatch):
    """With the children that it has started."""
    children: list[Compiling] = []
    compiler = Compiler(60.0)
    compiler._server = types.SimpleNamespace(child=lambda job: children.append(Compiling(job)) or children[-1])
    return compiler, children


ANOTHER = {"kernel": "other", "signature": {"x": "*fp32"}, "constexprs": {"B": 2}, "options": {"num_warps": 8}}


@pytest.mark.parametrize("part", ANOTHER)
def test_a_kernel_is_compiled_once_for_each_way_to_launch_it(compiler, part):
    compiler, children = compiler
    other = replace(STEP, **{part: ANOTHER[part]})
    first = compiler.texts([STEP, STEP, other])
    assert first[0] == first[1] and (first[2] != first[0]) == (part != "options"), "of which the text knows nothing"
    assert [len(child.job["texts"]) for child in children] == {
        "kernel": [1, 1], "options": [1]}.get(part, [2]), "each kernel in a child of its own"
    assert compiler.texts([other, STEP]) == [first[2], first[0]] and not any(child.job["reports"] for child in children)
    children.clear()
    for step in (STEP, other, STEP, other):
        assert {sm: report.registers for sm, report in compiler.reports(step).items()} == {sm: sm for sm in TARGETS}
    assert len(children) == 2
    (job, *_), (another, *_) = (child.job["reports"] for child in children)
    assert {name for name in job if job[name] != another[name]} >= {{"kernel": "description"}.get(part, part)}


def test_what_a_compiler_refuses_or_has_no_time_for(compiler, monkeypatch):
    compiler, children = compiler
    refused = replace(STEP, constexprs={"B": 0})
    assert compiler.texts([refused, STEP], until=7.0)[0] == {"error": "no"} and children[0].deadline == 7.0
    compiler.texts([replace(STEP, kernel="later")], until=1e9)
    assert children[1].deadline == 100.0, "no later than the child must end"
    monkeypatch.setattr(compiling, "KEPT", 2)
    for kernel in "abc":
        compiler.texts([replace(STEP, kernel=kernel)])
        compiler.reports(replace(STEP, kernel=kernel))
    assert len(compiler._texts) == len(compiler._reports) == 2
    count = len(children)
    compiler.texts([replace(STEP, kernel="c")])
    assert len(children) == count, "the newest is kept"
    with pytest.raises(ChildExited, match="too large to be compiled"):
        compiler.texts([replace(STEP, kernel="x" * compiling.HEADER_LIMIT)])


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
    for payload in (b"x", b"y"):
        player.ask(large, {"recording": 1}, payload, 1.0)
    player.ask(small, {"recording": 2}, b"", 1.0)
    with pytest.raises(ChildExited):
        player.ask(small, {"ends": True}, b"", 1.0)
    player.ask(small, {"recording": 3}, b"", 7.0)
    assert [child.deadline for child in server.children] == [1.0, 1.0, 7.0], "that of the exercise"
    assert [child.allowed for child in server.children] == [1, 2, 1]
    asked = [[True], [True, False, True, False], [False]]
    assert [child.asked for child in server.children] == asked, "what is left goes first"
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
    assert (ask(b"c", text="x"), ask(b"d", text="x"), ask(b"c", text="x")) == (4, 5, 5), "not what was asked for last"
    assert ask(b"abc", text="z") == ask(b"abc", text="z") == 6
    assert ask(b"c", text="x") == 7, "as many as it takes"
    for count, kind in enumerate(("TimeoutError", "LimitExceeded", "MemoryError"), 4):  # it depends on the machine
        assert [ask(b"", text="x", error={"type": kind}) for _ in range(2)] == [2 * count, 2 * count + 1]
    assert ask(b"", text="x", error={"type": "Raced"}) == ask(b"", text="x", error={"type": "Raced"}) == 14
