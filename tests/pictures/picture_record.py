"""A record of what each picture shows: JSON for a module, compared with tolerance, and written anew where that is wanted."""

import json
import math
import os
import re

from checks.files import write_atomically
from checks.paths import ROOT

FOLDER = ROOT / "tests" / "pictures" / "recorded"
RENEWED = bool(os.environ.get("RECORD"))
HOW = "If that is meant, look at the picture, then: python3 workshop.py dev record"
WIDTH = 160
CLOSE = 2e-3
"""Of itself a number may differ: sums end in other bits on other processors, and a code may be its neighbour."""
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?")


def load(module: str) -> dict:
    path = FOLDER / f"{module}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save(module: str, record: dict) -> None:
    FOLDER.mkdir(exist_ok=True)
    write_atomically(FOLDER / f"{module}.json", written(dict(sorted(record.items()))) + "\n")


def written(value, indent: int = 0) -> str:
    """JSON with what fits into a line in one."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or len(line) + indent <= WIDTH and indent > 1:
        return line
    inner = ",\n".join(" " * (indent + 1) + (f"{json.dumps(key, ensure_ascii=False)}: " if key is not None else "")
                       + written(part, indent + 1) for key, part in (
                           value.items() if isinstance(value, dict) else ((None, part) for part in value)))
    ends = "{}" if isinstance(value, dict) else "[]"
    return f"{ends[0]}\n{inner}\n{' ' * indent}{ends[1]}"


def changes(was, now, where: str = "") -> list[str]:
    """What differs, a line each: where it is, what it was, what it is now."""
    if isinstance(was, dict) and isinstance(now, dict):
        size = max((abs(side.get(end, 0)) for side in (was, now) for end in ("least", "most")
                    if isinstance(side.get(end, 0), int | float)), default=0)
        return [line for name in dict.fromkeys([*was, *now]) for line in (
            [] if size and "mean" in was and near(was.get(name), now.get(name), CLOSE * size)
            else changes(was.get(name), now.get(name), f"{where} › {name}"))]
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return [line for place, (a, b) in enumerate(zip(was, now, strict=True))
                for line in changes(a, b, f"{where} › {place}")]
    same = said_alike(was, now) if isinstance(was, str) and isinstance(now, str) else (
        type(was) is type(now) or not isinstance(was, bool | str) and not isinstance(now, bool | str)) and (
            was == now or near(was, now, 1e-9))
    return [] if same else [f"{where.removeprefix(' › ')}\n      was {short(was)}\n      is  {short(now)}"]


def short(value) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 300 else text[:300] + " …"


def near(was, now, least: float) -> bool:
    """Whether two numbers are the same but for the last digit, or by less than `least`."""
    return all(isinstance(side, int | float) and not isinstance(side, bool) for side in (was, now)) and math.isclose(
        was, now, rel_tol=0 if isinstance(was, int) and isinstance(now, int) and least < 1e-6 else CLOSE, abs_tol=least)


def said_alike(was: str, now: str) -> bool:
    """Whether two texts say the same, numbers with decimals and per cents by one in the last digit apart: another processor
    may round otherwise. Whole numbers are to be the same."""
    if was == now or NUMBER.split(was) != NUMBER.split(now):
        return was == now
    ends = [was[found.end():found.end() + 2].strip()[:1] for found in NUMBER.finditer(was)]
    return all(a == b or alike(a, b, end) for a, b, end in zip(NUMBER.findall(was), NUMBER.findall(now), ends, strict=True))


def alike(a: str, b: str, end: str) -> bool:
    digits = [len(side.partition("e")[0].partition(".")[2]) for side in (a, b)]
    if digits[0] != digits[1] or not digits[0] and end != "%" or ("e" in a) != ("e" in b):
        return False
    x, y = (float(side.replace(",", "")) for side in (a, b))
    last = 10.0 ** -digits[0] * (10.0 ** int(a.partition("e")[2]) if "e" in a else 1)
    return abs(x - y) <= max(1.01 * last, CLOSE * abs(x))
