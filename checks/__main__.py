"""The commands behind `python3 workshop.py COMMAND`."""

import argparse
import os
import sys
from pathlib import Path

if sys.argv[1:2] == ["grade"]:  # the grader computes on the CPU; its children have the GPU
    os.environ["TRITON_INTERPRET"] = "1"

import checks  # noqa: F401  first: it decides whether Triton interprets


def check_command(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="workshop.py check", description="Check the exercises of the lessons.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks to check (default: all of lessons/)")
    from checks.progress import check_notebooks

    return check_notebooks(parser.parse_args(argv).notebooks)


def reset_command(argv: list[str]) -> int:
    from checks.reset import main

    return main(argv)


def solutions_command(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="workshop.py solutions",
                                     description="Rebuild solutions/ from lessons/ and kernels/, and execute it.")
    parser.parse_args(argv)
    from checks.notebooks import build_solutions

    try:
        for path in build_solutions():
            print(f"wrote {path}")
    except ValueError as error:
        parser.error(error.args[0])
    return 0


def bench_command(argv: list[str]) -> int:
    from checks.bench import main

    return main(argv)


def doctor_command(argv: list[str]) -> int:
    from checks.doctor import main

    return main(argv)


def grade_command(argv: list[str]) -> int:
    from checks.grader.command import main

    return main(argv)


COMMANDS = {"check": check_command, "reset": reset_command, "solutions": solutions_command, "bench": bench_command,
            "doctor": doctor_command, "grade": grade_command}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m checks", description=__doc__, add_help=False)
    parser.add_argument("command", choices=COMMANDS)
    args, rest = parser.parse_known_args(sys.argv[1:2])
    return COMMANDS[args.command](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
