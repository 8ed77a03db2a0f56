"""What kind of answer a Korean question asks for, by its form alone."""

from __future__ import annotations

import functools
import re

from odqa.text.morphemes import Morpheme, morphemes

# Words that ask, in the forms in which they melt with particles and copula (누굽니까), 무었 a
# common misspelling; and requests ("알려 줄 수 있나요"). 왜 is left to MeCab: the syllable stands
# in 왜란, 왜구 and many more.
_ASKING = re.compile(
    "누구|누가(?!복음)|누굴|누군|누굽|무엇|무었|무어|무언|무얼|무슨|뭐|뭘|뭔|뭡|뭣|"
    "언제|언젠|언젭|언젤|어디|어딘|어딜|"
    r"어딨|어딥|어느|어떤|어떻|어떠|어떡|어떨|어땠|어찌|어째|어쩌|어쩐|얼마|얼만|얼맙|얼말|며칠|몇|(?<![가-힣])웬(?=\s)|"
    r"(?:알려|가르쳐|말해)\s?[주줄줘]"
)
_OR_ELSE = "아니면"
_END = re.compile(r"[\s?？!.…~]+$")

_INTERROGATIVE = re.compile(r"(?:나|니|냐|죠|지요|[가-힣](?:가|까))요?$")
_ONE_OF_TWO = re.compile(r"(?:는가|인가|니까|(?:가|나|까)요)$")
_ADVERBS = ("MAG", "IC")  # what 왜 is where it asks
_N, _L = 4, 8  # final consonants ㄴ and ㄹ of a syllable, in Unicode's order

# What the words that ask decide; "몇 년" may count years as well, "몇 년 몇 월" wants a whole date.
_LASTING = r"\s*(?:동안|간|마다|만에|이상|이하|전|후|뒤|째|치)"
_OF_YEAR = re.compile(
    rf"몇\s*년(?!{_LASTING}|\s*몇)|(?:어느|어떤)\s*(?:해(?=[에를의부까인는가]|\s|$)|[년연]도)|"
    r"(?:(?<![가-힣])해|[년연]도)[은는가]?\s*언제"
)
_OF_DATE = re.compile(
    rf"언제|언젠|언젭|언젤|몇\s*(?:월|세기|년\s*몇)|며칠(?!{_LASTING}|이나)|"
    r"(?:어느|어떤)\s*(?:날|달|세기|시기)(?=[에를의부까인는가]|\s|$)"
)
_OF_PERSON_OR_PLACE = re.compile(r"누구|누가(?!복음)|누굴|누군|누굽|어디|어딘|어딜|어딥")
_OF_ANYTHING = re.compile(
    r"무엇|무었|무언|무얼|무슨|뭐|뭘|뭔|뭡|뭣|왜|어떻|어떠|어째|까닭|이유|원인|"
    r"어느 (?:시대|정도|수준)"
)
# Without such a word the noun decides that the question ends with: "지어진 해는?", "설립 연도".
_ENDS_WITH_YEAR = re.compile(r"(?:(?<![가-힣])해|(?<!\d)(?<!\d\s)[년연]도)(?:은|는|인가|가|를)?$")
_ENDS_WITH_DATE = re.compile(
    r"(?:날짜|(?<![가-힣])(?:시기|날|(?:[생출사]|출생|사망|결성|설립|패망|출시)일))(?:은|는|인가|가|이|를)?$"
)
_OF_NUMBER = re.compile(r"몇|며칠|얼마|얼만|얼맙|퍼센트")
_OF_NAME = re.compile(r"어느|어떤|이름")
_KINDS = (  # the first that fits
    (_OF_YEAR, "year"),
    (_OF_DATE, "date"),
    (_OF_PERSON_OR_PLACE, "name"),
    (_OF_ANYTHING, ""),
    (_ENDS_WITH_YEAR, "year"),
    (_ENDS_WITH_DATE, "date"),
    (_OF_NUMBER, "number"),
    (_OF_NAME, "name"),
)


@functools.lru_cache(maxsize=1024)
def asked_for(question: str) -> str:
    """The kind of answer: "year", "date", "number", "name" (who, where, which), or "" for any.

    The word that asks decides ("2008년도 수상자는 누구인가" wants a name); a noun, where it stands
    at the end and nothing else asks ("지어진 해는?").
    """
    text = _END.sub("", question)
    return next((kind for pattern, kind in _KINDS if pattern.search(text)), "")


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
