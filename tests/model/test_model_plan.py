"""What `workshop.py model` is asked for, what it says that it is going to do, and what it keeps; the model stands in."""

import argparse
import json
import types
from pathlib import Path

import pytest
import torch

from checks.capstone.training import FOLDER
from checks.model import command, int8, measure
from checks.model.card import page
from checks.model.folder import BadModel, Found
from checks.model.smooth import NOTHING, Smoothed
from kernels.runtime import device

CARD = {"schema": 1, "model": "Llama-3.2 1B", "architecture": "A", "parameters": 12, "dtype": "FP16", "torch": "1",
        "triton": "2", "transformers": "3", "gpu": None, "date": "2001-02-03", "random": False, "windows": 7, "window": 11,
        "text": "µ.txt", "accuracy": {"perplexity": {"FP16": 2.0, "INT8": 3.0}, "cost_percent": 50.0,
                                      "standard_error_percent": 0.0},
        "sqnr_db": {"a": 40.0}, "left": [], "sample": {"prompt": "p", "FP16": "x", "INT8": "y"},
        "memory": {"FP16": 2, "INT8": 1, "cache_bytes_per_token": 3}, "speed": []}


@pytest.fixture
def asked(monkeypatch):
    """What the command was asked for; nothing is measured."""
    found = []
    monkeypatch.setattr(command, "run", lambda args: found.append(args) or CARD)
    return found


def test_what_is_not_asked_for_is_left_out(asked, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert command.main(["m"]) == 0
    assert vars(asked[0]) == {"folder": Path("m"), "text": None, "skip": (), "smooth": None, "save": None, "load": None,
                              "out": None, "write": None}
    assert capsys.readouterr() == (f"\n{page(CARD)}\n", "") and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("argv", "wanted"), [
    (["--smooth", "0"], {"smooth": 0.0}), (["--smooth", "1"], {"smooth": 1.0}), (["--skip", "a", "b"], {"skip": ["a", "b"]}),
    (["--skip", "a", "--smooth", "0.5", "--save", "q"], {"skip": ["a"], "smooth": 0.5, "save": Path("q")}),
    (["--load", "q", "--text", "t", "--save", "r"], {"load": Path("q"), "text": Path("t"), "save": Path("r")}),
    (["--write", "own"], {"write": "own"}), (["--write", "llama-3.2-1b"], {"write": "llama-3.2-1b"})])
def test_what_may_be_asked_for(asked, argv, wanted):
    assert command.main(["m", *argv]) == 0
    assert {name: vars(asked[0])[name] for name in wanted} == wanted


@pytest.mark.parametrize(("argv", "said"), [
    (["--smooth", "-0.01"], "--smooth takes an α from 0 to 1, got -0.01"), (["--smooth", "1.01"], "got 1.01"),
    (["--smooth", "nan"], "got nan"), (["--load", "q", "--skip", "a"], "leave out --skip and --smooth"),
    (["--load", "q", "--smooth", "0"], "leave out --skip and --smooth"), (["--write", "gpt"], "invalid choice")])
def test_what_may_not_be_asked_for(asked, capsys, argv, said):
    with pytest.raises(SystemExit, match="2"):
        command.main(["m", *argv])
    assert said in capsys.readouterr().err and not asked


@pytest.mark.parametrize(("gpu", "name"), [(None, "cpu_llama_3_2_1b"), ("NVIDIA H200", "nvidia_h200_llama_3_2_1b")])
def test_a_card_is_kept_as_json_and_as_text(monkeypatch, capsys, tmp_path, gpu, name):
    card = CARD | {"gpu": gpu}
    monkeypatch.setattr(command, "run", lambda args: card)
    assert command.main(["m", "--out", str(tmp_path / "new")]) == 0
    assert json.loads((tmp_path / "new" / f"{name}.json").read_text()) == card
    assert (tmp_path / "new" / f"{name}.txt").read_text() == page(card) + "\n"
    assert len(list((tmp_path / "new").iterdir())) == 2
    assert capsys.readouterr().out.endswith(f"\n\nwritten to {tmp_path / 'new' / name}.json\n")


def test_what_cannot_be_written_is_a_sentence(asked, capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    assert command.main(["m", "--out", str(tmp_path / "file" / "new")]) == 2
    assert capsys.readouterr().err == f"model: {tmp_path / 'file' / 'new'}: Not a directory\n"

    def lost(args):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(command, "run", lost)
    with pytest.raises(BrokenPipeError):  # of what is printed, which is dealt with for all commands
        command.main(["m"])


def test_a_folder_to_write_into_is_new(monkeypatch, capsys, tmp_path):
    made = []
    monkeypatch.setattr(command, "quiet", lambda: made.append("quiet"))
    monkeypatch.setattr(command, "WRITERS", {"one": made.append, "other": None})
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "deep" / "new"):
        command.write("one", folder)
        assert folder.is_dir() and made[-2:] == ["quiet", folder]
        assert capsys.readouterr().out == f"making one in {folder}\n"
    (tmp_path / "empty" / "file").touch()
    with pytest.raises(BadModel, match="empty is not empty"):
        command.write("one", tmp_path / "empty")
    assert len(made) == 4


