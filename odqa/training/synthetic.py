"""Questions made from text: a statement with a phrase taken out of it is a question about it.

A sentence of a passage gives an answer (a date, a number with its unit, a name, a title in quotes
or a noun phrase before a particle), and the rest of the sentence the question, in one of two
forms: the answer's place is taken by an interrogative ("언제", "누구", "어느 대학교") and the
last predicate asks, or the last predicate is made to modify a noun that names the kind of answer
("... 졸업한 대학교는?"). The article's title is put in where the sentence has no subject or only a
pronoun. A question that copies its sentence teaches looking up, not reading, so clauses and phrases
without the answer are left out at random, words are moved and some nouns replaced by near ones.
"""

from __future__ import annotations

import functools
import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odqa.config import CorpusConfig
from odqa.corpus import split_passages
from odqa.errors import MissingDependencyError
from odqa.text.morphemes import analyse, tag_and_parts
from odqa.text.sentences import split_sentences
from odqa.types import Document, Passage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QuestionConfig:
    """How many questions, from which passages, and how far from their sentences."""

    questions: int = 30_000
    articles_skipped: float = 0.0  # share of the articles that is passed over
    per_passage: int = 2  # at most
    per_article: int = 6  # at most
    shortest_passage: int = 200  # characters; a passage's length is drawn for each article
    longest_passage: int = 500
    cleft: float = 0.6  # share of questions of the form "... 한 사람은?"
    drop_phrase: float = 0.08  # chance for a phrase without the answer to be left out
    drop_clause: float = 0.5  # chance for all clauses before the answer's to be left out
    replace_noun: float = 0.12  # chance for a common noun to become a near one
    shuffle: float = 0.1  # chance for two phrases before the predicate to change places
    keywords: float = 0.05  # share of questions that are only their nouns
    seed: int = 13


@dataclass(frozen=True, slots=True)
class _Unit:
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


_PRONOUNS = frozenset(
    ("그", "그녀", "이", "이들", "그들", "이것", "그것", "이곳", "그곳", "본인", "자신", "저")
)
_DATE = re.compile(
    r"(?:기원전 ?)?\d{1,4}년(?: ?\d{1,2}월(?: ?\d{1,2}일)?)?(?:대|경)?"
    r"|\d{1,2}월 ?\d{1,2}일|\d{1,2}세기"
)
_QUOTED = re.compile(
    r"[《〈「『]([^《》〈〉「」『』]{2,30})[》〉」』]|[\"“‘']([^\"”’'“‘]{2,20})[\"”’']"
)
_BRACKETS = re.compile(r"\s*[(\[（][^()\[\]（）]*[)\]）]")
_NOUNS = ("NNG", "NNP", "SL", "SH", "SN", "XPN", "XSN", "XR", "NR")
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
_CLOSED = {"은": "는", "이": "가", "을": "를", "과": "와", "으로": "로"}
_OPEN = {opened: closed for closed, opened in _CLOSED.items()}


