"""Text of strangers, made printable once, where it comes in. Standard library only."""

import unicodedata

LONGEST = 8000  # characters of one message
JOINERS = "\u200c\u200d"  # which some scripts need; no other invisible character is kept


def printable(text: str, lines: bool = False, longest: int = LONGEST) -> str:
    """`text` with escapes (`\\x1b`, `\\ud800`, `\\u202e`) in place of what no terminal, page or file should be given.

    That is: control characters, lone surrogates, and characters that reorder or hide text. With `lines`, line breaks and
    tabs stay. What is beyond `longest` characters is left out, with a word.
    """
    kept = text[:longest]
    if not kept.isprintable():
        kept = "".join(c if _harmless(c, lines) else c.encode("unicode_escape").decode() for c in kept)
    return kept if len(text) <= longest else f"{kept} … ({len(text):,} characters)"


def _harmless(c: str, lines: bool) -> bool:
    category = unicodedata.category(c)
    return category not in ("Cc", "Cf", "Cs", "Zl", "Zp") or c in JOINERS or lines and c in "\n\t"


def printable_name(name: str) -> str:
    """The name of a file or a student: printable, on one line, in one Unicode form (NFC)."""
    return printable(unicodedata.normalize("NFC", name)).strip() or "(no name)"


def all_printable(value):
    """A JSON value with all its texts printable."""
    if isinstance(value, str):
        return printable(value, lines=True)
    if isinstance(value, dict):
        return {printable(str(key)): all_printable(one) for key, one in value.items()}
    return [all_printable(one) for one in value] if isinstance(value, list | tuple) else value
