"""`workshop.py dev`: a new exercise's skeleton, planted bugs, records of exercises and pictures, answers on many seeds."""

import argparse
import sys
from pathlib import Path

from checks.dev.mutate import MutationFailed, Sampling, mutate
from checks.dev.new_exercise import NewExercise, write_skeleton
from checks.dev.record import RECORD, renew, renew_pictures
from checks.dev.seeds import refused_answers
from checks.paths import ROOT


def main(argv: list[str]) -> int:
    parser = command_line()
    wanted = parser.parse_args(argv)
    try:
        return wanted.run(wanted)
    except (LookupError, ValueError, MutationFailed) as error:
        print(f"workshop.py dev: {error.args[0]}", file=sys.stderr)
        return 1


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="workshop.py dev", description="For those who maintain the workshop.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    new = commands.add_parser("new-exercise", help="write a new exercise's skeleton in all its places")
    new.add_argument("name", help="the function to write; one that ends in _kernel is a Triton kernel")
    new.add_argument("--lesson", required=True, help="its number, such as 04, or its name")
    new.add_argument("--file", required=True, type=Path, help="where the answer lies: kernels/gemv.py; made if missing")
    new.add_argument("--noun", help="the module of checks/exercises/ that asks for it (default: the file's name)")
    new.add_argument("--after", metavar="CELL", help="the id of the lesson's cell that it follows (default: the last one of "
                     "its last part)")
    new.set_defaults(run=new_exercise)
    plant = commands.add_parser("mutate", help="plant bugs, one at a time, and list those that no test notices")
    plant.add_argument("path", type=Path, help="a Python file, or a folder of them")
    plant.add_argument("--number", type=int, metavar="N", help="so many, drawn at random (default: all)")
    plant.add_argument("--seed", type=int, default=0, help="of that draw (default: 0)")
    plant.add_argument("--tests", nargs="+", default=[], help="what pytest runs (default: the tests that run the changed "
                       "lines, which one run of the whole suite tells)")
    plant.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="for the tests of one bug (300)")
    plant.set_defaults(run=plant_bugs)
    record = commands.add_parser("record", help="write down anew what a grade depends on and what pictures show, and "
                                 "list what has changed")
    record.set_defaults(run=renew_record)
    seeds = commands.add_parser("seeds", help="try the answers on many seeds: on none may a right one be refused")
    seeds.add_argument("names", nargs="*", metavar="EXERCISE", help="(default: all)")
    seeds.add_argument("--number", type=int, default=100, metavar="N", help="of seeds (default: 100)")
    seeds.add_argument("--first", type=int, default=0, metavar="SEED", help="the others follow it (default: 0)")
    seeds.set_defaults(run=try_seeds)
    return parser


def new_exercise(wanted: argparse.Namespace) -> int:
    written = write_skeleton(NewExercise(wanted.name, wanted.lesson, wanted.file, wanted.noun or wanted.file.stem,
                                         wanted.after))
    for path in written:
        print(f"wrote {path.relative_to(ROOT)}")
    (lesson,) = [path.stem for path in written if path.suffix == ".ipynb"]
    print("Each place has a TODO; CONTRIBUTING.md says what belongs there. Until none is left, this fails and says which:\n"
          "    python3 workshop.py test tests/dev/test_every_place.py tests/course/test_contract.py "
          f'tests/course/test_way_through.py -k "{wanted.name} or {lesson}"')
    return 0


def plant_bugs(wanted: argparse.Namespace) -> int:
    return int(mutate(wanted.path, wanted.tests, Sampling(wanted.number, wanted.seed), wanted.timeout) > 0)


def renew_record(wanted: argparse.Namespace) -> int:
    changed, path = renew(), RECORD.relative_to(ROOT)
    for line in changed:
        print(line)
    print(f"wrote {path}" if changed else f"nothing has changed: {path} stays as it is", flush=True)
    return renew_pictures()


def try_seeds(wanted: argparse.Namespace) -> int:
    status = 0
    for name, failures in refused_answers(wanted.names, range(wanted.first, wanted.first + wanted.number)):
        print(f"{name}: refused on {len(failures)} of {wanted.number} seeds", flush=True)
        for seed, message in failures[:1]:
            print(f"  seed {seed}: {message}")
            status = 1
    return status
