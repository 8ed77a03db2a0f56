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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from odqa.config import SparseConfig
from odqa.errors import ConfigError, IndexNotUsableError
from odqa.protocols import Tokenizer
from odqa.retrieval.bm25_files import (
    read_counts,
    read_matrix,
    read_parameters,
    write_counts,
    write_matrix,
    write_parameters,
)
from odqa.retrieval.max_score import Column, MaxScore
from odqa.retrieval.postings import UNITS, Postings
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
from odqa.types import Terms

ENGINES = ("bm25s", "rank-bm25")


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
    if not config.k1 > 0:  # with 0 a score says nothing of how often, and no update could go on
        raise ConfigError(f"sparse.k1 must be above 0, got {config.k1}")
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
    """The matrix of bm25s, memory-mapped, searched without looking at every posting."""

    def __init__(self, directory: Path) -> None:
        self._matrix = read_matrix(directory)
        self.n_passages = self._matrix.n_passages
        self._search = MaxScore(self.n_passages)

    def top_rows(self, terms: QuestionTerms, k: int) -> tuple[Rows, Scores]:
        columns = [self._column(term, weight) for term, weight in sorted(terms.items())]
        columns.sort(key=lambda column: -column.bound)
        return self._search.top_rows(columns, k)

    def _column(self, term: int, weight: float) -> Column:
        scores, rows, starts, bounds, _ = self._matrix
        span = slice(int(starts[term]), int(starts[term + 1]))
        return Column(rows[span], scores[span], np.float32(weight), weight * float(bounds[term]))


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
