"""The commands behind `python3 workshop.py COMMAND`."""

import argparse
import errno
import importlib.util
import io
import os
import signal
import sys
from pathlib import Path


def start_watched() -> int:
    """Go on in a process of its own, which is to write into the returned file once it is done.

    The one that was there waits for it: where a cell ends Python, with whatever status, it says so, and that is a failure.
    """
    done, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(done)
        return write
    os.close(write)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.set_blocking(done, False)  # a process that a cell has left behind may hold it open
    try:
        finished = os.read(done, 1)
    except BlockingIOError:
        finished = b""
    told = -code in (signal.SIGTERM, signal.SIGHUP)
    if not finished and not told:
        why = (f"Python died of signal {-code} ({signal.strsignal(-code)}), in a cell or a function" if code < 0 else
               "a cell ended Python itself, as `os._exit` does")
        print(f"workshop: the check ended before it was done: {why}. Nothing is known of what came after it.",
              file=sys.stderr)
    os._exit(1 if not finished and not told else code if code >= 0 else 128 - code)


if __name__ == "__main__" and sys.argv[1:2] == ["check"]:  # before torch is there: CUDA survives no fork
    finished_file = start_watched()

if sys.argv[1:2] == ["grade"]:  # the grader computes on the CPU; its children have the GPU
    os.environ["TRITON_INTERPRET"] = "1"

# For jsonschema, which nbformat imports: it would build a grammar of IRIs for 1.3 s, and a notebook has none.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

import checks  # noqa: E402, F401  first: it decides whether Triton interprets


def check_command(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="workshop.py check", description="Check the exercises of the lessons.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks to check (default: all of lessons/)")
    from checks.course.progress import check_notebooks

    return check_notebooks(parser.parse_args(argv).notebooks)


def solutions_command(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="workshop.py solutions",
                                     description="Rebuild solutions/ from lessons/ and kernels/, and execute it.")
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="those of these lessons alone, such as 04")
    wanted = parser.parse_args(argv).lessons
    from checks.course.notebooks import build_solutions

    try:
        for path in build_solutions(wanted):
            print(f"wrote {path}")
    except (LookupError, ValueError) as error:
        parser.error(error.args[0])
    return 0


def card_command(argv: list[str]) -> int:
    from checks.capstone import command

    if importlib.util.find_spec("matplotlib") is None:
        return command.main(argv, draw=None)
    from checks.pictures.transformer import card_figure

    return command.main(argv, draw=card_figure)


COMMANDS = {"check": check_command, "solutions": solutions_command, "card": card_command}
MODULES = {"reset": "checks.course.reset", "update": "checks.course.update",
           "site": "checks.course.site", "bench": "checks.bench.command",
           "profile": "checks.bench.profile", "doctor": "checks.course.doctor",
           "grade": "checks.grader.command", "train": "checks.capstone.training", "accuracy": "checks.capstone.accuracy",
           "model": "checks.model.command", "dev": "checks.dev.command"}
"""The commands that have a module of their own, each with a `main(argv)`."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m checks", description=__doc__, add_help=False)
    parser.add_argument("command", choices=[*COMMANDS, *MODULES])
    command = parser.parse_args(sys.argv[1:2]).command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # `?` for a ✓ that a terminal cannot show
    run = COMMANDS[command] if command in COMMANDS else importlib.import_module(MODULES[command]).main
    try:
        status = run(sys.argv[2:])
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        return _output_lost(error)
    return status


def _output_lost(error: OSError) -> int:
    """For output into `head`, which ends when it has seen enough, or onto a full disk: no traceback, no more output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.ENOSPC:
        print("workshop: what this command prints cannot be written: the disk is full.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    try:
        ended_with = main()
    finally:
        if sys.argv[1:2] == ["check"]:
            os.write(finished_file, b".")
    sys.exit(ended_with)
