"""Every lesson, solved, executed on a machine with a GPU, where pictures are measured and not recorded.

    python tests/gpu/notebooks_on_gpu.py [--only 01 04 …] [--out FOLDER]

One at a time, each in a process of its own: the timer refuses a GPU that others use. Exits with 1 if a cell fails. The
executed notebooks go into FOLDER, to be looked at.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import nbformat

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from checks.course.notebooks import execute, lessons, read, solve  # noqa: E402
from kernels.runtime import INTERPRETED  # noqa: E402

TIMEOUT_S = 180


def run(lesson: Path, out: list[str]) -> bool:
    started = time.monotonic()
    try:
        done = subprocess.run([sys.executable, __file__, "--here", lesson.stem, *out], capture_output=True, text=True,
                              timeout=TIMEOUT_S)
        said, fine = (done.stdout + done.stderr)[-3000:], done.returncode == 0
    except subprocess.TimeoutExpired:
        said, fine = f"not done after {TIMEOUT_S} s", False
    print(f"{'ok ' if fine else 'BAD'} {lesson.stem} ({time.monotonic() - started:.0f} s)", flush=True)
    if not fine:
        print(said, flush=True)
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NUMBER", help="lessons whose names begin so")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep the executed notebooks there")
    parser.add_argument("--here", help=argparse.SUPPRESS)  # one lesson, in this process
    options = parser.parse_args()
    if INTERPRETED:
        parser.error("this needs a GPU; `python3 workshop.py test` executes the lessons without one")
    if options.here:
        executed = execute(solve(read(next(path for path in lessons() if path.stem == options.here))))
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            nbformat.write(executed, options.out / f"{options.here}.ipynb")
        return 0
    out = ["--out", str(options.out)] if options.out else []
    results = [run(path, out) for path in lessons() if path.stem.startswith(tuple(options.only))]
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
