"""checks/files.py: whole or not at all; and those who write by it."""

import os
from types import SimpleNamespace

import pytest
import torch

from checks.bench import results as bench_results
from checks.bench.runner import Kept
from checks.capstone import report_card, training
from checks.course.reset import _write as put_back
from checks.files import replacing, write_atomically
from checks.grader import batch, gradebook, results
from checks.grader.gradescope import archive
from checks.grader.output import exports
from checks.grader.settings import Settings
from checks.model import int8
from checks.model.smooth import NOTHING
from kernels.transformer import Config, Transformer

TINY = Config(vocabulary=4, layers=1, dim=16, heads=2, kv_heads=1, hidden=16)


def card_with_picture(path):
    """Only the picture goes to `path`."""
    figure = SimpleNamespace(savefig=lambda draft, **_: draft.write_bytes(b"half"))
    report_card.write_card({}, path.with_suffix(".json"), draw=lambda card: figure)


WRITERS = {
    "autograder.zip": lambda path: archive.write_zip(path, Settings(3)),
    "trained.safetensors": lambda path: training.save(Transformer(TINY), path),
    "int8.safetensors": lambda path: int8.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), path, {}, NOTHING),
    "card.json": lambda path: report_card.write_card({}, path),
    "card.png": card_with_picture,
    "ada.json": lambda path: results.write_result(path.parent.parent, {"student": "ada"}),
    "batch.json": lambda path: batch.class_seed(path.parent, resume=False, seed_file=None),
    "course.toml": lambda path: gradebook.keep_copy(Settings(3).course, path),
    "before.json": lambda path: gradebook.keep_points(path.parent),
    "grades.csv": lambda path: exports._write(path, "half"),
    "figures.json": lambda path: bench_results.save({}, path),
    "rows.jsonl": lambda path: Kept(path, {}),
    "lesson.ipynb": lambda path: put_back(path, "half", "lesson"),
    "train.txt": lambda path: training.freeze_text(path.parent),
}


def test_what_fails_to_be_written_leaves_what_was_there(tmp_path):
    path = tmp_path / "kept.txt"
    write_atomically(path, "old")
    with pytest.raises(OSError, match="full"), replacing(path) as draft:
        draft.write_text("half")
        raise OSError("the disk is full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("data", ["naïve", "naïve".encode()])
def test_text_is_written_as_utf_8_into_folders_made_for_it(tmp_path, data):
    path = tmp_path / "new" / "in_new" / "file"
    write_atomically(path, data)
    assert path.read_bytes() == "naïve".encode() and path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch, name):
    def full(_):
        raise OSError("the disk is full")

    path = tmp_path / "students" / name
    write_atomically(path, "old")
    monkeypatch.setattr(archive, "workshop_files", lambda: [])
    monkeypatch.setattr(report_card, "check_card", lambda card: None)
    monkeypatch.setattr(report_card, "write_atomically", write_atomically if name == "card.json" else lambda *_: None)
    monkeypatch.setattr(training, "documents", lambda: dict.fromkeys(training.HELD_OUT, "text"))
    monkeypatch.setattr("checks.course.reset.back_up", lambda *_: path)
    if name == "before.json":
        write_atomically(path.parent / "students" / "ada.json", "")
        monkeypatch.setattr(results, "read_result", lambda path: {"student": "ada", "exercises": []})
    there = sorted(path.parent.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="the disk is full"):
        WRITERS[name](path)
    assert path.read_text() == "old" and sorted(path.parent.iterdir()) == there
