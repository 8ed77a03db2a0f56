"""The records that flow through the system, from a source text to an answer.

All offsets are counted in characters of NFC text and are half-open: ``text[start:end]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Document:
    """One article of a corpus, in NFC."""

    doc_id: str
    title: str
    text: str
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of an article: ``document.text[start:end] == text``.

    ``passage_id`` is ``DOC_ID#N``, N counting from 0 within the article.
    ``heading`` is the section heading the passage stands under ("" for the lead), after the
    one over it where nothing else stands between the two: "생애 › 어린 시절".
    """

    passage_id: str
    doc_id: str
    title: str
    text: str
    start: int
    end: int
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """The index terms of a text by field, each in order and as often as it occurs.

    ``words`` are what the tokenizer takes the text to consist of. ``parts`` are what compound words
    are made of, ``bigrams`` the pairs of neighbouring syllables that are no word of their own: by
    these, names that the dictionary does not know and words spaced otherwise are still found.
    """

    words: list[str]
    parts: list[str]
    bigrams: list[str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A retrieved passage. ``rank`` counts from 0; a higher ``score`` is better.

    ``source`` names the stage that gave score and rank: "sparse", "dense", "hybrid", "rerank" or
    "given".
    """

    passage: Passage
    score: float
    rank: int
    source: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found in one candidate.

    ``score`` is comparable across all passages read for one question (a logit difference against
    "no answer here", not a per-passage softmax). ``candidate.passage.text[start:end] == text``;
    both offsets are None for a text that is no span; ``sentence`` then bounds what it rests on.
    """

    candidate: Candidate
    text: str
    score: float
    start: int | None
    end: int | None
    sentence: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer string with everything that speaks for it, best evidence first."""

    text: str
    score: float
    probability: float
    reader_score: float
    retrieval_score: float
    evidence: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """All answers to one question, best first, and the probability that none is right."""

    question: str
    answers: tuple[Answer, ...]
    no_answer_probability: float


@dataclass(frozen=True, slots=True)
class Example:
    """A question of a data set; ``answers`` is empty where it has none.

    ``passage`` is the gold passage where the data set gives one.
    ``answer_starts`` are the offsets of ``answers`` in ``passage.text`` where known, else empty.
    """

    question_id: str
    question: str
    answers: tuple[str, ...]
    passage: Passage | None = None
    answer_starts: tuple[int, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
