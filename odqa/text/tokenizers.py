"""Tokenizers of the sparse index: text to terms.

Each implements ``odqa.protocols.Tokenizer``. A term is in NFKC and lower case, so that "ＡＢＣ"
and "abc" are one.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence

from odqa.errors import ConfigError
from odqa.protocols import Tokenizer
from odqa.text import morphemes

CONTENT_TAGS = ("N", "SL", "SN", "SH", "XR", "XPN", "MAG", "VV", "VA", "MM")
"""Tags, or their beginnings, of the morphemes that carry meaning: nouns, foreign letters, numbers,
Hanja, roots, noun prefixes, adverbs, verbs, adjectives, determiners."""

_WORD = re.compile(r"[^\W_]+")
_SCRIPT_RUN = re.compile(
    r"[가-힣]+|[\u3400-\u4dbf\u4e00-\u9fff]+|[^\W_가-힣\u3400-\u4dbf\u4e00-\u9fff]+"
)
_PUNCTUATION = re.compile(r"^[\W_]+|[\W_]+$")


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
        """The terms of each text, in order, repeated as often as they occur."""
        return [
            [term for piece in morphemes.parse(text) if (term := _term(piece))] for text in texts
        ]


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


@functools.lru_cache(maxsize=1 << 16)
def _term(piece: str) -> str | None:
    """The term of one line of MeCab's output, or None where it carries no meaning."""
    surface, _, feature = piece.partition("\t")
    if not feature.startswith(CONTENT_TAGS):
        return None
    tag, parts = morphemes.tag_and_parts(surface, feature)
    stem = parts[0][0] if "+" in tag and tag.startswith(("VV", "VA")) else surface
    return _fold(stem)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


def _bigrams(run: str) -> list[str]:
    if len(run) == 1 or not ("가" <= run[0] <= "힣" or "\u3400" <= run[0] <= "\u9fff"):
        return [run]
    return [run[i : i + 2] for i in range(len(run) - 1)]
