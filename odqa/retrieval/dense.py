"""Dense retrieval: the inner product of unit vectors, their cosine, searched exactly with FAISS.

Three stores of the vectors, key ``dense.faiss``: ``flat`` (4 bytes a number, exact), ``fp16`` (2)
and ``sq8`` (1, each dimension cut into 256 steps between its least and greatest value). All are
searched exhaustively and, on a CPU, memory-mapped: opening an index copies nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.config import DenseConfig
from odqa.errors import ConfigError, IndexNotUsableError
from odqa.protocols import Encoder, Vectors
from odqa.retrieval.ranking import (
    PassageLookup,
    Ranking,
    RowRetriever,
    Rows,
    Scores,
    best_first,
)

logger = logging.getLogger(__name__)

STORAGES = ("flat", "fp16", "sq8")

_INDEX = "vectors.faiss"
_PARAMETERS = "dense.json"
_CHUNK = 65_536  # vectors handed to FAISS at once
_TRAINING_VECTORS = 100_000  # vectors that the range of each dimension is measured on
_ROUNDING = 1e-5  # more than FAISS's single-precision sums differ from exact ones
_MARGIN = 16  # candidates beyond the k-th, so that a tie with it rarely asks for a second search
_GPU_MAX_K = 2048  # FAISS's limit on a GPU


def write_dense(
    directory: Path,
    vectors: Vectors,
    config: DenseConfig,
    *,
    encoder_fingerprint: str | None = None,
) -> None:
    """Write the FAISS index of ``vectors`` in the storage ``config.faiss``.

    Args:
        directory: made if absent; files of an interrupted build are overwritten.
        vectors: (n_passages, dim) float32 in row order, may be memory-mapped.
        config: only ``faiss`` is used.
        encoder_fingerprint: recorded, and checked when the index is opened.

    Raises:
        ConfigError: the storage is unknown.
        ValueError: ``vectors`` is no matrix, or holds a number that is not finite.
    """
    import faiss

    if vectors.ndim != 2:
        raise ValueError(f"vectors must be a matrix (passages, dim), got shape {vectors.shape}")
    directory.mkdir(parents=True, exist_ok=True)
    index = _new_index(config.faiss, vectors.shape[1])
    if not index.is_trained:
        step = max(1, -(-len(vectors) // _TRAINING_VECTORS))
        index.train(np.ascontiguousarray(vectors[::step], dtype=np.float32))
    _add(index, vectors)
    faiss.write_index(index, str(directory / _INDEX))
    record = {
        "faiss": config.faiss,
        "passages": len(vectors),
        "dim": int(vectors.shape[1]),
        "encoder": encoder_fingerprint,
    }
    _write_parameters(directory, record)


def _add(index: Any, vectors: Vectors) -> None:
    for start in range(0, len(vectors), _CHUNK):
        chunk = np.ascontiguousarray(vectors[start : start + _CHUNK], dtype=np.float32)
        if not np.isfinite(chunk).all():
            raise ValueError(f"the vectors from row {start} on hold a number that is not finite")
        index.add(chunk)


def _write_parameters(directory: Path, record: dict[str, Any]) -> None:
    (directory / _PARAMETERS).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def update_dense(
    directory: Path, old: Path, new_rows: npt.NDArray[np.int32], vectors: Vectors
) -> None:
    """Write the FAISS index of ``old`` without some of its vectors and with others behind them.

    What stays keeps its codes; the others are coded alike.

    Args:
        directory: to write; made if absent.
        old: the folder that ``write_dense`` wrote.
        new_rows: (old passages,) the new row of each, ascending; -1 where it is gone.
        vectors: (new passages, dim) float32 of those behind, may be memory-mapped.
    """
    import faiss

    record = json.loads((old / _PARAMETERS).read_text(encoding="utf-8"))
    directory.mkdir(parents=True, exist_ok=True)
    index = faiss.read_index(str(old / _INDEX))
    gone = np.flatnonzero(new_rows < 0).astype(np.int64)
    index.remove_ids(faiss.IDSelectorBatch(gone))
    _add(index, vectors)
    faiss.write_index(index, str(directory / _INDEX))
    _write_parameters(directory, {**record, "passages": int(index.ntotal)})


def _new_index(storage: str, dim: int) -> Any:
    import faiss

    if storage == "flat":
        return faiss.IndexFlatIP(dim)
    kinds = {"fp16": faiss.ScalarQuantizer.QT_fp16, "sq8": faiss.ScalarQuantizer.QT_8bit}
    if storage not in kinds:
        raise ConfigError(f"dense.faiss: unknown '{storage}'; known: {', '.join(STORAGES)}")
    return faiss.IndexScalarQuantizer(dim, kinds[storage], faiss.METRIC_INNER_PRODUCT)


class DenseRetriever(RowRetriever):
    """Passages whose vectors lie nearest to the question's, best cosine first."""

    source = "dense"

    def __init__(
        self, index: Any, store: PassageLookup, encoder: Encoder, *, device: str = "cpu"
    ) -> None:
        """``index`` is a FAISS index on the CPU; a copy of it is searched on ``device``."""
        super().__init__(store)
        self._vectors = index
        self._searched, self._max_k = _on_device(index, device)
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
        import faiss

        record = _read_parameters(directory)
        _check(record["encoder"], encoder.fingerprint, "encoder", directory)
        _check(record["dim"], encoder.dim, "vector length", directory)
        try:
            index = faiss.read_index(str(directory / _INDEX), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise IndexNotUsableError(
                f"{directory / _INDEX}: FAISS cannot read it ({error}); build the index again"
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
            best, exact = self._with_ties(vectors[place], score, row, k)
            found[place] = best_first(best, exact, k, self.store)
        return found

    def _with_ties(
        self, question: npt.NDArray[np.float32], scores: Scores, rows: Rows, k: int
    ) -> tuple[Rows, Scores]:
        """Rows among which the best k are sure to be, with scores that do not depend on the batch.

        FAISS sums in another order for a batch than for one question, and keeps any of several
        equal scores. So the search is widened until the last score found is surely below the k-th,
        and what was found is scored again in double precision.
        """
        width = len(rows)
        while width < min(len(self.store), self._max_k) and scores[-1] >= scores[k - 1] - _ROUNDING:
            width = min(2 * width, len(self.store), self._max_k)
            found = self._searched.search(question[np.newaxis], width)
            scores, rows = found[0][0], found[1][0]
        vectors = self._vectors.reconstruct_batch(rows)  # (width, dim)
        exact = np.einsum("nd,d->n", vectors.astype(np.float64), question.astype(np.float64))
        return rows, exact.astype(np.float32)


def _on_device(index: Any, device: str) -> tuple[Any, int]:
    """The index to search and the greatest k it takes: on a GPU if FAISS and ``device`` have one.

    The encoder may well run on a GPU where the installed FAISS cannot; then the CPU searches. So do
    the compressed storages, whose exhaustive search FAISS has on the CPU alone.
    """
    import faiss

    n_gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if device == "cpu" or n_gpus == 0 or not isinstance(index, faiss.IndexFlat):
        logger.debug("vectors are searched on the CPU")
        return index, max(index.ntotal, 1)
    number = int(device.partition(":")[2] or 0)
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, index), _GPU_MAX_K


def _read_parameters(directory: Path) -> dict[str, Any]:
    try:
        record = json.loads((directory / _PARAMETERS).read_text(encoding="utf-8"))
        return {key: record[key] for key in ("passages", "dim", "encoder")}
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
