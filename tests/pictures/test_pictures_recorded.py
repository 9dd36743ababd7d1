"""Every picture shows what the record beside this file says, and what holds of all pictures holds of it.

The record is JSON, a file for each module; `python3 workshop.py dev record` writes it anew.
"""

import contextlib
import importlib
import inspect
import io
import json
import pkgutil

import matplotlib.pyplot as plt
import picture_record
import pytest
from matplotlib.figure import Figure
from picture_cases import CASES
from picture_record import changes
from picture_rules import faults
from pictured import plain

import checks.pictures
from checks.bench import figures, gallery, report
from checks.pictures import common
from kernels.runtime import INTERPRETED

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="blocks differ on a GPU, and pictures are measured there")
MODULES = {found.name: importlib.import_module(f"checks.pictures.{found.name}")
           for found in pkgutil.iter_modules(checks.pictures.__path__)} | {
    module.__name__.rpartition(".")[2]: module for module in (figures, gallery, report)}
ALL = [(module, name) for module, cases in CASES.items() for name in cases]
DRAWN_BY_OTHERS = {
    "common.figures_of", "common.ready_to_draw", "common.show_figure", "common.page", "description.describe",
    "parallel.columns_of_y", "stack.int8_cache", "gallery.draw", "report.put_between", "report.markdown",
    *(f"report.{name}" for name in ("roofs", "summary", "wanted", "steps", "others", "host"))}
"""Public functions that have no case of their own: those of all pictures, of files, and the single tables."""
OF_SEVERAL = {"decode.show_programs", "decode.show_break_even", "fused.show_norm_bytes", "quantize.show_rounding_errors",
              "quantize.show_speed"}


@pytest.fixture(scope="module", params=ALL, ids=[f"{module}, {name}" for module, name in ALL])
def picture(request):
    """The module, the case's name, what it gives, what it prints, and which functions it asks whether they are written."""
    yield *request.param, *drawn(*request.param, unwritten=())
    plt.close("all")


def drawn(module: str, name: str, unwritten) -> tuple:
    """What a case gives, prints, and asks, while so many of the functions that it asks for are no more than placeholders."""
    asked = []
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        for one in MODULES.values():
            if hasattr(one, "ready_to_draw") and one is not common:
                patch.setattr(one, "ready_to_draw", lambda each: asked.append(each) or len(asked) - 1 not in unwritten)
        value = CASES[module][name]()
    return value, printed.getvalue().splitlines(), asked


def test_a_picture_shows_what_is_recorded(picture, capsys):
    module, name, value, printed, _ = picture
    shown = {} if value is None else {"shown": plain(value)}
    found = json.loads(json.dumps(shown | ({"printed": printed} if printed else {})))
    record = picture_record.load(module)
    if picture_record.RENEWED:
        differ = changes(record[name], found) if name in record else ["is new"]
        if differ:  # else the last digits stay as they are
            picture_record.save(module, {**record, name: found})
            with capsys.disabled():
                print(f"\n{module}, {name}:", *differ, sep="\n  ")
        return
    assert name in record, f"{module}, {name}: there is no record yet. {picture_record.HOW}"
    differ = changes(record[name], found)
    more = [f"and {len(differ) - 8} more"] if len(differ) > 8 else []
    said = [f"{module}, {name} does not show what is recorded:", *differ[:8], *more, picture_record.HOW]
    assert not differ, "\n  ".join(said)


def all_figures(value) -> list[Figure]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [value] if isinstance(value, Figure) else [figure for each in inner for figure in all_figures(each)]


def test_a_picture_misleads_no_one(picture):
    """All lies within the axes, numbers have units, and a legend's colours are those of the picture."""
    assert [fault for figure in all_figures(picture[2]) for fault in faults(figure)] == []


def test_a_picture_waits_for_what_is_not_written(picture):
    """One that draws several students' functions draws those that are written, and what is given."""
    module, name, _, _, asked = picture
    several = f"{module}.{name.partition(':')[0]}" in OF_SEVERAL
    for number, function in enumerate(asked):
        value, printed, _ = drawn(module, name, unwritten=[number])
        said = f"{function.__name__} is not written yet"
        assert function.__name__ not in str(plain(value)) if several else not all_figures(value) and not printed, said
    if asked and len(asked) > several:
        value, printed, _ = drawn(module, name, unwritten=range(len(asked)))
        assert not all_figures(value) and not printed


def public(module) -> list[str]:
    return [name for name, value in vars(module).items() if not name.startswith("_") and inspect.isfunction(value)
            and value.__module__ == module.__name__]


def test_every_public_function_has_a_picture_in_the_record():
    there = {f"{name}.{function}" for name, module in MODULES.items() for function in public(module)}
    cases = {f"{module}.{name.partition(':')[0]}" for module, name in ALL}
    assert there - cases - DRAWN_BY_OTHERS == set(), "tests/pictures/picture_cases.py needs a case for each"
    assert (cases | DRAWN_BY_OTHERS) - there == set(), "functions that are no longer there"


def test_the_record_has_the_cases_that_there_are():
    recorded = {path.stem: picture_record.load(path.stem) for path in picture_record.FOLDER.glob("*.json")}
    if picture_record.RENEWED:
        for module, record in recorded.items():
            if left := {name: shown for name, shown in record.items() if name in CASES.get(module, {})}:
                picture_record.save(module, left)
            else:
                (picture_record.FOLDER / f"{module}.json").unlink()
        return
    assert {(module, name) for module, record in recorded.items() for name in record} == set(ALL), picture_record.HOW


@pytest.mark.parametrize(("was", "now"), [
    ([1, 2.0], [1, 2.005]), ({"x": 1}, {"x": 1, "y": 2}), ([1], [1, 2]), ("4.21 dB", "4.23 dB"), ("M = 128", "M = 129"),
    ("a 1", "b 1"), ("1.0", "1.00"), (True, 1), (None, 0), (1000, 1001), (0.0, 0.01), ("17%", "19%"), ("2.1e-05", "2.1e-06"),
    ({"mean": 0.0, "least": -1, "most": 1}, {"mean": 0.01, "least": -1, "most": 1}), (["b", "a"], ["a", "b"]),
])
def test_a_change_is_noticed(was, now):
    assert changes(was, now) and changes(now, was)
    assert changes({"a": [was]}, {"a": [now]})[0].startswith("a › 0")


@pytest.mark.parametrize(("was", "now"), [
    ([1, 2.0], [1, 2.003]), ("4.21 dB", "4.22 dB"), ("17%", "18%"), ("2.1e-05", "2.2e-05"), ("nan", "nan"), (3, 3.0),
    ({"mean": 1e-4, "least": -1, "most": 1}, {"mean": 3e-4, "least": -1, "most": 1}), ("1,234.5 us", "1,235.1 us"),
])
def test_another_processor_s_last_digit_is_no_change(was, now):
    assert changes(was, now) == []