def test_the_text_is_the_workshop_s_or_a_file(tmp_path):
    assert command.read_text(None) == ((FOLDER / "held_out.txt").read_text(), "the workshop's held-out text")
    path = tmp_path / "mine.txt"
    path.write_bytes("naïve".encode())
    assert command.read_text(path) == ("naïve", "mine.txt")
    path.write_bytes("naïve".encode("latin-1"))
    for bad in (path, tmp_path, tmp_path / "none.txt"):
        with pytest.raises(BadModel, match=f"--text {bad} cannot be read as UTF-8 text: "):
            command.read_text(bad)


@pytest.mark.parametrize(("config", "length"), [({"max_position_embeddings": most}, length) for most, length in (
    (48, 48), (None, 256), (4096, 4096))] + [({}, 256)])
def test_the_longest_text_is_the_model_s(config, length):
    assert command.longest(types.SimpleNamespace(config=types.SimpleNamespace(**config))) == length


@pytest.mark.parametrize(("count", "smooth", "calibration", "measured"), [
    (1, None, None, None), (2, None, [], [0, 1]), (9, 0.5, None, None), (9, 0.0, None, None), (10, 0.5, range(8), [8, 9]),
    (10, 0.0, range(8), [8, 9]), (64, None, [], range(64)), (65, None, [], range(64)), (72, 0.5, range(8), range(8, 72)),
    (73, 0.5, range(8), range(8, 72))])
def test_a_text_is_split_for_smoothing(count, smooth, calibration, measured):
    rows = torch.arange(count)[:, None]
    if measured is None:
        with pytest.raises(BadModel, match=f"the text has {count} windows; --smooth takes {0 if smooth is None else 8} to"):
            command.split(rows, smooth)
    else:
        assert [part.flatten().tolist() for part in command.split(rows, smooth)] == [list(calibration), list(measured)]


@pytest.mark.parametrize(("config", "count"), [
    ({"num_hidden_layers": 3, "num_attention_heads": 8, "hidden_size": 40}, 3 * 2 * 8 * 5 * 2),
    ({"num_hidden_layers": 3, "num_attention_heads": 8, "hidden_size": 40, "num_key_value_heads": 2}, 3 * 2 * 2 * 5 * 2),
    ({"num_hidden_layers": 3, "num_attention_heads": 8, "hidden_size": 40, "num_key_value_heads": None, "head_dim": 7},
     3 * 2 * 8 * 7 * 2)])
def test_the_cache_has_keys_and_values_in_two_bytes(config, count):
    assert command.cache_bytes_per_token(types.SimpleNamespace(**config)) == count


class Model(torch.nn.Module):
    """Two linear layers and a head, which shares the embedding's weight or has its own."""

    def __init__(self, tied, head=True):
        super().__init__()
        self.config = types.SimpleNamespace(max_position_embeddings=102, vocab_size=7, num_hidden_layers=1,
                                            num_attention_heads=2, hidden_size=4)
        self.embedding, self.up, self.down = torch.nn.Embedding(7, 4), torch.nn.Linear(4, 5), torch.nn.Linear(5, 4)
        if head:
            self.lm_head = torch.nn.Linear(4, 7, bias=False)
            if tied:
                self.lm_head.weight = self.embedding.weight

    def get_output_embeddings(self):
        return getattr(self, "lm_head", None)

    def get_input_embeddings(self):
        return self.embedding


PLAN = ["m: Model, 3 file(s) of F32, loaded in FP16", "to INT8: 3 linear layers, 68 weights",
        "stays FP16: embeddings, norms, attention itself, the cache", "perplexity: 5 windows of t.txt",
        "speed: needs a GPU, left out here"]
TIED = "lm_head shares its weight with the embedding: the embedding keeps it, lm_head gets codes beside it"


