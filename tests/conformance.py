"""What every implementation of a protocol must do; a test of one calls the function for it.

Length, order, at most k, empty input, determinism, and a batch equal to one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from odqa.errors import UsageError
from odqa.protocols import (
    Encoder,
    Fusion,
    Reader,
    Reranker,
    Retriever,
    Tokenizer,
)
from odqa.types import Candidate, Passage, Prediction, Reading


def make_passage(passage_id: str, text: str, title: str = "") -> Passage:
    return Passage(passage_id, passage_id.partition("#")[0], title, text, 0, len(text))


class ListStore:
    """Passages in a list, as a retriever sees the passage store."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = list(passages)

    def __len__(self) -> int:
        return len(self._passages)

    def __getitem__(self, row: int) -> Passage:
        return self._passages[row]

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        return [self._passages[row] for row in rows]

    def passage_ids(self, rows: Sequence[int]) -> list[str]:
        return [self._passages[row].passage_id for row in rows]


def ids(candidates: Sequence[Candidate]) -> list[str]:
    return [candidate.passage.passage_id for candidate in candidates]


def assert_ranked(candidates: Sequence[Candidate]) -> None:
    """Best first, ties by passage id, ranks from 0, finite scores, no passage twice, one source."""
    keys = [(-candidate.score, candidate.passage.passage_id) for candidate in candidates]
    assert keys == sorted(keys)
    assert [candidate.rank for candidate in candidates] == list(range(len(candidates)))
    assert all(math.isfinite(candidate.score) for candidate in candidates)
    assert len(set(ids(candidates))) == len(candidates)
    assert len({candidate.source for candidate in candidates}) <= 1


def assert_same_candidates(
    first: Sequence[Candidate], second: Sequence[Candidate], *, tolerance: float
) -> None:
    """Equal passages in equal order; scores within ``tolerance`` may change places."""
    assert len(first) == len(second)
    scores = {candidate.passage.passage_id: candidate.score for candidate in first}
    if tolerance == 0:
        assert ids(first) == ids(second)
    for mine, other in zip(first, second, strict=True):
        assert mine.score == pytest.approx(other.score, abs=tolerance, rel=0)
        mate = scores.get(other.passage.passage_id, other.score)
        assert mate == pytest.approx(other.score, abs=tolerance, rel=0)


