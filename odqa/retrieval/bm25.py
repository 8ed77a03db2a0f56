"""Sparse retrieval with BM25, in the variant of Lucene.

    score(q, d) = sum over the terms t of q of
                  ln(1 + (N - df(t) + 1/2) / (df(t) + 1/2))
                  * tf(t, d) / (tf(t, d) + k1 * (1 - b + b * |d| / avgdl))

N passages, df(t) of which hold t; |d| is the number of terms in d, repeats counted, avgdl its mean.
A term that stands twice in the question counts twice. S. Robertson and H. Zaragoza, The
Probabilistic Relevance Framework: BM25 and Beyond (2009); the variant, without the constant factor
k1 + 1 and with exact passage lengths, is "Lucene (accurate)" of C. Kamphuis et al., Which BM25 Do
You Mean? (ECIR 2020).

Two engines score the same terms alike: ``bm25s`` keeps every term's contribution to every passage
in a memory-mapped matrix (X. H. Lu, BM25S, 2024); ``rank-bm25`` scans all passages, for small
corpora and for comparison.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from odqa.config import SparseConfig
from odqa.errors import ConfigError, IndexNotUsableError
from odqa.protocols import Tokenizer
from odqa.retrieval.bm25_files import (
    TokenIds,
    read_parameters,
    read_token_ids,
    write_matrix,
    write_parameters,
    write_token_ids,
)
from odqa.retrieval.ranking import (
    PassageLookup,
    Rows,
    Scores,
    as_candidates,
    best_first,
    check_k,
    rows_reaching_kth,
)
from odqa.retrieval.vocabulary import MappedVocabulary, write_vocabulary
from odqa.types import Candidate

ENGINES = ("bm25s", "rank-bm25")


def write_bm25(
    directory: Path,
    token_id_shards: Iterable[Sequence[TokenIds]],
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
        token_id_shards: for each shard, for each passage in row order, its term numbers.
        vocabulary: the terms; a term's number is its place.
        config: k1, b and engine. ``title_weight`` is in the terms already.
        tokenizer_fingerprint: recorded, and checked when the index is opened.

    Raises:
        ConfigError: k1, b or engine is out of range.
        ValueError: a term number is outside the vocabulary, or a term stands twice in it.
    """
    check_sparse_config(config)
    directory.mkdir(parents=True, exist_ok=True)
    write_vocabulary(directory, vocabulary)
    if config.engine == "bm25s":
        n_passages = write_matrix(directory, token_id_shards, vocabulary, k1=config.k1, b=config.b)
    else:
        n_passages = write_token_ids(directory, token_id_shards, len(vocabulary))
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


class SparseEngine(Protocol):
    """Scores of all passages for one question's term numbers."""

    @property
    def n_passages(self) -> int: ...

    def top_rows(self, token_ids: Sequence[int], k: int) -> tuple[Rows, Scores]:
        """The rows that score above zero and reach the k-th best, unordered, with their scores."""
        ...


