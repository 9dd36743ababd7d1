"""A class graded by the workers of a dask.distributed cluster, each submission a task; results are written here.

A worker that is lost costs what it was about, which another one takes up; a scheduler that is lost costs a wait.
"""

import contextlib
import hashlib
import importlib.util
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from checks.files import write_atomically
from checks.grader import results
from checks.grader.batch import Batch, Found, write
from checks.grader.cluster.task import work
from checks.grader.grader import Grader
from checks.grader.intake.folder import HandedIn
from checks.grader.sandbox.client import Fault
from checks.grader.selftest import Misjudged
from checks.grader.settings import Settings
from checks.grader.units import read_unit

CONNECT_S = 30  # for one attempt to reach the scheduler
PATIENCE_S = 600  # for a scheduler that is gone to come back
QUIET_S = 60  # after which a cluster without workers is named


def needs_dask() -> None:
    """Raise ValueError where dask.distributed is not installed."""
    if importlib.util.find_spec("distributed") is None:
        raise ValueError("--cluster needs dask.distributed, which is not installed: run `.venv/bin/python -m pip install "
                         "distributed` here and on each worker's machine")


@contextlib.contextmanager
def _here() -> Iterator[None]:
    """What fails in this block fails on this machine, and is no lost connection."""
    try:
        yield
    except OSError as error:
        raise Fault(str(error)) from None


class DaskBatch(Batch):
    """As Batch, on the workers of the scheduler at `address`."""

    def __init__(self, grades: Path, settings: Settings, address: str, say: Callable[[str], None] = print):
        needs_dask()
        if settings.gpus:
            raise ValueError("--gpus is for this machine's GPUs: give it to `grade class … --slurm`, or without --cluster")
        super().__init__(grades, settings, 1, say)
        self.address = address
        self.workers: dict[str, dict[str, Any]] = {}  # by address, what is known of each that has graded
        self._was_there = False  # whether the scheduler has been reached
        self._deaths: dict[str, int] = {}  # by student, how many grading processes it has taken down

    def _work(self, waiting: Found, jobs: int) -> list[str]:
        lost_at: float | None = None
        while waiting:
            before = len(waiting)
            try:
                self._through_a_client(waiting)
            except (CancelledError, TimeoutError, OSError) as error:
                now = time.monotonic()
                lost_at = now if lost_at is None or len(waiting) < before else lost_at
                if now - lost_at > PATIENCE_S or not self._was_there:
                    raise Fault(f"the scheduler at {self.address} cannot be reached ({error}). What was graded is kept: the "
                                "same command with --resume goes on") from None
                self.say(f"the scheduler at {self.address} does not answer ({type(error).__name__}): trying again for "
                         f"{PATIENCE_S // 60} minutes; {len(waiting)} submissions wait")
        return []

    def _through_a_client(self, waiting: Found) -> None:
        """Grade what waits, taking out what is done, until the scheduler is lost."""
        from distributed import Client

        for name in ("distributed", "distributed.client", "distributed.utils"):  # what is lost is said in a sentence of ours
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with Client(self.address, timeout=CONNECT_S, set_as_default=False) as client, client.as_current():
            self._was_there = True
            running: dict[Any, str] = {}
            try:
                self._keep_busy(client, waiting, running)
            except (CancelledError, TimeoutError, OSError):
                raise
            except BaseException:
                client.cancel(list(running))
                raise

    def _keep_busy(self, client: Any, waiting: Found, running: dict[Any, str]) -> None:
        """Few tasks at a time, for the class may be large: twice as many as there are threads on all workers, as they come
        and go."""
        from distributed import wait

        grader, settings = Grader(self.settings), self.settings.to_json()
        queue = deque(waiting)
        while queue or running:
            threads = sum(client.nthreads().values())
            while queue and len(running) < max(1, 2 * threads):
                student = queue.popleft()
                running[self._submit(client, grader, settings, waiting[student])] = student
            try:
                finished = wait(list(running), timeout=QUIET_S, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                if not client.nthreads():
                    self.say(f"the scheduler at {self.address} has no worker; waiting for one")
                continue
            for future in finished:
                student = running.pop(future)
                if self._take(future, waiting[student]):
                    del waiting[student]
                else:
                    queue.append(student)

    def _submit(self, client: Any, grader: Grader, settings: str, handed_in: HandedIn) -> Any:
        """A task for a submission; the same one, if the scheduler has it already."""
        with _here():
            unit = read_unit(handed_in)
        key = grader.key(unit.submission)
        name = hashlib.sha256(f"{handed_in.student}\0{key}".encode()).hexdigest()[:32]
        job = {"settings": settings, "unit": unit.to_json(), "key": key}
        return client.submit(work, job, key=f"grade-{name}-{self._deaths.get(handed_in.student, 0)}", pure=False)

    def _take(self, future: Any, handed_in: HandedIn) -> bool:
        """Write down what a task came to; False where it has to be tried once more."""
        from distributed import KilledWorker

        try:
            answer = future.result()
        except KilledWorker:
            answer = {"died": "several workers were lost while they worked on it"}
        except ImportError as error:
            raise Fault(f"a worker cannot import the workshop ({error}): start it with the checkout's own "
                        "`.venv/bin/dask worker`") from None
        if "stop" in answer:
            kind = Misjudged if answer["misjudged"] else Fault
            raise kind(f"the worker {answer['worker']} cannot grade: {answer['stop']}")
        if "died" in answer:
            self._deaths[handed_in.student] = self._deaths.get(handed_in.student, 0) + 1
            if self._deaths[handed_in.student] == 1:
                return False
            self._died_twice(handed_in)
            return True
        with _here():
            self._note_worker(answer)
            self._report(write(self.grades, answer["result"]))
        return True

    def _note_worker(self, answer: dict[str, Any]) -> None:
        """Keep who has graded how many, and in which isolation, in workers.json."""
        name = answer["worker"]
        if name not in self.workers:
            self.workers[name] = {"host": answer["host"], "isolation": answer["levels"], "graded": 0}
            self.say(f"worker {name} on {answer['host']}: isolation {', '.join(answer['levels'])}")
        self.workers[name]["graded"] += 1
        write_atomically(self.grades / "workers.json", results.to_json(self.workers))
