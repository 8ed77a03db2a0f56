"""The merge of a sparse and a dense leg into one ranking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from odqa.config import RetrievalConfig
from odqa.errors import ConfigError
from odqa.retrieval.collapse import Collapser
from odqa.retrieval.overlap import OverlapOrder
from odqa.retrieval.ranking import Ranking, RowRetriever, best_first

MERGES = ("weighted", "rrf")


def min_max(scores: Mapping[int, float]) -> dict[int, float]:
    """Scores moved and stretched to [0, 1]; all 1 where they are all equal (or there is one)."""
    if not scores:
        return {}
    least, greatest = min(scores.values()), max(scores.values())
    if greatest == least:
        return dict.fromkeys(scores, 1.0)
    return {key: (score - least) / (greatest - least) for key, score in scores.items()}


def weighted_merge(
    sparse: Mapping[int, float], dense: Mapping[int, float], *, sparse_weight: float
) -> dict[int, float]:
    """Convex combination of min-max normalised scores, by row.

        score(d) = w * (s(d) - min s) / (max s - min s) + (1 - w) * (e(d) - min e) / (max e - min e)

    A passage that a leg does not list has 0 there, as its last one has. S. Bruch, S. Gai and
    A. Ingber, An Analysis of Fusion Functions for Hybrid Retrieval (ACM TOIS, 2023).
    """
    normal_sparse, normal_dense = min_max(sparse), min_max(dense)
    return {
        key: sparse_weight * normal_sparse.get(key, 0.0)
        + (1 - sparse_weight) * normal_dense.get(key, 0.0)
        for key in normal_sparse | normal_dense
    }


def reciprocal_rank_fusion(rankings: Sequence[Iterable[int]], *, rrf_k: float) -> dict[int, float]:
    """Sum over the rankings of 1 / (rrf_k + rank), rank from 1, by row.

    G. V. Cormack, C. L. A. Clarke and S. Büttcher, Reciprocal Rank Fusion Outperforms Condorcet and
    Individual Rank Learning Methods (SIGIR 2009); they take rrf_k = 60.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + 1 / (rrf_k + rank)
    return scores


def merge_rankings(sparse: Ranking, dense: Ranking, config: RetrievalConfig) -> dict[int, float]:
    """The merged score of every row in one question's two rankings; either may be empty."""
    if config.merge == "weighted":
        return weighted_merge(dict(sparse), dict(dense), sparse_weight=config.sparse_weight)
    rankings = [[row for row, _ in leg] for leg in (sparse, dense)]
    return reciprocal_rank_fusion(rankings, rrf_k=config.rrf_k)


class HybridRetriever(RowRetriever):
    """Merges ``config.depth`` candidates of each leg, and more where those do not give k."""

    source = "hybrid"

    def __init__(
        self,
        sparse: RowRetriever,
        dense: RowRetriever,
        config: RetrievalConfig,
        collapse: Collapser | None = None,
        order: OverlapOrder | None = None,
    ) -> None:
        """Both legs are of the same passage store.

        ``order`` and then ``collapse`` are applied to what is merged.

        Raises:
            ConfigError: merge is unknown, or sparse_weight, depth or rrf_k is out of range.
        """
        if config.merge not in MERGES:
            raise ConfigError(
                f"retrieval.merge: unknown '{config.merge}'; known: {', '.join(MERGES)}"
            )
        if not 0 <= config.sparse_weight <= 1:
            raise ConfigError(
                f"retrieval.sparse_weight must lie in [0, 1], got {config.sparse_weight}"
            )
        if config.depth < 1:
            raise ConfigError(f"retrieval.depth must be 1 or more, got {config.depth}")
        if config.rrf_k < 0:
            raise ConfigError(f"retrieval.rrf_k must be 0 or more, got {config.rrf_k}")
        super().__init__(sparse.store)
        self.sparse = sparse
        self.dense = dense
        self._config = config
        self._collapse = collapse or Collapser(sparse.store, None, config)
        self._order = order

    def rank(self, questions: Sequence[str], *, k: int) -> list[Ranking]:
        """At most k rows for each question with their merged scores, best first.

        Where the merge leaves fewer, the legs are asked for twice as many, again and again. The
        first ``config.depth`` stand as they do when no more are asked for: the scores of a deeper
        merge are others, so what it adds comes behind.
        """
        merged: list[Ranking] = [[] for _ in questions]
        kept: list[Ranking] = [[] for _ in questions]
        asked, depth = list(range(len(questions))), self._config.depth
        while asked:
            texts = [questions[i] for i in asked]
            legs = [leg.rank(texts, k=depth) for leg in (self.sparse, self.dense)]
            short = []
            for i, sparse, dense in zip(asked, *legs, strict=True):
                found = self._merge(sparse, dense)
                if len(kept[i]) >= min(k, self._config.depth):
                    merged[i] = _behind(merged[i], found)
                else:
                    merged[i] = self._order(questions[i], found) if self._order else found
                kept[i] = self._collapse(merged[i], k)
                if len(kept[i]) < k and max(len(sparse), len(dense)) >= depth:
                    short.append(i)
            asked, depth = short, 2 * depth
        return kept

    def _merge(self, sparse: Ranking, dense: Ranking) -> Ranking:
        scores = merge_rankings(sparse, dense, self._config)
        rows = np.fromiter(scores, dtype=np.int64, count=len(scores))
        # in double precision, as the merge is: best_first sorts by what it is given
        values = np.fromiter(scores.values(), dtype=np.float64, count=len(scores))
        return best_first(rows, values, len(rows), self.store)


def _behind(ranked: Ranking, deeper: Ranking) -> Ranking:
    """``ranked`` and behind it what ``deeper`` adds, in its order, with scores below the last."""
    known = {row for row, _ in ranked}
    added = [(row, score) for row, score in deeper if row not in known]
    if not added:
        return ranked
    shift = ranked[-1][1] - 1 - added[0][1]
    return ranked + [(row, score + shift) for row, score in added]