class Bm25sEngine:
    """The matrix of bm25s, memory-mapped, scored by its numpy backend.

    Its numba backend is compiled anew in every process, which takes some seconds, and then sums
    the same numbers no faster than numpy 2 does; its selection of the best k is not used because
    it leaves open which of several equal scores is kept.
    """

    def __init__(self, directory: Path) -> None:
        import bm25s  # type: ignore[import-untyped]

        # bm25s sets its own logger to DEBUG on import and writes a line for an empty question.
        logging.getLogger("bm25s").setLevel(logging.WARNING)
        try:
            self._matrix: Any = bm25s.BM25.load(
                directory, mmap=True, load_vocab=False, backend="numpy", auto_compile=False
            )
            # The plain arrays' items are read faster than a memmap's.
            for name in ("data", "indices", "indptr"):
                self._matrix.scores[name] = np.asarray(self._matrix.scores[name])
        except (OSError, ValueError) as error:
            raise IndexNotUsableError(
                f"{directory}: the BM25 matrix cannot be read ({error}); build the index again"
            ) from error

    @property
    def n_passages(self) -> int:
        return int(self._matrix.scores["num_docs"])

    def top_rows(self, token_ids: Sequence[int], k: int) -> tuple[Rows, Scores]:
        scores: Scores = self._matrix.get_scores_from_ids(list(token_ids))
        rows = rows_reaching_kth(scores, k, hint=self._rows_of_rare_terms(token_ids, k))
        return rows, scores[rows]

    def _rows_of_rare_terms(self, token_ids: Sequence[int], k: int) -> Rows | None:
        """At least k passages that hold one of the question's rarer terms; None if there are not k.

        The rarest term that k passages hold gives them; where every term is rarer than that, all
        terms together may.
        """
        starts = self._matrix.scores["indptr"]
        indices = self._matrix.scores["indices"]
        spans = sorted((int(starts[t + 1] - starts[t]), int(starts[t])) for t in set(token_ids))
        for count, start in spans:
            if count >= k:
                return np.asarray(indices[start : start + count], dtype=np.int64)
        rows = np.unique(np.concatenate([indices[start : start + count] for count, start in spans]))
        return rows.astype(np.int64) if len(rows) >= k else None


class RankBm25Engine:
    """``rank_bm25.BM25Okapi`` with the idf and the scale of this module's formula.

    BM25Okapi's own idf is negative for a term in more than half of the passages and is then
    replaced by a share of the mean idf, which orders passages otherwise than Lucene does.
    """

    def __init__(self, passages: Sequence[TokenIds], *, k1: float, b: float) -> None:
        from rank_bm25 import BM25Okapi  # type: ignore[import-untyped]

        class LuceneBm25(BM25Okapi):  # type: ignore[misc]
            def _calc_idf(self, nd: dict[int, int]) -> None:
                n = self.corpus_size
                self.idf = {
                    term: float(np.log(1 + (n - df + 0.5) / (df + 0.5))) for term, df in nd.items()
                }

        self.n_passages = len(passages)
        self._scale = k1 + 1  # BM25Okapi multiplies every term by it
        self._bm25 = LuceneBm25([passage.tolist() for passage in passages], k1=k1, b=b)

    def top_rows(self, token_ids: Sequence[int], k: int) -> tuple[Rows, Scores]:
        # Sums that are equal on paper may differ in the last bit of a double, not of a single.
        scores = (self._bm25.get_scores(list(token_ids)) / self._scale).astype(np.float32)
        rows = rows_reaching_kth(scores, k)
        return rows, scores[rows]


class Bm25Retriever:
    """Passages that share terms with the question, best BM25 score first.

    A passage that shares no term is no candidate, so a question may have fewer than k or none.
    """

    def __init__(
        self,
        engine: SparseEngine,
        vocabulary: MappedVocabulary,
        store: PassageLookup,
        tokenizer: Tokenizer,
    ) -> None:
        self._engine = engine
        self._vocabulary = vocabulary
        self._store = store
        self._tokenizer = tokenizer

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
            engine = RankBm25Engine(read_token_ids(directory), k1=config.k1, b=config.b)
        return cls(engine, MappedVocabulary(directory), store, tokenizer)

    def retrieve(self, questions: Sequence[str], *, k: int) -> list[list[Candidate]]:
        """At most k candidates for each question, best first, ties by passage id.

        Terms that no passage holds are ignored; a question with no known term finds nothing.

        Raises:
            UsageError: k is below 1.
        """
        check_k(k)
        return [self._retrieve_terms(terms, k) for terms in self._tokenizer.tokenize(questions)]

    def _retrieve_terms(self, terms: Sequence[str], k: int) -> list[Candidate]:
        token_ids = self._vocabulary.numbers(terms)
        if not token_ids:
            return []
        rows, scores = self._engine.top_rows(token_ids, min(k, self._engine.n_passages))
        return as_candidates(best_first(rows, scores, k, self._store), self._store, "sparse")
