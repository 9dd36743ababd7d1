"""Some groups measured again, into the file of a whole run."""

import pytest
from synthetic_figures import ROOFS, row

from checks.bench import command
from checks.bench.results import BadResults, chosen, expect_same, of_roof, save

OLD = {"schema": 1, "gpu": "GPU X", "capability": [9, 0], "torch": "2", "triton": "3", "shapes": "workshop",
       "date": "2026-01-01", "roofs": ROOFS, "conditions": {"gemm": {"clock": 1}}, "notes": [],
       "rows": [row("gemm", "cuBLAS FP16", 8, 8, 8), row("places", "persistent rows", 8, 8, 8)]}


def run_again(**changes):
    fresh = row("places", "quantizer apart", 16, 8, 8)
    return {**OLD, "date": "2026-02-02", "roofs": {}, "conditions": {"places": {"clock": 2}}, "rows": [fresh], **changes}


def test_new_rows_take_the_place_of_those_of_their_test():
    figures = command.added(run_again(), OLD)
    assert [(r["test"], r["function"]) for r in figures["rows"]] == [("gemm", "cuBLAS FP16"), ("places", "quantizer apart")]
    assert figures["rows"][1]["of_roof"] == of_roof(run_again()["rows"][0], ROOFS)
    assert (figures["date"], figures["added"], figures["roofs"]) == ("2026-01-01", {"places": "2026-02-02"}, ROOFS)
    assert figures["conditions"] == {"gemm": {"clock": 1}, "places": {"clock": 2}}
    again = command.added(run_again(conditions={"gemm": {"clock": 3}}), OLD)
    assert again["conditions"] == {"gemm": {"clock": 3}}, "of what was measured again, the last"
    older = {name: value for name, value in OLD.items() if name not in ("conditions", "notes")}
    assert command.added(run_again(), older)["conditions"] == {"places": {"clock": 2}}


@pytest.mark.parametrize(("before", "after"), [
    ({}, {"places": "2026-02-02"}), ({"places": "2026-01-05"}, {"places": "2026-02-02"}),
    ({"host": "2026-01-05"}, {"host": "2026-01-05", "places": "2026-02-02"}),
    ({"host": "2026-01-05", "places": "2026-01-06"}, {"host": "2026-01-05", "places": "2026-02-02"})])
def test_each_group_has_the_day_on_which_it_was_added(before, after):
    old = {**OLD, "added": before}
    assert command.added(run_again(), old)["added"] == after
    assert old["added"] == before


def test_what_was_wrong_is_forgotten_once_it_was_measured_again():
    wrong = {"unit": "places 8x8x8 eager | persistent rows", "kind": "wrong", "what": "persistent rows", "reason": "amax"}
    elsewhere = {**wrong, "unit": "gemm 8x8x8 eager | cuBLAS FP16"}
    assert command.added(run_again(), {**OLD, "notes": [wrong, elsewhere]})["notes"] == [elsewhere]
    assert command.added(run_again(notes=[wrong]), {**OLD, "notes": [wrong]})["notes"] == [wrong]


@pytest.mark.parametrize("other", [{"gpu": "GPU Y"}, {"torch": "3"}, {"triton": "4"}, {"capability": [8, 0]}])
def test_nothing_is_added_to_figures_of_another_machine(other):
    names = ("gpu", "capability", "torch", "triton")
    expect_same({**OLD, "date": "another"}, OLD, names)
    with pytest.raises(BadResults, match=f"have {list(other)[0]} .*: measure all anew"):
        expect_same({**OLD, **other}, OLD, names)


def test_groups_are_chosen_by_name():
    assert chosen("abc", None, "group") == ["a", "b", "c"] and chosen("abc", ["c", "a"], "group") == ["c", "a"]
    with pytest.raises(BadResults, match="there is no group d, e; there are a, b, c"):
        chosen("abc", ["d", "a", "e"], "group")


@pytest.mark.parametrize(("there", "message"), [
    (None, "No such file"), ({"torch": "another"}, "have torch another"), ({"capability": [8, 0]}, "have capability")])
def test_what_is_added_to_is_checked_before_measuring(monkeypatch, tmp_path, there, message):
    monkeypatch.setattr(command, "INTERPRETED", False)
    monkeypatch.setattr(command, "capability", lambda: (9, 0))
    monkeypatch.setattr(command.torch.cuda, "get_device_name", lambda: "GPU X")
    monkeypatch.setattr(command, "run", lambda *_: pytest.fail("it was measured"))
    if there is not None:
        software = {"torch": command.torch.__version__, "triton": command.triton.__version__}
        save({**OLD, **software, **there}, tmp_path / "gpu_x.json")
    with pytest.raises((BadResults, FileNotFoundError), match=message):
        command.run_checks_and_report(out=tmp_path, only=["right"])
