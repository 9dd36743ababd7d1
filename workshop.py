"""The one way in: makes the Python environment `.venv` beside this file, then runs a command of the workshop in it.

Standard library only, and written so that any Python from 3.6 on can parse it: an old one gets a sentence, not a
SyntaxError.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "workshop.stamp"
LOG = VENV / "pip.log"

# What would lead Python out of .venv, turn off its assertions, or keep it from printing the check's signs.
NOT_OURS = ("PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONOPTIMIZE",
            "PYTHONWARNINGS")
CHANGED = ("HOME", "JUPYTER_PATH", "JUPYTER_PREFER_ENV_PATH")

COMMANDS = {
    "lab": "open the first lesson in JupyterLab; more arguments go to JupyterLab (--no-browser, --port 8889)",
    "test": "run all tests, lessons and solutions; more arguments go to pytest (tests/kernels/test_gemv.py -k ragged)",
    "check": "check the exercises of all lessons, or of the notebooks named, and print a table",
    "reset": "restore a lesson or one exercise to the original (04 sqnr_db), and keep a copy of yours",
    "update": "take a new version of the course, and keep what you wrote in the lessons",
    "grade": "grade submissions: one, or a class (grade --help; for instructors)",
    "doctor": "say what this machine can and cannot run, and what to do about each problem",
    "here": "install what the lessons need into the Python that runs this, in place of .venv (conda, uv, Colab, Kaggle)",
    "site": "build the solved course as static pages (--out FOLDER)",
    "solutions": "rebuild solutions/ from lessons/ and kernels/, all or those of the lessons named (04)",
    "bench": "check the kernels, and measure them beside the baselines on this machine's GPU",
    "profile": "profile the lessons' kernels with Nsight Compute on this machine's GPU",
    "train": "train the small transformer of lesson 10 again",
    "accuracy": "measure what INT8 costs that transformer",
    "card": "make lesson 10's report card on this machine's GPU",
    "model": "turn a checkpoint in a local folder to INT8: perplexity, text, memory, tokens per second",
    "dev": "for maintainers: a new exercise's skeleton (new-exercise), bugs that no test notices (mutate), what a grade "
           "depends on and what pictures show (record), answers on many seeds (seeds)",
}


class Stop(Exception):
    """The set-up cannot go on; the message says why and what to do."""


def say(text):
    print("workshop: " + text, flush=True)


# what this machine is


def check_machine():
    """Raise Stop where the workshop cannot be installed."""
    if sys.version_info < (3, 11):  # noqa: UP036
        newer = [name for name in ("python3.12", "python3.13", "python3.11") if shutil.which(name)]
        raise Stop("this is Python {}.{}, and the workshop needs 3.11 or newer. ".format(*sys.version_info[:2])
                   + (f"You have one: run {newer[0]} workshop.py instead of python3 workshop.py." if newer else
                      "Install Python 3.12, then run this with python3.12 in place of python3."))
    system, machine = platform.system(), platform.machine()
    if system == "Darwin":
        raise Stop("Triton has no macOS build. With Docker, run the workshop in a Linux container, from this folder:\n"
                   "    docker run -it --rm -p 8888:8888 -v \"$PWD\":/workshop -w /workshop python:3.12 \\\n"
                   "        python3 workshop.py lab --no-browser --ip=0.0.0.0\n"
                   "then open the http://127.0.0.1:8888 address that it prints. A hosted Linux machine does as well.")
    if system == "Windows":
        raise Stop("this workshop's Triton has no Windows build; it runs in WSL2, the Linux inside Windows. Run\n"
                   "    wsl --install\n"
                   "in PowerShell, restart, open Ubuntu from the start menu, clone the workshop there, and start it "
                   "there.")
    if system != "Linux" or machine not in ("x86_64", "aarch64"):
        raise Stop(f"torch and Triton have builds for Linux on x86_64 and aarch64 only, and this is {system} on "
                   f"{machine}. Use such a machine, a container or a hosted notebook.")
    if os.pathsep in str(ROOT):
        raise Stop(f"Python makes no environment in a folder with a colon in its path, and this one is\n    {ROOT}\n"
                   "Move or rename the folder, then run the same command again.")
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        version = "{}.{}".format(*sys.version_info[:2])
        raise Stop(f"this Python has no working venv module. On Debian and Ubuntu install it with\n"
                   f"    sudo apt install python{version}-venv\nand run the same command again.")


def has_gpu():
    """Whether there is an NVIDIA or AMD GPU or its driver; asked before torch is there to answer."""
    return bool(shutil.which("nvidia-smi") or list(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists())


def need_space(gigabytes):
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < gigabytes:
        raise Stop(f"the set-up needs about {gigabytes} GB of disk and {ROOT} has {free:.1f} GB left. Free some space, "
                   "or move this folder to a larger disk, then run the same command again.")


# the environment


def stamp():
    """What a finished `.venv` was made from: a line for what needs a new one, a line for what needs only pip."""
    digest = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in ("requirements.txt", "pyproject.toml")))
    return ["Python {}.{} in {}".format(*sys.version_info[:2], ROOT), digest.hexdigest()]


def found_stamp():
    """The stamp in `.venv`; empty for one that is missing, unfinished, or whose Python is gone."""
    return STAMP.read_text().splitlines() if STAMP.exists() and PYTHON.exists() else []


def environment():
    """The variables under which programs run in `.venv`: the user's, without those that would lead out of it.

    What is changed is kept in WORKSHOP_FOUND, for `doctor` to explain.
    """
    variables = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    ours = str(VENV / "share" / "jupyter")
    elsewhere = [folder for folder in os.environ.get("JUPYTER_PATH", "").split(os.pathsep) if folder not in ("", ours)]
    variables.update(
        VIRTUAL_ENV=str(VENV), PATH=str(VENV / "bin") + os.pathsep + os.environ.get("PATH", os.defpath),
        PYTHONUTF8="1", JUPYTER_PREFER_ENV_PATH="1", JUPYTER_PATH=os.pathsep.join([ours, *elsewhere]))
    if not writable_home():
        home = VENV / "home"  # Jupyter, Triton and matplotlib each keep files there, and do not start without
        home.mkdir(parents=True, exist_ok=True)
        variables["HOME"] = str(home)
    if "WORKSHOP_FOUND" not in os.environ:  # a launch within a launch finds nothing of the user's
        changed = {name: value for name, value in os.environ.items()
                   if name in NOT_OURS + CHANGED and variables.get(name) != value}
        variables["WORKSHOP_FOUND"] = json.dumps(changed)
    return variables


def writable_home():
    home = os.environ.get("HOME") or str(Path.home())
    return Path(home).is_dir() and os.access(home, os.W_OK)


@contextlib.contextmanager
def one_at_a_time():
    """Hold a lock on this file, waiting for another launch that holds it; yields the lock's file descriptor.

    The installers inherit it, so that a pip that outlives a killed launch still keeps the next one out.
    """
    import fcntl  # not on Windows, where check_machine() has stopped before this

    with Path(__file__).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another launch is setting up .venv; waiting for it to finish.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def prepare():
    """Make `.venv` agree with requirements.txt; a moment's work when it already does."""
    if found_stamp() == stamp():
        return
    check_machine()
    with one_at_a_time() as lock:
        found, wanted = found_stamp(), stamp()
        if found == wanted:
            return
        if found[:1] == wanted[:1]:
            say("requirements.txt or pyproject.toml has changed: bringing .venv up to date.")
            STAMP.unlink()
        else:
            found = []
            make_venv(lock)
        try:
            install(lock)
        except Stop:
            if found and "Installing collected packages" not in pip_log():  # .venv is as it was: keep it
                STAMP.write_text("\n".join(found) + "\n")
            raise
        # Written last: without it, the next launch knows that this one did not finish.
        STAMP.write_text("\n".join(wanted) + "\n")
        say("ready.")