def make_questions(
    documents: Iterable[Document], config: QuestionConfig, *, without: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """Articles in KorQuAD's form with questions made from them, until there are enough.

    Args:
        documents: read once, in their order.
        without: titles of articles that give no question, such as those of a test set; compared
            without spaces and underscores.
    """
    random = np.random.default_rng(config.seed)
    left_out = {bare_title(title) for title in without}
    total, sorts = 0, Counter[str]()
    for document in documents:
        if total >= config.questions:
            break
        # drawn first: which articles are taken does not hang on what they hold
        if random.random() < config.articles_skipped or bare_title(document.title) in left_out:
            continue
        paragraphs = []
        made = 0
        for passage in _passages(document, config, random):
            questions = []
            for sort, question, answer in _of_passage(passage, config, random):
                sorts[sort] += 1
                name = f"s{document.doc_id}-{made}"
                questions.append({"id": name, "question": question, "answers": [answer]})
                made += 1
            if questions:
                paragraphs.append({"context": passage.text, "qas": questions})
            if made >= config.per_article:
                break
        if paragraphs:
            total += made
            yield {"title": document.title, "paragraphs": paragraphs}
    logger.info("%d questions: %s", total, dict(sorted(sorts.items())))


def bare_title(title: str) -> str:
    """A title as it is compared: KorQuAD writes "_" for spaces."""
    return re.sub(r"[\s_]", "", title).casefold()


def write_questions(articles: Iterable[dict[str, Any]], path: Path) -> int:
    """Write articles as one KorQuAD file, without holding them; the number of questions."""
    total = 0
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write('{"version": "synthetic", "data": [')
        for i, article in enumerate(articles):
            file.write(",\n" if i else "\n")
            file.write(json.dumps(article, ensure_ascii=False))
            total += sum(len(paragraph["qas"]) for paragraph in article["paragraphs"])
        file.write("\n]}\n")
    part.replace(path)
    return total


def _passages(
    document: Document, config: QuestionConfig, random: np.random.Generator
) -> list[Passage]:
    """The document's passages in a random order, all of one drawn length."""
    length = int(random.integers(config.shortest_passage, config.longest_passage + 1))
    passages = split_passages(document, CorpusConfig(passage_chars=length))
    # a stub's only sentence says nothing that a reader would have to look for
    passages = [p for p in passages if len(p.text) >= 100]
    return [passages[i] for i in random.permutation(len(passages))]


def _of_passage(
    passage: Passage, config: QuestionConfig, random: np.random.Generator
) -> list[tuple[str, str, dict[str, Any]]]:
    """(sort of answer, question, answer record) of at most ``per_passage`` sentences."""
    spans = split_sentences(passage.text)
    found: list[tuple[str, str, dict[str, Any]]] = []
    for row in random.permutation(len(spans)):
        start, end = spans[row]
        sentence = passage.text[start:end]
        whole = 20 <= len(sentence) <= 200 and re.search(r"다[.\"”']?$", sentence)
        if not whole or "formula_" in sentence:  # what WikiExtractor leaves of a formula
            continue
        units = _units(sentence)
        answers = find_answers(sentence, units)
        if not answers:
            continue
        weights = np.array([0.25 if a.sort == "thing" else 1.0 for a in answers])
        answer = answers[int(random.choice(len(answers), p=weights / weights.sum()))]
        question = ask(sentence, units, answer, passage.title, config, random)
        text = sentence[answer.start : answer.end]
        if question is None or text in question:
            continue
        record = {"text": text, "answer_start": start + answer.start}
        found.append((answer.sort, question, record))
        if len(found) == config.per_passage:
            break
    return found


def _units(text: str) -> list[_Unit]:
    units = []
    for surface, feature, start in analyse(text):
        tag, parts = tag_and_parts(surface, feature)
        kind = feature.split(",", 2)[1]
        units.append(_Unit(surface, tag, kind, parts, start, start + len(surface)))
    return units


# The answer -----------------------------------------------------------------------------------


def find_answers(text: str, units: Sequence[_Unit]) -> list[Answer]:
    """The phrases of a sentence that can be asked for; none inside another."""
    found = [_date(match) for match in _DATE.finditer(text)]
    for match in _QUOTED.finditer(text):
        inner = 1 if match.group(1) else 2
        found.append(Answer(match.start(inner), match.end(inner), "title"))
    quiet = [match.span() for match in _BRACKETS.finditer(text)]
    found = [a for a in found if not any(a.start < end and start < a.end for start, end in quiet)]
    for answer in [*_numbers(text, units), *_noun_phrases(text, units)]:
        taken = [(other.start, other.end) for other in found] + quiet
        if not any(answer.start < end and start < answer.end for start, end in taken):
            found.append(answer)
    return [answer for answer in found if answer.end - answer.start >= 2]


def _date(match: re.Match[str]) -> Answer:
    year = re.fullmatch(r"(?:기원전 ?)?\d{1,4}년", match.group())
    return Answer(match.start(), match.end(), "year" if year else "date")


def _numbers(text: str, units: Sequence[_Unit]) -> Iterator[Answer]:
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


def _noun_phrases(text: str, units: Sequence[_Unit]) -> Iterator[Answer]:
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
        if phrase in _PRONOUNS or phrase.count(" ") > 3 or len(phrase) < 2 or len(phrase) > 30:
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


def _is_noun(unit: _Unit) -> bool:
    return unit.tag in _NOUNS


# The question ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Phrase:
    """An eojeol of the question being made."""

    text: str
    units: Sequence[_Unit]
    answer: bool  # holds the answer


def ask(
    text: str,
    units: Sequence[_Unit],
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
        modifier = _modifying_form(stem, tag, past)
        return " ".join([*before, *after, modifier, f"{head}?"])
    word = _interrogative(answer, random)
    # what is asked for is no topic
    word += _fitting({"은": "이", "는": "가"}.get(particle, particle), word)
    word = {"누구가": "누가", "언제에": "언제"}.get(word, word)
    asking = _ASKING[int(random.integers(len(_ASKING)))]
    last = _asking_form(stem, tag, past, asking)
    return " ".join([*before, word, *after, f"{last}?"])


def _phrases(text: str, units: Sequence[_Unit], answer: Answer) -> list[_Phrase]:
    """The sentence's eojeols without brackets and closing marks."""
    quiet = [m.span() for m in _BRACKETS.finditer(text) if not m.start() <= answer.start < m.end()]
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
        near = _near_nouns(unit.surface)
        if near and unit.surface in text:
            text = text.replace(unit.surface, near[int(random.integers(len(near)))], 1)
    return text


def _with_subject(before: list[str], title: str, *, missing: bool, cleft: bool) -> list[str]:
    """The phrases with the title for a pronoun, or in front if nothing is the subject."""
    name = re.sub(r"\s*\([^()]*\)$", "", title)
    particle = ("이", "가") if cleft else ("은", "는")
    own = name + particle[0 if _closed(name) else 1]
    if before:
        bare = re.sub("(은|는|이|가|의)$", "", before[0])
        if bare in _PRONOUNS and before[0] != bare:
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
        topic = head + ("은" if _closed(head) else "는")
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


def _fitting(particle: str, word: str) -> str:
    """The particle in its form after ``word``."""
    if _closed(word):
        closed = _OPEN.get(particle, particle)
        return "로" if closed == "으로" and _final(word) == 8 else closed
    return _CLOSED.get(particle, particle)


def _final(word: str) -> int:
    last = ord(word[-1]) - ord("가") if word else -1
    return last % 28 if 0 <= last < 11172 else 0


def _closed(word: str) -> bool:
    """Whether the last syllable ends in a consonant."""
    return _final(word) > 0


def _asking_form(stem: str, tag: str, past: bool, ending: str) -> str:
    before, _, form = stem.partition("\t")
    if not past:
        if tag in ("VA", "VCP"):
            ending = {"는가": "ᆫ가", "는지": "ᆫ지", "습니까": "ᆸ니까"}.get(ending, ending)
        ending = {"을까요": "ᆯ까요", "습니까": "ᆸ니까" if not _closed(form) else "습니까"}.get(
            ending, ending
        )
    marks = ((form, tag), *((("었", "EP"),) if past else ()), (ending, "EF"))
    return before + _join(marks)


def _modifying_form(stem: str, tag: str, past: bool) -> str:
    before, _, form = stem.partition("\t")
    if past and (tag != "VV" or form in ("있", "없")):
        return before + _join(((form, tag), ("었", "EP"), ("던", "ETM")))
    ending = "ᆫ" if past or (tag in ("VA", "VCP") and form not in ("있", "없")) else "는"
    return before + _join(((form, tag), (ending, "ETM")))


def _as_keywords(phrases: list[str], answer: Answer, random: np.random.Generator) -> str:
    """Only the words: "세종 훈민정음 반포 연도"."""
    nouns = [
        unit.surface
        for phrase in phrases
        for unit in _units(phrase)
        if unit.tag in ("NNG", "NNP", "SL", "SN", "SH") and len(unit.surface) > 1
    ]
    head = answer.head or _WORDS[answer.sort][0]
    return " ".join([*nouns[:8], head]) + ("?" if random.random() < 0.5 else "")


# Kiwi -----------------------------------------------------------------------------------------


@functools.cache
def _kiwi() -> Any:
    try:
        from kiwipiepy import Kiwi
    except ImportError as error:
        raise MissingDependencyError("kiwipiepy", "train", "making questions") from error
    return Kiwi(num_workers=1)


@functools.lru_cache(maxsize=100_000)
def _join(marks: tuple[tuple[str, str], ...]) -> str:
    """Morphemes melted into one surface form: 하 + ᆫ → 한."""
    joined: str = _kiwi().join(marks)
    return joined


@functools.lru_cache(maxsize=100_000)
def _near_nouns(noun: str) -> tuple[str, ...]:
    """At most two nouns that Kiwi's language model holds nearest to ``noun``."""
    try:
        near = _kiwi().most_similar_morphemes((noun, "NNG"), top_n=4)
    except ValueError:  # a noun it does not know
        return ()
    return tuple(m.form for m in near if m.tag == "NNG" and m.score >= 0.67)[:2]
