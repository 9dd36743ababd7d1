"""A class as an array of Slurm jobs that share the folder of grades: each grades a shard, and a last job what is left."""

import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from checks.files import write_atomically
from checks.paths import ROOT, python_path

STUDENTS_PER_JOB = 10
MOST_JOBS = 1000  # Slurm's own limit of an array's size, MaxArraySize, is 1001 where nobody has changed it


@dataclass(frozen=True)
class Array:
    """The jobs of a class, to be submitted."""

    grades: Path
    command: tuple[str, ...]  # of `grade`, without shard and jobs
    shards: int
    options: tuple[str, ...] = ()  # more of sbatch's

    @property
    def folder(self) -> Path:
        return self.grades.absolute() / "slurm"

    def script(self, shard: bool) -> str:
        """The shell script of each job of the array, or of the last one, which has no shard."""
        command = shlex.join([sys.executable, "-P", "-m", "checks", "grade", *self.command])
        part = f' --shard "$SLURM_ARRAY_TASK_ID/{self.shards}"' if shard else ""
        return (f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(python_path())}\ncd {shlex.quote(str(ROOT))} || exit 3\n"
                f'exec {command} --resume --jobs "${{SLURM_CPUS_PER_TASK:-1}}"{part}\n')

    def sbatch(self, after: str = "") -> list[str]:
        """The command that submits the array, or what is to run after the array of that number."""
        name = "end" if after else "%A_%a"
        which = [f"--dependency=afterany:{after}"] if after else [f"--array=1-{self.shards}"]
        return ["sbatch", "--parsable", "--job-name=grade", "--requeue", "--cpus-per-task=2", "--open-mode=append", *which,
                f"--output={self.folder}/{name}.log", *self.options, str(self.folder / ("end.sh" if after else "shard.sh"))]


def needs_slurm() -> None:
    """Raise ValueError where Slurm is not."""
    if shutil.which("sbatch") is None:
        raise ValueError("--slurm needs `sbatch`, which is not here: run it where jobs are submitted, or see them with "
                         "--dry-run")


def shards_for(students: int) -> int:
    """How many jobs for so many students."""
    return max(1, min(MOST_JOBS, math.ceil(students / STUDENTS_PER_JOB)))


def show(array: Array, say: Callable[[str], None] = print) -> None:
    """Print what `submit` would write and run."""
    for shard, after in ((True, ""), (False, "ARRAY")):
        say(f"# {array.sbatch(after)[-1]}\n{array.script(shard)}")
        say(f"$ {shlex.join(array.sbatch(after))}\n")


def submit(array: Array, say: Callable[[str], None] = print) -> None:
    """Write the scripts and submit both. Raises ValueError where Slurm refuses."""
    for shard, name in ((True, "shard.sh"), (False, "end.sh")):
        write_atomically(array.folder / name, array.script(shard))
    number = _run(array.sbatch())
    last = _run(array.sbatch(number))
    say(f"submitted {array.shards} jobs as {number}, and {last} after them, which grades what they have left; logs are in "
        f"{os.path.relpath(array.folder)}")


def _run(command: Sequence[str]) -> str:
    """The number of the job that a command submits."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"sbatch refused: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip().partition(";")[0]
