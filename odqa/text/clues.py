"""What speaks for or against a span as the answer to a question, beside what a reader thinks.

Readers are trained on a passage that holds the answer. Over a whole corpus they meet passages
about something else, and the best-scored span there may be of the wrong kind, or from the wrong
article. Each clue is a yes or no that needs no model; what it is worth is learnt
(``scripts/tune_fusion.py``).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from odqa.text.normalize import letters, without_parenthesis
from odqa.text.question_types import asked_for

_PAIRS = ("()", "[]", "《》", "〈〉", "「」", "『』", "“”", "‘’")
_SINO = "일이삼사오육칠팔구"
_DATE = re.compile(
    r"\d+\s*(?:년|월|일|세기|시)|\d여?\s*년|[십백천만억]\s*년|\d{3,4}(?!\d)|기원전|서기|시대|세기|\d/\d|"
    rf"(?<![가-힣])[{_SINO}십]+\s*[년월일](?![가-힣])|(?:[초중말전후]|강점)기|시절|이후|이전|직후|직전|"
    "당시|동안|봄|여름|가을|겨울|저녁|새벽|오전|오후|밤중|한낮|요일|평일|명절|단오|추석|설날|[때전후뒤말초기]$|[고중신]생대|무렵"
)
_MONTH = re.compile(r"년.*월")
_COUNTER = (
    "개|명|번|가지|곳|살|마리|차례|달|척|쌍|편|권|대|장|줄|종|종류|군데|사람|배|시간|해|채|그루|자루|벌|켤레|팀|나라|"
    "도시|부문|단계|마을|량|층|판|골|점|발|통|주|분|곡|섬|글자|음절|아들|딸|자녀|형제|자매|세대|갈래|바퀴|가마|되|말"
)
_NUMBER = re.compile(  # in digits or in words: 삼십 년, 두 마리, 스무 살, 절반
    rf"\d|(?<![가-힣])(?:[한두세네석넉]\s?(?:{_COUNTER})|[{_SINO}]\s?(?:년|월|일|인|명|개|차|세|회|편|층|부)(?![가-힣]))|"
    rf"(?<![가-힣])[{_SINO}]?[십백천](?![가-힣])|[{_SINO}][십백천만]|[십백천만]\s?[{_SINO}만억조년명개]|수[십백천만]|[만억조](?![가-힣])|"
    r"(?<![가-힣])하나|(?<![가-힣])[둘셋넷](?![가-힣])|다섯|여섯|일곱|여덟|아홉|(?<![가-힣])열(?:\s|$|[한두세네둘셋넷])|스물|"
    "스무|서른|마흔|쉰|예순|일흔|여든|아흔|절반|과반|[ⅠⅡⅢⅣⅤⅥⅦⅧⅨⅩ½]"
)
# A quantity or a time and nothing else: "63빌딩", "5·18 민주화운동" and "3호선" are names.
_QUANTITY = re.compile(r"\W*\d[\d.,~\s]*[가-힣A-Za-z%²]{0,4}(?:\s*\d+\s*[가-힣]{1,2})*\W*$")
_NUMBERED = re.compile(r"(?:호선?|빌딩|번지|층|관|동|가|차|군|당|단|사단|함|대대|[A-Z])\W*$")

_letters = functools.lru_cache(maxsize=4096)(letters)


@dataclass(frozen=True, slots=True)
class Clues:
    """The clues of one span; the fields are named as their weights in ``FusionConfig``."""

    names_article: bool = False
    article_start: bool = False
    is_title: bool = False
    wrong_type: bool = False
    broken: bool = False
    single_character: bool = False


def find_clues(question: str, title: str, text: str, start: int, end: int, *, first: bool) -> Clues:
    """The clues of the span ``[start, end)`` of a passage's ``text``.

    Args:
        question: the question.
        title: of the passage's article; a parenthesis at its end ("뇌 (동물)") does not count.
        text: of the passage.
        start: where the span begins.
        end: where it ends.
        first: whether the passage is the first of its article.
    """
    answer = text[start:end]
    name, said = _letters(without_parenthesis(title)), _letters(answer)
    return Clues(
        names_article=len(name) > 1 and name in _letters(question),
        article_start=first,
        is_title=bool(said) and said == name,
        wrong_type=_is_wrong_type(asked_for(question), answer),
        broken=not said or _is_broken(text, start, end),
        single_character=len(said) == 1,
    )


def _is_wrong_type(asked: str, answer: str) -> bool:
    if asked == "year":
        return _DATE.search(answer) is None or _MONTH.search(answer) is not None
    if asked == "date":
        return _DATE.search(answer) is None
    if asked == "number":
        return _NUMBER.search(answer) is None
    return asked == "name" and _QUANTITY.match(answer) is not None and not _NUMBERED.search(answer)


def _is_broken(text: str, start: int, end: int) -> bool:
    """Does the span begin inside a word, end inside a number, or leave a bracket or quote open?"""
    if start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        return True
    if text[end - 1].isdigit() and re.match(r"[.,]?\d", text[end:]):
        return True
    answer = text[start:end]
    if answer.count('"') % 2 == 1:
        return True
    return any(answer.count(pair[0]) != answer.count(pair[1]) for pair in _PAIRS)
