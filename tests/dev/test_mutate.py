"""`workshop.py dev mutate`, on a package of one module."""

import contextlib
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from checks.dev import mutate as module
from checks.dev.command import main
from checks.dev.mutate import (
    MutationFailed,
    Sampling,
    annotated,
    chosen,
    draw,
    expect_pass,
    mutate,
    need_cosmic_ray,
    places,
    plant,
    pytest_command,
)
from checks.dev.reached import FOLDER, Reached

SOURCE = '''
def double(x: int | None) -> int | None:
    return 2 * x


def far(x):
    return x > 1000
'''
TESTS = '''
from shop.sums import double, far


def test_double():
    assert double(3) == 6 and double(-1) == -2


def test_far():
    assert far(5000) and not far(3)
'''


@pytest.fixture
def shop(sources):
    pytest.importorskip("cosmic_ray", reason="`python3 workshop.py dev mutate` installs it when it is first asked for")
    return sources


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # for a quick start
    return write_shop(tmp_path)


def write_shop(folder):
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "sums.py").write_text(SOURCE)
    (folder / "test_shop.py").write_text(TESTS)
    return folder


def test_bugs_that_no_test_notices_are_listed(shop, capsys):
    survivors = mutate(shop / "shop", ["test_shop.py"], root=shop)
    said = capsys.readouterr().out
    assert "shop/sums.py:3 double: noticed" in said
    assert "shop/sums.py:7 far: SURVIVED" in said  # 1000 is not where its tests look
    assert "shop/sums.py:2" not in said  # annotations are let alone
    assert survivors == said.count(": SURVIVED") > 0
    assert "-    return x > 1000" in said and f"{survivors} of 4 bugs survived" in said
    assert (shop / "shop" / "sums.py").read_text() == SOURCE


def test_a_bug_meets_the_tests_that_run_its_lines(shop, capsys, monkeypatch):
    monkeypatch.setattr(module, "SHARED", ["--rootdir", "."])
    mutate(shop / "shop", [], root=shop)
    said = capsys.readouterr().out
    assert "shop/sums.py:3 double: noticed" in said and "shop/sums.py:7 far: SURVIVED" in said


def test_number_and_seed_choose_the_bugs(shop, capsys, monkeypatch):
    monkeypatch.chdir(shop / "shop")
    mutate(Path("sums.py"), ["test_shop.py"], Sampling(number=1), root=shop)
    assert "1 of 1: shop/sums.py" in capsys.readouterr().out
    changes = [[(place, change) for change in range(9)] for place in range(50)]
    drawn = draw(changes, Sampling(5, seed=1))
    assert drawn == draw(changes, Sampling(5, seed=1)) == sorted(drawn)
    assert drawn != draw(changes, Sampling(5, seed=2))
    assert len({place for place, _ in drawn}) == 5
    assert [place for place, _ in draw(changes, Sampling())] == list(range(50))


def test_bug_without_end_is_noticed(shop, capsys):
    (shop / "shop" / "sums.py").write_text("def f(n):\n    while n > 0:\n        n -= 1\n    return n\n")
    (shop / "test_shop.py").write_text("from shop.sums import f\n\n\ndef test_f():\n    assert f(3) == 0\n")
    mutate(shop / "shop" / "sums.py", ["test_shop.py"], timeout_s=2, root=shop)
    assert "shop/sums.py:3 f: noticed" in capsys.readouterr().out


def test_tests_that_fail_by_themselves_are_refused(shop):
    (shop / "test_shop.py").write_text("def test_no():\n    assert 'broken' == 0\n")
    with pytest.raises(MutationFailed, match="fail before anything is planted(.|\n)*broken"):
        mutate(shop / "shop", ["test_shop.py"], root=shop)


@pytest.mark.parametrize("path", ["shop/not_there.py", ".", ".."])
def test_what_is_not_in_the_repository_is_refused(path, sources):
    with pytest.raises(MutationFailed, match="is no file or folder of"):
        mutate(sources / path, ["test_shop.py"], root=sources)


def test_nothing_to_change_is_said(shop):
    with pytest.raises(MutationFailed, match="shop/__init__.py has nothing to change"):
        mutate(shop / "shop" / "__init__.py", ["test_shop.py"], root=shop)


