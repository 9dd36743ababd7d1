"""The process that compiles for an interpreting one: whose answer is whose, and what happens when none comes."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from checks.executor import ExecutorError, LimitExceeded, frames, processes

ECHO = processes.START.rpartition("importlib.import_module")[0] + """
import os, time
from checks.executor import frames
while True:
    question = frames.read(0)
    if question == "sleep":
        time.sleep(60)
    if question == "end":
        sys.exit()
    if question == "noise":
        os.write(1, (3).to_bytes(8) + b"}{}")
    if question == "endless":
        os.write(1, b"\\xff" * 8)
    frames.write(1, [os.getpid(), question, sys.argv[1], os.environ.get("OURS")])
"""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(processes, "START", ECHO)
    made = processes.Server("a module", {"OURS": "1"})
    yield made
    made.stop()


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_process_answers_until_it_is_stopped(server):
    process = server.start()
    first, second = server.ask(1, 30), server.ask({"b": [2, None]}, 30)
    assert first == [second[0], 1, "a module", "1"] and second[1] == {"b": [2, None]}
    server.stop()
    assert not runs(first[0]) and process.stdin.closed and process.stdout.closed
    server.stop()
    again = server.ask("again", 30)
    assert again[1] == "again" and again[0] != first[0]
    killed = server.start()
    killed.kill()  # as the kernel does where memory is short
    killed.wait()
    assert server.ask("and again", 30)[1] == "and again"


@pytest.mark.parametrize(("question", "timeout_s", "kind", "said"), [
    ("sleep", 0.05, LimitExceeded, "no answer within 0.05 s"), ("end", 30, ExecutorError, "ended without an answer"),
    ("noise", 30, ExecutorError, "ended without an answer"), ("endless", 30, ExecutorError, "ended without an answer")])
def test_no_answer_is_given_to_the_next_question(server, question, timeout_s, kind, said):
    process = server.start()
    with pytest.raises(kind, match=re.escape(said)) as caught:
        server.ask(question, timeout_s)
    assert type(caught.value) is kind and process.poll() is not None
    assert process.stdin.closed and process.stdout.closed
    assert server.ask("next", 30)[1] == "next"


def test_a_fork_has_no_way_to_the_process(server):
    pid, _, _, ours = server.ask("mine", 30)
    with server._lock:
        child = os.fork()
        if child == 0:
            os._exit(int(server._process is not None or server._lock.locked()))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert server.ask("still", 30)[0] == pid and ours == "1"


class Ends:
    """A pipe's two ends, as a process has them."""

    def __init__(self):
        self.stdin, self.stdout = (SimpleNamespace(fileno=lambda number=number: number, close=lambda: None)
                                   for number in (70, 71))
        self.poll, self.kill, self.wait = (lambda: None), (lambda: None), (lambda: None)


@pytest.fixture
def played(monkeypatch):
    """A server of whose process nothing is started; how it was to be, and what was registered."""
    began, kept = [], []
    monkeypatch.setattr(processes.subprocess, "Popen", lambda command, **how: began.append((command, how)) or Ends())
    monkeypatch.setattr(processes.atexit, "register", lambda call: kept.append(call))
    return processes.Server("a module", {"OURS": "1"}), began, kept


def test_how_the_process_is_started(played):
    """With the caller's Python, which finds no module in the working directory; Ctrl-C is not meant for it, and it is
    stopped when the caller ends."""
    server, began, kept = played
    assert server.start() is server.start() and kept == [server.stop]
    ((command, how),) = began
    assert command == [sys.executable, "-P", "-c", processes.START, "a module"]
    assert how == {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "env": {"OURS": "1"},
                   "start_new_session": True}


@pytest.mark.parametrize("at", ["write", "read"])
@pytest.mark.parametrize(("error", "kind"), [
    (TimeoutError, LimitExceeded), (BrokenPipeError, ExecutorError), (OSError, ExecutorError), (EOFError, ExecutorError),
    (ValueError, ExecutorError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_one_question_at_a_time_whatever_goes_wrong(played, monkeypatch, error, kind, at):
    server, began, _ = played
    asked, fails = [], []

    def note(name):
        def call(descriptor, *what):
            asked.append((name, descriptor, server._lock.locked()))
            if fails and name == at:
                raise fails.pop()
            return "an answer"
        return call

    for name in ("write", "read"):
        monkeypatch.setattr(processes.frames, name, note(name))
    assert server.ask("a question", 1) == "an answer"
    assert asked == [("write", 70, True), ("read", 71, True)] and not server._lock.locked()
    fails.append(error)
    with pytest.raises(kind) as caught:
        server.ask("another", 1)
    assert type(caught.value) is kind and not server._lock.locked()
    assert server.ask("a third", 1) == "an answer" and len(began) == 1 + (kind is not KeyboardInterrupt)


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # closed already
            os.close(end)


def test_a_message_of_any_length_comes_whole(pipe):
    messages = ["", [], {"a": [1, None, 0.5]}, "x" * (3 << 20), "é" * 70_000]
    writer = threading.Thread(target=lambda: [frames.write(pipe[1], message) for message in messages])
    writer.start()
    assert [frames.read(pipe[0], time.monotonic() + 30) for _ in messages] == messages
    writer.join()


CUT = [b"", b"\0" * 7, (5).to_bytes(8), (5).to_bytes(8) + b'"abc']


@pytest.mark.parametrize("sent", CUT)
def test_a_message_that_is_cut_off_is_waited_for(pipe, sent):
    os.write(pipe[1], sent)
    with pytest.raises(TimeoutError):
        frames.read(pipe[0], time.monotonic() + 0.01)


@pytest.mark.parametrize("sent", [*CUT, b"\xff" * 8])
def test_a_message_that_is_cut_off_is_none(pipe, sent):
    os.write(pipe[1], sent)
    if sent in CUT:  # of the other the length alone is too much
        os.close(pipe[1])
    with pytest.raises(EOFError):
        frames.read(pipe[0])


def test_to_write_where_nobody_reads_is_an_error(pipe):
    os.close(pipe[0])
    with pytest.raises(OSError):
        frames.write(pipe[1], 1)
