"""Phrases of a sentence that can be asked for: dates, numbers, names, titles, noun phrases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from odqa.text.morphemes import analyse, tag_and_parts


@dataclass(frozen=True, slots=True)
class Unit:
    """A MeCab morpheme: surface, its tag, MeCab's class of it, its parts, its place."""

    surface: str
    tag: str
    kind: str
    parts: tuple[tuple[str, str], ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What is asked for: ``text[start:end]`` of the sentence, and what sort of thing it is."""

    start: int
    end: int
    sort: str  # date | year | number | person | place | title | thing
    head: str = ""  # the noun that says what it is: 대학교, 영화, 명


PRONOUNS = frozenset(
    ("그", "그녀", "이", "이들", "그들", "이것", "그것", "이곳", "그곳", "본인", "자신", "저")
)
_DATE = re.compile(
    r"(?:기원전 ?)?\d{1,4}년(?: ?\d{1,2}월(?: ?\d{1,2}일)?)?(?:대|경)?"
    r"|\d{1,2}월 ?\d{1,2}일|\d{1,2}세기"
)
_QUOTED = re.compile(
    r"[《〈「『]([^《》〈〉「」『』]{2,30})[》〉」』]|[\"“‘']([^\"”’'“‘]{2,20})[\"”’']"
)
BRACKETS = re.compile(r"\s*[(\[（][^()\[\]（）]*[)\]）]")
_NOUNS = ("NNG", "NNP", "SL", "SH", "SN", "XPN", "XSN", "XR", "NR")


def units_of(text: str) -> list[Unit]:
    """The morphemes of a text."""
    units = []
    for surface, feature, start in analyse(text):
        tag, parts = tag_and_parts(surface, feature)
        kind = feature.split(",", 2)[1]
        units.append(Unit(surface, tag, kind, parts, start, start + len(surface)))
    return units


def find_answers(text: str, units: Sequence[Unit]) -> list[Answer]:
    """The phrases of a sentence that can be asked for; none inside another."""
    found = [_date(match) for match in _DATE.finditer(text)]
    for match in _QUOTED.finditer(text):
        inner = 1 if match.group(1) else 2
        found.append(Answer(match.start(inner), match.end(inner), "title"))
    quiet = [match.span() for match in BRACKETS.finditer(text)]
    found = [a for a in found if not any(a.start < end and start < a.end for start, end in quiet)]
    for answer in [*_numbers(text, units), *_noun_phrases(text, units)]:
        taken = [(other.start, other.end) for other in found] + quiet
        if not any(answer.start < end and start < answer.end for start, end in taken):
            found.append(answer)
    return [answer for answer in found if answer.end - answer.start >= 2]


def _date(match: re.Match[str]) -> Answer:
    year = re.fullmatch(r"(?:기원전 ?)?\d{1,4}년", match.group())
    return Answer(match.start(), match.end(), "year" if year else "date")


def _numbers(text: str, units: Sequence[Unit]) -> Iterator[Answer]:
    """Numbers with the unit after them: "1,200 명", "35.2km", "제4대"."""
    i = 0
    while i < len(units):
        if units[i].tag != "SN":
            i += 1
            continue
        first = i
        while (
            i < len(units)
            and units[i].tag in ("SN", "NR", "SC", "SY")
            and (i == first or units[i].start == units[i - 1].end)
        ):
            i += 1
        if i < len(units) and units[i].tag in ("NNBC", "NNB", "SL", "SY"):
            start = units[first].start - (text[: units[first].start].endswith("제"))
            yield Answer(start, units[i].end, "number", units[i].surface)
            i += 1


def _noun_phrases(text: str, units: Sequence[Unit]) -> Iterator[Answer]:
    """Runs of nouns that a particle or a comma follows, at most four words."""
    i = 0
    while i < len(units):
        if not _is_noun(units[i]):
            i += 1
            continue
        first = i
        while i < len(units) and _is_noun(units[i]):
            gap = units[i].start - units[i - 1].end if i > first else 0
            if gap > 1:
                break
            i += 1
        run = units[first:i]
        after = units[i] if i < len(units) else None
        ended = after is not None and after.start == run[-1].end
        if not ended or after is None or not after.tag.startswith(("J", "VCP")):
            continue
        phrase = text[run[0].start : run[-1].end]
        if phrase in PRONOUNS or phrase.count(" ") > 3 or len(phrase) < 2 or len(phrase) > 30:
            continue
        if run[0].start and not text[run[0].start - 1].isspace():
            continue
        named = [u for u in run if u.tag in ("NNP", "SL", "SH")]
        kinds = {u.kind for u in named}
        head = run[-1].surface if run[-1].tag == "NNG" and len(run[-1].surface) >= 2 else ""
        if (not named and len(run) < 2) or run[-1].surface == "적":
            continue
        # what a name's last noun says of it is surer than MeCab's class of its first
        if not head and "인명" in kinds:
            yield Answer(run[0].start, run[-1].end, "person")
        elif not head and "지명" in kinds:
            yield Answer(run[0].start, run[-1].end, "place")
        elif len(run) > 1:
            yield Answer(run[0].start, run[-1].end, "thing", head)
        elif named:
            yield Answer(run[0].start, run[-1].end, "thing")


def _is_noun(unit: Unit) -> bool:
    return unit.tag in _NOUNS
