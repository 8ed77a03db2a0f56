"""Articles to passages: cleaning, section headings, and splitting at sentences.

The offsets of a passage count the characters of the *cleaned* article:
``clean_document(document, config).text[passage.start:passage.end] == passage.text``.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from odqa.config import CorpusConfig
from odqa.text import normalize
from odqa.text.morphemes import morphemes
from odqa.text.sentences import split_sentences
from odqa.types import Document, Passage

SPLITTER = "2"
"""Another one whenever an article may give other passages than before: an index grows by updates
only where the passages it has are those that it would get today."""

# A line such as "생애." that WikiExtractor makes of a section's heading.
_HEADING = re.compile(r"(?<![^\n])[^\S\n]*(\S[^\n]{0,58}[^\n.!?…:;,])\.[^\S\n]*(?=\n|$)")
_IN_PARENTHESES = re.compile(r"\s*[(\[][^()\[\]]*[)\]]$")
_SENTENCE_END = re.compile(r"다(?:[\"'”’)\]]*\.|$)|[해세어아예지네까데게군나]요$|\d{4}\.\s|[?!]\s")
# Two statements in one line, an equation, a day's event; a list's mark is no part of a name.
_STATEMENT = re.compile(
    r"^(?:[-–—•·*※○●▲△▶►◆◇□■☆★→]|\d+\)|\(\d+\))|[가-힣)\]]\.\s|[=→]|\d일(?:,|에\s|부터\s)"
)
_MAYBE_TOPIC = re.compile(r"[은는]\s")
_BLANKS = re.compile(r"\s*")
_NOMINAL_TAGS = frozenset({"ETN", "EF"})
_DEEPEST = 2  # headings over a heading; Wikipedia's sections hardly nest deeper
_PATH = " › "
# Sections of notes and links, whose content is no prose; empty once the markup is gone.
# fmt: off
_APPENDICES = frozenset({
    "각주", "주석", "주", "출처", "참고 문헌", "참고문헌", "참고 자료", "참고자료", "외부 링크",
    "외부링크", "바깥 고리", "바깥고리", "같이 보기", "같이보기", "함께 보기", "관련 항목",
    "관련 문서", "더 읽어보기", "갤러리",
})
# fmt: on


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence, or a part of a long one, that no passage boundary cuts."""

    start: int
    end: int
    heading: str


def clean_text(text: str, config: CorpusConfig) -> str:
    """``text`` in NFC, without control characters and leftover markup, parentheses repaired.

    Idempotent, so that it does no harm to clean twice.
    """
    while True:
        cleaned = normalize.strip_markup(normalize.clean_characters(text))
        if config.repair_parentheses:
            cleaned = normalize.repair_parentheses(cleaned)
        if cleaned == text:
            return text
        text = cleaned


def clean_document(document: Document, config: CorpusConfig) -> Document:
    """``document`` with its text cleaned.

    A document that is a single passage (``metadata["single_passage"]``: the context of a reading
    data set) keeps its text as it is, because the data set's answer offsets count in it.
    """
    if document.metadata.get("single_passage"):
        return document
    text = clean_text(document.text, config)
    return document if text == document.text else dataclasses.replace(document, text=text)


def split_passages(document: Document, config: CorpusConfig) -> list[Passage]:
    """The passages of an article, in order, about ``config.passage_chars`` long each.

    Boundaries lie between sentences; one that is longer alone is cut at white space. None is
    longer than 1.25 x ``passage_chars`` (+ ``overlap_chars``). A heading is no text of its own
    but the ``heading`` of the passages under it ("생애 › 어린 시절" where nothing stands between
    the two), except where a section too short to stand alone is joined with its neighbour: there
    it stays within the text. Nothing is left out but the names of empty appendices ("각주",
    "외부 링크"). An article without text has no passage.
    """
    document = clean_document(document, config)
    if document.metadata.get("single_passage"):
        whole = bool(document.text.strip())
        return [_passage(document, 0, 0, len(document.text), "")] if whole else []
    spans: list[tuple[int, int, str]] = []
    for group in _groups(_sections(document.text, config.passage_chars), config.passage_chars):
        spans += _pack(group, config)
    return [_passage(document, n, *span) for n, span in enumerate(spans)]


def _passage(document: Document, n: int, start: int, end: int, heading: str) -> Passage:
    return Passage(
        passage_id=f"{document.doc_id}#{n}",
        doc_id=document.doc_id,
        title=document.title,
        text=document.text[start:end],
        start=start,
        end=end,
        heading=heading,
    )


def _sections(text: str, limit: int) -> list[list[_Unit]]:
    """The units of each section that has text, the lead first."""
    sections = [_units(text, *section, limit) for section in _outline(text)]
    found = [section for section in sections if section]
    if found or not text.strip():
        return found
    return [_units(text, "", 0, len(text), limit)]  # nothing but names of appendices


