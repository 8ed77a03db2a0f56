"""Hard negatives: passages that an index finds for a question and that do not answer it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from odqa.errors import ConfigError
from odqa.evaluation.judgements import RetrievalSet
from odqa.metrics import article_of, holds_answer
from odqa.protocols import Retriever
from odqa.retrieval.cross_encoder import passage_text
from odqa.text.answers import normalize_answer
from odqa.text.shingles import shingle_hashes, squeezed
from odqa.training.ranking import RankingExample, mined_passage
from odqa.types import Candidate, Example, Passage

SAME = 0.8  # of the shorter text's shingles, from which a passage counts as the positive's copy

_BATCH = 64  # questions searched for at once


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question whose negatives are looked for.

    ``relevant`` are ids of passages or articles that were judged to answer it. Where there are no
    ``positives``, the best-ranked passage of each of these is taken for one.
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


def wanted_of_judged(judged: RetrievalSet) -> list[Wanted]:
    """The questions of a retrieval set, with what was judged relevant to them."""
    return [
        Wanted(
            question,
            (),
            tuple(judged.answers.get(question_id, ())),
            frozenset(item for item, grade in judged.qrels[question_id].items() if grade > 0),
        )
        for question_id, question in judged.topics.items()
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
            turns = [c for row in zip_longest(*of_question) for c in row if c is not None]
            known = replace(one, positives=one.positives or _judged_positives(one, turns))
            negatives = _negatives(known, turns, per_question)
            found.append(RankingExample(one.question, known.positives, negatives))
        if progress is not None:
            progress(begin + len(batch), len(wanted))
    return found


def answerless(examples: Sequence[RankingExample], share: float, seed: int) -> list[Example]:
    """Questions with a passage that does not answer them, for a reader to learn refusing.

    Args:
        examples: questions with their negatives.
        share: of these, so many are drawn for each question on average, none twice.
        seed: of the draw.

    Raises:
        ConfigError: ``share`` is negative.
    """
    if share < 0:
        raise ConfigError(f"mined_negatives must be 0 or more, got {share}")
    random = np.random.default_rng(seed)
    found: list[Example] = []
    for example in examples:
        wanted = int(share + random.random())
        negatives = example.negatives
        chosen = random.permutation(len(negatives))[:wanted] if wanted else ()
        for place in sorted(int(i) for i in chosen):
            number = f"negative{len(found)}"
            passage = mined_passage(negatives[place], number)
            found.append(Example(number, example.question, (), passage=passage))
    return found


def _judged_positives(wanted: Wanted, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    best: dict[str, str] = {}
    for candidate in candidates:
        for item in _ids(candidate.passage) & wanted.relevant:
            best.setdefault(item, passage_text(candidate.passage))
    return tuple(dict.fromkeys(best.values()))


def _negatives(wanted: Wanted, candidates: Sequence[Candidate], n: int) -> tuple[str, ...]:
    positives = [_shingles(text) for text in wanted.positives]
    taken: dict[str, None] = {}
    seen: set[str] = set()
    for candidate in candidates:
        if len(taken) == n:
            break
        if candidate.passage.passage_id not in seen:
            seen.add(candidate.passage.passage_id)
            if not is_false_negative(candidate, wanted, positives):
                taken[passage_text(candidate.passage)] = None
    return tuple(taken)


def _ids(passage: Passage) -> set[str]:
    """By which a judgement may name a passage."""
    return {passage.passage_id, article_of(passage.passage_id)}


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
    if wanted.relevant & _ids(passage):
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
