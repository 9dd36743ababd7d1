"""In place of dask.distributed: tasks run here, one at a time, and what goes wrong on the way is said beforehand."""

import contextlib
import types
from concurrent.futures import CancelledError


class KilledWorker(Exception):
    """Several workers were lost with a task."""


class Cluster:
    """`events` are taken in order: "connect" fails a connection, "lost" cancels all that runs, "killed" fails a task,
    "quiet" lets no task finish for a while."""

    def __init__(self, *events: str):
        self.events, self.keys, self.cancelled = list(events), [], []

    def happens(self, event: str) -> bool:
        if self.events[:1] == [event]:
            return bool(self.events.pop(0))
        return False

    def module(self) -> types.ModuleType:
        """What `import distributed` gives."""
        module = types.ModuleType("distributed")
        module.Client = lambda address, **_: Client(self)
        module.wait = self.wait
        module.KilledWorker = KilledWorker
        return module

    def wait(self, futures, timeout, return_when):
        if self.happens("lost"):
            raise CancelledError
        if self.happens("quiet"):
            raise TimeoutError
        return types.SimpleNamespace(done=futures[:1])


class Client:
    def __init__(self, cluster: Cluster):
        if cluster.happens("connect"):
            raise OSError("connection refused")
        self.cluster = cluster

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def as_current(self):
        return contextlib.nullcontext()

    def nthreads(self) -> dict[str, int]:
        return {"one": 1}

    def submit(self, function, job, key, pure):
        self.cluster.keys.append(key)
        return Future(self.cluster, function, job)

    def cancel(self, futures):
        self.cluster.cancelled += futures


class Future:
    def __init__(self, cluster, function, job):
        self.cluster, self.function, self.job = cluster, function, job

    def result(self):
        if self.cluster.happens("killed"):
            raise KilledWorker
        return self.function(self.job)
