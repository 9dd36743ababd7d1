"""The files of a report card: how its picture is saved, what no file may hold, and when the page of results is written."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from checks.capstone import command
from checks.capstone.report_card import BEGIN, END, RECORDED, page_block, read_card, report_card, write_card

PLACE = {"test": "block", "function": "FP16", "phase": "decode", "batch": 1, "context": 5, "M": 1, "mode": "eager"}


def card(**us):
    row = PLACE | {"median_us": 2.0, "low_us": 1.0, "high_us": 3.0} | us
    return report_card({"FP16": 4.0, "INT8": 4.02}, {"a.q": 44.0}, 127, [row], "A synthetic GPU")


def test_a_picture_is_saved_as_large_each_time(tmp_path):
    """And without the version of matplotlib, which would change its bytes."""
    asked = []

    def savefig(draft, **options):
        asked.append(options)
        draft.write_bytes(b"picture")

    figure, made = SimpleNamespace(savefig=savefig), card()
    assert write_card(made, tmp_path / "a.b.json", lambda given: figure if given is made else None) is figure
    assert asked == [{"format": "png", "dpi": 120, "metadata": {"Software": None}}]
    assert (tmp_path / "a.b.png").read_bytes() == b"picture" and read_card(tmp_path / "a.b.json") == made


def test_a_number_that_json_has_not_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_card(card(high_us=float("inf")), tmp_path / "card.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("path", "onto"), [(RECORDED, True), (f"deep/../{RECORDED}", True), (f"deep/{RECORDED}", False),
                                            ("other.json", False)])
def test_the_recorded_card_is_known_by_any_path(monkeypatch, tmp_path, path, onto):
    (tmp_path / "deep").mkdir()
    page = tmp_path / "README.md"
    page.write_text(f"{BEGIN}\nold\n{END}\n")
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    command.write_and_show(card(), tmp_path / path, None, page)
    assert page.read_text() == (f"{BEGIN}\n{page_block(card())}{END}\n" if onto else f"{BEGIN}\nold\n{END}\n")


@pytest.mark.parametrize("interpreted", [True, False])
def test_a_card_is_measured_on_a_gpu_alone(monkeypatch, capsys, tmp_path, interpreted):
    """Under the GPU's name, each variant beside FP16."""
    made, written = card(), []
    made["rows"] += [PLACE | {"function": name, "median_us": us, "low_us": us, "high_us": us}
                     for name, us in (("INT8", 1.0), ("INT8 fused", 0.5))]
    made["gpu"] = "NVIDIA RTX-4090 (x)"
    monkeypatch.setattr(command, "INTERPRETED", interpreted)
    monkeypatch.setattr(command, "measure_card", lambda: made)
    monkeypatch.setattr(command, "write_and_show", lambda *given: written.append(given) or "figure")
    assert command.main(["--out", str(tmp_path)], draw=len) == interpreted
    said = capsys.readouterr().out
    if interpreted:
        assert said.startswith("There is no GPU here: a card needs one") and not written
    else:
        path = tmp_path / "nvidia_rtx_4090__x_.json"
        assert written == [(made, path, len)] and said.endswith(f"written to {path}\n") and "no picture" not in said
        times = [" ".join(line.split()) for line in said.splitlines() if line.startswith("decode")]
        assert times == ["decode batch 1 x 5 eager INT8 2.00 x FP16", "decode batch 1 x 5 eager INT8 fused 4.00 x FP16"]
        assert [line.split()[-2:] for line in said.splitlines()[:2]] == [["+0.000", "%"], ["+0.500", "%"]]


def test_drawing_again_measures_nothing(monkeypatch, tmp_path):
    made, drawn = card(), []
    write_card(made, tmp_path / "card.json")
    monkeypatch.setattr(command, "INTERPRETED", True)
    monkeypatch.setattr(command, "write_and_show", lambda *given: drawn.append(given))
    assert command.main(["--redraw", str(tmp_path / "card.json")], draw=len) == 0
    assert drawn == [(made, Path(tmp_path / "card.json"), len)]
