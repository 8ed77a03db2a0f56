"""A statement with a phrase taken out of it is a question about that phrase.

It takes one of two forms: the answer's place is taken by an interrogative ("언제", "누구", "어느
대학교") and the last predicate asks, or the last predicate is made to modify a noun that names the
kind of answer ("... 졸업한 대학교는?"). The article's title is put in where the sentence has no
subject or only a pronoun. A question that copies its sentence teaches looking up, not reading, so
clauses and phrases without the answer are left out at random, words are moved and some nouns
replaced by near ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from odqa.training.answers import BRACKETS, PRONOUNS, Answer, Unit, units_of
from odqa.training.forms import asking_form, closed, fitting, modifying_form, near_nouns

if TYPE_CHECKING:
    from odqa.training.questions import QuestionConfig

_HEADS = {
    "date": ("날은", "날짜는", "때는", "시기는", "것은 언제인가"),
    "year": ("해는", "연도는", "년도는", "것은 몇 년인가", "것은 언제인가", "때는"),
    "person": ("사람은", "인물은", "사람은 누구인가", "것은 누구인가", "이는", "사람의 이름은"),
    "place": ("곳은", "지역은", "곳은 어디인가", "곳의 이름은", "장소는", "나라는"),
    "title": ("작품은", "것은 무엇인가", "것의 이름은", "것의 제목은", "것은"),
    "thing": ("것은", "것은 무엇인가", "것의 이름은 무엇인가"),
    "number": ("수는", "수치는", "것은 얼마인가"),
}
_WORDS = {
    "date": ("언제",),
    "year": ("언제", "몇 년", "어느 해"),
    "person": ("누구",),
    "place": ("어디", "어느 곳"),
    "title": ("무엇", "어떤 작품"),
    "thing": ("무엇",),
    "number": ("얼마",),
}
_ASKING = ("는가", "는가", "나", "나요", "나요", "습니까", "을까요", "는지")


@dataclass(slots=True)
class _Phrase:
    """An eojeol of the question being made."""

    text: str
    units: Sequence[Unit]
    answer: bool  # holds the answer


def ask(
    text: str,
    units: Sequence[Unit],
    answer: Answer,
    title: str,
    config: QuestionConfig,
    random: np.random.Generator,
) -> str | None:
    """A question whose answer is ``text[answer.start:answer.end]``, or None: none can be made."""
    phrases = _phrases(text, units, answer)
    rows = [i for i, phrase in enumerate(phrases) if phrase.answer]
    if not rows:
        return None
    phrases, rows = _own_clause(phrases, rows, config, random)
    if rows[-1] == len(phrases) - 1:
        return _ask_predicate_noun(phrases, answer, title, config, random)
    predicate = _predicate(phrases[-1])
    if predicate is None:
        return None
    particle = _particle(phrases[rows[-1]], answer)
    if particle is None:
        return None
    stem, past, tag = predicate
    cleft = random.random() < config.cleft
    before = _loosened(phrases[: rows[0]], config, random, cleft=cleft)
    after = _loosened(phrases[rows[-1] + 1 : -1], config, random, cleft=cleft)
    subject = particle in ("은", "는", "이", "가")
    before = _with_subject(before, title, missing=not subject, cleft=cleft)
    if random.random() < config.shuffle and len(before) > 2:
        i = int(random.integers(1, len(before)))
        before[i - 1], before[i] = before[i], before[i - 1]
    if random.random() < config.keywords:
        return _as_keywords([*before, *after, phrases[-1].text], answer, random)
    if cleft:
        if particle in ("의", "과", "와"):
            return None
        head = _head(answer, random)
        modifier = modifying_form(stem, tag, past)
        return " ".join([*before, *after, modifier, f"{head}?"])
    word = _interrogative(answer, random)
    # what is asked for is no topic
    word += fitting({"은": "이", "는": "가"}.get(particle, particle), word)
    word = {"누구가": "누가", "언제에": "언제"}.get(word, word)
    asking = _ASKING[int(random.integers(len(_ASKING)))]
    last = asking_form(stem, tag, past, asking)
    return " ".join([*before, word, *after, f"{last}?"])


def _phrases(text: str, units: Sequence[Unit], answer: Answer) -> list[_Phrase]:
    """The sentence's eojeols without brackets and closing marks."""
    quiet = [m.span() for m in BRACKETS.finditer(text) if not m.start() <= answer.start < m.end()]
    phrases = []
    for match in re.finditer(r"\S+", text):
        start, end = match.span()
        kept = "".join(text[i] for i in range(start, end) if not any(a <= i < b for a, b in quiet))
        inside = [u for u in units if start <= u.start < end]
        inside = [u for u in inside if not any(a <= u.start < b for a, b in quiet)]
        holds = start < answer.end and answer.start < end
        if kept:
            phrases.append(_Phrase(kept.rstrip(".,;·"), inside, holds))
    return [phrase for phrase in phrases if phrase.text]


