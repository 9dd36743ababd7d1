"""A mutant is what its name says: its edits take away the words, or bring those, that the name speaks of, and the numbers
that it computes stand to the right ones as the name says. Whoever made the mistake reads the advice for that name.
"""

import re
from collections import Counter
from collections.abc import Callable

import pytest

from checks.exercises import EXERCISES
from checks.judge.exercise import Exercise, Mutant
from checks.judge.source import answer_source
from checks.judge.trial import drawn

ALL = [(exercise, mutant) for exercise in EXERCISES.values() for mutant in exercise.mutants]


def words(text: str) -> Counter[str]:
    """Names, numbers and signs, each as often as it is there."""
    return Counter(re.findall(r"[^\W\d]\w*|\d+(?:\.\d+)?|\*\*|//|<=|[^\w\s]", text))


def changes(mutant: Mutant) -> tuple[Counter[str], Counter[str]]:
    """The words that its edits take away, and those that they bring."""
    lost, gained = Counter(), Counter()
    for old, new in mutant.edits.items():
        lost += words(old) - words(new)
        gained += words(new) - words(old)
    return lost, gained


TAKES = {
    r"^32-bit offsets": "^int64$",
    r"`other=` is missing": "^other$",
    r"(?<!not )\bmask is missing|^no mask|no load has a mask|^K is not masked|garbage": "mask|other",
    r"\bmask on ([KMN]) is missing": "mask_{}|^{}$",
    r"\bmask on rows is missing": "mask_[mn]|^M$",
    r"\bmask on columns is missing": "^N$",
    r"maximum of \w+, not of \|": "abs|finite_or_inf",
    r"without (?:the )?magnitudes?$": "^abs$",
    r"^the bias is left out": "^bias_ptr$",
    r"is not transposed": "^T$",
    r"\beps left out": "^eps$",
    r"^not rounded$": "round|ceil|rint",
    r"\b([xw])'s scale is missing$|scales? of ([xw]) (?:is|are) (?:missing|forgotten)|scales of ([xw]) left out": "scale",
    r"^no scale at all|^without scales|scales are forgotten|the scale is forgotten": "scale|^4$",
    r"^without the (cache)": "{}_",
    r"^no (latency)": "{}_",
    r"no warm-up": "warmup",
    r"the cache is not flushed": "flush",
    r"^the weight left out|^without the norm$": "weight|rmsnorm",
    r"no limit of (warps|registers|shared)": "by_{}",
    r"NaN and Inf pass unseen|NaN passes unseen": "finite_or_inf|where",
    r"rescaled$": "^shrink$",
    r"^not divided by|is not divided by|^divided by the (?:weight|scale)": r"^/$|^\*$|div_rn|median|^127$|\^3$",
}
"""What of the answer is gone where a mutant's name has this in it: a word that matches; {} is a part of the name."""

BRINGS = {
    r"is subtracted$|^subtracted, not": "^-$",
    r"^added, not multiplied|scales added|tiles added": r"^\+$",
    r"^multiplied, not|^multiplied by": r"^\*$",
    r"^divided by (?:the (?:weight|scales?)|up$)": "^/$",
    r"^divided by (\d+(?:\.\d)?)$": "^{}",
    r"^code fixed at (\d+)": "^{}$",
    r"^(\d\.\d) in place of": "^{}$",
    r"is loaded twice": "^load$",
    r"(?:scales?|accumulation|rounded) (?:in|to) FP16|FP16 accumulation": "float16|half|^sums?$|^2$|mean",
    r"INT16": "^int16$",
    r"INT8 accumulation|^sums in INT8": "^int8$",
    r"FP32 accumulation|^sums in FP32": "^float32$",
    r"ReLU": "^maximum$",
    r"power of 2, not": "^exp2$",
    r"added onto": "atomic_add|load",
    r"natural log": "^log$",
    r"w times w|w's scale twice|scales? of w twice": "^w|scale",
    r"^x times x|x's scale twice|scales? of x twice": "^x|scale",
}
"""And what the edits bring."""


@pytest.mark.parametrize(("phrases", "brought"), [(TAKES, False), (BRINGS, True)], ids=["takes", "brings"])
def test_a_mutant_changes_what_it_is_named_for(phrases, brought):
    met = Counter()
    for exercise, mutant in ALL:
        for phrase, wanted in phrases.items():
            if not (found := re.search(phrase, mutant.name)):
                continue
            met[phrase] += 1
            changed = changes(mutant)[brought]
            letter = next(filter(None, found.groups()), "")
            wanted = wanted.replace("{}", letter.lower(), 1).replace("{}", letter)
            assert any(re.search(wanted, word) for word in changed), (
                f"{exercise.name}: {mutant.name!r} {'brings' if brought else 'takes away'} {dict(changed)}")
    assert met.keys() == phrases.keys(), f"none is called {phrases.keys() - met.keys()}"


def touched(exercise: Exercise, mutant: Mutant) -> str:
    """The lines of the answer that are not in the mutant."""
    answer, edited = (Counter(text.splitlines()) for text in (answer_source(exercise.name),
                                                              exercise.edited_source(*mutant.edits.items())))
    return "\n".join((answer - edited).elements())


def test_a_missing_mask_is_where_the_name_says():
    """`when y is stored`: what a mutant changes is that store, or the mask that it takes."""
    met = Counter()
    for exercise, mutant in ALL:
        where = re.search(r"mask.*missing (?:when|where) (?:the )?(\w+).* (?:is|are) (loaded|stored)", mutant.name)
        if where:
            name, what = where[1].lower()[:4], {"loaded": "load", "stored": "store"}[where[2]]
            met[what] += 1
            at = rf"tl\.{what}\(\w*{name}|^ *mask(_{name})? = "
            assert re.search(at, touched(exercise, mutant), re.MULTILINE), f"{exercise.name}: {mutant.name}"
    assert min(met["load"], met["store"]) > 10


