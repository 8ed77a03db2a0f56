"""How the vectors of the dense leg are stored and searched: the setting ``dense.faiss``.

- ``sq5``: five bits a number, every vector looked at (``odqa.retrieval.five_bits``);
- ``flat``, ``fp16``, ``sq8``: FAISS, 4, 2 and 1 byte a number, every vector looked at;
- any description that ``faiss.index_factory`` takes, such as ``IVF1024,SQ8``, ``HNSW32`` or
  ``PQ64``. How far an inverted file or a graph is searched is chosen when the index is built: the
  least effort with which the probes find ``WANTED_RECALL`` of what an exact search finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from odqa.errors import ConfigError
from odqa.protocols import Vectors
from odqa.retrieval.ranking import Rows, Scores

FIVE_BITS = "sq5"
STORAGES = (FIVE_BITS, "flat", "fp16", "sq8")
_KNOWN = (
    f"{', '.join(STORAGES)}, and what FAISS's index_factory takes for vectors of this length, such "
    "as IVF1024,SQ8 or HNSW32"
)
RECALL_AT = 20
WANTED_RECALL = 0.97

_FILE = "vectors.faiss"
_SCALAR = {"fp16": "QT_fp16", "sq8": "QT_8bit"}
_ROUNDING = 1e-5  # more than sums in single precision differ by
_CHUNK = 65_536  # vectors handled at once
_TRAINING_VECTORS = 100_000  # what a storage that learns is shown
_EFFORTS = (16, 32, 64, 128, 256, 512)  # lists, or nodes of a graph, that are visited


class Searchable(Protocol):
    """What finds the vectors with the greatest inner products."""

    def search(self, vectors: Vectors, k: int) -> tuple[Scores, Rows]:
        """(n, k) scores and rows, best first; a row of -1 where there are fewer."""
        ...


class VectorIndex(Searchable, Protocol):
    """Stored vectors that can be searched, scored, and read back."""

    ntotal: int

    def scores(self, vector: Vectors, rows: Rows) -> Scores:
        """(len(rows),) inner products with one (dim,) vector, summed in double precision."""
        ...

    def reconstruct_batch(self, rows: Rows) -> Vectors:
        """(len(rows), dim) the vectors as they are stored."""
        ...


def check_storage(storage: str, dim: int = 64) -> None:
    """Refuse a storage that nobody knows, or that no index could be kept in, before any work.

    Raises:
        ConfigError: saying what is known.
    """
    if storage in STORAGES:
        return
    import faiss

    unfit = (faiss.IndexIDMap, faiss.IndexNSG, faiss.IndexIVFFastScan)
    for part in _parts(_new_index(storage, dim)):
        graph = getattr(part, "hnsw", None)
        empty = getattr(part, "nlist", 1) == 0 or (graph and graph.nb_neighbors(0) == 0)
        if empty or isinstance(part, unfit):  # FAISS itself finds out late, or crashes
            raise ConfigError(
                f"dense.faiss: '{storage}' ({type(part).__name__}) cannot be added to, updated and "
                f"read by row; known: {_KNOWN}"
            )


def check_enough(storage: str, dim: int, n_vectors: int) -> None:
    """Refuse a storage that cannot be learnt from so few vectors, before they are computed.

    Raises:
        ConfigError: saying how many it takes.
    """
    if storage in STORAGES:
        return
    import faiss

    least = 1  # what FAISS's k-means and principal components insist on
    for part in _parts(_new_index(storage, dim)):
        codes = part.pq.ksub if hasattr(part, "pq") else 0
        least = max(least, getattr(part, "nlist", 0), codes)
        chain: Any = getattr(part, "chain", None)
        for i in range(chain.size() if chain else 0):
            step = faiss.downcast_VectorTransform(chain.at(i))
            least = max(least, step.d_out if isinstance(step, faiss.PCAMatrix) else 0)
    shown = len(range(0, n_vectors, _training_step(n_vectors)))
    if shown < least:
        raise ConfigError(
            f"dense.faiss: '{storage}' cannot be learnt from {n_vectors} vectors: it needs {least} "
            f"to learn from, and {shown} are taken; choose fewer lists, or one of: "
            f"{', '.join(STORAGES)}"
        )


def bytes_per_vector(storage: str, n_vectors: int, dim: int) -> float:
    """Bytes that are kept of each vector, with its share of what a storage has besides.

    Raises:
        ConfigError: the storage is unknown.
    """
    if storage == FIVE_BITS:
        from odqa.retrieval import five_bits

        return five_bits.bytes_per_vector(dim)
    import faiss

    index: Any = _new_index(storage, dim)
    coded = index.storage if hasattr(index, "hnsw") else index
    size = float(coded.sa_code_size())
    inverted = faiss.try_extract_index_ivf(index)
    if inverted is not None:  # the rows' numbers, and the centroids of the lists
        size += 8 + 4 * dim * inverted.nlist / max(n_vectors, 1)
    if hasattr(index, "hnsw"):  # a node's links in the lowest layer
        size += 4 * index.hnsw.nb_neighbors(0)
    return size


def write_vectors(directory: Path, vectors: Vectors, storage: str) -> None:
    """Write (n, dim) float32 vectors, which may be memory-mapped, into ``directory``.

    Raises:
        ConfigError: the storage is unknown, or cannot be learnt from so few vectors.
        ValueError: a number is not finite.
    """
    if storage == FIVE_BITS:
        from odqa.retrieval import five_bits

        codes = (five_bits.encode(chunk) for chunk in _chunks(vectors))
        five_bits.write_five_bits(directory, len(vectors), vectors.shape[1], codes)
        return
    import faiss

    index = _new_index(storage, vectors.shape[1])
    if not index.is_trained:
        step = _training_step(len(vectors))
        sample = np.ascontiguousarray(vectors[::step], dtype=np.float32)
        if not np.isfinite(sample).all():
            raise ValueError("the vectors hold a number that is not finite")
        try:
            index.train(sample)
        except RuntimeError as error:
            reason = str(error).rpartition(": ")[2]
            raise ConfigError(
                f"dense.faiss: '{storage}' cannot be learnt from {len(vectors)} vectors ({reason})"
            ) from error
    for chunk in _chunks(vectors):
        index.add(chunk)
    faiss.write_index(index, str(directory / _FILE))


def update_vectors(directory: Path, old: Path, storage: str, kept: Rows, vectors: Vectors) -> int:
    """Write the vectors ``kept`` of the index in ``old``, with ``vectors`` behind them.

    What is kept keeps its codes; what a storage has learnt is not learnt anew.

    Returns:
        how many vectors there are now.
    """
    if storage == FIVE_BITS:
        from odqa.retrieval import five_bits

        coded = five_bits.FiveBitVectors.open(old, vectors.shape[1])
        total = len(kept) + len(vectors)

        def codes() -> Iterator[tuple[five_bits.Codes, five_bits.Codes]]:
            for start in range(0, len(kept), _CHUNK):
                yield coded.kept(kept[start : start + _CHUNK])
            yield from map(five_bits.encode, _chunks(vectors))

        five_bits.write_five_bits(directory, total, vectors.shape[1], codes())
        return total
    import faiss

    index = faiss.read_index(str(old / _FILE))
    if isinstance(index, faiss.IndexFlatCodes):
        gone = np.setdiff1d(np.arange(index.ntotal), kept)
        index.remove_ids(faiss.IDSelectorBatch(gone))
    else:  # lists and graphs have no removal that closes the gaps in the rows' numbers
        before = FaissVectors(faiss.read_index(str(old / _FILE)))
        index.reset()
        for start in range(0, len(kept), _CHUNK):
            index.add(before.reconstruct_batch(kept[start : start + _CHUNK]))
    for chunk in _chunks(vectors):
        index.add(chunk)
    faiss.write_index(index, str(directory / _FILE))
    return int(index.ntotal)


def open_vectors(directory: Path, storage: str, dim: int, effort: int | None = None) -> VectorIndex:
    """What ``write_vectors`` wrote, memory-mapped where its storage allows that.

    Raises:
        OSError, ValueError, RuntimeError: a file is missing or damaged.
    """
    if storage == FIVE_BITS:
        from odqa.retrieval import five_bits

        return five_bits.FiveBitVectors.open(directory, dim)
    import faiss

    index = faiss.read_index(str(directory / _FILE), faiss.IO_FLAG_MMAP_IFC)
    return FaissVectors(index, effort)


def measure_recall(
    directory: Path, storage: str, vectors: Vectors, probes: Vectors
) -> tuple[float, int | None]:
    """How much of an exact search the stored vectors find, and the effort it takes.

    Args:
        directory: what ``write_vectors`` wrote of ``vectors``.
        storage: as it was given there.
        vectors: (n, dim) the vectors themselves.
        probes: (m, dim) questions.

    Returns:
        the mean share of the exact ``RECALL_AT`` best that are among the best ``RECALL_AT`` found,
        and the least effort with which it is ``WANTED_RECALL`` (or the greatest there is); None
        for a storage that looks at every vector.
    """
    probes = probes[probes.any(axis=1)]
    if storage == "flat" or len(probes) == 0 or len(vectors) == 0:
        return 1.0, None
    k = min(RECALL_AT, len(vectors))
    floors = _kth_scores(vectors, probes, k)
    index = open_vectors(directory, storage, vectors.shape[1])
    if not isinstance(index, FaissVectors) or not index.is_partial:
        return _recall(index, vectors, probes, floors, k), None
    for effort in _EFFORTS:
        index.set_effort(effort)
        recall = _recall(index, vectors, probes, floors, k)
        if recall >= WANTED_RECALL:
            break
    return recall, effort


def _recall(index: VectorIndex, vectors: Vectors, probes: Vectors, floors: Scores, k: int) -> float:
    """The mean share of what is found that reaches the exact search's last score."""
    _, rows = index.search(probes, k)
    shares = []
    for probe, floor, found in zip(probes, floors, rows, strict=True):
        scores = vectors[np.sort(found[found >= 0])] @ probe
        shares.append(np.count_nonzero(scores >= floor - _ROUNDING) / k)
    return float(np.mean(shares))


