"""A retriever that returns one passage of each group of near duplicates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from odqa.config import RetrievalConfig
from odqa.errors import ConfigError
from odqa.protocols import Retriever
from odqa.retrieval.ranking import ByRow, check_k, collapse_ranking
from odqa.types import Candidate

_MARGIN = 10  # candidates asked for beyond k at first


class RowLookup(Protocol):
    """What is needed of the passage store."""

    def row(self, passage_id: str) -> int: ...


class CollapsingRetriever:
    """Asks a retriever for more than k candidates and leaves out duplicates.

    Where too few are left, it asks for twice as many, that question alone.
    """

    def __init__(
        self,
        retriever: Retriever,
        store: RowLookup,
        groups: ByRow | None,
        config: RetrievalConfig,
    ) -> None:
        """``groups`` are those of ``odqa.store.open_groups``; None where there are none.

        Raises:
            ConfigError: per_article is below 0.
        """
        if config.per_article < 0:
            raise ConfigError(f"retrieval.per_article must be 0 or more, got {config.per_article}")
        self._retriever = retriever
        self._store = store
        self._groups = groups if config.collapse_duplicates else None
        self._per_article = config.per_article

    def retrieve(self, questions: Sequence[str], *, k: int) -> list[list[Candidate]]:
        """At most k candidates for each question, best first, ties by passage id.

        Raises:
            UsageError: k is below 1.
        """
        check_k(k)
        if self._groups is None and not self._per_article:
            return self._retriever.retrieve(questions, k=k)
        depth = k + _MARGIN
        found = self._retriever.retrieve(questions, k=depth)
        return [
            self._collapsed(question, candidates, depth, k)
            for question, candidates in zip(questions, found, strict=True)
        ]

    def _collapsed(
        self, question: str, candidates: list[Candidate], depth: int, k: int
    ) -> list[Candidate]:
        kept = self._collapse(candidates, k)
        while len(kept) < k and len(candidates) >= depth:  # there may be more further down
            depth *= 2
            candidates = self._retriever.retrieve([question], k=depth)[0]
            kept = self._collapse(candidates, k)
        return kept

    def _collapse(self, candidates: list[Candidate], k: int) -> list[Candidate]:
        by_row = {self._store.row(c.passage.passage_id): c for c in candidates}
        ranked = collapse_ranking(
            ((row, candidate.score) for row, candidate in by_row.items()),
            self._groups,
            k=k,
            documents={row: candidate.passage.doc_id for row, candidate in by_row.items()},
            per_article=self._per_article,
        )
        return [dataclasses.replace(by_row[row], rank=rank) for rank, (row, _) in enumerate(ranked)]
