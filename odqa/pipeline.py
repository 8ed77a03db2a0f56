"""Retrieve, rerank, read, fuse: questions in, predictions out, in batches."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from odqa.errors import UsageError
from odqa.protocols import Fusion, Reader, Reranker, Retriever
from odqa.reading.polar import PolarAnswerer
from odqa.text.normalize import without_invisible
from odqa.types import Candidate, Passage, Prediction, Reading


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything the stages said about one question, in the order of the stages.

    ``retrieved`` is what the first stage gave, ``candidates`` what was read (after reranking and
    the cut), ``readings`` the reader's, best first.
    """

    question: str
    retrieved: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    readings: tuple[Reading, ...]
    prediction: Prediction


class Pipeline:
    """A retriever, a reader and a fusion put together; a reranker may stand in between.

    ``retriever`` may be None where passages are always given (``answer_passages``).
    ``n_passages`` candidates are read for a question. ``rerank_depth`` is how many candidates the
    reranker wants to see at least; ``n_readings`` how many readings reach the fusion (default: ten
    times ``n_passages``). ``polar`` answers the yes/no questions, without reader and fusion.
    """

    def __init__(
        self,
        retriever: Retriever | None,
        reader: Reader,
        fusion: Fusion,
        *,
        n_passages: int,
        reranker: Reranker | None = None,
        rerank_depth: int = 20,
        n_readings: int | None = None,
        polar: PolarAnswerer | None = None,
    ) -> None:
        """Put the components together.

        Raises:
            UsageError: a number is below 1.
        """
        self.retriever = retriever
        self.reader = reader
        self.fusion = fusion
        self.reranker = reranker
        self.polar = polar
        self.n_passages = _at_least_one(n_passages, "the number of passages to read")
        self.rerank_depth = _at_least_one(rerank_depth, "the number of passages to rerank")
        self.n_readings = _at_least_one(
            10 * n_passages if n_readings is None else n_readings, "the number of readings"
        )

    def retrieve(self, questions: Sequence[str], k: int) -> list[list[Candidate]]:
        """At most ``k`` candidates a question after the second stage, best first.

        Raises:
            UsageError: a question is empty or no valid Unicode, k is below 1, no retriever.
        """
        questions = prepare_questions(questions)
        return self._candidates(questions, k)[1]

    def answer(self, questions: Sequence[str], *, k: int = 5) -> list[Prediction]:
        """At most ``k`` answers a question from the passages that the retriever finds.

        Raises:
            UsageError: a question is empty or no valid Unicode, k is below 1, no retriever.
        """
        return [trace.prediction for trace in self.trace(questions, k=k)]

    def answer_passages(
        self, questions: Sequence[str], passages: Sequence[Sequence[Passage]], *, k: int = 5
    ) -> list[Prediction]:
        """As ``answer``, but question i is answered from ``passages[i]``, all of which are read.

        Raises:
            UsageError: as ``answer``; the two lengths differ.
        """
        return [trace.prediction for trace in self.trace_passages(questions, passages, k=k)]

    def trace(self, questions: Sequence[str], *, k: int = 5) -> list[Trace]:
        """As ``answer``, with the output of every stage.

        Raises:
            UsageError: as ``answer``.
        """
        _at_least_one(k, "the number of answers")
        questions = prepare_questions(questions)
        retrieved, candidates = self._candidates(questions, self.n_passages)
        return self._read(questions, retrieved, candidates, k)

    def trace_passages(
        self, questions: Sequence[str], passages: Sequence[Sequence[Passage]], *, k: int = 5
    ) -> list[Trace]:
        """As ``answer_passages``, with the output of every stage.

        Raises:
            UsageError: as ``answer_passages``.
        """
        _at_least_one(k, "the number of answers")
        if len(questions) != len(passages):
            raise UsageError(
                f"{len(questions)} questions but passages for {len(passages)}: give one list of "
                "passages for each question"
            )
        questions = prepare_questions(questions)
        given = [given_candidates(of_question) for of_question in passages]
        return self._read(questions, given, given, k)

    def _candidates(
        self, questions: Sequence[str], k: int
    ) -> tuple[list[list[Candidate]], list[list[Candidate]]]:
        if self.retriever is None:
            raise UsageError("this pipeline has no index: only given passages can be read")
        return retrieve_and_rerank(
            self.retriever, self.reranker, questions, k=k, rerank_depth=self.rerank_depth
        )

    def _read(
        self,
        questions: Sequence[str],
        retrieved: Sequence[Sequence[Candidate]],
        candidates: Sequence[Sequence[Candidate]],
        k: int,
    ) -> list[Trace]:
        polar = [self.polar is not None and self.polar.accepts(question) for question in questions]
        to_read = [i for i, is_polar in enumerate(polar) if not is_polar]
        read = dict(zip(to_read, self._readings(questions, candidates, to_read), strict=True))
        traces = []
        for i, question in enumerate(questions):
            if self.polar is not None and polar[i]:
                readings, prediction = self.polar.answer(question, candidates[i], k=k)
            else:
                readings = read[i]
                prediction = self.fusion.fuse(question, readings, k=k)
            first, second = tuple(retrieved[i]), tuple(candidates[i])
            traces.append(Trace(question, first, second, tuple(readings), prediction))
        return traces

    def _readings(
        self,
        questions: Sequence[str],
        candidates: Sequence[Sequence[Candidate]],
        rows: Sequence[int],
    ) -> list[list[Reading]]:
        if not rows:
            return []
        return self.reader.read(
            [questions[i] for i in rows], [candidates[i] for i in rows], k=self.n_readings
        )


def retrieve_and_rerank(
    retriever: Retriever,
    reranker: Reranker | None,
    questions: Sequence[str],
    *,
    k: int,
    rerank_depth: int,
) -> tuple[list[list[Candidate]], list[list[Candidate]]]:
    """What the first stage gave, and the best ``k`` after the second (if there is one).

    The first stage is asked for ``rerank_depth`` candidates at least where a reranker follows.

    Raises:
        UsageError: k is below 1.
    """
    _at_least_one(k, "the number of passages")
    if not questions:
        return [], []
    depth = k if reranker is None else max(k, rerank_depth)
    retrieved = retriever.retrieve(questions, k=depth)
    candidates = retrieved if reranker is None else reranker.rerank(questions, retrieved)
    return retrieved, [of_question[:k] for of_question in candidates]


def prepare_questions(questions: Sequence[str]) -> list[str]:
    """The questions in NFC, without white space around them.

    Raises:
        UsageError: a question is empty, or holds bytes that were no valid text.
    """
    return [_prepare(question) for question in questions]


def given_candidates(passages: Sequence[Passage]) -> list[Candidate]:
    """Passages that no retriever ranked: equal scores, the order given."""
    return [Candidate(passage, 0.0, rank, "given") for rank, passage in enumerate(passages)]


def _prepare(question: str) -> str:
    question = without_invisible(question.replace("\0", " "))  # they may stand within a syllable
    question = unicodedata.normalize("NFC", question).strip()
    if not question:
        raise UsageError("the question is empty: ask something")
    if any("\ud800" <= character <= "\udfff" for character in question):
        raise UsageError("the question is not valid Unicode: give it in UTF-8")
    return question


def _at_least_one(number: int, what: str) -> int:
    if number < 1:
        raise UsageError(f"{what} must be at least 1, got {number}")
    return number