IN_OTHER_WORDS = {
    ("grouped_tile", "width and height of a group swapped"): "the numbers of blocks along M and N",
    ("split_k_reduce_kernel", "parts and rows swapped"): "and their number along with them",
    ("quantize_int8_perrow_plain_kernel", "scale inverted"): "with a rounding division",
    ("scaling_flops", "group length and number swapped"): "one of them is an argument",
    ("mlp_int8", "gate and up exchanged"): "the fused kernel is taken apart",
}
"""Mutants that swap things in words of their own: what else changes."""


def test_what_is_swapped_is_all_there():
    """Names that change places are as many as before."""
    met = set()
    for exercise, mutant in ALL:
        if re.search(r"(?<!not )(?:swapped|mixed up)|(?:scales|parts|up|h) exchanged|upside down|inverted$", mutant.name):
            answer, edited = (sorted(word for word in words(text).elements() if word.isidentifier())
                              for text in (answer_source(exercise.name), exercise.edited_source(*mutant.edits.items())))
            met.add(key := (exercise.name, mutant.name))
            assert (answer == edited) is (key not in IN_OTHER_WORDS), key
    assert met > IN_OTHER_WORDS.keys() and len(met) > 30


Pairs = list[tuple[float, float]]  # what is right and what the mutant computes, case by case


def ratios(pairs: Pairs) -> set[float]:
    """What a wrong number is of the right one, to four digits."""
    return {float(f"{wrong / right:.4g}") for right, wrong in pairs if right}


NUMBERS: dict[str, Callable[[Pairs], bool]] = {
    r"bytes counted as elements": lambda of: {0.5} <= ratios(of) <= {0.5, 1},
    r": (?:FP32 sizes|FP32|FP16|twice as many|bytes in FP16|bytes, not numbers)$": lambda of: ratios(of) == {2},
    r": half (?:of it|as many)$|counted as one$|: keys alone$|: once round$": lambda of: ratios(of) == {0.5},
    r": a quarter of it|: divided by two$": lambda of: ratios(of) == {0.25},
    r": seconds$": lambda of: ratios(of) == {1e-6},
    r"roofline_us: milliseconds$|microseconds taken for milliseconds": lambda of: ratios(of) == {1e-3},
    r"step_us: milliseconds$": lambda of: all(0 < wrong <= right for right, wrong in of) and min(ratios(of)) < 0.1,
    r": bytes per microsecond|: GFLOPS$": lambda of: ratios(of) == {1e3},
    r": the sign turned": lambda of: ratios(of) == {-1},
    r": bits$": lambda of: ratios(of) == {8},
    r": GiB$": lambda of: ratios(of) == {float(f"{1e9 / 2**30:.4g}")},
    r"bucket_m: rounded down": lambda of: all(wrong in (right, right / 2) for right, wrong in of),
    r"(?:needed|max_k|from): rounded|: not rounded$|: a fraction of a p|: one (?:too large|row more|program too many)":
        lambda of: all(abs(right - wrong) <= 1 for right, wrong in of),
    r": (?:not rounded$|a fraction of a p)": lambda of: any(wrong != round(wrong) for _, wrong in of),
    r"(?:needed|max_k|from): rounded down$": lambda of: all(wrong <= right for right, wrong in of),
    r"(?:needed|max_k|from): rounded up$|: (?:at least one|one program too many|powers of two go one up)":
        lambda of: all(wrong >= right for right, wrong in of),
    r": what is gained beyond 1": lambda of: all(abs(right - 1 - wrong) < 1e-9 for right, wrong in of),
    r"_bytes: .*(?:left out|not read|too few)$|_bytes: only .* counted$":
        lambda of: all(wrong < right for right, wrong in of),
    r"_bytes: .*(?:written|too many|in four bytes|as well)$": lambda of: all(wrong > right for right, wrong in of),
    r"step_us: .*without the cache|: the faster of the two": lambda of: all(wrong <= right for right, wrong in of),
    r": the two times added|: one after the other": lambda of: all(wrong >= right for right, wrong in of),
}
"""How the numbers of a mutant stand to the right ones, by exercise and name, where a number is asked for."""


def computed(exercise: Exercise, mutant: Mutant) -> Pairs:
    """In each case of an exercise whose arguments are numbers; nothing of other exercises."""
    cases = [drawn(case, 7) for case in exercise.cases]
    if exercise.is_kernel or exercise.adapter or exercise.outputs != ("result",) or not all(
            isinstance(value, int | float) for inputs in cases for value in inputs.values()):
        return []
    right, wrong = exercise.answer_function(), exercise.mutated(mutant)
    return [(right(**inputs), wrong(**inputs)) for inputs in cases]


def test_a_mutant_s_numbers_are_what_its_name_says():
    met = set()
    for exercise, mutant in ALL:
        found = [phrase for phrase in NUMBERS if re.search(phrase, f"{exercise.name}: {mutant.name}")]
        pairs = computed(exercise, mutant) if found else []
        for phrase in found if pairs else ():
            met.add(phrase)
            assert NUMBERS[phrase](pairs), f"{exercise.name}: {mutant.name}: {pairs}"
    assert met == NUMBERS.keys(), NUMBERS.keys() - met
