"""Runs groups of units in processes of their own, keeps what each unit gave, and goes on where an earlier run ended."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from checks.bench.measure import Monitor
from checks.bench.results import BadResults
from checks.bench.workloads import key
from checks.files import write_atomically
from checks.paths import python_path

SILENCE_S = 120
"""A worker that says nothing for so long hangs: to compile, check and time a unit's functions takes less."""


class WorkerFailed(RuntimeError):
    """A worker ended without having tried anything; the message says how."""


class Kept:
    """What a run has so far, in a file that grows by a line for each unit: rows, and notes on what they lack and why."""

    def __init__(self, path: Path, header: dict, resume: bool = False):
        self.path = path
        self.units: dict[str, dict] = {}
        self.conditions: dict[str, dict] = {}
        if resume and path.exists():
            self._read(path.read_text().splitlines(), header)
        conditions = [{"group": name, "conditions": found} for name, found in self.conditions.items()]
        entries = [header, *self.units.values(), *conditions]
        write_atomically(path, "".join(json.dumps(entry) + "\n" for entry in entries))  # without a line that was cut off

    def _read(self, lines: list[str], header: dict) -> None:
        if lines[:1] != [json.dumps(header)]:
            raise BadResults(f"{self.path} was begun with {''.join(lines[:1])[:300] or 'nothing'}, and this run is "
                             f"{json.dumps(header)}: leave out --resume to measure everything anew")
        for line in lines[1:]:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                if "group" in entry:
                    self.conditions[entry["group"]] = entry["conditions"]
                elif not any(note["kind"] == "crashed" for note in entry["notes"]):  # which is tried again
                    self.units[entry["unit"]] = {name: entry[name] for name in ("unit", "rows", "notes")}

    def add(self, unit: str, rows: list[dict], notes: list[dict]) -> None:
        self.units[unit] = {"unit": unit, "rows": rows, "notes": notes}
        self._append(self.units[unit])

    def add_conditions(self, group: str, found: dict) -> None:
        self.conditions[group] = found
        self._append({"group": group, "conditions": found})

    def _append(self, entry: dict) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    @property
    def rows(self) -> list[dict]:
        return [row for entry in self.units.values() for row in entry["rows"]]

    @property
    def notes(self) -> list[dict]:
        return [note for entry in self.units.values() for note in entry["notes"]]


def run(groups: dict[str, list[dict]], kept: Kept, done: Callable[[str, int], None] = lambda group, units: None,
        silence_s: float = SILENCE_S, module: str = "checks.bench.worker") -> None:
    """Measure each unit that is not among the kept ones; `done` is told of finished units, by group.

    Kept too: each group's seconds, and the GPU's clock, power and temperature meanwhile (least, median, largest), and
    in notes what a unit could not measure. Raises WorkerFailed where a worker cannot even start.
    """
    with Monitor() as monitor:
        for name, units in groups.items():
            began = time.monotonic()
            left = [unit for unit in units if key(unit) not in kept.units]
            done(name, len(units) - len(left))
            if not left:
                continue
            crashes: dict[str, dict[str, str]] = {}  # unit -> function -> reason
            while left:
                left = _run_worker(left, crashes, kept, lambda name=name: done(name, 1), silence_s, module)
            kept.add_conditions(name, {"seconds": round(time.monotonic() - began, 1), **(monitor.since(began) or {})})


def _run_worker(left: list[dict], crashes: dict, kept: Kept, done: Callable, silence_s: float, module: str) -> list[dict]:
    """Let one worker measure the units until it ends; gives those that are still to do."""
    left, current, trying, notes = list(left), "", "", []
    job = {"units": left, "without": {unit: list(functions) for unit, functions in crashes.items()}}
    with Worker(job, silence_s, module) as worker:
        for event in worker.events():
            if "unit" in event:
                current, trying = event["unit"], ""
                notes = [_note(current, "crashed", *found) for found in crashes.get(current, {}).items()]
            elif "trying" in event:
                trying = event["trying"]
            elif "left_out" in event:
                notes.append(_note(current, event["kind"], event["left_out"], event["reason"]))
            else:
                kept.add(current, event["rows"], notes)
                current = ""
                left.pop(0)
                done()
    if not left:
        return []
    if not current:
        raise WorkerFailed(f"a worker ended before it measured {key(left[0])}: {worker.failure}")
    if trying:  # its own rows only: the others of this unit are measured by the next worker
        said = [note["reason"] for note in notes if note["what"] == trying]
        crashes.setdefault(current, {})[trying] = (said or [worker.failure])[-1]
        return left
    kept.add(current, [], [*notes, _note(current, "crashed", "all", f"while timed in turns, {worker.failure}")])
    done()
    return left[1:]


def _note(unit: str, kind: str, what: str, reason: str) -> dict:
    return {"unit": unit, "kind": kind, "what": what, "reason": reason}


class Worker:
    """A process that works on a job and sends events; killed, with all that it started, when it falls silent."""

    def __init__(self, job: dict, silence_s: float, module: str):
        self.job, self.silence_s, self.module, self.failure = job, silence_s, module, ""

    def __enter__(self):
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self.module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            text=True, start_new_session=True, env={**os.environ, "PYTHONPATH": python_path()})
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout  # for both are pipes
        self._stdout = stdout
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        with contextlib.suppress(BrokenPipeError):
            json.dump(self.job, stdin)
            stdin.close()
        return self

    def _read(self) -> None:
        for line in self._stdout:
            self._lines.put(line)
        self._lines.put(None)

    def events(self) -> Iterator[dict]:
        """What it sends, until it ends or is silent for too long; `failure` then says how it ended."""
        while True:
            try:
                line = self._lines.get(timeout=self.silence_s)
            except queue.Empty:
                self.failure = f"it hung: nothing for {self.silence_s:.0f} s"
                return
            if line is None:
                self.failure = self._how_it_ended()
                return
            yield json.loads(line)

    def _how_it_ended(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        said = [line for line in self._errors.read().strip().splitlines() if line.strip()]
        by = str(status)
        with contextlib.suppress(ValueError):
            by = signal.Signals(-status).name
        return f"its process ended with {by}" + (f": {said[-1].strip()[:400]}" if said else "")

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._stdout.close()
        self._errors.close()
