"""The seams of the system: what a component must offer to be put in another's place.

Every protocol is batch-first. ``tests/conformance.py`` is one suite that every implementation of a
protocol must pass: length, order, at most k, empty input, determinism, batch equals one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from odqa.types import Candidate, Passage, Prediction, Reading, Terms

Vectors = npt.NDArray[np.float32]


@runtime_checkable
class Tokenizer(Protocol):
    """Text to index terms.

    ``fingerprint`` changes whenever the same text could give other terms (kind, settings,
    dictionary version); it is recorded in an index and checked on every query.
    """

    @property
    def fingerprint(self) -> str: ...

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text, in order, repeated as often as they occur."""
        ...

    def terms(self, texts: Sequence[str]) -> list[Terms]:
        """The same words, and the parts and bigrams beside them where the tokenizer has any."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Text to vectors of unit length, so that an inner product is a cosine."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def encode_questions(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32 rows of unit length (a row of zeros where a text has no token)."""
        ...

    def encode_passages(self, passages: Sequence[Passage]) -> Vectors:
        """As ``encode_questions``, for passages; the title is seen by the encoder."""
        ...


@runtime_checkable
class TermEncoder(Encoder, Protocol):
    """An encoder over index terms: what has been tokenised for the sparse leg is not again."""

    @property
    def terms_fingerprint(self) -> str:
        """The tokenizer of its terms."""
        ...

    @property
    def title_weight(self) -> int:
        """How often a passage's title counts among its terms."""
        ...

    def encode_numbered(
        self,
        vocabulary: Sequence[str],
        ids: npt.NDArray[np.int32],
        counts: npt.NDArray[np.int32],
    ) -> Vectors:
        """As ``encode_passages``; the first ``counts[0]`` of ``ids`` are the first passage's."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Questions to passages: at most k for each question, best first, ties by passage id."""

    def retrieve(self, questions: Sequence[str], *, k: int) -> list[list[Candidate]]: ...


@runtime_checkable
class Reranker(Protocol):
    """A second stage: the same candidates in a better order, scores and ranks made anew."""

    def rerank(
        self, questions: Sequence[str], candidates: Sequence[Sequence[Candidate]]
    ) -> list[list[Candidate]]: ...


@runtime_checkable
class Reader(Protocol):
    """Candidates to readings: at most k for each question, best first.

    Scores are comparable across one question's passages.
    """

    def read(
        self,
        questions: Sequence[str],
        candidates: Sequence[Sequence[Candidate]],
        *,
        k: int,
    ) -> list[list[Reading]]: ...


@runtime_checkable
class Fusion(Protocol):
    """Readings of one question to its answers, best first, at most k."""

    def fuse(self, question: str, readings: Sequence[Reading], *, k: int) -> Prediction: ...
