"""Grade a class of invented students on a dask cluster, kill a worker on the way, and compare with a run without one.

    python tests/grader/cluster_class.py [--students 100] [--workers 2] [--exercise NAME …] [--keep FOLDER]

Each student hands in the whole course, made as in synthetic_class.py; one more tries to reach the scheduler. What both runs
wrote must be equal, byte for byte but for times. With the same --keep once more, it goes on where it was stopped. Needs
dask.distributed.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

from synthetic_class import HERE, notebook, write_student

from checks.exercises import EXERCISES
from checks.grader import results
from checks.grader.batch import Batch, Tally
from checks.grader.cluster.dask_batch import DaskBatch
from checks.grader.settings import Settings

SPY = """# exercise: programs_needed
def programs_needed(N, BLOCK):
    import socket
    for address in ADDRESSES:
        try:
            socket.create_connection(address, timeout=2).close()
        except OSError as error:
            last = error
        else:
            return (N + BLOCK - 1) // BLOCK
    raise last
"""
"""Right only where the scheduler or a worker can be reached."""


def write_class(folder: Path, students: int, addresses: list[str]) -> None:
    """The submissions of so many students, and a spy."""
    rng = random.Random(1)
    mutants = {name: rng.sample(e.mutants, len(e.mutants)) for name, e in EXERCISES.items()}
    for number in range(students if not folder.exists() else 0):
        write_student(folder / f"student{number:03}", rng, mutants)
    pairs = [(host, int(port)) for host, _, port in (address.rpartition("://")[2].rpartition(":") for address in addresses)]
    (folder / "spy").mkdir(parents=True, exist_ok=True)
    (folder / "spy" / "a.ipynb").write_text(notebook([SPY.replace("ADDRESSES", repr(pairs))]))


def without_times(value):
    """A result without what may differ between two runs that agree."""
    if isinstance(value, dict):
        return {name: without_times(one) for name, one in value.items() if name not in results.VOLATILE}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def as_bytes(grades: Path) -> dict[str, bytes]:
    return {path.name: results.to_json(without_times(json.loads(path.read_text()))).encode()
            for path in (grades / "students").iterdir()}


class Killer:
    """Says each line, and ends a worker with SIGKILL once a quarter of the class is graded."""

    def __init__(self, pids: dict[str, int], students: int):
        self.pids, self.after, self.graded, self.killed = pids, max(1, students // 4), 0, ""

    def __call__(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        self.graded += line.startswith("[")
        if self.graded >= self.after and not self.killed:
            self.killed, pid = next(iter(self.pids.items()))
            os.kill(pid, signal.SIGKILL)
            print(f"killed the worker {self.killed}", file=sys.stderr, flush=True)


def on_a_cluster(folder: Path, settings: Settings, students: int, workers: int) -> tuple[Tally, Killer]:
    """Write a class and grade it on a cluster into `grades-cluster`."""
    from distributed import Client, LocalCluster

    with (LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
          Client(cluster, set_as_default=False) as client):
        pids = client.run(os.getpid)
        write_class(folder / "submissions", students, [cluster.scheduler_address, *pids])
        say = Killer(pids, students)
        batch = DaskBatch(folder / "grades-cluster", settings, cluster.scheduler_address, say)
        return batch.grade(folder / "submissions", resume=True), say


def speed(tally: Tally) -> str:
    kept = f" ({tally.kept} were there)" if tally.kept else ""
    return f"{tally.graded} submissions{kept} in {tally.seconds:.0f} s, {60 * tally.graded / tally.seconds:.1f} a minute"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--exercise", action="append", default=[])
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--keep", type=Path, help="write submissions and grades here")
    args = parser.parse_args(argv)
    settings = Settings(1, exercises=tuple(args.exercise), compiles=not args.no_compile)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        tally, killer = on_a_cluster(folder, settings, args.students, args.workers)
        alone = Batch(folder / "grades-one", settings, args.workers, killer).grade(folder / "submissions", resume=True)
        cluster, one = as_bytes(folder / "grades-cluster"), as_bytes(folder / "grades-one")
        different = sorted(name for name in {*cluster, *one} if cluster.get(name) != one.get(name))
        spy = next((e for e in json.loads(one["spy.json"])["exercises"] if e["exercise"] == "programs_needed"), None)
        print(f"cluster of {args.workers} workers, killed on the way: {killer.killed or 'none'}: {speed(tally)}")
        print(f"one machine, {args.workers} processes: {speed(alone)}")
        print(f"{len(cluster)} and {len(one)} results, different but for times: {', '.join(different) or 'none'}")
        print(f"who tried to reach the scheduler and the workers: {spy['status'] if spy else 'not asked'}"
              + (f", {spy['message']}" if spy else ""))
        workers = json.loads((folder / "grades-cluster" / "workers.json").read_text())
        for address, about in workers.items():
            print(f"{address}: {about['graded']} graded, isolation {', '.join(about['isolation'])}")
        right = (not different and len(cluster) == args.students + 1 and (killer.killed or not tally.graded)
                 and (spy is None or spy["status"] != "passed"))
        return 0 if right else 1


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.exit(main())
