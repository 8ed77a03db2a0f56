"""Sparse retrieval with BM25 over weighted fields, in the variant of Lucene.

    score(q, d) = sum over the terms t of q of
                  w(t, q) * ln(1 + (N - df(t) + 1/2) / (df(t) + 1/2))
                  * tf(t, d) / (tf(t, d) + k1 * (1 - b + b * |d| / avgdl))

N passages, df(t) of which hold t. tf(t, d) is the sum over the fields of d (words, parts of
compounds, bigrams; see ``odqa.types.Terms``) of the field's weight times the term's occurrences in
it, |d| the sum of tf(t, d) over all terms, avgdl its mean. w(t, q) is the same sum for the
question, so a term that stands there twice counts twice. S. Robertson and H. Zaragoza, The
Probabilistic Relevance Framework: BM25 and Beyond (2009), for the fields section 3.6; the variant,
without the constant factor k1 + 1 and with exact passage lengths, is "Lucene (accurate)" of
C. Kamphuis et al., Which BM25 Do You Mean? (ECIR 2020).

Two engines score the same terms alike: ``bm25s`` keeps every term's contribution to every passage
in a memory-mapped matrix (X. H. Lu, BM25S, 2024); ``rank-bm25`` scans all passages, for small
corpora and for comparison.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from odqa.config import SparseConfig
from odqa.errors import ConfigError, IndexNotUsableError
from odqa.protocols import Tokenizer
from odqa.retrieval.bm25_files import (
    BOUNDS,
    UNITS,
    Postings,
    read_counts,
    read_parameters,
    write_counts,
    write_matrix,
    write_parameters,
)
from odqa.retrieval.question_words import question_word_weights
from odqa.retrieval.ranking import (
    PassageLookup,
    Ranking,
    RowRetriever,
    Rows,
    Scores,
    best_first,
    rows_reaching_kth,
)
from odqa.retrieval.vocabulary import MappedVocabulary, write_vocabulary
from odqa.store.strings import map_array
from odqa.types import Terms

ENGINES = ("bm25s", "rank-bm25")

_ROUNDING_UP = 1 + 1e-5  # a bound is compared with sums of single precision


def write_bm25(
    directory: Path,
    shards: Iterable[Postings],
    vocabulary: Sequence[str],
    config: SparseConfig,
    *,
    tokenizer_fingerprint: str | None = None,
) -> None:
    """Build the sparse index of ``config.engine`` in ``directory``, shard by shard.

    Memory is bounded by the largest shard and the vocabulary, not by the corpus. The shards are
    walked through once. Nothing in the files depends on how passages are dealt out to shards.

    Args:
        directory: made if absent; files of an interrupted build are overwritten.
        shards: the term frequencies of consecutive passages, the fields' weights in them.
        vocabulary: the terms; a term's number is its place.
        config: k1, b and engine.
        tokenizer_fingerprint: recorded, and checked when the index is opened.

    Raises:
        ConfigError: k1, b or engine is out of range.
        ValueError: a term number is outside the vocabulary, or a term stands twice in it.
    """
    check_sparse_config(config)
    directory.mkdir(parents=True, exist_ok=True)
    write_vocabulary(directory, vocabulary)
    if config.engine == "bm25s":
        n_passages = write_matrix(directory, shards, len(vocabulary), k1=config.k1, b=config.b)
    else:
        n_passages = write_counts(directory, shards, len(vocabulary))
    write_parameters(directory, config, n_passages, tokenizer_fingerprint)


def check_sparse_config(config: SparseConfig) -> None:
    """Refuse values for which the formula has no meaning.

    Raises:
        ConfigError: naming the key and what is allowed.
    """
    if config.engine not in ENGINES:
        raise ConfigError(f"sparse.engine: unknown '{config.engine}'; known: {', '.join(ENGINES)}")
    if config.k1 < 0:
        raise ConfigError(f"sparse.k1 must be 0 or more, got {config.k1}")
    if not 0 <= config.b <= 1:
        raise ConfigError(f"sparse.b must lie in [0, 1], got {config.b}")
    if config.title_weight < 0:
        raise ConfigError(f"sparse.title_weight must be 0 or more, got {config.title_weight}")
    for key in ("part_weight", "bigram_weight"):
        weight = getattr(config, key)
        if not 0 <= weight <= 8 or weight * UNITS != int(weight * UNITS):
            raise ConfigError(
                f"sparse.{key} must be a multiple of 1/{UNITS} between 0 and 8, got {weight}"
            )


QuestionTerms = Mapping[int, float]
"""The numbers of a question's terms, each with its weight above 0."""