def _kth_scores(vectors: Vectors, probes: Vectors, k: int) -> Scores:
    """(probes,) the score of the k-th best of all vectors for each probe."""
    best = np.full((len(probes), k), -np.inf, dtype=np.float32)
    for chunk in _chunks(vectors):
        scores = np.concatenate([best, probes @ chunk.T], axis=1)
        best = np.partition(scores, -k, axis=1)[:, -k:]
    kth: Scores = best.min(axis=1)
    return kth


class FaissVectors:
    """A FAISS index, at a given effort if it looks at a part of its vectors only."""

    def __init__(self, index: Any, effort: int | None = None) -> None:
        import faiss

        space = faiss.ParameterSpace()
        space.initialize(index)
        ranges = space.parameter_ranges
        known = {ranges.at(i).name for i in range(ranges.size())}
        self.index, self._space = index, space
        self._parameter = next((name for name in ("nprobe", "efSearch") if name in known), None)
        self._whole = isinstance(index, faiss.IndexFlatCodes)
        inverted = faiss.try_extract_index_ivf(index)
        if inverted is not None:
            inverted.make_direct_map()
        self.ntotal = int(index.ntotal)
        if effort is not None:
            self.set_effort(effort)

    @property
    def is_partial(self) -> bool:
        """Is there an effort to set?"""
        return self._parameter is not None

    def set_effort(self, effort: int) -> None:
        """Visit so many lists, or nodes of a graph."""
        if self._parameter is not None:
            self._space.set_index_parameter(self.index, self._parameter, effort)

    def search(self, vectors: Vectors, k: int) -> tuple[Scores, Rows]:
        """As ``VectorIndex.search``.

        A part is looked at for each question by itself: in a batch FAISS sums in another order, and
        could visit other lists.
        """
        if self._whole:
            scores, rows = self.index.search(vectors, k)
            return scores, rows
        found = [self.index.search(vector[np.newaxis], k) for vector in vectors]
        return np.concatenate([s for s, _ in found]), np.concatenate([r for _, r in found])

    def scores(self, vector: Vectors, rows: Rows) -> Scores:
        """As ``VectorIndex.scores``."""
        vectors = self.reconstruct_batch(rows).astype(np.float64)
        exact: Scores = np.einsum("nd,d->n", vectors, vector.astype(np.float64)).astype(np.float32)
        return exact

    def reconstruct_batch(self, rows: Rows) -> Vectors:
        """As ``VectorIndex.reconstruct_batch``."""
        vectors: Vectors = self.index.reconstruct_batch(rows)
        return vectors