def make_venv(lock):
    clear_venv()
    need_space(3)
    say("setting up once: a Python environment in .venv with JupyterLab, torch and Triton, for "
        + ("a GPU (8 GB of disk, about five minutes)." if has_gpu() else "no GPU (2 GB of disk, about two minutes)."))
    say("pip shows below what it does; it is silent for up to a minute at the end, while it unpacks.")
    # The base Python, so that this also works when started with the Python of the .venv just removed.
    base = getattr(sys, "_base_executable", None) or sys.executable
    done = subprocess.run([base, "-m", "venv", str(VENV)], pass_fds=[lock], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Stop(f"{base} -m venv failed:\n{last_lines(done.stdout)}\nInstall a complete Python (on Debian and "
                   "Ubuntu: the python3-venv package), then run the same command again.")


def clear_venv():
    """Remove `.venv`. Where it is a link, to a larger disk perhaps, only what the workshop has put there."""
    if VENV.is_symlink():
        place = Path(os.path.realpath(str(VENV)))
        place.mkdir(parents=True, exist_ok=True)
        found = list(place.iterdir())
        if found and not LOG.exists():
            raise Stop(f".venv is a link to {place}, and what is there was not made by this workshop. Empty that folder, "
                       "or remove the link, then run the same command again.")
    elif VENV.exists():
        found = [VENV]
    else:
        return
    if found:
        say(".venv is unfinished, damaged, or made for another Python or folder: making it anew.")
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        else:
            path.unlink()


def install(lock):
    """Install requirements.txt into `.venv`, or raise Stop with pip's reason."""
    LOG.write_text("")
    if not has_gpu() and platform.machine() == "x86_64":
        install_cpu_torch(lock)
    if pip("install", "--no-compile", "--log", str(LOG), "-r", "requirements.txt", lock=lock).returncode:
        raise Stop(pip_failure(pip_log()))
    if missing():
        raise Stop(f"pip says that it has installed everything, and {missing()[0]} is not in .venv: a setting of yours "
                   "sends it elsewhere. `python3 -m pip config list` and `env | grep PIP_` show pip's settings.")
    # First in sys.path, before PYTHONPATH and before another package named kernels: a notebook finds the workshop's.
    # What reads notebooks imports jsonschema, which builds a parser of addresses where it can: 1.5 s, and none is asked for.
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules['rfc3987_syntax'] = None\n"
    # Left for when they are imported: the packages' tests, and all models of transformers but one.
    later = "site-packages/(.*/tests?/|transformers/models/(?!auto/|llama/))"
    for folder in VENV.glob("lib/python3*/site-packages"):
        (folder / "workshop.pth").write_text(start, encoding="utf-8")
        # On all cores, where pip takes one; what cannot be compiled, as templates, is passed over.
        run_in_venv([str(PYTHON), "-m", "compileall", "-q", "-j", "0", "-x", later, str(folder)], lock, {}, quiet=True)
    configure_jupyter()


def configure_jupyter():
    """What Jupyter is told in `.venv`; each user's own settings go before."""
    pages = ROOT / "checks" / "course" / "jupyter"
    settings = {
        # it asks each new user whether it may fetch news; nobody came here for that
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
        "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
        "@jupyterlab/notebook-extension:tracker": {"codeCellConfig": {"lineWrap": True}},
    }
    for path, text in (("share/jupyter/lab/settings/overrides.json", json.dumps(settings, indent=1)),
                       ("etc/jupyter/jupyter_server_config.py",
                        f"load_subconfig('server_config.py', path={str(pages)!r})")):
        (VENV / path).parent.mkdir(parents=True, exist_ok=True)
        (VENV / path).write_text(text + "\n", encoding="utf-8")


def missing():
    """The pinned packages that are not in `.venv`, whatever pip says."""
    import importlib.metadata  # not in Pythons that are too old for the workshop

    pins = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    found = importlib.metadata.distributions(path=[str(path) for path in VENV.glob("lib/python3*/site-packages")])
    there = {name.lower().replace("_", "-") for name in (each.metadata["Name"] for each in found) if name}
    return [name for name in pins if name.lower().replace("_", "-") not in there]


def install_cpu_torch(lock):
    """Get torch's CPU build, where plain pip would take the CUDA build (3 GB more to download).

    PyPI cannot tell the two apart; uv knows where the CPU build is. Where it cannot be had, pip's choice works too.
    """
    pin = re.search(r"^torch==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    if not pin:
        return
    listed = pip("index", "versions", "torch", "--retries", "1", lock=lock, quiet=True).stdout
    builds = [build for build in re.findall(r"\d[\w.+]*", listed) if build.split("+")[0] == pin.group(1)]
    if builds and builds[0].endswith("+cpu"):  # this pip is configured for CPU builds, and takes the first
        return
    say("no GPU here: fetching torch's CPU build first, which is much smaller.")
    fetch = ["uv", "pip", "install", "--python", str(PYTHON), "--no-deps", "--torch-backend", "cpu", pin.group()]
    quick = {"UV_HTTP_RETRIES": "1", "UV_HTTP_CONNECT_TIMEOUT": "5"}
    if (pip("install", "--quiet", "--retries", "1", "uv", lock=lock, quiet=True).returncode
            or run_in_venv(fetch + ["--dry-run"], lock, quick, quiet=True).returncode
            or run_in_venv(fetch, lock, quick).returncode):
        say("the CPU build cannot be reached from here, so pip takes the default one: larger, and it runs as well.")
        need_space(8)


def pip(*arguments, lock, quiet=False):
    """pip in `.venv`, whatever the user's variables and configuration say of where to install."""
    here = dict.fromkeys(("PIP_USER", "PIP_DRY_RUN", "PIP_NO_DEPS"), "0")
    if arguments[0] == "install":  # said in full, because a file of pip's configuration may say otherwise
        arguments = ("install", "--target=", "--root=/", f"--prefix={VENV}", *arguments[1:])
    return run_in_venv([str(PYTHON), "-m", "pip", *arguments], lock, here, quiet)


def run_in_venv(command, lock, variables, quiet=False):
    inherited = environment()
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON"):
        inherited.pop(name, None)
    return subprocess.run(command, cwd=str(ROOT), env=dict(inherited, **variables), pass_fds=[lock], text=True,
                          errors="replace", stdout=subprocess.PIPE if quiet else None,
                          stderr=subprocess.DEVNULL if quiet else None)


PIP_FAILURES = [
    ("No space left on device",
     "The disk is full. Free some space (about 3 GB; 8 GB for a GPU), then run the same command again."),
    ("CERTIFICATE_VERIFY_FAILED|SSLError",
     "Something between here and the package index changes its certificate, as some company networks do. Set PIP_CERT "
     "to your network's certificate file, or use another network, then run the same command again."),
    ("NewConnectionError|NameResolutionError|[Tt]imed out|Timeout|ProxyError|ProtocolError|IncompleteRead"
     "|Connection(Reset|Refused)Error",
     "The package index could not be reached. Check the network (behind a proxy, set HTTPS_PROXY), then run the same "
     "command again; what was downloaded in full is kept."),
    ("No matching distribution found",
     "There is no build of this package for Python {version} on this machine. Python 3.11 to 3.13 on Linux with glibc "
     "(Debian, Ubuntu, Fedora; not Alpine) are known to work: run python3.12 workshop.py."),
]


def pip_log():
    return LOG.read_text(errors="replace") if LOG.exists() else ""


def pip_failure(log):
    """The reason in pip's log, and what to try."""
    hints = (hint for pattern, hint in PIP_FAILURES if re.search(pattern, log))
    hint = next(hints, "pip's log is {log}. To start from nothing, delete .venv and run the same command again.")
    errors = "\n".join(re.findall(r"ERROR: (?!Exception:|\[present-rich\]).*", log))
    return (f"pip could not install requirements.txt:\n{last_lines(errors or log)}\n"
            + hint.format(version="{}.{}".format(*sys.version_info[:2]), log=LOG))


def last_lines(text, count=4):
    return "\n".join("    " + line[:300] for line in text.strip().splitlines()[-count:])


# the commands


def lab(arguments):
    lessons = sorted((ROOT / "lessons").glob("*.ipynb"))
    if not lessons:
        raise Stop("there is no notebook in lessons/: this copy of the workshop is incomplete, clone it again.")
    say_what_runs = "from checks.course.doctor import gather, summary; print('workshop:', summary(gather()))"
    subprocess.run([str(PYTHON), "-c", say_what_runs], env=environment())  # torch knows it, and is only in .venv
    say("JupyterLab opens in your browser; if not, open the http:// address printed below. Ctrl-C twice ends it.")
    configure_jupyter()
    return ["-m", "jupyterlab", f"--LabApp.default_url=/lab/tree/lessons/{lessons[0].name}", "--LabApp.custom_css=True",
            # root in a container is usual, and JupyterLab refuses to start as root without this
            *(["--allow-root"] if os.geteuid() == 0 else []), *arguments]


def test(arguments):
    # Each worker and each notebook holds its own torch: more than four would fill a laptop's memory.
    workers = min(4, len(os.sched_getaffinity(0)) + 1)  # one more than the cores: some tests wait for a clock or a child
    return ["-m", "pytest", "-n", str(workers), *arguments]


def start(command, arguments):
    """Become COMMAND, so that signals, Ctrl-C and the exit status are its own."""
    variables = environment()
    if command in ("lab", "test"):
        os.chdir(str(ROOT))
        arguments = {"lab": lab, "test": test}[command](arguments)
    else:
        # Where the user is, for `check NOTEBOOK` to mean the same file. With -P no Python file there is imported: it may
        # be a student's.
        arguments = ["-P", "-m", "checks", command, *arguments]
        variables["PYTHONPATH"] = str(ROOT)
    os.execve(str(PYTHON), [str(PYTHON), *arguments], variables)


def command_line():
    parser = argparse.ArgumentParser(
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=18, width=100),
        prog="python3 workshop.py", description="Write INT8 matrix-product kernels in Triton, in notebooks that check "
        "themselves. Start with: python3 workshop.py lab", epilog="The first command sets up .venv beside this file "
        "(about two minutes); later ones start at once. To begin afresh, delete the .venv folder.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, what in COMMANDS.items():
        commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".",
                            usage=f"python3 workshop.py {name} [arguments]")
    return parser


def main(argv):
    for stream in (sys.stdout, sys.stderr):  # a folder's name may hold what the terminal's encoding has not
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    parser = command_line()
    command = parser.parse_args(argv[:1]).command  # the rest is for the command to parse
    if not command:
        parser.print_help()
        return 2
    if command == "here" and not {"-h", "--help"}.intersection(argv[1:]):
        os.execv(sys.executable, [sys.executable, str(ROOT / "checks" / "course" / "here.py")])
    try:
        if {"-h", "--help"}.intersection(argv[1:]) and not found_stamp():  # no long set-up for a question
            parser.parse_args([command, "--help"])
        prepare()
        start(command, argv[1:])
    except Stop as stop:
        print("workshop: " + str(stop), file=sys.stderr)
        return 1
    except OSError as error:
        print("workshop: " + ("what this command prints cannot be written" if error.filename is None
                              else f"cannot set up .venv in {ROOT}") + f": {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nworkshop: stopped. Run the same command again to go on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
