"""Forms of Korean words: the particle that fits, a predicate's endings, nouns that are near."""

from __future__ import annotations

import functools
from typing import Any

from odqa.errors import MissingDependencyError

_CLOSED = {"은": "는", "이": "가", "을": "를", "과": "와", "으로": "로"}
_OPEN = {opened: closed for closed, opened in _CLOSED.items()}


def fitting(particle: str, word: str) -> str:
    """The particle in its form after ``word``."""
    if closed(word):
        chosen = _OPEN.get(particle, particle)
        return "로" if chosen == "으로" and _final(word) == 8 else chosen
    return _CLOSED.get(particle, particle)


def _final(word: str) -> int:
    last = ord(word[-1]) - ord("가") if word else -1
    return last % 28 if 0 <= last < 11172 else 0


def closed(word: str) -> bool:
    """Whether the last syllable ends in a consonant."""
    return _final(word) > 0


def asking_form(stem: str, tag: str, past: bool, ending: str) -> str:
    """A predicate that asks.

    ``stem`` is what stands before its last morpheme, a tab, and that: "졸업\\t하", past, with
    "나요" gives "졸업했나요".
    """
    before, _, form = stem.partition("\t")
    if not past:
        if tag in ("VA", "VCP"):
            ending = {"는가": "ᆫ가", "는지": "ᆫ지", "습니까": "ᆸ니까"}.get(ending, ending)
        ending = {"을까요": "ᆯ까요", "습니까": "ᆸ니까" if not closed(form) else "습니까"}.get(
            ending, ending
        )
    marks = ((form, tag), *((("었", "EP"),) if past else ()), (ending, "EF"))
    return before + _join(marks)


def modifying_form(stem: str, tag: str, past: bool) -> str:
    """A predicate before a noun: "졸업\\t하", past, gives "졸업한"."""
    before, _, form = stem.partition("\t")
    if past and (tag != "VV" or form in ("있", "없")):
        return before + _join(((form, tag), ("었", "EP"), ("던", "ETM")))
    ending = "ᆫ" if past or (tag in ("VA", "VCP") and form not in ("있", "없")) else "는"
    return before + _join(((form, tag), (ending, "ETM")))


@functools.cache
def _kiwi() -> Any:
    try:
        from kiwipiepy import Kiwi
    except ImportError as error:
        raise MissingDependencyError("kiwipiepy", "train", "making questions") from error
    return Kiwi(num_workers=1)


@functools.lru_cache(maxsize=100_000)
def _join(marks: tuple[tuple[str, str], ...]) -> str:
    """Morphemes melted into one surface form: 하 + ᆫ → 한."""
    joined: str = _kiwi().join(marks)
    return joined


@functools.lru_cache(maxsize=100_000)
def near_nouns(noun: str) -> tuple[str, ...]:
    """At most two nouns that Kiwi's language model holds nearest to ``noun``."""
    try:
        near = _kiwi().most_similar_morphemes((noun, "NNG"), top_n=4)
    except ValueError:  # a noun it does not know
        return ()
    return tuple(m.form for m in near if m.tag == "NNG" and m.score >= 0.67)[:2]