@pytest.mark.parametrize(("name", "left_out"), [
    (".git", True), (".venv", True), ("__pycache__", True), (".ruff_cache", True), (".mypy_cache", True),
    (".hypothesis", True), ("x.egg-info", True), ("backups", True), (".github", False), ("tests", False), ("cache", False),
    ("backups.py", False)])
def test_what_a_copy_needs_not(name, left_out):
    assert module.LEFT_OUT("folder", [name, "a.py"]) == ({name} if left_out else set())


def test_annotations_are_found():
    found = annotated("x: int | str = 1\ny = 2\n\n\ndef f(a: bool, b=3) -> None: ...\n")
    assert sorted(found) == [((1, 3), (1, 12)), ((5, 9), (5, 13)), ((5, 23), (5, 27))]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The package, and the folder that a run of its tests was recorded into."""
    root, folder = write_shop(tmp_path_factory.mktemp("sources")), tmp_path_factory.mktemp("reached")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.chdir(root)
        expect_pass(pytest_command(["-p", "checks.dev.reached", "--rootdir", "."], root), folder)
    return root, folder


@pytest.fixture
def reached(recorded, sources, monkeypatch):
    monkeypatch.chdir(sources)
    root, folder = recorded
    return Reached(folder, root)


def test_the_tests_that_run_a_line(reached):
    double, far = (f"test_shop.py::test_{name}" for name in ("double", "far"))
    assert [reached.by(Path("shop/sums.py"), line, line) for line in (2, 3, 7, 9)] == [[], [double], [far], []]
    assert reached.by(Path("shop/sums.py"), 3, 7) == [double, far]
    assert reached.by(Path("test_shop.py"), 1, 99) == [double, far] and reached.by(Path("shop/other.py"), 1, 99) == []


@pytest.mark.parametrize(("file", "line", "asked"), [
    ("shop/sums.py", 3, ["test_shop.py::test_double"]), ("checks/judge/a.py", 1, ["tests/judge", "test_x"]),
    ("kernels/a.py", 1, ["tests/kernels", "test_x"]), ("shop/sums.py", 2, None), ("checks/judge/a.py", 9, None)])
def test_a_bug_meets_the_tests_of_its_lines_and_room(file, line, asked, reached, sources, tmp_path):
    for room in ("judge", "kernels"):
        (sources / "tests" / room).mkdir(parents=True)
        reached.tests[Path("checks", "judge", "a.py"), 1] = reached.tests[Path("kernels", "a.py"), 1] = {"test_x"}
    bug = SimpleNamespace(module_path=file, start_pos=(line, 0), end_pos=(line, 5))
    listing = tmp_path / "listing"
    assert chosen(bug, reached, listing) == [*module.SHARED, *([f"@{listing}"] if asked else [])]
    assert asked is None or listing.read_text().splitlines() == asked


@pytest.fixture
def steps(sources, monkeypatch):
    """What `mutate` does, as (step, what it was given), with stand-ins for Cosmic Ray and for the run of the tests. Of the
    three bugs that it can plant the second survives, if the tests pass before."""
    bugs = [[SimpleNamespace(module_path=f"shop/{name}.py")] for name in ("a", "b", "c")]
    done = SimpleNamespace(made=[], status=0)

    def tests_of(command):
        return command[command.index("no:cacheprovider") + 1:]

    def places(path, session):
        done.made.append(("places", path, sorted(part.name for part in Path().iterdir()), Path.cwd()))
        assert not session.exists() and session.parent.is_dir() and not session.is_relative_to(Path.cwd())
        return bugs

    def run(command, env, **_):
        done.made.append(("tests", tests_of(command), Path(env[FOLDER]).is_dir(), Path.cwd()))
        return subprocess.CompletedProcess(command, done.status, "broken", "")

    def plant(planted, commands, timeout_s):
        for bug, command in zip(planted, commands, strict=True):
            done.made.append(("plant", bug.module_path, tests_of(shlex.split(command)), timeout_s, Path.cwd()))
            yield bug.module_path, "the diff of b" if bug is bugs[1][0] else None

    monkeypatch.setattr(module, "need_cosmic_ray", lambda: done.made.append(("need",)))
    monkeypatch.setattr(module, "places", places)
    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module, "plant", plant)
    monkeypatch.setattr(module, "chosen", lambda bug, reached, listing: [bug.module_path, listing.name])
    return done


WHOLE_SUITE = [*module.SHARED, "-p", "checks.dev.reached"]
EACH_ITS_OWN = [["shop/a.py", "0.txt"], ["shop/b.py", "1.txt"], ["shop/c.py", "2.txt"]]


@pytest.mark.parametrize(("tests", "before", "on_each"), [
    (["test_shop.py", "-k", "far or not"], ["test_shop.py", "-k", "far or not"], 3 * [["test_shop.py", "-k", "far or not"]]),
    ([], WHOLE_SUITE, EACH_ITS_OWN)])
def test_tests_run_before_a_bug_is_planted_and_on_each(sources, steps, capsys, tests, before, on_each):
    (sources / ".git").mkdir()
    here = Path.cwd()
    assert mutate(sources / "shop", tests, timeout_s=7, root=sources) == 1
    copy = steps.made[1][-1]
    assert steps.made == [("need",), ("places", Path("shop"), ["shop", "test_shop.py"], copy), ("tests", before, True, copy),
                          *(("plant", f"shop/{name}.py", own, 7, copy) for name, own in zip("abc", on_each, strict=True))]
    assert copy != sources and not copy.exists() and Path.cwd() == here
    assert capsys.readouterr().out.splitlines() == [
        "1 of 3: shop/a.py: noticed", "2 of 3: shop/b.py: SURVIVED", "3 of 3: shop/c.py: noticed",
        "the diff of b", "", "1 of 3 bugs survived"]


@pytest.mark.parametrize("tests", [["test_typo.py"], []])
def test_nothing_is_planted_where_the_tests_fail_before(sources, steps, tests, capsys):
    steps.status = 4
    with pytest.raises(MutationFailed, match="the tests fail before anything is planted:\nbroken"):
        mutate(sources / "shop", tests, root=sources)
    assert [step for step, *_ in steps.made] == ["need", "places", "tests"] and not capsys.readouterr().out


@pytest.mark.parametrize(("number", "seed"), [(1, 0), (2, 5), (3, 1), (9, 0)])
def test_as_many_bugs_as_asked_for_are_planted(sources, steps, capsys, number, seed):
    mutate(sources / "shop" / "sums.py", ["test_shop.py"], Sampling(number, seed), root=sources)
    assert steps.made[1][1] == Path("shop/sums.py")
    planted = [path for step, path, *_ in steps.made[1:] if step == "plant"]
    want = draw([["shop/a.py"], ["shop/b.py"], ["shop/c.py"]], Sampling(number, seed))
    assert planted == want and capsys.readouterr().out.count(f" of {min(number, 3)}: ") == min(number, 3)


def test_tests_before_see_their_variables_and_say_why_they_fail(tmp_path, monkeypatch):
    monkeypatch.setenv("OF_THE_USER", "kept")
    said = f'echo "$OF_THE_USER $PYTHONDONTWRITEBYTECODE ${FOLDER}"'
    expect_pass(shlex.join(["sh", "-c", said]), tmp_path)
    with pytest.raises(MutationFailed) as caught:
        expect_pass(shlex.join(["sh", "-c", f"printf '%03000d' 0; {said}; echo why >&2; exit 1"]), tmp_path)
    begin, _, end = caught.value.args[0].partition("\n")
    assert begin == "the tests fail before anything is planted:" and len(end) == 2000
    assert end.endswith(f"00kept 1 {tmp_path}\nwhy\n")


@pytest.fixture
def cosmic_ray(monkeypatch):
    """A stand-in for what is imported of Cosmic Ray: it has `specs` to offer, and `outcomes` of tests by bug."""
    made = SimpleNamespace(specs=[], outcomes={}, files=[], asked=[])
    outcomes = SimpleNamespace(KILLED="killed", SURVIVED="survived", INCOMPETENT="incompetent")

    def mutate_and_test(bugs, command, timeout_s):
        made.asked.append((bugs, command, timeout_s))
        return SimpleNamespace(test_outcome=made.outcomes[command], diff=f"diff {command}", output=f"output {command}")

    def init(files, work, operators):
        assert operators == {}
        made.files += files
        work.work_items = [SimpleNamespace(mutations=[spec]) for spec in made.specs]

    for name, contents in (("", {}), (".commands", {}), (".commands.init", {"init": init}),
                           (".work_db", {"use_db": lambda path: contextlib.nullcontext(SimpleNamespace())}),
                           (".mutating", {"mutate_and_test": mutate_and_test}), (".work_item", {"TestOutcome": outcomes})):
        monkeypatch.setitem(sys.modules, f"cosmic_ray{name}", SimpleNamespace(**contents))
    return made


def spec(file, start, end, name="f"):
    return SimpleNamespace(module_path=Path(file), start_pos=start, end_pos=end, definition_name=name)


@pytest.mark.parametrize(("path", "files"), [
    ("shop", ["shop/__init__.py", "shop/deep/far.py", "shop/sums.py"]), ("shop/sums.py", ["shop/sums.py"])])
def test_places_are_in_order_with_all_their_changes(sources, cosmic_ray, monkeypatch, path, files):
    monkeypatch.chdir(sources)
    (sources / "shop" / "deep").mkdir()
    (sources / "shop" / "deep" / "far.py").write_text("")
    later, first, again = (spec("shop/sums.py", (line, 11), (line, 12)) for line in (7, 3, 3))
    annotation, beside = spec("shop/sums.py", (2, 18), (2, 19)), spec("shop/sums.py", (3, 11), (3, 16))
    cosmic_ray.specs = [later, first, annotation, beside, again]
    found = places(Path(path), sources / "session")
    assert cosmic_ray.files == [Path(file) for file in files]
    assert [[id(change) for change in place] for place in found] == [[id(first), id(again)], [id(beside)], [id(later)]]
    cosmic_ray.specs = [annotation]
    with pytest.raises(MutationFailed, match=f"{path} has nothing to change"):
        places(Path(path), sources / "session")


def test_what_became_of_each_bug(cosmic_ray):
    bugs = [spec("a.py", (3, 0), (3, 1)), spec("b.py", (5, 0), (6, 1), None), spec("c.py", (7, 0), (7, 1), "g")]
    cosmic_ray.outcomes = {"one": "killed", "two": "survived", "three": "incompetent"}
    planted = plant(bugs, ["one", "two", "three"], 9)
    assert [next(planted), next(planted)] == [("a.py:3 f", None), ("b.py:5", "diff two")]
    assert cosmic_ray.asked == [([bugs[0]], "one", 9), ([bugs[1]], "two", 9)], "one at a time"
    with pytest.raises(MutationFailed, match="c.py:7 g: output three"):
        next(planted)


@pytest.mark.parametrize("status", [0, 1])
def test_cosmic_ray_is_installed_where_it_is_missing(status, monkeypatch):
    asked = []

    def run(command, **_):
        asked.append(command[-1])
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module.subprocess, "run", run)
    if status:
        with pytest.raises(MutationFailed, match="pip could not install cosmic-ray"):
            need_cosmic_ray()
    else:
        need_cosmic_ray()
    assert asked == [module.REQUIREMENT]


@pytest.mark.parametrize(("given", "want"), [
    ([], (Path("kernels/cost.py"), [], Sampling(None, 0), 300)),
    (["--number", "7", "--seed", "2", "--timeout", "9", "--tests", "a", "-k b"],
     (Path("kernels/cost.py"), ["a", "-k b"], Sampling(7, 2), 9.0))])
@pytest.mark.parametrize(("survivors", "status"), [(0, 0), (1, 1), (3, 1)])
def test_command_passes_its_options_on(monkeypatch, given, want, survivors, status):
    asked = []
    monkeypatch.setattr("checks.dev.command.mutate", lambda *arguments: asked.append(arguments) or survivors)
    assert main(["mutate", "kernels/cost.py", *given]) == status and asked == [want]
