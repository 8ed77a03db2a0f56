"""Sentences of Korean prose, by rule.

A sentence ends at a line break, and at a terminator before white space unless the terminator
belongs to a number ("2023. 1. 5."), an initial ("J. K. 롤링"), an abbreviation, a list mark
("가. ") or something quoted or in parentheses.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Sequence

_CANDIDATE = re.compile(
    r"(?<![.!?…。！？])[.!?…。！？]+[\"'”’」』》〉)\]]*(?:\[\d{1,3}\])*(?=\s|$)"
    r"|(?<=다)\.(?=[가-힣])"  # "했다.그는", the space forgotten
)
_PAIRS = {"(": ")", "[": "]", "“": "”", "‘": "’", "「": "」", "『": "』", "《": "》", "〈": "〉"}
_CLOSERS = {close: opening for opening, close in _PAIRS.items()}
_BRACKET = re.compile("[" + re.escape("".join(_PAIRS) + "".join(_CLOSERS) + '"') + "]")
_LONGEST_PROTECTED = 200  # characters; a longer pair is more likely a slip or a whole speech
_LONGEST_WORD = 200  # characters that are looked at for an abbreviation
_LINE = re.compile(r"[^\n]+")
_QUOTING = re.compile(r"\s+(?:이?라[고는며]|이?란|하[고며는]|했|하였|는|고)(?=[\s가-힣])")
_FINAL_SYLLABLES = frozenset("다요까죠라네야자지오니냐나군걸데어아해봐줘음임함됨")
# fmt: off
_ABBREVIATIONS = frozenset({
    "al", "approx", "assn", "bros", "ca", "capt", "cf", "co", "col", "corp", "dept", "dr", "ed",
    "eds", "etc", "feat", "fig", "ft", "gen", "inc", "jr", "ltd", "mr", "mrs", "ms", "mt", "no",
    "op", "p", "pp", "prof", "rev", "sgt", "sr", "st", "univ", "vol", "vs",
})
# fmt: on


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Half-open character spans of the sentences of ``text``, in order, without the white space
    around them; together they cover every character that is not white space."""
    spans: list[tuple[int, int]] = []
    for line in _LINE.finditer(text):
        begin = line.start()
        for end in _ends(line.group()):
            _append_trimmed(spans, text, begin, line.start() + end)
            begin = line.start() + end
        _append_trimmed(spans, text, begin, line.end())
    return spans


def _append_trimmed(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    stretch = text[start:end]
    stripped = stretch.strip()
    if stripped:
        start += len(stretch) - len(stretch.lstrip())
        spans.append((start, start + len(stripped)))


def _ends(line: str) -> list[int]:
    """Offsets just behind each sentence of one line."""
    protected: list[tuple[int, int]] | None = None
    ends: list[int] = []
    begin = 0
    for match in _CANDIDATE.finditer(line):
        if not _is_end(line, match, begin):
            continue
        if protected is None:
            protected = _bracketed(line)
        if _is_inside(match.end(), protected):
            continue
        ends.append(match.end())
        begin = match.end()
    return ends


def _is_end(line: str, match: re.Match[str], begin: int) -> bool:
    mark = match.group()
    before = line[match.start() - 1] if match.start() > begin else ""
    if not before or before.isspace():
        return False
    closed = mark[-1] not in ".!?…。！？"
    if closed and _QUOTING.match(line, match.end()):
        return False  # “간다.” 라고 말했다
    if mark[0] in "。！？":
        return True
    if mark[0] != "." or mark.startswith(".."):
        return closed or before in _FINAL_SYLLABLES or (mark[0] == "?" and before == "가")
    return not _is_abbreviation(line[max(begin, match.start() - _LONGEST_WORD) : match.start()])


def _is_abbreviation(before: str) -> bool:
    """Does the full stop behind ``before`` (a sentence's end so far) belong to its last word?

    ``before`` does not end in white space.
    """
    word = before.rsplit(None, 1)[-1].lstrip("\"'“‘([「『《〈")
    if not word or word[-1].isdigit():
        return True  # an ordinal or a date; prose hardly ends in a bare number
    if len(word) == 1 and len(before.strip()) == 1:
        return True  # "가. ", "A. "
    last = word.rpartition(".")[2]
    if not last.isascii() or not last.isalpha():
        return False
    return len(last) == 1 or "." in word or last.lower() in _ABBREVIATIONS


def _is_inside(end: int, pairs: Sequence[tuple[int, int]]) -> bool:
    """Does one of the pairs, which stand in the order of their closings, hold the offset?"""
    first = bisect.bisect_left(pairs, end, key=lambda pair: pair[1])
    for i in range(first, len(pairs)):
        start, close = pairs[i]
        if close > end + _LONGEST_PROTECTED:  # this and the rest begin behind it
            return False
        if start < end:
            return True
    return False


def _bracketed(line: str) -> list[tuple[int, int]]:
    """(offset of the opening, offset of the closing) of each pair that is not too long, in the
    order of their closings."""
    pairs: list[tuple[int, int]] = []
    open_at: list[tuple[str, int]] = []
    n_open: Counter[str] = Counter()
    for match in _BRACKET.finditer(line):
        character, at = match.group(), match.start()
        opening = _CLOSERS.get(character, character)
        if character in _PAIRS or (character == '"' and not n_open[character]):
            open_at.append((character, at))
            n_open[character] += 1
        elif n_open[opening]:
            kind, start = "", at
            while kind != opening:  # what was opened within it is closed with it
                kind, start = open_at.pop()
                n_open[kind] -= 1
            if at - start <= _LONGEST_PROTECTED:
                pairs.append((start, at))
    return pairs
