"""`workshop.py dev mutate`, on a package of one module."""

import subprocess
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
    pytest_command,
)
from checks.dev.reached import Reached

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
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "sums.py").write_text(SOURCE)
    (tmp_path / "test_shop.py").write_text(TESTS)
    return tmp_path


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


@pytest.mark.parametrize("path", ["shop/not_there.py", ".."])
def test_what_is_not_in_the_repository_is_refused(path, shop):
    with pytest.raises(MutationFailed, match="is no file or folder of"):
        mutate(shop / path, ["test_shop.py"], root=shop)


def test_nothing_to_change_is_said(shop):
    with pytest.raises(MutationFailed, match="shop/__init__.py has nothing to change"):
        mutate(shop / "shop" / "__init__.py", ["test_shop.py"], root=shop)


def test_annotations_are_found():
    found = annotated("x: int | str = 1\ny = 2\n\n\ndef f(a: bool, b=3) -> None: ...\n")
    assert sorted(found) == [((1, 3), (1, 12)), ((5, 9), (5, 13)), ((5, 23), (5, 27))]


@pytest.fixture
def reached(sources, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(sources)
    folder = tmp_path_factory.mktemp("reached")
    expect_pass(pytest_command(["-p", "checks.dev.reached", "--rootdir", "."], sources), folder)
    return Reached(folder, sources)


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


def test_command_passes_its_options_on(monkeypatch):
    given = []
    monkeypatch.setattr("checks.dev.command.mutate", lambda *arguments: given.append(arguments) or 3)
    assert main(["mutate", "kernels/cost.py", "--number", "7", "--seed", "2", "--timeout", "9", "--tests", "a", "-k b"]) == 1
    assert given == [(Path("kernels/cost.py"), ["a", "-k b"], Sampling(7, 2), 9.0)]