class SparseEngine(Protocol):
    """Scores of the passages for one question."""

    @property
    def n_passages(self) -> int: ...

    def top_rows(self, terms: QuestionTerms, k: int) -> tuple[Rows, Scores]:
        """The rows that score above zero and reach the k-th best, unordered, with their scores."""
        ...


class Bm25sEngine:
    """The matrix of bm25s, memory-mapped, searched without looking at every posting.

    Terms are taken from the one with the greatest possible contribution downwards. Once no passage
    outside those seen can reach the k-th best, the remaining terms, the frequent ones, are only
    looked up for passages that still can (MaxScore: H. Turtle and J. Flood, Query Evaluation:
    Strategies and Optimizations, 1995, term at a time). The result is exact.
    """

    def __init__(self, directory: Path) -> None:
        import bm25s  # type: ignore[import-untyped]

        # bm25s sets its own logger to DEBUG on import and writes a line for an empty question.
        logging.getLogger("bm25s").setLevel(logging.WARNING)
        try:
            matrix: Any = bm25s.BM25.load(
                directory, mmap=True, load_vocab=False, backend="numpy", auto_compile=False
            )
            # The plain arrays' items are read faster than a memmap's.
            self._data, self._indices, self._starts = (
                np.asarray(matrix.scores[name]) for name in ("data", "indices", "indptr")
            )
            self._bounds = map_array(directory / BOUNDS)
        except (OSError, ValueError) as error:
            raise IndexNotUsableError(
                f"{directory}: the BM25 matrix cannot be read ({error}); build the index again"
            ) from error
        self.n_passages = int(matrix.scores["num_docs"])
        self._local = threading.local()

    def top_rows(self, terms: QuestionTerms, k: int) -> tuple[Rows, Scores]:
        bounds = {term: weight * float(self._bounds[term]) for term, weight in terms.items()}
        order = sorted(bounds, key=lambda term: (-bounds[term], term))
        rest = np.cumsum([bounds[term] for term in order][::-1])[::-1] * _ROUNDING_UP
        scores = self._accumulator()
        rows = np.zeros(0, dtype=np.int64)
        try:
            for place, term in enumerate(order):
                settled = len(rows) >= k and self._pays(rows, term)
                if settled and rest[place] < _kth(scores[rows], k):
                    return self._finish(rows, scores, order[place:], rest[place:], terms, k)
                rows = self._add(rows, scores, term, terms[term])
            best = rows[scores[rows] >= _kth(scores[rows], k)]
            return best, scores[best]
        finally:
            scores[rows] = 0

    def _pays(self, rows: Rows, term: int) -> bool:
        """Whether finding the k-th best of ``rows`` costs less than adding a term."""
        return 2 * len(rows) < int(self._starts[term + 1] - self._starts[term])

    def _add(self, rows: Rows, scores: Scores, term: int, weight: float) -> Rows:
        """Add a term's contributions; returns ``rows`` and the rows it is the first to touch."""
        found, contributions = self._postings(term)
        before = scores[found]
        scores[found] = before + contributions * np.float32(weight)
        return np.concatenate([rows, found[before == 0]])

    def _finish(
        self,
        rows: Rows,
        scores: Scores,
        order: Sequence[int],
        rest: npt.NDArray[np.float64],
        terms: QuestionTerms,
        k: int,
    ) -> tuple[Rows, Scores]:
        """Give the terms of ``order`` to those of ``rows`` that may be among the best k."""
        rows = np.sort(rows)
        reached = scores[rows]
        for term, bound in zip(order, rest, strict=True):
            possible = reached * _ROUNDING_UP + np.float32(bound) >= _kth(reached, k)
            rows, reached = rows[possible], reached[possible]
            found, contributions = self._postings(term)
            places = np.minimum(np.searchsorted(found, rows), len(found) - 1)
            hit = found[places] == rows
            reached[hit] += contributions[places[hit]] * np.float32(terms[term])
        best = reached >= _kth(reached, k)
        return rows[best], reached[best]

    def _postings(self, term: int) -> tuple[npt.NDArray[np.int32], Scores]:
        span = slice(int(self._starts[term]), int(self._starts[term + 1]))
        return self._indices[span], self._data[span]

    def _accumulator(self) -> Scores:
        """(n_passages,) zeros, kept by the thread: clearing it all would take the most time."""
        if not hasattr(self._local, "scores"):
            self._local.scores = np.zeros(self.n_passages, dtype=np.float32)
        scores: Scores = self._local.scores
        return scores


def _kth(scores: Scores, k: int) -> np.float32:
    """The k-th best of some scores above zero; 0 where there are fewer."""
    if len(scores) < k:
        return np.float32(0)
    kth: np.float32 = np.partition(scores, -k)[-k]
    return kth