def check_tokenizer(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.fingerprint
    assert tokenizer.fingerprint == tokenizer.fingerprint
    assert tokenizer.tokenize([]) == []
    assert tokenizer.tokenize([""]) == [[]]
    batch = tokenizer.tokenize(texts)
    assert len(batch) == len(texts)
    assert all(term and not term.isspace() for terms in batch for term in terms)
    assert batch == tokenizer.tokenize(texts)
    assert batch == [tokenizer.tokenize([text])[0] for text in texts]


def check_encoder(
    encoder: Encoder,
    texts: Sequence[str],
    passages: Sequence[Passage],
    *,
    tolerance: float = 1e-5,
) -> None:
    """``texts`` and ``passages`` must all hold a token; two of the texts must differ."""
    assert isinstance(encoder, Encoder)
    assert encoder.fingerprint
    assert encoder.dim > 0
    assert encoder.encode_questions([]).shape == (0, encoder.dim)
    assert encoder.encode_passages([]).shape == (0, encoder.dim)
    assert not encoder.encode_questions([""]).any()
    questions = encoder.encode_questions(texts)
    documents = encoder.encode_passages(passages)
    assert len(np.unique(questions.round(4), axis=0)) > 1
    for vectors, n in ((questions, len(texts)), (documents, len(passages))):
        assert vectors.shape == (n, encoder.dim)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(questions, encoder.encode_questions(texts))
    singly = np.concatenate([encoder.encode_questions([text]) for text in texts])
    np.testing.assert_allclose(questions, singly, atol=tolerance)
    singly = np.concatenate([encoder.encode_passages([passage]) for passage in passages])
    np.testing.assert_allclose(documents, singly, atol=tolerance)


def check_retriever(
    retriever: Retriever, questions: Sequence[str], *, k: int, tolerance: float = 0.0
) -> None:
    """``tolerance``: how far scores of a batch may lie from those of one by one."""
    assert isinstance(retriever, Retriever)
    assert retriever.retrieve([], k=k) == []
    with pytest.raises(UsageError):
        retriever.retrieve(questions, k=0)
    batch = retriever.retrieve(questions, k=k)
    assert len(batch) == len(questions)
    assert any(batch), "none of the questions finds anything: the check would be empty"
    for candidates in batch:
        assert len(candidates) <= k
        assert_ranked(candidates)
    assert batch == retriever.retrieve(questions, k=k)
    for question, candidates in zip(questions, batch, strict=True):
        alone = retriever.retrieve([question], k=k)[0]
        assert_same_candidates(candidates, alone, tolerance=tolerance)
    backwards = retriever.retrieve(list(reversed(questions)), k=k)
    for candidates, other in zip(batch, reversed(backwards), strict=True):
        assert_same_candidates(candidates, other, tolerance=tolerance)


def check_fewer_is_a_prefix(retriever: Retriever, questions: Sequence[str], *, k: int) -> None:
    """Asking for fewer gives the first of the same list."""
    many = retriever.retrieve(questions, k=k)
    for fewer in range(1, k):
        for found, all_found in zip(retriever.retrieve(questions, k=fewer), many, strict=True):
            assert found == all_found[:fewer]


def check_reranker(
    reranker: Reranker,
    questions: Sequence[str],
    candidates: Sequence[Sequence[Candidate]],
    *,
    tolerance: float = 1e-5,
) -> None:
    assert isinstance(reranker, Reranker)
    assert reranker.rerank([], []) == []
    assert reranker.rerank([questions[0]], [[]]) == [[]]
    batch = reranker.rerank(questions, candidates)
    assert len(batch) == len(questions)
    for found, reranked in zip(candidates, batch, strict=True):
        assert_ranked(reranked)
        assert sorted(ids(found)) == sorted(ids(reranked))
    assert batch == reranker.rerank(questions, candidates)
    for question, found, reranked in zip(questions, candidates, batch, strict=True):
        alone = reranker.rerank([question], [found])[0]
        assert_same_candidates(reranked, alone, tolerance=tolerance)


def check_reader(
    reader: Reader,
    questions: Sequence[str],
    candidates: Sequence[Sequence[Candidate]],
    *,
    k: int,
    tolerance: float = 1e-3,
) -> None:
    assert isinstance(reader, Reader)
    assert reader.read([], [], k=k) == []
    assert reader.read([questions[0]], [[]], k=k) == [[]]
    batch = reader.read(questions, candidates, k=k)
    assert len(batch) == len(questions)
    for found, readings in zip(candidates, batch, strict=True):
        assert len(readings) <= k
        scores = [reading.score for reading in readings]
        assert scores == sorted(scores, reverse=True)
        for reading in readings:
            assert_reading(reading, found)
    assert batch == reader.read(questions, candidates, k=k)
    for question, found, readings in zip(questions, candidates, batch, strict=True):
        alone = reader.read([question], [found], k=k)[0]
        assert len(alone) == len(readings)
        for mine, other in zip(readings, alone, strict=True):
            assert mine.score == pytest.approx(other.score, abs=tolerance)


def assert_reading(reading: Reading, candidates: Sequence[Candidate]) -> None:
    """A finite score, a candidate that was given, and offsets that give the text."""
    assert math.isfinite(reading.score)
    assert reading.candidate in candidates
    assert reading.text.strip()
    if reading.start is None or reading.end is None:
        assert reading.start is None
        assert reading.end is None
    else:
        assert reading.candidate.passage.text[reading.start : reading.end] == reading.text


def check_fusion(fusion: Fusion, question: str, readings: Sequence[Reading], *, k: int) -> None:
    assert isinstance(fusion, Fusion)
    nothing = fusion.fuse(question, [], k=k)
    assert nothing.answers == ()
    assert nothing.no_answer_probability == pytest.approx(1.0)
    prediction = fusion.fuse(question, readings, k=k)
    assert_prediction(prediction, readings, k)
    assert prediction.question == question
    assert prediction == fusion.fuse(question, readings, k=k)
    assert prediction == fusion.fuse(question, list(reversed(readings)), k=k)


def assert_prediction(prediction: Prediction, readings: Sequence[Reading], k: int) -> None:
    """At most k answers, best first, probabilities that leave room for "no answer"."""
    answers = prediction.answers
    assert len(answers) <= k
    assert [a.score for a in answers] == sorted((a.score for a in answers), reverse=True)
    probabilities = [answer.probability for answer in answers]
    assert all(0 <= p <= 1 for p in (*probabilities, prediction.no_answer_probability))
    assert sum(probabilities) + prediction.no_answer_probability <= 1 + 1e-6
    for answer in answers:
        assert answer.evidence
        assert all(reading in readings for reading in answer.evidence)
