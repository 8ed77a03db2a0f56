"""When two answer strings are the same answer: the key under which fusion adds their evidence."""

from __future__ import annotations

import re
import unicodedata

from odqa.text.normalize import uniform_dots

_DOT_BETWEEN_DIGITS = re.compile(r"(?<=\d)·(?=\d)")
_VISIBLE = re.compile(r"\S")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def normalize_answer(text: str) -> str:
    """The key of an answer: two answers with one key are one answer.

    It follows KorQuAD 1.0's normalisation (brackets and quotes away, lower case, punctuation away)
    but is meant for adding evidence, not for scoring, so it differs where scoring would lump
    together or keep apart what a person would not:

    - spaces do not count, but between digits ("제2차 세계 대전" is "제2차 세계대전");
    - compatibility forms are folded (NFKC), and so is every kind of quote and bracket;
    - punctuation that makes another value is kept: between digits ("3.5" is not "35", "3·1" is
      not "31", but "6·25" is "6.25"; the comma of thousands does go), a sign before a number,
      "+" and "#" after a Latin letter ("C++" is not "C").

    A text of nothing but punctuation is its own key; a blank text has the key "".
    """
    folded = unicodedata.normalize("NFKC", uniform_dots(text)).casefold()
    folded = _THOUSANDS.sub("", folded.replace("\u2212", "-"))
    folded = _DOT_BETWEEN_DIGITS.sub(".", folded)
    key = "".join(
        character for i, character in enumerate(folded) if _is_part_of_answer(folded, i, character)
    )
    return key or "".join(folded.split())


def _is_part_of_answer(text: str, i: int, character: str) -> bool:
    if not (character.isspace() or _is_punctuation(character)):
        return True
    before = text[i - 1] if i > 0 else ""
    visible = _VISIBLE.search(text, i + 1) if before.isdigit() or character == "-" else None
    after = visible.group() if visible else ""
    if before.isdigit() and after.isdigit():
        return True
    if character == "-" and after.isdigit() and not before.isalnum():
        return True
    return character in "+#" and (before in ("+", "#") or "a" <= before <= "z")


def _is_punctuation(character: str) -> bool:
    """Unicode punctuation, and the ASCII symbols that Python's ``string.punctuation`` names."""
    category = unicodedata.category(character)
    return category.startswith("P") or (category.startswith("S") and character.isascii())
