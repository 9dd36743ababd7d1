"""`python3 workshop.py grade …`: what an instructor types."""

import argparse
import functools
import io
import os
import shlex
import sys
import time
from pathlib import Path

from checks.grader import gradebook, results
from checks.grader.batch import Batch, any_seed, class_seed, locked, shard_named
from checks.grader.cluster import slurm
from checks.grader.cluster.dask_batch import DaskBatch, needs_dask
from checks.grader.cluster.merge import merge
from checks.grader.course import DEFAULT, lessons_named, read_course
from checks.grader.deadlines import read_deadlines
from checks.grader.gradebook import Gradebook, read_gradebook
from checks.grader.grader import Grader
from checks.grader.gradescope.archive import write_zip
from checks.grader.intake.folder import HandedIn, find_submissions
from checks.grader.intake.text import printable_name
from checks.grader.output.exports import FORMATS, export, unknown_to
from checks.grader.results import SubmissionResult
from checks.grader.roster import read_roster
from checks.grader.sandbox.client import Fault
from checks.grader.selftest import Misjudged
from checks.grader.selftest import run as selftest
from checks.grader.settings import Settings
from checks.grader.units import grade, read

GRADED, BELOW, USAGE, FAULTS, MISJUDGED = 0, 1, 2, 3, 4
"""Exit codes: graded whatever the scores; --fail-under missed; wrong usage; something could not be graded, for the machine's
fault or because work could not be read; self-test failed."""


def main(argv: list[str]) -> int:
    args = _parser().parse_args(_joined(argv))
    for stream in (sys.stdout, sys.stderr):  # a name may have letters that this terminal lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return args.run(args)
    except ValueError as error:
        print(f"grade: {error}", file=sys.stderr)
        return USAGE
    except Misjudged as error:
        print(f"grade: {error}. No result can be trusted until that is right; see `grade selftest`.", file=sys.stderr)
        return MISJUDGED
    except (Fault, OSError) as error:
        print(f"grade: infrastructure error: {error}", file=sys.stderr)
        return FAULTS
    except KeyboardInterrupt:
        print("\ngrade: stopped. What was graded is kept: the same command with --resume goes on.", file=sys.stderr)
        return 130