def _own_clause(
    phrases: list[_Phrase], rows: list[int], config: QuestionConfig, random: np.random.Generator
) -> tuple[list[_Phrase], list[int]]:
    """Without the clauses after the answer's and, by chance, without those before it."""
    first, last = 0, len(phrases) - 1
    for i, phrase in enumerate(phrases):
        connects = any(u.tag.split("+")[-1] == "EC" for u in phrase.units[-2:])
        joins = connects and phrase.text.endswith(("고", "며", "으나", "지만", "는데"))
        if not joins:
            continue
        if i < rows[0] and i - first >= 2 and random.random() < config.drop_clause:
            first = i + 1
        # "... 졸업하고, ..." after the answer: the clause ends there, as a sentence would
        if i > rows[-1] and i + 1 < len(phrases) and _auxiliary(phrases[i + 1]) is False:
            last = i
            break
    return phrases[first : last + 1], [row - first for row in rows]


def _auxiliary(phrase: _Phrase) -> bool:
    return bool(phrase.units) and phrase.units[0].tag.startswith("VX")


def _predicate(phrase: _Phrase) -> tuple[str, bool, str] | None:
    """(surface up to and with the stem's parts joined by "\\t", past, tag) of a last eojeol."""
    parts = [(part, unit) for unit in phrase.units for part in unit.parts]
    ending = next(
        (i for i, ((_f, tag), _u) in enumerate(parts) if i and tag in ("EP", "EF", "EC")), None
    )
    if ending is None:
        return None
    (form, tag), unit = parts[ending - 1]
    if not tag.startswith(("VV", "VA", "VX", "VCP", "XSV", "XSA")):
        return None
    before = "".join(u.surface for u in phrase.units if u.end <= unit.start)
    inside = [f for (f, _t), u in parts[:ending] if u is unit][:-1]
    past = any(t == "EP" and f[-1:] in "았었였" for (f, t), _u in parts[ending:])
    short = {"XSV": "VV", "XSA": "VA"}.get(tag, tag)
    return f"{before}{''.join(inside)}\t{form}", past, short


def _ask_predicate_noun(
    phrases: list[_Phrase],
    answer: Answer,
    title: str,
    config: QuestionConfig,
    random: np.random.Generator,
) -> str | None:
    """ "X는 ... Y이다" with Y asked for: "X는 ... 무엇인가?"."""
    units = phrases[-1].units
    if not any(part[1] == "VCP" for unit in units for part in unit.parts):
        return None
    rows = [i for i, phrase in enumerate(phrases) if phrase.answer]
    before = _with_subject(
        _loosened(phrases[: rows[0]], config, random, cleft=False),
        title,
        missing=True,
        cleft=False,
    )
    word = _interrogative(answer, random)
    ending = ("인가", "인가", "인가요", "입니까", "일까")[int(random.integers(5))]
    return " ".join([*before, f"{word}{ending}?"])


def _loosened(
    phrases: Sequence[_Phrase], config: QuestionConfig, random: np.random.Generator, *, cleft: bool
) -> list[str]:
    """The phrases' texts, some left out, some nouns replaced; a modifying clause has no topic."""
    kept = []
    for phrase in phrases:
        drawn = random.random()
        chance = config.drop_phrase * (3 if _loose(phrase) else 1)
        if drawn < chance and not _is_subject(phrase):
            continue
        text = _with_near_nouns(phrase, config, random)
        tags = [unit.tag for unit in phrase.units[-2:]]
        if cleft and tags[-1:] == ["JX"] and tags[0][0] != "J" and text[-1] in "은는":
            text = text[:-1] + ("이" if text[-1] == "은" else "가")
        kept.append(text)
    return kept


