"""Hard negatives: passages that an index finds for a question and that do not answer it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from odqa.metrics import article_of, holds_answer
from odqa.protocols import Retriever
from odqa.retrieval.cross_encoder import passage_text
from odqa.text.answers import normalize_answer
from odqa.text.shingles import shingle_hashes, squeezed
from odqa.training.reranker import RankingExample
from odqa.types import Candidate, Example

SAME = 0.8  # of the shorter text's shingles, from which a passage counts as the positive's copy

_BATCH = 64  # questions searched for at once


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question whose negatives are looked for.

    ``relevant`` are ids of passages or articles that were judged to answer it.
    """

    question: str
    positives: tuple[str, ...]
    answers: tuple[str, ...] = ()
    relevant: frozenset[str] = frozenset()


def wanted_of(examples: Iterable[Example]) -> list[Wanted]:
    """The answerable questions of a reading data set; the gold passage is the positive."""
    return [
        Wanted(
            example.question,
            (passage_text(example.passage),),
            example.answers,
            frozenset({example.passage.passage_id}),
        )
        for example in examples
        if example.passage is not None and example.answers
    ]


def mine_negatives(
    wanted: Sequence[Wanted],
    retrievers: Sequence[Retriever],
    *,
    per_question: int = 8,
    depth: int = 50,
    progress: Callable[[int, int], None] | None = None,
) -> list[RankingExample]:
    """Each question with the best-ranked passages that are none of its answers'.

    The rankings are taken in turns, the first passage of each, then the second. Left out are
    passages that ``is_false_negative`` suspects.

    Args:
        wanted: the questions.
        retrievers: such as the sparse and the dense leg of an index.
        per_question: at most so many are taken.
        depth: candidates asked of each retriever.
        progress: called with the number of questions done, and of all.
    """
    found = []
    for begin in range(0, len(wanted), _BATCH):
        batch = wanted[begin : begin + _BATCH]
        questions = [one.question for one in batch]
        rankings = [retriever.retrieve(questions, k=depth) for retriever in retrievers]
        for one, *of_question in zip(batch, *rankings, strict=True):
            negatives = _negatives(one, of_question, per_question)
            found.append(RankingExample(one.question, one.positives, negatives))
        if progress is not None:
            progress(begin + len(batch), len(wanted))
    return found


def _negatives(wanted: Wanted, rankings: Sequence[Sequence[Candidate]], n: int) -> tuple[str, ...]:
    positives = [_shingles(text) for text in wanted.positives]
    taken: dict[str, str] = {}
    seen: set[str] = set()
    for row in zip_longest(*rankings):
        for candidate in row:
            if candidate is None or candidate.passage.passage_id in seen:
                continue
            seen.add(candidate.passage.passage_id)
            text = passage_text(candidate.passage)
            if text not in taken and not is_false_negative(candidate, wanted, positives):
                taken[text] = text
                if len(taken) == n:
                    return tuple(taken)
    return tuple(taken)


def is_false_negative(
    candidate: Candidate, wanted: Wanted, positives: Sequence[frozenset[int]] | None = None
) -> bool:
    """Whether a passage may well answer the question.

    It may if it or its article was judged relevant, if an answer stands in it or in its title
    (``answers_stand_in``), or if it is a copy or a part of a positive: they share ``SAME`` of the
    shorter one's shingles.

    Args:
        candidate: the passage.
        wanted: the question.
        positives: the positives' shingles, where they are known already.
    """
    passage = candidate.passage
    if wanted.relevant & {passage.passage_id, article_of(passage.passage_id)}:
        return True
    text = passage_text(passage)
    if answers_stand_in(text, wanted.answers):
        return True
    if positives is None:
        positives = [_shingles(positive) for positive in wanted.positives]
    own = _shingles(text)
    return any(len(own & other) >= SAME * min(len(own), len(other)) for other in positives)


def answers_stand_in(text: str, answers: Iterable[str]) -> bool:
    """Whether an answer stands in a text, however it is spaced, punctuated or bracketed.

    A number or a Latin word must stand whole; any other answer is looked for in its normal form
    (``normalize_answer``), so "제2차 세계대전" stands in "《제2차 세계 대전》".
    """
    answers = list(answers)
    if holds_answer(text, answers):
        return True
    keys = {key for answer in answers if not (key := normalize_answer(answer)).isascii()}
    whole = normalize_answer(text) if keys else ""
    return any(key in whole for key in keys)


def _shingles(text: str) -> frozenset[int]:
    hashes, _ = shingle_hashes([squeezed(text)])
    return frozenset(hashes.tolist())
