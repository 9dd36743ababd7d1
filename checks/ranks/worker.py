"""Ranks: `python -m checks.ranks.worker SIZE BACKEND STORE TIMEOUT_S RANKS PIPES`, see `checks.ranks.processes`."""

import datetime
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

import kernels  # noqa: F401  first of ours: it decides whether Triton interprets
from checks.judge.attempt import student_line
from checks.ranks.meeting import NotTogether, place
from checks.ranks.portable import unpack
from checks.ranks.processes import receive, send
from kernels.exchange import Group


class WatchedGroup(Group):
    """A group whose ranks tell the parent which collective they come to, and go in together or not at all: none hangs.

    `exchanged` are the bytes of the tensors that this rank handed to collectives.
    """

    def __init__(self, say: Callable[[Any], None], hear: Callable[[], Any]):
        super().__init__()
        self._say, self._hear, self.exchanged = say, hear, 0

    def _meet(self, collective: Callable[[], object], op: str, tensor: torch.Tensor, what: str) -> None:
        self._say({"enter": place(op, tensor)})
        answer = self._hear()
        if not answer["go"]:
            raise NotTogether(answer["why"])
        self.exchanged += tensor.nbytes
        super()._meet(collective, op, tensor, what)


def main() -> None:
    size, backend, store, timeout_s, ranks, pipes = sys.argv[1:]
    ends = [int(end) for end in pipes.split(",")]
    torch.set_num_threads(1)
    rank, *others = (int(rank) for rank in ranks.split(","))
    place = 0
    for number, other in enumerate(others, 1):
        if os.fork() == 0:
            rank, place = other, number
            break
    mine = ends[2 * place:2 * place + 2]
    for end in ends:
        if end not in mine:
            os.close(end)
    serve(rank, int(size), backend, store, float(timeout_s), mine)


def serve(rank: int, size: int, backend: str, store: str, timeout_s: float, pipes: list[int]) -> None:
    """Be this rank: run what comes through the first pipe and say through the second what it gave."""
    out = os.fdopen(pipes[1], "wb")
    jobs: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=read, args=(os.fdopen(pipes[0], "rb"), jobs), daemon=True).start()
    device = None
    if backend == "nccl":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=size,
                            timeout=datetime.timedelta(seconds=timeout_s), device_id=device)
    group = WatchedGroup(lambda message: send(out, message), jobs.get)
    send(out, {"ready": os.getpid()})
    while True:
        job = jobs.get()
        group.exchanged = 0
        try:
            if isinstance(job["run"], bytes):
                result = unpack(job["run"])(**job["arguments"][0], group=group), group.exchanged
            else:
                result = job["run"](Group(), *job["arguments"])
            send(out, {"result": result})
        except BaseException as error:  # sys.exit() too ends the job and not the rank
            line = student_line(error)
            at = f"\n  at: {line}" if line and isinstance(job["run"], bytes) and not isinstance(error, NotTogether) else ""
            send(out, {"error": {"type": type(error).__name__, "text": str(error)[:2000] + at}})


def read(stream: Any, jobs: queue.Queue) -> None:
    """The messages that come. Where the pipe is closed, or who started this is gone, this process ends, wherever it is."""
    while (job := receive(stream)) is not None:
        jobs.put(job)
    os._exit(0)


if __name__ == "__main__":
    main()
