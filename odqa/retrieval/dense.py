"""Dense retrieval: the inner product of unit vectors, their cosine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.config import DenseConfig
from odqa.errors import IndexNotUsableError
from odqa.protocols import Encoder, Vectors
from odqa.retrieval.gpu import on_device
from odqa.retrieval.ranking import (
    PassageLookup,
    Ranking,
    RowRetriever,
    Rows,
    Scores,
    best_first,
)
from odqa.retrieval.storages import (
    RECALL_AT,
    VectorIndex,
    measure_recall,
    open_vectors,
    update_vectors,
    write_vectors,
)

_PARAMETERS = "dense.json"
_KEYS = ("faiss", "passages", "dim", "encoder")
_UNMEASURED = {"effort": None, "recall": None, "probes": 0}
_ROUNDING = 1e-5  # more than sums in single precision differ by
_MARGIN = 16  # candidates beyond the k-th, so that a tie with it rarely asks for a second search


def write_dense(
    directory: Path,
    vectors: Vectors,
    config: DenseConfig,
    *,
    encoder_fingerprint: str | None = None,
    probes: Vectors | None = None,
) -> None:
    """Write ``vectors`` in the storage ``config.faiss``, and how good it is.

    Args:
        directory: made if absent; files of an interrupted build are overwritten.
        vectors: (n_passages, dim) float32 in row order, may be memory-mapped.
        config: only ``faiss`` is used.
        encoder_fingerprint: recorded, and checked when the index is opened.
        probes: (n, dim) questions with which the recall against an exact search is measured.

    Raises:
        ConfigError: the storage is unknown.
        ValueError: ``vectors`` is no matrix, or holds a number that is not finite.
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be a matrix (passages, dim), got shape {vectors.shape}")
    directory.mkdir(parents=True, exist_ok=True)
    write_vectors(directory, vectors, config.faiss)
    recall, effort = None, None
    if probes is not None:
        recall, effort = measure_recall(directory, config.faiss, vectors, probes)
    record = {
        "faiss": config.faiss,
        "passages": len(vectors),
        "dim": int(vectors.shape[1]),
        "encoder": encoder_fingerprint,
        "effort": effort,
        "recall": None if recall is None else round(recall, 4),
        "probes": 0 if probes is None else len(probes),
    }
    _write_parameters(directory, record)


def _write_parameters(directory: Path, record: dict[str, Any]) -> None:
    (directory / _PARAMETERS).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def update_dense(
    directory: Path, old: Path, new_rows: npt.NDArray[np.int32], vectors: Vectors
) -> None:
    """Write the vectors of ``old`` without some of them and with others behind them.

    What stays keeps its codes; the others are coded alike.

    Args:
        directory: to write; made if absent.
        old: the folder that ``write_dense`` wrote.
        new_rows: (old passages,) the new row of each, ascending; -1 where it is gone.
        vectors: (new passages, dim) float32 of those behind, may be memory-mapped.
    """
    record = json.loads((old / _PARAMETERS).read_text(encoding="utf-8"))
    directory.mkdir(parents=True, exist_ok=True)
    kept = np.flatnonzero(new_rows >= 0).astype(np.int64)
    total = update_vectors(directory, old, record["faiss"], kept, vectors)
    _write_parameters(directory, {**record, "passages": total})


def recall_of(directory: Path) -> dict[str, Any]:
    """What ``write_dense`` measured: the storage, its recall, and with how many probes.

    Raises:
        IndexNotUsableError: the record cannot be read.
    """
    record = _read_parameters(directory)
    return {
        "storage": record["faiss"],
        f"recall_at_{RECALL_AT}": record["recall"],
        "probes": record["probes"],
        "effort": record["effort"],
    }