def _joined(argv: list[str]) -> list[str]:
    """With `--sbatch X` as `--sbatch=X`: argparse takes an X that begins with a dash for an option of ours."""
    at = argv.index("--sbatch") if "--sbatch" in argv[:-1] else len(argv)
    return [*argv[:at], *(["=".join(argv[at:at + 2])] if at < len(argv) else []), *argv[at + 2:]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="workshop.py grade", description="Grade submissions: see checks/grader/README.md.",
                                     epilog="Exit codes: 0 graded, whatever the scores; 1 --fail-under missed; 2 usage; "
                                     "3 something could not be graded: an infrastructure error, or work that could not be "
                                     "read; 4 the self-test failed.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        added.set_defaults(run=run)
        return added

    one = command("one", _one, "grade one submission (a folder, a zip, notebooks) and print what was found")
    one.add_argument("submission", nargs="+", type=Path)
    one.add_argument("--json", action="store_true", help="print the result as JSON")
    many = command("class", _class, "grade every submission of a folder")
    _add_class_options(many)
    merged = command("merge", _merge, "put the grades of several shards into one folder")
    merged.add_argument("parts", nargs="+", type=Path, metavar="GRADES", help="folders that `grade class` wrote")
    merged.add_argument("--out", type=Path, required=True, metavar="GRADES", help="the folder for all")
    zipped = command("autograder", _autograder, "write the zip that Gradescope runs for each submission")
    zipped.add_argument("--out", type=Path, required=True, metavar="ZIP", help="the zip to upload")
    for added in (one, many):
        added.add_argument("--fail-under", type=float, metavar="PERCENT", help="exit 1 if a total is below this")
    for added in (one, many, zipped):
        added.add_argument("--seed-file", type=Path, help="a file with the seed of inputs and hidden sizes")
    proof = command("selftest", _selftest, "judge known-good and known-bad submissions of every exercise")
    for added in (one, many, proof, zipped):
        added.add_argument("--exercise", action="append", default=[], help="this exercise alone; may be repeated")
        added.add_argument("--timeout", type=float, default=Settings.timeout_s, metavar="S",
                           help="for all cases of one exercise")
        added.add_argument("--student-timeout", type=float, default=Settings.student_timeout_s, metavar="S",
                           help="for all exercises of one submission")
        added.add_argument("--require-isolation", action="store_true", help="refuse to grade with less than full isolation")
        added.add_argument("--gpus", default="", metavar="0,1", help="also run passing kernels on these GPUs, and time them")
        added.add_argument("--no-compile", action="store_true", help="leave out compiling for real GPUs")
    report = command("report", _report, "write a feedback page per student, and a class page")
    report.add_argument("--anonymous", action="store_true", help="numbers in place of names, in pages/anonymous/")
    export = command("export", _export, "write the scores for other programs")
    export.add_argument("--format", required=True, choices=FORMATS)
    export.add_argument("--to", type=Path, help="the file or folder to write (default: in GRADES)")
    export.add_argument("--assignment", default="", metavar="NAME", help="what Canvas calls it, as in its own export")
    alike = command("similar", _similar, "list pairs of submissions that are alike")
    alike.add_argument("folder", type=Path)
    alike.add_argument("--out", type=Path, metavar="GRADES", help="write pages/similar.html, the code side by side")
    for added in (report, export):
        added.add_argument("grades", type=Path)
    for added in (one, many, proof, zipped, report, export, alike):
        added.add_argument("--course", type=Path,
                           help="the course's TOML (default: the one kept with the grades, or the workshop's own)")
        added.add_argument("--lesson", action="append", default=[], metavar="04", help="this lesson alone; may be repeated")
    return parser


def _add_class_options(many: argparse.ArgumentParser) -> None:
    many.add_argument("folder", type=Path, help="a folder or zip per student, or notebooks named by student")
    many.add_argument("--out", type=Path, required=True, metavar="GRADES", help="the folder for results")
    many.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: one per core)")
    many.add_argument("--only", action="append", default=[], metavar="STUDENT", help="this student; may be repeated")
    many.add_argument("--resume", action="store_true", help="keep the results that are there and still hold")
    many.add_argument("--roster", type=Path, metavar="CSV", help="who is in the class; kept with the grades")
    many.add_argument("--deadlines", type=Path, metavar="CSV", help="lesson, deadline, and student for those who "
                      "have more time; kept with the grades")
    many.add_argument("--cluster", metavar="ADDRESS", help="grade on the workers of a dask.distributed scheduler, such as "
                      "tcp://scheduler:8786")
    many.add_argument("--slurm", action="store_true", help="grade as an array of Slurm jobs that share both folders; "
                      "what still holds is kept")
    many.add_argument("--dry-run", action="store_true", help="with --slurm: show the jobs, and submit nothing")
    many.add_argument("--shards", type=int, metavar="N", help="with --slurm: so many jobs (default: one for 10 students)")
    many.add_argument("--sbatch", default="", metavar="OPTIONS", help="with --slurm: more options, in quotes, such as "
                      "\"--partition=teaching --time=02:00:00\"")
    many.add_argument("--shard", metavar="3/20", help="the third of 20 equal parts alone: see `grade merge`")


def _settings(args, seed: int) -> Settings:
    if min(args.timeout, args.student_timeout) <= 0:
        raise ValueError("--timeout and --student-timeout must be more than 0 seconds")
    if not all(index.isdecimal() for index in args.gpus.split(",") if args.gpus):
        raise ValueError(f"--gpus takes numbers such as 0,1, not {args.gpus}")
    gpus = tuple(int(index) for index in args.gpus.split(",") if args.gpus)
    path = _course_path(args)
    course, lessons = read_course(path), lessons_named(args.lesson)
    unknown = set(args.exercise) - set(course.exercises)
    if unknown:
        raise ValueError(f"there is no exercise {', '.join(sorted(unknown))}; there are {', '.join(course.exercises)}")
    twice = [name for name in args.exercise if course.exercises[name].lesson in lessons]
    if twice:
        raise ValueError(f"--lesson grades all exercises of {course.exercises[twice[0]].lesson}, not {twice[0]} alone: "
                         "leave --lesson or --exercise out")
    chosen = (*args.exercise, *(name for name, exercise in course.exercises.items() if exercise.lesson in lessons))
    if lessons and not chosen:
        raise ValueError(f"the course has no exercise of {', '.join(lessons)}")
    return Settings(seed, path, chosen, not args.no_compile, args.require_isolation, args.timeout,
                    args.student_timeout, gpus)


