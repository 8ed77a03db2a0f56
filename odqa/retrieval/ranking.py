"""What every retriever shares: the best k rows of an array of scores, in one fixed order.

The order is by score, best first; equal scores are ordered by passage id, compared as a string. It
does not depend on the order in which a corpus was read or on how many questions are asked at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from odqa.errors import UsageError
from odqa.types import Candidate, Passage

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Ranking = list[tuple[int, float]]
"""One question's (row, score) pairs, best first, ties by passage id."""


class PassageLookup(Protocol):
    """What a retriever needs of the passage store; a row is a passage's place in the index."""

    def __len__(self) -> int: ...

    def passages(self, rows: Sequence[int]) -> Sequence[Passage]: ...

    def passage_ids(self, rows: Sequence[int]) -> Sequence[str]: ...


def check_k(k: int) -> None:
    """Refuse a number of candidates that means nothing.

    Raises:
        UsageError: ``k`` is below 1.
    """
    if k < 1:
        raise UsageError(f"the number of passages must be 1 or more, got {k}")


def rows_reaching_kth(scores: Scores, k: int, *, hint: Rows | None = None) -> Rows:
    """All rows whose score is above zero and at least the k-th best (so ties with it too).

    Args:
        scores: (n_passages,) scores of one question.
        k: how many are wanted; fewer rows come back where fewer are above zero.
        hint: at least k distinct rows that are likely good. The k-th best among them cannot be
            better than the k-th best of all, so it cuts the search to one comparison a row in place
            of a partition of the whole array.
    """
    floor = scores[:0].dtype.type(0)
    if hint is not None and len(hint) >= k:
        floor = np.partition(scores[hint], -k)[-k]
    rows = np.flatnonzero(scores >= floor) if floor > 0 else np.flatnonzero(scores > 0)
    if len(rows) > k:
        reached = scores[rows]
        rows = rows[reached >= np.partition(reached, -k)[-k]]
    return rows


def best_first(
    rows: Rows, scores: Scores | npt.NDArray[np.float64], k: int, store: PassageLookup
) -> Ranking:
    """At most k pairs (row, score), by score, then passage id; ``scores[i]`` is of ``rows[i]``."""
    pairs = list(zip(rows.tolist(), scores.tolist(), strict=True))
    times = Counter(score for _, score in pairs)
    tied = [row for row, score in pairs if times[score] > 1]
    ids = dict(zip(tied, store.passage_ids(tied), strict=True))  # the others' need not be read
    return sorted(pairs, key=lambda pair: (-pair[1], ids.get(pair[0], "")))[:k]


def as_candidates(
    ranked: Sequence[tuple[int, float]], store: PassageLookup, source: str
) -> list[Candidate]:
    """Candidates with ranks from 0 for rows that stand in order already."""
    passages = store.passages([row for row, _ in ranked])
    return [
        Candidate(passage=passage, score=score, rank=rank, source=source)
        for rank, (passage, (_, score)) in enumerate(zip(passages, ranked, strict=True))
    ]


class RowRetriever(ABC):
    """A retriever over the rows of one passage store.

    What a merge works with are rows and scores; passages are read for the final candidates alone.
    """

    source: str

    def __init__(self, store: PassageLookup) -> None:
        self.store = store

    @abstractmethod
    def rank(self, questions: Sequence[str], *, k: int) -> list[Ranking]:
        """At most k rows for each question with their scores, best first, ties by passage id."""

    def retrieve(self, questions: Sequence[str], *, k: int) -> list[list[Candidate]]:
        """At most k candidates for each question, best first, ties by passage id.

        Raises:
            UsageError: k is below 1.
        """
        check_k(k)
        rankings = self.rank(questions, k=k) if questions else []
        return [as_candidates(ranking, self.store, self.source) for ranking in rankings]


def rerank_candidates(
    scored: Iterable[tuple[Candidate, float]], source: str, k: int | None = None
) -> list[Candidate]:
    """The passages of ``scored`` with their new scores, ordered anew and cut at k."""
    ordered = sorted(scored, key=lambda pair: (-pair[1], pair[0].passage.passage_id))[:k]
    return [
        Candidate(passage=candidate.passage, score=score, rank=rank, source=source)
        for rank, (candidate, score) in enumerate(ordered)
    ]


class ByRow(Protocol):
    """Something that says for each row which one it belongs to: an array, a list or a mapping."""

    def __getitem__(self, row: int, /) -> Hashable: ...


def collapse_ranking(
    ranked: Iterable[tuple[int, float]],
    groups: ByRow | None,
    *,
    k: int,
    documents: ByRow | None = None,
    per_article: int = 0,
) -> list[tuple[int, float]]:
    """The best of each group of duplicates, in order; at most k.

    A question about one of several like passages gets that one, if it is ranked first of them.

    Args:
        ranked: (row, score) pairs of one question, best first.
        groups: the group of each row; None collapses nothing.
        k: how many are wanted.
        documents: the article of each row; needed for ``per_article``.
        per_article: at most so many passages of one article are kept; 0 keeps all.

    Raises:
        UsageError: ``k`` is below 1, or ``per_article`` below 0 or given without ``documents``.
    """
    check_k(k)
    if per_article < 0 or (per_article and documents is None):
        raise UsageError(f"per_article must be 0 or more (of known articles), got {per_article}")
    kept: list[tuple[int, float]] = []
    seen: set[Hashable] = set()
    of_article: dict[Hashable, int] = {}
    for row, score in ranked:
        if len(kept) == k:
            break
        group = groups[row] if groups is not None else row
        if group in seen:
            continue
        if per_article and documents is not None:
            article = documents[row]
            if of_article.get(article, 0) == per_article:
                continue
            of_article[article] = of_article.get(article, 0) + 1
        seen.add(group)
        kept.append((row, score))
    return kept
