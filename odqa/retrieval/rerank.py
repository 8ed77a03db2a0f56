"""The second stage: a slower, better encoder looks at the first candidates again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from odqa.config import RerankConfig
from odqa.errors import ConfigError
from odqa.protocols import Encoder
from odqa.retrieval.ranking import rerank_candidates
from odqa.types import Candidate, Passage


def by_maximum(scores: Sequence[float]) -> list[float]:
    """Scores divided by the greatest of them; all 0 where that is not above 0."""
    greatest = max(scores, default=0.0)
    return [score / greatest if greatest > 0 else 0.0 for score in scores]


def mixed_scores(
    cosines: Sequence[float], first_stage: Sequence[float], *, weight: float
) -> list[float]:
    """weight * cosine + (1 - weight) * first stage / its maximum, for one question.

    ``first_stage`` is in falling order and may be longer than ``cosines``: candidates beyond the
    depth of the second stage count with the least cosine, -1, so they stay behind those it saw, in
    the order they had.
    """
    seen = [*cosines, *[-1.0] * (len(first_stage) - len(cosines))]
    return [
        weight * cosine + (1 - weight) * first
        for cosine, first in zip(seen, by_maximum(first_stage), strict=True)
    ]


def check_rerank(config: RerankConfig) -> None:
    """Refuse settings out of range.

    Raises:
        ConfigError: weight or depth is.
    """
    if not 0 <= config.weight <= 1:
        raise ConfigError(f"rerank.weight must lie in [0, 1], got {config.weight}")
    if config.depth < 1:
        raise ConfigError(f"rerank.depth must be 1 or more, got {config.depth}")


class EncoderReranker:
    """Orders the first ``config.depth`` candidates by cosine mixed with the first stage's score."""

    def __init__(self, encoder: Encoder, config: RerankConfig) -> None:
        """
        Raises:
            ConfigError: weight or depth is out of range.
        """
        check_rerank(config)
        self._encoder = encoder
        self._config = config

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self._encoder.fingerprint

    def rerank(
        self, questions: Sequence[str], candidates: Sequence[Sequence[Candidate]]
    ) -> list[list[Candidate]]:
        """The same candidates in a better order; a passage of several questions is encoded once."""
        seen = [found[: self._config.depth] for found in candidates]
        passages: dict[str, Passage] = {
            c.passage.passage_id: c.passage for found in seen for c in found
        }
        if not passages:
            return [[] for _ in questions]
        rows = {passage_id: row for row, passage_id in enumerate(passages)}
        passage_vectors = self._encoder.encode_passages(list(passages.values()))
        question_vectors = self._encoder.encode_questions(questions)
        reranked = []
        for found, head, question in zip(candidates, seen, question_vectors, strict=True):
            vectors = passage_vectors[[rows[c.passage.passage_id] for c in head]]
            cosines = np.einsum("nd,d->n", vectors.astype(np.float64), question.astype(np.float64))
            scores = mixed_scores(
                cosines.tolist(), [c.score for c in found], weight=self._config.weight
            )
            reranked.append(rerank_candidates(zip(found, scores, strict=True), "rerank"))
        return reranked
