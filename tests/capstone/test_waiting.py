"""The bar of a cell that takes long."""

from types import SimpleNamespace

import IPython
import pytest

from checks.capstone.waiting import Bar


@pytest.fixture
def shown(monkeypatch):
    """What a notebook shows in the bar's place, one after the other."""
    lines = []
    handle = SimpleNamespace(update=lambda bundle, raw: lines.append(bundle["text/plain"]))
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=True))
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw, display_id: (
        lines.append(bundle["text/plain"]), handle)[1])
    return lines


def test_one_line_grows_and_tells_the_number(shown):
    bar = Bar("layers", 40)
    for _ in range(40):
        bar.advance()
    assert shown[0] == "░" * 20 + " 0 of 40 layers"
    assert shown[10] == "█" * 10 + "░" * 10 + " 20 of 40 layers"
    assert shown[-1] == "█" * 20 + " 40 of 40 layers"
    assert len(shown) == 21  # not one for each step


def test_outside_a_notebook_nothing_is_shown(capsys):
    Bar("layers", 1).advance()
    assert capsys.readouterr() == ("", "")
