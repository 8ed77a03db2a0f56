"""One passage of each group of near duplicates, and so many of one article."""

from __future__ import annotations

from collections.abc import Sequence

from odqa.config import RetrievalConfig
from odqa.errors import ConfigError
from odqa.retrieval.ranking import ByRow, PassageLookup, Ranking, RowRetriever, collapse_ranking

_MARGIN = 10  # candidates asked for beyond k at first


class Collapser:
    """Leaves out of a ranking what ``retrieval.collapse_duplicates`` and ``per_article`` say."""

    def __init__(self, store: PassageLookup, groups: ByRow | None, config: RetrievalConfig) -> None:
        """``groups`` are those of ``odqa.store.open_groups``; None where there are none.

        Raises:
            ConfigError: per_article is below 0.
        """
        if config.per_article < 0:
            raise ConfigError(f"retrieval.per_article must be 0 or more, got {config.per_article}")
        self._store = store
        self._groups = groups if config.collapse_duplicates else None
        self._per_article = config.per_article

    @property
    def idle(self) -> bool:
        """Is nothing ever left out?"""
        return self._groups is None and not self._per_article

    def __call__(self, ranked: Ranking, k: int) -> Ranking:
        """At most k of ``ranked``, which stands best first."""
        documents: dict[int, str] = {}
        if self._per_article:
            rows = [row for row, _ in ranked]
            ids = self._store.passage_ids(rows)
            documents = {row: i.rpartition("#")[0] for row, i in zip(rows, ids, strict=True)}
        return collapse_ranking(
            ranked, self._groups, k=k, documents=documents, per_article=self._per_article
        )


class CollapsingRetriever(RowRetriever):
    """Asks a retriever for more than k candidates and leaves out duplicates.

    Where too few are left, it asks for twice as many, that question alone.
    """

    def __init__(self, retriever: RowRetriever, collapse: Collapser) -> None:
        super().__init__(retriever.store)
        self.source = retriever.source
        self._retriever = retriever
        self._collapse = collapse

    def rank(self, questions: Sequence[str], *, k: int) -> list[Ranking]:
        """At most k rows for each question with their scores, best first, ties by passage id."""
        if self._collapse.idle:
            return self._retriever.rank(questions, k=k)
        depth = k + _MARGIN
        found = self._retriever.rank(questions, k=depth)
        return [
            self._collapsed(question, ranked, depth, k)
            for question, ranked in zip(questions, found, strict=True)
        ]

    def _collapsed(self, question: str, ranked: Ranking, depth: int, k: int) -> Ranking:
        kept = self._collapse(ranked, k)
        while len(kept) < k and len(ranked) >= depth:  # there may be more further down
            depth *= 2
            ranked = self._retriever.rank([question], k=depth)[0]
            kept = self._collapse(ranked, k)
        return kept