def _loose(phrase: _Phrase) -> bool:
    """Adverbs, conjunctions and the like."""
    return bool(phrase.units) and phrase.units[0].tag in ("MAG", "MAJ", "MM", "IC")


def _is_subject(phrase: _Phrase) -> bool:
    return bool(phrase.units) and phrase.units[-1].tag in ("JX", "JKS")


def _with_near_nouns(phrase: _Phrase, config: QuestionConfig, random: np.random.Generator) -> str:
    text = phrase.text
    for unit in phrase.units:
        if unit.tag != "NNG" or len(unit.surface) < 2 or random.random() >= config.replace_noun:
            continue
        near = near_nouns(unit.surface)
        if near and unit.surface in text:
            text = text.replace(unit.surface, near[int(random.integers(len(near)))], 1)
    return text


def _with_subject(before: list[str], title: str, *, missing: bool, cleft: bool) -> list[str]:
    """The phrases with the title for a pronoun, or in front if nothing is the subject."""
    name = re.sub(r"\s*\([^()]*\)$", "", title)
    particle = ("이", "가") if cleft else ("은", "는")
    own = name + particle[0 if closed(name) else 1]
    if before:
        bare = re.sub("(은|는|이|가|의)$", "", before[0])
        if bare in PRONOUNS and before[0] != bare:
            genitive = before[0].endswith("의")
            return [f"{name}의" if genitive else own, *before[1:]]
    if any(name in phrase for phrase in before) or name in " ".join(before):
        return list(before)
    if missing and not any(re.search("(은|는|이|가)$", phrase) for phrase in before[:4]):
        return [own, *before]
    return list(before)


def _particle(phrase: _Phrase, answer: Answer) -> str | None:
    """What follows the answer in its eojeol; None: not a particle."""
    after = [u for u in phrase.units if u.start >= answer.end]
    after = [u for u in after if not u.tag.startswith("S")]
    if not all(u.tag.startswith("J") for u in after):
        return None
    return "".join(u.surface for u in after)


def _head(answer: Answer, random: np.random.Generator) -> str:
    """What a cleft question ends with."""
    if answer.sort == "number":
        options = [f"것은 몇 {answer.head}인가", *_HEADS["number"]]
        return options[0 if random.random() < 0.7 else int(random.integers(1, len(options)))]
    if answer.sort == "thing" and answer.head and random.random() < 0.75:
        head = answer.head
        topic = head + ("은" if closed(head) else "는")
        return [topic, topic, f"{head}의 이름은", f"{topic} 무엇인가", f"{topic} 어디인가"][
            int(random.integers(4 if not head.endswith(("국", "시", "역", "산")) else 5))
        ]
    options = list(_HEADS[answer.sort])
    return options[int(random.integers(len(options)))]


def _interrogative(answer: Answer, random: np.random.Generator) -> str:
    if answer.sort == "number":
        return f"몇 {answer.head}" if random.random() < 0.8 else "얼마"
    if answer.sort == "thing" and answer.head and random.random() < 0.75:
        return ("어느 ", "어떤 ", "무슨 ")[int(random.integers(3))] + answer.head
    words = _WORDS[answer.sort]
    return words[int(random.integers(len(words)))]


def _as_keywords(phrases: list[str], answer: Answer, random: np.random.Generator) -> str:
    """Only the words: "세종 훈민정음 반포 연도"."""
    nouns = [
        unit.surface
        for phrase in phrases
        for unit in units_of(phrase)
        if unit.tag in ("NNG", "NNP", "SL", "SN", "SH") and len(unit.surface) > 1
    ]
    head = answer.head or _WORDS[answer.sort][0]
    return " ".join([*nouns[:8], head]) + ("?" if random.random() < 0.5 else "")
