"""How much of a question stands in a passage, letter by letter, as a part of the first stage.

Both legs look at a passage as a whole: BM25 counts its title three times, so that all passages of
an article look alike, and a static encoder sees a bag of pieces. Here the passages themselves are
looked at. What counts are pairs of neighbouring letters, spaces and marks left out: they need
neither a dictionary nor an index, and particles and spacing hardly disturb them.
"""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from odqa.config import OverlapConfig
from odqa.errors import ConfigError
from odqa.retrieval.ranking import PassageLookup, Ranking, RowRetriever, best_first
from odqa.text.normalize import letters, uniform_dots, without_parenthesis
from odqa.types import Passage

_SENTENCE_ENDS = (". ", "? ", "! ")
_SEAM = "\n"  # no letter: nothing of a question reaches over it
_MARKS = " .,·:;?!~-_/\"'()[]<>《》〈〉「」『』“”‘’"


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a passage shares with a question; the fields are named as their weights.

    ``passage``: the share of the question's letter pairs that stand in title, heading or text.
    ``sentence``: likewise in title, heading or the one sentence that adds the most.
    ``run``: the letters of the longest stretch of the question that stands in one sentence.
    ``title``: the share of the title's letter pairs that stand in the question, a parenthesis at
    the title's end ("뇌 (동물)") left out.
    ``length``: ln(1 + characters of the text); a stub says little.
    """

    passage: float
    sentence: float
    run: float
    title: float
    length: float


FEATURES = tuple(field.name for field in dataclasses.fields(Overlap))


def overlap_of(question: str, passages: Sequence[Passage]) -> list[Overlap]:
    """The overlap of each passage with the question."""
    asked = letters(question)
    pairs = _pairs(asked)
    return [_overlap(asked, pairs, passage) for passage in passages]


def _overlap(asked: str, pairs: Sequence[str], passage: Passage) -> Overlap:
    title = letters(without_parenthesis(passage.title))
    named = title + _SEAM + letters(passage.heading)
    text = _letters_by_sentence(passage.text)
    others = [pair for pair in pairs if pair not in named]
    n_named = len(pairs) - len(others)
    in_text = [pair for pair in others if pair in text]
    in_sentence = max(sum(pair in sentence for pair in in_text) for sentence in text.split(_SEAM))
    n_pairs = max(len(pairs), 1)
    of_title = _pairs(title)
    return Overlap(
        passage=(n_named + len(in_text)) / n_pairs,
        sentence=(n_named + in_sentence) / n_pairs,
        run=_longest_run(asked, text),
        title=sum(pair in asked for pair in of_title) / max(len(of_title), 1),
        length=math.log(1 + len(passage.text)),
    )


def _letters_by_sentence(text: str) -> str:
    """Close to the ``letters`` of each sentence, with a seam between them.

    Only the usual marks are taken out: a tenth of a search would go into looking for all.
    """
    folded = unicodedata.normalize("NFKC", uniform_dots(text)).casefold()
    for end in _SENTENCE_ENDS:
        folded = folded.replace(end, _SEAM)
    for mark in _MARKS:
        folded = folded.replace(mark, "")
    return folded


def _pairs(text: str) -> list[str]:
    """The different pairs of neighbouring letters; a letter alone stands for itself."""
    if len(text) < 2:
        return [text] if text else []
    return list(dict.fromkeys(text[i : i + 2] for i in range(len(text) - 1)))


def _longest_run(asked: str, text: str) -> int:
    """The length of the longest substring of ``asked`` that stands in ``text``."""
    longest = 0
    for start in range(len(asked)):
        while start + longest < len(asked) and asked[start : start + longest + 1] in text:
            longest += 1
    return longest


class OverlapOrder:
    """Orders the first candidates by the stage's score and their overlap with the question.

        score(d) = (s(d) - s(n)) / (s(1) - s(n)) + sum over the features f of w(f) * f(q, d)

    s(i) is the score of the i-th candidate, n the last that is looked at; where s(1) = s(n), the
    first term is 1. Those behind get the first term alone, which is 0 or less, so that they stay
    behind and in their order.
    """

    def __init__(self, store: PassageLookup, config: OverlapConfig) -> None:
        """
        Raises:
            ConfigError: depth or a weight is below 0.
        """
        for key, value in dataclasses.asdict(config).items():
            if value < 0:
                raise ConfigError(f"overlap.{key} must be 0 or more, got {value}")
        self._store = store
        self._weights = [float(getattr(config, name)) for name in FEATURES]
        self.depth = config.depth if any(self._weights) else 0

    def __call__(self, question: str, ranked: Ranking) -> Ranking:
        """All of ``ranked``, which stands best first, ordered anew."""
        head = [row for row, _ in ranked[: self.depth]]
        if not head:
            return ranked
        overlaps = overlap_of(question, self._store.passages(head))
        added = [self._weighted(overlap) for overlap in overlaps] + [0.0] * (
            len(ranked) - len(head)
        )
        first, last = ranked[0][1], ranked[len(head) - 1][1]
        scores = [
            _stretched(score, first, last, place < len(head)) + more
            for place, ((_, score), more) in enumerate(zip(ranked, added, strict=True))
        ]
        rows = np.fromiter((row for row, _ in ranked), dtype=np.int64, count=len(ranked))
        return best_first(rows, np.array(scores), len(ranked), self._store)

    def _weighted(self, overlap: Overlap) -> float:
        pairs = zip(self._weights, FEATURES, strict=True)
        return math.fsum(weight * getattr(overlap, name) for weight, name in pairs)


def _stretched(score: float, first: float, last: float, seen: bool) -> float:
    if first > last:
        return (score - last) / (first - last)
    return 1.0 if seen else score - last


class OverlapRetriever(RowRetriever):
    """One leg, its first candidates ordered by their overlap with the question too."""

    def __init__(self, retriever: RowRetriever, order: OverlapOrder) -> None:
        super().__init__(retriever.store)
        self.source = retriever.source
        self._retriever = retriever
        self._order = order

    def rank(self, questions: Sequence[str], *, k: int) -> list[Ranking]:
        """At most k rows for each question with their scores, best first, ties by passage id."""
        found = self._retriever.rank(questions, k=max(k, self._order.depth))
        return [
            self._order(question, ranked)[:k]
            for question, ranked in zip(questions, found, strict=True)
        ]