class RankBm25Engine:
    """``rank_bm25.BM25Okapi`` with the idf and the scale of this module's formula.

    BM25Okapi's own idf is negative for a term in more than half of the passages and is then
    replaced by a share of the mean idf, which orders passages otherwise than Lucene does. It counts
    whole terms: a passage is given to it with each term as often as it has units of frequency, and
    k1 in those units, which leaves the formula as it is.
    """

    def __init__(
        self, counts: npt.NDArray[np.int32], n_passages: int, *, k1: float, b: float
    ) -> None:
        """``counts`` is (3, postings): row, term, frequency in eighths, by row."""
        from rank_bm25 import BM25Okapi  # type: ignore[import-untyped]

        class LuceneBm25(BM25Okapi):  # type: ignore[misc]
            def _calc_idf(self, nd: dict[int, int]) -> None:
                n = self.corpus_size
                self.idf = {
                    term: float(np.log(1 + (n - df + 0.5) / (df + 0.5))) for term, df in nd.items()
                }

        rows, terms, units = counts
        unit = int(np.gcd.reduce(units)) if len(units) else UNITS
        starts = np.searchsorted(rows, np.arange(n_passages + 1))
        passages = [
            np.repeat(terms[start:end], units[start:end] // unit).tolist()
            for start, end in itertools.pairwise(starts)
        ]
        self.n_passages = n_passages
        k1 = k1 * UNITS / unit
        self._scale = k1 + 1  # BM25Okapi multiplies every term by it
        self._bm25 = LuceneBm25(passages, k1=k1, b=b)

    def top_rows(self, terms: QuestionTerms, k: int) -> tuple[Rows, Scores]:
        total = np.zeros(self.n_passages)
        for term, weight in terms.items():
            total += weight * self._bm25.get_scores([term])
        # Sums that are equal on paper may differ in the last bit of a double, not of a single.
        scores = (total / self._scale).astype(np.float32)
        rows = rows_reaching_kth(scores, k)
        return rows, scores[rows]


class Bm25Retriever(RowRetriever):
    """Passages that share terms with the question, best BM25 score first.

    A passage that shares no term is no candidate, so a question may have fewer than k or none.
    """

    source = "sparse"

    def __init__(
        self,
        engine: SparseEngine,
        vocabulary: MappedVocabulary,
        store: PassageLookup,
        tokenizer: Tokenizer,
        config: SparseConfig,
    ) -> None:
        super().__init__(store)
        self._engine = engine
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._config = config
        self._word_weights: Mapping[str, float] = {}
        if config.discount_question_words:
            self.weigh_words(question_word_weights())

    @classmethod
    def open(
        cls, directory: Path, store: PassageLookup, tokenizer: Tokenizer, config: SparseConfig
    ) -> Bm25Retriever:
        """The index that ``write_bm25`` built. ``config.engine`` must be the one it was built for.

        Raises:
            IndexNotUsableError: the index is damaged, has another number of passages than the
                store, or was made with another tokenizer, engine, k1 or b.
        """
        n_passages = read_parameters(directory, config, tokenizer.fingerprint)
        if n_passages != len(store):
            raise IndexNotUsableError(
                f"{directory}: the sparse index has {n_passages} passages but the store has "
                f"{len(store)}; build the index again"
            )
        engine: SparseEngine
        if config.engine == "bm25s":
            engine = Bm25sEngine(directory)
        else:
            engine = RankBm25Engine(read_counts(directory), n_passages, k1=config.k1, b=config.b)
        return cls(engine, MappedVocabulary(directory), store, tokenizer, config)

    def weigh_words(self, weights: Mapping[str, float]) -> None:
        """Have the words of questions count by ``weights``; one that is not named counts 1."""
        self._word_weights = weights

    def rank(self, questions: Sequence[str], *, k: int) -> list[Ranking]:
        """Terms that no passage holds are ignored; a question with no known term finds nothing."""
        return [self._rank(terms, k) for terms in self._tokenizer.terms(questions)]

    def _rank(self, terms: Terms, k: int) -> Ranking:
        weighted = self._weighted(terms)
        if not weighted:
            return []
        rows, scores = self._engine.top_rows(weighted, min(k, self._engine.n_passages))
        return best_first(rows, scores, k, self.store)

    def _weighted(self, terms: Terms) -> dict[int, float]:
        """w(t, q) of the terms that the index knows."""
        weights: dict[str, float] = {}
        fields = (
            (terms.words, 1.0),
            (terms.parts, self._config.part_weight),
            (terms.bigrams, self._config.bigram_weight),
        )
        for names, field_weight in fields:
            for name in names:
                weight = field_weight * self._word_weights.get(name, 1.0)
                weights[name] = weights.get(name, 0.0) + weight
        return {
            number: weight
            for name, weight in weights.items()
            if weight > 0 and (number := self._vocabulary.number(name)) is not None
        }