def _course_path(args) -> Path:
    """The course that was given, or the one that is kept with the grades, or the workshop's own."""
    grades = getattr(args, "out", None)
    return args.course or (gradebook.course_of(grades) if grades else DEFAULT)


def _one(args) -> int:
    for path in args.submission:
        if not path.exists():
            raise ValueError(f"there is no {path}")
    student = printable_name(args.submission[0].absolute().stem)
    with Grader(_settings(args, any_seed(args.seed_file))) as grader:
        result = grade(grader, HandedIn(student, args.submission))
    if args.json:
        print(results.to_json(result), end="")
    else:
        _print(result)
    return _exit_code([result], args.fail_under)


def _print(result: SubmissionResult) -> None:
    for one in result["exercises"]:
        points = "–" if one["points"] is None else f"{one['points']:g}"
        print(f"{one['lesson']}  {one['exercise']}: {one['status']}, {points} of {one['possible']:g}")
        if one["status"] != "passed" and one["message"]:
            print("    " + one["message"].replace("\n", "\n    "))
        for flag in one["flags"]:
            print(f"    flag ({flag['kind']}): {flag['text']}")
        for notice in one["notices"]:
            print(f"    note: {notice}")
    for problem in result["problems"]:
        print(f"problem: {problem}")
    print(f"{result['points']:g} of {result['possible']:g} points · isolation: {', '.join(result['isolation'])}")


def _class(args) -> int:
    _check_class_options(args)
    shard = shard_named(args.shard) if args.shard else None
    if args.cluster:
        needs_dask()
    if args.slurm and args.dry_run:
        return _slurm(args, len(find_submissions(args.folder).students))
    if args.slurm:
        slurm.needs_slurm()
    with locked(args.out, shard):
        _keep_given(args)
        settings = _settings(args, class_seed(args.out, args.resume or args.slurm, args.seed_file, fixed=shard is not None))
        say = functools.partial(print, file=sys.stderr, flush=True)
        if args.slurm:
            return _slurm(args, Batch(args.out, settings, say=say).prepare(args.folder))
        batch = (DaskBatch(args.out, settings, args.cluster, say) if args.cluster else
                 Batch(args.out, settings, args.jobs, say))
        tally = batch.grade(args.folder, tuple(map(printable_name, args.only)), args.resume, shard)
    rate = f", {60 * tally.graded / tally.seconds:.1f} a minute" if tally.graded else ""
    print(f"{tally.graded} graded, {tally.kept} kept, {tally.faults} with an infrastructure error, "
          f"{tally.unread} with work that could not be read, in {tally.seconds:.0f} s{rate}")
    if shard and not (tally.graded or tally.kept):
        return GRADED
    graded = results.read_results(args.out)
    return FAULTS if tally.faults else _exit_code(graded, args.fail_under)


def _check_class_options(args) -> None:
    if args.jobs < 1 or args.shards is not None and args.shards < 1:
        raise ValueError("--jobs and --shards must be 1 or more")
    if bool(args.cluster) + args.slurm + bool(args.shard) > 1 or args.only and (args.slurm or args.shard):
        raise ValueError("--cluster, --slurm and --shard exclude each other, and the last two --only")
    if not args.slurm and (args.dry_run or args.shards or args.sbatch):
        raise ValueError("--dry-run, --shards and --sbatch go with --slurm")
    zone = read_course(_course_path(args)).zone  # which raises before anything is kept, as do the others
    roster = read_roster(args.roster, zone) if args.roster else gradebook.roster_of(args.out)
    for path in filter(None, [args.deadlines]):
        if not path.exists():
            raise ValueError(f"there is no {path}")
        read_deadlines(path, zone, roster.students)


