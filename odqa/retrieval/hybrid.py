"""The merge of a sparse and a dense leg into one ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from odqa.config import RetrievalConfig
from odqa.errors import ConfigError
from odqa.protocols import Retriever
from odqa.retrieval.ranking import check_k, rerank_candidates
from odqa.types import Candidate

MERGES = ("weighted", "rrf")


def min_max(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores moved and stretched to [0, 1]; all 1 where they are all equal (or there is one)."""
    if not scores:
        return {}
    least, greatest = min(scores.values()), max(scores.values())
    if greatest == least:
        return dict.fromkeys(scores, 1.0)
    return {key: (score - least) / (greatest - least) for key, score in scores.items()}


def weighted_merge(
    sparse: Mapping[str, float], dense: Mapping[str, float], *, sparse_weight: float
) -> dict[str, float]:
    """Convex combination of min-max normalised scores, by passage id.

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


def reciprocal_rank_fusion(rankings: Sequence[Sequence[str]], *, rrf_k: float) -> dict[str, float]:
    """Sum over the rankings of 1 / (rrf_k + rank), rank from 1, by passage id.

    G. V. Cormack, C. L. A. Clarke and S. Büttcher, Reciprocal Rank Fusion Outperforms Condorcet and
    Individual Rank Learning Methods (SIGIR 2009); they take rrf_k = 60.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + 1 / (rrf_k + rank)
    return scores


def merge_candidates(
    sparse: Sequence[Candidate], dense: Sequence[Candidate], config: RetrievalConfig, *, k: int
) -> list[Candidate]:
    """One question's two lists as one of at most k; either may be empty."""
    by_id = {c.passage.passage_id: c for c in (*dense, *sparse)}
    legs = [{c.passage.passage_id: c.score for c in leg} for leg in (sparse, dense)]
    if config.merge == "weighted":
        scores = weighted_merge(*legs, sparse_weight=config.sparse_weight)
    else:
        scores = reciprocal_rank_fusion([list(leg) for leg in legs], rrf_k=config.rrf_k)
    return rerank_candidates(((by_id[key], score) for key, score in scores.items()), "hybrid", k)


class HybridRetriever:
    """Asks both legs for ``config.depth`` candidates (k, if that is more) and merges them."""

    def __init__(self, sparse: Retriever, dense: Retriever, config: RetrievalConfig) -> None:
        """
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
        self._sparse = sparse
        self._dense = dense
        self._config = config

    def retrieve(self, questions: Sequence[str], *, k: int) -> list[list[Candidate]]:
        """At most k candidates for each question, best first, ties by passage id.

        Raises:
            UsageError: k is below 1.
        """
        check_k(k)
        depth = max(k, self._config.depth)
        legs = (leg.retrieve(questions, k=depth) for leg in (self._sparse, self._dense))
        return [
            merge_candidates(sparse, dense, self._config, k=k)
            for sparse, dense in zip(*legs, strict=True)
        ]