def _outline(text: str) -> Iterator[tuple[str, int, int]]:
    """(heading, start, end) of the text under each heading, the lead first.

    Headings with nothing under them are the path to the next one; a longer row of such lines is
    a list, and what stands at the article's end is no heading of anything: text both.
    """
    heading, start = "", 0
    empty: list[tuple[int, str]] = []
    lines = [m for m in _HEADING.finditer(text) if _is_heading(m.group(1))]
    for line, following in itertools.zip_longest(lines, lines[1:]):
        if not text[line.end() : following.start() if following else len(text)].strip():
            empty.append((line.start(), line.group(1)))
            continue
        path = empty if len(empty) <= _DEEPEST else []
        yield heading, start, path[0][0] if path else line.start()
        names = [name for _, name in path if name not in _APPENDICES]
        heading, start = _PATH.join([*names, line.group(1)]), line.end()
        empty = []
    end = len(text)
    while empty and empty[-1][1] in _APPENDICES:
        end, _ = empty.pop()
    yield heading, start, end


def _is_heading(line: str) -> bool:
    """Is the line (its full stop taken away) the name of a section rather than a sentence?"""
    if _STATEMENT.search(line):
        return False
    line = _IN_PARENTHESES.sub("", line) or line
    if _SENTENCE_END.search(line):
        return False
    if _MAYBE_TOPIC.search(line) and _has_topic(line):
        return False  # "호는 단원", but "젊은 시절"
    final = line.rstrip("\"'”’)] ")[-1:]
    if final and (ord(final) - 0xAC00) % 28 == 16:  # "서울에서 태어남" ends in ㅁ, as does "죽음"
        return morphemes(line)[-1].tag.rpartition("+")[2] not in _NOMINAL_TAGS
    return True


def _has_topic(line: str) -> bool:
    return any(m.tag == "JX" and m.surface in {"은", "는"} for m in morphemes(line))


def _units(text: str, heading: str, start: int, end: int, limit: int) -> list[_Unit]:
    return [
        _Unit(*piece, heading)
        for begin, stop in split_sentences(text[start:end])
        for piece in _pieces(text, start + begin, start + stop, limit)
    ]


def _pieces(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """A sentence in pieces of at most ``limit`` characters, cut at white space where it has any."""
    while end - start > limit:
        cut = max(text.rfind(" ", start + limit // 2, start + limit + 1), -1)
        if cut < 0:
            cut = start + limit
        yield start, start + len(text[start:cut].rstrip())
        blanks = _BLANKS.match(text, cut, end)
        start = blanks.end() if blanks else cut
    yield start, end


def _groups(sections: Iterable[list[_Unit]], limit: int) -> list[list[_Unit]]:
    """Sections; one too short to stand alone is joined with the next (the last: backward)."""
    shortest = limit // 3
    groups: list[list[_Unit]] = []
    for section in sections:
        if groups and _length(groups[-1]) < shortest:
            groups[-1] = groups[-1] + section
        else:
            groups.append(section)
    if len(groups) > 1 and _length(groups[-1]) < shortest:
        last = groups.pop()
        groups[-1] = groups[-1] + last
    return groups


def _length(units: list[_Unit]) -> int:
    return units[-1].end - units[0].start


def _pack(units: list[_Unit], config: CorpusConfig) -> list[tuple[int, int, str]]:
    """(start, end, heading) of the passages of one group, as even in length as sentences allow."""
    limit = config.passage_chars
    longest = limit + limit // 4
    spans: list[tuple[int, int, str]] = []
    first = 0
    while first < len(units):
        start = units[first].start
        rest = units[-1].end - start
        aim = rest if rest <= longest else rest / max(2, round(rest / limit + 0.2))
        last = first
        while last + 1 < len(units):
            now, then = units[last].end - start, units[last + 1].end - start
            if then > longest or abs(then - aim) > abs(now - aim):
                break
            last += 1
        begin = start if not spans else _overlap_start(units, first, spans[-1][0], config)
        spans.append((begin, units[last].end, units[first].heading))
        first = last + 1
    return spans


def _overlap_start(units: list[_Unit], first: int, previous: int, config: CorpusConfig) -> int:
    """Where a passage starts whose own text starts with unit ``first``: whole units before it are
    repeated as far as ``overlap_chars`` reaches, but never the whole passage before it."""
    start = units[first].start
    reach = max(start - config.overlap_chars, previous + 1)
    chosen = bisect.bisect_left(units, reach, hi=first, key=lambda unit: unit.start)
    return units[chosen].start if config.overlap_chars else start