def _chunks(vectors: Vectors) -> Iterator[Vectors]:
    for start in range(0, len(vectors), _CHUNK):
        chunk = np.ascontiguousarray(vectors[start : start + _CHUNK], dtype=np.float32)
        if not np.isfinite(chunk).all():
            raise ValueError(f"the vectors from row {start} on hold a number that is not finite")
        yield chunk


def _new_index(storage: str, dim: int) -> Any:
    import faiss

    if storage == "flat":
        return faiss.IndexFlatIP(dim)
    if storage in _SCALAR:
        kind = getattr(faiss.ScalarQuantizer, _SCALAR[storage])
        return faiss.IndexScalarQuantizer(dim, kind, faiss.METRIC_INNER_PRODUCT)
    try:
        return faiss.index_factory(dim, storage, faiss.METRIC_INNER_PRODUCT)
    except (RuntimeError, MemoryError) as error:
        raise ConfigError(f"dense.faiss: unknown '{storage}'; known: {_KNOWN}") from error


def _parts(index: Any) -> Iterator[Any]:
    """A FAISS index and those that it is made of."""
    import faiss

    yield index
    for name in ("index", "storage", "base_index"):  # of a transform, a graph, a refinement
        if hasattr(index, name):
            yield from _parts(faiss.downcast_index(getattr(index, name)))


def _training_step(n_vectors: int) -> int:
    """The distance between the vectors that a storage that learns is shown."""
    return max(1, -(-n_vectors // _TRAINING_VECTORS))
