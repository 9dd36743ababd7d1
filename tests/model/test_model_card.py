"""The page of a model's card: what each part says, of the recorded cards and of one in small numbers."""

import json

import pytest

from checks.model import card as cards
from checks.model.card import NO_SPEED, RANDOM, accuracy, page
from checks.paths import ROOT

RECORDED = sorted((ROOT / "results" / "model").glob("*.json"))


def small(**changes):
    """A card whose numbers are all different."""
    speed = [{"function": side, "batch": batch, "mode": mode, "prefill_tokens_per_s": (2000 + batch) * gain,
              "decode_tokens_per_s": (10 * batch + (mode != "eager")) * gain ** 2}
             for batch in (3, 5) for mode in ("eager", "reduce-overhead") for side, gain in (("BF16", 1.0), ("INT8", 1.5))]
    return {"model": "m", "architecture": "A", "parameters": 1234567, "dtype": "BF16", "torch": "1.2", "triton": "3.4",
            "transformers": "5.6", "gpu": "A GPU", "date": "2001-02-03", "random": False, "windows": 7, "window": 11,
            "text": "t.txt", "accuracy": accuracy({"BF16": [1.0, 2.0], "INT8": [1.01, 2.02]}),
            "sqnr_db": {"d": 44.0, "a": 41.0, "f": 46.0, "b": 42.0, "e": 45.0, "c": 43.0, "g": 30.0}, "left": ["h", "i"],
            "sample": {"prompt": "p\n", "BF16": "x", "INT8": "y"},
            "memory": {"BF16": 2_345_678_901, "INT8": 1_234_567_890, "cache_bytes_per_token": 32768},
            "speed": speed} | changes


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_a_recorded_page_is_that_of_its_card(path):
    card = json.loads(path.read_text())
    assert page(card) + "\n" == path.with_suffix(".txt").read_text()
    found = accuracy(card["accuracy"]["losses"])
    assert list(found) == list(card["accuracy"]) and found["perplexity"] == pytest.approx(card["accuracy"]["perplexity"])
    for name in ("cost_percent", "standard_error_percent"):
        assert found[name] == pytest.approx(card["accuracy"][name], rel=1e-6)
    assert card["schema"] == cards.SCHEMA


def test_the_parts_of_a_page_are_in_order():
    assert page(small()) == """\
m: A, 1,234,567 parameters, BF16
torch 1.2, Triton 3.4, transformers 5.6, A GPU, 2001-02-03

Perplexity on 7 windows of 11 tokens of t.txt
  BF16 4.4817, INT8 4.5494: +1.511 % ± 0.500 %
  3.0 standard errors: more than chance explains

SQNR of 7 INT8 layers: median 43.0 dB, the worst
    30.0 dB  g
    41.0 dB  a
    42.0 dB  b
    43.0 dB  c
    44.0 dB  d
  left in BF16: h, i

After 'p\\n', the likeliest token each time:
  BF16: 'x'
  INT8: 'y'

Weights: BF16 2.346 GB, INT8 1.235 GB; cache of keys and values, 32,768 bytes a token

tokens per second                         BF16        INT8    gain
  prefill, batch 3, eager                2,003       3,004   1.50×
  decode, batch 3, eager                    30          68   2.25×
  decode, batch 3, reduce-overhead          31          70   2.25×
  prefill, batch 5, eager                2,005       3,008   1.50×
  decode, batch 5, eager                    50         112   2.25×
  decode, batch 5, reduce-overhead          51         115   2.25×"""


def test_a_page_without_a_gpu_says_so_instead_of_speeds():
    lines = page(small(gpu=None, random=True, left=[], speed=[])).splitlines()
    assert lines[1:4] == ["torch 1.2, Triton 3.4, transformers 5.6, no GPU, 2001-02-03", RANDOM, ""]
    assert lines[-2:] == ["", NO_SPEED] and not any("left in" in line for line in lines)
    assert RANDOM not in page(small(gpu=None, speed=[])) and NO_SPEED not in page(small(gpu=None))


@pytest.mark.parametrize(("cost", "said"), [
    (1.0, "2.0 standard errors: no more than chance explains"), (-1.0, "2.0 standard errors: no more than chance explains"),
    (1.05, "2.1 standard errors: more than chance explains"), (-1.05, "2.1 standard errors: more than chance explains")])
def test_chance_ends_at_two_standard_errors(cost, said):
    found = {"perplexity": {"BF16": 2.0, "INT8": 3.0}, "cost_percent": cost, "standard_error_percent": 0.5}
    assert page(small(accuracy=found)).splitlines()[4:6] == [f"  BF16 2.0000, INT8 3.0000: {cost:+.3f} % ± 0.500 %",
                                                             f"  {said}"]
    without = page(small(accuracy=found | {"standard_error_percent": 0.0}))
    assert "± 0.000 %" in without and "standard errors" not in without