@pytest.mark.parametrize(("model", "args", "said"), [
    (Model(tied=False), {}, PLAN), (Model(tied=True), {}, [*PLAN[:3], TIED, *PLAN[3:]]),
    (Model(tied=False, head=False), {}, [PLAN[0], "to INT8: 2 linear layers, 40 weights", *PLAN[2:]]),
    (Model(tied=True), {"skip": ["lm_head"]},
     [PLAN[0], "to INT8: 2 linear layers, 40 weights, without lm_head", *PLAN[2:]]),
    (Model(tied=False), {"skip": ["up", "own", "head"]},
     [PLAN[0], "to INT8: 2 linear layers, 48 weights, without up, own, head", *PLAN[2:]]),
    (Model(tied=False), {"smooth": 0.0},
     [*PLAN[:3], "SmoothQuant, α = 0.0: calibrated on 8 windows of their own", *PLAN[3:]]),
], ids=["own", "tied", "none", "skipped", "parts", "smooth"])
def test_the_plan_says_what_becomes_int8(monkeypatch, model, args, said):
    monkeypatch.setattr(command, "INTERPRETED", True)
    found = Found(Path("m"), {}, (Path("1"), Path("2"), Path("3")), "F32")
    wanted = argparse.Namespace(**{"folder": Path("m"), "skip": (), "smooth": None} | args)
    assert command.plan(found, model, wanted, "t.txt", torch.zeros(5, 9)).splitlines() == said
    monkeypatch.setattr(command, "INTERPRETED", False)
    assert command.plan(found, model, wanted, "t.txt", torch.zeros(5, 9)).splitlines() == [
        *said[:-1], "speed: batch 1, 16; eager and reduce-overhead; some minutes"]


def test_names_that_end_alike_are_others(monkeypatch):
    """`proj` is no name of `up_proj`, but `proj` of `mlp.proj` is."""
    mlp = torch.nn.ModuleDict({"proj": torch.nn.Linear(4, 5)})
    model = torch.nn.ModuleDict({"up_proj": torch.nn.Linear(2, 3), "mlp": mlp})
    model.get_output_embeddings = lambda: None
    wanted = argparse.Namespace(folder=Path("m"), skip=["proj"], smooth=None)
    said = command.plan(Found(Path("m"), {}, (), "BF16"), model, wanted, "t", torch.zeros(5, 9))
    assert "to INT8: 1 linear layers, 6 weights, without proj\nstays BF16" in said


def test_a_twin_is_loaded_or_made(monkeypatch, capsys):
    done = []
    monkeypatch.setattr(int8, "load", lambda model, path: ("loaded", path))
    monkeypatch.setattr(int8, "twin_of", lambda model: f"twin of {model}")
    monkeypatch.setattr(int8, "quantize_", lambda twin, skip: done.append((twin, skip)) or "quantized")
    smoothed = Smoothed({"a": torch.ones(1), "b": torch.ones(1)}, {}, ("c", "d"))
    monkeypatch.setattr(command, "smooth_", lambda *given: done.append(given) or smoothed)
    args = {"load": None, "smooth": None, "skip": ("x",)}
    assert command.make_twin("m", "rows", argparse.Namespace(**args | {"load": "path"})) == ("loaded", "path")
    assert command.make_twin("m", "rows", argparse.Namespace(**args)) == ("quantized", NOTHING)
    assert done == [("twin of m", ("x",))] and capsys.readouterr().out == ""
    assert command.make_twin("m", "rows", argparse.Namespace(**args | {"smooth": 0.0})) == ("quantized", smoothed)
    assert done[1:] == [("twin of m", "rows", 0.0), ("twin of m", ("x",))]
    assert capsys.readouterr().out == "smoothed: the inputs of 2 layers; as they were: c, d\n"
    smoothed = Smoothed({}, {}, ())
    command.make_twin("m", "rows", argparse.Namespace(**args | {"smooth": 1.0}))
    assert capsys.readouterr().out == "smoothed: the inputs of 0 layers; as they were: none\n"


def test_each_side_s_losses_are_its_own(monkeypatch):
    def losses(side, rows, prefix, advance):
        advance(len(rows))
        return [side, rows, prefix]

    monkeypatch.setattr(measure, "window_losses", losses)
    assert command.measured_losses({"FP16": "a", "INT8": "b"}, [1, 2], 3) == {
        "FP16": ["a", [1, 2], 3], "INT8": ["b", [1, 2], 3]}


class Tokenizer:
    """A token for each character, and two before every text."""

    def __call__(self, text, add_special_tokens=True, verbose=True):
        return types.SimpleNamespace(input_ids=[900, 901] * add_special_tokens + [ord(letter) for letter in text])

    def decode(self, tokens):
        return "".join(chr(int(token)) for token in tokens)


@pytest.mark.parametrize(("gpu", "random", "options"), [
    (None, True, ["--skip", "down"]), ("A GPU", False, ["--smooth", "0.5"]), (None, False, [])])