def _keep_given(args) -> None:
    """Keep the files of an instructor beside the grades, where later commands and other machines find them."""
    for path, name in ((args.course, "course.toml"), (args.roster, "roster.csv"), (args.deadlines, "deadlines.csv")):
        gradebook.keep_copy(path, args.out / name)


def _slurm(args, students: int) -> int:
    command = ["class", str(args.folder.absolute()), "--out", str(args.out.absolute()),
               "--timeout", str(args.timeout), "--student-timeout", str(args.student_timeout)]
    for name in ("exercise", "lesson"):
        command += [word for value in getattr(args, name) for word in (f"--{name}", value)]
    command += [f"--{name}" for name in ("require-isolation", "no-compile") if getattr(args, name.replace("-", "_"))]
    command += ["--gpus", args.gpus] if args.gpus else []
    array = slurm.Array(args.out, tuple(command), min(args.shards or slurm.shards_for(students), students),
                        tuple(shlex.split(args.sbatch)))
    if args.dry_run:
        slurm.show(array)
    else:
        slurm.submit(array)
    return GRADED


def _merge(args) -> int:
    print(f"{merge(args.parts, args.out)} students in {args.out}")
    return _exit_code(results.read_results(args.out), None)


def _autograder(args) -> int:
    settings = _settings(args, any_seed(args.seed_file))
    if settings.gpus:
        raise ValueError("Gradescope has no GPU: leave out --gpus")
    course = read_course(settings.course)
    wanted = settings.exercises or tuple(course.exercises)
    print(f"wrote {write_zip(args.out, settings)}: {len(wanted)} exercises. In Gradescope, set the assignment's autograder "
          f"points to {sum(course.points[name] for name in wanted):g}, and choose Ubuntu 22.04 or 24.04")
    return GRADED


def _exit_code(graded: list[SubmissionResult], fail_under: float | None) -> int:
    if unfinished := [result["student"] for result in graded if results.is_open(result)]:
        print(f"not graded in full, and so without a total: {', '.join(unfinished)}", file=sys.stderr)
        return FAULTS
    if fail_under is not None and any(100 * result["points"] < fail_under * result["possible"] for result in graded):
        return BELOW
    return GRADED


def _selftest(args) -> int:
    started = time.monotonic()
    with Grader(_settings(args, 1)) as grader:
        misjudged = selftest(grader)
    print(f"{misjudged} misjudged, {time.monotonic() - started:.0f} s")
    return MISJUDGED if misjudged else GRADED


def _gradebook(args) -> Gradebook:
    book = read_gradebook(args.grades, args.course, lessons_named(args.lesson))
    for warning in book.warnings:
        print(warning, file=sys.stderr)
    return book


def _report(args) -> int:
    from checks.grader.output.pages import write_pages

    for path in write_pages(args.grades, _gradebook(args), args.anonymous):
        print(f"wrote {path}")
    return GRADED


def _export(args) -> int:
    book = _gradebook(args)
    for path in export(args.format, book, args.grades, args.to, args.assignment):
        print(f"wrote {path}")
    needs = {"canvas": "Canvas number", "moodle": "Moodle number", "mail": "e-mail"}
    unknown = unknown_to(args.format, book) if args.format in needs else []
    if unknown:
        print(f"the {needs[args.format]} of {', '.join(unknown)} is not known: see --roster", file=sys.stderr)
    if args.format == "canvas" and not args.assignment:
        print(f"Canvas takes `{book.course.title}` for a new column: name the one that is there with --assignment",
              file=sys.stderr)
    return GRADED


def _similar(args) -> int:
    from checks.grader.output.similarity import pairs, table, write_page

    course, lessons = read_course(_course_path(args)), lessons_named(args.lesson)
    exercises = {name: one for name, one in course.exercises.items() if not lessons or one.lesson in lessons}
    listing = find_submissions(args.folder)
    if args.out:
        listing = gradebook.roster_of(args.out).apply(listing)
    submissions = [read(handed_in) for handed_in in listing.students.values()]
    found = pairs(submissions, exercises)
    for line in table(found):
        print(line)
    if args.out:
        print(f"wrote {write_page(args.out, submissions, found)}")
    return GRADED
