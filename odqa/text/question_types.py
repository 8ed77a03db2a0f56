"""What kind of answer a Korean question asks for, by its form alone."""

from __future__ import annotations

import functools
import re

from odqa.text.morphemes import Morpheme, morphemes

# Words that ask, in the forms in which they melt with particles and copula. 왜 is left to MeCab:
# the syllable stands in 왜란, 왜구 and many more.
_ASKING = re.compile(
    "누구|누가|누굴|누군|무엇|무어|무언|무얼|무슨|뭐|뭘|뭔|언제|언젠|어디|어딘|어딜|어딨|어느|어떤|어떻|어떠|"
    "어떡|어떨|어땠|어찌|어째|어쩌|어쩐|얼마|얼만|며칠|몇|웬"
)
_OR_ELSE = "아니면"
_END = re.compile(r"[\s?？!.…~]+$")

_INTERROGATIVE = re.compile(r"(?:나|니|냐|죠|지요|[가-힣](?:가|까))요?$")
_ONE_OF_TWO = re.compile(r"(?:는가|인가|니까|(?:가|나|까)요)$")
_ADVERBS = ("MAG", "IC")  # what 왜 is where it asks
_N, _L = 4, 8  # final consonants ㄴ and ㄹ of a syllable, in Unicode's order

_YEAR = re.compile(r"몇\s*년(?!\s*(?:동안|간|마다))|[년연]도|해는|어느\s*해")
_DATE = re.compile(
    r"언제|언젠|몇\s*(?:년|월|세기)|며칠|날짜|시기|(?:[생출사]|출생|사망|결성|설립|패망|출시)일[은이]"
)
_NUMBER = re.compile(r"몇|얼마|얼만|퍼센트")
_NAME = re.compile(r"누구|누가|누굴|누군|어디|어딘|어딜|어느|무슨|어떤|이름")


@functools.lru_cache(maxsize=1024)
def asked_for(question: str) -> str:
    """The kind of answer: "year", "date", "number", "name" (who, where, which), or "" for any.

    The first that fits: "몇 년" asks for a year although 몇 asks for a number elsewhere.
    """
    kinds = (("year", _YEAR), ("date", _DATE), ("number", _NUMBER), ("name", _NAME))
    return next((kind for kind, pattern in kinds if pattern.search(question)), "")


def is_polar(question: str) -> bool:
    """Does the question ask whether something is so, to be answered with yes or no?

    It ends in an interrogative ending (-는가, -ㄴ가요, -나요, -ㄹ까, ...), holds no word that asks
    (누구, 몇, 왜, ...), and offers no choice of two ("곤충인가요 동물인가요").
    """
    text = _END.sub("", question)
    if _ASKING.search(text) or _OR_ELSE in text:
        return False
    pieces = morphemes(text)
    if not pieces or any(piece.surface == "왜" and piece.tag in _ADVERBS for piece in pieces):
        return False
    *before, last = pieces
    if any(_is_ending(piece) and _ONE_OF_TWO.search(piece.surface) for piece in before):
        return False
    return _asks(last, text)


def _asks(last: Morpheme, text: str) -> bool:
    """Is the end of a text an ending that asks?

    MeCab takes some for the noun 가요. Before 가 stands a ㄴ, before 까 a ㄹ or 니.
    """
    if not (_is_ending(last) or text.endswith("가요")) or not _INTERROGATIVE.search(text):
        return False
    stem = text.removesuffix("요")
    if stem.endswith("가"):
        return _final_consonant(stem[-2:-1]) == _N
    if stem.endswith("까"):
        return stem.endswith("니까") or _final_consonant(stem[-2:-1]) == _L
    return True


def _is_ending(piece: Morpheme) -> bool:
    return piece.tag.rpartition("+")[2] in ("EF", "EC")


def _final_consonant(syllable: str) -> int:
    """The index of a Hangul syllable's final consonant, 0 where it has none."""
    return (ord(syllable) - 0xAC00) % 28 if "가" <= syllable <= "힣" else 0
