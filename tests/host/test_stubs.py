"""The `checks` that cells find while they run for what they define, and that nothing of it is left afterwards."""

import importlib
import sys

import pytest

import checks.course.progress
from checks.host.stubs import checks_that_do_nothing


@pytest.mark.parametrize("error", [None, KeyError, SystemExit])
def test_cells_find_names_that_do_nothing_and_leave_none(error):
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "checks"}
    finders, seen = list(sys.meta_path), []
    try:
        with checks_that_do_nothing(seen.append):
            made = importlib.import_module("checks")
            deep = importlib.import_module("checks.pictures.of_nothing_at_all")
            again = importlib.import_module("checks.course.progress")
            made.check("mine")
            assert deep.anything(1, two=2) is None is again.check_notebooks() and again is not checks.course.progress
            with pytest.raises(AttributeError):
                made.__no_such__  # noqa: B018
            if error is not None:
                raise error
    except (KeyError, SystemExit) as raised:
        assert type(raised) is error
    assert seen == ["mine"] and sys.meta_path == finders
    assert {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "checks"} == before
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("checks.pictures.of_nothing_at_all")
