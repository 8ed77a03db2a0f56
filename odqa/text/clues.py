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
_DATE = re.compile(r"\d+\s*(?:년|월|일|세기)|\d{3,4}(?!\d)|기원전|서기|시대|세기|년대|\d/\d")
_MONTH = re.compile(r"년.*월")
_NUMBER = re.compile(
    r"\d|[한두세네]\s?(?:개|명|번|가지|곳|살)|하나|다섯|여섯|일곱|여덟|아홉|열|백|천|만|억"
)
_LEADING_NUMBER = re.compile(r"\W*\d")

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
    return asked == "name" and _LEADING_NUMBER.match(answer) is not None


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