def test_a_card_says_what_was_measured(monkeypatch, capsys, tmp_path, gpu, random, options):
    """And by which model: the one given, and its twin."""
    model, tokenizer, asked = Model(tied=True).bfloat16().to(device()).requires_grad_(False), Tokenizer(), {}
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(32 + at * at % 90) for at in range(1 + 99 * 12)))
    if random:
        (tmp_path / "random_weights.json").touch()
    found = Found(tmp_path, {}, (tmp_path / "1",), "BF16")
    monkeypatch.setattr(command, "INTERPRETED", gpu is None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: gpu)
    monkeypatch.setattr(command, "offer_transformers", lambda: asked.setdefault("offered", True))
    monkeypatch.setattr(command, "look_into", lambda folder: {tmp_path: found}[folder])
    monkeypatch.setattr(command, "free_bytes", lambda: 12345)
    monkeypatch.setattr(command, "expect_room", lambda found, free: asked.setdefault("room", (found, free)))
    monkeypatch.setattr(command, "load", lambda given: (model, tokenizer) if given is found else None)
    monkeypatch.setattr(command.importlib.metadata, "version", lambda name: f"{name} 1.2")
    smoothed = Smoothed({}, {}, ())
    monkeypatch.setattr(command, "smooth_", lambda twin, rows, alpha: asked.setdefault("smooth", (rows, alpha)) and smoothed)
    monkeypatch.setattr(measure, "window_losses", lambda side, rows, prefix, advance: [
        1.0 + prefix + (side is model) * at for at in range(len(rows))])
    monkeypatch.setattr(measure, "layers_sqnr_db", lambda *given: asked.setdefault("sqnr", given) and {"up": 40.0})
    monkeypatch.setattr(measure, "continuation", lambda side, given, prompt, new: (
        asked.setdefault(("said", side is model), (given, prompt.tolist(), new)) and f"{'INT8' * (side is not model)} text"))
    monkeypatch.setattr(measure, "speed_rows", lambda *given: asked.setdefault("speed", given) and ["speed"])
    card = command.run(command.parser().parse_args([str(tmp_path), "--text", str(text), *options, "--save",
                                                    str(tmp_path / "q")]))
    rows = measure.windows_of(text.read_text(), tokenizer, 102)
    assert len(rows) == 12
    calibration, rows = (rows[:8], rows[8:]) if "--smooth" in options else (rows[:0], rows)
    left = ["down"] if "--skip" in options else []
    prompt = rows[0, :2 + 64].tolist()
    apart = ("accuracy", "date", "torch", "triton", "memory")
    assert {name: value for name, value in card.items() if name not in apart} == {
        "schema": 1, "model": tmp_path.name, "architecture": "Model", "parameters": 28 + 25 + 24, "dtype": "BF16",
        "random": random, "gpu": gpu, "transformers": "transformers 1.2", "smooth": 0.5 if "--smooth" in options else None,
        "left": left, "text": "text.txt", "windows": len(rows), "window": 100, "sqnr_db": {"up": 40.0},
        "sample": {"prompt": tokenizer.decode(prompt[2:]), "BF16": " text", "INT8": "INT8 text"},
        "speed": ["speed"] if gpu else []}
    assert card["accuracy"]["losses"] == {"BF16": [3.0 + at for at in range(len(rows))], "INT8": [3.0] * len(rows)}
    assert card["torch"] == torch.__version__ and card["memory"]["cache_bytes_per_token"] == 2 * 1 * 2 * 2 * 2
    assert card["memory"]["BF16"] == 2 * (28 + 25 + 24) and card["memory"]["BF16"] == int8.weight_bytes(model)
    assert asked["offered"] and asked["room"] == (found, 12345)
    sides = asked["sqnr"]
    assert sides[0] is model and torch.equal(sides[2], rows) and sides[3] is (smoothed if "--smooth" in options else NOTHING)
    assert list(int8.int8_layers(sides[1])) == ["up", *["down"] * (not left), "lm_head"]
    assert card["memory"]["INT8"] == int8.weight_bytes(sides[1]) != card["memory"]["BF16"]
    for side in (True, False):
        assert asked["said", side] == (tokenizer, prompt, 48)
    if gpu:
        assert asked["speed"][0] == {"BF16": model, "INT8": sides[1]} and asked["speed"][1:] == (7, 102, print)
    if "--smooth" in options:
        assert torch.equal(asked["smooth"][0], calibration) and asked["smooth"][1] == 0.5
    record = int8.read_record(tmp_path / "q")
    assert (record["skip"], record["smooth"]) == (left, card["smooth"])
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path}: Model, 1 file(s) of BF16") and f"perplexity: {len(rows)} windows of text" in said
    assert said.endswith(f"INT8 model written to {tmp_path / 'q'}, {(tmp_path / 'q').stat().st_size / 1e9:.3f} GB\n")