class DenseRetriever(RowRetriever):
    """Passages whose vectors lie nearest to the question's, best cosine first."""

    source = "dense"

    def __init__(
        self, index: VectorIndex, store: PassageLookup, encoder: Encoder, *, device: str = "cpu"
    ) -> None:
        """``index`` is on the CPU; a copy of it is searched on ``device``."""
        super().__init__(store)
        self._vectors = index
        self._searched, self._max_k = on_device(index, encoder.dim, device)
        self._encoder = encoder

    @classmethod
    def open(
        cls, directory: Path, store: PassageLookup, encoder: Encoder, config: DenseConfig
    ) -> DenseRetriever:
        """The index that ``write_dense`` built, whatever storage it was built with.

        Raises:
            IndexNotUsableError: it is missing or damaged, has another number of passages than the
                store, or was made with another encoder.
        """
        record = _read_parameters(directory)
        _check(record["encoder"], encoder.fingerprint, "encoder", directory)
        _check(record["dim"], encoder.dim, "vector length", directory)
        try:
            index = open_vectors(directory, record["faiss"], encoder.dim, record["effort"])
        except (OSError, ValueError, RuntimeError) as error:
            raise IndexNotUsableError(
                f"{directory}: the vectors cannot be read ({error}); build the index again"
            ) from error
        if not index.ntotal == record["passages"] == len(store):
            raise IndexNotUsableError(
                f"{directory}: {index.ntotal} vectors, {record['passages']} recorded, but "
                f"{len(store)} passages in the store; build the index again"
            )
        return cls(index, store, encoder, device=config.device)

    def rank(self, questions: Sequence[str], *, k: int) -> list[Ranking]:
        """A question without a token (a row of zeros) finds nothing."""
        vectors = np.ascontiguousarray(self._encoder.encode_questions(questions), dtype=np.float32)
        return self.rank_vectors(vectors, k=k)

    def rank_vectors(self, vectors: Vectors, *, k: int) -> list[Ranking]:
        """As ``rank``, for questions given as (n, dim) float32 vectors."""
        found: list[Ranking] = [[] for _ in vectors]
        asked = np.flatnonzero(vectors.any(axis=1))
        if len(asked) == 0 or len(self.store) == 0:
            return found
        wanted = min(k + _MARGIN, len(self.store), self._max_k)
        scores, rows = self._searched.search(vectors[asked], wanted)
        for place, score, row in zip(asked, scores, rows, strict=True):
            best, exact = self._with_ties(vectors[place], score[row >= 0], row[row >= 0], k)
            found[place] = best_first(best, exact, k, self.store)
        return found

    def _with_ties(
        self, question: npt.NDArray[np.float32], scores: Scores, rows: Rows, k: int
    ) -> tuple[Rows, Scores]:
        """Rows among which the best k are sure to be, with scores that do not depend on the batch.

        FAISS sums in another order for a batch than for one question, and keeps any of several
        equal scores. So the search is widened until the last score found is surely below the k-th
        (or nothing more is found), and what was found is scored again in double precision.
        """
        width = len(rows)
        widest = min(len(self.store), self._max_k)
        while k <= len(rows) == width < widest and scores[-1] >= scores[k - 1] - _ROUNDING:
            width = min(2 * width, widest)
            found = self._searched.search(question[np.newaxis], width)
            scores, rows = found[0][0], found[1][0]
            scores, rows = scores[rows >= 0], rows[rows >= 0]
        return rows, self._vectors.scores(question, rows)


def _read_parameters(directory: Path) -> dict[str, Any]:
    try:
        record = json.loads((directory / _PARAMETERS).read_text(encoding="utf-8"))
        return {**_UNMEASURED, **record, **{key: record[key] for key in _KEYS}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexNotUsableError(
            f"{directory}: no usable dense index ({type(error).__name__}: {error}); "
            "build the index again"
        ) from error


def _check(found: object, wanted: object, what: str, directory: Path) -> None:
    if found is not None and found != wanted:
        raise IndexNotUsableError(
            f"{directory}: the index was built with {what} {found!r}, but {wanted!r} is "
            "configured; set dense.encoder to the index's own or build it again with --force"
        )
